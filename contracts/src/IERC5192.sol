// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Tokens that stay with their account (EIP-5192).
interface IERC5192 {
    event Locked(uint256 tokenId);
    event Unlocked(uint256 tokenId);

    /// @notice Whether the token cannot be transferred.
    function locked(uint256 tokenId) external view returns (bool);
}
