"""Programs of a task with stewards accept what a round's fold gives, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from _quality_works_stage import (
    PARAMETERS,
    PART_BYTES,
    RULE,
    SALT,
    STEWARDS,
    QualityRound,
    first,
    ordered,
    program,
    proof_of,
    quality_round,
    quality_terms,
    record_of,
    round_zero,
    score_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.incentives import (
    NO_SCORE,
    ModelScore,
    QualityState,
    ReportScore,
    StewardRecord,
    encode_steward_record,
    fold_round,
    normalise_direction,
    report_scale,
)
from collegium.settlement import KnownStretches, MachineRun

Values = list[int | None]
GRADIENTS = np.random.default_rng(7).integers(-(1 << 15), 1 << 15, (3, PARAMETERS))
TURNED = np.random.default_rng(8).integers(-(1 << 15), 1 << 15, PARAMETERS)
BEGAN = 1  # the round of the state before


def records(number: int, count: int = 3, told: int = 0) -> list[StewardRecord]:
    """Records of the first stewards, of which so many tell what they committed to in the state's round."""
    return [
        record_of(
            steward,
            normalise_direction(GRADIENTS[steward]),
            number,
            ModelScore(7 + steward, SALT) if steward < told else None,
            7 + steward,
        )
        for steward in range(count)
    ]


def value_of(before: QualityState, score: float, rows: int = 10) -> int:
    """The y of a report with about this score."""
    return int(score * report_scale(before, rows, RULE.noise).unit)


@cache
def begun() -> QualityState:
    """The state after a round that left a direction, of commitments that round 2 may open."""
    return quality_round(first(), [None, None, None], records(BEGAN), BEGAN).after


def second(before: QualityState | None = None, count: int = 3, told: int = 2, shift: int = 0) -> QualityRound:
    state = begun() if before is None else before
    values: Values = [value_of(state, 0.5) + shift, value_of(state, -0.2), None]
    return quality_round(state, values, records(2, count, told))


# ------------------------------------------------------------------------------------------------ the part is right


def test_a_first_round_of_training_leaves_a_direction_and_scores_nobody() -> None:
    made = quality_round(first(), [None, None, None], records(BEGAN), BEGAN)
    assert made.after.has_direction
    assert made.accepted("quality")


def test_a_round_with_a_direction_scores_weighs_and_opens() -> None:
    made = second()
    assert made.after.model_scores == 2
    assert made.after.weights[0] != made.after.weights[1]
    assert made.accepted("quality")
    assert not made.saying(begun()).accepted("quality")
    assert not replace(second(shift=1), stepped=made.stepped).accepted("quality")  # of another score


def test_there_is_no_direction_along_which_no_score_could_be_proved() -> None:
    """A C that no proved update has, as a sum of reports that nobody verified may leave it."""
    for norm_bound, has_direction in ((1 << 46, True), (1 << 49, False)):
        made = second(replace(begun(), norm_bound=norm_bound))
        assert made.after.has_direction is has_direction
        assert made.accepted("quality")


def test_round_zero_leaves_the_first_state() -> None:
    assert round_zero(first()).accepted("quality")
    entries = (replace(first().stewards[0], account=bytes(20)), *first().stewards[1:])
    for other in (
        replace(first(), weights=np.full(4, 14)),
        replace(first(), norm_bound=1),
        replace(first(), stewards=entries),
        replace(first(), standing=replace(first().standing, vetted=np.array([1, 1, 0, 1]))),
    ):
        assert not round_zero(other).accepted("quality")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_records_that_are_missing_are_missing_in_the_state(count: int) -> None:
    made = second(count=count, told=0)
    assert made.after.has_direction == (count > 1)
    assert made.accepted("quality")
    assert not made.saying(second(told=0).after).accepted("quality")


# ------------------------------------------------------------------------------------------------ prefixes of proofs

PREFIXES = {
    "of no row": proof_of(9, 0, 100),
    "of more rows than there may be": proof_of(9, RULE.rows_max + 1, 100),
    "of 2^64 - 1 rows": proof_of(9, (1 << 64) - 1, 100),
    "too short": proof_of(9, 10, 47),
    "empty": b"",
    "as short as may be": proof_of(9, 10, 48),
    "of two blocks with padding": proof_of(9, 10, 103),
    "of three blocks with padding": proof_of(9, 10, 104),
    "of the least score": proof_of(-(1 << 63) + 1, 1, 100),
    "of the greatest score": proof_of((1 << 63) - 1, RULE.rows_max, 100),
}


@pytest.mark.parametrize("proof", PREFIXES.values(), ids=PREFIXES.keys())
def test_whatever_stands_before_a_proof_is_taken_alike(proof: bytes) -> None:
    """A committee may all vouch for a proof that does not verify."""
    made = quality_round(begun(), [9, 9, 9], records(2, told=1), odd={1: proof})
    assert (made.after.scores[1] == NO_SCORE) == (score_of(b"", proof).value is None)
    assert made.accepted("quality")
    other = np.where(made.after.scores == NO_SCORE, 5, NO_SCORE)
    assert not made.saying(replace(made.after, scores=other)).accepted("quality")


