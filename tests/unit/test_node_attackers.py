"""Attackers in an experiment: who may be told to attack and how, and what they then train on and send."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from _experiment_stage import SMALLEST

from collegium.crypto import AccountKey, os_random
from collegium.learning import (
    ROW_ATTACKS,
    Rows,
    Schema,
    TrainerRows,
    schema_from_mapping,
    spoil_rows,
    table_from_columns,
)
from collegium.node import (
    UPDATE_ATTACKS,
    AttackersNetworkError,
    Experiment,
    ExperimentRefusedError,
    NobodyHonestError,
    Trainer,
    TrainerAttack,
    UnknownAttackerError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)
from collegium.node._attackers import Attackers, attacker_names, spoil_trainers
from collegium.node._experiment import require_for_cards, require_for_processes
from collegium.node._facts import attack_notes
from collegium.node._membership import join_validator

FLIP = '[[attack.trainers]]\nname = "b/0"\nkind = "label_flip"\n'
TURN = '[[attack.trainers]]\nname = "a/0"\nkind = "sign_flip"\nfrom_round = 3\nperiod = 4\nactive = 2\nstrength = 0.5\n'
SCHEMA = schema_from_mapping(
    {"columns": [{"name": "dose", "lower": 0, "upper": 9}, {"name": "kind", "values": ["x", "y"]}]}
)


def decode(attack: str, level: str = "unproved", more: str = "") -> Experiment:
    text = SMALLEST.replace('"unproved"', f'"{level}"') + more + attack
    return decode_experiment(text.encode(), Path("folder"))


def refused(attack: str, level: str = "unproved", more: str = "") -> set[tuple[str, str]]:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(attack, level, more)
    return {(problem.where, problem.kind) for problem in caught.value.problems}


def held(name: str, count: int = 40) -> TrainerRows:
    cells = {"dose": [f"{index % 10}" for index in range(count)], "kind": ["x"] * count, "note": ["n"] * count}
    rows = Rows(table_from_columns(cells), np.arange(count, dtype=np.int64) % 2)
    return TrainerRows(name.split("/", maxsplit=1)[0], name, rows)


def cells_of(rows: Rows, schema: Schema = SCHEMA) -> list[tuple[str, ...]]:
    return [rows.table.column(column.name) for column in schema.columns]


def test_attackers_are_part_of_an_experiments_identity_and_an_experiment_without_has_the_identity_it_had() -> None:
    experiment = decode(FLIP + TURN)
    assert experiment.attack is not None
    first, second = experiment.attack.trainers
    assert first == TrainerAttack("a/0", "sign_flip", 3, 4, 2, Fraction(1, 2))
    assert (second, second.row_kind, second.plan) == (TrainerAttack("b/0", "label_flip"), "label_flip", None)
    assert first.plan is not None
    assert [number for number in range(1, 10) if first.plan.is_on(number)] == [3, 4, 7, 8]
    data = experiment_to_bytes(experiment)
    assert experiment_from_bytes(data) == experiment
    assert data == experiment_to_bytes(decode(TURN + FLIP))
    assert data != experiment_to_bytes(decode(FLIP))
    assert b"attack" not in experiment_to_bytes(decode(""))


@pytest.mark.parametrize(
    ("attack", "where", "kind"),
    [
        ("[attack]\n", "attack.trainers", "missing"),
        ("[attack]\nflip = 1\n", "attack.flip", "unknown"),
        ("[attack]\ntrainers = []\n", "attack.trainers", "range"),
        ("[attack]\ntrainers = [1]\n", "attack.trainers", "type"),
        (FLIP + FLIP, "attack.trainers", "conflict"),
        (FLIP.replace('name = "b/0"\n', ""), "attack.trainers[0].name", "missing"),
        (FLIP.replace("label_flip", "backdoor"), "attack.trainers[0].kind", "range"),
        (FLIP + "strength = 1\n", "attack.trainers[0].strength", "conflict"),
        (FLIP + "from_round = 2\n", "attack.trainers[0].from_round", "conflict"),
        (FLIP + "share = 1\n", "attack.trainers[0].share", "unknown"),
        (TURN.replace("active = 2", "active = 5"), "attack.trainers[0].active", "range"),
        (TURN.replace("period = 4\n", ""), "attack.trainers[0].active", "range"),
        (TURN.replace("strength = 0.5", "strength = 1001"), "attack.trainers[0].strength", "range"),
        (TURN.replace("from_round = 3", "from_round = 0"), "attack.trainers[0].from_round", "range"),
    ],
)
def test_what_no_attacker_is_told_is_refused_where_it_is(attack: str, where: str, kind: str) -> None:
    assert (where, kind) in refused(attack)


@pytest.mark.parametrize("kind", [*ROW_ATTACKS, *UPDATE_ATTACKS])
def test_updates_are_attacked_where_no_report_shows_what_its_update_is(kind: str) -> None:
    attack, spoils = FLIP.replace("label_flip", kind), kind in ROW_ATTACKS
    for level in ("unproved", "bounded"):
        assert attacker_names(decode(attack, level).attack) == {"b/0"}
    if spoils:
        assert decode(attack, "proved").attack is not None
        assert decode(attack, more="shards = 2\npartition_rounds = 3\n").attack is not None
        return
    assert refused(attack, "proved") == {("attack.trainers", "conflict")}
    assert ("attack.trainers", "conflict") in refused(attack, "attested")
    assert refused(attack, more="shards = 2\npartition_rounds = 3\n") == {("attack.trainers", "conflict")}


def test_a_network_of_processes_takes_nobody_who_is_told_to_forge_updates() -> None:
    require_for_processes(decode(FLIP))  # rows are spoiled when the network is founded
    with pytest.raises(AttackersNetworkError, match="names 1 trainers that forge updates"):
        require_for_processes(decode(FLIP.replace("label_flip", "sign_flip")))


def test_a_network_of_cards_takes_nobody_who_is_told_to_attack(tmp_path: Path) -> None:
    require_for_cards(decode(""))
    with pytest.raises(AttackersNetworkError, match=r"names 1 trainers that attack: .* leave \[attack\] out"):
        require_for_cards(decode(FLIP))
    with pytest.raises(AttackersNetworkError):
        join_validator(decode(FLIP), tmp_path / "member", ("127.0.0.1", 1), ("127.0.0.1", 2))
    assert not (tmp_path / "member").exists()


# ------------------------------------------------------------------------------------------------ rows


def test_rows_are_spoiled_as_the_attack_says_and_the_others_stay() -> None:
    rows, generator = held("b/0").rows, np.random.default_rng(1)
    found = {kind: spoil_rows(kind, rows, SCHEMA, generator) for kind in ROW_ATTACKS}
    assert {len(spoiled) for spoiled in found.values()} == {len(rows)}
    assert np.array_equal(found["label_flip"].labels, 1 - rows.labels)
    assert set(found["random_labels"].labels.tolist()) == {0, 1}
    assert np.array_equal(found["noise_rows"].labels, rows.labels)
    for kind, same in {"label_flip": True, "random_labels": True, "noise_rows": False, "made_up_rows": False}.items():
        assert (cells_of(found[cast(Any, kind)]) == cells_of(rows)) is same
        assert found[cast(Any, kind)].table.column("note") == rows.table.column("note")
    made_up = found["made_up_rows"]
    SCHEMA.columns[1].parse(made_up.table)
    doses = np.array(SCHEMA.numeric[0].parse(made_up.table), np.float64)
    assert ((doses >= 0) & (doses <= 9)).all()
    assert not np.array_equal(made_up.labels, rows.labels)


def test_only_the_named_trainers_rows_are_spoiled_and_the_same_way_each_time() -> None:
    experiment, everybody = decode(FLIP.replace("label_flip", "made_up_rows")), [held("a/0"), held("b/0")]
    first, again = (spoil_trainers(experiment, SCHEMA, everybody) for _ in range(2))
    assert first[0] is everybody[0]
    assert cells_of(first[1].rows) == cells_of(again[1].rows) != cells_of(everybody[1].rows)
    other = spoil_trainers(replace(experiment, task=replace(experiment.task, seed=2)), SCHEMA, everybody)
    assert cells_of(other[1].rows) != cells_of(first[1].rows)
    assert spoil_trainers(decode(""), SCHEMA, everybody) == tuple(everybody)


def test_an_attacker_must_be_one_of_the_trainers_and_not_all_of_them() -> None:
    with pytest.raises(UnknownAttackerError, match="'b/0', expected one of a/0, c/0"):
        spoil_trainers(decode(FLIP), SCHEMA, [held("a/0"), held("c/0")])
    with pytest.raises(NobodyHonestError, match="all 2 trainers attack"):
        spoil_trainers(decode(FLIP + TURN), SCHEMA, [held("a/0"), held("b/0")])


def test_a_run_with_attackers_says_so_and_one_without_does_not() -> None:
    (note,) = attack_notes(decode(FLIP + TURN))
    assert "simulation with attackers, 2 of its trainers: a/0 (sign_flip), b/0 (label_flip)" in note
    assert attack_notes(decode("")) == ()


# ------------------------------------------------------------------------------------------------ updates


class Task:
    """Updates are what a trainer's name says."""

    update_bound = 50

    def update(self, number: int, model: bytes, rows: TrainerRows, beacon: bytes) -> np.ndarray:
        return np.array([ord(rows.name[0]) - ord("a") + 1, 40, 7], np.int64)

    def decode_state(self, model: bytes) -> SimpleNamespace:
        return SimpleNamespace(parameters=np.frombuffer(model, np.int8).astype(np.int64))


