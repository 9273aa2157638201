"""From receipts to an opened sum: seats add columns, anyone decodes the key sum, unmasks, and names the liars.

A seat adds its four key rows only, never the mask rows: two honest trainers' masks would cancel (section 4 of
docs/spec/aggregation.md). A wrong sum opens nothing, so no seat is trusted: `open_sum` is public work.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise

import numpy as np

from collegium import algebra
from collegium.codes import locate_errors, recover
from collegium.crypto import AccountKey, Digest, Transcript, frame_fields, hash_fields, recover_address
from collegium.errors import CollegiumError

from ._masking import FieldArray, IntArray, SumInvalidError, unmask
from ._parameters import COMMITTEE_DOMAIN, KEY_CODE, KEY_ROWS, RING_DIMENSION
from ._report import RoundTerms, SeatColumns

__all__ = [
    "KeySum",
    "MalformedKeySumError",
    "OpenedSum",
    "Receipt",
    "ReceiptRejectedError",
    "SumLostError",
    "WeightsRefusedError",
    "add_columns",
    "check_key_sum",
    "check_receipt",
    "issue_receipt",
    "open_sum",
    "seats_needed",
    "sign_key_sum",
]

_SIGNATURE_BYTES = 65
_HEAD = struct.Struct("<32sQ32sH")  # task, round, close, seat


class ReceiptRejectedError(CollegiumError):
    """A receipt is not the seat's signature over this report."""


class WeightsRefusedError(CollegiumError):
    """A seat must not add under these weights: too few trainers would hide in the sum."""


class MalformedKeySumError(CollegiumError):
    """Bytes that should be a signed key sum are not one."""


class SumLostError(CollegiumError):
    """The published key sums cannot be decoded: too many are missing or wrong."""


@dataclass(frozen=True)
class Receipt:
    """A seat's signed word that these reports are admissible and that its own columns of each fit.

    One signature for all: what a round's receipts cost grows with its seats, not with seats times trainers.

    Attributes:
        reports: ids, strictly increasing.
        verified: those of them whose proofs its validator has verified itself, strictly increasing.
        names: the ids as a set.
    """

    seat: int
    reports: tuple[Digest, ...]
    verified: tuple[Digest, ...]
    signature: bytes

    @cached_property
    def names(self) -> frozenset[Digest]:
        return frozenset(self.reports)


@dataclass(frozen=True, eq=False)
class KeySum:
    """A seat's weighted sum of the admitted key columns: `rows` (seat width, 4), signed for one close."""

    task: Digest
    round: int
    close: Digest
    seat: int
    rows: FieldArray
    signature: bytes

    @property
    def preimage(self) -> bytes:
        """The bytes that the digest is the SHA-256 of; the rows' own digest is in them."""
        rows = sha256(algebra.to_bytes(self.rows.reshape(-1))).digest()
        return frame_fields("key-sum", self.task, self.round, self.close, self.seat, rows)

    @cached_property
    def digest(self) -> Digest:
        """What the seat signs."""
        return sha256(self.preimage).digest()

    def to_bytes(self) -> bytes:
        """Return the canonical encoding: head, rows, signature."""
        head = _HEAD.pack(self.task, self.round, self.close, self.seat)
        return head + algebra.to_bytes(self.rows.reshape(-1)) + self.signature

    @classmethod
    def from_bytes(cls, data: bytes, width: int) -> KeySum:
        """Decode the sum of a seat that owns `width` columns.

        Raises:
            MalformedKeySumError: wrong length, or an element that is not below p.
        """
        expected = _HEAD.size + 8 * KEY_ROWS * width + _SIGNATURE_BYTES
        if len(data) != expected:
            raise MalformedKeySumError(f"a key sum takes {expected} bytes, got {len(data)}", length=len(data))
        try:
            rows = algebra.from_bytes(data[_HEAD.size : -_SIGNATURE_BYTES]).reshape(width, KEY_ROWS)
        except CollegiumError as error:
            raise MalformedKeySumError(f"key sum: {error}") from error
        task, round_number, close, seat = _HEAD.unpack_from(data)
        return cls(task, round_number, close, seat, rows, data[-_SIGNATURE_BYTES:])


