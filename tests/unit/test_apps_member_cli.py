"""Founding a consortium by the commands of `collegium member`, each member in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _tiny_network import tiny_experiment
from typer.testing import CliRunner

from collegium.apps._exit import ExitCode
from collegium.apps.cli import app
from collegium.node import EvaluatorSettings, RelayerSettings, TrainerSettings, ValidatorSettings, load_settings

runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


def member(*arguments: object) -> Any:
    return runner.invoke(app, ["member", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = member(*arguments)
    assert result.exit_code == ExitCode.GOOD, result.stderr
    return str(result.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Four validators, four trainers and an operator that made their cards, and the roster of them."""
    tiny_experiment(tmp_path)
    config, cards, table = tmp_path / "tiny.toml", tmp_path / "cards", tmp_path / "tiny.csv"
    for n in range(4):
        places = ("--listen", f"127.0.0.1:{20_000 + n}", "--gateway", f"127.0.0.1:{21_000 + n}")
        done("join-validator", config, "--home", tmp_path / f"v{n}", *places, "--card", cards / f"v{n}.json")
        rows = ("--name", f"north/{n}", "--rows", table, "--site", "north")
        done("join-trainer", config, "--home", tmp_path / f"t{n}", *rows, "--card", cards / f"t{n}.json")
    rows = ("--rows", table, "--site", "east")
    done("join-operator", config, "--home", tmp_path / "op", *rows, "--card", cards / "op.json")
    roster = ("--authority", tmp_path / "authority", "--roster", tmp_path / "roster.json")
    assert "compares this digest" in done("assemble", config, "--cards", cards, *roster)
    return tmp_path


@pytest.mark.slow
def test_members_that_share_cards_alone_end_with_one_anchor_and_settings_of_their_own(home: Path) -> None:
    config, cards = home / "tiny.toml", home / "cards"
    roster = ("--roster", home / "roster.json")
    for n in range(4):
        done("deal", config, "--home", home / f"v{n}", *roster, "--card", cards / f"v{n}-deals.json")
    for n in range(4):
        own = ("--home", home / f"v{n}", "--cards", cards, "--card", cards / f"v{n}-confirms.json")
        done("confirm", config, *own, *roster)
    names = [f"v{n}" for n in range(4)] + [f"t{n}" for n in range(4)] + ["op"]
    said = [done("settle", config, "--home", home / name, "--cards", cards, *roster) for name in names]
    assert len({text.splitlines()[0] for text in said}) == 1
    kinds = [type(load_settings(Path(line.split()[1]))) for text in said for line in text.splitlines()[1:]]
    assert kinds == [ValidatorSettings] * 4 + [TrainerSettings] * 4 + [EvaluatorSettings, RelayerSettings]


@pytest.mark.slow
def test_what_is_refused_is_one_line_and_overwrites_nothing(home: Path) -> None:
    config, cards = home / "tiny.toml", home / "cards"
    roster = ("--roster", home / "roster.json")
    # a card, a roster, a folder that are there already
    taken = member("deal", config, "--home", home / "v0", *roster, "--card", cards / "v0.json")
    assert (taken.exit_code, taken.stderr) == (ExitCode.USER, f"error: {cards / 'v0.json'} exists, expected no file\n")
    again = member("assemble", config, "--cards", cards, "--authority", home / "other", *roster)
    assert (again.exit_code, "exists, expected no file" in again.stderr) == (ExitCode.USER, True)
    places = ("--listen", "127.0.0.1:1", "--gateway", "127.0.0.1:2")
    used = member("join-validator", config, "--home", home / "v0", *places, "--card", home / "x.json")
    assert (used.exit_code, "keys are never overwritten" in used.stderr) == (ExitCode.USER, True)
    # an address that is none, a card that was changed, another experiment, no dealings
    wrong = member("join-validator", config, "--home", home / "n", "--listen", "here", *places[2:], "--card", "n")
    assert "error: --listen is 'here', expected host:port" in wrong.stderr
    text = (cards / "v1.json").read_text()
    (cards / "v1.json").write_text(text.replace("127.0.0.1:21001", "127.0.0.1:21009"))
    forged = member("assemble", config, "--cards", cards, "--authority", home / "a", "--roster", home / "r.json")
    assert (forged.exit_code, "it is signed by 0x" in forged.stderr) == (ExitCode.USER, True)
    (cards / "v1.json").write_text(text)
    early = member("confirm", config, "--home", home / "v0", *roster, "--cards", cards, "--card", home / "c.json")
    assert (early.exit_code, "has not dealt yet" in early.stderr) == (ExitCode.USER, True)
    # a trainer whom no registry lists, a run that nobody has settled, a folder that is no operator's
    idle = member("enter", config, "--home", home / "t0", *roster, "--card", home / "e.json")
    assert (idle.exit_code, "enters no registry" in idle.stderr) == (ExitCode.USER, True)
    assert not (home / "e.json").exists()
    for folder, reason in ((home / "op", "expected a genesis file"), (home / "v0", "expected a consortium's folder")):
        lost = runner.invoke(app, ["collect", str(folder), "--out", str(home / "run")])
        assert (lost.exit_code, reason in lost.stderr) == (ExitCode.USER, True)
        assert not (home / "run").exists()
    config.write_text(config.read_text().replace("rounds = 2", "rounds = 3"))
    other = member("deal", config, "--home", home / "v0", *roster, "--card", home / "d.json")
    assert (other.exit_code, "is of another experiment" in other.stderr) == (ExitCode.USER, True)
