"""What a process of a network measures of its own part in each round: a line of JSON each, in a file that only grows.

Nobody can check these figures; whoever collects a run signs them (`Statement`). A line that a crash cut short, or that
is something else, is passed over.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["FIGURES", "RoundFigures", "append_figures", "read_figures"]

FIGURES: Final = "figures.jsonl"  # in the folder of a process's state
FILE_BYTES_MAX: Final = 1 << 26


@dataclass(frozen=True)
class RoundFigures:
    """One process's figures of one round; None where it did not measure, or had no part in it.

    Attributes:
        coordination_ms: last report admitted here -> result certified here: the header's proposer alone knows.
        finality_ms: last report admitted here -> final here.
        cpu_seconds: processor time of the whole process since the round before.
        prove_ms: of the own report's proof.
    """

    round: int
    coordination_ms: float | None = None
    finality_ms: float | None = None
    cpu_seconds: float | None = None
    prove_ms: float | None = None


def append_figures(path: Path, figures: RoundFigures) -> None:
    """Add a line; a disk that refuses costs the figures, and nothing else."""
    with suppress(OSError), path.open("ab") as file:
        file.write(msgspec.json.encode(figures) + b"\n")


def read_figures(path: Path) -> dict[int, RoundFigures]:
    """Return what a file says of each round, the last word of each; nothing if there is no such file."""
    try:
        with path.open("rb") as file:
            lines = file.read(FILE_BYTES_MAX).split(b"\n")
    except OSError:
        return {}
    found: dict[int, RoundFigures] = {}
    for line in lines:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            figures = msgspec.json.decode(line, type=RoundFigures)
            found[figures.round] = figures
    return found
