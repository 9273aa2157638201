"""Exact integer arithmetic on arrays: the same bits on every machine."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from collegium.learning._errors import OverflowBudgetError

Int64Array: TypeAlias = NDArray[np.int64]

FLOAT64_EXACT = 1 << 53
INT64_EXACT = 1 << 63


def magnitude(values: Int64Array) -> int:
    """Returns max |entry| as a Python integer, 0 for an empty array."""
    return max(int(values.max()), -int(values.min())) if values.size else 0


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A matrix of integers that takes part in several products: measured and converted once.

    Attributes:
        values: its entries, as float64 if their magnitude is below 2^53, else as int64.
        magnitude: no entry is larger.
    """

    values: NDArray[np.float64] | Int64Array
    magnitude: int

    @classmethod
    def of(cls, integers: Int64Array) -> "Factor":
        """Returns the factor that a matrix is."""
        largest = magnitude(integers)
        return cls(integers.astype(np.float64) if largest < FLOAT64_EXACT else integers, largest)

    @classmethod
    def selected(cls, integers: Int64Array, selector: NDArray[np.bool_], largest: int) -> "Factor":
        """Returns the factor that a matrix of entries up to `largest` is when those not selected are set to 0."""
        kind = np.float64 if largest < FLOAT64_EXACT else np.int64
        return cls(np.multiply(integers, selector, dtype=kind), largest)

    @property
    def transposed(self) -> "Factor":
        """The transposed matrix; nothing is copied."""
        return Factor(self.values.T, self.magnitude)

    def reshaped(self, width: int) -> "Factor":
        """The entries, row by row, in rows of this width; nothing is copied."""
        return Factor(self.values.reshape(-1, width), self.magnitude)


class Rescaled(NamedTuple):
    """values = 2^bits quotient + remainder with 0 <= remainder < 2^bits."""

    quotient: Int64Array
    remainder: Int64Array


def multiply(left: Factor, right: Factor, bias: Int64Array | None = None, out: Int64Array | None = None) -> Int64Array:
    """Returns the exact left right + bias, shape (n, m), of shapes (n, k), (k, m) and (m,), written to `out` if given.

    Every partial sum, in whatever order and blocking, is at most k max|left| max|right| + max|bias| in magnitude.
    Below 2^53 all of them are integers that float64 holds exactly, so the fast float64 routine gives the exact result
    on every machine; below 2^63 int64 does. Both branches agree, so the choice between them cannot be seen.

    Raises:
        OverflowBudgetError: the bound reaches 2^63.
    """
    bound = left.values.shape[1] * left.magnitude * right.magnitude + (0 if bias is None else magnitude(bias))
    total = np.empty((left.values.shape[0], right.values.shape[1]), dtype=np.int64) if out is None else out
    if bound < FLOAT64_EXACT:
        np.copyto(total, left.values @ right.values, casting="unsafe")
    else:
        total[:] = product_int64(left.values.astype(np.int64), right.values.astype(np.int64), bound)
    if bias is not None:
        total += bias
    return total


def product(left: Int64Array, right: Int64Array) -> Int64Array:
    """Returns the exact matrix product, as `multiply` does, of matrices that are used once."""
    return multiply(Factor.of(left), Factor.of(right))


def product_int64(left: Int64Array, right: Int64Array, bound: int) -> Int64Array:
    """Returns the same as `product` in int64 alone; `bound` is its bound on every partial sum."""
    if bound >= INT64_EXACT:
        raise OverflowBudgetError(f"a sum of products may reach {bound}, expected less than 2^63", bound=bound)
    return np.ascontiguousarray(left) @ np.ascontiguousarray(right)


def rescale(values: Int64Array, bits: int) -> Int64Array:
    """Returns floor(values / 2^bits): Q of values = 2^bits Q + R with 0 <= R < 2^bits, the form a proof checks."""
    return values >> np.int64(bits)


def rescale_with_remainder(values: Int64Array, bits: int, out: Int64Array | None = None) -> Rescaled:
    """Returns Q and R of values = 2^bits Q + R with 0 <= R < 2^bits; R is written to `out`, which may be `values`."""
    quotient = rescale(values, bits)
    return Rescaled(quotient, np.bitwise_and(values, np.int64((1 << bits) - 1), out=out))


def divide_half_up(values: Int64Array, numerator: int, denominator: int) -> Int64Array:
    """Returns floor(values * numerator / denominator + 1/2), at most 2^63 - 1 in magnitude.

    Beyond int64 the result stops at that magnitude, so that one absurd total cannot stop a round: what uses the
    result clips it much earlier.

    Args:
        values: any int64 entries.
        numerator: at least 1.
        denominator: at least 1.
    """
    if 2 * numerator * magnitude(values) + 2 * denominator < INT64_EXACT:
        return (2 * numerator * values + denominator) // (2 * denominator)
    limit = INT64_EXACT - 1
    exact = [(2 * numerator * value + denominator) // (2 * denominator) for value in values.tolist()]
    return np.array([max(-limit, min(value, limit)) for value in exact], dtype=np.int64)
