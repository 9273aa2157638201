"""An independent check of a run from its folder alone, in the order in which trust is built up.

  1. files        every raw file is hashed against the manifest before anything is decoded
  2. genesis      every key is possessed by who names it; the beacon's group key follows from a dealing of each
  3. order        every block, leader, certificate; what is final is what the ledger says; where epochs end, every
                  record of their changes, and each epoch from the genesis that the handover before it gives
  4. rounds       every registration and proof, verified; every report, receipt, key sum, opening, model step, beacon
                  and committee certificate, redone
  5. chain        every checkpoint certificate; on the embedded chain every transaction, executed again
  6. statement    the operator's signature on what cannot be derived
  7. derived      lineage, summary and page made again and compared

Everything here raises a named error at the first thing that does not hold; `verify_run` turns it into a verdict.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from collegium import aggregation
from collegium.aggregation import KeySum, RoundTerms
from collegium.consensus import (
    Announcement,
    Close,
    EpochSet,
    Header,
    Held,
    ProposalRefusedError,
    Registries,
    RegistryRoot,
    assign_seats,
    check_announcement,
    check_certified,
    check_close,
    check_paid,
    paid_after,
    total_digest,
)
from collegium.crypto import Digest, ThresholdBeacon
from collegium.errors import CollegiumError
from collegium.lineage import Store, same_database
from collegium.settlement import Checkpoint, header_root

from ._audit import (
    OBJECT_BYTES_MAX,
    Audit,
    DerivedFileError,
    FailingProofError,
    check_proofs,
    check_publishing,
    check_records,
    open_sum,
    require_proved,
    stored_reports,
    stored_sums,
)
from ._chain_check import Founded, check_chain, founded_as
from ._chain_record import ChainRecord, decode_chain_record
from ._chain_settings import ChainSettings
from ._chain_terms import HOME
from ._consents import consents_of, withdrawn_by_round
from ._epoch_ledger import OrderedEpoch, ordered_epochs
from ._epochs import Epochs, epochs_of
from ._events import Event, VerifyProgress
from ._evidence import EvidenceError, check_votes, decode_run_evidence, deed_of
from ._experiment import Experiment, experiment_from_bytes
from ._genesis import Genesis, check_genesis, decode_genesis, first_terms, open_beacon
from ._ledger import LedgerError, ObjectIndex, OrderedRound, decode_index, decode_segments
from ._manifest import check_manifest
from ._opened_rows import OpenedRowsError, Remeasured, decode_opened_rows
from ._pay import first_difference
from ._quality_facts import check_quality
from ._registries import registries_by_round
from ._run_files import (
    CHAIN,
    EVIDENCE,
    FILES,
    GENESIS,
    LEDGER,
    LINEAGE,
    OBJECTS,
    OPENED_ROWS,
    PAGE,
    STATEMENT,
    STORE,
    SUMMARY,
    RenderPage,
    encode_summary,
    summary_of,
)
from ._setup import build_task
from ._sharded_audit import check_sharded_rounds
from ._sharded_ledger import ShardedRound, sharded_rounds
from ._statement import Statement, StatementError, check_statement, decode_statement
from ._task import EMPTY_STATE, LearningTask
from ._trace import write_lineage
from ._verify_ahead import lasts
from ._workers import Workers

__all__ = ["AnchorError", "DerivedFileError", "FailingProofError", "Verification", "verify_run"]

_OBJECT = re.compile(rf"{STORE}/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}")


class WithdrawnConsentError(CollegiumError):
    """A round uses data for which consent was taken back."""


class AnchorError(CollegiumError):
    """A run is another one than the anchor says."""


@dataclass(frozen=True)
class Verification:
    """The verdict on a run.

    Attributes:
        ok: everything that was checked holds.
        anchored: the run was compared with an anchor from elsewhere; else it is only consistent with itself.
        checks: what was checked, one line each.
        unchecked: what nobody can check from these files, one line each.
        failure: the first thing that does not hold.
        summary: the run's summary, empty when something failed.
    """

    ok: bool
    anchored: bool
    checks: tuple[str, ...]
    unchecked: tuple[str, ...]
    failure: str | None
    summary: dict[str, object]


UNPROVED = {
    "unproved": "proof of learning: at level unproved nothing shows that an update came from the rule or real data",
    "bounded": "proof of learning: at level bounded nothing shows that an update came from the rule or real data",
    "attested": "proof of learning: that the measured code computed the rule, on real rows, rests on its hardware's "
    "makers and on who listed its measurements",
    "proved": "data: that the registered rows are real, their labels true, and each registered once",
}
UNCHECKED = (
    "scores: only the evaluator has the test rows",
    "times and energy: measured by the operator, not measurable again",
    "that sealed columns and round keys were erased",
)


def verify_run(
    path: Path, anchor: str | None, on_event: Callable[[Event], None], render_page: RenderPage
) -> Verification:
    """Check a run's folder and return the verdict; never raises on what the files hold.

    Args:
        path: the run's folder.
        anchor: hexadecimal digest of task, genesis and first epoch set, from somebody one trusts; None for none.
        on_event: is told of progress.
        render_page: makes the page of a summary.
    """
    audit = Audit(path, on_event)
    try:
        summary = _verify(audit, anchor, render_page)
    except CollegiumError as error:
        return Verification(False, False, tuple(audit.checks), (), f"{audit.stage}: {error}", {})
    except (OSError, MemoryError) as error:
        return Verification(False, False, tuple(audit.checks), (), f"{audit.stage}: cannot be read: {error}", {})
    except Exception as error:  # hostile bytes found a hole in a check: still no verdict but a refusal
        reason = f"{audit.stage}: unforeseen {type(error).__name__}: {error}"
        return Verification(False, False, tuple(audit.checks), (), reason, {})
    unchecked = (UNPROVED[str(summary["level"])], *UNCHECKED, *audit.unchecked)
    return Verification(True, anchor is not None, tuple(audit.checks), unchecked, None, summary)


def _verify(audit: Audit, anchor: str | None, render_page: RenderPage) -> dict[str, object]:
    # 1. files
    present = check_manifest(audit.path)
    _check_names(present)
    audit.passed(f"files: {len(present)} files are the ones in the manifest")
    # 2. genesis
    genesis = decode_genesis(audit.read(GENESIS))
    if anchor is not None and anchor.lower() != genesis.anchor.hex():
        raise AnchorError(f"this run's anchor is {genesis.anchor.hex()}, expected {anchor.lower()}")
    experiment = experiment_from_bytes(genesis.experiment)
    if experiment.chain.courts != (EVIDENCE in present):
        has = "is missing" if experiment.chain.courts else "is there"
        raise DerivedFileError(f"{EVIDENCE} {has}, which a run has where its task has courts")
    _open_rows(audit, genesis, experiment, present)
    task = build_task(genesis, experiment)
    seats = experiment.committee.seats
    beacon = open_beacon(genesis)
    check_genesis(genesis, beacon, experiment.committee.validators)
    audit.passed(
        f"genesis: {len(genesis.validators)} keys proved, the beacon's group key follows from one dealing of each"
    )
    # 3. order
    epochs, rounds, sharded, beside = _check_order(audit, genesis, experiment)
    # 4. rounds
    index = decode_index(audit.read(OBJECTS))
    with Workers() as workers:
        if sharded:
            check_sharded_rounds(audit, genesis, task, beacon, experiment.committee, sharded, index, workers)
        else:
            office = _Office(epochs, beacon, beside)
            _check_rounds(audit, genesis, task, office, seats, rounds, index, workers)
    audit.passed(f"rounds: {len(audit.reports)} reports, their receipts, key sums, openings and model steps redone")
    _say_proofs(audit, experiment)
    everything: Sequence[OrderedRound | ShardedRound] = sharded or rounds
    # 5. chain
    record = decode_chain_record(audit.read(CHAIN))
    stakes = founded_as(genesis, experiment, task, beside.seen)
    _check_chain(audit, genesis, experiment.chain, record, everything, epochs, stakes)
    if experiment.chain.courts:
        _check_evidence(audit, epochs, rounds)
    # 6. statement
    statement = decode_statement(audit.read(STATEMENT))
    check_statement(statement, genesis.task, everything[-1].certified.header.digest, genesis.operator)
    _check_subjects(statement, genesis, len(everything))
    audit.passed("statement: signed by the operator of the genesis")
    # 7. derived
    sizes = [audit.proof_bytes[number] for number in range(len(everything))]
    summary = summary_of(
        experiment, genesis, task, everything, sizes, epochs, record, statement, Store(audit.path / STORE)
    )
    _check_derived(audit, SUMMARY, encode_summary(summary))
    _check_derived(audit, PAGE, render_page(summary).encode())
    _check_lineage(audit, genesis, everything, record.checkpoints)
    _check_no_more(audit, index, present)
    return summary


def _say_proofs(audit: Audit, experiment: Experiment) -> None:
    """Say what was proved of records and reports, and verified."""
    if experiment.stewards is not None and experiment.stewards.proved:
        audit.passed(f"stewards: {audit.records} records, each proved on the rows that its steward registered")
    if experiment.attestation is not None:
        policy, at = experiment.attestation.policy.digest.hex()[:16], experiment.attestation.time
        audit.passed(f"proofs: {audit.proofs} attestations verified under policy {policy} at Unix time {at}")
    elif experiment.task.level != "unproved":
        names = {report.registration for report in audit.reports.values()} - {bytes(32)}
        level = experiment.task.level
        audit.passed(f"proofs: {audit.proofs} of level {level} verified, and {len(names)} registrations of data")


def _open_rows(audit: Audit, genesis: Genesis, experiment: Experiment, present: Sequence[str]) -> None:
    """Take the stewards' rows, where they opened them, after comparing them with the genesis."""
    settings = experiment.stewards
    opened = settings is not None and settings.open
    if opened != (OPENED_ROWS in present):
        has = "is missing" if opened else "is there"
        raise DerivedFileError(f"{OPENED_ROWS} {has}, which a run has where its stewards open their rows")
    if settings is not None and settings.open:
        shards = settings.shards(experiment.task.rounds)
        rows = decode_opened_rows(audit.read(OPENED_ROWS), genesis, experiment.data.label, shards)
        if len(rows) != shards * settings.count:
            raise OpenedRowsError(
                f"{len(rows)} shards of {settings.count} stewards are open, expected {shards} of each: the task is over"
            )
        audit.remeasured = Remeasured(rows, settings.shard_rounds)
        of_shards = f", {shards} shards each," if shards > 1 else ""
        audit.passed(
            f"{OPENED_ROWS}: the rows of {settings.count} stewards{of_shards} are those that they committed to"
        )
    elif settings is not None and not settings.proved:
        audit.unchecked.append(
            "stewards' gradients and scores of models: each is its steward's word; their medians were computed again"
        )


