"""Sums over slots at zeta: coefficient times L_slot(zeta) times the row's value (docs/spec/proofs.md, section 3).

An *expression* is a matrix made of others: two words, how many summands and a constant for genuine samples, and three
for each summand: coefficient, matrix, and a second matrix or 0 by which it is multiplied entry by entry.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import (
    ext_mul,
    ext_power,
    inverse,
    invert_all,
    power_sum,
    reversed_bits,
    root_of_unity,
)
from collegium.settlement.programs._proof_cells import CONSTANT, LEFT, RHO, SLOTS, WEIGHTS, ZETA
from collegium.settlement.programs._proof_layout import PIECE_WORDS, value_of
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, fmul, fsub, memory


def lagrange(slots: int, a: int, b: int) -> int:
    """Return the address of L_h(a + b x) for every slot h."""
    weights, points = allocate(2 * slots), allocate(slots)
    root, point = root_of_unity(slots), 1
    for index in range(slots):
        memory[points + reversed_bits(index, slots)] = point
        point = fmul(point, root)
    for slot in range(slots):
        memory[weights + 2 * slot] = fsub(a, memory[points + slot])
        memory[weights + 2 * slot + 1] = b
    invert_all(weights, slots)
    c, d = ext_power(a, b, slots)
    scale = inverse(slots)
    c, d = fmul(fsub(c, 1), scale), fmul(d, scale)
    for slot in range(slots):
        at, eta = weights + 2 * slot, memory[points + slot]
        e, f = ext_mul(memory[at], memory[at + 1], c, d)
        memory[at] = fmul(e, eta)
        memory[at + 1] = fmul(f, eta)
    return weights


def begin_sums() -> None:
    """Begin with nothing, at zeta."""
    memory[WEIGHTS] = lagrange(memory[SLOTS], memory[ZETA], memory[ZETA + 1])
    memory[LEFT] = 0
    memory[LEFT + 1] = 0
    memory[CONSTANT] = 0
    memory[CONSTANT + 1] = 0


def add_left(a: int, b: int) -> None:
    """Add to the left side."""
    memory[LEFT] = fadd(memory[LEFT], a)
    memory[LEFT + 1] = fadd(memory[LEFT + 1], b)


def add_constant(a: int, b: int) -> None:
    """Add a constant."""
    memory[CONSTANT] = fadd(memory[CONSTANT], a)
    memory[CONSTANT + 1] = fadd(memory[CONSTANT + 1], b)


def add_row(row: int, a: int, b: int) -> None:
    """Add a + b x times the sum of a row over all slots, whose weights sum to 1."""
    c, d = value_of(row)
    e, f = ext_mul(a, b, c, d)
    add_left(e, f)


def add_square(row: int, a: int, b: int) -> None:
    """Add a + b x times a row's square at zeta."""
    c, d = value_of(row)
    e, f = ext_mul(a, b, c, d)
    e, f = ext_mul(e, f, c, d)
    add_left(e, f)


def dot_weights(array: int, first: int, count: int) -> tuple[int, int]:
    """Return the sum of an array's elements times the weights of as many slots from `first` on."""
    weights, c, d = memory[WEIGHTS] + 2 * first, 0, 0
    for index in range(count):
        at, slot = array + 2 * index, weights + 2 * index
        e, f = ext_mul(memory[at], memory[at + 1], memory[slot], memory[slot + 1])
        c, d = fadd(c, e), fadd(d, f)
    return c, d


def add_entries(tensor: int, array: int) -> None:
    """Add the sum of coefficient times entry over a vector."""
    slots, length = memory[SLOTS], memory[tensor]
    for row in range(memory[tensor + 2]):
        rest = length - row * slots
        a, b = dot_weights(array + 2 * row * slots, 0, rest if rest < slots else slots)
        add_row(memory[tensor + 1] + row, a, b)


