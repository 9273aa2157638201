"""What is said where a round has several committees as bytes, strictly; with ordering, all that validators say there.

What is said inside a shard stands behind its round and shard, with the kind byte that it has in a round with one
committee. Layouts and bounds: docs/spec/wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from collegium.crypto import DIGEST_BYTES
from collegium.errors import CollegiumError

from ._messages import BLS_SIGNATURE_BYTES, MalformedMessageError, Message
from ._order_wire import (
    KIND_BYTES_MAX,
    Kind,
    Parts,
    array_kind,
    decode_kind,
    decode_message,
    encode_kind,
    encode_message,
)
from ._proof_evidence import ProofReject
from ._records import (
    PAYLOAD_BYTES_MAX,
    Announcement,
    Close,
    MalformedPayloadError,
    decode_payload,
    encode_payload,
)
from ._round_types import Agreed, ObjectReply, ObjectRequest, Release, ReportReply, ReportRequest, SeatReceipt
from ._round_wire import (
    KEY_SUMS_BYTES_MAX,
    ROUND_KINDS,
    SMALL_BYTES_MAX,
    check_bytes,
    check_key_sums,
    check_number,
    check_place,
    check_validator,
    peer_bytes_max,
    read_key_sums,
)
from ._shard_records import (
    SHARDS_MAX,
    CertifiedResult,
    ShardBatch,
    ShardResult,
    decode_shard_payload,
    encode_shard_payload,
)
from ._shard_types import (
    BeaconWord,
    CloseOffer,
    RecordOffer,
    ResultOffer,
    ResultVote,
    SaidAmongShards,
    ShardMessage,
    Voucher,
)

__all__ = ["SHARDED_BYTES_MAX", "decode_sharded_message", "encode_sharded_message", "sharded_bytes_max"]

RESULT_BYTES_MAX: Final = 1 << 20  # key sums' digests take 9 KiB of it, failing reports the rest

# ----------------------------------------------------------------------------------------------------------- checks


def _check_offer(message: CloseOffer) -> None:
    check_place(message.close.round, message.validator)


def _check_vote(message: Voucher | ResultVote) -> None:
    check_validator(message.validator)
    check_bytes("digest", message.digest, DIGEST_BYTES)
    check_bytes("signature", message.signature, BLS_SIGNATURE_BYTES)


def _check_result(message: ResultOffer) -> None:
    check_place(message.result.round, message.validator)
    check_key_sums(message.key_sums)


def _check_record(message: RecordOffer) -> None:
    check_number("round", message.round)
    check_bytes("record", message.payload, 2, PAYLOAD_BYTES_MAX)


def _check_word(message: BeaconWord) -> None:
    check_place(message.round, message.validator)
    if message.share:  # a validator that was cheated of its share has none
        check_bytes("beacon share", message.share, BLS_SIGNATURE_BYTES)


# ------------------------------------------------------------------------------------------------ nested in arrays


def _close(data: bytes) -> Close:
    try:
        payload = decode_payload(data)
    except MalformedPayloadError as error:
        raise MalformedMessageError(f"close: {error}") from error
    if not isinstance(payload, Close):
        raise MalformedMessageError("an offer carries a header, expected a close")
    return payload


def _result_bytes(result: ShardResult) -> bytes:
    """Return the result as `_shard_records` writes it, under no certificate yet."""
    return encode_shard_payload(ShardBatch(result.task, result.round, results=(CertifiedResult(result, b""),)))


def _result(data: bytes) -> ShardResult:
    check_bytes("result", data, 1, RESULT_BYTES_MAX)
    try:
        payload = decode_shard_payload(data)
    except CollegiumError as error:
        raise MalformedMessageError(f"result: {error}") from error
    if not isinstance(payload, ShardBatch) or len(payload.results) != 1 or len(payload.shards) != 1:
        raise MalformedMessageError("an offer carries something else than one result of one shard")
    return payload.results[0].result


# ------------------------------------------------------------------------------------------------ kinds


def _vote_kind(byte: int, kind: type[Voucher] | type[ResultVote]) -> Kind:
    """Return how a validator's signature on a digest is written."""
    return array_kind(
        byte,
        kind,
        SMALL_BYTES_MAX,
        tuple[int, bytes, bytes],
        lambda m: (m.validator, m.digest, m.signature),
        lambda f: kind(*f),
        _check_vote,
    )


