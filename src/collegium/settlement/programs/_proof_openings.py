"""Opened columns: each leaf from its symbols and salt, and the way up to the root by a multiproof."""

from __future__ import annotations

from collegium.settlement.programs._hashing import finish_hash, put_bytes, put_word, restart_hash
from collegium.settlement.programs._proof_cells import HASH
from collegium.settlement.programs._proof_transcript import put_words
from collegium.settlement.programs._reading import TAG_0, copy_digest, same_digest
from collegium.settlement.programs._room import allocate, copy
from collegium.settlement.programs._words import memory

LEAF_1 = 0x6D2F76312F6C6561  # "m/v1/lea"
NODE_1 = 0x6D2F76312F6E6F64  # "m/v1/nod"
LEAF_2 = 0x6600000000000000  # "f" and a zero byte
NODE_2 = 0x6500000000000000  # "e" and a zero byte
SALT_WORDS = 2


def hash_leaf(symbols: int, rows: int, salt: int, target: int) -> None:
    """Write the leaf of a column."""
    hashing = memory[HASH]
    restart_hash(hashing)
    put_word(hashing, TAG_0)
    put_word(hashing, LEAF_1)
    put_bytes(hashing, LEAF_2, 2)
    put_words(hashing, symbols, rows)
    put_words(hashing, salt, SALT_WORDS)
    copy_digest(target, finish_hash(hashing))


def hash_node(left: int, right: int, target: int) -> None:
    """Write the node above two digests."""
    hashing = memory[HASH]
    restart_hash(hashing)
    put_word(hashing, TAG_0)
    put_word(hashing, NODE_1)
    put_bytes(hashing, NODE_2, 2)
    put_words(hashing, left, 4)
    put_words(hashing, right, 4)
    copy_digest(target, finish_hash(hashing))


def count_siblings(positions: int, count: int, size: int) -> int:
    """Return how many digests the multiproof of positions, which increase, has in a tree of `size` leaves."""
    known = allocate(count)
    copy(known, positions, count)
    siblings = 0
    while size > 1:
        read, write = 0, 0
        while read < count:
            position = memory[known + read]
            read += 1
            if position & 1 == 0 and read < count and memory[known + read] == position + 1:
                read += 1
            else:
                siblings += 1
            memory[known + write] = position >> 1
            write += 1
        count = write
        size >>= 1
    return siblings


def climb(positions: int, leaves: int, count: int, size: int, siblings: int) -> None:
    """Turn the first leaf into the root above all of them; positions and leaves are used up.

    Siblings stand level by level, from left to right: exactly those that do not follow from what is known.
    """
    while size > 1:
        read, write = 0, 0
        while read < count:
            position, left = memory[positions + read], leaves + 4 * read
            read += 1
            right = left + 4
            if position & 1 == 1:
                left, right = siblings, left
                siblings += 4
            elif read < count and memory[positions + read] == position + 1:
                read += 1
            else:
                right = siblings
                siblings += 4
            hash_node(left, right, leaves + 4 * write)
            memory[positions + write] = position >> 1
            write += 1
        count = write
        size >>= 1


def check_opening(root: int, opened: int, rows: int, positions: int, count: int, size: int) -> None:
    """Reject unless what is opened, columns of symbols, then salts, then siblings, are the columns behind a root."""
    salts = opened + rows * count
    leaves, known = allocate(4 * count), allocate(count)
    copy(known, positions, count)
    for index in range(count):
        hash_leaf(opened + rows * index, rows, salts + SALT_WORDS * index, leaves + 4 * index)
    climb(known, leaves, count, size, salts + SALT_WORDS * count)
    assert same_digest(leaves, root) == 1
