"""Stewards' records at a gateway: what is taken, and each refusal by its name; and how a client brings them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest
from _gateway_stage import ROUND, STEWARDS, STRANGER, House, StageDesk, epoch_set, named, record_bytes, run

from collegium.node._client import ValidatorClient
from collegium.node._client_line import ClientLimits, GatewayAnswerError, GatewayRefusedError, Line
from collegium.node._client_upload import UploadDeadlineError, record_to
from collegium.node._desk import Verdict
from collegium.node._epochs import Epochs
from collegium.node._gateway import RECORDS_REFUSED_MAX, GatewayLimits

LIMITS = ClientLimits(retry_s=0.001, retry_s_max=0.01, upload_s=30.0)


async def bring(house: House, data: bytes) -> httpx.Response:
    return await house.http.post("/v1/records", content=data)


def test_a_record_reaches_the_validator_once_whoever_brings_it_and_how_often(tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        for data, times in (
            (record_bytes(), 2),
            (record_bytes(round_number=ROUND + 1), 1),
            (record_bytes(STEWARDS[1]), 1),
        ):
            for _ in range(times):
                answer = await bring(house, data)
                assert (answer.status_code, answer.json()["outcome"]) == (200, "admitted")
        assert [(brought.round, brought.record) for brought in house.desk.brought] == [
            (ROUND, record_bytes()),
            (ROUND + 1, record_bytes(round_number=ROUND + 1)),
            (ROUND, record_bytes(STEWARDS[1])),
        ]
        metrics = (await house.http.get("/metrics")).text
        assert 'collegium_records_total{outcome="admitted"} 4.0' in metrics

    run(scene)


@pytest.mark.parametrize(
    ("data", "status", "name"),
    [
        (b"", 422, "RecordLengthError"),
        (record_bytes()[:-1], 422, "RecordLengthError"),
        (record_bytes() + b"r", 422, "RecordLengthError"),
        (bytes(len(record_bytes())), 422, "StewardRecordError"),
        (record_bytes(evidence=b"e" * 32), 422, "StewardRecordError"),
        (record_bytes(signer=STRANGER), 422, "StewardRecordError"),
        (record_bytes()[:-1] + b"\x07", 422, "BadAccountSignatureError"),
        (record_bytes(STRANGER), 403, "UnregisteredStewardError"),
        (record_bytes(round_number=ROUND + 2), 409, "RoundNotBegunError"),
        (record_bytes(round_number=ROUND - 1), 410, "RoundOverError"),
    ],
    ids=["empty", "short", "long", "garbage", "other evidence", "forged", "no signature", "stranger", "future", "past"],
)
def test_what_is_no_record_of_an_open_round_is_refused_by_name(
    tmp_path: Path, data: bytes, status: int, name: str
) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        answer = await bring(house, data)
        assert (answer.status_code, named(answer)) == (status, name)
        assert house.desk.brought == []

    run(scene)


def test_a_second_record_of_a_steward_is_refused_while_the_round_is_open(tmp_path: Path) -> None:
    house, other = House.of(tmp_path), record_bytes(value=6)

    async def scene() -> None:
        both = await asyncio.gather(bring(house, record_bytes()), bring(house, other))
        assert sorted(answer.status_code for answer in both) == [200, 409]
        assert named(max(both, key=lambda answer: answer.status_code)) == "OtherRecordError"
        assert len(house.desk.brought) == 1
        house.desk.rounds = {ROUND + 1: range(64, 4097)}
        house.gateway.forget_rounds_over()
        assert house.gateway._records == {}

    run(scene)


def test_who_brings_refused_records_again_and_again_is_not_heard_any_more(tmp_path: Path) -> None:
    refusals = [Verdict("refused", "RecordRefusedError", "another score")] * RECORDS_REFUSED_MAX
    house = House.of(tmp_path, StageDesk(verdicts=refusals))

    async def scene() -> None:
        for value in range(RECORDS_REFUSED_MAX):
            answer = await bring(house, record_bytes(value=value + 1))
            assert (answer.status_code, answer.json()["outcome"]) == (200, "refused")
        answer = await bring(house, record_bytes())
        assert (answer.status_code, named(answer)) == (429, "AttemptsSpentError")
        assert (await bring(house, record_bytes(STEWARDS[1]))).json()["outcome"] == "admitted"  # others are heard

    run(scene)


def test_a_record_that_is_too_early_is_not_remembered(tmp_path: Path) -> None:
    house = House.of(tmp_path, StageDesk(verdicts=[Verdict("too-early")]))

    async def scene() -> None:
        answer = await bring(house, record_bytes())
        assert (answer.status_code, named(answer), answer.headers["retry-after"]) == (409, "RoundNotBegunError", "1")
        assert (await bring(house, record_bytes(value=6))).json()["outcome"] == "admitted"

    run(scene)


def test_a_task_without_stewards_has_no_such_address(tmp_path: Path) -> None:
    house = House.of(tmp_path, StageDesk(measuring=frozenset(), record_length=0))
    answer = run(lambda: bring(house, record_bytes()))
    assert (answer.status_code, named(answer)) == (404, "UnknownItemError")


def test_a_body_that_drips_is_cut_off_in_time(tmp_path: Path) -> None:
    house = House.of(tmp_path, limits=replace(GatewayLimits(), append_s=0.05))

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield record_bytes()[:1]
            await asyncio.sleep(0.02)

    async def scene() -> None:
        answer = await house.http.post("/v1/records", content=drip())
        assert (answer.status_code, named(answer)) == (408, "SlowBodyError")

    run(scene)


# ------------------------------------------------------------------------------------------------ the client


def test_a_client_brings_a_record_to_all_and_says_what_each_answered(tmp_path: Path) -> None:
    refused = Verdict("refused", "RecordRefusedError", "another score")
    early = [Verdict("too-early"), Verdict("kept")]
    desks = [StageDesk(0), StageDesk(1, verdicts=early), StageDesk(2, verdicts=[refused]), StageDesk(3, rounds={})]
    houses, told = [House.of(tmp_path, desk) for desk in desks], dict[int, object]()
    desks[3].rounds = {ROUND + 1: range(64, 4097)}
    lines = {house.desk.index: house.line(LIMITS) for house in houses}
    client = ValidatorClient(Epochs(epoch_set(), None), lines, LIMITS, Random(0))
    outcomes = run(lambda: client.bring_record(ROUND, record_bytes(), told.__setitem__))
    assert outcomes == told
    assert {index: verdict.outcome for index, verdict in outcomes.items() if isinstance(verdict, Verdict)} == {
        0: "admitted",
        1: "kept",
        2: "refused",
        3: "too-late",
    }


def test_a_refusal_that_no_retry_changes_ends_it_and_an_answer_that_is_none_does_not(tmp_path: Path) -> None:
    house = House.of(tmp_path)
    with pytest.raises(GatewayRefusedError, match="UnregisteredStewardError"):
        run(lambda: record_to(house.line(LIMITS), record_bytes(STRANGER), LIMITS, Random(0)))

    async def odd(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"[]"))

    http = httpx.AsyncClient(transport=httpx.MockTransport(odd), base_url="https://odd")
    hasty = replace(LIMITS, upload_s=0.1)
    with pytest.raises(UploadDeadlineError, match="no verdict") as found:
        run(lambda: record_to(Line(0, http, hasty), record_bytes(), hasty, Random(0)))
    assert isinstance(found.value.__cause__, GatewayAnswerError)
