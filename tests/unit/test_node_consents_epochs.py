"""Consent taken back in one epoch holds in the next, for members that lost all but their journals in between."""

from __future__ import annotations

from dataclasses import replace

import _epoch_world as stage
import pytest
from _round_stage import committee

from collegium.consensus import Close, ValidatorContext, Withdrawals, decode_payload, encode_withdrawal
from collegium.errors import CollegiumError
from collegium.node._epoch_node import BroughtWithdrawal

TRAINERS = 3
LEAVES = committee().trainers[0].address


class Named:
    """A task whose records are the accounts of those that leave."""

    def withdrawn(self, record: bytes, /) -> frozenset[bytes]:
        if len(record) != len(LEAVES):
            raise CollegiumError("no account")
        return frozenset({record})


class World(stage.World):
    """Members that ask for consent."""

    def context(self, member: int) -> ValidatorContext:
        return replace(super().context(member), consents=Named())

    def bring(self, member: int, payload: bytes) -> int:
        """Bring a record to a member, and return how much it says about it."""
        said = list(self.nodes[member].handle(BroughtWithdrawal(payload), self.network.now_ms))
        self.network.send(member, said)
        return len(said)

    def reports(self, member: int) -> dict[int, int]:
        """Return how many reports each round adds, by a member's disks."""
        found: dict[int, int] = {}
        for (who, _), journal in self.disks.items():
            for block in journal.archive.blocks if who == member else ():
                if block.payload[:1] == b"C" and isinstance(close := decode_payload(block.payload), Close):
                    found[close.round] = len(close.reports)
        return found


@pytest.mark.slow
def test_a_withdrawal_goes_on_into_the_next_epoch_over_a_crash_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "TRAINERS", TRAINERS)
    world = World(4, epoch_rounds=5)
    for number in range(2):
        world.play(number)
    record = encode_withdrawal(LEAVES)
    assert world.bring(1, encode_withdrawal(b"nobody")) == 0
    assert world.bring(1, record) > 0
    assert world.bring(1, record) == 0  # it waits already
    world.play(2)
    for member in range(4):
        world.kill(member)
    for member in range(4):
        world.bring_back(member)
    for number in range(3, 6):
        world.play(number)
    assert {node.epoch for node in world.nodes.values()} == {1}
    assert {node.node.state.withdrawals for node in world.nodes.values()} == {Withdrawals(frozenset({LEAVES}))}
    assert world.bring(2, record) == 0  # nobody leaves twice
    for member in range(4):
        assert world.reports(member) == {number: 3 if number <= 2 else 2 for number in range(6)}
        assert world.walk(member) == [4, 4]
