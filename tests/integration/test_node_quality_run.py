"""Runs whose trainers stewards weigh: a trainer with flipped labels loses weight, and everybody can redo why."""

from __future__ import annotations

import itertools
import json
from base64 import b64decode
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from _run_stage import NO_COURTS, PROVED, Copy, PlayedRun, chain_record, check, play, write_experiment

from collegium.aggregation import Report
from collegium.algebra import P
from collegium.incentives import NO_SCORE, QualityState, ReportScore, fold_round
from collegium.lineage import Store
from collegium.node import Event, Message, read_public_record
from collegium.node import _quality as quality_module
from collegium.node import _steward as steward_module
from collegium.node._audit import OBJECT_BYTES_MAX
from collegium.node._opened_rows import encode_opened_rows
from collegium.node._quality import ScorePrefix
from collegium.node._quality_facts import weighed_event
from collegium.node._steward import Measured, measure
from collegium.node._task import LearningTask, ModelState
from collegium.node._watch import load_watched, steward_fault
from collegium.settlement import (
    KnownStretches,
    MachineRun,
    attach_dissections,
    compile_program,
    public_works,
    read_courts,
    read_shard_roots,
    read_task,
    verify_replay,
)

pytestmark = pytest.mark.slow

STEWARDS = (
    "[schema]",
    "[trainers]\nminimum = 3\n[stewards]\ncount = 3\nshare = 0.4\nshard_rounds = 2\nopen = true\n[schema]",
)
FLIPPED = ("[committee]", '[[attack.trainers]]\nname = "d/0"\nkind = "label_flip"\n[committee]')
BUDGET = 1_000_000
PAYS = ("[rule]", f"[rewards]\nbudget = {BUDGET}\n[rule]")
CHANGES = (PROVED, STEWARDS)
RECORDS_PROVED = ("shard_rounds = 2", "shard_rounds = 2\nproved = true")


