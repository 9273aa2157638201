"""Runs a whole network on this machine: every member a process, watched until the task is done, then one run's folder.

found or open the consortium's folder -> start all -> watch, start again whoever dies -> collect -> stop all
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from collegium.apps._member import LEVEL_VARIABLE
from collegium.apps._supervisor import Charge, GaveUp, Happening, Supervisor
from collegium.apps._up_picture import LogTail, Picture
from collegium.apps._up_view import NetworkView
from collegium.apps._zygote import Zygote, ZygoteError
from collegium.node import (
    Consortium,
    ConsortiumError,
    Experiment,
    Message,
    WorldError,
    experiment_to_bytes,
    found_consortium,
    open_consortium,
)

__all__ = ["Collect", "MembersLostError", "NetworkRun", "UpOptions", "up"]

TARGET: Final = "collegium.apps._member:main"
LOOK_S: Final = 0.2  # between two looks at the logs
STOP_S: Final = 15.0  # for everybody to stop in order; whoever has not by then is killed
LOGS: Final = "logs"
TAIL_BYTES: Final = 4096

Summary = Mapping[str, Any]
Collect = Callable[[Consortium, Experiment, Path], Summary]


class MembersLostError(WorldError):
    """So many members cannot run that no round can become final, or that what they do for the task is not done."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How a network is run here.

    Attributes:
        folder: the consortium's folder, made where it is missing, gone on with where it is not; None means a temporary
            one.
        keep: leave a temporary folder where it is.
        force_free_ports: take any free ports where those that the experiment asks for are in use.
        target: what each process runs, for `Zygote`.
        environment: what processes find in their environment besides.
    """

    folder: Path | None = None
    keep: bool = False
    force_free_ports: bool = False
    target: str = TARGET
    environment: Mapping[str, str] = field(default_factory=dict)


def up(experiment: Experiment, out: Path, options: UpOptions, view: NetworkView, collect: Collect) -> Summary:
    """Run an experiment's network until its task is done and write its run into `out`; return the run's summary.

    Args:
        experiment: what the network learns.
        out: the run's folder, missing or empty.
        options: see `UpOptions`.
        view: is shown what happens.
        collect: writes the run's folder from what the validators, which still run, give out.

    Raises:
        MembersLostError: too many members cannot run.
        WorldError: the disk or the system failed.
        CollegiumError: the experiment, or the folder given, is refused.
    """
    environment = {LEVEL_VARIABLE: experiment.task.level, **options.environment}
    with _folder(options, view) as folder, Zygote(options.target, environment) as zygote:
        consortium = _consortium(experiment, folder, options, view)  # while the zygote imports
        view(Message("members are prepared; where this was never run before, code is compiled for some minutes"))
        try:
            zygote.wait_until_ready()
            run = NetworkRun.of(consortium, experiment, zygote, view)
            with _stop_signals():
                try:
                    run.watch()
                    return collect(consortium, experiment, out)
                finally:
                    run.stop()
        except ZygoteError as error:
            raise WorldError(str(error)) from error


@dataclass(eq=False)
class NetworkRun:
    """A network that runs: its members, their logs, and the picture of both."""

    consortium: Consortium
    experiment: Experiment
    supervisor: Supervisor
    picture: Picture
    listen: Callable[[], None]
    view: NetworkView

    @classmethod
    def of(cls, consortium: Consortium, experiment: Experiment, zygote: Zygote, view: NetworkView) -> NetworkRun:
        """Return the network of a consortium's folder; nobody is started yet."""
        logs = consortium.folder / LOGS
        logs.mkdir(exist_ok=True)
        charges = [
            Charge(
                role=member.role,
                name=member.name,
                config=consortium.config(member),
                log=logs / f"{Path(member.config).parent.as_posix().replace('/', '-')}.log",
                lasting=member.role == "validator",
            )
            for member in consortium.members
        ]
        picture = Picture(experiment.task.rounds, consortium.genesis.epoch_set.quorum, time.monotonic)
        tails = [(charge.name, LogTail.at_end(charge.log)) for charge in charges]
        listen = partial(_listen, tails, picture, view)

        def said_finished(name: str) -> bool:
            listen()  # what it said just before it ended is in its log
            return picture.finished(name)

        supervisor = Supervisor(charges, zygote, time.monotonic, said_finished, picture.started)
        return cls(consortium, experiment, supervisor, picture, listen, view)

    def watch(self) -> None:
        """Keep everybody running until whoever can finish has.

        Raises:
            MembersLostError: too many members cannot run.
        """
        self.view.update(self.picture, self.supervisor.charges)
        while any(charge.state in {"waiting", "running"} for charge in self._finishing()):
            self._look(LOOK_S)
        self._look(0.0)

    def stop(self) -> None:
        """Ask everybody to stop and wait for it, within bounds."""
        self.view(Message("all members are asked to stop"))
        self.supervisor.stop()
        deadline_s = time.monotonic() + STOP_S
        while self.supervisor.running and time.monotonic() < deadline_s:
            self._take_note(self.supervisor.step(LOOK_S))
        if self.supervisor.running:
            self.view(Message(f"{self.supervisor.running} did not stop in {STOP_S:.0f} s and are killed"))

    def _look(self, timeout_s: float) -> None:
        """Let at most so long pass, and take note of what happened and what was said."""
        self.listen()
        self._take_note(self.supervisor.step(timeout_s))
        self.view.update(self.picture, self.supervisor.charges)

    def _take_note(self, happenings: Sequence[Happening]) -> None:
        for happening in happenings:
            self.view.happened(happening)
            if isinstance(happening, GaveUp):
                self._check_enough(happening)

    def _check_enough(self, gave_up: GaveUp) -> None:
        """Raise if the task cannot be done by those who are left."""
        charges = self.supervisor.charges
        role = next(charge.role for charge in charges if charge.name == gave_up.name)
        states = [charge.state for charge in charges if charge.role == role]
        left = len(states) - states.count("given up")
        needed = {
            "validator": self.consortium.genesis.epoch_set.quorum,
            "trainer": self.experiment.trainers.minimum,
            "steward": len(states) // 2 + 1,  # fewer give no direction
        }.get(role, len(states))
        if left < needed:
            raise MembersLostError(
                f"{gave_up.name} cannot run: {_last_words(gave_up.log)} ({left} of {len(states)} "
                f"{role}s are left, {needed} are needed)"
            )

    def _finishing(self) -> Iterator[Charge]:
        return (charge for charge in self.supervisor.charges if not charge.lasting)


