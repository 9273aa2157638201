"""Compiled loops of the argument: encoding into columns, folds, lookups, and what holds at every point.

Kernels trust their caller: arrays are C-contiguous, writable uint64 with canonical values. A kernel that takes `start,
stop` first does that range alone, so ranges may run in several threads. Elements of K are pairs, arrays of K (2, n).
The index of a row is its place among all rows; `columns` holds a codeword column in each row, (points, rows).
"""

import numpy as np
from numba import njit, uint64

from collegium.algebra import jit_add, jit_ext_mul, jit_mul, jit_sub

LANES = 8  # rows encoded side by side: their symbols at one point fill a cache line


@njit(inline="always")
def _forward(x, tree, size):
    """Coefficients to values, LANES polynomials interleaved, as `algebra`'s transform does for one."""
    nodes = uint64(1)
    half = size >> uint64(1)
    odd = False
    count = size
    while count > uint64(1):
        count >>= uint64(1)
        odd = not odd
    if odd:
        c = tree[uint64(1)]
        width = half * uint64(LANES)
        for j in range(width):
            u = x[j]
            v = jit_mul(c, x[j + width])
            x[j] = jit_add(u, v)
            x[j + width] = jit_sub(u, v)
        nodes <<= uint64(1)
        half >>= uint64(1)
    while half >= uint64(2):
        q = (half >> uint64(1)) * uint64(LANES)
        for b in range(nodes):
            c = tree[nodes + b]
            c_left = tree[(nodes + b) << uint64(1)]
            c_right = tree[((nodes + b) << uint64(1)) + uint64(1)]
            base = b * (uint64(4) * q)
            for j in range(base, base + q):
                u0 = x[j]
                u1 = x[j + q]
                v0 = jit_mul(c, x[j + q + q])
                v1 = jit_mul(c, x[j + q + q + q])
                left = jit_mul(c_left, jit_add(u1, v1))
                right = jit_mul(c_right, jit_sub(u1, v1))
                total = jit_add(u0, v0)
                difference = jit_sub(u0, v0)
                x[j] = jit_add(total, left)
                x[j + q] = jit_sub(total, left)
                x[j + q + q] = jit_add(difference, right)
                x[j + q + q + q] = jit_sub(difference, right)
        nodes <<= uint64(2)
        half >>= uint64(2)


@njit(inline="always")
def _backward(x, tree, size, size_inverse):
    """Values on H to coefficients, LANES polynomials interleaved; `tree` holds the forward tree's inverses."""
    nodes = size >> uint64(2)
    half = uint64(1)
    while nodes >= uint64(1):
        q = half * uint64(LANES)
        for b in range(nodes):
            c = tree[nodes + b]
            c_left = tree[(nodes + b) << uint64(1)]
            c_right = tree[((nodes + b) << uint64(1)) + uint64(1)]
            base = b * (uint64(4) * q)
            for j in range(base, base + q):
                x0 = x[j]
                x1 = x[j + q]
                x2 = x[j + q + q]
                x3 = x[j + q + q + q]
                u0 = jit_add(x0, x1)
                u1 = jit_mul(c_left, jit_sub(x0, x1))
                v0 = jit_add(x2, x3)
                v1 = jit_mul(c_right, jit_sub(x2, x3))
                x[j] = jit_add(u0, v0)
                x[j + q] = jit_add(u1, v1)
                x[j + q + q] = jit_mul(c, jit_sub(u0, v0))
                x[j + q + q + q] = jit_mul(c, jit_sub(u1, v1))
        nodes >>= uint64(2)
        half <<= uint64(2)
    if half < size:
        c = tree[uint64(1)]
        width = half * uint64(LANES)
        for j in range(width):
            u = x[j]
            v = x[j + width]
            x[j] = jit_add(u, v)
            x[j + width] = jit_mul(c, jit_sub(u, v))
    for j in range(size * uint64(LANES)):
        x[j] = jit_mul(size_inverse, x[j])