def add_powers(tensor: int, a: int, b: int, c: int, d: int) -> None:
    """Add the sum of (a + b x) (c + d x)^i times entry i over a vector."""
    slots, length, weights = memory[SLOTS], memory[tensor], memory[WEIGHTS]
    whole, rest = length // slots, length % slots
    e, f, sum_0, sum_1, part_0, part_1 = 1, 0, 0, 0, 0, 0
    for slot in range(rest if whole == 0 else slots):
        if slot == rest:
            part_0, part_1 = sum_0, sum_1
        g, h = ext_mul(e, f, memory[weights + 2 * slot], memory[weights + 2 * slot + 1])
        sum_0, sum_1 = fadd(sum_0, g), fadd(sum_1, h)
        e, f = ext_mul(e, f, c, d)
    for row in range(whole):
        g, h = ext_mul(a, b, sum_0, sum_1)
        add_row(memory[tensor + 1] + row, g, h)
        a, b = ext_mul(a, b, e, f)
    if rest > 0:
        if whole == 0:
            part_0, part_1 = sum_0, sum_1
        g, h = ext_mul(a, b, part_0, part_1)
        add_row(memory[tensor + 1] + whole, g, h)


def add_with_squares(tensor: int, a: int, b: int, c: int, d: int) -> None:
    """Add (a + b x) times the sum of a vector's entries, and (c + d x) times that of their squares."""
    slots, length, weights = memory[SLOTS], memory[tensor], memory[WEIGHTS]
    for row in range(memory[tensor + 2]):
        rest, sum_0, sum_1 = length - row * slots, 0, 0
        for slot in range(rest if rest < slots else slots):
            sum_0 = fadd(sum_0, memory[weights + 2 * slot])
            sum_1 = fadd(sum_1, memory[weights + 2 * slot + 1])
        e, f = ext_mul(a, b, sum_0, sum_1)
        add_row(memory[tensor + 1] + row, e, f)
        e, f = ext_mul(c, d, sum_0, sum_1)
        add_square(memory[tensor + 1] + row, e, f)


# --- expressions


def expression(room: int, constant: int) -> int:
    """Return an expression of no summands yet, with room for some."""
    made = allocate(2 + 3 * room)
    memory[made + 1] = constant
    return made


def add_summand(made: int, coefficient: int, tensor: int, factor: int) -> None:
    """Add a summand."""
    count = memory[made]
    memory[made + 2 + 3 * count] = coefficient
    memory[made + 3 + 3 * count] = tensor
    memory[made + 4 + 3 * count] = factor
    memory[made] = count + 1


def of_grid(tensor: int, coefficient: int, constant: int) -> int:
    """Return coefficient x matrix + constant."""
    made = expression(1, constant)
    add_summand(made, coefficient, tensor, 0)
    return made


def of_limbs(list_of_limbs: int, constant: int) -> int:
    """Return what limbs spell, + constant."""
    count = memory[list_of_limbs]
    made = expression(count, constant)
    for index in range(count):
        at = list_of_limbs + 1 + 3 * index
        add_summand(made, 1 << memory[at + 1], memory[at], 0)
    return made


def scaled(one: int, factor: int) -> int:
    """Return factor x expression."""
    count = memory[one]
    made = expression(count, fmul(memory[one + 1], factor))
    for index in range(count):
        at = one + 2 + 3 * index
        add_summand(made, fmul(memory[at], factor), memory[at + 1], memory[at + 2])
    return made


def joined(one: int, other: int) -> int:
    """Return the sum of two expressions."""
    first, second = memory[one], memory[other]
    made = expression(first + second, fadd(memory[one + 1], memory[other + 1]))
    for index in range(first):
        at = one + 2 + 3 * index
        add_summand(made, memory[at], memory[at + 1], memory[at + 2])
    for index in range(second):
        at = other + 2 + 3 * index
        add_summand(made, memory[at], memory[at + 1], memory[at + 2])
    return made


def selected(one: int, selector: int) -> int:
    """Return an expression without products times a matrix, entry by entry."""
    count = memory[one]
    made = expression(count + 1, 0)
    for index in range(count):
        at = one + 2 + 3 * index
        add_summand(made, memory[at], selector, memory[at + 1])
    if memory[one + 1] != 0:
        add_summand(made, memory[one + 1], selector, 0)
    return made


def squared(one: int) -> int:
    """Return the square of an expression without products."""
    count, constant = memory[one], memory[one + 1]
    made = expression(count * (count + 1), fmul(constant, constant))
    for index in range(count):
        at = one + 2 + 3 * index
        add_summand(made, fmul(fadd(constant, constant), memory[at]), memory[at + 1], 0)
        for other in range(one + 2, one + 2 + 3 * count, 3):
            add_summand(made, fmul(memory[at], memory[other]), memory[at + 1], memory[other + 1])
    return made


