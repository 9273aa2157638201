"""A whole run: set up, play every round, settle, and write the folder that `verify` needs.

The folder holds no secret key and no sealed column. docs/spec/run.md lists its files and what checks each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from collegium import learning
from collegium.aggregation import Report
from collegium.consensus import EvidenceFound, FailingProof, FalseReceipt, FalseReject, Header
from collegium.crypto import Digest, os_random
from collegium.errors import CollegiumError
from collegium.learning import Evaluation
from collegium.lineage import Store
from collegium.settlement import ChainAnswerError, ChainUnreachableError, TransactionNotMinedError, header_root

from ._attest import Attest
from ._base_chain import BaseChain, encode_chain_record
from ._events import (
    CheckpointPosted,
    Event,
    Message,
    ReportSubmitted,
    RoundFinished,
    RoundStarted,
    Warning_,
    WorldError,
)
from ._experiment import Experiment
from ._facts import round_facts, summarise
from ._genesis import Genesis, encode_genesis
from ._ledger import ObjectIndex, OrderedRound, assemble_rounds, encode_index, encode_ledger
from ._manifest import write_manifest
from ._play import PlayedRound, play_round
from ._setup import Federation, set_up
from ._statement import (
    ATTRIBUTION_LENGTH_MAX,
    WARNING_LENGTH_MAX,
    WARNINGS_MAX,
    RoundStatement,
    SiteStatement,
    Statement,
    encode_statement,
    sign_statement,
)
from ._trace import write_lineage
from ._workers import Workers

__all__ = ["FILES", "RenderPage", "RunRefusedError", "encode_summary", "run_experiment"]

GENESIS, LEDGER, OBJECTS = "genesis.json", "ledger.bin", "objects.json"
CHAIN, STATEMENT, SUMMARY = "chain.json", "statement.json", "summary.json"
LINEAGE, PAGE, STORE = "lineage.db", "report.html", "store"
FILES = (GENESIS, LEDGER, OBJECTS, CHAIN, STATEMENT, SUMMARY, LINEAGE, PAGE)

RenderPage = Callable[[Mapping[str, object]], str]


class RunRefusedError(CollegiumError):
    """A run cannot be written where it should be, or its files cannot be."""


@dataclass
class _Book:
    """What a run remembers of its rounds until it writes its files."""

    index: dict[str, dict[Digest, Digest]] = field(default_factory=lambda: {"reports": {}, "key_sums": {}})
    ciphertexts: set[Digest] = field(default_factory=set)
    proofs: set[Digest] = field(default_factory=set)
    registrations: set[Digest] = field(default_factory=set)
    proof_bytes: list[int] = field(default_factory=list)
    models: set[Digest] = field(default_factory=set)
    reports: dict[Digest, Report] = field(default_factory=dict)
    rounds: list[OrderedRound] = field(default_factory=list)
    statements: list[RoundStatement] = field(default_factory=list)
    beacons: list[Digest] = field(default_factory=list)
    blocks_used: int = 0
    view_before: int = 0
    last_model: bytes = b""


def run_experiment(
    experiment: Experiment,
    out: Path,
    on_event: Callable[[Event], None],
    render_page: RenderPage,
    attest: Attest | None = None,
) -> dict[str, object]:
    """Play an experiment and write its run into `out`, which must be missing or empty; return its summary.

    Args:
        experiment: what to play.
        out: the run's folder.
        on_event: is told of progress.
        render_page: makes the page of a summary.
        attest: at level "attested", returns the attestation over a report; None runs the experiment's command.

    Raises:
        RunRefusedError: the folder is in use.
        NoQuoteSourceError, QuoteCommandError, QuoteError: there is no quote, or none that the task accepts.
        WorldError: the chain or the disk failed.
        CollegiumError: the experiment's data or sizes are refused.
    """
    _claim(out)
    federation = set_up(experiment, on_event, attest)
    on_event(Message(f"level {experiment.task.level}; genesis {federation.genesis.digest.hex()[:16]}"))
    try:
        chain = BaseChain.found(
            experiment.chain.url,
            federation.operator,
            federation.genesis.epoch_set,
            [(keys.account, keys.voting) for keys in federation.validators],
        )
        book, store = _Book(), Store(out / STORE)
        with Workers() as workers:
            for number in range(experiment.task.rounds + 1):
                _play(federation, number, book, store, workers, on_event)
                if number and (number % experiment.chain.checkpoint_every == 0 or number == experiment.task.rounds):
                    _settle(federation, chain, number, on_event)
        return _write(federation, chain, book, out, render_page)
    except (ChainUnreachableError, ChainAnswerError, TransactionNotMinedError) as error:
        raise WorldError(str(error)) from error
    except OSError as error:
        raise WorldError(f"{error.filename or out}: {error.strerror or error}") from error


def encode_summary(summary: Mapping[str, object]) -> bytes:
    """Return a summary as the bytes of its file: sorted keys, two spaces, one newline."""
    return (json.dumps(summary, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _claim(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        used = any(out.iterdir())
    except OSError as error:
        raise RunRefusedError(f"{out}: {error.strerror}; expected a folder to write to") from error
    if used:
        raise RunRefusedError(f"{out} is not empty: a run is written into a new folder")


def _play(
    federation: Federation,
    number: int,
    book: _Book,
    store: Store,
    workers: Workers,
    on_event: Callable[[Event], None],
) -> None:
    """Play one round and put what it leaves into the store and the book."""
    rounds, count = federation.experiment.task.rounds, len(federation.trainers)
    if number:
        on_event(RoundStarted(number, rounds))
    node = next(iter(federation.nodes.values()))
    book.beacons.append(node.state.round.terms.beacon)
    played = play_round(
        federation.network,
        federation.nodes,
        federation.genesis.epoch_set,
        federation.task,
        federation.trainers,
        os_random,
        lambda index, name: on_event(ReportSubmitted(number, name, index, count)),
        workers,
    )
    for line in accusations(federation.genesis, played.evidence):
        on_event(Warning_(f"round {number}: {line}"))
    header = _final(played)
    ordered = _ordered(federation, book)
    _keep(played, ordered, book, store)
    facts = round_facts(ordered, federation.experiment.committee.seats, book.proof_bytes[-1])
    evaluation = federation.task.evaluate(played.model, federation.test_rows) if number else None
    said = _say(number, played, evaluation)
    book.rounds.append(ordered)
    book.statements.append(said)
    if said.auc is None or said.accuracy is None or said.loss is None:
        on_event(Message(f"round 0: scaling of the features learned from a secure sum of {facts.admitted} reports"))
    else:
        on_event(
            RoundFinished(
                round=number,
                rounds=rounds,
                admitted=facts.admitted,
                auc=said.auc,
                accuracy=said.accuracy,
                loss=said.loss,
                coordination_ms=said.coordination_ms,
                finality_ms=said.finality_ms,
                chain_bytes=None,
                prove_ms=said.prove_ms,
                verify_ms=said.verify_ms,
                energy_kwh=said.cpu_seconds * float(federation.experiment.committee.watts) / 3.6e6,
                lying_seats=facts.lying_seats,
                absent_seats=facts.absent_seats,
                view_changes=facts.view_changes,
            )
        )
    if header.outcome != "opened" and number == 0:
        raise RunRefusedError(
            f"round 0 is {header.outcome}: without the scaling of the features nothing can be trained"
        )
    if header.outcome != "opened":
        on_event(Message(f"round {number}: {header.outcome}; the model stays as it is"))


def _keep(played: PlayedRound, ordered: OrderedRound, book: _Book, store: Store) -> None:
    """Put a round's objects into the store; what was not admitted is in no sum, and nobody needs to keep it."""
    for report_id in ordered.close.reports:
        upload = played.uploads[report_id]
        book.index["reports"][report_id] = store.put(upload.report.to_bytes())
        book.ciphertexts.add(store.put(upload.ciphertext))
        book.reports[report_id] = upload.report
        if upload.proof:
            book.proofs.add(store.put(upload.proof))
        if upload.report.registration in played.registrations:
            book.registrations.add(store.put(played.registrations[upload.report.registration]))
    book.proof_bytes.append(sum(len(played.uploads[report].proof) for report in ordered.close.reports))
    for digest, key_sum in played.key_sums.items():
        book.index["key_sums"][digest] = store.put(key_sum.to_bytes())
    book.models.add(store.put(played.model))
    book.last_model = played.model


