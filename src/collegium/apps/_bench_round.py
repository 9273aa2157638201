"""Whole learning rounds on virtual time, each seat its own machine: how long, how many bytes, and where the time goes.

The validators are the real ones with real keys, uploads and columns (`play_vectors`); only the links are made up, and
computing is measured. The critical path is followed backwards: from the step that made the round final at a quorum,
to whatever that step waited for, until the last report was admitted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from collegium.aggregation import Upload
from collegium.apps._memory import forget_peak, resident_peak
from collegium.consensus import (
    Admitted,
    Message,
    RoundFinished,
    RoundMessage,
    encode_peer_message,
    encode_upload,
    seat_quorum,
)
from collegium.node import Delivery, Event, Network, Quantiser, RoundStarted, VectorSettings, play_vectors
from collegium.node import RoundFinished as RoundEnded

__all__ = ["WATTS", "Hop", "RoundCase", "RoundMeasure", "critical_path", "measure_rounds"]

WATTS: Final = 15  # of one busy core: an assumption
NEVER_SENT: Final = ("RoundAlarm", "Timer", "Tick")  # a validator's own clock


@dataclass(frozen=True, slots=True)
class RoundCase:
    """One committee, and the one-way delays of its rounds after the first, which is not counted."""

    seats: int
    links_ms: tuple[int, ...]
    trainers: int = 100
    parameters: int = 100_000


@dataclass(slots=True)
class Kind:
    """What one kind of message took in a round: handled how often, computing, and sent between machines."""

    deliveries: int = 0
    compute_ms: float = 0.0
    messages: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the critical path: handling one message, and waiting for it on a link or for a clock."""

    kind: str
    compute_ms: float
    link_ms: float
    timer_ms: float


@dataclass(frozen=True, slots=True)
class RoundMeasure:
    """One round.

    Attributes:
        kinds: by kind of message.
        path: from the last report admitted to final at a quorum.
    """

    link_ms: int
    coordination_ms: float
    finality_ms: float
    kinds: dict[str, Kind]
    path: tuple[Hop, ...]

    @property
    def between(self) -> tuple[int, int]:
        """Messages and bytes between validators: all but the trainers' uploads."""
        own = [kind for name, kind in self.kinds.items() if name != "Upload"]
        return sum(kind.messages for kind in own), sum(kind.sent_bytes for kind in own)

    @property
    def cpu_seconds(self) -> float:
        """Of all seats, each charged for what it would compute on its own machine."""
        return sum(kind.compute_ms for kind in self.kinds.values()) / 1e3


@dataclass(slots=True)
class Step:
    """A delivery as the path needs it."""

    participant: int
    kind: str
    sender: int | None
    arrived_ms: float
    ended_ms: float
    compute_ms: float


