"""From the last layer's sums Z to its errors D: sigmoid, softmax and squared error, as docs/spec/learning.md defines
them.

Each loss has its trace tensors, its relations (weighed by chi, samples by rho, outputs by tau) and its error as an
expression. s = 2 f - 8 is the shift from Z to a table's index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from collegium import learning
from collegium.algebra import Ext, FieldArray, P, ext_scale
from collegium.learning import ModelSpec, Rule, SigmoidOutput, SoftmaxOutput, SquaredOutput

from ._errors import StatementError
from ._expressions import Expression, Limbs, place_grid
from ._layout import Grid, Layout
from ._sums import Sums, ext_sum, scalar

__all__ = ["LOSS_RELATIONS", "LossTensors", "Sigmoid", "Softmax", "Squared", "declare_loss"]

INDEX_BITS = 8
TABLE_HALF = learning.INDEX_LIMIT  # the sigmoid's table goes from -TABLE_HALF to TABLE_HALF - 1
_TABLE_BITS = 12

Output = SigmoidOutput | SoftmaxOutput | SquaredOutput


LOSS_RELATIONS = 5  # the most that a loss weighs


class LossTensors(Protocol):
    """One loss of one statement."""

    def error(self, labels: Grid) -> Expression:
        """Return D."""
        ...

    def add_rest(self, sums: Sums, vector: FieldArray) -> None:
        """Add - sum_ij base^i vector_j Z_ij, Z as these tensors spell it and base the sums' own."""
        ...

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext]) -> None:
        """Add the other relations."""
        ...

    def fill(self, layout: Layout, messages: FieldArray, output: Output) -> None:
        """Write the private side."""
        ...


def declare_loss(layout: Layout, spec: ModelSpec, rule: Rule, rows: int, sum_bound: int) -> LossTensors:
    """Declare the tensors of the rule's loss; |Z| <= sum_bound."""
    declare = {"sigmoid": Sigmoid.declare, "squared": Squared.declare, "softmax": Softmax.declare}[rule.loss]
    return declare(layout, spec, rule, rows, sum_bound)


def _boolean(layout: Layout, *grids: Grid) -> None:
    for grid in grids:
        layout.constrain_grids((1, (grid, grid)), (P - 1, (grid,)))


def _targets(labels: Grid, one: int) -> Expression:
    return Expression(((-one, labels),))


