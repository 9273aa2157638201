"""The zero-knowledge Reed-Solomon code. See docs/spec/codes.md, sections 1 and 2."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from collegium.algebra import TWO_ADICITY, FieldArray, add, coset_ntt, intt, ntt, sub
from collegium.codes._domain import Domain
from collegium.codes._errors import CodeSizeError, DomainError, DomainTooSmallError, WordShapeError

__all__ = ["Code"]


def _rows(values: Any, columns: int, what: str) -> FieldArray:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[1] != columns:
        raise WordShapeError(
            f"{what} of shape {np.shape(values)}, expected rows of {columns}", shape=np.shape(values), columns=columns
        )
    return values


@dataclass(frozen=True, slots=True)
class Code:
    """Messages of k elements, hidden by t random ones, as polynomials of degree below k + t.

    p(X) = interpolate(m on H) + (X^k - 1) r(X), where H = <w_k> and slot j of a message is its value at w_k^bitrev(j).
    Any t symbols at distinct points outside H are uniform and independent of the message.

    Args:
        message_len: k, a power of two up to 2^32.
        randomness_len: t, 0 or more.

    Raises:
        CodeSizeError: the lengths are none of these.
    """

    message_len: int
    randomness_len: int

    def __post_init__(self) -> None:
        k, t = self.message_len, self.randomness_len
        if k < 1 or k & (k - 1) or k > 1 << TWO_ADICITY:
            raise CodeSizeError(f"message length {k} is not a power of two up to 2^{TWO_ADICITY}", message_len=k)
        if t < 0:
            raise CodeSizeError(f"randomness length {t} is negative", randomness_len=t)

    @property
    def degree_bound(self) -> int:
        """k + t: one more than the greatest degree, and the number of symbols that determine a codeword."""
        return self.message_len + self.randomness_len

    def coefficients(self, messages: FieldArray, randomness: FieldArray) -> FieldArray:
        """The polynomials of m messages (m, k) and their randomness (m, t): shape (m, k + t).

        Args:
            messages: rows of k elements.
            randomness: rows of t elements, uniform, secret and used for nothing else.

        Raises:
            WordShapeError: another shape, or another number of rows of one than of the other.
            FieldArrayError, NotCanonicalError: values that are not in F.
        """
        k, t = self.message_len, self.randomness_len
        on_h, r = _rows(messages, k, "messages"), _rows(randomness, t, "randomness")
        if on_h.shape[0] != r.shape[0]:
            raise WordShapeError(
                f"{on_h.shape[0]} messages with {r.shape[0]} rows of randomness",
                messages=on_h.shape[0],
                randomness=r.shape[0],
            )
        low = np.zeros((on_h.shape[0], k + t), np.uint64)
        low[:, :k] = intt(on_h)
        high = np.zeros_like(low)
        high[:, k:] = r
        out = add(low, high)
        out[:, :t] = sub(out[:, :t], r)
        return out

    def encode(self, coefficients: FieldArray, domain: Domain) -> FieldArray:
        """The codewords of polynomials (m, k + t) on a domain: shape (m, size).

        Raises:
            DomainError: the domain meets H, where symbols would be pieces of the messages.
            DomainTooSmallError: the domain has fewer than k + t points.
            WordShapeError, FieldArrayError, NotCanonicalError: not rows of k + t elements of F.
        """
        polynomials = _rows(coefficients, self.degree_bound, "coefficients")
        if not domain.is_disjoint_from_subgroup(self.message_len):
            raise DomainError(
                f"shift {domain.shift} lies in the subgroup of order {self.message_len}, which carries messages",
                shift=domain.shift,
                size=domain.size,
                message_len=self.message_len,
            )
        if domain.size < self.degree_bound:
            raise DomainTooSmallError(
                f"{domain.size} points for polynomials of {self.degree_bound} coefficients",
                size=domain.size,
                degree_bound=self.degree_bound,
            )
        return coset_ntt(polynomials, domain.shift, domain.size)

    def messages(self, coefficients: FieldArray) -> FieldArray:
        """The messages (m, k) of polynomials (m, k + t): p mod X^k - 1, evaluated on H.

        Raises:
            WordShapeError, FieldArrayError, NotCanonicalError: not rows of k + t elements of F.
        """
        polynomials = _rows(coefficients, self.degree_bound, "coefficients")
        k = self.message_len
        reduced = np.ascontiguousarray(polynomials[:, :k])
        for start in range(k, self.degree_bound, k):
            piece = polynomials[:, start : start + k]
            reduced[:, : piece.shape[1]] = add(reduced[:, : piece.shape[1]], piece)
        return ntt(reduced)
