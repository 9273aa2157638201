"""How simulated worlds weigh their trainers, and what is brought to find that out: a toy of one hash each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from collegium.consensus import RoundEntry, WeighedReport
from collegium.crypto import Digest
from collegium.errors import CollegiumError

__all__ = ["AUTHORS", "HEAVIEST", "ForgedRecordError", "Marks", "make_record"]

AUTHORS: Final = 3  # who bring records; the last one brings two different ones
HEAVIEST: Final = 3
DRAW_BYTES: Final = 8
TAG: Final = b"record of the simulated worlds"


class ForgedRecordError(CollegiumError):
    """A record that no author of this world made for this round, or a second one."""


def make_record(author: int, round_number: int, draw: bytes) -> bytes:
    """Return an author's record: whoever knows the tag can make one, and liars do not try."""
    body = bytes([author]) + round_number.to_bytes(8, "little") + draw
    return body + sha256(TAG + body).digest()


@dataclass(frozen=True)
class Marks:
    """Weights that a model's hash draws: 0 for some trainers in each round, and the model tells what it was told.

    Where fewer than `minimum` would carry weight, all weigh most, as in a task of stewards. With `draws` the round's
    beacon leaves some out, and of others it says that nobody waits for them.
    """

    trainers: tuple[bytes, ...]
    minimum: int
    draws: bool = False

    def entry(self, round_number: int, model: bytes, beacon: Digest) -> RoundEntry | None:
        """Return who may report and weighs what; in round 0 all alike."""
        if round_number == 0:
            return None
        drawn, lots = sha256(b"weights" + model).digest(), sha256(b"lots" + beacon).digest()
        weights = {trainer: drawn[place] % (HEAVIEST + 1) for place, trainer in enumerate(self.trainers)}
        if sum(weight > 0 for weight in weights.values()) < self.minimum:
            weights = dict.fromkeys(self.trainers, HEAVIEST)
        everybody = RoundEntry(weights, frozenset(self.trainers))
        if not self.draws:
            return everybody
        kept = [trainer for place, trainer in enumerate(self.trainers) if lots[place] % 4]
        waited = frozenset(trainer for place, trainer in enumerate(self.trainers) if lots[place] % 4 > 1)
        weighed = {trainer: weights[trainer] if trainer in waited else 0 for trainer in kept}
        enough = sum(weight > 0 for weight in weighed.values()) >= self.minimum
        return RoundEntry(weighed, waited) if enough else everybody

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        """Check that an author made this record, and that it follows none of his."""
        author, draw = record[:1], record[9 : 9 + DRAW_BYTES]
        if author not in (bytes([number]) for number in range(AUTHORS)):
            raise ForgedRecordError(f"a record of {author!r}, expected one of {AUTHORS} authors")
        if record != make_record(author[0], round_number, draw):
            raise ForgedRecordError(f"a record that author {author[0]} did not make for round {round_number}")
        if any(known[:1] == author for known in before):
            raise ForgedRecordError(f"a second record of author {author[0]} in round {round_number}")

    def awaits_record(self, round_number: int, model: bytes, records: Sequence[bytes]) -> bool:
        """Tell whether an author whom the model draws has brought none."""
        drawn = sha256(b"awaited" + model).digest()
        awaited = {bytes([author]) for author in range(AUTHORS) if drawn[author] % 4}
        return not awaited <= {record[:1] for record in records}

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
        """Return the state with a digest of what weighed how and what was told."""
        return stepped + self.told([(entry.report.id, entry.weight) for entry in reports], records)

    @staticmethod
    def told(weighed: Sequence[tuple[Digest, int]], records: Sequence[bytes]) -> bytes:
        """Return what a step adds to the state."""
        entries = b"".join(report + bytes([weight]) for report, weight in weighed)
        return sha256(entries + b"".join(records)).digest()
