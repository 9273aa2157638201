"""One round of the protocol, from private rows to a final header, in the order in which it happens.

Read this file first. Each step is one call into one room; what the validators do with the messages is
`collegium.consensus._round`, one function a step, in this same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from collegium import aggregation
from collegium.consensus import Admitted, EpochSet, Header, Refused, Release, RoundFinished
from collegium.crypto import AccountKey, Digest, Randomness
from collegium.errors import CollegiumError
from collegium.learning import TrainerRows

from ._network import Delivery, Network
from ._task import LearningTask
from ._validator_node import ValidatorNode

__all__ = ["PlayedRound", "Trainer", "play_round"]

ROUND_LIMIT_MS = 600_000  # of virtual time; a healthy round takes about one second


@dataclass(frozen=True, slots=True, eq=False)
class Trainer:
    """A trainer: its account and the rows that never leave it."""

    account: AccountKey
    rows: TrainerRows


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
        refused: named reasons for which validators ignored messages.
    """

    uploads: dict[Digest, aggregation.Upload]
    key_sums: dict[Digest, aggregation.KeySum] = field(default_factory=dict)
    header: Header | None = None
    model: bytes = b""
    coordination_ms: float = 0.0
    finality_ms: float = 0.0
    cpu_seconds: float = 0.0
    consensus_cpu_seconds: float = 0.0
    refused: list[CollegiumError] = field(default_factory=list)


def play_round(
    network: Network,
    nodes: dict[int, ValidatorNode],
    epoch_set: EpochSet,
    task: LearningTask,
    trainers: list[Trainer],
    random: Randomness,
    on_report: Callable[[int, str], None],
) -> PlayedRound:
    """Play one round until its header is final at every live validator.

    Raises:
        StalledError: no header becomes final within the limit of virtual time.
        CollegiumError: a trainer's data do not fit the task.
    """
    cpu_began = time.process_time()
    network.work.forget()
    state = next(iter(nodes.values())).state.round

    # 1. task: the final header before this one fixed the terms; every validator holds the same
    terms, model = state.terms, state.model

    uploads = {}
    for index, trainer in enumerate(trainers):
        # 2. learn: the agreed rule on private rows, in exact integers
        update = task.update(terms.round, model, trainer.rows, terms.beacon)
        # 3.-5. mask, commit, seal, sign: one message, and the trainer may leave (4, prove: not there yet)
        upload = aggregation.make_upload(terms, trainer.account, update, random)
        uploads[upload.report.id] = upload
        on_report(index, trainer.rows.name)
    trainers_cpu_seconds = time.process_time() - cpu_began
    for upload in uploads.values():
        for validator in nodes:
            network.post(validator, upload, network.now_ms + network.link_ms, network.measured_ms + network.link_ms)

    # 6.-11. admit, close, (score: not there yet), open, step, certify: the validators' state machines
    watch = _Watch(len(nodes), epoch_set.quorum, terms.round)
    began_compute = network.compute_ms
    network.run(lambda delivery: watch.saw(delivery, nodes[delivery.participant]), network.now_ms + ROUND_LIMIT_MS)

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
        refused=watch.refused,
    )


@dataclass
class _Watch:
    """Looks over the validators' shoulders and notes when things happened on the measured clock."""

    nodes: int
    quorum: int
    round: int
    admitted_ms: float = 0.0
    certified_ms: float = 0.0
    final_ms: list[float] = field(default_factory=list)
    finished: list[RoundFinished] = field(default_factory=list)
    key_sums: dict[Digest, aggregation.KeySum] = field(default_factory=dict)
    refused: list[CollegiumError] = field(default_factory=list)

    def saw(self, delivery: Delivery, node: ValidatorNode) -> bool:
        """Note what a delivery brought about; True when every live validator has the final header."""
        message = delivery.message
        if isinstance(message, Release):
            self.key_sums.update((key_sum.digest, key_sum) for key_sum in message.key_sums)
        if node.certified_round == self.round and not self.certified_ms:
            self.certified_ms = delivery.measured_ms
        for note in node.notes:
            match note:
                case Admitted() if note.round == self.round:
                    self.admitted_ms = max(self.admitted_ms, delivery.measured_ms)
                case RoundFinished() if note.header.round == self.round:
                    self.finished.append(note)
                    self.final_ms.append(delivery.measured_ms)
                case Refused():
                    self.refused.append(note.reason)
        node.notes.clear()
        return len(self.final_ms) == self.nodes

    def named(self, header: Header) -> dict[Digest, aggregation.KeySum]:
        """Return the signed key sums that the header names."""
        return {digest: self.key_sums[digest] for _, digest in header.key_sums}
