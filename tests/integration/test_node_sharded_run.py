"""Whole runs with several committees a round: the plain sum, and a verification that finds every changed integer.

The experiment is that of `_run_stage.py`, its clinics halved: eight trainers in two shards of sixteen seats each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _run_stage import Copy, PlayedRun, check, ignore, play, write_experiment

from collegium.aggregation import ReportRejectedError
from collegium.consensus import (
    CertifiedResult,
    Close,
    CloseRefusedError,
    Header,
    MergeRefusedError,
    ProposalRefusedError,
    ShardClose,
    ShardedTerms,
    UnvouchedCloseError,
    sharded_terms_after,
    voucher_digest,
)
from collegium.crypto import BadBeaconError, BadCertificateError, encode_certificate, make_certificate
from collegium.errors import CollegiumError
from collegium.node import _sharded_audit as audit_module
from collegium.node import experiment_from_bytes
from collegium.node._audit import Audit
from collegium.node._genesis import decode_genesis, open_beacon
from collegium.node._ledger import LedgerError, Segment, decode_index, decode_segments
from collegium.node._setup import build_task, plan_of
from collegium.node._sharded_audit import check_sharded_rounds
from collegium.node._sharded_ledger import ShardedRound, ShardEnd, assemble_sharded, sharded_rounds
from collegium.node._sharded_play import first_shard_terms
from collegium.node._task import EMPTY_STATE
from collegium.node._workers import Workers

pytestmark = pytest.mark.slow

SHARDS, SEATS, TRAINERS = 2, 16, 8
CHANGES = (
    ("rounds = 3", "rounds = 1"),
    ("learning_rate = 1.0", "learning_rate = 1.0\nbatch_rows = 8"),
    ("seats = 16\n", "seats = 16\nshards = 2\npartition_rounds = 1\n"),
    ("[chain]", "[trainers]\nper_site = 2\n[chain]"),
)


@dataclass(frozen=True)
class Sharded:
    """A run with everybody's keys, and its ledger taken apart."""

    run: PlayedRun

    @cached_property
    def genesis(self) -> Any:
        return decode_genesis((self.run.path / "genesis.json").read_bytes())

    @cached_property
    def experiment(self) -> Any:
        return experiment_from_bytes(self.genesis.experiment)

    @cached_property
    def task(self) -> Any:
        return build_task(self.genesis, self.experiment)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return decode_segments((self.run.path / "ledger.bin").read_bytes())

    @cached_property
    def rounds(self) -> tuple[ShardedRound, ...]:
        return sharded_rounds(self.genesis.epoch_set, self.segments, SHARDS)

    @cached_property
    def terms(self) -> ShardedTerms:
        """The terms of round 0."""
        return first_shard_terms(self.genesis, self.task, plan_of(self.experiment.committee), EMPTY_STATE)

    def sealed(self, shard: int, digest: bytes) -> bytes:
        """Return a certificate of all seats of a shard over a digest, as if all of them were bad."""
        holders = self.terms.validators[SEATS * shard : SEATS * (shard + 1)]
        votes = {seat: self.run.federation.validators[who].voting.sign(digest) for seat, who in enumerate(holders)}
        return encode_certificate(make_certificate(SEATS, votes))

    def vouched(self, shard: int, close: Close) -> ShardClose:
        return ShardClose(shard, close, self.sealed(shard, voucher_digest(shard, close)))

    def redo(self, rounds: tuple[ShardedRound, ...]) -> None:
        """Verify rounds as a run's verification does once the order holds."""
        audit, index = Audit(self.run.path, ignore), decode_index((self.run.path / "objects.json").read_bytes())
        beacon = open_beacon(self.genesis)
        around = (audit, self.genesis, self.task, beacon, self.experiment.committee)
        check_sharded_rounds(*around, rounds, index, Workers(1))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Sharded:
    folder = tmp_path_factory.mktemp("sharded")
    return Sharded(play(write_experiment(folder, *CHANGES), folder / "run"))


def test_a_run_with_shards_verifies_from_its_folder_alone(sharded: Sharded) -> None:
    verdict = check(sharded.run.path, sharded.run.anchor)
    assert verdict.ok, verdict.failure
    assert verdict.anchored
    assert any(line.startswith("shards: 2 of 16 seats a round") for line in verdict.checks)
    summary = verdict.summary
    assert (summary["shards"], summary["partition_rounds"], summary["seats"]) == (SHARDS, 1, SEATS)
    rounds: Any = summary["rounds"]
    notes: Any = summary["notes"]
    assert [entry["admitted"] for entry in rounds] == [TRAINERS, TRAINERS]
    assert all(len(entry["lying_seats"]) == 1 for entry in rounds)
    assert any("2 sums a round are public" in note for note in notes)
    for secret in sharded.run.secrets.values():
        assert not any(secret in file.read_bytes() for file in sharded.run.path.rglob("*") if file.is_file())


