"""The public schema: which columns become features, with which ranges and vocabularies.

A schema is part of the task. Every trainer turns its rows into features by the schema and the public scaling alone,
so no trainer's own minimum, maximum or vocabulary shows.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collegium.learning._errors import (
    EmptyColumnError,
    MissingColumnError,
    NotANumberError,
    NotFiniteError,
    SchemaError,
    TooManyCategoriesError,
    UnknownCategoryError,
    shown,
)
from collegium.learning._table import TABLE_COLUMNS_MAX, Table

CATEGORIES_MAX = 64
NUMERIC_DISTINCT_MIN = 11
SCHEMA_BYTES_MAX = 1 << 20
BOUND_MAX = 1e100
MISSING_TOKENS = ("?", "NA", "N/A", "NaN", "nan", "null")

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAN = re.compile(r"[+-]?nan", re.IGNORECASE)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """A column of numbers.

    Attributes:
        name: the column.
        lower, upper: the public clip range, finite, lower < upper.
        missing: cells that stand for "no value" beside the empty cell and NaN; numbers match by value.
    """

    name: str
    lower: float
    upper: float
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_texts(self.name, (self.name, *self.missing))
        if not (-BOUND_MAX <= self.lower < self.upper <= BOUND_MAX):
            raise SchemaError(
                f"column {shown(self.name)}: range {self.lower} to {self.upper}, expected finite lower < upper",
                column=self.name,
            )

    def parse(self, table: Table) -> list[float | None]:
        """Returns the table's cells in this column as numbers, None where missing.

        Raises:
            MissingColumnError: the table has no such column.
            NotANumberError, NotFiniteError: naming the first such row.
        """
        numbers = {float(token) for token in self.missing if _NUMBER.fullmatch(token)}
        tokens = {"", *self.missing}
        values: list[float | None] = []
        for row, cell in enumerate(table.column(self.name)):
            value = None if cell in tokens else _number(table, self.name, row, cell)
            values.append(None if value in numbers else value)
        return values


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of categories.

    Attributes:
        name: the column.
        values: the public vocabulary, 1 to 64 distinct values, in feature order.
        missing: cells that stand for "no value" beside the empty cell.
    """

    name: str
    values: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_texts(self.name, (self.name, *self.values, *self.missing))
        if len(self.values) > CATEGORIES_MAX:
            raise TooManyCategoriesError(
                f"column {shown(self.name)}: {len(self.values)} categories, expected at most {CATEGORIES_MAX}",
                column=self.name,
                count=len(self.values),
            )
        if not self.values or len({*self.values, *self.missing}) != len(self.values) + len(self.missing):
            raise SchemaError(
                f"column {shown(self.name)}: expected at least one category, and none twice or also missing",
                column=self.name,
            )

    def parse(self, table: Table) -> list[int | None]:
        """Returns the table's cells in this column as indices into the vocabulary, None where missing.

        Raises:
            MissingColumnError: the table has no such column.
            UnknownCategoryError: naming the first such row.
        """
        index: dict[str, int | None] = {value: position for position, value in enumerate(self.values)}
        index |= dict.fromkeys(("", *self.missing))
        cells = table.column(self.name)
        for row, cell in enumerate(cells):
            if cell not in index:
                raise UnknownCategoryError(
                    f"{_place(table, self.name, row)}: category {shown(cell)} is not in the schema, "
                    f"expected one of {', '.join(self.values)}",
                    column=self.name,
                    row=table.row_number(row),
                )
        return [index[cell] for cell in cells]


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns that become features, in feature order; names are distinct."""

    columns: tuple[NumericColumn | CategoryColumn, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= TABLE_COLUMNS_MAX:
            raise SchemaError(f"a schema has {len(self.columns)} columns, expected 1 to {TABLE_COLUMNS_MAX}")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise SchemaError(f"a schema names a column twice, expected distinct names: {', '.join(names)}")

    @property
    def numeric(self) -> tuple[NumericColumn, ...]:
        """The numeric columns, in order."""
        return tuple(column for column in self.columns if isinstance(column, NumericColumn))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature: the column's, or `column=value` for each category."""
        names: list[str] = []
        for column in self.columns:
            if isinstance(column, NumericColumn):
                names.append(column.name)
            else:
                names += [f"{column.name}={value}" for value in column.values]
        return tuple(names)


def infer_schema(table: Table, skip: Iterable[str] = ()) -> Schema:
    """Returns a schema that fits the table: for trials, where one party holds the whole table.

    A column is numeric if all its values are finite numbers and more than 10 of them differ; its range is from the
    least to the largest. Otherwise its values, sorted, are the categories. In a real task the range and the
    vocabulary must come from public knowledge, for they say something about the data.

    Args:
        table: the whole table.
        skip: columns that are no features: site, label, identifiers.

    Raises:
        MissingColumnError: a column of `skip` does not exist.
        EmptyColumnError: a column has no value.
        TooManyCategoriesError: a column is not numeric and has more than 64 values.
        NotFiniteError: a cell is infinite.
    """
    skipped = list(skip)
    for name in skipped:
        table.column(name)
    return Schema(tuple(_infer_column(table, name) for name in table.columns if name not in skipped))


def schema_to_mapping(schema: Schema) -> dict[str, Any]:
    """Returns plain values as for a TOML section: {"columns": [{"name", "lower", "upper" | "values", "missing"?}]}."""
    entries: list[dict[str, Any]] = []
    for column in schema.columns:
        entry: dict[str, Any] = {"name": column.name}
        if isinstance(column, NumericColumn):
            entry |= {"lower": float(column.lower), "upper": float(column.upper)}
        else:
            entry["values"] = list(column.values)
        if column.missing:
            entry["missing"] = list(column.missing)
        entries.append(entry)
    return {"columns": entries}