def play(attack: str, number: int, attackers: Attackers | None = None) -> dict[str, list[int]]:
    task: Any = Task()
    attackers = attackers or Attackers.of(decode(attack), task)
    trainers = [Trainer(AccountKey.generate(os_random), held(f"{site}/0")) for site in "abcd"]
    terms: Any = SimpleNamespace(round=number, beacon=bytes(32))
    found = attackers.updates(terms, bytes([number, number]), trainers)
    names = {trainer.account.address: trainer.rows.name for trainer in trainers}
    assert all(stale == 0 for _, stale in found.values())
    return {names[account]: update.tolist() for account, (update, _) in found.items()}


def test_an_attacker_sends_what_its_plan_makes_of_the_honest_ones_when_it_is_on_and_its_own_when_it_is_not() -> None:
    honest = {"b/0": [2, 40, 7], "c/0": [3, 40, 7], "d/0": [4, 40, 7]}
    assert play(TURN, 3) == {"a/0": [-3, -40, 7], **honest}
    assert play(TURN, 5) == {"a/0": [1, 40, 7], **honest}
    assert play(TURN, 0) == play(FLIP, 3) == {}


def test_no_attacker_leaves_the_lanes_range_or_draws_what_nobody_can_draw_again() -> None:
    foe = TURN.replace("sign_flip", "foe").replace("0.5", "100")
    assert play(foe, 3)["a/0"] == [-50, -50, 7]
    noise = TURN.replace("sign_flip", "gaussian")
    assert play(noise, 3) == play(noise, 3) != play(noise, 4)


def test_who_repeats_an_old_update_repeats_its_first() -> None:
    stale, task = TURN.replace("sign_flip", "stale"), cast(Any, Task())
    attackers = Attackers.of(decode(stale), task)
    assert play(stale, 3, attackers)["a/0"] == [1, 40, 7]
    assert attackers.before is not None
    assert attackers.before.tolist() == [3, 3]
    assert play(stale, 4, attackers)["a/0"] == [1, 40, 7]
