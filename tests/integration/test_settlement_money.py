"""Licences, terms, rewards and fees: what each is for, and what would be theft."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from _chain_stage import ALICE, CHAIN_ID, DEPLOYER, MALLORY, World, embedded, pass_time, refused
from _money_stage import (
    BUDGET,
    CHALLENGE_S,
    CLAIM_S,
    CURATOR,
    DEADLINE_S,
    DUES,
    ROUND_REWARD,
    ROUNDS,
    SHARDS,
    STRANGER,
    TERMS,
    Money,
    found_money,
    header_of,
    settled_money,
)
from _slashing_stage import (
    BOND,
    HONEST_BLS,
    LYING_BLS,
    STAKE,
    TASK,
    UNBONDING_S,
    artifact,
    certify,
    key_sum,
    rows_digest,
)

from collegium.crypto import hash_fields
from collegium.lineage import Influence, Lineage, Parent, UnknownDatasetError
from collegium.settlement import (
    ConsentStandsError,
    CuratorShare,
    DataLicence,
    Deployment,
    Due,
    Role,
    TransactionFailedError,
    admits_licence,
    approve,
    claim_fees,
    claim_reward,
    collect,
    contract,
    demand_rows,
    deploy,
    deploy_money,
    dues_of_influence,
    enrol,
    expose_header,
    fund_task,
    header_proof,
    header_root,
    issue_licence,
    open_first_epoch,
    pay_for_version,
    possession_context,
    post_task,
    raise_stake,
    read_budget,
    read_checkpoints,
    read_licence,
    read_member,
    read_owed,
    read_paid,
    read_shard_roots,
    read_task,
    read_version,
    read_withdrawal,
    reclaim_budget,
    register_validator,
    register_version,
    revoke_licence,
    rewards_root,
    settle_rewards,
    transact,
)
from collegium.settlement._earnings import _leaves as _lines
from collegium.settlement._payouts import _leaves

CODE_BYTES_MAX = 24_576  # EIP-170
TRANSACTION_GAS_MAX = 16_777_216  # EIP-7825
ANYBODY = DEPLOYER  # whoever sends a claim, the coin goes where the line says
ZERO = bytes(32)


@pytest.fixture(scope="module")
def founded() -> Iterator[Money]:
    for world in embedded():
        yield settled_money(world)


@pytest.fixture
def money(founded: Money) -> Iterator[Money]:
    with founded.undone():
        yield founded


# --- licences ---


def test_a_licence_says_what_its_holder_lets_others_do_until_it_is_revoked(money: Money) -> None:
    chain, site = money.world.chain, money.site
    found = read_licence(chain, site, 1)
    shares = (CuratorShare(CURATOR, 1000),)
    assert found == DataLicence(
        ALICE.address, hash_fields("rows"), hash_fields("text"), "DE", 1000, found.issued_at_s, 0, shares
    )
    assert admits_licence(chain, site, money.deployment, 1)
    revoke_licence(chain, site, ALICE, 1)
    assert read_licence(chain, site, 1).revoked_at_s == chain.timestamp_s()
    assert not admits_licence(chain, site, money.deployment, 1)
    with refused("AlreadyRevoked"):
        revoke_licence(chain, site, ALICE, 1)


def test_a_task_that_grants_too_little_royalty_does_not_admit_a_licence(money: Money) -> None:
    chain, site = money.world.chain, money.site
    for royalty, admitted in ((TERMS.royalty, True), (TERMS.royalty + 1, False)):
        number = issue_licence(
            chain, site, MALLORY, hash_fields("rows"), hash_fields("text"), jurisdiction="FR", royalty=royalty
        )
        assert admits_licence(chain, site, money.deployment, number) is admitted


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"jurisdiction": "de"}, "NotACountry"),
        ({"jurisdiction": "D1"}, "NotACountry"),
        ({"royalty": 10_001}, "SharesTooLarge"),
        ({"curators": [CuratorShare(CURATOR, 5000), CuratorShare(CURATOR, 5001)]}, "SharesTooLarge"),
        ({"curators": [CuratorShare(bytes(20), 1)]}, "NoCurator"),
        ({"curators": [CuratorShare(CURATOR, 1)] * 9}, "TooManyCurators"),
    ],
    ids=str,
)
def test_a_licence_that_could_not_be_kept_is_refused(money: Money, change: dict[str, Any], error: str) -> None:
    fields = {"jurisdiction": "DE", **change}
    with refused(error):
        issue_licence(money.world.chain, money.site, ALICE, hash_fields("a"), hash_fields("b"), **fields)
    with refused("EmptyDigest"):
        issue_licence(money.world.chain, money.site, ALICE, bytes(32), hash_fields("b"), jurisdiction="DE")


def test_a_withdrawal_names_the_versions_that_carry_weight_from_the_data(money: Money) -> None:
    """From the holder's word on the chain to the versions in the lineage."""
    chain, site = money.world.chain, money.site
    rows, others = hash_fields("rows"), hash_fields("other rows")
    with Lineage("sqlite://") as lineage:
        lineage.record("dataset", 0, rows, "bonn", ())
        lineage.record("dataset", 0, others, "ulm", ())
        before: tuple[Parent, ...] = ()
        for number, weight in ((1, 0), (2, 3), (3, 0)):
            lineage.record("report", number, report := hash_fields("r", number), "anna", (Parent(rows, "dataset", 1),))
            lineage.record("sum", number, total := hash_fields("s", number), "", (Parent(report, "report", weight),))
            model = hash_fields("m", number)
            lineage.record("model", number, model, "", (*before, Parent(total, "sum", 1)))
            before = (Parent(model, "previous", 1),)
        with pytest.raises(ConsentStandsError):
            read_withdrawal(chain, site, 1, lineage)
        revoke_licence(chain, site, ALICE, 1)
        withdrawn = read_withdrawal(chain, site, 1, lineage)
        assert withdrawn.models == (hash_fields("m", 2), hash_fields("m", 3))  # the first was made without weight
        assert withdrawn.licence.revoked_at_s == chain.timestamp_s()
    with Lineage("sqlite://") as lineage, pytest.raises(UnknownDatasetError):
        read_withdrawal(chain, site, 1, lineage)


