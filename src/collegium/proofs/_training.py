"""Relation `training`: c masks exactly the update that the agreed rule yields on the registered rows.

Every sum below is over samples i (weighed by rho^i) and units (by tau^j), and holds for every i and j because rho and
tau are drawn after all tensors. Sections: docs/spec/proofs.md, 4.3. The rule in integers: docs/spec/learning.md.

  1. forward   A_(l-1) W_l + 2^f b_l = 2^f Q_l + R_l,  Q_l = 2 S U - U + S - 1,  A_l = S U,  S in {0, 1}
  2. loss      from the last Z to D_L
  3. backward  D_l W_l^T = 2^f B_(l-1) + R',  D_(l-1) = S B
  4. gradient  P_i = sum_a mu^(H a) A_ia,  V_i = sum_h mu^h D_ih,  sum_i P_i V_i = sum_ah mu^(H a + h) G_ah
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    Randomness,
    ext_matvec,
    ext_mul,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
)
from collegium.crypto import Digest
from collegium.learning import ModelSpec, Rule, StepTrace

from ._data import DataShape, DataTensors, declare_data
from ._errors import StatementError, UnprovableError
from ._expressions import Expression, Limbs, place_grid, signed
from ._layout import Grid, Layout
from ._loss import LOSS_RELATIONS, LossTensors, add_loss, declare_loss
from ._masked import MASK_RELATIONS, IntArray, KeySecrets, MaskedUpdate, MaskTensors, key_values
from ._program import FirstChallenges, Program, SecondChallenges
from ._prove import CommittedRows, Proved, prove
from ._sums import Sums, X, scalar
from ._verify import verify

__all__ = ["TrainingStatement", "TrainingWitness", "prove_training", "training_elements", "verify_training"]


@dataclass(frozen=True, eq=False)
class TrainingStatement:
    """What is proved of one report.

    Attributes:
        masked: c and its identity, whose `model` and `rule` name `parameters` and `spec` with `rule`.
        spec, rule, parameters: the public model and rule; one local step.
        data: the registered data's shape; data_root: the commitment that this round uses.
        chosen: which of the registered rows the beacon chose for this step, (rows,) booleans.

    Raises:
        StatementError: the numbers do not go together.
    """

    masked: MaskedUpdate
    spec: ModelSpec
    rule: Rule
    parameters: IntArray
    data: DataShape
    data_root: Digest
    chosen: npt.NDArray[np.bool_] = field(repr=False)

    def __post_init__(self) -> None:
        spec, rule, data = self.spec, self.rule, self.data
        if rule.local_steps != 1:
            raise StatementError(f"{rule.local_steps} local steps, expected 1: longer ones are not proved")
        if (data.inputs, data.outputs) != (spec.inputs, spec.outputs) or data.limit != rule.feature_limit * rule.one:
            raise StatementError(
                f"data of {data.inputs} features up to {data.limit} and {data.outputs} outputs do not fit a model of "
                f"{spec.inputs} and {spec.outputs} under a limit of {rule.feature_limit * rule.one}"
            )
        if self.masked.entries != spec.parameter_count + 1 or self.masked.lanes != 1:
            raise StatementError(f"{self.masked.entries} masked entries for {spec.parameter_count} parameters")
        batch = data.rows if rule.batch_rows is None else min(data.rows, rule.batch_rows)
        if self.chosen.shape != (data.rows,) or int(self.chosen.sum()) != batch:
            raise StatementError(
                f"{int(self.chosen.sum())} of {self.chosen.shape} rows are chosen, expected {batch} of ({data.rows},)"
            )
        if learning.update_bound(spec, rule, int(self.chosen.sum())) > self.masked.entry_bound:
            raise StatementError("an update of this many rows could exceed the masked entries' bound")

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds; the data root follows them. Model and rule are in the identity too."""
        model = learning.parameters_to_bytes(self.spec, self.rule, self.parameters)
        rule = repr(sorted(learning.describe_rule(self.spec, self.rule).items())).encode()
        return (
            b"training",
            *self.masked.fields(),
            rule,
            model,
            *self.data.fields(),
            np.packbits(self.chosen).tobytes(),
        )

    @cached_property
    def matrices(self) -> list[tuple[FieldArray, FieldArray]]:
        """Weights (fan_in, fan_out) and biases (fan_out,) of each layer as elements of F."""
        made, start = [], 0
        for fan_in, fan_out in self.spec.layers:
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weights = signed(self.parameters[start:middle]).reshape(fan_in, fan_out)
            made.append((weights, signed(self.parameters[middle:end])))
            start = end
        return made


