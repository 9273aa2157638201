"""One gradient step with every integer on the way: what `gradient` sums up and what a proof of the step is about.

docs/spec/learning.md, sections 3 to 5, states the relations.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from collegium.learning._activations import INDEX_BITS, exponential, sigmoid
from collegium.learning._errors import ActivationRangeError, ErrorRangeError, LearningError, TrainingRowsError
from collegium.learning._integers import Factor, Int64Array, Rescaled, magnitude, multiply, rescale_with_remainder
from collegium.learning._model import ROWS_MAX, ModelSpec, Rule, update_bound
from collegium.learning._parameters import check_parameters, unpack


@dataclass(frozen=True, slots=True, eq=False)
class SigmoidOutput:
    """From logits to probabilities, all of shape (n,).

    Attributes:
        logits: Z, with 2f fraction bits.
        index: floor(Z / 2^(2f - 8)), before it is clipped to the table.
        index_remainder: Z - 2^(2f - 8) index.
        probability: p, the table's entry of the clipped index.
    """

    logits: Int64Array
    index: Int64Array
    index_remainder: Int64Array
    probability: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class SquaredOutput:
    """From logits to predictions: Z = 2^f quotient + remainder, shape (n, outputs)."""

    quotient: Int64Array
    remainder: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxOutput:
    """From logits to probabilities.

    Attributes:
        index: t = floor(Z / 2^(2f - 8)), shape (n, outputs).
        index_remainder: Z - 2^(2f - 8) t, shape (n, outputs).
        maximum: M, a row's largest index, shape (n,).
        distance: d = M - t, before it is clipped to the table, shape (n, outputs).
        exponential: E, the table's entry of the clipped distance, shape (n, outputs).
        normaliser: Sigma, a row's sum of E, shape (n,).
        probability: p = floor(2^f E / Sigma), shape (n, outputs).
        division_remainder: 2^f E - p Sigma, shape (n, outputs).
    """

    index: Int64Array
    index_remainder: Int64Array
    maximum: Int64Array
    distance: Int64Array
    exponential: Int64Array
    normaliser: Int64Array
    probability: Int64Array
    division_remainder: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class StepTrace:
    """Every integer of one gradient step on n rows, as int64 arrays.

    Attributes:
        hidden: of each hidden layer, first to last, the forward rescaling (Q, R), each (n, width).
        back: in the same order, the backward rescaling (B, R) before B is multiplied by [Q >= 0], each (n, width).
        output: from the logits to what the loss compares with the labels.
        errors: D of the output layer, shape (n, outputs).
        gradient: the sum over the rows, unrounded, with 2f fraction bits, shape (parameter_count,).
    """

    hidden: tuple[Rescaled, ...]
    back: tuple[Rescaled, ...]
    output: SigmoidOutput | SoftmaxOutput | SquaredOutput
    errors: Int64Array
    gradient: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """The forward pass: hidden rescalings and selectors [Q >= 0], the last Z, and each layer's inputs and matrix.

    The inputs of a convolution are unfolded, (n patches, entries).
    """

    hidden: tuple[Rescaled, ...]
    selectors: tuple[NDArray[np.bool_], ...]
    logits: Int64Array
    inputs: tuple[Factor, ...]
    matrices: tuple[Factor, ...]


def check_rows(spec: ModelSpec, rule: Rule, features: Int64Array, labels: Int64Array) -> None:
    """Refuses rows that the rule's bounds do not cover.

    Raises:
        TrainingRowsError: a type, a shape, a feature beyond the limit or a label that names no class.
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
    if labels.max() >= spec.classes or labels.min() < 0:
        raise TrainingRowsError(
            f"labels lie in [{labels.min()}, {labels.max()}], expected 0 to {spec.classes - 1}", classes=spec.classes
        )


def step_trace(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> StepTrace:
    """Returns every integer of one gradient step on all the given rows.

    Args:
        spec: the model.
        rule: the rule; `batch_rows` is not applied here.
        parameters: shape (parameter_count,).
        features: shape (n, inputs), f fraction bits, within the feature limit.
        labels: shape (n,), 0 to classes - 1.

    Raises:
        RuleError, ParameterError, TrainingRowsError, OverflowBudgetError: as in `local_update`.
        ActivationRangeError, ErrorRangeError: a value lies outside the rule's limit.
    """
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, labels)
    update_bound(spec, replace(rule, batch_rows=None), len(labels))
    return trace_checked(spec, rule, parameters, features, labels)