# --- terms ---


def test_terms_are_read_back_and_stay(money: Money) -> None:
    chain, site = money.world.chain, money.site
    found = read_task(chain, site, money.deployment)
    assert found.terms == replace(TERMS, court=money.court.site.disputes)
    assert (found.sponsor, found.first_round) == (DEPLOYER.address, 0)
    assert read_shard_roots(chain, site, money.deployment) == SHARDS
    with refused("AlreadyPosted"):
        post_task(chain, site, DEPLOYER, money.deployment, TERMS)


def test_terms_come_from_the_deployer_before_anything_is_learned(money: Money) -> None:
    chain, site = money.world.chain, money.site
    closed = deploy(chain, DEPLOYER, hash_fields("closed"), unbonding_s=CHALLENGE_S)
    with refused("NotTheDeployer"):
        post_task(chain, site, MALLORY, closed, TERMS)
    for change, error in (
        ({"model": bytes(32)}, "EmptyDigest"),
        ({"privacy": bytes(32)}, "EmptyDigest"),
        ({"royalty": 5001}, "ShareTooLarge"),
        ({"sponsor_share": 5001}, "ShareTooLarge"),
        ({"deadline_s": chain.timestamp_s() - 1}, "DeadlinePassed"),
    ):
        with refused(error):
            post_task(chain, site, DEPLOYER, closed, replace(TERMS, **change))
    with refused("TooManyShards"):
        post_task(chain, site, DEPLOYER, closed, TERMS, [hash_fields("shard", index) for index in range(65)])
    post_task(chain, site, DEPLOYER, closed, TERMS, [hash_fields("shard", index) for index in range(64)])

    other = deploy_money(chain, DEPLOYER, challenge_s=CHALLENGE_S + 1)
    with refused("AlreadyRunning"):
        post_task(chain, other, DEPLOYER, money.deployment, TERMS)
    with refused("DelayTooShort"):  # a stake that is free before what it certified can be paid
        post_task(chain, other, DEPLOYER, closed, TERMS)


