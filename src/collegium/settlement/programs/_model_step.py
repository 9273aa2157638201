"""Public work: the model after a round is what the training rule gives of the opened sum and the model before.

What it says of quality, behind the parameters, is another program's.

A round that did not open keeps the model. Round 0 puts the opened statistics before the first parameters.
"""

from __future__ import annotations

from collegium.settlement.programs._hashing import finish_hash, put_bytes, put_message, start_hash
from collegium.settlement.programs._model_state import (
    ENTRY_BYTES,
    PARAMETER_BYTES,
    lifted_by,
    limit_of,
    parameter_at,
    state_bytes,
)
from collegium.settlement.programs._reading import (
    TAG_0,
    WORD,
    digest_field,
    little_at,
    put_digest,
    read_message,
    same_digest,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import H_MODEL, H_TOTAL, OPENED, outcome_of, read_before, read_header
from collegium.settlement.programs._task import ENTRIES, FIRST_ENTRIES, STEWARDS
from collegium.settlement.programs._words import accept, byte_swap, memory, mul_high

NUMERATOR: int
DENOMINATOR: int
DESCENDS: int  # 1 where the sum is a gradient
FIRST_0: int  # the digest of the first parameters
FIRST_1: int
FIRST_2: int
FIRST_3: int
LEAST = 0x8000000000000000
TOTAL = 0x6D2F76312F746F74  # "m/v1/tot"
TOTAL_END = 0x616C  # "al"
TAG_BYTES = 18
QUOTIENT_BITS = 24  # more than twice any limit


def main() -> None:
    """Accept if the header's model is right."""
    header = read_header(0)
    before = read_before(header)
    hashing = start_hash()
    if outcome_of(header) == OPENED:
        total, length = read_message(digest_field(header, H_TOTAL))
        assert memory[total] == TAG_0 and memory[total + 1] == TOTAL and memory[total + 2] >> 48 == TOTAL_END
        if before == 0:
            _begin(hashing, total, length)
        else:
            _step(hashing, total, length, digest_field(before, H_MODEL))
        if STEWARDS > 0:
            _put_rest(hashing, digest_field(header, H_MODEL))
        expected = finish_hash(hashing)
    elif before == 0:
        expected = finish_hash(hashing)
    else:
        expected = digest_field(before, H_MODEL)
    assert same_digest(expected, digest_field(header, H_MODEL)) == 1
    accept()


def _begin(hashing: int, total: int, length: int) -> None:
    """Make the first model: the opened statistics, then the first parameters."""
    assert length == TAG_BYTES + ENTRY_BYTES * FIRST_ENTRIES
    put_message(hashing, total, TAG_BYTES, ENTRY_BYTES * FIRST_ENTRIES)
    digest = allocate(4)
    put_digest(digest, FIRST_0, FIRST_1, FIRST_2, FIRST_3)
    parameters, size = read_message(digest)
    assert size == PARAMETER_BYTES * (ENTRIES - 1)
    put_message(hashing, parameters, 0, size)


def _step(hashing: int, total: int, length: int, model: int) -> None:
    """Make the next model: statistics as they were, each parameter moved by its share of the sum, within its limit."""
    parameters = ENTRIES - 1
    state, size = read_message(model)
    assert length == TAG_BYTES + ENTRY_BYTES * ENTRIES
    assert size == state_bytes()
    put_message(hashing, state, 0, ENTRY_BYTES * FIRST_ENTRIES)
    rows = little_at(total, TAG_BYTES + ENTRY_BYTES * parameters)
    assert 0 < rows < LEAST
    for index in range(parameters):
        entry = little_at(total, TAG_BYTES + ENTRY_BYTES * index)
        moved = _move(parameter_at(state, index), entry, rows, limit_of(index))
        put_bytes(hashing, byte_swap(moved), PARAMETER_BYTES)


def _put_rest(hashing: int, model: int) -> None:
    """Add what a model state says behind its parameters."""
    state, size = read_message(model)
    begin = ENTRY_BYTES * FIRST_ENTRIES + PARAMETER_BYTES * (ENTRIES - 1)
    assert size == state_bytes()
    put_message(hashing, state, begin, size - begin)


def _move(parameter: int, entry: int, rows: int, limit: int) -> int:
    """Return a parameter, 32 bits in two's complement, after its step."""
    lifted = lifted_by(parameter, limit)
    assert lifted <= 2 * limit
    negative = 1 if entry >= LEAST else 0
    size = (WORD - entry + 1) & WORD if negative == 1 else entry
    step = _divide_half_up(size, rows, negative)
    if negative == DESCENDS:
        lifted = lifted + step if step < 2 * limit - lifted else 2 * limit
    else:
        lifted = lifted - step if step < lifted else 0
    return (lifted + 0x100000000 - limit) & 0xFFFFFFFF


def _divide_half_up(size: int, rows: int, negative: int) -> int:
    """Return |floor(+-size NUMERATOR / (rows DENOMINATOR) + 1/2)|, or more than 2^24 where it is more than that.

    That is (2 size NUMERATOR + d) // 2 d for d = rows DENOMINATOR, with d - 1 in place of d for negative numbers.
    """
    divisor_high = mul_high(rows, DENOMINATOR)
    divisor = (rows * DENOMINATOR) & WORD
    high = mul_high(size, 2 * NUMERATOR) + divisor_high
    if divisor < negative:
        high -= 1
    low = (size * (2 * NUMERATOR)) & WORD
    addend = (divisor + WORD + 1 - negative) & WORD
    low = (low + addend) & WORD
    if low < addend:
        high += 1
    divisor_high = (divisor_high << 1) | divisor >> 63
    divisor = (divisor << 1) & WORD
    if high | divisor_high == 0:
        return low // divisor
    return _divide_long(high, low, divisor_high, divisor)


def _divide_long(high: int, low: int, divisor_high: int, divisor: int) -> int:
    """Return the quotient of two double words, or more than 2^24 where it is more than that, bit after bit."""
    divisor_high = (divisor_high << QUOTIENT_BITS | divisor >> (64 - QUOTIENT_BITS)) & WORD
    divisor = (divisor << QUOTIENT_BITS) & WORD
    quotient = 0
    for _ in range(QUOTIENT_BITS + 1):
        quotient <<= 1
        if high > divisor_high or (high == divisor_high and low >= divisor):
            high -= divisor_high
            if low < divisor:
                high -= 1
            low = (low + WORD + 1 - divisor) & WORD
            quotient |= 1
        divisor = divisor >> 1 | (divisor_high & 1) << 63
        divisor_high >>= 1
    return quotient
