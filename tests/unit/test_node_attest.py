"""Where a trainer's quotes come from: a program within bounds of time and size, or a refusal that says what it did."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from _experiment_stage import SMALLEST

from collegium.node import (
    AttestationSettings,
    ExperimentBytesError,
    ExperimentRefusedError,
    LearningTask,
    QuoteCommandError,
    QuoteDemand,
    ask_command,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    load_experiment,
)
from collegium.node import _attest as attest_module
from collegium.proofs import QuoteBinding, QuotePolicy, QuotePolicyError, SnpPolicy, SnpTcb, encode_policy

BINDING = QuoteBinding(
    task=b"t" * 32,
    round=3,
    trainer=b"a" * 20,
    terms=b"m" * 32,
    ciphertext=b"c" * 32,
    key_root=b"k" * 32,
    data_root=bytes(32),
    rule=b"r" * 32,
)
POLICY = QuotePolicy(snp=SnpPolicy(frozenset({b"m" * 48}), SnpTcb(3, 0, 22, 213)))
TEXT = (
    SMALLEST.replace('"unproved"', '"attested"')
    + """[attestation]
policy = "policy.json"
time = 1800000000
command = ["./quote", "-v", "-v"]
"""
)


# ------------------------------------------------------------------------------------------------ the command


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def ask(command: Sequence[str], folder: Path) -> bytes:
    return ask_command(command, folder)(BINDING)


def test_a_program_gets_the_report_data_and_its_base64_is_read(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    text = (
        "import base64, os, sys; line = sys.stdin.read(); assert os.path.exists('here'); "
        "sys.stdout.write(base64.encodebytes(line.encode() * 3).decode())"
    )
    printed = ask(program(text), tmp_path)
    assert printed == 3 * (BINDING.report_data.hex().encode() + b"\n")


def test_a_program_need_not_read_and_may_complain(tmp_path: Path) -> None:
    text = "import sys; sys.stdin.close(); sys.stderr.write('x' * 500_000); print('QUJD')"
    assert ask(program(text), tmp_path) == b"ABC"


def test_a_program_stands_in_the_experiments_folder_and_sees_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "quote"
    script.write_text('#!/bin/sh\nprintf %s "$COLLEGIUM_CHAIN_KEY-$OTHER" | base64\n')
    script.chmod(0o755)
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", "secret")
    monkeypatch.setenv("OTHER", "plain")
    assert ask(["./quote"], tmp_path) == b"-plain"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('no base64!')", r"printed 11 bytes that are not base64"),
        ("import sys; sys.exit('no device')", r"ended with code 1, expected 0; it said 'no device'"),
        ("import os; os.write(1, b'A' * 2_000_000)", r"printed more than 524288 bytes"),
    ],
    ids=["garbage", "failure", "flood"],
)
def test_a_program_that_prints_no_attestation_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(QuoteCommandError, match=reason) as refusal:
        ask(program(text), tmp_path)
    assert refusal.value.values["command"] == tuple(program(text))


@pytest.mark.parametrize(
    "text",
    [
        "import time; time.sleep(600)",
        "import os, time; os.close(1); os.close(2); time.sleep(600)",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
    ],
    ids=["silent", "closed", "child"],
)
def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(attest_module, "COMMAND_S_MAX", 0.5)
    with pytest.raises(QuoteCommandError, match=r"did not end within 0\.5 s"):
        ask(program(text), tmp_path)


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuoteCommandError, match=r"^\./quote cannot be started: No such file or directory$"):
        ask(["./quote"], tmp_path)


# ------------------------------------------------------------------------------------------------ the settings


def written(folder: Path, text: str = TEXT, policy: bytes | None = None) -> Path:
    (folder / "policy.json").write_bytes(encode_policy(POLICY) if policy is None else policy)
    (folder / "experiment.toml").write_text(text)
    return folder / "experiment.toml"


def problems(path: Path) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentRefusedError) as caught:
        load_experiment(path)
    return [(problem.where, problem.kind) for problem in caught.value.problems]


def test_the_canonical_bytes_hold_the_policy_and_the_time_and_no_command(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path))
    assert experiment.attestation == AttestationSettings(POLICY, 1_800_000_000)
    assert experiment.attestation.command == ("./quote", "-v", "-v")
    data = experiment_to_bytes(experiment)
    assert b"quote" not in data
    again = experiment_from_bytes(data)
    assert again == experiment
    assert again.attestation is not None
    assert (again.attestation.policy, again.attestation.command) == (POLICY, ())


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"time":1800000000', b'"time":1800000000.0'), (b'"time":1800000000', b'"command":["a"],"time":1800000000')],
)
def test_canonical_bytes_of_attestation_have_one_form(tmp_path: Path, old: bytes, new: bytes) -> None:
    data = experiment_to_bytes(load_experiment(written(tmp_path)))
    assert data.count(old) == 1
    with pytest.raises((ExperimentBytesError, ExperimentRefusedError)):
        experiment_from_bytes(data.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        ('level = "attested"', 'level = "proved"', "[attestation]", "conflict"),
        ('policy = "policy.json"\n', "", "attestation.policy", "missing"),
        ('"policy.json"', '"another.json"', "attestation.policy", "range"),
        ('"policy.json"', '"."', "attestation.policy", "range"),
        ('"policy.json"', "{}", "attestation.policy", "type"),
        ("time = 1800000000\n", "", "attestation.time", "missing"),
        ("1800000000", "-1", "attestation.time", "range"),
        ("1800000000", "253402300800", "attestation.time", "range"),
        ('["./quote", "-v", "-v"]', '"./quote -v"', "attestation.command", "type"),
        ('["./quote", "-v", "-v"]', "[]", "attestation.command", "range"),
        ('["./quote", "-v", "-v"]', '["./quote", ""]', "attestation.command", "range"),
        ('["./quote", "-v", "-v"]', '["./quote", 3]', "attestation.command", "type"),
        ("time = 1800000000", "time = 1800000000\nnonce = 1", "attestation.nonce", "unknown"),
    ],
)
def test_smallest_change_of_the_section_is_refused(tmp_path: Path, old: str, new: str, where: str, kind: str) -> None:
    assert TEXT.count(old) == 1
    assert problems(written(tmp_path, TEXT.replace(old, new))) == [(where, kind)]


@pytest.mark.parametrize(
    "policy",
    [b"", b"\xff", encode_policy(POLICY) + b"\n", b" " * (1 << 19), b'{"gpu":null,"intel":null,"snp":null}'],
    ids=["empty", "encoding", "newline", "size", "accepts nothing"],
)
def test_a_file_that_holds_no_policy_is_refused(tmp_path: Path, policy: bytes) -> None:
    assert problems(written(tmp_path, policy=policy)) == [("attestation.policy", "range")]


def test_the_section_alone_is_no_level(tmp_path: Path) -> None:
    text = TEXT.split("[attestation]", maxsplit=1)[0]
    with pytest.raises(ExperimentRefusedError, match=r"^\[attestation\]: is missing: task\.level is \"attested\""):
        decode_experiment(text.encode(), tmp_path)


@pytest.mark.parametrize(("level", "given"), [("attested", False), ("proved", True)])
def test_a_task_has_a_policy_if_and_only_if_it_is_attested(level: str, given: bool) -> None:
    quotes = QuoteDemand(POLICY, 0) if given else None
    with pytest.raises(QuotePolicyError, match=f"at level {level}"):
        LearningTask(bytes(32), bytes(32), level, 1, None, None, None, 1, 4, 4, 0, quotes=quotes)  # type: ignore[arg-type]
