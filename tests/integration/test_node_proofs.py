"""Runs in which every report carries a proof: what they show, and that nobody gets anything else past them."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _run_stage import (
    CLINICS,
    NO_COURTS,
    ONE_ROUND,
    PROVED,
    ROUNDS,
    TRAINERS,
    Copy,
    PlayedRun,
    check,
    play,
    write_experiment,
)

from collegium.consensus import (
    ContinuationError,
    FailingProof,
    Registered,
    check_registration,
    proof_key,
    verify_proof_evidence,
)
from collegium.consensus import _round_rules as rules_module
from collegium.crypto import os_random
from collegium.lineage import Lineage
from collegium.node import LearningTask, SharedWork, TrainerJournal, Workers
from collegium.node import _play as playing
from collegium.node import _run as run_module
from collegium.node import _task as task_module
from collegium.node import _verify as verify_module
from collegium.node._proofs import NO_PREVIOUS, MalformedRegistrationError, PackLengthError, RegistrationRecord
from collegium.node._run import accusations
from collegium.proofs import ProofRejectedError, UnprovableError

pytestmark = pytest.mark.slow

BOUNDED = ('level = "unproved"', 'level = "bounded"')
TWO_ROUNDS, FIVE_ROUNDS = ("rounds = 3", "rounds = 2"), ("rounds = 3", "rounds = 5")
THREE_SUFFICE = ("[committee]", "[trainers]\nminimum = 3\n[committee]")


def column(run: PlayedRun, key: str) -> list[Any]:
    rounds: Any = run.summary["rounds"]
    return [entry[key] for entry in rounds]


@pytest.fixture
def damaged(proved: PlayedRun, tmp_path: Path) -> Copy:
    """A copy of the proved run."""
    return Copy.of(proved.path, tmp_path / "copy")


# ------------------------------------------------------------------------------------------------ honest


def test_a_proved_run_gives_the_models_of_an_unproved_one_bit_for_bit(played: PlayedRun, proved: PlayedRun) -> None:
    assert column(proved, "model") == column(played, "model")
    assert (played.summary["level"], proved.summary["level"]) == ("unproved", "proved")
    assert column(played, "proof_bytes") == [0] * (ROUNDS + 1)
    assert all(size > 0 for size in column(proved, "proof_bytes"))
    assert column(played, "prove_ms") == column(played, "verify_ms") == [None] * (ROUNDS + 1)
    assert all(took > 0 for name in ("prove_ms", "verify_ms") for took in column(proved, name))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param((PROVED, ('kind = "logistic"', 'kind = "mlp"\nhidden = [3]')), id="mlp"),
        pytest.param(
            (PROVED, ("learning_rate = 1.0", "learning_rate = 1.0\nlocal_steps = 2\nbatch_rows = 9")), id="steps"
        ),
        pytest.param((BOUNDED, ("learning_rate = 1.0", "learning_rate = 1.0\nlocal_steps = 3")), id="bounded"),
        *(
            [pytest.param((PROVED, ("learning_rate = 1.0", "learning_rate = 1.0\nbatch_rows = 8")), id="one batch")]
            if os.environ.get("COLLEGIUM_FULL") == "1"
            else []
        ),
    ],
)
def test_other_models_batches_and_levels_are_proved_and_verified(
    tmp_path: Path, changes: tuple[tuple[str, str], ...]
) -> None:
    run = play(write_experiment(tmp_path, *changes, NO_COURTS, ONE_ROUND), tmp_path / "run")
    assert column(run, "outcome") == ["opened"] * 2
    assert column(run, "admitted") == [TRAINERS] * 2
    verdict = check(run.path, str(run.summary["anchor"]))
    assert verdict.ok, verdict.failure


def test_verify_says_which_proofs_it_has_verified_and_what_they_do_not_show(proved: PlayedRun) -> None:
    verdict = check(proved.path, str(proved.summary["anchor"]))
    assert verdict.ok, verdict.failure
    count = TRAINERS * (ROUNDS + 1)
    assert f"proofs: {count} of level proved verified, and {TRAINERS} registrations of data" in verdict.checks
    assert any(line.startswith("data: that the registered rows are real") for line in verdict.unchecked)


def test_every_encoding_was_written_down_and_used_once(proved: PlayedRun) -> None:
    for trainer in proved.federation.trainers:
        journal = trainer.journal
        assert sorted(number for _, number in journal.used) == list(range(1, ROUNDS + 1))
        assert journal.pack is not None
        assert len(set(journal.pack.seeds)) == ROUNDS + 1, "and a spare one"
        assert not journal.continued


def test_no_seed_of_an_encoding_is_in_the_runs_files(proved: PlayedRun) -> None:
    seeds = [seed for trainer in proved.federation.trainers for seed in trainer.journal.pack.seeds]  # type: ignore[union-attr]
    files = [file.read_bytes() for file in proved.path.rglob("*") if file.is_file()]
    assert not any(seed in data for seed in seeds for data in files)


def test_the_lineage_says_the_level_and_leads_from_a_model_to_registered_rows(proved: PlayedRun) -> None:
    with Lineage(proved.path / "lineage.db", read_only=True) as lineage:
        records = lineage.records()
        levels = [json.loads(record.attributes).get("level") for record in records if record.kind in ("task", "header")]
        assert levels == ["proved"] * (ROUNDS + 2)
        registered = [record for record in records if record.kind == "dataset" and record.parents[0].role == "dataset"]
        assert len(registered) == TRAINERS
        for record in registered:
            assert json.loads(record.attributes) == {"first_round": 1, "last_round": ROUNDS}
            assert [model.round_number for model in lineage.erasure(record.digest)] == list(range(1, ROUNDS + 1))
        (whole,) = {model.digest for model in lineage.models() if model.round_number == ROUNDS}
        influence = lineage.influence(whole)
        assert {name.datasets for name in influence} == {(clinic,) for clinic in CLINICS}
        assert {name.rounds for name in influence} == {ROUNDS}, "the round of statistics is left out"
        assert len(lineage.ancestors(whole)) == TRAINERS * (ROUNDS + 1)


# ------------------------------------------------------------------------------------------------ damaged


@pytest.mark.parametrize("kind", ["proofs", "registrations"])
@pytest.mark.parametrize("place", [0, -1], ids=["first byte", "last byte"])
def test_a_changed_byte_of_a_proof_is_found(damaged: Copy, kind: str, place: int) -> None:
    file = damaged.object(kind)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    with damaged.changed(str(file.relative_to(damaged.path)), bytes(data), listed=False):
        verdict = check(damaged.path)
        assert not verdict.ok
        assert f"{file.name} hashes to" in str(verdict.failure)
    with damaged.changed(str(file.relative_to(damaged.path)), bytes(data), listed=True):
        verdict = check(damaged.path)
        assert not verdict.ok
        assert str(verdict.failure).startswith("round "), verdict.failure
        assert file.name in str(verdict.failure)


@pytest.mark.parametrize("kind", ["proofs", "registrations"])
def test_a_proof_that_is_missing_is_found(damaged: Copy, kind: str) -> None:
    file = damaged.object(kind)
    damaged.remove(file)
    verdict = damaged.relist()
    assert not verdict.ok
    assert file.name in str(verdict.failure)


@pytest.mark.parametrize("kind", ["proofs", "registrations"])
def test_an_index_without_a_proof_or_with_another_is_found(damaged: Copy, kind: str) -> None:
    before = (damaged.path / "objects.json").read_bytes()
    for change in (lambda entries: entries.pop(), lambda entries: entries.insert(0, "A" * 43 + "=")):
        damaged.edit("objects.json", lambda document, change=change: change(document[kind]))  # type: ignore[misc]
        verdict = damaged.relist()
        assert not verdict.ok
        assert "objects.json is not the list of the" in str(verdict.failure)
        (damaged.path / "objects.json").write_bytes(before)


# ------------------------------------------------------------------------------------------------ hostile


def spoiling(place: int) -> Callable[..., Any]:
    """Return `LearningTask.prove`, but that the first proof of round 1 has one byte changed."""
    honest, calls = LearningTask.prove, iter(range(1000))

    def prove(self: LearningTask, *arguments: Any) -> Any:
        proof, claim = honest(self, *arguments)
        if next(calls) != TRAINERS:
            return proof, claim
        return proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :], claim

    return prove


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other process see the code as it is."""
    for module in (run_module, verify_module):
        monkeypatch.setattr(module, "Workers", lambda: Workers(1))


