"""One validator's part in a learning round, as a pure state machine beside the ordering one.

A round reads from top to bottom: admit (receipts), close (ordered by the epoch set), release (once, persisted first),
open (anyone), certify (the committee), finish (ordered by the epoch set). Specified in docs/spec/round.md.

Nothing here waits, draws randomness or keeps time: `round_step(context, state, message, now)` returns the next state
and effects. Work that is a pure function of public bytes goes through `context.work`, so that many validators in one
process share it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import KeySum, Layout, OpenedSum, Receipt, Report, RoundTerms, SeatTerms, Upload
from collegium.commitment import ColumnRange
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    Randomness,
    SealKey,
    ThresholdBeacon,
    recover_address,
)
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._records import Announcement, Certified, Close, Header, Outcome, decode_payload, encode_payload
from ._seats import assign_seats, certify_seats, check_seat_certificate, seat_quorum

__all__ = [
    "Admitted",
    "Agreed",
    "HeaderProposal",
    "HeaderVote",
    "Refused",
    "Release",
    "ReleaseRecord",
    "RoundAlarm",
    "RoundBroadcast",
    "RoundContext",
    "RoundFinished",
    "RoundMessage",
    "RoundSend",
    "RoundState",
    "RoundSubmit",
    "RoundTimer",
    "RoundTiming",
    "SeatReceipt",
    "begin",
    "check_announcement",
    "check_certified",
    "check_close",
    "close_for",
    "finish",
    "next_payload",
    "payload_accepted",
    "release",
    "round_step",
    "terms_after",
    "total_digest",
]

IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

# ------------------------------------------------------------------------------------------------ what is agreed on


class Agreed(Protocol):
    """The task's public work: the same on every machine, so anyone can redo it."""

    @property
    def task(self) -> Digest: ...

    @property
    def level(self) -> str: ...

    def layout(self, round_number: int) -> Layout:
        """Return where this round's entries stand and their bounds."""
        ...

    def step(self, round_number: int, model: bytes, total: IntArray) -> bytes:
        """Return the model state after adding `total`, a weighted sum of updates.

        Raises:
            CollegiumError: when the total is one that no admitted update can give.
        """
        ...


