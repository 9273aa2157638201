"""Epochs that are over: whoever asks for what, others that are behind get what they lack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from collegium.consensus import BlockRequest
from collegium.node import _epoch_node
from collegium.node._epoch_node import (
    OLD_JOURNALS_MAX,
    OLD_NODES_MAX,
    RESTORE_MS,
    EpochMessage,
    EpochNode,
    OldEpochUnreadable,
)
from collegium.node._journal import JournalCorruptError
from collegium.node._network import Outgoing

MEMBERS, OVER = 4, 12
LIAR, HONEST = 3, 1
POLL_MS, TICK_MS = 10, 2_000
REQUEST = BlockRequest(0, bytes(32), bytes(32))


@dataclass
class Shelf:
    """A member that has twelve epochs behind it; what it opens and restores is counted, and does nothing else."""

    opened: set[int] = field(default_factory=set)
    opened_most: int = 0
    restored: list[tuple[int, int]] = field(default_factory=list)  # when, and of which epoch
    member: EpochNode = field(init=False)

    def __post_init__(self) -> None:
        validators = [SimpleNamespace(index=place, account=bytes([place])) for place in range(MEMBERS)]

        def context_of(epoch: int) -> Any:
            epoch_set = SimpleNamespace(epoch=epoch, validators=validators)
            return SimpleNamespace(round=SimpleNamespace(epoch=epoch, index=0, epoch_set=epoch_set, agreed=epoch))

        self.member = EpochNode(0, [v.account for v in validators], self.open, self.opened.remove)
        opened = SimpleNamespace(epoch_set=None)
        past: list[Any] = [
            SimpleNamespace(epoch=e, context=context_of(e), headers=[None], opened=opened) for e in range(OVER)
        ]
        self.member.past = past
        nodes: list[Any] = [SimpleNamespace(context=context_of(epoch)) for epoch in (OVER, OVER + 1)]
        self.member.nodes = nodes

    def open(self, epoch: int) -> Any:
        self.opened.add(epoch)
        self.opened_most = max(self.opened_most, len(self.opened))
        return SimpleNamespace(archive=epoch)

    def restore(self, context: Any, journal: Any, terms: Any, model: Any, secrets: Any, now_ms: int) -> Any:
        assert journal.archive in self.opened
        self.restored.append((now_ms, context.round.epoch))

        def handle(message: object, _: int, place: int) -> Iterable[Outgoing]:
            assert journal.archive in self.opened, "a node's journal stays open"
            return [Outgoing(message, place)]

        return SimpleNamespace(context=context, handle=handle), []

    def asked(self, sender: int, epoch: int, now_ms: int) -> bool:
        """Return whether a member that asks for blocks of an epoch is given something."""
        return bool(list(self.member.handle(EpochMessage(epoch, REQUEST), now_ms, sender)))


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    found = Shelf()
    monkeypatch.setattr(_epoch_node, "ValidatorNode", SimpleNamespace(restore=found.restore))
    monkeypatch.setattr(_epoch_node, "terms_after", lambda *_: None)
    monkeypatch.setattr(found.member, "_leave", lambda _, said: list(said))
    return found


@pytest.mark.parametrize("wanted", [(0, 2), tuple(epoch for epoch in range(OVER) if epoch != 1)])
def test_who_asks_for_old_epochs_in_turn_keeps_none_shut_for_others(shelf: Shelf, wanted: tuple[int, ...]) -> None:
    """A hundred times a second for two epochs in turn, or for all but the one that somebody else lacks."""
    turn, served = cycle(wanted), 0
    want = next(turn)
    end_ms = 100 * TICK_MS
    for now_ms in range(0, end_ms, POLL_MS):
        if shelf.asked(LIAR, want, now_ms):
            want = next(turn)
        if now_ms % TICK_MS == 70 * POLL_MS:
            served += shelf.asked(HONEST, 1, now_ms)
    assert served == 100
    # no more often than once a second for whoever comes, and once in so many seconds as there are members for each
    assert len(shelf.restored) <= end_ms // RESTORE_MS + end_ms // (MEMBERS * RESTORE_MS) * 2 + 2
    assert shelf.opened_most <= OLD_NODES_MAX + OLD_JOURNALS_MAX + 1


def test_whom_more_members_displace_than_there_are_places_still_has_its_share(shelf: Shelf, monkeypatch: Any) -> None:
    monkeypatch.setattr(_epoch_node, "OLD_NODES_MAX", 1)
    turn, served = cycle(epoch for epoch in range(OVER) if epoch != 1), list[int]()
    for now_ms in range(0, 50 * TICK_MS, POLL_MS):
        shelf.asked((LIAR, 2)[now_ms // POLL_MS % 2], next(turn), now_ms)
        if now_ms % TICK_MS == 70 * POLL_MS and shelf.asked(HONEST, 1, now_ms):
            served.append(now_ms)
    assert all(after - before <= MEMBERS * RESTORE_MS + TICK_MS for before, after in pairwise(served))
    assert served[-1] >= 48 * TICK_MS - MEMBERS * RESTORE_MS


def test_final_blocks_of_any_old_epoch_are_there_at_once_and_few_files_open(shelf: Shelf) -> None:
    for epoch in (*range(OVER), 1, *range(OVER)):
        found: Any = shelf.member.archive(epoch)
        assert found == epoch
    assert shelf.opened_most == OLD_JOURNALS_MAX + 1
    assert shelf.opened == set(range(OVER - OLD_JOURNALS_MAX, OVER))
    assert shelf.member.archive(OVER + 2) is None
    assert shelf.member.archive(-1) is None
    assert not shelf.restored


def test_a_journal_that_fails_is_let_go_of_with_its_node_and_opened_anew(shelf: Shelf, monkeypatch: Any) -> None:
    for sender, epoch in ((HONEST, 1), (LIAR, 2)):
        assert shelf.asked(sender, epoch, sender * RESTORE_MS)

    def fails(*_: object) -> Any:
        raise JournalCorruptError("a block is not what was written")

    monkeypatch.setattr(shelf.member._old_nodes[1], "handle", fails)
    assert not shelf.asked(HONEST, 1, MEMBERS * RESTORE_MS)
    (note,) = shelf.member.notes
    assert isinstance(note, OldEpochUnreadable)
    assert (note.epoch, type(note.reason).__name__, shelf.opened) == (1, "JournalCorruptError", {2})
    assert shelf.asked(HONEST, 1, 2 * MEMBERS * RESTORE_MS)
    assert shelf.opened == {1, 2}
