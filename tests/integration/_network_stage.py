"""A small consortium as real processes, its members started, killed and asked by name.

Four clinics, each a trainer with forty made-up rows; four validators with four of 16 seats each; three rounds.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _run_stage import ignore, write_experiment

from collegium.apps._member import LEVEL_VARIABLE
from collegium.apps._zygote import Zygote
from collegium.node import (
    Consortium,
    EvaluatorSettings,
    Experiment,
    ValidatorSettings,
    found_consortium,
    load_experiment,
    load_settings,
)
from collegium.node._client_line import ClientLimits, open_lines
from collegium.node._tls import client_context

TARGET = "collegium.apps._member:main"
WAIT_S = 240.0  # generous: machines may be busy
VALIDATORS = 4
NETWORK = (
    ("absent = 1\n", ""),
    ("lying = 1\n", ""),
    ("[chain]", f"[network]\nvalidators = {VALIDATORS}\n[chain]"),
)


def consortium_of(
    folder: Path, *changes: tuple[str, str], validators: int = VALIDATORS
) -> tuple[Consortium, Experiment]:
    """Found the consortium of the small experiment, with pieces of its text replaced."""
    more = (*changes, (f"validators = {VALIDATORS}\n", f"validators = {validators}\n"))
    experiment = load_experiment(write_experiment(folder, *NETWORK, *more))
    return found_consortium(experiment, folder / "network", ignore, datetime.now(UTC)), experiment


@dataclass
class LiveNetwork:
    """The processes of a consortium; what they log is read from their files."""

    consortium: Consortium
    zygote: Zygote
    running: dict[str, int] = field(default_factory=dict)
    ended: dict[str, list[int]] = field(default_factory=dict)

    def log_of(self, name: str) -> Path:
        return self.consortium.folder / (name.replace("/", "-").replace(" ", "-") + ".log")

    def names(self, role: str) -> list[str]:
        return [member.name for member in self.consortium.members if member.role == role]

    def validators(self) -> dict[str, ValidatorSettings]:
        """Return every validator's settings by its name."""
        found = {member.name: load_settings(self.consortium.config(member)) for member in self.consortium.members}
        return {name: settings for name, settings in found.items() if isinstance(settings, ValidatorSettings)}

    def start(self, *names: str) -> None:
        for member in self.consortium.members:
            if member.name in names:
                config = str(self.consortium.config(member))
                self.running[member.name] = self.zygote.start([config], self.log_of(member.name))

    def signal(self, name: str, number: int) -> None:
        self.zygote.signal(self.running[name], number)

    def kill(self, name: str) -> None:
        """Kill at once, and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self.wait(lambda: name not in self.running, f"{name} to be gone")

    def events(self, name: str, event: str | None = None) -> list[Mapping[str, Any]]:
        """Return what a process has logged, of one kind if given."""
        path = self.log_of(name)
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if event in (None, line["event"])]

    def has(self, name: str, event: str, **fields: object) -> bool:
        """Tell whether a process has logged an event with these fields."""
        return any(fields.items() <= line.items() for line in self.events(name, event))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds; say what was logged if it never does."""
        until = time.monotonic() + WAIT_S
        while not condition():
            for over in self.zygote.ended(0.1):
                name = next(name for name, pid in self.running.items() if pid == over.pid)
                del self.running[name]
                self.ended.setdefault(name, []).append(over.code)
            assert time.monotonic() < until, f"waited {WAIT_S} s for {what}\n{self.told()}"

    def told(self) -> str:
        """Return the last lines of every log."""
        names = [member.name for member in self.consortium.members]
        logs = {name: self.log_of(name) for name in names}
        return "\n".join(f"{name}: {path.read_text()[-1500:]}" for name, path in logs.items() if path.exists())


async def metrics_of(consortium: Consortium) -> dict[int, str]:
    """Return what every validator's gateway says to a monitor."""
    settings = load_settings(consortium.folder / "evaluator" / "config.toml")
    assert isinstance(settings, EvaluatorSettings)
    task, authority = consortium.genesis.epoch_set.task, settings.tls.authority
    lines = open_lines(task, settings.validators, authority, ClientLimits())
    try:
        return {index: (await line.ask("/metrics", 1 << 20)).body.decode() for index, line in lines.items()}
    finally:
        for line in lines.values():
            await line.close()


@contextmanager
def connected(own: ValidatorSettings, target: ValidatorSettings) -> Iterator[ssl.SSLSocket]:
    """Yield a connection to one validator with another one's certificate; nothing is said on it yet."""
    with (
        socket.create_connection(target.listen, timeout=60) as plain,
        client_context(own.tls).wrap_socket(plain, server_hostname="validator") as connection,
    ):
        yield connection


def opened(consortium: Consortium, level: str = "unproved") -> Iterator[LiveNetwork]:
    """Yield a network at a level that nothing of runs yet; everything is ended afterwards."""
    with Zygote(TARGET, {LEVEL_VARIABLE: level}) as zygote:  # what is read once is not read in every process
        yield LiveNetwork(consortium, zygote)
