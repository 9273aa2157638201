"""Evaluations: loss, hits and gradient of a public model on hidden rows, and no other numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from _evaluation_stage import SHARDS, Shard, case_of, true_case
from _proof_stage import Case, Changed, careless, digest_of, entry_at, random_of, taken, tensors_of

from collegium import learning
from collegium.algebra import P
from collegium.learning import ModelSpec, Rule
from collegium.proofs import (
    EvaluationStatement,
    ProofRejectedError,
    StatementError,
    SumRejectedError,
    UnprovableError,
    commit_data,
    prove_evaluation,
    verify_evaluation,
)

FULL = os.environ.get("COLLEGIUM_FULL") == "1"


@cache
def true_proof(name: str) -> bytes:
    return true_case(name).prove().proof


def check(case: Case, proof: bytes) -> None:
    case.verify(proof)


@pytest.mark.parametrize("name", SHARDS)
def test_a_true_claim_is_proved(name: str) -> None:
    shard = SHARDS[name]
    case = true_case(name)
    assert isinstance(case.statement, EvaluationStatement)
    proof = prove_evaluation(case.statement, shard.features, shard.labels, case.data[0], random_of("p"))
    verify_evaluation(case.statement, proof)


def test_logits_beyond_the_table_are_among_them() -> None:
    """Above and below, at both labels: where the loss is linear and where it is 0."""
    shard = SHARDS["sigmoid"]
    step = learning.step_trace(shard.spec, shard.rule, shard.parameters, shard.features, shard.labels)
    index = step.output.index
    assert {(int(label), int(sign)) for label, sign in zip(shard.labels, np.sign(index), strict=True)} == {
        (0, 1), (0, -1), (1, 1), (1, -1),
    }  # fmt: skip
    assert (index[shard.labels == 0] > 4096).any()
    assert (index[shard.labels == 1] < -4097).any()
    assert (np.abs(index) < 4096).any()


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("change", ["loss_micro", "correct", "gradient"])
def test_a_claim_one_off_is_not(name: str, change: str) -> None:
    case = true_case(name)
    assert isinstance(case.statement, EvaluationStatement)
    claim = case.statement.claim
    gradient = claim.gradient.copy()
    gradient[-1] += 1
    correct = claim.correct + (1 if claim.correct < SHARDS[name].rows else -1)
    others = {"loss_micro": claim.loss_micro + 1, "correct": correct, "gradient": gradient}
    lie = case_of(SHARDS[name], **{change: others[change]})
    with pytest.raises(UnprovableError, match="sums"):
        lie.prove()
    with pytest.raises(SumRejectedError):
        check(lie, careless(lie).proof)
    with pytest.raises(ProofRejectedError):
        check(lie, true_proof(name))


@cache
def numbers_on_the_way() -> dict[str, dict[str, tuple[int, int]]]:
    """Return where the second entry of every tensor of a claim stands, by shard and path."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for name in SHARDS:
        layout, value = true_case(name).program.layout, true_case(name).tensors.value
        places = {path: entry_at(layout, tensor, 1) for path, tensor in tensors_of(value)}
        start = layout.tree_slice(1).start
        found[name] = {path: at for path, at in places.items() if not path.startswith("loss.") and at[0] >= start}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDS)
def test_no_number_on_the_way_can_be_another(name: str) -> None:
    case, numbers = true_case(name), numbers_on_the_way()
    assert len(numbers[name]) >= 6
    tried = 0
    for path, (row, slot) in numbers[name].items():
        if not FULL and not taken(name, path, numbers):
            continue

        def change(messages: Any, row: int = row, slot: int = slot) -> None:
            messages[row, slot] = (int(messages[row, slot]) + 1) % P

        with pytest.raises(ProofRejectedError):
            check(case, careless(case, path, Changed(case.assignment, change)).proof)
        tried += 1
    assert tried >= 2


def test_equal_logits_say_the_first_class() -> None:
    """All parameters 0: every class is as good as the others, and nobody may claim the last one."""
    shard = SHARDS["softmax"]

    @dataclass(frozen=True)
    class Blank(Shard):
        @property
        def parameters(self) -> Any:
            return np.zeros(self.spec.parameter_count, np.int64)

    blank = Blank(shard.spec, shard.rule, 12)
    case = case_of(blank)
    assert isinstance(case.statement, EvaluationStatement)
    assert case.statement.claim.correct == (blank.labels == 0).sum()
    check(case, case.prove().proof)
    lie = case_of(blank, correct=int((blank.labels == 2).sum()))
    assert isinstance(lie.statement, EvaluationStatement)
    assert lie.statement.claim.correct != case.statement.claim.correct
    classes = lie.tensors.value.classes
    layout = lie.program.layout

    def last(messages: Any) -> None:
        for sample in range(12):
            for entry in range(3):
                row, slot = entry_at(layout, classes.predicted, 3 * sample + entry)
                messages[row, slot] = int(entry == 2)
                row, slot = entry_at(layout, classes.gap.grids[0], 3 * sample + entry)
                messages[row, slot] = P - 1 if entry < 2 else 0
            row, slot = entry_at(layout, classes.hit, sample)
            messages[row, slot] = int(blank.labels[sample] == 2)

    with pytest.raises(ProofRejectedError):
        check(lie, careless(lie, assignment=Changed(lie.assignment, last)).proof)


