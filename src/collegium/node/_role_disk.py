"""The database in which a trainer or a steward keeps what it signed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from collegium.errors import CollegiumError

from ._events import WorldError

__all__ = ["open_database"]


def open_database(
    folder: Path, name: str, tables: str, whose: str, error_type: type[CollegiumError]
) -> sqlite3.Connection:
    """Open the database of one process at a time in a folder, or begin one; every statement is on disk when it returns.

    Args:
        tables: the statements that make them where they are not there.
        whose: the role, as an error says it.
        error_type: of what stands there and is no database, or is another process's.

    Raises:
        WorldError: the disk refuses.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(tables)
    except OSError as error:
        raise WorldError(f"{folder}: {error.strerror}; expected a folder for the {whose}'s journal") from error
    except sqlite3.OperationalError as error:
        raise error_type(f"{folder / name}: {error}; does another process use it?") from error
    except sqlite3.DatabaseError as error:
        raise error_type(f"{folder / name} is no journal: {error}") from error
    return database
