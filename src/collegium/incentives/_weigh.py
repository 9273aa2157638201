"""One round weighed: proved scores become influence, points, locks and the next standing. docs/spec/quality.md.

The steps are numbered as there. Nothing here sees an update, and nothing is random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._errors import RoundInputError
from ._fixed import (
    FRACTION_BITS,
    ONE,
    PRECISION_BITS,
    STAKE_MAX,
    Int64Array,
    lower_median,
    median_deviation,
    quantile,
    weighted_median,
)
from ._policy import Policy
from ._standing import COUNT_MAX, POINTS_MAX, UTILITY_MAX, Standing, utility

__all__ = ["HITS_MAX", "Lock", "LockReason", "ScoredRound", "Weighed", "reference_utility", "weigh"]

HITS_MAX: Final = 1 << 16  # of places that one trainer is drawn for
PAID_MAX: Final = 1 << 40  # hits times rows
_ESTABLISHED_MIN: Final = 3  # fewer say nothing robust of a round: then everybody who reported does
_SURE_BITS: Final = 40  # a precision above 2^20 is as good as this one where deviations are counted
_OFFSET_MAX: Final = 1 << 18

LockReason: TypeAlias = Literal["useless", "fell"]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRound:
    """What is public of a round once its close is final.

    Attributes:
        reporters: places in the standing of the trainers whose reports are admitted, ascending.
        scores: theirs, from -2^16 to 2^16 (`normalise_scores`).
        hits: how often each was drawn (`draw`), at least once, times the rows that are paid; 0 of who is locked out and
            appeals.
        stakes: every trainer's stake, in units that keep the sum within 2^61; 0 is no say in medians.
    """

    reporters: Int64Array
    scores: Int64Array
    hits: Int64Array
    stakes: Int64Array

    def check(self, standing: Standing) -> None:
        """Refuse what does not fit the standing.

        Raises:
            RoundInputError: shapes, order, ranges, or hits that do not go with locks.
        """
        arrays = (self.reporters, self.scores, self.hits, self.stakes)
        if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays) or not (
            self.reporters.shape == self.scores.shape == self.hits.shape and len(self.stakes) == len(standing)
        ):
            raise RoundInputError(
                f"arrays have types {[str(array.dtype) for array in arrays]} and shapes "
                f"{[array.shape for array in arrays]}, expected int64, one of each for a report and "
                f"{len(standing)} stakes"
            )
        if sum(self.stakes.tolist()) > STAKE_MAX or (self.stakes < 0).any():
            raise RoundInputError(f"stakes are negative, or more than {STAKE_MAX} in all")
        if not self.reporters.size:
            return
        if (np.diff(self.reporters) <= 0).any() or self.reporters[0] < 0 or self.reporters[-1] >= len(standing):
            raise RoundInputError(f"reporters are not ascending places below {len(standing)}")
        if self.scores.min() < -ONE or self.scores.max() > ONE or self.hits.min() < 0 or self.hits.max() > PAID_MAX:
            raise RoundInputError(f"scores beyond 2^{FRACTION_BITS}, or hits outside 0 to {PAID_MAX}")
        wrong = np.flatnonzero((self.hits == 0) != self._locked(standing))
        if wrong.size:
            place, hits = int(self.reporters[wrong[0]]), int(self.hits[wrong[0]])
            raise RoundInputError(
                f"trainer {place} reports, drawn {hits} times, expected none where it is locked out and else one",
                place=place,
            )

    def _locked(self, standing: Standing) -> Mask:
        locked: Mask = standing.locked_until[self.reporters] > standing.round
        return locked

    def parted(self, standing: Standing) -> tuple[Mask, ScoredRound]:
        """Return which reporters are locked out, and the round without them: they have no say in it."""
        locked = self._locked(standing)
        free = {name: getattr(self, name)[~locked] for name in ("reporters", "scores", "hits")}
        return locked, replace(self, **free)


@dataclass(frozen=True, slots=True)
class Lock:
    """A trainer locked out: its place, why, and the first round in which it may be drawn again."""

    place: int
    reason: LockReason
    until: int


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """What a round leads to.

    Attributes:
        standing: the state before the next round.
        weights: each report's weight in the sum, 0 to `weight_max`.
        points: what each report earns, 2^-16.
        locks: who is locked out from the next round on.
    """

    standing: Standing
    weights: Int64Array
    points: Int64Array
    locks: tuple[Lock, ...]


def weigh(policy: Policy, standing: Standing, scored: ScoredRound) -> Weighed:
    """Return the weights, points and locks of a round, and the standing after it.

    Raises:
        RoundInputError: the round does not fit the standing.
    """
    scored.check(standing)
    locked, heard = scored.parted(standing)
    if not heard.reporters.size:
        return Weighed(replace(standing, round=standing.round + 1), *(np.zeros(len(locked), np.int64),) * 2, ())
    estimates = _learn(policy, standing, scored, heard)
    window = _watch(policy, estimates, heard)
    weighed = _judge(policy, window, heard)
    return _hear_appeals(policy, window, weighed, scored, locked) if locked.any() else weighed


def reference_utility(policy: Policy, standing: Standing, stakes: Int64Array) -> int:
    """Return the stake-weighted median utility of vetted trainers, at least 2^-16; 1 where nobody vetted has stake."""
    eligible = (standing.vetted == 1) & (standing.locked_until <= standing.round) & (stakes > 0)
    if not eligible.any():
        return ONE
    estimate, _ = utility(policy, standing)
    return max(weighted_median(estimate[eligible], stakes[eligible]), 1)


# 1, 2. Utility: recursive ridge regression of scores on utilities, with forgetting


class _Signal(NamedTuple):
    """How strongly a round speaks (2^-16), and the square of the deviation of what it says (2^-32)."""

    strength: int
    variance: int


def _is_quiet(policy: Policy, standing: Standing) -> bool:
    """Return whether the last round weighed says nothing of anybody: its signal is weak, or weak beside the first."""
    floor = max(policy.signal_floor, policy.signal_share * standing.signal_first >> FRACTION_BITS)
    return standing.signal <= floor


def _established(standing: Standing, reporters: Int64Array) -> Mask:
    vetted: Mask = standing.vetted[reporters] == 1
    return vetted if int(vetted.sum()) >= _ESTABLISHED_MIN else np.ones(len(reporters), np.bool_)


def _signal(policy: Policy, standing: Standing, scored: ScoredRound) -> _Signal:
    """Return the round's signal, the least absolute fit of scores to utilities, and its noise from the residuals."""
    chosen = _established(standing, scored.reporters)
    places, y = scored.reporters[chosen], scored.scores[chosen]
    estimate, precision = (column[places] for column in utility(policy, standing))
    if not standing.signal_first:
        strength = quantile(y, 9, 10)
    else:
        useful = 4 * estimate > lower_median(estimate)
        useful &= estimate > 0
        strength = standing.signal
        if int(useful.sum()) >= _ESTABLISHED_MIN:
            u, scores = estimate[useful], y[useful]
            strength = weighted_median((scores << FRACTION_BITS) // u, u)
    strength = max(1, min(ONE, strength))
    deviation = median_deviation(y - (strength * estimate >> FRACTION_BITS))
    explained = (strength**2 << PRECISION_BITS) // lower_median(precision)
    least = max((3 * deviation // 10) ** 2, policy.noise_floor**2)
    return _Signal(strength, max(deviation**2 - explained, least))


def _learn(policy: Policy, standing: Standing, scored: ScoredRound, heard: ScoredRound) -> Standing:
    """Return the standing with this round's scores in every reporter's utility, in the scale of those `heard`."""
    strength, variance = _signal(policy, standing, heard)
    first = standing.signal_first or strength
    clock = max(min(ONE, (strength**2 << FRACTION_BITS) // first**2), policy.clock_floor)
    keep = ONE - ((ONE - policy.memory) * clock >> FRACTION_BITS)
    precision = standing.precision * keep >> FRACTION_BITS
    information = standing.information * keep >> FRACTION_BITS
    if not _is_quiet(policy, replace(standing, signal=strength, signal_first=first)):
        precision[scored.reporters] += (strength**2 << PRECISION_BITS) // variance
        information[scored.reporters] += (strength * scored.scores << PRECISION_BITS) // variance
    reports, counted = standing.reports.copy(), standing.scored.copy()
    reports[scored.reporters] += 1
    counted[heard.reporters] += 1
    return replace(
        standing,
        signal=strength,
        signal_first=first,
        precision=precision,
        information=information,
        reports=reports,
        scored=counted,
    )


# 3. Window: has a trainer fallen below its own baseline?


def _watch(policy: Policy, standing: Standing, scored: ScoredRound) -> Standing:
    """Return the standing with this round's offsets in the window and in the baselines."""
    reporters = scored.reporters
    offset = scored.scores - _median_score(standing, scored)
    away = offset - standing.baseline[reporters]
    deviation = max(median_deviation(away), policy.window_noise_floor)
    precision = standing.window_precision * policy.window >> FRACTION_BITS
    information = standing.window_information * policy.window >> FRACTION_BITS
    precision[reporters] += (1 << 2 * FRACTION_BITS + PRECISION_BITS) // deviation**2
    information[reporters] += (away << FRACTION_BITS + PRECISION_BITS) // deviation**2
    baseline = standing.baseline.copy()
    rate = np.maximum(ONE // standing.scored[reporters], policy.baseline_rate)
    baseline[reporters] += rate * np.clip(away, -2 * deviation, 2 * deviation) >> FRACTION_BITS
    return replace(standing, window_precision=precision, window_information=information, baseline=baseline)


def _median_score(standing: Standing, scored: ScoredRound) -> int:
    return lower_median(scored.scores[_established(standing, scored.reporters)])


def _fallen(policy: Policy, standing: Standing, scored: ScoredRound) -> tuple[Mask, Mask]:
    """Return which reporters fell below their baseline: probably and of no use now, and for sure and of none lately."""
    reporters = scored.reporters
    precision = standing.window_precision[reporters]
    information = standing.window_information[reporters]
    mean = (information << FRACTION_BITS) // (precision + policy.window_prior)
    mean = np.clip(mean, -_OFFSET_MAX, _OFFSET_MAX)
    square = -information * -mean
    median = _median_score(standing, scored)
    level = policy.fall_level * median >> FRACTION_BITS
    down = (information < 0) & (standing.reports[reporters] > policy.reports_min)
    bits = PRECISION_BITS - FRACTION_BITS
    paused = down & (scored.scores < level) & (square > policy.pause_deviations**2 << bits)
    recent = median + standing.baseline[reporters] + mean
    return paused, down & (recent < level) & (square > policy.fall_deviations**2 << bits)


# 4, 5, 6. Probation, locks, influence, points, appeals

_VOIDED: Final = ("precision", "information", "window_precision", "window_information", "reports", "vetted")


def _surely(distance: Int64Array, precision: Int64Array, deviations: int) -> Mask:
    """Return where a distance (2^-16) is positive and exceeds so many deviations of an estimate of this precision."""
    capped = np.minimum(precision, 1 << _SURE_BITS)
    return (distance > 0) & ((distance * capped >> PRECISION_BITS) * distance > deviations**2)


def _judge(policy: Policy, standing: Standing, scored: ScoredRound) -> Weighed:
    """Return who is vetted or locked out by now, and what each report weighs and earns."""
    reporters = scored.reporters
    reference = reference_utility(policy, standing, scored.stakes)
    estimate, precision = (column[reporters] for column in utility(policy, standing))
    judged = standing.reports[reporters] >= policy.reports_min
    bad = (policy.useless * reference >> FRACTION_BITS) - estimate
    useless = judged & _surely(bad, precision, policy.useless_deviations)
    paused, fallen = _fallen(policy, standing, scored)
    if _is_quiet(policy, standing):
        useless, fallen = np.zeros_like(useless), np.zeros_like(fallen)
    good = estimate - (policy.vetted * reference >> FRACTION_BITS)
    vetted = standing.vetted.copy()
    vetted[reporters[judged & _surely(good, precision, policy.vetted_deviations)]] = 1

    counts = (vetted[reporters] == 1) & ~useless & ~paused & ~fallen
    positive = np.where(counts, np.maximum(estimate, 0), 0)
    full = max(policy.full_weight * reference >> FRACTION_BITS, 1)
    weights = np.minimum((2 * policy.weight_max * positive + full) // (2 * full), policy.weight_max)
    paid = np.minimum(positive, policy.reward_cap * reference >> FRACTION_BITS)
    points = scored.hits * (standing.signal * paid >> FRACTION_BITS)
    total = standing.points.copy()
    total[reporters] = np.minimum(total[reporters] + points, POINTS_MAX)
    after = replace(standing, round=standing.round + 1, vetted=vetted, points=total)
    locked, locks = _lock(policy, after, reporters, useless, fallen)
    return Weighed(locked, weights, points, locks)


def _lock(
    policy: Policy, standing: Standing, reporters: Int64Array, useless: Mask, fallen: Mask
) -> tuple[Standing, tuple[Lock, ...]]:
    """Return the standing with the useless and fallen locked out: their history is void, their baseline stays."""
    out = useless | fallen
    places = reporters[out]
    if not places.size:
        return standing, ()
    columns = {name: getattr(standing, name).copy() for name in (*_VOIDED, "locks", "locked_until")}
    rounds = policy.lock_rounds << np.minimum(columns["locks"][places], policy.lock_doublings)
    columns["locked_until"][places] = np.minimum(standing.round + rounds, COUNT_MAX)
    columns["locks"][places] += 1
    for name in _VOIDED:
        columns[name][places] = 0
    locks = tuple(
        Lock(int(place), "useless" if bad else "fell", int(columns["locked_until"][place]))
        for place, bad in zip(places, useless[out], strict=True)
    )
    return replace(standing, **columns), locks


def _hear_appeals(policy: Policy, learned: Standing, weighed: Weighed, scored: ScoredRound, locked: Mask) -> Weighed:
    """Return the outcome with a row for who is `locked` out: no weight, no pay, but an end of its lock if it is useful.

    That is surely so where the estimate that begins at the level of probation's end, not at the prior, is far above it.
    """
    weights, points = np.zeros((2, len(locked)), np.int64)
    weights[~locked], points[~locked] = weighed.weights, weighed.points
    places = scored.reporters[locked]
    level = policy.vetted * reference_utility(policy, learned, scored.stakes) >> FRACTION_BITS
    precision = learned.precision[places] + policy.prior_precision
    prior = policy.prior_precision * level >> FRACTION_BITS
    estimate = ((learned.information[places] + prior) << FRACTION_BITS) // precision
    above = np.clip(estimate, -UTILITY_MAX, UTILITY_MAX) - level
    useful = (learned.reports[places] >= policy.reports_min) & _surely(above, precision, policy.appeal_deviations)
    if _is_quiet(policy, learned):
        useful = np.zeros_like(useful)
    until = weighed.standing.locked_until.copy()
    until[places[useful]] = weighed.standing.round
    return Weighed(replace(weighed.standing, locked_until=until), weights, points, weighed.locks)
