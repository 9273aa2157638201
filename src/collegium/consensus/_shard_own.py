"""One validator's part in a shard where it holds seats: the round's machine up to the releases, then vouch and certify.

Admission, receipts, releases and opening are those of a round with one committee (`_round`); its messages go to the
shard's members alone. What differs is who agrees: the shard's seats vouch for a close before the epoch set orders it,
and certify a result of their shard instead of a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from collegium.crypto import BlsSecretKey, SealKey
from collegium.errors import CollegiumError

from ._close_rules import check_close, close_for, leaves_out, registers
from ._proving import is_proved
from ._records import Close, decode_payload, encode_payload
from ._round import release, round_step
from ._round_rules import MissingReportsError, NotSenderError, WrongRoundError, check_speaker
from ._round_types import (
    PeerJoined,
    Refused,
    Release,
    ReleaseRecord,
    ReportReply,
    RoundAlarm,
    RoundBroadcast,
    RoundEffect,
    RoundMessage,
    RoundSend,
    RoundState,
    RoundTimer,
)
from ._seats import add_votes
from ._shard_records import CertifiedResult, ShardBatch, ShardClose, encode_shard_payload, voucher_digest
from ._shard_rules import check_result_offer, result_for
from ._shard_types import (
    CloseOffer,
    InShard,
    OwnShard,
    RecordOffer,
    ResultOffer,
    ResultVote,
    ShardBroadcast,
    ShardContext,
    ShardedState,
    ShardEffect,
    ShardMessage,
    ShardRelease,
    ShardSend,
    Voucher,
)

__all__ = ["answer_again", "close_shard", "enter_shard", "shard_alarm", "shard_step"]

OFFERS_MAX: Final = 16  # closes that one validator offers, or is heard on, in a round
FAILURES_MAX: Final = 2  # results of one validator that did not hold, before no more of them are checked

OwnOutcomes = tuple[OwnShard, tuple[ShardEffect, ...]]


def enter_shard(context: ShardContext, state: ShardedState, shard: int, secret: SealKey | None, now: int) -> OwnShard:
    """Return a shard's first state at a validator that holds seats of it."""
    terms = state.terms.shards[shard]
    cohort = state.terms.cohorts(context.round.cohort)[shard]
    surroundings = replace(context.in_shard, cohort=cohort, quorum=_quorum(context, len(cohort)))
    secrets = {} if secret is None else {terms.round: secret}
    released = state.released.get((terms.round, shard))
    first = RoundState(
        terms,
        state.model,
        now,
        secrets,
        registered=dict(state.registered),
        changed_ms=now,
        released={} if released is None else {terms.round: released},
        kept=state.kept,
        announced=True,
    )
    return OwnShard(shard, surroundings, state.terms.members[shard], first)


def answer_again(own: OwnShard, validator: int) -> OwnShard:
    """Answer a validator again that has come back; what it offered it may offer again."""
    after, _ = round_step(own.context, own.state, PeerJoined(validator), 0)
    return replace(
        own,
        state=after,
        heard={other: offers for other, offers in own.heard.items() if other != validator},
        vouched=frozenset(entry for entry in own.vouched if entry[0] != validator),
        voted=own.voted - {validator},
    )


