"""The honest players at a chain: each call of `step` makes every move that is due now, and says what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from collegium.crypto import Digest
from collegium.settlement._chain import Chain, Receipt
from collegium.settlement._disputes import (
    DisputeMoves,
    DisputePhase,
    DisputeState,
    DisputeView,
    GameView,
    read_claims,
    read_dispute,
    read_game,
    read_picked,
    read_revealed,
    read_shown,
)
from collegium.settlement._dissections import DissectionGame
from collegium.settlement._errors import ContractRefusedError, TransactionFailedError
from collegium.settlement._players import Challenger, Defender
from collegium.settlement._trace import NOTHING, Trace

__all__ = ["ChallengerAtChain", "DefenderAtChain", "MadeMove", "reclaim_claims", "unless_overtaken"]

_CHALLENGERS = (DisputePhase.PICK, DisputePhase.REFUTE)
_DEFENDERS = (DisputePhase.REVEAL, DisputePhase.SHOW, DisputePhase.ANSWER)


@dataclass(frozen=True, slots=True)
class MadeMove:
    """A move that was made: what, where in the tree, and its receipt. `game` is None for one about the dispute."""

    what: str
    game: int | None
    level: int
    position: int
    receipt: Receipt


class ChallengerAtChain:
    """Plays all games of one dispute against everybody who stands up for the header, by one trace."""

    def __init__(self, moves: DisputeMoves, trace: Trace, dispute: int) -> None:
        self._moves, self._trace, self._dispute = moves, trace, dispute
        self._players: dict[int, Challenger] = {}

    def step(self) -> list[MadeMove]:
        """Make what moves are due; none while others have theirs."""
        chain, court = self._moves.chain, self._moves.court
        made: list[MadeMove] = []
        for game, children in read_claims(chain, court, self._dispute).items():
            with unless_overtaken(partial(self._stands, game)):
                made += self._play(game, children)
        with unless_overtaken(partial(read_dispute, chain, court, self._dispute)):
            dispute = read_dispute(chain, court, self._dispute)
            over = chain.timestamp_s() >= dispute.opened_s + court.terms.join_s
            if dispute.state is DisputeState.OPEN and dispute.live == 0 and over and not dispute.offer:
                made.append(MadeMove("settle", None, 0, 0, self._moves.settle(self._dispute)))
        return made

    def _play(self, game: int, claim: tuple[Digest, ...]) -> list[MadeMove]:
        dispute, view = self._stands(game)
        if dispute.state is not DisputeState.OPEN:
            return []
        if view.phase in _DEFENDERS and run_out(self._moves.chain, view, view.defender_clock_s):
            return [made_move("time out", game, view, self._moves.time_out(game))]
        return self._answer(game, view, claim) if view.phase in _CHALLENGERS else []

    def _answer(self, game: int, view: GameView, claim: tuple[Digest, ...]) -> list[MadeMove]:
        chain, court = self._moves.chain, self._moves.court
        player = self._player(game, claim)
        if view.phase is DisputePhase.PICK:
            top = view.level == self._trace.levels
            children = claim if top else read_revealed(chain, court, game)[-1]
            child = player.pick(view.level, view.position, children)
            if child is None:
                return []  # this claim is right
            return [made_move("pick", game, view, self._moves.pick(game, children, child))]
        leaf = b"" if view.node == NOTHING else read_shown(chain, court, game)
        witness = player.witness(view.position)
        return [made_move("refute", game, view, self._moves.refute(game, self._trace.facts, leaf, witness))]

    def _stands(self, game: int) -> tuple[DisputeView, GameView]:
        chain, court = self._moves.chain, self._moves.court
        return read_dispute(chain, court, self._dispute), read_game(chain, court, game)

    def _player(self, game: int, claim: tuple[Digest, ...]) -> Challenger:
        """Return who plays a game, who has seen all that was shown in it, also by what played before a restart."""
        if game not in self._players:
            player = self._players[game] = Challenger(self._trace)
            chain, court = self._moves.chain, self._moves.court
            places = ((self._trace.levels, 0), *read_picked(chain, court, game))
            for (level, position), children in zip(places, (claim, *read_revealed(chain, court, game)), strict=False):
                player.pick(level, position, children)
        return self._players[game]


class DefenderAtChain:
    """Stands up for a header with one trace, and answers for its root in one game, whoever has claimed it."""

    def __init__(self, moves: DisputeMoves, trace: Trace, dispute: int) -> None:
        self._moves, self._trace, self._dispute = moves, trace, dispute
        self._player = Defender(trace)
        self.game: int | None = None

    def step(self) -> list[MadeMove]:
        """Make the move that is due, if it is this side's turn."""
        if self.game is None:
            levels = self._trace.levels
            claims = read_claims(self._moves.chain, self._moves.court, self._dispute)
            self.game = next((game for game, claim in claims.items() if claim == self._player.claim()), None)
        if self.game is None:
            self.game, receipt = self._moves.defend(self._dispute, self._player.claim(), levels)
            return [MadeMove("defend", self.game, levels, 0, receipt)]
        made: list[MadeMove] = []
        with unless_overtaken(partial(read_game, self._moves.chain, self._moves.court, self.game)):
            made += self._play(self.game, read_game(self._moves.chain, self._moves.court, self.game))
        return made

    def _play(self, game: int, view: GameView) -> list[MadeMove]:
        if view.phase is DisputePhase.REVEAL:
            receipt = self._moves.reveal(game, self._player.reveal(view.level, view.position))
        elif view.phase is DisputePhase.SHOW:
            receipt = self._moves.show(game, self._player.show(view.position))
        elif view.phase is DisputePhase.ANSWER:
            receipt = self._moves.answer(game, self._player.answer(view.asked))
        elif view.phase in _CHALLENGERS and run_out(self._moves.chain, view, view.challenger_clock_s):
            receipt = self._moves.time_out(game)
        else:
            return []
        return [made_move(view.phase.name.lower(), game, view, receipt)]


def reclaim_claims(moves: DisputeMoves, dispute: int) -> list[MadeMove]:
    """Take back the bonds of an account's claims in a dispute that another claim has ended."""
    made = []
    for game in read_claims(moves.chain, moves.court, dispute):
        view = read_game(moves.chain, moves.court, game)
        if view.defender == moves.account.address and view.phase is not DisputePhase.OVER:
            made.append(made_move("reclaim", game, view, moves.reclaim(game)))
    return made


@contextmanager
def unless_overtaken(read: Callable[[], object]) -> Iterator[None]:
    """Let a move be refused if what it is about, which `read` gives, has changed meanwhile: somebody was faster.

    Anyone may end a game whose time is over, and settle a dispute: who fell over that could be made to fall.

    Raises:
        ContractRefusedError, TransactionFailedError: it is refused although nothing has changed.
    """
    before = read()
    try:
        yield
    except (ContractRefusedError, TransactionFailedError):
        if read() == before:
            raise


def run_out(chain: Chain, view: GameView | DissectionGame, clock_s: int) -> bool:
    """Say whether the side on turn has no time left of what its clock showed when its turn began."""
    return chain.timestamp_s() > view.since_s + clock_s


def made_move(what: str, game: int, view: GameView | DissectionGame, receipt: Receipt) -> MadeMove:
    """Return a move that was made in a game where it stood."""
    return MadeMove(what, game, view.level, view.position, receipt)
