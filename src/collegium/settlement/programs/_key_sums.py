"""The sum of the keys from the seats' signed sums: absent seats are erasures, lying ones are found and named.

The words' values times those of the polynomial that vanishes where nothing may be believed (the *locator*) belong to a
polynomial of a degree below `DEGREE_BOUND` + the locator's, which is divided by the locator where messages stand.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, inverse, power
from collegium.settlement.programs._hashing import put_digest_field
from collegium.settlement.programs._proof_transcript import (
    absorb,
    begin_challenge,
    end_fields,
    next_element,
    put_label,
    start_transcript,
)
from collegium.settlement.programs._reading import (
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    read_fields,
    read_message,
    same_digest,
    short_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import C_TERMS, H_CLOSE, H_KEY_SUMS, H_ROUND, H_TASK, KEY_SUM_BYTES
from collegium.settlement.programs._task import SEATS
from collegium.settlement.programs._transforms import (
    ROOT_8192,
    ROOT_8192_INVERSE,
    fold,
    invert_all,
    make_roots,
    transform,
    transform_back,
)
from collegium.settlement.programs._words import byte_swap, fadd, fmul, fsub, memory

KEY_SUM = 0x6D2F76312F6B6579  # "m/v1/key"
KEY_SUM_END = 0x2D73756D00000000  # "-sum"
LOCATE = 0x6C6F636174650000  # "locate"
ROWS = 0x726F777300000000  # "rows"
FIELD_KIND = 0x6669656C64000000  # "field"
SEAT_SPACE = 0x7365617420000000  # "seat "
KEY_ROWS = 4
COLUMNS = 8192
LOG_COLUMNS = 13
DEGREE_BOUND = 5468  # 1024 of the message and 4444 of randomness
LOG_MESSAGE = 10
MESSAGE = 1024
SHIFT = 7


def read_key_sums(header: int, rows: int, present: int) -> int:
    """Read the key sums that a header names into four rows of 8192; return how many columns are there.

    `present`: a word a seat, which becomes the address of its sum's digest.
    """
    count = field_size(header, H_KEY_SUMS) // KEY_SUM_BYTES
    width = COLUMNS // SEATS
    for index in range(count):
        at = field_start(header, H_KEY_SUMS) + KEY_SUM_BYTES * index
        seat = short_at(memory[header], at)
        assert seat < SEATS
        assert index == 0 or short_at(memory[header], at - KEY_SUM_BYTES) < seat
        name = allocate(4)
        digest_at(memory[header], at + 2, name)
        memory[present + seat] = name
        key_sum = read_fields(name, 5, 20, KEY_SUM, KEY_SUM_END, 0)
        assert same_digest(digest_field(key_sum, 0), digest_field(header, H_TASK)) == 1
        assert integer_field(key_sum, 1) == integer_field(header, H_ROUND)
        assert same_digest(digest_field(key_sum, 2), digest_field(header, H_CLOSE)) == 1
        assert integer_field(key_sum, 3) == seat
        message, length = read_message(digest_field(key_sum, 4))
        assert length == 8 * KEY_ROWS * width
        for column in range(width):
            for row in range(KEY_ROWS):
                element = byte_swap(memory[message + KEY_ROWS * column + row])
                assert element < FIELD
                memory[rows + COLUMNS * row + width * seat + column] = element
    return count * width


def open_key(close: int, rows: int, present: int, columns: int, lying: int, key: int) -> int:
    """Return 1 and put the key sum's 4096 coefficients at `key`, a word for each seat that lies; 0 if it is lost."""
    missing = COLUMNS - columns
    if missing > COLUMNS - DEGREE_BOUND:
        return 0
    roots = make_roots(ROOT_8192)
    back = make_roots(ROOT_8192_INVERSE)
    locator = allocate(COLUMNS)  # its values at all columns
    divisor = allocate(MESSAGE)  # and where the messages stand
    _locate_missing(present, missing, roots, locator, divisor)
    products = allocate(KEY_ROWS * COLUMNS)
    if _interpolate(rows, locator, products, missing, back) == 0:
        wrong = _locate_lies(close, present, products, missing, roots, locator, divisor, lying)
        if wrong == 0 or _interpolate(rows, locator, products, missing + wrong, back) == 0:
            return 0
    invert_all(divisor, MESSAGE)
    for row in range(KEY_ROWS):
        part = key + MESSAGE * row
        fold(part, products + COLUMNS * row, COLUMNS, LOG_MESSAGE)
        transform(part, LOG_MESSAGE, roots, 1)
        for index in range(MESSAGE):
            memory[part + index] = fmul(memory[part + index], memory[divisor + index])
    return 1


