"""A whole run in one process: set up, play every round, settle, and write the folder that `verify` needs.

`_run_files` has what the folder holds, whoever played the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collegium.aggregation import Report
from collegium.consensus import (
    Block,
    EvidenceFound,
    FailingProof,
    FalseReceipt,
    FalseReject,
    HandoverProof,
    Header,
    QuorumCertificate,
    RegistryRoot,
    encode_withdrawal,
)
from collegium.crypto import Digest, os_random
from collegium.learning import Evaluation
from collegium.lineage import Store
from collegium.settlement import Chain, ContractRefusedError, header_root

from ._attackers import attack_kinds, attacker_names
from ._attest import Attest
from ._base_chain import CHAIN_FAILURES, BaseChain
from ._chains import chains_record, found_chains, watched_chains
from ._checkpoints import last_rounds
from ._consents import TaskConsents, check_licences, check_own_chains, licence_chains, read_withdrawals
from ._due_step import replace_file
from ._epoch_node import EpochNode, present
from ._epochs import KnownEpoch
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
from ._evidence import CHARGES_MAX, Charge, DeedKey, NoStakeError, RoundVotes, accuse, charge_of, deed_of, votes_of
from ._experiment import Experiment
from ._facts import attack_notes, round_facts
from ._genesis import Genesis
from ._journal import HANDOVER_KIND, HEADER_KIND, MERGED_KIND, BlockStore
from ._ledger import ObjectIndex, OrderedRound, Segment, assemble_rounds
from ._licence_settings import LicencePlace
from ._opened_rows import encode_opened_rows
from ._play import play_round
from ._quality_facts import weighed_event
from ._registries import certified_record, news_of
from ._rewards import reward_plan
from ._round_watch import PlayedRound
from ._run_files import (
    OPENED_ROWS,
    STORE,
    Leavings,
    RenderPage,
    RunRefusedError,
    attribution,
    claim_folder,
    references,
    write_run,
)
from ._setup import Federation, set_up
from ._sharded_ledger import ShardedRound, assemble_sharded
from ._sharded_node import ShardedNode
from ._sharded_play import play_sharded_round
from ._statement import WARNING_LENGTH_MAX, WARNINGS_MAX, RoundStatement, SiteStatement, Statement, sign_statement
from ._steward import records_of
from ._trainer import Trainer
from ._validator_node import ValidatorNode
from ._work_terms import court_rules
from ._workers import Workers

__all__ = ["run_experiment"]


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
    rounds: list[OrderedRound | ShardedRound] = field(default_factory=list)
    statements: list[RoundStatement] = field(default_factory=list)
    beacons: list[Mapping[str, Digest]] = field(default_factory=list)  # by round, then trainer
    blocks: list[list[Block]] = field(default_factory=lambda: [[]])  # by epoch
    tips: list[tuple[QuorumCertificate, ...]] = field(default_factory=lambda: [()])  # likewise
    view_before: int = 0
    last_model: bytes = b""
    votes: list[RoundVotes] = field(default_factory=list)
    charges: dict[DeedKey, Charge] = field(default_factory=dict)
    brought: int = 0  # how many of them went to the chain

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The ledger so far."""
        pairs = zip(self.blocks, self.tips, strict=True)
        return tuple(Segment(tuple(blocks), tip) for blocks, tip in pairs if blocks)

    def enter(self, archive: BlockStore, last: bytes) -> tuple[list[Block], tuple[QuorumCertificate, ...]]:
        """Enter an archive's new blocks up to the last payload of this kind; return them and what makes them final."""
        fresh = archive.blocks[len(self.blocks[-1]) :]
        end = max(place for place, block in enumerate(fresh) if block.payload[:1] == last) + 1
        blocks = list(fresh[:end])
        self.tips[-1] = archive.proofs[blocks[-1].digest]
        self.blocks[-1] += blocks
        return blocks, self.tips[-1]


