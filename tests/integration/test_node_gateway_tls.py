"""A gateway over real TLS on loopback: who is at the other end, real uploads, and peers that are slow, many or rude."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from _gateway_stage import ROUND, SIZE, TASK, TRAINERS, House, StageDesk, chain, epoch_set, run, upload_bytes

from collegium.consensus import decode_upload, encode_upload
from collegium.node._client import NobodyAnsweredError, ValidatorClient
from collegium.node._client_line import ClientLimits, GatewayUnreachableError, open_lines
from collegium.node._desk import Verdict
from collegium.node._epochs import Epochs
from collegium.node._event_feed import NodeEvent
from collegium.node._gateway import GatewayLimits
from collegium.node._gateway_server import GatewayServer, ServerLimits
from collegium.node._tls import (
    Authority,
    Identity,
    Role,
    TlsFiles,
    anonymous_client_context,
    create_authority,
    gateway_context,
    issue,
    save_credentials,
)

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
CLIENT = ClientLimits(retry_s=0.01, retry_s_max=0.05, hedge_s=PATIENCE_S)


@dataclass(frozen=True)
class Site:
    """A consortium's authority, and each validator's files."""

    files: tuple[TlsFiles, ...]
    authority: Authority


def credentials(folder: Path, authority: Authority, validator: int) -> TlsFiles:
    folder.mkdir(parents=True)
    files = TlsFiles.inside(folder)
    identity = Identity(authority.task, Role.VALIDATOR, validator)
    save_credentials(files, issue(authority, identity, datetime.now(UTC)), authority)
    return files


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    authority = create_authority(TASK, datetime.now(UTC))
    return Site(tuple(credentials(folder / f"{i}", authority, i) for i in range(SIZE)), authority)


@asynccontextmanager
async def serving(
    house: House, files: TlsFiles, limits: ServerLimits | None = None, port: int = 0
) -> AsyncIterator[tuple[tuple[str, int], GatewayServer]]:
    server = GatewayServer(
        house.gateway.app(), gateway_context(files), port=port, metrics=house.gateway.metrics, limits=limits
    )
    place = await server.start()
    try:
        yield place, server
    finally:
        await server.stop()


def client_at(site: Site, places: dict[int, tuple[str, int]], limits: ClientLimits = CLIENT) -> ValidatorClient:
    lines = open_lines(TASK, places, site.files[0].authority, limits)
    return ValidatorClient(Epochs(epoch_set(), None), lines, limits, Random(0))


async def opened(site: Site, place: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a bare connection, TLS done."""
    context = anonymous_client_context(site.files[0].authority, Identity(TASK, Role.VALIDATOR, 0))
    return await asyncio.open_connection(*place, ssl=context)


async def heard(reader: asyncio.StreamReader) -> bytes:
    """Return everything until the other end hangs up, however it does that."""
    gathered = bytearray()
    try:
        while piece := await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S):
            gathered += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(gathered)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def cut_offs(house: House, reason: str) -> float:
    value = house.gateway.metrics.registry.get_sample_value("collegium_cut_offs_total", {"reason": reason})
    return value or 0.0


# ------------------------------------------------------------------------------------------------ the good way


def test_four_validators_are_asked_and_uploaded_to(site: Site, tmp_path: Path) -> None:
    houses = [House.of(tmp_path, StageDesk(i, blocks=chain(6))) for i in range(SIZE)]
    data = upload_bytes(length=4000)

    async def scene() -> None:
        async with asyncio.TaskGroup():
            servers = [GatewayServer(h.gateway.app(), gateway_context(site.files[i])) for i, h in enumerate(houses)]
            places = {i: await server.start() for i, server in enumerate(servers)}
            client = client_at(site, places, ClientLimits(append_bytes=1500))
            header = await client.latest()
            assert header is not None
            assert header.certified.header.round == 2
            outcomes = await client.upload(ROUND, data, TRAINERS[0])
            assert outcomes == dict.fromkeys(range(SIZE), Verdict("admitted"))
            assert (await client.readiness(2)).ready
            await client.close()
            for server in servers:
                await server.stop()

    run(scene)
    assert all([u.data for u in house.desk.submitted] == [data] for house in houses)


