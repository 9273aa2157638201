"""Compiled loops of the argument: encoding into columns, folds, lookups, and what holds at every point.

Kernels trust their caller: arrays are C-contiguous, writable uint64 with canonical values. A kernel that takes `start,
stop` first does that range alone, so ranges may run in several threads. Elements of K are pairs, arrays of K (2, n).
The index of a row is its place among all rows; `columns` holds a codeword column in each row, (points, rows).
"""

import numpy as np
from numba import njit, uint64

from collegium.algebra import (
    halves_backward,
    halves_forward,
    jit_add,
    jit_ext_mul,
    jit_mul,
    jit_sub,
    lane_add,
    lane_dot,
    lane_mul,
    lane_settle,
    lane_sub,
    quarters_backward,
    quarters_forward,
)

LANES = 8  # rows encoded side by side: their symbols at one point fill a cache line
_LOW = 0xFFFFFFFF


@njit(inline="always")
def _forward(x, tree, size):
    """Coefficients to values, LANES polynomials interleaved, as `algebra`'s transform does for one."""
    nodes = 1
    half = size >> 1
    odd = False
    count = size
    while count > 1:
        count >>= 1
        odd = not odd
    if odd:
        width = half * LANES
        halves_forward(x[:width], x[width:], tree[1])
        nodes <<= 1
        half >>= 1
    while half >= 2:
        q = (half >> 1) * LANES
        for b in range(nodes):
            at = b * 4 * q
            node = nodes + b
            quarters_forward(
                x[at : at + q],
                x[at + q : at + 2 * q],
                x[at + 2 * q : at + 3 * q],
                x[at + 3 * q : at + 4 * q],
                tree[node],
                tree[2 * node],
                tree[2 * node + 1],
            )
        nodes <<= 2
        half >>= 2


@njit(inline="always")
def _backward(x, tree, size, size_inverse):
    """Values on H to coefficients, LANES polynomials interleaved; `tree` holds the forward tree's inverses."""
    nodes = size >> 2
    half = 1
    while nodes >= 1:
        q = half * LANES
        for b in range(nodes):
            at = b * 4 * q
            node = nodes + b
            quarters_backward(
                x[at : at + q],
                x[at + q : at + 2 * q],
                x[at + 2 * q : at + 3 * q],
                x[at + 3 * q : at + 4 * q],
                tree[node],
                tree[2 * node],
                tree[2 * node + 1],
            )
        nodes >>= 2
        half <<= 2
    if half < size:
        width = half * LANES
        halves_backward(x[:width], x[width:], tree[1])
    for j in range(x.shape[0]):
        x[j] = lane_mul(size_inverse, x[j])


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
        _backward(low, inverse_tree, messages.shape[1], size_inverse)
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
            _forward(x, trees[coset], messages.shape[1])
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
                out[0, j] = lane_add(out[0, j], lane_mul(value, c0))
                out[1, j] = lane_add(out[1, j], lane_mul(value, c1))
        first = last


@njit(cache=True, nogil=True)
def evaluate_rows(start, stop, messages, pads, at_message, at_pad, out):
    """Rows [start, stop) at a point of K: messages against Lagrange's values, pads against theirs."""
    for i in range(start, stop):
        for part in range(2):
            out[part, i] = jit_add(lane_dot(messages[i], at_message[part]), lane_dot(pads[i], at_pad[part]))


@njit(cache=True, nogil=True)
def gather_inverses(start, stop, messages, rows, tables, places, bases, inverses):
    """Pairs [start, stop): messages of h = 1/(alpha - v_a) + 1/(alpha - v_b), its parts to the rows `places`.

    `inverses` (2, all tables' entries) holds each table from `bases` on; a value indexes its table.
    """
    for i in range(start, stop):
        a = messages[rows[i, 0]]
        b = messages[rows[i, 1]]
        base = bases[tables[i]]
        for part in range(2):
            source = inverses[part]
            target = messages[places[i, part]]
            for j in range(messages.shape[1]):
                target[j] = lane_add(source[base + a[j]], source[base + b[j]])


@njit(inline="always")
def _lane_seven(x):
    """7 x, as 8 x - x; 8 x is its lower 64 bits and 2^64 = 2^32 - 1 times the three above."""
    top = x >> uint64(61)
    return lane_sub(lane_add(x << uint64(3), (top << uint64(32)) - top), x)


