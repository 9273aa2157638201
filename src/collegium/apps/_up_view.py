"""Shows a network at work: one screen that is drawn again in a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from collegium.apps._live import checkpoint_line, event_line, trainers_table, weighed_line
from collegium.apps._printable import printable
from collegium.apps._supervisor import Charge, Died, Finished, GaveUp, Happening, Started, how_it_ended
from collegium.apps._up_picture import Picture, RoundSeen
from collegium.node import CheckpointPosted, Event, TrainersWeighed

__all__ = [
    "LiveNetwork",
    "NetworkView",
    "PlainNetwork",
    "happening_line",
    "network_view",
    "round_line",
    "seen_line",
    "waiting_line",
]

ROUNDS_SHOWN_MAX: Final = 12
NEWS_SHOWN_MAX: Final = 6
PIDS_A_LINE: Final = 8
QUIET_S: Final = 20.0
_STYLES: Final = {
    "ready": "green",
    "starting": "yellow",
    "waiting": "red",
    "given up": "bold red",
    "finished": "dim green",
    "stopped": "dim",
}


class NetworkView(AbstractContextManager["NetworkView"], Protocol):
    """Something that shows a network while it is entered."""

    def __call__(self, event: Event) -> None:
        """Show what is said before and after the network runs."""

    def happened(self, happening: Happening) -> None:
        """Show that a member started, died, finished or was given up."""

    def seen(self, seen: RoundSeen | CheckpointPosted | TrainersWeighed) -> None:
        """Show that a round is complete, a checkpoint is posted, or what became of the trainers."""

    def update(self, picture: Picture, charges: Sequence[Charge]) -> None:
        """Take note of how things stand now."""


def network_view(stream: TextIO) -> NetworkView:
    """Return one screen where `stream` is a terminal that can move its cursor, else plain lines."""
    console = Console(file=stream)
    return LiveNetwork(console) if stream.isatty() and not console.is_dumb_terminal else PlainNetwork(stream)


class PlainNetwork:
    """Writes one line for each thing that happens, and one for what is waited for when nothing did for a while."""

    __slots__ = ("_picture", "_stream", "_wrote_s")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._picture: Picture | None = None
        self._wrote_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        self._write(event_line(event))

    def happened(self, happening: Happening) -> None:
        """Write what happened to a member."""
        self._write(happening_line(happening))

    def seen(self, seen: RoundSeen | CheckpointPosted | TrainersWeighed) -> None:
        """Write the line of a round, a checkpoint, or what became of the trainers."""
        self._write(seen_line(seen, self._picture))

    def update(self, picture: Picture, charges: Sequence[Charge]) -> None:
        """Remember the picture; a line is written when something happens, or when nothing did for QUIET_S."""
        if self._picture is None:
            self._wrote_s = picture.now_s()
        self._picture = picture
        if picture.now_s() - self._wrote_s >= QUIET_S:
            self._write(waiting_line(picture, charges))

    def _write(self, line: str | None) -> None:
        if line is not None:
            self._stream.write(line + "\n")
            self._stream.flush()
            if self._picture is not None:
                self._wrote_s = self._picture.now_s()


class LiveNetwork:
    """One screen: the latest rounds, every member with its pid, and the latest news."""

    __slots__ = ("_charges", "_live", "_news", "_picture")

    def __init__(self, console: Console) -> None:
        self._picture: Picture | None = None
        self._charges: Sequence[Charge] = ()
        self._news: deque[Text] = deque(maxlen=NEWS_SHOWN_MAX)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Print the event's line above the screen; it stays."""
        line = event_line(event)
        if line is not None:
            self._live.console.print(Text(line), highlight=False)

    def happened(self, happening: Happening) -> None:
        """Add trouble and recovery to the news; the first start and a good end are in the table."""
        if isinstance(happening, Finished) or (isinstance(happening, Started) and happening.restarts == 0):
            return
        self._news.append(Text(happening_line(happening), style="green" if isinstance(happening, Started) else "red"))

    def seen(self, seen: RoundSeen | CheckpointPosted | TrainersWeighed) -> None:
        """Add a checkpoint to the news; rounds are in their table."""
        if isinstance(seen, CheckpointPosted):
            self._news.append(Text(seen_line(seen, self._picture), style="cyan"))

    def update(self, picture: Picture, charges: Sequence[Charge]) -> None:
        """Draw this from now on."""
        self._picture, self._charges = picture, charges

    def _render(self) -> RenderableType:
        if self._picture is None:
            return Text("")
        weighed = self._picture.weighed
        trainers: list[RenderableType] = [] if weighed is None else [trainers_table(weighed), Text("")]
        return Group(
            _rounds_table(self._picture),
            Text(""),
            *trainers,
            _members_table(self._picture, self._charges),
            Text(waiting_line(self._picture, self._charges).strip()),
            Text(_totals(self._picture, self._charges)),
            *self._news,
        )


# ------------------------------------------------------------------------------------------------ lines


