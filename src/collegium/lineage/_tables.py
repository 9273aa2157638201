"""The two tables of a lineage, and how a database that holds them is opened and laid out on disk."""

import functools
import os
import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, Table, Text, create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from collegium.lineage._errors import MissingLineageError, NotALineageError
from collegium.lineage._layout import blanked

PAGE_BYTES: Final = 4096
APPLICATION_ID: Final = int.from_bytes(b"CLin")
"""Tells `file` and SQLite what the file is (header bytes 68..71)."""
SEALED, OPEN = 1, 0
"""Values of SQLite's `user_version`: the file is in its canonical form, or was written to since."""

# What SQLite says of the machine rather than of a file: no permission, locked, no memory, no space, no such file, ...
_WORLD: Final = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})

_WHOLE = BigInteger().with_variant(Integer, "sqlite")  # SQLite's own INTEGER has 64 bits, and STRICT knows no other
_TABLES = MetaData()

LOG: Final = Table(
    "log",
    _TABLES,
    Column("seq", _WHOLE, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("round", _WHOLE, nullable=False),
    Column("digest", LargeBinary, nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("link", LargeBinary, nullable=False),
    sqlite_strict=True,
)
EDGE: Final = Table(
    "edge",
    _TABLES,
    Column("child_seq", _WHOLE, ForeignKey("log.seq"), primary_key=True, autoincrement=False),
    Column("parent_digest", LargeBinary, primary_key=True, index=True),
    Column("role", Text, primary_key=True),
    Column("weight", _WHOLE, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)


def open_engine(url_or_path: str | os.PathLike[str], *, read_only: bool) -> Engine:
    """Return an engine whose database holds exactly the tables of a lineage.

    A new database gets them, unless `read_only`. Nothing is trusted about an existing one: its tables must read word
    for word as ours do, so no view, trigger or loosely typed column of a stranger's file is ever touched.

    Raises:
        MissingLineageError: `read_only`, and there is no file.
        NotALineageError: the file is no database, or holds other tables.
    """
    url = _as_url(url_or_path)
    path = sqlite_path(url)
    if path is not None and read_only:
        if not path.is_file():
            raise MissingLineageError(f"no lineage at {path}", path=str(path))
        uri = "file:" + quote(str(path.resolve()))
        url = URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"})
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_reader if read_only else _configure_writer)
        event.listen(engine, "begin", _begin_read if read_only else _begin_write)
    try:
        with engine.begin() as connection:
            _require_tables(connection, create=not read_only)
    except OperationalError as error:
        engine.dispose()
        if is_world(error):
            raise
        raise NotALineageError(f"{url_or_path} is not a lineage: {error.orig}", path=str(url_or_path)) from error
    except (DatabaseError, UnicodeDecodeError) as error:
        engine.dispose()
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise NotALineageError(f"{url_or_path} is not a lineage: {reason}", path=str(url_or_path)) from error
    return engine


def is_world(error: OperationalError) -> bool:
    """Return whether an error is about the machine or a server, and not about what a file holds.

    Text that is no UTF-8 comes as an operational error, too, without a code, as Python found it and not SQLite.
    """
    if not isinstance(error.orig, sqlite3.Error):
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _WORLD


def sqlite_path(url_or_path: str | os.PathLike[str] | URL) -> Path | None:
    """Return the file behind a path or an SQLite URL; None for a database in memory or on a server."""
    url = url_or_path if isinstance(url_or_path, URL) else _as_url(url_or_path)
    named = url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:"
    return Path(str(url.database)) if named else None


def seal(path: Path) -> None:
    """Rewrite the SQLite file at `path` so that its bytes depend on its rows alone.

    The rows go, in order and in one transaction, into a new file that is then compacted and takes the old one's name.
    What a file otherwise remembers of its past (the number of transactions, freed pages, the order of splits) is
    gone, so the same records give the same file, whether they came in one run or with crashes in between. So is
    what `blanked` sets to zero: two versions of the library write the same file.
    """
    fresh = path.with_name(path.name + ".sealing")
    fresh.unlink(missing_ok=True)  # a crash may have left one
    engine = create_engine(URL.create("sqlite", database=str(fresh)))
    event.listen(engine, "connect", _configure_writer)
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH DATABASE ? AS old", (str(path),))
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _TABLES.create_all(connection)
        connection.exec_driver_sql("INSERT INTO log SELECT * FROM old.log ORDER BY seq")
        connection.exec_driver_sql("INSERT INTO edge SELECT * FROM old.edge ORDER BY child_seq, parent_digest, role")
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        mark(connection, SEALED)
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("DETACH DATABASE old")
        connection.exec_driver_sql("VACUUM")
    engine.dispose()
    fresh.write_bytes(blanked(fresh.read_bytes(), PAGE_BYTES))
    os.replace(fresh, path)


def is_sealed(connection: Connection) -> bool:
    """Return whether the SQLite file is in its canonical form."""
    return connection.exec_driver_sql("PRAGMA user_version").scalar() == SEALED


def mark(connection: Connection, state: int) -> None:
    """Write `SEALED` or `OPEN` into the file's header, as part of the running transaction."""
    connection.exec_driver_sql(f"PRAGMA user_version = {int(state)}")


def _as_url(url_or_path: str | os.PathLike[str]) -> URL:
    text = os.fspath(url_or_path)
    return make_url(text) if "://" in text else URL.create("sqlite", database=text)


def _configure_writer(connection: Any, _record: object) -> None:
    _configure_reader(connection, _record)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}").close()
    connection.execute("PRAGMA journal_mode = DELETE").close()
    connection.execute("PRAGMA secure_delete = ON").close()  # freed bytes are zeroed: they are no part of the log


def _configure_reader(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_read and _begin_write say
    connection.execute("PRAGMA trusted_schema = OFF").close()
    connection.execute("PRAGMA foreign_keys = ON").close()


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # one writer: the tip that is read is the tip that is extended


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _require_tables(connection: Connection, *, create: bool) -> None:
    if connection.dialect.name != "sqlite":
        if create:
            _TABLES.create_all(connection)
        return
    found = _schema(connection)
    if not found and create:
        _TABLES.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        return
    if found != _own_schema():
        names = sorted(str(row[1]) for row in found)
        raise NotALineageError(f"the database's tables are not those of a lineage: {names}", names=names)


def _schema(connection: Connection) -> frozenset[tuple[object, ...]]:
    rows = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return frozenset(tuple(row) for row in rows)


@functools.cache
def _own_schema() -> frozenset[tuple[object, ...]]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        _TABLES.create_all(connection)
        schema = _schema(connection)
    engine.dispose()
    return schema
