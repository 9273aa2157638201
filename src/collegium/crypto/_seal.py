"""Public-key encryption: HPKE (RFC 9180), base mode, X25519 + HKDF-SHA256 + AES-128-GCM."""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from collegium.crypto._errors import MalformedSecretError, SealError, SealKeyError
from collegium.crypto._hash import check_length
from collegium.crypto._random import Randomness

__all__ = ["SEAL_KEY_BYTES", "SEAL_OVERHEAD_BYTES", "SealKey", "check_seal_key", "open_sealed", "seal"]

SEAL_KEY_BYTES = 32
SEAL_OVERHEAD_BYTES = 32 + 16  # encapsulated key and tag

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PROBE = X25519PrivateKey.from_private_bytes(bytes(SEAL_KEY_BYTES))  # no secret: it only meets keys that are tried out


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SealKey:
    """An X25519 secret: any 32 bytes.

    Raises:
        MalformedSecretError: another length.
    """

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SEAL_KEY_BYTES:
            raise MalformedSecretError(f"seal secret has {len(self.secret)} bytes, expected {SEAL_KEY_BYTES}")

    @classmethod
    def generate(cls, random: Randomness) -> "SealKey":
        """Return the key of 32 random bytes."""
        return cls(check_length("randomness for a seal key", random(SEAL_KEY_BYTES), SEAL_KEY_BYTES))

    @property
    def public_bytes(self) -> bytes:
        """The 32-byte public key."""
        return X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "SealKey(<secret>)"


def check_seal_key(public_key: bytes) -> None:
    """Check that one can seal to a key, whatever for: any secret times a point of small order is zero.

    Raises:
        SealKeyError: as `seal`.
    """
    try:
        _PROBE.exchange(_public_key(public_key))
    except ValueError as error:
        raise _small_order(public_key) from error


def seal(public_key: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Return a box, encapsulated key (32) || ciphertext || tag (16), that only `public_key`'s owner opens.

    `info` is bound to the box but not in it: it says what the box is for, and `open_sealed` must be given the same.
    The sender is not authenticated. HPKE draws its own ephemeral key from the operating system.

    Raises:
        SealKeyError: `public_key` is not 32 bytes or is a point of small order.
    """
    try:
        return _SUITE.encrypt(plaintext, _public_key(public_key), info)
    except ValueError as error:
        raise _small_order(public_key) from error


def _public_key(data: bytes) -> X25519PublicKey:
    if len(data) != SEAL_KEY_BYTES:
        raise SealKeyError(f"seal key has {len(data)} bytes, expected {SEAL_KEY_BYTES}", length=len(data))
    return X25519PublicKey.from_public_bytes(data)


def _small_order(data: bytes) -> SealKeyError:
    return SealKeyError(f"seal key {data.hex()} is a point of small order", key=data)


def open_sealed(secret: SealKey, info: bytes, box: bytes) -> bytes:
    """Return the plaintext of a box sealed to `secret` with the same `info`.

    Raises:
        SealError: too short, damaged, sealed to another key or with another `info`. Which one cannot be told.
    """
    try:
        return _SUITE.decrypt(box, X25519PrivateKey.from_private_bytes(secret.secret), info)
    except (InvalidTag, ValueError):
        raise SealError(f"box of {len(box)} bytes does not open with this key and purpose", length=len(box)) from None
