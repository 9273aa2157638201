"""From what a notebook holds (data frames, files, arrays) to one checked table, or to arrays for a module.

Everything is refused before anything runs, and by name: the message says which trainer's data it is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from collegium.errors import CollegiumError
from collegium.learning import Table, load_table, table_from_columns

__all__ = [
    "PAIR_LABEL",
    "ColumnsDifferError",
    "FederationDataError",
    "LabelError",
    "LabelValuesError",
    "NoLabelError",
    "NotNumbersError",
    "TooFewRowsError",
    "TooFewTrainersError",
    "TrainerNameError",
    "UnreadableDataError",
    "arrays_of",
    "cells",
    "check_trainers",
    "label_sides",
    "pooled_table",
    "table_of",
]

NAME_LENGTH_MAX: Final = 64
PAIR_LABEL: Final = "label"  # what the labels of a pair are called where nobody says
YES: Final = {frozenset({"0", "1"}): "1", frozenset({"FALSE", "TRUE"}): "TRUE", frozenset({"no", "yes"}): "yes"}

Array = npt.NDArray[Any]


class FederationDataError(CollegiumError):
    """The data of a federation were refused before anything ran."""


class TooFewTrainersError(FederationDataError):
    """There are fewer trainers than a sum must add."""


class TrainerNameError(FederationDataError):
    """A trainer's name is no short printable text."""


class UnreadableDataError(FederationDataError):
    """A trainer's data are neither a file, nor columns, nor a pair of arrays."""


class NoLabelError(FederationDataError):
    """The label is no column of a trainer's data, or none was named."""


class LabelError(FederationDataError):
    """A trainer has rows without a label."""


class LabelValuesError(FederationDataError):
    """The label's values do not say which of two sides a row is on."""


class ColumnsDifferError(FederationDataError):
    """Two trainers' data have different columns."""


class TooFewRowsError(FederationDataError):
    """A trainer has too few rows to train and to test on."""


class NotNumbersError(FederationDataError):
    """A module needs finite numbers, and a trainer's data hold something else."""


def check_trainers(data: object, minimum: int) -> dict[str, Any]:
    """Return the trainers' data by name.

    Raises:
        UnreadableDataError: `data` is no mapping.
        TooFewTrainersError: it names fewer than `minimum`.
        TrainerNameError: a name is not 1 to 64 printable characters, or begins or ends with a space.
    """
    if not isinstance(data, Mapping) or hasattr(data, "columns"):
        raise UnreadableDataError(
            f"data is a {type(data).__name__}, expected a mapping such as {{'north': frame, 'south': frame, ...}}"
        )
    if len(data) < minimum:
        raise TooFewTrainersError(
            f"{len(data)} trainers, expected at least {minimum}: fewer do not hide each other in a sum",
            trainers=len(data),
            minimum=minimum,
        )
    for name in data:
        if (
            not isinstance(name, str)
            or not 1 <= len(name) <= NAME_LENGTH_MAX
            or not name.isprintable()
            or name != name.strip()
        ):
            raise TrainerNameError(
                f"a trainer is called {name!r}, expected 1 to {NAME_LENGTH_MAX} printable characters", name=name
            )
    return dict(data)


def table_of(name: str, data: object, label: str | None = None) -> Table:
    """Return one trainer's data as a table.

    Args:
        name: the trainer, for messages.
        data: a path, anything with named columns, a structured array, a 2-D array, or a pair (inputs, labels).
        label: what to call the labels of a pair.

    Raises:
        UnreadableDataError: it is nothing of the kind.
        DataError: a file or a column cannot be read.
    """
    if isinstance(data, str | Path):
        return load_table(data)
    if isinstance(data, Table):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        inputs, labels = (_array(part) for part in data)
        if inputs.ndim != 2 or labels.ndim != 1 or len(inputs) != len(labels):
            raise UnreadableDataError(
                f"{name}: inputs of shape {inputs.shape} and labels of shape {labels.shape}, expected (rows, columns) "
                "and (rows,)"
            )
        return table_from_columns(_numbered(inputs) | {label or PAIR_LABEL: labels}, name)
    columns = _columns(data)
    if columns is None:
        raise UnreadableDataError(
            f"{name}: a {type(data).__name__}, expected a path, a data frame, a mapping of columns, or a pair "
            "(inputs, labels)",
            trainer=name,
        )
    return table_from_columns(columns, name)


def _columns(data: object) -> dict[str, Any] | None:
    """Return the columns of whatever has some, by name; None where it has none."""
    if isinstance(data, Mapping):
        return {str(column): values for column, values in data.items()}
    if isinstance(data, np.ndarray):
        if data.dtype.names is not None:
            return {column: data[column] for column in data.dtype.names}
        return _numbered(data) if data.ndim == 2 else None
    names = getattr(data, "column_names", None)  # Arrow, whose `columns` are not names
    names = getattr(data, "columns", None) if names is None else names
    if names is None or not hasattr(data, "__getitem__"):
        return None
    return {str(column): data[column] for column in names}


def _numbered(inputs: Array) -> dict[str, Any]:
    return {f"x{index}": inputs[:, index] for index in range(inputs.shape[1])}


def _array(part: object) -> Array:
    """Return an array of whatever is like one: NumPy, Torch, a data frame, nested lists."""
    detach = getattr(part, "detach", None)
    part = part if detach is None else detach().cpu().numpy()
    return np.asarray(part)


def cells(values: Sequence[object]) -> tuple[str, ...]:
    """Return values as the texts that a table's cells hold."""
    return table_from_columns({"values": values}).column("values")


