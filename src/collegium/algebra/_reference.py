"""The room's functions from their definitions, in Python integers: slow, plain, and what the kernels must equal.

Vectors are lists of integers, elements of K pairs. Names are those of the public functions.
"""

from collections.abc import Sequence

from collegium.algebra._arrays import Ext, P

Vector = list[int]


def reverse_bits(value: int, bits: int) -> int:
    """The lowest `bits` bits of `value`, read backwards."""
    return int(format(value, f"0{bits}b")[::-1], 2) if bits else 0


def root_of_unity(order: int) -> int:
    """7^((P-1)/order)."""
    return pow(7, (P - 1) // order, P)


def coset(shift: int, size: int) -> Vector:
    """shift w_size^bitrev(j) for j = 0, ..., size - 1."""
    root, bits = root_of_unity(size), size.bit_length() - 1
    return [shift * pow(root, reverse_bits(j, bits), P) % P for j in range(size)]


def evaluate(coefficients: Sequence[int], x: int) -> int:
    """sum_i coefficients_i x^i."""
    return sum(c * pow(x, i, P) for i, c in enumerate(coefficients)) % P


def coset_ntt(coefficients: Sequence[int], shift: int, size: int) -> Vector:
    """The polynomial at every point of the coset."""
    return [evaluate(coefficients, x) for x in coset(shift, size)]


def negacyclic_ntt(a: Sequence[int]) -> Vector:
    """The polynomial at the roots of X^n + 1, at the odd powers of w_2n."""
    n = len(a)
    root, bits = root_of_unity(2 * n), n.bit_length() - 1
    return [evaluate(a, pow(root, 2 * reverse_bits(j, bits) + 1, P)) for j in range(n)]


def negacyclic_mul(a: Sequence[int], b: Sequence[int]) -> Vector:
    """The product by hand, X^n replaced by -1."""
    n = len(a)
    out = [0] * n
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            sign = 1 if i + j < n else -1
            out[(i + j) % n] = (out[(i + j) % n] + sign * x * y) % P
    return out


def ext_add(a: Ext, b: Ext) -> Ext:
    """a + b."""
    return (a[0] + b[0]) % P, (a[1] + b[1]) % P


def ext_mul(a: Ext, b: Ext) -> Ext:
    """a b, x^2 replaced by 7."""
    return (a[0] * b[0] + 7 * a[1] * b[1]) % P, (a[0] * b[1] + a[1] * b[0]) % P


def ext_power(a: Ext, exponent: int) -> Ext:
    """a times itself, exponent times."""
    out = (1, 0)
    for _ in range(exponent):
        out = ext_mul(out, a)
    return out


def ext_dot(a: Sequence[Ext], b: Sequence[Ext]) -> Ext:
    """sum_j a_j b_j."""
    total = (0, 0)
    for x, y in zip(a, b, strict=True):
        total = ext_add(total, ext_mul(x, y))
    return total


def fold(rows: Sequence[Sequence[int]], coefficients: Sequence[Ext]) -> list[Ext]:
    """sum_i coefficients_i row_i."""
    return [ext_dot(coefficients, [(value, 0) for value in column]) for column in zip(*rows, strict=True)]


def ext_evaluate(coefficients: Sequence[Ext], point: Ext) -> Ext:
    """sum_i coefficients_i point^i."""
    return ext_dot(coefficients, [ext_power(point, i) for i in range(len(coefficients))])


def eq(index: int, point: Sequence[Ext]) -> Ext:
    """prod_l (point_l if bit l of index else 1 - point_l), bit 0 the most significant of len(point)."""
    out = (1, 0)
    for position, (r0, r1) in enumerate(point):
        chosen = index >> (len(point) - 1 - position) & 1
        out = ext_mul(out, (r0, r1) if chosen else ((1 - r0) % P, -r1 % P))
    return out


def multilinear(values: Sequence[int], point: Sequence[Ext]) -> Ext:
    """sum_i values_i eq(i, point)."""
    return ext_dot([(value, 0) for value in values], [eq(i, point) for i in range(len(values))])
