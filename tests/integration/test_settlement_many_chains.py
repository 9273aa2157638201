"""One task on eight chains: one certificate settles on all of them, and what is of one chain serves on no other.

Six embedded chains and two anvils, of both hard forks; with `COLLEGIUM_FULL=1` eight embedded ones too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from _chain_stage import ALICE, CHAIN_ID, COIN, DEPLOYER, MALLORY, STREAM, World, anvil, embedded, pass_time, refused

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
    header_root,
    issue_licence,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    post_task,
    read_checkpoints,
    read_head,
    read_member,
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


# --- a trainer on its own chain ---


def test_a_trainer_registers_and_is_paid_on_its_own_chain_by_the_certificate_of_all_chains(chains: list[Site]) -> None:
    own, neighbour = (paying(site) for site in (chains[-1], chains[1]))
    (site, money), trainer = own, ALICE
    chain = site.chain
    member = enrol(chain, site.deployment, trainer, Role.TRAINER, b"\x01" * 32, FOLLOWER_STAKE_WEI)
    assert read_member(chain, site.deployment, member).account == trainer.address
    licence = issue_licence(chain, money, trainer, hash_fields("rows"), hash_fields("text"), jurisdiction="DE")
    assert admits_licence(chain, money, site.deployment, licence)

    dues = [Due(trainer.address, 4000, licence, chain.chain_id), Due(MALLORY.address, 1000)]
    around = (bytes(32), bytes(32), "opened", (), bytes(32), bytes(32), (), bytes(48), (), ())
    header = Header(TASK, 0, "proved", *around, rewards=rewards_root(dues))  # type: ignore[arg-type]
    settled = Checkpoint(TASK, 0, 0, 0, bytes(32), header_root([header.digest]))
    place = HeaderPlace(settled, 0, header.digest, ())
    for other, paying_there in (own, neighbour):
        other.settle(Step(settled, certify(settled.digest)))
        settle_rewards(other.chain, paying_there, MALLORY, other.deployment, header.preimage, place)
    with refused("NotEarned"):  # it is paid on that chain alone, on the same certificate
        claim_reward(neighbour[0].chain, neighbour[1], MALLORY, neighbour[0].deployment, dues, 0)
    with refused("NotEarned"):  # this one is paid at home
        claim_reward(chain, money, MALLORY, site.deployment, dues, 1)
    claim_reward(chain, money, MALLORY, site.deployment, dues, 0)
    before = chain.balance(trainer.address)
    assert read_owed(chain, money.rewards, trainer.address) == 4000
    assert collect(chain, money.rewards, MALLORY, trainer.address) == 4000
    assert chain.balance(trainer.address) == before + 4000


def paying(site: Site) -> tuple[Site, MoneySite]:
    """The task with a budget, founded once more on a site's chain."""
    money = deploy_money(site.chain, DEPLOYER, challenge_s=CHALLENGE_S, claim_s=CLAIM_S, on=site.chain.chain_id)
    own = found(site.world, 1, keys=KEYS, money=money)
    fund_task(site.chain, money, DEPLOYER, own.deployment, COIN)
    return own, money


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
