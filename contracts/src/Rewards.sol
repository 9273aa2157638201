// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Fields} from "./Fields.sol";
import {Frames} from "./Frames.sol";
import {IFinality} from "./IFinality.sol";
import {Licences} from "./Licences.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Payouts} from "./Payouts.sol";
import {Settlement} from "./Settlement.sol";
import {Tasks} from "./Tasks.sol";

/// @title What a task pays its trainers for rounds that are settled.
/// @notice Sponsors pay budgets in. Every header says what all trainers have earned from round 0 on, as the root of a tree
/// over lines; whoever certifies a header certifies them, and a wrong line is disputed as any other lie of a header. When
/// a checkpoint is final, its last header's root is taken over, and each line is paid what was not paid on it before.
/// All coin here is in a budget or owed; after the deadline and the time to claim all of it is owed.
contract Rewards is Payouts {
    using Frames for bytes;

    struct Budget {
        uint128 free; // not paid out
        uint128 spent; // paid out
        uint48 next; // the first round whose header was not taken over; 0 before any was
        uint48 broken; // one more than the first round whose header is shown not to follow the one before; 0 for none
        bytes32 root; // what the last header that was taken over says
    }

    /// @notice Where a header is, as in `Settlement.includesHeader`.
    struct Place {
        Settlement.Checkpoint accepted;
        bytes32[] siblings;
    }

    event Funded(Settlement indexed settlement, address indexed by, uint256 amount);
    event Settled(Settlement indexed settlement, uint256 indexed lastRound, bytes32 root);
    event Exposed(Settlement indexed settlement, uint256 indexed round);
    event Claimed(
        Settlement indexed settlement, uint256 indexed index, address indexed account, uint256 amount, uint256 licence
    );
    event Reclaimed(Settlement indexed settlement, address indexed sponsor, uint256 amount);

    error WrongChain(uint256 chain);
    error DeadlinePassed(uint256 deadline);
    error NotClosed(uint256 closesAt);
    error Closed(uint256 closedAt);
    error WrongFirstRound(uint256 given, uint256 expected);
    error NotFinal(bytes32 checkpoint);
    error HeaderNotIncluded(bytes32 header);
    error DoesNotFollow(uint256 round);
    error Follows(uint256 round);
    error NotEarned(bytes32 leaf, bytes32 root);
    error AlreadyClaimed(uint256 index, uint256 amount);
    error ExceedsBudget(uint256 amount, uint256 free);
    error ExceedsRounds(uint256 spent, uint256 most);
    error NothingLeft();

    bytes private constant HEADER = "collegium/v1/header";
    uint256 private constant ROUND_FIELD = 2;
    uint256 private constant PREVIOUS_FIELD = 4;
    uint256 private constant REWARDS_FIELD = 15;

    /// @notice How long after the deadline trainers can claim.
    uint256 public immutable claimSeconds;
    /// @notice What lines that are paid here call this chain: its number, or 0 at the task's home.
    uint256 public immutable chain;

    mapping(Settlement => Budget) private _budgets;
    mapping(Settlement => mapping(uint256 index => uint256 amount)) private _paid;

    /// @dev Makes its Tasks, so that terms and budgets are of the same deployment.
    constructor(Licences licences_, uint256 challengeSeconds_, uint256 claimSeconds_, IERC20 token_, uint256 chain_)
        Payouts(new Tasks(challengeSeconds_, licences_), token_)
    {
        if (chain_ != 0 && chain_ != block.chainid) revert WrongChain(chain_);
        claimSeconds = claimSeconds_;
        chain = chain_;
    }

    /// @notice Add to a task's budget. Nobody gets back what is not earned before the time to claim is over, and then its
    /// sponsor does.
    /// @param amount the sent coin, or so many tokens.
    function fund(Settlement settlement, uint128 amount) external payable {
        _requireBefore(tasks.task(settlement).terms.deadline);
        _budgets[settlement].free += amount;
        emit Funded(settlement, msg.sender, amount);
        _take(amount);
    }

    /// @notice Take over what the last header under a checkpoint says of earnings. Anyone may send it, once the checkpoint
    /// is final, and the ones before it were taken over.
    /// @param opening the preimage of that header.
    function settle(Settlement settlement, bytes calldata opening, Place calldata place) external {
        Tasks.Task memory task = tasks.task(settlement);
        _requireBefore(task.terms.deadline);
        Budget storage budget_ = _budgets[settlement];
        uint48 expected = budget_.next == 0 ? task.firstRound : budget_.next;
        if (place.accepted.firstRound != expected) revert WrongFirstRound(place.accepted.firstRound, expected);
        uint48 last = place.accepted.lastRound;
        if (budget_.broken != 0 && last >= budget_.broken - 1) revert DoesNotFollow(budget_.broken - 1);
        bytes32 checkpoint = settlement.checkpointDigest(place.accepted);
        if (!_isFinal(address(task.terms.court), checkpoint)) revert NotFinal(checkpoint);
        _requireHeader(settlement, last, opening, place);

        bytes32 root = opening.word(REWARDS_FIELD);
        budget_.root = root;
        budget_.next = last + 1;
        emit Settled(settlement, last, root);
    }

    /// @notice Show that a header under a checkpoint does not follow the one before it, or is of another round: what it
    /// says of earnings then rests on nothing that could be disputed, and neither it nor what comes after is taken over.
    /// @dev Nobody is convicted by it: whichever of the two headers is out of place, those who signed it may be honest.
    /// @param opening the header's preimage.
    /// @param before the header of the round before, and where that is; not looked at if the round is another.
    function expose(
        Settlement settlement,
        uint48 round,
        bytes calldata opening,
        Place calldata place,
        bytes32 before,
        Place calldata beforePlace
    ) external {
        _requireHeader(settlement, round, opening, place);
        if (Frames.little(bytes8(opening.field(ROUND_FIELD))) == round) {
            if (!settlement.includesHeader(beforePlace.accepted, uint256(round) - 1, before, beforePlace.siblings)) {
                revert HeaderNotIncluded(before);
            }
            if (opening.word(PREVIOUS_FIELD) == before) revert Follows(round);
        }
        Budget storage budget_ = _budgets[settlement];
        if (budget_.broken != 0 && budget_.broken <= round + 1) revert DoesNotFollow(budget_.broken - 1);
        budget_.broken = round + 1;
        emit Exposed(settlement, round);
    }

    /// @notice Credit an account what its line has more than was paid on it. Anyone may send it.
    /// @dev Lines are told apart by their place: the depth of the tree is that of its leaves, as no inner node is a line.
    /// @param amount that the line has earned from round 0 on.
    /// @param siblings from the line's to the one below the root.
    function claim(
        Settlement settlement,
        uint256 index,
        address account,
        uint256 amount,
        uint256 licence,
        bytes32[] calldata siblings
    ) external {
        Tasks.Task memory task = tasks.task(settlement);
        uint256 closesAt = task.terms.deadline + claimSeconds;
        if (block.timestamp > closesAt) revert Closed(closesAt);
        Budget storage budget_ = _budgets[settlement];
        bytes32 leaf = _line(account, amount, licence);
        bytes32 root = budget_.root;
        if (MerkleTree.root(leaf, index, 1 << siblings.length, siblings) != root) revert NotEarned(leaf, root);
        uint256 paid = _paid[settlement][index];
        if (amount <= paid) revert AlreadyClaimed(index, paid);
        uint256 due = amount - paid;
        if (due > budget_.free) revert ExceedsBudget(due, budget_.free);
        uint256 most = uint256(task.terms.roundReward) * (budget_.next - task.firstRound);
        uint256 spent = uint256(budget_.spent) + due;
        if (spent > most) revert ExceedsRounds(spent, most);

        _paid[settlement][index] = amount;
        budget_.free -= uint128(due);
        budget_.spent = uint128(spent);
        emit Claimed(settlement, index, account, due, licence);
        _payOut(account, licence, due);
    }

    /// @notice Credit a task's sponsor what is left when the time to claim is over. Anyone may call it.
    function reclaim(Settlement settlement) external {
        Tasks.Task memory task = tasks.task(settlement);
        uint256 closesAt = task.terms.deadline + claimSeconds;
        if (block.timestamp <= closesAt) revert NotClosed(closesAt);
        uint256 amount = _budgets[settlement].free;
        if (amount == 0) revert NothingLeft();
        _budgets[settlement].free = 0;
        emit Reclaimed(settlement, task.sponsor, amount);
        _credit(task.sponsor, amount);
    }

    /// @notice What a task has to give and has given, and how far its headers were taken over.
    function budget(Settlement settlement) external view returns (Budget memory) {
        return _budgets[settlement];
    }

    /// @notice What was paid on the line at a place.
    function paidOn(Settlement settlement, uint256 index) external view returns (uint256) {
        return _paid[settlement][index];
    }

    function _requireHeader(Settlement settlement, uint256 round, bytes calldata opening, Place calldata place)
        private
        view
    {
        bytes32 header = sha256(opening);
        opening.check(header, HEADER);
        if (!settlement.includesHeader(place.accepted, round, header, place.siblings)) revert HeaderNotIncluded(header);
    }

    /// @dev Where no court was named nothing can be disputed. A court that fails has not said that a checkpoint is final.
    function _isFinal(address court, bytes32 checkpoint) private view returns (bool) {
        if (court == address(0)) return true;
        (bool answered, bytes32 word) = _asked(court, abi.encodeCall(IFinality.isFinal, (checkpoint)));
        return answered && uint256(word) == 1;
    }

    /// @dev A leaf: on which chain, to whom, how much, and on which licence; 0 for none.
    function _line(address account, uint256 amount, uint256 licence) private view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(Fields.tag("reward"), Fields.word(bytes32(chain)), Fields.account(account)),
                abi.encodePacked(Fields.word(bytes32(amount)), Fields.word(bytes32(licence)))
            )
        );
    }

    function _requireBefore(uint256 deadline) private view {
        if (block.timestamp > deadline) revert DeadlinePassed(deadline);
    }
}
