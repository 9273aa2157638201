"""The direction that scores are taken along, and what a score counts (docs/spec/quality.md, section 2).

A vector is a signed word an entry.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import bit_length
from collegium.settlement.programs._medians import lower_median, sort
from collegium.settlement.programs._reading import WORD
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._signed import clip, divide_down, size_of
from collegium.settlement.programs._words import memory, mul_high, shift_right_signed

NOISE_NUMERATOR: int
NOISE_DENOMINATOR: int
DIRECTION_NORM_MAX: int
DIRECTION_BITS = 15
LEFT_BITS = 40
UNIT_BITS = 16
SHIFT_MAX = 48
REACH_MAX = 9 << 58
NORM_BITS = 20
NORM_SLACK = 4
NORM_FRACTION_BITS = 8


def largest_of(vector: int, entries: int) -> int:
    """Return the largest absolute value of a vector's entries."""
    most = 0
    for at in range(vector, vector + entries):
        size = size_of(memory[at])
        if size > most:
            most = size
    return most


def has_norm(vector: int, entries: int) -> int:
    """Return 1 if a steward's vector has norm 2^20, give or take what rounding leaves, else 0."""
    slack = root_of(0, entries) + NORM_SLACK
    least = (1 << NORM_BITS) - slack if slack < 1 << NORM_BITS else 0
    most = (1 << NORM_BITS) + slack
    if largest_of(vector, entries) > most:
        return 0
    square = inner(vector, vector, entries)
    return 1 if least * least <= square <= most * most else 0


def median_vector(vectors: int, count: int, entries: int) -> int:
    """Return the vector of the lower medians of vectors, whose addresses stand at `vectors`."""
    made, values = allocate(entries), allocate(count)
    for entry in range(entries):
        for index in range(count):
            memory[values + index] = memory[memory[vectors + index] + entry]
        sort(values, count)
        memory[made + entry] = lower_median(values, count)
    return made


def scoring_direction(median: int, entries: int) -> int:
    """Return the address of a round's direction, 0 where there is none; the median is changed."""
    if largest_of(median, entries) == 0:
        return 0
    bring_to_bits(median, entries, LEFT_BITS)
    largest = largest_of(median, entries)
    made = allocate(entries)
    scale(median, made, entries, largest, DIRECTION_BITS)
    norm, room, fewer = root_of(0, inner(made, made, entries)), DIRECTION_NORM_MAX - root_of(0, entries) - 1, 0
    while norm >> fewer >= room:
        fewer += 1
    if fewer > 0:
        scale(median, made, entries, largest, DIRECTION_BITS - fewer)
    return made


def scale(vector: int, made: int, entries: int, largest: int, bits: int) -> None:
    """Write a vector with 2^bits for its largest entry, halves rounded up."""
    for entry in range(entries):
        scaled = (memory[vector + entry] << bits) + (largest >> 1)
        memory[made + entry] = divide_down(scaled, largest)


def bring_to_bits(vector: int, entries: int, bits: int) -> None:
    """Bring a vector to so many bits of its largest entry, by a power of two, rounded down."""
    length = bit_length(largest_of(vector, entries))
    for at in range(vector, vector + entries):
        if length > bits:
            memory[at] = shift_right_signed(memory[at], length - bits)
        else:
            memory[at] = memory[at] << bits - length


def inner(left: int, right: int, entries: int) -> int:
    """Return the inner product of vectors that are short enough for it."""
    total = 0
    for entry in range(entries):
        total += memory[left + entry] * memory[right + entry]
    return total


def root_of(high: int, low: int) -> int:
    """Return the square root of a double word, rounded down."""
    root, bit = 0, 1 << 63
    while bit > 0:
        tried = root | bit
        over, under = mul_high(tried, tried), tried * tried & WORD
        if over < high or (over == high and under <= low):
            root = tried
        bit >>= 1
    return root


def score_scale(square: int, bound: int) -> tuple[int, int, int]:
    """Return shift, unit and sigma of scores of updates up to a bound, along a direction with this square.

    A unit of 0 says that no proof takes such scores.
    """
    high, low = mul_high(bound, bound), bound * bound & WORD
    over, carried = mul_high(square, high), square * high & WORD
    top, low = mul_high(square, low), square * low & WORD
    high = carried + top & WORD
    if over > 0 or high < top:
        return 0, 0, 0
    reach = root_of(high, low)
    length = bit_length(reach)
    shift = length - UNIT_BITS if length > UNIT_BITS else 0
    if shift > SHIFT_MAX:
        return 0, 0, 0
    unit = reach >> shift
    if unit == 0:
        unit = 1
    sigma = (2 * NOISE_NUMERATOR * unit + NOISE_DENOMINATOR) // (2 * NOISE_DENOMINATOR)
    return shift, unit, sigma


def bound_of_rows(norm: int, rows: int) -> int:
    """Return how long an update of so many rows may be, C for each in 2^-8; more than any scale takes, all ones."""
    if mul_high(norm, rows) > 0:
        return WORD
    bound = norm * rows >> NORM_FRACTION_BITS
    return bound if bound > 0 else 1


def normalise_score(value: int, unit: int) -> int:
    """Return a proved score at 16 fraction bits, cut to one."""
    return divide_down(clip(value, unit) << UNIT_BITS, unit)
