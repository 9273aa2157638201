import numpy as np
import pytest

from collegium.algebra import NotCanonicalError, P, coset_ntt, mul
from collegium.codes import (
    Code,
    CodeSizeError,
    Domain,
    DomainTooSmallError,
    ErasureMaskError,
    NotACodewordError,
    TooManyErasuresError,
    TooManyErrorsError,
    WordShapeError,
    locate_errors,
    recover,
    vanishing_polynomial,
)

BOUND = 21
DOMAIN = Domain(7, 64)
KEY_BOUND = 5468
KEY_DOMAIN = Domain(7, 8192)


def random_field(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, P, shape, dtype=np.uint64)


def words(rows: int, bound: int = BOUND, domain: Domain = DOMAIN) -> tuple[np.ndarray, np.ndarray]:
    polynomials = random_field(rows, bound)
    return polynomials, coset_ntt(polynomials, domain.shift, domain.size)


def some(count: int, domain: Domain = DOMAIN, seed: int = 5) -> np.ndarray:
    mask = np.zeros(domain.size, np.bool_)
    mask[np.random.default_rng(seed).permutation(domain.size)[:count]] = True
    return mask


def with_errors(word: np.ndarray, mask: np.ndarray, seed: int = 7) -> np.ndarray:
    """Each masked symbol made another one, at random."""
    wrong = word.copy()
    shift = np.random.default_rng(seed).integers(1, P, word.shape, dtype=np.uint64)
    wrong[..., mask] = (wrong[..., mask].astype(object) + shift[..., mask].astype(object)) % P
    return wrong


def test_recovery_up_to_the_bound_and_one_past_it() -> None:
    polynomials, word = words(3)
    most = DOMAIN.size - BOUND
    for erasures in (0, 1, most - 1, most):
        erased = some(erasures)
        assert (recover(BOUND, DOMAIN, np.where(erased, np.uint64(0), word), erased) == polynomials).all()
    with pytest.raises(TooManyErasuresError) as refusal:
        recover(BOUND, DOMAIN, word, some(most + 1))
    assert refusal.value.values == {"erasures": most + 1, "erasures_max": most}


def test_what_is_erased_does_not_matter() -> None:
    polynomials, word = words(2)
    erased = some(20)
    garbage = word.copy()
    garbage[:, erased] = np.uint64(2**64 - 1)
    assert (recover(BOUND, DOMAIN, garbage, erased) == polynomials).all()
    assert locate_errors(BOUND, DOMAIN, garbage, erased).size == 0
    with pytest.raises(NotCanonicalError):
        recover(BOUND, DOMAIN, garbage, some(0))


def test_one_wrong_symbol_anywhere_is_no_codeword() -> None:
    _, word = words(2)
    for erased in (some(0), some(DOMAIN.size - BOUND - 1)):
        for position in np.flatnonzero(~erased):
            wrong = word.copy()
            wrong[1, position] ^= np.uint64(1)
            with pytest.raises(NotACodewordError) as refusal:
                recover(BOUND, DOMAIN, wrong, erased)
            assert refusal.value.values == {"row": 1, "degree_bound": BOUND}


def test_without_a_symbol_to_spare_every_word_is_a_codeword() -> None:
    _, word = words(1)
    erased = some(DOMAIN.size - BOUND)
    wrong = with_errors(word, ~erased)
    polynomial = recover(BOUND, DOMAIN, wrong, erased)
    assert (coset_ntt(polynomial, DOMAIN.shift, DOMAIN.size)[:, ~erased] == wrong[:, ~erased]).all()


def test_a_polynomial_of_the_degree_bound_is_refused() -> None:
    one_too_many = coset_ntt(random_field(1, BOUND + 1), DOMAIN.shift, DOMAIN.size)
    with pytest.raises(NotACodewordError):
        recover(BOUND, DOMAIN, one_too_many, some(10))


