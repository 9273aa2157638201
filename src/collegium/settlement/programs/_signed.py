"""Words as signed numbers in two's complement: sums and products are the same for both, order and division are not."""

from __future__ import annotations

from collegium.settlement.programs._words import fadd, fsub, signed_less

LEAST = 0x8000000000000000  # the word of the least signed number


def is_positive(number: int) -> int:
    """Return 1 if a number is above 0, else 0."""
    return 1 if signed_less(0, number) else 0


def size_of(number: int) -> int:
    """Return the absolute value."""
    return 0 - number if signed_less(number, 0) else number


def of_signed(number: int) -> int:
    """Return a signed word as an element of F."""
    return fsub(0, 0 - number) if signed_less(number, 0) else fadd(number, 0)


def larger(left: int, right: int) -> int:
    """Return the greater of two numbers."""
    return right if signed_less(left, right) else left


def smaller(left: int, right: int) -> int:
    """Return the lesser of two numbers."""
    return left if signed_less(left, right) else right


def clip(number: int, most: int) -> int:
    """Return the number, or `most` or its negative where it is beyond them."""
    return larger(0 - most, smaller(most, number))


def divide_down(number: int, divisor: int) -> int:
    """Return a number over a positive divisor, rounded down."""
    if signed_less(number, 0):
        return 0 - (0 - number + (divisor - 1)) // divisor
    return number // divisor
