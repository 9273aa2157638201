"""Dissections on every chain they run on: whole games both ways, with liars, stallers and players on both sides."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import pytest
from _chain_stage import ALICE, CHAINS, DEPLOYER, World, embedded, pass_time, refused, worlds
from _court_stage import FIRST, KEYS, checkpointed, header
from _court_stage import TASK as HEADER_TASK
from _dissection_stage import (
    BOB,
    CAROL,
    EVEN,
    RIGHT,
    SQUARES,
    TASK,
    TERMS,
    WRONG,
    Hall,
    Lie,
    Run,
    Table,
    hall,
    kinds,
    machine,
    record,
    run,
    seated,
    statement,
    stretches,
)
from _machine_twin import START

from collegium.consensus import Header
from collegium.crypto import frame_fields, hash_fields, make_certificate
from collegium.settlement import (
    NOBODY,
    ChainAnswerError,
    Deployment,
    DissectionPhase,
    DissectionState,
    DissectionTerms,
    HeaderPlace,
    StepWitness,
    attach_dissections,
    check_dissections,
    header_proof,
    is_dissection_final,
    post_checkpoint,
    read_answers,
    read_dissection,
    read_dissection_claims,
    read_dissections,
    read_divided,
    read_owed,
    read_pending,
    read_refuter,
)

BOND = TERMS.bond_wei
WON = BOND - BOND // 2  # of the other's bond
FALSE, TRUE = statement(WRONG), statement(RIGHT)
HEADER_HEAD = frame_fields("header", HEADER_TASK)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CHAINS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from worlds(request.param)


@pytest.fixture(scope="module")
def founded(world: World) -> Hall:
    return hall(world)


@pytest.fixture
def room(world: World, founded: Hall) -> Iterator[Hall]:
    """Every test finds the chain as it was when the court was founded."""
    with world.undone():
        yield founded


def owed(room: Hall, *accounts: bytes) -> list[int]:
    return [read_owed(room.chain, room.court.address, account) for account in accounts]


def state_of(room: Hall, dispute: int) -> DissectionState:
    return read_dissection(room.chain, room.court, dispute).state


# --- the whole way ---


def test_a_false_statement_falls_whatever_is_claimed_for_it(room: Hall) -> None:
    truth, rng = run(WRONG), random.Random(3)
    dispute, _ = room.moves(ALICE).open(SQUARES, FALSE, WRONG)
    assert read_pending(room.chain, room.court, FALSE) == 1
    lies = [Lie(truth, truthful) for truthful in (0, rng.randrange(1, len(truth) - 1), len(truth) - 1)]
    tables = [seated(room, dispute, (ALICE, truth), (BOB, lie)) for lie in (*lies, lies[0])]  # one of them twice
    for table in tables:
        view = table.to(DissectionPhase.PROVE)
        before, witness = table.defender[1].shown(view.position)
        assert before.digest == view.left
        with refused("WrongState"):  # what the step gives is not what was claimed
            room.moves(BOB).prove(table.game, *truth.shown(view.position))
        with refused("WrongState"):
            room.moves(CAROL).prove(table.game, replace(before, fp=before.fp + 1), witness)
    with refused("GamesGoOn"):
        pass_time(room.world, TERMS.join_s)
        room.moves(ALICE).settle(dispute)
    pass_time(room.world, TERMS.clock_s)
    for table in tables:
        room.moves(CAROL).time_out(table.game)  # anyone may
    room.moves(BOB).settle(dispute)
    assert state_of(room, dispute) is DissectionState.REFUTED
    assert read_refuter(room.chain, room.court.address, FALSE) == ALICE.address
    assert read_pending(room.chain, room.court, FALSE) == 0
    assert room.moves(ALICE).collect() == len(tables) * WON + BOND
    assert owed(room, BOB.address) == [0]


def test_a_true_statement_stands_whatever_is_denied(room: Hall) -> None:
    truth = run(RIGHT)
    for denied in (0, 9, len(truth) + 5):
        with room.world.undone():
            dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
            thrown = seated(room, dispute, (ALICE, truth), (CAROL, Lie(truth, 4)))
            table = seated(room, dispute, (ALICE, truth), (BOB, truth))
            room.moves(ALICE).choose(table.game, truth.between(0, 2), denied // 16)
            room.moves(BOB).divide(table.game, truth.between(denied // 16 * 16, 1))
            room.moves(ALICE).choose(table.game, truth.between(denied // 16 * 16, 1), denied % 16)
            assert room.view(table.game).position == denied
            receipt = room.moves(CAROL).prove(
                table.game, *truth.shown(denied)
            )  # anyone may, the bond is the claimant's
            assert receipt.gas < 1_000_000
            assert state_of(room, dispute) is DissectionState.UPHELD
            assert read_refuter(room.chain, room.court.address, TRUE) is None
            room.take_back(CAROL, thrown.game)
            room.take_back(BOB, table.game)
            assert owed(room, ALICE.address, BOB.address, CAROL.address) == [0, BOND + WON, BOND]


def test_a_game_over_as_many_steps_as_in_earnest(world: World) -> None:
    with world.undone():
        room = hall(world, terms=replace(TERMS, levels=DissectionTerms().levels))
        truth = run(RIGHT)
        dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
        table = seated(room, dispute, (ALICE, Lie(truth, 5)), (BOB, truth))
        view = table.to(DissectionPhase.PROVE)
        assert view.position == 5
        table.step()
        assert state_of(room, dispute) is DissectionState.UPHELD


@pytest.mark.seeds(quick=1, full=40)
def test_who_is_right_wins_whoever_else_plays(seed: int) -> None:
    """Liars that divide truthfully so long, some beside honest claimants, with the same accounts on both sides."""
    rng = random.Random(seed)
    world = next(embedded())
    room = hall(world)
    opening = rng.choice((RIGHT, WRONG))
    truth, about = run(opening), statement(opening)
    dispute, _ = room.moves(ALICE).open(SQUARES, about, opening)
    lies = [Lie(truth, rng.randrange(len(truth))) for _ in range(3)]
    tables = [seated(room, dispute, (ALICE, truth), (rng.choice((ALICE, BOB)), lie)) for lie in lies]
    if opening == RIGHT:
        at = rng.randrange(len(tables) + 1)
        tables.insert(at, seated(room, dispute, (ALICE, Lie(truth, rng.randrange(len(truth)))), (CAROL, truth)))
    while state_of(room, dispute) is DissectionState.OPEN:
        going = [table for table in tables if room.view(table.game).phase is not DissectionPhase.OVER]
        movable = [t for t in going if t.defender[0] is CAROL or room.view(t.game).phase is not DissectionPhase.PROVE]
        if movable:
            rng.choice(movable).step()
            continue
        pass_time(world, TERMS.clock_s + 1)
        for table in going:
            room.moves(ALICE).time_out(table.game)
        room.moves(ALICE).settle(dispute)
    right = opening == RIGHT
    assert state_of(room, dispute) is (DissectionState.UPHELD if right else DissectionState.REFUTED)
    assert (read_refuter(world.chain, room.court.address, about) is None) == right


def test_a_challenger_that_loses_does_not_save_a_false_statement(room: Hall) -> None:
    truth = run(WRONG)
    thrown, _ = room.moves(CAROL).open(SQUARES, FALSE, WRONG)
    dispute, _ = room.moves(ALICE).open(SQUARES, FALSE, WRONG)  # at the same time
    table = seated(room, thrown, (CAROL, truth), (BOB, Lie(truth, 3)))
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(BOB).time_out(table.game)
    assert state_of(room, thrown) is DissectionState.UPHELD
    with refused("JoinOver"):
        seated(room, dispute, (ALICE, truth), (BOB, Lie(truth, 3)))
    room.moves(BOB).settle(dispute)
    assert read_refuter(room.chain, room.court.address, FALSE) == ALICE.address
    with refused("AlreadyRefuted"):
        room.moves(CAROL).open(SQUARES, FALSE, WRONG)


def test_a_claimant_that_loses_on_purpose_does_not_harm_a_true_statement(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(CAROL).open(SQUARES, TRUE, RIGHT)
    thrown = seated(room, dispute, (CAROL, truth), (CAROL, Lie(truth, 3)))
    silent = seated(room, dispute, (CAROL, truth), (CAROL, truth))  # the right claim, by who does not play it
    room.moves(CAROL).choose(silent.game, truth.between(0, 2), 0)
    thrown.to(DissectionPhase.PROVE)
    table = seated(room, dispute, (CAROL, Lie(truth, 7)), (BOB, truth))
    with refused("NotTheDefender"):
        room.moves(BOB).divide(silent.game, truth.between(0, 1))
    pass_time(room.world, TERMS.clock_s - 10)
    table.step()
    pass_time(room.world, 20)
    for lost in (thrown, silent):
        room.moves(CAROL).time_out(lost.game)
    table.to(DissectionPhase.PROVE)
    table.step()
    assert state_of(room, dispute) is DissectionState.UPHELD
    # playing against oneself costs the burnt share of each bond, and being wrong the other one
    assert owed(room, CAROL.address, BOB.address) == [2 * WON, WON]
    room.take_back(BOB, table.game)
    assert owed(room, BOB.address) == [BOND + WON]


# --- clocks ---


def test_a_turn_has_a_least_time_and_a_late_move_is_none(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    table = seated(room, dispute, (ALICE, Lie(truth, 0)), (BOB, truth))
    pass_time(room.world, TERMS.clock_s - 5)
    table.step()
    assert room.view(table.game).challenger_clock_s == TERMS.extension_s
    pass_time(room.world, TERMS.clock_s - TERMS.extension_s - 20)
    table.step()
    assert TERMS.extension_s < room.view(table.game).defender_clock_s < TERMS.extension_s + 25
    with refused("ClockRuns"):
        room.moves(BOB).time_out(table.game)
    pass_time(room.world, TERMS.extension_s + 1)
    with refused("ClockRunOut"):
        table.step()
    room.moves(BOB).time_out(table.game)
    assert state_of(room, dispute) is DissectionState.UPHELD
    with refused("WrongPhase"):
        room.moves(BOB).time_out(table.game)


# --- data that is withheld ---


def test_a_challenger_that_lacks_data_demands_it_and_goes_on(room: Hall) -> None:
    opening = record(5, 26, blocks=5)  # wrong, as only its first block tells
    about, truth = statement(opening), run(opening)
    blind = run(opening, last=1)
    assert blind.stuck
    dispute, _ = room.moves(ALICE).open(SQUARES, about, opening)
    liar = Lie(truth, len(truth) - 2)  # true as far as the record goes
    table = seated(room, dispute, (ALICE, blind), (BOB, liar))
    table.step()
    table.step()
    view = room.view(table.game)
    states = table.states(view)
    part = blind.part(view.position, view.level, states)
    with refused("WrongBlocks"):
        room.moves(ALICE).demand(table.game, states, part, 65)
    room.moves(ALICE).demand(table.game, states, part, 2)
    view = room.view(table.game)
    assert (view.phase, view.position) == (DissectionPhase.ANSWER, len(blind))
    parts = stretches(opening)
    value, shown = parts[2]
    with refused("WrongBlocks"):
        room.moves(CAROL).answer(table.game, *liar.shown(view.position))
    for before, blocks in ((value, shown[::-1]), (START, b""), (START, shown)):
        with refused("WrongStretch"):
            room.moves(CAROL).answer(table.game, *liar.shown(view.position), before, blocks)
    with refused("WrongBlocks"):
        room.moves(CAROL).answer(table.game, *liar.shown(view.position), *_stretch(parts[1:3]))
    room.moves(CAROL).answer(table.game, *liar.shown(view.position), value, shown)
    assert owed(room, CAROL.address) == [TERMS.demand_fee_wei]
    (answer,) = read_answers(room.chain, room.court, about)
    assert (answer.value, answer.blocks) == (value, shown + parts[3][1])
    again = room.view(table.game)
    assert (again.phase, again.level, again.position) == (DissectionPhase.CHOOSE, TERMS.levels, 0)

    table.challenger = (ALICE, run(opening, last=3))  # which is what is known now
    table.step()
    table.step()
    view = room.view(table.game)
    part = table.challenger[1].part(view.position, view.level, table.states(view))
    room.moves(ALICE).demand(table.game, table.states(view), part, 64)  # all there is: the message begins
    position = room.view(table.game).position
    with refused("WrongBlocks"):
        room.moves(CAROL).answer(table.game, *liar.shown(position))
    receipt = room.moves(CAROL).answer(table.game, *liar.shown(position), *parts[0])
    assert receipt.gas < 1_000_000
    table.challenger = (ALICE, truth)
    view = table.to(DissectionPhase.PROVE)
    assert view.position == len(truth) - 2
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(ALICE).time_out(table.game)
    room.moves(ALICE).settle(dispute)
    assert read_refuter(room.chain, room.court.address, about) == ALICE.address


def _stretch(parts: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Blocks side by side, and the value before them."""
    return parts[0][0], b"".join(block for _, block in parts)