@pytest.fixture(scope="module")
def told() -> list[Event]:
    """Return what the run told."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, told: list[Event]) -> PlayedRun:
    """Return a run of three rounds, which are paid, in which one of four trainers has its labels flipped.

    Its stewards prove their records.
    """
    folder = tmp_path_factory.mktemp("quality")
    return play(write_experiment(folder, *CHANGES, RECORDS_PROVED, FLIPPED, PAYS), folder / "run", on_event=told.append)


def states(run: PlayedRun) -> list[ModelState]:
    rounds: Any = run.summary["rounds"]
    store = Store(run.path / "store")
    models = [store.get(bytes.fromhex(entry["model"]), OBJECT_BYTES_MAX) for entry in rounds]
    return [run.federation.task.decode_state(model) for model in models]


def quality(run: PlayedRun, number: int) -> QualityState:
    found = states(run)[number].quality
    assert found is not None
    return found


def trainers_of(run: PlayedRun, number: int) -> dict[str, dict[str, Any]]:
    rounds: Any = run.summary["rounds"]
    return {entry["name"]: entry for entry in rounds[number]["quality"]["trainers"]}


def test_a_trainer_with_flipped_labels_scores_less_than_nothing_and_loses_its_weight(run: PlayedRun) -> None:
    first, second, third = (trainers_of(run, number) for number in (1, 2, 3))

    assert {entry["weight"] for entry in (*first.values(), *second.values())} == {15}
    assert second["d/0"]["score"] < 0 < min(second[name]["score"] for name in ("a/0", "b/0", "c/0"))
    assert third["d/0"]["weight"] < min(third[name]["weight"] for name in ("a/0", "b/0", "c/0"))
    assert second["d/0"]["points"] < min(second[name]["points"] for name in ("a/0", "b/0", "c/0"))


def test_rounds_pay_by_points_and_whoever_earned_none_gets_nothing(run: PlayedRun) -> None:
    """Round 1 has no direction yet: nobody has points in it, so it is not paid."""
    paid: Any = run.summary["rewards"]
    assert [(entry["last_round"], entry["total"]) for entry in paid] == [(2, str(BUDGET)), (3, str(BUDGET))]
    earnings: Any = run.summary["earnings"]
    earned = {entry["trainer"]: int(entry["wei"]) for entry in earnings}
    points = {name: sum(trainers_of(run, number)[name]["points"] for number in (2, 3)) for name in earned}
    assert sorted(earned) == ["a/0", "b/0", "c/0"]
    shares = [earned[name] / points[name] for name in earned]
    assert max(shares) - min(shares) < 0.01 * max(shares)  # each round's budget is split by its own points


def test_the_stewards_rows_and_the_court_are_in_the_terms(run: PlayedRun) -> None:
    record = chain_record(run.path)
    assert record.paying is not None
    assert record.transcript is not None
    assert record.stakes_site is not None
    chain, site = verify_replay(record.transcript), record.paying.site
    seats = run.federation.genesis.stewards
    assert read_shard_roots(chain, site, record.deployment) == tuple(seat.rows for seat in seats)
    (court,) = read_courts(chain, record.stakes_site.disputes)
    assert read_task(chain, site, record.deployment).terms.court == court
    assert len(attach_dissections(chain, court, record.deployment.block).kinds) == 7


def test_weights_are_those_of_the_fold_of_the_scores_that_the_proofs_show(run: PlayedRun) -> None:
    task, store = run.federation.task, Store(run.path / "store")
    before, after, rule = quality(run, 1), quality(run, 2), task.quality
    assert rule is not None
    reports = []
    for trainer, digest in _proofs_of_round(run, 2):
        prefix, _ = ScorePrefix.split(store.get(digest, OBJECT_BYTES_MAX))
        reports.append(ReportScore(trainer, prefix.value, prefix.rows))
    again = fold_round(rule.fold_rule, before, 2, np.zeros(rule.parameters, np.int64), 1, reports, [])

    assert rule.noise == Fraction(1, 10)
    assert (again.scores != NO_SCORE).all()
    assert again.scores.tolist() == after.scores.tolist()
    assert again.weights.tolist() == after.weights.tolist()
    assert [trainers_of(run, 3)[name]["weight"] for _, name in task.names] == after.weights.tolist()


WIDE = ('kind = "logistic"', 'kind = "mlp"\nhidden = [1024]')
TWO_ROUNDS = ("rounds = 3", "rounds = 2")


def test_trainers_of_a_model_with_a_wide_hidden_layer_are_scored_and_their_run_verifies(tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path, *CHANGES, WIDE, TWO_ROUNDS, NO_COURTS)
    run = play(experiment, tmp_path / "run")
    task, direction = run.federation.task, quality(run, 1).direction
    rule = task.quality
    assert rule is not None
    assert rule.parameters * task.update_bound << 18 > P, "an entry of 15 bits for each would have had no room"
    assert 0 < int(direction @ direction) <= rule.direction_norm**2
    assert all(entry["score"] is not None for entry in trainers_of(run, 2).values())
    assert check(run.path).failure is None


def _proofs_of_round(run: PlayedRun, number: int) -> list[tuple[bytes, bytes]]:
    store, index = Store(run.path / "store"), json.loads((run.path / "objects.json").read_bytes())
    found = (Report.from_bytes(store.get(b64decode(entry[1]), OBJECT_BYTES_MAX), 16) for entry in index["reports"])
    return [(report.trainer, report.proof) for report in found if report.round == number]


def test_stewards_tell_how_good_the_models_were(run: PlayedRun) -> None:
    rounds: Any = run.summary["rounds"]
    told = [entry["quality"] and entry["quality"]["model_score"] for entry in rounds]

    assert told[:2] == [None, None]
    assert [(entry["round"], entry["stewards"]) for entry in told[2:]] == [(1, 3), (2, 3)]
    assert [entry["quality"]["scored"] for entry in rounds[1:]] == [False, True, True]


def test_the_run_verifies_and_changed_rows_of_a_steward_do_not(run: PlayedRun, tmp_path: Path) -> None:
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure
    said = "stewards.json: the rows of 3 stewards, 2 shards each, are those that they committed to"
    assert said in verdict.checks
    assert "stewards: 9 records, each proved on the rows that its steward registered" in verdict.checks

    copy = Copy.of(run.path, tmp_path / "copy")
    copy.edit("stewards.json", lambda opened: opened["stewards"][1]["retired"][1].update(salt="A" * 43 + "="))
    assert "are not those that it committed to" in str(copy.relist().failure)
    (copy.path / "stewards.json").unlink()
    assert "stewards.json is missing" in str(copy.relist().failure)


def test_the_programs_of_disputes_accept_every_header(run: PlayedRun) -> None:
    record = read_public_record(run.path)
    works = {work.name: work for work in public_works(record.terms)}
    assert set(works) == {"weights", "opening", "model", "next round", "quality", "records", "rewards", "proofs"}
    for name in ("weights", "model", "quality", "records", "rewards", "proofs"):
        program = compile_program(works[name].module, works[name].parameters)
        for number in (3,) if name == "proofs" else range(4):
            header, known = record.rounds[number].certified.header, KnownStretches(record.messages(number))
            assert MachineRun(program, header.digest, known).accepted, (name, number)


def test_what_is_no_record_in_the_order_keeps_nobody_from_playing_the_rounds_headers(run: PlayedRun) -> None:
    record, number = read_public_record(run.path), 2
    ordered = record.rounds[number]
    spoilt = replace(ordered, records=(*ordered.records, b"Q"))
    found = replace(record, rounds=(*record.rounds[:number], spoilt, *record.rounds[number + 1 :]))
    assert found.messages(number) == record.messages(number)


def test_a_wrong_number_that_all_validators_signed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(*arguments: Any) -> QualityState:
        state = fold_round(*arguments)
        direction = state.direction.copy()
        direction[int(np.abs(direction).argmin())] += 1
        return replace(state, direction=direction)

    with monkeypatch.context() as patch:
        patch.setattr(quality_module, "fold_round", lying)
        found = play(write_experiment(tmp_path, *CHANGES, ("rounds = 3", "rounds = 1")), tmp_path / "run")
    failure = str(check(found.path, found.anchor).failure)

    assert failure.startswith("round 1: round 1 leaves direction[")
    assert "redone it is" in failure


def test_a_steward_whose_gradient_is_not_that_of_its_rows_is_named_when_its_shard_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three is off by the least bit, in the last place that anybody would look."""
    asked = itertools.count()

    def lying(*arguments: Any) -> Measured:
        found = measure(*arguments)
        if next(asked) % 3 == 1:
            found.direction[int(np.abs(found.direction).argmin())] += 1
        return found

    with monkeypatch.context() as patch:
        patch.setattr(steward_module, "measure", lying)
        found = play(write_experiment(tmp_path, *CHANGES, ("rounds = 3", "rounds = 1")), tmp_path / "run")
    failure, seat = str(check(found.path, found.anchor).failure), found.federation.genesis.stewards[1]

    assert failure.startswith(f"round 1: steward {seat.account.hex()} says direction[")
    assert "on its rows it is" in failure
    watched = load_watched(found.path, "http://127.0.0.1:1")  # whom nobody asks
    assert f"round 1: {steward_fault(watched, 1)}" == failure
    (found.path / "stewards.json").unlink()
    assert steward_fault(load_watched(found.path, "http://127.0.0.1:1"), 1) is None


