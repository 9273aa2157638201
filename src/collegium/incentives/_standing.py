"""What the rounds so far have said of every trainer: the state that a header can name and a dispute open.

One row a trainer, in the order of joining; docs/spec/quality.md, sections 4 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from collegium.crypto import ADDRESS_BYTES, Digest, hash_fields

from ._errors import StandingBytesError, StandingError
from ._fixed import FRACTION_BITS, ONE, Int64Array
from ._policy import Policy, policy_digest

__all__ = [
    "TRAINERS_MAX",
    "Standing",
    "decode_standing",
    "encode_standing",
    "join",
    "new_standing",
    "standing_digest",
    "utility",
]

FORMAT: Final = b"collegium/v1/standing\0"
TRAINERS_MAX: Final = 1 << 20
COUNT_MAX: Final = 1 << 40  # of rounds, reports and locks
POINTS_MAX: Final = (1 << 62) - 1  # of a trainer in all
PRECISION_MAX: Final = 1 << 45
WINDOW_MAX: Final = 1 << 38
BASELINE_MAX: Final = 1 << 17
UTILITY_MAX: Final = 4 << FRACTION_BITS
_HEADER_BYTES: Final = len(FORMAT) + 4 * 8

_NUMBERS: Final = (("round", COUNT_MAX), ("signal", ONE), ("signal_first", ONE))  # name, greatest

# name, least, greatest
COLUMNS: Final = (
    ("precision", 0, PRECISION_MAX),
    ("information", -PRECISION_MAX, PRECISION_MAX),
    ("baseline", -BASELINE_MAX, BASELINE_MAX),
    ("window_precision", 0, WINDOW_MAX),
    ("window_information", -WINDOW_MAX, WINDOW_MAX),
    ("scored", 0, COUNT_MAX),
    ("reports", 0, COUNT_MAX),
    ("locked_until", 0, COUNT_MAX),
    ("locks", 0, COUNT_MAX),
    ("vetted", 0, 1),
    ("points", 0, POINTS_MAX),
)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """The trainers of a task before round `round`.

    Attributes:
        round: how many rounds have been weighed.
        signal: the last round's, 2^-16.
        signal_first: the first round's that had any, 0 before.
        addresses: one account a trainer, in the order of joining.
        precision: how much is known of each utility beyond the prior, 2^-20, shape (n,) as all that follow.
        information: precision x utility, 2^-20.
        baseline: the trainer's usual distance from a round's median score, 2^-16.
        window_precision: the change detector's, 2^-20.
        window_information: precision x distance from the baseline, 2^-20.
        scored: reports ever scored.
        reports: reports scored since the last lock.
        locked_until: the first round in which the trainer may be drawn again.
        locks: how often it was locked out.
        vetted: 1 when probation is over.
        points: what it has earned, 2^-16.
    """

    round: int
    signal: int
    signal_first: int
    addresses: tuple[bytes, ...]
    precision: Int64Array
    information: Int64Array
    baseline: Int64Array
    window_precision: Int64Array
    window_information: Int64Array
    scored: Int64Array
    reports: Int64Array
    locked_until: Int64Array
    locks: Int64Array
    vetted: Int64Array
    points: Int64Array

    def __len__(self) -> int:
        return len(self.addresses)


def new_standing(founders: Iterable[bytes]) -> Standing:
    """Return the state before the first round. Founders are vetted: somebody must have weight in it.

    Raises:
        StandingError: as `join`.
    """
    nobody: dict[str, Any] = {name: np.zeros(0, np.int64) for name, _, _ in COLUMNS}
    return join(Standing(0, 0, 0, (), **nobody), founders, vetted=True)


def join(standing: Standing, addresses: Iterable[bytes], *, vetted: bool = False) -> Standing:
    """Return the state with newcomers at its end, on probation unless `vetted`.

    Raises:
        StandingError: an address is not 20 bytes or is there already, or there are more than 2^20 trainers.
    """
    added = tuple(addresses)
    known = set(standing.addresses)
    for address in added:
        if len(address) != ADDRESS_BYTES or address in known:
            raise StandingError(
                f"{address.hex()} is not {ADDRESS_BYTES} bytes, or has joined already", address=address.hex()
            )
        known.add(address)
    if len(known) > TRAINERS_MAX:
        raise StandingError(f"{len(known)} trainers, expected at most {TRAINERS_MAX}", count=len(known))
    grown: dict[str, Any] = {
        name: np.append(getattr(standing, name), np.full(len(added), int(vetted and name == "vetted"), np.int64))
        for name, _, _ in COLUMNS
    }
    return replace(standing, addresses=standing.addresses + added, **grown)


def utility(policy: Policy, standing: Standing) -> tuple[Int64Array, Int64Array]:
    """Return every trainer's utility (2^-16, cut to [-4, 4]) and its precision with the prior's (2^-20)."""
    precision = standing.precision + policy.prior_precision
    prior = policy.prior_precision * policy.prior_utility >> FRACTION_BITS
    estimate = ((standing.information + prior) << FRACTION_BITS) // precision
    return np.clip(estimate, -UTILITY_MAX, UTILITY_MAX), precision


def encode_standing(standing: Standing) -> bytes:
    """Return the canonical bytes: format, round, both signals, count, addresses, then column after column."""
    numbers = (standing.round, standing.signal, standing.signal_first)
    return standing_bytes(numbers, standing.addresses, [getattr(standing, name) for name, _, _ in COLUMNS])


def standing_bytes(numbers: Sequence[int], addresses: Sequence[bytes], columns: Sequence[Int64Array]) -> bytes:
    """Return what `encode_standing` writes of round, both signals, addresses and columns, whatever they say."""
    heads = (number.to_bytes(8, "little") for number in (*numbers, len(addresses)))
    return b"".join((FORMAT, *heads, *addresses, *(column.astype("<i8").tobytes() for column in columns)))


def decode_standing(data: bytes) -> Standing:
    """Return the standing that canonical bytes encode.

    Raises:
        StandingBytesError: format, length, an address that occurs twice, or a number out of its bounds.
    """
    if len(data) < _HEADER_BYTES or not data.startswith(FORMAT):
        raise StandingBytesError(f"{len(data)} bytes do not begin as a standing does", length=len(data))
    start = len(FORMAT)
    numbers = [int.from_bytes(data[start + 8 * i : start + 8 * i + 8], "little") for i in range(4)]
    *rounds, count = numbers
    width = ADDRESS_BYTES + 8 * len(COLUMNS)
    if count > TRAINERS_MAX or len(data) != _HEADER_BYTES + count * width:
        raise StandingBytesError(
            f"{len(data)} bytes for {count} trainers, expected {_HEADER_BYTES} and {width} for each of at most "
            f"{TRAINERS_MAX}",
            length=len(data),
            count=count,
        )
    for (name, most), value in zip(_NUMBERS, rounds, strict=True):
        if value > most:
            raise StandingBytesError(f"{name} is {value}, expected at most {most}", name=name, value=value)
    end = _HEADER_BYTES + count * ADDRESS_BYTES
    addresses = tuple(data[i : i + ADDRESS_BYTES] for i in range(_HEADER_BYTES, end, ADDRESS_BYTES))
    if len(set(addresses)) != count:
        raise StandingBytesError("an address occurs twice", count=count)
    columns: dict[str, Any] = {}
    for index, (name, least, greatest) in enumerate(COLUMNS):
        column = np.frombuffer(data, "<i8", count, end + 8 * count * index).astype(np.int64)
        if count and not (least <= int(column.min()) and int(column.max()) <= greatest):
            raise StandingBytesError(
                f"{name} goes from {column.min()} to {column.max()}, expected {least} to {greatest}", name=name
            )
        columns[name] = column
    return Standing(round=rounds[0], signal=rounds[1], signal_first=rounds[2], addresses=addresses, **columns)


def standing_digest(policy: Policy, standing: Standing) -> Digest:
    """Return the digest that a header names: of the policy and the canonical bytes."""
    return hash_fields("standing", policy_digest(policy), encode_standing(standing))
