"""One task on eight chains: one certificate settles on all of them, and what is of one chain serves on no other.

Six embedded chains and two anvils, of both hard forks; with `COLLEGIUM_FULL=1` eight embedded ones too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest
from _chain_stage import ALICE, CHAIN_ID, DEPLOYER, MALLORY, STREAM, World, anvil, embedded, pass_time, refused
from _money_stage import header_of

from collegium.consensus import Header
from collegium.crypto import BlsSecretKey, Certificate, hash_fields, make_certificate
from collegium.settlement import (
    FOLLOWER_STAKE_WEI,
    NO_CHECKPOINT,
    Chain,
    Checkpoint,
    CheckpointOrderError,
    Deployment,
    Due,
    HeaderPlace,
    MoneySite,
    Role,
    TaskTerms,
    admits_licence,
    claim_reward,
    collect,
    deploy,
    deploy_follower,
    deploy_money,
    enrol,
    fund_task,
    handover_digest,
    header_proof,
    header_root,
    issue_licence,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    post_task,
    read_budget,
    read_checkpoints,
    read_head,
    read_owed,
    register_validator,
    rewards_root,
    settle_rewards,
    unbond,
    withdraw,
)

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"

COUNT = 8
SIZE = 4
STAKE = 100
UNBONDING_S = 1000
GAS_MAX = 1_000_000
CHALLENGE_S, CLAIM_S = 100, 5_000
TASK, ANOTHER_TASK = hash_fields("many-chains"), hash_fields("another-task")
KEYS = [BlsSecretKey.generate(STREAM) for _ in range(SIZE)]
NEXT = (2, 0, 3, 1)  # who sits where after the handover


@dataclass(frozen=True)
class Site:
    """The task on one chain; `ids` are the validators' numbers there, which no two chains need give alike."""

    world: World
    deployment: Deployment
    ids: tuple[int, ...]

    @property
    def chain(self) -> Chain:
        return self.world.chain

    @property
    def settled(self) -> tuple[Checkpoint, ...]:
        return read_checkpoints(self.chain, self.deployment)

    def settle(self, step: Step) -> None:
        """Anyone's account will do."""
        if isinstance(step.what, Checkpoint):
            post_checkpoint(self.chain, self.deployment, MALLORY, step.what, step.certificate)
        else:
            ids = [self.ids[place] for place in step.what]
            open_epoch(self.chain, self.deployment, MALLORY, ids, step.certificate)


@dataclass(frozen=True)
class Step:
    """A checkpoint, or who sits where in the next set, and the one certificate of it."""

    what: Checkpoint | tuple[int, ...]
    certificate: Certificate


@pytest.fixture(scope="module", params=[pytest.param("anvil", marks=pytest.mark.node), *(["embedded"] if FULL else [])])
def sites(request: pytest.FixtureRequest) -> Iterator[list[Site]]:
    """The home chain first; seven that follow."""
    names = ["embedded"] * COUNT if request.param == "embedded" else [*["embedded"] * 6, "prague", "osaka"]
    with ExitStack() as stack:
        yield [found(stack.enter_context(running(name, place)), place) for place, name in enumerate(names)]


@contextmanager
def running(name: str, place: int) -> Iterator[World]:
    chain_id = CHAIN_ID + place
    yield from embedded(chain_id) if name == "embedded" else anvil(name, chain_id)


@pytest.fixture
def chains(sites: list[Site]) -> Iterator[list[Site]]:
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(site.world.undone())
        yield sites


def found(
    world: World, place: int, task: bytes = TASK, keys: Sequence[BlsSecretKey] = KEYS, money: MoneySite | None = None
) -> Site:
    """Found the task: at home with stakes, elsewhere without; validators register in another order on each chain."""
    chain, stake = world.chain, 0 if place else STAKE
    if place == 0:
        deployment = deploy(chain, DEPLOYER, task, stake_min_wei=STAKE, unbonding_s=UNBONDING_S)
    else:
        deployment = deploy_follower(chain, DEPLOYER, task)
    ids = [0] * len(keys)
    for turn in range(len(keys)):
        seat = (turn + place) % len(keys)
        ids[seat] = register(world, deployment, keys[seat], stake)
    if money is not None:
        digests = (hash_fields(name) for name in ("model", "rule", "privacy"))
        terms = TaskTerms(*digests, 1000, chain.timestamp_s() + 10**6, 3, 0, 0, "proved")
        post_task(chain, money, DEPLOYER, deployment, terms)
    open_first_epoch(chain, deployment, DEPLOYER, ids)
    return Site(world, deployment, tuple(ids))


