"""What is said among shards has one encoding: it reads back; what is changed, cut or stretched is another or none."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from _round_stage import Tally, upload_of
from _wire_values import key_sum, large_values, shard_values, small_values
from test_consensus_round_wire import check_changed, plain

from collegium.consensus import (
    PEER_BYTES_MAX,
    SHARDED_BYTES_MAX,
    SHARDS_MAX,
    BeaconWord,
    Certified,
    MalformedMessageError,
    MessageTooLongError,
    NotCanonicalMessageError,
    ObjectReply,
    Relay,
    ReportReply,
    ResultOffer,
    ShardBatch,
    ShardMessage,
    UnknownMessageKindError,
    decode_peer_message,
    decode_sharded_message,
    encode_payload,
    encode_peer_message,
    encode_round_message,
    encode_shard_payload,
    encode_sharded_message,
    sharded_bytes_max,
)

FLIPS = range(1, 256) if os.environ.get("COLLEGIUM_FULL") == "1" else (1, 128)
HEAD = 11  # kind, round, shard


def name_of(value: Any) -> str:
    return type(value.message if isinstance(value, ShardMessage) else value).__name__


@pytest.mark.parametrize("value", [*shard_values(), small_values()[2], ObjectReply(b"o"), Relay(3, b"p")], ids=name_of)
def test_messages_read_back(value: Any) -> None:
    data = encode_sharded_message(value)
    assert plain(decode_sharded_message(data)) == plain(value)
    assert len(data) <= SHARDED_BYTES_MAX[data[0]]


def test_a_report_is_said_in_a_shard_as_anywhere() -> None:
    report = large_values()[1]
    reply, other = ShardMessage(5, 2, report), ShardMessage(5, 2, ObjectReply(b"o"))
    data = encode_sharded_message(reply)
    assert plain(decode_sharded_message(data)) == plain(reply)
    assert data[HEAD:] == encode_round_message(report)
    assert decode_sharded_message(encode_sharded_message(other)) == other


@pytest.mark.parametrize("value", shard_values(), ids=name_of)
def test_a_changed_cut_or_stretched_message_is_another_or_none(value: Any) -> None:
    data = encode_sharded_message(value)
    places = range(len(data)) if len(data) < 1000 else (*range(400), *range(400, len(data), 211))
    for at in places:
        for flip in FLIPS:
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            check_changed(data, changed, decode_sharded_message, encode_sharded_message)
        with pytest.raises((MalformedMessageError, UnknownMessageKindError)):
            decode_sharded_message(data[:at])
    with pytest.raises((MalformedMessageError, MessageTooLongError)):
        decode_sharded_message(data + b"\0")


def changed_fields(value: Any, at: int, field: Any) -> bytes:
    """Return a message's bytes with another field in the array that it is, or that is said in its shard."""
    data, head = encode_sharded_message(value), HEAD if isinstance(value, ShardMessage) else 0
    fields = msgspec.msgpack.decode(data[head + 1 :])
    fields[at] = field
    return data[: head + 1] + msgspec.msgpack.encode(fields)


def test_each_bound_of_a_field_is_held() -> None:
    offer, voucher, result, vote, *_, record, word = shard_values()
    close = encode_payload(offer.message.close)
    header = encode_payload(Certified(small_values()[4].header, b""))
    batch = ShardBatch(bytes(range(32)), 5, lost=(1,))
    for value, at, field in (
        (offer, 0, 2048),
        (offer, 1, close[:-1]),
        (offer, 1, header),
        (voucher, 0, -1),
        (voucher, 1, bytes(31)),
        (voucher, 2, bytes(65)),
        (result, 0, 2048),
        (result, 1, encode_shard_payload(batch)),
        (result, 1, encode_shard_payload(small_values()[4].header)),
        (result, 1, b""),
        (result, 2, [bytes(10)]),
        (result, 2, [key_sum(32, 0).to_bytes()] * 257),
        (vote, 1, bytes(33)),
        (vote, 2, b""),
        (record, 0, -1),
        (record, 1, b"S"),
        (word, 0, 2**63),
        (word, 1, 2048),
        (word, 2, bytes(47)),
    ):
        with pytest.raises(MalformedMessageError):
            decode_sharded_message(changed_fields(value, at, field))
    data = encode_sharded_message(word)
    with pytest.raises(NotCanonicalMessageError):
        decode_sharded_message(data[:2] + b"\xcc" + data[2:])
    assert decode_sharded_message(changed_fields(word, 2, b"")) == BeaconWord(5, 7, b"")


def test_a_shard_has_a_number_and_says_what_is_said_in_shards() -> None:
    voucher = encode_sharded_message(shard_values()[1])
    for shard in (SHARDS_MAX, 65_535):
        with pytest.raises(MalformedMessageError):
            decode_sharded_message(voucher[:1] + struct.pack("<QH", 5, shard) + voucher[HEAD:])
    with pytest.raises(MalformedMessageError):
        decode_sharded_message(voucher[:1] + struct.pack("<QH", 2**63, 2) + voucher[HEAD:])
    vote, announcement = encode_round_message(small_values()[5]), encode_round_message(small_values()[2])
    for inside in (vote, announcement, encode_round_message(upload_of(0)), voucher, b"\1", b"\xff"):
        with pytest.raises(UnknownMessageKindError):
            decode_sharded_message(voucher[:HEAD] + inside)
    with pytest.raises(MessageTooLongError):
        decode_sharded_message(voucher + bytes(512))


def test_nothing_is_written_that_nobody_would_read() -> None:
    offer, voucher, result, *_, record, word = shard_values()
    wrong = replace(result.message.result, task=b"")
    for value in (
        replace(offer, shard=SHARDS_MAX),
        replace(offer, round=-1),
        replace(offer, message=upload_of(0)),
        replace(offer, message=replace(offer.message, validator=2048)),
        replace(voucher, message=replace(voucher.message, signature=b"")),
        replace(record, payload=b""),
        replace(word, share=b"s"),
    ):
        with pytest.raises(MalformedMessageError):
            encode_sharded_message(value)
    with pytest.raises(MalformedMessageError):
        decode_sharded_message(encode_sharded_message(ShardMessage(5, 2, ResultOffer(7, wrong, ()))))


def test_the_families_are_apart() -> None:
    """A network with one committee a round reads nothing of shards, and shards nothing of a header's committee."""
    for value in shard_values():
        with pytest.raises(UnknownMessageKindError):
            decode_peer_message(encode_sharded_message(value))
    for value in (small_values()[0], small_values()[5], upload_of(0)):
        with pytest.raises(UnknownMessageKindError):
            decode_sharded_message(encode_peer_message(value))
    assert not {75, 76, 77, 80, 81, 82, 83} & set(PEER_BYTES_MAX)
    for garbage in (b"", b"\xff", b"\x4b", b"\x4b" + bytes(10)):
        with pytest.raises((UnknownMessageKindError, MalformedMessageError)):
            decode_sharded_message(garbage)


def test_a_frame_can_be_refused_by_its_first_byte_and_length() -> None:
    ours = sharded_bytes_max(Tally(), 0, 16)
    assert ours.keys() == SHARDED_BYTES_MAX.keys()
    assert all(ours[kind] <= most for kind, most in SHARDED_BYTES_MAX.items())
    for inside in (
        ReportReply(0, upload_of(0).report, upload_of(0).ciphertext),
        *(v.message for v in shard_values()[:9]),
    ):
        data = encode_sharded_message(ShardMessage(5, 2, inside))
        assert len(data) <= ours[data[0]]
