"""The tree over a trace of public work: its leaves in the order in which each follows from those before it.

A trace is computed when a dispute asks for it, and never else: what a round's header says binds it already
(docs/spec/disputes.md, section 2). A leaf is some hundred bytes; a tree stores what is there and knows what nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from collegium.commitment import chaining_values, hash_rows, pad_message
from collegium.crypto import Digest
from collegium.settlement._errors import TraceRangeError

__all__ = [
    "CHILDREN",
    "MOVE_LEVELS",
    "NOTHING",
    "STRETCH_BYTES",
    "Message",
    "OpenedLeaf",
    "Section",
    "Trace",
    "TraceTree",
    "leaf_digest",
    "levels_for",
    "node_above",
]

CHILDREN: Final = 16
MOVE_LEVELS: Final = 4
STRETCH_BYTES: Final = 256  # of a hashed message in one leaf: four blocks of SHA-256
NOTHING: Final[Digest] = bytes(32)  # where the tree has no leaf

_LEAF = b"collegium/v1/trace-leaf\x00"
_NODE = b"collegium/v1/node\x00"
_DIGEST_BYTES = 32
_BLOCKS = 4
_START = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OpenedLeaf:
    """The bytes at a position of a tree, with the sibling digests from the leaf's up."""

    position: int
    data: bytes
    path: tuple[Digest, ...]


class Trace(Protocol):
    """All steps of one kind of public work of one round, as both players need it.

    Attributes:
        levels: height of the tree, a multiple of MOVE_LEVELS.
        facts: what the contract was told when the dispute was opened.
        fault: the position at which the right trace contradicts the header; None if the header is right.
    """

    @property
    def levels(self) -> int: ...
    @property
    def facts(self) -> bytes: ...
    @property
    def fault(self) -> int | None: ...

    def node(self, level: int, index: int) -> Digest:
        """Return a node: level 0 are the leaves, level `levels` the root alone."""

    def leaf(self, position: int) -> bytes:
        """Return a leaf's bytes, none where the tree has nothing."""

    def witness(self, position: int) -> tuple[int, ...]:
        """Return the positions, all of them lower, of the leaves from which the contract computes this one."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of leaves from the start of one part of the tree: their digests, and the bytes of each."""

    digests: Rows
    leaf: Callable[[int], bytes]


class TraceTree:
    """A tree of sections, each of the same height; what no section fills is nothing."""

    def __init__(self, sections: Sequence[Section], section_bits: int, levels: int) -> None:
        self.levels = levels
        self._sections = tuple(sections)
        self._height = levels - section_bits
        if len(sections) > 1 << section_bits or any(len(s.digests) > 1 << self._height for s in sections):
            raise TraceRangeError(f"sections of {[len(s.digests) for s in sections]} leaves exceed {levels} levels")
        self._parts = [_levels(section.digests, self._height) for section in sections]
        roots = np.concatenate([part[-1] for part in self._parts])
        self._top = _levels(roots, section_bits, self._height)

    @property
    def root(self) -> Digest:
        """The digest over all leaves and their places."""
        return bytes(self._top[-1][0])

    def node(self, level: int, index: int) -> Digest:
        """Return a node; level 0 are the leaves."""
        if not (0 <= level <= self.levels and 0 <= index < 1 << (self.levels - level)):
            raise TraceRangeError(f"no node {index} at level {level} of {self.levels}", level=level, index=index)
        if level >= self._height:
            return _stored(self._top[level - self._height], index, level)
        section, inner = index >> (self._height - level), index & ((1 << (self._height - level)) - 1)
        if section >= len(self._parts):
            return _nothing(level)
        return _stored(self._parts[section][level], inner, level)

    def leaf(self, position: int) -> bytes:
        """Return a leaf's bytes, none where the tree has nothing."""
        section, inner = position >> self._height, position & ((1 << self._height) - 1)
        if section >= len(self._sections) or inner >= len(self._sections[section].digests):
            return b""
        return self._sections[section].leaf(inner)

    def position(self, section: int, index: int) -> int:
        """Return where leaf `index` of a section stands."""
        return (section << self._height) + index


class Message:
    """A message that SHA-256 hashes, in stretches of four blocks, each with a chaining value."""

    def __init__(self, data: bytes) -> None:
        self.padded = pad_message(data)
        self._after = chaining_values(self.padded)
        self.count = -(-len(self.padded) // STRETCH_BYTES)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the message."""
        return bytes(self._after[-1])

    def read(self, place: int) -> bytes:
        """Return the leaf of a message that is read: the last stretch first, each behind the value before it."""
        index = self.count - 1 - place
        return (bytes(self._after[_BLOCKS * index - 1]) if index else _START) + self.stretch(index)

    def made(self, index: int) -> bytes:
        """Return the leaf of a message that is made: the first stretch first, each behind the value after it."""
        return bytes(self._after[min(_BLOCKS * (index + 1), len(self._after)) - 1]) + self.stretch(index)

    def stretch(self, index: int) -> bytes:
        """Return a stretch, padding included."""
        return self.padded[STRETCH_BYTES * index : STRETCH_BYTES * (index + 1)]

    def section(self, *, made: bool) -> Section:
        """Return its leaves, in the order of a message that is made or read."""
        leaf = self.made if made else self.read
        digests = [leaf_digest(leaf(place)) for place in range(self.count)]
        return Section(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST_BYTES), leaf)


def leaf_digest(data: bytes) -> Digest:
    """Return the digest of a leaf with these bytes; that of no bytes is zero."""
    return sha256(_LEAF + data).digest() if data else NOTHING


def node_above(nodes: Sequence[Digest]) -> Digest:
    """Return the node above a power of two of nodes that stand side by side."""
    level = list(nodes)
    while len(level) > 1:
        level = [_parent(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]


def levels_for(section_bits: int, leaves: int) -> int:
    """Return the height of a tree of sections of at most so many leaves: whole moves."""
    bits = section_bits + (leaves - 1).bit_length()
    return -(-bits // MOVE_LEVELS) * MOVE_LEVELS


def _levels(leaves: Rows, height: int, base: int = 0) -> list[Rows]:
    """Return the levels of a tree over nodes of level `base`, each as long as what is there."""
    levels = [leaves if len(leaves) else np.zeros((1, _DIGEST_BYTES), np.uint8)]
    for level in range(height):
        nodes = levels[-1]
        if len(nodes) % 2:
            nodes = np.concatenate([nodes, np.frombuffer(_nothing(base + level), np.uint8)[None]])
        pairs = nodes.reshape(-1, 2 * _DIGEST_BYTES)
        levels.append(hash_rows(_NODE, pairs, pairs[:, :0]))
    return levels


def _stored(nodes: Rows, index: int, level: int) -> Digest:
    return bytes(nodes[index]) if index < len(nodes) else _nothing(level)


@cache
def _nothing(level: int) -> Digest:
    """Return the node over leaves that are all nothing."""
    return NOTHING if level == 0 else _parent(_nothing(level - 1), _nothing(level - 1))


def _parent(left: Digest, right: Digest) -> Digest:
    return sha256(_NODE + left + right).digest()
