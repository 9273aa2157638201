"""The players at a chain, with a compiled program: who is right wins, also to whom the message was not shown before.

And the contract executes the steps of compiled programs as the compiled machine does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from _chain_stage import ALICE, CHAINS, DEPLOYER, MALLORY, World, pass_time, refused, worlds

from collegium.crypto import AccountKey, Digest, hash_fields
from collegium.node import OfferChecker, Player, _offers
from collegium.settlement import (
    NOBODY,
    PARTS,
    ContractRefusedError,
    Deployment,
    DissectionClaim,
    DissectionCourt,
    DissectionKind,
    DissectionMoves,
    DissectionPhase,
    DissectionStanding,
    DissectionState,
    DissectionTerms,
    KnownStretches,
    MachineRun,
    MachineState,
    OfferAtChain,
    Op,
    Receipt,
    RunChallengerAtChain,
    RunDefender,
    RunDefenderAtChain,
    StepWitness,
    WrongDefender,
    compile_program,
    contract,
    deploy_dissections,
    read_answers,
    read_dissection,
    read_dissection_defence,
    read_dissection_game,
    read_owed,
    read_refuter,
    reclaim_dissection_claims,
)

LEVELS = 3
HEAD = b"toy statement"
TERMS = DissectionTerms(
    window_s=1000,
    join_s=200,
    clock_s=300,
    extension_s=30,
    levels=LEVELS,
    demands_max=2,
    bond_wei=1000,
    demand_fee_wei=7,
)
SOURCE = '''
from __future__ import annotations
from ._words import accept, fadd, keccak, memory, preimage, sha256_block
BLOCKS: int


def step(frame: int, index: int) -> int:
    """Mix a word in, by whatever the machine has."""
    word = memory[frame + 4 + index]
    if word >> 60 > 7 or not word:
        return word // 3 - word % 5
    return fadd(word * word, ~word)


def main() -> None:
    frame = 2048
    total = 0
    for index in range(4):
        memory[frame + 12 + index] = memory[index]
    for block in range(BLOCKS):
        preimage(frame)
        for index in range(8):
            total ^= step(frame, index) << (index & 3)
        for index in range(4):
            memory[frame + 12 + index] = memory[frame + index]
    sha256_block(frame)
    keccak(frame)
    assert memory[frame] != total
    assert memory[2048 - 64 - 29 + 64] == 0 and total & 1
    accept()
'''


def message(number: int) -> bytes:
    """A message of three blocks."""
    return HEAD + sha256(bytes([number])).digest() * 5


PROGRAM = compile_program("program", {"BLOCKS": 3}, {"program": SOURCE}.__getitem__)


def run_of(about: bytes) -> MachineRun:
    return MachineRun(PROGRAM, sha256(about).digest(), KnownStretches([about]), PARTS**LEVELS)


RIGHT = next(message(number) for number in range(40) if run_of(message(number)).accepted)
WRONG = next(message(number) for number in range(40) if not run_of(message(number)).accepted)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CHAINS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from worlds(request.param)


@pytest.fixture(scope="module")
def court(world: World) -> DissectionCourt:
    about = Deployment(hash_fields("test-task"), NOBODY, NOBODY, 0)
    return deploy_dissections(
        world.chain, about, DEPLOYER, [DissectionKind(PROGRAM.digest, HEAD, of_header=False)], TERMS
    )


@pytest.fixture(autouse=True)
def _undone(world: World, court: DissectionCourt) -> Iterator[None]:
    with world.undone():
        yield


class Liar:
    """Stands up for a wrong statement: shows what happens, but says that the end accepts."""

    def __init__(self, moves: DissectionMoves, dispute: int) -> None:
        self.moves, self.run = moves, run_of(WRONG)
        self.end = replace(self.run.final, status=1)
        self.game, _ = moves.defend(dispute, DissectionClaim(self.end, self.between(LEVELS, 0)))

    def between(self, level: int, position: int) -> tuple[Digest, ...]:
        places = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        states = self.run.states(places)
        return tuple(self.end.digest if at >= self.run.steps else digest_of(states[k]) for k, at in enumerate(places))

    def step(self) -> None:
        played = read_dissection_game(self.moves.chain, self.moves.court, self.game)
        (before,) = self.run.states([played.position])
        assert before is not None
        if played.phase is DissectionPhase.DIVIDE:
            self.moves.divide(self.game, self.between(played.level, played.position))
        elif played.phase is DissectionPhase.PROVE:
            with refused("WrongState"):
                self.moves.prove(self.game, before, self.run.witness(played.position))
        elif played.phase is DissectionPhase.ANSWER:
            witness = self.run.witness(played.position)
            value, blocks = padded_until(WRONG, witness.preimage[:32])
            self.moves.answer(self.game, before, witness, value, blocks)


def digest_of(state: MachineState | None) -> Digest:
    assert state is not None
    return state.digest


def padded_until(about: bytes, value: Digest) -> tuple[Digest, bytes]:
    """All blocks of a message before the one that begins at this value, and the value before them."""
    known, shown = KnownStretches([about]), b""
    while (found := known(value)) is not None:
        value, shown = found[0], found[1] + shown
    return value, shown


def moves_of(world: World, court: DissectionCourt, account: AccountKey) -> DissectionMoves:
    return DissectionMoves(world.chain, court, account)


@pytest.mark.parametrize("shown", [True, False], ids=["who has the message", "who was not shown the message"])
def test_wrong_statement_falls_to_a_challenger(world: World, court: DissectionCourt, shown: bool) -> None:
    moves, statement = moves_of(world, court, ALICE), sha256(WRONG).digest()
    dispute, _ = moves.open(0, statement, WRONG)
    liar = Liar(moves_of(world, court, MALLORY), dispute)
    challenger = RunChallengerAtChain(moves, dispute, PROGRAM, [WRONG] if shown else [])
    told = []
    while read_dissection(world.chain, court, dispute).state is DissectionState.OPEN:
        made = challenger.step()
        told += [move.what for move in made]
        liar.step()
        if not made:
            pass_time(world, TERMS.clock_s + 1)
    assert read_refuter(world.chain, court.address, statement) == ALICE.address
    assert told == [*(() if shown else ("choose", "choose", "demand")), *["choose"] * LEVELS, "time out", "settle"]
    assert moves.collect() == 2 * TERMS.bond_wei - TERMS.bond_wei // 2


def test_right_statement_stands_against_whoever_denies_it(world: World, court: DissectionCourt) -> None:
    moves, other = moves_of(world, court, ALICE), moves_of(world, court, MALLORY)
    dispute, _ = other.open(0, sha256(RIGHT).digest(), RIGHT)
    player, run = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS), run_of(RIGHT)
    defender = RunDefenderAtChain(moves, dispute, player)
    told = [move.what for move in defender.step()]
    assert RunChallengerAtChain(other, dispute, PROGRAM, [RIGHT]).step() == []  # who is honest sees that it is right
    reading = next(step for step in range(run.steps) if run.witness(step).preimage)
    while read_dissection(world.chain, court, dispute).state is DissectionState.OPEN:
        assert defender.game is not None
        played = read_dissection_game(world.chain, court, defender.game)
        if played.phase is DissectionPhase.CHOOSE:
            target = reading if played.demands == 0 else reading + 1  # it sees what the step finds, and denies the next
            part = (target - played.position) // PARTS ** (played.level - 1)
            states = player.divide(played.level, played.position)
            if played.level == 1 and played.demands == 0:
                other.demand(defender.game, states, part, 2)
            else:
                other.choose(defender.game, states, part)
        told += [move.what for move in defender.step()]
    assert told == ["defend", "divide", "divide", "answer", "divide", "divide", "prove"]
    assert read_dissection(world.chain, court, dispute).state is DissectionState.UPHELD
    assert read_refuter(world.chain, court.address, sha256(RIGHT).digest()) is None


def test_challenger_who_stops_loses_its_time(world: World, court: DissectionCourt) -> None:
    dispute, _ = moves_of(world, court, MALLORY).open(0, sha256(RIGHT).digest(), RIGHT)
    player = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)
    defender = RunDefenderAtChain(moves_of(world, court, ALICE), dispute, player)
    assert [move.what for move in defender.step()] == ["defend"]
    assert defender.step() == []
    pass_time(world, TERMS.clock_s + 1)
    assert [move.what for move in defender.step()] == ["time out"]
    assert defender.step() == []
    assert read_dissection(world.chain, court, dispute).state is DissectionState.UPHELD


class Raced(DissectionMoves):
    """Moves before each of which somebody else does the same, where anyone may."""

    other: DissectionMoves

    def time_out(self, game: int) -> Receipt:
        self.other.time_out(game)
        return super().time_out(game)

    def settle(self, dispute: int) -> Receipt:
        self.other.settle(dispute)
        return super().settle(dispute)


def raced(world: World, court: DissectionCourt) -> Raced:
    moves = Raced(world.chain, court, ALICE)
    moves.other = moves_of(world, court, MALLORY)
    return moves


def test_challenger_goes_on_whoever_is_faster(world: World, court: DissectionCourt) -> None:
    """Anyone may end a game whose time is over: a player that fell over that could be made to lose its other games."""
    statement = sha256(WRONG).digest()
    dispute, _ = moves_of(world, court, ALICE).open(0, statement, WRONG)
    liars = [Liar(moves_of(world, court, MALLORY), dispute) for _ in range(2)]
    challenger = RunChallengerAtChain(raced(world, court), dispute, PROGRAM, [WRONG])
    challenger.step()
    pass_time(world, TERMS.clock_s + 1)
    assert challenger.step() == []  # two games were timed out, and the dispute settled, by somebody else
    assert {read_dissection_game(world.chain, court, liar.game).phase for liar in liars} == {DissectionPhase.OVER}
    assert read_refuter(world.chain, court.address, statement) == ALICE.address


def test_challenger_says_what_is_refused_though_nobody_was_faster(world: World, court: DissectionCourt) -> None:
    moves = moves_of(world, court, ALICE)
    dispute, _ = moves.open(0, sha256(WRONG).digest(), WRONG)
    Liar(moves_of(world, court, MALLORY), dispute)
    challenger = RunChallengerAtChain(moves, dispute, PROGRAM, [WRONG])
    pass_time(world, TERMS.clock_s + 1)
    with refused("ClockRunOut"):
        challenger.step()


def test_challenger_ends_where_one_of_its_games_was_lost(world: World, court: DissectionCourt) -> None:
    moves = moves_of(world, court, ALICE)
    dispute, _ = moves.open(0, sha256(WRONG).digest(), WRONG)
    first, second = (Liar(moves_of(world, court, MALLORY), dispute) for _ in range(2))
    pass_time(world, TERMS.clock_s + 1)
    moves_of(world, court, DEPLOYER).time_out(first.game)
    assert RunChallengerAtChain(moves, dispute, PROGRAM, [WRONG]).step() == []
    made = reclaim_dissection_claims(second.moves, dispute)
    assert [(move.what, move.game) for move in made] == [("close", second.game), ("reclaim", None), ("reclaim", None)]


def test_defender_that_was_killed_finds_its_claim(world: World, court: DissectionCourt) -> None:
    """Only who claimed may divide: who claimed anew, or too late, would lose what it claimed first."""
    moves, other = moves_of(world, court, ALICE), moves_of(world, court, MALLORY)
    dispute, _ = other.open(0, sha256(RIGHT).digest(), RIGHT)
    player = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)
    (claimed,) = RunDefenderAtChain(other, dispute, player).step()  # the same claim, by another account
    (begun,) = RunDefenderAtChain(moves, dispute, player).step()
    assert begun.game is not None
    assert claimed.game is not None
    assert begun.game != claimed.game
    pass_time(world, TERMS.join_s)  # nobody can claim any more
    told = []
    while read_dissection(world.chain, court, dispute).state is DissectionState.OPEN:
        played = read_dissection_game(world.chain, court, begun.game)
        if played.phase is DissectionPhase.CHOOSE:
            other.choose(begun.game, player.divide(played.level, played.position), 0)
        told += [move.what for move in RunDefenderAtChain(moves, dispute, player).step()]  # killed after each move
    assert told == ["divide", "divide", "prove"]
    made = reclaim_dissection_claims(other, dispute)
    assert [(move.what, move.game) for move in made] == [("close", claimed.game), ("reclaim", None)]
    assert [move.what for move in reclaim_dissection_claims(moves, dispute)] == ["reclaim"]
    assert reclaim_dissection_claims(moves, dispute) == []


def test_defender_claims_once_and_plays_in_every_dispute(world: World, court: DissectionCourt) -> None:
    moves, statement = moves_of(world, court, ALICE), sha256(RIGHT).digest()
    others = [moves_of(world, court, account) for account in (MALLORY, DEPLOYER)]
    disputes = [other.open(0, statement, RIGHT)[0] for other in others]
    player = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)
    defenders = [RunDefenderAtChain(moves, dispute, player) for dispute in disputes]
    assert [move.what for defender in defenders for move in defender.step()] == ["defend", "join"]
    pass_time(world, TERMS.clock_s + 1)
    assert [move.what for move in defenders[0].step()] == ["time out"]
    assert reclaim_dissection_claims(moves, disputes[0]) == []  # the other dispute goes on: the claim stays in it
    assert [move.what for move in defenders[1].step()] == ["time out"]
    assert [move.what for move in reclaim_dissection_claims(moves, disputes[1])] == ["reclaim"]
    assert moves.collect() == 2 * TERMS.bond_wei  # its own, and half of each challenger's
    with pytest.raises(ContractRefusedError, match="NothingOwed"):
        moves.collect()


def test_claims_about_all_kinds_of_a_statements_work_come_back_after_the_last_dispute(world: World) -> None:
    """Who defends asks once after each dispute: what another kind's dispute kept waiting would stay there."""
    about = Deployment(hash_fields("test-task"), NOBODY, NOBODY, 0)
    kind = DissectionKind(PROGRAM.digest, HEAD, of_header=False)
    court = deploy_dissections(world.chain, about, DEPLOYER, [kind, kind], TERMS)
    moves, other, statement = moves_of(world, court, ALICE), moves_of(world, court, MALLORY), sha256(RIGHT).digest()
    disputes = [other.open(kind, statement, RIGHT)[0] for kind in (0, 1)]
    player = RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)
    defenders = [RunDefenderAtChain(moves, dispute, player) for dispute in disputes]
    assert [move.what for defender in defenders for move in defender.step()] == ["defend", "defend"]
    pass_time(world, TERMS.clock_s + 1)
    assert [move.what for move in defenders[0].step()] == ["time out"]
    assert reclaim_dissection_claims(moves, disputes[0]) == []
    assert [move.what for move in defenders[1].step()] == ["time out"]
    assert [move.what for move in reclaim_dissection_claims(moves, disputes[1])] == ["reclaim", "reclaim"]
    assert moves.collect() == 3 * TERMS.bond_wei


