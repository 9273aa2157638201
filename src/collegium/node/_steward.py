"""A steward of a task's quality: hidden rows, and each round what they say of the model. docs/spec/quality.md, 9.

Its gradient of the model, on rows that no trainer has, is one of those whose median the next round's updates are scored
along. How many of the rows the model classifies right it commits to, and tells in the record after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.crypto import AccountKey, Digest, hash_fields, os_random
from collegium.errors import CollegiumError
from collegium.incentives import (
    ONE,
    ModelScore,
    StewardRecord,
    encode_steward_record,
    normalise_direction,
    score_commitment,
    sign_steward_record,
)
from collegium.learning import Rows

from ._genesis import StewardSeat
from ._row_files import rows_to_bytes
from ._task import LearningTask, ModelState

__all__ = ["Measured", "NoQualityError", "Steward", "draw_steward", "measure", "records_of", "rows_commitment"]


class NoQualityError(CollegiumError):
    """A task has no stewards, or no model yet that they could measure."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What hidden rows say of a model: its gradient at norm 2^20, and 2^-16 of them that it classifies right."""

    direction: npt.NDArray[np.int64]
    score: int


def rows_commitment(account: bytes, salt: bytes, rows: bytes) -> Digest:
    """Return what binds a steward to its rows, whose salt hides them; in the genesis, before round 0.

    Args:
        rows: as the bytes of their file (`rows_to_bytes`).
    """
    return hash_fields("steward-rows", account, salt, rows)


def measure(task: LearningTask, state: ModelState, rows: Rows) -> Measured:
    """Return what rows say of a model: the rule's own update on all of them, at norm 2^20, and the score.

    Raises:
        DirectionError: the gradient is zero.
        CollegiumError: the rows do not fit the task, or a value of a step lies outside the rule's limit.
    """
    features, rule = task.features(state, rows), replace(task.rule, batch_rows=None)
    update = learning.local_update(task.spec, rule, state.parameters, features, rows.labels, b"")
    found = learning.evaluate(task.spec, task.rule, state.parameters, features, rows.labels)
    return Measured(normalise_direction(update[:-1]), found.correct * ONE // found.rows)


def draw_steward(rows: Rows, label: str) -> Steward:
    """Return a steward of these rows with fresh secrets; `label` names the label's column."""
    return Steward(AccountKey.generate(os_random), rows, label, os_random(32))


def records_of(stewards: Sequence[Steward], task: LearningTask, round_number: int, model: bytes) -> list[bytes]:
    """Return the stewards' records of a round, none in round 0; whose rows give no gradient has none, and says why."""
    records = list[bytes]()
    for steward in stewards if round_number else ():
        try:
            records.append(steward.record(task, round_number, model))
            steward.silent = None
        except CollegiumError as error:
            steward.silent = str(error)
    return records


@dataclass
class Steward:
    """One steward with its secrets.

    Attributes:
        account: signs its records.
        rows: hidden.
        label: the name of the label's column.
        secret: 32 random bytes, from which the salts follow.
        told: what it committed to, by round.
        silent: why it has no record of the last round, None if it has one.
    """

    account: AccountKey
    rows: Rows = field(repr=False)
    label: str
    secret: bytes = field(repr=False)
    told: dict[int, ModelScore] = field(default_factory=dict, repr=False)
    silent: str | None = None

    @property
    def rows_salt(self) -> bytes:
        """The salt of the commitment to its rows."""
        return hash_fields("steward-rows-salt", self.secret)

    @property
    def seat(self) -> StewardSeat:
        """What the genesis says of it."""
        return StewardSeat(self.account.address, self.commitment)

    @property
    def commitment(self) -> Digest:
        """What binds it to its rows."""
        return rows_commitment(self.account.address, self.rows_salt, rows_to_bytes(self.rows, self.label))

    def record(self, task: LearningTask, round_number: int, model: bytes) -> bytes:
        """Return its signed record of the round that starts from `model`.

        Raises:
            NoQualityError: the task has no stewards, or no model before this round.
            CollegiumError: as `measure`.
        """
        state = task.decode_state(model) if round_number else None
        if state is None or state.quality is None:
            raise NoQualityError(f"round {round_number} of a task {task.task.hex()[:16]} measures no model")
        measured, address = measure(task, state, self.rows), self.account.address
        now = ModelScore(measured.score, hash_fields("steward-salt", self.secret, round_number))
        self.told[round_number] = now
        earlier, promised = self.told.get(state.quality.round), bytes(32)
        for entry in state.quality.stewards:
            promised = entry.commitment if entry.account == address else promised
        kept = earlier is not None and score_commitment(task.task, address, state.quality.round, earlier) == promised
        record = StewardRecord(
            account=address,
            round=round_number,
            direction=measured.direction,
            commitment=score_commitment(task.task, address, round_number, now),
            opened=earlier if kept else None,
        )
        return encode_steward_record(sign_steward_record(record, task.task, self.account))
