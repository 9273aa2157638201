"""Python's recursion limit: the EVM's while it runs, everybody else's otherwise (`_limit` says why).

This module is imported before any of py-evm, and lends it the limit that it wants for as long as it executes.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from collegium.settlement._limit import LIMIT_LOCK, limit_kept

__all__ = ["deep_calls"]

with limit_kept():
    from eth import EVM_RECURSION_LIMIT

_before: list[int] = []  # the limits that were found by the calls that execute now, in any thread


@contextmanager
def deep_calls() -> Iterator[None]:
    """Raise the limit to what 1024 nested EVM calls need, until no thread executes any more."""
    with LIMIT_LOCK:
        _before.append(sys.getrecursionlimit())
        sys.setrecursionlimit(max(_before[0], EVM_RECURSION_LIMIT))
    try:
        yield
    finally:
        with LIMIT_LOCK:
            first = _before[0]
            _before.pop()
            if not _before:
                sys.setrecursionlimit(first)
