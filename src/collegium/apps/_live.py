"""Shows the events of a run: a live table in a terminal, plain lines everywhere else."""

from collections import deque
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from collegium.apps._printable import printable
from collegium.node import (
    CheckpointPosted,
    Event,
    Message,
    ReportSubmitted,
    RoundFinished,
    RoundStarted,
    TrainerStanding,
    TrainersWeighed,
    VerifyProgress,
    Warning_,
)

__all__ = [
    "LiveTable",
    "PlainLines",
    "Watcher",
    "checkpoint_line",
    "event_line",
    "standing_state",
    "trainers_table",
    "watch",
    "weighed_line",
]

ROWS_SHOWN_MAX = 16
TRAINERS_SHOWN_MAX = 24
BAR_WIDTH = 15
ABSENT = "-"

_HEADINGS = ("round", "reports", "AUC", "accuracy", "loss", "coord. ms", "final ms", "bytes", "kWh", "seats")
_PROOF_HEADINGS = ("prove ms", "verify ms")
_PROOF_PLACE = 7  # behind the other times


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Something that shows events while it is entered."""

    def __call__(self, event: Event) -> None:
        """Show one event."""


def watch(stream: TextIO) -> Watcher:
    """Return a live table where `stream` is a terminal that can move its cursor, else plain lines."""
    console = Console(file=stream)
    return LiveTable(console) if stream.isatty() and not console.is_dumb_terminal else PlainLines(stream)


class PlainLines:
    """Writes one line for each event that says something new; for logs, pipes and `--json`."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        line = event_line(event)
        if line is not None:
            self._stream.write(line + "\n")
            self._stream.flush()


