"""Messages and vote state as bytes, strictly: one kind byte, then a MessagePack array; one value has one encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from collegium.errors import CollegiumError

from ._epoch import EPOCH_SET_SIZE_MAX
from ._messages import (
    BITMAP_BYTES_MAX,
    BLOCK_PAYLOAD_BYTES_MAX,
    PROOF_CERTIFICATES_MAX,
    RECORD_BYTES_MAX,
    Ballot,
    Block,
    BlockRequest,
    BlockResponse,
    ChangeOffer,
    FollowMessage,
    FollowReply,
    FollowRequest,
    MalformedMessageError,
    Message,
    QuorumCertificate,
    Relay,
    SignedHeader,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    ViewEntry,
    Vote,
)
from ._order_state import BlockEquivocation, Evidence, VoteEquivocation, VoteState

__all__ = [
    "FOLLOW_BYTES_MAX",
    "KIND_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "Kind",
    "MessageTooLongError",
    "NotCanonicalMessageError",
    "Parts",
    "UnknownMessageKindError",
    "array_kind",
    "decode_evidence",
    "decode_follow_message",
    "decode_kind",
    "decode_message",
    "decode_vote_state",
    "encode_evidence",
    "encode_follow_message",
    "encode_kind",
    "encode_message",
    "encode_vote_state",
]

CERTIFICATE_BYTES_MAX: Final = 256 + BITMAP_BYTES_MAX
GROUP_BYTES_MAX: Final = 80 + BITMAP_BYTES_MAX
ENTRY_BYTES_MAX: Final = CERTIFICATE_BYTES_MAX + EPOCH_SET_SIZE_MAX * GROUP_BYTES_MAX
BLOCK_BYTES_MAX: Final = BLOCK_PAYLOAD_BYTES_MAX + ENTRY_BYTES_MAX + 256
# A response holds at least two blocks, whatever their size: the later one certifies the earlier one.
MESSAGE_BYTES_MAX: Final = 2 * BLOCK_BYTES_MAX + 16


class MessageTooLongError(CollegiumError):
    """More bytes than a message of its kind can have."""


class UnknownMessageKindError(CollegiumError):
    """The first byte names no kind of message."""


class NotCanonicalMessageError(CollegiumError):
    """Bytes that decode, but are not how the decoded value is written."""


_Ballot = tuple[int, bytes, int, bytes]
_Certificate = tuple[_Ballot, bytes, bytes]
_Timeouts = tuple[int, list[tuple[int, bytes, bytes]]]
_Entry = tuple[_Certificate, _Timeouts | None]
_Block = tuple[bytes, int, int, int, _Certificate, _Timeouts | None, bytes, bytes]
_Vote = tuple[_Ballot, int, bytes]
_Timeout = tuple[int, int, _Entry, bytes]
_Header = tuple[bytes, int, int, int, bytes, bytes]


# ------------------------------------------------------------------------------------------------- value -> fields


def _certificate_fields(c: QuorumCertificate) -> _Certificate:
    return (_ballot_fields(c.ballot), c.signers, c.signature)


def _ballot_fields(b: Ballot) -> _Ballot:
    return (b.view, b.block, b.parent_view, b.parent)


def _timeouts_fields(t: TimeoutCertificate | None) -> _Timeouts | None:
    return None if t is None else (t.view, [(g.high_view, g.signers, g.signature) for g in t.groups])


def _entry_fields(e: ViewEntry) -> _Entry:
    return (_certificate_fields(e.high_certificate), _timeouts_fields(e.timeout_certificate))


def _block_fields(b: Block) -> _Block:
    certificate, timeouts = _certificate_fields(b.parent_certificate), _timeouts_fields(b.timeout_certificate)
    return (b.task, b.epoch, b.view, b.author, certificate, timeouts, b.payload, b.signature)


def _vote_fields(v: Vote) -> _Vote:
    return (_ballot_fields(v.ballot), v.voter, v.signature)


def _timeout_fields(t: Timeout) -> _Timeout:
    return (t.view, t.author, _entry_fields(t.entry), t.signature)


def _header_fields(h: SignedHeader) -> _Header:
    return (h.task, h.epoch, h.view, h.author, h.body, h.signature)


# ------------------------------------------------------------------------------------------------- fields -> value


def _certificate(fields: _Certificate) -> QuorumCertificate:
    return QuorumCertificate(Ballot(*fields[0]), fields[1], fields[2])


def _timeouts(fields: _Timeouts | None) -> TimeoutCertificate | None:
    return None if fields is None else TimeoutCertificate(fields[0], tuple(TimeoutGroup(*g) for g in fields[1]))


def _entry(fields: _Entry) -> ViewEntry:
    return ViewEntry(_certificate(fields[0]), _timeouts(fields[1]))


def _block(fields: _Block) -> Block:
    task, epoch, view, author, certificate, timeouts, payload, signature = fields
    return Block(task, epoch, view, author, _certificate(certificate), _timeouts(timeouts), payload, signature)


def _vote(fields: _Vote) -> Vote:
    return Vote(Ballot(*fields[0]), fields[1], fields[2])


def _timeout(fields: _Timeout) -> Timeout:
    return Timeout(fields[0], fields[1], _entry(fields[2]), fields[3])


# ----------------------------------------------------------------------------------------------------------- kinds

_ENCODER: Final = msgspec.msgpack.Encoder()
Parts = list[bytes]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type is written: its kind byte, its size, and the two directions without the kind byte."""

    byte: int
    type: type
    bytes_max: int
    write: Callable[[Any], Parts]
    read: Callable[[memoryview], Any]


