"""Watching a task's checkpoints: recompute what each header says, and dispute at the base chain what does not hold.

The folder of a run is the public record that its committee published. Nothing in it is believed: which headers are
under a checkpoint the chain says, what they should say is computed here. The first wrong header is disputed: all that
comes after stands on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import KeySum, OpenedSum, Report, RoundTerms
from collegium.consensus import (
    Close,
    Header,
    Outcome,
    WeighedReport,
    check_round_records,
    model_after,
    report_weights,
    total_bytes,
)
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.lineage import MissingObjectError, Store
from collegium.settlement import (
    Account,
    Checkpoint,
    Deployment,
    HeaderPlace,
    JsonRpcChain,
    ModelStepTrace,
    MoneySite,
    SlashingSite,
    StepRule,
    attach,
    header_proof,
    header_root,
    model_step_trace,
    read_checkpoints,
    step_rule,
)

from ._base_chain import numbers_of
from ._chain_record import decode_chain_record, record_on
from ._epoch_ledger import ordered_epochs
from ._epochs import Epochs, epochs_of
from ._evidence import RunEvidence, decode_run_evidence
from ._experiment import Experiment, experiment_from_bytes
from ._genesis import Genesis, decode_genesis, first_terms
from ._ledger import OrderedRound, decode_index, decode_segments
from ._opened_rows import Remeasured, decode_opened_rows
from ._pay import first_difference
from ._public_work import earnings_after
from ._quality import QualityRule
from ._run_files import CHAIN, EVIDENCE, GENESIS, LEDGER, OBJECTS, OPENED_ROWS, STORE
from ._setup import build_task
from ._task import EMPTY_STATE, LearningTask

__all__ = [
    "POLL_S",
    "Finding",
    "NotInRecordError",
    "NotOnANodeError",
    "Player",
    "RecordMismatchError",
    "Say",
    "WatchedRun",
    "Work",
    "digests_under",
    "load_watched",
    "model_trace_of",
    "recompute",
    "steward_fault",
    "unlinked",
    "watch",
]

POLL_S = 12.0  # a block of the base chain
OBJECT_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 1 << 30

Say = Callable[[str], None]
Work: TypeAlias = Literal[
    "weights",
    "outcome",
    "opened total",
    "kept model",
    "model step",
    "first model",
    "quality",
    "records",
    "rewards",
    "previous",
    "withheld",
]
IntArray = npt.NDArray[np.int64]


class NotOnANodeError(CollegiumError):
    """A run settled on the chain inside its own process, where nobody but its operator can dispute anything."""


class RecordMismatchError(CollegiumError):
    """The folder is not the record of what the chain holds: headers or objects are missing or others."""


class NotInRecordError(RecordMismatchError):
    """The folder's index names no object for what a round names."""


@dataclass(frozen=True)
class Player:
    """Who plays a dispute: an account that pays, to whom each move is told, and how time passes between two looks."""

    account: Account
    say: Say
    wait: Callable[[], None] = lambda: time.sleep(POLL_S)


@dataclass(frozen=True)
class Finding:
    """A header that is not what its public work gives.

    Attributes:
        work: which kind of it: a court hears some kinds; "previous": it rests on another header than the one that
            stands before it, which no court hears; "withheld": the record does not show what it takes to say.
        what: which part is wrong, in words.
        trace: of a model step.
    """

    round: int
    work: Work
    what: str
    trace: ModelStepTrace | None = None


