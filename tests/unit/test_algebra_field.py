import numpy as np
import pytest

from collegium.algebra import (
    GENERATOR,
    SIGNED_MAX,
    FieldArrayError,
    NoInverseError,
    NotCanonicalError,
    P,
    RandomnessLengthError,
    SignedRangeError,
    add,
    decode_signed,
    dot,
    encode_signed,
    evaluate,
    from_bytes,
    inverse,
    mul,
    neg,
    power,
    powers,
    sample_field,
    scale,
    sub,
    to_bytes,
)


def field(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_the_modulus_and_its_generator() -> None:
    assert P == 2**64 - 2**32 + 1
    prime_factors = (2, 3, 5, 17, 257, 65537)
    assert P - 1 == 2**32 * 3 * 5 * 17 * 257 * 65537
    assert all(pow(GENERATOR, (P - 1) // q, P) != 1 for q in prime_factors)


def test_corner_values_stay_canonical() -> None:
    corners = [0, 1, 2, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1, 2**63, P - 2**32, P - 2, P - 1]
    a = np.repeat(np.array(corners, np.uint64), len(corners))
    b = np.tile(np.array(corners, np.uint64), len(corners))
    pairs = [(x, y) for x in corners for y in corners]
    assert add(a, b).tolist() == [(x + y) % P for x, y in pairs]
    assert sub(a, b).tolist() == [(x - y) % P for x, y in pairs]
    assert mul(a, b).tolist() == [x * y % P for x, y in pairs]
    assert neg(a).tolist() == [-x % P for x, _ in pairs]


def test_operands_broadcast_like_numpy() -> None:
    rows = np.arange(6, dtype=np.uint64).reshape(2, 3)
    assert mul(rows, field(1, 10, 100)).tolist() == [[0, 10, 200], [3, 40, 500]]
    with pytest.raises(FieldArrayError, match="broadcast"):
        mul(rows, field(1, 10))


@pytest.mark.parametrize("operation", [add, sub, mul])
def test_an_array_with_the_modulus_in_it_is_refused(operation: object) -> None:
    assert callable(operation)
    assert operation(field(P - 1), field(1)).dtype == np.uint64
    with pytest.raises(NotCanonicalError) as refusal:
        operation(field(P), field(1))
    assert refusal.value.values == {"value": P}


def test_another_dtype_is_refused() -> None:
    with pytest.raises(FieldArrayError, match="int64"):
        add(np.array([1]), np.array([2]))
    with pytest.raises(FieldArrayError, match="list"):
        neg([1])  # type: ignore[arg-type]


def test_read_only_and_strided_arrays_are_taken() -> None:
    a = np.arange(12, dtype=np.uint64)
    a.flags.writeable = False
    assert add(a[::2], a[::2]).tolist() == [0, 4, 8, 12, 16, 20]
    assert a.tolist() == list(range(12))


def test_inverse_refuses_zero() -> None:
    a = field(1, 2, P - 1)
    assert mul(a, inverse(a)).tolist() == [1, 1, 1]
    with pytest.raises(NoInverseError) as refusal:
        inverse(field(1, 0, 2))
    assert refusal.value.values == {"index": 1}
    assert inverse(field()).size == 0


def test_power_takes_negative_exponents_of_all_but_zero() -> None:
    assert power(7, -1) * 7 % P == 1
    assert power(0, 0) == 1
    with pytest.raises(NoInverseError):
        power(0, -1)
    with pytest.raises(NotCanonicalError):
        power(P, 1)


def test_scale_takes_one_canonical_element() -> None:
    assert scale(field(2, 3), P - 1).tolist() == [P - 2, P - 3]
    with pytest.raises(NotCanonicalError):
        scale(field(2, 3), P)
    with pytest.raises(NotCanonicalError):
        scale(field(2, 3), 1.0)  # type: ignore[arg-type]


def test_dot_and_evaluate() -> None:
    assert dot(field(1, 2, 3), powers(10, 3)) == 321
    assert evaluate(field(1, 2, 3), 10) == 321
    rows = evaluate(np.array([[1, 2], [3, 4]], np.uint64), 10)
    assert isinstance(rows, np.ndarray)
    assert rows.tolist() == [21, 43]
    with pytest.raises(FieldArrayError):
        dot(field(1, 2, 3), powers(10, 2))


def test_signed_integers_up_to_half_the_modulus() -> None:
    values = np.array([0, 1, -1, SIGNED_MAX, -SIGNED_MAX], np.int64)
    encoded = encode_signed(values)
    assert encoded.tolist() == [0, 1, P - 1, SIGNED_MAX, SIGNED_MAX + 1]
    assert decode_signed(encoded).tolist() == values.tolist()


@pytest.mark.parametrize("value", [SIGNED_MAX + 1, -SIGNED_MAX - 1, -(2**63), 2**63 - 1])
def test_a_signed_integer_past_half_the_modulus_is_refused(value: int) -> None:
    with pytest.raises(SignedRangeError):
        encode_signed(np.array([value], np.int64))


def test_bytes_are_little_endian() -> None:
    assert to_bytes(field(1, P - 1)) == (1).to_bytes(8, "little") + (P - 1).to_bytes(8, "little")
    assert from_bytes(to_bytes(field(1, P - 1)), 2).tolist() == [1, P - 1]
    assert from_bytes(b"").size == 0


@pytest.mark.parametrize(
    ("data", "count"),
    [(P.to_bytes(8, "little"), 1), (b"\xff" * 8, None), (b"\0" * 7, None), (b"\0" * 16, 1), (b"\0" * 8, 2), (b"", 1)],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes, count: int | None) -> None:
    with pytest.raises(NotCanonicalError):
        from_bytes(data, count)


def test_sampling_skips_words_of_the_modulus_and_more() -> None:
    stream = [3, P, P - 1, 2**64 - 1, 5, 6]
    data = bytearray(b"".join(word.to_bytes(8, "little") for word in stream))

    def random(count: int) -> bytes:
        drawn = bytes(data[:count])
        del data[:count]
        return drawn

    assert sample_field(random, 4).tolist() == [3, P - 1, 5, 6]
    assert not data


def test_a_short_source_of_randomness_is_refused() -> None:
    with pytest.raises(RandomnessLengthError):
        sample_field(lambda count: bytes(count - 1), 2)
