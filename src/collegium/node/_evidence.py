"""What members of a task signed by themselves that can cost them their stakes: votes for headers, and charges.

A certificate is a sum of signatures and convicts nobody (docs/spec/settlement.md, section 5). So whoever gathers votes
for a header keeps each one: if a court finds the header false, they say whose word it was. A *charge* needs no court:
two things that exclude each other. All of it is public and verified by whoever uses it, whoever wrote it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from collegium.consensus import (
    BlockEquivocation,
    DoubleReport,
    EpochSet,
    EvidenceFound,
    HeaderVote,
    VoteEquivocation,
    decode_evidence,
    encode_evidence,
    verify_evidence,
)
from collegium.crypto import (
    ACCOUNT_SIGNATURE_BYTES,
    ADDRESS_BYTES,
    DIGEST_BYTES,
    BlsPublicKey,
    Digest,
    bisect_invalid,
    hash_fields,
    recover_address,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    SignedReport,
    double_proposal_call,
    double_report_call,
    double_vote_call,
    signed_report,
)

from ._json import decode_canonical

__all__ = [
    "CHARGES_MAX",
    "Accusation",
    "BadChargeError",
    "Charge",
    "Deed",
    "DeedKey",
    "EvidenceError",
    "NoStakeError",
    "RoundVotes",
    "RunEvidence",
    "accuse",
    "charge_of",
    "check_votes",
    "decode_run_evidence",
    "deed_of",
    "encode_run_evidence",
    "merge_evidence",
    "round_evidence_name",
    "votes_by_seat",
    "votes_of",
]

FORMAT: Final = "collegium/v1/evidence"
EVIDENCE_BYTES_MAX: Final = 64 << 20
CHARGES_MAX: Final = 1 << 12
REST_BYTES_MAX: Final = 1 << 16  # of a report's preimage behind its terms: 32 bytes a box are most of it
ROUND_BYTES: Final = 8
BLS_SIGNATURE_BYTES: Final = 48

DeedKey: TypeAlias = tuple[object, ...]
ChargeKind: TypeAlias = Literal["double vote", "double proposal", "double report"]


class EvidenceError(CollegiumError):
    """The file of a run's evidence is malformed, or holds what nobody signed."""


class BadChargeError(CollegiumError):
    """A charge convicts nobody: malformed, not signed, or of things that do not exclude each other."""


class NoStakeError(CollegiumError):
    """A charge convicts an account that has no stake in the task's registry."""


@dataclass(frozen=True)
class RoundVotes:
    """Votes of validators for a round's header, each one's own.

    Attributes:
        voters: their places in the round's epoch set, increasing.
        signatures: of the header's digest, 48 bytes a voter, in the same order.
    """

    round: int
    voters: tuple[int, ...]
    signatures: bytes

    def by_voter(self) -> dict[int, bytes]:
        """Return each voter's signature."""
        size = BLS_SIGNATURE_BYTES
        return {voter: self.signatures[place * size : (place + 1) * size] for place, voter in enumerate(self.voters)}


@dataclass(frozen=True)
class Charge:
    """What convicts one member by what it signed alone.

    Attributes:
        kind: what the member did.
        epoch: in which it did.
        parts: two votes or two blocks as the consensus writes them, in one; or two reports, each in one: round (8
            bytes, little endian), trainer, terms, signature, and what follows the terms in the preimage of its id.
    """

    kind: ChargeKind
    epoch: int
    parts: tuple[bytes, ...]


@dataclass(frozen=True)
class RunEvidence:
    """The file `evidence.json` of a run: votes round by round, and everything that members are charged with."""

    format: str
    votes: tuple[RoundVotes, ...]
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Deed:
    """What a charge that holds is about.

    Attributes:
        account: whom it convicts.
        key: the same for all charges of one deed, which costs a stake once.
        what: for a reader.
    """

    account: bytes
    key: DeedKey
    what: str


@dataclass(frozen=True, slots=True)
class Accusation:
    """A charge that holds, against a member of this number in the registry; the call is of the contract Slashing."""

    charge: Charge
    deed: Deed
    member: int
    call: bytes


def encode_run_evidence(votes: Sequence[RoundVotes], charges: Sequence[Charge]) -> bytes:
    """Return the canonical JSON of a run's evidence."""
    return msgspec.json.encode(RunEvidence(FORMAT, tuple(votes), tuple(charges)))


