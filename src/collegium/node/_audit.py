"""Where a run's verification stands, and how it redoes what a round left behind; for `_verify` and `_sharded_audit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from collegium import aggregation
from collegium.aggregation import KeySum, OpenedSum, Report, RoundTerms
from collegium.consensus import (
    Close,
    Header,
    Held,
    ProposalRefusedError,
    Registered,
    ShardResult,
    check_proof,
    check_proof_form,
    check_registration,
    check_round_records,
    model_after,
    new_registrations,
    weighed_reports,
)
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.lineage import Store

from ._events import Event
from ._ledger import LedgerError, OrderedRound
from ._network import SharedWork
from ._opened_rows import Remeasured
from ._task import LearningTask
from ._verify_ahead import verify_ahead
from ._workers import Workers

__all__ = [
    "OBJECT_BYTES_MAX",
    "Audit",
    "DerivedFileError",
    "FailingProofError",
    "check_proofs",
    "check_publishing",
    "check_records",
    "open_sum",
    "require_proved",
    "stored_reports",
    "stored_sums",
]

OBJECT_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 1 << 30


class FailingProofError(CollegiumError):
    """A round admits a report whose proof does not verify: every validator that vouched for it has lied."""


class DerivedFileError(CollegiumError):
    """A file that follows from the others says something else than they give."""


@dataclass
class Audit:
    """Where the verification stands."""

    path: Path
    on_event: Callable[[Event], None]
    stage: str = "files"
    checks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    reports: dict[Digest, Report] = field(default_factory=dict)
    report_objects: dict[Digest, Digest] = field(default_factory=dict)
    key_sum_objects: dict[Digest, Digest] = field(default_factory=dict)
    models: set[Digest] = field(default_factory=set)
    proof_bytes: dict[int, int] = field(default_factory=dict)  # by round
    proofs: int = 0
    records: int = 0  # of stewards
    registered: dict[bytes, Registered] = field(default_factory=dict)  # by trainer, up to here
    paid: bytes = b""  # what all trainers have earned, up to here
    work: SharedWork = field(default_factory=SharedWork)
    remeasured: Remeasured | None = None  # where stewards opened their rows

    def passed(self, line: str) -> None:
        """Note a check that holds."""
        self.checks.append(line)

    def read(self, name: str) -> bytes:
        """Return the bytes of one of the run's files."""
        self.stage = name
        file = self.path / name
        if file.stat().st_size > FILE_BYTES_MAX:
            raise DerivedFileError(f"{name} has {file.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
        return file.read_bytes()


def stored_reports(
    audit: Audit, store: Store, index: Mapping[Digest, Digest], close: Close, terms: RoundTerms
) -> dict[Digest, Held]:
    held = {}
    for report_id in close.reports:
        if report_id not in index:
            raise LedgerError(f"report {report_id.hex()} of round {close.round} is not among the objects")
        data = store.get(index[report_id], OBJECT_BYTES_MAX)
        report = Report.from_bytes(data, len(terms.seats))
        if report.id != report_id:
            raise LedgerError(f"object {index[report_id].hex()} is report {report.id.hex()}, not {report_id.hex()}")
        data = store.get(report.ciphertext, OBJECT_BYTES_MAX)
        named = (report.proof, report.registration)
        proof, registration = (b"" if d == bytes(32) else store.get(d, OBJECT_BYTES_MAX) for d in named)
        held[report_id] = Held(report, aggregation.decode_ciphertext(terms.layout, data), proof, registration)
        audit.report_objects[report_id] = index[report_id]
        audit.reports[report_id] = report
    return held


def check_proofs(
    audit: Audit,
    task: LearningTask,
    terms: RoundTerms,
    model: bytes,
    close: Close,
    held: dict[Digest, Held],
    workers: Workers,
) -> dict[Digest, CollegiumError]:
    """Verify every registration and every proof of the admitted reports; return those that fail, with their reasons."""
    work, failed = audit.work, {}
    audit.proof_bytes[close.round] = audit.proof_bytes.get(close.round, 0) + sum(len(e.proof) for e in held.values())
    for entry in held.values():
        check_proof_form(task, entry.report, entry.proof)
        check_registration(task, audit.registered, entry.report, entry.registration)
    admitted = [(held[report].report, held[report].registration) for report in close.reports]
    if close.registered != new_registrations(task, audit.registered, admitted):
        raise ProposalRefusedError(f"close {close.round} does not name the registrations that its reports refer to")
    audit.registered.update({entry.trainer: entry for entry in close.registered})
    if not task.proof_bytes_max(close.round):
        return {}
    verify_ahead(work, task, terms, model, list(held.values()), workers)
    for report, entry in held.items():
        try:
            check_proof(work, task, terms, model, entry)
        except CollegiumError as error:
            failed[report] = error
    audit.proofs += len(held) - len(failed)
    return failed


def require_proved(header: Header | ShardResult, failed: dict[Digest, CollegiumError]) -> None:
    """Refuse a round that admits a proof that does not verify, unless its header says so.

    Raises:
        FailingProofError: naming the first report.
        ProposalRefusedError: the header names other failing proofs than there are.
    """
    if failed and header.outcome != "invalid":
        report, reason = next(iter(failed.items()))
        raise FailingProofError(f"the proof of report {report.hex()} does not verify: {reason}", report=report)
    expected = tuple(sorted(failed))
    if header.failed != expected:
        raise ProposalRefusedError(f"the header names {len(header.failed)} failing proofs, {len(expected)} fail")


def stored_sums(
    audit: Audit, store: Store, index: Mapping[Digest, Digest], header: Header | ShardResult, terms: RoundTerms
) -> dict[int, KeySum]:
    sums = {}
    for seat, digest in header.key_sums:
        if digest not in index:
            raise LedgerError(f"key sum {digest.hex()} of seat {seat} is not among the objects")
        key_sum = KeySum.from_bytes(store.get(index[digest], OBJECT_BYTES_MAX), terms.seat_width)
        if (key_sum.seat, key_sum.digest) != (seat, digest):
            raise LedgerError(f"object {index[digest].hex()} is not the key sum of seat {seat}")
        aggregation.check_key_sum(terms, header.close, key_sum)
        audit.key_sum_objects[digest] = index[digest]
        sums[seat] = key_sum
    return sums


def check_publishing(header: Header | ShardResult) -> None:
    """Check that a header lists each key sum once, in order of seats."""
    publishing = [seat for seat, _ in header.key_sums]
    if any(before >= after for before, after in pairwise(publishing)):
        raise ProposalRefusedError(f"key sums of seats {publishing}: expected increasing")


def check_records(task: LearningTask, ordered: OrderedRound, model: bytes) -> None:
    """Check that each of a round's records may follow those before it.

    Raises:
        LedgerError: there are some, in a task whose reports do not weigh by quality.
        CollegiumError: of the first that does not hold.
    """
    if task.quality is not None:
        check_round_records(task.quality, ordered.close.round, model, ordered.records)
    elif ordered.records:
        raise LedgerError(f"round {ordered.close.round} has {len(ordered.records)} records, this task takes none")


def open_sum(
    task: LearningTask,
    close: Close,
    terms: RoundTerms,
    held: dict[Digest, Held],
    sums: dict[int, KeySum],
    model: bytes,
    records: tuple[bytes, ...] = (),
) -> tuple[str, OpenedSum | None, bytes]:
    """Return outcome, opened sum and model of a close, from reports, key sums and the round's records alone."""
    if not close.reports:
        return "skipped", None, model
    total = aggregation.weighted_total((held[report].ciphertext for report in close.reports), close.weights)
    try:
        opened = aggregation.open_sum(terms, sums, total, sum(close.weights))
        quality = None if task.quality is None else (task.quality, weighed_reports(close, held), records)
        after = model_after(task, terms, model, opened.total, quality)
    except aggregation.SumLostError:
        return "lost", None, model
    except CollegiumError:
        return "invalid", None, model
    return "opened", opened, after