def accusations(genesis: Genesis, evidence: Sequence[EvidenceFound]) -> list[str]:
    """Return what the evidence about proofs says, each thing once."""
    names, lines = dict(genesis.trainers), dict[str, None]()
    for found in (item.evidence for item in evidence):
        if isinstance(found, FailingProof | FalseReceipt | FalseReject):
            trainer = names[found.held.report.trainer]
            match found:
                case FailingProof():
                    line = f"the proof of {trainer} does not verify; its report is left out"
                case FalseReceipt():
                    line = f"seat {found.receipt.seat} vouched for the proof of {trainer}, which does not verify"
                case FalseReject():
                    line = f"validator {found.reject.validator} rejected the proof of {trainer}, which verifies"
            lines[line] = None
    return list(lines)


def _final(played: PlayedRound) -> Header:
    if played.header is None:
        raise RunRefusedError("a round ended without a header")
    return played.header


def _ordered(federation: Federation, book: _Book) -> OrderedRound:
    """Return the round just ended, from the first live validator's archive."""
    archive = next(iter(federation.nodes.values())).archive
    end = max(place for place, block in enumerate(archive.blocks) if block.payload) + 1
    blocks = archive.blocks[book.blocks_used : end]
    tip = archive.proofs[blocks[-1].digest]
    (ordered,) = assemble_rounds(blocks, tip, len(book.rounds), book.view_before)
    book.blocks_used, book.view_before = end, ordered.views[-1]
    return ordered


