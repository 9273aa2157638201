"""The field F of P = 2^64 - 2^32 + 1 elements ("Goldilocks"), on numpy arrays. See docs/spec/algebra.md, section 1."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from collegium.algebra import _kernels
from collegium.algebra._arrays import FieldArray, P, element, field_array
from collegium.algebra._errors import (
    FieldArrayError,
    NoInverseError,
    NotCanonicalError,
    RandomnessLengthError,
    SignedRangeError,
)
from collegium.algebra._rows import over_rows

__all__ = [
    "GENERATOR",
    "SIGNED_MAX",
    "Randomness",
    "add",
    "decode_signed",
    "dot",
    "encode_signed",
    "evaluate",
    "from_bytes",
    "inverse",
    "mul",
    "neg",
    "power",
    "powers",
    "sample_field",
    "scale",
    "sub",
    "to_bytes",
]

GENERATOR = 7
SIGNED_MAX = (P - 1) // 2

Randomness: TypeAlias = Callable[[int], bytes]


def _broadcast(a: Any, b: Any) -> tuple[FieldArray, FieldArray]:
    left, right = field_array(a), field_array(b)
    if left.shape == right.shape:
        return left, right
    try:
        shape = np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise FieldArrayError(
            f"shapes {left.shape} and {right.shape} do not broadcast", left=left.shape, right=right.shape
        ) from None
    both = [side if side.shape == shape else np.broadcast_to(side, shape).copy() for side in (left, right)]
    return both[0], both[1]


def _elementwise(kernel: Callable[..., Any], a: Any, b: Any) -> FieldArray:
    left, right = _broadcast(a, b)
    out = np.empty_like(left)
    over_rows(kernel, out.size, out.size // 4, left.reshape(-1), right.reshape(-1), out.reshape(-1))
    return out


def add(a: FieldArray, b: FieldArray) -> FieldArray:
    """a + b, element by element; shapes broadcast.

    Raises:
        FieldArrayError, NotCanonicalError: an argument is not an array of F, or the shapes do not fit.
    """
    return _elementwise(_kernels.add_flat, a, b)


def sub(a: FieldArray, b: FieldArray) -> FieldArray:
    """a - b, element by element; shapes broadcast.

    Raises:
        FieldArrayError, NotCanonicalError: as `add`.
    """
    return _elementwise(_kernels.sub_flat, a, b)


def mul(a: FieldArray, b: FieldArray) -> FieldArray:
    """a b, element by element; shapes broadcast.

    Raises:
        FieldArrayError, NotCanonicalError: as `add`.
    """
    return _elementwise(_kernels.mul_flat, a, b)


def neg(a: FieldArray) -> FieldArray:
    """-a, element by element.

    Raises:
        FieldArrayError, NotCanonicalError: `a` is not an array of F.
    """
    checked = field_array(a)
    return np.where(checked == 0, checked, np.uint64(P) - checked)


def scale(a: FieldArray, c: int) -> FieldArray:
    """c a for one element c of F.

    Raises:
        FieldArrayError, NotCanonicalError: `a` is not an array of F, or c not in [0, P).
    """
    checked, factor = field_array(a), np.uint64(element(c))
    out = np.empty_like(checked)
    over_rows(_kernels.scale_flat, out.size, out.size // 4, checked.reshape(-1), factor, out.reshape(-1))
    return out


def inverse(a: FieldArray) -> FieldArray:
    """1 / a, element by element, for one inversion and three products an element. Not constant in time.

    Raises:
        NoInverseError: some element is 0.
        FieldArrayError, NotCanonicalError: `a` is not an array of F.
    """
    checked = field_array(a)
    if (zeros := np.flatnonzero(checked.reshape(-1) == 0)).size:
        raise NoInverseError(f"element {zeros[0]} of the array is 0, which has no inverse", index=int(zeros[0]))
    out = np.empty_like(checked)
    _kernels.inverse_flat(checked.reshape(-1), out.reshape(-1))
    return out


def power(x: int, exponent: int) -> int:
    """x^exponent for one element; a negative exponent inverts.

    Raises:
        NoInverseError: x is 0 and the exponent negative.
        NotCanonicalError: x is not in [0, P).
    """
    base = element(x)
    if base == 0 and exponent < 0:
        raise NoInverseError(f"0 to the power {exponent} does not exist", exponent=exponent)
    return pow(base, exponent, P)


def powers(x: int, count: int) -> FieldArray:
    """[1, x, ..., x^(count - 1)].

    Raises:
        NotCanonicalError: x is not in [0, P).
    """
    out = np.empty(count, np.uint64)
    _kernels.powers_flat(np.uint64(element(x)), np.uint64(1), out)
    return out


def dot(a: FieldArray, b: FieldArray) -> int:
    """sum_i a_i b_i of two vectors of one length.

    Raises:
        FieldArrayError, NotCanonicalError: the arguments are not two vectors of F of one length.
    """
    left, right = field_array(a, (1,)), field_array(b, (1,))
    if left.shape != right.shape:
        raise FieldArrayError(
            f"vectors of {left.size} and {right.size} elements have no dot product", left=left.size, right=right.size
        )
    out = np.empty(1, np.uint64)
    _kernels.matvec(0, 1, left.reshape(1, -1), right, out)
    return int(out[0])


def evaluate(coefficients: FieldArray, x: int) -> int | FieldArray:
    """sum_i coefficients_i x^i: an integer for one polynomial (n,), an array (m,) for rows (m, n).

    Raises:
        FieldArrayError, NotCanonicalError: the coefficients are not one or two axes of F, or x not in [0, P).
    """
    checked = field_array(coefficients, (1, 2))
    rows = checked.reshape(1, -1) if checked.ndim == 1 else checked
    out = np.empty(rows.shape[0], np.uint64)
    over_rows(_kernels.matvec, rows.shape[0], rows.size // 4, rows, powers(x, rows.shape[1]), out)
    return int(out[0]) if checked.ndim == 1 else out


def encode_signed(values: npt.NDArray[np.int64]) -> FieldArray:
    """Signed integers as elements of F: x mod P. `decode_signed` is its inverse.

    Raises:
        FieldArrayError: not an array of int64.
        SignedRangeError: some |x| > (P - 1) / 2.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.int64:
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise FieldArrayError(f"expected a numpy array of int64, found {found}", found=str(found))
    if values.size:
        for extreme in (int(values.min()), int(values.max())):
            if abs(extreme) > SIGNED_MAX:
                raise SignedRangeError(f"integer {extreme} is not in [-{SIGNED_MAX}, {SIGNED_MAX}]", value=extreme)
    bits = np.ascontiguousarray(values).view(np.uint64)
    return np.where(values < 0, bits + np.uint64(P), bits)  # wraps: 2^64 + x + P = x + P