@njit(cache=True, nogil=True)
def lookups_at(start, stop, columns, rows, seconds, inverses, table, alphas, gammas, weights, out):
    """Points [start, stop): out += sum_i weights_i (h A B - A - B), A = alpha - v - gamma v' for each of a pair.

    rows, seconds: (pairs, 2), inverses: (pairs, 2), the places of h's two parts; all pairs are of one table.
    """
    for point in range(uint64(start), uint64(stop)):
        column = columns[point]
        total0 = uint64(0)
        total1 = uint64(0)
        for i in range(uint64(rows.shape[0])):
            a0 = jit_sub(alphas[0, table], column[rows[i, 0]])
            a1 = alphas[1, table]
            b0 = jit_sub(alphas[0, table], column[rows[i, 1]])
            b1 = alphas[1, table]
            value = column[seconds[i, 0]]
            a0 = jit_sub(a0, jit_mul(gammas[0, table], value))
            a1 = jit_sub(a1, jit_mul(gammas[1, table], value))
            value = column[seconds[i, 1]]
            b0 = jit_sub(b0, jit_mul(gammas[0, table], value))
            b1 = jit_sub(b1, jit_mul(gammas[1, table], value))
            p0, p1 = jit_ext_mul(a0, a1, b0, b1)
            p0, p1 = jit_ext_mul(p0, p1, column[inverses[i, 0]], column[inverses[i, 1]])
            p0 = jit_sub(jit_sub(p0, a0), b0)
            p1 = jit_sub(jit_sub(p1, a1), b1)
            p0, p1 = jit_ext_mul(p0, p1, weights[0, i], weights[1, i])
            total0 = jit_add(total0, p0)
            total1 = jit_add(total1, p1)
        out[0, point] = jit_add(out[0, point], total0)
        out[1, point] = jit_add(out[1, point], total1)


@njit(cache=True, nogil=True)
def lookup_run_at(start, stop, columns, places, count, alpha, weights, out):
    """`lookups_at` without second columns for pairs that follow one another: v_a, v_b, h's parts begin at `places`."""
    alpha0 = alpha[0]
    alpha1 = alpha[1]
    constant = jit_mul(uint64(7), jit_mul(alpha1, alpha1))
    both = jit_add(alpha1, alpha1)
    weights0, weights1 = weights[0], weights[1]
    for point in range(start, stop):
        column = columns[point]
        a = column[places[0] : places[0] + count]
        b = column[places[1] : places[1] + count]
        h0 = column[places[2] : places[2] + count]
        h1 = column[places[3] : places[3] + count]
        low0 = uint64(0)
        high0 = uint64(0)
        low1 = uint64(0)
        high1 = uint64(0)
        for i in range(count):
            a0 = lane_sub(alpha0, a[i])
            b0 = lane_sub(alpha0, b[i])
            total = lane_add(a0, b0)
            p0 = lane_add(lane_mul(a0, b0), constant)
            p1 = lane_mul(total, alpha1)
            q0 = lane_add(lane_mul(p0, h0[i]), _lane_seven(lane_mul(p1, h1[i])))
            q1 = lane_add(lane_mul(p0, h1[i]), lane_mul(p1, h0[i]))
            q0 = lane_sub(q0, total)
            q1 = lane_sub(q1, both)
            w0 = weights0[i]
            w1 = weights1[i]
            r0 = lane_add(lane_mul(q0, w0), _lane_seven(lane_mul(q1, w1)))
            r1 = lane_add(lane_mul(q0, w1), lane_mul(q1, w0))
            low0 += r0 & uint64(_LOW)
            high0 += r0 >> uint64(32)
            low1 += r1 & uint64(_LOW)
            high1 += r1 >> uint64(32)
        out[0, point] = jit_add(out[0, point], lane_settle(low0, high0))
        out[1, point] = jit_add(out[1, point], lane_settle(low1, high1))


@njit(cache=True, nogil=True)
def terms_at(start, stop, columns, count, out):
    """Points [start, stop): out += sum_t slots_t values_t in K; a row has their four parts in turn, `count` of each."""
    for point in range(start, stop):
        row = columns[point]
        s0, s1 = row[:count], row[count : 2 * count]
        v0, v1 = row[2 * count : 3 * count], row[3 * count : 4 * count]
        low0 = uint64(0)
        high0 = uint64(0)
        low1 = uint64(0)
        high1 = uint64(0)
        for i in range(count):
            r0 = lane_add(lane_mul(s0[i], v0[i]), _lane_seven(lane_mul(s1[i], v1[i])))
            r1 = lane_add(lane_mul(s0[i], v1[i]), lane_mul(s1[i], v0[i]))
            low0 += r0 & uint64(_LOW)
            high0 += r0 >> uint64(32)
            low1 += r1 & uint64(_LOW)
            high1 += r1 >> uint64(32)
        out[0, point] = jit_add(out[0, point], lane_settle(low0, high0))
        out[1, point] = jit_add(out[1, point], lane_settle(low1, high1))


