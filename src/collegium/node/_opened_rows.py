"""Stewards' hidden rows, opened shard after shard: what their records said can be measured again.

One canonical JSON file, for tasks whose stewards agreed to it before (`stewards.open`); docs/spec/run.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from collegium.crypto import DIGEST_BYTES, Digest
from collegium.errors import CollegiumError
from collegium.incentives import ModelScore, StewardRecord, decode_steward_record, split_steward_record
from collegium.learning import Rows

from ._genesis import Genesis, StewardSeat
from ._json import decode_canonical
from ._quality_settings import shard_of
from ._row_files import read_rows, rows_to_bytes
from ._steward import Steward, measure, rows_commitment, shards_commitment
from ._task import LearningTask, ModelState

__all__ = ["OpenedRowsError", "Remeasured", "decode_opened_rows", "encode_opened_rows"]

BYTES_MAX = 1 << 28


class OpenedRowsError(CollegiumError):
    """Opened rows are not those that their steward committed to, or say something else than its records."""


@dataclass(frozen=True)
class OpenedRows:
    """One shard's rows, as the bytes of their file, and the salt of the commitment to them."""

    salt: bytes
    rows: bytes


@dataclass(frozen=True)
class OpenedShards:
    """One steward's shards that have retired, in order, and the commitments to those that have not."""

    retired: tuple[OpenedRows, ...]
    sealed: tuple[Digest, ...]


@dataclass(frozen=True)
class AllRows:
    """Those of all stewards, in the order of the genesis."""

    stewards: tuple[OpenedShards, ...]


def encode_opened_rows(stewards: Sequence[Steward], round_number: int | None = None) -> bytes:
    """Return all stewards' shards that measure no round from this one on, with their salts; None: of the whole task."""
    return msgspec.json.encode(AllRows(tuple(_opened(steward, round_number) for steward in stewards)))


def _opened(steward: Steward, round_number: int | None) -> OpenedShards:
    retired = len(steward.shards) if round_number is None else steward.retired(round_number)
    opened = (
        OpenedRows(steward.rows_salt(place), rows_to_bytes(rows, steward.label))
        for place, rows in enumerate(steward.shards[:retired])
    )
    return OpenedShards(tuple(opened), steward.commitments[retired:])


def decode_opened_rows(data: bytes, genesis: Genesis, label: str, shards: int) -> dict[tuple[bytes, int], Rows]:
    """Return the rows of each retired shard, by account and place, after comparing them with the genesis.

    Args:
        shards: how many each steward of the task has.

    Raises:
        OpenedRowsError: malformed, or not what was committed to.
        CollegiumError: the rows are no table of rows.
    """
    found = decode_canonical(data, AllRows, "opened rows", BYTES_MAX, OpenedRowsError).stewards
    if len(found) != len(genesis.stewards):
        raise OpenedRowsError(f"rows of {len(found)} stewards, the genesis has {len(genesis.stewards)}")
    rows: dict[tuple[bytes, int], Rows] = {}
    for seat, opened in zip(genesis.stewards, found, strict=True):
        _check_commitments(seat, opened, shards)
        for place, shard in enumerate(opened.retired):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "rows.csv"
                file.write_bytes(shard.rows)
                rows[seat.account, place] = read_rows(file, label)
    return rows


def _check_commitments(seat: StewardSeat, opened: OpenedShards, shards: int) -> None:
    retired = [rows_commitment(seat.account, shard.salt, shard.rows) for shard in opened.retired]
    commitments = [*retired, *opened.sealed]
    if len(commitments) != shards or any(len(entry) != DIGEST_BYTES for entry in commitments):
        raise OpenedRowsError(
            f"steward {seat.account.hex()} opens {len(retired)} shards and {len(opened.sealed)} digests, expected "
            f"{shards} in all",
            account=seat.account,
        )
    if shards_commitment(seat.account, commitments) != seat.rows:
        raise OpenedRowsError(
            f"the rows of steward {seat.account.hex()} are not those that it committed to", account=seat.account
        )


@dataclass
class Remeasured:
    """What opened rows say of each round's model, beside what the records said.

    Attributes:
        rows: of the shards that have retired, by steward and place.
        shard_rounds: how many rounds a shard serves; 0: there is one.
        told: what each steward's rows say of the model that a round starts from, by account and round.
    """

    rows: Mapping[tuple[bytes, int], Rows]
    shard_rounds: int = 0
    told: dict[tuple[bytes, int], int] = field(default_factory=dict)

    def check(self, task: LearningTask, round_number: int, state: ModelState, records: Sequence[bytes]) -> None:
        """Measure the model that a round starts from again, and compare; nothing where the shard has not retired.

        Raises:
            OpenedRowsError: a record says another gradient or score; the first wrong number is named.
            CollegiumError: the rows do not fit the task.
        """
        shard = shard_of(round_number, self.shard_rounds)
        for data in records:
            record = decode_steward_record(split_steward_record(data)[0], task.task)
            rows = self.rows.get((record.account, shard))
            if rows is not None:
                self._check_direction(task, state, record, rows)
            if record.opened is not None and state.quality is not None:
                self._check_score(record.account, state.quality.round, record.opened)

    def _check_direction(self, task: LearningTask, state: ModelState, record: StewardRecord, rows: Rows) -> None:
        found = measure(task, state, rows)
        wrong = np.flatnonzero(found.direction != record.direction)
        if wrong.size:
            place = int(wrong[0])
            raise OpenedRowsError(
                f"steward {record.account.hex()} says direction[{place}] {record.direction[place]} in round "
                f"{record.round}, on its rows it is {found.direction[place]}",
                account=record.account,
                round=record.round,
            )
        self.told[record.account, record.round] = found.score

    def _check_score(self, account: bytes, number: int, opened: ModelScore) -> None:
        expected = self.told.get((account, number))
        if expected is not None and opened.score != expected:
            raise OpenedRowsError(
                f"steward {account.hex()} says that the model of round {number} scores {opened.score}, on its rows it "
                f"is {expected}",
                account=account,
                round=number,
            )
