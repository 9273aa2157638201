"""The verifier as a program of the dispute machine: it accepts a report's proof if and only if the verifier does.

Changes are drawn by seeds and are those of the verifier's own tests: bytes of a proof, public operands, single numbers
of a witness of which a lying prover makes a whole proof, and a report about another key than its proof is about.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from _proof_claims import ROUND, Claim, bounded_claim, report_of, step_of, trained, training_claim, training_stage
from _proof_stage import LESSONS, Case, careless, case_of, digest_of, tensors_of, wrong_proof

from collegium.aggregation import encode_ciphertext
from collegium.algebra import P
from collegium.commitment import MerkleTree, leaves_of_slices
from collegium.crypto import frame_fields
from collegium.proofs import CombinationRejectedError, _prove
from collegium.settlement import KnownStretches, MachineRun, Program, ProofPlanError, StepPlan, compile_program
from collegium.settlement.programs import _proof_labels

REPORT, RECEIPT, CLOSE = "_report_proof", "_receipt_proofs", "_close_proofs"


@cache
def program_of(name: str, parameters: tuple[tuple[str, int], ...]) -> Program:
    """Return a program for a task's parameters."""
    return compile_program(name, dict(parameters))


def run(name: str, claims: list[Claim], statement: bytes, *messages: bytes) -> MachineRun:
    """Run a program on a statement about reports of one task."""
    parameters = tuple(claims[0].parameters.items())
    objects = [*messages, *(message for claim in claims for message in claim.messages)]
    return MachineRun(program_of(name, parameters), statement, KnownStretches(objects))


def said_of(claim: Claim) -> bool:
    """Return what the program says of a report; the verifier must say the same."""
    accepted = run(REPORT, [claim], claim.report.id).accepted
    assert accepted == claim.admits()
    return accepted


# ------------------------------------------------------------------------------------------------ it accepts


def test_an_honest_bounded_proof_is_accepted_and_a_report_about_another_key_is_refused() -> None:
    claim = bounded_claim("one lane")
    assert said_of(claim)
    combination = claim.report.combination.copy()
    combination[1, 77] = (int(combination[1, 77]) + 1) % P
    assert not said_of(with_report(claim, combination=combination))


@pytest.mark.slow
@pytest.mark.seeds(quick=2, full=3)
def test_proofs_of_every_form_of_bounds_are_accepted(seed: int) -> None:
    assert said_of(bounded_claim(("norm", "limbs", "two lanes")[seed]))


@pytest.mark.slow
def test_a_proof_of_a_norm_is_refused_under_another_bound() -> None:
    claim = bounded_claim("norm")
    assert claim.norm is not None
    assert not said_of(replace(claim, norm=claim.norm - 1))


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=len(LESSONS))
def test_a_training_step_on_registered_rows_is_accepted_and_one_of_another_batch_is_refused(seed: int) -> None:
    claim = training_claim(("batch", *sorted(set(LESSONS) - {"batch"}))[seed])
    assert said_of(claim)
    assert not said_of(with_terms(claim, beacon=digest_of("another beacon")))


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=len(LESSONS))
def test_a_step_with_its_score_is_accepted_and_one_with_another_score_is_refused(seed: int) -> None:
    claim = training_claim(("batch", *sorted(set(LESSONS) - {"batch"}))[seed], scored=ROUND - 1)
    assert said_of(claim)
    assert not said_of(with_prefix(claim, claim.proof[:1] + bytes([claim.proof[1] ^ 1]) + claim.proof[2:16]))
    assert not said_of(with_prefix(claim, claim.proof[:8] + bytes([claim.proof[8] ^ 1]) + bytes(7)))  # of a row more
    assert not said_of(with_prefix(claim, bytes(7) + b"\x80" + claim.proof[8:16]))


@pytest.mark.slow
def test_rows_registered_in_the_very_round_have_no_score() -> None:
    claim = training_claim("batch", scored=ROUND)
    assert said_of(claim)
    assert not said_of(with_prefix(claim, bytes(8) + claim.proof[8:16]))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [-1, 40])
def test_a_lying_provers_score_is_refused(wrong: int) -> None:
    proof = careless(training_stage("batch", ROUND - 1, wrong)).proof
    assert not said_of(trained("batch", proof, ROUND - 1, wrong))


def with_prefix(claim: Claim, prefix: bytes) -> Claim:
    """Return the claim with another score and rows before its proof, which the report names."""
    proof = prefix + claim.proof[16:]
    return with_report(replace(claim, proof=proof), proof=sha256(proof).digest())


def with_report(claim: Claim, **changes: Any) -> Claim:
    """Return the claim with another report, of which the id follows."""
    return replace(claim, report=replace(claim.report, **changes))


def with_terms(claim: Claim, **changes: Any) -> Claim:
    """Return the claim under other terms, which the report names."""
    terms = replace(claim.terms, **changes)
    return with_report(replace(claim, terms=terms), terms=terms.digest)


