"""Whether a message is true: right signers, enough of them, good signatures. Needs the epoch set, never a state.

Used alike by a running replica and by an auditor years later.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._messages import (
    Block,
    QuorumCertificate,
    Timeout,
    TimeoutCertificate,
    ViewEntry,
    Vote,
    genesis_certificate,
    seats_of,
    timeout_digest,
)
from ._order_keys import EpochVerifier, Verifier
from ._order_state import BlockEquivocation, Evidence

__all__ = [
    "BadSignersError",
    "BadViewEntryError",
    "Electorate",
    "ForgedSignatureError",
    "NoConflictError",
    "NoQuorumError",
    "WrongEpochError",
    "WrongGenesisError",
    "WrongLeaderError",
    "check_block",
    "check_certificate",
    "check_timeout",
    "check_timeout_certificate",
    "check_view_entry",
    "check_vote",
    "entry_of",
    "verify_evidence",
]


class WrongEpochError(CollegiumError):
    """A block of another task or epoch."""


class WrongLeaderError(CollegiumError):
    """A block by somebody whose turn it was not."""


class WrongGenesisError(CollegiumError):
    """A certificate of view 0 that is not the genesis certificate."""


class BadSignersError(CollegiumError):
    """Signers outside the epoch set, a bitmap of the wrong length, or one signer counted twice."""


class NoQuorumError(CollegiumError):
    """Fewer signers than n - f."""


class ForgedSignatureError(CollegiumError):
    """A signature, single or aggregate, that its signers did not make on this."""


class BadViewEntryError(CollegiumError):
    """Certificates that do not let anybody into the view they are shown for."""


class NoConflictError(CollegiumError):
    """Evidence of nothing: the two messages are equal, or may both be signed by an honest validator."""


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who may sign, what the first parent is, and how signatures are checked."""

    epoch_set: EpochSet
    genesis: Digest
    verifier: Verifier


# ---------------------------------------------------------------------------------------------------- certificates


def _signers(electorate: Electorate, bitmap: bytes) -> tuple[int, ...]:
    """The seats of a bitmap of exactly this epoch set."""
    size = electorate.epoch_set.size
    if len(bitmap) != (size + 7) // 8:
        raise BadSignersError(f"bitmap of {len(bitmap)} bytes for {size} validators, expected {(size + 7) // 8}")
    seats = seats_of(bitmap)
    if seats and seats[-1] >= size:
        raise BadSignersError(f"signer {seats[-1]}, expected 0..{size - 1}", seat=seats[-1])
    return seats


def _check_quorum(electorate: Electorate, what: str, signers: int) -> None:
    quorum = electorate.epoch_set.quorum
    if signers < quorum:
        raise NoQuorumError(f"{what} by {signers} validators, expected at least {quorum}", signers=signers)


def check_certificate(electorate: Electorate, certificate: QuorumCertificate) -> None:
    """Return if a quorum of the epoch set signed the certificate's ballot, or it is the genesis certificate.

    Raises:
        WrongGenesisError, BadSignersError, NoQuorumError, ForgedSignatureError: see there.
    """
    if certificate.view == 0:
        if certificate != genesis_certificate(electorate.genesis):
            raise WrongGenesisError(f"certificate of view 0 names {certificate.block.hex()}, expected the genesis")
        return
    signers = _signers(electorate, certificate.signers)
    _check_quorum(electorate, f"certificate of view {certificate.view}", len(signers))
    digest = certificate.ballot.digest(electorate.epoch_set)
    if not electorate.verifier.aggregate_holds(signers, digest, certificate.signature):
        raise ForgedSignatureError(f"aggregate signature of the certificate of view {certificate.view} is bad")


def check_timeout_certificate(electorate: Electorate, certificate: TimeoutCertificate) -> None:
    """Return if a quorum gave up the certificate's view, each signer in exactly one group.

    Raises:
        BadSignersError, NoQuorumError, ForgedSignatureError: see there.
    """
    groups = [_signers(electorate, group.signers) for group in certificate.groups]
    everyone = [seat for seats in groups for seat in seats]
    if len(set(everyone)) != len(everyone) or not all(groups):
        raise BadSignersError(f"timeout certificate of view {certificate.view} has an empty group or a signer twice")
    _check_quorum(electorate, f"timeout certificate of view {certificate.view}", len(everyone))
    for seats, group in zip(groups, certificate.groups, strict=True):
        digest = timeout_digest(electorate.epoch_set, certificate.view, group.high_view)
        if not electorate.verifier.aggregate_holds(seats, digest, group.signature):
            raise ForgedSignatureError(
                f"aggregate signature of a timeout certificate of view {certificate.view} is bad", high=group.high_view
            )


def respects_timeouts(entry: ViewEntry) -> bool:
    """Whether the certificate shown is at least as high as any that the timed-out quorum reported.

    This is how a lock travels: whoever proposes after a view change must build on a block at least as high as every
    signer of the timeout certificate was locked on.
    """
    timeouts = entry.timeout_certificate
    return timeouts is None or timeouts.high_view <= entry.high_certificate.view


