"""Medians of a few hundred signed numbers. They are sorted by insertion: fewest instructions for so few."""

from __future__ import annotations

from collegium.settlement.programs._room import allocate, copy
from collegium.settlement.programs._signed import size_of
from collegium.settlement.programs._words import memory, signed_less

NORMAL_MAD = 97164  # 2^16 x 1.4826
FRACTION_BITS = 16


def sort(values: int, count: int) -> None:
    """Put numbers into ascending order."""
    for index in range(1, count):
        value = memory[values + index]
        at = values + index
        while at > values and signed_less(value, memory[at - 1]):
            memory[at] = memory[at - 1]
            at -= 1
        memory[at] = value


def sort_with(values: int, beside: int, count: int) -> None:
    """Put numbers into ascending order, and with each what stands beside it."""
    for index in range(1, count):
        value, other = memory[values + index], memory[beside + index]
        place = index
        while place > 0 and signed_less(value, memory[values + place - 1]):
            memory[values + place] = memory[values + place - 1]
            memory[beside + place] = memory[beside + place - 1]
            place -= 1
        memory[values + place] = value
        memory[beside + place] = other


def lower_median(values: int, count: int) -> int:
    """Return the median, of an even number the lower of two, of numbers in ascending order."""
    return memory[values + (count - 1) // 2]


def median_of(values: int, count: int) -> int:
    """Return the lower median of numbers in any order."""
    sorted_values = allocate(count)
    copy(sorted_values, values, count)
    sort(sorted_values, count)
    return lower_median(sorted_values, count)


def median_deviation(values: int, count: int) -> int:
    """Return 1.4826 x the median distance of numbers from their median."""
    middle = median_of(values, count)
    away = allocate(count)
    for index in range(count):
        memory[away + index] = size_of(memory[values + index] - middle)
    sort(away, count)
    return lower_median(away, count) * NORMAL_MAD >> FRACTION_BITS


def weighted_median(values: int, weights: int, count: int) -> int:
    """Return the least number that carries, with those below, half of the positive weights; both are put in order."""
    sort_with(values, weights, count)
    total = 0
    for index in range(count):
        total += memory[weights + index]
    place, carried = 0, memory[weights]
    while 2 * carried < total:
        place += 1
        carried += memory[weights + place]
    return memory[values + place]
