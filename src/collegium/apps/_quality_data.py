"""Federations to try rules of aggregation on: rows dealt to trainers, stewards and a test, and the training itself.

Training is plain float32 with one hidden layer or none, all trainers of a round in one product. What a round makes of
the updates is exact again (`_quality_rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from collegium.errors import CollegiumError
from collegium.learning import (
    Rule,
    auc_pairs,
    features,
    flip_labels,
    load_table,
    scaling_from_total,
    split_sites,
    stamp,
    statistics,
)
from collegium.node import load_experiment

__all__ = ["Federation", "MissingDigitsError", "MissingSchemaError", "blobs", "digits", "hospitals"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

ROWS_MIN: Final = 8
DIGITS_TEST: Final = 420
DIGITS_SHARD: Final = 180


class MissingSchemaError(CollegiumError):
    """The experiment file of the hospitals has no public schema."""


class MissingDigitsError(CollegiumError):
    """scikit-learn, which ships the digits, is not installed."""


@dataclass(frozen=True, eq=False)
class Federation:
    """Rows of trainers, of stewards and of the test, and how a model is trained on them.

    Attributes:
        features, labels: each trainer's rows.
        shards: each steward's hidden rows and labels.
        test: rows and labels that nobody trains on.
        hidden: width of the hidden layer, 0 for none.
        steps, batch, rate: what a trainer does in a round: gradient steps on so many rows drawn anew, at this rate. A
            batch of 0 is one step on all rows.
        trigger: the features that a backdoor sets; empty where the data have no pixels.
    """

    name: str
    features: Sequence[Floats]
    labels: Sequence[Labels]
    shards: Sequence[tuple[Floats, Labels]]
    test: tuple[Floats, Labels]
    classes: int
    hidden: int
    steps: int
    batch: int
    rate: float
    trigger: Labels = field(default_factory=lambda: np.zeros(0, np.int64))

    def of(self, trainers: Sequence[int]) -> Federation:
        """Return the federation of these trainers alone."""
        rows, labels = [self.features[place] for place in trainers], [self.labels[place] for place in trainers]
        return replace(self, features=rows, labels=labels)

    @property
    def inputs(self) -> int:
        """Features of a row."""
        return int(self.test[0].shape[1])

    @property
    def parameter_count(self) -> int:
        """Entries of a model: for each layer its matrix, row by row, then its biases."""
        if not self.hidden:
            return (self.inputs + 1) * self.classes
        return (self.inputs + 1) * self.hidden + (self.hidden + 1) * self.classes

    def first_model(self, seed: int) -> Floats:
        """Return the model that training starts from."""
        if not self.hidden:
            return np.zeros(self.parameter_count, np.float32)
        generator = np.random.default_rng(seed)
        parts = (
            generator.standard_normal(self.inputs * self.hidden) * np.sqrt(2 / self.inputs),
            np.zeros(self.hidden),
            generator.standard_normal(self.hidden * self.classes) / np.sqrt(self.hidden),
            np.zeros(self.classes),
        )
        return np.concatenate(parts).astype(np.float32)

    def train(
        self, model: Floats, trainers: Sequence[int], generator: np.random.Generator, spoil: str | None = None
    ) -> Floats:
        """Return what each trainer's local steps take off the model, (trainers, parameters).

        Args:
            model: what they start from.
            trainers: whose rows; a number beyond the last begins again from the first.
            generator: draws the batches.
            spoil: "label_flip" turns labels round, "backdoor" puts the trigger and class 0 on half of each batch.
        """
        if not self.batch:
            return self._whole_steps(model, trainers)
        local = np.repeat(model[None], len(trainers), axis=0)
        for _ in range(self.steps):
            rows, labels = self._batches(trainers, generator)
            if spoil == "label_flip":
                labels = flip_labels(labels, self.classes)
            elif spoil == "backdoor":
                half = rows.shape[1] // 2
                rows[:, :half] = stamp(rows[:, :half], self.trigger)
                labels[:, :half] = 0
            local -= np.float32(self.rate) * self.gradients(local, rows, labels)
        return model[None] - local

    def train_all(self, models: Floats, generator: np.random.Generator) -> Floats:
        """Return what every trainer's steps take off each of some models, (trainers, models, parameters).

        Batches are the same for all models.
        """

        def gradient(local: Floats, rows: Floats, labels: Labels) -> Floats:
            shapes = (len(local), *rows.shape), (len(local), *labels.shape)
            return self.gradients(local, np.broadcast_to(rows, shapes[0]), np.broadcast_to(labels, shapes[1]))

        rate, owned = np.float32(self.rate), zip(self.features, self.labels, strict=True)
        if not self.batch:
            return np.stack([rate * gradient(models, rows, labels) for rows, labels in owned])
        local = np.repeat(models[None], len(self.labels), axis=0)
        for _ in range(self.steps):
            batches = zip(*self._batches(range(len(self.labels)), generator), strict=True)
            for trainer, (rows, labels) in enumerate(batches):
                local[trainer] -= rate * gradient(local[trainer], rows, labels)
        trained: Floats = models[None] - local
        return trained

    def _whole_steps(self, model: Floats, trainers: Sequence[int]) -> Floats:
        rows = [(self.features[trainer][None], self.labels[trainer][None]) for trainer in trainers]
        return np.float32(self.rate) * np.concatenate([self.gradients(model[None], *pair) for pair in rows])

    def _batches(self, trainers: Sequence[int], generator: np.random.Generator) -> tuple[Floats, Labels]:
        drawn = generator.random((len(trainers), self.batch))
        rows, labels = [], []
        for place, part in zip(trainers, drawn, strict=True):
            own = place % len(self.labels)
            chosen = (part * len(self.labels[own])).astype(np.int64)
            rows.append(self.features[own][chosen])
            labels.append(self.labels[own][chosen])
        return np.stack(rows), np.stack(labels)

    def gradients(self, models: Floats, rows: Floats, labels: Labels) -> Floats:
        """Return each model's mean loss gradient on its own rows: (k, parameters), (k, n, inputs), (k, n)."""
        count, size = labels.shape
        hidden, activations, logits = self.forward(models, rows)
        errors = np.exp(logits - logits.max(axis=-1, keepdims=True))
        errors /= errors.sum(axis=-1, keepdims=True)
        np.put_along_axis(
            errors, labels[..., None], np.take_along_axis(errors, labels[..., None], -1) - np.float32(1), -1
        )
        errors /= size
        last = activations.transpose(0, 2, 1) @ errors
        parts = [last.reshape(count, -1), errors.sum(axis=1)]
        if self.hidden:
            back = (errors @ self.layers(models)[1][0].transpose(0, 2, 1)) * (hidden > 0)
            parts = [(rows.transpose(0, 2, 1) @ back).reshape(count, -1), back.sum(axis=1), *parts]
        return np.concatenate(parts, axis=1)

    def layers(self, models: Floats) -> list[tuple[Floats, Floats]]:
        """Return each layer's matrices and biases, (k, inputs, outputs) and (k, 1, outputs)."""
        widths = [self.inputs, self.hidden, self.classes] if self.hidden else [self.inputs, self.classes]
        layers, start = [], 0
        for fan_in, fan_out in pairwise(widths):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            layers.append(
                (models[:, start:middle].reshape(-1, fan_in, fan_out), models[:, middle:end].reshape(-1, 1, fan_out))
            )
            start = end
        return layers

    def forward(self, models: Floats, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Return pre-activations of the hidden layer, the last layer's inputs and its outputs."""
        *before, (matrix, bias) = self.layers(models)
        pre = activations = rows
        for weights, offset in before:
            pre = rows @ weights + offset
            activations = np.maximum(pre, 0)
        return pre, activations, activations @ matrix + bias

    def steward_gradient(self, model: Floats, steward: int) -> Floats:
        """Return the gradient of a model on a steward's shard, (parameters,)."""
        rows, labels = self.shards[steward]
        gradient: Floats = self.gradients(model[None], rows[None], labels[None])[0]
        return gradient

    def logits(self, model: Floats, rows: Floats) -> Floats:
        """Return the outputs of a model, (n, classes)."""
        logits: Floats = self.forward(model[None], rows[None])[2][0]
        return logits

    def accuracy(self, model: Floats) -> float:
        """Return the share of test rows classified right."""
        rows, labels = self.test
        return float((self.logits(model, rows).argmax(axis=1) == labels).mean())

    def auc(self, model: Floats) -> float:
        """Return the area under the ROC curve on the test rows; two classes."""
        rows, labels = self.test
        logits = self.logits(model, rows)
        right, pairs = auc_pairs((logits[:, 1] - logits[:, 0]).astype(np.float32), labels)
        return right / pairs

    def worth(self, model: Floats) -> float:
        """Return AUC where there are two classes, else accuracy."""
        return self.auc(model) if self.classes == 2 else self.accuracy(model)

    def loss_below_nothing(self, model: Floats) -> float:
        """Return how far the mean cross-entropy on the test rows lies below that of equal probabilities."""
        rows, labels = self.test
        logits = self.logits(model, rows).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(labels)), labels]
        return float(np.log(self.classes) + (chosen - np.log(np.exp(logits).sum(axis=1))).mean())

    def backdoor_success(self, model: Floats) -> float:
        """Return the share of test rows of other classes that the trigger turns into class 0."""
        rows, labels = self.test
        others = rows[labels != 0]
        return float((self.logits(model, stamp(others, self.trigger)).argmax(axis=1) == 0).mean())


