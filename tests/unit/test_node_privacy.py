"""Noise: what the section says, the integers that keep the promise, where it comes from, what the rounds cost."""

import sys
from dataclasses import replace
from fractions import Fraction
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest

from collegium.learning import ModelSpec, NumericColumn, OverflowBudgetError, Rule, Schema
from collegium.node import (
    ExperimentRefusedError,
    LearningTask,
    PrivacyMissingError,
    PrivacySettings,
    decode_experiment,
    epsilon_of,
    experiment_from_bytes,
    experiment_to_bytes,
    noise_for,
)
from collegium.node._privacy import PrivacyTerms, draw_noise, privacy_terms

SECTION = "[privacy]\nclip = 0.5\nnoise = 6\nhonest = 3\n"
EXPERIMENT = """
[task]
name = "clinics"
rounds = 3
seed = 7
level = "bounded"
[data]
path = "rows.csv"
site = "clinic"
label = "ill"
negative = "0"
[schema]
columns = [{ name = "age", lower = 0, upper = 100 }]
[model]
kind = "logistic"
[rule]
learning_rate = 1.0
[committee]
seats = 16
"""
SETTINGS = PrivacySettings(Fraction(1, 2), Fraction(6), 3, Fraction(1, 10**6))


def decode(*changes: tuple[str, str], section: str = SECTION) -> object:
    text = EXPERIMENT + section
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return decode_experiment(text.encode(), Path())


def test_the_section_is_read_exactly_and_is_part_of_the_experiment() -> None:
    experiment = decode_experiment((EXPERIMENT + SECTION).encode(), Path())
    assert experiment.privacy == SETTINGS
    data = experiment_to_bytes(experiment)
    assert experiment_from_bytes(data) == experiment
    assert b"privacy" not in experiment_to_bytes(replace(experiment, privacy=None))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("clip = 0.5", "clip = 0", "privacy.clip: is 0, expected a number from 1e-06 to 1024"),
        ("noise = 6", "noise = 5000", "privacy.noise: is 5000, expected a number from 0.01 to 4096"),
        ("honest = 3", "honest = 5", "privacy.honest: is 5, expected at most trainers.minimum, 4"),
        ("honest = 3", "honest = 3\ndelta = 1", "privacy.delta: is 1, expected a number from 1e-12 to 0.01"),
        ("honest = 3", "honest = 3\nepsilon = 1", "privacy.epsilon: is no setting of this section"),
        ('level = "bounded"', 'level = "proved"', 'at level "proved" the evidence is about an update without noise'),
        ("learning_rate = 1.0", "learning_rate = 1.0\nlocal_steps = 2", "rule.local_steps is 2, expected 1"),
        (
            'kind = "logistic"\n[rule]',
            'kind = "logistic"\n[rule]\nactivation_limit = 64',
            "activation_limit is, too: one row",
        ),
        (
            'kind = "logistic"\n[rule]',
            'kind = "logistic"\n[rule]\nerror_limit = 1',
            "rule.error_limit is, too: one row",
        ),
        ("[model]", "[trainers]\nstaleness = 1\n[model]", "trainers.staleness is, too"),
        ("seats = 16", "seats = 16\nshards = 2\npartition_rounds = 1", "committee.shards is 2"),
        ('[schema]\ncolumns = [{ name = "age", lower = 0, upper = 100 }]\n', "", "[schema] is not: ranges"),
    ],
)
def test_what_does_not_go_with_noise_is_refused_by_name(old: str, new: str, problem: str) -> None:
    with pytest.raises(ExperimentRefusedError) as refused:
        decode((old, new))
    assert problem in str(refused.value)


