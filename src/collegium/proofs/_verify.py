"""The verifier: the numbered steps of `_program`, in the same order as `_prove`."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from collegium.algebra import (
    Ext,
    FieldArray,
    NoInverseError,
    add,
    ext_add,
    ext_dot,
    ext_mul,
    ext_mul_array,
    ext_power,
    ext_powers,
    ext_sub,
    from_bytes,
    over_rows,
    sub,
)
from collegium.commitment import ColumnRange, MultiproofError, multiproof_length, verify_columns
from collegium.crypto import Digest, Transcript
from collegium.errors import CollegiumError

from . import _kernels
from ._errors import (
    CombinationRejectedError,
    GrindingRejectedError,
    IdentityRejectedError,
    MalformedProofError,
    OpeningRejectedError,
    SumRejectedError,
)
from ._layout import QUOTIENT_CHUNKS, SALT_PLACES
from ._parameters import GRINDING_BITS
from ._program import (
    FirstChallenges,
    Program,
    constraint_weights,
    draw_first,
    draw_second,
    full_sums,
    lagrange,
    open_transcript,
    to_ext,
)
from ._sums import ONE, Sums, X, ext_sum, scalar

__all__ = ["NONCE_BYTES", "combination_weights", "grinding_done", "slot_relations_at", "verify"]

NONCE_BYTES = 8


def verify(program: Program, proof: bytes) -> FirstChallenges:
    """Check a proof; return its first challenges with the key's claimed values, which the caller must check.

    Raises:
        MalformedProofError, SumRejectedError, IdentityRejectedError, CombinationRejectedError, GrindingRejectedError,
        OpeningRejectedError: all are `ProofRejectedError`.
    """
    try:
        return _run(program, proof)
    except NoInverseError as error:  # a challenge met a pole: once in 2^100
        raise IdentityRejectedError(f"a challenge has no inverse where one is needed: {error}") from error


def _run(program: Program, proof: bytes) -> FirstChallenges:
    layout, code = program.layout, program.layout.code
    k, t = code.message_len, code.randomness_len
    reader = _Reader(proof)
    transcript = open_transcript(program)
    # 1. commit the trace
    trace_root = reader.take(32)
    # 2. challenges for lookups, products and the key; the key's values
    first = draw_first(program, transcript, trace_root)
    if program.key_rows:
        values = reader.elements(program.key_rows, transcript, "key values")
        first = FirstChallenges(first.alphas, first.gammas, first.mu, first.point, values)
    # 3. commit inverses and products
    products_root = reader.take(32, transcript, "products")
    mask_total = to_ext(reader.elements(1, transcript, "mask total"))
    # 4. challenges for the sums
    second = draw_second(program, transcript)
    sums = full_sums(program, first, second, mask_total)
    # 5. the remainder g: its sum over the slots is what the sums demand
    remainder = reader.elements(k, transcript, "remainder")
    found = ext_sum(remainder)
    if found != sums.target:
        raise SumRejectedError(f"the sums over the slots come to {found}, the statement demands {sums.target}")
    # 6. challenges for the slots; commit the quotient
    lambdas = transcript.challenge_ext("lambda", layout.constraint_count)
    quotient_root = reader.take(32, transcript, "quotient")
    # 7. a point out of the domain; every row's value
    point = to_ext(transcript.challenge_ext("point", 1))
    at_message, _ = lagrange(code, point)
    values = _spread(program, reader.elements(sum(layout.counts), transcript, "values"))
    _check_identity(program, first, sums, lambdas, remainder, point, at_message, values)
    # 8. coefficients; the combination of all rows
    weights = combination_weights(program, transcript)
    combination = reader.elements(k + t, transcript, "combination")
    if ext_dot(combination, ext_powers(point, k + t)) != ext_dot(weights, values):
        raise CombinationRejectedError("the combination's value out of the domain is not that of the claimed values")
    # 9. work, then columns
    nonce = reader.take(NONCE_BYTES)
    if not grinding_done(transcript.state, nonce):
        raise GrindingRejectedError(f"nonce {nonce.hex()} lacks {GRINDING_BITS} bits of work")
    transcript.absorb("nonce", nonce)
    positions = [int(at) for at in transcript.challenge_indices("columns", code.queries, code.domain.size)]
    roots = (*program.data_roots, trace_root, products_root, quotient_root)
    columns = _open(program, reader, roots, positions)
    reader.end()
    _check_columns(program, weights, combination, positions, columns)
    return first


def _check_identity(
    program: Program,
    first: FirstChallenges,
    sums: Sums,
    lambdas: FieldArray,
    remainder: FieldArray,
    point: Ext,
    at_message: FieldArray,
    values: FieldArray,
) -> None:
    """sums(point) - g(point) + slot relations(point) = q(point) (point^k - 1)."""
    layout = program.layout
    total, ones = (0, 0), ext_sum(at_message)
    for term in sums.terms:
        summands = np.ascontiguousarray(values[:, term.first])
        if term.second is not None:
            summands = ext_mul_array(summands, np.ascontiguousarray(values[:, term.second]))
        slots = ones if term.slots is None else ext_dot(term.slots, at_message)
        total = ext_add(total, ext_mul(slots, ext_dot(term.weights, summands)))
    total = ext_sub(total, ext_dot(remainder, at_message))
    total = ext_add(total, slot_relations_at(program, first, lambdas, values))
    power = ext_power(point, layout.code.message_len)
    chunks = np.ascontiguousarray(values[:, layout.index(layout.chunks)])
    quotient: Ext = (0, 0)
    for number in reversed(range(QUOTIENT_CHUNKS)):
        chunk = ext_add(to_ext(chunks, 2 * number), ext_mul(X, to_ext(chunks, 2 * number + 1)))
        quotient = ext_add(ext_mul(quotient, power), chunk)
    if total != ext_mul(quotient, ext_sub(power, ONE)):
        raise IdentityRejectedError("the relations do not hold at the point out of the domain")


def slot_relations_at(program: Program, first: FirstChallenges, lambdas: FieldArray, values: FieldArray) -> Ext:
    """Return the weighted relations that hold slot by slot, at the point where rows have these values (2, width)."""
    layout = program.layout
    pair_weights, monomial_weights = constraint_weights(layout, lambdas)
    total: Ext = (0, 0)
    if len(layout.pair_rows):
        alpha, gamma = (np.ascontiguousarray(c[:, layout.pair_tables]) for c in (first.alphas, first.gammas))
        sides = []
        for side in (0, 1):
            value = np.ascontiguousarray(values[:, layout.pair_rows[:, side]])
            seconds = layout.pair_seconds[:, side]
            other = np.where(seconds >= 0, values[:, np.maximum(seconds, 0)], np.uint64(0))
            sides.append(sub(sub(alpha, value), ext_mul_array(gamma, np.ascontiguousarray(other))))
        h0, h1 = (np.ascontiguousarray(values[:, layout.pair_inverses[:, part]]) for part in (0, 1))
        h = add(h0, ext_mul_array(h1, np.repeat(scalar(X), h1.shape[1], axis=1)))
        relation = sub(ext_mul_array(h, ext_mul_array(*sides)), add(*sides))
        total = ext_add(total, ext_dot(relation, pair_weights))
    if len(layout.constraints):
        product = np.repeat(scalar(ONE), len(layout.monomial_factors), axis=1)
        for place in range(layout.monomial_factors.shape[1]):
            rows = layout.monomial_factors[:, place]
            factor = np.where(rows >= 0, values[:, np.maximum(rows, 0)], scalar(ONE))
            product = ext_mul_array(product, np.ascontiguousarray(factor))
        total = ext_add(total, ext_dot(product, monomial_weights))
    return total


def combination_weights(program: Program, transcript: Transcript) -> FieldArray:
    """Return a coefficient for every place of a column: drawn for rows, 1 and x for the mask, 0 for salts."""
    layout = program.layout
    weights = _spread(program, transcript.challenge_ext("rows", sum(layout.counts)))
    weights[:, layout.index(layout.combination_mask)] = np.concatenate([scalar(ONE), scalar(X)], axis=1)
    return weights


def grinding_done(state: Digest, nonce: bytes) -> bool:
    """Tell whether SHA-256(state || nonce) begins with GRINDING_BITS zero bits."""
    return int.from_bytes(sha256(state + nonce).digest()[:8], "big") >> (64 - GRINDING_BITS) == 0


def _open(program: Program, reader: _Reader, roots: tuple[Digest, ...], positions: list[int]) -> FieldArray:
    """Return the opened columns (queries, width), each tree's symbols checked against its root."""
    layout, domain = program.layout, program.layout.code.domain
    proof_length = multiproof_length(domain.size, positions)
    columns = np.zeros((len(positions), layout.width), np.uint64)
    for tree, root in enumerate(roots):
        rows = layout.counts[tree]
        data = reader.take(len(positions) * 8 * (rows + SALT_PLACES) + proof_length)
        try:
            opened = ColumnRange.from_bytes(data, rows=rows, leaf_count=domain.size, positions=positions)
            verify_columns(root, domain, positions, opened)
        except MultiproofError as error:
            raise OpeningRejectedError(f"tree {tree}: {error}", tree=tree) from error
        except CollegiumError as error:
            raise MalformedProofError(f"tree {tree}: {error}", tree=tree) from error
        columns[:, layout.tree_slice(tree)] = opened.symbols
    return columns


