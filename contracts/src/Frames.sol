// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Fields} from "./Fields.sol";

/// @title The fields behind a digest: SHA-256 over frames, each a length of 8 little-endian bytes and so many bytes.
/// @notice The first frame is the domain tag. So bytes with a digest are one list of fields, and of one kind.
library Frames {
    error WrongPreimage(bytes32 digest, bytes32 expected);
    error WrongDomain(bytes domain);
    error TruncatedFrames(uint256 offset);

    uint256 private constant LENGTH_BYTES = 8;

    /// @notice Revert unless `preimage` hashes to `digest` and begins with this domain.
    function check(bytes calldata preimage, bytes32 digest, bytes memory domain) internal pure {
        bytes32 found = sha256(preimage);
        if (found != digest) revert WrongPreimage(found, digest);
        bytes calldata first = field(preimage, 0);
        if (keccak256(first) != keccak256(domain)) revert WrongDomain(first);
    }

    /// @notice Field `index`, from 0, which is the domain.
    function field(bytes calldata preimage, uint256 index) internal pure returns (bytes calldata) {
        uint256 offset = 0;
        while (true) {
            if (offset + LENGTH_BYTES > preimage.length) revert TruncatedFrames(offset);
            uint256 length = little(bytes8(preimage[offset:offset + LENGTH_BYTES]));
            offset += LENGTH_BYTES;
            if (length > preimage.length - offset) revert TruncatedFrames(offset);
            if (index == 0) return preimage[offset:offset + length];
            --index;
            offset += length;
        }
        revert TruncatedFrames(offset); // never reached
    }

    /// @notice A field of 32 bytes.
    function word(bytes calldata preimage, uint256 index) internal pure returns (bytes32) {
        bytes calldata found = field(preimage, index);
        if (found.length != 32) revert TruncatedFrames(found.length);
        return bytes32(found);
    }

    /// @notice The number that 8 little-endian bytes are.
    function little(bytes8 data) internal pure returns (uint64) {
        return uint64(Fields.littleEndian(uint64(data)));
    }
}
