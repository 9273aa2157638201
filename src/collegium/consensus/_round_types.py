"""What a learning round is made of: the agreed work, a validator's surroundings, messages, effects, and its state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from collegium.aggregation import KeyClaim, KeySum, Layout, Receipt, Report, RoundTerms, SeatColumns, Upload
from collegium.crypto import AccountKey, BlsSecretKey, Digest, Randomness, SealKey, ThresholdBeacon, hash_fields
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._epoch_change_records import NextEpoch
from ._order_state import EvidenceFound
from ._pay import Pay
from ._proof_evidence import Held, ProofReject
from ._quality import Quality
from ._records import Announcement, Certified, Close, Header, Registered
from ._registries import RegistryRoot

__all__ = [
    "OBJECT_BYTES_MAX",
    "Admitted",
    "Agreed",
    "EpochOver",
    "HeaderProposal",
    "HeaderVote",
    "IntArray",
    "KeepObject",
    "KeepSecret",
    "KeepUpload",
    "ObjectReply",
    "ObjectRequest",
    "Objects",
    "Outcomes",
    "PeerJoined",
    "Refused",
    "RegistrationScope",
    "Release",
    "ReleaseRecord",
    "ReportReply",
    "ReportRequest",
    "RoundAlarm",
    "RoundBroadcast",
    "RoundContext",
    "RoundEffect",
    "RoundFinished",
    "RoundMessage",
    "RoundPassed",
    "RoundSend",
    "RoundState",
    "RoundSubmit",
    "RoundTimer",
    "RoundTiming",
    "SeatReceipt",
    "Work",
    "sign_proposal",
    "sign_release",
]

IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

OBJECT_BYTES_MAX: Final = 64 << 20  # of a model or a registration that one validator sends another
RECORDS_SHARE: Final = 4  # a close waits for a round's records until such a part of the round's deadline has passed

# ------------------------------------------------------------------------------------------------ what is agreed on


@dataclass(frozen=True, slots=True)
class RegistrationScope:
    """What consensus needs to know of a registration.

    Attributes:
        rounds: which it has data roots for: one or more.
        previous: digest of the registration that it continues; None if it continues none.
        begins: the commitment that it shares with that one; None if it continues none.
        spare: the commitment that the next one must begin with.
    """

    rounds: range
    previous: Digest | None
    begins: Digest | None
    spare: Digest


class Agreed(Protocol):
    """The task's public work: the same on every machine, so anyone can redo it."""

    @property
    def task(self) -> Digest: ...

    @property
    def level(self) -> str: ...

    def layout(self, round_number: int) -> Layout:
        """Return where this round's entries stand and their bounds."""
        ...

    def step(self, round_number: int, model: bytes, total: IntArray) -> bytes:
        """Return the model state after adding `total`, a weighted sum of updates.

        Raises:
            CollegiumError: when the total is one that no admitted update can give.
        """
        ...

    def may_skip(self, round_number: int) -> bool:
        """Tell whether the task goes on if nobody's report enters this round; else the round waits for reports."""
        ...

    def proof_bytes_max(self, round_number: int) -> int:
        """Return the largest proof that a report of this round may carry; 0 where it must carry none."""
        ...

    def registration_bytes_max(self, round_number: int) -> int:
        """Return the largest registration that a report may refer to; 0 where proofs are about no registered data."""
        ...

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        """Return for which rounds a registration is, what it continues, and what continues it.

        Raises:
            CollegiumError: it is malformed, or for more or fewer rounds than the task says.
        """
        ...

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        """Verify what a trainer registered.

        Raises:
            CollegiumError: it does not verify.
        """
        ...

    def verify_proof(
        self,
        terms: RoundTerms,
        model: bytes,
        report: Report,
        ciphertext: npt.NDArray[np.uint64],
        proof: bytes,
        registration: bytes,
    ) -> KeyClaim | None:
        """Verify the proof of a report and return what it says about the key matrix; the caller checks that.

        None where the level's evidence makes no such claim: at `attested` the hardware's word covers the key matrix.

        `model` is the state that the round starts from, which `terms` name.

        Raises:
            CollegiumError: it does not verify.
        """
        ...


