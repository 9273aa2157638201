"""Typed values from JSON of outside, read strictly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from collegium.errors import CollegiumError

__all__ = ["decode_canonical"]

T = TypeVar("T")

# What msgspec raises over text that is no such value, nests too deeply, or holds integers that it cannot write again.
_REFUSALS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


def decode_canonical(
    data: bytes,
    kind: type[T],
    what: str,
    bytes_max: int,
    refused: type[CollegiumError],
    encode: Callable[[T], bytes] = msgspec.json.encode,
) -> T:
    """Return the value that `encode` writes as exactly these bytes.

    Args:
        kind: the value's type, a dataclass of plain fields.
        what: what the bytes should be, for the message.
        refused: the error to raise.

    Raises:
        refused: longer than `bytes_max`, malformed, or not the canonical encoding.
    """
    if len(data) > bytes_max:
        raise refused(f"{what} has {len(data)} bytes, at most {bytes_max} are read")
    try:
        value = msgspec.json.decode(data, type=kind)
        canonical = encode(value)
    except _REFUSALS as error:
        raise refused(f"{what}: {error}") from error
    if canonical != data:
        raise refused(f"{what} is not in its canonical encoding")
    return value
