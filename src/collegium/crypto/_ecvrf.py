"""ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381, on libsodium's group operations.

Names and step numbers are the RFC's. Secret scalars meet only libsodium's constant-time functions. The try-and-
increment map takes a time that depends on key and input, which are public here.
"""

from dataclasses import dataclass
from hashlib import sha512

from nacl import bindings as sodium
from nacl.exceptions import RuntimeError as SodiumError

from collegium.crypto._errors import BadProofError, MalformedSecretError
from collegium.crypto._hash import check_length
from collegium.crypto._random import Randomness

__all__ = ["EcVrf", "EcVrfSecretKey"]

SUITE = b"\x03"
POINT_BYTES = 32
CHALLENGE_BYTES = 16
PROOF_BYTES = POINT_BYTES + CHALLENGE_BYTES + 32
FIELD_PRIME = (1 << 255) - 19
ORDER = (1 << 252) + 27742317777372353535851937790883648493
_NEUTRAL = bytes([1, *bytes(31)])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EcVrfSecretKey:
    """An Ed25519 seed, 32 bytes.

    Raises:
        MalformedSecretError: another length.
    """

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise MalformedSecretError(f"ECVRF seed has {len(self.seed)} bytes, expected 32", length=len(self.seed))

    @classmethod
    def generate(cls, random: Randomness) -> "EcVrfSecretKey":
        """Return the key of 32 random bytes."""
        return cls(check_length("randomness for an ECVRF key", random(32), 32))

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        return sodium.crypto_scalarmult_ed25519_base_noclamp(self._expand()[0])

    def _expand(self) -> tuple[bytes, bytes]:
        """Return the clamped secret scalar and the nonce key (RFC 8032, 5.1.5)."""
        digest = sha512(self.seed).digest()
        scalar = bytes([digest[0] & 248, *digest[1:31], digest[31] & 127 | 64])
        return scalar, digest[32:]

    def __repr__(self) -> str:
        return "EcVrfSecretKey(<secret>)"


class EcVrf:
    """A verifiable random function on Ed25519 keys: for each key and input one output, and a proof of it."""

    @staticmethod
    def prove(secret: EcVrfSecretKey, alpha: bytes) -> bytes:
        """Return the 80-byte proof pi for input `alpha` (RFC 9381, 5.1)."""
        x, nonce_key = secret._expand()
        Y = secret.public_key
        H = _encode_to_curve(Y, alpha)
        Gamma = sodium.crypto_scalarmult_ed25519_noclamp(x, H)
        k = sodium.crypto_core_ed25519_scalar_reduce(sha512(nonce_key + H).digest())
        U, V = sodium.crypto_scalarmult_ed25519_base_noclamp(k), sodium.crypto_scalarmult_ed25519_noclamp(k, H)
        c = _challenge(Y, H, Gamma, U, V)
        s = sodium.crypto_core_ed25519_scalar_add(k, sodium.crypto_core_ed25519_scalar_mul(_scalar(c), x))
        return Gamma + c + s

    @staticmethod
    def verify(public_key: bytes, alpha: bytes, proof: bytes) -> bytes:
        """Return the 64-byte output beta, after checking that `proof` is the key's proof for `alpha` (RFC 9381, 5.3).

        Stricter than the RFC, which clears the cofactor later: key and Gamma must lie in the prime-order group.

        Raises:
            BadProofError: a malformed key or proof, or not this key's proof for this input.
        """
        if len(public_key) != POINT_BYTES or len(proof) != PROOF_BYTES:
            raise BadProofError(
                f"key and proof have {len(public_key)} and {len(proof)} bytes, expected {POINT_BYTES} and {PROOF_BYTES}"
            )
        Gamma, c, s = proof[:32], proof[32:48], proof[48:]
        if int.from_bytes(s, "little") >= ORDER:
            raise BadProofError("response s is not below the group order")
        if not (_is_group_point(public_key) and _is_group_point(Gamma)):
            raise BadProofError("key or Gamma is not a point of the prime-order group")
        H = _encode_to_curve(public_key, alpha)
        try:
            U = _subtract(sodium.crypto_scalarmult_ed25519_base_noclamp(s), c, public_key)
            V = _subtract(sodium.crypto_scalarmult_ed25519_noclamp(s, H), c, Gamma)
        except SodiumError:
            # libsodium returns no neutral element: a zero scalar, which an honest prover meets once in 2^128.
            raise BadProofError("challenge or response is zero") from None
        if _challenge(public_key, H, Gamma, U, V) != c:
            raise BadProofError("proof is not this key's proof for this input")
        return EcVrf.output(proof)

    @staticmethod
    def output(proof: bytes) -> bytes:
        """Return the 64-byte beta of a proof that was verified or made here (RFC 9381, 5.2)."""
        return sha512(SUITE + b"\x03" + _clear_cofactor(proof[:32]) + b"\x00").digest()


def _encode_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Return the group point of an input: try and increment (RFC 9381, 5.4.1.1)."""
    for counter in range(256):
        candidate = sha512(SUITE + b"\x01" + salt + alpha + bytes([counter]) + b"\x00").digest()[:32]
        if int.from_bytes(candidate, "little") & ((1 << 255) - 1) >= FIELD_PRIME:
            continue
        try:
            point = _clear_cofactor(candidate)
        except SodiumError:
            continue
        if point != _NEUTRAL:
            return point
    raise BadProofError("none of 256 attempts maps this input to the curve")  # probability about 2^-256


def _challenge(*points: bytes) -> bytes:
    """Return the 16-byte challenge of five points (RFC 9381, 5.4.3)."""
    return sha512(SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:CHALLENGE_BYTES]


def _subtract(point: bytes, scalar: bytes, other: bytes) -> bytes:
    product = sodium.crypto_scalarmult_ed25519_noclamp(_scalar(scalar), other)
    return sodium.crypto_core_ed25519_sub(point, product)


def _scalar(challenge: bytes) -> bytes:
    return challenge + bytes(16)


def _clear_cofactor(point: bytes) -> bytes:
    for _ in range(3):
        point = sodium.crypto_core_ed25519_add(point, point)
    return point


def _is_group_point(data: bytes) -> bool:
    """Say whether bytes are the canonical encoding of a non-neutral point of the prime-order group."""
    return sodium.crypto_core_ed25519_is_valid_point(data)
