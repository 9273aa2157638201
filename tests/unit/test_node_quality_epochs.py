"""Records of rounds through epochs, journals and crashes: whole members, each with its disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from _epoch_world import LINK_MS, World
from _quality_stage import Marks, record

from collegium.consensus import RoundRecord, is_round_record, records_by_round

LAST_ROUND = 5


def bring(world: World, number: int, author: str) -> None:
    for member in range(4):
        brought = RoundRecord(number, record(author, number))
        world.network.post(member, brought, world.network.now_ms + LINK_MS, world.network.measured_ms)


def ordered(world: World, member: int) -> list[tuple[bytes, ...]]:
    """Return the records that count for each round, from a member's disks."""
    epochs = sorted(epoch for who, epoch in world.disks if who == member)
    blocks = [block for epoch in epochs for block in world.disks[member, epoch].archive.blocks]
    return records_by_round(block.payload for block in blocks)


@pytest.mark.slow
def test_records_count_through_a_handover_and_a_crash_of_all_between_record_and_close(tmp_path: Path) -> None:
    world = World(4, epoch_rounds=5, folder=tmp_path, quality=Marks())
    for number in range(LAST_ROUND + 1):
        bring(world, number, "A")
        if number == 4:
            bring(world, 5, "B")  # early, and for the first round of another epoch
        if number == 2:
            _lose_all_when_the_record_is_final(world)
        world.play(number)
    assert {node.epoch for node in world.nodes.values()} == {1}
    assert world.walk(0) == [4, 4]
    expected = [{record("A", number)} for number in range(LAST_ROUND + 1)]
    expected[5].add(record("B", 5))
    for member in range(4):
        assert [set(records) for records in ordered(world, member)] == expected
    assert len({node.node.state.round.model for node in world.nodes.values()}) == 1
    assert len({tuple(sorted(world.headers(member).items())) for member in world.nodes}) == 1


def _lose_all_when_the_record_is_final(world: World) -> None:
    """Run until every member has the record of round 2 in its order, and take all but the disks from all of them."""
    expected = (record("A", 2),)
    world.network.run(
        lambda _: all(node.node.state.records.final == expected for node in world.nodes.values()),
        world.network.now_ms + 60_000,
    )
    for member in range(4):
        world.kill(member)
    for member in range(4):
        world.bring_back(member)
    assert {node.node.state.records.final for node in world.nodes.values()} == {expected}
    last = world.disks[0, 0].archive.blocks
    assert any(is_round_record(block.payload) for block in last)
