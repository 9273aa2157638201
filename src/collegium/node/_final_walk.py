"""All rounds of a task as they become final, one after the other: for whoever must miss none.

Blocks come from validators that need not be trusted: each block is the parent of the next, and certificates prove the
last one final.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from collegium.consensus import Block, Certified, Close, decode_payload
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
    """A walk over the final blocks of one epoch, from its genesis on."""

    client: ValidatorClient
    _tip: Digest | None = None  # the last block passed; None before the first one
    _close: Close | None = None
    _passed: int = 0  # rounds whose header was passed
    _waiting: deque[FinalRound] = field(default_factory=deque)  # passed, and not asked for yet
    _news: FinalHeader | None = None

    async def next_round(self) -> FinalRound:
        """Return the next round, waiting until it is final."""
        while not self._waiting:
            if not await self._advance():
                await self._wait()
        return self._waiting.popleft()

    async def _advance(self) -> bool:
        """Pass the blocks that somebody has after the tip; tell whether there were any."""
        tip = self.client.epoch_set.genesis() if self._tip is None else self._tip
        found = await patiently(lambda: self.client.blocks(tip))
        for block in found.blocks:
            self._pass(block)
        return bool(found.blocks)

    def _pass(self, block: Block) -> None:
        self._tip = block.digest
        if not block.payload:
            return
        payload = decode_payload(block.payload)
        number = payload.round if isinstance(payload, Close) else payload.header.round
        if number != self._passed or isinstance(payload, Close) == (self._close is not None):
            raise OutOfOrderError(f"block of view {block.view} orders round {number}, expected {self._passed}")
        if isinstance(payload, Close):
            self._close = payload
        elif self._close is not None:
            self._waiting.append(FinalRound(self._close, payload))
            self._passed, self._close = self._passed + 1, None

    async def _wait(self) -> None:
        """Wait for a header later than those passed, or for a while."""
        found = await patiently(lambda: self.client.latest(self._news, WAIT_S))
        self._news = found or self._news
