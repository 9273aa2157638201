"""A validator's connections to all others: authenticated, bounded in everything, and up again by themselves.

`send` never blocks and `on_frame` may: a full mailbox stops reading, and TCP carries that to the sender. A frame that
`send` took arrives, after all earlier ones of its size class, unless the connection breaks; then `on_joined` is called
once it is up again, and whoever sends says again what still matters. docs/spec/transport.md has the bounds.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from secrets import SystemRandom, token_bytes

from collegium.errors import CollegiumError

from ._events import WorldError
from ._peer_frames import BOOT_BYTES
from ._peer_link import MISBEHAVIOUR, Bucket, Link, PeerCounters, PeerLimits, log
from ._tls import PeerTls

__all__ = ["PeerAddressError", "PeerCounters", "PeerLimits", "PeerRefusedError", "Peers"]

SHUTDOWN_S = 1.0
WATCH_S_MAX = 0.5
ACCEPT_PAUSE_S = 0.2
BACKLOG = 256


class PeerAddressError(WorldError):
    """The own index has no address, or its address cannot be listened on."""


class PeerRefusedError(CollegiumError):
    """A connection of a member that may not connect now: itself, unknown, too often, or kept away for misbehaviour."""


@dataclass(slots=True)
class _Peer:
    index: int
    address: tuple[str, int]
    counters: PeerCounters
    messages: Bucket
    bytes: Bucket
    connections: Bucket
    absent: asyncio.Event
    arrived: asyncio.Event
    link: Link | None = None
    undelivered: Link | None = None  # the latest link, until somebody delivers what it receives
    dial_failures: int = 0
    faults: int = 0
    fault_at: float = 0.0
    banned_until: float = 0.0


@dataclass(slots=True)
class Backoff:
    """Waits that double from `first_ms` to `max_ms`, each drawn between its half and its whole."""

    first_ms: int
    max_ms: int
    random: SystemRandom = field(default_factory=SystemRandom)

    def seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in succession, from 1."""
        whole = min(self.max_ms, self.first_ms << min(failures - 1, 30))
        return self.random.uniform(whole / 2, whole) / 1000


