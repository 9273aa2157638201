"""Seeded committees in bad weather: one order everywhere, at every step; everything ordered, and rest, once it calms.

COLLEGIUM_FULL=1 plays hundreds of seeds of every kind instead of a few.
"""

import os
from dataclasses import replace

import pytest
from _ordering_world import SafetyError, Weather, World

from collegium.consensus import BlockEquivocation, VoteEquivocation, verify_chain
from collegium.node._world_order import HashVerifier

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
SEEDS = 400 if FULL else 8

WORLDS = {
    "honest": {"dishonest": 0},
    "one liar or twin of four": {},
    "two of seven": {"size": 7, "dishonest": 2},
    "twins' partitions by view": {"weather": Weather(split_by_view=True)},
    "no crashes, much loss": {"weather": Weather(crash_at_effect=0, drop=0.25)},
    "crash after crash": {"dishonest": 0, "weather": Weather(crash_at_effect=0.08)},
    "all in slow motion": {"weather": Weather(slow=0.5)},
    "two validators": {"size": 2, "dishonest": 0},
    "a validator alone": {"size": 1, "dishonest": 0},
}


@pytest.mark.parametrize("kind", WORLDS)
def test_one_order_everywhere_and_progress_after_the_storm(kind):
    seeds = SEEDS if WORLDS[kind].get("size", 4) < 7 else max(2, SEEDS // 4)
    for seed in range(seeds):
        world = World(seed, **WORLDS[kind]).run()
        assert not world.missing_payloads(), f"{kind}, seed {seed}: {world.heights()}"
        assert world.at_rest(), f"{kind}, seed {seed}: still busy"
        assert len(set(world.heights())) == 1, f"{kind}, seed {seed}"


def test_one_seed_is_one_run():
    first, again, other = World(7).run(), World(7).run(), World(8).run()
    assert first.trace.digest() == again.trace.digest()
    assert first.trace.digest() != other.trace.digest()


@pytest.mark.parametrize("size", [4, 16])
def test_a_calm_view_costs_four_messages_a_validator(size):
    world = World(1, size=size, dishonest=0, weather=Weather(calm_ms=0, hush_ms=2_500)).run()
    views = world.honest[0].state.view
    assert views <= len(world.order) + 2, "no view was given up"
    assert world.sent <= 4 * size * views


def test_an_auditor_confirms_what_a_world_agreed_on():
    world = World(3).run()
    host = world.honest[0]
    payloads = verify_chain(
        world.epoch_set, host.context.genesis, host.disk.chain, host.tip_certificates, HashVerifier()
    )
    assert payloads == tuple(host.context.application.committed)


def test_liars_are_convicted_in_bad_weather():
    kinds = {type(evidence) for seed in range(6) for evidence in World(seed).run().evidence}
    assert kinds == {BlockEquivocation, VoteEquivocation}


@pytest.mark.parametrize("seed", [581, 631])
def test_a_disk_that_forgets_makes_an_honest_validator_convict_itself(seed):
    """Found among random schedules; the mutant "vote lost in a crash" shows what it can lead to."""

    def forget(kept):
        return kept and replace(kept, voted_view=0, timeout_view=0, proposed_view=0, timeout=None)

    weather = Weather(crash_at_effect=0.1, split_by_view=True)
    with pytest.raises(SafetyError, match="honest validator"):
        World(seed, weather=weather, forget=forget).run(until_ms=20_000)
    World(seed, weather=weather).run(until_ms=20_000)
