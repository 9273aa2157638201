"""From the last layer's sums Z to what a model is worth: the summed loss in millionths and the rows classified right.

The numbers are those of `learning.evaluate`; a loss's own tensors (`_loss`) are there already. Sums over rows count the
genuine ones alone. docs/spec/proofs.md, section 4.6.

  sigmoid   t' = t or, at label 1, its mirror; (t', loss) and (t', wrong) looked up; beyond the table 8 q + r =
            15625 (2 i' + 1) above, 0 below
  squared   15625 sum_c D_c^2 = 2^(2f - 5) q + r
  softmax   2^12 G = 2^(f + k) (2^12 + j) + r, ln G / 2^f = doubling[k] + logarithm[j];  15625 d_label = 4 q + r
  classes   Z_c + gap_c + [c before the predicted] = peak, gap 0 at the predicted: the first of the largest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.algebra import Ext, FieldArray, P, ext_add, ext_mul, ext_scale
from collegium.learning import ModelSpec, Rule, SigmoidOutput, SoftmaxOutput, SquaredOutput

from ._errors import StatementError
from ._expressions import Expression, Limbs, place_grid, signed
from ._layout import Grid, Layout
from ._loss import TABLE_HALF, LossTensors, Output, Sigmoid, Softmax, Squared
from ._masked import IntArray
from ._sums import Sums, ext_sum, scalar

__all__ = ["VALUE_RELATIONS", "ValueTensors", "declare_value"]

VALUE_RELATIONS = 8  # the most that a value weighs, its two totals among them
_LIMB_BITS = 12
_MICRO = 15625  # 10^6 = 2^6 x 15625
_LOGARITHM_BITS = 12

AddZ = Callable[[Ext, Callable[[Sums, FieldArray], None]], None]
"""(chi, rest): demands of every sample and output that Z is what `rest` spells, as `Weights.add_forward` does."""


class ValueTensors(Protocol):
    """What is committed beside one loss's tensors."""

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext], add_z: AddZ) -> None:
        """Add the relations but for the totals."""
        ...

    def add_loss(self, sums: Sums, chi: Ext) -> None:
        """Add chi x the summed loss in millionths."""
        ...

    def add_correct(self, sums: Sums, chi: Ext) -> None:
        """Add chi x the rows classified right."""
        ...

    def fill(self, layout: Layout, messages: FieldArray, output: Output, labels: IntArray) -> None:
        """Write the private side."""
        ...


def declare_value(
    layout: Layout, spec: ModelSpec, rule: Rule, rows: int, loss: LossTensors, labels: Grid
) -> ValueTensors:
    """Declare the tensors that a loss's value takes.

    Raises:
        StatementError: the loss's integers could wrap around the field.
    """
    bound = learning.layer_bounds(spec, rule)[-1].sum
    if rule.loss == "sigmoid":
        return _SigmoidValue.declare(layout, rows, cast(Sigmoid, loss), labels)
    classes = None if spec.outputs == 1 else _Classes.declare(layout, rows, spec.outputs, bound, labels)
    if rule.loss == "squared":
        return _SquaredValue.declare(layout, rule, rows, cast(Squared, loss), labels, classes)
    return _SoftmaxValue.declare(layout, rule, rows, cast(Softmax, loss), labels, cast(_Classes, classes))


def _within(bound: int, what: str) -> None:
    if bound >= P:
        raise StatementError(f"{what} may reach {bound}, expected less than the field's {P}: this is not proved")


def _sum_rows(sums: Sums, grid: Grid, weight: Ext, factor: int, other: Grid | None = None) -> None:
    """Add weight x factor x sum over the genuine rows of grid_i [other_i], width 1."""
    sums.indicated(grid, other, ext_mul(weight, (factor % P, 0)), np.ones(grid.samples, np.bool_))


def _sum_limbs(sums: Sums, limbs: Limbs, weight: Ext) -> None:
    for coefficient, grid in limbs.value().linear:
        _sum_rows(sums, grid, weight, coefficient)


def _limbs(layout: Layout, rows: int, width: int, largest: int) -> Limbs:
    return Limbs.declare(layout, layout.trace, rows, width, max(1, largest.bit_length()), _LIMB_BITS)


