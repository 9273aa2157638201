"""Evidence against a member, from Python: what it signed by itself, brought before the contract that takes stakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from collegium import algebra
from collegium.aggregation import KeySum, Report
from collegium.consensus import BlockEquivocation, EpochSet, VoteEquivocation
from collegium.crypto import Digest, frame_fields, g1_uncompressed
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._deployment import (
    NATIVE,
    NOBODY,
    STAKE_MIN_WEI,
    UNBONDING_S,
    Deployment,
    address_of,
    ask,
    created,
    deploy,
    event_of,
)
from collegium.settlement._errors import ChainAnswerError
from collegium.settlement._transactions import contract_address, transact

__all__ = [
    "Conviction",
    "SlashingSite",
    "answer_demand",
    "demand_rows",
    "found_slashing",
    "read_refuter",
    "repay_demand",
    "report_double_proposal",
    "report_double_report",
    "report_double_vote",
    "report_false_header",
    "report_false_statement",
    "report_withheld_data",
]

OFFENCES: Final = (
    "double vote",
    "double proposal",
    "double report",
    "false statement",
    "false header",
    "withheld data",
)
DEMAND_BOND_WEI: Final = 10**16
ANSWER_S: Final = 3 * 24 * 3600


@dataclass(frozen=True, slots=True)
class SlashingSite:
    """Where the contract is that takes stakes, the courts that it believes, and curators' stakes.

    `disputes` is NOBODY where that court is missing.
    """

    slashing: bytes
    availability: bytes
    disputes: bytes
    curation: bytes


@dataclass(frozen=True, slots=True)
class Conviction:
    """What came of evidence: the offence in words, who is rewarded, and what was burned and rewarded."""

    member: int
    offence: str
    reporter: bytes
    burned: int
    rewarded: int


def found_slashing(
    chain: Chain,
    account: Account,
    task: Digest,
    *,
    first_round: int = 0,
    stake_min_wei: int = STAKE_MIN_WEI,
    unbonding_s: int = UNBONDING_S,
    token: bytes = NATIVE,
    bond_wei: int = DEMAND_BOND_WEI,
    answer_s: int = ANSWER_S,
    found_disputes: Callable[[Deployment], bytes] | None = None,
) -> tuple[Deployment, SlashingSite]:
    """Create a task's contracts together with those that may take stakes.

    The registry names the contract that may slash, which names the registry: so its address is foretold from the
    account's nonce, and nothing else may be sent from the account meanwhile.

    Args:
        bond_wei: what it costs to demand data, and what an answer brings.
        answer_s: seconds to answer a demand.
        found_disputes: creates the court for disputes in one transaction of `account` and returns its address.

    Raises:
        ChainAnswerError: the contract came to stand elsewhere than was foretold.
    """
    between = 3 if found_disputes is None else 4
    foretold = contract_address(account.address, chain.nonce(account.address) + between)
    deployment = deploy(
        chain,
        account,
        task,
        first_round=first_round,
        stake_min_wei=stake_min_wei,
        unbonding_s=unbonding_s,
        slashing=foretold,
        token=token,
    )
    availability = created(transact(chain, account, None, contract("Availability").creation(task, bond_wei, answer_s)))
    curation = created(transact(chain, account, None, contract("Curation").creation(deployment.registry, foretold)))
    disputes = NOBODY if found_disputes is None else found_disputes(deployment)
    creation = contract("Slashing").creation(deployment.settlement, disputes, availability, curation)
    slashing = created(transact(chain, account, None, creation))
    if slashing != foretold:
        raise ChainAnswerError(
            f"the contract that slashes is at {slashing.hex()}, the registry names {foretold.hex()}", slashing=slashing
        )
    return deployment, SlashingSite(slashing, availability, disputes, curation)


def report_double_vote(
    chain: Chain, site: SlashingSite, account: Account, member: int, epoch_set: EpochSet, evidence: VoteEquivocation
) -> Conviction:
    """Convict a validator of two votes in one view; the evidence must be of one voter of this epoch set."""
    ballots = [vote.ballot for vote in (evidence.first, evidence.second)]
    fields = tuple((ballot.block, ballot.parent_view, ballot.parent) for ballot in ballots)
    signatures = tuple(g1_uncompressed(vote.signature) for vote in (evidence.first, evidence.second))
    arguments = (epoch_set.epoch, _members(epoch_set), ballots[0].view, fields, signatures)
    return _report(chain, site, account, "doubleVote", member, *arguments)


def report_double_proposal(
    chain: Chain, site: SlashingSite, account: Account, member: int, evidence: BlockEquivocation
) -> Conviction:
    """Convict a validator of two blocks in one view."""
    headers = (evidence.first, evidence.second)
    place = (headers[0].epoch, headers[0].view, headers[0].author)
    arguments = (tuple(h.body for h in headers), tuple(h.signature for h in headers))
    return _report(chain, site, account, "doubleProposal", member, *place, *arguments)


def report_double_report(
    chain: Chain, site: SlashingSite, account: Account, member: int, first: Report, second: Report
) -> Conviction:
    """Convict a trainer of two reports in one round."""
    reports = (first, second)
    rests = tuple(_after_terms(report) for report in reports)
    arguments = (first.round, first.terms, rests, tuple(report.signature for report in reports))
    return _report(chain, site, account, "doubleReport", member, *arguments)


def report_false_statement(
    chain: Chain, site: SlashingSite, account: Account, member: int, statement: Digest, signature: bytes
) -> Conviction:
    """Convict a member of a signed statement that was shown false in a dispute; the dispute's winner is rewarded."""
    return _report(chain, site, account, "falseStatement", member, statement, signature)


