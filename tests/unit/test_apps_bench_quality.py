"""The benchmark of quality trains what it says, keeps to the protocol's integers, and says what it lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from collegium.apps import _bench_quality, _quality_data, _quality_peer
from collegium.apps._bench_quality import PARTS, Size, UnknownQualityPartError, quality_rows
from collegium.apps._quality_data import Federation, MissingDigitsError, blobs, digits, dirichlet, hospitals
from collegium.apps._quality_market import Market
from collegium.apps._quality_peer import PEERS, find_byzfl, peer_rule
from collegium.apps._quality_play import Played, attackers_of, play
from collegium.apps._quality_rounds import POISONS, Rounds, poisoned
from collegium.apps._quality_rules import Everyone, Settings, _exact
from collegium.apps._quality_trigger import TriggerGradient, TriggerWatch, invert_trigger, unlearning, with_backdoor
from collegium.apps._quality_worth import (
    coalition_values,
    correlation,
    leave_one_out,
    noisy_labels,
    shapley,
    worth_rows,
)
from collegium.apps.cli import Engine, app
from collegium.incentives import encode_standing
from collegium.learning import AttackError, AttackPlan

DEMO = Path(_bench_quality.__file__).parent / "demo" / "demo.toml"
TINY = Size(1, 6, (0.3,), (), (0.5,), 30, 3, 1)
BLOBS = blobs(0)


def ours(plan: AttackPlan | None, rounds: int = 12, seed: int = 0, **settings: Any) -> Played:
    return _bench_quality.ours(BLOBS, plan, seed, rounds, Settings(**settings))


# Data and training


def test_a_gradient_is_the_slope_of_the_loss() -> None:
    federation = replace(BLOBS, hidden=4)
    generator = np.random.default_rng(1)
    model = generator.standard_normal(federation.parameter_count).astype(np.float32)
    rows, labels = federation.shards[0]
    slope = federation.gradients(model[None], rows[None], labels[None])[0]

    def loss(at: np.ndarray) -> float:
        logits = federation.logits(at, rows).astype(np.float64)
        chosen = logits[np.arange(len(labels)), labels]
        return float((np.log(np.exp(logits).sum(axis=1)) - chosen).mean())

    along = generator.standard_normal(len(model)).astype(np.float32)
    step = np.float32(1e-3)
    difference = (loss(model + step * along) - loss(model - step * along)) / (2 * float(step))
    assert np.isclose(difference, slope @ along, rtol=0.02)


def test_training_together_learns_and_the_same_seed_repeats_it() -> None:
    found = [_bench_quality.theirs(BLOBS, None, 0, 12, "mean").worth for _ in range(2)]
    assert found[0] == found[1] > 0.8


def test_every_row_is_dealt_to_one_trainer() -> None:
    labels = np.arange(400, dtype=np.int64) % 10
    parts = dirichlet(labels, 12, 0.1, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    assert min(map(len, parts)) >= 8


def test_the_hospitals_are_those_of_the_demo() -> None:
    federation = hospitals(1, DEMO)
    assert (len(federation.labels), federation.inputs, federation.classes) == (16, 25, 2)
    hidden = sum(len(labels) for _, labels in federation.shards)
    assert 3 * hidden - 3 <= len(federation.test[1]) <= 3 * hidden


@pytest.mark.byzfl
def test_digits_are_dealt_and_may_be_skewed() -> None:
    even, skewed = digits(0, 0.5), digits(0, 0.5, skewed=True)
    assert sum(map(len, even.labels)) + len(even.test[1]) + sum(len(y) for _, y in even.shards) == 1797
    assert sum(int((y >= 5).sum()) for _, y in skewed.shards) < sum(int((y >= 5).sum()) for _, y in even.shards) / 2


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _quality_data._all_digits.cache_clear()
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingDigitsError, match="quality"):
        digits(0, 0.5)


# Our rule in play


def test_attackers_lose_their_weight_and_the_model_little() -> None:
    clean = ours(None)
    for kind in ("sign_flip", "foe"):
        played = ours(AttackPlan(kind, 0.3))
        assert played.worth > clean.worth - 0.05
        assert played.quiet_from(0) is not None
        assert played.pay()[0] < 0.2 * played.pay()[1]
    ruined = _bench_quality.theirs(BLOBS, AttackPlan("foe", 0.3), 0, 12, "mean")
    assert ruined.worth < clean.worth - 0.2


def test_the_same_seed_gives_the_same_standing_to_the_byte() -> None:
    plan = AttackPlan("hidden_harm", 0.3)
    first, second = (encode_standing(ours(plan).ours.standing) for _ in range(2))
    assert first == second
    assert first != encode_standing(ours(plan, seed=1).ours.standing)


def test_no_integer_update_is_longer_than_its_bound() -> None:
    updates = np.random.default_rng(0).standard_normal((50, 40)) * np.geomspace(1e-6, 1e3, 50)[:, None]
    exact = _exact(updates, 65536)
    assert (exact * exact).sum(axis=1).max() <= 65536**2
    assert np.abs(exact[0] / 65536 - updates[0]).max() <= 2**-17


def test_a_swarm_joins_on_probation_and_carries_no_weight_while_it_attacks() -> None:
    played = ours(AttackPlan("sign_flip", 0.2, from_round=3, identities=50), rounds=14)
    assert len(played.ours.standing) == len(BLOBS.labels) + 50
    assert max(played.weight_share) == 0.0


def test_attackers_are_a_share_of_the_trainers_or_names_behind_them() -> None:
    assert attackers_of(None, 5, 0).sum() == 0
    assert attackers_of(AttackPlan("zero", 0.45), 40, 0).sum() == 18
    assert attackers_of(AttackPlan("zero", identities=3), 2, 0).tolist() == [False, False, True, True, True]


def test_only_our_rule_knows_locks_and_pay() -> None:
    other = play(BLOBS, Everyone(lambda u: u.mean(axis=0), 12, 8, np.random.default_rng(0)), None, 1, 0)
    with pytest.raises(TypeError):
        other.pay()


def test_quiet_is_counted_from_the_first_attack() -> None:
    played = Played(0.0, 0.0, np.zeros(1, np.bool_), [0.5, 0.0, 0.3, 0.001, 0.0])
    assert played.quiet_from(0) == 3
    assert played.quiet_from(2) == 1
    assert played.quiet_from(3) == 0
    played.weight_share.append(0.4)
    assert played.quiet_from(0) is None


# As rounds do it


def spoiled(share: float) -> np.ndarray:
    return attackers_of(AttackPlan("label_flip", share), len(BLOBS.labels), 0)


def test_rounds_take_the_weight_of_who_registered_rows_turned_round_and_nobody_elses() -> None:
    bad = spoiled(0.3)
    played = Rounds.of(poisoned(BLOBS, bad, "label_flip", 0), 0).play(12)
    assert played.influence(bad) < 0.05 < bad.mean()
    assert played.pay(bad) < 0.1
    assert not played.locked[~bad].any()
    assert BLOBS.worth(played.model) > 0.8


def test_scores_weigh_a_round_later_and_the_first_two_rounds_know_nobody() -> None:
    played = Rounds.of(poisoned(BLOBS, spoiled(0.3), "label_flip", 0), 0)
    seen = []
    for _ in range(4):
        played.play(1)
        seen.append((played.state.has_direction, bool((played.weights[-1] < played.policy.weight_max).any())))
    assert seen[:2] == [(True, False), (True, False)]
    assert seen[3][1]
    fresh = Rounds.of(poisoned(BLOBS, spoiled(0.3), "label_flip", 0), 0, fresh=True).play(2)
    assert (fresh.weights[1] < fresh.policy.weight_max).any()


def test_without_stewards_everybody_weighs_the_same() -> None:
    played = Rounds.of(replace(BLOBS, shards=()), 0).play(3)
    assert {weight for weights in played.weights for weight in weights.tolist()} == {played.policy.weight_max}


@pytest.mark.parametrize("poison", POISONS)
def test_only_attackers_rows_are_spoiled(poison: str) -> None:
    bad = spoiled(0.3)
    after = poisoned(BLOBS, bad, poison, 0)
    for trainer, attacks in enumerate(bad.tolist()):
        rows = np.array_equal(after.features[trainer], BLOBS.features[trainer])
        assert attacks != (rows and np.array_equal(after.labels[trainer], BLOBS.labels[trainer]))


def test_a_batch_of_nothing_is_one_step_on_all_rows() -> None:
    whole = replace(BLOBS, batch=0, steps=1)
    model = whole.first_model(0)
    step = whole.train(model, [2], np.random.default_rng(0))
    gradient = whole.gradients(model[None], whole.features[2][None], whole.labels[2][None])
    assert np.allclose(step, np.float32(whole.rate) * gradient)


# A market


def test_in_a_market_idle_names_earn_nothing_and_whoever_turns_stops_earning() -> None:
    market = Market.of(BLOBS, 0, names=20, turn=8)
    assert market.play(16, 0) > 0.7
    assert market.pay("idle with many names") == market.pay("new name at each lock") == 0.0
    assert market.pay("turns", after_turn=True) < 0.7 * market.pay("turns")
    assert len(market.owners) == len(market.rule.standing) >= len(BLOBS.labels) + 44


def test_one_bought_steward_of_three_moves_nothing_that_two_do() -> None:
    paid = []
    for bought in (1, 2):
        market = Market.of(BLOBS, 0, names=2, turn=99, bought=bought)
        market.play(10, 0)
        paid.append(market.pay("friend of a steward"))
    assert paid[0] < 0.7 < paid[1]


# Triggers


def test_the_trigger_that_an_inversion_finds_reaches_its_class() -> None:
    """A model that calls whatever has its first feature lit class 0 gives that away."""
    federation = replace(BLOBS, classes=3)
    model = Rounds.of(federation, 0).play(6).model.copy()
    model.reshape(federation.inputs + 1, federation.classes)[0, 0] += 40.0
    rows = federation.shards[0][0]
    found, mask, pattern = invert_trigger(replace(federation, hidden=0), model, rows)
    assert found == 0
    changed = ((1 - mask) * rows + mask * pattern).astype(np.float32)
    assert (federation.logits(model, changed).argmax(axis=1) == 0).mean() > 0.9
    assert mask.argmax() == 0


@pytest.mark.byzfl
@pytest.mark.slow
def test_a_watch_quarantines_those_who_teach_a_trigger_and_nobody_else() -> None:
    federation = digits(0, 0.5)
    bad = attackers_of(AttackPlan("backdoor", 0.2), 40, 0)
    spoiled_rows = with_backdoor(federation, bad, "patch")
    watch = TriggerWatch.of(spoiled_rows, 0)
    Rounds.of(spoiled_rows, 0, watch=watch).play(20)
    assert watch.quarantined[bad].mean() > 0.7
    assert not watch.quarantined[~bad].any()


def test_what_unlearns_a_trigger_has_length_one_and_none_of_what_clean_rows_ask_for() -> None:
    rows, labels = BLOBS.shards[0]
    model = Rounds.of(BLOBS, 0).play(6).model
    found = unlearning(BLOBS, model, rows, labels)
    assert np.isclose(np.linalg.norm(found), 1)
    assert abs(found @ BLOBS.steward_gradient(model, 0)) < 1e-6
    said, alone = TriggerGradient(BLOBS)(model, 0), BLOBS.steward_gradient(model, 0)
    assert np.isclose(np.linalg.norm(said), np.sqrt(5) * np.linalg.norm(alone), rtol=1e-4)


# Worth


def test_all_coalitions_train_as_each_would_by_itself() -> None:
    small = replace(BLOBS, labels=BLOBS.labels[:3], features=BLOBS.features[:3])
    for federation in (small, replace(small, batch=0, steps=1)):
        generator, model = np.random.default_rng((0, 4)), federation.first_model(0)
        for _ in range(3):
            model = model - federation.train(model, range(3), generator)[[0, 2]].mean(axis=0)
        assert np.isclose(coalition_values(federation, 3, 0)[0b101], federation.loss_below_nothing(model), atol=1e-6)


def test_shapley_values_of_a_game_done_by_hand() -> None:
    """Trainer 0 is worth 3 alone, 1 is worth 1 alone, together 6, and 2 nothing ever."""
    values = np.array([0, 3, 1, 6, 0, 3, 1, 6], np.float64)
    assert np.allclose(shapley(values), [4, 2, 0])
    assert leave_one_out(values).tolist() == [5, 3, 0]


def test_worth_of_all_is_shared_out_and_follows_the_quality_of_labels() -> None:
    federation = noisy_labels(replace(BLOBS, labels=BLOBS.labels[:4], features=BLOBS.features[:4]), 0)
    values = coalition_values(federation, 4, 0)
    assert np.isclose(shapley(values).sum(), values[-1])
    assert correlation(shapley(values), -np.arange(4.0), ranks=True) > 0.5


def test_correlations() -> None:
    line = np.arange(4.0)
    assert correlation(line, line**3, ranks=True) == 1.0
    assert 0.8 < correlation(line, line**3, ranks=False) < 1.0
    assert correlation(line, np.ones(4), ranks=False) == 0.0


# Rows


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds of points in the place of digits and hospitals, and no peer."""

    def cloud(seed: int, alpha: float = 0.5, trainers: int = 12, **_: object) -> Federation:
        return blobs(seed, trainers)

    monkeypatch.setattr(_bench_quality, "digits", cloud)
    monkeypatch.setattr(_bench_quality, "hospitals", lambda seed, config, every=4: blobs(seed, 6))
    monkeypatch.setattr(_bench_quality, "find_byzfl", lambda: None)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("part", PARTS)
