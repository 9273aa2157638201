"""The command line against a fake engine: what is printed where, and with which code it ends."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import collegium
from collegium.apps import _run_cli
from collegium.apps.cli import Engine, ExitCode, app, main
from collegium.errors import CollegiumError
from collegium.node import Event, Experiment, Message, RoundFinished, Verification, Warning_, WorldError

ANCHOR = "ab" * 32
EXPERIMENT = """
[task]
name = "hospitals"
rounds = 1
seed = 1
level = "unproved"
[data]
path = "heart.csv"
site = "hospital"
label = "disease"
negative = "0"
[model]
kind = "logistic"
[rule]
learning_rate = 0.5
[committee]
seats = 16
lying = 1
"""
SUMMARY: dict[str, Any] = {
    "name": "hospitals",
    "level": "unproved",
    "anchor": ANCHOR,
    "page": "out/page.html",
    "auc": 0.9041,
    "auc_pooled": 0.9052,
    "auc_float32": 0.9040,
    "lying_seats": [3],
    "absent_seats": [],
    "watts": 15,
    "rounds": [
        {"round": 1, "finality_ms": 800.0, "coordination_ms": 350, "chain_bytes": 200, "energy_kwh": 1e-5},
        {"round": 2, "finality_ms": 900.0, "coordination_ms": 360, "chain_bytes": 200, "energy_kwh": 3e-5},
    ],
    "checkpoints": [{"gas": 161_234}],
}
FINISHED = RoundFinished(1, 2, 8, 0.9, 0.8, 0.5, 350.0, 800.0, None, None, None, 1e-5, (3,), (5, 6), 1)
GOOD = Verification(True, True, ("certificates", "sums"), ("training",), None, {"level": "unproved", "rounds": 2})
BROKEN = Verification(False, True, ("certificates",), (), "sum of round 2: \x1b[2J does not open", {})

runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


class FakeEngine:
    """Emits three events a run; remembers what it was asked."""

    def __init__(self, verification: Verification = GOOD, error: BaseException | None = None) -> None:
        self.verification, self.error = verification, error
        self.runs: list[tuple[Experiment, Path]] = []
        self.verified: list[tuple[Path, str | None]] = []

    def run(self, experiment: Experiment, out: Path, on_event: Callable[[Event], None]) -> dict[str, Any]:
        self.runs.append((experiment, out))
        on_event(Warning_("site 'Z' is left out"))
        if self.error is not None:
            raise self.error
        on_event(FINISHED)
        return dict(SUMMARY)

    def verify(self, path: Path, anchor: str | None, on_event: Callable[[Event], None]) -> Verification:
        self.verified.append((path, anchor))
        on_event(Message("reading"))
        if self.error is not None:
            raise self.error
        return self.verification


def invoke(*arguments: object, fake: FakeEngine | None = None, demo: Path = Path("none")) -> Any:
    fake = fake or FakeEngine()
    rows = [{"name": "server", "case": "16 x 10k", "ours": 1.5, "peer": 12.0, "ratio": 8.0, "unit": "ms"}]
    engine = Engine(fake.run, fake.verify, lambda *, quick: rows * (1 if quick else 2), lambda: demo)
    return runner.invoke(app, [str(argument) for argument in arguments], obj=engine)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


# run


def test_run_says_its_level_first_and_what_matters_last(config: Path, tmp_path: Path) -> None:
    fake = FakeEngine()
    result = invoke("run", config, "--out", tmp_path / "a" / "b", fake=fake)
    assert result.exit_code == ExitCode.GOOD
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"collegium {collegium.__version__}, level: unproved")
    assert lines[1] == "warning: site 'Z' is left out"
    assert lines[2] == (
        "round 1/2: 8 reports, AUC 0.9000, accuracy 0.8000, loss 0.5000, coordination 350 ms, finality 800 ms, "
        "1.00e-05 kWh (estimate); lying 3; absent 5, 6; 1 view change"
    )
    end = lines.index("")
    facts = dict(line.split(":", 1) for line in lines[3:end])
    assert {label: text.strip() for label, text in facts.items()} == {
        "task": "hospitals, 2 rounds, level unproved",
        "AUC": "federated 0.9041, pooled 0.9052, float32 0.9040",
        "lying seats": "seat 3",
        "absent seats": "none",
        "finality, median": "850 ms in the virtual network",
        "coordination, median": "355 ms in the virtual network",
        "base chain, median": "200 bytes a round",
        "gas, median": "161,234 a checkpoint",
        "energy, estimate": "72 J = 2.00e-05 kWh a round, trainers and seats together at 15 W a core",
        "page": "out/page.html",
        "anchor": ANCHOR,
    }
    assert lines[-2].startswith("verified")
    assert lines[-1] == f"verify again: collegium verify {tmp_path / 'a' / 'b'} --anchor {ANCHOR}"
    assert fake.runs[0][0].committee.lying == 1
    assert fake.runs[0][1] == tmp_path / "a" / "b"


def test_run_with_json_prints_one_object_alone(config: Path, tmp_path: Path) -> None:
    result = invoke("run", config, "--out", tmp_path / "out", "--json")
    assert result.exit_code == ExitCode.GOOD
    printed = json.loads(result.stdout)
    assert printed.pop("verified") is True
    assert printed.pop("failure") is None
    assert printed.pop("verify").startswith("collegium verify ")
    assert printed == SUMMARY
    assert "level: unproved" in result.stderr
    assert "warning: site 'Z' is left out" in result.stderr


def test_run_refuses_a_folder_that_holds_something(config: Path, folder: Path) -> None:
    assert invoke("run", config, "--out", folder).exit_code == ExitCode.GOOD
    (folder / "old").touch()
    fake = FakeEngine()
    result = invoke("run", config, "--out", folder, fake=fake)
    assert (result.exit_code, result.stdout) == (ExitCode.USER, "")
    assert result.stderr == f"error: --out {folder} is not empty, expected a new or empty folder\n"
    assert fake.runs == []


def test_run_refuses_a_file_in_place_of_a_folder(config: Path) -> None:
    result = invoke("run", config, "--out", config)
    assert result.exit_code == ExitCode.USER
    assert result.stderr == f"error: --out {config} is a file, expected a new or empty folder\n"


def test_every_problem_of_an_experiment_has_its_line(config: Path, tmp_path: Path) -> None:
    config.write_text(EXPERIMENT.replace("rounds = 1", "rounds = 0").replace("seats = 16", "seats = 17"))
    result = invoke("run", config, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (ExitCode.USER, "")
    rounds, seats = result.stderr.splitlines()
    assert rounds == "error: task.rounds: is 0, expected a whole number from 1 to 10000"
    assert seats == "error: committee.seats: is 17, expected a power of two: 16, 32, 64, 128 or 256"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CollegiumError("site 'A' has no row"), ExitCode.USER, "error: site 'A' has no row"),
        (CollegiumError("cell is \x1b[2J\nhere"), ExitCode.USER, "error: cell is \\x1b[2J\\nhere"),
        (WorldError("no answer from http://host"), ExitCode.WORLD, "error: no answer from http://host"),
        (OSError(28, "No space left on device"), ExitCode.WORLD, "error: [Errno 28] No space left on device"),
        (MemoryError(), ExitCode.WORLD, "error: MemoryError"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "error: interrupted"),
    ],
)
def test_run_ends_with_one_line_and_the_code(
    error: BaseException, code: int, line: str, config: Path, tmp_path: Path
) -> None:
    result = invoke("run", config, "--out", tmp_path / "out", "--json", fake=FakeEngine(error=error))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1] == line
    assert "Traceback" not in result.stderr


# verify


def test_verify_prints_what_holds_and_what_was_not_checked(folder: Path) -> None:
    fake = FakeEngine()
    result = invoke("verify", folder, "--anchor", "0x" + ANCHOR.upper(), fake=fake)
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.splitlines()[1:] == [
        "reading",
        "holds: certificates",
        "holds: sums",
        "not checked: training",
        "level: unproved (sums, votes and checkpoints can be checked; what a trainer computed is not proved)",
        "verified, and it is the run that the anchor names",
    ]
    assert fake.verified == [(folder, ANCHOR)]


def test_verify_without_an_anchor_promises_less(folder: Path) -> None:
    result = invoke("verify", folder, fake=FakeEngine(Verification(True, False, (), (), None, {})))
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.splitlines()[-1].startswith("verified: self-consistent, not anchored; give --anchor DIGEST")


def test_verify_names_the_broken_thing(folder: Path) -> None:
    result = invoke("verify", folder, fake=FakeEngine(BROKEN))
    assert result.exit_code == ExitCode.FAILED
    assert result.stdout.splitlines()[1:] == ["reading", "holds: certificates"]
    assert result.stderr == "verification failed: sum of round 2: \\x1b[2J does not open\n"


def test_verify_with_json_prints_one_object_alone(folder: Path) -> None:
    good, broken = invoke("verify", folder, "--json"), invoke("verify", folder, "--json", fake=FakeEngine(BROKEN))
    assert (good.exit_code, broken.exit_code) == (ExitCode.GOOD, ExitCode.FAILED)
    assert json.loads(good.stdout) == {
        "level": "unproved",
        "ok": True,
        "anchored": True,
        "checks": ["certificates", "sums"],
        "unchecked": ["training"],
        "failure": None,
        "summary": {"level": "unproved", "rounds": 2},
    }
    assert json.loads(broken.stdout)["failure"] == BROKEN.failure


def test_what_verification_refuses_to_read_has_failed(folder: Path) -> None:
    result = invoke("verify", folder, fake=FakeEngine(error=CollegiumError("header 2 has trailing bytes")))
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr == "verification failed: header 2 has trailing bytes\n"


def test_a_chain_that_does_not_answer_is_no_verdict(folder: Path) -> None:
    result = invoke("verify", folder, fake=FakeEngine(error=WorldError("no answer")))
    assert result.exit_code == ExitCode.WORLD


@pytest.mark.parametrize("anchor", ["", "ab", ANCHOR + "a", "zz" * 32])
def test_verify_refuses_an_anchor_that_is_no_digest(anchor: str, folder: Path) -> None:
    fake = FakeEngine()
    result = invoke("verify", folder, "--anchor", anchor, fake=fake)
    assert result.exit_code == ExitCode.USER
    assert result.stderr == f"error: --anchor is {anchor!r}, expected 64 hexadecimal digits\n"
    assert fake.verified == []


def test_verify_refuses_what_is_no_folder(config: Path) -> None:
    result = invoke("verify", config)
    assert (result.exit_code, result.stdout) == (ExitCode.USER, "")
    assert result.stderr == f"error: {config} is no folder, expected the folder of a run\n"


# demo


def test_demo_takes_the_next_free_folder_and_verifies_itself(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeEngine()
    for number in (1, 2):
        result = invoke("demo", fake=fake, demo=config)
        assert result.exit_code == ExitCode.GOOD
        assert result.stdout.splitlines()[-1] == f"verify again: collegium verify runs/demo-{number} --anchor {ANCHOR}"
    assert [out for _, out in fake.runs] == [Path("runs/demo-1"), Path("runs/demo-2")]
    assert fake.verified == [(out, ANCHOR) for _, out in fake.runs]
    assert "page:                   out/page.html" in result.stdout


def test_demo_with_json_adds_the_verdict(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "my demo"
    result = invoke("demo", "--out", out, "--json", demo=config)
    assert result.exit_code == ExitCode.GOOD
    command = f"collegium verify '{out}' --anchor {ANCHOR}"
    assert json.loads(result.stdout) == SUMMARY | {"verified": True, "failure": None, "verify": command}


def test_demo_that_does_not_verify_has_failed(config: Path, tmp_path: Path) -> None:
    result = invoke("demo", "--out", tmp_path / "out", "--json", fake=FakeEngine(BROKEN), demo=config)
    assert result.exit_code == ExitCode.FAILED
    assert json.loads(result.stdout)["verified"] is False


def test_demo_refuses_a_folder_that_holds_something(config: Path, tmp_path: Path) -> None:
    result = invoke("demo", "--out", tmp_path, demo=config)
    assert result.exit_code == ExitCode.USER
    assert "is not empty" in result.stderr


def test_packaged_demo_is_there() -> None:
    assert Engine().demo_config().is_file()


# bench, version, help, and the process


def test_bench_prints_a_table_or_a_list() -> None:
    table = invoke("bench", "aggregation", "--quick")
    assert table.exit_code == ExitCode.GOOD
    lines = [line.split() for line in table.stdout.splitlines()]
    assert lines[1] == ["name", "case", "ours", "peer", "ratio", "unit"]
    assert lines[2] == ["server", "16", "x", "10k", "1.5", "12", "8", "ms"]
    rows = json.loads(invoke("bench", "aggregation", "--json").stdout)
    assert [row["ratio"] for row in rows] == [8.0, 8.0]


@pytest.mark.parametrize("command", [[], ["demo"], ["run"], ["verify"], ["bench"], ["bench", "aggregation"]])
def test_every_help_has_an_example(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == ExitCode.GOOD
    assert f"collegium {' '.join(command)}".strip() in result.stdout.split("Example:")[1]


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (ExitCode.GOOD, f"collegium {collegium.__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "a.toml"], ["verify"], ["verify", "a", "b"], ["demo", "--fast"]]
)
def test_process_answers_misuse_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.USER
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_process_without_arguments_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USER
    captured = capsys.readouterr()
    assert "Usage" in captured.out + captured.err
    assert "error" not in captured.err


def test_a_bug_of_ours_shows_its_traceback_and_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(_run_cli, "_verify", fail)
    assert main(["verify", os.fspath(folder)]) == ExitCode.BUG
    assert "ZeroDivisionError: ours" in capsys.readouterr().err


def test_exit_codes_are_the_documented_ones() -> None:
    codes = (ExitCode.GOOD, ExitCode.FAILED, ExitCode.USER, ExitCode.WORLD, ExitCode.BUG, ExitCode.INTERRUPTED)
    assert codes == (0, 1, 2, 3, 70, 130)
