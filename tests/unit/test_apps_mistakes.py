"""What a mistyped path or name is answered with: one line that names it and what was expected, and code 2."""

import os
from pathlib import Path

import pytest

from collegium.apps.cli import ExitCode, main

ACCOUNT = "11" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `file` is an empty file, `empty` an empty folder and `demo.toml` an experiment."""
    import collegium.apps

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", ACCOUNT)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    demo = Path(os.fspath(next(iter(collegium.apps.__path__)))) / "demo" / "demo.toml"
    (tmp_path / "demo.toml").write_bytes(demo.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("runn", "No such command 'runn'. Did you mean 'run'?"),
        ("run nothing --out new", "nothing: No such file or directory; expected an experiment file"),
        ("run demo.toml --out file/new", "--out file/new: Not a directory, expected a new or empty folder"),
        ("up demo.toml --folder file", "--folder file is a file, expected a consortium's folder or none"),
        ("verify nothing", "nothing is no folder, expected the folder of a run"),
        ("watch nothing", "nothing is no folder, expected the folder of a run"),
        ("watch empty", "empty has no genesis.json, expected the folder of a run"),
        ("offer empty", "empty has no genesis.json, expected the folder of a run"),
        ("rewards empty", "empty has no genesis.json, expected the folder of a run"),
        (
            "member settle demo.toml --home new --roster nothing --cards empty",
            "--roster nothing: No such file or directory, expected what assemble wrote",
        ),
        ("data new-key nothing/key", "nothing is no folder, expected one to put the key file into"),
        ("data verify file", "file is empty, expected 1 to 67108864 bytes"),
    ],
)
def test_a_mistake_is_answered_with_one_line(
    folder: Path, command: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == ExitCode.USER
    assert capsys.readouterr().err == f"error: {answer}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["demo.toml", "empty", "file"]


def test_the_same_without_the_mistake_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "new-key", "empty/key"]) == ExitCode.GOOD
    assert capsys.readouterr().err == ""
