"""Evidence against a member, from Python: what it signed by itself, brought before the contract that takes stakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, cast

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
    events,
)
from collegium.settlement._errors import ChainAnswerError, ContractRefusedError
from collegium.settlement._transactions import contract_address, transact

__all__ = [
    "Conviction",
    "SignedReport",
    "SlashingSite",
    "answer_demand",
    "convict",
    "conviction_in",
    "demand_rows",
    "double_proposal_call",
    "double_report_call",
    "double_vote_call",
    "false_header_call",
    "found_slashing",
    "is_convicted",
    "read_conviction",
    "read_refuter",
    "repay_demand",
    "report_double_proposal",
    "report_double_report",
    "report_double_vote",
    "report_false_header",
    "report_false_statement",
    "report_withheld_data",
    "signed_report",
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

    `disputes` is whom it asks for verdicts, the contract Courts where those are several; NOBODY where there is none.
    """

    slashing: bytes
    availability: bytes
    disputes: bytes
    curation: bytes


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report as evidence: where it belongs, who signed it, and what follows the terms in its id's preimage."""

    round: int
    trainer: bytes
    terms: Digest
    signature: bytes
    rest: bytes

    def id(self, task: Digest) -> Digest:
        """Return what the trainer signed."""
        return sha256(frame_fields("report", task, self.round, self.trainer, self.terms) + self.rest).digest()


@dataclass(frozen=True, slots=True)
class Conviction:
    """What came of evidence: the offence in words, who is rewarded, what was burned and rewarded, and the gas."""

    member: int
    offence: str
    reporter: bytes
    burned: int
    rewarded: int
    gas: int = field(default=0, compare=False)


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


def double_vote_call(member: int, epoch_set: EpochSet, evidence: VoteEquivocation) -> bytes:
    """Return the call that convicts a validator of two votes in one view, which must be of one voter of this set."""
    ballots = [vote.ballot for vote in (evidence.first, evidence.second)]
    fields = tuple((ballot.block, ballot.parent_view, ballot.parent) for ballot in ballots)
    signatures = tuple(g1_uncompressed(vote.signature) for vote in (evidence.first, evidence.second))
    arguments = (epoch_set.epoch, _members(epoch_set), ballots[0].view, fields, signatures)
    return contract("Slashing").call("doubleVote", member, *arguments)


def double_proposal_call(member: int, evidence: BlockEquivocation) -> bytes:
    """Return the call that convicts a validator of two blocks in one view."""
    headers = (evidence.first, evidence.second)
    place = (headers[0].epoch, headers[0].view, headers[0].author)
    arguments = (tuple(h.body for h in headers), tuple(h.signature for h in headers))
    return contract("Slashing").call("doubleProposal", member, *place, *arguments)


def double_report_call(member: int, first: SignedReport, second: SignedReport) -> bytes:
    """Return the call that convicts a trainer of two reports in one round."""
    rests, signatures = (first.rest, second.rest), (first.signature, second.signature)
    return contract("Slashing").call("doubleReport", member, first.round, first.terms, rests, signatures)


def signed_report(report: Report) -> SignedReport:
    """Return what a contract needs of a report to see who signed it, for which round and terms."""
    head = frame_fields("report", report.task, report.round, report.trainer, report.terms)
    rest = report.preimage.removeprefix(head)
    return SignedReport(report.round, report.trainer, report.terms, report.signature, rest)


def false_header_call(member: int, header: Digest, signature: bytes) -> bytes:
    """Return the call that convicts a validator of its own vote for a header that was shown false."""
    return contract("Slashing").call("falseHeader", member, header, g1_uncompressed(signature))


def convict(chain: Chain, site: SlashingSite, account: Account, call: bytes) -> Conviction:
    """Bring evidence before the contract that takes stakes, and return what came of it.

    Raises:
        ContractRefusedError: AlreadyConvicted, NothingToSlash, NotSigned and others, by name.
    """
    receipt = transact(chain, account, site.slashing, call)
    return conviction_in(chain, site, receipt)


def conviction_in(chain: Chain, site: SlashingSite, receipt: Receipt) -> Conviction:
    """Return the conviction that a transaction brought about.

    Raises:
        ChainAnswerError: its events tell of none.
    """
    convicted = event_of(receipt, "Slashing", site.slashing, "Convicted")
    (registry,) = ask(chain, "Slashing", site.slashing, "registry")
    slashed = event_of(receipt, "Registry", address_of(registry), "Slashed")
    reporter, taken = address_of(convicted["reporter"]), (slashed["burned"], slashed["rewarded"])
    return Conviction(convicted["id"], _offence(convicted["offence"]), reporter, *taken, receipt.gas)