def report_false_header(
    chain: Chain, site: SlashingSite, account: Account, member: int, header: Digest, signature: bytes
) -> Conviction:
    """Convict a validator of its own vote for a header that was shown false; the dispute's winner is rewarded."""
    return _report(chain, site, account, "falseHeader", member, header, g1_uncompressed(signature))


def report_withheld_data(
    chain: Chain, site: SlashingSite, account: Account, member: int, key_sum: KeySum
) -> Conviction:
    """Convict a seat's validator of a signed key sum whose rows were demanded in vain; whoever asked is rewarded."""
    return _report(chain, site, account, "withheldData", member, key_sum.digest, key_sum.signature)


def demand_rows(chain: Chain, site: SlashingSite, account: Account, key_sum: KeySum, rows_digest: Digest) -> int:
    """Pay the bond to ask for the rows of a key sum, of which `rows_digest` is known; return the last second to answer.

    Args:
        key_sum: its rows are not read.
    """
    (bond,) = ask(chain, "Availability", site.availability, "bond")
    place = (key_sum.round, key_sum.close, key_sum.seat, rows_digest)
    data = contract("Availability").call("demand", *place)
    receipt = transact(chain, account, site.availability, data, value=int(bond))
    return int(event_of(receipt, "Availability", site.availability, "Demanded")["deadline"])


def answer_demand(chain: Chain, site: SlashingSite, account: Account, key_sum: KeySum) -> Receipt:
    """Publish the rows of a key sum that were asked for; `account` is owed the bond."""
    rows = algebra.to_bytes(key_sum.rows.reshape(-1))
    data = contract("Availability").call("answer", key_sum.round, key_sum.close, key_sum.seat, rows)
    return transact(chain, account, site.availability, data)


def repay_demand(chain: Chain, site: SlashingSite, account: Account, statement: Digest) -> Receipt:
    """Have the bond of a demand that nobody answered in time credited to whoever paid it."""
    return transact(chain, account, site.availability, contract("Availability").call("repay", statement))


def read_refuter(chain: Chain, court: bytes, statement: Digest) -> bytes | None:
    """Return who has shown a statement false before a court, None if nobody has."""
    (refuter,) = ask(chain, "Availability", court, "refuter", statement)
    address = address_of(refuter)
    return None if address == NOBODY else address


def _report(
    chain: Chain, site: SlashingSite, account: Account, function: str, member: int, *arguments: object
) -> Conviction:
    receipt = transact(chain, account, site.slashing, contract("Slashing").call(function, member, *arguments))
    convicted = event_of(receipt, "Slashing", site.slashing, "Convicted")
    (registry,) = ask(chain, "Slashing", site.slashing, "registry")
    slashed = event_of(receipt, "Registry", address_of(registry), "Slashed")
    reporter = address_of(convicted["reporter"])
    return Conviction(member, OFFENCES[convicted["offence"]], reporter, slashed["burned"], slashed["rewarded"])


def _members(epoch_set: EpochSet) -> bytes:
    """Return what follows task and epoch in the preimage of an epoch set's digest."""
    return epoch_set.preimage.removeprefix(frame_fields("epoch-set", epoch_set.task, epoch_set.epoch))


def _after_terms(report: Report) -> bytes:
    """Return what follows the terms in the preimage of a report's id."""
    head = frame_fields("report", report.task, report.round, report.trainer, report.terms)
    return report.preimage.removeprefix(head)
