"""A task's chains: a home and those that follow it, founded, recorded, audited, and served by one relayer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from _chain_stage import CHAIN_ID, DEPLOYER, MALLORY, World, embedded
from _relay_stage import (
    ACCOUNTS,
    FIRST_SET,
    LATER,
    ONE,
    OPERATOR,
    ORDER,
    OTHER,
    SIZE,
    THREE,
    TWO,
    VOTING,
    Line,
    Signers,
    post_as,
)

from collegium.apps._network_cli import _plan_line
from collegium.crypto import encode_certificate, make_certificate
from collegium.node import _base_chain as base_chain
from collegium.node import _relayer_process
from collegium.node._base_chain import BaseChain, CertifiedStep
from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import ChainRecord, ChainRecordError, decode_chain_record, encode_chain_record
from collegium.node._chain_settings import ChainSettings
from collegium.node._chain_terms import HOME
from collegium.node._chains import chains_record, found_chains
from collegium.node._due_step import RelayPolicy
from collegium.node._relay_plan import RelayPlan, plans_of
from collegium.node._relayer_process import METRICS, DueStep, Follower, RelayerProcess, follower_folder
from collegium.node._telemetry import logger
from collegium.settlement import ChainUnreachableError, GasPolicy, Role, read_member

pytestmark = pytest.mark.slow

PAIRS = list(zip(ACCOUNTS, VOTING, strict=True))
FOLLOWERS = (None, None)


def certified(
    what: Any, digest: bytes, order: tuple[int, ...] = (0, 1, 2, 3), absent: int | None = None
) -> CertifiedStep:
    signatures = {seat: VOTING[place].sign(digest) for seat, place in enumerate(order) if seat != absent}
    return CertifiedStep(what, encode_certificate(make_certificate(SIZE, signatures)))


def handover_digest() -> bytes:
    from collegium.node._checkpoints import opening_digest

    return opening_digest(LATER.epoch_set, TWO.digest)


STEPS = (
    certified(ONE, ONE.digest),
    certified(TWO, TWO.digest, absent=2),
    certified(LATER.epoch_set, handover_digest()),
    certified(THREE, THREE.digest, ORDER),
)


# ------------------------------------------------------------------------------------------------ the record


@pytest.fixture(scope="module")
def record() -> ChainRecord:
    """Of a home with every step, one that follows and has just opened the epoch, and one with the first step alone."""
    chains = found_chains(ChainSettings(None, 2, FOLLOWERS), OPERATOR, FIRST_SET, PAIRS)
    for chain, count in zip(chains, (4, 3, 1), strict=True):
        for step in STEPS[:count]:
            chain.take(step)
    return chains_record(chains)


def check(record: ChainRecord, followers: tuple[str | None, ...] = FOLLOWERS) -> None:
    check_chain(record, None, FIRST_SET, OPERATOR.address, [LATER], followers)


def test_an_auditor_takes_the_record_of_all_chains_two_of_which_lag(record: ChainRecord) -> None:
    check(record)
    assert [len(follower.checkpoints) for follower in record.followed_by] == [2, 1]
    assert decode_chain_record(encode_chain_record(record)) == record
    transcripts = [chain.transcript for chain in (record, *record.followed_by)]
    assert [found.genesis.chain_id for found in transcripts if found is not None] == [1337, 1338, 1339]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda r: r.alone, "the record has 0 chains that follow, the experiment names 2"),
        (
            lambda r: replace(r, followers=r.followed_by[::-1]),
            "chain 1 that follows: the embedded chain's genesis is not",
        ),
        (
            lambda r: replace(r, followers=(r.alone, r.followed_by[1])),
            "chain 1 that follows: the embedded chain's genesis",
        ),
        (
            lambda r: with_second(r, checkpoints=(OTHER,)),
            "chain 2 that follows: it has taken what the home chain has not",
        ),
        (lambda r: with_second(r, gas=(1,)), "chain 2 that follows: checkpoints cost"),
        (
            lambda r: with_second(r, handovers=r.handovers),
            "chain 2 that follows: no checkpoint ends where epoch 1 begins",
        ),
        (lambda r: with_second(r, url="http://127.0.0.1:8545"), "chain 2 that follows: the record is of http"),
        (lambda r: with_second(r, certificates=r.certificates[1:2]), "chain 2 that follows: "),
    ],
)
def test_an_auditor_refuses_what_a_chain_that_follows_cannot_hold(
    record: ChainRecord, forge: Callable[[ChainRecord], ChainRecord], reason: str
) -> None:
    with pytest.raises(ChainRecordError, match=reason):
        check(forge(record))


def with_second(record: ChainRecord, **changes: Any) -> ChainRecord:
    first, second = record.followed_by
    return replace(record, followers=(first, replace(second, **changes)))


def test_a_chain_that_follows_may_not_be_ahead(record: ChainRecord) -> None:
    (home,) = found_chains(ChainSettings(None, 2), OPERATOR, FIRST_SET, PAIRS)
    home.take(STEPS[0])
    with pytest.raises(ChainRecordError, match="chain 1 that follows: it has taken what the home chain has not"):
        check_chain(
            replace(home.record(), followers=record.followed_by[:1]), None, FIRST_SET, OPERATOR.address, [], (None,)
        )


def test_a_list_of_followers_is_not_empty_and_nobody_in_it_is_followed(record: ChainRecord) -> None:
    first, second = record.followed_by
    for followers, reason in (
        ((), "an empty list of followers"),
        ((replace(first, followers=(second,)),), "is followed"),
    ):
        with pytest.raises(ChainRecordError, match=reason):
            decode_chain_record(encode_chain_record(replace(record, followers=followers)))


def test_two_nodes_of_one_chain_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (world,) = embedded()
    monkeypatch.setenv(base_chain.FUNDER_VARIABLE, DEPLOYER.secret.hex())
    monkeypatch.setattr(base_chain, "JsonRpcChain", lambda _: world.chain)
    with pytest.raises(ChainRecordError, match=f"{url(1)} is a node of chain {CHAIN_ID}, which another"):
        found_chains(ChainSettings(url(0), 2, (url(1),)), OPERATOR, FIRST_SET, PAIRS)


OWN = {1338: [MALLORY], 1339: [DEPLOYER]}


def test_trainers_register_on_their_own_chains_without_a_stake(record: ChainRecord) -> None:
    """At home nobody does who does not stake; an auditor finds each where its site says."""
    chains = found_chains(ChainSettings(None, 2, FOLLOWERS), OPERATOR, FIRST_SET, PAIRS, own=OWN)
    for chain, member in zip(chains[1:], (MALLORY, DEPLOYER), strict=True):
        found = read_member(chain.chain, chain.deployment, SIZE)
        assert (found.account, found.role, found.stake) == (member.address, Role.TRAINER, 0)
    for chain in chains:
        chain.take(STEPS[0])
    entered = {chain_id: [account.address for account in accounts] for chain_id, accounts in OWN.items()}

    def audit(own: dict[int, list[bytes]], held: ChainRecord) -> None:
        check_chain(held, None, FIRST_SET, OPERATOR.address, [], FOLLOWERS, Founded(own=own))

    whole = chains_record(chains)
    audit(entered, whole)
    for own, reason in (
        ({}, "chain 1 that follows: "),
        (entered | {1338: [DEPLOYER.address]}, "chain 1 that follows: "),
        (entered | {1340: [DEPLOYER.address]}, r"trainers register on chains \[1340\], of which the record has none"),
    ):
        with pytest.raises(ChainRecordError, match=reason):
            audit(own, whole)


def test_trainers_cannot_register_on_a_chain_that_does_not_follow() -> None:
    for chain_id in (1337, 1340):
        with pytest.raises(ChainRecordError, match=rf"names chain {chain_id}, expected .*\[1338, 1339\]"):
            found_chains(ChainSettings(None, 2, FOLLOWERS), OPERATOR, FIRST_SET, PAIRS, own={chain_id: [MALLORY]})


# ------------------------------------------------------------------------------------------------ the relayer


@dataclass
class Town:
    """Three chains behind nodes, the task founded on all, and a relayer's folder."""

    worlds: list[World]
    records: list[ChainRecord]
    state: Path
    process: RelayerProcess = field(init=False)
    lines: list[Line] = field(init=False)

    def start(self) -> None:
        """Begin, or begin anew after a kill: what is on disk goes before what was founded."""
        self.lines = [Line(world.chain) for world in self.worlds]
        unused: Any = None
        client: Any = Signers(None)
        records = [self._written(place) for place in range(len(self.worlds))]
        self.process = RelayerProcess(logger("relayer"), unused, OPERATOR, 9, 2, records[0], self.state, client)
        self.process.resume = self._resumed  # type: ignore[method-assign]  # of this process alone: no genesis is read
        self.process.chain = self._resumed(records[0], HOME)
        self.process.sender = self.process.sender_of(self.process.chain, self.state)
        for place, record in enumerate(records[1:], 1):
            own = follower_folder(self.state, place)
            own.mkdir(exist_ok=True)
            self.process.followers.append(Follower(self.process, place, record, own))

    def relay(self, *steps: str) -> None:
        """Serve home with these steps while the others follow, until all are done."""

        async def serve() -> None:
            following = [asyncio.create_task(follower.follow()) for follower in self.process.followers]
            for follower in self.process.followers:
                follower.tell()
            for step in steps:
                await SERVED[step](self.process)
            for follower in self.process.followers:
                follower.tell(last=True)
            await asyncio.gather(*following)

        asyncio.run(asyncio.wait_for(serve(), 120))

    def check(self) -> list[int]:
        """Have an auditor check what is on disk; return how many checkpoints each chain has."""
        home, *following = (self._written(place) for place in range(len(self.worlds)))
        urls = [url(place) for place in range(len(self.worlds))]
        whole = home.with_followers(following)
        later = [LATER] if home.handed_over else []
        check_chain(whole, urls[0], FIRST_SET, OPERATOR.address, later, urls[1:])
        chains = [self.process.chain, *(follower.sender.chain for follower in self.process.followers)]
        for chain, record in zip(chains, (home, *following), strict=True):
            assert all(chain.has(due) for due in record.checkpoints)
        return [len(record.checkpoints) for record in (home, *following)]

    def _written(self, place: int) -> ChainRecord:
        folder = self.state if place == HOME else follower_folder(self.state, place)
        written = folder / _relayer_process.CHAIN_RECORD
        return decode_chain_record(written.read_bytes()) if written.exists() else self.records[place]

    def _resumed(self, record: ChainRecord, place: int) -> BaseChain:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base_chain, "JsonRpcChain", lambda _: self.lines[place])
            return BaseChain.resume(record, OPERATOR, FIRST_SET, [LATER.epoch_set], place)


