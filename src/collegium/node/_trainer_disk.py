"""A trainer's journal on disk: which encodings are used up, and the one report that it signed for each round.

Nothing that tells of the rows leaves the process before the whole signed upload is on disk. So after a crash, at
whatever point:
  - a round whose upload is here is answered with that upload again, never with a second one;
  - a mark without its upload belongs to a proof that nobody has seen: the mark is lifted, and the round begun anew;
  - a mark on a spare encoding without the registration that continues it, likewise.
The seeds of encodings lie here too; the file is its owner's alone (mode 0600).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._proofs import SEED_BYTES, DataPack, RegistrationRecord
from ._role_disk import open_database
from ._trainer import TrainerJournal

__all__ = ["SecondReportError", "TrainerDisk", "TrainerDiskError"]

NAME = "trainer.db"
_TABLES = """
CREATE TABLE IF NOT EXISTS packs (digest BLOB PRIMARY KEY, data BLOB NOT NULL, seeds BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS used (encoding BLOB NOT NULL, round INTEGER NOT NULL, PRIMARY KEY (encoding, round));
CREATE TABLE IF NOT EXISTS continued (pack BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS uploads (round INTEGER PRIMARY KEY, report BLOB NOT NULL, data BLOB);
"""


class SecondReportError(CollegiumError):
    """A trainer was about to keep a second signed report for one round."""


class TrainerDiskError(CollegiumError):
    """A trainer's journal on disk is not one that this program wrote."""


@dataclass
class TrainerDisk:
    """One folder, one process at a time; every change is on disk when the call returns."""

    database: sqlite3.Connection

    @classmethod
    def open(cls, folder: Path) -> TrainerDisk:
        """Open the journal in a folder, or begin one.

        Raises:
            WorldError: the disk refuses.
            TrainerDiskError: another process has it open.
        """
        return cls(open_database(folder, NAME, _TABLES, "trainer", TrainerDiskError))

    def close(self) -> None:
        """Let another process have the folder."""
        self.database.close()

    def journal(self) -> TrainerJournal:
        """Return what was written down, without the marks of what nobody has seen; it writes its changes here.

        Raises:
            TrainerDiskError: the present registration cannot be read.
        """
        rows = self.database.execute("SELECT data, seeds FROM packs").fetchall()
        pack = _pack(*rows[0]) if rows else None
        sent = {number for (number,) in self.database.execute("SELECT round FROM uploads")}
        used = {(bytes(e), number) for e, number in self.database.execute("SELECT encoding, round FROM used")}
        continued = {bytes(digest) for (digest,) in self.database.execute("SELECT pack FROM continued")}
        if pack is not None:
            continued.discard(pack.digest)
        journal = TrainerJournal(pack, {mark for mark in used if mark[1] in sent}, continued)
        self._write(journal)
        journal.write = self._write
        return journal

    def upload(self, round_number: int) -> bytes | None:
        """Return the signed upload of a round, None if there is none or the round is over."""
        row = self.database.execute("SELECT data FROM uploads WHERE round = ?", (round_number,)).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def reported(self, round_number: int) -> Digest | None:
        """Return the id of the report that was signed for a round."""
        row = self.database.execute("SELECT report FROM uploads WHERE round = ?", (round_number,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep_upload(self, round_number: int, report: Digest, data: bytes) -> None:
        """Keep the signed upload of a round, before any byte of it leaves.

        Raises:
            SecondReportError: there is another one for this round.
        """
        known = self.reported(round_number)
        if known is not None and known != report:
            raise SecondReportError(f"round {round_number} has report {known.hex()} already, not {report.hex()}")
        self.database.execute("INSERT OR IGNORE INTO uploads VALUES (?, ?, ?)", (round_number, report, data))

    def forget_upload(self, round_number: int) -> None:
        """Drop the bytes of a round that is over; that a report was signed stays."""
        self.database.execute("UPDATE uploads SET data = NULL WHERE round = ?", (round_number,))

    def _write(self, journal: TrainerJournal) -> None:
        """Make the tables say what the journal says, in one transaction."""
        pack = journal.pack
        with self._transaction() as database:
            database.execute("DELETE FROM used")
            database.executemany("INSERT INTO used VALUES (?, ?)", sorted(journal.used))
            database.execute("DELETE FROM continued")
            database.executemany(
                "INSERT INTO continued VALUES (?)", [(digest,) for digest in sorted(journal.continued)]
            )
            known = database.execute("SELECT digest FROM packs").fetchall()
            if pack is not None and known != [(pack.digest,)]:
                database.execute("DELETE FROM packs")
                database.execute("INSERT INTO packs VALUES (?, ?, ?)", (pack.digest, pack.data, b"".join(pack.seeds)))

    def _transaction(self) -> sqlite3.Connection:
        self.database.execute("BEGIN IMMEDIATE")
        return self.database


def _pack(data: bytes, seeds: bytes) -> DataPack:
    try:
        record = RegistrationRecord.from_bytes(bytes(data))
    except CollegiumError as error:
        raise TrainerDiskError(f"the registration in the trainer's journal is none: {error}") from error
    if len(seeds) != SEED_BYTES * len(record.roots):
        raise TrainerDiskError(f"{len(seeds)} bytes of seeds for {len(record.roots)} encodings")
    listed = tuple(bytes(seeds[at : at + SEED_BYTES]) for at in range(0, len(seeds), SEED_BYTES))
    return DataPack(record, bytes(data), listed)