def test_a_trainer_whose_proof_fails_is_left_out_and_convicted_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    monkeypatch.setattr(LearningTask, "prove", spoiling(5000))
    rounds: list[Any] = []
    play_round = run_module.play_round

    def watched(*arguments: Any) -> Any:
        state = next(iter(arguments[1].values())).state.round
        rounds.append((state.terms, state.model, play_round(*arguments)))
        return rounds[-1][2]

    monkeypatch.setattr(run_module, "play_round", watched)
    run = play(write_experiment(tmp_path, PROVED, THREE_SUFFICE, NO_COURTS, TWO_ROUNDS), tmp_path / "run")
    assert column(run, "admitted") == [TRAINERS, TRAINERS - 1, TRAINERS]
    assert column(run, "outcome") == ["opened"] * 3
    terms, model, played = rounds[1]
    found = [item.evidence for item in played.evidence]
    assert found
    assert {type(item) for item in found} == {FailingProof}
    federation = run.federation
    epoch_set, work = federation.genesis.epoch_set, SharedWork()
    convicted = verify_proof_evidence(work, federation.task, epoch_set, terms, model, found[0])
    assert convicted == federation.trainers[0].account.address
    assert accusations(federation.genesis, played.evidence) == [
        f"the proof of {federation.trainers[0].rows.name} does not verify; its report is left out"
    ]
    verdict = check(run.path, str(run.summary["anchor"]))
    assert verdict.ok, verdict.failure


