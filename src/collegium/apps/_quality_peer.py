"""byzfl's robust rules and attacks, the peers of our benchmark of quality.

byzfl's own `__init__` pulls in its data loaders and torchvision; its rules need neither, so they are imported past it.
It asks for more than its rules use, so it is no extra of ours: `pip install --no-deps byzfl==0.0.11` beside the extras
`quality`, for scipy, and `torch`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEERS", "find_byzfl", "peer_rule"]

Floats = NDArray[np.float64]

PEERS = ("trimmed mean", "median", "geometric median", "Krum", "multi-Krum", "centred clipping", "NNM + trimmed mean")


def find_byzfl() -> tuple[Any, Any] | None:
    """Return byzfl's modules `aggregators` and `attacks`, or None where byzfl or PyTorch is not installed."""
    spec = find_spec("byzfl") if "byzfl" not in sys.modules else sys.modules["byzfl"].__spec__
    if find_spec("torch") is None or (spec is None and "byzfl" not in sys.modules):
        return None
    if "byzfl" not in sys.modules and spec is not None:
        bare = ModuleType("byzfl")
        bare.__path__ = list(spec.submodule_search_locations or ())
        bare.__spec__ = spec
        sys.modules["byzfl"] = bare
    return import_module("byzfl.aggregators"), import_module("byzfl.attacks")


def peer_rule(aggregators: Any, name: str, attackers: int) -> Callable[[Floats], Floats]:
    """Return a rule that is told how many of the updates it sees may be an attacker's."""
    make: dict[str, Callable[[], Callable[[Floats], Any]]] = {
        "trimmed mean": lambda: aggregators.TrMean(f=attackers),
        "median": aggregators.Median,
        "geometric median": lambda: aggregators.GeometricMedian(nu=1e-4, T=8),
        "Krum": lambda: aggregators.Krum(f=attackers),
        "multi-Krum": lambda: aggregators.MultiKrum(f=attackers),
        "centred clipping": lambda: _Clipping(aggregators),
        "NNM + trimmed mean": lambda: _chain(aggregators.NNM(f=attackers), aggregators.TrMean(f=attackers)),
    }
    rule = make[name]()
    return lambda updates: np.asarray(rule(updates), np.float64)


def _chain(first: Callable[[Floats], Any], second: Callable[[Any], Any]) -> Callable[[Floats], Any]:
    return lambda updates: second(first(updates))


class _Clipping:
    """Centred clipping about its last result, at half the median norm (arXiv 2012.10333)."""

    def __init__(self, aggregators: Any) -> None:
        self._aggregators = aggregators
        self._centre: Floats | None = None

    def __call__(self, updates: Floats) -> Any:
        centre = np.zeros(updates.shape[1]) if self._centre is None else self._centre
        # byzfl's own starts from a given centre only through an argument that it refuses, so the origin is moved.
        radius = float(np.median(np.linalg.norm(updates, axis=1))) / 2
        moved = self._aggregators.CenteredClipping(L=3, tau=max(radius, 1e-12))(updates - centre)
        self._centre = centre + np.asarray(moved, np.float64)
        return self._centre
