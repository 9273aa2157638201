"""Stakes that curators put behind a trainer, from Python."""

from __future__ import annotations

from dataclasses import dataclass

from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._deployment import NATIVE, ask, event_of
from collegium.settlement._slashing import SlashingSite
from collegium.settlement._transactions import transact

__all__ = ["CuratorPool", "delegate_stake", "read_pool", "undelegate_stake", "withdraw_delegation"]


@dataclass(frozen=True, slots=True)
class CuratorPool:
    """What stands behind a trainer: what is left of what came in."""

    stake: int
    paid: int


def delegate_stake(
    chain: Chain, site: SlashingSite, curator: Account, member: int, amount: int, *, token: bytes = NATIVE
) -> Receipt:
    """Put more stake behind a trainer that is not leaving; it is taken with the trainer's own."""
    data = contract("Curation").call("delegate", member, amount)
    return transact(chain, curator, site.curation, data, value=amount if token == NATIVE else 0)


def undelegate_stake(chain: Chain, site: SlashingSite, curator: Account, member: int) -> int:
    """Start to take the curator's whole stake from behind a trainer; return when it can be withdrawn, in seconds."""
    receipt = transact(chain, curator, site.curation, contract("Curation").call("undelegate", member))
    return int(event_of(receipt, "Curation", site.curation, "Leaving")["earliest"])


def withdraw_delegation(chain: Chain, site: SlashingSite, curator: Account, member: int) -> int:
    """Take what is left of the curator's stake back after the delay; return it.

    Raises:
        ContractRefusedError: StillLeaving (with the timestamp of the end), NotLeaving.
    """
    receipt = transact(chain, curator, site.curation, contract("Curation").call("withdraw", member))
    return int(event_of(receipt, "Curation", site.curation, "Withdrawn")["amount"])


def read_pool(chain: Chain, site: SlashingSite, member: int) -> CuratorPool:
    """Return what curators have put behind a member."""
    ((stake, paid),) = ask(chain, "Curation", site.curation, "pool", member)
    return CuratorPool(stake, paid)
