"""Compiled loops of the decoder; `_reference` finds the same errors by linear algebra.

Kernels trust their caller: arrays are C-contiguous, writable uint64 with canonical values. Polynomials are arrays of
coefficients, the constant first; over K they have shape (2, n).
"""

import numpy as np
from numba import njit, uint64

from collegium.algebra import jit_ext_mul, jit_inverse, jit_mul, jit_sub


@njit(cache=True, nogil=True)
def _degree(a, degree_max):
    """The degree of `a`, known to be at most `degree_max`; -1 for the zero polynomial."""
    degree = degree_max
    while degree >= 0 and a[degree] == uint64(0):
        degree -= 1
    return degree


@njit(cache=True, nogil=True)
def _ext_degree(a, degree_max):
    """As `_degree`, over K."""
    degree = degree_max
    while degree >= 0 and a[0, degree] == uint64(0) and a[1, degree] == uint64(0):
        degree -= 1
    return degree


@njit(cache=True, nogil=True)
def _subtract_shifted(a, b, degree_b, shift, c):
    """a -= c X^shift b."""
    offset = uint64(shift)
    for j in range(uint64(degree_b + 1)):
        a[j + offset] = jit_sub(a[j + offset], jit_mul(c, b[j]))


@njit(cache=True, nogil=True)
def _ext_subtract_shifted(a, b, degree_b, shift, c0, c1):
    """As `_subtract_shifted`, over K."""
    offset = uint64(shift)
    for j in range(uint64(degree_b + 1)):
        product0, product1 = jit_ext_mul(c0, c1, b[0, j], b[1, j])
        a[0, j + offset] = jit_sub(a[0, j + offset], product0)
        a[1, j + offset] = jit_sub(a[1, j + offset], product1)


@njit(cache=True, nogil=True)
def partial_euclid(a, b, degree_stop):
    """v of the first line r = u a + v b of Euclid's algorithm with deg r < degree_stop; `a` and `b` are overwritten.

    Both have one length, and deg a > deg b.
    """
    size = a.shape[0]
    v_a = np.zeros(size, np.uint64)
    v_b = np.zeros(size, np.uint64)
    v_b[0] = uint64(1)
    degree_a = _degree(a, size - 1)
    degree_b = _degree(b, size - 1)
    degree_va = -1
    degree_vb = 0
    while degree_b >= degree_stop:
        lead_inverse = jit_inverse(b[degree_b])
        while degree_a >= degree_b:
            shift = degree_a - degree_b
            c = jit_mul(a[degree_a], lead_inverse)
            _subtract_shifted(a, b, degree_b, shift, c)
            _subtract_shifted(v_a, v_b, degree_vb, shift, c)
            degree_va = max(degree_va, degree_vb + shift)
            degree_a = _degree(a, degree_a - 1)
        a, b = b, a
        v_a, v_b = v_b, v_a
        degree_a, degree_b = degree_b, degree_a
        degree_va, degree_vb = degree_vb, degree_va
    return v_b[: degree_vb + 1]


@njit(cache=True, nogil=True)
def ext_partial_euclid(a, b, degree_stop):
    """As `partial_euclid`, over K."""
    size = a.shape[1]
    v_a = np.zeros((2, size), np.uint64)
    v_b = np.zeros((2, size), np.uint64)
    v_b[0, 0] = uint64(1)
    degree_a = _ext_degree(a, size - 1)
    degree_b = _ext_degree(b, size - 1)
    degree_va = -1
    degree_vb = 0
    while degree_b >= degree_stop:
        lead0 = b[0, degree_b]
        lead1 = b[1, degree_b]
        norm = jit_sub(jit_mul(lead0, lead0), jit_mul(uint64(7), jit_mul(lead1, lead1)))
        norm_inverse = jit_inverse(norm)
        inverse0 = jit_mul(lead0, norm_inverse)
        inverse1 = jit_sub(uint64(0), jit_mul(lead1, norm_inverse))
        while degree_a >= degree_b:
            shift = degree_a - degree_b
            c0, c1 = jit_ext_mul(a[0, degree_a], a[1, degree_a], inverse0, inverse1)
            _ext_subtract_shifted(a, b, degree_b, shift, c0, c1)
            _ext_subtract_shifted(v_a, v_b, degree_vb, shift, c0, c1)
            degree_va = max(degree_va, degree_vb + shift)
            degree_a = _ext_degree(a, degree_a - 1)
        a, b = b, a
        v_a, v_b = v_b, v_a
        degree_a, degree_b = degree_b, degree_a
        degree_va, degree_vb = degree_vb, degree_va
    return v_b[:, : degree_vb + 1]
