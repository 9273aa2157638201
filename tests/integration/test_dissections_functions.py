"""Every function of a court of dissections and of its machine, from the ABI: accepted once, and refused by name.

What has no refusal is a view. Every error that the two contracts declare is met here or in a test beside this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from _abi_examples import NOT_MET, Call, Caller, Example, check_complete, errors, functions, given, then
from _chain_stage import ALICE, CHAINS, embedded, pass_time, refused, worlds
from _court_stage import FIRST, checkpointed, header
from _court_stage import TASK as HEADER_TASK
from _dissection_stage import (
    BOB,
    CAROL,
    EVEN,
    RIGHT,
    SQUARES,
    TERMS,
    Hall,
    Lie,
    hall,
    run,
    statement,
)
from _machine_twin import START, Twin, instruction

from collegium.crypto import frame_fields, hash_fields
from collegium.settlement import Checkpoint, MachineState, StepWitness, contract, header_proof, transact

ZERO = bytes(32)
BOND, FEE = TERMS.bond_wei, TERMS.demand_fee_wei
ABOUT = statement(RIGHT)
TRUTH, BLIND = run(RIGHT), run(RIGHT, last=0)
STEP = len(BLIND)  # which finds the record: before it are five steps, in the first part of the first part
LIE = Lie(TRUTH, STEP)
NOWHERE = ((0, 0, 0, ZERO, ZERO), 0, ())
STATES, BELOW = LIE.between(0, 2), LIE.between(0, 1)
GAME = DEFENCE = DISPUTE = 0  # the first of a new court

HEADER = header(1, FIRST.digest, hash_fields("total"), hash_fields("model"))
DIGESTS = [FIRST.digest, HEADER.digest]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A court, and the checkpoint with its two headers."""

    room: Hall
    checkpoint: Checkpoint

    @property
    def arguments(self) -> tuple[Any, ...]:
        at = self.checkpoint
        accepted = (at.epoch, at.first_round, at.last_round, at.previous, at.root)
        return accepted, 1, tuple(header_proof(DIGESTS, 1))


def window(root: bytes | None = None) -> Call[Place]:
    """A call that names the checkpoint."""

    def arguments(place: Place) -> tuple[Any, ...]:
        checkpoint = place.checkpoint if root is None else replace(place.checkpoint, root=root)
        return replace(place, checkpoint=checkpoint).arguments[:1]

    return Call(arguments)


def about_header(digest: bytes = HEADER.digest, opening: bytes = HEADER.preimage) -> Call[Place]:
    return Call(lambda place: (EVEN, digest, opening, place.arguments), value=BOND)


# --- how far a game is ---


def opened(place: Place) -> None:
    assert place.room.moves(ALICE).open(SQUARES, ABOUT, RIGHT)[0] == DISPUTE


def claimed(place: Place) -> None:
    opened(place)
    assert place.room.moves(BOB).defend(DISPUTE, LIE.claim())[0] == GAME


def offered(place: Place) -> None:
    assert place.room.moves(BOB).offer(SQUARES, ABOUT, RIGHT, LIE.claim())[0] == DEFENCE


def disputed_twice(place: Place) -> None:
    claimed(place)
    place.room.moves(CAROL).open(SQUARES, ABOUT, RIGHT)


def decided(place: Place) -> None:
    """A claim that was beaten in the first of its two games."""
    disputed_twice(place)
    place.room.moves(BOB).join(DEFENCE, DISPUTE + 1)
    for wins, move in ((CAROL, GAME + 1), (ALICE, GAME)):
        place.room.moves(wins).choose(move, STATES, 0)
    pass_time(place.room.world, TERMS.clock_s + 1)
    place.room.moves(ALICE).time_out(GAME)


def chosen(place: Place) -> None:
    claimed(place)
    place.room.moves(ALICE).choose(GAME, STATES, 0)


def divided(place: Place) -> None:
    chosen(place)
    place.room.moves(BOB).divide(GAME, BELOW)


