"""A round weighed from its definition, one trainer and one Python integer at a time: slow, plain, without overflow.

Python's integers do not overflow, so that where `weigh` equals this, no int64 did. Trainers are dictionaries of the
columns of a `Standing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ._policy import Policy

ONE = 1 << 16
Row = dict[str, int]


@dataclass
class PlainStanding:
    """What `Standing` holds, as one row a trainer."""

    round: int
    signal: int
    signal_first: int
    rows: list[Row] = field(default_factory=list)


@dataclass
class PlainOutcome:
    """What a round leads to, by report."""

    weights: list[int]
    points: list[int]
    locks: list[tuple[int, str, int]]


def median(values: Sequence[int]) -> int:
    """The lower median."""
    return sorted(values)[(len(values) - 1) // 2]


def median_deviation(values: Sequence[int]) -> int:
    """1.4826 x the median absolute deviation."""
    middle = median(values)
    return median([abs(value - middle) for value in values]) * 97_164 // ONE


def weighted_median(values: Sequence[int], weights: Sequence[int]) -> int:
    """The least value that, with those below, carries at least half of the weight."""
    return min(
        value
        for value in values
        if 2 * sum(w for v, w in zip(values, weights, strict=True) if v <= value) >= sum(weights)
    )


def utility(policy: Policy, row: Row) -> tuple[int, int]:
    """(utility, precision) of a trainer."""
    precision = row["precision"] + policy.prior_precision
    prior = policy.prior_precision * policy.prior_utility // ONE
    estimate = (row["information"] + prior) * ONE // precision
    return max(-4 * ONE, min(4 * ONE, estimate)), precision


def established(state: PlainStanding, reporters: Sequence[int]) -> list[int]:
    """The vetted reporters, all of them where the vetted are fewer than three."""
    vetted = [place for place in reporters if state.rows[place]["vetted"]]
    return vetted if len(vetted) >= 3 else list(reporters)


def signal(policy: Policy, state: PlainStanding, scores: dict[int, int]) -> tuple[int, int]:
    """(strength, variance) of the round."""
    chosen = established(state, sorted(scores))
    known = {place: utility(policy, state.rows[place]) for place in chosen}
    if not state.signal_first:
        strength = sorted(scores[place] for place in chosen)[max(-(-len(chosen) * 9 // 10), 1) - 1]
    else:
        middle = median([u for u, _ in known.values()])
        useful = [place for place in chosen if 4 * known[place][0] > middle and known[place][0] > 0]
        strength = state.signal
        if len(useful) >= 3:
            ratios = [scores[place] * ONE // known[place][0] for place in useful]
            strength = weighted_median(ratios, [known[place][0] for place in useful])
    strength = max(1, min(ONE, strength))
    deviation = median_deviation([scores[place] - strength * known[place][0] // ONE for place in chosen])
    explained = strength**2 * 2**20 // median([precision for _, precision in known.values()])
    least = max((3 * deviation // 10) ** 2, policy.noise_floor**2)
    return strength, max(deviation**2 - explained, least)


def is_quiet(policy: Policy, state: PlainStanding) -> bool:
    """Whether the last round weighed says nothing of anybody."""
    return state.signal <= max(policy.signal_floor, policy.signal_share * state.signal_first // ONE)


def learn(policy: Policy, state: PlainStanding, scores: dict[int, int], heard: dict[int, int]) -> None:
    """Take this round's scores into the utilities, in the scale of those that are heard."""
    strength, variance = signal(policy, state, heard)
    state.signal, state.signal_first = strength, state.signal_first or strength
    clock = max(min(ONE, strength**2 * ONE // state.signal_first**2), policy.clock_floor)
    keep = ONE - (ONE - policy.memory) * clock // ONE
    for place, row in enumerate(state.rows):
        row["precision"] = row["precision"] * keep // ONE
        row["information"] = row["information"] * keep // ONE
        if place in scores:
            row["reports"] += 1
            row["scored"] += place in heard
            if not is_quiet(policy, state):
                row["precision"] += strength**2 * 2**20 // variance
                row["information"] += strength * scores[place] * 2**20 // variance


def watch(policy: Policy, state: PlainStanding, scores: dict[int, int]) -> None:
    """Take this round's offsets into the windows and baselines."""
    middle = median([scores[place] for place in established(state, sorted(scores))])
    away = {place: scores[place] - middle - state.rows[place]["baseline"] for place in sorted(scores)}
    deviation = max(median_deviation(list(away.values())), policy.window_noise_floor)
    for place, row in enumerate(state.rows):
        row["window_precision"] = row["window_precision"] * policy.window // ONE
        row["window_information"] = row["window_information"] * policy.window // ONE
        if place in scores:
            row["window_precision"] += 2**52 // deviation**2
            row["window_information"] += away[place] * 2**36 // deviation**2
            step = max(-2 * deviation, min(2 * deviation, away[place]))
            row["baseline"] += max(ONE // row["scored"], policy.baseline_rate) * step // ONE


def fallen(policy: Policy, state: PlainStanding, middle: int, place: int, score: int) -> tuple[bool, bool]:
    """Whether a reporter fell below its baseline: probably and of no use now, and for sure and of none lately."""
    row = state.rows[place]
    mean = row["window_information"] * ONE // (row["window_precision"] + policy.window_prior)
    mean = max(-4 * ONE, min(4 * ONE, mean))
    square = row["window_information"] * mean
    level = policy.fall_level * middle // ONE
    if row["window_information"] >= 0 or row["reports"] <= policy.reports_min:
        return False, False
    paused = score < level and square > policy.pause_deviations**2 * 16
    return paused, middle + row["baseline"] + mean < level and square > policy.fall_deviations**2 * 16


def surely(distance: int, precision: int, deviations: int) -> bool:
    """Whether a positive distance exceeds so many deviations."""
    return distance > 0 and (distance * min(precision, 2**40) // 2**20) * distance > deviations**2


def appeal(policy: Policy, state: PlainStanding, row: Row, level: int) -> None:
    """End the lock of a trainer that what it sent under it shows to be above a level for sure."""
    precision = row["precision"] + policy.prior_precision
    prior = policy.prior_precision * level // ONE
    estimate = max(-4 * ONE, min(4 * ONE, (row["information"] + prior) * ONE // precision))
    judged = row["reports"] >= policy.reports_min and not is_quiet(policy, state)
    if judged and surely(estimate - level, precision, policy.appeal_deviations):
        row["locked_until"] = state.round


def weigh(
    policy: Policy, state: PlainStanding, scores: dict[int, int], hits: dict[int, int], stakes: Sequence[int]
) -> PlainOutcome:
    """Weigh a round and move the state to after it."""
    every, scores = scores, {p: y for p, y in scores.items() if state.rows[p]["locked_until"] <= state.round}
    if not scores:
        state.round += 1
        return PlainOutcome([0] * len(every), [0] * len(every), [])
    learn(policy, state, every, scores)
    watch(policy, state, scores)
    known = [utility(policy, row) for row in state.rows]
    eligible = [
        place
        for place, row in enumerate(state.rows)
        if row["vetted"] and row["locked_until"] <= state.round and stakes[place]
    ]
    reference = ONE
    if eligible:
        utilities = [known[place][0] for place in eligible]
        reference = max(weighted_median(utilities, [stakes[place] for place in eligible]), 1)
    middle = median([scores[place] for place in established(state, sorted(scores))])
    outcome, of_place = PlainOutcome([], [], []), {}
    state.round += 1
    out = {}
    for place in every.keys() - scores.keys():
        appeal(policy, state, state.rows[place], policy.vetted * reference // ONE)
    for place in sorted(scores):
        row, (estimate, precision) = state.rows[place], known[place]
        judged = row["reports"] >= policy.reports_min
        useless = judged and surely(policy.useless * reference // ONE - estimate, precision, policy.useless_deviations)
        paused, fell = fallen(policy, state, middle, place, scores[place])
        if is_quiet(policy, state):
            useless = fell = False
        if judged and surely(estimate - policy.vetted * reference // ONE, precision, policy.vetted_deviations):
            out[place] = (useless, paused, fell, True)
        else:
            out[place] = (useless, paused, fell, bool(row["vetted"]))
    for place, (useless, paused, fell, vetted) in out.items():
        row, estimate = state.rows[place], known[place][0]
        row["vetted"] = int(vetted)
        counts = vetted and not useless and not paused and not fell
        positive = max(estimate, 0) if counts else 0
        full = max(policy.full_weight * reference // ONE, 1)
        weight = (2 * policy.weight_max * positive + full) // (2 * full)
        paid = min(positive, policy.reward_cap * reference // ONE)
        points = hits[place] * (state.signal * paid // ONE)
        of_place[place] = min(weight, policy.weight_max), points
        row["points"] = min(row["points"] + points, 2**62 - 1)
        if useless or fell:
            until = state.round + policy.lock_rounds * 2 ** min(row["locks"], policy.lock_doublings)
            row["locked_until"] = min(until, 2**40)
            row["locks"] += 1
            for name in ("precision", "information", "window_precision", "window_information", "reports", "vetted"):
                row[name] = 0
            outcome.locks.append((place, "useless" if useless else "fell", row["locked_until"]))
    for place in sorted(every):
        weight, points = of_place.get(place, (0, 0))
        outcome.weights.append(weight)
        outcome.points.append(points)
    return outcome
