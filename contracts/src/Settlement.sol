// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {BLS12381} from "./BLS12381.sol";
import {DataContract} from "./DataContract.sol";
import {EpochSet} from "./EpochSet.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Registry} from "./Registry.sol";

/// @title Checkpoints of one learning task, each accepted on a certificate of the current epoch set.
/// @notice What a certificate signs names the task and no chain, so one certificate settles on every chain that has
/// the same epoch sets. The deployer opens the first set and has no power after that; each set names the next.
contract Settlement {
    using BLS12381 for BLS12381.G2;

    /// @notice Consecutive rounds under one Merkle root of header digests.
    struct Checkpoint {
        uint48 epoch;
        uint48 firstRound;
        uint48 lastRound;
        bytes32 previous; // digest of the checkpoint before, 0 for the first
        bytes32 headerRoot;
    }

    /// @dev The seats of a set about to open: where the keys are, their digests, their sum.
    struct Members {
        address[] keys;
        bytes32[] keyDigests;
        BLS12381.G2 sum;
    }

    event EpochOpened(uint256 indexed epoch, address set, uint256 seats, bytes32 previous);
    event Checkpointed(
        uint256 indexed epoch,
        uint256 indexed firstRound,
        uint256 indexed lastRound,
        bytes32 previous,
        bytes32 headerRoot,
        bytes32 digest,
        uint256 bitmap
    );

    error NotTheDeployer(address sender);
    error FirstEpochAlreadyOpen();
    error NoEpochOpen();
    error InvalidSetSize(uint256 seats);
    error RepeatedValidator(uint256 id);
    error WrongEpoch(uint256 given, uint256 current);
    error WrongRounds(uint256 firstRound, uint256 lastRound, uint256 expectedFirst);
    error BitBeyondSet(uint256 bitmap, uint256 seats);
    error QuorumNotReached(uint256 signers, uint256 quorum);
    error InvalidCertificate(bytes32 digest);
    error UnknownCheckpoint(bytes32 digest);
    error RoundOutsideCheckpoint(uint256 round);

    /// @dev Rounds a checkpoint may cover: header proofs have at most 16 siblings.
    uint256 public constant ROUNDS_MAX = 1 << 16;

    /// @dev LE64(23) || "collegium/v1/checkpoint" and LE64(27) || "collegium/v1/epoch-handover".
    bytes private constant CHECKPOINT_TAG = "\x17\x00\x00\x00\x00\x00\x00\x00collegium/v1/checkpoint";
    bytes private constant HANDOVER_TAG = "\x1b\x00\x00\x00\x00\x00\x00\x00collegium/v1/epoch-handover";
    bytes8 private constant LENGTH_32 = hex"2000000000000000";

    bytes32 public immutable task;
    address public immutable deployer;
    Registry public immutable registry;

    /// @notice The data contract of the current epoch set (see `EpochSet`), 0 before the first opens.
    address public epochSet;
    uint48 public epoch;
    /// @notice The round with which the next checkpoint must start.
    uint48 public nextRound;

    /// @notice Digest of the checkpoint that ends just before a round, 0 if none does.
    mapping(uint256 round => bytes32 digest) public checkpointBefore;

    /// @param task_ digest of the learning task.
    /// @param firstRound with which the first checkpoint must start.
    /// @param stakeMinimum in wei.
    /// @param unbondingSeconds for how long a set that was relieved can be called to account; must also exceed the time
    /// from drawing a set to opening it.
    /// @param slashing where the contract is, or will be, that may take stakes (see `Slashing`); 0 if none may.
    /// @param token in which stakes are paid; 0 for the chain's own coin.
    constructor(
        bytes32 task_,
        uint48 firstRound,
        uint256 stakeMinimum,
        uint256 unbondingSeconds,
        address slashing,
        IERC20 token
    ) {
        task = task_;
        deployer = msg.sender;
        nextRound = firstRound;
        registry = new Registry(stakeMinimum, unbondingSeconds, slashing, token);
    }

    /// @notice Open epoch 0 with these validators, the first at seat 0. The deployer can do so once.
    function openFirstEpoch(uint256[] calldata ids) external {
        if (msg.sender != deployer) revert NotTheDeployer(msg.sender);
        if (epochSet != address(0)) revert FirstEpochAlreadyOpen();
        _open(0, ids, _members(ids));
    }

    /// @notice Open the next epoch with these validators, on a certificate of the current set. Anyone may send it.
    /// @dev The certificate names the last checkpoint: the old set's later checkpoints, if any, come first.
    /// @param bitmap bit i set: seat i of the current set signed.
    /// @param signature compact sum of the signatures of `handoverDigest`, 96 bytes.
    function openEpoch(uint256[] calldata ids, uint256 bitmap, bytes calldata signature) external {
        Members memory next = _members(ids);
        _requireCertificate(_handoverDigest(next), bitmap, signature);
        _open(epoch + 1, ids, next);
    }

    /// @notice Accept a checkpoint of rounds firstRound to lastRound. Anyone may send it.
    /// @param headerRoot root of the tree of the rounds' header digests.
    /// @param bitmap bit i set: seat i of the current set signed.
    /// @param signature compact sum of the signatures of `checkpointDigest`, 96 bytes.
    function checkpoint(
        uint48 epoch_,
        uint48 firstRound,
        uint48 lastRound,
        bytes32 headerRoot,
        uint256 bitmap,
        bytes calldata signature
    ) external {
        uint48 expectedFirst = nextRound;
        if (epoch_ != epoch) revert WrongEpoch(epoch_, epoch);
        if (firstRound != expectedFirst || lastRound < firstRound || lastRound - firstRound >= ROUNDS_MAX) {
            revert WrongRounds(firstRound, lastRound, expectedFirst);
        }
        bytes32 previous = checkpointBefore[firstRound];
        bytes32 digest = checkpointDigest(Checkpoint(epoch_, firstRound, lastRound, previous, headerRoot));
        _requireCertificate(digest, bitmap, signature);

        nextRound = lastRound + 1;
        checkpointBefore[uint256(lastRound) + 1] = digest;
        emit Checkpointed(epoch_, firstRound, lastRound, previous, headerRoot, digest, bitmap);
    }

    /// @notice Revert unless a quorum of the set in office signed `digest`, whatever it says. For other contracts: what
    /// they ask about must say under a domain tag which contract of which chain it is for, and of which epoch.
    function requireCertificate(bytes32 digest, uint256 bitmap, bytes calldata signature) external view {
        _requireCertificate(digest, bitmap, signature);
    }

    /// @notice Whether `header` is the header digest of `round` under an accepted checkpoint.
    /// @param siblings from the leaf's to the one below the root.
    function includesHeader(Checkpoint calldata accepted, uint256 round, bytes32 header, bytes32[] calldata siblings)
        external
        view
        returns (bool)
    {
        bytes32 digest = checkpointDigest(accepted);
        if (checkpointBefore[uint256(accepted.lastRound) + 1] != digest) revert UnknownCheckpoint(digest);
        if (round < accepted.firstRound || round > accepted.lastRound) revert RoundOutsideCheckpoint(round);
        uint256 rounds = uint256(accepted.lastRound) - accepted.firstRound + 1;
        return MerkleTree.root(header, round - accepted.firstRound, rounds, siblings) == accepted.headerRoot;
    }

    /// @notice Where the keys of the current set are, by seat; empty before the first epoch opens.
    function seatKeys() external view returns (address[] memory keys) {
        if (epochSet == address(0)) return keys;
        bytes memory set = DataContract.read(epochSet);
        keys = new address[](EpochSet.size(set));
        for (uint256 seat = 0; seat < keys.length; ++seat) {
            keys[seat] = EpochSet.keyOf(set, seat);
        }
    }

    /// @notice What the epoch set signs to settle a checkpoint of this task, on any chain.
    /// @dev SHA-256 of tag and fields, each with its length in front as 8 little-endian bytes: task, epoch, first
    /// round, last round, previous digest, header root; all of 32 bytes, numbers big endian.
    function checkpointDigest(Checkpoint memory c) public view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(CHECKPOINT_TAG, LENGTH_32, task, LENGTH_32, uint256(c.epoch)),
                abi.encodePacked(LENGTH_32, uint256(c.firstRound), LENGTH_32, uint256(c.lastRound)),
                abi.encodePacked(LENGTH_32, c.previous, LENGTH_32, c.headerRoot)
            )
        );
    }

    /// @notice What the current epoch set signs to be followed by the set of these validators, after the last
    /// checkpoint that was accepted.
    function handoverDigest(uint256[] calldata ids) external view returns (bytes32) {
        return _handoverDigest(_members(ids));
    }

    /// @dev As `checkpointDigest`, with the fields: task, next epoch, digest of the last checkpoint, SHA-256 of the
    /// SHA-256 of each compact key, in the order of seats.
    function _handoverDigest(Members memory next) private view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(HANDOVER_TAG, LENGTH_32, task, LENGTH_32, uint256(epoch) + 1),
                abi.encodePacked(LENGTH_32, checkpointBefore[nextRound]),
                abi.encodePacked(LENGTH_32, sha256(abi.encodePacked(next.keyDigests)))
            )
        );
    }

    /// @dev The validators with these numbers, which must be distinct and bonded. What a seat needed in memory is freed
    /// before the next: the price of memory grows with its square.
    function _members(uint256[] calldata ids) private view returns (Members memory members) {
        uint256 seats = ids.length;
        if (seats == 0 || seats > EpochSet.SIZE_MAX) revert InvalidSetSize(seats);
        members.keys = new address[](seats);
        members.keyDigests = new bytes32[](seats);
        uint256[] memory seen = new uint256[](registry.count() / 256 + 1);
        Memory.Pointer free = Memory.getFreeMemoryPointer();
        for (uint256 seat = 0; seat < seats; ++seat) {
            uint256 id = ids[seat];
            uint256 bit = 1 << (id % 256);
            if (seen[id / 256] & bit != 0) revert RepeatedValidator(id);
            seen[id / 256] |= bit;

            members.keys[seat] = registry.bondedKey(id);
            bytes memory key = DataContract.read(members.keys[seat]);
            members.keyDigests[seat] = sha256(key);
            members.sum.accumulate(BLS12381.g2(key));
            Memory.unsafeSetFreeMemoryPointer(free);
        }
        if (members.sum.isInfinity()) revert BLS12381.InfinityPoint();
    }

    /// @dev The salt tells a set from the same set in an earlier epoch.
    function _open(uint48 number, uint256[] calldata ids, Members memory members) private {
        address set = DataContract.create(bytes32(uint256(number)), EpochSet.encode(members.sum, members.keys));
        epochSet = set;
        epoch = number;
        registry.seat(ids);
        emit EpochOpened(number, set, members.keys.length, checkpointBefore[nextRound]);
    }

    /// @dev Revert unless a quorum of the current set signed `digest`.
    function _requireCertificate(bytes32 digest, uint256 bitmap, bytes calldata signature) private view {
        if (epochSet == address(0)) revert NoEpochOpen();
        bytes memory set = DataContract.read(epochSet);
        uint256 seats = EpochSet.size(set);
        uint256 absent = bitmap ^ (type(uint256).max >> (256 - seats));
        if (absent >> (seats - 1) > 1) revert BitBeyondSet(bitmap, seats);
        uint256 signers = seats - _bitCount(absent);
        if (signers < EpochSet.quorum(seats)) revert QuorumNotReached(signers, EpochSet.quorum(seats));

        BLS12381.G2 memory key = _sumWithout(set, absent);
        if (!key.isSignature(digest, BLS12381.g1(signature))) revert InvalidCertificate(digest);
    }

    /// @dev The sum of the keys of a set less those of the absent seats. Frees memory as `_members` does.
    function _sumWithout(bytes memory set, uint256 absent) private view returns (BLS12381.G2 memory sum) {
        sum = EpochSet.sumOf(set);
        if (absent == 0) return sum;
        BLS12381.G2 memory less;
        Memory.Pointer free = Memory.getFreeMemoryPointer();
        for (; absent != 0; absent &= absent - 1) {
            address key = EpochSet.keyOf(set, Math.log2(absent & (~absent + 1)));
            less.accumulate(BLS12381.g2(DataContract.read(key)));
            Memory.unsafeSetFreeMemoryPointer(free);
        }
        sum.accumulate(less.negate());
    }

    function _bitCount(uint256 word) private pure returns (uint256 bits) {
        for (; word != 0; word &= word - 1) {
            ++bits;
        }
    }
}
