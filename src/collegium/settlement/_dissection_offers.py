"""Offers of claims to whoever checks them: right, or wrong on purpose, so that checking pays (docs/spec/disputes.md).

A claim that is wrong on purpose says what the run says up to a step that the offerer's key draws, and something else
from there on. Only who runs the program, or holds the key, can tell it from a right one; whoever holds the key, also
after a kill.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from collegium.crypto import Digest, hash_fields
from collegium.settlement._chain import Account
from collegium.settlement._dispute_play import MadeMove
from collegium.settlement._dissection_play import RunDefenderAtChain
from collegium.settlement._dissection_players import PARTS, RunDefender, between
from collegium.settlement._dissections import (
    DissectionMoves,
    DissectionPhase,
    DissectionStanding,
    DissectionState,
    read_dissection,
    read_dissection_claims,
    read_dissection_defence,
    read_dissection_game,
)
from collegium.settlement._machine import MachineRun
from collegium.settlement._machine_state import MachineState
from collegium.settlement._stretches import KnownStretches

__all__ = ["OfferAtChain", "WrongDefender"]

_SHOWN = (DissectionPhase.PROVE, DissectionPhase.ANSWER)  # turns in which a step is executed


class WrongDefender(RunDefender):
    """Stands up for a claim that is wrong on purpose, as long as it can."""

    def __init__(self, run: MachineRun, stretches: KnownStretches, levels: int, account: Account) -> None:
        """Take an accepting run, and whose key draws from which step on the claim is wrong: it signs deterministically.

        Raises:
            DissectionError: the run does not accept within 16^levels steps.
        """
        super().__init__(run, stretches, levels)
        whole = run.states([0, PARTS**levels])
        about = b"".join(state.digest for state in whole if state is not None)  # of statement and program
        self._secret = account.sign(hash_fields("wrong-offer", about))
        self.first = 1 + int.from_bytes(self._drawn(0), "big") % run.steps
        final = run.final
        self._end = MachineState(final.status, final.pc, final.fp, self._drawn(run.steps))

    def claim(self) -> tuple[MachineState, tuple[Digest, ...]]:
        """Return a state with which the run does not end, and those between the parts of what is claimed."""
        return self._end, self.divide(self._levels, 0)

    def divide(self, level: int, position: int) -> tuple[Digest, ...]:
        """Return the claimed states between the parts of an interval."""
        right = super().divide(level, position)
        steps = between(level, position)
        return tuple(self._claimed(step, state) for step, state in zip(steps, right, strict=True))

    def proves(self, position: int) -> bool:
        """Tell whether the step from a state to the next is one that the contract executes as claimed."""
        return position + 1 < self.first

    def _claimed(self, step: int, right: Digest) -> Digest:
        if step < self.first:
            return right
        return self._end.digest if step >= self._run.steps else self._drawn(step)

    def _drawn(self, step: int) -> Digest:
        return hmac.digest(self._secret, step.to_bytes(8, "big"), "sha256")


class OfferAtChain:
    """Plays an offered claim of an account to its end: waits, answers who accepts it, takes the bond back."""

    def __init__(self, moves: DissectionMoves, defence: int, player: RunDefender) -> None:
        """Take the claim's number, and who made it."""
        self._moves, self._number, self._player = moves, defence, player
        self._dispute = read_dissection_defence(moves.chain, moves.court, defence).dispute
        self._defender = RunDefenderAtChain(moves, self._dispute, player)

    @property
    def standing(self) -> DissectionStanding:
        """STANDS as long as there is something to wait for."""
        return read_dissection_defence(self._moves.chain, self._moves.court, self._number).standing

    def step(self) -> Sequence[MadeMove]:
        """Make the move that is due; none while others have theirs."""
        chain, court = self._moves.chain, self._moves.court
        if self.standing is not DissectionStanding.STANDS:
            return []
        dispute = read_dissection(chain, court, self._dispute)
        if not any(dispute.challenger):
            over = chain.timestamp_s() >= dispute.opened_s + court.terms.window_s
            return [self._reclaim()] if over else []
        if dispute.state is not DissectionState.OPEN:
            return [self._reclaim()]
        return self._play()

    def _play(self) -> Sequence[MadeMove]:
        chain, court = self._moves.chain, self._moves.court
        (game,) = read_dissection_claims(chain, court, self._dispute)
        played = read_dissection_game(chain, court, game)
        wrong = isinstance(self._player, WrongDefender) and not self._player.proves(played.position)
        if wrong and played.phase in _SHOWN:
            return []  # nobody can show this: the clock runs out
        self._defender.game = game
        return self._defender.step()

    def _reclaim(self) -> MadeMove:
        return MadeMove("reclaim", None, 0, 0, self._moves.reclaim(self._number))
