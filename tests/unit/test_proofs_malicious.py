"""Consistent lies: a prover computes everything after its lie as if it were true, and the relation that it breaks
refuses it.

A lie here is more than a changed number: c masks what the lie leads to, multiplicities and products fit it, and the
lying prover goes on where an honest one would stop. So what refuses it is the one relation that the lie is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _proof_stage import (
    LESSONS,
    SMALL,
    Case,
    Changed,
    Lesson,
    Numbers,
    account,
    bounded_case,
    careless,
    case_of,
    draft_of,
    entry_at,
    finish_softmax,
    light_work,
    lying_case,
    masked_of,
    plain_step,
    proof_of,
    random_of,
    verify,
    with_ciphertext,
)

from collegium import learning
from collegium.aggregation import KeyClaim, KeyClaimRefusedError, check_claim, check_report, finish_upload
from collegium.algebra import P, add, ext_inverse_array
from collegium.commitment import MerkleTree, leaves_of_slices
from collegium.learning import ActivationRangeError, ModelSpec
from collegium.proofs import (
    BoundedStatement,
    CombinationRejectedError,
    IdentityRejectedError,
    KeySecrets,
    OpeningRejectedError,
    ProofRejectedError,
    StatementError,
    SumRejectedError,
    UnprovableError,
    _bounded,
    _prove,
    commit_data,
)

Array = Any
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _light_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lying provers do little grinding: it is not what refuses them."""
    light_work(monkeypatch)


def refused(case: Case, error: type[Exception], **how: Any) -> None:
    with pytest.raises(error):
        case.verify(careless(case, **how).proof)


# ------------------------------------------------------------------------------------------------ another update


def honest_gradient(name: str) -> Array:
    lesson = LESSONS[name]
    return np.append(plain_step(lesson).gradient, lesson.chosen.sum())


