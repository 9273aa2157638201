"""A validator: the ordering machine and the round machine side by side, still `(state, message, now) -> effects`.

Ordering decides what is final; what is final moves the round; what the round can close or has certified goes back into
ordering. The driver owns network, disk and clock, and carries effects out in their order.

What survives a crash, and why that suffices, is docs/spec/round.md's section on durability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collegium.aggregation import RoundTerms, Upload
from collegium.crypto import Digest, SealKey
from collegium.errors import CollegiumError

from ._consents import (
    Consents,
    Withdrawals,
    follow_withdrawals,
    is_beside_rounds,
    is_withdrawal,
    withdrawal_accepted,
)
from ._epoch import EpochSet
from ._epoch_change import (
    ChangeContext,
    ChangeEffect,
    ChangeState,
    ChangeTick,
    EpochSubmit,
    HandedOver,
    KeepEpochSecret,
    OrderedPayload,
    change_step,
    record_accepted,
    record_wanted,
    restore_change,
)
from ._epoch_change_records import is_epoch_record, is_handover
from ._messages import Block, BlockRequest, Relay
from ._order_keys import Signer, Verifier
from ._order_state import Archive, Committed, Context, Effect, Ignored, Input, ReplicaState, Submit, Tick, VoteState
from ._ordering import initial_state, restore, say_again, step
from ._pay import paid_by
from ._proof_evidence import ProofReject
from ._records import Announcement, Close, Header, Registered, is_close
from ._registries import Registries, follow_registries, is_registries, registries_accepted
from ._replace import replace
from ._round import (
    begin,
    begin_behind,
    decoded_payload,
    finish,
    next_payload,
    payload_accepted,
    release,
    round_of,
    round_step,
    terms_after,
)
from ._round_records import (
    RoundRecord,
    RoundRecords,
    awaits_record,
    forgets_record,
    is_round_record,
    next_record,
    record_may_follow,
    take_record,
)
from ._round_rules import NotSenderError, check_speaker
from ._round_types import (
    EpochOver,
    HeaderProposal,
    HeaderVote,
    KeepSecret,
    KeepUpload,
    ObjectReply,
    ObjectRequest,
    PeerJoined,
    Refused,
    Release,
    ReportReply,
    ReportRequest,
    RoundAlarm,
    RoundBroadcast,
    RoundContext,
    RoundEffect,
    RoundMessage,
    RoundSend,
    RoundState,
    RoundSubmit,
    RoundTimer,
    SeatReceipt,
)

__all__ = [
    "Kept",
    "ValidatorContext",
    "ValidatorState",
    "claimed",
    "restore_validator",
    "start_validator",
    "validator_step",
]

ARCHIVED_AT_ONCE = 256
ROUND_MESSAGES = (
    Upload,
    SeatReceipt,
    ProofReject,
    Announcement,
    Release,
    HeaderProposal,
    HeaderVote,
    ReportRequest,
    ReportReply,
    ObjectRequest,
    ObjectReply,
    RoundAlarm,
)


@dataclass(frozen=True)
class ValidatorContext:
    """What does not change during an epoch: the round's surroundings, and what ordering needs beside them (`Context`).

    Attributes:
        genesis: what the epoch's first block names as its parent; None for the set's own, as in a task's first epoch.
        change: how the epoch ends; None if it never does.
        consents: whose data is used by whose leave; None where nobody's leave is asked.
        registries: headers carry what the task's chains hold of it.
    """

    round: RoundContext
    signer: Signer
    verifier: Verifier
    archive: Archive
    timeout_base_ms: int
    genesis: Digest | None = None
    change: ChangeContext | None = None
    consents: Consents | None = None
    registries: bool = False

    def round_after(self, withdrawals: Withdrawals, registries: Registries) -> RoundContext:
        """Return the round's surroundings without the trainers whose consent was taken back, and what chains hold."""
        gone, around = withdrawals.in_force, self.round
        if gone:
            around = replace(around, cohort=around.cohort - gone)
        return replace(around, registries=registries.digest) if registries.in_force else around

    @property
    def witnesses(self) -> EpochSet | None:
        """The set whose quorum says what chains hold; None where headers do not carry it."""
        return self.round.epoch_set if self.registries else None

    def ordering(self, state: ValidatorState | None, now: int) -> Context:
        """Return ordering's surroundings while round and change are in this state."""
        epoch_set = self.round.epoch_set
        return Context(
            epoch_set=epoch_set,
            genesis=epoch_set.genesis() if self.genesis is None else self.genesis,
            index=self.round.index,
            signer=self.signer,
            verifier=self.verifier,
            application=_Application(self, state, now),
            archive=self.archive,
            timeout_base_ms=self.timeout_base_ms,
        )


