"""The model that a run ended with, from its folder."""

from __future__ import annotations

from pathlib import Path

from collegium.errors import CollegiumError
from collegium.lineage import Store

from ._experiment import experiment_from_bytes
from ._genesis import decode_genesis
from ._run_files import GENESIS, STORE
from ._setup import build_task
from ._task import LearningTask, ModelState

__all__ = ["FinalModelError", "final_model"]

MODEL_BYTES_MAX = 1 << 28


class FinalModelError(CollegiumError):
    """A run's folder does not give the model that it is asked for."""


def final_model(run: Path, model: str) -> tuple[LearningTask, ModelState]:
    """Return a run's task and the model state with this digest, in hexadecimal. Believes the folder: verify it first.

    Raises:
        FinalModelError: a file is missing, or is not what it should be.
    """
    try:
        genesis = decode_genesis((run / GENESIS).read_bytes())
        task = build_task(genesis, experiment_from_bytes(genesis.experiment))
        state = task.decode_state(Store(run / STORE).get(bytes.fromhex(model), MODEL_BYTES_MAX))
    except (OSError, ValueError, CollegiumError) as error:
        raise FinalModelError(f"{run}: no model {model[:16]}: {error}", run=run, model=model) from error
    return task, state
