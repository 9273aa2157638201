"""Programs run two ways: compiled and stepped through one instruction after the other, and as plain Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from collegium.crypto import Digest
from collegium.settlement import Parameters, Program, compile_program, machine_step, run_plainly
from collegium.settlement.programs import Memory

WORDS_FROM = "from collegium.settlement.programs._words import"
STEPS_MAX = 200_000


class Steps:
    """A machine that is stepped in plain Python, its memory a dictionary."""

    def __init__(self, program: Program, statement: Digest, find: Callable[[Digest], tuple[Digest, bytes] | None]):
        self.program, self.memory, self.find = program, Memory(), find
        for index in range(4):
            self.memory[index] = int.from_bytes(statement[8 * index : 8 * index + 8], "big")
        self.registers, self.count = (0, 0, 1024), 0

    def run(self, steps_max: int = STEPS_MAX) -> bool:
        while self.registers[0] == 0:
            pc = self.registers[1]
            here = 0 <= pc < len(self.program.instructions)
            row = [int(part) for part in self.program.instructions[pc]] if here else None
            self.registers = machine_step(row, self.registers, self, self.find)
            self.count += 1
            assert self.count <= steps_max, "the program does not end"
        return self.registers[0] == 1

    def read(self, address: int) -> int:
        return self.memory[address]

    def write(self, address: int, word: int) -> None:
        self.memory[address] = word

    def frame(self, address: int) -> list[int]:
        return [self.memory[address + index] for index in range(32)]

    def set_frame(self, address: int, words: Sequence[int]) -> None:
        for index, word in enumerate(words):
            self.memory[address + index] = word


def two_ways(
    source: str | Mapping[str, str],
    parameters: Parameters | None = None,
    statement: Digest = bytes(32),
    find: Callable[[Digest], tuple[Digest, bytes] | None] = lambda _: None,
    room: range = range(64, 1024),
) -> tuple[bool, list[int]]:
    """Return whether a program accepts and what it leaves in a part of memory; the same both ways."""
    sources = {"program": source} if isinstance(source, str) else dict(source)
    given = parameters or {}
    machine = Steps(compile_program("program", given, sources.__getitem__), statement, find)
    stepped = machine.run()
    accepted, memory = run_plainly("program", given, statement, find, sources.__getitem__)
    assert stepped == accepted
    left = [machine.memory[address] for address in room]
    assert left == [memory[address] for address in room]
    return accepted, left
