"""The files of a run's folder, whoever played it, and what is written into them.

The folder holds no secret key and no sealed column. docs/spec/run.md lists its files and what checks each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from collegium import learning
from collegium.aggregation import Report
from collegium.consensus import EpochSet, Header
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.learning import Rows, TrainerRows
from collegium.lineage import Store
from collegium.settlement import Due

from ._chain_record import ChainRecord, checkpoint_facts, encode_chain_record
from ._epochs import Epochs
from ._evidence import Charge, RoundVotes, deed_of, encode_run_evidence
from ._experiment import Experiment
from ._facts import ConvictionFacts, epoch_facts, round_facts, summarise
from ._genesis import Genesis, encode_genesis
from ._ledger import ObjectIndex, OrderedRound, Segment, encode_index, encode_segments
from ._manifest import write_manifest
from ._pay import PayRule
from ._quality_facts import add_quality, quality_facts
from ._rewards import payee_names
from ._sharded_ledger import ShardedRound
from ._statement import ATTRIBUTION_LENGTH_MAX, Statement, encode_statement
from ._task import LearningTask
from ._trace import write_lineage

__all__ = [
    "CHAIN",
    "EVIDENCE",
    "FILES",
    "GENESIS",
    "LEDGER",
    "LINEAGE",
    "OBJECTS",
    "OPENED_ROWS",
    "PAGE",
    "STATEMENT",
    "STORE",
    "SUMMARY",
    "Leavings",
    "RenderPage",
    "RunRefusedError",
    "attribution",
    "claim_folder",
    "encode_summary",
    "references",
    "summary_of",
    "write_run",
]

GENESIS, LEDGER, OBJECTS = "genesis.json", "ledger.bin", "objects.json"
CHAIN, STATEMENT, SUMMARY = "chain.json", "statement.json", "summary.json"
EVIDENCE = "evidence.json"  # where the task has courts
OPENED_ROWS = "stewards.json"  # where stewards open their rows in the end
LINEAGE, PAGE, STORE = "lineage.db", "report.html", "store"
FILES = (GENESIS, LEDGER, OBJECTS, CHAIN, STATEMENT, SUMMARY, LINEAGE, PAGE)
RenderPage = Callable[[Mapping[str, object]], str]


class RunRefusedError(CollegiumError):
    """A run cannot be written where it should be, or its files cannot be."""


def summary_of(
    experiment: Experiment,
    genesis: Genesis,
    task: LearningTask,
    rounds: Sequence[OrderedRound | ShardedRound],
    proof_bytes: Sequence[int],
    epochs: Epochs,
    chain: ChainRecord,
    statement: Statement,
    store: Store,
) -> dict[str, object]:
    """Return a run's summary as its other files give it, to `run` and again to `verify`; `proof_bytes` by round."""
    seats = experiment.committee.seats
    facts = [round_facts(ordered, seats, size) for ordered, size in zip(rounds, proof_bytes, strict=True)]
    told = epoch_facts(epochs, experiment.task.rounds, [handover.gas for handover in chain.handed_over])
    convictions = _conviction_facts(chain, [known.epoch_set for known in epochs.known])
    summary = summarise(experiment, genesis, task, facts, checkpoint_facts(chain), statement, told, convictions)
    beacons = [sha256(ordered.certified.header.beacon).digest() for ordered in rounds[:-1]]
    proved = task.quality is not None and task.quality.proving is not None
    add_quality(summary, quality_facts(task, store, [entry.model for entry in facts], beacons), proved)
    headers = [ordered.certified.header for ordered in rounds]
    return summary | _reward_facts(chain, task.pay, headers, payee_names(experiment, genesis))


def _reward_facts(
    chain: ChainRecord, pay: PayRule | None, headers: Sequence[Header], names: Mapping[Due, str]
) -> dict[str, object]:
    """Return what the rounds of each checkpoint earned, where rounds are paid, and what each trainer has earned.

    Amounts are text: few readers of JSON keep whole numbers of such a size.
    """
    if pay is None or not headers:
        return {}
    totals = [sum(pay.amounts(header.paid)) for header in headers]
    rewards = [
        {
            "first_round": span.first_round,
            "last_round": span.last_round,
            "total": str(totals[span.last_round] - (totals[span.first_round - 1] if span.first_round else 0)),
        }
        for span in chain.checkpoints
    ]
    earned = Counter[str]()
    for due in pay.lines(headers[-1].paid):
        earned[names.get(replace(due, amount=0), "0x" + due.account.hex())] += due.amount
    earnings = [{"trainer": name, "wei": str(amount)} for name, amount in sorted(earned.items()) if amount]
    return {"rewards": rewards, "earnings": earnings}


def _conviction_facts(chain: ChainRecord, epoch_sets: Sequence[EpochSet]) -> list[ConvictionFacts]:
    deeds = [deed_of(found.charge, epoch_sets) for found in chain.convicted]
    return [
        ConvictionFacts(deed.what, "0x" + deed.account.hex(), found.burned, found.rewarded, found.gas)
        for deed, found in zip(deeds, chain.convicted, strict=True)
    ]


