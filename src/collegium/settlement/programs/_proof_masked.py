"""Relation `masked`: c = A s + e + 2^nu m, and the copy of the key (docs/spec/proofs.md, sections 4.0 and 4.1)."""

from __future__ import annotations

from collegium.settlement.programs._extension import (
    FIELD,
    ext_mul,
    ext_power,
    inverse,
    invert_all,
    power_sum,
    put_powers,
    reversed_bits,
    root_of_unity,
)
from collegium.settlement.programs._masking import CHECK_BLOCKS, NOISE_BOUND, RATE_LANES, RING, start_shake
from collegium.settlement.programs._proof_cells import (
    BLOCKS,
    CHI,
    CIPHERTEXT,
    KEY,
    KEY_PADS,
    KEY_POINT,
    KEY_VALUES,
    LANE_BITS,
    MU,
    NOISE,
    NOISE_BITS,
    TREES,
)
from collegium.settlement.programs._proof_layout import flat, look_up_flat
from collegium.settlement.programs._proof_sums import add_constant, add_entries, add_powers, lagrange
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, fadd, fmul, fsub, keccak, memory

KEY_MATRIX_ROWS = 4
KEY_SLOTS = 1024
KEY_PADS_LEN = 4444
MASK_RELATIONS = 5


def declare_mask() -> None:
    """Declare the noise, the key and its pads."""
    trace = memory[TREES]
    memory[NOISE] = flat(trace, RING * memory[BLOCKS])
    memory[KEY] = flat(trace, KEY_MATRIX_ROWS * KEY_SLOTS)
    memory[KEY_PADS] = flat(trace, KEY_MATRIX_ROWS * KEY_PADS_LEN)
    look_up_flat(memory[NOISE], 2 * NOISE_BOUND + 1)


def chi(number: int) -> tuple[int, int]:
    """Return the weight of a relation."""
    at = memory[CHI] + 2 * number
    return memory[at], memory[at + 1]


def update_scale(lane: int) -> tuple[int, int]:
    """Return chi_0 2^nu 2^(lane x lane bits) mu^offset: what entry i of a lane carries beside mu^i."""
    a, b = ext_power(memory[MU], memory[MU + 1], CHECK_BLOCKS * RING)
    c, d = chi(0)
    a, b = ext_mul(a, b, c, d)
    factor = 1 << (memory[NOISE_BITS] + lane * memory[LANE_BITS])
    return fmul(a, factor), fmul(b, factor)


def add_mask(matrix_seed: int) -> None:
    """Add sums 0, but for the update's part, to 4."""
    a, b = chi(0)
    mu_0, mu_1 = memory[MU], memory[MU + 1]
    add_powers(memory[NOISE], a, b, mu_0, mu_1)
    c, d = power_sum(mu_0, mu_1, RING * memory[BLOCKS])
    e, f = ciphertext_at(mu_0, mu_1)
    c, d = fadd(fmul(c, NOISE_BOUND), e), fadd(fmul(d, NOISE_BOUND), f)
    a, b = ext_mul(a, b, c, d)
    add_constant(fsub(0, a), fsub(0, b))
    coefficients = through_matrix(matrix_seed)
    add_key_copies(coefficients)
    add_entries(memory[KEY], coefficients)


def ciphertext_at(a: int, b: int) -> tuple[int, int]:
    """Return the sum of c_i (a + b x)^i; an element that is not canonical rejects."""
    c, d = 0, 0
    index = RING * memory[BLOCKS]
    while index > 0:
        index -= 1
        element = byte_swap(memory[memory[CIPHERTEXT] + index])
        assert element < FIELD
        c, d = ext_mul(c, d, a, b)
        c = fadd(c, element)
    return c, d


def add_key_copies(coefficients: int) -> None:
    """Add sums 1 to 4: to the coefficients of the key in place, the pads and constants at once."""
    z_0, z_1 = memory[KEY_POINT], memory[KEY_POINT + 1]
    at_slots = lagrange(KEY_SLOTS, z_0, z_1)
    e, f = ext_power(z_0, z_1, KEY_SLOTS)
    e = fsub(e, 1)
    pads = allocate(2 * KEY_MATRIX_ROWS * KEY_PADS_LEN)
    for row in range(KEY_MATRIX_ROWS):
        a, b = chi(1 + row)
        for slot in range(KEY_SLOTS):
            c, d = ext_mul(a, b, memory[at_slots + 2 * slot], memory[at_slots + 2 * slot + 1])
            at = coefficients + 2 * (KEY_SLOTS * row + slot)
            memory[at] = fadd(memory[at], c)
            memory[at + 1] = fadd(memory[at + 1], d)
        c, d = ext_mul(a, b, e, f)
        for place in range(KEY_PADS_LEN):
            at = pads + 2 * (KEY_PADS_LEN * row + place)
            memory[at] = c
            memory[at + 1] = d
            c, d = ext_mul(c, d, z_0, z_1)
        value = memory[KEY_VALUES] + 2 * row
        c, d = ext_mul(a, b, memory[value], memory[value + 1])
        add_constant(fsub(0, c), fsub(0, d))
    add_entries(memory[KEY_PADS], pads)


