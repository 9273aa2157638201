"""Recovery of polynomials from the positions that are left. See docs/spec/codes.md, section 3."""

import numpy as np

from collegium.algebra import (
    GENERATOR,
    FieldArray,
    P,
    coset_intt,
    coset_ntt,
    intt,
    inverse,
    mul,
    neg,
    ntt,
    sub,
)
from collegium.codes._domain import Domain
from collegium.codes._errors import NotACodewordError
from collegium.codes._words import Mask, check_bound, erasure_mask, word_rows

__all__ = ["recover", "spread_vanishing", "vanishing_polynomial"]


def vanishing_polynomial(domain: Domain, erased: Mask) -> FieldArray:
    """The monic polynomial that is 0 exactly at the erased points: as many coefficients as erased positions, plus one.

    Raises:
        ErasureMaskError: `erased` is not bool of shape (size,).
    """
    mask = erasure_mask(domain, erased)
    compact, block = _compact_vanishing(domain, mask)
    out = np.zeros((compact.size - 1) * block + 1, np.uint64)
    out[::block] = compact
    return out


def spread_vanishing(domain: Domain, mask: Mask, shift: int) -> FieldArray:
    """The vanishing polynomial at every position of the coset shift <w_size>, shape (size,); not all may be erased."""
    compact, block = _compact_vanishing(domain, mask)
    values = coset_ntt(compact, pow(shift, block, P), domain.size // block)
    return np.repeat(values, block)


def _compact_vanishing(domain: Domain, mask: Mask) -> tuple[FieldArray, int]:
    """G and B with vanishing polynomial G(X^B), B the largest size of aligned blocks that are erased as a whole or not.

    X^B takes one value on an aligned block of B positions, and these values are the domain of shift^B and size / B in
    the same order. So the work depends on the number of blocks, not of positions.
    """
    block = 1
    while 2 * block <= domain.size and not (mask[::block][0::2] ^ mask[::block][1::2]).any():
        block *= 2
    points = Domain(pow(domain.shift, block, P), domain.size // block).points()
    return _product_tree(points, mask[::block]), block


def _product_tree(points: FieldArray, mask: Mask) -> FieldArray:
    """prod (X - point) over the masked points: a power of two of points, in bit-reversed order.

    A node over n points has degree at most n. Products are taken mod X^n - 1, where only a node whose points are all
    masked wraps around: its leading 1 lands on the constant and is put back.
    """
    nodes = np.zeros((points.size, 2), np.uint64)
    nodes[:, 0] = np.where(mask, neg(points), 1)
    nodes[:, 1] = mask
    whole = mask
    while nodes.shape[0] > 1:
        size = 2 * (nodes.shape[1] - 1)
        padded = np.zeros((nodes.shape[0], size), np.uint64)
        padded[:, : nodes.shape[1]] = nodes
        spectra = ntt(padded)
        whole = whole[0::2] & whole[1::2]
        nodes = np.zeros((whole.size, size + 1), np.uint64)
        nodes[:, :size] = intt(mul(spectra[0::2], spectra[1::2]))
        nodes[:, 0] = sub(nodes[:, 0], whole.astype(np.uint64))
        nodes[:, size] = whole
    return nodes[0, : int(mask.sum()) + 1]


def recover(degree_bound: int, domain: Domain, values: FieldArray, erased: Mask) -> FieldArray:
    """The polynomials of degree below the bound that have `values` at every position that is not erased.

    With E the vanishing polynomial of the e erased points, the word times E is known everywhere (0 where erased) and
    has degree below degree_bound + e <= size, so it is interpolated exactly; on another coset E has no zero, and the
    product is divided there. If the quotient Q has degree below the bound then deg(Q E) < size, so Q E equals the
    interpolated product as a polynomial and Q agrees with every value that is left: no second check is needed. The
    converse is immediate. With size - degree_bound erasures every word is accepted, for none is left to contradict.

    Args:
        degree_bound: 1 or more; one more than the greatest degree.
        domain: where the words were evaluated.
        values: words (m, size); entries at erased positions are ignored.
        erased: bool of shape (size,).

    Returns:
        Coefficients (m, degree_bound).

    Raises:
        TooManyErasuresError: fewer than degree_bound positions are left.
        NotACodewordError: a row is not the values of such a polynomial.
        CodeSizeError, DomainTooSmallError, WordShapeError, ErasureMaskError: arguments that do not fit each other.
        FieldArrayError, NotCanonicalError: values that are not in F.
    """
    mask = erasure_mask(domain, erased)
    check_bound(degree_bound, domain, mask)
    known = np.where(mask, np.uint64(0), word_rows(domain, values))
    if mask.any():
        other = domain.shift * GENERATOR % P  # another coset: 7^size is not 1
        product = coset_intt(mul(known, spread_vanishing(domain, mask, domain.shift)), domain.shift)
        divisor = spread_vanishing(domain, mask, other)
        polynomials = coset_intt(mul(coset_ntt(product, other, domain.size), inverse(divisor)), other)
    else:
        polynomials = coset_intt(known, domain.shift)
    if (wrong := np.flatnonzero(polynomials[:, degree_bound:].any(axis=1))).size:
        raise NotACodewordError(
            f"row {wrong[0]} is not a polynomial of degree below {degree_bound} on the positions that are left",
            row=int(wrong[0]),
            degree_bound=degree_bound,
        )
    return np.ascontiguousarray(polynomials[:, :degree_bound])