def _quorum(context: ShardContext, trainers: int) -> int | None:
    """Return of how many of a shard's trainers the reports suffice: the task's share of them, rounded up."""
    if context.round.quorum is None:
        return None
    share = -(-trainers * context.round.quorum // len(context.round.cohort))
    return max(share, trainers // 2 + 1, context.round.cohort_min)


# ------------------------------------------------------------------------------------------------ step


def shard_step(own: OwnShard, message: InShard, now: int, sender: int | None) -> OwnOutcomes:
    """Handle one message of the shard; what is hostile, late or repeated changes nothing and is `Refused` by name."""
    try:
        _check_speaker(own, message, sender)
        match message:
            case CloseOffer():
                return _hear_close(own, message, now)
            case Voucher():
                return _take_voucher(own, message)
            case ResultOffer():
                return _hear_result(own, message, now)
            case ResultVote():
                return _take_vote(own, message)
    except CollegiumError as error:
        return own, (Refused(own.state.terms.round, type(message).__name__, error),)
    after, effects = round_step(own.context, own.state, message, now, sender)
    own = replace(own, state=after)
    said = _among_members(own, effects)
    if own.state.close is None:
        own, more = _vouch_waiting(own, now) if own.waiting else (own, ())
    else:
        own, more = _go_on(own, now) if isinstance(message, Release | ReportReply) else (own, ())
    return own, (*said, *more)


def shard_alarm(own: OwnShard, now: int) -> OwnOutcomes:
    """The clock has moved on: do whatever has become due."""
    after, effects = round_step(own.context, own.state, RoundAlarm(own.state.terms.round), now)
    own = replace(own, state=after)
    own, more = _go_on(own, now)
    return own, (*_among_members(own, effects), *more)


def _go_on(own: OwnShard, now: int) -> OwnOutcomes:
    if own.state.close is None:
        own, offered = _offer_close(own, now)
        own, vouched = _vouch_waiting(own, now)
        return own, (*offered, *vouched)
    own, offered = _offer_result(own, now)
    own, judged = _judge_waiting(own, now)
    return own, (*offered, *judged)


def _check_speaker(own: OwnShard, message: InShard, sender: int | None) -> None:
    """Refuse what a validator says for another, or about a shard in which it holds no seats."""
    if isinstance(message, CloseOffer | Voucher | ResultOffer | ResultVote):
        check_speaker(message, message.validator, sender)
        if message.validator not in own.members:
            raise NotSenderError(f"validator {message.validator} holds no seat of shard {own.shard}")


def _among_members(own: OwnShard, effects: tuple[RoundEffect, ...]) -> tuple[ShardEffect, ...]:
    """Return the effects of the round's machine with what it tells everybody told to the shard's members."""
    out: list[ShardEffect] = []
    for effect in effects:
        match effect:
            case RoundBroadcast():
                out.extend(_to_members(own, _of_shard(effect.message)))
            case RoundSend():
                out.append(_to(own, effect.to, _of_shard(effect.message)))
            case ReleaseRecord():
                out.append(ShardRelease(effect.round, own.shard, effect.close))
            case _:
                out.append(effect)
    return tuple(out)


def _of_shard(message: RoundMessage) -> InShard:
    """Return what the round's machine says: never a key, which is announced for all shards, nor a header or a vote.

    Those it makes of releases that have a share of the beacon, and here they have none.
    """
    if not isinstance(message, InShard):
        raise TypeError(f"the machine of a shard's round says a {type(message).__name__}")  # our bug
    return message


def _to(own: OwnShard, to: int, message: InShard) -> ShardSend:
    return ShardSend(to, ShardMessage(own.state.terms.round, own.shard, message))


def _to_members(own: OwnShard, message: InShard) -> tuple[ShardSend, ...]:
    return tuple(_to(own, to, message) for to in own.members)


def _timer(own: OwnShard, at_ms: int) -> RoundTimer:
    return RoundTimer(RoundAlarm(own.state.terms.round), at_ms)


def _record(own: OwnShard, batch: ShardBatch) -> ShardBroadcast:
    return ShardBroadcast(RecordOffer(own.state.terms.round, encode_shard_payload(batch)))


# ------------------------------------------------------------------------------------------------ vouch for a close


def _offer_close(own: OwnShard, now: int) -> OwnOutcomes:
    """When it is this validator's turn: offer the close that it would have ordered, again if none has got through."""
    if own.done or own.offers >= OFFERS_MAX:
        return own, ()
    close = close_for(own.context, own.state, now)
    if close is None:
        return replace(own, ready_ms=None if own.offer is None else own.ready_ms), ()
    if own.ready_ms is None:
        own = replace(own, ready_ms=now)
    turn_ms = own.context.timing.turn_ms
    due_ms = (own.ready_ms or 0) + turn_ms * (own.place + own.offers * len(own.members))
    if now < due_ms:
        return own, (_timer(own, due_ms),)
    vouchers = own.vouchers if own.offer is not None and _same(own.offer, close) else {}
    own = replace(own, offer=close, offers=own.offers + 1, vouchers=vouchers)
    again = _timer(own, due_ms + turn_ms * len(own.members))
    return own, (*_to_members(own, CloseOffer(own.index, close)), again)


def _same(left: Close, right: Close) -> bool:
    """Tell whether vouchers for one count for the other: every byte, receipts included."""
    return encode_payload(left) == encode_payload(right)


def _hear_close(own: OwnShard, message: CloseOffer, now: int) -> OwnOutcomes:
    heard = own.heard.get(message.validator, 0)
    if (message.validator, voucher_digest(own.shard, message.close)) in own.vouched:
        return own, ()
    if own.state.close is not None or heard >= OFFERS_MAX:
        raise WrongRoundError(f"offer {heard + 1} of validator {message.validator}, or after the close is final")
    waiting = {**own.waiting, message.validator: message.close}
    own = replace(own, heard={**own.heard, message.validator: heard + 1}, waiting=waiting)
    return _vouch_waiting(own, now)


def _vouch_waiting(own: OwnShard, now: int) -> OwnOutcomes:
    """Vouch for the offered closes that keep the rules and leave nothing out; the others may do so later."""
    effects: list[ShardEffect] = []
    for validator, close in own.waiting.items():
        if _deserves_vouching(own, close, now):
            digest = voucher_digest(own.shard, close)
            voucher = Voucher(own.index, digest, _sign(own, digest))
            waiting = {other: kept for other, kept in own.waiting.items() if other != validator}
            own = replace(own, waiting=waiting, vouched=own.vouched | {(validator, digest)})
            effects.append(_to(own, validator, voucher))
    return own, tuple(effects)


def _deserves_vouching(own: OwnShard, close: Close, now: int) -> bool:
    """Tell whether a close would deserve a vote if there were one committee; sealing keys are the merged header's."""
    context, state = own.context, own.state
    reports = {report: held.report for report, held in state.held().items()}
    try:
        decode_payload(encode_payload(close))
        may_skip = context.agreed.may_skip(close.round)
        check_close(context.work, state.terms, close, reports, context.cohort_min, context.lying_max, may_skip)
        proved = all(is_proved(context, state, reports[report], close) for report in close.reports)
        registered = close.registered == registers(context.agreed, state, close.reports)
    except CollegiumError:
        return False
    return not close.announcements and proved and registered and leaves_out(context, state, close, now) is None


def _sign(own: OwnShard, digest: bytes) -> bytes:
    key: BlsSecretKey = own.context.voting_key
    return key.sign(digest)


def _take_voucher(own: OwnShard, message: Voucher) -> OwnOutcomes:
    """As offerer: collect seats until more than two thirds vouch, then have the close ordered."""
    offer = own.offer
    if offer is None or own.done or message.digest != voucher_digest(own.shard, offer):
        return own, ()
    votes, certificate = _collect(own, own.vouchers, message)
    own = replace(own, vouchers=votes)
    if certificate is None:
        return own, ()
    terms = own.state.terms
    batch = ShardBatch(terms.task, terms.round, closes=(ShardClose(own.shard, offer, certificate),))
    return replace(own, done=True), (_record(own, batch),)


def _collect(
    own: OwnShard, votes: Mapping[int, bytes], message: Voucher | ResultVote
) -> tuple[dict[int, bytes], bytes | None]:
    """Return the votes with one validator's seats, and the certificate if they are a quorum."""
    epoch_set = own.context.epoch_set
    seats = own.state.seats_of(epoch_set.validator(message.validator).account)
    return add_votes(epoch_set, own.state.terms, votes, seats, message.digest, message.signature)


# ------------------------------------------------------------------------------------------------ certify a result


def close_shard(own: OwnShard, close: Close, now: int) -> OwnOutcomes:
    """The shard's close is final: release for it and no other, and take turns in opening the sum."""
    own = replace(own, done=False, waiting={}, offer=None)
    if not close.reports:
        return replace(own, state=replace(own.state, close=close), done=True), ()
    after, effects = release(own.context, own.state, close, 0, now)
    own = replace(own, state=after)
    if own.state.close is None:
        return own, _among_members(own, effects)
    turn_ms, release_ms = now + own.place * own.context.timing.turn_ms, now + own.context.timing.release_ms
    timers = tuple(_timer(own, at) for at in sorted({turn_ms, max(turn_ms, release_ms)}))
    own, judged = _judge_waiting(own, now)
    return own, (*_among_members(own, effects), *timers, *judged)


def _offer_result(own: OwnShard, now: int) -> OwnOutcomes:
    """When it is this validator's turn: open the sum from the releases at hand and offer the result, once."""
    close, timing = own.state.close, own.context.timing
    if close is None or own.result is not None or own.done or own.state.missing():
        return own, ()
    if now < own.state.closed_ms + own.place * timing.turn_ms:
        return own, ()
    key_sums, waited = own.state.sums_for(close.digest), now >= own.state.closed_ms + timing.release_ms
    if not waited and not set(key_sums) >= set(close.seats):
        return own, ()
    result, total = result_for(own, close, key_sums)
    if result.outcome == "lost" and not waited:
        return own, ()
    own = replace(own, result=result, opened={**own.opened, result.total: total} if total else own.opened)
    offer = ResultOffer(own.index, result, tuple(key_sums[seat] for seat in sorted(key_sums)))
    return own, _to_members(own, offer)


def _hear_result(own: OwnShard, message: ResultOffer, now: int) -> OwnOutcomes:
    if own.failed.get(message.validator, 0) >= FAILURES_MAX:
        raise NotSenderError(f"validator {message.validator} has offered {FAILURES_MAX} results that do not hold")
    if message.validator in own.judged or message.validator in own.voted:
        return own, ()
    return _judge_waiting(replace(own, judged={**own.judged, message.validator: message}), now)


def _judge_waiting(own: OwnShard, now: int) -> OwnOutcomes:
    """Redo the public work of the offered results and vote for those that hold with the own seats.

    That a sum is lost nobody can know before the seats have had their time to release.
    """
    close, effects = own.state.close, list[ShardEffect]()
    if close is None:
        return own, ()
    waited = now >= own.state.closed_ms + own.context.timing.release_ms
    for validator, offer in own.judged.items():
        if offer.result.outcome == "lost" and not waited:
            continue
        try:
            total = check_result_offer(own, close, offer)
        except MissingReportsError:
            continue
        except CollegiumError as error:
            own = replace(own, failed={**own.failed, validator: own.failed.get(validator, 0) + 1})
            effects.append(Refused(own.state.terms.round, "ResultOffer", error))
        else:
            opened = {**own.opened, offer.result.total: total} if total else own.opened
            own = replace(own, opened=opened, voted=own.voted | {validator})
            vote = ResultVote(own.index, offer.result.digest, _sign(own, offer.result.digest))
            effects.append(_to(own, validator, vote))
        own = replace(own, judged={other: kept for other, kept in own.judged.items() if other != validator})
    return own, tuple(effects)


def _take_vote(own: OwnShard, message: ResultVote) -> OwnOutcomes:
    """As opener: collect seats until more than two thirds certify the result, then have it ordered."""
    result = own.result
    if result is None or own.done or message.digest != result.digest:
        return own, ()
    votes, certificate = _collect(own, own.votes, message)
    own = replace(own, votes=votes)
    if certificate is None:
        return own, ()
    terms = own.state.terms
    batch = ShardBatch(terms.task, terms.round, results=(CertifiedResult(result, certificate),))
    return replace(own, done=True), (_record(own, batch),)
