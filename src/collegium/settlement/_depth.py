"""Python's recursion limit: the EVM's while it runs, everybody else's otherwise.

Importing py-evm raises the limit of the whole process. A reader of hostile JSON then follows a hundred thousand
brackets down until the C stack ends, and the process dies instead of refusing. So this module is imported before any
of py-evm, gives back the limit that it found, and lends the EVM its own for as long as it executes.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deep_calls"]

_FOUND = sys.getrecursionlimit()

import eth  # noqa: E402, F401 - for its side effect, which ends on the next lines

_EVM = sys.getrecursionlimit()
sys.setrecursionlimit(_FOUND)

_lock = threading.Lock()
_before: list[int] = []  # the limits that were found by the calls that execute now, in any thread


@contextmanager
def deep_calls() -> Iterator[None]:
    """Raise the limit to what 1024 nested EVM calls need, until no thread executes any more."""
    with _lock:
        _before.append(sys.getrecursionlimit())
        sys.setrecursionlimit(max(_before[0], _EVM))
    try:
        yield
    finally:
        with _lock:
            first = _before[0]
            _before.pop()
            if not _before:
                sys.setrecursionlimit(first)
