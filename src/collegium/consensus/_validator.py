"""A validator: the ordering machine and the round machine side by side, still `(state, message, now) -> effects`.

Ordering decides what is final; what is final moves the round; what the round can close or has certified goes back into
ordering. The driver owns network, disk and clock, and carries effects out in their order.

What survives a crash, and why that suffices, is docs/spec/round.md's section on durability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from collegium.aggregation import RoundTerms, Upload
from collegium.crypto import Digest, SealKey
from collegium.errors import CollegiumError

from ._messages import Block
from ._order_keys import Signer, Verifier
from ._order_state import Archive, Committed, Context, Effect, Input, ReplicaState, Submit, Tick, VoteState
from ._ordering import initial_state, restore, say_again, step
from ._proof_evidence import ProofReject
from ._records import Announcement, Close, Header, Registered, decode_payload
from ._round import (
    begin,
    begin_behind,
    finish,
    next_payload,
    payload_accepted,
    release,
    round_of,
    round_step,
    terms_after,
)
from ._round_types import (
    HeaderProposal,
    HeaderVote,
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

__all__ = ["Kept", "ValidatorContext", "ValidatorState", "restore_validator", "start_validator", "validator_step"]

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
    """What does not change: the round's surroundings, and what ordering needs beside them (`Context`)."""

    round: RoundContext
    signer: Signer
    verifier: Verifier
    archive: Archive
    timeout_base_ms: int

    def ordering(self, state: RoundState | None, now: int) -> Context:
        """Return ordering's surroundings while the round is in this state."""
        epoch_set = self.round.epoch_set
        return Context(
            epoch_set=epoch_set,
            genesis=epoch_set.genesis(),
            index=self.round.index,
            signer=self.signer,
            verifier=self.verifier,
            application=_Application(self.round, state, now),
            archive=self.archive,
            timeout_base_ms=self.timeout_base_ms,
        )


@dataclass(frozen=True)
class ValidatorState:
    """Both machines' states, and what was `said` here in the present round: to all (None), or a vote to one."""

    replica: ReplicaState
    round: RoundState
    said: tuple[tuple[int | None, RoundMessage], ...] = ()


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


Effects = tuple[Effect | RoundEffect, ...]


@dataclass(frozen=True)
class _Application:
    """The round as ordering sees it, at one moment."""

    context: RoundContext
    state: RoundState | None  # None before the first round: nothing is accepted
    now: int

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        return self.state is not None and payload_accepted(self.context, self.state, ancestors, payload, self.now)

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        return None if self.state is None else next_payload(self.context, self.state, ancestors, self.now)


def start_validator(
    context: ValidatorContext, terms: RoundTerms, model: bytes, secrets: Mapping[int, SealKey], now: int
) -> tuple[ValidatorState, Effects]:
    """Return a validator at the beginning of a task's first round."""
    return restore_validator(context, terms, model, secrets, Kept(), now)


def restore_validator(
    context: ValidatorContext, terms: RoundTerms, model: bytes, secrets: Mapping[int, SealKey], kept: Kept, now: int
) -> tuple[ValidatorState, Effects]:
    """Return a validator as it was when it last wrote something down, and what it must say again.

    The committed blocks are the truth: the round is entered at the last header whose end was written down, what is
    known to be final is applied to it once more, and what trainers sent is admitted once more. So every receipt and
    every release is the one that was given before.

    Args:
        context: as before the crash.
        terms, model: of the task's first round, for a validator that has seen no round's end.
        secrets: the first round's sealing key, which no journal has.
        kept: what was written down.
        now: a clock that may have begun anew.
    """
    lacking = False
    if kept.header is not None:
        terms = terms_after(context.round.agreed, context.round.epoch_set, kept.header)
        model, lacking = kept.model or b"", kept.model is None
    secrets = {**secrets, **kept.secrets}
    entered = (
        begin_behind(context.round, terms, secrets, now)
        if lacking
        else begin(context.round, terms, model, secrets, now)
    )
    first = replace(
        entered[0],
        registered={entry.trainer: entry for entry in kept.registered},
        registrations=dict(kept.registrations),
        released=dict(kept.released),
    )
    surroundings = context.ordering(None, now)
    if kept == Kept():
        return _carry(context, ValidatorState(initial_state(surroundings), first), entered[1], now)
    replica = restore(surroundings, kept.vote_state, kept.final, kept.stored)
    state, out = _carry(context, ValidatorState(replica, first), entered[1], now)
    effects = list(out)
    soon = [item for item in kept.uploads if item.round <= terms.round + 1]
    state, more = _admit_again(context, state, soon, now)
    effects.extend(more)
    for block in kept.payloads:
        state, more = _apply(context, state, block, now)
        effects.extend(more)
    state, more = _admit_again(context, state, [item for item in kept.uploads if item.round > terms.round + 1], now)
    effects.extend(more)
    state, more = validator_step(context, state, RoundAlarm(state.round.terms.round), now)
    return state, (*effects, *more)


