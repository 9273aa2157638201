"""Laws of the contracts that pay: tried on a model of plain integers, which is then held equal to the contracts.

- no more is paid out than was paid in;
- at any time every coin is in a budget, unclaimed income, or owed to somebody;
- nothing is paid for a version before the challenge window closes, or for rounds before they are final;
- when all is over nothing stays: of a version's income less than one wei a contributor, of a budget nothing.

A set that lies is allowed: what it says that trainers have earned falls, grows and adds up to anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

import pytest
from _chain_stage import ALICE, DEPLOYER, MALLORY, START_S, embedded
from _money_model import Fees, RefusedError, Rewards, Rules
from _money_stage import (
    CHALLENGE_S,
    CLAIM_S,
    CURATOR,
    DEADLINE_S,
    ROUND_REWARD,
    ROUNDS,
    STRANGER,
    TERMS,
    Money,
    found_money,
)
from _slashing_stage import certify
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collegium.crypto import g1_uncompressed, hash_fields
from collegium.settlement import (
    ContractRefusedError,
    Due,
    claim_fees,
    claim_reward,
    collect,
    contract,
    fund_task,
    header_root,
    pay_for_version,
    pay_place,
    read_budget,
    read_owed,
    read_version,
    reclaim_budget,
    transact,
)
from collegium.settlement._payouts import _leaves, _word

RULES = Rules(
    sponsor=DEPLOYER.address,
    challenge_s=CHALLENGE_S,
    claim_s=CLAIM_S,
    deadline_s=DEADLINE_S,
    round_reward=ROUND_REWARD,
    royalty=TERMS.royalty,
    sponsor_share=TERMS.sponsor_share,
    generations_max=16,
    licences={1: (ALICE.address, ((CURATOR, 1000),))},
)
LINES = st.sampled_from([(ALICE.address, 1), (ALICE.address, 0), (MALLORY.address, 0), (STRANGER, 0), (STRANGER, 1)])
DUES = st.lists(st.tuples(LINES, st.integers(0, 900)), min_size=1, max_size=5).map(
    lambda lines: [Due(account, amount, licence) for (account, licence), amount in lines]
)
ACCOUNTS = (ALICE.address, MALLORY.address, STRANGER, CURATOR, DEPLOYER.address)
AMOUNTS = st.integers(0, 5000)


def tried(act: Callable[..., None], *arguments: object) -> str:
    """Do it, and return the name of the error if it was refused."""
    try:
        act(*arguments)
    except RefusedError as refusal:
        return str(refusal)
    return ""


# --- the model ---


class Laws(RuleBasedStateMachine):
    """Any calls in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards, self.fees = Rewards(RULES), Fees(RULES)
        self.now_s = START_S
        self.paid_at: list[tuple[int, int]] = []

    @rule(seconds=st.sampled_from([1, CHALLENGE_S - 1, CHALLENGE_S, CLAIM_S, DEADLINE_S - START_S]))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(amount=AMOUNTS)
    def fund(self, amount: int) -> None:
        tried(self.rewards.fund, self.now_s, amount)

    @rule(dues=DUES, rounds=st.integers(1, 9), final=st.booleans())
    def settle(self, dues: list[Due], rounds: int, final: bool) -> None:
        before = self.rewards.rounds
        tried(self.rewards.settle, self.now_s, dues, before + rounds, final)
        assert final or self.rewards.rounds == before

    @precondition(lambda self: self.rewards.lines)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        lines = self.rewards.lines
        tried(self.rewards.claim, self.now_s, data.draw(st.integers(0, len(lines) - 1)), lines)

    @rule()
    def reclaim(self) -> None:
        tried(self.rewards.reclaim, self.now_s)

    @rule(dues=DUES, lie=st.integers(-2, 2), data=st.data())
    def register(self, dues: list[Due], lie: int, data: st.DataObject) -> None:
        parent = (
            data.draw(st.one_of(st.none(), st.integers(0, len(self.fees.versions) - 1))) if self.fees.versions else None
        )
        tried(self.fees.register, self.now_s, dues, max(0, sum(due.amount for due in dues) + lie), parent)

    @precondition(lambda self: self.fees.versions)
    @rule(data=st.data(), amount=AMOUNTS, refuted=st.sampled_from([False, False, False, True]))
    def sell(self, data: st.DataObject, amount: int, refuted: bool) -> None:
        number = data.draw(st.integers(0, len(self.fees.versions) - 1))
        sold = self.fees.versions[number]
        sold.refuted = sold.refuted or refuted
        if not tried(self.fees.pay, self.now_s, number, amount):
            assert self.now_s >= sold.opens_at_s
        for index in range(len(sold.dues)):
            tried(self.fees.claim, number, index)

    @rule(account=st.sampled_from(ACCOUNTS))
    def collect(self, account: bytes) -> None:
        tried(self.rewards.purse.collect, account)
        tried(self.fees.purse.collect, account)

    @invariant()
    def every_coin_is_accounted_for(self) -> None:
        self.rewards.check()
        self.fees.check()

    def teardown(self) -> None:
        """In the end everything can leave: a budget whole, an income but for less than one wei a contributor."""
        self.now_s += DEADLINE_S + CHALLENGE_S + CLAIM_S
        tried(self.rewards.reclaim, self.now_s)
        for account in ACCOUNTS:
            tried(self.rewards.purse.collect, account)
        assert self.rewards.purse.balance == 0
        for number, version in enumerate(self.fees.versions):
            claims = [tried(self.fees.claim, number, index) for index in range(len(version.dues))]
            honest = sum(due.amount for due in version.dues) == version.weight and "LicenceOfAnother" not in claims
            assert not honest or version.income - version.claimed < len(version.dues)


