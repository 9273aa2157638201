"""A network of validators in one process on virtual time, with two clocks.

The *modelled* clock orders events: links take `link_ms`, computing takes nothing, so one history is replayed exactly
whatever the machine does. The *measured* clock rides along on every message: it adds to the links what each step really
took on this machine, each validator being its own machine, so that latency is reported with compute in it and yet no
measurement can change what happens. Work that several validators share (checking the same public report) is done once
and charged to each.

A step takes the processor time of all of this process's threads, not the time on the wall: what other processes do
meanwhile is nobody's step. Threads at work together count each, so a step is never charged less than it would take.
The interpreter's search for unreachable cycles waits until a step is over: here it walks over what all participants
hold together, so it would charge whoever's step it falls into for all of them.
"""

from __future__ import annotations

import gc
import heapq
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar, cast

from collegium.consensus import bytes_in
from collegium.errors import CollegiumError

__all__ = ["Delivery", "Network", "Outgoing", "Participant", "SharedWork", "StalledError"]

T = TypeVar("T")
Message = object

RESULT_BYTES_MAX: Final = 1 << 30  # of shared results in one process


class StalledError(CollegiumError):
    """Virtual time passed its limit, or nothing is left to happen, before the round was final."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a step leaves behind: a message to one or (None) all validators, or a timer for oneself."""

    message: Message
    to: int | None = None
    at_ms: int | None = None  # a timer: deliver to oneself at this modelled time


class Participant(Protocol):
    """A validator as the network sees it."""

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take one message, of a participant or (None) from outside, and return what to send."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One handled message: who, when on both clocks (milliseconds), and how long it took.

    `sender` is None for a message from outside. It arrived at `arrived_ms` on the measured clock, and was handled then,
    or when the participant was done with the one before.
    """

    participant: int
    message: Message
    modelled_ms: int
    measured_ms: float
    compute_ms: float
    sender: int | None
    arrived_ms: float


@dataclass
class SharedWork:
    """Pure computations done once in this process; each participant is charged for each once, what the first one paid.

    A participant that asks again pays nothing: as a process of its own it would remember, too. Grows with the messages
    of a round, up to `bytes_max` and then without its oldest results; `forget` clears it between rounds. A refusal is
    kept without its traceback, whose frames would hold all that was looked at.
    """

    results: dict[Hashable, tuple[object, CollegiumError | None, float]] = field(default_factory=dict)
    charged_ms: float = 0.0
    asking: int | None = None  # whose step this is
    payers: dict[Hashable, set[int]] = field(default_factory=dict)
    bytes_max: int = RESULT_BYTES_MAX
    sizes: dict[Hashable, int] = field(default_factory=dict)
    held_bytes: int = 0

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()` for the first caller of `key`, its result (or refusal) for the later ones."""
        known = self.results.get(key)
        if known is None:
            began, charged = time.process_time(), self.charged_ms
            value: object = None
            refusal: CollegiumError | None = None
            try:
                value = compute()
            except CollegiumError as error:
                refusal = error
            inner = self.charged_ms - charged  # nested shared work is charged as if done here
            took = 1e3 * (time.process_time() - began) + inner
            self.put(key, value, refusal, took)
            self._pays(key)
        else:
            value, kept, took = known
            refusal = copy(kept)  # raising one adds to its traceback
            self.charged_ms += took if self._pays(key) else 0.0
        if refusal is not None:
            raise refusal
        return cast(T, value)

    def _pays(self, key: Hashable) -> bool:
        """Tell whether whoever asks has not paid for this yet, and note that it has now."""
        if self.asking is None or key not in self.results:
            return True
        payers = self.payers.setdefault(key, set())
        fresh = self.asking not in payers
        payers.add(self.asking)
        return fresh

    def put(self, key: Hashable, value: object, refusal: CollegiumError | None, took_ms: float) -> None:
        """Enter a result that was computed ahead, elsewhere: whoever asks for it is charged what it took."""
        self._drop(key)
        self.results[key] = (value, copy(refusal), took_ms)
        self.sizes[key] = bytes_in(key) + bytes_in(value)
        self.held_bytes += self.sizes[key]
        while self.held_bytes > self.bytes_max:
            self._drop(next(iter(self.sizes)))

    def _drop(self, key: Hashable) -> None:
        self.results.pop(key, None)
        self.payers.pop(key, None)
        self.held_bytes -= self.sizes.pop(key, 0)

    def forget(self, keep: Callable[[Hashable], bool] = lambda _: False) -> None:
        """Drop all results but those whose keys are to be kept."""
        for key in [key for key in self.results if not keep(key)]:
            self._drop(key)


