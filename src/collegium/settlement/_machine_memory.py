"""The machine's memory and the tree over it: what was written is there, all else is zero and known.

A leaf is 32 words. Only leaves that were written since are hashed again, level by level, many at once.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from collegium.commitment import hash_rows
from collegium.crypto import Digest
from collegium.settlement._instructions import Words
from collegium.settlement._kernels import MARK

__all__ = ["LEAF_WORDS", "MEMORY_HEIGHT", "PAGE_WORDS", "MachineMemory", "Page", "memory_leaf", "nothing"]

LEAF_WORDS: Final = 32
MEMORY_HEIGHT: Final = 23
PAGE_WORDS: Final = 1 << 12  # what a snapshot keeps as one piece

_WORDS_MIN: Final = 1 << 12
_PAGE_LEAVES: Final = PAGE_WORDS // LEAF_WORDS
_LEAF: Final = b"collegium/v1/memory\x00"
_NODE: Final = b"collegium/v1/node\x00"
_DIGEST_BYTES: Final = 32
_HASHED: Final = 1
_KEPT: Final = 2

Page = tuple[int, Words]
Rows = npt.NDArray[np.uint8]
Array = TypeVar("Array", Rows, Words)


class MachineMemory:
    """The lower part of memory as an array, which grows; above it is zero.

    Attributes:
        words: as far as it reaches; marks: of each leaf, what has not been done since it was written (`_kernels.MARK`).
    """

    def __init__(self) -> None:
        self.words: Words = np.zeros(0, np.uint64)
        self.marks: Rows = np.zeros(0, np.uint8)
        # A node is kept as its difference from that over nothing: so rows that nobody touches cost no memory.
        self._levels: list[Rows] = []
        self.reach(_WORDS_MIN - 1)

    def reach(self, address: int) -> None:
        """Grow until an address below MEMORY_WORDS is there."""
        if address < len(self.words):
            return
        size = 1 << address.bit_length()
        leaves = size // LEAF_WORDS
        self.words = _grown(self.words, size)
        top = self._node(len(self._levels) - 1, 0) if self._levels else b""
        self.marks = _grown(self.marks, leaves)
        for level in range(leaves.bit_length()):
            if level < len(self._levels):
                self._levels[level] = _grown(self._levels[level], leaves >> level)
            else:
                self._levels.append(np.zeros((leaves >> level, _DIGEST_BYTES), np.uint8))
                if level and top:
                    top = _parent(top, nothing(level - 1))
                    self._levels[level][0] = _row(top) ^ _row(nothing(level))

    def root(self) -> Digest:
        """Return the root over all of memory."""
        self._settle()
        return self._node(MEMORY_HEIGHT, 0)

    def leaf(self, address: int) -> bytes:
        """Return the 256 bytes of the leaf that an address is in."""
        start = address // LEAF_WORDS * LEAF_WORDS
        if start >= len(self.words):
            return bytes(8 * LEAF_WORDS)
        return self.words[start : start + LEAF_WORDS].astype(">u8").tobytes()

    def siblings(self, address: int) -> tuple[Digest, ...]:
        """Return the digests beside the way from an address's leaf to the root."""
        self._settle()
        leaf = address // LEAF_WORDS
        return tuple(self._node(level, (leaf >> level) ^ 1) for level in range(MEMORY_HEIGHT))

    def pages(self) -> list[Page]:
        """Return a copy of each page that was written since the last call."""
        written = (self.marks & _KEPT).reshape(-1, _PAGE_LEAVES).any(axis=1)
        self.marks &= MARK ^ _KEPT
        numbers = [int(number) for number in np.flatnonzero(written)]
        return [(number, self.words[PAGE_WORDS * number : PAGE_WORDS * (number + 1)].copy()) for number in numbers]

    def put(self, page: Page) -> None:
        """Lay a page where it was taken."""
        number, words = page
        self.reach(PAGE_WORDS * (number + 1) - 1)
        self.words[PAGE_WORDS * number : PAGE_WORDS * (number + 1)] = words
        self.marks[_PAGE_LEAVES * number : _PAGE_LEAVES * (number + 1)] |= _HASHED

    def _settle(self) -> None:
        """Hash what was written since, and all above it."""
        (leaves,) = np.nonzero(self.marks & _HASHED)
        if not len(leaves):
            return
        self.marks &= MARK ^ _HASHED
        rows = self.words.reshape(-1, LEAF_WORDS)[leaves].astype(">u8").view(np.uint8)
        self._levels[0][leaves] = hash_rows(_LEAF, rows, rows[:, :0]) ^ _row(nothing(0))
        for level in range(1, len(self._levels)):
            leaves = np.unique(leaves >> 1)
            pairs = self._levels[level - 1].reshape(-1, 2, _DIGEST_BYTES)[leaves] ^ _row(nothing(level - 1))
            pairs = pairs.reshape(-1, 2 * _DIGEST_BYTES)
            self._levels[level][leaves] = hash_rows(_NODE, pairs, pairs[:, :0]) ^ _row(nothing(level))

    def _node(self, level: int, index: int) -> Digest:
        if index >= max(1, len(self.marks) >> level):
            return nothing(level)
        if level < len(self._levels):
            return bytes(self._levels[level][index] ^ _row(nothing(level)))
        return _parent(self._node(level - 1, 0), nothing(level - 1))


def memory_leaf(data: bytes) -> Digest:
    """Return the digest of a leaf of 256 bytes."""
    return sha256(_LEAF + data).digest()


@cache
def nothing(level: int) -> Digest:
    """Return the node over leaves that are all zero."""
    if level == 0:
        return memory_leaf(bytes(8 * LEAF_WORDS))
    return _parent(nothing(level - 1), nothing(level - 1))


def _row(digest: Digest) -> Rows:
    return np.frombuffer(digest, np.uint8)


def _grown(array: Array, count: int) -> Array:
    """Return an array with so many rows, those behind the old ones zero and not yet touched."""
    grown = np.zeros((count, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _parent(left: Digest, right: Digest) -> Digest:
    return sha256(_NODE + left + right).digest()
