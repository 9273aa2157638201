"""The training rule in exact integers: forward, backward, local update, global step.

docs/spec/learning.md, sections 3 to 6, states every relation in the form in which it is to be proved.
"""

import numpy as np

from collegium.learning._activations import INDEX_BITS, sigmoid
from collegium.learning._derandom import permutation
from collegium.learning._errors import EmptyTotalError, TotalError, TrainingRowsError
from collegium.learning._integers import Int64Array, divide_half_up, product, rescale
from collegium.learning._model import ROWS_MAX, ModelSpec, Rule, update_bound
from collegium.learning._parameters import check_parameters, parameter_limits, unpack


def check_rows(spec: ModelSpec, rule: Rule, features: Int64Array, labels: Int64Array) -> None:
    """Refuses rows that the rule's bounds do not cover.

    Raises:
        TrainingRowsError: a type, a shape, a feature beyond the limit or a label other than 0 and 1.
    """
    if features.dtype != np.int64 or labels.dtype != np.int64:
        raise TrainingRowsError(f"features are {features.dtype} and labels {labels.dtype}, expected int64 for both")
    if features.ndim != 2 or features.shape[1] != spec.inputs or labels.shape != features.shape[:1]:
        raise TrainingRowsError(
            f"features have shape {features.shape} and labels {labels.shape}, expected (n, {spec.inputs}) and (n,)",
            features=features.shape,
            labels=labels.shape,
        )
    if not 1 <= len(labels) <= ROWS_MAX:
        raise TrainingRowsError(f"there are {len(labels)} rows, expected 1 to {ROWS_MAX}", rows=len(labels))
    limit = rule.feature_limit * rule.one
    if features.max() > limit or features.min() < -limit:
        raise TrainingRowsError(
            f"features lie in [{features.min()}, {features.max()}], expected a magnitude of at most {limit}",
            limit=limit,
        )
    if labels.max() > 1 or labels.min() < 0:
        raise TrainingRowsError(f"labels lie in [{labels.min()}, {labels.max()}], expected 0 and 1")


def batch_indices(rule: Rule, rows: int, batch_seed: bytes, step: int) -> Int64Array:
    """Returns the rows that local step `step` uses, ascending: all of them, or `batch_rows` that the seed chooses."""
    if rule.batch_rows is None or rule.batch_rows >= rows:
        return np.arange(rows, dtype=np.int64)
    return np.sort(permutation("batch", batch_seed, step, rows)[: rule.batch_rows])


def forward(spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array) -> list[Int64Array]:
    """Returns [Q_1, ..., Q_(L-1), Z_L]: hidden pre-activations with f fraction bits, logits with 2f, shape (n, width).

    Each layer computes Z = A W + 2^f b and rescales it, Z = 2^f Q + R; its activation is max(Q, 0). The last Z stays
    unrounded: the sigmoid's index is taken from it directly.
    """
    layers, activation, steps = unpack(spec, parameters), features, []
    for index, (matrix, bias) in enumerate(layers):
        total = product(activation, matrix) + (bias << np.int64(rule.fraction_bits))
        if index == len(layers) - 1:
            steps.append(total)
            break
        steps.append(rescale(total, rule.fraction_bits))
        activation = np.maximum(steps[-1], 0)
    return steps


def logit_indices(rule: Rule, logits: Int64Array) -> Int64Array:
    """Returns the table index floor(256 z) of logits with 2f fraction bits."""
    return rescale(logits, 2 * rule.fraction_bits - INDEX_BITS)


def gradient(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> Int64Array:
    """Returns the sum over the rows of the loss gradient, unrounded, with 2f fraction bits, shape (parameter_count,).

    The error of a hidden unit passes back where Q >= 0, Q = 0 included.
    """
    steps = forward(spec, rule, parameters, features)
    activations = [features, *(np.maximum(step, 0) for step in steps[:-1])]
    logits = steps[-1][:, 0]
    error = (sigmoid(logit_indices(rule, logits), rule.fraction_bits) - labels * rule.one)[:, None]
    result = np.empty_like(parameters)
    slots = unpack(spec, result)
    matrices = [matrix for matrix, _ in unpack(spec, parameters)]
    for index in reversed(range(len(matrices))):
        slots[index][0][:] = product(np.ascontiguousarray(activations[index].T), error)
        slots[index][1][:] = error.sum(axis=0) << np.int64(rule.fraction_bits)
        if index:
            back = product(error, np.ascontiguousarray(matrices[index].T))
            error = rescale(back, rule.fraction_bits) * (steps[index - 1] >= 0)
    return result


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
        labels: shape (n,), 0 or 1.
        batch_seed: the beacon's word for this trainer and round; unused with a full batch.

    Raises:
        ParameterError, TrainingRowsError: an argument is out of bounds.
        OverflowBudgetError: the rule's integers could overflow on so many rows.
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
