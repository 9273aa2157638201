"""Certificates of a round's committee: one BLS signature and a bitmap of seats, more than two thirds of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from collegium.aggregation import RoundTerms
from collegium.crypto import (
    BlsPublicKey,
    Digest,
    bisect_invalid,
    bls_verify,
    decode_certificate,
    encode_certificate,
    make_certificate,
    verify_certificate,
)
from collegium.errors import CollegiumError

from ._epoch import EpochSet, quorum_size
from ._lottery import draw_committee

__all__ = ["add_votes", "assign_seats", "certify_seats", "check_seat_certificate", "seat_keys", "seat_quorum"]


def assign_seats(beacon: Digest, epoch_set: EpochSet, seats: int) -> tuple[int, ...]:
    """Return the validator of each seat of a round.

    Drawn by the round's beacon; where there is a seat for every validator, as in a consortium, seat i is validator i's.
    """
    if seats == epoch_set.size:
        return tuple(range(seats))
    return tuple(draw_committee(beacon, epoch_set, seats))


def seat_quorum(seats: int) -> int:
    """Return how many of `seats` make a certificate: more than two thirds."""
    return quorum_size(seats)


def certify_seats(
    epoch_set: EpochSet, terms: RoundTerms, digest: Digest, votes: Mapping[int, bytes]
) -> tuple[dict[int, bytes], bytes | None]:
    """Return the votes whose signature holds and, if they are a quorum, the certificate's bytes.

    The certificate of all of them is made and checked first: if it holds, it proves what it must, however its votes add
    up. Only if it does not are the bad votes looked for, each on its own.
    """
    keys = seat_keys(epoch_set, terms)
    quorum = seat_quorum(len(keys))
    if len(votes) >= quorum:
        with suppress(CollegiumError):
            certificate = make_certificate(len(keys), votes, verified_next=True)
            verify_certificate(keys, quorum, digest, certificate)
            return dict(votes), encode_certificate(certificate)
    bad = frozenset(bisect_invalid(dict(enumerate(keys)), digest, votes))
    good = {seat: signature for seat, signature in votes.items() if seat not in bad}
    if len(good) < quorum:
        return good, None
    return good, encode_certificate(make_certificate(len(keys), good))


def add_votes(
    epoch_set: EpochSet,
    terms: RoundTerms,
    votes: Mapping[int, bytes],
    seats: Sequence[int],
    digest: Digest,
    signature: bytes,
) -> tuple[dict[int, bytes], bytes | None]:
    """Return the votes on `digest` with one validator's seats and, if they are a quorum, the certificate's bytes.

    Votes are checked together at a quorum. A signature is unique, so of two for one seat one is bad: check it then. A
    seat whose vote was bad keeps an empty one: whatever it sends next is checked by itself, or one bad vote after the
    other would have all of them checked again.

    Raises:
        CollegiumError: another signature than the one known for a seat, or than a bad one, does not hold.
    """
    if any(votes.get(seat, signature) != signature for seat in seats):
        bls_verify(seat_keys(epoch_set, terms)[seats[0]], digest, signature)
    votes = {**votes, **dict.fromkeys(seats, signature)}
    counted = {seat: vote for seat, vote in votes.items() if vote}
    if len(counted) < seat_quorum(len(terms.seats)):
        return votes, None
    good, certificate = certify_seats(epoch_set, terms, digest, counted)
    return {**dict.fromkeys(votes, b""), **good}, certificate


def check_seat_certificate(epoch_set: EpochSet, terms: RoundTerms, digest: Digest, certificate: bytes) -> None:
    """Check that more than two thirds of the round's seats signed `digest`.

    Raises:
        CollegiumError: malformed, no quorum, or a signature that does not hold.
    """
    keys = seat_keys(epoch_set, terms)
    verify_certificate(keys, seat_quorum(len(keys)), digest, decode_certificate(certificate, len(keys)))


def seat_keys(epoch_set: EpochSet, terms: RoundTerms) -> list[BlsPublicKey]:
    """Return the voting key of each seat's validator."""
    by_account = {validator.account: validator.bls_key for validator in epoch_set.validators}
    return [BlsPublicKey(by_account[seat.validator]) for seat in terms.seats]
