"""Which checkpoints a task has: they follow from its final headers and how often one is due, and from nothing else.

So a validator signs the checkpoint that it derives itself, and the relayer derives the same to ask for signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from collegium.consensus import EpochSet
from collegium.crypto import Digest
from collegium.settlement import NO_CHECKPOINT, Checkpoint, header_root

__all__ = ["checkpoints", "last_rounds"]


def last_rounds(rounds: int, every: int) -> tuple[int, ...]:
    """Return the last round of each checkpoint of a task that has rounds 0 to `rounds`."""
    return tuple(number for number in range(1, rounds + 1) if number % every == 0 or number == rounds)


def checkpoints(epoch_set: EpochSet, headers: Sequence[Digest], rounds: int, every: int) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that are due, given the digests of the final headers from round 0 on."""
    due: list[Checkpoint] = []
    for last in last_rounds(rounds, every):
        if last >= len(headers):
            break
        first = due[-1].last_round + 1 if due else 0
        previous = due[-1].digest if due else NO_CHECKPOINT
        root = header_root(headers[first : last + 1])
        due.append(Checkpoint(epoch_set.task, epoch_set.epoch, first, last, previous, root))
    return tuple(due)
