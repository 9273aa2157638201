"""The program that judges what a header says of earnings, held against the fold that validators compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from _quality_works_stage import first, model_of, quality_terms
from _works_stage import PlayedRound, played, work_terms
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.consensus import Header, Outcome, paid_after
from collegium.incentives import EARNED_MAX, POINTS_MAX, earned_after
from collegium.node._pay import PayRule
from collegium.settlement import (
    Due,
    KnownStretches,
    MachineRun,
    Program,
    RewardTerms,
    WorkTerms,
    compile_program,
    public_works,
    rewards_root,
    rewards_tree,
)

BUDGET = (7 << 64) + 10**18 + 1
PAYEES = (
    Due(bytes([9]) * 20, 0),
    Due(bytes([10]) * 20, 0, 5),
    Due(bytes([11]) * 20, 0, 0, 7),
    Due(bytes([1]) * 20, 0, (1 << 256) - 1, (1 << 255) + 1),
)
TRAINERS = work_terms().trainers
RULE = PayRule(BUDGET, dict(zip(TRAINERS, PAYEES, strict=True)))


def paying(terms: WorkTerms, budget: int = BUDGET) -> WorkTerms:
    return replace(terms, rewards=RewardTerms(budget, tuple(RULE.payees.values())))


@cache
def program(budget: int = BUDGET, *, scored: bool = False) -> Program:
    terms = paying(quality_terms() if scored else work_terms(), budget)
    work = next(work for work in public_works(terms) if work.name == "rewards")
    assert work.convicts
    return compile_program(work.module, work.parameters)


def paid_of(amounts: Sequence[int]) -> bytes:
    """Return what a header carries of what all have earned."""
    return b"".join(amount.to_bytes(16, "little") for amount in amounts)


def said(header: Header, amounts: Sequence[int]) -> Header:
    """Return a header that says these earnings."""
    paid = paid_of(amounts)
    return replace(header, paid=paid, rewards=RULE.digest(paid))


def judged(found: PlayedRound, made: Program, more: Sequence[bytes] = ()) -> bool:
    """Tell whether the program accepts a round's header, with what the record has."""
    tree = () if found.before is None else rewards_tree(RULE.lines(found.before.paid))
    objects = (*found.messages, *tree, RewardTerms(BUDGET, tuple(RULE.payees.values())).lines, *more)
    run = MachineRun(made, found.header.digest, KnownStretches(objects))
    assert run.stuck is None
    return run.accepted


def after(number: int, before: Sequence[int], now: Sequence[int], outcome: Outcome = "opened") -> PlayedRound:
    """Return a round whose headers say these earnings before and after it."""
    found = played(number)
    earlier = None if found.before is None else said(found.before, before)
    previous = found.header.previous if earlier is None else earlier.digest
    header = replace(said(found.header, now), outcome=outcome, previous=previous)
    return replace(found, before=earlier, header=header)


def paid_in(number: int, before: Sequence[int], outcome: Outcome = "opened") -> list[int]:
    """Return what validators find that all have earned after a round."""
    found = played(number)
    models = (found.model, found.redone[2])
    return list(RULE.amounts(paid_after(RULE, paid_of(before), found.close, outcome, found.held, models)))


NOTHING = (0, 0, 0, 0)


def test_round_0_earns_nothing_and_a_round_of_training_pays_its_budget() -> None:
    assert paid_in(0, NOTHING) == [0] * 4
    assert judged(after(0, (), NOTHING), program())
    assert not judged(after(0, (), (1, 0, 0, 0)), program())
    one = paid_in(1, NOTHING)
    assert sum(one) == BUDGET
    assert sorted(one)[0] == 0  # three of four sent reports
    assert judged(after(1, NOTHING, one), program())
    two = paid_in(2, one)
    assert sum(two) == 2 * BUDGET
    assert judged(after(2, one, two), program())


@pytest.mark.parametrize("outcome", ["skipped", "lost", "invalid"])
def test_a_round_that_did_not_open_pays_nothing(outcome: Outcome) -> None:
    known = (1 << 127, 3, 2, 1)
    assert paid_in(1, known, outcome) == list(known)
    assert judged(after(1, known, known, outcome), program())
    assert not judged(after(1, known, paid_in(1, known), outcome), program())


def test_an_amount_that_is_off_by_a_wei_is_rejected_wherever_it_stands() -> None:
    one = paid_in(1, NOTHING)
    for place in range(4):
        for wei in (1, -1, 1 << 64):
            if one[place] + wei >= 0:
                wrong = [amount + wei * (index == place) for index, amount in enumerate(one)]
                assert not judged(after(1, NOTHING, wrong), program())
    assert not judged(after(1, NOTHING, [one[1], one[0], *one[2:]]), program()) or one[0] == one[1]
    good = after(1, NOTHING, one)
    for lie in (bytes(32), sha256(b"another root").digest()):
        assert not judged(good.claiming(rewards=lie), program())


def test_another_account_chain_or_licence_is_another_line() -> None:
    one = paid_in(1, NOTHING)
    lines = RULE.lines(paid_of(one))
    for change in ({"account": bytes(20)}, {"licence": 6}, {"chain": 1}):
        lie = [replace(lines[0], **change), *lines[1:]]
        assert not judged(after(1, NOTHING, one).claiming(rewards=rewards_root(lie)), program())


amounts = st.one_of(
    st.integers(0, 1 << 90), st.sampled_from((0, 1, EARNED_MAX, EARNED_MAX - 1, (1 << 64) - 1, 1 << 64))
)
counts = st.one_of(
    st.integers(0, 1 << 30),
    st.sampled_from((0, 1, 2, POINTS_MAX, POINTS_MAX - 1, POINTS_MAX // 2, POINTS_MAX // 3, (1 << 63) - 1)),
)
budgets = st.sampled_from((1, 2, 3, 10**18, (1 << 64) - 1, 1 << 64, (1 << 96) - 1, BUDGET))


@settings(max_examples=25, deadline=None)
@given(budgets, *[st.lists(kind, min_size=4, max_size=4) for kind in (amounts, counts, counts)])
def test_whatever_scores_give_the_program_finds_what_the_fold_finds(
    budget: int, known: list[int], before: list[int], now: list[int]
) -> None:
    """Points may fall, add up to more than can be divided by, and sums may wrap: both mean the same then."""
    models = []
    for points in (before, now):
        standing = replace(first().standing, points=np.array(points, np.int64))
        models.append(model_of(replace(first(), standing=standing), played(1).model))
    right = earned_after(known, [new - old for old, new in zip(before, now, strict=True)], budget)
    found = after(1, known, right)
    earlier = replace(found.before or found.header, model=sha256(models[0]).digest())
    header = replace(found.header, previous=earlier.digest, model=sha256(models[1]).digest())
    scored = replace(found, before=earlier, header=header)
    assert judged(scored, program(budget, scored=True), models)
    place = (known[0] + now[0]) % 4
    wrong = [amount ^ (index == place) for index, amount in enumerate(right)]
    assert not judged(replace(scored, header=said(header, wrong)), program(budget, scored=True), models)
