"""The same rule in float32, to measure what fixed point costs. Not reproducible bit by bit; nothing depends on it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collegium.learning._errors import ModelSpecError
from collegium.learning._evaluation import auc_pairs
from collegium.learning._integers import Int64Array
from collegium.learning._model import ModelSpec, Rule
from collegium.learning._parameters import parameter_limits, unpack
from collegium.learning._trace import targets
from collegium.learning._training import batch_indices

Float32Array = NDArray[np.float32]


def float_reference(
    spec: ModelSpec,
    rule: Rule,
    parameters: Int64Array,
    shards: Sequence[tuple[Int64Array, Int64Array]],
    batch_seeds: Sequence[Sequence[bytes]],
) -> Float32Array:
    """Returns the parameters after federated training in float32, shape (parameter_count,).

    Args:
        spec: the model.
        rule: the rule.
        parameters: the start, in fixed point.
        shards: (features, labels) of each trainer, in fixed point.
        batch_seeds: for each round one seed a trainer, as `local_update` would get them.
    """
    scale = np.float32(rule.one)
    limits = parameter_limits(spec, rule).astype(np.float32) / scale
    rate = np.float32(float(rule.learning_rate))
    model = parameters.astype(np.float32) / scale
    data = [
        (values.astype(np.float32) / scale, targets(spec, rule, labels).astype(np.float32) / scale)
        for values, labels in shards
    ]
    for seeds in batch_seeds:
        total, weight = np.zeros_like(model), 0
        for (values, goals), seed in zip(data, seeds, strict=True):
            local, rows = model, 0
            for step in range(rule.local_steps):
                chosen = batch_indices(rule, len(goals), seed, step)
                rows = len(chosen)
                change = -rate * _gradient(spec, rule, local, values[chosen], goals[chosen]) / np.float32(rows)
                local = local + change
                if rule.local_steps > 1:
                    local = np.clip(local, -limits, limits)
            total, weight = total + (local - model) * np.float32(rows), weight + rows
        model = np.clip(model + total / np.float32(weight), -limits, limits)
    return model


def float_auc(spec: ModelSpec, rule: Rule, parameters: Float32Array, features: Int64Array, labels: Int64Array) -> float:
    """Returns the AUC, in [0, 1], of a float32 model with one output on rows in fixed point that hold both classes."""
    logits = _forward(spec, parameters, features.astype(np.float32) / np.float32(rule.one))[-1][:, 0]
    numerator, denominator = auc_pairs(logits, labels)
    return numerator / denominator


def _forward(spec: ModelSpec, parameters: Float32Array, values: Float32Array) -> list[Float32Array]:
    if spec.patches is not None:
        raise ModelSpecError("the float32 reference knows no patches", patches=spec.patches.numbers)
    steps: list[Float32Array] = []
    for matrix, bias in unpack(spec, parameters):
        steps.append((np.maximum(steps[-1], 0) if steps else values) @ matrix + bias)
    return steps


def _gradient(
    spec: ModelSpec, rule: Rule, parameters: Float32Array, values: Float32Array, goals: Float32Array
) -> Float32Array:
    steps = _forward(spec, parameters, values)
    activations = [values, *(np.maximum(step, 0) for step in steps[:-1])]
    error = _predicted(rule, steps[-1]) - goals
    result = np.empty_like(parameters)
    slots, layers = unpack(spec, result), unpack(spec, parameters)
    for index in reversed(range(len(layers))):
        slots[index][0][:] = activations[index].T @ error
        slots[index][1][:] = error.sum(axis=0)
        if index:
            error = (error @ layers[index][0].T) * (steps[index - 1] >= 0)
    return result


def _predicted(rule: Rule, logits: Float32Array) -> Float32Array:
    if rule.loss == "squared":
        return logits
    if rule.loss == "softmax":
        powers: Float32Array = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Float32Array = powers / powers.sum(axis=1, keepdims=True)
    else:
        shares = (1 / (1 + np.exp(-np.clip(logits, -60, 60)))).astype(np.float32, copy=False)
    return shares