_OFFERS: Final = (
    array_kind(
        80,
        CloseOffer,
        SMALL_BYTES_MAX + PAYLOAD_BYTES_MAX,
        tuple[int, bytes],
        lambda m: (m.validator, encode_payload(m.close)),
        lambda f: CloseOffer(f[0], _close(f[1])),
        _check_offer,
    ),
    _vote_kind(81, Voucher),
    array_kind(
        82,
        ResultOffer,
        SMALL_BYTES_MAX + RESULT_BYTES_MAX + KEY_SUMS_BYTES_MAX,
        tuple[int, bytes, list[bytes]],
        lambda m: (m.validator, _result_bytes(m.result), [k.to_bytes() for k in m.key_sums]),
        lambda f: ResultOffer(f[0], _result(f[1]), read_key_sums(f[2])),
        _check_result,
    ),
    _vote_kind(83, ResultVote),
)
_FROM_ROUNDS: Final = (SeatReceipt, ProofReject, Release, ReportRequest, ReportReply, ObjectRequest, ObjectReply)
_IN_SHARD: Final = (*(ROUND_KINDS[kind] for kind in _FROM_ROUNDS), *_OFFERS)  # uploads come from trainers
_IN_SHARD_BY_TYPE: Final = {kind.type: kind for kind in _IN_SHARD}
_SHARD_HEAD: Final = struct.Struct("<QH")  # round, shard


def _check_shard(round_number: int, shard: int) -> None:
    check_number("round", round_number)
    check_number("shard", shard, SHARDS_MAX - 1)


def _write_in_shard(message: ShardMessage) -> Parts:
    """Return round and shard, then what is said there with its own kind byte."""
    _check_shard(message.round, message.shard)
    if type(message.message) not in _IN_SHARD_BY_TYPE:
        raise MalformedMessageError(f"{type(message.message).__name__} is nothing that validators say in a shard")
    return [_SHARD_HEAD.pack(message.round, message.shard), encode_kind(_IN_SHARD_BY_TYPE, message.message)]


def _read_in_shard(data: memoryview) -> ShardMessage:
    if len(data) <= _SHARD_HEAD.size:
        raise MalformedMessageError(f"{len(data)} bytes, expected round, shard and what is said", length=len(data))
    round_number, shard = _SHARD_HEAD.unpack_from(data)
    _check_shard(round_number, shard)
    message: Any = decode_kind(_IN_SHARD, data[_SHARD_HEAD.size :])
    return ShardMessage(round_number, shard, message)


_HEAD_BYTES: Final = 1 + _SHARD_HEAD.size
_MESSAGES: Final = (
    Kind(75, ShardMessage, _HEAD_BYTES + max(k.bytes_max for k in _IN_SHARD), _write_in_shard, _read_in_shard),
    array_kind(
        76,
        RecordOffer,
        SMALL_BYTES_MAX + PAYLOAD_BYTES_MAX,
        tuple[int, bytes],
        lambda m: (m.round, m.payload),
        lambda f: RecordOffer(*f),
        _check_record,
    ),
    array_kind(
        77,
        BeaconWord,
        SMALL_BYTES_MAX,
        tuple[int, int, bytes],
        lambda m: (m.round, m.validator, m.share),
        lambda f: BeaconWord(*f),
        _check_word,
    ),
    *(ROUND_KINDS[kind] for kind in (Announcement, ObjectRequest, ObjectReply)),
)
_BY_TYPE: Final = {kind.type: kind for kind in _MESSAGES}
SHARDED_BYTES_MAX: Final[Mapping[int, int]] = MappingProxyType(
    {**KIND_BYTES_MAX, **{kind.byte: kind.bytes_max for kind in _MESSAGES}}
)
"""The most bytes of a message between validators of a round with shards, kind byte included, by that byte."""

_OWN_BYTES: Final = {kind.byte for kind in (*_OFFERS, *_MESSAGES[:3])}
if _OWN_BYTES & {*KIND_BYTES_MAX, *(kind.byte for kind in ROUND_KINDS.values())}:
    raise ImportError("a kind byte names what is said among shards and an ordering message or a round's")

# --------------------------------------------------------------------------------------------------------- surface


def encode_sharded_message(message: Message | SaidAmongShards) -> bytes:
    """The canonical bytes of anything that one validator says to another where a round has shards.

    Raises:
        MalformedMessageError: a field is out of its bounds, so that nobody would decode the bytes.
    """
    return encode_kind(_BY_TYPE, message) if isinstance(message, SaidAmongShards) else encode_message(message)


def decode_sharded_message(data: bytes) -> Message | SaidAmongShards:
    """What one validator says to another where a round has shards; whether it holds is for the state machines to say.

    Raises:
        UnknownMessageKindError: the first byte names nothing that is said there, or nothing that is said in a shard.
        MessageTooLongError: longer than any message of its kind.
        MalformedMessageError: not the fields of its kind, or one out of bounds.
        NotCanonicalMessageError: a second way to write a message.
    """
    if data and data[0] in KIND_BYTES_MAX:
        return decode_message(data)
    message: SaidAmongShards = decode_kind(_MESSAGES, data)
    return message


def sharded_bytes_max(agreed: Agreed, round_number: int, seats: int) -> Mapping[int, int]:
    """`SHARDED_BYTES_MAX` with reports no larger than a round of this task has them; `seats` are one shard's."""
    ours = peer_bytes_max(agreed, round_number, seats)
    inside = max(ours.get(kind.byte, kind.bytes_max) for kind in _IN_SHARD)
    return MappingProxyType({**SHARDED_BYTES_MAX, 75: _HEAD_BYTES + inside})
