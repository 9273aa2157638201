"""All rounds of a task as they become final, one after the other: for whoever must miss none.

Blocks come from validators that need not be trusted: each block is the parent of the next, and certificates prove the
last one final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from collegium.consensus import Block, Certified, Close, QuorumCertificate, decode_payload
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._client import DisagreementError, FinalHeader, NobodyAnsweredError, ValidatorClient
from ._client_line import GatewayAnswerError, GatewayRefusedError, GatewayUnreachableError

__all__ = ["FinalRound", "FinalWalk", "OutOfOrderError", "patiently"]

T = TypeVar("T")
PAUSE_S_FIRST: Final = 0.5
PAUSE_S_MAX: Final = 3.0
UNANSWERED: Final = (
    NobodyAnsweredError,
    DisagreementError,
    GatewayUnreachableError,
    GatewayRefusedError,
    GatewayAnswerError,
)
WAIT_S: Final = 15.0  # that one question for news stays open


class OutOfOrderError(CollegiumError):
    """Final blocks order rounds in a way that no quorum would."""


@dataclass(frozen=True, slots=True)
class FinalRound:
    """A round as ordered: what it adds, and its certified header."""

    close: Close
    certified: Certified


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what validators answer; while nobody does, or they disagree, wait longer and longer and ask again."""
    pause_s = PAUSE_S_FIRST
    while True:
        try:
            return await ask()
        except UNANSWERED:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)


@dataclass(eq=False)
class FinalWalk:
    """A walk over the final blocks of one epoch, from its genesis on; it keeps what it has passed.

    Attributes:
        blocks: passed so far, oldest first; `certificates` prove the last of them final.
    """

    client: ValidatorClient
    blocks: list[Block] = field(default_factory=list)
    certificates: tuple[QuorumCertificate, ...] = ()
    _close: Close | None = None
    _rounds: list[FinalRound] = field(default_factory=list)
    _taken: int = 0
    _news: FinalHeader | None = None

    @property
    def tip(self) -> Digest:
        """The last block passed, or the genesis."""
        return self.blocks[-1].digest if self.blocks else self.client.epoch_set.genesis()

    async def next_round(self) -> FinalRound:
        """Return the next round, waiting until it is final."""
        while self._taken == len(self._rounds):
            if not await self._advance():
                await self._wait()
        self._taken += 1
        return self._rounds[self._taken - 1]

    async def rounds(self, count: int) -> list[FinalRound]:
        """Return the first `count` rounds, which are final already or are waited for."""
        return [await self.next_round() for _ in range(count)]

    async def _advance(self) -> bool:
        """Pass the blocks that somebody has after the tip; tell whether there were any."""
        found = await patiently(lambda: self.client.blocks(self.tip))
        for block in found.blocks:
            self._pass(block)
        if found.blocks:
            self.certificates = found.certificates
        return bool(found.blocks)

    def _pass(self, block: Block) -> None:
        self.blocks.append(block)
        if not block.payload:
            return
        payload = decode_payload(block.payload)
        number = payload.round if isinstance(payload, Close) else payload.header.round
        if number != len(self._rounds) or isinstance(payload, Close) == (self._close is not None):
            raise OutOfOrderError(f"block of view {block.view} orders round {number}, expected {len(self._rounds)}")
        if isinstance(payload, Close):
            self._close = payload
        elif self._close is not None:
            self._rounds.append(FinalRound(self._close, payload))
            self._close = None

    async def _wait(self) -> None:
        """Wait for a header later than those passed, or for a while."""
        found = await patiently(lambda: self.client.latest(self._news, WAIT_S))
        self._news = found or self._news
