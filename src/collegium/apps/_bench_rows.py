"""What the benchmarks print: one row a figure, ours beside the peer's, and the machine that it must be read beside."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

__all__ = [
    "Row",
    "Spread",
    "cores",
    "figure_row",
    "is_loaded",
    "load_text",
    "machine",
    "note_row",
    "progress",
    "spread_row",
    "with_target",
]

LOAD_MAX: Final = 1.5  # of the cores: more is not ours, and slows two threads that wait for each other most of all

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, the least and the greatest."""

    median: float
    least: float
    greatest: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


# Rows


def figure_row(name: str, case: str, ours: float | None, peer: float | None, unit: str) -> Row:
    """Return one row; the ratio says how many times more the peer takes."""
    ratio = None if not ours or peer is None else peer / ours
    return {"name": name, "case": case, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit}


def spread_row(name: str, case: str, ours: Spread | None, peer: Spread | None, scale: float, unit: str) -> Row:
    """Return a row of medians; its unit holds ranges and runs, ours then the peer's."""
    ranges, bounds = list[str](), Row()
    for side, spread in (("ours", ours), ("peer", peer)):
        if spread is not None:
            least, greatest = spread.least * scale, spread.greatest * scale
            bounds |= {f"{side}_min": least, f"{side}_max": greatest, f"{side}_runs": spread.runs}
            ranges.append(f"{least:,.4g}-{greatest:,.4g} in {spread.runs}" if spread.runs > 1 else "one run")
    median_ours, median_peer = (None if spread is None else spread.median * scale for spread in (ours, peer))
    return figure_row(name, case, median_ours, median_peer, f"{unit} {' | '.join(ranges)}") | bounds


def with_target(row: Row, value: float, target: float, *, judged: bool = True) -> Row:
    """Return a row that says its target and whether it is met; None: the machine was too loaded to tell."""
    met = value <= target if judged else None
    verdict = {True: "met", False: "missed", None: "not judged, the machine is loaded"}[met]
    return row | {"unit": f"{row['unit']}, target at most {target:,g}: {verdict}", "target": target, "met": met}


def note_row(name: str, text: str) -> Row:
    """Return a row that holds words alone."""
    return {"name": name, "case": text, "ours": None, "peer": None, "ratio": None, "unit": ""}


# The machine


def machine() -> dict[str, str]:
    """Return what a figure must be read beside: processor, cores this process may use, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    try:
        flower = version("flwr")
    except PackageNotFoundError:
        flower = "none"
    return {
        "machine": names[0] if names else platform.machine(),
        "cores": f"at most {cores()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "flwr": flower,
    }


def cores() -> int:
    """Return how many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loaded() -> bool:
    """Return whether others keep the cores busy, so that a time says little."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > LOAD_MAX * cores()


def load_text() -> str:
    """Return the load averaged over one minute."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def progress(text: str) -> None:
    """Say on standard error what is measured now."""
    print(text, file=sys.stderr, flush=True)
