"""What a report is paid beside what it was worth: exact Shapley values of few trainers, by training every coalition.

A coalition's value is how far the mean rule brings its model's loss on the test rows below that of a model that knows
nothing. Trainers differ: each has more of its labels replaced at random than the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ._bench_rows import Row, Spread, progress, spread_row
from ._quality_data import Federation, Labels
from ._quality_play import play
from ._quality_rounds import Rounds
from ._quality_rules import Ours, Settings

__all__ = ["coalition_values", "correlation", "leave_one_out", "noisy_labels", "shapley", "worth_rows"]

Floats = NDArray[np.float64]

ROUNDS: Final = 30
NOISE_MOST: Final = 0.8  # of the last trainer's labels
SPEARMAN_LEAST: Final = 0.85
STAKE: Final = 1_000


def noisy_labels(federation: Federation, seed: int) -> Federation:
    """Return the federation with more and more of the labels replaced, from none to `NOISE_MOST`."""
    generator = np.random.default_rng((seed, 3))
    spoiled: list[Labels] = []
    for share, labels in zip(np.linspace(0, NOISE_MOST, len(federation.labels)), federation.labels, strict=True):
        random = generator.integers(federation.classes, size=len(labels))
        spoiled.append(np.where(generator.random(len(labels)) < share, random, labels))
    return replace(federation, labels=spoiled)


def coalition_values(federation: Federation, rounds: int, seed: int) -> Floats:
    """Return the value of every coalition, (2^trainers,); bit i of an index says whether trainer i is in it.

    All coalitions train at once, on the same batches. Where a round is a step on all rows, rows count alike.
    """
    trainers = len(federation.labels)
    members = (np.arange(1 << trainers)[:, None] >> np.arange(trainers)) & 1
    rows = [1 if federation.batch else len(labels) for labels in federation.labels]
    counted = members * np.array(rows, np.int64)
    parts = (counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    generator = np.random.default_rng((seed, 4))
    models = np.repeat(federation.first_model(seed)[None], len(members), axis=0)
    for _ in range(rounds):
        updates = federation.train_all(models, generator)
        models = models - np.einsum("cn,ncp->cp", parts, updates)
    values = np.array([federation.loss_below_nothing(model) for model in models])
    values[0] = 0
    return values


def shapley(values: Floats) -> Floats:
    """Return the Shapley value of each trainer: its mean marginal value over all orders of joining."""
    trainers = len(values).bit_length() - 1
    indices = np.arange(len(values))
    sizes = np.array([int(index).bit_count() for index in indices])
    found = np.zeros(trainers)
    for trainer in range(trainers):
        without = indices[(indices >> trainer) & 1 == 0]
        weights = np.array([1 / (trainers * comb(trainers - 1, int(size))) for size in sizes[without]])
        found[trainer] = float(weights @ (values[without | 1 << trainer] - values[without]))
    return found


def leave_one_out(values: Floats) -> Floats:
    """Return what each trainer's absence from the whole costs."""
    everybody = len(values) - 1
    trainers = everybody.bit_length()
    return np.array([values[everybody] - values[everybody ^ 1 << trainer] for trainer in range(trainers)])


def correlation(left: Floats, right: Floats, *, ranks: bool) -> float:
    """Return Pearson's correlation, or Spearman's of ranks; 0 where a side does not vary."""
    if ranks:
        left, right = (np.argsort(np.argsort(side, kind="stable")).astype(np.float64) for side in (left, right))
    if not left.std() or not right.std():
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def worth_rows(deals: Sequence[Callable[[int], Federation]], seeds: int) -> Iterator[Row]:
    """Yield how pay goes with Shapley values and with leaving one out, in rounds, and below level proved."""
    for deal in deals:
        federations = [noisy_labels(deal(seed), seed) for seed in range(seeds)]
        trainers = len(federations[0].labels)
        case = f"{federations[0].name}, {trainers} trainers"
        progress(f"{case}: {1 << trainers} coalitions, {seeds} times")
        values = [coalition_values(federation, ROUNDS, seed) for seed, federation in enumerate(federations)]
        exact, single = [shapley(each) for each in values], [leave_one_out(each) for each in values]
        for settings, how in (
            (None, ", as rounds do it"),
            (Settings(), ""),
            (Settings(innovation=0), ", replays not discounted"),
        ):
            points = [_points(federation, settings, seed) for seed, federation in enumerate(federations)]
            for name, measure, ranks in (
                ("Shapley", exact, True),
                ("Shapley", exact, False),
                ("leave one out", single, True),
            ):
                found = [correlation(*pair, ranks=ranks) for pair in zip(points, measure, strict=True)]
                kind = "Spearman" if ranks else "Pearson"
                row = spread_row(f"pay with {name}{how}", case, Spread.of(found), None, 1, f"{kind}'s correlation,")
                if ranks and name == "Shapley" and settings is None:
                    met = bool(np.median(found) >= SPEARMAN_LEAST)
                    verdict = "met" if met else "missed"
                    unit = f"{row['unit']}, target at least {SPEARMAN_LEAST}: {verdict}"
                    row |= {"unit": unit, "target": SPEARMAN_LEAST, "met": met}
                yield row


def _points(federation: Federation, settings: Settings | None, seed: int) -> Floats:
    if settings is None:
        return Rounds.of(federation, seed).play(ROUNDS).state.standing.points.astype(np.float64)
    trainers = len(federation.labels)
    rule = Ours.of(federation, settings, trainers, np.full(trainers, STAKE, np.int64), seed, trainers)
    return play(federation, rule, None, ROUNDS, seed).ours.standing.points.astype(np.float64)
