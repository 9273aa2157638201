// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";

import {Fields} from "./Fields.sol";
import {Licences} from "./Licences.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Payouts} from "./Payouts.sol";
import {Settlement} from "./Settlement.sol";
import {Tasks} from "./Tasks.sol";

/// @title What a task pays its trainers for rounds that are settled.
/// @notice Sponsors pay budgets in. The set in office certifies a list of who is due how much, under a checkpoint that was
/// accepted; it opens when the challenge window is over, and closes after the time to claim. At any time all coin here
/// is in a budget, in an open list, or owed; after the deadline, the window and the time to claim, all of it is owed.
contract Rewards is Payouts {
    using BitMaps for BitMaps.BitMap;

    struct Budget {
        uint128 free; // not in any list
        uint128 spent; // in lists that were not cancelled
        uint64 lists;
    }

    struct List {
        Settlement settlement;
        uint48 opensAt;
        uint32 leaves;
        uint128 left;
        bytes32 root;
        bytes32 statement;
    }

    event Funded(Settlement indexed settlement, address indexed by, uint256 amount);
    event ListPosted(Settlement indexed settlement, uint256 indexed id, bytes32 statement, bytes32 root, uint256 total);
    event Claimed(uint256 indexed id, uint256 indexed index, address indexed account, uint256 amount, uint256 licence);
    event Cancelled(uint256 indexed id, uint256 amount);
    event Swept(uint256 indexed id, uint256 amount);
    event Reclaimed(Settlement indexed settlement, address indexed sponsor, uint256 amount);

    error DeadlinePassed(uint256 deadline);
    error DeadlineNotPassed(uint256 deadline);
    error RoundNotSettled(uint256 round);
    error EmptyList();
    error ExceedsBudget(uint256 total, uint256 free);
    error ExceedsRounds(uint256 spent, uint256 most);
    error UnknownList(uint256 id);
    error NotOpen(uint256 id, uint256 opensAt);
    error Closed(uint256 id, uint256 closedAt);
    error NotClosed(uint256 id, uint256 closesAt);
    error Refuted(uint256 id);
    error NotRefuted(uint256 id);
    error AlreadyClaimed(uint256 id, uint256 index);
    error NotInList(uint256 id, bytes32 leaf);
    error ExceedsList(uint256 amount, uint256 left);
    error NothingLeft();

    /// @notice How long a list can be claimed from.
    uint256 public immutable claimSeconds;

    mapping(Settlement => Budget) private _budgets;
    List[] private _lists;
    mapping(uint256 id => BitMaps.BitMap) private _claimed;

    /// @dev Makes its Tasks, so that terms and budgets are of the same deployment.
    constructor(Licences licences_, uint256 challengeSeconds_, uint256 claimSeconds_, IERC20 token_)
        Payouts(new Tasks(challengeSeconds_, licences_), token_)
    {
        claimSeconds = claimSeconds_;
    }

    /// @notice Add to a task's budget. Nobody gets it back before the task's deadline is over, and then its sponsor does.
    /// @param amount the sent coin, or so many tokens.
    function fund(Settlement settlement, uint128 amount) external payable {
        _requireBefore(tasks.task(settlement).terms.deadline);
        _budgets[settlement].free += amount;
        emit Funded(settlement, msg.sender, amount);
        _take(amount);
    }

    /// @notice Post a list on a certificate of the set in office, and return its number. Anyone may send it.
    /// @dev All lists of a task together are at most its reward for every settled round, and one certificate serves once:
    /// it counts the lists before it.
    /// @param lastRound with which some accepted checkpoint ends.
    /// @param root of the tree over the leaves, of which there are so many.
    /// @param total that the leaves add up to.
    function post(
        Settlement settlement,
        uint48 lastRound,
        bytes32 root,
        uint32 leaves,
        uint128 total,
        uint256 bitmap,
        bytes calldata signature
    ) external returns (uint256 id) {
        bytes32 statement = listDigest(settlement, lastRound, root, leaves, total);
        settlement.requireCertificate(statement, bitmap, signature);
        if (leaves == 0 || total == 0) revert EmptyList();
        _spend(settlement, lastRound, total);

        id = _lists.length;
        uint48 opensAt = SafeCast.toUint48(block.timestamp + challengeSeconds);
        _lists.push(List(settlement, opensAt, leaves, total, root, statement));
        emit ListPosted(settlement, id, statement, root, total);
    }

    /// @notice Credit an account what a list says it is due. Anyone may send it.
    /// @param siblings from the leaf's to the one below the root.
    function claim(
        uint256 id,
        uint256 index,
        address account,
        uint256 amount,
        uint256 licence,
        bytes32[] calldata siblings
    ) external {
        List storage open = _list(id);
        uint256 closesAt = open.opensAt + claimSeconds;
        if (block.timestamp < open.opensAt) revert NotOpen(id, open.opensAt);
        if (block.timestamp >= closesAt) revert Closed(id, closesAt);
        if (_isListRefuted(open)) revert Refuted(id);
        bytes32 leaf = _leaf("reward", account, amount, licence);
        if (MerkleTree.root(leaf, index, open.leaves, siblings) != open.root) revert NotInList(id, leaf);
        if (_claimed[id].get(index)) revert AlreadyClaimed(id, index);
        if (amount > open.left) revert ExceedsList(amount, open.left);

        _claimed[id].set(index);
        open.left -= uint128(amount);
        emit Claimed(id, index, account, amount, licence);
        _payOut(account, licence, amount);
    }

    /// @notice Put what is left of a list that the task's court found false back into the budget.
    function cancel(uint256 id) external {
        List storage list_ = _list(id);
        if (!_isListRefuted(list_)) revert NotRefuted(id);
        uint128 left = _close(list_);
        _budgets[list_.settlement].spent -= left;
        emit Cancelled(id, left);
    }

    /// @notice Put what nobody claimed in time back into the budget.
    function sweep(uint256 id) external {
        List storage list_ = _list(id);
        uint256 closesAt = list_.opensAt + claimSeconds;
        if (block.timestamp < closesAt) revert NotClosed(id, closesAt);
        emit Swept(id, _close(list_));
    }

    /// @notice Credit a task's sponsor what is in the budget after the deadline. Anyone may call it.
    function reclaim(Settlement settlement) external {
        Tasks.Task memory task = tasks.task(settlement);
        if (block.timestamp <= task.terms.deadline) revert DeadlineNotPassed(task.terms.deadline);
        uint256 amount = _budgets[settlement].free;
        if (amount == 0) revert NothingLeft();
        _budgets[settlement].free = 0;
        emit Reclaimed(settlement, task.sponsor, amount);
        _credit(task.sponsor, amount);
    }

    /// @notice What a task has to give: not in a list, in lists so far, and the number of lists.
    function budget(Settlement settlement) external view returns (Budget memory) {
        return _budgets[settlement];
    }

    /// @notice The list with this number.
    function list(uint256 id) external view returns (List memory) {
        return _list(id);
    }

    /// @notice What the set in office signs for the task's next list.
    /// @dev SHA-256 of tag and fields: task, epoch, place, number of lists before, digest of the checkpoint that ends with
    /// the last round, root, number of leaves, total.
    function listDigest(Settlement settlement, uint48 lastRound, bytes32 root, uint32 leaves, uint128 total)
        public
        view
        returns (bytes32)
    {
        bytes32 checkpoint = settlement.checkpointBefore(uint256(lastRound) + 1);
        if (checkpoint == 0) revert RoundNotSettled(lastRound);
        return sha256(
            abi.encodePacked(
                abi.encodePacked(
                    _statementHead("reward-list", settlement), Fields.number(_budgets[settlement].lists)
                ),
                abi.encodePacked(Fields.word(checkpoint), Fields.word(root)),
                abi.encodePacked(Fields.number(leaves), Fields.word(bytes32(uint256(total))))
            )
        );
    }

    function _spend(Settlement settlement, uint48 lastRound, uint128 total) private {
        Tasks.Task memory task = tasks.task(settlement);
        _requireBefore(task.terms.deadline);
        Budget storage from = _budgets[settlement];
        if (total > from.free) revert ExceedsBudget(total, from.free);
        uint256 most = uint256(task.terms.roundReward) * (uint256(lastRound) + 1 - task.firstRound);
        uint256 spent = uint256(from.spent) + total;
        if (spent > most) revert ExceedsRounds(spent, most);
        from.free -= total;
        from.spent = uint128(spent);
        ++from.lists;
    }

    function _close(List storage list_) private returns (uint128 left) {
        left = list_.left;
        if (left == 0) revert NothingLeft();
        list_.left = 0;
        _budgets[list_.settlement].free += left;
    }

    function _isListRefuted(List storage list_) private view returns (bool) {
        return _isRefuted(tasks.task(list_.settlement).terms.court, list_.statement);
    }

    function _list(uint256 id) private view returns (List storage) {
        if (id >= _lists.length) revert UnknownList(id);
        return _lists[id];
    }

    function _requireBefore(uint256 deadline) private view {
        if (block.timestamp > deadline) revert DeadlinePassed(deadline);
    }
}
