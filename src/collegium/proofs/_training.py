"""Relation `training`: c masks exactly the update that the agreed rule yields on the registered rows.

The step is that of `_step`, with public parameters; its gradient is what `masked` leaves open.
docs/spec/proofs.md, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.algebra import Ext, FieldArray, Randomness, ext_mul, ext_power
from collegium.crypto import Digest
from collegium.learning import ModelSpec, Rule, StepTrace

from ._data import DataShape, DataTensors, committed_seed, declare_data
from ._errors import StatementError, UnprovableError
from ._layout import Layout
from ._local import LaterStep, LocalWork, Moved, local_work
from ._loss import LossTensors
from ._masked import MASK_RELATIONS, IntArray, KeySecrets, MaskedUpdate, MaskTensors, key_values
from ._program import FirstChallenges, Program, SecondChallenges
from ._prove import Allocate, CommittedRows, Proved, in_memory, prove
from ._score import SCORE_RELATIONS, MaskedDirection, Score, ScoreTensors
from ._step import Drawn, Hidden, Pair, PublicWeights, StepTensors, inner_vectors
from ._sums import Sums
from ._verify import verify

__all__ = [
    "TrainingStatement",
    "TrainingWitness",
    "inner_vectors",
    "prove_training",
    "training_elements",
    "verify_training",
]


@dataclass(frozen=True, eq=False)
class TrainingStatement:
    """What is proved of one report.

    Attributes:
        masked: c and its identity, whose `model` and `rule` name `parameters` and `spec` with `rule`.
        spec, rule, parameters: the public model and rule. Several local steps are proved at a price that grows with
            parameters x steps; of a model that reads patches they are not proved.
        data: the registered data's shape; data_root: the commitment that this round uses.
        chosen: which of the registered rows the beacon chose, booleans: (rows,) for the one step, else (steps, rows).
        score: where one is demanded; its noise is drawn from the seed in the commitment that this round uses.

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
    score: Score | None = None

    def __post_init__(self) -> None:
        spec, rule, data = self.spec, self.rule, self.data
        if (data.inputs, data.outputs) != (spec.inputs, spec.outputs) or data.limit != rule.feature_limit * rule.one:
            raise StatementError(
                f"data of {data.inputs} features up to {data.limit} and {data.outputs} outputs do not fit a model of "
                f"{spec.inputs} and {spec.outputs} under a limit of {rule.feature_limit * rule.one}"
            )
        if self.masked.entries != spec.parameter_count + 1 or self.masked.lanes != 1:
            raise StatementError(f"{self.masked.entries} masked entries for {spec.parameter_count} parameters")
        batch = data.rows if rule.batch_rows is None else min(data.rows, rule.batch_rows)
        expected = (data.rows,) if rule.local_steps == 1 else (rule.local_steps, data.rows)
        if self.chosen.shape != expected or (self.chosen.sum(axis=-1) != batch).any():
            raise StatementError(
                f"{self.chosen.sum(axis=-1)} of {self.chosen.shape} rows are chosen, expected {batch} of {expected}"
            )
        if learning.update_bound(spec, rule, batch) > self.masked.entry_bound:
            raise StatementError("an update of this many rows could exceed the masked entries' bound")
        if spec.patches is not None and rule.local_steps > 1:
            raise StatementError(f"{rule.local_steps} local steps of a model that reads patches are not proved")
        if self.score is not None:
            self.score.check(self.masked)

    @property
    def batches(self) -> npt.NDArray[np.bool_]:
        """The chosen rows step by step, (steps, rows)."""
        return self.chosen.reshape(self.rule.local_steps, -1)

    @property
    def batch(self) -> int:
        """Rows of a step."""
        return int(self.batches[0].sum())

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
            *(() if self.score is None else self.score.fields()),
        )


@dataclass(frozen=True)
class _Tensors:
    layout: Layout
    data: DataTensors
    mask: MaskTensors
    hidden: tuple[Hidden, ...]
    loss: LossTensors
    inner: tuple[tuple[Pair, Pair], ...]
    score: ScoreTensors | None
    moves: tuple[Moved, ...] = ()
    later: tuple[LaterStep, ...] = ()

    def step(self, statement: TrainingStatement) -> StepTensors:
        """Return the step's own."""
        return StepTensors(
            statement.spec, statement.rule, statement.data, self.data, self.hidden, self.loss, self.inner
        )

    def steps(self, statement: TrainingStatement) -> list[StepTensors]:
        """Return all steps' own."""
        return [self.step(statement), *(later.step for later in self.later)]


