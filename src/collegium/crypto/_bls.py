"""BLS signatures over BLS12-381, minimal signature size: signatures in G1 (48 bytes), keys in G2 (96 bytes).

The scheme is draft-irtf-cfrg-bls-signature-05 with proofs of possession (3.3), over 32-byte digests only. Every point
that enters is checked to lie in the prime-order group and not to be neutral.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add

import py_arkworks_bls12381 as arkworks

from collegium.crypto._bls_backend import G1, G1_BYTES, G2, G2_BYTES, GROUP_ORDER, backend
from collegium.crypto._errors import (
    BadPossessionError,
    BadSignatureError,
    IdentityPointError,
    MalformedPointError,
    MalformedSecretError,
    NothingToAggregateError,
)
from collegium.crypto._hash import DIGEST_BYTES, Digest, check_length, hash_fields
from collegium.crypto._random import Randomness

__all__ = [
    "BlsPublicKey",
    "BlsSecretKey",
    "aggregate_signatures",
    "aggregate_unchecked",
    "bls_verify",
    "check_signature",
    "g1_uncompressed",
    "g2_uncompressed",
    "key_point",
    "sign_under",
    "signature_point",
    "verify_aggregate",
    "verify_aggregate_many",
    "verify_possession",
]

SIGNATURE_DOMAIN = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DOMAIN = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"

SECRET_BYTES = 32
# Decompressing a key and checking its group costs as much as a third of a pairing; 4096 keys take about 2 MB.
KEYS_CACHED_MAX = 4096

_IDENTITY_FLAG = 0x40


@dataclass(frozen=True, slots=True)
class BlsPublicKey:
    """A key known to be a non-neutral point of G2; `data` is its 96-byte compressed form.

    Raises:
        MalformedPointError: not the canonical encoding of a point of the group.
        IdentityPointError: the neutral element.
    """

    data: bytes

    def __post_init__(self) -> None:
        key_point(self.data)

    def __bytes__(self) -> bytes:
        return self.data

    def __repr__(self) -> str:
        return f"BlsPublicKey({self.data.hex()[:16]}...)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BlsSecretKey:
    """A secret scalar in [1, group order).

    Raises:
        MalformedSecretError: the scalar is zero or too large.
    """

    scalar: int

    def __post_init__(self) -> None:
        if not 0 < self.scalar < GROUP_ORDER:
            raise MalformedSecretError("BLS secret scalar is not in [1, group order)")

    @classmethod
    def generate(cls, random: Randomness) -> "BlsSecretKey":
        """Return the key that KeyGen (draft-irtf-cfrg-bls-signature-05, 2.3) makes of 32 random bytes."""
        return cls(derive_scalar(check_length("randomness for a BLS key", random(32), 32)))

    @classmethod
    def from_bytes(cls, data: bytes) -> "BlsSecretKey":
        """Return the key of 32 big-endian bytes.

        Raises:
            MalformedSecretError: another length, zero, or not below the group order.
        """
        if len(data) != SECRET_BYTES:
            raise MalformedSecretError(f"BLS secret has {len(data)} bytes, expected {SECRET_BYTES}", length=len(data))
        return cls(int.from_bytes(data, "big"))

    def to_bytes(self) -> bytes:
        """Return the scalar as 32 big-endian bytes: for a key file only."""
        return self.scalar.to_bytes(SECRET_BYTES, "big")

    def public_key(self) -> BlsPublicKey:
        """Return scalar * generator of G2."""
        curve = backend()
        return BlsPublicKey(curve.encode_g2(curve.mul_g2(curve.generator, self.scalar)))

    def sign(self, digest: Digest) -> bytes:
        """Return the unique 48-byte signature of a digest that `hash_fields` made."""
        return sign_under(SIGNATURE_DOMAIN, self.scalar, digest)

    def prove_possession(self, context: bytes) -> bytes:
        """Return a signature of the own public key and `context` that can be confused with no vote.

        `context` says where the key is registered, so that a proof cannot be copied to another registry.
        """
        return sign_under(POSSESSION_DOMAIN, self.scalar, _possession_digest(self.public_key(), context))

    def __repr__(self) -> str:
        return "BlsSecretKey(<secret>)"


def derive_scalar(material: bytes, salt: bytes = b"BLS-SIG-KEYGEN-SALT-") -> int:
    """Return KeyGen's scalar of 32 or more secret bytes, never zero (draft-irtf-cfrg-bls-signature-05, 2.3)."""
    length = 48  # ceil((3 * ceil(log2(group order))) / 16): the modulo's bias is below 2^-128
    scalar = 0
    while scalar == 0:
        salt = hashlib.sha256(salt).digest()
        extracted = hmac.digest(salt, material + b"\x00", "sha256")
        info = length.to_bytes(2, "big")
        first = hmac.digest(extracted, info + b"\x01", "sha256")
        second = hmac.digest(extracted, first + info + b"\x02", "sha256")
        scalar = int.from_bytes((first + second)[:length], "big") % GROUP_ORDER
    return scalar


