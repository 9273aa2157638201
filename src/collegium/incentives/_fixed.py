"""Fixed point: what the integers of this room stand for, and medians of them.

A utility, a score, a signal is held as round(2^16 x) (`ONE`), a precision (one over a variance) as 2^20 times itself
(`PRECISION_ONE`), a square as 2^32 times itself. Division rounds down, so all machines agree. Arrays are int64: no
product below can leave it, for the reasons in docs/spec/quality.md, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._errors import MedianError

__all__ = [
    "FRACTION_BITS",
    "ONE",
    "PRECISION_BITS",
    "PRECISION_ONE",
    "STAKE_MAX",
    "Int64Array",
    "lower_median",
    "median_deviation",
    "quantile",
    "weighted_median",
    "weighted_median_rows",
]

Int64Array: TypeAlias = NDArray[np.int64]

FRACTION_BITS: Final = 16
ONE: Final = 1 << FRACTION_BITS
PRECISION_BITS: Final = 20
PRECISION_ONE: Final = 1 << PRECISION_BITS
STAKE_MAX: Final = 1 << 61  # of all stakes together: twice a partial sum still fits int64
NORMAL_MAD: Final = 97_164  # 2^16 x 1.4826: a normal variable's deviation over its median absolute deviation


def lower_median(values: Int64Array) -> int:
    """Return the median, of an even number of values the lower of the two in the middle.

    Raises:
        MedianError: there are no values.
    """
    return quantile(values, 1, 2)


def quantile(values: Int64Array, numerator: int, denominator: int) -> int:
    """Return the least value that at least numerator / denominator of all values do not exceed.

    Raises:
        MedianError: there are no values.
    """
    if not values.size:
        raise MedianError("the median of no values was asked for")
    rank = max(-(-values.size * numerator // denominator), 1)
    return int(np.sort(values)[rank - 1])


def median_deviation(values: Int64Array) -> int:
    """Return 1.4826 x the median distance from the median: a deviation that a third of liars cannot move far.

    Raises:
        MedianError: there are no values.
    """
    return lower_median(np.abs(values - lower_median(values))) * NORMAL_MAD >> FRACTION_BITS


def weighted_median(values: Int64Array, weights: Int64Array) -> int:
    """Return the least value such that it and those below carry at least half of the weight.

    Raises:
        MedianError: there are no values, or `weighted_median_rows` refuses the weights.
    """
    return int(weighted_median_rows(values.reshape(-1, 1), weights)[0])


def weighted_median_rows(values: Int64Array, weights: Int64Array | Sequence[int]) -> Int64Array:
    """Return the weighted median of every column of `values` (members, entries).

    Where less than half of the weight lies, a coordinate cannot be pushed outside the range of the others' values.

    Raises:
        MedianError: there are no rows, or the weights are not one positive number a row of a sum up to `STAKE_MAX`.
    """
    exact = [int(weight) for weight in weights]
    if not exact or values.ndim != 2 or len(exact) != len(values):
        raise MedianError(
            f"{len(exact)} weights for values of shape {values.shape}, expected one for each of at least one row"
        )
    if min(exact) < 1 or sum(exact) > STAKE_MAX:
        raise MedianError(
            f"weights from {min(exact)}, {sum(exact)} in all, expected from 1 and at most {STAKE_MAX} in all",
            total=sum(exact),
        )
    order = np.argsort(values, axis=0, kind="stable")
    carried = np.cumsum(np.array(exact, np.int64)[order], axis=0)
    chosen = (2 * carried >= sum(exact)).argmax(axis=0)
    picked: Int64Array = np.take_along_axis(values, np.take_along_axis(order, chosen[None], axis=0), axis=0)[0]
    return picked