class Work(Protocol):
    """Runs a pure computation; one that shares results does it once for equal keys."""

    def once(self, key: Hashable, compute: Callable[[], T]) -> T: ...


class Objects(Protocol):
    """The driver's store of models and registrations."""

    def get(self, digest: Digest, /) -> bytes | None:
        """Return the bytes with this SHA-256, or None if they are not kept here."""
        ...


@dataclass(frozen=True, slots=True)
class RoundTiming:
    """Milliseconds a round waits for stragglers, counted on the validator's clock."""

    grace_ms: int = 20  # after the last missing piece arrived
    receipts_ms: int = 200  # between two receipts of one seat while reports arrive: each names all of them so far
    straggler_ms: int = 1_000  # after a quorum of trainers have reported: let in those that are nearly there
    deadline_ms: int = 60_000  # after the round began: close with what is there
    release_ms: int = 2_000  # after the close is final: open with the sums that are there
    turn_ms: int = 1_500  # between the proposer of the close and the next in line to propose the header
    keys_ms: int = 1_000  # a sealing key, or a record, that has been here so long is one that a close counts
    verify_ms: int = 1_000  # for the chosen to vouch for a proof, before everybody verifies it himself

    @property
    def records_ms(self) -> int:
        """After the round began: propose a close though records are awaited that have not come."""
        return self.deadline_ms // RECORDS_SHARE


@dataclass(frozen=True)
class RoundContext:
    """What does not change during an epoch.

    Attributes:
        cohort: account addresses of the task's registered trainers.
        cohort_min: how few trainers a sum may add.
        quorum: of how many trainers the reports suffice to close a round before its deadline: more than half, and
            `cohort_min` at least; None if all must be there.
        lying_max: how many seats of a close may lie without costing the sum.
        verifiers: how many validators the beacon chooses to verify each report's proof.
        objects: what others may ask for beside the present model and registrations.
        quality: how reports weigh by what they are worth; None where all weigh alike, but for their staleness.
        registries: what the round's header says of the registries of the task's chains.
        pay: how trainers earn what headers say; None where nothing is paid.
    """

    agreed: Agreed
    epoch_set: EpochSet
    index: int
    account: AccountKey
    voting_key: BlsSecretKey
    beacon: ThresholdBeacon
    cohort: frozenset[bytes]
    seats: int
    work: Work
    random: Randomness
    timing: RoundTiming = field(default_factory=RoundTiming)
    cohort_min: int = 4
    quorum: int | None = None
    lying_max: int = 1
    verifiers: int = 4
    objects: Objects = field(default_factory=dict[bytes, bytes])
    quality: Quality | None = None
    registries: Digest = bytes(32)
    pay: Pay | None = None

    @property
    def epoch(self) -> int:
        """The epoch whose validators these are."""
        return self.epoch_set.epoch


# ------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class SeatReceipt:
    """A seat's receipt, told to every validator; each names all that the ones before it named, and more."""

    round: int
    receipt: Receipt


@dataclass(frozen=True)
class Release:
    """What a validator gives out for one final close: its seats' key sums and its share of the next beacon, signed."""

    round: int
    validator: int
    close: Digest
    key_sums: tuple[KeySum, ...]
    beacon_share: bytes
    signature: bytes = b""

    def digest(self, task: Digest) -> Digest:
        """What the validator signs."""
        sums = b"".join(key_sum.digest + key_sum.signature for key_sum in self.key_sums)
        return hash_fields("release", task, self.round, self.validator, self.close, sums, self.beacon_share)


def sign_release(release: Release, task: Digest, account: AccountKey) -> Release:
    """Return the release with its validator's signature."""
    return replace(release, signature=account.sign(release.digest(task)))


@dataclass(frozen=True)
class HeaderProposal:
    """A proposer's opened result, with everything needed to check it, signed."""

    header: Header
    key_sums: tuple[KeySum, ...]
    proposer: int
    signature: bytes = b""

    def digest(self) -> Digest:
        """What the proposer signs; the key sums stand for themselves and are named by the header."""
        return hash_fields("proposal", self.header.task, self.header.round, self.proposer, self.header.digest)


