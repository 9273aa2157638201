"""Whole validators through changes of epochs, and reports from older models, in simulated worlds."""

import os
from dataclasses import replace

import pytest

from collegium.node._world_mutants import CALM
from collegium.node._world_plan import members_min, plan_world, seats_for, with_epochs, with_staleness
from collegium.node._world_run import play_plan

WORLDS = 100 if os.environ.get("COLLEGIUM_FULL") == "1" else 2
CHANGE = replace(CALM, epochs=2, rounds=1, members_min=3, trainers=("honest",) * 2)
NEVER = (0, 0)


@pytest.mark.slow
def test_epochs_hand_over_whatever_the_weather() -> None:
    books = [play_plan(with_epochs(plan_world(seed, (4, 5)))) for seed in range(1000, 1000 + WORLDS)]
    assert [(book.seed, book.failure) for book in books if book.failure] == []
    assert all(book.handovers == book.plan.epochs - 1 for book in books if not book.beyond)


@pytest.mark.slow
def test_who_is_away_while_tickets_are_ordered_drops_out_and_comes_back_an_epoch_later() -> None:
    """With everybody there nobody drops out."""
    book = play_plan(replace(CHANGE, epochs=3, away=(NEVER, NEVER, NEVER, (0, 3_000))))
    assert (book.failure, book.beyond, book.handovers, book.dropped) == ("", "", 2, 1)
    book = play_plan(CHANGE)
    assert (book.failure, book.beyond, book.handovers, book.dropped) == ("", "", 1, 0)


def test_a_set_with_more_bad_members_than_it_bears_is_beyond_the_premise() -> None:
    """The liar's ticket is in, and one honest one is not: one of three is bad. With four nobody need be missed."""
    people = ("honest", "liar", "honest", "honest")
    book = play_plan(replace(CHANGE, validators=people, script=("no lie",), away=(NEVER, NEVER, NEVER, (0, 3_000))))
    assert (book.failure, book.beyond) == ("", "1 of the 3 next members are bad: at most 0")
    book = play_plan(replace(CHANGE, validators=people, script=("no lie",)))
    assert (book.failure, book.beyond) == ("", "")


def test_reports_from_older_models_are_weighed_and_too_old_ones_are_not_admitted() -> None:
    plan = replace(CALM, rounds=3, staleness=2, trainers=("honest", "honest", "honest", "too stale"))
    book = play_plan(plan)
    assert (book.failure, book.outcomes["opened"]) == ("", 3)
    assert 0 < book.stale <= 9
    assert play_plan(replace(plan, staleness=0, trainers=("honest",) * 4)).stale == 0


def test_plans_of_epochs_promise_no_more_than_their_sets_can_bear() -> None:
    for size in range(1, 11):
        for bad in range((size - 1) // 3 + 1):
            least = members_min(size, bad)
            assert size - (size - 1) // 3 <= least <= size - bad
            for members in range(least, size + 1):
                most = (members - 1) // 3
                assert -(-seats_for(size) // members) * most <= (seats_for(size) - 1) // 3
    assert (members_min(4, 0), members_min(4, 1), members_min(5, 1), members_min(7, 2)) == (3, 3, 4, 5)


def test_plans_of_epochs_and_of_older_models_are_functions_of_their_seeds() -> None:
    plan = plan_world(6)
    assert with_epochs(plan) == with_epochs(plan) != plan
    assert with_staleness(plan) == with_staleness(plan) != plan