def _column(values: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> FieldArray:
    return np.ascontiguousarray(values).astype(np.int64).view(np.uint64)[:, None]


@dataclass(frozen=True, slots=True)
class _SigmoidValue:
    """With i' the index, mirrored at label 1: `up` where i' passes the table above, `down` below."""

    rows: int
    loss: Sigmoid
    up: Grid
    down: Grid
    mirrored: Grid  # t'
    value: Grid  # the table's loss less its first entry, looked up with t'
    wrong: Grid  # [t' >= half], looked up with t'
    beyond: Limbs  # excess - 1 where up or down
    linear: Limbs  # q
    rest: Limbs  # r

    @classmethod
    def declare(cls, layout: Layout, rows: int, loss: Sigmoid, labels: Grid) -> ValueTensors:
        """Declare the tensors."""
        table, last = learning.softplus_table(), 2 * TABLE_HALF - 1
        excess = (1 << sum(loss.excess.widths)) - 1
        largest = _MICRO * (last + 2 * excess) // 8
        _within((rows + 16) * (largest + int(table[-1]) + 1), "a summed loss")
        up, down, mirrored, value, wrong = (layout.grid(layout.trace, rows, 1) for _ in range(5))
        for place, high, low in ((up, loss.high, loss.low), (down, loss.low, loss.high)):
            layout.constrain_grids((1, (place,)), (P - 1, (high,)), (1, (labels, high)), (P - 1, (labels, low)))
        layout.constrain_grids(
            (1, (mirrored,)), (P - 1, (loss.place,)), (P - last, (labels,)), (2, (labels, loss.place))
        )
        first = int(table[0])
        layout.look_up_grid(mirrored, layout.table(last + 1, [int(entry) - first for entry in table]), value)
        layout.look_up_grid(mirrored, layout.table(last + 1, [int(t >= TABLE_HALF) for t in range(last + 1)]), wrong)
        beyond, linear, rest = (_limbs(layout, rows, 1, most) for most in (excess, largest, 7))
        return cls(rows, loss, up, down, mirrored, value, wrong, beyond, linear, rest)

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext], add_z: AddZ) -> None:
        """(up + down) e = beyond + up + down;  8 q + r = 15625 up (2 half - 1 + 2 e), as i' = half - 1 + e."""
        excess = self.loss.excess.value()
        above, below = excess.selected(self.up), excess.selected(self.down)
        strict = above + below + Expression(((-1, self.up), (-1, self.down))) + self.beyond.value().times(-1)
        strict.add_to(sums, scalar(chis[0]), self.rows)
        line = above.times(-2 * _MICRO) + Expression(((-_MICRO * (2 * TABLE_HALF - 1), self.up),))
        (line + self.linear.value().times(8) + self.rest.value()).add_to(sums, scalar(chis[1]), self.rows)

    def add_loss(self, sums: Sums, chi: Ext) -> None:
        """The table's loss; 0 where down; q where up."""
        table = learning.softplus_table()
        _sum_rows(sums, self.value, chi, 1)
        sums.constant(ext_mul(chi, (self.rows * int(table[0]) % P, 0)))
        _sum_rows(sums, self.down, chi, -int(table[0]))
        _sum_rows(sums, self.up, chi, -int(table[-1]))
        _sum_limbs(sums, self.linear, chi)

    def add_correct(self, sums: Sums, chi: Ext) -> None:
        """Rows that are not wrong."""
        sums.constant(ext_mul(chi, (self.rows, 0)))
        _sum_rows(sums, self.wrong, chi, -1)

    def fill(self, layout: Layout, messages: FieldArray, output: Output, labels: IntArray) -> None:
        """Write every integer from the index to the loss."""
        index = cast(SigmoidOutput, output).index
        table = learning.softplus_table()
        turned = np.where(labels == 1, -1 - index, index)
        inside = np.clip(turned, -TABLE_HALF, TABLE_HALF - 1)
        excess, up = np.abs(turned - inside), turned > inside
        place = inside + TABLE_HALF
        for grid, values in (
            (self.up, up),
            (self.down, turned < inside),
            (self.mirrored, place),
            (self.value, table[place] - table[0]),
            (self.wrong, place >= TABLE_HALF),
        ):
            place_grid(layout, messages, grid, _column(values))
        line = np.where(up, _MICRO * (2 * TABLE_HALF - 1 + 2 * excess), 0)
        self.beyond.place(layout, messages, np.maximum(excess - 1, 0)[:, None])
        self.linear.place(layout, messages, (line >> 3)[:, None])
        self.rest.place(layout, messages, (line & 7)[:, None])


