"""The honest players of dissections at a chain: each call of `step` makes every move that is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from collegium.crypto import Digest
from collegium.settlement._dispute_play import MadeMove, made_move, run_out, unless_overtaken
from collegium.settlement._dissection_players import PARTS, RunChallenger, RunDefender
from collegium.settlement._dissections import (
    ClaimView,
    Dissection,
    DissectionClaim,
    DissectionDefence,
    DissectionGame,
    DissectionMoves,
    DissectionPhase,
    DissectionStanding,
    DissectionState,
    read_answers,
    read_defences,
    read_dissection,
    read_dissection_claims,
    read_dissection_defence,
    read_dissection_game,
    read_dissections,
    read_divided,
    read_pending,
)
from collegium.settlement._instructions import Program
from collegium.settlement._machine import MachineRun
from collegium.settlement._stretches import KnownStretches

__all__ = ["RunChallengerAtChain", "RunDefenderAtChain", "reclaim_dissection_claims"]

_DEFENDERS = (DissectionPhase.DIVIDE, DissectionPhase.PROVE, DissectionPhase.ANSWER)
_BLOCKS_MAX = 64  # that one answer shows


class RunChallengerAtChain:
    """Plays all games of one dispute against everybody who stands up for the statement.

    What is shown on demand in any game about the statement, of others too, it learns, and runs the program again: one
    claim plays in all of them, and would else be paid for the same answer by every challenger.
    """

    def __init__(self, moves: DissectionMoves, dispute: int, program: Program, objects: Sequence[bytes]) -> None:
        """Take what is known of the statement: the objects behind it, as many as there are."""
        self._moves, self._dispute, self._program, self._objects = moves, dispute, program, tuple(objects)
        self._statement = read_dissection(moves.chain, moves.court, dispute).statement
        self._shown: tuple[tuple[Digest, bytes], ...] = ()
        self._player = self._run()

    def step(self) -> list[MadeMove]:
        """Make what moves are due; none while others have theirs."""
        chain, court = self._moves.chain, self._moves.court
        made: list[MadeMove] = []
        claims = read_dissection_claims(chain, court, self._dispute)
        self._learn()
        for game, view in claims.items():
            with unless_overtaken(partial(_stands, self._moves, game)):
                made += self._play(game, view)
        with unless_overtaken(partial(read_dissection, chain, court, self._dispute)):
            dispute = read_dissection(chain, court, self._dispute)
            over = chain.timestamp_s() >= dispute.opened_s + court.terms.join_s
            if dispute.state is DissectionState.OPEN and dispute.live == 0 and over and not dispute.offer:
                made.append(MadeMove("settle", None, 0, 0, self._moves.settle(self._dispute)))
        return made

    def _play(self, game: int, view: ClaimView) -> list[MadeMove]:
        dispute, played, defence = _stands(self._moves, game)
        if dispute.state is not DissectionState.OPEN or played.phase is DissectionPhase.OVER:
            return []
        if defence.standing is DissectionStanding.LOST:
            return [made_move("close", game, played, self._moves.close(game))]
        if played.phase in _DEFENDERS and run_out(self._moves.chain, played, played.defender_clock_s):
            return [made_move("time out", game, played, self._moves.time_out(game))]
        return self._choose(game, played, view) if played.phase is DissectionPhase.CHOOSE else []

    def _choose(self, game: int, played: DissectionGame, view: ClaimView) -> list[MadeMove]:
        chain, court = self._moves.chain, self._moves.court
        if not self._player.denies(view.claim.end, view.claim.states):
            return []  # this claim is right
        first = played.level == court.terms.levels
        states = view.claim.states if first else read_divided(chain, court, game)
        choice = self._player.choose(played.level, played.position, states)
        if choice.demand and played.demands < court.terms.demands_max:
            return [made_move("demand", game, played, self._moves.demand(game, states, choice.part, _BLOCKS_MAX))]
        return [made_move("choose", game, played, self._moves.choose(game, states, choice.part))]

    def _learn(self) -> None:
        answers = read_answers(self._moves.chain, self._moves.court, self._statement)
        shown = tuple((answer.value, answer.blocks) for answer in answers)
        if shown != self._shown:
            self._shown = shown
            self._player = self._run()

    def _run(self) -> RunChallenger:
        levels = self._moves.court.terms.levels
        known = KnownStretches(self._objects, self._shown)
        return RunChallenger(MachineRun(self._program, self._statement, known, PARTS**levels), levels)


class RunDefenderAtChain:
    """Stands up for a statement with its own run in one dispute; started again, it finds its game.

    An account claims once, under one bond, and stands up with that claim in every dispute about the statement.
    """

    def __init__(self, moves: DissectionMoves, dispute: int, player: RunDefender) -> None:
        self._moves, self._dispute, self._player = moves, dispute, player
        self.game: int | None = None

    def step(self) -> list[MadeMove]:
        """Make the move that is due, if it is this side's turn."""
        if self.game is None:
            self.game = self._begun()
        if self.game is None:
            return [self._stand_up()]
        made: list[MadeMove] = []
        with unless_overtaken(partial(_stands, self._moves, self.game)):
            made += self._play(self.game)
        return made

    def _play(self, game: int) -> list[MadeMove]:
        dispute, played, _ = _stands(self._moves, game)
        if dispute.state is not DissectionState.OPEN:
            return []
        match played.phase:
            case DissectionPhase.DIVIDE:
                states = self._player.divide(played.level, played.position)
                receipt = self._moves.divide(game, states)
            case DissectionPhase.PROVE:
                receipt = self._moves.prove(game, *self._player.prove(played.position))
            case DissectionPhase.ANSWER:
                answer = self._player.answer(played.position, played.blocks)
                receipt = self._moves.answer(game, answer.before, answer.witness, answer.value, answer.blocks)
            case DissectionPhase.CHOOSE if run_out(self._moves.chain, played, played.challenger_clock_s):
                return [made_move("time out", game, played, self._moves.time_out(game))]
            case _:
                return []
        return [made_move(played.phase.name.lower(), game, played, receipt)]

    def _stand_up(self) -> MadeMove:
        """Join with the claim that this account has about the statement, or make it."""
        claim, levels = DissectionClaim(*self._player.claim()), self._moves.court.terms.levels
        about = read_dissections(self._moves.chain, self._moves.court)
        for number, view in _own(self._moves, about[self._dispute].__eq__):
            if view.claim == claim:
                self.game, receipt = self._moves.join(number, self._dispute)
                return MadeMove("join", self.game, levels, 0, receipt)
        self.game, receipt = self._moves.defend(self._dispute, claim)
        return MadeMove("defend", self.game, levels, 0, receipt)

    def _begun(self) -> int | None:
        """Return the game that goes on about this account's own claim: only who claimed may divide."""
        chain, court, claim = self._moves.chain, self._moves.court, DissectionClaim(*self._player.claim())
        for game, view in read_dissection_claims(chain, court, self._dispute).items():
            own = (view.defender, view.claim) == (self._moves.account.address, claim)
            if own and read_dissection_game(chain, court, game).phase is not DissectionPhase.OVER:
                return game
        return None


