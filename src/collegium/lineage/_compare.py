"""Whether two lineage files say the same: byte for byte where that can be asked, record by record elsewhere."""

import os
import tempfile
from functools import cache
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Final, Literal

from sqlalchemy.exc import SQLAlchemyError

from collegium.crypto import Digest, hash_fields
from collegium.lineage._errors import DifferentLineageError, MissingLineageError, NotALineageError
from collegium.lineage._log import Lineage

STANDARD_LAYOUT: Final = "cc4f11060cd2b0a3ed10058dc53a5584c7d10456016d82fbc3d28469da7eb9fa"
"""SHA-256 of the sealed file of `_write_reference`, as SQLite 3.37 and later lay it out."""
REFERENCE_RECORDS: Final = 400  # so many that pages split, in tables and indices


def same_database(path_a: str | os.PathLike[str], path_b: str | os.PathLike[str]) -> Literal["bytes", "records"]:
    """Return how two closed lineage files were found equal.

    `"bytes"`: they are equal byte for byte. That is asked of every pair, unless this machine's SQLite lays out pages in
    another way than the standard one, which a file of known records shows; then all records are compared instead, and
    the answer is `"records"`: what else the files hold was not looked at.

    Raises:
        MissingLineageError: there is no file at a path.
        NotALineageError: they differ, and one of them is not a lineage.
        DifferentLineageError: they differ; `values` name the first differing record (`seq`), or, where all records
            are equal, the first differing byte (`offset`): a file that was not closed, or was touched afterwards.
    """
    files = []
    for path in (Path(path_a), Path(path_b)):
        if not path.is_file():
            raise MissingLineageError(f"no lineage at {path}", path=str(path))
        files.append(path.read_bytes())
    a, b = files
    if a == b:
        return "bytes"
    _require_same_records(a, b)
    if not lays_out_as_standard():
        return "records"
    offset = next(i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y)
    raise DifferentLineageError(f"the records are equal, but the files differ from byte {offset} on", offset=offset)


@cache
def lays_out_as_standard() -> bool:
    """Return whether this machine's SQLite writes known records as the bytes that are expected everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.db"
        _write_reference(path)
        return sha256(path.read_bytes()).hexdigest() == STANDARD_LAYOUT


def _write_reference(path: Path) -> None:
    digests = [hash_fields("lineage-reference", number) for number in range(REFERENCE_RECORDS)]
    with Lineage(path) as lineage, lineage.atomic():
        for number, digest in enumerate(digests):
            parents: list[tuple[Digest, str, int]] = [(digests[p], "report", p) for p in range(number // 2, number, 9)]
            lineage.record("sum", number, digest, "x" * (number % 200), parents, {"number": number})


def _require_same_records(data_a: bytes, data_b: bytes) -> None:
    """Compare the records of two files, in copies: SQLite may leave files beside a stranger's database."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "a.db"), Path(folder, "b.db")
        for path, data in zip(paths, (data_a, data_b), strict=True):
            path.write_bytes(data)
        try:
            with Lineage(paths[0], read_only=True) as a, Lineage(paths[1], read_only=True) as b:
                for seq, (left, right) in enumerate(zip_longest(a.records(), b.records())):
                    if left != right:
                        raise DifferentLineageError(f"record {seq} differs", seq=seq)
        except SQLAlchemyError as error:  # nobody else has these copies: what SQLite cannot do with them is their doing
            raise NotALineageError(f"the lineage cannot be read: {error}") from error
