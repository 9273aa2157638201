"""Public work: what the sum of a round's admitted reports opens to, or why it does not.

Header -> close, key sums, reports -> the weighted sum, the keys' sum -> unmasked, rounded, unpacked. Whatever the
header claims is decided: outcome, total and lying seats are computed here and compared at the end.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, bit_length
from collegium.settlement.programs._hashing import (
    finish_hash,
    put_bytes,
    put_little,
    put_word,
    start_hash,
)
from collegium.settlement.programs._key_sums import COLUMNS, KEY_ROWS, open_key, read_key_sums
from collegium.settlement.programs._masking import (
    CHECK_BLOCKS,
    NOISE_BOUND,
    RATE_LANES,
    RING,
    matrix_seed,
    start_shake,
)
from collegium.settlement.programs._model_state import are_possible, is_model
from collegium.settlement.programs._reading import (
    START_0,
    START_1,
    START_2,
    START_3,
    TAG_0,
    WORD,
    copy_digest,
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    is_no_digest,
    little_at,
    same_digest,
    short_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    C_REPORTS,
    C_WEIGHTS,
    H_FAILED,
    H_LYING,
    H_MODEL,
    H_ROUND,
    H_TOTAL,
    INVALID,
    LOST,
    OPENED,
    R_CIPHERTEXT,
    SKIPPED,
    beacon_after,
    count_reports,
    outcome_of,
    read_before,
    read_close,
    read_header,
    read_report,
)
from collegium.settlement.programs._task import SEATS, TRAINERS_MAX, bound_of, entries_of, weight_max
from collegium.settlement.programs._transforms import (
    ROOT_8192,
    ROOT_8192_INVERSE,
    make_roots,
    transform,
    transform_back,
)
from collegium.settlement.programs._words import (
    accept,
    byte_swap,
    fadd,
    fmul,
    fsub,
    keccak,
    memory,
    preimage,
    shift_right_signed,
)

PROVES: int  # 1 where reports carry proofs: then an invalid sum names those that fail
LOG_RING = 12
SIGNED_MAX = 0x7FFFFFFF80000000  # (p - 1) / 2
LEAST = 0x8000000000000000  # the word of the least signed number
TOTAL = 0x6D2F76312F746F74  # "m/v1/tot"
TOTAL_END = 0x616C000000000000  # "al"


def main() -> None:
    """Accept if outcome, total and lying seats are what the header's close and key sums give."""
    header = read_header(0)
    close = read_close(header)
    before = read_before(header)
    rows = allocate(KEY_ROWS * COLUMNS)
    present = allocate(SEATS)
    lying = allocate(SEATS)
    columns = read_key_sums(header, rows, present)
    number = integer_field(header, H_ROUND)
    outcome = SKIPPED
    opened = 0
    if count_reports(close) > 0:
        blocks = CHECK_BLOCKS + (entries_of(number) + RING - 1) // RING
        total = allocate(RING * blocks)
        weight = _add_reports(close, number, total, blocks)
        key = allocate(RING)
        opened = allocate(entries_of(number))
        if open_key(close, rows, present, columns, lying, key) == 0:
            outcome = LOST
        elif (
            _unmask(before, number, key, total, blocks, weight, opened) == 1 and _can_step(before, number, opened) == 1
        ):
            outcome = OPENED
        else:
            outcome = INVALID
    _compare(header, close, outcome, number, opened, lying)
    accept()


def _compare(header: int, close: int, outcome: int, number: int, opened: int, lying: int) -> None:
    """Reject unless the header says what was computed."""
    assert outcome_of(header) == outcome
    total = digest_field(header, H_TOTAL)
    count = 0
    if outcome == OPENED:
        assert same_digest(total, _total_digest(number, opened)) == 1
        for seat in range(SEATS):
            if memory[lying + seat] > 0:
                assert 2 * count < field_size(header, H_LYING)
                assert short_at(memory[header], field_start(header, H_LYING) + 2 * count) == seat
                count += 1
    else:
        assert is_no_digest(total) == 1
    assert field_size(header, H_LYING) == 2 * count
    if outcome == INVALID and PROVES == 1:
        _check_failed(header, close)
    else:
        assert field_size(header, H_FAILED) == 0


def _check_failed(header: int, close: int) -> None:
    """Reject unless the reports that a header calls failed are some that its close admits, in their order."""
    size, index = field_size(header, H_FAILED), 0
    failed, admitted = allocate(4), allocate(4)
    assert size % 32 == 0
    for at in range(field_start(header, H_FAILED), field_start(header, H_FAILED) + size, 32):
        digest_at(memory[header], at, failed)
        found = 0
        while found == 0:
            assert index < count_reports(close)
            digest_at(memory[close], field_start(close, C_REPORTS) + 32 * index, admitted)
            found = same_digest(failed, admitted)
            index += 1