def sign_under(domain: bytes, scalar: int, digest: Digest) -> bytes:
    """Return scalar * H(digest) under a domain separation tag, 48 bytes."""
    curve = backend()
    hashed = curve.hash_to_g1(check_length("digest to sign", digest, DIGEST_BYTES), domain)
    return curve.encode_g1(curve.mul_g1(hashed, scalar))


def bls_verify(key: BlsPublicKey, digest: Digest, signature: bytes) -> None:
    """Check one signature: e(H(digest), key) = e(signature, generator).

    Raises:
        BadSignatureError: the signature is another key's, or of another digest.
        MalformedPointError, IdentityPointError: the signature is no usable point.
    """
    verify_aggregate((key,), digest, signature)


def verify_possession(key: BlsPublicKey, context: bytes, proof: bytes) -> None:
    """Check that whoever registers `key` for `context` knows its secret, which rules out rogue keys in aggregates.

    Raises:
        BadPossessionError: the proof is not this key's for this context.
    """
    digest = _possession_digest(key, context)
    try:
        check_signature(POSSESSION_DOMAIN, digest, key_point(key.data), proof)
    except (BadSignatureError, MalformedPointError, IdentityPointError) as error:
        raise BadPossessionError(f"proof of possession of {key!r} refused: {error}", key=key.data) from error


def aggregate_signatures(signatures: Sequence[bytes]) -> bytes:
    """Return the sum of one or more signatures, 48 bytes.

    Raises:
        NothingToAggregateError: no signature.
        MalformedPointError, IdentityPointError: one of them, or their sum, is no usable point.
    """
    if not signatures:
        raise NothingToAggregateError("no signature to aggregate, expected one or more")
    data = backend().encode_g1(reduce(add, [signature_point(signature) for signature in signatures]))
    return _refuse_identity("sum of signatures", data)


def aggregate_unchecked(signatures: Sequence[bytes], factors: Sequence[int] | None = None) -> bytes:
    """Return what `aggregate_signatures` does, or the sum of the signatures times factors, in half the time.

    The points are not checked to lie in the group. So all must be known to be good, or the sum must be verified, which
    refuses one outside the group.

    Raises:
        NothingToAggregateError: no signature.
        MalformedPointError, IdentityPointError: one of them is no point of the curve, or it or the sum is neutral.
    """
    if not signatures:
        raise NothingToAggregateError("no signature to aggregate, expected one or more")
    points = [_curve_point(signature) for signature in signatures]
    if factors is None:
        total = reduce(add, points)
    else:
        scalars = [arkworks.Scalar.from_le_bytes(factor.to_bytes(SECRET_BYTES, "little")) for factor in factors]
        total = arkworks.G1Point.multiexp_unchecked(points, scalars)
    return _refuse_identity("sum of signatures", bytes(total.to_compressed_bytes()))


def _curve_point(signature: bytes) -> arkworks.G1Point:
    if len(signature) != G1_BYTES:
        raise MalformedPointError(f"signature has {len(signature)} bytes, expected {G1_BYTES}", length=len(signature))
    _refuse_identity("signature", signature)
    try:
        return arkworks.G1Point.from_compressed_bytes_unchecked(signature)
    except ValueError as error:
        raise MalformedPointError(f"signature {signature.hex()} is not a point: {error}", data=signature) from error


