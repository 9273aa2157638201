"""Who fed which model version, with how much weight: a walk over the records, backwards and forwards.

Every function is pure and takes the whole log. An edge names its parent by digest; should two records have the same
digest (a round that changes nothing certifies the same model again), the latest one before the child is meant.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collegium.crypto import Digest
from collegium.lineage._errors import UnknownDatasetError, UnknownModelError
from collegium.lineage._record import Record

STATISTICS: Final = "scaling"  # what the sum of the round of statistics is turned into


@dataclass(frozen=True, slots=True)
class Contribution:
    """One report in one sum that a model version was made from.

    Attributes:
        round_number: the round of the sum.
        target_kind: what the sum was turned into: `model`, or `scaling` for the round of statistics.
        target: the digest of that model version or scaling.
        trainer: the report's subject.
        datasets: the subjects (sites, licences) of the datasets the report was made from, in ascending order.
        report: the report's digest.
        weight: the report's integer weight in the sum.
    """

    round_number: int
    target_kind: str
    target: Digest
    trainer: str
    datasets: tuple[str, ...]
    report: Digest
    weight: int


@dataclass(frozen=True, slots=True)
class Influence:
    """What one trainer put into a model, over all rounds that led to it.

    Attributes:
        trainer: its name.
        datasets: every dataset its reports were made from.
        rounds: rounds of training in which it had a weight above 0.
        weight: sum of its weights in these rounds.
    """

    trainer: str
    datasets: tuple[str, ...]
    rounds: int
    weight: int


def ancestors(records: Sequence[Record], model: Digest) -> tuple[Contribution, ...]:
    """Return every report that `model` descends from, in the order of the log.

    Raises:
        UnknownModelError: no record of kind `model` has this digest.
    """
    graph = Graph(records)
    closure = graph.closure_backwards(graph.model(model))
    return tuple(each for total, target in _sums(graph, closure) for each in graph.contributions(target, total))


def influence(records: Sequence[Record], model: Digest) -> tuple[Influence, ...]:
    """Return what each trainer put into `model`, in ascending order of name; the round of statistics is left out.

    Raises:
        UnknownModelError: no record of kind `model` has this digest.
    """
    by_trainer: dict[str, list[Contribution]] = {}
    for contribution in ancestors(records, model):
        if contribution.target_kind != STATISTICS:
            by_trainer.setdefault(contribution.trainer, []).append(contribution)
    return tuple(
        Influence(
            trainer,
            tuple(sorted({name for contribution in found for name in contribution.datasets})),
            len({contribution.round_number for contribution in found if contribution.weight > 0}),
            sum(contribution.weight for contribution in found),
        )
        for trainer, found in sorted(by_trainer.items())
    )


@dataclass(frozen=True, slots=True)
class Carried:
    """What a model version carries from a dataset: so much of the weight of all reports below it."""

    version: Record
    weight: int
    whole: int


def erasure(records: Sequence[Record], dataset: Digest) -> tuple[Record, ...]:
    """Return the model versions that carry weight from `dataset`, in the order of the log.

    These are the versions a withdrawal of consent speaks about. An edge of weight 0 carries nothing.

    Raises:
        UnknownDatasetError: no record of kind `dataset` has this digest.
    """
    reached = _reached(Graph(records), records, (dataset,))
    return tuple(record for record in records if record.seq in reached and record.kind == "model")


def carried(records: Sequence[Record], datasets: Sequence[Digest]) -> tuple[Carried, ...]:
    """Return what each model version carries from any of these datasets, in the order of the log; those that do alone.

    Weights are those of `influence`: of the reports below a version, the round of statistics left out.

    Raises:
        UnknownDatasetError: no record of kind `dataset` has one of these digests.
    """
    graph = Graph(records)
    reached = _reached(graph, records, datasets)
    weights: dict[int, tuple[int, int]] = {}
    found: list[Carried] = []
    for record in records:
        if record.kind != "model":
            continue
        weights[record.seq] = _weight_below(graph, record, reached, weights)
        if record.seq in reached:
            found.append(Carried(record, *weights[record.seq]))
    return tuple(found)


def _reached(graph: Graph, records: Sequence[Record], datasets: Sequence[Digest]) -> set[int]:
    """Return the positions of all records with a path of positive weights down to one of these datasets."""
    for dataset in datasets:
        if graph.latest_of_kind("dataset", dataset) is None:
            raise UnknownDatasetError(f"no dataset {dataset.hex()} in the lineage", dataset=dataset)
    wanted, reached = frozenset(datasets), set[int]()
    for record in records:
        carries = any(
            weight > 0 and (parent.seq in reached or (parent.kind == "dataset" and parent.digest in wanted))
            for parent, weight in graph.parents(record)
        )
        if carries:
            reached.add(record.seq)
    return reached


def _weight_below(
    graph: Graph, version: Record, reached: set[int], known: Mapping[int, tuple[int, int]]
) -> tuple[int, int]:
    """Return the weight of the reports below a version that are in `reached`, and of all; `known`: of versions before.

    A version of one parent adds its own sums to that parent's, unless it stands on a sum that may be below both.
    """
    before = [parent for parent, _ in graph.parents(version) if parent.kind == "model"]
    if len(before) == 1 and before[0].seq in known:
        own = graph.closure_backwards(version, without=before[0].seq)
        if all(record.seq > before[0].seq for record in own if record.kind == "sum"):
            weight, whole = _weights(graph, own, reached)
            return known[before[0].seq][0] + weight, known[before[0].seq][1] + whole
    return _weights(graph, graph.closure_backwards(version), reached)


def _weights(graph: Graph, closure: Sequence[Record], reached: set[int]) -> tuple[int, int]:
    """Return the weight of the reports in a closure's sums that are in `reached`, and of all of them."""
    weight = whole = 0
    for total, target in _sums(graph, closure):
        if target.kind == STATISTICS:
            continue
        for report, each in graph.parents(total):
            if report.kind == "report":
                whole += each
                weight += each if report.seq in reached else 0
    return weight, whole