@pytest.mark.parametrize("honest", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("noise", [Fraction(1, 3), Fraction(6), Fraction(500)])
def test_the_honest_ones_noise_is_enough_and_no_more(honest: int, noise: Fraction) -> None:
    terms = privacy_terms(replace(SETTINGS, honest=honest, noise=noise), Rule())
    assert terms.norm == (1 << 24) // 2
    assert honest * terms.deviation**2 >= (2 * terms.norm * noise) ** 2 > honest * (terms.deviation - 1) ** 2


def test_an_update_has_noise_within_its_reach_on_every_entry_but_the_row_count() -> None:
    spec, rule, asked = ModelSpec("logistic", 2), Rule(), []

    def noise(entries: int, deviation: int) -> np.ndarray:
        asked.append((entries, deviation))
        return np.array([1, -2, 1 << 40])

    terms = PrivacyTerms(norm=1 << 20, deviation=100, noise=noise)
    rows = np.array([[5, 6], [7, -8]]), np.array([0, 1])
    with_noise = terms.update(spec, rule, np.zeros(3, np.int64), *rows, b"")
    without = PrivacyTerms(1 << 20, 100, lambda entries, _: np.zeros(entries, np.int64))
    plain = without.update(spec, rule, np.zeros(3, np.int64), *rows, b"")
    assert (with_noise - plain).tolist() == [1, -2, 1600, 0]
    assert plain[-1] == 2
    assert asked == [(3, 100)]
    assert terms.update_bound(rule, 2) == 2 * terms.norm + 1600


def test_a_row_whose_gradient_could_overflow_is_refused_before_there_are_rows() -> None:
    task = LearningTask(
        task=bytes(32),
        seed=bytes(32),
        level="unproved",
        rounds=1,
        schema=Schema((NumericColumn("age", 0.0, 100.0, ()),)),
        spec=ModelSpec("mlp", 1, (4,)),
        rule=Rule(),
        rows_max=8,
        trainers_max=4,
        cohort_min=3,
        lying_max=0,
        privacy=PrivacyTerms(norm=1 << 20, deviation=100),
    )
    assert task.update_bound == 8 * (1 << 20) + 1600
    with pytest.raises(OverflowBudgetError, match="may need"):
        replace(task, spec=ModelSpec("mlp", 1, (1024,) * 7)).layout(1)


@pytest.mark.parametrize("module", ["opendp.prelude", "dp_accounting"])
def test_missing_packages_are_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PrivacyMissingError, match=r"pip install 'collegium\[privacy\]'"):
        draw_noise(3, 100) if module == "opendp.prelude" else epsilon_of(1.0, 1, 1e-6)


@pytest.mark.privacy
@pytest.mark.slow
def test_noise_is_drawn_whole_independent_and_of_its_deviation() -> None:
    count, deviation = 20_000, 1 << 20
    drawn = draw_noise(count, deviation).astype(float) / deviation
    assert abs(drawn.mean()) < 6 / sqrt(count)  # one in 10^9 good draws fails each of these
    assert abs((drawn**2).mean() - 1) < 6 * sqrt(2 / count)
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 6 / sqrt(count)
    assert len(set(drawn.tolist())) > count * 0.98
    assert not np.array_equal(draw_noise(8, deviation), draw_noise(8, deviation))


@pytest.mark.privacy
@pytest.mark.slow
def test_epsilon_is_between_the_plain_conversion_and_what_gaussian_noise_costs_at_least() -> None:
    noise, rounds, delta = 20.0, 30, 1e-6
    rho = rounds / (2 * noise**2)
    plain = rho + 2 * sqrt(rho * log(1 / delta))  # Bun and Steinke, Proposition 1.3
    assert 0.6 * plain < epsilon_of(noise, rounds, delta) < plain
    assert (
        epsilon_of(noise, 2 * rounds, delta) > epsilon_of(noise, rounds, delta) > epsilon_of(2 * noise, rounds, delta)
    )
    least = noise_for(4.0, rounds, delta)
    assert epsilon_of(float(least), rounds, delta) <= 4.0 < epsilon_of(float(least) - 0.01, rounds, delta)
