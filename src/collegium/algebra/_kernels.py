"""Compiled loops over Goldilocks elements; `_reference` says what each computes.

Kernels trust their caller: arrays are C-contiguous, writable uint64 with canonical values, sizes fit. A kernel that
takes `start, stop` first does that range of rows only, so `_rows.over_rows` can give ranges to several threads.

p = 2^64 - 2^32 + 1, so 2^64 = E and 2^96 = -1 (mod p) with E = 2^32 - 1. Carries are read from the processor's flag
through LLVM's overflow intrinsics: comparing afterwards costs four times as much in the transforms.
"""

from llvmlite import ir
from numba import njit, types, uint64
from numba.extending import intrinsic

_P = 0xFFFFFFFF00000001
_E = 0xFFFFFFFF
_I64 = ir.IntType(64)
_I128 = ir.IntType(128)


def _constant(value):
    return ir.Constant(_I64, value)


def _emit_sub(builder, x, y):
    """x - y, plus p when it borrows; canonical if x and y are (and y may be p)."""
    pair = builder.usub_with_overflow(x, y)
    difference, borrow = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
    return builder.sub(difference, builder.select(borrow, _constant(_E), _constant(0)))


def _emit_add(builder, x, y):
    """x + y as x - (p - y): one conditional correction and a canonical result."""
    return _emit_sub(builder, x, builder.sub(_constant(_P), y))


def _emit_mul(builder, x, y):
    """x y mod p: the product is low + E middle - high, with middle and high of 32 bits."""
    product = builder.mul(builder.zext(x, _I128), builder.zext(y, _I128))
    low = builder.trunc(product, _I64)
    upper = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
    first = _emit_sub(builder, low, builder.lshr(upper, _constant(32)))
    middle = builder.and_(upper, _constant(_E))
    second = builder.sub(builder.shl(middle, _constant(32)), middle)
    pair = builder.uadd_with_overflow(first, second)
    total, carry = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
    total = builder.add(total, builder.select(carry, _constant(_E), _constant(0)))
    pair = builder.uadd_with_overflow(total, _constant(_E))
    reduced, at_least_p = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
    return builder.select(at_least_p, reduced, total)


def _binary(emit):
    @intrinsic
    def operation(_typing_context, x, y):
        def code(_context, builder, _signature, arguments):
            return emit(builder, arguments[0], arguments[1])

        return types.uint64(types.uint64, types.uint64), code

    return operation


jit_add = _binary(_emit_add)
jit_sub = _binary(_emit_sub)
jit_mul = _binary(_emit_mul)


# The same three in plain 64-bit operations: in loops over consecutive elements compilers turn these into vectors, which
# take half the time of the scalar forms; a single product by them takes longer.


@njit(inline="always")
def lane_sub(x, y):
    difference = x - y
    return difference - (uint64(_E) if x < y else uint64(0))


@njit(inline="always")
def lane_add(x, y):
    return lane_sub(x, uint64(_P) - y)


@njit(inline="always")
def lane_mul(x, y):
    x_low = x & uint64(_E)
    x_high = x >> uint64(32)
    y_low = y & uint64(_E)
    y_high = y >> uint64(32)
    lowest = x_low * y_low
    across = x_low * y_high + (lowest >> uint64(32))
    crossed = x_high * y_low + (across & uint64(_E))
    low = (lowest & uint64(_E)) | (crossed << uint64(32))
    upper = x_high * y_high + (across >> uint64(32)) + (crossed >> uint64(32))
    first = lane_sub(low, upper >> uint64(32))
    middle = upper & uint64(_E)
    second = (middle << uint64(32)) - middle
    total = first + second
    total += uint64(_E) if total < second else uint64(0)
    return total - (uint64(_P) if total >= uint64(_P) else uint64(0))


@njit(inline="always")
def lane_settle(low, high):
    """A sum of at most 2^31 elements, kept as that of their lower and that of their upper 32 bits, as an element."""
    rest = high & uint64(_E)
    top = high >> uint64(32)  # times 2^64 = 2^32 - 1
    total = jit_add(rest << uint64(32), (top << uint64(32)) - top)
    return jit_add(total, jit_add(low & uint64(_E), jit_mul(low >> uint64(32), uint64(1 << 32))))


