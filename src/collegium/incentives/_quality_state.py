"""What quality leaves in a model state from one round to the next, as canonical bytes of 64-bit words.

docs/spec/quality.md, section 9. A state's length follows from how many trainers, stewards and parameters there are, so
every number stands where it stood the round before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from collegium.crypto import ADDRESS_BYTES, DIGEST_BYTES, Digest

from ._direction import DIRECTION_BITS, DIRECTION_BITS_MIN, ENTRIES_MAX
from ._errors import QualityBytesError
from ._fixed import ONE, Int64Array
from ._standing import (
    COLUMNS,
    COUNT_MAX,
    TRAINERS_MAX,
    Standing,
    decode_standing,
    standing_bytes,
)

__all__ = [
    "NO_SCORE",
    "STEWARDS_MAX",
    "QualityState",
    "StewardEntry",
    "decode_quality_state",
    "encode_quality_state",
    "quality_state_bytes",
]

FORMAT: Final = b"collegium/v1/quality\0\0\0\0"
STEWARDS_MAX: Final = 64
WEIGHT_MAX: Final = 15
NORM_MAX: Final = 1 << 50
NO_SCORE: Final = -(1 << 63)  # in the place of the score of who was not scored
NO_DIGEST: Final[Digest] = bytes(DIGEST_BYTES)
_ACCOUNT_BYTES: Final = 24  # an address and four zeros
_HEAD_WORDS: Final = 11  # behind the format
_STEWARD_BYTES: Final = _ACCOUNT_BYTES + 3 * DIGEST_BYTES
_COLUMN_COUNT: Final = 2 + len(COLUMNS)


@dataclass(frozen=True, slots=True)
class StewardEntry:
    """What a state holds of one steward.

    Attributes:
        account: its address.
        record: SHA-256 of its record of the state's round; zeros where that has none.
        commitment: that record's, to the score of the model which that round started from; zeros likewise.
        registered: what its rows are registered as, from its first proved record on; zeros before.
    """

    account: bytes
    record: Digest = NO_DIGEST
    commitment: Digest = NO_DIGEST
    registered: Digest = NO_DIGEST


@dataclass(frozen=True, slots=True, eq=False)
class QualityState:
    """What the next round needs to know of all before it.

    Attributes:
        round: the last round that changed this state; 0 where none did.
        standing: of every trainer of the task.
        weights: each trainer's in the next round, in the standing's order, shape (trainers,).
        scores: each trainer's in `round`, -2^16 to 2^16, `NO_SCORE` where it was not scored, shape (trainers,).
        norm_bound: C, what an update moves for each of its rows, 2^-8; 0 before the first sum of updates.
        direction: v for the next round, shape (parameters,); zeros: there is none, and the next round has no scores.
        stewards: all of the task's, in the order of the genesis.
        model_round: which round started from the model that was scored last; 0 where none was.
        model_scores: how many stewards told its score.
        model_score: the median of those scores, 2^-16 of the hidden rows classified right.
    """

    round: int
    standing: Standing
    weights: Int64Array
    scores: Int64Array
    norm_bound: int
    direction: Int64Array
    stewards: tuple[StewardEntry, ...]
    model_round: int = 0
    model_scores: int = 0
    model_score: int = 0

    @property
    def has_direction(self) -> bool:
        """Whether the next round's reports are scored."""
        return bool(self.direction.any())


def quality_state_bytes(trainers: int, stewards: int, parameters: int) -> int:
    """Return how long a state is: a multiple of 8."""
    words = _HEAD_WORDS + _COLUMN_COUNT * trainers + parameters
    return len(FORMAT) + 8 * words + _ACCOUNT_BYTES * trainers + _STEWARD_BYTES * stewards


def encode_quality_state(state: QualityState) -> bytes:
    """Return the canonical bytes: format, numbers, trainers' accounts and columns, stewards, direction."""
    standing = state.standing
    numbers = (
        state.round,
        len(standing),
        len(state.stewards),
        len(state.direction),
        state.norm_bound,
        state.model_round,
        state.model_scores,
        state.model_score,
        standing.round,
        standing.signal,
        standing.signal_first,
    )
    columns = (state.weights, state.scores, *(getattr(standing, name) for name, _, _ in COLUMNS))
    return b"".join(
        (
            FORMAT,
            *(number.to_bytes(8, "little") for number in numbers),
            *(_pad(address) for address in standing.addresses),
            *(_words(column) for column in columns),
            *(_pad(entry.account) + entry.record + entry.commitment + entry.registered for entry in state.stewards),
            _words(state.direction),
        )
    )


