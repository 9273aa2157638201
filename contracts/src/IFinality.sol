// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What a court for headers answers: whether nothing under a checkpoint can fall any more.
interface IFinality {
    /// @notice Whether the time is over in which headers under `checkpoint` could be disputed, and all of them stand.
    /// @dev Once it answers yes it answers yes for ever.
    function isFinal(bytes32 checkpoint) external view returns (bool);
}
