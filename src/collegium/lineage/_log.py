"""The log itself: append, read back, re-check, and write to disk in one canonical form."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Row, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, OperationalError

from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.lineage._errors import BrokenRecordError, NotALineageError, UnknownParentError, WrongTipError
from collegium.lineage._prov import prov_document
from collegium.lineage._record import FIRST_LINK, Parent, Record, encode_attributes, link_after, validate
from collegium.lineage._tables import EDGE, LOG, OPEN, is_sealed, is_world, mark, open_engine, seal, sqlite_path
from collegium.lineage._trace import Carried, Contribution, Influence, ancestors, carried, erasure, influence

_LOOKUP_MAX: Final = 500
"""Digests asked for in one query; databases limit the number of parameters."""


class Lineage:
    """An append-only log of what was made from what, each record linked by hash to the one before.

    Args:
        url_or_path: an SQLite file, made when missing, or a URL of SQLAlchemy.
        read_only: open what is there and change nothing, not even on `close`.

    Raises:
        MissingLineageError: `read_only`, and there is no such file.
        NotALineageError: what is there is not a lineage.

    One object is for one thread. Close it, or use it in `with`: closing brings the file into the form that depends on
    its records alone.
    """

    def __init__(self, url_or_path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._engine = open_engine(url_or_path, read_only=read_only)
        self._path = None if read_only else sqlite_path(url_or_path)
        self._transaction: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back; a file that was written to is sealed first (`same_database`)."""
        unsealed = False
        if self._path is not None and self._path.is_file():
            with self._engine.connect() as connection:
                unsealed = not is_sealed(connection)
        self._engine.dispose()
        if self._path is not None and unsealed:
            seal(self._path)

    # Write

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Make all records of the block one transaction: a round is in the log whole or not at all."""
        if self._transaction is not None:
            yield
            return
        with self._engine.begin() as connection:
            self._transaction = connection
            try:
                yield
            finally:
                self._transaction = None

    def record(
        self,
        kind: str,
        round_number: int,
        digest: Digest,
        subject: str,
        parents: Sequence[tuple[Digest, str, int]] = (),
        attributes: Mapping[str, str | int] | None = None,
    ) -> Digest:
        """Append one record and return its link.

        Args:
            kind: one of `KINDS`.
            round_number: the training round, from 0.
            digest: the object the record is about.
            subject: whose or what the object is; at most 256 bytes.
            parents: (digest, role, weight) in any order; each digest must be of an earlier record.
            attributes: further facts, as text or integers.

        Raises:
            MalformedDigestError: a digest is not 32 bytes.
            MalformedRecordError: a field is out of bounds, or a parent is named twice in one role.
            UnknownParentError: a parent was not recorded before.
        """
        edges = tuple(sorted(Parent(*parent) for parent in parents))
        text = encode_attributes(attributes or {})
        with self.atomic():
            connection = self._writing()
            seq, previous = _end(connection)
            record = Record(seq, kind, round_number, digest, subject, edges, text, FIRST_LINK)
            validate(record)
            _require_known(connection, {edge.digest for edge in edges})
            record = replace(record, link=link_after(previous, record))
            _append(connection, record)
        return record.link

    # Read

    def records(self) -> tuple[Record, ...]:
        """Return all records in order, as the database holds them: unchecked, see `verify`.

        Raises:
            NotALineageError: the database is damaged.
        """
        with self._reading() as connection:
            edges = _edges(connection)
            return tuple(_record(row, edges.get(row.seq, [])) for row in connection.execute(_IN_ORDER))

    def tip(self) -> Digest:
        """Return the last link; 32 zero bytes for an empty log."""
        with self._reading() as connection:
            return _end(connection)[1]

    def dump(self) -> bytes:
        """Return all rows as canonical bytes, one line of JSON a record; equal logs give equal bytes anywhere."""
        return b"".join(record.line() for record in self.records())

    def models(self) -> tuple[Record, ...]:
        """Return the records of all model versions, in order."""
        return tuple(record for record in self.records() if record.kind == "model")

    def ancestors(self, model: Digest) -> tuple[Contribution, ...]:
        """Return every report that a model version descends from; see `Contribution`.

        Raises:
            UnknownModelError: there is no such model version.
        """
        return ancestors(self.records(), model)

    def influence(self, model: Digest) -> tuple[Influence, ...]:
        """Return rounds and total weight of each trainer in a model version.

        Raises:
            UnknownModelError: there is no such model version.
        """
        return influence(self.records(), model)

    def erasure(self, dataset: Digest) -> tuple[Record, ...]:
        """Return the model versions that carry weight from a dataset: what a withdrawal of consent touches.

        Raises:
            UnknownDatasetError: there is no such dataset.
        """
        return erasure(self.records(), dataset)

    def carried(self, datasets: Sequence[Digest]) -> tuple[Carried, ...]:
        """Return the model versions that carry weight from any of these datasets, and how much of all of theirs.

        Raises:
            UnknownDatasetError: no record of kind `dataset` has one of these digests.
        """
        return carried(self.records(), datasets)

    def prov(self, model: Digest) -> str:
        """Return PROV-JSON of a model version and all that it descends from; see `prov_document`.

        Raises:
            UnknownModelError: there is no such model version.
        """
        return prov_document(self.records(), model)

    # Check

    def verify(self, tip: Digest | None = None) -> Digest:
        """Recompute every link from the first record on, and return the last one.

        Args:
            tip: the last link when it is known from elsewhere. Without it, a log cut off at its end still verifies.

        Raises:
            NotALineageError: the database is damaged.
            BrokenRecordError: a record is out of sequence or bounds, names an unknown parent, or has another link
                than its content gives; `values["seq"]` says which is the first.
            WrongTipError: the log is sound but ends elsewhere than in `tip`.
        """
        link, known = FIRST_LINK, set[Digest]()
        with self._reading() as connection:
            _quick_check(connection)
            edges = _edges(connection)
            for expected, row in enumerate(connection.execute(_IN_ORDER)):
                record = _record(row, edges.pop(row.seq, []))
                link = _follow(expected, link, known, record)
                known.add(record.digest)
        if edges:
            raise BrokenRecordError(f"edges of record {min(edges)}, which is not in the log", seq=min(edges))
        if tip is not None and link != tip:
            raise WrongTipError(f"the log ends in {link.hex()}, expected {tip.hex()}", found=link, expected=tip)
        return link

    def _writing(self) -> Connection:
        if self._transaction is None:
            raise RuntimeError("a record is written only inside atomic()")  # our bug, not the caller's
        return self._transaction

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            if self._transaction is not None:
                yield self._transaction
                return
            with self._engine.connect() as connection:
                yield connection
        except OperationalError as error:
            if is_world(error):  # locked or unreachable
                raise
            raise NotALineageError(f"the lineage cannot be read: {error.orig}") from error
        except (DatabaseError, UnicodeDecodeError, TypeError) as error:
            raise NotALineageError(f"the lineage cannot be read: {error}") from error


_IN_ORDER: Final = select(LOG).order_by(LOG.c.seq)


def _follow(expected: int, link: Digest, known: set[Digest], record: Record) -> Digest:
    """Return the link of `record`, which must be number `expected` and follow `link`."""
    seq = min(expected, record.seq)
    if record.seq != expected:
        raise BrokenRecordError(f"record {record.seq} stands where {expected} should", seq=seq)
    try:
        validate(record)
    except CollegiumError as error:
        raise BrokenRecordError(f"record {seq}: {error}", seq=seq) from error
    unknown = [parent for parent in record.parents if parent.digest not in known]
    if unknown:
        message = f"record {seq} names the parent {unknown[0].digest.hex()}, which no earlier record has"
        raise BrokenRecordError(message, seq=seq)
    found = link_after(link, record)
    if found != record.link:
        message = f"record {seq} has the link {record.link.hex()}; its content gives {found.hex()}"
        raise BrokenRecordError(message, seq=seq)
    return found


def _end(connection: Connection) -> tuple[int, Digest]:
    """Return the number of the next record and the link before it."""
    row = connection.execute(select(LOG.c.seq, LOG.c.link).order_by(LOG.c.seq.desc()).limit(1)).first()
    return (0, FIRST_LINK) if row is None else (row.seq + 1, bytes(row.link))


def _require_known(connection: Connection, digests: set[Digest]) -> None:
    wanted = sorted(digests)
    for start in range(0, len(wanted), _LOOKUP_MAX):
        some = wanted[start : start + _LOOKUP_MAX]
        found = {bytes(row.digest) for row in connection.execute(select(LOG.c.digest).where(LOG.c.digest.in_(some)))}
        for digest in some:
            if digest not in found:
                raise UnknownParentError(f"parent {digest.hex()} was not recorded before", digest=digest)


def _append(connection: Connection, record: Record) -> None:
    if connection.dialect.name == "sqlite":
        mark(connection, OPEN)
    row = {
        "seq": record.seq,
        "kind": record.kind,
        "round": record.round_number,
        "digest": record.digest,
        "subject": record.subject,
        "attributes": record.attributes,
        "link": record.link,
    }
    connection.execute(insert(LOG), row)
    if record.parents:
        edges = [
            {"child_seq": record.seq, "parent_digest": parent.digest, "role": parent.role, "weight": parent.weight}
            for parent in record.parents
        ]
        connection.execute(insert(EDGE), edges)


def _edges(connection: Connection) -> dict[int, list[Parent]]:
    """Return the parents of every record by its number, in canonical order whatever the database sorts by."""
    edges: dict[int, list[Parent]] = {}
    for row in connection.execute(select(EDGE).order_by(EDGE.c.child_seq)):
        edges.setdefault(row.child_seq, []).append(Parent(_blob(row.parent_digest), row.role, row.weight))
    for parents in edges.values():
        parents.sort()
    return edges


def _record(row: Row[*tuple[Any, ...]], parents: list[Parent]) -> Record:
    digest, link = _blob(row.digest), _blob(row.link)
    return Record(row.seq, row.kind, row.round, digest, row.subject, tuple(parents), row.attributes, link)


def _blob(value: object) -> bytes:
    """Return the bytes of a cell. In a damaged file it may hold anything, and `bytes` of a number are so many zeros."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a cell holds {type(value).__name__}, expected bytes")
    return bytes(value)


def _quick_check(connection: Connection) -> None:
    """Let SQLite look for damaged pages and values of a wrong type before any is decoded."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise NotALineageError(f"the database is damaged: {found}", found=str(found))