# ------------------------------------------------------------------------------------------------ bytes


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=12)
@pytest.mark.parametrize("name", ["one lane", "batch"])
def test_a_changed_byte_is_refused_by_both(name: str, seed: int) -> None:
    """Two bytes before the openings, where equations refuse, two anywhere: symbols, salts, siblings."""
    generator = random.Random(f"bytes {name} {seed}")
    honest = bounded_claim(name).proof if name == "one lane" else training_claim(name).proof
    before = before_openings(case_of(name) if name == "one lane" else training_stage(name))
    for number in range(4):
        changed = bytearray(honest)
        changed[generator.randrange(before if number % 2 else len(honest))] ^= generator.randrange(1, 256)
        assert not said_of(claim_with(name, bytes(changed)))


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "not canonical", "no work"])
def test_another_length_an_element_of_p_and_a_nonce_without_work_are_refused(change: str) -> None:
    proof, end = bounded_claim("one lane").proof, before_openings(case_of("one lane"))
    changed = {
        "shorter": proof[:-8],
        "longer": proof + bytes(8),
        "empty": b"",
        "not canonical": proof[:160] + P.to_bytes(8, "little") + proof[168:],  # the mask total
        "no work": proof[: end - 8] + bytes([proof[end - 8] ^ 1]) + proof[end - 7 :],
    }[change]
    assert not said_of(claim_with("one lane", changed))


def before_openings(case: Case) -> int:
    layout = case.program.layout
    k, t, rows = layout.code.message_len, layout.code.randomness_len, sum(layout.counts)
    return 32 * 3 + 16 * (case.program.key_rows + 1 + k + rows + k + t) + 8


def claim_with(name: str, proof: bytes) -> Claim:
    """Return the report of a case that carries this proof."""
    return trained(name, proof) if name in LESSONS else report_of(case_of(name), proof)


# ------------------------------------------------------------------------------------------------ public operands


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["trainer", "terms", "ciphertext", "committee_root", "audit_root", "round", "beacon", "registration"]
)
def test_a_proof_moved_to_another_report_is_refused(what: str) -> None:
    claim, digest = bounded_claim("one lane"), digest_of("another")
    if what == "ciphertext":
        ciphertext = claim.ciphertext.copy()
        ciphertext[1, 7] ^= np.uint64(1)
        moved = replace(claim, ciphertext=ciphertext)
        moved = with_report(moved, ciphertext=sha256(encode_ciphertext(ciphertext)).digest())
    elif what == "round":
        moved = with_report(with_terms(claim, round=4), round=4)
    elif what in ("terms", "beacon"):
        moved = with_terms(claim, **{"previous" if what == "terms" else what: digest})
    else:
        moved = with_report(claim, **{what: digest[:20] if what == "trainer" else digest})
    if what == "registration":  # no proof speaks of one here, and no round admits such a report
        assert not run(REPORT, [moved], moved.report.id).accepted
        return
    assert not said_of(moved)


@pytest.mark.slow
def test_a_training_proof_under_another_model_batch_or_registration_is_refused() -> None:
    claim = training_claim("batch")
    model = bytearray(claim.model)
    model[-4] ^= 1
    terms = replace(claim.terms, model=sha256(model).digest())
    assert not said_of(with_report(replace(claim, terms=terms, model=bytes(model)), terms=terms.digest))
    registration = bytearray(claim.registration)
    registration[-5] ^= 1  # a sibling of its own proof
    digest = sha256(registration).digest()
    assert not said_of(with_report(replace(claim, registration=bytes(registration)), registration=digest))
    assert claim.step is not None
    names = tuple((account, name + " ") for account, name in claim.step.names)
    renamed = replace(claim, step=replace(claim.step, names=names))  # for whom another batch is drawn
    assert not run(REPORT, [renamed], renamed.report.id).accepted


# ------------------------------------------------------------------------------------------------ lying provers


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=8)
@pytest.mark.parametrize("name", ["norm", "batch"])
def test_a_proof_of_one_wrong_number_is_refused_by_both(name: str, seed: int) -> None:
    case = training_stage(name) if name in LESSONS else case_of(name)
    generator = random.Random(f"witness {name} {seed}")
    bound = [path for path, _ in tensors_of(case.tensors) if not path.endswith("seed") and "excess" not in path]
    for path in generator.sample(bound, 2):
        assert not said_of(claim_with(name, wrong_proof(case, path, generator))), path


