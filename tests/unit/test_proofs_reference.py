"""The verifier and the second one, written from docs/spec/proofs.md alone, say the same of every proof.

Of an accepted proof both tell the same point and the same values of the key; of a refused one both name the same error.
Changes are drawn by seeds: bytes of proofs, public operands, and single numbers of a witness, of which a lying prover
makes a whole proof, so that only equations can refuse it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _proof_stage import Case, case_of, proof_of, tensors_of, verify, wrong_proof

from collegium.algebra import P
from collegium.proofs import (
    BoundedStatement,
    CombinationRejectedError,
    GrindingRejectedError,
    IdentityRejectedError,
    MalformedProofError,
    OpeningRejectedError,
    ProofRejectedError,
    RegistrationStatement,
    SumRejectedError,
    TrainingStatement,
    _reference,
)
from collegium.proofs._masked import MaskedUpdate

Statement = BoundedStatement | TrainingStatement | RegistrationStatement
COVERED = (
    "one lane",
    "two lanes",
    "norm",
    "limbs",
    "logistic",
    "hidden",
    "squared",
    "softmax",
    "batch",
    "registration",
)
FULL = os.environ.get("COLLEGIUM_FULL") == "1"
# How often each case is changed: of a witness, each time in another tensor.
BYTE_CHANGES = {"registration": 64, "one lane": 16, "logistic": 8, "squared": 8, "softmax": 8}
BYTE_CHANGES = BYTE_CHANGES if FULL else {name: max(5, times // 4) for name, times in BYTE_CHANGES.items()}
WITNESS_CHANGES = 5 if FULL else 2
BY_EQUATIONS = (SumRejectedError, IdentityRejectedError)
BY_BYTES = {*BY_EQUATIONS, CombinationRejectedError, GrindingRejectedError, MalformedProofError, OpeningRejectedError}


def check(statement: Statement, proof: bytes) -> _reference.KeyValues | None:
    """Ask the second verifier."""
    if isinstance(statement, BoundedStatement):
        return _reference.check_bounded(statement, proof)
    if isinstance(statement, TrainingStatement):
        return _reference.check_training(statement, proof)
    return _reference.check_registration(statement, proof)


def refusal(verifier: Callable[[Any, bytes], object], statement: Statement, proof: bytes) -> type[Exception] | None:
    """Return the error that a verifier names, None where it accepts."""
    try:
        verifier(statement, proof)
    except ProofRejectedError as error:
        return type(error)
    return None


def both_refuse(statement: Statement, proof: bytes) -> type[Exception]:
    """Return the one error that both name."""
    first, second = (refusal(verifier, statement, proof) for verifier in (verify, check))
    assert first is second is not None, (first, second)
    return first


def both_accept(statement: Statement, proof: bytes) -> None:
    told, second = verify(statement, proof), check(statement, proof)
    if told is None:
        assert second is None
        return
    assert second is not None
    assert (told.point, [tuple(pair) for pair in told.key_values.T.tolist()]) == (second.point, second.values)


@pytest.mark.slow
def test_a_registration_is_accepted_by_both_and_refused_by_both_when_a_label_is_changed() -> None:
    case = case_of("registration")
    both_accept(case.statement, proof_of("registration"))
    wrong = wrong_proof(case, "[1].labels", random.Random(1))
    assert both_refuse(case.statement, wrong) is IdentityRejectedError


@pytest.mark.slow
@pytest.mark.parametrize("name", COVERED)
def test_both_accept_an_honest_proof(name: str) -> None:
    both_accept(case_of(name).statement, proof_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", BYTE_CHANGES)
def test_both_refuse_a_changed_byte(name: str) -> None:
    """Half of the bytes anywhere, half among what comes before the openings, which are most of a proof."""
    statement, proof = case_of(name).statement, proof_of(name)
    generator, seen = random.Random(f"bytes {name}"), set[type[Exception]]()
    for number in range(BYTE_CHANGES[name]):
        at = generator.randrange(len(proof) if number % 2 else before_openings(case_of(name)))
        changed = bytearray(proof)
        changed[at] ^= generator.randrange(1, 256)
        seen.add(both_refuse(statement, bytes(changed)))
    assert {SumRejectedError, OpeningRejectedError} <= seen <= BY_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one lane", "registration"])
@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "not canonical", "cut in the middle"])
def test_both_refuse_another_length_and_an_element_of_p(name: str, change: str) -> None:
    proof = proof_of(name)
    start = 64 + (96 if name == "one lane" else 0)  # the mask total
    changed = {
        "shorter": proof[:-1],
        "longer": proof + b"\0",
        "empty": b"",
        "not canonical": proof[:start] + P.to_bytes(8, "little") + proof[start + 8 :],
        "cut in the middle": proof[: before_openings(case_of(name)) // 2],
    }[change]
    assert both_refuse(case_of(name).statement, changed) is MalformedProofError


def before_openings(case: Case) -> int:
    layout = case.program.layout
    k, t, rows = layout.code.message_len, layout.code.randomness_len, sum(layout.counts)
    return 32 * 3 + 16 * (case.program.key_rows + 1 + k + rows + k + t) + 8


# ------------------------------------------------------------------------------------------------ public operands


def other_digest(digest: bytes) -> bytes:
    return bytes([digest[0] ^ 1]) + digest[1:]


def renamed(masked: MaskedUpdate, name: str) -> MaskedUpdate:
    value = getattr(masked.identity, name)
    changed = value + 1 if isinstance(value, int) else other_digest(value)
    return replace(masked, identity=replace(masked.identity, **{name: changed}))


NAMES = ("task", "round", "trainer", "terms", "model", "rule", "key_root")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_refuse_a_proof_that_names_another_report(name: str) -> None:
    statement = case_of("one lane").statement
    assert isinstance(statement, BoundedStatement)
    assert both_refuse(replace(statement, masked=renamed(statement.masked, name)), proof_of("one lane")) is (
        SumRejectedError
    )


@pytest.mark.slow
def test_both_refuse_another_matrix_bound_or_number_of_entries() -> None:
    """A stands in no transcript, only the terms that it follows from do: there the equations refuse, not challenges."""
    statement = case_of("norm").statement
    assert isinstance(statement, BoundedStatement)
    masked, matrix = statement.masked, statement.masked.matrix.copy()
    matrix[2, 7] = (int(matrix[2, 7]) + 1) % P
    assert both_refuse(replace(statement, masked=replace(masked, matrix=matrix)), proof_of("norm")) is (
        IdentityRejectedError
    )
    for changed in (
        replace(statement, masked=replace(masked, entries=masked.entries - 1)),
        replace(statement, masked=replace(masked, noise_bits=masked.noise_bits - 1)),
        replace(statement, norm_bound=(statement.norm_bound or 0) - 1),
    ):
        assert both_refuse(changed, proof_of("norm")) is SumRejectedError


@pytest.mark.slow
def test_both_refuse_other_rows_other_parameters_or_another_rule() -> None:
    statement = case_of("batch").statement
    assert isinstance(statement, TrainingStatement)
    parameters = statement.parameters.copy()
    parameters[3] += -1 if parameters[3] > 0 else 1
    for changed in (
        replace(statement, data_root=other_digest(statement.data_root)),
        replace(statement, chosen=np.roll(statement.chosen, 1)),
        replace(statement, parameters=parameters),
        replace(statement, rule=replace(statement.rule, learning_rate=statement.rule.learning_rate / 2)),
    ):
        assert both_refuse(changed, proof_of("batch")) is SumRejectedError


@pytest.mark.slow
def test_both_refuse_a_registration_of_another_owner_context_or_order() -> None:
    statement = case_of("registration").statement
    assert isinstance(statement, RegistrationStatement)
    for changed in (
        replace(statement, owner=other_digest(statement.owner)),
        replace(statement, context=other_digest(statement.context)),
        replace(statement, roots=statement.roots[::-1]),
        replace(statement, roots=statement.roots[:-1]),
    ):
        assert both_refuse(changed, proof_of("registration")) in (SumRejectedError, MalformedProofError)


# ------------------------------------------------------------------------------------------------ lying provers


@pytest.mark.slow
@pytest.mark.parametrize("name", COVERED)
def test_both_refuse_a_proof_of_one_wrong_number(name: str) -> None:
    case, generator = case_of(name), random.Random(f"witness {name}")
    bound = [path for path, _ in tensors_of(case.tensors) if not path.endswith("seed") and "excess" not in path]
    for path in generator.sample(bound, min(WITNESS_CHANGES, len(bound))):
        assert both_refuse(case.statement, wrong_proof(case, path, generator)) in BY_EQUATIONS, path
