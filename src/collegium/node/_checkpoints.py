"""Which checkpoints a task has: they follow from its final headers, its epochs and how often one is due alone.

So a validator signs the checkpoint that it derives itself, and the relayer derives the same to ask for signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from collegium.consensus import EpochSet
from collegium.crypto import BlsPublicKey, Digest
from collegium.settlement import NO_CHECKPOINT, Checkpoint, handover_digest, header_root

from ._epochs import KnownEpoch

__all__ = ["checkpoints", "last_rounds", "opening_digest"]


def last_rounds(rounds: int, every: int, later: Sequence[KnownEpoch] = ()) -> tuple[int, ...]:
    """Return the last round of each checkpoint of a task that has rounds 0 to `rounds`.

    Args:
        later: epochs after the first, as far as they are known: a checkpoint ends with its epoch.
    """
    ends = {epoch.first_round - 1 for epoch in later}
    return tuple(n for n in range(1, rounds + 1) if n % every == 0 or n == rounds or n in ends)


def checkpoints(
    epoch_set: EpochSet, headers: Sequence[Digest], rounds: int, every: int, later: Sequence[KnownEpoch] = ()
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that are due, given the digests of the final headers from round 0 on.

    Args:
        epoch_set: the first epoch's.
        later: the epochs after it to which these headers lead.
    """
    due: list[Checkpoint] = []
    for last in last_rounds(rounds, every, later):
        if last >= len(headers):
            break
        first = due[-1].last_round + 1 if due else 0
        previous = due[-1].digest if due else NO_CHECKPOINT
        root = header_root(headers[first : last + 1])
        epoch = max((known.epoch for known in later if known.first_round <= first), default=epoch_set.epoch)
        due.append(Checkpoint(epoch_set.task, epoch, first, last, previous, root))
    return tuple(due)


def opening_digest(members: EpochSet, previous: Digest) -> Digest:
    """Return what the set in office signs for the base chain, so that these members follow on it.

    Args:
        previous: digest of its last checkpoint.
    """
    keys = [BlsPublicKey(member.bls_key) for member in members.validators]
    return handover_digest(members.task, members.epoch, previous, keys)
