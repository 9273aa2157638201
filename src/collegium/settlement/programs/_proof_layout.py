"""The rows of one statement: tensors, lookups and constraints as declared (docs/spec/proofs.md, section 2).

A row is its tree times 2^32 plus its place there, until all are declared. A *flat* is three words: length, first row,
rows. A *grid* is three words, samples, width, pieces, and five for each piece: start, size, used columns, first row,
rows. A *list of limbs* is a count and then three words a limb: grid or flat, shift, bits.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import bit_length, ext_mul
from collegium.settlement.programs._proof_cells import (
    BASES,
    CHUNKS,
    COMBINATION_MASK,
    CONSTRAINT_COUNT,
    COUNTS,
    LOOKUP_COUNT,
    LOOKUPS,
    LOOKUPS_MAX,
    MONOMIAL_COUNT,
    MONOMIALS,
    MONOMIALS_MAX,
    PAIR_COUNT,
    PAIRS,
    SLOTS,
    SUM_MASK,
    TABLE_COUNT,
    TABLES,
    TOTAL,
    TREES,
    VALUES,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, memory

NO_ROW = 0xFFFFFFFFFFFFFFFF
TREE = 1 << 32
ENTRIES_MAX = 1 << 26  # lookups and table entries together
TABLES_MAX = 64
PIECES_CUT_MAX = 4
QUOTIENT_ROWS = 6
TABLE_WORDS = 3  # size, address of second entries or 0, multiplicities
PIECE_WORDS = 5


def begin_layout(trees: int, lookups_max: int, monomials_max: int) -> None:
    """Begin a statement with so many data trees, and room for lookups and monomials; the code is set already."""
    memory[TREES] = trees
    memory[COUNTS] = allocate(trees + 3)
    memory[BASES] = allocate(trees + 4)
    memory[TABLES] = allocate(TABLE_WORDS * TABLES_MAX)
    memory[TABLE_COUNT] = 0
    memory[LOOKUPS] = allocate(3 * lookups_max)
    memory[LOOKUPS_MAX] = lookups_max
    memory[LOOKUP_COUNT] = 0
    memory[MONOMIALS] = allocate(5 * monomials_max)
    memory[MONOMIALS_MAX] = monomials_max
    memory[MONOMIAL_COUNT] = 0
    memory[CONSTRAINT_COUNT] = 0


def rows(tree: int, count: int) -> int:
    """Declare rows and return the first one."""
    counts = memory[COUNTS]
    first = memory[counts + tree]
    memory[counts + tree] = first + count
    return tree * TREE + first


def flat(tree: int, length: int) -> int:
    """Declare a vector."""
    tensor, count = allocate(3), (length + memory[SLOTS] - 1) // memory[SLOTS]
    memory[tensor] = length
    memory[tensor + 1] = rows(tree, count)
    memory[tensor + 2] = count
    return tensor


def ceil_power(number: int) -> int:
    """Return the least power of two that is not below a number."""
    return 1 << bit_length(number - 1)


def grid(tree: int, samples: int, width: int) -> int:
    """Declare a matrix."""
    slots = memory[SLOTS]
    tensor = allocate(3 + PIECE_WORDS * (width // slots + PIECES_CUT_MAX))
    memory[tensor] = samples
    memory[tensor + 1] = width
    start, cut, pieces = 0, 0, 0
    while start < width:
        rest = width - start
        size = slots
        if rest < slots:
            size = cut_size(rest, samples, cut)
            cut += 1
        piece = tensor + 3 + PIECE_WORDS * pieces
        memory[piece] = start
        memory[piece + 1] = size
        memory[piece + 2] = size if size < rest else rest
        memory[piece + 4] = rows_for(samples, size)
        memory[piece + 3] = rows(tree, memory[piece + 4])
        pieces += 1
        start += size
    memory[tensor + 2] = pieces
    return tensor


def cut_size(rest: int, samples: int, cut: int) -> int:
    """Return the width of the next piece of what is left of a matrix, less than a row."""
    up, down = ceil_power(rest), 1 << (bit_length(rest) - 1)
    whole = rows_for(samples, up)
    split = whole
    if rest > down:
        split = rows_for(samples, down) + rows_for(samples, ceil_power(rest - down))
    return up if whole <= split or cut == PIECES_CUT_MAX - 1 else down


def rows_for(samples: int, size: int) -> int:
    """Return how many rows hold so many samples of a piece."""
    per_row = memory[SLOTS] // size
    return (samples + per_row - 1) // per_row


def table(size: int, second: int) -> int:
    """Declare a table, once, and return its number; `second` is the address of second entries, or 0."""
    count = memory[TABLE_COUNT]
    for number in range(count):
        known = memory[TABLES] + TABLE_WORDS * number
        if memory[known] == size and memory[known + 1] == second:
            return number
    assert count < TABLES_MAX
    made = memory[TABLES] + TABLE_WORDS * count
    memory[made] = size
    memory[made + 1] = second
    memory[TABLE_COUNT] = count + 1
    return count


def look_up_rows(first: int, count: int, number: int, second: int) -> None:
    """Look up every slot of rows in a table, with the rows from `second` on unless that is NO_ROW."""
    lookups, known = memory[LOOKUPS], memory[LOOKUP_COUNT]
    assert known + count <= memory[LOOKUPS_MAX]
    for index in range(count):
        lookup = lookups + 3 * (known + index)
        memory[lookup] = first + index
        memory[lookup + 1] = number
        memory[lookup + 2] = NO_ROW if second == NO_ROW else second + index
    memory[LOOKUP_COUNT] = known + count


def look_up_flat(tensor: int, size: int) -> None:
    """Look a vector up in a plain range."""
    look_up_rows(memory[tensor + 1], memory[tensor + 2], table(size, 0), NO_ROW)


def look_up_grid(tensor: int, size: int) -> None:
    """Look a matrix up in a plain range."""
    number = table(size, 0)
    for index in range(memory[tensor + 2]):
        piece = tensor + 3 + PIECE_WORDS * index
        look_up_rows(memory[piece + 3], memory[piece + 4], number, NO_ROW)


def look_up_pairs(tensor: int, other: int, size: int, second: int) -> None:
    """Look pairs of two matrices of one shape up in a table of pairs."""
    number = table(size, second)
    for index in range(memory[tensor + 2]):
        piece, beside = tensor + 3 + PIECE_WORDS * index, other + 3 + PIECE_WORDS * index
        look_up_rows(memory[piece + 3], memory[piece + 4], number, memory[beside + 3])


def limbs(tree: int, samples: int, width: int, bits: int, most: int) -> int:
    """Declare matrices for the limbs of integers of so many bits, each looked up."""
    count = (bits + most - 1) // most
    if count == 0:
        count = 1
    made = allocate(1 + 3 * count)
    memory[made] = count
    for index in range(count):
        low = bits * index // count
        memory[made + 1 + 3 * index] = grid(tree, samples, width)
        memory[made + 2 + 3 * index] = low
        memory[made + 3 + 3 * index] = bits * (index + 1) // count - low
    for index in range(count):
        look_up_grid(memory[made + 1 + 3 * index], 1 << memory[made + 3 + 3 * index])
    return made


def monomial(coefficient: int, first: int, second: int, third: int) -> None:
    """Add a monomial to the constraint under way."""
    count = memory[MONOMIAL_COUNT]
    assert count < memory[MONOMIALS_MAX]
    made = memory[MONOMIALS] + 5 * count
    memory[made] = memory[CONSTRAINT_COUNT]
    memory[made + 1] = coefficient
    memory[made + 2] = first
    memory[made + 3] = second
    memory[made + 4] = third
    memory[MONOMIAL_COUNT] = count + 1


def constrain(left: int, first: int, second: int, right: int, third: int) -> None:
    """Demand left first [second] + right third = 0 in every slot of matrices of one shape; no second where it is 0."""
    for index in range(memory[first + 2]):
        place = 3 + PIECE_WORDS * index
        for row in range(memory[first + place + 4]):
            a, c = memory[first + place + 3] + row, memory[third + place + 3] + row
            monomial(left, a, NO_ROW if second == 0 else memory[second + place + 3] + row, NO_ROW)
            if right != 0:
                monomial(right, c, NO_ROW, NO_ROW)
            memory[CONSTRAINT_COUNT] = memory[CONSTRAINT_COUNT] + 1


def constrain_terms(terms: int, count: int) -> None:
    """Demand that so many terms add up to 0 in every slot; a term is three words: coefficient, matrix, another or 0."""
    first = memory[terms + 1]
    for index in range(memory[first + 2]):
        place = 3 + PIECE_WORDS * index
        for row in range(memory[first + place + 4]):
            for term in range(terms, terms + 3 * count, 3):
                other = memory[term + 2]
                second = NO_ROW if other == 0 else memory[other + place + 3] + row
                monomial(memory[term], memory[memory[term + 1] + place + 3] + row, second, NO_ROW)
            memory[CONSTRAINT_COUNT] = memory[CONSTRAINT_COUNT] + 1


def put_term(terms: int, index: int, coefficient: int, first: int, second: int) -> None:
    """Write a term of a constraint."""
    memory[terms + 3 * index] = coefficient
    memory[terms + 3 * index + 1] = first
    memory[terms + 3 * index + 2] = second


def end_layout() -> None:
    """Declare the argument's own rows, and pair the lookups."""
    trace = memory[TREES]
    entries = memory[SLOTS] * memory[LOOKUP_COUNT]
    for number in range(memory[TABLE_COUNT]):
        known = memory[TABLES] + TABLE_WORDS * number
        entries += memory[known]
        memory[known + 2] = flat(trace, memory[known])
    assert entries <= ENTRIES_MAX
    memory[SUM_MASK] = rows(trace, 2)
    memory[COMBINATION_MASK] = rows(trace, 2)
    pair_lookups(trace + 1)
    memory[CHUNKS] = rows(trace + 2, QUOTIENT_ROWS)
    total = 0
    for tree in range(trace + 3):
        memory[memory[BASES] + tree] = total
        total += memory[memory[COUNTS] + tree]
    memory[TOTAL] = total


