"""Commitments to encoded matrices: one salted SHA-256 leaf a column, one Merkle tree a domain, multiproofs.

Specified in docs/spec/commitment.md. A column opened with its salt and the multiproof is a column of the codeword
that was committed; what a set of opened columns reveals is the business of the code's randomness (docs/spec/codes.md).

`jit_compress` works inside another room's compiled kernels; called from Python it does nothing useful.
"""

from ._hashes import chaining_values, compress, hash_rows, hash_slices, pad_message
from ._kernels import jit_compress
from ._matrix import (
    SALT_BYTES,
    ColumnRange,
    CommittedMatrix,
    MalformedColumnsError,
    column_leaves,
    combine_roots,
    leaves_of_slices,
    verify_columns,
)
from ._merkle import MerkleTree, MultiproofError, multiproof_length, verify_multiproof

__all__ = [
    "SALT_BYTES",
    "ColumnRange",
    "CommittedMatrix",
    "MalformedColumnsError",
    "MerkleTree",
    "MultiproofError",
    "chaining_values",
    "column_leaves",
    "combine_roots",
    "compress",
    "hash_rows",
    "hash_slices",
    "jit_compress",
    "leaves_of_slices",
    "multiproof_length",
    "pad_message",
    "verify_columns",
    "verify_multiproof",
]
