"""The public work that follows from a run's headers, as its record shows it: every message that programs may read.

Nothing in the record is believed: a program reads what the header's digest leads to, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from collegium import aggregation
from collegium.aggregation import KeySum, Report, RoundTerms
from collegium.consensus import Header, total_bytes
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.incentives import split_steward_record
from collegium.lineage import Store
from collegium.settlement import (
    WorkTerms,
    proof_messages,
    rewards_tree,
    round_messages,
)

from ._audit import OBJECT_BYTES_MAX
from ._epoch_ledger import ordered_epochs
from ._epochs import epochs_of
from ._experiment import experiment_from_bytes
from ._genesis import decode_genesis
from ._ledger import LedgerError, ObjectIndex, OrderedRound, decode_index, decode_segments
from ._pay import PayRule
from ._run_files import GENESIS, LEDGER, OBJECTS, STORE
from ._setup import build_task
from ._task import EMPTY_STATE, LearningTask
from ._work_terms import work_terms

__all__ = ["PublicRecord", "earnings_after", "read_public_record"]

FILE_BYTES_MAX = 1 << 30

T = TypeVar("T")


@dataclass(frozen=True)
class PublicRecord:
    """The public record of a run.

    Attributes:
        terms: what the programs are compiled with.
        round_terms: each round's own.
    """

    path: Path
    task: LearningTask
    terms: WorkTerms
    rounds: tuple[OrderedRound, ...]
    round_terms: tuple[RoundTerms, ...]

    @cached_property
    def _objects(self) -> tuple[Mapping[Digest, Digest], Mapping[Digest, Digest]]:
        index: ObjectIndex = decode_index(_read(self.path, OBJECTS))
        return dict(index.reports), dict(index.key_sums)

    def messages(self, number: int) -> tuple[bytes, ...]:
        """Return every message that the programs about a round's header may read, as far as the record has them.

        What a set that lies names and shows nobody is not there: a program that needs it is stuck.
        """
        store, (report_objects, sum_objects) = Store(self.path / STORE), self._objects
        close, header, terms = self.rounds[number].close, self.rounds[number].certified.header, self.round_terms[number]
        before = self.rounds[number - 1].certified.header if number else None

        def of(digests: Iterable[Digest]) -> list[bytes]:
            return _present(lambda name: store.get(name, OBJECT_BYTES_MAX), digests)

        reports = _present(
            lambda name: Report.from_bytes(_object(store, report_objects, name), len(terms.seats)), close.reports
        )
        sums = _present(
            lambda name: KeySum.from_bytes(_object(store, sum_objects, name), terms.seat_width),
            (name for _, name in header.key_sums),
        )
        ciphertexts = of(report.ciphertext for report in reports)
        states = [EMPTY_STATE] if before is None else of([before.model])
        if self.task.quality is not None:
            states += of([header.model])
            for data in self.rounds[number].records:
                with suppress(CollegiumError):  # a quorum that lies may order anything
                    states += [part for part in split_steward_record(data) if part]
        if self.task.pay is not None and before is not None:
            with suppress(CollegiumError):  # what earlier rounds name may be shown nobody
                paid = earnings_after(self.path, self.task.pay, self.rounds, len(terms.seats), number - 1)
                states += rewards_tree(self.task.pay.lines(paid))
        if close.reports and len(ciphertexts) == len(close.reports):
            with suppress(CollegiumError):  # a header that lies may name anything
                masked = (aggregation.decode_ciphertext(terms.layout, data) for data in ciphertexts)
                total = aggregation.weighted_total(masked, close.weights)
                by_seat = {key_sum.seat: key_sum for key_sum in sums if key_sum.seat < len(terms.seats)}
                states.append(total_bytes(aggregation.open_sum(terms, by_seat, total, sum(close.weights)).total))
        made = round_messages(header, before, close, terms, reports, ciphertexts, sums, states)
        proofs = of(report.proof for report in reports if report.proof != bytes(32))
        registrations = of(report.registration for report in reports if report.registration != bytes(32))
        return (*made, *proof_messages(reports, proofs, registrations), *self.terms.messages)


def earnings_after(path: Path, pay: PayRule, rounds: Sequence[OrderedRound], seats: int, number: int) -> bytes:
    """Return what all trainers have earned by a round: what comes with its header, if that is what the header says.

    A set that lies may send anything along with a right header, so that nobody could open what it says in the next one,
    nor claim what it earned. Then it is what rounds add to the last header that came with what it says.

    Args:
        path: the folder of the run.
        seats: of a committee.

    Raises:
        CollegiumError: an object that a round names is not in the record.
    """
    known = number
    while known >= 0 and not _says_what_comes(pay, rounds[known].certified.header):
        known -= 1
    paid = pay.first() if known < 0 else rounds[known].certified.header.paid
    if known == number:
        return paid
    store, objects = Store(path / STORE), dict(decode_index(_read(path, OBJECTS)).reports)
    state = EMPTY_STATE if known < 0 else store.get(rounds[known].certified.header.model, OBJECT_BYTES_MAX)
    for ordered in rounds[known + 1 : number + 1]:
        close, header = ordered.close, ordered.certified.header
        if header.outcome == "opened":
            before, state = state, store.get(header.model, OBJECT_BYTES_MAX)
            named = [name for name, weight in zip(close.reports, close.weights, strict=True) if weight]
            added = [Report.from_bytes(_object(store, objects, name), seats).trainer for name in named]
            paid = pay.after(header.round, paid, added, before, state)
    return paid


def _says_what_comes(pay: PayRule, header: Header) -> bool:
    with suppress(CollegiumError):
        return pay.digest(header.paid) == header.rewards
    return False


def read_public_record(path: Path) -> PublicRecord:
    """Read the record of a run from its folder.

    Raises:
        WorkTermsError: the programs do not hold for such a task.
        CollegiumError: a file is malformed.
    """
    genesis = decode_genesis(_read(path, GENESIS))
    experiment = experiment_from_bytes(genesis.experiment)
    task = build_task(genesis, experiment)
    terms = work_terms(genesis, experiment, task)
    epochs = epochs_of(genesis, experiment.committee)
    ordered = ordered_epochs(epochs, sha256(genesis.beacon).digest(), decode_segments(_read(path, LEDGER)))
    rounds = tuple(entry for epoch in ordered for entry in epoch.rounds)
    later = [epochs.terms_after(task, entry.certified.header) for entry in rounds[:-1]]
    return PublicRecord(path, task, terms, rounds, (terms.first, *later))


def _present(get: Callable[[Digest], T], names: Iterable[Digest]) -> list[T]:
    """Return what there is of what is named."""
    found = list[T]()
    for name in names:
        with suppress(CollegiumError):
            found.append(get(name))
    return found


def _object(store: Store, index: Mapping[Digest, Digest], name: Digest) -> bytes:
    if name not in index:
        raise LedgerError(f"{name.hex()} is not among the record's objects", name=name)
    return store.get(index[name], OBJECT_BYTES_MAX)


def _read(path: Path, name: str) -> bytes:
    file = path / name
    if file.stat().st_size > FILE_BYTES_MAX:
        raise LedgerError(f"{name} has {file.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
    return file.read_bytes()