def decode_quality_state(data: bytes) -> QualityState:
    """Return the state that canonical bytes encode.

    Raises:
        QualityBytesError: format, length, or a number out of its bounds.
        StandingBytesError: the standing in it has one, or an address that occurs twice.
    """
    start = len(FORMAT) + 8 * _HEAD_WORDS
    if len(data) < start or not data.startswith(FORMAT):
        raise QualityBytesError(f"{len(data)} bytes do not begin as a state of quality does", length=len(data))
    numbers = [int(word) for word in np.frombuffer(data, "<u8", _HEAD_WORDS, len(FORMAT))]
    round_number, trainers, stewards, parameters, norm_bound, model_round, model_scores, model_score = numbers[:8]
    most = {"trainers": TRAINERS_MAX, "stewards": STEWARDS_MAX, "parameters": ENTRIES_MAX}
    for (name, bound), count in zip(most.items(), (trainers, stewards, parameters), strict=True):
        _check(name, count, int(name != "trainers"), bound)
    expected = quality_state_bytes(trainers, stewards, parameters)
    if len(data) != expected:
        raise QualityBytesError(
            f"{len(data)} bytes for {trainers} trainers, {stewards} stewards and {parameters} parameters, expected "
            f"{expected}",
            length=len(data),
        )
    _check("round", round_number, 0, COUNT_MAX)
    _check("norm_bound", norm_bound, 0, NORM_MAX)
    _check("model_scores", model_scores, 0, stewards)
    _check("model_round", model_round, int(model_scores > 0), round_number if model_scores else 0)
    _check("model_score", model_score, 0, ONE if model_scores else 0)
    addresses = [_address(data, start + _ACCOUNT_BYTES * place) for place in range(trainers)]
    start += _ACCOUNT_BYTES * trainers
    columns = [_column(data, start + 8 * trainers * place, trainers) for place in range(_COLUMN_COUNT)]
    _check_column("weights", columns[0], 0, WEIGHT_MAX)
    _check_column("scores", columns[1][columns[1] != NO_SCORE], -ONE, ONE)
    start += 8 * trainers * _COLUMN_COUNT
    standing = decode_standing(standing_bytes(numbers[8:11], addresses, columns[2:]))
    entries = _stewards(data, start, stewards)
    direction = _column(data, start + _STEWARD_BYTES * stewards, parameters)
    _check_direction(direction, norm_bound)
    return QualityState(
        round_number,
        standing,
        columns[0],
        columns[1],
        norm_bound,
        direction,
        entries,
        model_round,
        model_scores,
        model_score,
    )


def _stewards(data: bytes, start: int, count: int) -> tuple[StewardEntry, ...]:
    entries: list[StewardEntry] = []
    for at in range(start, start + count * _STEWARD_BYTES, _STEWARD_BYTES):
        middle = at + _ACCOUNT_BYTES
        starts = range(middle, at + _STEWARD_BYTES, DIGEST_BYTES)
        record, commitment, registered = (data[start : start + DIGEST_BYTES] for start in starts)
        if (record == NO_DIGEST) != (commitment == NO_DIGEST):
            raise QualityBytesError(f"steward {len(entries)} has a record or a commitment, expected both or neither")
        entries.append(StewardEntry(_address(data, at), record, commitment, registered))
    if len({entry.account for entry in entries}) != count:
        raise QualityBytesError("a steward occurs twice", count=count)
    return tuple(entries)


def _check_direction(direction: Int64Array, norm_bound: int) -> None:
    if not direction.any():
        return
    largest = int(np.abs(np.clip(direction, -(1 << 62), 1 << 62)).max())
    if largest & (largest - 1) or not 1 << DIRECTION_BITS_MIN <= largest <= 1 << DIRECTION_BITS:
        raise QualityBytesError(
            f"the largest entry of a direction is {largest}, expected a power of two from {1 << DIRECTION_BITS_MIN} "
            f"to {1 << DIRECTION_BITS}",
            largest=largest,
        )
    if not norm_bound:
        raise QualityBytesError("there is a direction without a norm bound, expected both")


def _check(name: str, value: int, least: int, greatest: int) -> None:
    if not least <= value <= greatest:
        raise QualityBytesError(f"{name} is {value}, expected {least} to {greatest}", name=name, value=value)


def _check_column(name: str, column: Int64Array, least: int, greatest: int) -> None:
    if column.size and not (least <= int(column.min()) and int(column.max()) <= greatest):
        raise QualityBytesError(
            f"{name} goes from {column.min()} to {column.max()}, expected {least} to {greatest}", name=name
        )


def _column(data: bytes, start: int, count: int) -> Int64Array:
    return np.frombuffer(data, "<i8", count, start).astype(np.int64)


def _words(column: Int64Array) -> bytes:
    return column.astype("<i8").tobytes()


def _pad(address: bytes) -> bytes:
    return address.ljust(_ACCOUNT_BYTES, b"\0")


def _address(data: bytes, at: int) -> bytes:
    padded = data[at : at + _ACCOUNT_BYTES]
    if padded[ADDRESS_BYTES:] != bytes(_ACCOUNT_BYTES - ADDRESS_BYTES):
        raise QualityBytesError(f"{padded[ADDRESS_BYTES:].hex()} stands behind an address, expected zeros")
    return padded[:ADDRESS_BYTES]