def test_true_upload_is_decoded_strictly(site: Site, tmp_path: Path) -> None:
    from _round_stage import upload_of

    upload = upload_of(0)
    data = encode_upload(upload)
    house = House.of(tmp_path, StageDesk(rounds={0: range(1, len(data) + 2)}))
    house.desk.trainers = frozenset({upload.report.trainer})
    house.gateway.decode = decode_upload

    from _round_stage import committee

    async def scene() -> None:
        async with serving(house, site.files[0]) as (place, _):
            client = client_at(site, {0: place})
            worse = await client.upload(0, data + b"\0", committee().trainers[0])
            assert isinstance(worse[0], Verdict)
            assert (worse[0].outcome, house.desk.submitted) == ("refused", [])
            outcomes = await client.upload(0, data, committee().trainers[0])
            assert outcomes == {0: Verdict("admitted")}
            await client.close()

    run(scene)
    (submitted,) = house.desk.submitted
    assert submitted.report.id == upload.report.id
    assert submitted.ciphertext == upload.ciphertext


def test_upload_survives_a_restart_of_the_gateway(site: Site, tmp_path: Path) -> None:
    data = upload_bytes(length=4000)
    before, after = House.of(tmp_path), House.of(tmp_path / "elsewhere")

    async def scene() -> None:
        async with serving(before, site.files[0]) as (place, server):
            client = client_at(site, {0: place}, ClientLimits(append_bytes=1000, retry_s=0.01, retry_s_max=0.05))

            async def stop_midway() -> None:
                await until(lambda: any(u.offset >= 2000 for u in before.gateway.spool._uploads.values()))

            before.desk.deaf = True  # whatever it is told, it has no verdict when it goes
            midway = asyncio.create_task(stop_midway())
            task = asyncio.create_task(client.upload(ROUND, data, TRAINERS[0]))
            await midway
            await server.stop()
        after.gateway.spool = type(after.gateway.spool)(before.gateway.spool.folder, TASK, 0)
        async with serving(after, site.files[0], port=place[1]):
            assert await asyncio.wait_for(task, PATIENCE_S) == {0: Verdict("admitted")}
            await client.close()

    run(scene)
    assert [u.data for u in after.desk.submitted] == [data]
    assert after.gateway.metrics.registry.get_sample_value("collegium_upload_bytes_total") <= 2000


def test_events_are_heard_and_resumed(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)
    feed = house.gateway.feed

    async def scene() -> None:
        async with serving(house, site.files[0]) as (place, _):
            client = client_at(site, {0: place})
            feed.publish("round-started", round=1)
            heard_events = list[NodeEvent]()
            async for event in client.events(0, after=0):
                heard_events.append(event)
                if event.name == "admitted":
                    break
                feed.publish("admitted", round=1, report="ab")
            assert [(e.number, e.name, dict(e.fields)) for e in heard_events] == [
                (1, "round-started", {"round": 1}),
                (2, "admitted", {"round": 1, "report": "ab"}),
            ]
            for _ in range(300):
                feed.publish("view", view=2)
            async for event in client.events(0, after=2):
                assert (event.name, dict(event.fields)) == ("lagged", {"missed": 44})
                break
            await client.close()

    run(scene)


