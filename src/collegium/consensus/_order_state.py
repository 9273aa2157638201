"""What a replica knows, what it is told, and what it wants done: the values that `step` turns into one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._messages import Block, Message, QuorumCertificate, Relay, SignedHeader, Timeout, ViewEntry, Vote
from ._order_keys import Signer, Verifier
from ._proof_evidence import DoubleReport, ProofEvidence

__all__ = [
    "Application",
    "Archive",
    "BlockEquivocation",
    "Broadcast",
    "Committed",
    "Context",
    "Effect",
    "Evidence",
    "EvidenceFound",
    "FinalBlock",
    "Ignored",
    "Input",
    "Persist",
    "ReplicaState",
    "Send",
    "SetTimer",
    "Store",
    "Submit",
    "Tick",
    "Timer",
    "VoteEquivocation",
    "VoteState",
]

VIEWS_AHEAD_MAX: Final = 64
VIEWS_BEHIND_MAX: Final = 64
PENDING_BYTES_MAX: Final = 64 << 20
RELAYED_PER_MEMBER_MAX: Final = 8
BACKOFF_EXPONENT_MAX: Final = 8
RESPONSE_BYTES_SOFT_MAX: Final = 4 << 20


# ------------------------------------------------------------------------------------------------ who is listening


class Application(Protocol):
    """What is being ordered. Both answers must be functions of what was committed, the ancestors and nothing newer.

    `ancestors` are the non-empty payloads between the application's last committed one and the block in question,
    oldest first. The driver hands every `Committed` effect to the application before the next `step`.
    """

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        """Whether `payload` may follow `ancestors`; False, never an exception, on garbage."""
        ...

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        """What this validator would propose after `ancestors`; None for nothing."""
        ...


class Archive(Protocol):
    """The driver's store of committed blocks."""

    def after(self, block: Digest, count: int) -> Sequence[Block]:
        """Up to `count` committed blocks that follow `block` (or the genesis), oldest first; none if it is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What stays the same from step to step.

    Args:
        epoch_set: who takes part.
        genesis: what the first block names as its parent, e.g. `epoch_set.genesis()`.
        index: this validator.
        signer, verifier: its keys; everybody's keys.
        application, archive: see there.
        timeout_base_ms: how long a view may take when the network is well: at least five one-way delays.
    """

    epoch_set: EpochSet
    genesis: Digest
    index: int
    signer: Signer
    verifier: Verifier
    application: Application
    archive: Archive
    timeout_base_ms: int


# ------------------------------------------------------------------------------------------------------- the state


@dataclass(frozen=True, slots=True)
class VoteState:
    """What a replica must never forget: it is on disk before anything is sent.

    Attributes:
        voted_view: the last view it voted in.
        timeout_view: the last view it gave up.
        proposed_view: the last view it proposed in.
        entry: its highest certificate (the lock: every timeout reports it) and, where the preceding view was given
            up, the timeout certificate that let it into its present view.
        timeout: the very message it gave up `timeout_view` with, to send again.
    """

    voted_view: int
    timeout_view: int
    proposed_view: int
    entry: ViewEntry
    timeout: Timeout | None


@dataclass(frozen=True, slots=True)
class FinalBlock:
    """The last block of the agreed order: its digest and view; the genesis has view 0."""

    digest: Digest
    view: int


@dataclass(frozen=True)  # no slots: a copy is made in every step, and `_replace` copies a dictionary at once
class ReplicaState:
    """Everything a replica knows. All but `vote_state` may be lost in a crash without harm to safety.

    Attributes:
        vote_state: what must survive.
        final: the last committed block.
        blocks: blocks above `final`, every one with all its ancestors down to `final`.
        headers: the first header seen of each recent view, to recognise a second one.
        votes: by view, then voter; of recent views.
        timeouts: by author; of the present view.
        accused: (view, validator) pairs already reported.
        waiting: the latest proposal whose parent is not known yet.
        pool: payloads that wait to be proposed.
        deadline_ms: when the present view times out; None while there is nothing to do.
        requests: how many times blocks were asked for, to ask somebody else each time.
        vote: the last one since this replica began, to say again.
    """

    vote_state: VoteState
    final: FinalBlock
    blocks: Mapping[Digest, Block] = field(default_factory=dict)
    headers: Mapping[int, SignedHeader] = field(default_factory=dict)
    votes: Mapping[int, Mapping[int, Vote]] = field(default_factory=dict)
    timeouts: Mapping[int, Timeout] = field(default_factory=dict)
    accused: frozenset[tuple[int, int]] = frozenset()
    waiting: Block | None = None
    pool: tuple[Relay, ...] = ()
    deadline_ms: int | None = None
    requests: int = 0
    vote: Vote | None = None

    @property
    def view(self) -> int:
        """The present view: one more than the last that is known to have been certified or given up."""
        return self.vote_state.entry.view

    @property
    def high(self) -> QuorumCertificate:
        """The highest certificate known."""
        return self.vote_state.entry.high_certificate

    @property
    def high_block_known(self) -> bool:
        """Whether the block that the highest certificate is about, hence its whole chain, is here."""
        return self.high.block in self.blocks or self.high.block == self.final.digest

    def path(self, tip: Digest) -> tuple[Block, ...]:
        """The blocks after the final one up to `tip`, oldest first; empty if `tip` is final or unknown."""
        path = []
        while tip in self.blocks:
            path.append(self.blocks[tip])
            tip = self.blocks[tip].parent
        return tuple(reversed(path))


# ------------------------------------------------------------------------------------------------- what it is told


@dataclass(frozen=True, slots=True)
class Timer:
    """The alarm set by `SetTimer` for `view`. Early, late and repeated alarms are harmless."""

    view: int


@dataclass(frozen=True, slots=True)
class Submit:
    """This validator's own client wants `payload` ordered; it is relayed to every leader."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """Look again: the application may have something to propose now. Also the first message after a restart."""


Input = Message | Timer | Submit | Tick


# ----------------------------------------------------------------------------------------------------- misbehaviour


@dataclass(frozen=True, slots=True)
class BlockEquivocation:
    """Two different blocks of one view, both signed by its leader."""

    first: SignedHeader
    second: SignedHeader


@dataclass(frozen=True, slots=True)
class VoteEquivocation:
    """Two different votes of one validator in one view."""

    first: Vote
    second: Vote


Evidence = BlockEquivocation | VoteEquivocation


# ------------------------------------------------------------------------------------------------ what it wants done


@dataclass(frozen=True, slots=True)
class Store:
    """Write this block to disk: it may be voted for next. Needed until it is committed or falls behind the order."""

    block: Block


@dataclass(frozen=True, slots=True)
class Persist:
    """Write this to disk, and only then carry out the effects that follow."""

    vote_state: VoteState


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other validator."""

    message: Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator."""

    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give back `Timer(view)` at `at_ms`; it replaces any earlier alarm."""

    view: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Committed:
    """`block` is final, next in the order.

    `certificate_chain` proves it to anybody (`verify_final`): the first certifies the block, each next one a child,
    the last two are of contiguous views.
    """

    block: Block
    certificate_chain: tuple[QuorumCertificate, ...]


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """Somebody signed two things that exclude each other, or one that is false."""

    evidence: Evidence | ProofEvidence | DoubleReport


@dataclass(frozen=True, slots=True)
class Ignored:
    """The message had no effect, for this reason. Drivers count these against the peer."""

    reason: CollegiumError


Effect = Store | Persist | Broadcast | Send | SetTimer | Committed | EvidenceFound | Ignored
