"""The court on every chain it runs on: each function accepted once, and refused by name after a small change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from _chain_stage import ALICE, CHAINS, DEPLOYER, World, pass_time, refused, worlds
from _court_stage import (
    BEFORE,
    BOB,
    CAROL,
    FIRST,
    RULE,
    SPEC,
    STATISTICS,
    TERMS,
    ZERO,
    Courtroom,
    other_state,
    second,
    settled,
)

from collegium.crypto import AccountKey, hash_fields
from collegium.settlement import (
    Challenger,
    ChallengerAtChain,
    Defender,
    DefenderAtChain,
    DisputePhase,
    DisputeState,
    MadeMove,
    OpenedLeaf,
    Trace,
    attach_court,
    contract,
    deploy_court,
    is_final,
    read_dispute,
    read_game,
    read_owed,
    read_refuter,
    step_rule,
    transact,
)

LIE = hash_fields("another model")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CHAINS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from worlds(request.param)


@pytest.fixture(scope="module")
def honest(world: World) -> Courtroom:
    """The header of round 1 is what the step gives."""
    return settled(world, second())


@pytest.fixture(scope="module")
def lying(world: World) -> Courtroom:
    """The header of round 1 names another model."""
    return settled(world, second(LIE))


@pytest.fixture(autouse=True)
def undone(world: World, honest: Courtroom, lying: Courtroom) -> Iterator[None]:
    """Every test finds the chain as it was when both courts were founded."""
    with world.undone():
        yield


def play(challenger: ChallengerAtChain, *defenders: DefenderAtChain) -> list[MadeMove]:
    """Everybody moves in turn until nobody has a move."""
    made: list[MadeMove] = []
    while True:
        now = [move for player in (*defenders, challenger) for move in player.step()]
        if not now:
            return made
        made += now


def bond(room: Courtroom) -> int:
    return TERMS.bond_wei(room.trace.levels)


# --- the whole way ---


def test_a_wrong_header_falls_whatever_is_claimed_for_it(world: World, lying: Courtroom) -> None:
    room = lying
    assert attach_court(room.chain, room.court.address, room.court.block) == room.court
    dispute = room.dispute()
    challenger = ChallengerAtChain(room.moves(ALICE), room.trace, dispute)
    first = DefenderAtChain(room.moves(BOB), room.lie(other_state(5)), dispute)  # one parameter moved otherwise
    same = DefenderAtChain(room.moves(CAROL), room.trace, dispute)  # the true trace, which ends in another digest
    copied = DefenderAtChain(room.moves(BOB), room.lie(BEFORE), dispute)  # the model did not move at all
    made = play(challenger, first, same, copied)
    assert [move.what for move in made].count("refute") == 3
    assert max(move.receipt.gas for move in made) < 1_500_000
    pass_time(world, TERMS.join_s)
    assert [move.what for move in challenger.step()] == ["settle"]
    assert read_dispute(room.chain, room.court, dispute).state is DisputeState.REFUTED
    assert read_refuter(room.chain, room.court.address, room.header.digest) == ALICE.address
    won = 3 * (bond(room) - bond(room) // 2) + bond(room)
    assert read_owed(room.chain, room.court.address, ALICE.address) == won
    assert room.moves(ALICE).collect() == won
    assert not is_final(room.chain, room.court, room.place.checkpoint.digest)


def test_a_right_header_stands_and_its_challenger_pays(world: World, honest: Courtroom) -> None:
    room = honest
    room.moves(CAROL).start(room.place.checkpoint)
    dispute = room.dispute()
    # the challenger names a leaf that is right: it can show nothing against it, and its clock runs out
    blind = ChallengerAtChain(room.moves(ALICE), room.lie(other_state(5)), dispute)
    defender = DefenderAtChain(room.moves(BOB), room.trace, dispute)
    with refused("NotRefuted"):
        play(blind, defender)
    assert defender.game is not None
    assert read_game(room.chain, room.court, defender.game).phase is DisputePhase.REFUTE
    pass_time(world, TERMS.clock_s + 1)
    room.moves(BOB).time_out(defender.game)
    assert read_dispute(room.chain, room.court, dispute).state is DisputeState.UPHELD
    assert read_refuter(room.chain, room.court.address, room.header.digest) is None
    assert room.moves(BOB).collect() == 2 * bond(room) - bond(room) // 2
    pass_time(world, TERMS.window_s)
    assert is_final(room.chain, room.court, room.place.checkpoint.digest)
    with refused("WindowOver"):
        room.dispute(CAROL)


def test_a_challenger_that_loses_does_not_save_a_wrong_header(world: World, lying: Courtroom) -> None:
    room = lying
    thrown = room.dispute(CAROL)
    game, _ = room.moves(BOB).defend(thrown, Defender(room.trace).claim(), room.trace.levels)
    pass_time(world, TERMS.clock_s + 1)
    room.moves(BOB).time_out(game)
    assert read_dispute(room.chain, room.court, thrown).state is DisputeState.UPHELD
    dispute = room.dispute(ALICE)
    pass_time(world, TERMS.join_s)
    room.moves(BOB).settle(dispute)
    assert read_refuter(room.chain, room.court.address, room.header.digest) == ALICE.address


def test_a_defender_that_throws_its_game_does_not_harm_a_right_header(world: World, honest: Courtroom) -> None:
    room = honest
    dispute = room.dispute(CAROL)
    thrown = DefenderAtChain(room.moves(CAROL), room.lie(other_state(9)), dispute)
    challenger = ChallengerAtChain(room.moves(CAROL), room.trace, dispute)
    play(challenger, thrown)
    game, _ = room.moves(BOB).defend(dispute, Defender(room.trace).claim(), room.trace.levels)
    pass_time(world, TERMS.clock_s + 1)
    room.moves(ALICE).time_out(game)  # anyone may
    assert read_dispute(room.chain, room.court, dispute).state is DisputeState.UPHELD
    # playing against oneself costs the burnt share of the bond, and the other bond
    assert read_owed(room.chain, room.court.address, CAROL.address) == bond(room) - bond(room) // 2


def test_a_round_that_was_not_opened_must_keep_its_model(world: World) -> None:
    room = settled(world, second(LIE, "skipped"))
    dispute, _ = room.moves(ALICE).open(0, room.place, room.opening, 0)  # no game is needed
    assert read_dispute(room.chain, room.court, dispute).state is DisputeState.REFUTED
    kept = settled(world, second(FIRST.model, "skipped"))
    with refused("NothingToDispute"):
        kept.moves(ALICE).open(0, kept.place, kept.opening, 0)


def test_an_offered_claim_pays_who_finds_it_wrong(world: World, honest: Courtroom) -> None:
    room = honest
    levels, lie = room.trace.levels, room.lie(other_state(77))
    game, _ = room.moves(BOB).offer(0, room.place, room.opening, Defender(lie).claim(), levels)
    room.moves(ALICE).accept(game, levels)
    dispute = read_game(room.chain, room.court, game).dispute
    challenger = ChallengerAtChain(room.moves(ALICE), room.trace, dispute)
    answering = DefenderAtChain(room.moves(BOB), lie, dispute)
    answering.game = game
    play(challenger, answering)
    assert read_owed(room.chain, room.court.address, ALICE.address) == 2 * bond(room) - bond(room) // 2
    assert read_refuter(room.chain, room.court.address, room.header.digest) is None


def test_an_offer_that_nobody_accepts_comes_back(world: World, honest: Courtroom) -> None:
    room = honest
    game, _ = room.moves(BOB).offer(0, room.place, room.opening, Defender(room.trace).claim(), room.trace.levels)
    with refused("StillJoining"):
        room.moves(BOB).reclaim(game)
    pass_time(world, TERMS.window_s)
    with refused("NotTheDefender"):
        room.moves(ALICE).reclaim(game)
    room.moves(BOB).reclaim(game)
    assert read_owed(room.chain, room.court.address, BOB.address) == bond(room)
    with refused("WrongPhase"):
        room.moves(BOB).reclaim(game)


def test_a_withheld_leaf_is_shown_or_the_claim_falls(world: World, honest: Courtroom) -> None:
    room = honest
    dispute, trace = room.dispute(), room.trace
    game, _ = room.moves(BOB).defend(dispute, Defender(trace).claim(), trace.levels)
    asked = 1 << (trace.levels - 2)  # the last stretch of the state before
    room.moves(ALICE).ask(game, asked)
    with refused("NotInTrace"):
        room.moves(CAROL).answer(game, replace(Defender(trace).answer(asked), data=b"else"))
    room.moves(CAROL).answer(game, Defender(trace).answer(asked))
    assert read_owed(room.chain, room.court.address, CAROL.address) == TERMS.ask_fee_wei
    room.moves(ALICE).ask(game, 0)
    pass_time(world, TERMS.clock_s + 1)
    room.moves(ALICE).time_out(game)
    assert read_game(room.chain, room.court, game).phase is DisputePhase.OVER
    assert read_owed(room.chain, room.court.address, ALICE.address) == bond(room) - bond(room) // 2 + TERMS.ask_fee_wei


# --- refused ---


def test_a_window_starts_once_and_for_an_accepted_checkpoint(lying: Courtroom) -> None:
    with refused("UnknownCheckpoint"):
        lying.moves(ALICE).start(replace(lying.place.checkpoint, root=ZERO))
    lying.moves(ALICE).start(lying.place.checkpoint)
    with refused("WindowAlreadyStarted"):
        lying.moves(ALICE).start(lying.place.checkpoint)


def test_opening_is_refused_by_name(lying: Courtroom) -> None:
    moves, levels = lying.moves(ALICE), lying.trace.levels
    with refused("UnknownStep"):
        moves.open(9, lying.place, lying.opening, levels)
    with refused("HeaderNotIncluded"):
        moves.open(0, replace(lying.place, header=ZERO), lying.opening, levels)
    with refused("WrongPreimage"):
        moves.open(0, lying.place, lying.opening[:-1], levels)
    with refused("WrongValue"):
        moves.open(0, lying.place, lying.opening, levels + 4)
    swapped = FIRST.preimage
    with refused("WrongPreimage"):
        moves.open(0, lying.place, (32 + len(swapped)).to_bytes(32, "big") + 2 * swapped, levels)


def test_the_first_round_has_another_rule(lying: Courtroom) -> None:
    digests = [FIRST.digest, lying.header.digest]
    place = replace(lying.place, round=0, header=digests[0], siblings=(digests[1],))
    preimage = FIRST.preimage
    with refused("FirstRound"):
        lying.moves(ALICE).open(0, place, (32 + len(preimage)).to_bytes(32, "big") + preimage, lying.trace.levels)


def test_joining_is_refused_by_name(world: World, honest: Courtroom) -> None:
    dispute, levels = honest.dispute(), honest.trace.levels
    with refused("AlreadyDisputed"):
        honest.dispute()
    claim = Defender(honest.trace).claim()
    with refused("NotOpen"):
        honest.moves(BOB).defend(dispute + 1000, claim, levels)
    with refused("WrongValue"):
        honest.moves(BOB).defend(dispute, claim, levels - 4)
    honest.moves(BOB).defend(dispute, claim, levels)
    with refused("RootAlreadyClaimed"):
        honest.moves(CAROL).defend(dispute, claim, levels)
    with refused("StillJoining"):
        honest.moves(ALICE).settle(dispute)
    pass_time(world, TERMS.join_s)
    with refused("JoinOver"):
        honest.moves(CAROL).defend(dispute, [ZERO] * 16, levels)
    with refused("GamesGoOn"):
        honest.moves(ALICE).settle(dispute)


def begun(room: Courtroom, account: AccountKey, trace: Trace) -> tuple[int, int]:
    dispute = room.dispute(account)
    game, _ = room.moves(BOB).defend(dispute, Defender(trace).claim(), trace.levels)
    return dispute, game


def test_moves_are_refused_by_name(world: World, lying: Courtroom) -> None:
    lie = lying.lie(other_state(5))
    _, game = begun(lying, ALICE, lie)
    alice, bob, player = lying.moves(ALICE), lying.moves(BOB), Defender(lie)
    challenger, claim = Challenger(lying.trace), Defender(lie).claim()
    child = challenger.pick(lie.levels, 0, claim)
    assert child is not None
    with refused("NotTheChallenger"):
        bob.pick(game, claim, child)
    with refused("WrongNode"):
        alice.pick(game, [ZERO] * 16, child)
    with refused("NoSuchChild"):
        alice.pick(game, claim, 16)
    with refused("WrongPhase"):
        bob.reveal(game, claim)
    with refused("WrongPhase"):
        bob.show(game, b"leaf")
    with refused("WrongPhase"):
        alice.refute(game, b"", b"", ())
    with refused("ClockRuns"):
        bob.time_out(game)
    with refused("WrongValue"):
        transact(lying.chain, ALICE, lying.court.address, contract("Disputes").call("ask", game, 0))
    with refused("NoSuchLeaf"):
        alice.ask(game, 1 << lie.levels)
    with refused("WrongPhase"):
        lying.moves(CAROL).accept(game, lie.levels)
    with refused("GamesGoOn"):
        bob.reclaim(game)

    alice.pick(game, claim, child)
    below = player.reveal(lie.levels - 4, child)
    with refused("WrongNode"):
        bob.reveal(game, claim)
    lying.moves(CAROL).reveal(game, below)  # anyone may
    inner = challenger.pick(lie.levels - 4, child, below)
    assert inner is not None
    alice.pick(game, below, inner)
    position = 16 * child + inner
    leaf = player.show(position)
    with refused("WrongNode"):
        bob.show(game, leaf + b"\0")
    bob.show(game, leaf)
    witness = challenger.witness(position)
    facts = lie.facts
    with refused("WrongFacts"):
        alice.refute(game, facts + b"\0", leaf, witness)
    with refused("WrongNode"):
        alice.refute(game, facts, leaf[:-1], witness)
    with refused("WrongWitness"):
        alice.refute(game, facts, leaf, witness[:-1])
    with refused("WrongWitness"):
        alice.refute(game, facts, leaf, (*witness, witness[-1]))
    with refused("NotInTrace"):
        alice.refute(game, facts, leaf, (replace(witness[0], data=b"else"), *witness[1:]))
    with refused("NotInTrace"):
        alice.refute(game, facts, leaf, (OpenedLeaf(0, witness[0].data, witness[0].path[:-1]), *witness[1:]))
    pass_time(world, TERMS.clock_s + 1)
    with refused("ClockRunOut"):
        alice.refute(game, facts, leaf, witness)


def test_a_side_has_the_extension_however_little_time_is_left(world: World, lying: Courtroom) -> None:
    _, game = begun(lying, CAROL, lying.lie(other_state(5)))
    claim = Defender(lying.lie(other_state(5))).claim()
    pass_time(world, TERMS.clock_s - 20)
    lying.moves(CAROL).pick(game, claim, 8)
    view = read_game(lying.chain, lying.court, game)
    assert (view.challenger_clock_s, view.defender_clock_s) == (TERMS.extension_s, TERMS.clock_s)


def test_asking_on_and_on_takes_from_the_one_clock(world: World, honest: Courtroom) -> None:
    _, game = begun(honest, CAROL, honest.trace)
    pass_time(world, TERMS.clock_s - 10)
    honest.moves(CAROL).ask(game, 0)
    honest.moves(BOB).answer(game, Defender(honest.trace).answer(0))
    view = read_game(honest.chain, honest.court, game)
    assert view.challenger_clock_s < TERMS.extension_s  # no minimum after an ask
    pass_time(world, view.challenger_clock_s + 1)
    with refused("ClockRunOut"):
        honest.moves(CAROL).ask(game, 1)


@pytest.mark.parametrize("change", [{"extension_s": 0}, {"clock_s": 1}, {"join_s": 1}, {"bond_base_wei": 1}])
def test_terms_that_make_no_game_are_refused(honest: Courtroom, change: dict[str, int]) -> None:
    with refused("TermsOutOfRange"):
        deploy_court(
            honest.chain, honest.deployment, DEPLOYER, step_rule(SPEC, RULE, STATISTICS), replace(TERMS, **change)
        )


def test_no_more_leaves_are_asked_for_than_the_terms_allow(honest: Courtroom) -> None:
    room = honest
    _, game = begun(room, ALICE, room.trace)
    for position in range(TERMS.asks_max):
        room.moves(ALICE).ask(game, position)
        room.moves(BOB).answer(game, Defender(room.trace).answer(position))
    with refused("TooManyAsks"):
        room.moves(ALICE).ask(game, 0)


def test_who_won_nothing_collects_nothing(honest: Courtroom) -> None:
    with refused("NothingOwed"):
        honest.moves(DEPLOYER).collect()