class Work(Protocol):
    """Runs a pure computation; one that shares results does it once for equal keys."""

    def once(self, key: Hashable, compute: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class RoundTiming:
    """Milliseconds a round waits for stragglers, counted on the validator's clock."""

    grace_ms: int = 20  # after the last missing piece arrived
    deadline_ms: int = 60_000  # after the round began: close with what is there
    release_ms: int = 2_000  # after the close is final: open with the sums that are there
    turn_ms: int = 1_500  # between the proposer of the close and the next in line to propose the header


@dataclass(frozen=True)
class RoundContext:
    """What does not change during an epoch."""

    agreed: Agreed
    epoch_set: EpochSet
    index: int
    account: AccountKey
    voting_key: BlsSecretKey
    beacon: ThresholdBeacon
    cohort: frozenset[bytes]  # trainers of the task, by account address
    seats: int
    work: Work
    random: Randomness
    timing: RoundTiming = field(default_factory=RoundTiming)
    cohort_min: int = 2
    lying_max: int = 1

    @property
    def epoch(self) -> int:
        """The epoch whose validators these are."""
        return self.epoch_set.epoch


# ------------------------------------------------------------------------------------------------ messages and effects


@dataclass(frozen=True)
class SeatReceipt:
    """A seat's receipt, told to every validator."""

    round: int
    receipt: Receipt


@dataclass(frozen=True)
class Release:
    """What a validator gives out for one final close: its seats' key sums and its share of the next beacon."""

    round: int
    validator: int
    close: Digest
    key_sums: tuple[KeySum, ...]
    beacon_share: bytes


@dataclass(frozen=True)
class HeaderProposal:
    """A leader's opened result, with everything needed to check it."""

    header: Header
    key_sums: tuple[KeySum, ...]
    proposer: int


@dataclass(frozen=True)
class HeaderVote:
    """The seats of one validator on a header: one signature counts for each of its seats."""

    round: int
    header: Digest
    validator: int
    signature: bytes


RoundMessage = Upload | SeatReceipt | Announcement | Release | HeaderProposal | HeaderVote
"""What travels between participants; `RoundAlarm` is what a validator says to itself."""


@dataclass(frozen=True)
class RoundBroadcast:
    """Tell every validator, this one included."""

    message: RoundMessage


@dataclass(frozen=True)
class RoundSend:
    """Tell one validator."""

    to: int
    message: RoundMessage


@dataclass(frozen=True)
class ReleaseRecord:
    """Must be on disk before the release that follows it leaves: one close a round, for ever."""

    round: int
    close: Digest


@dataclass(frozen=True)
class RoundAlarm:
    """Look at the clock again; asked for with `RoundTimer`."""

    round: int


@dataclass(frozen=True)
class RoundTimer:
    """Give back `alarm` at `at_ms`."""

    alarm: RoundAlarm
    at_ms: int


@dataclass(frozen=True)
class RoundSubmit:
    """Have this payload ordered by the epoch set."""

    payload: bytes


@dataclass(frozen=True)
class Admitted:
    """This validator's seats issued receipts for a report."""

    round: int
    report: Digest


@dataclass(frozen=True)
class Refused:
    """A message that this validator will not act on, and the named reason."""

    round: int
    sender: str
    reason: CollegiumError


@dataclass(frozen=True)
class RoundFinished:
    """A header became final: the model that the next round starts from."""

    header: Header
    model: bytes


RoundEffect = RoundBroadcast | RoundSend | RoundTimer | RoundSubmit | ReleaseRecord | Admitted | Refused | RoundFinished
Outcomes = tuple["RoundState", tuple[RoundEffect, ...]]


@dataclass(frozen=True)
class Held:
    """A checked report with its ciphertext."""

    report: Report
    ciphertext: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RoundState:
    """What one validator knows of the current round. Mappings are never changed in place.

    Sizes: reports and columns are bounded by the cohort, receipts by cohort x seats, votes by validators.
    """

    terms: RoundTerms
    model: bytes
    began_ms: int
    secrets: Mapping[int, SealKey]  # by round; a round's key is dropped when its result is final
    reports: Mapping[bytes, Held] = field(default_factory=dict)  # by trainer: one report a round
    columns: Mapping[tuple[Digest, int], ColumnRange] = field(default_factory=dict)  # by report and own seat
    receipts: Mapping[Digest, Mapping[int, bytes]] = field(default_factory=dict)  # by report, then seat
    early: tuple[SeatReceipt, ...] = ()  # receipts for reports still on their way here
    announcements: Mapping[int, Announcement] = field(default_factory=dict)
    changed_ms: int = 0
    close: Close | None = None
    closed_ms: int = 0
    released: Mapping[int, Digest] = field(default_factory=dict)  # by round: what was persisted
    releases: Mapping[int, Release] = field(default_factory=dict)
    turn_ms: int = 0  # from when on this validator proposes the header
    proposed: bool = False
    proposal: HeaderProposal | None = None
    votes: Mapping[Digest, Mapping[int, bytes]] = field(default_factory=dict)
    certified: Certified | None = None
    ahead: tuple[RoundMessage, ...] = ()  # of the next round, from validators that are ahead of this one

    def own_seats(self, context: RoundContext) -> tuple[int, ...]:
        """Return the seats that this validator holds in this round."""
        address = context.epoch_set.validators[context.index].account
        return tuple(i for i, seat in enumerate(self.terms.seats) if seat.validator == address)


# ------------------------------------------------------------------------------------------------ begin


def terms_after(agreed: Agreed, epoch_set: EpochSet, header: Header) -> RoundTerms:
    """Return the terms that a final header fixes for the round after it."""
    keys = {a.validator: a.seal_key for a in header.announcements}
    seats = tuple(SeatTerms(epoch_set.validators[v].account, keys.get(v)) for v in header.seats)
    number = header.round + 1
    return RoundTerms(
        task=header.task,
        round=number,
        previous=header.digest,
        model=header.model,
        beacon=sha256(header.beacon).digest(),
        seats=seats,
        layout=agreed.layout(number),
    )


def begin(context: RoundContext, terms: RoundTerms, model: bytes, secrets: Mapping[int, SealKey], now: int) -> Outcomes:
    """Enter a round: make the next round's sealing key and announce it."""
    secret = SealKey.generate(context.random)
    unsigned = Announcement(context.index, terms.round + 1, secret.public_bytes, b"")
    announcement = replace(unsigned, signature=context.account.sign(unsigned.digest(terms.task)))
    kept = {number: key for number, key in secrets.items() if number >= terms.round}
    state = RoundState(terms, model, now, {**kept, terms.round + 1: secret}, changed_ms=now)
    deadline = RoundTimer(RoundAlarm(terms.round), now + context.timing.deadline_ms)
    return state, (RoundBroadcast(announcement), deadline)


# ------------------------------------------------------------------------------------------------ step


def round_step(context: RoundContext, state: RoundState, message: RoundMessage | RoundAlarm, now: int) -> Outcomes:
    """Handle one message of the round; what is hostile, late or repeated changes nothing and is `Refused` by name.

    A message that cannot be judged yet, of the next round or about a close that is not final here, waits.
    """
    try:
        if not isinstance(message, RoundAlarm) and _is_early(state, message):
            return _keep(context, state, message), ()
        return _handle(context, state, message, now)
    except CollegiumError as error:
        return state, (Refused(state.terms.round, type(message).__name__, error),)


def _is_early(state: RoundState, message: RoundMessage) -> bool:
    unfinal = isinstance(message, HeaderProposal) and state.close is None
    return unfinal or _round_of(message) == state.terms.round + 1


def _keep(context: RoundContext, state: RoundState, message: RoundMessage) -> RoundState:
    """Keep a message for later: no more of them than an honest network can send, and one signed report a trainer."""
    validators = len(context.epoch_set.validators)
    if isinstance(message, Upload):
        trainer = message.report.trainer
        others = {kept.report.trainer for kept in state.ahead if isinstance(kept, Upload)}
        if trainer not in context.cohort or recover_address(message.report.id, message.report.signature) != trainer:
            raise NotInCohortError(f"early report of {trainer.hex()} is not a registered trainer's")
        if trainer in others:
            return state
    elif len(state.ahead) >= (len(context.cohort) + 3) * (context.seats + validators):
        return state
    return replace(state, ahead=(*state.ahead, message))


def _handle(context: RoundContext, state: RoundState, message: RoundMessage | RoundAlarm, now: int) -> Outcomes:
    match message:
        case Upload():
            outcome = _admit(context, state, message, now)
        case SeatReceipt():
            outcome = _take_receipt(context, state, message, now)
        case Announcement():
            outcome = _take_announcement(context, state, message)
        case Release():
            outcome = _take_release(context, state, message, now)
        case HeaderProposal():
            outcome = _take_proposal(context, state, message)
        case HeaderVote():
            outcome = _take_vote(context, state, message)
        case RoundAlarm():
            outcome = _propose_header(context, state, now)
    return outcome


def _round_of(message: RoundMessage) -> int:
    """Return the round that a message belongs to."""
    match message:
        case Upload():
            return message.report.round
        case Announcement():
            return message.round - 1
        case HeaderProposal():
            return message.header.round
        case _:
            return message.round


def _replay(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Look again at the messages that were too early."""
    waiting, state = state.ahead, replace(state, ahead=())
    effects: list[RoundEffect] = []
    for message in waiting:
        state, more = round_step(context, state, message, now)
        effects.extend(more)
    return state, tuple(effects)


class WrongRoundError(CollegiumError):
    """A message is for another round than the current one."""


class NotInCohortError(CollegiumError):
    """A report's trainer is not registered for the task."""


class RepeatedReportError(CollegiumError):
    """A trainer signed two reports for one round."""


class ProposalRefusedError(CollegiumError):
    """A proposed header is not what its close and key sums give."""


# ------------------------------------------------------------------------------------------------ admit


def _admit(context: RoundContext, state: RoundState, upload: Upload, now: int) -> Outcomes:
    """Check a report in public, then each own seat's columns; sign a receipt for each seat whose columns fit."""
    report = upload.report
    if report.round != state.terms.round:
        raise WrongRoundError(f"report for round {report.round}, this is {state.terms.round}")
    if report.trainer not in context.cohort:
        raise NotInCohortError(f"trainer {report.trainer.hex()} is not registered for this task")
    held = state.reports.get(report.trainer)
    if held is not None:
        if held.report.id == report.id:
            return state, ()
        raise RepeatedReportError(f"trainer {report.trainer.hex()} signed {held.report.id.hex()} and {report.id.hex()}")
    ciphertext = check_upload(context.work, state.terms, upload)
    state = replace(state, reports={**state.reports, report.trainer: Held(report, ciphertext)}, changed_ms=now)
    effects: list[RoundEffect] = []
    for seat in state.own_seats(context):
        try:
            opened = aggregation.open_columns(
                state.terms, report, seat, upload.boxes[seat], state.secrets[state.terms.round]
            )
            aggregation.check_columns(state.terms, report, seat, opened)
        except CollegiumError as error:
            effects.append(Refused(state.terms.round, f"columns of {report.trainer.hex()}", error))
            continue
        state = replace(state, columns={**state.columns, (report.id, seat): opened})
        receipt = aggregation.issue_receipt(state.terms, report, seat, context.account)
        effects.append(RoundBroadcast(SeatReceipt(state.terms.round, receipt)))
        effects.append(Admitted(state.terms.round, report.id))
    early, state = state.early, replace(state, early=())
    for waiting in early:
        state, more = _take_receipt(context, state, waiting, now)
        effects.extend(more)
    return state, tuple(effects)


def check_upload(work: Work, terms: RoundTerms, upload: Upload) -> npt.NDArray[np.uint64]:
    """Return c, after every public check of a report.

    Raises:
        CollegiumError: the report or c is not what it must be.
    """
    report = upload.report
    if len(upload.boxes) != len(terms.seats):
        raise aggregation.ReportRejectedError(f"{len(upload.boxes)} boxes for {len(terms.seats)} seats")

    def check() -> npt.NDArray[np.uint64]:
        aggregation.check_report(terms, report)
        if sha256(upload.ciphertext).digest() != report.ciphertext:
            raise aggregation.ReportRejectedError("the masked update is not the one that the report names")
        return aggregation.decode_ciphertext(terms.layout, upload.ciphertext)

    return work.once(("report", terms.digest, report.id, report.signature), check)


def _take_receipt(context: RoundContext, state: RoundState, message: SeatReceipt, now: int) -> Outcomes:
    receipt = message.receipt
    if message.round != state.terms.round:
        raise WrongRoundError(f"receipt for round {message.round}, this is {state.terms.round}")
    held = next((h for h in state.reports.values() if h.report.id == receipt.report), None)
    if held is None:
        bound = len(context.cohort) * context.seats
        return (state if len(state.early) >= bound else replace(state, early=(*state.early, message))), ()
    known = state.receipts.get(receipt.report, {})
    if receipt.seat in known:
        return state, ()
    key = ("receipt", receipt.report, receipt.seat, receipt.signature)
    context.work.once(key, lambda: aggregation.check_receipt(state.terms, held.report, receipt))
    receipts = {**state.receipts, receipt.report: {**known, receipt.seat: receipt.signature}}
    state = replace(state, receipts=receipts, changed_ms=now)
    if not _complete(context, state):
        return state, ()
    return state, (RoundTimer(RoundAlarm(message.round), now + context.timing.grace_ms),)


def _take_announcement(context: RoundContext, state: RoundState, message: Announcement) -> Outcomes:
    if message.round != state.terms.round + 1:
        raise WrongRoundError(f"sealing key for round {message.round}, expected {state.terms.round + 1}")
    if message.validator in state.announcements:
        return state, ()
    context.work.once(
        ("announcement", message.digest(state.terms.task), message.signature),
        lambda: check_announcement(state.terms.task, context.epoch_set, message),
    )
    return replace(state, announcements={**state.announcements, message.validator: message}), ()


def check_announcement(task: Digest, epoch_set: EpochSet, announcement: Announcement) -> None:
    """Check that a sealing key is signed by its validator: a leader must not plant a key of its own.

    Raises:
        ProposalRefusedError: no such validator, or another signer.
    """
    if not 0 <= announcement.validator < len(epoch_set.validators):
        raise ProposalRefusedError(f"sealing key of validator {announcement.validator}: no such validator")
    signer = recover_address(announcement.digest(task), announcement.signature)
    if signer != epoch_set.validators[announcement.validator].account:
        raise ProposalRefusedError(f"sealing key of validator {announcement.validator} is signed by {signer.hex()}")


# ------------------------------------------------------------------------------------------------ close


def close_for(context: RoundContext, state: RoundState, now: int) -> Close | None:
    """Return the close that this validator would propose now, or None while it is worth waiting.

    At once (after the grace) when every registered trainer's report has receipts from enough seats that the sum
    decodes although `lying_max` of them lie; at the deadline with what there is: the seats of Q hold a receipt for
    every admitted report, and reports that keep Q too small are left out, fewest receipts first.
    """
    late = now >= state.began_ms + context.timing.deadline_ms
    settled = now >= state.changed_ms + context.timing.grace_ms and _complete(context, state)
    if not (late or settled):
        return None
    needed = aggregation.seats_needed(context.seats)
    holders = {report: frozenset(seats) for report, seats in state.receipts.items()}
    admitted = sorted(report for report, seats in holders.items() if len(seats) >= needed)
    seats = _common(holders, admitted)
    if not late and len(seats) < aggregation.seats_needed(context.seats, context.lying_max):
        return None
    while admitted and len(seats) < needed:
        admitted.remove(min(admitted, key=lambda report: (len(holders[report]), report)))
        seats = _common(holders, admitted)
    if len(admitted) < context.cohort_min:
        admitted, seats = [], frozenset()
    order = tuple(sorted(seats))
    return Close(
        task=state.terms.task,
        round=state.terms.round,
        terms=state.terms.digest,
        seats=order,
        reports=tuple(admitted),
        weights=(1,) * len(admitted),
        receipts=tuple(tuple(state.receipts[report][seat] for seat in order) for report in admitted),
    )


def _complete(context: RoundContext, state: RoundState) -> bool:
    """Whether every registered trainer's report has receipts from enough seats to bear `lying_max` liars."""
    comfortable = aggregation.seats_needed(context.seats, context.lying_max)
    counts = [len(seats) for seats in state.receipts.values()]
    return len(counts) == len(context.cohort) and min(counts, default=0) >= comfortable


def _common(holders: Mapping[Digest, frozenset[int]], admitted: list[Digest]) -> frozenset[int]:
    return frozenset.intersection(*(holders[report] for report in admitted)) if admitted else frozenset()


class CloseRefusedError(CollegiumError):
    """A proposed close breaks a rule of the round."""


def check_close(work: Work, terms: RoundTerms, close: Close, reports: Mapping[Digest, Report], cohort_min: int) -> None:
    """Check a close against its rules and every receipt in it; `reports` are the known ones of the round, by id.

    Raises:
        CloseRefusedError: naming the broken rule.
        ReceiptRejectedError: a receipt is not its seat's.
    """
    if (close.task, close.round, close.terms) != (terms.task, terms.round, terms.digest):
        raise CloseRefusedError(f"close is for round {close.round}, this is {terms.round}")
    if any(weight != 1 for weight in close.weights):
        raise CloseRefusedError(f"weights {close.weights}, expected 1 for every report")
    if not close.reports:
        if close.seats or close.receipts:
            raise CloseRefusedError("a skipped round names no seats")
        return
    if len(close.reports) < cohort_min:
        raise CloseRefusedError(f"{len(close.reports)} reports, at least {cohort_min} hide each other")
    if list(close.reports) != sorted(set(close.reports)) or list(close.seats) != sorted(set(close.seats)):
        raise CloseRefusedError("reports and seats must be strictly increasing")
    needed = aggregation.seats_needed(len(terms.seats))
    if len(close.seats) < needed or close.seats[-1] >= len(terms.seats):
        raise CloseRefusedError(f"seats {close.seats}, at least {needed} of {len(terms.seats)} needed")
    trainers = set()
    for report_id, signatures in zip(close.reports, close.receipts, strict=True):
        report = reports.get(report_id)
        if report is None:
            raise CloseRefusedError(f"report {report_id.hex()} is not known here")
        trainers.add(report.trainer)
        for seat, signature in zip(close.seats, signatures, strict=True):
            receipt = Receipt(report_id, seat, signature)
            work.once(
                ("receipt", report_id, seat, signature),
                partial(aggregation.check_receipt, terms, report, receipt),
            )
    if len(trainers) != len(close.reports):
        raise CloseRefusedError("two reports of one trainer in one close")


# ------------------------------------------------------------------------------------------------ release


def release(context: RoundContext, state: RoundState, close: Close, proposer: int, now: int) -> Outcomes:
    """The close is final: add the own columns and give the sums out, once, after writing down for which close.

    A validator that lacks a column of an admitted report releases its beacon share alone. Whoever proposed the close
    proposes the header; should it fall silent, the others take turns, in order after it.
    """
    if state.released.get(close.round, close.digest) != close.digest:
        reason = CloseRefusedError(f"round {close.round} was released for another close already")
        return state, (Refused(close.round, "close", reason),)
    place = (context.index - proposer) % len(context.epoch_set.validators)
    turn_ms = now + place * context.timing.turn_ms
    state = replace(state, close=close, closed_ms=now, turn_ms=turn_ms, released={close.round: close.digest})
    key_sums = []
    for seat in state.own_seats(context) if close.reports else ():
        columns = [state.columns.get((report, seat)) for report in close.reports]
        if all(opened is not None for opened in columns):
            held = [opened for opened in columns if opened is not None]
            rows = aggregation.add_columns(held, close.weights, context.cohort_min)
            key_sums.append(aggregation.sign_key_sum(state.terms, close.digest, seat, rows, context.account))
    share = context.beacon.partial(context.epoch, close.round + 1)
    message = Release(close.round, context.index, close.digest, tuple(key_sums), share)
    alarms = (turn_ms, max(turn_ms, now + context.timing.release_ms))
    timers = tuple(RoundTimer(RoundAlarm(close.round), at) for at in alarms)
    state, replayed = _replay(context, state, now)
    return state, (ReleaseRecord(close.round, close.digest), RoundBroadcast(message), *timers, *replayed)


def _take_release(context: RoundContext, state: RoundState, message: Release, now: int) -> Outcomes:
    if message.round != state.terms.round:
        raise WrongRoundError(f"release for round {message.round}, this is {state.terms.round}")
    if message.validator in state.releases or not 0 <= message.validator < len(context.epoch_set.validators):
        return state, ()
    account = context.epoch_set.validators[message.validator].account
    for key_sum in message.key_sums:
        if state.terms.seats[key_sum.seat].validator != account:
            raise ProposalRefusedError(f"validator {message.validator} does not hold seat {key_sum.seat}")
        check_sum(context.work, state.terms, message.close, key_sum)
    return _propose_header(context, replace(state, releases={**state.releases, message.validator: message}), now)


def check_sum(work: Work, terms: RoundTerms, close: Digest, key_sum: KeySum) -> None:
    """Check a signed key sum's form and signature, once.

    Raises:
        CollegiumError: it is for another close or not its seat's.
    """
    key = ("key sum", close, key_sum.digest, key_sum.signature)
    work.once(key, lambda: aggregation.check_key_sum(terms, close, key_sum))


# ------------------------------------------------------------------------------------------------ open


def _propose_header(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """When it is this validator's turn: open the sum from the releases at hand and propose the header, once."""
    close = state.close
    if close is None or state.certified is not None or state.proposed or now < state.turn_ms:
        return state, ()
    mine = [r for r in state.releases.values() if r.close == close.digest]
    shares = {r.validator: r.beacon_share for r in mine}
    key_sums = {key_sum.seat: key_sum for r in mine for key_sum in r.key_sums}
    waited = now >= state.closed_ms + context.timing.release_ms
    if len(shares) < context.epoch_set.quorum or not (waited or set(key_sums) >= set(close.seats)):
        return state, ()
    beacon = _beacon(context, close.round + 1, shares)
    if beacon is None:
        return state, ()
    outcome, opened, model = open_close(context.work, context.agreed, state, close, key_sums)
    if outcome == "lost" and not waited:
        return state, ()
    header = Header(
        task=state.terms.task,
        round=close.round,
        level=context.agreed.level,
        previous=state.terms.previous,
        close=close.digest,
        outcome=outcome,
        key_sums=tuple((seat, key_sums[seat].digest) for seat in sorted(key_sums)),
        total=bytes(32) if opened is None else total_digest(opened.total),
        model=sha256(model).digest(),
        lying=() if opened is None else opened.lying,
        beacon=beacon,
        seats=assign_seats(sha256(beacon).digest(), context.epoch_set, context.seats),
        announcements=tuple(state.announcements[v] for v in sorted(state.announcements)),
    )
    proposal = HeaderProposal(header, tuple(key_sums[seat] for seat in sorted(key_sums)), context.index)
    return replace(state, proposed=True), (RoundBroadcast(proposal),)


def total_digest(total: IntArray) -> Digest:
    """Return the digest of an opened weighted sum (int64 entries, little endian)."""
    return sha256(b"collegium/v1/total" + total.astype("<i8").tobytes()).digest()


def open_close(
    work: Work, agreed: Agreed, state: RoundState, close: Close, key_sums: Mapping[int, KeySum]
) -> tuple[Outcome, OpenedSum | None, bytes]:
    """Return the outcome of a close, the opened sum if there is one, and the model state after the round."""
    if not close.reports:
        return "skipped", None, state.model

    def compute() -> tuple[Outcome, OpenedSum | None, bytes]:
        by_id = {held.report.id: held.ciphertext for held in state.reports.values()}
        total = aggregation.weighted_total((by_id[report] for report in close.reports), close.weights)
        try:
            opened = aggregation.open_sum(state.terms, key_sums, total, sum(close.weights))
            return "opened", opened, agreed.step(close.round, state.model, opened.total)
        except aggregation.SumLostError:
            return "lost", None, state.model
        except CollegiumError:
            return "invalid", None, state.model

    sums = tuple(sorted((seat, key_sum.digest) for seat, key_sum in key_sums.items()))
    return work.once(("open", close.digest, sums), compute)


def _beacon(context: RoundContext, round_number: int, shares: Mapping[int, bytes]) -> bytes | None:
    """Return the threshold signature for a round, or None while too few of the shares are good."""
    key = ("beacon", context.epoch, round_number, tuple(sorted(shares.items())))
    try:
        return context.work.once(key, lambda: context.beacon.combine(context.epoch, round_number, shares))
    except CollegiumError:
        return None


# ------------------------------------------------------------------------------------------------ certify


def _take_proposal(context: RoundContext, state: RoundState, message: HeaderProposal) -> Outcomes:
    """Redo the public work of a proposed header and vote for it with the own seats."""
    if message.header.round != state.terms.round:
        raise WrongRoundError(f"header of round {message.header.round}, this is {state.terms.round}")
    check_proposal(context, state, message)
    own = state.own_seats(context)
    state = replace(state, proposal=message)
    if not own:
        return state, ()
    vote = HeaderVote(
        state.terms.round, message.header.digest, context.index, context.voting_key.sign(message.header.digest)
    )
    return state, (RoundSend(message.proposer, vote),)


def check_proposal(context: RoundContext, state: RoundState, message: HeaderProposal) -> None:
    """Check every field of a proposed header.

    Raises:
        ProposalRefusedError: naming the first field that is not what it must be.
    """
    header, close = message.header, state.close
    if close is None:
        raise ProposalRefusedError("nothing is closed")
    key_sums = {key_sum.seat: key_sum for key_sum in message.key_sums}
    for key_sum in message.key_sums:
        check_sum(context.work, state.terms, close.digest, key_sum)
    outcome, opened, model = open_close(context.work, context.agreed, state, close, key_sums)
    if outcome == "lost":  # a leader must not lose a sum that this validator can open with what it holds itself
        own = {s.seat: s for r in state.releases.values() if r.close == close.digest for s in r.key_sums}
        if open_close(context.work, context.agreed, state, close, {**own, **key_sums})[0] != "lost":
            raise ProposalRefusedError("the sum is not lost: it opens with key sums that the proposal leaves out")
    for announcement in header.announcements:
        if announcement.round != close.round + 1:
            raise ProposalRefusedError(f"sealing key for round {announcement.round} in header {close.round}")
        context.work.once(
            ("announcement", announcement.digest(header.task), announcement.signature),
            partial(check_announcement, header.task, context.epoch_set, announcement),
        )
    context.work.once(
        ("beacon value", context.epoch, close.round + 1, header.beacon),
        lambda: context.beacon.verify(context.epoch, close.round + 1, header.beacon),
    )
    validators = [a.validator for a in header.announcements]
    expected: dict[str, object] = {
        "task": state.terms.task,
        "round": close.round,
        "level": context.agreed.level,
        "previous": state.terms.previous,
        "close": close.digest,
        "outcome": outcome,
        "key_sums": tuple((seat, key_sums[seat].digest) for seat in sorted(key_sums)),
        "total": bytes(32) if opened is None else total_digest(opened.total),
        "model": sha256(model).digest(),
        "lying": () if opened is None else opened.lying,
        "seats": assign_seats(sha256(header.beacon).digest(), context.epoch_set, context.seats),
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise ProposalRefusedError(f"header's {name} is {getattr(header, name)!r}, expected {value!r}", field=name)
    if validators != sorted(set(validators)):
        raise ProposalRefusedError(f"sealing keys of validators {validators}: expected strictly increasing")


def _take_vote(context: RoundContext, state: RoundState, message: HeaderVote) -> Outcomes:
    """As proposer: collect seats until more than two thirds of them certify."""
    proposal = state.proposal
    if proposal is None or state.certified is not None or message.header != proposal.header.digest:
        return state, ()
    if not 0 <= message.validator < len(context.epoch_set.validators):
        raise ProposalRefusedError(f"vote of validator {message.validator}: no such validator")
    account = context.epoch_set.validators[message.validator].account
    seats = [i for i, seat in enumerate(state.terms.seats) if seat.validator == account]
    votes = {**state.votes.get(message.header, {}), **dict.fromkeys(seats, message.signature)}
    certificate = None
    if len(votes) >= seat_quorum(len(state.terms.seats)):
        votes, certificate = certify_seats(context.epoch_set, state.terms, message.header, votes)
    state = replace(state, votes={message.header: votes})
    if certificate is None:
        return state, ()
    certified = Certified(proposal.header, certificate)
    return replace(state, certified=certified), (RoundSubmit(encode_payload(certified)),)


# ------------------------------------------------------------------------------------------------ order and finish


def next_payload(context: RoundContext, state: RoundState, ancestors: tuple[bytes, ...], now: int) -> bytes | None:
    """Return the close that a leader should put into its block now, if any; certified headers are submitted."""
    if ancestors or state.close is not None:
        return None
    close = close_for(context, state, now)
    return None if close is None else encode_payload(close)


def payload_accepted(context: RoundContext, state: RoundState, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
    """Tell whether a block with this payload deserves a vote; empty blocks always do."""
    if not payload:
        return True
    try:
        return _accepted(context, state, [decode_payload(data) for data in ancestors if data], decode_payload(payload))
    except CollegiumError:
        return False


def _accepted(
    context: RoundContext, state: RoundState, ancestors: list[Close | Certified], payload: Close | Certified
) -> bool:
    if isinstance(payload, Close):
        if state.close is not None or ancestors:
            return False
        reports = {held.report.id: held.report for held in state.reports.values()}
        check_close(context.work, state.terms, payload, reports, context.cohort_min)
        return True
    closes = [state.close] if state.close is not None else []
    for ancestor in ancestors:  # at most the close that is final but not applied here yet
        if not isinstance(ancestor, Close):
            return False
        closes.append(ancestor)
    if any(close.digest != payload.header.close for close in closes):
        return False
    check_certified(context.work, context.epoch_set, state.terms, payload)
    return True


def check_certified(work: Work, epoch_set: EpochSet, terms: RoundTerms, certified: Certified) -> None:
    """Check that more than two thirds of the round's seats certified a header of this round.

    Raises:
        ProposalRefusedError: a header of another task, round or history.
        CollegiumError: the certificate does not verify.
    """
    header = certified.header
    if (header.task, header.round, header.previous) != (terms.task, terms.round, terms.previous):
        raise ProposalRefusedError(f"header of round {header.round} does not follow round {terms.round - 1}")
    work.once(
        ("certificate", header.digest, certified.certificate),
        lambda: check_seat_certificate(epoch_set, terms, header.digest, certified.certificate),
    )


def finish(context: RoundContext, state: RoundState, certified: Certified, now: int) -> Outcomes:
    """A certified header is final: take its model, forget the round's secrets, begin the next round."""
    header, close = certified.header, state.close
    if header.round != state.terms.round or close is None or header.close != close.digest:
        reason = ProposalRefusedError(f"final header of round {header.round} does not fit this validator's round")
        return state, (Refused(state.terms.round, "header", reason),)
    proposal = state.proposal
    releases = {s.seat: s for r in state.releases.values() for s in r.key_sums}
    if proposal is not None and proposal.header.digest == header.digest:
        releases = {key_sum.seat: key_sum for key_sum in proposal.key_sums}
    model = open_close(context.work, context.agreed, state, close, releases)[2]
    if sha256(model).digest() != header.model:
        reason = ProposalRefusedError(
            f"the model of round {header.round} cannot be rebuilt from what this validator holds"
        )
        return state, (Refused(state.terms.round, "header", reason),)
    terms = terms_after(context.agreed, context.epoch_set, header)
    ahead = state.ahead
    state, begun = begin(context, terms, model, state.secrets, now)
    state, replayed = _replay(context, replace(state, ahead=ahead), now)
    return state, (RoundFinished(header, model), *begun, *replayed)