def verify_aggregate(keys: Sequence[BlsPublicKey], digest: Digest, signature: bytes) -> None:
    """Check an aggregate signature of one digest: e(H(digest), sum of keys) = e(signature, generator).

    Costs two pairings whatever the number of keys. Sound only for keys whose possession was proved. A key given twice
    counts twice.

    Raises:
        NothingToAggregateError: no key.
        IdentityPointError: the keys add up to the neutral element.
        BadSignatureError: the signature is not the aggregate of these keys over this digest.
    """
    check_signature(SIGNATURE_DOMAIN, digest, _key_sum(keys), signature)


def verify_aggregate_many(groups: Sequence[tuple[Sequence[BlsPublicKey], Digest]], signature: bytes) -> None:
    """Check one aggregate over several digests: product over groups of e(H(digest), sum of keys) = e(signature, g).

    Costs one pairing a group and one more. Raises as `verify_aggregate`.
    """
    if not groups:
        raise NothingToAggregateError("no group of keys to verify against, expected one or more")
    curve = backend()
    point = signature_point(signature)
    pairs: list[tuple[G1, G2]] = []
    for keys, digest in groups:
        hashed = curve.hash_to_g1(check_length("signed digest", digest, DIGEST_BYTES), SIGNATURE_DOMAIN)
        pairs.append((hashed, _key_sum(keys)))
    if not curve.pairings_cancel([*pairs, (point, -curve.generator)]):
        raise BadSignatureError(f"aggregate signature does not verify for these {len(groups)} digests")


def check_signature(domain: bytes, digest: Digest, key: G2, signature: bytes) -> None:
    """Raise BadSignatureError unless `signature` is that of `key` over `digest` under a domain separation tag."""
    curve = backend()
    hashed = curve.hash_to_g1(check_length("signed digest", digest, DIGEST_BYTES), domain)
    if not curve.pairings_cancel([(hashed, key), (signature_point(signature), -curve.generator)]):
        raise BadSignatureError(f"signature does not verify for digest {digest.hex()}", digest=digest)


def signature_point(data: bytes) -> G1:
    """Return the point of a 48-byte signature.

    Raises:
        MalformedPointError, IdentityPointError
    """
    if len(data) != G1_BYTES:
        raise MalformedPointError(f"signature has {len(data)} bytes, expected {G1_BYTES}", length=len(data))
    _refuse_identity("signature", data)
    try:
        return backend().decode_g1(data)
    except ValueError as error:
        raise MalformedPointError(f"signature {data.hex()} is not a point of G1: {error}", data=data) from error


@lru_cache(maxsize=KEYS_CACHED_MAX)
def key_point(data: bytes) -> G2:
    """Return the point of a 96-byte key.

    Raises:
        MalformedPointError, IdentityPointError
    """
    if len(data) != G2_BYTES:
        raise MalformedPointError(f"key has {len(data)} bytes, expected {G2_BYTES}", length=len(data))
    _refuse_identity("key", data)
    try:
        return backend().decode_g2(data)
    except ValueError as error:
        raise MalformedPointError(f"key {data.hex()} is not a point of G2: {error}", data=data) from error


def g1_uncompressed(signature: bytes) -> bytes:
    """Return x || y of a signature, 48 big-endian bytes each, as EIP-2537 takes them once padded to 64."""
    signature_point(signature)
    return bytes(arkworks.G1Point.from_compressed_bytes_unchecked(signature).to_xy_bytes_be())


def g2_uncompressed(key: BlsPublicKey) -> bytes:
    """Return x.c0 || x.c1 || y.c0 || y.c1 of a key, 48 big-endian bytes each: the order of EIP-2537."""
    return bytes(arkworks.G2Point.from_compressed_bytes_unchecked(key.data).to_xy_bytes_be())


def _key_sum(keys: Sequence[BlsPublicKey]) -> G2:
    if not keys:
        raise NothingToAggregateError("no key to verify against, expected one or more")
    total = reduce(add, [key_point(key.data) for key in keys])
    if len(keys) > 1:
        _refuse_identity(f"sum of {len(keys)} keys", backend().encode_g2(total))
    return total


def _possession_digest(key: BlsPublicKey, context: bytes) -> Digest:
    return hash_fields("bls-possession", key.data, context)


def _refuse_identity(what: str, data: bytes) -> bytes:
    if data[0] & _IDENTITY_FLAG:
        raise IdentityPointError(f"{what} is the neutral element, or says so")
    return data