@dataclass(frozen=True)
class ValidatorState:
    """The machines' states, and what was `said` here in the present round: to all (None), or a vote to one."""

    replica: ReplicaState
    round: RoundState
    said: tuple[tuple[int | None, RoundMessage], ...] = ()
    change: ChangeState | None = None
    withdrawals: Withdrawals = field(default_factory=Withdrawals)
    records: RoundRecords = field(default_factory=RoundRecords)
    registries: Registries = field(default_factory=Registries)

    def around(self, context: ValidatorContext) -> RoundContext:
        """Return the present round's surroundings."""
        return context.round_after(self.withdrawals, self.registries)


@dataclass(frozen=True)
class Kept:
    """What a validator's disk gives back after a crash.

    Attributes:
        vote_state, final, stored: as `restore` takes them.
        header: of the last round whose end was written down, None if none was.
        model: the one that this header names; None if it never arrived.
        registered: what was registered by then.
        registrations: their bytes, as far as they are here.
        payloads: the committed blocks that are not empty and follow the one with `header`, oldest first.
        secrets: sealing keys, by round.
        released: for which close, by round.
        uploads: in the order in which they were written.
        epoch_secrets: what this validator has said in the change of epochs, and has not forgotten.
        shard_released: for which close, by round and shard, where a round has several.
    """

    vote_state: VoteState | None = None
    final: Block | None = None
    stored: tuple[Block, ...] = ()
    header: Header | None = None
    model: bytes | None = None
    registered: tuple[Registered, ...] = ()
    registrations: Mapping[Digest, bytes] = field(default_factory=dict)
    payloads: tuple[Block, ...] = ()
    secrets: Mapping[int, SealKey] = field(default_factory=dict)
    released: Mapping[int, Digest] = field(default_factory=dict)
    uploads: tuple[KeepUpload, ...] = ()
    epoch_secrets: tuple[KeepEpochSecret, ...] = ()
    shard_released: Mapping[tuple[int, int], Digest] = field(default_factory=dict)


Effects = tuple[Effect | RoundEffect | ChangeEffect, ...]


