"""A task founded with courts: what was created, what members were convicted of, and records that say otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from collegium.aggregation import KEY_CODE, Report
from collegium.commitment import ColumnRange
from collegium.consensus import (
    Ballot,
    BlockEquivocation,
    DoubleReport,
    EpochSet,
    EvidenceFound,
    HeaderVote,
    SignedHeader,
    Validator,
    ValidatorIndex,
    Vote,
    VoteEquivocation,
)
from collegium.crypto import AccountKey, BlsSecretKey, Stream, hash_fields
from collegium.learning import ModelSpec, Rule
from collegium.node._base_chain import BaseChain, CertifiedStep, numbers_of
from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import ChainRecord, ChainRecordError, decode_chain_record, encode_chain_record
from collegium.node._chain_terms import HOME, STAKE_WEI
from collegium.node._evidence import (
    BadChargeError,
    Charge,
    EvidenceError,
    NoStakeError,
    accuse,
    charge_of,
    check_votes,
    decode_run_evidence,
    deed_of,
    encode_run_evidence,
    merge_evidence,
    votes_by_seat,
    votes_of,
)
from collegium.settlement import (
    ChainAnswerError,
    ContractRefusedError,
    CourtRules,
    DissectionKind,
    DissectionTerms,
    NoCourtError,
    attach_court,
    attach_dissections,
    check_court,
    check_dissections,
    check_site,
    header_root,
    read_conviction,
    read_courts,
    read_member,
    step_rule,
)
from collegium.settlement._deployment import ask
from collegium.settlement._founding import CHALLENGED_UNBONDING_S, DISSECTED_UNBONDING_S

SIZE = 4
STAKE = STAKE_WEI
TASK = hash_fields("test-courts")
RANDOM = Stream(hash_fields("test-node-chain-courts"))
OPERATOR, TRAINER, STRANGER = (AccountKey.generate(RANDOM) for _ in range(3))
ACCOUNTS = [AccountKey.generate(RANDOM) for _ in range(SIZE)]
VOTING = [BlsSecretKey.generate(RANDOM) for _ in range(SIZE)]
MEMBERS = EpochSet(
    TASK,
    0,
    tuple(
        Validator(ValidatorIndex(index), bytes(key.public_key()), account.address, STAKE)
        for index, (account, key) in enumerate(zip(ACCOUNTS, VOTING, strict=True))
    ),
)
RULE = step_rule(ModelSpec("mlp", 40, (16,), 1), Rule(feature_limit=4), 4)
OTHER_RULE = replace(RULE, numerator=RULE.numerator + 1)
OTHER_KIND = DissectionKind(hash_fields("test-other-program"), b"header", of_header=True)
NUMBERS = numbers_of(MEMBERS, [TRAINER.address])
KIND = DissectionKind(hash_fields("test-program"), b"header", of_header=True)
COURTS = CourtRules(RULE, (KIND,), 5)
FOUNDED = Founded(COURTS, (TRAINER.address,))
HEADER = hash_fields("test-header")


class Signer:
    """A validator as `BaseChain.settle` asks it."""

    def __init__(self, index: int) -> None:
        self.index = index

    def sign_checkpoint(self, checkpoint: Any) -> bytes:
        return VOTING[self.index].sign(checkpoint.digest)


def vote(name: int, voter: int = 1, view: int = 5) -> Vote:
    ballot = Ballot(view, hash_fields("test-block", name), view - 1, hash_fields("test-parent"))
    return Vote(ballot, voter, VOTING[voter].sign(ballot.digest(MEMBERS)))


def block(name: int) -> SignedHeader:
    unsigned = SignedHeader(TASK, 0, 7, 2, hash_fields("test-body", name), bytes(65))
    return replace(unsigned, signature=ACCOUNTS[2].sign(unsigned.digest))


def report(name: int, account: AccountKey = TRAINER, **changes: Any) -> Report:
    words = [hash_fields("test-field", name, place) for place in range(6)]
    combination = np.zeros((2, KEY_CODE.degree_bound), dtype=np.uint64)
    audit = ColumnRange(np.zeros((1, 6), dtype=np.uint64), bytes(16), b"")
    head = (TASK, 7, account.address, hash_fields("test-terms"))
    unsigned = Report(*head, *words[:5], (words[5],) * 16, combination, audit, b"", 1)
    made = replace(unsigned, **changes)
    return replace(made, signature=account.sign(made.id))


def charge(evidence: Any) -> Charge:
    found = charge_of(EvidenceFound(evidence), [MEMBERS])
    assert found is not None
    return found


DOUBLE_VOTE = charge(VoteEquivocation(vote(1), vote(2)))
DOUBLE_PROPOSAL = charge(BlockEquivocation(block(1), block(2)))
DOUBLE_REPORT = charge(DoubleReport(report(1), report(2)))
CHARGES = (DOUBLE_VOTE, DOUBLE_PROPOSAL, DOUBLE_REPORT)


@cache
def record() -> ChainRecord:
    """Of a run whose operator brings two charges after its first checkpoint and one after the second."""
    pairs = list(zip(ACCOUNTS, VOTING, strict=True))
    chain = BaseChain.found(None, OPERATOR, MEMBERS, pairs, HOME, COURTS, [TRAINER])
    signers: Any = [Signer(index) for index in range(SIZE)]
    chain.settle(header_root([bytes(32), bytes(32)]), 1, signers)
    for found in CHARGES[:2]:
        chain.bring(accuse(found, [MEMBERS], NUMBERS))
    chain.settle(header_root([bytes([1]) * 32]), 2, signers[1:])
    chain.bring(accuse(DOUBLE_REPORT, [MEMBERS], NUMBERS))
    return chain.record()


def check(changed: ChainRecord, founded: Founded = FOUNDED) -> None:
    check_chain(changed, None, MEMBERS, OPERATOR.address, founded=founded)


def longest_dispute_s(terms: DissectionTerms) -> int:
    """From a window's start: docs/spec/disputes.md, section 9."""
    turns = terms.levels + terms.levels * (1 + terms.demands_max)
    return terms.window_s + terms.join_s + 2 * terms.clock_s + turns * terms.extension_s


