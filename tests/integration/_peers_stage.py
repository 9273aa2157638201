"""A stage for validators' connections: a few ends on loopback, and somebody who holds a certificate and no manners."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from collegium.errors import CollegiumError
from collegium.node._peer_frames import BOOT_BYTES, encode_hello
from collegium.node._peers import PeerLimits, Peers
from collegium.node._tls import (
    Authority,
    Identity,
    Role,
    TlsFiles,
    create_authority,
    issue,
    peer_tls,
    save_credentials,
)

TASK = bytes(32)
PATIENCE_S = 120
GARBAGE = b"\xee"  # a frame that the ends' `on_frame` refuses


class GarbageError(CollegiumError):
    """A frame that nobody can read."""


@dataclass(frozen=True, slots=True)
class Members:
    """Everybody's files."""

    folder: Path
    authority: Authority
    stranger: Authority

    def files(self, name: str, identity: Identity, signed_by: Authority | None = None) -> TlsFiles:
        files = TlsFiles.inside(self.folder / name)
        if not files.key.exists():
            (self.folder / name).mkdir()
            save_credentials(files, issue(signed_by or self.authority, identity, datetime.now(UTC)), self.authority)
        return files

    def validator(self, index: int) -> TlsFiles:
        return self.files(f"validator-{index}", Identity(TASK, Role.VALIDATOR, index))


@cache
def members() -> Members:
    now = datetime.now(UTC)
    folder = Path(tempfile.mkdtemp(prefix="collegium-peers-"))
    return Members(folder, create_authority(TASK, now), create_authority(TASK, now))


@dataclass
class End:
    """One validator's connections, and what came over them."""

    peers: Peers
    received: list[tuple[int, bytes]] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def reaches(self, others: set[int]) -> bool:
        return others <= self.peers.connected()

    def frames_of(self, index: int) -> list[bytes]:
        return [frame for sender, frame in self.received if sender == index]

    def closed(self, index: int) -> dict[str, int]:
        return dict(self.peers.counters[index].closed)


@dataclass
class Stage:
    """Where everybody would listen, and who does."""

    limits: PeerLimits
    listeners: dict[int, socket.socket]
    addresses: dict[int, tuple[str, int]]
    ends: dict[int, End] = field(default_factory=dict)
    others: list[asyncio.StreamWriter] = field(default_factory=list)

    async def begin(self, index: int, limits: PeerLimits | None = None) -> End:
        """Start a validator; the second time under an index, as a new process with a socket of its own."""

        async def on_frame(sender: int, frame: bytes) -> None:
            await end.open.wait()
            if frame[:1] == GARBAGE:
                raise GarbageError(f"kind {frame[0]}", kind=frame[0])
            end.received.append((sender, frame))

        def end_joined(other: int) -> None:
            end.joined.append(other)

        end = End(
            Peers(
                index,
                self.addresses,
                peer_tls(members().validator(index), TASK),
                on_frame,
                end_joined,
                limits or self.limits,
                self.listeners.pop(index, None),
            )
        )
        end.open.set()
        self.ends[index] = end
        await end.peers.start()
        return end

    async def connected(self, *ends: End) -> None:
        """Wait until all these ends are connected with each other."""
        for end in ends:
            wanted = {other.peers.index for other in ends if other is not end}
            await until(partial(end.reaches, wanted))

    async def intrude(self, to: int, files: TlsFiles, hello: bool = True) -> Intruder:
        """Connect to a validator with somebody's certificate and, unless told otherwise, say hello."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(files.authority)
        context.load_cert_chain(files.certificate, files.key)
        reader, writer = await asyncio.open_connection(*self.addresses[to], ssl=context)
        self.others.append(writer)
        if hello:
            writer.write(encode_hello(b"intruder".ljust(BOOT_BYTES)))
        return Intruder(reader, writer)


@dataclass
class Intruder:
    """Somebody's bare TLS connection to a validator."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def closed(self) -> None:
        """Wait until the other end has closed the connection."""
        with contextlib.suppress(OSError):
            while await self.reader.read(1 << 16):
                pass


@contextlib.asynccontextmanager
async def stage(count: int, limits: PeerLimits | None = None) -> AsyncIterator[Stage]:
    """Reserve addresses for `count` validators; afterwards nothing may be left of whoever was started."""
    listeners = {}
    for index in range(count):
        listeners[index] = socket.socket()
        listeners[index].bind(("127.0.0.1", 0))
    addresses = {index: listener.getsockname() for index, listener in listeners.items()}
    built = Stage(limits or PeerLimits(), dict(listeners), addresses)
    try:
        yield built
    finally:
        for writer in built.others:
            writer.transport.abort()
        for end in built.ends.values():
            await end.peers.stop()
        for listener in listeners.values():
            listener.close()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        gc.collect()  # a socket that nobody closed would warn here, and a warning is an error


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; an hour's load on the machine does not make a test fail, only a fault does."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
