"""What every process of a network does alike: begin with a log, watch its tasks, and end when it is told to.

The first SIGTERM or SIGINT lets a step end and files close; a second one, or a kill, ends the process at once, which
costs nothing: whatever must survive is on disk before it matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TextIO

from ._network_settings import LogSettings
from ._telemetry import forward_library_logs, logger

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["first_to_end", "open_log", "stop_signal"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def open_log(settings: LogSettings, role: str, index: int | None = None) -> Iterator[FilteringBoundLogger]:
    """Yield a process's log, to its file or to standard error, and close it afterwards."""
    with contextlib.ExitStack() as stack:
        stream: TextIO = sys.stderr
        if settings.file is not None:
            stream = stack.enter_context(settings.file.open("a", encoding="utf-8", buffering=1))
        log = logger(role, index, stream, settings.level)
        forward_library_logs(log, ("uvicorn", "asyncio", "collegium"))
        yield log


@asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """Yield an event that the first signal to stop sets; the next signal ends the process.

    In a thread, where no signal arrives, or under a caller that has its own handlers, the event is never set.
    """
    loop, stopping, caught = asyncio.get_running_loop(), asyncio.Event(), list[signal.Signals]()

    def first() -> None:
        stopping.set()
        for number in caught:
            loop.remove_signal_handler(number)  # the system's own way from now on
        caught.clear()

    for number in SIGNALS:
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, first)
            caught.append(number)
    try:
        yield stopping
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def first_to_end(*work: Awaitable[object]) -> None:
    """Run all, return when the first one ends, and cancel the others; raise what it raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancelled(tasks)


async def _cancelled(tasks: Sequence[asyncio.Future[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
