"""Several local steps: the parameters between the steps are committed, and each step moves them by the rule.

A move from w to w' by a gradient G of n rows, learning rate a / b and limit l, entry by entry:

  2 a G + d = 2 d s + r,  0 <= r < 2 d,  d = b n 2^f;   w - s = w' + above - below
  0 <= w' + l <= 2 l;  above > 0 only where w' = l;  below > 0 only where w' = -l

G is not committed: the first line holds at mu, entries counted within their layer, G as sum P V and s replaced by the
second equation. Products with committed parameters, Z = A W + 2^f bias, W of J rows and then the bias:

  sum_iu mu^(H i + u) Z_iu = sum_j E_j T_j + 2^f (sum_i mu^(H i)) T_J
  E_j = sum_i mu^(H i) A_ij,  T_j = sum_u mu^u W_ju

and D W^T in the same way with mu^(J i + j). Behind a grid's samples its rows have powers of mu of their own, so that
nothing there meets a genuine entry; where they would meet, the genuine entries alone are summed (`Sums.head`). The
price grows with parameters x steps: some fourteen elements each. docs/spec/proofs.md, section 4.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    evaluate_ext,
    ext_matvec,
    ext_mul,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
)
from collegium.learning import ModelSpec, Rule, StepTrace

from ._data import DataShape, DataTensors
from ._errors import StatementError
from ._expressions import Expression, Limbs, signed
from ._layout import Layout
from ._masked import IntArray
from ._step import Drawn, Flags, Pair, Rest, StepTensors, add_pair_product, errors_of, inputs_of, limb_bits_for
from ._sums import Sums, ext_sum, power_sum

__all__ = ["LaterStep", "LocalWork", "Moved", "gradient_of", "local_steps", "local_work", "moved"]

# --- sums with other powers than rho's


def _add_linear_head(sums: Sums, value: Expression, samples: int, base: Ext, vector: FieldArray) -> None:
    """`_add_head` of a linear expression."""
    for coefficient, grid in value.linear:
        sums.head(grid, samples, base, ext_scale(vector, (coefficient % P, 0)))
    total = ext_mul(power_sum(base, samples), ext_sum(vector))
    sums.constant(ext_mul(total, (value.constant % P, 0)))


# --- one move


@dataclass(frozen=True, slots=True)
class MovedLayer:
    """One layer's parameters after a move, matrix and then biases: grids (fan_in + 1, fan_out)."""

    limit: int
    divisor: int  # 2 d
    upper: Limbs  # w' + l
    room: Limbs  # l - w'
    above: Limbs
    below: Limbs
    rest: Limbs  # r
    slack: Limbs  # 2 d - 1 - r

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, layer: int, batch: int) -> MovedLayer:
        """Declare the tensors.

        Raises:
            StatementError: an equation of the move could leave the integers that a prover computes with.
        """
        bound, (fan_in, fan_out) = learning.layer_bounds(spec, rule)[layer], spec.layers[layer]
        rate, samples = rule.learning_rate, fan_in + 1
        divisor = 2 * rate.denominator * batch * rule.one
        gradient = 2 * rate.numerator * batch * max(bound.input, rule.one) * bound.error
        beyond = (gradient + divisor) // divisor + 1
        largest = gradient + divisor * (8 * bound.parameter + 4 * beyond + 8)
        if largest >= 1 << 63:
            raise StatementError(f"a move of layer {layer} may reach {largest}, expected less than 2^63: not proved")
        bits = limb_bits_for(samples * fan_out)
        limbs = [
            Limbs.declare(layout, layout.trace, samples, fan_out, most.bit_length(), bits)
            for most in (2 * bound.parameter, 2 * bound.parameter, beyond, beyond, divisor - 1, divisor - 1)
        ]
        for outside, inside in ((limbs[2], limbs[1]), (limbs[3], limbs[0])):
            for limb in outside.grids:
                layout.constrain_grids(*((c, (limb, grid)) for c, grid in inside.value().linear))
        return cls(bound.parameter, divisor, *limbs)

    def value(self) -> Expression:
        """Return w'."""
        return self.upper.value() + Expression(constant=-self.limit)

    def fill(self, layout: Layout, messages: FieldArray, move: Move) -> None:
        """Write a layer's part of a move."""
        for limbs, values in (
            (self.upper, move.after + self.limit),
            (self.room, self.limit - move.after),
            (self.above, np.maximum(move.wanted - self.limit, 0)),
            (self.below, np.maximum(-self.limit - move.wanted, 0)),
            (self.rest, move.rest),
            (self.slack, self.divisor - 1 - move.rest),
        ):
            limbs.place(layout, messages, values.reshape(limbs.grids[0].samples, -1))


