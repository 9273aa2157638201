"""Runs in which every report carries a hardware quote: what they say, and that no other quote gets past them."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from _run_stage import NO_COURTS, ONE_ROUND, ROUNDS, TRAINERS, Copy, PlayedRun, check, play, write_experiment

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from _proofs_quotes_hardware import DAY_S, ROUND_TIME, Amd
from typer.testing import CliRunner

from collegium.apps.cli import app
from collegium.consensus import FailingProof, proof_key, verify_proof_evidence
from collegium.errors import CollegiumError
from collegium.lineage import Lineage
from collegium.node import Attest, LearningTask, NoQuoteSourceError, QuoteCommandError, QuoteDemand, SharedWork
from collegium.node import _attest as attest_module
from collegium.node import _play as playing
from collegium.node import _run as run_module
from collegium.node._run import accusations
from collegium.proofs import (
    Attestation,
    MalformedQuoteError,
    QuoteBinding,
    QuoteBindingError,
    QuoteError,
    QuoteMeasurementError,
    QuotePolicy,
    QuoteTimeError,
    SnpPolicy,
    SnpTcb,
    decode_attestation,
    encode_attestation,
    encode_policy,
)

pytestmark = pytest.mark.slow

AMD = Amd()
OTHER_GUEST = Amd(measurement=b"\x22" * 48)
POLICY = QuotePolicy(
    snp=SnpPolicy(frozenset({AMD.measurement}), SnpTcb(*AMD.versions), roots=frozenset({AMD.root.digest}))
)
OTHER_POLICY = QuotePolicy(snp=replace(POLICY.snp, measurements=frozenset({OTHER_GUEST.measurement})))  # type: ignore[type-var]
THREE_SUFFICE = ("[schema]", "[trainers]\nminimum = 3\n[schema]")


def quote(hardware: Amd, binding: QuoteBinding) -> bytes:
    return encode_attestation(Attestation((hardware.quote(binding.report_data),)))


def honest(binding: QuoteBinding) -> bytes:
    return quote(AMD, binding)


def experiment(folder: Path, *changes: tuple[str, str], command: str = "") -> Path:
    """Write the experiment at level "attested", and its policy beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_bytes(encode_policy(POLICY))
    section = f'[attestation]\npolicy = "policy.json"\ntime = {ROUND_TIME}\n{command}\n[committee]'
    level = ('level = "unproved"', 'level = "attested"')
    return write_experiment(folder, level, NO_COURTS, ("[committee]", section), *changes)


@dataclass
class AttestedRun:
    """A run, and everything its quotes were asked to bind."""

    run: PlayedRun
    bindings: list[QuoteBinding]


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> AttestedRun:
    """The run of the stage's experiment at level "attested". Nobody may change its folder."""
    folder, bindings = tmp_path_factory.mktemp("attested"), list[QuoteBinding]()

    def attest(binding: QuoteBinding) -> bytes:
        bindings.append(binding)
        return honest(binding)

    return AttestedRun(play(experiment(folder), folder / "run", attest=attest), bindings)


@pytest.fixture
def damaged(attested: AttestedRun, tmp_path: Path) -> Copy:
    """A copy of the run."""
    return Copy.of(attested.run.path, tmp_path / "copy")


def column(run: PlayedRun, key: str) -> list[Any]:
    rounds: Any = run.summary["rounds"]
    return [entry[key] for entry in rounds]


# ------------------------------------------------------------------------------------------------ honest


def test_an_attested_run_gives_the_models_of_an_unproved_one_bit_for_bit(
    played: PlayedRun, attested: AttestedRun
) -> None:
    run = attested.run
    assert column(run, "model") == column(played, "model")
    assert run.summary["level"] == "attested"
    assert column(run, "admitted") == [TRAINERS] * (ROUNDS + 1)
    assert all(size > 0 for size in column(run, "proof_bytes"))
    assert all(took > 0 for name in ("prove_ms", "verify_ms") for took in column(run, name))


