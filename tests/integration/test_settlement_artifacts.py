"""The compiled contracts in the package are what the sources compile to, byte for byte.

That they are is part of `scripts/check --lint`, so of continuous integration; that a difference is found is tried here
with COLLEGIUM_FULL=1, as compiling takes more than a minute.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARTIFACTS = Path("src", "collegium", "settlement", "artifacts")
TEST_ARTIFACTS = Path("tests", "data", "contracts")

pytestmark = [pytest.mark.node, pytest.mark.slow]


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = ["node", root / "contracts" / "compile.js", "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with the same sources, compiler and artifacts, to be changed."""
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "contracts" / "node_modules").symlink_to(ROOT / "contracts" / "node_modules")
    for folder in (ARTIFACTS, TEST_ARTIFACTS):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


if os.environ.get("COLLEGIUM_FULL") == "1":

    def test_the_sources_compile_to_the_artifacts_and_one_changed_byte_is_found(copy: Path) -> None:
        """One compilation: it finds the one artifact that was changed, and no other."""
        artifact = copy / TEST_ARTIFACTS / "TestCourt.json"
        text = artifact.read_text()
        code = text.index('"bytecode": "') + 100
        artifact.write_text(f"{text[:code]}{int(text[code], 16) ^ 1:x}{text[code + 1 :]}")
        done = check(copy)
        assert done.returncode == 1
        assert done.stderr == "TestCourt.json: differs from what the sources compile to; run 'npm run compile'\n"
