"""Certificates: the seats they name, the quorum they need."""

import pytest

from collegium.crypto import (
    BadBitmapError,
    BadCertificateError,
    BlsSecretKey,
    ByteLengthError,
    Certificate,
    NothingToAggregateError,
    QuorumNotReachedError,
    Stream,
    decode_certificate,
    encode_certificate,
    hash_fields,
    make_certificate,
    verify_certificate,
)

SIZE = 11
STREAM = Stream(b"c" * 32)
SECRETS = [BlsSecretKey.generate(STREAM) for _ in range(SIZE)]
KEYS = [secret.public_key() for secret in SECRETS]
DIGEST = hash_fields("test", b"header")
SIGNATURES = {seat: secret.sign(DIGEST) for seat, secret in enumerate(SECRETS)}
SEATS = (0, 2, 3, 5, 7, 8, 9, 10)
CERTIFICATE = make_certificate(SIZE, {seat: SIGNATURES[seat] for seat in SEATS})


def test_a_certificate_names_its_seats_lowest_bit_first() -> None:
    assert CERTIFICATE.bitmap == bytes([0b10101101, 0b00000111])
    assert verify_certificate(KEYS, 8, DIGEST, CERTIFICATE) == CERTIFICATE.seats == SEATS


def test_one_signer_below_the_quorum_is_refused() -> None:
    with pytest.raises(QuorumNotReachedError) as refusal:
        verify_certificate(KEYS, 9, DIGEST, CERTIFICATE)
    assert refusal.value.values == {"signers": 8, "quorum": 9}


def test_no_signer_is_no_quorum_even_if_none_is_asked_for() -> None:
    with pytest.raises(QuorumNotReachedError):
        verify_certificate(KEYS, 0, DIGEST, Certificate(bytes(2), CERTIFICATE.signature))


@pytest.mark.parametrize("change", ["bitmap", "signature", "neutral", "digest"])
def test_the_smallest_change_is_refused(change: str) -> None:
    bitmap, signature, digest = CERTIFICATE.bitmap, CERTIFICATE.signature, DIGEST
    if change == "bitmap":
        bitmap = bytes([bitmap[0] | 2, bitmap[1]])
    elif change == "signature":
        signature = bytes([signature[0] ^ 0x20]) + signature[1:]
    elif change == "neutral":
        signature = bytes([0xC0, *bytes(47)])
    else:
        digest = hash_fields("test", b"another header")
    with pytest.raises(BadCertificateError):
        verify_certificate(KEYS, 8, digest, Certificate(bitmap, signature))


@pytest.mark.parametrize("bitmap", [b"\xad", b"\xad\x07\x00", b"\xad\x0f", b""])
def test_a_bitmap_of_another_size_is_refused(bitmap: bytes) -> None:
    with pytest.raises(BadBitmapError):
        verify_certificate(KEYS, 8, DIGEST, Certificate(bitmap, CERTIFICATE.signature))


def test_encoding_comes_back_and_has_one_length() -> None:
    data = encode_certificate(CERTIFICATE)
    assert len(data) == 2 + 48
    assert decode_certificate(data, SIZE) == CERTIFICATE
    for other in (data[:-1], data + b"\0", b""):
        with pytest.raises(ByteLengthError):
            decode_certificate(other, SIZE)
    with pytest.raises(BadBitmapError):
        decode_certificate(data, SIZE - 1)


@pytest.mark.parametrize("seat", [-1, SIZE])
def test_a_seat_that_does_not_exist_cannot_sign(seat: int) -> None:
    with pytest.raises(BadBitmapError):
        make_certificate(SIZE, {seat: SIGNATURES[0]})


def test_no_signature_makes_no_certificate() -> None:
    with pytest.raises(NothingToAggregateError):
        make_certificate(SIZE, {})