def test_every_report_of_every_round_is_quoted_over_what_it_says(attested: AttestedRun) -> None:
    federation = attested.run.federation
    bound = {(each.round, each.trainer) for each in attested.bindings}
    assert bound == {(n, t.account.address) for n in range(ROUNDS + 1) for t in federation.trainers}
    assert {each.task for each in attested.bindings} == {federation.genesis.task}
    assert {each.rule for each in attested.bindings} == {federation.task.rule_digest}
    assert {each.data_root for each in attested.bindings} == {bytes(32)}, "no rows are registered"
    for name in ("ciphertext", "key_root"):
        assert len({getattr(each, name) for each in attested.bindings}) == len(attested.bindings)
    index = json.loads((attested.run.path / "objects.json").read_bytes())
    names = [b64decode(entry).hex() for entry in index["proofs"]]
    stored = [(attested.run.path / "store" / name[:2] / name).read_bytes() for name in names]
    said = {decode_attestation(data).quotes[0].body[0x50:0x90] for data in stored}
    assert said == {each.report_data for each in attested.bindings}
    assert index["registrations"] == []


def test_verify_says_under_which_policy_and_at_what_time_and_what_rests_on_whom(attested: AttestedRun) -> None:
    verdict = check(attested.run.path, attested.run.anchor)
    assert verdict.ok, verdict.failure
    count, policy = TRAINERS * (ROUNDS + 1), POLICY.digest.hex()[:16]
    expected = f"proofs: {count} attestations verified under policy {policy} at Unix time {ROUND_TIME}"
    assert expected in verdict.checks
    assert any("who listed its measurements" in line for line in verdict.unchecked)


def test_header_lineage_summary_and_page_carry_level_policy_and_time(attested: AttestedRun) -> None:
    run = attested.run
    assert {header.level for header in next(iter(run.federation.nodes.values())).headers} == {"attested"}
    with Lineage(run.path / "lineage.db", read_only=True) as lineage:
        records = lineage.records()
    levels = [json.loads(record.attributes).get("level") for record in records if record.kind in ("task", "header")]
    assert levels == ["attested"] * (ROUNDS + 2)
    notes: Any = run.summary["notes"]
    page = (run.path / "report.html").read_text()
    for text in ("Level attested", POLICY.digest.hex(), str(ROUND_TIME)):
        assert any(text in note for note in notes)
        assert text in page


# ------------------------------------------------------------------------------------------------ changed afterwards


@pytest.mark.parametrize("place", [0, 700], ids=["first byte", "signature"])
def test_a_changed_byte_of_an_attestation_is_found(damaged: Copy, place: int) -> None:
    file = damaged.object("proofs")
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    name = str(file.relative_to(damaged.path))
    with damaged.changed(name, bytes(data), listed=False):
        assert f"{file.name} hashes to" in str(check(damaged.path).failure)
    with damaged.changed(name, bytes(data), listed=True):
        failure = str(check(damaged.path).failure)
        assert failure.startswith("round ")
        assert file.name in failure


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b64encode(AMD.measurement), b64encode(OTHER_GUEST.measurement)),
        (str(ROUND_TIME).encode(), str(ROUND_TIME + 1).encode()),
    ],
    ids=["policy", "time"],
)
def test_a_policy_or_time_changed_in_the_genesis_is_found(
    attested: AttestedRun, damaged: Copy, old: bytes, new: bytes
) -> None:
    def change(document: Any) -> None:
        data = b64decode(document["experiment"])
        assert data.count(old) == 1
        document["experiment"] = b64encode(data.replace(old, new)).decode()

    damaged.edit("genesis.json", change)
    verdict = damaged.relist()
    assert not verdict.ok
    assert str(verdict.failure).startswith("genesis.json: ")
    assert "this run's anchor is" in str(check(damaged.path, attested.run.anchor).failure)


