"""A binary SHA-256 Merkle tree over a power of two of leaf digests, with canonical multiproofs.

A multiproof for a set of positions lists, level by level from the leaves and from left to right, exactly the sibling
digests that cannot be computed from what is already known. It is unique for its set, so it has one encoding. A range
of positions has no encoding of its own: an aligned range of length 2^a in a tree of 2^b leaves costs b - a digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from . import _hashes
from ._hashes import DIGEST_BYTES, ByteRows, as_rows, hash_rows, padded_message
from ._kernels import siblings_missing
from ._sha_kernels import climb

__all__ = ["MerkleTree", "MultiproofError", "as_array", "multiproof_length", "verify_multiproof"]

Positions = npt.NDArray[np.int64]

_STEPS_KEPT = 256  # sets of positions whose way to the root is remembered: some kilobytes each
_NODE = b"collegium/v1/node\x00"  # with two digests: 82 bytes, two SHA-256 blocks, as without it


class MultiproofError(CollegiumError):
    """A multiproof does not fit its positions, its leaves or its root."""


class MerkleTree:
    """All levels of a tree; `levels[0]` are the leaves, `levels[-1]` is the root alone.

    A level is an array (count, 32) of bytes; memory: 64 bytes a leaf.
    """

    __slots__ = ("levels",)

    def __init__(self, leaves: Sequence[Digest] | ByteRows) -> None:
        """Build the tree over digests of 32 bytes, a power of two of them.

        Raises:
            MultiproofError: another number of leaves, or a leaf of another length.
        """
        count = len(leaves)
        if count == 0 or count & (count - 1):
            raise MultiproofError(f"a tree needs a power of two of leaves, got {count}", leaves=count)
        level = _rows(leaves)
        self.levels = [level]
        while len(level) > 1:
            level = _parents(level)
            self.levels.append(level)

    @property
    def root(self) -> Digest:
        """The digest that commits to every leaf and its position."""
        return self.levels[-1].tobytes()

    def prove(self, positions: Sequence[int]) -> bytes:
        """Return the multiproof of `positions` (strictly increasing): the missing siblings, 32 bytes each.

        Raises:
            MultiproofError: when positions are empty, unordered, repeated or outside the tree.
        """
        leaf_count = len(self.levels[0])
        _checked_positions(leaf_count, positions)
        return b"".join(self.levels[level][index].tobytes() for level, index in _siblings(leaf_count, positions))


def multiproof_length(leaf_count: int, positions: Sequence[int]) -> int:
    """Return the exact size in bytes of the multiproof of `positions` in a tree of `leaf_count` leaves."""
    return DIGEST_BYTES * _missing(leaf_count, _checked_positions(leaf_count, positions))


def verify_multiproof(
    root: Digest, leaf_count: int, positions: Sequence[int], leaves: Sequence[Digest] | ByteRows, proof: bytes
) -> None:
    """Check that `leaves` stand at `positions` of the tree of `leaf_count` leaves with this root.

    Raises:
        MultiproofError: positions not strictly increasing or out of range; a number of leaves or a proof length other
            than the set demands; or a root that does not come out.
    """
    known = _checked_positions(leaf_count, positions)
    expected = DIGEST_BYTES * _missing(leaf_count, known)
    if len(leaves) != len(positions):
        raise MultiproofError(f"{len(positions)} positions but {len(leaves)} leaves", leaves=len(leaves))
    if len(proof) != expected:
        raise MultiproofError(f"multiproof has {len(proof)} bytes, these positions need {expected}", length=len(proof))
    siblings = np.frombuffer(proof, np.uint8).reshape(-1, DIGEST_BYTES)  # in the order in which they are asked for
    climbed = (_climb if _hashes.AVAILABLE else _climb_plain)(leaf_count, known, _rows(leaves), siblings)
    if climbed != root:
        raise MultiproofError(f"root comes out as {climbed.hex()}, committed is {root.hex()}", root=root)


def _missing(leaf_count: int, known: Positions) -> int:
    """Return how many digests the multiproof of checked positions brings."""
    return int(siblings_missing(known.copy(), leaf_count.bit_length() - 1))


def _climb_plain(leaf_count: int, known: Positions, leaves: ByteRows, missing: ByteRows) -> Digest:
    """Return the root above leaves at checked positions and the siblings that are missing, a level at a time."""
    digests = leaves
    for step in _steps(leaf_count, known.tobytes()):
        here = step.absent.size
        children = np.empty((step.known.size + here, DIGEST_BYTES), np.uint8)
        children[step.known], children[step.absent], missing = digests, missing[:here], missing[here:]
        digests = _parents(children)
    return digests.tobytes()


def _climb(leaf_count: int, known: Positions, leaves: ByteRows, missing: ByteRows) -> Digest:
    """Return what `_climb_plain` returns, by one compiled loop over all levels."""
    digests = leaves.copy()
    climb(
        padded_message(_NODE, 2 * DIGEST_BYTES),
        len(_NODE),
        known.copy(),
        digests,
        missing.copy(),
        leaf_count.bit_length() - 1,
    )
    root: Digest = digests[0].tobytes()
    return root


class _Step(NamedTuple):
    """One level's way up: which children are known below, and which the multiproof brings."""

    known: Positions
    absent: Positions


