"""Models whose first layer reads patches: the proof is of that model, on those pixels, and of no other."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from _proof_stage import (
    SMALL,
    Case,
    Changed,
    Lesson,
    careless,
    digest_of,
    draft_of,
    entry_at,
    light_work,
    masked_of,
    random_of,
    training_case,
    training_statement,
)

from collegium import learning
from collegium.algebra import P, ext_inverse, ext_sub
from collegium.learning import ModelSpec, Patches, Rule
from collegium.proofs import (
    EvaluationStatement,
    KeySecrets,
    OpeningRejectedError,
    ProofRejectedError,
    StatementError,
    SumRejectedError,
    TrainingStatement,
    TrainingWitness,
    UnprovableError,
    _training,
    commit_data,
    evaluated,
    prove_evaluation,
    prove_training,
    verify_evaluation,
    verify_training,
)

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
LESSONS = {
    "one channel": Lesson(ModelSpec("mlp", 20, (3,), patches=Patches(5, 4, 1, 2)), SMALL, 13),
    "stride": Lesson(
        ModelSpec("mlp", 60, (2, 4), 3, Patches(6, 5, 2, 3, 2)),
        replace(SMALL, loss="softmax", output_limit=8, batch_rows=6),
        11,
    ),
    "squared": Lesson(ModelSpec("mlp", 9, (2,), 2, Patches(3, 3, 1, 2)), replace(SMALL, loss="squared"), 7),
}
TWO_PIECES = Lesson(ModelSpec("mlp", 5, (1,), patches=Patches(5, 1, 1, 1)), SMALL, 1025)


@pytest.fixture(autouse=True)
def _light_work(monkeypatch: pytest.MonkeyPatch) -> None:
    light_work(monkeypatch)


@cache
def true_case(name: str) -> Case:
    return training_case(f"convolution {name}", LESSONS[name])


def training_of(case: Case) -> TrainingStatement:
    assert isinstance(case.statement, TrainingStatement)
    return case.statement


def masking(lesson: Lesson, case: Case, update: Any) -> Case:
    """The same step and rows under a c that masks another update."""
    terms, draft = draft_of(lesson.layout, update, f"lie of {case.name}")
    statement = training_statement(lesson, masked_of(terms, draft), case.data[0].root)
    program, tensors = _training._program(statement)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    witness = replace(case.assignment.witness, secrets=secrets)
    assignment = _training._Assignment(statement, tensors, witness)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment, draft=draft)


def update_of(case: Case) -> Any:
    assert case.draft is not None
    return case.draft.update.copy()


def refused(case: Case, error: type[Exception], **how: Any) -> None:
    with pytest.raises(error):
        case.verify(careless(case, **how).proof)


# --- what is proved


@pytest.mark.parametrize("name", LESSONS)
def test_a_step_of_a_convolution_is_proved(name: str) -> None:
    case = true_case(name)
    statement = training_of(case)
    verify_training(statement, prove_training(statement, case.assignment.witness, random_of("p")).proof)


def test_patches_in_several_pieces_are_proved() -> None:
    case = training_case("pieces", TWO_PIECES)
    assert len(case.tensors.inner[0][0].first.pieces) == 2  # type: ignore[attr-defined]
    case.verify(careless(case).proof)
    update = update_of(case)
    update[0] += 1
    refused(masking(TWO_PIECES, case, update), SumRejectedError)


@pytest.mark.parametrize("name", LESSONS)
def test_a_loss_of_a_convolution_is_proved(name: str) -> None:
    lesson = LESSONS[name]
    rule = replace(lesson.rule, batch_rows=None)
    data = commit_data(lesson.shape, lesson.features, lesson.labels, random_of("loss", name))
    claim = evaluated(lesson.spec, rule, lesson.parameters, lesson.features, lesson.labels)
    statement = EvaluationStatement(
        b"o" * 20, digest_of("c"), lesson.spec, rule, lesson.parameters, lesson.shape, data.root, claim
    )
    proof = prove_evaluation(statement, lesson.features, lesson.labels, data, random_of("p"))
    verify_evaluation(statement, proof)
    gradient = claim.gradient.copy()
    gradient[0] += 1
    lie = replace(statement, claim=replace(claim, gradient=gradient))
    with pytest.raises(ProofRejectedError):
        verify_evaluation(lie, proof)
    with pytest.raises(UnprovableError):
        prove_evaluation(lie, lesson.features, lesson.labels, data, random_of("p"))


# --- lies


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("entry", [0, 1, -2])
def test_a_gradient_one_off_is_not(name: str, entry: int) -> None:
    """Of a shared weight, of another, of the last bias."""
    case = true_case(name)
    update = update_of(case)
    update[entry] += 1
    lie = masking(LESSONS[name], case, update)
    with pytest.raises(UnprovableError, match="sums"):
        lie.prove()
    refused(lie, SumRejectedError)


@pytest.mark.parametrize("name", LESSONS)
def test_a_shared_bias_one_off_is_not(name: str) -> None:
    lesson, case = LESSONS[name], true_case(name)
    entries, filters = lesson.spec.layers[0]
    update = update_of(case)
    update[entries * filters] += 1
    refused(masking(lesson, case, update), SumRejectedError)


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("place", ["weight", "bias"])
def test_a_step_of_another_shared_parameter(name: str, place: str) -> None:
    """A whole honest step, and the c that goes with it, but of a filter that differs in one number."""
    lesson, case = LESSONS[name], true_case(name)
    entries, filters = lesson.spec.layers[0]
    other = lesson.parameters
    number = 0 if place == "weight" else entries * filters
    other[number] -= np.sign(other[number])
    statement = replace(training_of(case), parameters=other)
    program, tensors = _training._program(statement)
    assignment = replace(case.assignment, statement=statement, tensors=tensors)
    told = replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment)
    with pytest.raises(UnprovableError, match="sums"):
        told.prove()
    refused(told, SumRejectedError)
    with pytest.raises(ProofRejectedError):
        told.verify(case.prove().proof)


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_step_on_another_pixel(name: str) -> None:
    """A whole honest step on rows of which one pixel differs from the committed ones."""
    lesson, case = LESSONS[name], true_case(name)
    features = lesson.features
    features[int(np.flatnonzero(lesson.chosen)[0]), 1] += 1
    other = commit_data(lesson.shape, features, lesson.labels, random_of("other data", name))
    step = learning.step_trace(lesson.spec, lesson.rule, lesson.parameters, features, lesson.labels)
    used = features[lesson.chosen], lesson.labels[lesson.chosen]
    gradient = learning.step_trace(lesson.spec, lesson.rule, lesson.parameters, *used).gradient
    lie = masking(lesson, case, np.append(gradient, lesson.chosen.sum()))
    witness = replace(lie.assignment.witness, features=features, step=step)
    lie = replace(lie, assignment=replace(lie.assignment, witness=witness))
    refused(lie, SumRejectedError)
    refused(lie, OpeningRejectedError, data=[other])
    statement = replace(training_of(lie), data_root=other.root)
    program, tensors = _training._program(statement)
    told = _training._Assignment(statement, tensors, TrainingWitness(features, lesson.labels, other, step, lie.secrets))
    truth = replace(lie, statement=statement, program=program, tensors=tensors, assignment=told, data=(other,))
    truth.verify(truth.prove().proof)
    with pytest.raises(ProofRejectedError):
        truth.verify(case.prove().proof)


def test_a_pixel_that_no_patch_reaches_counts_nothing() -> None:
    """Of six lines of pixels the third patch of three with stride two would need a seventh."""
    lesson = LESSONS["stride"]
    features = lesson.features
    assert lesson.spec.patches is not None
    unread = np.setdiff1d(np.arange(lesson.spec.inputs), lesson.spec.patches.indices())
    assert unread.tolist() == list(range(50, 60))
    features[:, unread] = 0
    numbers = lesson.spec, lesson.rule, lesson.parameters
    update = learning.step_trace(*numbers, features, lesson.labels).gradient
    assert (update == learning.step_trace(*numbers, lesson.features, lesson.labels).gradient).all()


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("patch", [0, -1])
def test_a_patch_is_skipped_on_both_ways(name: str, patch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One patch of every row is taken for zeros, and all that follows is computed from that."""
    unfold = Patches.unfold

    def skipping(self: Patches, rows: Any) -> Any:
        found = unfold(self, rows)
        if len(rows) > 1:  # not where the verifier asks which pixels a patch has
            found.reshape(len(rows), self.count, self.entries)[:, patch] = 0
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Patches, "unfold", skipping)
        lie = training_case(f"{name} skips {patch}", LESSONS[name])
        assert (update_of(lie) != update_of(true_case(name))).any()
        proof = careless(lie).proof
    with pytest.raises(SumRejectedError):
        lie.verify(proof)


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("side", [0, 1])
def test_a_patch_is_skipped_in_the_gradient(name: str, side: int) -> None:
    """The step is right; one patch's inputs, or its errors, count as zeros where the gradient is summed."""
    lesson, case = LESSONS[name], true_case(name)
    spec, witness, chosen, patch = lesson.spec, case.assignment.witness, lesson.chosen, 1
    assert spec.patches is not None
    entries, filters = spec.layers[0]
    step = witness.step
    errors = (step.back[0].quotient * (step.hidden[0].quotient >= 0)).reshape(lesson.rows, -1, filters)[chosen, patch]
    inputs = lesson.features[:, spec.patches.indices()[patch]][chosen]
    update = update_of(case)
    update[: entries * filters] -= (inputs.T @ errors).reshape(-1)
    if side:
        update[entries * filters : (entries + 1) * filters] -= lesson.rule.one * errors.sum(axis=0)
    lie = masking(lesson, case, update)
    pair = lie.tensors.inner[0][side]  # type: ignore[attr-defined]
    places = [
        entry_at(lie.program.layout, grid, row * grid.width + patch)
        for grid in (pair.first, pair.second)
        for row in range(lesson.rows)
    ]

    def skip(messages: Any) -> None:
        for row, slot in places:
            messages[row, slot] = 0

    refused(lie, SumRejectedError, assignment=Changed(lie.assignment, in_products=skip))


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_no_patchs_vector_can_be_another(name: str) -> None:
    case = true_case(name)
    for number, pair in enumerate(case.tensors.inner[0]):  # type: ignore[attr-defined]
        for part, grid in enumerate((pair.first, pair.second)):
            for entry in range(min(part, grid.width - 1), grid.width, 1 if FULL else 3):
                row, slot = entry_at(case.program.layout, grid, entry)

                def change(messages: Any, row: int = row, slot: int = slot) -> None:
                    messages[row, slot] = (int(messages[row, slot]) + 1) % P

                refused(
                    case,
                    SumRejectedError,
                    label=(number, part, entry),
                    assignment=Changed(case.assignment, in_products=change),
                )


