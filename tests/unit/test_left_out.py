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


def run(folder: Path, ip: str | None, nothing_left_out: str) -> tuple[int, str]:
    """Run a plain test and one that needs namespaces where `ip` is this script, or is not there."""
    programs = folder / "programs"
    programs.mkdir()
    if ip is not None:
        (programs / "ip").write_text(ip)
        (programs / "ip").chmod(0o755)
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_both.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    netns: needs network namespaces\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", folder],
        env={"PATH": str(programs), "HOME": str(folder), "COLLEGIUM_NOTHING_LEFT_OUT": nothing_left_out},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ip", "nothing_left_out", "code", "said"),
    [
        (GRANTED, "1", 0, "2 passed"),
        (REFUSED, "1", 0, "namespaces are refused here: ip netns add collegium-probe-"),
        (REFUSED, "0", 0, "--make-shared failed: Operation not permitted"),
        (None, "0", 0, "1 in number: ip is not installed"),
        (None, "1", 1, "left out, which fails this run"),
    ],
    ids=[
        "granted",
        "refused is excused",
        "refused",
        "not installed",
        "not installed fails a run that leaves nothing out",
    ],
)
def test_what_the_kernel_forbids_is_excused_and_what_is_not_installed_is_not(
    tmp_path: Path, ip: str | None, nothing_left_out: str, code: int, said: str
) -> None:
    found, text = run(tmp_path, ip, nothing_left_out)
    assert found == code, text
    assert said in text
    assert ("1 deselected" in text) == (ip != GRANTED)
