// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BLS12381} from "./BLS12381.sol";

/// @title The validators of one epoch, as the bytes of a data contract: sum of their keys || where each key is.
/// @notice The sum takes 256 bytes (EIP-2537), each seat 20: the address of the data contract with its key. A
/// certificate that all seats signed needs the sum alone; each seat that did not sign is subtracted from it.
library EpochSet {
    /// @dev One bit of a word for each seat.
    uint256 internal constant SIZE_MAX = 256;

    uint256 private constant SUM_BYTES = 256;
    uint256 private constant SEAT_BYTES = 20;

    /// @notice The data of a set: the sum of the keys and where the key of each seat is.
    function encode(BLS12381.G2 memory sum, address[] memory keys) internal pure returns (bytes memory) {
        bytes memory seats = new bytes(keys.length * SEAT_BYTES);
        for (uint256 seat = 0; seat < keys.length; ++seat) {
            address key = keys[seat];
            assembly ("memory-safe") {
                // the word whose last 20 bytes are the seat's; its first 12 keep what is before them
                let word := add(add(seats, SEAT_BYTES), mul(seat, SEAT_BYTES))
                mstore(word, or(shl(160, shr(160, mload(word))), key))
            }
        }
        return bytes.concat(abi.encode(sum), seats);
    }

    /// @notice The number of seats of a set.
    function size(bytes memory set) internal pure returns (uint256) {
        return (set.length - SUM_BYTES) / SEAT_BYTES;
    }

    /// @notice More than two thirds: n - floor((n - 1) / 3).
    function quorum(uint256 seats) internal pure returns (uint256) {
        return seats - (seats - 1) / 3;
    }

    /// @notice The sum of all keys of a set.
    function sumOf(bytes memory set) internal pure returns (BLS12381.G2 memory sum) {
        assembly ("memory-safe") {
            mcopy(sum, add(set, 0x20), SUM_BYTES)
        }
    }

    /// @notice Where the key of `seat` is; the caller has checked seat < size.
    function keyOf(bytes memory set, uint256 seat) internal pure returns (address key) {
        assembly ("memory-safe") {
            key := shr(96, mload(add(add(set, add(0x20, SUM_BYTES)), mul(seat, SEAT_BYTES))))
        }
    }
}