def at_the_step(place: Place) -> None:
    """The step before the lie: the challenger denies what is right."""
    divided(place)
    place.room.moves(ALICE).choose(GAME, BELOW, STEP - 1)


def demanded(place: Place) -> None:
    opened(place)
    place.room.moves(BOB).defend(DISPUTE, TRUTH.claim())
    place.room.moves(ALICE).choose(GAME, TRUTH.between(0, 2), 0)
    place.room.moves(BOB).divide(GAME, TRUTH.between(0, 1))
    place.room.moves(ALICE).demand(GAME, TRUTH.between(0, 1), STEP, 1)


def answered(place: Place) -> None:
    demanded(place)
    place.room.moves(BOB).answer(GAME, *TRUTH.shown(STEP))


def unnamed(place: Place) -> None:
    room = place.room
    data = contract("Dissections").call("open", EVEN, HEADER.digest, b"", place.arguments)
    transact(room.chain, ALICE, room.court.address, data, value=BOND)


def wait(seconds: int) -> Callable[[Place], None]:
    return lambda place: pass_time(place.room.world, seconds)


def joined_late(place: Place) -> None:
    """A second game begins when the first one's clock has almost run out."""
    claimed(place)
    pass_time(place.room.world, TERMS.join_s - 10)
    place.room.moves(BOB).defend(DISPUTE, LIE.claim())
    pass_time(place.room.world, TERMS.clock_s - TERMS.join_s + 11)


def shown(at: int, *, of: Any = TRUTH) -> tuple[Any, Any]:
    before, witness = of.shown(at)
    return before.arguments, witness.arguments


def _machine_step() -> tuple[bytes, MachineState, StepWitness]:
    twin = Twin()
    twin.program.leaves[0] = instruction("ADD", 0, 1, 2)
    return twin.program.root, twin.state, twin.step()


PROGRAM, BEFORE, WITNESS = _machine_step()
CONTRACTS = ("Dissections", "Machine")
EXAMPLES: dict[str, Example[Place]] = {
    "Dissections.start": Example(window(), window(ZERO), "UnknownCheckpoint"),
    "Dissections.open": Example(about_header(), about_header(FIRST.digest, FIRST.preimage), "HeaderNotIncluded"),
    "Dissections.defend": Example(
        given(DISPUTE, LIE.claim().arguments, value=BOND),
        given(DISPUTE, LIE.claim().arguments, value=BOND - 1),
        "WrongValue",
        opened,
    ),
    "Dissections.offer": Example(
        given(SQUARES, ABOUT, RIGHT, NOWHERE, LIE.claim().arguments, value=BOND),
        given(SQUARES, ABOUT, RIGHT[:-1], NOWHERE, LIE.claim().arguments, value=BOND),
        "WrongOpening",
    ),
    "Dissections.join": Example(
        given(DEFENCE, DISPUTE + 1, sender=BOB), given(DEFENCE, DISPUTE, sender=BOB), "AlreadyJoined", disputed_twice
    ),
    "Dissections.accept": Example(given(DEFENCE, value=BOND), given(DEFENCE, value=BOND + 1), "WrongValue", offered),
    "Dissections.reclaim": Example(
        given(DEFENCE, sender=BOB), given(DEFENCE, sender=CAROL), "NotTheDefender", then(offered, wait(TERMS.window_s))
    ),
    "Dissections.close": Example(given(GAME + 1), given(GAME), "WrongPhase", decided),
    "Dissections.choose": Example(given(GAME, STATES, 0), given(GAME, STATES, 16), "NoSuchPart", claimed),
    "Dissections.divide": Example(
        given(GAME, BELOW, sender=BOB), given(GAME, BELOW, sender=CAROL), "NotTheDefender", chosen
    ),
    "Dissections.prove": Example(given(GAME, *shown(STEP - 1)), given(GAME, *shown(STEP)), "WrongState", at_the_step),
    "Dissections.demand": Example(
        given(GAME, BELOW, STEP, 1, value=FEE), given(GAME, BELOW, STEP, 0, value=FEE), "WrongBlocks", divided
    ),
    "Dissections.answer": Example(
        given(GAME, *shown(STEP), ZERO, b""), given(GAME, *shown(STEP), ZERO, bytes(64)), "WrongBlocks", demanded
    ),
    "Dissections.timeOut": Example(given(GAME), given(GAME + 1), "ClockRuns", joined_late),
    "Dissections.settle": Example(
        given(DISPUTE),
        given(DISPUTE + 1),
        "StillJoining",
        then(opened, wait(TERMS.join_s), lambda place: place.room.moves(CAROL).open(SQUARES, ABOUT, RIGHT)),
    ),
    "Dissections.name": Example(
        given(DISPUTE, HEADER.preimage), given(DISPUTE, HEADER.preimage[:-1]), "WrongOpening", unnamed
    ),
    "Dissections.collect": Example(given(BOB.address), given(CAROL.address), "NothingOwed", answered),
    "Dissections.disputeAt": Example(given(DISPUTE), given(DISPUTE + 1), "NotOpen", claimed),
    "Dissections.defenceAt": Example(given(DEFENCE), given(DEFENCE + 1), "UnknownDefence", claimed),
    "Dissections.gameAt": Example(given(GAME), given(GAME + 1), "WrongPhase", claimed),
    "Dissections.isFinal": Example(given(ZERO)),
    "Dissections.owed": Example(given(ALICE.address)),
    "Dissections.pending": Example(given(ZERO)),
    "Dissections.refuter": Example(given(ZERO)),
    "Dissections.windowOf": Example(given(ZERO)),
    "Machine.start": Example(given(ABOUT)),
    "Machine.digest": Example(given(BEFORE.arguments)),
    "Machine.compress": Example(given(START, bytes(64)), given(START, bytes(65)), "WrongWitness"),
    "Machine.step": Example(
        given(PROGRAM, BEFORE.arguments, WITNESS.arguments),
        given(PROGRAM, replace(BEFORE, root=ZERO).arguments, WITNESS.arguments),
        "WrongMemory",
    ),
}