@dataclass(frozen=True, slots=True)
class _Hidden:
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
class _Pair:
    """A vector over K, one entry a sample: two grids of width 1."""

    first: Grid
    second: Grid

    def add_to(self, sums: Sums, weight: Ext) -> None:
        """Add weight x sum_i rho^i value_i."""
        sums.linear(self.first, scalar(weight))
        sums.linear(self.second, scalar(ext_mul(weight, X)))


@dataclass(frozen=True)
class _Tensors:
    layout: Layout
    data: DataTensors
    mask: MaskTensors
    hidden: tuple[_Hidden, ...]
    loss: LossTensors
    inner: tuple[tuple[_Pair, _Pair], ...]  # (P, V) of each layer

    def activation(self, layer: int, limit: int) -> Expression:
        """Return A_layer, A_0 the features."""
        if layer == 0:
            return Expression(((1, self.data.features),), constant=-limit)
        return self.hidden[layer - 1].activation()

    def error(self, layer: int) -> Expression:
        """Return D of layer + 1, the last one the loss's."""
        return self.hidden[layer].error() if layer < len(self.hidden) else self.loss.error(self.data.labels)


def _declare(statement: TrainingStatement) -> _Tensors:
    spec, rule, rows = statement.spec, statement.rule, statement.data.rows
    layout = Layout(statement.data.code, 1)
    data = declare_data(layout, 0, statement.data)
    mask = MaskTensors.declare(layout, statement.masked)
    bounds = learning.layer_bounds(spec, rule)
    f, tree, hidden = rule.fraction_bits, layout.trace, []
    for layer, width in enumerate(spec.hidden):
        limb = limb_bits_for(rows * width)
        selector = layout.grid(tree, rows, width)
        layout.constrain_grids((1, (selector, selector)), (P - 1, (selector,)))
        offset = bounds[layer].error
        if rule.error_limit is None or offset != rule.error_limit * rule.one:
            offset = 1 << offset.bit_length()
        hidden.append(
            _Hidden(
                Limbs.declare(layout, tree, rows, width, f, limb),
                selector,
                Limbs.declare(layout, tree, rows, width, bounds[layer + 1].input.bit_length(), limb),
                Limbs.declare(layout, tree, rows, width, f, limb),
                Limbs.declare(layout, tree, rows, width, offset.bit_length(), limb),
                offset,
            )
        )
    loss = declare_loss(layout, spec, rule, rows, bounds[-1].sum)
    inner = tuple(
        tuple(_Pair(layout.grid(layout.products, rows, 1), layout.grid(layout.products, rows, 1)) for _ in range(2))
        for _ in spec.layers
    )
    layout.freeze()
    return _Tensors(layout, data, mask, tuple(hidden), loss, inner)  # type: ignore[arg-type]


def limb_bits_for(elements: int) -> int:
    """Return the largest limb worth its table for so many lookups: 8 to 16 bits."""
    return max(8, min(16, elements.bit_length() - 2))