def _check_columns(
    program: Program, weights: FieldArray, combination: FieldArray, positions: list[int], columns: FieldArray
) -> None:
    points = np.ascontiguousarray(program.layout.code.domain.points()[positions])
    published = np.empty((2, len(positions)), np.uint64)
    work = len(positions) * combination.shape[1]
    over_rows(_kernels.horner_at, len(positions), work, combination, points, published)
    combined = np.zeros((2, len(positions)), np.uint64)
    rows = np.arange(program.layout.width, dtype=np.int64)
    transposed = np.ascontiguousarray(columns.T)
    _kernels.fold_rows(0, len(positions), transposed, rows, weights, combined)
    wrong = np.flatnonzero((published != combined).any(axis=0))
    if wrong.size:
        raise CombinationRejectedError(
            f"{wrong.size} of {len(positions)} opened columns do not fit the combination", first=int(wrong[0])
        )


def _spread(program: Program, compact: FieldArray) -> FieldArray:
    """Return values of rows at their places in a column, 0 at salts."""
    layout = program.layout
    spread, start = np.zeros((2, layout.width), np.uint64), 0
    for tree, count in enumerate(layout.counts):
        spread[:, layout.tree_slice(tree)] = compact[:, start : start + count]
        start += count
    return spread


class _Reader:
    """Takes a proof apart; every part has a length that the statement fixes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int, transcript: Transcript | None = None, label: str = "") -> bytes:
        """Return the next bytes, absorbed under `label`."""
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise MalformedProofError(
                f"a proof ends after {len(self._data)} bytes, expected {self._at + count} or more",
                length=len(self._data),
            )
        self._at += count
        if transcript is not None:
            transcript.absorb(label, part)
        return part

    def elements(self, count: int, transcript: Transcript, label: str) -> FieldArray:
        """Return the next elements of K, (2, count)."""
        data = self.take(16 * count, transcript, label)
        try:
            return from_bytes(data, 2 * count).reshape(2, count)
        except CollegiumError as error:
            raise MalformedProofError(f"{label}: {error}") from error

    def end(self) -> None:
        """Refuse bytes that follow."""
        if self._at != len(self._data):
            raise MalformedProofError(f"a proof has {len(self._data)} bytes, expected {self._at}")
