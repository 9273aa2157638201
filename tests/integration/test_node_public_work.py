"""The programs of public work on the records of real runs: every header is accepted, and a changed one is not.

The runs are those of `_run_stage.py`, with an absent and a lying seat.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from _run_stage import PlayedRun

from collegium.crypto import frame_fields
from collegium.node import PublicRecord, read_public_record, work_kinds, work_terms
from collegium.node._experiment import experiment_from_bytes
from collegium.node._genesis import decode_genesis
from collegium.node._work_terms import proof_plan
from collegium.settlement import (
    KnownStretches,
    MachineRun,
    PublicWork,
    WorkTermsError,
    compile_program,
    public_works,
    signed_works,
)

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
NAMES = ("weights", "opening", "model", "next round")


def run(record: PublicRecord, work: PublicWork, number: int, **changes: object) -> MachineRun:
    """Return the run of a work's program on a round's header, with other fields if some are given."""
    header = replace(record.rounds[number].certified.header, **changes)
    known = KnownStretches([*record.messages(number), header.preimage])
    return MachineRun(compile_program(work.module, work.parameters), header.digest, known)


def test_every_header_of_a_run_is_accepted(played: PlayedRun) -> None:
    record = read_public_record(played.path)
    works = public_works(record.terms)
    assert [work.name for work in works] == list(NAMES)
    assert any(record.rounds[number].certified.header.lying for number in range(4))
    for number in range(4) if FULL else (0, 3):
        for work in works:
            assert run(record, work, number).accepted, (number, work.name)


def test_a_changed_header_of_a_run_is_rejected(played: PlayedRun) -> None:
    record = read_public_record(played.path)
    weights, opening, model, following = public_works(record.terms)
    assert not run(record, weights, 1, level="bounded").accepted
    assert not run(record, opening, 1, lying=()).accepted
    assert not run(record, model, 1, model=record.rounds[0].certified.header.model).accepted
    assert not run(record, following, 1, seats=tuple(reversed(record.rounds[1].certified.header.seats))).accepted


def test_a_program_is_stuck_where_the_record_lacks_what_it_reads(played: PlayedRun, tmp_path: Path) -> None:
    """A set that lies may show nobody a report, a sum or a model: a challenger must still get to where it can ask."""
    for withheld in ("ciphertext", "key sum", "model before"):
        path = tmp_path / withheld
        shutil.copytree(played.path, path)
        record = read_public_record(path)
        close, header = record.rounds[2].close, record.rounds[2].certified.header
        reports, sums = record._objects
        digest = {
            "ciphertext": reports[close.reports[0]],
            "key sum": sums[header.key_sums[0][1]],
            "model before": record.rounds[1].certified.header.model,
        }[withheld]
        (found,) = path.rglob(digest.hex())
        found.unlink()
        _, opening, *_ = public_works(record.terms)
        assert run(record, opening, 2).stuck is not None, withheld


def test_headers_of_proved_rounds_are_accepted(proved: PlayedRun) -> None:
    record = read_public_record(proved.path)
    for work in public_works(record.terms):
        if work.name != "opening" or FULL:
            assert run(record, work, 2).accepted, work.name


def test_a_runs_court_has_only_kinds_that_whoever_signs_a_header_could_see(proved: PlayedRun) -> None:
    """Proofs are verified by some validators only: no honest member of a committee loses its stake for the others."""
    record = read_public_record(proved.path)
    works = public_works(record.terms)
    assert [work.name for work in works if not work.convicts] == ["proofs"]
    kept = [compile_program(work.module, work.parameters).digest for work in works if work.convicts]
    assert [kind.program for kind in work_kinds(record)] == kept
    assert all(work.convicts for work in signed_works(record.terms))


def test_reports_and_receipts_of_a_proved_round_are_accepted_but_not_without_their_proofs(proved: PlayedRun) -> None:
    record, number = read_public_record(proved.path), 2
    report, receipt = signed_works(record.terms)
    close, terms, messages = record.rounds[number].close, record.round_terms[number], record.messages(number)
    assert messages[0].startswith(record.terms.head)
    program = compile_program(report.module, report.parameters)
    assert MachineRun(program, close.reports[0], KnownStretches(messages)).accepted
    signed = next(receipt for receipt in close.signed if receipt.verified)
    ids = b"".join(signed.reports), b"".join(signed.verified[:1])
    preimage = frame_fields("receipt", terms.task, terms.round, terms.digest, signed.seat, *ids)
    assert preimage.startswith(receipt.head)
    program = compile_program(receipt.module, receipt.parameters)
    assert MachineRun(program, sha256(preimage).digest(), KnownStretches([*messages, preimage])).accepted
    withheld = [data for data in messages if len(data) < 200_000]
    assert MachineRun(program, sha256(preimage).digest(), KnownStretches([*withheld, preimage])).stuck is not None


def test_only_proofs_that_a_program_verifies_in_a_disputes_steps_have_a_plan(
    proved: PlayedRun, played: PlayedRun
) -> None:
    task = read_public_record(proved.path).task
    assert proof_plan(task) is not None
    assert proof_plan(replace(task, trainers_max=1000)) is None
    assert proof_plan(replace(task, rule=replace(task.rule, local_steps=2))) is None
    assert proof_plan(read_public_record(played.path).task) is None


def test_rounds_in_shards_have_no_programs_yet(played: PlayedRun) -> None:
    genesis = decode_genesis((played.path / "genesis.json").read_bytes())
    experiment = experiment_from_bytes(genesis.experiment)
    sharded = replace(experiment, committee=replace(experiment.committee, shards=2))
    with pytest.raises(WorkTermsError, match="2 shards"):
        work_terms(genesis, sharded, read_public_record(played.path).task)