def test_a_shard_is_open_while_the_run_goes_on(run: PlayedRun, told: list[Event], tmp_path: Path) -> None:
    messages = [event.text for event in told if isinstance(event, Message)]
    assert "round 2: stewards' shard 1 has measured its last round; its rows are open" in messages
    copy = Copy.of(run.path, tmp_path / "sealed")
    opened = encode_opened_rows(run.federation.stewards, 3)  # as it was written then
    (copy.path / "stewards.json").write_bytes(opened)
    assert "3 shards of 3 stewards are open, expected 2 of each" in str(copy.relist().failure)


def test_what_is_told_after_a_round_is_what_its_state_says(run: PlayedRun) -> None:
    task, rounds = run.federation.task, cast(list[dict[str, Any]], run.summary["rounds"])
    model = Store(run.path / "store").get(bytes.fromhex(rounds[3]["model"]), OBJECT_BYTES_MAX)
    told = weighed_event(task, 3, model, {"d/0": "label_flip"})
    assert told is not None
    assert (told.round, told.weight_max) == (3, 15)
    assert [entry.weight for entry in told.trainers] == quality(run, 3).weights.tolist()
    points = {entry.name: entry.points for entry in told.trainers}
    for place, name in enumerate(points):
        earned = sum(entry["quality"]["trainers"][place]["points"] for entry in rounds[1:])
        assert points[name] == pytest.approx(earned)
    assert {entry.name: entry.attack for entry in told.trainers if entry.attack} == {"d/0": "label_flip"}
    assert told.model_score == rounds[3]["quality"]["model_score"]["correct"]
    assert weighed_event(replace(task, quality=None), 3, states_without_quality(task, model), {}) is None


def states_without_quality(task: LearningTask, model: bytes) -> bytes:
    """Return a model state as a task without stewards has it."""
    return replace(task, quality=None).encode_state(replace(task.decode_state(model), quality=None))