def schema_from_mapping(mapping: Mapping[str, Any]) -> Schema:
    """Returns the schema of plain values as `schema_to_mapping` gives them; unknown keys are refused.

    Raises:
        SchemaError, TooManyCategoriesError: the values are no schema.
    """
    entries = mapping.get("columns")
    if set(mapping) != {"columns"} or not isinstance(entries, list):
        raise SchemaError(f"a schema has the keys {sorted(map(str, mapping))}, expected only 'columns', a list")
    return Schema(tuple(_column_from_mapping(entry) for entry in entries))


def schema_to_bytes(schema: Schema) -> bytes:
    """Returns the canonical encoding: JSON of the mapping, keys sorted, no blanks, UTF-8. Hash this."""
    return json.dumps(
        schema_to_mapping(schema), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def schema_from_bytes(data: bytes) -> Schema:
    """Returns the schema that `schema_to_bytes` encoded.

    Raises:
        SchemaError, TooManyCategoriesError: the bytes are no schema or not its canonical encoding.
    """
    if len(data) > SCHEMA_BYTES_MAX:
        raise SchemaError(f"a schema has {len(data)} bytes, expected at most {SCHEMA_BYTES_MAX}", length=len(data))
    try:
        mapping = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise SchemaError("a schema is not JSON in UTF-8") from error
    if not isinstance(mapping, dict):
        raise SchemaError("a schema is not a JSON object, expected {'columns': [...]}")
    schema = schema_from_mapping(mapping)
    if schema_to_bytes(schema) != data:
        raise SchemaError("a schema's bytes are not canonical, expected sorted keys, no blanks and floats as floats")
    return schema


def _column_from_mapping(entry: object) -> NumericColumn | CategoryColumn:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise SchemaError("a schema column has no name, expected {name, lower, upper} or {name, values}")
    name, keys = entry["name"], set(entry) - {"name", "missing"}
    missing = _texts(name, entry.get("missing", []))
    if keys == {"values"}:
        return CategoryColumn(name, _texts(name, entry["values"]), missing)
    if keys == {"lower", "upper"}:
        return NumericColumn(name, _bound(name, entry["lower"]), _bound(name, entry["upper"]), missing)
    raise SchemaError(
        f"column {shown(name)} has the keys {', '.join(sorted(map(str, keys)))}, expected lower and upper, or values",
        column=name,
    )


def _texts(name: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SchemaError(f"column {shown(name)}: values and missing are lists of text", column=name)
    return tuple(values)


def _bound(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= BOUND_MAX:
        raise SchemaError(f"column {shown(name)}: a range ends at {value!r}, expected a finite number", column=name)
    return float(value)


def _check_texts(name: str, texts: Sequence[str]) -> None:
    for text in texts:
        if not text or text != text.strip() or not text.isprintable() or len(text) > 256:
            raise SchemaError(
                f"column {shown(name)}: {shown(text)} is no name or value, expected 1 to 256 printable characters",
                column=name,
            )


def _place(table: Table, name: str, row: int) -> str:
    return f"{table.origin}: column {shown(name)}, row {table.row_number(row)}"


def _number(table: Table, name: str, row: int, cell: str) -> float | None:
    """Returns a cell as a finite number, or None for NaN; accepts decimal ASCII notation only."""
    if _NAN.fullmatch(cell):
        return None
    value = float(cell) if _NUMBER.fullmatch(cell) else None
    if _INFINITE.fullmatch(cell) or (value is not None and math.isinf(value)):
        raise NotFiniteError(
            f"{_place(table, name, row)}: {shown(cell)} is infinite, expected a finite number",
            column=name,
            row=table.row_number(row),
        )
    if value is None:
        raise NotANumberError(
            f"{_place(table, name, row)}: {shown(cell)} is not a number, expected one or an empty cell",
            column=name,
            row=table.row_number(row),
        )
    return value


def _infer_column(table: Table, name: str) -> NumericColumn | CategoryColumn:
    cells = set(table.column(name))
    missing = tuple(token for token in MISSING_TOKENS if token in cells)
    values = sorted(cells - {"", *missing})
    if not values:
        raise EmptyColumnError(
            f"{table.origin}: column {shown(name)} has no value, expected some; drop it", column=name
        )
    try:
        numbers = [value for value in NumericColumn(name, 0, 1, missing).parse(table) if value is not None]
    except NotANumberError:
        numbers = []
    if len(set(numbers)) >= NUMERIC_DISTINCT_MIN:
        return NumericColumn(name, min(numbers), max(numbers), missing)
    if len(values) > CATEGORIES_MAX:
        raise TooManyCategoriesError(
            f"{table.origin}: column {shown(name)} is not numeric and has {len(values)} different values, "
            f"expected at most {CATEGORIES_MAX}; drop it",
            column=name,
            count=len(values),
        )
    return CategoryColumn(name, tuple(values), missing)


def check_columns(schema: Schema, columns: Sequence[str], origin: str) -> None:
    """Refuses a table that lacks a column of the schema.

    Raises:
        MissingColumnError: naming the column.
    """
    for column in schema.columns:
        if column.name not in columns:
            raise MissingColumnError(
                f"{origin}: no column {shown(column.name)}, expected every column of the schema", column=column.name
            )
