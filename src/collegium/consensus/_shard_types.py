"""What a round of several shards is made of: surroundings, messages, and what one validator knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from collegium.aggregation import KeySum, Upload
from collegium.crypto import Digest, SealKey

from ._proof_evidence import ProofReject
from ._records import Announcement, Close, Header, Registered
from ._round_types import (
    ObjectReply,
    ObjectRequest,
    Release,
    ReportReply,
    ReportRequest,
    RoundContext,
    RoundEffect,
    RoundState,
    SeatReceipt,
)
from ._shard_records import ShardBatch, ShardResult, Standing
from ._shard_terms import ShardedTerms, ShardPlan, ShardPlanError

__all__ = [
    "BeaconWord",
    "CloseOffer",
    "InShard",
    "OwnShard",
    "RecordOffer",
    "ResultOffer",
    "ResultVote",
    "SaidAmongShards",
    "ShardBroadcast",
    "ShardContext",
    "ShardEffect",
    "ShardMessage",
    "ShardOutcomes",
    "ShardRelease",
    "ShardSend",
    "ShardedState",
    "Voucher",
    "round_said_in",
    "subject_of",
]


@dataclass(frozen=True)
class ShardContext:
    """What does not change during an epoch.

    Attributes:
        round: as for one committee; its cohort is everybody's, its seats one shard's.

    Raises:
        TooManyShardsError: a shard would have fewer trainers than a sum may add.
    """

    round: RoundContext
    plan: ShardPlan

    def __post_init__(self) -> None:
        self.plan.check_cohort(len(self.round.cohort), self.round.cohort_min)
        if self.round.quality is not None:
            raise ShardPlanError("rounds in shards weigh all reports alike: expected no weights by quality")

    @cached_property
    def in_shard(self) -> RoundContext:
        """The surroundings of a shard but for its cohort; its releases carry no share of the beacon."""
        return replace(self.round, seats=self.plan.seats, beacon=replace(self.round.beacon, share=None))


# ------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class CloseOffer:
    """A close that one of the shard's validators would have ordered, to the others: will you vouch for it?"""

    validator: int
    close: Close


@dataclass(frozen=True)
class Voucher:
    """The seats of one validator on a close: it keeps the rules, and leaves nothing out that I know of."""

    validator: int
    digest: Digest
    signature: bytes


@dataclass(frozen=True)
class ResultOffer:
    """An opened sum with everything needed to check it, to the others of the shard."""

    validator: int
    result: ShardResult
    key_sums: tuple[KeySum, ...]


@dataclass(frozen=True)
class ResultVote:
    """The seats of one validator on a shard's result."""

    validator: int
    digest: Digest
    signature: bytes


InShard = (
    Upload
    | SeatReceipt
    | ProofReject
    | Release
    | ReportRequest
    | ReportReply
    | ObjectRequest
    | ObjectReply
    | CloseOffer
    | Voucher
    | ResultOffer
    | ResultVote
)


@dataclass(frozen=True)
class ShardMessage:
    """What is said inside one shard, among those who hold seats of it."""

    round: int
    shard: int
    message: InShard


@dataclass(frozen=True)
class RecordOffer:
    """A payload that deserves a block: a vouched close, a certified result, or the merged header. To everybody."""

    round: int
    payload: bytes


@dataclass(frozen=True)
class BeaconWord:
    """A validator's share of the next beacon value, given when every shard of the round is over. To one merger."""

    round: int
    validator: int
    share: bytes


SaidAmongShards = ShardMessage | RecordOffer | BeaconWord | Announcement | ObjectRequest | ObjectReply


def round_said_in(message: SaidAmongShards | Upload) -> int:
    """Return the round that a message is for, -1 if it is for none: a key is announced in the round before its own."""
    match message:
        case Upload():
            return message.report.round
        case Announcement():
            return message.round - 1
        case ShardMessage() | RecordOffer() | BeaconWord():
            return message.round
        case _:
            return -1


def subject_of(message: SaidAmongShards | Upload) -> tuple[object, ...] | None:
    """Return what an honest validator says one thing of in a round, the last of which counts.

    None: it says this when it is asked, or a trainer says it.
    """
    match message:
        case ShardMessage():
            inside = _subject_in_shard(message.message)
            return None if inside is None else (message.shard, *inside)
        case RecordOffer():
            return RecordOffer, message.payload
        case Announcement() | BeaconWord():
            return (type(message),)
        case _:
            return None


def _subject_in_shard(message: InShard) -> tuple[object, ...] | None:
    match message:
        case SeatReceipt():
            return SeatReceipt, message.receipt.seat
        case ProofReject():
            return ProofReject, message.report
        case Voucher() | ResultVote():
            return type(message), message.digest
        case CloseOffer() | ResultOffer() | Release():
            return (type(message),)
        case _:
            return None


# ------------------------------------------------------------------------------------------------ effects


@dataclass(frozen=True)
class ShardBroadcast:
    """Tell every validator, this one included."""

    message: SaidAmongShards


@dataclass(frozen=True)
class ShardSend:
    """Tell one validator."""

    to: int
    message: SaidAmongShards


@dataclass(frozen=True)
class ShardRelease:
    """Must be on disk before the release that follows it leaves: one close a round and shard."""

    round: int
    shard: int
    close: Digest


