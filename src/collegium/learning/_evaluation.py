"""What a model is worth on given rows, in integers that everybody can recompute."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collegium.learning._activations import MICRO, softplus_micro
from collegium.learning._integers import Int64Array
from collegium.learning._model import ModelSpec, Rule, layer_bounds
from collegium.learning._parameters import check_parameters
from collegium.learning._training import check_rows, forward, logit_indices


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Exact counts of one model on one set of rows.

    Attributes:
        rows: number of rows.
        loss_micro: summed binary cross-entropy in millionths of a nat.
        correct: rows whose logit has the label's sign (logit >= 0 means positive).
        auc_numerator: twice the (positive, negative) pairs ranked right, plus the ties.
        auc_denominator: twice the number of pairs; 0 when only one class occurs.
    """

    rows: int
    loss_micro: int
    correct: int
    auc_numerator: int
    auc_denominator: int

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy in nats."""
        return self.loss_micro / (MICRO * self.rows)

    @property
    def accuracy(self) -> float:
        """Share of rows classified right, in [0, 1]."""
        return self.correct / self.rows

    @property
    def auc(self) -> float:
        """Area under the ROC curve in [0, 1]; NaN when only one class occurs."""
        return self.auc_numerator / self.auc_denominator if self.auc_denominator else math.nan


def evaluate(
    spec: ModelSpec, rule: Rule, parameters: Int64Array, features: Int64Array, labels: Int64Array
) -> Evaluation:
    """Returns loss, accuracy and AUC of the model on the rows, the same integers on every machine.

    Raises:
        ParameterError, TrainingRowsError, OverflowBudgetError: as in `local_update`.
    """
    check_parameters(spec, rule, parameters)
    check_rows(spec, rule, features, labels)
    layer_bounds(spec, rule)
    logits = forward(spec, rule, parameters, features)[-1][:, 0]
    signed = logit_indices(rule, logits)
    signed = np.where(labels == 1, -1 - signed, signed)  # the cell of -z, up to the cell's edge
    numerator, denominator = auc_pairs(logits, labels)
    return Evaluation(
        rows=len(labels),
        loss_micro=int(softplus_micro(signed).sum()),
        correct=int(((logits >= 0) == (labels == 1)).sum()),
        auc_numerator=numerator,
        auc_denominator=denominator,
    )


def auc_pairs(scores: NDArray[np.int64] | NDArray[np.float32], labels: Int64Array) -> tuple[int, int]:
    """Returns (2 * pairs ranked right + ties, 2 * pairs) over all (positive, negative) pairs.

    The Mann-Whitney form of the AUC: a tie counts one half.
    """
    negatives = np.sort(scores[labels == 0])
    positives = scores[labels == 1]
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    up_to = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return int(below + up_to), 2 * len(negatives) * len(positives)
