"""Whoever trusts no validator follows a task from its genesis through two handovers, on certificates alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from _epoch_world import World

from collegium.consensus import (
    Block,
    BrokenChainError,
    ChangePlan,
    ForgedSignatureError,
    HandoverProof,
    NotAHandoverError,
    NotFinalError,
    QuorumCertificate,
    Registration,
    WrongChangeError,
    WrongEpochError,
)
from collegium.node._epochs import (
    Epochs,
    ForkedEpochError,
    OrderWalk,
    OutOfOrderError,
    UnknownEpochError,
    handover_proof,
)

ROUNDS = 12
Answer = tuple[list[Block], tuple[QuorumCertificate, ...]]

pytestmark = pytest.mark.slow


@cache
def played() -> World:
    """Four members, epochs of five rounds, two handovers."""
    world = World(4, epoch_rounds=5)
    for number in range(ROUNDS):
        world.play(number)
    return world


def answer(tip: bytes, count: int) -> Answer:
    """Return the final blocks after a tip, as any member has them, with what makes the last one final."""
    for (member, _), journal in played().disks.items():
        blocks = list(journal.archive.after(tip, count)) if member == 0 else []
        if blocks:
            return blocks, journal.archive.proofs[blocks[-1].digest]
    return [], ()


def fresh(plan: ChangePlan | None = None) -> OrderWalk:
    world = played()
    return OrderWalk(Epochs(world.epoch_set, plan or world.rules.plan))


def history(epoch: int) -> Answer:
    """Return all final blocks of an epoch."""
    archive = played().disks[0, epoch].archive
    return list(archive.blocks), archive.proofs[archive.blocks[-1].digest]


def handover_of(epoch: int) -> HandoverProof:
    blocks, tip = history(epoch)
    place = next(place for place, block in enumerate(blocks) if block.payload[:1] == b"N")
    return handover_proof(blocks, place, tip)


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_a_walk_passes_every_round_and_knows_the_set_of_each(count: int) -> None:
    walk, rounds = fresh(), []
    while len(rounds) < ROUNDS:
        found = answer(walk.tip, count)
        assert found[0], "the walk asks for blocks that a member has"
        rounds += walk.take(*found)
    assert [final.close.round for final in rounds] == list(range(ROUNDS))
    assert [final.epoch.epoch for final in rounds] == [0] * 5 + [1] * 5 + [2] * 2
    assert [known.first_round for known in walk.epochs.known] == [0, 5, 10]
    for node in played().nodes.values():
        assert node.node.context.round.epoch_set == walk.epochs.present.epoch_set
    assert [walk.epochs.of_round(number).epoch for number in (0, 4, 5, 9, 10, 999)] == [0, 0, 1, 1, 2, 2]
    assert walk.epochs.get(2) is walk.epochs.present
    with pytest.raises(UnknownEpochError, match="epoch 3, known are 0 to 2"):
        walk.epochs.get(3)


def test_terms_after_an_epochs_last_header_seat_the_next_set() -> None:
    walk = fresh()
    blocks, tip = history(0)
    last = walk.take(blocks, tip)[-1].certified.header
    agreed = played().nodes[0].node.context.round.agreed
    terms = walk.epochs.terms_after(agreed, last)
    members = {member.account for member in walk.epochs.present.epoch_set.validators}
    assert {seat.validator for seat in terms.seats} == members
    assert all(seat.seal_key for seat in terms.seats)


def test_blocks_that_do_not_follow_or_are_not_final_are_refused() -> None:
    blocks, tip = history(0)
    with pytest.raises(BrokenChainError, match="does not follow"):
        fresh().take(blocks[1:], tip)
    with pytest.raises(BrokenChainError, match="does not follow"):
        fresh().take([*blocks[:2], *blocks[3:]], tip)
    with pytest.raises(NotFinalError):
        fresh().take(blocks, tip[:1])
    with pytest.raises(BrokenChainError, match="no certificate"):
        fresh().take(blocks, ())
    with pytest.raises(ForgedSignatureError):
        fresh().take(blocks, (replace(tip[0], signature=tip[1].signature), *tip[1:]))
    later, certificates = history(1)
    with pytest.raises(BrokenChainError, match="does not follow"):
        fresh().take(later, certificates)


def test_a_handover_counts_for_the_epoch_that_it_ends_and_once() -> None:
    epochs = fresh().epochs
    first, second = handover_of(0), handover_of(1)
    with pytest.raises(UnknownEpochError):
        epochs.hand_over(second)
    known = epochs.hand_over(first)
    assert epochs.hand_over(first) is known
    assert epochs.hand_over(second).epoch == 2


def test_a_forged_handover_is_refused() -> None:
    blocks, tip = history(0)
    first, other = handover_of(0), handover_of(1)
    with pytest.raises(BrokenChainError):
        fresh().epochs.hand_over(HandoverProof(blocks[0], first.certificate_chain))
    with pytest.raises(BrokenChainError):
        fresh().epochs.hand_over(replace(first, block=replace(first.block, payload=other.block.payload)))
    with pytest.raises(NotFinalError):
        fresh().epochs.hand_over(replace(first, certificate_chain=first.certificate_chain[:1]))
    with pytest.raises(NotAHandoverError):
        fresh().epochs.hand_over(handover_proof(blocks, 0, tip))


def test_a_task_of_one_epoch_or_of_longer_ones_or_of_other_people_believes_no_such_handover() -> None:
    plan, first = played().rules.plan, handover_of(0)
    with pytest.raises(WrongChangeError, match="has one epoch"):
        Epochs(played().epoch_set, None).hand_over(first)
    with pytest.raises(WrongChangeError, match="expected 6 or later"):
        Epochs(played().epoch_set, replace(plan, epoch_rounds=6)).hand_over(first)
    stranger = Registration(plan.candidates[0].bls_key, bytes(20), 1)
    with pytest.raises(WrongChangeError, match="no candidate"):
        Epochs(played().epoch_set, replace(plan, candidates=(stranger, *plan.candidates[1:]))).hand_over(first)


def test_two_final_handovers_of_one_epoch_are_a_fork() -> None:
    """No honest quorum signs two; whoever shows them shows that a third of the set lied."""
    epochs = fresh().epochs
    known = epochs.hand_over(handover_of(0))
    epochs._known[1] = replace(known, genesis=bytes(32))
    with pytest.raises(ForkedEpochError, match="end epoch 0"):
        epochs.hand_over(handover_of(0))


def test_rounds_out_of_order_are_refused() -> None:
    walk = fresh()
    walk.passed = 1
    with pytest.raises(OutOfOrderError, match="orders round 0, expected 1"):
        walk.take(*history(0))


def test_a_block_of_another_epoch_is_refused() -> None:
    first = handover_of(0)
    with pytest.raises((WrongEpochError, UnknownEpochError)):
        fresh().epochs.hand_over(replace(first, block=replace(first.block, epoch=1)))