def test_the_model_is_bit_for_bit_that_of_plain_sums(sharded: Sharded) -> None:
    task, trainers, terms, model = sharded.task, sharded.run.federation.trainers, sharded.terms, EMPTY_STATE
    accounts = [trainer.account.address for trainer in trainers]
    for ordered in sharded.rounds:
        number = ordered.header.round
        beacons = [terms.shards[terms.shard_of(accounts, account)].beacon for account in accounts]
        assert len(set(beacons)) == SHARDS
        updates = [task.update(number, model, who.rows, beacon) for who, beacon in zip(trainers, beacons, strict=True)]
        model = task.step(number, model, np.sum(updates, axis=0, dtype=np.int64))
        assert ordered.header.model == sha256(model).digest()
        terms = sharded_terms_after(task, sharded.genesis.epoch_set, terms, ordered.header)


def test_trainers_are_dealt_anew_and_shards_differ_by_none(sharded: Sharded) -> None:
    accounts = [account for account, _ in sharded.genesis.trainers]
    after = sharded_terms_after(sharded.task, sharded.genesis.epoch_set, sharded.terms, sharded.rounds[0].header)
    assert [len(cohort) for cohort in sharded.terms.cohorts(accounts)] == [TRAINERS // SHARDS] * SHARDS
    assert sharded.terms.cohorts(accounts) != after.cohorts(accounts) or sharded.terms.partition != after.partition


# ------------------------------------------------------------------------------------------------ changed integers


def with_close(run: Sharded, ordered: ShardedRound, vouchers: bytes | None = None, **changes: Any) -> ShardedRound:
    """Return a round whose first shard has another close, vouched for by all of its seats unless said otherwise."""
    end = ordered.shards[0]
    close = replace(end.close.close, **changes)
    entry = run.vouched(0, close) if vouchers is None else ShardClose(0, close, vouchers)
    return replace(ordered, shards=(ShardEnd(entry, end.result), *ordered.shards[1:]))


def with_result(run: Sharded, ordered: ShardedRound, certified: bool = True, **changes: Any) -> ShardedRound:
    """Return a round whose first shard has another result, certified by all of its seats unless said otherwise."""
    end = ordered.shards[0]
    assert end.result is not None
    result = replace(end.result.result, **changes)
    certificate = run.sealed(0, result.digest) if certified else end.result.certificate
    return replace(ordered, shards=(replace(end, result=CertifiedResult(result, certificate)), *ordered.shards[1:]))


def with_header(ordered: ShardedRound, **changes: Any) -> ShardedRound:
    return replace(ordered, header=replace(ordered.header, **changes))


def first_close(ordered: ShardedRound) -> Close:
    return ordered.shards[0].close.close


def lied(run: Sharded, ordered: ShardedRound) -> tuple[int, ...]:
    result = ordered.shards[0].result
    assert result is not None
    return (next(seat for seat in range(SEATS) if seat not in result.result.lying),)


A, KEYS = bytes(range(32)), "announcements"
FOUND: dict[str, tuple[Callable[[Sharded, ShardedRound], ShardedRound], type[CollegiumError]]] = {
    "close: a weight": (lambda s, r: with_close(s, r, weights=(2, 1, 1, 1)), CloseRefusedError),
    "close: without vouchers": (lambda s, r: with_close(s, r, b""), UnvouchedCloseError),
    "close: a report less, vouchers as they were": (
        lambda s, r: with_close(
            s, r, r.shards[0].close.vouchers, reports=first_close(r).reports[1:], weights=(1, 1, 1)
        ),
        CloseRefusedError,
    ),
    "close: a seat's receipt, vouchers as they were": (
        lambda s, r: with_close(
            s,
            r,
            r.shards[0].close.vouchers,
            receipts=((*first_close(r).receipts[0][:2], bytes(65)), *first_close(r).receipts[1:]),
        ),
        UnvouchedCloseError,
    ),
    "close: of the other shard": (lambda s, r: replace(r, shards=r.shards[::-1]), CloseRefusedError),
    "close: the other shard's reports": (
        lambda s, r: with_close(s, r, reports=r.shards[1].close.close.reports, listed=r.shards[1].close.close.listed),
        ReportRejectedError,
    ),
    "result: its sum": (lambda s, r: with_result(s, r, total=A), ProposalRefusedError),
    "result: who lied": (lambda s, r: with_result(s, r, lying=lied(s, r)), ProposalRefusedError),
    "result: lost": (lambda s, r: with_result(s, r, outcome="lost", total=bytes(32)), ProposalRefusedError),
    "result: its sum, certificate as it was": (
        lambda s, r: with_result(s, r, certified=False, total=A),
        BadCertificateError,
    ),
    "result: of another close": (lambda s, r: with_result(s, r, close=A), ProposalRefusedError),
    "result: another key sum": (lambda s, r: with_result(s, r, key_sums=((0, A),)), LedgerError),
    "shard given up": (
        lambda s, r: replace(r, shards=(ShardEnd(r.shards[0].close, None, True), *r.shards[1:])),
        MergeRefusedError,
    ),
    "header: close": (lambda s, r: with_header(r, close=A), MergeRefusedError),
    "header: sum": (lambda s, r: with_header(r, total=A), MergeRefusedError),
    "header: model": (lambda s, r: with_header(r, model=A), MergeRefusedError),
    "header: outcome": (lambda s, r: with_header(r, outcome="skipped"), MergeRefusedError),
    "header: committees": (lambda s, r: with_header(r, seats=r.header.seats[::-1]), MergeRefusedError),
    "header: a liar": (lambda s, r: with_header(r, lying=(1,)), MergeRefusedError),
    "header: sealing keys": (lambda s, r: with_header(r, **{KEYS: r.header.announcements[:8]}), MergeRefusedError),
    "header: beacon": (lambda s, r: with_header(r, beacon=b"\xc0" + bytes(47)), BadBeaconError),
    "header: previous": (lambda s, r: with_header(r, previous=A), MergeRefusedError),
}


@pytest.mark.parametrize("case", FOUND)
def test_a_changed_integer_is_found_by_name(case: str, sharded: Sharded) -> None:
    """Whoever signs it: a wholly bad committee vouches and certifies here where that is not what is found."""
    change, error = FOUND[case]
    with pytest.raises(error):
        sharded.redo((change(sharded, sharded.rounds[0]), *sharded.rounds[1:]))


def test_unchanged_rounds_pass_and_another_partition_does_not(
    sharded: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded.redo(sharded.rounds)
    other = replace(sharded.terms, partition=A)
    monkeypatch.setattr(audit_module, "first_shard_terms", lambda *_: other)
    with pytest.raises(ProposalRefusedError, match="is not one of shard"):
        sharded.redo(sharded.rounds)


def test_blocks_out_of_order_are_no_rounds(sharded: Sharded) -> None:
    blocks, tip = sharded.segments[0].blocks, sharded.segments[0].tip
    said = [block for block in blocks if block.payload]
    assert assemble_sharded(blocks, tip, SHARDS)[0].header == sharded.rounds[0].header
    for wrong in (said[1:], [said[0], said[0], *said[1:]], [*said[:1], *said[2:]], said[::-1]):
        with pytest.raises(LedgerError):
            assemble_sharded(wrong, tip, SHARDS)
    with pytest.raises(LedgerError):
        assemble_sharded(blocks, tip, SHARDS + 1)
    with pytest.raises(LedgerError):
        assemble_sharded(blocks, tip, SHARDS - 1)
    with pytest.raises(LedgerError, match="2 epochs"):
        sharded_rounds(sharded.genesis.epoch_set, (*sharded.segments, *sharded.segments), SHARDS)


def test_the_folder_is_checked_through(sharded: Sharded, tmp_path: Path) -> None:
    copy = Copy.of(sharded.run.path, tmp_path / "run")
    summary = json.loads((copy.path / "summary.json").read_bytes())
    summary["shards"] = 3
    text = (json.dumps(summary, indent=2, sort_keys=True) + "\n").encode()
    with copy.changed("summary.json", text, listed=True):
        failure = check(copy.path).failure
        assert failure is not None
        assert failure.startswith("summary.json")
    ledger = bytearray((copy.path / "ledger.bin").read_bytes())
    at = ledger.index(sharded.rounds[0].header.total)
    ledger[at] ^= 1
    with copy.changed("ledger.bin", bytes(ledger), listed=True):
        failure = check(copy.path).failure
        assert failure is not None
        assert failure.startswith("ledger.bin")
    assert isinstance(sharded.rounds[0].header, Header)
