"""Sealed boxes and account signatures beyond the vectors."""

import pytest

from collegium.crypto import (
    SEAL_OVERHEAD_BYTES,
    AccountKey,
    ByteLengthError,
    SealError,
    SealKey,
    SealKeyError,
    Stream,
    check_seal_key,
    hash_fields,
    keccak256,
    open_sealed,
    recover_address,
    seal,
)

STREAM = Stream(b"p" * 32)
KEY, OTHER = SealKey.generate(STREAM), SealKey.generate(STREAM)
INFO = hash_fields("test", b"purpose")


@pytest.mark.parametrize("plaintext", [b"", b"column", bytes(100_000)])
def test_a_box_opens_with_its_key_and_purpose_alone(plaintext: bytes) -> None:
    box = seal(KEY.public_bytes, INFO, plaintext)
    assert len(box) == len(plaintext) + SEAL_OVERHEAD_BYTES
    assert open_sealed(KEY, INFO, box) == plaintext
    for key, info in ((OTHER, INFO), (KEY, INFO + b"\0"), (KEY, b"")):
        with pytest.raises(SealError):
            open_sealed(key, info, box)


def test_two_boxes_of_one_plaintext_differ() -> None:
    assert seal(KEY.public_bytes, INFO, b"x") != seal(KEY.public_bytes, INFO, b"x")


ORDER_8 = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")  # RFC 7748, section 7


@pytest.mark.parametrize("key", [bytes(32), bytes([1, *bytes(31)]), ORDER_8, b"", KEY.public_bytes + b"\0"])
def test_a_key_to_which_nobody_alone_holds_the_secret_is_refused(key: bytes) -> None:
    check_seal_key(KEY.public_bytes)
    with pytest.raises(SealKeyError):
        check_seal_key(key)
    with pytest.raises(SealKeyError):
        seal(key, INFO, b"x")


@pytest.mark.parametrize("length", [0, 31, 32, 47])
def test_a_box_too_short_for_key_and_tag_is_refused(length: int) -> None:
    with pytest.raises(SealError):
        open_sealed(KEY, INFO, seal(KEY.public_bytes, INFO, b"")[:length])


def test_keccak_is_not_sha3() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_a_signature_of_another_digest_recovers_another_address() -> None:
    account, digest = AccountKey.generate(STREAM), hash_fields("test", 1)
    signature = account.sign(digest)
    assert recover_address(digest, signature) == account.address
    assert recover_address(hash_fields("test", 2), signature) != account.address


def test_accounts_sign_digests_alone() -> None:
    account = AccountKey.generate(STREAM)
    with pytest.raises(ByteLengthError):
        account.sign(b"text")
    with pytest.raises(ByteLengthError):
        recover_address(b"text", account.sign(bytes(32)))
