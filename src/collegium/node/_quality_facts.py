"""What a run's model states say of its trainers, round by round, and which number of a state is the wrong one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np

from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.incentives import NO_SCORE, ONE, QualityState
from collegium.lineage import Store

from ._events import TrainerStanding, TrainersWeighed
from ._task import LearningTask

__all__ = ["QUALITY_NOTES", "QualityMismatchError", "add_quality", "check_quality", "quality_facts", "weighed_event"]

MODEL_BYTES_MAX = 64 << 20

QUALITY_NOTES = (
    "Trainers are weighed by scores that stewards' hidden rows give: a steward's gradient is its word, bounded by the "
    "median of all, not proved. A trainer whose rows look like nobody's hidden rows scores low, and counts less.",
    "Floating point and pooled data count everybody alike.",
)
PROVED_NOTES = (
    "Trainers are weighed by scores that stewards' hidden rows give: a steward's gradient is proved on rows that it "
    "registered, which are real or not. A trainer whose rows look like nobody's hidden rows scores low, and counts "
    "less.",
    *QUALITY_NOTES[1:],
)


class QualityMismatchError(CollegiumError):
    """A state of quality holds a number that its round does not give."""


def quality_facts(
    task: LearningTask, store: Store, models: Sequence[Digest], beacons: Sequence[Digest]
) -> tuple[dict[str, object] | None, ...]:
    """Return for each round what it said of trainers; None in round 0, and in all rounds of a task without stewards.

    Args:
        store: holds the model states.
        models: the digest of the state after each round.
        beacons: of the terms of each round after round 0.
    """
    if task.quality is None:
        return (None,) * len(models)
    states = [task.decode_state(store.get(digest, MODEL_BYTES_MAX)).quality for digest in models]
    ends = zip(pairwise(states), beacons, strict=True)
    rounds = [_facts(task, number, *around, beacon) for number, (around, beacon) in enumerate(ends, 1)]
    return (None, *rounds)


def _facts(
    task: LearningTask, number: int, before: QualityState | None, after: QualityState | None, beacon: Digest
) -> dict[str, object] | None:
    if task.quality is None or before is None or after is None:
        return None
    names, folded, found = dict(task.names), after.round == number, task.quality.places_of(before, number, beacon)
    return {
        "scored": before.has_direction,
        "records": sum(entry.record != bytes(32) for entry in after.stewards) if folded else 0,
        "trainers": [
            {
                "name": names[account],
                "score": _score(int(after.scores[place])) if folded else None,
                "drawn": int(found.hits[place]),
                "weight": int(found.weights[place]),
                "points": int(after.standing.points[place] - before.standing.points[place]) / ONE,
                "locked": bool(after.standing.locked_until[place] > after.standing.round),
                "probation": not after.standing.vetted[place],
            }
            for place, account in enumerate(after.standing.addresses)
        ],
        "model_score": {
            "round": after.model_round,
            "stewards": after.model_scores,
            "correct": after.model_score / ONE,
        }
        if folded and after.model_scores
        else None,
    }


def weighed_event(task: LearningTask, number: int, model: bytes, attacks: Mapping[str, str]) -> TrainersWeighed | None:
    """Return what to tell of the trainers after a round whose state is `model`; None in a task without stewards.

    Args:
        attacks: by name, what a simulation told trainers to do.
    """
    state = task.decode_state(model).quality
    if task.quality is None or state is None:
        return None
    names, standing = dict(task.names), state.standing
    trainers = tuple(
        TrainerStanding(
            names[account],
            int(state.weights[place]),
            int(standing.points[place]) / ONE,
            bool(standing.locked_until[place] > standing.round),
            attacks.get(names[account], ""),
            _score(int(state.scores[place])) if state.round == number else None,
        )
        for place, account in enumerate(standing.addresses)
    )
    told = state.round == number and state.model_scores
    return TrainersWeighed(number, task.quality.policy.weight_max, trainers, state.model_score / ONE if told else None)


def add_quality(summary: dict[str, object], facts: Sequence[dict[str, object] | None], proved: bool) -> None:
    """Add to a run's summary what its rounds said of trainers; nothing in a task without stewards."""
    if not any(facts):
        return
    rounds: Any = summary["rounds"]
    for entry, said in zip(rounds, facts, strict=True):
        entry["quality"] = said
    notes: Any = summary["notes"]
    notes += PROVED_NOTES if proved else QUALITY_NOTES


def _score(value: int) -> float | None:
    return None if value == NO_SCORE else value / ONE


def check_quality(task: LearningTask, round_number: int, stored: bytes, redone: bytes) -> None:
    """Refuse a state that a header names in the place of the one that its round gives, by its first wrong number.

    Raises:
        QualityMismatchError: naming it; nothing is said of states that differ elsewhere.
        ModelStateError: the stored one is no state of this task.
    """
    if task.quality is None or stored == redone:
        return
    said, found = task.decode_state(stored).quality, task.decode_state(redone).quality
    if said is None or found is None:
        return
    for name, value, expected in _differences(said, found):
        raise QualityMismatchError(
            f"round {round_number} leaves {name} {value}, redone it is {expected}",
            round=round_number,
            name=name,
            value=value,
            expected=expected,
        )


def _differences(said: Any, found: Any, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield where two states of quality differ: the path to a number, and both."""
    for part in fields(found):
        value, expected = getattr(said, part.name), getattr(found, part.name)
        name = f"{prefix}{part.name}"
        if part.name == "standing":
            yield from _differences(value, expected, "standing.")
        elif isinstance(expected, np.ndarray):
            places = np.flatnonzero(value != expected)
            yield from ((f"{name}[{place}]", int(value[place]), int(expected[place])) for place in places)
        elif part.name == "stewards":
            for place, (one, other) in enumerate(zip(value, expected, strict=True)):
                yield from _differences(one, other, f"stewards[{place}].")
        elif value != expected:
            yield name, _shown(value), _shown(expected)


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
