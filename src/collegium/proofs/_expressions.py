"""Integers that a relation speaks of without committing to them: sums and products of committed grids.

An expression stands for a matrix (samples, width), entry by entry: constant + sum of coefficient x grid + sum of
coefficient x grid x grid. Constants count for the genuine samples only; behind them every grid is 0, which satisfies
every relation, and nothing behind them enters a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collegium.algebra import Ext, FieldArray, P, encode_signed, ext_mul, ext_scale

from ._layout import Grid, Layout
from ._sums import Sums, ext_sum

__all__ = ["Expression", "Limbs", "limb_widths", "place_grid"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Expression:
    """constant + linear + products, each summand with its integer coefficient."""

    linear: tuple[tuple[int, Grid], ...] = ()
    products: tuple[tuple[int, Grid, Grid], ...] = ()
    constant: int = 0

    def __add__(self, other: Expression) -> Expression:
        return Expression(self.linear + other.linear, self.products + other.products, self.constant + other.constant)

    def times(self, factor: int) -> Expression:
        """Return the multiple."""
        return Expression(
            tuple((factor * c, grid) for c, grid in self.linear),
            tuple((factor * c, a, b) for c, a, b in self.products),
            factor * self.constant,
        )

    def selected(self, selector: Grid) -> Expression:
        """Return this linear expression times a committed grid."""
        products = tuple((c, selector, grid) for c, grid in self.linear)
        return Expression(((self.constant, selector),) if self.constant else (), products)

    def squared(self) -> Expression:
        """Return the square of this linear expression."""
        products = tuple((a * b, left, right) for a, left in self.linear for b, right in self.linear)
        linear = tuple((2 * self.constant * c, grid) for c, grid in self.linear)
        return Expression(linear, products, self.constant**2)

    def add_to(self, sums: Sums, vector: FieldArray, samples: int) -> None:
        """Add sum_ij rho^i vector_j entry_ij."""
        scaled: dict[int, FieldArray] = {}

        def weighed(coefficient: int) -> FieldArray:
            if coefficient not in scaled:
                scaled[coefficient] = ext_scale(vector, (coefficient % P, 0))
            return scaled[coefficient]

        for coefficient, grid in self.linear:
            sums.linear(grid, weighed(coefficient))
        for coefficient, a, b in self.products:
            sums.product(a, b, weighed(coefficient))
        if self.constant:
            total: Ext = ext_mul(sums.samples_total(samples), ext_sum(vector))
            sums.constant(ext_mul(total, (self.constant % P, 0)))


@dataclass(frozen=True, slots=True)
class Limbs:
    """A matrix of integers in [0, 2^bits), low limb first, every limb looked up."""

    grids: tuple[Grid, ...]
    widths: tuple[int, ...]

    @classmethod
    def declare(cls, layout: Layout, tree: int, samples: int, width: int, bits: int, limb_bits_max: int) -> Limbs:
        """Declare them."""
        widths = limb_widths(bits, limb_bits_max)
        grids = tuple(layout.grid(tree, samples, width) for _ in widths)
        for grid, limb_bits in zip(grids, widths, strict=True):
            layout.look_up_grid(grid, layout.table(1 << limb_bits))
        return cls(grids, widths)

    def value(self) -> Expression:
        """Return the integer that the limbs spell."""
        shifts = [sum(self.widths[:number]) for number in range(len(self.widths))]
        return Expression(tuple((1 << shift, grid) for shift, grid in zip(shifts, self.grids, strict=True)))

    def place(self, layout: Layout, messages: FieldArray, values: IntArray) -> None:
        """Write non-negative integers (samples, width)."""
        shift = 0
        for number, (grid, bits) in enumerate(zip(self.grids, self.widths, strict=True)):
            part = values if shift == 0 else values >> np.int64(shift)
            if number < len(self.grids) - 1:
                part = part & np.int64((1 << bits) - 1)
            place_grid(layout, messages, grid, part.view(np.uint64))
            shift += bits


def limb_widths(bits: int, limb_bits_max: int) -> tuple[int, ...]:
    """Return how many bits each limb holds: as few limbs as may be, about equal."""
    count = max(1, -(-bits // limb_bits_max))
    return tuple(bits * (number + 1) // count - bits * number // count for number in range(count))


def place_grid(layout: Layout, messages: FieldArray, grid: Grid, values: FieldArray) -> None:
    """Write a matrix (samples, width) of field elements; what is behind it stays 0."""
    for piece in grid.pieces:
        rows = messages[layout.tree_slice(piece.rows.tree)][piece.rows.first : piece.rows.first + piece.rows.count]
        target = rows.reshape(-1, piece.width)
        target[: grid.samples, : piece.used] = values[:, piece.start : piece.start + piece.used]


def signed(values: IntArray) -> FieldArray:
    """Return signed integers as elements of F."""
    return encode_signed(np.ascontiguousarray(values))