@dataclass(frozen=True, slots=True)
class _Classes:
    """The class of several outputs: the largest Z, the first of equal ones."""

    rows: int
    outputs: int
    labels: Grid
    predicted: Grid  # one 1 a row
    gap: Limbs  # peak - Z_c - [c before the predicted]
    peak: Grid  # Z of the predicted
    hit: Grid

    @classmethod
    def declare(cls, layout: Layout, rows: int, outputs: int, sum_bound: int, labels: Grid) -> _Classes:
        """Declare the tensors."""
        gap = _limbs(layout, rows, outputs, 2 * sum_bound)
        _within((1 << sum(gap.widths)) + 2 * sum_bound + 1, "the gap between two outputs")
        predicted = layout.grid(layout.trace, rows, outputs)
        layout.constrain_grids((1, (predicted, predicted)), (P - 1, (predicted,)))
        for limb in gap.grids:
            layout.constrain_grids((1, (predicted, limb)))
        peak, hit = (layout.grid(layout.trace, rows, 1) for _ in range(2))
        return cls(rows, outputs, labels, predicted, gap, peak, hit)

    def add(self, sums: Sums, chis: Sequence[Ext], add_z: AddZ) -> None:
        """One class is predicted; Z_c + gap_c + [c before it] = peak; hit where it is the label."""
        ones = np.zeros((2, self.outputs), np.uint64)
        ones[0] = 1
        Expression(((1, self.predicted),)).add_to(sums, ext_scale(ones, chis[0]), self.rows)
        Expression(constant=-1).add_to(sums, scalar(chis[0]), self.rows)

        def rest(some: Sums, vector: FieldArray) -> None:
            self.gap.value().add_to(some, vector, self.rows)
            some.linear(self.predicted, _before(vector))
            some.linear(self.peak, scalar(ext_mul(ext_sum(vector), (P - 1, 0))))

        add_z(chis[1], rest)
        hits = Expression(products=((1, self.predicted, self.labels),))
        hits.add_to(sums, ext_scale(ones, chis[2]), self.rows)
        Expression(((-1, self.hit),)).add_to(sums, scalar(chis[2]), self.rows)

    def add_correct(self, sums: Sums, chi: Ext) -> None:
        """Rows that are hit."""
        _sum_rows(sums, self.hit, chi, 1)

    def fill(self, layout: Layout, messages: FieldArray, logits: IntArray, labels: IntArray) -> None:
        """Write every integer from Z (rows, outputs) to the hits."""
        first = logits.argmax(axis=1)
        classes = np.arange(self.outputs)
        peak = logits.max(axis=1)
        before = classes < first[:, None]
        place_grid(layout, messages, self.predicted, (classes == first[:, None]).astype(np.uint64))
        self.gap.place(layout, messages, peak[:, None] - logits - before)
        place_grid(layout, messages, self.peak, signed(peak)[:, None])
        place_grid(layout, messages, self.hit, _column(first == labels))