def two_rounds_a_pack(patch: pytest.MonkeyPatch) -> None:
    """Let a pack be for two rounds, in this process, which does all work itself."""
    patch.setattr(task_module, "PACK_ROUNDS", 2)
    in_this_process(patch)


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds a pack, for one test."""
    two_rounds_a_pack(monkeypatch)


@pytest.fixture(scope="module")
def renewed_run(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """A proved run of five rounds, for which every trainer registers three times."""
    folder = tmp_path_factory.mktemp("renewed")
    with pytest.MonkeyPatch.context() as patch:
        two_rounds_a_pack(patch)
        return play(write_experiment(folder, PROVED, NO_COURTS, FIVE_ROUNDS), folder / "run")


@pytest.fixture
def renewed(small_packs: None, renewed_run: PlayedRun) -> PlayedRun:
    """That run, in a world in which its packs are of the right length."""
    return renewed_run


def records_of(run: PlayedRun) -> dict[int, list[bytes]]:
    """Return a run's registrations by their first round."""
    found: dict[int, list[bytes]] = {}
    for entry in json.loads((run.path / "objects.json").read_bytes())["registrations"]:
        name = b64decode(entry).hex()
        data = (run.path / "store" / name[:2] / name).read_bytes()
        found.setdefault(RegistrationRecord.from_bytes(data).first_round, []).append(data)
    return found


def test_a_trainer_whose_encodings_are_used_up_registers_the_same_rows_anew(renewed: PlayedRun) -> None:
    assert column(renewed, "admitted") == [TRAINERS] * 6
    found = records_of(renewed)
    assert {first: len(records) for first, records in found.items()} == {1: TRAINERS, 3: TRAINERS, 5: TRAINERS}
    for first in (1, 3):
        earlier = {sha256(data).digest(): RegistrationRecord.from_bytes(data) for data in found[first]}
        for data in found[first + 2]:
            record = RegistrationRecord.from_bytes(data)
            assert record.roots[0] == earlier.pop(record.previous).roots[-1]
        assert not earlier
    node = next(iter(renewed.federation.nodes.values()))
    assert {(e.first_round, e.last_round) for e in node.state.round.registered.values()} == {(5, 5)}
    for trainer in renewed.federation.trainers:
        assert sorted(number for _, number in trainer.journal.used) == [1, 2, 3, 4, 5]
        assert len(trainer.journal.continued) == 2
    verdict = check(renewed.path, str(renewed.summary["anchor"]))
    assert verdict.ok, verdict.failure


def test_a_later_pack_must_be_of_its_length_and_continue_the_one_before(renewed: PlayedRun) -> None:
    task, found = renewed.federation.task, records_of(renewed)
    data = found[3][0]
    record = RegistrationRecord.from_bytes(data)
    before = next(each for each in found[1] if sha256(each).digest() == record.previous)
    trainer = bytes(20)
    present = Registered(trainer, record.previous, 1, 2, task.registration_scope(before).spare)

    def refer(changed: RegistrationRecord, number: int = 3) -> None:
        data = changed.to_bytes()
        report = SimpleNamespace(round=number, trainer=trainer, registration=sha256(data).digest())
        check_registration(task, {trainer: present}, report, data)  # type: ignore[arg-type]

    refer(record)
    refer(record, 4)
    fresh, roots = b"\1" * 32, record.roots
    wrong: list[tuple[RegistrationRecord, int, type[Exception], str]] = [
        (replace(record, roots=(fresh, *roots[1:])), 3, ContinuationError, "another commitment than the spare one of"),
        (replace(record, rows=record.rows - 1), 3, ContinuationError, "another commitment than the spare one of"),
        (replace(record, previous=fresh), 3, ContinuationError, f"continues registration {fresh.hex()}, closes name"),
        (replace(record, previous=NO_PREVIOUS, roots=roots[1:]), 3, ContinuationError, "continues registration none"),
        (replace(record, first_round=4), 4, ContinuationError, "from round 4 on, its registration before it ends with"),
        (replace(record, roots=roots[:-1]), 3, PackLengthError, "for 1 rounds from round 3 on, expected 2"),
        (replace(record, roots=(*roots, fresh)), 3, PackLengthError, "for 3 rounds from round 3 on, expected 2"),
        (replace(record, roots=roots[:1] + roots[-1:]), 3, MalformedRegistrationError, "expected roots for 1 to 64"),
        (replace(record, first_round=5), 5, PackLengthError, "for 2 rounds from round 5 on, expected 1"),
    ]
    for changed, number, error, match in wrong:
        with pytest.raises(error, match=match):
            refer(changed, number)


