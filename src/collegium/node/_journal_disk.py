"""A validator's journal in one SQLite file: a step is one transaction, on the disk before anything of it leaves.

Write-ahead log, `synchronous=FULL`: a commit returns when the disk has it. The file is held exclusively, so that no
second process can sign in the same validator's name, and nobody else may read it: it holds sealing keys. Every row
that no digest protects carries one, as a vote state with one wrong bit could let its validator vote twice. A bit that
flips in the log before its steps are in the file is not noticed: SQLite drops these steps as if never finished.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar, overload

import msgspec

from collegium.consensus import (
    Block,
    Certified,
    Committed,
    ForgetEpochSecrets,
    Header,
    KeepBeaconShare,
    KeepEpochSecret,
    KeepObject,
    KeepSecret,
    KeepUpload,
    Kept,
    Persist,
    QuorumCertificate,
    Registered,
    ReleaseRecord,
    RoundFinished,
    RoundPassed,
    ShardRelease,
    Store,
    ViewEntry,
    decode_message,
    decode_payload,
    decode_upload,
    decode_vote_state,
    encode_message,
    encode_payload,
    encode_upload,
    encode_vote_state,
)
from collegium.crypto import Digest, SealKey, hash_fields
from collegium.errors import CollegiumError

from ._journal import (
    Durable,
    ForeignJournalError,
    JournalCorruptError,
    JournalInUseError,
    JournalWriteError,
    LostJournalError,
    ReleaseRefusedError,
    payloads_after,
)

__all__ = ["DiskArchive", "DiskJournal", "EpochJournals"]

FORMAT: Final = b"collegium journal 1"
JOURNAL: Final = "journal.db"  # in an epoch's folder
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vote (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL, check_ BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    digest BLOB PRIMARY KEY, view INTEGER NOT NULL, height INTEGER UNIQUE, data BLOB NOT NULL, check_ BLOB NOT NULL,
    chain BLOB, chain_check BLOB);
CREATE TABLE IF NOT EXISTS releases (round INTEGER PRIMARY KEY, close BLOB NOT NULL, check_ BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS shard_releases (
    round INTEGER NOT NULL, shard INTEGER NOT NULL, close BLOB NOT NULL, check_ BLOB NOT NULL,
    PRIMARY KEY (round, shard)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (round INTEGER PRIMARY KEY, secret BLOB NOT NULL, check_ BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (
    place INTEGER PRIMARY KEY, round INTEGER NOT NULL, report BLOB NOT NULL, copy INTEGER NOT NULL,
    verified INTEGER NOT NULL, data BLOB NOT NULL, check_ BLOB NOT NULL, UNIQUE (round, report, copy));
CREATE TABLE IF NOT EXISTS epoch_secrets (
    epoch INTEGER NOT NULL, start INTEGER NOT NULL, step TEXT NOT NULL, secret BLOB NOT NULL, record BLOB NOT NULL,
    check_ BLOB NOT NULL, PRIMARY KEY (epoch, start, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS beacon_shares (
    epoch INTEGER NOT NULL, member INTEGER NOT NULL, scalar BLOB NOT NULL, check_ BLOB NOT NULL,
    PRIMARY KEY (epoch, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (digest BLOB PRIMARY KEY, round INTEGER, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS headers (
    round INTEGER PRIMARY KEY, header BLOB NOT NULL, registered BLOB NOT NULL, check_ BLOB NOT NULL);
"""
_LENT: Final = 1  # the row that is the vote state

T = TypeVar("T")


def _check(table: str, *fields: bytes | int | str) -> Digest:
    """Return what a row carries against bits that flip; no secret is in it, so it keeps nobody out."""
    plain = (field.encode() if isinstance(field, str) else field for field in fields)
    return hash_fields("journal", table.encode(), *plain)


