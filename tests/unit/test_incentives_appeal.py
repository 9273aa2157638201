"""A lock ends early where what its trainer sends under it shows it useful for sure; it moves nobody else."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from math import exp, log

import numpy as np
import pytest
from _incentives_stage import COLUMNS, founders

from collegium.incentives import ONE, Policy, ScoredRound, Standing, Weighed, weigh

POLICY = Policy()
SIGNAL, NOISE = 0.5, 0.25


def standing_of(free: int, locked: int, until: int = 1000) -> Standing:
    """Vetted trainers, and behind them some that are locked out and of whom nothing is known."""
    begun = founders(free + locked)
    out = np.arange(free + locked) >= free
    return replace(begun, locked_until=np.where(out, until, 0), vetted=np.where(out, 0, 1))


def next_round(standing: Standing, utilities: np.ndarray, generator: np.random.Generator, signal: float) -> Weighed:
    """All report; who is locked out has no hit."""
    y = signal * utilities + NOISE * generator.standard_normal(len(utilities))
    exact = np.clip(np.floor(ONE * y), -ONE, ONE).astype(np.int64)
    hits = (standing.locked_until <= standing.round).astype(np.int64)
    ones = np.ones(len(standing), np.int64)
    return weigh(POLICY, standing, ScoredRound(np.arange(len(standing)), exact, hits, ones))


def played(utility: float, rounds: int, seed: int = 0, signal: float = SIGNAL) -> tuple[Standing, int]:
    """Return where a lone locked trainer of this utility stands in the end, and after how many rounds it is free."""
    generator, standing = np.random.default_rng(seed), standing_of(9, 1)
    for number in count():
        if number == rounds or standing.locked_until[9] <= standing.round:
            return standing, number
        standing = next_round(standing, np.append(np.ones(9), utility), generator, signal).standing
    raise AssertionError


@pytest.mark.parametrize("seed", range(4))
def test_a_useful_trainer_is_free_again_long_before_its_lock_ends(seed: int) -> None:
    standing, rounds = played(1.0, 60, seed)
    assert POLICY.reports_min <= rounds < 40
    assert standing.locked_until[9] == standing.round
    assert (standing.vetted[9], standing.points[9], standing.scored[9]) == (0, 0, 0)
    generator = np.random.default_rng(seed)
    weighed = next_round(standing, np.ones(10), generator, SIGNAL)
    assert weighed.standing.vetted[9] == 1, "what it sent under the lock counts when it is on probation"


@pytest.mark.parametrize("utility", [0.0, -1.0])
def test_a_useless_one_stays_locked_out_however_long_it_tries(utility: float) -> None:
    standing, rounds = played(utility, 200)
    assert rounds == 200
    assert standing.locked_until[9] == 1000
    assert standing.reports[9] == 200


def test_so_few_reports_free_nobody() -> None:
    sure = replace(standing_of(9, 1), precision=np.append(np.zeros(9), 1 << 40).astype(np.int64))
    sure = replace(sure, information=sure.precision)
    generator = np.random.default_rng(0)
    for number in range(1, POLICY.reports_min + 1):
        sure = next_round(sure, np.ones(10), generator, SIGNAL).standing
        assert (sure.locked_until[9] <= sure.round) == (number == POLICY.reports_min)


def test_a_quiet_round_frees_nobody() -> None:
    standing, rounds = played(1.0, 60, signal=0.02)
    assert rounds == 60
    assert standing.locked_until[9] == 1000


def test_who_is_no_better_than_the_level_is_freed_as_seldom_as_the_bound_says() -> None:
    """Ville: exp(-(d^2 - ln((L + L0) / L0)) / 2) over all rounds together; here 300 trainers just at the level."""
    generator, standing = np.random.default_rng(5), standing_of(60, 300)
    for _ in range(60):
        utilities = np.append(np.ones(60), np.full(300, POLICY.vetted / ONE))
        standing = next_round(standing, utilities, generator, SIGNAL).standing
    freed = float((standing.locked_until[60:] <= standing.round).mean())
    ratio = (int(standing.precision[60:].max()) + POLICY.prior_precision) / POLICY.prior_precision
    assert freed <= exp(-((POLICY.appeal_deviations / ONE) ** 2 - log(ratio)) / 2)
    useful = standing_of(60, 300)
    for _ in range(60):
        useful = next_round(useful, np.ones(360), generator, SIGNAL).standing
    assert float((useful.locked_until[60:] <= useful.round).mean()) > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_appeals_move_nothing_of_anybody_else(seed: int) -> None:
    generator, standing = np.random.default_rng(seed), standing_of(7, 3)
    for _ in range(6):
        exact = generator.integers(-ONE, ONE, 10)
        hits, ones = np.append(generator.integers(1, 9, 7), np.zeros(3, np.int64)), np.ones(10, np.int64)
        whole = weigh(POLICY, standing, ScoredRound(np.arange(10), exact, hits, ones))
        alone = weigh(POLICY, standing, ScoredRound(np.arange(7), exact[:7], hits[:7], ones))
        assert whole.weights.tolist() == [*alone.weights.tolist(), 0, 0, 0]
        assert whole.points.tolist() == [*alone.points.tolist(), 0, 0, 0]
        assert (whole.standing.signal, whole.locks) == (alone.standing.signal, alone.locks)
        for name in COLUMNS:
            assert getattr(whole.standing, name)[:7].tolist() == getattr(alone.standing, name)[:7].tolist()
        standing = whole.standing


def test_where_only_locked_out_trainers_report_nothing_is_learned() -> None:
    standing, one = standing_of(2, 1), np.ones(1, np.int64)
    weighed = weigh(POLICY, standing, ScoredRound(2 * one, ONE * one, 0 * one, np.ones(3, np.int64)))
    assert (weighed.weights.tolist(), weighed.points.tolist()) == ([0], [0])
    assert weighed.standing.round == 1
    assert weighed.standing.reports.tolist() == [0, 0, 0]