def _add_reports(close: int, number: int, total: int, blocks: int) -> int:
    """Add the admitted reports' masked updates, each times its weight; return the sum of the weights."""
    weight_sum = 0
    for index in range(count_reports(close)):
        weight = little_at(memory[close], field_start(close, C_WEIGHTS) + 8 * index)
        assert weight <= weight_max(number) and index < TRAINERS_MAX
        weight_sum += weight
        report = read_report(close, index)
        _add_ciphertext(digest_field(report, R_CIPHERTEXT), weight, total, RING * blocks)
    return weight_sum


def _add_ciphertext(digest: int, weight: int, total: int, elements: int) -> None:
    """Add a masked update times a weight, as its blocks are read: the last, which is padding alone, first."""
    frame = allocate(16)
    copy_digest(frame + 12, digest)
    preimage(frame)
    assert memory[frame + 4] == LEAST and memory[frame + 11] == elements << 6
    for index in range(5, 11):
        assert memory[frame + index] == 0
    at = total + elements
    while at > total:
        copy_digest(frame + 12, frame)
        preimage(frame)
        at -= 8
        for index in range(8):
            element = byte_swap(memory[frame + 4 + index])
            assert element < FIELD
            memory[at + index] = fadd(memory[at + index], fmul(weight, element))
    assert memory[frame] == START_0 and memory[frame + 1] == START_1
    assert memory[frame + 2] == START_2 and memory[frame + 3] == START_3


def _unmask(before: int, number: int, key: int, total: int, blocks: int, weight: int, opened: int) -> int:
    """Return 1 and the signed entries of the sum, or 0 if noise, check blocks, entries or padding are out of range."""
    entries = entries_of(number)
    noise_bits = bit_length(NOISE_BOUND * weight_max(number) * TRAINERS_MAX) + 1
    half = 1 << (noise_bits - 1)
    noise_max = NOISE_BOUND * weight
    bound = bound_of(number) * weight
    roots = make_roots(ROOT_8192)
    back = make_roots(ROOT_8192_INVERSE)
    transform(key, LOG_RING, roots, ROOT_8192)
    seed = matrix_seed(number, beacon_after(before))
    product = allocate(RING)
    fits = 1
    for block in range(blocks):
        _multiply(seed, block, key, product)
        transform_back(product, LOG_RING, back, ROOT_8192_INVERSE)
        first = RING * (block - CHECK_BLOCKS) if block >= CHECK_BLOCKS else 0
        for index in range(RING):
            element = fsub(memory[total + RING * block + index], memory[product + index])
            if element > SIGNED_MAX:
                element = (element + 0xFFFFFFFF) & WORD  # less p
            element = (element + half) & WORD
            noise = element & ((1 << noise_bits) - 1)
            if noise + noise_max < half or noise > half + noise_max:
                fits = 0
            entry = shift_right_signed(element, noise_bits)
            if block < CHECK_BLOCKS or first + index >= entries:
                if entry != 0:
                    fits = 0
            else:
                if (entry + bound) & WORD > 2 * bound:
                    fits = 0
                memory[opened + first + index] = entry
    return fits


def _multiply(seed: int, block: int, key: int, product: int) -> None:
    """Multiply a block of the public matrix, SHAKE128 of seed and number, with the key, both as transforms."""
    frame = allocate(25)
    start_shake(frame, seed, block)
    lane = RATE_LANES
    index = 0
    while index < RING:
        if lane == RATE_LANES:
            keccak(frame)
            lane = 0
        element = memory[frame + lane]
        lane += 1
        if element < FIELD:
            memory[product + index] = fmul(element, memory[key + index])
            index += 1


def _can_step(before: int, number: int, opened: int) -> int:
    """Return 1 if a step can be taken from an opened sum: possible statistics, or one row or more and a model to move.

    There is none after a round 0 that did not open, until another task.
    """
    entries = entries_of(number)
    if number > 0:
        rows = memory[opened + entries - 1]
        return is_model(digest_field(before, H_MODEL)) if 0 < rows < LEAST else 0
    for column in range((entries - 1) // 3):
        at = opened + 3 * column
        if are_possible(memory[at], memory[at + 1], memory[at + 2]) == 0:
            return 0
    return 1


def _total_digest(number: int, opened: int) -> int:
    """Return the address of the digest of the opened sum."""
    hashing = start_hash()
    put_word(hashing, TAG_0)
    put_word(hashing, TOTAL)
    put_bytes(hashing, TOTAL_END, 2)
    for index in range(entries_of(number)):
        put_little(hashing, memory[opened + index])
    return finish_hash(hashing)
