"""Compiles what members compute with, before they are forked: once for all of them instead of once in each.

Kernels are compiled when they are first called, and then kept on disk. On a machine where none is kept yet, dozens of
processes that start together would each compile all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collegium.crypto import os_random

from ._experiment import load_experiment
from ._play import play_round
from ._setup import set_up

__all__ = ["warm_up"]

SITES, ROWS_A_SITE, ROUNDS = 4, 24, 2  # round 0 and one that trains
EXPERIMENT = """
[task]
name = "warm-up"
rounds = 2
seed = 1
level = "{level}"
[data]
path = "rows.csv"
site = "site"
label = "ill"
negative = "0"
[model]
kind = "logistic"
[rule]
learning_rate = 1.0
[committee]
seats = 16
[schema]
columns = [{{ name = "dose", lower = 0, upper = 100 }}, {{ name = "kind", values = ["x", "y"] }}]
"""


def warm_up(level: str) -> None:
    """Play two rounds of a made-up task at a level, with keys that nobody uses again, in one thread.

    Levels whose proofs another machine must make are played without proofs.
    """
    with tempfile.TemporaryDirectory(prefix="collegium-") as home, _one_core():
        rows = [f"{i % SITES},{(37 * i) % 100},{'xy'[i % 3 % 2]},{i // 4 % 2}" for i in range(SITES * ROWS_A_SITE)]
        (Path(home) / "rows.csv").write_text("\n".join(["site,dose,kind,ill", *rows]) + "\n")
        config = Path(home) / "warm-up.toml"
        config.write_text(EXPERIMENT.format(level=level if level in ("bounded", "proved") else "unproved"))
        federation = set_up(load_experiment(config), lambda _: None)
        for _ in range(ROUNDS):
            play_round(
                federation.network,
                federation.nodes,
                federation.genesis.epoch_set,
                federation.task,
                federation.trainers,
                os_random,
                lambda *_: None,
            )


@contextmanager
def _one_core() -> Iterator[None]:
    """Have kernels share no work among threads, here and in whatever is forked: a fork must find one thread."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
