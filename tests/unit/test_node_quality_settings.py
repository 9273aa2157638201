"""The section [stewards]: what is accepted, what an experiment's identity holds of it, and what is refused by name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from _experiment_stage import SMALLEST

from collegium.incentives import ONE, Policy
from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)
from collegium.node._experiment import require_for_processes

PROVED = SMALLEST.replace('"unproved"', '"proved"') + "[chain]\ncourts = false\n"


def decode(stewards: str, text: str = PROVED) -> Experiment:
    return decode_experiment((text + stewards).encode(), Path("folder"))


def refused(stewards: str, text: str = PROVED) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(stewards, text)
    return [(problem.where, problem.kind) for problem in caught.value.problems]


def test_stewards_are_part_of_an_experiments_identity_and_one_without_has_the_identity_it_had() -> None:
    experiment = decode('[stewards]\ncount = 3\nshare = "1/8"\nuseless = -0.25\nreports_min = 5\n')
    settings = experiment.stewards
    assert settings is not None
    assert (settings.count, settings.share, settings.noise, settings.open) == (
        3,
        Fraction(1, 8),
        Fraction(1, 10),
        False,
    )
    assert settings.policy == Policy(useless=-ONE // 4, reports_min=5)
    data = experiment_to_bytes(experiment)
    assert experiment_from_bytes(data) == experiment
    assert data != experiment_to_bytes(decode("[stewards]\ncount = 3\n"))
    assert b"stewards" not in experiment_to_bytes(decode(""))


def test_fractions_are_rounded_to_the_units_in_which_they_are_kept() -> None:
    settings = decode("[stewards]\ncount = 1\nmemory = 0.9\nprior_precision = 0.3\n").stewards
    assert settings is not None
    assert settings.policy.memory == 58982  # .9 x 2^16 = 58982.4
    assert settings.policy.prior_precision == 314573  # .3 x 2^20 = 314572.8


@pytest.mark.parametrize(
    ("stewards", "where", "kind"),
    [
        ("[stewards]\n", "stewards.count", "missing"),
        ("[stewards]\ncount = 0\n", "stewards.count", "range"),
        ("[stewards]\ncount = 65\n", "stewards.count", "range"),
        ("[stewards]\ncount = 3\nshare = 0.51\n", "stewards.share", "range"),
        ("[stewards]\ncount = 3\nshare = 0\n", "stewards.share", "range"),
        ("[stewards]\ncount = 3\nnoise = 0.6\n", "stewards.noise", "range"),
        ("[stewards]\ncount = 3\nopen = 1\n", "stewards.open", "type"),
        ("[stewards]\ncount = 3\nshard_rounds = -1\n", "stewards.shard_rounds", "range"),
        ("[stewards]\ncount = 3\nuseless = -1.1\n", "stewards.useless", "range"),
        ("[stewards]\ncount = 3\nreports_min = 0.5\n", "stewards.reports_min", "type"),
        ("[stewards]\ncount = 3\nweight_max = 16\n", "stewards.weight_max", "range"),
        ("[stewards]\ncount = 3\nstake = 1\n", "stewards.stake", "unknown"),
    ],
)
def test_settings_out_of_range_are_refused(stewards: str, where: str, kind: str) -> None:
    assert refused(stewards) == [(where, kind)]


def test_a_task_has_as_many_shards_as_its_rounds_need_and_not_too_many() -> None:
    settings = decode("[stewards]\ncount = 3\nshard_rounds = 2\n").stewards
    assert settings is not None
    assert [settings.shards(rounds) for rounds in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert [settings.shard(number) for number in (1, 2, 3, 4, 5)] == [0, 0, 1, 1, 2]
    whole = decode("[stewards]\ncount = 3\n").stewards
    assert whole is not None
    assert (whole.shards(100), whole.shard(100)) == (1, 0)
    each = "[stewards]\ncount = 3\nshard_rounds = 1\n"
    assert refused(each, PROVED.replace("rounds = 3\n", "rounds = 257\n")) == [("stewards.shard_rounds", "range")]
    decode(each, PROVED.replace("rounds = 3\n", "rounds = 256\n"))


def test_what_no_record_can_prove_is_refused() -> None:
    proved = "[stewards]\ncount = 3\nproved = true\n"
    found = decode(proved).stewards
    assert found is not None
    assert found.proved
    several = PROVED.replace("[rule]\n", "[rule]\nlocal_steps = 2\n")
    assert refused(proved, several) == [("stewards.proved", "conflict")]
    long = PROVED.replace("rounds = 3\n", "rounds = 65\n")
    assert refused(proved, long) == [("stewards.proved", "conflict")]
    decode(proved + "shard_rounds = 64\n", long)
    decode(proved, PROVED.replace("rounds = 3\n", "rounds = 64\n"))


def test_stewards_are_refused_where_scores_cannot_be_proved_or_judged() -> None:
    three, conflict = "[stewards]\ncount = 3\n", [("[stewards]", "conflict")]
    for level in ("unproved", "bounded"):
        assert refused(three, PROVED.replace('"proved"', f'"{level}"')) == conflict
    require_for_processes(decode(three))
