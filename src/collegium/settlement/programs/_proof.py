"""The verifier's nine steps (docs/spec/proofs.md, section 3), whatever the statement: layout and sums are the caller's.

A proof stands in memory as it is sent, big-endian words of little-endian elements; every part has whole words.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import (
    FIELD,
    GENERATOR,
    ext_mul,
    ext_power,
    invert_all,
    power,
    reversed_bits,
    root_of_unity,
)
from collegium.settlement.programs._hashing import finish_hash, put_integer_field, put_word, restart_hash
from collegium.settlement.programs._proof_cells import (
    ALPHAS,
    CHI,
    CHUNKS,
    COMBINATION,
    COMBINATION_MASK,
    CONSTANT,
    CONSTRAINT_COUNT,
    COUNTS,
    FACTORS,
    GAMMAS,
    HASH,
    KEY_POINT,
    KEY_ROWS,
    KEY_VALUES,
    LAMBDAS,
    LEFT,
    MASK_TOTAL,
    MONOMIAL_COUNT,
    MONOMIALS,
    MU,
    OPENED_AT,
    OPENINGS,
    PADS,
    PAIR_COUNT,
    PAIRS,
    PROOF,
    PROOF_BYTES,
    QUERIES,
    RELATIONS,
    REMAINDER,
    RHO,
    ROOTS,
    SLOTS,
    STATE,
    SUM_MASK,
    TABLE_COUNT,
    TABLES,
    TAU,
    TOTAL,
    TREES,
    VALUES,
    WEIGHTS,
    ZETA,
)
from collegium.settlement.programs._proof_labels import (
    ALPHA_LABEL,
    CHI_LABEL,
    COLUMNS_LABEL,
    COMBINATION_LABEL,
    COMBINATION_MORE,
    GAMMA_LABEL,
    KEY_POINT_LABEL,
    KEY_POINT_MORE,
    KEY_VALUES_LABEL,
    KEY_VALUES_MORE,
    LAMBDA_LABEL,
    MASK_TOTAL_LABEL,
    MASK_TOTAL_MORE,
    MU_LABEL,
    NONCE_LABEL,
    POINT_LABEL,
    PRODUCTS_LABEL,
    QUOTIENT_LABEL,
    REMAINDER_LABEL,
    REMAINDER_MORE,
    RHO_LABEL,
    ROWS_LABEL,
    TAU_LABEL,
    TRACE_LABEL,
    VALUES_LABEL,
)
from collegium.settlement.programs._proof_layout import NO_ROW, TABLE_WORDS, extended_value, place_of, value_of
from collegium.settlement.programs._proof_openings import SALT_WORDS, check_opening, count_siblings
from collegium.settlement.programs._proof_sums import add_entries, add_left, add_row, begin_sums
from collegium.settlement.programs._proof_transcript import absorb, draw, draw_array, draw_positions, end_fields
from collegium.settlement.programs._reading import copy_digest
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, fadd, fmul, fsub, memory

WORK_BITS = 16
CHUNK_COUNT = 3


def begin_checks(hashing: int) -> None:
    """End a statement of which the fields have come, and go through the transcript: the caller's sums are next."""
    put_shape(hashing)
    end_fields()
    draw_challenges()
    begin_sums()


def end_checks() -> None:
    """Reject unless the equations hold with the sums that the caller has added, and the opened columns with them."""
    check_sums()
    check_combination()
    check_columns()


def put_shape(hashing: int) -> None:
    """Add what follows a statement's fields and roots to the transcript's beginning."""
    put_integer_field(hashing, memory[KEY_ROWS])
    put_integer_field(hashing, memory[RELATIONS])
    put_integer_field(hashing, memory[SLOTS])
    put_integer_field(hashing, memory[OPENINGS])
    put_integer_field(hashing, memory[QUERIES])
    put_integer_field(hashing, memory[PADS])
    for tree in range(memory[TREES] + 3):
        put_integer_field(hashing, memory[memory[COUNTS] + tree])


