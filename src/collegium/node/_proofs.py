"""From a task's level to the statement that a report's proof shows: the same for who proves and who verifies.

| level | round 0 | rounds from 1 on |
|---|---|---|
| unproved | nothing | nothing |
| bounded | every entry of the update is in range | the same |
| attested | a hardware quote over the report (`_attest`) | the same |
| proved | every entry is in range: its sums are no training step | the update is the rule's on the registered rows |

A trainer registers its rows once for many rounds: a commitment a round, each used once, and a spare one with which its
next registration begins, so that the rows stay what they were. Specified in docs/spec/run.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collegium import learning, proofs
from collegium.aggregation import Draft, KeyClaim, Report, RoundTerms, proof_digest, public_matrix
from collegium.consensus import RegistrationScope
from collegium.crypto import Digest, Randomness, Stream, hash_fields
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Rows, Rule
from collegium.proofs import (
    DataShape,
    Identity,
    KeySecrets,
    MaskedUpdate,
    RegistrationStatement,
    Score,
    ScoreDemand,
    TrainingStatement,
    TrainingWitness,
    UnprovableError,
)

from ._columns import allocate_columns
from ._quality import ScorePrefix

__all__ = [
    "PACK_ROUNDS",
    "PROOF_BYTES_MAX",
    "REGISTRATION_BYTES_MAX",
    "DataPack",
    "MalformedRegistrationError",
    "PackLengthError",
    "RegistrationRecord",
    "SecretDraft",
    "TrainingRound",
    "claim_of",
    "masked_of_report",
    "masked_update",
    "register",
    "shape_of",
]

FieldArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

PACK_ROUNDS = 64  # rounds that one registration has data roots for; the last one has fewer
NO_PREVIOUS: Digest = bytes(32)
SEED_BYTES = 32
PROOF_BYTES_MAX = 64 << 20  # as much of one object as `verify` reads
REGISTRATION_BYTES_MAX = 64 << 20
_HEAD = struct.Struct("<QIH")  # first round, rows, data roots


class MalformedRegistrationError(CollegiumError):
    """Bytes that should be a registration are not one, or one for data of another shape than the task's."""


class PackLengthError(CollegiumError):
    """A registration is for more or fewer rounds than a pack has."""


@dataclass(frozen=True, slots=True)
class RegistrationRecord:
    """What a trainer registers in public: data roots for `first_round` and the rounds after it, and a proof.

    The proof shows that all roots commit to the same `rows` rows in the same order, features and labels in range.

    Attributes:
        previous: digest of the registration that this one continues; zeros if it continues none.
        roots: the spare root of `previous`, if there is one; a root for each round; a spare one, which no round uses.
    """

    first_round: int
    rows: int
    previous: Digest
    roots: tuple[Digest, ...]
    proof: bytes

    @property
    def linked(self) -> int:
        """How many roots stand before those of the rounds: 1 if this continues another registration."""
        return int(self.previous != NO_PREVIOUS)

    @property
    def rounds(self) -> range:
        """The rounds that there are data roots for."""
        return range(self.first_round, self.first_round + len(self.roots) - self.linked - 1)

    @property
    def scope(self) -> RegistrationScope:
        """What consensus needs to know; a commitment is named with its number of rows, for another one reads others."""
        begins, spare = (hash_fields("spare", self.rows, root) for root in (self.roots[0], self.roots[-1]))
        if not self.linked:
            return RegistrationScope(self.rounds, None, None, spare)
        return RegistrationScope(self.rounds, self.previous, begins, spare)

    def place(self, round_number: int) -> int:
        """Return the place of a round's root."""
        return self.linked + self.rounds.index(round_number)

    def to_bytes(self) -> bytes:
        """Return the canonical encoding: head, digest of the one before, roots, proof."""
        head = _HEAD.pack(self.first_round, self.rows, len(self.roots))
        return head + self.previous + b"".join(self.roots) + self.proof

    @classmethod
    def from_bytes(cls, data: bytes) -> RegistrationRecord:
        """Decode a registration; whether it is true shows when its proof is verified.

        Raises:
            MalformedRegistrationError: it ends too soon, or has roots for no round or for more than a pack's.
        """
        start = _HEAD.size + 32
        if len(data) < start:
            raise MalformedRegistrationError(f"a registration of {len(data)} bytes has no head", length=len(data))
        first, rows, count = _HEAD.unpack_from(data)
        previous, end = data[_HEAD.size : start], start + 32 * count
        others = 1 + (previous != NO_PREVIOUS)
        if not 1 <= count - others <= PACK_ROUNDS or not 1 <= first < 1 << 32 or end >= len(data):
            raise MalformedRegistrationError(
                f"a registration of {count} roots from round {first} on in {len(data)} bytes, expected roots for 1 to "
                f"{PACK_ROUNDS} rounds, {others} beside them, and a proof behind them"
            )
        roots = tuple(data[at : at + 32] for at in range(start, end, 32))
        return cls(first, rows, previous, roots, data[end:])

    def statement(self, shape: DataShape, task: Digest, trainer: bytes) -> RegistrationStatement:
        """Return what the proof must show.

        Raises:
            StatementError: the numbers do not go together.
        """
        context = hash_fields("registration", task, self.first_round, self.previous)
        return RegistrationStatement(shape, self.roots, trainer, context)


