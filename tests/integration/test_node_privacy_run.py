"""A run with noise: it verifies, its first sum tells how many rows there are, and its files tell nothing else of them.

One clinic's rows are of one class, of which a run without noise would warn.
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.integration._run_stage import CLINICS, ROUNDS, columns, ignore, write_experiment

from collegium import learning
from collegium.apps._page import render_page
from collegium.node import (
    LearningTask,
    ModelState,
    ModelStateError,
    PrivacyMissingError,
    PrivacyTerms,
    load_experiment,
    read_public_record,
    run_experiment,
    set_up,
    verify_run,
)

SECTION = "checkpoint_every = 2\ncourts = false\n[privacy]\nclip = 1\nnoise = 4\nhonest = 3"


@pytest.mark.privacy
@pytest.mark.slow
def test_a_run_with_noise_at_level_bounded_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = 'level = "unproved"', 'level = "bounded"'
    table = columns()
    table["ill"] = ["1" if clinic == "a" else ill for clinic, ill in zip(table["clinic"], table["ill"], strict=True)]
    path = write_experiment(tmp_path / "noisy", ("checkpoint_every = 2", SECTION), bounded, table=table)
    trained, update = [], PrivacyTerms.update

    def count(*arguments: Any) -> object:
        trained.append(arguments)
        return update(*arguments)

    monkeypatch.setattr(PrivacyTerms, "update", count)
    experiment, out = load_experiment(path), tmp_path / "run"
    summary: dict[str, Any] = run_experiment(experiment, out, ignore, render_page)
    assert len(trained) == len(CLINICS) * ROUNDS
    assert (summary["auc_pooled"], summary["auc_float32"], summary["warnings"]) == (None, None, [])
    assert any("4 times what one row can move it, if 3 trainers" in note for note in summary["notes"])
    assert verify_run(out, None, ignore, render_page).ok
    record = read_public_record(out)
    for state in states(record.task, record.messages(ROUNDS)):
        rows = int(state.statistics[-1])
        ranges = learning.statistics_of_ranges(record.task.schema, rows)
        assert state.statistics[:-1].tolist() == ranges.tolist()


def test_who_cannot_draw_noise_learns_it_before_the_first_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    path = write_experiment(tmp_path / "noisy", ("checkpoint_every = 2", SECTION))
    with pytest.raises(PrivacyMissingError, match="noise cannot be drawn"):
        set_up(load_experiment(path), ignore)


def states(task: LearningTask, messages: Iterable[bytes]) -> list[ModelState]:
    """Return the model states among messages."""
    found = []
    for message in messages:
        with suppress(ModelStateError):
            found.append(task.decode_state(message))
    assert found
    return found
