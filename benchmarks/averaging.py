"""What many rounds of exact sums give away about one trainer.  Usage: python benchmarks/averaging.py

Secure aggregation hides each round's updates and opens sums. Where trainers keep the same data, their updates point the
same way round after round, and who sees which trainers were in which sum solves a linear system for those directions
(the averaging attack; arXiv 2106.03328). Here 64 trainers have a fixed random direction each, plus fresh noise of equal
length every round; the attacker knows every opened sum and who was in it, and solves by least squares. Printed: the
mean cosine between a trainer's true direction and what the attacker recovered, 0 for nothing and 1 for everything.

No time is measured, so machine and load do not matter: the seed decides every figure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TRAINERS = 64
DIRECTION_LENGTH = 400
NOISE = 1.0  # length of a round's own part of an update over the part that stays
PRESENT = 51  # of 64: four in five take part in a round
COHORT = 4
ROUNDS = (1, 10, 20, 50, 100, 200)
SEEDS = 3


def one_total(generator: np.random.Generator) -> NDArray[np.float64]:
    """Row of who is in the round's only sum."""
    row = np.zeros((1, TRAINERS))
    row[0, generator.permutation(TRAINERS)[:PRESENT]] = 1
    return row


def changing_cohorts(generator: np.random.Generator) -> NDArray[np.float64]:
    """Rows of who is in each small sum: all trainers, dealt anew."""
    rows = np.zeros((TRAINERS // COHORT, TRAINERS))
    rows[np.repeat(np.arange(len(rows)), COHORT), generator.permutation(TRAINERS)] = 1
    return rows


def sticky_cohorts(generator: np.random.Generator) -> NDArray[np.float64]:
    """The same small sums every round."""
    del generator
    return np.kron(np.eye(TRAINERS // COHORT), np.ones(COHORT))


def mean_cosine(true: NDArray[np.float64], recovered: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(true, axis=1) * np.linalg.norm(recovered, axis=1)
    return float(np.mean(np.sum(true * recovered, axis=1) / np.where(lengths == 0, 1, lengths)))


def attack(sums_of_round: Callable[[np.random.Generator], NDArray[np.float64]], seed: int) -> list[float]:
    """The attacker's mean cosine after each number of rounds in ROUNDS."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((TRAINERS, DIRECTION_LENGTH))
    members, opened, cosines = [], [], []
    for round_number in range(1, max(ROUNDS) + 1):
        rows = sums_of_round(generator)
        updates = directions + NOISE * generator.standard_normal(directions.shape)
        members.append(rows)
        opened.append(rows @ updates)
        if round_number in ROUNDS:
            recovered = np.linalg.lstsq(np.concatenate(members), np.concatenate(opened), rcond=None)[0]
            cosines.append(mean_cosine(directions, recovered))
    return cosines


def main() -> None:
    print(f"{TRAINERS} trainers, one sum of {PRESENT} or cohorts of {COHORT}, noise {NOISE}, median of {SEEDS} seeds")
    print("| opened each round | " + " | ".join(f"{count} rounds" for count in ROUNDS) + " |")
    print("|---" * (len(ROUNDS) + 1) + "|")
    for name, sums_of_round in {
        "one total": one_total,
        "cohorts, dealt anew": changing_cohorts,
        "cohorts, always the same": sticky_cohorts,
    }.items():
        runs = np.array([attack(sums_of_round, seed) for seed in range(SEEDS)])
        cells = [f"{np.median(column):.2f} ({np.ptp(column):.2f})" for column in runs.T]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("In brackets: greatest less least over the seeds.")


if __name__ == "__main__":
    main()
