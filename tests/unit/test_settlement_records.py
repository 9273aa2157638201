"""The program about stewards' records says of what stands behind each what the verifier of records says.

`Counted.accepted` asks both. The statement is a header whose model counts the record.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from _evaluation_stage import SHARDS
from _proof_stage import tensors_of, wrong_proof
from _record_works_stage import Counted, case_of, counted, packs, plan, program, proving, record_step

from collegium.algebra import P
from collegium.incentives import ModelScore, normalise_direction, score_commitment
from collegium.node._steward_proofs import StewardEvidence, registration_digest
from collegium.settlement import ProofPlanError

NAMES = sorted(SHARDS)
pytestmark = pytest.mark.slow


# ------------------------------------------------------------------------------------------------ it accepts


@pytest.mark.seeds(quick=1, full=len(NAMES))
def test_a_record_that_is_proved_is_accepted_and_one_whose_gradient_is_off_by_one_is_refused(seed: int) -> None:
    name = NAMES[seed]
    honest = counted(name)
    for number, known in ((1, False), (3, False), (2, True)) if seed else ((1, False), (2, True)):
        honest = counted(name, number, known)
        assert honest.known == known
        assert honest.accepted(), (name, number)
    gradient = honest.said.claim.gradient.copy()
    gradient[0] += 1
    assert not saying(honest, gradient=gradient).accepted()


def test_a_round_that_did_not_open_or_counts_no_record_is_accepted_whatever_stands_behind_it() -> None:
    lie = changed_bytes(counted("hidden", 2, True), -1)
    assert not lie.accepted()
    assert lie.run(b"lost").accepted
    assert lie.run(counts=False).accepted


# ------------------------------------------------------------------------------------------------ the smallest changes

Change = Callable[[Counted], Counted]


def saying(round_: Counted, **claim: Any) -> Counted:
    """Return the round with another claim, of which direction and score follow."""
    said = replace(round_.said, claim=replace(round_.said.claim, **claim))
    score = proving(round_.name).score(said.claim, said.registration.rows)
    record = replace(
        round_.record,
        direction=normalise_direction(said.claim.gradient),
        commitment=commitment(round_, score),
    )
    return replace(round_, record=record).showing(said)


def commitment(round_: Counted, score: ModelScore) -> bytes:
    return score_commitment(proving(round_.name).task, round_.record.account, round_.record.round, score)


def with_registration(round_: Counted, **changes: Any) -> StewardEvidence:
    said = round_.said
    return replace(said, registration=replace(said.registration, **changes))


def changed_bytes(round_: Counted, at: int) -> Counted:
    """Return the round with a bit of a byte of its evidence changed, which the record names."""
    data = bytearray(round_.evidence)
    data[at] ^= 1
    return round_.showing(bytes(data))


def renamed(round_: Counted, evidence: StewardEvidence) -> StewardEvidence:
    """Return evidence whose shards are named anew, so that only the registration itself is wrong."""
    digest = registration_digest(evidence.registration, evidence.registration_proof)
    return replace(evidence, registrations=(digest, *evidence.registrations[1:]))


def another_direction(round_: Counted) -> Counted:
    direction = round_.record.direction.copy()
    direction[1] += 1
    return replace(round_, record=replace(round_.record, direction=direction))


def another_score(round_: Counted) -> Counted:
    score = proving(round_.name).score(round_.said.claim, round_.said.registration.rows)
    return replace(round_, record=replace(round_.record, commitment=commitment(round_, replace(score, score=1))))


def salted(round_: Counted) -> Counted:
    score = proving(round_.name).score(round_.said.claim, round_.said.registration.rows)
    return replace(round_, record=replace(round_.record, commitment=commitment(round_, replace(score, salt=b"s" * 32))))


def of_other_rows(round_: Counted) -> Counted:
    """Name other registrations than the state holds."""
    return replace(round_, before=replace(round_.before, registered=sha256(b"other rows").digest()))


def spoiled_registration(round_: Counted) -> Counted:
    """Change a bit of the registration's proof, which is named as it is."""
    proof = round_.said.registration.proof
    proof = proof[:-1] + bytes([proof[-1] ^ 1])
    spoiled = replace(with_registration(round_, proof=proof), registration_proof=sha256(proof).digest())
    return round_.showing(renamed(round_, spoiled))


