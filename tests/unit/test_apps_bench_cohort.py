"""Runs of an experiment as their rounds fold: who attacks loses, who is honest keeps its influence, a seed repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from _experiment_stage import SMALLEST
from typer.testing import CliRunner

from collegium.apps import _bench_cohort
from collegium.apps._bench_cohort import (
    NoStewardsError,
    PlayedCohort,
    TrainerOutcome,
    cohort_lines,
    cohort_report,
    play_cohort,
)
from collegium.apps.cli import app
from collegium.node import Experiment, load_experiment

DEMO = Path(_bench_cohort.__file__).parent / "demo" / "quality.toml"


def experiment() -> Experiment:
    """Return what `collegium demo` plays, with fewer rounds."""
    demo = load_experiment(DEMO)
    return replace(demo, task=replace(demo.task, rounds=8))


def test_a_poisoner_loses_its_influence_and_the_honest_keep_theirs() -> None:
    played = play_cohort(experiment(), 1)
    by_name = {entry.name: entry for entry in played.trainers}
    assert len(by_name) == 8
    flipper = by_name["Cleveland/1"]
    assert (flipper.attack, flipper.last_weight, flipper.points) == ("label_flip", 0, 0)
    assert played.pay(by_name["Hungary/1"]) < 0.5
    assert all(entry.last_weight == 15 and entry.points > 0 and not entry.locks for entry in played.honest)
    assert played.auc > 0.8
    assert play_cohort(experiment(), 1) == played != play_cohort(experiment(), 2)


def test_where_places_are_drawn_a_round_pays_those_drawn() -> None:
    whole = experiment()
    few = replace(whole, trainers=replace(whole.trainers, minimum=2, places=3))
    every, drawn = play_cohort(replace(few, trainers=replace(few.trainers, places=0)), 1), play_cohort(few, 1)
    assert 0 < sum(entry.points for entry in drawn.trainers) < 0.7 * sum(entry.points for entry in every.trainers)
    assert drawn.auc > 0.75
    assert play_cohort(few, 1) == drawn


def test_without_stewards_there_is_nothing_to_play() -> None:
    with pytest.raises(NoStewardsError, match=r"no section \[stewards\]"):
        play_cohort(replace(experiment(), stewards=None), 1)


def test_the_command_plays_seeds_and_names_a_file_without_stewards(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "cohort", str(DEMO), "--seeds", "0"])
    assert result.exit_code == 2
    assert next(iter(cohort_lines(experiment(), 1, honest=True))).startswith("1 runs, 8 honest trainers in all")
    plain = tmp_path / "plain.toml"
    plain.write_text(SMALLEST)
    refused = CliRunner().invoke(app, ["bench", "cohort", str(plain)])
    assert refused.exit_code != 0
    assert "no section [stewards]" in refused.stderr


def test_the_report_counts_the_honest_apart_from_every_attack() -> None:
    def run(seed: int, points: int, weight: int, locks: int) -> PlayedCohort:
        honest = [TrainerOutcome(f"a/{place}", None, 100, 1.0, 15, 0) for place in range(3)]
        odd = TrainerOutcome("b/0", None, points, 0.5, weight, locks)
        return PlayedCohort(seed, (*honest, odd, TrainerOutcome("b/1", "label_flip", 5, 0.1, 0, 1)), 0.9)

    lines = list(cohort_report([run(0, 50, 15, 0), run(1, 0, 0, 2)]))
    assert lines[:3] == [
        "2 runs, 8 honest trainers in all; median AUC 0.900",
        "honest, locked out ever: 1 (12.50%)",
        "honest, without influence at the end: 1 (12.50%)",
    ]
    assert "label_flip: paid under a tenth in 2 of 2, without influence at the end in 2, locked out in 2" in lines
    assert any(line.startswith("honest of b: pay 0.25") for line in lines)