def decode_run_evidence(data: bytes) -> RunEvidence:
    """Decode a run's evidence strictly; nothing in it is verified yet.

    Raises:
        EvidenceError: too large, malformed, of another format or not canonical.
    """
    found = decode_canonical(data, RunEvidence, "evidence", EVIDENCE_BYTES_MAX, EvidenceError)
    if found.format != FORMAT:
        raise EvidenceError(f"evidence has format {found.format[:64]!a}, expected {FORMAT!r}", format=found.format)
    if [votes.round for votes in found.votes] != sorted({votes.round for votes in found.votes}):
        raise EvidenceError("votes are not in the order of rounds, each once")
    for votes in found.votes:
        if len(votes.signatures) != BLS_SIGNATURE_BYTES * len(votes.voters):
            raise EvidenceError(f"round {votes.round} has {len(votes.voters)} voters and other signatures")
        if votes.round < 0 or list(votes.voters) != sorted(set(votes.voters)) or min(votes.voters, default=0) < 0:
            raise EvidenceError(f"the voters of round {votes.round} are not in increasing order")
    if len(found.charges) > CHARGES_MAX:
        raise EvidenceError(f"{len(found.charges)} charges, expected at most {CHARGES_MAX}")
    return found


def votes_of(number: int, epoch_set: EpochSet, header: Digest, votes: Iterable[HeaderVote]) -> RoundVotes:
    """Return those of the votes that hold, one a validator."""
    keys = {index: BlsPublicKey(validator.bls_key) for index, validator in enumerate(epoch_set.validators)}
    said: dict[int, set[bytes]] = {}
    for vote in votes:
        if vote.header == header and vote.validator in keys and len(vote.signature) == BLS_SIGNATURE_BYTES:
            said.setdefault(vote.validator, set()).add(vote.signature)
    cast: dict[int, bytes] = {}
    while any(said.values()):  # of one validator one signature holds at most: whatever else is there is a lie's
        tried = {voter: signatures.pop() for voter, signatures in said.items() if signatures}
        bad = set(bisect_invalid(keys, header, tried))
        cast |= {voter: signature for voter, signature in tried.items() if voter not in bad}
        said = {voter: signatures for voter, signatures in said.items() if voter not in cast}
    voters = tuple(sorted(cast))
    return RoundVotes(number, voters, b"".join(cast[voter] for voter in voters))


def votes_by_seat(
    number: int, epoch_set: EpochSet, header: Digest, seats: Sequence[bytes], votes: Mapping[int, bytes]
) -> RoundVotes:
    """Return the votes that a proposer gathered, one a validator.

    Args:
        seats: the round's seats by their accounts.
        votes: a signature for each seat that voted.
    """
    places = {validator.account: place for place, validator in enumerate(epoch_set.validators)}
    by_voter = {places[seats[seat]]: signature for seat, signature in votes.items() if seats[seat] in places}
    cast = (HeaderVote(number, header, voter, signature) for voter, signature in by_voter.items())
    return votes_of(number, epoch_set, header, cast)


def round_evidence_name(header: Digest) -> Digest:
    """Return under which name a validator keeps what it knows of a round whose final header this is."""
    return hash_fields("round-evidence", header)


def merge_evidence(
    number: int, epoch_sets: Sequence[EpochSet], members: EpochSet, header: Digest, found: Iterable[RunEvidence]
) -> tuple[RoundVotes, dict[DeedKey, Charge]]:
    """Return everything that holds of what several validators kept of a round: votes, and charges by deed."""
    votes, charges = list[HeaderVote](), dict[DeedKey, Charge]()
    for evidence in found:
        for kept in evidence.votes:
            votes += [HeaderVote(number, header, voter, signature) for voter, signature in kept.by_voter().items()]
        for charge in evidence.charges:
            with suppress(CollegiumError):
                charges.setdefault(deed_of(charge, epoch_sets).key, charge)
    return votes_of(number, members, header, votes), charges


def check_votes(votes: RoundVotes, epoch_set: EpochSet, header: Digest) -> None:
    """Check that each of these votes is its validator's for this header.

    Raises:
        EvidenceError: one is not, or is of nobody in the set.
    """
    keys = {index: BlsPublicKey(validator.bls_key) for index, validator in enumerate(epoch_set.validators)}
    strangers = [voter for voter in votes.voters if voter not in keys]
    bad = strangers or bisect_invalid(keys, header, votes.by_voter())
    if bad:
        raise EvidenceError(f"validator {bad[0]} has not signed the header of round {votes.round}", voter=bad[0])


def charge_of(found: EvidenceFound, epoch_sets: Sequence[EpochSet]) -> Charge | None:
    """Return evidence as a charge; None where it convicts nobody of these sets, or only before a court.

    Args:
        epoch_sets: all that are known.
    """
    evidence = found.evidence
    if isinstance(evidence, DoubleReport):
        reports = (signed_report(evidence.first), signed_report(evidence.second))
        return Charge("double report", 0, tuple(_report_bytes(report) for report in reports))
    if not isinstance(evidence, BlockEquivocation | VoteEquivocation):
        return None
    for epoch_set in reversed(epoch_sets):
        try:
            verify_evidence(epoch_set, evidence)
        except CollegiumError:
            continue
        kind: ChargeKind = "double vote" if isinstance(evidence, VoteEquivocation) else "double proposal"
        return Charge(kind, epoch_set.epoch, (encode_evidence(evidence),))
    return None


