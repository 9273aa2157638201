"""Stand-ins for the keys of a simulated world: the protocol's own code runs on top of groups that cost nothing.

The curve is the integers modulo BLS12-381's group order with the product as its "pairing", so that aggregates,
thresholds and interpolation behave exactly as on the curve; an account's signature is a hash that anybody could make;
a sealed box is open. The adversary of a world never forges, it only lies, so nothing is lost by it. A share of the
worlds plays with the real curve and real accounts (`real=True`), where only the boxes stay open, because HPKE draws
from the operating system and one seed must be one history.

`stand_ins` swaps the functions by identity, in this process, for as long as it is entered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from types import ModuleType
from typing import Any

from Crypto.Hash import keccak

from collegium import crypto
from collegium.crypto import SEAL_KEY_BYTES, SEAL_OVERHEAD_BYTES, SealError, SealKey, SealKeyError

__all__ = ["StandInCurve", "open_box", "seal_box", "stand_ins", "swapped"]

GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
SCALAR_BYTES = 32
INSIDE = ("_account", "_bls", "_bls_backend")
CANONICAL = b"\x80"  # as the first byte of a compressed point: no other flag

# ------------------------------------------------------------------------------------------------ the curve


@dataclass(frozen=True, slots=True)
class Exponent:
    """A "point": its own discrete logarithm."""

    value: int

    def __add__(self, other: Exponent) -> Exponent:
        return Exponent((self.value + other.value) % GROUP_ORDER)

    def __neg__(self) -> Exponent:
        return Exponent(-self.value % GROUP_ORDER)


class StandInCurve:
    """A backend for `collegium.crypto` whose points are scalars; it signs as slowly as an integer multiplies."""

    generator = Exponent(1)

    def decode_g1(self, data: bytes) -> Exponent:
        return _decode(data)

    def decode_g2(self, data: bytes) -> Exponent:
        return _decode(data)

    def encode_g1(self, point: Any) -> bytes:
        return _encode(point, 48)

    def encode_g2(self, point: Any) -> bytes:
        return _encode(point, 96)

    def hash_to_g1(self, message: bytes, domain: bytes) -> Exponent:
        return Exponent(int.from_bytes(sha256(domain + message).digest(), "big") % GROUP_ORDER)

    def mul_g1(self, point: Any, scalar: int) -> Exponent:
        return Exponent(point.value * scalar % GROUP_ORDER)

    def mul_g2(self, point: Any, scalar: int) -> Exponent:
        return Exponent(point.value * scalar % GROUP_ORDER)

    def pairings_cancel(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        return bool(sum(left.value * right.value for left, right in pairs) % GROUP_ORDER == 0)


def _encode(point: Exponent, length: int) -> bytes:
    first = b"\xc0" if point.value == 0 else CANONICAL
    return first + bytes(length - 1 - SCALAR_BYTES) + point.value.to_bytes(SCALAR_BYTES, "big")


def _decode(data: bytes) -> Exponent:
    value = int.from_bytes(data[-SCALAR_BYTES:], "big")
    if value >= GROUP_ORDER or data[:1] != CANONICAL or any(data[1:-SCALAR_BYTES]):
        raise ValueError("not a canonical stand-in point")
    return Exponent(value)


def add_up(signatures: Sequence[bytes], factors: Sequence[int] | None = None) -> bytes:
    """Return the sum of the signatures, or of them times factors; stands in for what adds points of the real curve."""
    if factors is not None:
        curve, point = StandInCurve(), _inside("_bls").signature_point
        pairs = zip(signatures, factors, strict=True)
        signatures = [curve.encode_g1(curve.mul_g1(point(signature), factor)) for signature, factor in pairs]
    return crypto.aggregate_signatures(signatures)


# ------------------------------------------------------------------------------------------------ accounts


class StandInAccounts:
    """The part of coincurve that accounts use: r is the public key, s a hash of it and the digest."""

    class PrivateKey:
        def __init__(self, secret: bytes) -> None:
            self.secret = secret

        @property
        def public_key(self) -> StandInAccounts.PublicKey:
            return StandInAccounts.PublicKey(_public(self.secret))

        def sign_recoverable(self, digest: bytes, hasher: None = None) -> bytes:
            public = _public(self.secret)
            return public + _word(public + digest) + b"\0"

    class PublicKey:
        def __init__(self, public: bytes) -> None:
            self.public = public

        def format(self, compressed: bool = True) -> bytes:
            return b"\x02" + self.public if compressed else b"\x04" + self.public + bytes(32)

        @classmethod
        def from_signature_and_message(
            cls, signature: bytes, digest: bytes, hasher: None = None
        ) -> StandInAccounts.PublicKey:
            if signature[32:64] != _word(signature[:32] + digest):
                raise ValueError("no stand-in key makes this signature")
            return cls(signature[:32])


@lru_cache(maxsize=1024)
def _address_of(public: bytes) -> bytes:
    return keccak.new(data=public + bytes(32), digest_bits=256).digest()[-20:]


@lru_cache(maxsize=1024)
def _public(secret: bytes) -> bytes:
    return _word(b"stand-in account" + secret)


def _word(data: bytes) -> bytes:
    """Return 32 bytes that pass for r or s: above 0, below half the curve's order."""
    return b"\x01" + sha256(data).digest()[1:]


