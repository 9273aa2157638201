"""A task so small that its network is founded in a second: three sites, six trainers, four validators."""

from __future__ import annotations

import random
from pathlib import Path

from collegium.node import Experiment, load_experiment

SITES = ("east", "north", "west")
EXPERIMENT = """
[task]
name = "tiny"
rounds = 2
seed = 1
level = "unproved"
[data]
path = "tiny.csv"
site = "site"
label = "ill"
negative = "no"
drop = ["id"]
[model]
kind = "logistic"
[rule]
learning_rate = 0.5
[trainers]
per_site = 2
[committee]
seats = 16
[chain]
checkpoint_every = 2
[network]
validators = 4
[schema]
age = { kind = "numeric", lower = 20, upper = 90 }
smoker = { kind = "category", values = ["never", "often"] }
"""


def tiny_experiment(folder: Path, network: str = "") -> Experiment:
    """Write the experiment and its table into `folder`; `network` stands in for what [network] says."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    lines = ["id,site,age,smoker,ill"]
    for number in range(180):
        ill, smoker = rng.choice(("no", "mild", "bad")), rng.choice(("never", "often", ""))
        lines.append(f"{number},{SITES[number % 3]},{rng.randint(20, 60) + 20 * (ill != 'no')},{smoker},{ill}")
    (folder / "tiny.csv").write_text("\n".join(lines) + "\n")
    text = EXPERIMENT.replace("validators = 4\n", network or "validators = 4\n")
    (folder / "tiny.toml").write_text(text)
    return load_experiment(folder / "tiny.toml")
