"""Two lotteries: stake's race for the seats of an epoch, and a round's committee drawn from the epoch set.

Everything is in integers, so every machine draws the same winners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from itertools import count
from math import comb
from typing import Final

from collegium.crypto import BlsPublicKey, BlsSecretKey, BlsVrf, Digest, hash_fields
from collegium.errors import CollegiumError

from ._epoch import EpochSet, Validator, ValidatorIndex, faulty_max

__all__ = [
    "SEATS_MAX",
    "BadTicketError",
    "Registration",
    "SeatCountError",
    "Ticket",
    "TicketCountError",
    "UnsafeSetSizeError",
    "buy_ticket",
    "check_set_size",
    "draw_committee",
    "draw_epoch_set",
    "failure_probability",
    "verify_ticket",
]

SEATS_MAX: Final = 4096
OUTPUT_BITS: Final = 256
LOG_FRACTION_BITS: Final = 64
# Repeated squaring doubles the relative error 64 times: 2^-192 becomes 2^-126, far below the last bit kept.
MANTISSA_BITS: Final = 192


class BadTicketError(CollegiumError):
    """A ticket of nobody registered, a second one of the same key, or one whose proof is wrong."""


class TicketCountError(CollegiumError):
    """Fewer tickets than seats in the epoch set."""


class SeatCountError(CollegiumError):
    """A committee of no seats, or of too many."""


class UnsafeSetSizeError(CollegiumError):
    """A set too small for the promise it is to carry."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A candidate as the base chain knows it: key (possession proved), account, bonded stake in base units."""

    bls_key: bytes
    account: bytes
    stake: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A key's one and only ticket for one epoch: a unique BLS signature over the beacon."""

    bls_key: bytes
    proof: bytes


# ------------------------------------------------------------------------------------------------ race for the epoch


def _ticket_message(task: Digest, epoch: int, beacon: bytes) -> Digest:
    return hash_fields("ticket", task, epoch, beacon)


def buy_ticket(secret: BlsSecretKey, task: Digest, epoch: int, beacon: bytes) -> Ticket:
    """The ticket of this key for `epoch`; there is no other, so nothing can be tried again."""
    return Ticket(bytes(secret.public_key()), BlsVrf.prove(secret, _ticket_message(task, epoch, beacon)))


def verify_ticket(task: Digest, epoch: int, beacon: bytes, ticket: Ticket) -> None:
    """Return if the ticket is its key's for this epoch and beacon value.

    Raises:
        BadTicketError: it is not.
    """
    _output(ticket, _ticket_message(task, epoch, beacon))


def negative_log2(output: int) -> int:
    """-log2((output + 1/2) / 2^256) x 2^64 rounded up, so at least 1, by repeated squaring; output in [0, 2^256).

    An exponential variable made of a uniform one: -log2(u) / stake is the time at which a clock of rate `stake` rings.
    """
    numerator = 2 * output + 1  # of 2^257
    whole = numerator.bit_length() - 1
    mantissa = (numerator << MANTISSA_BITS) >> whole  # in [1, 2)
    fraction = 0
    for _ in range(LOG_FRACTION_BITS):
        mantissa = mantissa * mantissa >> MANTISSA_BITS
        bit = mantissa >> (MANTISSA_BITS + 1)
        mantissa >>= bit
        fraction = fraction << 1 | bit
    return ((OUTPUT_BITS + 1 - whole) << LOG_FRACTION_BITS) - fraction


