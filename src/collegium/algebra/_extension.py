"""K = F[x] / (x^2 - 7), the field of challenges, of P^2 elements, about 2^128. See docs/spec/algebra.md, section 3.

A scalar is a tuple (a0, a1) of integers for a0 + a1 x; an array of n elements has shape (2, n). Sums and differences of
arrays are those of F (`add`, `sub`).
"""

import numpy as np

from collegium.algebra import _kernels
from collegium.algebra._arrays import Ext, FieldArray, P, ext_array, ext_element, field_array
from collegium.algebra._errors import FieldArrayError, NoInverseError
from collegium.algebra._field import inverse, mul, neg
from collegium.algebra._rows import over_rows

__all__ = [
    "NON_RESIDUE",
    "evaluate_ext",
    "ext_add",
    "ext_dot",
    "ext_evaluate",
    "ext_inverse",
    "ext_inverse_array",
    "ext_matvec",
    "ext_mul",
    "ext_mul_array",
    "ext_power",
    "ext_powers",
    "ext_scale",
    "ext_sub",
    "fold",
]

NON_RESIDUE = 7  # 7 generates F*, so it is no square and x^2 - 7 does not split


def ext_add(a: Ext, b: Ext) -> Ext:
    """a + b.

    Raises:
        NotCanonicalError: an argument is not a pair of integers in [0, P).
    """
    (a0, a1), (b0, b1) = ext_element(a), ext_element(b)
    return (a0 + b0) % P, (a1 + b1) % P


def ext_sub(a: Ext, b: Ext) -> Ext:
    """a - b.

    Raises:
        NotCanonicalError: as `ext_add`.
    """
    (a0, a1), (b0, b1) = ext_element(a), ext_element(b)
    return (a0 - b0) % P, (a1 - b1) % P


def ext_mul(a: Ext, b: Ext) -> Ext:
    """a b = (a0 b0 + 7 a1 b1) + (a0 b1 + a1 b0) x.

    Raises:
        NotCanonicalError: as `ext_add`.
    """
    (a0, a1), (b0, b1) = ext_element(a), ext_element(b)
    return (a0 * b0 + NON_RESIDUE * a1 * b1) % P, (a0 * b1 + a1 * b0) % P


def ext_inverse(a: Ext) -> Ext:
    """1 / a = (a0 - a1 x) / (a0^2 - 7 a1^2); the norm is 0 only for a = 0.

    Raises:
        NoInverseError: a is 0.
        NotCanonicalError: as `ext_add`.
    """
    a0, a1 = ext_element(a)
    if a0 == a1 == 0:
        raise NoInverseError("0 of K has no inverse", value=a)
    norm_inverse = pow(a0 * a0 - NON_RESIDUE * a1 * a1, -1, P)
    return a0 * norm_inverse % P, -a1 * norm_inverse % P


def ext_power(a: Ext, exponent: int) -> Ext:
    """a^exponent; a negative exponent inverts.

    Raises:
        NoInverseError: a is 0 and the exponent negative.
        NotCanonicalError: as `ext_add`.
    """
    square = ext_inverse(a) if exponent < 0 else ext_element(a)
    remaining, result = abs(exponent), (1, 0)
    while remaining:
        if remaining & 1:
            result = ext_mul(result, square)
        square = ext_mul(square, square)
        remaining >>= 1
    return result


def ext_powers(a: Ext, count: int) -> FieldArray:
    """[1, a, ..., a^(count - 1)], shape (2, count).

    Raises:
        NotCanonicalError: as `ext_add`.
    """
    a0, a1 = ext_element(a)
    out = np.empty((2, count), np.uint64)
    _kernels.ext_powers_flat(np.uint64(a0), np.uint64(a1), out)
    return out


def _same_length(a: FieldArray, b: FieldArray) -> tuple[FieldArray, FieldArray]:
    left, right = ext_array(a), ext_array(b)
    if left.shape != right.shape:
        raise FieldArrayError(
            f"arrays of K with {left.shape[1]} and {right.shape[1]} elements", left=left.shape, right=right.shape
        )
    return left, right


