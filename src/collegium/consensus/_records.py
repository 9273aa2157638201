"""What the epoch set orders for each learning round: a close, then a certified header.

Digests are over fixed, domain-separated fields, never over a codec's output; the codec only carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property, reduce
from hashlib import sha256
from itertools import pairwise
from operator import or_
from typing import Literal, TypeVar

import msgspec

from collegium.aggregation import Receipt
from collegium.crypto import Digest, frame_fields, hash_fields
from collegium.errors import CollegiumError

__all__ = [
    "OUTCOMES",
    "PAYLOAD_BYTES_MAX",
    "Announcement",
    "Certified",
    "Close",
    "Header",
    "MalformedPayloadError",
    "Outcome",
    "Registered",
    "decode_canonical",
    "decode_payload",
    "encode_payload",
    "is_close",
    "list_receipts",
]

CLOSE_KIND, CERTIFIED_KIND = b"C", b"H"
PAYLOAD_BYTES_MAX = 16 << 20
ACCOUNT_BYTES = 20
ACCOUNT_SIGNATURE_BYTES = 65
NO_DIGEST: Digest = bytes(32)
PAID_BYTES = 16  # of what one trainer has earned

T = TypeVar("T")
Outcome = Literal["opened", "skipped", "lost", "invalid"]
OUTCOMES: tuple[Outcome, ...] = ("opened", "skipped", "lost", "invalid")


class MalformedPayloadError(CollegiumError):
    """Bytes that should be a close or a certified header are not the canonical encoding of one."""


@dataclass(frozen=True)
class Announcement:
    """A validator's X25519 key for sealing columns to it in one round, signed with its account key."""

    validator: int
    round: int
    seal_key: bytes
    signature: bytes

    def digest(self, task: Digest) -> Digest:
        """What the validator signs."""
        return hash_fields("seal-key", task, self.validator, self.round, self.seal_key)


def _key_bytes(announcements: Iterable[Announcement]) -> bytes:
    """Return what binds announcements, and their signatures, in the digest of what lists them."""
    return b"".join(
        a.validator.to_bytes(2, "little") + a.round.to_bytes(8, "little") + a.seal_key + a.signature
        for a in announcements
    )


@dataclass(frozen=True)
class Registered:
    """The registration that a trainer's reports must refer to, from the close that names it first to its last round.

    `spare` names the commitment with which the registration after it must begin.
    """

    trainer: bytes
    digest: Digest
    first_round: int
    last_round: int
    spare: Digest


@dataclass(frozen=True)
class Close:
    """Which reports a round adds, and which seats hold a receipt for every one of them.

    Attributes:
        weights: public integers, one a report.
        listed: every report that a receipt here names, admitted or not, strictly increasing.
        receipts: the receipt of each of `seats`: a bitmap of the listed reports that it names, one of those it has
            verified (bit i % 8 of byte i // 8), and its signature.
        registered: the registrations that the admitted reports are the first to refer to, by trainer.
        announcements: sealing keys for the round after this one, by validator: the header takes exactly these, so that
            everybody who opens the sum computes the same header.
    """

    task: Digest
    round: int
    terms: Digest
    seats: tuple[int, ...]
    reports: tuple[Digest, ...]
    weights: tuple[int, ...]
    listed: tuple[Digest, ...]
    receipts: tuple[tuple[bytes, bytes, bytes], ...]
    registered: tuple[Registered, ...] = ()
    announcements: tuple[Announcement, ...] = ()

    @cached_property
    def signed(self) -> tuple[Receipt, ...]:
        """The receipts as their seats signed them."""
        return tuple(
            Receipt(seat, _chosen(self.listed, named), _chosen(self.listed, verified), signature)
            for seat, (named, verified, signature) in zip(self.seats, self.receipts, strict=True)
        )

    @property
    def preimage(self) -> bytes:
        """The bytes that the digest is the SHA-256 of: with them anybody can read a header's close."""
        seats = b"".join(seat.to_bytes(2, "little") for seat in self.seats)
        weights = b"".join(weight.to_bytes(8, "little") for weight in self.weights)
        registered = b"".join(
            entry.trainer
            + entry.digest
            + entry.first_round.to_bytes(8, "little")
            + entry.last_round.to_bytes(8, "little")
            + entry.spare
            for entry in self.registered
        )
        reports, keys = b"".join(self.reports), _key_bytes(self.announcements)
        return frame_fields("close", self.task, self.round, self.terms, seats, reports, weights, registered, keys)

    @cached_property
    def digest(self) -> Digest:
        """What seats release for: binds everything but the receipts, which stand for themselves."""
        return sha256(self.preimage).digest()


