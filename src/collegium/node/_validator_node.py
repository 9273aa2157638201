"""A validator process as the in-process network runs it: state machine inside, journal and archive outside.

`handle` carries effects out in their order: what must be on disk is written before anything after it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from collegium.aggregation import Upload
from collegium.consensus import (
    Admitted,
    Block,
    Broadcast,
    Committed,
    EvidenceFound,
    Header,
    Ignored,
    Persist,
    QuorumCertificate,
    Refused,
    ReleaseRecord,
    RoundBroadcast,
    RoundFinished,
    RoundSend,
    RoundTimer,
    Send,
    SetTimer,
    Timer,
    ValidatorContext,
    ValidatorState,
    validator_step,
)
from collegium.consensus import Store as StoreBlock
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.settlement import Checkpoint, header_root

from ._network import Message, Outgoing

__all__ = ["CheckpointRefusedError", "Journal", "ReleaseRefusedError", "ValidatorNode"]


class ReleaseRefusedError(CollegiumError):
    """A validator was about to write down a second release of one round, for another close."""


class CheckpointRefusedError(CollegiumError):
    """A validator was asked to sign a checkpoint of headers other than its final ones."""


@dataclass
class Journal:
    """What a validator wrote down, in order; in this runtime in memory, as nothing here survives the process."""

    vote_states: list[Persist] = field(default_factory=list)
    releases: dict[int, Digest] = field(default_factory=dict)
    blocks: list[StoreBlock] = field(default_factory=list)

    def write(self, effect: Persist | StoreBlock | ReleaseRecord) -> None:
        """Write one effect.

        Raises:
            ReleaseRefusedError: a second release of one round for another close; the state machine never asks for it.
        """
        match effect:
            case Persist():
                self.vote_states = [effect]
            case StoreBlock():
                self.blocks = [*self.blocks[-64:], effect]
            case ReleaseRecord():
                if self.releases.setdefault(effect.round, effect.close) != effect.close:
                    raise ReleaseRefusedError(f"round {effect.round} was released for another close")


@dataclass
class BlockArchive:
    """Committed blocks in their order, as `consensus.Archive` wants them."""

    blocks: list[Block] = field(default_factory=list)
    proofs: dict[Digest, tuple[QuorumCertificate, ...]] = field(default_factory=dict)
    places: dict[Digest, int] = field(default_factory=dict)

    def append(self, committed: Committed) -> None:
        """Add the next committed block with the certificates that prove it final."""
        self.places[committed.block.digest] = len(self.blocks)
        self.blocks.append(committed.block)
        self.proofs[committed.block.digest] = committed.certificate_chain

    def after(self, block: Digest, count: int) -> Sequence[Block]:
        """Return up to `count` committed blocks after `block`, or the first ones if it is the genesis."""
        start = self.places.get(block, -1) + 1
        return self.blocks[start : start + count]


@dataclass
class ValidatorNode:
    """One validator: its state, journal, archive, and what it noticed since somebody looked.

    `disguise` replaces outgoing round messages: how a simulated liar lies.
    """

    context: ValidatorContext
    state: ValidatorState
    archive: BlockArchive
    journal: Journal = field(default_factory=Journal)
    disguise: Callable[[object], object] | None = None
    headers: list[Header] = field(default_factory=list)
    notes: list[Admitted | RoundFinished | Refused | EvidenceFound | Ignored] = field(default_factory=list)
    certified_round: int = -1

    @property
    def index(self) -> int:
        """This validator's place in the epoch set."""
        return self.context.round.index

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message, carry out what follows, return what to send; from outside the committee, uploads only."""
        if sender is None and not isinstance(message, Upload):
            return []
        self.state, effects = validator_step(self.context, self.state, message, now_ms, sender)  # type: ignore[arg-type]
        return self.carry_out(effects)

    def carry_out(self, effects: Iterable[object]) -> list[Outgoing]:
        """Do in order: journal, archive, send; return what the network must deliver."""
        outgoing: list[Outgoing] = []
        for effect in effects:
            match effect:
                case Persist() | StoreBlock() | ReleaseRecord():
                    self.journal.write(effect)
                case Committed():
                    self.archive.append(effect)
                case Broadcast():
                    others = range(self.context.round.epoch_set.size)
                    outgoing.extend(Outgoing(effect.message, to) for to in others if to != self.index)
                case Send():
                    outgoing.append(Outgoing(effect.message, effect.to))
                case SetTimer():
                    outgoing.append(Outgoing(Timer(effect.view), at_ms=effect.at_ms))
                case RoundTimer():
                    outgoing.append(Outgoing(effect.alarm, at_ms=effect.at_ms))
                case RoundBroadcast():
                    outgoing.append(Outgoing(self._said(effect.message)))
                case RoundSend():
                    outgoing.append(Outgoing(self._said(effect.message), effect.to))
                case RoundFinished():
                    self.headers.append(effect.header)
                    self.notes.append(effect)
                case Admitted() | Refused() | EvidenceFound() | Ignored():
                    self.notes.append(effect)
        if self.state.round.certified is not None:
            self.certified_round = self.state.round.terms.round
        return outgoing

    def sign_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """Sign a checkpoint of headers that are final here.

        Raises:
            CheckpointRefusedError: its root is not that of this validator's final headers of those rounds.
        """
        headers = [h.digest for h in self.headers if checkpoint.first_round <= h.round <= checkpoint.last_round]
        count = checkpoint.last_round - checkpoint.first_round + 1
        if len(headers) != count or header_root(headers) != checkpoint.root:
            raise CheckpointRefusedError(
                f"checkpoint of rounds {checkpoint.first_round}-{checkpoint.last_round} differs"
            )
        return self.context.round.voting_key.sign(checkpoint.digest)

    def _said(self, message: object) -> object:
        return message if self.disguise is None else self.disguise(message)