@pytest.mark.parametrize("kindly", [True, False])
def test_stopping_ends_whoever_waits(
    site: Site, tmp_path: Path, kindly: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = House.of(tmp_path)
    feed = house.gateway.feed

    async def scene() -> None:
        server = GatewayServer(
            house.gateway.app(),
            gateway_context(site.files[0]),
            limits=ServerLimits(stop_s=PATIENCE_S if kindly else 0.1),
            stopping=feed.close if kindly else None,
        )
        client = client_at(site, {0: await server.start()})

        async def listen() -> int:
            return len([event async for event in client.events(0)])

        listening = asyncio.create_task(listen())
        asking = asyncio.create_task(client.latest(wait_s=PATIENCE_S))
        await until(lambda: feed._listeners == 1 and bool(feed._coming))
        await server.stop()
        if kindly:
            assert await asyncio.wait_for(listening, PATIENCE_S) == 0
            assert await asyncio.wait_for(asking, PATIENCE_S) is None
        else:
            with pytest.raises(GatewayUnreachableError):
                await asyncio.wait_for(listening, PATIENCE_S)
            with pytest.raises(NobodyAnsweredError):
                await asyncio.wait_for(asking, PATIENCE_S)
        await until(lambda: feed._listeners == 0 and server.connections == 0)
        await client.close()

    run(scene)
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == []


def test_question_of_a_client_that_left_is_dropped(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        async with serving(house, site.files[0]) as (place, server):
            _, writer = await opened(site, place)
            writer.write(b"GET /v1/round?wait_ms=20000 HTTP/1.1\r\nhost: a\r\n\r\n")
            await until(lambda: bool(house.gateway.feed._coming))
            writer.transport.abort()
            await until(lambda: cut_offs(house, "client-gone") == 1 and not server._state.tasks)

    run(scene)


# ------------------------------------------------------------------------------------------------ who it is


def refused_by(site: Site, serve: TlsFiles, tmp_path: Path) -> str:
    """Return why a client that looks for validator 0 does not believe the server with these files."""

    async def scene() -> str:
        async with serving(House.of(tmp_path), serve) as (place, _):
            client = client_at(site, {0: place})
            with pytest.raises(NobodyAnsweredError) as refused:
                await client.latest()
            await client.close()
        return str(refused.value)

    return run(scene)


def test_another_validator_is_not_believed(site: Site, tmp_path: Path) -> None:
    assert "found validator 1, expected validator 0" in refused_by(site, site.files[1], tmp_path)


def test_another_authority_is_not_believed(site: Site, tmp_path: Path) -> None:
    other = credentials(tmp_path / "other", create_authority(TASK, datetime.now(UTC)), 0)
    assert "CERTIFICATE_VERIFY_FAILED" in refused_by(site, other, tmp_path)


def test_older_tls_is_not_spoken(site: Site, tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(House.of(tmp_path), site.files[0]) as (place, _):
            context = anonymous_client_context(site.files[0].authority)
            _, writer = await asyncio.open_connection(*place, ssl=context)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.transport.abort()
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                await asyncio.open_connection(*place, ssl=context)

    run(scene)


# ------------------------------------------------------------------------------------------------ slow, many, rude


def served(
    site: Site,
    house: House,
    limits: ServerLimits,
    scene: Callable[[tuple[str, int], GatewayServer], Coroutine[Any, Any, None]],
) -> None:
    async def play() -> None:
        async with serving(house, site.files[0], limits) as (place, server):
            await scene(place, server)

    run(play)


def patch_head(identity: str, length: int) -> bytes:
    fields = f"host: a\r\nupload-offset: 0\r\ncontent-length: {length}\r\n\r\n"
    return f"PATCH /v1/uploads/{identity} HTTP/1.1\r\n{fields}".encode()


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nx: "],
    ids=["nothing", "half a line", "after a good request"],
)
def test_slow_head_is_cut_off(site: Site, tmp_path: Path, said: bytes) -> None:
    house = House.of(tmp_path)

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        reader, writer = await opened(site, place)
        writer.write(said)
        answer = await heard(reader)
        assert answer.startswith(b"HTTP/1.1 200") == (b"host" in said)
        writer.close()
        await until(lambda: server.connections == 0)

    served(site, house, ServerLimits(head_s=2.0 if b"host" in said else 0.3, idle_s=60.0), scene)
    assert cut_offs(house, "slow-request") == 1


def test_dripping_head_is_cut_off(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        _, writer = await opened(site, place)
        writer.write(b"GET /healthz HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"x: y\r\n")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        await until(lambda: cut_offs(house, "slow-request") == 1 and server.connections == 0)
        dripping.cancel()
        writer.transport.abort()

    served(site, house, ServerLimits(head_s=0.3), scene)


def test_rest_of_a_refused_body_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        reader, writer = await opened(site, place)
        writer.write(patch_head("0" * 64, 1_000_000) + b"x")
        assert b"UnknownItemError" in await heard(reader)
        writer.close()

    served(site, house, ServerLimits(head_s=2.0), scene)
    assert cut_offs(house, "slow-request") == 1


def test_slow_body_is_answered_and_kept(site: Site, tmp_path: Path) -> None:
    house, data = House.of(tmp_path, limits=GatewayLimits(idle_s=0.3)), upload_bytes()

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        upload = house.gateway.spool.begin(house.ticket(data))
        reader, writer = await opened(site, place)
        writer.write(patch_head(upload.identity, 1000) + data[:100])
        assert b"SlowBodyError" in await heard(reader)
        assert upload.offset == 100
        writer.close()

    served(site, house, ServerLimits(), scene)


def test_broken_body_is_kept(site: Site, tmp_path: Path) -> None:
    data = upload_bytes(length=2 << 20)
    house = House.of(tmp_path)

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        upload = house.gateway.spool.begin(house.ticket(data))
        _, writer = await opened(site, place)
        writer.write(patch_head(upload.identity, len(data)) + data[:-1])
        await until(lambda: upload.offset > 0)
        writer.transport.abort()
        await until(lambda: server.connections == 0 and not server._state.tasks)
        assert 1 << 20 <= upload.offset < len(data)

    served(site, house, ServerLimits(), scene)


def test_slow_reader_is_cut_off(site: Site, tmp_path: Path) -> None:
    from hashlib import sha256

    data = bytes(32 << 20)
    digest = sha256(data).digest()
    house = House.of(tmp_path, StageDesk(objects={digest: data}))

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        _, writer = await opened(site, place)
        writer.write(f"GET /v1/objects/{digest.hex()} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        await until(lambda: cut_offs(house, "slow-reader") == 1)  # and reads nothing beyond its own buffer
        await until(lambda: server.connections == 0)
        writer.transport.abort()

    served(site, house, ServerLimits(stall_s=0.3), scene)


def test_too_many_connections_are_turned_away(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        ends = [await opened(site, place) for _ in range(3)]
        await until(lambda: server.connections == 3)
        reader, writer = ends[-1]
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await heard(reader)).startswith(b"HTTP/1.1 503")
        ends += [await opened(site, place) for _ in range(3)]
        await until(lambda: cut_offs(house, "too-many-connections") >= 1)
        for _, writer in ends:
            writer.transport.abort()
        await until(lambda: server.connections == 0)
        client = client_at(site, {0: place})
        assert (await client.readiness(0)).ready
        await client.close()

    served(site, house, ServerLimits(connections_max=3, connections_spare=1), scene)


def test_giant_head_is_refused(site: Site, tmp_path: Path) -> None:
    async def answer_to(place: tuple[str, int], size: int) -> bytes:
        reader, writer = await opened(site, place)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: " + b"y" * size + b"\r\n\r\n")
        said = await heard(reader)
        writer.close()
        return said

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        assert (await answer_to(place, 2000)).startswith(b"HTTP/1.1 200")
        said = await answer_to(place, 1 << 20)  # more than one read takes in
        assert said == b"" or said.startswith(b"HTTP/1.1 400")  # the rest of the head may run into a closed door
        await until(lambda: server.connections == 0)

    served(site, House.of(tmp_path), ServerLimits(head_bytes_max=4096), scene)


@pytest.mark.parametrize("said", [b"\0" * 100, b"GET healthz\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n"])
def test_garbage_is_answered_once(site: Site, tmp_path: Path, said: bytes) -> None:
    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        reader, writer = await opened(site, place)
        writer.write(said)
        assert (await heard(reader)).startswith(b"HTTP/1.1 400")
        writer.close()

    served(site, House.of(tmp_path), ServerLimits(), scene)


def test_handshake_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"\x16\x03\x01")
        assert await heard(reader) == b""
        writer.close()

    served(site, House.of(tmp_path), ServerLimits(handshake_s=0.3), scene)


def test_listeners_are_few(site: Site, tmp_path: Path) -> None:
    house = House.of(tmp_path)
    house.gateway.feed._listeners_max = 1

    async def scene(place: tuple[str, int], server: GatewayServer) -> None:
        first, second = await opened(site, place), await opened(site, place)
        for _, writer in (first, second):
            writer.write(b"GET /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            await until(lambda: house.gateway.feed._listeners == 1)
        assert b"BusyError" in await heard(second[0])
        first[1].transport.abort()
        await until(lambda: house.gateway.feed._listeners == 0)
        second[1].close()

    served(site, house, ServerLimits(), scene)
