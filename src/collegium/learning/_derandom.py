"""Choices that look random and that everybody derives alike from a seed: SHAKE-256 under a domain tag."""

import hashlib

import numpy as np

from collegium.learning._integers import Int64Array


def words(use: str, seed: bytes, index: int, count: int) -> list[int]:
    """Returns `count` integers below 2^64, a function of the use, the seed and the index alone."""
    return [int(word) for word in _words(use, seed, index, count)]


def permutation(use: str, seed: bytes, index: int, count: int) -> Int64Array:
    """Returns 0 .. count - 1 in an order that the seed fixes.

    Sorts by 64-bit keys; equal keys, of probability below count^2 / 2^65, keep their order, so the result is
    always defined and the same everywhere.
    """
    return np.argsort(_words(use, seed, index, count), kind="stable").astype(np.int64)


def _words(use: str, seed: bytes, index: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    state = hashlib.shake_256(b"collegium/v1/learning/")
    for part in (use.encode(), seed, index.to_bytes(8, "little")):
        state.update(len(part).to_bytes(8, "little") + part)
    return np.frombuffer(state.digest(8 * count), dtype="<u8").astype(np.uint64)