def _listen(tails: Sequence[tuple[str, LogTail]], picture: Picture, view: NetworkView) -> None:
    """Take in what members said since the last time."""
    for name, tail in tails:
        for event in tail.events():
            seen = picture.hear(name, event)
            if seen is not None:
                view.seen(seen)


def _consortium(experiment: Experiment, folder: Path, options: UpOptions, view: NetworkView) -> Consortium:
    """Return the consortium in `folder`, made where there is none."""
    if not folder.exists() or not any(folder.iterdir()):
        return found_consortium(experiment, folder, view, datetime.now(UTC), force_free_ports=options.force_free_ports)
    consortium = open_consortium(folder)
    if consortium.genesis.experiment != experiment_to_bytes(experiment):
        raise ConsortiumError(f"{folder} is a consortium of another experiment; give a new folder", path=folder)
    view(Message(f"goes on with the consortium in {folder}"))
    return consortium


@contextmanager
def _folder(options: UpOptions, view: NetworkView) -> Iterator[Path]:
    """Yield the consortium's folder; a temporary one is removed at the end, keys and all, unless it is to be kept."""
    if options.folder is not None:
        yield options.folder
        return
    home = Path(tempfile.mkdtemp(prefix="collegium-"))
    try:
        yield home / "consortium"
    finally:
        if options.keep:
            view(Message(f"the consortium's folder is kept: {home / 'consortium'}"))
        else:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Have SIGTERM stop the network as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_words(log: Path) -> str:
    """Return the last line that a member wrote, an error's where there is one."""
    try:
        lines = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        lines = []
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1]
