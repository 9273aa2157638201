"""What is said in a learning round as bytes, strictly; with `_order_wire`, all that travels between validators.

One kind byte, then either a MessagePack array, written again and compared, or, where a ciphertext or a proof is in it,
a fixed head of lengths and the parts that it announces: exact, so there is one way to write it, and nothing is copied
to find that out. Layouts and bounds: docs/spec/wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from collegium import algebra
from collegium.aggregation import (
    BLOCKS_MAX,
    COMMITTEE_DOMAIN,
    KEY_ROWS,
    RING_DIMENSION,
    BudgetError,
    KeySum,
    MalformedKeySumError,
    MalformedReportError,
    Receipt,
    Report,
    Upload,
    seat_width,
)
from collegium.algebra import NotCanonicalError
from collegium.crypto import DIGEST_BYTES, SEAL_KEY_BYTES, SEAL_OVERHEAD_BYTES

from ._epoch import EPOCH_SET_SIZE_MAX, INTEGER_MAX
from ._messages import (
    ACCOUNT_SIGNATURE_BYTES,
    BLS_SIGNATURE_BYTES,
    FollowMessage,
    MalformedMessageError,
    Message,
)
from ._order_wire import (
    FOLLOW_BYTES_MAX,
    KIND_BYTES_MAX,
    Kind,
    Parts,
    array_kind,
    decode_follow_message,
    decode_kind,
    decode_message,
    encode_follow_message,
    encode_kind,
    encode_message,
)
from ._proof_evidence import FailingProof, FalseReceipt, FalseReject, Held, ProofEvidence, ProofReject
from ._records import Announcement, Certified, Header, MalformedPayloadError, decode_payload, encode_payload
from ._round_types import (
    OBJECT_BYTES_MAX,
    Agreed,
    HeaderProposal,
    HeaderVote,
    ObjectReply,
    ObjectRequest,
    Release,
    ReportReply,
    ReportRequest,
    RoundMessage,
    SeatReceipt,
)

__all__ = [
    "KEY_SUMS_BYTES_MAX",
    "PEER_BYTES_MAX",
    "PROOF_EVIDENCE_BYTES_MAX",
    "ROUND_KINDS",
    "ROUND_MESSAGE_BYTES_MAX",
    "SMALL_BYTES_MAX",
    "check_bytes",
    "check_key_sums",
    "check_number",
    "check_place",
    "check_validator",
    "decode_peer_message",
    "decode_proof_evidence",
    "decode_round_message",
    "decode_upload",
    "encode_peer_message",
    "encode_proof_evidence",
    "encode_round_message",
    "encode_upload",
    "peer_bytes_max",
    "read_key_sums",
    "upload_bytes_max",
]

SEATS_MAX: Final = 256  # of a round: `seat_width` allows no more
REPORT_BYTES_MAX: Final = 1 << 18  # the combination takes 85 KiB of it, boxes' digests 8, the audit's 172 columns 56
CIPHERTEXT_BYTES_MAX: Final = 8 * RING_DIMENSION * BLOCKS_MAX
PROOF_BYTES_MAX: Final = 64 << 20  # also of a registration
BOX_BYTES_MAX: Final = 1 << 15  # of 512 columns, as each of 16 seats owns them, 16,816
HEADER_BYTES_MAX: Final = 2 << 20
REPORTS_MAX: Final = 1 << 14  # more than a close can name in a payload of 16 MiB with receipts of 16 seats
SMALL_BYTES_MAX: Final = 512
KEY_SUM_HEAD_BYTES: Final = DIGEST_BYTES + 8 + DIGEST_BYTES + 2
KEY_SUMS_BYTES_MAX: Final = 8 * KEY_ROWS * COMMITTEE_DOMAIN.size + SEATS_MAX * (
    KEY_SUM_HEAD_BYTES + ACCOUNT_SIGNATURE_BYTES + 8
)
_WIDTHS: Final = frozenset(seat_width(16 << i) for i in range(5))

FieldArray = npt.NDArray[np.uint64]


# ----------------------------------------------------------------------------------------------------------- checks


def check_bytes(what: str, value: bytes, low: int, high: int | None = None) -> None:
    most = low if high is None else high
    if not low <= len(value) <= most:
        raise MalformedMessageError(f"{what} has {len(value)} bytes, expected {low}..{most}", length=len(value))


def check_number(what: str, value: int, high: int = INTEGER_MAX) -> None:
    if not 0 <= value <= high:
        raise MalformedMessageError(f"{what} is {value}, expected 0..{high}", number=value)


def _check_count(what: str, count: int, low: int, high: int) -> None:
    if not low <= count <= high:
        raise MalformedMessageError(f"{count} {what}, expected {low}..{high}", count=count)


def check_validator(validator: int) -> None:
    check_number("validator", validator, EPOCH_SET_SIZE_MAX - 1)


def check_place(round_number: int, validator: int) -> None:
    check_number("round", round_number)
    check_validator(validator)


def _check_receipt(receipt: Receipt) -> None:
    check_number("seat", receipt.seat, SEATS_MAX - 1)
    _check_count("reports in a receipt", len(receipt.reports), 0, REPORTS_MAX)
    for ids in (receipt.reports, receipt.verified):
        for report in ids:
            check_bytes("report", report, DIGEST_BYTES)
        if any(left >= right for left, right in pairwise(ids)):
            raise MalformedMessageError("reports in a receipt are not strictly increasing")
    if not receipt.names.issuperset(receipt.verified):
        raise MalformedMessageError("a receipt has verified a report that it does not name")
    check_bytes("receipt's signature", receipt.signature, ACCOUNT_SIGNATURE_BYTES)


def _check_reject(reject: ProofReject) -> None:
    check_place(reject.round, reject.validator)
    check_bytes("report", reject.report, DIGEST_BYTES)
    check_bytes("signature", reject.signature, ACCOUNT_SIGNATURE_BYTES)


def check_key_sums(key_sums: Sequence[KeySum]) -> None:
    _check_count("key sums", len(key_sums), 0, SEATS_MAX)
    for key_sum in key_sums:
        check_number("round of a key sum", key_sum.round)
        check_bytes("key sum's signature", key_sum.signature, ACCOUNT_SIGNATURE_BYTES)
        if key_sum.rows.shape[0] not in _WIDTHS or key_sum.rows.shape[1:] != (KEY_ROWS,):
            raise MalformedMessageError(f"key sum of shape {key_sum.rows.shape} is no seat's")


def _check_ciphertext(length: int) -> None:
    block = 8 * RING_DIMENSION
    if length % block or not 1 <= length // block <= BLOCKS_MAX:
        raise MalformedMessageError(
            f"a masked update of {length} bytes, expected 1..{BLOCKS_MAX} blocks of {block}", length=length
        )


# ------------------------------------------------------------------------------------------------ nested in arrays


def _digests(joined: bytes) -> tuple[bytes, ...]:
    if len(joined) % DIGEST_BYTES or len(joined) > REPORTS_MAX * DIGEST_BYTES:
        raise MalformedMessageError(
            f"{len(joined)} bytes of digests, expected 0..{REPORTS_MAX} times {DIGEST_BYTES}", length=len(joined)
        )
    return tuple(joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES))


def _key_sum(data: bytes) -> KeySum:
    width, rest = divmod(len(data) - KEY_SUM_HEAD_BYTES - ACCOUNT_SIGNATURE_BYTES, 8 * KEY_ROWS)
    if rest or width not in _WIDTHS:
        raise MalformedMessageError(f"a key sum of {len(data)} bytes is no seat's", length=len(data))
    try:
        return KeySum.from_bytes(data, width)
    except MalformedKeySumError as error:
        raise MalformedMessageError(f"key sum: {error}") from error


def read_key_sums(parts: Sequence[bytes]) -> tuple[KeySum, ...]:
    _check_count("key sums", len(parts), 0, SEATS_MAX)
    return tuple(_key_sum(part) for part in parts)


def _header_bytes(header: Header) -> bytes:
    """Return the header as `_records` writes it, under no certificate yet."""
    return encode_payload(Certified(header, b""))


def _header(data: bytes) -> Header:
    check_bytes("header", data, 1, HEADER_BYTES_MAX)
    try:
        payload = decode_payload(data)
    except MalformedPayloadError as error:
        raise MalformedMessageError(f"header: {error}") from error
    if not isinstance(payload, Certified) or payload.certificate:
        raise MalformedMessageError("a proposal carries a close or a certificate, expected a header alone")
    return payload.header


# ------------------------------------------------------------------------------------------------ kinds


def _check_seat_receipt(message: SeatReceipt) -> None:
    check_number("round", message.round)
    _check_receipt(message.receipt)


def _check_announcement(message: Announcement) -> None:
    check_place(message.round, message.validator)
    check_bytes("sealing key", message.seal_key, SEAL_KEY_BYTES)
    check_bytes("signature", message.signature, ACCOUNT_SIGNATURE_BYTES)


def _check_release(message: Release) -> None:
    check_place(message.round, message.validator)
    check_bytes("close", message.close, DIGEST_BYTES)
    check_key_sums(message.key_sums)
    check_bytes("beacon share", message.beacon_share, BLS_SIGNATURE_BYTES)
    check_bytes("signature", message.signature, ACCOUNT_SIGNATURE_BYTES)


def _check_proposal(message: HeaderProposal) -> None:
    check_place(message.header.round, message.proposer)
    check_key_sums(message.key_sums)
    check_bytes("signature", message.signature, ACCOUNT_SIGNATURE_BYTES)


def _check_vote(message: HeaderVote) -> None:
    check_place(message.round, message.validator)
    check_bytes("header", message.header, DIGEST_BYTES)
    check_bytes("signature", message.signature, BLS_SIGNATURE_BYTES)


def _check_asked(validator: int, digests: Sequence[bytes]) -> None:
    check_validator(validator)
    _check_count("digests asked for", len(digests), 1, REPORTS_MAX)
    for digest in digests:
        check_bytes("digest", digest, DIGEST_BYTES)


def _check_request(message: ReportRequest) -> None:
    check_number("round", message.round)
    _check_asked(message.validator, message.reports)


def _check_object_request(message: ObjectRequest) -> None:
    _check_asked(message.validator, message.digests)


_ARRAYS: Final = (
    array_kind(
        65,
        SeatReceipt,
        SMALL_BYTES_MAX + 2 * REPORTS_MAX * DIGEST_BYTES,
        tuple[int, int, bytes, bytes, bytes],
        lambda m: (
            m.round,
            m.receipt.seat,
            b"".join(m.receipt.reports),
            b"".join(m.receipt.verified),
            m.receipt.signature,
        ),
        lambda f: SeatReceipt(f[0], Receipt(f[1], _digests(f[2]), _digests(f[3]), f[4])),
        _check_seat_receipt,
    ),
    array_kind(
        66,
        ProofReject,
        SMALL_BYTES_MAX,
        tuple[int, bytes, int, bytes],
        lambda m: (m.round, m.report, m.validator, m.signature),
        lambda f: ProofReject(*f),
        _check_reject,
    ),
    array_kind(
        67,
        Announcement,
        SMALL_BYTES_MAX,
        tuple[int, int, bytes, bytes],
        lambda m: (m.validator, m.round, m.seal_key, m.signature),
        lambda f: Announcement(*f),
        _check_announcement,
    ),
    array_kind(
        68,
        Release,
        SMALL_BYTES_MAX + KEY_SUMS_BYTES_MAX,
        tuple[int, int, bytes, list[bytes], bytes, bytes],
        lambda m: (m.round, m.validator, m.close, [k.to_bytes() for k in m.key_sums], m.beacon_share, m.signature),
        lambda f: Release(f[0], f[1], f[2], read_key_sums(f[3]), f[4], f[5]),
        _check_release,
    ),
    array_kind(
        69,
        HeaderProposal,
        SMALL_BYTES_MAX + HEADER_BYTES_MAX + KEY_SUMS_BYTES_MAX,
        tuple[bytes, list[bytes], int, bytes],
        lambda m: (_header_bytes(m.header), [k.to_bytes() for k in m.key_sums], m.proposer, m.signature),
        lambda f: HeaderProposal(_header(f[0]), read_key_sums(f[1]), f[2], f[3]),
        _check_proposal,
    ),
    array_kind(
        70,
        HeaderVote,
        SMALL_BYTES_MAX,
        tuple[int, bytes, int, bytes],
        lambda m: (m.round, m.header, m.validator, m.signature),
        lambda f: HeaderVote(*f),
        _check_vote,
    ),
    array_kind(
        71,
        ReportRequest,
        SMALL_BYTES_MAX + REPORTS_MAX * (DIGEST_BYTES + 2),
        tuple[int, int, list[bytes]],
        lambda m: (m.round, m.validator, m.reports),
        lambda f: ReportRequest(f[0], f[1], tuple(f[2])),
        _check_request,
    ),
    array_kind(
        73,
        ObjectRequest,
        SMALL_BYTES_MAX + REPORTS_MAX * (DIGEST_BYTES + 2),
        tuple[int, list[bytes]],
        lambda m: (m.validator, m.digests),
        lambda f: ObjectRequest(f[0], tuple(f[1])),
        _check_object_request,
    ),
)

# ------------------------------------------------------------------------------------------------ parts


_PARTS_HEAD: Final = struct.Struct("<H4I")  # seats; bytes of report, ciphertext, proof, registration
_REPLY_HEAD: Final = struct.Struct("<Q")  # round
_RECEIPT_TAIL: Final = struct.Struct(f"<HHH{ACCOUNT_SIGNATURE_BYTES}s")  # seat, reports, verified ones, signature
_RECEIPT_BYTES_MAX: Final = _RECEIPT_TAIL.size + 2 * REPORTS_MAX * DIGEST_BYTES
_REJECT_TAIL: Final = struct.Struct(f"<QH{ACCOUNT_SIGNATURE_BYTES}s")  # round, validator, signature
_BOUNDS: Final = (
    ("report", REPORT_BYTES_MAX),
    ("masked update", CIPHERTEXT_BYTES_MAX),
    ("proof", PROOF_BYTES_MAX),
    ("registration", PROOF_BYTES_MAX),
)
_PARTS_BYTES_MAX: Final = _PARTS_HEAD.size + sum(most for _, most in _BOUNDS)


def _write_parts(report: Report, ciphertext: bytes, proof: bytes, registration: bytes) -> Parts:
    """Return the head of lengths, then report, masked update, proof and registration."""
    parts = [report.to_bytes(), ciphertext, proof, registration]
    lengths = [len(part) for part in parts]
    _check_parts(len(report.boxes), lengths)
    check_number("round of a report", report.round)
    return [_PARTS_HEAD.pack(len(report.boxes), *lengths), *parts]


def _check_parts(seats: int, lengths: Sequence[int]) -> None:
    try:
        seat_width(seats)
    except BudgetError as error:
        raise MalformedMessageError(str(error), seats=seats) from error
    for (what, most), length in zip(_BOUNDS, lengths, strict=True):
        if length > most:
            raise MalformedMessageError(f"{what} has {length} bytes, expected at most {most}", length=length)
    _check_ciphertext(lengths[1])


class _Reader:
    """Walks through bytes whose lengths were announced; `done` says whether all of them were read."""

    __slots__ = ("at", "data")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def take(self, length: int) -> memoryview:
        part = self.data[self.at : self.at + length]
        if len(part) != length:
            raise MalformedMessageError(f"{len(part)} bytes left, {length} were announced", length=len(self.data))
        self.at += length
        return part

    def done(self) -> None:
        if self.at != len(self.data):
            raise MalformedMessageError(f"{len(self.data) - self.at} bytes too many", length=len(self.data))


def _read_parts(reader: _Reader, following: int = 0) -> tuple[Report, memoryview, bytes, bytes]:
    """Return report, masked update (not copied), proof and registration; `following` bytes or more must come after."""
    seats, *lengths = reader.unpack(_PARTS_HEAD)
    _check_parts(seats, lengths)
    if sum(lengths) + following > len(reader.data) - reader.at:
        raise MalformedMessageError(
            f"{len(reader.data) - reader.at} bytes left, {sum(lengths) + following} were announced"
        )
    encoded = bytes(reader.take(lengths[0]))
    ciphertext = reader.take(lengths[1])
    proof, registration = bytes(reader.take(lengths[2])), bytes(reader.take(lengths[3]))
    try:
        report = Report.from_bytes(encoded, seats)
    except MalformedReportError as error:
        raise MalformedMessageError(str(error)) from error
    check_number("round of a report", report.round)
    return report, ciphertext, proof, registration


def _write_upload(upload: Upload) -> Parts:
    """Return the parts, the boxes' lengths with 0 for a seat that has none, then the boxes."""
    if len(upload.boxes) != len(upload.report.boxes):
        raise MalformedMessageError(f"{len(upload.boxes)} boxes, the report names {len(upload.report.boxes)}")
    for box in upload.boxes:
        if box is not None:
            check_bytes("box", box, 1, BOX_BYTES_MAX)
    boxes = [b"" if box is None else box for box in upload.boxes]
    lengths = struct.pack(f"<{len(boxes)}I", *(len(box) for box in boxes))
    return [*_write_parts(upload.report, upload.ciphertext, upload.proof, upload.registration), lengths, *boxes]


