"""Reports with proofs, all that the programs of the dispute machine read of them, and what the verifier says.

A `Claim` is a report as a trainer signs it. `admits` asks the real verifier, `runs` the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from _proof_stage import LESSONS, Case, account, case_of, digest_of, proof_of, random_of, round_terms

from collegium import incentives, learning, proofs
from collegium.aggregation import (
    Report,
    RoundTerms,
    begin_upload,
    check_claim,
    encode_ciphertext,
    finish_upload,
)
from collegium.algebra import to_bytes
from collegium.crypto import Stream, hash_fields
from collegium.errors import CollegiumError
from collegium.node._proofs import (
    DataPack,
    RegistrationRecord,
    TrainingRound,
    claim_of,
    masked_of_report,
    masked_update,
    register,
)
from collegium.proofs import (
    BoundedStatement,
    FirstChallenges,
    KeySecrets,
    Score,
    ScoreDemand,
    TrainingStatement,
    TrainingWitness,
    _training,
    committed_seed,
)
from collegium.settlement import ProofPlan, StepPlan

RULE = digest_of("rule")
NORM, NOISE = 1 << 24, Fraction(1, 10)  # what an update moves for a row, and the noise of scores
STATISTICS = 5  # words before a model's parameters
ROUND = 3  # of `round_terms`
NAME = "trainer, with a name of more than eight bytes"


@dataclass(frozen=True, eq=False)
class Claim:
    """A report, its terms, and the objects that they name; `step` where the proof is of a training step."""

    terms: RoundTerms
    report: Report
    ciphertext: Any
    proof: bytes
    norm: int | None = None
    step: StepPlan | None = None
    model: bytes = b""
    registration: bytes = b""

    @property
    def plan(self) -> ProofPlan:
        """The plan of the task's proofs."""
        layout = self.terms.layout
        return ProofPlan(RULE, 1, layout.entries, layout.budget.lanes, self.norm, self.step)

    @property
    def parameters(self) -> Mapping[str, int]:
        """What the program is compiled with."""
        budget, nothing = self.terms.layout.budget, bytes(32)
        digests = {"TASK": self.terms.task, "PLAN": sha256(self.plan.to_bytes()).digest()}
        digests |= dict.fromkeys(("FIRST_TERMS", "FIRST_BEACON", "GENESIS"), nothing)
        return {
            **{
                f"{name}_{index}": int.from_bytes(digest[8 * index : 8 * index + 8], "big")
                for name, digest in digests.items()
                for index in range(4)
            },
            "LEVEL": int.from_bytes(b"bounded\0", "big"),
            "LEVEL_BYTES": 7,
            "SEATS": len(self.terms.seats),
            "TRAINERS_MAX": budget.trainers_max,
            "STALENESS_MAX": 0,
            "FIRST_ENTRIES": 1,
            "FIRST_BOUND": 1,
            "ENTRIES": self.terms.layout.entries,
            "ENTRY_BOUND": budget.entry_bound,
            "WEIGHT_MAX": budget.weight_max,
            "PLACES": 0,
            "TRAINERS": len(self.step.names) if self.step else 0,
            "STEWARDS": self.step.stewards if self.step else 0,
            "NOISE_NUMERATOR": NOISE.numerator,
            "NOISE_DENOMINATOR": NOISE.denominator,
            "DIRECTION_NORM_MAX": 1 << 60,
        }

    @property
    def messages(self) -> tuple[bytes, ...]:
        """Every message that the program may read."""
        combination = to_bytes(self.report.combination.reshape(-1))
        named = (self.report.preimage, self.terms.preimage, encode_ciphertext(self.ciphertext), self.proof, combination)
        return (*named, self.plan.to_bytes(), self.model, self.registration)

    def admits(self) -> bool:
        """Tell what the verifier says: of the registration, of the proof, and of the key that it is about."""
        try:
            proved = self._verify()
            if proved is None:
                return False
            check_claim(self.report, claim_of(proved))
        except CollegiumError:
            return False
        return True

    def _verify(self) -> FirstChallenges | None:
        masked = masked_of_report(self.terms, RULE, self.report, self.ciphertext)
        if self.step is None:
            return proofs.verify_bounded(BoundedStatement(masked, self.norm), self.proof)
        record = RegistrationRecord.from_bytes(self.registration)
        training = training_round(self.step, record, self.model, self.terms)
        statement, proof = training.statement(masked), self.proof
        if self.step.stewards:
            prefix, proof = proof[:16], proof[16:]
            value, rows = (int.from_bytes(prefix[at : at + 8], "little", signed=True) for at in (0, 8))
            if (
                len(prefix) < 16
                or rows != statement.batch
                or (value == incentives.NO_SCORE) != fresh(self.registration)
            ):
                return None
            if value != incentives.NO_SCORE:
                statement = replace(statement, score=Score(demand_of(self.model, self.terms, rows), value))
        proofs.verify_registration(record.statement(statement.data, self.terms.task, self.report.trainer), record.proof)
        return proofs.verify_training(statement, proof)


def report_of(case: Case, proof: bytes) -> Claim:
    """Return the report of a bounded case's draft with a proof, whatever it is, without a look at its claim."""
    assert case.terms is not None
    assert case.draft is not None
    assert isinstance(case.statement, BoundedStatement)
    report = finish_upload(case.terms, case.draft, account(), proof).report
    return Claim(case.terms, report, case.draft.ciphertext, proof, case.statement.norm_bound)


@cache
def bounded_claim(name: str) -> Claim:
    """Return the report of a bounded case with its honest proof, made once."""
    return report_of(case_of(name), proof_of(name))


# --- training


