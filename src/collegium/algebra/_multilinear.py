"""Multilinear extensions of vectors of 2^v values. See docs/spec/algebra.md, section 4.

The first variable is the most significant bit of the index, so for rows of a matrix the first variables choose the row.
"""

from collections.abc import Sequence

import numpy as np

from collegium.algebra import _kernels
from collegium.algebra._arrays import Ext, FieldArray, ext_element, field_array
from collegium.algebra._errors import FieldArrayError
from collegium.algebra._extension import ext_dot, fold

__all__ = ["eq_table", "multilinear"]


def eq_table(point: Sequence[Ext]) -> FieldArray:
    """eq(i, point) = prod_l (point_l if bit l of i else 1 - point_l) for every i, bit 0 the most significant one.

    Args:
        point: v elements of K.

    Returns:
        Shape (2, 2^v); the entries sum to 1.

    Raises:
        NotCanonicalError: a coordinate is not an element of K.
    """
    coordinates = [ext_element(coordinate) for coordinate in point]
    table = np.empty((2, 1 << len(coordinates)), np.uint64)
    table[:, 0] = 1, 0
    for position, (r0, r1) in enumerate(coordinates):
        _kernels.eq_double(table, 1 << position, np.uint64(r0), np.uint64(r1))
    return table


def multilinear(values: FieldArray, point: Sequence[Ext]) -> Ext:
    """sum_i values_i eq(i, point): the multilinear polynomial that takes values_i at the corner i, at `point`.

    The first half of the variables folds the rows of a square matrix, the second half its columns: two products an
    element and tables of about the square root of the length.

    Raises:
        FieldArrayError: the values are not a vector of 2^len(point) elements.
        NotCanonicalError: a value or coordinate is not canonical.
    """
    checked = field_array(values, (1,))
    if checked.size != 1 << len(point):
        raise FieldArrayError(
            f"{checked.size} values for {len(point)} variables, expected {1 << len(point)}",
            values=checked.size,
            variables=len(point),
        )
    middle = len(point) // 2
    folded = fold(checked.reshape(1 << middle, -1), eq_table(point[:middle]))
    return ext_dot(folded, eq_table(point[middle:]))
