"""How a network's validators stand, as each of them says: for a person who wants to know what is wrong.

Nothing here proves anything: a validator that lies about itself is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from collegium.errors import CollegiumError

from ._attackers import attack_kinds
from ._client import ValidatorClient
from ._client_line import ClientLimits
from ._consortium import read_genesis
from ._desk import Readiness
from ._epochs import Epochs, epochs_of
from ._events import TrainersWeighed
from ._experiment import experiment_from_bytes
from ._network_settings import (
    EvaluatorSettings,
    RelayerSettings,
    RoleSettings,
    StewardSettings,
    TrainerSettings,
    load_settings,
)
from ._quality_facts import weighed_event
from ._setup import build_task

__all__ = ["StatusError", "ValidatorStatus", "network_status", "trainers_status"]

_Client: TypeAlias = TrainerSettings | StewardSettings | EvaluatorSettings | RelayerSettings

LIMITS: Final = ClientLimits(connect_s=5.0, stall_s=10.0, answer_s=15.0)
EVALUATOR: Final = Path("evaluator") / "config.toml"  # in a consortium's folder: whose settings name every gateway


class StatusError(CollegiumError):
    """Settings do not say where every gateway listens."""


@dataclass(frozen=True, slots=True)
class ValidatorStatus:
    """What one validator says of itself, or why nothing is known of it."""

    index: int
    place: tuple[str, int]
    readiness: Readiness | None
    problem: str = ""

    @property
    def ready(self) -> bool:
        """It takes part in the present round."""
        return self.readiness is not None and self.readiness.ready


def network_status(path: Path) -> tuple[ValidatorStatus, ...]:
    """Ask every validator of a network how it stands, all at once.

    Args:
        path: a consortium's folder, or the settings file of a trainer, evaluator or relayer.

    Raises:
        StatusError: the settings are a validator's, which name no gateways but its own.
        CollegiumError: settings or genesis cannot be read.
    """
    settings = _settings(path)
    epochs = Epochs(read_genesis(settings.genesis).epoch_set, None)
    client = ValidatorClient.over_tls(epochs, settings.validators, settings.tls.authority, LIMITS)
    return asyncio.run(_ask_all(client, settings.validators))


def trainers_status(path: Path) -> TrainersWeighed | None:
    """Return what stewards have made of a network's trainers by its last final header, whose certificates are checked.

    None where the task has no stewards, or has not trained yet.

    Args:
        path: as `network_status` takes it.

    Raises:
        StatusError, CollegiumError: as `network_status`.
        NobodyAnsweredError, DisagreementError: too few validators answer.
    """
    settings = _settings(path)
    genesis = read_genesis(settings.genesis)
    experiment = experiment_from_bytes(genesis.experiment)
    if experiment.stewards is None:
        return None
    epochs = epochs_of(genesis, experiment.committee)
    client = ValidatorClient.over_tls(epochs, settings.validators, settings.tls.authority, LIMITS)

    async def ask() -> tuple[int, bytes] | None:
        try:
            found = await client.latest()
            header = None if found is None else found.certified.header
            return None if header is None else (header.round, await client.object(header.model))
        finally:
            await client.close()

    answer = asyncio.run(ask())
    if answer is None or not answer[0]:
        return None
    return weighed_event(build_task(genesis, experiment), *answer, attack_kinds(experiment.attack))


def _settings(path: Path) -> _Client:
    config = path / EVALUATOR if path.is_dir() else path
    settings: RoleSettings = load_settings(config)
    if not isinstance(settings, TrainerSettings | StewardSettings | EvaluatorSettings | RelayerSettings):
        raise StatusError(f"{config} is a validator's; expected another member's, whose settings name every gateway")
    return settings


async def _ask_all(client: ValidatorClient, places: Mapping[int, tuple[str, int]]) -> tuple[ValidatorStatus, ...]:
    async def ask(index: int, place: tuple[str, int]) -> ValidatorStatus:
        try:
            return ValidatorStatus(index, place, await client.readiness(index))
        except CollegiumError as error:
            return ValidatorStatus(index, place, None, str(error))

    try:
        return tuple(await asyncio.gather(*(ask(index, place) for index, place in sorted(places.items()))))
    finally:
        await client.close()
