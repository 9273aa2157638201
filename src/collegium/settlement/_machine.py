"""The dispute machine run on a statement: its end, its state after any number of steps, and what proves a step.

A run is done once, with snapshots on the way; a state in between is found from the snapshot before it. So a dissection
into 16 parts, and then of one of them, and so on, costs about one more run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from collegium.crypto import Digest
from collegium.settlement._instructions import PROGRAM_INSTRUCTIONS_MAX, Program, Words
from collegium.settlement._kernels import DONE, GROW, MARK, NO_OP, run_slice
from collegium.settlement._machine_memory import LEAF_WORDS, MachineMemory
from collegium.settlement._machine_plain import is_operation, machine_step
from collegium.settlement._machine_state import ACCEPTED, FIRST_FRAME, RUNNING, MachineState, MemoryAccess, StepWitness
from collegium.settlement._stretches import KnownStretches
from collegium.settlement.programs import PreimageUnknownError

__all__ = ["STEPS_MAX", "MachineRun"]

STEPS_MAX: Final = 1 << 36  # 16^9: what a game of nine divisions covers

_SNAPSHOTS_MAX: Final = 32
_SPACING_MIN: Final = 1 << 20


class MachineRun:
    """A program's run on a statement, as far as preimages are known.

    Attributes:
        steps: after how many steps it halts or, where it is stuck, cannot go on.
        stuck: the digest whose preimage it needs then; None if it halts.
    """

    def __init__(
        self, program: Program, statement: Digest, stretches: KnownStretches, steps_max: int = STEPS_MAX
    ) -> None:
        self._program, self._stretches = program, stretches
        machine = _Machine(program, stretches)
        machine.memory.words[:4] = np.frombuffer(statement, ">u8")
        machine.memory.marks[0] = MARK
        self._snapshots, self._spacing = [_snapshot(machine)], _SPACING_MIN
        going = True
        while going and machine.step < steps_max:
            going = machine.advance(min(machine.step + self._spacing, steps_max)) and machine.registers[0] == RUNNING
            if going:
                self._keep(machine)
        self._machine, self.steps = machine, machine.step
        self.stuck, self._status = machine.wanted, int(machine.registers[0])

    @property
    def final(self) -> MachineState:
        """The state in which it halts.

        Raises:
            PreimageUnknownError: it does not get there.
        """
        state = self.states([self.steps if self.stuck is None else self.steps + 1])[0]
        if state is None:
            raise _unknown(self.stuck)
        return state

    @property
    def accepted(self) -> bool:
        """Whether the statement holds.

        Raises:
            PreimageUnknownError: nobody can say: the run is stuck.
        """
        if self.stuck is not None:
            raise _unknown(self.stuck)
        return self._status == ACCEPTED

    def states(self, steps: Sequence[int]) -> list[MachineState | None]:
        """Return the state after each number of steps, in increasing order; None where it is not known."""
        return [self._at(step).state() if step <= self.steps or self.stuck is None else None for step in steps]

    def witness(self, step: int) -> StepWitness:
        """Return what shows the step from a state to the one after it.

        Raises:
            PreimageUnknownError: the step needs a preimage that is not known.
        """
        if step >= self.steps and self.stuck is not None:
            raise _unknown(self.stuck)
        machine = self._at(step)
        status, pc, fp = (int(word) for word in machine.registers[:3])
        if status != RUNNING or pc >= PROGRAM_INSTRUCTIONS_MAX:
            return StepWitness()
        seen = _Seen(machine.memory, self._stretches)
        row = None
        if pc < len(self._program.instructions):
            row = [int(part) for part in self._program.instructions[pc]]
        machine.registers[:3] = machine_step(row, (status, pc, fp), seen, seen.find)
        machine.step += 1
        path = self._program.path(pc)
        return StepWitness(self._program.encoded(pc), path, tuple(seen.accesses), seen.preimage)

    def _at(self, step: int) -> _Machine:
        """Return a machine after so many steps, or halted before."""
        step = min(step, self.steps)
        before = self._snapshots[bisect_right(self._snapshots, step, key=lambda snapshot: snapshot.step) - 1]
        if not before.step <= self._machine.step <= step:
            self._machine = self._restored(before.step)
        self._machine.advance(step)
        return self._machine

    def _keep(self, machine: _Machine) -> None:
        """Take a snapshot; of too many let go every second one, and take them twice as far apart."""
        self._snapshots.append(_snapshot(machine))
        if len(self._snapshots) > _SNAPSHOTS_MAX:
            self._spacing *= 2
            kept = self._snapshots[:1]
            for first, second in zip(self._snapshots[1::2], self._snapshots[2::2], strict=True):
                kept.append(_Snapshot(second.step, second.registers, {**first.pages, **second.pages}))
            self._snapshots = kept

    def _restored(self, step: int) -> _Machine:
        machine, pages = _Machine(self._program, self._stretches), dict[int, Words]()
        for snapshot in self._snapshots:
            if snapshot.step <= step:
                pages.update(snapshot.pages)
                machine.step, machine.registers = snapshot.step, snapshot.registers.copy()
        for number, words in pages.items():
            machine.memory.put((number, words))
        return machine


class _Machine:
    """A machine somewhere in its run.

    Attributes:
        wanted: the digest whose preimage it needs to go on; None if it does not need one.
    """

    def __init__(self, program: Program, stretches: KnownStretches) -> None:
        self._code, self._stretches = _decoded(program), stretches
        self.memory = MachineMemory()
        self.registers: Words = np.array([RUNNING, 0, FIRST_FRAME, DONE, 0], np.uint64)
        self.step = 0
        self.wanted: Digest | None = None

    def advance(self, step: int) -> bool:
        """Go on until a step or until it halts; say no if it is stuck before."""
        memory = self.memory
        while self.step < step and self.registers[0] == RUNNING:
            room = memory.words, memory.marks
            done = run_slice(*self._code, self.registers, *room, self._stretches.arrays, step - self.step)
            self.step += int(done)
            reason, address = (int(word) for word in self.registers[3:])
            if reason == GROW:
                memory.reach(address)
            elif reason != DONE:
                self.wanted = memory.leaf(address)[8 * 12 : 8 * 16]
                return False
        return True

    def state(self) -> MachineState:
        """Return what it is now."""
        status, pc, fp = (int(word) for word in self.registers[:3])
        return MachineState(status, pc, fp, self.memory.root())


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A place on the way, with the pages that were written since the one before."""

    step: int
    registers: Words
    pages: dict[int, Words]