CHANGES: dict[str, Change] = {
    "a loss that is off by one": lambda it: saying(it, loss_micro=it.said.claim.loss_micro + 1),
    "a hit more": lambda it: saying(it, correct=it.said.claim.correct + 1),
    "a loss that is none": lambda it: saying(it, loss_micro=P),
    "more hits than rows": lambda it: saying(it, correct=it.said.registration.rows + 1),
    "another direction": another_direction,
    "another score": another_score,
    "a salt": salted,
    "other rows than before": of_other_rows,
    "the last byte of the proof": lambda it: changed_bytes(it, -1),
    "the first byte of the proof": lambda it: changed_bytes(it, len(it.evidence) - len(it.said.proof)),
    "a proof that is shorter": lambda it: it.showing(it.evidence[:-8]),
    "a proof that is longer": lambda it: it.showing(it.evidence + bytes(8)),
    "no proof": lambda it: it.showing(it.evidence[: len(it.evidence) - len(it.said.proof)]),
    "no evidence": lambda it: it.showing(b""),
}
CHANGES_OF_A_FIRST_RECORD: dict[str, Change] = {
    "a registration that does not verify": spoiled_registration,
    "a proof of a registration that it does not name": lambda it: it.showing(
        replace(it.said, registration_proof=bytes(32))
    ),
    "no registration's proof": lambda it: it.showing(with_registration(it, proof=b"")),
    "a registration's proof too many": lambda it: replace(it, before=replace(it.before, record=b"r" * 32), began=1),
    "a row more": lambda it: it.showing(with_registration(it, rows=it.said.registration.rows + 1)),
    "a row more, by name": lambda it: it.showing(
        renamed(it, with_registration(it, rows=it.said.registration.rows + 1))
    ),
    "no rows, by name": lambda it: it.showing(renamed(it, with_registration(it, rows=0))),
    "a registration that goes on from another": lambda it: it.showing(
        renamed(it, with_registration(it, previous=b"p" * 32))
    ),
    "a registration of later rounds": lambda it: it.showing(renamed(it, with_registration(it, first_round=2))),
    "the other shard's registration": lambda it: it.showing(
        renamed(it, replace(it.said, registration=packs(it.name)[1].record))
    ),
    "a shard too many": lambda it: it.showing(replace(it.said, registrations=(*it.said.registrations, b"o" * 32))),
    "another round": lambda it: replace(it, record=replace(it.record, round=2), began=1),
    "shards that are named otherwise": lambda it: replace(it, record=replace(it.record, registered=b"n" * 32)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_smallest_change_is_refused_by_both(change: Change) -> None:
    assert not change(counted("hidden", 2, True)).accepted()


@pytest.mark.parametrize("change", CHANGES_OF_A_FIRST_RECORD.values(), ids=CHANGES_OF_A_FIRST_RECORD.keys())
def test_the_smallest_change_of_a_first_record_is_refused_by_both(change: Change) -> None:
    assert not change(counted("hidden")).accepted()


@pytest.mark.seeds(quick=1, full=8)
def test_a_changed_byte_is_refused_by_both(seed: int) -> None:
    generator, honest = random.Random(f"byte {seed}"), counted("hidden", 2, True)
    for _ in range(2):
        assert not changed_bytes(honest, generator.randrange(16, len(honest.evidence))).accepted()


@pytest.mark.seeds(quick=1, full=2 * len(NAMES))
def test_a_proof_of_one_wrong_number_is_refused_by_both(seed: int) -> None:
    generator = random.Random(f"number {seed}")
    honest = counted(NAMES[seed % len(NAMES)], 2, True)
    case = case_of(honest)
    bound = [path for path, _ in tensors_of(case.tensors) if not path.endswith("seed") and "excess" not in path]
    for path in generator.sample(bound, 2):
        lie = honest.showing(replace(honest.said, proof=wrong_proof(case, path, generator)))
        assert not lie.accepted(), path


# ------------------------------------------------------------------------------------------------ plan and steps


def test_how_many_steps_a_record_takes() -> None:
    instructions, bound = len(program("hidden").instructions), plan("hidden").record_steps_max
    for number, known in ((1, False), (2, True)):
        honest = counted("hidden", number, known)
        run = honest.run()
        print(f"{instructions} instructions, {run.steps} steps of {bound}, {len(honest.evidence)} bytes")
        assert run.steps < min(bound, 40_000_000)


def test_shards_of_which_no_evaluation_can_be_stated_have_no_plan() -> None:
    step = record_step("squared")
    assert step.evaluation is not None
    assert step.evaluation.rows_max(step) == 1 << 16
    wide = replace(step, rule=replace(step.rule, fraction_bits=16, hidden_limit=16, output_limit=64))
    with pytest.raises(ProofPlanError, match="cannot be stated"):
        step.evaluation.rows_max(wide)