def run_experiment(
    experiment: Experiment,
    out: Path,
    on_event: Callable[[Event], None],
    render_page: RenderPage,
    attest: Attest | None = None,
    licences: Sequence[Chain] = (),
) -> dict[str, object]:
    """Play an experiment and write its run into `out`, which must be missing or empty; return its summary.

    Args:
        experiment: what to play.
        out: the run's folder.
        on_event: is told of progress.
        render_page: makes the page of a summary.
        attest: at level "attested", returns the attestation over a report; None runs the experiment's command.
        licences: chains with licences that the experiment names; of others the nodes are asked that it names.

    Raises:
        RunRefusedError: the folder is in use.
        NoQuoteSourceError, QuoteCommandError, QuoteError: there is no quote, or none that the task accepts.
        ConsentMissingError: a licence is not what the experiment says, or its consent was taken back.
        WorldError: the chain or the disk failed.
        CollegiumError: the experiment's data or sizes are refused.
    """
    claim_folder(out)
    try:
        asked = _licences(experiment, licences)
    except CHAIN_FAILURES as error:
        raise WorldError(str(error)) from error
    federation = set_up(experiment, on_event, attest)
    check_own_chains(federation.genesis, experiment.chain)
    for note in attack_notes(experiment):
        on_event(Warning_(note))
    on_event(Message(f"level {experiment.task.level}; genesis {federation.genesis.digest.hex()[:16]}"))
    try:
        chains = found_chains(
            experiment.chain,
            federation.operator,
            federation.genesis.epoch_set,
            [(keys.account, keys.voting) for keys in federation.validators],
            court_rules(federation.genesis, experiment, federation.task),
            experiment.chain.staking(trainer.account for trainer in federation.trainers),
            reward_plan(experiment, federation.genesis, federation.task),
            experiment.chain.registering(
                (trainer.account, name)
                for trainer, (_, name) in zip(federation.trainers, federation.genesis.trainers, strict=True)
            ),
        )
        book, store = _Book(), Store(out / STORE)
        due = last_rounds(experiment.task.rounds, experiment.chain.checkpoint_every)
        with Workers() as workers:
            for number in range(experiment.task.rounds + 1):
                _bring_withdrawals(federation, asked, number, on_event)
                _bring_registries(federation, chains, on_event)
                _play(federation, number, book, store, workers, on_event)
                _open_retired(federation, number, out, on_event)
                ended, begun = (federation.epochs.of_round(at) for at in (number, number + 1))
                if number in due or begun is not ended:
                    _settle(federation, chains, ended, number, on_event)
                    _bring(federation, chains[0], book, on_event)
                if begun is not ended and number < experiment.task.rounds:
                    _hand_over(federation, chains, ended, begun, on_event)
        return _write(federation, chains, book, out, render_page)
    except CHAIN_FAILURES as error:
        raise WorldError(str(error)) from error
    except OSError as error:
        raise WorldError(f"{error.filename or out}: {error.strerror or error}") from error


def _licences(experiment: Experiment, given: Sequence[Chain]) -> Mapping[LicencePlace, Chain]:
    """Return the chains with the licences that an experiment names, after looking at them; none if it names none.

    Raises:
        ConsentMissingError: a licence is not what the experiment says, or there is no node to ask for it.
    """
    settings = experiment.licences
    if settings is None:
        return {}
    chains = licence_chains(settings, experiment.chain.urls, given)
    check_licences(chains, settings)
    return chains


def _bring_withdrawals(
    federation: Federation, chains: Mapping[LicencePlace, Chain], number: int, on_event: Callable[[Event], None]
) -> None:
    """Tell the validators of licences that were revoked since; what they order in this round holds from the next on."""
    network, nodes = federation.network, federation.present
    node = present(next(iter(nodes.values()))) if nodes else None
    if node is None or not isinstance(node.context.consents, TaskConsents):
        return
    consents, known = node.context.consents, node.state.withdrawals
    for record in (
        record for place, chain in chains.items() for record in read_withdrawals(chain, place, consents, known)
    ):
        entry = consents.licence_of(record)
        on_event(Warning_(f"round {number}: licence {entry.number} of {entry.site} was revoked; its data is left out"))
        for index, member in nodes.items():
            network.send(index, member.withdraw(encode_withdrawal(record), network.now_ms))