class _Seen:
    """Memory as one step sees it, which writes down what the step touches and how it gets there."""

    def __init__(self, memory: MachineMemory, stretches: KnownStretches) -> None:
        self._memory, self._stretches = memory, stretches
        self.accesses: list[MemoryAccess] = []
        self.preimage = b""

    def read(self, address: int) -> int:
        """Return a word."""
        self._see(address)
        return int(self._memory.words[address])

    def write(self, address: int, word: int) -> None:
        """Set a word."""
        self._see(address)
        self._memory.words[address] = word
        self._memory.marks[address // LEAF_WORDS] = MARK

    def frame(self, address: int) -> list[int]:
        """Return the words of a leaf."""
        self._see(address)
        return [int(word) for word in self._memory.words[address : address + LEAF_WORDS]]

    def set_frame(self, address: int, words: Sequence[int]) -> None:
        """Set the words of the leaf just asked for."""
        self._memory.words[address : address + LEAF_WORDS] = words
        self._memory.marks[address // LEAF_WORDS] = MARK

    def find(self, digest: Digest) -> tuple[Digest, bytes] | None:
        """Return a preimage, and write it down."""
        found = self._stretches(digest)
        self.preimage = b"" if found is None else b"".join(found)
        return found

    def _see(self, address: int) -> None:
        self._memory.reach(address)
        self.accesses.append(MemoryAccess(self._memory.leaf(address), self._memory.siblings(address)))


def _snapshot(machine: _Machine) -> _Snapshot:
    return _Snapshot(machine.step, machine.registers.copy(), dict(machine.memory.pages()))


def _decoded(program: Program) -> tuple[npt.NDArray[np.uint8], Words]:
    """Return ops as bytes, NO_OP where the machine has no such, and the operands."""
    ops = [int(op) if is_operation(int(op)) else NO_OP for op in program.instructions[:, 0]]
    return np.array(ops, np.uint8), np.ascontiguousarray(program.instructions[:, 1:])


def _unknown(digest: Digest | None) -> PreimageUnknownError:
    shown = b"" if digest is None else digest
    return PreimageUnknownError(f"no stretch is known that ends in {shown.hex()}", digest=shown)
