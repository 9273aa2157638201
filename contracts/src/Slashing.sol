// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {BLS12381} from "./BLS12381.sol";
import {Curation} from "./Curation.sol";
import {DataContract} from "./DataContract.sol";
import {Fields} from "./Fields.sol";
import {IVerdicts} from "./IVerdicts.sol";
import {Registry} from "./Registry.sol";
import {Settlement} from "./Settlement.sol";

/// @title Who loses stake, and on what evidence.
/// @notice Evidence is what a member signed by itself, with the key that it registered: two things that exclude each
/// other, or one that a court has found false. A bit of a certificate's bitmap is none. Everything that is signed names
/// the task, so nothing signed for another task counts here; what is signed for this one counts on every chain on which
/// the signer has staked for it. Nobody has powers over this contract.
contract Slashing {
    using BLS12381 for BLS12381.G2;

    /// @notice What a vote says beside its view.
    struct Ballot {
        bytes32 block;
        uint64 parentView;
        bytes32 parent;
    }

    enum Offence {
        DoubleVote,
        DoubleProposal,
        DoubleReport,
        FalseStatement,
        FalseHeader,
        WithheldData
    }

    event Convicted(uint256 indexed id, Offence indexed offence, bytes32 indexed matter, address reporter);

    error NoConflict();
    error NotSigned(uint256 id, bytes32 digest);
    error WrongRole(uint256 id, Registry.Role role);
    error NotRefuted(bytes32 statement);
    error AlreadyConvicted(uint256 id, bytes32 matter);

    uint256 private constant SIGNATURE_BYTES = 65;

    Settlement public immutable settlement;
    Registry public immutable registry;
    bytes32 public immutable task;
    /// @notice The courts that say which signed statement is false; 0 for none.
    IVerdicts public immutable disputes;
    /// @notice The court that says which signed data was asked for in vain; 0 for none.
    IVerdicts public immutable availability;
    /// @notice Where curators' stakes are, which are taken with the member's; 0 for none.
    Curation public immutable curation;

    /// @notice Of what is taken, in basis points: what its reporter gets. Little, so that reporting oneself saves little.
    uint256 public constant REWARD = 1_000;

    mapping(bytes32 conviction => bool) private _convicted;

    constructor(Settlement settlement_, IVerdicts disputes_, IVerdicts availability_, Curation curation_) {
        settlement = settlement_;
        registry = settlement_.registry();
        task = settlement_.task();
        disputes = disputes_;
        availability = availability_;
        curation = curation_;
    }

    /// @notice What an offence costs, in basis points of the stake.
    function penalty(Offence offence) public pure returns (uint256) {
        if (offence == Offence.WithheldData) return 1_000;
        if (offence == Offence.DoubleVote || offence == Offence.DoubleProposal) return 10_000;
        return 5_000;
    }

    /// @notice Two votes of a validator in one view of one epoch, for different blocks. The sender is the reporter.
    /// @param members what follows task and epoch in the preimage of the epoch set's digest, which votes name.
    /// @param signatures compact, 96 bytes each.
    function doubleVote(
        uint256 id,
        uint64 epoch,
        bytes calldata members,
        uint64 view_,
        Ballot[2] calldata ballots,
        bytes[2] calldata signatures
    ) external {
        Registry.Member memory accused = _member(id, Registry.Role.Validator);
        if (ballots[0].block == ballots[1].block) revert NoConflict();
        bytes32 set = sha256(abi.encodePacked(_head("epoch-set"), Fields.number(epoch), members));
        BLS12381.G2 memory key = BLS12381.g2(DataContract.read(accused.key));
        for (uint256 index = 0; index < 2; ++index) {
            bytes32 digest = _voteDigest(set, view_, ballots[index]);
            if (!key.isSignature(digest, BLS12381.g1(signatures[index]))) revert NotSigned(id, digest);
        }
        _convict(id, Offence.DoubleVote, keccak256(abi.encode(set, view_)), msg.sender);
    }

    /// @notice Two blocks of one author in one view of one epoch. The sender is the reporter.
    /// @param bodies digests of what the blocks hold.
    /// @param signatures r || s || v, 65 bytes each, v 0 or 1.
    function doubleProposal(
        uint256 id,
        uint64 epoch,
        uint64 view_,
        uint64 author,
        bytes32[2] calldata bodies,
        bytes[2] calldata signatures
    ) external {
        Registry.Member memory accused = _member(id, Registry.Role.Validator);
        if (bodies[0] == bodies[1]) revert NoConflict();
        bytes memory head = abi.encodePacked(
            _head("block"), Fields.number(epoch), Fields.number(view_), Fields.number(author)
        );
        for (uint256 index = 0; index < 2; ++index) {
            _requireSigned(id, accused, sha256(abi.encodePacked(head, Fields.word(bodies[index]))), signatures[index]);
        }
        _convict(id, Offence.DoubleProposal, keccak256(abi.encode(epoch, view_, author)), msg.sender);
    }

    /// @notice Two reports of one trainer in one round, under the same terms. The sender is the reporter.
    /// @param rests what follows task, round, trainer and terms in the preimage of each report's digest.
    /// @param signatures as for `doubleProposal`.
    function doubleReport(
        uint256 id,
        uint64 round,
        bytes32 terms,
        bytes[2] calldata rests,
        bytes[2] calldata signatures
    ) external {
        Registry.Member memory accused = _member(id, Registry.Role.Trainer);
        if (keccak256(rests[0]) == keccak256(rests[1])) revert NoConflict();
        bytes memory head = abi.encodePacked(
            _head("report"), Fields.number(round), Fields.account(accused.account), Fields.word(terms)
        );
        for (uint256 index = 0; index < 2; ++index) {
            _requireSigned(id, accused, sha256(abi.encodePacked(head, rests[index])), signatures[index]);
        }
        _convict(id, Offence.DoubleReport, keccak256(abi.encode(round, terms)), msg.sender);
    }

    /// @notice A statement that the member signed and a court found false: a key sum, a receipt, a report. Whoever won the
    /// dispute is the reporter.
    /// @param signature as for `doubleProposal`.
    function falseStatement(uint256 id, bytes32 statement, bytes calldata signature) external {
        _convictBy(disputes, id, Offence.FalseStatement, statement, signature);
    }

    /// @notice A header that a validator voted for with its BLS key, alone, and that the court for disputes found false.
    /// Whoever won the dispute is the reporter.
    /// @param signature compact, 96 bytes.
    function falseHeader(uint256 id, bytes32 header, bytes calldata signature) external {
        Registry.Member memory accused = _member(id, Registry.Role.Validator);
        address reporter = _refuter(disputes, header);
        BLS12381.G2 memory key = BLS12381.g2(DataContract.read(accused.key));
        if (!key.isSignature(header, BLS12381.g1(signature))) revert NotSigned(id, header);
        _convict(id, Offence.FalseHeader, header, reporter);
    }

    /// @notice Data whose digest the member signed, and which nobody published in time after it was asked for. Whoever
    /// asked is the reporter.
    /// @param signature as for `doubleProposal`.
    function withheldData(uint256 id, bytes32 statement, bytes calldata signature) external {
        _convictBy(availability, id, Offence.WithheldData, statement, signature);
    }

    function _convictBy(IVerdicts court, uint256 id, Offence offence, bytes32 statement, bytes calldata signature)
        private
    {
        address reporter = _refuter(court, statement);
        _requireSigned(id, registry.member(id), statement, signature);
        _convict(id, offence, statement, reporter);
    }

    function _refuter(IVerdicts court, bytes32 statement) private view returns (address reporter) {
        if (address(court) != address(0)) reporter = court.refuter(statement);
        if (reporter == address(0)) revert NotRefuted(statement);
    }

    /// @dev Once for each matter: more evidence of the same deed costs nothing more.
    function _convict(uint256 id, Offence offence, bytes32 matter, address reporter) private {
        bytes32 conviction = keccak256(abi.encode(id, offence, matter));
        if (_convicted[conviction]) revert AlreadyConvicted(id, matter);
        _convicted[conviction] = true;
        emit Convicted(id, offence, matter, reporter);
        registry.slash(id, penalty(offence), REWARD, reporter);
        if (address(curation) != address(0)) curation.slash(id, penalty(offence), REWARD, reporter);
    }

    function _member(uint256 id, Registry.Role role) private view returns (Registry.Member memory accused) {
        accused = registry.member(id);
        if (accused.role != role) revert WrongRole(id, accused.role);
    }

    /// @dev What every digest of this task starts with: its tag and the task.
    function _head(string memory use) private view returns (bytes memory) {
        return abi.encodePacked(Fields.tag(use), Fields.word(task));
    }

    function _voteDigest(bytes32 set, uint64 view_, Ballot calldata ballot) private pure returns (bytes32) {
        return sha256(
            abi.encodePacked(
                abi.encodePacked(Fields.tag("vote"), Fields.word(set), Fields.number(view_)),
                abi.encodePacked(Fields.word(ballot.block), Fields.number(ballot.parentView), Fields.word(ballot.parent))
            )
        );
    }

    /// @dev OpenZeppelin's recovery refuses the second form of a signature, with s in the upper half.
    function _requireSigned(uint256 id, Registry.Member memory accused, bytes32 digest, bytes calldata signature)
        private
        pure
    {
        bool signed = signature.length == SIGNATURE_BYTES && uint8(signature[64]) < 2;
        if (signed) {
            (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecover(
                digest, uint8(signature[64]) + 27, bytes32(signature[:32]), bytes32(signature[32:64])
            );
            signed = failure == ECDSA.RecoverError.NoError && signer == accused.account;
        }
        if (!signed) revert NotSigned(id, digest);
    }
}