class LiveTable:
    """A table of the latest rounds above a progress bar; messages scroll past above it."""

    __slots__ = ("_console", "_live", "_progress", "_rows", "_task", "_weighed")

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: deque[tuple[str, ...]] = deque(maxlen=ROWS_SHOWN_MAX)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task: TaskID | None = None
        self._weighed: TrainersWeighed | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Update the table and the bar, or print the event's line above them."""
        match event:
            case RoundStarted(round=number, rounds=rounds):
                self._advance(f"round {number} of {rounds}", number - 1, rounds)
            case ReportSubmitted(round=number, index=index, count=count):
                self._describe(f"round {number}: report {index + 1} of {count}")
            case RoundFinished(round=number, rounds=rounds):
                self._rows.append(_cells(event))
                self._advance(f"round {number} of {rounds}", number, rounds)
            case TrainersWeighed():
                self._weighed = event
            case VerifyProgress(check=check, done=done, count=count):
                self._advance(printable(check), done, count)
                if done == count:
                    self._print(event_line(event), "green")
            case Warning_():
                self._print(event_line(event), "yellow")
            case Message() | CheckpointPosted():
                self._print(event_line(event), "")

    def _render(self) -> RenderableType:
        if not self._rows:
            return self._progress
        proved = any(row[_PROOF_PLACE] != ABSENT for row in self._rows)
        headings = (*_HEADINGS[:_PROOF_PLACE], *_PROOF_HEADINGS, *_HEADINGS[_PROOF_PLACE:])
        table = Table(*_without_proofs(headings, proved), box=None, pad_edge=False, header_style="bold")
        for column in table.columns[:-1]:
            column.justify, column.no_wrap = "right", True
        table.columns[-1].no_wrap = True  # a narrow terminal cuts the seats short rather than the rounds off
        for row in self._rows:
            table.add_row(*_without_proofs(row, proved))
        return Group(table, *([] if self._weighed is None else [trainers_table(self._weighed)]), self._progress)

    def _advance(self, description: str, completed: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task(description, total=total)
        self._progress.update(self._task, description=description, completed=completed, total=total)

    def _describe(self, description: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=description)

    def _print(self, line: str | None, style: str) -> None:
        if line is not None:
            self._console.print(Text(line, style=style), highlight=False)


def event_line(event: Event) -> str | None:
    """Return what an event says in one line, or None where another event will say it better."""
    match event:
        case Message(text=text):
            return printable(text)
        case Warning_(text=text):
            return f"warning: {printable(text)}"
        case RoundFinished():
            return _round_line(event)
        case TrainersWeighed() | CheckpointPosted():
            return weighed_line(event) if isinstance(event, TrainersWeighed) else checkpoint_line(event)
        case VerifyProgress(check=check, done=done, count=count) if done == count:
            return f"checked {printable(check)}: {done}"
        case _:
            return None


def checkpoint_line(event: CheckpointPosted) -> str:
    """Return a posted checkpoint in one line."""
    return (
        f"checkpoint of rounds {event.first_round} to {event.last_round}: {event.gas:,} gas, "
        f"{event.calldata_bytes} bytes, {printable(event.digest)}"
    )


def _round_line(event: RoundFinished) -> str:
    parts = [
        f"round {event.round}/{event.rounds}: {event.admitted} reports",
        f"AUC {event.auc:.4f}",
        f"accuracy {event.accuracy:.4f}",
        f"loss {event.loss:.4f}",
        f"coordination {event.coordination_ms:.0f} ms",
        f"finality {event.finality_ms:.0f} ms",
    ]
    if event.prove_ms is not None and event.verify_ms is not None:
        parts.append(f"a proof made in {event.prove_ms:.0f} ms, verified in {event.verify_ms:.0f} ms")
    if event.chain_bytes is not None:
        parts.append(f"{event.chain_bytes:.0f} bytes on chain")
    parts.append(f"{event.energy_kwh:.2e} kWh (estimate)")
    trouble = _trouble(event)
    return ", ".join(parts) + (f"; {trouble}" if trouble else "")


def _cells(event: RoundFinished) -> tuple[str, ...]:
    return (
        f"{event.round}/{event.rounds}",
        str(event.admitted),
        f"{event.auc:.4f}",
        f"{event.accuracy:.4f}",
        f"{event.loss:.4f}",
        f"{event.coordination_ms:.0f}",
        f"{event.finality_ms:.0f}",
        *(ABSENT if took is None else f"{took:.0f}" for took in (event.prove_ms, event.verify_ms)),
        ABSENT if event.chain_bytes is None else f"{event.chain_bytes:.0f}",
        f"{event.energy_kwh:.1e}",
        _trouble(event) or "all well",
    )


def trainers_table(event: TrainersWeighed) -> Table:
    """Return each trainer's score, its influence as a number and a bar, its points and its state, in words."""
    table = Table("trainer", "score", "influence", "", "points", "state", box=None, pad_edge=False, header_style="bold")
    for place in (1, 2, 4):
        table.columns[place].justify = "right"
    for entry in event.trainers[:TRAINERS_SHOWN_MAX]:
        bar = "#" * round(BAR_WIDTH * entry.weight / max(event.weight_max, 1))
        score = ABSENT if entry.score is None else f"{entry.score:.2f}"
        name = Text(printable(entry.name))
        table.add_row(name, score, str(entry.weight), bar, f"{entry.points:.2f}", standing_state(entry))
    if len(event.trainers) > TRAINERS_SHOWN_MAX:
        table.add_row(f"and {len(event.trainers) - TRAINERS_SHOWN_MAX} more")
    return table


def standing_state(entry: TrainerStanding) -> str:
    """Return how a trainer stands, in words."""
    state = "locked out" if entry.locked else "counts" if entry.weight else "no influence"
    return f"{state}, attacks: {printable(entry.attack)}" if entry.attack else state


def weighed_line(event: TrainersWeighed) -> str:
    """Return who has less than the greatest influence, in one line."""
    less = [entry for entry in event.trainers if entry.weight < event.weight_max]
    said = [f"{printable(entry.name)} {entry.weight}" for entry in less[:TRAINERS_SHOWN_MAX]]
    if len(less) > TRAINERS_SHOWN_MAX:
        said.append(f"and {len(less) - TRAINERS_SHOWN_MAX} more")
    others = f"the other {len(event.trainers) - len(less)} have {event.weight_max}" if less else "all have the greatest"
    score = "" if event.model_score is None else f"; stewards: {event.model_score:.1%} of hidden rows right"
    return f"round {event.round}: influence {', '.join([*said, others])}{score}"


def _without_proofs(cells: tuple[str, ...], proved: bool) -> tuple[str, ...]:
    """Return a row's cells without those about proofs, unless there are proofs."""
    return cells if proved else (*cells[:_PROOF_PLACE], *cells[_PROOF_PLACE + len(_PROOF_HEADINGS) :])


def _trouble(event: RoundFinished) -> str:
    """Return which seats lied or were absent and how many leaders were replaced; empty when all is well."""
    parts = [
        f"{word} {', '.join(map(str, seats))}"
        for word, seats in (("lying", event.lying_seats), ("absent", event.absent_seats))
        if seats
    ]
    if event.view_changes:
        parts.append(f"{event.view_changes} view change{'s' if event.view_changes > 1 else ''}")
    return "; ".join(parts)