@dataclass(frozen=True)
class WatchedRun:
    """The public record of a run, and where it settles.

    Attributes:
        terms: each round's own.
        site: where stakes can be taken and which court is asked; None in a task that was founded without.
        numbers: members of the chain's registry, by account.
        evidence: what members signed by themselves that can cost them their stakes.
        money: where its trainers are paid on this chain; None if nobody is.
    """

    path: Path
    genesis: Genesis
    experiment: Experiment
    task: LearningTask
    rounds: tuple[OrderedRound, ...]
    terms: tuple[RoundTerms, ...]
    url: str
    deployment: Deployment
    epochs: Epochs
    site: SlashingSite | None
    numbers: Mapping[bytes, int]
    evidence: RunEvidence | None
    money: MoneySite | None = None

    @property
    def rule(self) -> StepRule:
        """The task's rule as a court holds it."""
        return step_rule(self.task.spec, self.task.rule, self.task.layout(0).entries)

    @cached_property
    def headers(self) -> list[Header]:
        """The headers, in order."""
        return [ordered.certified.header for ordered in self.rounds]

    @cached_property
    def objects(self) -> tuple[dict[Digest, Digest], dict[Digest, Digest]]:
        """In the record's store, the digests of reports by id and of key sums by digest."""
        index = decode_index(_read(self.path, OBJECTS))
        return dict(index.reports), dict(index.key_sums)

    @cached_property
    def remeasured(self) -> Remeasured | None:
        """What measures models again on the stewards' shards that have retired; None where none are open.

        Raises:
            CollegiumError: the opened rows are malformed, or not those that their stewards committed to.
        """
        settings = self.experiment.stewards
        if settings is None or not (self.path / OPENED_ROWS).exists():
            return None
        shards, label = settings.shards(self.experiment.task.rounds), self.experiment.data.label
        rows = decode_opened_rows(_read(self.path, OPENED_ROWS), self.genesis, label, shards)
        return Remeasured(rows, settings.shard_rounds)


def load_watched(path: Path, url: str | None = None, chain: int = 0) -> WatchedRun:
    """Read a run's record; `url` is a node to ask instead of the one that the run used.

    Args:
        chain: the number of a chain that follows, to watch the same headers there; 0: the home.

    Raises:
        ChainRecordError: no chain that follows has this number.
        NotOnANodeError: it settled in its own process.
        CollegiumError: a file is malformed.
    """
    genesis = decode_genesis(_read(path, GENESIS))
    experiment = experiment_from_bytes(genesis.experiment)
    task = build_task(genesis, experiment)
    epochs = epochs_of(genesis, experiment.committee)
    ordered = ordered_epochs(epochs, sha256(genesis.beacon).digest(), decode_segments(_read(path, LEDGER)))
    rounds = tuple(entry for epoch in ordered for entry in epoch.rounds)
    record = record_on(decode_chain_record(_read(path, CHAIN)), chain)
    node = url or record.url
    if node is None:
        raise NotOnANodeError(f"{path} settled on the chain in its own process: `collegium verify` executes it again")
    headers = [entry.certified.header for entry in rounds[:-1]]
    terms = [first_terms(genesis, task, experiment.committee.seats, EMPTY_STATE)]
    terms += [epochs.terms_after(task, header) for header in headers]
    staking = experiment.chain.staking(account for account, _ in genesis.trainers) if chain == 0 else []
    evidence = decode_run_evidence(_read(path, EVIDENCE)) if experiment.chain.courts else None
    numbers = numbers_of(genesis.epoch_set, staking)
    stakes = (epochs, record.stakes_site, numbers, evidence)
    money = None if record.paying is None else record.paying.site
    return WatchedRun(path, genesis, experiment, task, rounds, tuple(terms), node, record.deployment, *stakes, money)


def watch(
    run: WatchedRun, say: Say, known: set[Digest] | None = None, *, demand: bool = False
) -> tuple[Finding, HeaderPlace] | None:
    """Recompute all rounds under accepted checkpoints; return the first wrong header and where it stands.

    Args:
        known: checkpoints that hold, and need not be looked at again; those that are found to hold are added.
        demand: take an object that is not there for one that is withheld, and its round for a finding.

    Raises:
        MissingObjectError, NotInRecordError: an object is not there, and `demand` is not set.
        RecordMismatchError: the chain holds other headers, or an object is not what its name says.
    """
    chain = JsonRpcChain(run.url)
    deployment = attach(chain, run.deployment.settlement, run.deployment.block)
    held = set[Digest]() if known is None else known
    for checkpoint in read_checkpoints(chain, deployment):
        if checkpoint.digest in held:
            continue
        digests = digests_under(run, checkpoint)
        say(f"checkpoint of rounds {checkpoint.first_round}-{checkpoint.last_round}: {checkpoint.digest.hex()[:16]}")
        for number in range(checkpoint.first_round, checkpoint.last_round + 1):
            finding = unlinked(run, number) or (_shown(run, number) if demand else recompute(run, number))
            if finding is None:
                say(f"round {number}: sum, opening and model are what the record gives")
                fault = steward_fault(run, number)
                if fault is not None:
                    say(f"round {number}: {fault}; the header follows from it, and no court hears it")
                continue
            say(f"round {number}: {finding.what}")
            index = number - checkpoint.first_round
            return finding, HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))
        held.add(checkpoint.digest)
    return None