def test_words_that_are_no_codewords_are_refused_by_their_opened_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every column of the trace is committed and opened with a wrong symbol; the prover computes with right ones."""
    case, trees = case_of("one lane"), list[str]()
    commit, opened = _prove._commit, _prove._opened

    def spoiled(columns: Any, start: int) -> Any:
        changed = np.ascontiguousarray(columns).copy()
        changed[:, start] ^= np.uint64(1)
        return changed

    def commit_spoiled(*arguments: Any) -> Any:
        columns, first, rows = arguments[3:6]
        committed = commit(*arguments)
        if first != case.program.layout.starts[case.program.layout.trace]:
            return committed
        return MerkleTree(leaves_of_slices(spoiled(columns, first), first, first + rows + 2))

    def open_spoiled(columns: Any, merkle: Any, positions: Any) -> bytes:
        trees.append("opened")
        if len(trees) > 1:
            return opened(columns, merkle, positions)
        columns = spoiled(columns, 0)
        return opened(columns, MerkleTree(leaves_of_slices(columns, 0, columns.shape[1])), positions)

    monkeypatch.setattr(_prove, "_commit", commit_spoiled)
    monkeypatch.setattr(_prove, "_opened", open_spoiled)
    claim = report_of(case, careless(case, "no codewords").proof)
    with pytest.raises(CombinationRejectedError, match="opened columns do not fit"):
        case.verify(claim.proof)
    assert not said_of(claim)


# ------------------------------------------------------------------------------------------------ several reports


def test_a_receipt_is_false_if_a_proof_that_it_calls_verified_fails() -> None:
    honest, other = bounded_claim("one lane"), claim_with("one lane", bounded_claim("one lane").proof[:-8])
    for verified, holds in (((honest,), True), ((honest, other), False), ((other,), False), ((), True)):
        named = sorted(claim.report.id for claim in (honest, other))
        ids = b"".join(sorted(claim.report.id for claim in verified))
        terms = honest.terms
        receipt = frame_fields("receipt", terms.task, terms.round, terms.digest, 5, b"".join(named), ids)
        done = run(RECEIPT, [honest, other], sha256(receipt).digest(), receipt)
        assert done.accepted is holds, verified


def test_a_close_is_wrong_if_it_admits_a_report_whose_proof_fails_and_the_header_does_not_say_so() -> None:
    honest, other = bounded_claim("one lane"), claim_with("one lane", bounded_claim("one lane").proof[:-8])
    reports = tuple(sorted((honest.report.id, other.report.id)))
    for admitted, failed, holds in (
        ((honest.report.id,), (), True),
        (reports, (), False),
        (reports, (other.report.id,), True),
    ):
        header, close = header_of(honest, admitted, failed)
        done = run(CLOSE, [honest, other], sha256(header).digest(), header, close)
        assert done.accepted is holds, (admitted, failed)


def header_of(claim: Claim, admitted: tuple[bytes, ...], failed: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """Return the preimages of a header that calls reports failed, and of its close, which admits some."""
    terms, nothing = claim.terms, bytes(32)
    weights = (1).to_bytes(8, "little") * len(admitted)
    reports = b"".join(admitted)
    close = frame_fields("close", terms.task, terms.round, terms.digest, b"", reports, weights, b"", b"")
    beacon, seats = bytes(48), bytes(2 * len(terms.seats))
    header = frame_fields(
        "header", terms.task, terms.round, b"bounded", nothing, sha256(close).digest(), b"invalid", b"", nothing,
        nothing, b"", beacon, seats, b"", b"".join(failed), nothing, nothing,
    )  # fmt: skip
    return header, close


# ------------------------------------------------------------------------------------------------ plan and words


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scored", "millions"), [("one lane", 0, 10), ("batch", 0, 30), ("batch", 2, 35)])
def test_how_many_steps_a_verification_takes(name: str, scored: int, millions: int) -> None:
    claim = training_claim(name, scored) if name in LESSONS else bounded_claim(name)
    done = run(REPORT, [claim], claim.report.id)
    instructions = len(program_of(REPORT, tuple(claim.parameters.items())).instructions)
    layout = claim.terms.layout
    bound = claim.plan.steps_max(layout, layout)
    print(f"{name}: {instructions} instructions, {done.steps} steps of {bound} for a proof of {len(claim.proof)} bytes")
    assert instructions < 9000
    assert done.steps < min(bound, 1_000_000 * millions)


def test_the_labels_are_the_words_that_the_transcript_has() -> None:
    texts = {
        "KEY_TAG_TEXT": "key",
        **{f"{name.upper().replace(' ', '_')}_LABEL": name for name in LABELS},
        **{f"{name.upper()}_TEXT": name for name in ("proof", "bounded", "training", "registration", "score")},
    }
    for name, text in texts.items():
        first, rest = text.encode()[:8].ljust(8, b"\0"), text.encode()[8:].ljust(8, b"\0")
        assert getattr(_proof_labels, name).to_bytes(8, "big") == first
        more = name.replace("_LABEL", "_MORE").replace("_TEXT", "_MORE")
        assert getattr(_proof_labels, more, 0).to_bytes(8, "big") == rest


LABELS = (
    "trace", "alpha", "gamma", "mu", "key point", "key values", "products", "mask total", "rho", "tau", "chi",
    "remainder", "lambda", "quotient", "point", "values", "rows", "combination", "nonce", "columns",
)  # fmt: skip


def test_a_rule_whose_proofs_no_program_verifies_has_no_plan() -> None:
    lesson, step = LESSONS["batch"], step_of("batch")
    assert isinstance(replace(step, rounds=9), StepPlan)
    with pytest.raises(ProofPlanError, match="2 local steps"):
        replace(step, rule=replace(lesson.rule, local_steps=2))
