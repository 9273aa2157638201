"""A program's memory: words 0 to 3 the statement, word 64 a pointer, the stack from 1024, and all else from HEAP on."""

from __future__ import annotations

from collegium.settlement.programs._words import memory

HEAP = 1 << 20
MEMORY_WORDS = 1 << 28
_NEXT = 64  # where the pointer stands
_LEAF = 32


def allocate(words: int) -> int:
    """Return the address of so many words, all zero, at the beginning of a leaf."""
    assert words <= MEMORY_WORDS - HEAP
    if memory[_NEXT] == 0:
        memory[_NEXT] = HEAP
    address = memory[_NEXT]
    memory[_NEXT] = address + (words + _LEAF - 1) // _LEAF * _LEAF
    assert memory[_NEXT] <= MEMORY_WORDS
    return address


def copy(target: int, source: int, words: int) -> None:
    """Copy words that do not overlap."""
    for index in range(words):
        memory[target + index] = memory[source + index]


def mark_room() -> int:
    """Return where the next words will be allocated."""
    if memory[_NEXT] == 0:
        memory[_NEXT] = HEAP
    return memory[_NEXT]


def release(mark: int) -> None:
    """Give back all that was allocated since `mark_room` returned a mark: every word is zero again."""
    for address in range(mark, memory[_NEXT]):
        memory[address] = 0
    memory[_NEXT] = mark
