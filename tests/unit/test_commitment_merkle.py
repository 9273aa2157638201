"""Merkle trees and multiproofs: what is committed opens, and nothing else does."""

from hashlib import sha256

import numpy as np
import pytest

from collegium.algebra import P
from collegium.codes import Domain
from collegium.commitment import (
    SALT_BYTES,
    ColumnRange,
    CommittedMatrix,
    MalformedColumnsError,
    MerkleTree,
    MultiproofError,
    multiproof_length,
    verify_columns,
    verify_multiproof,
)

LEAVES = [sha256(bytes([i])).digest() for i in range(16)]
TREE = MerkleTree(LEAVES)


@pytest.mark.parametrize("positions", [[0], [15], [4, 5, 6, 7], [0, 3, 9, 10], list(range(16))])
def test_multiproof_accepts_what_was_committed(positions: list[int]) -> None:
    proof = TREE.prove(positions)
    assert len(proof) == multiproof_length(16, positions)
    verify_multiproof(TREE.root, 16, positions, [LEAVES[i] for i in positions], proof)


def test_aligned_range_costs_one_path() -> None:
    assert multiproof_length(8192, range(512, 1024)) == 32 * 4


@pytest.mark.parametrize("positions", [[0], [4, 5, 6, 7], [0, 3, 9, 10]])
def test_multiproof_rejects_each_flipped_leaf_and_sibling(positions: list[int]) -> None:
    proof = TREE.prove(positions)
    leaves = [LEAVES[i] for i in positions]
    for at in range(len(leaves)):
        wrong = [*leaves]
        wrong[at] = bytes([wrong[at][0] ^ 1]) + wrong[at][1:]
        with pytest.raises(MultiproofError, match="root comes out"):
            verify_multiproof(TREE.root, 16, positions, wrong, proof)
    for at in range(0, len(proof), 32):
        flipped = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
        with pytest.raises(MultiproofError, match="root comes out"):
            verify_multiproof(TREE.root, 16, positions, leaves, flipped)


def test_multiproof_rejects_other_positions() -> None:
    with pytest.raises(MultiproofError, match="root comes out"):
        verify_multiproof(TREE.root, 16, [5], [LEAVES[4]], TREE.prove([4]))


@pytest.mark.parametrize("positions", [[], [3, 3], [4, 2], [-1], [16]])
def test_positions_must_increase_within_the_tree(positions: list[int]) -> None:
    with pytest.raises(MultiproofError, match="positions"):
        TREE.prove(positions)


def test_proof_of_another_length_is_refused() -> None:
    proof = TREE.prove([3])
    for wrong in (proof[:-1], proof + b"\0", proof[:-32]):
        with pytest.raises(MultiproofError, match="these positions need 128"):
            verify_multiproof(TREE.root, 16, [3], [LEAVES[3]], wrong)


@pytest.mark.parametrize("count", [0, 3, 12])
def test_a_tree_needs_a_power_of_two(count: int) -> None:
    with pytest.raises(MultiproofError, match="power of two"):
        MerkleTree(LEAVES[:count])


def _matrix() -> tuple[Domain, CommittedMatrix]:
    domain = Domain(shift=7, size=64)
    word = np.arange(3 * 64, dtype=np.uint64).reshape(3, 64)
    salts = bytes(range(256)) * (SALT_BYTES * 64 // 256)
    return domain, CommittedMatrix([word], [salts])


def test_opened_columns_verify_and_one_changed_symbol_or_salt_does_not() -> None:
    domain, matrix = _matrix()
    positions = [1, 2, 40]
    opened = matrix.open(0, positions)
    verify_columns(matrix.trees[0].root, domain, positions, opened)
    assert opened.symbols[2].tolist() == [40, 104, 168]
    symbols = opened.symbols.copy()
    symbols[1, 2] += np.uint64(1)
    with pytest.raises(MultiproofError):
        verify_columns(matrix.trees[0].root, domain, positions, ColumnRange(symbols, opened.salts, opened.proof))
    salts = bytes([opened.salts[0] ^ 1]) + opened.salts[1:]
    with pytest.raises(MultiproofError):
        verify_columns(matrix.trees[0].root, domain, positions, ColumnRange(opened.symbols, salts, opened.proof))


def test_columns_round_trip_and_malformed_bytes_are_refused() -> None:
    _, matrix = _matrix()
    positions = [0, 63]
    data = matrix.open(0, positions).to_bytes()
    again = ColumnRange.from_bytes(data, rows=3, leaf_count=64, positions=positions)
    assert again.to_bytes() == data
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(MalformedColumnsError, match="opened columns take"):
            ColumnRange.from_bytes(wrong, rows=3, leaf_count=64, positions=positions)
    with pytest.raises(MalformedColumnsError, match="not below p"):
        ColumnRange.from_bytes(P.to_bytes(8, "little") + data[8:], rows=3, leaf_count=64, positions=positions)
