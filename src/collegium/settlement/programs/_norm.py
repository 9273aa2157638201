"""The norm that scores are counted in, C: what a round's update moves for each of its rows (docs/spec/quality.md, 9).

C is compared with floor(2^8 isqrt(<T, T>) / rows), T the opened total, of which squares are three words long: that is
at least c just where <T, T> is at least ceil(c rows / 2^8)^2.
"""

from __future__ import annotations

from collegium.settlement.programs._reading import WORD
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._signed import size_of
from collegium.settlement.programs._words import memory, mul_high

FRACTION_BITS = 8
NORM_MIN = 16
NORM_MAX = 1 << 50
FALL_BITS = 6
RISE_BITS = 3
LEAST = 0x8000000000000000


def next_norm(norm: int, total: int, entries: int) -> int:
    """Return C after a round with a total whose row count follows its entries; slow to fall."""
    rows, square = memory[total + entries], _square_of(total, entries)
    assert 0 < rows < LEAST
    if norm == 0:
        return _first_norm(square, rows)
    if _moves(square, rows, norm + 1) == 1:
        norm += norm >> RISE_BITS
    elif _moves(square, rows, norm) == 0:
        norm -= norm >> FALL_BITS
    if norm < NORM_MIN:
        return NORM_MIN
    return norm if norm < NORM_MAX else NORM_MAX


def _first_norm(square: int, rows: int) -> int:
    """Return what a total moves for each row, within bounds."""
    norm, bit = 0, NORM_MAX
    while bit > 0:
        if norm + bit <= NORM_MAX and _moves(square, rows, norm + bit) == 1:
            norm += bit
        bit >>= 1
    return norm if norm > NORM_MIN else NORM_MIN


def _square_of(vector: int, entries: int) -> int:
    """Return the address of a vector's square, three words, the lowest first."""
    square = allocate(3)
    for at in range(vector, vector + entries):
        size = size_of(memory[at])
        low, high = size * size & WORD, mul_high(size, size)
        memory[square] = memory[square] + low & WORD
        if memory[square] < low:
            high += 1
        memory[square + 1] = memory[square + 1] + high & WORD
        if memory[square + 1] < high:
            memory[square + 2] = memory[square + 2] + 1
    return square


def _moves(square: int, rows: int, norm: int) -> int:
    """Return 1 if a total of this square moves at least so much for each row, else 0."""
    low, high = norm * rows & WORD, mul_high(norm, rows)
    rest = low & (1 << FRACTION_BITS) - 1
    low = low >> FRACTION_BITS | (high << 64 - FRACTION_BITS) & WORD
    high >>= FRACTION_BITS
    if rest > 0:
        low = low + 1 & WORD
        if low == 0:
            high += 1
    if high >> 31 > 0:
        return 0
    middle, top = mul_high(low, low), high * high
    twice_low, twice_high = low * high << 1 & WORD, mul_high(low, high) << 1 | (low * high & WORD) >> 63
    middle = middle + twice_low & WORD
    if middle < twice_low:
        top += 1
    top += twice_high
    if memory[square + 2] != top:
        return 1 if memory[square + 2] > top else 0
    if memory[square + 1] != middle:
        return 1 if memory[square + 1] > middle else 0
    return 1 if memory[square] >= low * low & WORD else 0
