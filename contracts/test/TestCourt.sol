// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerdicts} from "../src/IVerdicts.sol";

/// @title A court that gives the verdicts it is told, for tests.
contract TestCourt is IVerdicts {
    mapping(bytes32 statement => address) public refuter;

    function rule(bytes32 statement, address winner) external {
        refuter[statement] = winner;
    }
}