def test_a_later_pack_of_other_rows_cannot_be_made_or_proved(renewed: PlayedRun) -> None:
    task, trainer = renewed.federation.task, renewed.federation.trainers[0]
    node = next(iter(renewed.federation.nodes.values()))
    pack, account, model = trainer.journal.pack, trainer.account.address, node.state.round.model
    assert pack is not None
    rows = trainer.rows.rows
    swapped = rows.select([*range(1, len(rows)), 0])
    with pytest.raises(UnprovableError, match="are not those that it registered before"):
        task.register(5, model, account, swapped, pack, os_random)
    task.verify_registration(account, pack.data)
    other = task.register(5, model, account, swapped, None, os_random).record
    mixed = replace(pack.record, roots=(pack.record.roots[0], *other.roots))
    for proof in (pack.record.proof, other.proof):
        with pytest.raises(ProofRejectedError):
            task.verify_registration(account, replace(mixed, proof=proof).to_bytes())


def no_continuation(patch: pytest.MonkeyPatch) -> None:
    """Let trainers begin every pack afresh."""
    patch.setattr(TrainerJournal, "use_spare", lambda *_: None)


def one_round_a_pack(patch: pytest.MonkeyPatch) -> None:
    """Let trainers register for each round when they know its beacon."""
    patch.setattr(LearningTask, "pack_rounds", lambda *_: 1)


@pytest.mark.parametrize(
    ("trick", "failure"),
    [
        (no_continuation, r"round 3: trainer [0-9a-f]* continues registration none, closes name [0-9a-f]{64}"),
        (one_round_a_pack, "round 1: a registration has roots for 1 rounds from round 1 on, expected 2"),
    ],
    ids=["begun afresh", "a pack of one root"],
)
def test_a_run_whose_validators_all_admit_another_pack_does_not_verify(
    tmp_path: Path, small_packs: None, trick: Callable[[pytest.MonkeyPatch], None], failure: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        trick(patch)
        patch.setattr(rules_module, "check_registration", lambda *_: None)
        run = play(write_experiment(tmp_path, PROVED, NO_COURTS), tmp_path / "run")
    assert column(run, "outcome") == ["opened"] * (ROUNDS + 1)
    verdict = check(run.path)
    assert not verdict.ok
    assert re.match(failure, str(verdict.failure)), verdict.failure


def test_a_run_whose_validators_all_vouch_for_a_failing_proof_does_not_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(work: SharedWork, task: Any, terms: Any, model: Any, reports: Any, workers: Any) -> list[float]:
        for held in reports:
            work.put(proof_key(terms, held.report), None, None, 1.0)
        return [1.0]

    in_this_process(monkeypatch)
    monkeypatch.setattr(LearningTask, "prove", spoiling(5000))
    monkeypatch.setattr(playing, "verify_ahead", believe)
    run = play(write_experiment(tmp_path, PROVED, NO_COURTS, ONE_ROUND), tmp_path / "run")
    assert column(run, "outcome") == ["opened"] * 2, "the update itself was honest"
    verdict = check(run.path)
    assert not verdict.ok
    assert str(verdict.failure).startswith("round 1: the proof of report ")
    assert "does not verify" in str(verdict.failure)


def test_a_report_is_of_its_own_registration(proved: PlayedRun) -> None:
    """Every trainer's reports refer to the one registration that the close of round 1 names for it."""
    documents = json.loads((proved.path / "objects.json").read_bytes())
    assert len(documents["registrations"]) == TRAINERS
    node = next(iter(proved.federation.nodes.values()))
    registered = node.state.round.registered
    assert {entry.first_round for entry in registered.values()} == {1}
    assert {entry.last_round for entry in registered.values()} == {ROUNDS}
    assert set(registered) == {trainer.account.address for trainer in proved.federation.trainers}
    assert replace(next(iter(registered.values())), last_round=9).digest in node.state.round.registrations
