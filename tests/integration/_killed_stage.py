"""Somebody who looks on while `collegium up` works, and ends three validators in turn with SIGKILL, each at its moment.

1. while it leads: the present view is the victim's, reports arrive, and it is the one who is to propose their close;
2. while reports arrive: a quorum has taken a trainer's upload, not all trainers', and no close is final;
3. right after a close is final: the first validator that opens its key sums is ended, the round's header is not final.

Nobody is ended before the one before takes part again. Moments are told from outside: from logs, and from what others
hear (`_tapped_member`). At each death the victim's journal is copied before its next process begins.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from _tapped_member import Ears

from collegium.apps._supervisor import Died, Happening, Started
from collegium.apps._up_picture import LogTail
from collegium.apps._up_view import PlainNetwork
from collegium.consensus import Block, EpochSet, Kept, Release
from collegium.node._consortium import read_genesis
from collegium.node._epoch_wire import decode_epoch_message
from collegium.node._journal_disk import DiskJournal

LOOK_S = 0.05
BLOCK, RELEASE = 1, 68  # kinds of frames, docs/spec/wire.md


@dataclass(frozen=True)
class Death:
    """A validator that was ended: when, what others had heard of it by then, and what was on its disk."""

    victim: int
    moment: str
    round: int
    uploads: int  # of this round that a quorum had taken
    said: frozenset[bytes]
    kept: Kept


@dataclass(eq=False)
class Scene:
    """What is known from outside of a network that runs."""

    folder: Path
    ears: Ears
    events: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    view: int = 0  # the highest of which somebody heard a block
    released: list[tuple[int, int]] = field(default_factory=list)  # (round, validator), as heard
    _tails: dict[Path, LogTail] = field(default_factory=dict)

    def look(self) -> None:
        """Take in what was logged and heard since the last time."""
        for path in (self.folder / "logs").glob("*.log"):
            for event in self._tails.setdefault(path, LogTail(path)).events():
                self.events.setdefault(path.stem, []).append(dict(event))
        for speaker, frame in self.ears.listen():
            if frame[0] in (BLOCK, RELEASE):
                message = decode_epoch_message(frame).message
                if isinstance(message, Block):
                    self.view = max(self.view, message.view)
                elif isinstance(message, Release):
                    self.released.append((message.round, speaker))

    def said(self, event: str, **fields: object) -> list[str]:
        """Return who logged an event with these fields, once for each time."""
        return [
            name
            for name, lines in self.events.items()
            for line in lines
            if {"event": event, **fields}.items() <= line.items()
        ]

    @property
    def round(self) -> int:
        """The round that is under way, as the first validator to be there tells."""
        final = [line["round"] for lines in self.events.values() for line in lines if line["event"] == "round_final"]
        return max((int(str(number)) for number in final), default=-1) + 1

    def uploads(self) -> int:
        """Return how many uploads of the present round a quorum has taken."""
        return len(set(self.said("upload_sent", round=self.round)))

    def closed(self) -> list[int]:
        """Return who has opened its key sums for the present round's close, in the order in which it was heard."""
        return [speaker for number, speaker in self.released if number == self.round]


def leading(scene: Scene, epoch_set: EpochSet, trainers: int, dead: set[int]) -> int | None:
    """Return the leader of the present view, while reports arrive and nobody has proposed their close."""
    if scene.round < 1 or not 1 <= scene.uploads() < trainers or scene.closed():
        return None
    leader = epoch_set.leader(scene.view + 1)
    return None if leader in dead else leader


def arriving(scene: Scene, epoch_set: EpochSet, trainers: int, dead: set[int]) -> int | None:
    """Return a validator that does not lead, while reports arrive."""
    if scene.round < 1 or not 1 <= scene.uploads() < trainers or scene.closed():
        return None
    leaders = {epoch_set.leader(scene.view + ahead) for ahead in (0, 1, 2)}
    return next(index for index in range(epoch_set.size) if index not in dead | leaders)


def closing(scene: Scene, epoch_set: EpochSet, trainers: int, dead: set[int]) -> int | None:
    """Return the first validator that opened its key sums, before the round is final anywhere."""
    opened = [index for index in scene.closed() if index not in dead]
    return opened[0] if opened and scene.round >= 1 else None


MOMENTS = {"it leads": leading, "reports arrive": arriving, "a close is final": closing}


class Onlooker(PlainNetwork):
    """Shows a network in lines as `collegium up` does in a log, and ends a validator at each of MOMENTS."""

    def __init__(self, stream: TextIO, folder: Path, trainers: int) -> None:
        super().__init__(stream)
        self.scene = Scene(folder, Ears(folder))
        self.deaths: list[Death] = []
        self.died: list[tuple[str, int]] = []
        self._trainers = trainers
        self._pids: dict[str, int] = {}
        self._due: tuple[str, str, int, int] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="onlooker")

    def happened(self, happening: Happening) -> None:
        """Note who runs with which pid; keep a copy of the journal of whoever died, before it is started again."""
        super().happened(happening)
        if isinstance(happening, Started):
            self._pids[happening.name] = happening.pid
            if not self._thread.is_alive() and not self._over.is_set() and happening.name == "relayer":
                self._thread.start()
        elif isinstance(happening, Died):
            self._pids.pop(happening.name, None)
            self.died.append((happening.name, happening.code))
            with self._lock:
                if self._due is not None and self._due[1] == happening.name:
                    self.deaths.append(self._death(*self._due))
                    self._due = None

    def stop(self) -> None:
        """Look on no more, and take in the last words."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.scene.look()

    def _death(self, moment: str, name: str, number: int, uploads: int) -> Death:
        victim = int(name.removeprefix("validator "))
        self.scene.look()
        said = frozenset(frame for speaker, frame in self.scene.ears.words if speaker == victim)
        return Death(victim, moment, number, uploads, said, self.kept(victim, f"death-{len(self.deaths)}"))

    def kept(self, victim: int, name: str) -> Kept:
        """Return what is on a validator's disk while it does not run; read from a copy."""
        folder = self.scene.folder / name
        folder.mkdir()
        state = self.scene.folder / "validators" / f"{victim:02d}" / "state"
        for file in sorted((state / "epochs" / "00000").glob("journal.db*")):
            shutil.copy(file, folder / file.name)
        journal = DiskJournal(folder / "journal.db")
        try:
            return journal.read()
        finally:
            journal.close()

    def _watch(self) -> None:
        epoch_set = read_genesis(self.scene.folder / "genesis.json").epoch_set
        for moment, victim_at in MOMENTS.items():
            for _ in self._looks():
                dead = {death.victim for death in self.deaths}
                victim = victim_at(self.scene, epoch_set, self._trainers, dead)
                if victim is not None and self._kill(moment, f"validator {victim}"):
                    break
            for _ in self._looks():
                if self._due is None and all(self._is_ready(death.victim) for death in self.deaths):
                    break

    def _looks(self) -> Iterator[None]:
        """Look again and again, until the network stops."""
        while not self._over.is_set():
            with self._lock:
                self.scene.look()
            yield
            time.sleep(LOOK_S)

    def _kill(self, moment: str, name: str) -> bool:
        """End a validator; return whether it ran."""
        pid = self._pids.get(name)
        if pid is None:
            return False
        self._due = (moment, name, self.scene.round, self.scene.uploads())
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def _is_ready(self, victim: int) -> bool:
        """Tell whether a validator that was ended once takes part again."""
        return self.scene.said("ready").count(f"validators-{victim:02d}") >= 2
