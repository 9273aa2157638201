"""What is said in a round has one encoding: it reads back, and what is changed, cut or stretched is another or none."""

from __future__ import annotations

import dataclasses
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from _round_stage import Tally, upload_of
from _wire_values import key_sum, large_values, proved_upload, small_values
from hypothesis import given
from hypothesis import strategies as st

from collegium.aggregation import (
    BLOCKS_MAX,
    RING_DIMENSION,
    Receipt,
    encode_ciphertext,
)
from collegium.consensus import (
    MESSAGE_BYTES_MAX,
    OUTCOMES,
    PEER_BYTES_MAX,
    ROUND_MESSAGE_BYTES_MAX,
    Announcement,
    FailingProof,
    FalseReceipt,
    FalseReject,
    Header,
    HeaderProposal,
    HeaderVote,
    MalformedMessageError,
    MessageTooLongError,
    NotCanonicalMessageError,
    ObjectReply,
    ObjectRequest,
    ProofReject,
    Relay,
    Release,
    ReportReply,
    ReportRequest,
    SeatReceipt,
    UnknownMessageKindError,
    decode_evidence,
    decode_message,
    decode_peer_message,
    decode_proof_evidence,
    decode_round_message,
    decode_upload,
    decode_vote_state,
    encode_peer_message,
    encode_proof_evidence,
    encode_round_message,
    encode_upload,
    peer_bytes_max,
    upload_bytes_max,
)
from collegium.consensus._round_wire import REPORTS_MAX
from collegium.errors import CollegiumError

FLIPS = range(1, 256) if os.environ.get("COLLEGIUM_FULL") == "1" else (1, 128, 255)
WIDTHS = (32, 512)  # columns of one of 256 seats, and of one of 16

digests = st.binary(min_size=32, max_size=32)
shares = st.binary(min_size=48, max_size=48)
signatures = st.binary(min_size=65, max_size=65)
rounds = st.integers(0, 2**63 - 1)
validators = st.integers(0, 2047)
seats = st.integers(0, 255)


key_sums = st.lists(st.builds(key_sum, st.sampled_from(WIDTHS), st.integers(0, 5), seats), max_size=2).map(tuple)


@st.composite
def drawn_receipts(draw: Any) -> Receipt:
    reports = tuple(sorted(draw(st.sets(digests, max_size=3))))
    verified = tuple(report for report in reports if draw(st.booleans()))
    return Receipt(draw(seats), reports, verified, draw(signatures))


receipts = drawn_receipts()
rejects = st.builds(ProofReject, rounds, digests, validators, signatures)
announcements = st.builds(Announcement, validators, rounds, digests, signatures)
few = st.lists(validators, max_size=3).map(tuple)
headers = st.builds(
    Header,
    task=digests,
    round=rounds,
    level=st.text(max_size=8),
    previous=digests,
    close=digests,
    outcome=st.sampled_from(OUTCOMES),
    key_sums=st.lists(st.tuples(seats, digests), max_size=2).map(tuple),
    total=digests,
    model=digests,
    lying=few,
    beacon=shares,
    seats=few,
    announcements=st.lists(announcements, max_size=2).map(tuple),
    failed=st.lists(digests, max_size=2).map(tuple),
)
small = st.one_of(
    st.builds(SeatReceipt, rounds, receipts),
    rejects,
    announcements,
    st.builds(Release, rounds, validators, digests, key_sums, shares, signatures),
    st.builds(HeaderProposal, headers, key_sums, validators, signatures),
    st.builds(HeaderVote, rounds, digests, validators, shares),
    st.builds(ReportRequest, rounds, validators, st.lists(digests, min_size=1, max_size=3).map(tuple)),
    st.builds(ObjectRequest, validators, st.lists(digests, min_size=1, max_size=3).map(tuple)),
    st.builds(ObjectReply, st.binary(max_size=40)),
)