def draw_epoch_set(
    task: Digest,
    epoch: int,
    beacon: bytes,
    registrations: Sequence[Registration],
    tickets: Sequence[Ticket],
    size: int,
) -> EpochSet:
    """The `size` earliest tickets, earliest first: an exponential race weighted by stake.

    A ticket with output y rings at -log2((y + 1/2) / 2^256) / stake. The earliest is registration i's with probability
    stake_i / total, the next one likewise among the rest, so the size is fixed and splitting stake over several keys
    gains nothing for the first seat. Ties go to the smaller key.

    Raises:
        BadTicketError: unregistered key, a key twice, a wrong proof.
        TicketCountError: fewer tickets than `size`.
        BadEpochSetError: winners that share an account, a stake out of range.
    """
    known = {r.bls_key: r for r in registrations}
    if len(known) != len(registrations):
        raise BadTicketError(f"{len(registrations)} registrations of {len(known)} distinct keys", keys=len(known))
    if not 1 <= size <= len(tickets):
        raise TicketCountError(f"{len(tickets)} tickets for {size} seats", tickets=len(tickets), size=size)
    message = _ticket_message(task, epoch, beacon)
    runners: dict[bytes, tuple[int, int]] = {}
    for ticket in tickets:
        if ticket.bls_key not in known or ticket.bls_key in runners:
            raise BadTicketError(f"ticket of {ticket.bls_key.hex()[:16]}: key unregistered or seen twice")
        runners[ticket.bls_key] = (negative_log2(_output(ticket, message)), known[ticket.bls_key].stake)

    def earlier(a: bytes, b: bytes) -> int:
        (log_a, stake_a), (log_b, stake_b) = runners[a], runners[b]
        left, right = log_a * stake_b, log_b * stake_a
        return (left > right) - (left < right) or (a > b) - (a < b)

    winners = [known[key] for key in sorted(runners, key=cmp_to_key(earlier))[:size]]
    return EpochSet(
        task,
        epoch,
        tuple(Validator(ValidatorIndex(i), w.bls_key, w.account, w.stake) for i, w in enumerate(winners)),
    )


def _output(ticket: Ticket, message: Digest) -> int:
    try:
        output = BlsVrf.verify(BlsPublicKey(ticket.bls_key), message, ticket.proof)
    except CollegiumError as error:
        raise BadTicketError(f"ticket of {ticket.bls_key.hex()[:16]} is not proved: {error}") from error
    return int.from_bytes(output, "big")


# -------------------------------------------------------------------------------------------- committee of one round


def draw_committee(beacon: Digest, epoch_set: EpochSet, seats: int) -> tuple[ValidatorIndex, ...]:
    """Whom each of `seats` seats belongs to: the first seats of one random permutation after another.

    Every validator thus holds floor(seats / n) or ceil(seats / n) seats. Fisher-Yates with unbiased draws from
    SHA-256 of the beacon value, which must be of this round.

    Raises:
        SeatCountError: `seats` is not in 1..4096.
    """
    if not 1 <= seats <= SEATS_MAX:
        raise SeatCountError(f"{seats} seats, expected 1..{SEATS_MAX}", seats=seats)
    stream = _words(beacon, epoch_set.digest())
    drawn: list[ValidatorIndex] = []
    while len(drawn) < seats:
        order = [v.index for v in epoch_set.validators]
        for i in range(len(order) - 1, 0, -1):
            j = _below(i + 1, stream)
            order[i], order[j] = order[j], order[i]
        drawn += order
    return tuple(drawn[:seats])


def _words(beacon: Digest, domain: Digest) -> Iterator[int]:
    for block in count():
        data = hash_fields("committee", domain, beacon, block)
        yield from (int.from_bytes(data[i : i + 8], "little") for i in range(0, 32, 8))


def _below(bound: int, stream: Iterator[int]) -> int:
    """A uniform integer below `bound`, by rejection of the incomplete last interval of 64-bit words."""
    limit = 2**64 - 2**64 % bound
    return next(word for word in stream if word < limit) % bound


# --------------------------------------------------------------------------------------------- what a size promises


def failure_probability(size: int, bad_share: Fraction, bad_min: int) -> Fraction:
    """P[Binomial(size, bad_share) >= bad_min], exactly: seats drawn one by one from much, finely divided stake."""
    a, b = bad_share.numerator, bad_share.denominator
    ways = sum(comb(size, k) * a**k * (b - a) ** (size - k) for k in range(bad_min, size + 1))
    return Fraction(ways, b**size)


def check_set_size(size: int, bad_share: Fraction, bits: int) -> None:
    """Return if a third or more of a drawn epoch set is bad with probability at most 2^-bits.

    Raises:
        UnsafeSetSizeError: the numbers do not carry the promise; the message says what they carry.
    """
    probability = failure_probability(size, bad_share, faulty_max(size) + 1)
    if probability * 2**bits > 1:
        carried = (probability.denominator // probability.numerator).bit_length() - 1
        raise UnsafeSetSizeError(
            f"{size} validators with {float(bad_share):.0%} of the stake bad promise 2^-{carried}, not 2^-{bits}",
            carried_bits=carried,
            bits=bits,
        )
