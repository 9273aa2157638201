"""One round of the protocol, from private rows to a final header, in the order in which it happens.

Read this file first. Each step is one call into one room; what the validators do with the messages is
`collegium.consensus._round`, one function a step, in this same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import Draft, KeyClaim, RoundTerms, Upload
from collegium.consensus import (
    Admitted,
    EpochSet,
    EvidenceFound,
    Header,
    HeaderVote,
    Held,
    Refused,
    Registered,
    Release,
    RoundFinished,
    RoundRecord,
    check_proof,
    proof_key,
    registration_key,
)
from collegium.crypto import Digest, Randomness
from collegium.errors import CollegiumError

from ._epoch_node import EpochMessage, EpochNode
from ._network import Delivery, Network, SharedWork
from ._played_task import PlayedTask
from ._proofs import DataPack, SecretDraft
from ._trainer import Trainer
from ._validator_node import ValidatorNode
from ._workers import Done, Workers

__all__ = ["PlayedRound", "TrainersBench", "Watch", "lasts", "play_round", "present", "verify_ahead"]

ROUND_LIMIT_MS = 600_000  # of virtual time; a healthy round takes about one second
MEASURED_AHEAD_MS = 250  # by which stewards' records come before reports, whose proofs take longer than a gradient
TRAINERS_AT_ONCE = 64  # whose drafts are in memory together


@dataclass
class PlayedRound:
    """What a round left behind, and what it took.

    Attributes:
        uploads: what was sent, by report id: public parts go into the run's store.
        header, model: the final header and the model state it names.
        coordination_ms: last report admitted -> result certified, on the measured clock.
        finality_ms: last report admitted -> final at a quorum, on the measured clock.
        cpu_seconds, consensus_cpu_seconds: of trainers and seats; of the seats alone. Seats are charged as if each were
            its own machine, so what they share in this process counts for every one of them.
        prove_ms, verify_ms: of one report's proof, the median of all: in the trainer's process, and in a verifier's.
        registrations: bytes of the registrations that the uploads refer to.
        refused: named reasons for which validators ignored messages.
        evidence: what convicts somebody, of whatever kind.
        votes: for headers of the round, each one validator's own, as they reached whoever gathered them.
    """

    uploads: dict[Digest, aggregation.Upload]
    key_sums: dict[Digest, aggregation.KeySum] = field(default_factory=dict)
    header: Header | None = None
    model: bytes = b""
    coordination_ms: float = 0.0
    finality_ms: float = 0.0
    cpu_seconds: float = 0.0
    consensus_cpu_seconds: float = 0.0
    prove_ms: float | None = None
    verify_ms: float | None = None
    registrations: dict[Digest, bytes] = field(default_factory=dict)
    evidence: list[EvidenceFound] = field(default_factory=list)
    votes: list[HeaderVote] = field(default_factory=list)
    refused: list[CollegiumError] = field(default_factory=list)


def present(node: ValidatorNode | EpochNode) -> ValidatorNode:
    """Return a validator as it is in its present epoch, in which it has a place."""
    return node.node if isinstance(node, EpochNode) else node


def play_round(
    network: Network,
    nodes: Mapping[int, ValidatorNode | EpochNode],
    epoch_set: EpochSet,
    task: PlayedTask,
    trainers: list[Trainer],
    random: Randomness,
    on_report: Callable[[int, str], None],
    workers: Workers | None = None,
    trained: Mapping[bytes, tuple[npt.NDArray[np.int64], int]] | None = None,
    records: Sequence[bytes] = (),
) -> PlayedRound:
    """Play one round until its header is final at every live validator; proofs are made and verified by `workers`.

    Args:
        nodes: the live members of the round's epoch.
        epoch_set: that epoch's; trained: as a bench takes it; records: the stewards', of this round's model.
    Raises:
        StalledError: no header becomes final within the limit of virtual time.
        CollegiumError: a trainer's data do not fit the task.
    """
    cpu_began = time.process_time()
    workers = workers or Workers(1)
    network.work.forget(lasts)
    state = present(next(iter(nodes.values()))).state.round

    # 1. task: the final header before this one fixed the terms; every validator holds the same
    terms, model = state.terms, state.model

    # measure: what hidden rows say of the model, by which the next round's updates are scored
    _give(network, nodes, [RoundRecord(terms.round, record) for record in records])
    # 2.-5. learn, mask and commit, prove, seal and sign: one message, and the trainer may leave
    bench = TrainersBench(task, terms, model, state.registered, workers, random, trained=trained or {})
    uploads: dict[Digest, Upload] = {}
    for index, upload in enumerate(bench.uploads(trainers)):
        uploads[upload.report.id] = upload
        on_report(index, trainers[index].rows.name)
    trainers_cpu_seconds = time.process_time() - cpu_began + bench.cpu_seconds
    verify_ms = verify_ahead(network.work, task, terms, model, bench.held(uploads), workers)
    _give(network, nodes, uploads.values(), MEASURED_AHEAD_MS if records else 0)

    # 6.-11. admit, close, open, step, weigh, certify: the validators' state machines
    watch, began_compute = _Watch(len(nodes), terms.round), network.compute_ms

    def over(delivery: Delivery) -> bool:
        node = nodes.get(delivery.participant)  # None: of an epoch that is over, and not of the present one
        return node is not None and watch.saw(delivery, node)

    network.run(over, network.now_ms + ROUND_LIMIT_MS)

    # what became of it
    finished = watch.finished[0]
    final_ms = sorted(watch.final_ms)[epoch_set.quorum - 1]
    consensus_cpu_seconds = (network.compute_ms - began_compute) / 1e3
    return PlayedRound(
        uploads=uploads,
        key_sums=watch.named(finished.header),
        header=finished.header,
        model=finished.model,
        coordination_ms=watch.certified_ms - watch.admitted_ms,
        finality_ms=final_ms - watch.admitted_ms,
        cpu_seconds=trainers_cpu_seconds + consensus_cpu_seconds,
        consensus_cpu_seconds=consensus_cpu_seconds,
        prove_ms=median(bench.prove_ms) if bench.prove_ms else None,
        verify_ms=median(verify_ms) if verify_ms else None,
        registrations=bench.registrations,
        evidence=watch.evidence,
        votes=watch.votes,
        refused=watch.refused,
    )


def _give(
    network: Network, validators: Iterable[int], messages: Iterable[Upload | RoundRecord], later_ms: int = 0
) -> None:
    """Send messages from outside the committee to every validator, so much later than now."""
    delay = network.link_ms + later_ms
    for message in messages:
        for validator in validators:
            network.post(validator, message, network.now_ms + delay, network.measured_ms + delay)


@dataclass
class TrainersBench:
    """The trainers' side of one round, each as its own machine; what is heavy goes to workers.

    A trainer's process has a bench with one place, its own.

    Attributes:
        trained: by trainer, an update that it has trained already, and how many rounds before this one's model.
    """

    task: PlayedTask
    terms: RoundTerms
    model: bytes
    registered: Mapping[bytes, Registered]
    workers: Workers
    random: Randomness
    prove_ms: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    registrations: dict[Digest, bytes] = field(default_factory=dict)
    trained: Mapping[bytes, tuple[npt.NDArray[np.int64], int]] = field(default_factory=dict)

    def uploads(self, trainers: list[Trainer]) -> Iterator[Upload]:
        """Yield every trainer's upload, in their order."""
        self._register(trainers)
        for start in range(0, len(trainers), TRAINERS_AT_ONCE):
            group = trainers[start : start + TRAINERS_AT_ONCE]
            drafts = [self._draft(trainer) for trainer in group]
            yield from self._report(group, drafts)

    def held(self, uploads: Mapping[Digest, Upload]) -> list[Held]:
        """Return the uploads as validators hold them."""
        layout, found = self.terms.layout, []
        for upload in uploads.values():
            registration = self.registrations.get(upload.report.registration, b"")
            ciphertext = aggregation.decode_ciphertext(layout, upload.ciphertext)
            found.append(Held(upload.report, ciphertext, upload.proof, registration))
        return found

    def _register(self, trainers: list[Trainer]) -> None:
        """Have every trainer whose encodings are used up register anew."""
        number = self.terms.round
        if not self.task.registration_bytes_max(number):
            return
        lacking = [trainer for trainer in trainers if not trainer.journal.covers(number)]
        work = []
        for trainer in lacking:
            account = trainer.account.address
            known = self.registered.get(account)
            earlier = trainer.journal.use_spare(None if known is None else known.digest)
            first = number if earlier is None else earlier.record.rounds.stop
            work.append((first, self.model, account, trainer.rows.rows, earlier, self.random))
        for trainer, done in zip(lacking, self.workers.map(self.task.register, work), strict=True):
            trainer.journal.register(done.result())
            self.cpu_seconds += done.cpu_seconds

    def _draft(self, trainer: Trainer) -> Draft:
        # 2. learn: the agreed rule on private rows, in exact integers
        if trainer.account.address in self.trained:
            update, _ = self.trained[trainer.account.address]
        else:
            update = self.task.update(self.terms.round, self.model, trainer.rows, self.terms.beacon)
        # 3. mask and commit
        return aggregation.begin_upload(self.terms, trainer.account.address, update, self.random)

    def _report(self, trainers: list[Trainer], drafts: list[Draft]) -> Iterator[Upload]:
        number, proofs = self.terms.round, bool(self.task.proof_bytes_max(self.terms.round))
        packs = [t.journal.use(number) if self.task.registration_bytes_max(number) else None for t in trainers]
        # 4. prove, or let the hardware speak
        results = self._proofs(trainers, drafts, packs) if proofs else iter(())
        for trainer, draft, pack in zip(trainers, drafts, packs, strict=True):
            proof, claim = b"", None  # type: bytes, KeyClaim | None
            if proofs:
                done = next(results)
                proof, claim = done.result()
                self.prove_ms.append(done.took_ms)
                self.cpu_seconds += done.cpu_seconds
            # 5. seal and sign
            data = b"" if pack is None else pack.data
            digest = aggregation.proof_digest(data)
            _, stale = self.trained.get(trainer.account.address, (None, 0))
            upload = aggregation.finish_upload(self.terms, draft, trainer.account, proof, claim, digest, stale)
            self.registrations.update({digest: data} if data else {})
            known = self.registered.get(trainer.account.address)
            yield upload if known is not None and known.digest == digest else replace(upload, registration=data)

    def _proofs(
        self, trainers: list[Trainer], drafts: list[Draft], packs: Sequence[DataPack | None]
    ) -> Iterator[Done[tuple[bytes, KeyClaim | None]]]:
        """Yield each draft's proof with its claim, or its attestation without one."""
        if self.task.level == "attested":
            quoted = ((self.terms, draft, trainer.attest) for trainer, draft in zip(trainers, drafts, strict=True))
            yield from Workers(1).map(self.task.attest, quoted)  # a source of quotes stays in this process
            return
        work = (
            (self.terms, self.model, SecretDraft.of(draft), trainer.rows.rows, pack, self.random)
            for trainer, draft, pack in zip(trainers, drafts, packs, strict=True)
        )
        yield from self.workers.map(self.task.prove, work)