class Network:
    """Delivers messages among participants in modelled time, in an order that depends on nothing else.

    `on_delivery`, where it is set, is told of every delivery; its own time is nobody's.
    """

    def __init__(self, work: SharedWork, link_ms: int) -> None:
        self.participants: dict[int, Participant] = {}
        self.work = work
        self.link_ms = link_ms
        self.now_ms = 0
        self.measured_ms = 0.0
        self.compute_ms = 0.0
        self.messages = 0
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._free_ms: dict[int, float] = {}
        self._queue: list[tuple[int, int, int, Message, float, int | None]] = []
        self._sequence = 0

    def join(self, index: int, participant: Participant) -> None:
        """Add a participant; messages to anybody else are lost."""
        self.participants[index] = participant
        self._free_ms[index] = self.measured_ms

    def send(self, sender: int, outgoing: Iterable[Outgoing]) -> None:
        """Queue what a participant sends, from the present on both clocks."""
        for item in outgoing:
            self._send(sender, item, self.measured_ms)

    def post(self, to: int, message: Message, at_ms: int, measured_ms: float, sender: int | None = None) -> None:
        """Queue a message, from outside unless `sender` is given; one to somebody who is absent is lost."""
        if to in self.participants:
            self._sequence += 1
            heapq.heappush(self._queue, (at_ms, self._sequence, to, message, measured_ms, sender))

    def run(self, until: Callable[[Delivery], bool], limit_ms: int) -> None:
        """Deliver until `until` says so after a delivery.

        Raises:
            StalledError: when modelled time passes `limit_ms` or no event is left.
        """
        while self._queue:
            at_ms, _, to, message, measured_ms, sender = heapq.heappop(self._queue)
            if at_ms > limit_ms:
                raise StalledError(f"nothing final after {limit_ms} ms of virtual time", limit_ms=limit_ms)
            self.now_ms = at_ms
            delivery = self._deliver(to, message, measured_ms, sender)
            if until(delivery):
                return
        raise StalledError(f"no event left at {self.now_ms} ms of virtual time", now_ms=self.now_ms)

    def _deliver(self, to: int, message: Message, measured_ms: float, sender: int | None) -> Delivery:
        self.work.charged_ms, self.work.asking = 0.0, to
        with _collection_waits():
            began = time.process_time()
            outgoing = list(self.participants[to].handle(message, self.now_ms, sender))
            compute_ms = 1e3 * (time.process_time() - began) + self.work.charged_ms
        ended = max(self._free_ms[to], measured_ms) + compute_ms
        self._free_ms[to] = ended
        self.measured_ms = max(self.measured_ms, ended)
        self.compute_ms += compute_ms
        for item in outgoing:
            self._send(to, item, ended)
        delivery = Delivery(to, message, self.now_ms, ended, compute_ms, sender, measured_ms)
        if self.on_delivery is not None:
            self.on_delivery(delivery)
        return delivery

    def _send(self, sender: int, item: Outgoing, ended: float) -> None:
        if item.at_ms is not None:
            wait = max(0, item.at_ms - self.now_ms)
            self.post(sender, item.message, self.now_ms + wait, ended + wait, sender)
            return
        for to in self.participants if item.to is None else (item.to,):
            delay = 0 if to == sender else self.link_ms
            self.messages += to != sender
            self.post(to, item.message, self.now_ms + delay, ended + delay, sender)


@contextmanager
def _collection_waits() -> Iterator[None]:
    """Let the collector of cycles wait; where somebody has switched it off it stays so."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
