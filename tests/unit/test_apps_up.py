"""A whole network of members that learn nothing: started, watched, started again, collected, stopped."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from _tiny_network import tiny_experiment
from rich.console import Console

from collegium.apps._supervisor import Charge
from collegium.apps._up import MembersLostError, Summary, UpOptions, up
from collegium.apps._up_picture import LogTail, Picture
from collegium.apps._up_view import QUIET_S, LiveNetwork, PlainNetwork, network_view, seen_line
from collegium.node import (
    Consortium,
    ConsortiumError,
    Experiment,
    TrainerStanding,
    TrainersWeighed,
    load_experiment,
)

HERE = str(Path(__file__).parent)
MEMBERS = 4 + 6 + 2


class Stage:
    """A tiny experiment, and what was said and collected while its network ran."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.experiment = tiny_experiment(home)
        self.said = io.StringIO()
        self.collected: list[tuple[Consortium, Path]] = []

    def options(self, folder: Path | None = None, **more: bool) -> UpOptions:
        return UpOptions(folder, target="_fake_network:main", environment={"PYTHONPATH": HERE}, **more)

    def up(self, options: UpOptions, collect: Callable[..., Summary] | None = None) -> Summary:
        with PlainNetwork(self.said) as view:
            return up(self.experiment, self.home / "run", options, view, collect or self.collect)

    def collect(self, consortium: Consortium, experiment: Experiment, out: Path) -> Summary:
        assert experiment is self.experiment
        assert sum(map(is_running, self.pids("validator"))) >= 3
        self.collected.append((consortium, out))
        return {"name": "tiny"}

    @property
    def lines(self) -> list[str]:
        return self.said.getvalue().splitlines()

    def pids(self, role: str = "") -> list[int]:
        return [int(pid) for pid in re.findall(rf"^{role}.* runs(?: again)?, pid (\d+)", self.said.getvalue(), re.M)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_network_runs_until_its_task_is_done_and_leaves_nothing(stage: Stage) -> None:
    assert stage.up(stage.options()) == {"name": "tiny"}
    ((consortium, out),) = stage.collected
    assert out == stage.home / "run"
    assert not consortium.folder.parent.exists()  # the keys are gone too
    assert len(stage.pids()) == MEMBERS
    assert not any(map(is_running, stage.pids()))
    rounds = [line for line in stage.lines if line.startswith("round ")]
    assert [line.split(",")[0] for line in rounds] == [f"round {number}/2: 6 reports" for number in range(3)]
    assert "AUC 0.6000, accuracy 0.7500, loss 0.2500" in rounds[1]
    assert any(line.startswith("checkpoint of rounds 0 to 2: 160,000 gas") for line in stage.lines)
    assert "trainer east/0 has finished" in stage.lines
    assert "all members are asked to stop" in stage.lines[-1]


@pytest.mark.slow
def test_a_folder_is_kept_and_gone_on_with_and_whoever_dies_is_started_again(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "consortium"
    stage.up(stage.options(folder))
    genesis = (folder / "genesis.json").read_bytes()
    (folder / "validators" / "02" / "fate").write_text("crash")
    (folder / "trainers" / "00" / "fate").write_text("crash")
    stage.said = io.StringIO()
    stage.up(stage.options(folder))
    assert (folder / "genesis.json").read_bytes() == genesis
    assert f"goes on with the consortium in {folder}" in stage.said.getvalue()
    for name in ("validator 2", "trainer east/0"):
        assert any(
            re.fullmatch(rf"{name}, pid \d+, was ended by SIGKILL; started again in 0.5 s", x) for x in stage.lines
        )
        assert any(re.fullmatch(rf"{name} runs again, pid \d+; restart 1", x) for x in stage.lines)
    assert len(stage.pids()) == MEMBERS + 2
    assert not any(map(is_running, stage.pids()))


@pytest.mark.slow
def test_a_member_that_the_task_cannot_do_without_ends_the_run_by_name(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "consortium"
    stage.up(stage.options(folder))
    stage.said = io.StringIO()
    (folder / "validators" / "02" / "fate").write_text("refuse")  # three are left, and three are a quorum
    stage.up(stage.options(folder))
    assert any(line.startswith("validator 2 ended with code 2 and is not started again") for line in stage.lines)
    stage.said = io.StringIO()
    (folder / "evaluator" / "fate").write_text("refuse")
    with pytest.raises(MembersLostError, match="evaluator cannot run: its settings are refused"):
        stage.up(stage.options(folder))
    assert stage.pids()
    assert not any(map(is_running, stage.pids()))


@pytest.mark.slow
def test_an_interruption_stops_everybody(stage: Stage) -> None:
    def interrupted(*_: object) -> Summary:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.up(stage.options(), interrupted)
    assert len(stage.pids()) == MEMBERS
    assert not any(map(is_running, stage.pids()))


@pytest.mark.slow
def test_another_experiment_s_folder_is_refused(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "consortium"
    stage.up(stage.options(folder))
    text = (tmp_path / "tiny.toml").read_text().replace("rounds = 2", "rounds = 3")
    (tmp_path / "tiny.toml").write_text(text)
    stage.experiment = load_experiment(tmp_path / "tiny.toml")
    with pytest.raises(ConsortiumError, match="a consortium of another experiment"):
        stage.up(stage.options(folder))


# the picture


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def final(number: int, reports: int = 6) -> dict[str, object]:
    return {"event": "round_final", "round": number, "outcome": "opened", "reports": reports, "view": 1}


def test_a_round_is_complete_when_a_quorum_tells_of_it_and_it_is_evaluated() -> None:
    clock = Clock()
    picture = Picture(rounds=2, quorum=3, now_s=clock)
    clock.now_s = 5.0
    assert [picture.hear(f"v{v}", final(0)) for v in (0, 1, 1)] == [None, None, None]  # one tells it twice
    seen = picture.hear("v2", final(0))
    assert seen is picture.seen[0]
    assert picture.hear("v3", final(0)) is None
    assert picture.took_s(0) == 5.0
    evaluation = {"event": "evaluation", "round": 1, "auc": 0.75, "accuracy": 0.5, "loss": 1}
    assert picture.hear("evaluator", evaluation) is None
    clock.now_s = 7.0
    assert picture.hear("v0", final(1)) is picture.hear("v1", final(1)) is None
    seen = picture.hear("v2", final(1))
    assert seen is not None
    assert (seen.auc, picture.took_s(1)) == (0.75, 2.0)


def test_what_a_member_said_before_it_was_started_again_does_not_count_as_finished() -> None:
    picture = Picture(2, 3, Clock())
    picture.hear("t", {"event": "finished"})
    assert picture.finished("t")
    picture.started("t")
    assert not picture.finished("t")
    assert not picture.finished("nobody")


def test_a_checkpoint_is_told_once() -> None:
    picture = Picture(2, 3, Clock())
    event = {"event": "checkpoint", "first_round": 0, "last_round": 2, "gas": 1, "calldata_bytes": 2, "digest": "ab"}
    assert picture.hear("relayer", event) is picture.checkpoints[0]
    assert picture.hear("relayer", event) is None
    assert picture.hear("relayer", event | {"last_round": 4, "gas": "much"}) is None


def test_what_became_of_the_trainers_is_told_and_what_says_nothing_is_left_out() -> None:
    picture, liar = Picture(3, 3, Clock()), {"name": "d/0", "weight": 3, "points": 0.5, "locked": False, "score": -0.25}
    event = {"event": "weighed", "round": 2, "weight_max": 15, "trainers": [liar, "a/0", {}], "model_score": 0.75}
    said = picture.hear("evaluator", event)
    assert said is picture.weighed
    assert isinstance(said, TrainersWeighed)
    assert said.trainers == (TrainerStanding("d/0", 3, 0.5, False, "", -0.25), TrainerStanding("", 0, 0.0, False))
    assert seen_line(said, picture).endswith(
        "influence d/0 3,  0, the other 0 have 15; stewards: 75.0% of hidden rows right"
    )
    odd = picture.hear("evaluator", {"event": "weighed", "round": 3, "trainers": 7, "weight_max": "much"})
    assert odd == TrainersWeighed(3, 0, (), None)
    assert picture.hear("evaluator", event | {"round": -1}) is None


@pytest.mark.parametrize("value", ["1", -1, 1.5, True, None, 1 << 70, [1]])
def test_a_number_that_is_none_is_left_out(value: object) -> None:
    picture = Picture(2, 1, Clock())
    assert picture.hear("v", final(0) | {"round": value}) is None
    picture.hear("t", {"event": "upload_sent", "bytes": value})
    assert picture.seen == {}
    assert picture.members["t"].upload_bytes == 0


def test_a_log_is_followed_line_by_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    assert list(tail.events()) == []
    log.write_text('{"event": "a"}\nnot json\n[1]\n{"event": 3}\n{"event": "b", "x": 1}\n{"eve')
    assert list(tail.events()) == [{"event": "a"}, {"event": "b", "x": 1}]
    with log.open("a") as file:
        file.write('nt": "c"}\n')
    assert list(tail.events()) == [{"event": "c"}]
    assert list(LogTail.at_end(log).events()) == []


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("{" * 200_000)
    tail = LogTail(log)
    assert list(tail.events()) == []
    assert tail._pending == b""


# the views


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(network_view(io.StringIO()), PlainNetwork)


def test_a_pipe_is_told_what_is_waited_for_when_nothing_happens_for_a_while() -> None:
    clock, stream = Clock(), io.StringIO()
    picture = Picture(2, 1, clock)
    charges = [
        Charge("validator", "validator 0", Path("a"), Path("a.log"), True, "running", 4711),
        *(Charge("trainer", f"trainer {n}", Path("b"), Path("b.log"), False, "running", n) for n in (5, 6)),
    ]
    view = PlainNetwork(stream)
    view.update(picture, charges)
    clock.now_s = QUIET_S - 1
    view.update(picture, charges)
    assert stream.getvalue() == ""
    picture.hear("validator 0", {"event": "ready"})
    picture.hear("trainer 5", {"event": "upload_sent", "round": 0, "bytes": 9})
    picture.hear("trainer 6", {"event": "upload_sent", "round": 7, "bytes": 9})  # there is no such round
    clock.now_s = QUIET_S
    view.update(picture, charges)
    assert stream.getvalue() == "  round 0/2: 1 of 2 uploads are in; 1 of 3 running members are ready; 20 s\n"
    view.update(picture, charges)
    assert stream.getvalue().count("\n") == 1
    for number in range(3):
        picture.hear("validator 0", final(number))
    clock.now_s = 2 * QUIET_S
    view.update(picture, charges)
    assert "all rounds are final; evaluation and checkpoints are left" in stream.getvalue()


def test_the_screen_shows_rounds_members_and_their_pids() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    picture = Picture(2, 1, Clock())
    charges = [
        Charge("validator", "validator 0", Path("a"), Path("a.log"), True, "running", 4711),
        Charge("trainer", "trainer \x1b[2J/0", Path("b"), Path("b.log"), False, "waiting", None, 3),
        Charge("evaluator", "evaluator", Path("c"), Path("c.log"), False, "given up"),
    ]
    picture.hear("validator 0", final(1))
    picture.hear("evaluator", {"event": "evaluation", "round": 1, "auc": 0.8125, "accuracy": 0.5, "loss": 1})
    liar = {"name": "liar \x1b[2J", "weight": 3, "points": 0.5, "locked": False, "score": -0.25}
    picture.hear("evaluator", {"event": "weighed", "round": 1, "weight_max": 15, "trainers": [liar]})
    with LiveNetwork(console) as view:
        view.update(picture, charges)
    shown = stream.getvalue()
    assert "0.8125" in shown
    assert "-0.25" in shown
    assert "0 4711" in shown
    assert "evaluator given up" in shown
    assert "1 of 3 run, 3 restarts" in shown
    assert "\x1b[2J/0" not in shown
