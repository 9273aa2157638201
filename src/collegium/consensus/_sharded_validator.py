"""A validator of a task with several committees a round: ordering and shards side by side, as in `_validator`.

What survives a crash, and why that suffices, is docs/spec/shards.md's section on durability. Epochs do not change hands
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from collegium.aggregation import Upload
from collegium.crypto import Digest, SealKey

from ._order_keys import Signer, Verifier
from ._order_state import Archive, Committed, Context, Effect, Ignored, Input, ReplicaState, Tick
from ._ordering import initial_state, restore, say_again, step
from ._records import Header
from ._round_rules import NotSenderError, check_speaker
from ._round_types import KeepUpload, PeerJoined, RoundAlarm, RoundTimer
from ._shard_terms import ShardedTerms, sharded_terms_at
from ._shard_types import (
    SaidAmongShards,
    ShardBroadcast,
    ShardContext,
    ShardedState,
    ShardEffect,
    ShardSend,
    round_said_in,
    subject_of,
)
from ._shards import apply_sharded, begin_sharded, sharded_accepted, sharded_payload, sharded_step, verified_before
from ._validator import Kept, claimed

__all__ = [
    "ShardedContext",
    "ShardedValidatorState",
    "restore_sharded_validator",
    "sharded_validator_step",
]

Effects = tuple[Effect | ShardEffect, ...]


@dataclass(frozen=True)
class ShardedContext:
    """What does not change during an epoch; as `ValidatorContext`."""

    shards: ShardContext
    signer: Signer
    verifier: Verifier
    archive: Archive
    timeout_base_ms: int
    genesis: Digest | None = None

    def ordering(self, state: ShardedValidatorState | None, now: int) -> Context:
        """Return ordering's surroundings while the round is in this state."""
        epoch_set = self.shards.round.epoch_set
        return Context(
            epoch_set=epoch_set,
            genesis=epoch_set.genesis() if self.genesis is None else self.genesis,
            index=self.shards.round.index,
            signer=self.signer,
            verifier=self.verifier,
            application=_Application(self.shards, None if state is None else state.shards, now),
            archive=self.archive,
            timeout_base_ms=self.timeout_base_ms,
        )


@dataclass(frozen=True)
class ShardedValidatorState:
    """Both machines' states, and what was said here in a round: to whom (None: all) and about what.

    Attributes:
        said_once: of each subject the last word, with its receiver.
        said_round: the round of these.
    """

    replica: ReplicaState
    shards: ShardedState
    said_once: Mapping[tuple[object, ...], tuple[int | None, SaidAmongShards]] = field(default_factory=dict)
    said_round: int = -1

    @property
    def said(self) -> tuple[tuple[int | None, SaidAmongShards], ...]:
        """Return what was said in the present round and is not about objects or reports, which are asked for again."""
        return tuple(self.said_once.values()) if self.said_round == self.shards.terms.round else ()


@dataclass(frozen=True)
class _Application:
    """The round as ordering sees it, at one moment."""

    context: ShardContext
    state: ShardedState | None  # None before the first round: nothing is accepted
    now: int

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        return self.state is not None and sharded_accepted(self.context, self.state, ancestors, payload, self.now)

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        return None if self.state is None else sharded_payload(self.context, self.state, ancestors, self.now)


def restore_sharded_validator(
    context: ShardedContext,
    terms: ShardedTerms,
    model: bytes | None,
    secrets: Mapping[int, SealKey],
    kept: Kept,
    headers: Sequence[Header],
    now: int,
) -> tuple[ShardedValidatorState, Effects]:
    """Return a validator as it was when it last wrote something down, and what it must say again.

    As `restore_validator`: the round is entered at the last header whose end was written down, what trainers sent is
    admitted once more, and what is known to be final is applied to it once more.

    Args:
        context: as before the crash.
        terms, model: of round 0.
        secrets: round 0's sealing key, which no journal has.
        kept: what was written down.
        headers: those of all rounds whose end was written down, oldest first.
        now: a clock that may have begun anew.
    """
    shards, surroundings = context.shards, context.ordering(None, now)
    if headers:
        terms, model = sharded_terms_at(shards.round.agreed, shards.round.epoch_set, terms, headers), kept.model
    registered = {entry.trainer: entry for entry in kept.registered}
    secrets = {**secrets, **kept.secrets}
    first, begun = begin_sharded(shards, terms, model, secrets, now, registered, kept.shard_released)
    if kept == Kept():
        return _carry(ShardedValidatorState(initial_state(surroundings), first), begun)
    replica = restore(surroundings, kept.vote_state, kept.final, kept.stored)
    state, out = _carry(ShardedValidatorState(replica, first), begun)
    effects: list[Effect | ShardEffect] = list(out)
    soon = terms.round + 1
    state, more = _admit_again(context, state, [item for item in kept.uploads if item.round <= soon], now)
    effects.extend(more)
    for block in kept.payloads:
        after, applied = apply_sharded(shards, state.shards, block.payload, now)
        state, more = _carry(replace(state, shards=after), applied)
        effects.extend(more)
    state, more = _admit_again(context, state, [item for item in kept.uploads if item.round > soon], now)
    effects.extend(more)
    state, more = sharded_validator_step(context, state, RoundAlarm(state.shards.terms.round), now)
    return state, (*effects, *more)


