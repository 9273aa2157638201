"""A question that is taken back while its connection is being made leaves no connection open."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from collegium.node._client_line import ClientLimits, GatewayUnreachableError, Line


async def asked_and_left(limits: ClientLimits, *, cancel: bool) -> None:
    """Ask a gateway that takes connections and never says a word, then see the other end of the connection close."""
    connected, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1 << 16):
            pass
        writer.close()
        closed.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        http = httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", trust_env=False)
        asking = asyncio.create_task(Line(0, http, limits).ask("/v1/latest", 100))
        await asyncio.wait_for(connected.wait(), 60)
        if cancel:
            asking.cancel()
        with pytest.raises(asyncio.CancelledError if cancel else GatewayUnreachableError):
            await asking
        await asyncio.wait_for(closed.wait(), 60)  # while the client is still there
        await http.aclose()


def test_a_question_that_is_cancelled_during_the_handshake_hangs_up() -> None:
    asyncio.run(asked_and_left(ClientLimits(), cancel=True))


def test_a_question_that_takes_too_long_during_the_handshake_hangs_up() -> None:
    asyncio.run(asked_and_left(ClientLimits(answer_s=0.5), cancel=False))
