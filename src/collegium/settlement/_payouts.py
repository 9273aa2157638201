"""What trainers are paid for rounds, and contributors for the use of model versions, from Python.

Both rest on a list that the set in office certifies: who is due how much. The list is known to everybody; the chain has
its root, and a claim shows one line of it (docs/spec/money.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collegium.crypto import Certificate, Digest, hash_fields
from collegium.lineage import Influence
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._checkpoint import header_proof, header_root
from collegium.settlement._deployment import (
    NATIVE,
    Deployment,
    address_of,
    ask,
    certificate_arguments,
    event_of,
    events,
)
from collegium.settlement._licences import MoneySite
from collegium.settlement._transactions import transact

__all__ = [
    "Budget",
    "Due",
    "ModelVersion",
    "PayPlace",
    "RewardListView",
    "cancel_rewards",
    "claim_fees",
    "claim_reward",
    "dues_of_influence",
    "fee_version_digest",
    "fund_task",
    "funding_call",
    "pay_for_version",
    "pay_place",
    "post_rewards",
    "posted_list",
    "read_budget",
    "read_claimed",
    "read_list",
    "read_lists",
    "read_version",
    "reclaim_budget",
    "register_version",
    "reward_list_digest",
    "rewards_call",
    "sweep_rewards",
]

NO_VERSION: Digest = bytes(32)


@dataclass(frozen=True, slots=True)
class Due:
    """One line of a list.

    Attributes:
        account: who is paid.
        amount: in a list of rewards what it is due, in a version's list its weight.
        licence: whose curators share in it; 0 for none.
    """

    account: bytes
    amount: int
    licence: int = 0


@dataclass(frozen=True, slots=True)
class PayPlace:
    """Which task a list is of, and which contract of which chain it is for.

    Attributes:
        epoch: whose set certifies it.
        contract: the contract that pays.
        settlement: the contract that knows the set.
    """

    task: Digest
    epoch: int
    chain_id: int
    contract: bytes
    settlement: bytes

    @property
    def fields(self) -> tuple[bytes | int, ...]:
        """What the digest of a statement starts with."""
        return self.task, self.epoch, _word(self.chain_id) + self.contract + self.settlement


@dataclass(frozen=True, slots=True)
class Budget:
    """What a task has to give: in no list, in lists so far, and how many lists there were."""

    free: int
    spent: int
    lists: int


@dataclass(frozen=True, slots=True)
class RewardListView:
    """A list of rewards as the contract holds it: from when on it is open, when it closes, and what is left in it."""

    settlement: bytes
    opens_at_s: int
    closes_at_s: int
    leaves: int
    left: int
    root: Digest
    statement: Digest


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version that can be paid for.

    Attributes:
        opens_at_s: from when on.
        parent: the version that it was made from; zeros if none.
        weight: that its list adds up to.
        income: what it has earned, of which `claimed` was credited.
    """

    settlement: bytes
    opens_at_s: int
    model: Digest
    parent: Digest
    weight: int
    income: int
    claimed: int


def dues_of_influence(influence: Sequence[Influence], accounts: Mapping[str, Due]) -> tuple[Due, ...]:
    """Return a version's list from what the lineage says of it: a line for each trainer that put weight into it.

    Args:
        accounts: for each trainer's name the account and the licence; the amounts are not read.
    """
    return tuple(
        Due(accounts[found.trainer].account, found.weight, accounts[found.trainer].licence)
        for found in influence
        if found.weight > 0
    )


def pay_place(chain: Chain, deployment: Deployment, paying: bytes) -> PayPlace:
    """Return the place of the next certified list of a task at a contract that pays."""
    (epoch,) = ask(chain, "Settlement", deployment.settlement, "epoch")
    return PayPlace(deployment.task, int(epoch), chain.chain_id, paying, deployment.settlement)


