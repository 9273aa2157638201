"""A binary SHA-256 Merkle tree over a power of two of leaf digests, with canonical multiproofs.

A multiproof for a set of positions lists, level by level from the leaves and from left to right, exactly the sibling
digests that cannot be computed from what is already known. It is unique for its set, so it has one encoding. A range
of positions needs no special case: an aligned range of length 2^a in a tree of 2^b leaves costs b - a digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

from collegium.crypto import Digest
from collegium.errors import CollegiumError

__all__ = ["MerkleTree", "MultiproofError", "multiproof_length", "verify_multiproof"]

DIGEST_BYTES = 32
_NODE = b"collegium/v1/node\x00"  # with two digests: 82 bytes, two SHA-256 blocks, as without it


class MultiproofError(CollegiumError):
    """A multiproof does not fit its positions, its leaves or its root."""


class MerkleTree:
    """All levels of a tree; `levels[0]` are the leaves, `levels[-1]` is the root alone.

    Memory: 64 bytes of digests a leaf and Python's overhead for as many `bytes` objects.
    """

    __slots__ = ("levels",)

    def __init__(self, leaves: Sequence[Digest]) -> None:
        count = len(leaves)
        if count == 0 or count & (count - 1):
            raise MultiproofError(f"a tree needs a power of two of leaves, got {count}", leaves=count)
        level = list(leaves)
        self.levels = [level]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [sha256(_NODE + left + right).digest() for left, right in pairs]
            self.levels.append(level)

    @property
    def root(self) -> Digest:
        """The digest that commits to every leaf and its position."""
        return self.levels[-1][0]

    def prove(self, positions: Sequence[int]) -> bytes:
        """Return the multiproof of `positions` (strictly increasing): the missing siblings, 32 bytes each.

        Raises:
            MultiproofError: when positions are empty, unordered, repeated or outside the tree.
        """
        leaf_count = len(self.levels[0])
        return b"".join(self.levels[level][index] for level, index in _siblings(leaf_count, positions))


def multiproof_length(leaf_count: int, positions: Sequence[int]) -> int:
    """Return the exact size in bytes of the multiproof of `positions` in a tree of `leaf_count` leaves."""
    return DIGEST_BYTES * sum(1 for _ in _siblings(leaf_count, positions))


def verify_multiproof(
    root: Digest, leaf_count: int, positions: Sequence[int], leaves: Sequence[Digest], proof: bytes
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
    known = dict(zip(positions, leaves, strict=True))
    width = leaf_count
    while width > 1:
        above: dict[int, Digest] = {}
        for index, digest in known.items():  # insertion order is increasing, level by level
            if index >> 1 in above:
                continue
            sibling = known[index ^ 1] if index ^ 1 in known else next(missing)
            left, right = (sibling, digest) if index & 1 else (digest, sibling)
            above[index >> 1] = sha256(_NODE + left + right).digest()
        known, width = above, width >> 1
    if known[0] != root:
        raise MultiproofError(f"root comes out as {known[0].hex()}, committed is {root.hex()}", root=root)


def _siblings(leaf_count: int, positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of each digest that a multiproof of `positions` must carry, in its order."""
    if leaf_count < 1 or leaf_count & (leaf_count - 1):
        raise MultiproofError(f"a tree needs a power of two of leaves, got {leaf_count}", leaves=leaf_count)
    if not positions or positions[0] < 0 or positions[-1] >= leaf_count:
        raise MultiproofError(f"positions must be one or more of 0..{leaf_count - 1}", positions=tuple(positions))
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
