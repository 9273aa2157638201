"""The windows of a run's checkpoints at a court: whoever defends starts them, and sees when all is over there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from collegium.crypto import Digest
from collegium.settlement import Chain, Checkpoint, Receipt, attach, read_checkpoints, unless_overtaken

from ._watch import Player, WatchedRun

__all__ = ["start_windows"]

_Asked = Callable[[Digest], bool]


class _Moves(Protocol):
    """The moves of an account at a court of any kind."""

    chain: Chain

    def start(self, checkpoint: Checkpoint) -> Receipt:
        """Begin the time in which headers under a checkpoint can be disputed."""
        ...


def start_windows(run: WatchedRun, moves: _Moves, started: _Asked, is_over: _Asked, player: Player) -> bool:
    """Start the window of every checkpoint that has none; tell whether all of them are over.

    Args:
        started: whether somebody has started a checkpoint's window.
        is_over: whether a checkpoint is final, or has fallen.
    """
    deployment, over = attach(moves.chain, run.deployment.settlement, run.deployment.block), True
    for checkpoint in read_checkpoints(moves.chain, deployment):
        begun = partial(started, checkpoint.digest)
        with unless_overtaken(begun):
            if not begun():
                receipt = moves.start(checkpoint)
                rounds = f"{checkpoint.first_round}-{checkpoint.last_round}"
                player.say(f"window of rounds {rounds} started: {receipt.gas:,} gas")
        over &= is_over(checkpoint.digest)
    return over
