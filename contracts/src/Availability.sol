// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Fields} from "./Fields.sol";
import {IVerdicts} from "./IVerdicts.sol";
import {Purse} from "./Purse.sol";

/// @title A court for data withheld: whoever signed a key sum must publish its rows when somebody pays to ask.
/// @notice The demand builds the signed digest itself from what a key sum says, so that nobody can be asked for the
/// preimage of anything else that it signed. The bond goes to whoever answers, and back to the challenger if nobody does.
contract Availability is IVerdicts, Purse {
    struct Demand {
        address challenger;
        uint48 deadline;
        bool answered;
        bool repaid;
    }

    event Demanded(bytes32 indexed statement, address indexed challenger, uint256 deadline);
    event Answered(bytes32 indexed statement, address indexed by, bytes rows);
    event Repaid(bytes32 indexed statement, address indexed challenger);

    error AlreadyDemanded(bytes32 statement);
    error NotDemanded(bytes32 statement);
    error AlreadyAnswered(bytes32 statement);
    error TooLate(bytes32 statement, uint256 deadline);
    error TooEarly(bytes32 statement, uint256 deadline);
    error AlreadyRepaid(bytes32 statement);
    error AnswerTimeTooShort(uint256 given, uint256 least);

    /// @notice An honest signer must be able to get one transaction in: a day at least.
    uint256 public constant ANSWER_SECONDS_MIN = 1 days;

    bytes32 public immutable task;
    uint256 public immutable bond;
    uint256 public immutable answerSeconds;

    mapping(bytes32 statement => Demand) private _demands;

    /// @param bond_ should pay for the gas of the longest answer.
    constructor(bytes32 task_, uint256 bond_, uint256 answerSeconds_) Purse(IERC20(address(0))) {
        if (answerSeconds_ < ANSWER_SECONDS_MIN) revert AnswerTimeTooShort(answerSeconds_, ANSWER_SECONDS_MIN);
        task = task_;
        bond = bond_;
        answerSeconds = answerSeconds_;
    }

    /// @notice Ask for the rows of a seat's key sum, for the bond. Once, whoever asks: an answer is for everybody.
    /// @param rowsDigest SHA-256 of the rows, as the seat signed it.
    function demand(uint64 round, bytes32 close, uint64 seat, bytes32 rowsDigest) external payable {
        bytes32 statement = keySumDigest(round, close, seat, rowsDigest);
        if (_demands[statement].challenger != address(0)) revert AlreadyDemanded(statement);
        uint48 deadline = SafeCast.toUint48(block.timestamp + answerSeconds);
        _demands[statement] = Demand(msg.sender, deadline, false, false);
        emit Demanded(statement, msg.sender, deadline);
        _take(bond);
    }

    /// @notice Publish the rows, which the event carries, and be owed the bond. Anyone may, in time.
    function answer(uint64 round, bytes32 close, uint64 seat, bytes calldata rows) external {
        bytes32 statement = keySumDigest(round, close, seat, sha256(rows));
        Demand storage open = _demanded(statement);
        if (open.answered) revert AlreadyAnswered(statement);
        if (block.timestamp > open.deadline) revert TooLate(statement, open.deadline);
        open.answered = true;
        emit Answered(statement, msg.sender, rows);
        _credit(msg.sender, bond);
    }

    /// @notice Credit the challenger its bond when nobody has answered in time. Once; anyone may call it.
    function repay(bytes32 statement) external {
        Demand storage open = _demanded(statement);
        if (open.answered) revert AlreadyAnswered(statement);
        if (open.repaid) revert AlreadyRepaid(statement);
        if (block.timestamp <= open.deadline) revert TooEarly(statement, open.deadline);
        open.repaid = true;
        emit Repaid(statement, open.challenger);
        _credit(open.challenger, bond);
    }

    /// @inheritdoc IVerdicts
    function refuter(bytes32 statement) external view returns (address) {
        Demand storage made = _demands[statement];
        return made.answered || block.timestamp <= made.deadline ? address(0) : made.challenger;
    }

    /// @notice What a seat signs when it publishes its key sum.
    function keySumDigest(uint64 round, bytes32 close, uint64 seat, bytes32 rowsDigest) public view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(Fields.tag("key-sum"), Fields.word(task), Fields.number(round)),
                abi.encodePacked(Fields.word(close), Fields.number(seat), Fields.word(rowsDigest))
            )
        );
    }

    function _demanded(bytes32 statement) private view returns (Demand storage open) {
        open = _demands[statement];
        if (open.challenger == address(0)) revert NotDemanded(statement);
    }
}
