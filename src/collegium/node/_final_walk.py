"""All rounds of a task as they become final, one after the other: for whoever must miss none.

Blocks come from validators that need not be trusted: `OrderWalk` believes what proves them, from epoch to epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ._client import DisagreementError, FinalHeader, NobodyAnsweredError, ValidatorClient
from ._client_line import GatewayAnswerError, GatewayRefusedError, GatewayUnreachableError
from ._epochs import FinalRound, OrderWalk

__all__ = ["FinalWalk", "Pause", "next_header", "patiently", "round_after"]

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


@dataclass(slots=True)
class Pause:
    """A pause before something is tried again: twice as long each time, up to a bound."""

    next_s: float
    most_s: float

    async def wait(self) -> None:
        """Let it pass."""
        await asyncio.sleep(self.next_s)
        self.next_s = min(2 * self.next_s, self.most_s)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what validators answer; while nobody does, or they disagree, wait longer and longer and ask again."""
    pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
    while True:
        try:
            return await ask()
        except UNANSWERED:
            await pause.wait()


def round_after(header: FinalHeader | None) -> int:
    """Return the round that a final header opens; 0 where there is none yet."""
    return 0 if header is None else header.certified.header.round + 1


async def next_header(
    client: ValidatorClient, header: FinalHeader | None, meanwhile: Coroutine[object, object, None]
) -> FinalHeader:
    """Return a final header after this one, and do something until there is one."""
    doing = asyncio.ensure_future(meanwhile)
    try:
        found = None
        while found is None:
            found = await patiently(lambda: client.latest(header, WAIT_S))
    finally:
        doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing
    return found


@dataclass(eq=False)
class FinalWalk:
    """A walk over a task's final blocks, from its genesis on; what it learns of epochs its client knows, too."""

    client: ValidatorClient
    order: OrderWalk = field(init=False)
    _waiting: deque[FinalRound] = field(default_factory=deque)  # passed, and not asked for yet
    _news: FinalHeader | None = None

    def __post_init__(self) -> None:
        self.order = OrderWalk(self.client.epochs)

    async def next_round(self) -> FinalRound:
        """Return the next round, waiting until it is final."""
        while not self._waiting:
            if not await self._advance():
                await self._wait()
        return self._waiting.popleft()

    async def at_hand(self) -> FinalRound | None:
        """Return the next round if it is final by now, without waiting for it."""
        while not self._waiting:
            if not await self._advance():
                return None
        return self._waiting.popleft()

    async def _advance(self) -> bool:
        """Pass the blocks that somebody has after the tip; tell whether there were any."""
        order = self.order
        found = await patiently(lambda: self.client.blocks(order.tip, epoch=order.epoch.epoch))
        self._waiting += order.take(found.blocks, found.certificates)
        return bool(found.blocks)

    async def _wait(self) -> None:
        """Wait for a header later than those passed, or for a while."""
        found = await patiently(lambda: self.client.latest(self._news, WAIT_S))
        self._news = found or self._news