class DiskJournal:
    """See `Journal`. One validator, one epoch, one file.

    Args:
        path: the file, made if it is missing; beside it lie SQLite's `-wal`.
        rounds_kept: how many rounds that are over keep their uploads, models and registrations; None: all of them.

    Raises:
        JournalInUseError: another process has it open.
        JournalCorruptError: the file is not a journal.
        JournalWriteError: it cannot be made or opened.
    """

    def __init__(self, path: Path, rounds_kept: int | None = None) -> None:
        self.path = path
        self.rounds_kept = rounds_kept
        self.bytes_written = 0  # since it was opened: the values of steps, without SQLite's own
        self._lock = RLock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise JournalWriteError(f"journal {path} cannot be opened: {error}") from error
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise
        self.archive = DiskArchive(self)

    def _open(self) -> None:
        try:
            for pragma in ("locking_mode=EXCLUSIVE", "secure_delete=ON", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            self._connection.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.split(";"):
                self._connection.execute(statement)
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error
        found = self._rows("SELECT value FROM meta WHERE name = 'format'")
        if found != [(FORMAT,)]:
            raise JournalCorruptError(f"journal {self.path} is of format {found}, expected {FORMAT!r}")

    def _named(self, error: sqlite3.Error) -> CollegiumError:
        """Return what an error of SQLite means here."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return JournalInUseError(f"journal {self.path} is open in another process")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return JournalCorruptError(f"journal {self.path}: {error}")
        return JournalWriteError(f"journal {self.path}: {error}")

    def close(self) -> None:
        """Let go of the file; what was not committed is not in it."""
        with self._lock:
            self._connection.close()

    # -------------------------------------------------------------------------------------------- write

    def claim(self, owner: Digest) -> None:
        """See `Journal`."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('owner', ?)", (owner,))
        if self._rows("SELECT value FROM meta WHERE name = 'owner'") != [(owner,)]:
            raise ForeignJournalError(f"journal {self.path} is another validator's, or of another task or epoch")

    def write(self, effects: Iterable[Durable]) -> None:
        """See `Journal`."""
        ended = False
        with self._transaction():
            for effect in effects:
                self._put(effect)
                ended = ended or isinstance(effect, RoundFinished | RoundPassed | ForgetEpochSecrets)
        if ended:
            self._cut_log()

    def forget_round(self, number: int) -> None:
        """See `Journal`."""
        with self._transaction():
            self._execute("DELETE FROM secrets WHERE round = ?", (number,))
            self._execute("DELETE FROM uploads WHERE round = ?", (number,))
        self._cut_log()

    def _cut_log(self) -> None:
        """Empty the log: it still has the keys that are over."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._named(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise self._named(error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:  # what a crash would leave is what is left now: the step is not in it
            self._connection.close()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement of a step, and count what it writes."""
        self.bytes_written += sum(len(value) for value in values if isinstance(value, bytes))
        return self._connection.execute(statement, values)

    def _put(self, effect: Durable) -> None:
        execute = self._execute
        match effect:
            case Persist():
                state = encode_vote_state(effect.vote_state)
                execute("INSERT OR REPLACE INTO vote VALUES (?, ?, ?)", (_LENT, state, _check("vote", state)))
            case Store():
                self._put_block(effect.block)
            case Committed():
                self._commit_block(effect)
            case ReleaseRecord() | ShardRelease():
                self._put_release(effect)
            case KeepSecret():
                key = (effect.round, effect.secret.secret)
                execute("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)", (*key, _check("secrets", *key)))
            case KeepUpload():
                data, report = encode_upload(effect.upload), effect.upload.report.id
                row = (effect.round, report, effect.copy, int(effect.verified), data)
                execute(
                    "INSERT OR REPLACE INTO uploads (round, report, copy, verified, data, check_) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (*row, _check("uploads", *row)),
                )
            case KeepObject():
                execute("INSERT OR REPLACE INTO objects VALUES (?, NULL, ?)", (effect.digest, effect.data))
            case RoundFinished() | RoundPassed():
                self._end(effect)
            case KeepEpochSecret() | KeepBeaconShare() | ForgetEpochSecrets():
                self._put_epoch(effect)

    def _put_epoch(self, effect: KeepEpochSecret | KeepBeaconShare | ForgetEpochSecrets) -> None:
        execute = self._execute
        match effect:
            case KeepEpochSecret():
                said = (effect.epoch, effect.start, effect.step, effect.secret, effect.record)
                check = _check("epoch_secrets", *said)
                execute("INSERT OR REPLACE INTO epoch_secrets VALUES (?, ?, ?, ?, ?, ?)", (*said, check))
            case KeepBeaconShare():
                share = (effect.epoch, effect.member, effect.scalar)
                check = _check("beacon_shares", *share)
                execute("INSERT OR REPLACE INTO beacon_shares VALUES (?, ?, ?, ?)", (*share, check))
            case ForgetEpochSecrets():
                execute("DELETE FROM epoch_secrets WHERE epoch = ? AND start = ?", (effect.epoch, effect.start))

    def _put_block(self, block: Block) -> None:
        data = encode_message(block)
        row = (block.digest, block.view, data, _check("blocks", data))
        self._execute("INSERT OR IGNORE INTO blocks VALUES (?, ?, NULL, ?, ?, NULL, NULL)", row)

    def _commit_block(self, committed: Committed) -> None:
        """Give a block its place in the order; blocks that fell behind the order are needed no more."""
        block, execute = committed.block, self._execute
        self._put_block(block)
        chain = msgspec.msgpack.encode([encode_message(ViewEntry(c, None)) for c in committed.certificate_chain])
        (height,) = execute("SELECT coalesce(max(height), -1) + 1 FROM blocks").fetchone()
        row = (height, chain, _check("chain", block.digest, height, chain), block.digest)
        execute("UPDATE blocks SET height = ?, chain = ?, chain_check = ? WHERE digest = ? AND height IS NULL", row)
        execute("DELETE FROM blocks WHERE height IS NULL AND view <= ?", (block.view,))

    def _put_release(self, record: ReleaseRecord | ShardRelease) -> None:
        if isinstance(record, ShardRelease):
            table, insert = "shard_releases", "INSERT OR IGNORE INTO shard_releases VALUES (?, ?, ?, ?)"
            query = "SELECT close FROM shard_releases WHERE round = ? AND shard = ?"
            place: tuple[int, ...] = (record.round, record.shard)
        else:
            table, insert = "releases", "INSERT OR IGNORE INTO releases VALUES (?, ?, ?)"
            query, place = "SELECT close FROM releases WHERE round = ?", (record.round,)
        row: tuple[int | bytes, ...] = (*place, record.close)
        self._execute(insert, (*row, _check(table, *row)))
        if self._connection.execute(query, place).fetchone() != (record.close,):
            raise ReleaseRefusedError(f"round {record.round} was released for another close", round=record.round)

    def _end(self, ended: RoundFinished | RoundPassed) -> None:
        """Enter a final header, and drop what only its round needed."""
        execute, number = self._execute, ended.header.round
        row = (number, encode_payload(Certified(ended.header, b"")), msgspec.msgpack.encode(ended.registered))
        execute("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", (*row, _check("headers", *row)))
        if isinstance(ended, RoundFinished):
            model = (ended.header.model, number, ended.model)
            execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", model)
        execute("DELETE FROM secrets WHERE round <= ?", (number,))
        if self.rounds_kept is None:
            return
        oldest = number - self.rounds_kept
        execute("DELETE FROM uploads WHERE round <= ?", (oldest,))
        execute("DELETE FROM objects WHERE round < ?", (oldest,))
        used = {entry.digest for entry in ended.registered} | {ended.header.model}
        for (digest,) in execute("SELECT digest FROM objects WHERE round IS NULL").fetchall():
            if digest not in used:
                execute("DELETE FROM objects WHERE digest = ?", (digest,))

    # -------------------------------------------------------------------------------------------- read

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._named(error) from error

    def _decoded(self, what: str, decode: Callable[..., T], *arguments: Any) -> T:
        """Return what a row says.

        Raises:
            JournalCorruptError: it says nothing.
        """
        try:
            return decode(*arguments)
        except JournalCorruptError:
            raise
        except (CollegiumError, msgspec.MsgspecError, TypeError, ValueError) as error:
            raise JournalCorruptError(f"journal {self.path}: {what}: {error}") from error

    def _checked(self, table: str, columns: str, rest: str = "", *values: object) -> list[tuple[Any, ...]]:
        """Return rows whose digest holds."""
        rows = self._rows(f"SELECT {columns}, check_ FROM {table} {rest}", *values)  # noqa: S608 - our own words
        for *row, check in rows:
            if self._decoded(f"row of {table}", _check, table, *row) != check:
                raise JournalCorruptError(f"journal {self.path}: a row of {table} is not what was written", table=table)
        return [tuple(row[:-1]) for row in rows]

    def blocks(self, rest: str, *values: object) -> list[Block]:
        """Return the blocks of the rows that fit.

        Raises:
            JournalCorruptError: a row holds another block than was written.
        """
        found = []
        rows = self._rows(f"SELECT data, digest, check_ FROM blocks {rest}", *values)  # noqa: S608 - our own words
        for data, digest, check in rows:
            block = self._decoded("block", decode_message, data)
            if not isinstance(block, Block) or (block.digest, _check("blocks", data)) != (digest, check):
                raise JournalCorruptError(f"journal {self.path}: a block is not what was written", digest=digest)
            found.append(block)
        return found

    def chain(self, digest: Digest) -> tuple[QuorumCertificate, ...] | None:
        """Return the certificates that prove a committed block final; None of any other block.

        Raises:
            JournalCorruptError: they are not what was written.
        """
        query = "SELECT height, chain, chain_check FROM blocks WHERE digest = ? AND height IS NOT NULL"
        rows = self._rows(query, digest)
        if not rows:
            return None
        height, chain, check = rows[0]
        if _check("chain", digest, height, chain) != check:
            raise JournalCorruptError(f"journal {self.path}: certificates are not what was written", digest=digest)
        return self._decoded("certificates", _decode_chain, chain)

    def read(self) -> Kept:
        """See `Journal`."""
        votes = self._checked("vote", "state")
        header, registered = self._last_header()
        model = None if header is None else self.get(header.model)
        first = 0 if header is None else header.round + 1
        final = self.archive.blocks[-1] if len(self.archive.blocks) else None
        stored = self.blocks("WHERE height IS NULL ORDER BY view")
        if final is not None:
            self.chain(final.digest)
        if not votes and (final is not None or stored):
            raise JournalCorruptError(f"journal {self.path} has blocks but no vote state")
        registrations = {entry.digest: self.get(entry.digest) for entry in registered}
        return Kept(
            vote_state=self._decoded("vote state", decode_vote_state, votes[0][0]) if votes else None,
            final=final,
            stored=tuple(stored),
            header=header,
            model=model,
            registered=registered,
            registrations={digest: data for digest, data in registrations.items() if data is not None},
            payloads=self._decoded("payloads", payloads_after, self.archive.blocks, header),
            secrets={
                number: self._decoded("sealing key", SealKey, secret)
                for number, secret in self._checked("secrets", "round, secret", "WHERE round >= ?", first)
            },
            released=dict(self._checked("releases", "round, close", "WHERE round >= ?", first)),
            uploads=self._uploads(first),
            epoch_secrets=tuple(
                KeepEpochSecret(*row)
                for row in self._checked("epoch_secrets", "epoch, start, step, secret, record", "ORDER BY start")
            ),
            shard_released={
                (number, shard): close
                for number, shard, close in self._checked(
                    "shard_releases", "round, shard, close", "WHERE round >= ?", first
                )
            },
        )

    def _uploads(self, first: int) -> tuple[KeepUpload, ...]:
        columns, rest = "round, report, copy, verified, data", "WHERE round >= ? ORDER BY place"
        found = []
        for number, _, copy, verified, data in self._checked("uploads", columns, rest, first):
            upload = self._decoded("upload", decode_upload, data)
            found.append(KeepUpload(number, copy, upload, bool(verified)))
        return tuple(found)

    def _last_header(self) -> tuple[Header | None, tuple[Registered, ...]]:
        rows = self._checked("headers", "round, header, registered", "ORDER BY round DESC LIMIT 1")
        if not rows:
            return None, ()
        _, header, registered = rows[0]
        entries = self._decoded("registered", _decode_registered, registered)
        return self._header(header), entries

    def _header(self, data: bytes) -> Header:
        payload = self._decoded("header", decode_payload, data)
        if not isinstance(payload, Certified):
            raise JournalCorruptError(f"journal {self.path}: a close where a header was written")
        return payload.header

    def headers(self) -> list[Header]:
        """See `Journal`."""
        return [
            self._header(header)
            for _, header, _ in self._checked("headers", "round, header, registered", "ORDER BY round")
        ]

    def beacon_shares(self) -> tuple[KeepBeaconShare, ...]:
        """See `Journal`."""
        return tuple(KeepBeaconShare(*row) for row in self._checked("beacon_shares", "epoch, member, scalar"))

    def get(self, digest: Digest, /) -> bytes | None:
        """See `Journal`."""
        rows = self._rows("SELECT data FROM objects WHERE digest = ?", digest)
        if not rows:
            return None
        data: bytes = rows[0][0]
        if sha256(data).digest() != digest:
            raise JournalCorruptError(f"journal {self.path}: object {digest.hex()} is not what was written")
        return data