@dataclass(frozen=True, slots=True)
class _SquaredValue:
    """Half the squared errors in millionths, each row's rounded down."""

    rows: int
    shift: int
    half: int
    loss: Squared
    labels: Grid
    linear: Limbs  # q
    rest: Limbs  # r
    classes: _Classes | None
    positive: Grid | None  # one output: S of Q - half = 2 S U - U + S - 1
    distance: Limbs | None  # U

    @classmethod
    def declare(
        cls, layout: Layout, rule: Rule, rows: int, loss: Squared, labels: Grid, classes: _Classes | None
    ) -> ValueTensors:
        """Declare the tensors."""
        shift, offset = 2 * rule.fraction_bits - 5, (1 << sum(loss.quotient.widths)) + rule.one
        outputs = labels.width
        largest = _MICRO * outputs * offset**2
        _within(2 * largest, "a row's squared errors")
        linear, rest = (_limbs(layout, rows, 1, most) for most in (largest >> shift, (1 << shift) - 1))
        _within(rows << sum(linear.widths), "a summed loss")
        _within((1 << sum(linear.widths) + shift + 1) + largest, "a row's loss")
        positive, distance = None, None
        if classes is None:
            positive = layout.grid(layout.trace, rows, 1)
            layout.constrain_grids((1, (positive, positive)), (P - 1, (positive,)))
            distance = _limbs(layout, rows, 1, offset)
        return cls(rows, shift, rule.one >> 1, loss, labels, linear, rest, classes, positive, distance)

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext], add_z: AddZ) -> None:
        """15625 sum_c D_c^2 = 2^shift q + r; the sign of Q - 1/2, or the class."""
        ones = np.zeros((2, self.labels.width), np.uint64)
        ones[0] = 1
        self.loss.error(self.labels).squared().times(_MICRO).add_to(sums, ext_scale(ones, chis[0]), self.rows)
        spelled = self.linear.value().times(-(1 << self.shift)) + self.rest.value().times(-1)
        spelled.add_to(sums, scalar(chis[0]), self.rows)
        if self.classes is not None:
            self.classes.add(sums, chis[1:], add_z)
        elif self.positive is not None and self.distance is not None:
            value = self.distance.value()
            away = value.selected(self.positive).times(-2) + value + Expression(((-1, self.positive),), constant=1)
            quotient = self.loss.quotient.value() + Expression(constant=-self.loss.offset - self.half)
            (quotient + away).add_to(sums, scalar(chis[1]), self.rows)

    def add_loss(self, sums: Sums, chi: Ext) -> None:
        """The rows' q."""
        _sum_limbs(sums, self.linear, chi)

    def add_correct(self, sums: Sums, chi: Ext) -> None:
        """Rows that are hit; of one output those with S = y, 1 - S - y + 2 S y."""
        if self.classes is not None:
            self.classes.add_correct(sums, chi)
        elif self.positive is not None:
            sums.constant(ext_mul(chi, (self.rows, 0)))
            _sum_rows(sums, self.positive, chi, -1)
            _sum_rows(sums, self.labels, chi, -1)
            _sum_rows(sums, self.positive, chi, 2, self.labels)

    def fill(self, layout: Layout, messages: FieldArray, output: Output, labels: IntArray) -> None:
        """Write every integer from the errors to the loss."""
        squared = cast(SquaredOutput, output)
        one, outputs = self.loss.one, self.labels.width
        hits = labels[:, None] if outputs == 1 else labels[:, None] == np.arange(outputs)
        errors = squared.quotient - one * hits
        total = _MICRO * (errors * errors).sum(axis=1, keepdims=True)
        self.linear.place(layout, messages, total >> self.shift)
        self.rest.place(layout, messages, total & ((1 << self.shift) - 1))
        if self.classes is not None:
            self.classes.fill(layout, messages, squared.quotient * one + squared.remainder, labels)
        elif self.positive is not None and self.distance is not None:
            away = squared.quotient - self.half
            place_grid(layout, messages, self.positive, (away >= 0).astype(np.uint64))
            self.distance.place(layout, messages, away ^ (away >> np.int64(63)))


