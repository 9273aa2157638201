"""A task with a budget, settled rounds and licences, and the lists that its set certifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from _chain_stage import ALICE, DEPLOYER, MALLORY, START_S, World
from _slashing_stage import TASK, Court, certify, found_court

from collegium.crypto import hash_fields
from collegium.settlement import (
    Checkpoint,
    CuratorShare,
    Deployment,
    Due,
    MoneySite,
    TaskTerms,
    deploy_money,
    fee_version_digest,
    fund_task,
    header_root,
    issue_licence,
    pay_place,
    post_checkpoint,
    post_rewards,
    post_task,
    read_budget,
    read_head,
    register_version,
    reward_list_digest,
)

CHALLENGE_S = 1000
CLAIM_S = 5000
DEADLINE_S = START_S + 100_000
ROUND_REWARD = 1000
BUDGET = 20_000
ROUNDS = 5
HEADERS = [hash_fields("test-header", index) for index in range(ROUNDS)]
SHARDS = (hash_fields("shard", 0), hash_fields("shard", 1))
CURATOR = bytes([0xC0]) * 20
STRANGER = bytes([0xD0]) * 20

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

    @property
    def world(self) -> World:
        return self.court.world

    @property
    def deployment(self) -> Deployment:
        return self.court.deployment

    def settle(self, rounds: int = ROUNDS) -> Checkpoint:
        head = read_head(self.world.chain, self.deployment)
        last = head.next_round + rounds - 1
        root = header_root(HEADERS[:rounds])
        settled = Checkpoint(TASK, head.epoch, head.next_round, last, head.previous, root)
        post_checkpoint(self.world.chain, self.deployment, DEPLOYER, settled, certify(settled.digest))
        return settled

    def list_digest(self, dues: Sequence[Due], **changes: Any) -> bytes:
        """What the set signs for the next list, but for changes of the place."""
        chain = self.world.chain
        place = pay_place(chain, self.deployment, self.site.rewards)
        previous = read_head(chain, self.deployment).previous
        number = read_budget(chain, self.site, self.deployment).lists
        return reward_list_digest(replace(place, **changes), number, previous, dues)

    def post(self, dues: Sequence[Due], last_round: int | None = None) -> int:
        """Post a list that the set certified for all rounds settled so far."""
        chain = self.world.chain
        last = read_head(chain, self.deployment).next_round - 1 if last_round is None else last_round
        certificate = certify(self.list_digest(dues))
        return post_rewards(chain, self.site, MALLORY, self.deployment, last, dues, certificate)

    def version_digest(self, model: bytes, dues: Sequence[Due], parent: bytes = bytes(32), **changes: Any) -> bytes:
        place = pay_place(self.world.chain, self.deployment, self.site.fees)
        return fee_version_digest(replace(place, **changes), model, dues, parent)

    def register(self, name: int, dues: Sequence[Due], parent: bytes = bytes(32)) -> bytes:
        model = hash_fields("version", name)
        certificate = certify(self.version_digest(model, dues, parent))
        return register_version(self.world.chain, self.site, MALLORY, self.deployment, model, dues, certificate, parent)


def found_money(world: World, token: bytes = bytes(20), terms: TaskTerms = TERMS, task: bytes = TASK) -> Money:
    chain = world.chain
    site = deploy_money(chain, DEPLOYER, challenge_s=CHALLENGE_S, claim_s=CLAIM_S, token=token)

    def post(deployment: Deployment, disputes: bytes) -> None:
        post_task(chain, site, DEPLOYER, deployment, replace(terms, court=disputes), SHARDS)

    court = found_court(world, task, post)
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
    return Money(court, site)


def settled_money(world: World) -> Money:
    """The same with a budget and one checkpoint."""
    money = found_money(world)
    fund_task(world.chain, money.site, DEPLOYER, money.deployment, BUDGET)
    money.settle()
    return money
