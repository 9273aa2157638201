"""A budget split by points, to the last unit. docs/spec/quality.md, section 6."""

from __future__ import annotations

from typing import Final

from ._errors import BudgetError
from ._fixed import Int64Array

__all__ = ["BUDGET_MAX", "split_budget"]

BUDGET_MAX: Final = 1 << 128


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
