// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerdicts} from "./IVerdicts.sol";
import {Licences} from "./Licences.sol";
import {Settlement} from "./Settlement.sol";

/// @title The terms of learning tasks, each named by its Settlement, posted before anything is learned and never changed.
contract Tasks {
    enum Level {
        Unproved,
        Bounded,
        Attested,
        Proved
    }

    struct Terms {
        bytes32 model; // digest of the model before the first round
        bytes32 rule; // digest of the training rule
        bytes32 privacy; // digest of what is promised to trainers about their data
        IVerdicts court; // which says what certified statement is false; 0 for none
        uint96 roundReward; // the most that may be paid for a round
        uint48 deadline; // the last second at which rewards may be posted
        uint32 cohortMinimum; // trainers in a sum
        uint16 royalty; // basis points of what a later version earns, to this one
        uint16 sponsorShare; // basis points of what this version earns, to the sponsor
        Level level; // what a report must come with
    }

    struct Task {
        Terms terms;
        address sponsor; // who deployed its Settlement
        uint48 firstRound;
    }

    event Posted(Settlement indexed settlement, address indexed sponsor, bytes32 indexed task, bytes32[] shardRoots);

    error NotTheDeployer(address sender);
    error AlreadyPosted(Settlement settlement);
    error AlreadyRunning(Settlement settlement);
    error UnknownTask(Settlement settlement);
    error EmptyDigest();
    error ShareTooLarge(uint256 given, uint256 most);
    error TooManyShards(uint256 given, uint256 most);
    error DeadlinePassed(uint256 deadline);
    error DelayTooShort(uint256 given, uint256 least);

    uint256 public constant SHARDS_MAX = 64;
    uint256 public constant SHARE_MAX = 5_000;

    /// @notice How long what a set certified can be challenged before anything is paid on it.
    uint256 public immutable challengeSeconds;
    Licences public immutable licences;

    mapping(Settlement => Task) private _tasks;
    mapping(Settlement => bytes32[]) private _shardRoots;

    constructor(uint256 challengeSeconds_, Licences licences_) {
        challengeSeconds = challengeSeconds_;
        licences = licences_;
    }

    /// @notice Post the terms of a task, once, before its first epoch opens. Only who deployed its Settlement can.
    /// @param shardRoots_ of the hidden rows on which models will be tried: fixed here, before anybody has seen a round.
    function post(Settlement settlement, Terms calldata terms, bytes32[] calldata shardRoots_) external {
        address sponsor = settlement.deployer();
        if (msg.sender != sponsor) revert NotTheDeployer(msg.sender);
        if (_tasks[settlement].sponsor != address(0)) revert AlreadyPosted(settlement);
        if (settlement.epochSet() != address(0)) revert AlreadyRunning(settlement);
        if (terms.model == 0 || terms.rule == 0 || terms.privacy == 0) revert EmptyDigest();
        if (terms.royalty > SHARE_MAX) revert ShareTooLarge(terms.royalty, SHARE_MAX);
        if (terms.sponsorShare > SHARE_MAX) revert ShareTooLarge(terms.sponsorShare, SHARE_MAX);
        if (shardRoots_.length > SHARDS_MAX) revert TooManyShards(shardRoots_.length, SHARDS_MAX);
        if (block.timestamp > terms.deadline) revert DeadlinePassed(terms.deadline);
        uint256 delay = settlement.registry().unbondingSeconds();
        if (delay < challengeSeconds) revert DelayTooShort(delay, challengeSeconds);

        _tasks[settlement] = Task(terms, sponsor, settlement.nextRound());
        _shardRoots[settlement] = shardRoots_;
        emit Posted(settlement, sponsor, settlement.task(), shardRoots_);
    }

    /// @notice A task's terms, sponsor and first round.
    function task(Settlement settlement) external view returns (Task memory) {
        return _posted(settlement);
    }

    /// @notice The roots of the hidden rows, in the order in which they were posted.
    function shardRoots(Settlement settlement) external view returns (bytes32[] memory) {
        _posted(settlement);
        return _shardRoots[settlement];
    }

    /// @notice Whether a licence lets its data be used in a task: the consent stands, and the task leaves earlier
    /// versions at least the royalty that the licence asks for.
    function admits(Settlement settlement, uint256 licence) external view returns (bool) {
        Licences.Licence memory asked = licences.licence(licence);
        return asked.revokedAt == 0 && _posted(settlement).terms.royalty >= asked.royalty;
    }

    function _posted(Settlement settlement) private view returns (Task storage posted) {
        posted = _tasks[settlement];
        if (posted.sponsor == address(0)) revert UnknownTask(settlement);
    }
}
