"""Every function of a court and its step, read from the ABI: accepted once, and refused by name after a small change.

What has no refusal is a view. Every error that the two contracts declare is met here or in test_disputes_contracts.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _abi_examples import NOT_MET, Call, Caller, Example, check_complete, errors, functions, given, then
from _chain_stage import ALICE, CHAINS, pass_time, worlds
from _court_stage import (
    BEFORE,
    BOB,
    CAROL,
    FIRST,
    RULE,
    SPEC,
    STATISTICS,
    TERMS,
    TOTAL,
    ZERO,
    Courtroom,
    other_state,
    second,
    settled,
)

from collegium.consensus import Header
from collegium.crypto import hash_fields
from collegium.settlement import (
    Challenger,
    Defender,
    ModelStepTrace,
    encode_witness,
    header_opening,
    model_step_trace,
    step_rule,
)

# --- a game, move by move: the challenger's trace and the other's differ in one parameter ---

MODEL = hash_fields("another model")
RIGHT = model_step_trace(SPEC, RULE, STATISTICS, TOTAL, BEFORE, MODEL)
WRONG = ModelStepTrace(step_rule(SPEC, RULE, STATISTICS), TOTAL, BEFORE, other_state(5), MODEL)
LEVELS, BOND = RIGHT.levels, TERMS.bond_wei(RIGHT.levels)
challenger, defender = Challenger(RIGHT), Defender(WRONG)


def first_wrong(level: int, position: int) -> int:
    child = challenger.pick(level, position, defender.reveal(level, position))
    assert child is not None
    return child


CLAIM, UPPER = defender.claim(), first_wrong(LEVELS, 0)
BELOW, LOWER = defender.reveal(LEVELS - 4, UPPER), first_wrong(LEVELS - 4, UPPER)
POSITION = 16 * UPPER + LOWER
LEAF, WITNESS = defender.show(POSITION), challenger.witness(POSITION)
ASKED = 5
ANSWER = defender.answer(ASKED)
GAME = DISPUTE = 0  # the first of a new court


def begun(step: int = 0, *, header: bytes | None = None, children: tuple[bytes, ...] | None = None) -> Call[Courtroom]:
    """A call that names the header's place and its opening; `children` of a claim that is offered."""

    def arguments(room: Courtroom) -> tuple[Any, ...]:
        place = room.place if header is None else replace(room.place, header=header)
        return (step, *place.arguments, room.opening) + (() if children is None else (children,))

    return Call(arguments, value=BOND)


def window(root: bytes | None = None) -> Call[Courtroom]:
    """A call that names the checkpoint."""

    def arguments(room: Courtroom) -> tuple[Any, ...]:
        checkpoint = room.place.checkpoint if root is None else replace(room.place.checkpoint, root=root)
        return replace(room.place, checkpoint=checkpoint).arguments[:1]

    return Call(arguments)


def opening(disputed: Header, previous: Header) -> Call[Courtroom]:
    return given(disputed.digest, header_opening(disputed, previous))


def preimage(fields: bytes) -> Call[Courtroom]:
    """The step is asked about a digest with other fields behind it than a header's."""
    return given(sha256(fields).digest(), (32 + len(fields)).to_bytes(32, "big") + fields)


def executed(*witness: Any) -> Call[Courtroom]:
    return given(RIGHT.facts, WRONG.tree.root, LEVELS, POSITION, LEAF, encode_witness(witness))


# --- how far a game is ---


def wait(seconds: int) -> Callable[[Courtroom], None]:
    return lambda room: pass_time(room.world, seconds)


def started(room: Courtroom) -> None:
    room.moves(ALICE).start(room.place.checkpoint)


def disputed(room: Courtroom) -> None:
    assert room.dispute() == DISPUTE


def claimed(room: Courtroom) -> None:
    disputed(room)
    assert room.moves(BOB).defend(DISPUTE, CLAIM, LEVELS)[0] == GAME


def offered(room: Courtroom) -> None:
    assert room.moves(BOB).offer(0, room.place, room.opening, CLAIM, LEVELS)[0] == GAME


def picked(room: Courtroom) -> None:
    claimed(room)
    room.moves(ALICE).pick(GAME, CLAIM, UPPER)


def named(room: Courtroom) -> None:
    picked(room)
    room.moves(BOB).reveal(GAME, BELOW)
    room.moves(ALICE).pick(GAME, BELOW, LOWER)


def shown(room: Courtroom) -> None:
    named(room)
    room.moves(BOB).show(GAME, LEAF)


def asked(room: Courtroom) -> None:
    claimed(room)
    room.moves(ALICE).ask(GAME, ASKED)


def answered(room: Courtroom) -> None:
    """Carol has earned the fee."""
    asked(room)
    room.moves(CAROL).answer(GAME, ANSWER)


def joined_late(room: Courtroom) -> None:
    """The first game's challenger has run out of time, that of game 1 has not."""
    claimed(room)
    pass_time(room.world, TERMS.join_s - 50)
    room.moves(CAROL).defend(DISPUTE, Defender(RIGHT).claim(), LEVELS)
    pass_time(room.world, TERMS.clock_s - TERMS.join_s + 60)


def refuted(room: Courtroom) -> None:
    disputed(room)
    pass_time(room.world, TERMS.join_s)
    room.moves(ALICE).settle(DISPUTE)


# --- the table ---

