"""A quorum's signature of one digest: an aggregate and a bitmap of the seats that signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collegium.crypto._bls import BlsPublicKey, aggregate_signatures, aggregate_unchecked, verify_aggregate
from collegium.crypto._bls_backend import G1_BYTES
from collegium.crypto._errors import (
    BadBitmapError,
    BadCertificateError,
    BadSignatureError,
    ByteLengthError,
    IdentityPointError,
    MalformedPointError,
    QuorumNotReachedError,
)
from collegium.crypto._hash import Digest

__all__ = [
    "Certificate",
    "decode_certificate",
    "encode_certificate",
    "make_certificate",
    "verify_certificate",
]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Seat s signed if bit s % 8 of byte s // 8 of `bitmap` is set; `signature` is the 48-byte sum of theirs.

    A certificate is what somebody sent until `verify_certificate` has accepted it.
    """

    bitmap: bytes
    signature: bytes

    @property
    def seats(self) -> tuple[int, ...]:
        """The seats in the bitmap, in increasing order."""
        return tuple(seat for seat in range(8 * len(self.bitmap)) if self.bitmap[seat // 8] >> seat % 8 & 1)


def make_certificate(size: int, signatures: Mapping[int, bytes], *, verified_next: bool = False) -> Certificate:
    """Return the certificate of `signatures`, seat -> signature, in a committee of `size` seats.

    The signatures are checked to be points, not to be right: on a failure of the whole, `bisect_invalid` says whose
    signature to leave out. Who verifies the certificate before using it says so, and has it in half the time.

    Raises:
        BadBitmapError: a seat outside [0, size).
        NothingToAggregateError, MalformedPointError, IdentityPointError: as `aggregate_signatures`.
    """
    bitmap = bytearray(bitmap_bytes(size))
    for seat in signatures:
        if not 0 <= seat < size:
            raise BadBitmapError(f"seat {seat} signed, expected a seat in [0, {size})", seat=seat, size=size)
        bitmap[seat // 8] |= 1 << seat % 8
    add_up = aggregate_unchecked if verified_next else aggregate_signatures
    return Certificate(bytes(bitmap), add_up(list(signatures.values())))


def verify_certificate(
    keys: Sequence[BlsPublicKey], quorum: int, digest: Digest, certificate: Certificate
) -> tuple[int, ...]:
    """Return the seats that signed, after checking that they are `quorum` or more and did sign `digest`.

    Raises:
        BadBitmapError: the bitmap is not exactly one bit a key.
        QuorumNotReachedError: fewer than `quorum` seats.
        BadCertificateError: the signature is not their aggregate over `digest`.
    """
    check_bitmap(certificate.bitmap, len(keys))
    seats = certificate.seats
    if len(seats) < max(quorum, 1):
        raise QuorumNotReachedError(
            f"{len(seats)} of {len(keys)} seats signed, quorum is {quorum}", signers=len(seats), quorum=quorum
        )
    try:
        verify_aggregate([keys[seat] for seat in seats], digest, certificate.signature)
    except (BadSignatureError, IdentityPointError, MalformedPointError) as error:
        raise BadCertificateError(f"certificate of {len(seats)} seats refused: {error}", seats=seats) from error
    return seats


def encode_certificate(certificate: Certificate) -> bytes:
    """Return bitmap || signature: ceil(size / 8) + 48 bytes."""
    return certificate.bitmap + certificate.signature


def decode_certificate(data: bytes, size: int) -> Certificate:
    """Return the certificate of a committee of `size` seats; its signature is not verified yet.

    Raises:
        ByteLengthError: not ceil(size / 8) + 48 bytes.
        BadBitmapError: a bit at or beyond `size`.
    """
    length = bitmap_bytes(size)
    if len(data) != length + G1_BYTES:
        raise ByteLengthError(
            f"certificate has {len(data)} bytes, expected {length + G1_BYTES} for {size} seats", length=len(data)
        )
    check_bitmap(data[:length], size)
    return Certificate(data[:length], data[length:])


def check_bitmap(bitmap: bytes, size: int) -> None:
    """Raise BadBitmapError unless `bitmap` has ceil(size / 8) bytes and no bit at or beyond `size`."""
    if len(bitmap) != bitmap_bytes(size):
        raise BadBitmapError(
            f"bitmap has {len(bitmap)} bytes, expected {bitmap_bytes(size)} for {size} seats", size=size
        )
    if int.from_bytes(bitmap, "little") >> size:
        raise BadBitmapError(f"bitmap {bitmap.hex()} has a bit beyond the last of {size} seats", size=size)


def bitmap_bytes(size: int) -> int:
    """Return ceil(size / 8)."""
    return (size + 7) // 8