@pytest.mark.slow
def test_what_stands_behind_patches_and_samples_enters_no_gradient() -> None:
    """P and V in a column that is no patch, or of a sample that does not exist, aimed at c."""
    lesson, case = LESSONS["one channel"], true_case("one channel")
    update = update_of(case)
    update[0] += 35
    lie = masking(lesson, case, update)
    pairs = lie.tensors.inner[0]  # type: ignore[attr-defined]
    piece = pairs[0].first.pieces[0]
    assert piece.used < piece.width
    ends = [entry_at(lie.program.layout, pair.first, lesson.rows * piece.used - 1) for pair in pairs]

    def fill(distance: int) -> Any:
        def change(messages: Any) -> None:
            for (row, slot), value in zip(ends, (5, 7), strict=True):
                messages[row, slot + distance] = value

        return change

    column, sample = fill(1), fill(1 + piece.width - piece.used)
    for change in (column, sample):
        refused(lie, SumRejectedError, assignment=Changed(lie.assignment, in_products=change))
    refused(case, SumRejectedError, assignment=Changed(case.assignment, in_products=sample))
    case.verify(careless(case, assignment=Changed(case.assignment, in_products=column)).proof)  # nobody's slots


@pytest.mark.parametrize("shift", ["into one patch", "from one patch to the next"])
def test_vectors_that_are_aimed_at_c_when_mu_is_known(shift: str) -> None:
    """The sum over P V is exactly what c masks; what P is made of is not the pixels, though their sum may be."""
    lesson, case = LESSONS["one channel"], true_case("one channel")
    update = update_of(case)
    update[0] += 1
    lie = masking(lesson, case, update)
    layout, (left, right) = lie.program.layout, lie.tensors.inner[0]  # type: ignore[attr-defined]

    def at(messages: Any, pair: Any, patch: int, add: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        parts = []
        for grid, part in zip((pair.first, pair.second), add, strict=True):
            row, slot = entry_at(layout, grid, patch)
            messages[row, slot] = (int(messages[row, slot]) + part) % P
            parts.append(int(messages[row, slot]))
        return parts[0], parts[1]

    def aim(messages: Any) -> None:
        target = at(messages, right, 0)
        if shift != "into one patch":
            target = ext_sub(target, at(messages, right, 1))
        missing = ext_inverse(target)
        at(messages, left, 0, missing)
        if shift != "into one patch":
            at(messages, left, 1, ext_sub((0, 0), missing))

    refused(lie, SumRejectedError, assignment=Changed(lie.assignment, in_products=aim))


# --- statements


def test_a_proof_is_about_its_patches() -> None:
    """The same numbers of inputs, patches and entries, but a picture that lies on its side."""
    case = true_case("one channel")
    statement = training_of(case)
    turned = replace(statement.spec, patches=Patches(4, 5, 1, 2))
    assert (turned.layers, turned.widths) == (statement.spec.layers, statement.spec.widths)
    with pytest.raises(ProofRejectedError):
        verify_training(replace(statement, spec=turned), case.prove().proof)


def test_several_local_steps_of_a_convolution_are_not_proved() -> None:
    statement = training_of(true_case("one channel"))
    rule: Rule = replace(statement.rule, local_steps=2)
    with pytest.raises(StatementError, match="patches are not proved"):
        replace(statement, rule=rule, chosen=np.repeat(statement.chosen[None], 2, axis=0))