# ------------------------------------------------------------------------------------------------ sealed boxes


def seal_box(public_key: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Return a box that says to whom and for what it was sealed, and hides nothing."""
    if len(public_key) != SEAL_KEY_BYTES or not any(public_key):
        raise SealKeyError(f"seal key of {len(public_key)} bytes", length=len(public_key))
    return sha256(public_key).digest() + plaintext + sha256(b"box" + public_key + info + plaintext).digest()[:16]


def open_box(secret: SealKey, info: bytes, box: bytes) -> bytes:
    """Return what is in a box sealed to this key for this purpose."""
    plaintext = box[32:-16]
    public = _seal_public(secret.secret)
    if len(box) < SEAL_OVERHEAD_BYTES or box != seal_box(public, info, plaintext):
        raise SealError(f"box of {len(box)} bytes does not open with this key and purpose", length=len(box))
    return plaintext


@lru_cache(maxsize=4096)
def _seal_public(secret: bytes) -> bytes:
    return SealKey(secret).public_bytes


# ------------------------------------------------------------------------------------------------ swapping


def _inside(name: str) -> Any:
    return import_module(f"collegium.crypto.{name}")


@contextmanager
def stand_ins(*, real: bool, more: Iterable[tuple[object, object]] = ()) -> Iterator[None]:
    """Play with stand-ins: boxes always, the curve and the accounts unless `real`, and `more` pairs."""
    # what is swapped here lies inside that room on purpose: it is no business of anybody else's
    account, bls, bls_backend = (_inside(name) for name in INSIDE)
    pairs: list[tuple[object, object]] = [(crypto.seal, seal_box), (crypto.open_sealed, open_box), *more]
    accounts = account.coincurve
    if not real:
        curve = StandInCurve()
        pairs.append((bls_backend.backend, lambda: curve))
        pairs.append((crypto.aggregate_unchecked, add_up))
        account.coincurve = StandInAccounts
        pairs.append((account._address, lambda key: _address_of(key.public)))
        bls.key_point.cache_clear()
    try:
        with swapped(pairs):
            yield
    finally:
        account.coincurve = accounts
        if not real:
            bls.key_point.cache_clear()


@contextmanager
def swapped(pairs: Iterable[tuple[object, object]]) -> Iterator[None]:
    """Replace objects by others under every name that a module of this package has for them.

    A module that is loaded meanwhile finds the replacements where it imports from; it is put right at the end.
    """
    pairs, before = list(pairs), _modules()
    places = _swap(before, pairs)
    try:
        yield
    finally:
        for module, name, value in places:
            setattr(module, name, value)
        _swap(_modules() - before, [(replacement, old) for old, replacement in pairs])


def _modules() -> set[ModuleType]:
    """Return the loaded modules of this package, but for those that play: they know both."""
    return {
        module
        for key, module in list(sys.modules.items())
        if key.partition(".")[0] == "collegium" and not key.startswith("collegium.node._world") and module is not None
    }


def _swap(modules: Iterable[ModuleType], pairs: Sequence[tuple[object, object]]) -> list[tuple[Any, str, object]]:
    """Replace objects under their names in these modules; return where they were."""
    new = {id(old): replacement for old, replacement in pairs}
    places = [(m, name, value) for m in modules for name, value in list(vars(m).items()) if id(value) in new]
    for module, name, value in places:
        setattr(module, name, new[id(value)])
    return places