def verify_ahead(
    work: SharedWork, task: PlayedTask, terms: RoundTerms, model: bytes, reports: list[Held], workers: Workers
) -> list[float]:
    """Verify registrations and proofs in worker processes; enter into `work` what the validators will ask for.

    Return the milliseconds of each proof. Nothing is decided here: a proof that fails fails where it is asked for.
    """
    if not task.proof_bytes_max(terms.round):
        return []
    fresh = {registration_key(held.report): held for held in reports if held.registration}
    fresh = {key: held for key, held in fresh.items() if key not in work.results}
    arguments = ((held.report.trainer, held.registration) for held in fresh.values())
    for key, done in zip(fresh, workers.map(task.verify_registration, arguments), strict=True):
        work.put(key, None, done.refusal, done.took_ms)
    took = []
    checks = ((task, terms, model, held) for held in reports)
    for held, done in zip(reports, workers.map(_verify_proof, checks), strict=True):
        work.put(proof_key(terms, held.report), None, done.refusal, done.took_ms)
        took.append(done.took_ms)
    return took


def _verify_proof(task: PlayedTask, terms: RoundTerms, model: bytes, held: Held) -> None:
    check_proof(SharedWork(), task, terms, model, held, vetted=True)


def lasts(key: Hashable) -> bool:
    """Tell whether shared work is kept for the rounds to come: registrations, which many rounds refer to."""
    return isinstance(key, tuple) and key[0] == "registration"


