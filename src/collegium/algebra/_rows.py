"""Share of a kernel's rows among threads.

Kernels release the interpreter's lock, so plain threads use every core. Numba's own parallel loops are not used: its
portable back end ends the process when two Python threads call it at once, and its OpenMP one after a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

__all__ = ["over_rows"]

_ELEMENTS_PER_THREAD_MIN = 1 << 15


@cache
def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_threads(), thread_name_prefix="algebra")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # the parent's threads do not exist in the child


def over_rows(kernel: Callable[..., Any], rows: int, elements: int, *arguments: Any) -> None:
    """Runs `kernel(start, stop, *arguments)` over [0, rows), in several threads where the work is worth it.

    Args:
        kernel: writes each row's result alone, so ranges may run at the same time.
        rows: how many rows there are.
        elements: how many elements all rows touch: a measure of the work.
        *arguments: handed on.
    """
    if elements < 2 * _ELEMENTS_PER_THREAD_MIN:
        kernel(0, rows, *arguments)
        return
    parts = max(1, min(_threads(), rows, elements // _ELEMENTS_PER_THREAD_MIN))
    bounds = [rows * part // parts for part in range(parts + 1)]
    others = [_pool().submit(kernel, bounds[i], bounds[i + 1], *arguments) for i in range(1, parts)]
    kernel(bounds[0], bounds[1], *arguments)
    for other in others:
        other.result()