def one_more(update: Array) -> Array:
    return update + np.eye(1, len(update), len(update) // 2, dtype=np.int64)[0]


def a_row_more(update: Array) -> Array:
    return update + np.eye(1, len(update), len(update) - 1, dtype=np.int64)[0]


@pytest.mark.parametrize("name", sorted(LESSONS))
@pytest.mark.parametrize("lie", [one_more, a_row_more, lambda update: 2 * update, lambda update: -update], ids=range(4))
def test_c_masks_another_update_than_the_step_yields(name: str, lie: Callable[[Array], Array]) -> None:
    """One entry more, one row more than used, the gradient scaled or turned round: all entries within their bound."""
    update = lie(honest_gradient(name))
    case = lying_case(f"{name} masks another", LESSONS[name], plain_step(LESSONS[name]), update)
    refused(case, SumRejectedError)


@pytest.mark.parametrize("name", sorted(LESSONS))
def test_the_twist_less_liar_is_believed(name: str) -> None:
    """What the lies of this file are compared with: the same machinery without a lie."""
    case = lying_case(f"{name} tells the truth", LESSONS[name], plain_step(LESSONS[name]))
    case.verify(careless(case).proof)


def test_another_batch_than_the_beacons() -> None:
    lesson = LESSONS["batch"]
    other = np.roll(lesson.chosen, 1)
    assert (other != lesson.chosen).any()
    step = learning.step_trace(
        lesson.spec, lesson.rule, lesson.parameters, lesson.features[other], lesson.labels[other]
    )
    update = np.append(step.gradient, other.sum())
    refused(lying_case("other batch", lesson, plain_step(lesson), update), SumRejectedError)


@pytest.mark.parametrize("name", sorted(LESSONS))
def test_other_data_than_the_registered_ones(name: str) -> None:
    """A whole honest step, on rows of which one feature differs from the committed ones."""
    lesson = LESSONS[name]
    features = lesson.features.copy()
    features[int(np.flatnonzero(lesson.chosen)[0]), 1] += 1
    other = commit_data(lesson.shape, features, lesson.labels, random_of("other data", name))
    case = lying_case(f"{name} of other data", lesson, plain_step(lesson, features=features))
    refused(case, SumRejectedError)
    refused(case, OpeningRejectedError, data=[other])  # the other rows' columns are not behind the registered root
    told = lying_case(f"{name} of other data", lesson, plain_step(lesson, features=features), data=other)
    told.verify(careless(told).proof)


def test_other_labels_than_the_registered_ones() -> None:
    for name, lesson in LESSONS.items():
        labels = lesson.labels.copy()
        first = int(np.flatnonzero(lesson.chosen)[0])
        labels[first] = (labels[first] + 1) % max(2, lesson.spec.outputs)
        refused(lying_case(f"{name}, other labels", lesson, plain_step(lesson, labels=labels)), SumRejectedError)


# ------------------------------------------------------------------------------------------------ layers


LAYERS = [(name, layer) for name, lesson in LESSONS.items() for layer in range(len(lesson.spec.hidden))]


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_layer_is_skipped_on_the_way_back(name: str, layer: int) -> None:
    """D = B as if every unit were on; the gradient, its products and c follow."""

    def skip(what: str, at: int, numbers: Numbers) -> None:
        if (what, at) == ("error", layer):
            numbers.errors[at] = numbers.back[at].copy()

    numbers = plain_step(LESSONS[name], skip)
    assert (numbers.gradient != plain_step(LESSONS[name]).gradient).any()
    refused(lying_case(f"{name} skips {layer}", LESSONS[name], numbers), SumRejectedError)


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_relu_is_flipped(name: str, layer: int) -> None:
    """S and U such that 2 S U - U + S - 1 is still Q: U leaves its range. Everything after it follows."""
    lesson = LESSONS[name]
    for on in (True, False):

        def flip(what: str, at: int, numbers: Numbers, on: bool = on) -> None:
            if (what, at) == ("forward", layer):
                row, unit = (int(i[0]) for i in np.nonzero((numbers.selector[at] == int(on)) & lesson.chosen[:, None]))
                quotient = (1 if on else -1) * numbers.unsigned[at][row, unit] - (0 if on else 1)
                numbers.selector[at][row, unit] = int(not on)
                numbers.unsigned[at][row, unit] = -quotient - 1 if on else quotient

        numbers = plain_step(lesson, flip)
        refused(lying_case(f"{name} flips {layer} {on}", lesson, numbers), IdentityRejectedError)


def zero_lesson() -> Lesson:
    """A hidden unit with Q = 0 in every row: weights and bias 0, and an outgoing weight that matters."""

    class Zeroed(Lesson):
        @property
        def parameters(self) -> Array:
            values = super().parameters
            weights = values[: 6 * 5].reshape(6, 5)
            weights[:, 2] = 0
            values[6 * 5 + 2] = 0
            return values

    return Zeroed(ModelSpec("mlp", 6, (5,), 2), replace(SMALL, loss="squared"), 11)


def test_a_relu_is_flipped_where_q_is_zero() -> None:
    """A = 0 either way, but D is B or 0: at 0 the unit is on, and the proof has no freedom there."""
    lesson = zero_lesson()
    honest = plain_step(lesson)
    assert not honest.unsigned[0][:, 2].any()
    assert honest.selector[0][:, 2].all()

    def off(what: str, at: int, numbers: Numbers) -> None:
        if (what, at) == ("forward", 0):
            numbers.selector[0][4, 2], numbers.unsigned[0][4, 2] = 0, -1

    numbers = plain_step(lesson, off)
    assert (numbers.gradient != honest.gradient).any()
    case = lying_case("flips at 0", lesson, numbers)
    refused(case, IdentityRejectedError)
    truth = lying_case("on at 0", lesson, honest)
    truth.verify(careless(truth).proof)


@pytest.mark.parametrize("limit", [1, 2])
def test_an_activation_beyond_its_limit(limit: int) -> None:
    spec, beyond = ModelSpec("mlp", 6, (4,)), replace(SMALL, activation_limit=2 * limit)
    for seed in range(80):
        lesson = Lesson(spec, beyond, 11, seed=seed, spread=0.35 * limit)
        tight = replace(lesson, rule=replace(beyond, activation_limit=limit))
        try:
            learning.step_trace(spec, beyond, lesson.parameters, lesson.features, lesson.labels)
            learning.step_trace(spec, tight.rule, tight.parameters, tight.features, tight.labels)
        except ActivationRangeError as error:
            if error.values["limit"] == limit:
                break
    else:
        raise AssertionError("no lesson goes beyond the one limit and not the other")
    case = lying_case("tight", tight, plain_step(tight))
    with pytest.raises(UnprovableError, match="its range ends at"):
        case.prove()
    with pytest.raises(ProofRejectedError):
        case.verify(careless(case).proof)


@pytest.mark.parametrize(("name", "layer"), LAYERS)
@pytest.mark.parametrize("back", [False, True])
def test_a_remainder_is_shifted_and_the_quotient_with_it(name: str, layer: int, back: bool) -> None:
    """Z = 2^f (Q - 1) + (R + 2^f): the sum holds, what follows is computed from Q - 1, and R is out of range."""
    lesson = LESSONS[name]
    row = int(np.flatnonzero(lesson.chosen)[0])
    one = lesson.rule.one

    def shift(what: str, at: int, numbers: Numbers) -> None:
        if (what, at) == ("backward" if back else "forward", layer):
            if back:
                numbers.back[at][row, 0] -= 1
                numbers.back_remainder[at][row, 0] += one
                return
            unit = int(np.flatnonzero(numbers.unsigned[at][row] > 1)[0])
            numbers.unsigned[at][row, unit] -= 1 if numbers.selector[at][row, unit] else -1
            numbers.remainder[at][row, unit] += one

    refused(lying_case(f"{name} shifts {layer} {back}", lesson, plain_step(lesson, shift)), IdentityRejectedError)


@pytest.mark.parametrize("name", ["squared", "softmax", "logistic", "hidden"])
def test_the_last_remainder_is_shifted(name: str) -> None:
    lesson = LESSONS[name]
    shift_bits = lesson.rule.fraction_bits if name == "squared" else 2 * lesson.rule.fraction_bits - 8

    def shift(what: str, _: int, numbers: Numbers) -> None:
        if what != "loss":
            return
        loss = numbers.loss
        loss["remainder"][0, 0] += 1 << shift_bits
        if name == "squared":
            loss["quotient"][0, 0] -= 1
        elif name == "softmax":  # another distance by one, everything behind it computed anew
            index = loss["maximum"] - loss["near"] - loss["far"] * loss["excess"]
            index[0, 0] -= 1
            finish_softmax(lesson.rule, numbers, index, index.max(axis=1, keepdims=True), index.argmax(axis=1))
        else:
            inside = loss["high"][0, 0] + loss["low"][0, 0] == 0
            if inside:
                loss["place"][0, 0] -= 1
                table = learning.sigmoid_table(lesson.rule.fraction_bits)
                loss["value"][0, 0] = table[loss["place"][0, 0]] - table[0]
            else:
                loss["excess"][0, 0] -= loss["high"][0, 0] - loss["low"][0, 0]

    numbers = plain_step(lesson, shift)
    refused(lying_case(f"{name} shifts the last", lesson, numbers), IdentityRejectedError)


@pytest.mark.parametrize("name", ["hidden", "squared"])
def test_a_quotient_is_any_element_that_solves_the_equation(name: str) -> None:
    """D W^T = 2^f B + R has a solution B modulo p for every R: where the unit is off, only B's range refuses it."""
    lesson = LESSONS[name]
    inverse = pow(lesson.rule.one, -1, P)

    def solve(what: str, at: int, numbers: Numbers) -> None:
        if (what, at) == ("backward", 0):
            row, unit = (int(i[0]) for i in np.nonzero(numbers.selector[0] == 0))
            change = -1 if numbers.back_remainder[0][row, unit] else 1
            numbers.back_remainder[0][row, unit] += change
            numbers.back[0] = numbers.back[0].astype(object)
            numbers.back[0][row, unit] -= change * inverse
        if (what, at) == ("error", 0):
            numbers.errors[0] = numbers.errors[0].astype(np.int64)

    refused(lying_case(f"{name} solves", lesson, plain_step(lesson, solve)), IdentityRejectedError)


# ------------------------------------------------------------------------------------------------ losses


def test_a_logit_inside_the_table_is_said_to_be_beyond_it() -> None:
    """high = 1, t at the table's end and the excess negative; and low in the same way."""
    lesson = LESSONS["logistic"]
    table = learning.sigmoid_table(lesson.rule.fraction_bits)
    for side, end in (("high", 8191), ("low", 0)):

        def clip(what: str, _: int, numbers: Numbers, side: str = side, end: int = end) -> None:
            if what == "loss":
                row = int(np.flatnonzero((numbers.loss["high"] + numbers.loss["low"]).reshape(-1) == 0)[0])
                distance = int(numbers.loss["place"][row, 0]) - end
                numbers.loss[side][row, 0], numbers.loss["place"][row, 0] = 1, end
                numbers.loss["excess"][row, 0] = distance if side == "high" else -distance
                numbers.loss["value"][row, 0] = table[end] - table[0]

        numbers = plain_step(lesson, clip)
        assert (numbers.gradient != plain_step(lesson).gradient).any()
        refused(lying_case(f"clips {side}", lesson, numbers), IdentityRejectedError)


def test_clip_selectors_at_the_wrong_end_both_or_no_booleans() -> None:
    """The excess makes up the index; slot by slot, high wants the last entry, low the first, and both are boolean."""
    lesson = LESSONS["logistic"]
    table = learning.sigmoid_table(lesson.rule.fraction_bits)

    def at(place: int, high: int, low: int) -> Callable[[str, int, Numbers], None]:
        def lie(what: str, _: int, numbers: Numbers) -> None:
            if what == "loss":
                loss = numbers.loss
                row = int(np.flatnonzero(loss["high"].reshape(-1))[0])
                index = int(loss["place"][row, 0] + loss["excess"][row, 0])
                loss["place"][row, 0], loss["high"][row, 0], loss["low"][row, 0] = place, high, low
                loss["value"][row, 0] = table[place] - table[0]
                rest, sign = index - place, high - low
                loss["excess"][row, 0] = rest // sign if sign else rest
                loss["remainder"][row, 0] += (rest - sign * loss["excess"][row, 0] << 16) if sign else 0

        return lie

    for name, lie in {
        "first": at(0, 1, 0),
        "middle": at(4000, 1, 0),
        "two": at(8191, 2, 0),
        "minus": at(8191, 0, -1),
    }.items():
        refused(lying_case(f"selects {name}", lesson, plain_step(lesson, lie)), IdentityRejectedError)
    refused(lying_case("selects both", lesson, plain_step(lesson, at(8191, 1, 1))), SumRejectedError)


def softmax_lie(change: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Numbers:
    lesson = LESSONS["softmax"]

    def lie(what: str, _: int, numbers: Numbers) -> None:
        if what == "loss":
            loss = numbers.loss
            index = loss["maximum"] - loss["near"] - loss["far"] * loss["excess"]
            top = index.argmax(axis=1)
            maximum, top = change(index.copy(), loss["maximum"].copy(), top)
            finish_softmax(lesson.rule, numbers, index, maximum, top)

    return plain_step(lesson, lie)


def test_a_maximum_that_is_not_the_largest() -> None:
    """The second largest as the maximum: the largest is then at a negative distance."""

    def second(index: Array, maximum: Array, top: Array) -> tuple[Array, Array]:
        order = np.argsort(index[0])
        maximum[0, 0], top[0] = index[0, order[-2]], order[-2]
        return maximum, top

    numbers = softmax_lie(second)
    assert (numbers.gradient != plain_step(LESSONS["softmax"]).gradient).any()
    refused(lying_case("second largest", LESSONS["softmax"], numbers), IdentityRejectedError)


def test_a_maximum_larger_than_the_largest() -> None:
    """All classes seem far: with a top that is at a distance, with a top that is far, and with no top at all."""
    lesson = LESSONS["softmax"]
    for name, more, no_top, error in (
        ("near", 5, False, IdentityRejectedError),
        ("far", 5000, False, IdentityRejectedError),
        ("none", 5, True, SumRejectedError),
    ):

        def larger(
            index: Array, maximum: Array, top: Array, more: int = more, no_top: bool = no_top
        ) -> tuple[Array, Array]:
            maximum[0, 0] += more
            return maximum, np.where(np.arange(len(top)) == 0, -1, top) if no_top else top

        numbers = softmax_lie(larger)
        refused(lying_case(f"maximum {name}", lesson, numbers), error)


def test_a_probability_that_is_not_the_quotient() -> None:
    """p + 1 with the remainder less a normaliser, and p - 1 with one more: each leaves a range."""
    lesson = LESSONS["softmax"]
    for step in (1, -1):

        def lie(what: str, _: int, numbers: Numbers, step: int = step) -> None:
            if what == "loss":
                row, unit = (int(i[0]) for i in np.nonzero(numbers.loss["probability"] > 0))
                numbers.loss["probability"][row, unit] += step
                numbers.loss["rest"][row, unit] -= step * numbers.loss["normaliser"][row, unit]
                numbers.loss["room"][row, unit] += step * numbers.loss["normaliser"][row, unit]

        refused(lying_case(f"divides {step}", lesson, plain_step(lesson, lie)), IdentityRejectedError)


# ------------------------------------------------------------------------------------------------ what c masks


def test_an_update_beyond_its_range_under_every_disguise() -> None:
    """bound + 1 in both directions, and bound + 1 less p; in one piece and in limbs."""
    for bound in (100, 1 << 20):
        for beyond in (bound + 1, -bound - 1):
            update = np.array([3, beyond, 0, -2])
            case = bounded_case(f"{bound} {beyond}", 4, 2 * bound, update=update, trainers=4)
            statement = BoundedStatement(replace(case.statement.masked, entry_bound=bound))  # type: ignore[union-attr]
            program, tensors = _bounded._program(statement)
            witness = _bounded._Witness(statement, tensors, case.secrets, update)
            told = replace(case, statement=statement, program=program, tensors=tensors, assignment=Modulo(witness))
            if statement.whole:
                refused(told, IdentityRejectedError)
                continue
            refused(told, SumRejectedError)  # limbs of -1 that spell 2^24 - 1
            side = tensors.lower if beyond > 0 else tensors.upper
            row, slot = entry_at(program.layout, side[0][-1], 1)

            def spell(messages: Array, row: int = row, slot: int = slot) -> None:
                messages[row, slot] = P - 1

            refused(told, IdentityRejectedError, assignment=Changed(told.assignment, spell))


class Modulo:
    """Reduces what an assignment of 64-bit integers has written below 0."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.products, self.key_values = inner, inner.products, inner.key_values

    def trace(self, messages: Array) -> None:
        self.inner.trace(messages)
        below = messages >= np.uint64(P)
        messages[below] = messages[below] + np.uint64(P)


def test_noise_beyond_its_range() -> None:
    """Noise up to 2^nu instead of 127, the update as it was: c is well formed but for that."""
    case = case_of("one lane")
    for size in (128, -128, 1 << 15):
        noise = case.secrets.noise.copy()
        move = size - noise[1, 5]
        noise[1, 5] = size
        raised = case.statement.masked.ciphertext.copy()  # type: ignore[union-attr]
        raised[1, 5] = (int(raised[1, 5]) + int(move)) % P
        statement = BoundedStatement(with_ciphertext(case.statement.masked, raised))  # type: ignore[union-attr]
        secrets = KeySecrets(noise, case.secrets.coefficients, case.secrets.key)
        refused(told_about(case, statement, secrets), IdentityRejectedError)


def told_about(case: Case, statement: BoundedStatement, secrets: KeySecrets, update: Array | None = None) -> Case:
    program, tensors = _bounded._program(statement)
    assert case.draft is not None
    witness = _bounded._Witness(statement, tensors, secrets, case.draft.update if update is None else update)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=Modulo(witness))


def test_a_unit_of_the_update_passed_off_as_noise() -> None:
    """2^nu (m - 1) + (e + 2^nu): the same c, another update."""
    case = case_of("one lane")
    assert case.draft is not None
    update, noise = case.draft.update.copy(), case.draft.noise.copy()
    update[7] -= 1
    noise[2, 7] += 1 << case.statement.masked.noise_bits  # type: ignore[union-attr]
    secrets = KeySecrets(noise, case.draft.coefficients, case.draft.key)
    refused(told_about(case, case.statement, secrets, update), IdentityRejectedError)  # type: ignore[arg-type]


def test_something_in_a_check_block_or_in_the_padding() -> None:
    """c carries a message where none belongs: check blocks and what lies behind the entries."""
    case = case_of("one lane")
    masked = case.statement.masked  # type: ignore[union-attr]
    for block, slot in ((0, 0), (1, 4095), (2, masked.slots), (2, 4095)):
        changed = masked.ciphertext.copy()
        changed[block, slot] = (int(changed[block, slot]) + (1 << masked.noise_bits)) % P
        refused(told_about(case, BoundedStatement(with_ciphertext(masked, changed)), case.secrets), SumRejectedError)


def test_an_entry_that_reaches_into_the_other_lane() -> None:
    """m + 2^lane bits in the low lane is m in it and 1 in the high lane: the low lane is out of range."""
    case = case_of("two lanes")
    assert case.draft is not None
    masked = case.statement.masked  # type: ignore[union-attr]
    update = case.draft.update.copy()
    update[3] += 1 << masked.lane_bits
    update[masked.slots + 3] -= 1
    refused(told_about(case, case.statement, case.secrets, update), IdentityRejectedError)  # type: ignore[arg-type]


def test_squares_that_go_round_the_field() -> None:
    """Where squares and slack could reach p, there is no such statement; short of it no slack fits a large norm."""
    case = case_of("norm")
    assert case.draft is not None
    statement = case.statement
    with pytest.raises(StatementError, match="may reach"):
        replace(statement, norm_bound=1 << 32)  # type: ignore[type-var]
    small = replace(statement, norm_bound=3)  # type: ignore[type-var]
    program, tensors = _bounded._program(small)  # type: ignore[arg-type]

    class Slack(_bounded._Witness):
        """The negative rest as an element in the lowest limb."""

        def trace(self, messages: Array) -> None:
            honest = _bounded._program(statement)[1]  # type: ignore[arg-type]
            _bounded._Witness(statement, honest, self.secrets, self.update).trace(messages)  # type: ignore[arg-type]
            square = sum(int(x) ** 2 for x in self.update)
            for limb in range(tensors.slack.length):  # type: ignore[union-attr]
                row, _ = entry_at(program.layout, tensors.slack, limb)  # type: ignore[arg-type]
                messages[row] = 0
                messages[row, 0] = (9 - square) % P

    lying = Slack(small, tensors, case.secrets, case.draft.update)  # type: ignore[arg-type]
    refused(replace(case, statement=small, program=program, tensors=tensors, assignment=lying), IdentityRejectedError)


# ------------------------------------------------------------------------------------------------ the key


def test_a_key_that_is_not_the_key_matrix() -> None:
    """c is masked under another key than the seats hold shares of. The proof says so itself: its claim is refused."""
    case = case_of("one lane")
    assert case.draft is not None
    assert case.terms is not None
    _, other = draft_of(case.terms.layout, case.draft.update, "another key")
    mixed = replace(case.draft, ciphertext=other.ciphertext, ciphertext_bytes=other.ciphertext_bytes,
                    ciphertext_digest=other.ciphertext_digest, noise=other.noise)  # fmt: skip
    statement = BoundedStatement(masked_of(case.terms, mixed))
    # the copy in the trace is the other key, and so are the values that the proof tells of it
    secrets = KeySecrets(other.noise, other.coefficients, other.key)
    proved = careless(told_about(case, statement, secrets), "other key")
    first = verify(statement, proved.proof)
    assert first is not None
    claim = KeyClaim(first.point, first.key_values)
    with pytest.raises(KeyClaimRefusedError):
        finish_upload(case.terms, mixed, account(), proved.proof, claim)
    report = finish_upload(case.terms, mixed, account(), proved.proof).report
    with pytest.raises(KeyClaimRefusedError):
        check_claim(report, claim)
    with pytest.raises(KeyClaimRefusedError):
        check_report(case.terms, report, claim)
    # or it tells the key matrix's values: then the copy does not take them
    refused(told_about(case, statement, KeySecrets(other.noise, case.draft.coefficients, other.key)), SumRejectedError)


@pytest.mark.parametrize("row", range(6))
def test_one_row_of_the_key_is_told_falsely(row: int) -> None:
    """Key rows are held by the copy in the trace; the report's mask rows by the claim alone."""
    case = case_of("one lane")

    class Told(Modulo):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self.key_values = self.lie

        def lie(self, point: tuple[int, int]) -> Array:
            values = self.inner.key_values(point)
            values[0, row] = (int(values[0, row]) + 1) % P
            return values

    proved = careless(case, ("told", row), assignment=Told(case.assignment))
    if row < 4:
        with pytest.raises(SumRejectedError):
            case.verify(proved.proof)
        return
    first = case.verify(proved.proof)
    assert first is not None
    assert case.terms is not None
    assert case.draft is not None
    report = finish_upload(case.terms, case.draft, account(), proved.proof).report
    with pytest.raises(KeyClaimRefusedError):
        check_report(case.terms, report, KeyClaim(first.point, first.key_values))


# ------------------------------------------------------------------------------------------------ copies


@pytest.mark.parametrize("name", ["one lane", "batch"])
@pytest.mark.parametrize("part", ["trainer", "round", "terms", "task", "key_root"])
def test_a_copied_report_is_nobody_elses(name: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the proof was made with all its work
    masked = case_of(name).statement.masked  # type: ignore[union-attr]
    other = {"trainer": b"z" * 20, "round": masked.identity.round + 1}.get(part, b"z" * 32)
    moved = replace(masked, identity=replace(masked.identity, **{part: other}))
    with pytest.raises(SumRejectedError):
        verify(replace(case_of(name).statement, masked=moved), proof_of(name))  # type: ignore[type-var]
    verify(case_of(name).statement, proof_of(name))


def test_a_correlated_report_has_no_proof_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """c' = c + 2^nu d from another's c, d known: whoever does not know the key cannot move the proof along."""
    monkeypatch.undo()
    case = case_of("one lane")
    masked = case.statement.masked  # type: ignore[union-attr]
    shifted = masked.ciphertext.copy()
    shifted[2, :4] = add(shifted[2, :4], np.full(4, 1 << masked.noise_bits, np.uint64))
    with pytest.raises(StatementError, match="digest"):
        replace(masked, ciphertext=shifted)
    with pytest.raises(SumRejectedError):
        verify(BoundedStatement(with_ciphertext(masked, shifted)), proof_of("one lane"))


# ------------------------------------------------------------------------------------------------ lookups


@pytest.mark.parametrize("name", ["one lane", "limbs", "softmax"])
def test_multiplicities_that_hide_a_value(name: str) -> None:
    """One looked-up entry's count goes to another entry, and a count is moved by p's worth in two places."""
    case = case_of(name)
    layout = case.program.layout
    for number, flat in enumerate(layout.multiplicities):

        def move(messages: Array, flat: Any = flat) -> None:
            row = messages[int(layout.index(flat.rows)[0])]
            used = int(np.flatnonzero(row[: flat.length])[0])
            other = (used + 1) % min(flat.length, len(row))
            row[used], row[other] = (int(row[used]) - 1) % P, (int(row[other]) + 1) % P

        refused(case, SumRejectedError, label=("move", number), before={layout.trace: move})


def test_inverses_that_tell_the_truth_about_a_value_out_of_range() -> None:
    """1 / (alpha - v) for a v that is in no table: the relation of the slot holds, LogUp's sum does not."""
    case = case_of("one lane")
    layout, tensors = case.program.layout, case.tensors
    noise = tensors.mask.noise  # type: ignore[attr-defined]
    row, slot = entry_at(layout, noise, 4100)
    secrets = case.secrets
    changed = secrets.noise.copy()
    changed[1, 4] = 4000
    raised = case.statement.masked.ciphertext.copy()  # type: ignore[union-attr]
    raised[1, 4] = (int(raised[1, 4]) + 4000 - int(secrets.noise[1, 4])) % P
    statement = BoundedStatement(with_ciphertext(case.statement.masked, raised))  # type: ignore[union-attr]
    told = told_about(case, statement, KeySecrets(changed, secrets.coefficients, secrets.key))
    seen: list[Any] = []

    class Watching(Modulo):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self.products = lambda messages, first: seen.append(first)

    def truthful(messages: Array) -> None:
        first, pairs = seen[0], np.argwhere(layout.pair_rows == row)
        pair = int(pairs[0][0])
        table = int(layout.pair_tables[pair])
        total = np.zeros((2, 1), np.uint64)
        for place in layout.pair_rows[pair]:
            value = int(messages[place, slot])
            rest = np.array([[(int(first.alphas[0, table]) - value) % P], [int(first.alphas[1, table])]], np.uint64)
            total = add(total, ext_inverse_array(rest))
        for part, place in enumerate(layout.pair_inverses[pair]):
            messages[place, slot] = total[part, 0]

    lying = Watching(told.assignment.inner)
    refused(told, SumRejectedError, assignment=lying, before={layout.products: truthful})
    refused(told, IdentityRejectedError)  # the clamped inverse keeps the sum and breaks the slot


# ------------------------------------------------------------------------------------------------ padding


def test_slots_behind_a_vector_are_nobodys() -> None:
    """In range they may hold anything and nothing follows; an entry of c that they should explain is refused."""
    case = case_of("one lane")
    layout, upper = case.program.layout, case.tensors.upper[0][0]  # type: ignore[attr-defined]
    row, slot = entry_at(layout, upper, upper.length - 1)

    def fill(messages: Array) -> None:
        messages[row, slot + 1 :] = 7

    proof = careless(case, "garbage", Changed(case.assignment, fill)).proof
    case.verify(proof)
    masked = case.statement.masked  # type: ignore[union-attr]
    raised = masked.ciphertext.copy()
    raised[2, masked.slots] = (int(raised[2, masked.slots]) + (7 << masked.noise_bits)) % P
    told = told_about(case, BoundedStatement(with_ciphertext(masked, raised)), case.secrets)
    refused(told, SumRejectedError, assignment=Changed(told.assignment, fill))


@pytest.mark.parametrize("name", ["logistic", "squared", "batch"])
def test_samples_behind_the_registered_ones_enter_no_gradient(name: str) -> None:
    """P and V of a sample that does not exist, aimed at c: neither relations nor the gradient let them in."""
    lesson = LESSONS[name]
    update = honest_gradient(name)
    update[0] += 35
    case = lying_case(f"{name} padding", lesson, plain_step(lesson), update)
    layout = case.program.layout
    left, right = case.tensors.inner[0]  # type: ignore[attr-defined]
    places = [entry_at(layout, pair.first, lesson.rows - 1) for pair in (left, right)]

    def fill(messages: Array) -> None:
        for (row, slot), value in zip(places, (5, 7), strict=True):
            messages[row, slot + 1] = value

    refused(case, SumRejectedError, assignment=Changed(case.assignment, in_products=fill))
    truth = lying_case(f"{name} padding alone", lesson, plain_step(lesson))
    refused(truth, SumRejectedError, assignment=Changed(truth.assignment, in_products=fill))


# ------------------------------------------------------------------------------------------------ codewords


@pytest.mark.parametrize("percent", [50, 10, 2])
@pytest.mark.parametrize("tree", range(4))
def test_words_that_are_no_codewords(tree: int, percent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of a tree is committed with wrong symbols at some columns; the prover computes with the right ones.

    It is refused if and only if a wrong column is opened. 2% is within unique decoding: there the rows are still those
    of one codeword, so that whoever is lucky has proved a true statement.
    """
    case = case_of("batch")
    random = np.random.default_rng([tree, percent])
    size = case.program.layout.code.domain.size
    wrong = random.permutation(size)[: size * percent // 100]
    seen: list[Array] = []
    opened = _prove._opened

    def spoiled(columns: Array, start: int) -> Array:
        changed = columns.copy()
        changed[wrong, start] ^= np.uint64(1)
        return changed

    def open_spoiled(columns: Array, merkle: Any, positions: Array) -> bytes:
        if len(seen) == tree:
            columns = spoiled(np.ascontiguousarray(columns), 0)
            merkle = MerkleTree(leaves_of_slices(columns, 0, columns.shape[1]))
        seen.append(positions)
        return opened(columns, merkle, positions)

    commit = _prove._commit

    def commit_spoiled(*arguments: Any) -> Any:
        columns, first, rows = arguments[3:6]
        committed = commit(*arguments)
        if first != case.program.layout.starts[tree]:
            return committed
        return MerkleTree(leaves_of_slices(spoiled(columns, first), first, first + rows + 2))

    monkeypatch.setattr(_prove, "_opened", open_spoiled)
    told = case
    if tree == 0:
        columns = spoiled(case.data[0].columns, 0)
        root = MerkleTree(leaves_of_slices(columns, 0, columns.shape[1])).root
        statement = replace(case.statement, data_root=root)  # type: ignore[type-var]
        program = replace(case.program, statement=statement.fields(), data_roots=(root,))  # type: ignore[union-attr]
        told = replace(case, statement=statement, program=program)
    else:
        monkeypatch.setattr(_prove, "_commit", commit_spoiled)
    proof = careless(told, (tree, percent)).proof
    if np.isin(seen[0], wrong).any():
        with pytest.raises(CombinationRejectedError, match="opened columns do not fit"):
            told.verify(proof)
    else:
        assert percent == 2
        told.verify(proof)


def test_a_wrong_quotient() -> None:
    """The quotient of other relations, a quotient scaled, and one with a chunk left out."""
    case = case_of("batch")
    layout = case.program.layout
    for number, place in enumerate(layout.index(layout.chunks)):
        for change in (lambda row: row * 0, lambda row: row[::-1]):

            def lie(messages: Array, place: int = int(place), change: Callable[[Array], Array] = change) -> None:
                messages[place] = change(messages[place].copy())

            refused(case, IdentityRejectedError, label=("quotient", number), before={layout.quotient: lie})
