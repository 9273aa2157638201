"""One validator's part in a round of several shards, as a pure state machine beside the ordering one.

A round reads from top to bottom: admit and close in each shard (`_shard_own`), certify in each shard, then merge: the
shards' sums are added, the model moves once, and one header fixes the next round for all. A validator works in the
shards where it holds seats; of the others it sees a close with its vouchers, a certified result, and the opened sum.
Specified in docs/spec/shards.md; what each record must satisfy stands in `_shard_rules`.

`sharded_step(context, state, message, now)` returns the next state and effects, and never raises on what others send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final

from collegium.aggregation import Upload
from collegium.crypto import Digest, SealKey
from collegium.errors import CollegiumError

from ._close_rules import SKIPPED_AFTER_DEADLINES
from ._records import Announcement, Close, Header, Registered
from ._round import announcement_for
from ._round_rules import (
    NotInCohortError,
    NotSenderError,
    WrongRoundError,
    check_speaker,
    combine_beacon,
    verify_announcement,
)
from ._round_sync import ObjectQuotaError, ObjectTooLargeError, UnaskedObjectError
from ._round_types import (
    OBJECT_BYTES_MAX,
    KeepObject,
    KeepUpload,
    ObjectReply,
    ObjectRequest,
    PeerJoined,
    Refused,
    RoundAlarm,
    RoundFinished,
    RoundPassed,
    RoundTimer,
)
from ._shard_own import answer_again, close_shard, enter_shard, shard_alarm, shard_step
from ._shard_records import ShardBatch, ShardClose, Standing, decode_shard_payload, encode_shard_payload, follow
from ._shard_rules import EarlyRecordError, check_batch, check_merge, may_skip, merge_totals, merged_header
from ._shard_terms import NoShardError, ShardedTerms, sharded_terms_after
from ._shard_types import (
    BeaconWord,
    OwnShard,
    RecordOffer,
    SaidAmongShards,
    ShardBroadcast,
    ShardContext,
    ShardedState,
    ShardEffect,
    ShardMessage,
    ShardOutcomes,
    ShardSend,
    round_said_in,
)
from ._shard_waiting import keep_early, wait

__all__ = [
    "apply_sharded",
    "begin_sharded",
    "sharded_accepted",
    "sharded_payload",
    "sharded_step",
    "verified_before",
]

ASKED_AT_ONCE: Final = 2  # validators asked for the same object before waiting for an answer
OBJECTS_EACH: Final = 8  # given to one validator in a round beside one sum a shard
JOINS_MAX: Final = 16  # times in a round that a validator is answered anew because it has joined again

# ------------------------------------------------------------------------------------------------ begin


def begin_sharded(
    context: ShardContext,
    terms: ShardedTerms,
    model: bytes | None,
    secrets: Mapping[int, SealKey],
    now: int,
    registered: Mapping[bytes, Registered] | None = None,
    released: Mapping[tuple[int, int], Digest] | None = None,
) -> ShardOutcomes:
    """Enter a round; without its model (None), ask for that, unless the next round is final before it is here."""
    due = {number: key for number, key in secrets.items() if number >= terms.round}
    standings = (Standing(),) * terms.plan.count
    state = ShardedState(
        terms,
        b"" if model is None else model,
        now,
        due,
        {},
        standings,
        registered=dict(registered or {}),
        lacks_model=model is None,
        released={key: close for key, close in (released or {}).items() if key[0] >= terms.round},
    )
    if model is None:
        at_ms = now + context.round.timing.grace_ms
        return replace(state, sync_ms=at_ms, sought=frozenset((terms.model,))), (_timer(state, at_ms),)
    return _enter_shards(context, state, now)


def _enter_shards(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """With the round's model: enter the shards with own seats, and announce the next round's sealing key."""
    index, timing, terms = context.round.index, context.round.timing, state.terms
    own = {
        shard: enter_shard(context, state, shard, state.secrets.get(terms.round), now)
        for shard, members in enumerate(terms.members)
        if index in members
    }
    secrets, kept, announcement = announcement_for(context.round, terms.task, terms.round + 1, state.secrets)
    state = replace(state, own=own, secrets=secrets)
    alarms = (now + timing.deadline_ms, now + SKIPPED_AFTER_DEADLINES * timing.deadline_ms)
    return state, (*kept, ShardBroadcast(announcement), *(_timer(state, at_ms) for at_ms in alarms))


def _timer(state: ShardedState, at_ms: int) -> RoundTimer:
    return RoundTimer(RoundAlarm(state.terms.round), at_ms)


# ------------------------------------------------------------------------------------------------ step


def sharded_step(
    context: ShardContext,
    state: ShardedState,
    message: SaidAmongShards | Upload | RoundAlarm | PeerJoined,
    now: int,
    sender: int | None = None,
) -> ShardOutcomes:
    """Handle one message of the round; what is hostile, late or repeated changes nothing and is `Refused` by name.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway.
    """
    try:
        match message:
            case RoundAlarm():
                return _look_again(context, state, now) if message.round == state.terms.round else (state, ())
            case PeerJoined():
                return _forget_answers(state, message.index), ()
            case _:
                return _receive(context, state, message, now, sender)
    except CollegiumError as error:
        return state, (Refused(state.terms.round, type(message).__name__, error),)


def _receive(
    context: ShardContext, state: ShardedState, message: SaidAmongShards | Upload, now: int, sender: int | None
) -> ShardOutcomes:
    """Handle a message of this round, keep one that cannot be judged yet; objects belong to no round."""
    match message:
        case ObjectRequest():
            return _give(context, state, message, sender)
        case ObjectReply():
            return _take_object(context, state, message, now)
    number = round_said_in(message)
    if number not in (state.terms.round, state.terms.round + 1):
        raise WrongRoundError(f"{type(message).__name__} of round {number}, this is {state.terms.round}")
    lacking = state.lacks_model and isinstance(message, Upload | ShardMessage | BeaconWord)
    if number > state.terms.round or lacking:
        return _keep(context, state, message, sender)
    state, effects = _handle(context, state, message, now, sender)
    state, followed = _follow(context, state, now)
    return state, (*effects, *followed)


def _handle(
    context: ShardContext, state: ShardedState, message: SaidAmongShards | Upload, now: int, sender: int | None
) -> ShardOutcomes:
    match message:
        case Upload():
            trainer = message.report.trainer
            if trainer not in context.round.cohort:
                raise NotInCohortError(f"trainer {trainer.hex()} is not registered for this task")
            shard = state.terms.shard_of(context.round.cohort, trainer)
            return _in_shard(state, shard, lambda own: shard_step(own, message, now, None))
        case ShardMessage():
            inner = message.message
            if isinstance(inner, Upload) and sender is not None:
                raise NotSenderError(f"validator {sender} sends a trainer's upload")
            return _in_shard(state, message.shard, lambda own: shard_step(own, inner, now, sender))
        case Announcement():
            return _take_key(context, state, message, sender), ()
        case RecordOffer():
            return _take_record(context, state, message, now, sender)
        case BeaconWord():
            return _take_word(context, state, message, sender)
    raise WrongRoundError(f"{type(message).__name__} is nothing that shards say")


def _in_shard(
    state: ShardedState, shard: int, step: Callable[[OwnShard], tuple[OwnShard, tuple[ShardEffect, ...]]]
) -> ShardOutcomes:
    """Take a step in one of the own shards, and keep the sums that it opened."""
    own = state.own.get(shard)
    if own is None:
        raise NoShardError(f"this validator holds no seat of shard {shard}")
    own, effects = step(own)
    opened = {digest: total for digest, total in own.opened.items() if digest not in state.totals}
    state = replace(state, own={**state.own, shard: own}, totals={**state.totals, **opened} if opened else state.totals)
    return state, effects


def _keep(
    context: ShardContext, state: ShardedState, message: SaidAmongShards | Upload, sender: int | None
) -> ShardOutcomes:
    """Keep what cannot be judged yet."""
    if isinstance(message, Upload):
        return keep_early(context, state, message, sender)
    if isinstance(message, ShardMessage) and message.round == state.terms.round:
        members = state.terms.members
        if message.shard >= len(members) or context.round.index not in members[message.shard]:
            raise NoShardError(f"this validator holds no seat of shard {message.shard}")
    return wait(context, state, message, sender), ()


def _forget_answers(state: ShardedState, validator: int) -> ShardedState:
    """Answer a validator again that has come back: what it was given may be lost; so often in a round and no more."""
    joins = state.joins.get(validator, 0) + 1
    if joins > JOINS_MAX:
        return state
    return replace(
        state,
        own={shard: answer_again(own, validator) for shard, own in state.own.items()},
        joins={**state.joins, validator: joins},
        answered=frozenset(answer for answer in state.answered if answer[0] != validator),
    )


def verified_before(state: ShardedState, item: KeepUpload) -> ShardedState:
    """Return the state that knows the proof of a report, and what it is about, to have been verified here."""
    report = item.upload.report
    own = {shard: replace(mine, state=mine.state.with_verified(report)) for shard, mine in state.own.items()}
    return replace(state, own=own)


def _replay(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """Look again at the messages of this round that could not be judged."""
    number = state.terms.round
    waiting = [item for item in state.ahead if round_said_in(item[1]) == number]
    state = replace(state, ahead=tuple(item for item in state.ahead if round_said_in(item[1]) > number))
    effects: list[ShardEffect] = []
    for sender, message in waiting:
        state, more = sharded_step(context, state, message, now, sender)
        effects.extend(more)
    return state, tuple(effects)


def _look_again(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """The clock has moved on: do what has become due in the own shards, and in merging."""
    effects: list[ShardEffect] = []
    for shard in state.own:
        state, more = _in_shard(state, shard, partial(shard_alarm, now=now))
        effects.extend(more)
    state, asked = _ask(context, state, now)
    state, merged = _merge(context, state, now)
    state, finished = _follow(context, state, now)
    return state, (*effects, *asked, *merged, *finished)


def _take_key(context: ShardContext, state: ShardedState, message: Announcement, sender: int | None) -> ShardedState:
    check_speaker(message, message.validator, sender)
    if message.validator in state.announcements:
        return state
    verify_announcement(context.round.work, state.terms.task, context.round.epoch_set, message)
    return replace(state, announcements={**state.announcements, message.validator: message})


# ------------------------------------------------------------------------------------------------ what is ordered


def _take_record(
    context: ShardContext, state: ShardedState, message: RecordOffer, now: int, sender: int | None
) -> ShardOutcomes:
    """Keep a record that deserves a block; one that is about what is not final here yet waits."""
    payload = decode_shard_payload(message.payload)
    if isinstance(payload, Header):
        return _take_merge(context, state, message, payload, sender)
    if len(payload.shards) != 1 or payload.lost:
        raise WrongRoundError(f"a record about shards {payload.shards}, expected a close or a result of one")
    (shard,) = payload.shards
    if shard >= len(state.standings):
        raise NoShardError(f"shard {shard}, the round has {len(state.standings)}")
    standing = state.standings[shard]
    if payload.results and standing.close is None:
        return wait(context, state, message, sender), ()
    if standing.over or (payload.closes and standing.close is not None) or shard in state.pending:
        return state, ()
    check_batch(context, state, state.standings, payload, now)
    began = now if not state.pending else state.pending_ms
    look = _timer(state, began + context.round.timing.grace_ms)
    return replace(state, pending={**state.pending, shard: payload}, pending_ms=began), (look,)


def sharded_payload(context: ShardContext, state: ShardedState, ancestors: tuple[bytes, ...], now: int) -> bytes | None:
    """Return what a leader should put into its block now: what is known of all shards, or the header over them."""
    if state.final is not None:
        return None
    try:
        standings = _after(state, ancestors)
    except CollegiumError:
        return None
    if standings is None:
        return None
    if state.over:
        return None if state.merge is None else encode_shard_payload(state.merge)
    batch = _batch(context, state, standings, now)
    return None if batch is None else encode_shard_payload(batch)


def _after(state: ShardedState, ancestors: tuple[bytes, ...]) -> tuple[Standing, ...] | None:
    """Return where the shards stand after payloads that are not final yet; None after a header."""
    standings = state.standings
    for data in ancestors:
        payload = decode_shard_payload(data)
        if isinstance(payload, Header):
            return None
        standings = follow(standings, payload)
    return standings


def _batch(context: ShardContext, state: ShardedState, standings: tuple[Standing, ...], now: int) -> ShardBatch | None:
    """Return all that can be said of the shards now; a record waits a moment for those of other shards."""
    timing, terms = context.round.timing, state.terms
    closes, results, lost = list[ShardClose](), [], list[int]()
    skipping = now >= state.began_ms + SKIPPED_AFTER_DEADLINES * timing.deadline_ms
    skipping = skipping and may_skip(context, state, standings)
    for shard, standing in enumerate(standings):
        known = state.pending.get(shard)
        if standing.over:
            continue
        if standing.close is None:
            if known is not None and known.closes:
                closes.append(known.closes[0])
            elif skipping:
                skip = Close(terms.task, terms.round, terms.shards[shard].digest, (), (), (), (), ())
                closes.append(ShardClose(shard, skip, b""))
        elif known is not None and known.results and known.results[0].result.close == standing.close.digest:
            results.append(known.results[0])
        elif shard in state.closed_ms and now >= state.closed_ms[shard] + timing.deadline_ms:
            lost.append(shard)
    batch = ShardBatch(terms.task, terms.round, tuple(closes), tuple(results), tuple(lost))
    if not batch.shards:
        return None
    everything = len(batch.shards) == sum(not standing.over for standing in standings)
    waited = skipping or lost or now >= state.pending_ms + timing.grace_ms
    return batch if everything or waited else None


def sharded_accepted(
    context: ShardContext, state: ShardedState, ancestors: tuple[bytes, ...], payload: bytes, now: int
) -> bool:
    """Tell whether a block with this payload deserves a vote; empty blocks always do."""
    if not payload:
        return True
    if state.final is not None:
        return False
    try:
        standings, decoded = _after(state, ancestors), decode_shard_payload(payload)
        if standings is None:
            return False
        if isinstance(decoded, Header):
            check_merge(context, state, decoded)
        else:
            check_batch(context, state, standings, decoded, now)
    except CollegiumError:
        return False
    return True


def apply_sharded(context: ShardContext, state: ShardedState, payload: bytes, now: int) -> ShardOutcomes:
    """A payload is final: closes are released for, results merged, a header ends the round."""
    if state.final is not None:  # more is final: the model between is not needed any more
        state, passed = _enter_next(context, state, state.final, None, now)
        state, more = apply_sharded(context, state, payload, now)
        return state, (*passed, *more)
    try:
        decoded = decode_shard_payload(payload)
    except CollegiumError as error:  # cannot be: a quorum accepted it
        return state, (Refused(state.terms.round, "final block", error),)
    if isinstance(decoded, Header):
        return _finish(context, state, decoded, now)
    about = frozenset(decoded.shards)
    pending = {shard: batch for shard, batch in state.pending.items() if shard not in about}
    closed = {**state.closed_ms, **{entry.shard: now for entry in decoded.closes}}
    state = replace(state, standings=follow(state.standings, decoded), pending=pending, closed_ms=closed)
    effects: list[ShardEffect] = []
    for entry in decoded.closes:
        if entry.shard in state.own:
            state, more = _in_shard(state, entry.shard, partial(close_shard, close=entry.close, now=now))
            effects.extend(more)
        if entry.close.reports:
            effects.append(_timer(state, now + context.round.timing.deadline_ms))
    if state.over and state.done_ms is None:
        state = replace(state, done_ms=now, keys_due=len(state.announcements))
    if state.lacks_model:  # it asks, for what is needed by then, when the clock has moved on
        return state, tuple(effects)
    state, asked = _ask(context, state, now)
    state, replayed = _replay(context, state, now)
    state, merged = _merge(context, state, now)
    return state, (*effects, *asked, *replayed, *merged)


# ------------------------------------------------------------------------------------------------ merge


def _mergers(context: ShardContext, state: ShardedState) -> tuple[int, ...]:
    """Return everybody in the order in which they merge: who sits first in the first shard, and so on."""
    return tuple(dict.fromkeys((*state.terms.validators, *range(context.round.epoch_set.size))))


def _merge(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """When all shards are over and their sums here: give the share of the next beacon to whose turn it is to merge."""
    done_ms = state.done_ms
    if done_ms is None or not state.ready or state.final is not None:
        return state, ()
    mergers, turn_ms = _mergers(context, state), context.round.timing.turn_ms
    due = min(len(mergers), 1 + (now - done_ms) // turn_ms)
    if state.merge is not None or state.told >= due:
        return state, ()
    word = BeaconWord(state.terms.round, context.round.index, _share(context, state.terms.round + 1))
    said = tuple(ShardSend(to, word) for to in mergers[state.told : due])
    state = replace(state, told=due)
    state, replayed = _replay(context, state, now) if state.ahead else (state, ())
    return state, (*said, _timer(state, done_ms + due * turn_ms), *replayed)


def _share(context: ShardContext, number: int) -> bytes:
    """Return this validator's part of a beacon value, empty if it was cheated of its share."""
    beacon = context.round.beacon
    return b"" if beacon.share is None else beacon.partial(context.round.epoch, number)


