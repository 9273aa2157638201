"""`collegium status`: the table, the exit code, and who may be asked. Real validators: test_apps_up_heart.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import collegium.node
from collegium.apps._exit import ExitCode
from collegium.apps.cli import app
from collegium.node import StatusError, TrainerStanding, TrainersWeighed, ValidatorStatus
from collegium.node._desk import Readiness

READY = Readiness(round=3, connected=4, quorum=3, current=True)
BEHIND = Readiness(round=2, connected=4, quorum=3, current=False)
OUTSIDE = Readiness(round=12, connected=4, quorum=3, current=False, epoch=2, back_at=15)
ALONE = Readiness(round=3, connected=1, quorum=3, current=True)


def ask(monkeypatch: pytest.MonkeyPatch, *said: Readiness | str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run the command on a network whose validators say this of themselves."""
    found = tuple(
        ValidatorStatus(index, ("127.0.0.1", 7000 + index), *((None, each) if isinstance(each, str) else (each,)))
        for index, each in enumerate(said)
    )
    monkeypatch.setattr(collegium.node, "network_status", lambda _: found)
    result = CliRunner().invoke(app, ["status", "consortium", *options])
    return result.exit_code, result.stdout


def test_a_network_of_which_a_quorum_is_ready_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown = ask(monkeypatch, READY, READY, READY, "validator 3, GET /readyz: it is\x1b gone")
    assert code == ExitCode.GOOD
    assert "0  127.0.0.1:7000             0      3          4  ready" in shown
    assert "3  127.0.0.1:7003             -      -          -  validator 3, GET /readyz: it is" in shown
    assert "\x1b" not in shown
    assert shown.endswith("3 of 4 validators are ready, 3 are needed\n")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (BEHIND, "catching up"),
        (ALONE, "too few connections"),
        (OUTSIDE, "outside this epoch's set, back in round 15 at the earliest"),
    ],
)
def test_one_fewer_is_not_enough_and_the_table_says_why(
    monkeypatch: pytest.MonkeyPatch, said: Readiness, state: str
) -> None:
    code, shown = ask(monkeypatch, READY, READY, said, "gone")
    assert code == ExitCode.WORLD
    assert state in shown
    assert shown.endswith("2 of 4 validators are ready, 3 are needed\n")


def test_what_is_needed_is_a_quorum_of_the_present_epochs_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five candidates one has no place: three of the other four decide, as these say."""
    member = Readiness(round=12, connected=3, quorum=3, current=True, epoch=2)
    code, shown = ask(monkeypatch, member, member, member, "gone", OUTSIDE)
    assert code == ExitCode.GOOD
    assert shown.endswith("3 of 5 validators are ready, 3 are needed\n")


def test_json_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown = ask(monkeypatch, READY, "gone", options=("--json",))
    assert code == ExitCode.WORLD
    first, second = json.loads(shown)
    assert (first["ready"], first["round"], first["problem"]) == (True, 3, None)
    assert (second["ready"], second["round"], second["problem"]) == (False, None, "gone")
    assert (first["epoch"], first["back_at"], second["epoch"], second["back_at"]) == (0, None, None, None)


def test_trainers_are_shown_with_score_influence_and_points(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = (TrainerStanding("a\x1b/0", 15, 2.5, False, "", 0.5), TrainerStanding("b/0", 0, 0.0, True))
    found = TrainersWeighed(4, 15, trainers, 0.75)
    monkeypatch.setattr(collegium.node, "trainers_status", lambda _: found)
    code, shown = ask(monkeypatch, READY, options=("--trainers",))
    assert code == ExitCode.GOOD
    lines = shown.splitlines()
    assert lines[1].split()[-4:] == ["0.50", "15", "2.50", "counts"]
    assert lines[2].split() == ["b/0", "-", "0", "0.00", "locked", "out"]
    assert lines[3] == "round 4: influence b/0 0, the other 1 have 15; stewards: 75.0% of hidden rows right"
    assert "\x1b" not in shown
    _, shown = ask(monkeypatch, READY, options=("--trainers", "--json"))
    assert json.loads(shown)["trainers"][0]["score"] == 0.5
    monkeypatch.setattr(collegium.node, "trainers_status", lambda _: None)
    assert ask(monkeypatch, READY, options=("--trainers",))[1].startswith("no trainers are measured")
    assert json.loads(ask(monkeypatch, READY, options=("--trainers", "--json"))[1]) == {}


def test_what_cannot_be_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["status", str(tmp_path / "nowhere.toml")])
    assert result.exit_code == ExitCode.USER
    assert "nowhere.toml" in result.stderr

    def refuse(_: Path) -> None:
        raise StatusError("config.toml is a validator's")

    monkeypatch.setattr(collegium.node, "network_status", refuse)
    result = CliRunner().invoke(app, ["status", "config.toml"])
    assert (result.exit_code, result.stderr) == (ExitCode.USER, "error: config.toml is a validator's\n")
