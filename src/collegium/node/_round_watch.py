"""What one round in one process left behind and what it took, as seen over the validators' shoulders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from collegium.aggregation import KeySum, Upload
from collegium.consensus import (
    Admitted,
    EvidenceFound,
    Header,
    HeaderVote,
    Refused,
    Release,
    RoundFinished,
    ShardMessage,
)
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._epoch_node import EpochNode
from ._epoch_wire import EpochMessage
from ._network import Delivery
from ._sharded_node import ShardedNode
from ._validator_node import ValidatorNode

__all__ = ["PlayedRound", "RoundWatch"]


@dataclass
class PlayedRound:
    """What a round left behind, and what it took.

    Attributes:
        uploads: what was sent, by report id: public parts go into the run's store.
        key_sums: that seats published, by digest; of a round with one committee only those that its header names.
        header, model: the final header and the model state it names.
        coordination_ms: last report admitted -> result certified, on the measured clock.
        finality_ms: last report admitted -> final at a quorum, on the measured clock.
        cpu_seconds, consensus_cpu_seconds: of trainers and seats; of the seats alone. Seats are charged as if each were
            its own machine, so what they share in this process counts for every one of them.
        prove_ms, verify_ms: of one report's proof, the median of all: in the trainer's process, and in a verifier's.
        registrations: bytes of the registrations that the uploads refer to.
        evidence: what convicts somebody, of whatever kind.
        votes: for headers of the round, each one validator's own, as they reached whoever gathered them; of a round
            with several committees for those of its shards.
        refused: named reasons for which validators ignored messages.
    """

    uploads: dict[Digest, Upload]
    key_sums: dict[Digest, KeySum]
    header: Header
    model: bytes
    coordination_ms: float
    finality_ms: float
    cpu_seconds: float
    consensus_cpu_seconds: float
    prove_ms: float | None
    verify_ms: float | None
    registrations: dict[Digest, bytes]
    evidence: list[EvidenceFound]
    votes: list[HeaderVote]
    refused: list[CollegiumError]


@dataclass
class RoundWatch:
    """Notes what validators say and notice in one round, and when on the measured clock.

    Attributes:
        nodes: how many validators live.
        round: its number.
    """

    nodes: int
    round: int
    admitted_ms: float = 0.0
    certified_ms: float = 0.0
    final_ms: list[float] = field(default_factory=list)
    finished: list[RoundFinished] = field(default_factory=list)
    key_sums: dict[Digest, KeySum] = field(default_factory=dict)
    refused: list[CollegiumError] = field(default_factory=list)
    evidence: list[EvidenceFound] = field(default_factory=list)
    votes: list[HeaderVote] = field(default_factory=list)

    def saw(self, delivery: Delivery, node: ValidatorNode | EpochNode | ShardedNode) -> bool:
        """Note what a delivery brought about at a validator; True when every live one has the final header."""
        said = delivery.message
        self._heard(said.message if isinstance(said, EpochMessage | ShardMessage) else said)
        for one in node.nodes if isinstance(node, EpochNode) else (node,):
            if isinstance(one, ValidatorNode | ShardedNode):
                if not self.certified_ms and self._is_certified(one):
                    self.certified_ms = delivery.measured_ms
                self._noticed(delivery.measured_ms, one)
        return len(self.final_ms) == self.nodes

    def left(
        self,
        quorum: int,
        uploads: Mapping[Digest, Upload],
        registrations: Mapping[Digest, bytes],
        *,
        trainers_cpu_seconds: float,
        consensus_cpu_seconds: float,
        prove_ms: Sequence[float],
        verify_ms: Sequence[float],
    ) -> PlayedRound:
        """Return what a round left that is final at every live validator; times of proofs are those of each report."""
        finished = self.finished[0]
        return PlayedRound(
            uploads=dict(uploads),
            key_sums=self.key_sums,
            header=finished.header,
            model=finished.model,
            coordination_ms=self.certified_ms - self.admitted_ms,
            finality_ms=sorted(self.final_ms)[quorum - 1] - self.admitted_ms,
            cpu_seconds=trainers_cpu_seconds + consensus_cpu_seconds,
            consensus_cpu_seconds=consensus_cpu_seconds,
            prove_ms=median(prove_ms) if prove_ms else None,
            verify_ms=median(verify_ms) if verify_ms else None,
            registrations=dict(registrations),
            evidence=self.evidence,
            votes=self.votes,
            refused=self.refused,
        )

    def _heard(self, message: object) -> None:
        """Keep the key sums that a message publishes, and a vote for a header."""
        if isinstance(message, Release):
            self.key_sums.update((key_sum.digest, key_sum) for key_sum in message.key_sums)
        elif isinstance(message, HeaderVote) and message.round == self.round:
            self.votes.append(message)

    def _is_certified(self, node: ValidatorNode | ShardedNode) -> bool:
        """Whether a validator knows the certified result of the round: of every shard, where there are several."""
        if isinstance(node, ValidatorNode):
            return node.certified_round == self.round
        state = node.state.shards
        if state.terms.round != self.round:
            return True
        known = state.pending
        return all(
            standing.over or (shard in known and known[shard].results) for shard, standing in enumerate(state.standings)
        )

    def _noticed(self, at_ms: float, node: ValidatorNode | ShardedNode) -> None:
        """Take what a validator noticed since it was last looked at."""
        for note in node.notes:
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
        node.notes.clear()