def read_conviction(chain: Chain, site: SlashingSite, block: int, call: bytes) -> Conviction:
    """Return what came of evidence that somebody has brought, since this block; its gas is not told.

    Raises:
        ChainAnswerError: nobody has, or the events do not say what came of it.
        ContractRefusedError: the contract refuses the evidence for another reason.
    """
    known = _convicted(chain, site, call)
    if known is None:
        raise ChainAnswerError("nobody has brought this evidence before the contract")
    member, matter = known
    (at,) = ask(chain, "Slashing", site.slashing, "registry")
    told = events(chain, "Slashing", site.slashing, "Convicted", block)
    taken = events(chain, "Registry", address_of(at), "Slashed", block)
    convicted, slashed = ([event for event in kind if event["id"] == member] for kind in (told, taken))
    for said, cost in zip(convicted, slashed, strict=False):  # one of each for every conviction of a member
        if said["matter"] == matter:
            offence, reporter = _offence(said["offence"]), address_of(said["reporter"])
            return Conviction(member, offence, reporter, cost["burned"], cost["rewarded"])
    raise ChainAnswerError(f"no event tells of the conviction of member {member}", member=member)


def is_convicted(chain: Chain, site: SlashingSite, call: bytes) -> bool:
    """Tell whether somebody has brought this evidence before: the contract would take nothing more for it.

    Raises:
        ContractRefusedError: it refuses it for another reason, by name.
    """
    return _convicted(chain, site, call) is not None


def report_double_vote(
    chain: Chain, site: SlashingSite, account: Account, member: int, epoch_set: EpochSet, evidence: VoteEquivocation
) -> Conviction:
    """Convict a validator of two votes in one view; see `double_vote_call`."""
    return convict(chain, site, account, double_vote_call(member, epoch_set, evidence))


def report_double_proposal(
    chain: Chain, site: SlashingSite, account: Account, member: int, evidence: BlockEquivocation
) -> Conviction:
    """Convict a validator of two blocks in one view."""
    return convict(chain, site, account, double_proposal_call(member, evidence))


def report_double_report(
    chain: Chain, site: SlashingSite, account: Account, member: int, first: Report, second: Report
) -> Conviction:
    """Convict a trainer of two reports in one round."""
    return convict(chain, site, account, double_report_call(member, signed_report(first), signed_report(second)))


def report_false_statement(
    chain: Chain, site: SlashingSite, account: Account, member: int, statement: Digest, signature: bytes
) -> Conviction:
    """Convict a member of a signed statement that was shown false in a dispute; the dispute's winner is rewarded."""
    call = contract("Slashing").call("falseStatement", member, statement, signature)
    return convict(chain, site, account, call)


def report_false_header(
    chain: Chain, site: SlashingSite, account: Account, member: int, header: Digest, signature: bytes
) -> Conviction:
    """Convict a validator of its own vote for a header that was shown false; the dispute's winner is rewarded."""
    return convict(chain, site, account, false_header_call(member, header, signature))


def report_withheld_data(
    chain: Chain, site: SlashingSite, account: Account, member: int, key_sum: KeySum
) -> Conviction:
    """Convict a seat's validator of a signed key sum whose rows were demanded in vain; whoever asked is rewarded."""
    call = contract("Slashing").call("withheldData", member, key_sum.digest, key_sum.signature)
    return convict(chain, site, account, call)


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


def _convicted(chain: Chain, site: SlashingSite, call: bytes) -> tuple[int, bytes] | None:
    """Return of which member and matter evidence has been brought before, None if it has not.

    Raises:
        ContractRefusedError: the contract refuses it for another reason.
    """
    try:
        chain.call(NOBODY, site.slashing, call)
    except ContractRefusedError as error:
        if error.values["error"] != "AlreadyConvicted":
            raise
        return cast(tuple[int, bytes], error.values["arguments"])
    return None


def _offence(number: int) -> str:
    if number >= len(OFFENCES):
        raise ChainAnswerError(f"offence {number}, expected 0 to {len(OFFENCES) - 1}", number=number)
    return OFFENCES[number]


def _members(epoch_set: EpochSet) -> bytes:
    """Return what follows task and epoch in the preimage of an epoch set's digest."""
    return epoch_set.preimage.removeprefix(frame_fields("epoch-set", epoch_set.task, epoch_set.epoch))