def test_a_window_that_no_clock_reaches_is_refused(money: Money) -> None:
    """A time is kept in 48 bits: a window beyond them must not come round to the past."""
    chain, window = money.world.chain, 1 << 48
    site = deploy_money(chain, DEPLOYER, challenge_s=window)
    deployment = deploy(chain, DEPLOYER, TASK, stake_min_wei=STAKE, unbonding_s=window)
    post_task(chain, site, DEPLOYER, deployment, TERMS)
    for account, secret in ((ALICE, HONEST_BLS), (MALLORY, LYING_BLS)):
        proof = secret.prove_possession(possession_context(CHAIN_ID, deployment.registry, account.address))
        register_validator(chain, deployment, account, secret.public_key(), proof, STAKE)
    open_first_epoch(chain, deployment, DEPLOYER, (0, 1))
    absurd = Money(replace(money.court, deployment=deployment), site)
    absurd.settle()
    fund_task(chain, site, DEPLOYER, deployment, BUDGET)
    with refused("SafeCastOverflowedUintDowncast"):
        absurd.register(1, DUES)
    created = transact(chain, DEPLOYER, None, contract("Availability").creation(TASK, BOND, window)).contract
    assert created is not None
    court = replace(money.court.site, availability=created)
    with refused("SafeCastOverflowedUintDowncast"):
        demand_rows(chain, court, DEPLOYER, key_sum(1), rows_digest(key_sum(1)))


# --- rewards ---


def line(money: Money, dues: Sequence[Due], index: int) -> None:
    claim_reward(money.world.chain, money.site, ANYBODY, money.deployment, dues, index)


def test_what_a_header_says_is_paid_once_its_checkpoint_is_final_and_then_what_came_since(money: Money) -> None:
    chain, site = money.world.chain, money.site
    settled = money.settle(1, DUES)
    money.hold(settled)
    with refused("WrongFirstRound"):  # the one before it first
        money.take_over(settled)
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    with refused("NotFinal"):
        money.take_over(settled)
    with refused("NotEarned"):
        line(money, DUES, 0)
    money.hold(settled, held=False)
    money.take_over(settled)
    with refused("WrongFirstRound"):
        money.take_over(settled)
    for index in range(3):
        line(money, DUES, index)
        with refused("AlreadyClaimed"):
            line(money, DUES, index)
    owed = {account: read_owed(chain, site.rewards, account) for account in (ALICE.address, CURATOR, STRANGER)}
    assert owed == {ALICE.address: 540, CURATOR: 60, STRANGER: 1}
    assert collect(chain, site.rewards, MALLORY, CURATOR) == chain.balance(CURATOR) == 60
    more = [replace(DUES[0], amount=1000), *DUES[1:]]
    money.earn(more, 1)
    line(money, more, 0)
    assert read_owed(chain, site.rewards, ALICE.address) == 900
    assert read_paid(chain, site, money.deployment, 0) == 1000
    with refused("AlreadyClaimed"):
        line(money, more, 1)


def test_a_header_that_does_not_follow_the_one_before_it_is_never_taken_over(money: Money) -> None:
    """It would rest on one that nobody can dispute, as that is under no checkpoint."""
    chain, site, at = money.world.chain, money.site, money.deployment
    first = read_checkpoints(chain, at)[0]
    money.take_over(first)
    hidden = header_of(ROUNDS, money.headers[ROUNDS - 1].digest, rewards_root(DUES))
    after = header_of(ROUNDS + 1, hidden.digest, rewards_root(DUES))
    money.headers[ROUNDS:] = [replace(hidden, rewards=bytes(32)), after]
    settled = money.post(ROUNDS)
    places = [money.place(settled, number) for number in (ROUNDS, ROUNDS + 1)]
    honest = (money.headers[ROUNDS].preimage, places[0], money.place(first, ROUNDS - 1))
    with refused("Follows"):
        expose_header(chain, site, ALICE, at, *honest)
    with refused("HeaderNotIncluded"):
        expose_header(chain, site, ALICE, at, money.headers[-1].preimage, places[1], replace(places[0], header=ZERO))
    expose_header(chain, site, ALICE, at, money.headers[-1].preimage, places[1], places[0])
    assert read_budget(chain, site, at).broken_round == ROUNDS + 1
    with refused("DoesNotFollow"):
        expose_header(chain, site, ALICE, at, money.headers[-1].preimage, places[1], places[0])
    with refused("DoesNotFollow"):
        money.take_over(settled)
    assert read_budget(chain, site, at).next_round == ROUNDS


