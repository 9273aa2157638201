"""A trainer's report: one message a round, checkable by everybody in public and by each seat in its own columns.

A trainer first masks and commits (`begin_upload`), then proves what it committed to, then reports (`finish_upload`).
Reporting and checking a report are the same numbered steps (docs/spec/aggregation.md, section 3):
  1. bind: task, round, trainer, terms, digest of c, roots of the key matrix, digest of the proof
  2. combine: w = sum_i r_i row_i + mask over the extension, r drawn after the roots
  3. audit: the columns drawn after w agree with w and with the roots
  4. seal: each seat's range of columns, to that seat's key of this round
  5. sign
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256, shake_128

import numpy as np
import numpy.typing as npt

from collegium import algebra
from collegium.algebra import Ext
from collegium.commitment import (
    SALT_BYTES,
    ColumnRange,
    CommittedMatrix,
    MalformedColumnsError,
    combine_roots,
    multiproof_length,
    verify_columns,
)
from collegium.crypto import (
    AccountKey,
    Digest,
    Randomness,
    SealKey,
    SealKeyError,
    Transcript,
    frame_fields,
    hash_fields,
    open_sealed,
    recover_address,
    seal,
)
from collegium.errors import CollegiumError

from ._masking import FieldArray, IntArray, draw_noise, encode_ciphertext, mask_under
from ._parameters import (
    AUDIT_COLUMNS,
    AUDIT_DOMAIN,
    COMMITTEE_DOMAIN,
    KEY_CODE,
    KEY_ROWS,
    MATRIX_ROWS,
    RING_DIMENSION,
    SEATS_MAX,
    Layout,
    seat_width,
)

__all__ = [
    "AuditFailedError",
    "ColumnsRejectedError",
    "Draft",
    "KeyClaim",
    "KeyClaimRefusedError",
    "MalformedReportError",
    "Report",
    "ReportRejectedError",
    "RoundTerms",
    "SealedColumnsError",
    "SeatColumns",
    "SeatTerms",
    "Upload",
    "begin_upload",
    "check_claim",
    "check_columns",
    "check_report",
    "finish_upload",
    "make_upload",
    "open_columns",
    "proof_digest",
]

_COMBINATION_BYTES = 2 * 8 * KEY_CODE.degree_bound
_SIGNATURE_BYTES = 65
NO_DIGEST: Digest = bytes(32)
SEED_BYTES = 16  # 128 bits, as a salt
SEED_COLUMNS = COMMITTEE_DOMAIN.size // SEATS_MAX  # the fewest columns a seat can own: a seed never spans two seats
_SALT_TAG = b"collegium/v1/salts\x00"
_HEAD = struct.Struct("<32sQ20s32s32s32s32s32s32sB")  # as the fields of a report, up to its registration; staleness


class MalformedReportError(CollegiumError):
    """Bytes that should be a report are not one."""


class ReportRejectedError(CollegiumError):
    """A report is for another task, round or committee, or is not signed by its trainer."""


class AuditFailedError(CollegiumError):
    """An audited column does not fit the published combination."""


class ColumnsRejectedError(CollegiumError):
    """A seat's own columns do not fit the root or the published combination."""


class KeyClaimRefusedError(CollegiumError):
    """What a proof says about the key matrix is not what the report's combination says about it."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyClaim:
    """What a proof has used of the key matrix: `values` (2, 6), its rows' polynomials at `point` of K."""

    point: Ext
    values: FieldArray


@dataclass(frozen=True, slots=True, eq=False)
class SeatColumns:
    """A seat's own columns as they are sealed: the key rows' symbols, the seeds of the salts, the multiproof.

    The mask rows' symbols need not travel: the published combination determines them (`check_columns`).

    Attributes:
        symbols: (columns, 4) of F.
        seeds: 16 bytes for each 32 columns.
    """

    symbols: FieldArray
    seeds: bytes
    proof: bytes

    def to_bytes(self) -> bytes:
        """Return symbols, then seeds, then proof."""
        return algebra.to_bytes(self.symbols.reshape(-1)) + self.seeds + self.proof

    @classmethod
    def from_bytes(cls, data: bytes, positions: range) -> SeatColumns:
        """Decode the columns at `positions`, a seat's range.

        Raises:
            MalformedColumnsError: the length is not the exact one, or a symbol is not below p.
        """
        symbols_end = 8 * KEY_ROWS * len(positions)
        seeds_end = symbols_end + SEED_BYTES * len(positions) // SEED_COLUMNS
        expected = seeds_end + multiproof_length(COMMITTEE_DOMAIN.size, positions)
        if len(data) != expected:
            raise MalformedColumnsError(f"a seat's columns take {expected} bytes, got {len(data)}", length=len(data))
        symbols = algebra.from_bytes(data[:symbols_end]).reshape(len(positions), KEY_ROWS)
        return cls(symbols, data[symbols_end:seeds_end], data[seeds_end:])


