"""A validator's state machine in a process: a bounded mailbox before it, one thread under it, sockets after it.

The event loop does what waits (sockets, timers); the thread does what computes (`step`), one message at a time. A step
has written down what must survive before it returns, and only then the loop sends what it says. What a validator says
to itself never sees a socket.

The mailbox keeps the order of each sender and takes from the senders in turn, so that nobody waits for another's flood;
each has its own bounds in messages and bytes, and whoever is beyond them is not read from until there is room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

__all__ = ["Alarm", "Leaves", "Machine", "Mailbox", "MailboxLimits", "Parcel", "Send", "Sender", "Step", "monotonic_ms"]

T = TypeVar("T")
Sender = int | None


def monotonic_ms() -> int:
    """Return milliseconds of a clock that never runs backwards."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """What may wait of one sender; the trainers' gateway is one sender, and so is this validator itself."""

    messages_max: int = 2048
    bytes_max: int = 64 << 20


@dataclass
class _Queue:
    """What waits of one sender, and whoever waits to add to it."""

    messages: deque[tuple[object, int]] = field(default_factory=deque)
    size: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Mailbox:
    """Messages that wait for the machine. All methods belong to the event loop's thread."""

    limits: MailboxLimits = field(default_factory=MailboxLimits)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _queues: dict[Sender, _Queue] = field(default_factory=dict)
    _turns: deque[Sender] = field(default_factory=deque)  # senders of whom something waits, the next one first

    def __len__(self) -> int:
        return sum(len(queue.messages) for queue in self._queues.values())

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(queue.size for queue in self._queues.values())

    async def put(self, sender: Sender, message: object, size: int) -> None:
        """Add a message; wait while its sender is beyond its bounds. One message always fits."""
        queue = self._queues.setdefault(sender, _Queue())
        while queue.messages and not self._fits(queue, size):
            queue.room.clear()
            await queue.room.wait()
        self.add(sender, message, size)

    def add(self, sender: Sender, message: object, size: int = 0) -> None:
        """Add a message whatever waits already: what this validator says to itself, of which there is little."""
        queue = self._queues.setdefault(sender, _Queue())
        if not queue.messages:
            self._turns.append(sender)
        queue.messages.append((message, size))
        queue.size += size
        self.arrived.set()

    def take(self) -> tuple[Sender, object] | None:
        """Return the next message with its sender: each sender's in order, senders in turn; None if nothing waits."""
        if not self._turns:
            self.arrived.clear()
            return None
        sender = self._turns.popleft()
        queue = self._queues[sender]
        message, size = queue.messages.popleft()
        queue.size -= size
        if queue.messages:
            self._turns.append(sender)
        queue.room.set()
        return sender, message

    def _fits(self, queue: _Queue, size: int) -> bool:
        return len(queue.messages) < self.limits.messages_max and queue.size + size <= self.limits.bytes_max


@dataclass(frozen=True, slots=True)
class Parcel:
    """What leaves after a step: a frame to some validators, and the message itself if it is for oneself too."""

    frame: bytes
    to: tuple[int, ...]
    message: object = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A message to oneself at a time; of one `key` (if any) the latest replaces the others."""

    message: Hashable
    at_ms: int
    key: Hashable = None


Leaves = Parcel | Alarm | Callable[[], object]
"""What a step leaves behind: something to send, an alarm, or something to be done on the event loop's side."""

Send = Callable[[int, bytes], object]
"""Hands a frame to a peer's connection; never waits. What it cannot take is lost, and the transport tells later."""

Step = Callable[[object, int, Sender], Sequence[Leaves]]
"""`(message, now_ms, sender)` -> what leaves; runs in the machine's thread, has written down what must survive."""


class _Alarms:
    """Alarms by time; the same one twice is one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._due: dict[Hashable, tuple[int, Hashable]] = {}  # by key: the one that counts
        self._order = count()

    def set(self, alarm: Alarm) -> None:
        key = alarm.key if alarm.key is not None else (alarm.message, alarm.at_ms)
        if self._due.get(key) != (alarm.at_ms, alarm.message):
            self._due[key] = (alarm.at_ms, alarm.message)
            heapq.heappush(self._heap, (alarm.at_ms, next(self._order), key))

    def take(self, now_ms: int) -> list[Hashable]:
        """Return what is due, in order."""
        due = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, _, key = heapq.heappop(self._heap)
            if key in self._due and self._due[key][0] == at_ms:
                due.append(self._due.pop(key)[1])
        return due

    def wait_ms(self, now_ms: int) -> int | None:
        return max(0, self._heap[0][0] - now_ms) if self._heap else None


class Machine:
    """Feeds a state machine from a mailbox and carries away what it says; `index` is who tells what it tells itself.

    It has a thread from the beginning, for whatever must happen there before the first step: see `compute`.
    """

    def __init__(
        self, index: int, limits: MailboxLimits | None = None, clock: Callable[[], int] = monotonic_ms
    ) -> None:
        self.index = index
        self.mailbox = Mailbox(limits or MailboxLimits())
        self._clock = clock
        self._alarms = _Alarms()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="validator")
        self._send: Send = lambda to, frame: False
        self._stopping = False

    async def compute(self, work: Callable[[], T]) -> T:
        """Run something in the machine's thread, between two steps: what touches state or journal."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def tell_self(self, message: object) -> None:
        """Say something to oneself."""
        self.mailbox.add(self.index, message)

    def deliver(self, outcome: Iterable[Leaves]) -> None:
        """Carry away what a step leaves, in its order."""
        for item in outcome:
            match item:
                case Alarm():
                    self._alarms.set(item)
                case Parcel():
                    if item.message is not None:
                        self.tell_self(item.message)
                    for peer in item.to:
                        self._send(peer, item.frame)
                case _:
                    item()

    async def run(self, step: Step, send: Send) -> None:
        """Take message after message until `stop`; a step that has begun is finished, and what it says is sent.

        Whatever a step raises ends this: it is our bug or the disk's failure, and to go on could break a promise.
        """
        self._send, loop = send, asyncio.get_running_loop()
        try:
            while not self._stopping:
                for message in self._alarms.take(self._clock()):
                    self.tell_self(message)
                taken = self.mailbox.take()
                if taken is None:
                    await self._wait()
                    continue
                sender, message = taken
                self.deliver(await loop.run_in_executor(self._thread, step, message, self._clock(), sender))
        finally:
            self._thread.shutdown(wait=True)

    def stop(self) -> None:
        """Have `run` return after the present step."""
        self._stopping = True
        self.mailbox.arrived.set()

    async def _wait(self) -> None:
        wait_ms = self._alarms.wait_ms(self._clock())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.mailbox.arrived.wait(), None if wait_ms is None else wait_ms / 1e3)