def test_challenger_closes_a_game_whose_claim_fell_in_another(world: World, court: DissectionCourt) -> None:
    """And learns from the other game what was shown there."""
    moves, other = moves_of(world, court, ALICE), moves_of(world, court, DEPLOYER)
    statement = sha256(WRONG).digest()
    disputes = [one.open(0, statement, WRONG)[0] for one in (moves, other)]
    liar = Liar(moves_of(world, court, MALLORY), disputes[1])
    game, _ = liar.moves.join(read_dissection_game(world.chain, court, liar.game).defence, disputes[0])
    blind, first = (
        RunChallengerAtChain(one, at, PROGRAM, []) for one, at in zip((moves, other), disputes, strict=True)
    )
    while not read_answers(world.chain, court, statement):
        first.step()
        liar.step()
    told = [move.what for move in blind.step()]
    while read_dissection_game(world.chain, court, liar.game).phase is not DissectionPhase.PROVE:
        first.step()
        liar.step()
    pass_time(world, TERMS.clock_s + 1)
    assert [move.what for move in first.step()] == ["time out", "settle"]
    told += [move.what for move in blind.step()]
    assert told == ["choose", "close", "settle"]
    assert read_dissection_game(world.chain, court, game).demands == 0
    assert moves.collect() == TERMS.bond_wei


