"""A budget split by points, to the last unit, and what all have earned by then. docs/spec/quality.md, section 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ._errors import BudgetError
from ._fixed import Int64Array

__all__ = ["BUDGET_MAX", "EARNED_MAX", "POINTS_MAX", "earned_after", "split_budget"]

BUDGET_MAX: Final = 1 << 128
EARNED_MAX: Final = (1 << 128) - 1  # of one trainer; a budget of 2^96 a round takes 2^32 rounds for it
POINTS_MAX: Final = (1 << 62) - 1  # of all trainers in a round: a program divides by them


def split_budget(points: Int64Array, budget: int) -> tuple[int, ...]:
    """Return what each of the trainers is paid: budget x points / all points, the units that rounding leaves to the
    largest remainders, the first of equal ones; nothing where nobody has points.

    Raises:
        BudgetError: the budget is not in [0, 2^128], or points are negative.
    """
    counts = points.tolist()
    if not 0 <= budget <= BUDGET_MAX or any(count < 0 for count in counts):
        raise BudgetError(f"a budget of {budget}, expected 0 to {BUDGET_MAX} and no negative points", budget=budget)
    total = sum(counts)
    if not total:
        return (0,) * len(counts)
    pays = [budget * count // total for count in counts]
    left = budget - sum(pays)
    by_remainder = sorted(range(len(counts)), key=lambda index: (-(budget * counts[index] % total), index))
    for index in by_remainder[:left]:
        pays[index] += 1
    return tuple(pays)


def earned_after(earned: Sequence[int], points: Sequence[int], budget: int) -> tuple[int, ...]:
    """Return what all trainers have earned after a round that split its budget by these points.

    The same of every input, as a program of the dispute machine computes it too: negative points count as none, a round
    of more than POINTS_MAX points pays nothing, and sums are modulo 2^128. An honest round meets none of the three.
    """
    counts = [max(0, count) for count in points]
    if sum(counts) > POINTS_MAX:
        return tuple(earned)
    parts = split_budget(np.array(counts, dtype=np.int64), budget)
    return tuple((before + part) & EARNED_MAX for before, part in zip(earned, parts, strict=True))