@dataclass(frozen=True, slots=True)
class Squared:
    """Z = 2^f Q + R, D = Q - target."""

    rows: int
    one: int
    remainder: Limbs
    quotient: Limbs  # Q + offset
    offset: int

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, rows: int, sum_bound: int) -> LossTensors:
        """Declare the tensors."""
        offset = 1 << (sum_bound >> rule.fraction_bits).bit_length()
        widths = (rule.fraction_bits, offset.bit_length())
        remainder, quotient = (
            Limbs.declare(layout, layout.trace, rows, spec.outputs, bits, _TABLE_BITS) for bits in widths
        )
        return cls(rows, rule.one, remainder, quotient, offset)

    def error(self, labels: Grid) -> Expression:
        """Return Q - target."""
        return self.quotient.value() + Expression(constant=-self.offset) + _targets(labels, self.one)

    def add_rest(self, sums: Sums, vector: FieldArray) -> None:
        """Z = 2^f Q + R."""
        quotient = self.quotient.value() + Expression(constant=-self.offset)
        (quotient.times(-self.one) + self.remainder.value().times(-1)).add_to(sums, vector, self.rows)

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext]) -> None:
        """Nothing else is weighed."""

    def fill(self, layout: Layout, messages: FieldArray, output: Output) -> None:
        """Write Q and R."""
        output = cast(SquaredOutput, output)
        self.quotient.place(layout, messages, output.quotient + self.offset)
        self.remainder.place(layout, messages, output.remainder)


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """Z = 2^s i + R, i + half = t + (high - low) e with t in the table, p = table[t], D = p - 2^f y.

    Where high or low is 1, t is the table's last or first entry, so an index beyond the table has its outermost value.
    """

    rows: int
    one: int
    shift: int
    first_value: int
    remainder: Limbs
    place: Grid  # t
    value: Grid  # p - table[0], looked up with t
    high: Grid
    low: Grid
    excess: Limbs  # e

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, rows: int, sum_bound: int) -> LossTensors:
        """Declare the tensors."""
        shift, table, tree = (
            2 * rule.fraction_bits - INDEX_BITS,
            learning.sigmoid_table(rule.fraction_bits),
            layout.trace,
        )
        excess_bits = ((sum_bound >> shift) + 1).bit_length()
        remainder, excess = (Limbs.declare(layout, tree, rows, 1, bits, _TABLE_BITS) for bits in (shift, excess_bits))
        place, value, high, low = (layout.grid(tree, rows, 1) for _ in range(4))
        first_value = int(table[0])
        seconds = [int(entry) - first_value for entry in table]
        layout.look_up_grid(place, layout.table(len(table), seconds), value)
        _boolean(layout, high, low)
        layout.constrain_grids((1, (high, place)), (P - (len(table) - 1), (high,)))
        layout.constrain_grids((1, (low, place)))
        return cls(rows, rule.one, shift, first_value, remainder, place, value, high, low, excess)

    def index(self) -> Expression:
        """Return i."""
        excess = self.excess.value()
        beyond = excess.selected(self.high) + excess.selected(self.low).times(-1)
        return Expression(((1, self.place),), constant=-TABLE_HALF) + beyond

    def error(self, labels: Grid) -> Expression:
        """Return p - 2^f y."""
        return Expression(((1, self.value),), constant=self.first_value) + _targets(labels, self.one)

    def add_rest(self, sums: Sums, vector: FieldArray) -> None:
        """Z = 2^s i + R."""
        rest = self.index().times(-(1 << self.shift)) + self.remainder.value().times(-1)
        rest.add_to(sums, vector, self.rows)

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext]) -> None:
        """Nothing else is weighed."""

    def fill(self, layout: Layout, messages: FieldArray, output: Output) -> None:
        """Write index and probability."""
        output = cast(SigmoidOutput, output)
        inside = np.clip(output.index, -TABLE_HALF, TABLE_HALF - 1)
        beyond = output.index - inside
        for grid, values in (
            (self.place, inside + TABLE_HALF),
            (self.value, output.probability - self.first_value),
            (self.high, (beyond > 0).astype(np.int64)),
            (self.low, (beyond < 0).astype(np.int64)),
        ):
            place_grid(layout, messages, grid, values[:, None].view(np.uint64))
        self.excess.place(layout, messages, np.abs(beyond)[:, None])
        self.remainder.place(layout, messages, output.index_remainder[:, None])