ShardEffect = RoundEffect | ShardBroadcast | ShardSend | ShardRelease
ShardOutcomes = tuple["ShardedState", tuple[ShardEffect, ...]]

# ------------------------------------------------------------------------------------------------ state


@dataclass(frozen=True)
class OwnShard:
    """What a validator knows of a shard in which it holds seats. Mappings are never changed in place.

    Attributes:
        context: the surroundings, with this shard's cohort.
        members: the validators with seats, in the order of their turns.
        state: the round as the machine for one committee sees it, up to the releases.
        ready_ms: since when there has been a close worth offering.
        offer, offers: this validator's present one, and how many it has made.
        vouchers: by seat, for the own offer.
        waiting: the last close that each validator offered and that could not be vouched for yet.
        heard: how many closes each validator has offered.
        vouched: by whom offered, and the digests that this validator has vouched for.
        result: this validator's; None until it is its turn.
        votes: by seat, on the own result.
        judged: the last result offered by each validator that could not be judged yet.
        voted: validators for whose results this one has voted.
        failed: how many offered results did not hold, by validator.
        done: the own offer, then the own result, has its certificate.
        opened: totals that were opened here, by digest.
    """

    shard: int
    context: RoundContext
    members: tuple[int, ...]
    state: RoundState
    ready_ms: int | None = None
    offer: Close | None = None
    offers: int = 0
    vouchers: Mapping[int, bytes] = field(default_factory=dict)
    waiting: Mapping[int, Close] = field(default_factory=dict)
    heard: Mapping[int, int] = field(default_factory=dict)
    vouched: frozenset[tuple[int, Digest]] = frozenset()
    result: ShardResult | None = None
    votes: Mapping[int, bytes] = field(default_factory=dict)
    judged: Mapping[int, ResultOffer] = field(default_factory=dict)
    voted: frozenset[int] = frozenset()
    failed: Mapping[int, int] = field(default_factory=dict)
    done: bool = False
    opened: Mapping[Digest, bytes] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """This validator."""
        return self.context.index

    @property
    def place(self) -> int:
        """Whose turn it is: 0 for the first of the members."""
        return self.members.index(self.context.index)


@dataclass(frozen=True)
class ShardedState:
    """What one validator knows of the present round: much of its own shards, little of the others.

    Attributes:
        own: the shards in which it holds seats; none while the round's model is not here.
        standings: what is final about each shard.
        closed_ms: when each shard's close became final, on this validator's clock.
        done_ms: when the last shard was over; None while one is not.
        keys_due: sealing keys known by then: a header may not carry fewer.
        pending: vouched closes and certified results that wait for a block, by shard.
        pending_ms: when the first of them came.
        totals: opened sums of shards, by digest.
        words: shares of the next beacon, by validator.
        told: how many mergers have this validator's share.
        merge: the header over all shards that waits for a block.
        final: a final header whose model is not here.
        lacks_model: rounds were passed: `model` is empty until the one that the terms name has arrived.
        released: by round and shard, for which close: what was written down before this validator began again.
        ahead: what cannot be judged yet, with its sender.
        kept: reports whose uploads were written down before they could be judged.
        asked, answered: how many validators were asked for objects; what was given to whom.
        sync_ms, sought: when to ask again, and the objects that were asked for.
        joins: by validator: how often it came back in this round.
    """

    terms: ShardedTerms
    model: bytes
    began_ms: int
    secrets: Mapping[int, SealKey]
    own: Mapping[int, OwnShard]
    standings: tuple[Standing, ...]
    registered: Mapping[bytes, Registered] = field(default_factory=dict)
    announcements: Mapping[int, Announcement] = field(default_factory=dict)
    closed_ms: Mapping[int, int] = field(default_factory=dict)
    done_ms: int | None = None
    keys_due: int = 0
    pending: Mapping[int, ShardBatch] = field(default_factory=dict)
    pending_ms: int = 0
    totals: Mapping[Digest, bytes] = field(default_factory=dict)
    words: Mapping[int, BeaconWord] = field(default_factory=dict)
    told: int = 0
    merge: Header | None = None
    final: Header | None = None
    lacks_model: bool = False
    released: Mapping[tuple[int, int], Digest] = field(default_factory=dict)
    ahead: tuple[tuple[int | None, SaidAmongShards | Upload], ...] = ()
    kept: frozenset[Digest] = frozenset()
    asked: int = 0
    answered: frozenset[tuple[int, Digest]] = frozenset()
    sync_ms: int = 0
    sought: frozenset[Digest] = frozenset()
    joins: Mapping[int, int] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether the round can be merged here: every shard is over, its sum here, and the model that they move."""
        return self.over and not self.lacks_model and not self.lacking()

    @property
    def over(self) -> bool:
        """Whether every shard is over, so that the round waits for its header alone."""
        return all(standing.over for standing in self.standings)

    def lacking(self) -> tuple[tuple[int, Digest], ...]:
        """Return the shards whose opened sums are named in the order and not here, with the digests."""
        named = ((shard, standing.total) for shard, standing in enumerate(self.standings))
        return tuple((shard, total) for shard, total in named if total is not None and total not in self.totals)
