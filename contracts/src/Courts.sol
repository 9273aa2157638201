// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFinality} from "./IFinality.sol";
import {IVerdicts} from "./IVerdicts.sol";

/// @title Several courts as one: a statement is false if any of them has found it so.
/// @notice For contracts that ask one court, where different kinds of work are judged by different ones. The courts are
/// fixed when it is founded; nobody has powers here.
contract Courts is IFinality, IVerdicts {
    error NoCourts();

    IVerdicts[] private _courts;

    constructor(IVerdicts[] memory courts_) {
        if (courts_.length == 0) revert NoCourts();
        _courts = courts_;
    }

    /// @notice Who showed a statement false before the first of the courts, in their order, that found it so; 0 if none.
    /// @dev It answers an account for ever once one has; another one, if a court that stands before finds the same later.
    function refuter(bytes32 statement) external view returns (address found) {
        for (uint256 index = 0; index < _courts.length && found == address(0); ++index) {
            found = _courts[index].refuter(statement);
        }
    }

    /// @notice Whether a checkpoint is final before each of the courts; all of them must be courts for headers.
    function isFinal(bytes32 checkpoint) external view returns (bool) {
        for (uint256 index = 0; index < _courts.length; ++index) {
            if (!IFinality(address(_courts[index])).isFinal(checkpoint)) return false;
        }
        return true;
    }

    /// @notice The courts, in their order.
    function courts() external view returns (IVerdicts[] memory) {
        return _courts;
    }
}
