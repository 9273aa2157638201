"""A steward's journal on disk: the one record that it signed for each round, and the score that the record commits to.

A record is here before its first byte leaves. So after a crash a round is answered with the record that others may have
seen, never with a second one, and what it committed to can still be told a round later.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from collegium.errors import CollegiumError
from collegium.incentives import ModelScore, record_digest

from ._role_disk import open_database

__all__ = ["SecondRecordError", "StewardDisk", "StewardDiskError"]

NAME = "steward.db"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS records "
    "(round INTEGER PRIMARY KEY, digest BLOB NOT NULL, score INTEGER NOT NULL, salt BLOB NOT NULL, data BLOB)"
)


class SecondRecordError(CollegiumError):
    """A steward was about to keep a second signed record for one round."""


class StewardDiskError(CollegiumError):
    """A steward's journal on disk is not one that this program wrote, or another process has it open."""


@dataclass
class StewardDisk:
    """One folder, one process at a time; every change is on disk when the call returns."""

    database: sqlite3.Connection

    @classmethod
    def open(cls, folder: Path) -> StewardDisk:
        """Open the journal in a folder, or begin one.

        Raises:
            WorldError: the disk refuses.
            StewardDiskError: it is no journal, or another process has it open.
        """
        return cls(open_database(folder, NAME, _TABLE, "steward", StewardDiskError))

    def close(self) -> None:
        """Let another process have the folder."""
        self.database.close()

    def told(self) -> dict[int, ModelScore]:
        """Return what the steward has committed to, by round."""
        rows = self.database.execute("SELECT round, score, salt FROM records")
        return {number: ModelScore(score, bytes(salt)) for number, score, salt in rows}

    def record(self, round_number: int) -> bytes | None:
        """Return the signed record of a round, None if there is none or the round is over."""
        row = self.database.execute("SELECT data FROM records WHERE round = ?", (round_number,)).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def keep(self, round_number: int, data: bytes, told: ModelScore) -> None:
        """Keep the signed record of a round with what it commits to, before any byte of it leaves.

        Raises:
            SecondRecordError: there is another one for this round.
        """
        digest = record_digest(data)
        row = self.database.execute("SELECT digest FROM records WHERE round = ?", (round_number,)).fetchone()
        if row is not None and bytes(row[0]) != digest:
            raise SecondRecordError(f"round {round_number} has record {bytes(row[0]).hex()}, not {digest.hex()}")
        values = (round_number, digest, told.score, told.salt, data)
        self.database.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", values)

    def forget(self, round_number: int) -> None:
        """Drop the records of rounds up to one that is over; that they were signed, and their scores, stay."""
        self.database.execute("UPDATE records SET data = NULL WHERE round <= ?", (round_number,))