def _declare(statement: TrainingStatement) -> _Tensors:
    layout, spec, rule, shape = Layout(statement.data.code, 1), statement.spec, statement.rule, statement.data
    data = declare_data(layout, 0, statement.data)
    mask = MaskTensors.declare(layout, statement.masked)
    step = StepTensors.declare(layout, spec, rule, shape, data)
    moves: list[Moved] = []
    later: list[LaterStep] = []
    for number in range(rule.local_steps if rule.local_steps > 1 else 0):
        if number:
            later.append(LaterStep.declare(layout, spec, rule, shape, data, moves[-1]))
        moves.append(Moved.declare(layout, spec, rule, statement.batch))
    score = None if statement.score is None else ScoreTensors.declare(layout, statement.score, data.seed)
    layout.freeze()
    return _Tensors(layout, data, mask, step.hidden, step.loss, step.inner, score, tuple(moves), tuple(later))


def _text(statement: TrainingStatement, tensors: _Tensors) -> Callable[[Sums, FirstChallenges, SecondChallenges], None]:
    weights = PublicWeights.of(statement.spec, statement.rule, statement.parameters)

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        numbers = iter(range(MASK_RELATIONS, relation_count(statement)))
        tensors.mask.add(sums, statement.masked, first, second, 0)
        tensors.step(statement).add(sums, weights, Drawn(first, second), numbers)
        if tensors.moves:
            _add_moves(sums, statement, tensors, Drawn(first, second), numbers)
        else:
            _add_gradient(sums, statement, tensors, first.mu, second.relation(0))
        if tensors.score is not None and statement.score is not None:
            weight, chi = second.relation(next(numbers)), second.relation(next(numbers))
            MaskedDirection(statement.masked, statement.score.demand.direction).add(sums, tensors.mask, weight)
            scaled = ext_mul(weight, (1 << statement.masked.noise_bits, 0))
            tensors.score.add(sums, statement.score, scaled, chi)

    return text


def training_elements(spec: ModelSpec, rows: int, steps: int = 1) -> int:
    """Return about how many elements a trace takes: per row and hidden unit nine, per parameter two, and the rows.

    Where the first layer reads patches, four more for each patch of a row.

    Several local steps take the same for each, and fourteen for each parameter that a step moves.
    """
    local = 0 if steps == 1 else 14 * steps * spec.parameter_count
    return (
        steps * rows * (9 * sum(spec.widths) + 16 * spec.outputs)
        + (0 if spec.patches is None else 4 * rows * spec.patches.count)
        + rows * spec.inputs
        + 2 * spec.parameter_count
        + local
    )


def relation_count(statement: TrainingStatement) -> int:
    """Return how many relations the text weighs."""
    score = 0 if statement.score is None else SCORE_RELATIONS
    spec, steps = statement.spec, statement.rule.local_steps
    local = 0 if steps == 1 else steps * Moved.relations(spec) + (steps - 1) * LaterStep.relations(spec)
    return MASK_RELATIONS + StepTensors.relations(spec) + local + score


def _add_moves(
    sums: Sums, statement: TrainingStatement, tensors: _Tensors, drawn: Drawn, numbers: Iterator[int]
) -> None:
    """Every step's move, the steps after the first, and the update's part of `masked`: rows x (local - global)."""
    before: Moved | IntArray = statement.parameters
    steps, mu, masked = tensors.steps(statement), drawn.first.mu, statement.masked
    for number, (move, step, chosen) in enumerate(zip(tensors.moves, steps, statement.batches, strict=True)):
        if number:
            tensors.later[number - 1].add(sums, drawn, numbers)
        move.add(sums, step, before, chosen, drawn, numbers)
        before = move
    scale = ext_mul(ext_mul(drawn.second.relation(0), masked.message_scale(mu)), (statement.batch, 0))
    tensors.moves[-1].add_update(sums, statement.spec, statement.parameters, mu, scale)
    sums.constant(ext_mul(scale, ext_power(mu, statement.spec.parameter_count)))