def read_unbonding_s(chain: BaseChain) -> int:
    (found,) = ask(chain.chain, "Registry", chain.deployment.registry, "unbondingSeconds")
    return int(found)


def test_a_task_is_founded_with_a_court_that_holds_its_rule_and_takes_stakes() -> None:
    check(record())
    assert decode_chain_record(encode_chain_record(record())) == record()
    chain = BaseChain.resume(record(), OPERATOR, MEMBERS, (), HOME, [TRAINER.address])
    assert chain.site is not None
    check_site(chain.chain, chain.deployment, chain.site)
    model, machine = read_courts(chain.chain, chain.site.disputes)
    court = attach_court(chain.chain, model, chain.deployment.block)
    check_court(chain.chain, court, chain.deployment, RULE)
    found = attach_dissections(chain.chain, machine, chain.deployment.block)
    check_dissections(chain.chain, found, chain.deployment, [KIND])
    assert found.terms == DissectionTerms(levels=5)
    longest = longest_dispute_s(DissectionTerms())
    assert longest < read_unbonding_s(chain) == DISSECTED_UNBONDING_S
    left = [read_member(chain.chain, chain.deployment, member).stake for member in range(SIZE + 1)]
    assert left == [STAKE, 0, 0, STAKE, STAKE // 2]
    assert [(found.burned, found.rewarded) for found in record().convicted] == [
        (STAKE * 9 // 10, STAKE // 10),
        (STAKE * 9 // 10, STAKE // 10),
        (STAKE * 9 // 20, STAKE // 20),
    ]


def test_a_task_whose_models_hold_more_than_parameters_has_no_court_for_their_steps() -> None:
    """Such a court would find every header wrong, and nobody could defend one."""
    pairs = list(zip(ACCOUNTS, VOTING, strict=True))
    courts = CourtRules(None, (KIND,), 5)
    chain = BaseChain.found(None, OPERATOR, MEMBERS, pairs, HOME, courts)
    check(chain.record(), Founded(courts))
    assert chain.site is not None
    (court,) = read_courts(chain.chain, chain.site.disputes)
    found = attach_dissections(chain.chain, court, chain.deployment.block)
    check_dissections(chain.chain, found, chain.deployment, [KIND])
    check_site(chain.chain, chain.deployment, chain.site)
    assert read_unbonding_s(chain) == DISSECTED_UNBONDING_S
    for others in (COURTS, CourtRules(RULE)):
        with pytest.raises(ChainRecordError, match="the record names SlashingSite"):
            check(chain.record(), Founded(others))
    with pytest.raises(NoCourtError, match="neither the rule of its step nor programs"):
        CourtRules(None)


def test_a_task_whose_work_is_no_program_has_one_court_and_asks_it_itself() -> None:
    pairs = list(zip(ACCOUNTS, VOTING, strict=True))
    chain = BaseChain.found(None, OPERATOR, MEMBERS, pairs, HOME, CourtRules(RULE))
    check(chain.record(), Founded(CourtRules(RULE)))
    assert chain.site is not None
    assert read_courts(chain.chain, chain.site.disputes) == (chain.site.disputes,)
    assert read_unbonding_s(chain) == CHALLENGED_UNBONDING_S
    with pytest.raises(ChainRecordError, match="the record names SlashingSite"):
        check(chain.record(), Founded(COURTS))
    with pytest.raises(ChainAnswerError):
        read_courts(chain.chain, bytes(19) + b"\1")


def test_a_deed_costs_its_stake_once_and_what_it_cost_is_read_again() -> None:
    chain = BaseChain.resume(record(), OPERATOR, MEMBERS, (), HOME, [TRAINER.address])
    assert chain.record() == record()
    for found, before in zip(CHARGES, record().convicted, strict=True):
        accusation = accuse(found, [MEMBERS], NUMBERS)
        assert chain.has(accusation)
        with pytest.raises(ContractRefusedError, match="AlreadyConvicted"):
            chain.bring(accusation)
        chain.enter(CertifiedStep(accusation, b""), 0)
        again = chain.convictions[-1]
        assert replace(again, after=before.after, gas=before.gas) == before
    other = charge(VoteEquivocation(vote(1, view=6), vote(2, view=6)))
    accusation = accuse(other, [MEMBERS], NUMBERS)
    with pytest.raises(ContractRefusedError, match="NothingToSlash"):
        chain.has(accusation)
    assert chain.site is not None
    with pytest.raises(ContractRefusedError, match="NothingToSlash"):
        read_conviction(chain.chain, chain.site, 0, accusation.call)


def convicted(place: int, **changes: Any) -> Callable[[ChainRecord], ChainRecord]:
    def change(old: ChainRecord) -> ChainRecord:
        found = list(old.convicted)
        found[place] = replace(found[place], **changes)
        return replace(old, convictions=tuple(found))

    return change


def site(**changes: bytes) -> Callable[[ChainRecord], ChainRecord]:
    def change(old: ChainRecord) -> ChainRecord:
        assert old.stakes_site is not None
        return replace(old, site=replace(old.stakes_site, **changes))

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (site(slashing=bytes(20)), "the record names SlashingSite"),
        (site(disputes=bytes(20)), "the record names SlashingSite"),
        (convicted(0, after=2), "is recorded out of order"),
        (convicted(0, after=3), "is recorded out of order"),
        (convicted(0, member=2), "is recorded of member 2"),
        (convicted(0, burned=1), "the record says otherwise"),
        (convicted(1, reporter=bytes(20)), "the record says otherwise"),
        (convicted(2, rewarded=0), "the record says otherwise"),
        (convicted(2, gas=1), "the record says otherwise"),
        (convicted(1, charge=DOUBLE_VOTE), "is recorded out of order, or twice"),
        (lambda old: replace(old, convictions=old.convicted[:2]), "19 transactions were sent, this run sends 18"),
        (lambda old: replace(old, site=ChainRecord.__dataclass_fields__["site"].default), "convictions and names no"),
    ],
)
def test_a_record_that_says_something_else_is_refused(
    change: Callable[[ChainRecord], ChainRecord], reason: str
) -> None:
    with pytest.raises(ChainRecordError, match=reason):
        check(change(record()))


@pytest.mark.parametrize(
    ("founded", "reason"),
    [
        (Founded(None, (TRAINER.address,)), "the record names SlashingSite"),
        (Founded(CourtRules(RULE), (TRAINER.address,)), "the record names SlashingSite"),
        (Founded(replace(COURTS, step=OTHER_RULE), (TRAINER.address,)), "is not the creation of ModelStep"),
        (Founded(replace(COURTS, kinds=(OTHER_KIND,)), (TRAINER.address,)), "is not the creation of Dissections"),
        (Founded(replace(COURTS, levels=6), (TRAINER.address,)), "is not the creation of Dissections"),
        (Founded(COURTS), "has no stake"),
    ],
)
def test_a_task_founded_otherwise_than_its_experiment_says_is_refused(founded: Founded, reason: str) -> None:
    with pytest.raises((ChainRecordError, NoStakeError), match=reason):
        check(record(), founded)


def test_an_empty_list_of_convictions_is_refused() -> None:
    with pytest.raises(ChainRecordError, match="an empty list of convictions"):
        decode_chain_record(encode_chain_record(replace(record(), convictions=())))


# ------------------------------------------------------------------------------------------------ charges


def test_charges_name_whom_they_convict() -> None:
    said = [deed_of(found, [MEMBERS]) for found in CHARGES]
    assert [deed.account for deed in said] == [ACCOUNTS[1].address, ACCOUNTS[2].address, TRAINER.address]
    assert said[0].what == "double vote of validator 1 in view 5 of epoch 0"
    assert deed_of(charge(VoteEquivocation(vote(3), vote(1))), [MEMBERS]).key == said[0].key
    with pytest.raises(NoStakeError):
        accuse(DOUBLE_REPORT, [MEMBERS], numbers_of(MEMBERS))


def spoiled(found: Charge, **changes: Any) -> Charge:
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (spoiled(DOUBLE_VOTE, epoch=1), "of epoch 1 in 1 parts"),
        (spoiled(DOUBLE_VOTE, parts=()), "of epoch 0 in 0 parts"),
        (spoiled(DOUBLE_VOTE, parts=(DOUBLE_VOTE.parts[0][:-1] + b"\0",)), "double vote: "),
        (spoiled(DOUBLE_VOTE, parts=DOUBLE_PROPOSAL.parts), "BlockEquivocation is given as a double vote"),
        (spoiled(DOUBLE_PROPOSAL, parts=DOUBLE_VOTE.parts), "VoteEquivocation is given as a double proposal"),
        (spoiled(DOUBLE_REPORT, parts=DOUBLE_REPORT.parts[:1]), "in 1 parts"),
        (spoiled(DOUBLE_REPORT, parts=DOUBLE_REPORT.parts[:1] * 2), "do not exclude each other"),
        (spoiled(DOUBLE_REPORT, epoch=1), "do not exclude each other"),
        (spoiled(DOUBLE_REPORT, parts=(b"", DOUBLE_REPORT.parts[1])), "a report of 0 bytes"),
        (spoiled(DOUBLE_REPORT, parts=(DOUBLE_REPORT.parts[0] + b"\0", DOUBLE_REPORT.parts[1])), "is signed by"),
    ],
)
def test_a_charge_that_convicts_nobody_is_refused(wrong: Charge, reason: str) -> None:
    with pytest.raises(BadChargeError, match=reason):
        deed_of(wrong, [MEMBERS])


