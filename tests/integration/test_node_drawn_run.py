"""Runs in whose rounds the beacon draws who reports: everybody can redo the draw, and nobody else is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _run_stage import PROVED, PlayedRun, check, play, write_experiment

from collegium.consensus import RoundEntry
from collegium.node import read_public_record
from collegium.node._quality import QualityRule
from collegium.node._watch import load_watched, recompute
from collegium.settlement import KnownStretches, MachineRun, compile_program, public_works

pytestmark = pytest.mark.slow

DRAWN = ("[schema]", "[trainers]\nminimum = 2\nplaces = 2\n[stewards]\ncount = 1\n[schema]")
CHANGES = (PROVED, DRAWN)
NODE = "http://127.0.0.1:1"  # which nobody asks


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """Return a run of two rounds, in each of which two of four trainers report."""
    folder = tmp_path_factory.mktemp("drawn")
    return play(write_experiment(folder, *CHANGES, ("rounds = 3", "rounds = 2")), folder / "run")


def accepted(run: PlayedRun, name: str, number: int) -> bool:
    record = read_public_record(run.path)
    (work,) = [work for work in public_works(record.terms) if work.name == name]
    header, known = record.rounds[number].certified.header, KnownStretches(record.messages(number))
    return MachineRun(compile_program(work.module, work.parameters), header.digest, known).accepted


def test_those_who_are_drawn_report_and_no_round_waits_for_the_others(run: PlayedRun) -> None:
    rounds: Any = run.summary["rounds"]
    assert [entry["outcome"] for entry in rounds] == ["opened"] * 3
    assert rounds[0]["admitted"] == 4
    for entry in rounds[1:]:
        trainers = entry["quality"]["trainers"]
        drawn = frozenset(trainer["name"] for trainer in trainers if trainer["drawn"])
        assert len(drawn) == entry["admitted"] == 2
        assert {trainer["name"] for trainer in trainers if trainer["weight"]} == drawn
        assert {trainer["name"] for trainer in trainers if trainer["score"] is not None} <= drawn


def test_the_draw_is_redone_by_who_verifies_and_by_the_programs(run: PlayedRun) -> None:
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure
    assert [recompute(load_watched(run.path, NODE), number) for number in range(3)] == [None] * 3
    for name in ("weights", "quality"):
        for number in range(1, 3):
            assert accepted(run, name, number), (name, number)


def test_a_close_with_somebody_who_is_not_drawn_is_found_and_refuted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = QualityRule.entry

    def everybody(rule: QualityRule, number: int, model: bytes, beacon: bytes) -> RoundEntry | None:
        entry = honest(rule, number, model, beacon)
        if entry is None:
            return None
        return RoundEntry(dict.fromkeys(rule.trainers, 0) | dict(entry.weights), frozenset(rule.trainers))

    with monkeypatch.context() as patch:
        patch.setattr(QualityRule, "entry", everybody)
        found = play(write_experiment(tmp_path, *CHANGES, ("rounds = 3", "rounds = 1")), tmp_path / "run")
    rounds: Any = found.summary["rounds"]
    trainers = rounds[1]["quality"]["trainers"]
    assert rounds[1]["admitted"] == 4
    assert np.sum([trainer["drawn"] for trainer in trainers]) == 2
    assert "is not drawn for round 1" in str(check(found.path, found.anchor).failure)
    finding = recompute(load_watched(found.path, NODE), 1)
    assert finding is not None
    assert finding.work == "weights"
    assert not accepted(found, "weights", 1)
    assert accepted(found, "weights", 0)
