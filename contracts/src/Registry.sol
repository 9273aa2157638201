// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BLS12381} from "./BLS12381.sol";
import {DataContract} from "./DataContract.sol";

/// @title Validators: their stake in native coin and a BLS key whose possession they proved.
/// @notice Nobody has powers over it. A stake comes back to its account, and to nobody else, when the unbonding delay
/// has run since `unbond` and since the validator left its last epoch set, whichever was later. Until then it can be
/// seated, from then on it cannot, whether it has withdrawn or not: so withdrawing never stops a handover.
contract Registry {
    using BLS12381 for BLS12381.G2;

    struct Validator {
        address account;
        uint96 stake; // 0 once withdrawn
        address key; // the data contract with its compact key; in one slot with the rest, for `bondedKey` and `seat`
        uint48 unbondedAt; // 0 until it unbonds
        uint48 seatedBefore; // the epoch after the last in which it has a seat, 0 if it never had one
    }

    event Registered(uint256 indexed id, address indexed account, address key, uint256 stake);
    event Unbonding(uint256 indexed id, uint256 earliest);
    event Withdrawn(uint256 indexed id, address indexed account, uint256 stake);

    error StakeTooSmall(uint256 sent, uint256 minimum);
    error KeyAlreadyRegistered(address key);
    error InvalidPossession();
    error NotTheSettlement(address sender);
    error UnknownValidator(uint256 id);
    error NotTheAccount(uint256 id, address account);
    error AlreadyUnbonding(uint256 id);
    error NotUnbonding(uint256 id);
    error StillUnbonding(uint256 id, uint256 withdrawableAt);
    error InCurrentEpoch(uint256 id);
    error AlreadyWithdrawn(uint256 id);
    error NotBonded(uint256 id);

    /// @dev LE64(27) || "collegium/v1/bls-possession"; see `possessionDigest`.
    bytes private constant POSSESSION_TAG = "\x1b\x00\x00\x00\x00\x00\x00\x00collegium/v1/bls-possession";
    bytes8 private constant LENGTH_72 = hex"4800000000000000";
    bytes8 private constant LENGTH_96 = hex"6000000000000000";

    /// @dev No time: the stake is locked until `unbond`, or until the next epoch opens, whenever that is.
    uint256 private constant UNKNOWN = type(uint256).max;

    /// @notice The contract that made this one, and that alone gives seats.
    address public immutable settlement;
    uint256 public immutable stakeMinimum;
    uint256 public immutable unbondingSeconds;

    Validator[] private _validators;

    /// @dev When each epoch opened, which is when its predecessor's set was relieved.
    uint48[] private _openedAt;

    /// @param stakeMinimum_ in wei.
    /// @param unbondingSeconds_ from `unbond`, or from leaving the last epoch set if that is later, to `withdraw`.
    constructor(uint256 stakeMinimum_, uint256 unbondingSeconds_) {
        settlement = msg.sender;
        stakeMinimum = stakeMinimum_;
        unbondingSeconds = unbondingSeconds_;
    }

    /// @notice Register a key with the sent coin as its stake and return the validator's number, from 0.
    /// @dev One pairing check shows both that the sender knows the secret, so that the key was not made from others'
    /// keys, and that the key is in the subgroup, so that it may be added later without another check. A key is
    /// accepted once for ever: its data contract's address is a function of its bytes.
    /// @param key compact, 192 bytes: x.c0 || x.c1 || y.c0 || y.c1.
    /// @param proof compact signature, 96 bytes, of `possessionDigest` under the possession tag.
    function register(bytes calldata key, bytes calldata proof) external payable returns (uint256 id) {
        if (msg.value < stakeMinimum) revert StakeTooSmall(msg.value, stakeMinimum);
        BLS12381.G2 memory point = BLS12381.g2(key);
        address data = DataContract.addressOf(0, key);
        if (data.code.length != 0) revert KeyAlreadyRegistered(data);
        if (!point.isPossession(_possessionDigest(msg.sender, point), BLS12381.g1(proof))) revert InvalidPossession();

        DataContract.create(0, key);
        id = _validators.length;
        uint96 stake = SafeCast.toUint96(msg.value);
        _validators.push(
            Validator({account: msg.sender, stake: stake, key: data, unbondedAt: 0, seatedBefore: 0})
        );
        emit Registered(id, msg.sender, data, stake);
    }

    /// @notice Start to leave. A seat in a set that is open, or that is opened before the stake is free, is kept and
    /// binds the stake for longer; without one the stake is free after the delay, at the time that the event names.
    function unbond(uint256 id) external {
        Validator storage leaving = _own(id);
        if (leaving.unbondedAt != 0) revert AlreadyUnbonding(id);
        leaving.unbondedAt = uint48(block.timestamp);
        emit Unbonding(id, block.timestamp + unbondingSeconds);
    }

    /// @notice Take the stake back.
    function withdraw(uint256 id) external {
        Validator storage leaving = _own(id);
        uint256 stake = leaving.stake;
        if (leaving.unbondedAt == 0) revert NotUnbonding(id);
        if (stake == 0) revert AlreadyWithdrawn(id);
        uint256 withdrawableAt = _withdrawableAt(leaving);
        if (withdrawableAt == UNKNOWN) revert InCurrentEpoch(id);
        if (block.timestamp < withdrawableAt) revert StillUnbonding(id, withdrawableAt);

        leaving.stake = 0;
        emit Withdrawn(id, msg.sender, stake);
        Address.sendValue(payable(msg.sender), stake);
    }

    /// @notice Record that the next epoch opens now, with these validators; Settlement's `EpochOpened` tells of it.
    /// @param ids for each of which `bondedKey` has just answered.
    function seat(uint256[] calldata ids) external {
        if (msg.sender != settlement) revert NotTheSettlement(msg.sender);
        _openedAt.push(uint48(block.timestamp));
        uint48 seatedBefore = uint48(_openedAt.length);
        for (uint256 index = 0; index < ids.length; ++index) {
            _validators[ids[index]].seatedBefore = seatedBefore;
        }
    }

    /// @notice The data contract with a validator's compact key. Reverts once its stake is free, withdrawn or not.
    function bondedKey(uint256 id) external view returns (address) {
        if (id >= _validators.length) revert UnknownValidator(id);
        Validator storage bonded = _validators[id];
        if (block.timestamp >= _withdrawableAt(bonded)) revert NotBonded(id);
        return bonded.key;
    }

    /// @notice The validator with this number.
    function validator(uint256 id) external view returns (Validator memory) {
        if (id >= _validators.length) revert UnknownValidator(id);
        return _validators[id];
    }

    /// @notice How many validators ever registered; their numbers are 0 to count - 1.
    function count() external view returns (uint256) {
        return _validators.length;
    }

    /// @notice What a proof of possession signs: a proof serves one account at one contract of one chain.
    /// @dev SHA-256 of tag and two fields, each with its length in front as 8 little-endian bytes: the compressed key
    /// (96 bytes), and the context: chain id (32 bytes, big endian) || this contract (20) || the account (20).
    function possessionDigest(address account, bytes calldata key) external view returns (bytes32) {
        return _possessionDigest(account, BLS12381.g2(key));
    }

    function _possessionDigest(address account, BLS12381.G2 memory key) private view returns (bytes32) {
        bytes memory context = abi.encodePacked(block.chainid, address(this), account);
        return sha256(
            abi.encodePacked(POSSESSION_TAG, LENGTH_96, key.compress(), LENGTH_72, context)
        );
    }

    /// @dev When a stake is free, or was; UNKNOWN as long as its validator does not unbond or sits in the current set.
    function _withdrawableAt(Validator storage leaving) private view returns (uint256) {
        uint256 since = leaving.unbondedAt;
        uint256 next = leaving.seatedBefore;
        if (since == 0) return UNKNOWN;
        if (next != 0) {
            if (next == _openedAt.length) return UNKNOWN;
            since = Math.max(since, _openedAt[next]);
        }
        return since + unbondingSeconds;
    }

    function _own(uint256 id) private view returns (Validator storage) {
        if (id >= _validators.length) revert UnknownValidator(id);
        if (_validators[id].account != msg.sender) revert NotTheAccount(id, _validators[id].account);
        return _validators[id];
    }
}