def _check_order(
    audit: Audit, genesis: Genesis, experiment: Experiment
) -> tuple[Epochs, tuple[OrderedRound, ...], tuple[ShardedRound, ...], _Beside]:
    """Check the ledger from the genesis on, from handover to handover; return the epochs and all rounds.

    Those with one committee, or those with shards: a run has rounds of one kind. With them what was said beside rounds.
    """
    segments = decode_segments(audit.read(LEDGER))
    epochs = epochs_of(genesis, experiment.committee)
    ordered: tuple[OrderedEpoch, ...] = ()
    sharded: tuple[ShardedRound, ...] = ()
    beside = _Beside()
    if experiment.committee.shards > 1:
        sharded = sharded_rounds(genesis.epoch_set, segments, experiment.committee.shards)
    else:
        ordered = ordered_epochs(epochs, sha256(genesis.beacon).digest(), segments)
        witnesses = [entry.known.epoch_set for entry in ordered] if experiment.chain.followers else []
        beside = _Beside(
            withdrawn_by_round(consents_of(genesis, experiment.licences), segments),
            registries_by_round(witnesses, segments),
        )
    rounds = tuple(entry for epoch in ordered for entry in epoch.rounds)
    count = len(rounds) + len(sharded)
    if count != experiment.task.rounds + 1:
        raise LedgerError(f"the ledger holds {count} rounds, the experiment has {experiment.task.rounds + 1}")
    blocks = sum(len(segment.blocks) for segment in segments)
    audit.passed(f"order: {blocks} blocks, each certified by more than two thirds, all final")
    if epochs.plan is not None:
        sizes = ", ".join(str(epoch.known.epoch_set.size) for epoch in ordered)
        audit.passed(
            f"epochs: {len(ordered)} of {sizes} validators; {len(epochs.known) - 1} handovers final under the set that "
            "they end, each what its tickets, dealings and verdicts give"
        )
    if beside.withdrawn and beside.withdrawn[-1]:
        audit.passed(f"consents: taken back for {len(beside.withdrawn[-1])} trainers, each by its licence's holder")
    return epochs, rounds, sharded, beside


