"""The disk of a simulated machine: a journal for each epoch, exactly as they were when the machine crashed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, fields

from collegium.consensus import Header, KeepBeaconShare, Kept
from collegium.crypto import Digest

from ._journal import BlockArchive, Durable, Journal, MemoryJournal

__all__ = ["Drive"]


@dataclass
class Drive:
    """What one machine has written down, by epoch.

    While it is `watched`, how everything stood before each transaction is noted there.
    """

    journals: dict[int, MemoryJournal] = field(default_factory=dict)
    watched: list[dict[int, MemoryJournal]] | None = None

    def open(self, epoch: int) -> Journal:
        """Return the journal of an epoch, the same whenever it is asked."""
        return _Watched(self, self.journals.setdefault(epoch, MemoryJournal()))

    def note(self) -> None:
        """Note how everything stands, if anybody watches."""
        if self.watched is not None:
            self.watched.append({epoch: copy_of(journal) for epoch, journal in self.journals.items()})


@dataclass(frozen=True)
class _Watched:
    """A journal that has its drive note how everything stood before each transaction."""

    drive: Drive
    journal: MemoryJournal

    @property
    def archive(self) -> BlockArchive:
        return self.journal.archive

    def claim(self, owner: Digest) -> None:
        self.journal.claim(owner)

    def write(self, effects: Iterable[Durable]) -> None:
        self.drive.note()
        self.journal.write(effects)

    def read(self) -> Kept:
        return self.journal.read()

    def headers(self) -> list[Header]:
        return self.journal.headers()

    def beacon_shares(self) -> tuple[KeepBeaconShare, ...]:
        return self.journal.beacon_shares()

    def forget_round(self, number: int) -> None:
        self.drive.note()
        self.journal.forget_round(number)

    def get(self, digest: Digest, /) -> bytes | None:
        return self.journal.get(digest)


def copy_of(journal: MemoryJournal) -> MemoryJournal:
    """Return a copy that later writes to the journal do not touch."""
    archive = BlockArchive(*(copy(getattr(journal.archive, entry.name)) for entry in fields(BlockArchive)))
    rest = {
        entry.name: copy(getattr(journal, entry.name)) for entry in fields(MemoryJournal) if entry.name != "archive"
    }
    return MemoryJournal(archive=archive, **rest)
