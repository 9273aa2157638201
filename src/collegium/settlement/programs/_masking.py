"""The public matrix that keys are multiplied with, and the noise beside them (docs/spec/aggregation.md, section 1)."""

from __future__ import annotations

from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_tag,
    start_hash,
)
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._words import byte_swap, memory

RING = 4096
CHECK_BLOCKS = 2
NOISE_BOUND = 127
RATE_LANES = 21  # of SHAKE128
MATRIX = 0x6D2F76312F6D6173  # "m/v1/mas"
MATRIX_END = 0x6B2D6D6174726978  # "k-matrix"
_SEED_LANES = 5  # 32 bytes and a number


def matrix_seed(number: int, beacon: int) -> int:
    """Return the address of the seed of a round's public matrix."""
    hashing = start_hash()
    put_tag(hashing, 24, MATRIX, MATRIX_END, 0)
    put_digest_field(hashing, task_digest())
    put_integer_field(hashing, number)
    put_digest_field(hashing, beacon)
    return finish_hash(hashing)


def start_shake(sponge: int, seed: int, number: int) -> None:
    """Absorb a seed and a block's number: SHAKE128, before its first permutation."""
    for lane in range(25):
        memory[sponge + lane] = 0
    for lane in range(4):
        memory[sponge + lane] = byte_swap(memory[seed + lane])
    memory[sponge + 4] = number
    memory[sponge + _SEED_LANES] = 0x1F
    memory[sponge + RATE_LANES - 1] = 0x8000000000000000