@dataclass(frozen=True)
class _Beside:
    """What a ledger says beside rounds, by round: whose data it may not use, and what its chains hold."""

    withdrawn: Sequence[frozenset[bytes]] = ()
    registries: Sequence[Registries] = ()

    @property
    def seen(self) -> frozenset[RegistryRoot]:
        """All that headers say chains held."""
        return frozenset(entry for state in self.registries for entry in state.in_force)


@dataclass(frozen=True)
class _Office:
    """Who is in office in each round, under which beacon key, and what was said beside rounds."""

    epochs: Epochs
    first: ThresholdBeacon  # of the genesis
    beside: _Beside

    def set_of(self, number: int) -> EpochSet:
        """Return the epoch set of a round."""
        return self.epochs.of_round(number).epoch_set

    def check_value(self, number: int, value: bytes) -> None:
        """Check the beacon value that round `number` gives for the round after it."""
        known = self.epochs.of_round(number)
        beacon = self.first if known.group is None else ThresholdBeacon(self.first.task, known.group, None)
        beacon.verify(known.epoch, number + 1, value)

    def keys_after(self, close: Close) -> tuple[Announcement, ...]:
        """Return the sealing keys for the round after a close: its own, in an epoch's last round the handover's."""
        following = self.epochs.of_round(close.round + 1)
        return close.announcements if following is self.epochs.of_round(close.round) else following.keys

    def check_keys(self, task: Digest, header: Header) -> None:
        """Check the sealing keys for the next round: a quorum's, in order, signed; a handover's are checked with it."""
        following = self.epochs.of_round(header.round + 1)
        if following is not self.epochs.of_round(header.round):
            return
        announcing, quorum = [entry.validator for entry in header.announcements], following.epoch_set.quorum
        if any(before >= after for before, after in pairwise(announcing)) or len(announcing) < quorum:
            raise ProposalRefusedError(
                f"sealing keys of validators {announcing}: expected {quorum} or more, increasing"
            )
        for announcement in header.announcements:
            check_announcement(task, following.epoch_set, announcement)
            if announcement.round != header.round + 1:
                raise ProposalRefusedError(f"header {header.round} carries a sealing key of round {announcement.round}")