def unlinked(run: WatchedRun, number: int) -> Finding | None:
    """Return that a header rests on another one than stands before it: a hidden one, which nobody can dispute."""
    if number == 0 or run.headers[number].previous == run.headers[number - 1].digest:
        return None
    named, stands = run.headers[number].previous.hex()[:16], run.headers[number - 1].digest.hex()[:16]
    return Finding(number, "previous", f"the header rests on {named}, and {stands} stands before it")


def steward_fault(run: WatchedRun, number: int) -> str | None:
    """Return which of a round's records does not say what it should, as far as rows are open or proofs are there.

    Raises:
        MissingObjectError: the model before the round is not in the record.
    """
    quality, records = run.task.quality, run.rounds[number].records
    if quality is None or not records:
        return None
    model = Store(run.path / STORE).get(run.headers[number - 1].model, OBJECT_BYTES_MAX)
    try:
        check_round_records(quality, number, model, records)
        if run.remeasured is not None:
            run.remeasured.check(run.task, number, run.task.decode_state(model), records)
    except CollegiumError as error:
        return str(error)
    return None


def _shown(run: WatchedRun, number: int) -> Finding | None:
    """Do a round's public work again; what the record lacks for it is a finding."""
    try:
        return recompute(run, number)
    except (MissingObjectError, NotInRecordError) as error:
        return Finding(number, "withheld", f"the record does not show all that the round names: {error}")


@dataclass(frozen=True)
class _Public:
    """What a round publishes, and what its public work gives."""

    weights: tuple[int | None, ...]  # None: of a trainer that may not report in this round
    outcome: Outcome
    opened: OpenedSum | None
    before: bytes
    after: bytes
    added: tuple[bytes, ...] = ()  # whose reports are in the sum


def recompute(run: WatchedRun, number: int) -> Finding | None:
    """Do a round's public work again; None where its header says the same. What comes first in the work is named.

    Raises:
        RecordMismatchError: an object that the round names is not in the record.
    """
    header, public = run.headers[number], _recompute(run, number)
    wrong = _wrong_sum(run.rounds[number].close, header, public)
    if wrong is not None:
        return Finding(number, *wrong)
    if public.opened is not None:
        found = _recompute_step(run, number, public, public.opened.total)
        return found or _false_record(run, number, public.before) or _wrong_rewards(run, number, public)
    if public.outcome == "invalid" and (found := _false_record(run, number, public.before)) is not None:
        return found
    if number and header.model != run.headers[number - 1].model:
        return Finding(number, "kept model", f"a round that is {header.outcome} changes the model")
    return _wrong_rewards(run, number, public)


def _false_record(run: WatchedRun, number: int, before: bytes) -> Finding | None:
    """Return which record a header counts that does not prove what it says, in a task whose records are proved."""
    quality = run.task.quality
    if number == 0 or quality is None or quality.proving is None:
        return None
    try:
        check_round_records(quality, number, before, run.rounds[number].records)
    except CollegiumError as error:
        return Finding(number, "records", f"a record counts that does not hold: {error}")
    return None


