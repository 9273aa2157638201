"""The sigmoid and the logistic loss as tables of integers, made from exact decimal arithmetic.

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


def softplus_micro(indices: Int64Array) -> Int64Array:
    """Returns ln(1 + exp(z)) in millionths of table indices (|index| < 2^40): z itself above 16, 0 below -16."""
    inside = softplus_table()[np.clip(indices, -INDEX_LIMIT, INDEX_LIMIT - 1) + INDEX_LIMIT]
    linear = (2 * indices + 1) * (MICRO >> 6) >> (INDEX_BITS + 1 - 6)
    return np.where(indices >= INDEX_LIMIT, linear, np.where(indices < -INDEX_LIMIT, 0, inside))


def _frozen(values: list[int]) -> Int64Array:
    table = np.array(values, dtype=np.int64)
    table.setflags(write=False)
    return table
