"""One ordering decision by ours and by the all-to-all peer: all replicas in one process, each charged its own work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from collegium.apps._bench_rows import Spread
from collegium.apps._order_replica import Frame, Replica
from collegium.consensus import quorum_size
from collegium.crypto import Stream, os_random
from collegium.errors import CollegiumError
from collegium.node import Delivery, Network, Outgoing, SharedWork, StalledError

__all__ = ["PAYLOAD_BYTES", "DecisionMeasure", "Replicas", "UndecidedError", "measure_decisions"]

PAYLOAD_BYTES = 4_000  # about what a header with its certificate and the next round's keys takes at 16 seats
LIMIT_MS = 10**9

Replicas = Callable[[int, bytes, Iterable[int]], dict[int, Replica]]


class UndecidedError(CollegiumError):
    """A replica did not decide: a bug, and no figure is worth printing."""


@dataclass(frozen=True, slots=True)
class DecisionMeasure:
    """What a decision takes, until nothing is left to send.

    Attributes:
        messages, sent_bytes: between replicas; a frame to many counts for each.
        cpu_seconds: processor time of all replicas together, encoding and decoding included.
        wall_seconds: in one process, until the last replica has decided.
        path_ms: on the measured clock, each replica its own machine, until a quorum has decided.
        certificate_bytes: what proves one block certified: signatures and who signed.
    """

    messages: int
    sent_bytes: int
    cpu_seconds: Spread
    wall_seconds: Spread
    path_ms: Spread
    certificate_bytes: int


@dataclass(slots=True)
class _Host:
    """A replica on the network, its frames counted. What is sent to many is one frame, sent to each."""

    index: int
    size: int
    replica: Replica
    sent_bytes: int = 0

    def handle(self, message: object, now_ms: int, sender: int | None = None) -> list[Outgoing]:
        """Begin with a payload from outside, take a frame of another."""
        if not isinstance(message, bytes):
            raise TypeError(f"a frame is bytes, got {type(message).__name__}")
        frames = self.replica.propose(message) if sender is None else self.replica.take(sender, message)
        return [item for frame in frames for item in self._outgoing(frame)]

    def _outgoing(self, frame: Frame) -> list[Outgoing]:
        to = [other for other in range(self.size) if other != self.index] if frame.to is None else [frame.to]
        self.sent_bytes += len(to) * len(frame.data)
        return [Outgoing(frame.data, other) for other in to]


@dataclass(slots=True)
class _Watch:
    """When each replica decided, on the wall's clock and on the measured one."""

    hosts: list[_Host]
    goal: int
    wall: list[float] = field(default_factory=list)
    measured_ms: list[float] = field(default_factory=list)
    known: set[int] = field(default_factory=set)

    def saw(self, delivery: Delivery) -> bool:
        replica = self.hosts[delivery.participant].replica
        if replica.decided == self.goal and delivery.participant not in self.known:
            self.wall.append(time.perf_counter())
            self.measured_ms.append(delivery.measured_ms)
            self.known.add(delivery.participant)
        return False


def measure_decisions(replicas: Replicas, size: int, link_ms: int, *, repeats: int) -> DecisionMeasure:
    """Let `size` replicas decide `repeats` payloads and one more before that is not counted.

    Raises:
        UndecidedError: not all of them did.
    """
    seed = os_random(32)
    hosts = [_Host(index, size, replica) for index, replica in replicas(size, seed, range(size)).items()]
    network = Network(SharedWork(), link_ms)
    for host in hosts:
        network.join(host.index, host)
    payloads = Stream(seed)
    cpu, wall, path = list[float](), list[float](), list[float]()
    messages = sent = 0
    for number in range(repeats + 1):
        began_cpu, messages, sent = time.process_time(), network.messages, sum(host.sent_bytes for host in hosts)
        began, began_ms = time.perf_counter(), network.measured_ms
        payload = payloads(PAYLOAD_BYTES)
        for host in hosts:
            network.post(host.index, payload, network.now_ms, began_ms)
        watch = _Watch(hosts, number + 1)
        with suppress(StalledError):  # it runs until nothing is left to happen
            network.run(watch.saw, LIMIT_MS)
        missing = [host.index for host in hosts if host.replica.decided != number + 1]
        if missing:
            raise UndecidedError(f"decision {number} of {size} replicas: {missing} did not decide", missing=missing)
        cpu.append(time.process_time() - began_cpu)
        wall.append(max(watch.wall) - began)
        path.append(sorted(watch.measured_ms)[quorum_size(size) - 1] - began_ms)
        messages, sent = network.messages - messages, sum(host.sent_bytes for host in hosts) - sent
    return DecisionMeasure(
        messages=messages,
        sent_bytes=sent,
        cpu_seconds=Spread.of(cpu[1:]),
        wall_seconds=Spread.of(wall[1:]),
        path_ms=Spread.of(path[1:]),
        certificate_bytes=hosts[0].replica.certificate_bytes,
    )
