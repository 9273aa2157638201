"""What a client takes of several validators: only what verifies; and how its uploads end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from _gateway_stage import (
    ROUND,
    SIZE,
    STRANGER,
    TASK,
    TRAINERS,
    VOTING,
    House,
    StageDesk,
    certify,
    chain,
    epoch_set,
    forged,
    run,
    upload_bytes,
)

from collegium.consensus import Committed, NotFinalError, Registered
from collegium.errors import CollegiumError
from collegium.node._client import DisagreementError, NobodyAnsweredError, ValidatorClient
from collegium.node._client_line import (
    ClientLimits,
    GatewayAnswerError,
    GatewayRefusedError,
    GatewayUnreachableError,
    Line,
)
from collegium.node._client_upload import UploadDeadlineError
from collegium.node._desk import FinalBlocks, Readiness, Verdict
from collegium.node._epochs import Epochs
from collegium.node._event_feed import NodeEvent
from collegium.settlement import NO_CHECKPOINT, Checkpoint

LIMITS = ClientLimits(retry_s=0.001, retry_s_max=0.002, append_bytes=300)


def houses(folder: Path, desks: list[StageDesk] | None = None) -> list[House]:
    return [House.of(folder, desk) for desk in desks or [StageDesk(index) for index in range(SIZE)]]


def client_of(rows: list[House], limits: ClientLimits = LIMITS, seed: int = 0) -> ValidatorClient:
    lines = {house.desk.index: house.line(limits) for house in rows}
    return ValidatorClient(Epochs(epoch_set(), None), lines, limits, Random(seed))


def desks(*blocks: tuple[Committed, ...]) -> list[StageDesk]:
    return [StageDesk(index, blocks=known) for index, known in enumerate(blocks)]


class Broken(httpx.AsyncBaseTransport):
    """A connection that breaks whenever `breaks` says so, before the request arrives or after the answer was made."""

    def __init__(self, inner: httpx.AsyncBaseTransport, breaks: Callable[[httpx.Request], str]) -> None:
        self.inner, self.breaks = inner, breaks

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        how = self.breaks(request)
        if how == "before":
            raise httpx.ConnectError("no route", request=request)
        response = await self.inner.handle_async_request(request)
        if how == "after":
            raise httpx.ReadError("connection lost", request=request)
        return response


def break_line(house: House, breaks: Callable[[httpx.Request], str]) -> None:
    transport = Broken(house.http._transport, breaks)
    house.http = httpx.AsyncClient(transport=transport, base_url=house.http.base_url)


class Liar(httpx.AsyncBaseTransport):
    """Something that is no gateway and always answers the same."""

    def __init__(self, status: int, body: bytes = b"", fields: dict[str, str] | None = None) -> None:
        self.status, self.body, self.fields = status, body, fields

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield self.body

        return httpx.Response(self.status, headers=self.fields, content=pieces())


def answering(validator: int, status: int, body: bytes = b"", fields: dict[str, str] | None = None) -> Line:
    """Return a line to a liar."""
    return Line(validator, httpx.AsyncClient(transport=Liar(status, body, fields), base_url="https://liar"), LIMITS)


# ------------------------------------------------------------------------------------------------ what is final


@pytest.mark.parametrize("seed", range(6))
def test_highest_of_the_final_headers_is_taken(tmp_path: Path, seed: int) -> None:
    behind, ahead = chain(6)[:4], chain(6)
    client = client_of(houses(tmp_path, desks(ahead, ahead, ahead, behind)), seed=seed)
    header = run(client.latest)
    assert header is not None
    assert (header.block, header.certified.header.round) == (ahead[5].block, 2)


def test_no_header_before_the_first(tmp_path: Path) -> None:
    assert run(client_of(houses(tmp_path)).latest) is None


def test_known_header_is_no_news(tmp_path: Path) -> None:
    rows = houses(tmp_path, desks(*[chain(6)] * SIZE))
    client = client_of(rows)

    async def scene() -> None:
        header = await client.latest()
        assert await client.latest(header) is None
        waiting = asyncio.create_task(client.latest(header, wait_s=20.0))
        while sum(bool(house.gateway.feed._coming) for house in rows) < 2:
            await asyncio.sleep(0)
        for house in rows:
            house.desk.blocks = chain(8)
            house.gateway.feed.publish("round_final", round=3)
        news = await waiting
        assert news is not None
        assert news.certified.header.round == 3

    run(scene)


def liars_header(kind: str) -> Committed:
    """Return what only a liar answers as the last final header."""
    last = chain(6)[5]
    first, second = last.certificate_chain
    if kind == "payload":
        return forged(last)
    if kind == "one certificate":
        return replace(last, certificate_chain=(first,))
    if kind == "few signers":
        return replace(last, certificate_chain=(first, certify(chain(8)[6].block, (0, 1))))
    if kind == "forged signature":
        return replace(last, certificate_chain=(first, replace(second, signature=first.signature)))
    return chain(6)[4]  # a final block, but a close


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("payload", "BrokenChainError"),
        ("one certificate", "NotFinalError"),
        ("few signers", "NoQuorumError"),
        ("forged signature", "ForgedSignatureError"),
        ("close", "GatewayAnswerError"),
    ],
)
def test_header_of_a_liar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    desk = StageDesk(0)
    lie = liars_header(kind)

    async def final_header() -> Committed:
        return lie

    monkeypatch.setattr(desk, "final_header", final_header)
    rows = houses(tmp_path, [desk])
    with pytest.raises(NobodyAnsweredError, match=name):
        run(client_of(rows).latest)
    honest = houses(tmp_path, [StageDesk(1, blocks=chain(6)), StageDesk(2, blocks=chain(6))])
    header = run(client_of(rows + honest).latest)
    assert header is not None
    assert header.block == chain(6)[5].block


def test_object_comes_from_whoever_has_the_true_one(tmp_path: Path) -> None:
    data = b"model" * 100
    digest = sha256(data).digest()
    rows = houses(tmp_path)
    rows[0].desk.objects[digest] = data + b"!"  # a liar
    with pytest.raises(NobodyAnsweredError, match="SHA-256") as refused:
        run(lambda: client_of(rows).object(digest))
    reasons = refused.value.values["reasons"]
    assert isinstance(reasons, dict)
    assert set(reasons) == set(range(SIZE))
    rows[3].desk.objects[digest] = data
    assert run(lambda: client_of(rows).object(digest)) == data


def test_named_object_is_checked(tmp_path: Path) -> None:
    truth, lie, identity = b"report", b"another report", bytes(32)
    rows = houses(tmp_path)
    for house, data in zip(rows, (lie, truth, lie, lie), strict=True):
        digest = sha256(data).digest()
        house.desk.objects[digest], house.desk.names[identity] = data, digest

    def check(data: bytes) -> None:
        if data != truth:
            raise NotFinalError("not the one that was asked for")

    assert run(lambda: client_of(rows).named_object(identity, check)) == truth
    with pytest.raises(NobodyAnsweredError, match="not the one that was asked for"):
        run(lambda: client_of(rows[2:]).named_object(identity, check))


def test_blocks_follow_the_known_one(tmp_path: Path) -> None:
    client = client_of(houses(tmp_path, desks(*[chain(6)] * SIZE)))
    found = run(lambda: client.blocks(epoch_set().genesis(), 4))
    assert found.blocks == tuple(committed.block for committed in chain(6)[:4])
    rest = run(lambda: client.blocks(found.blocks[-1].digest))
    assert (len(rest.blocks), rest.certificates) == (2, chain(6)[5].certificate_chain)
    assert run(lambda: client.blocks(rest.blocks[-1].digest)).blocks == ()


@pytest.mark.parametrize("lie", ["gap", "not final"])
def test_blocks_of_a_liar_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    desk = StageDesk(0)

    async def blocks_after(block: bytes, count: int, bytes_max: int, epoch: int | None = None) -> FinalBlocks:
        blocks, proof = tuple(committed.block for committed in chain(6)), chain(6)[5].certificate_chain
        return FinalBlocks(blocks[1:], proof) if lie == "gap" else FinalBlocks(blocks, ())

    monkeypatch.setattr(desk, "blocks_after", blocks_after)
    client = client_of(houses(tmp_path, [desk]))
    with pytest.raises(NobodyAnsweredError, match="no child" if lie == "gap" else "no certificate"):
        run(lambda: client.blocks(epoch_set().genesis()))


def test_registration_needs_more_voices_than_can_lie(tmp_path: Path) -> None:
    trainer = TRAINERS[0].address
    truth = Registered(trainer, bytes(32), 0, 63, bytes(32))
    lie = replace(truth, digest=b"\1" * 32)
    rows = houses(tmp_path)
    for house, said in zip(rows, (truth, lie, truth, truth), strict=True):
        house.desk.registrations[trainer] = said
    for seed in range(6):
        assert run(lambda seed=seed: client_of(rows, seed=seed).registered(trainer)) == truth
    assert run(lambda: client_of(rows).registered(TRAINERS[1].address)) is None
    with pytest.raises(DisagreementError, match="2 different things"):
        run(lambda: client_of(rows[:2]).registered(trainer))
    rows[0].desk.registrations[trainer] = replace(truth, trainer=TRAINERS[1].address)
    with pytest.raises(NobodyAnsweredError, match="tells of trainer"):
        run(lambda: client_of(rows[:1]).registered(trainer))


def test_checkpoint_signatures_are_verified(tmp_path: Path) -> None:
    checkpoint = Checkpoint(TASK, 0, 0, 3, NO_CHECKPOINT, bytes(32))
    rows = houses(tmp_path)
    for house in rows:
        house.desk.signatures[3] = VOTING[house.desk.index].sign(checkpoint.digest)
    rows[1].desk.signatures[3] = VOTING[1].sign(replace(checkpoint, root=b"\1" * 32).digest)
    found = run(lambda: client_of(rows).checkpoint_signatures(checkpoint))
    assert set(found) == {0, 2, 3}
    with pytest.raises(NobodyAnsweredError, match="BadSignatureError"):
        run(lambda: client_of(rows[1:2]).checkpoint_signatures(checkpoint))


def test_a_withdrawal_reaches_more_validators_than_can_be_bad(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    run(lambda: client_of(rows).withdraw(b"a record"))
    taken = [house for house in rows if house.desk.withdrawn == [b"a record"]]
    assert len(taken) >= epoch_set().faulty_max + 1
    with pytest.raises(NobodyAnsweredError, match="nobody signed this"):
        run(lambda: client_of(rows).withdraw(b"?"))


# ------------------------------------------------------------------------------------------------ one line


def test_answers_are_bounded() -> None:
    line = answering(0, 200, b"x" * 101)
    assert run(lambda: line.ask("/v1/round", 101)).body == b"x" * 101
    with pytest.raises(GatewayAnswerError, match="more than 100 bytes"):
        run(lambda: line.ask("/v1/round", 100))


def test_refusals_keep_their_names(tmp_path: Path) -> None:
    line = House.of(tmp_path).line()
    with pytest.raises(GatewayRefusedError) as refused:
        run(lambda: line.ask("/v1/checkpoints/9", 100))
    assert (refused.value.values["name"], refused.value.values["status"]) == ("UnknownItemError", 404)
    odd = answering(0, 500, b"oops")
    with pytest.raises(GatewayRefusedError) as refused:
        run(lambda: odd.ask("/v1/round", 100))
    assert (refused.value.values["name"], refused.value.values["status"]) == ("", 500)


def test_nothing_is_followed_elsewhere() -> None:
    lines = {0: answering(0, 307, fields={"location": "https://elsewhere/v1/round"})}
    with pytest.raises(NobodyAnsweredError, match="LedgerError"):
        run(ValidatorClient(Epochs(epoch_set(), None), lines, LIMITS, Random(0)).latest)


@pytest.mark.parametrize(
    "lines",
    [
        b"id: -1\nevent: a\ndata: {}",
        b"id: 1\nevent: \ndata: {}",
        b"id: 1\nevent: A\ndata: {}",
        b"id: 1\nevent: a\ndata: []",
        b"event: a\ndata: {}",
        b"\xff",
    ],
)
def test_events_are_read_strictly(lines: bytes) -> None:
    line = answering(0, 200, b': hello\n\nid: 7\nevent: round_final\ndata: {"round":3}\n\n' + lines + b"\n\n")

    async def scene() -> None:
        events = line.events()
        assert await anext(events) == NodeEvent(7, "round_final", {"round": 3})
        with pytest.raises(GatewayAnswerError, match="an event"):
            await anext(events)

    run(scene)


def test_silence_has_a_name() -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    http = httpx.AsyncClient(transport=httpx.MockTransport(silent), base_url="https://silent")
    line = Line(0, http, replace(LIMITS, answer_s=0.05))
    with pytest.raises(GatewayUnreachableError, match="TimeoutError"):
        run(lambda: line.ask("/v1/round", 100))


def test_readiness_is_read_strictly(tmp_path: Path) -> None:
    house = House.of(tmp_path, StageDesk(standing=Readiness(3, 1, 3, True)))
    assert run(lambda: client_of([house]).readiness(0)) == Readiness(3, 1, 3, True)
    odd = ValidatorClient(Epochs(epoch_set(), None), {0: answering(0, 503)}, LIMITS)
    with pytest.raises(GatewayAnswerError, match="readiness"):
        run(lambda: odd.readiness(0))


# ------------------------------------------------------------------------------------------------ uploads


def upload(client: ValidatorClient, data: bytes, **changes: Any) -> dict[int, Verdict | CollegiumError]:
    return run(lambda: client.upload(ROUND, data, TRAINERS[0], **changes))


def test_upload_reaches_every_validator(tmp_path: Path) -> None:
    rows, data, told = houses(tmp_path), upload_bytes(), list[int]()
    outcomes = upload(client_of(rows), data, told=lambda validator, verdict: told.append(validator))
    assert outcomes == dict.fromkeys(range(SIZE), Verdict("admitted"))
    assert sorted(told) == list(range(SIZE))
    assert all([found.data for found in house.desk.submitted] == [data] for house in rows)


def test_broken_upload_resumes_and_sends_nothing_twice(tmp_path: Path) -> None:
    house, data, breaks = House.of(tmp_path), upload_bytes(), iter(("after", "before", "", "after", ""))
    appended = list[str]()

    def breaking(request: httpx.Request) -> str:
        if request.method != "PATCH":
            return ""
        appended.append(request.headers["upload-offset"])
        return next(breaks)

    break_line(house, breaking)
    assert upload(client_of([house]), data) == {0: Verdict("admitted")}
    assert appended == ["0", "300", "300", "600", "900"]
    assert len(house.desk.submitted) == 1


def test_verdict_survives_a_broken_answer(tmp_path: Path) -> None:
    house, data, breaks = House.of(tmp_path), upload_bytes(length=200), iter(("after",))
    break_line(house, lambda request: next(breaks, "") if request.method == "PATCH" else "")
    assert upload(client_of([house]), data) == {0: Verdict("admitted")}
    assert len(house.desk.submitted) == 1


def test_early_upload_is_tried_until_its_round_begins(tmp_path: Path) -> None:
    house = House.of(tmp_path)
    house.desk.verdicts = [Verdict("too-early"), Verdict("too-early"), Verdict("admitted")]
    assert upload(client_of([house]), upload_bytes()) == {0: Verdict("admitted")}


def test_forgetful_gateway_is_given_the_upload_again(tmp_path: Path) -> None:
    house, data, forgets = House.of(tmp_path), upload_bytes(), iter((True,))

    def breaking(request: httpx.Request) -> str:
        if request.headers.get("upload-offset") == "600" and next(forgets, False):
            house.gateway.spool.keep_only(())
        return ""

    break_line(house, breaking)
    assert upload(client_of([house]), data) == {0: Verdict("admitted")}


def test_round_that_is_over_ends_the_upload(tmp_path: Path) -> None:
    house = House.of(tmp_path)
    house.desk.rounds = {ROUND + 1: house.desk.rounds[ROUND]}
    found = upload(client_of([house]), upload_bytes())[0]
    assert isinstance(found, Verdict)
    assert (found.outcome, found.reason) == ("too-late", "RoundOverError")


def test_final_refusals_are_not_tried_again(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    rows[1].desk.trainers = frozenset({STRANGER.address})
    rows[2].desk.verdicts = [Verdict("refused", "ReportRejectedError", "other terms")]
    rows[3].desk.rounds = {ROUND: range(1, 10)}
    outcomes = upload(client_of(rows), upload_bytes())
    names = [o.values["name"] for o in outcomes.values() if isinstance(o, GatewayRefusedError)]
    assert (outcomes[0], names) == (Verdict("admitted"), ["UnregisteredTrainerError", "UploadLengthError"])
    assert outcomes[2] == Verdict("refused", "ReportRejectedError", "other terms")


def bad_lines(limits: ClientLimits, rows: list[House]) -> dict[int, Line]:
    break_line(rows[1], lambda request: "before")
    return {
        1: rows[1].line(limits),
        2: answering(2, 201, fields={"location": "/v1/uploads/../../etc"}),
        3: answering(3, 500),
    }


def test_dead_and_lying_gateways_do_not_hold_up_the_others(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    lines = {0: rows[0].line(LIMITS), **bad_lines(LIMITS, rows)}
    client = ValidatorClient(Epochs(epoch_set(), None), lines, LIMITS, Random(0))

    async def scene() -> None:
        told: asyncio.Queue[tuple[int, object]] = asyncio.Queue()
        task = asyncio.create_task(
            client.upload(ROUND, upload_bytes(), TRAINERS[0], lambda *news: told.put_nowait(news))
        )
        assert await told.get() == (0, Verdict("admitted"))
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scene)


def test_deadline_names_the_last_failure(tmp_path: Path) -> None:
    limits = replace(LIMITS, upload_s=0.5)
    lines = bad_lines(limits, houses(tmp_path))
    outcomes = upload(ValidatorClient(Epochs(epoch_set(), None), lines, limits, Random(0)), upload_bytes())
    assert [type(outcome) for outcome in outcomes.values()] == [UploadDeadlineError] * 3
    assert [type(outcome.__cause__) for outcome in outcomes.values() if isinstance(outcome, CollegiumError)] == [
        GatewayUnreachableError,
        GatewayAnswerError,
        GatewayRefusedError,
    ]


def test_standing_gateway_that_goes_nowhere_is_a_liar(tmp_path: Path) -> None:
    fields = {"location": "/v1/uploads/" + "0" * 64, "upload-offset": "0"}
    line = answering(0, 204, fields=fields)
    client = ValidatorClient(Epochs(epoch_set(), None), {0: line}, replace(LIMITS, upload_s=0.2), Random(0))
    found = upload(client, upload_bytes())[0]
    assert isinstance(found, UploadDeadlineError)
    assert "stands at 0" in str(found)
