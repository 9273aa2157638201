"""A network's run as a folder that anybody can verify, gathered from validators that need not be trusted.

Blocks come with what proves them final, objects by their digest, reports and key sums by what final blocks name; so
whatever is in the folder, `verify_run` checks as it checks a run of one process. What nobody can derive (scores, times)
is the operator's statement, made of the evaluator's signed lines and of what each process measured of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from collegium import aggregation
from collegium.aggregation import KeySum, Report, RoundTerms
from collegium.consensus import RESPONSE_BLOCKS_MAX, Block, Close, QuorumCertificate
from collegium.crypto import AccountKey, Digest
from collegium.errors import CollegiumError
from collegium.learning import Rows, TrainerRows
from collegium.lineage import Store

from ._attackers import attacker_names
from ._chain_record import ChainRecord, decode_chain_record
from ._chain_terms import HOME
from ._client import NobodyAnsweredError, ValidatorClient
from ._client_line import ClientLimits, open_lines
from ._consortium import OPERATOR_KEY, ROWS, STATE, Consortium, load_account, load_steward
from ._desk import FinalBlocks
from ._epochs import Epochs, KnownEpoch, OrderWalk, epochs_of
from ._evaluations import RoundEvaluation, check_evaluation, read_evaluations
from ._evaluator_process import EVALUATIONS
from ._evidence import Charge, DeedKey, RoundVotes, RunEvidence, deed_of, merge_evidence
from ._experiment import Experiment
from ._figures import FIGURES, RoundFigures, read_figures
from ._genesis import Genesis, first_terms
from ._journal import HEADER_KIND
from ._ledger import LedgerError, ObjectIndex, OrderedRound, Segment, assemble_rounds
from ._network_settings import EvaluatorSettings, StewardSettings, load_settings
from ._opened_rows import encode_opened_rows
from ._relayer_process import CHAIN_RECORD, follower_folder
from ._row_files import read_rows, read_trainer_rows
from ._run_files import STORE, Leavings, RenderPage, attribution, claim_folder, references, write_run
from ._setup import build_task
from ._statement import RoundStatement, SiteStatement, Statement, sign_statement
from ._steward import Steward
from ._task import EMPTY_STATE, LearningTask

__all__ = ["CollectError", "NetworkFiles", "OneByOne", "collect", "collect_run"]

T = TypeVar("T")
NOTHING: Final = bytes(32)


class CollectError(CollegiumError):
    """A network's run cannot be collected: it has not ended, or a file of its operator is not there."""


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """What the operator brings to a collection beside the validators' answers.

    Attributes:
        operator: signs the statement.
        chain: the relayer's record.
        evaluations: the evaluator's, of rounds 1 on.
        validators, trainers: what processes measured of themselves, by round; nothing where their disks are elsewhere.
        trainer_rows, test_rows: None where no machine holds everybody's rows; then nothing is said of the references.
        stewards: in the order of the genesis, where they open their rows.
    """

    operator: AccountKey
    chain: ChainRecord
    evaluations: Sequence[RoundEvaluation]
    validators: Sequence[Mapping[int, RoundFigures]] = ()
    trainers: Sequence[Mapping[int, RoundFigures]] = ()
    trainer_rows: Sequence[TrainerRows] | None = None
    test_rows: Rows | None = None
    stewards: Sequence[Steward] = ()


