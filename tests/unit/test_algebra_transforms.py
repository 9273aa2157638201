import os
import threading

import numpy as np
import pytest

from collegium.algebra import (
    TWO_ADICITY,
    FieldArrayError,
    NoInverseError,
    NotCanonicalError,
    P,
    TransformSizeError,
    bit_reversal,
    coset_intt,
    coset_ntt,
    intt,
    negacyclic_mul,
    negacyclic_ntt,
    ntt,
    root_of_unity,
)


def random_rows(rows: int, size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, P, (rows, size), dtype=np.uint64)


def test_roots_of_unity_are_primitive_and_nested() -> None:
    for log in range(TWO_ADICITY + 1):
        root = root_of_unity(1 << log)
        assert pow(root, 1 << log, P) == 1
        assert log == 0 or pow(root, 1 << (log - 1), P) == P - 1
        assert log == 0 or root * root % P == root_of_unity(1 << (log - 1))


@pytest.mark.parametrize("order", [0, -1, 3, 12, 2 << TWO_ADICITY])
def test_an_order_without_a_root_is_refused(order: int) -> None:
    with pytest.raises(TransformSizeError):
        root_of_unity(order)


def test_bit_reversal_is_an_involution() -> None:
    assert bit_reversal(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    order = bit_reversal(1024)
    assert (order[order] == np.arange(1024)).all()


def test_an_aligned_range_of_positions_is_a_coset() -> None:
    shift, size, block, length = 49, 64, 3, 8
    polynomial = random_rows(1, length)[0]
    whole = coset_ntt(polynomial, shift, size)
    first = shift * pow(root_of_unity(size), int(bit_reversal(size // length)[block]), P) % P
    assert (whole[block * length : (block + 1) * length] == coset_ntt(polynomial, first, length)).all()


@pytest.mark.parametrize("size", [1, 2, 4, 8, 4096, 8192])
def test_transforms_round_trip(size: int) -> None:
    rows = random_rows(3, size)
    assert (intt(ntt(rows)) == rows).all()
    assert (coset_intt(coset_ntt(rows, 7, size), 7) == rows).all()


def test_the_argument_is_left_as_it_was() -> None:
    rows = random_rows(2, 8)
    before = rows.copy()
    intt(ntt(rows))
    negacyclic_mul(rows, rows)
    assert (rows == before).all()


def test_sizes_that_are_no_power_of_two_are_refused() -> None:
    with pytest.raises(TransformSizeError):
        ntt(random_rows(1, 12))
    with pytest.raises(TransformSizeError):
        intt(np.empty((2, 0), np.uint64))
    with pytest.raises(TransformSizeError):
        coset_ntt(random_rows(1, 4), 7, 6)


def test_more_coefficients_than_points_are_refused() -> None:
    assert coset_ntt(random_rows(1, 8), 7, 8).shape == (1, 8)
    with pytest.raises(TransformSizeError) as refusal:
        coset_ntt(random_rows(1, 9), 7, 8)
    assert refusal.value.values == {"size": 8, "coefficients": 9}


def test_a_shift_outside_the_group_is_refused() -> None:
    with pytest.raises(NoInverseError):
        coset_ntt(random_rows(1, 8), 0, 8)
    with pytest.raises(NotCanonicalError):
        coset_ntt(random_rows(1, 8), P + 7, 8)


def test_wrong_shapes_and_values_are_refused() -> None:
    with pytest.raises(FieldArrayError):
        ntt(np.zeros((2, 2, 2), np.uint64))
    with pytest.raises(FieldArrayError):
        ntt(np.uint64(3))  # type: ignore[arg-type]
    with pytest.raises(NotCanonicalError):
        ntt(np.full(4, P, np.uint64))
    with pytest.raises(FieldArrayError, match="sizes differ"):
        negacyclic_mul(random_rows(1, 8), random_rows(1, 4))


def test_x_to_the_n_is_minus_one() -> None:
    x = np.zeros(4096, np.uint64)
    x[1] = 1
    a = random_rows(1, 4096)[0]
    turned = np.roll(a, 1)
    turned[0] = P - int(turned[0])
    assert (negacyclic_mul(a, x) == turned).all()


def test_many_rows_equal_one_row_at_a_time() -> None:
    rows = random_rows(250, 4096)
    together = negacyclic_ntt(rows)
    for index in (0, 1, 124, 125, 249):
        assert (together[index] == negacyclic_ntt(rows[index])).all()


def test_python_threads_may_transform_at_once() -> None:
    rows = random_rows(32, 4096)
    expected = ntt(rows)
    agree: list[bool] = []
    threads = [threading.Thread(target=lambda: agree.append(bool((ntt(rows) == expected).all()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agree == [True] * 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12; the point of the test
def test_a_forked_child_may_transform() -> None:
    rows = random_rows(32, 4096)
    expected = ntt(rows)
    child = os.fork()
    if child == 0:
        os._exit(0 if (ntt(rows) == expected).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
