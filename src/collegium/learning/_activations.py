"""The sigmoid, the exponential and the losses as tables of integers, made from exact decimal arithmetic.

A logit z selects the cell of width 1/256 that holds it, index = floor(256 z), and the cell's value is the function at
the cell's middle. `decimal` rounds exp and ln correctly to 50 digits by definition, so that the tables do not depend
on a machine's libm. Outside [-16, 16) the sigmoid is the value of the outermost cell and the loss is linear or 0.
docs/spec/learning.md, section 4.
"""

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

import numpy as np

from collegium.learning._integers import Int64Array

INDEX_BITS = 8
INDEX_LIMIT = 16 << INDEX_BITS
LOGARITHM_BITS = 12
DOUBLINGS_MAX = 24
MICRO = 10**6


def _exact() -> Context:
    return Context(
        prec=50, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[], traps=[]
    )


def _middle(index: int) -> Decimal:
    return Decimal(2 * index + 1) / Decimal(2 << INDEX_BITS)


def _nearest(value: Decimal, context: Context) -> int:
    return int(context.add(value, Decimal("0.5")).to_integral_value(rounding=ROUND_FLOOR))


@lru_cache(maxsize=16)
def sigmoid_table(fraction_bits: int) -> Int64Array:
    """Returns round(2^fraction_bits / (1 + exp(-z))) of the cells' middles, shape (2 INDEX_LIMIT,), read-only.

    Entry INDEX_LIMIT + i belongs to index i; entries i and -1 - i add up to 2^fraction_bits.
    """
    context, one = _exact(), 1 << fraction_bits
    upper = [
        _nearest(context.divide(Decimal(one), context.add(Decimal(1), context.exp(-_middle(index)))), context)
        for index in range(INDEX_LIMIT)
    ]
    return _frozen([one - value for value in reversed(upper)] + upper)


@lru_cache(maxsize=16)
def exponential_table(fraction_bits: int) -> Int64Array:
    """Returns round(2^fraction_bits exp(-d / 256)) of all d below INDEX_LIMIT, shape (INDEX_LIMIT,), read-only.

    Entry 0 is 2^fraction_bits: the largest logit of a row counts as exactly 1.
    """
    context, one = _exact(), Decimal(1 << fraction_bits)
    exponents = (Decimal(-distance) / Decimal(1 << INDEX_BITS) for distance in range(INDEX_LIMIT))
    return _frozen([_nearest(context.multiply(one, context.exp(exponent)), context) for exponent in exponents])


@lru_cache(maxsize=1)
def logarithm_table() -> Int64Array:
    """Returns round(10^6 ln(1 + j / 2^LOGARITHM_BITS)) of all j below 2^LOGARITHM_BITS, read-only."""
    context, cells = _exact(), 1 << LOGARITHM_BITS
    numbers = (Decimal(cells + j) / Decimal(cells) for j in range(cells))
    return _frozen([_nearest(context.multiply(Decimal(MICRO), context.ln(number)), context) for number in numbers])


@lru_cache(maxsize=1)
def doubling_table() -> Int64Array:
    """Returns round(10^6 k ln 2) of all k up to DOUBLINGS_MAX, read-only."""
    context = _exact()
    doubling = context.multiply(Decimal(MICRO), context.ln(Decimal(2)))
    return _frozen([_nearest(context.multiply(Decimal(k), doubling), context) for k in range(DOUBLINGS_MAX + 1)])


@lru_cache(maxsize=1)
def softplus_table() -> Int64Array:
    """Returns round(10^6 ln(1 + exp(z))) of the cells' middles, shape (2 INDEX_LIMIT,), read-only."""
    context = _exact()
    lower = []
    for index in range(INDEX_LIMIT):
        logarithm = context.ln(context.add(Decimal(1), context.exp(-_middle(index))))
        lower.append(context.multiply(Decimal(MICRO), logarithm))
    upper = [context.add(value, context.multiply(Decimal(MICRO), _middle(i))) for i, value in enumerate(lower)]
    return _frozen([_nearest(value, context) for value in [*reversed(lower), *upper]])


def sigmoid(indices: Int64Array, fraction_bits: int) -> Int64Array:
    """Returns the sigmoid of table indices (floor(256 z), any int64), with `fraction_bits` fraction bits."""
    return sigmoid_table(fraction_bits)[np.clip(indices, -INDEX_LIMIT, INDEX_LIMIT - 1) + INDEX_LIMIT]


def exponential(distances: Int64Array, fraction_bits: int) -> Int64Array:
    """Returns exp(-d / 256) of distances d >= 0, with `fraction_bits` fraction bits; from 4095 on the last entry."""
    return exponential_table(fraction_bits)[np.minimum(distances, INDEX_LIMIT - 1)]


def logarithm_micro(numbers: Int64Array, fraction_bits: int) -> Int64Array:
    """Returns ln(v / 2^fraction_bits) in millionths of numbers v from 2^fraction_bits to 2^(fraction_bits + 24).

    v = 2^(fraction_bits + k) (1 + j / 2^12) with j rounded down, so that the result is too small by at most 2^-12.
    """
    _, lengths = np.frexp(numbers.astype(np.float64))  # float64 holds v exactly: these are its lengths in bits
    exponents: Int64Array = lengths.astype(np.int64) - 1
    cells = (numbers << np.int64(LOGARITHM_BITS) >> exponents) - (1 << LOGARITHM_BITS)
    logarithms: Int64Array = doubling_table()[exponents - fraction_bits] + logarithm_table()[cells]
    return logarithms


def softplus_micro(indices: Int64Array) -> Int64Array:
    """Returns ln(1 + exp(z)) in millionths of table indices (|index| < 2^40): z itself above 16, 0 below -16."""
    inside = softplus_table()[np.clip(indices, -INDEX_LIMIT, INDEX_LIMIT - 1) + INDEX_LIMIT]
    linear = (2 * indices + 1) * (MICRO >> 6) >> (INDEX_BITS + 1 - 6)
    return np.where(indices >= INDEX_LIMIT, linear, np.where(indices < -INDEX_LIMIT, 0, inside))


def _frozen(values: list[int]) -> Int64Array:
    table = np.array(values, dtype=np.int64)
    table.setflags(write=False)
    return table