def test_a_header_of_another_round_is_never_taken_over(money: Money) -> None:
    chain, site, at = money.world.chain, money.site, money.deployment
    money.headers[ROUNDS:] = [header_of(ROUNDS + 7, money.headers[ROUNDS - 1].digest, rewards_root(DUES))]
    settled = money.post(ROUNDS)
    place = money.place(settled, ROUNDS)
    expose_header(chain, site, ALICE, at, money.headers[-1].preimage, place, place)
    money.take_over(read_checkpoints(chain, at)[0])
    with refused("DoesNotFollow"):
        money.take_over(settled)


def test_only_the_last_header_of_a_checkpoint_speaks_for_it(money: Money) -> None:
    chain, site, at = money.world.chain, money.site, money.deployment
    settled = read_checkpoints(chain, at)[0]
    place, last = money.place(settled, ROUNDS - 1), money.headers[ROUNDS - 1]
    other = replace(last, rewards=rewards_root(DUES)).preimage
    for opening, error in (
        (money.headers[0].preimage, "HeaderNotIncluded"),
        (other, "HeaderNotIncluded"),
        (b"\x05" + bytes(7) + b"other", "WrongDomain"),
        (last.preimage[:20], "TruncatedFrames"),
    ):
        with refused(error):
            settle_rewards(chain, site, MALLORY, at, opening, place)
    with refused("UnknownCheckpoint"):
        changed = replace(place, checkpoint=replace(settled, root=ZERO))
        settle_rewards(chain, site, MALLORY, at, last.preimage, changed)
    money.take_over(settled)


def test_rounds_cost_no_more_than_they_may_and_a_budget_no_more_than_it_has(money: Money) -> None:
    """Whatever a set certifies: it can lie about who earned what, and about how much."""
    money.take_over(read_checkpoints(money.world.chain, money.deployment)[0])
    whole = (ROUNDS + 1) * ROUND_REWARD
    lie = [Due(ALICE.address, whole), Due(MALLORY.address, 1), Due(STRANGER, whole + 1)]
    money.earn(lie, 1)
    with refused("ExceedsRounds"):
        line(money, lie, 2)
    line(money, lie, 0)
    with refused("ExceedsRounds"):
        line(money, lie, 1)
    more = [Due(ALICE.address, BUDGET + 1), *lie[1:]]
    money.earn(more, 30)
    with refused("ExceedsBudget"):
        line(money, more, 0)
    line(money, more, 1)


def test_a_line_has_one_place_and_one_proof(money: Money) -> None:
    """Else one line could be claimed twice under two numbers."""
    chain, site = money.world.chain, money.site
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    money.earn(DUES, 1)
    proof, settlement = tuple(header_proof(_lines(DUES), 0)), money.deployment.settlement
    whole = (ALICE.address, 600, 1)
    for index, siblings, error in (
        (4, proof, "LeafOutsideTree"),  # the same path, as three lines take two levels
        (0, (*proof, bytes(32)), "NotEarned"),
        (0, proof[:1], "NotEarned"),
        (1, proof, "NotEarned"),
    ):
        with refused(error):
            transact(chain, ALICE, site.rewards, contract("Rewards").call("claim", settlement, index, *whole, siblings))
    for changed in ((MALLORY.address, 600, 1), (ALICE.address, 601, 1), (ALICE.address, 600, 0)):
        with refused("NotEarned"):
            transact(chain, ALICE, site.rewards, contract("Rewards").call("claim", settlement, 0, *changed, proof))


