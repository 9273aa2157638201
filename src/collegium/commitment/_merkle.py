"""A binary SHA-256 Merkle tree over a power of two of leaf digests, with canonical multiproofs.

A multiproof for a set of positions lists, level by level from the leaves and from left to right, exactly the sibling
digests that cannot be computed from what is already known. It is unique for its set, so it has one encoding. A range
of positions has no encoding of its own: an aligned range of length 2^a in a tree of 2^b leaves costs b - a digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._hashes import DIGEST_BYTES, ByteRows, as_digests, as_rows, hash_rows

__all__ = ["MerkleTree", "MultiproofError", "multiproof_length", "verify_multiproof"]

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
        return b"".join(self.levels[level][index].tobytes() for level, index in _siblings(leaf_count, positions))


def multiproof_length(leaf_count: int, positions: Sequence[int]) -> int:
    """Return the exact size in bytes of the multiproof of `positions` in a tree of `leaf_count` leaves."""
    return DIGEST_BYTES * sum(1 for _ in _siblings(leaf_count, positions))


def verify_multiproof(
    root: Digest, leaf_count: int, positions: Sequence[int], leaves: Sequence[Digest] | ByteRows, proof: bytes
) -> None:
    """Check that `leaves` stand at `positions` of the tree of `leaf_count` leaves with this root.

    Raises:
        MultiproofError: positions not strictly increasing or out of range; a number of leaves or a proof length other
            than the set demands; or a root that does not come out.
    """
    expected = multiproof_length(leaf_count, positions)
    if len(leaves) != len(positions):
        raise MultiproofError(f"{len(positions)} positions but {len(leaves)} leaves", leaves=len(leaves))
    if len(proof) != expected:
        raise MultiproofError(f"multiproof has {len(proof)} bytes, these positions need {expected}", length=len(proof))
    missing = (proof[at : at + DIGEST_BYTES] for at in range(0, expected, DIGEST_BYTES))
    known = dict(zip(positions, as_digests(_rows(leaves)), strict=True))
    width = leaf_count
    while width > 1:
        children: list[Digest] = []
        above = list(dict.fromkeys(index >> 1 for index in known))  # in increasing order, as `known` is
        for index in above:
            left, right = known.get(2 * index), known.get(2 * index + 1)
            children += (next(missing) if left is None else left, next(missing) if right is None else right)
        known, width = dict(zip(above, as_digests(_parents(as_rows(children))), strict=True)), width >> 1
    if known[0] != root:
        raise MultiproofError(f"root comes out as {known[0].hex()}, committed is {root.hex()}", root=root)


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
    if leaf_count < 1 or leaf_count & (leaf_count - 1):
        raise MultiproofError(f"a tree needs a power of two of leaves, got {leaf_count}", leaves=leaf_count)
    if not positions or positions[0] < 0 or positions[-1] >= leaf_count:
        raise MultiproofError(f"positions must be one or more of 0..{leaf_count - 1}", positions=tuple(positions))
    if isinstance(positions, range) and positions.step == 1:
        yield from _siblings_of_run(leaf_count, positions[0], positions[-1])
        return
    if any(a >= b for a, b in pairwise(positions)):
        raise MultiproofError("positions must be strictly increasing", positions=tuple(positions))
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
