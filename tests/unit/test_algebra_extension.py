import numpy as np
import pytest

from collegium.algebra import (
    NON_RESIDUE,
    FieldArrayError,
    NoInverseError,
    NotCanonicalError,
    P,
    eq_table,
    evaluate_ext,
    ext_coset_ntt,
    ext_dot,
    ext_inverse,
    ext_inverse_array,
    ext_matvec,
    ext_mul,
    ext_mul_array,
    ext_power,
    ext_powers,
    ext_scale,
    fold,
    multilinear,
)

A = np.array([[1, 2, P - 1], [0, 5, 9]], np.uint64)


def test_seven_is_no_square() -> None:
    assert pow(NON_RESIDUE, (P - 1) // 2, P) == P - 1


def test_x_squared_is_seven() -> None:
    assert ext_mul((0, 1), (0, 1)) == (7, 0)
    assert ext_power((0, 1), 4) == (49, 0)
    assert ext_power((3, 5), P * P - 1) == (1, 0)


def test_inverses_exist_for_all_but_zero() -> None:
    for value in [(1, 0), (0, 1), (P - 1, P - 1), (12345, 678910)]:
        assert ext_mul(value, ext_inverse(value)) == (1, 0)
        assert ext_power(value, -3) == ext_inverse(ext_power(value, 3))
    with pytest.raises(NoInverseError):
        ext_inverse((0, 0))
    with pytest.raises(NoInverseError):
        ext_power((0, 0), -1)


def test_batch_inverse_refuses_a_zero() -> None:
    assert ext_mul_array(A, ext_inverse_array(A)).tolist() == [[1, 1, 1], [0, 0, 0]]
    with_zero = A.copy()
    with_zero[:, 1] = 0
    with pytest.raises(NoInverseError) as refusal:
        ext_inverse_array(with_zero)
    assert refusal.value.values == {"index": 1}


@pytest.mark.parametrize("value", [(P, 0), (0, -1), (1,), [1, 2], 5, (1.0, 2)])
def test_a_scalar_that_is_not_in_k_is_refused(value: object) -> None:
    with pytest.raises(NotCanonicalError):
        ext_mul(value, (1, 0))  # type: ignore[arg-type]


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(FieldArrayError):
        ext_mul_array(A, A[:, :2])
    with pytest.raises(FieldArrayError):
        ext_scale(A[:1], (1, 0))
    with pytest.raises(FieldArrayError):
        ext_matvec(A, A[:, :2])
    with pytest.raises(FieldArrayError):
        fold(A, A)


def test_sums_over_rows_and_columns() -> None:
    rows = np.array([[1, 2, 3], [4, 5, 6]], np.uint64)
    assert fold(rows, np.array([[1, 0], [0, 10]], np.uint64)).tolist() == [[1, 2, 3], [40, 50, 60]]
    assert ext_matvec(rows, np.array([[1, 1, 1], [0, 0, 10]], np.uint64)).tolist() == [[6, 15], [30, 60]]
    assert ext_dot(A, ext_scale(A, (0, 0))) == (0, 0)


def test_fold_over_more_columns_than_one_block() -> None:
    rows = np.random.default_rng(3).integers(0, P, (40, 3000), dtype=np.uint64)
    weights = np.random.default_rng(4).integers(0, P, (2, 40), dtype=np.uint64)
    folded = fold(rows, weights)
    for column in (0, 511, 512, 1499, 1500, 2999):
        for part in (0, 1):
            expected = sum(int(w) * int(v) for w, v in zip(weights[part], rows[:, column], strict=True)) % P
            assert int(folded[part, column]) == expected


def test_evaluation_at_a_point_of_k() -> None:
    polynomial = np.array([5, 0, 1], np.uint64)
    assert evaluate_ext(polynomial, (0, 1)) == (12, 0)
    rows = evaluate_ext(np.stack([polynomial, polynomial]), (0, 1))
    assert isinstance(rows, np.ndarray)
    assert rows.tolist() == [[12, 12], [0, 0]]
    assert ext_powers((0, 1), 4).tolist() == [[1, 0, 7, 0], [0, 1, 0, 7]]


def test_a_polynomial_over_k_is_transformed_part_by_part() -> None:
    assert ext_coset_ntt(A, 7, 4).shape == (2, 4)
    with pytest.raises(FieldArrayError):
        ext_coset_ntt(A[:1], 7, 4)


def test_the_first_variable_is_the_most_significant_bit() -> None:
    one, zero = (1, 0), (0, 0)
    values = np.arange(8, dtype=np.uint64)
    assert multilinear(values, [one, zero, zero]) == (4, 0)
    assert multilinear(values, [zero, zero, one]) == (1, 0)
    assert eq_table([one, one, zero]).tolist() == [[0, 0, 0, 0, 0, 0, 1, 0], [0] * 8]
    assert eq_table([]).tolist() == [[1], [0]]
    assert multilinear(values[5:6], []) == (5, 0)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(FieldArrayError) as refusal:
        multilinear(np.zeros(7, np.uint64), [(1, 0)] * 3)
    assert refusal.value.values == {"values": 7, "variables": 3}
    with pytest.raises(NotCanonicalError):
        eq_table([(P, 0)])