def collect_run(
    consortium: Consortium, experiment: Experiment, out: Path, render_page: RenderPage
) -> dict[str, object]:
    """Write the run of a consortium into `out`, which must be missing or empty; return its summary.

    Validators must be serving, and trainers, evaluator and relayer must have finished. The consortium's folder must be
    whole: the operator's key, the relayer's record and the evaluator's file are read from it, figures and rows where
    they are there.

    Raises:
        CollectError: a file is missing, or the run has not ended.
        RunRefusedError: the folder is in use.
        CollegiumError: something does not verify.
    """
    settings = load_settings(consortium.folder / "evaluator" / "config.toml")
    if not isinstance(settings, EvaluatorSettings):
        raise CollectError(f"{consortium.folder / 'evaluator'} holds settings of another role")
    files = _read_files(consortium, experiment)

    async def gather() -> dict[str, object]:
        epochs, limits = epochs_of(consortium.genesis, experiment.committee), ClientLimits()
        lines = open_lines(consortium.genesis.task, settings.validators, settings.tls.authority, limits)
        clients = [ValidatorClient(epochs, {index: line}, limits) for index, line in lines.items()]
        try:
            return await collect(OneByOne(clients), consortium.genesis, experiment, files, out, render_page)
        finally:
            await asyncio.gather(*(client.close() for client in clients))

    return asyncio.run(gather())


@dataclass(frozen=True, slots=True, eq=False)
class OneByOne:
    """Clients of one validator each, asked in turn: nothing here is in such haste that several should be asked at once.

    What none of them gives is refused with what the last one said.
    """

    clients: Sequence[ValidatorClient]

    @property
    def epochs(self) -> Epochs:
        """What they know of the task's epochs, together."""
        return self.clients[0].epochs

    async def blocks(self, epoch: int, after: Digest, count: int = RESPONSE_BLOCKS_MAX) -> FinalBlocks:
        """Return final blocks of an epoch after `after`, of the first validator that has any."""
        found = await self._first(lambda client: client.blocks(after, count, epoch), lambda blocks: bool(blocks.blocks))
        return found or FinalBlocks((), ())

    async def object(self, digest: Digest) -> bytes:
        """Return the object of this SHA-256."""
        return await self._any(lambda client: client.object(digest))

    async def named_object(self, identity: Digest, check: Callable[[bytes], None]) -> bytes:
        """Return the report or key sum of an identity."""
        return await self._any(lambda client: client.named_object(identity, check))

    async def round_evidence(self, header: Digest) -> list[RunEvidence]:
        """Return what each validator kept of the round with this final header."""
        found = await asyncio.gather(*(client.round_evidence(header) for client in self.clients))
        return [evidence for each in found for evidence in each]

    async def _any(self, ask: Callable[[ValidatorClient], Awaitable[T]]) -> T:
        found = await self._first(ask, lambda _: True)
        if found is None:
            raise NobodyAnsweredError("there is no validator to ask")
        return found

    async def _first(self, ask: Callable[[ValidatorClient], Awaitable[T]], serves: Callable[[T], bool]) -> T | None:
        """Return the first answer that serves; None where all answered and none serves.

        Raises:
            NobodyAnsweredError: nobody answered.
        """
        answered, refusal = False, NobodyAnsweredError("there is no validator to ask")
        for client in self.clients:
            try:
                answer = await ask(client)
            except NobodyAnsweredError as error:
                refusal = error
                continue
            if serves(answer):
                return answer
            answered = True
        if answered:
            return None
        raise refusal


async def collect(
    client: OneByOne,
    genesis: Genesis,
    experiment: Experiment,
    files: NetworkFiles,
    out: Path,
    render_page: RenderPage,
) -> dict[str, object]:
    """Write a network's run into `out`; see `collect_run`."""
    claim_folder(out)
    task = build_task(genesis, experiment)
    segments = await _final_blocks(client, experiment.task.rounds + 1)
    rounds: list[OrderedRound] = []
    for segment in segments:
        rounds += assemble_rounds(segment.blocks, segment.tip, len(rounds))
    book = _Shelf(client, Store(out / STORE))
    terms, model = first_terms(genesis, task, experiment.committee.seats, EMPTY_STATE), EMPTY_STATE
    for ordered in rounds:
        model = await book.add(ordered, terms)
        terms = client.epochs.terms_after(task, ordered.certified.header)
    _check_settled(files.chain, len(rounds))
    votes, charges = await _evidence(client, rounds, files.chain)
    left = Leavings(
        genesis=genesis,
        segments=segments,
        epochs=client.epochs,
        rounds=rounds,
        index=book.index(),
        reports=book.reports,
        proof_bytes=book.proof_bytes,
        chain=files.chain,
        statement=_statement(genesis, experiment, task, files, rounds, model),
        votes=votes,
        charges=tuple(charges.values()),
        opened_rows=encode_opened_rows(files.stewards) if files.stewards else None,
    )
    return write_run(left, experiment, task, out, render_page)