def sign_proposal(proposal: HeaderProposal, account: AccountKey) -> HeaderProposal:
    """Return the proposal with its proposer's signature."""
    return replace(proposal, signature=account.sign(proposal.digest()))


@dataclass(frozen=True)
class HeaderVote:
    """The seats of one validator on a header: one BLS signature counts for each of its seats."""

    round: int
    header: Digest
    validator: int
    signature: bytes


@dataclass(frozen=True)
class ReportRequest:
    """Ask for admitted reports that never arrived here."""

    round: int
    validator: int
    reports: tuple[Digest, ...]


@dataclass(frozen=True)
class ReportReply:
    """An admitted report with its ciphertext; the columns stay with whom they were sealed to."""

    round: int
    report: Report
    ciphertext: bytes
    proof: bytes = b""
    registration: bytes = b""


@dataclass(frozen=True)
class ObjectRequest:
    """Ask for a model or for registrations by their SHA-256: what final blocks name and is not here."""

    validator: int
    digests: tuple[Digest, ...]


@dataclass(frozen=True)
class ObjectReply:
    """What was asked for; its digest says which it is, so nobody need trust who sent it."""

    data: bytes


RoundMessage = (
    Upload
    | SeatReceipt
    | ProofReject
    | Announcement
    | Release
    | HeaderProposal
    | HeaderVote
    | ReportRequest
    | ReportReply
    | ObjectRequest
    | ObjectReply
)
"""What travels between participants; `RoundAlarm` is what a validator says to itself."""


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """The transport has a new connection to this validator, which may have missed all that was said before."""

    index: int


# ------------------------------------------------------------------------------------------------ effects


@dataclass(frozen=True)
class RoundBroadcast:
    """Tell every validator, this one included."""

    message: RoundMessage


@dataclass(frozen=True)
class RoundSend:
    """Tell one validator."""

    to: int
    message: RoundMessage


@dataclass(frozen=True)
class ReleaseRecord:
    """Must be on disk before the release that follows it leaves: one close a round."""

    round: int
    close: Digest


@dataclass(frozen=True, eq=False)
class KeepSecret:
    """Must be on disk before the announcement of its public key leaves; needed until the round is over."""

    round: int
    secret: SealKey


@dataclass(frozen=True, eq=False)
class KeepUpload:
    """Must be on disk before the receipts that follow it leave; needed until the round is over.

    Attributes:
        copy: of one report's uploads; one with the same number is superseded. A second copy is kept where it had a box
            for an own seat that the first one had not.
        verified: what those receipts say of the proof.
    """

    round: int
    copy: int
    upload: Upload
    verified: bool


@dataclass(frozen=True)
class KeepObject:
    """A model, or what a trainer registered: needed as long as the present terms or a trainer's reports name it."""

    digest: Digest
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class RoundAlarm:
    """Look at the clock again; asked for with `RoundTimer`."""

    round: int


@dataclass(frozen=True)
class RoundTimer:
    """Give back `alarm` at `at_ms`."""

    alarm: RoundAlarm
    at_ms: int


@dataclass(frozen=True)
class RoundSubmit:
    """Have this payload ordered by the epoch set."""

    payload: bytes


@dataclass(frozen=True)
class Admitted:
    """This validator's seats issued receipts for a report."""

    round: int
    report: Digest


@dataclass(frozen=True)
class Refused:
    """A message that this validator will not act on, and the named reason."""

    round: int
    sender: str
    reason: CollegiumError


@dataclass(frozen=True)
class RoundFinished:
    """A header became final: the model that the next round starts from, and what is registered by then."""

    header: Header
    model: bytes
    registered: tuple[Registered, ...] = ()


@dataclass(frozen=True)
class RoundPassed:
    """A header became final and the next round has begun, but its model is not here: it is asked for."""

    header: Header
    registered: tuple[Registered, ...] = ()


