"""Keeps the members of a network running: starts them, starts again whoever dies, stops all, and says so each time.

It owns no clock and no process: both are given, so that every decision can be tried without one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from collegium.apps._exit import ExitCode
from collegium.apps._zygote import Ended

__all__ = [
    "RESTARTS_MAX",
    "STAYED_UP_S",
    "Charge",
    "Died",
    "Finished",
    "GaveUp",
    "Happening",
    "Nursery",
    "Started",
    "Supervisor",
    "delay_s",
    "how_it_ended",
]

RESTARTS_MAX: Final = 8  # in a row, of one that does not stay up
STAYED_UP_S: Final = 60.0  # whoever ran so long starts with a clean slate
DELAY_FIRST_S: Final = 0.5
DELAY_MAX_S: Final = 30.0

State: TypeAlias = Literal["waiting", "running", "finished", "given up", "stopped"]


class Nursery(Protocol):
    """Where processes come from."""

    def start(self, arguments: Sequence[str], log: Path) -> int:
        """Start a process and return its pid."""
        ...

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process that was started here."""
        ...

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return what ended, after waiting at most so long."""
        ...


@dataclass(eq=False)
class Charge:
    """One member as it is looked after.

    Attributes:
        lasting: it has work as long as others have: it never finishes, whatever it says.
        attempts: starts in a row after which it did not stay up.
        due_s: when it is to be started, while it waits.
    """

    role: str
    name: str
    config: Path
    log: Path
    lasting: bool = False
    state: State = "waiting"
    pid: int | None = None
    restarts: int = 0
    attempts: int = 0
    due_s: float = 0.0
    started_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A member runs; `restarts` counts from 0."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Died:
    """A member ended though it had work left, and is started again after `again_s`."""

    name: str
    pid: int
    code: int
    again_s: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A member ended and is not started again."""

    name: str
    code: int
    log: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """A member has nothing left to do."""

    name: str


Happening: TypeAlias = Started | Died | GaveUp | Finished


def delay_s(attempts: int) -> float:
    """Return how long to wait before the next start after so many that did not last."""
    return min(DELAY_MAX_S, DELAY_FIRST_S * float(1 << max(0, attempts - 1)))


def how_it_ended(code: int) -> str:
    """Return an exit code, or minus a signal's number, in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


@dataclass(eq=False)
class Supervisor:
    """Looks after charges.

    Args:
        charges: in the order in which to start them.
        nursery: where processes come from.
        now_s: a clock that never goes back.
        said_finished: tells whether the member of this name said that it has nothing left to do. Exit code 0 alone does
            not: whoever is told to stop by hand ends with it too.
        starting: is told the name of whoever is about to be started: what it said before counts no more.
    """

    charges: Sequence[Charge]
    nursery: Nursery
    now_s: Callable[[], float]
    said_finished: Callable[[str], bool]
    starting: Callable[[str], None]
    stopping: bool = field(default=False, init=False)

    def step(self, timeout_s: float) -> list[Happening]:
        """Start whoever is due, wait at most so long for somebody to end, and return what happened."""
        due = [charge for charge in self.charges if charge.state == "waiting" and self.now_s() >= charge.due_s]
        happened: list[Happening] = [] if self.stopping else [self._start(charge) for charge in due]
        for ended in self.nursery.ended(timeout_s):
            charge_ended = next((charge for charge in self.charges if charge.pid == ended.pid), None)
            if charge_ended is not None:
                happened += self._ended(charge_ended, ended)
        return happened

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask everybody to stop; nobody is started again."""
        self.stopping = True
        for charge in self.charges:
            if charge.pid is not None:
                self.nursery.signal(charge.pid, number)
            elif charge.state == "waiting":
                charge.state = "stopped"

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(charge.state == "running" for charge in self.charges)

    def _start(self, charge: Charge) -> Started:
        self.starting(charge.name)
        charge.pid = self.nursery.start([str(charge.config)], charge.log)
        charge.state, charge.started_s = "running", self.now_s()
        return Started(charge.name, charge.pid, charge.restarts)

    def _ended(self, charge: Charge, ended: Ended) -> list[Happening]:
        charge.pid = None
        if self.stopping:
            charge.state = "stopped"
            return []
        if not charge.lasting and ended.code == ExitCode.GOOD and self.said_finished(charge.name):
            charge.state = "finished"
            return [Finished(charge.name)]
        if self.now_s() - charge.started_s >= STAYED_UP_S:
            charge.attempts = 0
        charge.attempts += 1
        if ended.code == ExitCode.USER or charge.attempts > RESTARTS_MAX:  # refused settings stay refused
            charge.state = "given up"
            return [GaveUp(charge.name, ended.code, charge.log)]
        wait_s = delay_s(charge.attempts)
        charge.state, charge.due_s, charge.restarts = "waiting", self.now_s() + wait_s, charge.restarts + 1
        return [Died(charge.name, ended.pid, ended.code, wait_s)]
