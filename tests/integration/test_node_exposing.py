"""A header that rests on a hidden one: a watcher finds it and shows it to the contract that pays, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _chain_stage import ALICE, MALLORY, embedded, refused
from _money_stage import DUES, ROUNDS, Money, header_of, settled_money

from collegium.crypto import hash_fields
from collegium.node import Finding, Player, WatchedRun, WatchPlan, _exposing, _follow, _watch, watch_run
from collegium.node._exposing import expose_unlinked
from collegium.settlement import expose_header, read_budget, read_checkpoints, rewards_root


@pytest.fixture(scope="module")
def founded() -> Iterator[Money]:
    for world in embedded():
        yield settled_money(world)


@pytest.fixture
def money(founded: Money) -> Iterator[Money]:
    with founded.undone():
        yield founded


def settle_hidden(money: Money) -> int:
    """A set that lies certifies a header that rests on one under no checkpoint; return its round."""
    hidden = header_of(ROUNDS, money.headers[-1].digest, hash_fields("hidden"))
    shown = replace(hidden, rewards=bytes(32))
    money.headers.extend([shown, header_of(ROUNDS + 1, hidden.digest, rewards_root(DUES))])
    money.post(ROUNDS)
    return ROUNDS + 1


def watched(money: Money, monkeypatch: pytest.MonkeyPatch, *, paying: bool = True) -> WatchedRun:
    """The record of the headers; what public work gives is right, so that a header's place alone is looked at."""
    for module in (_follow, _watch):
        monkeypatch.setattr(module, "JsonRpcChain", lambda url: money.world.chain)
    monkeypatch.setattr(_watch, "recompute", lambda run, number: None)
    monkeypatch.setattr(_watch, "steward_fault", lambda run, number: None)
    monkeypatch.setattr(_follow, "bring_charges", lambda *arguments: None)
    rounds: Any = tuple(SimpleNamespace(certified=SimpleNamespace(header=header)) for header in money.headers)
    unused: Any = None
    site = money.site if paying else None
    around = (rounds, (), "", money.deployment, unused, None, {}, None, site)
    return WatchedRun(Path(), unused, unused, unused, *around)


def test_a_header_that_rests_on_a_hidden_one_is_found_and_exposed_and_nothing_is_paid_from_it_on(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, chain, said = settle_hidden(money), money.world.chain, list[str]()
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    run, player = watched(money, monkeypatch), Player(ALICE, said.append)
    found = watch_run(run, [], WatchPlan(), None, said.append)
    assert found is not None
    assert (found.round, found.work) == (number, "previous")
    named, stands = run.headers[number].previous.hex()[:16], run.headers[number - 1].digest.hex()[:16]
    assert f"round {number}: the header rests on {named}, and {stands} stands before it" in said
    assert read_budget(chain, money.site, money.deployment).broken_round is None  # without --challenge nothing is sent
    said.clear()
    assert watch_run(run, [], WatchPlan(challenge=True), player, said.append) == found
    print("\n".join(said))
    assert any(line.startswith(f"round {number} exposed") and line.endswith(" gas") for line in said)
    assert read_budget(chain, money.site, money.deployment).broken_round == number
    with refused("DoesNotFollow"):
        money.take_over(read_checkpoints(chain, money.deployment)[1])
    said.clear()
    height = chain.block_number()
    assert watch_run(run, [], WatchPlan(challenge=True), player, said.append) == found  # started again
    assert (chain.block_number(), any("was shown before" in line for line in said)) == (height, True)


def test_somebody_else_may_be_faster(money: Money, monkeypatch: pytest.MonkeyPatch) -> None:
    number, said = settle_hidden(money), list[str]()
    run, chain = watched(money, monkeypatch), money.world.chain

    def second(*arguments: Any) -> Any:
        expose_header(arguments[0], arguments[1], MALLORY, *arguments[3:])
        return expose_header(*arguments)

    monkeypatch.setattr(_exposing, "expose_header", second)
    assert expose_unlinked(run, chain, Player(ALICE, said.append)) == number
    assert said == []
    assert read_budget(chain, money.site, money.deployment).broken_round == number


def test_what_an_earlier_round_has_wrong_hides_no_header_that_does_not_follow(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, chain = settle_hidden(money), money.world.chain
    run, wrong = watched(money, monkeypatch), Finding(0, "first model", "the first model is not the one drawn")
    monkeypatch.setattr(_watch, "recompute", lambda run, number: wrong)
    monkeypatch.setattr(_follow, "challenge", lambda *arguments: None)
    assert watch_run(run, [], WatchPlan(challenge=True), Player(ALICE, print), print) == wrong
    assert read_budget(chain, money.site, money.deployment).broken_round == number


def test_where_nobody_is_paid_it_is_found_and_nothing_is_sent(money: Money, monkeypatch: pytest.MonkeyPatch) -> None:
    number = settle_hidden(money)
    run = watched(money, monkeypatch, paying=False)
    found = watch_run(run, [], WatchPlan(challenge=True), Player(ALICE, print), print)
    assert found is not None
    assert (found.round, found.work) == (number, "previous")
    assert read_budget(money.world.chain, money.site, money.deployment).broken_round is None


def test_headers_that_follow_are_no_finding_and_exposing_one_is_refused(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, said = money.world.chain, list[str]()
    money.settle(2, DUES)
    run = watched(money, monkeypatch)
    assert watch_run(run, [], WatchPlan(challenge=True), Player(ALICE, said.append), said.append) is None
    assert not any("exposed" in line for line in said)
    monkeypatch.setattr(_exposing, "unlinked", lambda run, number: Finding(number, "previous", "") if number else None)
    with refused("Follows"):
        expose_unlinked(run, chain, Player(ALICE, said.append))
    assert read_budget(chain, money.site, money.deployment).broken_round is None
