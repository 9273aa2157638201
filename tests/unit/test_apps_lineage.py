"""`collegium lineage`: who fed a version, as a table, as JSON, as W3C PROV; which versions carry a dataset."""

import json
from pathlib import Path

import pytest
from _lineage_stage import d, write_run
from typer.testing import CliRunner, Result

from collegium.apps.cli import ExitCode, app
from collegium.lineage import Lineage


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Lineage(tmp_path / "lineage.db") as lineage:
        write_run(lineage)
    return tmp_path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lineage", *map(str, arguments)])


def test_the_last_version_is_shown_and_any_other_by_its_first_digits(run: Path) -> None:
    last, first = invoke(run, "--json"), invoke(run, d("model 1").hex()[:8], "--json")
    assert json.loads(last.stdout)["model"] == d("model 2").hex()
    found = json.loads(first.stdout)
    assert found["model"] == d("model 1").hex()
    assert found["influence"][1] == {"trainer": "trainer ulm", "datasets": ["ulm"], "rounds": 1, "weight": 2}
    table = invoke(run, d("model 1").hex())
    assert (table.exit_code, "trainer ulm" in table.stdout) == (ExitCode.GOOD, True)


def test_prov_is_a_document_of_the_version(run: Path) -> None:
    result = invoke(run, "--prov")
    with Lineage(run / "lineage.db", read_only=True) as lineage:
        assert result.stdout == lineage.prov(d("model 2")) + "\n"


@pytest.mark.parametrize("named", ["ulm", d("ulm").hex(), d("ulm").hex()[:8]])
def test_erasure_lists_the_versions_that_carry_a_dataset(run: Path, named: str) -> None:
    with Lineage(run / "lineage.db", read_only=True) as lineage:
        touched = [record.digest.hex() for record in lineage.erasure(d("ulm"))]
    found = json.loads(invoke(run, "--erasure", named, "--json").stdout)
    assert [version["model"] for version in found["versions"]] == touched
    assert found["datasets"] == [d("ulm").hex()]
    assert "2 of 3 versions" in invoke(run, "--erasure", named).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--erasure", "mars"], "names no dataset"),
        (["--erasure", "0" * 64], "names 0 dataset"),
        (["00000000"], "names 0 model version"),
        ([d("model 1").hex()[:7]], "names no model version"),
        (["--prov", "--json"], "--prov prints"),
        (["--prov", "--erasure", "ulm"], "--prov prints"),
        ([d("model 1").hex(), "--erasure", "ulm"], "leave the model out"),
    ],
)
def test_what_is_not_there_is_the_users_error(run: Path, arguments: list[str], said: str) -> None:
    result = invoke(run, *arguments)
    assert (result.exit_code, result.stdout) == (ExitCode.USER, "")
    assert said in result.stderr


def test_a_folder_without_a_lineage_and_a_damaged_one_are_refused(tmp_path: Path, run: Path) -> None:
    assert invoke(tmp_path / "nothing").exit_code == ExitCode.USER
    path = run / "lineage.db"
    data = bytearray(path.read_bytes())
    place = data.find(b"trainer ulm")
    data[place] ^= 1
    path.write_bytes(data)
    result = invoke(run)
    assert (result.exit_code, result.stdout) == (ExitCode.USER, "")
