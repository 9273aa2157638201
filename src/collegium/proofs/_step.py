"""One gradient step in the argument's terms: forward, loss, backward and gradient, docs/spec/proofs.md, section 4.3.

`StepTensors` are the numbers of one step on all registered rows. What multiplies them, the parameters, is public
(`PublicWeights`) or committed (`_local.CommittedWeights`).

  1. forward   A_(l-1) W_l + 2^f b_l = 2^f Q_l + R_l,  Q_l = 2 S U - U + S - 1,  A_l = S U,  S in {0, 1}
  2. loss      from the last Z to D_L
  3. backward  D_l W_l^T = 2^f B_(l-1) + R',  D_(l-1) = S B
  4. gradient  P_i = sum_a mu^(H a) A_ia,  V_i = sum_h mu^h D_ih,  sum_i P_i V_i = sum_ah mu^(H a + h) G_ah

A first layer that reads patches is the same layer on every patch: its sums run over patches too, in (4) over one P and
one V a patch, section 4.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    add,
    ext_matvec,
    ext_mul,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
)
from collegium.learning import ModelSpec, Rule, StepTrace

from ._data import DataShape, DataTensors
from ._expressions import Expression, Limbs, place_grid, signed
from ._layout import Grid, Layout
from ._loss import LOSS_RELATIONS, LossTensors, declare_loss
from ._masked import IntArray
from ._program import FirstChallenges, SecondChallenges
from ._sums import Sums, X, ext_sum, outer, scalar

__all__ = [
    "Drawn",
    "Flags",
    "Hidden",
    "Pair",
    "PublicWeights",
    "Rest",
    "StepTensors",
    "Weights",
    "add_pair_product",
    "errors_of",
    "inner_vectors",
    "inputs_of",
    "limb_bits_for",
]

Flags = npt.NDArray[np.bool_]
Rest = Callable[[Sums, FieldArray], None]


@dataclass(frozen=True, slots=True)
class Hidden:
    """Trace tensors of one hidden layer."""

    remainder: Limbs
    selector: Grid
    unsigned: Limbs  # U = Q where S, else -Q - 1
    back_remainder: Limbs
    back: Limbs  # B + offset
    back_offset: int

    def quotient(self) -> Expression:
        """Return Q = 2 S U - U + S - 1."""
        value = self.unsigned.value()
        return value.selected(self.selector).times(2) + value.times(-1) + Expression(((1, self.selector),), constant=-1)

    def activation(self) -> Expression:
        """Return A = S U."""
        return self.unsigned.value().selected(self.selector)

    def back_value(self) -> Expression:
        """Return B."""
        return self.back.value() + Expression(constant=-self.back_offset)

    def error(self) -> Expression:
        """Return D = S B."""
        return self.back_value().selected(self.selector)


@dataclass(frozen=True, slots=True)
class Pair:
    """A vector over K, one entry a sample, or one for each patch of a sample: two grids of that width."""

    first: Grid
    second: Grid

    @classmethod
    def declare(cls, layout: Layout, samples: int, width: int = 1) -> Pair:
        """Declare it in the products' tree."""
        return cls(layout.grid(layout.products, samples, width), layout.grid(layout.products, samples, width))

    def add_to(self, sums: Sums, weight: Ext) -> None:
        """Add weight x sum_i rho^i value_i, of width 1."""
        self.add_weighed(sums, scalar(weight))

    def add_weighed(self, sums: Sums, vector: FieldArray) -> None:
        """Add sum_ip rho^i vector_p value_ip."""
        sums.linear(self.first, vector)
        sums.linear(self.second, ext_scale(vector, X))

    def add_some(self, sums: Sums, weight: Ext, flags: Flags) -> None:
        """Add weight x sum_i flags_i sum_p value_ip."""
        sums.indicated(self.first, None, weight, flags)
        sums.indicated(self.second, None, ext_mul(weight, X), flags)

    def place(self, layout: Layout, messages: FieldArray, values: FieldArray) -> None:
        """Write values (2, samples x width), a sample's one after another."""
        for grid, part in zip((self.first, self.second), values, strict=True):
            place_grid(layout, messages, grid, np.ascontiguousarray(part).reshape(-1, grid.width))


def add_pair_product(sums: Sums, left: Pair, right: Pair, weight: Ext, flags: Flags) -> None:
    """Add weight x sum_i flags_i sum_p left_ip right_ip."""
    crosswise = ext_mul(weight, X)
    sums.indicated(left.first, right.first, weight, flags)
    sums.indicated(left.second, right.second, ext_mul(crosswise, X), flags)
    sums.indicated(left.first, right.second, crosswise, flags)
    sums.indicated(left.second, right.first, crosswise, flags)