@dataclass(frozen=True)
class DataPack:
    """A trainer's registration with its secret side: the seed of each root's encoding, used once."""

    record: RegistrationRecord
    data: bytes  # of the record
    seeds: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        """What reports and closes call it."""
        return proof_digest(self.data)

    def seed(self, round_number: int) -> bytes:
        """Return the seed of the encoding that belongs to a round."""
        return self.seeds[self.record.place(round_number)]


@dataclass(frozen=True, eq=False)
class SecretDraft:
    """The part of a draft that its proof is about, small enough to hand to another process of the trainer's machine."""

    trainer: bytes
    ciphertext: FieldArray
    ciphertext_digest: Digest
    key_root: Digest
    update: IntArray
    secrets: KeySecrets

    @classmethod
    def of(cls, draft: Draft) -> SecretDraft:
        """Return it."""
        secrets = KeySecrets(noise=draft.noise, coefficients=draft.coefficients, key=draft.key)
        return cls(draft.trainer, draft.ciphertext, draft.ciphertext_digest, draft.key_root, draft.update, secrets)


def shape_of(spec: ModelSpec, rule: Rule, rows: int) -> DataShape:
    """Return the shape of one trainer's registered data; its row length follows from the trace that goes with it.

    Raises:
        StatementError: the numbers are out of bounds.
    """
    message_len = proofs.data_row_length(proofs.training_elements(spec, rows, rule.local_steps))
    return DataShape(rows, spec.inputs, spec.outputs, rule.feature_limit * rule.one, message_len)


def register(
    spec: ModelSpec,
    rule: Rule,
    task: Digest,
    trainer: bytes,
    first_round: int,
    rounds: int,
    features: IntArray,
    labels: IntArray,
    earlier: DataPack | None,
    random: Randomness,
) -> DataPack:
    """Commit to rows once for each of `rounds` rounds, and prove that it is the same rows each time, in range.

    The spare encoding of an `earlier` pack comes first, which uses it up, and a new spare one last.

    Raises:
        UnprovableError: the rows are others than those of the earlier pack.
    """
    shape = shape_of(spec, rule, len(labels))
    previous, seeds = (NO_PREVIOUS, ()) if earlier is None else (earlier.digest, earlier.seeds[-1:])
    seeds += tuple(random(SEED_BYTES) for _ in range(rounds + 1))
    commitments = [proofs.commit_data(shape, features, labels, Stream(seed)) for seed in seeds]
    roots = tuple(rows.root for rows in commitments)
    if earlier is not None and roots[0] != earlier.record.roots[-1]:
        raise UnprovableError(f"the rows of trainer {trainer.hex()} are not those that it registered before")
    unproved = RegistrationRecord(first_round, len(labels), previous, roots, b"")
    proof = proofs.prove_registration(unproved.statement(shape, task, trainer), commitments, random)
    record = replace(unproved, proof=proof)
    return DataPack(record, record.to_bytes(), seeds)