# --- A, in the transform's domain


def through_matrix(matrix_seed: int) -> int:
    """Return the address of chi_0 times the coefficients of s in sum_i mu^i (A s)_i.

    With w_m the m-th point of the transform and a_m = sum_b mu^(4096 b) A_b there, sum_i mu^i (A s)_i is the sum over
    m of a_m s(w_m) g_m, g_m = 1/4096 sum_i (mu / w_m)^i = (1 + mu^4096) / 4096 x w_m / (w_m - mu), as w_m^4096 = -1.
    So the coefficient of s_j is sum_m a_m g_m w_m^j: one transform, whatever the number of blocks.
    """
    made = sum_of_blocks(matrix_seed)
    points, inverses = allocate(RING), allocate(2 * RING)
    root = root_of_unity(2 * RING)
    square, point = fmul(root, root), root
    for index in range(RING):
        memory[points + reversed_bits(index, RING)] = point
        point = fmul(point, square)
    for index in range(RING):
        memory[inverses + 2 * index] = fsub(memory[points + index], memory[MU])
        memory[inverses + 2 * index + 1] = fsub(0, memory[MU + 1])
    invert_all(inverses, RING)
    a, b = ext_power(memory[MU], memory[MU + 1], RING)
    c, d = chi(0)
    a, b = ext_mul(fadd(a, 1), b, c, d)
    scale = inverse(RING)
    a, b = fmul(a, scale), fmul(b, scale)
    for index in range(RING):
        at = made + 2 * index
        c, d = ext_mul(memory[inverses + 2 * index], memory[inverses + 2 * index + 1], a, b)
        c, d = ext_mul(c, d, memory[at], memory[at + 1])
        memory[at] = fmul(c, memory[points + index])
        memory[at + 1] = fmul(d, memory[points + index])
    transform(made, square)
    turn = 1
    for index in range(RING):
        at = made + 2 * index
        memory[at] = fmul(memory[at], turn)
        memory[at + 1] = fmul(memory[at + 1], turn)
        turn = fmul(turn, root)
    return made


def transform(array: int, root: int) -> None:
    """Turn elements u_m, m in reversed order of bits, into the sums of u_m root^(j m), j in order."""
    turns = allocate(RING // 2)
    turn = 1
    for index in range(RING // 2):
        memory[turns + index] = turn
        turn = fmul(turn, root)
    half = 1
    while half < RING:
        stride, start = RING // (2 * half), 0
        while start < RING:
            for index in range(half):
                left = array + 2 * (start + index)
                right, turn = left + 2 * half, memory[turns + stride * index]
                a, b = memory[left], memory[left + 1]
                c, d = fmul(memory[right], turn), fmul(memory[right + 1], turn)
                memory[left] = fadd(a, c)
                memory[left + 1] = fadd(b, d)
                memory[right] = fsub(a, c)
                memory[right + 1] = fsub(b, d)
            start += 2 * half
        half *= 2


def sum_of_blocks(matrix_seed: int) -> int:
    """Return the address of sum_b mu^(4096 b) A_b at every point of the transform."""
    made, powers = allocate(2 * RING), allocate(2 * memory[BLOCKS])
    a, b = ext_power(memory[MU], memory[MU + 1], RING)
    put_powers(powers, a, b, memory[BLOCKS])
    sponge = allocate(32)
    for block in range(memory[BLOCKS]):
        a, b = memory[powers + 2 * block], memory[powers + 2 * block + 1]
        start_shake(sponge, matrix_seed, block)
        lane, found = RATE_LANES, 0
        while found < RING:
            if lane == RATE_LANES:
                keccak(sponge)
                lane = 0
            element = memory[sponge + lane]
            lane += 1
            if element < FIELD:
                at = made + 2 * found
                memory[at] = fadd(memory[at], fmul(a, element))
                memory[at + 1] = fadd(memory[at + 1], fmul(b, element))
                found += 1
    return made
