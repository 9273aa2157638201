"""K = F[x] / (x^2 - 7), F modulo p = 2^64 - 2^32 + 1: an element is two words, an array of them pairs in a row."""

from __future__ import annotations

from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, fmul, fsub, memory

FIELD = 0xFFFFFFFF00000001
GENERATOR = 7  # of F*, and the x^2 of K


def ext_mul(a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Return (a + b x) (c + d x)."""
    return fadd(fmul(a, c), fmul(7, fmul(b, d))), fadd(fmul(a, d), fmul(b, c))


def power(base: int, exponent: int) -> int:
    """Return a power in F."""
    result = 1
    while exponent > 0:
        if exponent & 1 == 1:
            result = fmul(result, base)
        base = fmul(base, base)
        exponent >>= 1
    return result


def inverse(a: int) -> int:
    """Return 1 / a in F; zero rejects."""
    assert a != 0
    return power(a, FIELD - 2)


def root_of_unity(order: int) -> int:
    """Return the agreed root of unity of a power of two."""
    return power(GENERATOR, (FIELD - 1) // order)


def ext_power(a: int, b: int, exponent: int) -> tuple[int, int]:
    """Return a power of a + b x."""
    c, d = 1, 0
    while exponent > 0:
        if exponent & 1 == 1:
            c, d = ext_mul(c, d, a, b)
        a, b = ext_mul(a, b, a, b)
        exponent >>= 1
    return c, d


def ext_inverse(a: int, b: int) -> tuple[int, int]:
    """Return 1 / (a + b x); zero rejects."""
    scale = inverse(fsub(fmul(a, a), fmul(7, fmul(b, b))))
    return fmul(a, scale), fsub(0, fmul(b, scale))


def power_sum(a: int, b: int, count: int) -> tuple[int, int]:
    """Return 1 + (a + b x) + ... + (a + b x)^(count - 1)."""
    if a == 1 and b == 0:
        return count, 0
    c, d = ext_power(a, b, count)
    e, f = ext_inverse(fsub(a, 1), b)
    return ext_mul(fsub(c, 1), d, e, f)


def put_powers(target: int, a: int, b: int, count: int) -> None:
    """Write 1, a + b x, ... (count of them)."""
    c, d = 1, 0
    for index in range(count):
        memory[target + 2 * index] = c
        memory[target + 2 * index + 1] = d
        c, d = ext_mul(c, d, a, b)


def invert_all(array: int, count: int) -> None:
    """Replace every element by its inverse, with one inversion in F; a zero rejects."""
    before = allocate(count + 1)
    norms = allocate(count)
    product = 1
    for index in range(count):
        a, b = memory[array + 2 * index], memory[array + 2 * index + 1]
        norm = fsub(fmul(a, a), fmul(7, fmul(b, b)))
        memory[norms + index] = norm
        memory[before + index] = product
        product = fmul(product, norm)
    rest = inverse(product)
    index = count
    while index > 0:
        index -= 1
        scale = fmul(rest, memory[before + index])
        rest = fmul(rest, memory[norms + index])
        memory[array + 2 * index] = fmul(memory[array + 2 * index], scale)
        memory[array + 2 * index + 1] = fsub(0, fmul(memory[array + 2 * index + 1], scale))


def reversed_bits(number: int, count: int) -> int:
    """Return the bits of a number below a power of two, read backwards."""
    result = 0
    while count > 1:
        result = result << 1 | number & 1
        number >>= 1
        count >>= 1
    return result


def bit_length(number: int) -> int:
    """Return how many binary digits a number has."""
    count = 0
    while number > 0:
        number >>= 1
        count += 1
    return count