def _admit_again(
    context: ValidatorContext, state: ValidatorState, uploads: Iterable[KeepUpload], now: int
) -> tuple[ValidatorState, Effects]:
    """Admit what trainers sent before a crash; what was verified then need not be verified again."""
    out: list[Effect | RoundEffect] = []
    for item in uploads:
        if item.round < state.round.terms.round:
            continue
        report = item.upload.report
        if item.verified:
            known = replace(
                state.round,
                verified=state.round.verified | {report.id},
                vetted=state.round.vetted | {report.registration},
            )
            state = replace(state, round=known)
        after, effects = round_step(context.round, state.round, item.upload, now)
        written = tuple(effect for effect in effects if not isinstance(effect, KeepUpload))
        state, more = _carry(context, replace(state, round=after), written, now)
        out.extend(more)
    return state, tuple(out)


def validator_step(
    context: ValidatorContext,
    state: ValidatorState,
    message: Input | RoundMessage | RoundAlarm | PeerJoined,
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
        return _order(context, state, message, now)
    if isinstance(message, RoundAlarm) and state.round.lacks_model:
        if message.round != state.round.terms.round:
            return state, ()
        if not state.replica.high_block_known:  # more rounds may be over: what this one's terms name is not needed yet
            state, ticked = _order(context, state, Tick(), now)
            return state, (*ticked, RoundTimer(message, now + context.round.timing.turn_ms))
    after, effects = round_step(context.round, state.round, message, now, sender)
    state, carried = _carry(context, replace(state, round=after), effects, now)
    if not isinstance(message, RoundAlarm):
        return state, carried
    state, ticked = _order(context, state, Tick(), now)
    return state, (*carried, *ticked)


def _say_again(
    context: ValidatorContext, state: ValidatorState, joined: PeerJoined, now: int
) -> tuple[ValidatorState, Effects]:
    """Tell a validator that has just come, or come back, what it may have missed of this one in the present round."""
    if joined.index == context.round.index:
        return state, ()
    after, _ = round_step(context.round, state.round, joined, now)
    number = state.round.terms.round
    words = [m for to, m in state.said if to in (None, joined.index) and round_of(m) == number]
    ordered = say_again(context.ordering(state.round, now), state.replica, joined.index)
    return replace(state, round=after), (*ordered, *(RoundSend(joined.index, message) for message in words))


def _order(
    context: ValidatorContext, state: ValidatorState, message: Input, now: int
) -> tuple[ValidatorState, Effects]:
    """Take an ordering step and apply to the round whatever became final by it."""
    replica, effects = step(context.ordering(state.round, now), state.replica, message, now)
    state = replace(state, replica=replica)
    payloads = [effect.block for effect in effects if isinstance(effect, Committed) and effect.block.payload]
    out: list[Effect | RoundEffect] = []
    for effect in effects:
        out.append(effect)
        if isinstance(effect, Committed) and effect.block.payload:
            state, more = _apply(context, state, effect.block, now, over=effect.block is not payloads[-1])
            out.extend(more)
    return state, tuple(out)


def _apply(
    context: ValidatorContext, state: ValidatorState, block: Block, now: int, over: bool = False
) -> tuple[ValidatorState, Effects]:
    """Apply a final payload: a close is released for, a certified header ends the round.

    `over`: another payload is final after this one, so if this is a close its round is over already.
    """
    try:
        payload = decode_payload(block.payload)
    except CollegiumError as error:  # cannot be: a quorum accepted it
        return state, (Refused(state.round.terms.round, "final block", error),)
    if isinstance(payload, Close):
        after, effects = release(context.round, state.round, payload, block.author, now, over)
    else:
        after, effects = finish(context.round, state.round, payload, now)
    return _carry(context, replace(state, round=after), effects, now)


def _carry(
    context: ValidatorContext, state: ValidatorState, effects: tuple[RoundEffect, ...], now: int
) -> tuple[ValidatorState, Effects]:
    """Hand what the round submits to ordering; pass every other effect on, and remember what is said."""
    state = _remember_said(state, effects)
    out: list[Effect | RoundEffect] = []
    for effect in effects:
        if isinstance(effect, RoundSubmit):
            state, more = _order(context, state, Submit(effect.payload), now)
            out.extend(more)
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
