"""What a model is worth on given rows, in integers that everybody can recompute."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from collegium.learning._activations import INDEX_BITS, INDEX_LIMIT, MICRO, logarithm_micro, softplus_micro
from collegium.learning._integers import Int64Array, rescale
from collegium.learning._model import ModelSpec, Rule, layer_bounds
from collegium.learning._parameters import check_parameters
from collegium.learning._trace import check_rows, forward, softmax_output, targets

SUMMED_INDEX_MAX = 1 << 24  # a loss below 2^37 millionths, of at most 2^24 rows below 2^61


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Exact counts of one model on one set of rows.

    Attributes:
        rows: number of rows.
        loss_micro: summed loss in millionths: cross-entropy in nats, or half the squared distance to the target.
        correct: rows classified right. One output says positive from probability or prediction 1/2 on; of several the
            largest says its class, the first of equal ones.
        auc_numerator: twice the (positive, negative) pairs ranked right, plus the ties; 0 with several outputs.
        auc_denominator: twice the number of pairs; 0 when only one class occurs, and with several outputs.
    """

    rows: int
    loss_micro: int
    correct: int
    auc_numerator: int
    auc_denominator: int

    @property
    def loss(self) -> float:
        """Mean loss of a row."""
        return self.loss_micro / (MICRO * self.rows)

    @property
    def accuracy(self) -> float:
        """Share of rows classified right, in [0, 1]."""
        return self.correct / self.rows

    @property
    def auc(self) -> float:
        """Area under the ROC curve in [0, 1]; NaN when only one class occurs, and with several outputs."""
        return self.auc_numerator / self.auc_denominator if self.auc_denominator else math.nan


def evaluate(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> Evaluation:
    """Returns loss, accuracy and AUC of the model on the rows, the same integers on every machine.

    `activation_limit` is a limit of training: a row beyond it is evaluated like any other.

    Raises:
        RuleError, ParameterError, TrainingRowsError, OverflowBudgetError: as in `local_update`.
    """
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, labels)
    layer_bounds(spec, rule)
    logits = forward(spec, replace(rule, activation_limit=None), parameters, features).logits
    if spec.outputs == 1:
        half = rule.one**2 // 2 if rule.loss == "squared" else 0
        predicted = (logits[:, 0] >= half).astype(np.int64)
        numerator, denominator = auc_pairs(logits[:, 0], labels)
    else:
        predicted, numerator, denominator = logits.argmax(axis=1), 0, 0
    losses = {"sigmoid": _sigmoid_loss, "softmax": _softmax_loss, "squared": _squared_loss}
    return Evaluation(
        rows=len(labels),
        loss_micro=losses[rule.loss](spec, rule, logits, labels),
        correct=int((predicted == labels).sum()),
        auc_numerator=numerator,
        auc_denominator=denominator,
    )


def probabilities(spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array) -> NDArray[np.float64]:
    """Returns what the model says of each row, in float64, shape (n, outputs): for people, nothing depends on it.

    Under sigmoid loss the probability of the positive class, under softmax that of each class, under squared loss the
    prediction itself.

    Raises:
        RuleError, ParameterError, TrainingRowsError, OverflowBudgetError: as in `evaluate`.
    """
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, np.zeros(len(features), dtype=np.int64))
    layer_bounds(spec, rule)
    logits = forward(spec, replace(rule, activation_limit=None), parameters, features).logits / float(rule.one) ** 2
    if rule.loss == "squared":
        return np.asarray(logits, dtype=np.float64)
    if rule.loss == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))), dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def _sigmoid_loss(spec: ModelSpec, rule: Rule, logits: Int64Array, labels: Int64Array) -> int:
    """Returns the sum of softplus((1 - 2y) z) in millionths."""
    signed = rescale(logits[:, 0], 2 * rule.fraction_bits - INDEX_BITS)
    signed = np.where(labels == 1, -1 - signed, signed)  # the cell of -z, up to the cell's edge
    large = signed >= SUMMED_INDEX_MAX
    inside = softplus_micro(np.where(large, -1 - INDEX_LIMIT, signed))  # 0 in the place of a large one
    beyond: list[int] = signed[large].tolist()  # Python's integers: their sum may pass 2^63
    return int(inside.sum()) + sum(MICRO * (2 * index + 1) >> (INDEX_BITS + 1) for index in beyond)


def _softmax_loss(spec: ModelSpec, rule: Rule, logits: Int64Array, labels: Int64Array) -> int:
    """Returns the sum of ln(Sigma / 2^f) + d / 256, d the label's distance, in millionths, each term rounded."""
    output = softmax_output(rule, logits)
    # Python's integers, since 10^6 d may pass 2^63.
    distances: list[int] = output.distance[np.arange(len(labels)), labels].tolist()
    logarithms = logarithm_micro(output.normaliser, rule.fraction_bits)
    return int(logarithms.sum()) + sum(MICRO * distance >> INDEX_BITS for distance in distances)


def _squared_loss(spec: ModelSpec, rule: Rule, logits: Int64Array, labels: Int64Array) -> int:
    """Returns the sum over the rows of half the squared errors, in millionths, each row's rounded down."""
    errors = rescale(logits, rule.fraction_bits) - targets(spec, rule, labels)
    rows: list[list[int]] = errors.tolist()  # Python's integers: a square may pass 2^63
    return sum(MICRO * sum(error * error for error in row) >> (2 * rule.fraction_bits + 1) for row in rows)


def auc_pairs(scores: NDArray[np.int64] | NDArray[np.float32], labels: Int64Array) -> tuple[int, int]:
    """Returns (2 * pairs ranked right + ties, 2 * pairs) over all (positive, negative) pairs.

    The Mann-Whitney form of the AUC: a tie counts one half.
    """
    negatives = np.sort(scores[labels == 0])
    positives = scores[labels == 1]
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    up_to = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return int(below + up_to), 2 * len(negatives) * len(positives)
