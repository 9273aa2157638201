"""One step of the dispute machine in plain Python: what the contract executes and the compiled machine must equal.

docs/spec/machine.md, section 2, says what a step reads and writes and in which order; a `StepMemory` may record that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from collegium.commitment import compress
from collegium.crypto import Digest
from collegium.settlement._instructions import ARITHMETIC, IMMEDIATE, PROGRAM_INSTRUCTIONS_MAX, Op
from collegium.settlement._machine_state import ACCEPTED, REJECTED, RUNNING
from collegium.settlement.programs import MEMORY_WORDS, WORDS, PreimageUnknownError, keccak_permute

__all__ = ["FRAME_WORDS", "Find", "StepMemory", "is_operation", "machine_step"]

FRAME_WORDS: Final = 32  # a leaf of memory; frames of SHA256, PREIMAGE and KECCAK are leaves

Find = Callable[[Digest], tuple[Digest, bytes] | None]
Registers = tuple[int, int, int]  # status, pc, fp


class StepMemory(Protocol):
    """Memory as a step sees it; each call is one access, but for `set_frame`, which is of the last `frame`'s."""

    def read(self, address: int) -> int:
        """Return a word."""

    def write(self, address: int, word: int) -> None:
        """Set a word."""

    def frame(self, address: int) -> list[int]:
        """Return the 32 words of a leaf."""

    def set_frame(self, address: int, words: Sequence[int]) -> None:
        """Set the 32 words of the leaf just asked for."""


class _Trap(Exception):  # noqa: N818 - a way out, no error
    """The step changes nothing but the status."""


def machine_step(row: Sequence[int] | None, registers: Registers, memory: StepMemory, find: Find) -> Registers:
    """Return the registers after the instruction at pc, of which `row` has op, a, b, c; None where there is none.

    Raises:
        PreimageUnknownError: the instruction asks for a preimage that `find` does not know.
    """
    status, pc, fp = registers
    if status != RUNNING:
        return registers
    if pc >= PROGRAM_INSTRUCTIONS_MAX or row is None or not is_operation(row[0]):
        return REJECTED, pc, fp
    try:
        return _execute(row, pc, fp, memory, find)
    except _Trap:
        return REJECTED, pc, fp


def is_operation(op: int) -> bool:
    """Say whether an op is one of the machine's, its flag included."""
    if op & IMMEDIATE and op < 2 * IMMEDIATE:
        plain = op ^ IMMEDIATE
        return Op.ADD <= plain <= Op.FMUL or plain in {Op.LOAD, Op.STORE}
    return op <= Op.KECCAK


def _execute(row: Sequence[int], pc: int, fp: int, memory: StepMemory, find: Find) -> Registers:
    op, (a, b) = Op(row[0] & ~IMMEDIATE), row[1:3]
    following = RUNNING, pc + 1, fp
    if op in {Op.REJECT, Op.ACCEPT}:
        return ACCEPTED if op is Op.ACCEPT else REJECTED, pc + 1, fp
    if op is Op.JUMP:
        return RUNNING, a, fp
    if op in {Op.JZ, Op.JNZ}:
        zero = memory.read(_checked(fp + b)) == 0
        return (RUNNING, a, fp) if zero == (op is Op.JZ) else following
    if op is Op.CALL:
        frame, link = _checked(fp + b), _checked(fp + b + 1)
        memory.write(frame, pc + 1)
        memory.write(link, fp)
        return RUNNING, a, (fp + b) % WORDS
    if op is Op.RET:
        frame, link = _checked(fp), _checked(fp + 1)
        return RUNNING, memory.read(frame), memory.read(link)
    target = _checked(fp + a)
    if op in {Op.SHA256, Op.PREIMAGE, Op.KECCAK}:
        _frame_operation(op, memory.read(target), memory, find)
    elif op is Op.SET:
        memory.write(target, b)
    else:
        _move_or_compute(row, target, fp, memory)
    return following


def _move_or_compute(row: Sequence[int], target: int, fp: int, memory: StepMemory) -> None:
    op, immediate, (b, c) = Op(row[0] & ~IMMEDIATE), bool(row[0] & IMMEDIATE), row[2:4]
    source = _checked(fp + b)
    if op in {Op.MOVE, Op.BSWAP}:
        word = memory.read(source)
        memory.write(target, word if op is Op.MOVE else int.from_bytes(word.to_bytes(8, "big"), "little"))
        return
    place = None if immediate else _checked(fp + c)
    left = memory.read(source)
    right = c if place is None else memory.read(place)
    if op is Op.LOAD:
        memory.write(target, memory.read(_checked(left + right)))
    elif op is Op.STORE:
        word = memory.read(target)
        memory.write(_checked(left + right), word)
    elif right == 0 and op in {Op.DIV, Op.REM}:
        raise _Trap
    else:
        memory.write(target, ARITHMETIC[op](left, right))


def _checked(address: int) -> int:
    if address % WORDS >= MEMORY_WORDS:
        raise _Trap
    return address % WORDS


def _frame_operation(op: Op, address: int, memory: StepMemory, find: Find) -> None:
    if address % FRAME_WORDS or address >= MEMORY_WORDS:
        raise _Trap
    words = memory.frame(address)
    if op is Op.SHA256:
        words[12:16] = _words(compress(_bytes(words[:4]), _bytes(words[4:12])))
    elif op is Op.KECCAK:
        words[:25] = keccak_permute(words[:25])
    else:
        digest = _bytes(words[12:16])
        found = find(digest)
        if found is None:
            raise PreimageUnknownError(f"no stretch is known that ends in {digest.hex()}", digest=digest)
        words[:12] = _words(b"".join(found))
    memory.set_frame(address, words)


def _bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(8, "big") for word in words)


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8)]
