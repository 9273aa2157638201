"""A task with a budget, settled rounds whose headers say what was earned, and licences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from _chain_stage import ALICE, DEPLOYER, MALLORY, START_S, World
from _slashing_stage import TASK, Court, artifact, certify, found_court

from collegium.consensus import Header
from collegium.crypto import hash_fields
from collegium.settlement import (
    Checkpoint,
    CuratorShare,
    Deployment,
    Due,
    HeaderPlace,
    MoneySite,
    TaskTerms,
    deploy_money,
    fee_version_digest,
    fund_task,
    header_proof,
    header_root,
    issue_licence,
    pay_place,
    post_checkpoint,
    post_task,
    read_head,
    register_version,
    rewards_root,
    settle_rewards,
    transact,
)

CHALLENGE_S = 1000
CLAIM_S = 5000
DEADLINE_S = START_S + 100_000
ROUND_REWARD = 1000
BUDGET = 20_000
ROUNDS = 5
SHARDS = (hash_fields("shard", 0), hash_fields("shard", 1))
CURATOR = bytes([0xC0]) * 20
STRANGER = bytes([0xD0]) * 20
DUES = [Due(ALICE.address, 600, 1), Due(MALLORY.address, 399), Due(STRANGER, 1)]

TERMS = TaskTerms(
    model=hash_fields("model"),
    rule=hash_fields("rule"),
    privacy=hash_fields("privacy"),
    round_reward=ROUND_REWARD,
    deadline_s=DEADLINE_S,
    cohort_min=4,
    royalty=2000,
    sponsor_share=500,
    level="proved",
)


@dataclass(frozen=True)
class Money:
    """The contracts, on a chain; licence 1 is Alice's, a tenth of which is a curator's."""

    court: Court
    site: MoneySite
    headers: list[Header] = field(default_factory=list)  # by round, as far as they are settled

    @property
    def world(self) -> World:
        return self.court.world

    @property
    def deployment(self) -> Deployment:
        return self.court.deployment

    @contextmanager
    def undone(self) -> Iterator[Money]:
        """Leave chain and headers as they were before."""
        headers = list(self.headers)
        try:
            with self.world.undone():
                yield self
        finally:
            self.headers[:] = headers

    def settle(self, rounds: int = ROUNDS, dues: Sequence[Due] = (), root: bytes | None = None) -> Checkpoint:
        """Settle rounds, the headers of which say that these lines were earned by then, or have this root."""
        head = read_head(self.world.chain, self.deployment)
        del self.headers[head.next_round :]
        said = root or (rewards_root(dues) if dues else bytes(32))
        for number in range(head.next_round, head.next_round + rounds):
            previous = self.headers[-1].digest if self.headers else hash_fields("genesis")
            self.headers.append(header_of(number, previous, said))
        return self.post(head.next_round)

    def post(self, first: int) -> Checkpoint:
        """Settle the headers from this round on."""
        head = read_head(self.world.chain, self.deployment)
        root = header_root([header.digest for header in self.headers[first:]])
        settled = Checkpoint(self.deployment.task, head.epoch, first, len(self.headers) - 1, head.previous, root)
        post_checkpoint(self.world.chain, self.deployment, DEPLOYER, settled, certify(settled.digest))
        return settled

    def place(self, settled: Checkpoint, number: int) -> HeaderPlace:
        """Return where a header is."""
        digests = [header.digest for header in self.headers[settled.first_round : settled.last_round + 1]]
        at = number - settled.first_round
        return HeaderPlace(settled, number, digests[at], header_proof(digests, at))

    def take_over(self, settled: Checkpoint) -> None:
        """Have the contract take over what the last header under a checkpoint says."""
        last = settled.last_round
        arguments = (self.deployment, self.headers[last].preimage, self.place(settled, last))
        settle_rewards(self.world.chain, self.site, MALLORY, *arguments)

    def earn(self, dues: Sequence[Due], rounds: int = ROUNDS) -> None:
        """Settle rounds by the end of which these lines were earned, and have them taken over."""
        self.take_over(self.settle(rounds, dues))

    def hold(self, settled: Checkpoint, *, held: bool = True) -> None:
        """Let the court say whether a checkpoint is final."""
        call = artifact("TestCourt").call("hold", settled.digest, held)
        transact(self.world.chain, DEPLOYER, self.court.site.disputes, call)

    def version_digest(self, model: bytes, dues: Sequence[Due], parent: bytes = bytes(32), **changes: Any) -> bytes:
        place = pay_place(self.world.chain, self.deployment, self.site.fees)
        return fee_version_digest(replace(place, **changes), model, dues, parent)

    def register(self, name: int, dues: Sequence[Due], parent: bytes = bytes(32)) -> bytes:
        model = hash_fields("version", name)
        certificate = certify(self.version_digest(model, dues, parent))
        return register_version(self.world.chain, self.site, MALLORY, self.deployment, model, dues, certificate, parent)


def header_of(number: int, previous: bytes, rewards: bytes, task: bytes = TASK) -> Header:
    """Return a header of the task that says this of rewards."""
    nothing, beacon = bytes(32), bytes(48)
    return Header(
        task, number, "proved", previous, nothing, "opened", (), nothing, nothing, (), beacon, (), (), rewards=rewards
    )


def found_money(
    world: World,
    token: bytes = bytes(20),
    terms: TaskTerms = TERMS,
    task: bytes = TASK,
    court: bytes | None = None,
) -> Money:
    """Found a task that pays; `court`: another one than the stage's."""
    chain = world.chain
    site = deploy_money(chain, DEPLOYER, challenge_s=CHALLENGE_S, claim_s=CLAIM_S, token=token)

    def post(deployment: Deployment, disputes: bytes) -> None:
        named = disputes if court is None else court
        post_task(chain, site, DEPLOYER, deployment, replace(terms, court=named), SHARDS)

    founded = found_court(world, task, post)
    issue_licence(
        chain,
        site,
        ALICE,
        hash_fields("rows"),
        hash_fields("text"),
        jurisdiction="DE",
        royalty=1000,
        curators=[CuratorShare(CURATOR, 1000)],
    )
    return Money(founded, site)


def settled_money(world: World, dues: Sequence[Due] = ()) -> Money:
    """The same with a budget and one checkpoint, by which these lines were earned."""
    money = found_money(world)
    fund_task(world.chain, money.site, DEPLOYER, money.deployment, BUDGET)
    money.settle(dues=dues)
    return money
