"""A relayer on a chain that takes back its last blocks: what was lost comes back, in order, and its record is taken.

A reorganisation is a state of the chain that is restored: what was mined since is in no block and in no queue. On
anvil; with `COLLEGIUM_FULL=1` on the embedded chain too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _chain_stage import ALICE, DEPLOYER, MALLORY, World, worlds
from _relay_stage import ONE, OPERATOR, THREE, TWO, VOTING, Killed, Relayer, ended, found, own_chain, post_as

from collegium.node import _relayer_process
from collegium.node._chain_record import ChainRecord
from collegium.node._due_step import PENDING, RelayPolicy
from collegium.settlement import transact

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"


@pytest.fixture(
    scope="module", params=[pytest.param("osaka", marks=[pytest.mark.node]), *(["embedded"] if FULL else [])]
)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[World, ChainRecord]]:
    for world in worlds(request.param):
        yield world, found(world)


@pytest.fixture
def hire(
    place: tuple[World, ChainRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Relayer]]:
    monkeypatch.setattr(_relayer_process, "PAUSE_S_FIRST", 0.001)
    monkeypatch.setattr(_relayer_process, "DEPTH_S", 0.001)

    def relayer() -> Relayer:
        state = tmp_path / "relayer"
        state.mkdir()
        return Relayer(state, *place)

    with place[0].undone():
        yield relayer


@pytest.mark.parametrize("restarted", [False, True] if FULL else [True])
def test_what_was_taken_back_is_sent_again_with_the_same_transactions(
    hire: Callable[..., Relayer], restarted: bool
) -> None:
    relayer = hire()
    line = relayer.start()
    relayer.settle(ONE)
    saved = relayer.world.save()
    relayer.settle(TWO)
    relayer.hand_over()
    _, second, handover = line.raws
    relayer.world.restore(saved)
    if restarted:
        line = relayer.start()
    relayer.settle(THREE)
    assert line.raws[-3:-1] == [second, handover]
    record = relayer.ended_well()
    assert [sent.raw for sent in record.sent][-3:] == line.raws[-3:]
    assert all(record.gas)


def test_on_the_other_branch_a_transaction_may_be_spent_and_is_made_anew(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    saved = relayer.world.save()
    relayer.settle(ONE)
    relayer.settle(TWO)
    relayer.world.restore(saved)
    transact(own_chain(relayer.world), OPERATOR, ALICE.address, b"", value=1)
    relayer.hand_over()
    record = relayer.ended_well()
    assert all(record.gas)
    own = {sent.raw for sent in record.sent}
    assert line.raws[0] not in own  # its number is another's
    assert len(own & set(line.raws)) == 3


def test_on_the_other_branch_a_stranger_may_come_first(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    relayer.start()
    saved = relayer.world.save()
    relayer.settle(ONE)
    relayer.settle(TWO)
    relayer.world.restore(saved)
    post_as(relayer.world, relayer.founded, MALLORY, ONE)
    relayer.hand_over()
    record = relayer.ended_well()
    assert [bool(gas) for gas in record.gas] == [False, True]
    assert len(record.sent) == len(relayer.founded.sent) + 2


def test_killed_while_it_brings_back_it_still_has_every_certificate(hire: Callable[..., Relayer]) -> None:
    """The set that certified them may be gone: they are on disk until the chain has all again."""
    relayer = hire()
    line = relayer.start()
    saved = relayer.world.save()
    for due in (ONE, TWO):
        relayer.settle(due)
    relayer.hand_over()
    relayer.world.restore(saved)
    line.before = lambda: ended() if len(line.raws) == 4 else None
    with pytest.raises(Killed):
        relayer.settle(THREE)
    relayer.start()
    relayer.process.client = None  # type: ignore[assignment] # nobody signs what is lost again
    relayer.process.sender.bring_back()
    assert len(relayer.process.chain.taken) == 3
    assert not (relayer.state / PENDING).exists()
    assert all(relayer.ended_well().gas)


def test_with_confirmations_a_step_that_was_taken_back_before_is_noticed_at_once(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    relayer.process.sender.policy = RelayPolicy(confirmations=3)
    chain = relayer.process.chain
    saved = relayer.world.save()
    step = chain.certified(ONE, {seat: line_sign(seat) for seat in range(3)})
    relayer.process.sender.carry_through(step)
    for _ in range(3):
        assert not relayer.process.sender.is_deep()
        pass_block(relayer.world)
    assert relayer.process.sender.is_deep()
    relayer.world.restore(saved)
    assert not relayer.process.sender.is_deep()
    assert chain.has(ONE)  # brought back by the question
    assert len(line.raws) == 2
    for _ in range(3):
        pass_block(relayer.world)
    assert relayer.process.sender.is_deep()
    assert relayer.ended_well().checkpoints == (ONE,)


def test_of_a_strangers_step_the_blocks_count_from_when_it_was_seen(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    relayer.start()
    relayer.process.sender.policy = RelayPolicy(confirmations=1)
    post_as(relayer.world, relayer.founded, MALLORY, ONE)
    step = relayer.process.chain.certified(ONE, {seat: line_sign(seat) for seat in range(3)})
    relayer.process.sender.carry_through(step)
    assert not relayer.process.sender.is_deep()
    pass_block(relayer.world)
    assert relayer.process.sender.is_deep()


def line_sign(seat: int) -> bytes:
    return VOTING[seat].sign(ONE.digest)


def pass_block(world: World) -> None:
    transact(own_chain(world), DEPLOYER, ALICE.address, b"", value=1)
