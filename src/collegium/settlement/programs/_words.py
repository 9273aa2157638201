"""The words that programs of the dispute machine are written with, each with its meaning in plain Python.

The compiler turns a call of one of them into one instruction (docs/spec/machine.md, section 2). Here they act on a
dictionary, so that a program also runs as ordinary Python, one at a time: `begin` empties the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from collegium.algebra import P
from collegium.commitment import compress
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.settlement.programs._keccak import keccak_permute

__all__ = [
    "HEAP",
    "MEMORY_WORDS",
    "STACK",
    "TABLES",
    "WORDS",
    "Accepted",
    "Memory",
    "PreimageUnknownError",
    "Rejected",
    "accept",
    "begin",
    "byte_swap",
    "fadd",
    "fmul",
    "fsub",
    "keccak",
    "memory",
    "mul_high",
    "preimage",
    "reject",
    "sha256_block",
    "shift_right_signed",
    "signed_less",
    "table",
]

WORDS: Final = 1 << 64  # a word is an integer below
MEMORY_WORDS: Final = 1 << 28
STACK: Final = 1024
TABLES: Final = 1 << 19
HEAP: Final = 1 << 20

_FRAME_ALIGNMENT: Final = 32
_SIGN: Final = 1 << 63
_LANES: Final = 25

Stretch = tuple[Digest, bytes]


class Accepted(Exception):  # noqa: N818 - how a program ends, no error
    """The program has accepted its statement."""


class Rejected(Exception):  # noqa: N818 - how a program ends, no error
    """The program has rejected its statement, or met a trap."""


class PreimageUnknownError(CollegiumError):
    """A digest that nobody here knows a preimage of: the program cannot go on."""


class Memory:
    """The machine's memory: words by address, zero where nothing was written."""

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def __getitem__(self, address: int) -> int:
        return self._words.get(self._checked(address), 0)

    def __setitem__(self, address: int, word: int) -> None:
        self._words[self._checked(address)] = word % WORDS

    def clear(self) -> None:
        """Make every word zero."""
        self._words.clear()

    @staticmethod
    def _checked(address: int) -> int:
        if address % WORDS >= MEMORY_WORDS:
            raise Rejected(f"address {address} is outside of {MEMORY_WORDS} words")
        return address % WORDS


class _Bench:
    """What the words act on beside memory: the known stretches, and where the next table goes."""

    find: Callable[[Digest], Stretch | None] = staticmethod(lambda _: None)
    table_end: int = TABLES


memory: Final = Memory()


def begin(statement: Digest, find: Callable[[Digest], Stretch | None]) -> None:
    """Empty the memory for a program about a statement; `find` knows of a digest the value and block before it."""
    memory.clear()
    _Bench.find = staticmethod(find)
    _Bench.table_end = TABLES
    for index in range(4):
        memory[index] = int.from_bytes(statement[8 * index : 8 * index + 8], "big")


def table(*words: int) -> int:
    """Lay words into memory before the program starts and return their address; for module constants only."""
    address = _Bench.table_end
    for index, word in enumerate(words):
        memory[address + index] = word
    _Bench.table_end += len(words)
    return address


def accept() -> NoReturn:
    """End the program: the statement holds."""
    raise Accepted


def reject() -> NoReturn:
    """End the program: the statement does not hold."""
    raise Rejected("the program rejects")


def fadd(a: int, b: int) -> int:
    """Return a + b modulo p = 2^64 - 2^32 + 1."""
    return (a + b) % P


def fsub(a: int, b: int) -> int:
    """Return a - b modulo p."""
    return (a - b) % P


def fmul(a: int, b: int) -> int:
    """Return a b modulo p."""
    return a * b % P


def mul_high(a: int, b: int) -> int:
    """Return the high word of the unsigned product."""
    return a * b // WORDS


def signed_less(a: int, b: int) -> bool:
    """Say whether a < b as numbers in two's complement."""
    return a ^ _SIGN < b ^ _SIGN


def shift_right_signed(a: int, count: int) -> int:
    """Return a >> count as a number in two's complement, rounded down."""
    return ((a ^ _SIGN) - _SIGN >> count) % WORDS


def byte_swap(a: int) -> int:
    """Return the word with its bytes in reverse."""
    return int.from_bytes(a.to_bytes(8, "big"), "little")


def sha256_block(frame: int) -> None:
    """Compress the block in words 4 to 11 of a frame with the value in words 0 to 3, into words 12 to 15.

    Words are big-endian bytes. A frame's address is a multiple of 32.
    """
    _write(_aligned(frame) + 12, compress(_read(frame, 4), _read(frame + 4, 8)))


def preimage(frame: int) -> None:
    """Put into words 0 to 11 of a frame the value and block that SHA-256 compresses into its words 12 to 15.

    Raises:
        PreimageUnknownError: nobody here knows them.
    """
    digest = _read(_aligned(frame) + 12, 4)
    found = _Bench.find(digest)
    if found is None:
        raise PreimageUnknownError(f"no stretch is known that ends in {digest.hex()}", digest=digest)
    _write(frame, b"".join(found))


def keccak(frame: int) -> None:
    """Permute words 0 to 24 of a frame, each a lane, by keccak-f[1600]."""
    lanes = keccak_permute([memory[_aligned(frame) + lane] for lane in range(_LANES)])
    for index, lane in enumerate(lanes):
        memory[frame + index] = lane


def _aligned(frame: int) -> int:
    if frame % _FRAME_ALIGNMENT:
        raise Rejected(f"frame {frame} is not a multiple of {_FRAME_ALIGNMENT}")
    return frame


def _read(address: int, words: int) -> bytes:
    return b"".join(memory[address + index].to_bytes(8, "big") for index in range(words))


def _write(address: int, data: bytes) -> None:
    for index in range(len(data) // 8):
        memory[address + index] = int.from_bytes(data[8 * index : 8 * index + 8], "big")
