"""Four laboratories train a convolutional network of their own making, with a training loop of their own.

.venv/bin/pip install --editable '.[torch]'
.venv/bin/python examples/custom_model.py

No rule is agreed for such a model, so its level is "bounded": each update is proved to lie within public bounds, and
where it comes from is not. The pictures are made up: noise over one of three shapes.
"""

import numpy as np
import torch
from torch import nn

import collegium

ROUNDS = 5
SHAPES = np.zeros((3, 1, 8, 8), np.float32)
SHAPES[0, :, 3:5, :] = SHAPES[1, :, :, 3:5] = SHAPES[2, :, 2:6, 2:6] = 1


def pictures(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures and which shape each of them shows."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    return SHAPES[labels] + draw.normal(0, 0.8, (count, 1, 8, 8)).astype(np.float32), labels


def train(module: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Take twenty steps with momentum: whatever changes the module's weights will do."""
    optimiser = torch.optim.SGD(module.parameters(), lr=0.02, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(data[0]), data[1]).backward()
        optimiser.step()


laboratories = {f"laboratory {seed}": pictures(seed, 200) for seed in range(4)}
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, 3)
)
federation = collegium.Federation(
    laboratories, level="bounded", rounds=ROUNDS, model=network, loss=nn.CrossEntropyLoss(), train=train, clip=0.25
)
history = federation.run(progress=True)
print(history[["round", "accuracy", "loss", "clipped", "shrunk", "finality_ms", "prove_ms", "verify_ms"]])
print("probability of each shape:", federation.model.predict(pictures(9, 3)[0]).round(3), sep="\n")
