"""A run with noise: it verifies, and the first sum that it opens tells how many rows there are, and nothing else."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration._run_stage import CLINICS, ROUNDS, ignore, write_experiment

from collegium import learning
from collegium.apps._page import render_page
from collegium.node import (
    LearningTask,
    ModelState,
    ModelStateError,
    PrivacyTerms,
    load_experiment,
    read_public_record,
    run_experiment,
    verify_run,
)

pytestmark = [pytest.mark.privacy, pytest.mark.slow]
SECTION = "checkpoint_every = 2\ncourts = false\n[privacy]\nclip = 1\nnoise = 4\nhonest = 3"


def test_a_run_with_noise_at_level_bounded_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = 'level = "unproved"', 'level = "bounded"'
    path = write_experiment(tmp_path / "noisy", ("checkpoint_every = 2", SECTION), bounded)
    trained, update = [], PrivacyTerms.update

    def count(*arguments: object) -> object:
        trained.append(arguments)
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PrivacyTerms, "update", count)
    experiment, out = load_experiment(path), tmp_path / "run"
    run_experiment(experiment, out, ignore, render_page)
    assert len(trained) == len(CLINICS) * ROUNDS
    assert verify_run(out, None, ignore, render_page).ok
    record = read_public_record(out)
    for state in states(record.task, record.messages(ROUNDS)):
        rows = int(state.statistics[-1])
        ranges = learning.statistics_of_ranges(record.task.schema, rows)
        assert state.statistics[:-1].tolist() == ranges.tolist()


def states(task: LearningTask, messages: Iterable[bytes]) -> list[ModelState]:
    """Return the model states among messages."""
    found = []
    for message in messages:
        with suppress(ModelStateError):
            found.append(task.decode_state(message))
    assert found
    return found
