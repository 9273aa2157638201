"""Runs the process that settings are of; what only one role needs is imported when it runs, or before a fork."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Final

from ._network_settings import (
    ROLES,
    EvaluatorSettings,
    RelayerSettings,
    RoleSettings,
    StewardSettings,
    TrainerSettings,
    ValidatorSettings,
)

__all__ = ["preload_roles", "run_role"]

# What libraries import when a process first speaks, serves or logs.
LATE: Final = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "httpcore",
    "structlog",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
)


async def run_role(settings: RoleSettings) -> None:
    """Run a validator, trainer, steward, evaluator or relayer until it has nothing left to do or is told to stop.

    Raises:
        WorldError: the disk, the network or the chain failed for good.
        CollegiumError: settings, keys or files cannot be used.
    """
    match settings:
        case ValidatorSettings():
            from ._validator_process import run_validator

            await run_validator(settings)
        case TrainerSettings():
            from ._trainer_process import run_trainer

            await run_trainer(settings)
        case StewardSettings():
            from ._steward_process import run_steward

            await run_steward(settings)
        case EvaluatorSettings():
            from ._evaluator_process import run_evaluator

            await run_evaluator(settings)
        case RelayerSettings():
            from ._relayer_process import run_relayer

            await run_relayer(settings)


def preload_roles(level: str | None = None) -> None:
    """Import what any role needs, and compile what a task at this level computes with: processes forked after this
    share both.
    """
    for role in ROLES:
        import_module(f"{__package__}._{role}_process")
    for name in LATE:
        with suppress(ImportError):  # of another version: whoever needs it imports it
            import_module(name)
    if level is not None:
        from ._warm_up import warm_up

        warm_up(level)