def register(world: World, deployment: Deployment, key: BlsSecretKey, stake: int) -> int:
    proof = key.prove_possession(possession_context(world.chain.chain_id, deployment.registry, ALICE.address))
    return register_validator(world.chain, deployment, ALICE, key.public_key(), proof, stake, gas_max=GAS_MAX)


def certify(digest: bytes, seats: Sequence[int] = range(SIZE), order: Sequence[int] = range(SIZE)) -> Certificate:
    """The certificate of these seats, of the set that sits in this order."""
    return make_certificate(SIZE, {seat: KEYS[order[seat]].sign(digest) for seat in seats})


def checkpoint(first: int, last: int, previous: Checkpoint | None, epoch: int = 0, task: bytes = TASK) -> Checkpoint:
    root = header_root([hash_fields("header", number) for number in range(first, last + 1)])
    return Checkpoint(task, epoch, first, last, previous.digest if previous else NO_CHECKPOINT, root)


FIRST = checkpoint(0, 4, None)
SECOND = checkpoint(5, 9, FIRST)
THIRD = checkpoint(10, 14, SECOND, epoch=1)
ONE = Step(FIRST, certify(FIRST.digest))
TWO = Step(SECOND, certify(SECOND.digest, (0, 1, 3)))
OPENING = handover_digest(TASK, 1, SECOND.digest, [KEYS[place].public_key() for place in NEXT])
HANDOVER = Step(NEXT, certify(OPENING))
THREE = Step(THIRD, certify(THIRD.digest, order=NEXT))
ALL = (ONE, TWO, HANDOVER, THREE)


# --- what must succeed everywhere ---


def test_one_certificate_settles_on_eight_chains_and_a_lagging_one_catches_up(chains: list[Site]) -> None:
    """No digest names a chain; the last chain takes nothing until all is done, and then the same, in order."""
    assert len({site.chain.chain_id for site in chains}) == COUNT
    assert len({site.ids for site in chains}) == SIZE
    *present, lagging = chains
    for step in ALL:
        for site in present:
            site.settle(step)
    with refused("WrongEpoch"):
        lagging.settle(THREE)
    with refused("InvalidCertificate"):
        lagging.settle(HANDOVER)  # it names the last checkpoint, which has to come first
    for step in ALL:
        lagging.settle(step)
    for site in chains:
        head = read_head(site.chain, site.deployment)
        assert (head.epoch, head.next_round, head.previous) == (1, 15, THIRD.digest)
        assert site.settled == (FIRST, SECOND, THIRD)


def test_what_a_reorganisation_took_back_settles_again_with_the_same_certificate(chains: list[Site]) -> None:
    site = chains[-1]
    site.settle(ONE)
    saved = site.world.save()
    site.settle(TWO)
    site.settle(HANDOVER)
    site.world.restore(saved)
    assert site.settled == (FIRST,)
    with refused("WrongEpoch"):
        site.settle(THREE)
    for step in (TWO, HANDOVER, THREE):
        site.settle(step)
    assert site.settled == (FIRST, SECOND, THIRD)


# --- what must fail ---


def test_a_certificate_of_another_task_settles_nowhere(chains: list[Site]) -> None:
    other = checkpoint(0, 4, None, task=ANOTHER_TASK)
    step = Step(other, certify(other.digest))
    for site in chains[:2]:
        with pytest.raises(CheckpointOrderError, match=ANOTHER_TASK.hex()):
            site.settle(step)
        with refused("InvalidCertificate"):  # said to be of this task
            site.settle(Step(FIRST, step.certificate))


def test_a_certificate_settles_only_where_its_signers_sit(chains: list[Site]) -> None:
    """The same task, founded by others with their own keys, or with the same keys in other seats."""
    strangers = [BlsSecretKey.generate(STREAM) for _ in range(SIZE)]
    for keys in (strangers, [KEYS[place] for place in NEXT]):
        elsewhere = found(chains[1].world, 1, keys=keys)
        with refused("InvalidCertificate"):
            elsewhere.settle(TWO_OF_FIRST)
        assert elsewhere.settled == ()


TWO_OF_FIRST = Step(FIRST, certify(FIRST.digest, (0, 1, 3)))  # of all seats alike, the order would not matter


def test_a_set_that_a_chain_relieved_settles_nothing_more_there(chains: list[Site]) -> None:
    late = checkpoint(10, 14, SECOND)
    site = chains[-1]
    for step in (ONE, TWO, HANDOVER):
        site.settle(step)
    with refused("WrongEpoch"):
        site.settle(Step(late, certify(late.digest)))
    with refused("WrongRounds"):
        site.settle(Step(checkpoint(5, 9, FIRST, epoch=1), certify(SECOND.digest)))
    with refused("InvalidCertificate"):
        site.settle(HANDOVER)


