"""Scores: y is the noisy inner product of what c masks with a public direction, and nobody chooses the noise."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from _proof_stage import (
    LESSONS,
    Case,
    Changed,
    account,
    bounded_case,
    careless,
    digest_of,
    random_of,
    training_case,
)

from collegium import learning
from collegium.algebra import P
from collegium.proofs import (
    SEEDS,
    BoundedStatement,
    CommittedRows,
    IdentityRejectedError,
    ProofRejectedError,
    RegistrationStatement,
    Score,
    ScoreDemand,
    SeedShape,
    StatementError,
    SumRejectedError,
    TrainingStatement,
    UnprovableError,
    _bounded,
    _score,
    _training,
    commit_data,
    commit_seed,
    committed_seed,
    prove_bounded,
    prove_registration,
    verify_bounded,
    verify_registration,
    verify_training,
)
from collegium.proofs._prove import commit_rows

SHAPE = SeedShape(2048)
TAUGHT = {name: LESSONS[name] for name in ("logistic", "hidden", "softmax", "batch")}


def demand_of(entries: int, shift: int = 11, sigma: int = 50, beacon: int = 1234) -> ScoreDemand:
    direction = np.random.default_rng(entries).integers(-(1 << 15), (1 << 15) + 1, entries - 1)
    direction[0], direction[-1] = 1 << 15, -(1 << 15)
    return ScoreDemand(direction, shift, sigma, beacon)


def scored_bounded(
    entries: int = 130, bound: int = 1000, lanes: int = 1, shift: int = 11, sigma: int = 50, wrong: int = 0
) -> Case:
    """A bounded update with a score `wrong` beside the true one."""
    case = bounded_case(f"score {entries} {bound} {lanes}", entries, bound, lanes, trainers=4)
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    seed = commit_seed(SHAPE, random_of("seed", entries, bound, lanes))
    score = demand_of(entries, shift, sigma).score(case.assignment.update, committed_seed(seed))
    statement = replace(
        statement, score=replace(score, value=score.value + wrong), seed_shape=SHAPE, seed_root=seed.root
    )
    program, tensors = _bounded._program(statement)
    drawn = committed_seed(seed)
    assignment = _bounded._Witness(statement, tensors, case.secrets, case.assignment.update, drawn)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment, data=(seed,))


def scored_training(name: str, wrong: int = 0) -> Case:
    """A training step with a score `wrong` beside the true one."""
    lesson, case = TAUGHT[name], training_case(name, TAUGHT[name])
    statement = case.statement
    assert isinstance(statement, TrainingStatement)
    chosen = lesson.chosen
    gradient = learning.step_trace(
        lesson.spec, lesson.rule, lesson.parameters, lesson.features[chosen], lesson.labels[chosen]
    ).gradient
    demand = demand_of(lesson.spec.parameter_count + 1, shift=20)
    score = demand.score(np.append(gradient, chosen.sum()), committed_seed(case.data[0]))
    statement = replace(statement, score=replace(score, value=score.value + wrong))
    program, tensors = _training._program(statement)
    assignment = replace(case.assignment, statement=statement, tensors=tensors)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment)


# --- bounded


@pytest.mark.parametrize(
    ("entries", "bound", "lanes", "shift", "sigma"),
    [
        (2, 1000, 1, 11, 50),
        (130, 1000, 1, 0, 0),
        (131, 32767, 2, 20, 3),
        (4097, 900, 2, 17, 1 << 20),
        (41, (1 << 22) + 5, 1, 30, 7),
    ],
    ids=str,
)
def test_a_bounded_update_has_its_score(entries: int, bound: int, lanes: int, shift: int, sigma: int) -> None:
    case = scored_bounded(entries, bound, lanes, shift, sigma)
    case.verify(case.prove().proof)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("wrong", [-1, 1, 40])
def test_no_bounded_update_has_another_score(lanes: int, wrong: int) -> None:
    case = scored_bounded(lanes=lanes, wrong=wrong)
    with pytest.raises(UnprovableError, match="sums"):
        case.prove()
    with pytest.raises(SumRejectedError):
        case.verify(careless(case).proof)


def test_another_remainder_does_not_help() -> None:
    """R = S - 2^shift (y - noise) outside its range, in limbs that spell it, is looked up in vain."""
    case = scored_bounded(wrong=1, shift=11)
    layout, limbs = case.program.layout, case.tensors.score.limbs  # type: ignore[attr-defined]
    row = int(layout.index(limbs.rows)[0])

    def borrow(messages: np.ndarray) -> None:  # type: ignore[type-arg]
        messages[row, 1] = (int(messages[row, 1]) - (1 << 3)) % P  # R - 2^11, limbs of 8 bits
        messages[row, 3] = (int(messages[row, 3]) + (1 << 3)) % P

    with pytest.raises(IdentityRejectedError):
        case.verify(careless(case, assignment=Changed(case.assignment, borrow)).proof)


@pytest.mark.parametrize("field", ["direction", "shift", "sigma", "beacon", "value", "root"])
def test_a_proof_is_about_one_demand(field: str) -> None:
    case = scored_bounded()
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    assert statement.score is not None
    score, demand = statement.score, statement.score.demand
    direction = demand.direction.copy()
    direction[5] += 1
    others = {
        "direction": replace(score, demand=replace(demand, direction=direction)),
        "shift": replace(score, demand=replace(demand, shift=12)),
        "sigma": replace(score, demand=replace(demand, sigma=51)),
        "beacon": replace(score, demand=replace(demand, beacon=1235)),
        "value": replace(score, value=score.value + 1),
    }
    proof = case.prove().proof
    verify_bounded(statement, proof)
    other = replace(statement, seed_root=digest_of("x")) if field == "root" else replace(statement, score=others[field])
    with pytest.raises(ProofRejectedError):
        verify_bounded(other, proof)


def test_a_bounded_update_takes_its_seed_from_registered_rows() -> None:
    lesson = LESSONS["logistic"]
    data = commit_data(lesson.shape, lesson.features, lesson.labels, random_of("rows"))
    case = bounded_case("rows", 40, 1000, trainers=4)
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    score = demand_of(40).score(case.assignment.update, committed_seed(data))
    scored = replace(statement, score=score, seed_shape=lesson.shape, seed_root=data.root)
    proof = prove_bounded(scored, case.assignment.update, case.secrets, random_of("p"), seed=data).proof
    verify_bounded(scored, proof)
    with pytest.raises(ProofRejectedError):
        verify_bounded(replace(scored, seed_shape=SHAPE), proof)


# --- the noise


def with_seed(case: Case, seed: int) -> Case:
    """The prover uses another seed than the committed one."""
    return replace(case, assignment=replace(case.assignment, seed=seed))


def test_the_noise_is_the_committed_seeds() -> None:
    """A noise that another seed would give makes another sum true, and its pair is not in the turned table."""
    case = scored_bounded(sigma=1000)
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    assert statement.score is not None
    demand, update = statement.score.demand, case.assignment.update
    other = (committed_seed(case.data[0]) + 1000) % SEEDS
    lie = demand.score(update, other)
    assert lie.value != statement.score.value
    program, tensors = _bounded._program(replace(statement, score=lie))
    liar = replace(
        case, statement=replace(statement, score=lie), program=program, tensors=tensors,
        assignment=replace(case.assignment, statement=replace(statement, score=lie), tensors=tensors, seed=other),
    )  # fmt: skip
    with pytest.raises(UnprovableError, match="pair"):
        liar.prove()
    with pytest.raises(IdentityRejectedError):
        liar.verify(careless(liar).proof)


def test_the_beacon_turns_the_noise() -> None:
    noises = [ScoreDemand(np.ones(1, np.int64), 0, 100, beacon).noise(4000) for beacon in (0, 95, 96, 4095)]
    table = _score.noise_table(100)
    assert noises == [table[4000], table[4095], table[0], table[3999]]


def test_the_noise_is_gaussian_and_the_same_on_every_machine() -> None:
    table = np.array(_score.noise_table(1000))
    assert (table == -table[::-1]).all()
    assert (np.diff(table) >= 0).all()
    assert abs(table.std() / 1000 - 1) < 0.002
    assert not any(_score.noise_table(0))
    normal = NormalDist()
    scaled = [normal.inv_cdf((SEEDS // 2 + i + 0.5) / SEEDS) * 2**24 for i in range(SEEDS // 2)]
    assert min(abs(value % 1 - 0.5) for value in scaled) > 1e-5  # a float errs by less than 10^-7 here


# --- training


@pytest.mark.parametrize("name", TAUGHT)
def test_a_training_step_has_its_score(name: str) -> None:
    case = scored_training(name)
    case.verify(case.prove().proof)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_no_training_step_has_another_score(wrong: int) -> None:
    case = scored_training("hidden", wrong)
    with pytest.raises(UnprovableError, match="sums"):
        case.prove()
    with pytest.raises(SumRejectedError):
        case.verify(careless(case).proof)


def test_a_score_is_not_left_out_or_added() -> None:
    case, plain = scored_training("logistic"), training_case("logistic", LESSONS["logistic"])
    statement = case.statement
    assert isinstance(statement, TrainingStatement)
    with pytest.raises(ProofRejectedError):
        verify_training(replace(statement, score=None), case.prove().proof)
    with pytest.raises(ProofRejectedError):
        verify_training(statement, plain.prove().proof)


# --- registered seeds


def seeds(count: int) -> tuple[tuple[CommittedRows, ...], RegistrationStatement]:
    committed = tuple(commit_seed(SHAPE, random_of("seeds", number)) for number in range(count))
    roots = tuple(each.root for each in committed)
    return committed, RegistrationStatement(SHAPE, roots, account().address, digest_of("context"))


def test_seeds_alone_are_registered() -> None:
    committed, statement = seeds(5)
    assert len({committed_seed(each) for each in committed}) > 1
    verify_registration(statement, prove_registration(statement, committed, random_of("p")))


@pytest.mark.parametrize("seed", [SEEDS, P - 1])
def test_a_seed_out_of_range_is_not_registered(seed: int) -> None:
    messages = np.zeros((1, 2048), np.uint64)
    messages[0, 0] = seed
    committed = (*seeds(2)[0], commit_rows(SHAPE.code, messages, random_of("high")))
    statement = RegistrationStatement(SHAPE, tuple(each.root for each in committed), b"o" * 20, digest_of("c"))
    with pytest.raises(UnprovableError, match="range"):
        prove_registration(statement, committed, random_of("p"))


def test_commitments_to_the_same_rows_have_seeds_of_their_own() -> None:
    lesson = LESSONS["logistic"]
    committed = [commit_data(lesson.shape, lesson.features, lesson.labels, random_of(i)) for i in range(4)]
    assert len({committed_seed(each) for each in committed}) > 1
    statement = RegistrationStatement(lesson.shape, tuple(each.root for each in committed), b"o" * 20, digest_of("c"))
    verify_registration(statement, prove_registration(statement, committed, random_of("p")))


def test_another_commitments_seed_does_not_prove() -> None:
    case = scored_bounded()
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    other = commit_seed(SHAPE, random_of("other"))
    for seed in (None, other):
        with pytest.raises(UnprovableError, match="seed"):
            prove_bounded(statement, case.assignment.update, case.secrets, random_of("p"), seed=seed)
    proved = prove_bounded(statement, case.assignment.update, case.secrets, random_of("p"), seed=case.data[0])
    verify_bounded(statement, proved.proof)


# --- bounds


@pytest.mark.parametrize(
    "change",
    [
        {"direction": np.array([1 << 15, (1 << 15) + 1])},
        {"direction": np.array([1.0])},
        {"direction": np.zeros(0, np.int64)},
        {"shift": -1},
        {"shift": 49},
        {"sigma": (1 << 20) + 1},
        {"beacon": SEEDS},
    ],
    ids=str,
)
def test_a_demand_stays_within_its_bounds(change: dict[str, object]) -> None:
    with pytest.raises(StatementError):
        replace(demand_of(3), **change)  # type: ignore[arg-type]


def test_a_score_that_could_wrap_is_no_statement() -> None:
    case = scored_bounded()
    statement = case.statement
    assert isinstance(statement, BoundedStatement)
    assert statement.score is not None
    demand = statement.score.demand
    reach = int(np.abs(demand.direction).sum()) * 1000
    largest = (P - 1 - reach >> demand.shift) - _score.noise_table(demand.sigma)[-1] - 1
    replace(statement, score=Score(demand, -largest))
    with pytest.raises(StatementError, match="may reach"):
        replace(statement, score=Score(demand, largest + 1))
    with pytest.raises(StatementError, match="directions"):
        replace(statement, score=Score(demand_of(129), 0))
    with pytest.raises(StatementError, match="together"):
        replace(statement, seed_root=None)
