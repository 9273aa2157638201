"""Candidates without a place: they follow what certificates prove, from far behind, and come back an epoch later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from _epoch_stage import RANDOM
from _epoch_world import TRAINERS, World
from _round_stage import committee, sum_of, update_of

from collegium.aggregation import Upload, make_upload
from collegium.consensus import (
    BlockRequest,
    BlockResponse,
    ChangeOffer,
    FollowReply,
    FollowRequest,
    Ignored,
    Refused,
    Tick,
    Vote,
)
from collegium.node._epoch_node import RESTORE_MS, EpochMessage, EpochNode, NoPlaceError, OldEpochUnreadable
from collegium.node._journal import MemoryJournal
from collegium.node._journal_disk import DiskJournal
from collegium.node._network import Delivery, Message, Outgoing
from collegium.node._observer import NOWHERE, NoChangeError, Observer

TICK_MS = 500
AWAY = 2

pytestmark = pytest.mark.slow


@dataclass
class Ticking:
    """A member that looks again every while, as its process has it do."""

    node: EpochNode

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        if message != "tick":
            return self.node.handle(message, now_ms, sender)
        said = self.node.handle(EpochMessage(self.node.epoch, Tick()), now_ms, self.node.member)
        return [*said, Outgoing("tick", at_ms=now_ms + TICK_MS)]


def bring(world: World, member: int) -> EpochNode:
    """Bring a member (back), and have it look again every while."""
    world.bring_back(member)
    node = world.nodes[member]
    world.network.participants[member] = Ticking(node)
    world.network.post(member, "tick", world.network.now_ms, world.network.measured_ms)
    return node


def test_who_missed_two_epochs_follows_from_outside_and_is_a_member_of_the_one_after(tmp_path: Path) -> None:
    world = World(5, epoch_rounds=5, folder=tmp_path, absent=frozenset({AWAY}))
    for number in range(10):
        world.play(number)
    assert {node.epoch for node in world.nodes.values()} == {2}
    # it walks through the first epoch as a member that is late, through the second as one without a place
    node = bring(world, AWAY)

    def has_bought(_: Delivery) -> bool:
        present = node.present
        return isinstance(present, Observer) and present.rules.voting_bytes in present.change.change.tickets

    world.network.run(has_bought, world.network.now_ms + 15_000)  # before trainers report: the window is one round
    world.play(10)
    assert (node.epoch, isinstance(node.present, Observer)) == (2, True)
    assert [past.context.round.index == NOWHERE for past in node.past] == [False, True]
    with pytest.raises(NoPlaceError, match="member 2 has no place in epoch 2"):
        _ = node.node
    observer = node.present
    assert isinstance(observer, Observer)
    assert (observer.round, observer.back_at) == (11, 15)
    forged_blocks_are_refused_by_name(world, node, observer)
    members_give_what_they_have_and_refuse_by_name(world)
    an_old_journal_that_cannot_be_read_is_noted_and_nothing_more(world, tmp_path)
    # killed while the change goes on, it says the same words again
    world.play(11)
    kept = node.present.journal.read().epoch_secrets
    assert {each.step for each in kept} >= {"ticket", "dealing"}
    world.kill(AWAY)
    node = bring(world, AWAY)
    assert [each for each in node.present.journal.read().epoch_secrets if each in kept] == list(kept)
    for number in range(12, 16):
        world.play(number)
    assert (node.epoch, node.node.index != NOWHERE) == (3, True)
    assert node.epoch_set.size == 5
    assert node.node.context.round.beacon.share is not None
    opened = sum(header.outcome == "opened" for header in world.nodes[0].headers())
    assert node.node.state.round.model == opened * sum_of(range(TRAINERS)).astype("<i8").tobytes()
    assert len({tuple(sorted(world.headers(member).items())) for member in world.nodes}) == 1
    assert world.walk(AWAY) == [5, 4, 4, 5]


def forged_blocks_are_refused_by_name(world: World, node: EpochNode, observer: Observer) -> None:
    """What an observer is told changes nothing unless certificates prove it; the true blocks do."""
    archive = world.disks[0, 2].archive
    blocks = list(archive.after(observer.context.ordering(None, 0).genesis, 4))
    proof = archive.proofs[blocks[-1].digest]
    fresh = replace(observer, tip=blocks[0].parent, notes=[], headers=[], journal=MemoryJournal())
    changed = replace(blocks[1], payload=b"C" + blocks[1].payload)
    for reply, name in (
        (FollowReply((blocks[0], *blocks[2:]), proof), "BrokenFollowError"),
        (FollowReply((blocks[0], changed, *blocks[2:]), proof), "BrokenFollowError"),
        (FollowReply(tuple(blocks[:2]), proof), "BrokenChainError"),
        (FollowReply((blocks[0], changed), proof), "BrokenChainError"),
        (FollowReply(tuple(blocks), (proof[0], proof[0])), "BrokenChainError"),
    ):
        before = fresh.tip
        assert not fresh.take(reply, 0)
        (note,) = fresh.notes
        assert isinstance(note, Ignored)
        assert (type(note.reason).__name__, fresh.tip) == (name, before)
        fresh.notes.clear()
    assert not fresh.take(FollowReply(tuple(blocks[1:]), proof), 0)
    assert (fresh.tip, fresh.notes) == (blocks[0].parent, []), "blocks that do not follow on the tip are passed over"
    # members that are no members of the epoch are not heard, and nobody is in another epoch
    told = EpochMessage(2, FollowReply(tuple(blocks), proof))
    assert not node.handle(told, world.network.now_ms, AWAY)
    assert not node.handle(replace(told, epoch=1), world.network.now_ms, 0)
    with pytest.raises(NoChangeError, match="epoch 2 has no change"):
        Observer.restore(replace(observer.context, change=None), MemoryJournal(), world.nodes[0].nodes[0].epoch_over)  # type: ignore[arg-type]


def members_give_what_they_have_and_refuse_by_name(world: World) -> None:
    """A member answers those behind from its journals, and orders of an outsider only what may be ordered."""
    node, now = world.nodes[0], world.network.now_ms + RESTORE_MS
    first = world.disks[0, 0].archive.blocks[0]
    (answer,) = node.handle(EpochMessage(0, FollowRequest(first.parent)), now, AWAY)
    assert isinstance(answer.message, EpochMessage)
    assert isinstance(answer.message.message, FollowReply)
    assert (answer.to, answer.message.message.blocks[0]) == (AWAY, first)
    asked = EpochMessage(0, BlockRequest(AWAY, first.parent, first.parent))
    replies = [said.message.message for said in node.handle(asked, now, AWAY) if isinstance(said.message, EpochMessage)]
    assert any(isinstance(reply, BlockResponse) and reply.blocks[0] == first for reply in replies)
    node.notes.clear()
    for epoch, message in ((0, replace(Vote(first.ballot, 0, bytes(48)))), (2, Tick()), (4, Tick())):
        assert not node.handle(EpochMessage(epoch, message), now, AWAY)
    reasons = [note.reason for note in node.notes if isinstance(note, Ignored)]
    assert [type(reason).__name__ for reason in reasons] == ["WrongEpochError"] * 3
    pool = node.node.state.replica.pool
    for payload in (b"T", b"C", b"T" + bytes(200), world.disks[0, 1].archive.blocks[0].payload or b"H"):
        assert not node.handle(EpochMessage(2, ChangeOffer(payload)), now, AWAY)
    assert node.node.state.replica.pool == pool


def an_old_journal_that_cannot_be_read_is_noted_and_nothing_more(world: World, folder: Path) -> None:
    """Whoever asks for an epoch whose file is damaged here gets no answer; the member goes on."""
    node, now, whole = world.nodes[0], world.network.now_ms + 2 * RESTORE_MS, world.nodes[0].open_journal
    first, damaged = world.disks[0, 0].archive.blocks[0], folder / "damaged.journal"
    damaged.write_bytes(b"no journal" * 1000)
    node._let_go(0)
    node.notes.clear()
    node.open_journal = lambda epoch: DiskJournal(damaged)
    for message in (FollowRequest(first.parent), BlockRequest(AWAY, first.parent, first.parent)):
        assert not node.handle(EpochMessage(0, message), now, AWAY)
        note = node.notes.pop()
        assert isinstance(note, OldEpochUnreadable)
        assert (note.epoch, type(note.reason).__name__) == (0, "JournalCorruptError")
        now += RESTORE_MS
    node.open_journal = whole
    assert node.handle(EpochMessage(0, FollowRequest(first.parent)), now, AWAY)


def test_a_report_that_came_before_its_epoch_survives_a_kill(tmp_path: Path) -> None:
    """Killed between the handover and the next epoch's first round, a member still has what a trainer gave it."""
    world = World(4, epoch_rounds=5, folder=tmp_path)
    killed, given = list[int](), list[Upload]()
    for number in range(4):
        world.play(number)

    def strike(delivery: Delivery) -> None:
        """Give a member that is late a report for the round that others have begun, and kill it."""
        begun = [node.node.state.round.terms for node in world.nodes.values() if node.epoch]
        node = world.nodes.get(delivery.participant)
        if killed or not begun or node is None or node.epoch or node.node.state.round.opened is None:
            return
        killed.append(delivery.participant)
        good, bad = committee().trainers[:2]
        given.append(make_upload(begun[0], good, update_of(0), RANDOM.split("early")))
        given.append(make_upload(replace(begun[0], beacon=bytes(32)), bad, update_of(1), RANDOM.split("bad")))
        for upload in given:
            assert not node.handle(upload, world.network.now_ms)
        world.kill(killed[0])
        world.bring_back(killed[0])
        assert set(world.nodes[killed[0]].early) == {good.address, bad.address}

    def entered(_: Delivery) -> bool:
        return bool(killed) and world.nodes[killed[0]].epoch == 1

    world.play(4, strike)
    if not entered(None):  # type: ignore[arg-type]
        world.network.run(entered, world.network.now_ms + 600_000)
    node = world.nodes[killed[0]]
    assert not node.early
    assert all(item.round != 5 for item in world.disks[killed[0], 0].read().uploads)
    # what fits the round's terms is admitted there, and on the new epoch's disk; what does not is refused by name
    good, bad = (upload.report for upload in given)
    assert node.node.state.round.reports[good.trainer].report.id == good.id
    assert [item.upload.report.id for item in world.disks[killed[0], 1].read().uploads] == [good.id]
    reasons = [note.reason for note in node.node.notes if isinstance(note, Refused)]
    assert "ReportRejectedError" in [type(reason).__name__ for reason in reasons]
    assert bad.trainer not in node.node.state.round.reports