def test_a_line_of_another_chain_is_not_paid_here(money: Money) -> None:
    chain = money.world.chain
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    elsewhere = [replace(DUES[0], chain=7), *DUES[1:]]
    money.earn(elsewhere, 1)
    with refused("NotEarned"):
        line(money, elsewhere, 0)
    line(money, elsewhere, 1)
    own = deploy_money(chain, DEPLOYER, on=chain.chain_id)
    assert contract("Rewards").result(
        "chain", chain.call(bytes(20), own.rewards, contract("Rewards").call("chain"))
    ) == (chain.chain_id,)
    with refused("WrongChain"):
        deploy_money(chain, DEPLOYER, on=7)


def test_what_nobody_claims_in_time_is_the_sponsors(money: Money) -> None:
    chain, site = money.world.chain, money.site
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    money.earn(DUES, 1)
    settled = money.settle(1, DUES)
    pass_time(money.world, DEADLINE_S - chain.timestamp_s() + 10)
    with refused("DeadlinePassed"):
        fund_task(chain, site, DEPLOYER, money.deployment, 1)
    with refused("DeadlinePassed"):
        money.take_over(settled)
    line(money, DUES, 0)
    with refused("NotClosed"):
        reclaim_budget(chain, site, DEPLOYER, money.deployment)
    pass_time(money.world, CLAIM_S)
    with refused("Closed"):
        line(money, DUES, 1)
    reclaim_budget(chain, site, MALLORY, money.deployment)
    with refused("NothingLeft"):
        reclaim_budget(chain, site, MALLORY, money.deployment)
    assert collect(chain, site.rewards, MALLORY, DEPLOYER.address) == BUDGET - 600
    for account in (ALICE.address, CURATOR):
        collect(chain, site.rewards, MALLORY, account)
    assert chain.balance(site.rewards) == 0


def test_where_no_court_was_named_a_checkpoint_is_final_at_once_and_a_court_that_fails_never_says_so(
    money: Money,
) -> None:
    for court, error in ((bytes(20), ""), (money.site.fees, "NotFinal")):
        with money.world.undone():
            other = found_money(money.world, terms=TERMS, task=hash_fields("test-task"), court=court)
            fund_task(money.world.chain, other.site, DEPLOYER, other.deployment, BUDGET)
            settled = other.settle(1, DUES)
            if error:
                with refused(error):
                    other.take_over(settled)
                continue
            other.take_over(settled)
            line(other, DUES, 1)


# --- fees ---


def test_a_payment_reaches_those_whose_data_made_the_version(money: Money) -> None:
    chain, site = money.world.chain, money.site
    version = money.register(1, DUES)
    with refused("NotOpen"):
        pay_for_version(chain, site, ANYBODY, version, 1000)
    pass_time(money.world, CHALLENGE_S)
    pay_for_version(chain, site, ANYBODY, version, 1000, purpose=hash_fields("a diagnosis"))
    assert read_version(chain, site, version).income == 950  # a twentieth is the sponsor's
    for index in range(3):
        if index < 2:
            claim_fees(chain, site, MALLORY, version, DUES, index)
        else:
            with refused("NothingDue"):  # less than one wei
                claim_fees(chain, site, MALLORY, version, DUES, index)
    assert read_owed(chain, site.fees, ALICE.address) == 570 - 57
    assert read_owed(chain, site.fees, CURATOR) == 57
    assert read_owed(chain, site.fees, MALLORY.address) == 379
    pay_for_version(chain, site, ANYBODY, version, 1000)
    claim_fees(chain, site, MALLORY, version, DUES, 2)
    assert read_owed(chain, site.fees, STRANGER) == 1


