"""`collegium data`: what an owner and a stranger are told, and with which code each command ends."""

from __future__ import annotations

import importlib.resources
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import collegium
from collegium.apps._licences import Grant, LicenceNotInForceError
from collegium.apps._licences import issue as issue_request
from collegium.apps.cli import ExitCode, app
from collegium.crypto import load_keys
from collegium.node import decode_data_registration, decode_experiment, decode_licence
from collegium.settlement import (
    ChainUnreachableError,
    CuratorShare,
    EmbeddedChain,
    Genesis,
    MoneySite,
    decode_revocation,
    read_licence,
)

EXPERIMENT = """
[task]
name = "hospitals"
rounds = 1
seed = 1
level = "unproved"
[data]
path = "elsewhere.csv"
site = "hospital"
label = "sick"
negative = "no"
[schema]
age = { kind = "numeric", lower = 0, upper = 100 }
sex = { kind = "category", values = ["f", "m"] }
[model]
kind = "logistic"
[rule]
learning_rate = 0.5
[committee]
seats = 16
"""
CSV = "age,sex,sick,hospital\n20,f,no,A\n30,m,yes,A\n40,f,,A\n50,f,yes,B\n"
COPIES = "copies across owners go undetected"

runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


def invoke(*arguments: object) -> Any:
    return runner.invoke(app, ["data", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner's folder, with one registration in `public`."""
    path = tmp_path_factory.mktemp("owner")
    (path / "a.csv").write_text(CSV)
    (path / "experiment.toml").write_text(EXPERIMENT)
    (path / "terms.txt").write_text("for research only\n")
    assert invoke("new-key", path / "keys").exit_code == ExitCode.GOOD
    first = register(path, "public", "--site", "A")
    assert first.exit_code == ExitCode.GOOD, first.output
    (path / "said.txt").write_text(first.stdout)
    return path


def register(path: Path, out: str, *more: object, file: str = "a.csv") -> Any:
    return invoke(
        *("register", path / file, "--experiment", path / "experiment.toml", "--key", path / "keys"),
        *("--terms", path / "terms.txt", "--out", path / out, "--register", path / "register", "--commitments", 3),
        *more,
    )


def verify(path: Path, *more: object) -> Any:
    return invoke("verify", path / "public" / "registration.bin", *more)


# new-key


def test_a_new_key_is_the_owners_alone_and_never_overwritten(folder: Path) -> None:
    address = load_keys(folder / "keys").account.address.hex()
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o600
    again = invoke("new-key", folder / "keys")
    assert again.exit_code == ExitCode.USER
    assert "never overwritten" in again.stderr
    other = invoke("new-key", folder / "other-keys", "--json")
    assert json.loads(other.stdout)["owner"] == load_keys(folder / "other-keys").account.address.hex() != address


# register


def test_an_owner_is_told_what_is_public_what_is_secret_and_what_nobody_guarantees(folder: Path) -> None:
    lines = (folder / "said.txt").read_text().splitlines()
    assert lines[0].startswith(f"collegium {collegium.__version__}, registration (")
    assert lines[1:3] == [
        "warning: 1 rows without a label in column 'sick' are left out",
        "2 rows of 3 features, scaled by the declared ranges",
    ]
    text = "\n".join(lines)
    assert "2 of 3 commitments are for rounds, each for one" in text
    assert f"keep secret:      {folder / 'register'}" in text
    assert COPIES in text
    registration = decode_data_registration((folder / "public" / "registration.bin").read_bytes())
    licence = decode_licence((folder / "public" / "licence.json").read_bytes())
    assert sorted(path.name for path in (folder / "public").iterdir()) == ["licence.json", "registration.bin"]
    for digest in (registration.data_root, licence.terms, licence.digest):
        assert digest.hex() in text
    assert licence.valid_until - licence.valid_from == 365 * 86_400


def test_a_repeated_file_is_refused_and_a_refresh_continues_it(folder: Path) -> None:
    again = register(folder, "again", "--site", "A")
    assert again.exit_code == ExitCode.USER
    assert again.stderr.startswith("error: a.csv is registered already")
    refreshed = register(folder, "again", "--site", "A", "--refresh", "--json")
    assert refreshed.exit_code == ExitCode.GOOD
    facts = json.loads(refreshed.stdout)
    assert (facts["number"], facts["rounds"], facts["commitments"]) == (2, 1, 3)
    old, new = (folder / name / "registration.bin" for name in ("public", "again"))
    assert facts["previous"] == decode_data_registration(old.read_bytes()).data_root.hex()
    linked = invoke("verify", new, "--previous", old)
    assert linked.exit_code == ExitCode.GOOD
    assert f"holds: the rows are those of the registration with data root {facts['previous']}" in linked.stdout
    assert "give --previous with that registration" in invoke("verify", new).stdout
    swapped = invoke("verify", old, "--previous", new)
    assert swapped.exit_code == ExitCode.FAILED
    assert "verification failed: a registration continues" in swapped.stderr


def test_repeated_rows_are_refused_by_their_numbers(folder: Path) -> None:
    (folder / "b.csv").write_text(CSV.splitlines()[0] + "\n60,f,no,A\n30,m,yes,A\n")
    before = register(folder, "b", file="b.csv")
    assert before.exit_code == ExitCode.USER
    assert before.stderr == ("error: b.csv: row 2 is row 2 of registration 1: registered before, expected new rows\n")
    (folder / "c.csv").write_text(CSV.splitlines()[0] + "\n60,f,no,A\n70,m,yes,A\n60,f,no,A\n")
    twice = register(folder, "b", file="c.csv")
    assert twice.exit_code == ExitCode.USER
    assert "c.csv: row 3 repeats row 1" in twice.stderr
    assert not any((folder / "b").iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--site", "Z"), "no row is of site 'Z'"),
        (("--days", 0), "--days is 0"),
        (("--commitments", 1), "1 commitments are asked for, expected 2 to 256"),
        (("--scaling", "none"), "expected a model state"),
        (("--key", "none"), "cannot be opened"),
        (("--terms", "none"), "expected a file"),
        (("--experiment", "none"), "expected an experiment file"),
    ],
)
def test_a_users_mistake_is_one_line(folder: Path, more: tuple[object, ...], message: str) -> None:
    result = register(folder, "mistake", *more)
    assert result.exit_code == ExitCode.USER
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not any((folder / "mistake").iterdir())


def test_a_hostile_file_is_one_line(folder: Path) -> None:
    (folder / "hostile.csv").write_bytes(b"age,sex,sick,hospital\n\x1b[2J,f,no,A\n")
    result = register(folder, "hostile", file="hostile.csv")
    assert result.exit_code == ExitCode.USER
    assert "\x1b" not in result.output
    assert "is not a number" in result.stderr


def test_another_owners_key_does_not_open_the_register(folder: Path) -> None:
    assert invoke("new-key", folder / "strange-keys").exit_code == ExitCode.GOOD
    result = register(folder, "strange", "--site", "B", "--key", folder / "strange-keys")
    assert result.exit_code == ExitCode.USER
    assert "is the register of 0x" in result.stderr


def test_a_register_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "open").mkdir(mode=0o755)
    result = register(folder, "out", "--site", "B", "--register", folder / "open")
    assert result.exit_code == ExitCode.USER
    assert "expected a folder of this user of mode 0700" in result.stderr