def codec(value: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    if isinstance(value, FailingProof | FalseReceipt | FalseReject):
        return encode_proof_evidence, decode_proof_evidence
    return encode_round_message, decode_round_message


def name_of(value: Any) -> str:
    return type(value).__name__


def plain(value: Any) -> Any:
    """Return a value as tuples, so that two that hold arrays can be compared."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if dataclasses.is_dataclass(value):
        return (name_of(value), *(plain(getattr(value, field.name)) for field in dataclasses.fields(value)))
    return value


def check_changed(data: bytes, changed: bytes, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> None:
    """What was changed is refused by name, or is another value, of which exactly these are the bytes."""
    assert changed != data
    try:
        other = decode(changed)
    except CollegiumError:
        return
    assert encode(other) == changed


# ------------------------------------------------------------------------------------------------ one encoding


@given(small)
def test_messages_read_back(message):
    data = encode_round_message(message)
    assert plain(decode_round_message(data)) == plain(message)
    assert len(data) <= PEER_BYTES_MAX[data[0]]


@pytest.mark.parametrize("value", large_values(), ids=name_of)
def test_reports_and_evidence_read_back(value):
    encode, decode = codec(value)
    assert plain(decode(encode(value))) == plain(value)


def test_a_report_without_proof_or_registration_reads_back():
    upload = upload_of(1)
    assert plain(decode_upload(encode_upload(upload))) == plain(upload)
    reply = ReportReply(0, upload.report, upload.ciphertext)
    assert plain(decode_round_message(encode_round_message(reply))) == plain(reply)


@pytest.mark.slow
@pytest.mark.parametrize("value", small_values(), ids=name_of)
def test_every_changed_byte_is_another_message_or_none(value):
    data = encode_round_message(value)
    for at, byte in enumerate(data):
        for flip in FLIPS:
            changed = data[:at] + bytes([byte ^ flip]) + data[at + 1 :]
            check_changed(data, changed, decode_round_message, encode_round_message)


@pytest.mark.parametrize("value", small_values(), ids=name_of)
def test_every_cut_message_is_refused(value):
    data = encode_round_message(value)
    for length in range(len(data)):
        with pytest.raises((MalformedMessageError, UnknownMessageKindError)):
            decode_round_message(data[:length])
    with pytest.raises((MalformedMessageError, MessageTooLongError)):
        decode_round_message(data + b"\0")


def places(data: bytes) -> Iterator[int]:
    """Where a large message is changed: in its whole head, at its end, and here and there in between."""
    step = len(data) // 97
    yield from (*range(40), *range(40, len(data), step), *range(len(data) - 100, len(data), 3))


@pytest.mark.slow
@pytest.mark.parametrize("value", large_values(), ids=name_of)
def test_a_changed_or_cut_report_is_another_or_none(value):
    encode, decode = codec(value)
    data = encode(value)
    for at in places(data):
        for flip in (1, 128):
            check_changed(data, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], decode, encode)
        with pytest.raises((MalformedMessageError, UnknownMessageKindError)):
            decode(data[:at])
    with pytest.raises(MalformedMessageError):
        decode(data + b"\0")


@given(st.binary(max_size=200), st.sampled_from([*range(64, 74), 75, 96, 97, 98]))
def test_garbage_is_refused(garbage, kind):
    for decode in (decode_peer_message, decode_round_message, decode_upload, decode_proof_evidence):
        with pytest.raises(CollegiumError):
            decode(bytes([kind]) + garbage)


def test_an_object_is_any_bytes():
    for data in (b"", b"\0", bytes(range(256))):
        assert decode_round_message(encode_round_message(ObjectReply(data))) == ObjectReply(data)


# ------------------------------------------------------------------------------------------------ refusals by name


def changed_fields(value: Any, at: int, field: Any) -> bytes:
    """Return a message's bytes with another field in its array."""
    data = encode_round_message(value)
    fields = msgspec.msgpack.decode(data[1:])
    fields[at] = field
    return data[:1] + msgspec.msgpack.encode(fields)


def test_each_bound_of_a_field_is_held():
    receipt, reject, announcement, release, proposal, vote, request, objects = small_values()
    element_too_large = key_sum(32, 0).to_bytes()[:74] + b"\xff" * 8 + key_sum(32, 0).to_bytes()[82:]
    for value, at, field in (
        (receipt, 0, 2**63),
        (receipt, 0, -1),
        (receipt, 1, 256),
        (receipt, 2, bytes(31)),
        (receipt, 2, bytes(64)),
        (receipt, 2, bytes(range(32)) + bytes(32)),
        (receipt, 2, bytes(32 * (REPORTS_MAX + 1))),
        (receipt, 3, bytes(33)),
        (receipt, 3, bytes(range(1, 33))),
        (receipt, 4, bytes(66)),
        (reject, 1, bytes(33)),
        (reject, 2, 2048),
        (reject, 3, bytes(64)),
        (announcement, 0, 2048),
        (announcement, 2, bytes(33)),
        (release, 1, -1),
        (release, 2, b""),
        (release, 3, [bytes(10)]),
        (release, 3, [element_too_large]),
        (release, 3, [key_sum(32, 0).to_bytes()] * 257),
        (release, 4, bytes(47)),
        (proposal, 0, b"C" + bytes(9)),
        (proposal, 2, 2048),
        (vote, 1, bytes(31)),
        (vote, 3, bytes(65)),
        (request, 2, []),
        (request, 2, [bytes(31)]),
        (objects, 0, 2048),
        (objects, 1, []),
        (objects, 1, [bytes(33)]),
    ):
        with pytest.raises(MalformedMessageError):
            decode_round_message(changed_fields(value, at, field))
    data = encode_round_message(vote)
    with pytest.raises(NotCanonicalMessageError):
        decode_round_message(data[:2] + b"\xcc" + data[2:])


def test_nothing_is_written_that_nobody_would_read():
    receipt, reject, announcement, release, proposal, vote, request, objects = small_values()
    upload = upload_of(0)
    for value in (
        replace(receipt, round=-1),
        replace(reject, signature=b""),
        replace(announcement, seal_key=b""),
        replace(release, signature=b""),
        replace(release, key_sums=(replace(key_sum(32, 0), signature=b""),)),
        replace(proposal, signature=b""),
        replace(vote, validator=2048),
        replace(request, reports=()),
        replace(objects, digests=()),
        ObjectReply(bytes((64 << 20) + 1)),
        replace(upload, boxes=upload.boxes[1:]),
        replace(upload, boxes=(b"", *upload.boxes[1:])),
        replace(upload, ciphertext=upload.ciphertext[:-8]),
    ):
        with pytest.raises(MalformedMessageError):
            encode_round_message(value)


def with_lengths(value: Any, at: int, **changes: int) -> bytes:
    """Return a report's bytes with other announced lengths."""
    encode, _ = codec(value)
    data = bytearray(encode(value))
    names = ("seats", "report", "ciphertext", "proof", "registration")
    lengths = dict(zip(names, struct.unpack_from("<H4I", data, at), strict=True)) | changes
    struct.pack_into("<H4I", data, at, *lengths.values())
    return bytes(data)


def test_announced_lengths_are_bounded_and_exact_before_anything_is_kept():
    upload = proved_upload()
    whole = (BLOCKS_MAX + 1) * 8 * RING_DIMENSION
    tracemalloc.start()
    try:
        for changes in (
            {"seats": 15},
            {"seats": 0},
            {"seats": 512},
            {"seats": 256},
            {"report": 2**32 - 1},
            {"report": 10},
            {"ciphertext": 0},
            {"ciphertext": 8},
            {"ciphertext": whole},
            {"ciphertext": BLOCKS_MAX * 8 * RING_DIMENSION},
            {"proof": 2**32 - 1},
            {"proof": 64 << 20},
            {"registration": (64 << 20) + 1},
        ):
            data = with_lengths(upload, 1, **changes)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(MalformedMessageError):
                decode_upload(data)
            assert tracemalloc.get_traced_memory()[1] - before < 1 << 20, changes
    finally:
        tracemalloc.stop()


def test_deep_nesting_and_huge_counts_are_refused_without_effort():
    for kind in (*range(65, 72), 73):
        for rest in (b"\x91" * 400, b"\xdd\xff\xff\xff\xff", b"\x94\x00\xc6\xff\xff\xff\xff"):
            with pytest.raises(MalformedMessageError):
                decode_round_message(bytes([kind]) + rest)


def test_evidence_binds_what_was_said_to_the_report_in_it():
    failing, receipt, reject = large_values()[2:]
    for value in (
        replace(receipt, receipt=replace(receipt.receipt, reports=(bytes(32),), verified=())),
        replace(reject, reject=replace(reject.reject, report=bytes(32))),
    ):
        with pytest.raises(MalformedMessageError):
            encode_proof_evidence(value)
    data = encode_proof_evidence(failing)
    start = 1 + 18 + len(failing.held.report.to_bytes())
    assert data[start : start + 8] == encode_ciphertext(failing.held.ciphertext)[:8]
    with pytest.raises(MalformedMessageError):
        decode_proof_evidence(data[:start] + b"\xff" * 8 + data[start + 8 :])


# ------------------------------------------------------------------------------------------------ both families


def test_kinds_are_disjoint_and_each_decoder_keeps_to_its_own():
    relay = Relay(3, b"payload")
    vote, upload = small_values()[5], proved_upload()
    for message in (relay, vote, upload):
        data = encode_peer_message(message)
        assert plain(decode_peer_message(data)) == plain(message)
        assert len(data) <= PEER_BYTES_MAX[data[0]]
    for decode, data in (
        (decode_round_message, encode_peer_message(relay)),
        (decode_message, encode_peer_message(vote)),
        (decode_upload, encode_peer_message(vote)),
        (decode_proof_evidence, encode_peer_message(vote)),
        (decode_evidence, encode_proof_evidence(large_values()[2])),
        (decode_vote_state, encode_peer_message(vote)),
        (decode_peer_message, encode_proof_evidence(large_values()[2])),
        (decode_peer_message, b""),
        (decode_peer_message, b"\xff"),
    ):
        with pytest.raises(UnknownMessageKindError):
            decode(data)


def test_a_frame_can_be_refused_by_its_first_byte_and_length():
    assert max(PEER_BYTES_MAX.values()) == max(ROUND_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX)
    vote = encode_round_message(small_values()[5])
    with pytest.raises(MessageTooLongError):
        decode_peer_message(vote + bytes(PEER_BYTES_MAX[vote[0]]))
    ours = peer_bytes_max(Tally(), 0, 16)
    assert ours.keys() == PEER_BYTES_MAX.keys()
    assert all(ours[kind] <= most for kind, most in PEER_BYTES_MAX.items())
    for value in (upload_of(0), ReportReply(0, upload_of(0).report, upload_of(0).ciphertext)):
        data = encode_round_message(value)
        assert len(data) <= ours[data[0]] < 1 << 20
    assert upload_bytes_max(Tally(), 0, 16) == ours[encode_upload(upload_of(0))[0]]
