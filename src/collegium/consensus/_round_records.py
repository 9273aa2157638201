"""Records of a round, in the order beside its close and header: from them `Quality` finds out what reports are worth.

A record is opaque here. Whose it is, and whether it may follow those before it, is for the task's `Quality` to say,
from public bytes alone. Those that are final before a round's close count for that round, in their order; after the
close there are none until the next round. Specified in docs/spec/round.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from collegium.errors import CollegiumError

from ._quality import Quality
from ._records import CERTIFIED_KIND, CLOSE_KIND
from ._round_rules import WrongRoundError, check_record
from ._round_types import RoundContext, RoundState

__all__ = [
    "ROUND_RECORD_BYTES_MAX",
    "HeldRecord",
    "RefusedRecordError",
    "RoundRecord",
    "RoundRecords",
    "awaits_record",
    "check_round_records",
    "encode_round_record",
    "forgets_record",
    "is_round_record",
    "next_record",
    "record_may_follow",
    "records_by_round",
    "take_record",
]

ROUND_RECORD_KIND: Final = b"Q"
ROUND_RECORD_BYTES_MAX: Final = 1 << 22  # of a record, and what proves it
ORDERED_MAX: Final = 256  # of one round: more than the task has who may bring one
AHEAD_MAX: Final = 32  # held until they can be judged


class RefusedRecordError(CollegiumError):
    """A record of a round that is too long, one too many, or out of its place."""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A record of a round, brought to a validator to have it ordered."""

    round: int
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record that is not final here, and when it came."""

    round: int
    record: bytes = field(repr=False)
    came_ms: int


@dataclass(frozen=True, slots=True)
class RoundRecords:
    """The records of the round whose header is not final yet, and those that wait to be ordered.

    What is final is the order's alone, and is found again in it after a crash; what waits is lost with one.

    Attributes:
        final: those of the round that is under way in the order, which may be ahead of what a validator can follow.
        closed: its close is final.
        held: of the present round and the next, as they came: one of each whom `Quality.check_record` tells apart, and
            `AHEAD_MAX` at most that cannot be judged yet.
    """

    final: tuple[bytes, ...] = ()
    closed: bool = False
    held: tuple[HeldRecord, ...] = ()

    def ordered(self, payload: bytes) -> RoundRecords:
        """Return the state after a final payload of any kind.

        Raises:
            RefusedRecordError: a record that is too long, one too many, or between a close and its header.
        """
        if is_round_record(payload):
            record = payload[1:]
            if self.closed:
                raise RefusedRecordError("a record between a close and its header")
            check_form(record, self.final)
            held = tuple(entry for entry in self.held if entry.record != record)
            return RoundRecords((*self.final, record), False, held)
        if payload[:1] == CLOSE_KIND:
            return replace(self, closed=True)
        return RoundRecords(held=self.held) if payload[:1] == CERTIFIED_KIND else self

    def of_round(self, number: int) -> tuple[HeldRecord, ...]:
        """Return what is held of a round."""
        return tuple(entry for entry in self.held if entry.round == number)


def encode_round_record(record: bytes) -> bytes:
    """Return a record as block payload."""
    return ROUND_RECORD_KIND + record


def is_round_record(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be a record of a round."""
    return payload[:1] == ROUND_RECORD_KIND


def records_by_round(payloads: Iterable[bytes]) -> list[tuple[bytes, ...]]:
    """Return the records that count for each round, given a task's final payloads in their order, from round 0 on.

    Raises:
        RefusedRecordError: a record that is too long, one too many, or between a close and its header.
    """
    state, rounds = RoundRecords(), list[tuple[bytes, ...]]()
    for payload in payloads:
        if payload[:1] == CERTIFIED_KIND:
            rounds.append(state.final)
        state = state.ordered(payload)
    return rounds


# ------------------------------------------------------------------------------------------------ one record


def check_form(record: bytes, before: Sequence[bytes]) -> None:
    """Check a record's length, and that no more come before it than a round has.

    Raises:
        RefusedRecordError: otherwise.
    """
    if not 0 < len(record) <= ROUND_RECORD_BYTES_MAX:
        raise RefusedRecordError(f"a record of {len(record)} bytes, expected 1 to {ROUND_RECORD_BYTES_MAX}")
    if len(before) >= ORDERED_MAX:
        raise RefusedRecordError(f"a record after {len(before)}, a round has {ORDERED_MAX} at most")


def check_round_records(quality: Quality, round_number: int, model: bytes, records: Sequence[bytes]) -> None:
    """Check all records that count for a round, in their order; for whoever redoes it.

    Raises:
        RefusedRecordError: too long, or one too many.
        CollegiumError: as `Quality.check_record`, of the first that does not hold.
    """
    for place, record in enumerate(records):
        check_form(record, records[:place])
        quality.check_record(round_number, model, records[:place], record)


def _check(context: RoundContext, state: RoundState, before: tuple[bytes, ...], record: bytes) -> None:
    """Check, once, a record that follows those `before` it in the present round.

    Raises:
        RefusedRecordError: too long, one too many, or there are none in this task.
        WrongRoundError: the round is closed.
        CollegiumError: as `Quality.check_record`.
    """
    if context.quality is None:
        raise RefusedRecordError("a record of a round in a task whose reports do not weigh by quality")
    if state.close is not None or state.over:
        raise WrongRoundError(f"a record of round {state.terms.round}, whose close is final")
    check_form(record, before)
    check_record(context, state, before, record)


