"""The loops of the argument compute what their names say, element by element, in Python integers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from collegium.algebra import Ext, FieldArray, P, ext_add, ext_mul, ext_sub, lane_add, lane_mul, lane_sub
from collegium.codes import Code, Domain
from collegium.proofs import ProofCode, _kernels, _prove

EDGES = [0, 1, 2, 2**32 - 1, 2**32, 2**61, 2**63, P - 2**32, P - 8, P - 1]
elements = st.one_of(st.integers(0, P - 1), st.sampled_from(EDGES))
seeds = st.integers(0, 2**32 - 1)


def field(seed: int, *shape: int) -> FieldArray:
    """Random elements, edges among them."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, P, shape, dtype=np.uint64)
    edges = generator.choice(np.array(EDGES, np.uint64), shape)
    return np.where(generator.random(shape) < 0.3, edges, drawn)


def ext(values: FieldArray, at: int) -> Ext:
    return int(values[0, at]), int(values[1, at])


@njit
def _lanes(a, b, total, difference, product, seven):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        total[i] = lane_add(a[i], b[i])
        difference[i] = lane_sub(a[i], b[i])
        product[i] = lane_mul(a[i], b[i])
        seven[i] = _kernels._lane_seven(a[i])


@given(st.lists(st.tuples(elements, elements), min_size=1, max_size=40))
def test_lanes_are_the_field(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, np.uint64) for side in zip(*pairs, strict=True))
    out = [np.empty_like(a) for _ in range(4)]
    _lanes(a, b, *out)
    for found, expected in zip(
        out,
        (
            [(x + y) % P for x, y in pairs],
            [(x - y) % P for x, y in pairs],
            [x * y % P for x, y in pairs],
            [7 * x % P for x, _ in pairs],
        ),
        strict=True,
    ):
        assert found.tolist() == expected


@given(rows=st.integers(1, 19), openings=st.integers(1, 2), seed=seeds)
def test_columns_are_the_codewords(rows: int, openings: int, seed: int) -> None:
    code = ProofCode(2048, openings)
    messages, pads = field(seed, rows, 2048), field(seed + 1, rows, code.randomness_len)
    columns = np.zeros((code.domain.size, rows + 3), np.uint64)
    _prove._encode(code, messages, pads, columns, 2)
    expected = code.code.encode(code.code.coefficients(messages, pads), code.domain)
    np.testing.assert_array_equal(columns[:, 2:-1], expected.T)
    assert not columns[:, :2].any()
    assert not columns[:, -1].any()


def test_pads_longer_than_messages_are_reduced() -> None:
    messages, pads = field(3, 9, 1024), field(4, 9, 1500)
    trees = _prove._tables(ProofCode(1024))
    columns = np.zeros((4096, 9), np.uint64)
    _kernels.encode_columns(0, 2, messages, pads, *trees, columns, 0)
    code = Code(1024, 1500)
    np.testing.assert_array_equal(columns.T, code.encode(code.coefficients(messages, pads), Domain(7, 4096)))