def _read_upload(data: memoryview) -> Upload:
    reader = _Reader(data)
    report, ciphertext, proof, registration = _read_parts(reader)
    seats = len(report.boxes)
    lengths = reader.unpack(struct.Struct(f"<{seats}I"))
    if max(lengths) > BOX_BYTES_MAX:
        raise MalformedMessageError(f"box has {max(lengths)} bytes, expected at most {BOX_BYTES_MAX}")
    boxes = tuple(bytes(reader.take(length)) if length else None for length in lengths)
    reader.done()
    return Upload(report, bytes(ciphertext), boxes, proof, registration)


def _write_reply(reply: ReportReply) -> Parts:
    check_number("round", reply.round)
    parts = _write_parts(reply.report, reply.ciphertext, reply.proof, reply.registration)
    return [_REPLY_HEAD.pack(reply.round), *parts]


def _read_reply(data: memoryview) -> ReportReply:
    reader = _Reader(data)
    (round_number,) = reader.unpack(_REPLY_HEAD)
    check_number("round", round_number)
    report, ciphertext, proof, registration = _read_parts(reader)
    reader.done()
    return ReportReply(round_number, report, bytes(ciphertext), proof, registration)


def _write_object(reply: ObjectReply) -> Parts:
    check_bytes("object", reply.data, 0, OBJECT_BYTES_MAX)
    return [reply.data]


