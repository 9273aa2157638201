"""A steward of a task's quality: hidden rows, and each round what they say of the model. docs/spec/quality.md, 9, 10.

Its gradient of the model, on rows that no trainer has, is one of those whose median the next round's updates are scored
along. How many of the rows the model classifies right it commits to, and tells in the record after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.consensus import ROUND_RECORD_BYTES_MAX
from collegium.crypto import DIGEST_BYTES, AccountKey, Digest, hash_fields, os_random
from collegium.errors import CollegiumError
from collegium.incentives import (
    ONE,
    ModelScore,
    QualityState,
    StewardRecord,
    encode_steward_record,
    normalise_direction,
    score_commitment,
    sign_steward_record,
)
from collegium.learning import Rows

from ._genesis import StewardSeat
from ._proofs import DataPack
from ._quality import StewardsRefusedError, is_known
from ._quality_settings import shard_of
from ._row_files import rows_to_bytes
from ._steward_proofs import StewardEvidence, StewardProving, encode_steward_evidence
from ._task import LearningTask, ModelState
from ._trainer import EncodingUsedError

__all__ = [
    "Measured",
    "NoQualityError",
    "Steward",
    "draw_steward",
    "measure",
    "records_of",
    "rows_commitment",
    "shards_commitment",
]


class NoQualityError(CollegiumError):
    """A task has no stewards, or no model yet that they could measure."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What hidden rows say of a model: its gradient at norm 2^20, and 2^-16 of them that it classifies right."""

    direction: npt.NDArray[np.int64]
    score: int


def rows_commitment(account: bytes, salt: bytes, rows: bytes) -> Digest:
    """Return what binds a steward to the rows of one shard, whose salt hides them.

    Args:
        rows: as the bytes of their file (`rows_to_bytes`).
    """
    return hash_fields("steward-rows", account, salt, rows)


def shards_commitment(account: bytes, commitments: Sequence[Digest]) -> Digest:
    """Return what binds a steward to all its shards in their order; in the genesis, before round 0."""
    return hash_fields("steward-shards", account, b"".join(commitments))


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