@dataclass(slots=True)
class Looker:
    """Looks on while a round is played."""

    seats: int
    network: Network | None = None
    kinds: defaultdict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    steps: list[Step] = field(default_factory=list)
    final: list[int] = field(default_factory=list)
    admitted_ms: float = 0.0
    _sizes: dict[int, tuple[object, int]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the round before."""
        self.kinds, self.steps, self.final, self.admitted_ms = defaultdict(Kind), [], [], 0.0
        self._sizes = {}

    def saw(self, delivery: Delivery) -> None:
        """Note a delivery, and what came of it."""
        if self.network is None:
            return
        name = type(delivery.message).__name__
        kind = self.kinds[name]
        kind.deliveries += 1
        kind.compute_ms += delivery.compute_ms
        if delivery.sender != delivery.participant and name not in NEVER_SENT:
            kind.messages += 1
            kind.sent_bytes += self._size(delivery.message)
        times = (delivery.arrived_ms, delivery.measured_ms, delivery.compute_ms)
        self.steps.append(Step(delivery.participant, name, delivery.sender, *times))
        notes = getattr(self.network.participants[delivery.participant], "notes", ())
        if any(isinstance(note, Admitted) for note in notes):
            self.admitted_ms = max(self.admitted_ms, delivery.measured_ms)
        if any(isinstance(note, RoundFinished) for note in notes):
            self.final.append(len(self.steps) - 1)

    def measure(self, link_ms: int, played: RoundEnded) -> RoundMeasure:
        """Return the round that was just played."""
        last = sorted(self.final, key=lambda place: self.steps[place].ended_ms)[seat_quorum(self.seats) - 1]
        path = critical_path(self.steps, last, self.admitted_ms, link_ms)
        return RoundMeasure(link_ms, played.coordination_ms, played.finality_ms, dict(self.kinds), path)

    def _size(self, message: object) -> int:
        known = self._sizes.get(id(message))
        if known is None:
            if isinstance(message, Upload):
                data = encode_upload(message)
            else:  # whatever else travels, validators say to each other
                data = encode_peer_message(cast(Message | RoundMessage, message))
            known = self._sizes[id(message)] = (message, len(data))  # held, so that no other takes its id
        return known[1]


def critical_path(steps: Sequence[Step], last: int, since_ms: float, link_ms: int) -> tuple[Hop, ...]:
    """Return what the step `last` waited for, oldest first, back to `since_ms` on the measured clock.

    A step waits for its participant to be done with the step before, or else for its message: that for the step of the
    sender that ended one link earlier, or, where there is none, for a clock that its own participant had set.
    """
    of: defaultdict[int, list[int]] = defaultdict(list)
    ended: dict[tuple[int, float], int] = {}
    before: dict[int, int] = {}
    for place, step in enumerate(steps):
        if of[step.participant]:
            before[place] = of[step.participant][-1]
        of[step.participant].append(place)
        ended.setdefault((step.participant, round(step.ended_ms, 6)), place)
    path, place = list[Hop](), last
    while True:
        step, earlier = steps[place], before.get(place)
        link = timer = 0.0
        if earlier is None or step.arrived_ms > steps[earlier].ended_ms:
            sender = step.participant if step.sender is None else step.sender
            delay = 0 if sender == step.participant else link_ms
            cause = ended.get((sender, round(step.arrived_ms - delay, 6)))
            if cause is not None and cause < place:
                link, earlier = float(delay), cause
            elif earlier is not None:
                timer = step.arrived_ms - steps[earlier].ended_ms
        path.append(Hop(step.kind, step.compute_ms, link, timer))
        if earlier is None or steps[earlier].ended_ms <= since_ms + 1e-6:
            if earlier is not None:
                path[-1] = _shortened(path[-1], since_ms - steps[earlier].ended_ms)
            return tuple(reversed(path))
        place = earlier


def _shortened(hop: Hop, spare_ms: float) -> Hop:
    """Return a hop without its first `spare_ms`: the link and the timer come before the compute."""
    link_ms = max(0.0, hop.link_ms - spare_ms)
    timer_ms = max(0.0, hop.timer_ms - max(0.0, spare_ms - hop.link_ms))
    compute_ms = hop.compute_ms - max(0.0, spare_ms - hop.link_ms - hop.timer_ms)
    return replace(hop, compute_ms=compute_ms, link_ms=link_ms, timer_ms=timer_ms)


def measure_rounds(case: RoundCase) -> tuple[list[RoundMeasure], int]:
    """Play a round that warms up, then one for each link; return these, and the peak memory of the process.

    Raises:
        StalledError: a round does not become final.
    """
    looker, rounds, links = Looker(case.seats), list[RoundMeasure](), (case.links_ms[0], *case.links_ms)

    def look_on(network: Network) -> None:
        looker.network, network.on_delivery = network, looker.saw

    def happened(event: Event) -> None:
        if isinstance(event, RoundStarted) and looker.network is not None:
            looker.begin()
            looker.network.link_ms = links[event.round - 1]
        if isinstance(event, RoundEnded):
            rounds.append(looker.measure(links[event.round - 1], event))

    settings = VectorSettings(
        name="bench",
        rounds=len(links),
        level="unproved",
        quantiser=Quantiser(clip=Fraction(1), bits=16),
        seats=case.seats,
        link_ms=max(links),
        watts=WATTS,
    )
    trainers = {f"trainer {index}": _learn for index in range(case.trainers)}
    forget_peak()
    play_vectors(settings, np.zeros(case.parameters), trainers, lambda _: Scores(), happened, look_on)
    return rounds[1:], resident_peak()


def _learn(weights: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """Return some change: what is learnt plays no part."""
    return np.full(weights.shape, 0.01)


@dataclass(frozen=True, slots=True)
class Scores:
    """No model is evaluated here."""

    loss: float = 0.0
    accuracy: float = 0.0
    auc: float = 0.0