@pytest.mark.slow
def test_a_hospital_of_the_demonstration_data_registers(folder: Path, tmp_path: Path) -> None:
    demo = Path(str(importlib.resources.files("collegium.apps"))) / "demo"

    def hospital(name: str) -> Any:
        return invoke(
            *("register", demo / "heart_disease_uci.csv", "--experiment", demo / "demo.toml", "--site", name),
            *("--key", folder / "keys", "--terms", folder / "terms.txt", "--commitments", 3),
            *("--register", tmp_path / "register", "--out", tmp_path / name),
        )

    cleveland = hospital("Cleveland")
    assert cleveland.exit_code == ExitCode.GOOD
    assert "303 rows of 25 features" in cleveland.stdout
    hungary = hospital("Hungary")  # whose table holds one patient twice
    assert hungary.exit_code == ExitCode.USER
    assert "row 406 repeats row 405" in hungary.stderr
    published = tmp_path / "Cleveland"
    verified = invoke(
        *("verify", published / "registration.bin", "--licence", published / "licence.json"),
        *("--experiment", demo / "demo.toml"),
    )
    assert verified.exit_code == ExitCode.GOOD
    assert verified.stdout.splitlines()[-1] == "verified"


# verify


def test_a_stranger_is_told_what_holds_and_what_nothing_shows(folder: Path) -> None:
    licence = folder / "public" / "licence.json"
    result = verify(folder, "--licence", licence, "--experiment", folder / "experiment.toml")
    assert result.exit_code == ExitCode.GOOD
    lines = result.stdout.splitlines()
    owner = load_keys(folder / "keys").account.address.hex()
    assert lines[1].startswith(f"holds: account 0x{owner} signed it")
    assert "holds: all 3 commitments hold the same 2 rows of 3 features, in the same order" in lines
    assert "holds: features and labels are those of the experiment, under this scaling" in lines
    assert sum(line.startswith("not guaranteed: ") for line in lines) == 4
    assert COPIES in result.stdout
    assert lines[-1] == "verified"


