"""The game of dissection in pure Python: who is right wins, whatever the other side does.

The rules here are the contract's (contracts/src/Dissections.sol) without clocks and coin, written a second time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from _machine_stage import WitnessRefusedError, checked
from _program_stage import WORDS_FROM
from hypothesis import given
from hypothesis import strategies as st

from collegium.commitment import compress
from collegium.crypto import Digest
from collegium.settlement import (
    PARTS,
    DissectionError,
    KnownStretches,
    MachineRun,
    MachineState,
    PreimageUnknownError,
    Program,
    RunChallenger,
    RunDefender,
    StepWitness,
    compile_program,
)

LEVELS = 3
START = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
SOURCE = f"""
from __future__ import annotations
{WORDS_FROM} accept, fmul, memory, preimage, reject
LAST: int


def main() -> None:
    frame = 2048
    for index in range(4):
        memory[frame + 12 + index] = memory[index]
    total = 0
    while memory[frame] != 0x6A09E667BB67AE85 or memory[frame + 4] == 0:
        preimage(frame)
        for index in range(8):
            total = fmul(total + 3, memory[frame + 4 + index])
        for index in range(4):
            memory[frame + 12 + index] = memory[frame + index]
    if total & 15 < LAST:
        accept()
    reject()
"""
PROGRAM = compile_program("program", {"LAST": 8}, {"program": SOURCE}.__getitem__)
OTHER = compile_program("program", {"LAST": 16}, {"program": SOURCE}.__getitem__)


def run_of(message: bytes, *, program: Program = PROGRAM, known: KnownStretches | None = None) -> MachineRun:
    stretches = KnownStretches([message]) if known is None else known
    return MachineRun(program, sha256(message).digest(), stretches, steps_max=PARTS**LEVELS)


def messages(wanted: bool) -> list[bytes]:
    """Some messages of one to three blocks that the program accepts, or does not."""
    found = [str(number).encode() * (1 + 13 * (number % 3)) for number in range(60)]
    return [message for message in found if run_of(message).accepted == wanted][:6]


RIGHT, WRONG = messages(True), messages(False)


class MoveRefusedError(Exception):
    """The rules do not allow a move."""


def require(condition: bool) -> None:
    if not condition:
        raise MoveRefusedError


@dataclass
class Game:
    """One claim and its challenger, as the contract keeps them."""

    left: Digest
    right: Digest
    states: tuple[Digest, ...]
    level: int = LEVELS
    position: int = 0
    phase: str = "choose"

    def __post_init__(self) -> None:
        self._again = (self.left, self.right, self.states)
        self._blocks = 0

    def choose(self, part: int) -> None:
        require(self.phase == "choose" and 0 <= part < PARTS)
        self.level -= 1
        self.position += part * PARTS**self.level
        self.left = self.states[part - 1] if part else self.left
        self.right = self.states[part] if part < PARTS - 1 else self.right
        self.phase = "divide" if self.level else "prove"

    def divide(self, states: Sequence[Digest]) -> None:
        require(self.phase == "divide" and len(states) == PARTS - 1)
        self.states, self.phase = tuple(states), "choose"

    def demand(self, part: int, blocks: int) -> None:
        require(self.phase == "choose" and self.level == 1)
        self.choose(part)
        self._blocks, self.phase = blocks, "answer"

    def prove(self, before: MachineState, witness: StepWitness) -> None:
        require(self.phase == "prove")
        self._execute(before, witness)
        self.phase = "defended"

    def answer(self, before: MachineState, witness: StepWitness, value: Digest, blocks: bytes) -> None:
        require(self.phase == "answer")
        self._execute(before, witness)
        if not witness.preimage:
            self.phase = "defended"
            return
        count, end = len(blocks) // 64, witness.preimage[:32]
        demanded = 0 if end == START else self._blocks - 1
        require(count == demanded or (count < demanded and value == START))
        for at in range(0, len(blocks), 64):
            value = compress(value, blocks[at : at + 64])
        require(value == end or not count)
        self.left, self.right, self.states = self._again
        self.level, self.position, self.phase = LEVELS, 0, "choose"

    def _execute(self, before: MachineState, witness: StepWitness) -> None:
        require(before.digest == self.left)
        try:
            after = checked(PROGRAM.digest, before, witness)
        except WitnessRefusedError:
            raise MoveRefusedError from None
        require(after.digest == self.right)


class Liar:
    """Claims that a wrong statement is accepted, and shows whatever helps, true states among it."""

    def __init__(self, message: bytes, rng: random.Random) -> None:
        self.rng, self.run = rng, run_of(message)
        self.runs = [self.run, run_of(rng.choice(RIGHT)), run_of(message, program=OTHER)]

    def claim(self) -> tuple[MachineState, tuple[Digest, ...]]:
        ends = [replace(run.final, status=1) for run in self.runs]
        return self.rng.choice([*ends, replace(ends[0], root=self.rng.randbytes(32))]), self.divide(LEVELS, 0)

    def divide(self, level: int, position: int) -> tuple[Digest, ...]:
        steps = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        until = self.rng.randrange(PARTS)
        honest = [state.digest for state in self.run.states(steps)[:until] if state is not None]
        lies = [state.digest for state in self.rng.choice(self.runs).states(steps)[until:] if state is not None]
        if self.rng.random() < 0.3:
            lies = [self.rng.randbytes(32) for _ in lies]
        return (*honest, *lies)

    def attempts(self, position: int) -> list[tuple[MachineState, StepWitness]]:
        """Whatever might be taken for a proof of the step."""
        tries = []
        for run in self.runs:
            for step in (position, position + 1, max(position - 1, 0)):
                before = run.states([step])[0]
                assert before is not None
                tries += [(before, run.witness(step)), (before, StepWitness())]
        return tries


@given(st.integers(0, (1 << 32) - 1))
def test_a_wrong_statement_falls_whatever_its_claimants_show(seed: int) -> None:
    rng = random.Random(seed)
    message = rng.choice(WRONG)
    liar, challenger = Liar(message, rng), RunChallenger(run_of(message), LEVELS)
    assert challenger.disputes
    end, states = liar.claim()
    assert challenger.denies(end)
    game = Game(start_of(message), end.digest, states)
    while game.phase != "prove":
        if game.phase == "divide":
            game.divide(liar.divide(game.level, game.position))
        choice = challenger.choose(game.level, game.position, game.states)
        assert not choice.demand
        game.choose(choice.part)
    for before, witness in liar.attempts(game.position):
        with pytest.raises(MoveRefusedError):
            game.prove(before, witness)


@given(st.integers(0, (1 << 32) - 1))
def test_a_right_statement_stands_whatever_its_challenger_denies(seed: int) -> None:
    rng = random.Random(seed)
    message = rng.choice(RIGHT)
    known = KnownStretches([message])
    defender = RunDefender(run_of(message), known, LEVELS)
    end, states = defender.claim()
    assert not RunChallenger(run_of(message), LEVELS).denies(end)
    game, demands = Game(start_of(message), end.digest, states), rng.randrange(3)
    while game.phase != "defended":
        match game.phase:
            case "choose" if game.level == 1 and demands:
                demands -= 1
                game.demand(rng.randrange(PARTS), rng.randrange(1, 64))
            case "choose":
                game.choose(rng.randrange(PARTS))
            case "divide":
                game.divide(defender.divide(game.level, game.position))
            case "prove":
                game.prove(*defender.prove(game.position))
            case "answer":
                answer = defender.answer(game.position, game._blocks)
                game.answer(answer.before, answer.witness, answer.value, answer.blocks)


@pytest.mark.parametrize("right", [True, False])
def test_a_challenger_to_whom_the_message_is_withheld_demands_it(right: bool) -> None:
    for message in RIGHT if right else WRONG:
        pieces: list[tuple[Digest, bytes]] = []
        whole = KnownStretches([message])
        holder, claimed = run_of(message), replace(run_of(message).final, status=1)
        challenger = RunChallenger(run_of(message, known=KnownStretches([], pieces)), LEVELS)
        assert challenger.disputes
        game = Game(start_of(message), claimed.digest, honest_states(holder, LEVELS, 0))
        demands = 0
        while challenger.denies(claimed):
            if game.phase == "divide":
                game.divide(honest_states(holder, game.level, game.position))
            choice = challenger.choose(game.level, game.position, game.states)
            if not choice.demand:
                game.choose(choice.part)
                if game.phase == "prove":
                    break
                continue
            game.demand(choice.part, 2)
            demands += 1
            answer = RunDefender.answer(shower(holder, whole), game.position, 2)
            game.answer(answer.before, answer.witness, answer.value, answer.blocks)
            pieces += [(answer.value, answer.blocks), (answer.witness.preimage[:32], answer.witness.preimage[32:])]
            challenger = RunChallenger(run_of(message, known=KnownStretches([], pieces)), LEVELS)
        assert demands == -(-(len(message) + 9) // 128)
        assert challenger.denies(claimed) != right
        if not right:
            (before,) = holder.states([game.position])
            assert before is not None
            with pytest.raises(MoveRefusedError):
                game.prove(before, holder.witness(game.position))


def test_nobody_stands_up_with_a_run_that_does_not_accept() -> None:
    known = KnownStretches([WRONG[0]])
    with pytest.raises(DissectionError, match="none to stand up for"):
        RunDefender(run_of(WRONG[0]), known, LEVELS)
    with pytest.raises(DissectionError, match="none to stand up for"):
        RunDefender(run_of(RIGHT[0]), known, 1)
    with pytest.raises(PreimageUnknownError):
        RunDefender(run_of(RIGHT[0], known=KnownStretches([])), known, LEVELS)
    assert not RunChallenger(run_of(RIGHT[0]), LEVELS).disputes
    assert RunChallenger(run_of(RIGHT[0]), 1).disputes  # it accepts too late


def honest_states(run: MachineRun, level: int, position: int) -> tuple[Digest, ...]:
    """What somebody shows who has the run, also one that does not accept."""
    steps = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
    return tuple(state.digest for state in run.states(steps) if state is not None)


def shower(run: MachineRun, known: KnownStretches) -> RunDefender:
    """Somebody who has the message and answers, also for a wrong statement."""
    defender = object.__new__(RunDefender)
    defender._run, defender._stretches, defender._levels = run, known, LEVELS
    return defender


def start_of(message: bytes) -> Digest:
    state = run_of(message).states([0])[0]
    assert state is not None
    return state.digest
