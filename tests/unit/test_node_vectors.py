"""A task whose update is any vector: rounding within bounds, exact sums, strict states, and no level it cannot have."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from collegium.aggregation import BudgetError
from collegium.crypto import hash_fields
from collegium.node import (
    Quantiser,
    VectorLevelError,
    VectorRows,
    VectorStateError,
    VectorTask,
    VectorTaskError,
    first_vector_state,
)

QUANTISER = Quantiser(clip=Fraction(1, 2), bits=8, norm=Fraction(3, 4))
STEP = float(QUANTISER.step)
WEIGHTS = np.array([0.25, -1.5, 0.0, 3.0, 1e-3])
TASK = VectorTask(
    task=hash_fields("vectors"),
    level="bounded",
    entries=5,
    quantiser=QUANTISER,
    trainers=4,
    initial=first_vector_state(WEIGHTS, QUANTISER, 4),
    cohort_min=2,
    lying_max=1,
)
BEACON = bytes(32)


def learns(change: np.ndarray) -> VectorRows:
    return VectorRows("north", "north/0", lambda weights, seed: change)


def test_a_change_is_rounded_to_the_nearest_step() -> None:
    done = QUANTISER.quantise(STEP * np.array([0.4, 0.6, -1.4, -1.6, 0.0]))
    assert done.update.tolist() == [0, 1, -1, -2, 0]
    assert (done.clipped, done.shrunk) == (0, False)


def test_an_entry_beyond_the_clip_is_cut_to_it() -> None:
    quantiser = replace(QUANTISER, norm=None)
    done = quantiser.quantise(np.array([9.0, -9.0, 0.5]))
    assert done.update.tolist() == [127, -127, 127]
    assert (done.clipped, done.shrunk) == (2, False)


@pytest.mark.parametrize("norm", [Fraction(1, 7), Fraction(1, 2), Fraction(3, 4)])
def test_a_change_beyond_the_norm_is_shrunk_to_it(norm: Fraction) -> None:
    quantiser = replace(QUANTISER, norm=norm)
    done = quantiser.quantise(np.full(50, 0.4))
    bound = quantiser.norm_bound
    assert bound is not None
    assert done.shrunk
    assert 0.8 * bound**2 <= int(np.dot(done.update, done.update)) <= bound**2


def test_a_change_within_the_norm_is_left_alone() -> None:
    assert not QUANTISER.quantise(np.full(3, 0.4)).shrunk


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_training_that_diverged_is_refused(wrong: float) -> None:
    with pytest.raises(VectorTaskError, match="entry 1 of a change is"):
        QUANTISER.quantise(np.array([0.0, wrong]))


@pytest.mark.parametrize("change", [{"bits": 3}, {"bits": 17}, {"clip": Fraction(0)}, {"norm": Fraction(1, 1000)}])
def test_bounds_that_make_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(VectorTaskError):
        replace(QUANTISER, **change)


def test_the_initial_weights_are_kept_to_a_fraction_of_a_step() -> None:
    assert np.abs(TASK.weights(b"") - WEIGHTS).max() <= STEP / 8


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
def test_initial_weights_that_cannot_be_counted(wrong: float) -> None:
    with pytest.raises(VectorStateError, match="initial weight 1 is"):
        first_vector_state(np.array([0.0, wrong]), QUANTISER, 4)


def test_the_model_moves_by_the_mean_of_the_updates() -> None:
    changes = [np.array([0.1, 0.0, -0.1, 0.2, 0.0]), np.array([0.1, 0.3, -0.1, 0.0, 0.0]), np.zeros(5), np.zeros(5)]
    updates = [TASK.update(0, b"", learns(change), BEACON) for change in changes]
    after = TASK.step(0, b"", np.sum(updates, axis=0))
    assert np.abs(TASK.weights(after) - WEIGHTS - np.mean(changes, axis=0)).max() <= STEP


def test_steps_add_exactly_in_any_order() -> None:
    draw = np.random.default_rng(1)
    totals = draw.integers(-500, 501, (30, 5))
    forwards = backwards = TASK.initial
    for total, other in zip(totals, totals[::-1], strict=True):
        forwards, backwards = TASK.step(1, forwards, total), TASK.step(1, backwards, other)
    assert forwards == backwards
    assert TASK.decode_state(forwards).tolist() == (TASK.decode_state(b"") + totals.sum(axis=0)).tolist()


@pytest.mark.parametrize("data", [b"x", bytes(8 * 4), bytes(8 * 6), bytes(8 * 4) + b"\x00" * 7 + b"\x80"])
def test_bytes_that_are_no_state(data: bytes) -> None:
    assert TASK.encode_state(TASK.decode_state(TASK.initial)) == TASK.initial
    with pytest.raises(VectorStateError):
        TASK.decode_state(data)


def test_a_total_that_drives_a_weight_out_of_range() -> None:
    with pytest.raises(VectorStateError, match="weight 2 is"):
        TASK.step(0, b"", np.array([0, 0, 1 << 53, 0, 0]))


def test_a_total_of_another_length() -> None:
    with pytest.raises(VectorStateError, match=r"expected \(5,\)"):
        TASK.step(0, b"", np.zeros(4, np.int64))


def test_a_trainer_that_learns_another_model() -> None:
    with pytest.raises(VectorTaskError, match="trainer north/0 changes weights of shape"):
        TASK.update(0, b"", learns(np.zeros(4)), BEACON)


@pytest.mark.parametrize("level", ["proved", "attested", ""])
def test_a_level_that_it_cannot_have(level: str) -> None:
    with pytest.raises(VectorLevelError, match="no agreed rule"):
        replace(TASK, level=level)


def test_trainers_that_do_not_fit_the_ring() -> None:
    assert replace(TASK, trainers=1000).layout(0).budget.trainers_max == 1000
    with pytest.raises(BudgetError):
        replace(TASK, trainers=100_000)


def test_a_norm_that_the_entries_imply_is_not_proved() -> None:
    assert TASK.norm_bound == QUANTISER.norm_bound
    assert replace(TASK, quantiser=replace(QUANTISER, norm=Fraction(2))).norm_bound is None


def test_nothing_can_be_registered() -> None:
    assert TASK.registration_bytes_max(1) == 0
    with pytest.raises(VectorLevelError, match="registers no data"):
        TASK.verify_registration(b"", b"data")


def test_whatever_decides_the_step_is_described() -> None:
    changes = [
        replace(TASK, quantiser=replace(QUANTISER, clip=Fraction(1, 3))),
        replace(TASK, quantiser=replace(QUANTISER, bits=9)),
        replace(TASK, quantiser=replace(QUANTISER, norm=None)),
        replace(TASK, level="unproved"),
        replace(TASK, trainers=5),
        replace(TASK, initial=first_vector_state(WEIGHTS + 1, QUANTISER, 4)),
    ]
    digests = {task.rule_digest for task in (TASK, *changes)}
    assert len(digests) == len(changes) + 1
