"""State sync: what final blocks name and a validator lacks, asked for by digest, so that nobody need be trusted.

A model is named by the header before it, a registration by the close that admitted it first. Both are public.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._round_types import (
    OBJECT_BYTES_MAX,
    ObjectReply,
    ObjectRequest,
    Outcomes,
    RoundAlarm,
    RoundContext,
    RoundSend,
    RoundState,
    RoundTimer,
)

__all__ = [
    "ObjectQuotaError",
    "ObjectTooLargeError",
    "UnaskedObjectError",
    "ask_objects",
    "check_object",
    "give_objects",
    "is_here",
    "later",
    "lost",
    "wanted",
]

ASKED_AT_ONCE = 2  # validators asked for the same objects before waiting for an answer
MODELS_EACH = 4  # given to one validator in a round: the present one, and some that it asked for a little late


class UnaskedObjectError(CollegiumError):
    """An object that this validator did not ask for, or not of this sender."""


class ObjectTooLargeError(CollegiumError):
    """An object larger than any model or registration may be."""


class ObjectQuotaError(CollegiumError):
    """A validator asks for more objects in a round than one can lack."""


def wanted(state: RoundState) -> tuple[Digest, ...]:
    """Return the objects that final blocks name and that are not here: a model at most, and registrations."""
    models: tuple[Digest, ...] = ()
    if state.final is not None:
        models = (state.final.header.model,)
    elif state.lacks_model:
        models = (state.terms.model,)
    named = {entry.digest for entry in state.registered.values() if entry.last_round >= state.terms.round}
    return (*models, *sorted(named - state.registrations.keys()))


def later(state: RoundState, at_ms: int) -> Outcomes:
    """Ask at `at_ms` for what is still wanted by then."""
    return replace(state, sync_ms=at_ms), (RoundTimer(RoundAlarm(state.terms.round), at_ms),)


def ask_objects(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Ask the next two validators for what is wanted, if it is time to."""
    digests, size = wanted(state), len(context.epoch_set.validators)
    if not digests or now < state.sync_ms:
        return state, ()
    others = [(context.index + 1 + i) % size for i in range(size - 1)]
    chosen = [others[(state.sync_asked + i) % len(others)] for i in range(min(ASKED_AT_ONCE, len(others)))]
    state = replace(state, sync_asked=state.sync_asked + len(chosen), sync_from=state.sync_from | frozenset(chosen))
    state, again = later(state, now + context.timing.turn_ms)
    request = ObjectRequest(context.index, digests[: _request_max(context)])
    return state, (*(RoundSend(to, request) for to in chosen), *again)


def give_objects(context: RoundContext, state: RoundState, message: ObjectRequest) -> Outcomes:
    """Send a validator what it asks for and is here, each object once a round; what is not here counts, too.

    Raises:
        UnknownValidatorError: there is no such validator.
        ObjectQuotaError: it asks for more than an honest one can lack.
    """
    context.epoch_set.validator(message.validator)
    given = sum(validator == message.validator for validator, _ in state.answered | state.unknown)
    if len(message.digests) > _request_max(context) or given > 2 * len(context.cohort) + MODELS_EACH:
        raise ObjectQuotaError(
            f"validator {message.validator} asks for {len(message.digests)} objects after {given} answers",
            validator=message.validator,
        )
    effects = []
    for digest in dict.fromkeys(message.digests):
        asked = (message.validator, digest)
        data = None if asked in state.answered else _find(context, state, digest)
        if data is None:
            state = state if asked in state.answered else replace(state, unknown=state.unknown | {asked})
        else:
            state = replace(state, answered=state.answered | {asked}, unknown=state.unknown - {asked})
            effects.append(RoundSend(message.validator, ObjectReply(data)))
    return state, tuple(effects)


def check_object(state: RoundState, message: ObjectReply, sender: int | None) -> Digest:
    """Return the digest of an object that was asked for, here by now or not; length and sender are looked at first.

    Raises:
        ObjectTooLargeError, UnaskedObjectError: see there.
    """
    if len(message.data) > OBJECT_BYTES_MAX:
        raise ObjectTooLargeError(f"object of {len(message.data)} bytes, expected at most {OBJECT_BYTES_MAX}")
    if sender is not None and sender not in state.sync_from:
        raise UnaskedObjectError(f"validator {sender} sends an object that it was not asked for", sender=sender)
    digest = sha256(message.data).digest()
    if digest not in wanted(state) and not is_here(state, digest):
        raise UnaskedObjectError(f"object {digest.hex()} is not one that was asked for", digest=digest)
    return digest


def is_here(state: RoundState, digest: Digest) -> bool:
    """Tell whether a validator has an object already: two are asked at once, and both answer."""
    return (digest == state.terms.model and not state.lacks_model) or digest in state.registrations


def lost(state: RoundState, sender: int | None) -> RoundState:
    """Return the state in which nothing more is taken from a sender of wrong objects until it is asked again."""
    return state if sender is None else replace(state, sync_from=state.sync_from - {sender})


def _request_max(context: RoundContext) -> int:
    return len(context.cohort) + 1


def _find(context: RoundContext, state: RoundState, digest: Digest) -> bytes | None:
    if digest == state.terms.model and not state.lacks_model:
        return state.model
    known = state.registrations.get(digest)
    return known if known is not None else context.objects.get(digest)
