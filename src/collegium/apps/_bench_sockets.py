"""The same decisions over real sockets: four processes, each validator with its own mutual-TLS connections to all."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from collegium.apps._all_to_all_peer import all_to_all_replicas
from collegium.apps._bench_decision import PAYLOAD_BYTES
from collegium.apps._bench_rows import Spread
from collegium.apps._memory import forget_peak, resident_peak
from collegium.apps._order_replica import Frame, Replica, order_replicas
from collegium.crypto import Stream, os_random
from collegium.errors import CollegiumError
from collegium.node import PeerLimits, Peers, TlsFiles, create_authority, identity_from_uri, issue, peer_tls
from collegium.node import save_credentials as save

__all__ = ["PROCESSES", "SocketHosts", "SocketMeasure", "SocketsStalledError"]

PROCESSES: Final = 4
START_SECONDS: Final = 120.0  # until a process has imported what it needs
CONNECT_SECONDS: Final = 120.0  # until everybody is connected with everybody
DECISION_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
TASK: Final = bytes(32)
PROTOCOLS: Final = {"ours": order_replicas, "all-to-all": all_to_all_replicas}
# No limit is what is measured here: a loaded machine may take long to greet everybody.
LIMITS: Final = PeerLimits(handshake_ms=60_000, idle_ms=120_000, gap_ms=60_000)


class SocketsStalledError(CollegiumError):
    """The processes did not connect, or did not decide, in time; or one of them ended."""


@dataclass(frozen=True, slots=True)
class SocketMeasure:
    """What a decision takes over sockets.

    Attributes:
        wall_seconds: from telling all processes until the last one's replicas have decided.
        cpu_seconds: of all processes together, TLS included.
        connect_seconds: from telling the processes whom they host until everybody is connected; once.
        peak_bytes: resident, of all processes together.
    """

    wall_seconds: Spread
    cpu_seconds: Spread
    connect_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process must know: protocol, how many there are, everybody's seed, its own validators, their files."""

    protocol: str
    size: int
    seed: bytes
    own: tuple[int, ...]
    folder: str