def test_two_votes_for_one_block_are_not_charged() -> None:
    first = vote(1)
    other = replace(first.ballot, parent=hash_fields("test-other-parent"))
    second = Vote(other, 1, VOTING[1].sign(other.digest(MEMBERS)))
    with pytest.raises(BadChargeError, match="name different parents"):
        deed_of(charge(VoteEquivocation(first, second)), [MEMBERS])


def test_evidence_that_only_a_court_can_judge_is_no_charge() -> None:
    stranger = VoteEquivocation(replace(vote(1), signature=vote(2).signature), vote(2))
    assert charge_of(EvidenceFound(stranger), [MEMBERS]) is None


# ------------------------------------------------------------------------------------------------ votes


def cast(voter: int, header: bytes = HEADER, signer: int | None = None) -> HeaderVote:
    return HeaderVote(3, header, voter, VOTING[voter if signer is None else signer].sign(header))


def test_votes_are_kept_one_by_one_and_only_those_that_hold() -> None:
    said = [cast(2), cast(0), cast(1, signer=3), cast(1, hash_fields("other")), cast(3, signer=1), cast(2)]
    kept = votes_of(3, MEMBERS, HEADER, said)
    assert kept.voters == (0, 2)
    check_votes(kept, MEMBERS, HEADER)
    # a bad signature hides no good one
    assert votes_of(3, MEMBERS, HEADER, [cast(1, signer=3), cast(1), cast(1, signer=2)]).voters == (1,)
    with pytest.raises(EvidenceError, match="validator 0 has not signed"):
        check_votes(kept, MEMBERS, hash_fields("other"))
    with pytest.raises(EvidenceError, match="validator 4 has not signed"):
        check_votes(replace(kept, voters=(0, 4)), MEMBERS, HEADER)


