"""A round's end, step by step: who is scored, what each weighs next, what scores count in, and the next direction."""

from dataclasses import replace
from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from collegium.incentives import (
    NO_SCORE,
    ONE,
    DirectionError,
    FoldRule,
    ModelScore,
    OrderedRecord,
    Policy,
    QualityState,
    ReportScore,
    ScoredRound,
    StewardRecord,
    decode_quality_state,
    encode_quality_state,
    first_quality_state,
    fold_round,
    median_direction,
    normalise_direction,
    normalise_scores,
    report_scale,
    scoring_direction,
    weigh,
)

TRAINERS = tuple(bytes([number]) * 20 for number in range(5))
STEWARDS = tuple(bytes([100 + number]) * 20 for number in range(3))
RULE = FoldRule(Policy(), Fraction(1, 10), weighted_min=2, rows_max=100)
TOTAL, ROWS = np.array([300, -400, 0, 1200], np.int64), 13


def first() -> QualityState:
    return first_quality_state(RULE.policy, TRAINERS, STEWARDS, 4)


def record(steward: int, gradient: list[int], opened: int | None = None) -> OrderedRecord:
    told = None if opened is None else ModelScore(opened, b"s" * 32)
    direction = normalise_direction(np.array(gradient, np.int64))
    found = StewardRecord(STEWARDS[steward], 1, direction, b"c" * 32, told, b"g" * 65)
    return OrderedRecord(found, bytes([steward + 1]) * 32)


RECORDS = (record(0, [3, -4, 0, 12]), record(1, [3, -4, 1, 12]), record(2, [-3, 4, 0, -12]))


def directed() -> QualityState:
    return fold_round(RULE, first(), 1, TOTAL, ROWS, [], RECORDS)


def reports(*values: int | None) -> list[ReportScore]:
    return [ReportScore(account, value, 10) for account, value in zip(TRAINERS, values, strict=False)]


def test_a_first_round_scores_nobody_and_leaves_a_direction() -> None:
    after = directed()

    assert (after.scores == NO_SCORE).all()
    assert after.weights.tolist() == [15] * 5
    assert after.standing.round == 0
    assert after.norm_bound == (isqrt(300**2 + 400**2 + 1200**2) << 8) // 13
    median = median_direction([entry.record.direction for entry in RECORDS], [1, 1, 1])
    assert after.direction.tolist() == scoring_direction(median, None).tolist()
    assert [entry.record for entry in after.stewards] == [bytes([n]) * 32 for n in (1, 2, 3)]
    assert encode_quality_state(decode_quality_state(encode_quality_state(after))) == encode_quality_state(after)


