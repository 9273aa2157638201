"""The validators of a task's first epoch, by the digest of their set."""

from __future__ import annotations

from collegium.settlement.programs._reading import put_digest, read_fields
from collegium.settlement.programs._room import allocate

VALIDATORS: int
EPOCH_SET_0: int
EPOCH_SET_1: int
EPOCH_SET_2: int
EPOCH_SET_3: int
EPOCH_ROUNDS: int  # so many rounds from the first on are that epoch's
EPOCH_SET = 0x6D2F76312F65706F  # "m/v1/epo"
EPOCH_SET_END = 0x63682D7365740000  # "ch-set"
M_ACCOUNT = 3  # field of the first validator; three fields each


def is_known_epoch(number: int) -> int:
    """Return 1 if a round's validators are those of the first epoch."""
    return 1 if number < EPOCH_ROUNDS else 0


def epoch_digest() -> int:
    """Return the address of the epoch set's digest."""
    digest = allocate(4)
    put_digest(digest, EPOCH_SET_0, EPOCH_SET_1, EPOCH_SET_2, EPOCH_SET_3)
    return digest


def read_members() -> int:
    """Return the record of the epoch set: task, epoch, and of each validator its voting key, account and stake."""
    return read_fields(epoch_digest(), 2 + 3 * VALIDATORS, 22, EPOCH_SET, EPOCH_SET_END, 0)
