"""Stewards' hidden rows, opened at the end of a run: what their records said can be measured again.

One canonical JSON file, for tasks whose stewards agreed to it before (`stewards.open`); docs/spec/run.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from collegium.errors import CollegiumError
from collegium.incentives import ModelScore, decode_steward_record
from collegium.learning import Rows

from ._genesis import Genesis
from ._json import decode_canonical
from ._row_files import read_rows, rows_to_bytes
from ._steward import Steward, measure, rows_commitment
from ._task import LearningTask, ModelState

__all__ = ["OpenedRowsError", "Remeasured", "decode_opened_rows", "encode_opened_rows"]

BYTES_MAX = 1 << 28


class OpenedRowsError(CollegiumError):
    """Opened rows are not those that their steward committed to, or say something else than its records."""


@dataclass(frozen=True)
class OpenedRows:
    """One steward's rows, as the bytes of their file, and the salt of the commitment to them."""

    salt: bytes
    rows: bytes


@dataclass(frozen=True)
class AllRows:
    """Those of all stewards, in the order of the genesis."""

    stewards: tuple[OpenedRows, ...]


def encode_opened_rows(stewards: Sequence[Steward]) -> bytes:
    """Return all stewards' rows with their salts."""
    opened = (OpenedRows(steward.rows_salt, rows_to_bytes(steward.rows, steward.label)) for steward in stewards)
    return msgspec.json.encode(AllRows(tuple(opened)))


def decode_opened_rows(data: bytes, genesis: Genesis, label: str) -> dict[bytes, Rows]:
    """Return each steward's rows, by account, after comparing them with its commitment in the genesis.

    Raises:
        OpenedRowsError: malformed, or not what was committed to.
        CollegiumError: the rows are no table of rows.
    """
    found = decode_canonical(data, AllRows, "opened rows", BYTES_MAX, OpenedRowsError).stewards
    if len(found) != len(genesis.stewards):
        raise OpenedRowsError(f"rows of {len(found)} stewards, the genesis has {len(genesis.stewards)}")
    rows: dict[bytes, Rows] = {}
    for seat, opened in zip(genesis.stewards, found, strict=True):
        if rows_commitment(seat.account, opened.salt, opened.rows) != seat.rows:
            raise OpenedRowsError(
                f"the rows of steward {seat.account.hex()} are not those that it committed to", account=seat.account
            )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.csv"
            file.write_bytes(opened.rows)
            rows[seat.account] = read_rows(file, label)
    return rows


@dataclass
class Remeasured:
    """What opened rows say of each round's model, beside what the records said.

    Attributes:
        rows: by steward.
        told: what each steward's rows say of the model that a round starts from, by account and round.
    """

    rows: Mapping[bytes, Rows]
    told: dict[tuple[bytes, int], int] = field(default_factory=dict)

    def check(self, task: LearningTask, round_number: int, state: ModelState, records: Sequence[bytes]) -> None:
        """Measure the model that a round starts from again, and compare.

        Raises:
            OpenedRowsError: a record says another gradient or score; the first wrong number is named.
            CollegiumError: the rows do not fit the task.
        """
        for data in records:
            record = decode_steward_record(data, task.task)
            found = measure(task, state, self.rows[record.account])
            wrong = np.flatnonzero(found.direction != record.direction)
            if wrong.size:
                place = int(wrong[0])
                raise OpenedRowsError(
                    f"steward {record.account.hex()} says direction[{place}] {record.direction[place]} in round "
                    f"{round_number}, on its rows it is {found.direction[place]}",
                    account=record.account,
                    round=round_number,
                )
            self.told[record.account, round_number] = found.score
            if record.opened is not None and state.quality is not None:
                self._check_score(record.account, state.quality.round, record.opened)

    def _check_score(self, account: bytes, number: int, opened: ModelScore) -> None:
        expected = self.told[account, number]
        if opened.score != expected:
            raise OpenedRowsError(
                f"steward {account.hex()} says that the model of round {number} scores {opened.score}, on its rows it "
                f"is {expected}",
                account=account,
                round=number,
            )