def _bring_registries(federation: Federation, chains: Sequence[BaseChain], on_event: Callable[[Event], None]) -> None:
    """Have the validators sign what chains hold that is new, and order it; headers say so from the next round on.

    Of a chain that does not answer what was known before stays.
    """
    network, nodes = federation.network, federation.present
    members = {index: node for index, member in nodes.items() if (node := present(member)) is not None}
    if len(chains) == 1 or not members:
        return
    watched = watched_chains(chains, federation.experiment.licences)
    first = next(iter(members.values()))
    seen = list[RegistryRoot]()
    for chain_id in sorted(watched):
        try:
            news = news_of(watched[chain_id], first.state.registries.coming)
        except CHAIN_FAILURES as error:
            on_event(Warning_(f"what chain {chain_id} holds stays as it was known: {error}"))
            continue
        seen += [] if news is None else [news]
    if not seen:
        return
    record = certified_record(seen, members.values(), watched, first.context.round.epoch_set)
    if record is None:
        on_event(Warning_("fewer than a quorum see the same of the chains: what they hold stays as it was known"))
        return
    for index, member in nodes.items():
        network.send(index, member.order_registries(record, network.now_ms))


def _play(
    federation: Federation,
    number: int,
    book: _Book,
    store: Store,
    workers: Workers,
    on_event: Callable[[Event], None],
) -> None:
    """Play one round and put what it leaves into the store and the book."""
    rounds, trainers = federation.experiment.task.rounds, _entrants(federation)
    if number:
        on_event(RoundStarted(number, rounds))

    def told(index: int, name: str) -> None:
        on_event(ReportSubmitted(number, name, index, len(trainers)))

    play = _play_shards if federation.sharded else _play_one
    beacons, played, ordered = play(federation, trainers, book, told, workers)
    book.beacons.append(beacons)
    for line in accusations(federation.genesis, played.evidence):
        on_event(Warning_(f"round {number}: {line}"))
    for line in _silence(federation, ordered):
        on_event(Warning_(f"round {number}: {line}"))
    header = played.header
    _keep(played, ordered, book, store)
    if federation.experiment.chain.courts:
        _note_evidence(federation, header, played, book)
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
                coordination_ms=round(played.coordination_ms, 3),
                finality_ms=round(played.finality_ms, 3),
                chain_bytes=None,
                prove_ms=said.prove_ms,
                verify_ms=said.verify_ms,
                energy_kwh=round(played.cpu_seconds, 6) * float(federation.experiment.committee.watts) / 3.6e6,
                lying_seats=facts.lying_seats,
                absent_seats=facts.absent_seats,
                view_changes=facts.view_changes,
            )
        )
    _tell_weights(federation, number, played, on_event)
    if header.outcome != "opened" and number == 0:
        raise RunRefusedError(
            f"round 0 is {header.outcome}: without the scaling of the features nothing can be trained"
        )
    if header.outcome != "opened":
        on_event(Message(f"round {number}: {header.outcome}; the model stays as it is"))


def _tell_weights(federation: Federation, number: int, played: PlayedRound, on_event: Callable[[Event], None]) -> None:
    """Tell what a round of training made of the trainers, where stewards measure them."""
    attacks = attack_kinds(federation.experiment.attack)
    weighed = weighed_event(federation.task, number, played.model, attacks) if number else None
    if weighed is not None:
        on_event(weighed)


