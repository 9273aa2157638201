"""The one hash of the protocol: SHA-256 over a domain tag and length-prefixed fields."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import TypeAlias

from collegium.crypto._errors import ByteLengthError, FieldRangeError

__all__ = ["DIGEST_BYTES", "Digest", "check_label", "check_length", "frame_fields", "hash_fields", "hash_numbered"]

Digest: TypeAlias = bytes

DIGEST_BYTES = 32
DOMAIN = "collegium/v1/"
INTEGER_MAX = (1 << 64) - 1


def hash_fields(tag: str, *fields: bytes | int) -> Digest:
    """Return SHA-256(frame(domain) || frame(field_1) || ... ), frame(x) = 8-byte little-endian length || x.

    The domain is "collegium/v1/<tag>"; an integer is its 8 little-endian bytes. As every piece carries its length, two
    different lists of fields never give the same input to SHA-256. An integer and its 8 bytes are the same field:
    each tag has one fixed list of field types.

    Raises:
        FieldRangeError: an integer outside [0, 2^64), or a tag that is empty or not printable ASCII.
    """
    state = sha256(_domain_frame(tag))
    for field in fields:
        data = _integer_bytes(field) if isinstance(field, int) else field
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.digest()


def frame_fields(tag: str, *fields: bytes | int) -> bytes:
    """Return the bytes whose SHA-256 is `hash_fields` of the same: what a digest opens to."""
    parts = [_integer_bytes(field) if isinstance(field, int) else field for field in fields]
    return _domain_frame(tag) + b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def hash_numbered(tag: str, *fields: bytes | int) -> Iterator[Digest]:
    """Yield hash_fields(tag, *fields, 0), hash_fields(tag, *fields, 1), ...; what is alike is hashed once."""
    prefix = sha256(_domain_frame(tag))
    for field in fields:
        data = _integer_bytes(field) if isinstance(field, int) else field
        prefix.update(len(data).to_bytes(8, "little") + data)
    prefix.update((8).to_bytes(8, "little"))
    for number in count():
        state = prefix.copy()
        state.update(number.to_bytes(8, "little"))
        yield state.digest()


def check_length(what: str, data: bytes, expected: int) -> bytes:
    """Return `data` if it is `expected` bytes long, else raise ByteLengthError."""
    if len(data) != expected:
        raise ByteLengthError(f"{what} has {len(data)} bytes, expected {expected}", length=len(data), expected=expected)
    return data


def check_label(label: str) -> bytes:
    """Return the bytes of a tag or label, which must be 1 to 128 printable ASCII characters."""
    if not (0 < len(label) <= 128 and label.isascii() and label.isprintable()):
        raise FieldRangeError(f"label {label!r} is not 1 to 128 printable ASCII characters", label=label)
    return label.encode("ascii")


@lru_cache(maxsize=256)
def _domain_frame(tag: str) -> bytes:
    domain = DOMAIN.encode("ascii") + check_label(tag)
    return len(domain).to_bytes(8, "little") + domain


def _integer_bytes(field: int) -> bytes:
    if not 0 <= field <= INTEGER_MAX:
        raise FieldRangeError(f"integer field {field} is outside [0, 2^64)", field=field)
    return field.to_bytes(8, "little")