def test_the_tables_last_cell_is_not_beyond_it() -> None:
    """At index 4095 a prover that claims to be beyond the table by 0 is refused."""
    rule = Rule(output_limit=16)

    @dataclass(frozen=True)
    class Edge(Shard):
        @property
        def parameters(self) -> Any:
            return np.array([(1 << 14) - 1, 0])

    edge = Edge(ModelSpec("logistic", 1), rule, 3)
    features, labels = np.full((3, 1), 1 << 14), np.zeros(3, np.int64)
    case = case_of(edge, features, labels)
    check(case, case.prove().proof)
    value, layout = case.tensors.value, case.program.layout
    linear, spelled = 15625 * 8191, []
    for limb, bits in enumerate(value.linear.widths):
        spelled.append(linear >> 3 >> sum(value.linear.widths[:limb]) & ((1 << bits) - 1))
    lie = case_of(edge, features, labels, loss_micro=3 * (linear >> 3))

    def beyond(messages: Any) -> None:
        for sample in range(3):
            for grid, entry in (
                (value.loss.high, 1), (value.up, 1), (value.rest.grids[0], linear & 7),
                *zip(value.linear.grids, spelled, strict=True),
            ):  # fmt: skip
                row, slot = entry_at(layout, grid, sample)
                messages[row, slot] = entry

    with pytest.raises(ProofRejectedError):
        check(lie, careless(lie, assignment=Changed(lie.assignment, beyond)).proof)


@pytest.mark.parametrize("field", ["owner", "context", "parameters", "data_root", "rule"])
def test_a_proof_is_about_one_model_and_one_shard(field: str) -> None:
    case = true_case("sigmoid")
    statement = case.statement
    assert isinstance(statement, EvaluationStatement)
    others: dict[str, Any] = {
        "owner": b"p" * 20,
        "context": digest_of("d"),
        "parameters": statement.parameters - np.sign(statement.parameters),
        "data_root": digest_of("r"),
        "rule": replace(statement.rule, output_limit=17),
    }
    with pytest.raises(ProofRejectedError):
        verify_evaluation(replace(statement, **{field: others[field]}), true_proof("sigmoid"))


def test_the_claims_numbers_stay_within_their_bounds() -> None:
    statement = true_case("sigmoid").statement
    assert isinstance(statement, EvaluationStatement)
    claim = statement.claim
    changes: tuple[dict[str, Any], ...] = (
        {"correct": 41},
        {"correct": -1},
        {"loss_micro": -1},
        {"loss_micro": P},
        {"gradient": claim.gradient[1:]},
    )
    for change in changes:
        with pytest.raises(StatementError):
            replace(statement, claim=replace(claim, **change))
    with pytest.raises(StatementError, match="features"):
        replace(statement, data=replace(statement.data, inputs=9))


@pytest.mark.parametrize(
    ("hidden", "rule", "what"),
    [
        ((32, 32), Rule(loss="squared"), "squared errors"),
        ((32, 32, 1), Rule(fraction_bits=8, feature_limit=64, hidden_limit=64, output_limit=64), "a summed loss"),
    ],
    ids=["squared", "sigmoid"],
)
def test_a_loss_that_could_wrap_is_not_proved(hidden: tuple[int, ...], rule: Rule, what: str) -> None:
    deep = Shard(ModelSpec("mlp", 30, hidden, 2 if rule.loss == "squared" else 1), rule, 3)
    with pytest.raises(StatementError, match=what):
        case_of(deep)


def test_another_shards_rows_do_not_prove() -> None:
    case, shard = true_case("sigmoid"), SHARDS["sigmoid"]
    assert isinstance(case.statement, EvaluationStatement)
    other = commit_data(case.statement.data, shard.features, 1 - shard.labels, random_of("other"))
    with pytest.raises(UnprovableError, match="committed rows"):
        prove_evaluation(case.statement, shard.features, shard.labels, other, random_of("p"))
