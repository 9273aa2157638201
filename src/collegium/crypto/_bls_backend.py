"""The pairing curve BLS12-381 behind a small protocol, and the published values a library must reproduce before use.

Encodings are the compressed ones of draft-irtf-cfrg-pairing-friendly-curves-11, appendix C ("ZCash format"): big
endian, three flag bits first. Points are opaque: only `+`, unary `-` and `==` are used on them.
"""

from collections.abc import Sequence
from functools import cache, reduce
from hashlib import sha256
from operator import mul
from typing import Any, Protocol, Self

import pyblst

from collegium.crypto._errors import SelfTestError

__all__ = ["G1", "G1_BYTES", "G2", "G2_BYTES", "GROUP_ORDER", "BlsBackend", "Pyblst", "backend", "self_test"]

GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
G1_BYTES = 48
G2_BYTES = 96
_G2_GENERATOR = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)


class G1(Protocol):
    """A point of the group of order GROUP_ORDER over the base field."""

    def __add__(self, other: Self, /) -> Self: ...
    def __neg__(self) -> Self: ...


class G2(Protocol):
    """A point of the group of order GROUP_ORDER over the quadratic extension."""

    def __add__(self, other: Self, /) -> Self: ...
    def __neg__(self) -> Self: ...


class BlsBackend(Protocol):
    """What the room needs of a BLS12-381 library."""

    @property
    def generator(self) -> G2:
        """The standard generator of G2."""

    def decode_g1(self, data: bytes) -> G1:
        """Return the point of 48 bytes; ValueError unless canonical, on the curve and in the group."""

    def decode_g2(self, data: bytes) -> G2:
        """Return the point of 96 bytes; ValueError unless canonical, on the curve and in the group."""

    def encode_g1(self, point: G1) -> bytes:
        """Return the 48 bytes of a point."""

    def encode_g2(self, point: G2) -> bytes:
        """Return the 96 bytes of a point."""

    def hash_to_g1(self, message: bytes, domain: bytes) -> G1:
        """Return the point of RFC 9380's suite BLS12381G1_XMD:SHA-256_SSWU_RO_."""

    def mul_g1(self, point: G1, scalar: int) -> G1:
        """Return scalar * point, 0 <= scalar < GROUP_ORDER."""

    def mul_g2(self, point: G2, scalar: int) -> G2:
        """Return scalar * point, 0 <= scalar < GROUP_ORDER."""

    def pairings_cancel(self, pairs: Sequence[tuple[G1, G2]]) -> bool:
        """Say whether the product of e(P, Q) over two or more pairs is one; no point may be neutral."""


class Pyblst:
    """The backend in use: supranational's blst through pyblst.

    blst multiplies by a scalar in constant time; the Python integer that carries the scalar there does not live in
    constant time.
    """

    __slots__ = ("generator",)

    def __init__(self) -> None:
        self.generator = self.decode_g2(_G2_GENERATOR)

    def decode_g1(self, data: bytes) -> G1:
        point: G1 = pyblst.BlstP1Element().uncompress(data)
        return point

    def decode_g2(self, data: bytes) -> G2:
        point: G2 = pyblst.BlstP2Element().uncompress(data)
        return point

    def encode_g1(self, point: Any) -> bytes:
        return bytes(point.compress())

    def encode_g2(self, point: Any) -> bytes:
        return bytes(point.compress())

    def hash_to_g1(self, message: bytes, domain: bytes) -> G1:
        point: G1 = pyblst.BlstP1Element().hash_to_group(message, domain)
        return point

    def mul_g1(self, point: Any, scalar: int) -> G1:
        product: G1 = point.scalar_mul(scalar)
        return product

    def mul_g2(self, point: Any, scalar: int) -> G2:
        product: G2 = point.scalar_mul(scalar)
        return product

    def pairings_cancel(self, pairs: Sequence[tuple[G1, G2]]) -> bool:
        *front, (left, right) = pairs
        product = reduce(mul, (pyblst.miller_loop(first, second) for first, second in front))
        return bool(pyblst.final_verify(product, pyblst.miller_loop(-left, right)))


@cache
def backend() -> BlsBackend:
    """Return the curve library; the first call makes it pass `self_test`.

    Raises:
        SelfTestError: it does not reproduce the published values.
    """
    library = Pyblst()
    self_test(library)
    return library


# RFC 9380, J.9.1, message "abc": the compressed form of the point printed there.
_HASH_DOMAIN = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
_HASH_OF_ABC = "83567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903"
# The public randomness beacon drand "quicknet": keys in G2, signatures in G1, as here. Its key and its round 1000.
_DRAND_DOMAIN = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_DRAND_KEY = (
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)
_DRAND_1000 = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
# On the curve, but of composite order: the point with x = 4.
_OUTSIDE_GROUP = bytes([0x80, *bytes(46), 4])


def self_test(library: BlsBackend) -> None:
    """Check hashing, decoding, multiplication and pairing against published values.

    Raises:
        SelfTestError: names the first value that differs.
    """
    if library.encode_g1(library.hash_to_g1(b"abc", _HASH_DOMAIN)).hex() != _HASH_OF_ABC:
        raise SelfTestError("hash to G1 differs from RFC 9380, J.9.1, message 'abc'")

    key, signature = library.decode_g2(bytes.fromhex(_DRAND_KEY)), library.decode_g1(bytes.fromhex(_DRAND_1000))
    for round_number, expected in ((1000, True), (1001, False)):
        message = sha256(round_number.to_bytes(8, "big")).digest()
        pairs = [(library.hash_to_g1(message, _DRAND_DOMAIN), key), (signature, -library.generator)]
        if library.pairings_cancel(pairs) is not expected:
            raise SelfTestError(f"pairing check of drand quicknet round {round_number} is not {expected}")

    scalar = GROUP_ORDER - (1 << 200) - 1
    left, right = library.mul_g1(signature, scalar), library.mul_g2(key, scalar)
    if not library.pairings_cancel([(left, key), (signature, -right)]):
        raise SelfTestError("scalar multiples in G1 and in G2 disagree under the pairing")
    if library.encode_g2(library.mul_g2(key, GROUP_ORDER - 1)) != library.encode_g2(-key):
        raise SelfTestError("(group order - 1) * key is not -key")

    for bad in (_OUTSIDE_GROUP, bytes(G1_BYTES), bytes([0xC0, *bytes(46), 1]), bytes.fromhex(_DRAND_1000)[:-1]):
        try:
            library.decode_g1(bad)
        except ValueError:
            continue
        raise SelfTestError(f"{bad.hex()} was accepted as a point of G1")
