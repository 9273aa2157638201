"""Records that prove what they say: the gradient and the score of a model on rows that were registered before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pytest
import test_node_quality as plain

from collegium.crypto import AccountKey
from collegium.errors import CollegiumError
from collegium.incentives import (
    ONE,
    StewardRecord,
    StewardRecordError,
    decode_steward_record,
    encode_steward_record,
    normalise_direction,
    score_commitment,
    sign_steward_record,
    split_steward_record,
)
from collegium.node._proofs import PACK_ROUNDS
from collegium.node._quality import QualityRule, RecordRefusedError
from collegium.node._quality_settings import PROVED_ROUNDS_MAX
from collegium.node._steward import Steward, measure
from collegium.node._steward_proofs import (
    EvidenceBytesError,
    StewardEvidence,
    StewardProofError,
    StewardProving,
    decode_steward_evidence,
    encode_steward_evidence,
)
from collegium.node._task import LearningTask
from collegium.node._trainer import EncodingUsedError
from collegium.proofs import ProofRejectedError

pytestmark = pytest.mark.slow

ROUNDS = 3
PROVING = StewardProving(plain.NAME, plain.TASK.spec, plain.TASK.rule, ROUNDS, 2, 8 * (3 * 1 + 1))


@dataclass(frozen=True)
class Stage:
    """Two stewards with two shards, of two rounds and of one, what they recorded, and the models before and after."""

    rule: QualityRule
    task: LearningTask
    stewards: tuple[Steward, ...]
    models: list[bytes]
    records: list[list[bytes]]

    def said(self, number: int, steward: int = 0) -> tuple[StewardRecord, StewardEvidence]:
        body, evidence = split_steward_record(self.records[number][steward])
        return decode_steward_record(body, plain.NAME), decode_steward_evidence(evidence)

    def judge(self, number: int, record: StewardRecord, evidence: StewardEvidence | bytes, steward: int = 0) -> None:
        """Judge a record with other contents, which its steward has signed."""
        behind = evidence if isinstance(evidence, bytes) else encode_steward_evidence(evidence)
        if not isinstance(evidence, bytes):
            record = replace(record, registered=evidence.registered, evidence=sha256(behind).digest())
        signed = sign_steward_record(record, plain.NAME, self.stewards[steward].account)
        self.rule.check_record(number, self.models[number], [], encode_steward_record(signed) + behind)


@pytest.fixture(scope="module")
def stage() -> Stage:
    stewards = tuple(
        replace(plain.rotating(), account=AccountKey(bytes([200 + place]) * 32), secret=bytes([place]) * 32)
        for place in range(2)
    )
    accounts = tuple(steward.account.address for steward in stewards)
    rule = replace(plain.RULE, stewards=accounts, proving=PROVING)
    task = replace(plain.TASK, quality=rule, rounds=ROUNDS)
    models, records = [b""], [list[bytes]()]
    total = sum(task.update(0, b"", trainer, plain.BEACON) for trainer in plain.TRAINERS)
    models.append(task.step(0, b"", np.asarray(total)))
    for number in range(1, ROUNDS + 1):
        model = models[number]
        said = [steward.record(task, number, model) for steward in stewards]
        sums = np.sum([task.update(number, model, trainer, plain.BEACON) for trainer in plain.TRAINERS], axis=0)
        models.append(rule.step(number, model, plain.BEACON, task.step(number, model, sums), sums, [], said))
        records.append(said)
    return Stage(rule, task, stewards, models, records)


def test_a_record_proves_the_gradient_and_the_score_that_its_rows_give(stage: Stage) -> None:
    for number in range(1, ROUNDS + 1):
        model, before = stage.models[number], list[bytes]()
        for steward, record in zip(stage.stewards, stage.records[number], strict=True):
            stage.rule.check_record(number, model, before, record)
            before.append(record)
            shard = steward.shards[(number - 1) // 2]
            found = measure(stage.task, stage.task.decode_state(model), shard)
            said = decode_steward_record(split_steward_record(record)[0], plain.NAME)
            assert said.direction.tolist() == found.direction.tolist()
            assert said.commitment == score_commitment(
                plain.NAME,
                said.account,
                number,
                replace(PROVING.score(stage.said(number)[1].claim, len(shard)), score=found.score),
            )
    after = stage.rule.state_of(stage.models[-1])
    assert (after.model_round, after.model_scores) == (2, 2)
    assert {entry.registered for entry in after.stewards} == {
        evidence.registered for _, evidence in (stage.said(1, 0), stage.said(1, 1))
    }


def test_a_registration_is_proved_once_for_each_shard(stage: Stage) -> None:
    proofs = [bool(stage.said(number)[1].registration.proof) for number in range(1, ROUNDS + 1)]
    assert proofs == [True, False, True]
    record, evidence = stage.said(1)
    with pytest.raises(StewardProofError, match="and a proof in a steward's first record"):
        stage.judge(1, record, replace(evidence, registration=replace(evidence.registration, proof=b"")))
    record, evidence = stage.said(2)
    known = stage.said(1)[1].registration
    with pytest.raises(StewardProofError, match="and a proof in a steward's first record"):
        stage.judge(2, record, replace(evidence, registration=known))


Change = Callable[[StewardRecord, StewardEvidence], tuple[StewardRecord, StewardEvidence | bytes]]


def gradient_off_by_one(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    """Lie in record and claim alike, so that they fit together."""
    gradient = evidence.claim.gradient.copy()
    gradient[0] += 1 << 16
    changed = replace(evidence, claim=replace(evidence.claim, gradient=gradient))
    return replace(record, direction=normalise_direction(gradient)), changed


def score_off_by_one(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    claim = replace(evidence.claim, correct=evidence.claim.correct - 1)
    score = PROVING.score(claim, evidence.registration.rows)
    return replace(record, commitment=score_commitment(plain.NAME, record.account, record.round, score)), replace(
        evidence, claim=claim
    )


def direction_off_by_one(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    return replace(record, direction=record.direction + (np.arange(len(record.direction)) == 1)), evidence


def another_score(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    score = replace(PROVING.score(evidence.claim, evidence.registration.rows), score=ONE // 3)
    return replace(record, commitment=score_commitment(plain.NAME, record.account, record.round, score)), evidence


def more_rows(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    registration = replace(evidence.registration, rows=evidence.registration.rows + 1)
    return record, replace(evidence, registration=registration)


def another_root(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    roots = evidence.registration.roots
    return record, replace(evidence, registration=replace(evidence.registration, roots=(roots[1], roots[0], roots[2])))


def spoiled_registration(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, StewardEvidence]:
    proof = evidence.registration.proof[:-1] + bytes([evidence.registration.proof[-1] ^ 1])
    return record, replace(evidence, registration=replace(evidence.registration, proof=proof))


def nothing(record: StewardRecord, evidence: StewardEvidence) -> tuple[StewardRecord, bytes]:
    return replace(record, registered=bytes(32), evidence=bytes(32)), b""


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (gradient_off_by_one, ProofRejectedError, None),
        (score_off_by_one, ProofRejectedError, None),
        (direction_off_by_one, StewardProofError, r"says direction\[1\]"),
        (another_score, StewardProofError, "commits to another score of round 1"),
        (more_rows, StewardProofError, "registration of shard 0 is not the one"),
        (another_root, StewardProofError, "registration of shard 0 is not the one"),
        (spoiled_registration, StewardProofError, "proof of shard 0's registration is not the one"),
        (nothing, EvidenceBytesError, "evidence of 0 bytes"),
    ],
)
def test_a_record_that_says_something_else_does_not_count(
    stage: Stage, change: Change, error: type[CollegiumError], match: str | None
) -> None:
    with pytest.raises(error, match=match):
        stage.judge(1, *change(*stage.said(1)))


def test_a_proof_of_another_round_shard_steward_or_model_does_not_count(stage: Stage) -> None:
    record, evidence = stage.said(1)
    of_round, of_shard, of_other = stage.said(2)[1], stage.said(3)[1], stage.said(1, 1)[1]
    whole = replace(evidence.registration, proof=evidence.registration.proof)

    with pytest.raises(ProofRejectedError):
        stage.judge(1, record, replace(of_round, registration=whole))
    with pytest.raises(StewardProofError, match="shards, that of round 1 registered for"):
        stage.judge(1, record, of_shard)
    with pytest.raises(ProofRejectedError):
        stage.judge(1, record, of_other)
    stale = replace(record, round=2, opened=None)
    with pytest.raises(ProofRejectedError):  # the model has moved on
        stage.judge(2, stale, replace(evidence, registration=replace(whole, proof=b"")))


def test_rows_are_registered_once_and_for_all(stage: Stage) -> None:
    record, evidence = stage.said(2)
    others = replace(evidence, registrations=(evidence.registrations[0], b"o" * 32))
    with pytest.raises(RecordRefusedError, match="names other rows than it registered before"):
        stage.judge(2, record, others)
    record, evidence = stage.said(1)
    with pytest.raises(StewardProofError, match="3 shards"):
        stage.judge(1, record, replace(evidence, registrations=(*evidence.registrations, b"o" * 32)))


def test_evidence_that_the_record_does_not_name_does_not_count(stage: Stage) -> None:
    record, evidence = stage.said(1)
    data = encode_steward_evidence(replace(evidence, claim=replace(evidence.claim, loss_micro=1)))
    with pytest.raises(StewardRecordError, match="names other evidence"):
        stage.judge(1, record, data)


def test_a_task_whose_records_are_not_proved_takes_no_evidence(stage: Stage) -> None:
    bare = replace(stage.rule, proving=None)
    with pytest.raises(RecordRefusedError, match="this task's are not proved"):
        bare.check_record(1, stage.models[1], [], stage.records[1][0])


def test_a_commitment_proves_one_record(stage: Stage) -> None:
    steward = stage.stewards[0]
    assert steward.record(stage.task, 1, stage.models[1]) == stage.records[1][0]
    with pytest.raises(EncodingUsedError, match="of another model"):
        steward.record(stage.task, 1, stage.models[2])


def test_a_steward_that_lost_its_memory_makes_the_same_record_again(stage: Stage) -> None:
    again = replace(stage.stewards[0], packs=(), proved={}, told={})
    assert again.record(stage.task, 1, stage.models[1]) == stage.records[1][0]


def test_a_shard_serves_no_more_rounds_than_its_registration_has_commitments() -> None:
    assert PROVED_ROUNDS_MAX <= PACK_ROUNDS