class SealedColumnsError(CollegiumError):
    """A sealed box is missing, does not open with the seat's key of this round, or is not the one in the report."""


@dataclass(frozen=True, slots=True)
class SeatTerms:
    """One seat of a round: who holds it, and the X25519 key that columns are sealed to (None: did not announce one)."""

    validator: bytes  # 20-byte account address
    seal_key: bytes | None


@dataclass(frozen=True)
class RoundTerms:
    """What a certified header fixes for one round; everything in a report is bound to its digest."""

    task: Digest
    round: int
    previous: Digest  # the header that these terms come from
    model: Digest
    beacon: Digest
    seats: tuple[SeatTerms, ...]
    layout: Layout = field(repr=False)

    @property
    def preimage(self) -> bytes:
        """The bytes that the digest is the SHA-256 of."""
        budget = self.layout.budget
        seats = b"".join(seat.validator + (seat.seal_key or bytes(32)) for seat in self.seats)
        shape = (self.layout.entries, budget.entry_bound, budget.trainers_max, budget.weight_max, budget.lanes)
        return frame_fields("terms", self.task, self.round, self.previous, self.model, self.beacon, seats, *shape)

    @cached_property
    def digest(self) -> Digest:
        """The digest that reports, receipts and sealed boxes are bound to."""
        return sha256(self.preimage).digest()

    @cached_property
    def matrix_seed(self) -> Digest:
        """The seed of this round's public matrix A."""
        return hash_fields("mask-matrix", self.task, self.round, self.beacon)

    @property
    def staleness_max(self) -> int:
        """How many rounds old the model may be that a report's update was trained from: its weight halves with each."""
        return self.layout.budget.weight_max.bit_length() - 1

    def weight(self, staleness: int) -> int:
        """Return the weight of a report that is so many rounds stale: fixed by the round's bounds and its own word."""
        return self.layout.budget.weight_max >> staleness

    @property
    def seat_width(self) -> int:
        """Columns a seat owns."""
        return seat_width(len(self.seats))

    def seat_columns(self, seat: int) -> range:
        """Return the committee positions that `seat` owns."""
        width = self.seat_width
        return range(seat * width, (seat + 1) * width)


