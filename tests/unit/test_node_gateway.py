"""A gateway's uploads: what is taken, where it goes on, and each refusal by its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from _gateway_stage import (
    LENGTHS,
    ROUND,
    STRANGER,
    TASK,
    TRAINERS,
    House,
    Reading,
    StageDesk,
    chain,
    epoch_set,
    named,
    run,
    upload_bytes,
)

from collegium.consensus import WITHDRAWAL_BYTES_MAX, Registered
from collegium.node._desk import Readiness, Verdict
from collegium.node._gateway import GatewayLimits
from collegium.node._gateway_problems import ForgedTicketError, MalformedRequestError, OffsetError, decode_problem
from collegium.node._ledger import decode_ledger
from collegium.node._upload_spool import SpoolLimits, UploadSpool
from collegium.node._upload_ticket import check_ticket, decode_ticket, encode_ticket, make_ticket

# ------------------------------------------------------------------------------------------------ tickets


def test_ticket_holds_at_its_validator_alone() -> None:
    ticket = make_ticket(TRAINERS[0], TASK, 2, ROUND, upload_bytes())
    check_ticket(decode_ticket(encode_ticket(ticket)), TASK, 2)
    for task, validator in ((TASK, 3), (sha256(b"another task").digest(), 2)):
        with pytest.raises(ForgedTicketError, match="is signed by"):
            check_ticket(ticket, task, validator)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": ROUND + 1},
        {"length": 1001},
        {"sha256": bytes(32)},
        {"trainer": TRAINERS[1].address},
        {"signature": b"\xff" * 65},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changed_ticket_is_forged(changes: dict[str, object]) -> None:
    ticket = replace(make_ticket(TRAINERS[0], TASK, 0, ROUND, upload_bytes()), **changes)
    with pytest.raises(ForgedTicketError):
        check_ticket(ticket, TASK, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"x" * 1025,
        b"[" * 1000,
        encode_ticket(make_ticket(TRAINERS[0], TASK, 0, ROUND, b"x")) + b" ",
        encode_ticket(replace(make_ticket(TRAINERS[0], TASK, 0, ROUND, b"x"), length=0)),
        encode_ticket(replace(make_ticket(TRAINERS[0], TASK, 0, ROUND, b"x"), length=2**53)),
        encode_ticket(replace(make_ticket(TRAINERS[0], TASK, 0, ROUND, b"x"), signature=bytes(64))),
        encode_ticket(replace(make_ticket(TRAINERS[0], TASK, 0, ROUND, b"x"), round=-1)),
    ],
)
def test_ticket_is_read_strictly(data: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        decode_ticket(data)


# ------------------------------------------------------------------------------------------------ the good way


def test_upload_in_two_parts_is_admitted(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        begun = await house.begin(house.ticket(data))
        assert (begun.status_code, begun.headers["upload-offset"], begun.content) == (201, "0", b"null")
        place = begun.headers["location"]
        first = await house.append(place, 0, data[:400])
        assert (first.status_code, first.headers["upload-offset"]) == (204, "400")
        asked = await house.http.head(place)
        assert (asked.headers["upload-offset"], asked.headers["upload-complete"]) == ("400", "?0")
        last = await house.append(place, 400, data[400:])
        assert last.json() == {"outcome": "admitted", "reason": "", "detail": ""}
        assert last.headers["upload-complete"] == "?1"
        again = await house.begin(house.ticket(data))
        assert (again.status_code, again.json()["outcome"]) == (200, "admitted")

    run(scene)
    assert [upload.data for upload in house.desk.submitted] == [data]
    assert house.files() == [".json"]
    rendered = house.gateway.metrics.render().decode()
    assert 'collegium_uploads_total{outcome="admitted"} 1.0' in rendered
    assert "collegium_upload_bytes_total 1000.0" in rendered


@pytest.mark.parametrize(("served", "status"), [(True, 200), (False, 404)])
def test_metrics_are_served_where_the_settings_say_so(tmp_path: Path, served: bool, status: int) -> None:
    house = House.of(tmp_path, serves_metrics=served)

    async def scene() -> None:
        answer = await house.http.get("/metrics")
        assert answer.status_code == status
        assert ("collegium_uploads_open 0.0" in answer.text) == served
        assert (await house.http.get("/healthz")).status_code == 200

    run(scene)


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        await house.append(await house.place(house.ticket(data)), 0, data[:10])

    run(scene)
    folder = house.gateway.spool.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    before, data = House.of(tmp_path), upload_bytes()

    async def broken() -> str:
        place = await before.place(before.ticket(data))
        await before.append(place, 0, data[:700])
        return place

    place = run(broken)
    after = House.of(tmp_path)

    async def resumed() -> None:
        asked = await after.http.head(place)
        assert asked.headers["upload-offset"] == "700"
        assert (await after.append(place, 700, data[700:])).json()["outcome"] == "admitted"

    run(resumed)
    assert [upload.data for upload in after.desk.submitted] == [data]
    settled = House.of(tmp_path)
    assert run(lambda: settled.http.get(place)).json()["outcome"] == "admitted"


def test_restart_drops_what_it_cannot_trust(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), [upload_bytes(trainer) for trainer in range(3)]

    async def scene() -> None:
        for trainer in range(3):
            await house.append(await house.place(house.ticket(data[trainer], trainer)), 0, data[trainer][:10])

    run(scene)
    records = sorted(house.gateway.spool.folder.glob("*.json"))
    records[0].write_bytes(records[0].read_bytes().replace(b'"round":7', b'"round":8'))  # not signed so
    records[1].with_suffix(".part").write_bytes(b"x" * 1001)  # longer than its ticket
    (house.gateway.spool.folder / "stray").write_bytes(b"")
    spool = UploadSpool(house.gateway.spool.folder, TASK, 0)
    assert [spool.get(records[2].stem).offset, spool.open] == [10, 1]
    assert house.files() == [".json", ".part"]


def test_early_upload_is_asked_for_again(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes(round_number=ROUND + 1)
    house.desk.verdicts = [Verdict("too-early"), Verdict("kept")]

    async def scene() -> None:
        place = await house.place(house.ticket(data, round_number=ROUND + 1))
        early = await house.append(place, 0, data)
        assert (named(early), early.headers["retry-after"]) == ("RoundNotBegunError", "1")
        assert (await house.http.head(place)).headers["upload-offset"] == str(len(data))
        assert (await house.append(place, len(data), b"")).json()["outcome"] == "kept"

    run(scene)


def test_upload_ends_with_its_round(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        await house.append(place, 0, data[:10])
        house.desk.rounds = {ROUND + 1: LENGTHS, ROUND + 2: LENGTHS}
        house.gateway.forget_rounds_over()
        assert named(await house.http.get(place)) == "UnknownItemError"
        assert named(await house.append(place, 10, data[10:])) == "UnknownItemError"

    run(scene)
    assert house.files() == []
    assert 'collegium_uploads_total{outcome="expired"} 1.0' in house.gateway.metrics.render().decode()


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("length", [LENGTHS.start, LENGTHS.stop - 1])
def test_lengths_at_the_bounds_are_taken(tmp_path: Path, length: int) -> None:
    house = House.of(tmp_path)
    assert run(lambda: house.begin(house.ticket(upload_bytes(length=length)))).status_code == 201


@pytest.mark.parametrize("length", [LENGTHS.start - 1, LENGTHS.stop])
def test_lengths_beyond_the_bounds_are_refused(tmp_path: Path, length: int) -> None:
    house = House.of(tmp_path)
    answer = run(lambda: house.begin(house.ticket(upload_bytes(length=length))))
    assert named(answer) == "UploadLengthError"
    assert answer.json()["values"] == {"length": length, "least": LENGTHS.start, "most": LENGTHS.stop - 1}


def test_strangers_and_forgers_are_refused(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()
    stranger = make_ticket(STRANGER, TASK, 0, ROUND, data)
    assert named(run(lambda: house.begin(stranger))) == "UnregisteredTrainerError"
    forger = replace(stranger, trainer=TRAINERS[0].address)
    assert named(run(lambda: house.begin(forger))) == "ForgedTicketError"
    elsewhere = make_ticket(TRAINERS[0], TASK, 1, ROUND, data)
    assert named(run(lambda: house.begin(elsewhere))) == "ForgedTicketError"
    assert house.files() == []


@pytest.mark.parametrize(
    ("round_number", "name", "status"),
    [(ROUND - 1, "RoundOverError", 410), (ROUND + 2, "RoundNotBegunError", 409)],
)
def test_other_rounds_are_refused(tmp_path: Path, round_number: int, name: str, status: int) -> None:
    house = House.of(tmp_path)
    data = upload_bytes(round_number=round_number)
    answer = run(lambda: house.begin(house.ticket(data, round_number=round_number)))
    assert (named(answer), answer.status_code) == (name, status)


def test_second_upload_of_a_round_is_refused(tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        await house.place(house.ticket(upload_bytes()))
        second = await house.begin(house.ticket(upload_bytes(filling=b"y")))
        assert named(second) == "OtherUploadError"
        assert second.json()["values"]["expected"] == sha256(upload_bytes()).hexdigest()
        await house.place(house.ticket(upload_bytes(1), 1))
        await house.place(house.ticket(upload_bytes(round_number=ROUND + 1), round_number=ROUND + 1))

    run(scene)


@pytest.mark.parametrize("limits", [SpoolLimits(uploads_max=2), SpoolLimits(bytes_max=2999)])
def test_too_many_open_uploads_are_refused(tmp_path: Path, limits: SpoolLimits) -> None:
    house = House.of(tmp_path, spool=limits)

    async def scene() -> None:
        places = [await house.place(house.ticket(upload_bytes(trainer), trainer)) for trainer in range(2)]
        third = house.ticket(upload_bytes(2), 2)
        full = await house.begin(third)
        assert (named(full), full.status_code, full.headers["retry-after"]) == ("SpoolFullError", 503, "1")
        await house.append(places[0], 0, upload_bytes(0))
        assert (await house.begin(third)).status_code == 201

    run(scene)


def test_bytes_go_where_the_upload_stands(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        await house.append(place, 0, data[:100])
        for offset in (0, 99, 101, 1000):
            answer = await house.append(place, offset, data[offset : offset + 1])
            assert named(answer) == "OffsetError"
            assert answer.json()["values"] == {"offset": offset, "expected": 100}
        for offset in ("", "-1", "01", "1e3", "9" * 17):
            assert named(await house.append(place, offset, b"x")) == "MalformedRequestError"
        assert named(await house.append("/v1/uploads/" + "0" * 64, 0, b"x")) == "UnknownItemError"
        assert (await house.http.head(place)).headers["upload-offset"] == "100"

    run(scene)


def test_no_request_appends_too_much(tmp_path: Path) -> None:
    house, data = House.of(tmp_path, limits=GatewayLimits(append_bytes_max=600)), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        assert named(await house.append(place, 0, data[:601])) == "AppendTooLongError"
        assert (await house.append(place, 0, data[:600])).status_code == 204
        long = await house.append(place, 600, data[600:] + b"x")
        assert (named(long), long.headers["connection"]) == ("AppendTooLongError", "close")
        assert (await house.append(place, 600, data[600:])).json()["outcome"] == "admitted"

    run(scene)


def test_damaged_upload_begins_again(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        damaged = await house.append(place, 0, data[:-1] + b"?")
        assert named(damaged) == "UploadDamagedError"
        assert damaged.json()["values"]["expected"] == sha256(data).hexdigest()
        assert (await house.http.head(place)).headers["upload-offset"] == "0"
        assert (await house.append(place, 0, data)).json()["outcome"] == "admitted"

    run(scene)


def test_refused_uploads_are_few(tmp_path: Path) -> None:
    house = House.of(tmp_path, spool=SpoolLimits(attempts_max=3))
    bad = [
        (upload_bytes(filling=b"!"), "PlainDecodeError"),
        (upload_bytes(trainer=1), "ForeignUploadError"),
        (upload_bytes(round_number=ROUND + 1), "ForeignUploadError"),
    ]

    async def scene() -> None:
        for data, reason in bad:
            verdict = (await house.append(await house.place(house.ticket(data)), 0, data)).json()
            assert (verdict["outcome"], verdict["reason"]) == ("refused", reason)
        assert house.files() == []
        spent = await house.begin(house.ticket(upload_bytes()))
        assert (named(spent), spent.status_code) == ("AttemptsSpentError", 429)
        await house.place(house.ticket(upload_bytes(1), 1))

    run(scene)
    assert house.desk.submitted == []


def test_validators_refusal_leaves_room_for_a_better_upload(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()
    house.desk.verdicts = [Verdict("refused", "ReportRejectedError", "other terms"), Verdict("too-late")]

    async def scene() -> None:
        refused = (await house.append(await house.place(house.ticket(data)), 0, data)).json()
        assert refused == {"outcome": "refused", "reason": "ReportRejectedError", "detail": "other terms"}
        better = upload_bytes(filling=b"z")
        late = (await house.append(await house.place(house.ticket(better)), 0, better)).json()
        assert late["outcome"] == "too-late"

    run(scene)


def test_later_request_displaces_the_earlier(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place, more = await house.place(house.ticket(data)), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield data[:300]
            await more.wait()
            yield data[300:]

        earlier = asyncio.create_task(house.append(place, 0, slow()))
        while house.gateway.spool.get(place.rsplit("/")[-1]).turn < 2:
            await asyncio.sleep(0)
        asked = await house.http.head(place)
        more.set()
        assert named(await earlier) == "DisplacedError"
        assert asked.headers["upload-offset"] == "0"
        assert (await house.append(place, 0, data)).json()["outcome"] == "admitted"

    run(scene)


def test_slow_body_leaves_what_arrived(tmp_path: Path) -> None:
    house, data = House.of(tmp_path, limits=GatewayLimits(idle_s=0.05)), upload_bytes()

    async def stalled() -> AsyncIterator[bytes]:
        yield data[:300]
        await asyncio.Event().wait()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        slow = await house.append(place, 0, stalled())
        assert (named(slow), slow.status_code) == ("SlowBodyError", 408)
        assert (await house.http.head(place)).headers["upload-offset"] == "300"
        assert named(await house.http.post("/v1/uploads", content=stalled())) == "SlowBodyError"

    run(scene)


def test_deaf_validator_is_not_waited_for(tmp_path: Path) -> None:
    house, data = House.of(tmp_path, StageDesk(deaf=True), limits=GatewayLimits(answer_s=0.05)), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        assert named(await house.append(place, 0, data)) == "BusyError"
        assert named(await house.http.get("/v1/round")) == "BusyError"
        house.desk.deaf = False
        assert (await house.append(place, len(data), b"")).json()["outcome"] == "admitted"

    run(scene)


def test_nobodys_decoding_waits_for_anothers_verdict(tmp_path: Path) -> None:
    """Two that are judged slowly keep nobody out, though two are decoded at once."""
    house, datas = House.of(tmp_path, StageDesk(deaf=True)), [upload_bytes(trainer) for trainer in range(3)]

    async def scene() -> None:
        places = [await house.place(house.ticket(data, trainer)) for trainer, data in enumerate(datas)]
        thinking = [asyncio.create_task(house.append(*pair)) for pair in zip(places, [0] * 3, datas, strict=True)]
        async with asyncio.timeout(60):
            while house.desk.heard < 3:
                await asyncio.sleep(0.001)
        house.desk.speak()
        assert [(await task).json()["outcome"] for task in thinking] == ["admitted"] * 3

    run(scene)


@pytest.mark.parametrize("limits", [GatewayLimits(judging_max=2), GatewayLimits(judging_bytes_max=2500)])
def test_what_waits_for_its_verdict_is_bounded(tmp_path: Path, limits: GatewayLimits) -> None:
    house, datas = House.of(tmp_path, StageDesk(deaf=True), limits=limits), [upload_bytes(who) for who in range(3)]

    async def scene() -> None:
        places = [await house.place(house.ticket(data, trainer)) for trainer, data in enumerate(datas)]
        thinking = [asyncio.create_task(house.append(*pair)) for pair in zip(places, [0] * 3, datas, strict=True)]
        async with asyncio.timeout(60):
            while house.desk.heard < 2 or not all(u.complete for u in house.gateway.spool._uploads.values()):
                await asyncio.sleep(0.001)
        for _ in range(20):  # the third one is here, too, and is not decoded
            await asyncio.sleep(0.001)
        assert (house.desk.heard, len(house.desk.submitted)) == (2, 0)
        house.desk.speak()
        assert [(await task).json()["outcome"] for task in thinking] == ["admitted"] * 3

    run(scene)


def test_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        part = house.gateway.spool.folder / f"{place.rsplit('/')[-1]}.part"
        part.unlink()
        part.symlink_to("/dev/full")
        full = await house.append(place, 0, data)
        assert (named(full), full.status_code, full.headers["retry-after"]) == ("SpoolDiskError", 503, "1")
        assert (await house.http.head(place)).headers["upload-offset"] == "0"
        part.unlink()
        part.touch()
        assert (await house.append(place, 0, data)).json()["outcome"] == "admitted"

    run(scene)


def test_round_that_ends_while_the_validator_thinks(tmp_path: Path) -> None:
    house, data = House.of(tmp_path), upload_bytes()

    async def scene() -> None:
        place = await house.place(house.ticket(data))
        house.desk.deaf = True
        thinking = asyncio.create_task(house.append(place, 0, data))
        while house.desk.heard == 0:
            await asyncio.sleep(0)
        house.desk.rounds = {ROUND + 1: LENGTHS}
        house.gateway.forget_rounds_over()
        house.desk.speak()
        assert (await thinking).json()["outcome"] == "admitted"

    run(scene)
    assert house.files() == []


def test_spool_writes_no_more_than_the_ticket_says(tmp_path: Path) -> None:
    data = upload_bytes()
    spool = UploadSpool(tmp_path / "spool", TASK, 0)
    upload = spool.begin(make_ticket(TRAINERS[0], TASK, 0, ROUND, data))
    spool.append(upload, upload.take_turn(), 0, data[:999])
    with pytest.raises(OffsetError, match="2 bytes at 999"):
        spool.append(upload, upload.take_turn(), 999, b"xx")
    spool.append(upload, upload.take_turn(), 999, data[999:])
    assert spool.read(upload) == data


# ------------------------------------------------------------------------------------------------ what is final


def test_last_final_header_comes_with_its_proof(tmp_path: Path) -> None:
    house = House.of(tmp_path, StageDesk(blocks=chain(6)))
    last = chain(6)[5]

    async def scene() -> None:
        answer = await house.http.get("/v1/round")
        assert decode_ledger(answer.content) == ((last.block,), last.certificate_chain)
        older = await house.http.get(f"/v1/round?epoch=0&view={last.block.view - 1}")
        assert older.content == answer.content
        known = await house.http.get(f"/v1/round?epoch=0&view={last.block.view}")
        assert (known.status_code, known.content) == (204, b"")
        house.desk.blocks = ()
        assert (await house.http.get("/v1/round")).status_code == 204

    run(scene)


def test_question_for_the_next_header_waits_for_it(tmp_path: Path) -> None:
    house = House.of(tmp_path, StageDesk(blocks=chain(6)[:4]))

    async def scene() -> None:
        question = asyncio.create_task(house.http.get("/v1/round?view=4&wait_ms=20000"))
        while not house.gateway.feed._coming:
            await asyncio.sleep(0)
        house.gateway.feed.publish("round_final", round=1)  # of nothing that is later
        await asyncio.sleep(0)
        house.desk.blocks = chain(6)
        while not question.done():
            house.gateway.feed.publish("round_final", round=2)
            await asyncio.sleep(0)
        assert decode_ledger((await question).content)[0] == (chain(6)[5].block,)

    run(scene)


def test_blocks_are_bounded_and_proved(tmp_path: Path) -> None:
    house, blocks = House.of(tmp_path, StageDesk(blocks=chain(6))), chain(6)
    genesis = epoch_set().genesis().hex()
    one = House.of(tmp_path, StageDesk(1, blocks=chain(6)), limits=GatewayLimits(blocks_bytes_max=1))

    async def scene() -> None:
        answer = await house.http.get(f"/v1/blocks?after={genesis}&count=4")
        assert decode_ledger(answer.content) == (tuple(c.block for c in blocks[:4]), blocks[3].certificate_chain)
        answer = await house.http.get(f"/v1/blocks?after={blocks[3].block.digest.hex()}&count=99")
        assert decode_ledger(answer.content)[0] == tuple(c.block for c in blocks[4:])
        answer = await house.http.get(f"/v1/blocks?after={blocks[5].block.digest.hex()}")
        assert decode_ledger(answer.content) == ((), ())
        assert named(await house.http.get(f"/v1/blocks?after={bytes(32).hex()}")) == "UnknownItemError"
        for query in ("", "?after=zz", f"?after={genesis.upper()}", f"?after={genesis}&count=-1"):
            assert named(await house.http.get(f"/v1/blocks{query}")) == "MalformedRequestError"
        answer = await one.http.get(f"/v1/blocks?after={genesis}")
        assert decode_ledger(answer.content) == ((blocks[0].block,), blocks[0].certificate_chain)

    run(scene)


def test_objects_names_registrations_and_signatures(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    digest, identity, trainer = sha256(data).digest(), bytes(32), TRAINERS[0].address
    registered = Registered(trainer, digest, 3, 66, bytes(32))
    desk = StageDesk(
        objects={digest: data},
        names={identity: digest},
        registrations={trainer: registered},
        signatures={4: b"s" * 48},
    )
    house = House.of(tmp_path, desk)

    async def scene() -> None:
        answer = await house.http.get(f"/v1/objects/{digest.hex()}")
        assert (answer.content, answer.headers["content-length"]) == (data, str(len(data)))
        assert (await house.http.get(f"/v1/names/{identity.hex()}")).content == digest
        assert (await house.http.get(f"/v1/registrations/{trainer.hex()}")).json()["first_round"] == 3
        assert (await house.http.get(f"/v1/registrations/{TRAINERS[1].address.hex()}")).json() is None
        assert (await house.http.get("/v1/checkpoints/4")).content == b"s" * 48
        for path in ("objects/" + identity.hex(), "names/" + digest.hex(), "checkpoints/5"):
            assert named(await house.http.get(f"/v1/{path}")) == "UnknownItemError"
        for path in ("objects/00", "names/" + "g" * 64, "checkpoints/x", "registrations/" + "0" * 64):
            assert named(await house.http.get(f"/v1/{path}")) == "MalformedRequestError"

    run(scene)


def test_a_withdrawal_is_taken_from_anybody_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    """Without a ticket, an account or a certificate: the record speaks for itself."""
    house = House.of(tmp_path)

    async def scene() -> None:
        record = b"r" * WITHDRAWAL_BYTES_MAX
        assert (await house.http.post("/v1/withdrawals", content=record)).status_code == 202
        assert house.desk.withdrawn == [record]
        refused = await house.http.post("/v1/withdrawals", content=b"?")
        assert (refused.status_code, named(refused)) == (422, "PlainDecodeError")
        assert named(await house.http.post("/v1/withdrawals", content=record + b"r")) == "MalformedRequestError"
        assert (await house.http.get("/v1/withdrawals")).status_code == 405
        assert house.desk.withdrawn == [record]

    run(scene)


def test_what_is_given_at_once_is_bounded(tmp_path: Path) -> None:
    objects = {sha256(data).digest(): data for data in (b"a" * 600, b"b" * 600)}
    first, second = objects
    house = House.of(tmp_path, StageDesk(objects=objects, blocks=chain(6)), limits=GatewayLimits(given_bytes_max=1000))

    async def scene() -> None:
        reading = [Reading.of(house, f"/v1/objects/{first.hex()}") for _ in range(3)]
        for reader in reading:
            await reader.began.wait()
        assert named(await house.http.get(f"/v1/objects/{second.hex()}")) == "BusyError"
        assert named(await house.http.get(f"/v1/blocks?after={epoch_set().genesis().hex()}")) == "BusyError"
        assert (await house.http.get(f"/v1/objects/{first.hex()}")).content == objects[first]
        for reader in reading:
            reader.goes_on.set()
            await reader.task
        assert (await house.http.get(f"/v1/objects/{second.hex()}")).content == objects[second]
        assert (await house.http.get(f"/v1/blocks?after={epoch_set().genesis().hex()}")).status_code == 200

    run(scene)


# ------------------------------------------------------------------------------------------------ watching


def test_ready_only_in_the_present_round_and_connected_to_a_quorum(tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        assert (await house.http.get("/healthz")).json() == {"alive": True}
        assert (await house.http.get("/readyz")).json()["ready"] is True
        for standing in (
            Readiness(ROUND, 2, 3, True),
            Readiness(ROUND, 4, 3, False),
            Readiness(ROUND, 4, 3, True, 2, 9),
        ):
            house.desk.standing = standing
            answer = await house.http.get("/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)

    run(scene)


def test_unknown_addresses_and_methods_are_problems(tmp_path: Path) -> None:
    house = House.of(tmp_path)

    async def scene() -> None:
        nowhere = await house.http.get("/v2/round")
        assert (named(nowhere), nowhere.status_code) == ("UnknownItemError", 404)
        wrong = await house.http.delete("/v1/round")
        assert (wrong.json()["title"], wrong.status_code) == ("UnknownItemError", 405)

    run(scene)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 9999, b"x" * 20000, b'{"type":"about:blank","title":"x"}'])
def test_problem_that_cannot_be_read_is_said_to_be_none(data: bytes) -> None:
    problem = decode_problem(data, 502)
    assert (problem.title, problem.status, problem.values) == ("", 502, {})
