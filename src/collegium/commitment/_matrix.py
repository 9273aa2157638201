"""The commitment to an encoded matrix: its columns on each domain, salted, hashed, and bound by one root.

A column is the tuple of all rows' symbols at one evaluation point. Its leaf is the hash of the symbols (8 bytes each,
little endian) and a fresh 128-bit salt, so that an unopened leaf says nothing even about a column that can be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collegium.algebra import P
from collegium.codes import Domain
from collegium.crypto import Digest, hash_fields
from collegium.errors import CollegiumError

from ._hashes import ByteRows, as_digests, hash_rows, hash_slices
from ._merkle import MerkleTree, as_array, multiproof_length, verify_multiproof

__all__ = [
    "SALT_BYTES",
    "ColumnRange",
    "CommittedMatrix",
    "MalformedColumnsError",
    "column_leaves",
    "combine_roots",
    "leaves_of_slices",
    "verify_columns",
]

SALT_BYTES = 16  # 128 bits: hiding of an unopened leaf up to 2^128 guesses
_LEAF = b"collegium/v1/leaf\x00"
_SYMBOL_BYTES = 8

FieldMatrix = npt.NDArray[np.uint64]


class MalformedColumnsError(CollegiumError):
    """Bytes that should be columns have another length or hold a symbol that is not below p."""


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """Opened columns: `symbols` (columns, rows) of F, `salts` 16 bytes a column, and their multiproof."""

    symbols: FieldMatrix
    salts: bytes
    proof: bytes

    def to_bytes(self) -> bytes:
        """Return symbols, then salts, then proof; the reader knows each length beforehand."""
        return self.symbols.astype("<u8", copy=False).tobytes() + self.salts + self.proof

    @classmethod
    def from_bytes(cls, data: bytes, *, rows: int, leaf_count: int, positions: Sequence[int]) -> ColumnRange:
        """Decode the columns at `positions` of a matrix of `rows` rows.

        Raises:
            MalformedColumnsError: when the length is not the exact one or a symbol is not canonical.
        """
        symbols_end = _SYMBOL_BYTES * rows * len(positions)
        salts_end = symbols_end + SALT_BYTES * len(positions)
        expected = salts_end + multiproof_length(leaf_count, positions)
        if len(data) != expected:
            raise MalformedColumnsError(f"opened columns take {expected} bytes, got {len(data)}", length=len(data))
        symbols = np.frombuffer(data, dtype="<u8", count=rows * len(positions)).astype(np.uint64)
        if symbols.size and int(symbols.max()) >= P:
            raise MalformedColumnsError(f"symbol {int(symbols.max())} is not below p = {P}")
        return cls(symbols.reshape(len(positions), rows), data[symbols_end:salts_end], data[salts_end:])


class CommittedMatrix:
    """An encoded matrix that the owner keeps: columns, salts and one tree a domain.

    Memory: 8 x rows + 16 bytes a column and 64 bytes for its digests.
    """

    __slots__ = ("columns", "root", "salts", "trees")

    def __init__(self, encoded: Sequence[FieldMatrix], salts: Sequence[bytes]) -> None:
        """Commit to `encoded[i]` (rows, size_i), the rows' evaluations on domain i, with 16 x size_i bytes of salt."""
        self.columns = [np.ascontiguousarray(word.T) for word in encoded]
        self.salts = list(salts)
        self.trees = [
            MerkleTree(_leaf_rows(columns, salt)) for columns, salt in zip(self.columns, self.salts, strict=True)
        ]
        self.root = combine_roots([tree.root for tree in self.trees])

    def open(self, domain_index: int, positions: Sequence[int]) -> ColumnRange:
        """Return the columns at `positions` (strictly increasing) of one domain, with salts and multiproof."""
        proof = self.trees[domain_index].prove(positions)
        picked = as_array(positions)
        symbols = np.ascontiguousarray(self.columns[domain_index][picked])
        return ColumnRange(symbols, _salt_rows(self.salts[domain_index])[picked].tobytes(), proof)


def column_leaves(columns: FieldMatrix, salts: bytes) -> list[Digest]:
    """Return one leaf digest for each row of `columns` (count, rows) with its 16 bytes of `salts`."""
    return as_digests(_leaf_rows(columns, salts))


def leaves_of_slices(columns: FieldMatrix, start: int, stop: int) -> ByteRows:
    """Return the leaf of each row of `columns` over its places [start, stop), the last two the salt's 16 bytes."""
    rows = columns.view(np.uint8)
    return hash_slices(_LEAF, rows, _SYMBOL_BYTES * start, _SYMBOL_BYTES * stop)


def _leaf_rows(columns: FieldMatrix, salts: bytes) -> ByteRows:
    count, rows = columns.shape
    if len(salts) != SALT_BYTES * count:
        raise MalformedColumnsError(f"{count} columns need {SALT_BYTES * count} bytes of salt, got {len(salts)}")
    symbols = np.ascontiguousarray(columns, "<u8").view(np.uint8).reshape(count, _SYMBOL_BYTES * rows)
    return hash_rows(_LEAF, symbols, _salt_rows(salts))


def _salt_rows(salts: bytes) -> ByteRows:
    return np.frombuffer(salts, np.uint8).reshape(-1, SALT_BYTES)


def combine_roots(roots: Sequence[Digest]) -> Digest:
    """Return the one digest that binds the trees of all domains in their order."""
    return hash_fields("matrix", *roots)


def verify_columns(tree_root: Digest, domain: Domain, positions: Sequence[int], opened: ColumnRange) -> None:
    """Check that `opened` are the committed columns at `positions` of `domain`.

    Raises:
        MultiproofError: when they are not.
    """
    leaves = _leaf_rows(opened.symbols, opened.salts)
    verify_multiproof(tree_root, domain.size, positions, leaves, opened.proof)