class Peers:
    """Connections among validators, one to each.

    Either end dials, the higher index a little later; of two connections between the same two processes the one
    that the lower index dialled stays, and a process that has started again replaces its former self at once.

    Args:
        index: this validator.
        addresses: where each validator listens, this one's included.
        tls: who is who.
        on_frame: takes a frame of a peer; awaited before the next of that peer, which is the back-pressure. If it
            raises a CollegiumError, the frame was garbage and the peer is cut off.
        on_joined: told after each time that a peer is connected, before its first frame, and when frames that `send`
            refused for want of room can be said again.
        listener: a bound socket to use instead of binding the own address; closed by `stop`.
    """

    def __init__(
        self,
        index: int,
        addresses: Mapping[int, tuple[str, int]],
        tls: PeerTls,
        on_frame: Callable[[int, bytes], Awaitable[None]],
        on_joined: Callable[[int], None],
        limits: PeerLimits | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        if index not in addresses:
            raise PeerAddressError(f"validator {index} has no address", index=index)
        self.index = index
        self.limits = limits or PeerLimits()
        self.boot = token_bytes(BOOT_BYTES)
        self.refused: Counter[str] = Counter()  # handshakes that failed before anybody had a name
        self._addresses = dict(addresses)
        self._tls = tls
        self._on_frame = on_frame
        self._on_joined = on_joined
        self._listener = listener
        self._peers: dict[int, _Peer] = {}
        self._links: set[Link] = set()
        self._greeting: dict[asyncio.Task[None], socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._accept_again: asyncio.TimerHandle | None = None
        self._dialling = asyncio.Semaphore(self.limits.dials_max)
        self._dial_backoff = Backoff(self.limits.dial_first_ms, self.limits.dial_max_ms)
        self._ban_backoff = Backoff(self.limits.ban_first_ms, self.limits.ban_max_ms)

    # ------------------------------------------------------------------------------------------------- for the outside

    async def start(self) -> None:
        """Listen, and dial everybody until stopped.

        Raises:
            PeerAddressError: the own address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        if self._listener is None:
            self._listener = _listen(self._addresses[self.index])
        # Accepted connections inherit it, so that the next process can listen here before they have faded away.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        now, limits = loop.time(), self.limits
        for index, address in self._addresses.items():
            if index != self.index:
                self._peers[index] = peer = _Peer(
                    index,
                    address,
                    PeerCounters(),
                    Bucket(limits.messages_rate_max, limits.messages_burst, now),
                    Bucket(limits.bytes_rate_max, limits.bytes_burst, now),
                    Bucket(limits.connections_rate_max, limits.connections_burst, now),
                    asyncio.Event(),
                    asyncio.Event(),
                )
                peer.absent.set()
                self._spawn(self._dial_forever(peer), f"dial {index}")
                self._spawn(self._deliver_forever(peer), f"deliver {index}")
        loop.add_reader(self._listener, self._accept, self._listener)
        self._spawn(self._watch_forever(), "watch")

    @property
    def address(self) -> tuple[str, int]:
        """Where this validator really listens."""
        if self._listener is None or self._listener.fileno() < 0:
            return self._addresses[self.index]
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def send(self, to: int, frame: bytes) -> bool:
        """Queue a frame; never blocks. False, and counted, if the peer is not connected or its queue is full."""
        peer = self._peers.get(to)
        if peer is None or not frame:
            return False
        if peer.link is None:
            peer.counters.dropped_absent += 1
            return False
        if not peer.link.send(frame):
            peer.counters.dropped_full += 1
            return False
        return True

    def connected(self) -> frozenset[int]:
        """Return who is connected now."""
        return frozenset(index for index, peer in self._peers.items() if peer.link is not None)

    def cut_off(self, index: int, detail: str) -> None:
        """Cut a peer off as if `on_frame` had refused a frame: for what is found out only later."""
        peer = self._peers.get(index)
        if peer is not None and peer.link is not None:
            peer.link.close("refused", detail)

    @property
    def counters(self) -> Mapping[int, PeerCounters]:
        """What happened with each peer since the start."""
        return {index: peer.counters for index, peer in self._peers.items()}

    def queued(self, index: int) -> tuple[int, int]:
        """Return how many frames and bytes wait to be sent to a peer."""
        link = self._peers[index].link if index in self._peers else None
        return (link.lanes.count, link.lanes.size_bytes) if link is not None else (0, 0)

    async def stop(self) -> None:
        """Close everything and wait until it is closed. Frames that wait are dropped."""
        if self._accept_again is not None:
            self._accept_again.cancel()
        if self._listener is not None:
            if self._listener.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        tasks = [*self._tasks, *self._greeting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self._links)
        for link in links:
            link.close("stopped")
        if links:
            await asyncio.wait([link.gone for link in links], timeout=SHUTDOWN_S)
            for link in links:
                link.abort()
            await asyncio.wait([link.gone for link in links])

    # ------------------------------------------------------------------------------------------------- for the links

    def accepted(self, link: Link, connection: ssl.SSLObject) -> None:
        """Name the other end of a fresh connection and give the link its buckets and counters.

        Raises:
            IdentityError, UnexpectedPeerError, PinnedCertificateError: the certificate is not the right one.
            PeerRefusedError: it may not connect now.
        """
        self._links.add(link)
        link.index = index = self._tls.validator(connection, link.dialled)
        peer = self._peers.get(index)
        if peer is None:
            raise PeerRefusedError(f"validator {index} is none of the others here", index=index)
        link.counters, link.messages, link.bytes = peer.counters, peer.messages, peer.bytes
        now = asyncio.get_running_loop().time()
        if now < peer.banned_until:
            peer.counters.turned_away += 1
            raise PeerRefusedError(f"validator {index} is kept away", index=index)
        if link.dialled is None and peer.connections.take(1, now) > 0:
            peer.counters.turned_away += 1
            peer.counters.closed["connections"] += 1
            self._punish(peer, "connections", "opens connections too often")
            if peer.link is not None:
                peer.link.close("banned")
            raise PeerRefusedError(f"validator {index} connects too often", index=index)

    def greeted(self, link: Link) -> bool:
        """Keep a link whose other end said hello, or close it in favour of the present one and return False."""
        peer = self._peers[link.index]
        old = peer.link
        if old is not None:
            if not self._replaces(link, old):
                link.close("duplicate")
                return False
            old.close("replaced")
        peer.link = link
        peer.absent.clear()
        peer.counters.joins += 1
        log.info("validator %d: connected to validator %d", self.index, link.index)
        asyncio.get_running_loop().call_soon(self._on_joined, link.index)
        peer.undelivered = link
        peer.arrived.set()
        link.settled.set_result(None)
        return True

    def _replaces(self, new: Link, old: Link) -> bool:
        """Return whether a second connection to the same peer replaces the first.

        A process that started again replaces its former self, and a later connection replaces an earlier one of the
        same dialler, who would not have dialled had the earlier one been alive. If the two ends dialled each other at
        the same time, the lower index's connection stays; an old one was not dialled at the same time.
        """
        if new.boot != old.boot or (new.dialled is None) == (old.dialled is None):
            return True
        return old.lived_ms > self.limits.handshake_ms or (new.dialled is not None) == (self.index < new.index)

    def closed(self, link: Link, reason: str, detail: str) -> None:
        """Forget a link; keep its peer away if the reason is the peer's doing."""
        link.gone.add_done_callback(lambda _: self._links.discard(link))
        peer = self._peers.get(link.index)
        if peer is None or reason == "turned away":
            self.refused["identity" if peer is None and reason == "turned away" else reason] += 1
            level = log.debug if link.dialled is None else log.warning
            level("validator %d: connection refused: %s", self.index, detail)
            return
        link.counters.closed[reason] += 1
        if peer.link is link:
            peer.link = None
            peer.dial_failures = 0 if link.lived_ms > self.limits.calm_ms else peer.dial_failures + 1
            peer.absent.set()
            log.info("validator %d: validator %d gone: %s %s", self.index, link.index, reason, detail)
        if reason in MISBEHAVIOUR:
            self._punish(peer, reason, detail)

    def _punish(self, peer: _Peer, reason: str, detail: str) -> None:
        now = asyncio.get_running_loop().time()
        if 1000 * (now - max(peer.fault_at, peer.banned_until)) > self.limits.calm_ms:
            peer.faults = 0
        peer.faults += 1
        peer.fault_at = now
        away = self._ban_backoff.seconds(peer.faults)
        peer.banned_until = now + away
        log.warning(
            "validator %d: validator %d cut off: %s (%s); kept away for %.1f s",
            self.index,
            peer.index,
            reason,
            detail,
            away,
        )

    # ----------------------------------------------------------------------------------------------------------- tasks

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("validator %d: %s failed", self.index, task.get_name(), exc_info=error)

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection. No task: a cancelled one could lose a socket between the kernel and itself."""
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # out of file descriptors, or the other end has left already
            self.refused[type(error).__name__] += 1
            loop.remove_reader(listener)
            self._accept_again = loop.call_later(ACCEPT_PAUSE_S, loop.add_reader, listener, self._accept, listener)
            return
        if len(self._greeting) >= self.limits.handshakes_max:
            next(iter(self._greeting)).cancel()
        task = loop.create_task(self._greet(sock), name="greet")
        self._greeting[task] = sock
        task.add_done_callback(self._greeted_or_not)

    def _greeted_or_not(self, task: asyncio.Task[None]) -> None:
        sock = self._greeting.pop(task)
        if task.cancelled():
            sock.close()

    async def _greet(self, sock: socket.socket) -> None:
        link = Link(self)
        timeout_s = self.limits.handshake_ms / 1000
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                sock,
                ssl=self._tls.server,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
            await asyncio.wait([link.settled])
        except OSError as error:
            self.refused[_handshake_failure(error)] += 1
        except asyncio.CancelledError:
            link.close("crowded out")
            raise

    async def _dial_forever(self, peer: _Peer) -> None:
        while True:
            await peer.absent.wait()
            await asyncio.sleep(self._dial_wait(peer))
            async with self._dialling:
                if peer.link is None:
                    await self._dial(peer)
                    peer.dial_failures += peer.link is None

    def _dial_wait(self, peer: _Peer) -> float:
        wait = self._dial_backoff.seconds(peer.dial_failures) if peer.dial_failures else 0.0
        if self.index > peer.index:
            wait += self.limits.dial_grace_ms / 1000
        return max(wait, peer.banned_until - asyncio.get_running_loop().time())

    async def _dial(self, peer: _Peer) -> None:
        """Dial once, until the connection is of use or given up."""
        loop = asyncio.get_running_loop()
        link = Link(self, peer.index)
        timeout_s = self.limits.handshake_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(
                    lambda: link,
                    *peer.address,
                    ssl=self._tls.client,
                    ssl_handshake_timeout=timeout_s,
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
            await asyncio.wait([link.settled])
        except (OSError, UnicodeError) as error:
            log.debug("validator %d: validator %d: %s", self.index, peer.index, error)
            link.abort()

    async def _deliver_forever(self, peer: _Peer) -> None:
        """Deliver what one link after the other receives; what a link did that was overtaken meanwhile is lost."""
        while True:
            await peer.arrived.wait()
            peer.arrived.clear()
            link, peer.undelivered = peer.undelivered, None
            if link is None:
                continue
            try:
                await link.deliver(self._on_frame)
            except Exception as error:
                log.error("validator %d: taking a frame of %d failed", self.index, peer.index, exc_info=error)
                link.close("failed", type(error).__name__)

    async def _watch_forever(self) -> None:
        loop, limits = asyncio.get_running_loop(), self.limits
        shortest = min(limits.handshake_ms, limits.gap_ms, limits.idle_ms, limits.ping_ms, limits.flood_ms)
        pause = min(WATCH_S_MAX, shortest / 4000)
        before = loop.time()
        while True:
            await asyncio.sleep(pause)
            now = loop.time()
            # A process that was kept from running must not blame its peers for what it has not read meanwhile.
            elapsed, before = min(now - before, 2 * pause), now
            for link in list(self._links):
                if not link.is_closed:
                    link.watch(now, elapsed)
            for index, peer in self._peers.items():
                if peer.link is not None and peer.link.wants_to_repeat():
                    loop.call_soon(self._on_joined, index)


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise PeerAddressError(
            f"cannot listen on {address[0]}:{address[1]}: {error.strerror}", address=address
        ) from error
    return listener


def _handshake_failure(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, ssl.SSLError):
        named = {"PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate", "UNSUPPORTED_PROTOCOL": "version"}
        return named.get(error.reason or "", "tls")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "no handshake"
    return "lost"
