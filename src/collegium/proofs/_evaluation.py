"""Relation `evaluation`: what a public model is worth on the rows behind a registered commitment, which stay hidden.

The step is that of `_step`, with public parameters and on every row; its unrounded gradient is public here, and so are
the summed loss and the number of rows classified right, as `learning.evaluate` defines them (`_value`). The AUC is not
proved. A row whose values leave the rule's limits cannot be evaluated by a proof. docs/spec/proofs.md, section 4.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from collegium import learning
from collegium.algebra import Ext, FieldArray, P, Randomness, evaluate_ext, ext_mul, ext_power, ext_sub
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Rule, StepTrace

from ._data import DataShape, data_row_length, declare_data
from ._errors import StatementError, UnprovableError
from ._expressions import signed
from ._layout import Layout
from ._masked import IntArray
from ._program import FirstChallenges, Program, SecondChallenges
from ._prove import CommittedRows, prove
from ._step import Drawn, PublicWeights, StepTensors
from ._sums import Sums
from ._training import training_elements
from ._value import VALUE_RELATIONS, ValueTensors, declare_value
from ._verify import verify

__all__ = [
    "Evaluated",
    "EvaluationStatement",
    "evaluated",
    "evaluation_rows_max",
    "prove_evaluation",
    "verify_evaluation",
]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What is claimed of a model on hidden rows.

    Attributes:
        gradient: the loss's, summed over the rows, unrounded, with 2f fraction bits, (parameter_count,).
        loss_micro: summed loss in millionths.
        correct: rows classified right.
    """

    gradient: IntArray
    loss_micro: int
    correct: int


