"""Whether two lineage files say the same: byte for byte where that can be asked, record by record elsewhere."""

import os
from itertools import zip_longest
from pathlib import Path
from typing import Final, Literal

from collegium.lineage._errors import DifferentLineageError, MissingLineageError
from collegium.lineage._log import Lineage

_VERSION: Final = slice(96, 100)
"""Where an SQLite file holds the version of the library that wrote it (https://sqlite.org/fileformat2.html)."""


def same_database(path_a: str | os.PathLike[str], path_b: str | os.PathLike[str]) -> Literal["bytes", "records"]:
    """Return how two closed lineage files were found equal.

    `"bytes"`: the same version of SQLite wrote both, and they are equal byte for byte, counters in the header
    included. `"records"`: two versions wrote them, which may lay out pages differently, so all records were compared.

    Raises:
        MissingLineageError: there is no file at a path.
        NotALineageError: one of them is not a lineage.
        DifferentLineageError: they differ; `values` name the first differing record (`seq`), or, where all records
            are equal, the first differing byte (`offset`): a file that was not closed, or was touched afterwards.
    """
    files = []
    for path in (Path(path_a), Path(path_b)):
        if not path.is_file():
            raise MissingLineageError(f"no lineage at {path}", path=str(path))
        files.append(path.read_bytes())
    a, b = files
    _require_same_records(path_a, path_b)
    if a[_VERSION] != b[_VERSION]:
        return "records"
    if a != b:
        offset = next(i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y)
        message = f"the records are equal, but the files differ from byte {offset} on"
        raise DifferentLineageError(message, offset=offset)
    return "bytes"


def _require_same_records(path_a: str | os.PathLike[str], path_b: str | os.PathLike[str]) -> None:
    with Lineage(path_a, read_only=True) as a, Lineage(path_b, read_only=True) as b:
        for seq, (left, right) in enumerate(zip_longest(a.records(), b.records())):
            if left != right:
                raise DifferentLineageError(f"record {seq} differs", seq=seq)
