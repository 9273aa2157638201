"""The transcript of a proof: what it has said so far, and the challenges that follow (docs/spec/crypto.md).

Labels are one or two words: their bytes from the highest on, zeros behind them.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD
from collegium.settlement.programs._hashing import (
    finish_hash,
    put_bytes,
    put_digest_field,
    put_integer_field,
    put_little,
    put_tag,
    put_word,
    restart_hash,
    start_hash,
)
from collegium.settlement.programs._proof_cells import BLOCK, HASH, STATE, STREAM, STREAM_AT
from collegium.settlement.programs._reading import TAG_0, WORD, copy_digest
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, memory, sha256_block

TRANSCRIPT_1 = 0x6D2F76312F747261  # "m/v1/tra"
TRANSCRIPT_2 = 0x6E73637269707400  # "nscript"
ABSORB_2 = 0x6E7363726970742F  # "nscript/"
ABSORB_3 = 0x6162736F72620000  # "absorb"
BLOCK_3 = 0x626C6F636B000000  # "block"
CHALLENGE_3 = 0x6368616C6C656E67  # "challeng"
CHALLENGE_4 = 0x6500000000000000  # "e"
EXT = 0x6578740000000000  # "ext"
INDICES = 0x696E646963657300  # "indices"


def start_transcript() -> int:
    """Begin a transcript and return its hash, to which fields are added before `end_fields`; its tag comes first."""
    if memory[HASH] == 0:
        memory[HASH] = start_hash()
    hashing = memory[HASH]
    restart_hash(hashing)
    put_tag(hashing, 23, TRANSCRIPT_1, TRANSCRIPT_2, 0)
    return hashing


def end_fields() -> None:
    """Make the digest of all fields the transcript's state."""
    copy_digest(STATE, finish_hash(memory[HASH]))


def put_label(hashing: int, first: int, second: int) -> None:
    """Add a field that is a short text."""
    length = text_length(first) + text_length(second)
    put_little(hashing, length)
    put_bytes(hashing, first, length if length < 8 else 8)
    if length > 8:
        put_bytes(hashing, second, length - 8)


def text_length(word: int) -> int:
    """Return how many bytes of a word are before the zeros at its end."""
    length = 0
    while word > 0:
        word = (word << 8) & WORD
        length += 1
    return length


def put_words(hashing: int, address: int, count: int) -> None:
    """Add whole words: what `put_word` does with each, quicker."""
    done = memory[hashing + 16]
    memory[hashing + 16] = done + 8 * count
    place, shift = done >> 3 & 7, (done & 7) << 3
    pending = memory[hashing + 4 + place]
    for at in range(address, address + count):
        word = memory[at]
        memory[hashing + 4 + place] = pending | word >> shift
        pending = (word << (64 - shift)) & WORD
        place += 1
        if place == 8:
            sha256_block(hashing)
            copy_digest(hashing, hashing + 12)
            place = 0
    memory[hashing + 4 + place] = pending
    for index in range(place + 1, 8):
        memory[hashing + 4 + index] = 0


def absorb(first: int, second: int, address: int, words: int) -> None:
    """Bind what follows to words, under a label."""
    hashing = memory[HASH]
    restart_hash(hashing)
    put_tag(hashing, 30, TRANSCRIPT_1, ABSORB_2, ABSORB_3)
    put_digest_field(hashing, STATE)
    put_label(hashing, first, second)
    put_little(hashing, 8 * words)
    put_words(hashing, address, words)
    copy_digest(STATE, finish_hash(hashing))


def begin_challenge(first: int, second: int, kind: int, count: int, bound: int) -> None:
    """Begin the stream of a challenge."""
    hashing = memory[HASH]
    restart_hash(hashing)
    put_little(hashing, 33)
    put_word(hashing, TAG_0)
    put_word(hashing, TRANSCRIPT_1)
    put_word(hashing, ABSORB_2)
    put_word(hashing, CHALLENGE_3)
    put_bytes(hashing, CHALLENGE_4, 1)
    put_digest_field(hashing, STATE)
    put_label(hashing, first, second)
    put_label(hashing, kind, 0)
    put_integer_field(hashing, count)
    put_integer_field(hashing, bound)
    copy_digest(STATE, finish_hash(hashing))
    memory[BLOCK] = 0
    memory[STREAM_AT] = 4


def next_word() -> int:
    """Return the next word of a challenge's stream."""
    at = memory[STREAM_AT]
    if at == 4:
        hashing = memory[HASH]
        restart_hash(hashing)
        put_tag(hashing, 29, TRANSCRIPT_1, ABSORB_2, BLOCK_3)
        put_digest_field(hashing, STATE)
        put_integer_field(hashing, memory[BLOCK])
        copy_digest(STREAM, finish_hash(hashing))
        memory[BLOCK] = memory[BLOCK] + 1
        at = 0
    memory[STREAM_AT] = at + 1
    return byte_swap(memory[STREAM + at])


def next_element() -> int:
    """Return the next word of the stream that is an element of F."""
    word = next_word()
    while word >= FIELD:
        word = next_word()
    return word


def draw(first: int, second: int, count: int, target: int) -> None:
    """Draw elements of K."""
    begin_challenge(first, second, EXT, count, 0)
    for at in range(target, target + 2 * count):
        memory[at] = next_element()


def draw_array(first: int, second: int, count: int) -> int:
    """Return the address of elements of K that are drawn."""
    target = allocate(2 * count)
    draw(first, second, count, target)
    return target


def draw_positions(first: int, second: int, count: int, bound: int) -> int:
    """Return the address of `count` different numbers below a power of two, in increasing order."""
    begin_challenge(first, second, INDICES, count, bound)
    chosen = allocate(bound)
    missing = count
    while missing > 0:
        number = next_word() & (bound - 1)
        if memory[chosen + number] == 0:
            memory[chosen + number] = 1
            missing -= 1
    positions = allocate(count)
    found = 0
    for number in range(bound):
        if memory[chosen + number] == 1:
            memory[positions + found] = number
            found += 1
    return positions