def test_royalties_of_a_later_version_flow_to_earlier_contributors(money: Money) -> None:
    chain, site = money.world.chain, money.site
    first = money.register(1, [Due(ALICE.address, 1)])
    second = money.register(2, [Due(MALLORY.address, 1)], parent=first)
    third = money.register(3, [Due(MALLORY.address, 1)], parent=second)
    pass_time(money.world, CHALLENGE_S)
    pay_for_version(chain, site, DEPLOYER, third, 10_000)
    incomes = [read_version(chain, site, version).income for version in (third, second, first)]
    assert incomes == [7600, 1520, 380]  # 8000, 1600 and 400, less a twentieth
    assert sum(incomes) + read_owed(chain, site.fees, DEPLOYER.address) == 10_000

    money.court.rule(second, ALICE.address)
    pay_for_version(chain, site, DEPLOYER, third, 10_000)
    assert read_version(chain, site, third).income == 7600 + 9500
    with refused("Refuted"):
        pay_for_version(chain, site, DEPLOYER, second, 10_000)


@pytest.mark.slow
def test_sixteen_generations_share_and_the_first_of_them_has_the_rest(money: Money) -> None:
    chain, site = money.world.chain, money.site
    versions = [bytes(32)]
    for name in range(18):
        versions.append(money.register(name, [Due(ALICE.address, 1)], parent=versions[-1]))
    pass_time(money.world, CHALLENGE_S)
    receipt = pay_for_version(chain, site, DEPLOYER, versions[-1], 10**18)
    incomes = [read_version(chain, site, version).income for version in versions[1:]]
    assert [income > 0 for income in incomes] == [False] * 2 + [True] * 16
    assert sum(incomes) + read_owed(chain, site.fees, DEPLOYER.address) == 10**18
    assert receipt.gas < 1_000_000


def test_a_version_is_registered_once_on_its_own_certificate(money: Money) -> None:
    chain, site = money.world.chain, money.site
    model = hash_fields("version", 1)
    arguments = (chain, site, MALLORY, money.deployment, model)
    for change in (
        {"task": hash_fields("other")},
        {"epoch": 1},
        {"chain_id": 1},
        {"contract": site.rewards},
        {"settlement": site.fees},
    ):
        with refused("InvalidCertificate"):
            register_version(*arguments, DUES, certify(money.version_digest(model, DUES, **change)))
    certificate = certify(money.version_digest(model, DUES))
    with refused("InvalidCertificate"):
        register_version(*arguments, DUES[:2], certificate)
    assert register_version(*arguments, DUES, certificate) == money.version_digest(model, DUES)
    with refused("AlreadyRegistered"):
        register_version(*arguments, DUES, certificate)
    with refused("UnknownVersion"):
        money.register(2, DUES, parent=hash_fields("nothing"))
    with refused("EmptyList"):
        money.register(2, [Due(ALICE.address, 0)])
    with refused("EmptyPayment"):
        pay_for_version(chain, site, ALICE, money.version_digest(model, DUES), 0)


def test_the_lineages_weights_are_a_versions_list() -> None:
    influence = (Influence("anna", ("site-1",), 3, 24), Influence("bert", ("site-2",), 0, 0))
    accounts = {"anna": Due(ALICE.address, 0, 1), "bert": Due(MALLORY.address, 0)}
    assert dues_of_influence(influence, accounts) == (Due(ALICE.address, 24, 1),)


# --- whoever is in the way ---


@pytest.mark.parametrize("court", ["an account", "a contract that fails", "none"])
def test_a_court_that_does_not_answer_has_found_nothing(money: Money, court: str) -> None:
    world = money.world
    at = {"an account": STRANGER, "a contract that fails": money.site.fees, "none": bytes(20)}[court]
    site = deploy_money(world.chain, DEPLOYER, challenge_s=CHALLENGE_S, claim_s=CLAIM_S)
    deployment = deploy(world.chain, DEPLOYER, hash_fields("odd court"), unbonding_s=UNBONDING_S)
    post_task(world.chain, site, DEPLOYER, deployment, replace(TERMS, court=at))
    assert read_task(world.chain, site, deployment).terms.court == at
    odd = replace(money, site=site, court=replace(money.court, deployment=opened(money, deployment)))
    number = odd.register(1, DUES)
    pass_time(world, CHALLENGE_S)
    pay_for_version(world.chain, site, ALICE, number, 100)