def _write_held(held: Held) -> Parts:
    ciphertext = algebra.to_bytes(held.ciphertext.reshape(-1))
    return _write_parts(held.report, ciphertext, held.proof, held.registration)


def _read_held(reader: _Reader, following: int) -> Held:
    report, ciphertext, proof, registration = _read_parts(reader, following)
    try:
        blocks: FieldArray = algebra.from_bytes(bytes(ciphertext)).reshape(-1, RING_DIMENSION)
    except NotCanonicalError as error:
        raise MalformedMessageError(f"masked update: {error}") from error
    return Held(report, blocks, proof, registration)


def _read_failing(data: memoryview) -> FailingProof:
    reader = _Reader(data)
    held = _read_held(reader, 0)
    reader.done()
    return FailingProof(held)


def _write_false_receipt(evidence: FalseReceipt) -> Parts:
    """Return what is held, then the receipt, which must name the held report: its head, then the ids."""
    receipt = evidence.receipt
    _check_receipt(receipt)
    if evidence.held.report.id not in receipt.names:
        raise MalformedMessageError(f"the receipt does not name report {evidence.held.report.id.hex()}")
    tail = _RECEIPT_TAIL.pack(receipt.seat, len(receipt.reports), len(receipt.verified), receipt.signature)
    return [*_write_held(evidence.held), tail, *receipt.reports, *receipt.verified]