@njit(cache=True, nogil=True)
def products_run_at(start, stop, columns, places, factors, count, weights, out):
    """Points [start, stop): out += sum_i weights_i prod of one to three rows; factor f begins at `places[f]`."""
    product = np.empty(count, np.uint64)
    weights0, weights1 = weights[0], weights[1]
    for point in range(start, stop):
        column = columns[point]
        product[:] = column[places[0] : places[0] + count]
        for f in range(1, factors):
            factor = column[places[f] : places[f] + count]
            for i in range(count):
                product[i] = lane_mul(product[i], factor[i])
        low0 = uint64(0)
        high0 = uint64(0)
        low1 = uint64(0)
        high1 = uint64(0)
        for i in range(count):
            r0 = lane_mul(product[i], weights0[i])
            r1 = lane_mul(product[i], weights1[i])
            low0 += r0 & uint64(_LOW)
            high0 += r0 >> uint64(32)
            low1 += r1 & uint64(_LOW)
            high1 += r1 >> uint64(32)
        out[0, point] = jit_add(out[0, point], lane_settle(low0, high0))
        out[1, point] = jit_add(out[1, point], lane_settle(low1, high1))


@njit(cache=True, nogil=True)
def multiply_onto(start, stop, a, b, out):
    """out += a b in K on [start, stop)."""
    a0, a1 = a[0, start:stop], a[1, start:stop]
    b0, b1 = b[0, start:stop], b[1, start:stop]
    out0, out1 = out[0, start:stop], out[1, start:stop]
    for j in range(a0.shape[0]):
        crossed = lane_mul(uint64(7), lane_mul(a1[j], b1[j]))
        out0[j] = lane_add(out0[j], lane_add(lane_mul(a0[j], b0[j]), crossed))
        out1[j] = lane_add(out1[j], lane_add(lane_mul(a0[j], b1[j]), lane_mul(a1[j], b0[j])))


@njit(cache=True, nogil=True)
def scale_row_onto(start, stop, a, b, out):
    """out += a b on [start, stop) for a over K, b over F."""
    for j in range(start, stop):
        out[0, j] = lane_add(out[0, j], lane_mul(a[0, j], b[j]))
        out[1, j] = lane_add(out[1, j], lane_mul(a[1, j], b[j]))


@njit(cache=True, nogil=True)
def fold_products(start, stop, messages, first, second, weights, out):
    """out += sum_i weights_i messages[first_i] messages[second_i] on slots [start, stop); out (2, k)."""
    for i in range(first.shape[0]):
        a = messages[first[i], start:stop]
        b = messages[second[i], start:stop]
        w0 = weights[0, i]
        w1 = weights[1, i]
        out0, out1 = out[0, start:stop], out[1, start:stop]
        for j in range(a.shape[0]):
            value = lane_mul(a[j], b[j])
            out0[j] = lane_add(out0[j], lane_mul(value, w0))
            out1[j] = lane_add(out1[j], lane_mul(value, w1))


@njit(cache=True, nogil=True)
def outer_product(a, b, out):
    """out[i n + j] = a_i b_j in K for a (2, m), b (2, n)."""
    n = b.shape[1]
    b0, b1 = b[0], b[1]
    for i in range(a.shape[1]):
        a0 = a[0, i]
        a1 = a[1, i]
        seven = jit_mul(uint64(7), a1)
        out0, out1 = out[0, i * n : (i + 1) * n], out[1, i * n : (i + 1) * n]
        for j in range(n):
            out0[j] = lane_add(lane_mul(a0, b0[j]), lane_mul(seven, b1[j]))
            out1[j] = lane_add(lane_mul(a0, b1[j]), lane_mul(a1, b0[j]))


@njit(cache=True, nogil=True)
def horner_at(start, stop, coefficients, points, out):
    """A polynomial over K at points [start, stop) of F, all of them at once."""
    x = points[start:stop]
    a, b = out[0, start:stop], out[1, start:stop]
    a[:] = uint64(0)
    b[:] = uint64(0)
    for j in range(coefficients.shape[1]):
        at = coefficients.shape[1] - 1 - j
        c0 = coefficients[0, at]
        c1 = coefficients[1, at]
        for i in range(x.shape[0]):
            a[i] = lane_add(lane_mul(a[i], x[i]), c0)
            b[i] = lane_add(lane_mul(b[i], x[i]), c1)