def test_a_round_with_a_direction_weighs_by_its_scores() -> None:
    before = directed()
    scale = report_scale(before, 10, RULE.noise)
    values = [scale.unit // 2, scale.unit // 2, scale.unit // 2, -scale.unit // 2, 10 * scale.unit]

    after = fold_round(RULE, before, 2, TOTAL, ROWS, reports(*values), RECORDS)

    scores, ones = normalise_scores(values, scale), np.ones(5, np.int64)
    weighed = weigh(RULE.policy, before.standing, ScoredRound(np.arange(5), scores, 10 * ones, ones))
    assert after.scores.tolist() == scores.tolist()
    assert after.scores[4] == ONE
    assert after.weights.tolist() == weighed.weights.tolist()
    assert after.standing.points.tolist() == weighed.points.tolist()
    assert after.weights[3] < after.weights[0]


def test_scores_count_rows() -> None:
    before = directed()
    one, two = report_scale(before, 10, RULE.noise), report_scale(before, 20, RULE.noise)

    assert two.unit << two.shift == pytest.approx(2 * one.unit << one.shift, rel=1e-3)


def test_pay_counts_rows_but_for_no_more_than_the_median_report_has() -> None:
    before = directed()

    def points(*rows: int) -> list[int]:
        """Of trainers whose rows are worth the same, of which some have more."""
        said = [
            ReportScore(account, report_scale(before, count, RULE.noise).unit // 2, count)
            for account, count in zip(TRAINERS, rows, strict=True)
        ]
        return fold_round(RULE, before, 2, TOTAL, ROWS, said, RECORDS).standing.points.tolist()

    few, more, most, third, fourth = points(4, 8, 100, 12, 100)
    assert (2 * few, 3 * few) == pytest.approx((more, third), rel=0.1)
    assert (most, fourth) == pytest.approx((third, third), rel=0.1)
    assert few > 0


def test_rows_split_among_names_earn_what_they_did_in_one() -> None:
    before = directed()

    def earned(*rows: int) -> list[int]:
        said = [
            ReportScore(account, report_scale(before, count, RULE.noise).unit // 2, count)
            for account, count in zip(TRAINERS, rows, strict=False)
        ]
        return fold_round(RULE, before, 2, TOTAL, ROWS, said, RECORDS).standing.points.tolist()

    whole, split = earned(30, 30, 30, 30), earned(30, 30, 30, 15, 15)
    assert sum(split[3:]) == pytest.approx(whole[3], rel=0.05)


def test_who_could_have_chosen_its_noise_is_not_scored_and_keeps_its_weight() -> None:
    before = replace(directed(), weights=np.array([15, 7, 15, 15, 15]))

    after = fold_round(RULE, before, 2, TOTAL, ROWS, reports(9, None, 9, 9), RECORDS)

    assert (after.scores == NO_SCORE).tolist() == [False, True, False, False, True]
    assert after.weights[[1, 4]].tolist() == [7, 15]
    assert after.standing.scored.tolist() == [1, 0, 1, 1, 0]


def test_who_is_locked_out_or_on_probation_weighs_nothing() -> None:
    before = directed()
    locked, vetted = np.array([9, 0, 0, 0, 0]), np.array([1, 0, 1, 1, 1])
    before = replace(before, standing=replace(before.standing, locked_until=locked, vetted=vetted))

    after = fold_round(RULE, before, 2, TOTAL, ROWS, reports(-9, 9, 9, 9, 9), RECORDS)

    assert after.weights[:2].tolist() == [0, 0]
    assert (after.weights[2:] > 0).all()
    assert (after.scores != NO_SCORE).all(), "it may appeal"
    assert after.standing.points[0] == 0
    assert after.standing.reports.tolist() == [1] * 5
    assert after.standing.scored.tolist() == [0, 1, 1, 1, 1]


def test_a_score_under_a_lock_is_learned_and_counts_for_nothing_else() -> None:
    before = directed()
    locked = replace(before.standing, locked_until=np.array([9, 0, 0, 0, 0]), vetted=np.array([0, 1, 1, 1, 1]))
    before = replace(before, standing=locked)
    unit = report_scale(before, 10, RULE.noise).unit
    alone = fold_round(RULE, before, 2, TOTAL, ROWS, reports(None, *[unit // 2] * 4), RECORDS)
    after = fold_round(RULE, before, 2, TOTAL, ROWS, reports(-unit, *[unit // 2] * 4), RECORDS)
    assert after.standing.information[0] < 0 == alone.standing.information[0]
    assert after.weights.tolist() == alone.weights.tolist()
    assert after.standing.points.tolist() == alone.standing.points.tolist()
    undrawn = fold_round(RULE, before, 2, TOTAL, ROWS, reports(-unit, *[9] * 4), RECORDS, np.array([0, 0, 1, 1, 1]))
    assert (undrawn.scores != NO_SCORE).tolist() == [True, False, True, True, True]


def test_where_too_few_would_weigh_all_count_alike() -> None:
    before = directed()
    locked = np.array([9, 9, 9, 9, 0])
    before = replace(before, standing=replace(before.standing, locked_until=locked))

    assert fold_round(RULE, before, 2, TOTAL, ROWS, [], RECORDS).weights.tolist() == [15] * 5
    alone = replace(RULE, weighted_min=1)
    assert fold_round(alone, before, 2, TOTAL, ROWS, [], RECORDS).weights.tolist() == [0, 0, 0, 0, 15]


def test_half_of_the_stewards_give_no_direction() -> None:
    assert directed().has_direction
    two = fold_round(RULE, first(), 1, TOTAL, ROWS, [], RECORDS[:2])
    assert two.has_direction
    one = fold_round(RULE, first(), 1, TOTAL, ROWS, [], RECORDS[:1])
    assert not one.has_direction
    assert [entry.commitment for entry in one.stewards] == [b"c" * 32, bytes(32), bytes(32)]
    with pytest.raises(DirectionError):
        report_scale(one, 10, RULE.noise)


def test_gradients_that_cancel_out_give_no_direction() -> None:
    lone = first_quality_state(RULE.policy, TRAINERS, STEWARDS[:2], 1)
    opposed = (record(0, [1]), record(1, [-1]))

    assert fold_round(RULE, lone, 1, TOTAL[:1], ROWS, [], opposed).direction.tolist() == [-(1 << 15)]
    three = first_quality_state(RULE.policy, TRAINERS, STEWARDS, 3)
    apart = (record(0, [1, 0, 0]), record(1, [0, 1, 0]), record(2, [0, 0, 1]))
    assert not fold_round(RULE, three, 1, TOTAL[:3], ROWS, [], apart).has_direction


@pytest.mark.parametrize(("moved", "expected"), [(0, 1000 - 15), (1, 1000 - 15), (10**6, 1125)])
def test_the_norm_follows_slowly(moved: int, expected: int) -> None:
    before = replace(directed(), norm_bound=1000)
    total = np.array([moved, 0, 0, 0], np.int64)

    assert fold_round(RULE, before, 2, total, ROWS, [], ()).norm_bound == expected


def test_the_model_s_score_is_the_median_of_what_is_told() -> None:
    gradient = [3, -4, 0, 12]
    told = (record(0, gradient, 50_000), record(1, gradient, 100), record(2, gradient))

    after = fold_round(RULE, directed(), 2, TOTAL, ROWS, [], told)

    assert (after.model_round, after.model_scores, after.model_score) == (1, 2, 100)
    silent = fold_round(RULE, directed(), 2, TOTAL, ROWS, [], RECORDS)
    assert (silent.model_round, silent.model_scores, silent.model_score) == (0, 0, 0)