def list_receipts(receipts: Sequence[Receipt]) -> tuple[tuple[Digest, ...], tuple[tuple[bytes, bytes, bytes], ...]]:
    """Return what a close says of its seats' receipts: the listed reports, and a row for each receipt."""
    listed = tuple(sorted(frozenset().union(*(receipt.names for receipt in receipts))))
    places, everything = {report: place for place, report in enumerate(listed)}, _bits((1 << len(listed)) - 1, listed)
    rows = (
        (
            everything if receipt.reports == listed else _bitmap(places, receipt.reports),
            everything if receipt.verified == listed else _bitmap(places, receipt.verified),
            receipt.signature,
        )
        for receipt in receipts
    )
    return listed, tuple(rows)


def _bitmap(places: Mapping[Digest, int], reports: Iterable[Digest]) -> bytes:
    bitmap = bytearray(-(-len(places) // 8))
    for report in reports:
        bitmap[places[report] // 8] |= 1 << places[report] % 8
    return bytes(bitmap)


def _bits(bits: int, listed: Sized) -> bytes:
    return bits.to_bytes(-(-len(listed) // 8), "little")


def _chosen(listed: Sequence[Digest], bitmap: bytes) -> tuple[Digest, ...]:
    if bitmap == _bits((1 << len(listed)) - 1, listed):
        return tuple(listed)
    return tuple(report for place, report in enumerate(listed) if bitmap[place // 8] >> place % 8 & 1)


def _check_receipts(close: Close) -> bool:
    """Tell whether the receipts are one a seat, over what is listed, and nothing is listed that none of them names."""
    size, everything = -(-len(close.listed) // 8), (1 << len(close.listed)) - 1
    rows = [[int.from_bytes(bitmap, "little") for bitmap in row[:2]] for row in close.receipts]
    union = reduce(or_, (named for named, _ in rows), 0)
    return (
        len(close.receipts) == len(close.seats)
        and all(len(bitmap) == size for row in close.receipts for bitmap in row[:2])
        and all(left < right for left, right in pairwise(close.listed))
        and union == everything
        and all(verified & ~named == 0 for named, verified in rows)
    )


@dataclass(frozen=True)
class Header:
    """The result of a round, and all that fixes the next one.

    Attributes:
        previous: digest of the header before; of the genesis for round 0.
        outcome: `opened`, or why the model did not change: `skipped` (too few reports), `lost` (too few true key
            sums), `invalid` (the sum does not open: some admitted report is not well formed).
        key_sums: (seat, digest) of the signed key sums that opened the total.
        total: digest of the opened weighted sum, zeros unless opened.
        model: digest of the model state after this round.
        lying: seats whose signed sums were wrong: the sums are the evidence.
        beacon: threshold signature whose hash is the next round's beacon.
        seats: the validator of each seat of the next round's committee.
        announcements: the next round's sealing keys.
        failed: of an invalid round, the admitted reports whose proofs do not verify; every receipt in the close that
            says they do is false.
        rewards: what all trainers have earned by now, as one digest; zeros in a task that pays nothing.
        registries: what the task's chains hold of it, as one digest; zeros where that is not asked, or not known yet.
        paid: what `rewards` is the digest of, which comes along for who has missed rounds: 16 bytes a trainer. What
            certifies the header is not over these bytes; `check_paid` is.
    """

    task: Digest
    round: int
    level: str
    previous: Digest
    close: Digest
    outcome: Outcome
    key_sums: tuple[tuple[int, Digest], ...]
    total: Digest
    model: Digest
    lying: tuple[int, ...]
    beacon: bytes
    seats: tuple[int, ...]
    announcements: tuple[Announcement, ...]
    failed: tuple[Digest, ...] = ()
    rewards: Digest = NO_DIGEST
    registries: Digest = NO_DIGEST
    paid: bytes = b""

    @property
    def fields(self) -> tuple[bytes | int, ...]:
        """What the digest binds, in order."""
        sums = b"".join(seat.to_bytes(2, "little") + digest for seat, digest in self.key_sums)
        return (
            self.task,
            self.round,
            self.level.encode(),
            self.previous,
            self.close,
            self.outcome.encode(),
            sums,
            self.total,
            self.model,
            b"".join(seat.to_bytes(2, "little") for seat in self.lying),
            self.beacon,
            b"".join(validator.to_bytes(2, "little") for validator in self.seats),
            _key_bytes(self.announcements),
            b"".join(self.failed),
            self.rewards,
            self.registries,
        )

    @property
    def preimage(self) -> bytes:
        """The bytes that the digest is the SHA-256 of: with them a contract can read a certified header."""
        return frame_fields("header", *self.fields)

    @cached_property
    def digest(self) -> Digest:
        """What the committee certifies."""
        return hash_fields("header", *self.fields)


@dataclass(frozen=True)
class Certified:
    """A header with the certificate of its round's committee: one BLS signature and a bitmap of seats."""

    header: Header
    certificate: bytes


def encode_payload(payload: Close | Certified) -> bytes:
    """Return a close or a certified header as block payload."""
    return (CLOSE_KIND if isinstance(payload, Close) else CERTIFIED_KIND) + msgspec.msgpack.encode(payload)


def is_close(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be a close."""
    return payload[:1] == CLOSE_KIND


def decode_payload(data: bytes) -> Close | Certified:
    """Decode a block payload strictly: bounded, canonical, every digest and signature of its length.

    Raises:
        MalformedPayloadError: otherwise.
    """
    if not 1 < len(data) <= PAYLOAD_BYTES_MAX:
        raise MalformedPayloadError(f"payload of {len(data)} bytes, expected 2..{PAYLOAD_BYTES_MAX}")
    kind: type[Close | Certified] = {CLOSE_KIND: Close, CERTIFIED_KIND: Certified}.get(data[:1], Close)
    payload = decode_canonical(data, kind, encode_payload, MalformedPayloadError)
    _check_shape(payload)
    return payload


def decode_canonical(data: bytes, kind: type[T], encode: Callable[[T], bytes], malformed: type[CollegiumError]) -> T:
    """Return the value of this kind whose one encoding `data` is, kind byte first; raise `malformed` otherwise."""
    try:
        payload = msgspec.msgpack.decode(memoryview(data)[1:], type=kind)
        canonical = encode(payload) == data
    except (msgspec.MsgspecError, OverflowError, ValueError, RecursionError) as error:
        raise malformed(f"payload is not a {kind.__name__}: {error}") from error
    if not canonical:
        raise malformed(f"payload is not the canonical encoding of its {kind.__name__}")
    return payload


def _check_shape(payload: Close | Certified) -> None:
    """Raise unless numbers are in range and every digest, key and signature has its length."""
    if isinstance(payload, Close):
        lengths = [(payload.task, 32), (payload.terms, 32), *((report, 32) for report in payload.reports)]
        lengths += [(report, 32) for report in payload.listed]
        lengths += [(signature, ACCOUNT_SIGNATURE_BYTES) for _, _, signature in payload.receipts]
        lengths += [(entry.trainer, ACCOUNT_BYTES) for entry in payload.registered]
        lengths += [(digest, 32) for entry in payload.registered for digest in (entry.digest, entry.spare)]
        listed = payload.announcements
        numbers: list[int] = [*payload.seats]
        big = [payload.round, *payload.weights]
        big += [number for entry in payload.registered for number in (entry.first_round, entry.last_round)]
        shape = len(payload.weights) == len(payload.reports) and _check_receipts(payload)
    else:
        header = payload.header
        digests = ("task", "previous", "close", "total", "model", "rewards", "registries")
        lengths = [(getattr(header, name), 32) for name in digests]
        lengths += [(digest, 32) for _, digest in header.key_sums] + [(header.beacon, 48)]
        lengths += [(report, 32) for report in header.failed]
        listed = header.announcements
        numbers = [*header.seats, *header.lying, *(seat for seat, _ in header.key_sums)]
        big = [header.round]
        shape = header.outcome in OUTCOMES and len(header.paid) % PAID_BYTES == 0
    lengths += [(a.seal_key, 32) for a in listed] + [(a.signature, ACCOUNT_SIGNATURE_BYTES) for a in listed]
    numbers += [a.validator for a in listed]
    big += [a.round for a in listed]
    bad = [value for value, length in lengths if len(value) != length]
    outside = [n for n in numbers if not 0 <= n < 1 << 16] + [n for n in big if not 0 <= n < 1 << 63]
    if bad or outside or not shape:
        raise MalformedPayloadError(f"{len(bad)} fields of wrong length, {len(outside)} numbers out of range")
