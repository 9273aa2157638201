"""Vector federations with the real committee: what its model becomes, what a poisoner can do, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from collegium.node import (
    Event,
    Quantiser,
    RoundFinished,
    VectorLevelError,
    VectorSettings,
    VectorTaskError,
    play_vectors,
)

pytestmark = pytest.mark.slow

QUANTISER = Quantiser(clip=Fraction(1, 2), bits=12)
SETTINGS = VectorSettings(name="vectors", rounds=3, level="unproved", quantiser=QUANTISER, link_ms=10)
GOALS = {"north": (1.0, 0.0), "south": (0.0, 1.0), "east": (1.0, 1.0), "west": (0.0, 0.0)}
START = np.array([0.25, -0.25])


@dataclass(frozen=True)
class Scores:
    """How far the weights are from the mean of the goals."""

    loss: float
    accuracy: float = math.nan
    auc: float = math.nan


def evaluate(weights: np.ndarray) -> Scores:
    return Scores(float(np.abs(weights - 0.5).max()))


def learners() -> dict:
    return {name: partial(halfway, goal) for name, goal in GOALS.items()}


def halfway(goal: tuple[float, float], weights: np.ndarray, seed: bytes) -> np.ndarray:
    return (np.array(goal) - weights) / 2


def test_the_model_goes_where_its_trainers_pull_on_average() -> None:
    events: list[Event] = []
    rounds, weights = play_vectors(SETTINGS, START, learners(), evaluate, events.append)
    expected = START
    for _ in rounds:
        changes = [QUANTISER.quantise((np.array(goal) - expected) / 2).update for goal in GOALS.values()]
        expected = expected + np.sum(changes, axis=0) * float(QUANTISER.step) / 4
    assert weights == pytest.approx(expected, abs=1e-6)
    assert [(done.round, done.facts.outcome, done.facts.admitted) for done in rounds] == [
        (number, "opened", 4) for number in (1, 2, 3)
    ]
    assert rounds[2].scores.loss < rounds[0].scores.loss
    assert rounds[0].prove_ms is None
    assert rounds[0].facts.proof_bytes == 0
    assert [event.loss for event in events if isinstance(event, RoundFinished)] == [d.scores.loss for d in rounds]


def test_a_poisoner_moves_a_bounded_model_no_further_than_the_clip() -> None:
    poisoned = learners() | {"north": lambda weights, seed: np.array([1e9, 0.125])}
    settings = replace(SETTINGS, level="bounded", rounds=1)
    rounds, weights = play_vectors(settings, START, poisoned, evaluate, lambda event: None)
    _, honest = play_vectors(replace(settings, level="unproved"), START, learners(), evaluate, lambda event: None)
    assert rounds[0].facts.proof_bytes > 0
    assert rounds[0].verify_ms is not None
    assert 0 < weights[0] - honest[0] <= 0.5 / 4
    assert weights[1] == honest[1]


def test_a_trainer_that_diverges_stops_the_round() -> None:
    diverging = learners() | {"north": lambda weights, seed: np.array([math.nan, 0.0])}
    with pytest.raises(VectorTaskError, match="training diverged"):
        play_vectors(SETTINGS, START, diverging, evaluate, lambda event: None)


def test_no_level_is_proved_that_no_rule_backs() -> None:
    with pytest.raises(VectorLevelError, match="no agreed rule"):
        play_vectors(replace(SETTINGS, level="proved"), START, learners(), evaluate, lambda event: None)
