"""The kernel hashes what `hashlib` hashes, and a run of positions has the siblings of the same list."""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.commitment import (
    MerkleTree,
    MultiproofError,
    _hashes,
    column_leaves,
    hash_slices,
    leaves_of_slices,
    multiproof_length,
    verify_multiproof,
)
from collegium.commitment._hashes import hash_rows, hash_rows_plain
from collegium.commitment._sha_kernels import AVAILABLE

TREE = MerkleTree([sha256(bytes([i])).digest() for i in range(64)])


@pytest.fixture(scope="module", autouse=True, params=[AVAILABLE, False] if AVAILABLE else [False])
def own_instructions(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Every test here runs with the processor's own SHA-256, where it has one, and without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_hashes, "AVAILABLE", request.param)
        yield request.param


@given(
    count=st.sampled_from([0, 1, 31, 32, 33, 47, 48, 200]),
    tag=st.binary(max_size=20),
    left=st.integers(0, 70),  # with tag and right: lengths on both sides of one and two blocks
    right=st.integers(0, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_hash_as_one_by_one(count: int, tag: bytes, left: int, right: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [generator.integers(0, 256, (count, size), dtype=np.uint8) for size in (left, right)]
    np.testing.assert_array_equal(hash_rows(tag, *parts), hash_rows_plain(tag, *parts))


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 63, 64, 65, 118, 119, 120, 128])
def test_every_boundary_of_padding(length: int) -> None:
    rows = np.arange(40 * length, dtype=np.int64).astype(np.uint8).reshape(40, length)
    empty = np.empty((40, 0), np.uint8)
    expected = [sha256(row.tobytes()).digest() for row in rows]
    assert [row.tobytes() for row in hash_rows(b"", rows, empty)] == expected


@given(
    count=st.sampled_from([1, 31, 32, 200]),
    width=st.integers(1, 40),
    cut=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_slices_hash_as_what_they_hold(count: int, width: int, cut: tuple[int, int], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    low, high = sorted(min(at, width) for at in cut)
    expected = hash_rows_plain(b"tag", rows[:, low:high], rows[:, :0])
    np.testing.assert_array_equal(hash_slices(b"tag", rows, low, high), expected)


def test_leaves_of_slices_are_the_columns_leaves() -> None:
    columns = np.random.default_rng(1).integers(0, 2**63, (64, 9), dtype=np.uint64)
    inner = np.ascontiguousarray(columns[:, 2:7])
    expected = column_leaves(np.ascontiguousarray(inner[:, :3]), inner[:, 3:].tobytes())
    assert [leaf.tobytes() for leaf in leaves_of_slices(columns, 2, 7)] == expected


@given(first=st.integers(0, 63), length=st.integers(1, 64))
def test_a_run_has_the_proof_of_its_list(first: int, length: int) -> None:
    run = range(first, min(first + length, 64))
    proof = TREE.prove(run)
    assert proof == TREE.prove(list(run))
    assert len(proof) == multiproof_length(64, run)
    leaves = [sha256(bytes([i])).digest() for i in run]
    verify_multiproof(TREE.root, 64, run, leaves, proof)
    leaves[-1] = bytes(32)
    with pytest.raises(MultiproofError, match="root comes out"):
        verify_multiproof(TREE.root, 64, run, leaves, proof)


@given(positions=st.sets(st.integers(0, 63), min_size=1), flipped=st.integers(0, 32 * 64 - 1))
def test_any_positions_climb_to_the_root_with_exactly_their_siblings(positions: set[int], flipped: int) -> None:
    listed = sorted(positions)
    proof = TREE.prove(listed)
    assert len(proof) == multiproof_length(64, listed)
    leaves = [sha256(bytes([i])).digest() for i in listed]
    verify_multiproof(TREE.root, 64, listed, leaves, proof)
    whole = bytearray(b"".join(leaves) + proof)
    whole[flipped % len(whole)] ^= 1
    cut = 32 * len(leaves)
    wrong = [bytes(whole[at : at + 32]) for at in range(0, cut, 32)]
    with pytest.raises(MultiproofError, match="root comes out"):
        verify_multiproof(TREE.root, 64, listed, wrong, bytes(whole[cut:]))
    with pytest.raises(MultiproofError, match="these positions need"):
        verify_multiproof(TREE.root, 64, listed, leaves, proof + bytes(32))


@pytest.mark.parametrize("run", [range(0), range(60, 65), range(-1, 3), range(5, 2, -1)])
def test_a_run_outside_the_tree_is_refused(run: range) -> None:
    with pytest.raises(MultiproofError, match="positions"):
        TREE.prove(run)


@pytest.mark.parametrize("length", [31, 33])
def test_a_leaf_that_is_no_digest_is_refused(length: int) -> None:
    with pytest.raises(MultiproofError, match="a leaf is a digest of 32 bytes"):
        MerkleTree([bytes(32), bytes(length)])