def test_contract_executes_every_step_of_a_compiled_program(world: World, court: DissectionCourt) -> None:
    machine = contract("Machine")

    def executed(before: MachineState, witness: StepWitness) -> MachineState:
        call = machine.call("step", PROGRAM.digest, before.arguments, witness.arguments)
        return MachineState(*machine.result("step", world.chain.call(NOBODY, court.machine, call))[0])

    run = run_of(RIGHT)
    states = run.states(range(run.steps + 2))
    met: dict[int, list[int]] = {}
    for step, before in enumerate(states[:-1]):
        assert before is not None
        op = int(PROGRAM.instructions[before.pc, 0]) if before.status == 0 else -1
        met.setdefault(op, []).append(step)
    assert {Op.SHA256, Op.KECCAK, Op.PREIMAGE, Op.CALL, Op.RET, Op.FADD} <= met.keys()
    for steps in met.values():
        for step in {steps[0], steps[-1]}:
            before = states[step]
            assert before is not None
            assert executed(before, run.witness(step)) == states[step + 1]


# --- offers ---

STATED = sha256(RIGHT).digest()


def right_player() -> RunDefender:
    return RunDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS)


def wrong_player(account: AccountKey = MALLORY) -> WrongDefender:
    return WrongDefender(run_of(RIGHT), KnownStretches([RIGHT]), LEVELS, account)