def _text(statement: TrainingStatement, tensors: _Tensors) -> Callable[[Sums, FirstChallenges, SecondChallenges], None]:
    spec, rule, rows = statement.spec, statement.rule, statement.data.rows
    last = len(spec.layers) - 1

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        numbers = iter(range(MASK_RELATIONS, relation_count(spec)))
        tensors.mask.add(sums, statement.masked, first, second, 0)
        taus = {width: ext_powers(second.tau, width) for _, width in spec.layers} | {
            width: ext_powers(second.tau, width) for width, _ in spec.layers
        }
        # 1. forward
        for layer, hidden in enumerate(tensors.hidden):
            vector = ext_scale(taus[spec.layers[layer][1]], second.relation(next(numbers)))
            _add_product(sums, statement, tensors, layer, vector)
            (hidden.quotient().times(-rule.one) + hidden.remainder.value().times(-1)).add_to(sums, vector, rows)
        # 2. loss
        add_loss(
            tensors.loss,
            sums,
            taus[spec.layers[last][1]],
            [second.relation(next(numbers)) for _ in range(LOSS_RELATIONS)],
            lambda vector: _add_product(sums, statement, tensors, last, vector),
        )
        # 3. backward
        for layer, hidden in enumerate(tensors.hidden):
            vector = ext_scale(taus[spec.layers[layer][1]], second.relation(next(numbers)))
            weights, _ = statement.matrices[layer + 1]
            tensors.error(layer + 1).add_to(sums, ext_matvec(np.ascontiguousarray(weights.T), vector), rows)
            rest = hidden.back_value().times(-rule.one) + hidden.back_remainder.value().times(-1)
            rest.add_to(sums, vector, rows)
        # 4. gradient
        for layer in range(last + 1):
            _add_inner(sums, statement, tensors, layer, first.mu, [second.relation(next(numbers)) for _ in range(2)])
        _add_gradient(sums, statement, tensors, first.mu, second.relation(0))

    return text


def training_elements(spec: ModelSpec, rows: int) -> int:
    """Return about how many elements a trace takes: per row and hidden unit nine, per parameter two, and the rows."""
    return rows * (9 * sum(spec.hidden) + 16 * spec.outputs + spec.inputs) + 2 * spec.parameter_count


def relation_count(spec: ModelSpec) -> int:
    """Return how many relations the text weighs."""
    return MASK_RELATIONS + 2 * len(spec.hidden) + LOSS_RELATIONS + 2 * len(spec.layers)


def _add_product(sums: Sums, statement: TrainingStatement, tensors: _Tensors, layer: int, vector: FieldArray) -> None:
    """Add sum_ij rho^i vector_j Z_ij, Z = A W + 2^f b of one layer."""
    weights, bias = statement.matrices[layer]
    activation = tensors.activation(layer, statement.data.limit)
    activation.add_to(sums, ext_matvec(weights, vector), statement.data.rows)
    shift = ext_matvec(bias.reshape(1, -1), ext_scale(vector, (statement.rule.one, 0)))
    total = ext_mul(sums.samples_total(statement.data.rows), (int(shift[0, 0]), int(shift[1, 0])))
    sums.constant(total)


def _add_inner(
    sums: Sums, statement: TrainingStatement, tensors: _Tensors, layer: int, mu: Ext, chis: list[Ext]
) -> None:
    """P_i = sum_a mu^(H a) A_ia and V_i = sum_h mu^h D_ih."""
    rows = statement.data.rows
    left, right = tensors.inner[layer]
    for pair, expression, vector, chi in zip(
        (left, right),
        (tensors.activation(layer, statement.data.limit), tensors.error(layer)),
        inner_vectors(statement.spec, layer, mu),
        chis,
        strict=True,
    ):
        expression.add_to(sums, ext_scale(vector, chi), rows)
        pair.add_to(sums, ext_sub((0, 0), chi))


def inner_vectors(spec: ModelSpec, layer: int, mu: Ext) -> tuple[FieldArray, FieldArray]:
    """Return mu^(H a) over the inputs and mu^h over the units of a layer."""
    fan_in, fan_out = spec.layers[layer]
    return ext_powers(ext_power(mu, fan_out), fan_in), ext_powers(mu, fan_out)


