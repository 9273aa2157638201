// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The pieces of the protocol's one hash: SHA-256 over a domain tag and fields, each behind its length.
/// @notice A length, and a number in a field, take 8 bytes, little endian, which Solidity does not have at hand.
library Fields {
    bytes8 private constant LENGTH_8 = hex"0800000000000000";
    bytes8 private constant LENGTH_20 = hex"1400000000000000";
    bytes8 private constant LENGTH_32 = hex"2000000000000000";

    /// @notice The domain tag "collegium/v1/<use>".
    function tag(string memory use) internal pure returns (bytes memory) {
        return data(abi.encodePacked("collegium/v1/", use));
    }

    function data(bytes memory field) internal pure returns (bytes memory) {
        return abi.encodePacked(littleEndian(uint64(field.length)), field);
    }

    function word(bytes32 field) internal pure returns (bytes memory) {
        return abi.encodePacked(LENGTH_32, field);
    }

    function account(address field) internal pure returns (bytes memory) {
        return abi.encodePacked(LENGTH_20, field);
    }

    function number(uint64 field) internal pure returns (bytes memory) {
        return abi.encodePacked(LENGTH_8, littleEndian(field));
    }

    /// @notice The 8 bytes of a number, the least first.
    function littleEndian(uint64 value) internal pure returns (bytes8) {
        value = (value >> 8 & 0x00ff00ff00ff00ff) | (value & 0x00ff00ff00ff00ff) << 8;
        value = (value >> 16 & 0x0000ffff0000ffff) | (value & 0x0000ffff0000ffff) << 16;
        return bytes8(value >> 32 | value << 32);
    }
}