def deed_of(charge: Charge, epoch_sets: Sequence[EpochSet]) -> Deed:
    """Return whom a charge convicts of what.

    Args:
        epoch_sets: of the task, from epoch 0 on.

    Raises:
        BadChargeError: nobody.
    """
    return _judge(charge, epoch_sets)[0]


def accuse(charge: Charge, epoch_sets: Sequence[EpochSet], numbers: Mapping[bytes, int]) -> Accusation:
    """Return how to say a charge to the contract that takes stakes.

    Args:
        epoch_sets: of the task, from epoch 0 on.
        numbers: in the chain's registry, by account.

    Raises:
        BadChargeError: it convicts nobody.
        NoStakeError: it convicts somebody without a stake.
    """
    deed, call = _judge(charge, epoch_sets)
    if deed.account not in numbers:
        raise NoStakeError(f"{deed.what}: account 0x{deed.account.hex()} has no stake", account=deed.account)
    member = numbers[deed.account]
    return Accusation(charge, deed, member, call(member))


def _judge(charge: Charge, epoch_sets: Sequence[EpochSet]) -> tuple[Deed, Callable[[int], bytes]]:
    """Verify a charge; return what it is about, and the call with it against a member of some number."""
    if charge.kind == "double report":
        return _judge_reports(charge, epoch_sets[0].task)
    if not 0 <= charge.epoch < len(epoch_sets) or len(charge.parts) != 1:
        raise BadChargeError(f"{charge.kind} of epoch {charge.epoch} in {len(charge.parts)} parts, expected one")
    epoch_set = epoch_sets[charge.epoch]
    try:
        evidence = decode_evidence(charge.parts[0])
        place = verify_evidence(epoch_set, evidence)
    except CollegiumError as error:
        raise BadChargeError(f"{charge.kind}: {error}") from error
    account, view = epoch_set.validator(place).account, evidence.first.view
    what = f"{charge.kind} of validator {place} in view {view} of epoch {charge.epoch}"
    deed = Deed(account, (charge.kind, charge.epoch, view, account), what)
    if isinstance(evidence, VoteEquivocation) != (charge.kind == "double vote"):
        raise BadChargeError(f"{type(evidence).__name__} is given as a {charge.kind}")
    if isinstance(evidence, BlockEquivocation):
        return deed, partial(double_proposal_call, evidence=evidence)
    if evidence.first.ballot.block == evidence.second.ballot.block:
        raise BadChargeError("two votes for one block that name different parents are not charged")
    return deed, partial(double_vote_call, epoch_set=epoch_set, evidence=evidence)


def _judge_reports(charge: Charge, task: Digest) -> tuple[Deed, Callable[[int], bytes]]:
    if len(charge.parts) != 2:
        raise BadChargeError(f"double report in {len(charge.parts)} parts, expected two")
    first, second = (_report_from(part) for part in charge.parts)
    places = {(report.round, report.trainer, report.terms) for report in (first, second)}
    if len(places) != 1 or first.rest == second.rest or charge.epoch:
        raise BadChargeError("two reports that do not exclude each other")
    for report in (first, second):
        try:
            signer = recover_address(report.id(task), report.signature)
        except CollegiumError as error:
            raise BadChargeError(f"double report: {error}") from error
        if signer != report.trainer:
            raise BadChargeError(f"a report of {report.trainer.hex()} is signed by {signer.hex()}")
    what = f"double report of trainer 0x{first.trainer.hex()} in round {first.round}"
    deed = Deed(first.trainer, (charge.kind, first.round, first.terms, first.trainer), what)
    return deed, partial(double_report_call, first=first, second=second)


def _report_bytes(report: SignedReport) -> bytes:
    head = report.round.to_bytes(ROUND_BYTES, "little") + report.trainer + report.terms
    return head + report.signature + report.rest


def _report_from(part: bytes) -> SignedReport:
    sizes = (ROUND_BYTES, ADDRESS_BYTES, DIGEST_BYTES, ACCOUNT_SIGNATURE_BYTES)
    head = sum(sizes)
    if not head < len(part) <= head + REST_BYTES_MAX:
        raise BadChargeError(f"a report of {len(part)} bytes, expected {head + 1} to {head + REST_BYTES_MAX}")
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    number, trainer, terms, signature = (part[at : at + size] for at, size in zip(starts, sizes, strict=True))
    return SignedReport(int.from_bytes(number, "little"), trainer, terms, signature, part[head:])