@dataclass
class Watch:
    """Looks over the validators' shoulders and notes when things happened on the measured clock."""

    nodes: int
    round: int
    admitted_ms: float = 0.0
    certified_ms: float = 0.0
    final_ms: list[float] = field(default_factory=list)
    finished: list[RoundFinished] = field(default_factory=list)
    key_sums: dict[Digest, aggregation.KeySum] = field(default_factory=dict)
    refused: list[CollegiumError] = field(default_factory=list)
    evidence: list[EvidenceFound] = field(default_factory=list)
    votes: list[HeaderVote] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Every live validator has the final header."""
        return len(self.final_ms) == self.nodes

    def heard(self, message: object) -> None:
        """Keep the key sums that a message publishes, and a vote for a header."""
        if isinstance(message, Release):
            self.key_sums.update((key_sum.digest, key_sum) for key_sum in message.key_sums)
        elif isinstance(message, HeaderVote) and message.round == self.round:
            self.votes.append(message)

    def noticed(self, at_ms: float, notes: Iterable[object]) -> None:
        """Take what a validator noticed in a delivery."""
        for note in notes:
            match note:
                case Admitted() if note.round == self.round:
                    self.admitted_ms = max(self.admitted_ms, at_ms)
                case RoundFinished() if note.header.round == self.round:
                    self.finished.append(note)
                    self.final_ms.append(at_ms)
                case Refused():
                    self.refused.append(note.reason)
                case EvidenceFound():
                    self.evidence.append(note)


class _Watch(Watch):
    """Over validators that have one committee a round."""

    def saw(self, delivery: Delivery, node: ValidatorNode | EpochNode) -> bool:
        """Note what a delivery brought about; True when every live validator has the final header."""
        self.heard(delivery.message.message if isinstance(delivery.message, EpochMessage) else delivery.message)
        for one in node.nodes if isinstance(node, EpochNode) else (node,):
            if isinstance(one, ValidatorNode):
                if one.certified_round == self.round and not self.certified_ms:
                    self.certified_ms = delivery.measured_ms
                self.noticed(delivery.measured_ms, one.notes)
                one.notes.clear()
        return self.over

    def named(self, header: Header) -> dict[Digest, aggregation.KeySum]:
        """Return the signed key sums that the header names."""
        return {digest: self.key_sums[digest] for _, digest in header.key_sums}
