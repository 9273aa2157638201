"""Founding a task with everything that can take a stake: which contracts, where each will stand, and what creates it.

The registry names the contract that may slash, which names the registry and the court that it asks; so where each will
stand is foretold from the deployer's nonces. A task with several courts has one more contract, that
asks them all. Whoever checks a task's chain foretells the same and compares.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain
from collegium.settlement._deployment import (
    NATIVE,
    NOBODY,
    STAKE_MIN_WEI,
    Deployment,
    address_of,
    ask,
    created,
    settlement_creation,
)
from collegium.settlement._disputes import DisputeTerms
from collegium.settlement._dissections import DissectionKind, DissectionTerms
from collegium.settlement._errors import ChainAnswerError, ContractRefusedError, NoCourtError
from collegium.settlement._licences import CHALLENGE_S, CLAIM_S, MoneySite
from collegium.settlement._model_step import StepRule
from collegium.settlement._slashing import ANSWER_S, DEMAND_BOND_WEI, SlashingSite
from collegium.settlement._transactions import contract_address, transact

__all__ = [
    "CHALLENGED_UNBONDING_S",
    "DISSECTED_UNBONDING_S",
    "CourtRules",
    "Creation",
    "FoundingPlan",
    "PayRules",
    "check_site",
    "found_task",
    "plan_founding",
    "read_courts",
]

# A stake outlasts a dispute that begins in the last second of a checkpoint's window and whose players take all the time
# that they have: 7 days, 1 to join, 2 x 3 of clocks and less than 2 of extensions (docs/spec/disputes.md, section 4).
CHALLENGED_UNBONDING_S: Final = 21 * 24 * 3600
# Likewise where there is a court of the machine, whose games begin again when somebody demands data: 7 days, 1 to join,
# 2 x 3 of clocks and 20.25 of extensions where games have 9 levels (section 9).
DISSECTED_UNBONDING_S: Final = 36 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CourtRules:
    """What the courts of a task hold.

    Attributes:
        step: the rule of its model step; None where its models hold more than parameters: a court for steps would find
            every one of them wrong.
        kinds: of public work that programs decide; none: there is no court of the machine.
        levels: how many divisions find an instruction of those programs' runs.

    Raises:
        NoCourtError: there is neither.
    """

    step: StepRule | None
    kinds: tuple[DissectionKind, ...] = ()
    levels: int = 0

    def __post_init__(self) -> None:
        if self.step is None and not self.kinds:
            raise NoCourtError("a task's courts hold neither the rule of its step nor programs, expected one of both")

    @property
    def contracts(self) -> tuple[str, ...]:
        """The contracts that they are, in the order of their creation; the last one is asked for verdicts."""
        steps = () if self.step is None else ("ModelStep", "Disputes")
        machine = ("Dissections",) if self.kinds else ()
        return (*steps, *machine, *(("Courts",) if steps and machine else ()))


@dataclass(frozen=True, slots=True)
class PayRules:
    """How a task's trainers are paid.

    Attributes:
        licences: the contract that has the licences of their data; None: the task founds one.
        challenge_s: how long what a set certified can be challenged before anything is paid on it.
        claim_s: how long after the deadline rewards can be claimed.
        chain: what lines that are paid there call the chain: its number, 0 at the task's home.
    """

    licences: bytes | None = None
    challenge_s: int = CHALLENGE_S
    claim_s: int = CLAIM_S
    chain: int = 0


@dataclass(frozen=True, slots=True)
class Creation:
    """A contract of a task: its name, where it will stand, and the data of the transaction that creates it."""

    name: str
    address: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class FoundingPlan:
    """The contracts that found a task, in the order in which its deployer creates them, each in one transaction.

    Attributes:
        money: where trainers are paid; None where they are not. Versions have no fees there.
    """

    task: Digest
    creations: tuple[Creation, ...]
    registry: bytes
    site: SlashingSite
    money: MoneySite | None = None

    @property
    def settlement(self) -> bytes:
        """Where the contract Settlement will stand."""
        return self.creations[0].address


def plan_founding(
    deployer: bytes,
    nonce: int,
    task: Digest,
    courts: CourtRules,
    *,
    first_round: int = 0,
    stake_min_wei: int = STAKE_MIN_WEI,
    unbonding_s: int | None = None,
    terms: DisputeTerms | None = None,
    bond_wei: int = DEMAND_BOND_WEI,
    answer_s: int = ANSWER_S,
    pay: PayRules | None = None,
) -> FoundingPlan:
    """Return what founds a task whose stakes can be taken, if `deployer` sends nothing else from `nonce` on.

    Args:
        courts: what they hold.
        unbonding_s: as `deploy` takes it; a stake must outlast the longest dispute, which None gives.
        terms: the times and bonds of the court for model steps; the other's follow from its levels.
        bond_wei: what it costs to demand data, and what an answer brings.
        answer_s: seconds to answer a demand.
        pay: how its trainers are paid; None: they are not.
    """
    names = ("Settlement", "Availability", "Curation", *courts.contracts, "Slashing", *_paying(pay))
    at = {name: contract_address(deployer, nonce + place) for place, name in enumerate(names)}
    registry = contract_address(at["Settlement"], 1)
    if unbonding_s is None:
        unbonding_s = DISSECTED_UNBONDING_S if courts.kinds else CHALLENGED_UNBONDING_S
    site = SlashingSite(at["Slashing"], at["Availability"], at[courts.contracts[-1]], at["Curation"])
    data = {
        "Settlement": settlement_creation(
            task,
            first_round=first_round,
            stake_min_wei=stake_min_wei,
            unbonding_s=unbonding_s,
            slashing=site.slashing,
        ),
        "Availability": contract("Availability").creation(task, bond_wei, answer_s),
        "Curation": contract("Curation").creation(registry, site.slashing),
        "Slashing": contract("Slashing").creation(at["Settlement"], site.disputes, site.availability, site.curation),
    }
    if courts.step is not None:
        data["ModelStep"] = contract("ModelStep").creation(astuple(courts.step))
        data["Disputes"] = contract("Disputes").creation(
            at["Settlement"], (at["ModelStep"],), astuple(terms or DisputeTerms())
        )
    if courts.kinds:
        data["Dissections"] = contract("Dissections").creation(
            at["Settlement"], [astuple(kind) for kind in courts.kinds], astuple(DissectionTerms(levels=courts.levels))
        )
    if "Courts" in at:
        data["Courts"] = contract("Courts").creation((at["Disputes"], at["Dissections"]))
    money = None
    if pay is not None:
        licences = pay.licences or at["Licences"]
        money = MoneySite(licences, contract_address(at["Rewards"], 1), at["Rewards"], NOBODY)
        data["Licences"] = contract("Licences").creation()
        data["Rewards"] = contract("Rewards").creation(licences, pay.challenge_s, pay.claim_s, NATIVE, pay.chain)
    return FoundingPlan(task, tuple(Creation(name, at[name], data[name]) for name in names), registry, site, money)


def _paying(pay: PayRules | None) -> tuple[str, ...]:
    """Return the contracts through which trainers are paid; Rewards makes its Tasks itself."""
    if pay is None:
        return ()
    return ("Rewards",) if pay.licences else ("Licences", "Rewards")


def found_task(chain: Chain, account: Account, plan: FoundingPlan, *, gas_max: int | None = None) -> Deployment:
    """Create a plan's contracts; `account` is its deployer, and may then open the first epoch.

    Args:
        gas_max: what each creation may use; None tries each first and takes what that used.

    Raises:
        ChainAnswerError: a contract came to stand elsewhere than was foretold.
    """
    block = 0
    for place, creation in enumerate(plan.creations):
        receipt = transact(chain, account, None, creation.data, gas_max=gas_max)
        if created(receipt) != creation.address:
            raise ChainAnswerError(
                f"{creation.name} is at {created(receipt).hex()}, foretold was {creation.address.hex()}",
                found=created(receipt),
            )
        block = block if place else receipt.block
    return Deployment(plan.task, plan.settlement, plan.registry, block)


def check_site(chain: Chain, deployment: Deployment, site: SlashingSite) -> None:
    """Check that a deployment's registry lets this contract take stakes, and that it believes these courts.

    Raises:
        ChainAnswerError: it does not. That a contract's code is ours is for who checks its creation to see.
    """
    (slashing,) = ask(chain, "Registry", deployment.registry, "slashing")
    if address_of(slashing) != site.slashing:
        raise ChainAnswerError(f"the registry lets {slashing} take stakes, expected 0x{site.slashing.hex()}")
    for name in ("disputes", "availability", "curation"):
        (found,) = ask(chain, "Slashing", site.slashing, name)
        if address_of(found) != getattr(site, name):
            raise ChainAnswerError(f"the {name} of Slashing is {found}, expected 0x{getattr(site, name).hex()}")


def read_courts(chain: Chain, asked: bytes) -> tuple[bytes, ...]:
    """Return the courts behind the contract that is asked for verdicts, in their order; itself if it is one.

    Raises:
        ChainAnswerError: nothing is there.
    """
    try:
        (courts,) = ask(chain, "Courts", asked, "courts")
    except ContractRefusedError:  # a court has no such function
        return (asked,)
    return tuple(address_of(court) for court in courts)
