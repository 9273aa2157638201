"""Attacks do what their papers say, keep to the norm bound, and are described by a table that is read strictly."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.apps._quality_peer import find_byzfl
from collegium.learning import (
    ATTACKS,
    AttackError,
    AttackKind,
    AttackPlan,
    AttackView,
    attack_from_file,
    attack_from_mapping,
    flip_labels,
    forge,
    stamp,
)

GENERATOR = np.random.default_rng(0)
HONEST = GENERATOR.normal(0.2, 1.0, (9, 30))
VIEW = AttackView(
    honest=HONEST,
    own=GENERATOR.normal(0.2, 1.0, (4, 30)),
    norm_bound=None,
    last_aggregate=GENERATOR.normal(0, 1.0, 30),
    earlier=GENERATOR.normal(0, 1.0, (4, 30)),
    direction=GENERATOR.normal(0, 1.0, 30),
)


def sent(kind: AttackKind, view: AttackView = VIEW, **settings: Any) -> np.ndarray:
    return forge(AttackPlan(kind, **settings), view, np.random.default_rng(1))


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("bound", [None, 3.0])
def test_every_attack_answers_for_every_attacker_within_the_bound(kind: AttackKind, bound: float | None) -> None:
    for direction in (VIEW.direction, None):
        updates = sent(kind, replace(VIEW, norm_bound=bound, direction=direction))
        assert updates.shape == VIEW.own.shape
        assert np.isfinite(updates).all()
        assert bound is None or np.linalg.norm(updates, axis=1).max() <= bound + 1e-9


@pytest.mark.parametrize("kind", ATTACKS)
def test_one_honest_trainer_or_a_first_round_is_enough(kind: AttackKind) -> None:
    alone = replace(VIEW, honest=HONEST[:1], last_aggregate=np.zeros(30), norm_bound=2.0)
    assert np.isfinite(sent(kind, alone)).all()


def test_a_flipped_mean_is_as_long_as_may_be() -> None:
    mean = HONEST.mean(axis=0)
    assert np.allclose(sent("sign_flip")[0], -mean)
    bounded = sent("sign_flip", replace(VIEW, norm_bound=7.0))[0]
    assert np.allclose(bounded, -7 * mean / np.linalg.norm(mean))


def test_min_max_is_as_far_from_some_honest_update_as_the_two_farthest_are_apart() -> None:
    forged = sent("min_max")[0]
    apart = max(float(np.linalg.norm(a - b)) for a in HONEST for b in HONEST)
    assert np.isclose(max(float(np.linalg.norm(forged - a)) for a in HONEST), apart)


def test_hidden_harm_scores_like_the_median_and_points_against_the_rest() -> None:
    forged = sent("hidden_harm", replace(VIEW, norm_bound=9.0))[0]
    along = VIEW.direction / np.linalg.norm(VIEW.direction)
    mean = HONEST.mean(axis=0)
    assert np.isclose(forged @ along, np.median(HONEST @ along))
    assert np.isclose(np.linalg.norm(forged), 9.0)
    assert (forged - (forged @ along) * along) @ mean < 0


def test_echo_is_the_direction_where_it_is_known_and_a_replay_where_not() -> None:
    echoed = sent("echo", replace(VIEW, norm_bound=2.0))[0]
    assert np.allclose(echoed, 2 * VIEW.direction / np.linalg.norm(VIEW.direction))
    blind = sent("echo", replace(VIEW, norm_bound=2.0, direction=None))[0]
    cosine = blind @ VIEW.last_aggregate / np.linalg.norm(blind) / np.linalg.norm(VIEW.last_aggregate)
    assert cosine > 0.98


def test_lazy_attacks_send_what_was_there_before() -> None:
    assert not sent("zero").any()
    assert np.array_equal(sent("stale"), VIEW.earlier)
    assert np.array_equal(sent("mimic")[2], HONEST[0])


def test_a_model_is_replaced_by_a_multiple_of_the_update() -> None:
    assert np.array_equal(sent("backdoor", strength=5.0), 5 * VIEW.own)


def test_rows_are_spoiled_as_said() -> None:
    assert flip_labels(np.array([0, 1, 9]), 10).tolist() == [9, 8, 0]
    stamped = stamp(np.zeros((2, 4)), np.array([1, 3]))
    assert stamped.tolist() == [[0, 1, 0, 1]] * 2


# When and who


def test_sleepers_wait_and_others_go_on_and_off() -> None:
    sleeper = AttackPlan("zero", from_round=3)
    assert [sleeper.is_on(index) for index in range(5)] == [False, False, False, True, True]
    on_off = AttackPlan("zero", from_round=1, period=3, active=1)
    assert [on_off.is_on(index) for index in range(8)] == [False, True, False, False, True, False, False, True]


TEXT = """
[attack]
kind = "alie"
share = 0.45
from_round = 20
period = 10
active = 5
strength = 2
identities = 10_000
"""


def test_a_toml_file_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "attack.toml").write_text(TEXT)
    assert attack_from_file(tmp_path / "attack.toml") == AttackPlan("alie", 0.45, 20, 10, 5, 2.0, 10_000)
    assert attack_from_mapping({"kind": "zero"}) == AttackPlan("zero")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[attack",
        b"attack = 1",
        b"attack = []",
        b"[other]",
        TEXT.encode() + b"[other]",
        TEXT.encode() + b"#" * (1 << 16),
        b"\xff",
        b"a=" + b"[" * 5000,
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_a_file_that_is_no_attack_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "attack.toml").write_bytes(data)
    with pytest.raises(AttackError):
        attack_from_file(tmp_path / "attack.toml")
    with pytest.raises(AttackError):
        attack_from_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "alien"},
        {"kind": ["alie"]},
        {"share": 0},
        {"share": 1.0},
        {"share": float("nan")},
        {"share": True},
        {"from_round": -1},
        {"from_round": 1.0},
        {"active": 11},
        {"active": 0},
        {"strength": -1},
        {"strength": 1e9},
        {"identities": 1 << 18},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_table_with_one_wrong_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AttackError) as refused:
        attack_from_mapping({**tomllib.loads(TEXT)["attack"], **change})
    assert refused.value.values["key"] == next(iter(change))


# Beside the reference implementations of others


@pytest.mark.byzfl
@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("sign_flip", "SignFlipping", {}),
        ("ipm", "InnerProductManipulation", {"tau": 0.5}),
        ("foe", "InnerProductManipulation", {"tau": 10.0}),
        ("alie", "ALittleIsEnough", {"tau": 1.5}),
        ("mimic", "Mimic", {"epsilon": 0}),
    ],
)
def test_byzfl_makes_the_same_of_it(kind: AttackKind, name: str, settings: dict[str, Any]) -> None:
    found = find_byzfl()
    assert found is not None
    _, attacks = found
    assert np.allclose(sent(kind)[0], getattr(attacks, name)(**settings)(HONEST))
