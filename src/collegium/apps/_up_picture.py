"""What a network's members say in their logs, put together into one picture; nothing here is taken on trust.

A log is for people. What a run was is decided by certificates, which `collegium verify` checks; the picture is only
what a person watches meanwhile. Lines that are no JSON, or say something unknown, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collegium.node import CheckpointPosted, TrainerStanding, TrainersWeighed

__all__ = ["LogTail", "MemberSeen", "Picture", "RoundSeen"]

READ_BYTES_MAX: Final = 1 << 20
LINE_BYTES_MAX: Final = 1 << 16
ROUNDS_MAX: Final = 1 << 20
TRAINERS_MAX: Final = 1 << 10


@dataclass(eq=False)
class LogTail:
    """Follows a log that grows.

    Args:
        path: the log; it may not be there yet.
    """

    path: Path
    _offset: int = 0
    _pending: bytes = b""

    @classmethod
    def at_end(cls, path: Path) -> LogTail:
        """Follow a log from where it ends now: what was said in an earlier run is not news."""
        return cls(path, path.stat().st_size if path.exists() else 0)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that were completed since the last call, a bounded number of bytes at a time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(READ_BYTES_MAX)
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LINE_BYTES_MAX:
            self._pending = b""
        yield from lines

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the lines that are events."""
        for line in self.lines():
            if not line.startswith(b"{") or len(line) > LINE_BYTES_MAX:
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and isinstance(value.get("event"), str):
                yield value


@dataclass(eq=False)
class MemberSeen:
    """What a member said since it was started last, and what it counted over all."""

    ready: bool = False
    finished: bool = False
    uploads: int = 0
    upload_bytes: int = 0
    views: int = 0  # leaders that it saw replaced


@dataclass(eq=False)
class RoundSeen:
    """A round as validators and the evaluator tell of it."""

    number: int
    told_by: set[str] = field(default_factory=set)
    outcome: str = ""
    reports: int = 0
    view: int = 0
    final_s: float | None = None  # when a quorum of validators had told
    auc: float | None = None
    accuracy: float | None = None
    loss: float | None = None


@dataclass(eq=False)
class Picture:
    """The network as its logs show it.

    Args:
        rounds: the last round's number.
        quorum: how many validators must tell of a round before it is shown as final.
        now_s: a clock that never goes back.
    """

    rounds: int
    quorum: int
    now_s: Callable[[], float]
    began_s: float = field(init=False)
    members: dict[str, MemberSeen] = field(default_factory=dict)
    seen: dict[int, RoundSeen] = field(default_factory=dict)
    sent: dict[int, set[str]] = field(default_factory=dict)  # by round: whose upload a quorum has taken
    checkpoints: list[CheckpointPosted] = field(default_factory=list)
    weighed: TrainersWeighed | None = None  # what stewards made of the trainers, after the last round that is evaluated

    def __post_init__(self) -> None:
        self.began_s = self.now_s()

    def started(self, name: str) -> None:
        """Note that a member was started, for the first time or again."""
        member = self.members.setdefault(name, MemberSeen())
        member.ready = member.finished = False

    def hear(self, name: str, event: Mapping[str, Any]) -> RoundSeen | CheckpointPosted | TrainersWeighed | None:
        """Take in what a member says; return the round that is complete now, the checkpoint that is posted, or what
        became of the trainers.
        """
        member = self.members.setdefault(name, MemberSeen())
        number = _whole(event, "round")
        match event["event"]:
            case "ready":
                member.ready = True
            case "finished":
                member.finished = True
            case "view_changed":
                member.views += 1
            case "upload_sent":
                member.uploads += 1
                member.upload_bytes += _whole(event, "bytes") or 0
                if number is not None and number <= self.rounds:
                    self.sent.setdefault(number, set()).add(name)
            case "round_final" if number is not None and number <= ROUNDS_MAX:
                return self._final(name, number, event)
            case "evaluation" if number is not None and number <= ROUNDS_MAX:
                return self._evaluated(number, event)
            case "checkpoint":
                return self._checkpoint(event)
            case "weighed" if number is not None and number <= ROUNDS_MAX:
                self.weighed = _weighed(number, event)
                return self.weighed
        return None

    def finished(self, name: str) -> bool:
        """Tell whether a member said, since it was started last, that it has nothing left to do."""
        return name in self.members and self.members[name].finished

    def is_ready(self, name: str) -> bool:
        """Tell whether a member said, since it was started last, that it takes part."""
        return name in self.members and self.members[name].ready

    def took_s(self, number: int) -> float | None:
        """Return how long a round took, from when the one before was final."""
        this, before = self.seen.get(number), self.seen.get(number - 1)
        if this is None or this.final_s is None:
            return None
        began_s = self.began_s if before is None or before.final_s is None else before.final_s
        return this.final_s - began_s

    @property
    def present(self) -> int:
        """The round that is under way; one past the last when all are final."""
        return max((seen.number for seen in self.seen.values() if seen.final_s is not None), default=-1) + 1

    def _final(self, name: str, number: int, event: Mapping[str, Any]) -> RoundSeen | None:
        seen = self.seen.setdefault(number, RoundSeen(number))
        was_complete = _is_complete(seen)
        seen.told_by.add(name)
        seen.outcome = str(event.get("outcome", ""))[:32]
        seen.reports = max(seen.reports, _whole(event, "reports") or 0)
        seen.view = max(seen.view, _whole(event, "view") or 0)
        if seen.final_s is None and len(seen.told_by) >= self.quorum:
            seen.final_s = self.now_s()
        return seen if _is_complete(seen) and not was_complete else None

    def _evaluated(self, number: int, event: Mapping[str, Any]) -> RoundSeen | None:
        seen = self.seen.setdefault(number, RoundSeen(number))
        was_complete = _is_complete(seen)
        seen.auc, seen.accuracy, seen.loss = (_real(event, key) for key in ("auc", "accuracy", "loss"))
        return seen if _is_complete(seen) and not was_complete else None

    def _checkpoint(self, event: Mapping[str, Any]) -> CheckpointPosted | None:
        numbers = [_whole(event, key) for key in ("first_round", "last_round", "gas", "calldata_bytes")]
        if None in numbers or any(seen.last_round == numbers[1] for seen in self.checkpoints):
            return None
        first, last, gas, size = (number or 0 for number in numbers)
        self.checkpoints.append(CheckpointPosted(first, last, gas, size, str(event.get("digest", ""))[:80]))
        return self.checkpoints[-1]


def _is_complete(seen: RoundSeen) -> bool:
    return seen.final_s is not None and (seen.number == 0 or seen.auc is not None)


def _weighed(number: int, event: Mapping[str, Any]) -> TrainersWeighed:
    """Return what the evaluator says of the trainers; entries that say nothing are left out."""
    given = event.get("trainers")
    entries = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    trainers = tuple(
        TrainerStanding(
            name=str(entry.get("name", ""))[:512],
            weight=_whole(entry, "weight") or 0,
            points=_real(entry, "points") or 0.0,
            locked=entry.get("locked") is True,
            attack=str(entry.get("attack", ""))[:64],
            score=_real(entry, "score"),
        )
        for entry in entries[:TRAINERS_MAX]
    )
    return TrainersWeighed(number, _whole(event, "weight_max") or 0, trainers, _real(event, "model_score"))


def _whole(event: Mapping[str, Any], key: str) -> int | None:
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None


def _real(event: Mapping[str, Any], key: str) -> float | None:
    value = event.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
