"""Messages that a digest leads to, read in reverse, and the fields of `collegium.crypto.hash_fields` framings.

A message stands in memory as SHA-256 takes it: big-endian words, padding included. A *record* is a message cut into its
fields: word 0 the message's address, word 1 its length in bytes, and for field i words 2 + 2 i and 3 + 2 i, the byte at
which it begins and how many it has. Whatever is not exactly in this form rejects.
"""

from __future__ import annotations

from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, memory, preimage

WORD = 0xFFFFFFFFFFFFFFFF
OBJECT_BYTES_MAX = 64 << 20
START_0 = 0x6A09E667BB67AE85  # SHA-256's first chaining value
START_1 = 0x3C6EF372A54FF53A
START_2 = 0x510E527F9B05688C
START_3 = 0x1F83D9AB5BE0CD19
TAG_0 = 0x636F6C6C65676975  # "collegiu"
_FRAME = 16  # words of a SHA-256 frame: value 0..3, block 4..11, value after it 12..15


def copy_digest(target: int, source: int) -> None:
    """Copy four words."""
    memory[target] = memory[source]
    memory[target + 1] = memory[source + 1]
    memory[target + 2] = memory[source + 2]
    memory[target + 3] = memory[source + 3]


def same_digest(left: int, right: int) -> int:
    """Return 1 if two addresses hold the same four words, else 0."""
    difference = memory[left] ^ memory[right] | memory[left + 1] ^ memory[right + 1]
    difference |= memory[left + 2] ^ memory[right + 2] | memory[left + 3] ^ memory[right + 3]
    return 1 if difference == 0 else 0


def is_no_digest(digest: int) -> int:
    """Return 1 if the four words are zero, else 0."""
    return 1 if memory[digest] | memory[digest + 1] | memory[digest + 2] | memory[digest + 3] == 0 else 0


def put_digest(target: int, first: int, second: int, third: int, fourth: int) -> None:
    """Write a digest that is known as four words."""
    memory[target] = first
    memory[target + 1] = second
    memory[target + 2] = third
    memory[target + 3] = fourth


def read_message(digest: int) -> tuple[int, int]:
    """Return the address and the length in bytes of the message whose SHA-256 stands at `digest`.

    Last block first: its end says how long the message is, and the value before it which block comes before.
    """
    frame = allocate(_FRAME)
    copy_digest(frame + 12, digest)
    preimage(frame)
    assert memory[frame + 11] <= OBJECT_BYTES_MAX << 3
    assert memory[frame + 11] & 7 == 0
    length = memory[frame + 11] >> 3
    words = (length + 72) // 64 * 8
    message = allocate(words)
    at = message + words - 8
    while True:
        for index in range(8):
            memory[at + index] = memory[frame + 4 + index]
        if at == message:
            break
        at -= 8
        copy_digest(frame + 12, frame)
        preimage(frame)
    assert memory[frame] == START_0 and memory[frame + 1] == START_1
    assert memory[frame + 2] == START_2 and memory[frame + 3] == START_3
    _check_padding(message, length, words)
    return message, length


def _check_padding(message: int, length: int, words: int) -> None:
    """Reject unless a bit 1 and then bits 0 stand between the message and its length."""
    at = length >> 3
    shift = (length & 7) << 3
    assert memory[message + at] & (WORD >> shift) == 0x8000000000000000 >> shift
    for index in range(at + 1, words - 1):
        assert memory[message + index] == 0


def word_at(message: int, offset: int) -> int:
    """Return the eight bytes from byte `offset` on, the first the highest."""
    shift = (offset & 7) << 3
    at = message + (offset >> 3)
    if shift == 0:
        return memory[at]
    return (memory[at] << shift) & WORD | memory[at + 1] >> (64 - shift)


def little_at(message: int, offset: int) -> int:
    """Return the eight bytes from byte `offset` on, the first the lowest."""
    return byte_swap(word_at(message, offset))


def swapped(source: int, count: int) -> int:
    """Return the address of words with their bytes in reverse."""
    made = allocate(count)
    for index in range(count):
        memory[made + index] = byte_swap(memory[source + index])
    return made


def short_at(message: int, offset: int) -> int:
    """Return the two bytes from byte `offset` on, the first the lower."""
    two = word_at(message, offset) >> 48
    return two >> 8 | (two & 255) << 8


def digest_at(message: int, offset: int, target: int) -> None:
    """Copy the 32 bytes from byte `offset` on."""
    for index in range(4):
        memory[target + index] = word_at(message, offset + 8 * index)


def read_fields(digest: int, fields: int, tag_bytes: int, second: int, third: int, fourth: int) -> int:
    """Return the record of the message behind `digest`, which must have this tag and exactly so many fields.

    The tag "collegium/v1/..." is `tag_bytes` long, 14 to 32: "collegiu", then these words, zeros behind its end.
    """
    message, length = read_message(digest)
    record = allocate(2 + 2 * fields)
    memory[record] = message
    memory[record + 1] = length
    at = 8 + tag_bytes
    assert at <= length
    assert memory[message] == byte_swap(tag_bytes) and memory[message + 1] == TAG_0
    _check_tag(message, 16, tag_bytes - 8, second)
    _check_tag(message, 24, tag_bytes - 16 if tag_bytes > 16 else 0, third)
    _check_tag(message, 32, tag_bytes - 24 if tag_bytes > 24 else 0, fourth)
    for index in range(fields):
        assert at + 8 <= length
        size = little_at(message, at)
        assert size <= length - at - 8
        memory[record + 2 + 2 * index] = at + 8
        memory[record + 3 + 2 * index] = size
        at += 8 + size
    assert at == length
    return record


def _check_tag(message: int, offset: int, left: int, expected: int) -> None:
    """Reject unless the next bytes of a tag, of which `left` are left, are those of a word."""
    if left >= 8:
        assert memory[message + (offset >> 3)] == expected
    elif left > 0:
        assert memory[message + (offset >> 3)] >> (64 - 8 * left) == expected >> (64 - 8 * left)


def field_start(record: int, index: int) -> int:
    """Return at which byte a field begins."""
    return memory[record + 2 + 2 * index]


def field_size(record: int, index: int) -> int:
    """Return how many bytes a field has."""
    return memory[record + 3 + 2 * index]


def integer_field(record: int, index: int) -> int:
    """Return a field that is an integer."""
    assert memory[record + 3 + 2 * index] == 8
    return little_at(memory[record], memory[record + 2 + 2 * index])


def digest_field(record: int, index: int) -> int:
    """Return the address of a copy of a field that is a digest."""
    assert memory[record + 3 + 2 * index] == 32
    target = allocate(4)
    digest_at(memory[record], memory[record + 2 + 2 * index], target)
    return target


def same_bytes(left: int, left_at: int, right: int, right_at: int, size: int) -> int:
    """Return 1 if two stretches hold the same bytes, eight at least, else 0."""
    done = 0
    while done + 8 <= size:
        if word_at(left, left_at + done) != word_at(right, right_at + done):
            return 0
        done += 8
    if done == size:
        return 1
    return 1 if word_at(left, left_at + size - 8) == word_at(right, right_at + size - 8) else 0
