"""Number-theoretic transforms: one pair of kernels for every ring F[X] / (X^n - s^n). See docs/spec/algebra.md.

The roots of X^n - s^n are the coset s <w_n>. The kernels walk the tree that splits X^(2h) - c^2 into X^h - c and
X^h + c; a transform differs from another only in its table of constants c: s = 1 gives the cyclic one, s = w_2n the
negacyclic one, any other s evaluation on a coset without a pass that scales the coefficients first.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from collegium.algebra import _kernels
from collegium.algebra._arrays import FieldArray, P, element, ext_array, field_array
from collegium.algebra._errors import FieldArrayError, NoInverseError, TransformSizeError
from collegium.algebra._field import GENERATOR, inverse, mul, powers
from collegium.algebra._rows import over_rows

__all__ = [
    "TWO_ADICITY",
    "bit_reversal",
    "coset_intt",
    "coset_ntt",
    "ext_coset_ntt",
    "intt",
    "negacyclic_intt",
    "negacyclic_mul",
    "negacyclic_ntt",
    "ntt",
    "root_of_unity",
    "transform_trees",
]

TWO_ADICITY = 32  # P - 1 = 2^32 (2^32 - 1)


def _log2(size: int, log_max: int) -> int:
    if size < 1 or size & (size - 1) or size.bit_length() - 1 > log_max:
        raise TransformSizeError(f"size {size} is not a power of two up to 2^{log_max}", size=size)
    return size.bit_length() - 1


def root_of_unity(order: int) -> int:
    """w_order = 7^((P-1)/order), a primitive root of unity; w_(2n)^2 = w_n.

    Raises:
        TransformSizeError: the order is not a power of two up to 2^32.
    """
    _log2(order, TWO_ADICITY)
    return pow(GENERATOR, (P - 1) // order, P)


def bit_reversal(size: int) -> npt.NDArray[np.int64]:
    """Where each of [0, size) goes when its log2(size) bits are read backwards; its own inverse.

    Raises:
        TransformSizeError: the size is not a power of two up to 2^32.
    """
    reversed_order = np.zeros(1, np.int64)
    for _ in range(_log2(size, TWO_ADICITY)):
        reversed_order = np.concatenate([2 * reversed_order, 2 * reversed_order + 1])
    return reversed_order


@lru_cache(maxsize=32)
def transform_trees(size: int, shift: int) -> tuple[FieldArray, FieldArray, np.uint64]:
    """Tables for `transform` and `transform_inverse` of X^size - shift^size, and 1 / size.

    Entry 2^d + b of the first is s^h w^bitrev(b), with h = size / 2^(d+1) and w^bitrev(b) the b-th power, in
    bit-reversed order, of a root of unity of order 2^(d+1); that factor does not depend on d.
    """
    levels = _log2(size, TWO_ADICITY)
    half = max(size // 2, 1)
    roots = powers(root_of_unity(size), half)[bit_reversal(half)]
    tree = np.ones(size, np.uint64)
    for depth in range(levels):
        nodes = 1 << depth
        factor = np.full(nodes, pow(shift, size >> (depth + 1), P), np.uint64)
        tree[nodes : 2 * nodes] = mul(roots[:nodes], factor)
    size_inverse = pow(size, -1, P)
    tree_inverse = inverse(tree)
    if size > 1:
        tree_inverse[1] = int(tree_inverse[1]) * size_inverse % P
    return tree, tree_inverse, np.uint64(size_inverse)


def _shift(shift: int) -> int:
    if element(shift) == 0:
        raise NoInverseError("a coset's shift must not be 0", shift=shift)
    return int(shift)


def _forward(coefficients: FieldArray, shift: int, size: int) -> FieldArray:
    checked = field_array(coefficients, (1, 2))
    _log2(size, TWO_ADICITY)
    if checked.shape[-1] > size:
        raise TransformSizeError(
            f"{checked.shape[-1]} coefficients do not fit a transform of size {size}",
            size=size,
            coefficients=checked.shape[-1],
        )
    out = np.zeros((*checked.shape[:-1], size), np.uint64)
    out[..., : checked.shape[-1]] = checked
    rows = out.reshape(-1, size)
    tree, _, _ = transform_trees(size, shift)
    over_rows(_kernels.transform, rows.shape[0], rows.size, rows, tree)
    return out


def _backward(values: FieldArray, shift: int) -> FieldArray:
    out = field_array(values, (1, 2)).copy()
    size = out.shape[-1]
    rows = out.reshape(-1, size) if size else out
    _, tree_inverse, size_inverse = transform_trees(size, shift)
    over_rows(_kernels.transform_inverse, rows.shape[0], rows.size, rows, tree_inverse, size_inverse)
    return out


def ntt(coefficients: FieldArray) -> FieldArray:
    """Values at w_n^bitrev(j), j = 0, ..., n - 1, of the polynomial (n,), or of each row of (m, n).

    Raises:
        TransformSizeError: n is not a power of two.
        FieldArrayError, NotCanonicalError: not one or two axes of F.
    """
    return _forward(coefficients, 1, np.shape(coefficients)[-1] if np.ndim(coefficients) else 0)


def intt(values: FieldArray) -> FieldArray:
    """The coefficients whose `ntt` is `values`.

    Raises:
        TransformSizeError, FieldArrayError, NotCanonicalError: as `ntt`.
    """
    return _backward(values, 1)


def coset_ntt(coefficients: FieldArray, shift: int, size: int) -> FieldArray:
    """Values at shift w_size^bitrev(j), j = 0, ..., size - 1, of at most `size` coefficients; rows as in `ntt`.

    Raises:
        TransformSizeError: the size is not a power of two, or there are more coefficients.
        NoInverseError: the shift is 0.
        FieldArrayError, NotCanonicalError: not one or two axes of F, or the shift is not in F.
    """
    return _forward(coefficients, _shift(shift), size)


def coset_intt(values: FieldArray, shift: int) -> FieldArray:
    """The coefficients (as many as values) whose `coset_ntt` is `values`.

    Raises:
        TransformSizeError, NoInverseError, FieldArrayError, NotCanonicalError: as `coset_ntt`.
    """
    return _backward(values, _shift(shift))


def ext_coset_ntt(coefficients: FieldArray, shift: int, size: int) -> FieldArray:
    """As `coset_ntt` for one polynomial over K: (2, n) to (2, size). The points lie in F, so it acts on each part.

    Raises:
        TransformSizeError, NoInverseError, FieldArrayError, NotCanonicalError: as `coset_ntt`.
    """
    return coset_ntt(ext_array(coefficients), shift, size)


def negacyclic_ntt(a: FieldArray) -> FieldArray:
    """Values at w_2n^(2 bitrev(j) + 1): `a` of F[X]/(X^n + 1), or rows, in the form where products are by element.

    Raises:
        TransformSizeError: n is not a power of two up to 2^31.
        FieldArrayError, NotCanonicalError: not one or two axes of F.
    """
    size = np.shape(a)[-1] if np.ndim(a) else 0
    return _forward(a, _negacyclic_shift(size), size)


def negacyclic_intt(values: FieldArray) -> FieldArray:
    """The ring element whose `negacyclic_ntt` is `values`.

    Raises:
        TransformSizeError, FieldArrayError, NotCanonicalError: as `negacyclic_ntt`.
    """
    return _backward(values, _negacyclic_shift(np.shape(values)[-1] if np.ndim(values) else 0))


def negacyclic_mul(a: FieldArray, b: FieldArray) -> FieldArray:
    """a b in F[X]/(X^n + 1); rows are multiplied pairwise, and one ring element multiplies every row.

    Raises:
        TransformSizeError, FieldArrayError, NotCanonicalError: as `negacyclic_ntt`, or the shapes do not fit.
    """
    if np.shape(a)[-1:] != np.shape(b)[-1:]:
        raise FieldArrayError(
            f"ring elements of shapes {np.shape(a)} and {np.shape(b)}: sizes differ",
            left=np.shape(a),
            right=np.shape(b),
        )
    return negacyclic_intt(mul(negacyclic_ntt(a), negacyclic_ntt(b)))


def _negacyclic_shift(size: int) -> int:
    _log2(size, TWO_ADICITY - 1)
    return root_of_unity(2 * size)