def reward_list_digest(place: PayPlace, number: int, checkpoint: Digest, dues: Sequence[Due]) -> Digest:
    """Return what the set in office signs for a list of rewards.

    Args:
        number: how many lists the task had before (`read_budget`).
        checkpoint: digest of the last checkpoint whose rounds are paid.
    """
    total = sum(due.amount for due in dues)
    return hash_fields("reward-list", *place.fields, number, checkpoint, _root("reward", dues), len(dues), _word(total))


def fee_version_digest(place: PayPlace, model: Digest, dues: Sequence[Due], parent: Digest = NO_VERSION) -> Digest:
    """Return what the set in office signs for a version, which is the version's number too."""
    weight = sum(due.amount for due in dues)
    return hash_fields("fee-version", *place.fields, model, parent, _root("fee", dues), len(dues), _word(weight))


def fund_task(
    chain: Chain, site: MoneySite, account: Account, deployment: Deployment, amount: int, *, token: bytes = NATIVE
) -> Receipt:
    """Add to a task's budget."""
    data = funding_call(deployment, amount)
    return transact(chain, account, site.rewards, data, value=amount if token == NATIVE else 0)


def funding_call(deployment: Deployment, amount: int) -> bytes:
    """Return the data of the transaction that adds to a task's budget; see `fund_task`."""
    return contract("Rewards").call("fund", deployment.settlement, amount)


def post_rewards(
    chain: Chain,
    site: MoneySite,
    account: Account,
    deployment: Deployment,
    last_round: int,
    dues: Sequence[Due],
    certificate: Certificate,
) -> int:
    """Post a list of rewards and return its number; any account can.

    Args:
        last_round: with which the checkpoint ends that the certificate's statement names.
        certificate: the current set's, of `reward_list_digest`.
    """
    receipt = transact(chain, account, site.rewards, rewards_call(deployment, last_round, dues, certificate))
    return posted_list(site, receipt)


def rewards_call(deployment: Deployment, last_round: int, dues: Sequence[Due], certificate: Certificate) -> bytes:
    """Return the data of the transaction that posts a list of rewards; see `post_rewards`."""
    total = sum(due.amount for due in dues)
    arguments = (deployment.settlement, last_round, _root("reward", dues), len(dues), total)
    return contract("Rewards").call("post", *arguments, *certificate_arguments(certificate))


def posted_list(site: MoneySite, receipt: Receipt) -> int:
    """Return the number that the contract gave the list which a transaction posted."""
    return int(event_of(receipt, "Rewards", site.rewards, "ListPosted")["id"])


def claim_reward(
    chain: Chain, site: MoneySite, account: Account, list_number: int, dues: Sequence[Due], index: int
) -> Receipt:
    """Have a line of a list credited to its account and curators; any account can."""
    due = dues[index]
    proof = tuple(header_proof(_leaves("reward", dues), index))
    arguments = (list_number, index, due.account, due.amount, due.licence, proof)
    return transact(chain, account, site.rewards, contract("Rewards").call("claim", *arguments))


def read_list(chain: Chain, site: MoneySite, list_number: int) -> RewardListView:
    """Return what the contract holds of a list.

    Raises:
        ContractRefusedError: UnknownList.
    """
    ((settlement, opens_at, leaves, left, root, statement),) = ask(chain, "Rewards", site.rewards, "list", list_number)
    (claim_s,) = ask(chain, "Rewards", site.rewards, "claimSeconds")
    return RewardListView(address_of(settlement), opens_at, opens_at + claim_s, leaves, left, root, statement)


def read_lists(chain: Chain, site: MoneySite, deployment: Deployment) -> dict[Digest, int]:
    """Return the number of each list of a task by the digest that its set signed."""
    told = events(chain, "Rewards", site.rewards, "ListPosted", deployment.block)
    own = (event for event in told if address_of(event["settlement"]) == deployment.settlement)
    return {bytes(event["statement"]): int(event["id"]) for event in own}