@njit(inline="always")
def lane_dot(a, b):
    """sum_j a_j b_j over F, at most 2^31 products."""
    low = uint64(0)
    high = uint64(0)
    for j in range(a.shape[0]):
        value = lane_mul(a[j], b[j])
        low += value & uint64(_E)
        high += value >> uint64(32)
    return lane_settle(low, high)


@njit(inline="always")
def jit_ext_mul(a0, a1, b0, b1):
    return (
        jit_add(jit_mul(a0, b0), jit_mul(uint64(7), jit_mul(a1, b1))),
        jit_add(jit_mul(a0, b1), jit_mul(a1, b0)),
    )


@njit(cache=True, nogil=True)
def jit_inverse(x):
    """x^(p-2); 0 for 0."""
    result = uint64(1)
    exponent = uint64(_P - 2)
    while exponent > uint64(0):
        if exponent & uint64(1):
            result = jit_mul(result, x)
        x = jit_mul(x, x)
        exponent >>= uint64(1)
    return result


# --- element by element, on flat arrays


@njit(cache=True, nogil=True)
def add_flat(start, stop, a, b, out):
    for i in range(uint64(start), uint64(stop)):
        out[i] = jit_add(a[i], b[i])


@njit(cache=True, nogil=True)
def sub_flat(start, stop, a, b, out):
    for i in range(uint64(start), uint64(stop)):
        out[i] = jit_sub(a[i], b[i])


@njit(cache=True, nogil=True)
def mul_flat(start, stop, a, b, out):
    for i in range(uint64(start), uint64(stop)):
        out[i] = jit_mul(a[i], b[i])


@njit(cache=True, nogil=True)
def scale_flat(start, stop, a, c, out):
    for i in range(uint64(start), uint64(stop)):
        out[i] = jit_mul(a[i], c)


@njit(cache=True, nogil=True)
def inverse_flat(a, out):
    """Montgomery's trick: one inversion, three products an element. All of `a` must be non-zero."""
    running = uint64(1)
    for i in range(uint64(a.shape[0])):
        out[i] = running
        running = jit_mul(running, a[i])
    running = jit_inverse(running)
    for j in range(uint64(a.shape[0])):
        i = uint64(a.shape[0]) - uint64(1) - j
        out[i] = jit_mul(out[i], running)
        running = jit_mul(running, a[i])


@njit(cache=True, nogil=True)
def powers_flat(x, first, out):
    current = first
    for i in range(uint64(out.shape[0])):
        out[i] = current
        current = jit_mul(current, x)


@njit(cache=True, nogil=True)
def matvec(start, stop, rows, vector, out):
    for i in range(start, stop):
        out[i] = lane_dot(rows[i], vector)


# --- transforms

_VECTOR_MIN = 16  # below it, checks before a vector loop cost more than it saves


@njit(inline="always")
def quarters_forward(x0, x1, x2, x3, c, c_left, c_right):
    """Two levels of `transform` on the quarters of one node."""
    for j in range(x0.shape[0]):
        u0 = x0[j]
        u1 = x1[j]
        v0 = lane_mul(c, x2[j])
        v1 = lane_mul(c, x3[j])
        left = lane_mul(c_left, lane_add(u1, v1))
        right = lane_mul(c_right, lane_sub(u1, v1))
        total = lane_add(u0, v0)
        difference = lane_sub(u0, v0)
        x0[j] = lane_add(total, left)
        x1[j] = lane_sub(total, left)
        x2[j] = lane_add(difference, right)
        x3[j] = lane_sub(difference, right)


@njit(inline="always")
def quarters_backward(x0, x1, x2, x3, c, c_left, c_right):
    """Two levels of `transform_inverse` on the quarters of one node."""
    for j in range(x0.shape[0]):
        u0 = lane_add(x0[j], x1[j])
        u1 = lane_mul(c_left, lane_sub(x0[j], x1[j]))
        v0 = lane_add(x2[j], x3[j])
        v1 = lane_mul(c_right, lane_sub(x2[j], x3[j]))
        x0[j] = lane_add(u0, v0)
        x1[j] = lane_add(u1, v1)
        x2[j] = lane_mul(c, lane_sub(u0, v0))
        x3[j] = lane_mul(c, lane_sub(u1, v1))