def test_absent_seats_of_a_committee() -> None:
    polynomials, word = words(6, KEY_BOUND, KEY_DOMAIN)
    absent = np.repeat(some(21, Domain(7, 64)), 8192 // 64)
    assert (recover(KEY_BOUND, KEY_DOMAIN, word, absent) == polynomials).all()
    with pytest.raises(TooManyErasuresError):
        recover(KEY_BOUND, KEY_DOMAIN, word, np.repeat(some(22, Domain(7, 64)), 8192 // 64))


def test_scattered_columns_of_a_committee() -> None:
    polynomials, word = words(2, KEY_BOUND, KEY_DOMAIN)
    assert (recover(KEY_BOUND, KEY_DOMAIN, word, some(2724, KEY_DOMAIN)) == polynomials).all()


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64])
def test_vanishing_polynomial_is_zero_exactly_there(count: int) -> None:
    erased = some(count)
    polynomial = vanishing_polynomial(DOMAIN, erased)
    assert polynomial.size == count + 1
    assert polynomial[-1] == 1
    values = coset_ntt(np.pad(polynomial, (0, 127 - count)), 7, 128)  # 7 <w_128> holds the domain's points
    points = Domain(7, 128).points()
    at = {int(x): int(y) for x, y in zip(points, values, strict=True)}
    assert [at[int(x)] == 0 for x in DOMAIN.points()] == erased.tolist()


def test_vanishing_polynomial_of_a_block_has_two_terms() -> None:
    erased = np.zeros(64, np.bool_)
    erased[16:32] = True
    polynomial = vanishing_polynomial(DOMAIN, erased)
    constant = pow(int(DOMAIN.points()[16]), 16, P)
    assert polynomial.tolist() == [P - constant] + [0] * 15 + [1]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("erasures", [0, 1, 2, 11, 40, 41, 42, 43])
def test_errors_up_to_the_bound_and_one_past_it(parts: int, erasures: int) -> None:
    _, both = words(parts)
    word = both if parts == 2 else both[0]
    most = (DOMAIN.size - BOUND - erasures) // 2
    order = np.random.default_rng(erasures).permutation(64)
    erased = np.zeros(64, np.bool_)
    erased[order[:erasures]] = True
    for count in {0, 1, most // 2, most} & set(range(most + 1)):
        errors = np.zeros(64, np.bool_)
        errors[order[erasures : erasures + count]] = True
        found = locate_errors(BOUND, DOMAIN, with_errors(word, errors), erased)
        assert found.dtype == np.int64
        assert found.tolist() == np.flatnonzero(errors).tolist()
    if DOMAIN.size - BOUND - erasures > 0:  # else every word is a codeword
        errors = np.zeros(64, np.bool_)
        errors[order[erasures : erasures + most + 1]] = True
        with pytest.raises(TooManyErrorsError) as refusal:
            locate_errors(BOUND, DOMAIN, with_errors(word, errors), erased)
        assert refusal.value.values == {"errors_max": most, "erasures": erasures}


def test_an_error_in_one_part_of_k_is_enough() -> None:
    _, word = words(2)
    wrong = word.copy()
    wrong[0, 3] ^= np.uint64(1)
    wrong[1, 60] ^= np.uint64(1)
    assert locate_errors(BOUND, DOMAIN, wrong, some(0)).tolist() == [3, 60]


def test_half_way_between_two_codewords_the_nearer_one_wins() -> None:
    bound = 22  # size - bound = 42 is even, so 43 places apart is least and 21 errors are most
    apart = some(43)
    difference = vanishing_polynomial(DOMAIN, ~apart)
    _, first = words(1, bound)
    other = coset_ntt(difference, DOMAIN.shift, DOMAIN.size)
    places = np.flatnonzero(apart)
    assert np.flatnonzero(other).tolist() == places.tolist()
    for taken, expected in [(21, places[:21]), (22, places[22:])]:
        word = first[0].copy()
        moved = places[:taken]
        word[moved] = (word[moved].astype(object) + other[moved].astype(object)) % P
        assert locate_errors(bound, DOMAIN, word, some(0)).tolist() == expected.tolist()


def test_a_lying_seat_beside_absent_ones() -> None:
    _, word = words(2, KEY_BOUND, KEY_DOMAIN)
    absent, lying = np.zeros(64, np.bool_), np.zeros(64, np.bool_)
    absent[:15], lying[20:23] = True, True  # 2 x 384 + 1920 = 2688 of 2724
    wrong = with_errors(word, np.repeat(lying, 128))
    assert locate_errors(KEY_BOUND, KEY_DOMAIN, wrong, np.repeat(absent, 128)).tolist() == list(range(2560, 2944))
    lying[23] = True
    with pytest.raises(TooManyErrorsError):
        locate_errors(KEY_BOUND, KEY_DOMAIN, with_errors(word, np.repeat(lying, 128)), np.repeat(absent, 128))


def test_errors_at_the_bound_of_the_committee() -> None:
    _, word = words(1, KEY_BOUND, KEY_DOMAIN)
    errors = some(1362, KEY_DOMAIN)
    found = locate_errors(KEY_BOUND, KEY_DOMAIN, with_errors(word[0], errors), some(0, KEY_DOMAIN))
    assert found.tolist() == np.flatnonzero(errors).tolist()


def test_one_combination_over_k_finds_the_errors_of_many_rows() -> None:
    _, rows = words(5)
    wrong = rows.copy()
    for row, position in enumerate((2, 9, 9, 40, 63)):
        wrong[row, position] ^= np.uint64(1)
    weights = random_field(2, 5, seed=11)
    word = np.zeros((2, 64), np.uint64)
    for part in (0, 1):
        terms = mul(wrong, np.repeat(weights[part][:, None], 64, axis=1))
        word[part] = terms.astype(object).sum(axis=0) % P
    assert locate_errors(BOUND, DOMAIN, word, some(0)).tolist() == [2, 9, 40, 63]


def test_masks_and_shapes_that_do_not_fit_are_refused() -> None:
    _, word = words(2)
    for erased in (np.zeros(63, np.bool_), np.zeros(64, np.uint8), [False] * 64):
        with pytest.raises(ErasureMaskError):
            recover(BOUND, DOMAIN, word, erased)  # type: ignore[arg-type]
        with pytest.raises(ErasureMaskError):
            locate_errors(BOUND, DOMAIN, word, erased)  # type: ignore[arg-type]
        with pytest.raises(ErasureMaskError):
            vanishing_polynomial(DOMAIN, erased)  # type: ignore[arg-type]
    with pytest.raises(WordShapeError):
        recover(BOUND, DOMAIN, word[0], some(0))
    with pytest.raises(WordShapeError):
        recover(BOUND, DOMAIN, word[:, :32], some(0))
    with pytest.raises(WordShapeError):
        locate_errors(BOUND, DOMAIN, np.concatenate([word, word]), some(0))


def test_bounds_that_do_not_fit_are_refused() -> None:
    _, word = words(1)
    with pytest.raises(CodeSizeError):
        recover(0, DOMAIN, word, some(0))
    with pytest.raises(DomainTooSmallError):
        recover(65, DOMAIN, word, some(0))
    with pytest.raises(TooManyErasuresError):
        locate_errors(BOUND, DOMAIN, word[0], some(DOMAIN.size - BOUND + 1))


def test_no_words_at_all_recover_to_none() -> None:
    assert recover(BOUND, DOMAIN, np.empty((0, 64), np.uint64), some(3)).shape == (0, BOUND)
    assert Code(16, 5).messages(np.empty((0, 21), np.uint64)).shape == (0, 16)