def happening_line(happening: Happening) -> str:
    """Return what happened to a member in one line."""
    name = printable(happening.name)
    match happening:
        case Started(pid=pid, restarts=0):
            return f"{name} runs, pid {pid}"
        case Started(pid=pid, restarts=restarts):
            return f"{name} runs again, pid {pid}; restart {restarts}"
        case Died(pid=pid, code=code, again_s=again_s):
            return f"{name}, pid {pid}, {how_it_ended(code)}; started again in {again_s:g} s"
        case GaveUp(code=code, log=log):
            return f"{name} {how_it_ended(code)} and is not started again; see {log}"
        case Finished():
            return f"{name} has finished"


def seen_line(seen: RoundSeen | CheckpointPosted | TrainersWeighed, picture: Picture | None) -> str:
    """Return a round, a checkpoint, or what became of the trainers in one line."""
    if isinstance(seen, RoundSeen):
        return round_line(seen, picture)
    return weighed_line(seen) if isinstance(seen, TrainersWeighed) else checkpoint_line(seen)


def round_line(seen: RoundSeen, picture: Picture | None) -> str:
    """Return a complete round in one line."""
    rounds = "" if picture is None else f"/{picture.rounds}"
    parts = [f"round {seen.number}{rounds}: {seen.reports} reports"]
    if seen.number == 0:
        parts.append("scaling of the features learned")
    if seen.outcome not in {"", "opened"}:
        parts.append(printable(seen.outcome))
    for name, value in (("AUC", seen.auc), ("accuracy", seen.accuracy), ("loss", seen.loss)):
        if value is not None:
            parts.append(f"{name} {value:.4f}")
    took_s = None if picture is None else picture.took_s(seen.number)
    if took_s is not None:
        parts.append(f"{took_s:.1f} s")
    parts.append(f"view {seen.view}")
    return ", ".join(parts)


def waiting_line(picture: Picture, charges: Sequence[Charge]) -> str:
    """Return what the network is at, in one line."""
    ready = sum(charge.state == "running" and picture.is_ready(charge.name) for charge in charges)
    running = sum(charge.state == "running" for charge in charges)
    trainers = sum(charge.role == "trainer" for charge in charges)
    number = picture.present
    if number > picture.rounds:
        doing = "all rounds are final; evaluation and checkpoints are left"
    else:
        doing = f"round {number}/{picture.rounds}: {len(picture.sent.get(number, ()))} of {trainers} uploads are in"
    return f"  {doing}; {ready} of {running} running members are ready; {picture.now_s() - picture.began_s:.0f} s"


# ------------------------------------------------------------------------------------------------ tables


def _rounds_table(picture: Picture) -> Table:
    table = Table("round", "reports", "AUC", "accuracy", "loss", "s", "view", "told by", box=None, pad_edge=False)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for number in sorted(picture.seen)[-ROUNDS_SHOWN_MAX:]:
        seen, took_s = picture.seen[number], picture.took_s(number)
        values = (seen.auc, seen.accuracy, seen.loss)
        table.add_row(
            f"{number}/{picture.rounds}",
            str(seen.reports),
            *("-" if value is None else f"{value:.4f}" for value in values),
            "-" if took_s is None else f"{took_s:.1f}",
            str(seen.view),
            f"{len(seen.told_by)}",
        )
    return table


def _members_table(picture: Picture, charges: Sequence[Charge]) -> Table:
    """Return every member's number and pid, coloured by its state, so that `kill -9 PID` is easily typed."""
    table = Table(box=None, pad_edge=False, show_header=False)
    groups = {
        "validators": ("validator",),
        "trainers": ("trainer",),
        "stewards": ("steward",),
        "others": ("evaluator", "relayer"),
    }
    for title, roles in groups.items():
        cells = [_cell(picture, charge) for charge in charges if charge.role in roles]
        for start in range(0, len(cells), PIDS_A_LINE):
            table.add_row(Text(title if start == 0 else "", style="bold"), *cells[start : start + PIDS_A_LINE])
    return table


def _cell(picture: Picture, charge: Charge) -> Text:
    running = "ready" if picture.is_ready(charge.name) else "starting"
    label = charge.name.partition(" ")[2] or charge.name
    style = _STYLES[running if charge.state == "running" else charge.state]
    return Text(f"{printable(label)} {charge.pid or charge.state}", style=style)


def _totals(picture: Picture, charges: Sequence[Charge]) -> str:
    members = picture.members.values()
    up = sum(charge.state == "running" for charge in charges)
    sent = sum(member.upload_bytes for member in members)
    return (
        f"{up} of {len(charges)} run, {sum(charge.restarts for charge in charges)} restarts, "
        f"{max((member.views for member in members), default=0)} leaders replaced, "
        f"{sum(member.uploads for member in members)} uploads of {_bytes_text(sent)}, "
        f"{len(picture.checkpoints)} checkpoints, {picture.now_s() - picture.began_s:.0f} s; Ctrl-C stops all"
    )


def _bytes_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
