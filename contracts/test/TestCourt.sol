// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFinality} from "../src/IFinality.sol";
import {IVerdicts} from "../src/IVerdicts.sol";

/// @title A court that gives the verdicts it is told, for tests.
contract TestCourt is IFinality, IVerdicts {
    mapping(bytes32 statement => address) public refuter;
    mapping(bytes32 checkpoint => bool) private _held;

    function rule(bytes32 statement, address winner) external {
        refuter[statement] = winner;
    }

    function hold(bytes32 checkpoint, bool held) external {
        _held[checkpoint] = held;
    }

    function isFinal(bytes32 checkpoint) external view returns (bool) {
        return !_held[checkpoint];
    }
}