async def _final_blocks(client: OneByOne, rounds: int) -> list[Segment]:
    """Return all blocks up to the last round's header, epoch by epoch, each with what proves its last one final."""
    order, segments, blocks = OrderWalk(client.epochs), list[Segment](), list[Block]()
    headers = 0
    while headers < rounds:
        epoch, tip = order.epoch, order.tip
        found = await client.blocks(epoch.epoch, tip)
        if not found.blocks:
            raise CollectError(f"{headers} of {rounds} rounds are final at the validators that answer")
        order.take(found.blocks, found.certificates)
        for block in found.blocks:
            blocks.append(block)
            if block.payload[:1] != HEADER_KIND:
                continue
            headers += 1
            if headers == rounds or client.epochs.of_round(headers) is not epoch:
                segments.append(Segment(tuple(blocks), await _proof_of(client, epoch, blocks[-1])))
                blocks = []
                break
    return segments


async def _evidence(
    client: OneByOne, rounds: Sequence[OrderedRound], chain: ChainRecord
) -> tuple[list[RoundVotes], dict[DeedKey, Charge]]:
    """Return all that validators kept of what members signed by themselves, and what members were convicted of."""
    epoch_sets = [known.epoch_set for known in client.epochs.known]
    charges = {deed_of(found.charge, epoch_sets).key: found.charge for found in chain.convicted}
    votes = list[RoundVotes]()
    for ordered in rounds:
        header = ordered.certified.header
        members = client.epochs.of_round(header.round).epoch_set
        kept = await client.round_evidence(header.digest)
        held, more = merge_evidence(header.round, epoch_sets, members, header.digest, kept)
        votes.append(held)
        charges = more | charges
    return votes, charges


async def _proof_of(client: OneByOne, epoch: KnownEpoch, block: Block) -> tuple[QuorumCertificate, ...]:
    """Return the certificates that prove a block final by itself."""
    proved = await client.blocks(epoch.epoch, block.parent, 1)
    if [found.digest for found in proved.blocks] != [block.digest]:
        raise LedgerError(f"no validator proves the header of view {block.view} in epoch {epoch.epoch} final by itself")
    return proved.certificates


