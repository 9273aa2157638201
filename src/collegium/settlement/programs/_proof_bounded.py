"""Relation `bounded`: every entry in range, and the sum of their squares too (docs/spec/proofs.md, section 4.2)."""

from __future__ import annotations

from collegium.settlement.programs._extension import bit_length, ext_mul, power_sum
from collegium.settlement.programs._proof_cells import MU, NORM, TAU, TREES, UPDATE_BOUND, UPDATE_ENTRIES, UPDATE_LANES
from collegium.settlement.programs._proof_layout import flat, look_up_flat
from collegium.settlement.programs._proof_masked import chi, update_scale
from collegium.settlement.programs._proof_sums import add_constant, add_powers, add_with_squares
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fmul, fsub, memory, mul_high

TABLE_MAX = 1 << 18
LIMB_BITS = 12
BOUNDED_RELATIONS = 8
LANE_RELATION = 5
NORM_RELATION = 7
LIMBS_MAX = 8
_LANE = 2 * LIMBS_MAX + 2  # words of a lane: length, limbs, the upper ones' vectors, the lower ones'


def limb_count() -> int:
    """Return in how many limbs an entry is looked up: one where it is looked up whole."""
    if 2 * memory[UPDATE_BOUND] + 1 <= TABLE_MAX:
        return 1
    return (bit_length(2 * memory[UPDATE_BOUND]) + LIMB_BITS - 1) // LIMB_BITS


def declare_bounded() -> int:
    """Declare the lanes' entries, and the slack of a norm; return their address."""
    tensors = allocate(2 * _LANE + 1)
    count, bound = limb_count(), memory[UPDATE_BOUND]
    slots = (memory[UPDATE_ENTRIES] + memory[UPDATE_LANES] - 1) // memory[UPDATE_LANES]
    for lane in range(memory[UPDATE_LANES]):
        place, rest = tensors + _LANE * lane, memory[UPDATE_ENTRIES] - lane * slots
        memory[place] = slots if slots < rest else rest
        memory[place + 1] = count
        if 2 * bound + 1 <= TABLE_MAX:
            declare_limbs(place + 2, memory[place], 1, 2 * bound + 1)
        else:
            declare_limbs(place + 2, memory[place], count, 1 << LIMB_BITS)
            declare_limbs(place + 2 + LIMBS_MAX, memory[place], count, 1 << LIMB_BITS)
    if memory[NORM] > 0:
        norm = memory[NORM] - 1
        assert mul_high(norm, norm) == 0
        declare_limbs(tensors + 2 * _LANE, (bit_length(norm * norm) + LIMB_BITS - 1) // LIMB_BITS, 1, 1 << LIMB_BITS)
    return tensors


def declare_limbs(target: int, length: int, count: int, size: int) -> None:
    """Declare vectors, then their lookups in a table of this size."""
    assert count <= LIMBS_MAX
    for limb in range(count):
        memory[target + limb] = flat(memory[TREES], length)
    for limb in range(count):
        look_up_flat(memory[target + limb], size)


def add_bounded(tensors: int) -> None:
    """Add the update's part of sum 0, and the sums 5 to 7."""
    bound = memory[UPDATE_BOUND]
    for lane in range(memory[UPDATE_LANES]):
        place = tensors + _LANE * lane
        a, b = update_scale(lane)
        add_limbs(place, place + 2, a, b, memory[MU], memory[MU + 1], bound)
        if 2 * bound + 1 > TABLE_MAX:
            a, b = chi(LANE_RELATION + lane)
            add_limbs(place, place + 2, a, b, memory[TAU], memory[TAU + 1], 2 * bound)
            add_limbs(place, place + 2 + LIMBS_MAX, a, b, memory[TAU], memory[TAU + 1], 0)
        elif memory[NORM] > 0:
            add_squares(memory[place + 2])
    if memory[NORM] > 0:
        norm = memory[NORM] - 1
        a, b = chi(NORM_RELATION)
        add_powers(memory[tensors + 2 * _LANE], a, b, 1 << LIMB_BITS, 0)
        square = fmul(norm, norm)
        add_constant(fsub(0, fmul(a, square)), fsub(0, fmul(b, square)))


def add_limbs(place: int, limbs: int, a: int, b: int, c: int, d: int, less: int) -> None:
    """Add (a + b x) sum_i (c + d x)^i (what limbs spell, less a constant)."""
    for limb in range(memory[place + 1]):
        factor = 1 << (LIMB_BITS * limb)
        add_powers(memory[limbs + limb], fmul(a, factor), fmul(b, factor), c, d)
    c, d = power_sum(c, d, memory[place])
    a, b = ext_mul(a, b, c, d)
    add_constant(fsub(0, fmul(a, less)), fsub(0, fmul(b, less)))


def add_squares(tensor: int) -> None:
    """Add chi_7 sum_i (entry_i - bound)^2."""
    bound = memory[UPDATE_BOUND]
    a, b = chi(NORM_RELATION)
    twice = fsub(0, 2 * bound)
    add_with_squares(tensor, fmul(a, twice), fmul(b, twice), a, b)
    total = fmul(fmul(bound, bound), memory[tensor])
    add_constant(fmul(a, total), fmul(b, total))
