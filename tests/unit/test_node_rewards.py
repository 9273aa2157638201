"""What rounds earn and what is due for them: splits, what a validator signs, the section `[rewards]`."""

from __future__ import annotations

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
from collegium.incentives import Policy, encode_quality_state
from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)
from collegium.node._base_chain import _first_dues
from collegium.node._experiment import RewardsNetworkError, require_for_processes
from collegium.node._quality import QualityRule
from collegium.node._rewards import (
    Payroll,
    RewardList,
    RewardRule,
    RewardsRefusedError,
    difference,
    equal_points,
    payee_names,
    reward_rule,
)
from collegium.settlement import NO_CHECKPOINT, Checkpoint, Due, PayPlace

TASK = hash_fields("test-rewards")
ANNA, BERT, CARL = (bytes([name]) * 20 for name in (1, 2, 3))
PAYEES = {account: Due(account, 0) for account in (ANNA, BERT, CARL)}
RULE = RewardRule(100, PAYEES)
PLACE = PayPlace(TASK, 0, 1337, bytes([7]) * 20, bytes([8]) * 20)


def header(number: int, outcome: str = "opened") -> Any:
    return SimpleNamespace(round=number, outcome=outcome, close=b"close")


def amounts(dues: Sequence[Due]) -> dict[bytes, int]:
    return {due.account: due.amount for due in dues}


# ------------------------------------------------------------------------------------------------ what is due


def test_rounds_of_training_that_opened_are_paid_and_no_others() -> None:
    assert RULE.earned(header(1), [ANNA, CARL], b"", b"") == {ANNA: 1, CARL: 1}
    assert RULE.earned(header(0), [ANNA, CARL], b"", b"") == {}
    for outcome in ("invalid", "lost", "skipped"):
        assert RULE.earned(header(1, outcome), [ANNA, CARL], b"", b"") == {}


def test_a_list_pays_each_report_of_its_rounds_alike() -> None:
    everybody = equal_points(1, [ANNA, BERT, CARL], b"", b"")
    assert amounts(RULE.dues([everybody])) == {ANNA: 34, BERT: 33, CARL: 33}
    assert amounts(RULE.dues([everybody, {ANNA: 1}])) == {ANNA: 100, BERT: 50, CARL: 50}
    assert amounts(RULE.dues([everybody, {}])) == {ANNA: 34, BERT: 33, CARL: 33}
    assert RULE.dues([{}, {}]) == ()
    assert RULE.dues([]) == ()