def _add_gradient(sums: Sums, statement: TrainingStatement, tensors: _Tensors, mu: Ext, chi: Ext) -> None:
    """The update's part of `masked`: 2^nu sum mu^(offset + entry) m_entry, m the gradient and then the rows used."""
    scale, start, step = ext_mul(chi, statement.masked.message_scale(mu)), 0, tensors.step(statement)
    for layer, (fan_in, fan_out) in enumerate(statement.spec.layers):
        step.add_gradient(sums, layer, mu, ext_mul(scale, ext_power(mu, start)), statement.chosen)
        start += (fan_in + 1) * fan_out
    sums.constant(ext_mul(ext_mul(scale, ext_power(mu, start)), (statement.batch, 0)))


def _program(statement: TrainingStatement) -> tuple[Program, _Tensors]:
    tensors = _declare(statement)
    text = _text(statement, tensors)
    count, roots = relation_count(statement), (statement.data_root,)
    return Program(tensors.layout, statement.fields(), count, text, key_rows=6, data_roots=roots), tensors


# --- the prover's side


@dataclass(frozen=True, eq=False)
class TrainingWitness:
    """What a trainer knows: its rows, the commitment to them, every integer of the step, and what masks the update.

    `later` are the traces of the local steps after the first (`local_steps`).
    """

    features: IntArray
    labels: IntArray
    data: CommittedRows
    step: StepTrace
    secrets: KeySecrets
    later: tuple[StepTrace, ...] = ()


@dataclass(frozen=True, eq=False)
class _Assignment:
    statement: TrainingStatement
    tensors: _Tensors
    witness: TrainingWitness

    def trace(self, messages: FieldArray) -> None:
        layout, witness, score = self.tensors.layout, self.witness, self.statement.score
        self.tensors.mask.fill(layout, messages, witness.secrets)
        for step, trace in zip(self.tensors.steps(self.statement), (witness.step, *witness.later), strict=True):
            step.fill(layout, messages, trace)
        for moved_to, work in zip(self.tensors.moves, self._work, strict=True):
            moved_to.fill(layout, messages, self.statement.spec, work.move)
        if self.tensors.score is not None and score is not None:
            total = MaskedDirection(self.statement.masked, score.demand.direction).inner_product(witness.secrets)
            self.tensors.score.fill(layout, messages, score, committed_seed(witness.data), total)

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        layout, witness, features = self.tensors.layout, self.witness, self.witness.features
        for step, trace in zip(self.tensors.steps(self.statement), (witness.step, *witness.later), strict=True):
            step.fill_products(layout, messages, features, trace, first.mu)
        for later, work in zip(self.tensors.later, self._work[1:], strict=True):
            later.weights.fill_products(layout, messages, later.step, features, work, first.mu)

    @cached_property
    def _work(self) -> list[LocalWork]:
        """The moves of several local steps."""
        statement, witness = self.statement, self.witness
        if not self.tensors.moves:
            return []
        traces = (witness.step, *witness.later)
        return local_work(
            statement.spec, statement.rule, statement.parameters, witness.features, traces, statement.batches
        )

    def key_values(self, point: Ext) -> FieldArray:
        return key_values(self.witness.secrets, point)


def prove_training(
    statement: TrainingStatement,
    witness: TrainingWitness,
    random: Randomness,
    on_part: Callable[[str], None] = lambda _: None,
    allocate: Allocate = in_memory,
) -> Proved:
    """Return a proof that c masks the rule's update on the registered rows.

    Raises:
        UnprovableError: it does not.
    """
    if witness.data.root != statement.data_root:
        raise UnprovableError("the committed rows are not those of the statement")
    program, tensors = _program(statement)
    return prove(program, _Assignment(statement, tensors, witness), (witness.data,), random, on_part, allocate)


def verify_training(statement: TrainingStatement, proof: bytes) -> FirstChallenges:
    """Check a proof of `prove_training`; return the key's point and the values that the report must confirm.

    Raises:
        ProofRejectedError: it does not show the statement.
    """
    program, _ = _program(statement)
    return verify(program, proof)
