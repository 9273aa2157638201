"""What a contract does with a step's witness, a second time: the root and the state that follow, or a failure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from collegium.commitment import compress
from collegium.crypto import Digest
from collegium.settlement import MachineState, MemoryAccess, StepWitness, machine_step

HEIGHT, PROGRAM_HEIGHT = 23, 16


class WitnessRefusedError(Exception):
    """A witness shows too little, too much or something else."""


def require(condition: bool) -> None:
    if not condition:
        raise WitnessRefusedError


def leaf_of(data: bytes) -> Digest:
    return sha256(b"collegium/v1/memory\x00" + data).digest()


def above(left: Digest, right: Digest) -> Digest:
    return sha256(b"collegium/v1/node\x00" + left + right).digest()


def climbed(digest: Digest, place: int, siblings: Sequence[Digest]) -> Digest:
    for sibling in siblings:
        digest = above(sibling, digest) if place & 1 else above(digest, sibling)
        place >>= 1
    require(place == 0)
    return digest


class Shown:
    """Memory as a contract knows it: a root, and what a witness shows under it."""

    def __init__(self, root: Digest, accesses: Sequence[MemoryAccess]) -> None:
        self.root, self._accesses = root, list(accesses)
        self._current: MemoryAccess | None = None

    def _next(self, address: int) -> MemoryAccess:
        require(not self.over())
        access = self._current = self._accesses.pop(0)
        require(len(access.leaf) == 256)
        require(len(access.siblings) == HEIGHT)
        require(climbed(leaf_of(access.leaf), address // 32, access.siblings) == self.root)
        return access

    def _set(self, address: int, access: MemoryAccess, leaf: bytes) -> None:
        self.root = climbed(leaf_of(leaf), address // 32, access.siblings)

    def read(self, address: int) -> int:
        at = 8 * (address % 32)
        return int.from_bytes(self._next(address).leaf[at : at + 8], "big")

    def write(self, address: int, word: int) -> None:
        access, at = self._next(address), 8 * (address % 32)
        self._set(address, access, access.leaf[:at] + word.to_bytes(8, "big") + access.leaf[at + 8 :])

    def frame(self, address: int) -> list[int]:
        leaf = self._next(address).leaf
        return [int.from_bytes(leaf[at : at + 8], "big") for at in range(0, 256, 8)]

    def set_frame(self, address: int, words: Sequence[int]) -> None:
        assert self._current is not None
        self._set(address, self._current, b"".join(word.to_bytes(8, "big") for word in words))

    def over(self) -> bool:
        return not self._accesses


def checked(program: Digest, before: MachineState, witness: StepWitness) -> MachineState:
    """What a contract concludes from a witness; it fails where that shows too little, too much or something else."""
    if before.status or before.pc >= 1 << PROGRAM_HEIGHT:
        require(witness == StepWitness())
        return MachineState(before.status or 2, before.pc, before.fp, before.root)
    leaf = sha256(b"collegium/v1/instruction\x00" + witness.instruction).digest() if witness.instruction else bytes(32)
    require(len(witness.path) == PROGRAM_HEIGHT)
    require(climbed(leaf, before.pc, witness.path) == program)
    data = witness.instruction
    row = [int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8)] or None
    require(row is None or len(data) == 32)
    shown, asked = Shown(before.root, witness.accesses), []

    def find(digest: Digest) -> tuple[Digest, bytes]:
        value, block = witness.preimage[:32], witness.preimage[32:]
        require(compress(value, block) == digest)
        asked.append(digest)
        return value, block

    status, pc, fp = machine_step(row, (before.status, before.pc, before.fp), shown, find)
    require(shown.over())
    require(len(asked) == (1 if witness.preimage else 0))
    return MachineState(status, pc, fp, shown.root)
