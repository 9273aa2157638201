"""Directions, score scales, budgets and norm bounds: what is refused, and examples done by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from collegium.incentives import (
    BUDGET_MAX,
    NORM_MAX,
    ONE,
    BudgetError,
    DirectionError,
    MedianError,
    RoundInputError,
    median_direction,
    next_norm_bound,
    normalise_direction,
    normalise_scores,
    score_scale,
    scoring_direction,
    split_budget,
    weighted_median,
    weighted_median_rows,
    without_component,
)
from collegium.proofs import ScoreDemand
from collegium.proofs._score import DIRECTION_MAX

THREE = [normalise_direction(np.array(v, np.int64)) for v in ([3, 0, 4], [0, 5, 12], [-1, 0, 0])]


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_a_direction_has_norm_two_to_the_twenty() -> None:
    assert THREE[0].tolist() == [3 * (1 << 20) // 5, 0, 4 * (1 << 20) // 5]


def test_the_median_goes_by_stake_and_the_lower_of_two_halves_wins() -> None:
    assert median_direction(THREE, [1, 1, 1])[0] == 0
    assert median_direction(THREE, [5, 1, 1]).tolist() == THREE[0].tolist()
    assert median_direction(THREE[:2], [1, 1])[0] == 0


@pytest.mark.parametrize("factor", [2, 0.5])
def test_a_steward_that_shouts_or_whispers_is_refused(factor: float) -> None:
    loud = (THREE[0] * factor).astype(np.int64)
    with pytest.raises(DirectionError) as refused:
        median_direction([THREE[1], loud], [1, 1])
    assert refused.value.values["index"] == 1


def test_directions_that_are_none_are_refused() -> None:
    for gradient in (array(), array(0, 0), np.array([1.0]), array(-(1 << 63)), np.ones((2, 2), np.int64)):
        with pytest.raises(DirectionError):
            normalise_direction(gradient)
    with pytest.raises(DirectionError):
        median_direction([THREE[0], THREE[1][:2]], [1, 1])
    with pytest.raises(MedianError):
        median_direction([], [])
    with pytest.raises(MedianError):
        median_direction(THREE, [1, 1, 0])
    with pytest.raises(MedianError):
        weighted_median_rows(array(1, 2).reshape(2, 1), [1])
    with pytest.raises(MedianError):
        weighted_median(array(1, 2), array(1 << 61, 1))


def test_the_component_along_the_last_aggregate_goes() -> None:
    left = without_component(array(1 << 19, 1 << 19), array(0, 7))
    assert left[0] == 1 << 39
    assert 0 <= left[1] < 1 << 20
    assert scoring_direction(array(3, 4), array(0, 7), ONE // 4).tolist() == [1 << 15, 1 << 15]
    assert scoring_direction(array(3, 4), array(0, 7), 0).tolist() == [3 << 13, 1 << 15]
    assert scoring_direction(array(3, 4), array(0, 7)).tolist() == [1 << 15, 0]
    assert scoring_direction(array(3, 4), None).tolist() == [3 << 13, 1 << 15]
    assert scoring_direction(array(3, 4), array(0, 0)).tolist() == [3 << 13, 1 << 15]


def test_a_direction_along_the_last_aggregate_leaves_nothing_to_score() -> None:
    with pytest.raises(DirectionError):
        scoring_direction(array(0, 4), array(0, 7))
    with pytest.raises(DirectionError):
        without_component(array(1, 2), array(1, 2, 3))
    for share in (-1, ONE + 1):
        with pytest.raises(DirectionError):
            without_component(array(1, 2), array(1, 3), share)


def test_a_score_of_one_is_an_update_of_full_length_along_the_direction() -> None:
    direction = scoring_direction(array(3, 4), None)
    scale = score_scale(direction, 50_000, Fraction(1, 10))
    demand = ScoreDemand(direction, scale.shift, 0, 0)
    assert int(np.abs(direction).max()) <= DIRECTION_MAX
    values = [
        demand.score(np.array([*update, 9]), 0).value for update in ([30_000, 40_000], [-30_000, -40_000], [0, 0])
    ]
    found = normalise_scores(values, scale)
    assert np.abs(found - [ONE, -ONE, 0]).max() <= 4
    assert abs(scale.sigma - scale.unit / 10) <= 1


def test_scores_are_cut_to_one() -> None:
    scale = score_scale(array(1 << 15), 1 << 20, Fraction(0))
    assert normalise_scores([scale.unit * 3, -scale.unit * 3, scale.unit], scale).tolist() == [ONE, -ONE, ONE]


def test_a_scale_that_no_proof_takes_is_refused() -> None:
    for bound, noise in ((0, Fraction(0)), (1, Fraction(-1)), (1, Fraction(9, 2))):
        with pytest.raises(DirectionError):
            score_scale(array(1), bound, noise)
    with pytest.raises(DirectionError):
        score_scale(array(1 << 15), 1 << 50, Fraction(0))


def test_the_largest_remainders_get_what_rounding_leaves() -> None:
    assert split_budget(array(1, 1, 1), 10) == (4, 3, 3)
    assert split_budget(array(5, 0, 3), 4) == (3, 0, 1)
    assert split_budget(array(0, 0), 4) == (0, 0)
    assert split_budget(array(1), BUDGET_MAX) == (BUDGET_MAX,)


@pytest.mark.parametrize(("points", "budget"), [((1,), -1), ((1,), BUDGET_MAX + 1), ((1, -1), 5)])
def test_a_budget_that_is_none_is_refused(points: tuple[int, ...], budget: int) -> None:
    with pytest.raises(BudgetError):
        split_budget(array(*points), budget)


def test_the_norm_bound_falls_while_most_are_within_it_and_rises_while_most_are_cut() -> None:
    assert next_norm_bound(1 << 20, 10, 10) == 948_790  # exp(-1/10)
    assert next_norm_bound(1 << 20, 0, 10) == 1_158_855  # exp(1/10)
    assert next_norm_bound(1 << 20, 5, 10) == 1 << 20
    assert next_norm_bound(1 << 20, 0, 0) == 1 << 20
    assert next_norm_bound(16, 10, 10) == 16
    assert next_norm_bound(NORM_MAX, 0, 10) == NORM_MAX


@pytest.mark.parametrize("arguments", [(15, 0, 1), (NORM_MAX + 1, 0, 1), (16, 2, 1), (16, -1, 1)])
def test_a_norm_bound_out_of_range_is_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(RoundInputError):
        next_norm_bound(*arguments)