class Weights(Protocol):
    """A step's parameters. `rest(sums, vector)` adds - sum_ij base^i vector_j Z_ij, base the sums' own."""

    def add_forward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """Demand A W + 2^f b = Z of a layer, for every sample and unit."""
        ...

    def add_backward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """Demand D W^T = Z of a layer, for every sample and input."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """The challenges of a statement, and the powers of tau."""

    first: FirstChallenges
    second: SecondChallenges

    def taus(self, width: int) -> FieldArray:
        """Return 1, tau, tau^2, ..."""
        return ext_powers(self.second.tau, width)


@dataclass(frozen=True)
class StepTensors:
    """The tensors of one step on all rows of a data tree."""

    spec: ModelSpec
    rule: Rule
    shape: DataShape
    data: DataTensors
    hidden: tuple[Hidden, ...]
    loss: LossTensors
    inner: tuple[tuple[Pair, Pair], ...]  # (P, V) of each layer

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, shape: DataShape, data: DataTensors) -> StepTensors:
        """Declare them."""
        rows, tree, f = shape.rows, layout.trace, rule.fraction_bits
        bounds, hidden = learning.layer_bounds(spec, rule), []
        for layer, width in enumerate(spec.widths):
            limb = limb_bits_for(rows * width)
            largest = bounds[layer + 1].input
            if (
                rule.activation_limit is not None
            ):  # a limit of 1 is below the bound of an input, which counts a bias too
                largest = min(largest, rule.activation_limit * rule.one - 1)
            selector = layout.grid(tree, rows, width)
            layout.constrain_grids((1, (selector, selector)), (P - 1, (selector,)))
            offset = bounds[layer].error
            if rule.error_limit is None or offset != rule.error_limit * rule.one:
                offset = 1 << offset.bit_length()
            hidden.append(
                Hidden(
                    Limbs.declare(layout, tree, rows, width, f, limb),
                    selector,
                    Limbs.declare(layout, tree, rows, width, largest.bit_length(), limb),
                    Limbs.declare(layout, tree, rows, width, f, limb),
                    Limbs.declare(layout, tree, rows, width, offset.bit_length(), limb),
                    offset,
                )
            )
        loss = declare_loss(layout, spec, rule, rows, bounds[-1].sum)
        inner = tuple(
            (Pair.declare(layout, rows, count), Pair.declare(layout, rows, count)) for count in spec.positions
        )
        return cls(spec, rule, shape, data, tuple(hidden), loss, inner)

    @staticmethod
    def relations(spec: ModelSpec) -> int:
        """Return how many relations `add` weighs."""
        return 2 * len(spec.hidden) + LOSS_RELATIONS + 2 * len(spec.layers)

    @property
    def last(self) -> int:
        """The output layer's number."""
        return len(self.spec.layers) - 1

    def activation(self, layer: int) -> Expression:
        """Return A_layer, A_0 the features."""
        if layer == 0:
            return Expression(((1, self.data.features),), constant=-self.shape.limit)
        return self.hidden[layer - 1].activation()

    def error(self, layer: int) -> Expression:
        """Return D of layer + 1, the last one the loss's."""
        return self.hidden[layer].error() if layer < len(self.hidden) else self.loss.error(self.data.labels)

    # --- what is demanded

    def add(self, sums: Sums, weights: Weights, drawn: Drawn, numbers: Iterator[int]) -> None:
        """Add all relations of the step, numbered as they come."""
        rows, one, relation = self.shape.rows, self.rule.one, drawn.second.relation

        def rescaled(value: Expression, remainder: Limbs) -> Rest:
            rest = value.times(-one) + remainder.value().times(-1)
            return lambda some, vector: rest.add_to(some, vector, rows)

        # 1. forward
        for layer, hidden in enumerate(self.hidden):
            rest = rescaled(hidden.quotient(), hidden.remainder)
            weights.add_forward(sums, self, layer, drawn, relation(next(numbers)), rest)
        # 2. loss
        chis = [relation(next(numbers)) for _ in range(LOSS_RELATIONS)]
        weights.add_forward(sums, self, self.last, drawn, chis[0], self.loss.add_rest)
        self.loss.add(sums, drawn.taus(self.spec.outputs), chis[1:])
        # 3. backward
        for layer, hidden in enumerate(self.hidden):
            rest = rescaled(hidden.back_value(), hidden.back_remainder)
            weights.add_backward(sums, self, layer + 1, drawn, relation(next(numbers)), rest)
        # 4. gradient
        for layer, pairs in enumerate(self.inner):
            expressions = self.activation(layer), self.error(layer)
            vectors = inner_vectors(self.spec, layer, drawn.first.mu)
            patches = drawn.taus(self.spec.positions[layer])
            spread = spread_inputs(self.spec, layer, patches, vectors[0]), outer(patches, vectors[1])
            for pair, expression, vector in zip(pairs, expressions, spread, strict=True):
                chi = relation(next(numbers))
                expression.add_to(sums, ext_scale(vector, chi), rows)
                pair.add_weighed(sums, ext_scale(patches, ext_sub((0, 0), chi)))

    def add_gradient(self, sums: Sums, layer: int, mu: Ext, weight: Ext, chosen: Flags) -> None:
        """Add weight x sum mu^entry G_entry over the chosen rows; entries count from the layer's first."""
        fan_in, fan_out = self.spec.layers[layer]
        left, right = self.inner[layer]
        add_pair_product(sums, left, right, weight, chosen)
        # biases: 2^f sum_i D_ih
        right.add_some(sums, ext_mul(ext_mul(weight, ext_power(mu, fan_in * fan_out)), (self.rule.one, 0)), chosen)

    # --- the prover's side

    def fill(self, layout: Layout, messages: FieldArray, trace: StepTrace) -> None:
        """Write the integers of a step."""
        for hidden, forward, back in zip(self.hidden, trace.hidden, trace.back, strict=True):
            quotient = forward.quotient
            place_grid(layout, messages, hidden.selector, (quotient >= 0).view(np.uint8))
            hidden.unsigned.place(layout, messages, quotient ^ (quotient >> np.int64(63)))
            hidden.remainder.place(layout, messages, forward.remainder)
            hidden.back.place(layout, messages, back.quotient + hidden.back_offset)
            hidden.back_remainder.place(layout, messages, back.remainder)
        self.loss.fill(layout, messages, trace.output)

    def fill_products(
        self, layout: Layout, messages: FieldArray, features: IntArray, trace: StepTrace, mu: Ext
    ) -> None:
        """Write P and V of every layer."""
        read = features if self.spec.patches is None else self.spec.patches.unfold(features)
        for layer, (values, errors) in enumerate(zip(inputs_of(read, trace), errors_of(trace), strict=True)):
            vectors = inner_vectors(self.spec, layer, mu)
            matrices = values, errors.reshape(len(values), -1)
            for pair, matrix, vector in zip(self.inner[layer], matrices, vectors, strict=True):
                pair.place(layout, messages, ext_matvec(signed(matrix), vector))


