"""The two honest players of a dissection, pure: what each does is a function of its own run and of what was shown.

A game is about an interval of 16^level steps whose left state is agreed and whose right one is denied. The claimant
shows the fifteen states between its parts, the challenger says which part is the first whose end is wrong; at level 0
the interval is one step, which the claimant proves (docs/spec/machine.md has rules and proofs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._errors import DissectionError
from collegium.settlement._machine import MachineRun
from collegium.settlement._machine_state import ACCEPTED, MachineState, StepWitness
from collegium.settlement._stretches import KnownStretches

__all__ = ["PARTS", "Answer", "Choice", "RunChallenger", "RunDefender", "between"]

PARTS: Final = 16
_BLOCK_BYTES: Final = 64
_VALUE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Choice:
    """A challenger's move.

    Attributes:
        part: the first of the sixteen whose end it denies.
        demand: it is one step, which needs a preimage that the challenger does not know: it asks to see it.
    """

    part: int
    demand: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What proves a step that finds a preimage, and the blocks before it in the message, behind the value there."""

    before: MachineState
    witness: StepWitness
    value: Digest
    blocks: bytes


class RunDefender:
    """Stands up for a statement that its run accepts."""

    def __init__(self, run: MachineRun, stretches: KnownStretches, levels: int) -> None:
        """Take a run, and what it knows.

        Raises:
            DissectionError: the run does not accept within 16^levels steps.
        """
        if not run.accepted or run.steps > PARTS**levels:
            raise DissectionError(f"a run of {run.steps} steps that ends in {run.final} is none to stand up for")
        self._run, self._stretches, self._levels = run, stretches, levels

    def claim(self) -> tuple[MachineState, tuple[Digest, ...]]:
        """Return the state with which it accepts, and those between the parts of the whole run."""
        return self._run.final, self.divide(self._levels, 0)

    def divide(self, level: int, position: int) -> tuple[Digest, ...]:
        """Return the states between the parts of an interval."""
        states = self._run.states(between(level, position))
        return tuple(state.digest for state in states if state is not None)  # of an accepting run all are known

    def prove(self, position: int) -> tuple[MachineState, StepWitness]:
        """Return the state before a step, and its witness."""
        (before,) = self._run.states([position])
        if before is None:
            raise DissectionError(f"the state after {position} steps is not known")
        return before, self._run.witness(position)

    def answer(self, position: int, blocks: int) -> Answer:
        """Return what was demanded of a step: its preimage, among so many blocks, or as many as the message has."""
        before, witness = self.prove(position)
        value, shown = witness.preimage[:_VALUE_BYTES], b""
        while witness.preimage and len(shown) < _BLOCK_BYTES * (blocks - 1):
            found = self._stretches(value)
            if found is None:
                break  # it begins here
            value, shown = found[0], found[1] + shown
        return Answer(before, witness, value, shown)


class RunChallenger:
    """Finds the first step of another's run that is not its own; stuck where a preimage is unknown, it demands that."""

    def __init__(self, run: MachineRun, levels: int) -> None:
        self._run, self._levels = run, levels

    @property
    def disputes(self) -> bool:
        """Whether there is something to dispute: its run does not accept in time, or cannot go on."""
        stuck = self._run.stuck is not None
        return stuck or not self._run.accepted or self._run.steps > PARTS**self._levels

    def denies(self, final: MachineState, states: Sequence[Digest] = ()) -> bool:
        """Say whether a claimed end is not its own, or one of the states shown between the parts of the whole run."""
        if self._state(PARTS**self._levels) != final.digest or final.status != ACCEPTED:
            return True
        return any(self._state(step) != state for step, state in zip(between(self._levels, 0), states, strict=False))

    def choose(self, level: int, position: int, states: Sequence[Digest]) -> Choice:
        """Return the first part whose end it denies; that of the last one it does, or it would not play."""
        own = [self._state(step) for step in between(level, position)]
        pairs = enumerate(zip(own, states, strict=True))
        part = next((index for index, (mine, other) in pairs if mine != other), PARTS - 1)
        step = position + part
        return Choice(part, level == 1 and self._run.stuck is not None and step == self._run.steps)

    def _state(self, step: int) -> Digest | None:
        (state,) = self._run.states([step])
        return None if state is None else state.digest


def between(level: int, position: int) -> list[int]:
    """Return the places between the parts of an interval of 16^level steps."""
    length = PARTS ** (level - 1)
    return [position + part * length for part in range(1, PARTS)]