def decode_signed(values: FieldArray) -> npt.NDArray[np.int64]:
    """The centred lift: the integer of least absolute value congruent to each element, in [-(P-1)/2, (P-1)/2].

    Raises:
        FieldArrayError, NotCanonicalError: `values` is not an array of F.
    """
    checked = field_array(values)
    return np.where(checked > np.uint64(SIGNED_MAX), checked - np.uint64(P), checked).view(np.int64)


def to_bytes(values: FieldArray) -> bytes:
    """8 bytes an element, little endian, row by row.

    Raises:
        FieldArrayError, NotCanonicalError: `values` is not an array of F.
    """
    return field_array(values).astype("<u8", copy=False).tobytes()


def from_bytes(data: bytes, count: int | None = None) -> FieldArray:
    """The vector whose `to_bytes` is `data`.

    Args:
        data: from outside; any bytes.
        count: how many elements it must hold; None for any number.

    Raises:
        NotCanonicalError: another length than 8 bytes an element, or an element of P or more.
    """
    if len(data) % 8 or (count is not None and len(data) != 8 * count):
        expected = "a multiple of 8" if count is None else f"8 x {count}"
        raise NotCanonicalError(f"{len(data)} bytes, expected {expected}", length=len(data), count=count)
    values = np.frombuffer(data, "<u8").astype(np.uint64)
    if (wrong := np.flatnonzero(values >= P)).size:
        value, position = int(values[wrong[0]]), int(wrong[0])
        raise NotCanonicalError(f"element {position} is {value}, not below {P}", value=value, index=position)
    return values


def sample_field(random: Randomness, count: int) -> FieldArray:
    """The first `count` canonical 8-byte words of the stream `random`: exactly uniform if its bytes are.

    A word is refused with probability below 2^-32, so the stream is read once, and then only for what is missing.

    Args:
        random: returns as many bytes as it is asked for.
        count: 0 or more.

    Raises:
        RandomnessLengthError: `random` returned another number of bytes.
    """
    out = np.empty(count, np.uint64)
    filled = 0
    while filled < count:
        wanted = 8 * (count - filled)
        drawn = random(wanted)
        if len(drawn) != wanted:
            raise RandomnessLengthError(
                f"asked for {wanted} random bytes, received {len(drawn)}", wanted=wanted, received=len(drawn)
            )
        words = np.frombuffer(drawn, "<u8")
        words = words[words < P]
        out[filled : filled + words.size] = words
        filled += words.size
    return out
