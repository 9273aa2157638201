"""Several local steps: the update is rows x (local - global) of the rule's own steps, and of no others."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from _proof_stage import (
    Case,
    Changed,
    careless,
    digest_of,
    draft_of,
    entry_at,
    light_work,
    masked_of,
    random_of,
    tensors_of,
)

from collegium import learning
from collegium.aggregation import Budget, Layout
from collegium.algebra import P
from collegium.learning import ModelSpec, Rule
from collegium.proofs import (
    DataShape,
    IdentityRejectedError,
    KeySecrets,
    ProofRejectedError,
    ScoreDemand,
    StatementError,
    SumRejectedError,
    TrainingStatement,
    TrainingWitness,
    UnprovableError,
    _local,
    _training,
    commit_data,
    committed_seed,
    local_steps,
    prove_training,
    verify_training,
)

FULL = os.environ.get("COLLEGIUM_FULL") == "1"


@dataclass(frozen=True)
class Course:
    """A model, a rule of several steps and rows."""

    spec: ModelSpec
    rule: Rule
    rows: int
    seed: int = 1

    @property
    def parameters(self) -> Any:
        generator = np.random.default_rng(self.seed)
        limits = learning.layer_bounds(self.spec, self.rule)
        return np.concatenate(
            [
                generator.integers(-bound.parameter, bound.parameter + 1, (fan_in + 1) * fan_out)
                for (fan_in, fan_out), bound in zip(self.spec.layers, limits, strict=True)
            ]
        )

    @property
    def features(self) -> Any:
        limit = self.rule.feature_limit * self.rule.one
        drawn = np.random.default_rng(self.seed + 1).normal(0, self.rule.one, (self.rows, self.spec.inputs))
        return np.clip(np.rint(drawn), -limit, limit).astype(np.int64)

    @property
    def labels(self) -> Any:
        return np.random.default_rng(self.seed + 2).integers(0, self.spec.classes, self.rows)

    @property
    def chosen(self) -> Any:
        flags = np.zeros((self.rule.local_steps, self.rows), np.bool_)
        for step, row in enumerate(flags):
            row[learning.batch_indices(self.rule, self.rows, digest_of("b"), step)] = True
        return flags

    @property
    def update(self) -> Any:
        return learning.local_update(self.spec, self.rule, self.parameters, self.features, self.labels, digest_of("b"))


SMALL = Rule(fraction_bits=8, output_limit=2, hidden_limit=1, feature_limit=2)
COURSES = {
    "logistic": Course(ModelSpec("logistic", 5), Rule(local_steps=2), 20),
    "hidden": Course(ModelSpec("mlp", 5, (4,)), replace(SMALL, local_steps=3, batch_rows=7), 11),
    "squared": Course(ModelSpec("mlp", 4, (3,), 2), replace(SMALL, loss="squared", local_steps=2), 9),
    "softmax": Course(
        ModelSpec("mlp", 4, (5, 3), 3), replace(SMALL, loss="softmax", local_steps=2, learning_rate=Fraction(90)), 9
    ),
}


def case_of(course: Course, update: Any = None, demand: ScoreDemand | None = None, wrong: int = 0) -> Case:
    """Return the course's update masked, or another one under the same steps."""
    spec, rule, features, labels = course.spec, course.rule, course.features, course.labels
    update = course.update if update is None else update
    budget = Budget(learning.update_bound(spec, rule, course.rows), 4)
    name = f"course {course}"
    terms, draft = draft_of(Layout(spec.parameter_count + 1, budget), update, name)
    shape = DataShape(course.rows, spec.inputs, spec.outputs, rule.feature_limit * rule.one, 2048)
    data = commit_data(shape, features, labels, random_of("data", name))
    score = None if demand is None else demand.score(update, committed_seed(data))
    if score is not None:
        score = replace(score, value=score.value + wrong)
    statement = TrainingStatement(
        masked_of(terms, draft), spec, rule, course.parameters, shape, data.root, course.chosen, score
    )
    program, tensors = _training._program(statement)
    first, *later = local_steps(spec, rule, course.parameters, features, labels, course.chosen)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    witness = TrainingWitness(features, labels, data, first, secrets, tuple(later))
    assignment = _training._Assignment(statement, tensors, witness)
    return Case(name, statement, program, tensors, assignment, (data,), terms, draft)


@cache
def true_case(name: str) -> Case:
    return case_of(COURSES[name])