class EpochJournals:
    """A validator's journals in one folder, one file an epoch; each is open until it is closed.

    Args:
        folder: made if it is missing.
        rounds_kept: of each (`DiskJournal`).
    """

    def __init__(self, folder: Path, rounds_kept: int | None = None) -> None:
        self.folder, self.rounds_kept = folder, rounds_kept
        self._open: dict[int, DiskJournal] = {}
        self._written = 0  # to those that are closed

    @property
    def bytes_written(self) -> int:
        """To all, since they were opened."""
        return self._written + sum(journal.bytes_written for journal in self._open.values())

    def path(self, epoch: int) -> Path:
        """Return where an epoch's journal lies."""
        return self.folder / f"{epoch:05d}" / JOURNAL

    def open(self, epoch: int) -> DiskJournal:
        """Return an epoch's journal, new if there is none.

        Raises:
            LostJournalError: there is none, but a later epoch's: this one was used.
            JournalInUseError, JournalCorruptError, JournalWriteError: see `DiskJournal`.
        """
        if epoch not in self._open:
            path = self.path(epoch)
            if not path.exists():
                self._make(epoch)
            self._open[epoch] = DiskJournal(path, self.rounds_kept)
        return self._open[epoch]

    def _make(self, epoch: int) -> None:
        """Make an epoch's folder, which survives a power failure from then on as SQLite's files in it do."""
        path = self.path(epoch)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            later = [
                entry.name for entry in self.folder.iterdir() if entry.name.isdecimal() and int(entry.name) > epoch
            ]
            if later:
                raise LostJournalError(
                    f"journal {path} is missing, but {min(later)} beside it is there: begun anew, this validator could "
                    "sign things twice; restore it from a backup that is not older",
                    epoch=epoch,
                )
            path.parent.mkdir(mode=0o700, exist_ok=True)
            for parent in (self.folder, self.folder.parent):
                _sync_folder(parent)
        except OSError as error:
            raise JournalWriteError(f"journal {path} cannot be made: {error}") from error

    def close(self, epoch: int) -> None:
        """Let go of an epoch's file."""
        journal = self._open.pop(epoch, None)
        if journal is not None:
            self._written += journal.bytes_written
            journal.close()

    def close_all(self) -> None:
        """Let go of all files."""
        for epoch in list(self._open):
            self.close(epoch)


