"""The public work of a task: totals become model states, states become bytes, and nothing else decodes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from collegium.aggregation import BudgetError
from collegium.crypto import hash_fields
from collegium.learning import (
    CategoryColumn,
    EmptyTotalError,
    ModelSpec,
    NumericColumn,
    Rows,
    Rule,
    RuleError,
    Schema,
    StatisticsError,
    Table,
    TotalError,
    TrainerRows,
    UnknownCategoryError,
)
from collegium.node import LearningTask, ModelStateError, PrivacyTerms
from collegium.node._task import StalenessRefusedError

SCHEMA = Schema((NumericColumn("age", 0.0, 100.0, ()), CategoryColumn("kind", ("x", "y"), ())))
TASK = LearningTask(
    task=hash_fields("test-task"),
    seed=hash_fields("test-seed"),
    level="unproved",
    rounds=3,
    schema=SCHEMA,
    spec=ModelSpec("logistic", 3, ()),
    rule=Rule(learning_rate=Fraction(1)),
    rows_max=64,
    trainers_max=4,
    cohort_min=2,
    lying_max=1,
)
BATCHES = replace(TASK, rule=Rule(learning_rate=Fraction(1, 2), local_steps=2, batch_rows=4))
NETWORK = replace(TASK, spec=ModelSpec("mlp", 3, (2,)))
BEACON = bytes(32)


def rows(site: str, ages: range) -> TrainerRows:
    table = Table(("age", "kind"), (tuple(str(age) for age in ages), tuple("xy"[age % 2] for age in ages)))
    return TrainerRows(site, f"{site}/0", Rows(table, np.array([int(age > 50) for age in ages], np.int64)))


TRAINERS = (rows("north", range(20, 60, 2)), rows("south", range(31, 91, 3)))


def total(task: LearningTask, number: int, model: bytes) -> np.ndarray:
    return np.sum([task.update(number, model, trainer, BEACON) for trainer in TRAINERS], axis=0)


def states(task: LearningTask, count: int) -> list[bytes]:
    """Return the states after round 0, 1, ..."""
    model, made = b"", []
    for number in range(count):
        model = task.step(number, model, total(task, number, model))
        made.append(model)
    return made


def test_round_0_learns_the_scaling_and_later_rounds_leave_it() -> None:
    first, second, third = (TASK.decode_state(state) for state in states(TASK, 3))
    assert first.statistics[-1] == 40  # rows of both trainers
    assert np.array_equal(first.parameters, np.zeros(4, np.int64))
    assert not np.array_equal(second.parameters, first.parameters)
    assert not np.array_equal(third.parameters, second.parameters)
    assert all(np.array_equal(first.statistics, state.statistics) for state in (second, third))


def test_each_round_has_the_layout_of_what_it_adds() -> None:
    model = states(TASK, 1)[0]
    assert TASK.layout(0).entries == total(TASK, 0, b"").size == 3 + 1
    assert TASK.layout(1).entries == total(TASK, 1, model).size == 4 + 1
    assert TASK.layout(7) == TASK.layout(1)


def test_weights_double_with_each_round_that_a_report_may_be_stale_and_there_are_models_for() -> None:
    task = replace(TASK, staleness=2)
    assert [task.layout(number).budget.weight_max for number in range(5)] == [1, 1, 2, 4, 4]
    assert all(TASK.layout(number).budget.weight_max == 1 for number in range(5))
    replace(task, level="bounded")
    with pytest.raises(StalenessRefusedError, match="staleness 2 at level proved"):
        replace(task, level="proved")


@pytest.mark.parametrize("task", [TASK, BATCHES, NETWORK], ids=["logistic", "batches", "mlp"])
def test_a_weighted_mean_is_exact(task: LearningTask) -> None:
    """Equal weights change nothing, and unequal ones weigh rows: a trainer of weight 2 is two trainers of weight 1."""
    model = states(task, 1)[0]
    one, two = (task.update(1, model, trainer, BEACON) for trainer in TRAINERS)
    assert task.step(2, model, 4 * one + 4 * two) == task.step(2, model, one + two)
    assert task.step(2, model, 4 * one + 2 * two) == task.step(2, model, one + one + two)
    assert task.step(2, model, 4 * one + 2 * two) != task.step(2, model, one + two)


@pytest.mark.parametrize("task", [TASK, BATCHES, NETWORK], ids=["logistic", "batches", "mlp"])
def test_a_total_is_all_that_a_step_needs(task: LearningTask) -> None:
    model = states(task, 1)[0]
    updates = [task.update(1, model, trainer, BEACON) for trainer in TRAINERS]
    assert task.step(1, model, updates[0] + updates[1]) == task.step(1, model, updates[1] + updates[0])
    assert task.step(1, model, updates[0]) != task.step(1, model, updates[1])


def test_a_network_starts_from_the_tasks_own_draw() -> None:
    state = NETWORK.decode_state(states(NETWORK, 1)[0])
    accounts = replace(NETWORK, task=hash_fields("test-other-task"))
    np.testing.assert_array_equal(accounts.decode_state(states(accounts, 1)[0]).parameters, state.parameters)
    other = replace(NETWORK, seed=hash_fields("test-other-seed"))
    assert state.parameters.any()
    assert not np.array_equal(other.decode_state(states(other, 1)[0]).parameters, state.parameters)


def test_round_trainer_and_beacon_each_choose_other_batches() -> None:
    seeds = {
        TASK.batch_seed(1, BEACON, "north/0"),
        TASK.batch_seed(2, BEACON, "north/0"),
        TASK.batch_seed(1, BEACON, "north/1"),
        TASK.batch_seed(1, bytes(31) + b"\1", "north/0"),
        replace(TASK, task=bytes(32)).batch_seed(1, BEACON, "north/0"),
    }
    assert len(seeds) == 5
    model = states(BATCHES, 1)[0]
    one, two = (BATCHES.update(1, model, TRAINERS[0], bytes([b]) * 32) for b in (1, 2))
    assert not np.array_equal(one, two)


def test_a_total_of_nobody_is_no_step() -> None:
    model = states(TASK, 1)[0]
    good = total(TASK, 1, model)
    TASK.step(1, model, good)
    with pytest.raises(EmptyTotalError):
        TASK.step(1, model, np.zeros_like(good))


def test_a_total_of_another_length_or_impossible_statistics_are_refused() -> None:
    model = states(TASK, 1)[0]
    with pytest.raises(TotalError):
        TASK.step(1, model, total(TASK, 1, model)[:-1])
    statistics = total(TASK, 0, b"")
    statistics[0] = -1
    with pytest.raises(StatisticsError):
        TASK.step(0, b"", statistics)


@pytest.mark.parametrize("task", [TASK, NETWORK], ids=["logistic", "mlp"])
def test_a_state_survives_its_bytes(task: LearningTask) -> None:
    for data in states(task, 3):
        assert task.encode_state(task.decode_state(data)) == data


def test_bytes_that_are_no_state_of_this_task_are_refused() -> None:
    data = states(TASK, 2)[-1]
    length = 8 * TASK.layout(0).entries
    for wrong in (b"", data[: length - 1], data[:length], data[:-1], data + b"\0"):
        with pytest.raises(ModelStateError):
            TASK.decode_state(wrong)
    with pytest.raises(ModelStateError):
        NETWORK.decode_state(data)
    with pytest.raises(ModelStateError):
        TASK.decode_state(b"\xff" * 8 + data[8:])  # a count of -1


def test_training_before_the_scaling_is_refused() -> None:
    with pytest.raises(ModelStateError, match="a model state has more than 32 bytes, got 0"):
        TASK.update(1, b"", TRAINERS[0], BEACON)


def test_an_evaluation_is_of_the_state_and_the_rows() -> None:
    before, after = states(TASK, 2)
    test = TRAINERS[1].rows
    assert TASK.evaluate(before, test).auc == 0.5
    assert TASK.evaluate(after, test).auc > 0.9
    assert TASK.evaluate(after, test.select(range(5, 15))).rows == 10


def test_a_task_whose_integers_do_not_fit_has_no_layout() -> None:
    largest = replace(TASK, rows_max=1 << 16)
    assert largest.layout(1).entries == 5
    with pytest.raises(BudgetError):
        replace(TASK, trainers_max=1 << 40).layout(1)
    with pytest.raises(RuleError, match="rows_max is"):
        replace(TASK, rows_max=1 << 60).layout(1)


def test_with_noise_round_0_tells_the_number_of_rows_alone_and_refuses_rows_that_do_not_fit() -> None:
    noisy = replace(TASK, privacy=PrivacyTerms(norm=1 << 20, deviation=100))
    north, _ = TRAINERS
    count = len(north.rows)
    assert noisy.update(0, b"", north, BEACON).tolist() == [count, 2048 * count, 5592405 * count, count]
    table = Table(("age", "kind"), (("30", "40"), ("x", "z")))
    strange = TrainerRows("north", "north/0", Rows(table, np.array([0, 1], np.int64)))
    with pytest.raises(UnknownCategoryError, match="kind"):
        noisy.update(0, b"", strange, BEACON)
