"""The security parameters of the argument: the formula, its bits and every relation between them, in one place.

Soundness. A committed matrix whose rows are not all within half the code's distance of codewords, or a combination
that is not that of its codewords, agrees with the combination at a random column with probability at most (1 + rho) /
2, where rho = (k + t) / N. So Q independent columns miss with probability ((1 + rho) / 2)^Q <= 2^-BITS. Every other
step fails with probability (degree) / |K| <= 2^-BITS, |K| = 2^128 (docs/spec/proofs.md, section 5).

Zero knowledge. A proof shows Q symbols of a row and its value at a point of K outside F, which counts as two: a
matrix that is opened by `openings` proofs needs t >= openings x (Q + 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2

from collegium.codes import Code, Domain

from ._errors import StatementError

__all__ = ["BITS", "ENTRIES_MAX", "GRINDING_BITS", "RATE_INVERSE", "TABLE_MAX", "ProofCode", "row_length"]

BITS = 100
GRINDING_BITS = 16  # work before columns are drawn, on top of BITS
RATE_INVERSE = 4  # N = 4 k: relations of degree three, 3 (k + t) coefficients, have their quotient from N values
POINT_SYMBOLS = 2  # a value at a point of K \ F is two elements of F
SHIFT = 7  # generates F*: the coset 7 <w_N> meets no subgroup that carries messages
MESSAGE_MIN, MESSAGE_MAX = 1 << 10, 1 << 17
TABLE_MAX = 1 << 18
ENTRIES_MAX = 1 << 26  # lookups and table entries together: LogUp misses once in |K| over twice this, poles included

if log2(2 * ENTRIES_MAX) + BITS >= 128:
    raise ImportError("lookups would miss more often than the bits promised")


@dataclass(frozen=True)
class ProofCode:
    """The code of the trace and data matrices.

    Attributes:
        message_len: k, slots of a row.
        openings: how many proofs may open columns of one matrix.

    Raises:
        StatementError: k is no power of two in range, or too small for so many openings.
    """

    message_len: int
    openings: int = 1

    def __post_init__(self) -> None:
        k = self.message_len
        if not MESSAGE_MIN <= k <= MESSAGE_MAX or k & (k - 1):
            raise StatementError(f"{k} slots a row, expected a power of two from {MESSAGE_MIN} to {MESSAGE_MAX}")
        if self.openings < 1 or 3 * (k + self.randomness_len) > RATE_INVERSE * k:
            raise StatementError(
                f"rows of {k} slots cannot be opened {self.openings} times: 3 (k + t) <= {RATE_INVERSE} k fails"
            )

    @cached_property
    def queries(self) -> int:
        """Q: columns a proof opens."""
        return self._queries_and_pads[0]

    @cached_property
    def randomness_len(self) -> int:
        """t: random symbols a row."""
        return self._queries_and_pads[1]

    @property
    def domain(self) -> Domain:
        """The N = 4 k points of the columns; aligned quarters are cosets of the subgroup of order k."""
        return Domain(SHIFT, RATE_INVERSE * self.message_len)

    @property
    def code(self) -> Code:
        """The zero-knowledge Reed-Solomon code of one row."""
        return Code(self.message_len, self.randomness_len)

    @property
    def query_bits(self) -> float:
        """Bits that the columns give, at least BITS."""
        return -self.queries * log2((1 + self._rate) / 2)

    @property
    def _rate(self) -> float:
        return (self.message_len + self.randomness_len) / (RATE_INVERSE * self.message_len)

    @cached_property
    def _queries_and_pads(self) -> tuple[int, int]:
        """The least fixed point of Q = ceil(BITS / -log2((1 + rho) / 2)) and t = openings (Q + 2)."""
        queries, pads = 0, 0
        while True:
            rate = (self.message_len + pads) / (RATE_INVERSE * self.message_len)
            if rate >= 1:
                return queries, pads
            needed = ceil(BITS / -log2((1 + rate) / 2))
            if needed == queries:
                return queries, pads
            queries, pads = needed, self.openings * (needed + POINT_SYMBOLS)


def row_length(elements: int, openings: int = 1) -> int:
    """Return k for a trace of about so many elements.

    A proof takes about 8 Q elements / k + 32 k bytes, least where k^2 = Q elements / 4, and is made faster with shorter
    rows: the least k with k^2 >= 5 elements keeps it within a third of the least.
    """
    k = MESSAGE_MIN if openings == 1 else 2 * MESSAGE_MIN  # shorter rows cannot be opened twice
    while k < MESSAGE_MAX and k * k < 5 * elements:
        k *= 2
    return k