def _wrong_rewards(run: WatchedRun, number: int, public: _Public) -> Finding | None:
    """Return whose earnings are not what the round gives, after those that the header before says."""
    pay, header = run.task.pay, run.headers[number]
    if pay is None:
        return None
    seats = len(run.terms[0].seats)
    paid = earnings_after(run.path, pay, run.rounds, seats, number - 1) if number else pay.first()
    if public.outcome == "opened":
        paid = pay.after(number, paid, public.added, public.before, public.after)
    if pay.digest(paid) == header.rewards:
        return None
    what = "what it says of rewards is not the root over what comes with it"
    with suppress(CollegiumError):
        if pay.digest(header.paid) == header.rewards:
            what = first_difference(pay, header.paid, paid)
    return Finding(number, "rewards", what)


def _wrong_sum(close: Close, header: Header, public: _Public) -> tuple[Work, str] | None:
    """Return what is wrong before the model: weights, outcome, the opened sum, or whose key sums were left out."""
    if public.weights != close.weights:  # "None" is said of a report of somebody who may not report
        return "weights", f"the reports' weights are {list(public.weights)}, the close has {list(close.weights)}"
    if public.outcome != header.outcome:
        return "outcome", f"the round is {public.outcome}, the header calls it {header.outcome}"
    if public.opened is None:
        return None
    if sha256(total_bytes(public.opened.total)).digest() != header.total:
        return "opened total", "the opened sum is not that of the admitted reports"
    if public.opened.lying != header.lying:
        wrong = f"seats {list(public.opened.lying)} published wrong sums"
        return "opened total", f"{wrong}, the header says {list(header.lying)}"
    return None


def _recompute(run: WatchedRun, number: int) -> _Public:
    close, header, terms = run.rounds[number].close, run.headers[number], run.terms[number]
    store = Store(run.path / STORE)
    before = EMPTY_STATE if number == 0 else store.get(run.headers[number - 1].model, OBJECT_BYTES_MAX)
    if not close.reports:
        return _Public((), "skipped", None, before, before)
    reports = _reports(run, store, close, terms)
    weights = _weights(run, number, before, reports)
    layout = terms.layout
    ciphertexts = (
        aggregation.decode_ciphertext(layout, store.get(report.ciphertext, OBJECT_BYTES_MAX)) for report in reports
    )
    total, key_sums = aggregation.weighted_total(ciphertexts, close.weights), _key_sums(run, store, header, terms)
    try:
        opened = aggregation.open_sum(terms, key_sums, total, sum(close.weights))
        after = _model_after(run, store, number, before, opened.total, reports)
    except aggregation.SumLostError:
        return _Public(weights, "lost", None, before, before)
    except CollegiumError:
        return _Public(weights, "invalid", None, before, before)
    added = tuple(report.trainer for report, weight in zip(reports, close.weights, strict=True) if weight)
    return _Public(weights, "opened", opened, before, after, added)


def _weights(run: WatchedRun, number: int, before: bytes, reports: Sequence[Report]) -> tuple[int | None, ...]:
    """Return what a round's reports weigh; None for a report of a trainer that is not drawn for the round."""
    quality, terms = run.task.quality, run.terms[number]
    entry = None if quality is None else quality.entry(number, before, terms.beacon)
    if entry is None:
        return report_weights(terms, None, reports)
    return tuple(entry.weights.get(report.trainer) for report in reports)


def _model_after(
    run: WatchedRun, store: Store, number: int, before: bytes, total: IntArray, reports: Sequence[Report]
) -> bytes:
    """Return the model state after a round; where reports weigh by quality, with what their proofs say of them."""
    ordered, quality, terms = run.rounds[number], run.task.quality, run.terms[number]
    if quality is None:
        return model_after(run.task, terms, before, total)
    proofs = (b"" if r.proof == bytes(32) else store.get(r.proof, OBJECT_BYTES_MAX) for r in reports)
    weighed = [WeighedReport(*entry) for entry in zip(reports, ordered.close.weights, proofs, strict=True)]
    return model_after(run.task, terms, before, total, (quality, weighed, ordered.records))


