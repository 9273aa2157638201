"""The same training step in plain float32 PyTorch: what a proof's cost is compared to.

Forward, loss gradient, and backward to the gradient of every weight and bias, in two ways: written out as tensor
operations, and by automatic differentiation. Nothing is proved, masked or rounded to a grid.

Needs `torch`, which is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TorchStep", "find_torch"]

Floats = NDArray[np.float32]


def find_torch() -> Any:
    """Return the module `torch`, or None where it is not installed."""
    try:
        return import_module("torch")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "torch":
            raise
        return None


@dataclass(frozen=True)
class TorchStep:
    """One gradient step of a network with one hidden ReLU layer, summed over all rows.

    Attributes:
        torch: the module.
        softmax: whether the loss is cross-entropy on softmax; else half the sum of squares.
        features: (rows, inputs). targets: (rows, outputs), a 1 for the row's class.
        weights: matrix (fan_in, fan_out) and biases (fan_out,) of the hidden, then of the output layer.
    """

    torch: Any
    softmax: bool
    features: Any
    targets: Any
    weights: tuple[Any, Any, Any, Any]

    @classmethod
    def of(
        cls, torch: Any, threads: int, softmax: bool, features: Floats, targets: Floats, weights: Sequence[Floats]
    ) -> TorchStep:
        """Return the step on `threads` threads, which is a setting of the whole process."""
        torch.set_num_threads(threads)
        hidden, hidden_bias, output, output_bias = (torch.from_numpy(array.copy()) for array in weights)
        return cls(
            torch,
            softmax,
            torch.from_numpy(features.copy()),
            torch.from_numpy(targets.copy()),
            (hidden, hidden_bias, output, output_bias),
        )

    @property
    def ways(self) -> dict[str, Callable[[], Sequence[Any]]]:
        """The two ways to take the step, by name; each returns the four gradients in the order of the weights."""
        return {"operations": self.by_operations, "autograd": self.by_autograd}

    def by_operations(self) -> Sequence[Any]:
        """Take the step as straight tensor operations."""
        torch, features = self.torch, self.features
        hidden, hidden_bias, output, output_bias = self.weights
        with torch.inference_mode():
            sums = torch.addmm(hidden_bias, features, hidden)
            activations = torch.relu(sums)
            outputs = torch.addmm(output_bias, activations, output)
            errors = (torch.softmax(outputs, 1) if self.softmax else outputs) - self.targets
            back = (errors @ output.T) * (sums > 0)
            return features.T @ back, back.sum(0), activations.T @ errors, errors.sum(0)

    def by_autograd(self) -> Sequence[Any]:
        """Take the step as most programs write it: the loss, then its derivatives."""
        torch = self.torch
        weights = [weight.detach().requires_grad_() for weight in self.weights]
        hidden, hidden_bias, output, output_bias = weights
        outputs = torch.addmm(output_bias, torch.relu(torch.addmm(hidden_bias, self.features, hidden)), output)
        if self.softmax:
            loss = torch.nn.functional.cross_entropy(outputs, self.targets, reduction="sum")
        else:
            loss = ((outputs - self.targets) ** 2).sum() / 2
        gradients: Sequence[Any] = torch.autograd.grad(loss, weights)
        return gradients

    def gradient(self, way: str) -> Floats:
        """Return one way's gradients as one vector, in the order of a model's parameters."""
        parts = [part.numpy().reshape(-1) for part in self.ways[way]()]
        return np.concatenate(parts).astype(np.float32)
