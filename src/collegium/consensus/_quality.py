"""Influence by what reports are worth: who weighs how much in a close, and the records by which that is found out.

Consensus knows neither scores nor who measures them. A task that weighs its trainers gives it a `Quality`: every answer
of it is a function of the model state, the round and the order, so that every validator, and every stranger later,
finds the same. Specified in docs/spec/round.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from collegium.aggregation import Report
from collegium.crypto import Digest

__all__ = ["Quality", "RoundEntry", "WeighedReport"]


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """Who may report in a round, and what follows.

    Attributes:
        weights: what each trainer's report weighs, by account; who is not named may not report. 0: a report like any
            other, but in no sum.
        awaited: whose reports a round waits for. Others that may report are admitted if they come before the close.
    """

    weights: Mapping[bytes, int]
    awaited: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class WeighedReport:
    """A report that a close admits, its weight there, and the proof that it names."""

    report: Report
    weight: int
    proof: bytes = field(repr=False)


class Quality(Protocol):
    """How a task weighs its trainers: the same on every machine, so anyone can redo it."""

    def entry(self, round_number: int, model: bytes, beacon: Digest) -> RoundEntry | None:
        """Return who may report in this round and what each report weighs; None: all, and by staleness.

        `model` is the state that the round starts from, `beacon` its terms'. No weight is negative or above the
        `Budget.weight_max` of the round's terms.
        """
        ...

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        """Check a record of this round that follows the records `before` it.

        Raises:
            CollegiumError: it is malformed, of another round, of nobody who may bring one, or of who has brought one.
        """
        ...

    def awaits_record(self, round_number: int, model: bytes, records: Sequence[bytes]) -> bool:
        """Tell whether a round is to wait for one more record beside these, each checked: for a time, not for ever."""
        ...

    def step(
        self,
        round_number: int,
        model: bytes,
        beacon: Digest,
        stepped: bytes,
        total: npt.NDArray[np.int64],
        reports: Sequence[WeighedReport],
        records: Sequence[bytes],
    ) -> bytes:
        """Return the model state after a round whose sum opened.

        Args:
            round_number: the round.
            model: the state that the round starts from; beacon: its terms'.
            stepped: what `Agreed.step` gave for it.
            total: the opened weighted sum.
            reports: those of the close, in its order.
            records: those that are final before the close, in their order.

        Raises:
            CollegiumError: when reports or records are ones that cannot be; the round is `invalid` then.
        """
        ...