def pair_lookups(products: int) -> None:
    """Pair each table's lookups, the first half with the second; a pair's inverse is two rows.

    A pair is six words: row and second row of either side, table, first part of the inverse.
    """
    count, lookups = memory[LOOKUP_COUNT], memory[LOOKUPS]
    pairs, members, made = allocate(6 * count), allocate(count), 0
    for number in range(memory[TABLE_COUNT]):
        found = 0
        for index in range(count):
            if memory[lookups + 3 * index + 1] == number:
                memory[members + found] = lookups + 3 * index
                found += 1
        half = (found + 1) // 2
        for index in range(half):
            left, right = memory[members + index], memory[members + found - half + index]
            pair = pairs + 6 * made
            memory[pair] = memory[left]
            memory[pair + 1] = memory[left + 2]
            memory[pair + 2] = memory[right]
            memory[pair + 3] = memory[right + 2]
            memory[pair + 4] = number
            made += 1
    first = rows(products, 2 * made)
    for index in range(made):
        memory[pairs + 6 * index + 5] = first + index
    memory[PAIRS] = pairs
    memory[PAIR_COUNT] = made


def place_of(row: int) -> int:
    """Return a row's place among all rows."""
    return memory[memory[BASES] + row // TREE] + row % TREE


def value_of(row: int) -> tuple[int, int]:
    """Return a row's value at zeta."""
    at = memory[VALUES] + 2 * place_of(row)
    return memory[at], memory[at + 1]


def extended_value(first: int, second: int) -> tuple[int, int]:
    """Return at zeta the row over K whose parts are these two."""
    a, b = value_of(first)
    c, d = value_of(second)
    c, d = ext_mul(c, d, 0, 1)
    return fadd(a, c), fadd(b, d)