def _read_false_receipt(data: memoryview) -> FalseReceipt:
    reader = _Reader(data)
    held = _read_held(reader, _RECEIPT_TAIL.size)
    seat, *counts, signature = reader.unpack(_RECEIPT_TAIL)
    reports, verified = (_digests(bytes(reader.take(count * DIGEST_BYTES))) for count in counts)
    reader.done()
    receipt = Receipt(seat, reports, verified, signature)
    _check_receipt(receipt)
    if held.report.id not in receipt.names:
        raise MalformedMessageError(f"the receipt does not name report {held.report.id.hex()}")
    return FalseReceipt(held, receipt)


def _write_false_reject(evidence: FalseReject) -> Parts:
    """Return what is held, then round, validator and signature of the reject, which must be of the held report."""
    reject = evidence.reject
    _check_reject(reject)
    if reject.report != evidence.held.report.id:
        raise MalformedMessageError(f"the reject is of another report, {reject.report.hex()}")
    return [*_write_held(evidence.held), _REJECT_TAIL.pack(reject.round, reject.validator, reject.signature)]


def _read_false_reject(data: memoryview) -> FalseReject:
    reader = _Reader(data)
    held = _read_held(reader, _REJECT_TAIL.size)
    round_number, validator, signature = reader.unpack(_REJECT_TAIL)
    reader.done()
    reject = ProofReject(round_number, held.report.id, validator, signature)
    _check_reject(reject)
    return FalseReject(held, reject)


