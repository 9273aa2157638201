"""Honest players against somebody who sends anything at any time from two accounts, to both sides of every game.

Whatever that is, a wrong statement falls to one honest challenger, a right one stands with one honest defender, and
the court holds all the coin that it owes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest
from _chain_stage import ALICE, DEPLOYER, MALLORY, World, embedded, pass_time
from test_dissections_play import HEAD, LEVELS, PROGRAM, RIGHT, WRONG, padded_until, run_of

from collegium.crypto import AccountKey, Digest, hash_fields
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
    DissectionState,
    DissectionTerms,
    KnownStretches,
    MachineState,
    RunChallengerAtChain,
    RunDefender,
    RunDefenderAtChain,
    TransactionFailedError,
    deploy_dissections,
    read_dissection,
    read_dissection_game,
    read_dissections,
    read_owed,
    read_refuter,
)

TERMS = DissectionTerms(
    window_s=100_000, join_s=3_000, clock_s=30_000, extension_s=3_000, levels=LEVELS, demands_max=3, bond_wei=1000,
    demand_fee_wei=7,
)  # fmt: skip
PLAYERS = (MALLORY, DEPLOYER)
ACTS = 30

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    yield from embedded()


@pytest.fixture(scope="module")
def court(world: World) -> DissectionCourt:
    about = Deployment(hash_fields("test-task"), NOBODY, NOBODY, 0)
    kind = DissectionKind(PROGRAM.digest, HEAD, of_header=False)
    return deploy_dissections(world.chain, about, DEPLOYER, [kind], TERMS)


@dataclass
class Mallory:
    """Claims, divides, denies, proves, answers, ends and begins whatever it may, with what is right, or half right."""

    world: World
    court: DissectionCourt
    rng: random.Random
    about: bytes
    games: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run, self.statement = run_of(self.about), sha256(self.about).digest()
        self.end = replace(self.run.final, status=1)

    def moves(self) -> DissectionMoves:
        return DissectionMoves(self.world.chain, self.court, self.rng.choice(PLAYERS))

    def act(self) -> None:
        """Try something; what the court refuses was not done."""
        acts: list[Callable[[], object]] = [self.join, self.play, self.play, self.play, self.meddle, self.dawdle]
        with suppress(ContractRefusedError, TransactionFailedError):
            self.rng.choice(acts)()

    def between(self, level: int, position: int) -> tuple[Digest, ...]:
        """States that are right up to some step; behind that the end that was claimed, or noise."""
        places = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        cut = self.rng.choice((0, self.run.steps, self.rng.randrange(PARTS**LEVELS), PARTS**LEVELS))
        states = self.run.states(places)
        other = self.rng.choice((self.end.digest, self.rng.randbytes(32)))
        return tuple(s.digest if s and at < cut else other for at, s in zip(places, states, strict=True))

    def join(self) -> None:
        open_disputes = list(read_dissections(self.world.chain, self.court))
        if self.rng.random() < 0.2:
            self.moves().open(0, self.statement, self.about)
            return
        if self.rng.random() < 0.2:
            game, _ = self.moves().offer(
                0, self.statement, self.about, DissectionClaim(self.end, self.between(LEVELS, 0))
            )
            self.games.append(game)
            self.moves().accept(game)
            return
        end = self.rng.choice((self.end, MachineState(1, 1, 2, self.rng.randbytes(32))))
        claim = DissectionClaim(end, self.between(LEVELS, 0))
        self.games.append(self.moves().defend(self.rng.choice(open_disputes), claim)[0])

    def game(self) -> tuple[int, DissectionGame]:
        game = self.rng.choice(self.games)
        return game, read_dissection_game(self.world.chain, self.court, game)

    def play(self) -> None:
        """Make a move that fits the phase, from either account, right or not."""
        if not self.games:
            return
        game, played = self.game()
        moves, at = self.moves(), played.position
        shown = at if self.rng.random() < 0.8 else self.rng.randrange(self.run.steps)
        match played.phase:
            case DissectionPhase.CHOOSE:
                states = self.between(played.level, at)
                part = self.rng.randrange(PARTS)
                if self.rng.random() < 0.3:
                    moves.demand(game, states, part, self.rng.randrange(1, 65))
                moves.choose(game, states, part)
            case DissectionPhase.DIVIDE:
                moves.divide(game, self.between(played.level, at))
            case DissectionPhase.PROVE:
                moves.prove(game, self.state(shown), self.run.witness(shown))
            case DissectionPhase.ANSWER:
                witness = self.run.witness(shown)
                found = witness.preimage[:32]  # nothing, where the step that is shown instead finds none
                value, blocks = padded_until(self.about, found) if found else (bytes(32), b"")
                junk = self.rng.choice((b"", b"", b"?", bytes(32), bytes(64)))
                moves.answer(game, self.state(shown), witness, value, self.rng.choice((blocks + junk, junk + blocks)))
            case _:
                moves.accept(game)

    def state(self, step: int) -> MachineState:
        (state,) = self.run.states([step])
        assert state is not None
        return state

    def meddle(self) -> None:
        """End, settle or take back anything."""
        moves, disputes = self.moves(), list(read_dissections(self.world.chain, self.court))
        act = self.rng.choice((moves.time_out, moves.reclaim, moves.settle, moves.collect))
        if act == moves.collect:
            act()
        else:
            act(self.rng.choice(disputes if act == moves.settle else self.games or [0]))

    def dawdle(self) -> None:
        """Let time pass: little, or as much as somebody's clock has."""
        pass_time(self.world, self.rng.choice((1, TERMS.extension_s // 2, TERMS.join_s, TERMS.clock_s + 1)))


def holds_what_it_owes(world: World, court: DissectionCourt) -> None:
    owed = sum(read_owed(world.chain, court.address, account.address) for account in (ALICE, *PLAYERS))
    assert world.chain.balance(court.address) >= owed


def moves_of(world: World, court: DissectionCourt, account: AccountKey) -> DissectionMoves:
    return DissectionMoves(world.chain, court, account)


@pytest.mark.seeds(quick=1, full=100)
@pytest.mark.parametrize("shown", [True, False], ids=["who has the message", "who was not shown the message"])
def test_a_wrong_statement_falls_to_one_honest_challenger(
    world: World, court: DissectionCourt, shown: bool, seed: int
) -> None:
    with world.undone():
        moves = moves_of(world, court, ALICE)
        dispute, _ = moves.open(0, sha256(WRONG).digest(), WRONG)
        honest = RunChallengerAtChain(moves, dispute, PROGRAM, [WRONG] if shown else [])
        mallory = Mallory(world, court, random.Random(seed), WRONG)
        for _ in range(ACTS):
            mallory.act()
            while honest.step():
                pass
            holds_what_it_owes(world, court)
        while read_dissection(world.chain, court, dispute).state is DissectionState.OPEN:
            if not honest.step():
                pass_time(world, TERMS.clock_s + 1)
        assert read_dissection(world.chain, court, dispute).state is DissectionState.REFUTED
        assert read_refuter(world.chain, court.address, sha256(WRONG).digest()) is not None
        assert moves.collect() >= TERMS.bond_wei


@pytest.mark.seeds(quick=1, full=100)
def test_a_right_statement_stands_with_one_honest_defender(world: World, court: DissectionCourt, seed: int) -> None:
    """The defender is killed and started again before each look, and answers every dispute that is open."""
    with world.undone():
        rng = random.Random(seed)
        mallory = Mallory(world, court, rng, RIGHT)
        mallory.moves().open(0, sha256(RIGHT).digest(), RIGHT)
        moves = moves_of(world, court, ALICE)
        player = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)

        def look() -> bool:
            made = False
            for dispute in read_dissections(world.chain, court):
                view = read_dissection(world.chain, court, dispute)
                if view.state is DissectionState.OPEN and not view.offer:
                    made |= bool(RunDefenderAtChain(moves, dispute, player).step())
            return made

        while look():
            pass
        for _ in range(ACTS):
            mallory.act()
            while look():
                pass
            holds_what_it_owes(world, court)
        while read_dissections_open(world, court):
            if not look():
                pass_time(world, TERMS.clock_s + 1)
        assert read_refuter(world.chain, court.address, sha256(RIGHT).digest()) is None


def read_dissections_open(world: World, court: DissectionCourt) -> bool:
    views = [read_dissection(world.chain, court, number) for number in read_dissections(world.chain, court)]
    return any(view.state is DissectionState.OPEN and not view.offer for view in views)
