"""However an upload is cut, broken off, displaced and taken up again, what is read in the end is what was promised."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from _gateway_stage import ROUND, TASK, TRAINERS
from hypothesis import given
from hypothesis import strategies as st

from collegium.node._client_line import ClientLimits, GatewayAnswerError, Line
from collegium.node._gateway_problems import DisplacedError, OffsetError, UploadDamagedError
from collegium.node._upload_spool import UploadSpool
from collegium.node._upload_ticket import make_ticket

DATA = b"".join(sha256(bytes([number])).digest() for number in range(40))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 400)),
        st.tuples(st.just("elsewhere"), st.integers(0, len(DATA) + 10)),
        st.tuples(st.just("displaced"), st.integers(0, 400)),
        st.tuples(st.just("too long"), st.integers(1, 10)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(STEPS)
def test_any_way_of_uploading_gives_the_same_bytes(steps: list[tuple[str, int]]) -> None:
    ticket = make_ticket(TRAINERS[0], TASK, 0, ROUND, DATA)
    with tempfile.TemporaryDirectory() as folder:
        spool = UploadSpool(Path(folder), TASK, 0)
        upload = spool.begin(ticket)
        for step, number in steps:
            at, turn = upload.offset, upload.take_turn()
            match step:
                case "append":
                    spool.append(upload, turn, at, DATA[at : at + number])
                    assert upload.offset == min(at + number, len(DATA))
                case "elsewhere" if number != at:
                    with pytest.raises(OffsetError):
                        spool.append(upload, turn, number, b"")
                case "displaced":
                    upload.take_turn()
                    with pytest.raises(DisplacedError):
                        spool.append(upload, turn, at, DATA[at : at + number])
                case "too long":
                    with pytest.raises(OffsetError):
                        spool.append(upload, turn, at, bytes(len(DATA) - at + number))
                case "restart":
                    spool = UploadSpool(Path(folder), TASK, 0)
                    assert spool.begin(ticket).identity == upload.identity
                    upload = spool.get(upload.identity)
                    assert upload.offset == at
        spool.append(upload, upload.take_turn(), upload.offset, DATA[upload.offset :])
        assert upload.complete
        assert spool.read(upload) == DATA


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_damage_is_found(place: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= change
    with tempfile.TemporaryDirectory() as folder:
        spool = UploadSpool(Path(folder), TASK, 0)
        upload = spool.begin(make_ticket(TRAINERS[0], TASK, 0, ROUND, DATA))
        spool.append(upload, upload.take_turn(), 0, bytes(damaged))
        with pytest.raises(UploadDamagedError):
            spool.read(upload)
        assert upload.offset == 0


@given(st.binary(max_size=200))
def test_event_of_a_liar_is_read_or_refused(data: bytes) -> None:
    line = Line(0, None, ClientLimits())  # type: ignore[arg-type]  # nobody is asked anything
    for lines in (data, b"id: 1\nevent: a\ndata: " + data, b"id: " + data + b"\nevent: a\ndata: {}"):
        try:
            event = line._event(lines)
        except GatewayAnswerError:
            continue
        assert event.number >= 0
        assert event.name
