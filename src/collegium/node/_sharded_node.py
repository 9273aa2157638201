"""A validator of a task with several committees a round, as the in-process network sees it.

It keeps what it must in memory only: one that loses it must not come back within the round (docs/spec/shards.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from collegium.aggregation import Upload
from collegium.consensus import (
    Admitted,
    Broadcast,
    Committed,
    EvidenceFound,
    Ignored,
    KeepObject,
    Refused,
    RoundFinished,
    RoundTimer,
    Send,
    SetTimer,
    ShardBroadcast,
    ShardedContext,
    ShardedTerms,
    ShardedValidatorState,
    ShardRelease,
    ShardSend,
    sharded_validator_step,
    start_sharded_validator,
)
from collegium.crypto import Digest, SealKey

from ._journal import BlockArchive
from ._network import Message, Outgoing
from ._validator_node import addressed

__all__ = ["ShardedNode"]

Note = Admitted | RoundFinished | Refused | EvidenceFound | Ignored | ShardRelease


@dataclass
class ShardedNode:
    """One validator: its state, its blocks, and what it noticed since somebody looked.

    `disguise` replaces outgoing messages, or (None) swallows them: how a simulated liar lies.
    """

    context: ShardedContext
    state: ShardedValidatorState
    archive: BlockArchive
    objects: dict[Digest, bytes]
    disguise: Callable[[int | None, object], object | None] | None = None
    finished: list[RoundFinished] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        context: ShardedContext,
        terms: ShardedTerms,
        model: bytes,
        secrets: Mapping[int, SealKey],
        now_ms: int,
        disguise: Callable[[int | None, object], object | None] | None = None,
    ) -> tuple[ShardedNode, list[Outgoing]]:
        """Return a validator at the beginning of round 0, and what it has to say; archive and objects are its own."""
        archive, objects = BlockArchive(), dict[Digest, bytes]()
        surroundings = replace(context.shards, round=replace(context.shards.round, objects=objects))
        context = replace(context, archive=archive, shards=surroundings)
        state, effects = start_sharded_validator(context, terms, model, secrets, now_ms)
        node = cls(context, state, archive, objects, disguise)
        return node, node.carry_out(effects)

    @property
    def index(self) -> int:
        """This validator's place in the epoch set."""
        return self.context.shards.round.index

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message and return what to send; from outside the committee, uploads only."""
        if sender is None and not isinstance(message, Upload):
            return []
        known: Any = message  # the network carries objects; a step leaves alone what it does not know
        self.state, effects = sharded_validator_step(self.context, self.state, known, now_ms, sender)
        return self.carry_out(effects)

    def carry_out(self, effects: Iterable[object]) -> list[Outgoing]:
        """Return what the network must deliver, in order; keep blocks, models and notes."""
        outgoing: list[Outgoing] = []
        for effect in effects:
            match effect:
                case Broadcast() | Send() | SetTimer() | RoundTimer():
                    outgoing += addressed(effect, self.index, self.context.shards.round.epoch_set.size)
                case ShardBroadcast():
                    outgoing.extend(self._said(effect.message, None))
                case ShardSend():
                    outgoing.extend(self._said(effect.message, effect.to))
                case Committed():
                    self.archive.append(effect)
                case KeepObject():
                    self.objects[effect.digest] = effect.data
                case RoundFinished():
                    self.finished.append(effect)
                case Admitted() | Refused() | EvidenceFound() | Ignored() | ShardRelease():
                    self.notes.append(effect)
        return outgoing

    def _said(self, message: object, to: int | None) -> list[Outgoing]:
        said = message if self.disguise is None else self.disguise(to, message)
        return [] if said is None else [Outgoing(said, to)]