@dataclass(frozen=True)
class _Application:
    """Round and change as ordering sees them, at one moment: of one answer each, however often it is asked for."""

    context: ValidatorContext
    state: ValidatorState | None  # None before the first round: nothing is accepted
    now: int
    wishes: dict[tuple[bytes, ...], bytes | None] = field(default_factory=dict)

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        if self.state is None:
            return False
        if is_beside_rounds(payload):
            return self._accepts_beside(self.state, ancestors, payload)
        context, state = self.context, self.state
        if is_close(payload):
            if self._handover(state, ancestors) is not None:
                return False  # an epoch's last round closes after its handover
            if forgets_record(context.round, state.round, state.records, ancestors, self.now):
                return False
        before = tuple(ancestor for ancestor in ancestors if not is_beside_rounds(ancestor))
        around = state.around(context)
        return payload_accepted(around, state.round, before, payload, self.now)

    def _handover(self, state: ValidatorState, ancestors: tuple[bytes, ...]) -> bytes | None:
        """Return the handover that a leader should put into its block after these ancestors, if any."""
        if self.context.change is None or state.change is None:
            return None
        return record_wanted(self.context.change.rules, state.change.change, ancestors)

    def _accepts_beside(self, state: ValidatorState, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        context = self.context
        if is_withdrawal(payload):
            known = state.withdrawals
            return not state.round.over and withdrawal_accepted(context.consents, known, ancestors, payload)
        if is_registries(payload):
            seen = state.registries
            return not state.round.over and registries_accepted(context.witnesses, seen, ancestors, payload)
        if is_round_record(payload):
            return record_may_follow(context.round, state.round, state.records, ancestors, payload)
        if context.change is None or state.change is None:
            return False
        return record_accepted(context.change.rules, state.change.change, ancestors, payload)

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        if ancestors not in self.wishes:
            self.wishes[ancestors] = self._next_payload(ancestors)
        return self.wishes[ancestors]

    def _next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        if self.state is None:
            return None
        handover = self._handover(self.state, ancestors)
        if handover is not None:
            return handover
        return self._next_of_round(self.state.around(self.context), self.state, ancestors)

    def _next_of_round(self, around: RoundContext, state: ValidatorState, ancestors: tuple[bytes, ...]) -> bytes | None:
        """Return a record that waits, else, unless one is awaited, a close; after the deadline a close before that."""
        record = next_record(around, state.round, state.records, ancestors)
        if record is not None and self.now < state.round.began_ms + around.timing.deadline_ms:
            return record
        if awaits_record(around, state.round, state.records, ancestors, self.now):
            return None
        before = tuple(ancestor for ancestor in ancestors if not is_beside_rounds(ancestor))
        return next_payload(around, state.round, before, self.now) or record


def start_validator(
    context: ValidatorContext, terms: RoundTerms, model: bytes, secrets: Mapping[int, SealKey], now: int
) -> tuple[ValidatorState, Effects]:
    """Return a validator at the beginning of an epoch's first round."""
    return restore_validator(context, terms, model, secrets, Kept(), now)


def restore_validator(
    context: ValidatorContext,
    terms: RoundTerms,
    model: bytes | None,
    secrets: Mapping[int, SealKey],
    kept: Kept,
    now: int,
    before: EpochOver | None = None,
) -> tuple[ValidatorState, Effects]:
    """Return a validator as it was when it last wrote something down, and what it must say again.

    The committed blocks are the truth: the round is entered at the last header whose end was written down, what is
    known to be final is applied to it once more, and what trainers sent is admitted once more. So every receipt and
    every release is the one that was given before.

    Args:
        context: as before the crash.
        terms, model: of the epoch's first round, for a validator that has seen no round's end in it; no model if it is
            not here.
        secrets: the first round's sealing key, which no journal has.
        kept: what was written down in this epoch.
        now: a clock that may have begun anew.
        before: how the epoch before ended, if there was one.
    """
    registered, registrations = kept.registered, dict(kept.registrations)
    change, withdrawals, registries = _restored_beside(context, kept, before)
    if kept.header is not None:
        if change is not None and change.change.handover is not None:  # of a round whose header is final
            return _restored_end(context, kept, kept.header, change, withdrawals, registries, now)
        terms = terms_after(context.round.agreed, context.round.epoch_set, kept.header)
        model = kept.model
    elif before is not None:
        registered, registrations = before.registered, {**before.registrations, **registrations}
    secrets = {**secrets, **kept.secrets}
    around = context.round_after(withdrawals, registries)
    entered = begin_behind(around, terms, secrets, now) if model is None else begin(around, terms, model, secrets, now)
    if any(is_handover(block.payload) for block in kept.payloads):  # it has fixed the next round's keys: announce none
        entered = entered[0], tuple(effect for effect in entered[1] if not isinstance(effect, RoundBroadcast))
    last = kept.header if kept.header is not None or before is None else before.header
    first = replace(
        entered[0],
        paid=b"" if last is None else paid_by(around.pay, last),
        registered={entry.trainer: entry for entry in registered},
        registrations=registrations,
        released=dict(kept.released),
    )
    surroundings = context.ordering(None, now)
    if kept == Kept():
        replica = initial_state(surroundings)
        state = ValidatorState(replica, first, change=change, withdrawals=withdrawals, registries=registries)
        state, begun = _carry(context, state, entered[1], now)
        state, said = _tick_change(context, state, now)
        return state, (*begun, *said)
    replica = restore(surroundings, kept.vote_state, kept.final, kept.stored)
    restored = ValidatorState(replica, first, change=change, withdrawals=withdrawals, registries=registries)
    state, out = _carry(context, restored, entered[1], now)
    effects = list(out)
    soon = [item for item in kept.uploads if item.round <= terms.round + 1]
    state, more = _admit_again(context, state, soon, now)
    effects.extend(more)
    for block in kept.payloads:
        state, more = _apply(context, state, block, now)
        effects.extend(effect for effect in more if not isinstance(effect, EpochSubmit))  # said below, if still due
    state, more = _admit_again(context, state, [item for item in kept.uploads if item.round > terms.round + 1], now)
    effects.extend(more)
    state, said = _tick_change(context, state, now)
    effects.extend(said)
    state, more = validator_step(context, state, RoundAlarm(state.round.terms.round), now)
    return state, (*effects, *more)


def _restored_beside(
    context: ValidatorContext, kept: Kept, before: EpochOver | None
) -> tuple[ChangeState | None, Withdrawals, Registries]:
    """Return the change of epochs, whose consent was taken back, and what chains hold, as of the last round entered.

    The blocks after it are applied once more. The archive is read once for all, and only where one of them is wanted.
    """
    if context.change is None and context.consents is None and not context.registries:
        return None, Withdrawals(), Registries()
    payloads, change, withdrawals = _payloads_before(context, kept), None, Withdrawals()
    if context.change is not None:
        change = restore_change(context.change, payloads, kept.epoch_secrets)
    if context.consents is not None:
        withdrawals = Withdrawals() if before is None else Withdrawals(before.withdrawn)
        withdrawals = follow_withdrawals(context.consents, withdrawals, payloads)
    registries = Registries.begun(() if before is None else before.registries)
    return change, withdrawals, follow_registries(context.witnesses, registries, payloads)


def _payloads_before(context: ValidatorContext, kept: Kept) -> list[bytes]:
    """Return the epoch's final payloads up to the last header whose end was written down."""
    payloads, last = list[bytes](), context.ordering(None, 0).genesis
    while blocks := context.archive.after(last, ARCHIVED_AT_ONCE):
        payloads += [block.payload for block in blocks if block.payload]
        last = blocks[-1].digest
    return payloads[: len(payloads) - len(kept.payloads)]


def _restored_end(
    context: ValidatorContext,
    kept: Kept,
    header: Header,
    change: ChangeState,
    withdrawals: Withdrawals,
    registries: Registries,
    now: int,
) -> tuple[ValidatorState, Effects]:
    """Return a validator whose epoch is over: it gives others what they lack, and begins no round."""
    change, handed = change_step(context.change, change, ChangeTick()) if context.change is not None else (change, ())
    opened = next(effect.opened for effect in handed if isinstance(effect, HandedOver))
    terms = terms_after(context.round.agreed, opened.epoch_set, header)
    registered = {entry.trainer: entry for entry in kept.registered}
    state = RoundState(
        terms, kept.model or b"", now, {}, registered=registered, lacks_model=kept.model is None, over=True
    )
    replica = restore(context.ordering(None, now), kept.vote_state, kept.final, kept.stored)
    beside = (withdrawals.in_force, registries.in_force)
    over = EpochOver(header, kept.model, kept.registered, dict(kept.registrations), *beside)
    ended = ValidatorState(replica, state, change=change, withdrawals=withdrawals, registries=registries)
    return ended, (*handed, over)


def _tick_change(context: ValidatorContext, state: ValidatorState, now: int) -> tuple[ValidatorState, Effects]:
    """Say what this validator has to say in the change of epochs."""
    if context.change is None or state.change is None:
        return state, ()
    change, effects = change_step(context.change, state.change, ChangeTick())
    return _submit_records(context, *_heed_change(replace(state, change=change), effects), now)


def _follow_change(
    context: ValidatorContext, state: ValidatorState, payload: bytes
) -> tuple[ValidatorState, tuple[ChangeEffect | RoundEffect, ...]]:
    """Apply a final payload to the change of epochs."""
    if context.change is None or state.change is None:
        return state, ()
    change, effects = change_step(context.change, state.change, OrderedPayload(payload))
    return _heed_change(replace(state, change=change), effects)


def _heed_change(
    state: ValidatorState, effects: Iterable[ChangeEffect]
) -> tuple[ValidatorState, tuple[ChangeEffect | RoundEffect, ...]]:
    """Tell the round that it is its epoch's last one, once what comes next is final."""
    out: list[ChangeEffect | RoundEffect] = []
    for effect in effects:
        if isinstance(effect, HandedOver):
            first, secrets = effect.opened.first_round, state.round.secrets
            if effect.first_key is not None:  # instead of the one that this round announced, if it did
                secrets = {**secrets, first: effect.first_key}
                out.append(KeepSecret(first, effect.first_key))
            state = replace(state, round=replace(state.round, opened=effect.opened, secrets=secrets))
        out.append(effect)
    return state, tuple(out)


def _submit_records(
    context: ValidatorContext, state: ValidatorState, effects: Iterable[Effect | RoundEffect | ChangeEffect], now: int
) -> tuple[ValidatorState, Effects]:
    """Hand the records among the effects to ordering, after all others: what a step made final is applied by then."""
    out: list[Effect | RoundEffect | ChangeEffect] = []
    records: list[EpochSubmit] = []
    for effect in effects:
        if isinstance(effect, EpochSubmit):
            records.append(effect)
        else:
            out.append(effect)
    for record in records:
        state, more = _order(context, state, Submit(record.payload), now)
        out.extend(more)
    return state, tuple(out)


def _admit_again(
    context: ValidatorContext, state: ValidatorState, uploads: Iterable[KeepUpload], now: int
) -> tuple[ValidatorState, Effects]:
    """Admit what trainers sent before a crash; what was verified then need not be verified again."""
    out: list[Effect | RoundEffect | ChangeEffect] = []
    for item in uploads:
        if item.round < state.round.terms.round:
            continue
        before = state.round.with_verified(item.upload.report) if item.verified else state.round
        after, effects = round_step(state.around(context), before, item.upload, now)
        written = tuple(effect for effect in effects if not isinstance(effect, KeepUpload))
        state, more = _carry(context, replace(state, round=after), written, now)
        out.extend(more)
    return state, tuple(out)


def validator_step(
    context: ValidatorContext,
    state: ValidatorState,
    message: Input | RoundMessage | RoundRecord | RoundAlarm | PeerJoined,
    now: int,
    sender: int | None = None,
) -> tuple[ValidatorState, Effects]:
    """Handle one message for either machine and let the other one look at what changed.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway or this validator itself.
    """
    if isinstance(message, PeerJoined):
        return _say_again(context, state, message, now)
    if not isinstance(message, ROUND_MESSAGES):
        return _order(context, state, message, now, sender)
    if isinstance(message, RoundAlarm) and state.round.lacks_model:
        if message.round != state.round.terms.round:
            return state, ()
        if not state.replica.high_block_known:  # more rounds may be over: what this one's terms name is not needed yet
            state, ticked = _order(context, state, Tick(), now)
            return state, (*ticked, RoundTimer(message, now + context.round.timing.turn_ms))
    after, effects = round_step(state.around(context), state.round, message, now, sender)
    state, carried = _carry(context, replace(state, round=after), effects, now)
    if not isinstance(message, RoundAlarm):
        return state, carried
    state, ticked = _order(context, state, Tick(), now)
    return state, (*carried, *ticked)


def claimed(message: Input | RoundRecord) -> int | None:
    """Return whose an unsigned message says it is; what is signed stands for itself, whoever brings it."""
    match message:
        case Relay():
            return message.member
        case BlockRequest():
            return message.requester
        case _:
            return None


def _say_again(
    context: ValidatorContext, state: ValidatorState, joined: PeerJoined, now: int
) -> tuple[ValidatorState, Effects]:
    """Tell a validator that has just come, or come back, what it may have missed of this one in the present round."""
    if joined.index == context.round.index:
        return state, ()
    after, _ = round_step(context.round, state.round, joined, now)
    number = state.round.terms.round
    words = [m for to, m in state.said if to in (None, joined.index) and round_of(m) == number]
    ordered = say_again(context.ordering(state, now), state.replica, joined.index)
    return replace(state, round=after), (*ordered, *(RoundSend(joined.index, message) for message in words))


def _order(
    context: ValidatorContext, state: ValidatorState, message: Input | RoundRecord, now: int, sender: int | None = None
) -> tuple[ValidatorState, Effects]:
    """Take an ordering step and apply to the round whatever became final by it."""
    try:
        check_speaker(message, claimed(message), sender)
    except NotSenderError as reason:
        return state, (Ignored(reason),)
    if isinstance(message, RoundRecord):
        return _take_record(context, state, message, now)
    if isinstance(message, Relay) and is_round_record(message.payload):  # held, not pooled: a close comes before those
        brought = RoundRecord(state.round.terms.round, message.payload[1:])
        return _take_record(context, state, brought, now, ahead=False)
    replica, effects = step(context.ordering(state, now), state.replica, message, now)
    likely = _voted_close(state.replica, replica)
    state = replace(state, replica=replica)
    if likely:
        state = replace(state, round=replace(state.round, likely=likely))
    final = (effect.block for effect in effects if isinstance(effect, Committed))
    payloads = [block for block in final if block.payload and not is_beside_rounds(block.payload)]
    out: list[Effect | RoundEffect | ChangeEffect] = []
    for effect in effects:
        out.append(effect)
        if isinstance(effect, Committed) and effect.block.payload:
            state, more = _apply(context, state, effect.block, now, over=effect.block not in payloads[-1:])
            out.extend(more)
    if likely:
        out.append(RoundTimer(RoundAlarm(state.round.terms.round), now))
    return _submit_records(context, state, out, now)


def _take_record(
    context: ValidatorContext, state: ValidatorState, message: RoundRecord, now: int, ahead: bool = True
) -> tuple[ValidatorState, Effects]:
    """Hold a record of a round until it is ordered, and let ordering look whether it can be proposed."""
    try:
        records = take_record(context.round, state.round, state.records, message, now, ahead)
    except CollegiumError as error:
        return state, (Refused(state.round.terms.round, type(message).__name__, error),)
    if records is state.records:
        return state, ()
    return _order(context, replace(state, records=records), Tick(), now)


def _voted_close(before: ReplicaState, after: ReplicaState) -> bytes:
    """Return the close that a step has voted for, encoded; nothing if it has not."""
    if after.vote is None or after.vote is before.vote:
        return b""
    block = after.blocks.get(after.vote.ballot.block)
    return block.payload if block is not None and is_close(block.payload) else b""


def _apply(
    context: ValidatorContext, state: ValidatorState, block: Block, now: int, over: bool = False
) -> tuple[ValidatorState, Effects]:
    """Apply a final payload: a close is released for, a certified header ends the round.

    `over`: another payload is final after this one, so if this is a close its round is over already.
    """
    state, changed = _follow_change(context, state, block.payload)
    if context.change is not None and is_epoch_record(block.payload):
        return state, changed
    try:
        state = _follow_beside(context, state, block.payload)
        if is_beside_rounds(block.payload):
            return state, changed
        payload = decoded_payload(context.round, block.payload)
    except CollegiumError as error:  # cannot be: a quorum accepted it
        return state, (Refused(state.round.terms.round, "final block", error),)
    around = state.around(context)  # after a header: that of the next round
    if isinstance(payload, Close):
        after, effects = release(around, state.round, payload, block.author, now, over, state.records.final)
    else:
        after, effects = finish(around, state.round, payload, now)
    state, carried = _carry(context, replace(state, round=after), effects, now)
    return state, (*changed, *carried)


def _follow_beside(context: ValidatorContext, state: ValidatorState, payload: bytes) -> ValidatorState:
    """Return the state with what a final payload says beside rounds; a header brings what came before it into force.

    Raises:
        CollegiumError: it is no record that a quorum would accept.
    """
    return replace(
        state,
        withdrawals=follow_withdrawals(context.consents, state.withdrawals, (payload,)),
        registries=follow_registries(context.witnesses, state.registries, (payload,)),
        records=state.records.ordered(payload),
    )


def _carry(
    context: ValidatorContext, state: ValidatorState, effects: tuple[RoundEffect, ...], now: int
) -> tuple[ValidatorState, Effects]:
    """Hand what the round submits to ordering; pass every other effect on, and remember what is said."""
    state = _remember_said(state, effects)
    out: list[Effect | RoundEffect | ChangeEffect] = []
    for effect in effects:
        if isinstance(effect, RoundSubmit):
            state, more = _order(context, state, Submit(effect.payload), now)
            out.extend(more)
        elif isinstance(effect, EpochOver):
            gone, known = state.withdrawals.in_force, state.registries.in_force
            out.append(replace(effect, withdrawn=gone, registries=known))
        else:
            out.append(effect)
    return state, tuple(out)


def _remember_said(state: ValidatorState, effects: Iterable[RoundEffect]) -> ValidatorState:
    """Return the state with what the effects say in the present round; what was said in one before is forgotten."""
    number = state.round.terms.round
    said: list[tuple[int | None, RoundMessage]] = []
    for effect in effects:
        if isinstance(effect, RoundBroadcast) and round_of(effect.message) == number:
            said.append((None, effect.message))
        elif isinstance(effect, RoundSend) and isinstance(effect.message, HeaderVote):
            said.append((effect.to, effect.message))
    if not said:
        return state
    before = state.said if state.said and round_of(state.said[0][1]) == number else ()
    return replace(state, said=(*before, *said))
