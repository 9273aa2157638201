"""Puts the stage of whole runs where the tests of this folder can import it, and plays one run for all of them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from _run_stage import PROVED, Copy, PlayedRun, play, write_experiment


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """A run of three rounds with an absent and a lying seat. Nobody may change its folder."""
    folder = tmp_path_factory.mktemp("played")
    return play(write_experiment(folder), folder / "run")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """Another run of the very same experiment."""
    folder = tmp_path_factory.mktemp("other")
    return play(write_experiment(folder), folder / "run")


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """The run of the same experiment in which every report carries a proof of its training step."""
    folder = tmp_path_factory.mktemp("proved")
    return play(write_experiment(folder, PROVED), folder / "run")


@pytest.fixture
def copy(played: PlayedRun, tmp_path: Path) -> Copy:
    """A copy of the run to damage."""
    return Copy.of(played.path, tmp_path / "copy")


@pytest.fixture(scope="session")
def node() -> Iterator[str]:
    """The address of a fresh anvil."""
    anvil = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"
    command = [anvil, "--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(line.split()[-1] for line in process.stdout if line.startswith("Listening on"))
            yield f"http://{address}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def development_key() -> str:
    """The key of the account that pays: the first of anvil's published development accounts."""
    return "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