def _may_follow(context: RoundContext, state: RoundState, before: tuple[bytes, ...], record: bytes) -> bool:
    try:
        _check(context, state, before, record)
    except CollegiumError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ a validator's part


def take_record(
    context: RoundContext, state: RoundState, records: RoundRecords, message: RoundRecord, now: int, ahead: bool = True
) -> RoundRecords:
    """Return what is held with a record that was brought, if it may follow what is final and held.

    One of the next round, or of a round whose model is not here yet, is held until it can be judged (`ahead`).

    Raises:
        WrongRoundError: of another round, or the round is closed.
        RefusedRecordError: too long, one too many, or there are none in this task.
        CollegiumError: as `Quality.check_record`.
    """
    number, record = state.terms.round, message.record
    if message.round not in (number, number + 1):
        raise WrongRoundError(f"a record of round {message.round}, this is {number}")
    if record in records.final or any(entry.record == record for entry in records.held):
        return records
    present, later = records.of_round(number), records.of_round(number + 1)
    entry = HeldRecord(message.round, record, now)
    if context.quality is not None and (message.round > number or state.lacks_model):
        check_form(record, ())
        waiting = len(later) + (len(present) if state.lacks_model else 0)
        if not ahead or waiting >= AHEAD_MAX:
            raise RefusedRecordError(f"{waiting} records wait to be judged, at most {AHEAD_MAX}")
        return replace(records, held=(*present, *later, entry))
    standing = _standing(context, state, records)
    _check(context, state, (*records.final, *(held.record for held in standing)), record)
    return replace(records, held=(*standing, entry, *later))


def _standing(context: RoundContext, state: RoundState, records: RoundRecords) -> tuple[HeldRecord, ...]:
    """Return what is held of the present round and may follow what is final, each after those before it."""
    standing: list[HeldRecord] = []
    for entry in records.of_round(state.terms.round):
        if _may_follow(context, state, (*records.final, *(held.record for held in standing)), entry.record):
            standing.append(entry)
    return tuple(standing)


def record_may_follow(
    context: RoundContext, state: RoundState, records: RoundRecords, ancestors: Iterable[bytes], payload: bytes
) -> bool:
    """Tell whether a block may order this record after `ancestors`, payloads that are not final yet; never raises.

    A validator that lacks the round's model cannot judge that, and votes for none.
    """
    before = _before(records, ancestors)
    return before is not None and not state.lacks_model and _may_follow(context, state, before, payload[1:])


def next_record(
    context: RoundContext,
    state: RoundState,
    records: RoundRecords,
    ancestors: Iterable[bytes],
    old_ms: int | None = None,
) -> bytes | None:
    """Return the first record held here that a block may order after `ancestors`, as payload; None if there is none.

    `old_ms`: of those alone that have been here since then or longer.
    """
    held = records.of_round(state.terms.round)
    before = _before(records, ancestors) if held and not state.lacks_model else None
    if before is None:
        return None
    for entry in held:
        if (old_ms is None or entry.came_ms <= old_ms) and _may_follow(context, state, before, entry.record):
            return encode_round_record(entry.record)
    return None


def forgets_record(
    context: RoundContext, state: RoundState, records: RoundRecords, ancestors: Iterable[bytes], now: int
) -> bool:
    """Tell whether a close after `ancestors` leaves out a record that everybody has had the time to order.

    That is one that has been here for `keys_ms` and may still follow. From this validator's deadline on none is waited
    for: what a few alone know must not keep a round open.
    """
    if now >= state.began_ms + context.timing.deadline_ms:
        return False
    return next_record(context, state, records, ancestors, now - context.timing.keys_ms) is not None


def awaits_record(
    context: RoundContext, state: RoundState, records: RoundRecords, ancestors: Iterable[bytes], now: int
) -> bool:
    """Tell whether a leader still keeps its close back after `ancestors`, as a record is awaited that is not there.

    Nobody refuses the close of one that does not wait: that somebody else had a record in time nobody could tell.
    """
    quality, terms = context.quality, state.terms
    if quality is None or state.lacks_model or now >= state.began_ms + context.timing.records_ms:
        return False
    before = _before(records, ancestors)
    if before is None:
        return False
    key = ("record awaited", terms.digest, before)
    try:
        return context.work.once(key, lambda: quality.awaits_record(terms.round, state.model, before))
    except CollegiumError:  # cannot be: a quorum has judged what is final
        return False


def _before(records: RoundRecords, ancestors: Iterable[bytes]) -> tuple[bytes, ...] | None:
    """Return the records before a block with these ancestors; None if a close is among them, or final."""
    ancestors = tuple(ancestors)
    if records.closed or any(payload[:1] in (CLOSE_KIND, CERTIFIED_KIND) for payload in ancestors):
        return None
    return (*records.final, *(payload[1:] for payload in ancestors if is_round_record(payload)))