@njit(inline="always")
def halves_forward(x0, x1, c):
    """One level of `transform` on the halves of the root."""
    for j in range(x0.shape[0]):
        u = x0[j]
        v = lane_mul(c, x1[j])
        x0[j] = lane_add(u, v)
        x1[j] = lane_sub(u, v)


@njit(inline="always")
def halves_backward(x0, x1, c):
    """One level of `transform_inverse` on the halves of the root."""
    for j in range(x0.shape[0]):
        u = x0[j]
        v = x1[j]
        x0[j] = lane_add(u, v)
        x1[j] = lane_mul(c, lane_sub(u, v))


@njit(cache=True, nogil=True)
def transform(start, stop, values, tree):
    """Coefficients to residues at the leaves of the tree of X^n - s^n, in place; two levels a pass.

    Node b of the level with 2^d nodes holds a residue mod X^(2h) - c^2, h = n / 2^(d+1), c = tree[2^d + b]; its
    children are the residues mod X^h - c and X^h + c.
    """
    size = uint64(values.shape[1])
    for row in range(uint64(start), uint64(stop)):
        x = values[row]
        nodes = uint64(1)
        half = size >> uint64(1)
        levels_odd = False
        count = size
        while count > uint64(1):
            count >>= uint64(1)
            levels_odd = not levels_odd
        if levels_odd:
            halves_forward(x[:half], x[half:], tree[uint64(1)])
            nodes <<= uint64(1)
            half >>= uint64(1)
        while half >= uint64(2):
            quarter = half >> uint64(1)
            for b in range(nodes):
                c = tree[nodes + b]
                c_left = tree[(nodes + b) << uint64(1)]
                c_right = tree[((nodes + b) << uint64(1)) + uint64(1)]
                base = (b * half) << uint64(1)
                if quarter >= uint64(_VECTOR_MIN):
                    middle = base + half
                    end = middle + half
                    quarters_forward(
                        x[base : base + quarter],
                        x[base + quarter : middle],
                        x[middle : middle + quarter],
                        x[middle + quarter : end],
                        c,
                        c_left,
                        c_right,
                    )
                    continue
                for j in range(base, base + quarter):
                    u0 = x[j]
                    u1 = x[j + quarter]
                    v0 = jit_mul(c, x[j + half])
                    v1 = jit_mul(c, x[j + half + quarter])
                    left = jit_mul(c_left, jit_add(u1, v1))
                    right = jit_mul(c_right, jit_sub(u1, v1))
                    sum0 = jit_add(u0, v0)
                    difference0 = jit_sub(u0, v0)
                    x[j] = jit_add(sum0, left)
                    x[j + quarter] = jit_sub(sum0, left)
                    x[j + half] = jit_add(difference0, right)
                    x[j + half + quarter] = jit_sub(difference0, right)
            nodes <<= uint64(2)
            half >>= uint64(2)


@njit(cache=True, nogil=True)
def transform_inverse(start, stop, values, tree, size_inverse):
    """The way back of `transform`, in place; `tree` holds inverses and entry 1 is also divided by n."""
    size = uint64(values.shape[1])
    if size == uint64(1):
        return
    for row in range(uint64(start), uint64(stop)):
        x = values[row]
        nodes = size >> uint64(2)
        quarter = uint64(1)
        while nodes >= uint64(1):
            half = quarter << uint64(1)
            last = nodes == uint64(1)
            for b in range(nodes):
                c = tree[nodes + b]
                c_left = tree[(nodes + b) << uint64(1)]
                c_right = tree[((nodes + b) << uint64(1)) + uint64(1)]
                base = (b * half) << uint64(1)
                for j in range(base, base + quarter):
                    x0 = x[j]
                    x1 = x[j + quarter]
                    x2 = x[j + half]
                    x3 = x[j + half + quarter]
                    u0 = jit_add(x0, x1)
                    u1 = jit_mul(c_left, jit_sub(x0, x1))
                    v0 = jit_add(x2, x3)
                    v1 = jit_mul(c_right, jit_sub(x2, x3))
                    sum0 = jit_add(u0, v0)
                    sum1 = jit_add(u1, v1)
                    if last:
                        sum0 = jit_mul(size_inverse, sum0)
                        sum1 = jit_mul(size_inverse, sum1)
                    x[j] = sum0
                    x[j + quarter] = sum1
                    x[j + half] = jit_mul(c, jit_sub(u0, v0))
                    x[j + half + quarter] = jit_mul(c, jit_sub(u1, v1))
            nodes >>= uint64(2)
            quarter <<= uint64(2)
        if quarter < size:
            c = tree[uint64(1)]
            for j in range(quarter):
                u = x[j]
                v = x[j + quarter]
                x[j] = jit_mul(size_inverse, jit_add(u, v))
                x[j + quarter] = jit_mul(c, jit_sub(u, v))


