"""A second machine, as plain as can be: what docs/spec/machine.md says of one step, with the witness that shows it.

Nothing of the package computes here, so that what the package's machine and the contract say is held against a third.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from collegium.settlement import MachineState, MemoryAccess, StepWitness

WORD = 1 << 64
MEMORY = 1 << 28
PRIME = 2**64 - 2**32 + 1
LEAF_WORDS, MEMORY_LEVELS, PROGRAM_LEVELS = 32, 23, 16
IMMEDIATE = 64
START = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
NAMES = (
    "REJECT", "ACCEPT", "SET", "MOVE", "ADD", "SUB", "MUL", "MULH", "DIV", "REM", "AND", "OR", "XOR", "SHL", "SHR",
    "SAR", "LT", "SLT", "EQ", "FADD", "FSUB", "FMUL", "BSWAP", "LOAD", "STORE", "JUMP", "JZ", "JNZ", "CALL", "RET",
    "SHA256", "PREIMAGE", "KECCAK",
)  # fmt: skip
OPS = {name: number for number, name in enumerate(NAMES)}


def signed(x: int) -> int:
    return x - WORD if x >> 63 else x


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "ADD": lambda x, y: x + y,
    "SUB": lambda x, y: x - y,
    "MUL": lambda x, y: x * y,
    "MULH": lambda x, y: x * y >> 64,
    "DIV": lambda x, y: x // y,
    "REM": lambda x, y: x % y,
    "AND": lambda x, y: x & y,
    "OR": lambda x, y: x | y,
    "XOR": lambda x, y: x ^ y,
    "SHL": lambda x, y: x << y if y < 64 else 0,
    "SHR": lambda x, y: x >> y if y < 64 else 0,
    "SAR": lambda x, y: signed(x) >> min(y, 64),
    "LT": lambda x, y: x < y,
    "SLT": lambda x, y: signed(x) < signed(y),
    "EQ": lambda x, y: x == y,
    "FADD": lambda x, y: (x + y) % PRIME,
    "FSUB": lambda x, y: (x - y) % PRIME,
    "FMUL": lambda x, y: x * y % PRIME,
}
READS = {  # the operands whose words are read first, in order
    **dict.fromkeys(OPERATIONS, "bc"),
    **dict.fromkeys(("MOVE", "BSWAP", "JZ", "JNZ"), "b"),
    **dict.fromkeys(("SHA256", "PREIMAGE", "KECCAK"), "a"),
    "LOAD": "bc",
    "STORE": "bca",
}
WRITES_A = {*OPERATIONS, "SET", "MOVE", "BSWAP", "LOAD"}
HAS_C = {*OPERATIONS, "LOAD", "STORE"}


class TrapError(Exception):
    """The step changes the status and nothing else."""


def node_above(left: bytes, right: bytes) -> bytes:
    return sha256(b"collegium/v1/node\0" + left + right).digest()


def instruction(name: str, a: int = 0, b: int = 0, c: int = 0, *, immediate: bool = False) -> bytes:
    op = OPS[name] + (IMMEDIATE if immediate else 0)
    return b"".join(value.to_bytes(8, "big") for value in (op, a, b, c))


class Tree:
    """A tree of fixed height of which only some leaves differ from what all others are."""

    def __init__(self, height: int, tag: bytes, empty: bytes) -> None:
        self.height, self.tag, self.leaves = height, tag, dict[int, bytes]()
        self.nothing = [empty]
        for _ in range(height):
            self.nothing.append(node_above(self.nothing[-1], self.nothing[-1]))

    def node(self, level: int, index: int) -> bytes:
        if not any(place >> level == index for place in self.leaves):
            return self.nothing[level]
        if level == 0:
            return sha256(self.tag + self.leaves[index]).digest()
        return node_above(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    @property
    def root(self) -> bytes:
        return self.node(self.height, 0)

    def path(self, index: int) -> tuple[bytes, ...]:
        return tuple(self.node(level, (index >> level) ^ 1) for level in range(self.height))


@dataclass
class Twin:
    """A machine: its program and memory, and what is known of messages.

    Args:
        known: chaining value and block, 96 bytes, by the value after the block.
    """

    status: int = 0
    pc: int = 0
    fp: int = 1024
    known: dict[bytes, bytes] = field(default_factory=dict)
    program: Tree = field(default_factory=lambda: Tree(PROGRAM_LEVELS, b"collegium/v1/instruction\0", bytes(32)))
    memory: Tree = field(
        default_factory=lambda: Tree(
            MEMORY_LEVELS, b"collegium/v1/memory\0", sha256(b"collegium/v1/memory\0" + bytes(256)).digest()
        )
    )

    @property
    def state(self) -> MachineState:
        return MachineState(self.status, self.pc, self.fp, self.memory.root)

    def leaf(self, place: int) -> bytes:
        return self.memory.leaves.get(place, bytes(256))

    def word(self, address: int) -> int:
        at = address % LEAF_WORDS * 8
        return int.from_bytes(self.leaf(address // LEAF_WORDS)[at : at + 8], "big")

    def put(self, address: int, *words: int) -> None:
        for offset, word in enumerate(words):
            place, at = (address + offset) // LEAF_WORDS, (address + offset) % LEAF_WORDS * 8
            leaf = self.leaf(place)
            self.memory.leaves[place] = leaf[:at] + word.to_bytes(8, "big") + leaf[at + 8 :]

    def step(self) -> StepWitness:
        """Go one step; return what shows it."""
        if self.status:
            return StepWitness()
        if self.pc >= 1 << PROGRAM_LEVELS:
            self.status = 2
            return StepWitness()
        code = self.program.leaves.get(self.pc, b"")
        path, before = self.program.path(self.pc), (self.pc, self.fp, dict(self.memory.leaves))
        accesses: list[MemoryAccess] = []
        preimage = b""
        try:
            preimage = self._execute(code, accesses)
        except TrapError:
            self.pc, self.fp, self.memory.leaves = before
            self.status = 2
        return StepWitness(code, path, tuple(accesses), preimage)

    def _execute(self, code: bytes, accesses: list[MemoryAccess]) -> bytes:
        op, *operands = (int.from_bytes(code[at : at + 8], "big") for at in range(0, len(code), 8)) if code else (99,)
        immediate = op - IMMEDIATE in {OPS[name] for name in HAS_C}
        number = op - IMMEDIATE if immediate else op
        if number >= len(NAMES):
            raise TrapError
        name, (a, b, c) = NAMES[number], operands
        at = dict(zip("abc", ((self.fp + operand) % WORD for operand in operands), strict=True))
        self._check_places(name, at, immediate=immediate)

        def touch(address: int) -> int:
            place = address // LEAF_WORDS
            accesses.append(MemoryAccess(self.leaf(place), self.memory.path(place)))
            return self.word(address)

        def write(address: int, value: int) -> None:
            touch(address)
            self.put(address, value)

        reads = [c if operand == "c" and immediate else touch(at[operand]) for operand in READS.get(name, "")]
        self.pc += 1
        if name in {"ACCEPT", "REJECT"}:
            self.status = 1 if name == "ACCEPT" else 2
        elif name == "JUMP" or (name == "JZ" and not reads[0]) or (name == "JNZ" and reads[0]):
            self.pc = a
        elif name == "CALL":
            write(at["b"], self.pc)
            write((at["b"] + 1) % WORD, self.fp)
            self.pc, self.fp = a, at["b"]
        elif name == "RET":
            self.pc, self.fp = touch(self.fp), touch(self.fp + 1)
        elif name == "STORE":
            write(checked((reads[0] + reads[1]) % WORD), reads[2])
        elif READS.get(name) == "a":
            return self._transform(name, reads[0], touch)
        elif name in WRITES_A:
            write(at["a"], self._value(name, b, reads, touch))
        return b""

    def _check_places(self, name: str, at: dict[str, int], *, immediate: bool) -> None:
        named = set(READS.get(name, "")) | ({"a"} if name in WRITES_A else set()) | ({"b"} if name == "CALL" else set())
        places = [at[operand] for operand in named - ({"c"} if immediate else set())]
        if name == "CALL":
            places.append((at["b"] + 1) % WORD)
        if name == "RET":
            places += [self.fp, (self.fp + 1) % WORD]
        for place in places:
            checked(place)

    def _value(self, name: str, b: int, reads: list[int], touch: Callable[[int], int]) -> int:
        if name == "SET":
            return b
        if name == "MOVE":
            return reads[0]
        if name == "BSWAP":
            return int.from_bytes(reads[0].to_bytes(8, "big"), "little")
        if name == "LOAD":
            return touch(checked(sum(reads) % WORD))
        if name in {"DIV", "REM"} and reads[1] == 0:
            raise TrapError
        return int(OPERATIONS[name](*reads)) % WORD

    def _transform(self, name: str, frame: int, touch: Callable[[int], int]) -> bytes:
        if frame % LEAF_WORDS or frame >= MEMORY:
            raise TrapError
        touch(frame)
        leaf, shown = self.leaf(frame // LEAF_WORDS), b""
        if name == "SHA256":
            leaf = leaf[:96] + compress(leaf[:32], leaf[32:96]) + leaf[128:]
        elif name == "PREIMAGE":
            shown = self.known[leaf[96:128]]
            leaf = shown + leaf[96:]
        else:
            lanes = [int.from_bytes(leaf[at : at + 8], "big") for at in range(0, 200, 8)]
            leaf = b"".join(lane.to_bytes(8, "big") for lane in permute(lanes)) + leaf[200:]
        self.memory.leaves[frame // LEAF_WORDS] = leaf
        return shown


def checked(address: int) -> int:
    if address >= MEMORY:
        raise TrapError
    return address


# --- SHA-256's compression and Keccak's permutation, from their standards; the tests hold them against hashlib ---


def roots(power: int) -> list[int]:
    """The first 32 bits behind the point of the square or cube roots of the first 64 primes."""
    primes = [n for n in range(2, 312) if all(n % m for m in range(2, n))]
    found = []
    for prime in primes:
        scaled, low = prime << 32 * power, 1
        high = scaled
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= scaled else (low, middle)
        found.append(low % (1 << 32))
    return found


CONSTANTS = roots(3)


def compress(value: bytes, block: bytes) -> bytes:
    """FIPS 180-4, 6.2.2."""

    def turned(x: int, by: int) -> int:
        return (x >> by | x << (32 - by)) % (1 << 32)

    w = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for t in range(16, 64):
        s0 = turned(w[t - 15], 7) ^ turned(w[t - 15], 18) ^ w[t - 15] >> 3
        s1 = turned(w[t - 2], 17) ^ turned(w[t - 2], 19) ^ w[t - 2] >> 10
        w.append((w[t - 16] + s0 + w[t - 7] + s1) % (1 << 32))
    before = [int.from_bytes(value[at : at + 4], "big") for at in range(0, 32, 4)]
    a, b, c, d, e, f, g, h = before
    for constant, word in zip(CONSTANTS, w, strict=True):
        first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + (e & f ^ ~e & g) + constant + word
        second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (first + second) % (1 << 32), a, b, c, (d + first) % (1 << 32), e, f, g
    after = zip(before, (a, b, c, d, e, f, g, h), strict=True)
    return b"".join(((x + y) % (1 << 32)).to_bytes(4, "big") for x, y in after)


def permute(lanes: list[int]) -> list[int]:
    """FIPS 202, 3.3: lane (x, y) is number x + 5 y."""

    def turned(lane: int, by: int) -> int:
        return (lane << by | lane >> (64 - by)) % WORD

    register = 1
    for _ in range(24):
        parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        lanes = [lane ^ parity[(i - 1) % 5] ^ turned(parity[(i + 1) % 5], 1) for i, lane in enumerate(lanes)]
        moved, x, y = list(lanes), 1, 0
        for t in range(24):
            there = y, (2 * x + 3 * y) % 5
            moved[there[0] + 5 * there[1]] = turned(lanes[x + 5 * y], (t + 1) * (t + 2) // 2 % 64)
            x, y = there
        lanes = [
            moved[i] ^ ~moved[i // 5 * 5 + (i + 1) % 5] & moved[i // 5 * 5 + (i + 2) % 5] for i in range(len(moved))
        ]
        for j in range(7):
            lanes[0] ^= (register & 1) << (1 << j) - 1
            register = register << 1 ^ (0x171 if register >> 7 else 0)
    return lanes
