"""What final rounds leave behind for whoever verifies them: reports, masked updates, proofs, key sums, models.

All of it is public and content-addressed, so it is kept beside the journal and not in it: what one validator lacks,
because it was away or was killed at that moment, another one has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from collegium import aggregation
from collegium.aggregation import KeySum
from collegium.consensus import Close, Header, HeaderProposal, Held, Release, ReportReply, RoundState
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._events import WorldError

__all__ = ["RoundArchive", "leave_behind"]

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (digest BLOB PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS names (identity BLOB PRIMARY KEY, digest BLOB NOT NULL);
"""


@dataclass
class RoundArchive:
    """Objects by SHA-256, and which object is the report or key sum of an identity."""

    database: sqlite3.Connection

    @classmethod
    def open(cls, path: Path) -> RoundArchive:
        """Open an archive, or begin one.

        Raises:
            WorldError: the disk refuses, or the file is something else.
        """
        try:
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")  # nothing rests on it
            database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise WorldError(f"{path}: {error}; expected a file for the objects of final rounds") from error
        return cls(database)

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    def put(self, objects: Mapping[Digest, bytes], names: Mapping[Digest, Digest]) -> None:
        """Add objects, each under its SHA-256, and names."""
        with self.database as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?)", objects.items())
            database.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", names.items())

    def object(self, digest: Digest) -> bytes | None:
        """Return what has this SHA-256, None if it is not here."""
        row = self.database.execute("SELECT data FROM objects WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def named(self, identity: Digest) -> Digest | None:
        """Return the SHA-256 of the report or key sum of an identity, None if it is not here."""
        row = self.database.execute("SELECT digest FROM names WHERE identity = ?", (identity,)).fetchone()
        return None if row is None else bytes(row[0])


def leave_behind(
    archive: RoundArchive, before: RoundState, message: object, close: Close, header: Header, model: bytes
) -> None:
    """Keep what a round that has become final leaves behind, as far as it is here.

    Args:
        before: the round's state before the step that ended it.
        message: what that step was about: it may be the last piece.
    """
    objects, names = {sha256(model).digest(): model} if model else {}, dict[Digest, Digest]()

    def add(data: bytes, identity: Digest | None = None) -> None:
        if data:
            digest = sha256(data).digest()
            objects[digest] = data
            if identity is not None:
                names.setdefault(identity, digest)

    for held in _reports(before, message):
        if held.report.id in close.reports:
            add(held.report.to_bytes(), held.report.id)
            add(aggregation.encode_ciphertext(held.ciphertext))
            add(held.proof)
            add(held.registration)
    wanted = dict(header.key_sums)
    for key_sum in _key_sums(before, message):
        if wanted.get(key_sum.seat) == key_sum.digest and _signed(before, close, key_sum):
            add(key_sum.to_bytes(), key_sum.digest)
    archive.put(objects, names)


def _reports(before: RoundState, message: object) -> Iterator[Held]:
    yield from before.held().values()
    if isinstance(message, ReportReply):
        ciphertext = aggregation.decode_ciphertext(before.terms.layout, message.ciphertext)
        yield Held(message.report, ciphertext, message.proof, message.registration)


def _key_sums(before: RoundState, message: object) -> Iterator[KeySum]:
    said: list[HeaderProposal | Release] = [*before.heard.values(), *before.releases.values()]
    said += [] if before.own is None else [before.own]
    if isinstance(message, HeaderProposal | Release):
        said.append(message)
    for each in said:
        yield from each.key_sums


def _signed(before: RoundState, close: Close, key_sum: KeySum) -> bool:
    """Tell whether a key sum is its seat's: its digest does not cover the signature."""
    try:
        aggregation.check_key_sum(before.terms, close.digest, key_sum)
    except CollegiumError:
        return False
    return True