def test_demanding_takes_no_time_from_others_and_pays_whoever_is_left_waiting(room: Hall) -> None:
    truth = run(RIGHT)
    reads = next(at for at in range(len(truth)) if truth.witnesses[at].preimage)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    blind = run(RIGHT, last=0)
    table = seated(room, dispute, (ALICE, blind), (BOB, truth))
    assert len(blind) == reads
    with refused("NotAStep"):
        room.moves(ALICE).demand(table.game, truth.between(0, 2), 0, 1)
    for _ in range(TERMS.demands_max):
        table.step()
        table.step()
        pass_time(room.world, TERMS.clock_s // 4)
        before = room.view(table.game)
        room.moves(ALICE).demand(table.game, truth.between(0, 1), reads, 64)
        left = room.view(table.game).challenger_clock_s
        assert left <= before.challenger_clock_s - TERMS.clock_s // 4  # no least time
        for beside in (bytes(64), b"?", bytes(63)):  # the first block of its message has none before it
            with refused("WrongBlocks"):
                room.moves(BOB).answer(table.game, *truth.shown(reads), bytes(32), beside)
        room.moves(BOB).answer(table.game, *truth.shown(reads))
    table.step()
    table.step()
    with refused("TooManyDemands"):
        room.moves(ALICE).demand(table.game, truth.between(0, 1), reads, 64)
    assert owed(room, BOB.address) == [TERMS.demands_max * TERMS.demand_fee_wei]


def test_what_is_demanded_in_vain_comes_back_and_the_claim_falls(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    blind = run(RIGHT, last=0)
    table = seated(room, dispute, (ALICE, blind), (BOB, truth))
    table.step()
    table.step()
    room.moves(ALICE).demand(table.game, truth.between(0, 1), len(blind), 1)
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(CAROL).time_out(table.game)
    assert owed(room, ALICE.address) == [WON + TERMS.demand_fee_wei]


def test_a_demand_at_a_step_that_finds_nothing_loses(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    table = seated(room, dispute, (ALICE, Lie(truth, 2)), (BOB, truth))
    table.step()
    table.step()
    room.moves(ALICE).demand(table.game, truth.between(0, 1), 2, 1)
    room.moves(CAROL).answer(table.game, *truth.shown(2))
    assert state_of(room, dispute) is DissectionState.UPHELD
    assert owed(room, CAROL.address, BOB.address) == [TERMS.demand_fee_wei, WON]


# --- offers ---


def test_an_offered_claim_pays_who_finds_it_wrong_and_nobody_else(room: Hall) -> None:
    truth = run(RIGHT)
    lie = Lie(truth, 11)
    offered, _ = room.moves(BOB).offer(SQUARES, TRUE, RIGHT, lie.claim())
    right, _ = room.moves(BOB).offer(SQUARES, TRUE, RIGHT, truth.claim())
    game, _ = room.moves(ALICE).accept(offered)
    with refused("NotOffered"):
        room.moves(CAROL).accept(offered)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    with refused("AboutAnother"):  # else its owner could lose it there to itself, before who checks has won
        room.moves(BOB).join(offered, dispute)
    Table(room, game, (ALICE, truth), (BOB, lie)).to(DissectionPhase.PROVE)
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(ALICE).time_out(game)
    assert owed(room, ALICE.address, BOB.address) == [BOND + WON, 0]
    assert read_refuter(room.chain, room.court.address, TRUE) is None
    assert read_pending(room.chain, room.court, TRUE) == 1
    with refused("NotStanding"):
        room.moves(CAROL).accept(offered)
    game, _ = room.moves(CAROL).accept(right)
    guess = Table(room, game, (CAROL, lie), (BOB, truth))
    guess.to(DissectionPhase.PROVE)
    guess.step()
    room.take_back(BOB, game)
    assert owed(room, BOB.address) == [BOND + WON]
    with refused("NotOpen"):
        room.moves(CAROL).settle(room.view(game).dispute)


def test_an_offer_that_nobody_accepts_comes_back(room: Hall) -> None:
    offered, _ = room.moves(BOB).offer(SQUARES, TRUE, RIGHT, run(RIGHT).claim())
    with refused("StillJoining"):
        room.moves(BOB).reclaim(offered)
    with refused("NotOpen"):
        room.moves(CAROL).defend(0, run(RIGHT).claim())
    pass_time(room.world, TERMS.window_s)
    with refused("NotTheDefender"):
        room.moves(ALICE).reclaim(offered)
    room.moves(BOB).reclaim(offered)
    assert owed(room, BOB.address) == [BOND]
    with refused("NotStanding"):
        room.moves(BOB).reclaim(offered)


# --- one claim in many disputes ---


def test_a_right_claim_stands_in_any_number_of_disputes_under_one_bond(room: Hall) -> None:
    truth, challengers = run(RIGHT), (ALICE, CAROL, BOB)
    disputes = [room.moves(account).open(SQUARES, TRUE, RIGHT)[0] for account in challengers]
    before = room.chain.balance(room.court.address)
    first, _ = room.moves(BOB).defend(disputes[0], truth.claim())
    defence = room.view(first).defence
    joined = [room.moves(BOB).join(defence, dispute) for dispute in disputes[1:]]
    assert room.chain.balance(room.court.address) == before + BOND
    assert all(receipt.gas < 200_000 for _, receipt in joined)
    games = [first, *(game for game, _ in joined)]
    for lie, (account, game) in enumerate(zip(challengers, games, strict=True)):
        with refused("StillPlaying"):
            room.moves(BOB).reclaim(defence)
        table = Table(room, game, (account, Lie(truth, 3 * lie)), (BOB, truth))
        table.to(DissectionPhase.PROVE)
        table.step()
    assert [state_of(room, dispute) for dispute in disputes] == 3 * [DissectionState.UPHELD]
    room.moves(BOB).reclaim(defence)
    assert owed(room, BOB.address) == [BOND + 3 * WON]
    with refused("NotStanding"):
        room.moves(BOB).join(defence, disputes[0])


def test_a_claim_that_loses_one_game_is_lost_in_all_and_pays_the_first_that_beats_it(room: Hall) -> None:
    """Its owner beats it, to go on with it for half a bond: in vain."""
    truth = run(WRONG)
    lie = Lie(truth, 3)
    honest, _ = room.moves(ALICE).open(SQUARES, FALSE, WRONG)
    own, _ = room.moves(CAROL).open(SQUARES, FALSE, WRONG)
    table = seated(room, own, (CAROL, truth), (BOB, lie))
    game, _ = room.moves(BOB).join(room.view(table.game).defence, honest)
    other = Table(room, game, (ALICE, truth), (BOB, lie))
    other.step()
    with refused("NotDecided"):
        room.moves(ALICE).close(game)
    table.to(DissectionPhase.PROVE)
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(CAROL).time_out(table.game)
    assert owed(room, CAROL.address, ALICE.address) == [WON, 0]
    for refused_move in (other.step, lambda: room.moves(ALICE).time_out(game)):
        with refused("Decided"):  # so its challenger cannot lose it any more, however late it is
            refused_move()
    with refused("GamesGoOn"):
        room.moves(ALICE).settle(honest)
    room.moves(BOB).close(game)  # anyone may
    with refused("WrongPhase"):
        room.moves(BOB).close(game)
    with refused("NotStanding"):
        room.moves(BOB).reclaim(room.view(game).defence)
    for dispute, account in ((honest, ALICE), (own, CAROL)):
        room.moves(account).settle(dispute)
    assert read_refuter(room.chain, room.court.address, FALSE) == ALICE.address
    assert owed(room, ALICE.address, BOB.address, CAROL.address) == [BOND, 0, WON + BOND]
    assert room.chain.balance(room.court.address) == 2 * BOND + WON


def test_what_was_demanded_of_a_claim_that_another_game_decides_comes_back(room: Hall) -> None:
    truth, blind = run(RIGHT), run(RIGHT, last=0)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    silent = seated(room, dispute, (ALICE, blind), (BOB, truth))
    winner = seated(room, dispute, (ALICE, Lie(truth, 2)), (CAROL, truth))
    silent.step()
    silent.step()
    room.moves(ALICE).demand(silent.game, truth.between(0, 1), len(blind), 1)
    winner.to(DissectionPhase.PROVE)
    winner.step()
    assert state_of(room, dispute) is DissectionState.UPHELD
    room.take_back(BOB, silent.game)
    assert owed(room, ALICE.address, BOB.address, CAROL.address) == [TERMS.demand_fee_wei, BOND, WON]


def test_a_claim_joins_each_dispute_about_the_same_once_in_time_by_its_owner(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    table = seated(room, dispute, (ALICE, truth), (BOB, truth))
    defence = room.view(table.game).defence
    other, _ = room.moves(ALICE).open(SQUARES, FALSE, WRONG)
    late, _ = room.moves(CAROL).open(SQUARES, TRUE, RIGHT)
    with refused("AlreadyJoined"):  # else its challenger would have games without number against one bond
        room.moves(BOB).join(defence, dispute)
    with refused("AboutAnother"):
        room.moves(BOB).join(defence, other)
    with refused("NotTheDefender"):
        room.moves(CAROL).join(defence, late)
    with refused("UnknownDefence"):
        room.moves(BOB).join(defence + 1, late)
    pass_time(room.world, TERMS.join_s)
    with refused("JoinOver"):
        room.moves(BOB).join(defence, late)


# --- what can be disputed ---


def test_a_digest_of_another_kind_or_task_cannot_be_disputed(room: Hall) -> None:
    """Somebody may have signed it rightly: as what it is."""
    for opening in (b"\x11" + RIGHT[1:], RIGHT.replace(b"toy", b"tin"), RIGHT[:20], b""):
        with refused("WrongOpening"):
            room.moves(ALICE).open(SQUARES, sha256(opening).digest(), opening)
    with refused("WrongOpening"):
        room.moves(ALICE).open(SQUARES, FALSE, RIGHT)
    with refused("UnknownKind"):
        room.moves(ALICE).open(2, FALSE, WRONG)
    with refused("WrongOpening"):
        room.moves(ALICE).offer(SQUARES, FALSE, RIGHT, run(RIGHT).claim())


def test_one_account_has_one_dispute_about_a_statement_at_a_time(room: Hall) -> None:
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    with refused("AlreadyDisputed"):
        room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    room.moves(CAROL).open(SQUARES, TRUE, RIGHT)
    assert read_pending(room.chain, room.court, TRUE) == 2
    truth = run(RIGHT)
    table = seated(room, dispute, (ALICE, truth), (BOB, truth))
    pass_time(room.world, TERMS.clock_s + 1)
    room.moves(BOB).time_out(table.game)
    assert room.moves(ALICE).open(SQUARES, TRUE, RIGHT)[0] == dispute + 2


def test_what_a_game_has_shown_can_be_read_back(room: Hall) -> None:
    court, truth = room.court, run(RIGHT)
    assert attach_dissections(room.chain, court.address, court.block) == court
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    table = seated(room, dispute, (ALICE, Lie(truth, 20)), (BOB, truth))
    assert read_dissections(room.chain, court) == {dispute: (SQUARES, TRUE)}
    (claim,) = read_dissection_claims(room.chain, court, dispute).values()
    assert (claim.defender, claim.claim) == (BOB.address, truth.claim())
    assert read_divided(room.chain, court, table.game) == ()
    table.step()
    table.step()
    assert read_divided(room.chain, court, table.game) == truth.between(16, 1)
    assert read_answers(room.chain, court, TRUE) == ()


def test_a_court_of_other_programs_or_of_another_deployment_is_refused(world: World, room: Hall) -> None:
    deployment = Deployment(TASK, NOBODY, NOBODY, 0)
    check_dissections(world.chain, room.court, deployment, kinds())
    with pytest.raises(ChainAnswerError, match="the court is about"):
        check_dissections(world.chain, room.court, replace(deployment, settlement=b"\1" * 20), kinds())
    with pytest.raises(ChainAnswerError, match="the court's kinds are"):
        check_dissections(world.chain, room.court, deployment, kinds(HEADER_HEAD))
    for terms in (
        replace(TERMS, extension_s=0),
        replace(TERMS, clock_s=29),
        replace(TERMS, join_s=29),
        replace(TERMS, bond_wei=1),
        replace(TERMS, levels=0),
        replace(TERMS, levels=16),
        replace(TERMS, demands_max=4, demand_fee_wei=BOND // 8),  # whoever withholds would lose nothing
    ):
        with refused("TermsOutOfRange"):
            hall(world, terms=terms)
    with refused("EmptyHead"):
        hall(world, head=b"")


# --- headers ---


def numbered(odd: int) -> Header:
    """A header of round 1 whose digest is even or odd."""
    models = (hash_fields("model", number) for number in range(100))
    candidates = (header(1, FIRST.digest, hash_fields("total"), model) for model in models)
    return next(made for made in candidates if made.digest[-1] % 2 == odd)


@pytest.fixture(scope="module")
def assembly(world: World) -> tuple[Hall, dict[int, HeaderPlace], dict[int, Header]]:
    """A court about a checkpoint of two headers, of which the second is odd, so wrong."""
    found = {0: numbered(0), 1: numbered(1)}
    digests = [made.digest for made in found.values()]
    deployment, checkpoint = checkpointed(world, digests)
    places = {at: HeaderPlace(checkpoint, at, digests[at], header_proof(digests, at)) for at in found}
    return hall(world, deployment, head=HEADER_HEAD), places, found


Assembly = tuple[Hall, dict[int, HeaderPlace], dict[int, Header]]


def test_a_checkpoint_is_final_when_nothing_under_it_can_fall(world: World, assembly: Assembly) -> None:
    room, places, headers = assembly
    checkpoint = places[0].checkpoint
    with world.undone():
        assert not is_dissection_final(world.chain, room.court, checkpoint.digest)
        with refused("UnknownCheckpoint"):
            room.moves(BOB).start(replace(checkpoint, root=bytes(32)))
        room.moves(BOB).start(checkpoint)
        with refused("WindowAlreadyStarted"):
            room.moves(BOB).start(checkpoint)
        with refused("HeaderNotIncluded"):
            room.moves(ALICE).open(EVEN, headers[1].digest, headers[1].preimage, places[0])
        dispute, _ = room.moves(ALICE).open(EVEN, headers[0].digest, headers[0].preimage, places[0])
        truth = Run(machine(EVEN, headers[0].digest, {}))
        table = seated(room, dispute, (ALICE, Lie(truth, 0)), (BOB, truth))
        pass_time(world, TERMS.window_s)
        assert not is_dissection_final(world.chain, room.court, checkpoint.digest)
        room.moves(CAROL).time_out(table.game)
        assert is_dissection_final(world.chain, room.court, checkpoint.digest)
        with refused("WindowOver"):
            room.moves(ALICE).open(EVEN, headers[1].digest, headers[1].preimage, places[1])


def test_a_wrong_header_falls_and_its_checkpoint_is_never_final(world: World, assembly: Assembly) -> None:
    room, places, headers = assembly
    with world.undone():
        room.moves(BOB).start(places[1].checkpoint)
        truth = Run(machine(EVEN, headers[1].digest, {}))
        dispute, _ = room.moves(ALICE).open(EVEN, headers[1].digest, headers[1].preimage, places[1])
        seated(room, dispute, (ALICE, truth), (BOB, Lie(truth, 1))).to(DissectionPhase.PROVE)
        pass_time(world, TERMS.window_s)
        room.moves(ALICE).time_out(0)
        room.moves(ALICE).settle(dispute)
        assert read_refuter(world.chain, room.court.address, headers[1].digest) == ALICE.address
        assert not is_dissection_final(world.chain, room.court, places[1].checkpoint.digest)


def test_a_header_that_fell_under_one_checkpoint_falls_under_another_too(world: World) -> None:
    """Else whoever certified it a second time could have it refuted there alone, and what rests on it paid here."""
    digests = [numbered(0).digest, numbered(1).digest]
    with world.undone():
        deployment, first = checkpointed(world, digests)
        second = replace(first, first_round=2, last_round=3, previous=first.digest)
        signatures = {seat: secret.sign(second.digest) for seat, secret in enumerate(KEYS)}
        post_checkpoint(world.chain, deployment, DEPLOYER, second, make_certificate(len(KEYS), signatures))
        room = hall(world, deployment, head=HEADER_HEAD)
        here, there = (
            HeaderPlace(checkpoint, checkpoint.first_round + 1, digests[1], header_proof(digests, 1))
            for checkpoint in (first, second)
        )
        for place, mover in ((there, BOB), (here, ALICE)):
            dispute, _ = room.moves(mover).open(EVEN, digests[1], numbered(1).preimage, place)
            pass_time(world, TERMS.join_s)
            room.moves(mover).settle(dispute)
            with refused("AlreadyRefuted"):
                room.moves(CAROL).open(EVEN, digests[1], numbered(1).preimage, place)
        assert read_refuter(world.chain, room.court.address, digests[1]) == BOB.address  # who was first
        for checkpoint in (first, second):
            room.moves(BOB).start(checkpoint)
        pass_time(world, TERMS.window_s)
        assert not is_dissection_final(world.chain, room.court, first.digest)
        assert not is_dissection_final(world.chain, room.court, second.digest)


def test_a_header_whose_preimage_nobody_shows_falls_and_convicts_nobody_until_it_is_shown(
    world: World, assembly: Assembly
) -> None:
    room, places, headers = assembly
    with world.undone():
        room.moves(BOB).start(places[1].checkpoint)
        dispute, _ = room.moves(ALICE).open(EVEN, headers[1].digest, b"", places[1])
        with refused("WrongOpening"):
            room.moves(ALICE).name(dispute, headers[0].preimage)
        with refused("WrongOpening"):
            room.moves(ALICE).name(dispute, b"")
        pass_time(world, TERMS.window_s)
        room.moves(ALICE).settle(dispute)
        assert not is_dissection_final(world.chain, room.court, places[1].checkpoint.digest)
        assert read_refuter(world.chain, room.court.address, headers[1].digest) is None
        room.moves(CAROL).name(dispute, headers[1].preimage)
        assert read_refuter(world.chain, room.court.address, headers[1].digest) == ALICE.address
        with refused("AlreadyNamed"):
            room.moves(CAROL).name(dispute, headers[1].preimage)


def test_a_proof_of_a_halted_machine_shows_nothing(room: Hall) -> None:
    truth = run(RIGHT)
    dispute, _ = room.moves(ALICE).open(SQUARES, TRUE, RIGHT)
    table = seated(room, dispute, (ALICE, truth), (BOB, truth))
    room.moves(ALICE).choose(table.game, truth.between(0, 2), 15)
    room.moves(BOB).divide(table.game, truth.between(240, 1))
    room.moves(ALICE).choose(table.game, truth.between(240, 1), 15)
    with refused("WrongWitness"):
        room.moves(BOB).prove(table.game, truth.state(255), truth.witnesses[-1])
    room.moves(BOB).prove(table.game, truth.state(255), StepWitness())
    assert state_of(room, dispute) is DissectionState.UPHELD


assert DEPLOYER is CAROL
