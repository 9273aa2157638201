"""A validator: the ordering machine and the round machine side by side, still `(state, message, now) -> effects`.

Ordering decides what is final; what is final moves the round; what the round can close or has certified goes back into
ordering. The driver owns network, disk and clock, and carries effects out in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from collegium.aggregation import RoundTerms, Upload
from collegium.crypto import SealKey
from collegium.errors import CollegiumError

from ._order_keys import Signer, Verifier
from ._order_state import Archive, Committed, Context, Effect, Input, ReplicaState, Submit, Tick
from ._ordering import initial_state, step
from ._proof_evidence import ProofReject
from ._records import Announcement, Close, decode_payload
from ._round import begin, finish, next_payload, payload_accepted, release, round_step
from ._round_types import (
    HeaderProposal,
    HeaderVote,
    Refused,
    Release,
    ReportReply,
    ReportRequest,
    RoundAlarm,
    RoundContext,
    RoundEffect,
    RoundMessage,
    RoundState,
    RoundSubmit,
    SeatReceipt,
)

__all__ = ["ValidatorContext", "ValidatorState", "start_validator", "validator_step"]

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
    """Both machines' states."""

    replica: ReplicaState
    round: RoundState


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
    state, effects = begin(context.round, terms, model, secrets, now)
    return ValidatorState(initial_state(context.ordering(None, now)), state), effects


def validator_step(
    context: ValidatorContext,
    state: ValidatorState,
    message: Input | RoundMessage | RoundAlarm,
    now: int,
    sender: int | None = None,
) -> tuple[ValidatorState, Effects]:
    """Handle one message for either machine and let the other one look at what changed.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway or this validator itself.
    """
    if not isinstance(message, ROUND_MESSAGES):
        return _order(context, state, message, now)
    after, effects = round_step(context.round, state.round, message, now, sender)
    state, carried = _carry(context, replace(state, round=after), effects, now)
    if not isinstance(message, RoundAlarm):
        return state, carried
    state, ticked = _order(context, state, Tick(), now)
    return state, (*carried, *ticked)


def _order(
    context: ValidatorContext, state: ValidatorState, message: Input, now: int
) -> tuple[ValidatorState, Effects]:
    """Take an ordering step and apply to the round whatever became final by it."""
    replica, effects = step(context.ordering(state.round, now), state.replica, message, now)
    state = replace(state, replica=replica)
    out: list[Effect | RoundEffect] = []
    for effect in effects:
        out.append(effect)
        if isinstance(effect, Committed) and effect.block.payload:
            state, more = _apply(context, state, effect, now)
            out.extend(more)
    return state, tuple(out)


def _apply(
    context: ValidatorContext, state: ValidatorState, committed: Committed, now: int
) -> tuple[ValidatorState, Effects]:
    """Apply a final payload: a close is released for, a certified header ends the round."""
    try:
        payload = decode_payload(committed.block.payload)
    except CollegiumError as error:  # cannot be: a quorum accepted it
        return state, (Refused(state.round.terms.round, "final block", error),)
    if isinstance(payload, Close):
        after, effects = release(context.round, state.round, payload, committed.block.author, now)
    else:
        after, effects = finish(context.round, state.round, payload, now)
    return _carry(context, replace(state, round=after), effects, now)


def _carry(
    context: ValidatorContext, state: ValidatorState, effects: tuple[RoundEffect, ...], now: int
) -> tuple[ValidatorState, Effects]:
    """Hand what the round submits to ordering; pass every other effect on."""
    out: list[Effect | RoundEffect] = []
    for effect in effects:
        if isinstance(effect, RoundSubmit):
            state, more = _order(context, state, Submit(effect.payload), now)
            out.extend(more)
        else:
            out.append(effect)
    return state, tuple(out)