@dataclass(frozen=True, slots=True, eq=False)
class OpenedSum:
    """The weighted sum of the updates, the key sum that opened it, and the seats whose signed sums are not of its word.

    These have lied if at most a sixth did, or if every admitted c is well formed (docs/spec/aggregation.md, section 4).
    """

    total: IntArray
    key_sum: FieldArray
    lying: tuple[int, ...]


def receipt_digest(terms: RoundTerms, seat: int, reports: Sequence[Digest], verified: Sequence[Digest] = ()) -> Digest:
    """Return what a receipt signs; a report's id binds the digests of its c, key matrix and proof."""
    return hash_fields("receipt", terms.task, terms.round, terms.digest, seat, b"".join(reports), b"".join(verified))


def issue_receipt(
    terms: RoundTerms, seat: int, reports: Iterable[Digest], account: AccountKey, verified: Iterable[Digest] = ()
) -> Receipt:
    """Sign for reports whose public part and own columns this seat has checked; of those `verified` also the proofs."""
    listed, proved = tuple(sorted(set(reports))), tuple(sorted(set(verified)))
    return Receipt(seat, listed, proved, account.sign(receipt_digest(terms, seat, listed, proved)))


def check_receipt(terms: RoundTerms, receipt: Receipt) -> None:
    """Check that `receipt` is its seat's signature over increasing ids, of which it has verified some.

    Raises:
        ReceiptRejectedError: it is not.
    """
    seat = receipt.seat
    if not 0 <= seat < len(terms.seats):
        raise ReceiptRejectedError(f"receipt of seat {seat}, there are {len(terms.seats)}", seat=seat)
    for ids in (receipt.reports, receipt.verified):
        if any(left >= right for left, right in pairwise(ids)):
            raise ReceiptRejectedError(f"receipt of seat {seat}: its reports are not strictly increasing", seat=seat)
    if not receipt.names.issuperset(receipt.verified):
        raise ReceiptRejectedError(f"receipt of seat {seat} has verified a report that it does not name", seat=seat)
    try:
        signer = recover_address(receipt_digest(terms, seat, receipt.reports, receipt.verified), receipt.signature)
    except CollegiumError as error:
        raise ReceiptRejectedError(f"receipt of seat {seat}: {error}", seat=seat) from error
    if signer != terms.seats[seat].validator:
        raise ReceiptRejectedError(f"receipt of seat {seat} is signed by {signer.hex()}", seat=seat)


def add_columns(columns: Sequence[SeatColumns], weights: Sequence[int], weighted_min: int) -> FieldArray:
    """Return the weighted sum (seat width, 4) of the key rows of the admitted reports' columns.

    Raises:
        WeightsRefusedError: fewer than `weighted_min` reports carry weight, or a weight is negative.
    """
    carrying = sum(1 for weight in weights if weight > 0)
    if carrying < weighted_min or min(weights, default=0) < 0:
        raise WeightsRefusedError(f"{carrying} reports carry weight, at least {weighted_min} must", carrying=carrying)
    stacked = np.stack([opened.symbols.reshape(-1) for opened in columns])
    factors = np.array([weights, [0] * len(weights)], np.uint64)  # as elements of K
    return np.ascontiguousarray(algebra.fold(stacked, factors)[0].reshape(-1, KEY_ROWS))


def sign_key_sum(terms: RoundTerms, close: Digest, seat: int, rows: FieldArray, account: AccountKey) -> KeySum:
    """Return the seat's signed sum for one final close."""
    unsigned = KeySum(terms.task, terms.round, close, seat, rows, bytes(_SIGNATURE_BYTES))
    return replace(unsigned, signature=account.sign(unsigned.digest))


