"""Worlds that failed once, by name: each is one history, and what it showed must not come back."""

from dataclasses import replace

import pytest

from collegium.consensus import RoundTiming
from collegium.node._world_plan import Disk, Weather, WorldPlan, plan_world
from collegium.node._world_run import play_plan

IN_PARTS = Weather(calm_ms=5_000, hush_ms=8_000, lose=0.005, slow=0, repeat=0.05, crash=0.003, split_ms=700, drift=0.01)
TIMING = RoundTiming(grace_ms=20, deadline_ms=1_500, release_ms=600, turn_ms=500, verify_ms=400)


def plan(seed: int, size: int, **changes: object) -> WorldPlan:
    """Return a plan whose people, weather and timing depend on no later change of how plans are drawn."""
    base = plan_world(seed, (size, size))
    fixed = {
        "validators": ("honest",) * size,
        "trainers": ("honest",) * 3,
        "proved": False,
        "absent": 0.0,
        "disks": (Disk(0, 2),) * size,
        "weather": IN_PARTS,
        "timing": TIMING,
        "lying_max": 0,
    }
    return replace(base, **(fixed | changes))


@pytest.mark.parametrize("seed", [3, 5, 40])
def test_a_trainer_that_signs_two_reports_does_not_stop_the_round(seed: int) -> None:
    """Who held both wanted to skip, who held one wanted to close: two camps below a quorum, for ever."""
    people = ("liar", "honest", "honest", "honest", "honest", "twins", "honest")
    book = play_plan(plan(seed, 7, validators=people, trainers=("two reports", "honest", "honest"), lying_max=1))
    assert not book.failure
    assert book.rounds >= 2


def test_a_proposal_that_comes_early_is_looked_at_in_its_turn() -> None:
    """Who heard of the final close late put the others' proposals aside, and no alarm of its own was left."""
    weather = Weather(
        calm_ms=3_000, hush_ms=6_000, lose=0.02, slow=0.08, repeat=0.05, crash=0.003, split_ms=700, drift=0.05
    )
    people = ("liar", "honest", "honest", "honest")
    trainers = ("some only", "honest", "honest", "honest")
    timing = replace(TIMING, deadline_ms=3_000)
    book = play_plan(plan(200, 4, validators=people, trainers=trainers, weather=weather, timing=timing, proved=True))
    assert not book.failure


def changing(seed: int, size: int, **changes: object) -> WorldPlan:
    """Return a plan in which an epoch hands over once."""
    weather = Weather(calm_ms=12_000, hush_ms=15_000, lose=0, slow=0.08, repeat=0, crash=0, split_ms=0, drift=0.05)
    trainers = ("two reports", "honest", "honest")
    people = {"trainers": trainers, "weather": weather, "epochs": 2, "rounds": 1, "proved": True}
    return plan(seed, size, **(people | changes))


def test_no_other_sealing_key_is_announced_after_a_crash_in_an_epochs_last_round() -> None:
    """Who came back once the handover was final announced its first key of the next epoch as this round's."""
    weather = replace(changing(14, 4).weather, crash=0.01)
    book = play_plan(changing(14, 4, validators=("twins", *["honest"] * 3), weather=weather, members_min=3))
    assert not book.failure
    assert book.handovers == 1


def test_an_epoch_does_not_end_a_round_early_for_who_waits_for_a_model() -> None:
    """Who lacked a model took the round before the last one for the last, once the handover was final."""
    weather = replace(changing(101, 5).weather, lose=0.005, repeat=0.05, crash=0.003, skew_ms=300)
    away = ((0, 0), (0, 0), (0, 0), (8_701, 13_701), (0, 0))
    book = play_plan(changing(101, 5, seats=7, weather=weather, away=away, members_min=4, staleness=2))
    assert not book.failure
    assert book.handovers == 1
