"""The room's functions from their definitions, in Python integers: slow, plain, and what the fast ones must equal.

Decoding is by Lagrange and by Berlekamp and Welch, not by the methods of the fast functions.
"""

from collections.abc import Sequence

from collegium.algebra import P, bit_reversal, root_of_unity
from collegium.codes._domain import Domain

Vector = list[int]


def evaluate(coefficients: Sequence[int], x: int) -> int:
    """sum_i coefficients_i x^i."""
    return sum(c * pow(x, i, P) for i, c in enumerate(coefficients)) % P


def times(a: Sequence[int], b: Sequence[int]) -> Vector:
    """The product of two polynomials."""
    out = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] = (out[i + j] + x * y) % P
    return out


def points(shift: int, size: int) -> Vector:
    """shift w_size^bitrev(j)."""
    root = root_of_unity(size)
    return [shift * pow(root, int(exponent), P) % P for exponent in bit_reversal(size)]


def interpolate(at: Sequence[int], values: Sequence[int]) -> Vector:
    """The polynomial of degree below len(at) with these values: Lagrange."""
    out = [0] * len(at)
    for i, x in enumerate(at):
        numerator, denominator = [1], 1
        for other in (y for j, y in enumerate(at) if j != i):
            numerator = times(numerator, [-other % P, 1])
            denominator = denominator * (x - other) % P
        factor = values[i] * pow(denominator, -1, P) % P
        out = [(c + factor * n) % P for c, n in zip(out, numerator, strict=True)]
    return out


def coefficients(message: Sequence[int], randomness: Sequence[int]) -> Vector:
    """interpolate(message on H) + (X^k - 1) r(X)."""
    k = len(message)
    out = interpolate(points(1, k), message) + [0] * len(randomness)
    if randomness:
        hidden = times([P - 1] + [0] * (k - 1) + [1], randomness)
        out = [(c + h) % P for c, h in zip(out, hidden, strict=True)]
    return out


def encode(polynomial: Sequence[int], domain: Domain) -> Vector:
    """The values at every point of the domain."""
    return [evaluate(polynomial, x) for x in points(domain.shift, domain.size)]


def vanishing_polynomial(domain: Domain, erased: Sequence[bool]) -> Vector:
    """prod (X - x) over the erased points."""
    out = [1]
    for x, gone in zip(points(domain.shift, domain.size), erased, strict=True):
        if gone:
            out = times(out, [-x % P, 1])
    return out


def solve(matrix: list[Vector], right: Vector) -> Vector | None:
    """Some solution of a linear system, or None: Gauss."""
    width = len(matrix[0])
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    pivots: list[int] = []
    for column in range(width):
        pivot = next((i for i in range(len(pivots), len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        top = len(pivots)
        rows[top], rows[pivot] = rows[pivot], rows[top]
        factor = pow(rows[top][column], -1, P)
        rows[top] = [x * factor % P for x in rows[top]]
        for i, row in enumerate(rows):
            if i != top and row[column]:
                rows[i] = [(x - row[column] * y) % P for x, y in zip(row, rows[top], strict=True)]
        pivots.append(column)
    if any(row[width] for row in rows[len(pivots) :]):
        return None
    solution = [0] * width
    for row, column in zip(rows, pivots, strict=False):
        solution[column] = row[width]
    return solution


def locate_errors(degree_bound: int, domain: Domain, word: Sequence[int], erased: Sequence[bool]) -> Vector | None:
    """Positions of the errors, or None where no codeword is near enough: Berlekamp and Welch.

    With t errors allowed: N of degree below degree_bound + t and a monic V of degree t with N(x) = y V(x) wherever a
    value y is left; every solution has N / V equal to the polynomial.
    """
    at = points(domain.shift, domain.size)
    kept = [j for j in range(domain.size) if not erased[j]]
    allowed = (len(kept) - degree_bound) // 2
    matrix, right = [], []
    for j in kept:
        row = [pow(at[j], i, P) for i in range(degree_bound + allowed)]
        row += [-word[j] * pow(at[j], i, P) % P for i in range(allowed)]
        matrix.append(row)
        right.append(word[j] * pow(at[j], allowed, P) % P)
    solution = solve(matrix, right)
    if solution is None:
        return None
    locator = [*solution[degree_bound + allowed :], 1]
    good = [j for j in kept if evaluate(locator, at[j])][:degree_bound]
    polynomial = interpolate([at[j] for j in good], [word[j] for j in good])
    errors = [j for j in kept if evaluate(polynomial, at[j]) != word[j]]
    return errors if len(errors) <= allowed else None
