// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";

/// @title Bytes kept as a contract's code: 200 gas a byte to write, one cold account access to read.
/// @notice The code is a zero byte (STOP, so that it never runs) followed by the data. Its address is a function of
/// creator, salt and data, so the same bytes cannot be written twice under one salt.
library DataContract {
    /// @notice Write `data` and return its address. Reverts with OpenZeppelin's FailedDeployment on a repetition.
    function create(bytes32 salt, bytes memory data) internal returns (address) {
        return Create2.deploy(0, salt, _creationCode(data));
    }

    /// @notice Where `create` puts `data`, or has put it.
    function addressOf(bytes32 salt, bytes memory data) internal view returns (address) {
        return Create2.computeAddress(salt, keccak256(_creationCode(data)));
    }

    /// @notice The data at `where`, which must be an address that `create` returned.
    function read(address where) internal view returns (bytes memory) {
        return Bytes.splice(where.code, 1);
    }

    /// @dev PUSH2 length DUP1 PUSH1 10 RETURNDATASIZE CODECOPY RETURNDATASIZE RETURN, then the code: STOP and the data.
    function _creationCode(bytes memory data) private pure returns (bytes memory) {
        return abi.encodePacked(hex"61", uint16(data.length + 1), hex"80600a3d393df300", data);
    }
}
