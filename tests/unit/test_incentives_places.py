"""Who may report in a round that starts from a state, and what that weighs: draws, locks, rounds without a sum."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from collegium.incentives import Policy, QualityState, RoundPlaces, draw, first_quality_state, round_places

TRAINERS = tuple(bytes([number]) * 20 for number in range(8))
STEWARDS = (bytes([100]) * 20,)
POLICY = Policy()
LEAST = 3
BEACONS = [bytes([number]) * 32 for number in range(40)]


def state(*weights: int, locked: tuple[int, ...] = (), waiting: tuple[int, ...] = ()) -> QualityState:
    """A state after round 5, in which these trainers are locked out, and these on probation."""
    begun = first_quality_state(POLICY, TRAINERS, STEWARDS, 4)
    until, vetted = np.zeros(8, np.int64), np.ones(8, np.int64)
    until[list(locked)] = 9
    vetted[[*locked, *waiting]] = 0
    standing = replace(begun.standing, locked_until=until, vetted=vetted)
    return replace(begun, round=5, standing=standing, weights=np.array(weights or [15] * 8, np.int64))


def places(before: QualityState, number: int = 6, beacon: bytes = BEACONS[0], count: int = 0) -> RoundPlaces:
    return round_places(POLICY, before, number, beacon, count, LEAST)


def test_without_a_draw_everybody_reports_once_and_weighs_as_the_state_says() -> None:
    found = places(state(15, 7, 0, 1, 0, 15, 0, 2, locked=(2,), waiting=(4,)))
    assert found.hits.tolist() == [1, 1, 0, 1, 1, 1, 1, 1]
    assert found.weights.tolist() == [15, 7, 0, 1, 0, 15, 0, 2]
    assert found.appeals.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_where_nobody_is_told_apart_a_round_waits_for_those_who_are_locked_out_too() -> None:
    assert places(state(locked=(2,))).hits.tolist() == [1] * 8


def test_of_a_draw_only_those_drawn_weigh() -> None:
    before, counted = state(15, 14, 13, 12, 11, 10, 9, 8), Counter[int]()
    for beacon in BEACONS:
        found = places(before, beacon=beacon, count=4)
        drawn = draw(POLICY, before.standing, np.ones(8, np.int64), 4, beacon)
        assert np.flatnonzero(found.hits).tolist() == drawn.places.tolist()
        assert found.hits[found.hits > 0].tolist() == drawn.hits.tolist()
        assert found.weights.tolist() == np.where(found.hits > 0, before.weights, 0).tolist()
        counted.update(drawn.places.tolist())
    assert min(counted[place] for place in range(8)) > 5, "each in half of the rounds, in the mean"


def test_who_is_locked_out_is_not_drawn_and_may_appeal() -> None:
    before = state(15, 15, 15, 15, 15, 15, 15, 0, locked=(7,))
    for beacon in BEACONS:
        found = places(before, beacon=beacon, count=5)
        assert (found.hits[7], found.weights[7], found.appeals[7]) == (0, 0, 1)


def test_who_is_on_probation_has_a_place_in_every_round_of_two_or_more() -> None:
    before = state(15, 15, 15, 15, 15, 15, 0, 0, waiting=(6, 7))
    hits = [places(before, beacon=beacon, count=4).hits for beacon in BEACONS]
    assert {int(found[6:].sum()) for found in hits} == {1}
    assert {int(found[:6].sum()) for found in hits} == {3}
    assert len({tuple(found[6:].tolist()) for found in hits}) == 2
    lone = round_places(POLICY, before, 6, BEACONS[0], 1, 1)
    assert lone.hits[6:].tolist() == [0, 0]


def test_where_too_few_of_those_drawn_weigh_all_report() -> None:
    """Two of eight have no place in a sum: some draws of four leave two with weight alone."""
    before = state(15, 15, 15, 0, 0, 0, 0, 0)
    found = [places(before, beacon=beacon, count=4) for beacon in BEACONS]
    few = [int((each.weights > 0).sum()) for each in found]
    assert set(few) == {3}
    assert any(each.hits.tolist() == [1] * 8 for each in found)
    assert any(int((each.hits > 0).sum()) < 8 for each in found)


@pytest.mark.parametrize("count", [0, 4])
def test_after_four_rounds_without_a_sum_the_weightless_report_and_weigh_least_and_locks_hold(count: int) -> None:
    before = state(15, 0, 7, 0, 0, 15, 15, 15, locked=(1, 3), waiting=(4,))
    for number in range(6, 10):
        found = places(before, number, count=count)
        assert found.weights.tolist() == np.where(found.hits > 0, before.weights, 0).tolist()
        assert found.hits[1] == 0
    for number in range(10, 15):
        found = places(before, number, count=count)
        assert found.hits.tolist() == [1, 0, 1, 0, 1, 1, 1, 1]
        assert found.weights.tolist() == [15, 0, 7, 0, 1, 15, 15, 15]
        assert found.appeals.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


def test_a_lock_is_over_when_its_rounds_are_though_none_of_them_had_a_sum() -> None:
    """Who is gone for ever must not stop the others: it is the bound after which anybody left can go on."""
    before = state(15, 0, 7, 0, 1, 15, 15, 15, locked=(1, 3))
    left = 9 - before.standing.round
    assert left > 4
    for without in range(left):
        assert places(before, 6 + without).weights[1] == 0
    found = places(before, 6 + left)
    assert (found.hits.tolist(), found.weights.tolist()) == ([1] * 8, [15, 1, 7, 1, 1, 15, 15, 15])


def test_whatever_the_state_enough_have_weight_after_rounds_without_a_sum() -> None:
    """Where the state tells trainers apart enough of them have weight, and they keep it."""
    alike = state(locked=(2, 5))  # nobody is told apart: who is locked out weighs as the others
    assert places(alike, 10).weights.tolist() == places(alike, 9).weights.tolist() == [15] * 8
    few = state(15, 15, 15, 0, 0, 0, 0, 0, locked=(3, 4, 5, 6, 7))
    assert int((places(few, 10).weights > 0).sum()) == LEAST


def test_the_beacon_alone_says_who_is_drawn() -> None:
    before = state()
    again = places(before, beacon=BEACONS[1], count=4).hits.tolist()
    assert places(before, beacon=BEACONS[1], count=4).hits.tolist() == again
    assert len({tuple(places(before, beacon=beacon, count=4).hits.tolist()) for beacon in BEACONS}) > 10
