"""One round's end: the state of quality after it, from the state before, scores, the opened total, stewards' records.

    reports' scores -> weigh -> standing, weights of the next round
    total           -> the norm that scores are counted in
    records         -> direction of the next round; what they tell -> the model's score

docs/spec/quality.md, section 9. Pure, and total: nothing that a report or a record may hold makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collegium.crypto import Digest

from ._direction import (
    NORM_ANY,
    REACH_MAX,
    ScoreScale,
    inner,
    median_direction,
    normalise_scores,
    score_scale,
    scoring_direction,
)
from ._errors import DirectionError
from ._fixed import Int64Array, lower_median
from ._policy import Policy
from ._quality_state import NO_SCORE, NORM_MAX, QualityState, StewardEntry
from ._standing import Standing, new_standing
from ._steward_record import StewardRecord
from ._weigh import ScoredRound, weigh

__all__ = [
    "FoldRule",
    "OrderedRecord",
    "ReportScore",
    "first_quality_state",
    "fold_round",
    "report_scale",
]

NORM_BITS: Final = 8  # of a fraction, in C
NORM_MIN: Final = 16
_FALL_BITS, _RISE_BITS = 6, 3  # C falls by a 64th a round and rises by an eighth


@dataclass(frozen=True, slots=True)
class FoldRule:
    """What a task fixes before its first round.

    Attributes:
        policy: the numbers of utility, locks and influence.
        noise: standard deviation of a score's noise, in scores of an update that moves C a row along v.
        weighted_min: how many trainers must have weight; where fewer would, all have the greatest.
        rows_max: the most that a report uses.
        places: of a round, which the beacon draws; 0: all may report.
        direction_norm: the most that v may have (`direction_norm_max`).
    """

    policy: Policy
    noise: Fraction
    weighted_min: int
    rows_max: int
    places: int = 0
    direction_norm: int = NORM_ANY


@dataclass(frozen=True, slots=True)
class ReportScore:
    """What a report proved: y, None where its trainer could have chosen the noise, and how many rows it used."""

    account: bytes
    value: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class OrderedRecord:
    """A steward's record that is final before the round's close, and what the state calls it (`record_digest`)."""

    record: StewardRecord
    digest: Digest


def first_quality_state(
    policy: Policy, founders: Iterable[bytes], stewards: Iterable[bytes], parameters: int
) -> QualityState:
    """Return the state before the first round of training: everybody is vetted, nobody is scored.

    Raises:
        StandingError: as `new_standing`.
    """
    standing = new_standing(founders)
    return QualityState(
        round=0,
        standing=standing,
        weights=np.full(len(standing), policy.weight_max, np.int64),
        scores=np.full(len(standing), NO_SCORE, np.int64),
        norm_bound=0,
        direction=np.zeros(parameters, np.int64),
        stewards=tuple(StewardEntry(account) for account in stewards),
    )


def report_scale(state: QualityState, rows: int, noise: Fraction) -> ScoreScale:
    """Return what a report of so many rows is scored in, in the round after a state that has a direction.

    Raises:
        DirectionError: the state has none.
    """
    return score_scale(state.direction, _moved(state.norm_bound, rows), noise)


def fold_round(
    rule: FoldRule,
    before: QualityState,
    round_number: int,
    total: Int64Array,
    rows: int,
    reports: Sequence[ReportScore],
    records: Sequence[OrderedRecord],
    hits: Int64Array | None = None,
) -> QualityState:
    """Return the state after a round.

    Args:
        total: what was opened, without its row count, shape (parameters,); rows: that count.
        reports: of the close, in any order.
        records: of the round's stewards, one each, admitted by the rule of section 9.
        hits: how often each trainer was drawn (`round_places`), in the standing's order; None: once.
    """
    # 1. scores, standing, weights
    scores = np.full(len(before.standing), NO_SCORE, np.int64)
    standing, weights = before.standing, before.weights.copy()
    if before.has_direction:
        ones = np.ones(len(standing), np.int64)
        hits = ones if hits is None else hits
        locked = standing.locked_until > standing.round
        scores, used = _scores(rule, before, reports, (hits > 0) | locked)
        places, hits = np.flatnonzero(scores != NO_SCORE), np.where(locked, 0, hits)
        scored = ScoredRound(places, scores[places], _paid(hits[places], used[places]), ones)
        weighed = weigh(rule.policy, standing, scored)
        standing, weights[places] = weighed.standing, weighed.weights
    weights = _next_weights(rule, standing, weights)
    # 2. the norm that the next scores are counted in
    norm_bound = _next_norm(before.norm_bound, (isqrt(inner(total, total)) << NORM_BITS) // max(rows, 1))
    # 3. the next direction
    direction = _direction(rule, before, norm_bound, records)
    # 4. what stewards tell of the model that the state's round began with
    told = [entry.record.opened.score for entry in records if entry.record.opened is not None]
    by_account = {entry.record.account: entry for entry in records}
    return QualityState(
        round=round_number,
        standing=standing,
        weights=weights,
        scores=scores,
        norm_bound=norm_bound,
        direction=direction,
        stewards=tuple(_entry(steward, by_account.get(steward.account)) for steward in before.stewards),
        model_round=before.round if told else 0,
        model_scores=len(told),
        model_score=lower_median(np.array(told, np.int64)) if told else 0,
    )


def _scores(
    rule: FoldRule, before: QualityState, reports: Sequence[ReportScore], may_report: NDArray[np.bool_]
) -> tuple[Int64Array, Int64Array]:
    """Return every trainer's score and how many rows it used.

    The score is `NO_SCORE` of who did not report, may not, or could have chosen its noise.
    """
    standing = before.standing
    place = {account: index for index, account in enumerate(standing.addresses)}
    scores, used = np.full(len(standing), NO_SCORE, np.int64), np.zeros(len(standing), np.int64)
    for report in reports:
        index = place[report.account]
        if report.value is not None and may_report[index]:
            scale = report_scale(before, report.rows, rule.noise)
            (scores[index],) = normalise_scores([report.value], scale)
            used[index] = report.rows
    return scores, used


def _paid(hits: Int64Array, used: Int64Array) -> Int64Array:
    """Return each hit times the rows that a report used, but for no more rows than the median report has.

    Whether rows differ nobody sees, so most say how many are usual. Who is locked out has no hit, and no say in it.
    """
    drawn = hits > 0
    return hits * np.minimum(used, lower_median(used[drawn])) if drawn.any() else hits


def _next_weights(rule: FoldRule, standing: Standing, weights: Int64Array) -> Int64Array:
    """Return weights without those of who is locked out or on probation; if too few are left, all count alike."""
    counts = (standing.vetted == 1) & (standing.locked_until <= standing.round)
    weights = np.where(counts, weights, 0)
    if int((weights > 0).sum()) < rule.weighted_min:
        return np.full(len(weights), rule.policy.weight_max, np.int64)
    return weights


def _next_norm(norm_bound: int, moved: int) -> int:
    """Return C after a round whose mean update moves so much a row: slow to fall, so that weak rounds look weak."""
    if not norm_bound:
        return max(NORM_MIN, min(NORM_MAX, moved))
    if moved > norm_bound:
        return min(NORM_MAX, norm_bound + (norm_bound >> _RISE_BITS))
    return max(NORM_MIN, norm_bound - (norm_bound >> _FALL_BITS)) if moved < norm_bound else norm_bound


def _direction(rule: FoldRule, before: QualityState, norm_bound: int, records: Sequence[OrderedRecord]) -> Int64Array:
    """Return v from the records' median; zeros where half of the stewards or more have none, or nothing can be scored.

    The last aggregate is not taken out: at level proved no trainer can send it again.
    """
    none = np.zeros(len(before.direction), np.int64)
    if 2 * len(records) <= len(before.stewards):
        return none
    try:
        median = median_direction([entry.record.direction for entry in records], [1] * len(records))
        direction = scoring_direction(median, None, norm_max=rule.direction_norm)
        scale = score_scale(direction, _moved(norm_bound, rule.rows_max), rule.noise)  # no report is longer
    except DirectionError:
        return none
    return direction if scale.unit << scale.shift < REACH_MAX else none


def _moved(norm_bound: int, rows: int) -> int:
    return max(norm_bound * rows >> NORM_BITS, 1)


def _entry(steward: StewardEntry, found: OrderedRecord | None) -> StewardEntry:
    if found is None:
        return StewardEntry(steward.account, registered=steward.registered)
    said = found.record
    return replace(steward, record=found.digest, commitment=said.commitment, registered=said.registered)
