"""What a task has fixed before its first round, as parameters that programs are compiled with.

`collegium.settlement.WorkTerms` gives their values and says what each is. Digests are four words.
"""

from __future__ import annotations

from collegium.settlement.programs._reading import put_digest
from collegium.settlement.programs._room import allocate

TASK_0: int
TASK_1: int
TASK_2: int
TASK_3: int
LEVEL: int  # its bytes, the first the highest
LEVEL_BYTES: int
SEATS: int
FIRST_TERMS_0: int
FIRST_TERMS_1: int
FIRST_TERMS_2: int
FIRST_TERMS_3: int
FIRST_BEACON_0: int
FIRST_BEACON_1: int
FIRST_BEACON_2: int
FIRST_BEACON_3: int
GENESIS_0: int
GENESIS_1: int
GENESIS_2: int
GENESIS_3: int
TRAINERS_MAX: int
STALENESS_MAX: int
FIRST_ENTRIES: int
FIRST_BOUND: int
ENTRIES: int
ENTRY_BOUND: int
TRAINERS: int  # registered ones
STEWARDS: int  # 0 where the task has none, so that a model state has no part about quality
WEIGHT_MAX: int  # of a report where quality says what it weighs
PLACES: int  # of a round, which the beacon draws; 0: all may report


def task_digest() -> int:
    """Return the address of the task's digest."""
    target = allocate(4)
    put_digest(target, TASK_0, TASK_1, TASK_2, TASK_3)
    return target


def first_terms() -> int:
    """Return the address of the digest of round 0's terms, which the genesis fixes."""
    target = allocate(4)
    put_digest(target, FIRST_TERMS_0, FIRST_TERMS_1, FIRST_TERMS_2, FIRST_TERMS_3)
    return target


def first_beacon() -> int:
    """Return the address of round 0's beacon."""
    target = allocate(4)
    put_digest(target, FIRST_BEACON_0, FIRST_BEACON_1, FIRST_BEACON_2, FIRST_BEACON_3)
    return target


def genesis() -> int:
    """Return the address of the digest that the first header follows."""
    target = allocate(4)
    put_digest(target, GENESIS_0, GENESIS_1, GENESIS_2, GENESIS_3)
    return target


def entries_of(number: int) -> int:
    """Return how many entries an update of a round has."""
    return FIRST_ENTRIES if number == 0 else ENTRIES


def bound_of(number: int) -> int:
    """Return the largest absolute value of an entry of one trainer's update of a round."""
    return FIRST_BOUND if number == 0 else ENTRY_BOUND


def weight_max(number: int) -> int:
    """Return the largest weight of a round: quality's, or halving with each round of staleness."""
    if number == 0:
        return 1
    if STEWARDS > 0:
        return WEIGHT_MAX
    return 1 << (number - 1 if number - 1 < STALENESS_MAX else STALENESS_MAX)
