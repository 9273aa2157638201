// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleTree} from "./MerkleTree.sol";
import {Sha256} from "./Sha256.sol";

/// @title The tree over a trace's leaves, and leaves that are stretches of a message hashed by SHA-256.
/// @notice A leaf is 0 where the tree has nothing, else SHA-256 of tag and bytes; an inner node is SHA-256 of tag and
/// two digests, 0 twice no exception. A game walks four levels a move, a path names one digest a level.
library Trace {
    /// @notice Bytes at a place of the tree, with the way up to the root.
    struct Leaf {
        bytes data;
        bytes32[] path;
    }

    error NotInTrace(uint64 position, bytes32 digest);

    uint256 internal constant CHILDREN = 16;
    uint256 internal constant MOVE_LEVELS = 4;
    uint256 internal constant STATE_BYTES = 32;
    /// @dev Of a message in one leaf: four blocks.
    uint256 internal constant STRETCH_BYTES = 256;

    bytes private constant LEAF_TAG = "collegium/v1/trace-leaf\x00";

    /// @notice The digest of a leaf with these bytes.
    function leafDigest(bytes memory data) internal pure returns (bytes32) {
        return data.length == 0 ? bytes32(0) : sha256(bytes.concat(LEAF_TAG, data));
    }

    /// @notice The node four levels above sixteen nodes.
    function above(bytes32[16] calldata children) internal pure returns (bytes32) {
        bytes32[16] memory nodes = children;
        for (uint256 count = CHILDREN / 2; count != 0; count /= 2) {
            for (uint256 index = 0; index < count; ++index) {
                nodes[index] = MerkleTree.parent(nodes[2 * index], nodes[2 * index + 1]);
            }
        }
        return nodes[0];
    }

    /// @notice The bytes at `position`, which revert unless they are in the tree.
    function open(bytes32 root, uint8 levels, uint64 position, Leaf memory leaf) internal pure returns (bytes memory) {
        bytes32 digest = leafDigest(leaf.data);
        bytes32 node = digest;
        if (leaf.path.length != levels) revert NotInTrace(position, digest);
        for (uint256 level = 0; level < levels; ++level) {
            bytes32 sibling = leaf.path[level];
            node = (position >> level) & 1 == 0 ? MerkleTree.parent(node, sibling) : MerkleTree.parent(sibling, node);
        }
        if (node != root) revert NotInTrace(position, digest);
        return leaf.data;
    }

    /// @notice In how many leaves a message of `length` bytes stands, its padding included (FIPS 180-4, 5.1.1).
    function stretches(uint256 length) internal pure returns (uint256) {
        return (blocks(length) + 3) / 4;
    }

    /// @notice In how many blocks of 64 bytes.
    function blocks(uint256 length) internal pure returns (uint256) {
        return (length + 8) / Sha256.BLOCK_BYTES + 1;
    }

    /// @notice How many bytes stretch `index` of a message has.
    function stretchBytes(uint256 length, uint256 index) internal pure returns (uint256) {
        uint256 end = blocks(length) * Sha256.BLOCK_BYTES;
        uint256 start = index * STRETCH_BYTES;
        return end - start < STRETCH_BYTES ? end - start : STRETCH_BYTES;
    }

    /// @notice What byte `offset`, at or beyond `length`, of the padded message is.
    function padding(uint256 length, uint256 offset) internal pure returns (bytes1) {
        if (offset == length) return 0x80;
        uint256 last = blocks(length) * Sha256.BLOCK_BYTES - 1;
        return last - offset < 8 ? bytes1(uint8((8 * length) >> (8 * (last - offset)))) : bytes1(0);
    }

    /// @notice Whether a leaf `state || bytes` is not stretch `index` of the message with this length and digest.
    /// @dev Leaves of a message that is read stand in reverse, the last stretch first: `state` is the chaining value
    /// before the bytes, and after them comes `next`, which is the digest or what the leaf before says.
    function breaks(bytes memory leaf, uint256 length, uint256 index, bytes32 next) internal pure returns (bool) {
        if (leaf.length != STATE_BYTES + stretchBytes(length, index)) return true;
        bytes32 state = stateOf(leaf);
        if (index == 0 && state != Sha256.START) return true;
        uint256 start = index * STRETCH_BYTES;
        for (uint256 offset = length > start ? length : start; offset - start < leaf.length - STATE_BYTES; ++offset) {
            if (leaf[STATE_BYTES + offset - start] != padding(length, offset)) return true;
        }
        return Sha256.compress(state, leaf, STATE_BYTES) != next;
    }

    /// @notice The chaining value with which a leaf begins.
    function stateOf(bytes memory leaf) internal pure returns (bytes32 state) {
        assembly ("memory-safe") {
            state := mload(add(leaf, 0x20))
        }
    }
}
