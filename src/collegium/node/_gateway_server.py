"""Serves a gateway over TLS 1.3: uvicorn's HTTP, and a bound on everything that a peer could draw out.

Time-outs stand where bytes are read or written: the handshake, a request's head, whatever of a body its answer did not
wait for, and a reader that takes nothing. (A body that is being read has its time-outs in `_gateway`.)
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ._events import WorldError
from ._telemetry import NodeMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["GatewayAddressError", "GatewayServer", "ServerLimits"]


class GatewayAddressError(WorldError):
    """The gateway's address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Of connections, in number, bytes and seconds.

    Attributes:
        connections_max: beyond it a request is answered 503.
        connections_spare: beyond these too, a connection is cut off unheard.
        head_bytes_max: a request's line and header fields.
        handshake_s: for TLS.
        head_s: from the connection, or the last answer, to the whole head of a request.
        idle_s: an open connection without a request.
        stall_s: that a reader may take nothing.
        stop_s: for requests under way when the server stops.
    """

    connections_max: int = 512
    connections_spare: int = 64
    head_bytes_max: int = 16 << 10
    handshake_s: float = 10.0
    head_s: float = 10.0
    idle_s: float = 5.0
    stall_s: float = 20.0
    stop_s: float = 2.0


class GatewayServer:
    """One listening socket.

    Args:
        port: 0 lets the system choose; `start` returns it.
        stopping: is called when the server stops, to send home who only waits (`EventFeed.close`).
    """

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext,
        host: str = "127.0.0.1",
        port: int = 0,
        metrics: NodeMetrics | None = None,
        limits: ServerLimits | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        self._limits = limits or ServerLimits()
        self._metrics = metrics or NodeMetrics()
        self._place = (host, port)
        self._tls = tls
        self._stopping = stopping
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._config = uvicorn.Config(
            _calmly(app),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            interface="asgi3",
            limit_concurrency=self._limits.connections_max,
            timeout_keep_alive=max(1, round(self._limits.idle_s)),
            h11_max_incomplete_event_size=self._limits.head_bytes_max,
        )
        self._config.load()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._state.connections)

    async def start(self) -> tuple[str, int]:
        """Listen, and return host and port.

        Raises:
            GatewayAddressError: the address cannot be listened on.
        """
        host, port = self._place
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self._config, self._state, self._limits, self._metrics),
                host,
                port,
                ssl=self._tls,
                backlog=128,
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=self._limits.handshake_s,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise GatewayAddressError(f"cannot listen on {host}:{port}: {reason}", address=self._place) from error
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def stop(self) -> None:
        """Stop listening, let requests under way end for a while, then cut them off."""
        if self._server is None:
            return
        self._server.close()
        if self._stopping is not None:
            self._stopping()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._settled()
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self._settled()
        for task in list(self._state.tasks):
            task.cancel()
        await self._server.wait_closed()

    async def _settled(self) -> None:
        """Wait until no request is under way, for so long as one may take."""
        tasks = list(self._state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=self._limits.stop_s)


def _calmly(app: ASGIApp) -> ASGIApp:
    """Return the application that ends in silence when it is cancelled, which only `stop` does to it."""

    async def calm(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return calm


class _Clock:
    """Calls back unless it is stopped in time; starting it again while it runs changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]) -> None:
        self._loop, self._seconds, self._ring = loop, seconds, ring
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _Connection(H11Protocol):
    """uvicorn's connection with a clock for a peer that is slow to ask or to read."""

    def __init__(self, config: uvicorn.Config, state: ServerState, limits: ServerLimits, metrics: NodeMetrics) -> None:
        super().__init__(config, state, {})
        self._limits = limits
        self._metrics = metrics
        self._head = _Clock(self.loop, limits.head_s, partial(self._cut_off, "slow-request"))
        self._stall = _Clock(self.loop, limits.stall_s, partial(self._cut_off, "slow-reader"))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Take the connection, unless there are far too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections_max + self._limits.connections_spare:
            self._cut_off("too-many-connections")
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._head.stop()
        self._stall.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; only a whole head stops its clock."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Start the clock for the next head, or for what is left of this request's body."""
        self._head.stop()
        super().on_response_complete()
        self._watch_head()

    def pause_writing(self) -> None:
        """The reader is behind: start its clock."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._stall.stop()
        super().resume_writing()

    def _watch_head(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.transport.is_closing():
            self._head.stop()
        else:
            self._head.start()

    def _cut_off(self, reason: str) -> None:
        self._metrics.cut_off(reason)
        with suppress(OSError):
            self.transport.abort()
