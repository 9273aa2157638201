"""What trainers of a run are due, as its record says, and what became of it on the node that it settled on.

The record is not believed where coin is moved: a line that is not in the contract's list is refused there. Whether
the lists are right is for `verify` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collegium.errors import CollegiumError
from collegium.settlement import (
    Account,
    Chain,
    Checkpoint,
    ContractRefusedError,
    Deployment,
    Due,
    JsonRpcChain,
    MoneySite,
    PayPlace,
    RewardListView,
    claim_reward,
    collect,
    read_claimed,
    read_licence,
    read_list,
    read_lists,
    read_owed,
)

from ._base_chain import decode_chain_record
from ._experiment import experiment_from_bytes
from ._genesis import decode_genesis
from ._rewards import RewardList, payee_names
from ._run import CHAIN, GENESIS
from ._watch import NotOnANodeError

__all__ = ["DueList", "NoRewardsError", "PaidRun", "claim_dues", "load_dues", "read_dues"]


class NoRewardsError(CollegiumError):
    """A run pays its trainers nothing."""


@dataclass(frozen=True, slots=True)
class DueList:
    """A list of rewards of a run.

    Attributes:
        number: that the contract gave it; None where no chain was asked, or the chain does not hold it.
        held: what the contract has of it.
        claimed: which of its lines were.
    """

    checkpoint: Checkpoint
    dues: tuple[Due, ...]
    number: int | None = None
    held: RewardListView | None = None
    claimed: frozenset[int] = frozenset()

    def state(self, now_s: int) -> str:
        """Say in a word or two whether it can be claimed from."""
        if self.held is None:
            return "not on the chain"
        if now_s < self.held.opens_at_s:
            return "not open yet"
        return "open" if now_s < self.held.closes_at_s else "closed"


@dataclass(frozen=True)
class PaidRun:
    """What a run's record says of its rewards, and where they are.

    Attributes:
        url: of the node; None where it settled on the chain of its own process, which ended with it.
        names: who is meant by a line (`payee_names`).
    """

    url: str | None
    deployment: Deployment
    site: MoneySite
    lists: tuple[DueList, ...]
    names: dict[Due, str]

    def name_of(self, due: Due) -> str | None:
        """Return who is meant by a line, None if nobody of the genesis is."""
        return self.names.get(replace(due, amount=0))

    @property
    def node(self) -> JsonRpcChain:
        """The node.

        Raises:
            NotOnANodeError: there is none.
        """
        if self.url is None:
            raise NotOnANodeError(
                "the run settled on the chain in its own process, which ended with it: nothing can be claimed there"
            )
        return JsonRpcChain(self.url)


def load_dues(path: Path, url: str | None = None) -> PaidRun:
    """Read what a run's folder says that its trainers are due; `url` is a node to ask instead of the run's.

    Raises:
        NoRewardsError: they are due nothing.
        CollegiumError: a file is malformed.
    """
    genesis = decode_genesis((path / GENESIS).read_bytes())
    record = decode_chain_record((path / CHAIN).read_bytes())
    if record.paying is None:
        raise NoRewardsError(f"{path} pays its trainers nothing: its experiment has no section [rewards]", path=path)
    names = payee_names(experiment_from_bytes(genesis.experiment), genesis)
    lists: list[DueList] = []
    for paid in record.paying.lists:
        if not 0 <= paid.checkpoint < len(record.checkpoints):
            raise NoRewardsError(f"{path}: a list of rewards is for checkpoint {paid.checkpoint}, which is not there")
        lists.append(DueList(record.checkpoints[paid.checkpoint], paid.dues))
    return PaidRun(url or record.url, record.deployment, record.paying.site, tuple(lists), names)


def read_dues(run: PaidRun, chain: Chain) -> PaidRun:
    """Return the same with what the chain holds of each list: it is found by the digest that the set signed."""
    posted = read_lists(chain, run.site, run.deployment)
    lists: list[DueList] = []
    for number, entry in enumerate(run.lists):
        task, epoch = entry.checkpoint.task, entry.checkpoint.epoch
        place = PayPlace(task, epoch, chain.chain_id, run.site.rewards, run.deployment.settlement)
        found = posted.get(RewardList(place, number, entry.checkpoint, entry.dues).digest)
        if found is None:
            lists.append(entry)
            continue
        claimed = read_claimed(chain, run.site, found, run.deployment.block)
        lists.append(replace(entry, number=found, held=read_list(chain, run.site, found), claimed=claimed))
    return replace(run, lists=tuple(lists))


def claim_dues(run: PaidRun, chain: Chain, payer: Account, say: Callable[[str], None]) -> int:
    """Claim every line that can be, then have all that is owed sent to whom it is owed; return that in wei.

    Anybody may: the coin goes to the accounts of the lines, and to the curators of their licences.

    Args:
        run: as `read_dues` gives it.
        payer: pays for the transactions.
        say: is told of each claim, and of each that the contract refuses.
    """
    now_s = chain.timestamp_s()
    for entry in run.lists:
        if entry.number is None or entry.state(now_s) != "open":
            continue
        for line in range(len(entry.dues)):
            if line in entry.claimed:
                continue
            what = f"list {entry.number}, line {line}"
            try:
                receipt = claim_reward(chain, run.site, payer, entry.number, entry.dues, line)
            except ContractRefusedError as error:  # refuted, or somebody else was quicker
                say(f"{what}: nothing is claimed: {error}")
                continue
            due = entry.dues[line]
            say(f"{what}: {due.amount} wei claimed for 0x{due.account.hex()}, {receipt.gas} gas")
    sent = 0
    for account in _payees(run, chain):
        if not read_owed(chain, run.site.rewards, account):
            continue
        try:
            amount = collect(chain, run.site.rewards, payer, account)
        except ContractRefusedError as error:  # it refuses the coin
            say(f"0x{account.hex()} is sent nothing: {error}")
            continue
        say(f"{amount} wei sent to 0x{account.hex()}")
        sent += amount
    return sent


def _payees(run: PaidRun, chain: Chain) -> Sequence[bytes]:
    """Return everybody to whom anything of these lists may be owed, each once."""
    dues = [due for entry in run.lists if entry.held is not None for due in entry.dues]
    accounts = dict.fromkeys(due.account for due in dues)
    for licence in sorted({due.licence for due in dues} - {0}):
        accounts |= dict.fromkeys(share.curator for share in read_licence(chain, run.site, licence).curators)
    return tuple(accounts)
