"""What rounds earn: splits, lines, the section `[rewards]`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from _experiment_stage import SMALLEST

from collegium.crypto import hash_fields
from collegium.incentives import EARNED_MAX, POINTS_MAX, Policy, earned_after, encode_quality_state
from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)
from collegium.node._experiment import require_for_cards, require_for_processes
from collegium.node._pay import PaidLengthError, PayRule, first_difference, pay_rule
from collegium.node._quality import QualityRule
from collegium.node._rewards import payee_names
from collegium.settlement import Due, rewards_root

TASK = hash_fields("test-rewards")
ANNA, BERT, CARL = (bytes([name]) * 20 for name in (1, 2, 3))
PAYEES = {account: Due(account, 0) for account in (ANNA, BERT, CARL)}
RULE = PayRule(100, PAYEES)


# ------------------------------------------------------------------------------------------------ what is earned


def amounts(paid: bytes) -> dict[bytes, int]:
    return {trainer: amount for trainer, amount in zip(RULE.payees, RULE.amounts(paid), strict=True) if amount}


def test_a_round_of_training_pays_each_report_alike_to_the_last_wei() -> None:
    one = RULE.after(1, RULE.first(), [ANNA, BERT, CARL], b"", b"")
    assert amounts(one) == {ANNA: 34, BERT: 33, CARL: 33}
    two = RULE.after(2, one, [ANNA, CARL], b"", b"")
    assert amounts(two) == {ANNA: 84, BERT: 33, CARL: 83}
    assert RULE.after(0, RULE.first(), [ANNA], b"", b"") == RULE.first() == bytes(48)
    assert RULE.after(3, two, [], b"", b"") == two


def test_points_decide_and_whoever_has_none_earns_nothing() -> None:
    def points(added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
        assert (before, after) == (b"before", b"after")
        return {trainer: 3 * (trainer != BERT) for trainer in added}

    rule = replace(RULE, points=points)
    assert amounts(rule.after(2, rule.first(), [ANNA, BERT, CARL], b"before", b"after")) == {ANNA: 50, CARL: 50}


def test_what_nobody_meets_has_a_meaning_all_the_same() -> None:
    """The program that judges it is to find the same of every input."""
    assert earned_after((5, 6), (-1, 1), 10) == (5, 16)
    assert earned_after((5, 6), (POINTS_MAX, 1), 10) == (5, 6)
    assert earned_after((EARNED_MAX, 0), (1, 0), 10) == (9, 0)
    assert earned_after((5, 6), (0, 0), 10) == (5, 6)


def test_earnings_of_more_or_fewer_trainers_are_refused() -> None:
    for data in (b"", bytes(47), bytes(64)):
        with pytest.raises(PaidLengthError, match=f"{len(data)} bytes of earnings, expected 16 for each of 3 trainers"):
            RULE.digest(data)
    assert RULE.digest(bytes(48)) == rewards_root(RULE.lines(bytes(48)))


def test_the_first_trainer_that_earned_something_else_is_named() -> None:
    one = RULE.after(1, RULE.first(), [ANNA, BERT, CARL], b"", b"")
    lie = one[:16] + (34).to_bytes(16, "little") + one[32:]
    assert first_difference(RULE, lie, one) == f"trainer 0x{BERT.hex()} has earned 34 wei, redone it is 33"
    assert first_difference(RULE, one, one) == "they are the same"


def test_a_site_with_a_licence_is_paid_on_it_and_its_holder_has_the_line() -> None:
    text = SMALLEST + PAYS + LICENCES
    genesis: Any = SimpleNamespace(trainers=((ANNA, "H/0"), (BERT, "H/1"), (CARL, "other/0")))
    rule = pay_rule(decode(text), genesis, None)
    assert rule is not None
    holder = bytes.fromhex("22" * 20)
    earned = rule.after(1, rule.first(), list(PAYEES), b"", b"")
    assert rule.lines(earned) == (Due(holder, 34, 5), Due(holder, 33, 5), Due(CARL, 33))
    assert pay_rule(decode(SMALLEST), genesis, None) is None
    names = payee_names(decode(text), genesis)
    assert names == {Due(holder, 0, 5): "H", Due(CARL, 0): "other/0"}  # a site of two trainers has one name
    assert payee_names(decode(SMALLEST), genesis)[Due(ANNA, 0)] == "H/0"


def test_where_there_are_stewards_the_standings_points_are_paid() -> None:
    quality = QualityRule(TASK, Policy(), Fraction(1, 2), 2, 8, (ANNA, BERT, CARL), (bytes([9]) * 20,), 3, 1 << 24)

    def state(*points: int) -> bytes:
        first = quality.first()
        standing = replace(first.standing, points=np.array(points, dtype=np.int64))
        return b"statistics and parameters" + bytes(4) + encode_quality_state(replace(first, standing=standing))

    genesis: Any = SimpleNamespace(trainers=((ANNA, "a/0"), (BERT, "b/0"), (CARL, "c/0")))
    rule = pay_rule(decode(SMALLEST + PAYS), genesis, quality)
    assert rule is not None
    earned = rule.after(1, rule.first(), [ANNA, BERT, CARL], state(7, 7, 7), state(37, 7, 17))
    assert amounts(earned) == {ANNA: 75, CARL: 25}
    assert rule.after(2, earned, [ANNA], state(7, 7, 7), state(7, 7, 7)) == earned  # rounds in which nothing is scored
    carried = pickle.loads(pickle.dumps(rule))  # noqa: S301 - as a worker process is given it with its task
    assert carried.after(1, rule.first(), [ANNA, BERT, CARL], state(7, 7, 7), state(37, 7, 17)) == earned


# ------------------------------------------------------------------------------------------------ the section

PAYS = "\n[rewards]\nbudget = 100\n"
LICENCES = (
    f'[licences]\nchain_id = 1\ncontract = "0x{"11" * 20}"\n[licences.sites.H]\nnumber = 5\nholder = "{"22" * 20}"\n'
    f'data_root = "{"33" * 32}"\n[chain]\nurl = "http://127.0.0.1:8545"\n'
)


def decode(text: str) -> Experiment:
    return decode_experiment(text.encode(), Path("folder"))


def test_the_section_has_defaults_and_canonical_bytes_and_costs_nothing_where_absent() -> None:
    experiment = decode(SMALLEST + PAYS)
    rewards = experiment.rewards
    assert rewards is not None
    assert (rewards.budget, rewards.claim_s, rewards.post_s) == (100, 365 * 86_400, 365 * 86_400)
    assert (rewards.royalty, rewards.sponsor_share) == (0, 0)
    assert experiment_from_bytes(experiment_to_bytes(experiment)) == experiment
    assert b"rewards" not in experiment_to_bytes(decode(SMALLEST))
    large = decode(SMALLEST + PAYS.replace("100", str(2**96 - 1)))
    assert experiment_from_bytes(experiment_to_bytes(large)) == large


@pytest.mark.parametrize(
    ("text", "where", "kind"),
    [
        (PAYS.replace("100", "0"), "rewards.budget", "range"),
        (PAYS.replace("100", str(2**96)), "rewards.budget", "range"),
        (PAYS.replace("budget = 100", ""), "rewards.budget", "missing"),
        (PAYS.replace("100", '"1 coin"'), "rewards.budget", "type"),
        (PAYS + "claim_days = 0", "rewards.claim_days", "range"),
        (PAYS + "post_days = 3651", "rewards.post_days", "range"),
        (PAYS + "post_days = 35", "rewards.post_days", "range"),
        (PAYS + "royalty = 5001", "rewards.royalty", "range"),
        (PAYS + "sponsor_share = 5001", "rewards.sponsor_share", "range"),
        (PAYS + "budgets = 1", "rewards.budgets", "unknown"),
        (PAYS + "[chain]\ncourts = false", "[rewards]", "conflict"),
        (PAYS + LICENCES.partition("[chain]")[0], "[rewards]", "conflict"),
        (PAYS + LICENCES.replace("[licences]", '[licences]\nurl = "http://127.0.0.1:1"'), "[rewards]", "conflict"),
    ],
)
def test_what_cannot_be_paid_is_refused_by_name(text: str, where: str, kind: str) -> None:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(SMALLEST + text)
    assert [(problem.where, problem.kind) for problem in caught.value.problems] == [(where, kind)]


def test_rounds_in_shards_are_not_paid() -> None:
    sharded = SMALLEST.replace("seats = 16", "seats = 16\nshards = 2\npartition_rounds = 1")
    decode(sharded)
    with pytest.raises(ExperimentRefusedError, match=r"\[rewards\]: is given, but committee.shards is 2"):
        decode(sharded + PAYS)


def test_networks_pay_whoever_founds_them() -> None:
    require_for_processes(decode(SMALLEST + PAYS))
    require_for_cards(decode(SMALLEST + PAYS))