def pooled_table(tables: Mapping[str, Table], label: str | None) -> tuple[Table, str, str]:
    """Return all trainers' rows in one table, the name of its column that names the trainer, and the label's.

    Raises:
        NoLabelError: no label is named, or a trainer has no such column.
        ColumnsDifferError: a trainer has other columns than the first.
        LabelError: a row has no label.
    """
    if label is None:
        raise NoLabelError("no label is named, expected a column of every trainer's data: label=", label=label)
    first_name, first = next(iter(tables.items()))
    for name, table in tables.items():
        if label not in table.columns:
            raise NoLabelError(
                f"{name}: label is {label!r}, expected one of its columns: {_listed(table.columns)}", label=label
            )
        missing = [column for column in first.columns if column not in table.columns]
        more = [column for column in table.columns if column not in first.columns]
        if missing or more:
            raise ColumnsDifferError(
                f"{name}: lacks {_listed(missing) or 'nothing'} and adds {_listed(more) or 'nothing'}, expected the "
                f"columns of {first_name}",
                trainer=name,
                missing=tuple(missing),
                more=tuple(more),
            )
        empty = [row for row, cell in enumerate(table.column(label)) if cell in ("", "nan", "NaN")]
        if empty:
            raise LabelError(
                f"{name}: row {table.row_number(empty[0])} has no label in column {label!r}, nor have "
                f"{len(empty) - 1} others; expected one in every row",
                trainer=name,
                rows=len(empty),
            )
    site = "trainer"
    while site in first.columns:
        site += "_"
    names = tuple(name for name, table in tables.items() for _ in range(table.row_count))
    joined = [tuple(cell for table in tables.values() for cell in table.column(column)) for column in first.columns]
    return Table((site, *first.columns), (names, *joined), "the trainers' data"), site, label


def label_sides(table: Table, label: str, positive: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the label's texts that mean yes, and all others.

    Args:
        table: of all trainers.
        label: its column.
        positive: what means yes: a value or a list of values; None where 0 and 1, False and True, or no and yes say it.

    Raises:
        LabelValuesError: `positive` is needed and not given, or names no value that occurs.
    """
    found = sorted(set(table.column(label)))
    if positive is None:
        yes = YES.get(frozenset(found))
        if yes is None:
            raise LabelValuesError(
                f"column {label!r} holds {_listed(found)}, expected 0 and 1, False and True or no and yes; else say "
                "which mean yes with positive=",
                label=label,
                found=tuple(found),
            )
        positive = [yes]
    several = isinstance(positive, list | tuple | set | frozenset | range)
    sides = cells(list(positive) if several else [positive])  # type: ignore[call-overload]
    unknown = [value for value in sides if value not in found]
    others = tuple(value for value in found if value not in sides)
    if unknown or not others:
        raise LabelValuesError(
            f"positive is {_listed(sides)}, expected some but not all of what column {label!r} holds: {_listed(found)}",
            label=label,
            found=tuple(found),
        )
    return tuple(dict.fromkeys(sides)), others


def arrays_of(name: str, data: object, label: str | None) -> tuple[Array, Array]:
    """Return one trainer's inputs and targets for a module, first axis rows, finite numbers all.

    Args:
        name: the trainer, for messages.
        data: a pair (inputs, targets) of any shape, or a table, whose columns but the label are the inputs.
        label: the target's column of a table.

    Raises:
        NotNumbersError: something is not a finite number.
        NoLabelError: a table has no such column.
        UnreadableDataError: inputs and targets are not equally many, or the data are nothing of the kind.
    """
    if isinstance(data, tuple) and len(data) == 2:
        inputs, targets = _array(data[0]), _array(data[1])
    else:
        table = table_of(name, data)
        if label is None or label not in table.columns:
            raise NoLabelError(
                f"{name}: label is {label!r}, expected one of its columns: {_listed(table.columns)}", label=label
            )
        inputs, targets = inputs_of(name, table, label), _numbers(name, label, table.column(label))
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets):
        raise UnreadableDataError(
            f"{name}: inputs of shape {inputs.shape} and targets of shape {targets.shape}, expected equally many rows"
        )
    return _finite(name, "inputs", inputs), _finite(name, "targets", targets)


def inputs_of(name: str, data: object, label: str | None) -> Array:
    """Return rows without targets for a module: an array as it is, or a table's columns but the label's.

    Raises:
        NotNumbersError: something is not a finite number.
        UnreadableDataError: it is nothing of the kind.
    """
    if not isinstance(data, Table) and (hasattr(data, "detach") or _is_plain(data)):
        return _finite(name, "inputs", _array(data))
    table = table_of(name, data)
    columns = [_numbers(name, column, table.column(column)) for column in table.columns if column != label]
    if not columns:
        raise UnreadableDataError(f"{name}: no column beside {label!r}, expected inputs")
    return _finite(name, "inputs", np.stack(columns, axis=1).astype(np.float32))


def _is_plain(data: object) -> bool:
    return isinstance(data, np.ndarray) and data.dtype.names is None


def _finite(name: str, what: str, array: Array) -> Array:
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise NotNumbersError(
            f"{name}: {what} of type {array.dtype} hold something that is no finite number; fill or drop it",
            trainer=name,
        )
    return array


def _numbers(name: str, column: str, texts: Sequence[str]) -> Array:
    words = {"FALSE": "0", "TRUE": "1"}
    try:
        return np.array([float(words.get(text, text)) for text in texts])
    except ValueError as error:
        raise NotNumbersError(
            f"{name}: column {column!r} holds {next(t for t in texts if not _is_number(t))!r}, expected numbers: a "
            "module takes a table's cells as they are",
            trainer=name,
            column=column,
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
