"""What a validator of a round with shards keeps until it can be judged: of honest senders everything, and no more.

That is what is said of the next round, and all of the present one while its model is not here. Within a quota for each
sender, in number and in bytes; an upload is written down at once, as trainers send once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from collegium import aggregation
from collegium.aggregation import Upload

from ._proof_evidence import ProofReject
from ._round_rules import WrongRoundError, add_early, check_early, check_length, check_share
from ._round_types import Release, SeatReceipt
from ._shard_types import (
    CloseOffer,
    ResultOffer,
    SaidAmongShards,
    ShardContext,
    ShardedState,
    ShardMessage,
    ShardOutcomes,
    round_said_in,
    subject_of,
)

__all__ = ["keep_early", "wait"]

SAID_IN_SHARD: Final = (SeatReceipt, ProofReject, Release, CloseOffer, ResultOffer)  # and needed later
EACH_IN_SHARD: Final = 3  # of a validator in one of its shards beside receipts and rejects: release, close, result
RECORDS_EACH: Final = 3  # of one validator about one of its shards, or the header


def keep_early(context: ShardContext, state: ShardedState, upload: Upload, sender: int | None) -> ShardOutcomes:
    """Keep one report a trainer and round for later, with all boxes and the registration that any copy of it has.

    Raises:
        NotInCohortError, ReportRejectedError, ProofRefusedError: see `check_early`.
    """
    check_early(context.in_shard, upload)
    ahead, kept, keep = add_early(state.ahead, state.kept, upload, sender)
    return replace(state, ahead=ahead, kept=kept), keep


def wait(context: ShardContext, state: ShardedState, message: SaidAmongShards, sender: int | None) -> ShardedState:
    """Keep a message that cannot be judged yet, in the place of what its sender said of the same before.

    Raises:
        WrongRoundError: nobody needs it later.
        NoShardError, NotSenderError: of a shard that is not here, or more or larger than an honest sender's.
    """
    inner = message.message if isinstance(message, ShardMessage) else message
    if isinstance(message, ShardMessage) and not isinstance(inner, SAID_IN_SHARD):
        raise WrongRoundError(f"{type(inner).__name__} of round {message.round}: nobody needs it before it begins")
    if isinstance(inner, SeatReceipt):
        check_length(context.round, inner.receipt)
    same = (sender, *_said(message))
    ahead = [item for item in state.ahead if (item[0], *_said(item[1])) != same]
    _check_quota(context, state, [kept for origin, kept in ahead if origin == sender], message, sender)
    return replace(state, ahead=(*ahead, (sender, message)))


def _said(message: SaidAmongShards | Upload) -> tuple[object, ...]:
    """Return in which round a message speaks, and of what; of an upload, which has no validator's subject, itself."""
    subject = subject_of(message)
    return (id(message),) if subject is None else (round_said_in(message), *subject)


def _check_quota(
    context: ShardContext,
    state: ShardedState,
    kept: list[SaidAmongShards | Upload],
    message: SaidAmongShards,
    sender: int | None,
) -> None:
    """Check that what waits is within an honest sender's share, of two rounds.

    Raises:
        NotSenderError: it is not.
    """
    size, trainers, seats = context.round.epoch_set.size, len(context.round.cohort), context.plan.seats
    held = -(-len(state.terms.validators) // size)
    rejects = trainers if context.round.agreed.proof_bytes_max(state.terms.round) else 0
    many = 2 * (held + min(held, context.plan.count) * (EACH_IN_SHARD + RECORDS_EACH) + rejects + RECORDS_EACH)
    sums = seats * (aggregation.seat_width(seats) * aggregation.KEY_ROWS * 8 + 1024)
    most = many * (sums + 128 * trainers + 512 * size + (1 << 16))
    check_share(kept, message, sender, many, most, size)
