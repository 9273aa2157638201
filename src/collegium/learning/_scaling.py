"""From cells to features: first a round that opens the totals of statistics, then the same scaling for everybody.

A number is clipped to its public range and scaled to u in 0 .. 4095. The sums of 1, u and u^2 over all trainers,
opened as one total like any update, give mean and deviation; nobody's own are seen. docs/spec/learning.md, section 2.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np

from collegium.learning._errors import StatisticsError
from collegium.learning._integers import Int64Array, divide_half_up
from collegium.learning._model import ROWS_MAX, Rule
from collegium.learning._schema import CategoryColumn, NumericColumn, Schema, check_columns
from collegium.learning._split import Rows
from collegium.learning._table import Table

LEVEL_BITS = 12
LEVEL_MAX = (1 << LEVEL_BITS) - 1
DEVIATION_BITS = 8

_DEFAULT_RULE = Rule()


@dataclass(frozen=True, slots=True)
class ColumnScaling:
    """One numeric column's mean and deviation, as integers.

    Attributes:
        count: rows with a value, or their weight.
        total: sum of u over them; the mean is total / count.
        deviation: floor(2^8 count sigma); 0 for a column that is constant or empty, whose feature is 0.
    """

    count: int
    total: int
    deviation: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """The scaling of each numeric column of a schema, in order."""

    columns: tuple[ColumnScaling, ...]


def statistics(schema: Schema, rows: Rows | Table) -> Int64Array:
    """Returns count, sum u and sum u^2 of each numeric column over the rows that have a value, shape (3 columns,).

    Raises:
        MissingColumnError, NotANumberError, NotFiniteError: the rows do not fit the schema.
    """
    table = _table(rows)
    check_columns(schema, table.columns, table.origin)
    sums: list[int] = []
    for column in schema.numeric:
        levels, present = _levels(column, table)
        sums += [int(present.sum()), int(levels[present].sum()), int((levels[present] ** 2).sum())]
    return np.array(sums, dtype=np.int64)


def statistics_bound(schema: Schema, rows_max: int) -> int:
    """Returns the largest entry `statistics` can have on at most `rows_max` rows, for the budget of bits.

    Raises:
        StatisticsError: `rows_max` is not from 1 to 2^24.
    """
    if not 1 <= rows_max <= ROWS_MAX:
        raise StatisticsError(f"rows_max is {rows_max}, expected 1 to {ROWS_MAX}", rows_max=rows_max)
    return rows_max * LEVEL_MAX**2 if schema.numeric else 0


def scaling_from_total(schema: Schema, total: Int64Array) -> Scaling:
    """Returns the scaling that a sum (weighted with non-negative integers or not) of `statistics` stands for.

    Raises:
        StatisticsError: the length is wrong, or no rows have such sums.
    """
    if total.dtype != np.int64 or total.shape != (3 * len(schema.numeric),):
        raise StatisticsError(
            f"statistics have type {total.dtype} and shape {total.shape}, "
            f"expected int64 of shape ({3 * len(schema.numeric)},)",
            shape=total.shape,
        )
    columns = []
    for column, (count, first, second) in zip(schema.numeric, total.reshape(-1, 3).tolist(), strict=True):
        spread = count * second - first * first
        possible = 0 <= count <= ROWS_MAX and first <= second <= LEVEL_MAX * first <= LEVEL_MAX**2 * count
        if not possible or spread < 0:
            raise StatisticsError(
                f"column {column.name!r}: count {count}, sum {first} and sum of squares {second} belong to no rows "
                f"with values from 0 to {LEVEL_MAX}",
                column=column.name,
                count=count,
                first=first,
                second=second,
            )
        columns.append(ColumnScaling(count, first, isqrt(spread << (2 * DEVIATION_BITS))))
    return Scaling(tuple(columns))


def features(schema: Schema, scaling: Scaling, rows: Rows | Table, rule: Rule = _DEFAULT_RULE) -> Int64Array:
    """Returns the rows as features in fixed point, shape (n, len(schema.feature_names)).

    A number becomes (u - mean) / sigma, rounded half up and clipped to the rule's feature limit; a category one 1
    among zeros. A missing number becomes 0, the mean; a missing category all zeros.

    Args:
        schema: the public schema.
        scaling: the public scaling.
        rows: the rows.
        rule: gives `fraction_bits` and `feature_limit` only.

    Raises:
        MissingColumnError, NotANumberError, NotFiniteError, UnknownCategoryError: the rows do not fit the schema.
        StatisticsError: the scaling belongs to another schema.
    """
    table = _table(rows)
    check_columns(schema, table.columns, table.origin)
    if len(scaling.columns) != len(schema.numeric):
        raise StatisticsError(
            f"a scaling has {len(scaling.columns)} columns, expected {len(schema.numeric)} as in the schema"
        )
    scalings = iter(scaling.columns)
    blocks = [
        _one_hot(column, table, rule)
        if isinstance(column, CategoryColumn)
        else _scaled(column, next(scalings), table, rule)
        for column in schema.columns
    ]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))


def _table(rows: Rows | Table) -> Table:
    return rows.table if isinstance(rows, Rows) else rows


def _levels(column: NumericColumn, table: Table) -> tuple[Int64Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Returns u of each row (0 where missing) and which rows have a value.

    Single float64 operations (subtract, divide, multiply, floor) are exact roundings by IEEE 754: no machine differs.
    """
    values = column.parse(table)
    present = np.array([value is not None for value in values], dtype=np.bool_)
    numbers = np.array([column.lower if value is None else value for value in values], dtype=np.float64)
    share = (np.clip(numbers, column.lower, column.upper) - column.lower) / (column.upper - column.lower)
    return np.minimum(np.floor(share * (LEVEL_MAX + 1)), LEVEL_MAX).astype(np.int64), present


def _scaled(column: NumericColumn, scaling: ColumnScaling, table: Table, rule: Rule) -> Int64Array:
    levels, present = _levels(column, table)
    if not scaling.deviation:
        return np.zeros((table.row_count, 1), dtype=np.int64)
    distance = scaling.count * levels - scaling.total  # count (u - mean)
    scaled = divide_half_up(distance, 1 << (rule.fraction_bits + DEVIATION_BITS), scaling.deviation)
    limit = rule.feature_limit * rule.one
    return np.where(present, np.clip(scaled, -limit, limit), 0)[:, None]


def _one_hot(column: CategoryColumn, table: Table, rule: Rule) -> Int64Array:
    block = np.zeros((table.row_count, len(column.values)), dtype=np.int64)
    for row, position in enumerate(column.parse(table)):
        if position is not None:
            block[row, position] = rule.one
    return block
