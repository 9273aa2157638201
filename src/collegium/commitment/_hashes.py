"""SHA-256 of many messages of one length, a tag and two parts each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium.crypto import Digest

from ._kernels import sha256_rows

__all__ = ["DIGEST_BYTES", "ByteRows", "as_digests", "as_rows", "hash_rows", "hash_rows_plain"]

DIGEST_BYTES = 32
_BLOCK_BYTES = 64
_LENGTH_BYTES = 8
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
    # FIPS 180-4, 5.1.1: the message, one bit, zeros, the length in bits, up to a whole number of blocks
    length = len(tag) + left.shape[1] + right.shape[1]
    blocks = -(-(length + 1 + _LENGTH_BYTES) // _BLOCK_BYTES)
    end = (8 * length).to_bytes(_LENGTH_BYTES, "big")
    message = tag + bytes(length - len(tag)) + b"\x80"
    padded = np.frombuffer(message.ljust(_BLOCK_BYTES * blocks - _LENGTH_BYTES, b"\0") + end, np.uint8)
    out = np.empty((count, DIGEST_BYTES), np.uint8)
    sha256_rows(_for_kernel(padded), _for_kernel(left), _for_kernel(right), len(tag), out)
    return out


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
