"""SHA-256 of messages that a program makes, a few bytes at a time, and `collegium.crypto.hash_fields` of them.

A hash under way is a frame of 32 words: 0 to 15 as SHA256 takes it, 16 how many bytes have come.
"""

from __future__ import annotations

from collegium.settlement.programs._reading import (
    START_0,
    START_1,
    START_2,
    START_3,
    TAG_0,
    WORD,
    copy_digest,
    put_digest,
    word_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, memory, sha256_block

_COUNT = 16


def start_hash() -> int:
    """Return a hash of no bytes yet."""
    hashing = allocate(32)
    restart_hash(hashing)
    return hashing


def restart_hash(hashing: int) -> None:
    """Begin anew, with the same memory."""
    put_digest(hashing, START_0, START_1, START_2, START_3)
    for index in range(8):
        memory[hashing + 4 + index] = 0
    memory[hashing + _COUNT] = 0


def put_bytes(hashing: int, word: int, count: int) -> None:
    """Add the `count` highest bytes of a word, 1 to 8; the rest of it must be zero."""
    done = memory[hashing + _COUNT]
    memory[hashing + _COUNT] = done + count
    place, shift = done >> 3 & 7, (done & 7) << 3
    memory[hashing + 4 + place] = memory[hashing + 4 + place] | word >> shift
    if shift + 8 * count < 64:
        return
    if place == 7:
        _compress(hashing)
    if shift > 0:
        at = hashing + 4 + ((place + 1) & 7)
        memory[at] = (word << (64 - shift)) & WORD


def _compress(hashing: int) -> None:
    sha256_block(hashing)
    copy_digest(hashing, hashing + 12)
    for index in range(8):
        memory[hashing + 4 + index] = 0


def put_word(hashing: int, word: int) -> None:
    """Add eight bytes, the highest first."""
    put_bytes(hashing, word, 8)


def put_little(hashing: int, word: int) -> None:
    """Add eight bytes, the lowest first."""
    put_bytes(hashing, byte_swap(word), 8)


def put_message(hashing: int, message: int, offset: int, size: int) -> None:
    """Add `size` bytes of a message in memory, from byte `offset` on."""
    done = 0
    while done + 8 <= size:
        put_bytes(hashing, word_at(message, offset + done), 8)
        done += 8
    if done < size:
        keep = 8 * (size - done)
        put_bytes(hashing, word_at(message, offset + done) >> (64 - keep) << (64 - keep), size - done)


def finish_hash(hashing: int) -> int:
    """Return the address of the digest of all bytes that have come; it lasts until the hash begins anew."""
    length = memory[hashing + _COUNT]
    put_bytes(hashing, 1 << 63, 1)
    if length & 63 >= 56 and memory[hashing + _COUNT] & 63 != 0:
        _compress(hashing)
    memory[hashing + 11] = length << 3
    sha256_block(hashing)
    return hashing + 12


def put_tag(hashing: int, tag_bytes: int, second: int, third: int, fourth: int) -> None:
    """Add the frame of a tag "collegium/v1/..." of 14 to 32 bytes: "collegiu", then these words."""
    put_little(hashing, tag_bytes)
    put_bytes(hashing, TAG_0, 8)
    put_bytes(hashing, second, tag_bytes - 8 if tag_bytes < 16 else 8)
    if tag_bytes > 16:
        put_bytes(hashing, third, tag_bytes - 16 if tag_bytes < 24 else 8)
    if tag_bytes > 24:
        put_bytes(hashing, fourth, tag_bytes - 24)


def put_long_tag(hashing: int, tag_bytes: int, second: int, third: int, fourth: int, fifth: int) -> None:
    """Add the frame of a tag of 33 to 40 bytes."""
    put_little(hashing, tag_bytes)
    put_bytes(hashing, TAG_0, 8)
    put_bytes(hashing, second, 8)
    put_bytes(hashing, third, 8)
    put_bytes(hashing, fourth, 8)
    put_bytes(hashing, fifth, tag_bytes - 32)


def put_integer_field(hashing: int, value: int) -> None:
    """Add a field that is an integer."""
    put_little(hashing, 8)
    put_little(hashing, value)


def put_digest_field(hashing: int, digest: int) -> None:
    """Add a field that is a digest."""
    put_little(hashing, 32)
    for index in range(4):
        put_bytes(hashing, memory[digest + index], 8)
