"""What a shard's records and the header over all of them must satisfy; nothing here changes any state.

Everybody checks this of every shard; none of it needs a report, a column or a key sum. What needs them, the shard's
own seats have checked before they vouched or certified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from collegium.aggregation import KeySum
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._close_rules import SKIPPED_AFTER_DEADLINES, CloseRefusedError
from ._epoch import EpochSet
from ._lottery import draw_committee
from ._proving import failed_proofs
from ._records import Announcement, Close, Header, Outcome
from ._round_rules import (
    TOTAL_TAG,
    ProposalRefusedError,
    check_not_opened,
    check_sums,
    open_close,
    total_bytes,
    total_digest,
    verify_announcement,
)
from ._round_types import Agreed, IntArray, Work
from ._seats import check_seat_certificate
from ._shard_records import (
    CertifiedResult,
    ShardBatch,
    ShardClose,
    ShardResult,
    Standing,
    merged_close,
    voucher_digest,
)
from ._shard_terms import NoShardError, ShardedTerms, ShardPlan
from ._shard_types import OwnShard, ResultOffer, ShardContext, ShardedState

__all__ = [
    "EarlyRecordError",
    "MergeRefusedError",
    "ShardOverError",
    "UnvouchedCloseError",
    "check_batch",
    "check_certified_result",
    "check_close_form",
    "check_header_fields",
    "check_merge",
    "check_next_keys",
    "check_result_offer",
    "check_vouchers",
    "committees_after",
    "header_over",
    "may_skip",
    "merge_sums",
    "merge_totals",
    "merged_header",
    "result_for",
    "total_of",
]


class UnvouchedCloseError(CollegiumError):
    """A close of a shard without vouchers of more than two thirds of its seats, and not one that time alone allows."""


class ShardOverError(CollegiumError):
    """A record about a shard that does not follow what is in the order about it."""


class EarlyRecordError(CollegiumError):
    """A shard is given up, or a header merges shards, before the time has come."""


class MergeRefusedError(CollegiumError):
    """A merged header is not what the round's shards give."""


# ------------------------------------------------------------------------------------------------ records of shards


def check_batch(
    context: ShardContext, state: ShardedState, standings: Sequence[Standing], batch: ShardBatch, now: int
) -> None:
    """Check a batch against where the shards stand before it.

    Raises:
        NoShardError, ShardOverError, EarlyRecordError, UnvouchedCloseError, CloseRefusedError, ProposalRefusedError:
            see there.
        CollegiumError: a certificate does not verify.
    """
    if (batch.task, batch.round) != (state.terms.task, state.terms.round):
        raise ShardOverError(f"shards of round {batch.round}, this is {state.terms.round}")
    for shard in batch.shards:
        if shard >= len(standings):
            raise NoShardError(f"shard {shard}, the round has {len(standings)}")
    for entry in batch.closes:
        if standings[entry.shard].close is not None:
            raise ShardOverError(f"shard {entry.shard} is closed already", shard=entry.shard)
        if not entry.close.reports and not may_skip(context, state, standings):
            raise CloseRefusedError(f"round {batch.round} may not be skipped: some shard must open its sum first")
        check_shard_close(context, state, entry, now)
    for certified in batch.results:
        check_shard_result(context, state, standings[certified.result.shard], certified)
    for shard in batch.lost:
        if standings[shard].close is None or standings[shard].over:
            raise ShardOverError(f"shard {shard} is not one that waits for a result", shard=shard)
        closed_ms = state.closed_ms.get(shard)
        if closed_ms is None or now < closed_ms + context.round.timing.deadline_ms:
            raise EarlyRecordError(f"shard {shard} is given up before its time", shard=shard)


def may_skip(context: ShardContext, state: ShardedState, standings: Sequence[Standing]) -> bool:
    """Tell whether a shard may be skipped: not the last hope of a round that must open something."""
    opened = any(standing.total is not None for standing in standings)
    return opened or context.round.agreed.may_skip(state.terms.round)