@dataclass(frozen=True)
class EpochOver:
    """The epoch's last header became final: what the next epoch's first round starts from.

    Attributes:
        model: the one that the header names; None if it is not here.
        registrations: bytes of those `registered` that are here, by digest.
        withdrawn: trainers whose data may not be used any more.
        registries: what is known of the task's chains.
    """

    header: Header
    model: bytes | None
    registered: tuple[Registered, ...]
    registrations: Mapping[Digest, bytes]
    withdrawn: frozenset[bytes] = frozenset()
    registries: tuple[RegistryRoot, ...] = ()


RoundEffect = (
    RoundBroadcast
    | RoundSend
    | RoundTimer
    | RoundSubmit
    | ReleaseRecord
    | KeepSecret
    | KeepUpload
    | KeepObject
    | Admitted
    | Refused
    | EvidenceFound
    | RoundFinished
    | RoundPassed
    | EpochOver
)
Outcomes = tuple["RoundState", tuple[RoundEffect, ...]]

# ------------------------------------------------------------------------------------------------ state


@dataclass(frozen=True)
class RoundState:
    """What one validator knows of the current round. Mappings are never changed in place.

    Sizes: reports and columns are bounded by the cohort, receipts by seats x cohort, votes and releases by validators,
    what waits (`ahead`), what was `answered` and rejects by a quota for each sender.
    """

    DERIVED: ClassVar[Mapping[str, frozenset[str]]] = {"_held": frozenset({"reports", "fetched"})}  # see `_replace`

    terms: RoundTerms
    model: bytes
    began_ms: int
    secrets: Mapping[int, SealKey]  # by round; a round's key is dropped when its result is final
    reports: Mapping[bytes, Held] = field(default_factory=dict)  # by trainer: one report a round
    fetched: Mapping[Digest, Held] = field(default_factory=dict)  # by id: vouched for by others, not sent here
    columns: Mapping[tuple[Digest, int], SeatColumns] = field(default_factory=dict)  # by report and own seat
    receipts: Mapping[int, Receipt] = field(default_factory=dict)  # by seat: its last one
    said: Mapping[int, Receipt] = field(default_factory=dict)  # by own seat: the last one that was sent
    say_ms: int | None = None  # when to sign for what has come since; None if nothing waits
    arrived: Mapping[Digest, int] = field(default_factory=dict)  # when, by report
    verified: frozenset[Digest] = frozenset()  # reports whose proofs were verified here
    rejected: frozenset[Digest] = frozenset()  # reports whose proofs do not verify
    rejects: Mapping[Digest, Mapping[int, ProofReject]] = field(default_factory=dict)  # by report, then validator
    registered: Mapping[bytes, Registered] = field(default_factory=dict)  # by trainer: as final closes say
    registrations: Mapping[Digest, bytes] = field(default_factory=dict)  # of `registered`, and of reports that are here
    vetted: frozenset[Digest] = frozenset()  # registrations that were verified here
    announcements: Mapping[int, Announcement] = field(default_factory=dict)
    announced_ms: tuple[int, ...] = ()  # when they came, in that order
    changed_ms: int = 0
    look_ms: int | None = None  # when to look whether a complete round can be closed; None if that is not waited for
    likely: bytes = b""  # a close that was voted for here, encoded: what it adds is worth adding before it is final
    close: Close | None = None
    closed_ms: int = 0
    records: tuple[bytes, ...] = ()  # beside the round, final before the close
    proposer: int = 0  # of the close: the first in line to propose the header
    released: Mapping[int, Digest] = field(default_factory=dict)  # by round: what was written down
    releases: Mapping[int, Release] = field(default_factory=dict)
    asked: int = 0  # how many validators were asked for missing reports
    sought: Mapping[Digest, tuple[int, int]] = field(default_factory=dict)  # before the close: how often, when last
    answered: frozenset[tuple[int, Digest]] = frozenset()
    unknown: frozenset[tuple[int, Digest]] = frozenset()  # by whom: objects asked for that are not here
    joins: Mapping[int, int] = field(default_factory=dict)  # by validator: how often it came back in this round
    own: HeaderProposal | None = None  # this validator's
    laps: int = 0  # the lap in which this validator's next turn comes: turns go round until a header is final
    heard: Mapping[int, HeaderProposal] = field(default_factory=dict)  # by proposer: the last one that held
    held_up: Mapping[int, int] = field(default_factory=dict)  # by proposer: how many held, one a lap
    failed: Mapping[int, int] = field(default_factory=dict)  # by proposer: proposals that did not hold
    votes: Mapping[int, bytes] = field(default_factory=dict)  # by seat, on the own proposal
    early: Mapping[int, HeaderVote] = field(default_factory=dict)  # by validator: not for the own proposal, or not yet
    foreseen: Header | None = None  # what the close's proposer must propose, and was voted for already
    certified: Certified | None = None
    final: Certified | None = None  # final, but what is here does not suffice to follow it
    ahead: tuple[tuple[int | None, RoundMessage], ...] = ()  # cannot be judged yet
    kept: frozenset[Digest] = frozenset()  # reports whose uploads were written down before they could be judged
    lacks_model: bool = False  # rounds were passed: `model` is empty until the one that the terms name has arrived
    announced: bool = False
    sync_ms: int = 0  # when to ask for objects again
    sync_asked: int = 0  # how many validators were asked for objects
    sync_from: frozenset[int] = frozenset()  # who was asked for objects and has not sent wrong ones
    opened: NextEpoch | None = None  # this round is its epoch's last, or lags behind it, and what comes next is final
    over: bool = False  # this round's header is final, and it was its epoch's last
    paid: bytes | None = b""  # what all have earned before this round; None: the header before does not say it

    def seats_of(self, account: bytes) -> tuple[int, ...]:
        """Return the seats that the validator with this account holds in this round."""
        return tuple(i for i, seat in enumerate(self.terms.seats) if seat.validator == account)

    def own_seats(self, context: RoundContext) -> tuple[int, ...]:
        """Return the seats that this validator holds in this round."""
        return self.seats_of(context.epoch_set.validators[context.index].account)

    def sums_for(self, close: Digest) -> dict[int, KeySum]:
        """Return the key sums released for a close, by seat."""
        return {s.seat: s for r in self.releases.values() if r.close == close for s in r.key_sums}

    def held(self) -> Mapping[Digest, Held]:
        """Return every report that is here, by id."""
        return self._held

    @cached_property
    def _held(self) -> Mapping[Digest, Held]:
        return {**self.fetched, **{entry.report.id: entry for entry in self.reports.values()}}

    def admissible(self) -> Mapping[Digest, Held]:
        """Return every report that is here, but those whose proofs do not verify."""
        if not self.rejected:
            return self._held
        return {report: held for report, held in self._held.items() if report not in self.rejected}

    def with_verified(self, report: Report) -> RoundState:
        """Return the state that knows a report's proof and registration to have been verified here."""
        return replace(self, verified=self.verified | {report.id}, vetted=self.vetted | {report.registration})

    def failing(self) -> frozenset[bytes]:
        """Return the trainers that have sent a report whose proof does not verify, and no other that is here."""
        if not self.rejected:
            return frozenset()
        held, others = self.held(), {entry.report.trainer for entry in self.admissible().values()}
        return frozenset(held[report].report.trainer for report in self.rejected if report in held) - others

    def next_set(self, context: RoundContext) -> EpochSet:
        """Return the validators of the round after this one."""
        return context.epoch_set if self.opened is None else self.opened.epoch_set

    def known_keys(self) -> tuple[Announcement, ...]:
        """Return the sealing keys for the round after this one, as far as they are known here."""
        return tuple(self.announcements[validator] for validator in sorted(self.announcements))

    def next_keys(self) -> tuple[Announcement, ...]:
        """Return the sealing keys that the header must carry: the final close's, or the handover's."""
        if self.opened is not None:
            return self.opened.keys
        return () if self.close is None else self.close.announcements

    def missing(self) -> tuple[Digest, ...]:
        """Return the reports of the final close that are not here."""
        return () if self.close is None else self.lacking(self.close)

    def lacking(self, close: Close) -> tuple[Digest, ...]:
        """Return the reports of a close that are not here."""
        held = self.held()
        return tuple(report for report in close.reports if report not in held)