def take(at: int, count: int, first: int, second: int) -> int:
    """Absorb elements of K and return the address of them one after another; one that is not canonical rejects."""
    absorb(first, second, at, 2 * count)
    made = allocate(2 * count)
    for index in range(count):
        a, b = byte_swap(memory[at + index]), byte_swap(memory[at + count + index])
        assert a < FIELD and b < FIELD
        memory[made + 2 * index] = a
        memory[made + 2 * index + 1] = b
    return made


def draw_challenges() -> None:
    """Steps 1 to 8: absorb what the proof sends, draw what follows."""
    at, slots = memory[PROOF], memory[SLOTS]
    roots, tables = memory[ROOTS] + 4 * memory[TREES], memory[TABLE_COUNT]
    absorb(TRACE_LABEL, 0, at, 4)
    copy_digest(roots, at)
    memory[ALPHAS] = draw_array(ALPHA_LABEL, 0, tables)
    memory[GAMMAS] = draw_array(GAMMA_LABEL, 0, tables)
    draw(MU_LABEL, 0, 1, MU)
    draw(KEY_POINT_LABEL, KEY_POINT_MORE, 1, KEY_POINT)
    at += 4
    if memory[KEY_ROWS] > 0:
        memory[KEY_VALUES] = take(at, memory[KEY_ROWS], KEY_VALUES_LABEL, KEY_VALUES_MORE)
        at += 2 * memory[KEY_ROWS]
    absorb(PRODUCTS_LABEL, 0, at, 4)
    copy_digest(roots + 4, at)
    total = take(at + 4, 1, MASK_TOTAL_LABEL, MASK_TOTAL_MORE)
    memory[MASK_TOTAL] = memory[total]
    memory[MASK_TOTAL + 1] = memory[total + 1]
    at += 6
    draw(RHO_LABEL, 0, 1, RHO)
    draw(TAU_LABEL, 0, 1, TAU)
    memory[CHI] = draw_array(CHI_LABEL, 0, memory[RELATIONS] + 1)
    memory[REMAINDER] = take(at, slots, REMAINDER_LABEL, REMAINDER_MORE)
    at += 2 * slots
    memory[LAMBDAS] = draw_array(LAMBDA_LABEL, 0, memory[PAIR_COUNT] + memory[CONSTRAINT_COUNT])
    absorb(QUOTIENT_LABEL, 0, at, 4)
    copy_digest(roots + 8, at)
    draw(POINT_LABEL, 0, 1, ZETA)
    memory[VALUES] = take(at + 4, memory[TOTAL], VALUES_LABEL, 0)
    at += 4 + 2 * memory[TOTAL]
    memory[FACTORS] = draw_array(ROWS_LABEL, 0, memory[TOTAL])
    memory[COMBINATION] = take(at, slots + memory[PADS], COMBINATION_LABEL, COMBINATION_MORE)
    memory[OPENED_AT] = at + 2 * (slots + memory[PADS])


def words_before_columns() -> int:
    """Return how many words a proof has before the opened columns, the nonce among them."""
    elements = memory[KEY_ROWS] + 1 + 2 * memory[SLOTS] + memory[PADS] + memory[TOTAL]
    return 3 * 4 + 2 * elements + 1


def add_lookups() -> None:
    """Add equation (4)."""
    a, b = memory[memory[CHI] + 2 * memory[RELATIONS]], memory[memory[CHI] + 2 * memory[RELATIONS] + 1]
    c, d = ext_mul(a, b, 0, 1)
    for index in range(memory[PAIR_COUNT]):
        first = memory[memory[PAIRS] + 6 * index + 5]
        add_row(first, a, b)
        add_row(first + memory[PAIR_COUNT], c, d)
    for number in range(memory[TABLE_COUNT]):
        entry = memory[TABLES] + TABLE_WORDS * number
        inverses = table_inverses(number, memory[entry], memory[entry + 1])
        for index in range(memory[entry]):
            at = inverses + 2 * index
            c, d = ext_mul(memory[at], memory[at + 1], a, b)
            memory[at] = fsub(0, c)
            memory[at + 1] = fsub(0, d)
        add_entries(memory[entry + 2], inverses)


