// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Fields} from "./Fields.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Payouts} from "./Payouts.sol";
import {Settlement} from "./Settlement.sol";
import {Tasks} from "./Tasks.sol";

/// @title What consumers pay for a model version, and how it reaches those whose data made it.
/// @notice A version is registered on a certificate of its task's set: a list of contributors with the weights that the
/// lineage gives them, and the version that it was made from, whose royalty each payment owes, and so on. Every wei of a
/// payment goes to a sponsor or to a version's income. Of an income less than one wei a contributor can never be
/// claimed, as parts are rounded down; nothing else stays here but what is owed.
contract Fees is Payouts {
    struct Version {
        Settlement settlement;
        uint48 opensAt;
        uint32 leaves;
        bytes32 model;
        bytes32 parent; // the version that it was made from, 0 if none
        bytes32 root;
        uint128 weight; // that the leaves add up to
        uint128 income;
        uint128 claimed;
    }

    event Registered(Settlement indexed settlement, bytes32 indexed model, bytes32 indexed id, bytes32 parent);
    event Paid(bytes32 indexed id, address indexed payer, uint256 amount, bytes32 purpose);
    event Earned(bytes32 indexed id, uint256 income, address indexed sponsor, uint256 toSponsor);
    event Claimed(bytes32 indexed id, uint256 indexed index, address indexed account, uint256 amount, uint256 licence);

    error AlreadyRegistered(bytes32 id);
    error UnknownVersion(bytes32 id);
    error EmptyList();
    error EmptyPayment();
    error NotOpen(bytes32 id, uint256 opensAt);
    error Refuted(bytes32 id);
    error NotInList(bytes32 id, bytes32 leaf);
    error NothingDue(bytes32 id, uint256 index);
    error ExceedsIncome(uint256 due, uint256 left);

    /// @notice How many versions, one made from the other, share in a payment: the first of them has what is left.
    uint256 public constant GENERATIONS_MAX = 16;

    mapping(bytes32 id => Version) private _versions;
    mapping(bytes32 id => mapping(uint256 index => uint256)) private _claimedBy;

    constructor(Tasks tasks_, IERC20 token_) Payouts(tasks_, token_) {}

    /// @notice Register a version of a task on a certificate of the set in office, and return its number: the digest that
    /// was signed. Anyone may send it.
    function register(
        Settlement settlement,
        bytes32 model,
        bytes32 parent,
        bytes32 root,
        uint32 leaves,
        uint128 weight,
        uint256 bitmap,
        bytes calldata signature
    ) external returns (bytes32 id) {
        id = versionDigest(settlement, model, parent, root, leaves, weight);
        settlement.requireCertificate(id, bitmap, signature);
        tasks.task(settlement); // must be posted
        if (_versions[id].leaves != 0) revert AlreadyRegistered(id);
        if (leaves == 0 || weight == 0) revert EmptyList();
        if (parent != 0) _version(parent);

        uint48 opensAt = SafeCast.toUint48(block.timestamp + challengeSeconds);
        _versions[id] = Version(settlement, opensAt, leaves, model, parent, root, weight, 0, 0);
        emit Registered(settlement, model, id, parent);
    }

    /// @notice Pay for a version. The event is the receipt.
    /// @param amount the sent coin, or so many tokens.
    /// @param purpose whatever the payer wants the receipt to name.
    function pay(bytes32 id, uint128 amount, bytes32 purpose) external payable {
        Version storage paid = _version(id);
        if (amount == 0) revert EmptyPayment();
        if (block.timestamp < paid.opensAt) revert NotOpen(id, paid.opensAt);
        if (_isVersionRefuted(id, paid)) revert Refuted(id);

        emit Paid(id, msg.sender, amount, purpose);
        uint128 rest = amount;
        for (uint256 generation = 1; rest != 0; ++generation) {
            uint128 royalty = generation == GENERATIONS_MAX ? 0 : _royalty(_versions[id].parent, rest);
            _earn(id, rest - royalty);
            id = _versions[id].parent;
            rest = royalty;
        }
        _take(amount);
    }

    /// @notice Credit a contributor its part of what a version has earned since its last claim. Anyone may send it.
    /// @param siblings from the leaf's to the one below the root.
    function claim(
        bytes32 id,
        uint256 index,
        address account,
        uint256 weight,
        uint256 licence,
        bytes32[] calldata siblings
    ) external {
        Version storage earning = _version(id);
        bytes32 leaf = _leaf("fee", account, weight, licence);
        if (MerkleTree.root(leaf, index, earning.leaves, siblings) != earning.root) revert NotInList(id, leaf);
        uint256 whole = weight > earning.weight ? earning.income : earning.income * weight / earning.weight;
        uint256 due = whole - _claimedBy[id][index];
        if (due == 0) revert NothingDue(id, index);
        uint256 left = earning.income - earning.claimed;
        if (due > left) revert ExceedsIncome(due, left);

        _claimedBy[id][index] = whole;
        earning.claimed += uint128(due);
        emit Claimed(id, index, account, due, licence);
        _payOut(account, licence, due);
    }

    /// @notice The version with this number.
    function version(bytes32 id) external view returns (Version memory) {
        return _version(id);
    }

    /// @notice What the set in office signs for a version of its task.
    /// @dev SHA-256 of tag and fields: task, epoch, place, model, parent, root, number of leaves, weight.
    function versionDigest(
        Settlement settlement,
        bytes32 model,
        bytes32 parent,
        bytes32 root,
        uint32 leaves,
        uint128 weight
    ) public view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(_statementHead("fee-version", settlement), Fields.word(model)),
                abi.encodePacked(Fields.word(parent), Fields.word(root)),
                abi.encodePacked(Fields.number(leaves), Fields.word(bytes32(uint256(weight))))
            )
        );
    }

    /// @dev What a payment owes to the version that was the parent; nothing if there is none, or it was refuted. A parent
    /// was registered before its child and opens no later.
    function _royalty(bytes32 parent, uint128 amount) private view returns (uint128) {
        if (parent == 0 || _isVersionRefuted(parent, _versions[parent])) return 0;
        uint256 part = tasks.task(_versions[parent].settlement).terms.royalty;
        return uint128(uint256(amount) * part / WHOLE);
    }

    function _earn(bytes32 id, uint128 amount) private {
        Version storage earning = _versions[id];
        Tasks.Task memory task = tasks.task(earning.settlement);
        uint128 toSponsor = uint128(uint256(amount) * task.terms.sponsorShare / WHOLE);
        earning.income += amount - toSponsor;
        emit Earned(id, amount - toSponsor, task.sponsor, toSponsor);
        _credit(task.sponsor, toSponsor);
    }

    function _isVersionRefuted(bytes32 id, Version storage version_) private view returns (bool) {
        return _isRefuted(tasks.task(version_.settlement).terms.court, id);
    }

    function _version(bytes32 id) private view returns (Version storage found) {
        found = _versions[id];
        if (found.leaves == 0) revert UnknownVersion(id);
    }
}
