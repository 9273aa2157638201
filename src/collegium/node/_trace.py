"""What of a run goes into its lineage, and in which order: written by `run`, written again and compared by `verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from collegium.aggregation import Report
from collegium.consensus import Close
from collegium.crypto import Digest, hash_fields
from collegium.lineage import Lineage
from collegium.settlement import Checkpoint

from ._experiment import experiment_from_bytes
from ._genesis import Genesis
from ._ledger import OrderedRound
from ._licence_settings import LicenceSettings
from ._sharded_ledger import ShardedRound
from ._task import EMPTY_STATE

__all__ = ["write_lineage"]

NO_REGISTRATION = bytes(32)
Edge = tuple[Digest, str, int]


def write_lineage(
    path: Path,
    genesis: Genesis,
    rounds: Sequence[OrderedRound | ShardedRound],
    reports: Mapping[Digest, Report],
    checkpoints: Sequence[Checkpoint],
) -> None:
    """Write the lineage of a run into a fresh SQLite file: the same bytes for the same run and SQLite library."""
    with Lineage(path) as lineage, lineage.atomic():
        experiment = experiment_from_bytes(genesis.experiment)
        level = experiment.task.level
        lineage.record("task", 0, genesis.task, "task", (), {"genesis": genesis.digest.hex(), "level": level})
        licensed = _record_licences(lineage, genesis, experiment.licences)
        attackers = () if experiment.attack is None else experiment.attack.trainers
        attack = {entry.trainer: entry.kind for entry in attackers}
        for account, name in genesis.trainers:
            site = name.rsplit("/", 1)[0]
            source = licensed.get(site, (genesis.task, "task", 1))
            told: dict[str, str | int] = {"attack": attack[name]} if name in attack else {}
            lineage.record("dataset", 0, _dataset(genesis, account), site, (source,), told)
        model = sha256(EMPTY_STATE).digest()
        lineage.record("model", 0, model, "before round 0", ((genesis.task, "task", 1),))
        scribe = _Scribe(lineage, genesis, reports, dict(genesis.trainers))
        for ordered in rounds:
            model = scribe.shards(ordered, model) if isinstance(ordered, ShardedRound) else scribe.whole(ordered, model)
        for checkpoint in checkpoints:
            settled = rounds[checkpoint.first_round : checkpoint.last_round + 1]
            parents = tuple((ordered.certified.header.digest, "header", 1) for ordered in settled)
            lineage.record("checkpoint", checkpoint.last_round, checkpoint.digest, "base chain", parents)


@dataclass(frozen=True, slots=True)
class _Scribe:
    """Records round after round; `whole` and `shards` take the digest of the model before one, return that after it."""

    lineage: Lineage
    genesis: Genesis
    reports: Mapping[Digest, Report]
    names: Mapping[bytes, str]

    def whole(self, ordered: OrderedRound, model: Digest) -> Digest:
        """Record a round of one committee."""
        close, certified = ordered.close, ordered.certified
        header, who = certified.header, "committee"
        self._close(close, who)
        lying = ",".join(str(seat) for seat in header.lying)
        self._end(ordered, who, [(close.digest, "close", 1)], _weighted(close), lying, model)
        certificate = hash_fields("lineage-certificate", header.digest, certified.certificate)
        self.lineage.record("certificate", header.round, certificate, who, ((header.digest, "header", 1),))
        return header.model

    def shards(self, ordered: ShardedRound, model: Digest) -> Digest:
        """Record a round of several shards: a sum a shard, then theirs."""
        header, closes, sums, lying = ordered.header, list[Edge](), list[Edge](), list[str]()
        for shard, end in enumerate(ordered.shards):
            close, who = end.close.close, f"committee of shard {shard}"
            self._close(close, who)
            closes.append((close.digest, "close", 1))
            if end.result is None:
                continue
            result = end.result.result
            lying += [f"{result.shard}:{seat}" for seat in result.lying]
            if result.outcome != "opened":
                continue
            total = hash_fields("lineage-shard-sum", header.task, header.round, shard, result.total)
            self.lineage.record("sum", header.round, total, who, _weighted(close))
            certificate = hash_fields("lineage-certificate", result.digest, end.result.certificate)
            self.lineage.record("certificate", header.round, certificate, who, ((total, "sum", 1),))
            sums.append((total, "sum", 1))
        self._end(ordered, "epoch set", closes, sums, ",".join(lying), model)
        return header.model

    def _close(self, close: Close, who: str) -> None:
        """Record what a close registers and admits, and the close."""
        number = close.round
        for entry in close.registered:
            rounds: dict[str, str | int] = {"first_round": entry.first_round, "last_round": entry.last_round}
            site, rows = self.names[entry.trainer].rsplit("/", 1)[0], _dataset(self.genesis, entry.trainer)
            self.lineage.record("dataset", number, entry.digest, site, ((rows, "dataset", 1),), rounds)
        for report_id in close.reports:
            report = self.reports[report_id]
            registered = report.registration != NO_REGISTRATION
            data = report.registration if registered else _dataset(self.genesis, report.trainer)
            self.lineage.record("report", number, report_id, self.names[report.trainer], ((data, "dataset", 1),))
        self.lineage.record(
            "close", number, close.digest, who, tuple((report, "report", 1) for report in close.reports)
        )

    def _end(
        self,
        ordered: OrderedRound | ShardedRound,
        who: str,
        closes: Sequence[Edge],
        addends: Sequence[Edge],
        lying: str,
        model: Digest,
    ) -> None:
        """Record a round's sum, the model that it makes of the one before, and the header."""
        header, parents = ordered.certified.header, list(closes)
        number = header.round
        if header.outcome == "opened":
            total = hash_fields("lineage-sum", header.task, number, header.total)
            self.lineage.record("sum", number, total, who, addends)
            if header.model != model:
                of = self._scaling(header.task, total, who) if number == 0 else (total, "sum", 1)
                kind = "first model" if number == 0 else "model"
                self.lineage.record("model", number, header.model, kind, ((model, "previous", 1), of))
            parents.append((total, "sum", 1))
        attributes: dict[str, str | int] = {
            "admitted": len(ordered.admitted),
            "level": header.level,
            "lying": lying,
            "outcome": header.outcome,
        }
        self.lineage.record("header", number, header.digest, who, (*parents, (header.model, "model", 1)), attributes)

    def _scaling(self, task: Digest, total: Digest, who: str) -> Edge:
        """Record what the sum of statistics is turned into, which trains nothing; return the edge to it."""
        digest = hash_fields("lineage-scaling", task, total)
        self.lineage.record("scaling", 0, digest, who, ((total, "sum", 1),))
        return digest, "scaling", 1


def _record_licences(lineage: Lineage, genesis: Genesis, settings: LicenceSettings | None) -> dict[str, Edge]:
    """Record what licences name the data of sites by; return, by site, the edge to it."""
    edges = dict[str, Edge]()
    for entry in () if settings is None else settings.sites:
        licence: dict[str, str | int] = {"licence": entry.number, "holder": entry.holder.hex()}
        lineage.record("dataset", 0, entry.data_root, entry.site, ((genesis.task, "task", 1),), licence)
        edges[entry.site] = (entry.data_root, "dataset", 1)
    return edges


def _weighted(close: Close) -> list[Edge]:
    """Return the reports that a close admits as addends of a sum."""
    return [(report, "report", weight) for report, weight in zip(close.reports, close.weights, strict=True)]


def _dataset(genesis: Genesis, account: bytes) -> Digest:
    """Return the identity of all that a trainer trains on, whatever it registers of it: the trainer's account."""
    return hash_fields("dataset", genesis.task, account)