def training_round(step: StepPlan, record: RegistrationRecord, model: bytes, terms: RoundTerms) -> TrainingRound:
    """Return what a report's training proof is about."""
    parameters = np.frombuffer(model, "<i4", step.spec.parameter_count, step.statistics_len).astype(np.int64)
    seed = hash_fields("batch", terms.task, terms.round, terms.beacon, NAME.encode())
    return TrainingRound(step.spec, step.rule, parameters, record, seed)


@cache
def registration_of(name: str, first: int = ROUND) -> DataPack:
    """Return the registration of a lesson's rows from a round on."""
    lesson, task, random = LESSONS[name], digest_of("task"), random_of("registration", name)
    rows, count = (lesson.features, lesson.labels), ROUND + 1 - first
    return register(lesson.spec, lesson.rule, task, account().address, first, count, *rows, None, random)


def step_of(name: str) -> StepPlan:
    """Return the plan of a lesson's step; its trainer is the second of two."""
    lesson = LESSONS[name]
    names = ((bytes([7]) * 20, "another"), (account().address, NAME))
    return StepPlan(lesson.spec, lesson.rule, lesson.rows, ROUND, 64, 8 * STATISTICS, names)


@cache
def training_stage(name: str, scored: int = 0, wrong: int = 0) -> Case:
    """Return a lesson's step on the rows that the beacon chooses, of the round's model and the registration's root.

    `scored`: the model state demands a score, of rows registered in that round; it is `wrong` beside the true one.
    """
    lesson, step = LESSONS[name], step_of(name)
    spec, rule, model = lesson.spec, lesson.rule, model_of(name, bool(scored))
    pack = registration_of(name, scored or ROUND)
    features, labels = lesson.features, lesson.labels
    terms = replace(round_terms(lesson.layout), model=sha256(model).digest())
    training = training_round(step, pack.record, model, terms)
    update = learning.local_update(spec, rule, lesson.parameters, features, labels, training.batch_seed)
    draft = begin_upload(terms, account().address, update, random_of("draft", name))
    masked = masked_update(terms, RULE, account().address, draft.ciphertext_digest, draft.key_root, draft.ciphertext)
    statement = training.statement(masked)
    data = proofs.commit_data(statement.data, features, labels, Stream(pack.seed(ROUND)))
    if scored and not fresh(pack.data):
        score = demand_of(model, terms, statement.batch).score(update, committed_seed(data))
        statement = replace(statement, score=replace(score, value=score.value + wrong))
    program, tensors = _training._program(statement)
    trace = learning.step_trace(spec, rule, lesson.parameters, features, labels)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    witness = TrainingWitness(features, labels, data, trace, secrets)
    assignment = _training._Assignment(statement, tensors, witness)
    return Case(name, statement, program, tensors, assignment, (data,), terms, draft)


def model_of(name: str, scored: bool = False) -> bytes:
    """Return the model state that a lesson's round starts from, where scores are demanded with the direction."""
    lesson = LESSONS[name]
    parameters = learning.parameters_to_bytes(lesson.spec, lesson.rule, lesson.parameters)
    state = bytes(range(8 * STATISTICS)) + parameters
    return state + bytes(-len(state) % 8) + quality_of(lesson.spec.parameter_count) if scored else state


def quality_of(entries: int) -> bytes:
    """Return the part about quality of a state with some direction, of two trainers and stewards."""
    direction = np.random.default_rng(entries).integers(-(1 << 15), (1 << 15) + 1, entries)
    direction[0] = 1 << 15
    stewards = tuple(incentives.StewardEntry(bytes([number]) * 20) for number in (1, 2))
    standing = incentives.new_standing((bytes([7]) * 20, account().address))
    columns = (np.full(2, 15, np.int64), np.full(2, incentives.NO_SCORE, np.int64))
    made = incentives.QualityState(ROUND - 1, standing, *columns, NORM, direction, stewards)
    return incentives.encode_quality_state(made)


def demand_of(model: bytes, terms: RoundTerms, rows: int) -> ScoreDemand:
    """Return what score a model state demands of the update of so many rows."""
    state = incentives.decode_quality_state(model[model.index(b"collegium/v1/quality") :])
    scale = incentives.score_scale(state.direction, max(1, state.norm_bound * rows >> 8), NOISE)
    turn = int.from_bytes(terms.beacon[:2], "little") % proofs.SEEDS
    return ScoreDemand(state.direction, scale.shift, scale.sigma, turn)


def fresh(registration: bytes) -> bool:
    """Tell whether rows are registered in the very round, so that their owner could choose the noise."""
    return RegistrationRecord.from_bytes(registration).first_round == ROUND


def trained(name: str, proof: bytes, scored: int = 0, wrong: int = 0) -> Claim:
    """Return the report of a lesson's step with a proof, whatever it is."""
    case, pack = training_stage(name, scored, wrong), registration_of(name, scored or ROUND)
    assert case.terms is not None
    assert case.draft is not None
    assert isinstance(case.statement, TrainingStatement)
    if scored:
        score = incentives.NO_SCORE if case.statement.score is None else case.statement.score.value
        proof = score.to_bytes(8, "little", signed=True) + case.statement.batch.to_bytes(8, "little") + proof
    report = finish_upload(case.terms, case.draft, account(), proof, registration=pack.digest).report
    step = replace(step_of(name), stewards=2) if scored else step_of(name)
    return Claim(case.terms, report, case.draft.ciphertext, proof, None, step, model_of(name, bool(scored)), pack.data)


@cache
def training_claim(name: str, scored: int = 0) -> Claim:
    """Return the report of a lesson's step with its honest proof, made once."""
    return trained(name, training_stage(name, scored).prove().proof, scored)
