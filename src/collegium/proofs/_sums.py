"""The sums over slots that a relation demands, in the one form that prover and verifier read.

Sum over terms and over the k slots h of  slots(h) x sum_i weights_i a_i(h) [b_i(h)]  = target, a_i and b_i rows. The
coefficient of a grid's entry (i, j) is rho^i v_j: over rows and slots of a piece that is of rank one, so that a
tensor costs one fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    add,
    encode_signed,
    ext_add,
    ext_inverse,
    ext_mul,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
)

from . import _kernels
from ._layout import Flat, Grid, Layout, Piece, Rows

__all__ = ["ONE", "Sums", "Term", "X", "embed", "outer", "power_sum", "scalar"]

Index = npt.NDArray[np.int64]
_Summand = tuple[Grid, Grid | None, FieldArray]

ONE: Ext = (1, 0)
X: Ext = (0, 1)


@dataclass(frozen=True, slots=True)
class Term:
    """slots (2, k) or None for ones, rows by their places, weights (2, n); `second` makes each summand a product."""

    slots: FieldArray | None
    first: Index
    weights: FieldArray
    second: Index | None = None


class Sums:
    """Collects the terms of one statement; `sample` is rho, the challenge whose powers weigh samples."""

    def __init__(self, layout: Layout, sample: Ext) -> None:
        self.layout = layout
        self.sample = sample
        self.target: Ext = (0, 0)
        self._terms: list[Term] = []
        self._indicated: dict[tuple[bytes, int, int], list[tuple[Piece, Piece | None, Ext]]] = {}
        self._linear: dict[Grid, FieldArray] = {}
        self._products: dict[tuple[Grid, Grid], FieldArray] = {}

    def linear(self, grid: Grid, vector: FieldArray) -> None:
        """Add sum_ij rho^i vector_j grid_ij."""
        known = self._linear.get(grid)
        self._linear[grid] = vector if known is None else add(known, vector)

    def product(self, a: Grid, b: Grid, vector: FieldArray) -> None:
        """Add sum_ij rho^i vector_j a_ij b_ij; the grids have one shape."""
        known = self._products.get((a, b))
        self._products[a, b] = vector if known is None else add(known, vector)

    def indicated(self, a: Grid, b: Grid | None, weight: Ext, indicator: npt.NDArray[np.bool_]) -> None:
        """Add weight x sum_i indicator_i sum_j a_ij [b_ij] for grids of one shape; no power of rho."""
        for number, piece in enumerate(a.pieces):
            key, second = (indicator.tobytes(), piece.width, piece.used), None if b is None else b.pieces[number]
            self._indicated.setdefault(key, []).append((piece, second, weight))

    def powers(self, flat: Flat, base: Ext, scale: Ext) -> None:
        """Add scale x sum_i base^i flat_i over its `length` entries; a last row that is not full is a term of its
        own."""
        k = self.layout.code.message_len
        full, rest = divmod(flat.length, k)
        places, slots = self.layout.index(flat.rows), ext_powers(base, k)
        weights = ext_scale(ext_powers(ext_power(base, k), flat.rows.count), scale)
        if full:
            self._terms.append(Term(slots, places[:full], np.ascontiguousarray(weights[:, :full])))
        if rest:
            slots = slots.copy()
            slots[:, rest:] = 0
            self._terms.append(Term(slots, places[full:], np.ascontiguousarray(weights[:, full:])))

    def vector(self, flat: Flat, values: FieldArray) -> None:
        """Add sum_i values_i flat_i, values (2, flat.length) in any order: one term a row."""
        k = self.layout.code.message_len
        padded = np.zeros((2, flat.rows.count * k), np.uint64)
        padded[:, : values.shape[1]] = values
        for row, place in enumerate(self.layout.index(flat.rows)):
            slots = np.ascontiguousarray(padded[:, row * k : (row + 1) * k])
            self._terms.append(Term(slots, np.array([place]), scalar(ONE)))

    def entries(self, flat: Flat, scale: Ext, squared: bool = False) -> None:
        """Add scale x sum_i flat_i, or of their squares, over its `length` entries."""
        k = self.layout.code.message_len
        full, rest = divmod(flat.length, k)
        places = self.layout.index(flat.rows)
        weights = np.repeat(scalar(scale), len(places), axis=1)
        used = np.zeros((2, k), np.uint64)
        used[0, :rest] = 1
        for slots, part in ((None, slice(full)), (used, slice(full, None))):
            first = places[part]
            if first.size:
                kept = np.ascontiguousarray(weights[:, part])
                self._terms.append(Term(slots, first, kept, first if squared else None))

    def ones(self, rows: Rows, weights: FieldArray) -> None:
        """Add sum over all slots of sum_i weights_i row_i."""
        self._terms.append(Term(None, self.layout.index(rows), weights))

    def head(self, grid: Grid, samples: int, base: Ext, vector: FieldArray) -> None:
        """Add sum_ij base^i vector_j grid_ij over the first `samples` alone."""
        for piece in grid.pieces:
            full, rest = divmod(samples, piece.per_row)
            part = np.zeros((2, piece.width), np.uint64)
            part[:, : piece.used] = vector[:, piece.start : piece.start + piece.used]
            slots = outer(ext_powers(base, piece.per_row), part)
            places = self.layout.index(piece.rows)
            weights = ext_powers(ext_power(base, piece.per_row), full + 1)
            if full:
                self._terms.append(Term(slots, places[:full], np.ascontiguousarray(weights[:, :full])))
            if rest:
                cut = slots.copy()
                cut[:, rest * piece.width :] = 0
                last = np.ascontiguousarray(weights[:, full:])
                self._terms.append(Term(cut, places[full : full + 1], last))

    def absorb(self, other: Sums) -> None:
        """Add what `other`, over the same layout with a base of its own, has collected."""
        self._terms.extend(other.terms)
        self.target = ext_add(self.target, other.target)

    def constant(self, value: Ext) -> None:
        """Add a public value."""
        self.target = ext_sub(self.target, value)

    def samples_total(self, count: int) -> Ext:
        """Return sum of rho^i over the first `count` samples."""
        return power_sum(self.sample, count)

    @property
    def terms(self) -> list[Term]:
        """All terms. Grids of one shape whose vectors are multiples of each other share one."""
        made = list(self._terms)
        for (indicator, *_), summands in self._indicated.items():
            made.extend(self._indicated_terms(np.frombuffer(indicator, np.bool_), summands))
        linear: list[_Summand] = [(grid, None, vector) for grid, vector in self._linear.items()]
        products: list[_Summand] = [(a, b, vector) for (a, b), vector in self._products.items()]
        for kind in (linear, products):
            groups: dict[tuple[object, bytes], list[tuple[Grid, Grid | None, Ext]]] = {}
            for a, b, vector in kind:
                factor, direction = _direction(vector)
                shape = tuple((piece.start, piece.width, piece.rows.count) for piece in a.pieces)
                groups.setdefault((shape, direction.tobytes()), []).append((a, b, factor))
            for (_, direction_bytes), members in groups.items():
                direction = np.frombuffer(direction_bytes, np.uint64).reshape(2, -1)
                made.extend(self._grid_terms(members, direction))
        return made

    def _grid_terms(self, members: Sequence[tuple[Grid, Grid | None, Ext]], direction: FieldArray) -> list[Term]:
        """Return one term a piece: sum over members of factor x sum_ij rho^i direction_j a_ij [b_ij]."""
        made = []
        for number, piece in enumerate(members[0][0].pieces):
            part = np.zeros((2, piece.width), np.uint64)
            part[:, : piece.used] = direction[:, piece.start : piece.start + piece.used]
            slots = outer(ext_powers(self.sample, piece.per_row), part)
            powers = ext_powers(ext_power(self.sample, piece.per_row), piece.rows.count)
            weights = np.concatenate([ext_scale(powers, factor) for _, _, factor in members], axis=1)
            first = np.concatenate([self.layout.index(a.pieces[number].rows) for a, _, _ in members])
            seconds = [self.layout.index(b.pieces[number].rows) for _, b, _ in members if b is not None]
            made.append(Term(slots, first, weights, np.concatenate(seconds) if seconds else None))
        return made

    def _indicated_terms(
        self, indicator: npt.NDArray[np.bool_], summands: Sequence[tuple[Piece, Piece | None, Ext]]
    ) -> list[Term]:
        """Return a term for the products and one for the rest, for each row of samples, of pieces of one shape.

        Neither samples behind the indicator nor columns behind the used ones count.
        """
        k, made, piece = self.layout.code.message_len, [], summands[0][0]
        flags = np.zeros((piece.rows.count * piece.per_row, piece.width), np.uint64)
        flags[: len(indicator), : piece.used] = indicator[:, None]
        products = [(a, b, weight) for a, b, weight in summands if b is not None]
        plain = [(a, weight) for a, b, weight in summands if b is None]
        for row, chosen in enumerate(flags.reshape(-1, k)):
            slots = np.stack([chosen, np.zeros_like(chosen)])
            for group in (products, plain):
                if group:
                    first = np.array([self.layout.index(member[0].rows)[row] for member in group])
                    weights = np.concatenate([scalar(member[-1]) for member in group], axis=1)
                    second = np.array([self.layout.index(b.rows)[row] for _, b, _ in products])
                    made.append(Term(slots, first, weights, second if group is products else None))
        return made


def _direction(vector: FieldArray) -> tuple[Ext, FieldArray]:
    """Return c and v / c for c the first entry of v that is not 0."""
    places = np.flatnonzero(vector.any(axis=0))
    if not places.size:
        return (0, 0), vector
    factor = int(vector[0, places[0]]), int(vector[1, places[0]])
    return factor, ext_scale(vector, ext_inverse(factor))


def scalar(value: Ext) -> FieldArray:
    """Return an element of K as an array of one."""
    return np.array([[value[0]], [value[1]]], np.uint64)


def embed(values: npt.NDArray[np.int64] | Sequence[int]) -> FieldArray:
    """Return signed integers as elements of K, (2, n)."""
    encoded = encode_signed(np.asarray(values, np.int64))
    return np.stack([encoded, np.zeros_like(encoded)])


def outer(a: FieldArray, b: FieldArray) -> FieldArray:
    """Return a_i b_j at i n + j."""
    out = np.empty((2, a.shape[1] * b.shape[1]), np.uint64)
    _kernels.outer_product(np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out


def power_sum(base: Ext, count: int) -> Ext:
    """Return 1 + base + ... + base^(count - 1)."""
    if base == ONE:
        return count, 0
    return ext_mul(ext_sub(ext_power(base, count), ONE), ext_inverse(ext_sub(base, ONE)))


def ext_sum(values: FieldArray) -> Ext:
    """Return the sum of an array of K."""
    total: Ext = (0, 0)
    for part in np.array_split(values, max(1, values.shape[1] >> 20), axis=1):
        low = (part & np.uint64(0xFFFFFFFF)).sum(axis=1)
        high = (part >> np.uint64(32)).sum(axis=1)
        total = ext_add(total, ((int(low[0]) + (int(high[0]) << 32)) % P, (int(low[1]) + (int(high[1]) << 32)) % P))
    return total
