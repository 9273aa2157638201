"""Location of errors by Gao's algorithm. See docs/spec/codes.md, section 4.

S. Gao, "A new algorithm for decoding Reed-Solomon codes", 2003.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from collegium.algebra import FieldArray, P, coset_intt, coset_ntt, mul
from collegium.codes import _kernels
from collegium.codes._domain import Domain
from collegium.codes._erasures import recover, spread_vanishing
from collegium.codes._errors import NotACodewordError, TooManyErrorsError, WordShapeError
from collegium.codes._words import Mask, check_bound, erasure_mask

__all__ = ["locate_errors"]


def _rows(domain: Domain, word: Any) -> FieldArray:
    shape = np.shape(word)
    if not isinstance(word, np.ndarray) or shape not in ((domain.size,), (2, domain.size)):
        raise WordShapeError(
            f"a word of shape {shape}, expected ({domain.size},) or (2, {domain.size})", shape=shape, size=domain.size
        )
    return word.reshape(-1, domain.size)


def locate_errors(degree_bound: int, domain: Domain, word: FieldArray, erased: Mask) -> npt.NDArray[np.int64]:
    """Where `word` differs from the one codeword with 2 errors + erasures <= size - degree_bound.

    Several words with errors at the same positions are searched at once by combining them with random coefficients of
    K drawn after all words are fixed: a position where some word is wrong goes unseen with probability at most 1 / |K|.

    Args:
        degree_bound: 1 or more; one more than the greatest degree.
        domain: where the word was evaluated.
        word: over F, shape (size,), or over K, shape (2, size); entries at erased positions are ignored.
        erased: bool of shape (size,).

    Returns:
        Ascending positions, none of them erased; empty for a codeword. The codeword is `recover` with these erased.

    Raises:
        TooManyErrorsError: there is no such codeword.
        TooManyErasuresError: fewer than degree_bound positions are left.
        CodeSizeError, DomainTooSmallError, WordShapeError, ErasureMaskError: arguments that do not fit each other.
        FieldArrayError, NotCanonicalError: values that are not in F.
    """
    mask = erasure_mask(domain, erased)
    check_bound(degree_bound, domain, mask)
    known = np.where(mask, np.uint64(0), _rows(domain, word))
    # 1. The word times the vanishing polynomial of the erasures is a word of full length with a larger degree bound.
    product_bound = degree_bound + int(mask.sum())
    product = coset_intt(mul(known, spread_vanishing(domain, mask, domain.shift)), domain.shift)
    if not product[:, product_bound:].any():
        return np.empty(0, np.int64)
    # 2. Euclid's algorithm with X^size - c, stopped half-way, yields the polynomial whose zeros are the errors.
    locator = _locator(domain, product, -(-(domain.size + product_bound) // 2))
    is_zero = ~coset_ntt(locator, domain.shift, domain.size).any(axis=0)
    errors = np.flatnonzero(is_zero & ~mask)
    # 3. The answer is checked, so a wrong one cannot leave this function.
    if 2 * errors.size <= domain.size - product_bound:
        try:
            recover(degree_bound, domain, known, mask | is_zero)
        except NotACodewordError:
            pass
        else:
            return errors.astype(np.int64)
    raise TooManyErrorsError(
        f"no codeword within {(domain.size - product_bound) // 2} errors beside {int(mask.sum())} erasures",
        errors_max=(domain.size - product_bound) // 2,
        erasures=int(mask.sum()),
    )


def _locator(domain: Domain, product: FieldArray, degree_stop: int) -> FieldArray:
    """v of Euclid's algorithm on X^size - c and the word's polynomial: shape (1, n) over F, (2, n) over K."""
    modulus = np.zeros((product.shape[0], domain.size + 1), np.uint64)
    modulus[0, 0] = P - domain.vanishing_constant
    modulus[0, domain.size] = 1
    polynomial = np.zeros_like(modulus)
    polynomial[:, : domain.size] = product
    if product.shape[0] == 1:
        v = _kernels.partial_euclid(modulus[0], polynomial[0], degree_stop)
        return np.ascontiguousarray(v).reshape(1, -1)
    return np.ascontiguousarray(_kernels.ext_partial_euclid(modulus, polynomial, degree_stop))
