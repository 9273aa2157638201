// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Purse} from "./Purse.sol";
import {Registry} from "./Registry.sol";

/// @title Stakes that curators put behind a trainer, and lose with it.
/// @notice What a curator earns for it is its share in the trainer's licences. A stake is in the coin of the registry, leaves
/// after the registry's delay, and is taken in the same proportion as the trainer's. Whoever was slashed leaves and gets
/// no further stake: so all that stand behind one trainer lose alike, whenever they came.
contract Curation is Purse {
    struct Pool {
        uint128 stake; // what is left
        uint128 paid; // what came in, of those who are in
    }

    struct Delegation {
        uint128 paid;
        uint48 leavingSince; // 0 while it stays
    }

    event Delegated(uint256 indexed member, address indexed curator, uint256 amount);
    event Leaving(uint256 indexed member, address indexed curator, uint256 earliest);
    event Withdrawn(uint256 indexed member, address indexed curator, uint256 amount);
    event Slashed(uint256 indexed member, address indexed reporter, uint256 burned, uint256 rewarded);

    error NotATrainer(uint256 member);
    error MemberLeaves(uint256 member);
    error EmptyDelegation();
    error NothingDelegated(uint256 member, address curator);
    error AlreadyLeaving(uint256 member, address curator);
    error NotLeaving(uint256 member, address curator);
    error StillLeaving(uint256 member, uint256 withdrawableAt);
    error NotTheSlashing(address sender);

    uint256 private constant WHOLE = 10_000; // basis points

    Registry public immutable registry;
    /// @notice The contract that alone takes from stakes.
    address public immutable slashing;

    mapping(uint256 member => Pool) private _pools;
    mapping(uint256 member => mapping(address curator => Delegation)) private _delegations;

    constructor(Registry registry_, address slashing_) Purse(registry_.token()) {
        registry = registry_;
        slashing = slashing_;
    }

    /// @notice Put more stake behind a trainer that is not leaving.
    /// @param amount the sent coin, or so many tokens.
    function delegate(uint256 member, uint256 amount) external payable {
        Registry.Member memory trainer = registry.member(member);
        if (trainer.role != Registry.Role.Trainer) revert NotATrainer(member);
        if (trainer.unbondedAt != 0) revert MemberLeaves(member);
        if (amount == 0) revert EmptyDelegation();
        Delegation storage own = _delegations[member][msg.sender];
        if (own.leavingSince != 0) revert AlreadyLeaving(member, msg.sender);

        uint128 paid = SafeCast.toUint128(amount);
        own.paid += paid;
        _pools[member].paid += paid;
        _pools[member].stake += paid;
        emit Delegated(member, msg.sender, amount);
        _take(amount);
    }

    /// @notice Start to take one's whole stake from behind a trainer. It can be taken from until it has left.
    function undelegate(uint256 member) external {
        Delegation storage own = _delegations[member][msg.sender];
        if (own.paid == 0) revert NothingDelegated(member, msg.sender);
        if (own.leavingSince != 0) revert AlreadyLeaving(member, msg.sender);
        own.leavingSince = uint48(block.timestamp);
        emit Leaving(member, msg.sender, block.timestamp + registry.unbondingSeconds());
    }

    /// @notice Take one's stake back after the delay: its part of what is left, rounded down.
    function withdraw(uint256 member) external {
        Delegation storage own = _delegations[member][msg.sender];
        if (own.leavingSince == 0) revert NotLeaving(member, msg.sender);
        uint256 withdrawableAt = own.leavingSince + registry.unbondingSeconds();
        if (block.timestamp < withdrawableAt) revert StillLeaving(member, withdrawableAt);

        Pool storage from = _pools[member];
        uint128 paid = own.paid;
        uint128 amount = uint128(uint256(paid) * from.stake / from.paid);
        from.paid -= paid;
        from.stake -= amount;
        delete _delegations[member][msg.sender];
        emit Withdrawn(member, msg.sender, amount);
        _give(msg.sender, amount);
    }

    /// @notice Take a part of what stands behind a member, as `Registry.slash` does of the member's own; if nothing does,
    /// nothing.
    function slash(uint256 member, uint256 part, uint256 reward, address reporter) external {
        if (msg.sender != slashing) revert NotTheSlashing(msg.sender);
        uint256 taken = _pools[member].stake * part / WHOLE;
        if (taken == 0) return;
        _pools[member].stake -= uint128(taken);
        uint256 rewarded = taken * reward / WHOLE;
        emit Slashed(member, reporter, taken - rewarded, rewarded);
        _credit(reporter, rewarded);
        _credit(BURNED, taken - rewarded);
    }

    /// @notice What stands behind a member: what is left, of what came in.
    function pool(uint256 member) external view returns (Pool memory) {
        return _pools[member];
    }

    /// @notice What a curator put behind a member.
    function delegation(uint256 member, address curator) external view returns (Delegation memory) {
        return _delegations[member][curator];
    }
}