def check_shard_close(context: ShardContext, state: ShardedState, entry: ShardClose, now: int) -> None:
    """Check what everybody can check of a shard's close: its form, its size, and who vouches for it.

    Raises:
        UnvouchedCloseError: no vouchers, and it is not a skip of a round that has taken twice its time.
        CloseRefusedError: a close of another shard, of too few trainers, or of more than the shard has.
        CollegiumError: the certificate is malformed, too small, or does not verify.
    """
    timing, surroundings = context.round.timing, context.round
    trainers = len(state.terms.cohorts(surroundings.cohort)[entry.shard])
    check_close_form(state.terms, entry, surroundings.cohort_min, trainers)
    if entry.vouchers:
        check_vouchers(surroundings.work, surroundings.epoch_set, state.terms, entry)
    elif entry.close.reports or now < state.began_ms + SKIPPED_AFTER_DEADLINES * timing.deadline_ms:
        raise UnvouchedCloseError(f"nobody vouches for the close of shard {entry.shard}", shard=entry.shard)


def check_close_form(terms: ShardedTerms, entry: ShardClose, cohort_min: int, trainers: int) -> None:
    """Check that a close is of its shard, and neither too small nor too large for it.

    Raises:
        CloseRefusedError: naming what does not hold.
    """
    close, own = entry.close, terms.shards[entry.shard]
    if (close.task, close.round, close.terms) != (own.task, own.round, own.digest):
        raise CloseRefusedError(f"close is not of shard {entry.shard} in round {own.round}")
    if any(weight != 1 for weight in close.weights):
        raise CloseRefusedError(f"weights {close.weights}, expected 1 for every report")
    if close.announcements:
        raise CloseRefusedError(
            "a shard's close names sealing keys, which are the merged header's", field="announcements"
        )
    if not close.reports:
        if close.seats or close.receipts or close.listed or close.registered:
            raise CloseRefusedError("a skipped shard names no seats")
        return
    if not cohort_min <= len(close.reports) <= trainers:
        raise CloseRefusedError(f"{len(close.reports)} reports, expected {cohort_min} to {trainers} in this shard")
    if list(close.reports) != sorted(set(close.reports)) or list(close.seats) != sorted(set(close.seats)):
        raise CloseRefusedError("reports and seats must be strictly increasing")


def check_vouchers(work: Work, epoch_set: EpochSet, terms: ShardedTerms, entry: ShardClose) -> None:
    """Check that more than two thirds of a shard's seats vouch for its close.

    Raises:
        UnvouchedCloseError: the certificate is malformed, too small, or does not verify.
    """
    own, digest = terms.shards[entry.shard], voucher_digest(entry.shard, entry.close)
    key = ("vouchers", own.digest, digest, entry.vouchers)
    try:
        work.once(key, lambda: check_seat_certificate(epoch_set, own, digest, entry.vouchers))
    except CollegiumError as error:
        raise UnvouchedCloseError(
            f"vouchers for the close of shard {entry.shard}: {error}", shard=entry.shard
        ) from error


def check_shard_result(
    context: ShardContext, state: ShardedState, standing: Standing, certified: CertifiedResult
) -> None:
    """Check that a result is its final close's, and that its shard certifies it; raises as `check_certified_result`."""
    around = context.round
    check_certified_result(around.work, around.epoch_set, state.terms, around.agreed.level, standing, certified)


def check_certified_result(
    work: Work,
    epoch_set: EpochSet,
    terms: ShardedTerms,
    level: str,
    standing: Standing,
    certified: CertifiedResult,
) -> None:
    """Check that a result is its final close's, and that more than two thirds of the shard's seats certify it.

    Raises:
        ShardOverError: no close of this shard is final, or its result is.
        ProposalRefusedError: a result of another close or task, or one that contradicts itself.
        CollegiumError: the certificate does not verify.
    """
    result = certified.result
    if standing.close is None or standing.over:
        raise ShardOverError(f"shard {result.shard} does not wait for a result", shard=result.shard)
    named = (result.task, result.round, result.close, result.level)
    if named != (terms.task, terms.round, standing.close.digest, level):
        raise ProposalRefusedError(f"result of shard {result.shard} is not its close's", field="close")
    opened = result.outcome == "opened"
    if result.outcome == "skipped" or opened == (result.total == bytes(32)) or (result.failed and opened):
        raise ProposalRefusedError(f"result of shard {result.shard} contradicts itself", field="outcome")
    own = terms.shards[result.shard]
    key = ("shard certificate", own.digest, result.digest, certified.certificate)
    work.once(key, lambda: check_seat_certificate(epoch_set, own, result.digest, certified.certificate))


