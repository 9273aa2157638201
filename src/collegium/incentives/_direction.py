"""The direction that updates are scored along: the stewards' median, less what the last aggregate already said.

A steward's gradient is brought to one norm, so that nobody counts more for having more rows or larger numbers. The
component along the last aggregate is taken out, or sending that aggregate again would score. docs/spec/quality.md,
section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final

import numpy as np

from ._errors import DirectionError
from ._fixed import FRACTION_BITS, ONE, Int64Array, weighted_median_rows

__all__ = [
    "DIRECTION_BITS",
    "STEWARD_NORM_BITS",
    "ScoreScale",
    "direction_norm_max",
    "median_direction",
    "normalise_direction",
    "normalise_scores",
    "score_scale",
    "scoring_direction",
    "without_component",
]

STEWARD_NORM_BITS: Final = 20
DIRECTION_BITS: Final = 15  # entries that a score's proof takes (`proofs.DIRECTION_MAX`)
DIRECTION_BITS_MIN: Final = 3  # what is left of them where updates may be so long that a score needs the room
NORM_ANY: Final = 1 << 60  # no direction is as long
ENTRIES_MAX: Final = 1 << 24
UNIT_BITS: Final = 16
SHIFT_MAX: Final = 48  # the most that a score's proof takes
REACH_MAX: Final = 9 << 58  # 9/8 of what <v, x> may be where |v| is as long as it may: more was no proved update's C
_COEFFICIENT_BITS: Final = 20
_LEFT_BITS: Final = 40
_LEFT_MIN: Final = 1 << 29  # of 2^39 or more, where rounding leaves less than 2^21
_NORM_SLACK: Final = 4  # what a norm of 20 bits, rounded down, is off by
_NORM_ROOTS: Final = 16  # the least norm that a direction is given, in roots of its length
_REACHES: Final = 8  # of what <v, x> may be: as much again is y, and noise is up to twice as much


def normalise_direction(gradient: Int64Array) -> Int64Array:
    """Return a steward's vector at norm 2^20, every entry rounded down from 2^20 g / |g|, by exact integers.

    Raises:
        DirectionError: the gradient is zero, no vector, or longer than 2^24.
    """
    _check_vector(gradient, "a gradient")
    entries = _with_bits(gradient, STEWARD_NORM_BITS)
    norm = isqrt(inner(entries, entries))
    return (entries << STEWARD_NORM_BITS) // norm


def median_direction(directions: Sequence[Int64Array], stakes: Sequence[int]) -> Int64Array:
    """Return the stake-weighted median of the stewards' directions, entry by entry.

    Raises:
        DirectionError: one is not of norm 2^20 as `normalise_direction` leaves it, or lengths differ.
        MedianError: there are none, or a stake is not positive.
    """
    lengths = {direction.size for direction in directions}
    if len(lengths) > 1:
        raise DirectionError(f"directions have lengths {sorted(lengths)}, expected one")
    for index, direction in enumerate(directions):
        _check_vector(direction, f"direction {index}")
        square, low, high = inner(direction, direction), *_norm_range(direction.size)
        if not low**2 <= square <= high**2:
            raise DirectionError(
                f"direction {index} has norm {isqrt(square)}, expected {low} to {high}", index=index, norm=isqrt(square)
            )
    rows = np.stack(list(directions)) if directions else np.empty((0, 0), np.int64)
    return weighted_median_rows(rows, stakes)


def without_component(direction: Int64Array, aggregate: Int64Array, share: int = ONE) -> Int64Array:
    """Return 2^20 v - lambda a, lambda = share 2^20 <v, a> / <a, a> rounded down; v where one of them is zero.

    Both are first brought to 20 bits by a power of two. With the whole share next to nothing is left along a:
    0 <= <result, a> < <a, a>, where <2^20 v, a> was up to 2^20 |v| |a|.

    Args:
        direction: v.
        aggregate: a.
        share: how much of the component is taken out, 0 to 2^16 for all of it.

    Raises:
        DirectionError: a vector is none, too long, or of another length, or the share is out of range.
    """
    _check_vector(direction, "a direction", zero=True)
    _check_vector(aggregate, "an aggregate", zero=True)
    if direction.size != aggregate.size:
        raise DirectionError(f"a direction of {direction.size} entries meets an aggregate of {aggregate.size}")
    if not 0 <= share <= ONE:
        raise DirectionError(f"a share of {share} is to be taken out, expected 0 to {ONE}", share=share)
    if not direction.any() or not aggregate.any():
        return direction
    v, a = _with_bits(direction, _COEFFICIENT_BITS), _with_bits(aggregate, _COEFFICIENT_BITS)
    coefficient = (inner(v, a) * share << _COEFFICIENT_BITS - FRACTION_BITS) // inner(a, a)
    return (v << _COEFFICIENT_BITS) - coefficient * a


def direction_norm_max(parameters: int, update_bound: int, field_size: int) -> int:
    """Return how long v may be, so that no score wraps around the field that it is proved in.

    |<v, x>| <= |v| |x| <= R = |v| sqrt(n) b. C may be an eighth above what updates can move, so that a deviation of at
    most 1/2 makes the noise at most 3.7 x 1.125 R / 2 < 2.1 R, and 2^shift |y| < 3.1 R: 8 R covers all three.

    Args:
        parameters: n, entries of the model.
        update_bound: b, the largest magnitude of an update's entry.
        field_size: of the field.

    Raises:
        DirectionError: v would keep so few bits that rounding decides.
    """
    longest = field_size // (_REACHES * update_bound * (isqrt(parameters - 1) + 1))
    _check_norm_max(longest, parameters)
    return longest


def scoring_direction(
    median: Int64Array, aggregate: Int64Array | None, share: int = ONE, norm_max: int = NORM_ANY
) -> Int64Array:
    """Return the v of a round: the stewards' median less a share of its component along the last aggregate.

    Its largest entry is 2^15, or the next lower power of two with which its norm is sure to be below `norm_max`
    (`direction_norm_max`); that is 2^3 at least.

    Raises:
        DirectionError: next to nothing is left of it, so that rounding would decide, or a vector or norm is refused.
    """
    _check_norm_max(norm_max, median.size)
    left = median
    if aggregate is not None and aggregate.any():
        left = without_component(median, aggregate, share)
        if int(np.abs(left).max()) < _LEFT_MIN:
            raise DirectionError("the direction lies along the last aggregate: next to nothing is left of it")
    _check_vector(left, "what is left of the direction")
    left = _with_bits(left, _LEFT_BITS)
    largest = int(np.abs(left).max())
    longest = ((left << DIRECTION_BITS) + largest // 2) // largest
    norm, room, fewer = isqrt(inner(longest, longest)), norm_max - isqrt(left.size) - 1, 0
    while norm >> fewer >= room:
        fewer += 1
    return ((left << DIRECTION_BITS - fewer) + largest // 2) // largest


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """What a proved score counts: `unit` of them is the score 1 of an update of norm C along v; `sigma` is the noise.

    Attributes:
        shift: the score counts 2^shift of <v, x>.
        unit: |v| C / 2^shift, rounded down; below 2^16.
        sigma: standard deviation of the noise, in the score's own units.
    """

    shift: int
    unit: int
    sigma: int


def score_scale(direction: Int64Array, norm_bound: int, noise: Fraction) -> ScoreScale:
    """Return shift, unit and sigma for updates of norm up to `norm_bound` and noise of so many units.

    Raises:
        DirectionError: the direction is zero, the bound not positive, or the noise not in [0, 4].
    """
    _check_vector(direction, "a direction")
    if norm_bound < 1 or not 0 <= noise <= 4:
        raise DirectionError(f"norm bound {norm_bound} and noise {noise}, expected at least 1, and 0 to 4")
    reach = isqrt(inner(direction, direction) * norm_bound**2)
    shift = max(reach.bit_length() - UNIT_BITS, 0)
    if shift > SHIFT_MAX:
        raise DirectionError(f"scores reach {reach}, expected less than 2^{SHIFT_MAX + UNIT_BITS}", reach=reach)
    unit = max(reach >> shift, 1)
    sigma = int(noise * unit + Fraction(1, 2))
    return ScoreScale(shift, unit, sigma)


def normalise_scores(values: Sequence[int], scale: ScoreScale) -> Int64Array:
    """Return proved scores at 16 fraction bits, floor(2^16 y / unit), cut to [-1, 1]."""
    return np.array([max(-ONE, min(ONE, (value << 16) // scale.unit)) for value in values], np.int64)


def _check_norm_max(norm_max: int, entries: int) -> None:
    least = _NORM_ROOTS * (isqrt(entries) + 1)
    if norm_max < least:
        raise DirectionError(
            f"a direction of {entries} entries may have norm {norm_max}, expected {least} at least",
            entries=entries,
            norm_max=norm_max,
        )


def _check_vector(vector: Int64Array, what: str, *, zero: bool = False) -> None:
    if vector.dtype != np.int64 or vector.ndim != 1 or not 0 < vector.size <= ENTRIES_MAX:
        raise DirectionError(
            f"{what} has type {vector.dtype} and shape {vector.shape}, expected 1 to {ENTRIES_MAX} int64 entries"
        )
    if int(vector.min()) == -(1 << 63):
        raise DirectionError(f"{what} has an entry of -2^63, expected more")
    if not zero and not vector.any():
        raise DirectionError(f"{what} is zero")


def _with_bits(vector: Int64Array, bits: int) -> Int64Array:
    """Return the vector times or by a power of two, rounded down, so that its largest entry has so many bits."""
    excess = int(np.abs(vector).max()).bit_length() - bits
    return vector >> excess if excess > 0 else vector << -excess


def inner(left: Int64Array, right: Int64Array) -> int:
    """Return the exact inner product: in int64 while it fits for sure, else in Python's integers."""
    bits = int(np.abs(left).max()).bit_length() + int(np.abs(right).max()).bit_length() + left.size.bit_length()
    if bits < 63:
        return int(left @ right)
    return sum(a * b for a, b in zip(left.tolist(), right.tolist(), strict=True))


def _norm_range(entries: int) -> tuple[int, int]:
    """Return the norms that rounding every entry down leaves possible: 2^20 give or take the root of the length."""
    slack = isqrt(entries) + _NORM_SLACK
    return max((1 << STEWARD_NORM_BITS) - slack, 0), (1 << STEWARD_NORM_BITS) + slack
