"""Programs drawn at random do as machine what they do as plain Python."""

from __future__ import annotations

import random

from _program_stage import WORDS_FROM, two_ways
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
BINARY = ("+", "-", "*", "&", "|", "^", "<<", ">>", "//", "%")
COMPARED = ("<", "<=", ">", ">=", "==", "!=")
EDGES = (0, 1, 2, 3, 63, 64, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1)
PAIRED = ("fadd", "fsub", "fmul", "mul_high", "shift_right_signed", "signed_less", "once", "slow")
BEFORE = f"""
from __future__ import annotations
{WORDS_FROM} accept, byte_swap, fadd, fmul, fsub, memory, mul_high, shift_right_signed, signed_less
EDGE = 1 << 63


def once(x: int, y: int) -> int:
    return (x ^ EDGE) - y * x


def slow(x: int, y: int) -> int:
    while x > 9:
        x >>= 3
        y += x
        if y & 1:
            return y
    return x if y else EDGE


def both(x: int, y: int) -> tuple[int, int]:
    memory[90] += 1
    return y + memory[90], x
"""


class Author:
    """Writes a program at random."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.loops = 0

    def value(self, depth: int) -> str:
        """An expression."""
        rng = self.rng
        if depth == 0 or rng.random() < 0.2:
            return rng.choice([*NAMES, str(rng.choice(EDGES)), str(rng.randrange(1 << 64)), f"memory[{self.place(0)}]"])
        left, right = self.value(depth - 1), self.value(depth - 1)
        kind = rng.randrange(7)
        if kind == 0:
            return f"{rng.choice(PAIRED)}({left}, {right})"
        if kind == 1:
            return f"({left} if {self.condition(depth - 1)} else {right})"
        if kind == 2:
            return f"({rng.choice(('~', '-'))}{left})"
        if kind == 3:
            return f"byte_swap({left})"
        if kind == 4:
            return f"({self.condition(depth - 1)})"
        return f"({left} {rng.choice(BINARY[:8] if rng.random() < 0.9 else BINARY)} {right})"

    def condition(self, depth: int) -> str:
        """An expression that is mostly asked whether it is zero."""
        rng = self.rng
        parts = [self.value(max(depth - 1, 0)) for _ in range(3)]
        kind = rng.randrange(5)
        if kind == 0:
            return f"{parts[0]} {rng.choice(COMPARED)} {parts[1]} {rng.choice(COMPARED)} {parts[2]}"
        if kind == 1 and depth:
            return f"({self.condition(depth - 1)}) {rng.choice(('and', 'or'))} ({self.condition(depth - 1)})"
        if kind == 2 and depth:
            return f"not ({self.condition(depth - 1)})"
        return f"{parts[0]} {rng.choice(COMPARED)} {parts[1]}"

    def place(self, depth: int) -> str:
        """An address from 64 to 95."""
        return f"64 + ({self.value(depth)} & 15)" if depth else str(64 + self.rng.randrange(32))

    def block(self, depth: int, inside: str = "") -> list[str]:
        """Some statements, in a loop of this counter."""
        return [line for _ in range(self.rng.randrange(1, 4)) for line in self.statement(depth, inside)]

    def statement(self, depth: int, inside: str) -> list[str]:
        rng = self.rng
        kind = rng.randrange(10) if depth else rng.randrange(5)
        match kind:
            case 0:
                return [f"{rng.choice(NAMES)} = {self.value(2)}"]
            case 1:
                return [f"memory[{self.place(rng.randrange(2))}] = {self.value(2)}"]
            case 2:
                return [f"{rng.choice(NAMES)} {rng.choice(BINARY[:8])}= {self.value(1)}"]
            case 3:
                return [f"memory[{self.place(1)}] {rng.choice(BINARY[:8])}= {self.value(1)}"]
            case 4:
                one, other = rng.sample(NAMES, 2)
                pair = f"{self.value(1)}, {self.value(1)}"
                return [f"{one}, {other} = {rng.choice((pair, f'both({pair})'))}"]
            case 5 if inside:
                return [f"if {self.condition(1)}:", f"    {rng.choice(('break', 'continue'))}"]
            case 6 | 7:
                return self.loop(depth, kind == 6)
        other = ["else:", *indented(self.block(depth - 1, inside))] if rng.random() < 0.5 else []
        return [f"if {self.condition(2)}:", *indented(self.block(depth - 1, inside)), *other]

    def loop(self, depth: int, counted: bool) -> list[str]:
        self.loops += 1
        name = f"i{self.loops}"
        if counted:
            ends = self.rng.choice((f"{self.value(1)} & 7", f"1, {self.value(1)} & 7", "5, 0, -2", f"a & 3, 9, {2}"))
            return [f"for {name} in range({ends}):", *indented(self.block(depth - 1, name))]
        body = [f"{name} += 1", *self.block(depth - 1, name)]
        return [f"{name} = 0", f"while {name} < 5 and ({self.condition(1)}):", *indented(body)]

    def program(self) -> str:
        start = [f"{name} = {self.rng.choice(EDGES)}" for name in NAMES]
        end = [f"memory[{96 + index}] = {name}" for index, name in enumerate(NAMES)]
        return "\n".join([BEFORE, "def main() -> None:", *indented([*start, *self.block(3), *end, "accept()"]), ""])


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


@given(st.integers(0, (1 << 32) - 1))
def test_random_program_does_as_machine_what_it_does_as_python(seed: int) -> None:
    two_ways(Author(random.Random(seed)).program(), room=range(64, 100))