_UPLOAD: Final = Kind(64, Upload, 1 + _PARTS_BYTES_MAX + SEATS_MAX * (4 + BOX_BYTES_MAX), _write_upload, _read_upload)
_REPLY: Final = Kind(72, ReportReply, 1 + _REPLY_HEAD.size + _PARTS_BYTES_MAX, _write_reply, _read_reply)
_EVIDENCE: Final = (
    Kind(96, FailingProof, 1 + _PARTS_BYTES_MAX, lambda e: _write_held(e.held), _read_failing),
    Kind(97, FalseReceipt, 1 + _PARTS_BYTES_MAX + _RECEIPT_BYTES_MAX, _write_false_receipt, _read_false_receipt),
    Kind(98, FalseReject, 1 + _PARTS_BYTES_MAX + _REJECT_TAIL.size, _write_false_reject, _read_false_reject),
)
_OBJECT: Final = Kind(74, ObjectReply, 1 + OBJECT_BYTES_MAX, _write_object, lambda data: ObjectReply(bytes(data)))
_MESSAGES: Final = (_UPLOAD, *_ARRAYS, _REPLY, _OBJECT)
_BY_TYPE: Final = {kind.type: kind for kind in (*_MESSAGES, *_EVIDENCE)}
ROUND_KINDS: Final[Mapping[type, Kind]] = MappingProxyType({kind.type: kind for kind in _MESSAGES})