def table_inverses(number: int, size: int, seconds: int) -> int:
    """Return the address of 1 / (alpha - e - gamma s_e) for every entry of a table."""
    a, b = memory[memory[ALPHAS] + 2 * number], memory[memory[ALPHAS] + 2 * number + 1]
    c, d = memory[memory[GAMMAS] + 2 * number], memory[memory[GAMMAS] + 2 * number + 1]
    made = allocate(2 * size)
    for index in range(size):
        second = 0 if seconds == 0 else memory[seconds + index]
        memory[made + 2 * index] = fsub(fsub(a, index), fmul(c, second))
        memory[made + 2 * index + 1] = fsub(b, fmul(d, second))
    invert_all(made, size)
    return made


def check_sums() -> None:
    """Reject unless equation (3) holds, and then (6): the sums are the caller's, which has added its own."""
    add_lookups()
    add_row(memory[SUM_MASK], 1, 0)
    add_row(memory[SUM_MASK] + 1, 0, 1)
    total_0, total_1, at_0, at_1 = 0, 0, 0, 0
    for slot in range(memory[SLOTS]):
        at, weight = memory[REMAINDER] + 2 * slot, memory[WEIGHTS] + 2 * slot
        a, b = memory[at], memory[at + 1]
        total_0, total_1 = fadd(total_0, a), fadd(total_1, b)
        a, b = ext_mul(a, b, memory[weight], memory[weight + 1])
        at_0, at_1 = fadd(at_0, a), fadd(at_1, b)
    assert total_0 == fsub(memory[MASK_TOTAL], memory[CONSTANT])
    assert total_1 == fsub(memory[MASK_TOTAL + 1], memory[CONSTANT + 1])
    add_left(fsub(0, at_0), fsub(0, at_1))
    add_pairs()
    add_monomials()
    a, b = ext_power(memory[ZETA], memory[ZETA + 1], memory[SLOTS])
    quotient_0, quotient_1 = 0, 0
    chunk = CHUNK_COUNT
    while chunk > 0:
        chunk -= 1
        quotient_0, quotient_1 = ext_mul(quotient_0, quotient_1, a, b)
        c, d = extended_value(memory[CHUNKS] + 2 * chunk, memory[CHUNKS] + 2 * chunk + 1)
        quotient_0, quotient_1 = fadd(quotient_0, c), fadd(quotient_1, d)
    a, b = ext_mul(quotient_0, quotient_1, fsub(a, 1), b)
    assert memory[LEFT] == a and memory[LEFT + 1] == b


def add_pairs() -> None:
    """Add equation (5) for every pair, weighed."""
    for index in range(memory[PAIR_COUNT]):
        pair = memory[PAIRS] + 6 * index
        a, b = lookup_form(memory[pair + 4], memory[pair], memory[pair + 1])
        c, d = lookup_form(memory[pair + 4], memory[pair + 2], memory[pair + 3])
        e, f = extended_value(memory[pair + 5], memory[pair + 5] + memory[PAIR_COUNT])
        g, h = ext_mul(a, b, c, d)
        e, f = ext_mul(e, f, g, h)
        e, f = fsub(e, fadd(a, c)), fsub(f, fadd(b, d))
        weight = memory[LAMBDAS] + 2 * index
        e, f = ext_mul(e, f, memory[weight], memory[weight + 1])
        add_left(e, f)


def lookup_form(number: int, row: int, second: int) -> tuple[int, int]:
    """Return alpha - v - gamma v' at zeta."""
    a, b = value_of(row)
    a, b = fsub(memory[memory[ALPHAS] + 2 * number], a), fsub(memory[memory[ALPHAS] + 2 * number + 1], b)
    if second != NO_ROW:
        c, d = value_of(second)
        at = memory[GAMMAS] + 2 * number
        c, d = ext_mul(c, d, memory[at], memory[at + 1])
        a, b = fsub(a, c), fsub(b, d)
    return a, b


def add_monomials() -> None:
    """Add every constraint, weighed."""
    for index in range(memory[MONOMIAL_COUNT]):
        at = memory[MONOMIALS] + 5 * index
        weight = memory[LAMBDAS] + 2 * (memory[PAIR_COUNT] + memory[at])
        a, b = fmul(memory[weight], memory[at + 1]), fmul(memory[weight + 1], memory[at + 1])
        for place in range(2, 5):
            if memory[at + place] != NO_ROW:
                c, d = value_of(memory[at + place])
                a, b = ext_mul(a, b, c, d)
        add_left(a, b)


