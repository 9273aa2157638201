"""Worker processes for the heavy, pure work of proofs: a trainer's proving, and everybody's verifying.

Nothing here decides anything: a result is the one that the caller would have computed itself, with the time it took.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from collegium.errors import CollegiumError

from ._events import WorldError

__all__ = ["WORKERS_VARIABLE", "Done", "WorkerCountError", "Workers", "worker_count"]

T = TypeVar("T")

WORKERS_VARIABLE = "COLLEGIUM_WORKERS"
COUNT_MAX = 1024


class WorkerCountError(CollegiumError):
    """COLLEGIUM_WORKERS is not a number of processes or threads."""


def worker_count() -> int:
    """Return how many processes or threads to work in: what COLLEGIUM_WORKERS says, else as many as cores."""
    said = os.environ.get(WORKERS_VARIABLE, "")
    if not said:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not said.isascii() or not said.isdigit() or not 1 <= int(said[:5]) <= COUNT_MAX:
        raise WorkerCountError(f"{WORKERS_VARIABLE} is {said[:20]!r}, expected 1..{COUNT_MAX}")
    return int(said)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a piece of work gave: a value, or the reason why it was refused; milliseconds it took.

    `cpu_seconds` is processor time of another process; what was done here is in this process's own.
    """

    value: T | None
    refusal: CollegiumError | None
    took_ms: float
    cpu_seconds: float

    def result(self) -> T:
        """Return the value.

        Raises:
            CollegiumError: the refusal.
        """
        if self.refusal is not None:
            raise self.refusal
        return cast(T, self.value)


@dataclass
class Workers:
    """As many processes as COLLEGIUM_WORKERS says, else as there are cores.

    They are started at the first piece of work and ended by `close`. With `count` 1 there are none: work is done here,
    when its result is asked for.

    Raises:
        WorkerCountError: the variable holds something else.
    """

    count: int = field(default_factory=worker_count)
    _pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def map(self, work: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Done[T]]:
        """Yield what `work` gives for each tuple of arguments, in their order; both must be what `pickle` can carry.

        Raises:
            WorldError: a process died.
        """
        listed = list(arguments)
        if self.count < 2 or len(listed) < 2:
            yield from (replace(_timed(work, *each), cpu_seconds=0.0) for each in listed)
            return
        try:
            pool = self._started()
            with _main_hidden():
                futures = [pool.submit(_timed, work, *each) for each in listed]
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            raise WorldError(f"a worker process died: {error}") from error

    def close(self) -> None:
        """End the processes; another piece of work would start them again."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # a fresh interpreter: a fork would copy threads of the libraries at work here in an unknown state
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context)
        return self._pool


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep processes that start now from importing the main program: a script without a guard would begin anew there.

    No work needs it, for all of it is this package's.
    """
    main = sys.modules["__main__"]
    file, spec = vars(main).pop("__file__", None), main.__spec__
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def _timed(work: Callable[..., T], *arguments: Any) -> Done[T]:
    began, cpu = time.perf_counter(), time.process_time()
    value: T | None = None
    refusal: CollegiumError | None = None
    try:
        value = work(*arguments)
    except CollegiumError as error:
        refusal = error
    return Done(value, refusal, 1e3 * (time.perf_counter() - began), time.process_time() - cpu)