def test_a_proof_of_possession_serves_on_its_own_chain_alone(chains: list[Site]) -> None:
    key = BlsSecretKey.generate(STREAM)
    one, another = chains[1], chains[-1]
    proof = key.prove_possession(possession_context(one.chain.chain_id, one.deployment.registry, ALICE.address))
    with refused("InvalidPossession"):
        register_validator(another.chain, another.deployment, ALICE, key.public_key(), proof, FOLLOWER_STAKE_WEI)
    assert register_validator(one.chain, one.deployment, ALICE, key.public_key(), proof, FOLLOWER_STAKE_WEI) == SIZE


# --- trainers on their own chains ---


@dataclass(frozen=True)
class PayOffice:
    """The task on one chain, founded with what pays there."""

    site: Site
    money: MoneySite

    @property
    def chain(self) -> Chain:
        return self.site.chain

    def take_over(self, dues: Sequence[Due]) -> None:
        """What the last header of the first checkpoint says of these lines, on any chain that has that checkpoint."""
        headers, settled = said(dues)
        digests = [header.digest for header in headers]
        place = HeaderPlace(settled, LAST, digests[LAST], header_proof(digests, LAST))
        settle_rewards(self.chain, self.money, MALLORY, self.site.deployment, headers[LAST].preimage, place)

    def claim(self, dues: Sequence[Due], index: int) -> None:
        claim_reward(self.chain, self.money, MALLORY, self.site.deployment, dues, index)

    def collected(self, account: bytes) -> int:
        """Have what is owed sent, and return by how much the account has more; 0 if nothing was owed."""
        before = self.chain.balance(account)
        if read_owed(self.chain, self.money.rewards, account):
            collect(self.chain, self.money.rewards, MALLORY, account)
        return self.chain.balance(account) - before


LAST = 4


def said(dues: Sequence[Due]) -> tuple[list[Header], Checkpoint]:
    """Five headers, the last of which says what was earned on all chains by then; and their checkpoint."""
    headers = list[Header]()
    for number in range(LAST + 1):
        previous = headers[-1].digest if headers else hash_fields("genesis")
        headers.append(header_of(number, previous, rewards_root(dues) if number == LAST else bytes(32), TASK))
    root = header_root([header.digest for header in headers])
    return headers, Checkpoint(TASK, 0, 0, LAST, NO_CHECKPOINT, root)


def paying(site: Site, place: int, budget: int) -> PayOffice:
    """Found the task once more on a site's chain, with a budget: at home its lines name no chain."""
    number = site.chain.chain_id if place else 0
    money = deploy_money(site.chain, DEPLOYER, challenge_s=CHALLENGE_S, claim_s=CLAIM_S, on=number)
    own = found(site.world, place, money=money)
    fund_task(site.chain, money, DEPLOYER, own.deployment, budget)
    return PayOffice(own, money)


PLACES = (0, 3, COUNT - 1)  # home; an embedded one; an anvil
TRAINER_WEI, BUDGET_WEI = 4000, 4500
BERTHA, CLARA = (bytes([letter]) * 20 for letter in (0xBE, 0xC1))


def offices(chains: list[Site]) -> tuple[list[PayOffice], list[Due]]:
    """Three chains that pay, and one header's lines: a trainer's at home, and one's on each of two that follow.

    The trainer on the last one has registered there and has a licence there.
    """
    paid = [paying(chains[place], place, BUDGET_WEI) for place in PLACES]
    own = paid[-1]
    enrol(own.chain, own.site.deployment, ALICE, Role.TRAINER, b"\x01" * 32, FOLLOWER_STAKE_WEI)
    licence = issue_licence(own.chain, own.money, ALICE, hash_fields("rows"), hash_fields("text"), jurisdiction="DE")
    assert admits_licence(own.chain, own.money, own.site.deployment, licence)
    there = [office.chain.chain_id for office in paid]
    dues = [
        Due(BERTHA, TRAINER_WEI, 0, 0),
        Due(CLARA, TRAINER_WEI, 0, there[1]),
        Due(ALICE.address, TRAINER_WEI, licence, there[2]),
    ]
    return paid, dues


