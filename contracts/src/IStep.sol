// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title One kind of public work: what its trace is about, and how a single leaf of a trace is checked.
/// @dev A step verifier has no state and no coin. `Disputes` plays the game; it asks here where the game begins and ends.
interface IStep {
    /// @notice What a dispute about this work of a header is about.
    /// @param header digest of a header under an accepted checkpoint.
    /// @param opening preimages that lead from the header to what the work reads and gives.
    /// @return facts what `refutes` needs to know of them.
    /// @return levels height of the trace's tree, a multiple of 4; 0 if the opening alone shows the header to be wrong.
    function begin(bytes32 header, bytes calldata opening) external view returns (bytes memory facts, uint8 levels);

    /// @notice Whether the leaf at `position` of the trace with this root is not what the leaves before it give.
    /// @param leaf its bytes; empty where the tree has nothing.
    /// @param witness leaves with their paths, as the kind of work defines; it reverts on any that is not in the tree.
    function refutes(
        bytes calldata facts,
        bytes32 root,
        uint8 levels,
        uint64 position,
        bytes calldata leaf,
        bytes calldata witness
    ) external view returns (bool);
}