@dataclass(frozen=True, eq=False)
class EvaluationStatement:
    """What is proved of one model on one shard.

    Attributes:
        owner: whose rows they are; context: digest of what it is for (task, round).
        spec, rule, parameters: the public model; batches and local steps of the rule play no part.
        data, data_root: the registered rows' shape, and the commitment that this proof uses up.
        claim: the numbers.

    Raises:
        StatementError: the numbers do not go together, or could wrap around the field.
    """

    owner: bytes
    context: Digest
    spec: ModelSpec
    rule: Rule
    parameters: IntArray
    data: DataShape
    data_root: Digest
    claim: Evaluated

    def __post_init__(self) -> None:
        spec, data, claim, limit = self.spec, self.data, self.claim, self.rule.feature_limit * self.rule.one
        if (data.inputs, data.outputs, data.limit) != (spec.inputs, spec.outputs, limit):
            raise StatementError(
                f"data of {data.inputs} features up to {data.limit} and {data.outputs} outputs do not fit a model of "
                f"{spec.inputs} and {spec.outputs} under a limit of {limit}"
            )
        bound = learning.update_bound(spec, replace(self.rule, local_steps=1, batch_rows=None), data.rows)
        shape = claim.gradient.shape
        largest = max(int(claim.gradient.max()), -int(claim.gradient.min())) if claim.gradient.size else 0
        if claim.gradient.dtype != np.int64 or shape != (spec.parameter_count,) or largest > bound:
            raise StatementError(
                f"a gradient of shape {shape} reaches {largest}, expected ({spec.parameter_count},) and at most {bound}"
            )
        if not (0 <= claim.loss_micro < P and 0 <= claim.correct <= data.rows):
            raise StatementError(
                f"a loss of {claim.loss_micro} and {claim.correct} hits on {data.rows} rows, expected a loss from 0 to "
                f"{P - 1} and at most as many hits as rows"
            )

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds; the data root follows them."""
        rule = repr(sorted(learning.describe_rule(self.spec, self.rule).items())).encode()
        model = learning.parameters_to_bytes(self.spec, self.rule, self.parameters)
        claim = self.claim
        return (
            b"evaluation", self.owner, self.context, rule, model, *self.data.fields(),
            claim.gradient.astype("<i8").tobytes(), claim.loss_micro, claim.correct,
        )  # fmt: skip


def evaluated(spec: ModelSpec, rule: Rule, parameters: IntArray, features: IntArray, labels: IntArray) -> Evaluated:
    """Return the true claim about these rows."""
    gradient = learning.step_trace(spec, rule, parameters, features, labels).gradient
    value = learning.evaluate(spec, rule, parameters, features, labels)
    return Evaluated(gradient, value.loss_micro, value.correct)


def evaluation_rows_max(spec: ModelSpec, rule: Rule, most: int) -> int:
    """Return of how many rows, up to `most`, an evaluation can be stated: of all fewer, too; 0 where of none."""
    low, high = 0, most + 1
    while high - low > 1:
        rows = most if high > most else (low + high) // 2
        low, high = (rows, high) if _can_state(spec, rule, rows) else (low, rows)
    return low


def _can_state(spec: ModelSpec, rule: Rule, rows: int) -> bool:
    nothing, claim = bytes(32), Evaluated(np.zeros(spec.parameter_count, np.int64), 0, 0)
    parameters = np.zeros(spec.parameter_count, np.int64)
    try:
        length = data_row_length(training_elements(spec, rows))
        data = DataShape(rows, spec.inputs, spec.outputs, rule.feature_limit * rule.one, length)
        _declare(EvaluationStatement(nothing, nothing, spec, rule, parameters, data, nothing, claim))
    except CollegiumError:
        return False
    return True


@dataclass(frozen=True)
class _Tensors:
    layout: Layout
    step: StepTensors
    value: ValueTensors


def _declare(statement: EvaluationStatement) -> _Tensors:
    spec, rule, rows = statement.spec, statement.rule, statement.data.rows
    layout = Layout(statement.data.code, 1)
    data = declare_data(layout, 0, statement.data)
    step = StepTensors.declare(layout, spec, rule, statement.data, data)
    value = declare_value(layout, spec, rule, rows, step.loss, data.labels)
    layout.freeze()
    return _Tensors(layout, step, value)


def _text(
    statement: EvaluationStatement, tensors: _Tensors
) -> Callable[[Sums, FirstChallenges, SecondChallenges], None]:
    weights = PublicWeights.of(statement.spec, statement.rule, statement.parameters)
    step, value = tensors.step, tensors.value

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        drawn, numbers = Drawn(first, second), iter(range(relation_count(statement.spec)))
        step.add(sums, weights, drawn, numbers)
        chis = [second.relation(next(numbers)) for _ in range(VALUE_RELATIONS)]

        def add_z(chi: Ext, rest: Callable[[Sums, FieldArray], None]) -> None:
            weights.add_forward(sums, step, step.last, drawn, chi, rest)

        value.add(sums, drawn.taus(statement.spec.outputs), chis[2:], add_z)
        # the claim's loss, hits and gradient
        for number, (add, claimed) in enumerate(
            ((value.add_loss, statement.claim.loss_micro), (value.add_correct, statement.claim.correct))
        ):
            add(sums, chis[number])
            sums.constant(ext_sub((0, 0), ext_mul(chis[number], (claimed % P, 0))))
        _add_gradient(sums, statement, step, first.mu, second.relation(next(numbers)))

    return text


def _add_gradient(sums: Sums, statement: EvaluationStatement, step: StepTensors, mu: Ext, chi: Ext) -> None:
    """sum mu^entry G_entry = sum mu^entry claimed_entry."""
    chosen, start = np.ones(statement.data.rows, np.bool_), 0
    for layer, (fan_in, fan_out) in enumerate(statement.spec.layers):
        step.add_gradient(sums, layer, mu, ext_mul(chi, ext_power(mu, start)), chosen)
        start += (fan_in + 1) * fan_out
    claimed = evaluate_ext(signed(statement.claim.gradient), mu)
    sums.constant(ext_sub((0, 0), ext_mul(chi, (int(claimed[0]), int(claimed[1])))))


def relation_count(spec: ModelSpec) -> int:
    """Return how many relations the text weighs."""
    return StepTensors.relations(spec) + VALUE_RELATIONS + 1


def _program(statement: EvaluationStatement) -> tuple[Program, _Tensors]:
    tensors = _declare(statement)
    text, count = _text(statement, tensors), relation_count(statement.spec)
    return Program(tensors.layout, statement.fields(), count, text, data_roots=(statement.data_root,)), tensors


@dataclass(frozen=True, eq=False)
class _Assignment:
    tensors: _Tensors
    features: IntArray
    labels: IntArray
    step: StepTrace

    def trace(self, messages: FieldArray) -> None:
        layout = self.tensors.layout
        self.tensors.step.fill(layout, messages, self.step)
        self.tensors.value.fill(layout, messages, self.step.output, self.labels)

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        self.tensors.step.fill_products(self.tensors.layout, messages, self.features, self.step, first.mu)

    def key_values(self, point: Ext) -> FieldArray:
        return np.zeros((2, 0), np.uint64)


def prove_evaluation(
    statement: EvaluationStatement,
    features: IntArray,
    labels: IntArray,
    data: CommittedRows,
    random: Randomness,
    on_part: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Return a proof of the claim about the committed rows.

    Raises:
        UnprovableError: it is not true.
        ActivationRangeError, ErrorRangeError: a row's values leave the rule's limits.
    """
    if data.root != statement.data_root:
        raise UnprovableError("the committed rows are not those of the statement")
    step = learning.step_trace(statement.spec, statement.rule, statement.parameters, features, labels)
    program, tensors = _program(statement)
    return prove(program, _Assignment(tensors, features, labels, step), (data,), random, on_part).proof


def verify_evaluation(statement: EvaluationStatement, proof: bytes) -> None:
    """Check a proof of `prove_evaluation`.

    Raises:
        ProofRejectedError: it does not show the statement.
    """
    program, _ = _program(statement)
    verify(program, proof)