def array_kind(
    byte: int,
    kind: type[T],
    bytes_max: int,
    wire: Any,
    to_fields: Callable[[T], Any],
    from_fields: Callable[[Any], T],
    check: Callable[[T], None] = lambda _: None,
) -> Kind:
    """Return a kind that is written as a MessagePack array; both directions check the value."""
    decoder = msgspec.msgpack.Decoder(wire)

    def write(value: T) -> Parts:
        check(value)
        return [_ENCODER.encode(to_fields(value))]

    def read(data: memoryview) -> T:
        try:
            fields = decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise MalformedMessageError(f"{kind.__name__}: {error}", kind=byte) from error
        value = from_fields(fields)
        check(value)
        if _ENCODER.encode(to_fields(value)) != data:
            raise NotCanonicalMessageError(f"{kind.__name__} of {len(data) + 1} bytes is not canonical", kind=byte)
        return value

    return Kind(byte, kind, bytes_max, write, read)


def encode_kind(kinds: Mapping[type, Kind], value: object) -> bytes:
    """Return a value's kind byte and its parts."""
    kind = kinds[type(value)]
    return b"".join([bytes([kind.byte]), *kind.write(value)])


def decode_kind(kinds: Iterable[Kind], data: bytes | memoryview) -> Any:
    """Return the value of one of these kinds that `data` is.

    Raises:
        UnknownMessageKindError, MessageTooLongError, MalformedMessageError, NotCanonicalMessageError: see there.
    """
    kind = next((k for k in kinds if data[:1] == bytes([k.byte])), None)
    if kind is None:
        found = data[0] if data else None
        raise UnknownMessageKindError(f"kind {found}, expected one of {[k.byte for k in kinds]}", kind=found)
    if len(data) > kind.bytes_max:
        raise MessageTooLongError(
            f"{kind.type.__name__} of {len(data)} bytes, expected at most {kind.bytes_max}", length=len(data)
        )
    return kind.read(memoryview(data)[1:])


