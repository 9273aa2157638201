"""A trainer's rows, or the evaluator's test rows, in a file of their own: what a process of one party reads.

The file is CSV: the feature columns in their order, then the label as 0 or 1. Rows keep their order, for a batch is
drawn by a row's place; so training from the file is, bit for bit, training from the split that it was written from.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from collegium import learning
from collegium.learning import Rows, TrainerRows

from ._events import WorldError

__all__ = ["read_rows", "read_trainer_rows", "rows_to_bytes", "write_rows"]

LABELS = ("0", "1")


def write_rows(path: Path, rows: Rows, label: str) -> None:
    """Write rows into a new file that nobody else may read.

    Args:
        label: the name of the label's column, which no feature column has.

    Raises:
        WorldError: there is a file already, or the disk refuses.
    """
    data = rows_to_bytes(rows, label)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorldError(f"{path}: rows cannot be written: {error.strerror}") from error


def rows_to_bytes(rows: Rows, label: str) -> bytes:
    """Return rows as the bytes of their file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow([*rows.table.columns, label])
    for cells, kind in zip(zip(*rows.table.cells, strict=True), rows.labels.tolist(), strict=True):
        writer.writerow([*cells, LABELS[kind]])
    return text.getvalue().encode()


def read_rows(path: Path, label: str) -> Rows:
    """Return the rows of a file that `write_rows` wrote, or that says the same.

    Raises:
        CollegiumError: the file is missing or no table, or a label is neither 0 nor 1.
    """
    rows, _ = learning.labelled_rows(learning.load_table(path), label=label, positive=(LABELS[1],), negative=LABELS[:1])
    return rows


def read_trainer_rows(path: Path, name: str, label: str) -> TrainerRows:
    """Return the rows of the trainer with this name, which begins with its site's; see `read_rows`."""
    return TrainerRows(name.rsplit("/", 1)[0], name, read_rows(path, label))
