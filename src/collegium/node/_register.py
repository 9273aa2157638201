"""An owner's register: what was registered, the seeds behind every commitment, and which commitments are used.

A folder of mode 0700 whose files have mode 0600:

    register.db               registrations, roots, which of them are used, keyed tags of files and rows
    row-tags.key              the key of the tags: without it they say nothing about a row
    registration-0001.seed    the seed of one registration: its commitments and its proof follow from it bit for bit
    registration-0001.bin     the published registration; licence-0001.json, the licence request

Every write is on the disk before what it permits happens: a seed before a commitment, a mark "used" before an opening.
A commitment opened by more proofs than `proofs.OPENINGS` would show the rows. Specified in docs/spec/registration.md.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from collegium import proofs
from collegium.crypto import SEED_BYTES, AccountKey, Digest, Randomness, Stream, os_random
from collegium.errors import CollegiumError
from collegium.proofs import COMMITMENTS_MAX, CommittedRows

from ._events import Event, Message, WorldError
from ._owner_rows import OwnerRows
from ._registration import (
    COMMITMENTS_MIN,
    NO_PREVIOUS,
    DataRegistration,
    LicenceRequest,
    decode_data_registration,
    encode_data_registration,
    encode_licence,
    sign_data_registration,
    sign_licence,
    verify_data_registration,
)

__all__ = [
    "CommitmentCountError",
    "CommitmentUsedError",
    "LicenceTerms",
    "NoRegistrationError",
    "OtherRegistrationError",
    "OwnerError",
    "Register",
    "RegisterError",
    "RegisterModeError",
    "Registered",
    "RepeatedCommitmentError",
    "RepeatedRowsError",
    "RowsChangedError",
]

DATABASE: Final = "register.db"
TAG_KEY: Final = "row-tags.key"
FORMAT: Final = "collegium/v1/register"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
BUSY_S: Final = 10.0
REPEATS_SHOWN_MAX: Final = 10
FILE_BYTES_MAX: Final = 64 << 20

_TABLES: Final = """
CREATE TABLE register (format TEXT NOT NULL, owner BLOB NOT NULL);
CREATE TABLE registration (
    id INTEGER PRIMARY KEY, file BLOB NOT NULL, context BLOB NOT NULL, shape TEXT NOT NULL, count INTEGER NOT NULL,
    previous INTEGER UNIQUE REFERENCES registration (id), data_root BLOB UNIQUE);
CREATE UNIQUE INDEX file_once ON registration (file) WHERE previous IS NULL;
CREATE TABLE commitment (
    root BLOB PRIMARY KEY, registration INTEGER NOT NULL REFERENCES registration (id), position INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0, UNIQUE (registration, position)) WITHOUT ROWID;
