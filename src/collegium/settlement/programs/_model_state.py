"""A model state: the statistics that round 0 opened, 8 bytes each, then the parameters, 4 bytes each.

Where a task has stewards its part about quality follows, which begins at a multiple of 8 bytes.
"""

from __future__ import annotations

from collegium.settlement.programs._quality_state import Q_WORDS, QUALITY_AT
from collegium.settlement.programs._reading import WORD, little_at, read_message, word_at
from collegium.settlement.programs._task import ENTRIES, FIRST_ENTRIES, STEWARDS
from collegium.settlement.programs._words import byte_swap, mul_high

HIDDEN: int  # parameters before the output layer's
HIDDEN_LIMIT: int
OUTPUT_LIMIT: int
ENTRY_BYTES = 8
PARAMETER_BYTES = 4
ROWS_MAX = 1 << 24
LEVEL_MAX = 4095


def are_possible(count: int, first: int, second: int) -> int:
    """Return 1 if so many rows can have such a sum of levels, and of their squares; negative ones are large words."""
    if count > ROWS_MAX or first > LEVEL_MAX * count or first > second or second > LEVEL_MAX * first:
        return 0
    high = mul_high(count, second)
    square = mul_high(first, first)
    if high < square or (high == square and (count * second) & WORD < (first * first) & WORD):
        return 0
    return 1


def limit_of(index: int) -> int:
    """Return how large a parameter may be."""
    return HIDDEN_LIMIT if index < HIDDEN else OUTPUT_LIMIT


def parameter_at(state: int, index: int) -> int:
    """Return a parameter, 32 bits in two's complement."""
    return byte_swap(word_at(state, ENTRY_BYTES * FIRST_ENTRIES + PARAMETER_BYTES * index)) & 0xFFFFFFFF


def lifted_by(parameter: int, limit: int) -> int:
    """Return parameter + limit: from 0 to twice the limit, if it is within."""
    return (parameter + limit) & 0xFFFFFFFF


def state_bytes() -> int:
    """Return how long a model state is."""
    if STEWARDS > 0:
        return 8 * (QUALITY_AT + Q_WORDS)
    return ENTRY_BYTES * FIRST_ENTRIES + PARAMETER_BYTES * (ENTRIES - 1)


def is_model(digest: int) -> int:
    """Return 1 if the bytes behind a digest are a model state of the task: whoever trains decodes it first."""
    state, size = read_message(digest)
    if size != state_bytes():
        return 0
    for column in range((FIRST_ENTRIES - 1) // 3):
        at = 3 * ENTRY_BYTES * column
        first, second = little_at(state, at + ENTRY_BYTES), little_at(state, at + 2 * ENTRY_BYTES)
        if are_possible(little_at(state, at), first, second) == 0:
            return 0
    for index in range(ENTRIES - 1):
        limit = limit_of(index)
        if lifted_by(parameter_at(state, index), limit) > 2 * limit:
            return 0
    if STEWARDS > 0 and (ENTRIES - 1) % 2 == 1 and parameter_at(state, ENTRIES - 1) != 0:
        return 0  # zeros stand before the part about quality
    return 1
