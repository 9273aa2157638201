"""The base chains of a task: a home, which holds the stakes, and those that follow it by verifying its certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collegium.consensus import EpochSet
from collegium.crypto import AccountKey
from collegium.settlement import CourtRules

from ._base_chain import BaseChain, TrainerEntering, ValidatorEntering, chain_number
from ._chain_record import ChainRecord, ChainRecordError
from ._chain_settings import ChainSettings
from ._chain_terms import HOME
from ._licence_settings import LicenceSettings
from ._registries import WatchedChain, licence_contracts
from ._rewards import RewardPlan

__all__ = ["chains_record", "found_chains", "watched_chains"]


def found_chains(
    settings: ChainSettings,
    operator: AccountKey,
    epoch_set: EpochSet,
    validators: Sequence[ValidatorEntering],
    courts: CourtRules | None = None,
    trainers: Sequence[TrainerEntering] = (),
    rewards: RewardPlan | None = None,
    own: Mapping[int, Sequence[TrainerEntering]] | None = None,
) -> tuple[BaseChain, ...]:
    """Found a task on all of its chains, the home first, which alone takes stakes; those that pay have courts too.

    Args:
        courts: what the task's hold; None: without any.
        trainers: enter with stakes of their own.
        rewards: how rounds are paid; None: they are not.
        own: by the number of a chain that follows, the trainers whose own it is: they register there, without a stake.

    Raises:
        ChainRecordError: two nodes are of one chain, trainers name one that does not follow, or as `BaseChain.found`.
        CollegiumError: a chain is not reachable or refuses.
    """
    chains, registering = list[BaseChain](), own or {}
    if registering:
        _check_followed(settings, registering)
    for place, url in enumerate(settings.urls, HOME):
        stakes = (courts, trainers, rewards)
        if place != HOME:
            paying = None if rewards is None or not rewards.elsewhere else rewards.at(chain_number(url, place))
            stakes = (courts if paying else None, _entering(place, url, registering), paying)
        founded = BaseChain.found(url, operator, epoch_set, validators, place, *stakes)
        if url is not None and any(founded.chain.chain_id == chain.chain.chain_id for chain in chains):
            raise ChainRecordError(
                f"{url} is a node of chain {founded.chain.chain_id}, which another of the list is too"
            )
        chains.append(founded)
    return tuple(chains)


def _check_followed(settings: ChainSettings, own: Mapping[int, Sequence[TrainerEntering]]) -> None:
    """Check that every chain on which trainers want to register follows, before anything is paid for."""
    followers = {chain_number(url, place) for place, url in enumerate(settings.followers, HOME + 1)}
    for chain_id in own:
        if chain_id not in followers:
            raise ChainRecordError(
                f"chain.sites names chain {chain_id}, expected one of those that follow: {sorted(followers)}"
            )


def _entering(place: int, url: str | None, own: Mapping[int, Sequence[TrainerEntering]]) -> Sequence[TrainerEntering]:
    return own.get(chain_number(url, place), ()) if own and place != HOME else ()


def watched_chains(chains: Sequence[BaseChain], licences: LicenceSettings | None) -> dict[int, WatchedChain]:
    """Return the chains of a task by their numbers, with the contracts on each that register anybody."""
    numbers = [(entry.chain.chain_id, entry) for entry in chains]
    return {
        number: WatchedChain(entry.chain, entry.deployment.registry, licence_contracts(licences, number))
        for number, entry in numbers
    }


def chains_record(chains: Sequence[BaseChain]) -> ChainRecord:
    """Return the record of all chains, as that of the home."""
    home, *followers = (chain.record() for chain in chains)
    return home.with_followers(followers)
