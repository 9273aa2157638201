"""Gradients in which no row counts for more than a public norm, by which noise is sized. docs/spec/privacy.md."""

from math import isqrt

import numpy as np

from collegium.learning._errors import RuleError
from collegium.learning._integers import Int64Array
from collegium.learning._model import ModelSpec, Rule, update_bound
from collegium.learning._parameters import check_parameters
from collegium.learning._schema import Schema
from collegium.learning._trace import check_rows
from collegium.learning._training import batch_indices, gradient

__all__ = ["clip_norm", "clipped_update", "clipped_update_bound", "statistics_of_ranges"]

MEAN_LEVEL = 1 << 11
MEAN_SQUARE = MEAN_LEVEL**2 + ((1 << 24) - 1) // 12  # of 4096 levels that are all as likely


def clip_norm(rows: Int64Array, norm: int) -> Int64Array:
    """Returns vectors (n, entries), each scaled down to a Euclidean norm of at most `norm`, rounded towards zero."""
    out = rows.copy()
    for index, row in enumerate(rows.tolist()):
        square = sum(entry * entry for entry in row)
        if square > norm * norm:
            length = isqrt(square - 1) + 1  # rounded up, so that the quotient is never above `norm`
            out[index] = [entry * norm // length if entry >= 0 else -(-entry * norm // length) for entry in row]
    return out


def clipped_update(
    spec: ModelSpec,
    rule: Rule,
    parameters: Int64Array,
    features: Int64Array,
    labels: Int64Array,
    batch_seed: bytes,
    norm: int,
) -> Int64Array:
    """Returns a trainer's update as `local_update` does, each row's gradient clipped first, (parameter_count + 1,).

    One gradient a row: time grows with the rows, memory with the parameters.

    Args:
        norm: in units of 2^-2f, as gradients are.

    Raises:
        RuleError: the rule takes several local steps, whose sum is no sum over rows, or has limits, by which a single
            row decides whether there is an update at all.
        LearningError: as `local_update`.
    """
    if rule.local_steps != 1:
        raise RuleError(f"local_steps is {rule.local_steps}, expected 1 where each row's gradient is clipped")
    if rule.activation_limit is not None or rule.error_limit is not None:
        limits = f"activation_limit is {rule.activation_limit} and error_limit {rule.error_limit}"
        raise RuleError(f"{limits}, expected none where a row must stop no update")
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, labels)
    update_bound(spec, rule, 1)
    chosen = batch_indices(rule, len(labels), batch_seed, 0)
    total = np.zeros(spec.parameter_count + 1, np.int64)
    for row in chosen.tolist():
        one = gradient(spec, rule, parameters, features[row : row + 1], labels[row : row + 1])
        total[:-1] += clip_norm(one[None], norm)[0]
    total[-1] = len(chosen)
    return total


def clipped_update_bound(rule: Rule, rows_max: int, norm: int) -> int:
    """Returns the largest magnitude that an entry of `clipped_update` can have, the row count included."""
    rows = rows_max if rule.batch_rows is None else min(rows_max, rule.batch_rows)
    return rows * max(norm, 1)


def statistics_of_ranges(schema: Schema, rows: int) -> Int64Array:
    """Returns what `statistics` would be, per row, of numbers spread evenly over their columns' public ranges.

    So the features are scaled, and nothing but the number of rows is opened.
    """
    return np.array([1, MEAN_LEVEL, MEAN_SQUARE] * len(schema.numeric), np.int64) * rows