def masked_update(
    terms: RoundTerms, rule: Digest, trainer: bytes, digest: Digest, key_root: Digest, ciphertext: FieldArray
) -> MaskedUpdate:
    """Return the public side of a masked update under a round's terms."""
    layout, budget = terms.layout, terms.layout.budget
    return MaskedUpdate(
        identity=Identity(
            task=terms.task,
            round=terms.round,
            trainer=trainer,
            terms=terms.digest,
            model=terms.model,
            rule=rule,
            ciphertext=digest,
            key_root=key_root,
        ),
        entries=layout.entries,
        entry_bound=budget.entry_bound,
        lanes=budget.lanes,
        lane_bits=budget.lane_bits,
        noise_bits=budget.noise_bits,
        matrix=public_matrix(terms.matrix_seed, layout.blocks),
        ciphertext=ciphertext,
    )


def masked_of_report(terms: RoundTerms, rule: Digest, report: Report, ciphertext: FieldArray) -> MaskedUpdate:
    """Return the public side of the update that a report masks."""
    return masked_update(terms, rule, report.trainer, report.ciphertext, report.key_root, ciphertext)


def claim_of(first: proofs.FirstChallenges) -> KeyClaim:
    """Return what a proof says about the key matrix, as a report's check wants it."""
    return KeyClaim(first.point, first.key_values)


@dataclass(frozen=True, eq=False)
class TrainingRound:
    """What a training proof of one round is about beside c: the model, the data root, the batch, and what is scored.

    Attributes:
        demand: of the round's scores; None where it has none.
        scored: whether this report's score is proved; not where its trainer could have chosen the noise.
    """

    spec: ModelSpec
    rule: Rule
    parameters: IntArray
    record: RegistrationRecord
    batch_seed: bytes
    demand: ScoreDemand | None = None
    scored: bool = True

    @property
    def batch(self) -> int:
        """How many rows the update is a sum over."""
        rows, most = self.record.rows, self.rule.batch_rows
        return rows if most is None else min(rows, most)

    def statement(self, masked: MaskedUpdate, score: Score | None = None) -> TrainingStatement:
        """Return the statement that c masks the rule's update on the registered rows, and that it has this score.

        Raises:
            StatementError: the numbers do not go together.
        """
        record, batches = self.record, self._batches()
        return TrainingStatement(
            masked=masked,
            spec=self.spec,
            rule=self.rule,
            parameters=self.parameters,
            data=shape_of(self.spec, self.rule, record.rows),
            data_root=record.roots[record.place(masked.identity.round)],
            chosen=batches[0] if self.rule.local_steps == 1 else batches,
            score=score,
        )

    def _batches(self) -> npt.NDArray[np.bool_]:
        """Return which rows each local step uses, (steps, rows)."""
        batches = np.zeros((self.rule.local_steps, self.record.rows), np.bool_)
        for step, flags in enumerate(batches):
            flags[learning.batch_indices(self.rule, self.record.rows, self.batch_seed, step)] = True
        return batches

    def prove(
        self,
        masked: MaskedUpdate,
        update: IntArray,
        secrets: KeySecrets,
        features: IntArray,
        rows: Rows,
        seed: bytes,
        random: Randomness,
    ) -> tuple[ScorePrefix | None, bytes, KeyClaim]:
        """Return what stands before the proof, the proof, and its claim about the key matrix.

        Args:
            update: what c masks.
            seed: gives the encoding of the rows that this round uses up.
        """
        shape = shape_of(self.spec, self.rule, self.record.rows)
        committed = proofs.commit_data(shape, features, rows.labels, Stream(seed))
        score = None
        if self.demand is not None and self.scored:
            score = self.demand.score(update, proofs.committed_seed(committed))
        statement = self.statement(masked, score)
        model = (self.spec, self.rule, self.parameters)
        step, *later = proofs.local_steps(*model, features, rows.labels, self._batches())
        witness = TrainingWitness(features, rows.labels, committed, step, secrets, tuple(later))
        proved = proofs.prove_training(statement, witness, random, allocate=allocate_columns)
        prefix = None if self.demand is None else ScorePrefix(None if score is None else score.value, self.batch)
        return prefix, proved.proof, claim_of(proved.first)