def caller(place: Place) -> Caller[Place]:
    court = place.room.court
    return Caller(place.room.chain, place, {"Dissections": court.address, "Machine": court.machine})


@pytest.fixture(scope="module", params=CHAINS)
def founded(request: pytest.FixtureRequest) -> Iterator[Place]:
    for world in worlds(request.param):
        deployment, checkpoint = checkpointed(world, DIGESTS)
        yield Place(hall(world, deployment, head=frame_fields("header", HEADER_TASK)), checkpoint)


@pytest.fixture
def place(founded: Place) -> Iterator[Place]:
    with founded.room.world.undone():
        yield founded


def test_every_function_has_an_example_and_those_without_a_refusal_are_views() -> None:
    check_complete(functions(*CONTRACTS), EXAMPLES)


def test_every_error_that_is_declared_is_met_or_said_why_not() -> None:
    declared = errors(*CONTRACTS)
    here = {example.error for example in EXAMPLES.values() if example.refused is not None}
    files = ("dissections_contracts", "dissections_functions", "machine_step")
    texts = [Path(__file__).with_name(f"test_{name}.py").read_text(encoding="utf-8") for name in files]
    there = set(re.findall(r'(?:refused\(|yield )"(\w+)"', "".join(texts)))
    assert declared - here - there == set(NOT_MET)
    assert here <= declared


@pytest.mark.parametrize("name", sorted(functions(*CONTRACTS)))
def test_a_function_is_accepted_once_and_refused_by_name(place: Place, name: str) -> None:
    example = EXAMPLES.get(name) or Example(given())  # what has no arguments has no refusal either
    assert example.accepted is not None
    caller(place).check(name, example)


def test_states_that_were_not_shown_are_refused() -> None:
    place = Place(hall(next(embedded())), Checkpoint(HEADER_TASK, 0, 0, 1, ZERO, ZERO))
    claimed(place)
    with refused("WrongStates"):
        place.room.moves(ALICE).choose(GAME, BELOW, 0)
    with refused("NotTheChallenger"):
        place.room.moves(BOB).choose(GAME, STATES, 0)