def check_combination() -> None:
    """Reject unless equation (8) holds at zeta; put the mask's own factors into their places."""
    mask = memory[FACTORS] + 2 * place_of(memory[COMBINATION_MASK])
    memory[mask] = 1
    memory[mask + 1] = 0
    memory[mask + 2] = 0
    memory[mask + 3] = 1
    claimed_0, claimed_1, value_0, value_1 = 0, 0, 0, 0
    for index in range(memory[TOTAL]):
        factor, value = memory[FACTORS] + 2 * index, memory[VALUES] + 2 * index
        a, b = ext_mul(memory[factor], memory[factor + 1], memory[value], memory[value + 1])
        claimed_0, claimed_1 = fadd(claimed_0, a), fadd(claimed_1, b)
    index = memory[SLOTS] + memory[PADS]
    while index > 0:
        index -= 1
        at = memory[COMBINATION] + 2 * index
        value_0, value_1 = ext_mul(value_0, value_1, memory[ZETA], memory[ZETA + 1])
        value_0, value_1 = fadd(value_0, memory[at]), fadd(value_1, memory[at + 1])
    assert claimed_0 == value_0 and claimed_1 == value_1


def check_columns() -> None:
    """Step 9: the work, then every tree's opened columns against its root, and all of them against (8)."""
    nonce, slots, queries = memory[OPENED_AT], memory[SLOTS], memory[QUERIES]
    hashing = memory[HASH]
    restart_hash(hashing)
    for index in range(4):
        put_word(hashing, memory[STATE + index])
    put_word(hashing, memory[nonce])
    assert memory[finish_hash(hashing)] >> (64 - WORK_BITS) == 0
    absorb(NONCE_LABEL, 0, nonce, 1)
    positions = draw_positions(COLUMNS_LABEL, 0, queries, 4 * slots)
    siblings = 4 * count_siblings(positions, queries, 4 * slots)
    trees, at = memory[TREES] + 3, nonce + 1
    words = words_before_columns() + trees * siblings + queries * (memory[TOTAL] + trees * SALT_WORDS)
    assert memory[PROOF_BYTES] == 8 * words
    combined, row = allocate(2 * queries), memory[FACTORS]
    for tree in range(trees):
        rows = memory[memory[COUNTS] + tree]
        check_opening(memory[ROOTS] + 4 * tree, at, rows, positions, queries, 4 * slots)
        for query in range(queries):
            add_symbols(combined + 2 * query, at + rows * query, rows, row)
        at += queries * (rows + SALT_WORDS) + siblings
        row += 2 * rows
    root = root_of_unity(4 * slots)
    for query in range(queries):
        turn = reversed_bits(memory[positions + query], 4 * slots)
        a, b = combination_at(fmul(GENERATOR, power(root, turn)))
        assert memory[combined + 2 * query] == a and memory[combined + 2 * query + 1] == b


def add_symbols(target: int, symbols: int, count: int, factors: int) -> None:
    """Add factor times symbol over a column's rows of one tree; a symbol that is not canonical rejects."""
    a, b = memory[target], memory[target + 1]
    for index in range(count):
        symbol = byte_swap(memory[symbols + index])
        assert symbol < FIELD
        a = fadd(a, fmul(memory[factors + 2 * index], symbol))
        b = fadd(b, fmul(memory[factors + 2 * index + 1], symbol))
    memory[target] = a
    memory[target + 1] = b


def combination_at(point: int) -> tuple[int, int]:
    """Return the combination at a point of F."""
    start = memory[COMBINATION]
    at = start + 2 * (memory[SLOTS] + memory[PADS])
    a, b = 0, 0
    while at > start:
        at -= 2
        a = fadd(fmul(a, point), memory[at])
        b = fadd(fmul(b, point), memory[at + 1])
    return a, b


def begin_proof(message: int, length: int) -> None:
    """Say which proof it is; a length that none can have rejects."""
    memory[PROOF] = message
    memory[PROOF_BYTES] = length
    assert length >= 8 * words_before_columns()