def _add_gradient(sums: Sums, statement: TrainingStatement, tensors: _Tensors, mu: Ext, chi: Ext) -> None:
    """The update's part of `masked`: 2^nu sum mu^(offset + entry) m_entry, m the gradient and then the rows used."""
    scale, chosen, start = ext_mul(chi, statement.masked.message_scale(mu)), statement.chosen, 0
    for layer, (fan_in, fan_out) in enumerate(statement.spec.layers):
        (left, right), weight = tensors.inner[layer], ext_mul(scale, ext_power(mu, start))
        crosswise = ext_mul(weight, X)
        sums.indicated(left.first, right.first, weight, chosen)
        sums.indicated(left.second, right.second, ext_mul(crosswise, X), chosen)
        sums.indicated(left.first, right.second, crosswise, chosen)
        sums.indicated(left.second, right.first, crosswise, chosen)
        # biases: 2^f sum_i D_ih
        bias = ext_mul(ext_mul(scale, ext_power(mu, start + fan_in * fan_out)), (statement.rule.one, 0))
        sums.indicated(right.first, None, bias, chosen)
        sums.indicated(right.second, None, ext_mul(bias, X), chosen)
        start += (fan_in + 1) * fan_out
    sums.constant(ext_mul(ext_mul(scale, ext_power(mu, start)), (int(chosen.sum()), 0)))


def _program(statement: TrainingStatement) -> tuple[Program, _Tensors]:
    tensors = _declare(statement)
    text = _text(statement, tensors)
    count, roots = relation_count(statement.spec), (statement.data_root,)
    return Program(tensors.layout, statement.fields(), count, text, key_rows=6, data_roots=roots), tensors


# --- the prover's side


@dataclass(frozen=True, eq=False)
class TrainingWitness:
    """What a trainer knows: its rows, the commitment to them, every integer of the step, and what masks the update."""

    features: IntArray
    labels: IntArray
    data: CommittedRows
    step: StepTrace
    secrets: KeySecrets


@dataclass(frozen=True, eq=False)
class _Assignment:
    statement: TrainingStatement
    tensors: _Tensors
    witness: TrainingWitness

    def trace(self, messages: FieldArray) -> None:
        layout, step = self.tensors.layout, self.witness.step
        self.tensors.mask.fill(layout, messages, self.witness.secrets)
        for hidden, forward, back in zip(self.tensors.hidden, step.hidden, step.back, strict=True):
            quotient = forward.quotient
            place_grid(layout, messages, hidden.selector, (quotient >= 0).view(np.uint8))
            hidden.unsigned.place(layout, messages, quotient ^ (quotient >> np.int64(63)))
            hidden.remainder.place(layout, messages, forward.remainder)
            hidden.back.place(layout, messages, back.quotient + hidden.back_offset)
            hidden.back_remainder.place(layout, messages, back.remainder)
        self.tensors.loss.fill(layout, messages, step.output)

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        layout, step, spec = self.tensors.layout, self.witness.step, self.statement.spec
        inputs = [self.witness.features, *(np.maximum(h.quotient, 0) for h in step.hidden)]
        backs = [b.quotient * (h.quotient >= 0) for h, b in zip(step.hidden, step.back, strict=True)]
        for layer, (values, errors) in enumerate(zip(inputs, [*backs, step.errors], strict=True)):
            for pair, matrix, vector in zip(
                self.tensors.inner[layer], (values, errors), inner_vectors(spec, layer, first.mu), strict=True
            ):
                products = ext_matvec(signed(matrix), vector)
                for grid, part in zip((pair.first, pair.second), products, strict=True):
                    place_grid(layout, messages, grid, part[:, None])

    def key_values(self, point: Ext) -> FieldArray:
        return key_values(self.witness.secrets, point)


def prove_training(
    statement: TrainingStatement,
    witness: TrainingWitness,
    random: Randomness,
    on_part: Callable[[str], None] = lambda _: None,
) -> Proved:
    """Return a proof that c masks the rule's update on the registered rows.

    Raises:
        UnprovableError: it does not.
    """
    if witness.data.root != statement.data_root:
        raise UnprovableError("the committed rows are not those of the statement")
    program, tensors = _program(statement)
    return prove(program, _Assignment(statement, tensors, witness), (witness.data,), random, on_part)


def verify_training(statement: TrainingStatement, proof: bytes) -> FirstChallenges:
    """Check a proof of `prove_training`; return the key's point and the values that the report must confirm.

    Raises:
        ProofRejectedError: it does not show the statement.
    """
    program, _ = _program(statement)
    return verify(program, proof)
