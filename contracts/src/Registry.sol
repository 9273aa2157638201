// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BLS12381} from "./BLS12381.sol";
import {DataContract} from "./DataContract.sol";
import {Purse} from "./Purse.sol";

/// @title Who takes part in a task, and the stake with which each answers for what it signs.
/// @notice A validator has a BLS key whose possession it proved; trainers and stewards have none. A stake comes back to
/// its account, and to nobody else, when the unbonding delay has run since `unbond` and since the member left its last
/// epoch set, whichever was later. Until then a validator can be seated, from then on it cannot, whether it has withdrawn
/// or not: so withdrawing never stops a handover. The contract `slashing`, fixed at deployment, may take from a stake;
/// nobody has any other power.
contract Registry is Purse {
    using BLS12381 for BLS12381.G2;

    enum Role {
        Validator,
        Trainer,
        Steward
    }

    struct Member {
        address account;
        uint96 stake; // 0 once withdrawn or slashed whole
        address key; // a validator's: the data contract with it; in one slot with the rest, for `bondedKey` and `seat`
        uint48 unbondedAt; // 0 until it unbonds or is slashed
        uint48 seatedBefore; // the epoch after the last in which it has a seat, 0 if it never had one
        Role role;
        bytes32 encryptionKey; // X25519, 0 if it has none
    }

    event Registered(uint256 indexed id, address indexed account, address key, uint256 stake);
    event Enrolled(uint256 indexed id, address indexed account, Role indexed role, uint256 stake);
    event EncryptionKey(uint256 indexed id, bytes32 key);
    event StakeRaised(uint256 indexed id, uint256 stake);
    event Unbonding(uint256 indexed id, uint256 earliest);
    event Withdrawn(uint256 indexed id, address indexed account, uint256 stake);
    event Slashed(uint256 indexed id, address indexed reporter, uint256 burned, uint256 rewarded);

    error StakeTooSmall(uint256 sent, uint256 minimum);
    error KeyAlreadyRegistered(address key);
    error InvalidPossession();
    error ValidatorNeedsKey();
    error EmptyEncryptionKey();
    error NotTheSettlement(address sender);
    error NotTheSlashing(address sender);
    error UnknownMember(uint256 id);
    error NotAValidator(uint256 id);
    error NotTheAccount(uint256 id, address account);
    error AlreadyUnbonding(uint256 id);
    error NotUnbonding(uint256 id);
    error StillUnbonding(uint256 id, uint256 withdrawableAt);
    error InCurrentEpoch(uint256 id);
    error NothingToWithdraw(uint256 id);
    error NothingToSlash(uint256 id);
    error NotBonded(uint256 id);

    /// @dev LE64(27) || "collegium/v1/bls-possession"; see `possessionDigest`.
    bytes private constant POSSESSION_TAG = "\x1b\x00\x00\x00\x00\x00\x00\x00collegium/v1/bls-possession";
    bytes8 private constant LENGTH_72 = hex"4800000000000000";
    bytes8 private constant LENGTH_96 = hex"6000000000000000";

    /// @dev No time: the stake is locked until `unbond`, or until the next epoch opens, whenever that is.
    uint256 private constant UNKNOWN = type(uint256).max;

    uint256 private constant WHOLE = 10_000; // basis points

    /// @notice The contract that made this one, and that alone gives seats.
    address public immutable settlement;
    /// @notice The contract that alone takes from stakes; 0 if none may.
    address public immutable slashing;
    uint256 public immutable stakeMinimum;
    uint256 public immutable unbondingSeconds;

    Member[] private _members;

    /// @dev When each epoch opened, which is when its predecessor's set was relieved.
    uint48[] private _openedAt;

    /// @param stakeMinimum_ in wei, or in the token's least unit.
    /// @param unbondingSeconds_ from `unbond`, or from leaving the last epoch set if that is later, to `withdraw`.
    constructor(uint256 stakeMinimum_, uint256 unbondingSeconds_, address slashing_, IERC20 token_) Purse(token_) {
        settlement = msg.sender;
        slashing = slashing_;
        stakeMinimum = stakeMinimum_;
        unbondingSeconds = unbondingSeconds_;
    }

    /// @notice Register a validator's key with the sent coin as its stake, or with the minimum in tokens, and return the
    /// member's number, from 0.
    /// @dev One pairing check shows both that the sender knows the secret, so that the key was not made from others'
    /// keys, and that the key is in the subgroup, so that it may be added later without another check. A key is
    /// accepted once for ever: its data contract's address is a function of its bytes.
    /// @param key compact, 192 bytes: x.c0 || x.c1 || y.c0 || y.c1.
    /// @param proof compact signature, 96 bytes, of `possessionDigest` under the possession tag.
    function register(bytes calldata key, bytes calldata proof) external payable returns (uint256 id) {
        uint256 stake = _takeFirstStake();
        BLS12381.G2 memory point = BLS12381.g2(key);
        address data = DataContract.addressOf(0, key);
        if (data.code.length != 0) revert KeyAlreadyRegistered(data);
        if (!point.isPossession(_possessionDigest(msg.sender, point), BLS12381.g1(proof))) revert InvalidPossession();

        DataContract.create(0, key);
        id = _enter(Role.Validator, stake, data, 0);
        emit Registered(id, msg.sender, data, stake);
    }

    /// @notice Enter as trainer or steward, with a stake as `register` takes it, and return the member's number.
    /// @param encryptionKey X25519, to which others seal what is for this member alone.
    function enrol(Role role, bytes32 encryptionKey) external payable returns (uint256 id) {
        if (role == Role.Validator) revert ValidatorNeedsKey();
        if (encryptionKey == 0) revert EmptyEncryptionKey();
        uint256 stake = _takeFirstStake();
        id = _enter(role, stake, address(0), encryptionKey);
        emit Enrolled(id, msg.sender, role, stake);
        emit EncryptionKey(id, encryptionKey);
    }

    /// @notice Name another encryption key, from now on.
    function setEncryptionKey(uint256 id, bytes32 encryptionKey) external {
        if (encryptionKey == 0) revert EmptyEncryptionKey();
        _own(id).encryptionKey = encryptionKey;
        emit EncryptionKey(id, encryptionKey);
    }

    /// @notice Add to the stake of a member that is not leaving.
    /// @param amount the sent coin, or so many tokens.
    function raiseStake(uint256 id, uint256 amount) external payable {
        Member storage own = _own(id);
        if (own.unbondedAt != 0) revert AlreadyUnbonding(id);
        own.stake = SafeCast.toUint96(own.stake + amount);
        emit StakeRaised(id, own.stake);
        _take(amount);
    }

    /// @notice Start to leave. A seat in a set that is open, or that is opened before the stake is free, is kept and
    /// binds the stake for longer; without one the stake is free after the delay, at the time that the event names.
    function unbond(uint256 id) external {
        Member storage leaving = _own(id);
        if (leaving.unbondedAt != 0) revert AlreadyUnbonding(id);
        _startLeaving(id, leaving);
    }

    /// @notice Take the stake back.
    function withdraw(uint256 id) external {
        Member storage leaving = _own(id);
        uint256 stake = leaving.stake;
        if (leaving.unbondedAt == 0) revert NotUnbonding(id);
        if (stake == 0) revert NothingToWithdraw(id);
        uint256 withdrawableAt = _withdrawableAt(leaving);
        if (withdrawableAt == UNKNOWN) revert InCurrentEpoch(id);
        if (block.timestamp < withdrawableAt) revert StillUnbonding(id, withdrawableAt);

        leaving.stake = 0;
        emit Withdrawn(id, msg.sender, stake);
        _give(msg.sender, stake);
    }

    /// @notice Take a part of a member's stake: a part of that for the reporter, the rest for nobody. The member starts to
    /// leave, if it has not, and cannot come back under the same key: that is its jail.
    /// @dev Leaving rather than being shut out: a member of the set that is about to open could otherwise stop the
    /// handover by being slashed at the last moment.
    /// @param part of the stake, in basis points, rounded down.
    /// @param reward of what is taken, in basis points, rounded down.
    function slash(uint256 id, uint256 part, uint256 reward, address reporter) external {
        if (msg.sender != slashing) revert NotTheSlashing(msg.sender);
        if (id >= _members.length) revert UnknownMember(id);
        Member storage slashed = _members[id];
        uint256 taken = slashed.stake * part / WHOLE;
        if (taken == 0) revert NothingToSlash(id);

        slashed.stake -= uint96(taken);
        if (slashed.unbondedAt == 0) _startLeaving(id, slashed);
        uint256 rewarded = taken * reward / WHOLE;
        emit Slashed(id, reporter, taken - rewarded, rewarded);
        _credit(reporter, rewarded);
        _credit(BURNED, taken - rewarded);
    }

    /// @notice Record that the next epoch opens now, with these validators; Settlement's `EpochOpened` tells of it.
    /// @param ids for each of which `bondedKey` has just answered.
    function seat(uint256[] calldata ids) external {
        if (msg.sender != settlement) revert NotTheSettlement(msg.sender);
        _openedAt.push(uint48(block.timestamp));
        uint48 seatedBefore = uint48(_openedAt.length);
        for (uint256 index = 0; index < ids.length; ++index) {
            _members[ids[index]].seatedBefore = seatedBefore;
        }
    }

    /// @notice The data contract with a validator's compact key. Reverts once its stake is free, withdrawn or not.
    function bondedKey(uint256 id) external view returns (address key) {
        if (id >= _members.length) revert UnknownMember(id);
        Member storage bonded = _members[id];
        key = bonded.key;
        if (key == address(0)) revert NotAValidator(id);
        if (block.timestamp >= _withdrawableAt(bonded)) revert NotBonded(id);
    }

    /// @notice The member with this number.
    function member(uint256 id) external view returns (Member memory) {
        if (id >= _members.length) revert UnknownMember(id);
        return _members[id];
    }

    /// @notice How many members ever entered; their numbers are 0 to count - 1.
    function count() external view returns (uint256) {
        return _members.length;
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

    function _takeFirstStake() private returns (uint256 stake) {
        stake = address(token) == address(0) ? msg.value : stakeMinimum;
        if (stake < stakeMinimum) revert StakeTooSmall(stake, stakeMinimum);
        _take(stake);
    }

    function _enter(Role role, uint256 stake, address key, bytes32 encryptionKey) private returns (uint256 id) {
        id = _members.length;
        Member storage entered = _members.push();
        entered.account = msg.sender;
        entered.stake = SafeCast.toUint96(stake);
        if (key != address(0)) entered.key = key;
        if (role != Role.Validator) entered.role = role;
        if (encryptionKey != 0) entered.encryptionKey = encryptionKey;
    }

    function _startLeaving(uint256 id, Member storage leaving) private {
        leaving.unbondedAt = uint48(block.timestamp);
        emit Unbonding(id, block.timestamp + unbondingSeconds);
    }

    /// @dev When a stake is free, or was; UNKNOWN as long as its member does not unbond or sits in the current set.
    function _withdrawableAt(Member storage leaving) private view returns (uint256) {
        uint256 since = leaving.unbondedAt;
        uint256 next = leaving.seatedBefore;
        if (since == 0) return UNKNOWN;
        if (next != 0) {
            if (next == _openedAt.length) return UNKNOWN;
            since = Math.max(since, _openedAt[next]);
        }
        return since + unbondingSeconds;
    }

    function _own(uint256 id) private view returns (Member storage) {
        if (id >= _members.length) revert UnknownMember(id);
        if (_members[id].account != msg.sender) revert NotTheAccount(id, _members[id].account);
        return _members[id];
    }
}
