"""`collegium.crypto.Transcript`: the running hash of what was said, and the source of challenges.

A transcript is 64 words: 0 to 3 the state, 4 how many words of the challenge under way are drawn, 32 on the hash.
"""

from __future__ import annotations

from collegium.settlement.programs._hashing import (
    finish_hash,
    put_bytes,
    put_digest_field,
    put_integer_field,
    put_little,
    put_tag,
    put_word,
    restart_hash,
)
from collegium.settlement.programs._reading import TAG_0, copy_digest
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, memory

MODULUS = 0xFFFFFFFF00000001
TAG_TRA = 0x6D2F76312F747261  # "m/v1/tra"
NSCRIPT = 0x6E73637269707400  # "nscript"
NSCRIPT_SLASH = 0x6E7363726970742F  # "nscript/"
ABSORB = 0x6162736F72620000  # "absorb"
BLOCK = 0x626C6F636B000000  # "block"
CHALLENG = 0x6368616C6C656E67  # "challeng"
E_LAST = 0x6500000000000000  # "e"
FIELD = 0x6669656C64000000  # "field"
_DRAWN = 4
_HASH = 32


def start_transcript(tag: int, tag_bytes: int) -> int:
    """Return a transcript whose tag, of at most 8 bytes, is bound; then come its fields, then `end_absorb`."""
    transcript = allocate(64)
    hashing = transcript + _HASH
    restart_hash(hashing)
    put_tag(hashing, 23, TAG_TRA, NSCRIPT, 0)
    put_little(hashing, tag_bytes)
    put_bytes(hashing, tag, tag_bytes)
    return transcript


def begin_absorb(transcript: int, label: int, label_bytes: int, size: int) -> int:
    """Return the hash to which the `size` bytes that are absorbed under a label of 1 to 8 bytes are to be added."""
    hashing = transcript + _HASH
    restart_hash(hashing)
    put_tag(hashing, 30, TAG_TRA, NSCRIPT_SLASH, ABSORB)
    put_digest_field(hashing, transcript)
    put_little(hashing, label_bytes)
    put_bytes(hashing, label, label_bytes)
    put_little(hashing, size)
    return hashing


def end_absorb(transcript: int) -> None:
    """Bind the challenges that follow to what was absorbed."""
    copy_digest(transcript, finish_hash(transcript + _HASH))


def begin_challenge(
    transcript: int, label: int, label_bytes: int, kind: int, kind_bytes: int, count: int, bound: int
) -> None:
    """Begin a challenge: label and kind are words of 1 to 8 bytes."""
    hashing = transcript + _HASH
    restart_hash(hashing)
    put_little(hashing, 33)
    put_word(hashing, TAG_0)
    put_word(hashing, TAG_TRA)
    put_word(hashing, NSCRIPT_SLASH)
    put_word(hashing, CHALLENG)
    put_bytes(hashing, E_LAST, 1)
    put_digest_field(hashing, transcript)
    put_little(hashing, label_bytes)
    put_bytes(hashing, label, label_bytes)
    put_little(hashing, kind_bytes)
    put_bytes(hashing, kind, kind_bytes)
    put_integer_field(hashing, count)
    put_integer_field(hashing, bound)
    end_absorb(transcript)
    memory[transcript + _DRAWN] = 0


def draw_word(transcript: int) -> int:
    """Return the next eight bytes of the challenge, the first the lowest."""
    hashing = transcript + _HASH
    drawn = memory[transcript + _DRAWN]
    memory[transcript + _DRAWN] = drawn + 1
    if drawn & 3 == 0:
        restart_hash(hashing)
        put_tag(hashing, 29, TAG_TRA, NSCRIPT_SLASH, BLOCK)
        put_digest_field(hashing, transcript)
        put_integer_field(hashing, drawn >> 2)
        finish_hash(hashing)
    return byte_swap(memory[hashing + 12 + (drawn & 3)])


def draw_element(transcript: int) -> int:
    """Return the next uniform element of F: words that are not below p are left out."""
    word = draw_word(transcript)
    while word >= MODULUS:
        word = draw_word(transcript)
    return word


def challenge_field(transcript: int, label: int, label_bytes: int, count: int) -> int:
    """Return the address of `count` uniform elements of F."""
    begin_challenge(transcript, label, label_bytes, FIELD, 5, count, 0)
    elements = allocate(count)
    for index in range(count):
        memory[elements + index] = draw_element(transcript)
    return elements