def inputs_of(features: IntArray, trace: StepTrace) -> list[IntArray]:
    """Return the inputs A of every layer."""
    return [features, *(np.maximum(hidden.quotient, 0) for hidden in trace.hidden)]


def errors_of(trace: StepTrace) -> list[IntArray]:
    """Return the errors D of every layer."""
    backs = (b.quotient * (h.quotient >= 0) for h, b in zip(trace.hidden, trace.back, strict=True))
    return [*backs, trace.errors]


def inner_vectors(spec: ModelSpec, layer: int, mu: Ext) -> tuple[FieldArray, FieldArray]:
    """Return mu^(H a) over the inputs and mu^h over the units of a layer."""
    fan_in, fan_out = spec.layers[layer]
    return ext_powers(ext_power(mu, fan_out), fan_in), ext_powers(mu, fan_out)


def spread_inputs(spec: ModelSpec, layer: int, patches: FieldArray, entries: FieldArray) -> FieldArray:
    """Return what each input of a layer counts where entry j of patch p counts patches_p entries_j: (2, inputs)."""
    if layer or spec.patches is None:
        return outer(patches, entries)
    total = np.zeros((2, spec.inputs), np.uint64)
    for number, places in enumerate(spec.patches.indices().T):  # no input is one entry of two patches
        entry = int(entries[0, number]), int(entries[1, number])
        total[:, places] = add(np.ascontiguousarray(total[:, places]), ext_scale(patches, entry))
    return total


def limb_bits_for(elements: int) -> int:
    """Return the largest limb worth its table for so many lookups: 8 to 16 bits."""
    return max(8, min(16, elements.bit_length() - 2))


@dataclass(frozen=True)
class PublicWeights:
    """Parameters that everybody knows: products with them are linear in the committed numbers."""

    matrices: Sequence[tuple[FieldArray, FieldArray]]  # (fan_in, fan_out) and (fan_out,) of each layer
    one: int

    @classmethod
    def of(cls, spec: ModelSpec, rule: Rule, parameters: IntArray) -> PublicWeights:
        """Return a model's."""
        made, start = [], 0
        for fan_in, fan_out in spec.layers:
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weights = signed(parameters[start:middle]).reshape(fan_in, fan_out)
            made.append((weights, signed(parameters[middle:end])))
            start = end
        return cls(made, rule.one)

    def add_forward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """A W + 2^f b = Z at powers of rho and tau."""
        spec, rows, width = step.spec, step.shape.rows, step.spec.layers[layer][1]
        vector, units = ext_scale(drawn.taus(width * spec.positions[layer]), chi), drawn.taus(width)
        patches = np.ascontiguousarray(vector[:, ::width])  # output p width + u counts patches_p units_u
        weights, bias = self.matrices[layer]
        step.activation(layer).add_to(sums, spread_inputs(spec, layer, patches, ext_matvec(weights, units)), rows)
        shift = ext_scale(ext_matvec(bias.reshape(1, -1), ext_scale(units, (self.one, 0))), ext_sum(patches))
        sums.constant(ext_mul(sums.samples_total(rows), (int(shift[0, 0]), int(shift[1, 0]))))
        rest(sums, vector)

    def add_backward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """D W^T = Z at powers of rho and tau."""
        vector = ext_scale(drawn.taus(step.spec.layers[layer][0]), chi)
        weights, _ = self.matrices[layer]
        step.error(layer).add_to(sums, ext_matvec(np.ascontiguousarray(weights.T), vector), step.shape.rows)
        rest(sums, vector)
