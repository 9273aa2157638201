"""Federations from Python, played to the end: the example's lines, any module under bounded, a module under proved."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import collegium
from collegium.apps.federation import NotVerifiableError, VerificationFailedError
from collegium.node import RunRefusedError

EXAMPLES = Path(__file__).parents[2] / "examples"
COLUMNS = {"round", "outcome", "admitted", "auc", "accuracy", "loss", "coordination_ms", "finality_ms"}
PROOF_COLUMNS = {"prove_ms", "verify_ms", "proof_bytes"}


def shortened(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Run an example for fewer rounds than it says, and return its variables."""
    lines = (EXAMPLES / name).read_text().splitlines(keepends=True)
    (place,) = [index for index, line in enumerate(lines) if line.startswith("ROUNDS = ")]
    lines[place] = f"ROUNDS = {rounds}\n"
    text = "".join(lines).replace("Path(__file__).parent", f"Path({str(EXAMPLES)!r})")
    (folder / name).write_text(text)
    return runpy.run_path(str(folder / name), run_name="__main__")


@pytest.mark.slow
def test_the_ten_lines_of_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shortened("federation.py", tmp_path, rounds=2)
    federation, history = said["federation"], said["history"]
    assert set(history.columns) >= COLUMNS | PROOF_COLUMNS
    assert history["round"].tolist() == [1, 2]
    assert history["admitted"].tolist() == [4, 4]
    assert (history[["auc", "accuracy", "loss", "prove_ms", "verify_ms", "proof_bytes"]] > 0).all(axis=None)
    probability = federation.model.predict(said["hospitals"]["Cleveland"])
    assert probability.shape == (len(said["hospitals"]["Cleveland"]),)
    assert ((probability > 0) & (probability < 1)).all()
    assert re.search(r"  proofs: .*\b12\b", capsys.readouterr().out)
    summary = federation.folder / "summary.json"
    summary.write_bytes(summary.read_bytes().replace(b'"proved"', b'"PROVED"'))
    with pytest.raises(VerificationFailedError, match=r"summary\.json"):
        federation.verify()


@pytest.mark.slow
@pytest.mark.torch
def test_any_module_under_bounded(tmp_path: Path) -> None:
    said = shortened("custom_model.py", tmp_path, rounds=2)
    federation, history = said["federation"], said["history"]
    assert set(history.columns) >= COLUMNS | PROOF_COLUMNS | {"clipped", "shrunk"}
    assert history["round"].tolist() == [1, 2]
    assert history["outcome"].tolist() == ["opened", "opened"]
    assert history["loss"].is_monotonic_decreasing
    assert (history[["prove_ms", "verify_ms", "proof_bytes"]] > 0).all(axis=None)
    assert federation.model.module is said["network"]
    with pytest.raises(NotVerifiableError):
        federation.verify()


def clinics() -> dict[str, Any]:
    draw = np.random.default_rng(3)
    return {name: (draw.normal(size=(40, 2)), draw.integers(0, 2, 40)) for name in ("a", "b", "c", "d")}


@pytest.mark.slow
@pytest.mark.torch
def test_a_module_under_proved_holds_the_rules_weights() -> None:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    federation = collegium.Federation(clinics(), model=module, loss=nn.BCEWithLogitsLoss(), level="proved", rounds=1)
    rows = federation.run(progress=False, as_frame=False)
    assert len(rows) == 1
    assert rows[0]["proof_bytes"] > 0
    inputs, _ = clinics()["a"]
    with torch.no_grad():
        said = torch.sigmoid(module(torch.from_numpy(federation.model.inputs(inputs))))[:, 0].numpy()
    assert said == pytest.approx(federation.model.predict(inputs), abs=1e-3)
    assert federation.verify().anchored


@pytest.mark.slow
def test_a_folder_of_ones_own_is_kept_and_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    federation = collegium.Federation(clinics(), label="ill", level="unproved", rounds=1, folder=folder)
    federation.run(progress=False)
    assert federation.folder == folder
    assert (folder / "MANIFEST").is_file()
    assert not list(folder.glob("**/rows.csv"))
    with pytest.raises(RunRefusedError, match="is not empty"):
        federation.run(progress=False)
