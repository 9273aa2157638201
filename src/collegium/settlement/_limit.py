"""Imports that would change Python's recursion limit for the whole process, and may not.

py_ecc, which web3 brings along, raises it to 100,000, py-evm to what its calls need. A reader of hostile JSON then
follows a hundred thousand brackets down until the C stack ends, and the process dies instead of refusing.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LIMIT_LOCK", "limit_kept"]

LIMIT_LOCK = threading.RLock()


@contextmanager
def limit_kept() -> Iterator[None]:
    """Give the limit back that there was before; nobody else changes it meanwhile."""
    with LIMIT_LOCK:
        found = sys.getrecursionlimit()
        try:
            yield
        finally:
            sys.setrecursionlimit(found)