ROUND_MESSAGE_BYTES_MAX: Final = max(kind.bytes_max for kind in _MESSAGES)
PROOF_EVIDENCE_BYTES_MAX: Final = max(kind.bytes_max for kind in _EVIDENCE)
PEER_BYTES_MAX: Final[Mapping[int, int]] = MappingProxyType(
    {**KIND_BYTES_MAX, **FOLLOW_BYTES_MAX, **{kind.byte: kind.bytes_max for kind in _MESSAGES}}
)
"""The most bytes of a message between validators, kind byte included, by that byte, whatever the task."""

if {*KIND_BYTES_MAX, *FOLLOW_BYTES_MAX} & {kind.byte for kind in _BY_TYPE.values()}:
    raise ImportError("a kind byte names an ordering message and a round's")
if (
    SEAL_OVERHEAD_BYTES
    + 33 * COMMITTEE_DOMAIN.size // 16
    + 4 * DIGEST_BYTES  # the multiproof of the first of 16 equal parts: what stands beside its way to the root
    > BOX_BYTES_MAX
):
    raise ImportError("a box must hold the columns of one of 16 seats")


# --------------------------------------------------------------------------------------------------------- surface


def encode_round_message(message: RoundMessage) -> bytes:
    """The canonical bytes of a round's message.

    Raises:
        MalformedMessageError: a field is out of its bounds, so that nobody would decode the bytes.
    """
    return encode_kind(_BY_TYPE, message)


