// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IVerdicts} from "./IVerdicts.sol";
import {Purse} from "./Purse.sol";
import {Settlement} from "./Settlement.sol";

/// @title What all games about statements have in common: the window of a checkpoint, clocks, and what bonds must cover.
/// @notice A checkpoint is final when its window has passed and no dispute is left that could make a header under it
/// fall. In a game each side has one clock for all its moves.
abstract contract Court is IVerdicts, Purse {
    struct Window {
        uint48 startedAt; // 0 until somebody starts it
        uint40 open; // disputes
        bool refuted;
    }

    event WindowStarted(bytes32 indexed checkpoint, uint256 until);
    event Accepted(uint256 indexed game, uint256 indexed id, address indexed challenger);
    event GameOver(uint256 indexed game, uint256 indexed id, bool challengerWon, bool inTime);

    error TermsOutOfRange();
    error UnknownCheckpoint(bytes32 checkpoint);
    error WindowAlreadyStarted(bytes32 checkpoint);
    error WindowOver(bytes32 checkpoint);
    error HeaderNotIncluded(bytes32 header);
    error AlreadyDisputed(uint256 id);
    error NotOpen(uint256 id);
    error JoinOver(uint256 id);
    error StillJoining(uint256 id);
    error GamesGoOn(uint256 id, uint256 live);
    error NotTheChallenger(uint256 game);
    error NotTheDefender(uint256 game);
    error ClockRunOut(uint256 game);
    error ClockRuns(uint256 game, uint256 until);

    uint256 internal constant BURN_DIVISOR = 2;

    Settlement public immutable settlement;

    mapping(bytes32 checkpoint => Window) public windowOf;

    constructor(Settlement settlement_) Purse(IERC20(address(0))) {
        settlement = settlement_;
    }

    /// @notice Begin the time in which headers under a checkpoint can be disputed: whoever wants it final asks for it.
    function start(Settlement.Checkpoint calldata accepted) external {
        bytes32 checkpoint = settlement.checkpointDigest(accepted);
        if (settlement.checkpointBefore(uint256(accepted.lastRound) + 1) != checkpoint) {
            revert UnknownCheckpoint(checkpoint);
        }
        Window storage window = windowOf[checkpoint];
        if (window.startedAt != 0) revert WindowAlreadyStarted(checkpoint);
        window.startedAt = uint48(block.timestamp);
        emit WindowStarted(checkpoint, block.timestamp + _windowSeconds());
    }

    /// @notice Whether nothing under a checkpoint can fall any more.
    function isFinal(bytes32 checkpoint) external view returns (bool) {
        Window storage window = windowOf[checkpoint];
        return window.startedAt != 0 && _isPast(window) && window.open == 0 && !window.refuted;
    }

    /// @dev From `start` on, in which a checkpoint's headers can be disputed.
    function _windowSeconds() internal view virtual returns (uint256);

    /// @dev The digest of a checkpoint whose headers can be disputed still.
    function _disputable(Settlement.Checkpoint calldata accepted) internal view returns (bytes32 checkpoint) {
        checkpoint = settlement.checkpointDigest(accepted);
        Window storage window = windowOf[checkpoint];
        if (window.startedAt != 0 && _isPast(window)) revert WindowOver(checkpoint);
    }

    /// @dev What is left on the clock of the side that moves, whose turn began at `since`.
    /// @param least that it will have when its own next turn begins.
    function _left(uint256 game, uint256 since, uint256 clock, uint256 least) internal view returns (uint32) {
        uint256 used = block.timestamp - since;
        if (used > clock) revert ClockRunOut(game);
        uint256 left = clock - used;
        return uint32(left > least ? left : least);
    }

    function _requireRunOut(uint256 game, uint256 since, uint256 clock) internal view {
        if (block.timestamp <= since + clock) revert ClockRuns(game, since + clock);
    }

    /// @dev A side has time whenever its turn begins, to join too, and of every bond something burns.
    function _requireTerms(uint256 join, uint256 clock, uint256 extension, uint256 stake) internal pure {
        if (extension == 0 || clock < extension || join < extension || stake < BURN_DIVISOR) revert TermsOutOfRange();
    }

    function _isPast(Window storage window) private view returns (bool) {
        return block.timestamp >= uint256(window.startedAt) + _windowSeconds();
    }
}
