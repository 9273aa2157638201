"""The public work of a learning task: what each round adds, and how a total becomes the next model state.

Round 0 learns the features' scaling through the same secure sum (a wide single lane), rounds 1 to R train. The model
state is the scaling and the parameters; before round 0 it is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from collegium import learning, proofs
from collegium.aggregation import Budget, Draft, KeyClaim, Layout, Report, RoundTerms
from collegium.consensus import RegistrationScope
from collegium.crypto import Digest, Randomness, hash_fields
from collegium.errors import CollegiumError
from collegium.incentives import QualityState, encode_quality_state
from collegium.learning import Evaluation, ModelSpec, Rows, Rule, Scaling, Schema, TrainerRows
from collegium.proofs import BoundedStatement, QuoteBinding, QuotePolicyError, Score

from ._attest import Attest, NoQuoteSourceError, QuoteDemand, binding_of
from ._columns import allocate_columns
from ._pay import PayRule
from ._privacy import PrivacyTerms
from ._proofs import (
    PACK_ROUNDS,
    PROOF_BYTES_MAX,
    REGISTRATION_BYTES_MAX,
    DataPack,
    MalformedRegistrationError,
    PackLengthError,
    RegistrationRecord,
    SecretDraft,
    TrainingRound,
    claim_of,
    masked_of_report,
    masked_update,
    register,
    shape_of,
)
from ._quality import QualityRule, ScorePrefix, ScorePrefixError

__all__ = ["EMPTY_STATE", "LearningTask", "ModelState", "ModelStateError", "StalenessRefusedError"]

IntArray = npt.NDArray[np.int64]

EMPTY_STATE = b""
WORD_BYTES = 8  # what stands behind the parameters begins at one


class StalenessRefusedError(CollegiumError):
    """Stale reports are allowed at a level whose proofs or quotes are about the model that the round starts from."""


class ModelStateError(CollegiumError):
    """Bytes that should be a model state are not one."""


@dataclass(frozen=True, eq=False)
class ModelState:
    """What training continues from: the opened statistics of round 0, from which the scaling follows, and the model.

    Attributes:
        quality: what the rounds have said of the trainers; None in a task without stewards.
    """

    statistics: IntArray
    parameters: IntArray
    quality: QualityState | None = None


@dataclass(frozen=True)
class LearningTask:
    """The agreed rule of one task, as `consensus.Agreed` wants it.

    Attributes:
        seed: digest of experiment, whatever its level, and schema, from which the first parameters are drawn; `task`
            binds accounts too.
        rows_max: a public bound on one trainer's rows: the bit budget depends on it.
        trainers_max: how many trainers one sum may add; `cohort_min`: how few.
        lying_max: how many seats of a close may lie without costing the sum.
        spec, rule: the model and the training rule; `spec.inputs` follows from the schema.
        quorum: of how many trainers the reports suffice to close a round before its deadline; None: of all.
        staleness: how many rounds old the model may be that an update was trained from; 0 where proofs or quotes are
            about the model.
        names: account and name of each trainer: a batch is drawn for a name.
        quotes: which hardware quotes are accepted, and the time at which they are judged; at level "attested" only.
        quality: how trainers are weighed, in a task with stewards.
        privacy: to what each row's gradient is clipped and how much noise trainers add; None: neither.
        pay: how rounds are paid; None: they are not.

    Raises:
        QuotePolicyError: `quotes` are missing at level "attested", or given at another.
    """

    task: Digest
    seed: Digest
    level: str
    rounds: int
    schema: Schema
    spec: ModelSpec
    rule: Rule
    rows_max: int
    trainers_max: int
    cohort_min: int
    lying_max: int
    names: tuple[tuple[bytes, str], ...] = ()
    quorum: int | None = None
    staleness: int = 0
    quotes: QuoteDemand | None = None
    quality: QualityRule | None = None
    privacy: PrivacyTerms | None = None
    pay: PayRule | None = None

    def __post_init__(self) -> None:
        if (self.quotes is not None) != (self.level == "attested"):
            raise QuotePolicyError(f"a policy for quotes is {self.quotes is not None} at level {self.level}")
        if self.staleness and self.level in ("proved", "attested"):
            raise StalenessRefusedError(
                f"staleness {self.staleness} at level {self.level}, whose evidence names the model"
            )

    def layout(self, round_number: int) -> Layout:
        """Return the layout and bit budget of a round.

        Raises:
            BudgetError: the rule's integers do not fit the field for so many trainers and rows.
        """
        if round_number == 0:
            return self._scaling_layout
        weight_max = 1 << self.staleness_max(round_number) if self.quality is None else self.quality.policy.weight_max
        budget = Budget(self.update_bound, self.trainers_max, weight_max=weight_max)
        return Layout(self.spec.parameter_count + 1, budget)

    def staleness_max(self, round_number: int) -> int:
        """Return how many rounds stale a round's report may be: the first model to train from is that of round 1."""
        return max(0, min(self.staleness, round_number - 1))

    def step(self, round_number: int, model: bytes, total: IntArray) -> bytes:
        """Return the model state after a round, its state of quality as before: `quality` has the next one.

        Raises:
            CollegiumError: the total is one that no admitted reports can give.
        """
        if round_number == 0:
            learning.scaling_from_total(self.schema, total[:-1])
            first = None if self.quality is None else self.quality.first()
            return self.encode_state(ModelState(total, self.first_parameters(), first))
        state = self.decode_state(model)
        parameters = learning.apply_total(self.spec, self.rule, state.parameters, total)
        return self.encode_state(replace(state, parameters=parameters))

    def may_skip(self, round_number: int) -> bool:
        """Tell whether the task goes on without a round: not without the statistics by which all training is scaled."""
        return round_number > 0

    def proof_bytes_max(self, round_number: int) -> int:
        """Return the largest proof that a report may carry; 0 where it must carry none."""
        if self.quotes is not None:
            return proofs.ATTESTATION_BYTES_MAX
        return 0 if self.level == "unproved" else PROOF_BYTES_MAX

    def registration_bytes_max(self, round_number: int) -> int:
        """Return the largest registration that a report may refer to; 0 where proofs are about no registered data."""
        return REGISTRATION_BYTES_MAX if self.level == "proved" and round_number else 0

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        """Return for which rounds a registration is, what it continues, and what continues it.

        Raises:
            MalformedRegistrationError: it is none.
            PackLengthError: it is for more or fewer rounds than a pack from its first round on has.
        """
        return self._record(registration).scope

    def pack_rounds(self, first_round: int) -> int:
        """Return for how many rounds a registration from this round on must be."""
        return min(PACK_ROUNDS, self.rounds + 1 - first_round)

    def _record(self, registration: bytes) -> RegistrationRecord:
        record = RegistrationRecord.from_bytes(registration)
        expected = self.pack_rounds(record.first_round)
        if len(record.rounds) != expected:
            raise PackLengthError(
                f"a registration has roots for {len(record.rounds)} rounds from round {record.first_round} on, "
                f"expected {expected}"
            )
        return record

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        """Verify that a registration's roots all commit to the same rows, as many as the task allows, in range.

        Raises:
            MalformedRegistrationError: it is none, or of more rows than the task's bound.
            PackLengthError: it is for more or fewer rounds than a pack has.
            ProofRejectedError: its proof does not verify.
        """
        record = self._record(registration)
        if not 1 <= record.rows <= self.rows_max:
            raise MalformedRegistrationError(f"{record.rows} rows are registered, expected 1 to {self.rows_max}")
        shape = shape_of(self.spec, self.rule, record.rows)
        proofs.verify_registration(record.statement(shape, self.task, trainer), record.proof)

    def verify_proof(
        self,
        terms: RoundTerms,
        model: bytes,
        report: Report,
        ciphertext: npt.NDArray[np.uint64],
        proof: bytes,
        registration: bytes,
    ) -> KeyClaim | None:
        """Verify a report's proof, or attestation, and return what it says about the key matrix: None if attested.

        Raises:
            ProofRejectedError: it does not show what the task's level demands.
            ScorePrefixError: what stands before it is not what the round asks for.
            CollegiumError: the registration is malformed, or model and terms do not go together.
        """
        if self.quotes is not None:
            self.quotes.check(proof, self._binding(terms, report.trainer, report.ciphertext, report.key_root))
            return None
        masked = masked_of_report(terms, self.rule_digest, report, ciphertext)
        if not self.registration_bytes_max(terms.round):
            return claim_of(proofs.verify_bounded(BoundedStatement(masked), proof))
        record = self._record(registration)
        if terms.round not in record.rounds:
            raise MalformedRegistrationError(f"a registration for rounds {record.rounds}, this is round {terms.round}")
        training = self._training_round(terms, model, report.trainer, record)
        score, proof = self._score(terms, training, proof)
        return claim_of(proofs.verify_training(training.statement(masked, score), proof))

    def prove(
        self,
        terms: RoundTerms,
        model: bytes,
        draft: SecretDraft,
        rows: Rows,
        pack: DataPack | None,
        random: Randomness,
    ) -> tuple[bytes, KeyClaim]:
        """Return the proof of a draft that the task's level demands, and its claim about the key matrix.

        `pack` is the trainer's registration, where the round is about registered data; its encoding of this round is
        used up by this call.

        Raises:
            UnprovableError: the draft is not what would be proved of it.
        """
        digests = (draft.ciphertext_digest, draft.key_root)
        masked = masked_update(terms, self.rule_digest, draft.trainer, *digests, draft.ciphertext)
        if pack is None:
            statement = BoundedStatement(masked)
            proved = proofs.prove_bounded(statement, draft.update, draft.secrets, random, allocate=allocate_columns)
            return proved.proof, claim_of(proved.first)
        features = self.features(self.decode_state(model), rows)
        training = self._training_round(terms, model, draft.trainer, pack.record)
        prefix, proof, claim = training.prove(
            masked, draft.update, draft.secrets, features, rows, pack.seed(terms.round), random
        )
        return proof if prefix is None else prefix.before(proof), claim

    def attest(self, terms: RoundTerms, draft: Draft, source: Attest | None) -> tuple[bytes, None]:
        """Return the attestation of a draft, verified: a trainer sends none that would convict it.

        Raises:
            NoQuoteSourceError: there is no source of quotes.
            QuoteError: what the source gave is not what the task accepts for this report.
            CollegiumError: whatever the source raises.
        """
        if self.quotes is None or source is None:
            raise NoQuoteSourceError(f"no source of quotes for a report of level {self.level}", level=self.level)
        binding = self._binding(terms, draft.trainer, draft.ciphertext_digest, draft.key_root)
        attestation = source(binding)
        self.quotes.check(attestation, binding)
        return attestation, None

    def _binding(self, terms: RoundTerms, trainer: bytes, ciphertext: Digest, key_root: Digest) -> QuoteBinding:
        return binding_of(terms, self.rule_digest, trainer, ciphertext, key_root)

    def register(
        self, first_round: int, model: bytes, trainer: bytes, rows: Rows, earlier: DataPack | None, random: Randomness
    ) -> DataPack:
        """Return a trainer's registration of its rows for a pack of rounds from `first_round` on.

        It continues the `earlier` one, whose spare encoding is used up by this call.

        Raises:
            UnprovableError: the rows are others than those of the earlier one.
        """
        rounds, features = self.pack_rounds(first_round), self.features(self.decode_state(model), rows)
        data = (features, rows.labels, earlier)
        return register(self.spec, self.rule, self.task, trainer, first_round, rounds, *data, random)

    def _training_round(
        self, terms: RoundTerms, model: bytes, trainer: bytes, record: RegistrationRecord
    ) -> TrainingRound:
        name = dict(self.names).get(trainer)
        if name is None:
            raise MalformedRegistrationError(f"trainer {trainer.hex()} is none of this task's", trainer=trainer)
        state, seed = self.decode_state(model), self.batch_seed(terms.round, terms.beacon, name)
        training = TrainingRound(self.spec, self.rule, state.parameters, record, seed)
        if self.quality is None or state.quality is None:
            return training
        # Who registers in the round itself knows the beacon, and could choose a seed for the noise that it likes.
        chosen = record.first_round == terms.round
        demand = self.quality.demand(state.quality, terms, training.batch)
        return replace(training, demand=demand, scored=not chosen)

    def _score(self, terms: RoundTerms, training: TrainingRound, data: bytes) -> tuple[Score | None, bytes]:
        """Return the score that a report claims, None where it claims none, and the proof behind it.

        Raises:
            ScorePrefixError: there is no prefix, or it is not what the round asks for.
        """
        if training.demand is None:
            return None, data
        prefix, proof = ScorePrefix.split(data)
        if prefix.rows != training.batch or (prefix.value is not None) != training.scored:
            raise ScorePrefixError(
                f"a score of {prefix.rows} rows in round {terms.round}, expected {training.batch} rows and "
                f"{'a' if training.scored else 'no'} score",
                round=terms.round,
            )
        return None if prefix.value is None else Score(training.demand, prefix.value), proof

    @cached_property
    def rule_digest(self) -> Digest:
        """The digest of model and rule, which every proof names."""
        return hash_fields("rule", msgspec.json.encode(self.describe(), order="sorted"))

    def update(self, round_number: int, model: bytes, trainer: TrainerRows, beacon: Digest) -> IntArray:
        """Return what a trainer contributes: its rows' statistics and their number in round 0, then its update.

        Where the task has `privacy`, the statistics are those of the columns' public ranges, and the update has noise.
        """
        if round_number == 0:
            return np.append(self._statistics(trainer.rows), np.int64(len(trainer.rows)))
        state = self.decode_state(model)
        features = self.features(state, trainer.rows)
        seed = self.batch_seed(round_number, beacon, trainer.name)
        if self.privacy is not None:
            return self.privacy.update(self.spec, self.rule, state.parameters, features, trainer.rows.labels, seed)
        return learning.local_update(self.spec, self.rule, state.parameters, features, trainer.rows.labels, seed)

    def _statistics(self, rows: Rows) -> IntArray:
        if self.privacy is None:
            return learning.statistics(self.schema, rows)
        opened = learning.statistics_of_ranges(self.schema, len(rows))
        learning.features(self.schema, learning.scaling_from_total(self.schema, opened), rows, self.rule)  # they fit
        return opened

    def batch_seed(self, round_number: int, beacon: Digest, trainer: str) -> bytes:
        """Return the beacon's word for one trainer's batch of one round."""
        return hash_fields("batch", self.task, round_number, beacon, trainer.encode())

    def features(self, state: ModelState, rows: Rows) -> IntArray:
        """Return rows as features (n, inputs) under the scaling that the state carries."""
        return learning.features(self.schema, self.scaling(state), rows, self.rule)

    def scaling(self, state: ModelState) -> Scaling:
        """Return the public scaling that round 0 opened."""
        return learning.scaling_from_total(self.schema, state.statistics[:-1])

    def first_parameters(self) -> IntArray:
        """Return the parameters before the first training round: the same for the same experiment and schema."""
        return learning.initial_parameters(self.spec, self.rule, self.seed)

    def evaluate(self, model: bytes, rows: Rows) -> Evaluation:
        """Return loss, accuracy and AUC of a model state on rows that its owner may look at."""
        state = self.decode_state(model)
        features = self.features(state, rows)
        return learning.evaluate(self.spec, self.rule, state.parameters, features, rows.labels)

    def encode_state(self, state: ModelState) -> bytes:
        """Return the canonical bytes: statistics (8 bytes each, little endian), parameters, state of quality."""
        parameters = learning.parameters_to_bytes(self.spec, self.rule, state.parameters)
        state_bytes = state.statistics.astype("<i8").tobytes() + parameters
        if state.quality is None:
            return state_bytes
        return state_bytes + bytes(-len(state_bytes) % WORD_BYTES) + encode_quality_state(state.quality)

    def decode_state(self, data: bytes) -> ModelState:
        """Decode a model state strictly.

        Raises:
            ModelStateError: it is none of this task.
        """
        length = 8 * self.layout(0).entries
        if len(data) < length:
            raise ModelStateError(f"a model state has more than {length} bytes, got {len(data)}", length=len(data))
        statistics = np.frombuffer(data[:length], "<i8").astype(np.int64)
        model, quality = data[length:], None
        try:
            if self.quality is not None:
                model, quality = self._split_quality(self.quality, data, length)
            learning.scaling_from_total(self.schema, statistics[:-1])
            parameters = learning.parameters_from_bytes(self.spec, self.rule, model)
        except CollegiumError as error:
            raise ModelStateError(f"model state: {error}") from error
        return ModelState(statistics, parameters, quality)

    def _split_quality(self, rule: QualityRule, data: bytes, start: int) -> tuple[bytes, QualityState]:
        """Return the parameters' bytes and the state of quality behind them."""
        end = start + 4 * self.spec.parameter_count
        begin = end + -end % WORD_BYTES
        if len(data) != begin + rule.state_bytes:
            raise ModelStateError(
                f"{len(data)} bytes with quality, expected {begin + rule.state_bytes}", length=len(data)
            )
        return data[start:end], rule.state_of(data)

    def describe(self) -> Mapping[str, object]:
        """Return model and rule as plain data."""
        return learning.describe_rule(self.spec, self.rule)

    @cached_property
    def _scaling_layout(self) -> Layout:
        bound = max(self.rows_max, learning.statistics_bound(self.schema, self.rows_max))
        return Layout(3 * len(self.schema.numeric) + 1, Budget(bound, self.trainers_max))

    @cached_property
    def update_bound(self) -> int:
        """The largest entry of an update of so many rows as the task allows, in magnitude."""
        if self.privacy is not None:
            learning.update_bound(self.spec, self.rule, 1)  # no row's gradient, unclipped, can overflow
            return self.privacy.update_bound(self.rule, self.rows_max)
        return learning.update_bound(self.spec, self.rule, self.rows_max)
