"""`collegium up` as a person types it: real processes and sockets, a validator killed by hand, a run that verifies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from _network_stage import NETWORK
from _run_stage import PROVED, write_experiment


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_network_whose_validator_is_killed_loses_no_round_and_leaves_nothing_running(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, PROVED, *NETWORK)
    command = [sys.executable, "-m", "collegium.apps.cli", "up", config, "--rounds", "1", "--out", tmp_path / "run"]
    said: list[str] = []
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        for line in up.stdout:
            said.append(line.rstrip())
            if line.startswith("round 0/1"):
                (pid,) = re.findall(r"^validator 1 runs, pid (\d+)$", "\n".join(said), re.M)
                os.kill(int(pid), signal.SIGKILL)
    text = "\n".join(said)
    assert up.returncode == 0, text
    assert re.search(r"^validator 1, pid \d+, was ended by SIGKILL; started again in 0\.5 s$", text, re.M)
    assert re.search(r"^validator 1 runs again, pid \d+; restart 1$", text, re.M)
    assert re.search(r"^round 1/1: 4 reports, AUC ", text, re.M)
    assert "proofs: 8 of level proved verified, and 4 registrations of data" in text
    assert "verified, and it is the run that the anchor names" in text
    pids = [int(pid) for pid in re.findall(r" runs(?: again)?, pid (\d+)", text)]
    assert not any(map(is_running, pids))
