"""The one place where an argument becomes an array or element the kernels may trust."""

from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from collegium.algebra._errors import FieldArrayError, NotCanonicalError

__all__ = ["Ext", "FieldArray", "P", "element", "ext_array", "ext_element", "field_array"]

P = 0xFFFFFFFF00000001

FieldArray: TypeAlias = npt.NDArray[np.uint64]
Ext: TypeAlias = tuple[int, int]


def field_array(values: Any, ndim: tuple[int, ...] = ()) -> FieldArray:
    """`values` as a C-contiguous, writable array; copied only where it is not one (kernels compile once a layout).

    Args:
        values: uint64 array, every value < P.
        ndim: the numbers of axes allowed; empty for any.

    Raises:
        FieldArrayError: not a uint64 array, or another number of axes.
        NotCanonicalError: a value is P or more.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.uint64:
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise FieldArrayError(f"expected a numpy array of uint64, found {found}", found=str(found))
    if ndim and values.ndim not in ndim:
        raise FieldArrayError(f"expected {ndim} axes, found shape {values.shape}", shape=values.shape, ndim=ndim)
    if values.size and (largest := int(np.maximum.reduce(values, axis=None))) >= P:
        raise NotCanonicalError(f"value {largest} in a field array is not below {P}", value=largest)
    if values.flags.c_contiguous and values.flags.writeable:  # as nearly always: `require` takes as long as the rest
        return values
    return np.require(values, requirements=("C", "W"))


def ext_array(values: Any) -> FieldArray:
    """An array of K, shape (2, n), checked as by `field_array`.

    Raises:
        FieldArrayError, NotCanonicalError: as `field_array`; also if the first axis is not 2.
    """
    checked = field_array(values, (2,))
    if checked.shape[0] != 2:
        raise FieldArrayError(f"an array of K has shape (2, n), found {checked.shape}", shape=checked.shape)
    return checked


def element(value: Any) -> int:
    """`value` as a Python integer in [0, P).

    Raises:
        NotCanonicalError: it is not an integer, or lies outside.
    """
    try:
        integer = index(value)
    except TypeError:
        raise NotCanonicalError(f"expected an integer in [0, {P}), found {value!r}", value=value) from None
    if not 0 <= integer < P:
        raise NotCanonicalError(f"field element {integer} is not in [0, {P})", value=integer)
    return integer


def ext_element(value: Any) -> Ext:
    """`value` as a pair of Python integers in [0, P).

    Raises:
        NotCanonicalError: it is not a tuple of two canonical elements.
    """
    if not isinstance(value, tuple) or len(value) != 2:
        raise NotCanonicalError(f"an element of K is a tuple of two integers, found {value!r}", value=value)
    first, second = value
    if type(first) is type(second) is int and 0 <= first < P and 0 <= second < P:  # without two calls
        return first, second
    return element(first), element(second)
