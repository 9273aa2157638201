"""Processes forked from one that has imported everything: how they start, end, and never outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collegium.apps._zygote import Ended, Zygote, ZygoteError

HERE = str(Path(__file__).parent)
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("_fake_member:main", {"PYTHONPATH": HERE}) as zygote:
        zygote.wait_until_ready()
        yield zygote


def next_end(zygote: Zygote) -> Ended:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        ended = zygote.ended(1.0)
        if ended:
            assert len(ended) == 1
            return ended[0]
    raise AssertionError("nothing ended")


def until(log: Path, text: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_text():
            return log.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{log} never says {text!r}")


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_key_that_pays_for_a_chain_is_in_no_members_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", "11" * 32)
    monkeypatch.setenv("COLLEGIUM_OTHER", "1")
    with Zygote("_fake_member:main", {"PYTHONPATH": HERE, "COLLEGIUM_GIVEN": "1"}) as zygote:
        zygote.wait_until_ready()
        zygote.start(["environment"], tmp_path / "log")
        names = until(tmp_path / "log", "end").split()
    assert {"COLLEGIUM_OTHER", "COLLEGIUM_GIVEN"} < set(names)
    assert "COLLEGIUM_CHAIN_KEY" not in names


def test_a_forked_process_shares_what_was_imported_and_ends_with_its_code(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.start(["where"], tmp_path / "log")
    assert next_end(zygote) == Ended(pid, 0)
    parent, preloaded, group = map(int, (tmp_path / "log").read_text().split())
    assert parent == preloaded
    assert group != os.getpgid(0)  # Ctrl-C in this terminal does not reach it


@pytest.mark.parametrize("code", [0, 2, 70])
def test_an_exit_code_is_reported(zygote: Zygote, tmp_path: Path, code: int) -> None:
    pid = zygote.start(["exit", str(code)], tmp_path / "log")
    assert next_end(zygote) == Ended(pid, code)


def test_an_exception_is_our_bug_and_its_traceback_is_in_the_log(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.start(["raise"], tmp_path / "log")
    assert next_end(zygote) == Ended(pid, 70)
    assert "RuntimeError: our bug" in (tmp_path / "log").read_text()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_reaches_the_process(zygote: Zygote, tmp_path: Path, number: int, code: int) -> None:
    pid = zygote.start(["wait"], tmp_path / "log")
    until(tmp_path / "log", "ready")
    zygote.signal(pid, number)
    assert next_end(zygote) == Ended(pid, code)


def test_a_process_killed_by_hand_is_reported(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.start(["wait"], tmp_path / "log")
    os.kill(pid, signal.SIGKILL)
    assert next_end(zygote) == Ended(pid, -signal.SIGKILL)


def test_a_signal_to_who_was_never_started_here_goes_nowhere(zygote: Zygote, tmp_path: Path) -> None:
    zygote.signal(os.getpid(), signal.SIGKILL)
    pid = zygote.start(["exit", "0"], tmp_path / "log")
    assert next_end(zygote) == Ended(pid, 0)


def test_a_log_that_cannot_be_written_is_an_error_of_the_start(zygote: Zygote, tmp_path: Path) -> None:
    with pytest.raises(ZygoteError, match="No such file"):
        zygote.start(["exit", "0"], tmp_path / "missing" / "log")


def test_leaving_the_zygote_leaves_nothing_running(tmp_path: Path) -> None:
    with Zygote("_fake_member:main", {"PYTHONPATH": HERE}) as zygote:
        pids = [zygote.start([kind], tmp_path / kind) for kind in ("wait", "stubborn")]
        until(tmp_path / "stubborn", "ready")
    assert not any(map(is_running, pids))


def test_killing_whoever_started_it_all_leaves_nothing_running(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from collegium.apps._zygote import Zygote
with Zygote("_fake_member:main", {{"PYTHONPATH": {HERE!r}}}) as zygote:
    print(zygote.start(["stubborn"], Path({str(tmp_path / "log")!r})), flush=True)
    input()
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdin is not None
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    until(tmp_path / "log", "ready")
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + PATIENCE_S
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    owner.stdin.close()
    owner.stdout.close()
    assert not is_running(pid)


def test_two_threads_are_never_forked() -> None:
    with (
        Zygote("_fake_threads:main", {"PYTHONPATH": HERE}) as zygote,
        pytest.raises(ZygoteError, match="2 threads run in the process that forks, expected 1"),
    ):
        zygote.wait_until_ready()


def test_a_target_that_cannot_be_imported_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        Zygote("_no_such_module:main", {"PYTHONPATH": HERE}) as zygote,
        pytest.raises(ZygoteError, match="ModuleNotFoundError: No module named '_no_such_module'"),
    ):
        zygote.wait_until_ready()
    assert "Traceback" in capfd.readouterr().err
