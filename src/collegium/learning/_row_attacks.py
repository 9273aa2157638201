"""What trainers that lie may do to their own rows before anybody proves anything about them.

A proof says that an update is what the rule gives on the rows that were registered, and nothing of where the rows come
from: these attacks are there at every level. docs/guide/attacks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from collegium.learning._attacks import flip_labels
from collegium.learning._schema import CategoryColumn, NumericColumn, Schema
from collegium.learning._split import Rows
from collegium.learning._table import Table

__all__ = ["ROW_ATTACKS", "RowAttackKind", "spoil_rows"]

RowAttackKind: TypeAlias = Literal["label_flip", "random_labels", "noise_rows", "made_up_rows"]
ROW_ATTACKS: Final[tuple[RowAttackKind, ...]] = get_args(RowAttackKind)

_CLASSES: Final = 2


def spoil_rows(kind: RowAttackKind, rows: Rows, schema: Schema, generator: np.random.Generator) -> Rows:
    """Return as many rows as there were, spoiled: other labels, other cells within the public schema, or both."""
    return _SPOILERS[kind](rows, schema, generator)


def _label_flip(rows: Rows, schema: Schema, generator: np.random.Generator) -> Rows:
    return Rows(rows.table, flip_labels(rows.labels, _CLASSES))


def _random_labels(rows: Rows, schema: Schema, generator: np.random.Generator) -> Rows:
    return Rows(rows.table, generator.integers(0, _CLASSES, len(rows)).astype(np.int64))


def _noise_rows(rows: Rows, schema: Schema, generator: np.random.Generator) -> Rows:
    """Every cell that becomes a feature drawn anew from its public range, under the labels that were there."""
    drawn = {column.name: column for column in schema.columns}
    cells = tuple(
        _cells(drawn[name], len(rows), generator) if name in drawn else column
        for name, column in zip(rows.table.columns, rows.table.cells, strict=True)
    )
    return Rows(Table(rows.table.columns, cells, rows.table.origin, rows.table.numbers), rows.labels)


def _made_up_rows(rows: Rows, schema: Schema, generator: np.random.Generator) -> Rows:
    """Cells and labels drawn without a look at any data: who has none, and wants to be paid."""
    return _random_labels(_noise_rows(rows, schema, generator), schema, generator)


def _cells(column: NumericColumn | CategoryColumn, count: int, generator: np.random.Generator) -> tuple[str, ...]:
    if isinstance(column, NumericColumn):
        return tuple(f"{value:.6g}" for value in generator.uniform(column.lower, column.upper, count))
    values = column.values
    return tuple(values[index] for index in generator.integers(0, len(values), count))


_SPOILERS: Final[dict[RowAttackKind, Callable[[Rows, Schema, np.random.Generator], Rows]]] = {
    "label_flip": _label_flip,
    "random_labels": _random_labels,
    "noise_rows": _noise_rows,
    "made_up_rows": _made_up_rows,
}