@pytest.mark.parametrize("name", COURSES)
def test_the_rules_steps_are_proved(name: str) -> None:
    case = true_case(name)
    assert isinstance(case.statement, TrainingStatement)
    verify_training(case.statement, prove_training(case.statement, case.assignment.witness, random_of("p")).proof)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "hidden"), [(2047, ()), (2048, ()), (700, (4,)), (3, (2047,)), (3, (2048, 3)), (5, (3, 700))], ids=str
)
def test_parameters_of_a_full_row_and_one_more(inputs: int, hidden: tuple[int, ...]) -> None:
    spec = ModelSpec("mlp" if hidden else "logistic", inputs, hidden)
    course = Course(spec, replace(SMALL, local_steps=2), 3)
    case = case_of(course)
    case.verify(case.prove().proof)
    update = course.update
    update[-2] += update[-1]  # the last bias
    lie = case_of(course, update)
    with pytest.raises(SumRejectedError):
        lie.verify(careless(lie).proof)


@pytest.mark.parametrize("name", COURSES)
def test_another_update_is_not(name: str) -> None:
    course = COURSES[name]
    update = course.update
    update[0] += update[-1]  # one parameter one further
    lie = case_of(course, update)
    with pytest.raises(UnprovableError, match="sums"):
        lie.prove()
    with pytest.raises(SumRejectedError):
        lie.verify(careless(lie).proof)


def test_clipped_parameters_are_among_them() -> None:
    course = COURSES["softmax"]
    work = true_case("softmax").assignment._work
    counts = [(fan_in + 1) * fan_out for fan_in, fan_out in course.spec.layers]
    limits = np.repeat([bound.parameter for bound in learning.layer_bounds(course.spec, course.rule)], counts)
    for step in work:
        assert (step.move.wanted > limits).any()
        assert (step.move.wanted < -limits).any()
        assert (np.abs(step.move.wanted) < limits).any()


@pytest.mark.parametrize("name", COURSES)
def test_a_move_is_the_rules(name: str) -> None:
    course = COURSES[name]
    single = replace(course.rule, local_steps=1)
    generator = np.random.default_rng(4)
    for scale in (1, 10**3, 10**6):
        gradient = generator.integers(-scale, scale + 1, course.spec.parameter_count)
        move = _local.moved(course.spec, course.rule, course.parameters, gradient, 9)
        expected = learning.apply_total(course.spec, single, course.parameters, np.append(gradient, 9))
        assert (move.after == expected).all()


