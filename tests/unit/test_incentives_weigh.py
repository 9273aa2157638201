"""What scores lead to: weights, points, probation, locks, and what is refused of a round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _incentives_stage import address, equal_stakes, founders, play, scored

from collegium.incentives import (
    ONE,
    TRAINERS_MAX,
    WATCHFUL,
    Policy,
    PolicyError,
    RoundInputError,
    ScoredRound,
    Standing,
    StandingBytesError,
    StandingError,
    decode_standing,
    draw,
    encode_standing,
    join,
    new_standing,
    policy_digest,
    reference_utility,
    standing_digest,
    utility,
    weigh,
)

POLICY = WATCHFUL


def mixed(count: int, bad: int, harm: float = -0.6, seed: int = 0) -> np.ndarray:
    """Utilities of `count` trainers: the first `bad` harmful, the others about 1."""
    return np.where(np.arange(count) < bad, harm, np.random.default_rng(seed).normal(1.0, 0.2, count))


# What comes of good and bad trainers


def test_harmful_trainers_lose_weight_at_once_and_their_places_soon() -> None:
    standing, history = play(POLICY, founders(40), mixed(40, 12), 30, 1, places=32)
    assert all(weighed.weights.max() <= POLICY.weight_max for weighed in history)
    locked = {lock.place for weighed in history for lock in weighed.locks}
    assert len(locked & set(range(12))) >= 10
    assert not locked & set(range(12, 40))
    assert standing.points[:12].sum() < standing.points[12:].sum() // 100


def test_trainers_without_use_are_paid_next_to_nothing() -> None:
    standing, _ = play(POLICY, founders(40), mixed(40, 8, harm=0.0), 40, 2, places=32)
    assert standing.points[:8].mean() < 0.1 * standing.points[8:].mean()


def test_a_trainer_that_turns_after_twenty_rounds_is_found() -> None:
    good = mixed(40, 0)
    utilities = np.repeat(good[None], 40, axis=0)
    utilities[20:, :8] = -0.8
    _, history = play(POLICY, founders(40), utilities, 40, 3, places=40)
    reasons = {lock.place: lock.reason for weighed in history[20:28] for lock in weighed.locks}
    assert set(reasons) == set(range(8))
    assert "fell" in reasons.values()
    assert not any(weighed.locks for weighed in history[:20])


def test_trusted_trainers_that_turn_together_lose_their_weight_within_three_rounds() -> None:
    standing, _ = play(POLICY, founders(40), mixed(40, 0), 20, 13, places=40)
    generator, stakes, everybody = np.random.default_rng(13), equal_stakes(standing), list(range(40))
    for _ in range(3):
        scores = [*generator.normal(-0.4, 0.1, 12), *generator.normal(0.4, 0.1, 28)]
        weighed = weigh(POLICY, standing, scored(everybody, scores, stakes))
        standing = weighed.standing
    assert int((weighed.weights[:12] > 0).sum()) <= 1
    assert weighed.weights[12:].min() > 0


def test_a_quiet_round_locks_nobody_out_and_teaches_nothing() -> None:
    """The same scores a hair stronger do: the round's signal is half of the first round's, or just above."""
    standing, _ = play(WATCHFUL, founders(20), np.ones(20), 3, 1, places=20)
    stakes, everybody = equal_stakes(standing), list(range(20))
    policy = replace(WATCHFUL, signal_share=ONE // 2, useless_deviations=ONE // 2)
    bad = replace(standing, signal_first=ONE // 4, information=np.where(np.arange(20) < 2, -1 << 24, 1 << 24))
    known = bad.information
    for strength, count in ((0.1, 0), (0.2, 2)):
        scores = [-strength] * 2 + [strength] * 18
        weighed = weigh(policy, replace(bad, precision=np.full(20, 1 << 24)), scored(everybody, scores, stakes))
        assert len(weighed.locks) == count
        assert weighed.weights[:2].tolist() == [0, 0]
        assert weighed.weights[2:].min() > 0
        assert (np.abs(weighed.standing.information) > np.abs(known)).any() == bool(count)


def test_by_default_only_as_much_harm_as_a_median_trainer_does_good_is_a_reason_to_lock() -> None:
    standing, history = play(Policy(), founders(40), mixed(40, 12, harm=-0.6), 30, 1, places=40)
    assert not any(weighed.locks for weighed in history)
    assert standing.points[:12].sum() < standing.points[12:].sum() // 50
    _, history = play(
        replace(Policy(), noise_floor=ONE // 20), founders(40), mixed(40, 12, harm=-2.0), 30, 1, places=40
    )
    assert {0, 1, 2} <= {lock.place for weighed in history for lock in weighed.locks} <= set(range(12))


def test_one_that_only_becomes_average_is_not_locked_out() -> None:
    utilities = np.ones((40, 20))
    utilities[:20, 0], utilities[20:, 0] = 2.0, 0.7
    _, history = play(POLICY, founders(20), utilities, 40, 4, places=20)
    assert not any(weighed.locks for weighed in history)


def test_a_lock_ends_and_each_further_one_is_twice_as_long() -> None:
    standing, history = play(POLICY, founders(20), mixed(20, 1, harm=-1.0), 80, 5, places=40)
    locks = [(index + 1, lock) for index, weighed in enumerate(history) for lock in weighed.locks if lock.place == 0]
    assert [lock.until - at for at, lock in locks[:3]] == [8, 16, 32]
    assert locks[1][0] > locks[0][1].until
    assert standing.vetted[0] == 0


def test_a_trainer_that_mends_its_ways_is_vetted_again_and_weighs() -> None:
    utilities = np.ones((80, 20))
    utilities[:10, 0] = -1.0
    standing, history = play(POLICY, founders(20), utilities, 80, 6, places=40)
    assert any(lock.place == 0 for weighed in history for lock in weighed.locks)
    assert standing.vetted[0] == 1
    assert standing.points[0] > 0


def test_newcomers_weigh_nothing_until_they_are_vetted() -> None:
    standing, _ = play(POLICY, founders(20), np.ones(20), 5, 7, places=20)
    grown = join(standing, [address(100)])
    stakes = equal_stakes(grown)
    for _ in range(2):
        weighed = weigh(POLICY, grown, scored([0, 1, 2, 20], [0.4, 0.4, 0.4, 0.4], stakes))
        assert weighed.weights.tolist()[3] == 0 == weighed.points.tolist()[3]
        grown = weighed.standing
    weighed = weigh(POLICY, grown, scored([0, 1, 2, 20], [0.4, 0.4, 0.4, 0.4], stakes))
    assert weighed.weights.tolist()[3] == POLICY.weight_max
    assert weighed.points.tolist()[3] > 0


def test_a_thousand_names_with_a_fifth_of_the_stake_move_no_median() -> None:
    standing, _ = play(POLICY, founders(20), mixed(20, 0), 10, 8, places=20)
    grown = join(standing, [address(1000 + i) for i in range(1000)], vetted=True)
    stakes = np.array([1000] * 20 + [5] * 1000, np.int64)
    known, _ = utility(POLICY, grown)
    assert known[:20].min() <= reference_utility(POLICY, grown, stakes) <= known[:20].max()
    by_name = np.ones(1020, np.int64)
    assert reference_utility(POLICY, grown, by_name) == POLICY.prior_utility  # what nothing is known of has


def test_points_count_hits_and_stop_at_the_cap() -> None:
    standing = founders(6)
    stakes = equal_stakes(standing)
    for _ in range(6):
        weighed = weigh(
            POLICY, standing, scored([0, 1, 2, 3, 4, 5], [0.2, 0.2, 0.2, 0.2, 0.2, 0.9], stakes, [1, 1, 1, 1, 3, 1])
        )
        standing = weighed.standing
    assert weighed.points[4] == 3 * weighed.points[0]
    assert abs(2 * int(weighed.points[0]) - int(weighed.points[5])) <= 2


def test_a_round_without_reports_only_counts() -> None:
    standing, _ = play(POLICY, founders(5), np.ones(5), 3, 9, places=5)
    weighed = weigh(POLICY, standing, scored([], [], equal_stakes(standing)))
    assert weighed.weights.size == weighed.points.size == len(weighed.locks) == 0
    assert encode_standing(replace(weighed.standing, round=standing.round)) == encode_standing(standing)


def test_a_standing_is_not_changed_in_place() -> None:
    standing, _ = play(POLICY, founders(5), mixed(5, 1), 6, 10, places=10)
    before = encode_standing(standing)
    weigh(POLICY, standing, scored([1, 2], [-1.0, 1.0], equal_stakes(standing)))
    assert encode_standing(standing) == before


# What is refused


def round_with(**changes: Any) -> ScoredRound:
    good = scored([0, 2], [0.1, 0.2], equal_stakes(founders(3)))
    return replace(good, **changes)


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "changes",
    [
        {"reporters": array(2, 0)},
        {"reporters": array(0, 0)},
        {"reporters": array(-1, 2)},
        {"reporters": array(0, 3)},
        {"reporters": array(0)},
        {"scores": array(0, ONE + 1)},
        {"scores": array(-ONE - 1, 0)},
        {"scores": np.zeros(2)},
        {"hits": array(0, 1)},
        {"hits": array(1, (1 << 40) + 1)},
        {"stakes": array(1, 1)},
        {"stakes": array(1, -1, 1)},
        {"stakes": array(1 << 60, 1 << 60, 1)},
    ],
    ids=str,
)
def test_a_round_that_does_not_fit_is_refused(changes: dict[str, np.ndarray]) -> None:
    assert weigh(POLICY, founders(3), round_with()).weights.size == 2
    with pytest.raises(RoundInputError):
        weigh(POLICY, founders(3), round_with(**changes))


def test_hits_go_with_locks() -> None:
    standing = founders(3)
    standing.locked_until[2] = 1
    assert weigh(POLICY, replace(standing, round=1), round_with()).weights.size == 2
    assert weigh(POLICY, standing, round_with(hits=array(1, 0))).weights[1] == 0
    for state, given in ((standing, round_with()), (replace(standing, round=1), round_with(hits=array(1, 0)))):
        with pytest.raises(RoundInputError, match="expected none where it is locked out and else one") as refused:
            weigh(POLICY, state, given)
        assert refused.value.values == {"place": 2}


@pytest.mark.parametrize("change", [{"memory": ONE}, {"weight_max": 16}, {"useless": 0.0}, {"clock_floor": 0}], ids=str)
def test_a_number_of_a_policy_out_of_its_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as refused:
        Policy(**change)
    assert refused.value.values == {"name": next(iter(change)), "value": next(iter(change.values()))}


def test_every_number_of_a_policy_is_in_its_digest() -> None:
    digests = {policy_digest(replace(POLICY, **{name: getattr(POLICY, name) + 1})) for name in ("useless", "vetted")}
    assert len(digests | {policy_digest(POLICY)}) == 3


# Joining and bytes


def test_nobody_joins_twice() -> None:
    with pytest.raises(StandingError):
        join(founders(2), [address(1)])
    with pytest.raises(StandingError):
        new_standing([address(1), address(1)])
    with pytest.raises(StandingError):
        new_standing([bytes(19)])


@pytest.fixture(scope="module")
def played() -> Standing:
    return play(POLICY, founders(4), mixed(4, 1), 12, 11, places=6)[0]


def test_a_standing_is_its_bytes(played: Standing) -> None:
    data = encode_standing(played)
    assert encode_standing(decode_standing(data)) == data
    assert standing_digest(POLICY, decode_standing(data)) == standing_digest(POLICY, played)


def test_a_digest_binds_policy_and_state(played: Standing) -> None:
    other = replace(played, points=played.points + 1)
    digests = {
        standing_digest(POLICY, played),
        standing_digest(POLICY, other),
        standing_digest(replace(POLICY, weight_max=14), played),
    }
    assert len(digests) == 3


def test_bytes_of_no_standing_are_refused(played: Standing) -> None:
    data = encode_standing(played)
    head = len(data) - 4 * (20 + 8 * 11)
    count = head - 8
    twice = data[:head] + 2 * data[head : head + 20] + data[head + 40 :]
    negative = data[:-8] + (-1).to_bytes(8, "little", signed=True)
    many = data[:count] + (TRAINERS_MAX + 1).to_bytes(8, "little") + data[head:]
    strong = data[: head - 24] + (ONE + 1).to_bytes(8, "little") + data[head - 16 :]
    for broken in (b"", data[:-1], data + b"\0", b"x" + data[1:], twice, negative, many, strong):
        with pytest.raises(StandingBytesError):
            decode_standing(broken)


# Draws


def test_who_is_locked_or_has_no_stake_is_not_drawn() -> None:
    standing = founders(4)
    standing.locked_until[1] = 5
    found = draw(POLICY, standing, array(10, 10, 0, 10), 100, b"b")
    assert found.places.tolist() == [0, 3]
    assert found.hits.sum() == 100


def test_reputation_divides_the_chance_to_be_drawn_by_ten_at_most() -> None:
    standing, _ = play(replace(POLICY, useless_deviations=8 * ONE), founders(40), mixed(40, 1, harm=-0.3), 12, 12)
    found = draw(POLICY, standing, equal_stakes(standing), 4000, b"b")
    hits = dict(zip(found.places.tolist(), found.hits.tolist(), strict=True))
    assert 5 * hits[0] < hits[20]
    assert hits[0] > 0


def test_as_many_places_as_a_draw_has() -> None:
    standing = founders(2)
    assert draw(POLICY, standing, array(1, 1), 1 << 16, b"").hits.sum() == 1 << 16
    for places in (0, (1 << 16) + 1):
        with pytest.raises(RoundInputError):
            draw(POLICY, standing, array(1, 1), places, b"")
    for stakes in (array(1), array(1, -1), array(1 << 61, 1)):
        with pytest.raises(RoundInputError):
            draw(POLICY, standing, stakes, 1, b"")


def test_clones_are_hit_no_more_often_than_the_one_that_split() -> None:
    """A quarter of the stake under one name, or under fifty: as many of ten thousand places in a hundred draws."""
    one, many = founders(4), founders(53)
    whole, split = array(100, 100, 100, 100), array(100, 100, 100, *[2] * 50)
    for number in range(20):
        beacon = bytes([number])
        single = draw(POLICY, one, whole, 100, beacon)
        cloned = draw(POLICY, many, split, 100, beacon)
        assert single.hits.tolist() == [25] * 4
        assert abs(int(cloned.hits[cloned.places >= 3].sum()) - 25) <= 25
        assert cloned.hits[cloned.places < 3].tolist() == [25] * 3
