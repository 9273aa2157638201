"""A round's places (docs/spec/quality.md, sections 6 and 9): how often the beacon draws each trainer, one stake each.

A part is counted, and of before the round. Sizes are below 2^17, so every number here is below 2^54.
"""

from __future__ import annotations

from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_tag,
    restart_hash,
    start_hash,
)
from collegium.settlement.programs._quality_state import (
    IS_VETTED,
    LOCKED_UNTIL,
    Q_ROUND,
    Q_STANDING_ROUND,
    Q_WEIGHTS,
    column,
    is_still,
)
from collegium.settlement.programs._reading import copy_digest
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._signed import divide_down, larger, smaller
from collegium.settlement.programs._task import PLACES, TRAINERS
from collegium.settlement.programs._weigh import FRACTION_BITS, SCALE, is_locked_out, reference, utility_of
from collegium.settlement.programs._words import byte_swap, memory

SAMPLING_FLOOR: int
PROBATION_SHARE: int
WEIGHTED_MIN: int  # so many trainers have weight, or nobody is told apart
LEAST_WEIGHT = 1  # of who weighs nothing, where too many rounds had no sum
DRAW = 0x6D2F76312F647261  # "m/v1/dra"
VETTED_TAG = 0x772D766574746564  # "w-vetted"
PROBATION_TAG = 0x772D70726F626174  # "w-probat"
PROBATION_END = 0x696F6E0000000000  # "ion"
ORDER_TAG = 0x772D6F7264657200  # "w-order"
OFFSET_TAG = 0x772D6F6666736574  # "w-offset"


def draw_hits(part: int, number: int, beacon: int) -> int:
    """Return the address of how often each trainer is drawn for a round; 0: its report weighs nothing."""
    hits, by = allocate(TRAINERS), memory[part + Q_STANDING_ROUND]  # by which round locks are over
    if is_still(part, number) == 1:
        by += number - memory[part + Q_ROUND] - 1
    for place in range(TRAINERS):
        is_locked = memory[column(part, LOCKED_UNTIL) + place] > by
        memory[hits + place] = 0 if is_locked and memory[part + Q_WEIGHTS + place] == 0 else 1
    if PLACES > 0 and is_still(part, number) == 0:
        drawn, heavy = allocate(TRAINERS), 0
        _draw(part, beacon, drawn)
        for place in range(TRAINERS):
            if memory[drawn + place] > 0 and memory[part + Q_WEIGHTS + place] > 0:
                heavy += 1
        if heavy >= WEIGHTED_MIN:
            return drawn
    return hits


def weight_of(part: int, number: int, hits: int, place: int) -> int:
    """Return what the report of a trainer that may report weighs."""
    weight = memory[part + Q_WEIGHTS + place]
    if memory[hits + place] == 0:
        return 0
    return larger(weight, LEAST_WEIGHT) if is_still(part, number) == 1 else weight


def _draw(part: int, beacon: int, hits: int) -> None:
    """Write how often each trainer is hit: a share of the places is for those on probation."""
    vetted, waiting = allocate(1 + TRAINERS), allocate(1 + TRAINERS)
    sizes, ones = allocate(TRAINERS), allocate(TRAINERS)
    middle = reference(part)
    for place in range(TRAINERS):
        memory[ones + place] = 1
        members = vetted if memory[column(part, IS_VETTED) + place] == 1 else waiting
        if is_locked_out(part, place) == 0:
            memory[members] = memory[members] + 1
            memory[members + memory[members]] = place
        factor = divide_down(utility_of(part, place) << FRACTION_BITS, middle)
        memory[sizes + place] = larger(SAMPLING_FLOOR, smaller(SCALE, factor))
    kept = 0
    if memory[waiting] > 0:
        share = PLACES * PROBATION_SHARE >> FRACTION_BITS
        kept = PLACES if memory[vetted] == 0 else smaller(larger(share, 1), PLACES - 1)
    seed, began = allocate(4), memory[part + Q_STANDING_ROUND]
    hashing = start_hash()
    put_tag(hashing, 24, DRAW, VETTED_TAG, 0)
    put_digest_field(hashing, beacon)
    put_integer_field(hashing, began)
    copy_digest(seed, finish_hash(hashing))
    _hit(vetted, sizes, PLACES - kept, seed, hits)
    restart_hash(hashing)
    put_tag(hashing, 27, DRAW, PROBATION_TAG, PROBATION_END)
    put_digest_field(hashing, beacon)
    put_integer_field(hashing, began)
    copy_digest(seed, finish_hash(hashing))
    _hit(waiting, ones, kept, seed, hits)


def _hit(members: int, sizes: int, places: int, seed: int, hits: int) -> None:
    """Write how often each of a list is hit: systematic sampling, in an order and from an offset that a seed gives."""
    if memory[members] == 0 or places == 0:
        return
    total = 0
    for index in range(1, memory[members] + 1):
        total += memory[sizes + memory[members + index]]
    order = _ordered(members, seed)
    hashing = start_hash()
    put_tag(hashing, 24, DRAW, OFFSET_TAG, 0)
    put_digest_field(hashing, seed)
    offset = _remainder(finish_hash(hashing), total)
    end, before = 0, 0
    for index in range(memory[members]):
        place = memory[order + index]
        end += memory[sizes + place]
        upto = (end * places + (total - 1 - offset)) // total  # hits below `end`
        memory[hits + place] = upto - before
        before = upto


def _ordered(members: int, seed: int) -> int:
    """Return the address of a list's places, in the order of their hashes under a seed."""
    count = memory[members]
    order, digests, hashing = allocate(count), allocate(4 * count), start_hash()
    for index in range(count):
        place = memory[members + 1 + index]
        restart_hash(hashing)
        put_tag(hashing, 23, DRAW, ORDER_TAG, 0)
        put_digest_field(hashing, seed)
        put_integer_field(hashing, place)
        copy_digest(digests + 4 * index, finish_hash(hashing))
        at = index
        while at > 0 and _is_less(digests + 4 * index, digests + 4 * memory[order + at - 1]) == 1:
            memory[order + at] = memory[order + at - 1]
            at -= 1
        memory[order + at] = index
    for index in range(count):
        memory[order + index] = memory[members + 1 + memory[order + index]]
    return order


def _is_less(left: int, right: int) -> int:
    """Return 1 if a digest stands before another one, else 0."""
    for index in range(4):
        if memory[left + index] != memory[right + index]:
            return 1 if memory[left + index] < memory[right + index] else 0
    return 0


def _remainder(digest: int, divisor: int) -> int:
    """Return what a digest, as a number whose lowest byte is the first, leaves over a divisor below 2^48."""
    left = 0
    for index in range(3, -1, -1):
        word = byte_swap(memory[digest + index])
        for shift in range(48, -1, -16):
            left = ((left << 16) + (word >> shift & 0xFFFF)) % divisor
    return left