def read_claimed(chain: Chain, site: MoneySite, list_number: int, from_block: int = 0) -> frozenset[int]:
    """Return which lines of a list were claimed since a block."""
    told = events(chain, "Rewards", site.rewards, "Claimed", from_block)
    return frozenset(event["index"] for event in told if event["id"] == list_number)


def cancel_rewards(chain: Chain, site: MoneySite, account: Account, list_number: int) -> Receipt:
    """Put what is left of a refuted list back into its task's budget."""
    return transact(chain, account, site.rewards, contract("Rewards").call("cancel", list_number))


def sweep_rewards(chain: Chain, site: MoneySite, account: Account, list_number: int) -> Receipt:
    """Put what nobody claimed in time back into a task's budget."""
    return transact(chain, account, site.rewards, contract("Rewards").call("sweep", list_number))


def reclaim_budget(chain: Chain, site: MoneySite, account: Account, deployment: Deployment) -> Receipt:
    """Have a task's sponsor credited what is in its budget after the deadline."""
    return transact(chain, account, site.rewards, contract("Rewards").call("reclaim", deployment.settlement))


def read_budget(chain: Chain, site: MoneySite, deployment: Deployment) -> Budget:
    """Return what a task has to give."""
    ((free, spent, lists),) = ask(chain, "Rewards", site.rewards, "budget", deployment.settlement)
    return Budget(free, spent, lists)


def register_version(
    chain: Chain,
    site: MoneySite,
    account: Account,
    deployment: Deployment,
    model: Digest,
    dues: Sequence[Due],
    certificate: Certificate,
    parent: Digest = NO_VERSION,
) -> Digest:
    """Register a version with its contributors' weights and return its number; any account can.

    Args:
        parent: number of the version that it was made from.
        certificate: the current set's, of `fee_version_digest`.
    """
    weight = sum(due.amount for due in dues)
    arguments = (deployment.settlement, model, parent, _root("fee", dues), len(dues), weight)
    data = contract("Fees").call("register", *arguments, *certificate_arguments(certificate))
    registered = event_of(transact(chain, account, site.fees, data), "Fees", site.fees, "Registered")
    return bytes(registered["id"])


def pay_for_version(
    chain: Chain,
    site: MoneySite,
    account: Account,
    version: Digest,
    amount: int,
    *,
    purpose: Digest = bytes(32),
    token: bytes = NATIVE,
) -> Receipt:
    """Pay for the use of a version; the event Paid in the receipt names payer and purpose."""
    data = contract("Fees").call("pay", version, amount, purpose)
    return transact(chain, account, site.fees, data, value=amount if token == NATIVE else 0)


def claim_fees(
    chain: Chain, site: MoneySite, account: Account, version: Digest, dues: Sequence[Due], index: int
) -> Receipt:
    """Have a contributor credited its part of what a version earned since its last claim; any account can."""
    due = dues[index]
    proof = tuple(header_proof(_leaves("fee", dues), index))
    arguments = (version, index, due.account, due.amount, due.licence, proof)
    return transact(chain, account, site.fees, contract("Fees").call("claim", *arguments))


def read_version(chain: Chain, site: MoneySite, version: Digest) -> ModelVersion:
    """Return a version that was registered.

    Raises:
        ContractRefusedError: UnknownVersion.
    """
    (fields,) = ask(chain, "Fees", site.fees, "version", version)
    settlement, opens_at, _, model, parent, _, weight, income, claimed = fields
    return ModelVersion(address_of(settlement), opens_at, model, parent, weight, income, claimed)


def _leaves(use: str, dues: Sequence[Due]) -> list[Digest]:
    return [hash_fields(use, due.account, _word(due.amount), _word(due.licence)) for due in dues]


def _root(use: str, dues: Sequence[Due]) -> Digest:
    """Return the root of a list: the tree is that of a checkpoint's headers."""
    return header_root(_leaves(use, dues))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
