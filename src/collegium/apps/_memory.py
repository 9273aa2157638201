"""How much memory this process holds, and has held at once."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["forget_peak", "resident", "resident_peak"]

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


def resident_peak() -> int:
    """Return this process's peak resident memory in bytes.

    The kernel's figure for this program where there is one: what `getrusage` reports begins at the peak of the process
    that started it.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _stated("VmHWM") or (peak if sys.platform == "darwin" else peak * 1024)


def resident() -> int:
    """Return what this process holds now in bytes; its peak, where the kernel does not say."""
    return _stated("VmRSS") or resident_peak()


def forget_peak() -> None:
    """Let the peak begin at what is held now, where the kernel lets us."""
    with suppress(OSError):
        _FORGET.write_text("5")


def _stated(name: str) -> int | None:
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
