"""Who loses stake: each kind of evidence convicts once, and the smallest change of it convicts nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from _chain_stage import ALICE, DEPLOYER, MALLORY, embedded, pass_time, refused
from _slashing_stage import (
    ANSWER_S,
    BOND,
    HONEST,
    HONEST_BLS,
    HONEST_TRAINER,
    LYING,
    LYING_BLS,
    LYING_TRAINER,
    STAKE,
    UNBONDING_S,
    Court,
    ballot,
    double_proposal,
    double_vote,
    epoch_set,
    found_court,
    key_sum,
    members_of,
    report,
    rows_digest,
    signed_header,
    vote,
)

from collegium.consensus import BlockEquivocation, VoteEquivocation
from collegium.crypto import BlsSecretKey, g1_uncompressed, hash_fields, make_certificate
from collegium.settlement import (
    NO_CHECKPOINT,
    NOBODY,
    ChainAnswerError,
    ContractRefusedError,
    Conviction,
    CuratorPool,
    TransactionFailedError,
    answer_demand,
    attach,
    collect,
    contract,
    contract_address,
    delegate_stake,
    demand_rows,
    found_slashing,
    handover_digest,
    open_epoch,
    read_member,
    read_owed,
    read_pool,
    read_refuter,
    repay_demand,
    report_double_proposal,
    report_double_report,
    report_double_vote,
    report_false_statement,
    report_withheld_data,
    transact,
    unbond,
    undelegate_stake,
    withdraw,
    withdraw_delegation,
)

BURNED = bytes.fromhex("000000000000000000000000000000000000dead")
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


@pytest.fixture(scope="module")
def founded() -> Iterator[Court]:
    for world in embedded():
        yield found_court(world)


@pytest.fixture
def court(founded: Court) -> Iterator[Court]:
    """The same contracts for every test, as they were founded."""
    with founded.world.undone():
        yield founded


def stake_of(court: Court, member: int) -> int:
    return read_member(court.world.chain, court.deployment, member).stake


# --- two things that exclude each other ---


def test_two_votes_in_one_view_cost_the_whole_stake_and_once(court: Court) -> None:
    chain, site = court.world.chain, court.site
    conviction = report_double_vote(chain, site, ALICE, LYING, epoch_set(), double_vote())
    assert conviction == Conviction(LYING, "double vote", ALICE.address, STAKE * 9 // 10, STAKE // 10)
    assert stake_of(court, LYING) == 0
    assert stake_of(court, HONEST) == STAKE
    with refused("AlreadyConvicted"):
        report_double_vote(chain, site, ALICE, LYING, epoch_set(), double_vote())
    with refused("NothingToSlash"):
        report_double_vote(chain, site, ALICE, LYING, epoch_set(), double_vote(view=6))


def test_what_was_taken_is_collected_and_the_rest_burned(court: Court) -> None:
    chain, registry = court.world.chain, court.deployment.registry
    report_double_vote(chain, court.site, ALICE, LYING, epoch_set(), double_vote())
    assert read_owed(chain, registry, ALICE.address) == STAKE // 10
    before = chain.balance(registry)
    assert collect(chain, registry, MALLORY, ALICE.address) == STAKE // 10
    assert collect(chain, registry, MALLORY, BURNED) == STAKE * 9 // 10
    assert chain.balance(BURNED) == STAKE * 9 // 10
    assert before - chain.balance(registry) == STAKE
    with refused("NothingOwed"):
        collect(chain, registry, MALLORY, ALICE.address)


def test_votes_that_do_not_exclude_each_other_convict_nobody(court: Court) -> None:
    chain, site = court.world.chain, court.site
    first, second = vote(ballot(5, 1)), vote(ballot(5, 2))
    next_view = vote(ballot(6, 2))
    other_epoch = vote(ballot(5, 2), of=epoch_set(epoch=1))
    other_task = vote(ballot(5, 2), of=epoch_set(task=hash_fields("other")))
    forged = vote(ballot(5, 2), secret=BlsSecretKey(LYING_BLS.scalar + 1))
    for pair, error in (
        (VoteEquivocation(first, first), "NoConflict"),
        (VoteEquivocation(first, next_view), "NotSigned"),
        (VoteEquivocation(first, other_epoch), "NotSigned"),
        (VoteEquivocation(first, other_task), "NotSigned"),
        (VoteEquivocation(first, forged), "NotSigned"),
        (VoteEquivocation(forged, first), "NotSigned"),
    ):
        with refused(error):
            report_double_vote(chain, site, ALICE, LYING, epoch_set(), pair)
    for member, error in ((HONEST, "NotSigned"), (LYING_TRAINER, "WrongRole"), (9, "UnknownMember")):
        with refused(error):
            report_double_vote(chain, site, ALICE, member, epoch_set(), VoteEquivocation(first, second))
    assert stake_of(court, LYING) == STAKE


def test_votes_of_another_task_convict_nobody_here(court: Court) -> None:
    """Whoever lies elsewhere answers elsewhere: the set that votes name is opened far enough to see the task."""
    other = epoch_set(task=hash_fields("other"))
    with refused("NotSigned"):
        report_double_vote(court.world.chain, court.site, ALICE, LYING, other, double_vote(of=other))


def test_a_sum_of_signatures_is_nobodys_vote(court: Court) -> None:
    """A certificate shows a quorum; a party that adds signatures to its own cannot show what one of them signed."""
    chain, site = court.world.chain, court.site
    honest, said = vote(ballot(5, 1), HONEST_BLS), ballot(5, 2)
    negative = BlsSecretKey(GROUP_ORDER - HONEST_BLS.scalar)
    for secret in (LYING_BLS, negative, BlsSecretKey((HONEST_BLS.scalar + LYING_BLS.scalar) % GROUP_ORDER)):
        with refused("NotSigned"):
            report_double_vote(chain, site, MALLORY, HONEST, epoch_set(), VoteEquivocation(honest, vote(said, secret)))


def raw_double_vote(court: Court, signature: bytes, gas_max: int | None = None) -> None:
    """Evidence against the liar whose second signature is these bytes."""
    first, second = ballot(5, 1), ballot(5, 2)
    good = g1_uncompressed(vote(first).signature)
    fields = tuple((said.block, said.parent_view, said.parent) for said in (first, second))
    data = contract("Slashing").call("doubleVote", LYING, 0, members_of(epoch_set()), 5, fields, (good, signature))
    transact(court.world.chain, MALLORY, court.site.slashing, data, gas_max=gas_max)


@pytest.mark.parametrize(
    ("signature", "error"),
    [(bytes(96), "InfinityPoint"), (b"\xff" * 96, "PrecompileFailed"), (bytes(95), "InvalidPointLength")],
)
def test_a_vote_is_not_signed_by_something_that_is_no_signature(court: Court, signature: bytes, error: str) -> None:
    with refused(error):
        raw_double_vote(court, signature)


def test_malformed_evidence_cannot_burn_the_gas_of_a_transaction(court: Court) -> None:
    with pytest.raises(TransactionFailedError) as failure:
        raw_double_vote(court, b"\xff" * 96, gas_max=16_000_000)
    assert failure.value.values["gas"] < 800_000


def test_two_blocks_in_one_view_cost_the_whole_stake(court: Court) -> None:
    chain, site = court.world.chain, court.site
    conviction = report_double_proposal(chain, site, ALICE, LYING, double_proposal())
    assert conviction == Conviction(LYING, "double proposal", ALICE.address, STAKE * 9 // 10, STAKE // 10)


def test_blocks_that_do_not_exclude_each_other_convict_nobody(court: Court) -> None:
    chain, site = court.world.chain, court.site
    first = signed_header(1)
    for second, error in (
        (first, "NoConflict"),
        (signed_header(2, view=6), "NotSigned"),
        (signed_header(2, epoch=1), "NotSigned"),
        (signed_header(2, author=0), "NotSigned"),
        (signed_header(2, task=hash_fields("other")), "NotSigned"),
        (signed_header(2, ALICE), "NotSigned"),
    ):
        with refused(error):
            report_double_proposal(chain, site, ALICE, LYING, BlockEquivocation(first, second))
    with refused("WrongRole"):
        report_double_proposal(chain, site, ALICE, LYING_TRAINER, double_proposal())
    with refused("NotSigned"):
        report_double_proposal(chain, site, MALLORY, HONEST, double_proposal())


def test_two_reports_in_one_round_cost_half_the_stake(court: Court) -> None:
    chain, site = court.world.chain, court.site
    conviction = report_double_report(chain, site, ALICE, LYING_TRAINER, report(1), report(2))
    assert conviction == Conviction(LYING_TRAINER, "double report", ALICE.address, STAKE * 9 // 20, STAKE // 20)
    with refused("AlreadyConvicted"):  # a third report of that round is the same deed
        report_double_report(chain, site, ALICE, LYING_TRAINER, report(1), report(3))
    assert stake_of(court, LYING_TRAINER) == STAKE // 2


def test_reports_that_do_not_exclude_each_other_convict_nobody(court: Court) -> None:
    chain, site = court.world.chain, court.site
    first = report(1)
    for second, error in (
        (first, "NoConflict"),
        (report(2, round=8), "NotSigned"),
        (report(2, terms=hash_fields("other")), "NotSigned"),
        (report(2, task=hash_fields("other")), "NotSigned"),
        (report(2, trainer=ALICE.address), "NotSigned"),
        (report(2, ALICE), "NotSigned"),
        (replace(report(2), signature=first.signature), "NotSigned"),
    ):
        with refused(error):
            report_double_report(chain, site, ALICE, LYING_TRAINER, first, second)
    for member, error in ((LYING, "WrongRole"), (HONEST_TRAINER, "NotSigned")):
        with refused(error):
            report_double_report(chain, site, ALICE, member, first, report(2))


@pytest.mark.parametrize("form", ["high s", "v of Ethereum", "no v", "one byte more", "empty"])
def test_a_signature_has_one_form(court: Court, form: str) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    first = report(1)
    r, s, v = first.signature[:32], int.from_bytes(first.signature[32:64], "big"), first.signature[64]
    changed = {
        "high s": r + (order - s).to_bytes(32, "big") + bytes([1 - v]),
        "v of Ethereum": first.signature[:64] + bytes([v + 27]),
        "no v": first.signature[:64],
        "one byte more": first.signature + b"\0",
        "empty": b"",
    }[form]
    with refused("NotSigned"):
        report_double_report(
            court.world.chain, court.site, ALICE, LYING_TRAINER, replace(first, signature=changed), report(2)
        )


# --- one thing that a court found false ---


def test_a_refuted_statement_costs_its_signer_and_rewards_who_refuted_it(court: Court) -> None:
    chain, site = court.world.chain, court.site
    false = key_sum(1)
    with refused("NotRefuted"):
        report_false_statement(chain, site, DEPLOYER, LYING, false.digest, false.signature)
    court.rule(false.digest, ALICE.address)
    with refused("NotSigned"):
        report_false_statement(chain, site, DEPLOYER, HONEST, false.digest, false.signature)
    conviction = report_false_statement(chain, site, DEPLOYER, LYING, false.digest, false.signature)
    assert conviction == Conviction(LYING, "false statement", ALICE.address, STAKE * 9 // 20, STAKE // 20)
    with refused("AlreadyConvicted"):
        report_false_statement(chain, site, DEPLOYER, LYING, false.digest, false.signature)


def test_without_a_court_nothing_is_refuted(court: Court) -> None:
    chain = court.world.chain
    deployment, site = found_slashing(chain, DEPLOYER, hash_fields("alone"), stake_min_wei=STAKE)
    assert site.disputes == NOBODY
    assert attach(chain, deployment.settlement, deployment.block) == deployment
    with refused("NotRefuted"):
        report_false_statement(chain, site, ALICE, LYING, key_sum(1).digest, key_sum(1).signature)


# --- data that was signed and is withheld ---


def test_rows_that_nobody_publishes_in_time_cost_their_signer(court: Court) -> None:
    chain, site = court.world.chain, court.site
    hidden = key_sum(1)
    deadline = demand_rows(chain, site, ALICE, hidden, rows_digest(hidden))
    assert deadline == chain.timestamp_s() + ANSWER_S
    for attempt in (report_withheld_data, lambda *args: repay_demand(*args[:3], args[4].digest)):
        with pytest.raises(ContractRefusedError) as refusal:
            attempt(chain, site, DEPLOYER, LYING, hidden)
        assert refusal.value.values["error"] in {"NotRefuted", "TooEarly"}
    pass_time(court.world, ANSWER_S + 1)
    with refused("TooLate"):
        answer_demand(chain, site, MALLORY, hidden)
    assert read_refuter(chain, site.availability, hidden.digest) == ALICE.address
    conviction = report_withheld_data(chain, site, DEPLOYER, LYING, hidden)
    assert conviction == Conviction(LYING, "withheld data", ALICE.address, STAKE * 9 // 100, STAKE // 100)
    repay_demand(chain, site, DEPLOYER, hidden.digest)
    with refused("AlreadyRepaid"):
        repay_demand(chain, site, DEPLOYER, hidden.digest)
    assert collect(chain, site.availability, DEPLOYER, ALICE.address) == BOND
    assert chain.balance(site.availability) == 0


def test_an_answer_ends_a_demand_and_earns_the_bond(court: Court) -> None:
    chain, site = court.world.chain, court.site
    asked = key_sum(1, ALICE)
    with refused("NotDemanded"):
        answer_demand(chain, site, ALICE, asked)
    demand_rows(chain, site, MALLORY, asked, rows_digest(asked))
    with refused("AlreadyDemanded"):
        demand_rows(chain, site, MALLORY, asked, rows_digest(asked))
    with refused("NotDemanded"):
        answer_demand(chain, site, ALICE, replace(asked, rows=asked.rows + asked.rows))
    answer_demand(chain, site, ALICE, asked)
    with refused("AlreadyAnswered"):
        answer_demand(chain, site, ALICE, asked)
    pass_time(court.world, 10 * ANSWER_S)
    with refused("NotRefuted"):
        report_withheld_data(chain, site, MALLORY, HONEST, asked)
    with refused("AlreadyAnswered"):
        repay_demand(chain, site, MALLORY, asked.digest)
    with refused("AlreadyDemanded"):
        demand_rows(chain, site, MALLORY, asked, rows_digest(asked))
    assert collect(chain, site.availability, DEPLOYER, ALICE.address) == BOND


def test_a_demand_costs_its_bond_and_leaves_a_day(court: Court) -> None:
    asked = key_sum(1)
    data = contract("Availability").call("demand", asked.round, asked.close, asked.seat, rows_digest(asked))
    for value in (0, BOND - 1, BOND + 1):
        with refused("WrongValue"):
            transact(court.world.chain, ALICE, court.site.availability, data, value=value)
    with refused("AnswerTimeTooShort"):
        transact(court.world.chain, ALICE, None, contract("Availability").creation(bytes(32), BOND, 24 * 3600 - 1))


# --- what slashing does to a seat ---


def test_who_is_slashed_leaves_and_its_key_does_not_come_back(court: Court) -> None:
    chain, deployment = court.world.chain, court.deployment
    false = key_sum(1)
    court.rule(false.digest, ALICE.address)
    report_false_statement(chain, court.site, ALICE, LYING, false.digest, false.signature)
    assert read_member(chain, deployment, LYING).unbonded_at_s == chain.timestamp_s()
    with refused("AlreadyUnbonding"):
        unbond(chain, deployment, MALLORY, LYING)
    with refused("InCurrentEpoch"):
        withdraw(chain, deployment, MALLORY, LYING)


def test_being_slashed_at_the_last_moment_does_not_stop_a_handover(court: Court) -> None:
    chain, deployment = court.world.chain, court.deployment
    keys = [LYING_BLS.public_key(), HONEST_BLS.public_key()]
    digest = handover_digest(deployment.task, 1, NO_CHECKPOINT, keys)
    certificate = make_certificate(2, {0: HONEST_BLS.sign(digest), 1: LYING_BLS.sign(digest)})
    report_double_vote(chain, court.site, ALICE, LYING, epoch_set(), double_vote())
    open_epoch(chain, deployment, ALICE, (LYING, HONEST), certificate)


def test_a_stake_can_be_taken_while_it_is_leaving_and_not_when_it_has_left(court: Court) -> None:
    chain, deployment = court.world.chain, court.deployment
    unbond(chain, deployment, MALLORY, LYING_TRAINER)
    pass_time(court.world, UNBONDING_S - 1000)
    with refused("StillUnbonding"):
        withdraw(chain, deployment, MALLORY, LYING_TRAINER)
    report_double_report(chain, court.site, ALICE, LYING_TRAINER, report(1), report(2))
    pass_time(court.world, 1000)
    assert withdraw(chain, deployment, MALLORY, LYING_TRAINER) == STAKE // 2
    with refused("NothingToSlash"):
        report_double_report(chain, court.site, ALICE, LYING_TRAINER, report(1, round=8), report(2, round=8))


def test_nobody_else_slashes(court: Court) -> None:
    data = contract("Registry").call("slash", HONEST, 10_000, 1000, MALLORY.address)
    for account in (MALLORY, DEPLOYER, ALICE):
        with refused("NotTheSlashing"):
            transact(court.world.chain, account, court.deployment.registry, data)


def test_the_registry_names_a_contract_that_must_come_to_stand_there(court: Court) -> None:
    """One transaction too many in between, and the founding fails rather than leaving a court that cannot slash."""
    chain = court.world.chain

    def two_transactions(_: object) -> bytes:
        transact(chain, DEPLOYER, ALICE.address, b"", value=1)
        transact(chain, DEPLOYER, ALICE.address, b"", value=1)
        return NOBODY

    foretold = contract_address(DEPLOYER.address, chain.nonce(DEPLOYER.address) + 4)
    with pytest.raises(ChainAnswerError, match=foretold.hex()):
        found_slashing(chain, DEPLOYER, hash_fields("late"), found_disputes=two_transactions)


# --- what stands behind a trainer ---


def test_curators_lose_with_their_trainer_in_proportion(court: Court) -> None:
    """Whenever they came, and also while they leave; what is left goes back, to the last wei."""
    chain, site = court.world.chain, court.site
    delegate_stake(chain, site, ALICE, LYING_TRAINER, 300)
    delegate_stake(chain, site, DEPLOYER, LYING_TRAINER, 101)
    end_s = undelegate_stake(chain, site, ALICE, LYING_TRAINER)
    conviction = report_double_report(chain, site, ALICE, LYING_TRAINER, report(1), report(2))
    assert conviction.offence == "double report"
    assert read_pool(chain, site, LYING_TRAINER) == CuratorPool(201, 401)  # half is gone, rounded down
    with refused("StillLeaving"):
        withdraw_delegation(chain, site, ALICE, LYING_TRAINER)
    undelegate_stake(chain, site, DEPLOYER, LYING_TRAINER)
    pass_time(court.world, end_s - chain.timestamp_s() + 10)
    assert withdraw_delegation(chain, site, ALICE, LYING_TRAINER) == 201 * 300 // 401
    with refused("NotLeaving"):
        withdraw_delegation(chain, site, ALICE, LYING_TRAINER)
    assert withdraw_delegation(chain, site, DEPLOYER, LYING_TRAINER) == 201 - 201 * 300 // 401
    assert collect(chain, site.curation, ALICE, ALICE.address) == 20
    assert collect(chain, site.curation, ALICE, BURNED) == 180
    assert chain.balance(site.curation) == 0


def test_nobody_is_put_behind_a_trainer_that_leaves_or_was_slashed(court: Court) -> None:
    """So all that stand behind one lose alike: nobody buys in after a loss."""
    chain, site = court.world.chain, court.site
    report_double_report(chain, site, ALICE, LYING_TRAINER, report(1), report(2))
    unbond(chain, court.deployment, ALICE, HONEST_TRAINER)
    for member, error in (
        (LYING_TRAINER, "MemberLeaves"),
        (HONEST_TRAINER, "MemberLeaves"),
        (LYING, "NotATrainer"),
        (9, "UnknownMember"),
    ):
        with refused(error):
            delegate_stake(chain, site, DEPLOYER, member, 1)


def test_a_delegation_is_some_and_leaves_whole(court: Court) -> None:
    chain, site = court.world.chain, court.site
    with refused("EmptyDelegation"):
        delegate_stake(chain, site, DEPLOYER, HONEST_TRAINER, 0)
    with refused("NothingDelegated"):
        undelegate_stake(chain, site, DEPLOYER, HONEST_TRAINER)
    delegate_stake(chain, site, DEPLOYER, HONEST_TRAINER, 5)
    undelegate_stake(chain, site, DEPLOYER, HONEST_TRAINER)
    for again in (
        lambda: delegate_stake(chain, site, DEPLOYER, HONEST_TRAINER, 1),
        lambda: undelegate_stake(chain, site, DEPLOYER, HONEST_TRAINER),
    ):
        with refused("AlreadyLeaving"):
            again()