def _silence(federation: Federation, ordered: OrderedRound | ShardedRound) -> list[str]:
    """Return what is to be said of a round of training in which a steward's record does not count."""
    stewards, counted = federation.stewards, () if isinstance(ordered, ShardedRound) else ordered.records
    if len(counted) == len(stewards) or ordered.certified.header.round == 0:
        return []
    reasons = [steward.silent for steward in stewards if steward.silent is not None]
    return [
        f"{len(counted)} of {len(stewards)} stewards have a record that counts",
        *(f"a steward measured nothing: {reason}" for reason in reasons),
    ]


def _entrants(federation: Federation) -> list[Trainer]:
    """Return the trainers that may report in the present round: all, where none are drawn apart."""
    quality = federation.task.quality
    if quality is None:
        return federation.trainers
    state = present(next(iter(federation.present.values()))).state.round
    entry = quality.entry(state.terms.round, state.model, state.terms.beacon)
    return [each for each in federation.trainers if entry is None or each.account.address in entry.weights]


def _play_one(
    federation: Federation,
    trainers: list[Trainer],
    book: _Book,
    on_report: Callable[[int, str], None],
    workers: Workers,
) -> tuple[Mapping[str, Digest], PlayedRound, OrderedRound]:
    """Play a round with one committee; return each trainer's beacon value, what it left, and what was ordered."""
    epoch, members = federation.epochs.of_round(len(book.rounds)), federation.present
    first = next(iter(members.values()))
    around = (federation.network, members, epoch.epoch_set, federation.task, trainers)
    state = present(first).state.round
    trained = federation.attackers.updates(state.terms, state.model, federation.trainers)
    records = records_of(federation.stewards, federation.task, state.terms.round, state.model)
    played = play_round(*around, os_random, on_report, workers, trained, records)
    beacons = dict.fromkeys((trainer.rows.name for trainer in federation.trainers), state.terms.beacon)
    return beacons, played, _ordered(federation, book, epoch, first)


def _play_shards(
    federation: Federation,
    trainers: list[Trainer],
    book: _Book,
    on_report: Callable[[int, str], None],
    workers: Workers,
) -> tuple[Mapping[str, Digest], PlayedRound, ShardedRound]:
    """Play a round with several committees; as `_play_one`."""
    first = next(iter(federation.sharded.values()))
    terms, accounts = first.state.shards.terms, [trainer.account.address for trainer in trainers]
    beacons = {
        trainer.rows.name: terms.shards[terms.shard_of(accounts, trainer.account.address)].beacon
        for trainer in trainers
    }
    epoch_set = federation.genesis.epoch_set
    around = (federation.network, federation.sharded, epoch_set, federation.task, trainers)
    played = play_sharded_round(*around, os_random, on_report, workers)
    (ordered,) = assemble_sharded(
        *book.enter(first.archive, MERGED_KIND), terms.plan.count, len(book.rounds), book.view_before
    )
    book.view_before = ordered.views[-1]
    results = [shard.result.result for shard in ordered.shards if shard.result is not None]
    played.key_sums = {digest: played.key_sums[digest] for result in results for _, digest in result.key_sums}
    return beacons, played, ordered


def _keep(played: PlayedRound, ordered: OrderedRound | ShardedRound, book: _Book, store: Store) -> None:
    """Put a round's objects into the store; what was not admitted is in no sum, and nobody needs to keep it."""
    for report_id in ordered.admitted:
        upload = played.uploads[report_id]
        book.index["reports"][report_id] = store.put(upload.report.to_bytes())
        book.ciphertexts.add(store.put(upload.ciphertext))
        book.reports[report_id] = upload.report
        if upload.proof:
            book.proofs.add(store.put(upload.proof))
        if upload.report.registration in played.registrations:
            book.registrations.add(store.put(played.registrations[upload.report.registration]))
    book.proof_bytes.append(sum(len(played.uploads[report].proof) for report in ordered.admitted))
    for digest, key_sum in played.key_sums.items():
        book.index["key_sums"][digest] = store.put(key_sum.to_bytes())
    book.models.add(store.put(played.model))
    book.last_model = played.model


