"""One round weighed: scores become utilities, weights, points, locks (docs/spec/quality.md, sections 3 to 6).

A *part* is counted (`_quality_state`): scores stand in it, standing and weights change in it. Trainers are named by
their places; a *list* of them is how many, then which. Each has one stake.
"""

from __future__ import annotations

from collegium.settlement.programs._medians import median_deviation, median_of, sort, weighted_median
from collegium.settlement.programs._quality_state import (
    BASELINE,
    INFORMATION,
    IS_VETTED,
    LOCKED_UNTIL,
    LOCKS,
    POINTS,
    PRECISION,
    Q_FIRST_SIGNAL,
    Q_SCORES,
    Q_SIGNAL,
    Q_STANDING_ROUND,
    Q_WEIGHTS,
    REPORTS,
    SCORED,
    WINDOW_INFORMATION,
    WINDOW_PRECISION,
    column,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._signed import clip, divide_down, is_positive, larger, smaller
from collegium.settlement.programs._task import TRAINERS, WEIGHT_MAX
from collegium.settlement.programs._words import memory, shift_right_signed, signed_less

PRIOR_UTILITY: int
PRIOR_PRECISION: int
MEMORY: int
CLOCK_FLOOR: int
SIGNAL_FLOOR: int
SIGNAL_SHARE: int
NOISE_FLOOR: int
WINDOW: int
WINDOW_PRIOR: int
WINDOW_NOISE_FLOOR: int
BASELINE_RATE: int
USELESS: int
USELESS_DEVIATIONS: int
PAUSE_DEVIATIONS: int
FALL_DEVIATIONS: int
FALL_LEVEL: int
REPORTS_MIN: int
VETTED: int
VETTED_DEVIATIONS: int
APPEAL_DEVIATIONS: int
LOCK_ROUNDS: int
LOCK_DOUBLINGS: int
FULL_WEIGHT: int
REWARD_CAP: int
# how a report is judged
IS_LOCKED = 1
IS_PAUSED = 2
FRACTION_BITS = 16
PRECISION_BITS = 20
SCALE = 1 << FRACTION_BITS  # stands for 1
ROBUST_MIN = 3  # fewer say nothing robust of a round: then all do
SURE_MAX = 1 << 40
OFFSET_MAX = 1 << 18
UTILITY_MAX = 4 << FRACTION_BITS
COUNT_MAX = 1 << 40
POINTS_MAX = (1 << 62) - 1


def weigh(part: int, scored: int, hits: int) -> None:
    """Move a part's standing to after a round in which these trainers, in ascending order, are scored.

    `hits`: the address of how often each trainer is drawn, times the rows that are paid.
    """
    heard, appeals = _part(part, scored)
    for index in range(1, memory[appeals] + 1):
        memory[part + Q_WEIGHTS + memory[appeals + index]] = 0
    if memory[heard] > 0:
        chosen = _choose(part, heard)
        _learn(part, scored, chosen)
        _watch(part, heard, chosen)
        usual = reference(part)
        _judge(part, heard, chosen, hits, usual)
        _hear_appeals(part, appeals, shift_right_signed(VETTED * usual, FRACTION_BITS))
    memory[part + Q_STANDING_ROUND] = memory[part + Q_STANDING_ROUND] + 1


def _cell(part: int, number: int, place: int) -> int:
    """Return a number of a column."""
    return memory[column(part, number) + place]


def _add(part: int, number: int, place: int, increment: int) -> None:
    """Add to a number of a column."""
    at = column(part, number) + place
    memory[at] = memory[at] + increment


def _score(part: int, place: int) -> int:
    """Return a trainer's score."""
    return memory[part + Q_SCORES + place]


def _part(part: int, scored: int) -> tuple[int, int]:
    """Return the list's trainers that are not locked out, who alone have a say in the round, and the others."""
    heard, appeals = allocate(1 + memory[scored]), allocate(1 + memory[scored])
    for index in range(1, memory[scored] + 1):
        place = memory[scored + index]
        target = appeals if is_locked_out(part, place) == 1 else heard
        memory[target] = memory[target] + 1
        memory[target + memory[target]] = place
    return heard, appeals


def _choose(part: int, scored: int) -> int:
    """Return the vetted ones of a list, all where they are fewer than three."""
    chosen, count = allocate(1 + memory[scored]), 0
    for index in range(1, memory[scored] + 1):
        if _cell(part, IS_VETTED, memory[scored + index]) == 1:
            count += 1
            memory[chosen + count] = memory[scored + index]
    memory[chosen] = count
    return scored if count < ROBUST_MIN else chosen


def _precision(part: int, place: int) -> int:
    """Return how much is known of a trainer's utility, with the prior."""
    return _cell(part, PRECISION, place) + PRIOR_PRECISION


def utility_of(part: int, place: int) -> int:
    """Return a trainer's utility."""
    prior = PRIOR_PRECISION * PRIOR_UTILITY >> FRACTION_BITS
    information = _cell(part, INFORMATION, place) + prior
    return clip(divide_down(information << FRACTION_BITS, _precision(part, place)), UTILITY_MAX)


# --- section 3


def _learn(part: int, scored: int, chosen: int) -> None:
    """Take the scores into the utilities."""
    strength, variance = _signal(part, chosen)
    memory[part + Q_SIGNAL] = strength
    if memory[part + Q_FIRST_SIGNAL] == 0:
        memory[part + Q_FIRST_SIGNAL] = strength
    first = memory[part + Q_FIRST_SIGNAL]
    clock = larger(CLOCK_FLOOR, smaller(SCALE, (strength * strength << FRACTION_BITS) // (first * first)))
    keep = SCALE - ((SCALE - MEMORY) * clock >> FRACTION_BITS)
    _forget(column(part, PRECISION), keep)
    _forget(column(part, INFORMATION), keep)
    for index in range(1, memory[scored] + 1):
        place = memory[scored + index]
        _add(part, REPORTS, place, 1)
        _add(part, SCORED, place, 1 - is_locked_out(part, place))
        if is_quiet(part) == 0:
            _add(part, PRECISION, place, (strength * strength << PRECISION_BITS) // variance)
            told = strength * _score(part, place) << PRECISION_BITS
            _add(part, INFORMATION, place, divide_down(told, variance))


def is_quiet(part: int) -> int:
    """Return 1 if the round says nothing of anybody: its signal is weak, or weak beside the first one; else 0."""
    share = SIGNAL_SHARE * memory[part + Q_FIRST_SIGNAL] >> FRACTION_BITS
    return 1 if memory[part + Q_SIGNAL] <= larger(SIGNAL_FLOOR, share) else 0


def _forget(cells: int, keep: int) -> None:
    """Keep so much of every number of a column."""
    for at in range(cells, cells + TRAINERS):
        memory[at] = shift_right_signed(memory[at] * keep, FRACTION_BITS)


def _signal(part: int, chosen: int) -> tuple[int, int]:
    """Return how strongly the round speaks, and the square of the deviation of what it says."""
    count = memory[chosen]
    utilities, precisions, left = allocate(count), allocate(count), allocate(count)
    for index in range(count):
        place = memory[chosen + 1 + index]
        memory[utilities + index] = utility_of(part, place)
        memory[precisions + index] = _precision(part, place)
    strength = _strength(part, chosen, utilities)
    for index in range(count):
        expected = shift_right_signed(strength * memory[utilities + index], FRACTION_BITS)
        memory[left + index] = _score(part, memory[chosen + 1 + index]) - expected
    deviation = median_deviation(left, count)
    explained = (strength * strength << PRECISION_BITS) // median_of(precisions, count)
    floor = 3 * deviation // 10
    least = larger(floor * floor, NOISE_FLOOR * NOISE_FLOOR)
    return strength, larger(deviation * deviation - explained, least)


def _strength(part: int, chosen: int, utilities: int) -> int:
    """Return the least absolute fit of scores to utilities; in the first round what nine tenths do not exceed."""
    count = memory[chosen]
    if memory[part + Q_FIRST_SIGNAL] == 0:
        scores = _scores(part, chosen)
        sort(scores, count)
        strength = memory[scores + (9 * count + 9) // 10 - 1]
    else:
        middle = median_of(utilities, count)
        strength, useful = memory[part + Q_SIGNAL], 0
        ratios, weights = allocate(count), allocate(count)
        for index in range(count):
            utility = memory[utilities + index]
            if signed_less(0, utility) and signed_less(middle, 4 * utility):
                score = _score(part, memory[chosen + 1 + index])
                memory[ratios + useful] = divide_down(score << FRACTION_BITS, utility)
                memory[weights + useful] = utility
                useful += 1
        if useful >= ROBUST_MIN:
            strength = weighted_median(ratios, weights, useful)
    return larger(1, smaller(SCALE, strength))


def _scores(part: int, chosen: int) -> int:
    """Return the address of a list's scores."""
    values = allocate(memory[chosen])
    for index in range(memory[chosen]):
        memory[values + index] = _score(part, memory[chosen + 1 + index])
    return values


# --- section 4


def _watch(part: int, scored: int, chosen: int) -> None:
    """Take the scores' distances from the trainers' baselines into windows and baselines."""
    reports, middle = memory[scored], median_of(_scores(part, chosen), memory[chosen])
    away = allocate(reports)
    for index in range(reports):
        place = memory[scored + 1 + index]
        memory[away + index] = _score(part, place) - middle - _cell(part, BASELINE, place)
    deviation = larger(median_deviation(away, reports), WINDOW_NOISE_FLOOR)
    square = deviation * deviation
    _forget(column(part, WINDOW_PRECISION), WINDOW)
    _forget(column(part, WINDOW_INFORMATION), WINDOW)
    for index in range(reports):
        place, distance = memory[scored + 1 + index], memory[away + index]
        _add(part, WINDOW_PRECISION, place, (1 << 2 * FRACTION_BITS + PRECISION_BITS) // square)
        told = divide_down(distance << FRACTION_BITS + PRECISION_BITS, square)
        _add(part, WINDOW_INFORMATION, place, told)
        rate = larger(SCALE // _cell(part, SCORED, place), BASELINE_RATE)
        moved = shift_right_signed(rate * clip(distance, 2 * deviation), FRACTION_BITS)
        _add(part, BASELINE, place, moved)


def _fallen(part: int, place: int, middle: int) -> int:
    """Return whether a trainer fell below its baseline: `IS_LOCKED` for sure, `IS_PAUSED` probably, or 0."""
    information = _cell(part, WINDOW_INFORMATION, place)
    if signed_less(information, 0) and _cell(part, REPORTS, place) > REPORTS_MIN:
        precision = _cell(part, WINDOW_PRECISION, place) + WINDOW_PRIOR
        mean = clip(divide_down(information << FRACTION_BITS, precision), OFFSET_MAX)
        square = information * mean
        level = shift_right_signed(FALL_LEVEL * middle, FRACTION_BITS)
        recent = middle + _cell(part, BASELINE, place) + mean
        bits = PRECISION_BITS - FRACTION_BITS
        fell = signed_less(recent, level) and square > FALL_DEVIATIONS * FALL_DEVIATIONS << bits
        if fell and is_quiet(part) == 0:
            return IS_LOCKED
        if signed_less(_score(part, place), level) and square > PAUSE_DEVIATIONS * PAUSE_DEVIATIONS << bits:
            return IS_PAUSED
    return 0


# --- sections 5 and 6


def reference(part: int) -> int:
    """Return the median utility of vetted trainers that are not locked out, 1 where there are none."""
    utilities, count = allocate(TRAINERS), 0
    for place in range(TRAINERS):
        if is_free(part, place) == 1:
            memory[utilities + count] = utility_of(part, place)
            count += 1
    return SCALE if count == 0 else larger(median_of(utilities, count), 1)


def is_free(part: int, place: int) -> int:
    """Return 1 if a trainer is vetted and not locked out, else 0."""
    if _cell(part, IS_VETTED, place) == 0:
        return 0
    return 1 - is_locked_out(part, place)


def is_locked_out(part: int, place: int) -> int:
    """Return 1 if a trainer is locked out, else 0."""
    return 1 if _cell(part, LOCKED_UNTIL, place) > memory[part + Q_STANDING_ROUND] else 0


def _judge(part: int, scored: int, chosen: int, hits: int, usual: int) -> None:
    """Say who is vetted or locked out by now, and what each report weighs and earns; `usual`: the median's utility."""
    middle = median_of(_scores(part, chosen), memory[chosen])
    full = larger(FULL_WEIGHT * usual >> FRACTION_BITS, 1)
    cap = REWARD_CAP * usual >> FRACTION_BITS
    for index in range(1, memory[scored] + 1):
        place = memory[scored + index]
        utility = utility_of(part, place)
        judged = _fallen(part, place, middle)
        if _vet(part, place, utility, usual) == 1 and is_quiet(part) == 0:
            judged = IS_LOCKED
        positive = 0
        if judged == 0 and _cell(part, IS_VETTED, place) == 1:
            positive = larger(utility, 0)
        weight = (2 * WEIGHT_MAX * positive + full) // (2 * full)
        memory[part + Q_WEIGHTS + place] = smaller(weight, WEIGHT_MAX)
        points = memory[hits + place] * (memory[part + Q_SIGNAL] * smaller(positive, cap) >> FRACTION_BITS)
        memory[column(part, POINTS) + place] = smaller(_cell(part, POINTS, place) + points, POINTS_MAX)
        if judged == IS_LOCKED:
            _lock(part, place)


def _vet(part: int, place: int, utility: int, usual: int) -> int:
    """Return 1 if a trainer is useless for sure, else 0; end its probation if it is good for sure."""
    if _cell(part, REPORTS, place) < REPORTS_MIN:
        return 0
    precision = smaller(_precision(part, place), SURE_MAX)
    good = utility - shift_right_signed(VETTED * usual, FRACTION_BITS)
    if _surely(good, precision, VETTED_DEVIATIONS) == 1:
        memory[column(part, IS_VETTED) + place] = 1
    bad = shift_right_signed(USELESS * usual, FRACTION_BITS) - utility
    return _surely(bad, precision, USELESS_DEVIATIONS)


def _surely(distance: int, precision: int, deviations: int) -> int:
    """Return 1 if a distance is positive and exceeds so many deviations, else 0."""
    if is_positive(distance) == 0:
        return 0
    return 1 if (distance * precision >> PRECISION_BITS) * distance > deviations * deviations else 0


def _lock(part: int, place: int) -> None:
    """Lock a trainer out from the next round on: its history is void, its baseline stays."""
    locks = _cell(part, LOCKS, place)
    until = memory[part + Q_STANDING_ROUND] + 1 + (LOCK_ROUNDS << smaller(locks, LOCK_DOUBLINGS))
    memory[column(part, LOCKED_UNTIL) + place] = smaller(until, COUNT_MAX)
    memory[column(part, LOCKS) + place] = locks + 1
    memory[column(part, PRECISION) + place] = 0
    memory[column(part, INFORMATION) + place] = 0
    memory[column(part, WINDOW_PRECISION) + place] = 0
    memory[column(part, WINDOW_INFORMATION) + place] = 0
    memory[column(part, REPORTS) + place] = 0
    memory[column(part, IS_VETTED) + place] = 0


def _hear_appeals(part: int, appeals: int, level: int) -> None:
    """End the locks of those whose scores under them show that their utility is above a level for sure."""
    if is_quiet(part) == 1:
        return
    for index in range(1, memory[appeals] + 1):
        place = memory[appeals + index]
        information = _cell(part, INFORMATION, place) + (PRIOR_PRECISION * level >> FRACTION_BITS)
        precision = _precision(part, place)
        estimate = clip(divide_down(information << FRACTION_BITS, precision), UTILITY_MAX)
        known = smaller(precision, SURE_MAX)
        useful = _surely(estimate - level, known, APPEAL_DEVIATIONS) == 1
        if useful and _cell(part, REPORTS, place) >= REPORTS_MIN:
            memory[column(part, LOCKED_UNTIL) + place] = memory[part + Q_STANDING_ROUND] + 1