@dataclass(frozen=True, slots=True)
class _SoftmaxValue:
    """ln(G / 2^f) + d / 256 of the label's distance d, each term in millionths and rounded as in the rule."""

    rows: int
    loss: Softmax
    labels: Grid
    classes: _Classes
    distance: Grid  # d = m + h e
    linear: Limbs  # q
    rest: Limbs  # r
    doublings: Grid  # k
    power: Grid  # 2^k - 1, looked up with k
    doubled: Grid  # 10^6 k ln 2, looked up with k
    cell: Grid  # j
    logarithm: Grid  # 10^6 ln(1 + j / 2^12), looked up with j
    below: Limbs  # what 2^12 G exceeds its cell by
    room: Limbs  # what the cell leaves above

    @classmethod
    def declare(
        cls, layout: Layout, rule: Rule, rows: int, loss: Softmax, labels: Grid, classes: _Classes
    ) -> ValueTensors:
        """Declare the tensors."""
        outputs = labels.width
        farthest = 2 * TABLE_HALF + (1 << sum(loss.excess.widths))
        logarithms, doublings = learning.logarithm_table(), learning.doubling_table()[: outputs.bit_length()].tolist()
        _within(2 * _MICRO * farthest, "a row's distance")
        largest = _MICRO * farthest >> 2
        linear, rest = (_limbs(layout, rows, 1, most) for most in (largest, 3))
        _within(rows * ((1 << sum(linear.widths)) + doublings[-1] + int(logarithms[-1])), "a summed loss")
        distance = layout.grid(layout.trace, rows, outputs)
        terms = [(P - c % P, (loss.far, grid)) for c, grid in loss.excess.value().linear]
        layout.constrain_grids((1, (distance,)), (P - 1, (loss.near,)), *terms)
        count, power, doubled, cell, logarithm = (layout.grid(layout.trace, rows, 1) for _ in range(5))
        layout.look_up_grid(count, layout.table(len(doublings), [(1 << k) - 1 for k in range(len(doublings))]), power)
        layout.look_up_grid(count, layout.table(len(doublings), doublings), doubled)
        layout.look_up_grid(cell, layout.table(len(logarithms), [int(entry) for entry in logarithms]), logarithm)
        below, room = (_limbs(layout, rows, 1, rule.one << len(doublings)) for _ in range(2))
        _within(rule.one << len(doublings) + _LOGARITHM_BITS + 2, "a row's normaliser")
        return cls(
            rows, loss, labels, classes, distance, linear, rest, count, power, doubled, cell, logarithm, below, room
        )

    def add(self, sums: Sums, taus: FieldArray, chis: Sequence[Ext], add_z: AddZ) -> None:
        """15625 d_label = 4 q + r;  2^12 G = 2^(f + k) (2^12 + j) + below;  below + room = 2^(f + k) - 1."""
        one, cells = self.loss.one, 1 << _LOGARITHM_BITS
        ones = np.zeros((2, self.labels.width), np.uint64)
        ones[0] = 1
        label = Expression(products=((_MICRO, self.labels, self.distance),))
        label.add_to(sums, ext_scale(ones, chis[0]), self.rows)
        (self.linear.value().times(-4) + self.rest.value().times(-1)).add_to(sums, scalar(chis[0]), self.rows)
        total = Expression(((-cells, self.loss.power),), constant=cells * one)
        total.add_to(sums, ext_scale(ones, chis[1]), self.rows)
        cell = Expression(
            ((-one * cells, self.power), (-one, self.cell)), ((-one, self.power, self.cell),), -one * cells
        )
        (cell + self.below.value().times(-1)).add_to(sums, scalar(chis[1]), self.rows)
        width = Expression(((-one, self.power),), constant=1 - one)
        (width + self.below.value() + self.room.value()).add_to(sums, scalar(chis[2]), self.rows)
        self.classes.add(sums, chis[3:], add_z)

    def add_loss(self, sums: Sums, chi: Ext) -> None:
        """The three terms."""
        _sum_limbs(sums, self.linear, chi)
        _sum_rows(sums, self.doubled, chi, 1)
        _sum_rows(sums, self.logarithm, chi, 1)

    def add_correct(self, sums: Sums, chi: Ext) -> None:
        """Rows that are hit."""
        self.classes.add_correct(sums, chi)

    def fill(self, layout: Layout, messages: FieldArray, output: Output, labels: IntArray) -> None:
        """Write every integer from distances and normaliser to the loss."""
        softmax = cast(SoftmaxOutput, output)
        place_grid(layout, messages, self.distance, softmax.distance.view(np.uint64))
        line = _MICRO * softmax.distance[np.arange(self.rows), labels]
        self.linear.place(layout, messages, (line >> 2)[:, None])
        self.rest.place(layout, messages, (line & 3)[:, None])
        bits = self.loss.one.bit_length() - 1
        total = softmax.normaliser << np.int64(_LOGARITHM_BITS)
        count = np.array([int(value).bit_length() - 1 - bits for value in softmax.normaliser], np.int64)
        cell = (total >> (bits + count)) - (1 << _LOGARITHM_BITS)
        below = total & ((np.int64(1) << (bits + count)) - 1)
        doublings = learning.doubling_table()[: self.labels.width.bit_length()]
        for grid, values in (
            (self.doublings, count),
            (self.power, (np.int64(1) << count) - 1),
            (self.doubled, doublings[count]),
            (self.cell, cell),
            (self.logarithm, learning.logarithm_table()[cell]),
        ):
            place_grid(layout, messages, grid, _column(values))
        self.below.place(layout, messages, below[:, None])
        self.room.place(layout, messages, ((np.int64(1) << (bits + count)) - 1 - below)[:, None])
        logits = (softmax.index << np.int64(self.loss.shift)) + softmax.index_remainder
        self.classes.fill(layout, messages, logits, labels)


def _before(vector: FieldArray) -> FieldArray:
    """Return at j the sum of the entries before j."""
    out, total = np.zeros_like(vector), (0, 0)
    for place in range(vector.shape[1]):
        out[:, place] = total
        total = ext_add(total, (int(vector[0, place]), int(vector[1, place])))
    return out