@dataclass(frozen=True, slots=True)
class Softmax:
    """t_c = M - d_c >= ..., d_c = m + h e, E = table[m]; G = sum_c E_c; 2^f E = p G + r, 0 <= r < G; D = p - 2^f [c =
    y].

    M is the maximum because some d_c is 0 (one-hot `top`) and none is negative.
    """

    rows: int
    outputs: int
    one: int
    shift: int
    remainder: Limbs
    maximum: Limbs  # (rows, 1), M + offset
    offset: int
    near: Grid  # m
    power: Grid  # 2^f - E, looked up with m
    far: Grid  # h
    excess: Limbs  # e
    top: Grid
    normaliser: Grid  # G, repeated for every class
    probability: Grid
    rest: Limbs  # r
    room: Limbs  # G - 1 - r

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, rows: int, sum_bound: int) -> LossTensors:
        """Declare the tensors."""
        tree, outputs, one = layout.trace, spec.outputs, rule.one
        shift, table = 2 * rule.fraction_bits - INDEX_BITS, learning.exponential_table(rule.fraction_bits)
        offset = 1 << ((sum_bound >> shift) + 1).bit_length()
        if (3 * offset + len(table) << shift) + sum_bound >= P:
            raise StatementError(f"logits up to {sum_bound} could wrap around the field under softmax")
        near, power, far, top, normaliser, probability = (layout.grid(tree, rows, outputs) for _ in range(6))
        limbs = [
            Limbs.declare(layout, tree, rows, width, bits, _TABLE_BITS)
            for width, bits in (
                (outputs, shift),
                (1, offset.bit_length()),
                (outputs, offset.bit_length()),
                (outputs, (outputs * one).bit_length()),
                (outputs, (outputs * one).bit_length()),
            )
        ]
        remainder, maximum, excess, rest, room = limbs
        layout.look_up_grid(near, layout.table(len(table), [one - int(entry) for entry in table]), power)
        layout.look_up_grid(probability, layout.table(one + 1))
        _boolean(layout, far, top)
        layout.constrain_grids((1, (far, near)), (P - (len(table) - 1), (far,)))
        layout.constrain_grids((1, (top, near)))
        layout.constrain_grids((1, (top, far)))
        return cls(
            rows, outputs, one, shift, remainder, maximum, offset, near, power, far, excess, top, normaliser,
            probability, rest, room,
        )  # fmt: skip

    def error(self, labels: Grid) -> Expression:
        """Return p - 2^f [c = y]."""
        return Expression(((1, self.probability),)) + _targets(labels, self.one)

    def add_rest(self, sums: Sums, vector: FieldArray) -> None:
        """Z = 2^s (M - d) + R."""
        scale = 1 << self.shift
        distance = Expression(((1, self.near),)) + self.excess.value().selected(self.far)
        (distance.times(scale) + self.remainder.value().times(-1)).add_to(sums, vector, self.rows)
        maximum = self.maximum.value() + Expression(constant=-self.offset)
        maximum.times(-scale).add_to(sums, scalar(ext_sum(vector)), self.rows)

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext]) -> None:
        """Add four relations, in the order of the class's first line."""
        rows, ones = self.rows, np.zeros((2, self.outputs), np.uint64)
        ones[0] = 1
        exponential = Expression(((-1, self.power),), constant=self.one)
        # one class is the top
        Expression(((1, self.top),)).add_to(sums, ext_scale(ones, chis[0]), rows)
        Expression(constant=-1).add_to(sums, scalar(chis[0]), rows)
        # G = sum of E
        vector = ext_scale(taus, chis[1])
        Expression(((1, self.normaliser),)).add_to(sums, vector, rows)
        exponential.times(-1).add_to(sums, ext_scale(ones, ext_sum(vector)), rows)
        # 2^f E - p G - r = 0
        vector = ext_scale(taus, chis[2])
        division = exponential.times(self.one) + self.rest.value().times(-1)
        (division + Expression(products=((-1, self.probability, self.normaliser),))).add_to(sums, vector, rows)
        # G - 1 - r - room = 0
        vector = ext_scale(taus, chis[3])
        used = self.rest.value().times(-1) + self.room.value().times(-1)
        (used + Expression(((1, self.normaliser),), constant=-1)).add_to(sums, vector, rows)

    def fill(self, layout: Layout, messages: FieldArray, output: Output) -> None:
        """Write every integer from the logits' indices to the probabilities."""
        output = cast(SoftmaxOutput, output)
        cap = (1 << _TABLE_BITS) - 1
        near = np.minimum(output.distance, cap)
        top = output.distance.argmin(axis=1)[:, None] == np.arange(self.outputs)
        total = np.repeat(output.normaliser[:, None], self.outputs, axis=1)
        for grid, values in (
            (self.near, near),
            (self.power, self.one - output.exponential),
            (self.far, (output.distance > cap).astype(np.int64)),
            (self.top, top.astype(np.int64)),
            (self.normaliser, total),
            (self.probability, output.probability),
        ):
            place_grid(layout, messages, grid, values.view(np.uint64))
        self.excess.place(layout, messages, output.distance - near)
        self.maximum.place(layout, messages, output.maximum[:, None] + self.offset)
        self.remainder.place(layout, messages, output.index_remainder)
        self.rest.place(layout, messages, output.division_remainder)
        self.room.place(layout, messages, total - 1 - output.division_remainder)
