"""The bound on updates' norms follows the updates: it moves until half of them reach it. docs/spec/quality.md, 2."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from ._errors import RoundInputError

__all__ = ["NORM_MAX", "next_norm_bound"]

NORM_MAX: Final = 1 << 30
NORM_MIN: Final = 16
RATE: Final = Decimal("0.2")
_STEPS: Final = 1 << 10
_FACTOR_BITS: Final = 30
_DIGITS: Final = Context(prec=50)


def next_norm_bound(bound: int, within: int, reports: int) -> int:
    """Return C exp(-(within / reports - 1/2) / 5), kept in [2^4, 2^30]; C itself where nobody reported.

    The share is rounded down to 1/1024 and the exponential, from 50 digits, to 30 bits (Andrew et al., arXiv
    1905.03871).

    Args:
        bound: C, in the units of an update.
        within: reports that prove a norm below the bound: those whose updates were not cut.
        reports: all reports.

    Raises:
        RoundInputError: a number is out of range.
    """
    if not (NORM_MIN <= bound <= NORM_MAX and 0 <= within <= reports):
        raise RoundInputError(
            f"norm bound {bound} and {within} of {reports} reports within it, expected {NORM_MIN} to {NORM_MAX}",
            bound=bound,
        )
    if not reports:
        return bound
    moved = bound * _factor(int(Fraction(within, reports) * _STEPS)) >> _FACTOR_BITS
    return max(NORM_MIN, min(NORM_MAX, moved))


@lru_cache(maxsize=_STEPS + 1)
def _factor(step: int) -> int:
    """Return 2^30 exp(-(step / 1024 - 1/2) / 5) rounded down."""
    exponent = -(Decimal(step) / _STEPS - Decimal("0.5")) * RATE
    value = _DIGITS.multiply(Decimal(1 << _FACTOR_BITS), _DIGITS.exp(exponent))
    return int(value.to_integral_value(ROUND_FLOOR))
