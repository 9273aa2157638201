"""SHA-256 of many messages of one length, a tag and two parts each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium.algebra import over_rows
from collegium.crypto import Digest

from ._kernels import ROUND_CONSTANTS, START, sha256_rows, sha256_states
from ._sha_kernels import AVAILABLE, sha256_parts

__all__ = [
    "AVAILABLE",
    "DIGEST_BYTES",
    "ByteRows",
    "as_digests",
    "as_rows",
    "chaining_values",
    "chaining_values_plain",
    "compress",
    "hash_rows",
    "hash_rows_plain",
    "hash_slices",
    "pad_message",
    "padded_message",
]

DIGEST_BYTES = 32
_BLOCK_BYTES = 64
_LENGTH_BYTES = 8
_MESSAGES_KEPT = 64  # shapes of messages whose padding is remembered: a tag and a width each
_WORD = 0xFFFFFFFF
_ROWS_MIN = 32  # below it the kernel gains nothing, and who builds small trees need not wait until it is loaded

ByteRows = npt.NDArray[np.uint8]


def hash_rows_plain(tag: bytes, left: ByteRows, right: ByteRows) -> ByteRows:
    """Return SHA-256(tag || left[i] || right[i]) for each row i, shape (count, 32)."""
    pairs = zip(left, right, strict=True)
    return as_rows([sha256(tag + first.tobytes() + second.tobytes()).digest() for first, second in pairs])


def hash_rows(tag: bytes, left: ByteRows, right: ByteRows) -> ByteRows:
    """Return what `hash_rows_plain` returns, several times as fast for many rows."""
    count = len(left)
    if count < _ROWS_MIN:
        return hash_rows_plain(tag, left, right)
    parts = _for_kernel(left), _for_kernel(right)
    if AVAILABLE:
        return _hash_parts(tag, parts[0], 0, left.shape[1], parts[1])
    padded, out = padded_message(tag, left.shape[1] + right.shape[1]), np.empty((count, DIGEST_BYTES), np.uint8)
    sha256_rows(padded, *parts, len(tag), out)
    return out


def hash_slices(tag: bytes, rows: ByteRows, low: int, high: int) -> ByteRows:
    """Return SHA-256(tag || rows[i, low:high]) for each row i, shape (count, 32), without a copy of the rows."""
    nothing = np.empty((len(rows), 0), np.uint8)
    if AVAILABLE:
        return _hash_parts(tag, _for_kernel(rows), low, high, nothing)
    return hash_rows(tag, rows[:, low:high], nothing)


def _hash_parts(tag: bytes, left: ByteRows, low: int, high: int, right: ByteRows) -> ByteRows:
    padded, out = padded_message(tag, high - low + right.shape[1]), np.empty((len(left), DIGEST_BYTES), np.uint8)
    over_rows(sha256_parts, len(left), len(left) * len(padded) >> 4, padded, left, low, high, right, len(tag), out)
    return out


@lru_cache(maxsize=_MESSAGES_KEPT)
def padded_message(tag: bytes, width: int) -> npt.NDArray[np.uint8]:
    """Return one message, its variable part 0, as `pad_message` pads it: for kernels to copy."""
    return _for_kernel(np.frombuffer(pad_message(tag + bytes(width)), np.uint8))


def _for_kernel(part: ByteRows) -> ByteRows:
    """Return `part` C-contiguous and writable, copied only where it is not: the kernel compiles once a layout."""
    return np.require(part, requirements=("C", "W"))


def as_rows(digests: Sequence[Digest]) -> ByteRows:
    """Return digests of 32 bytes as rows."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST_BYTES)


def as_digests(rows: ByteRows) -> list[Digest]:
    """Return rows as digests."""
    data = rows.tobytes()
    return [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]


def pad_message(data: bytes) -> bytes:
    """Return a message padded to whole blocks (FIPS 180-4, 5.1.1)."""
    blocks = (len(data) + _LENGTH_BYTES) // _BLOCK_BYTES + 1
    end = (8 * len(data)).to_bytes(_LENGTH_BYTES, "big")
    return (data + b"\x80").ljust(_BLOCK_BYTES * blocks - _LENGTH_BYTES, b"\0") + end


def chaining_values(padded: bytes) -> ByteRows:
    """Return SHA-256's chaining value after each block of a padded message, (blocks, 32); the last one is its digest.

    They say of a stretch of a long message what it does to the digest, without the rest.
    """
    out = np.empty((len(padded) // _BLOCK_BYTES, DIGEST_BYTES), np.uint8)
    sha256_states(_for_kernel(np.frombuffer(padded, np.uint8)), out)
    return out


def chaining_values_plain(padded: bytes) -> ByteRows:
    """Return the same, as FIPS 180-4 says it in section 6.2.2."""
    value, values = b"".join(int(word).to_bytes(4, "big") for word in START), []
    for start in range(0, len(padded), _BLOCK_BYTES):
        value = compress(value, padded[start : start + _BLOCK_BYTES])
        values.append(value)
    return as_rows(values)


def compress(value: Digest, block: bytes) -> Digest:
    """Return the chaining value after a block of 64 bytes, whatever value it starts from (6.2.2)."""
    w = [int.from_bytes(block[at : at + 4], "big") for at in range(0, _BLOCK_BYTES, 4)]
    for t in range(16, 64):
        small0 = _turn(w[t - 15], 7) ^ _turn(w[t - 15], 18) ^ (w[t - 15] >> 3)
        small1 = _turn(w[t - 2], 17) ^ _turn(w[t - 2], 19) ^ (w[t - 2] >> 10)
        w.append((w[t - 16] + small0 + w[t - 7] + small1) & _WORD)
    chain = [int.from_bytes(value[at : at + 4], "big") for at in range(0, DIGEST_BYTES, 4)]
    a, b, c, d, e, f, g, h = chain
    for t in range(64):
        first = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + ((e & f) ^ (~e & g))
        first += int(ROUND_CONSTANTS[t]) + w[t]
        second = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = (first + second) & _WORD, a, b, c, (d + first) & _WORD, e, f, g
    mixed = zip(chain, (a, b, c, d, e, f, g, h), strict=True)
    return b"".join(((old + new) & _WORD).to_bytes(4, "big") for old, new in mixed)


def _turn(word: int, count: int) -> int:
    return (word >> count | word << (32 - count)) & _WORD
