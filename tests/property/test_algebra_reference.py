"""The compiled kernels equal the plain reference, and both obey the laws they stand for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collegium import algebra
from collegium.algebra import Ext, P, _reference

EDGES = [0, 1, 2**32 - 1, 2**32, 2**63, P - 2**32, P - 1]
elements = st.one_of(st.integers(0, P - 1), st.sampled_from(EDGES))
non_zero = elements.filter(bool)
scalars = st.tuples(elements, elements)
vectors = st.lists(elements, min_size=1, max_size=40)


def field(values: object) -> np.ndarray:
    return np.array(values, np.uint64)


def ext(values: list[Ext]) -> np.ndarray:
    return field(values).reshape(-1, 2).T.copy()


def pairs(array: np.ndarray) -> list[Ext]:
    return [(int(a0), int(a1)) for a0, a1 in array.T]


def powers_of_two(log_max: int) -> st.SearchStrategy[list[int]]:
    return st.integers(0, log_max).flatmap(lambda log: st.lists(elements, min_size=1 << log, max_size=1 << log))


@given(st.lists(st.tuples(elements, elements), min_size=1, max_size=40), elements)
def test_element_operations(operands: list[Ext], c: int) -> None:
    a, b = ext(operands)
    assert algebra.add(a, b).tolist() == [(x + y) % P for x, y in operands]
    assert algebra.sub(a, b).tolist() == [(x - y) % P for x, y in operands]
    assert algebra.mul(a, b).tolist() == [x * y % P for x, y in operands]
    assert algebra.scale(a, c).tolist() == [x * c % P for x, _ in operands]
    assert algebra.neg(a).tolist() == [-x % P for x, _ in operands]
    assert algebra.dot(a, b) == sum(x * y for x, y in operands) % P


@given(st.lists(non_zero, max_size=40))
def test_inverse(values: list[int]) -> None:
    assert algebra.inverse(field(values)).tolist() == [pow(x, -1, P) for x in values]


@given(elements, st.integers(0, 50), st.integers(0, 2**70))
def test_powers(x: int, count: int, exponent: int) -> None:
    assert algebra.powers(x, count).tolist() == [pow(x, i, P) for i in range(count)]
    assert algebra.power(x, exponent) == pow(x, exponent, P)


@given(vectors)
def test_bytes_round_trip(values: list[int]) -> None:
    assert algebra.from_bytes(algebra.to_bytes(field(values)), len(values)).tolist() == values


@given(st.lists(st.integers(-algebra.SIGNED_MAX, algebra.SIGNED_MAX), max_size=40))
def test_signed_round_trip(values: list[int]) -> None:
    encoded = algebra.encode_signed(np.array(values, np.int64))
    assert encoded.tolist() == [x % P for x in values]
    assert algebra.decode_signed(encoded).tolist() == values


@given(powers_of_two(6), non_zero, st.integers(0, 2))
def test_coset_transform(coefficients: list[int], shift: int, log_blowup: int) -> None:
    size = len(coefficients) << log_blowup
    values = algebra.coset_ntt(field(coefficients), shift, size)
    assert values.tolist() == _reference.coset_ntt(coefficients, shift, size)
    assert algebra.coset_intt(values, shift).tolist() == coefficients + [0] * (size - len(coefficients))


@given(powers_of_two(6))
def test_cyclic_and_negacyclic_transform(a: list[int]) -> None:
    assert algebra.ntt(field(a)).tolist() == _reference.coset_ntt(a, 1, len(a))
    assert algebra.intt(algebra.ntt(field(a))).tolist() == a
    assert algebra.negacyclic_ntt(field(a)).tolist() == _reference.negacyclic_ntt(a)
    assert algebra.negacyclic_intt(algebra.negacyclic_ntt(field(a))).tolist() == a


@given(st.integers(0, 5).flatmap(lambda log: st.lists(scalars, min_size=1 << log, max_size=1 << log)))
def test_negacyclic_product(operands: list[Ext]) -> None:
    a, b = ext(operands)
    assert algebra.negacyclic_mul(a, b).tolist() == _reference.negacyclic_mul(a.tolist(), b.tolist())


@given(vectors, elements, scalars)
def test_evaluation(coefficients: list[int], x: int, z: Ext) -> None:
    assert algebra.evaluate(field(coefficients), x) == _reference.evaluate(coefficients, x)
    in_k = [(c, 0) for c in coefficients]
    assert algebra.evaluate_ext(field(coefficients), z) == _reference.ext_evaluate(in_k, z)


@given(st.lists(st.tuples(scalars, scalars), min_size=1, max_size=20), st.lists(elements, max_size=5))
def test_extension(operands: list[tuple[Ext, Ext]], points: list[int]) -> None:
    left, right = [x for x, _ in operands], [y for _, y in operands]
    a, b = ext(left), ext(right)
    products = [_reference.ext_mul(x, y) for x, y in operands]
    assert pairs(algebra.ext_mul_array(a, b)) == products
    assert [algebra.ext_mul(x, y) for x, y in operands] == products
    assert pairs(algebra.ext_scale(a, right[0])) == [_reference.ext_mul(x, right[0]) for x in left]
    assert algebra.ext_dot(a, b) == _reference.ext_dot(left, right)
    assert algebra.ext_add(left[0], right[0]) == _reference.ext_add(left[0], right[0])
    assert algebra.ext_add(algebra.ext_sub(left[0], right[0]), right[0]) == left[0]
    assert pairs(algebra.ext_evaluate(a, field(points))) == [_reference.ext_evaluate(left, (x, 0)) for x in points]


@given(st.lists(scalars.filter(any), min_size=1, max_size=20), st.integers(0, 20))
def test_extension_inverse_and_powers(values: list[Ext], exponent: int) -> None:
    inverses = pairs(algebra.ext_inverse_array(ext(values)))
    assert inverses == [algebra.ext_inverse(x) for x in values]
    assert [_reference.ext_mul(x, y) for x, y in zip(values, inverses, strict=True)] == [(1, 0)] * len(values)
    power = _reference.ext_power(values[0], exponent)
    assert algebra.ext_power(values[0], exponent) == power
    assert pairs(algebra.ext_powers(values[0], exponent + 1))[-1] == power


@given(st.data(), st.integers(1, 6), st.integers(1, 12))
def test_fold_and_matvec(data: st.DataObject, rows: int, columns: int) -> None:
    row = st.lists(elements, min_size=columns, max_size=columns)
    matrix = data.draw(st.lists(row, min_size=rows, max_size=rows))
    down = data.draw(st.lists(scalars, min_size=rows, max_size=rows))
    along = data.draw(st.lists(scalars, min_size=columns, max_size=columns))
    assert pairs(algebra.fold(field(matrix), ext(down))) == _reference.fold(matrix, down)
    transposed = list(zip(*matrix, strict=True))
    assert pairs(algebra.ext_matvec(field(matrix), ext(along))) == _reference.fold(transposed, along)


@given(
    st.integers(0, 5).flatmap(
        lambda v: st.tuples(
            st.lists(elements, min_size=1 << v, max_size=1 << v), st.lists(scalars, min_size=v, max_size=v)
        )
    )
)
def test_multilinear(case: tuple[list[int], list[Ext]]) -> None:
    values, point = case
    table = algebra.eq_table(point)
    assert pairs(table) == [_reference.eq(i, point) for i in range(len(values))]
    assert algebra.multilinear(field(values), point) == _reference.multilinear(values, point)
