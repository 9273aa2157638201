"""The commands of a network: what they print, where, and with which code they end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from _tiny_network import tiny_experiment
from typer.testing import CliRunner

from collegium.apps._exit import ExitCode
from collegium.apps._member import serve
from collegium.apps._up import MembersLostError, UpOptions
from collegium.apps._up_view import NetworkView
from collegium.apps.cli import Engine, app
from collegium.errors import CollegiumError
from collegium.node import Experiment, Message, Verification, WorldError, open_consortium

ROLES = ("validator", "trainer", "steward", "evaluator", "relayer")
VERIFIED = Verification(True, True, ("certificates",), (), None, {"level": "unproved"})

runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


class FakeUp:
    """Remembers what it was asked, says one thing, and writes a run or fails."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[tuple[Experiment, Path, UpOptions]] = []
        self.error = error

    def __call__(self, experiment: Experiment, out: Path, options: UpOptions, view: NetworkView) -> Mapping[str, Any]:
        self.asked.append((experiment, out, options))
        view(Message("six trainers"))
        if self.error is not None:
            raise self.error
        (out / "summary.json").write_text("{}")
        return {"name": "tiny", "level": "unproved", "anchor": "ab" * 32}


def invoke(*arguments: object, fake: FakeUp | None = None) -> Any:
    engine = Engine(verify=lambda *_: VERIFIED, up=fake or FakeUp())
    return runner.invoke(app, [str(argument) for argument in arguments], obj=engine)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tiny_experiment(tmp_path)
    return tmp_path / "tiny.toml"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("network")
    tiny_experiment(home)
    assert invoke("init", home / "tiny.toml", "--out", home / "consortium").exit_code == ExitCode.GOOD
    return home / "consortium"


@pytest.fixture
def folder(founded: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(founded, tmp_path / "consortium"))


# init


def test_init_says_where_everything_is_and_what_starts_it(config: Path, tmp_path: Path) -> None:
    result = invoke("init", config, "--out", tmp_path / "consortium")
    assert result.exit_code == ExitCode.GOOD
    anchor = open_consortium(tmp_path / "consortium").genesis.anchor.hex()
    assert f"anchor:                 {anchor}" in result.stdout
    assert "keep its key away from every member" in result.stdout
    first = tmp_path / "consortium" / "validators" / "00" / "config.toml"
    assert f"4 validators:           collegium validator --config {first}" in result.stdout


def test_init_prints_one_object_with_json(config: Path, tmp_path: Path) -> None:
    result = invoke("init", config, "--out", tmp_path / "consortium", "--json")
    found = json.loads(result.stdout)
    assert [member["role"] for member in found["members"]] == ["validator"] * 4 + ["trainer"] * 6 + [*ROLES[3:]]
    assert all(Path(member["config"]).is_file() for member in found["members"])


def test_init_overwrites_nothing(config: Path, folder: Path) -> None:
    result = invoke("init", config, "--out", folder)
    assert result.exit_code == ExitCode.USER
    assert result.stderr.startswith(f"error: {folder} is in use, expected a new or empty folder")


def test_init_names_what_is_wrong_with_an_experiment(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("validators = 4", "validator = 4"))
    result = invoke("init", config, "--out", tmp_path / "consortium")
    assert result.exit_code == ExitCode.USER
    assert "network.validator: is no setting of this section; did you mean validators?" in result.stderr
    assert not (tmp_path / "consortium").exists()


# up


def test_up_runs_shows_and_verifies(config: Path, tmp_path: Path) -> None:
    fake = FakeUp()
    result = invoke("up", config, "--out", tmp_path / "run", "--rounds", 1, "--folder", tmp_path / "c", fake=fake)
    assert result.exit_code == ExitCode.GOOD
    ((experiment, out, options),) = fake.asked
    assert (experiment.task.rounds, out) == (1, tmp_path / "run")
    assert options == UpOptions(folder=tmp_path / "c")
    assert "six trainers" in result.stdout
    assert "verified, and it is the run that the anchor names" in result.stdout


def test_up_prints_one_object_with_json(config: Path, tmp_path: Path) -> None:
    result = invoke("up", config, "--out", tmp_path / "run", "--json")
    assert json.loads(result.stdout)["verified"] is True
    assert "six trainers" in result.stderr


def test_up_without_a_folder_names_the_run_after_the_task(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeUp()
    invoke("up", config, fake=fake)
    assert fake.asked[0][1] == Path("runs/tiny-1")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MembersLostError("evaluator cannot run"), ExitCode.WORLD, "error: evaluator cannot run\n"),
        (WorldError("disk"), ExitCode.WORLD, "error: disk\n"),
        (CollegiumError("folder"), ExitCode.USER, "error: folder\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "error: interrupted\n"),
    ],
    ids=["members", "world", "user", "interrupted"],
)
def test_up_ends_with_the_code_of_what_went_wrong(
    config: Path, tmp_path: Path, error: BaseException, code: int, line: str
) -> None:
    result = invoke("up", config, "--out", tmp_path / "run", fake=FakeUp(error))
    assert (result.exit_code, result.stderr) == (code, line)
    assert not (tmp_path / "run").exists()  # nothing was written into it


def test_up_does_not_write_into_a_used_folder(config: Path, tmp_path: Path) -> None:
    result = invoke("up", config, "--out", tmp_path)
    assert result.exit_code == ExitCode.USER
    assert "is not empty" in result.stderr


# the members


@pytest.mark.parametrize("role", ROLES)
def test_a_member_of_another_role_is_refused_in_one_line(folder: Path, role: str) -> None:
    other = "evaluator" if role != "evaluator" else "relayer"
    config = folder / other / "config.toml"
    result = invoke(role, "--config", config)
    assert result.exit_code == ExitCode.USER


def test_a_refused_member_says_file_key_and_what_is_expected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "evaluator" / "config.toml"
    assert serve(config, "relayer") == ExitCode.USER
    assert capsys.readouterr().err == f'error: {config}: node.role: is "evaluator", expected "relayer"\n'
    config.write_text(config.read_text().replace("level =", "levels ="))
    assert serve(config) == ExitCode.USER
    assert capsys.readouterr().err == (
        f"error: {config}: log.levels: is no setting of this section; did you mean level?\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorldError("disk"), ExitCode.WORLD),
        (CollegiumError("key"), ExitCode.USER),
        (OSError("full"), ExitCode.WORLD),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError(), ExitCode.BUG),
        (None, ExitCode.GOOD),
    ],
)
def test_a_member_ends_with_the_code_of_what_went_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    async def run(settings: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("collegium.node.run_role", run)
    assert serve(folder / "evaluator" / "config.toml", "evaluator") == code


@pytest.mark.parametrize("command", ["init", "up", *ROLES])
def test_help_shows_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == ExitCode.GOOD
    assert f"collegium {command} " in result.stdout