def test_a_run_is_verified_under_its_own_policy_whatever_became_of_the_file(attested: AttestedRun) -> None:
    policy = attested.run.path.parent / "policy.json"
    before = policy.read_bytes()
    policy.write_bytes(encode_policy(OTHER_POLICY))
    try:
        verdict = check(attested.run.path, attested.run.anchor)
    finally:
        policy.write_bytes(before)
    assert verdict.ok, verdict.failure


@pytest.mark.parametrize(
    ("demand", "error"),
    [
        (QuoteDemand(OTHER_POLICY, ROUND_TIME), QuoteMeasurementError),
        (QuoteDemand(POLICY, ROUND_TIME + 200 * DAY_S), QuoteTimeError),
    ],
    ids=["policy", "time"],
)
def test_the_same_attestation_does_not_hold_under_another_policy_or_time(
    attested: AttestedRun, demand: QuoteDemand, error: type[QuoteError]
) -> None:
    binding = attested.bindings[-1]
    QuoteDemand(POLICY, ROUND_TIME).check(honest(binding), binding)
    with pytest.raises(error):
        demand.check(honest(binding), binding)


# ------------------------------------------------------------------------------------------------ hostile


Liar = Callable[[QuoteBinding], bytes]


def spoiling(lie: Liar) -> Callable[..., Any]:
    """Return `LearningTask.attest`, but that the first trainer attests what it likes in round 1, unchecked."""
    truthful, calls = LearningTask.attest, iter(range(1000))

    def attest(self: LearningTask, terms: Any, draft: Any, source: Attest | None) -> Any:
        if next(calls) != TRAINERS:
            return truthful(self, terms, draft, source)
        caught: list[QuoteBinding] = []

        def watched(binding: QuoteBinding) -> bytes:
            caught.append(binding)
            return honest(binding)

        truthful(self, terms, draft, watched)
        return lie(caught[0]), None

    return attest


LIES = [
    pytest.param(lambda b: quote(AMD, replace(b, trainer=b"\1" * 20)), QuoteBindingError, id="another trainer's"),
    pytest.param(lambda b: quote(AMD, replace(b, round=b.round + 1)), QuoteBindingError, id="another round's"),
    pytest.param(lambda b: quote(OTHER_GUEST, b), QuoteMeasurementError, id="another program's"),
    pytest.param(lambda _: b"quote", MalformedQuoteError, id="none"),
]
TOLD = LIES if os.environ.get("COLLEGIUM_FULL") == "1" else LIES[:1]  # what each is refused for is a quote's own test


@pytest.mark.parametrize(("lie", "error"), TOLD)
def test_who_sends_another_quote_is_left_out_and_convicted_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Liar, error: type[QuoteError]
) -> None:
    monkeypatch.setattr(LearningTask, "attest", spoiling(lie))
    rounds: list[Any] = []
    play_round = run_module.play_round

    def watched(*arguments: Any) -> Any:
        state = next(iter(arguments[1].values())).state.round
        rounds.append((state.terms, state.model, play_round(*arguments)))
        return rounds[-1][2]

    monkeypatch.setattr(run_module, "play_round", watched)
    run = play(experiment(tmp_path, THREE_SUFFICE, ONE_ROUND), tmp_path / "run", attest=honest)
    assert column(run, "admitted") == [TRAINERS, TRAINERS - 1]
    assert column(run, "outcome") == ["opened"] * 2
    terms, model, played = rounds[1]
    found = [item.evidence for item in played.evidence]
    assert {type(item) for item in found} == {FailingProof}
    federation, held = run.federation, found[0].held
    liar = federation.trainers[0]
    with pytest.raises(error) as refusal:
        federation.task.verify_proof(terms, model, held.report, held.ciphertext, held.proof, b"")
    assert type(refusal.value) is error
    convicted = verify_proof_evidence(
        SharedWork(), federation.task, federation.genesis.epoch_set, terms, model, found[0]
    )
    assert convicted == liar.account.address
    assert accusations(federation.genesis, played.evidence) == [
        f"the proof of {liar.rows.name} does not verify; its report is left out"
    ]
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure


