"""A step's score: a public number is the noisy inner product of its update with the round's direction.

docs/spec/proofs.md, section 4.5, on a training step. The direction stands in the model state that the step starts from.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD
from collegium.settlement.programs._hashing import put_bytes, put_integer_field, put_little
from collegium.settlement.programs._masking import CHECK_BLOCKS, NOISE_BOUND, RATE_LANES, RING, start_shake
from collegium.settlement.programs._plan import P_QUANTILES_AT, step_plan
from collegium.settlement.programs._proof_cells import (
    BLOCKS,
    CHI,
    CIPHERTEXT,
    DIRECTION,
    KEY,
    MATRIX_SEED,
    NEXT_CHI,
    NOISE,
    NOISE_BITS,
    PLAN,
    SCORE,
    SCORE_FIRST,
    SCORE_LIMBS,
    SCORE_NOISE,
    SHIFT,
    SIGMA,
    TREES,
    TURN,
    UPDATE_BOUND,
    UPDATE_ENTRIES,
)
from collegium.settlement.programs._proof_labels import SCORE_TEXT
from collegium.settlement.programs._proof_layout import flat, look_up_flat, look_up_rows, table
from collegium.settlement.programs._proof_sums import add_constant, add_entries
from collegium.settlement.programs._proof_transcript import put_label
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._signed import of_signed, size_of
from collegium.settlement.programs._transforms import (
    ROOT_8192,
    ROOT_8192_INVERSE,
    make_roots,
    transform,
    transform_back,
)
from collegium.settlement.programs._words import byte_swap, fadd, fmul, fsub, keccak, memory, mul_high, signed_less

SEEDS = 4096
SCORE_RELATIONS = 2
QUANTILE_BITS = 24
LOG_RING = 12
LIMB_BITS = 8
LIMB = 1 << LIMB_BITS


def limb_count() -> int:
    """Return in how many limbs a remainder is looked up."""
    shift = memory[SHIFT]
    return 1 if shift == 0 else (shift + LIMB_BITS - 1) // LIMB_BITS


def noise_at(index: int) -> int:
    """Return an entry of the ascending table of noises, a signed word."""
    half, quantiles = SEEDS // 2, memory[PLAN] + step_plan(P_QUANTILES_AT)
    place = index - half if index >= half else half - 1 - index
    size = (memory[SIGMA] * memory[quantiles + place] + (1 << QUANTILE_BITS - 1)) >> QUANTILE_BITS
    return size if index >= half else 0 - size


def declare_score(seed: int) -> None:
    """Declare a score's tensors, after all others of the trace; the seed stands in the data's tree."""
    trace, turned = memory[TREES], allocate(SEEDS)
    memory[SCORE_NOISE] = flat(trace, 1)
    memory[SCORE_LIMBS] = flat(trace, 2 * limb_count())
    memory[SCORE_FIRST] = noise_at(memory[TURN])
    for index in range(SEEDS):
        noise = noise_at((index + memory[TURN]) % SEEDS)
        memory[turned + index] = of_signed(noise - memory[SCORE_FIRST])
    look_up_rows(memory[seed + 1], memory[seed + 2], table(SEEDS, turned), memory[memory[SCORE_NOISE] + 1])
    look_up_flat(memory[SCORE_LIMBS], LIMB)


def check_reach() -> None:
    """Reject numbers for which the relation could wrap around the field."""
    reach = 0
    for at in range(memory[DIRECTION], memory[DIRECTION] + memory[UPDATE_ENTRIES] - 1):
        reach += size_of(memory[at])
    assert mul_high(reach, memory[UPDATE_BOUND]) == 0
    reach = reach * memory[UPDATE_BOUND]
    size, noise, room = size_of(memory[SCORE]), noise_at(SEEDS - 1) + 1, FIELD >> memory[SHIFT]
    assert size + noise <= room
    value = size + noise << memory[SHIFT]
    assert reach < FIELD and value < FIELD - reach


def put_score(hashing: int) -> None:
    """Add the score's fields to a statement's."""
    entries = memory[UPDATE_ENTRIES] - 1
    put_label(hashing, SCORE_TEXT, 0)
    put_little(hashing, 4 * entries)
    for at in range(memory[DIRECTION], memory[DIRECTION] + entries):
        put_bytes(hashing, byte_swap(memory[at] & 0xFFFFFFFF), 4)
    put_integer_field(hashing, memory[SHIFT])
    put_integer_field(hashing, memory[SIGMA])
    put_integer_field(hashing, memory[TURN])
    put_integer_field(hashing, size_of(memory[SCORE]))
    put_integer_field(hashing, 1 if signed_less(memory[SCORE], 0) else 0)


def add_score() -> None:
    """Add the two sums that tie the score to what c masks."""
    chi = memory[CHI] + 2 * memory[NEXT_CHI]
    memory[NEXT_CHI] = memory[NEXT_CHI] + SCORE_RELATIONS
    a, b = memory[chi], memory[chi + 1]
    add_inner_product(a, b)
    factor = 1 << memory[NOISE_BITS]
    add_parts(fmul(a, factor), fmul(b, factor), memory[chi + 2], memory[chi + 3])


def add_parts(a: int, b: int, c: int, d: int) -> None:
    """Add (a + b x) (- 2^shift (y - noise) - R) and (c + d x) (R + (2^shift - 1 - R) - (2^shift - 1))."""
    step, count = 1 << memory[SHIFT], limb_count()
    constant = fmul(of_signed(memory[SCORE_FIRST] - memory[SCORE]), step)
    add_constant(fmul(a, constant), fmul(b, constant))
    one, limbs = allocate(2), allocate(4 * count)
    memory[one] = fmul(a, step)
    memory[one + 1] = fmul(b, step)
    add_entries(memory[SCORE_NOISE], one)
    for limb in range(count):
        power, at = 1 << LIMB_BITS * limb, limbs + 2 * limb
        memory[at] = fmul(power, fsub(c, a))
        memory[at + 1] = fmul(power, fsub(d, b))
        memory[at + 2 * count] = fmul(power, c)
        memory[at + 2 * count + 1] = fmul(power, d)
    add_entries(memory[SCORE_LIMBS], limbs)
    constant = fsub(1, step)
    add_constant(fmul(c, constant), fmul(d, constant))


def add_inner_product(a: int, b: int) -> None:
    """Add (a + b x) 2^nu <v, x> = (a + b x) (<v, c> - <A^T v, s> - <v, e>)."""
    entries, start = memory[UPDATE_ENTRIES] - 1, RING * CHECK_BLOCKS
    transposed, coefficients = through_transposed(), allocate(2 * RING)
    for index in range(RING):
        memory[coefficients + 2 * index] = fsub(0, fmul(a, memory[transposed + index]))
        memory[coefficients + 2 * index + 1] = fsub(0, fmul(b, memory[transposed + index]))
    add_entries(memory[KEY], coefficients)
    noise, total = allocate(2 * RING * memory[BLOCKS]), 0
    for index in range(entries):
        v, at = of_signed(memory[memory[DIRECTION] + index]), noise + 2 * (start + index)
        memory[at] = fsub(0, fmul(a, v))
        memory[at + 1] = fsub(0, fmul(b, v))
        total = fadd(total, fmul(v, fadd(byte_swap(memory[memory[CIPHERTEXT] + start + index]), NOISE_BOUND)))
    add_entries(memory[NOISE], noise)
    add_constant(fmul(a, total), fmul(b, total))


def through_transposed() -> int:
    """Return the address of A^T v.

    A block of A multiplies polynomials modulo X^4096 + 1. Its transpose does, too, once coefficient i has become that
    of X^-i, before and after. So v is turned, block by block, multiplied where A stands, and the sum is turned back.
    """
    entries, total, block = memory[UPDATE_ENTRIES] - 1, allocate(RING), allocate(RING)
    roots, back = make_roots(ROOT_8192), make_roots(ROOT_8192_INVERSE)
    for number in range((entries + RING - 1) // RING):
        rest = entries - RING * number
        for index in range(RING):
            memory[block + index] = 0
        for index in range(rest if rest < RING else RING):
            memory[block + index] = of_signed(memory[memory[DIRECTION] + RING * number + index])
        turn(block)
        transform(block, LOG_RING, roots, ROOT_8192)
        add_block(CHECK_BLOCKS + number, block, total)
    transform_back(total, LOG_RING, back, ROOT_8192_INVERSE)
    turn(total)
    return total


def turn(block: int) -> None:
    """Put in the place of every coefficient of X^i that of X^-i = -X^(4096 - i)."""
    half = RING // 2
    for index in range(1, half):
        other = memory[block + RING - index]
        memory[block + RING - index] = fsub(0, memory[block + index])
        memory[block + index] = fsub(0, other)
    memory[block + half] = fsub(0, memory[block + half])


def add_block(number: int, values: int, total: int) -> None:
    """Add a block of A, as SHAKE128 gives its values, times other values."""
    sponge, lane, found = allocate(32), RATE_LANES, 0
    start_shake(sponge, memory[MATRIX_SEED], number)
    while found < RING:
        if lane == RATE_LANES:
            keccak(sponge)
            lane = 0
        element = memory[sponge + lane]
        lane += 1
        if element < FIELD:
            memory[total + found] = fadd(memory[total + found], fmul(element, memory[values + found]))
            found += 1