# --- the extension K; arrays of K have shape (2, n)


@njit(cache=True, nogil=True)
def ext_mul_flat(start, stop, a, b, out):
    for j in range(uint64(start), uint64(stop)):
        out[0, j], out[1, j] = jit_ext_mul(a[0, j], a[1, j], b[0, j], b[1, j])


@njit(cache=True, nogil=True)
def ext_scale_flat(start, stop, a, c0, c1, out):
    for j in range(uint64(start), uint64(stop)):
        out[0, j], out[1, j] = jit_ext_mul(a[0, j], a[1, j], c0, c1)


@njit(cache=True, nogil=True)
def ext_norm_flat(a, out):
    for j in range(uint64(a.shape[1])):
        out[j] = jit_sub(jit_mul(a[0, j], a[0, j]), jit_mul(uint64(7), jit_mul(a[1, j], a[1, j])))


@njit(cache=True, nogil=True)
def ext_powers_flat(x0, x1, out):
    c0 = uint64(1)
    c1 = uint64(0)
    for j in range(uint64(out.shape[1])):
        out[0, j] = c0
        out[1, j] = c1
        c0, c1 = jit_ext_mul(c0, c1, x0, x1)


@njit(cache=True, nogil=True)
def ext_dot(a, b):
    crossed = lane_dot(a[1], b[1])
    total0 = jit_add(lane_dot(a[0], b[0]), jit_mul(uint64(7), crossed))
    return total0, jit_add(lane_dot(a[0], b[1]), lane_dot(a[1], b[0]))


@njit(cache=True, nogil=True)
def ext_matvec(start, stop, rows, vector, out):
    for i in range(start, stop):
        out[0, i] = lane_dot(rows[i], vector[0])
        out[1, i] = lane_dot(rows[i], vector[1])


@njit(cache=True, nogil=True)
def fold_columns(start, stop, rows, coefficients, out):
    """Columns [start, stop) of sum_i c_i row_i, 512 at a time so that the running sums stay in the first cache."""
    first = uint64(start)
    while first < uint64(stop):
        last = min(first + uint64(512), uint64(stop))
        for j in range(first, last):
            out[0, j] = uint64(0)
            out[1, j] = uint64(0)
        for i in range(uint64(rows.shape[0])):
            c0 = coefficients[0, i]
            c1 = coefficients[1, i]
            for j in range(first, last):
                value = rows[i, j]
                out[0, j] = lane_add(out[0, j], lane_mul(value, c0))
                out[1, j] = lane_add(out[1, j], lane_mul(value, c1))
        first = last


@njit(cache=True, nogil=True)
def ext_horner(start, stop, coefficients, points, out):
    count = uint64(coefficients.shape[1])
    for i in range(uint64(start), uint64(stop)):
        total0 = uint64(0)
        total1 = uint64(0)
        for j in range(count):
            k = count - uint64(1) - j
            total0 = jit_add(jit_mul(total0, points[i]), coefficients[0, k])
            total1 = jit_add(jit_mul(total1, points[i]), coefficients[1, k])
        out[0, i] = total0
        out[1, i] = total1


@njit(cache=True, nogil=True)
def eq_double(table, filled, r0, r1):
    """Entry i of the first `filled` becomes the pair ((1 - r) t, r t) at 2i and 2i + 1, from the end, in place."""
    for k in range(uint64(filled)):
        i = uint64(filled) - uint64(1) - k
        t0 = table[0, i]
        t1 = table[1, i]
        one0, one1 = jit_ext_mul(t0, t1, r0, r1)
        even = i << uint64(1)
        odd = even + uint64(1)
        table[0, even] = jit_sub(t0, one0)
        table[1, even] = jit_sub(t1, one1)
        table[0, odd] = one0
        table[1, odd] = one1