def _note_evidence(federation: Federation, header: Header, played: PlayedRound, book: _Book) -> None:
    """Keep what can cost members their stakes: votes for the final header, and what excludes each other."""
    if not federation.sharded:
        members = federation.epochs.of_round(header.round).epoch_set
        book.votes.append(votes_of(header.round, members, header.digest, played.votes))
    epoch_sets = [known.epoch_set for known in federation.epochs.known]
    for found in played.evidence:
        charge = charge_of(found, epoch_sets)
        if charge is not None and len(book.charges) < CHARGES_MAX:
            book.charges.setdefault(deed_of(charge, epoch_sets).key, charge)


def _bring(federation: Federation, chain: BaseChain, book: _Book, on_event: Callable[[Event], None]) -> None:
    """Bring what members are newly charged with before the contract that takes stakes, and say what it cost."""
    epoch_sets = [known.epoch_set for known in federation.epochs.known]
    for charge in [*book.charges.values()][book.brought :]:
        book.brought += 1
        try:
            accusation = accuse(charge, epoch_sets, chain.numbers)
            found = chain.bring(accusation)
        except (NoStakeError, ContractRefusedError) as error:
            on_event(Warning_(f"nothing is taken: {error}"))
            continue
        burned, rewarded = found.burned, found.rewarded
        on_event(Warning_(f"{accusation.deed.what}: {burned} wei of its stake burned, {rewarded} to who reported it"))


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


def _ordered(federation: Federation, book: _Book, epoch: KnownEpoch, member: ValidatorNode | EpochNode) -> OrderedRound:
    """Return the round just ended, from a live validator's archive; learn of the epoch that it hands over to."""
    node = member.of_epoch(epoch.epoch) if isinstance(member, EpochNode) else member
    if node is None:
        raise RunRefusedError(f"a member of epoch {epoch.epoch} has forgotten it before its round was written down")
    number, (blocks, tip) = len(book.rounds), book.enter(node.archive, HEADER_KIND)
    (ordered,) = assemble_rounds(blocks, tip, number, book.view_before)
    book.view_before = ordered.views[-1]
    for block in blocks:
        if block.payload[:1] == HANDOVER_KIND:
            federation.epochs.hand_over(HandoverProof(block, node.archive.proofs[block.digest]))
    if federation.epochs.of_round(number + 1) is not epoch:
        book.blocks.append([])
        book.tips.append(())
        book.view_before = 0
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


def _settle(
    federation: Federation,
    chains: Sequence[BaseChain],
    epoch: KnownEpoch,
    number: int,
    on_event: Callable[[Event], None],
) -> None:
    """Post one checkpoint of the headers since the last one, all of this epoch, to every chain."""
    chain, *followers = chains
    nodes = _signers(federation, epoch)
    first = chain.facts[-1].checkpoint.last_round + 1 if chain.facts else 0
    headers = [header.digest for header in nodes[0].headers if first <= header.round <= number]
    facts = chain.settle(header_root(headers), number, nodes)
    for follower in followers:
        follower.take(chain.taken[-1].step)
    on_event(CheckpointPosted(first, number, facts.gas, facts.calldata_bytes, facts.checkpoint.digest.hex()))


def _hand_over(
    federation: Federation,
    chains: Sequence[BaseChain],
    ended: KnownEpoch,
    begun: KnownEpoch,
    on_event: Callable[[Event], None],
) -> None:
    """Put the next epoch's set in office on every chain, and say who is in it."""
    chain, *followers = chains
    opened = chain.relieve(begun.epoch_set, _nodes_of(federation, ended))
    for follower in followers:
        follower.take(chain.taken[-1].step)
    size, candidates = begun.epoch_set.size, len(federation.genesis.validators)
    on_event(
        Message(
            f"epoch {begun.epoch} begins with round {begun.first_round}: {size} of {candidates} validators, put in "
            f"office on the chain for {opened.gas} gas"
        )
    )


