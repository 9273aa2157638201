"""Worker processes of a plain script: they start although the script guards nothing, and do not run it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from collegium.node import Workers

print("began")
with Workers(2) as workers:
    print([done.value for done in workers.map(divmod, [(7, 2), (9, 4)])])
print(__file__.endswith("script.py"))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["began", "[(3, 1), (2, 1)]", "True"]


@pytest.mark.slow
def test_work_of_the_script_itself_cannot_be_carried(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        SCRIPT.replace("divmod", "halve").replace('print("began")', "def halve(a, b):\n    return a")
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Can't get attribute 'halve'" in done.stderr
