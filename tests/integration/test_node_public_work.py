"""The programs of public work on the records of real runs: every header is accepted, and a changed one is not.

The runs are those of `_run_stage.py`, with an absent and a lying seat.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from _run_stage import PlayedRun

from collegium.node import PublicRecord, read_public_record, work_terms
from collegium.node._experiment import experiment_from_bytes
from collegium.node._genesis import decode_genesis
from collegium.settlement import KnownStretches, MachineRun, PublicWork, WorkTermsError, compile_program, public_works

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
NAMES = ("weights", "opening", "model")


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
    weights, opening, model = public_works(record.terms)
    assert not run(record, weights, 1, level="bounded").accepted
    assert not run(record, opening, 1, lying=()).accepted
    assert not run(record, model, 1, model=record.rounds[0].certified.header.model).accepted


def test_headers_of_proved_rounds_are_accepted(proved: PlayedRun) -> None:
    record = read_public_record(proved.path)
    for work in public_works(record.terms):
        if work.name != "opening" or FULL:
            assert run(record, work, 2).accepted, work.name


def test_rounds_in_shards_have_no_programs_yet(played: PlayedRun) -> None:
    genesis = decode_genesis((played.path / "genesis.json").read_bytes())
    experiment = experiment_from_bytes(genesis.experiment)
    sharded = replace(experiment, committee=replace(experiment.committee, shards=2))
    with pytest.raises(WorkTermsError, match="2 shards"):
        work_terms(genesis, sharded, read_public_record(played.path).task)