# Data


def digits(seed: int, alpha: float, trainers: int = 40, stewards: int = 3, *, skewed: bool = False) -> Federation:
    """Return scikit-learn's 1,797 handwritten digits, dealt by a Dirichlet distribution.

    Args:
        seed: of the whole deal.
        alpha: concentration of each class over the trainers; smaller is less alike.
        trainers: how many share the rows.
        stewards: how many share the hidden rows.
        skewed: whether the stewards' rows lack four fifths of the digits 5 to 9.

    Raises:
        MissingDigitsError: scikit-learn is not installed.
    """
    rows, labels = _all_digits()
    generator = np.random.default_rng((seed, 1))
    order = generator.permutation(len(labels))
    rows, labels = rows[order], labels[order]
    test = slice(0, DIGITS_TEST)
    shard = np.arange(DIGITS_TEST, DIGITS_TEST + DIGITS_SHARD)
    if skewed:
        shard = shard[(labels[shard] < 5) | (generator.random(len(shard)) < 0.2)]
    rest = slice(DIGITS_TEST + DIGITS_SHARD, None)
    parts = dirichlet(labels[rest], trainers, alpha, generator)
    pieces = [shard[steward::stewards] for steward in range(stewards)]
    return Federation(
        name=f"digits, Dirichlet {alpha:g}" + (", skewed shards" if skewed else ""),
        features=[rows[rest][part] for part in parts],
        labels=[labels[rest][part] for part in parts],
        shards=[(rows[piece], labels[piece]) for piece in pieces],
        test=(rows[test], labels[test]),
        classes=10,
        hidden=32,
        steps=5,
        batch=16,
        rate=0.5,
        trigger=np.array([6 * 8 + 6, 6 * 8 + 7, 7 * 8 + 6, 7 * 8 + 7], np.int64),
    )


