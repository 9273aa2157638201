"""Worker processes of a plain script: they start although the script guards nothing, and do not run it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from collegium.node import Workers, WorldError

def halve(a, b):
    return a

print("began")
with Workers(2) as workers:
    print([done.value for done in workers.map(divmod, [(7, 2), (9, 4)])])
    print(__file__.endswith("script.py"))
    try:
        list(workers.map(halve, [(7, 2), (9, 4)]))
    except WorldError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once_and_work_of_its_own_cannot_be_carried(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    began, value, file, refused = done.stdout.splitlines()
    assert (began, value, file) == ("began", "[(3, 1), (2, 1)]", "True")
    assert refused.startswith("a worker process died: ")
    assert "Can't get attribute 'halve'" in done.stderr