@lru_cache(maxsize=_STEPS_KEPT)
def _steps(leaf_count: int, positions: bytes) -> tuple[_Step, ...]:
    """Return the way from checked positions, as an array's bytes, to the root: asked for again and again."""
    known, steps = np.frombuffer(positions, np.int64), list[_Step]()
    while leaf_count > 1:
        above = _distinct(known >> 1)
        absent = np.ones(2 * above.size, np.bool_)
        slots = 2 * np.searchsorted(above, known >> 1) + (known & 1)
        absent[slots] = False
        steps.append(_Step(slots, np.flatnonzero(absent)))
        known, leaf_count = above, leaf_count >> 1
    return tuple(steps)


def as_array(positions: Sequence[int]) -> Positions:
    """Return positions as an array; numpy reads a `range` one Python integer at a time."""
    if isinstance(positions, range):
        return np.arange(positions.start, positions.stop, positions.step, dtype=np.int64)
    return np.asarray(positions, np.int64)


def _checked_positions(leaf_count: int, positions: Sequence[int]) -> Positions:
    if leaf_count < 1 or leaf_count & (leaf_count - 1):
        raise MultiproofError(f"a tree needs a power of two of leaves, got {leaf_count}", leaves=leaf_count)
    ends = (positions[0], positions[-1]) if isinstance(positions, range) and positions else positions
    if not positions or min(ends) < 0 or max(ends) >= leaf_count:
        raise MultiproofError(f"positions must be one or more of 0..{leaf_count - 1}", positions=tuple(positions))
    known = as_array(positions)
    if (known[1:] <= known[:-1]).any():
        raise MultiproofError("positions must be strictly increasing", positions=tuple(positions))
    return known


def _distinct(increasing: Positions) -> Positions:
    """Return the values of a non-decreasing array, each once."""
    first = np.ones(increasing.size, np.bool_)
    np.not_equal(increasing[1:], increasing[:-1], out=first[1:])
    return increasing[first]


def _rows(leaves: Sequence[Digest] | ByteRows) -> ByteRows:
    if isinstance(leaves, np.ndarray):
        return leaves
    for leaf in leaves:
        if len(leaf) != DIGEST_BYTES:
            raise MultiproofError(f"a leaf is a digest of {DIGEST_BYTES} bytes, got {len(leaf)}", length=len(leaf))
    return as_rows(leaves)


def _parents(children: ByteRows) -> ByteRows:
    """Return the inner nodes above an even number of digests, left and right in turn."""
    pairs = children.reshape(-1, 2 * DIGEST_BYTES)
    return hash_rows(_NODE, pairs, pairs[:, :0])


def _siblings(leaf_count: int, positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of each digest that a multiproof of `positions` must carry, in its order."""
    if isinstance(positions, range) and positions.step == 1:
        yield from _siblings_of_run(leaf_count, positions[0], positions[-1])
        return
    level, known = 0, list(positions)
    while leaf_count > 1:
        present = set(known)
        for index in known:
            if index ^ 1 not in present:
                yield level, index ^ 1
        known = list(dict.fromkeys(index >> 1 for index in known))
        level, leaf_count = level + 1, leaf_count >> 1


def _siblings_of_run(leaf_count: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield what `_siblings` does for the positions from `first` to `last`: only the ends can lack a sibling."""
    level = 0
    while leaf_count > 1:
        if first & 1:
            yield level, first - 1
        if not last & 1:
            yield level, last + 1
        level, leaf_count, first, last = level + 1, leaf_count >> 1, first >> 1, last >> 1