def _take_word(context: ShardContext, state: ShardedState, message: BeaconWord, sender: int | None) -> ShardOutcomes:
    """As merger: with a quorum of shares and sealing keys, make the header and tell everybody."""
    check_speaker(message, message.validator, sender)
    context.round.epoch_set.validator(message.validator)
    if state.final is not None:
        return state, ()
    if state.done_ms is None or not state.ready:
        return wait(context, state, message, sender), ()
    state = replace(state, words={**state.words, message.validator: message})
    quorum = context.round.epoch_set.quorum
    if state.merge is not None or min(len(state.words), len(state.announcements)) < quorum:
        return state, ()
    shares = {word.validator: word.share for word in state.words.values() if word.share}
    beacon = combine_beacon(context.round, state.terms.round + 1, shares) if len(shares) >= quorum else None
    if beacon is None:
        return state, ()
    header = merged_header(context, state, beacon)
    offer = RecordOffer(state.terms.round, encode_shard_payload(header))
    return replace(state, merge=header), (ShardBroadcast(offer),)


def _take_merge(
    context: ShardContext, state: ShardedState, message: RecordOffer, header: Header, sender: int | None
) -> ShardOutcomes:
    """Redo the merge, and keep a header that holds: whoever leads next orders it."""
    if state.merge is not None:
        return state, ()
    try:
        check_merge(context, state, header)
    except EarlyRecordError:
        return wait(context, state, message, sender), ()
    return replace(state, merge=header), ()