def _recompute_step(run: WatchedRun, number: int, public: _Public, total: IntArray) -> Finding | None:
    claimed, task = run.headers[number].model, run.task
    right = sha256(public.after).digest()
    if number == 0:
        return None if right == claimed else Finding(0, "first model", "the first model is not the one drawn")
    if task.quality is not None:  # no trace: the courts of a model's step alone read no state of quality
        return None if right == claimed else _wrong_state(run, number, task.quality, public.after)
    trace = model_step_trace(task.spec, task.rule, task.layout(0).entries, total_bytes(total), public.before, claimed)
    if trace.fault is None:
        return None
    what = f"the model is not what the step gives: {claimed.hex()[:16]}, computed {trace.made.hex()[:16]}"
    return Finding(number, "model step", what, trace)


def _wrong_state(run: WatchedRun, number: int, quality: QualityRule, right: bytes) -> Finding:
    """Return which part of a model state is not what the round gives: parameters, or what it says of quality."""
    claimed, begin, state = run.headers[number].model, len(right) - quality.state_bytes, b""
    with suppress(CollegiumError):  # a set that lies may show it nobody
        state = Store(run.path / STORE).get(claimed, OBJECT_BYTES_MAX)
    if state[:begin] == right[:begin] and len(state) == len(right):
        what = f"scores, standings, weights or direction are not what the round gives: {claimed.hex()[:16]}"
        return Finding(number, "quality", what)
    what = f"the model state is not what the step gives: {claimed.hex()[:16]}"
    return Finding(number, "model step", what)


def model_trace_of(run: WatchedRun, number: int) -> ModelStepTrace | None:
    """Return the trace of an opened round's model step, from the published objects; None where there is no such step.

    Raises:
        CollegiumError: an object is not in the record.
    """
    if number == 0 or run.headers[number].outcome != "opened":
        return None
    public, task = _recompute(run, number), run.task
    if public.opened is None or task.quality is not None:
        return None
    objects = (total_bytes(public.opened.total), public.before, run.headers[number].model)
    return model_step_trace(task.spec, task.rule, task.layout(0).entries, *objects)


def _reports(run: WatchedRun, store: Store, close: Close, terms: RoundTerms) -> list[Report]:
    """Return the admitted reports."""
    found = []
    for name in close.reports:
        report = Report.from_bytes(_object(store, run.objects[0], name), len(terms.seats))
        if report.id != name:
            raise RecordMismatchError(f"object of report {name.hex()} is report {report.id.hex()}", report=name)
        found.append(report)
    return found


def _key_sums(run: WatchedRun, store: Store, header: Header, terms: RoundTerms) -> dict[int, KeySum]:
    """Return the key sums that the header names, by seat."""
    key_sums = {}
    for seat, digest in header.key_sums:
        key_sum = KeySum.from_bytes(_object(store, run.objects[1], digest), terms.seat_width)
        if (key_sum.seat, key_sum.digest) != (seat, digest):
            raise RecordMismatchError(f"object of key sum {digest.hex()} is another", digest=digest)
        key_sums[seat] = key_sum
    return key_sums


def _object(store: Store, index: dict[Digest, Digest], name: Digest) -> bytes:
    if name not in index:
        raise NotInRecordError(f"{name.hex()} is not among the record's objects", name=name)
    return store.get(index[name], OBJECT_BYTES_MAX)


def digests_under(run: WatchedRun, checkpoint: Checkpoint) -> Sequence[Digest]:
    """Return the digests of a checkpoint's headers, which the record must hold."""
    digests = [header.digest for header in run.headers[checkpoint.first_round : checkpoint.last_round + 1]]
    rounds = f"rounds {checkpoint.first_round}-{checkpoint.last_round}"
    if len(digests) != checkpoint.last_round - checkpoint.first_round + 1 or header_root(digests) != checkpoint.root:
        raise RecordMismatchError(f"the chain has accepted other headers for {rounds} than {run.path} holds")
    return digests


def _read(path: Path, name: str) -> bytes:
    file = path / name
    if file.stat().st_size > FILE_BYTES_MAX:
        raise RecordMismatchError(f"{name} has {file.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
    return file.read_bytes()