CREATE TABLE row_tag (
    tag BLOB PRIMARY KEY, registration INTEGER NOT NULL REFERENCES registration (id), number INTEGER NOT NULL
) WITHOUT ROWID;
"""


class RegisterError(CollegiumError):
    """A folder is no register, or something in it is not what this program wrote."""


class RegisterModeError(RegisterError):
    """A register, or a file in it, can be read by others, or is no plain folder or file of this user."""


class OwnerError(RegisterError):
    """A register belongs to another account than the key given."""


class CommitmentCountError(RegisterError):
    """A registration is asked to hold too few or too many commitments."""


class RepeatedCommitmentError(RegisterError):
    """A file or a commitment is in the register already."""


class RepeatedRowsError(RegisterError):
    """A row stands twice in a file, or was registered before; `repeats` lists (number, number) pairs."""


class NoRegistrationError(RegisterError):
    """The register holds no such registration, or none that can be continued."""


class OtherRegistrationError(RegisterError):
    """An interrupted registration of the same file was begun with other settings."""


class CommitmentUsedError(RegisterError):
    """A commitment is used already, or is none that a round may use."""


class RowsChangedError(RegisterError):
    """Rows do not give the commitment that was registered."""


@dataclass(frozen=True, slots=True)
class LicenceTerms:
    """What a licence request asks for: `terms_digest` of a text, and seconds since 1970 (UTC)."""

    terms: Digest
    valid_from: int
    valid_until: int


@dataclass(frozen=True, slots=True)
class Registered:
    """One finished registration.

    Attributes:
        number: in the register, from 1.
        registration, licence: what is published; `registration_bytes`, `licence_bytes` are their encodings.
    """

    number: int
    registration: DataRegistration
    licence: LicenceRequest
    registration_bytes: bytes
    licence_bytes: bytes


@dataclass(frozen=True, slots=True)
class _Begun:
    """A registration as the register holds it; `data_root` None until it is finished."""

    number: int
    context: Digest
    shape: str
    count: int
    previous: int | None
    data_root: Digest | None


class Register:
    """One owner's register. A register is used by one process at a time, or waits for its lock."""

    def __init__(self, folder: Path, key: AccountKey, random: Randomness = os_random) -> None:
        """Open the register in `folder`, or make it where there is no folder or an empty one.

        Raises:
            RegisterModeError: others can read it.
            OwnerError: it belongs to another account.
            RegisterError: it is no register.
        """
        self._folder, self._key, self._random = folder, key, random
        self._owner = key.address
        _private_folder(folder)
        with _locked(folder):
            if not (folder / DATABASE).exists():
                self._found()
        _check_private(folder / DATABASE)
        self._tag_key = _read_secret(folder / TAG_KEY)
        self._connection = _connect(folder / DATABASE)
        try:
            with self._transaction() as connection:
                self._check_owner(connection)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    # ------------------------------------------------------------------------------------------ register

    def register(
        self,
        rows: OwnerRows,
        count: int,
        terms: LicenceTerms,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> Registered:
        """Register rows for the first time with `count` commitments; go on where an interrupted call stopped.

        Raises:
            RepeatedCommitmentError: the file or a commitment is registered already.
            RepeatedRowsError: a row is.
            OtherRegistrationError: the interrupted call had other settings.
            CommitmentCountError: `count` is out of bounds.
        """
        _check_count(count, COMMITMENTS_MIN)
        tags = self._tags(rows)
        with self._transaction() as connection:
            begun = self._latest(connection, rows)
            if begun is None:
                _refuse_repeats(connection, rows, tags)
                begun = self._begin(connection, rows, count, None)
                entries = zip(tags, [begun.number] * len(tags), rows.numbers, strict=True)
                connection.executemany("INSERT INTO row_tag VALUES (?, ?, ?)", entries)
            elif begun.data_root is not None or begun.previous is not None:
                raise RepeatedCommitmentError(
                    f"{rows.origin} is registered already: {self._path(begun.number, 'registration', 'bin')} and the "
                    "licence request beside it; when its commitments are used up, continue it with --refresh",
                    number=begun.number,
                )
        _check_same(begun, rows, count)
        return self._finish(begun, rows, terms, on_event)

    def refresh(
        self,
        rows: OwnerRows,
        count: int,
        terms: LicenceTerms,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> Registered:
        """Register the same rows anew: the first of `count` commitments is the spare of the last registration of them.

        Raises:
            NoRegistrationError: the file has no finished registration.
            RowsChangedError: the rows are not those registered.
            OtherRegistrationError: an interrupted call had other settings.
            CommitmentCountError: `count` is out of bounds.
        """
        _check_count(count, COMMITMENTS_MIN + 1)
        with self._transaction() as connection:
            latest = self._latest(connection, rows)
        if latest is None or (latest.data_root is None and latest.previous is None):
            raise NoRegistrationError(f"{rows.origin} has no finished registration in {self._folder} to continue")
        if latest.data_root is not None:
            _check_same(latest, rows, latest.count)
            self._remake(latest, latest.count - 1, rows)
            with self._transaction() as connection:
                self._spend(connection, latest.number, latest.count - 1)
                latest = self._begin(connection, rows, count, latest.number)
        _check_same(latest, rows, count)
        return self._finish(latest, rows, terms, on_event)

    def _finish(
        self,
        begun: _Begun,
        rows: OwnerRows,
        terms: LicenceTerms,
        on_event: Callable[[Event], None],
    ) -> Registered:
        """Make commitments and proof from the seed alone, keep what is published, then count it as registered.

        Whoever calls this twice after a crash gets the same proof again, so that no commitment is opened once more.
        """
        # 1. commitments
        stream = Stream(_read_secret(self._seed_path(begun.number)))
        first = [] if begun.previous is None else [self._remake_number(begun.previous, rows)]
        fresh = [self._commitment(stream, position, rows) for position in range(len(first), begun.count)]
        commitments = first + fresh
        on_event(Message(f"committed {begun.count} times to {rows.shape.rows} rows"))
        # 2. proof and signature
        previous = NO_PREVIOUS if begun.previous is None else self._done(begun.previous).data_root or NO_PREVIOUS
        roots = tuple(committed.root for committed in commitments)
        draft = DataRegistration(rows.shape, self._owner, rows.context, previous, roots, b"", b"")
        proof = proofs.prove_registration(draft.statement, commitments, stream.split("proof"))
        draft = DataRegistration(rows.shape, self._owner, rows.context, previous, roots, proof, b"")
        registration = sign_data_registration(draft, self._key)
        verify_data_registration(registration)
        on_event(Message(f"proved that all hold the same rows, in range: {len(proof):,} bytes"))
        # 3. licence request
        unsigned = LicenceRequest(
            owner=self._owner,
            data_root=registration.data_root,
            terms=terms.terms,
            rows=rows.shape.rows,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            nonce=self._random(32),
            signature=bytes(65),
        )
        licence = sign_licence(unsigned, self._key)
        # 4. on the disk, then in the register
        data, request = encode_data_registration(registration), encode_licence(licence)
        _write_private(self._path(begun.number, "registration", "bin"), data)
        _write_private(self._path(begun.number, "licence", "json"), request)
        with self._transaction() as connection:
            self._enter(connection, begun, registration)
        return Registered(begun.number, registration, licence, data, request)

    def _enter(self, connection: sqlite3.Connection, begun: _Begun, registration: DataRegistration) -> None:
        linked = 0 if begun.previous is None else 1
        entries = [(root, begun.number, position) for position, root in enumerate(registration.roots)][linked:]
        for entry in entries:
            if connection.execute("SELECT 1 FROM commitment WHERE root = ?", entry[:1]).fetchone():
                raise RepeatedCommitmentError(
                    f"commitment {entry[0].hex()} is registered already: these are the same rows under the same "
                    "randomness",
                    root=entry[0],
                )
        connection.executemany("INSERT INTO commitment (root, registration, position) VALUES (?, ?, ?)", entries)
        connection.execute("UPDATE registration SET data_root = ? WHERE id = ?", (registration.data_root, begun.number))

    # ------------------------------------------------------------------------------------------ use

    def use(self, number: int, position: int, rows: OwnerRows) -> CommittedRows:
        """Return a commitment for the one proof of a round that it may be opened by; from now on it is used.

        The mark is on the disk before this returns. After a crash in between the commitment counts as used: it is lost.

        Raises:
            CommitmentUsedError: it is used, or is a spare or a link, which belong to registrations.
            RowsChangedError: the rows are not those registered.
            NoRegistrationError: there is no such registration.
        """
        begun = self._done(number)
        linked = 0 if begun.previous is None else 1
        if not linked <= position < begun.count - 1:
            raise CommitmentUsedError(
                f"commitment {position} of registration {number} is for no round, expected {linked} to "
                f"{begun.count - 2}",
                position=position,
            )
        _check_same(begun, rows, begun.count)
        committed = self._remake(begun, position, rows)
        with self._transaction() as connection:
            self._spend(connection, number, position)
        return committed

    def unused(self, number: int) -> tuple[int, ...]:
        """Return the positions of the commitments that rounds may still use, in order.

        Raises:
            NoRegistrationError: there is no such registration.
        """
        begun = self._done(number)
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT position FROM commitment WHERE registration = ? AND used = 0 AND position < ? "
                "ORDER BY position",
                (number, begun.count - 1),
            ).fetchall()
        return tuple(position for (position,) in found)

    def load(self, number: int) -> DataRegistration:
        """Return a finished registration as it was published.

        Raises:
            NoRegistrationError: there is none of this number.
            RegisterError: its file is not what was published.
        """
        begun = self._done(number)
        path = self._path(number, "registration", "bin")
        registration = decode_data_registration(_read_private(path, FILE_BYTES_MAX))
        if registration.data_root != begun.data_root:
            raise RegisterError(f"{path} is not the registration that the register names", path=path)
        return registration

    def _spend(self, connection: sqlite3.Connection, number: int, position: int) -> None:
        """Mark a commitment as used by something beside its own registration's proof.

        Raises:
            CommitmentUsedError: it is marked already.
        """
        changed = connection.execute(
            "UPDATE commitment SET used = 1 WHERE registration = ? AND position = ? AND used = 0", (number, position)
        ).rowcount
        if changed != 1:
            raise CommitmentUsedError(
                f"commitment {position} of registration {number} is used already: opened once more it would show its "
                "rows",
                number=number,
                position=position,
            )

    def _remake_number(self, number: int, rows: OwnerRows) -> CommittedRows:
        begun = self._done(number)
        return self._remake(begun, begun.count - 1, rows)

    def _remake(self, begun: _Begun, position: int, rows: OwnerRows) -> CommittedRows:
        """Return a registered commitment again.

        Raises:
            RowsChangedError: these rows give another root.
        """
        with self._transaction() as connection:
            (root,) = connection.execute(
                "SELECT root FROM commitment WHERE registration = ? AND position = ?", (begun.number, position)
            ).fetchone()
        committed = self._commitment(Stream(_read_secret(self._seed_path(begun.number))), position, rows)
        if committed.root != root:
            raise RowsChangedError(
                f"{rows.origin} does not give commitment {position} of registration {begun.number}: its rows, their "
                "order, or the schema have changed",
                number=begun.number,
                position=position,
            )
        return committed

    @staticmethod
    def _commitment(stream: Stream, position: int, rows: OwnerRows) -> CommittedRows:
        return proofs.commit_data(rows.shape, rows.features, rows.labels, stream.split(f"commitment {position}"))

    # ------------------------------------------------------------------------------------------ the database

    def _begin(self, connection: sqlite3.Connection, rows: OwnerRows, count: int, previous: int | None) -> _Begun:
        """Add a registration with a seed of its own, which is on the disk before it is counted."""
        (number,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM registration").fetchone()
        path = self._seed_path(number)
        with suppress(FileNotFoundError):
            path.unlink()  # of a call that ended before this number was given, so that nothing came of it
        _write_private(path, self._random(SEED_BYTES).hex().encode() + b"\n")
        file = hmac.digest(self._tag_key, rows.file, "sha256")
        begun = _Begun(number, rows.context, repr(rows.shape.fields()), count, previous, None)
        connection.execute(
            "INSERT INTO registration (id, file, context, shape, count, previous) VALUES (?, ?, ?, ?, ?, ?)",
            (number, file, begun.context, begun.shape, count, previous),
        )
        return begun

    def _latest(self, connection: sqlite3.Connection, rows: OwnerRows) -> _Begun | None:
        """Return the last registration of a file."""
        file = hmac.digest(self._tag_key, rows.file, "sha256")
        return _row(connection, "WHERE file = ? ORDER BY id DESC LIMIT 1", file)

    def _done(self, number: int) -> _Begun:
        with self._transaction() as connection:
            begun = _row(connection, "WHERE id = ?", number)
        if begun is None or begun.data_root is None:
            raise NoRegistrationError(f"{self._folder} holds no finished registration {number}", number=number)
        return begun

    def _tags(self, rows: OwnerRows) -> list[bytes]:
        """Return the keyed tag of each row.

        Raises:
            RepeatedRowsError: two rows have the same.
        """
        seen: dict[bytes, int] = {}
        repeats = []
        for identity, number in zip(rows.identities, rows.numbers, strict=True):
            tag = hmac.digest(self._tag_key, identity, "sha256")
            if tag in seen:
                repeats.append((number, seen[tag]))
            seen.setdefault(tag, number)
        if repeats:
            shown = _listed(f"row {number} repeats row {before}" for number, before in repeats)
            raise RepeatedRowsError(
                f"{rows.origin}: {shown}: the same features and label, expected each row once",
                repeats=tuple(repeats),
            )
        return list(seen)

    def _found(self) -> None:
        """Make the register's files; a folder that holds anything else is left alone.

        Raises:
            RegisterError: it does.
        """
        draft = self._folder / f"{DATABASE}.new"
        strangers = {path.name for path in self._folder.iterdir()} - {TAG_KEY, draft.name}
        if strangers:
            raise RegisterError(f"{self._folder} is no register: it holds {min(strangers)!a}", folder=self._folder)
        for path in (draft, self._folder / TAG_KEY):  # of a call that ended before there was a register
            with suppress(FileNotFoundError):
                path.unlink()
        _write_private(self._folder / TAG_KEY, self._random(SEED_BYTES).hex().encode() + b"\n")
        _write_private(draft, b"")
        connection = _connect(draft)
        try:
            connection.executescript(f"BEGIN;{_TABLES}COMMIT;")
            connection.execute("INSERT INTO register VALUES (?, ?)", (FORMAT, self._owner))
        finally:
            connection.close()
        draft.rename(self._folder / DATABASE)
        _sync_folder(self._folder)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("SELECT format, owner FROM register").fetchall()
        if len(found) != 1 or found[0][0] != FORMAT:
            raise RegisterError(f"{self._folder / DATABASE} is no register of format {FORMAT}", folder=self._folder)
        if found[0][1] != self._owner:
            raise OwnerError(
                f"{self._folder} is the register of 0x{bytes(found[0][1]).hex()}, the key is of 0x{self._owner.hex()}",
                folder=self._folder,
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Lock the register; what is written inside is on the disk when this ends, or not written at all."""
        connection = self._connection
        with _named_errors(self._folder / DATABASE):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def _seed_path(self, number: int) -> Path:
        return self._path(number, "registration", "seed")

    def _path(self, number: int, what: str, suffix: str) -> Path:
        return self._folder / f"{what}-{number:04d}.{suffix}"


# --- settings


def _check_count(count: int, least: int) -> None:
    if not least <= count <= COMMITMENTS_MAX:
        raise CommitmentCountError(
            f"{count} commitments are asked for, expected {least} to {COMMITMENTS_MAX}", count=count
        )


def _check_same(begun: _Begun, rows: OwnerRows, count: int) -> None:
    """Refuse to go on with a registration under other settings than it was begun with."""
    asked = (rows.context, repr(rows.shape.fields()), count)
    found = (begun.context, begun.shape, begun.count)
    for what, one, other in zip(("schema, labels or scaling", "shape", "commitments"), asked, found, strict=True):
        if one != other:
            raise OtherRegistrationError(
                f"registration {begun.number} of {rows.origin} was made with other {what}",
                number=begun.number,
                what=what,
            )


def _refuse_repeats(connection: sqlite3.Connection, rows: OwnerRows, tags: Sequence[bytes]) -> None:
    repeats = []
    for tag, number in zip(tags, rows.numbers, strict=True):
        found = connection.execute("SELECT number, registration FROM row_tag WHERE tag = ?", (tag,)).fetchone()
        if found is not None:
            repeats.append((number, *found))
    if repeats:
        shown = _listed(f"row {number} is row {before} of registration {of}" for number, before, of in repeats)
        raise RepeatedRowsError(
            f"{rows.origin}: {shown}: registered before, expected new rows",
            repeats=tuple((number, before) for number, before, _ in repeats),
        )


def _row(connection: sqlite3.Connection, where: str, *values: object) -> _Begun | None:
    query = f"SELECT id, context, shape, count, previous, data_root FROM registration {where}"  # noqa: S608 - ours
    found = connection.execute(query, values).fetchone()
    return None if found is None else _Begun(*found)


def _listed(items: Iterator[str]) -> str:
    texts = list(items)
    rest = len(texts) - REPEATS_SHOWN_MAX
    return "; ".join(texts[:REPEATS_SHOWN_MAX]) + (f"; and {rest} more" if rest > 0 else "")


# --- the disk


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose every COMMIT has reached the disk, file and folder."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        with _named_errors(path):
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Tell a disk that failed or a lock that was held from a file that is no register."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise WorldError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise RegisterError(f"{path}: {error}", path=path) from error


def _private_folder(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        folder.mkdir(mode=FOLDER_MODE, parents=True)
        folder.chmod(FOLDER_MODE)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RegisterModeError(
            f"{folder} has mode {stat.S_IMODE(status.st_mode):04o}, expected a folder of this user of mode "
            f"{FOLDER_MODE:04o}",
            path=folder,
        )


def _check_private(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RegisterModeError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, expected a file of this user of mode {FILE_MODE:04o}",
            path=path,
        )


def _write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, replacing one of the same name, and wait until it is on the disk."""
    draft = path.with_name(f".{path.name}.draft")
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync_folder(path.parent)


def _read_private(path: Path, bytes_max: int) -> bytes:
    try:
        _check_private(path)
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except FileNotFoundError as error:
        raise RegisterError(f"{path} is missing", path=path) from error
    if len(data) > bytes_max:
        raise RegisterError(f"{path} has more than {bytes_max} bytes", path=path)
    return data


def _read_secret(path: Path) -> bytes:
    data = _read_private(path, 2 * SEED_BYTES + 1)
    if re.fullmatch(rb"[0-9a-f]{%d}\n" % (2 * SEED_BYTES), data) is None:
        raise RegisterError(f"{path} does not hold {SEED_BYTES} bytes in hexadecimal", path=path)
    return bytes.fromhex(data.decode().strip())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, so that two processes do not both make a register."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