# ------------------------------------------------------------------------------------------------ finish


def _finish(context: ShardContext, state: ShardedState, header: Header, now: int) -> ShardOutcomes:
    """A merged header is final: take its model and begin the next round.

    Who lacks a sum waits for it and, a little later, for the model itself; who lacks the round's own model passes on.
    """
    if state.lacks_model:
        return _enter_next(context, state, header, None, now)
    at_ms = now + context.round.timing.turn_ms // 2
    state = replace(state, final=header, sync_ms=at_ms, sought=state.sought | {header.model})
    after, followed = _follow(context, state, now)
    return after, followed or (_timer(state, at_ms),)


def _follow(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """Follow a final header if what that takes is here by now."""
    if state.final is None or not state.ready:
        return state, ()
    model = merge_totals(context, state)[2]
    if sha256(model).digest() != state.final.model:  # cannot be: a quorum redid it; the model itself is asked for
        return state, ()
    return _enter_next(context, state, state.final, model, now)


def _enter_next(
    context: ShardContext, ended: ShardedState, header: Header, model: bytes | None, now: int
) -> ShardOutcomes:
    """Begin the round after a final header, with its model or (None) without; forget the one before it, secrets too."""
    terms = sharded_terms_after(context.round.agreed, context.round.epoch_set, ended.terms, header)
    fresh = {
        entry.trainer: entry
        for standing in ended.standings
        for entry in (() if standing.close is None else standing.close.registered)
    }
    registered = {**ended.registered, **fresh}
    known = tuple(sorted(registered.values(), key=lambda entry: entry.trainer))
    ahead = tuple(item for item in ended.ahead if round_said_in(item[1]) >= terms.round)
    kept = ended.kept & frozenset(item.report.id for _, item in ahead if isinstance(item, Upload))
    state, begun = begin_sharded(context, terms, model, ended.secrets, now, registered, ended.released)
    state = replace(state, ahead=ahead, kept=kept)
    if model is None:
        return state, (RoundPassed(header, known), *begun)
    state, replayed = _replay(context, state, now)
    return state, (KeepObject(header.model, model), RoundFinished(header, model, known), *begun, *replayed)


def _take_model(context: ShardContext, state: ShardedState, model: bytes, now: int) -> ShardOutcomes:
    """Go on in a round whose model has arrived: admit what waited, then do what its final closes ask for."""
    state = replace(state, model=model, lacks_model=False)
    state, entered = _enter_shards(context, state, now)
    state, replayed = _replay(context, state, now)
    effects = [KeepObject(state.terms.model, model), *entered, *replayed]
    for shard in state.own:
        close = state.standings[shard].close
        if close is not None:
            state, more = _in_shard(state, shard, partial(close_shard, close=close, now=now))
            effects.extend(more)
    state, asked = _ask(context, state, now)
    state, merged = _merge(context, state, now)
    return state, (*effects, *asked, *merged)


# ------------------------------------------------------------------------------------------------ objects by digest


def _ask(context: ShardContext, state: ShardedState, now: int) -> ShardOutcomes:
    """Ask for what is named in the order and not here: sums from their shards' members, a model from anybody."""
    index, size = context.round.index, context.round.epoch_set.size
    wanted = [(state.terms.members[shard], digest) for shard, digest in state.lacking()]
    if state.final is not None:
        wanted.append((tuple(range(size)), state.final.model))
    elif state.lacks_model:
        wanted.append((tuple(range(size)), state.terms.model))
    if now < state.sync_ms:
        wanted = [(holders, digest) for holders, digest in wanted if digest not in state.sought]
    if not wanted:
        return state, ()
    effects: list[ShardEffect] = []
    for holders, digest in wanted:
        others = [to for to in holders if to != index]
        chosen = {others[(index + state.asked + i) % len(others)] for i in range(ASKED_AT_ONCE)} if others else set()
        effects += [ShardSend(to, ObjectRequest(index, (digest,))) for to in sorted(chosen)]
    sought, again = state.sought | {digest for _, digest in wanted}, now + context.round.timing.turn_ms
    state = replace(state, asked=state.asked + ASKED_AT_ONCE, sync_ms=again, sought=sought)
    return state, (*effects, _timer(state, again))


def _give(context: ShardContext, state: ShardedState, message: ObjectRequest, sender: int | None) -> ShardOutcomes:
    """Send a validator what it asks for and is here, each object once a round.

    Raises:
        NotSenderError: it asks for another.
        UnknownValidatorError: there is no such validator.
        ObjectQuotaError: it asks for more than an honest one can lack.
    """
    check_speaker(message, message.validator, sender)
    context.round.epoch_set.validator(message.validator)
    given, most = sum(asker == message.validator for asker, _ in state.answered), context.plan.count + OBJECTS_EACH
    if len(message.digests) > most or given > most:
        raise ObjectQuotaError(
            f"validator {message.validator} asks for {len(message.digests)} objects after {given} answers",
            validator=message.validator,
        )
    effects: list[ShardEffect] = []
    for digest in dict.fromkeys(message.digests):
        asked = (message.validator, digest)
        data = state.totals.get(digest)
        if data is None:
            here = digest == state.terms.model and not state.lacks_model
            data = state.model if here else context.round.objects.get(digest)
        if data is not None and asked not in state.answered:
            state = replace(state, answered=state.answered | {asked})
            effects.append(ShardSend(message.validator, ObjectReply(data)))
    return state, tuple(effects)


def _take_object(context: ShardContext, state: ShardedState, message: ObjectReply, now: int) -> ShardOutcomes:
    """Take a sum or a model that the order names; its digest says what it is, so nobody need trust who sent it.

    Raises:
        ObjectTooLargeError, UnaskedObjectError: see there.
    """
    if len(message.data) > OBJECT_BYTES_MAX:
        raise ObjectTooLargeError(f"object of {len(message.data)} bytes, expected at most {OBJECT_BYTES_MAX}")
    digest = sha256(message.data).digest()
    if state.final is not None and digest == state.final.model:
        return _enter_next(context, state, state.final, message.data, now)
    if state.lacks_model and digest == state.terms.model:
        return _take_model(context, state, message.data, now)
    if digest in state.totals or digest == state.terms.model:  # two are asked at once, and both answer
        return state, ()
    if digest not in {wanted for _, wanted in state.lacking()}:
        raise UnaskedObjectError(f"object {digest.hex()} is not one that was asked for", digest=digest)
    state = replace(state, totals={**state.totals, digest: message.data})
    if state.final is not None:
        return _follow(context, state, now)
    state, replayed = _replay(context, state, now) if state.ready else (state, ())
    state, merged = _merge(context, state, now)
    return state, (*replayed, *merged)
