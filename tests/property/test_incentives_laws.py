"""Laws of incentives: arrays equal the plain definition at every bound, and fixed point stays near real numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import isqrt, sqrt

import numpy as np
import pytest
from _incentives_stage import COLUMNS, address, founders, plain, policies, rounds, standings
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.algebra import P
from collegium.incentives import (
    ONE,
    PRECISION_ONE,
    STAKE_MAX,
    WATCHFUL,
    DirectionError,
    Policy,
    ScoredRound,
    Standing,
    decode_standing,
    direction_norm_max,
    draw,
    encode_standing,
    join,
    median_direction,
    next_norm_bound,
    normalise_direction,
    score_scale,
    scoring_direction,
    split_budget,
    utility,
    weigh,
    weighted_median,
    weighted_median_rows,
    without_component,
)
from collegium.incentives import POLICY_RANGES as _RANGES
from collegium.incentives import _reference as reference
from collegium.incentives._standing import COLUMNS as _COLUMNS

numbers = st.integers(-(1 << 62), 1 << 62)


@given(data=st.data(), policy=policies(), standing=standings())
def test_arrays_equal_python_integers_whatever_the_state(
    data: st.DataObject, policy: Policy, standing: Standing
) -> None:
    scored = data.draw(rounds(standing))
    weighed = weigh(policy, standing, scored)
    state = plain(standing)
    places = scored.reporters.tolist()
    outcome = reference.weigh(
        policy,
        state,
        dict(zip(places, scored.scores.tolist(), strict=True)),
        dict(zip(places, scored.hits.tolist(), strict=True)),
        scored.stakes.tolist(),
    )
    after = plain(weighed.standing)
    assert (after.round, after.signal, after.signal_first) == (state.round, state.signal, state.signal_first)
    assert after.rows == state.rows
    assert weighed.weights.tolist() == outcome.weights
    assert weighed.points.tolist() == outcome.points
    assert [(lock.place, lock.reason, lock.until) for lock in weighed.locks] == outcome.locks


@pytest.mark.seeds(quick=3, full=200)
def test_columns_stay_within_their_bounds_over_a_long_history(seed: int) -> None:
    """The worst signals and scores that a round can have, for hundreds of rounds: what is encoded is decoded."""
    generator = np.random.default_rng(seed)
    ends = {name: int(generator.choice(_RANGES[name])) for name in ("memory", "clock_floor", "noise_floor", "window")}
    policy = replace(Policy(), **ends, window_noise_floor=ONE // 50, useless_deviations=8 * ONE)
    standing = founders(5)
    stakes = np.ones(5, np.int64)
    for _ in range(400):
        free = np.flatnonzero(standing.locked_until <= standing.round)
        scores = np.where(generator.random(len(free)) < 0.9, ONE, generator.choice([-ONE, ONE, ONE // 2]))
        round_ = ScoredRound(free, scores.astype(np.int64), np.ones(len(free), np.int64), stakes)
        standing = weigh(policy, standing, round_).standing
        assert encode_standing(decode_standing(encode_standing(standing))) == encode_standing(standing)


@pytest.mark.seeds(quick=4, full=300)
def test_fixed_point_stays_near_real_numbers(seed: int) -> None:
    """docs/spec/quality.md, section 7: precision within 2^-20 (1 + 1 / (1 - keep)) of the real recursion, and so on."""
    generator = np.random.default_rng(seed)
    policy, count = replace(WATCHFUL, useless_deviations=8 * ONE, fall_deviations=8 * ONE), 9
    standing, stakes = founders(count), np.ones(count, np.int64)
    precision, information = [0.0] * count, [0.0] * count
    for _ in range(120):
        chosen = np.flatnonzero((standing.locked_until <= standing.round) & (generator.random(count) < 0.8))
        if not chosen.size:
            continue
        scores = np.clip(np.floor(ONE * generator.normal(0.3, 0.2, len(chosen))), -ONE, ONE).astype(np.int64)
        scored = ScoredRound(chosen, scores, np.ones(len(chosen), np.int64), stakes)
        state = plain(standing)
        strength, variance = reference.signal(policy, state, dict(zip(chosen.tolist(), scores.tolist(), strict=True)))
        weighed = weigh(policy, standing, scored)
        rho, square = strength / ONE, variance / ONE**2
        first = (standing.signal_first or strength) / ONE
        clock = max(min(1.0, (rho / first) ** 2), policy.clock_floor / ONE)
        keep = 1 - (1 - policy.memory / ONE) * clock
        for place in range(count):
            precision[place] *= keep
            information[place] *= keep
        for place, score in zip(chosen.tolist(), scores.tolist(), strict=True):
            if strength > policy.signal_floor:
                precision[place] += rho**2 / square
                information[place] += rho * (score / ONE) / square
        standing = weighed.standing
        for lock in weighed.locks:
            precision[lock.place] = information[lock.place] = 0.0
        # keep is rounded up by less than 2^-16 + 2^-16, relative to what it multiplies, and each floor costs a unit.
        relative = 2 * 2**-16 / (1 - keep)
        floors = 2 / (1 - keep) / PRECISION_ONE
        for place in range(count):
            near = relative * precision[place] + floors
            assert abs(standing.precision[place] / PRECISION_ONE - precision[place]) <= near
            assert abs(standing.information[place] / PRECISION_ONE - information[place]) <= near * max(1.0, 1 / rho)
        estimate, known = utility(policy, standing)
        prior = policy.prior_precision / PRECISION_ONE
        for place in range(count):
            real = (information[place] + prior * policy.prior_utility / ONE) / (precision[place] + prior)
            assert abs(estimate[place] / ONE - max(-4.0, min(4.0, real))) < 0.02
            assert abs(1 / sqrt(known[place] / PRECISION_ONE) - 1 / sqrt(precision[place] + prior)) < 0.01


# Medians and directions


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1, max_size=9),
    st.integers(1, STAKE_MAX // 81),
)
def test_the_weighted_median_is_the_least_with_half_of_the_weight(rows: list[tuple[int, int]], scale: int) -> None:
    values, weights = [v for v, _ in rows], [w * scale for _, w in rows]
    found = weighted_median(np.array(values, np.int64), np.array(weights, np.int64))
    assert found == reference.weighted_median(values, weights)


@given(st.data())
def test_less_than_half_of_the_stake_moves_no_entry_beyond_the_others(data: st.DataObject) -> None:
    honest = data.draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=5))
    liars = data.draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=4))
    stakes = [10] * len(honest) + [(10 * len(honest) - 1) // len(liars) or 1] * len(liars)
    found = weighted_median_rows(np.array(honest + liars, np.int64), stakes)
    assert (found >= np.min(honest, axis=0)).all()
    assert (found <= np.max(honest, axis=0)).all()


@st.composite
def vectors(draw_: st.DrawFn, length: int) -> np.ndarray:
    bits = draw_(st.integers(1, 62))
    entries = st.integers(-(1 << bits), 1 << bits)
    found = draw_(st.lists(entries, min_size=length, max_size=length).filter(any))
    return np.array(found, np.int64)


@given(st.integers(1, 40).flatmap(vectors))
def test_a_stewards_direction_has_the_norm_that_the_median_asks_for(gradient: np.ndarray) -> None:
    direction = normalise_direction(gradient)
    assert median_direction([direction], [1]).tolist() == direction.tolist()
    real = gradient.astype(np.float64)
    assert np.abs(direction - (1 << 20) * real / np.linalg.norm(real)).max() < 4


@given(st.integers(2, 30).flatmap(lambda length: st.tuples(vectors(length), vectors(length))))
def test_what_is_scored_is_next_to_orthogonal_to_the_last_aggregate(pair: tuple[np.ndarray, np.ndarray]) -> None:
    median, aggregate = pair
    left = without_component(median, aggregate)
    v, a = left.astype(np.float64), aggregate.astype(np.float64)
    assert abs(v @ a) <= np.linalg.norm(a) * 2.0**22  # of up to 2^40 |a|
    if np.abs(left).max() >= 1 << 29:
        direction = scoring_direction(median, aggregate)
        assert np.abs(direction).max() == 1 << 15
        assert np.abs(direction / 2**15 - v / np.abs(v).max()).max() < 2**-14


@given(st.integers(1, 30).flatmap(vectors), st.integers(1, 1 << 30), st.fractions(0, 4))
def test_the_unit_of_a_score_is_the_longest_update_along_the_direction(
    vector: np.ndarray, bound: int, noise: Fraction
) -> None:
    direction = scoring_direction(vector, None)
    scale = score_scale(direction, bound, noise)
    exact = float(np.linalg.norm(direction.astype(np.float64))) * bound / 2**scale.shift
    assert abs(scale.unit - exact) <= 1 + 1e-9 * exact
    assert scale.shift == 0 or 1 << 15 <= scale.unit < 1 << 16
    assert abs(scale.sigma - float(noise) * scale.unit) <= 0.5 + 1e-9


@given(vector=st.integers(1, 30).flatmap(vectors), update_bound=st.integers(1, 1 << 60))
def test_a_direction_is_as_long_as_scores_have_room_for_and_no_longer(vector: np.ndarray, update_bound: int) -> None:
    entries = vector.size
    try:
        norm_max = direction_norm_max(entries, update_bound, P)
    except DirectionError:
        assert 8 * update_bound * (entries + 1) * 17 > P
        return
    whole, direction = scoring_direction(vector, None), scoring_direction(vector, None, norm_max=norm_max)
    largest, norm = int(np.abs(direction).max()), sqrt(float(direction @ direction))
    assert 8 <= largest <= 1 << 15
    assert largest & (largest - 1) == 0
    assert 8 * int(np.abs(direction).sum()) * update_bound < P
    assert norm <= norm_max
    assert largest == 1 << 15 or 2 * norm + 4 * isqrt(entries) + 4 > norm_max, "no shorter than it has to be"
    assert np.abs(direction / largest - whole / (1 << 15)).max() <= 1 / largest


def test_a_direction_without_room_for_bits_is_refused() -> None:
    assert scoring_direction(np.array([3, 4]), None, norm_max=32).tolist() == [12, 16]
    with pytest.raises(DirectionError, match="of 2 entries may have norm 31, expected 32 at least"):
        scoring_direction(np.array([3, 4]), None, norm_max=31)
    longest = P // (8 * 32 * 2)
    assert direction_norm_max(2, longest, P) == 32
    with pytest.raises(DirectionError, match="may have norm 31"):
        direction_norm_max(2, longest + longest // 31, P)


# Draws, budgets, the norm bound


@given(
    st.lists(st.integers(1, 1 << 40), min_size=1, max_size=12),
    st.integers(1, 30),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 3),
)
def test_a_draw_hits_everybody_in_proportion(stakes: list[int], places: int, beacon: bytes, newcomers: int) -> None:
    standing = join(founders(len(stakes)), [address(1000 + i) for i in range(newcomers)])
    staked = np.array(stakes + [7] * newcomers, np.int64)
    policy = replace(Policy(), sampling_floor=ONE)
    found = draw(policy, standing, staked, places, beacon)
    assert int(found.hits.sum()) == places
    kept = min(max(places * policy.probation_share >> 16, 1), places - 1) if newcomers else 0
    hits = dict(zip(found.places.tolist(), found.hits.tolist(), strict=True))
    for place, stake in enumerate(stakes):
        share = (places - kept) * Fraction(stake, sum(stakes))
        assert int(share) <= hits.get(place, 0) <= -int(-share // 1)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 1 << 60), max_size=9), st.integers(0, 1 << 100))
def test_a_budget_is_split_to_the_last_unit(points: list[int], budget: int) -> None:
    pays = split_budget(np.array(points, np.int64), budget)
    total = sum(points)
    assert sum(pays) == (budget if total else 0)
    assert all(abs(pay * total - budget * count) < max(total, 1) for pay, count in zip(pays, points, strict=True))


@given(st.integers(16, 1 << 30), st.integers(0, 200), st.integers(0, 200))
def test_the_norm_bound_moves_as_the_real_formula_does(bound: int, within: int, cut: int) -> None:
    found = next_norm_bound(bound, within, within + cut)
    share = within / (within + cut) if within + cut else 0.5
    real = max(16.0, min(2.0**30, bound * np.exp(-0.2 * (share - 0.5))))
    assert abs(found - real) <= 1 + bound * 2**-10


def test_every_column_is_in_the_reference() -> None:
    assert [name for name, _, _ in _COLUMNS] == COLUMNS