@dataclass(eq=False)
class _Shelf:
    """Fetches what final rounds name, and puts it into the store."""

    client: OneByOne
    store: Store
    names: dict[str, dict[Digest, Digest]] = field(default_factory=lambda: {"reports": {}, "key_sums": {}})
    singles: dict[str, set[Digest]] = field(
        default_factory=lambda: {"ciphertexts": set(), "models": set(), "proofs": set(), "registrations": set()}
    )
    reports: dict[Digest, Report] = field(default_factory=dict)
    proof_bytes: list[int] = field(default_factory=list)

    async def add(self, ordered: OrderedRound, terms: RoundTerms) -> bytes:
        """Fetch all that one round names; return the model after it."""
        close, header = ordered.close, ordered.certified.header
        sizes = await asyncio.gather(*(self._report(report, terms) for report in close.reports))
        self.proof_bytes.append(sum(sizes))
        await asyncio.gather(*(self._key_sum(seat, digest, close, terms) for seat, digest in header.key_sums))
        return await self._single("models", header.model)

    def index(self) -> ObjectIndex:
        """Return which stored object is which."""
        singles = (self.singles[kind] for kind in ("ciphertexts", "models", "proofs", "registrations"))
        return ObjectIndex.of(self.names["reports"], self.names["key_sums"], *singles)

    async def _report(self, identity: Digest, terms: RoundTerms) -> int:
        """Fetch a report with what it names; return the length of its proof."""

        def check(data: bytes) -> None:
            report = Report.from_bytes(data, len(terms.seats))
            if report.id != identity:
                raise LedgerError(f"report {report.id.hex()} where {identity.hex()} was asked for")
            aggregation.check_report(terms, report)

        data = await self.client.named_object(identity, check)
        report = Report.from_bytes(data, len(terms.seats))
        self.names["reports"][identity] = self.store.put(data)
        self.reports[identity] = report
        await self._single("ciphertexts", report.ciphertext)
        if report.registration != NOTHING:
            await self._single("registrations", report.registration)
        return len(await self._single("proofs", report.proof)) if report.proof != NOTHING else 0

    async def _key_sum(self, seat: int, identity: Digest, close: Close, terms: RoundTerms) -> None:
        def check(data: bytes) -> None:
            key_sum = KeySum.from_bytes(data, terms.seat_width)
            if (key_sum.seat, key_sum.digest) != (seat, identity):
                raise LedgerError(f"key sum of seat {key_sum.seat} where that of seat {seat} was asked for")
            aggregation.check_key_sum(terms, close.digest, key_sum)

        self.names["key_sums"][identity] = self.store.put(await self.client.named_object(identity, check))

    async def _single(self, kind: str, digest: Digest) -> bytes:
        data = await self.client.object(digest)
        self.singles[kind].add(self.store.put(data))
        return data


def _check_settled(record: ChainRecord, rounds: int) -> None:
    """Refuse a record that does not settle the whole run."""
    settled = record.checkpoints[-1].last_round + 1 if record.checkpoints else 0
    if settled != rounds:
        raise CollectError(f"the chain's record settles {settled} rounds of {rounds}: has the relayer finished?")


# ------------------------------------------------------------------------------------------------ the operator's word


def _statement(
    genesis: Genesis,
    experiment: Experiment,
    task: LearningTask,
    files: NetworkFiles,
    rounds: Sequence[OrderedRound],
    model: bytes,
) -> Statement:
    """Return what nobody can derive, signed by the operator: the evaluator's scores, and each process's own figures."""
    headers = [ordered.certified.header for ordered in rounds]
    if [evaluation.round for evaluation in files.evaluations] != list(range(1, len(rounds))):
        raise CollectError(f"{len(files.evaluations)} evaluations of {len(rounds) - 1}: has the evaluator finished?")
    for header, evaluation in zip(headers[1:], files.evaluations, strict=True):
        check_evaluation(evaluation, genesis.task, header.digest, genesis.operator)
    beacons = [sha256(genesis.beacon).digest(), *(sha256(header.beacon).digest() for header in headers[:-1])]
    pooled, float32 = None, None
    told = task.privacy is None  # figures without noise have no place beside sums that have some
    if told and files.trainer_rows is not None and files.test_rows is not None:
        attackers = attacker_names(experiment.attack)
        parts = ([rows for rows in files.trainer_rows if rows.name not in attackers], files.test_rows)
        pooled, float32 = references(task, experiment.task.rounds, lambda number, _: beacons[number], model, *parts)
    scores: list[RoundEvaluation | None] = [None, *files.evaluations]
    unsigned = Statement(
        task=genesis.task,
        last_header=headers[-1].digest,
        rounds=tuple(_say(number, files, score) for number, score in enumerate(scores)),
        auc_pooled=pooled,
        auc_float32=float32,
        sites=_sites(genesis, files),
        warnings=_gaps(files),
        attribution=attribution(experiment),
        signature=b"",
        clock="real",
    )
    return sign_statement(unsigned, files.operator)


