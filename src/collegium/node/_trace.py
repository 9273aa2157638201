"""What of a run goes into its lineage, and in which order: written by `run`, written again and compared by `verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from collegium.aggregation import Report
from collegium.consensus import Close
from collegium.crypto import Digest, hash_fields
from collegium.lineage import Lineage

from ._experiment import experiment_from_bytes
from ._facts import CheckpointFacts
from ._genesis import Genesis
from ._ledger import OrderedRound
from ._sharded_ledger import ShardedRound
from ._task import EMPTY_STATE

__all__ = ["write_lineage"]

NO_REGISTRATION = bytes(32)


def write_lineage(
    path: Path,
    genesis: Genesis,
    rounds: Sequence[OrderedRound | ShardedRound],
    reports: Mapping[Digest, Report],
    checkpoints: Sequence[CheckpointFacts],
) -> None:
    """Write the lineage of a run into a fresh SQLite file: the same bytes for the same run and SQLite library."""
    names = dict(genesis.trainers)
    with Lineage(path) as lineage, lineage.atomic():
        level = experiment_from_bytes(genesis.experiment).task.level
        lineage.record("task", 0, genesis.task, "task", (), {"genesis": genesis.digest.hex(), "level": level})
        for account, name in genesis.trainers:
            site = name.rsplit("/", 1)[0]
            lineage.record("dataset", 0, _dataset(genesis, account), site, ((genesis.task, "task", 1),))
        start = sha256(EMPTY_STATE).digest()
        lineage.record("model", 0, start, "before round 0", ((genesis.task, "task", 1),))
        model = start
        for ordered in rounds:
            record = _sharded_round if isinstance(ordered, ShardedRound) else _round
            model = record(lineage, genesis, ordered, reports, names, model)  # type: ignore[arg-type]  # as chosen
        for facts in checkpoints:
            checkpoint = facts.checkpoint
            settled = rounds[checkpoint.first_round : checkpoint.last_round + 1]
            parents = tuple((ordered.certified.header.digest, "header", 1) for ordered in settled)
            lineage.record("checkpoint", checkpoint.last_round, checkpoint.digest, "base chain", parents)


def _round(
    lineage: Lineage,
    genesis: Genesis,
    ordered: OrderedRound,
    reports: Mapping[Digest, Report],
    names: Mapping[bytes, str],
    model: Digest,
) -> Digest:
    """Record one round and return the digest of the model after it."""
    close, header = ordered.close, ordered.certified.header
    number = header.round
    _close(lineage, genesis, close, reports, names)
    weighted = tuple(zip(close.reports, close.weights, strict=True))
    parents = [(close.digest, "close", 1)]
    if header.outcome == "opened":
        total = hash_fields("lineage-sum", header.task, number, header.total)
        lineage.record("sum", number, total, "committee", tuple((report, "report", w) for report, w in weighted))
        kind = "scaling and first model" if number == 0 else "model"
        before = ((model, "previous", 1), (total, "sum", 1))
        if header.model != model:
            lineage.record("model", number, header.model, kind, before)
        parents.append((total, "sum", 1))
    attributes: dict[str, str | int] = {
        "admitted": len(close.reports),
        "level": header.level,
        "lying": ",".join(str(seat) for seat in header.lying),
        "outcome": header.outcome,
    }
    lineage.record("header", number, header.digest, "committee", (*parents, (header.model, "model", 1)), attributes)
    certificate = hash_fields("lineage-certificate", header.digest, ordered.certified.certificate)
    lineage.record("certificate", number, certificate, "committee", ((header.digest, "header", 1),))
    return header.model


def _sharded_round(
    lineage: Lineage,
    genesis: Genesis,
    ordered: ShardedRound,
    reports: Mapping[Digest, Report],
    names: Mapping[bytes, str],
    model: Digest,
) -> Digest:
    """Record one round of several shards and return the digest of the model after it: a sum a shard, then theirs."""
    header = ordered.header
    number, parents, sums = header.round, list[tuple[Digest, str, int]](), list[tuple[Digest, str, int]]()
    for shard, end in enumerate(ordered.shards):
        close, who = end.close.close, f"committee of shard {shard}"
        _close(lineage, genesis, close, reports, names, who)
        parents.append((close.digest, "close", 1))
        if end.result is None or end.result.result.outcome != "opened":
            continue
        result = end.result.result
        total = hash_fields("lineage-shard-sum", header.task, number, shard, result.total)
        weighted = zip(close.reports, close.weights, strict=True)
        lineage.record("sum", number, total, who, tuple((report, "report", weight) for report, weight in weighted))
        certificate = hash_fields("lineage-certificate", result.digest, end.result.certificate)
        lineage.record("certificate", number, certificate, who, ((total, "sum", 1),))
        sums.append((total, "sum", 1))
    if header.outcome == "opened":
        merged = hash_fields("lineage-sum", header.task, number, header.total)
        lineage.record("sum", number, merged, "epoch set", tuple(sums))
        kind = "scaling and first model" if number == 0 else "model"
        if header.model != model:
            lineage.record("model", number, header.model, kind, ((model, "previous", 1), (merged, "sum", 1)))
        parents.append((merged, "sum", 1))
    lying = (
        f"{end.result.result.shard}:{seat}" for end in ordered.shards if end.result for seat in end.result.result.lying
    )
    attributes: dict[str, str | int] = {
        "admitted": len(ordered.admitted),
        "level": header.level,
        "lying": ",".join(lying),
        "outcome": header.outcome,
    }
    lineage.record("header", number, header.digest, "epoch set", (*parents, (header.model, "model", 1)), attributes)
    return header.model


def _close(
    lineage: Lineage,
    genesis: Genesis,
    close: Close,
    reports: Mapping[Digest, Report],
    names: Mapping[bytes, str],
    who: str = "committee",
) -> None:
    """Record what a close registers and admits, and the close."""
    number = close.round
    for entry in close.registered:
        rounds: dict[str, str | int] = {"first_round": entry.first_round, "last_round": entry.last_round}
        site, rows = names[entry.trainer].rsplit("/", 1)[0], _dataset(genesis, entry.trainer)
        lineage.record("dataset", number, entry.digest, site, ((rows, "dataset", 1),), rounds)
    for report_id in close.reports:
        report = reports[report_id]
        registered = report.registration != NO_REGISTRATION
        data = report.registration if registered else _dataset(genesis, report.trainer)
        lineage.record("report", number, report_id, names[report.trainer], ((data, "dataset", 1),))
    lineage.record("close", number, close.digest, who, tuple((report, "report", 1) for report in close.reports))


def _dataset(genesis: Genesis, account: bytes) -> Digest:
    """Return the identity of all that a trainer trains on, whatever it registers of it: the trainer's account."""
    return hash_fields("dataset", genesis.task, account)