def placed(money: Money, code: str) -> bytes:
    """Put a contract with this code, in hex, on the chain."""
    data = bytes.fromhex(code)
    creation = bytes.fromhex(f"60{len(data):02x} 80 6009 3d 39 3d f3") + data
    address = transact(money.world.chain, DEPLOYER, None, creation).contract
    assert address is not None
    return address


# It answers with 204,800 zero bytes, for which it has just gas enough.
LONG_ANSWER = "62 032000 5f f3"


@pytest.mark.slow
def test_a_court_of_an_earlier_task_cannot_make_a_payment_dear_by_what_it_answers(money: Money) -> None:
    world, site = money.world, money.site
    court = placed(money, LONG_ANSWER)
    deployment = deploy(world.chain, DEPLOYER, hash_fields("odd court"), unbonding_s=UNBONDING_S)
    post_task(world.chain, site, DEPLOYER, deployment, replace(TERMS, court=court))
    odd = replace(money, court=replace(money.court, deployment=opened(money, deployment)))
    versions = [bytes(32)]
    for name in range(15):
        versions.append(odd.register(name, [Due(MALLORY.address, 1)], parent=versions[-1]))
    honest = money.register(15, [Due(ALICE.address, 1)], parent=versions[-1])
    pass_time(world, CHALLENGE_S)
    assert pay_for_version(world.chain, site, DEPLOYER, honest, 10**18).gas < 3_000_000


def opened(money: Money, deployment: Deployment) -> Deployment:
    """The same deployment with the same two validators in its first epoch."""
    for account, secret in ((ALICE, HONEST_BLS), (MALLORY, LYING_BLS)):
        proof = secret.prove_possession(possession_context(CHAIN_ID, deployment.registry, account.address))
        register_validator(money.world.chain, deployment, account, secret.public_key(), proof, 10**18)
    open_first_epoch(money.world.chain, deployment, DEPLOYER, (0, 1))
    return deployment


# Sent coin it calls the sender's collect(itself) again and takes whatever comes of that; or it refuses the coin.
COLLECT_AGAIN = "63{selector} 60e0 1b 5f 52 30 6004 52 5f 5f 6024 5f 5f 33 5a f1 00"
REFUSE = "5f 5f fd"


@pytest.mark.parametrize("on_coin", [COLLECT_AGAIN, REFUSE], ids=["collect again", "refuse"])
def test_an_account_that_is_a_contract_gets_its_coin_once_or_stops_itself_alone(money: Money, on_coin: str) -> None:
    chain, site = money.world.chain, money.site
    selector = contract("Rewards").call("collect", bytes(20))[:4].hex()
    account = placed(money, on_coin.format(selector=selector))
    dues = [Due(account, 100), Due(ALICE.address, 100)]
    money.take_over(read_checkpoints(chain, money.deployment)[0])
    money.earn(dues, 1)
    for index in range(2):
        line(money, dues, index)
    if on_coin == REFUSE:
        with refused("FailedCall"):
            collect(chain, site.rewards, MALLORY, account)
        assert read_owed(chain, site.rewards, account) == 100
    else:
        assert collect(chain, site.rewards, MALLORY, account) == chain.balance(account) == 100
    assert collect(chain, site.rewards, MALLORY, ALICE.address) == 100


# --- tokens ---


def token(world: World, toll: int = 0) -> bytes:
    address = transact(world.chain, DEPLOYER, None, artifact("TestToken").creation(toll)).contract
    assert address is not None
    for account in (DEPLOYER, ALICE):
        transact(world.chain, DEPLOYER, address, artifact("TestToken").call("mint", account.address, 10**9))
    return address