def test_a_stranger_is_told_what_was_not_looked_at(folder: Path) -> None:
    result = verify(folder, "--json")
    assert result.exit_code == ExitCode.GOOD
    found = json.loads(result.stdout)
    assert (found["ok"], found["failure"], found["rows"], len(found["checks"])) == (True, None, 2, 3)
    assert found["unchecked"] == [
        "a licence request; give --licence",
        "what the features mean; give --experiment to compare schema, labels and scaling",
    ]
    assert any(COPIES in line for line in found["not_guaranteed"])


@pytest.mark.parametrize("offset", [0, 26, 46, 66, 98, 130, 140, 300, -70, -1])
def test_a_changed_registration_fails(folder: Path, tmp_path: Path, offset: int) -> None:
    data = bytearray((folder / "public" / "registration.bin").read_bytes())
    data[offset] ^= 1
    (tmp_path / "changed.bin").write_bytes(data)
    result = invoke("verify", tmp_path / "changed.bin", "--json")
    assert result.exit_code == ExitCode.FAILED
    assert json.loads(result.stdout)["failure"]
    assert "Traceback" not in result.output


@pytest.mark.parametrize("data", [b"\0", b"collegium/v1/registration\0", b"\xff" * 4096])
def test_bytes_that_are_no_registration_fail(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "hostile.bin").write_bytes(data)
    result = invoke("verify", tmp_path / "hostile.bin")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.splitlines()[-1].startswith("verification failed: a registration")


def test_a_changed_licence_request_fails(folder: Path, tmp_path: Path) -> None:
    text = (folder / "public" / "licence.json").read_text()
    (tmp_path / "licence.json").write_text(text.replace('"rows":2', '"rows":3'))
    result = verify(folder, "--licence", tmp_path / "licence.json")
    assert result.exit_code == ExitCode.FAILED
    assert "a licence request of owner" in result.stderr
    (tmp_path / "licence.json").write_text(text + "\n")
    assert "canonical" in verify(folder, "--licence", tmp_path / "licence.json").stderr


def test_another_meaning_of_the_features_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(EXPERIMENT.replace("upper = 100", "upper = 99"))
    result = verify(folder, "--experiment", tmp_path / "other.toml")
    assert result.exit_code == ExitCode.FAILED
    assert "verification failed: context" in result.stderr


@pytest.mark.parametrize("more", [("--licence", "none"), ("--previous", "none"), ("--scaling", "none")])
def test_a_path_that_is_not_there_is_the_users_mistake(folder: Path, more: tuple[str, str]) -> None:
    result = verify(folder, *more)
    assert result.exit_code == ExitCode.USER
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert invoke("verify", folder / "none").exit_code == ExitCode.USER


# issue and revoke


@pytest.fixture
def chain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedChain:
    """A chain in the place of every node, on which the owner has coin."""
    owner = load_keys(folder / "keys").account.address
    made = EmbeddedChain(Genesis(31337, 1_800_000_000, ((owner, 10**20),)))
    monkeypatch.setattr("collegium.settlement.JsonRpcChain", lambda url: made)
    return made


def issue(path: Path, *more: object, licence: Path | None = None, key: str = "keys") -> Any:
    where = path / "public" / "licence.json" if licence is None else licence
    words = ("--key", path / key, "--url", "http://127.0.0.1:1", "--jurisdiction", "DE", *more)
    return invoke("issue", where, *words)


def revoke(path: Path, number: int, contract: str, *more: object) -> Any:
    return invoke("revoke", number, "--key", path / "keys", "--url", "http://x", "--contract", contract, *more)