def _admit_again(
    context: ShardedContext, state: ShardedValidatorState, uploads: Iterable[KeepUpload], now: int
) -> tuple[ShardedValidatorState, Effects]:
    """Admit what trainers sent before a crash; what was verified then need not be verified again."""
    out: list[Effect | ShardEffect] = []
    for item in uploads:
        if item.round < state.shards.terms.round:
            continue
        before = verified_before(state.shards, item) if item.verified else state.shards
        after, effects = sharded_step(context.shards, before, item.upload, now)
        written = tuple(effect for effect in effects if not isinstance(effect, KeepUpload))
        state, more = _carry(replace(state, shards=after), written)
        out.extend(more)
    return state, tuple(out)


def sharded_validator_step(
    context: ShardedContext,
    state: ShardedValidatorState,
    message: Input | SaidAmongShards | Upload | RoundAlarm | PeerJoined,
    now: int,
    sender: int | None = None,
) -> tuple[ShardedValidatorState, Effects]:
    """Handle one message for either machine and let the other one look at what changed.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway or this validator itself.
    """
    if isinstance(message, PeerJoined):
        return _say_again(context, state, message, now)
    if not isinstance(message, SaidAmongShards | Upload | RoundAlarm):
        return _order(context, state, message, now, sender)
    before = state.shards
    behind = before.lacks_model or before.final is not None
    if isinstance(message, RoundAlarm) and behind and not state.replica.high_block_known:
        return _catch_up(context, state, message, now)
    after, effects = sharded_step(context.shards, before, message, now, sender)
    state, effects = _carry(replace(state, shards=after), effects)
    alarm = isinstance(message, RoundAlarm)
    if not alarm and after.pending is before.pending and after.merge is before.merge:
        return state, effects
    late = now >= after.began_ms + context.shards.round.timing.deadline_ms
    if late or behind or sharded_payload(context.shards, after, (), now) is not None:
        state, ticked = _order(context, state, Tick(), now)
        return state, (*effects, *ticked)
    return state, effects


def _catch_up(
    context: ShardedContext, state: ShardedValidatorState, alarm: RoundAlarm, now: int
) -> tuple[ShardedValidatorState, Effects]:
    """More rounds may be over than is known here: ask for blocks, not for a model that may not be needed."""
    if alarm.round != state.shards.terms.round:
        return state, ()
    state, ticked = _order(context, state, Tick(), now)
    return state, (*ticked, RoundTimer(alarm, now + context.shards.round.timing.turn_ms))


def _say_again(
    context: ShardedContext, state: ShardedValidatorState, joined: PeerJoined, now: int
) -> tuple[ShardedValidatorState, Effects]:
    """Tell a validator that has just come, or come back, what it may have missed of this one in the present round."""
    if joined.index == context.shards.round.index:
        return state, ()
    after, _ = sharded_step(context.shards, state.shards, joined, now)
    words = (message for to, message in state.said if to in (None, joined.index))
    ordered = say_again(context.ordering(state, now), state.replica, joined.index)
    return replace(state, shards=after), (*ordered, *(ShardSend(joined.index, message) for message in words))


def _order(
    context: ShardedContext, state: ShardedValidatorState, message: Input, now: int, sender: int | None = None
) -> tuple[ShardedValidatorState, Effects]:
    """Take an ordering step and apply to the round whatever became final by it."""
    try:
        check_speaker(message, claimed(message), sender)
    except NotSenderError as reason:
        return state, (Ignored(reason),)
    replica, effects = step(context.ordering(state, now), state.replica, message, now)
    state = replace(state, replica=replica)
    out: list[Effect | ShardEffect] = []
    for effect in effects:
        out.append(effect)
        if isinstance(effect, Committed) and effect.block.payload:
            after, applied = apply_sharded(context.shards, state.shards, effect.block.payload, now)
            state, more = _carry(replace(state, shards=after), applied)
            out.extend(more)
    return state, tuple(out)


def _carry(
    state: ShardedValidatorState, effects: tuple[ShardEffect, ...]
) -> tuple[ShardedValidatorState, tuple[ShardEffect, ...]]:
    """Pass effects on, and remember what they say in the present round; what was said in one before is forgotten."""
    number, said = state.shards.terms.round, dict(state.said_once)
    if number != state.said_round:
        said = {}
    for effect in effects:
        if isinstance(effect, ShardBroadcast | ShardSend) and round_said_in(effect.message) == number:
            subject = subject_of(effect.message)
            to = effect.to if isinstance(effect, ShardSend) else None
            if subject is not None:
                said[(to, *subject)] = (to, effect.message)
    return replace(state, said_once=said, said_round=number), effects
