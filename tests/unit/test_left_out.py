"""What a run says of tests that this machine cannot serve: which it leaves out, and when that fails it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"
TESTS = """
import pytest

def test_plain():
    pass

@pytest.mark.netns
def test_that_needs_a_namespace():
    pass
"""
REFUSED = "#!/bin/sh\necho 'mount --make-shared failed: Operation not permitted' >&2\nexit 255\n"
GRANTED = "#!/bin/sh\nexit 0\n"
CASES = {
    "granted": (GRANTED, "1", 0, "2 passed"),
    "refused is excused": (REFUSED, "1", 0, "namespaces are refused here: ip netns add collegium-probe-"),
    "refused": (REFUSED, "0", 0, "--make-shared failed: Operation not permitted"),
    "not installed": (None, "0", 0, "1 in number: ip is not installed"),
    "not installed fails a run that leaves nothing out": (None, "1", 1, "left out, which fails this run"),
}
"""The program `ip`, COLLEGIUM_NOTHING_LEFT_OUT, the exit code and a part of what is said."""

# Each run is a process of its own, a copy of one that has imported what every run imports: that takes seconds.
RUNS = """
import os
import sys
import eth, eth_account, hypothesis, pytest
import collegium.settlement

for at in range(1, len(sys.argv), 2):
    folder, nothing_left_out = sys.argv[at : at + 2]
    if os.fork() == 0:
        os.chdir(folder)
        os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 1)
        os.environ.clear()
        os.environ.update(PATH=f"{folder}/programs", HOME=folder, COLLEGIUM_NOTHING_LEFT_OUT=nothing_left_out)
        code = pytest.main(["-p", "no:cacheprovider", folder])
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def prepare(folder: Path, ip: str | None) -> Path:
    """Lay out a plain test and one that needs namespaces where `ip` is this script, or is not there."""
    (folder / "programs").mkdir()
    if ip is not None:
        (folder / "programs" / "ip").write_text(ip)
        (folder / "programs" / "ip").chmod(0o755)
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_both.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    netns: needs network namespaces\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Return the exit code of each case's run and what it said."""
    folders = {name: prepare(tmp_path_factory.mktemp("run"), case[0]) for name, case in CASES.items()}
    arguments = [word for name, folder in folders.items() for word in (folder, CASES[name][1])]
    done = subprocess.run([sys.executable, "-c", RUNS, *arguments], capture_output=True, text=True, check=True)
    codes = map(int, done.stdout.split())
    return {
        name: (code, (folder / "said").read_text()) for (name, folder), code in zip(folders.items(), codes, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_the_kernel_forbids_is_excused_and_what_is_not_installed_is_not(
    name: str, runs: dict[str, tuple[int, str]]
) -> None:
    ip, _, code, said = CASES[name]
    found, text = runs[name]
    assert found == code, text
    assert said in text
    assert ("1 deselected" in text) == (ip != GRANTED)