# ------------------------------------------------------------------------------------------------ records that count

Change = Callable[[StewardRecord], StewardRecord]
BAD: dict[str, Change] = {
    "of another round": lambda record: replace(record, round=3),
    "of another steward": lambda record: replace(record, account=STEWARDS[1]),
    "that opens to another score": lambda record: replace(record, opened=ModelScore(8, SALT)),
    "that opens with another salt": lambda record: replace(record, opened=ModelScore(7, bytes(32))),
    "that commits to nothing": lambda record: replace(record, commitment=bytes(32)),
    "of twice the norm": lambda record: replace(record, direction=2 * record.direction),
    "of an entry beyond the norm": lambda record: replace(record, direction=record.direction + (1 << 40)),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_record_that_does_not_count_is_none(change: Change) -> None:
    """The state after names it and takes it for what it says."""
    honest = records(2, told=1)
    made = quality_round(begun(), [9, 9, 9], [change(honest[0]), *honest[1:]], steward_of=honest)
    assert not made.accepted("quality")


# ------------------------------------------------------------------------------------------------ whatever the state


@st.composite
def states(draw: st.DrawFn) -> QualityState:
    """A state that some rounds led to, of good and bad trainers, rounds without records and large and small totals."""
    state = begun()
    generator = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    for _ in range(draw(st.integers(0, 12))):
        total = generator.integers(-(1 << draw(st.sampled_from([3, 20, 45]))), 1 << 20, PARAMETERS)
        scores = list[ReportScore]()
        for place, account in enumerate(state.standing.addresses if state.has_direction else ()):
            value = value_of(state, (0.6, 0.5, -0.9, 0.3)[place] + generator.normal() / 10, 20)
            scores.append(ReportScore(account, None if generator.random() < 0.1 else value, 20))
        found = [ordered(record) for record in records(BEGAN, draw(st.sampled_from([0, 2, 3, 3, 3])))]
        state = fold_round(RULE, state, BEGAN, total, int(generator.integers(1, 200)), scores, found)
    return state


@settings(max_examples=12)
@given(data=st.data(), before=states())
def test_the_program_folds_as_the_node_does_and_notices_each_change(data: st.DataObject, before: QualityState) -> None:
    ends = st.sampled_from([-(1 << 62), -1, 0, 1 << 62])
    values: Values = [data.draw(st.none() | ends | st.integers(-(1 << 17), 1 << 17)) for _ in range(3)]
    committed = sum(any(entry.commitment) for entry in before.stewards)
    count, told = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    made = quality_round(before, values, records(2, count, min(told, committed)))
    assert made.accepted("quality")
    at = -data.draw(st.integers(1, PART_BYTES))
    turned = bytearray(made.stepped)
    turned[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not replace(made, stepped=bytes(turned)).accepted("quality")


# ------------------------------------------------------------------------------------------------ weights and model


def test_a_close_weighs_as_the_state_before_says() -> None:
    before = replace(begun(), weights=np.array([15, 0, 7, 3]))
    made = second(before)
    weights = made.weights
    assert sorted(weights) == [0, 7, 15]
    assert made.weighing(weights).accepted("weights")
    for wrong in ([15, 15, 15], weights[::-1], [1, 1, 1], [15 - weight for weight in weights]):
        assert not made.weighing(wrong).accepted("weights")
    stale = replace(
        made, played=replace(made.played, reports=tuple(replace(r, staleness=1) for r in made.played.reports))
    )
    assert not stale.weighing(weights).accepted("weights")


@pytest.mark.parametrize("still", [False, True])
def test_after_rounds_without_a_sum_who_weighs_nothing_has_the_least_weight(still: bool) -> None:
    state = replace(begun(), weights=np.array([15, 0, 7, 15]))
    made = quality_round(state, [9, 9, 9], [], BEGAN + 5 if still else BEGAN + 4)
    trainers = quality_terms().trainers
    told = [int(state.weights[trainers.index(report.trainer)]) for report in made.played.reports]
    helped = [max(weight, 1) for weight in told]
    assert made.weights == (helped if still else told)
    assert made.weighing(told).accepted("weights") is not still
    assert made.weighing(helped).accepted("weights") is still
    assert not made.weighing([15, 15, 15]).accepted("weights")


@pytest.mark.parametrize(("without", "weight"), [(3, 0), (4, 0), (5, 0), (6, 1)])
def test_a_lock_holds_for_its_rounds_though_no_sum_opens(without: int, weight: int) -> None:
    known = begun().standing
    standing = replace(known, locked_until=np.array([0, 0, known.round + 6, 0]), vetted=np.array([1, 1, 0, 1]))
    before = replace(begun(), standing=standing, weights=np.array([15, 15, 0, 15]))
    made = quality_round(before, [9, 9, 9], [], BEGAN + 1 + without)
    assert sorted(made.weights) == [weight, 15, 15]
    assert made.weighing(made.weights).accepted("weights")
    assert not made.weighing([15, 15, 15]).accepted("weights")
    changed = [1 - weight if given < 2 else given for given in made.weights]
    assert not made.weighing(changed).accepted("weights")


def test_a_close_in_which_too_few_carry_weight_is_wrong() -> None:
    made = second(replace(begun(), weights=np.array([15, 0, 0, 15])))
    assert not made.weighing(made.weights).accepted("weights")


# ------------------------------------------------------------------------------------------------ who is drawn


@pytest.mark.parametrize("places", range(2, 10))
def test_a_close_that_admits_somebody_who_is_not_drawn_is_wrong(places: int) -> None:
    """The first three of four trainers report; the beacon of the round is the same for each number of places."""
    made = quality_round(begun(), [9, 9, 9], [], places=places)
    assert made.weighing(made.weights).accepted("weights") == bool(made.drawn.hits[:3].all())
    assert not made.weighing([15, 15, 14]).accepted("weights")


def test_of_few_places_some_leave_somebody_out() -> None:
    hits = [tuple(quality_round(begun(), [9, 9, 9], [], places=places).drawn.hits) for places in range(2, 10)]
    assert any(0 in found[:3] for found in hits)
    assert any(0 not in found[:3] for found in hits)


def test_who_is_locked_out_reports_without_weight_whomever_the_beacon_draws() -> None:
    standing = replace(begun().standing, locked_until=np.array([0, 0, 9, 0]), vetted=np.array([1, 1, 0, 1]))
    before = replace(begun(), standing=standing, weights=np.array([15, 15, 0, 15]))
    made = quality_round(before, [9, 9, 9], [], places=8)
    assert made.drawn.hits[2] == 0
    assert sorted(made.weights) == [0, 15, 15]
    assert made.weighing(made.weights).accepted("weights")
    assert not made.weighing([15, 15, 15]).accepted("weights")


def test_the_program_ends_a_lock_as_the_node_does() -> None:
    """Of trainers that are locked out and send as good an update, one that nearly proved its use is free."""
    columns = {"precision": 1 << 25, "information": 1 << 25, "reports": 5}
    known = {name: np.array([0, value, value, 0]) for name, value in columns.items()}
    known["information"] = known["information"] * np.array([1, 1, -1, 1])
    locked, vetted = np.array([0, 9, 9, 0]), np.array([1, 0, 0, 1])
    standing = replace(begun().standing, locked_until=locked, vetted=vetted, **known)
    before = replace(begun(), standing=standing, weights=np.array([15, 0, 0, 15]))
    made = quality_round(before, [value_of(before, 0.6)] * 3, records(2, 3, 2), places=3)
    assert made.after.standing.locked_until.tolist() == [0, made.after.standing.round, 9, 0]
    assert made.after.weights.tolist()[1:3] == [0, 0]
    assert made.accepted("quality")
    for until in ([0, 9, 9, 0], [0, made.after.standing.round, made.after.standing.round, 0]):
        other = replace(made.after.standing, locked_until=np.array(until))
        assert not made.saying(replace(made.after, standing=other)).accepted("quality")


def test_who_is_drawn_twice_earns_twice() -> None:
    once, often = second(), quality_round(begun(), [value_of(begun(), 0.5)] * 3, records(2, 3, 2), places=9)
    assert once.accepted("quality")
    assert often.accepted("quality")
    assert often.drawn.hits.max() > 1
    single = quality_round(begun(), [value_of(begun(), 0.5)] * 3, records(2, 3, 2))
    points = often.after.standing.points
    assert points.tolist() == (single.after.standing.points * often.drawn.hits).tolist()
    assert not often.saying(single.after).accepted("quality")


def test_a_report_of_who_is_not_drawn_is_not_scored() -> None:
    """No round admits one; the fold is the same to everybody all the same."""
    found = [quality_round(begun(), [9, 9, 9], [], places=places) for places in range(2, 10)]
    made = next(each for each in found if not each.drawn.hits[:3].all())
    assert ((made.after.scores[:3] == NO_SCORE) == (made.drawn.hits[:3] == 0)).all()
    assert made.accepted("quality")


# ------------------------------------------------------------------------------------------------ the model's program


def test_the_model_program_judges_what_stands_before_quality() -> None:
    made = second()
    assert made.accepted("model")
    assert made.saying(begun()).accepted("model")  # another program's
    turned = bytearray(made.stepped)
    turned[-PART_BYTES - 8] ^= 1
    assert not replace(made, stepped=bytes(turned)).accepted("model")
    assert not replace(made, stepped=made.stepped + bytes(8)).accepted("model")


# ------------------------------------------------------------------------------------------------ how many steps


def test_how_many_steps_the_program_of_quality_takes() -> None:
    made = second()
    run = MachineRun(program("quality"), made.header.digest, KnownStretches(made.messages))
    print(f"{len(program('quality').instructions)} instructions, {run.steps} steps of {quality_terms().steps_max}")
    assert run.steps < quality_terms()._quality_steps()
    assert len(encode_steward_record(records(2)[0])) < 1 << 12