@dataclass(frozen=True, slots=True)
class Move:
    """Integers of a move: w - s, w' and r."""

    wanted: IntArray
    after: IntArray
    rest: IntArray


@dataclass(frozen=True)
class Moved:
    """The parameters after one step."""

    layers: tuple[MovedLayer, ...]

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, rule: Rule, batch: int) -> Moved:
        """Declare them."""
        return cls(tuple(MovedLayer.declare(layout, spec, rule, layer, batch) for layer in range(len(spec.layers))))

    @staticmethod
    def relations(spec: ModelSpec) -> int:
        """Return how many relations `add` weighs."""
        return 3 * len(spec.layers)

    def add(
        self,
        sums: Sums,
        step: StepTensors,
        before: Moved | IntArray,
        chosen: Flags,
        drawn: Drawn,
        numbers: Iterator[int],
    ) -> None:
        """Demand that these are the parameters `before`, moved by the step's gradient over the chosen rows."""
        start, mu = 0, drawn.first.mu
        for layer, (moved_layer, (fan_in, fan_out)) in enumerate(zip(self.layers, step.spec.layers, strict=True)):
            chis = [drawn.second.relation(next(numbers)) for _ in range(3)]
            samples, divisor, end = fan_in + 1, moved_layer.divisor, start + (fan_in + 1) * fan_out
            # 2 a G + d - 2 d (w - w' - above + below) - r = 0
            step.add_gradient(sums, layer, mu, ext_mul(chis[0], (2 * step.rule.learning_rate.numerator, 0)), chosen)
            step_size = moved_layer.value().times(-1) + moved_layer.above.value().times(-1) + moved_layer.below.value()
            if isinstance(before, Moved):
                step_size += before.layers[layer].value()
            else:
                known = evaluate_ext(signed(before[start:end]), mu)
                sums.constant(ext_mul(ext_mul(chis[0], (-divisor % P, 0)), (int(known[0]), int(known[1]))))
            rest = step_size.times(-divisor) + moved_layer.rest.value().times(-1) + Expression(constant=divisor // 2)
            inner = Sums(sums.layout, ext_power(mu, fan_out))
            rest.add_to(inner, ext_scale(ext_powers(mu, fan_out), chis[0]), samples)
            sums.absorb(inner)
            # w' + l and l - w', r and 2 d - 1 - r
            for low, high, total, chi in (
                (moved_layer.upper, moved_layer.room, 2 * moved_layer.limit, chis[1]),
                (moved_layer.rest, moved_layer.slack, divisor - 1, chis[2]),
            ):
                both = low.value() + high.value() + Expression(constant=-total)
                both.add_to(sums, ext_scale(drawn.taus(fan_out), chi), samples)
            start = end

    def add_update(self, sums: Sums, spec: ModelSpec, parameters: IntArray, mu: Ext, weight: Ext) -> None:
        """Add weight x sum mu^entry (w' - parameters)_entry over all entries of the model."""
        start = 0
        for layer, (fan_in, fan_out) in zip(self.layers, spec.layers, strict=True):
            vector = ext_scale(ext_powers(mu, fan_out), ext_mul(weight, ext_power(mu, start)))
            _add_linear_head(sums, layer.value(), fan_in + 1, ext_power(mu, fan_out), vector)
            start += (fan_in + 1) * fan_out
        known = evaluate_ext(signed(parameters), mu)
        sums.constant(ext_sub((0, 0), ext_mul(weight, (int(known[0]), int(known[1])))))

    def fill(self, layout: Layout, messages: FieldArray, spec: ModelSpec, move: Move) -> None:
        """Write a move."""
        start = 0
        for layer, (fan_in, fan_out) in zip(self.layers, spec.layers, strict=True):
            end = start + (fan_in + 1) * fan_out
            layer.fill(layout, messages, Move(move.wanted[start:end], move.after[start:end], move.rest[start:end]))
            start = end


# --- products with committed parameters


@dataclass(frozen=True)
class CommittedWeights:
    """Parameters that only the prover knows, and the vectors that their products are checked by."""

    moved: Moved
    forward: tuple[tuple[Pair, Pair], ...]  # (E, T) of each layer, fan_in + 1 entries; E's last one is 0
    backward: tuple[tuple[Pair, Pair], ...]  # the same of D W^T, fan_out entries, from the second layer on

    @classmethod
    def declare(cls, layout: Layout, spec: ModelSpec, moved_to: Moved) -> CommittedWeights:
        """Declare the vectors."""
        forward = tuple((Pair.declare(layout, j + 1), Pair.declare(layout, j + 1)) for j, _ in spec.layers)
        backward = tuple((Pair.declare(layout, h), Pair.declare(layout, h)) for _, h in spec.layers[1:])
        return cls(moved_to, forward, backward)

    @staticmethod
    def relations(spec: ModelSpec) -> int:
        """Return how many relations `add_vectors` weighs."""
        return 4 * len(spec.layers) - 2

    def add_forward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """A W + 2^f b = Z at powers of mu."""
        (fan_in, fan_out), mu = step.spec.layers[layer], drawn.first.mu
        left, right = self.forward[layer]
        inner = Sums(sums.layout, ext_power(mu, fan_out))
        rest(inner, ext_scale(ext_powers(mu, fan_out), chi))
        matrix = np.arange(fan_in + 1) < fan_in
        add_pair_product(sums, left, right, chi, matrix)
        ones = ext_mul(inner.samples_total(step.shape.rows), (step.rule.one, 0))
        right.add_some(sums, ext_mul(chi, ones), ~matrix)
        sums.absorb(inner)

    def add_backward(self, sums: Sums, step: StepTensors, layer: int, drawn: Drawn, chi: Ext, rest: Rest) -> None:
        """D W^T = Z at powers of mu."""
        (fan_in, fan_out), mu = step.spec.layers[layer], drawn.first.mu
        left, right = self.backward[layer - 1]
        inner = Sums(sums.layout, ext_power(mu, fan_in))
        rest(inner, ext_scale(ext_powers(mu, fan_in), chi))
        add_pair_product(sums, left, right, chi, np.ones(fan_out, np.bool_))
        sums.absorb(inner)

    def add_vectors(self, sums: Sums, step: StepTensors, drawn: Drawn, numbers: Iterator[int]) -> None:
        """Demand that the vectors are E and T of this step."""
        mu, rho, rows = drawn.first.mu, drawn.second.rho, step.shape.rows
        for layer, (fan_in, fan_out) in enumerate(step.spec.layers):
            value = self.moved.layers[layer].value()
            vectors = [(self.forward[layer], step.activation(layer), fan_in, fan_out)]
            if layer:
                vectors.append((self.backward[layer - 1], step.error(layer), fan_out, fan_in))
            for backwards, ((left, right), factor, width, base) in enumerate(vectors):
                first, second = (drawn.second.relation(next(numbers)) for _ in range(2))
                inner = Sums(sums.layout, ext_power(mu, base))
                factor.add_to(inner, ext_scale(ext_powers(rho, width), first), rows)
                sums.absorb(inner)
                left.add_to(sums, ext_sub((0, 0), first))
                if backwards:
                    _add_linear_head(sums, value, fan_in, mu, ext_scale(ext_powers(rho, fan_out), second))
                else:
                    value.add_to(sums, ext_scale(ext_powers(mu, fan_out), second), fan_in + 1)
                right.add_to(sums, ext_sub((0, 0), second))

    def fill_products(
        self, layout: Layout, messages: FieldArray, step: StepTensors, features: IntArray, work: LocalWork, mu: Ext
    ) -> None:
        """Write the vectors."""
        inputs, errors, start = inputs_of(features, work.trace), errors_of(work.trace), 0
        for layer, (fan_in, fan_out) in enumerate(step.spec.layers):
            end = start + (fan_in + 1) * fan_out
            matrix = signed(work.before[start:end]).reshape(fan_in + 1, fan_out)
            left, right = self.forward[layer]
            left.place(layout, messages, _weighed(inputs[layer], ext_power(mu, fan_out), 1))
            right.place(layout, messages, ext_matvec(matrix, ext_powers(mu, fan_out)))
            if layer:
                left, right = self.backward[layer - 1]
                left.place(layout, messages, _weighed(errors[layer], ext_power(mu, fan_in), 0))
                transposed = np.ascontiguousarray(matrix[:fan_in].T)
                right.place(layout, messages, ext_matvec(transposed, ext_powers(mu, fan_in)))
            start = end


def _weighed(matrix: IntArray, base: Ext, behind: int) -> FieldArray:
    """Return sum_i base^i matrix_ij, (2, width), and zeros behind."""
    columns = np.ascontiguousarray(signed(matrix).T)
    sums = ext_matvec(columns, ext_powers(base, len(matrix)))
    return np.concatenate([sums, np.zeros((2, behind), np.uint64)], axis=1)


# --- the steps after the first


@dataclass(frozen=True)
class LaterStep:
    """A step on committed parameters."""

    weights: CommittedWeights
    step: StepTensors

    @classmethod
    def declare(
        cls, layout: Layout, spec: ModelSpec, rule: Rule, shape: DataShape, data: DataTensors, moved_to: Moved
    ) -> LaterStep:
        """Declare the step after a move."""
        step = StepTensors.declare(layout, spec, rule, shape, data)
        return cls(CommittedWeights.declare(layout, spec, moved_to), step)

    @staticmethod
    def relations(spec: ModelSpec) -> int:
        """Return how many relations `add` weighs."""
        return StepTensors.relations(spec) + CommittedWeights.relations(spec)

    def add(self, sums: Sums, drawn: Drawn, numbers: Iterator[int]) -> None:
        """Add all relations of the step but for its move."""
        self.step.add(sums, self.weights, drawn, numbers)
        self.weights.add_vectors(sums, self.step, drawn, numbers)


@dataclass(frozen=True, eq=False)
class LocalWork:
    """The prover's numbers of one step: parameters before it, its trace, and how it moves them."""

    before: IntArray
    trace: StepTrace
    move: Move


def moved(spec: ModelSpec, rule: Rule, parameters: IntArray, gradient: IntArray, rows: int) -> Move:
    """Return the integers of a move by the gradient of so many rows."""
    rate = rule.learning_rate
    half = rate.denominator * rows * rule.one
    shifted = 2 * rate.numerator * gradient + half
    size = shifted // (2 * half)
    counts = [(fan_in + 1) * fan_out for fan_in, fan_out in spec.layers]
    limits = np.repeat([bound.parameter for bound in learning.layer_bounds(spec, rule)], counts)
    wanted = parameters - size
    return Move(wanted, np.clip(wanted, -limits, limits), shifted - 2 * half * size)


def gradient_of(spec: ModelSpec, rule: Rule, features: IntArray, trace: StepTrace, chosen: Flags) -> IntArray:
    """Return the unrounded gradient of the chosen rows of a traced step."""
    parts = []
    for values, errors in zip(inputs_of(features, trace), errors_of(trace), strict=True):
        parts += [(values[chosen].T @ errors[chosen]).reshape(-1), rule.one * errors[chosen].sum(axis=0)]
    return np.concatenate(parts)


def local_work(
    spec: ModelSpec, rule: Rule, parameters: IntArray, features: IntArray, traces: Sequence[StepTrace],
    batches: npt.NDArray[np.bool_],
) -> list[LocalWork]:  # fmt: skip
    """Return the numbers of traced steps."""
    made = []
    for trace, chosen in zip(traces, batches, strict=True):
        gradient = gradient_of(spec, rule, features, trace, chosen)
        move = moved(spec, rule, parameters, gradient, int(chosen.sum()))
        made.append(LocalWork(parameters, trace, move))
        parameters = move.after
    return made


def local_steps(
    spec: ModelSpec, rule: Rule, parameters: IntArray, features: IntArray, labels: IntArray,
    batches: npt.NDArray[np.bool_],
) -> tuple[StepTrace, ...]:  # fmt: skip
    """Return the traces, on all rows, of the local steps whose batches (steps, rows) the beacon chose.

    Raises:
        LearningError: as `learning.step_trace`; also where a row that is not chosen leaves the rule's limits.
    """
    single = replace(rule, local_steps=1)
    traces = [learning.step_trace(spec, single, parameters, features, labels)]
    for chosen in batches[:-1]:
        gradient = gradient_of(spec, rule, features, traces[-1], chosen)
        parameters = learning.apply_total(spec, single, parameters, np.append(gradient, chosen.sum()))
        traces.append(learning.step_trace(spec, single, parameters, features, labels))
    return tuple(traces)