def test_stakes_can_be_of_a_token(money: Money) -> None:
    chain = money.world.chain
    paid = token(money.world)
    deployment = deploy(chain, DEPLOYER, hash_fields("token"), stake_min_wei=STAKE, unbonding_s=10, token=paid)
    key = bytes([7]) * 32
    with refused(""):  # the token refuses, by a name of its own
        enrol(chain, deployment, ALICE, Role.STEWARD, key, STAKE, token=paid)
    approve(chain, paid, ALICE, deployment.registry, 2 * STAKE)
    with refused("WrongValue"):
        enrol(chain, deployment, ALICE, Role.STEWARD, key, STAKE)
    number = enrol(chain, deployment, ALICE, Role.STEWARD, key, STAKE, token=paid)
    assert raise_stake(chain, deployment, ALICE, number, 5, token=paid) == STAKE + 5
    assert read_member(chain, deployment, number).role is Role.STEWARD

    skimming = token(money.world, toll=1)
    other = deploy(chain, DEPLOYER, hash_fields("toll"), stake_min_wei=STAKE, unbonding_s=10, token=skimming)
    approve(chain, skimming, ALICE, other.registry, STAKE)
    with refused("ShortTransfer"):
        enrol(chain, other, ALICE, Role.STEWARD, key, STAKE, token=skimming)


def test_budgets_can_be_of_a_token(money: Money) -> None:
    chain = money.world.chain
    paid = token(money.world)
    other = found_money(money.world, token=paid, task=hash_fields("test-task"))
    approve(chain, paid, DEPLOYER, other.site.rewards, 1000)
    with refused("WrongValue"):
        fund_task(chain, other.site, DEPLOYER, other.deployment, 1000)
    fund_task(chain, other.site, DEPLOYER, other.deployment, 1000, token=paid)
    other.earn([Due(ALICE.address, 1000)])
    line(other, [Due(ALICE.address, 1000)], 0)
    assert collect(chain, other.site.rewards, MALLORY, ALICE.address) == 1000
    held = artifact("TestToken").result(
        "balanceOf", chain.call(bytes(20), paid, artifact("TestToken").call("balanceOf", ALICE.address))
    )
    assert held == (10**9 + 1000,)


# --- bounds of the chain ---


def test_every_contract_fits_into_a_block_and_under_the_limit_of_code(money: Money) -> None:
    chain = money.world.chain
    code = bytes.fromhex("5f 35 3b 5f 52 60 20 5f f3")  # EXTCODESIZE of the address in the call's data
    probe = transact(chain, DEPLOYER, None, bytes.fromhex(f"60{len(code):02x} 80 6009 3d 39 3d f3") + code).contract
    assert probe is not None
    sizes = {}
    for name, at in (
        ("Registry", money.deployment.registry),
        ("Settlement", money.deployment.settlement),
        ("Slashing", money.court.site.slashing),
        ("Availability", money.court.site.availability),
        ("Licences", money.site.licences),
        ("Tasks", money.site.tasks),
        ("Rewards", money.site.rewards),
        ("Fees", money.site.fees),
    ):
        probe = transact(
            chain,
            DEPLOYER,
            None,
            bytes.fromhex("600b 80 6009 3d 39 3d f3 5f 35 3b 5f 52 6020 5f f3 00 00".replace(" ", "")),
        ).contract
        assert probe is not None
        sizes[name] = int.from_bytes(chain.call(bytes(20), probe, at.rjust(32, b"\0")), "big")
    assert all(0 < size <= CODE_BYTES_MAX for size in sizes.values()), sizes
    for sent in chain.sent:
        assert len(sent.raw) < 49_152  # EIP-3860


def test_garbage_costs_its_sender_little(money: Money) -> None:
    root = header_root(_leaves(DUES))
    arguments = (money.deployment.settlement, root, bytes(32), root, 3, 1000, 3, b"\xff" * 96)
    call = contract("Fees").call("register", *arguments)
    with pytest.raises(TransactionFailedError) as failure:
        transact(money.world.chain, MALLORY, money.site.fees, call, gas_max=TRANSACTION_GAS_MAX)
    assert failure.value.values["gas"] < 500_000
