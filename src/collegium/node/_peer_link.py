"""One connection to one validator: what it may send and how fast, what waits for it, and when it is cut off.

`Peers` decides which connections there are; a `Link` lives from the end of the TLS handshake until it is closed, and
says why it was.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from collegium.errors import CollegiumError

from ._peer_frames import CHUNK_BYTES, Frames, Hello, Lanes, Ping, RecordTooLongError, encode_hello, encode_ping

__all__ = ["MISBEHAVIOUR", "Bucket", "Link", "LinkOwner", "PeerCounters", "PeerLimits"]

log = logging.getLogger("collegium.node.peers")

# Why a connection ended. These are the other end's doing, and keep it away for a while; other reasons do not.
MISBEHAVIOUR: Final = frozenset(
    {"garbage", "too long", "stalled", "slow", "flood", "connections", "no hello", "refused"}
)
FLUSH_CHUNKS: Final = 4  # written to one peer before the others have a turn
UNSENT_BYTES: Final = CHUNK_BYTES  # what the kernel may hold unsent, because small frames cannot overtake it there


def _sixteen_mebibytes(kind: int) -> int:
    return 1 << 24


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """The bounds of a validator's connections, each for one peer unless it says otherwise.

    Attributes:
        limit_of: the most bytes of a frame by its first byte; 0 refuses the kind.
        small_bytes_max: frames up to this size overtake larger ones.
        small_count_max, small_queue_bytes_max: small frames that may wait to be sent.
        large_count_max, large_queue_bytes_max: large ones. A frame larger than the queue is never sent.
        inbox_count_max, inbox_bytes_max: received frames that wait for `on_frame` before reading pauses.
        handshake_ms: from connecting until the other end's hello.
        gap_ms: between two bytes of a frame; also how long a frame may take before its rate is looked at.
        frame_rate_min: bytes a second that an unfinished frame must advance with.
        ping_ms, idle_ms: silence after which we say that we are there, and after which the other end is taken for dead.
        unread_ms: how long the other end may leave everything unread.
        messages_rate_max, messages_burst: records a second beyond which reading pauses, and what may come at once.
        bytes_rate_max, bytes_burst: the same in bytes.
        flood_ms: how long a peer may exceed `messages_rate_max` before it is cut off.
        connections_rate_max, connections_burst: connections a second that one member may open, and at once.
        handshakes_max: connections, of all peers together, that have not said hello; the oldest gives way.
        dials_max: connections, of all peers together, that are being dialled at a time.
        dial_first_ms, dial_max_ms: how long to wait before dialling again, doubling, jittered.
        dial_grace_ms: how long the higher index leaves it to the lower one to dial.
        ban_first_ms, ban_max_ms: how long a peer that misbehaved is kept away, doubling, jittered.
        calm_ms: after so long without a fault either starts anew.
        again_ms: `on_joined` is repeated, at most so often, once a queue that overflowed is empty.
        delay_ms: deliver frames so much later, in order: an artificial link for benchmarks.
        delay_bytes_max: what may be under way on such a link.
    """

    limit_of: Callable[[int], int] = _sixteen_mebibytes
    small_bytes_max: int = 8_192
    small_count_max: int = 8_192
    small_queue_bytes_max: int = 1 << 22
    large_count_max: int = 256
    large_queue_bytes_max: int = 1 << 26
    inbox_count_max: int = 1_024
    inbox_bytes_max: int = 1 << 20
    handshake_ms: int = 10_000
    gap_ms: int = 10_000
    frame_rate_min: int = 16_384
    ping_ms: int = 5_000
    idle_ms: int = 20_000
    unread_ms: int = 30_000
    messages_rate_max: int = 2_000
    messages_burst: int = 8_000
    bytes_rate_max: int = 1 << 27
    bytes_burst: int = 1 << 27
    flood_ms: int = 10_000
    connections_rate_max: float = 0.5
    connections_burst: int = 8
    handshakes_max: int = 128
    dial_first_ms: int = 100
    dial_max_ms: int = 5_000
    dial_grace_ms: int = 2_000
    dials_max: int = 8
    ban_first_ms: int = 1_000
    ban_max_ms: int = 60_000
    calm_ms: int = 30_000
    again_ms: int = 5_000
    delay_ms: int = 0
    delay_bytes_max: int = 1 << 28


@dataclass(slots=True)
class PeerCounters:
    """What happened with one peer since the start. Grows by reasons, of which there are about twenty."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped_full: int = 0
    dropped_absent: int = 0
    joins: int = 0
    turned_away: int = 0
    throttled: int = 0
    closed: Counter[str] = field(default_factory=Counter)

    @property
    def cut_offs(self) -> dict[str, int]:
        """How often the peer was cut off, by kind of misbehaviour."""
        return {reason: count for reason, count in self.closed.items() if reason in MISBEHAVIOUR}


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once. It may be overdrawn; then one has to wait."""

    __slots__ = ("_at", "_burst", "_level", "_rate", "over_since")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = float(burst)
        self._at = now
        self.over_since: float | None = None  # when it was first overdrawn without having been half full again

    def take(self, amount: int, now: float) -> float:
        """Take tokens; returns the seconds to wait before taking more."""
        level = min(self._burst, self._level + (now - self._at) * self._rate)
        if level >= self._burst / 2:
            self.over_since = None
        self._level = level - amount
        self._at = now
        if self._level >= 0:
            return 0.0
        if self.over_since is None:
            self.over_since = now
        return -self._level / self._rate


class LinkOwner(Protocol):
    """What a link asks of `Peers`."""

    @property
    def limits(self) -> PeerLimits:
        """The bounds."""
        ...

    @property
    def boot(self) -> bytes:
        """This process's number."""
        ...

    def accepted(self, link: Link, connection: Any) -> None:
        """Name the other end and give the link its buckets and counters, or raise a CollegiumError."""
        ...

    def greeted(self, link: Link) -> bool:
        """The other end said hello: keep this link, or close it and return False."""
        ...

    def closed(self, link: Link, reason: str, detail: str) -> None:
        """The link is of no more use."""
        ...


