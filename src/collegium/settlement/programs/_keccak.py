"""The permutation keccak-f[1600] (FIPS 202, 3.2 and 3.3) on 25 lanes, lane x + 5 y."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["ROTATIONS", "ROUND_CONSTANTS", "keccak_permute"]

_ROUNDS: Final = 24
_MASK: Final = (1 << 64) - 1


def _round_constants() -> list[int]:
    """Return 3.2.5's constants: bit 2^j - 1 of the constant of round i is the register's output 7 i + j."""
    register, constants = 1, []
    for _ in range(_ROUNDS):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << ((1 << j) - 1)
            register <<= 1
            register ^= 0x171 * (register >> 8)
        constants.append(constant)
    return constants


def _rotations() -> list[int]:
    """Return 3.2.2's offsets, by lane."""
    offsets, x, y = [0] * 25, 1, 0
    for t in range(24):
        offsets[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return offsets


ROUND_CONSTANTS: Final = tuple(_round_constants())
ROTATIONS: Final = tuple(_rotations())


def keccak_permute(lanes: Sequence[int]) -> list[int]:
    """Return the lanes after 24 rounds."""
    a = list(lanes)
    for constant in ROUND_CONSTANTS:
        parity = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        theta = [parity[(x + 4) % 5] ^ _turn(parity[(x + 1) % 5], 1) for x in range(5)]
        b = [0] * 25
        for x in range(5):
            for y in range(5):
                b[y + 5 * ((2 * x + 3 * y) % 5)] = _turn(a[x + 5 * y] ^ theta[x], ROTATIONS[x + 5 * y])
        a = [b[i] ^ (~b[(i + 1) % 5 + i // 5 * 5] & b[(i + 2) % 5 + i // 5 * 5]) & _MASK for i in range(25)]
        a[0] ^= constant
    return a


def _turn(lane: int, count: int) -> int:
    return (lane << count | lane >> (64 - count)) & _MASK
