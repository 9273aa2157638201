"""Payloads of a round with several committees: one encoding each; what is long, repeated or out of order is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from collegium.consensus import (
    PAYLOAD_BYTES_MAX,
    SHARDS_MAX,
    Announcement,
    CertifiedResult,
    Close,
    Header,
    MalformedPayloadError,
    ShardBatch,
    ShardClose,
    ShardResult,
    Standing,
    decode_payload,
    decode_shard_payload,
    encode_payload,
    encode_shard_payload,
    merged_close,
)
from collegium.consensus._shard_records import follow

A, B = b"a" * 32, b"b" * 32
SIGNATURE = b"s" * 65
CLOSE = Close(A, 3, B, (0, 2), (A, B), (1, 1), (A, B), ((b"\3", b"\1", SIGNATURE), (b"\3", b"\0", SIGNATURE)))
RESULT = ShardResult(A, 3, 4, "proved", B, "opened", ((0, A), (2, B)), A, lying=(2,))
HEADER = Header(A, 3, "proved", A, B, "opened", (), A, B, (), b"b" * 48, (1, 0), (Announcement(1, 4, A, SIGNATURE),))


@cache
def batch() -> ShardBatch:
    closes = (ShardClose(1, CLOSE, b"vouchers"), ShardClose(3, CLOSE, b""))
    return ShardBatch(A, 3, closes, (CertifiedResult(RESULT, b"certificate"),), (0, SHARDS_MAX - 1))


@pytest.mark.parametrize("payload", [batch(), HEADER, ShardBatch(A, 0, lost=(0,))])
def test_payloads_round_trip(payload: ShardBatch | Header) -> None:
    data = encode_shard_payload(payload)
    assert decode_shard_payload(data) == payload
    assert encode_shard_payload(decode_shard_payload(data)) == data


MALFORMED: dict[str, Callable[[ShardBatch], Any]] = {
    "nothing": lambda b: ShardBatch(b.task, b.round),
    "closes out of order": lambda b: replace(b, closes=b.closes[::-1]),
    "a close twice": lambda b: replace(b, closes=(b.closes[0], b.closes[0])),
    "a shard in two fields": lambda b: replace(b, lost=(1,)),
    "lost out of order": lambda b: replace(b, lost=(5, 0)),
    "too many shards": lambda b: replace(b, lost=(SHARDS_MAX,)),
    "a negative shard": lambda b: replace(b, lost=(-1,)),
    "a negative round": lambda b: replace(b, round=-1),
    "a short task": lambda b: replace(b, task=A[1:]),
    "long vouchers": lambda b: replace(b, closes=(replace(b.closes[0], vouchers=bytes(1025)),)),
    "a long certificate": lambda b: replace(b, results=(CertifiedResult(RESULT, bytes(1025)),)),
    "a malformed close": lambda b: replace(b, closes=(replace(b.closes[0], close=replace(CLOSE, weights=(1,))),)),
    "a short total": lambda b: replace(b, results=(CertifiedResult(replace(RESULT, total=b""), b""),)),
    "an unknown outcome": lambda b: replace(b, results=(CertifiedResult(replace(RESULT, outcome="good"), b""),)),  # type: ignore[arg-type]
    "a seat out of range": lambda b: replace(b, results=(CertifiedResult(replace(RESULT, lying=(1 << 16,)), b""),)),
    "a short key sum": lambda b: replace(b, results=(CertifiedResult(replace(RESULT, key_sums=((0, b""),)), b""),)),
    "a short failed report": lambda b: replace(b, results=(CertifiedResult(replace(RESULT, failed=(b"",)), b""),)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_batch_is_refused(case: str) -> None:
    decode_shard_payload(encode_shard_payload(batch()))
    with pytest.raises(MalformedPayloadError):
        decode_shard_payload(encode_shard_payload(MALFORMED[case](batch())))


@pytest.mark.parametrize("field", ["task", "previous", "close", "total", "model", "beacon"])
def test_a_header_of_wrong_lengths_is_refused(field: str) -> None:
    with pytest.raises(MalformedPayloadError):
        decode_shard_payload(encode_shard_payload(replace(HEADER, **{field: b""})))  # type: ignore[arg-type]


def test_bytes_have_one_kind_and_one_form() -> None:
    data = encode_shard_payload(batch())
    for other in (b"", data[:1], data + b"\0", b"M" + data[1:], b"C" + data[1:], b"X" + data[1:], data[:-1]):
        with pytest.raises(MalformedPayloadError):
            decode_shard_payload(other)
    with pytest.raises(MalformedPayloadError, match="expected 2"):
        decode_shard_payload(b"S" + bytes(PAYLOAD_BYTES_MAX))
    with pytest.raises(MalformedPayloadError, match="canonical"):
        decode_shard_payload(data[:1] + msgspec.msgpack.encode(msgspec.msgpack.decode(data[1:]) | {"unknown": 1}))
    for foreign in (data, encode_shard_payload(HEADER)):
        with pytest.raises(MalformedPayloadError):
            decode_payload(foreign)
    with pytest.raises(MalformedPayloadError):
        decode_shard_payload(encode_payload(CLOSE))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": B},
        {"round": 4},
        {"shard": 5},
        {"level": "bounded"},
        {"close": A},
        {"outcome": "lost"},
        {"key_sums": ()},
        {"total": B},
        {"lying": ()},
        {"failed": (A,)},
    ],
)
def test_a_certificate_binds_every_field_of_a_result(changes: dict[str, Any]) -> None:
    assert replace(RESULT, **changes).digest != RESULT.digest


def test_a_round_stands_where_its_records_put_it() -> None:
    result = replace(RESULT, shard=1)
    start = (Standing(),) * 3
    closed = follow(start, ShardBatch(A, 3, tuple(ShardClose(shard, CLOSE, b"") for shard in range(3))))
    assert [standing.over for standing in closed] == [False] * 3
    ended = follow(closed, ShardBatch(A, 3, (), (CertifiedResult(result, b""),), (2,)))
    assert [standing.over for standing in ended] == [False, True, True]
    assert [standing.total for standing in ended] == [None, A, None]
    skip = Close(A, 3, B, (), (), (), (), ())
    assert follow(start, ShardBatch(A, 3, (ShardClose(0, skip, b""),)))[0].over
    names = {merged_close(A, 3, standings) for standings in (start, closed, ended)}
    assert len(names | {merged_close(A, 4, ended), merged_close(B, 3, ended), merged_close(A, 3, ended[:2])}) == 6
