"""Public randomness: one value an epoch, round and purpose, that anybody can check.

`ThresholdBeacon` cannot be predicted or biased by fewer than its threshold of members; `ChainedBeacon` needs no dealing
but can be biased. Both are what `Beacon` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from collegium.crypto._bls import (
    BlsPublicKey,
    BlsSecretKey,
    aggregate_unchecked,
    check_signature,
    key_point,
    sign_under,
)
from collegium.crypto._bls_backend import backend
from collegium.crypto._certificate import (
    decode_certificate,
    encode_certificate,
    make_certificate,
    verify_certificate,
)
from collegium.crypto._dealing import BeaconGroup, SecretShare, lagrange_at_zero
from collegium.crypto._errors import (
    BadBeaconError,
    BadShareError,
    BadSignatureError,
    IdentityPointError,
    MalformedPointError,
    NotEnoughPartialsError,
    ThresholdError,
)
from collegium.crypto._hash import Digest, hash_fields
from collegium.crypto._isolate import bisect_invalid, isolate
from collegium.errors import CollegiumError

__all__ = ["Beacon", "ChainedBeacon", "ThresholdBeacon"]

BEACON_DOMAIN = b"COLLEGIUM-V1-BEACON-BLS12381G1_XMD:SHA-256_SSWU_RO_"
DEFAULT_PURPOSE = "round"


class Beacon(Protocol):
    """A source of public randomness, as one member or an observer sees it.

    `purpose` separates values of one round that are used for different things; it never names a view, a leader or a
    block, or whoever chooses those would choose the value.
    """

    def partial(self, epoch: int, round_number: int, purpose: str = DEFAULT_PURPOSE) -> bytes:
        """Return this member's contribution."""

    def invalid_partials(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> tuple[int, ...]:
        """Return the members whose contribution is bad."""

    def combine(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> bytes:
        """Return the proof made of enough good contributions, member -> partial; bad ones are left out."""

    def verify(self, epoch: int, round_number: int, proof: bytes, purpose: str = DEFAULT_PURPOSE) -> Digest:
        """Return the value, after checking its proof."""


@dataclass(frozen=True, slots=True)
class ThresholdBeacon:
    """The group's unique BLS signature of (task, epoch, round, purpose); its SHA-256 is the value.

    Args:
        task: the task's digest.
        group: the dealt key.
        share: this member's share of it; None for an observer.

    Raises:
        BadShareError: the share is not the one the group's public share belongs to.
    """

    task: Digest
    group: BeaconGroup
    share: SecretShare | None = None

    def __post_init__(self) -> None:
        if self.share is None:
            return
        curve = backend()
        member = _known_member(self.group, self.share.member)
        if curve.encode_g2(curve.mul_g2(curve.generator, self.share.scalar)) != self.group.public_shares[member]:
            raise BadShareError(f"share of member {member} does not belong to its public share", member=member)

    def message(self, epoch: int, round_number: int, purpose: str = DEFAULT_PURPOSE) -> Digest:
        """Return what the members sign: hash_fields("beacon", task, epoch, round, purpose)."""
        return hash_fields("beacon", self.task, epoch, round_number, purpose.encode())

    def partial(self, epoch: int, round_number: int, purpose: str = DEFAULT_PURPOSE) -> bytes:
        """Return share * H(message), 48 bytes.

        Raises:
            BadShareError: an observer has no share.
        """
        if self.share is None:
            raise BadShareError("an observer of the beacon has no share to sign with")
        return sign_under(BEACON_DOMAIN, self.share.scalar, self.message(epoch, round_number, purpose))

    def verify_partial(
        self, epoch: int, round_number: int, member: int, partial: bytes, purpose: str = DEFAULT_PURPOSE
    ) -> None:
        """Check one member's partial signature against its public share.

        Raises:
            ThresholdError: no such member.
            BadSignatureError, MalformedPointError, IdentityPointError: not its partial signature.
        """
        key = key_point(self.group.public_shares[_known_member(self.group, member)])
        check_signature(BEACON_DOMAIN, self.message(epoch, round_number, purpose), key, partial)

    def invalid_partials(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> tuple[int, ...]:
        """Return the members whose partial signature is bad: one check if none is, bisection otherwise.

        Raises:
            ThresholdError: a member that the group does not have.
        """
        claims = {
            member: (self.group.public_shares[_known_member(self.group, member)], partial)
            for member, partial in partials.items()
        }
        return isolate(BEACON_DOMAIN, self.message(epoch, round_number, purpose), claims)

    def combine(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> bytes:
        """Return the group's 48-byte signature from any `threshold` good partial signatures, the same from all.

        Tries the first ones unchecked; only if the result does not verify does it look for the bad ones.

        Raises:
            NotEnoughPartialsError: fewer good ones than the threshold.
            ThresholdError: a member that the group does not have.
        """
        for member in partials:
            _known_member(self.group, member)
        self._check_count(len(partials))
        try:
            proof = self._interpolate(partials)
            self.verify(epoch, round_number, proof, purpose)
        except (BadBeaconError, MalformedPointError, IdentityPointError):
            bad = self.invalid_partials(epoch, round_number, partials, purpose)
            good = {member: partial for member, partial in partials.items() if member not in bad}
            self._check_count(len(good), bad)
            proof = self._interpolate(good)
        return proof

    def verify(self, epoch: int, round_number: int, proof: bytes, purpose: str = DEFAULT_PURPOSE) -> Digest:
        """Return SHA-256 of the group's signature, after checking it.

        Raises:
            BadBeaconError: not the group's signature for this epoch, round and purpose.
        """
        try:
            message = self.message(epoch, round_number, purpose)
            check_signature(BEACON_DOMAIN, message, key_point(self.group.key), proof)
        except (BadSignatureError, MalformedPointError, IdentityPointError) as error:
            raise BadBeaconError(
                f"beacon of epoch {epoch}, round {round_number}, purpose {purpose!r} refused: {error}"
            ) from error
        return sha256(proof).digest()

    def _interpolate(self, partials: Mapping[int, bytes]) -> bytes:
        factors = lagrange_at_zero(sorted(partials)[: self.group.threshold])
        parts = [partials[member] for member in factors]  # good ones, or their sum is verified next
        return aggregate_unchecked(parts, list(factors.values()))

    def _check_count(self, good: int, bad: tuple[int, ...] = ()) -> None:
        if good < self.group.threshold:
            raise NotEnoughPartialsError(
                f"{good} good partial signatures, expected {self.group.threshold}", good=good, bad=bad
            )


@dataclass(frozen=True, slots=True)
class ChainedBeacon:
    """A hash chain over quorum certificates: value = H(previous value, certificate of the epoch's voting keys).

    Nobody can make a value without a quorum, but it CAN BE BIASED: whoever assembles the certificate chooses which of
    the signatures go in. With n signatures for a quorum of q it may try sum over k >= q of C(n, k) values and publish
    the one it likes, or none. Use it where no dealing is possible and nothing is won by choosing, never for cohorts or
    committees. It exists for tests and for consortia that accept this.

    Args:
        task: the task's digest.
        previous: the value before this one.
        keys: the epoch's voting keys, by member.
        quorum: signatures that a certificate needs.
        voting_key: this member's key; None for an observer.
    """

    task: Digest
    previous: Digest
    keys: tuple[BlsPublicKey, ...]
    quorum: int
    voting_key: BlsSecretKey | None = None

    def message(self, epoch: int, round_number: int, purpose: str = DEFAULT_PURPOSE) -> Digest:
        """Return what the members sign."""
        return hash_fields("beacon/chained", self.task, epoch, round_number, purpose.encode(), self.previous)

    def after(self, value: Digest) -> "ChainedBeacon":
        """Return the beacon that continues from `value`."""
        return replace(self, previous=value)

    def partial(self, epoch: int, round_number: int, purpose: str = DEFAULT_PURPOSE) -> bytes:
        """Return this member's vote for the next value.

        Raises:
            BadShareError: an observer has no key.
        """
        if self.voting_key is None:
            raise BadShareError("an observer of the beacon has no key to sign with")
        return self.voting_key.sign(self.message(epoch, round_number, purpose))

    def invalid_partials(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> tuple[int, ...]:
        """Return the members whose vote is bad.

        Raises:
            ThresholdError: a member that has no key.
        """
        for member in partials:
            if not 0 <= member < len(self.keys):
                raise ThresholdError(f"member {member} is outside [0, {len(self.keys)})", member=member)
        return bisect_invalid(dict(enumerate(self.keys)), self.message(epoch, round_number, purpose), partials)

    def combine(
        self, epoch: int, round_number: int, partials: Mapping[int, bytes], purpose: str = DEFAULT_PURPOSE
    ) -> bytes:
        """Return the encoded certificate of the good votes.

        Raises:
            NotEnoughPartialsError: fewer than the quorum.
            ThresholdError: a member that has no key.
        """
        bad = self.invalid_partials(epoch, round_number, partials, purpose)
        good = {member: partial for member, partial in partials.items() if member not in bad}
        if len(good) < self.quorum:
            raise NotEnoughPartialsError(f"{len(good)} good votes, expected {self.quorum}", good=len(good), bad=bad)
        return encode_certificate(make_certificate(len(self.keys), good))

    def verify(self, epoch: int, round_number: int, proof: bytes, purpose: str = DEFAULT_PURPOSE) -> Digest:
        """Return the next value, after checking its certificate.

        Raises:
            BadBeaconError: the certificate is malformed, below the quorum, or for something else.
        """
        message = self.message(epoch, round_number, purpose)
        try:
            verify_certificate(self.keys, self.quorum, message, decode_certificate(proof, len(self.keys)))
        except CollegiumError as error:
            raise BadBeaconError(f"chained beacon of epoch {epoch}, round {round_number} refused: {error}") from error
        return hash_fields("beacon/chained/value", self.previous, message, proof)


def _known_member(group: BeaconGroup, member: int) -> int:
    if not 0 <= member < len(group.public_shares):
        raise ThresholdError(f"member {member} is outside [0, {len(group.public_shares)})", member=member)
    return member
