"""How votes and blocks are signed and checked: the two small protocols that a replica sees, and the real keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol, TypeVar, cast

from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Digest,
    aggregate_unchecked,
    bisect_invalid,
    bls_verify,
    recover_address,
    verify_aggregate,
)
from collegium.errors import CollegiumError

from ._epoch import EpochSet

__all__ = ["EpochSigner", "EpochVerifier", "Signer", "Verifier"]

CACHE_ENTRIES_MAX: Final = 8192

T = TypeVar("T")


class Once(Protocol):
    """A memory: returns what `compute` gives, computed or known under this key."""

    def __call__(self, key: Hashable, compute: Callable[[], T], /) -> T: ...


class Signer(Protocol):
    """One validator's two keys."""

    def sign_vote(self, digest: Digest) -> bytes:
        """48 bytes, BLS: votes and timeouts, which are aggregated."""
        ...

    def sign_block(self, digest: Digest) -> bytes:
        """65 bytes, secp256k1: blocks, so that a chain can check an equivocation cheaply."""
        ...


class Verifier(Protocol):
    """Everybody's public keys. Seats are indices below the epoch set's size; no method raises on bad signatures."""

    def vote_holds(self, seat: int, digest: Digest, signature: bytes) -> bool:
        """Whether one BLS signature is good."""
        ...

    def aggregate_holds(self, seats: tuple[int, ...], digest: Digest, signature: bytes) -> bool:
        """Whether an aggregate of exactly these seats' signatures on one digest is good."""
        ...

    def block_holds(self, seat: int, digest: Digest, signature: bytes) -> bool:
        """Whether one account signature is good."""
        ...

    def bad_seats(self, digest: Digest, signatures: Mapping[int, bytes]) -> frozenset[int]:
        """Those of these seats whose signature on `digest` is bad."""
        ...

    def aggregate(self, signatures: Mapping[int, bytes]) -> bytes:
        """The sum of good signatures, or one to be verified."""
        ...


@dataclass(frozen=True, slots=True)
class EpochSigner:
    """A validator's keys in memory."""

    bls: BlsSecretKey
    account: AccountKey

    def sign_vote(self, digest: Digest) -> bytes:
        return self.bls.sign(digest)

    def sign_block(self, digest: Digest) -> bytes:
        return self.account.sign(digest)


class EpochVerifier:
    """The keys of an epoch set, and a memory of what was already found good.

    The same certificate arrives many times: in a block, in timeouts, in view entries. Each is checked once. The
    memory holds 8192 entries and forgets the oldest; it changes no answer, so validators of one process may share
    one verifier, or give it a memory of their own, which also sees who asks.

    Args:
        epoch_set: whose keys.
        once: returns what its second argument gives, for the key that is its first.

    Raises (on construction):
        an error of `crypto` if a key is not a point of the right subgroup.
    """

    def __init__(self, epoch_set: EpochSet, once: Once | None = None) -> None:
        self._keys = {int(v.index): BlsPublicKey(v.bls_key) for v in epoch_set.validators}
        self._accounts = [v.account for v in epoch_set.validators]
        self._good: OrderedDict[Hashable, object] = OrderedDict()
        self._once: Once = self._remembered if once is None else once

    def vote_holds(self, seat: int, digest: Digest, signature: bytes) -> bool:
        key = ((seat,), digest, signature)
        return self._once(key, lambda: self._holds_one(seat, digest, signature))

    def aggregate_holds(self, seats: tuple[int, ...], digest: Digest, signature: bytes) -> bool:
        key = (seats, digest, signature)
        return self._once(key, lambda: self._holds_many(seats, digest, signature))

    def block_holds(self, seat: int, digest: Digest, signature: bytes) -> bool:
        key = ("account", seat, digest, signature)
        return self._once(key, lambda: self._holds_account(seat, digest, signature))

    def bad_seats(self, digest: Digest, signatures: Mapping[int, bytes]) -> frozenset[int]:
        unchecked = {s: sig for s, sig in signatures.items() if not self._known(((s,), digest, sig))}
        seats = tuple(sorted(unchecked))
        try:
            if not seats or self.aggregate_holds(seats, digest, self.aggregate(unchecked)):
                return frozenset()
        except CollegiumError:
            pass  # a signature that is no curve point: find out whose
        return frozenset(bisect_invalid(self._keys, digest, unchecked))

    def aggregate(self, signatures: Mapping[int, bytes]) -> bytes:
        parts = [signatures[seat] for seat in sorted(signatures)]
        return self._once(("sum", sha256(b"".join(parts)).digest()), lambda: aggregate_unchecked(parts))

    def _known(self, key: Hashable) -> bool:
        return key in self._good

    def _remembered(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key in self._good:
            self._good.move_to_end(key)
            return cast(T, self._good[key])
        value = compute()
        if value is not False:  # what is bad is thrown out, and would crowd out what comes again
            self._good[key] = value
            if len(self._good) > CACHE_ENTRIES_MAX:
                self._good.popitem(last=False)
        return value

    def _holds_one(self, seat: int, digest: Digest, signature: bytes) -> bool:
        try:
            bls_verify(self._keys[seat], digest, signature)
        except CollegiumError:
            return False
        return True

    def _holds_many(self, seats: tuple[int, ...], digest: Digest, signature: bytes) -> bool:
        try:
            verify_aggregate([self._keys[seat] for seat in seats], digest, signature)
        except CollegiumError:
            return False
        return True

    def _holds_account(self, seat: int, digest: Digest, signature: bytes) -> bool:
        try:
            return recover_address(digest, signature) == self._accounts[seat]
        except CollegiumError:
            return False