def _stands(moves: DissectionMoves, game: int) -> tuple[Dissection, DissectionGame, DissectionDefence]:
    """Return a game, and what else decides whether it goes on: another game may end its dispute, or lose its claim."""
    chain, court = moves.chain, moves.court
    played = read_dissection_game(chain, court, game)
    return read_dissection(chain, court, played.dispute), played, read_dissection_defence(chain, court, played.defence)


def reclaim_dissection_claims(moves: DissectionMoves, dispute: int) -> list[MadeMove]:
    """Close the games of an account's claims in a dispute that is over.

    If no other dispute about the statement goes on, of another kind of work neither, take back the bonds of all claims
    about it too: after the last of the disputes nobody asks again.
    """
    chain, court, made = moves.chain, moves.court, list[MadeMove]()
    for game, view in read_dissection_claims(chain, court, dispute).items():
        if view.defender != moves.account.address:
            continue
        with unless_overtaken(partial(_stands, moves, game)):  # anyone may close it
            played = read_dissection_game(chain, court, game)
            if played.phase is not DissectionPhase.OVER:
                made.append(made_move("close", game, played, moves.close(game)))
    statement = read_dissection(chain, court, dispute).statement
    if read_pending(chain, court, statement):
        return made  # the claim may be needed there
    for number, _ in _own(moves, lambda about: about[1] == statement):
        if not read_dissection_defence(chain, court, number).live:
            made.append(MadeMove("reclaim", None, 0, 0, moves.reclaim(number)))
    return made


def _own(moves: DissectionMoves, wanted: Callable[[tuple[int, Digest]], bool]) -> Iterator[tuple[int, ClaimView]]:
    """Give the claims of an account that stand, about a kind and statement that is wanted.

    Those of offers are for offers alone.
    """
    chain, court = moves.chain, moves.court
    about = read_dissections(chain, court)
    for number, view in read_defences(chain, court).items():
        if view.defender != moves.account.address or not wanted(about[view.dispute]):
            continue
        stands = read_dissection_defence(chain, court, number).standing is DissectionStanding.STANDS
        if stands and not read_dissection(chain, court, view.dispute).offer:
            yield number, view