def test_one_header_pays_trainers_on_three_chains_each_on_its_own_and_once(chains: list[Site]) -> None:
    """The same certificate on all; a line that is another chain's, or was paid, is refused by name."""
    paid, dues = offices(chains)
    _, settled = said(dues)
    step = Step(settled, certify(settled.digest))
    for office in paid:
        office.site.settle(step)
        office.take_over(dues)
    for place, office in enumerate(paid):
        for line in range(len(dues)):
            if line != place:
                with refused("NotEarned"):
                    office.claim(dues, line)
        office.claim(dues, place)
        with refused("AlreadyClaimed"):
            office.claim(dues, place)
        assert office.collected(dues[place].account) == TRAINER_WEI
        assert not any(office.collected(due.account) for due in dues)
    lie = [replace(due, chain=paid[0].chain.chain_id) if due.chain == 0 else due for due in dues]
    for office in paid[1:]:
        with refused("NotEarned"):
            office.claim(lie, 0)


def test_a_chain_that_lags_pays_when_it_has_caught_up_and_no_other_pays_for_it(chains: list[Site]) -> None:
    (home, present, lagging), dues = offices(chains)
    _, settled = said(dues)
    step = Step(settled, certify(settled.digest))
    for office in (home, present):
        office.site.settle(step)
        office.take_over(dues)
    with refused("UnknownCheckpoint"):
        lagging.take_over(dues)
    for office in (home, present, lagging):
        with refused("NotEarned"):
            office.claim(dues, 2)
    lagging.site.settle(step)
    lagging.take_over(dues)
    lagging.claim(dues, 2)
    assert lagging.collected(dues[2].account) == TRAINER_WEI


def test_what_a_reorganisation_took_back_is_paid_again_there_and_once(chains: list[Site]) -> None:
    """The coin went back with the block that sent it, so that nobody has it twice."""
    paid, dues = offices(chains)
    office, (_, settled) = paid[-1], said(dues)
    step, account = Step(settled, certify(settled.digest)), dues[2].account
    before, saved = office.chain.balance(account), office.site.world.save()

    def paid_once() -> None:
        office.site.settle(step)
        office.take_over(dues)
        office.claim(dues, 2)
        with refused("AlreadyClaimed"):
            office.claim(dues, 2)
        assert office.collected(account) == TRAINER_WEI
        assert office.chain.balance(account) == before + TRAINER_WEI

    paid_once()
    office.site.world.restore(saved)
    assert office.site.settled == ()
    assert office.chain.balance(account) == before
    with refused("NotEarned"):
        office.claim(dues, 2)
    paid_once()


def test_a_budget_that_is_too_small_pays_nothing_of_a_line_and_all_of_it_later(chains: list[Site]) -> None:
    (_, _, office), dues = offices(chains)
    missing = 100
    dues.append(Due(CLARA, BUDGET_WEI - TRAINER_WEI + missing, 0, dues[2].chain))
    _, settled = said(dues)
    office.site.settle(Step(settled, certify(settled.digest)))
    office.take_over(dues)
    office.claim(dues, 2)
    with refused("ExceedsBudget"):
        office.claim(dues, 3)
    held = read_budget(office.chain, office.money, office.site.deployment)
    assert (held.free, held.spent) == (BUDGET_WEI - TRAINER_WEI, TRAINER_WEI)
    assert office.collected(CLARA) == 0
    fund_task(office.chain, office.money, MALLORY, office.site.deployment, missing)
    office.claim(dues, 3)
    assert office.collected(CLARA) == dues[3].amount


# --- no stake, no leaving ---


def test_nobody_stops_a_follower_by_leaving_it(chains: list[Site]) -> None:
    """At home who unbonded long ago, without a seat, gets none; at a follower there is nothing to take back."""
    joining = BlsSecretKey.generate(STREAM)
    members = [*(KEYS[place].public_key() for place in NEXT[1:]), joining.public_key()]
    certificate = certify(handover_digest(TASK, 1, FIRST.digest, members))
    for site in (chains[0], chains[-1]):
        site.settle(ONE)
        number = register(site.world, site.deployment, joining, STAKE if site is chains[0] else FOLLOWER_STAKE_WEI)
        unbond(site.chain, site.deployment, ALICE, number)
        pass_time(site.world, 100 * UNBONDING_S)
        ids = [*(site.ids[place] for place in NEXT[1:]), number]
        if site is chains[0]:
            with refused("NotBonded"):
                open_epoch(site.chain, site.deployment, MALLORY, ids, certificate)
        else:
            with refused("NothingToWithdraw"):
                withdraw(site.chain, site.deployment, ALICE, number)
            open_epoch(site.chain, site.deployment, MALLORY, ids, certificate)