def _locate_missing(present: int, missing: int, roots: int, locator: int, divisor: int) -> None:
    """Put the values of the polynomial that vanishes at absent seats' columns where `open_key` wants them.

    On the columns of a seat X^width has one value, so the polynomial is a product of X^width - value.
    """
    width = COLUMNS // SEATS
    coset = power(SHIFT, width)
    degree = 0
    memory[locator] = 1
    for seat in range(SEATS):
        if memory[present + seat] == 0:
            value = fmul(coset, memory[roots + (seat >> 1)])
            factor = value if seat & 1 == 1 else fsub(0, value)
            at = degree + width
            while at > 0:
                at -= width
                memory[locator + at + width] = fadd(memory[locator + at + width], memory[locator + at])
                memory[locator + at] = fmul(memory[locator + at], factor)
            degree += width
    assert degree == missing
    fold(divisor, locator, degree + 1, LOG_MESSAGE)
    transform(divisor, LOG_MESSAGE, roots, 1)
    transform(locator, LOG_COLUMNS, roots, SHIFT)


def _interpolate(rows: int, locator: int, products: int, degree: int, back: int) -> int:
    """Make the products' coefficients; return 1 if they are those of codewords times a locator of this degree."""
    fits = 1
    shift = inverse(SHIFT)
    for row in range(KEY_ROWS):
        word = rows + COLUMNS * row
        product = products + COLUMNS * row
        for index in range(COLUMNS):
            memory[product + index] = fmul(memory[word + index], memory[locator + index])
        transform_back(product, LOG_COLUMNS, back, shift)
        if _is_zero(product, DEGREE_BOUND + degree, COLUMNS) == 0:
            fits = 0
    return fits


def _is_zero(polynomial: int, start: int, end: int) -> int:
    """Return 1 if the coefficients from `start` on, before `end`, are zero."""
    for index in range(start, end):
        if memory[polynomial + index] != 0:
            return 0
    return 1


