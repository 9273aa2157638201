"""What privacy noise costs the demo: accuracy and AUC against epsilon.  Usage: python benchmarks/privacy.py [SEEDS]

Needs the extra 'privacy'. The demo's trainers, rows, rule and number of rounds, at level 'bounded' with the section
[privacy]: each row's gradient clipped, discrete Gaussian noise from every trainer, epsilon by Renyi accounting over all
rounds at delta 1e-6, for one row replaced by another, when 12 trainers in every sum are honest. The sums are added in
the clear here, which gives the same integers as the protocol; rows of tests are public and have no part in epsilon.

No time is measured, so machine and load do not matter. Noise comes from the system, so a second run differs within
the spread.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from collegium.node import (
    Federation,
    LearningTask,
    PrivacySettings,
    load_experiment,
    noise_for,
    privacy_terms,
    set_up,
)

DEMO = Path(__file__).parents[1] / "src" / "collegium" / "apps" / "demo" / "demo.toml"
HONEST, DELTA = 12, Fraction(1, 10**6)
EPSILONS = (1, 2, 4, 8, 16)
CLIPS = (Fraction(1, 2), Fraction(1))
RATES = (Fraction(1),)


def learn(federation: Federation, task: LearningTask) -> tuple[float, float]:
    """Train all rounds in the clear and return accuracy and AUC on the test rows."""
    state = b""  # before the first round there is no model
    for number in range(task.rounds + 1):
        updates = (task.update(number, state, trainer.rows, bytes(32)) for trainer in federation.trainers)
        state = task.step(number, state, np.sum(list(updates), axis=0))
    found = task.evaluate(state, federation.test_rows)
    return found.accuracy, found.auc or 0.0


def private(task: LearningTask, noise: Fraction, clip: Fraction, rate: Fraction) -> LearningTask:
    """Return the task with noise."""
    rule = replace(task.rule, learning_rate=rate)
    return replace(task, rule=rule, privacy=privacy_terms(PrivacySettings(clip, noise, HONEST, DELTA), rule))


def row(name: str, noise: str, chosen: str, figures: list[tuple[float, float]]) -> str:
    columns = np.array(figures).T
    cells = [f"{np.median(column):.3f} ({np.ptp(column):.3f})" for column in columns]
    return f"| {name} | {noise} | {chosen} | {' | '.join(cells)} |"


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    experiment = load_experiment(DEMO)
    federation = set_up(replace(experiment, task=replace(experiment.task, level="unproved")), lambda _: None)
    task, rounds = federation.task, experiment.task.rounds
    print(f"{rounds} rounds, delta {float(DELTA):g}, {HONEST} honest; median (greatest less least) of {seeds} runs")
    print("| epsilon | noise | clip, rate | accuracy | AUC |\n|---|---|---|---|---|")
    print(row("no noise", "-", "-", [learn(federation, task)]), flush=True)
    for epsilon in EPSILONS:
        noise = noise_for(epsilon, rounds, float(DELTA))
        for clip in CLIPS:
            for rate in RATES:
                noisy = private(task, noise, clip, rate)
                found = [learn(federation, noisy) for _ in range(seeds)]
                print(row(str(epsilon), f"{float(noise):g}", f"{float(clip):g}, {float(rate):g}", found), flush=True)


if __name__ == "__main__":
    main()
