"""A task's quality so small that only the protocol around it is left to test: weights from a table, three authors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium.consensus import RoundEntry, WeighedReport
from collegium.crypto import Digest
from collegium.errors import CollegiumError

__all__ = ["ForgedError", "Marks", "RepeatedError", "record", "told"]


class ForgedError(CollegiumError):
    """A record of nobody who may bring one."""


class RepeatedError(CollegiumError):
    """A second record of one author in one round."""


def record(author: str, round_number: int = 0, text: str = "") -> bytes:
    """Return a record as `Marks` reads it."""
    return f"{author}{round_number}{text}".encode()


@dataclass(frozen=True)
class Marks:
    """A task whose weights are a table, and whose model ends with what was told of the last round.

    `A`, `B` and `C` may bring one record a round each. A record that says `spoil` makes the round's step fail.
    """

    table: Mapping[int, Mapping[bytes, int]] = field(default_factory=dict)
    unawaited: frozenset[bytes] = frozenset()  # for whom no round waits
    authors: bytes = b""  # for whose records every round waits

    def entry(self, round_number: int, model: bytes, beacon: Digest) -> RoundEntry | None:
        weights = self.table.get(round_number)
        return None if weights is None else RoundEntry(weights, frozenset(weights) - self.unawaited)

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        if record[:1] not in (b"A", b"B", b"C"):
            raise ForgedError(f"a record of {record[:1]!r}")
        if record[1:2] != str(round_number).encode():
            raise ForgedError(f"a record of round {record[1:2]!r}, this is {round_number}")
        if any(known[:1] == record[:1] for known in before):
            raise RepeatedError(f"a second record of {record[:1]!r}")

    def awaits_record(self, round_number: int, model: bytes, records: Sequence[bytes]) -> bool:
        return not set(self.authors) <= {record[0] for record in records}

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
        if any(b"spoil" in known for known in records):
            raise ForgedError("this record gives no model")
        return stepped + told(reports, records)


def told(reports: Sequence[WeighedReport], records: Sequence[bytes]) -> bytes:
    """Return what `Marks` makes of a round, 40 bytes as one more total takes."""
    parts = [entry.report.id + bytes([entry.weight]) + entry.proof for entry in reports]
    return sha256(b"".join(parts) + b"|".join(records)).digest() + bytes(8)
