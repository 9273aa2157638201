"""A relayer that is killed or overtaken at each of its sends: it goes on, and its record is one that an auditor takes.

The embedded chain stands in for a node always; anvil where the Node packages are installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _chain_stage import ALICE, MALLORY, World, worlds
from _relay_stage import (
    ONE,
    OPERATOR,
    OTHER,
    THREE,
    TWO,
    VOTING,
    Killed,
    Relayer,
    ended,
    found,
    once,
    own_chain,
    post_as,
)

from collegium.node import _relayer_process
from collegium.node._chain_record import ChainRecord, ChainRecordError
from collegium.node._due_step import PENDING
from collegium.settlement import ContractRefusedError, TransactionFailedError, TransactionRefusedError, transact

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
TOO_LITTLE_GAS = 100_000  # it enters a block and reverts there


@pytest.fixture(scope="module", params=["embedded", pytest.param("osaka", marks=[pytest.mark.node])])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[World, ChainRecord]]:
    for world in worlds(request.param):
        yield world, found(world)


@pytest.fixture
def hire(
    place: tuple[World, ChainRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Relayer]]:
    """Make relayers of one task, each with a folder of its own."""
    monkeypatch.setattr(_relayer_process, "PAUSE_S_FIRST", 0.001)

    def relayer(name: str = "relayer", absent: int | None = None) -> Relayer:
        state = tmp_path / name
        state.mkdir()
        return Relayer(state, *place, absent)

    with place[0].undone():
        yield relayer


def spend_nonce(world: World) -> None:
    transact(own_chain(world), OPERATOR, ALICE.address, b"", value=1)


def go_on(relayer: Relayer) -> ChainRecord:
    """Settle what is due of the first epoch, as far as it is not settled."""
    relayer.settle(ONE)
    relayer.settle(TWO)
    return relayer.ended_well()


def finish(relayer: Relayer) -> ChainRecord:
    """Go on to the end, over the handover."""
    relayer.settle(ONE)
    relayer.settle(TWO)
    relayer.hand_over()
    relayer.settle(THREE)
    return relayer.ended_well()


def test_it_goes_from_first_to_last(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    record = finish(relayer)
    assert len(line.raws) == 4
    assert all(record.gas)
    assert len(record.sent) == len(relayer.founded.sent) + 4


@pytest.mark.parametrize("step", range(4) if FULL else (0, 2))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_a_send_it_goes_on(hire: Callable[..., Relayer], step: int, moment: str) -> None:
    """Between the note and the send, or between the block and the record: every transaction is mined once."""
    relayer = hire()
    line = relayer.start()
    setattr(line, moment, lambda: ended() if len(line.raws) == step + (moment == "after") else None)
    with pytest.raises(Killed):
        finish(relayer)
    assert (relayer.state / PENDING).exists()
    line = relayer.start()
    record = finish(relayer)
    assert len(line.raws) == 4 - step - (moment == "after")  # what was mined is not sent again
    assert all(record.gas)
    assert all(handover.gas for handover in record.handed_over)


def test_killed_again_while_it_sends_again_it_still_knows_the_certificate(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    for _ in range(2):
        line = relayer.start()
        line.before = ended
        with pytest.raises(Killed):
            relayer.settle(ONE)
    relayer.start()
    assert all(go_on(relayer).gas)


def test_killed_between_the_record_and_the_note_it_takes_the_note_for_no_later_step(
    hire: Callable[..., Relayer],
) -> None:
    relayer = hire()
    line = relayer.start()
    notes: list[bytes] = []
    line.after = lambda: notes.append((relayer.state / PENDING).read_bytes())
    relayer.settle(ONE)
    (relayer.state / PENDING).write_bytes(notes[0])
    line = relayer.start()
    go_on(relayer)
    assert len(line.raws) == 1


@pytest.mark.parametrize("note", [b"", b"\xc0", b"ab", b"\xc2\xc0\xc0", b"\xc2\x01\x02", b"\xff" * 9])
def test_a_note_that_is_none_is_named(hire: Callable[..., Relayer], note: bytes) -> None:
    relayer = hire()
    relayer.start()
    (relayer.state / PENDING).write_bytes(note)
    with pytest.raises(ChainRecordError, match="expected a certificate and the transactions"):
        relayer.settle(ONE)


def test_a_noted_transaction_that_reverted_is_not_entered_but_made_anew(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    line.gas, line.after = TOO_LITTLE_GAS, ended
    with pytest.raises(Killed):
        relayer.settle(ONE)
    line = relayer.start()
    assert not relayer.process.chain.has(ONE)
    assert all(go_on(relayer).gas)
    assert len(line.raws) == 2


def test_a_transaction_that_reverts_where_nobody_has_settled_is_named(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    line.gas = TOO_LITTLE_GAS
    with pytest.raises(TransactionFailedError, match="reverted in block"):
        relayer.settle(ONE)
    relayer.start()
    relayer.settle(ONE)
    relayer.ended_well()


def test_a_nonce_that_another_transaction_spent_while_it_was_dead_is_given_up(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    relayer.start().before = ended
    with pytest.raises(Killed):
        relayer.settle(ONE)
    spend_nonce(relayer.world)
    line = relayer.start()
    assert all(go_on(relayer).gas)
    assert len(line.raws) == 3  # the noted one is refused, and made anew


def test_a_nonce_that_is_spent_while_it_sends_is_given_up(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    line.before = once(lambda: spend_nonce(relayer.world))
    assert all(go_on(relayer).gas)
    assert len(line.raws) == 3


def test_a_transaction_that_is_refused_for_itself_is_named(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()

    def refuse() -> None:
        raise TransactionRefusedError("insufficient funds")

    line.before = refuse
    with pytest.raises(TransactionRefusedError, match="insufficient funds"):
        relayer.settle(ONE)
    assert not (relayer.state / PENDING).exists()
    relayer.start()
    relayer.settle(ONE)
    relayer.ended_well()


@pytest.mark.parametrize("absent", [1, 3])
def test_of_two_that_race_with_one_key_both_end_well(hire: Callable[..., Relayer], absent: int | None) -> None:
    """The second comes between the first's note and send: with the same certificate, or with another one."""
    first, second = hire("first", 0), hire("second", absent)
    line = first.start()
    second.start()
    line.before = once(lambda: second.process._post(ONE, _signed(second)))
    first.settle(ONE)
    second.settle(TWO)
    first.settle(TWO)
    first.hand_over()
    second.hand_over()
    first.settle(THREE)
    second.settle(THREE)
    own, others = first.ended_well(), second.ended_well()
    assert own.gas[0] == 0  # it was the other's transaction
    assert [bool(gas) for gas in others.gas] == [True, True, False]
    assert own.gas[2] > 0
    assert own.checkpoints == others.checkpoints


