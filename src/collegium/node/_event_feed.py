"""What happens at a node, for whoever watches it live: the last events, and no more than these, whoever listens.

A listener is a place in the ring of kept events, so a slow one costs nothing: what it misses it is told in number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from ._gateway_problems import BusyError

__all__ = ["FINAL_EVENT", "EventFeed", "EventValue", "NodeEvent"]

FINAL_EVENT: Final = "round_final"  # a header is final, and who asks for the last one is told it from now on
EventValue: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One thing that happened; `number` counts from 1 since the process began.

    Of the event `lagged`, `missed` says how many were dropped before it, and its number is that of the last of them.
    """

    number: int
    name: str
    fields: Mapping[str, EventValue]


class EventFeed:
    """The last events of a node. Everything happens on the event loop's thread.

    Args:
        kept: how many events a listener may be behind.
        listeners_max: how many may listen at once.
    """

    def __init__(self, kept: int = 256, listeners_max: int = 32) -> None:
        self._events: deque[NodeEvent] = deque(maxlen=kept)
        self._count = 0
        self._listeners = 0
        self._listeners_max = listeners_max
        self._news = asyncio.Event()
        self._coming: dict[str, asyncio.Event] = {}
        self.closed = False

    @property
    def last(self) -> int:
        """Number of the last event; 0 before the first."""
        return self._count

    def publish(self, name: str, **fields: EventValue) -> None:
        """Tell every listener. Values are public: no key, no row, no update."""
        self._count += 1
        self._events.append(NodeEvent(self._count, name, fields))
        self._news.set()
        self._news = asyncio.Event()
        self._coming.pop(name, asyncio.Event()).set()

    def close(self) -> None:
        """Send everybody home who waits: nothing more will happen."""
        self.closed = True
        self._news.set()
        for event in self._coming.values():
            event.set()

    def coming(self, name: str) -> asyncio.Event:
        """Return what is set when the next event of this name is published."""
        return self._coming.setdefault(name, asyncio.Event())

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Count one listener while it listens.

        Raises:
            BusyError: too many listen already.
        """
        if self._listeners >= self._listeners_max:
            raise BusyError(
                f"{self._listeners} listeners, expected fewer than {self._listeners_max}", listeners=self._listeners
            )
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    async def next(self, after: int) -> NodeEvent | None:
        """Return the event after number `after` as soon as there is one; None when the feed is closed."""
        while after >= self._count:
            if self.closed:
                return None
            await self._news.wait()
        oldest = self._count - len(self._events)
        if after < oldest:
            return NodeEvent(oldest, "lagged", {"missed": oldest - after})
        return self._events[after - oldest]
