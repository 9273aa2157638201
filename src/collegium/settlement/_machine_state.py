"""What the contract Machine is shown of a step: the state before it, and a witness of what the step touches.

docs/spec/machine.md says what a step reads and writes, and in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from collegium.crypto import Digest

__all__ = [
    "ACCEPTED",
    "FIRST_FRAME",
    "REJECTED",
    "RUNNING",
    "MachineState",
    "MemoryAccess",
    "StepWitness",
]

RUNNING: Final = 0
ACCEPTED: Final = 1
REJECTED: Final = 2
FIRST_FRAME: Final = 1024  # where the stack of the program begins

_STATE = b"collegium/v1/machine\x00"
_PIECE_BYTES = 32


@dataclass(frozen=True, slots=True)
class MachineState:
    """All there is of a machine beside its program: four integers below 2^64, and the root over its memory."""

    status: int
    pc: int
    fp: int
    root: Digest

    @property
    def digest(self) -> Digest:
        """What stands for this state wherever one is named."""
        registers = b"".join(value.to_bytes(8, "big") for value in (self.status, self.pc, self.fp))
        return sha256(_STATE + registers + self.root).digest()

    @property
    def arguments(self) -> tuple[int, int, int, Digest]:
        """As the contract takes it."""
        return self.status, self.pc, self.fp, self.root


@dataclass(frozen=True, slots=True)
class MemoryAccess:
    """A leaf of memory, 256 bytes, as it is when the step comes to it, and the 23 digests beside its way up."""

    leaf: bytes
    siblings: tuple[Digest, ...]

    @property
    def arguments(self) -> tuple[tuple[bytes, ...], tuple[Digest, ...]]:
        """As the contract takes it."""
        pieces = range(0, len(self.leaf), _PIECE_BYTES)
        return tuple(self.leaf[start : start + _PIECE_BYTES] for start in pieces), self.siblings


@dataclass(frozen=True, slots=True)
class StepWitness:
    """What one step touches; what it does not need is empty.

    Attributes:
        instruction: 32 bytes, none where the program has nothing; path: the 16 digests beside its way up.
        preimage: what the instruction PREIMAGE finds, chaining value and block, 96 bytes.
    """

    instruction: bytes = b""
    path: tuple[Digest, ...] = ()
    accesses: tuple[MemoryAccess, ...] = ()
    preimage: bytes = b""

    @property
    def arguments(self) -> tuple[object, ...]:
        """As the contract takes it."""
        return self.instruction, self.path, tuple(access.arguments for access in self.accesses), self.preimage
