"""Number-theoretic transforms as in `collegium.algebra`: of X^n - s^n, values in bit-reversed order, n up to 8192.

Level d of n = 2^log has 2^d nodes; node b splits by the constant s^h w^bitrev(b) with h = n / 2^(d + 1). The second
factor depends on b alone: it is entry b of a table of roots.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import inverse, power
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, fmul, fsub, memory

ROOT_8192 = 0x1544EF2335D17997  # 7^((p - 1) / 8192)
ROOT_8192_INVERSE = 0x3712791D9EB0314A
LOG_MAX = 13


def make_roots(root: int) -> int:
    """Return the table of 4096 roots of which `root`, of order 8192, is the last that is new."""
    roots = allocate(4096)
    memory[roots] = 1
    for level in range(LOG_MAX - 1):
        factor = power(root, 1 << (LOG_MAX - 2 - level))
        count = 1 << level
        for index in range(count):
            memory[roots + count + index] = fmul(memory[roots + index], factor)
    return roots


def transform(values: int, log: int, roots: int, shift: int) -> None:
    """Replace 2^log coefficients by the values on the coset shift <w>."""
    half = 1 << log >> 1
    nodes = 1
    while half > 0:
        factor = power(shift, half)
        at = values
        for node in range(nodes):
            constant = fmul(factor, memory[roots + node])
            end = at + half
            while at < end:
                left = memory[at]
                right = fmul(constant, memory[at + half])
                memory[at] = fadd(left, right)
                memory[at + half] = fsub(left, right)
                at += 1
            at += half
        nodes <<= 1
        half >>= 1


def transform_back(values: int, log: int, roots: int, shift: int) -> None:
    """Replace 2^log values on a coset by the coefficients; roots and shift are the inverses of those of `transform`."""
    half = 1
    nodes = 1 << log >> 1
    while nodes > 0:
        factor = power(shift, half)
        at = values
        for node in range(nodes):
            constant = fmul(factor, memory[roots + node])
            end = at + half
            while at < end:
                left = memory[at]
                right = memory[at + half]
                memory[at] = fadd(left, right)
                memory[at + half] = fmul(constant, fsub(left, right))
                at += 1
            at += half
        nodes >>= 1
        half <<= 1
    scale = inverse(1 << log)
    for index in range(1 << log):
        memory[values + index] = fmul(memory[values + index], scale)


def fold(target: int, polynomial: int, count: int, log: int) -> None:
    """Add to 2^log words a polynomial of `count` coefficients modulo X^(2^log) - 1."""
    mask = (1 << log) - 1
    for index in range(count):
        at = target + (index & mask)
        memory[at] = fadd(memory[at], memory[polynomial + index])


def invert_all(values: int, count: int) -> None:
    """Replace elements, none of them 0, by their inverses."""
    products = allocate(count)
    running = 1
    for index in range(count):
        memory[products + index] = running
        running = fmul(running, memory[values + index])
    running = inverse(running)
    index = count
    while index > 0:
        index -= 1
        element = memory[values + index]
        memory[values + index] = fmul(running, memory[products + index])
        running = fmul(running, element)