@dataclass(frozen=True, eq=False)
class Report:
    """The public part of a trainer's upload; c itself is content-addressed by `ciphertext`."""

    task: Digest
    round: int
    trainer: bytes
    terms: Digest
    ciphertext: Digest
    committee_root: Digest
    audit_root: Digest
    proof: Digest  # of the proof's bytes, zeros without one
    registration: Digest  # of the registered data that the proof is about, zeros where it is about none
    boxes: tuple[Digest, ...]  # SHA-256 of each seat's sealed box, zeros where a seat has none
    combination: FieldArray  # (2, degree_bound): the polynomial w over the extension
    audit: ColumnRange
    signature: bytes
    staleness: int = 0  # rounds between the model that the terms name and the one that the update was trained from

    @cached_property
    def key_root(self) -> Digest:
        """The one digest that commits to the key matrix."""
        return combine_roots([self.committee_root, self.audit_root])

    @property
    def preimage(self) -> bytes:
        """The bytes that the id is the SHA-256 of: with them a contract can read a signed report."""
        return frame_fields(
            "report",
            self.task,
            self.round,
            self.trainer,
            self.terms,
            self.ciphertext,
            self.committee_root,
            self.audit_root,
            self.proof,
            self.registration,
            b"".join(self.boxes),
            sha256(algebra.to_bytes(self.combination.reshape(-1))).digest(),
            sha256(self.audit.to_bytes()).digest(),
            self.staleness,
        )

    @cached_property
    def id(self) -> Digest:
        """The digest that the trainer signs: binds every field but the signature."""
        return sha256(self.preimage).digest()

    def to_bytes(self) -> bytes:
        """Return the canonical encoding: fixed head, boxes, combination, audit, signature."""
        head = _HEAD.pack(
            self.task,
            self.round,
            self.trainer,
            self.terms,
            self.ciphertext,
            self.committee_root,
            self.audit_root,
            self.proof,
            self.registration,
            self.staleness,
        )
        combination = algebra.to_bytes(self.combination.reshape(-1))
        return head + b"".join(self.boxes) + combination + self.audit.to_bytes() + self.signature

    @classmethod
    def from_bytes(cls, data: bytes, seats: int) -> Report:
        """Decode a report of a round with `seats` seats.

        Raises:
            MalformedReportError: wrong length, or a field element that is not below p.
        """
        fixed = _HEAD.size + 32 * seats + _COMBINATION_BYTES
        if len(data) < fixed + _SIGNATURE_BYTES:
            raise MalformedReportError(f"a report takes more than {fixed} bytes, got {len(data)}", length=len(data))
        head = _HEAD.unpack_from(data)
        task, number, trainer, terms, ciphertext, committee_root, audit_root, proof, registration, staleness = head
        boxes = tuple(data[at : at + 32] for at in range(_HEAD.size, _HEAD.size + 32 * seats, 32))
        try:
            combination = algebra.from_bytes(data[fixed - _COMBINATION_BYTES : fixed]).reshape(2, -1)
            transcript = _transcript(terms, trainer, ciphertext, committee_root, audit_root, proof)
            positions = _audit_positions(transcript, combination)[1]
            audit = ColumnRange.from_bytes(
                data[fixed:-_SIGNATURE_BYTES], rows=MATRIX_ROWS, leaf_count=AUDIT_DOMAIN.size, positions=positions
            )
        except CollegiumError as error:
            raise MalformedReportError(f"report: {error}") from error
        return cls(
            task=task,
            round=number,
            trainer=trainer,
            terms=terms,
            ciphertext=ciphertext,
            committee_root=committee_root,
            audit_root=audit_root,
            proof=proof,
            registration=registration,
            boxes=boxes,
            combination=combination,
            audit=audit,
            signature=data[-_SIGNATURE_BYTES:],
            staleness=staleness,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """What a trainer sends once: the report, c, a sealed box for each seat that announced a key, and the proof.

    `registration` is what the report names under that word; empty where the seats hold it already, or there is none.
    """

    report: Report
    ciphertext: bytes
    boxes: tuple[bytes | None, ...]
    proof: bytes = b""
    registration: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """An update masked and its key committed, not reported yet: what a proof is about.

    Public are `trainer`, `ciphertext` (blocks, 4096), its bytes and digest, and the roots. Everything else is the
    trainer's secret: `update`, `noise` (blocks, 4096), `key` (4096), the key matrix' `coefficients` (6, degree bound).
    """

    trainer: bytes
    ciphertext: FieldArray
    ciphertext_bytes: bytes
    ciphertext_digest: Digest
    committee_root: Digest
    audit_root: Digest
    update: IntArray = field(repr=False)
    noise: IntArray = field(repr=False)
    key: FieldArray = field(repr=False)
    coefficients: FieldArray = field(repr=False)
    matrix: CommittedMatrix = field(repr=False)
    seeds: bytes = field(repr=False)

    @property
    def key_root(self) -> Digest:
        """The one digest that commits to the key matrix."""
        return self.matrix.root


def proof_digest(proof: bytes) -> Digest:
    """Return what a report says of its proof: SHA-256 of the bytes, zeros of no bytes."""
    return sha256(proof).digest() if proof else NO_DIGEST


def make_upload(terms: RoundTerms, account: AccountKey, update: IntArray, random: Randomness) -> Upload:
    """Mask `update`, share its key among the seats and sign: the trainer's whole work of a round but the training.

    `random` must be the operating system's or a stream seeded from it: every mask, salt and pad is used once.

    Raises:
        EntryOutOfRangeError: when the update does not fit the task's bounds.
    """
    return finish_upload(terms, begin_upload(terms, account.address, update, random), account)


def begin_upload(terms: RoundTerms, trainer: bytes, update: IntArray, random: Randomness) -> Draft:
    """Mask `update` and commit to its key; `random` as for `make_upload`.

    Raises:
        EntryOutOfRangeError: when the update does not fit the task's bounds.
    """
    key = algebra.sample_field(random, RING_DIMENSION)
    noise = draw_noise(terms.layout, random)
    ciphertext = mask_under(terms.layout, terms.matrix_seed, key, update, noise)
    data = encode_ciphertext(ciphertext)
    coefficients, matrix, seeds = _commit_key(key, random)
    committee_root, audit_root = (tree.root for tree in matrix.trees)
    digest = sha256(data).digest()
    return Draft(
        trainer, ciphertext, data, digest, committee_root, audit_root, update, noise, key, coefficients, matrix, seeds
    )


def finish_upload(
    terms: RoundTerms,
    draft: Draft,
    account: AccountKey,
    proof: bytes = b"",
    claim: KeyClaim | None = None,
    registration: Digest = NO_DIGEST,
    staleness: int = 0,
) -> Upload:
    """Report a draft with the proof about it, share its key among the seats, and sign.

    `staleness`: how many rounds before this one's its model is that the update was trained from.

    Raises:
        KeyClaimRefusedError: the proof's claim is not about this draft's key matrix: nobody would admit the report.
    """
    # 1. bind
    roots, digest = (draft.committee_root, draft.audit_root), proof_digest(proof)
    transcript = _transcript(terms.digest, draft.trainer, draft.ciphertext_digest, *roots, digest)
    # 2. combine
    factors = transcript.challenge_ext("rows", KEY_ROWS)
    combination = algebra.fold(draft.coefficients, _with_mask_rows(factors))
    if claim is not None:
        _check_claim(combination, factors, claim)
    # 3. audit
    audit = draft.matrix.open(1, _draw_audit(transcript, combination))
    # 4. seal
    boxes = tuple(
        _seal_columns(terms, draft.trainer, draft.matrix, draft.seeds, index, seat.seal_key)
        for index, seat in enumerate(terms.seats)
    )
    # 5. sign
    unsigned = Report(
        task=terms.task,
        round=terms.round,
        trainer=draft.trainer,
        terms=terms.digest,
        ciphertext=draft.ciphertext_digest,
        committee_root=draft.committee_root,
        audit_root=draft.audit_root,
        proof=digest,
        registration=registration,
        boxes=tuple(bytes(32) if box is None else sha256(box).digest() for box in boxes),
        combination=combination,
        audit=audit,
        signature=bytes(_SIGNATURE_BYTES),
        staleness=staleness,
    )
    signed = replace(unsigned, signature=account.sign(unsigned.id))
    return Upload(signed, draft.ciphertext_bytes, boxes, proof)


def _seal_columns(
    terms: RoundTerms, trainer: bytes, matrix: CommittedMatrix, seeds: bytes, seat: int, seal_key: bytes | None
) -> bytes | None:
    """Return the box for a seat, or None where there is no key that one can seal to."""
    if seal_key is None:
        return None
    positions = terms.seat_columns(seat)
    opened = matrix.open(0, positions)
    share = SEED_BYTES * len(positions) // SEED_COLUMNS
    symbols = np.ascontiguousarray(opened.symbols[:, :KEY_ROWS])
    columns = SeatColumns(symbols, seeds[seat * share : (seat + 1) * share], opened.proof)
    try:
        return seal(seal_key, _seal_info(terms, trainer, matrix.root, seat), columns.to_bytes())
    except SealKeyError:  # the committee refuses such keys; a trainer must not stumble over one all the same
        return None


def check_report(
    terms: RoundTerms, report: Report, claim: KeyClaim | None = None, *, signer: bytes | None = None
) -> None:
    """Check everything in a report that needs neither secret nor proof; with a proof's `claim`, check that as well.

    `signer`: who is known to have signed it, where the signature was checked before; recovered here unless given.

    Raises:
        ReportRejectedError: other terms, more stale than they allow, a number of boxes other than seats, or not the
            trainer's signature.
        KeyClaimRefusedError: as `check_claim`.
        AuditFailedError: an audited column does not fit the combination.
        MultiproofError: an audited column is not the committed one.
    """
    # 1. bind
    if (report.task, report.round, report.terms) != (terms.task, terms.round, terms.digest):
        raise ReportRejectedError(
            f"report is for round {report.round} under terms {report.terms.hex()[:16]}, "
            f"this is round {terms.round} under {terms.digest.hex()[:16]}"
        )
    if not 0 <= report.staleness <= terms.staleness_max:
        raise ReportRejectedError(
            f"report is {report.staleness} rounds stale, round {terms.round} takes up to {terms.staleness_max}"
        )
    if len(report.boxes) != len(terms.seats):
        raise ReportRejectedError(f"report names {len(report.boxes)} boxes for {len(terms.seats)} seats")
    transcript = _report_transcript(report)
    # 2. combine
    factors, positions = _audit_positions(transcript, report.combination)
    if claim is not None:
        _check_claim(report.combination, factors, claim)
    # 3. audit
    _check_audit(report, factors, positions)
    verify_columns(report.audit_root, AUDIT_DOMAIN, positions, report.audit)
    # 5. sign
    signer = recover_address(report.id, report.signature) if signer is None else signer
    if signer != report.trainer:
        raise ReportRejectedError(f"report of {report.trainer.hex()} is signed by {signer.hex()}")


def check_claim(report: Report, claim: KeyClaim) -> None:
    """Check that a verified proof spoke about the key matrix to which this report commits: w(z) = <factors, rows(z)>.

    The factors are drawn after the proof is fixed, and w is bound to the committed rows by the audit.

    Raises:
        KeyClaimRefusedError: it spoke about another one.
    """
    _check_claim(report.combination, _report_transcript(report).challenge_ext("rows", KEY_ROWS), claim)


def _check_claim(combination: FieldArray, factors: FieldArray, claim: KeyClaim) -> None:
    if claim.values.shape != (2, MATRIX_ROWS):
        raise KeyClaimRefusedError(f"a claim of shape {claim.values.shape}, expected (2, {MATRIX_ROWS})")
    published = algebra.ext_dot(combination, algebra.ext_powers(claim.point, combination.shape[1]))
    claimed = algebra.ext_dot(_with_mask_rows(factors), claim.values)
    if published != claimed:
        raise KeyClaimRefusedError(
            f"the combination is {published} at {claim.point}, the proof's values of the key rows give {claimed}"
        )


def open_columns(terms: RoundTerms, report: Report, seat: int, box: bytes | None, secret: SealKey) -> SeatColumns:
    """Open the box that a trainer sealed to `seat`.

    Raises:
        SealedColumnsError: no box, not the box of the report, sealed for another seat, round, task or trainer, or
            columns of a wrong length. Nobody can tell whose fault it is, so this is "no receipt", never evidence.
    """
    if box is None or sha256(box).digest() != report.boxes[seat]:
        raise SealedColumnsError(f"the box for seat {seat} is not the one in the report", seat=seat)
    try:
        data = open_sealed(secret, _seal_info(terms, report.trainer, report.key_root, seat), box)
        return SeatColumns.from_bytes(data, terms.seat_columns(seat))
    except CollegiumError as error:
        raise SealedColumnsError(f"the box for seat {seat} does not open: {error}", seat=seat) from error


def check_columns(terms: RoundTerms, report: Report, seat: int, columns: SeatColumns) -> None:
    """Check a seat's own columns against the root and the published combination, both at once.

    The mask rows' symbols are taken to be what the combination demands, w(x_j) - <factors, key symbols>; if the columns
    so completed are the committed ones, then the committed ones fit the combination. A word that differs from the code
    on honest seats' columns passes with probability at most 2^-115 (docs/spec/aggregation.md, section 3).

    Raises:
        ColumnsRejectedError: the columns so completed are not the committed ones.
    """
    factors = _report_transcript(report).challenge_ext("rows", KEY_ROWS)
    positions = terms.seat_columns(seat)
    published = algebra.ext_coset_ntt(report.combination, COMMITTEE_DOMAIN.shift, COMMITTEE_DOMAIN.size)
    combined = algebra.fold(np.ascontiguousarray(columns.symbols.T), factors)
    masks = algebra.sub(np.ascontiguousarray(published[:, positions.start : positions.stop]), combined)
    symbols = np.ascontiguousarray(np.concatenate([columns.symbols, masks.T], axis=1))
    try:
        opened = ColumnRange(symbols, _salts(columns.seeds), columns.proof)
        verify_columns(report.committee_root, COMMITTEE_DOMAIN, positions, opened)
    except CollegiumError as error:
        raise ColumnsRejectedError(f"the columns of seat {seat} do not fit root and combination: {error}") from error


def _commit_key(key: FieldArray, random: Randomness) -> tuple[FieldArray, CommittedMatrix, bytes]:
    """Return the key matrix's coefficients (6, degree_bound), its commitment, and the committee salts' seeds."""
    pads = algebra.sample_field(random, MATRIX_ROWS * KEY_CODE.randomness_len).reshape(MATRIX_ROWS, -1)
    masks = algebra.sample_field(random, (MATRIX_ROWS - KEY_ROWS) * KEY_CODE.message_len)
    messages = np.concatenate([key, masks]).reshape(MATRIX_ROWS, KEY_CODE.message_len)
    coefficients = KEY_CODE.coefficients(messages, pads)
    encoded = [KEY_CODE.encode(coefficients, domain) for domain in (COMMITTEE_DOMAIN, AUDIT_DOMAIN)]
    seeds = random(SEED_BYTES * COMMITTEE_DOMAIN.size // SEED_COLUMNS)
    salts = [_salts(seeds), random(SALT_BYTES * AUDIT_DOMAIN.size)]
    return coefficients, CommittedMatrix(encoded, salts), seeds


def _salts(seeds: bytes) -> bytes:
    """Return the salts of 32 columns for each 16-byte seed: SHAKE128 of a tag and the seed."""
    parts = (seeds[at : at + SEED_BYTES] for at in range(0, len(seeds), SEED_BYTES))
    return b"".join(shake_128(_SALT_TAG + seed).digest(SALT_BYTES * SEED_COLUMNS) for seed in parts)


def _transcript(
    terms: Digest, trainer: bytes, ciphertext: Digest, committee: Digest, audit: Digest, proof: Digest
) -> Transcript:
    return Transcript("key", terms, trainer, ciphertext, committee, audit, proof)


def _report_transcript(report: Report) -> Transcript:
    roots = (report.committee_root, report.audit_root)
    return _transcript(report.terms, report.trainer, report.ciphertext, *roots, report.proof)


def _audit_positions(transcript: Transcript, combination: FieldArray) -> tuple[npt.NDArray[np.uint64], list[int]]:
    factors = transcript.challenge_ext("rows", KEY_ROWS)
    return factors, _draw_audit(transcript, combination)


def _draw_audit(transcript: Transcript, combination: FieldArray) -> list[int]:
    transcript.absorb("combination", algebra.to_bytes(combination.reshape(-1)))
    return [int(at) for at in transcript.challenge_indices("audit", AUDIT_COLUMNS, AUDIT_DOMAIN.size)]


def _with_mask_rows(factors: FieldArray) -> FieldArray:
    """Return the six rows' factors (2, 6): the challenges for the key rows, then 1 and x for the two mask rows."""
    return np.concatenate([factors, np.eye(2, dtype=np.uint64)], axis=1)


def _check_audit(report: Report, factors: FieldArray, positions: Sequence[int]) -> None:
    """Raise AuditFailedError unless w(x_j) = <factors, column_j> at every audited position."""
    published = algebra.ext_coset_ntt(report.combination, AUDIT_DOMAIN.shift, AUDIT_DOMAIN.size)
    combined = algebra.fold(np.ascontiguousarray(report.audit.symbols.T), _with_mask_rows(factors))
    wrong = np.flatnonzero((published[:, np.asarray(positions)] != combined).any(axis=0))
    if wrong.size:
        raise AuditFailedError(
            f"{wrong.size} of {len(positions)} audited columns do not fit the combination", first=int(wrong[0])
        )


def _seal_info(terms: RoundTerms, trainer: bytes, key_root: Digest, seat: int) -> bytes:
    return hash_fields("seal", terms.task, terms.round, terms.digest, trainer, key_root, seat)