class Link(asyncio.Protocol):
    """A connection after its TLS handshake.

    Attributes:
        dialled: the index that we dialled, or None if the other end did.
        index: who the certificate says it is, once that is known.
        boot: the number of the other end's process, once it said hello.
        settled: done when it is known whether the link is of use.
        gone: done when the socket is closed.
    """

    def __init__(self, owner: LinkOwner, dialled: int | None = None) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self.dialled = dialled
        self.index = -1
        self.boot = b""
        self.settled: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.counters = PeerCounters()
        self.messages = Bucket(1, 1, 0.0)
        self.bytes = Bucket(1, 1, 0.0)
        self.is_closed = False
        limits = self._limits
        self.lanes = Lanes(
            limits.small_bytes_max,
            (limits.small_count_max, limits.small_queue_bytes_max),
            (limits.large_count_max, limits.large_queue_bytes_max),
        )
        self._frames = Frames(limits.limit_of)
        self._inbox: deque[tuple[float, bytes]] = deque()
        self._inbox_bytes = 0
        self._inbox_bytes_max = limits.delay_bytes_max if limits.delay_ms else limits.inbox_bytes_max
        self._inbox_count_max = (1 << 20) if limits.delay_ms else limits.inbox_count_max
        self._wake = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._holds: set[str] = set()
        self._rate_timer: asyncio.TimerHandle | None = None
        self._flush_planned = False
        self._unwritable = False
        self._born = self._loop.time()
        # Seconds by the clock of `watch`, which stands still while this process is kept from running.
        self._silent = self._quiet = self._unread = self._unrepeated = self._frame_waited = 0.0
        self._frame_bytes = 0
        self._overflowed = False

    # ------------------------------------------------------------------------------------------- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look who is there, then say hello."""
        self._transport = cast(asyncio.Transport, transport)
        # As soon as TLS or the kernel holds anything back, the queue here waits: only here can frames be overtaken.
        self._transport.set_write_buffer_limits(high=1, low=0)
        sock = self._transport.get_extra_info("socket")
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        try:
            self._owner.accepted(self, self._transport.get_extra_info("ssl_object"))
        except CollegiumError as error:
            self.close("turned away", str(error))
            return
        self._transport.write(encode_hello(self._owner.boot))

    def data_received(self, data: bytes) -> None:
        """Take what these bytes complete; pause reading if it is too much."""
        if self.is_closed:
            return
        now = self._loop.time()
        self._silent = 0.0
        self.counters.bytes_in += len(data)
        self._frame_bytes += len(data)
        try:
            said = self._frames.feed(data)
        except RecordTooLongError as error:
            self.close("too long", str(error))
            return
        except CollegiumError as error:
            self.close("garbage", str(error))
            return
        if not self._frames.unfinished:
            self._frame_waited = 0.0
            self._frame_bytes = 0
        for item in said:
            if isinstance(item, Hello):
                self.boot = item.boot
                if not self._owner.greeted(self):
                    return
            elif not isinstance(item, Ping):
                self._receive(item, now)
        self._throttle(max(self.messages.take(len(said), now), self.bytes.take(len(data), now)))

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._unwritable = True
        self._unread = 0.0

    def resume_writing(self) -> None:
        """The network has taken everything."""
        self._unwritable = False
        self._plan_flush()

    def eof_received(self) -> bool:
        """A connection that is half closed is closed: we never talk to somebody who will not answer."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.close("left" if exc is None else "lost", "" if exc is None else type(exc).__name__)
        if not self.gone.done():
            self.gone.set_result(None)

    # ----------------------------------------------------------------------------------------------------- receiving

    def _receive(self, frame: bytes, now: float) -> None:
        self._inbox.append((now + self._limits.delay_ms / 1000, frame))
        self._inbox_bytes += len(frame)
        self.counters.frames_in += 1
        if self._inbox_bytes > self._inbox_bytes_max or len(self._inbox) > self._inbox_count_max:
            self._hold("inbox")
        self._wake.set()

    async def deliver(self, on_frame: Callable[[int, bytes], Awaitable[None]]) -> None:
        """Hand received frames over one by one, until the link is closed and nothing is left."""
        while self._inbox or not self.is_closed:
            if not self._inbox:
                self._wake.clear()
                await self._wake.wait()
                continue
            due, frame = self._inbox[0]
            if self._limits.delay_ms and due > (now := self._loop.time()):
                await asyncio.sleep(due - now)
                continue
            self._inbox.popleft()
            self._inbox_bytes -= len(frame)
            try:
                await on_frame(self.index, frame)
            except CollegiumError as error:
                self.close("refused", str(error))
            if 2 * self._inbox_bytes <= self._inbox_bytes_max and 2 * len(self._inbox) <= self._inbox_count_max:
                self._release("inbox")

    def _throttle(self, wait: float) -> None:
        if wait > 0:
            self.counters.throttled += 1
            self._hold("rate")
            self._rate_timer = self._loop.call_later(wait, self._release, "rate")

    def _hold(self, reason: str) -> None:
        if not self._holds and self._transport is not None and not self.is_closed:
            self._transport.pause_reading()
        self._holds.add(reason)

    def _release(self, reason: str) -> None:
        if reason in self._holds:
            self._holds.discard(reason)
            if not self._holds and self._transport is not None and not self.is_closed:
                self._silent = 0.0
                self._transport.resume_reading()

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, frame: bytes) -> bool:
        """Queue a frame; False if the queue is full."""
        if not self.lanes.put(frame):
            self._overflowed = True
            return False
        self._plan_flush()
        return True

    def _plan_flush(self) -> None:
        if not self._flush_planned and not self._unwritable:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        for _ in range(FLUSH_CHUNKS):
            if self.is_closed or self._unwritable or not self.lanes:
                return
            data, frames = self.lanes.take()
            self._write(data)
            self.counters.frames_out += frames
        self._plan_flush()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self._quiet = 0.0
            self.counters.bytes_out += len(data)

    # ------------------------------------------------------------------------------------------------------- watching

    def watch(self, now: float, elapsed: float) -> None:
        """Look at the clocks; `elapsed` seconds have passed since the last look."""
        limits = self._limits
        self._silent += elapsed
        self._quiet += elapsed
        self._unread += elapsed
        self._unrepeated += elapsed
        if not self.boot:
            if 1000 * self._unrepeated > limits.handshake_ms:
                self.close("no hello", f"nothing for {limits.handshake_ms} ms")
            return
        reading = not self._holds
        over = self.messages.over_since if "rate" in self._holds else None
        if over is not None and 1000 * (now - over) > limits.flood_ms:
            self.close("flood", f"over {limits.messages_rate_max} messages a second for {limits.flood_ms} ms")
        elif reading and self._frames.unfinished and 1000 * self._silent > limits.gap_ms:
            self.close("stalled", f"nothing for {limits.gap_ms} ms within a frame")
        elif reading and self._frames.unfinished and self._is_slow(elapsed):
            self.close("slow", f"{self._frame_bytes} bytes of a frame in {self._frame_waited:.1f} s")
        elif reading and 1000 * self._silent > limits.idle_ms:
            self.close("silent", f"nothing for {limits.idle_ms} ms")
        elif self._unwritable and 1000 * self._unread > limits.unread_ms:
            self.close("unread", f"takes nothing for {limits.unread_ms} ms")
        elif not self._unwritable and 1000 * self._quiet > limits.ping_ms:
            self._write(encode_ping())

    def _is_slow(self, elapsed: float) -> bool:
        self._frame_waited += elapsed
        over = self._frame_waited - self._limits.gap_ms / 1000
        return over > 0 and self._frame_bytes < over * self._limits.frame_rate_min

    def wants_to_repeat(self) -> bool:
        """Whether frames were refused and all others have left, so that what was refused can be said now."""
        if not self._overflowed or self.lanes or 1000 * self._unrepeated < self._limits.again_ms:
            return False
        self._overflowed = False
        self._unrepeated = 0.0
        return True

    @property
    def lived_ms(self) -> float:
        """How long the link has been open."""
        return 1000 * (self._loop.time() - self._born)

    # -------------------------------------------------------------------------------------------------------- closing

    def close(self, reason: str, detail: str = "") -> None:
        """Let go of the connection at once; the first reason counts. What was received whole from a peer that did
        nothing wrong is still delivered."""
        if self.is_closed:
            return
        self.is_closed = True
        self.lanes.clear()
        if self._rate_timer is not None:
            self._rate_timer.cancel()
        if reason not in ("left", "lost"):
            self._inbox.clear()
            self._inbox_bytes = 0
        self._wake.set()
        if self._transport is not None:
            if reason == "stopped":
                self._transport.close()
            else:
                self._transport.abort()
        self._owner.closed(self, reason, detail)
        if not self.settled.done():
            self.settled.set_result(None)

    def abort(self) -> None:
        """Close the socket without waiting for the other end."""
        if self._transport is not None:
            self._transport.abort()