TestLaws = Laws.TestCase
TestLaws.settings = settings(stateful_step_count=50)


# --- the contracts ---


@pytest.fixture(scope="module")
def founded() -> Iterator[Money]:
    for world in embedded():
        yield found_money(world)


@dataclass
class Walk:
    """Calls drawn from a seed, made of the contracts and of the model."""

    money: Money
    random: Random
    rewards: Rewards = field(default_factory=lambda: Rewards(RULES))
    fees: Fees = field(default_factory=lambda: Fees(RULES))
    versions: list[bytes] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def chain(self) -> Any:
        return self.money.world.chain

    @property
    def now_s(self) -> int:
        """The timestamp that the next transaction will see."""
        return int(self.chain._pending().timestamp)

    def dues(self) -> list[Due]:
        lines = [(ALICE.address, 1), (ALICE.address, 0), (MALLORY.address, 0), (STRANGER, 0), (STRANGER, 1)]
        drawn = self.random.choices(lines, weights=(4, 4, 4, 4, 1), k=self.random.randint(1, 5))
        return [Due(account, self.random.randrange(300), licence) for account, licence in drawn]

    def both(self, name: str, modelled: Callable[[], None], sent: Callable[[], object]) -> str:
        """Do it in both places: they must agree on whether it is refused, and with which error."""
        expected, actual = tried(modelled), ""
        try:
            sent()
        except ContractRefusedError as refusal:
            actual = refusal.values["error"]
        assert actual == expected, name
        self.outcomes[name, actual] += 1
        return actual

    def step(self) -> None:
        names = ("wait", "settle", "settle", "fund", "claim", "claim", "claim", "claim", "reclaim")
        names += (
            "register",
            "register",
            "sell",
            "sell",
            "sell",
            "claim_fee",
            "claim_fee",
            "claim_fee",
            "collect",
            "collect",
        )
        getattr(self, self.random.choice(names))()
        self.compare()

    def wait(self) -> None:
        self.money.world.advance(self.random.choice([10, CHALLENGE_S // 2, CHALLENGE_S, CHALLENGE_S, CLAIM_S // 2]))

    def settle(self) -> None:
        """Settle rounds whose headers say anything of what was earned, and have it taken over if the court lets it."""
        earned, rounds, final = self.dues(), self.random.randint(1, ROUNDS), self.random.random() < 0.8
        settled = self.money.settle(rounds, earned)
        if not final:
            self.money.hold(settled)
        now, total = self.now_s, settled.last_round + 1
        modelled = partial(self.rewards.settle, now, earned, total, final)
        self.both("settle", modelled, partial(self.money.take_over, settled))
        if not final:  # the next one comes after it
            self.money.hold(settled, held=False)
            modelled = partial(self.rewards.settle, self.now_s, earned, total, True)
            self.both("settle", modelled, partial(self.money.take_over, settled))

    def fund(self) -> None:
        now, amount = self.now_s, self.random.randrange(5000)
        send = partial(fund_task, self.chain, self.money.site, DEPLOYER, self.money.deployment, amount)
        self.both("fund", partial(self.rewards.fund, now, amount), send)

    def claim(self) -> None:
        lines = self.rewards.lines
        if not lines:
            return
        if self.random.random() < 0.1:
            lines = [replace(lines[0], amount=lines[0].amount + 1), *lines[1:]]
        now, index = self.now_s, self.random.randrange(len(lines))
        send = partial(claim_reward, self.chain, self.money.site, MALLORY, self.money.deployment, lines, index)
        self.both("claim", partial(self.rewards.claim, now, index, lines), send)

    def reclaim(self) -> None:
        now = self.now_s
        send = partial(reclaim_budget, self.chain, self.money.site, MALLORY, self.money.deployment)
        self.both("reclaim", partial(self.rewards.reclaim, now), send)

    def register(self) -> None:
        now, dues = self.now_s, self.dues()
        weight = max(0, sum(due.amount for due in dues) + self.random.choice([0, 0, 0, 7, -7]))
        number = self.random.randrange(len(self.versions) + 1) - 1
        parent, named = (None, bytes(32)) if number < 0 else (number, self.versions[number])
        model, root = hash_fields("version", len(self.versions)), header_root(_leaves(dues))
        place = pay_place(self.chain, self.money.deployment, self.money.site.fees)
        digest = hash_fields("fee-version", *place.fields, model, named, root, len(dues), _word(weight))
        arguments = (self.money.deployment.settlement, model, named, root, len(dues), weight, 3)
        call = contract("Fees").call("register", *arguments, g1_uncompressed(certify(digest).signature))
        send = partial(transact, self.chain, MALLORY, self.money.site.fees, call)
        if not self.both("register", partial(self.fees.register, now, dues, weight, parent), send):
            self.versions.append(digest)

    def sell(self) -> None:
        if not self.versions:
            return
        number = self.random.randrange(len(self.versions))
        if self.random.random() < 0.05:
            self.money.court.rule(self.versions[number], MALLORY.address)
            self.fees.versions[number].refuted = True
        now, amount = self.now_s, self.random.choice([0, 1, 7, self.random.randrange(10**6)])
        send = partial(pay_for_version, self.chain, self.money.site, ALICE, self.versions[number], amount)
        self.both("pay", partial(self.fees.pay, now, number, amount), send)

    def claim_fee(self) -> None:
        if not self.versions:
            return
        number = self.random.randrange(len(self.versions))
        dues = self.fees.versions[number].dues
        index = self.random.randrange(len(dues))
        send = partial(claim_fees, self.chain, self.money.site, MALLORY, self.versions[number], dues, index)
        self.both("claim fee", partial(self.fees.claim, number, index), send)

    def collect(self) -> None:
        account = self.random.choice(ACCOUNTS)
        for at, purse in ((self.money.site.rewards, self.rewards.purse), (self.money.site.fees, self.fees.purse)):
            self.both("collect", partial(purse.collect, account), partial(collect, self.chain, at, MALLORY, account))

    def compare(self) -> None:
        """The contracts hold what the model holds, and the model keeps its laws."""
        self.rewards.check()
        self.fees.check()
        found = read_budget(self.chain, self.money.site, self.money.deployment)
        held = (self.rewards.free, self.rewards.spent, self.rewards.rounds)
        assert (found.free, found.spent, found.next_round or 0) == held
        for at, purse in ((self.money.site.rewards, self.rewards.purse), (self.money.site.fees, self.fees.purse)):
            assert self.chain.balance(at) == purse.balance

    def compare_all(self) -> None:
        for at, purse in ((self.money.site.rewards, self.rewards.purse), (self.money.site.fees, self.fees.purse)):
            for account in ACCOUNTS:
                assert read_owed(self.chain, at, account) == purse.owed[account]
        for digest, version in zip(self.versions, self.fees.versions, strict=True):
            found = read_version(self.chain, self.money.site, digest)
            assert (found.income, found.claimed, found.weight) == (version.income, version.claimed, version.weight)


STEPS = 60


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=160)
def test_the_contracts_do_what_the_model_does(founded: Money, seed: int) -> None:
    """More than 10,000 calls in the long run."""
    with founded.world.undone():
        walk = Walk(founded, Random(seed))
        for begin in (walk.fund, walk.settle, walk.claim, walk.register):
            begin()
        founded.world.advance(CHALLENGE_S)
        for _ in range(STEPS):
            walk.step()
        walk.compare_all()
        assert sum(walk.outcomes.values()) >= STEPS // 2