CONTRACTS = ("Disputes", "ModelStep")
EXAMPLES: dict[str, Example[Courtroom]] = {
    "Disputes.start": Example(window(), window(ZERO), "UnknownCheckpoint"),
    "Disputes.open": Example(begun(), begun(1), "UnknownStep"),
    "Disputes.defend": Example(
        given(DISPUTE, CLAIM, value=BOND), given(DISPUTE + 1, CLAIM, value=BOND), "NotOpen", disputed
    ),
    "Disputes.offer": Example(begun(children=CLAIM), begun(header=ZERO, children=CLAIM), "HeaderNotIncluded"),
    "Disputes.accept": Example(given(GAME, value=BOND), given(GAME, value=BOND - 1), "WrongValue", offered),
    "Disputes.reclaim": Example(
        given(GAME, sender=BOB), given(GAME, sender=CAROL), "NotTheDefender", then(offered, wait(TERMS.window_s))
    ),
    "Disputes.pick": Example(given(GAME, CLAIM, UPPER), given(GAME, CLAIM, 16), "NoSuchChild", claimed),
    "Disputes.reveal": Example(given(GAME, BELOW), given(GAME, CLAIM), "WrongNode", picked),
    "Disputes.show": Example(given(GAME, LEAF), given(GAME, LEAF[:-1]), "WrongNode", named),
    "Disputes.refute": Example(
        given(GAME, RIGHT.facts, LEAF, encode_witness(WITNESS)),
        given(GAME, RIGHT.facts + b"\0", LEAF, encode_witness(WITNESS)),
        "WrongFacts",
        shown,
    ),
    "Disputes.ask": Example(
        given(GAME, (1 << LEVELS) - 1, value=TERMS.ask_fee_wei),
        given(GAME, 1 << LEVELS, value=TERMS.ask_fee_wei),
        "NoSuchLeaf",
        claimed,
    ),
    "Disputes.answer": Example(
        given(GAME, (ANSWER.data, ANSWER.path)),
        given(GAME, (ANSWER.data + b"\0", ANSWER.path)),
        "NotInTrace",
        asked,
    ),
    "Disputes.timeOut": Example(given(GAME), given(GAME + 1), "ClockRuns", joined_late),
    "Disputes.settle": Example(
        given(DISPUTE),
        given(DISPUTE + 1),
        "StillJoining",
        then(disputed, wait(TERMS.join_s), lambda room: room.dispute(CAROL)),
    ),
    "Disputes.collect": Example(given(CAROL.address), given(BOB.address), "NothingOwed", answered),
    "Disputes.disputeAt": Example(given(DISPUTE), given(DISPUTE + 1), "NotOpen", claimed),
    "Disputes.gameAt": Example(given(GAME), given(GAME + 1), "WrongPhase", claimed),
    "Disputes.bond": Example(given(LEVELS)),
    "Disputes.isFinal": Example(given(ZERO)),
    "Disputes.owed": Example(given(ALICE.address)),
    "Disputes.refuter": Example(given(ZERO)),
    "Disputes.windowOf": Example(given(ZERO)),
    "ModelStep.begin": Example(opening(second(MODEL), FIRST), opening(second(MODEL), second(MODEL)), "WrongPreimage"),
    "ModelStep.refutes": Example(executed(*WITNESS), executed(*WITNESS[:-1]), "WrongWitness"),
}

# Errors that no example above and no test of test_disputes_contracts.py meets.
FURTHER: dict[str, tuple[str, Example[Courtroom]]] = {
    "AlreadyRefuted": ("Disputes.open", Example(None, begun(), "AlreadyRefuted", refuted)),
    "TruncatedFrames": ("ModelStep.begin", Example(None, preimage(FIRST.preimage[:60]), "TruncatedFrames")),
    "WrongDomain": (
        "ModelStep.begin",
        Example(None, preimage(FIRST.preimage.replace(b"/header", b"/footer", 1)), "WrongDomain"),
    ),
    "NothingToDispute": (
        "ModelStep.begin",
        Example(None, opening(second(FIRST.model, "skipped"), FIRST), "NothingToDispute"),
    ),
}


def example_of(name: str) -> Example[Courtroom]:
    """What has no arguments has no refusal either."""
    return EXAMPLES.get(name) or Example(given())


def caller(room: Courtroom) -> Caller[Courtroom]:
    return Caller(room.chain, room, {"Disputes": room.court.address, "ModelStep": room.court.steps[0]})


@pytest.fixture(scope="module", params=CHAINS)
def founded(request: pytest.FixtureRequest) -> Iterator[Courtroom]:
    for world in worlds(request.param):
        yield settled(world, second(MODEL))


@pytest.fixture
def room(founded: Courtroom) -> Iterator[Courtroom]:
    with founded.world.undone():
        yield founded


def test_every_function_has_an_example_and_those_without_a_refusal_are_views() -> None:
    check_complete(functions(*CONTRACTS), EXAMPLES)


def test_every_error_that_is_declared_is_met_or_said_why_not() -> None:
    declared = errors(*CONTRACTS)
    here = {example.error for example in EXAMPLES.values() if example.refused is not None} | set(FURTHER)
    source = Path(__file__).with_name("test_disputes_contracts.py").read_text(encoding="utf-8")
    there = set(re.findall(r'refused\("(\w+)"\)', source))
    assert declared - here - there == set(NOT_MET)
    assert here <= declared


SLOW = {"Disputes.refute", "ModelStep.refutes"}  # hash in the contract


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(functions(*CONTRACTS))],
)
def test_a_function_is_accepted_once_and_refused_by_name(room: Courtroom, name: str) -> None:
    example = example_of(name)
    assert example.accepted is not None
    caller(room).check(name, example)


@pytest.mark.parametrize("error", sorted(FURTHER))
def test_what_else_is_refused_is_refused_by_name(room: Courtroom, error: str) -> None:
    name, example = FURTHER[error]
    assert example.refused is not None
    assert example.error == error
    caller(room).check(name, example)