def check_key_sum(terms: RoundTerms, close: Digest, key_sum: KeySum) -> None:
    """Check that a key sum is for this close and signed by its seat; whether it is true shows when the sum opens.

    Raises:
        ReceiptRejectedError: another task, round or close, no such seat, or not the seat's signature.
    """
    seat = key_sum.seat
    if (key_sum.task, key_sum.round, key_sum.close) != (terms.task, terms.round, close) or seat >= len(terms.seats):
        raise ReceiptRejectedError(f"key sum of seat {seat} is not for this close", seat=seat)
    if key_sum.rows.shape != (terms.seat_width, KEY_ROWS):
        raise ReceiptRejectedError(f"key sum of seat {seat} has shape {key_sum.rows.shape}", seat=seat)
    signer = recover_address(key_sum.digest, key_sum.signature)
    if signer != terms.seats[seat].validator:
        raise ReceiptRejectedError(f"key sum of seat {seat} is signed by {signer.hex()}", seat=seat)


def seats_needed(seats: int, lying_max: int = 0) -> int:
    """Return how many seats must publish so that the key sum decodes although `lying_max` of them lie."""
    width = COMMITTEE_DOMAIN.size // seats
    return -(-KEY_CODE.degree_bound // width) + 2 * lying_max


def open_sum(terms: RoundTerms, key_sums: Mapping[int, KeySum], total: FieldArray, total_weight: int) -> OpenedSum:
    """Decode the key sum from the seats' signed sums, unmask `total` (blocks, 4096), and name who lied.

    Raises:
        SumLostError: more sums are missing or wrong than the code corrects.
        SumInvalidError: the key sum decodes but does not open the total: some admitted c is not well formed. Without
            proofs nobody can say whose; with proofs, that report's does not verify.
    """
    coefficients = _decode(terms, key_sums)
    key_sum = KEY_CODE.messages(coefficients).reshape(RING_DIMENSION)
    try:
        opened = unmask(terms.layout, terms.matrix_seed, key_sum, total, total_weight)
    except SumInvalidError as error:
        raise SumInvalidError(f"sum invalid, some admitted report is not well formed: {error}") from error
    word = KEY_CODE.encode(coefficients, COMMITTEE_DOMAIN)
    return OpenedSum(opened, key_sum, _disagreeing(terms, word, key_sums))


def _decode(terms: RoundTerms, key_sums: Mapping[int, KeySum]) -> FieldArray:
    """Return the coefficients (4, degree_bound) of the summed key rows."""
    word = np.zeros((KEY_ROWS, COMMITTEE_DOMAIN.size), np.uint64)
    erased = np.ones(COMMITTEE_DOMAIN.size, np.bool_)
    for seat, key_sum in key_sums.items():
        columns = terms.seat_columns(seat)
        word[:, columns.start : columns.stop] = key_sum.rows.T
        erased[columns.start : columns.stop] = False
    try:
        transcript = Transcript("locate", terms.digest)
        for seat in sorted(key_sums):  # factors drawn after every sum is signed: no liar can aim at them
            transcript.absorb(f"seat {seat}", key_sums[seat].digest)
        factors = transcript.challenge_field(
            "rows", KEY_ROWS
        )  # a wrong column is missed once in 2^64: it opens nothing
        combined = np.zeros(COMMITTEE_DOMAIN.size, np.uint64)
        for row, factor in zip(word, factors, strict=True):
            combined = algebra.add(combined, algebra.scale(row, int(factor)))
        wrong = locate_errors(KEY_CODE.degree_bound, COMMITTEE_DOMAIN, combined, erased)
        erased[wrong] = True
        return recover(KEY_CODE.degree_bound, COMMITTEE_DOMAIN, word, erased)
    except CollegiumError as error:
        raise SumLostError(f"{len(key_sums)} of {len(terms.seats)} key sums do not decode: {error}") from error


def _disagreeing(terms: RoundTerms, word: FieldArray, key_sums: Mapping[int, KeySum]) -> tuple[int, ...]:
    lying = []
    for seat in sorted(key_sums):
        columns = terms.seat_columns(seat)
        if (word[:, columns.start : columns.stop] != key_sums[seat].rows.T).any():
            lying.append(seat)
    return tuple(lying)
