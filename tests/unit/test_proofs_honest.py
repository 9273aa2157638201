"""Whoever tells the truth is believed: every relation, at sizes that fill no row, one row, and one row and an entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _proof_stage import (
    CASES,
    K_BOUNDED,
    LESSONS,
    SMALL,
    TRAINING,
    Case,
    Lesson,
    PlainAssignment,
    account,
    bounded_case,
    case_of,
    norm_of,
    plain_step,
    proof_of,
    random_of,
    registration_case,
    training_case,
)

from collegium import proofs
from collegium.aggregation import KeyClaim, check_claim, check_report, finish_upload
from collegium.algebra import evaluate_ext
from collegium.learning import ModelSpec, Rule
from collegium.proofs import (
    BoundedStatement,
    DataShape,
    MalformedProofError,
    RegistrationStatement,
    StatementError,
    SumRejectedError,
    UnprovableError,
    _prove,
    commit_data,
)


def honest(case: Case) -> None:
    """The proof verifies; it is not a proof of the same statement with a byte less or more."""
    proof = case.prove().proof
    case.verify(proof)
    with pytest.raises(MalformedProofError):
        case.verify(proof[:-1])
    with pytest.raises(MalformedProofError):
        case.verify(proof + b"\0")


@pytest.mark.parametrize("name", CASES)
def test_an_honest_proof_verifies(name: str) -> None:
    honest(case_of(name))


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    "entries", [1, 2, 3, K_BOUNDED - 1, K_BOUNDED, K_BOUNDED + 1, 2 * K_BOUNDED, 2 * K_BOUNDED + 1]
)
def test_any_number_of_entries(entries: int, lanes: int) -> None:
    honest(bounded_case(f"{entries} in {lanes}", entries, 100, lanes))


@pytest.mark.parametrize("entries", [1, K_BOUNDED, K_BOUNDED + 1])
def test_any_number_of_entries_in_limbs_and_under_a_norm(entries: int) -> None:
    honest(bounded_case(f"{entries} in limbs", entries, 1 << 20, trainers=4))
    honest(bounded_case(f"{entries} under a norm", entries, 300, 2, norm=0))


@pytest.mark.parametrize(
    "bound",
    [1, 2047, 2048, 4095, 131071, 131072, (1 << 23) - 1, 1 << 23, (1 << 35) - 1, 1 << 35],
    ids=lambda bound: f"bound {bound}",
)
def test_any_bound(bound: int) -> None:
    """Tables and limbs on both sides of every change of their number."""
    honest(bounded_case(f"bound {bound}", 9, bound, trainers=4))


@pytest.mark.parametrize(
    ("rows", "inputs", "hidden", "outputs", "loss"),
    [
        (1, 1, (), 1, "sigmoid"),
        (1, 1, (1,), 1, "sigmoid"),
        (2, 784, (3,), 2, "squared"),
        (3, 30, (30,), 3, "softmax"),
        (5, 25, (), 2, "softmax"),
        (7, 1, (1, 1, 1), 1, "squared"),
        (64, 32, (32,), 2, "squared"),
        (65, 33, (31,), 1, "sigmoid"),
    ],
    ids=str,
)
def test_any_shape_of_rows_and_layers(rows: int, inputs: int, hidden: tuple[int, ...], outputs: int, loss: str) -> None:
    spec = ModelSpec("mlp" if hidden else "logistic", inputs, hidden, outputs)
    limits = {"activation_limit": 64, "error_limit": 64} if hidden else {}
    rule = Rule(loss=loss, fraction_bits=8, output_limit=1, hidden_limit=1, feature_limit=1, **limits)  # type: ignore[arg-type]
    honest(training_case(f"{rows} {inputs} {hidden}", Lesson(spec, rule, rows, spread=0.2)))


@pytest.mark.parametrize("rows", [2047, 2048, 2049], ids=lambda rows: f"{rows} rows")
def test_a_full_row_of_samples_and_one_more(rows: int) -> None:
    spec = ModelSpec("logistic", 2)
    honest(training_case(f"{rows} rows", Lesson(spec, SMALL, rows)))
    honest(training_case(f"{rows} rows, 5", Lesson(spec, replace(SMALL, batch_rows=5), rows)))


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "commitments"),
    [(1, 1, 1, 1), (3, 784, 10, 2), (69, 30, 2, 4), (2049, 1, 1, 2), (5, 2049, 1, 2)],
    ids=str,
)
def test_any_shape_of_registered_rows(rows: int, inputs: int, outputs: int, commitments: int) -> None:
    honest(registration_case(f"{rows} {inputs}", rows, inputs, outputs, commitments))


@pytest.mark.parametrize("name", TRAINING)
def test_the_step_written_once_more_is_the_rules(name: str) -> None:
    """The stage's own step, which tests twist, is without a twist a witness like the package's."""
    case, numbers = case_of(name), plain_step(LESSONS[name])
    assert case.draft is not None
    np.testing.assert_array_equal(np.append(numbers.gradient, LESSONS[name].chosen.sum()), case.draft.update)
    assignment = PlainAssignment(case.statement, case.tensors, numbers, case.secrets)  # type: ignore[arg-type]
    case.verify(_prove.prove(case.program, assignment, case.data, random_of("plain", name)).proof)


@pytest.mark.parametrize("name", ["one lane", "hidden"])
def test_a_report_confirms_the_key_that_a_proof_speaks_of(name: str) -> None:
    """The whole way of a report: draft, proof, claim, report, and both checks."""
    case = case_of(name)
    proved = case.prove("with a report")
    first = case.verify(proved.proof)
    assert case.terms is not None
    assert case.draft is not None
    assert first is not None
    np.testing.assert_array_equal(first.key_values, proved.first.key_values)
    np.testing.assert_array_equal(first.key_values, evaluate_ext(case.draft.coefficients, first.point))
    claim = KeyClaim(first.point, first.key_values)
    report = finish_upload(case.terms, case.draft, account(), proved.proof, claim).report
    check_report(case.terms, report, claim)
    check_claim(report, claim)


# ------------------------------------------------------------------------------------------------ who does not


def test_an_entry_beyond_the_bound_has_no_proof() -> None:
    update = np.array([3, -101, 5])
    case = bounded_case("beyond", 3, 200, update=update)
    narrow = BoundedStatement(replace(case.statement.masked, entry_bound=100))  # type: ignore[union-attr]
    with pytest.raises(UnprovableError, match="its range ends at 200"):
        proofs.prove_bounded(narrow, update, case.secrets, random_of("beyond"))
    exact = BoundedStatement(replace(case.statement.masked, entry_bound=101))  # type: ignore[union-attr]
    proofs.verify_bounded(exact, proofs.prove_bounded(exact, update, case.secrets, random_of("beyond")).proof)


def test_a_norm_beyond_its_bound_has_no_proof() -> None:
    update = np.array([3, -4, 12, 0])
    assert norm_of(update) == 13
    case = bounded_case("norm 13", 4, 20, update=update, norm=0)
    honest(case)
    smaller = replace(case.statement, norm_bound=12)  # type: ignore[type-var]
    with pytest.raises(UnprovableError, match="norm exceeds 12"):
        proofs.prove_bounded(smaller, update, case.secrets, random_of("norm"))  # type: ignore[arg-type]


def test_another_update_than_the_masked_one_has_no_proof() -> None:
    case = case_of("one lane")
    assert case.draft is not None
    other = case.draft.update.copy()
    other[7] = other[7] - 1 if other[7] else 1
    with pytest.raises(UnprovableError, match="sums"):
        proofs.prove_bounded(case.statement, other, case.secrets, random_of("other"))  # type: ignore[arg-type]


def test_rows_that_differ_between_commitments_have_no_proof() -> None:
    shape = DataShape(5, 3, 1, 50, 2048)
    features, labels = np.arange(15).reshape(5, 3), np.array([0, 1, 1, 0, 1])
    committed = [commit_data(shape, features, labels, random_of("rows", i)) for i in range(2)]
    features[4, 2] = 13
    committed.append(commit_data(shape, features, labels, random_of("rows", 2)))
    statement = RegistrationStatement(shape, tuple(rows.root for rows in committed), b"o" * 20, b"c" * 32)
    with pytest.raises(UnprovableError, match="some slot"):
        proofs.prove_registration(statement, committed, random_of("register"))
    equal = replace(statement, roots=statement.roots[:2])
    proofs.verify_registration(equal, proofs.prove_registration(equal, committed[:2], random_of("register")))


def test_other_rows_than_the_committed_ones_have_no_proof() -> None:
    case = case_of("hidden")
    other = commit_data(case.statement.data, LESSONS["hidden"].features, LESSONS["hidden"].labels, random_of("again"))  # type: ignore[union-attr]
    with pytest.raises(UnprovableError, match="not those of the statement"):
        proofs.prove_training(case.statement, replace(case.assignment.witness, data=other), random_of("other"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_proof_is_of_one_statement_alone() -> None:
    for name in CASES:
        for other in CASES:
            if name != other and type(case_of(name).statement) is type(case_of(other).statement):
                with pytest.raises((MalformedProofError, SumRejectedError)):
                    case_of(other).verify(proof_of(name))


def test_the_public_numbers_must_go_together() -> None:
    masked = case_of("one lane").statement.masked  # type: ignore[union-attr]
    for change in (
        {"entries": 0},
        {"entries": 4097},
        {"lanes": 3},
        {"lane_bits": 10},
        {"noise_bits": 63},
        {"matrix": masked.matrix[:, :-1]},
        {"ciphertext": masked.ciphertext[:-1]},
    ):
        with pytest.raises(StatementError):
            replace(masked, **change)
    with pytest.raises(StatementError, match="may reach"):
        BoundedStatement(masked, norm_bound=1 << 32)
    limbs = case_of("limbs").statement.masked  # type: ignore[union-attr]
    with pytest.raises(StatementError, match="may reach"):
        BoundedStatement(limbs, norm_bound=100)
    for length in (0, 512, 1000, 1 << 18):
        with pytest.raises(StatementError):
            DataShape(5, 3, 1, 50, length)
    training = case_of("batch").statement
    for change in (
        {"rule": replace(training.rule, local_steps=2)},  # type: ignore[union-attr]
        {"chosen": np.zeros(30, np.bool_)},
        {"chosen": np.ones(29, np.bool_)},
        {"data": replace(training.data, limit=training.data.limit - 1)},  # type: ignore[union-attr]
        {"data": replace(training.data, outputs=2)},  # type: ignore[union-attr]
        {"masked": replace(training.masked, entry_bound=1000)},  # type: ignore[union-attr]
        {"masked": replace(training.masked, entries=training.masked.entries - 1)},  # type: ignore[union-attr]
    ):
        with pytest.raises(StatementError):
            replace(training, **change)  # type: ignore[type-var]
    shape = DataShape(5, 3, 1, 50, 2048)
    for roots in ((), (b"r" * 32, b"r" * 32), tuple(bytes([i // 256, i % 256]) * 16 for i in range(257))):
        with pytest.raises(StatementError):
            RegistrationStatement(shape, roots, b"o" * 20, b"c" * 32)