class Checking:
    """A watcher of a record of one header, about which claims are offered; each look is that of a new process."""

    def __init__(self, world: World, court: DissectionCourt, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(_offers, "JsonRpcChain", lambda _: world.chain)
        self.court, self.said, self.messages = court, list[str](), [RIGHT]
        self.player = Player(ALICE, self.said.append, lambda: None)
        self.run: Any = SimpleNamespace(url="", headers=[SimpleNamespace(digest=STATED, round=5)])

    def look(self) -> bool:
        record = SimpleNamespace(messages=lambda _: self.messages)
        room: Any = SimpleNamespace(court=self.court, programs=(PROGRAM,), record=record, run_of=self.run_of)
        return OfferChecker(room).check(self.run, self.player)

    def run_of(self, *_: int) -> tuple[MachineRun, KnownStretches]:
        known = KnownStretches(self.messages)
        return MachineRun(PROGRAM, STATED, known, PARTS**LEVELS), known


def offer(moves: DissectionMoves, player: RunDefender) -> int:
    return moves.offer(0, STATED, RIGHT, DissectionClaim(*player.claim()))[0]


@pytest.fixture
def checking(world: World, court: DissectionCourt, monkeypatch: pytest.MonkeyPatch) -> Checking:
    return Checking(world, court, monkeypatch)


def test_an_offer_that_is_wrong_on_purpose_pays_the_watcher_that_checks(
    world: World, court: DissectionCourt, checking: Checking
) -> None:
    moves = moves_of(world, court, MALLORY)
    number = offer(moves, wrong_player())
    assert checking.look()
    told = []
    while read_dissection_defence(world.chain, court, number).standing is DissectionStanding.STANDS:
        made = OfferAtChain(moves, number, wrong_player()).step()  # killed after each move, as the watcher is
        told += [move.what for move in made]
        said = len(checking.said)
        checking.look()
        if not made and len(checking.said) == said:
            pass_time(world, TERMS.clock_s + 1)
    assert not checking.look()
    assert told == ["divide"] * (LEVELS - 1)
    assert [line.split(":")[0] for line in checking.said] == [
        "claim 0 about round 5 is wrong",
        *["  choose"] * LEVELS,
        "  time out",
        "claim 0 is over",
        "  collect",
    ]
    assert checking.said[-1] == f"  collect: {2 * TERMS.bond_wei - TERMS.bond_wei // 2} wei"
    assert read_refuter(world.chain, court.address, STATED) is None
    assert OfferAtChain(moves, number, wrong_player()).step() == []


def test_a_claim_is_wrong_on_purpose_from_where_its_key_draws() -> None:
    right, wrong = right_player().claim(), wrong_player().claim()
    assert wrong == wrong_player().claim()
    assert wrong != wrong_player(ALICE).claim()
    assert (wrong[0].pc, wrong[0].fp, wrong[0].status) == (right[0].pc, right[0].fp, right[0].status)
    assert wrong[0].root != right[0].root
    firsts = {wrong_player(AccountKey(bytes([number]) * 32)).first for number in range(1, 30)}
    assert len(firsts) > 10
    assert min(firsts) >= 1
    assert max(firsts) <= run_of(RIGHT).steps


def test_a_claim_whose_end_is_right_is_wrong_where_a_state_on_the_way_is(
    world: World, court: DissectionCourt, checking: Checking
) -> None:
    end, states = right_player().claim()
    claim = DissectionClaim(end, (states[0], bytes(32), *states[2:]))
    moves_of(world, court, MALLORY).offer(0, STATED, RIGHT, claim)
    assert checking.look()
    pass_time(world, TERMS.clock_s + 1)
    assert checking.look()
    assert not checking.look()
    assert checking.said[-1].startswith("  collect")


def test_a_right_offer_is_left_alone_and_comes_back(world: World, court: DissectionCourt, checking: Checking) -> None:
    moves = moves_of(world, court, MALLORY)
    number = offer(moves, right_player())
    assert not checking.look()
    assert checking.said == ["claim 0 is left alone: it is right about round 5"]
    made = OfferAtChain(moves, number, right_player())
    assert made.step() == []
    pass_time(world, TERMS.window_s)
    assert [move.what for move in made.step()] == ["reclaim"]
    assert made.standing is DissectionStanding.WITHDRAWN
    assert read_owed(world.chain, court.address, MALLORY.address) == TERMS.bond_wei


def test_who_accepts_a_right_offer_loses_its_bond(world: World, court: DissectionCourt, checking: Checking) -> None:
    moves, other = moves_of(world, court, MALLORY), moves_of(world, court, ALICE)
    number = offer(moves, right_player())
    game, _ = other.accept(number)
    told = []
    while (played := read_dissection_game(world.chain, court, game)).phase is not DissectionPhase.OVER:
        if played.phase is DissectionPhase.CHOOSE:
            other.choose(game, right_player().divide(played.level, played.position), 0)
        told += [move.what for move in OfferAtChain(moves, number, right_player()).step()]
    told += [move.what for move in OfferAtChain(moves, number, right_player()).step()]
    assert told == ["divide", "divide", "prove", "reclaim"]
    assert moves.collect() == TERMS.bond_wei + TERMS.bond_wei - TERMS.bond_wei // 2
    assert not checking.look()
    assert checking.said == ["claim 0 is over: this account has lost the game"]


def test_an_offer_that_somebody_else_accepted_is_left_alone(
    world: World, court: DissectionCourt, checking: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (offer(moves_of(world, court, MALLORY), wrong_player()) for _ in range(2))
    other, accept = moves_of(world, court, DEPLOYER), DissectionMoves.accept
    other.accept(first)

    def raced(moves: DissectionMoves, number: int) -> tuple[int, Receipt]:
        accept(other, number)  # between this one's look and its move
        return accept(moves, number)

    monkeypatch.setattr(DissectionMoves, "accept", raced)
    assert not checking.look()
    assert checking.said[0] == f"claim {first} is left alone: somebody else accepted it first"
    assert checking.said[1].startswith(f"claim {second} about round 5 is wrong, and is not accepted: ")
    assert "NotOffered" in checking.said[1]
    assert read_owed(world.chain, court.address, ALICE.address) == 0


def test_an_offer_about_what_the_record_does_not_hold_is_left_alone(
    world: World, court: DissectionCourt, checking: Checking
) -> None:
    offer(moves_of(world, court, MALLORY), wrong_player())
    offer(moves_of(world, court, ALICE), wrong_player(ALICE))  # its own
    checking.messages = []
    assert not checking.look()
    checking.run.headers = []
    assert not checking.look()
    assert checking.said == [
        "claim 0 is left alone: the record lacks what the program reads",
        "claim 0 is left alone: it is about no header of this record",
    ]
