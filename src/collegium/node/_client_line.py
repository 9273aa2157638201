"""One validator's gateway as a client reaches it: bounded questions, and answers or named errors."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import httpx
import msgspec

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._event_feed import NodeEvent
from ._gateway_problems import PROBLEM_BYTES_MAX, decode_problem
from ._tls import Identity, Role, anonymous_client_context, check_authority

__all__ = [
    "Answer",
    "ClientLimits",
    "GatewayAnswerError",
    "GatewayRefusedError",
    "GatewayUnreachableError",
    "Line",
    "open_lines",
]

# httpcore asks several times a request whether trio runs, and imports this to find out. Where it is not installed, each
# question looks for it in all folders: a quarter of what a request costs. An entry of None says that it is not there.
if importlib.util.find_spec("sniffio") is None:
    sys.modules.setdefault("sniffio", cast(ModuleType, None))

EVENT_BYTES_MAX: Final = 64 << 10
_EVENT_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_EVENT_NAME: Final = re.compile(r"[a-z][a-z_-]{0,63}")


class GatewayUnreachableError(CollegiumError):
    """A validator's gateway did not answer: no connection, another certificate than its own, or too slow."""


class GatewayRefusedError(CollegiumError):
    """A validator's gateway refused, and said why: `values` are `validator`, its error's `name`, `status`, `found`."""


class GatewayAnswerError(CollegiumError):
    """What a validator's gateway answered is malformed, too long, or does not verify."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How much of a validator a client believes, and how long it waits.

    Attributes:
        connect_s: for a connection, TLS included.
        stall_s: for the next bytes, either way.
        answer_s: for a whole answer.
        hedge_s: before another validator is asked the same.
        append_bytes: that one request of an upload carries.
        uploads_at_once: validators that one upload goes to at the same time.
        retry_s, retry_s_max: the back-off before the second try, and its bound; each try waits a random part of it.
        upload_s: for an upload to one validator, retries included.
        object_bytes_max, blocks_bytes_max: of an answer.
    """

    connect_s: float = 10.0
    stall_s: float = 20.0
    answer_s: float = 60.0
    hedge_s: float = 1.0
    append_bytes: int = 4 << 20
    uploads_at_once: int = 16
    retry_s: float = 0.1
    retry_s_max: float = 5.0
    upload_s: float = 600.0
    object_bytes_max: int = 1 << 30
    blocks_bytes_max: int = 96 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A status below 400, header fields by lower-case name, and the body."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class _Handshake:
    """Closes a connection on which TLS was being agreed when its request was cancelled: httpcore forgets it then."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take what httpcore tells of a request's way."""
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.complete":
            self._stream = None

    async def end(self) -> None:
        """Close the connection, if its TLS was not agreed on."""
        if self._stream is not None:
            await self._stream.aclose()