def _sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DiskArchive:
    """See `BlockStore`. Blocks are decoded as they are asked for."""

    def __init__(self, journal: DiskJournal) -> None:
        self.blocks: Sequence[Block] = _Blocks(journal)
        self.proofs: Mapping[Digest, tuple[QuorumCertificate, ...]] = _Proofs(journal)
        self._journal = journal

    def after(self, block: Digest, count: int) -> Sequence[Block]:
        """Return up to `count` committed blocks after `block` or the genesis; none if the block is unknown."""
        rows = self._journal._rows("SELECT height FROM blocks WHERE digest = ? AND height IS NOT NULL", block)
        if not rows:
            first = self.blocks[:1]
            return self.blocks[:count] if first and first[0].parent == block else []
        start = rows[0][0] + 1
        return self.blocks[start : start + count]


class _Blocks(Sequence[Block]):
    """Committed blocks by their height."""

    def __init__(self, journal: DiskJournal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        (count,) = self._journal._rows("SELECT coalesce(max(height), -1) + 1 FROM blocks")[0]
        return int(count)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | Sequence[Block]:
        if isinstance(index, int):
            place = range(len(self))[index]
            return self._between(place, place + 1)[0]
        wanted = range(len(self))[index]
        if wanted.step != 1:
            return [self[place] for place in wanted]
        return self._between(wanted.start, wanted.stop)

    def _between(self, start: int, stop: int) -> list[Block]:
        found = self._journal.blocks("WHERE height >= ? AND height < ? ORDER BY height", start, stop)
        if len(found) != max(0, stop - start):
            raise JournalCorruptError(f"journal {self._journal.path} lacks blocks between {start} and {stop}")
        return found


class _Proofs(Mapping[Digest, tuple[QuorumCertificate, ...]]):
    """What proves committed blocks final, by digest."""

    def __init__(self, journal: DiskJournal) -> None:
        self._journal = journal

    def __getitem__(self, digest: Digest) -> tuple[QuorumCertificate, ...]:
        chain = self._journal.chain(digest)
        if chain is None:
            raise KeyError(digest)
        return chain

    def __iter__(self) -> Iterator[Digest]:
        query = "SELECT digest FROM blocks WHERE height IS NOT NULL ORDER BY height"
        return iter([digest for (digest,) in self._journal._rows(query)])

    def __len__(self) -> int:
        return len(self._journal.archive.blocks)


def _decode_chain(data: bytes) -> tuple[QuorumCertificate, ...]:
    """Return certificates, each written as the view entry that it alone makes."""
    entries = [decode_message(entry) for entry in msgspec.msgpack.decode(data, type=list[bytes])]
    return tuple(entry.high_certificate for entry in entries if isinstance(entry, ViewEntry))


def _decode_registered(data: bytes) -> tuple[Registered, ...]:
    return msgspec.msgpack.decode(data, type=tuple[Registered, ...])