def decode_round_message(data: bytes) -> RoundMessage:
    """The round's message that `data` is; whether it holds is for `round_step` to say.

    Raises:
        UnknownMessageKindError: the first byte names no message of a round.
        MessageTooLongError: longer than any message of its kind.
        MalformedMessageError: not the fields of its kind, or one out of bounds.
        NotCanonicalMessageError: a second way to write a message.
    """
    message: RoundMessage = decode_kind(_MESSAGES, data)
    return message


def encode_peer_message(message: Message | FollowMessage | RoundMessage) -> bytes:
    """The canonical bytes of anything that one validator says to another; raises as `encode_round_message` does."""
    if isinstance(message, RoundMessage):
        return encode_kind(_BY_TYPE, message)
    return encode_follow_message(message) if isinstance(message, FollowMessage) else encode_message(message)


def decode_peer_message(data: bytes) -> Message | FollowMessage | RoundMessage:
    """What one validator says to another, of any family; raises as `decode_round_message` does."""
    if data and data[0] in KIND_BYTES_MAX:
        return decode_message(data)
    if data and data[0] in FOLLOW_BYTES_MAX:
        return decode_follow_message(data)
    return decode_round_message(data)


def encode_upload(upload: Upload) -> bytes:
    """The body that a trainer sends; raises as `encode_round_message` does."""
    return encode_kind(_BY_TYPE, upload)


def decode_upload(data: bytes) -> Upload:
    """The upload that a trainer's body is; raises as `decode_round_message` does."""
    upload: Upload = decode_kind((_UPLOAD,), data)
    return upload


def encode_proof_evidence(evidence: ProofEvidence) -> bytes:
    """The canonical bytes of what convicts somebody over a proof; raises as `encode_round_message` does."""
    return encode_kind(_BY_TYPE, evidence)


def decode_proof_evidence(data: bytes) -> ProofEvidence:
    """The evidence that `data` is; raises as `decode_round_message` does. `verify_proof_evidence` verifies it."""
    evidence: ProofEvidence = decode_kind(_EVIDENCE, data)
    return evidence


def upload_bytes_max(agreed: Agreed, round_number: int, seats: int) -> int:
    """The most bytes of an upload of a round of this task: what a gateway need accept."""
    return _report_bytes_max(agreed, round_number) + seats * (4 + BOX_BYTES_MAX)


def peer_bytes_max(agreed: Agreed, round_number: int, seats: int) -> Mapping[int, int]:
    """`PEER_BYTES_MAX` with uploads and reports no larger than a round of this task has them.

    A frame of a kind that is not in it, or longer than it says, can be refused by its first byte and its length.
    """
    reply = _REPLY_HEAD.size + _report_bytes_max(agreed, round_number)
    upload = upload_bytes_max(agreed, round_number, seats)
    return MappingProxyType({**PEER_BYTES_MAX, _UPLOAD.byte: upload, _REPLY.byte: reply})


def _report_bytes_max(agreed: Agreed, round_number: int) -> int:
    ciphertext = 8 * RING_DIMENSION * agreed.layout(round_number).blocks
    evidence = agreed.proof_bytes_max(round_number) + agreed.registration_bytes_max(round_number)
    return 1 + _PARTS_HEAD.size + REPORT_BYTES_MAX + ciphertext + evidence