def _sums(graph: Graph, closure: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Yield each sum in a closure, once, with the record that it was turned into."""
    summed: set[int] = set()
    for record in closure:
        for parent, _ in graph.parents(record):
            if parent.kind == "sum" and parent.seq not in summed:
                summed.add(parent.seq)
                yield parent, record


class Graph:
    """The records, found by digest."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._positions: dict[Digest, list[int]] = {}
        for position, record in enumerate(records):
            self._positions.setdefault(record.digest, []).append(position)

    def latest_of_kind(self, kind: str, digest: Digest) -> Record | None:
        records = (self._records[position] for position in reversed(self._positions.get(digest, ())))
        return next((record for record in records if record.kind == kind), None)

    def model(self, digest: Digest) -> Record:
        """Return the record of a model version.

        Raises:
            UnknownModelError: no record of kind `model` has this digest.
        """
        record = self.latest_of_kind("model", digest)
        if record is None:
            raise UnknownModelError(f"no model {digest.hex()} in the lineage", model=digest)
        return record

    def parents(self, child: Record) -> Iterator[tuple[Record, int]]:
        """Yield each parent's record with the edge's weight."""
        for parent in child.parents:
            positions = self._positions.get(parent.digest, [])
            before = bisect_left(positions, child.seq)
            if before:
                yield self._records[positions[before - 1]], parent.weight

    def closure_backwards(self, start: Record, without: int = -1) -> list[Record]:
        """Return `start` and everything it descends from, in the order of the log, but not through one record."""
        seen, waiting = {start.seq: start}, [start]
        while waiting:
            for parent, _ in self.parents(waiting.pop()):
                if parent.seq not in seen and parent.seq != without:
                    seen[parent.seq] = parent
                    waiting.append(parent)
        return [seen[seq] for seq in sorted(seen)]

    def contributions(self, target: Record, total: Record) -> list[Contribution]:
        """Return the reports of the sum `total`, which was turned into `target`."""
        return [
            Contribution(
                total.round_number,
                target.kind,
                target.digest,
                report.subject,
                tuple(sorted({parent.subject for parent, _ in self.parents(report) if parent.kind == "dataset"})),
                report.digest,
                weight,
            )
            for report, weight in self.parents(total)
            if report.kind == "report"
        ]
