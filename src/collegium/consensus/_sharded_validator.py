"""A validator of a task with several committees a round: ordering and shards side by side, as in `_validator`.

Not there yet: what `_validator` does about crashes, connections that come back, and the change of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from collegium.aggregation import Upload
from collegium.crypto import Digest, SealKey

from ._order_keys import Signer, Verifier
from ._order_state import Archive, Committed, Context, Effect, Input, ReplicaState, Tick
from ._ordering import initial_state, step
from ._round_types import RoundAlarm
from ._shard_terms import ShardedTerms
from ._shard_types import SaidAmongShards, ShardContext, ShardedState, ShardEffect
from ._shards import apply_sharded, begin_sharded, sharded_accepted, sharded_payload, sharded_step

__all__ = [
    "ShardedContext",
    "ShardedValidatorState",
    "sharded_validator_step",
    "start_sharded_validator",
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
    """Both machines' states."""

    replica: ReplicaState
    shards: ShardedState


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


def start_sharded_validator(
    context: ShardedContext, terms: ShardedTerms, model: bytes, secrets: Mapping[int, SealKey], now: int
) -> tuple[ShardedValidatorState, Effects]:
    """Return a validator at the beginning of round 0."""
    state, effects = begin_sharded(context.shards, terms, model, secrets, now)
    return ShardedValidatorState(initial_state(context.ordering(None, now)), state), effects


def sharded_validator_step(
    context: ShardedContext,
    state: ShardedValidatorState,
    message: Input | SaidAmongShards | Upload | RoundAlarm,
    now: int,
    sender: int | None = None,
) -> tuple[ShardedValidatorState, Effects]:
    """Handle one message for either machine and let the other one look at what changed.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway or this validator itself.
    """
    if not isinstance(message, SaidAmongShards | Upload | RoundAlarm):
        return _order(context, state, message, now)
    before = state.shards
    after, effects = sharded_step(context.shards, before, message, now, sender)
    state = replace(state, shards=after)
    news = after.pending is not before.pending or after.merge is not before.merge
    if not news and not isinstance(message, RoundAlarm):
        return state, effects
    late = now >= after.began_ms + context.shards.round.timing.deadline_ms
    if not late and sharded_payload(context.shards, after, (), now) is None:
        return state, effects
    state, ticked = _order(context, state, Tick(), now)
    return state, (*effects, *ticked)


def _order(
    context: ShardedContext, state: ShardedValidatorState, message: Input, now: int
) -> tuple[ShardedValidatorState, Effects]:
    """Take an ordering step and apply to the round whatever became final by it."""
    replica, effects = step(context.ordering(state, now), state.replica, message, now)
    state = replace(state, replica=replica)
    out: list[Effect | ShardEffect] = []
    for effect in effects:
        out.append(effect)
        if isinstance(effect, Committed) and effect.block.payload:
            after, more = apply_sharded(context.shards, state.shards, effect.block.payload, now)
            state = replace(state, shards=after)
            out.extend(more)
    return state, tuple(out)
