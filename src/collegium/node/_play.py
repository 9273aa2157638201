"""One round of the protocol, from private rows to a final header, in the order in which it happens. Read this first.

The steps are those of README.md; behind each stand the rooms that it calls.

    1. begin     the final header before fixed model, rule, seats and beacon            consensus
    2. learn     run the agreed rule on private rows                                    learning
    3. mask      hide the update behind a key stream                                    aggregation
    4. prove     commit to the key, and prove what is masked                            commitment, proofs
    5. sign      seal to each seat its columns; one message, and the trainer may leave  aggregation, crypto
    6. admit     check a report's columns and what proves it, sign a receipt            aggregation, proofs
    7. close     make one set of reports final that a quorum of receipts vouches for    consensus
    8. release   add the columns of that set, and only now publish their sum            aggregation
    9. open      decode the sum of keys, unmask the sum of updates, step the model      aggregation, learning
    10. certify  sign a header that says what became of it, and make that final         consensus, crypto

What a trainer does, 2 to 5, is `TrainersBench`, here and in a trainer's process alike. What validators do, 6 to 10, is
a state machine, because each step waits for somebody's message: read `collegium.consensus._round`, under these
headings. What follows a final header is no part of a round: `_run` settles it on a chain, and notes what came of what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import Draft, KeyClaim, RoundTerms, Upload
from collegium.consensus import EpochSet, Held, Registered, RoundRecord
from collegium.crypto import Digest, Randomness

from ._epoch_node import EpochNode, present
from ._network import Delivery, Network
from ._played_task import PlayedTask
from ._proofs import DataPack, SecretDraft
from ._round_watch import PlayedRound, RoundWatch
from ._trainer import Trainer
from ._validator_node import ValidatorNode
from ._verify_ahead import lasts, verify_ahead
from ._workers import Done, Workers

__all__ = ["ROUND_LIMIT_MS", "TrainersBench", "play_round"]

ROUND_LIMIT_MS = 600_000  # of virtual time; a healthy round takes about one second
MEASURED_AHEAD_MS = 250  # by which stewards' records come before reports, whose proofs take longer than a gradient
TRAINERS_AT_ONCE = 64  # whose drafts are in memory together


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
        nodes: the live members of the round's epoch, by place among the candidates; epoch_set: that epoch's.
        random: of the trainers' keys, noise and proofs.
        on_report: is told of each report, by its place among them and its trainer's name.
        trained: as a bench takes it; records: the stewards', of this round's model.

    Raises:
        StalledError: no header becomes final within the limit of virtual time.
        CollegiumError: a trainer's data do not fit the task.
    """
    cpu_began = time.process_time()
    workers = workers or Workers(1)
    network.work.forget(lasts)

    # 1. the final header before this one fixed model, rule, seats and beacon; every validator holds the same
    state = present(next(iter(nodes.values()))).state.round
    terms, model = state.terms, state.model

    # stewards measure the model on hidden rows meanwhile, by which the next round's updates are scored
    _give(network, nodes, [RoundRecord(terms.round, record) for record in records])

    # 2.-5. learn, mask, commit and prove, seal and sign: one message, and the trainer may leave
    bench = TrainersBench(task, terms, model, state.registered, workers, random, trained=trained or {})
    uploads: dict[Digest, Upload] = {}
    for index, upload in enumerate(bench.uploads(trainers)):
        uploads[upload.report.id] = upload
        on_report(index, trainers[index].rows.name)
    trainers_cpu_seconds = time.process_time() - cpu_began + bench.cpu_seconds
    verify_ms = verify_ahead(network.work, task, terms, model, bench.held(uploads), workers)
    _give(network, nodes, uploads.values(), MEASURED_AHEAD_MS if records else 0)

    # 6.-10. admit, close, release, open, certify: the validators' state machines, until the header is final
    watch, began_compute_ms = RoundWatch(len(nodes), terms.round), network.compute_ms

    def over(delivery: Delivery) -> bool:
        node = nodes.get(delivery.participant)  # None: of an epoch that is over, and not of the present one
        return node is not None and watch.saw(delivery, node)

    network.run(over, network.now_ms + ROUND_LIMIT_MS)

    # what became of it
    played = watch.left(
        epoch_set.quorum,
        uploads,
        bench.registrations,
        trainers_cpu_seconds=trainers_cpu_seconds,
        consensus_cpu_seconds=(network.compute_ms - began_compute_ms) / 1e3,
        prove_ms=bench.prove_ms,
        verify_ms=verify_ms,
    )
    played.key_sums = {digest: played.key_sums[digest] for _, digest in played.header.key_sums}
    return played


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
        # 3. mask the update, and 4. commit to the key
        return aggregation.begin_upload(self.terms, trainer.account.address, update, self.random)

    def _report(self, trainers: list[Trainer], drafts: list[Draft]) -> Iterator[Upload]:
        registered = bool(self.task.registration_bytes_max(self.terms.round))
        packs = [trainer.journal.use(self.terms.round) if registered else None for trainer in trainers]
        # 4. prove what is masked, or let the hardware speak
        proofs = self._proofs(trainers, drafts, packs)
        for trainer, draft, pack, (proof, claim) in zip(trainers, drafts, packs, proofs, strict=True):
            # 5. seal each seat's columns and sign
            yield self._seal(trainer, draft, pack, proof, claim)

    def _proofs(
        self, trainers: list[Trainer], drafts: list[Draft], packs: Sequence[DataPack | None]
    ) -> Iterator[tuple[bytes, KeyClaim | None]]:
        """Yield each draft's proof with its claim, its attestation alone, or nothing where none is asked for."""
        results: Iterator[Done[tuple[bytes, KeyClaim | None]]]
        if not self.task.proof_bytes_max(self.terms.round):
            yield from ((b"", None) for _ in drafts)
            return
        if self.task.level == "attested":
            quoted = ((self.terms, draft, trainer.attest) for trainer, draft in zip(trainers, drafts, strict=True))
            results = Workers(1).map(self.task.attest, quoted)  # a source of quotes stays in this process
        else:
            work = (
                (self.terms, self.model, SecretDraft.of(draft), trainer.rows.rows, pack, self.random)
                for trainer, draft, pack in zip(trainers, drafts, packs, strict=True)
            )
            results = self.workers.map(self.task.prove, work)
        for done in results:
            proof = done.result()
            self.prove_ms.append(done.took_ms)
            self.cpu_seconds += done.cpu_seconds
            yield proof

    def _seal(
        self, trainer: Trainer, draft: Draft, pack: DataPack | None, proof: bytes, claim: KeyClaim | None
    ) -> Upload:
        """Return the upload; it brings the registration along until a final close has named that."""
        account, data = trainer.account, b"" if pack is None else pack.data
        digest = aggregation.proof_digest(data)
        _, staleness = self.trained.get(account.address, (None, 0))
        upload = aggregation.finish_upload(self.terms, draft, account, proof, claim, digest, staleness)
        if data:
            self.registrations[digest] = data
        known = self.registered.get(account.address)
        return upload if known is not None and known.digest == digest else replace(upload, registration=data)