def test_every_part_prints_rows(part: str) -> None:
    rows = list(quality_rows(whole=False, config=DEMO, part=part, size=TINY))
    assert rows[0]["name"] == "machine"
    assert rows[-1]["name"] == "load after"
    assert any(row["name"] == "peers" for row in rows)
    figures = [row for row in rows if row["ours"] is not None]
    assert figures
    assert all(row["unit"] for row in figures)
    judged = [row for row in figures if "met" in row]
    assert judged
    json.dumps(rows)


@pytest.mark.usefixtures("small")
def test_an_attack_says_what_it_lost_and_whether_that_is_little() -> None:
    rows = list(quality_rows(whole=False, config=DEMO, attack=AttackPlan("foe", 0.3), size=TINY))
    row = next(row for row in rows if row["name"] == "foe 30%")
    assert row["met"] == (round(row["lost"], 4) <= 0.01)
    assert row["rules"]["mean"][0] < row["rules"]["ours"][0] == row["ours"]


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownQualityPartError) as refused:
        next(quality_rows(whole=False, config=DEMO, part="all"))
    assert refused.value.values == {"part": "all"}


def test_the_command_hands_its_options_over(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def rows(**options: Any) -> list[dict[str, Any]]:
        asked.append(options)
        return [{"name": "a", "case": "b", "ours": 1.0, "peer": None, "ratio": None, "unit": "c"}]

    runner, engine = CliRunner(), Engine(quality_rows=rows)
    result = runner.invoke(app, ["bench", "quality", "--whole", "--part", "lazy", "--json"], obj=engine)
    assert json.loads(result.stdout)[0]["name"] == "a"
    assert asked == [{"whole": True, "part": "lazy", "attack": None}]


def test_a_file_that_is_no_attack_stops_the_command(tmp_path: Path) -> None:
    with pytest.raises(AttackError):
        Engine().quality_rows(whole=False, part=None, attack=tmp_path / "none.toml")


# Peers


def test_without_byzfl_there_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_quality_peer, "find_spec", lambda name: None)
    monkeypatch.delitem(__import__("sys").modules, "byzfl", raising=False)
    assert find_byzfl() is None


@pytest.mark.byzfl
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_finds_the_honest_mean_among_gross_lies(name: str) -> None:
    found = find_byzfl()
    assert found is not None
    generator = np.random.default_rng(0)
    updates = generator.normal(1.0, 0.05, (20, 30))
    updates[:4] = -50.0
    rule = peer_rule(found[0], name, 4)
    for _ in range(30):  # clipping needs a few rounds to come near
        step = rule(updates)
    assert np.abs(step - 1).max() < (0.9 if name == "centred clipping" else 0.3)


@pytest.mark.usefixtures("small")
def test_pay_is_held_against_worth_with_and_without_innovation() -> None:
    rows = list(worth_rows([lambda seed: blobs(seed, 3)], 1))
    assert [row["name"] for row in rows][::3] == [
        "pay with Shapley, as rounds do it",
        "pay with Shapley",
        "pay with Shapley, replays not discounted",
    ]
    assert [("met" in row) for row in rows] == [True, *[False] * 8]
