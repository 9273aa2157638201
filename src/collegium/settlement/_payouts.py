"""What contributors are paid for the use of model versions, from Python.

A version rests on a list that the set in office certifies: who put how much weight into it. The list is known to
everybody; the chain has its root, and a claim shows one line of it (docs/spec/money.md).
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
)
from collegium.settlement._licences import MoneySite
from collegium.settlement._transactions import transact

__all__ = [
    "Due",
    "ModelVersion",
    "PayPlace",
    "claim_fees",
    "dues_of_influence",
    "fee_version_digest",
    "pay_for_version",
    "pay_place",
    "read_version",
    "register_version",
]

NO_VERSION: Digest = bytes(32)


@dataclass(frozen=True, slots=True)
class Due:
    """One line of a list.

    Attributes:
        account: who is paid.
        amount: of a reward what it has earned from round 0 on, in a version's list its weight.
        licence: whose curators share in it; 0 for none.
        chain: on which a reward is paid: the chain's number, 0 for the task's home; nothing in a version's list.
    """

    account: bytes
    amount: int
    licence: int = 0
    chain: int = 0


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
    """Return the place of the next certified version of a task at a contract that pays."""
    (epoch,) = ask(chain, "Settlement", deployment.settlement, "epoch")
    return PayPlace(deployment.task, int(epoch), chain.chain_id, paying, deployment.settlement)


def fee_version_digest(place: PayPlace, model: Digest, dues: Sequence[Due], parent: Digest = NO_VERSION) -> Digest:
    """Return what the set in office signs for a version, which is the version's number too."""
    weight = sum(due.amount for due in dues)
    return hash_fields("fee-version", *place.fields, model, parent, _root(dues), len(dues), _word(weight))


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
    arguments = (deployment.settlement, model, parent, _root(dues), len(dues), weight)
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
    proof = tuple(header_proof(_leaves(dues), index))
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


def _leaves(dues: Sequence[Due]) -> list[Digest]:
    return [hash_fields("fee", due.account, _word(due.amount), _word(due.licence)) for due in dues]


def _root(dues: Sequence[Due]) -> Digest:
    """Return the root of a list: the tree is that of a checkpoint's headers."""
    return header_root(_leaves(dues))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
