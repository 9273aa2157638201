"""What a relayer would send now, chain by chain: asked and estimated, and nothing sent or signed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from collegium.consensus import EpochSet
from collegium.crypto import decode_certificate, encode_certificate, make_certificate
from collegium.settlement import Checkpoint, ContractRefusedError, Fees, GasCeilingError, checkpoint_call, opening_call

from ._base_chain import BaseChain, CertifiedStep
from ._chain_terms import HOME
from ._checkpoints import opening_digest
from ._evidence import Accusation
from ._final_walk import UNANSWERED, FinalWalk
from ._network_settings import RelayerSettings
from ._process import open_log
from ._relayer_process import DueStep, RelayerProcess

__all__ = ["RelayPlan", "plan_relay", "plans_of"]


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """What would be sent to one chain next.

    Attributes:
        chain: its place; 0 is home.
        url: its node; None for an embedded chain.
        step: what is due; empty where the chain has all that is final.
        behind: how many more steps are due after it.
        calldata_bytes, gas_max: of the transaction, the latter as estimated.
        fees: what would be offered for a unit of gas.
        problem: why it would not be sent now; empty where it would be.
    """

    chain: int
    url: str | None
    step: str = ""
    behind: int = 0
    calldata_bytes: int = 0
    gas_max: int = 0
    fees: Fees | None = None
    problem: str = ""

    @property
    def cost_max_wei(self) -> int:
        """The most that it can cost."""
        return 0 if self.fees is None else self.gas_max * self.fees.gas_price_max


async def plan_relay(settings: RelayerSettings) -> list[RelayPlan]:
    """Return what the relayer with these settings would send next to each chain, the home first.

    Raises:
        ChainUnreachableError, ChainAnswerError: a chain does not answer.
        CollegiumError: settings, key or record cannot be used.
    """
    with open_log(settings.log, "relayer") as log:
        process = await asyncio.to_thread(RelayerProcess.open, settings, log)
        try:
            return await _plan(process)
        finally:
            await process.client.close()


async def _plan(process: RelayerProcess) -> list[RelayPlan]:
    walk = FinalWalk(process.client)
    due = [step async for step in process.due_steps(walk.at_hand)]
    records = [(process.record, HOME), *((follower.record, follower.place) for follower in process.followers)]
    chains = [await asyncio.to_thread(process.resume, record, place) for record, place in records]
    return await plans_of(process, chains, due)


async def plans_of(process: RelayerProcess, chains: Sequence[BaseChain], due: Sequence[DueStep]) -> list[RelayPlan]:
    """Return the plan for each chain, the home first, of these steps in order."""
    plans = []
    for chain in chains:
        count = await asyncio.to_thread(_taken, chain, due)
        if count == len(due):
            plans.append(RelayPlan(chain.place, chain.url))
        else:
            plans.append(await _next(process, chains[0], chain, due, count))
    return plans


def _taken(chain: BaseChain, due: Sequence[DueStep]) -> int:
    """Ask how many of the steps that are due a chain has, whoever sent them."""
    return next((count for count, step in enumerate(due) if not chain.has(_what(step))), len(due))


async def _next(
    process: RelayerProcess, home: BaseChain, chain: BaseChain, due: Sequence[DueStep], count: int
) -> RelayPlan:
    """Return the plan for the first step that a chain lacks."""
    step, behind = due[count], len(due) - count - 1
    sets = [found.opens.epoch_set for found in due[:count] if found.opens is not None]
    in_office = sets[-1] if sets else process.genesis.epoch_set
    certified = next((taken.step for taken in home.taken if taken.step.what == _what(step)), None)
    if certified is None:
        certified = await _certified(process, step, in_office)
    if certified is None:
        name = CertifiedStep(_what(step), b"").name
        return RelayPlan(chain.place, chain.url, name, behind, problem="no quorum has signed it yet")
    return await asyncio.to_thread(_estimate, process, chain, certified, behind, in_office)


async def _certified(process: RelayerProcess, step: DueStep, in_office: EpochSet) -> CertifiedStep | None:
    """Ask validators for their signatures, once."""
    client = process.client
    try:
        if step.opens is None:
            found = await client.checkpoint_signatures(step.checkpoint)
        else:
            digest = opening_digest(step.opens.epoch_set, step.checkpoint.digest)
            found = await client.handover_signatures(step.opens.epoch - 1, digest)
    except UNANSWERED:
        return None
    if len(found) < in_office.quorum:
        return None
    signatures = dict(sorted(found.items())[: in_office.quorum])
    return CertifiedStep(_what(step), encode_certificate(make_certificate(in_office.size, signatures)))


def _estimate(
    process: RelayerProcess, chain: BaseChain, step: CertifiedStep, behind: int, in_office: EpochSet
) -> RelayPlan:
    to, data = chain.deployment.settlement, b""
    match step.what:
        case Checkpoint():
            data = checkpoint_call(step.what, decode_certificate(step.certificate, in_office.size))
        case EpochSet():
            seats = [chain.numbers[member.account] for member in step.what.validators]
            data = opening_call(seats, decode_certificate(step.certificate, in_office.size))
        case Accusation():
            to, data = chain.slashing.slashing, step.what.call
    gas_max, fees, problem = 0, None, ""
    try:
        gas_max = chain.chain.estimate_gas(chain.operator.address, to, data)
        fees = process.policy.gas.offer(chain.chain.fees())
    except (ContractRefusedError, GasCeilingError) as error:
        problem = str(error)
    return RelayPlan(chain.place, chain.url, step.name, behind, len(data), gas_max, fees, problem)


def _what(step: DueStep) -> Checkpoint | EpochSet:
    return step.checkpoint if step.opens is None else step.opens.epoch_set