def _check_rounds(
    audit: Audit,
    genesis: Genesis,
    task: LearningTask,
    office: _Office,
    seats: int,
    rounds: tuple[OrderedRound, ...],
    index: ObjectIndex,
    workers: Workers,
) -> None:
    """Redo every round from the stored reports, proofs and key sums."""
    store = Store(audit.path / STORE)
    reports, key_sums = dict(index.reports), dict(index.key_sums)
    terms, model = first_terms(genesis, task, seats, EMPTY_STATE), EMPTY_STATE
    for ordered in rounds:
        header = ordered.certified.header
        audit.stage = f"round {header.round}"
        if task.level == "unproved":
            audit.on_event(VerifyProgress("rounds", header.round, len(rounds)))
        held = stored_reports(audit, store, reports, ordered.close, terms)
        sums = stored_sums(audit, store, key_sums, header, terms)
        failed = check_proofs(audit, task, terms, model, ordered.close, held, workers)
        if task.level != "unproved":  # what takes the time
            audit.on_event(VerifyProgress("proofs", audit.proofs, sum(len(each.close.reports) for each in rounds)))
        require_proved(header, failed)
        after = _check_round(audit, genesis, task, office, ordered, terms, held, sums, model)
        model = after
        audit.models.add(header.model)
        stored = store.get(header.model, OBJECT_BYTES_MAX)
        if stored != model:
            raise DerivedFileError(f"the stored model of round {header.round} is not the one its step gives")
        terms = office.epochs.terms_after(task, header)
    if task.pay is not None:
        total = sum(task.pay.amounts(audit.paid or task.pay.first()))
        audit.passed(f"rewards: what headers say of earnings follows from the rounds, {total} wei in all")
    audit.on_event(VerifyProgress("rounds", len(rounds), len(rounds)))


