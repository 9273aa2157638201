"""An honest player against somebody who sends anything at any time from four accounts, to both sides of every game.

Whatever that is, a wrong statement falls to one honest challenger, a right one stands with one honest defender who has
one bond, and every coin that was put up is paid out or burnt when all is over.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256

import pytest
from _chain_stage import ALICE, COIN, DEPLOYER, MALLORY, World, embedded, pass_time
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_dissections_play import HEAD, LEVELS, PROGRAM, RIGHT, WRONG, padded_until, run_of

from collegium.crypto import AccountKey, Digest, Stream, hash_fields
from collegium.settlement import (
    NOBODY,
    PARTS,
    ContractRefusedError,
    Deployment,
    DissectionClaim,
    DissectionCourt,
    DissectionGame,
    DissectionKind,
    DissectionMoves,
    DissectionPhase,
    DissectionStanding,
    DissectionState,
    DissectionTerms,
    KnownStretches,
    MachineRun,
    MachineState,
    MadeMove,
    RunChallengerAtChain,
    RunDefender,
    RunDefenderAtChain,
    TransactionFailedError,
    collect,
    deploy_dissections,
    read_defences,
    read_dissection,
    read_dissection_claims,
    read_dissection_defence,
    read_dissection_game,
    read_dissections,
    read_owed,
    read_refuter,
    transact,
)

TERMS = DissectionTerms(
    window_s=100_000, join_s=3_000, clock_s=30_000, extension_s=3_000, levels=LEVELS, demands_max=3, bond_wei=1000,
    demand_fee_wei=7,
)  # fmt: skip
BOND = TERMS.bond_wei
_STREAM = Stream(hash_fields("test-hostile"))
PLAYERS = (MALLORY, DEPLOYER, AccountKey.generate(_STREAM), AccountKey.generate(_STREAM))

pytestmark = pytest.mark.slow


@cache
def founded() -> tuple[World, DissectionCourt]:
    world = next(embedded())
    about = Deployment(hash_fields("test-task"), NOBODY, NOBODY, 0)
    for account in PLAYERS[2:]:
        transact(world.chain, DEPLOYER, account.address, b"", value=COIN)
    kind = DissectionKind(PROGRAM.digest, HEAD, of_header=False)
    return world, deploy_dissections(world.chain, about, DEPLOYER, [kind], TERMS)


@cache
def truth_about(about: bytes) -> MachineRun:
    return run_of(about)


@dataclass
class Mallory:
    """Claims, joins, divides, denies, proves, answers, ends and begins what it may, right or half right."""

    world: World
    court: DissectionCourt
    about: bytes
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    games: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run, self.statement = truth_about(self.about), sha256(self.about).digest()
        self.end = replace(self.run.final, status=1)

    def moves(self, account: AccountKey | None = None) -> DissectionMoves:
        return DissectionMoves(self.world.chain, self.court, account or self.rng.choice(PLAYERS))

    def open(self) -> None:
        self.moves().open(0, self.statement, self.about)

    def between(self, level: int, position: int) -> tuple[Digest, ...]:
        """States that are right up to some step; behind that the end that was claimed, or noise."""
        places = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        cut = self.rng.choice((0, self.run.steps, self.rng.randrange(PARTS**LEVELS), PARTS**LEVELS))
        states = self.run.states(places)
        other = self.rng.choice((self.end.digest, self.rng.randbytes(32)))
        return tuple(s.digest if s and at < cut else other for at, s in zip(places, states, strict=True))

    def claim(self) -> DissectionClaim:
        end = self.rng.choice((self.end, MachineState(1, 1, 2, self.rng.randbytes(32))))
        return DissectionClaim(end, self.between(LEVELS, 0))

    def defend(self) -> None:
        """Claim something in a dispute, or offer it."""
        if self.rng.random() < 0.2:
            offered, _ = self.moves().offer(0, self.statement, self.about, self.claim())
            self.games.append(self.moves().accept(offered)[0])
            return
        dispute = self.rng.choice(list(read_dissections(self.world.chain, self.court)))
        self.games.append(self.moves().defend(dispute, self.claim())[0])

    def join(self) -> None:
        """Play with a claim in one more dispute, most often with one of its own."""
        number, view = self.rng.choice(list(read_defences(self.world.chain, self.court).items()))
        account = next((one for one in PLAYERS if one.address == view.defender), None)
        dispute = self.rng.choice(list(read_dissections(self.world.chain, self.court)))
        self.games.append(self.moves(account).join(number, dispute)[0])

    def game(self) -> tuple[int, DissectionGame]:
        game = self.rng.choice(self.games)
        return game, read_dissection_game(self.world.chain, self.court, game)

    def sides(self, played: DissectionGame) -> list[AccountKey]:
        """Who may have a move there, and somebody else."""
        chain, court = self.world.chain, self.court
        challenger = read_dissection(chain, court, played.dispute).challenger
        sides = {challenger, read_dissection_defence(chain, court, played.defence).defender}
        return [*(one for one in PLAYERS if one.address in sides), self.rng.choice(PLAYERS)]

    def play(self) -> None:
        """Make a move that fits the phase, right or not."""
        game, played = self.game()
        moves, at = self.moves(self.rng.choice(self.sides(played))), played.position
        shown = at if self.rng.random() < 0.8 else self.rng.randrange(self.run.steps)
        match played.phase:
            case DissectionPhase.CHOOSE:
                states = self.shown(game, played)
                part = self.rng.randrange(PARTS)
                if played.level == 1 and self.rng.random() < 0.3:
                    moves.demand(game, states, part, self.rng.randrange(1, 65))
                else:
                    moves.choose(game, states, part)
            case DissectionPhase.DIVIDE:
                states = self.between(played.level, at)
                moves.divide(game, states)
                self._shown[game] = states
            case DissectionPhase.PROVE:
                moves.prove(game, self.state(shown), self.run.witness(shown))
            case DissectionPhase.ANSWER:
                witness = self.run.witness(shown)
                found = witness.preimage[:32]  # nothing, where the step that is shown instead finds none
                value, blocks = padded_until(self.about, found) if found else (bytes(32), b"")
                junk = self.rng.choice((b"", b"", b"?", bytes(32), bytes(64)))
                moves.answer(game, self.state(shown), witness, value, self.rng.choice((blocks + junk, junk + blocks)))

    _shown: dict[int, tuple[Digest, ...]] = field(default_factory=dict)

    def shown(self, game: int, played: DissectionGame) -> tuple[Digest, ...]:
        """The states in question, as the chain has them."""
        if played.level == LEVELS:
            return read_dissection_claims(self.world.chain, self.court, played.dispute)[game].claim.states
        return self._shown.get(game) or tuple(s.digest for s in self.run.states(self.places(played)) if s)

    def places(self, played: DissectionGame) -> list[int]:
        return [played.position + part * PARTS ** (played.level - 1) for part in range(1, PARTS)]

    def state(self, step: int) -> MachineState:
        (state,) = self.run.states([step])
        assert state is not None
        return state

    def meddle(self) -> None:
        """End, close, settle or take back anything."""
        moves, disputes = self.moves(), list(read_dissections(self.world.chain, self.court))
        claims = list(read_defences(self.world.chain, self.court))
        act, of = self.rng.choice(
            ((moves.time_out, self.games), (moves.close, self.games), (moves.reclaim, claims), (moves.settle, disputes))
        )
        act(self.rng.choice(of))

    def wait(self) -> None:
        """Let time pass: little, as much as somebody's clock has, or all of it but a second, and then move."""
        if self.games and self.rng.random() < 0.5:
            _, played = self.game()
            clocks = (played.challenger_clock_s, played.defender_clock_s)
            clock = clocks[played.phase is not DissectionPhase.CHOOSE]
            pass_time(self.world, max(1, played.since_s + clock - 1 - self.world.chain.timestamp_s()))
            self.play()
            return
        pass_time(self.world, self.rng.choice((1, TERMS.extension_s // 2, TERMS.join_s, TERMS.clock_s + 1)))


class Court(RuleBasedStateMachine):
    """A court, somebody hostile, and who is honest, who looks once after each thing that happened."""

    about: bytes

    def __init__(self) -> None:
        super().__init__()
        self.world, self.court = founded()
        self.saved = self.world.save()
        self.mallory = Mallory(self.world, self.court, self.about)
        self.moves = DissectionMoves(self.world.chain, self.court, ALICE)
        self.made: list[MadeMove] = []
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Do what comes first."""

    @abstractmethod
    def look(self) -> list[MadeMove]:
        """Make every move that is due for who is honest."""

    def tries(self, act: Callable[[], None], seed: int) -> None:
        """Try something; what the court refuses, or what there is nothing for, was not done."""
        self.mallory.rng = random.Random(seed)
        with suppress(ContractRefusedError, TransactionFailedError, IndexError):
            act()
        while made := self.look():
            self.made += made

    @rule(seed=st.integers(0, 1 << 32))
    def opens(self, seed: int) -> None:
        self.tries(self.mallory.open, seed)

    @rule(seed=st.integers(0, 1 << 32))
    def defends(self, seed: int) -> None:
        self.tries(self.mallory.defend, seed)

    @rule(seed=st.integers(0, 1 << 32))
    def joins(self, seed: int) -> None:
        self.tries(self.mallory.join, seed)

    @rule(seed=st.integers(0, 1 << 32))
    def plays(self, seed: int) -> None:
        self.tries(self.mallory.play, seed)

    @rule(seed=st.integers(0, 1 << 32))
    def meddles(self, seed: int) -> None:
        self.tries(self.mallory.meddle, seed)

    @rule(seed=st.integers(0, 1 << 32))
    def waits(self, seed: int) -> None:
        self.tries(self.mallory.wait, seed)

    @invariant()
    def holds_what_it_owes(self) -> None:
        owed = sum(read_owed(self.world.chain, self.court.address, one.address) for one in (ALICE, *PLAYERS))
        assert self.world.chain.balance(self.court.address) >= owed

    def teardown(self) -> None:
        try:
            while self.goes_on():
                made = self.look()
                self.made += made
                if not made:
                    self.time_out()
            self.ends()
            self.drain()
        finally:
            self.world.restore(self.saved)

    def goes_on(self) -> bool:
        views = [read_dissection(self.world.chain, self.court, at) for at in self.disputes()]
        return any(view.state is DissectionState.OPEN and not view.offer for view in views)

    def disputes(self) -> list[int]:
        return list(read_dissections(self.world.chain, self.court))

    def time_out(self) -> None:
        """Let all clocks run out, and end what can be ended, without who is honest."""
        pass_time(self.world, TERMS.clock_s + 1)
        while self.look():
            pass  # whose turn it is has time again
        for act, of in (
            (self.mallory.moves().time_out, self.mallory.games),
            (self.mallory.moves().close, self.mallory.games),
            (self.mallory.moves().settle, self.disputes()),
        ):
            for one in of:
                with suppress(ContractRefusedError):
                    act(one)

    @abstractmethod
    def ends(self) -> None:
        """Check how it ended."""

    def drain(self) -> None:
        """Everybody takes what is theirs: nothing stays, and nothing lacks."""
        chain, court = self.world.chain, self.court
        pass_time(self.world, TERMS.window_s)
        self.time_out()
        for number, view in read_defences(chain, court).items():
            if read_dissection_defence(chain, court, number).standing is DissectionStanding.STANDS:
                owner = next(one for one in (ALICE, *PLAYERS) if one.address == view.defender)
                self.mallory.moves(owner).reclaim(number)
        for account in (ALICE, *PLAYERS):
            if read_owed(chain, court.address, account.address):
                collect(chain, court.address, account, account.address)
        assert chain.balance(court.address) == 0


class WrongStatement(Court):
    """Who is honest disputes it."""

    about = WRONG
    known: tuple[bytes, ...] = (WRONG,)

    def begin(self) -> None:
        self.dispute, _ = self.moves.open(0, self.mallory.statement, WRONG)
        self.honest = RunChallengerAtChain(self.moves, self.dispute, PROGRAM, self.known)

    def look(self) -> list[MadeMove]:
        return self.honest.step()

    def ends(self) -> None:
        assert read_dissection(self.world.chain, self.court, self.dispute).state is DissectionState.REFUTED
        assert read_refuter(self.world.chain, self.court.address, self.mallory.statement) is not None
        fees = sum(move.what == "demand" for move in self.made) * TERMS.demand_fee_wei
        assert read_owed(self.world.chain, self.court.address, ALICE.address) >= BOND
        assert fees <= 3 * TERMS.demand_fee_wei * len(self.mallory.games)


class WithheldStatement(WrongStatement):
    """Who is honest was not shown what it is about."""

    known = ()


class RightStatement(Court):
    """Who is honest stands up for it in every dispute, killed and started again before each look."""

    about = RIGHT

    def begin(self) -> None:
        self.player = RunDefender(truth_about(RIGHT), KnownStretches([RIGHT]), LEVELS)
        self.mallory.moves(MALLORY).open(0, self.mallory.statement, RIGHT)

    def look(self) -> list[MadeMove]:
        made = []
        for dispute in self.disputes():
            view = read_dissection(self.world.chain, self.court, dispute)
            if view.state is DissectionState.OPEN and not view.offer:
                made += RunDefenderAtChain(self.moves, dispute, self.player).step()
        return made

    def ends(self) -> None:
        assert read_refuter(self.world.chain, self.court.address, self.mallory.statement) is None
        assert [move.what for move in self.made].count("defend") <= 1  # one bond, however many disputes there were


EXAMPLES = 1 if settings().max_examples < 100 else 100
ACTS = settings(max_examples=EXAMPLES, stateful_step_count=8 if EXAMPLES == 1 else 20)

TestWrongStatement = WrongStatement.TestCase
TestWithheldStatement = WithheldStatement.TestCase
TestRightStatement = RightStatement.TestCase
TestWrongStatement.settings = TestWithheldStatement.settings = TestRightStatement.settings = ACTS