def genuine_weights(samples: int) -> int:
    """Return the address of the sum of L_h(zeta) over the genuine samples of each row of matrices of width 1."""
    slots = memory[SLOTS]
    count = (samples + slots - 1) // slots
    made = allocate(2 * count)
    for row in range(count):
        rest, a, b = samples - row * slots, 0, 0
        for slot in range(rest if rest < slots else slots):
            a = fadd(a, memory[memory[WEIGHTS] + 2 * slot])
            b = fadd(b, memory[memory[WEIGHTS] + 2 * slot + 1])
        memory[made + 2 * row] = a
        memory[made + 2 * row + 1] = b
    return made


def add_total(weights: int, tensor: int, factor: int, a: int, b: int) -> None:
    """Add a + b x times the sum of a matrix of width 1, entry by entry times a factor unless that is 0, over samples.

    `weights`: `genuine_weights` of its samples.
    """
    piece = tensor + 3
    for row in range(memory[piece + 4]):
        c, d = ext_mul(a, b, memory[weights + 2 * row], memory[weights + 2 * row + 1])
        e, f = value_of(memory[piece + 3] + row)
        c, d = ext_mul(c, d, e, f)
        if factor != 0:
            e, f = value_of(memory[factor + 6] + row)
            c, d = ext_mul(c, d, e, f)
        add_left(c, d)


def add_limbs_total(weights: int, list_of_limbs: int, a: int, b: int) -> None:
    """Add a + b x times the sum over samples of what limbs of width 1 spell."""
    for at in range(list_of_limbs + 1, list_of_limbs + 1 + 3 * memory[list_of_limbs], 3):
        factor = 1 << memory[at + 1]
        add_total(weights, memory[at], 0, fmul(a, factor), fmul(b, factor))


def add_samples(one: int, vector: int, samples: int) -> None:
    """Add the sum over samples i and columns j of rho^i vector_j entry_ij, the constant for genuine samples only."""
    shape, slots, count = memory[one + 3], memory[SLOTS], memory[one]
    for number in range(memory[shape + 2]):
        piece = 3 + PIECE_WORDS * number
        size, used = memory[shape + piece + 1], memory[shape + piece + 2]
        a, b, c, d = weigh_piece(vector + 2 * memory[shape + piece], size, used, slots // size)
        for row in range(memory[shape + piece + 4]):
            for index in range(count):
                add_summand_at(one + 2 + 3 * index, piece + 3, row, a, b)
            a, b = ext_mul(a, b, c, d)
    a, b = power_sum(memory[RHO], memory[RHO + 1], samples)
    c, d = 0, 0
    for column in range(memory[shape + 1]):
        c, d = fadd(c, memory[vector + 2 * column]), fadd(d, memory[vector + 2 * column + 1])
    a, b = ext_mul(a, b, c, d)
    add_constant(fmul(a, memory[one + 1]), fmul(b, memory[one + 1]))


def weigh_piece(vector: int, size: int, used: int, per_row: int) -> tuple[int, int, int, int]:
    """Return the sum over a row's samples and columns of rho^i vector_j L_slot(zeta), and rho^(samples of a row)."""
    a, b, c, d = 0, 0, 1, 0
    for index in range(per_row):
        e, f = dot_weights(vector, index * size, used)
        e, f = ext_mul(e, f, c, d)
        a, b = fadd(a, e), fadd(b, f)
        c, d = ext_mul(c, d, memory[RHO], memory[RHO + 1])
    return a, b, c, d


def add_summand_at(summand: int, piece_rows: int, row: int, a: int, b: int) -> None:
    """Add a + b x times a summand's row of a piece at zeta."""
    coefficient, factor = memory[summand], memory[summand + 2]
    c, d = value_of(memory[memory[summand + 1] + piece_rows] + row)
    a, b = ext_mul(fmul(a, coefficient), fmul(b, coefficient), c, d)
    if factor != 0:
        c, d = value_of(memory[factor + piece_rows] + row)
        a, b = ext_mul(a, b, c, d)
    add_left(a, b)