class SocketHosts:
    """Processes that host validators: started at the first measurement and used for all, as starting takes seconds."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self._count, self._children = processes, list[_Child]()

    def close(self) -> None:
        """End the processes; another measurement starts others."""
        for child in self._children:
            child.stop()
        self._children = []

    def measure(self, protocol: str, size: int, *, repeats: int) -> SocketMeasure:
        """Let `size` replicas of a protocol, "ours" or "all-to-all", decide over loopback.

        Raises:
            SocketsStalledError: see there.
        """
        try:
            if not self._children:
                self._children = [_Child.start() for _ in range(self._count)]
                _gather(self._children, START_SECONDS)
            with tempfile.TemporaryDirectory(prefix="collegium-bench-") as folder:
                return self._measure(Plan(protocol, size, os_random(32), (), folder), repeats)
        except BaseException:
            self.close()  # they may be anywhere
            raise

    def _measure(self, plan: Plan, repeats: int) -> SocketMeasure:
        _make_certificates(Path(plan.folder), plan.size)
        began = time.perf_counter()
        for first, child in enumerate(self._children):
            _tell([child], replace(plan, own=tuple(range(first, plan.size, self._count))))
        places = {index: place for told in _gather(self._children, CONNECT_SECONDS) for index, place in told.items()}
        _tell(self._children, places)
        _gather(self._children, CONNECT_SECONDS)
        measured = _decide(self._children, time.perf_counter() - began, repeats)
        _tell(self._children, None)
        _gather(self._children, CONNECT_SECONDS)
        return measured


def _decide(children: list[_Child], connect_seconds: float, repeats: int) -> SocketMeasure:
    payloads, wall, cpu = Stream(os_random(32)), list[float](), list[float]()
    peak = 0
    for _ in range(repeats + 1):
        payload, began = payloads(PAYLOAD_BYTES), time.perf_counter()
        _tell(children, payload)
        answers = _gather(children, DECISION_SECONDS)
        wall.append(time.perf_counter() - began)
        cpu.append(sum(seconds for seconds, _ in answers))
        peak = sum(held for _, held in answers)
    return SocketMeasure(Spread.of(wall[1:]), Spread.of(cpu[1:]), connect_seconds, peak)


def _make_certificates(folder: Path, size: int) -> None:
    now = datetime.now(UTC)
    authority = create_authority(TASK, now)
    for index in range(size):
        own = folder / str(index)
        own.mkdir()
        identity = identity_from_uri(f"collegium:{TASK.hex()}/validator/{index}")
        save(TlsFiles.inside(own), issue(authority, identity, now), authority)


# The parent's end of a process


@dataclass(frozen=True, slots=True)
class _Child:
    process: Any
    pipe: Connection

    @classmethod
    def start(cls) -> _Child:
        context = multiprocessing.get_context("spawn")
        ours, its = context.Pipe()
        process = context.Process(target=run_process, args=(its,), daemon=True)
        process.start()
        its.close()
        return cls(process, ours)

    def stop(self) -> None:
        with suppress(OSError):  # it has ended
            self.pipe.send(None)  # of a measurement, where it is in one
            self.pipe.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _tell(children: Iterable[_Child], word: object) -> None:
    for child in children:
        try:
            child.pipe.send(word)
        except OSError as error:
            raise SocketsStalledError(f"a process ended: {error}") from error


def _gather(children: list[_Child], seconds: float) -> list[Any]:
    """Return an answer of each.

    Raises:
        SocketsStalledError: one is missing after so many seconds.
    """
    deadline, waiting = time.perf_counter() + seconds, {child.pipe for child in children}
    answers = []
    while waiting:
        ready = wait(list(waiting), max(0.0, deadline - time.perf_counter()))
        if not ready:
            raise SocketsStalledError(f"{len(waiting)} processes have not answered within {seconds:g} s")
        for pipe in waiting & set(ready):
            waiting.discard(pipe)
            try:
                answers.append(pipe.recv())
            except EOFError as error:
                raise SocketsStalledError("a process ended") from error
    return answers


# A process


def run_process(pipe: Connection) -> None:
    """Host some validators of one measurement after another, until told to stop."""
    pipe.send("started")
    while (plan := pipe.recv()) is not None:
        forget_peak()
        asyncio.run(_Hosts(plan).serve(pipe))
        pipe.send("stopped")


class _Hosts:
    """Some validators in one event loop; each has its own listener and its own connections."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.replicas: dict[int, Replica] = PROTOCOLS[plan.protocol](plan.size, plan.seed, plan.own)
        self.peers: dict[int, Peers] = {}
        self.goal = 0
        self.decided = asyncio.Event()

    async def serve(self, pipe: Connection) -> None:
        listeners = {index: socket.create_server(("127.0.0.1", 0)) for index in self.plan.own}
        pipe.send({index: listener.getsockname()[:2] for index, listener in listeners.items()})
        places = await asyncio.to_thread(pipe.recv)
        if places is None:
            return
        for index, listener in listeners.items():
            self.peers[index] = self._peers(index, places, listener)
        await asyncio.gather(*(peers.start() for peers in self.peers.values()))
        while any(len(peers.connected()) < self.plan.size - 1 for peers in self.peers.values()):
            await asyncio.sleep(POLL_SECONDS)
        pipe.send("connected")
        while (payload := await asyncio.to_thread(pipe.recv)) is not None:
            pipe.send(await self._decide(payload))
        await asyncio.gather(*(peers.stop() for peers in self.peers.values()))

    def _peers(self, index: int, places: dict[int, tuple[str, int]], listener: socket.socket) -> Peers:
        async def on_frame(sender: int, data: bytes) -> None:
            self._say(index, self.replicas[index].take(sender, data))

        tls = peer_tls(TlsFiles.inside(Path(self.plan.folder) / str(index)), TASK)
        return Peers(index, places, tls, on_frame, lambda _: None, LIMITS, listener)

    async def _decide(self, payload: bytes) -> tuple[float, int]:
        """Return this process's seconds of processor time until its replicas had decided, and its peak memory."""
        began = time.process_time()
        self.goal += 1
        self.decided.clear()
        for index, hosted in self.replicas.items():
            self._say(index, hosted.propose(payload))
        await self.decided.wait()
        return time.process_time() - began, resident_peak()

    def _say(self, index: int, frames: Iterable[Frame]) -> None:
        peers = self.peers[index]
        for frame in frames:
            for to in peers.connected() if frame.to is None else (frame.to,):
                peers.send(to, frame.data)
        if all(hosted.decided >= self.goal for hosted in self.replicas.values()):
            self.decided.set()