def _check_round(
    audit: Audit,
    genesis: Genesis,
    task: LearningTask,
    office: _Office,
    ordered: OrderedRound,
    terms: RoundTerms,
    held: dict[Digest, Held],
    sums: dict[int, KeySum],
    model: bytes,
) -> bytes:
    """Check one round's close, opening, step, header and certificate; return the model after it."""
    work, close, header = audit.work, ordered.close, ordered.certified.header
    work.forget(lasts)
    cohort = {account for account, _ in genesis.trainers}
    for entry in held.values():
        aggregation.check_report(terms, entry.report)
        if entry.report.trainer not in cohort:
            raise ProposalRefusedError(f"trainer {entry.report.trainer.hex()} is not registered")
        if entry.report.trainer in office.beside.withdrawn[close.round]:
            raise WithdrawnConsentError(
                f"round {close.round} adds a report of trainer {entry.report.trainer.hex()}, for whose data consent "
                "was taken back before it",
                trainer=entry.report.trainer,
            )
    known = {report_id: entry.report for report_id, entry in held.items()}
    check_records(task, ordered, model)
    audit.records += len(ordered.records)
    if audit.remeasured is not None and ordered.records:
        audit.remeasured.check(task, close.round, task.decode_state(model), ordered.records)
    drawn = None if task.quality is None else task.quality.entry(close.round, model, terms.beacon)
    check_close(work, terms, close, known, task.cohort_min, task.lying_max, task.may_skip(close.round), drawn)
    check_certified(work, office.set_of(close.round), terms, ordered.certified)
    office.check_value(close.round, header.beacon)
    office.check_keys(genesis.task, header)
    check_publishing(header)
    outcome, opened, after = open_sum(task, close, terms, held, sums, model, ordered.records)
    if (header.outcome, outcome) == ("opened", "opened") and header.model != sha256(after).digest():
        check_quality(task, close.round, Store(audit.path / STORE).get(header.model, OBJECT_BYTES_MAX), after)
    committee = assign_seats(sha256(header.beacon).digest(), office.set_of(close.round + 1), len(terms.seats))
    expected = {
        "level": task.level,
        "close": close.digest,
        "outcome": outcome,
        "total": bytes(32) if opened is None else total_digest(opened.total),
        "lying": () if opened is None else opened.lying,
        "model": sha256(after).digest(),
        "seats": committee,
        "announcements": office.keys_after(close),
        "registries": office.beside.registries[close.round].digest,
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise ProposalRefusedError(f"the header's {name} is {getattr(header, name)!r}, redone it is {value!r}")
    _check_paid(audit, task, header, paid_after(task.pay, audit.paid, close, header.outcome, held, (model, after)))
    return after


def _check_paid(audit: Audit, task: LearningTask, header: Header, paid: bytes) -> None:
    """Check what a header says of earnings, and remember it for the round after it.

    Raises:
        ProposalRefusedError: naming the first trainer that has earned something else.
        PaidRefusedError: what comes with it is not what it says.
    """
    if task.pay is not None and header.paid != paid:
        raise ProposalRefusedError(f"the header's rewards: {first_difference(task.pay, header.paid, paid)}")
    check_paid(task.pay, header)
    audit.paid = paid


def _check_chain(
    audit: Audit,
    genesis: Genesis,
    settings: ChainSettings,
    record: ChainRecord,
    rounds: Sequence[OrderedRound | ShardedRound],
    epochs: Epochs,
    stakes: Founded,
) -> None:
    """Check the chain's record against the certified headers."""
    headers = [ordered.certified.header.digest for ordered in rounds]
    settled = 0
    for checkpoint in record.checkpoints:
        if checkpoint.first_round != settled or not settled <= checkpoint.last_round < len(headers):
            raise LedgerError(f"checkpoint of rounds {checkpoint.first_round}-{checkpoint.last_round} is out of order")
        settled = checkpoint.last_round + 1
        if header_root(headers[checkpoint.first_round : settled]) != checkpoint.root:
            raise LedgerError(f"the checkpoint of round {checkpoint.last_round} is not over the ledger's headers")
    if settled != len(headers):
        raise LedgerError(f"checkpoints settle {settled} rounds of {len(headers)}")
    later = [known for known in epochs.known[1:] if known.first_round < len(headers)]
    check_chain(record, settings.url, genesis.epoch_set, genesis.operator, later, settings.followers, stakes)
    _say_seen(audit, stakes.seen, record)
    _say_chain(audit, "chain", record)
    for place, follower in enumerate(record.followed_by, HOME + 1):
        lag = len(record.checkpoints) - len(follower.checkpoints)
        _say_chain(audit, f"chain {place} that follows{f', {lag} checkpoints behind' if lag else ''}", follower)


def _say_seen(audit: Audit, seen: Collection[RegistryRoot], record: ChainRecord) -> None:
    """Say what was checked of the roots of chains that headers carry."""
    if seen:
        chains = len({entry.chain_id for entry in seen})
        audit.passed(f"registries: {len(seen)} roots of {chains} chains in headers, each signed by a quorum")
    if seen and any(chain.url is not None for chain in (record, *record.followed_by)):
        audit.unchecked.append("roots of registries: what their nodes answered is the word of a quorum of validators")


def _say_chain(audit: Audit, name: str, record: ChainRecord) -> None:
    """Say what was checked of one chain, and what was not."""
    opened = len(record.handed_over)
    relieved = f", {opened} epoch sets put in office by the one before" if opened else ""
    if record.transcript is not None:
        audit.passed(
            f"{name}: {len(record.transcript.transactions)} transactions executed again, "
            f"{len(record.checkpoints)} checkpoints verified by the contract{relieved}{_convicted(record)}"
        )
    else:
        audit.passed(
            f"{name}: certificates of {len(record.checkpoints)} checkpoints verified{relieved}{_convicted(record)}, "
            f"{len(record.sent)} transactions are signed as they must be"
        )
        audit.unchecked.append(
            f"what the node at {record.url} holds, gas, times and block numbers: ask it; nothing was executed again"
        )


def _check_evidence(audit: Audit, epochs: Epochs, rounds: Sequence[OrderedRound]) -> None:
    """Check that whoever is named in the evidence signed it: each vote for a header, each charge."""
    found = decode_run_evidence(audit.read(EVIDENCE))
    if [votes.round for votes in found.votes] != [ordered.close.round for ordered in rounds]:
        raise EvidenceError("votes are not those of the ledger's rounds")
    for votes, ordered in zip(found.votes, rounds, strict=True):
        check_votes(votes, epochs.of_round(votes.round).epoch_set, ordered.certified.header.digest)
    epoch_sets = [known.epoch_set for known in epochs.known]
    deeds = {deed_of(charge, epoch_sets).key for charge in found.charges}
    if len(deeds) != len(found.charges):
        raise EvidenceError("one deed is charged twice")
    count = sum(len(votes.voters) for votes in found.votes)
    audit.passed(f"evidence: {count} votes for headers, each its validator's own; {len(deeds)} charges that hold")
    audit.unchecked.append("that nobody else voted for a header, and that nothing else was signed twice")


def _convicted(record: ChainRecord) -> str:
    taken = sum(found.burned + found.rewarded for found in record.convicted)
    return f", {len(record.convicted)} convictions that took {taken} wei of stakes" if record.convicted else ""


def _check_subjects(statement: Statement, genesis: Genesis, rounds: int) -> None:
    """Check that the statement is about the ledger's rounds and the genesis' sites, and no site has too many rows."""
    if [said.round for said in statement.rounds] != list(range(rounds)):
        raise StatementError("the statement is not about the ledger's rounds")
    if [site.name for site in statement.sites] != list(genesis.sites):
        raise StatementError("the statement is not about the sites of the genesis' trainers")
    for site in statement.sites:
        rows_max = genesis.rows_max * genesis.sites[site.name]
        if site.train_rows > rows_max:
            raise StatementError(f"a site has {site.train_rows} training rows, its trainers at most {rows_max}")


def _check_derived(audit: Audit, name: str, expected: bytes) -> None:
    """Compare a file with what the others give."""
    found = audit.read(name)
    if found != expected:
        at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(expected))
        raise DerivedFileError(f"{name} differs from what the run gives, first at byte {at}")
    audit.passed(f"{name}: made again, equal")