def trace_checked(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> StepTrace:
    """Returns what `step_trace` does, of arguments that have been checked.

    The error of a hidden unit passes back where Q >= 0, Q = 0 included.
    """
    passed = forward(spec, rule, parameters, features)
    output, errors = _output(spec, rule, passed.logits, labels)
    gradient, back = np.empty_like(parameters), []
    slots, error = unpack(spec, gradient), Factor.of(errors)
    for layer in reversed(range(len(slots))):
        matrix, bias = slots[layer]
        inputs, shared = passed.inputs[layer], error.reshaped(len(bias))
        multiply(inputs.transposed, shared, out=matrix)
        ones = Factor.of(np.full((1, len(inputs.values)), rule.one, dtype=np.int64))
        multiply(ones, shared, out=bias[None, :])
        if layer:
            total = multiply(error, passed.matrices[layer].transposed)
            step = rescale_with_remainder(total, rule.fraction_bits, out=total)
            largest = magnitude(step.quotient)
            if rule.error_limit is not None and largest >= rule.error_limit * rule.one:
                _check_range(ErrorRangeError, rule, rule.error_limit, layer - 1, step.quotient)
            back.append(step)
            error = Factor.selected(step.quotient, passed.selectors[layer - 1], largest)
    return StepTrace(passed.hidden, tuple(reversed(back)), output, errors, gradient)


def forward(spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array) -> Forward:
    """Returns the forward pass.

    Each layer computes Z = A W + 2^f b and rescales it, Z = 2^f Q + R; its activation is Q [Q >= 0]. The last Z stays
    unrounded. A convolution's A are all patches of all rows, one below the other, and its Z one row's side by side.

    Raises:
        ActivationRangeError: a hidden Q lies outside the rule's `activation_limit`.
    """
    read = features if spec.patches is None else spec.patches.unfold(features)
    layers, inputs = unpack(spec, parameters), [Factor.of(read)]
    matrices, hidden, selectors = tuple(Factor.of(matrix) for matrix, _ in layers), [], []
    biases = [bias << np.int64(rule.fraction_bits) for _, bias in layers]
    for layer, bias in enumerate(biases[:-1]):
        total = multiply(inputs[-1], matrices[layer], bias).reshape(len(features), spec.widths[layer])
        step = rescale_with_remainder(total, rule.fraction_bits, out=total)
        largest = magnitude(step.quotient)
        if rule.activation_limit is not None and largest >= rule.activation_limit * rule.one:
            _check_range(ActivationRangeError, rule, rule.activation_limit, layer, step.quotient)
        hidden.append(step)
        selectors.append(step.quotient >= 0)
        inputs.append(Factor.selected(step.quotient, selectors[-1], largest))
    logits = multiply(inputs[-1], matrices[-1], biases[-1])
    return Forward(tuple(hidden), tuple(selectors), logits, tuple(inputs), matrices)


def softmax_output(rule: Rule, logits: Int64Array) -> SoftmaxOutput:
    """Returns the probabilities of logits (n, outputs) and every integer on the way to them."""
    index, index_remainder = rescale_with_remainder(logits, 2 * rule.fraction_bits - INDEX_BITS)
    maximum = index.max(axis=1)
    distance = maximum[:, None] - index
    powers = exponential(distance, rule.fraction_bits)
    normaliser = powers.sum(axis=1)
    probability, remainder = np.divmod(powers << np.int64(rule.fraction_bits), normaliser[:, None])
    return SoftmaxOutput(index, index_remainder, maximum, distance, powers, normaliser, probability, remainder)


def targets(spec: ModelSpec, rule: Rule, labels: Int64Array) -> Int64Array:
    """Returns what the outputs should be, with f fraction bits, shape (n, outputs): the label, or 1 at the label."""
    hits = labels[:, None] if spec.outputs == 1 else labels[:, None] == np.arange(spec.outputs)
    return hits * np.int64(rule.one)


def _output(
    spec: ModelSpec, rule: Rule, logits: Int64Array, labels: Int64Array
) -> tuple[SigmoidOutput | SoftmaxOutput | SquaredOutput, Int64Array]:
    """Returns the output layer's integers and its errors D, shape (n, outputs)."""
    target = targets(spec, rule, labels)
    if rule.loss == "softmax":
        softmax = softmax_output(rule, logits)
        return softmax, softmax.probability - target
    if rule.loss == "squared":
        squared = SquaredOutput(*rescale_with_remainder(logits, rule.fraction_bits))
        return squared, squared.quotient - target
    index, remainder = rescale_with_remainder(logits[:, 0], 2 * rule.fraction_bits - INDEX_BITS)
    probability = sigmoid(index, rule.fraction_bits)
    return SigmoidOutput(logits[:, 0], index, remainder, probability), probability[:, None] - target


def _check_range(error: type[LearningError], rule: Rule, limit: int, layer: int, values: Int64Array) -> None:
    """Refuses values (n, width) of a hidden layer outside [-limit 2^f, limit 2^f), naming the first in row order."""
    bound = limit * rule.one
    outside = np.argwhere((values < -bound) | (values >= bound))
    if not len(outside):
        return
    row, unit = (int(place) for place in outside[0])
    value = int(values[row, unit])
    what = "pre-activation" if error is ActivationRangeError else "back-propagated value"
    raise error(
        f"the {what} of hidden layer {layer}, unit {unit}, is {value} in row {row}, expected {-bound} to {bound - 1}",
        layer=layer,
        row=row,
        value=value,
        limit=limit,
    )