def _signed(relayer: Relayer) -> dict[int, bytes]:
    seats = [seat for seat in range(4) if seat != relayer.absent][:3]
    return {seat: VOTING[seat].sign(ONE.digest) for seat in seats}


def test_a_stranger_who_settles_first_makes_it_revert_and_it_goes_on(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    line = relayer.start()
    line.before = once(lambda: post_as(relayer.world, relayer.founded, MALLORY, ONE))
    record = go_on(relayer)
    assert [bool(gas) for gas in record.gas] == [False, True]
    assert len(record.sent) == len(relayer.founded.sent) + 1


@pytest.mark.parametrize("noted", [False, True])
def test_what_a_stranger_settled_while_it_was_dead_is_not_sent_again(hire: Callable[..., Relayer], noted: bool) -> None:
    relayer = hire()
    line = relayer.start()
    if noted:
        line.before = ended
        with pytest.raises(Killed):
            relayer.settle(ONE)
    post_as(relayer.world, relayer.founded, MALLORY, ONE)
    line = relayer.start()
    assert go_on(relayer).gas[0] == 0
    assert len(line.raws) == 1


def test_another_checkpoint_of_the_same_rounds_is_named(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    relayer.start()
    post_as(relayer.world, relayer.founded, MALLORY, OTHER)
    with pytest.raises(ChainRecordError, match=f"{OTHER.digest.hex()} as the checkpoint that ends with round 1"):
        relayer.settle(ONE)


def test_a_checkpoint_that_the_contract_does_not_take_is_named(hire: Callable[..., Relayer]) -> None:
    relayer = hire()
    relayer.start()
    relayer.settle(ONE)
    with pytest.raises(ContractRefusedError, match="WrongEpoch"):
        relayer.process._post(THREE, {seat: VOTING[seat].sign(THREE.digest) for seat in range(3)})
