"""Stewards: how far liars among them turn a direction, and what a proved record costs.

Usage: python benchmarks/stewards.py [SEEDS]

The demo's hospitals, as `collegium demo` plays them, trained in the clear, which gives the protocol's integers. In each
round f of s stewards lie, together, knowing the others' gradients: each entry of the median then takes any value
between two of the honest ones', and they take the one that points least the way of the median without lies. Printed are
the cosine between both, and what an honest trainer's score along the liars' direction is of that along the honest one;
medians over rounds and seeds, the worst tenth beside them. Machine and load do not matter for these.

Then one steward of the demo proves its records: seconds and bytes, medians of five, greatest less least in brackets.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.incentives import normalise_direction, split_steward_record
from collegium.learning import Rows
from collegium.node import Experiment, Federation, load_experiment, set_up

DEMO = Path(__file__).parents[1] / "src" / "collegium" / "apps" / "demo" / "quality.toml"
CROWDS = ((3, 1), (5, 1), (5, 2), (7, 3))
ROUNDS, RUNS = 10, 5

Integers = npt.NDArray[np.int64]
Made = TypeVar("Made")


def founded(stewards: int, seed: int, *, proved: bool = False) -> Federation:
    """Return the demo with so many stewards, dealt anew."""
    demo: Experiment = load_experiment(DEMO)
    assert demo.stewards is not None
    settings = replace(demo.stewards, count=stewards, proved=proved)
    task = replace(demo.task, seed=seed, rounds=ROUNDS)
    bare = replace(
        demo, stewards=settings, task=task, attack=None, rewards=None, chain=replace(demo.chain, courts=False)
    )
    return set_up(bare, lambda _: None)


def gradient(federation: Federation, model: bytes, rows: Rows) -> Integers:
    """Return the rule's gradient of a model on rows."""
    task = federation.task
    state = task.decode_state(model)
    rule = replace(task.rule, batch_rows=None)
    return learning.local_update(task.spec, rule, state.parameters, task.features(state, rows), rows.labels, b"")[:-1]


def turned(said: Integers, liars: int) -> tuple[Integers, Integers]:
    """Return the median of what stewards say, (stewards, entries), and the worst that liars can make of it."""
    middle = (len(said) - 1) // 2
    honest = np.sort(said[liars:], axis=0)
    median, low, high = np.sort(said, axis=0)[middle], honest[middle - liars], honest[middle]
    return median, np.where(median > 0, low, high)


def collude(stewards: int, liars: int, seeds: int) -> str:
    """Return a line of the table."""
    cosines, scores = list[float](), list[float]()
    for seed in range(seeds):
        federation = founded(stewards, seed)
        task, model = federation.task, b""
        for number in range(ROUNDS + 1):
            updates = [task.update(number, model, trainer.rows, bytes(32)) for trainer in federation.trainers]
            if number:
                said = np.stack(
                    [normalise_direction(gradient(federation, model, held.shards[0])) for held in federation.stewards]
                )
                median, worst = (vector / np.linalg.norm(vector) for vector in turned(said, liars))
                cosines.append(float(median @ worst))
                scores += [float(worst @ update[:-1]) / float(median @ update[:-1]) for update in updates]
            model = task.step(number, model, np.sum(updates, axis=0))
    return (
        f"{liars} of {stewards}: cosine {np.median(cosines):.2f} (worst tenth {np.quantile(cosines, 0.1):.2f}), "
        f"an honest score {np.median(scores):.2f} of itself (worst tenth {np.quantile(scores, 0.1):.2f})"
    )


def timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """Return how many seconds it took, and what came of it."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def prove() -> str:
    """Return what a proved record costs."""
    first, later, checked, lengths = list[float](), list[float](), list[float](), set[int]()
    for seed in range(RUNS):
        federation = founded(3, seed, proved=True)
        task, steward = federation.task, federation.stewards[0]
        updates = [task.update(0, b"", trainer.rows, bytes(32)) for trainer in federation.trainers]
        model = task.step(0, b"", np.sum(updates, axis=0))
        first.append(timed(partial(steward.record, task, 1, model))[0])
        seconds, record = timed(partial(steward.record, task, 2, model))
        later.append(seconds)
        quality = task.quality
        assert quality is not None
        checked.append(timed(partial(quality.check_record, 2, model, [], record))[0])
        lengths |= {len(split_steward_record(record)[1])}
    rows = len(steward.shards[0])
    return (
        f"{rows} rows, {ROUNDS + 1} commitments: first record {spread(first)} s, later ones {spread(later)} s; "
        f"verified, with its registration, in {spread(checked)} s, {max(lengths):,} bytes"
    )


def spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({np.ptp(values):.2f})"


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores; {seeds} seeds")
    for stewards, liars in CROWDS:
        print(collude(stewards, liars, seeds), flush=True)
    print(prove())


if __name__ == "__main__":
    main()