@given(rows=st.integers(1, 9), width=st.integers(1, 600), seed=seeds)
def test_folds_and_products_of_rows(rows: int, width: int, seed: int) -> None:
    matrix, weights = field(seed, rows, width), field(seed + 1, 2, rows)
    first = np.random.default_rng(seed).integers(0, rows, rows)
    second = np.random.default_rng(seed + 2).integers(0, rows, rows)
    folded, products = np.zeros((2, width), np.uint64), np.zeros((2, width), np.uint64)
    _kernels.fold_rows(0, width, matrix, first, weights, folded)
    _kernels.fold_products(0, width, matrix, first, second, weights, products)
    for j in {0, width // 2, width - 1}:
        for part in range(2):
            terms = [int(weights[part, i]) * int(matrix[first[i], j]) for i in range(rows)]
            assert int(folded[part, j]) == sum(terms) % P
            both = [term * int(matrix[second[i], j]) for i, term in enumerate(terms)]
            assert int(products[part, j]) == sum(both) % P


@given(count=st.integers(1, 40), seed=seeds)
def test_runs_of_lookups_equal_single_lookups(count: int, seed: int) -> None:
    columns, weights = field(seed, 3, 4 * count + 5), field(seed + 1, 2, count)
    alphas, gammas = field(seed + 2, 2, 2), np.zeros((2, 2), np.uint64)
    starts = np.array([2, 2 + count, 3 + 2 * count, 4 + 3 * count])
    rows = np.stack([starts[0] + np.arange(count), starts[1] + np.arange(count)], axis=1)
    inverses = np.stack([starts[2] + np.arange(count), starts[3] + np.arange(count)], axis=1)
    run, single = np.zeros((2, 3), np.uint64), np.zeros((2, 3), np.uint64)
    _kernels.lookup_run_at(0, 3, columns, starts, count, np.ascontiguousarray(alphas[:, 1]), weights, run)
    _kernels.lookups_at(0, 3, columns, rows, rows, inverses, 1, alphas, gammas, weights, single)
    np.testing.assert_array_equal(run, single)
    for point in range(3):
        total: Ext = (0, 0)
        for i in range(count):
            a, b = (ext_sub(ext(alphas, 1), (int(columns[point, row]), 0)) for row in rows[i])
            h = int(columns[point, inverses[i, 0]]), int(columns[point, inverses[i, 1]])
            relation = ext_sub(ext_mul(h, ext_mul(a, b)), ext_add(a, b))
            total = ext_add(total, ext_mul(relation, ext(weights, i)))
        assert ext(run, point) == total


@given(count=st.integers(1, 40), factors=st.integers(1, 3), seed=seeds)
def test_runs_of_products_and_terms(count: int, factors: int, seed: int) -> None:
    columns, weights = field(seed, 2, 4 * count), field(seed + 1, 2, count)
    places = np.array([0, count, 2 * count])
    products, terms = np.zeros((2, 2), np.uint64), np.zeros((2, 2), np.uint64)
    _kernels.products_run_at(0, 2, columns, places, factors, count, weights, products)
    _kernels.terms_at(0, 2, columns, count, terms)
    for point, row in enumerate(columns.tolist()):
        total: Ext = (0, 0)
        sums: Ext = (0, 0)
        for i in range(count):
            product = 1
            for f in range(factors):
                product = product * row[f * count + i] % P
            total = ext_add(total, ext_mul((product, 0), ext(weights, i)))
            slots, value = (row[i], row[count + i]), (row[2 * count + i], row[3 * count + i])
            sums = ext_add(sums, ext_mul(slots, value))
        assert ext(products, point) == total
        assert ext(terms, point) == sums


@given(size=st.integers(1, 70), seed=seeds)
def test_products_over_the_extension(size: int, seed: int) -> None:
    a, b, row = field(seed, 2, size), field(seed + 1, 2, size), field(seed + 2, size)
    total, scaled = field(seed + 3, 2, size), field(seed + 4, 2, size)
    before, scaled_before = total.copy(), scaled.copy()
    _kernels.multiply_onto(0, size, a, b, total)
    _kernels.scale_row_onto(0, size, a, row, scaled)
    outer = np.empty((2, size * size), np.uint64)
    _kernels.outer_product(a, b, outer)
    points, values = row[:5].copy(), np.empty((2, min(5, size)), np.uint64)
    _kernels.horner_at(0, len(points), a, points, values)
    for j in range(size):
        assert ext(total, j) == ext_add(ext(before, j), ext_mul(ext(a, j), ext(b, j)))
        assert ext(scaled, j) == ext_add(ext(scaled_before, j), ext_mul(ext(a, j), (int(row[j]), 0)))
        assert ext(outer, (size - 1) * size + j) == ext_mul(ext(a, size - 1), ext(b, j))
    for i, x in enumerate(points.tolist()):
        for part in range(2):
            assert int(values[part, i]) == sum(int(c) * pow(x, n, P) for n, c in enumerate(a[part])) % P


@given(rows=st.integers(1, 4), size=st.integers(1, 300), seed=seeds)
def test_values_of_rows(rows: int, size: int, seed: int) -> None:
    messages, pads = field(seed, rows, size), field(seed + 1, rows, 3)
    at_message, at_pad = field(seed + 2, 2, size), field(seed + 3, 2, 3)
    out = np.empty((2, rows), np.uint64)
    _kernels.evaluate_rows(0, rows, messages, pads, at_message, at_pad, out)
    for i in range(rows):
        for part in range(2):
            total = sum(int(x) * int(y) for x, y in zip(messages[i], at_message[part], strict=True))
            total += sum(int(x) * int(y) for x, y in zip(pads[i], at_pad[part], strict=True))
            assert int(out[part, i]) == total % P