def ext_mul_array(a: FieldArray, b: FieldArray) -> FieldArray:
    """a b, element by element, all of shape (2, n).

    Raises:
        FieldArrayError, NotCanonicalError: the arguments are not arrays of K of one length.
    """
    left, right = _same_length(a, b)
    out = np.empty_like(left)
    over_rows(_kernels.ext_mul_flat, out.shape[1], out.size // 2, left, right, out)
    return out


def ext_scale(a: FieldArray, c: Ext) -> FieldArray:
    """c a for an array (2, n) and one element c of K.

    Raises:
        FieldArrayError, NotCanonicalError: `a` is not an array of K, or c not an element.
    """
    checked, (c0, c1) = ext_array(a), ext_element(c)
    out = np.empty_like(checked)
    over_rows(_kernels.ext_scale_flat, out.shape[1], out.size // 2, checked, np.uint64(c0), np.uint64(c1), out)
    return out


def ext_inverse_array(a: FieldArray) -> FieldArray:
    """1 / a, element by element, shape (2, n), through one batch inversion of the norms.

    Raises:
        NoInverseError: some element is 0.
        FieldArrayError, NotCanonicalError: `a` is not an array of K.
    """
    checked = ext_array(a)
    norms = np.empty(checked.shape[1], np.uint64)
    _kernels.ext_norm_flat(checked, norms)
    return mul(np.stack([checked[0], neg(checked[1])]), inverse(norms))


def ext_dot(a: FieldArray, b: FieldArray) -> Ext:
    """sum_j a_j b_j in K of two arrays (2, n).

    Raises:
        FieldArrayError, NotCanonicalError: as `ext_mul_array`.
    """
    total0, total1 = _kernels.ext_dot(*_same_length(a, b))
    return int(total0), int(total1)


def ext_matvec(rows: FieldArray, vector: FieldArray) -> FieldArray:
    """sum_j rows_ij vector_j for rows (m, n) of F and a vector (2, n) of K: shape (2, m).

    Raises:
        FieldArrayError, NotCanonicalError: another shape, or values that are not in F.
    """
    matrix, weights = field_array(rows, (2,)), ext_array(vector)
    if matrix.shape[1] != weights.shape[1]:
        raise FieldArrayError(
            f"rows of {matrix.shape[1]} elements against a vector of {weights.shape[1]}",
            rows=matrix.shape,
            vector=weights.shape,
        )
    out = np.empty((2, matrix.shape[0]), np.uint64)
    over_rows(_kernels.ext_matvec, matrix.shape[0], matrix.size // 2, matrix, weights, out)
    return out


def fold(rows: FieldArray, coefficients: FieldArray) -> FieldArray:
    """sum_i coefficients_i row_i for rows (m, n) of F and coefficients (2, m) of K: shape (2, n).

    Raises:
        FieldArrayError, NotCanonicalError: another shape, or values that are not in F.
    """
    matrix, weights = field_array(rows, (2,)), ext_array(coefficients)
    if matrix.shape[0] != weights.shape[1]:
        raise FieldArrayError(
            f"{matrix.shape[0]} rows against {weights.shape[1]} coefficients",
            rows=matrix.shape,
            coefficients=weights.shape,
        )
    out = np.empty((2, matrix.shape[1]), np.uint64)
    over_rows(_kernels.fold_columns, matrix.shape[1], matrix.size // 2, matrix, weights, out)
    return out


def evaluate_ext(coefficients: FieldArray, point: Ext) -> Ext | FieldArray:
    """A polynomial (n,) over F at a point of K, in K; or each row of (m, n), shape (2, m).

    Raises:
        FieldArrayError, NotCanonicalError: another shape, or values that are not in F or K.
    """
    checked = field_array(coefficients, (1, 2))
    rows = checked.reshape(1, -1) if checked.ndim == 1 else checked
    out = ext_matvec(rows, ext_powers(point, rows.shape[1]))
    return (int(out[0, 0]), int(out[1, 0])) if checked.ndim == 1 else out


def ext_evaluate(coefficients: FieldArray, points: FieldArray) -> FieldArray:
    """A polynomial (2, n) over K at points (m,) of F: shape (2, m).

    Raises:
        FieldArrayError, NotCanonicalError: another shape, or values that are not in F or K.
    """
    polynomial, at = ext_array(coefficients), field_array(points, (1,))
    out = np.empty((2, at.size), np.uint64)
    over_rows(_kernels.ext_horner, at.size, at.size * polynomial.shape[1], polynomial, at, out)
    return out