def encode_summary(summary: Mapping[str, object]) -> bytes:
    """Return a summary as the bytes of its file: sorted keys, two spaces, one newline."""
    return (json.dumps(summary, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def claim_folder(out: Path) -> None:
    """Make a run's folder.

    Raises:
        RunRefusedError: it is in use, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        used = any(out.iterdir())
    except OSError as error:
        raise RunRefusedError(f"{out}: {error.strerror}; expected a folder to write to") from error
    if used:
        raise RunRefusedError(f"{out} is not empty: a run is written into a new folder")


def references(
    task: LearningTask,
    rounds: int,
    beacon_of: Callable[[int, str], Digest],
    model: bytes,
    trainers: Sequence[TrainerRows],
    test: Rows,
) -> tuple[float, float]:
    """Return the AUC of the same rule on pooled rows, and of the same federation in float32; takes everybody's rows.

    Args:
        rounds: after round 0.
        beacon_of: a round's value for a trainer: that of its shard where there are several.
        model: the last state.
    """
    state = task.decode_state(model)
    start = task.first_parameters()
    shards = [(task.features(state, rows.rows), rows.rows.labels) for rows in trainers]
    pooled_features = np.concatenate([features for features, _ in shards])
    pooled_labels = np.concatenate([labels for _, labels in shards])
    parameters = start
    pooled_rule = replace(task.rule, batch_rows=None)
    for _ in range(rounds):
        update = learning.local_update(task.spec, pooled_rule, parameters, pooled_features, pooled_labels, b"")
        parameters = learning.apply_total(task.spec, pooled_rule, parameters, update)
    features = task.features(state, test)
    pooled = learning.evaluate(task.spec, pooled_rule, parameters, features, test.labels).auc
    seeds = [
        [task.batch_seed(number, beacon_of(number, rows.name), rows.name) for rows in trainers]
        for number in range(1, rounds + 1)
    ]
    floats = learning.float_reference(task.spec, task.rule, start, shards, seeds)
    return pooled, learning.float_auc(task.spec, task.rule, floats, features, test.labels)


@dataclass(frozen=True, slots=True)
class Leavings:
    """Everything of a run that its folder holds beside the store of objects, whoever played it.

    Attributes:
        segments: of each epoch, final blocks up to its last round's header, and the certificates that prove that one
            final.
        epochs: all that the segments lead to.
        index: which object of the store is which.
        reports: the admitted ones, by id.
        proof_bytes: by round, of all admitted reports.
        chain: the base chain's record.
        statement: signed.
        votes, charges: what members signed by themselves that can cost them their stakes.
        opened_rows: the stewards', where they open them.
    """

    genesis: Genesis
    segments: Sequence[Segment]
    epochs: Epochs
    rounds: Sequence[OrderedRound | ShardedRound]
    index: ObjectIndex
    reports: Mapping[Digest, Report]
    proof_bytes: Sequence[int]
    chain: ChainRecord
    statement: Statement
    votes: Sequence[RoundVotes] = ()
    charges: Sequence[Charge] = ()
    opened_rows: bytes | None = None


def write_run(
    left: Leavings, experiment: Experiment, task: LearningTask, out: Path, render_page: RenderPage
) -> dict[str, object]:
    """Write a run's files into the folder that has its store already, the manifest last, and return the summary."""
    genesis, sizes = left.genesis, left.proof_bytes
    told = (left.epochs, left.chain, left.statement, Store(out / STORE))
    summary = summary_of(experiment, genesis, task, left.rounds, sizes, *told)
    (out / GENESIS).write_bytes(encode_genesis(genesis))
    (out / LEDGER).write_bytes(encode_segments(left.segments))
    (out / OBJECTS).write_bytes(encode_index(left.index))
    (out / CHAIN).write_bytes(encode_chain_record(left.chain))
    if experiment.chain.courts:
        (out / EVIDENCE).write_bytes(encode_run_evidence(left.votes, left.charges))
    if left.opened_rows is not None:
        (out / OPENED_ROWS).write_bytes(left.opened_rows)
    (out / STATEMENT).write_bytes(encode_statement(left.statement))
    (out / SUMMARY).write_bytes(encode_summary(summary))
    (out / PAGE).write_text(render_page(summary), encoding="utf-8")
    write_lineage(out / LINEAGE, genesis, left.rounds, left.reports, left.chain.checkpoints)
    write_manifest(out)
    return {**summary, "page": str(out / PAGE)}


def attribution(experiment: Experiment) -> str:
    """Return the text that a data file brings along, from ATTRIBUTION.md beside it."""
    path = experiment.data_path.with_name("ATTRIBUTION.md")
    if not path.is_file() or path.stat().st_size > ATTRIBUTION_LENGTH_MAX:
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip()
