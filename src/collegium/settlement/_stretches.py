"""What is known of SHA-256: of each block of each known message, the value before it and the value after.

A program reads a message from its digest, last block first; the instruction PREIMAGE looks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from collegium.commitment import chaining_values, compress, pad_message
from collegium.crypto import Digest
from collegium.settlement._instructions import Words
from collegium.settlement._kernels import find_stretch, insert_stretches

__all__ = ["KnownStretches"]

_START: Final = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
_PLACES_MIN: Final = 1 << 10
_BLOCK_WORDS: Final = 8
_BLOCK_BYTES: Final = 64

Arrays = tuple[npt.NDArray[np.int64], Words, Words, Words]


class KnownStretches:
    """The stretches of all objects that somebody has; bytes that are in several objects are known once."""

    def __init__(self, objects: Iterable[bytes], pieces: Iterable[tuple[Digest, bytes]] = ()) -> None:
        """Take whole objects, and pieces of others: the value before some blocks, and those."""
        parts = [_Part.of_message(data) for data in objects] + [_Part.of_piece(*piece) for piece in pieces]
        digests, values, blocks = (_joined([part[index] for part in parts]) for index in range(3))
        table = np.full(max(_PLACES_MIN, 1 << (2 * len(digests)).bit_length()), -1, np.int64)
        insert_stretches(table, digests)
        self.arrays: Arrays = table, digests, values, np.ascontiguousarray(blocks.reshape(-1, _BLOCK_WORDS))

    def __call__(self, digest: Digest) -> tuple[Digest, bytes] | None:
        """Return the value and the block that give a digest, if they are known."""
        table, outs, values, blocks = self.arrays
        number = find_stretch(table, outs, _words(digest)[0])
        if number < 0:
            return None
        return values[number].astype(">u8").tobytes(), blocks[number].astype(">u8").tobytes()


class _Part(NamedTuple):
    """Of each block of a message, or of a piece of one: the value after it, that before it, and the block, as words."""

    after: Words
    before: Words
    blocks: Words

    @staticmethod
    def of_message(data: bytes) -> _Part:
        padded = pad_message(data)
        after = _words(chaining_values(padded).tobytes())
        return _Part(after, np.concatenate([_words(_START), after[:-1]]), _words(padded))

    @staticmethod
    def of_piece(value: Digest, blocks: bytes) -> _Part:
        values = [value]
        for at in range(0, len(blocks), _BLOCK_BYTES):
            values.append(compress(values[-1], blocks[at : at + _BLOCK_BYTES]))
        return _Part(_words(b"".join(values[1:])), _words(b"".join(values[:-1])), _words(blocks))


def _words(data: bytes) -> Words:
    """Return bytes as words, four a row."""
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 4)


def _joined(parts: Sequence[Words]) -> Words:
    return np.concatenate([np.empty((0, 4), np.uint64), *parts])
