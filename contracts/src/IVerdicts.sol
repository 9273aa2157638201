// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What a court answers: who has shown a statement false, if anybody has.
/// @notice A statement is a digest of the protocol's hash that somebody signed by itself. Whether it was signed, and by
/// whom, is not the court's business: whoever acts on a verdict checks the signature.
interface IVerdicts {
    /// @notice Who won the dispute that ended with `statement` being false; 0 as long as there is none.
    /// @dev Once it answers an account it answers that account for ever.
    function refuter(bytes32 statement) external view returns (address);
}