def draw_steward(shards: Sequence[Rows], label: str, shard_rounds: int = 0) -> Steward:
    """Return a steward of these shards with fresh secrets; `label` names the label's column."""
    return Steward(AccountKey.generate(os_random), tuple(shards), label, os_random(32), shard_rounds)


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
        shards: hidden rows, in the order in which they measure.
        label: the name of the label's column.
        secret: 32 random bytes, from which the salts follow.
        shard_rounds: as `shard_of` takes them.
        told: what it committed to, by round.
        packs: its shards' registrations, where records are proved, once it has made them.
        proved: the digest of the model that it proved a record of, and that record while it is young, by round.
        silent: why it has no record of the last round, None if it has one.
    """

    account: AccountKey
    shards: tuple[Rows, ...] = field(repr=False)
    label: str
    secret: bytes = field(repr=False)
    shard_rounds: int = 0
    told: dict[int, ModelScore] = field(default_factory=dict, repr=False)
    silent: str | None = None
    packs: tuple[DataPack, ...] = field(default=(), repr=False)
    proved: dict[int, tuple[Digest, bytes]] = field(default_factory=dict, repr=False)

    def rows_salt(self, shard: int) -> bytes:
        """Return the salt of the commitment to a shard's rows."""
        return hash_fields("steward-rows-salt", self.secret, shard)

    def retired(self, round_number: int) -> int:
        """Return how many shards measure no round from this one on."""
        return min(shard_of(max(round_number, 1), self.shard_rounds), len(self.shards))

    @property
    def seat(self) -> StewardSeat:
        """What the genesis says of it."""
        return StewardSeat(self.account.address, self.commitment)

    @property
    def commitments(self) -> tuple[Digest, ...]:
        """What binds it to each shard's rows."""
        return tuple(
            rows_commitment(self.account.address, self.rows_salt(place), rows_to_bytes(rows, self.label))
            for place, rows in enumerate(self.shards)
        )

    @property
    def commitment(self) -> Digest:
        """What binds it to all its rows."""
        return shards_commitment(self.account.address, self.commitments)

    def record(self, task: LearningTask, round_number: int, model: bytes) -> bytes:
        """Return its signed record of the round that starts from `model`, behind which stands its proof, if any.

        Raises:
            NoQualityError: the task has no stewards, or no model before this round.
            EncodingUsedError: records are proved, and this round's is, of another model.
            CollegiumError: as `measure`.
        """
        state = task.decode_state(model) if round_number else None
        if state is None or state.quality is None or task.quality is None:
            raise NoQualityError(f"round {round_number} of a task {task.task.hex()[:16]} measures no model")
        if task.quality.proving is not None:
            return self._proved(task, task.quality.proving, round_number, model)
        rows = self.shards[shard_of(round_number, self.shard_rounds)]
        measured = measure(task, state, rows)
        now = ModelScore(measured.score, hash_fields("steward-salt", self.secret, round_number))
        return self._say(task.task, state.quality, round_number, measured.direction, now)

    def _say(
        self,
        task: Digest,
        quality: QualityState,
        round_number: int,
        direction: npt.NDArray[np.int64],
        now: ModelScore,
        evidence: StewardEvidence | None = None,
    ) -> bytes:
        """Return the record that says this, with what stands behind it."""
        address, behind = self.account.address, b""
        self.told[round_number] = now
        earlier, promised = self.told.get(quality.round), bytes(DIGEST_BYTES)
        for entry in quality.stewards:
            promised = entry.commitment if entry.account == address else promised
        kept = earlier is not None and score_commitment(task, address, quality.round, earlier) == promised
        record = StewardRecord(
            account=address,
            round=round_number,
            direction=direction,
            commitment=score_commitment(task, address, round_number, now),
            opened=earlier if kept else None,
        )
        if evidence is not None:
            behind = encode_steward_evidence(evidence)
            record = replace(record, registered=evidence.registered, evidence=sha256(behind).digest())
        return encode_steward_record(sign_steward_record(record, task, self.account)) + behind

    def _proved(self, task: LearningTask, proving: StewardProving, round_number: int, model: bytes) -> bytes:
        """Return a proved record: the same whenever it is asked for, as its commitment bears one proof."""
        digest = sha256(model).digest()
        earlier, record = self.proved.get(round_number, (digest, b""))
        if earlier != digest:
            raise EncodingUsedError(f"the commitment of round {round_number} has proved a record of another model")
        if record:
            return record
        state, address = task.decode_state(model), self.account.address
        if state.quality is None:
            raise NoQualityError(f"the model before round {round_number} has no state of quality")
        held = [(task.features(state, rows), rows.labels) for rows in self.shards]
        if not self.packs:
            self.packs = proving.register(address, self.secret, held)
        (entry,) = (entry for entry in state.quality.stewards if entry.account == address)
        known = is_known(proving, state.quality, entry, round_number)
        shard = held[shard_of(round_number, self.shard_rounds)]
        evidence = proving.prove(address, round_number, model, self.packs, shard, known, self.secret)
        now = proving.score(evidence.claim, evidence.registration.rows)
        direction = normalise_direction(evidence.claim.gradient)
        record = self._say(task.task, state.quality, round_number, direction, now, evidence)
        if len(record) > ROUND_RECORD_BYTES_MAX:
            raise StewardsRefusedError(
                f"a proved record of {len(record)} bytes, expected at most {ROUND_RECORD_BYTES_MAX}: less shard_rounds",
                length=len(record),
            )
        self.proved[round_number] = (digest, record)
        for number, (of, _) in self.proved.items():
            if number < round_number - 1:
                self.proved[number] = (of, b"")
        return record
