"""What a validator's gateway asks the validator behind it.

The gateway speaks HTTP and keeps half-finished uploads; it decides nothing. Whoever runs the validator implements
`Desk`, and answers on the event loop's thread: what needs the state machine or the disk is awaited. An answer that
takes too long is not waited for: its coroutine is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

from collegium.aggregation import RING_DIMENSION, Upload
from collegium.consensus import (
    Agreed,
    Block,
    Committed,
    HandoverProof,
    QuorumCertificate,
    Registered,
    RoundRecord,
    upload_bytes_max,
)
from collegium.crypto import Digest

__all__ = ["Desk", "FinalBlocks", "Outcome", "Passed", "Readiness", "Verdict", "as_many_as_fit", "upload_lengths"]

Outcome = Literal["admitted", "kept", "refused", "too-early", "too-late"]


@dataclass(frozen=True, slots=True)
class FinalBlocks:
    """Blocks one after the other, and the certificates that prove the last one final, and with it all."""

    blocks: tuple[Block, ...]
    certificates: tuple[QuorumCertificate, ...]

    @classmethod
    def of(
        cls, found: Sequence[Block], bytes_max: int, proof: Callable[[Digest], tuple[QuorumCertificate, ...]]
    ) -> FinalBlocks:
        """Return as many of these as fit, one at least if there is one, with what `proof` says of the last one."""
        blocks = as_many_as_fit(found, bytes_max)
        return cls(blocks, proof(blocks[-1].digest) if blocks else ())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a validator says of an upload that has arrived whole, or of a steward's record.

    Attributes:
        outcome: `admitted`: checked, and on disk here. `kept`: of the round after the present one, on disk here, to be
            checked when that begins. `refused`: for `reason`. `too-early`: not taken yet, ask again. `too-late`: its
            round is over here. A record is held in memory until it is in a final block, and on no disk before.
        reason: name of the error that refused it; empty where nothing was refused.
        detail: the error's text.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a validator takes part in the present round.

    Attributes:
        round: the round it is in.
        connected: members of the epoch set that it is connected to, itself included.
        quorum: how many of them make a quorum.
        current: it knows of no final header that it has not followed.
        epoch: the epoch that it is in.
        back_at: it has no place in this epoch's set: it follows, and may have one again from this round on, the first
            of the next epoch if nothing puts the change off. None for a member.
    """

    round: int
    connected: int
    quorum: int
    current: bool
    epoch: int = 0
    back_at: int | None = None

    @property
    def ready(self) -> bool:
        """A member, in the present round, and connected to a quorum."""
        return self.current and self.connected >= self.quorum and self.back_at is None


@dataclass(frozen=True, slots=True)
class Passed:
    """The round after one that is final here is of the same epoch."""


class Desk(Protocol):
    """The validator as its gateway sees it. What is not awaited is asked often and answers at once."""

    @property
    def task(self) -> Digest: ...

    @property
    def index(self) -> int: ...

    def open_rounds(self) -> Mapping[int, range]:
        """Return the rounds that uploads may be for now, each with the lengths that one can have (`upload_lengths`).

        The present round, and the one after it: a trainer may be a step ahead of this validator.
        """
        ...

    def cohort(self) -> frozenset[bytes]:
        """Return the account addresses of the task's registered trainers."""
        ...

    def stewards(self) -> frozenset[bytes]:
        """Return the account addresses of the task's stewards; none where trainers are not measured."""
        ...

    def record_lengths(self) -> range:
        """Return the lengths that a steward's record of this task can have, in bytes; none without stewards."""
        ...

    def readiness(self) -> Readiness:
        """Return how this validator stands."""
        ...

    async def bring(self, record: RoundRecord) -> Verdict:
        """Hand a steward's record to the order and return what became of it, as `submit` does."""
        ...

    async def submit(self, upload: Upload) -> Verdict:
        """Hand an upload to the round and return what became of it; awaits while the validator has too much to do.

        `admitted` and `kept` only when it is on disk: the gateway then forgets it. The same upload may come again.
        """
        ...

    async def withdraw(self, record: bytes) -> None:
        """Have a withdrawal of consent ordered, unless it takes nobody out who is in the cohort.

        Raises:
            CollegiumError: it is not the holder's of a licence that the task names.
        """
        ...

    async def final_header(self) -> Committed | None:
        """Return the block of the last final header with the certificates that prove it; None before the first one."""
        ...

    async def blocks_after(
        self, block: Digest, count: int, bytes_max: int, epoch: int | None = None
    ) -> FinalBlocks | None:
        """Return up to `count` final blocks after `block` (or the epoch's genesis), oldest first; None if unknown.

        Args:
            bytes_max: of their payloads together; one block comes whatever its size.
            epoch: whose blocks; None: the present one's.
        """
        ...

    async def handover(self, epoch: int, number: int | None) -> HandoverProof | Passed | None:
        """Return the handover that ended an epoch, with its proof; `Passed` if the epoch goes on after round `number`.

        None if neither is known here.
        """
        ...

    async def handover_signature(self, epoch: int) -> bytes | None:
        """Return this validator's signature, for the base chain, of what follows on an epoch; None if it has none."""
        ...

    async def object(self, digest: Digest) -> bytes | None:
        """Return what has this SHA-256: model, registration, report, ciphertext, proof or key sum; None if unknown."""
        ...

    async def object_named(self, identity: Digest) -> Digest | None:
        """Return the SHA-256 of the object that is the report or key sum of this identity; None if unknown."""
        ...

    async def registered(self, trainer: bytes) -> Registered | None:
        """Return what final closes say that this trainer has registered last."""
        ...

    async def checkpoint_signature(self, last_round: int) -> bytes | None:
        """Return this validator's signature of the checkpoint that ends with a round; None where none is due yet."""
        ...


def as_many_as_fit(blocks: Sequence[Block], bytes_max: int) -> tuple[Block, ...]:
    """Return the first of these blocks whose payloads together are not longer; one at least if there is one."""
    totals = accumulate(len(block.payload) for block in blocks)
    return tuple(blocks[: max(1, sum(1 for total in totals if total <= bytes_max))])


def upload_lengths(agreed: Agreed, round_number: int, seats: int) -> range:
    """Return which lengths in bytes an upload of this round can have: from its ciphertext alone to all it may carry."""
    ciphertext = 8 * RING_DIMENSION * agreed.layout(round_number).blocks
    return range(ciphertext, upload_bytes_max(agreed, round_number, seats) + 1)
