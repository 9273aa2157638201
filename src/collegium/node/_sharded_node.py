"""A validator of a task with several committees a round: its journal and its messages, as in `_validator_node`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from collegium.aggregation import Upload
from collegium.consensus import (
    Admitted,
    Broadcast,
    EvidenceFound,
    Header,
    Ignored,
    PeerJoined,
    Refused,
    RoundFinished,
    RoundPassed,
    RoundTimer,
    Send,
    SetTimer,
    ShardBroadcast,
    ShardedContext,
    ShardedTerms,
    ShardedValidatorState,
    ShardRelease,
    ShardSend,
    restore_sharded_validator,
    sharded_validator_step,
)
from collegium.crypto import SealKey, hash_fields
from collegium.errors import CollegiumError
from collegium.settlement import Checkpoint

from ._journal import DURABLE, BlockStore, Journal
from ._network import Message, Outgoing
from ._validator_node import addressed, sign_checkpoint

__all__ = ["ShardedNode"]

Note = Admitted | RoundFinished | RoundPassed | Refused | EvidenceFound | Ignored | ShardRelease


@dataclass
class ShardedNode:
    """One validator: its state, its journal, and what it noticed since somebody looked.

    `disguise` replaces outgoing messages, or (None) swallows them: how a simulated liar lies. A node whose journal
    failed has `stopped`: it raises that error for ever, and says nothing more.
    """

    context: ShardedContext
    state: ShardedValidatorState
    journal: Journal
    disguise: Callable[[int | None, object], object | None] | None = None
    headers: list[Header] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    stopped: CollegiumError | None = None

    @classmethod
    def restore(
        cls,
        context: ShardedContext,
        journal: Journal,
        terms: ShardedTerms,
        model: bytes,
        secrets: Mapping[int, SealKey],
        now_ms: int,
        disguise: Callable[[int | None, object], object | None] | None = None,
    ) -> tuple[ShardedNode, list[Outgoing]]:
        """Return a validator as its journal says it is, new if that is empty, and what it has to say.

        Args:
            context: its surroundings; archive and objects are the journal's.
            journal: its own, open nowhere else.
            terms, model: of round 0.
            secrets: the sealing key that the journal does not have: round 0's.
            now_ms: a clock that may have begun anew.
            disguise: see the class.

        Raises:
            ForeignJournalError, JournalCorruptError, JournalWriteError: of the journal.
        """
        around = context.shards.round
        journal.claim(hash_fields("sharded-validator-journal", around.epoch_set.digest(), around.index))
        surroundings = replace(context.shards, round=replace(around, objects=journal))
        context = replace(context, archive=journal.archive, shards=surroundings)
        headers = journal.headers()
        restored = (terms, model, secrets, journal.read(), headers, now_ms)
        state, effects = restore_sharded_validator(context, *restored)
        node = cls(context, state, journal, disguise, headers)
        return node, node.carry_out(effects)

    @property
    def index(self) -> int:
        """This validator's place in the epoch set."""
        return self.context.shards.round.index

    @property
    def archive(self) -> BlockStore:
        """The committed blocks."""
        return self.journal.archive

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message, write down what follows, return what to send; from outside the committee, uploads only.

        Raises:
            CollegiumError: the journal could not take this step, or one before: nothing of it may leave.
        """
        if self.stopped is not None:
            raise self.stopped
        if sender is None and not isinstance(message, Upload | PeerJoined):
            return []
        known: Any = message  # the network carries objects; a step leaves alone what it does not know
        self.state, effects = sharded_validator_step(self.context, self.state, known, now_ms, sender)
        return self.carry_out(effects)

    def carry_out(self, effects: Iterable[object]) -> list[Outgoing]:
        """Write down all that must be on disk, then return what the network must deliver, in order.

        Raises:
            CollegiumError: the journal failed.
        """
        effects = tuple(effects)
        durable = [effect for effect in effects if isinstance(effect, DURABLE)]
        if durable:
            try:
                self.journal.write(durable)
            except CollegiumError as error:
                self.stopped = error
                raise
        outgoing: list[Outgoing] = []
        for effect in effects:
            match effect:
                case Broadcast() | Send() | SetTimer() | RoundTimer():
                    outgoing += addressed(effect, self.index, self.context.shards.round.epoch_set.size)
                case ShardBroadcast():
                    outgoing.extend(self._said(effect.message, None))
                case ShardSend():
                    outgoing.extend(self._said(effect.message, effect.to))
                case _:
                    self._note(effect)
        return outgoing

    def sign_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """Sign a checkpoint of headers that are final here; as `ValidatorNode` does.

        Raises:
            CheckpointRefusedError: it is of another task or epoch, or not over this validator's final headers.
        """
        return sign_checkpoint(self.context.shards.round, self.headers, checkpoint)

    def _note(self, effect: object) -> None:
        """Remember what is neither written nor sent."""
        match effect:
            case RoundFinished() | RoundPassed():
                self.headers.append(effect.header)
                self.notes.append(effect)
            case Admitted() | Refused() | EvidenceFound() | Ignored() | ShardRelease():
                self.notes.append(effect)

    def _said(self, message: object, to: int | None) -> list[Outgoing]:
        said = message if self.disguise is None else self.disguise(to, message)
        return [] if said is None else [Outgoing(said, to)]