def _check_lineage(
    audit: Audit, genesis: Genesis, rounds: Sequence[OrderedRound | ShardedRound], checkpoints: Sequence[Checkpoint]
) -> None:
    audit.stage = LINEAGE
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / LINEAGE
        write_lineage(again, genesis, rounds, audit.reports, checkpoints)
        how = same_database(again, audit.path / LINEAGE)
    audit.passed(f"{LINEAGE}: made again, equal in {how}")
    if how == "records":
        audit.unchecked.append(
            f"the bytes of {LINEAGE} beside its records: this machine's SQLite lays out files in another way"
        )


def _check_names(present: Sequence[str]) -> None:
    """Refuse files that no run has or a run lacks, before any is opened: SQLite reads what lies beside a database."""
    missing = set(FILES) - set(present)
    if missing:
        raise DerivedFileError(f"{min(missing)} is missing, which every run has")
    for name in present:
        if name not in (*FILES, EVIDENCE, OPENED_ROWS) and _OBJECT.fullmatch(name) is None:
            raise DerivedFileError(f"{name} is no file of a run")


def _check_no_more(audit: Audit, index: ObjectIndex, present: Sequence[str]) -> None:
    """Refuse an index that says anything but what the rounds used, and objects beside those."""
    audit.stage = OBJECTS
    ciphertexts = {report.ciphertext for report in audit.reports.values()}
    proofs = {report.proof for report in audit.reports.values()} - {bytes(32)}
    registrations = {report.registration for report in audit.reports.values()} - {bytes(32)}
    objects = (audit.report_objects, audit.key_sum_objects, ciphertexts, audit.models, proofs, registrations)
    used = ObjectIndex.of(*objects)
    if index != used:
        raise DerivedFileError(f"{OBJECTS} is not the list of the {len(used.objects)} objects that the rounds name")
    audit.stage = STORE
    stored, named = (
        set(present) - {*FILES, EVIDENCE, OPENED_ROWS},
        {f"{STORE}/{d.hex()[:2]}/{d.hex()}" for d in used.objects},
    )
    if stored != named:
        raise DerivedFileError(f"{sorted(stored ^ named)[0]} is no object that a round names")
    audit.passed(f"{STORE}: {len(stored)} objects, each named by a round")
