"""Public work: who sits where in the next round, by the header's beacon, and with which sealing keys, by its close.

That the beacon is the epoch's and a key its validator's is not judged: no digest leads to a threshold or a signature's
message. In the last round of an epoch, and after the first one, the next validators follow from records of their own.
"""

from __future__ import annotations

from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_tag,
    restart_hash,
    start_hash,
)
from collegium.settlement.programs._members import VALIDATORS, epoch_digest, is_known_epoch
from collegium.settlement.programs._reading import (
    WORD,
    copy_digest,
    field_size,
    field_start,
    integer_field,
    little_at,
    same_bytes,
    short_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    ANNOUNCEMENT_BYTES,
    C_KEYS,
    H_KEYS,
    H_ROUND,
    H_SEATS,
    beacon_after,
    read_close,
    read_header,
)
from collegium.settlement.programs._task import SEATS
from collegium.settlement.programs._words import accept, byte_swap, memory

KEYS_MIN: int  # a quorum of the validators
COMMITTEE = 0x6D2F76312F636F6D  # "m/v1/com"
COMMITTEE_END = 0x6D69747465650000  # "mittee"


def main() -> None:
    """Accept if seats and sealing keys of the next round are what beacon and close give."""
    header = read_header(0)
    close = read_close(header)
    following = integer_field(header, H_ROUND) + 1
    if is_known_epoch(following) == 1:
        _check_seats(header)
        _check_keys(header, close, following)
    accept()


def _check_seats(header: int) -> None:
    """Reject unless each seat is its validator's: in order where there is one for each, else as the beacon draws."""
    order = allocate(VALIDATORS)
    drawing = allocate(64)
    copy_digest(drawing + 32, beacon_after(header))
    for seat in range(SEATS):
        place = seat % VALIDATORS
        if place == 0:
            for validator in range(VALIDATORS):
                memory[order + validator] = validator
            if SEATS != VALIDATORS:
                _shuffle(order, drawing)
        assert short_at(memory[header], field_start(header, H_SEATS) + 2 * seat) == memory[order + place]


def _shuffle(order: int, drawing: int) -> None:
    """Permute the validators at random (Fisher and Yates)."""
    for last in range(VALIDATORS - 1, 0, -1):
        other = _draw_below(last + 1, drawing)
        moved = memory[order + last]
        memory[order + last] = memory[order + other]
        memory[order + other] = moved


def _draw_below(bound: int, drawing: int) -> int:
    """Return a uniform integer below a bound: words of the incomplete last interval are left out."""
    most = WORD - (WORD % bound + 1) % bound
    word = _draw_word(drawing)
    while word > most:
        word = _draw_word(drawing)
    return word % bound


def _draw_word(drawing: int) -> int:
    """Return the next word; word 36 of a drawing counts them, behind the beacon, and 40 on are the block's."""
    count = memory[drawing + 36]
    memory[drawing + 36] = count + 1
    if count & 3 == 0:
        hashing = memory[drawing]
        if hashing == 0:
            hashing = start_hash()
            memory[drawing] = hashing
        restart_hash(hashing)
        put_tag(hashing, 22, COMMITTEE, COMMITTEE_END, 0)
        put_digest_field(hashing, epoch_digest())
        put_digest_field(hashing, drawing + 32)
        put_integer_field(hashing, count >> 2)
        copy_digest(drawing + 40, finish_hash(hashing))
    return byte_swap(memory[drawing + 40 + (count & 3)])


def _check_keys(header: int, close: int, following: int) -> None:
    """Reject unless the sealing keys are the close's: a quorum's at least, in order, of the next round."""
    size = field_size(close, C_KEYS)
    start = field_start(close, C_KEYS)
    keys = memory[close]
    assert field_size(header, H_KEYS) == size and size % ANNOUNCEMENT_BYTES == 0
    assert size >= KEYS_MIN * ANNOUNCEMENT_BYTES
    assert same_bytes(memory[header], field_start(header, H_KEYS), keys, start, size) == 1
    for index in range(size // ANNOUNCEMENT_BYTES):
        at = start + ANNOUNCEMENT_BYTES * index
        assert short_at(keys, at) < VALIDATORS and little_at(keys, at + 2) == following
        assert index == 0 or short_at(keys, at - ANNOUNCEMENT_BYTES) < short_at(keys, at)