@njit(cache=True, nogil=True)
def encode_columns(start, stop, messages, pads, trees, inverse_tree, size_inverse, kappas, columns, first):
    """Blocks [start, stop) of LANES rows of (message, pad) to `columns[:, first:]`: docs/spec/proofs.md, section 2.

    On the coset where X^k = kappa the polynomial is interpolate(message) + (kappa - 1) pad(X), reduced to degree < k.
    """
    rows = uint64(messages.shape[0])
    k = uint64(messages.shape[1])
    t = uint64(pads.shape[1])
    low = np.empty(k * uint64(LANES), np.uint64)
    x = np.empty(k * uint64(LANES), np.uint64)
    for block in range(uint64(start), uint64(stop)):
        top = block * uint64(LANES)
        count = min(uint64(LANES), rows - top)
        for lane in range(uint64(LANES)):
            if lane < count:
                for j in range(k):
                    low[j * uint64(LANES) + lane] = messages[top + lane, j]
            else:
                for j in range(k):
                    low[j * uint64(LANES) + lane] = uint64(0)
        _backward(low, inverse_tree, k, size_inverse)
        for coset in range(uint64(trees.shape[0])):
            x[:] = low
            factor = jit_sub(kappas[coset], uint64(1))
            for lane in range(count):
                for j in range(t):
                    # t may exceed k: X^(k + j) = kappa X^j
                    place = (j % k) * uint64(LANES) + lane
                    pad = pads[top + lane, j]
                    for _ in range(j // k):
                        pad = jit_mul(pad, kappas[coset])
                    x[place] = jit_add(x[place], jit_mul(factor, pad))
            _forward(x, trees[coset], k)
            base = coset * k
            for j in range(k):
                at = j * uint64(LANES)
                for lane in range(count):
                    columns[base + j, uint64(first) + top + lane] = x[at + lane]


@njit(cache=True, nogil=True)
def fold_rows(start, stop, matrix, chosen, weights, out):
    """Columns [start, stop) of sum_i weights_i matrix[chosen_i], added to `out` (2, width), in pieces of 512."""
    first = uint64(start)
    while first < uint64(stop):
        last = min(first + uint64(512), uint64(stop))
        for i in range(uint64(chosen.shape[0])):
            c0 = weights[0, i]
            c1 = weights[1, i]
            row = matrix[chosen[i]]
            for j in range(first, last):
                value = row[j]
                out[0, j] = jit_add(out[0, j], jit_mul(value, c0))
                out[1, j] = jit_add(out[1, j], jit_mul(value, c1))
        first = last


@njit(cache=True, nogil=True)
def evaluate_rows(start, stop, messages, pads, at_message, at_pad, out):
    """Rows [start, stop) at a point of K: messages against Lagrange's values, pads against theirs."""
    for i in range(uint64(start), uint64(stop)):
        a = uint64(0)
        b = uint64(0)
        for j in range(uint64(messages.shape[1])):
            value = messages[i, j]
            a = jit_add(a, jit_mul(value, at_message[0, j]))
            b = jit_add(b, jit_mul(value, at_message[1, j]))
        for j in range(uint64(pads.shape[1])):
            value = pads[i, j]
            a = jit_add(a, jit_mul(value, at_pad[0, j]))
            b = jit_add(b, jit_mul(value, at_pad[1, j]))
        out[0, i] = a
        out[1, i] = b


@njit(cache=True, nogil=True)
def gather_inverses(start, stop, messages, first_rows, second_rows, first_tables, second_tables, bases, inverses, out):
    """Lookups [start, stop): messages of h = 1/(alpha_a - v_a) + 1/(alpha_b - v_b), two rows each, from tables.

    `inverses` (2, all tables' entries) holds each table from `bases` on; a value indexes its table.
    """
    for i in range(uint64(start), uint64(stop)):
        a = messages[first_rows[i]]
        b = messages[second_rows[i]]
        base_a = bases[first_tables[i]]
        base_b = bases[second_tables[i]]
        for j in range(uint64(messages.shape[1])):
            x = base_a + a[j]
            y = base_b + b[j]
            out[uint64(2) * i, j] = jit_add(inverses[0, x], inverses[0, y])
            out[uint64(2) * i + uint64(1), j] = jit_add(inverses[1, x], inverses[1, y])


@njit(cache=True, nogil=True)
def lookups_at(start, stop, columns, rows, seconds, h_rows, tables, alphas, gammas, weights, out):
    """Points [start, stop): out += sum_i weights_i (h (A)(B) - A - B), A = alpha - v - gamma v' for each of a pair.

    rows, seconds, tables: (lookups, 2); a second row of -1 stands for none.
    """
    for point in range(uint64(start), uint64(stop)):
        column = columns[point]
        total0 = uint64(0)
        total1 = uint64(0)
        for i in range(uint64(rows.shape[0])):
            ta = tables[i, 0]
            tb = tables[i, 1]
            a0 = jit_sub(alphas[0, ta], column[rows[i, 0]])
            a1 = alphas[1, ta]
            b0 = jit_sub(alphas[0, tb], column[rows[i, 1]])
            b1 = alphas[1, tb]
            if seconds[i, 0] >= 0:
                value = column[seconds[i, 0]]
                a0 = jit_sub(a0, jit_mul(gammas[0, ta], value))
                a1 = jit_sub(a1, jit_mul(gammas[1, ta], value))
            if seconds[i, 1] >= 0:
                value = column[seconds[i, 1]]
                b0 = jit_sub(b0, jit_mul(gammas[0, tb], value))
                b1 = jit_sub(b1, jit_mul(gammas[1, tb], value))
            h = h_rows[i]
            p0, p1 = jit_ext_mul(a0, a1, b0, b1)
            p0, p1 = jit_ext_mul(p0, p1, column[h], column[h + 1])
            p0 = jit_sub(jit_sub(p0, a0), b0)
            p1 = jit_sub(jit_sub(p1, a1), b1)
            p0, p1 = jit_ext_mul(p0, p1, weights[0, i], weights[1, i])
            total0 = jit_add(total0, p0)
            total1 = jit_add(total1, p1)
        out[0, point] = jit_add(out[0, point], total0)
        out[1, point] = jit_add(out[1, point], total1)


@njit(cache=True, nogil=True)
def monomials_at(start, stop, columns, factors, weights, out):
    """Points [start, stop): out += sum_i weights_i prod of up to three rows; factors (monomials, 3), -1 for none."""
    for point in range(uint64(start), uint64(stop)):
        column = columns[point]
        total0 = uint64(0)
        total1 = uint64(0)
        for i in range(uint64(factors.shape[0])):
            value = uint64(1)
            for place in range(3):
                row = factors[i, place]
                if row >= 0:
                    value = jit_mul(value, column[row])
            total0 = jit_add(total0, jit_mul(value, weights[0, i]))
            total1 = jit_add(total1, jit_mul(value, weights[1, i]))
        out[0, point] = jit_add(out[0, point], total0)
        out[1, point] = jit_add(out[1, point], total1)


@njit(cache=True, nogil=True)
def products_at(start, stop, columns, first, second, weights, out):
    """Points [start, stop): out = sum_i weights_i columns[first_i] columns[second_i]."""
    for point in range(uint64(start), uint64(stop)):
        column = columns[point]
        total0 = uint64(0)
        total1 = uint64(0)
        for i in range(uint64(first.shape[0])):
            value = jit_mul(column[first[i]], column[second[i]])
            total0 = jit_add(total0, jit_mul(value, weights[0, i]))
            total1 = jit_add(total1, jit_mul(value, weights[1, i]))
        out[0, point] = total0
        out[1, point] = total1


@njit(cache=True, nogil=True)
def multiply_onto(start, stop, a, b, out):
    """out += a b in K on [start, stop)."""
    for j in range(uint64(start), uint64(stop)):
        p0, p1 = jit_ext_mul(a[0, j], a[1, j], b[0, j], b[1, j])
        out[0, j] = jit_add(out[0, j], p0)
        out[1, j] = jit_add(out[1, j], p1)


@njit(cache=True, nogil=True)
def multiply_slots(slots, first, second, weights, messages, out):
    """out += slots x sum_i weights_i messages[first_i] messages[second_i] on H; out (2, k)."""
    k = uint64(messages.shape[1])
    for i in range(uint64(first.shape[0])):
        a = messages[first[i]]
        b = messages[second[i]]
        w0 = weights[0, i]
        w1 = weights[1, i]
        for j in range(k):
            value = jit_mul(a[j], b[j])
            p0, p1 = jit_ext_mul(jit_mul(value, w0), jit_mul(value, w1), slots[0, j], slots[1, j])
            out[0, j] = jit_add(out[0, j], p0)
            out[1, j] = jit_add(out[1, j], p1)


@njit(cache=True, nogil=True)
def outer_product(a, b, out):
    """out[i n + j] = a_i b_j in K for a (2, m), b (2, n)."""
    n = uint64(b.shape[1])
    for i in range(uint64(a.shape[1])):
        for j in range(n):
            out[0, i * n + j], out[1, i * n + j] = jit_ext_mul(a[0, i], a[1, i], b[0, j], b[1, j])


@njit(cache=True, nogil=True)
def horner_at(start, stop, coefficients, points, out):
    """A polynomial over K at points [start, stop) of F, four points at once."""
    count = uint64(coefficients.shape[1])
    for i in range(uint64(start), uint64(stop)):
        x = points[i]
        a = uint64(0)
        b = uint64(0)
        for j in range(count):
            at = count - uint64(1) - j
            a = jit_add(jit_mul(a, x), coefficients[0, at])
            b = jit_add(jit_mul(b, x), coefficients[1, at])
        out[0, i] = a
        out[1, i] = b