def test_points_decide_and_whoever_has_none_has_no_line() -> None:
    def points(number: int, added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
        assert (number, before, after) == (2, b"before", b"after")
        return {trainer: 3 * (trainer != BERT) for trainer in added}

    rule = replace(RULE, points=points)
    assert amounts(rule.dues([rule.earned(header(2), [ANNA, BERT, CARL], b"before", b"after")])) == {ANNA: 50, CARL: 50}
    assert rule.dues([{BERT: 0}]) == ()


def test_a_site_with_a_licence_is_paid_on_it_and_its_holder_has_the_line() -> None:
    text = SMALLEST + PAYS + LICENCES
    genesis: Any = SimpleNamespace(trainers=((ANNA, "H/0"), (BERT, "H/1"), (CARL, "other/0")))
    unscored: Any = SimpleNamespace(quality=None)
    rule = reward_rule(decode(text), genesis, unscored)
    assert rule is not None
    holder = bytes.fromhex("22" * 20)
    assert rule.dues([dict.fromkeys(PAYEES, 1)]) == (Due(holder, 34, 5), Due(holder, 33, 5), Due(CARL, 33))
    assert reward_rule(decode(SMALLEST), genesis, unscored) is None
    names = payee_names(decode(text), genesis)
    assert names == {Due(holder, 0, 5): "H", Due(CARL, 0): "other/0"}  # a site of two trainers has one name
    assert payee_names(decode(SMALLEST), genesis)[Due(ANNA, 0)] == "H/0"


def test_where_there_are_stewards_the_standings_points_are_paid() -> None:
    quality = QualityRule(TASK, Policy(), Fraction(1, 2), 2, 8, (ANNA, BERT, CARL), (bytes([9]) * 20,), 3)

    def state(*points: int) -> bytes:
        first = quality.first()
        standing = replace(first.standing, points=np.array(points, dtype=np.int64))
        return b"statistics and parameters" + encode_quality_state(replace(first, standing=standing))

    genesis: Any = SimpleNamespace(trainers=((ANNA, "a/0"), (BERT, "b/0"), (CARL, "c/0")))
    scored: Any = SimpleNamespace(quality=quality)
    rule = reward_rule(decode(SMALLEST + PAYS), genesis, scored)
    assert rule is not None
    earned = rule.earned(header(1), [ANNA, BERT, CARL], state(7, 7, 7), state(37, 7, 17))
    assert earned == {ANNA: 30, BERT: 0, CARL: 10}
    assert amounts(rule.dues([earned])) == {ANNA: 75, CARL: 25}
    nothing = rule.earned(header(1), [ANNA, BERT, CARL], state(7, 7, 7), state(7, 7, 7))
    assert rule.dues([nothing]) == ()  # the first rounds, in which nothing is scored yet


# ------------------------------------------------------------------------------------------------ what is signed


def checkpoint(first: int, last: int) -> Checkpoint:
    return Checkpoint(TASK, 0, first, last, NO_CHECKPOINT, hash_fields("root", first, last))


def roll() -> Payroll:
    return Payroll(RULE, {0: {}, 1: {ANNA: 1, BERT: 1}, 2: {ANNA: 1}, 3: {CARL: 1}})


def listed(first: int = 0, last: int = 2, number: int = 0) -> RewardList:
    return RewardList(PLACE, number, checkpoint(first, last), roll().dues(first, last))


def test_a_validator_signs_the_list_that_it_derives_as_often_as_it_is_asked() -> None:
    own = roll()
    for _ in range(2):
        own.check(listed())
    own.check(listed(3, 3, 1))
    assert sorted(own.earned) == [3]  # what is settled is forgotten


def test_a_validator_signs_no_other_list() -> None:
    for dues, reason in (
        ((Due(ANNA, 200),), "the list for rounds 0-2 has 1 lines, expected 2"),
        ((Due(ANNA, 134), Due(BERT, 66)), f"says in line 0 134 wei to 0x{ANNA.hex()}, expected 133 wei to"),
        ((Due(ANNA, 133), Due(BERT, 67, 4)), "67 wei to 0x0202020202020202020202020202020202020202 on licence 4,"),
        ((), "has 0 lines"),
    ):
        with pytest.raises(RewardsRefusedError, match=reason):
            roll().check(replace(listed(), dues=dues))
    with pytest.raises(RewardsRefusedError, match="what round 4 earned is not known here"):
        roll().check(replace(listed(), checkpoint=checkpoint(3, 4)))


def test_a_validator_signs_one_list_for_the_rounds_of_a_checkpoint() -> None:
    """A second one under another number would pay the same rounds twice."""
    own = roll()
    own.check(listed())
    for again in (listed(number=1), replace(listed(), place=replace(PLACE, chain_id=1))):
        with pytest.raises(RewardsRefusedError, match="a list for rounds up to 2 is signed already"):
            own.check(again)


def test_what_a_round_earned_is_noted_of_what_is_here_whole() -> None:
    own, report = Payroll(RULE), SimpleNamespace(report=SimpleNamespace(trainer=ANNA))
    other = SimpleNamespace(report=SimpleNamespace(trainer=BERT))
    close = SimpleNamespace(digest=b"close", reports=(b"a", b"b"), weights=(1, 0))
    finished: Any = SimpleNamespace(header=header(1), model=b"after")

    def ended(close: object, **held: object) -> Any:
        return SimpleNamespace(close=close, model=b"before", held=lambda: {k.encode(): v for k, v in held.items()})

    for lacking in (ended(None), ended(close, a=report), ended(SimpleNamespace(digest=b"another"))):
        own.note(lacking, finished)
        assert own.earned == {}
    own.note(ended(close, a=report, b=other), finished)
    assert own.earned == {1: {ANNA: 1}}  # the other report weighs nothing, so it is in no sum


def test_whoever_knows_all_rounds_says_what_is_due() -> None:
    def node(payroll: Payroll | None) -> Any:
        return SimpleNamespace(payroll=payroll)

    behind = Payroll(RULE, {1: {ANNA: 1}})
    assert _first_dues([node(None), node(behind), node(roll())], checkpoint(0, 2)) == roll().dues(0, 2)
    with pytest.raises(RewardsRefusedError, match="what round 0 earned is not known here"):
        _first_dues([node(behind)], checkpoint(0, 2))
    with pytest.raises(RewardsRefusedError, match="no validator keeps account"):
        _first_dues([node(None)], checkpoint(0, 2))


def test_two_lists_that_are_alike_differ_in_nothing() -> None:
    assert difference(listed().dues, listed().dues) == "is as expected"


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


def test_networks_of_processes_pay_nothing_and_say_so() -> None:
    require_for_processes(decode(SMALLEST))
    with pytest.raises(RewardsNetworkError, match=r"\[rewards\] is given: validators of networks of processes"):
        require_for_processes(decode(SMALLEST + PAYS))