# --- lies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "each"), [("logistic", 1), ("hidden", 5)] if FULL else [("logistic", 4), ("hidden", 20)]
)
def test_no_number_on_the_way_can_be_another(name: str, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    light_work(monkeypatch)
    case = true_case(name)
    layout, tensors, tried = case.program.layout, case.tensors, 0
    products = layout.tree_slice(layout.products).start
    parts = (tensors.moves, [later.step.hidden for later in tensors.later], [later.weights for later in tensors.later])  # type: ignore[attr-defined]
    for path, tensor in list(tensors_of(parts))[::each]:
        row, slot = entry_at(layout, tensor, 0)

        def change(messages: Any, row: int = row, slot: int = slot) -> None:
            messages[row, slot] = (int(messages[row, slot]) + 1) % P

        trace = row < products
        liar = Changed(case.assignment, *((change,) if trace else (lambda _: None, change)))
        with pytest.raises(ProofRejectedError):
            case.verify(careless(case, path, liar).proof)
        tried += 1
    assert tried > (20 if FULL else 4)


def lying(course: Course, monkeypatch: pytest.MonkeyPatch, lie: Any) -> Case:
    """The last move is another one, and c masks what it leads to."""
    steps = local_steps(course.spec, course.rule, course.parameters, course.features, course.labels, course.chosen)
    work = _local.local_work(course.spec, course.rule, course.parameters, course.features, steps, course.chosen)
    work[-1] = replace(work[-1], move=lie(work[-1].move))
    rows = int(course.chosen[0].sum())
    monkeypatch.setattr(_training, "local_work", lambda *_: work)
    return case_of(course, np.append(rows * (work[-1].move.after - course.parameters), rows))


def rounded_down(course: Course) -> Any:
    """One entry moves by one less; its remainder is 2 d more."""

    def lie(move: _local.Move) -> _local.Move:
        wanted, after, rest = move.wanted.copy(), move.after.copy(), move.rest.copy()
        wanted[0], after[0] = wanted[0] + 1, after[0] + 1
        rest[0] += 2 * course.rule.learning_rate.denominator * int(course.chosen[0].sum()) * course.rule.one
        return _local.Move(wanted, after, rest)

    return lie


def unclipped(course: Course) -> Any:
    """The largest entry goes beyond its limit."""

    def lie(move: _local.Move) -> _local.Move:
        after = move.after.copy()
        place = int(np.argmax(move.wanted))
        after[place] += 1
        return _local.Move(move.wanted, after, move.rest)

    return lie


def clipped_early(course: Course) -> Any:
    """An entry within its limits stops one short of where it should be."""

    def lie(move: _local.Move) -> _local.Move:
        after = move.after.copy()
        after[0] -= 1
        return _local.Move(move.wanted, after, move.rest)

    return lie


def test_a_step_is_rounded_as_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    course = COURSES["hidden"]
    liar = lying(course, monkeypatch, rounded_down(course))
    with pytest.raises(UnprovableError):
        liar.prove()
    layer = liar.tensors.moves[-1].layers[0]  # type: ignore[attr-defined]
    slack = layer.divisor - 1 - int(liar.assignment._work[-1].move.rest[0])
    assert slack < 0

    def negative(messages: Any) -> None:
        """The limbs spell the negative slack, modulo p, in the last one."""
        rest = slack
        for grid, bits in zip(layer.slack.grids, layer.slack.widths, strict=True):
            last = grid is layer.slack.grids[-1]
            row, slot = entry_at(liar.program.layout, grid, 0)
            messages[row, slot] = rest % P if last else rest & ((1 << bits) - 1)
            rest >>= bits

    with pytest.raises(IdentityRejectedError):
        liar.verify(careless(liar, assignment=Changed(liar.assignment, negative)).proof)


def test_a_parameter_stays_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    course = COURSES["softmax"]
    liar = lying(course, monkeypatch, unclipped(course))
    with pytest.raises(ProofRejectedError):
        liar.verify(careless(liar).proof)


def test_a_parameter_is_clipped_at_its_limit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """w - s = w' + above with above = 1 and w' not at the limit: the product of above and room is not 0."""
    course = COURSES["hidden"]
    liar = lying(course, monkeypatch, clipped_early(course))
    grid = liar.tensors.moves[-1].layers[0].above.grids[0]  # type: ignore[attr-defined]
    row, slot = entry_at(liar.program.layout, grid, 0)

    def above(messages: Any) -> None:
        messages[row, slot] = 1

    with pytest.raises(IdentityRejectedError):
        liar.verify(careless(liar, assignment=Changed(liar.assignment, above)).proof)
    with pytest.raises(SumRejectedError):
        liar.verify(careless(liar).proof)


# --- statements


def test_a_proof_is_about_its_batches() -> None:
    case = true_case("hidden")
    statement = case.statement
    assert isinstance(statement, TrainingStatement)
    proof = case.prove().proof
    with pytest.raises(ProofRejectedError):
        verify_training(replace(statement, chosen=statement.chosen[::-1].copy()), proof)
    other = statement.chosen.copy()
    other[1] = ~other[1]
    for chosen in (statement.chosen[:2], statement.chosen[0], other):
        with pytest.raises(StatementError, match="chosen"):
            replace(statement, chosen=chosen)


def test_a_witness_has_a_trace_for_every_step() -> None:
    case = true_case("logistic")
    assert isinstance(case.statement, TrainingStatement)
    with pytest.raises(ValueError, match="zip"):
        prove_training(case.statement, replace(case.assignment.witness, later=()), random_of("p"))


def test_a_move_that_could_wrap_is_not_proved() -> None:
    course = COURSES["logistic"]
    rule = replace(course.rule, learning_rate=Fraction(1, 1 << 16), fraction_bits=16, output_limit=64, feature_limit=1)
    statement = true_case("logistic").statement
    assert isinstance(statement, TrainingStatement)
    spec = ModelSpec("logistic", 5)
    shape = replace(statement.data, limit=rule.one, rows=1 << 12, message_len=1 << 13)
    masked = replace(statement.masked, entry_bound=(1 << 12) * 2 * 64 * rule.one, lane_bits=40)
    wide = TrainingStatement(
        masked, spec, rule, statement.parameters, shape, statement.data_root, np.ones((2, 1 << 12), np.bool_)
    )
    with pytest.raises(StatementError, match="a move of layer 0"):
        verify_training(wide, b"")


def test_local_steps_have_scores() -> None:
    course = COURSES["hidden"]
    direction = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, course.spec.parameter_count)
    demand = ScoreDemand(direction, 12, 30, 77)
    case = case_of(course, demand=demand)
    case.verify(case.prove().proof)
    lie = case_of(course, demand=demand, wrong=1)
    with pytest.raises(SumRejectedError):
        lie.verify(careless(lie).proof)