class Line:
    """A validator's gateway.

    Args:
        http: a client whose base address is the gateway's and whose TLS accepts this validator alone.
    """

    def __init__(self, validator: int, http: httpx.AsyncClient, limits: ClientLimits) -> None:
        self.validator = validator
        self._http = http
        self._limits = limits

    async def ask(
        self,
        path: str,
        bytes_max: int,
        *,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        wait_s: float = 0.0,
        accepted: tuple[int, ...] = (),
    ) -> Answer:
        """Return an answer of at most `bytes_max`.

        Args:
            wait_s: how much longer than otherwise the answer may take.
            accepted: statuses from 400 on that are answers too.

        Raises:
            GatewayUnreachableError, GatewayRefusedError, GatewayAnswerError: see there.
        """
        request = self._http.build_request(
            method,
            path,
            params=query,
            headers={**(fields or {}), **({"content-length": str(len(body))} if body else {})},
            content=_pieces(body) if body else None,
            timeout=self._timeout(wait_s),
        )
        async with self._sent(request, self._limits.answer_s + wait_s) as response:
            refused = response.status_code >= 400 and response.status_code not in accepted
            most = PROBLEM_BYTES_MAX if refused else bytes_max
            gathered = bytearray()
            async for chunk in response.aiter_raw():
                gathered += chunk
                if len(gathered) > most:
                    raise GatewayAnswerError(
                        f"validator {self.validator} answers {path} with more than {most} bytes",
                        validator=self.validator,
                        most=most,
                    )
        if refused:
            raise self._refusal(path, response.status_code, bytes(gathered))
        return Answer(response.status_code, dict(response.headers.items()), bytes(gathered))

    async def events(self, after: int | None = None) -> AsyncIterator[NodeEvent]:
        """Yield a validator's events as they come, from the one after number `after` on; ends when it hangs up.

        Raises:
            GatewayUnreachableError, GatewayRefusedError, GatewayAnswerError: see there.
        """
        fields = {} if after is None else {"last-event-id": str(after)}
        request = self._http.build_request("GET", "/v1/events", headers=fields, timeout=self._timeout(60.0))
        async with self._sent(request, None) as response:
            if response.status_code >= 400:
                raise self._refusal("/v1/events", response.status_code, await response.aread())
            gathered = bytearray()
            async for chunk in response.aiter_raw():
                gathered += chunk
                *whole, rest = bytes(gathered).split(b"\n\n")
                if len(rest) > EVENT_BYTES_MAX:
                    raise GatewayAnswerError(f"validator {self.validator} sends an event of {len(rest)} bytes")
                gathered = bytearray(rest)
                for lines in whole:
                    if not lines.startswith(b":"):
                        yield self._event(lines)

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    def malformed(self, what: str, error: Exception) -> GatewayAnswerError:
        """Return the error that says that this validator's answer does not hold."""
        return GatewayAnswerError(
            f"validator {self.validator}, {what}: {type(error).__name__}: {error}", validator=self.validator
        )

    @asynccontextmanager
    async def _sent(self, request: httpx.Request, seconds: float | None) -> AsyncIterator[httpx.Response]:
        """Send a request and hang up afterwards; the world's failures get their name."""
        handshake = _Handshake()
        request.extensions["trace"] = handshake.trace
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError) as error:  # TimeoutError is one of the latter
            raise GatewayUnreachableError(
                f"validator {self.validator}, {request.method} {request.url.path}: {type(error).__name__}: {error}",
                validator=self.validator,
            ) from error
        finally:
            await handshake.end()

    def _refusal(self, path: str, status: int, body: bytes) -> GatewayRefusedError:
        problem = decode_problem(body, status)
        return GatewayRefusedError(
            f"validator {self.validator} refuses {path}: {problem.title or status}: {problem.detail}",
            validator=self.validator,
            name=problem.title,
            status=status,
            found=problem.values,
        )

    def _event(self, lines: bytes) -> NodeEvent:
        try:
            pairs = dict(line.split(": ", 1) for line in lines.decode().split("\n"))
            fields = msgspec.json.decode(pairs["data"], type=dict[str, str | int | float | bool | None])
            if not (_EVENT_NUMBER.fullmatch(pairs["id"]) and _EVENT_NAME.fullmatch(pairs["event"])):
                raise ValueError(f"number {pairs['id'][:32]!r}, name {pairs['event'][:32]!r}")
            return NodeEvent(int(pairs["id"]), pairs["event"], fields)
        except (ValueError, KeyError, msgspec.MsgspecError, RecursionError) as error:
            raise self.malformed("an event", error) from error

    def _timeout(self, wait_s: float) -> httpx.Timeout:
        stall = self._limits.stall_s
        return httpx.Timeout(connect=self._limits.connect_s, read=stall + wait_s, write=stall, pool=stall)


def open_lines(
    task: Digest, places: Mapping[int, tuple[str, int]], authority: Path, limits: ClientLimits
) -> dict[int, Line]:
    """Return a line to each gateway: TLS 1.3, the consortium's authority alone, and no other validator in its place.

    Args:
        places: host and port by validator's index.
        authority: file of the authority's certificate.

    Raises:
        CredentialsFileError: it is none, or another task's.
    """
    check_authority(authority, task)
    pool = httpx.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=2.0)
    lines = {}
    for validator, (host, port) in places.items():
        context = anonymous_client_context(authority, Identity(task, Role.VALIDATOR, validator))
        http = httpx.AsyncClient(
            base_url=f"https://{host}:{port}",
            verify=context,
            limits=pool,
            trust_env=False,
            headers={"accept-encoding": "identity", "user-agent": "collegium"},
        )
        lines[validator] = Line(validator, http, limits)
    return lines


async def _pieces(body: bytes | memoryview) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for at in range(0, len(view), 1 << 16):
        yield bytes(view[at : at + (1 << 16)])
