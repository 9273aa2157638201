"""Where a proof's columns lie while it is made: in memory, or in a file without a name where they would fill it.

Columns tell all that the proof hides. A thread keeps the memory of its last proof for its next one: taking fresh memory
from the system costs a sixth of a proof. The file is this user's alone (mode 0600), in the folder for temporary files
(`TMPDIR`), and is unlinked before anything is written to it; what was written may stay on the disk's free blocks.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading

import numpy as np
import numpy.typing as npt

from ._events import WorldError

__all__ = ["COLUMNS_IN_MEMORY_MAX", "COLUMNS_KEPT_MAX", "allocate_columns"]

COLUMNS_IN_MEMORY_MAX = 2 << 30  # bytes
COLUMNS_KEPT_MAX = 512 << 20  # bytes that a thread holds on to


class _Kept(threading.local):
    """A thread's memory for columns."""

    elements: npt.NDArray[np.uint64] = np.empty(0, np.uint64)


_kept = _Kept()


def allocate_columns(shape: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """Return an array of this shape, its content not set: in memory, or above the limit in a file that ends with it.

    A small one is this thread's until its next call: a proof is done with its columns when it is made.

    Raises:
        WorldError: the disk has no room for it.
    """
    size = 8 * shape[0] * shape[1]
    if size <= min(COLUMNS_KEPT_MAX, COLUMNS_IN_MEMORY_MAX):
        if 8 * _kept.elements.size < size:
            _kept.elements = np.empty(size // 8, np.uint64)
        return _kept.elements[: size // 8].reshape(shape)
    if size <= COLUMNS_IN_MEMORY_MAX:
        return np.empty(shape, np.uint64)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise WorldError(f"no room for columns of {size} bytes in {tempfile.gettempdir()}: {error}") from error
    return np.frombuffer(mapped, np.uint64).reshape(shape)


def _reserve(file: int, size: int) -> None:
    """Give a file its length, and blocks where the system can: a disk that fills up later kills a process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
