import numpy as np
import pytest

from collegium.algebra import FieldArrayError, NotCanonicalError, P, evaluate, root_of_unity
from collegium.codes import Code, CodeSizeError, Domain, DomainError, DomainTooSmallError, WordShapeError
from collegium.codes import _reference as reference

COMMITTEE = Domain(shift=7, size=8192)
AUDIT = Domain(shift=49, size=16384)


def random_field(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, P, shape, dtype=np.uint64)


def test_points_follow_the_order_of_positions() -> None:
    domain = Domain(7, 8)
    root = root_of_unity(8)
    assert domain.points().tolist() == [7 * pow(root, e, P) % P for e in (0, 4, 2, 6, 1, 5, 3, 7)]
    polynomial = random_field(5)
    word = Code(1, 4).encode(polynomial.reshape(1, 5), domain)[0]
    assert word.tolist() == [evaluate(polynomial, int(x)) for x in domain.points()]


def test_an_aligned_block_of_positions_is_a_coset() -> None:
    points = COMMITTEE.points()
    for start, length in [(0, 128), (8064, 128), (4096, 4096), (1, 1)]:
        assert len({pow(int(x), length, P) for x in points[start : start + length]}) == 1


@pytest.mark.parametrize("size", [0, -8, 12, 1 << 33])
def test_a_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(DomainError):
        Domain(7, size)


@pytest.mark.parametrize("shift", [0, -7, P, P + 7])
def test_a_shift_outside_the_field_is_refused(shift: int) -> None:
    with pytest.raises(DomainError):
        Domain(shift, 8)


def test_the_subgroup_itself_is_refused() -> None:
    root = root_of_unity(16)
    assert Domain(root, 8).size == 8
    for shift in (1, P - 1, root * root % P):
        with pytest.raises(DomainError) as refusal:
            Domain(shift, 8)
        assert refusal.value.values == {"shift": shift, "size": 8}


def test_a_small_domain_among_the_message_points_is_refused() -> None:
    inside, outside = Domain(root_of_unity(16), 8), Domain(root_of_unity(32), 8)
    polynomials = random_field(1, 16)
    with pytest.raises(DomainError):
        Code(16, 0).encode(polynomials, inside)
    with pytest.raises(DomainTooSmallError):
        Code(16, 0).encode(polynomials, outside)


def test_the_domains_of_the_key_are_disjoint_from_the_messages_and_each_other() -> None:
    on_h = {pow(root_of_unity(1024), i, P) for i in range(1024)}
    committee, audit = set(COMMITTEE.points().tolist()), set(AUDIT.points().tolist())
    assert len(on_h | committee | audit) == 1024 + 8192 + 16384


def test_messages_come_back_at_the_size_of_the_key() -> None:
    code = Code(1024, 4444)
    messages, randomness = random_field(6, 1024), random_field(6, 4444, seed=2)
    polynomials = code.coefficients(messages, randomness)
    assert polynomials.shape == (6, code.degree_bound) == (6, 5468)
    assert (code.messages(polynomials) == messages).all()
    for domain in (COMMITTEE, AUDIT):
        words = code.encode(polynomials, domain)
        for position in (0, 1, domain.size - 1):
            assert int(words[5, position]) == evaluate(polynomials[5], int(domain.points()[position]))


@pytest.mark.parametrize(("k", "t"), [(0, 4), (3, 4), (-4, 4), (1 << 33, 4), (4, -1)])
def test_lengths_without_a_code_are_refused(k: int, t: int) -> None:
    with pytest.raises(CodeSizeError):
        Code(k, t)


def test_shapes_that_do_not_fit_are_refused() -> None:
    code = Code(4, 3)
    assert code.coefficients(random_field(2, 4), random_field(2, 3)).shape == (2, 7)
    for messages, randomness in [((2, 5), (2, 3)), ((2, 4), (2, 4)), ((2, 4), (1, 3)), ((4,), (3,))]:
        with pytest.raises(WordShapeError):
            code.coefficients(random_field(*messages), random_field(*randomness))
    with pytest.raises(WordShapeError):
        code.encode(random_field(2, 6), Domain(7, 8))
    with pytest.raises(WordShapeError):
        code.messages(random_field(2, 8))


def test_a_domain_with_fewer_points_than_coefficients_is_refused() -> None:
    assert Code(4, 4).encode(random_field(1, 8), Domain(7, 8)).shape == (1, 8)
    with pytest.raises(DomainTooSmallError):
        Code(4, 5).encode(random_field(1, 9), Domain(7, 8))


def test_values_outside_the_field_are_refused() -> None:
    code = Code(4, 3)
    with pytest.raises(NotCanonicalError):
        code.coefficients(np.full((1, 4), P, np.uint64), random_field(1, 3))
    with pytest.raises(FieldArrayError):
        code.coefficients(np.zeros((1, 4), np.int64), random_field(1, 3))  # type: ignore[arg-type]


def randomness_that_explains(points: list[int], symbols: list[int], message: list[int], t: int) -> list[int] | None:
    """r with interpolate(message) + (X^k - 1) r equal to the symbols at the points, or None."""
    k = len(message)
    base = reference.interpolate(reference.points(1, k), message)
    matrix = [[(pow(x, k, P) - 1) * pow(x, i, P) % P for i in range(t)] for x in points]
    return reference.solve(
        matrix, [(s - reference.evaluate(base, x)) % P for x, s in zip(points, symbols, strict=True)]
    )


def test_any_t_symbols_of_both_domains_fit_every_message_and_t_plus_one_do_not() -> None:
    code, committee, audit = Code(4, 6), Domain(7, 16), Domain(49, 32)
    polynomial = code.coefficients(random_field(1, 4), random_field(1, 6, seed=2))
    everywhere = np.concatenate([committee.points(), audit.points()])
    symbols = np.concatenate([code.encode(polynomial, committee)[0], code.encode(polynomial, audit)[0]])
    other = random_field(4, seed=3).tolist()
    for seed in range(10):
        seen = np.random.default_rng(seed).permutation(everywhere.size)[:7]
        points, values = everywhere[seen].tolist(), symbols[seen].tolist()
        assert randomness_that_explains(points[:6], values[:6], other, 6) is not None
        assert randomness_that_explains(points, values, other, 6) is None