def check_view_entry(electorate: Electorate, entry: ViewEntry) -> None:
    """Return if the entry's certificates are good and let a validator into view `entry.view`.

    A timeout certificate is there only if it is needed: it is of a later view than the certificate.

    Raises:
        BadViewEntryError: it is not needed, or reports a higher certificate than the one shown.
        WrongGenesisError, BadSignersError, NoQuorumError, ForgedSignatureError: of one of the certificates.
    """
    timeouts = entry.timeout_certificate
    if timeouts is not None and timeouts.view <= entry.high_certificate.view:
        raise BadViewEntryError(
            f"timeout certificate of view {timeouts.view} beside a certificate of view {entry.high_certificate.view}"
        )
    if not respects_timeouts(entry):
        raise BadViewEntryError(
            f"certificate of view {entry.high_certificate.view}, but the timeouts report a higher one",
            shown=entry.high_certificate.view,
        )
    check_certificate(electorate, entry.high_certificate)
    if timeouts is not None:
        check_timeout_certificate(electorate, timeouts)


# -------------------------------------------------------------------------------------------------------- messages


def entry_of(block: Block) -> ViewEntry:
    """Why the block's leader was in its view."""
    return ViewEntry(block.parent_certificate, block.timeout_certificate)


def check_block(electorate: Electorate, block: Block) -> None:
    """Return if the block is its view's leader's, signed, on a certified parent that respects all timeouts.

    Raises:
        WrongEpochError, WrongLeaderError, BadViewEntryError, ForgedSignatureError: see there.
        WrongGenesisError, BadSignersError, NoQuorumError: of one of its certificates.
    """
    epoch_set = electorate.epoch_set
    if (block.task, block.epoch) != (epoch_set.task, epoch_set.epoch):
        raise WrongEpochError(f"block of task {block.task.hex()[:8]} epoch {block.epoch}, expected {epoch_set.epoch}")
    leader = epoch_set.leader(block.view)
    if block.author != leader:
        raise WrongLeaderError(f"block of view {block.view} by {block.author}, expected {leader}", author=block.author)
    if entry_of(block).view != block.view:
        raise BadViewEntryError(f"block of view {block.view}, its certificates lead into {entry_of(block).view}")
    if not electorate.verifier.block_holds(block.author, block.digest, block.signature):
        raise ForgedSignatureError(f"block of view {block.view} is not signed by its author", author=block.author)
    check_view_entry(electorate, entry_of(block))


def check_vote(electorate: Electorate, vote: Vote) -> None:
    """Return if the voter is a validator and signed the ballot.

    Raises:
        UnknownValidatorError, ForgedSignatureError: see there.
    """
    electorate.epoch_set.validator(vote.voter)
    if not electorate.verifier.vote_holds(vote.voter, vote.ballot.digest(electorate.epoch_set), vote.signature):
        raise ForgedSignatureError(f"vote of view {vote.view} is not signed by {vote.voter}", voter=vote.voter)


def check_timeout(electorate: Electorate, timeout: Timeout) -> None:
    """Return if the author is a validator, was rightly in the view it gives up, and signed view and high view.

    Raises:
        UnknownValidatorError, BadViewEntryError, ForgedSignatureError: see there.
        WrongGenesisError, BadSignersError, NoQuorumError: of one of its certificates.
    """
    electorate.epoch_set.validator(timeout.author)
    if timeout.entry.view != timeout.view:
        raise BadViewEntryError(f"timeout of view {timeout.view}, its certificates lead into {timeout.entry.view}")
    digest = timeout_digest(electorate.epoch_set, timeout.view, timeout.high_view)
    if not electorate.verifier.vote_holds(timeout.author, digest, timeout.signature):
        raise ForgedSignatureError(f"timeout of view {timeout.view} is not signed by {timeout.author}")
    check_view_entry(electorate, timeout.entry)


# -------------------------------------------------------------------------------------------------------- evidence


def verify_evidence(epoch_set: EpochSet, evidence: Evidence, verifier: Verifier | None = None) -> int:
    """The index of the validator that this evidence convicts; needs nothing but the epoch set.

    Raises:
        NoConflictError: equal messages, or of different views or signers.
        WrongEpochError: blocks of another task or epoch.
        UnknownValidatorError, ForgedSignatureError: of either message.
    """
    holds = verifier or EpochVerifier(epoch_set)
    if isinstance(evidence, BlockEquivocation):
        blocks = (evidence.first, evidence.second)
        culprits = {(h.view, h.author) for h in blocks}
        if any((h.task, h.epoch) != (epoch_set.task, epoch_set.epoch) for h in blocks):
            raise WrongEpochError(f"blocks are not of epoch {epoch_set.epoch} of this task")
        signed = [(partial(holds.block_holds, h.author), h.digest, h.signature) for h in blocks]
    else:
        votes = (evidence.first, evidence.second)
        culprits = {(v.view, v.voter) for v in votes}
        signed = [(partial(holds.vote_holds, v.voter), v.ballot.digest(epoch_set), v.signature) for v in votes]
    if len(culprits) != 1 or signed[0][1] == signed[1][1]:
        raise NoConflictError(f"two messages of {sorted(culprits)} (view, signer) do not exclude each other")
    culprit = culprits.pop()[1]
    epoch_set.validator(culprit)
    for good, digest, signature in signed:
        if not good(digest, signature):
            raise ForgedSignatureError(f"a message of the evidence is not signed by {culprit}", culprit=culprit)
    return culprit
