"""Watching a task's checkpoints: recompute what each header says, and dispute at the base chain what does not hold.

The folder of a run is the public record that its committee published. Nothing in it is believed: which headers are
under a checkpoint the chain says, what they should say is computed here. The first wrong header is disputed: all that
comes after stands on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import KeySum, Report, RoundTerms
from collegium.algebra import FieldArray
from collegium.consensus import Close, Header, total_bytes
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.lineage import Store
from collegium.settlement import (
    MODEL_STEP,
    Account,
    ChallengerAtChain,
    Checkpoint,
    Court,
    Deployment,
    DisputeMoves,
    DisputeState,
    DisputeTerms,
    HeaderPlace,
    JsonRpcChain,
    MadeMove,
    ModelStepTrace,
    StepRule,
    attach,
    attach_court,
    check_court,
    deploy_court,
    header_opening,
    header_proof,
    header_root,
    model_step_trace,
    read_checkpoints,
    read_dispute,
    step_rule,
)

from ._base_chain import decode_chain_record
from ._epoch_ledger import ordered_epochs
from ._epochs import epochs_of
from ._experiment import experiment_from_bytes
from ._genesis import decode_genesis, first_terms
from ._ledger import OrderedRound, decode_index, decode_segments
from ._run import CHAIN, GENESIS, LEDGER, OBJECTS, STORE
from ._setup import build_task
from ._task import EMPTY_STATE, LearningTask

__all__ = [
    "Finding",
    "NotOnANodeError",
    "RecordMismatchError",
    "WatchedRun",
    "challenge",
    "court_of",
    "load_watched",
    "watch",
]

OBJECT_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 1 << 30
POLL_S = 12.0  # a block of the base chain

Say = Callable[[str], None]
IntArray = npt.NDArray[np.int64]


class NotOnANodeError(CollegiumError):
    """A run settled on the chain inside its own process, where nobody but its operator can dispute anything."""


class RecordMismatchError(CollegiumError):
    """The folder is not the record of what the chain holds: headers or objects are missing or others."""


@dataclass(frozen=True)
class Finding:
    """A header that is not what its public work gives.

    Attributes:
        what: which part is wrong, in words.
        trace: of the step that can be disputed; None where no game is needed or none is built yet.
        disputable: a contract can be brought to see it.
    """

    round: int
    what: str
    trace: ModelStepTrace | None
    disputable: bool


@dataclass(frozen=True)
class WatchedRun:
    """The public record of a run, and where it settles."""

    path: Path
    task: LearningTask
    rounds: tuple[OrderedRound, ...]
    terms: tuple[RoundTerms, ...]
    url: str
    deployment: Deployment

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


def load_watched(path: Path, url: str | None = None) -> WatchedRun:
    """Read a run's record; `url` is a node to ask instead of the one that the run used.

    Raises:
        NotOnANodeError: it settled in its own process.
        CollegiumError: a file is malformed.
    """
    genesis = decode_genesis(_read(path, GENESIS))
    experiment = experiment_from_bytes(genesis.experiment)
    task = build_task(genesis, experiment)
    epochs = epochs_of(genesis, experiment.committee)
    ordered = ordered_epochs(epochs, sha256(genesis.beacon).digest(), decode_segments(_read(path, LEDGER)))
    rounds = tuple(entry for epoch in ordered for entry in epoch.rounds)
    record = decode_chain_record(_read(path, CHAIN))
    node = url or record.url
    if node is None:
        raise NotOnANodeError(f"{path} settled on the chain in its own process: `collegium verify` executes it again")
    headers = [entry.certified.header for entry in rounds[:-1]]
    terms = [first_terms(genesis, task, experiment.committee.seats, EMPTY_STATE)]
    terms += [epochs.terms_after(task, header) for header in headers]
    return WatchedRun(path, task, rounds, tuple(terms), node, record.deployment)


def watch(run: WatchedRun, say: Say) -> tuple[Finding, HeaderPlace] | None:
    """Recompute all rounds under accepted checkpoints; return the first wrong header and where it stands.

    Raises:
        RecordMismatchError: the chain holds other headers, or an object is not what its name says.
    """
    chain = JsonRpcChain(run.url)
    deployment = attach(chain, run.deployment.settlement, run.deployment.block)
    for checkpoint in read_checkpoints(chain, deployment):
        digests = _digests_under(run, checkpoint)
        say(f"checkpoint of rounds {checkpoint.first_round}-{checkpoint.last_round}: {checkpoint.digest.hex()[:16]}")
        for number in range(checkpoint.first_round, checkpoint.last_round + 1):
            finding = recompute(run, number)
            if finding is None:
                say(f"round {number}: sum, opening and model are what the record gives")
                continue
            say(f"round {number}: {finding.what}")
            index = number - checkpoint.first_round
            return finding, HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))
    return None


def recompute(run: WatchedRun, number: int) -> Finding | None:
    """Do a round's public work again; None where its header says the same.

    Raises:
        RecordMismatchError: an object that the round names is not in the record.
    """
    close, header = run.rounds[number].close, run.headers[number]
    before = header if number == 0 else run.headers[number - 1]
    if header.outcome != "opened":
        if header.model != before.model:
            return Finding(number, f"a round that is {header.outcome} changes the model", None, True)
        return None
    store = Store(run.path / STORE)
    model = EMPTY_STATE if number == 0 else store.get(before.model, OBJECT_BYTES_MAX)
    try:
        total, key_sums = _inputs(run, store, close, header, run.terms[number])
        opened = aggregation.open_sum(run.terms[number], key_sums, total, sum(close.weights))
    except (aggregation.SumLostError, aggregation.SumInvalidError) as error:
        return Finding(number, f"the header calls a sum opened that is not: {error}", None, False)
    if sha256(total_bytes(opened.total)).digest() != header.total:
        return Finding(number, "the opened sum is not that of the admitted reports", None, False)
    return _recompute_step(run, number, model, opened.total)


def _recompute_step(run: WatchedRun, number: int, model: bytes, total: IntArray) -> Finding | None:
    claimed, task = run.headers[number].model, run.task
    if number == 0:
        right = sha256(task.step(number, model, total)).digest()
        return None if right == claimed else Finding(0, "the first model is not the one drawn", None, False)
    trace = model_step_trace(task.spec, task.rule, task.layout(0).entries, total_bytes(total), model, claimed)
    if trace.fault is None:
        return None
    what = f"the model is not what the step gives: {claimed.hex()[:16]}, computed {trace.made.hex()[:16]}"
    return Finding(number, what, trace, True)


def challenge(
    run: WatchedRun,
    finding: Finding,
    place: HeaderPlace,
    court: Court,
    account: Account,
    say: Say,
    wait: Callable[[], None] = lambda: time.sleep(POLL_S),
) -> DisputeState:
    """Dispute a wrong header to the end and say each move with its gas; return how it ended.

    Args:
        wait: lets time pass between two looks at the chain.
    """
    moves = DisputeMoves(JsonRpcChain(run.url), court, account)
    headers = run.headers
    opening = header_opening(headers[finding.round], headers[finding.round - 1])
    levels = 0 if finding.trace is None else finding.trace.levels
    dispute, receipt = moves.open(MODEL_STEP, place, opening, levels)
    say(f"dispute {dispute} opened against round {finding.round}: {receipt.gas:,} gas, trace of {levels} levels")
    if finding.trace is not None:
        player = ChallengerAtChain(moves, finding.trace, dispute)
        while read_dispute(moves.chain, court, dispute).state is DisputeState.OPEN:
            made = player.step()
            for move in made:
                say(_told(move))
            if not made:
                wait()
    state = read_dispute(moves.chain, court, dispute).state
    say(f"dispute {dispute} is over: the header is {state.name.lower()}")
    return state


def court_of(run: WatchedRun, address: bytes | None, account: Account, terms: DisputeTerms | None, say: Say) -> Court:
    """Return the court at an address, if it is one for this task; or found one, which `account` pays for.

    Raises:
        CollegiumError: what is there is no court of this task and rule.
    """
    chain = JsonRpcChain(run.url)
    if address is not None:
        court = attach_court(chain, address, run.deployment.block)
        check_court(chain, court, run.deployment, run.rule)
        return court
    court = deploy_court(chain, run.deployment, account, run.rule, terms)
    say(f"court founded at 0x{court.address.hex()}")
    return court


def _inputs(
    run: WatchedRun, store: Store, close: Close, header: Header, terms: RoundTerms
) -> tuple[FieldArray, dict[int, KeySum]]:
    """Return the weighted total of the admitted reports, and the key sums that the header names."""
    reports, sums = run.objects
    ciphertexts = []
    for name in close.reports:
        report = Report.from_bytes(_object(store, reports, name), len(terms.seats))
        if report.id != name:
            raise RecordMismatchError(f"object of report {name.hex()} is report {report.id.hex()}", report=name)
        data = store.get(report.ciphertext, OBJECT_BYTES_MAX)
        ciphertexts.append(aggregation.decode_ciphertext(terms.layout, data))
    key_sums = {}
    for seat, digest in header.key_sums:
        key_sum = KeySum.from_bytes(_object(store, sums, digest), terms.seat_width)
        if (key_sum.seat, key_sum.digest) != (seat, digest):
            raise RecordMismatchError(f"object of key sum {digest.hex()} is another", digest=digest)
        key_sums[seat] = key_sum
    return aggregation.weighted_total(ciphertexts, close.weights), key_sums


def _object(store: Store, index: dict[Digest, Digest], name: Digest) -> bytes:
    if name not in index:
        raise RecordMismatchError(f"{name.hex()} is not among the record's objects", name=name)
    return store.get(index[name], OBJECT_BYTES_MAX)


def _digests_under(run: WatchedRun, checkpoint: Checkpoint) -> Sequence[Digest]:
    """Return the digests of a checkpoint's headers, which the record must hold."""
    digests = [header.digest for header in run.headers[checkpoint.first_round : checkpoint.last_round + 1]]
    rounds = f"rounds {checkpoint.first_round}-{checkpoint.last_round}"
    if len(digests) != checkpoint.last_round - checkpoint.first_round + 1 or header_root(digests) != checkpoint.root:
        raise RecordMismatchError(f"the chain has accepted other headers for {rounds} than {run.path} holds")
    return digests


def _told(move: MadeMove) -> str:
    place = "" if move.game is None else f"game {move.game}, level {move.level}, position {move.position}, "
    return f"  {move.what}: {place}{move.receipt.gas:,} gas"


def _read(path: Path, name: str) -> bytes:
    file = path / name
    if file.stat().st_size > FILE_BYTES_MAX:
        raise RecordMismatchError(f"{name} has {file.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
    return file.read_bytes()
