"""The training rule in exact integers: local update and global step; `_trace` holds the gradient.

docs/spec/learning.md, sections 3 to 6, states every relation in the form in which it is to be proved.
"""

import numpy as np

from collegium.learning._derandom import permutation
from collegium.learning._errors import EmptyTotalError, TotalError
from collegium.learning._integers import Int64Array, divide_half_up
from collegium.learning._model import ModelSpec, Rule, update_bound
from collegium.learning._parameters import check_parameters, parameter_limits
from collegium.learning._trace import check_rows, trace_checked


def batch_indices(rule: Rule, rows: int, batch_seed: bytes, step: int) -> Int64Array:
    """Returns the rows that local step `step` uses, ascending: all of them, or `batch_rows` that the seed chooses."""
    if rule.batch_rows is None or rule.batch_rows >= rows:
        return np.arange(rows, dtype=np.int64)
    return np.sort(permutation("batch", batch_seed, step, rows)[: rule.batch_rows])


def gradient(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> Int64Array:
    """Returns the sum over checked rows of the loss gradient, unrounded, with 2f fraction bits, (parameter_count,)."""
    return trace_checked(spec, rule, parameters, features, labels).gradient


def local_update(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array, batch_seed: bytes
) -> Int64Array:
    """Returns what a trainer contributes to a round, shape (parameter_count + 1,); the last entry is the row count.

    With one local step the entries are the unrounded gradient sum over the rows; with several they are
    rows * (local - global) parameters. Magnitudes stay within `update_bound`.

    Args:
        spec: the model.
        rule: the rule.
        parameters: the global model, shape (parameter_count,).
        features: shape (n, inputs), f fraction bits, within the feature limit.
        labels: shape (n,), 0 to classes - 1.
        batch_seed: the beacon's word for this trainer and round; unused with a full batch.

    Raises:
        RuleError, ParameterError, TrainingRowsError: an argument is out of bounds.
        OverflowBudgetError: the rule's integers could overflow on so many rows.
        ActivationRangeError, ErrorRangeError: a value of a step lies outside the rule's limit.
    """
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, labels)
    update_bound(spec, rule, len(labels))
    chosen = batch_indices(rule, len(labels), batch_seed, 0)
    rows = len(chosen)
    total = gradient(spec, rule, parameters, features[chosen], labels[chosen])
    if rule.local_steps == 1:
        return np.append(total, rows)
    local = descend(spec, rule, parameters, total, rows)
    for step in range(1, rule.local_steps):
        chosen = batch_indices(rule, len(labels), batch_seed, step)
        total = gradient(spec, rule, local, features[chosen], labels[chosen])
        local = descend(spec, rule, local, total, rows)
    return np.append(rows * (local - parameters), rows)


def descend(spec: ModelSpec, rule: Rule, parameters: Int64Array, total: Int64Array, weight: int) -> Int64Array:
    """Returns parameters - round_half_up(learning_rate * total / weight), clipped to the parameter limits.

    `total` has 2f fraction bits and the parameters f, hence one more factor 2^f in the divisor.
    """
    rate = rule.learning_rate
    step = divide_half_up(total, rate.numerator, rate.denominator * weight * rule.one)
    return _move(spec, rule, parameters, -step)


def apply_total(spec: ModelSpec, rule: Rule, parameters: Int64Array, total: Int64Array) -> Int64Array:
    """Returns the next global model from the sum of the trainers' updates, shape (parameter_count,).

    Args:
        spec: the model.
        rule: the rule.
        parameters: the global model the updates started from.
        total: the sum, possibly with public non-negative integer weights, of `local_update` vectors.

    Raises:
        ParameterError: the parameters are out of bounds.
        TotalError: the total has a wrong length or type.
        EmptyTotalError: the total's row weight is not positive.
    """
    check_parameters(spec, rule, parameters)
    if total.dtype != np.int64 or total.shape != (spec.parameter_count + 1,):
        raise TotalError(
            f"a total has type {total.dtype} and shape {total.shape}, "
            f"expected int64 of shape ({spec.parameter_count + 1},)",
            shape=total.shape,
        )
    weight = int(total[-1])
    if weight < 1:
        raise EmptyTotalError(f"a total stands for {weight} rows, expected at least 1", weight=weight)
    if rule.local_steps == 1:
        return descend(spec, rule, parameters, total[:-1], weight)
    return _move(spec, rule, parameters, divide_half_up(total[:-1], 1, weight))


def _move(spec: ModelSpec, rule: Rule, parameters: Int64Array, step: Int64Array) -> Int64Array:
    """Returns parameters + step within the limits; the step is clipped first, so that the sum cannot overflow."""
    limits = parameter_limits(spec, rule)
    return np.clip(parameters + np.clip(step, -2 * limits, 2 * limits), -limits, limits)
