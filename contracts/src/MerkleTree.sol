// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Trees of SHA-256 over digests, padded with zero digests to a power of two: the commitment's.
/// @notice A leaf is the protocol's hash of something, whose input starts with a length; an inner node's starts with
/// the letter c. So no node passes for a leaf. The number of leaves fixes the length of a proof, so no leaf has two.
library MerkleTree {
    error WrongProofLength(uint256 given, uint256 expected);
    error LeafOutsideTree(uint256 index, uint256 leaves);

    bytes private constant NODE_TAG = "collegium/v1/node\x00";

    /// @notice The root of a tree of so many leaves in which `leaf` stands at `index`.
    /// @param siblings from the leaf's to the one below the root.
    function root(bytes32 leaf, uint256 index, uint256 leaves, bytes32[] calldata siblings)
        internal
        pure
        returns (bytes32 node)
    {
        if (index >= leaves) revert LeafOutsideTree(index, leaves);
        uint256 depth = Math.log2(leaves, Math.Rounding.Ceil);
        if (siblings.length != depth) revert WrongProofLength(siblings.length, depth);
        node = leaf;
        for (uint256 level = 0; level < depth; ++level) {
            bytes32 sibling = siblings[level];
            node = (index >> level) & 1 == 0 ? parent(node, sibling) : parent(sibling, node);
        }
    }

    /// @notice The inner node above two that stand side by side.
    function parent(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(NODE_TAG, left, right));
    }
}
