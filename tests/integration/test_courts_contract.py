"""Several courts that are asked as one: each function by the ABI, and the one refusal that there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

import pytest
from _chain_stage import DEPLOYER, World, refused, worlds
from _slashing_stage import artifact

from collegium.crypto import AccountKey, hash_fields
from collegium.settlement import (
    NOBODY,
    Checkpoint,
    contract,
    is_checkpoint_final,
    read_courts,
    read_refuter,
    transact,
)

STATEMENT, OTHER = hash_fields("test-statement"), hash_fields("test-other-statement")
FIRST, SECOND = bytes([1]) * 20, bytes([2]) * 20


@pytest.fixture(scope="module", params=["embedded", pytest.param("osaka", marks=[pytest.mark.node, pytest.mark.slow])])
def chain_world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from worlds(request.param)


@pytest.fixture
def world(chain_world: World) -> Iterator[World]:
    with chain_world.undone():
        yield chain_world


def create(world: World, data: bytes, account: AccountKey = DEPLOYER) -> bytes:
    address = transact(world.chain, account, None, data).contract
    assert address is not None
    return address


def rule(world: World, court: bytes, statement: bytes, winner: bytes) -> None:
    transact(world.chain, DEPLOYER, court, artifact("TestCourt").call("rule", statement, winner))


def test_it_has_these_functions_and_errors_and_no_others() -> None:
    text = (resources.files("collegium.settlement") / "artifacts" / "Courts.json").read_text(encoding="utf-8")
    entries = json.loads(text)["abi"]
    named = {(entry["type"], entry.get("name"), entry.get("stateMutability")) for entry in entries}
    assert named == {
        ("constructor", None, "nonpayable"),
        ("error", "NoCourts", None),
        ("function", "courts", "view"),
        ("function", "isFinal", "view"),
        ("function", "refuter", "view"),
    }


def test_a_statement_is_false_if_any_court_has_found_it_so_and_the_first_one_says_who(world: World) -> None:
    courts = [create(world, artifact("TestCourt").creation()) for _ in range(3)]
    asked = create(world, contract("Courts").creation(courts))
    assert read_courts(world.chain, asked) == tuple(courts)
    assert read_refuter(world.chain, asked, STATEMENT) is None
    rule(world, courts[2], STATEMENT, SECOND)
    assert read_refuter(world.chain, asked, STATEMENT) == SECOND
    rule(world, courts[0], STATEMENT, FIRST)
    assert read_refuter(world.chain, asked, STATEMENT) == FIRST
    assert read_refuter(world.chain, asked, OTHER) is None


def test_a_checkpoint_is_final_when_all_courts_say_so(world: World) -> None:
    courts = [create(world, artifact("TestCourt").creation()) for _ in range(3)]
    asked, checkpoint = create(world, contract("Courts").creation(courts)), settled(0)
    for held, final in ((True, False), (False, True)):
        call = artifact("TestCourt").call("hold", checkpoint.digest, held)
        transact(world.chain, DEPLOYER, courts[1], call)
        assert is_checkpoint_final(world.chain, asked, checkpoint) is final
        assert is_checkpoint_final(world.chain, asked, settled(1))
    assert is_checkpoint_final(world.chain, NOBODY, checkpoint)


def settled(last: int) -> Checkpoint:
    return Checkpoint(STATEMENT, 0, 0, last, bytes(32), OTHER)


def test_courts_of_nobody_are_refused_and_a_court_is_asked_itself(world: World) -> None:
    with refused("NoCourts"):
        transact(world.chain, DEPLOYER, None, contract("Courts").creation([]))
    court = create(world, artifact("TestCourt").creation())
    assert read_courts(world.chain, court) == (court,)