def _say(number: int, files: NetworkFiles, score: RoundEvaluation | None) -> RoundStatement:
    validators = [figures[number] for figures in files.validators if number in figures]
    trainers = [figures[number] for figures in files.trainers if number in figures]
    consensus = _sum([figures.cpu_seconds for figures in validators])
    training = _sum([figures.cpu_seconds for figures in trainers])
    return RoundStatement(
        round=number,
        coordination_ms=_middle([figures.coordination_ms for figures in validators]),
        finality_ms=_middle([figures.finality_ms for figures in validators]),
        cpu_seconds=None if consensus is None or training is None else round(consensus + training, 6),
        consensus_cpu_seconds=consensus,
        prove_ms=_middle([figures.prove_ms for figures in trainers]),
        verify_ms=None,
        auc=None if score is None else score.auc,
        accuracy=None if score is None else score.accuracy,
        loss=None if score is None else score.loss,
    )


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if known else None


def _sites(genesis: Genesis, files: NetworkFiles) -> tuple[SiteStatement, ...]:
    """Return each site's rows where they are here, else none: who trains there is in the genesis."""
    rows = dict.fromkeys(genesis.sites, 0)
    for trainer in files.trainer_rows or ():
        rows[trainer.site] += len(trainer.rows)
    return tuple(SiteStatement(name, count, 0) for name, count in rows.items())


def _gaps(files: NetworkFiles) -> tuple[str, ...]:
    """Return what a reader must know that the operator does not say."""
    if files.trainer_rows is None:
        return (
            "how many rows each site has is not known to the operator and given as 0, and so are test rows by site; "
            "without everybody's rows nothing can be said of pooled training",
        )
    return ("the evaluator's test rows are not told by site; they are given as 0",)


def _read_chain(folder: Path) -> ChainRecord:
    """Read the relayer's record of one chain."""
    try:
        return decode_chain_record((folder / CHAIN_RECORD).read_bytes())
    except OSError as error:
        raise CollectError(f"{folder / CHAIN_RECORD}: {error.strerror}; has the relayer finished?") from error


def _read_stewards(consortium: Consortium, experiment: Experiment) -> list[Steward]:
    """Read the stewards' rows and secrets where the experiment has them open their rows."""
    if experiment.stewards is None or not experiment.stewards.open:
        return []
    found = dict[int, Steward]()
    for member in consortium.members:
        settings = load_settings(consortium.config(member)) if member.role == "steward" else None
        if isinstance(settings, StewardSettings):
            place, steward = load_steward(settings, consortium.genesis, experiment)
            found[place] = steward
    if len(found) != experiment.stewards.count:
        raise CollectError(f"the rows of {len(found)} of {experiment.stewards.count} stewards are here; they open them")
    return [found[place] for place in sorted(found)]


def _read_files(consortium: Consortium, experiment: Experiment) -> NetworkFiles:
    """Read what lies in a consortium's folder."""
    folder, genesis, label = consortium.folder, consortium.genesis, experiment.data.label
    state = folder / "relayer" / STATE
    followers = range(HOME + 1, HOME + 1 + len(experiment.chain.followers))
    record, *following = (_read_chain(home) for home in (state, *(follower_folder(state, at) for at in followers)))
    homes = {
        role: [consortium.config(member).parent for member in consortium.members if member.role == role]
        for role in ("validator", "trainer")
    }
    rows = [home / ROWS for home in homes["trainer"]]
    names = [name for _, name in genesis.trainers]
    tested = folder / "evaluator" / ROWS
    whole = tested.is_file() and len(rows) == len(names) and all(path.is_file() for path in rows)
    return NetworkFiles(
        operator=load_account(folder / "relayer" / OPERATOR_KEY, genesis.operator),
        chain=record.with_followers(following),
        evaluations=read_evaluations(folder / "evaluator" / STATE / EVALUATIONS),
        validators=[read_figures(home / STATE / FIGURES) for home in homes["validator"]],
        trainers=[read_figures(home / STATE / FIGURES) for home in homes["trainer"]],
        trainer_rows=[read_trainer_rows(path, name, label) for name, path in zip(names, rows, strict=True)]
        if whole
        else None,
        test_rows=read_rows(tested, label) if whole else None,
        stewards=_read_stewards(consortium, experiment),
    )