def _signers(federation: Federation, epoch: KnownEpoch) -> Sequence[ValidatorNode | ShardedNode]:
    return list(federation.sharded.values()) or _nodes_of(federation, epoch)


def _nodes_of(federation: Federation, epoch: KnownEpoch) -> list[ValidatorNode]:
    """Return the live members of the present epoch, or of the one before it, as they are in that epoch."""
    participants = federation.participants.values()
    nodes = (node.of_epoch(epoch.epoch) if isinstance(node, EpochNode) else node for node in participants)
    return [node for node in nodes if node is not None]


def _write(
    federation: Federation, chains: Sequence[BaseChain], book: _Book, out: Path, render_page: RenderPage
) -> dict[str, object]:
    """Write the run's files and return the summary."""
    named = (book.ciphertexts, book.models, book.proofs, book.registrations)
    left = Leavings(
        genesis=federation.genesis,
        segments=book.segments,
        epochs=federation.epochs,
        rounds=book.rounds,
        index=ObjectIndex.of(book.index["reports"], book.index["key_sums"], *named),
        reports=book.reports,
        proof_bytes=book.proof_bytes,
        chain=chains_record(chains),
        statement=sign_statement(_statement(federation, book), federation.operator),
        votes=book.votes,
        charges=tuple(book.charges.values()),
        opened_rows=_opened_rows(federation),
    )
    return write_run(left, federation.experiment, federation.task, out, render_page)


def _opened_rows(federation: Federation, round_number: int | None = None) -> bytes | None:
    """Return stewards' shards that measure no round from this one on, None: all; None where they stay closed."""
    settings = federation.experiment.stewards
    opens = settings is not None and settings.open
    return encode_opened_rows(federation.stewards, round_number) if opens else None


def _open_retired(federation: Federation, number: int, out: Path, on_event: Callable[[Event], None]) -> None:
    """Write the shards that have measured their last round, while the run goes on: who lied is known from then on."""
    now, next_one = (max((held.retired(at) for held in federation.stewards), default=0) for at in (number, number + 1))
    opened = _opened_rows(federation, number + 1) if next_one > now else None
    if opened is not None:
        replace_file(out / OPENED_ROWS, opened)
        on_event(Message(f"round {number}: stewards' shard {next_one} has measured its last round; its rows are open"))


def _statement(federation: Federation, book: _Book) -> Statement:
    """Return everything that rests on the operator's word, unsigned."""
    attackers = attacker_names(federation.experiment.attack)
    rows = [trainer.rows for trainer in federation.trainers if trainer.rows.name not in attackers]
    last = (lambda number, name: book.beacons[number][name], book.last_model, rows, federation.test_rows)
    noisy, pooled, float32 = federation.task.privacy is not None, None, None
    if not noisy:  # these figures, and what the split warns of, would tell of rows without noise
        pooled, float32 = references(federation.task, federation.experiment.task.rounds, *last)
    return Statement(
        task=federation.genesis.task,
        last_header=book.rounds[-1].certified.header.digest,
        rounds=tuple(book.statements),
        auc_pooled=pooled,
        auc_float32=float32,
        sites=_sites(federation),
        warnings=() if noisy else tuple(text[:WARNING_LENGTH_MAX] for text in federation.warnings[:WARNINGS_MAX]),
        attribution=attribution(federation.experiment),
        signature=b"",
    )


def _sites(federation: Federation) -> tuple[SiteStatement, ...]:
    rows = dict.fromkeys(federation.genesis.sites, 0)
    for trainer in federation.trainers:
        rows[trainer.rows.site] += len(trainer.rows.rows)
    return tuple(SiteStatement(name, count, federation.test_counts.get(name, 0)) for name, count in rows.items())
