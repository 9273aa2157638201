"""`collegium up` as a person types it: real processes and sockets, a validator killed by hand, a run that verifies.

One network is played for all tests here. Its reports are proved, and it founds and settles on a real node, by its URL.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from _network_stage import NETWORK
from _run_stage import PROVED, write_experiment

from collegium.apps.cli import main
from collegium.node import decode_genesis
from collegium.node._chain_record import decode_chain_record
from collegium.settlement import JsonRpcChain, attach, read_checkpoints

pytestmark = [pytest.mark.node, pytest.mark.slow]

ROUNDS = 1
CLOSED = "http://127.0.0.1:1"


def command(folder: Path, url: str) -> list[str]:
    """Return the words that run a small network whose checkpoints go to a node."""
    chain = ("checkpoint_every = 2", f'checkpoint_every = 2\nurl = "{url}"')
    config = write_experiment(folder, PROVED, chain, *NETWORK)
    words = ["up", config, "--rounds", ROUNDS, "--folder", folder / "consortium", "--out", folder / "run"]
    return list(map(str, words))


@dataclass
class Settled:
    """A network that has finished, and what it said."""

    folder: Path
    url: str
    text: str


@pytest.fixture(scope="module")
def settled(node: str, development_key: str, tmp_path_factory: pytest.TempPathFactory) -> Settled:
    folder = tmp_path_factory.mktemp("settled")
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "collegium.apps.cli", *command(folder, node)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLLEGIUM_CHAIN_KEY": development_key},
    ) as up:
        assert up.stdout is not None
        for line in up.stdout:
            said.append(line.rstrip())
            if line.startswith("round 0/1"):
                (pid,) = re.findall(r"^validator 1 runs, pid (\d+)$", "\n".join(said), re.M)
                os.kill(int(pid), signal.SIGKILL)
    text = "\n".join(said)
    assert up.returncode == 0, text
    return Settled(folder, node, text)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_network_whose_validator_is_killed_loses_no_round_and_leaves_nothing_running(settled: Settled) -> None:
    text = settled.text
    assert re.search(r"^validator 1, pid \d+, was ended by SIGKILL; started again in 0\.5 s$", text, re.M)
    assert re.search(r"^validator 1 runs again, pid \d+; restart 1$", text, re.M)
    assert re.search(r"^round 1/1: 4 reports, AUC ", text, re.M)
    assert "proofs: 8 of level proved verified, and 4 registrations of data" in text
    assert "verified, and it is the run that the anchor names" in text
    pids = [int(pid) for pid in re.findall(r" runs(?: again)?, pid (\d+)", text)]
    assert not any(map(is_running, pids))


def test_a_network_settles_on_a_node_and_its_run_verifies(settled: Settled) -> None:
    assert "verified, and it is the run that the anchor names" in settled.text
    assert "chain: certificates of 1 checkpoints verified" in settled.text
    assert f"not checked: what the node at {settled.url} holds" in settled.text
    record = decode_chain_record((settled.folder / "run" / "chain.json").read_bytes())
    genesis = decode_genesis((settled.folder / "run" / "genesis.json").read_bytes())
    chain = JsonRpcChain(settled.url)
    attached = attach(chain, record.deployment.settlement, record.deployment.block)
    assert attached.task == genesis.task
    held = read_checkpoints(chain, attached)
    assert held == record.checkpoints
    assert [(checkpoint.first_round, checkpoint.last_round) for checkpoint in held] == [(0, ROUNDS)]


def test_the_key_that_pays_is_nowhere_in_the_network(settled: Settled, development_key: str) -> None:
    digits = development_key.removeprefix("0x").encode()
    for path in settled.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert digits not in data, path
            assert bytes.fromhex(digits.decode()) not in data, path


@pytest.mark.parametrize(
    ("url", "key", "code", "line"),
    [
        ("http://127.0.0.1:8545", None, 2, "error: a real node needs an account that pays: set COLLEGIUM_CHAIN_KEY"),
        (CLOSED, "11" * 32, 3, "error: no answer to eth_chainId from the node"),
    ],
    ids=["no key", "nobody there"],
)
def test_without_a_key_or_a_node_nothing_is_founded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    key: str | None,
    code: int,
    line: str,
) -> None:
    monkeypatch.delenv("COLLEGIUM_CHAIN_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", key)
    assert main(command(tmp_path, url)) == code
    said = "".join(capsys.readouterr())
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(line)
    assert "Traceback" not in said
    assert not (tmp_path / "consortium").exists()