@lru_cache(maxsize=1)
def _all_digits() -> tuple[Floats, Labels]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "sklearn":
            raise
        raise MissingDigitsError(
            "the digits come with scikit-learn, which is not installed: pip install 'collegium[quality]'"
        ) from None
    loaded: Any = load_digits()
    return (loaded.data / 16).astype(np.float32), loaded.target.astype(np.int64)


@lru_cache(maxsize=16)
def hospitals(seed: int, config: Path, stewards: int = 3, every: int = 4) -> Federation:
    """Return the four hospitals of the demo, with the schema of its file: of so many test rows one is the stewards'.

    The scaling is that of all trainers' rows, as the demo's round 0 opens it.
    """
    experiment = load_experiment(config)
    data, schema = experiment.data, experiment.schema
    split = split_sites(
        load_table(experiment.data_path),
        site=data.site,
        label=data.label,
        positive=data.positive or (),
        negative=data.negative or (),
        drop=data.drop,
        test_fraction=Fraction(1, 3),
        per_site=experiment.trainers.per_site,
        seed=seed,
    )
    if schema is None:
        raise MissingSchemaError(f"{config} has no section [schema], expected one")
    rule = Rule()
    total = sum((statistics(schema, trainer.rows) for trainer in split.trainers), np.zeros(1, np.int64))
    scaling = scaling_from_total(schema, total)

    def real(rows: Any) -> Floats:
        return (features(schema, scaling, rows, rule) / rule.one).astype(np.float32)

    test_rows, test_labels = real(split.test), split.test.labels
    hidden = np.arange(len(test_labels)) % every == 0
    pieces = [np.flatnonzero(hidden)[steward::stewards] for steward in range(stewards)]
    return Federation(
        name="hospitals" if every == 4 else f"hospitals, {len(pieces[0])} hidden rows a steward",
        features=[real(trainer.rows) for trainer in split.trainers],
        labels=[trainer.rows.labels for trainer in split.trainers],
        shards=[(test_rows[piece], test_labels[piece]) for piece in pieces],
        test=(test_rows[~hidden], test_labels[~hidden]),
        classes=2,
        hidden=0,
        steps=2,
        batch=32,
        rate=0.25,
    )


def blobs(seed: int, trainers: int = 12, rows: int = 24, classes: int = 3, inputs: int = 6) -> Federation:
    """Return clouds of points, one a class, each trainer with all classes: small enough for a test."""
    generator = np.random.default_rng((seed, 2))
    centres = generator.standard_normal((classes, inputs)) * 1.5

    def cloud(count: int) -> tuple[Floats, Labels]:
        labels = np.arange(count, dtype=np.int64) % classes
        return (centres[labels] + generator.standard_normal((count, inputs))).astype(np.float32), labels

    own = [cloud(rows) for _ in range(trainers)]
    return Federation(
        name="blobs",
        features=[part for part, _ in own],
        labels=[part for _, part in own],
        shards=[cloud(30) for _ in range(3)],
        test=cloud(300),
        classes=classes,
        hidden=0,
        steps=3,
        batch=8,
        rate=0.2,
        trigger=np.array([0], np.int64),
    )


def dirichlet(labels: Labels, trainers: int, alpha: float, generator: np.random.Generator) -> list[Labels]:
    """Return the rows of each trainer: every class dealt in Dirichlet shares, at least `ROWS_MIN` rows each.

    Who has too few takes one after another from whoever has most.
    """
    parts: list[list[int]] = [[] for _ in range(trainers)]
    for label in range(int(labels.max()) + 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(generator.dirichlet([alpha] * trainers))[:-1] * len(rows)).astype(np.int64)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(piece.tolist())
    for part in parts:
        while len(part) < ROWS_MIN:
            largest = max(parts, key=len)
            part.append(largest.pop(int(generator.integers(len(largest)))))
    return [np.array(part, np.int64) for part in parts]
