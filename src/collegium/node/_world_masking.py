"""Masking small enough for thousands of simulated rounds: the same steps and refusals as `collegium.aggregation`.

An update of a few integers is hidden under one key k of F: c_j = m_j + k (j + 1), and a last word must come out 0;
k is shared by a polynomial over F among the seats, one value each; sums of shares decode to the sum of keys although
some are missing or wrong; a sum that opens checks itself. The report commits to each share by a hash. What this leaves
out is what makes masking hide anything: no protocol decision depends on that.

A third of the seats may be missing or wrong where there is a seat for every validator. `StandInMasking` is used in the
place of the aggregation room by `collegium.consensus`; everything that it does not replace is the room's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import combinations

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import KeySum, Layout, OpenedSum, Report, RoundTerms, SeatColumns, Upload
from collegium.algebra import P
from collegium.commitment import ColumnRange
from collegium.crypto import AccountKey, Randomness, SealKey, hash_fields, recover_address
from collegium.errors import CollegiumError

from ._world_keys import open_box, seal_box

__all__ = ["StandInMasking", "standin_upload"]

Words = npt.NDArray[np.uint64]
NO_COLUMNS = ColumnRange(np.zeros((0, 1), np.uint64), b"", b"")


def threshold(seats: int) -> int:
    """Return how many true shares give the key: n - 2f, so that n shares decode although f are wrong."""
    return seats - 2 * ((seats - 1) // 3)


def words_of(layout: Layout) -> int:
    """Return the words of a masked update: its entries, and the one that must come out 0."""
    return layout.entries + 1


def standin_upload(
    terms: RoundTerms,
    account: AccountKey,
    update: npt.NDArray[np.int64],
    random: Randomness,
    *,
    recover: Callable[[int, int], int] = lambda seat, share: share,
    proof: Callable[[bytes], bytes] = lambda ciphertext: b"",
    spoil: bool = False,
    staleness: int = 0,
) -> Upload:
    """Return a trainer's upload.

    Args:
        terms, account, update, random: as for `aggregation.make_upload`.
        recover: what a seat is given in the place of its share; the report commits to the true one.
        proof: the proof of a ciphertext with this digest.
        spoil: whether the masked update is malformed: its check word does not come out 0.
        staleness: how many rounds old the model is that the update was trained from.
    """
    seats = len(terms.seats)
    numbers = [int.from_bytes(random(8), "little") % P for _ in range(threshold(seats))]
    plain = [*(int(entry) for entry in update), int(spoil)]
    masked = np.array([(m + numbers[0] * (j + 1)) % P for j, m in enumerate(plain)], np.uint64)
    data = masked.tobytes()
    shares = [_evaluate(numbers, seat + 1) for seat in range(seats)]
    commitments = np.array([[_commit(account.address, s, share) for s, share in enumerate(shares)]] * 2, np.uint64)
    root = sha256(commitments.tobytes()).digest()
    digest = sha256(data).digest()
    evidence = proof(digest)
    boxes = tuple(
        None
        if seat.seal_key is None
        else seal_box(seat.seal_key, _info(terms, account.address, root, i), recover(i, shares[i]).to_bytes(8, "big"))
        for i, seat in enumerate(terms.seats)
    )
    unsigned = Report(
        task=terms.task,
        round=terms.round,
        trainer=account.address,
        terms=terms.digest,
        ciphertext=digest,
        committee_root=root,
        audit_root=root,
        proof=aggregation.proof_digest(evidence),
        registration=bytes(32),
        boxes=tuple(bytes(32) if box is None else sha256(box).digest() for box in boxes),
        combination=commitments,
        audit=NO_COLUMNS,
        signature=bytes(65),
        staleness=staleness,
    )
    return Upload(replace(unsigned, signature=account.sign(unsigned.id)), data, boxes, evidence)


class StandInMasking:
    """The aggregation room with its arithmetic replaced; attributes that are not here are the room's."""

    RING_DIMENSION = 2  # three blocks of two words: five entries and the check word

    def __getattr__(self, name: str) -> object:
        return getattr(aggregation, name)

    def seat_width(self, seats: int) -> int:
        return 1

    def seats_needed(self, seats: int, lying_max: int = 0) -> int:
        return threshold(seats) + 2 * lying_max

    def check_report(self, terms: RoundTerms, report: Report, *, signer: bytes | None = None) -> None:
        if (report.task, report.round, report.terms) != (terms.task, terms.round, terms.digest):
            raise aggregation.ReportRejectedError(f"report is for round {report.round} under other terms")
        if not 0 <= report.staleness <= terms.staleness_max:
            raise aggregation.ReportRejectedError(f"report is {report.staleness} rounds stale", stale=report.staleness)
        if len(report.boxes) != len(terms.seats) or report.combination.shape != (2, len(terms.seats)):
            raise aggregation.ReportRejectedError(f"report names {len(report.boxes)} boxes")
        if sha256(report.combination.tobytes()).digest() != report.committee_root:
            raise aggregation.AuditFailedError("the commitments are not those of the root")
        if (signer or recover_address(report.id, report.signature)) != report.trainer:
            raise aggregation.ReportRejectedError("the report is not signed by its trainer")

    def decode_ciphertext(self, layout: Layout, data: bytes) -> Words:
        if len(data) != 8 * words_of(layout):
            raise aggregation.MalformedCiphertextError(f"a masked update of {len(data)} bytes", length=len(data))
        return np.frombuffer(data, np.uint64)

    def encode_ciphertext(self, ciphertext: Words) -> bytes:
        return ciphertext.tobytes()

    def open_columns(
        self, terms: RoundTerms, report: Report, seat: int, box: bytes | None, secret: SealKey
    ) -> SeatColumns:
        if box is None or sha256(box).digest() != report.boxes[seat]:
            raise aggregation.SealedColumnsError(f"the box for seat {seat} is not the one in the report", seat=seat)
        try:
            data = open_box(secret, _info(terms, report.trainer, report.committee_root, seat), box)
        except CollegiumError as error:
            raise aggregation.SealedColumnsError(f"the box for seat {seat} does not open: {error}") from error
        return SeatColumns(np.array([[int.from_bytes(data, "big")]], np.uint64), b"", b"")

    def check_columns(self, terms: RoundTerms, report: Report, seat: int, columns: SeatColumns) -> None:
        if int(report.combination[0, seat]) != _commit(report.trainer, seat, int(columns.symbols[0, 0])):
            raise aggregation.ColumnsRejectedError(f"the columns of seat {seat} do not fit the root")

    def add_columns(self, columns: Sequence[SeatColumns], weights: Sequence[int], weighted_min: int) -> Words:
        carrying = sum(1 for weight in weights if weight > 0)
        if carrying < weighted_min:
            raise aggregation.WeightsRefusedError(f"{carrying} reports carry weight", carrying=carrying)
        total = sum(int(c.symbols[0, 0]) * weight for c, weight in zip(columns, weights, strict=True)) % P
        return np.array([[total]], np.uint64)

    def check_key_sum(self, terms: RoundTerms, close: bytes, key_sum: KeySum) -> None:
        seat = key_sum.seat
        if (key_sum.task, key_sum.round, key_sum.close) != (terms.task, terms.round, close) or seat >= len(terms.seats):
            raise aggregation.ReceiptRejectedError(f"key sum of seat {seat} is not for this close", seat=seat)
        if key_sum.rows.shape != (1, 1) or recover_address(key_sum.digest, key_sum.signature) != (
            terms.seats[seat].validator
        ):
            raise aggregation.ReceiptRejectedError(f"key sum of seat {seat} is not its seat's", seat=seat)

    def weighted_total(self, ciphertexts: Iterable[Words], weights: Sequence[int]) -> Words:
        rows = [[int(word) * w for word in c] for c, w in zip(ciphertexts, weights, strict=True)]
        return np.array([sum(column) % P for column in zip(*rows, strict=True)], np.uint64)

    def open_sum(self, terms: RoundTerms, key_sums: Mapping[int, KeySum], total: Words, total_weight: int) -> OpenedSum:
        points = {seat: int(key_sum.rows[0, 0]) for seat, key_sum in sorted(key_sums.items())}
        polynomial, lying = _decode(points, threshold(len(terms.seats)))
        key = _interpolate(polynomial, 0)
        opened = [(int(word) - key * (j + 1)) % P for j, word in enumerate(total)]
        signed = [value - P if value > P // 2 else value for value in opened]
        bound = terms.layout.budget.entry_bound * total_weight
        if signed[-1] or any(abs(value) > bound for value in signed):
            raise aggregation.SumInvalidError("the opened sum is not one of well-formed updates")
        return OpenedSum(np.array(signed[:-1], np.int64), np.array([key], np.uint64), lying)


# ------------------------------------------------------------------------------------------------ arithmetic


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % P
    return value


def _interpolate(points: Mapping[int, int], x: int) -> int:
    """Return at x the polynomial through the seats' values; seat s stands at s + 1."""
    total = 0
    for seat, value in points.items():
        above, below = 1, 1
        for other in points:
            if other != seat:
                above, below = above * (x - other - 1) % P, below * (seat - other) % P
        total += value * above * pow(below, -1, P)
    return total % P


def _decode(points: Mapping[int, int], needed: int) -> tuple[dict[int, int], tuple[int, ...]]:
    """Return `needed` points of the polynomial on which all but a correctable number of seats lie, and those seats."""
    seats = sorted(points)
    allowed = (len(seats) - needed) // 2
    for chosen in combinations(seats, needed) if len(seats) >= needed else ():
        base = {seat: points[seat] for seat in chosen}
        wrong = [s for s in seats if s not in base and _interpolate(base, s + 1) != points[s]]
        if len(wrong) <= allowed:
            return base, tuple(wrong)
    raise aggregation.SumLostError(f"{len(seats)} key sums do not decode, {needed} true ones would")


def _commit(trainer: bytes, seat: int, share: int) -> int:
    return int.from_bytes(sha256(trainer + bytes([seat]) + share.to_bytes(8, "little")).digest()[:7], "little")


def _info(terms: RoundTerms, trainer: bytes, root: bytes, seat: int) -> bytes:
    return hash_fields("seal", terms.task, terms.round, terms.digest, trainer, root, seat)
