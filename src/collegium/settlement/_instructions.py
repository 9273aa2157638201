"""The instructions of the dispute machine, and programs made of them (docs/spec/machine.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, cached_property
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from collegium.algebra import P
from collegium.commitment import MerkleTree
from collegium.crypto import Digest

__all__ = [
    "ABSENT",
    "ARITHMETIC",
    "IMMEDIATE",
    "PROGRAM_HEIGHT",
    "PROGRAM_INSTRUCTIONS_MAX",
    "Op",
    "Place",
    "Program",
    "Words",
]

PROGRAM_HEIGHT: Final = 16
PROGRAM_INSTRUCTIONS_MAX: Final = 1 << PROGRAM_HEIGHT
IMMEDIATE: Final = 64  # flag of an op: operand c is the value itself
ABSENT: Final[Digest] = bytes(32)  # the leaf of a place without an instruction

_LEAF: Final = b"collegium/v1/instruction\x00"
_NODE: Final = b"collegium/v1/node\x00"
_WORD_BITS: Final = 64
_MASK: Final = (1 << _WORD_BITS) - 1
_SIGN: Final = 1 << 63

Words = npt.NDArray[np.uint64]


class Op(IntEnum):
    """What an instruction does; those from ADD to FMUL, LOAD and STORE also with an immediate operand c."""

    REJECT = 0
    ACCEPT = 1
    SET = 2
    MOVE = 3
    ADD = 4
    SUB = 5
    MUL = 6
    MULH = 7
    DIV = 8
    REM = 9
    AND = 10
    OR = 11
    XOR = 12
    SHL = 13
    SHR = 14
    SAR = 15
    LT = 16
    SLT = 17
    EQ = 18
    FADD = 19
    FSUB = 20
    FMUL = 21
    BSWAP = 22
    LOAD = 23
    STORE = 24
    JUMP = 25
    JZ = 26
    JNZ = 27
    CALL = 28
    RET = 29
    SHA256 = 30
    PREIMAGE = 31
    KECCAK = 32


def _signed(word: int) -> int:
    return (word ^ _SIGN) - _SIGN


ARITHMETIC: Final[dict[Op, Callable[[int, int], int]]] = {
    Op.ADD: lambda a, b: (a + b) & _MASK,
    Op.SUB: lambda a, b: (a - b) & _MASK,
    Op.MUL: lambda a, b: a * b & _MASK,
    Op.MULH: lambda a, b: a * b >> _WORD_BITS,
    Op.DIV: lambda a, b: a // b,  # by zero the machine traps
    Op.REM: lambda a, b: a % b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.SHL: lambda a, b: a << b & _MASK if b < _WORD_BITS else 0,
    Op.SHR: lambda a, b: a >> b if b < _WORD_BITS else 0,
    Op.SAR: lambda a, b: _signed(a) >> min(b, _WORD_BITS - 1) & _MASK,
    Op.LT: lambda a, b: int(a < b),
    Op.SLT: lambda a, b: int(_signed(a) < _signed(b)),
    Op.EQ: lambda a, b: int(a == b),
    Op.FADD: lambda a, b: (a + b) % P,
    Op.FSUB: lambda a, b: (a - b) % P,
    Op.FMUL: lambda a, b: a * b % P,
}


@dataclass(frozen=True, slots=True)
class Place:
    """The line of a source that an instruction comes from."""

    module: str
    line: int


@dataclass(frozen=True)
class Program:
    """Instructions, one a row: op, a, b, c.

    Attributes:
        places: where each comes from; for people, and not in the digest.
    """

    instructions: Words
    places: tuple[Place, ...] = ()

    @cached_property
    def _tree(self) -> MerkleTree:
        """The lower left part of the tree, as far as there are instructions; right of it all is absent."""
        leaves = np.zeros((1 << (len(self.instructions) - 1).bit_length(), len(ABSENT)), np.uint8)
        for index in range(len(self.instructions)):
            leaves[index] = np.frombuffer(sha256(_LEAF + self.encoded(index)).digest(), np.uint8)
        return MerkleTree(leaves)

    @property
    def digest(self) -> Digest:
        """The root of the tree over all 2^16 places: what a court is founded with."""
        return self._node(PROGRAM_HEIGHT, 0)

    def encoded(self, index: int) -> bytes:
        """Return an instruction's 32 bytes; none where there is no instruction."""
        return self.instructions[index].astype(">u8").tobytes() if 0 <= index < len(self.instructions) else b""

    def path(self, index: int) -> tuple[Digest, ...]:
        """Return the siblings from an instruction's leaf up."""
        return tuple(self._node(level, (index >> level) ^ 1) for level in range(PROGRAM_HEIGHT))

    def _node(self, level: int, index: int) -> Digest:
        levels = self._tree.levels
        if level < len(levels):
            return levels[level][index].tobytes() if index < len(levels[level]) else _absent(level)
        return _absent(level) if index else _parent(self._node(level - 1, 0), _absent(level - 1))


@cache
def _absent(level: int) -> Digest:
    """Return the node over places without instructions."""
    return _parent(_absent(level - 1), _absent(level - 1)) if level else ABSENT


def _parent(left: Digest, right: Digest) -> Digest:
    return sha256(_NODE + left + right).digest()