SERVED: dict[str, Callable[[RelayerProcess], Any]] = {
    "one": lambda process: process._settle(0, ONE),
    "two": lambda process: process._settle(1, TWO),
    "handover": lambda process: process._open(LATER, TWO),
    "three": lambda process: process._settle(2, THREE),
}
ALL = ("one", "two", "handover", "three")


def url(place: int) -> str:
    return f"http://127.0.0.1:{8545 + place}"


@pytest.fixture(scope="module")
def founded() -> Iterator[tuple[list[World], list[ChainRecord]]]:
    with ExitStack() as stack:
        worlds = [stack.enter_context(contextmanager(embedded)(CHAIN_ID + place)) for place in range(3)]
        records = []
        for place, world in enumerate(worlds):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(base_chain.FUNDER_VARIABLE, DEPLOYER.secret.hex())
                patch.setattr(base_chain, "JsonRpcChain", lambda _, world=world: world.chain)
                chain = BaseChain.found(url(place), OPERATOR, FIRST_SET, PAIRS, place)
            records.append(replace(chain.record(), transcript=None, sent=world.chain.sent))
        yield worlds, records


@pytest.fixture
def town(
    founded: tuple[list[World], list[ChainRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Town]:
    monkeypatch.setattr(_relayer_process, "PAUSE_S_FIRST", 0.001)
    with ExitStack() as stack:
        for world in founded[0]:
            stack.enter_context(world.undone())
        made = Town(*founded, tmp_path)
        made.start()
        yield made


def test_one_relayer_serves_all_chains_of_which_one_takes_blocks_back_and_one_is_silent(town: Town) -> None:
    """Home is not held up, and all end with the same checkpoints under the same certificates."""
    _, changing, silent = town.lines
    world, saved, mute = town.worlds[1], list[Any](), [True]
    changing.before = lambda: saved.append(world.save()) if len(changing.raws) == 1 else None
    changing.after = lambda: world.restore(saved.pop()) if len(changing.raws) == 3 and saved else None

    def answer() -> None:
        if mute:
            if len(town.process.chain.taken) == 4:
                mute.clear()  # home has all
            raise ChainUnreachableError("no answer")

    silent.before = answer
    town.relay(*ALL)
    assert town.check() == [3, 3, 3]
    assert [len(line.raws) for line in town.lines] == [4, 6, 4]
    assert len({town._written(place).certificates for place in range(3)}) == 1
    metrics = (town.state / METRICS).read_text()
    for place in range(3):
        assert f'collegium_relay_steps{{chain="{place}"}} 4.0' in metrics
        assert f'collegium_relay_last_round{{chain="{place}"}} 4.0' in metrics
        assert f'collegium_relay_behind{{chain="{place}"}} 0.0' in metrics
    assert 'collegium_relay_lost_steps_total{chain="1"} 2.0' in metrics
    assert 'collegium_relay_waits_total{chain="2",reason="chain_silent"}' in metrics


def test_after_a_kill_each_chain_goes_on_where_its_own_record_ends(town: Town) -> None:
    def refuse() -> None:
        raise ChainRecordError("killed")  # ends the line as nothing else does

    town.lines[2].before = refuse
    town.relay("one")
    assert isinstance(town.process.followers[1].refusal, ChainRecordError)
    town.start()
    town.relay("one", "two")
    assert town.check() == [2, 2, 2]
    assert [len(line.raws) for line in town.lines] == [1, 1, 2]


def test_a_chain_that_refuses_is_named_and_the_others_are_served(town: Town) -> None:
    post_as(town.worlds[1], town.records[1], MALLORY, OTHER)  # a quorum that certifies two checkpoints of some rounds
    town.relay("one")
    refusal = town.process.followers[0].refusal
    assert isinstance(refusal, ChainRecordError)
    assert f"the contract has {OTHER.digest.hex()}" in str(refusal)
    assert [len(line.raws) for line in town.lines] == [1, 0, 1]


# ------------------------------------------------------------------------------------------------ what would be sent


DUE = (DueStep(0, ONE), DueStep(1, TWO), DueStep(1, TWO, LATER), DueStep(2, THREE))


def plan(town: Town, due: Sequence[DueStep] = DUE) -> list[RelayPlan]:
    chains = [town.process.chain, *(town._resumed(town._written(place), place) for place in (1, 2))]
    town.process.genesis = type("Genesis", (), {"epoch_set": FIRST_SET})()
    return asyncio.run(asyncio.wait_for(plans_of(town.process, chains, due), 60))


def test_a_dry_run_says_what_each_chain_would_be_sent_and_sends_nothing(town: Town) -> None:
    town.relay("one", "two")
    before = [(len(line.raws), line.block_number()) for line in town.lines]
    home, first, _ = plan(town)
    assert (home.chain, home.step, home.behind) == (0, "opening of epoch 1", 1)
    assert 300_000 < home.gas_max < 600_000
    assert home.fees is not None
    assert home.cost_max_wei == home.gas_max * home.fees.gas_price_max
    assert first.step == home.step
    assert first.calldata_bytes == home.calldata_bytes == 4 + 3 * 32 + 5 * 32 + 4 * 32
    assert [(len(line.raws), line.block_number()) for line in town.lines] == before
    line = _plan_line(home)
    assert line.startswith(f"home, {url(0)}: would send the opening of epoch 1: 388 bytes, at most ")
    assert line.endswith("of the chain's coin; 1 more after it")


def test_a_dry_run_says_why_nothing_would_be_sent(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.process.policy = RelayPolicy(gas=GasPolicy(1))
    for found in plan(town):
        assert found.step == "checkpoint of rounds 0 to 1"
        assert "more than the bound of 1" in found.problem
        assert "is due and would not be sent: a unit of gas costs" in _plan_line(found)
    town.process.policy = RelayPolicy()
    monkeypatch.setattr(town.process.client, "checkpoint_signatures", nobody)
    assert {found.problem for found in plan(town)} == {"no quorum has signed it yet"}
    assert _plan_line(RelayPlan(1, url(1))) == f"chain 1, {url(1)}: nothing to send"
    assert plan(town, DUE[:0])[1] == RelayPlan(1, url(1))


async def nobody(_: object) -> dict[int, bytes]:
    return {}