def _locate_lies(
    close: int, present: int, products: int, missing: int, roots: int, locator: int, divisor: int, lying: int
) -> int:
    """Return in how many columns some row is wrong, 0 if that cannot be told, and multiply locator and divisor.

    One word stands for the four: their combination with factors drawn after all sums are signed (Gao 2003).
    """
    word = allocate(COLUMNS + 1)
    factors = _draw_factors(close, present)
    for row in range(KEY_ROWS):
        for index in range(COLUMNS):
            product = fmul(memory[factors + row], memory[products + COLUMNS * row + index])
            memory[word + index] = fadd(memory[word + index], product)
    bound = DEGREE_BOUND + missing
    if _is_zero(word, bound, COLUMNS) == 1:
        return 0
    errors, wrong = _half_euclid(word, (COLUMNS + bound + 1) // 2)
    if 2 * wrong > COLUMNS - bound:
        return 0
    marks = allocate(COLUMNS)
    at_messages = allocate(MESSAGE)
    for index in range(wrong + 1):
        memory[marks + index] = memory[errors + index]
    fold(at_messages, errors, wrong + 1, LOG_MESSAGE)
    transform(marks, LOG_COLUMNS, roots, SHIFT)
    transform(at_messages, LOG_MESSAGE, roots, 1)
    if _mark_seats(present, marks, lying) != wrong:
        return 0
    for index in range(COLUMNS):
        memory[locator + index] = fmul(memory[locator + index], memory[marks + index])
    for index in range(MESSAGE):
        memory[divisor + index] = fmul(memory[divisor + index], memory[at_messages + index])
    return wrong


def _mark_seats(present: int, marks: int, lying: int) -> int:
    """Return at how many columns of seats that are there the marks are zero, and note these seats."""
    zeros = 0
    width = COLUMNS // SEATS
    for index in range(COLUMNS):
        if memory[marks + index] == 0 and memory[present + index // width] > 0:
            memory[lying + index // width] = 1
            zeros += 1
    return zeros


def _draw_factors(close: int, present: int) -> int:
    """Return the address of the four rows' factors."""
    hashing = start_transcript()
    put_label(hashing, LOCATE, 0)
    put_digest_field(hashing, digest_field(close, C_TERMS))
    end_fields()
    for seat in range(SEATS):
        if memory[present + seat] > 0:
            absorb(_label_seat(seat), 0, memory[present + seat], 4)
    begin_challenge(ROWS, 0, FIELD_KIND, KEY_ROWS, 0)
    factors = allocate(KEY_ROWS)
    for row in range(KEY_ROWS):
        memory[factors + row] = next_element()
    return factors


def _label_seat(seat: int) -> int:
    """Return "seat " and the number in decimal."""
    if seat < 10:
        return SEAT_SPACE | (48 + seat) << 16
    if seat < 100:
        return SEAT_SPACE | (48 + seat // 10) << 16 | (48 + seat % 10) << 8
    return SEAT_SPACE | (48 + seat // 100) << 16 | (48 + seat // 10 % 10) << 8 | 48 + seat % 10


def _half_euclid(word: int, stop: int) -> tuple[int, int]:
    """Return the polynomial v, and its degree, of the first r = u (X^n - s^n) + v word of a degree below `stop`."""
    upper = allocate(COLUMNS + 1)
    memory[upper] = fsub(0, power(SHIFT, COLUMNS))
    memory[upper + COLUMNS] = 1
    lower = word
    upper_factor = allocate(COLUMNS + 1)
    lower_factor = allocate(COLUMNS + 1)
    memory[lower_factor] = 1
    upper_degree = COLUMNS
    lower_degree = _degree(lower, COLUMNS)
    upper_factor_degree = 0
    lower_factor_degree = 0
    while lower_degree >= stop:
        lead = inverse(memory[lower + lower_degree])
        while upper_degree >= lower_degree:
            shift = upper_degree - lower_degree
            scale = fmul(memory[upper + upper_degree], lead)
            _subtract(upper + shift, lower, lower_degree, scale)
            _subtract(upper_factor + shift, lower_factor, lower_factor_degree, scale)
            if upper_factor_degree < lower_factor_degree + shift:
                upper_factor_degree = lower_factor_degree + shift
            upper_degree = _degree(upper, upper_degree)
        upper, lower = lower, upper
        upper_factor, lower_factor = lower_factor, upper_factor
        upper_degree, lower_degree = lower_degree, upper_degree
        upper_factor_degree, lower_factor_degree = lower_factor_degree, upper_factor_degree
    return lower_factor, lower_factor_degree


def _degree(polynomial: int, most: int) -> int:
    """Return the degree of a polynomial, 0 of a constant and of none."""
    while most > 0 and memory[polynomial + most] == 0:
        most -= 1
    return most


def _subtract(target: int, polynomial: int, degree: int, scale: int) -> None:
    """Subtract a polynomial times a factor."""
    end = polynomial + degree
    while polynomial <= end:
        memory[target] = fsub(memory[target], fmul(scale, memory[polynomial]))
        target += 1
        polynomial += 1