def test_votes_by_seat_are_one_a_validator() -> None:
    seats = [ACCOUNTS[index % SIZE].address for index in range(6)]
    signatures = {seat: VOTING[seat % SIZE].sign(HEADER) for seat in (0, 1, 4, 5)}
    assert votes_by_seat(3, MEMBERS, HEADER, seats, signatures).voters == (0, 1)


def test_what_several_kept_is_put_together_and_what_does_not_hold_is_left_out() -> None:
    first = encode_run_evidence([votes_of(3, MEMBERS, HEADER, [cast(0)])], [DOUBLE_VOTE])
    bad = spoiled(DOUBLE_REPORT, parts=DOUBLE_REPORT.parts[:1])
    second = encode_run_evidence([votes_of(3, MEMBERS, HEADER, [cast(0), cast(3)])], [bad, DOUBLE_REPORT, DOUBLE_VOTE])
    found = [decode_run_evidence(data) for data in (first, second)]
    votes, charges = merge_evidence(3, [MEMBERS], MEMBERS, HEADER, found)
    assert votes.voters == (0, 3)
    assert list(charges.values()) == [DOUBLE_VOTE, DOUBLE_REPORT]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"/v1/evidence", b"/v2/evidence", "has format 'collegium/v2/evidence', expected 'collegium/v1/evidence'"),
        (b'"voters":[0,2]', b'"voters":[2,0]', "not in increasing order"),
        (b'"voters":[0,2]', b'"voters":[0]', "1 voters and other signatures"),
        (b'"round":3', b'"round":-3', "not in increasing order"),
        (b'"votes":[', b'"votes": [', "not in its canonical encoding"),
        (b'"double vote"', b'"double lie"', "evidence: "),
    ],
)
def test_evidence_that_is_malformed_is_refused(old: bytes, new: bytes, reason: str) -> None:
    data = encode_run_evidence([votes_of(3, MEMBERS, HEADER, [cast(0), cast(2)])], [DOUBLE_VOTE])
    assert decode_run_evidence(data).charges == (DOUBLE_VOTE,)
    assert data.count(old) == 1
    with pytest.raises(EvidenceError, match=reason):
        decode_run_evidence(data.replace(old, new))
    twice = encode_run_evidence([votes_of(3, MEMBERS, HEADER, [cast(0)])] * 2, [])
    with pytest.raises(EvidenceError, match="in the order of rounds"):
        decode_run_evidence(twice)
