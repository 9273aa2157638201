"""Members of a task's registry from Python: trainers and stewards enter, stakes grow, and what is owed is collected."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain
from collegium.settlement._deployment import NATIVE, Deployment, address_of, ask, choice_of, event_of
from collegium.settlement._transactions import transact

__all__ = [
    "Member",
    "Role",
    "approve",
    "collect",
    "enrol",
    "raise_stake",
    "read_member",
    "read_owed",
]

# The one function of ERC-20 that a payer needs.
APPROVE_SELECTOR: Final = bytes.fromhex("095ea7b3")


class Role(IntEnum):
    """What a member of the registry does."""

    VALIDATOR = 0
    TRAINER = 1
    STEWARD = 2


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the registry holds it.

    Attributes:
        account: address that entered, signs and is paid.
        stake: what can be taken; 0 once withdrawn or slashed whole.
        unbonded_at_s: when it began to leave; 0 if it has not.
        seated_before: the epoch after the last in which it has a seat; 0 if it never had one.
        encryption_key: X25519; zeros if it has none.
    """

    account: bytes
    stake: int
    unbonded_at_s: int
    seated_before: int
    role: Role
    encryption_key: bytes


def enrol(
    chain: Chain,
    deployment: Deployment,
    account: Account,
    role: Role,
    encryption_key: bytes,
    stake_wei: int,
    *,
    token: bytes = NATIVE,
) -> int:
    """Enter as trainer or steward with a stake and return the member's number.

    Args:
        stake_wei: of the chain's coin; with a token the registry takes its minimum, which must be approved.
    """
    data = contract("Registry").call("enrol", role, encryption_key)
    receipt = transact(chain, account, deployment.registry, data, value=stake_wei if token == NATIVE else 0)
    return int(event_of(receipt, "Registry", deployment.registry, "Enrolled")["id"])


def raise_stake(
    chain: Chain, deployment: Deployment, account: Account, member: int, amount: int, *, token: bytes = NATIVE
) -> int:
    """Add to the stake of a member that is not leaving, and return the whole."""
    data = contract("Registry").call("raiseStake", member, amount)
    receipt = transact(chain, account, deployment.registry, data, value=amount if token == NATIVE else 0)
    return int(event_of(receipt, "Registry", deployment.registry, "StakeRaised")["stake"])


def read_member(chain: Chain, deployment: Deployment, member: int) -> Member:
    """Return what the registry holds of a member.

    Raises:
        ChainAnswerError: what is there does not answer as that contract.
        ContractRefusedError: UnknownMember.
    """
    (fields,) = ask(chain, "Registry", deployment.registry, "member", member)
    account, stake, _, unbonded_at, seated_before, role, encryption_key = fields
    return Member(address_of(account), stake, unbonded_at, seated_before, choice_of(Role, role), encryption_key)


def read_owed(chain: Chain, contract_at: bytes, account: bytes) -> int:
    """Return what a contract that holds coin owes an account."""
    (owed,) = ask(chain, "Registry", contract_at, "owed", account)
    return int(owed)


def collect(chain: Chain, contract_at: bytes, payer: Account, account: bytes) -> int:
    """Have a contract send an account what it owes it, and return the amount; any account can ask for it.

    Raises:
        ContractRefusedError: NothingOwed.
    """
    receipt = transact(chain, payer, contract_at, contract("Registry").call("collect", account))
    return int(event_of(receipt, "Registry", contract_at, "Collected")["amount"])


def approve(chain: Chain, token: bytes, account: Account, spender: bytes, amount: int) -> Digest:
    """Let a contract take up to `amount` of a token from `account`, and return the transaction."""
    data = APPROVE_SELECTOR + spender.rjust(32, b"\0") + amount.to_bytes(32, "big")
    return transact(chain, account, token, data).transaction