def _say(number: int, played: PlayedRound, evaluation: Evaluation | None) -> RoundStatement:
    return RoundStatement(
        round=number,
        coordination_ms=round(played.coordination_ms, 3),
        finality_ms=round(played.finality_ms, 3),
        cpu_seconds=round(played.cpu_seconds, 6),
        consensus_cpu_seconds=round(played.consensus_cpu_seconds, 6),
        prove_ms=None if played.prove_ms is None else round(played.prove_ms, 3),
        verify_ms=None if played.verify_ms is None else round(played.verify_ms, 3),
        auc=None if evaluation is None else evaluation.auc,
        accuracy=None if evaluation is None else evaluation.accuracy,
        loss=None if evaluation is None else evaluation.loss,
    )


def _settle(federation: Federation, chain: BaseChain, number: int, on_event: Callable[[Event], None]) -> None:
    """Post one checkpoint of the headers since the last one."""
    nodes = list(federation.nodes.values())
    first = chain.facts[-1].checkpoint.last_round + 1 if chain.facts else 0
    headers = [header.digest for header in nodes[0].headers if first <= header.round <= number]
    facts = chain.settle(header_root(headers), number, nodes)
    on_event(CheckpointPosted(first, number, facts.gas, facts.calldata_bytes, facts.checkpoint.digest.hex()))


# ------------------------------------------------------------------------------------------------ references