def test_a_run_whose_validators_all_vouch_for_a_false_quote_does_not_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(work: SharedWork, task: Any, terms: Any, model: Any, reports: Any, workers: Any) -> list[float]:
        for held in reports:
            work.put(proof_key(terms, held.report), None, None, 1.0)
        return [1.0]

    monkeypatch.setattr(LearningTask, "attest", spoiling(lambda b: quote(OTHER_GUEST, b)))
    monkeypatch.setattr(playing, "verify_ahead", believe)
    run = play(experiment(tmp_path, ONE_ROUND), tmp_path / "run", attest=honest)
    assert column(run, "outcome") == ["opened"] * 2, "the update itself was honest"
    verdict = check(run.path)
    assert not verdict.ok
    assert str(verdict.failure).startswith("round 1: the proof of report ")
    assert "measurement" in str(verdict.failure)


@pytest.mark.parametrize(("lie", "error"), TOLD)
def test_an_honest_trainer_sends_no_quote_that_would_convict_it(
    tmp_path: Path, lie: Liar, error: type[QuoteError]
) -> None:
    with pytest.raises(error) as refusal:
        play(experiment(tmp_path, ONE_ROUND), tmp_path / "run", attest=lie)
    assert type(refusal.value) is error


# ------------------------------------------------------------------------------------------------ the command

PROGRAM = """
import base64, hashlib, sys
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

whole = bytearray(open("template.bin", "rb").read())
body = memoryview(whole)[7 : 7 + 1184]
body[0x50:0x90] = bytes.fromhex(sys.stdin.read().strip())
key = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"vcek").digest()[:31]), ec.SECP384R1())
numbers = utils.decode_dss_signature(key.sign(bytes(body[:0x2A0]), ec.ECDSA(SHA384())))
body[0x2A0:0x330] = b"".join(number.to_bytes(72, "little") for number in numbers)
sys.stdout.write(base64.encodebytes(whole).decode())
"""


def commanded(folder: Path, program: str) -> Path:
    """Write an experiment whose quotes come from a Python program beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "quote.py").write_text(program)
    (folder / "template.bin").write_bytes(encode_attestation(Attestation((AMD.quote(bytes(64)),))))
    return experiment(folder, ONE_ROUND, command=f'command = ["{sys.executable}", "quote.py"]')


def test_the_command_line_gets_quotes_from_the_experiments_command(tmp_path: Path) -> None:
    path, out = commanded(tmp_path / "lab", PROGRAM), tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["level"], summary["verified"]) == ("attested", True)
    assert f"judged at Unix time {ROUND_TIME}" in result.stderr
    assert b"quote.py" not in b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("program", "error", "reason"),
    [
        ("print('no quote today!')", QuoteCommandError, "are not base64"),
        ("print('QUJD')", MalformedQuoteError, "version"),
        ("import time; time.sleep(600)", QuoteCommandError, "did not end within 2 s"),
        ("raise SystemExit(3)", QuoteCommandError, "ended with code 3"),
        (PROGRAM.replace("sys.stdin.read().strip()", "'00' * 64"), QuoteBindingError, "this report needs"),
    ],
    ids=["garbage", "no attestation", "hangs", "fails", "another report's"],
)
def test_a_command_that_gives_no_good_quote_ends_the_run_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, error: type[CollegiumError], reason: str
) -> None:
    monkeypatch.setattr(attest_module, "COMMAND_S_MAX", 2.0 if "sleep" in program else 60.0)
    with pytest.raises(error, match=reason) as refusal:
        play(commanded(tmp_path, program), tmp_path / "run")
    assert type(refusal.value) is error


def test_without_a_command_or_a_callable_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(NoQuoteSourceError, match=r"needs attestation\.command"):
        play(experiment(tmp_path), tmp_path / "run")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "experiment.toml"), "--out", str(tmp_path / "again")])
    assert result.exit_code == 2
    assert "attestation.command" in result.output
    assert not any((tmp_path / "again").iterdir())