_MESSAGES: Final = (
    array_kind(1, Block, BLOCK_BYTES_MAX, _Block, _block_fields, _block),
    array_kind(2, Vote, 512, _Vote, _vote_fields, _vote),
    array_kind(3, Timeout, ENTRY_BYTES_MAX + 256, _Timeout, _timeout_fields, _timeout),
    array_kind(4, ViewEntry, ENTRY_BYTES_MAX + 256, _Entry, _entry_fields, _entry),
    array_kind(
        5,
        BlockRequest,
        256,
        tuple[int, bytes, bytes],
        lambda r: (r.requester, r.known, r.wanted),
        lambda fields: BlockRequest(*fields),
    ),
    array_kind(
        6,
        BlockResponse,
        MESSAGE_BYTES_MAX,
        list[_Block],
        lambda r: [_block_fields(b) for b in r.blocks],
        lambda fields: BlockResponse(tuple(_block(f) for f in fields)),
    ),
    array_kind(
        7,
        Relay,
        BLOCK_PAYLOAD_BYTES_MAX + 64,
        tuple[int, bytes],
        lambda r: (r.member, r.payload),
        lambda fields: Relay(*fields),
    ),
)
_FOLLOWING: Final = (
    array_kind(8, FollowRequest, 64, tuple[bytes], lambda r: (r.known,), lambda fields: FollowRequest(*fields)),
    array_kind(
        9,
        FollowReply,
        MESSAGE_BYTES_MAX + PROOF_CERTIFICATES_MAX * CERTIFICATE_BYTES_MAX,
        tuple[list[_Block], list[_Certificate]],
        lambda r: ([_block_fields(b) for b in r.blocks], [_certificate_fields(c) for c in r.certificates]),
        lambda f: FollowReply(tuple(_block(b) for b in f[0]), tuple(_certificate(c) for c in f[1])),
    ),
    array_kind(
        10,
        ChangeOffer,
        RECORD_BYTES_MAX + 64,
        tuple[bytes],
        lambda r: (r.payload,),
        lambda fields: ChangeOffer(*fields),
    ),
)
_EVIDENCE: Final = (
    array_kind(
        32,
        BlockEquivocation,
        1024,
        tuple[_Header, _Header],
        lambda e: (_header_fields(e.first), _header_fields(e.second)),
        lambda fields: BlockEquivocation(SignedHeader(*fields[0]), SignedHeader(*fields[1])),
    ),
    array_kind(
        33,
        VoteEquivocation,
        1024,
        tuple[_Vote, _Vote],
        lambda e: (_vote_fields(e.first), _vote_fields(e.second)),
        lambda fields: VoteEquivocation(_vote(fields[0]), _vote(fields[1])),
    ),
)
_VOTE_STATE: Final = array_kind(
    48,
    VoteState,
    3 * ENTRY_BYTES_MAX,
    tuple[int, int, int, _Entry, _Timeout | None],
    lambda s: (
        s.voted_view,
        s.timeout_view,
        s.proposed_view,
        _entry_fields(s.entry),
        None if s.timeout is None else _timeout_fields(s.timeout),
    ),
    lambda f: VoteState(f[0], f[1], f[2], _entry(f[3]), None if f[4] is None else _timeout(f[4])),
)
_BY_TYPE: Final = {kind.type: kind for kind in (*_MESSAGES, *_FOLLOWING, *_EVIDENCE, _VOTE_STATE)}
KIND_BYTES_MAX: Final = {kind.byte: kind.bytes_max for kind in _MESSAGES}  # of a message, by its first byte
FOLLOW_BYTES_MAX: Final = {kind.byte: kind.bytes_max for kind in _FOLLOWING}


# --------------------------------------------------------------------------------------------------------- surface


def encode_message(message: Message) -> bytes:
    """The canonical bytes of a message."""
    return encode_kind(_BY_TYPE, message)


def decode_message(data: bytes) -> Message:
    """The message that `data` is.

    Raises:
        UnknownMessageKindError: the first byte names no message.
        MessageTooLongError: longer than any message of its kind.
        MalformedMessageError: not a MessagePack array of the right fields, or a field out of bounds.
        NotCanonicalMessageError: a second way to write a message.
    """
    message: Message = decode_kind(_MESSAGES, data)
    return message


def encode_follow_message(message: FollowMessage) -> bytes:
    """The canonical bytes of what a candidate without a place says, or is told."""
    return encode_kind(_BY_TYPE, message)


def decode_follow_message(data: bytes) -> FollowMessage:
    """What a candidate without a place says, or is told; raises as `decode_message` does."""
    message: FollowMessage = decode_kind(_FOLLOWING, data)
    return message


def encode_evidence(evidence: Evidence) -> bytes:
    """The canonical bytes of a proof of misbehaviour."""
    return encode_kind(_BY_TYPE, evidence)


def decode_evidence(data: bytes) -> Evidence:
    """The evidence that `data` is; raises as `decode_message` does. It is not verified: see `verify_evidence`."""
    evidence: Evidence = decode_kind(_EVIDENCE, data)
    return evidence


def encode_vote_state(vote_state: VoteState) -> bytes:
    """What a validator writes to its disk before it sends anything."""
    return encode_kind(_BY_TYPE, vote_state)


def decode_vote_state(data: bytes) -> VoteState:
    """What a validator reads back after a crash; raises as `decode_message` does."""
    vote_state: VoteState = decode_kind((_VOTE_STATE,), data)
    return vote_state