# ------------------------------------------------------------------------------------------------ results in a shard


def total_of(data: bytes, entries: int) -> IntArray:
    """Return the sum that an object, written by `total_bytes`, holds.

    Raises:
        MergeRefusedError: not the object of a sum of so many entries.
    """
    if len(data) != len(TOTAL_TAG) + 8 * entries or not data.startswith(TOTAL_TAG):
        raise MergeRefusedError(f"{len(data)} bytes, expected the sum of {entries} entries", field="total")
    return np.frombuffer(data, "<i8", offset=len(TOTAL_TAG)).astype(np.int64)


def result_for(own: OwnShard, close: Close, key_sums: Mapping[int, KeySum]) -> tuple[ShardResult, bytes]:
    """Return the result that these key sums give, and the opened sum's bytes, none if none opens.

    Raises:
        MissingReportsError: a report that the close admits is not here.
    """
    context, state = own.context, own.state
    outcome: Outcome
    outcome, opened, _ = open_close(context, state, close, key_sums)
    total = b"" if opened is None else total_bytes(opened.total)
    result = ShardResult(
        task=state.terms.task,
        round=close.round,
        shard=own.shard,
        level=context.agreed.level,
        close=close.digest,
        outcome=outcome,
        key_sums=tuple((seat, key_sums[seat].digest) for seat in sorted(key_sums)),
        total=sha256(total).digest() if total else bytes(32),
        lying=() if opened is None else opened.lying,
        failed=failed_proofs(context.work, context.agreed, state, close) if outcome == "invalid" else (),
    )
    return result, total


def check_result_offer(own: OwnShard, close: Close, offer: ResultOffer) -> bytes:
    """Redo the public work of a shard's result; return the opened sum's bytes, none if none opens.

    Raises:
        MissingReportsError: it cannot be redone yet.
        ProposalRefusedError: it is not what its close and key sums give, or what is here opens the sum after all.
        CollegiumError: a key sum is malformed or not signed.
    """
    work = own.context.work
    key_sums = check_sums(work, own.state.terms, close.digest, offer.key_sums, "result")
    expected, total = result_for(own, close, key_sums)
    check_not_opened(own.context, own.state, close, expected.outcome, key_sums)
    if offer.result != expected:
        raise ProposalRefusedError(f"result of shard {own.shard} is not what its key sums give", field="result")
    return total


# ------------------------------------------------------------------------------------------------ the header over all


def merge_totals(context: ShardContext, state: ShardedState) -> tuple[Outcome, IntArray | None, bytes]:
    """Return what the shards' sums come to together, once for all who ask; every total must be here."""
    terms, agreed = state.terms, context.round.agreed
    key = ("merge", terms.previous, merged_close(terms.task, terms.round, state.standings))
    return context.round.work.once(key, lambda: merge_sums(agreed, terms, state.model, state.standings, state.totals))


def merge_sums(
    agreed: Agreed, terms: ShardedTerms, model: bytes, standings: Sequence[Standing], totals: Mapping[Digest, bytes]
) -> tuple[Outcome, IntArray | None, bytes]:
    """Return what the shards' sums come to together: outcome, total if there is one, and the model after the round.

    Raises:
        MergeRefusedError: a total is not one of this round's entries.
    """
    digests = [standing.total for standing in standings if standing.total is not None]
    if not digests:
        outcomes = [standing.result.outcome for standing in standings if standing.result is not None]
        closed = any(standing.close is not None and standing.close.reports for standing in standings)
        nothing: Outcome = "invalid" if "invalid" in outcomes else "lost" if closed else "skipped"
        return nothing, None, model
    total = np.zeros(terms.layout.entries, np.int64)
    for digest in digests:
        total = total + total_of(totals[digest], terms.layout.entries)
    try:
        return "opened", total, agreed.step(terms.round, model, total)
    except CollegiumError:
        return "invalid", None, model


