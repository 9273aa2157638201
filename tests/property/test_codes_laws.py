"""The fast functions equal the plain reference, and words survive what the bounds allow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.algebra import P, add, coset_ntt
from collegium.codes import (
    Code,
    Domain,
    NotACodewordError,
    TooManyErrorsError,
    _reference,
    locate_errors,
    recover,
    vanishing_polynomial,
)

elements = st.one_of(st.integers(0, P - 1), st.sampled_from([0, 1, 2**32, P - 1]))
SIZE = 16


def vectors(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(elements, min_size=size, max_size=size)


def field(values: object) -> np.ndarray:
    return np.array(values, np.uint64)


@st.composite
def received(draw: st.DrawFn, past: int = 0) -> tuple[int, Domain, np.ndarray, np.ndarray, np.ndarray]:
    """Degree bound, domain, a codeword, erased positions and errors: as many as are allowed at most, or `past` more."""
    domain = Domain(draw(st.sampled_from([7, 49, 5])), SIZE)
    bound = draw(st.integers(1, SIZE - 2 * past - 1))
    erasures = draw(st.integers(0, SIZE - bound - past))
    most = (SIZE - bound - erasures) // 2
    errors = most + past if past else draw(st.integers(0, most))
    order = draw(st.permutations(range(SIZE)))
    erased, wrong = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    erased[order[:erasures]] = True
    wrong[order[erasures : erasures + errors]] = True
    return bound, domain, coset_ntt(field(draw(vectors(bound))), domain.shift, SIZE), erased, wrong


def spoil(word: np.ndarray, wrong: np.ndarray, seed: int) -> np.ndarray:
    shifts = np.random.default_rng(seed).integers(1, P, word.shape, dtype=np.uint64)
    return add(word, np.where(wrong, shifts, np.uint64(0)))


@given(st.integers(0, 3), st.integers(0, 9), st.data())
def test_encoding(log_k: int, t: int, data: st.DataObject) -> None:
    message, randomness = data.draw(vectors(1 << log_k)), data.draw(vectors(t))
    code, domain = Code(1 << log_k, t), Domain(7, 32)
    polynomial = code.coefficients(field([message]), field([randomness]).reshape(1, t))
    assert polynomial[0].tolist() == _reference.coefficients(message, randomness)
    assert code.encode(polynomial, domain)[0].tolist() == _reference.encode(polynomial[0].tolist(), domain)
    assert code.messages(polynomial)[0].tolist() == message


@given(vectors(4), vectors(4), vectors(3), vectors(3))
def test_encoding_is_linear(m0: list[int], m1: list[int], r0: list[int], r1: list[int]) -> None:
    code, domain = Code(4, 3), Domain(7, 8)
    messages, randomness = field([m0, m1]), field([r0, r1])
    together = code.coefficients(add(messages[:1], messages[1:]), add(randomness[:1], randomness[1:]))
    apart = code.encode(code.coefficients(messages, randomness), domain)
    assert (code.encode(together, domain) == add(apart[:1], apart[1:])).all()


@given(st.integers(0, 5), st.data())
def test_vanishing_polynomial(log_size: int, data: st.DataObject) -> None:
    size = 1 << log_size
    block = 1 << data.draw(st.integers(0, log_size))
    blocks = data.draw(st.lists(st.booleans(), min_size=size // block, max_size=size // block))
    erased = np.repeat(np.array(blocks, np.bool_), block)
    domain = Domain(7, size)
    assert vanishing_polynomial(domain, erased).tolist() == _reference.vanishing_polynomial(domain, erased.tolist())


@given(received(), st.integers(0, 2**32))
def test_erasures(case: tuple[int, Domain, np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    bound, domain, word, erased, wrong = case
    gone = erased | wrong
    polynomial = recover(bound, domain, spoil(word, gone, seed).reshape(1, -1), gone)
    assert (coset_ntt(polynomial[0], domain.shift, SIZE) == word).all()


@given(received(past=1), st.integers(0, 2**32))
def test_one_error_without_erasing_it(case: tuple[int, Domain, np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    bound, domain, word, erased, wrong = case
    wrong[np.flatnonzero(wrong)[1:]] = False
    with pytest.raises(NotACodewordError):
        recover(bound, domain, spoil(word, wrong, seed).reshape(1, -1), erased)


@given(received(), st.integers(0, 2**32))
def test_errors(case: tuple[int, Domain, np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    bound, domain, word, erased, wrong = case
    spoilt = spoil(word, wrong, seed)
    expected = np.flatnonzero(wrong).tolist()
    assert locate_errors(bound, domain, spoilt, erased).tolist() == expected
    assert _reference.locate_errors(bound, domain, spoilt.tolist(), erased.tolist()) == expected
    in_k = np.stack([spoilt, word])
    assert locate_errors(bound, domain, in_k, erased).tolist() == expected


@given(received(past=1), st.integers(0, 2**32))
def test_one_error_too_many(case: tuple[int, Domain, np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    bound, domain, word, erased, wrong = case
    spoilt = spoil(word, wrong, seed)
    expected = _reference.locate_errors(bound, domain, spoilt.tolist(), erased.tolist())
    if expected is None:
        with pytest.raises(TooManyErrorsError):
            locate_errors(bound, domain, spoilt, erased)
    else:  # so many errors may lead to another codeword; then both see the same one
        assert locate_errors(bound, domain, spoilt, erased).tolist() == expected
