"""Accounts of the base chain: secp256k1 keys, Ethereum addresses, recoverable signatures of digests."""

from dataclasses import dataclass

import coincurve
from Crypto.Hash import keccak

from collegium.crypto._errors import BadAccountSignatureError, MalformedSecretError
from collegium.crypto._hash import DIGEST_BYTES, Digest, check_length
from collegium.crypto._random import Randomness

__all__ = ["ACCOUNT_SIGNATURE_BYTES", "ADDRESS_BYTES", "AccountKey", "keccak256", "recover_address"]

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ADDRESS_BYTES = 20
ACCOUNT_SIGNATURE_BYTES = 65
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AccountKey:
    """A secp256k1 key, 32 big-endian bytes in [1, curve order).

    Raises:
        MalformedSecretError: another length, zero, or too large.
    """

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES or not 0 < int.from_bytes(self.secret, "big") < CURVE_ORDER:
            raise MalformedSecretError(f"account secret is not {SECRET_BYTES} bytes in [1, curve order)")

    @classmethod
    def generate(cls, random: Randomness) -> "AccountKey":
        """Return a uniform key; a draw outside the range, of probability below 2^-127, is drawn again."""
        while True:
            secret = check_length("randomness for an account key", random(SECRET_BYTES), SECRET_BYTES)
            if 0 < int.from_bytes(secret, "big") < CURVE_ORDER:
                return cls(secret)

    @property
    def public_key(self) -> bytes:
        """The compressed public key, 33 bytes."""
        return coincurve.PrivateKey(self.secret).public_key.format()

    @property
    def address(self) -> bytes:
        """The account's address: the last 20 bytes of Keccak-256 of the public key's x || y."""
        return _address(coincurve.PrivateKey(self.secret).public_key)

    def sign(self, digest: Digest) -> bytes:
        """Return r || s || v, 65 bytes: deterministic (RFC 6979), s low, v 0 or 1.

        The digest comes from `hash_fields` or, for a transaction of the base chain, from `keccak256`.
        """
        check_length("digest to sign", digest, DIGEST_BYTES)
        return coincurve.PrivateKey(self.secret).sign_recoverable(digest, hasher=None)

    def __repr__(self) -> str:
        return "AccountKey(<secret>)"


def recover_address(digest: Digest, signature: bytes) -> bytes:
    """Return the address whose key made this signature of `digest`; one signature has one encoding.

    Some address is recovered from almost any bytes: the caller compares it with the one it expects.

    Raises:
        BadAccountSignatureError: not 65 bytes, v not 0 or 1, r or s zero or too large, s above half the curve order,
            or no such point.
    """
    check_length("signed digest", digest, DIGEST_BYTES)
    if len(signature) != ACCOUNT_SIGNATURE_BYTES:
        raise BadAccountSignatureError(
            f"account signature has {len(signature)} bytes, expected {ACCOUNT_SIGNATURE_BYTES}", length=len(signature)
        )
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v > 1:
        raise BadAccountSignatureError(f"recovery byte is {v}, expected 0 or 1", v=v)
    if not (0 < r < CURVE_ORDER and 0 < s <= CURVE_ORDER // 2):
        raise BadAccountSignatureError("r is not in [1, curve order), or s not in [1, half of it]", r=r, s=s)
    try:
        return _address(coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None))
    except ValueError as error:
        raise BadAccountSignatureError("no public key gives this account signature", r=r, s=s) from error


def keccak256(data: bytes) -> bytes:
    """Return Ethereum's hash, Keccak-256 with its original padding, 32 bytes: for addresses and contract calls."""
    return keccak.new(data=data, digest_bits=256).digest()


def _address(key: coincurve.PublicKey) -> bytes:
    return keccak256(key.format(compressed=False)[1:])[-ADDRESS_BYTES:]