def merged_header(context: ShardContext, state: ShardedState, beacon: bytes) -> Header:
    """Return the header over all shards under this beacon value, with the sealing keys that are known here."""
    around = context.round
    keys = tuple(state.announcements[validator] for validator in sorted(state.announcements))
    committees = around.work.once(
        ("committees", around.epoch_set.digest(), beacon, context.plan.count, context.plan.seats),
        lambda: committees_after(around.epoch_set, context.plan, beacon),
    )
    merged = merge_totals(context, state)
    return header_over(state.terms, around.agreed.level, state.standings, merged, beacon, committees, keys)


def header_over(
    terms: ShardedTerms,
    level: str,
    standings: Sequence[Standing],
    merged: tuple[Outcome, IntArray | None, bytes],
    beacon: bytes,
    committees: tuple[int, ...],
    keys: tuple[Announcement, ...],
) -> Header:
    """Return the header over shards that stand so and whose sums come to `merged`."""
    outcome, total, model = merged
    return Header(
        task=terms.task,
        round=terms.round,
        level=level,
        previous=terms.previous,
        close=merged_close(terms.task, terms.round, standings),
        outcome=outcome,
        key_sums=(),
        total=bytes(32) if total is None else total_digest(total),
        model=sha256(model).digest(),
        lying=(),
        beacon=beacon,
        seats=committees,
        announcements=keys,
    )


def committees_after(epoch_set: EpochSet, plan: ShardPlan, beacon: bytes) -> tuple[int, ...]:
    """Return who holds the seats of the next round's committees: seats come round evenly, so nobody has many more."""
    drawn = draw_committee(sha256(beacon).digest(), epoch_set, plan.count * plan.seats)
    return tuple(int(validator) for validator in drawn)


def check_merge(context: ShardContext, state: ShardedState, header: Header) -> None:
    """Redo the merge and check every field of the header over it; every total must be here.

    Raises:
        EarlyRecordError: some shard is not over, or its total or the round's model not here.
        MergeRefusedError: naming the first field that is not what it must be.
        BadBeaconError: not the beacon's value.
        CollegiumError: a sealing key is not its validator's, or one that nobody can seal to.
    """
    if not state.ready or state.done_ms is None:
        raise EarlyRecordError(f"header of round {header.round} before its shards are over and their sums here")
    surroundings, number = context.round, state.terms.round + 1
    key = ("beacon value", surroundings.epoch, number, header.beacon)
    surroundings.work.once(key, lambda: surroundings.beacon.verify(surroundings.epoch, number, header.beacon))
    check_header_fields(header, merged_header(context, state, header.beacon))
    check_next_keys(surroundings.work, surroundings.epoch_set, header, state.keys_due)


def check_header_fields(header: Header, expected: Header) -> None:
    """Check every field of a merged header but the sealing keys.

    Raises:
        MergeRefusedError: naming the first field that is not what the shards give.
    """
    for name in Header.__dataclass_fields__:
        if name != "announcements" and getattr(header, name) != getattr(expected, name):
            raise MergeRefusedError(f"merged header's {name} is not what the shards give", field=name)


def check_next_keys(work: Work, epoch_set: EpochSet, header: Header, keys_due: int = 0) -> None:
    """Check a merged header's sealing keys: each its validator's, for the next round, and a quorum or `keys_due`.

    Raises:
        MergeRefusedError: too few, out of order, or of another round.
        CollegiumError: a sealing key is not its validator's, or one that nobody can seal to.
    """
    validators = [entry.validator for entry in header.announcements]
    least, number = max(epoch_set.quorum, keys_due), header.round + 1
    if validators != sorted(set(validators)) or len(validators) < least:
        raise MergeRefusedError(
            f"sealing keys of validators {validators}: expected {least} or more, increasing", field="announcements"
        )
    for entry in header.announcements:
        if entry.round != number:
            raise MergeRefusedError(f"sealing key for round {entry.round}, expected {number}", field="announcements")
        verify_announcement(work, header.task, epoch_set, entry)