def _references(federation: Federation, book: _Book) -> tuple[float, float]:
    """Return the AUC of the same rule on pooled rows, and of the same federation in float32."""
    task, experiment = federation.task, federation.experiment
    state = task.decode_state(book.last_model)
    start = task.first_parameters()
    shards = [(task.features(state, t.rows.rows), t.rows.rows.labels) for t in federation.trainers]
    pooled_features = np.concatenate([features for features, _ in shards])
    pooled_labels = np.concatenate([labels for _, labels in shards])
    parameters = start
    pooled_rule = replace(task.rule, batch_rows=None)
    for _ in range(experiment.task.rounds):
        update = learning.local_update(task.spec, pooled_rule, parameters, pooled_features, pooled_labels, b"")
        parameters = learning.apply_total(task.spec, pooled_rule, parameters, update)
    test = task.features(state, federation.test_rows)
    labels = federation.test_rows.labels
    pooled = learning.evaluate(task.spec, pooled_rule, parameters, test, labels).auc
    seeds = [
        [task.batch_seed(number, book.beacons[number], t.rows.name) for t in federation.trainers]
        for number in range(1, experiment.task.rounds + 1)
    ]
    floats = learning.float_reference(task.spec, task.rule, start, shards, seeds)
    return pooled, learning.float_auc(task.spec, task.rule, floats, test, labels)


# ------------------------------------------------------------------------------------------------ files


def _write(
    federation: Federation, chain: BaseChain, book: _Book, out: Path, render_page: RenderPage
) -> dict[str, object]:
    """Write the run's files, the manifest last, and return the summary."""
    experiment, genesis = federation.experiment, federation.genesis
    archive = next(iter(federation.nodes.values())).archive
    blocks = archive.blocks[: book.blocks_used]
    last = blocks[-1]
    tip = archive.proofs[last.digest]
    named = (book.ciphertexts, book.models, book.proofs, book.registrations)
    index = ObjectIndex.of(book.index["reports"], book.index["key_sums"], *named)
    statement = sign_statement(_statement(federation, book), federation.operator)
    seats, sizes = experiment.committee.seats, book.proof_bytes
    facts = [round_facts(ordered, seats, size) for ordered, size in zip(book.rounds, sizes, strict=True)]
    summary = summarise(experiment, genesis, federation.task, facts, chain.facts, statement)
    (out / GENESIS).write_bytes(encode_genesis(genesis))
    (out / LEDGER).write_bytes(encode_ledger(blocks, tip))
    (out / OBJECTS).write_bytes(encode_index(index))
    (out / CHAIN).write_bytes(encode_chain_record(chain.record()))
    (out / STATEMENT).write_bytes(encode_statement(statement))
    (out / SUMMARY).write_bytes(encode_summary(summary))
    (out / PAGE).write_text(render_page(summary), encoding="utf-8")
    write_lineage(out / LINEAGE, genesis, book.rounds, book.reports, chain.facts)
    write_manifest(out)
    return {**summary, "page": str(out / PAGE)}


def _statement(federation: Federation, book: _Book) -> Statement:
    """Return everything that rests on the operator's word, unsigned."""
    pooled, float32 = _references(federation, book)
    return Statement(
        task=federation.genesis.task,
        last_header=book.rounds[-1].certified.header.digest,
        rounds=tuple(book.statements),
        auc_pooled=pooled,
        auc_float32=float32,
        sites=_sites(federation),
        warnings=tuple(warning[:WARNING_LENGTH_MAX] for warning in federation.warnings[:WARNINGS_MAX]),
        attribution=_attribution(federation.experiment),
        signature=b"",
    )


def _sites(federation: Federation) -> tuple[SiteStatement, ...]:
    rows = dict.fromkeys(federation.genesis.sites, 0)
    for trainer in federation.trainers:
        rows[trainer.rows.site] += len(trainer.rows.rows)
    return tuple(SiteStatement(name, count, federation.test_counts.get(name, 0)) for name, count in rows.items())


def _attribution(experiment: Experiment) -> str:
    """Return the text that a data file brings along, from ATTRIBUTION.md beside it."""
    path = experiment.data_path.with_name("ATTRIBUTION.md")
    if not path.is_file() or path.stat().st_size > ATTRIBUTION_LENGTH_MAX:
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip()