def test_a_licence_is_issued_said_once_and_taken_back(folder: Path, chain: EmbeddedChain) -> None:
    curator = "0x" + "c0" * 20
    first = issue(folder, "--royalty", 500, "--curator", f"{curator}=100", "--json")
    assert first.exit_code == ExitCode.GOOD, first.output
    facts = json.loads(first.stdout)
    site = MoneySite(bytes.fromhex(facts["contract"]), *(bytes(20),) * 3)
    found = read_licence(chain, site, facts["number"])
    asked = decode_licence((folder / "public" / "licence.json").read_bytes())
    assert (found.holder, found.data_root, found.terms) == (asked.owner, asked.data_root, asked.terms)
    assert (found.royalty, found.jurisdiction) == (500, "DE")
    assert found.curators == (CuratorShare(b"\xc0" * 20, 100),)
    again = issue(folder, "--contract", facts["contract"])
    assert again.exit_code == ExitCode.USER
    assert "licence 1 says the same" in again.stderr
    taken = revoke(folder, facts["number"], facts["contract"], "--json")
    assert taken.exit_code == ExitCode.GOOD, taken.output
    assert decode_revocation(chain.sent[-1].raw).sender == asked.owner
    assert json.loads(taken.stdout)["block"] == len(chain.sent)
    twice = revoke(folder, facts["number"], facts["contract"])
    assert twice.exit_code == ExitCode.USER
    assert "AlreadyRevoked" in twice.stderr
    afterwards = issue(folder, "--contract", facts["contract"], "--site", "A")
    assert afterwards.exit_code == ExitCode.GOOD
    told = afterwards.stdout[afterwards.stdout.index("[licences]") :]
    experiment = decode_experiment((EXPERIMENT + told).encode(), folder)
    assert experiment.licences is not None
    assert [(entry.site, entry.number) for entry in experiment.licences.sites] == [("A", 2)]
    assert "revoked:" in revoke(folder, 2, facts["contract"]).stdout


def test_a_licence_is_not_issued_by_another_out_of_its_time_or_changed(
    folder: Path, chain: EmbeddedChain, tmp_path: Path
) -> None:
    assert invoke("new-key", folder / "strangers-keys").exit_code == ExitCode.GOOD
    for result, why in (
        (issue(folder, key="strangers-keys"), "the request is of account"),
        (issue(folder, licence=tmp_path / "none.json"), "expected a licence.json"),
        (issue(folder, licence=folder / "terms.txt"), "licence request"),
    ):
        assert (result.exit_code, why in result.stderr) == (ExitCode.USER, True), result.stderr
    text = (folder / "public" / "licence.json").read_text()
    (tmp_path / "licence.json").write_text(text.replace('"rows":2', '"rows":3'))
    assert "a licence request of owner" in issue(folder, licence=tmp_path / "licence.json").stderr
    assert chain.sent == ()
    late = decode_licence((folder / "public" / "licence.json").read_bytes()).valid_until
    request = decode_licence((folder / "public" / "licence.json").read_bytes())
    grant = Grant(None, "DE", 0)
    for now in (late, request.valid_from - 1):
        with pytest.raises(LicenceNotInForceError):
            issue_request(chain, load_keys(folder / "keys").account, request, grant, now)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--jurisdiction", "de"), "two capital letters"),
        (("--jurisdiction", "ÄÖ"), "two capital letters"),
        (("--curator", "0x00=1"), "is no address"),
        (("--curator", "0x" + "c0" * 20), "basis points"),
        (("--curator", "0x" + "c0" * 20 + "=10001"), "basis points"),
        (("--contract", "0x12"), "is no address"),
    ],
)
def test_what_no_licence_can_say_is_the_users_mistake(
    folder: Path, chain: EmbeddedChain, more: tuple[str, str], why: str
) -> None:
    result = issue(folder, *more)
    assert (result.exit_code, why in result.stderr) == (ExitCode.USER, True), result.stderr
    assert chain.sent == ()


def test_a_node_that_does_not_answer_is_the_worlds_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(url: str) -> None:
        raise ChainUnreachableError("no answer")

    monkeypatch.setattr("collegium.settlement.JsonRpcChain", silent)
    assert issue(folder).exit_code == ExitCode.WORLD
    assert revoke(folder, 1, "0x" + "00" * 20).exit_code == ExitCode.WORLD


@pytest.mark.parametrize("command", [(), ("register",), ("verify",), ("new-key",), ("issue",), ("revoke",)])
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == ExitCode.GOOD
    assert "collegium data" in result.stdout
    assert "Example" in result.stdout
