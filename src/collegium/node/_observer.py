"""A candidate without a place in an epoch: it follows what is proved final, and may enter the next set's lottery.

It asks members for final blocks, believes what their certificates prove and nothing else, and writes it into a journal
as a member would. What it has to say in the change of epochs it offers to members, who order it. It holds no model:
when it has a place again, it asks the new set for the one that the last header names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from collegium.consensus import (
    Block,
    Certified,
    ChangeContext,
    ChangeOffer,
    ChangePutOff,
    ChangeState,
    ChangeTick,
    Close,
    Committed,
    EpochOver,
    EpochRefused,
    EpochSubmit,
    FollowReply,
    FollowRequest,
    HandedOver,
    Header,
    Ignored,
    KeepSecret,
    OrderedPayload,
    Persist,
    QuorumCertificate,
    Registered,
    Registries,
    RoundPassed,
    ValidatorContext,
    Withdrawals,
    change_step,
    decode_payload,
    follow_registries,
    follow_withdrawals,
    initial_state,
    is_beside_rounds,
    restore_change,
    verify_final,
)
from collegium.crypto import Digest, SecretShare, hash_fields
from collegium.errors import CollegiumError

from ._epochs import finality_proof, first_stray
from ._journal import DURABLE, Journal, beacon_share
from ._network import Outgoing

__all__ = ["NOWHERE", "BrokenFollowError", "NoChangeError", "Observer"]

NOWHERE: Final = -1  # the place of somebody who has none
READ_AT_ONCE: Final = 256


class NoChangeError(CollegiumError):
    """Somebody has no place in an epoch that never ends."""


class BrokenFollowError(CollegiumError):
    """Blocks that are told as final are no chain."""


@dataclass
class Observer:
    """One candidate in an epoch in which it has no place. What it says goes to members, by their place.

    Attributes:
        context: as a member's, but for its index, which is NOWHERE.
        rules, change: of the next change of epochs, and where the order has led it.
        registered: what final closes have registered, by trainer.
        withdrawals: whose data may not be used any more.
        registries: what the task's chains hold of it.
        tip: the last final block here, or the epoch's genesis.
        close: of the round whose header is not final yet.
    """

    context: ValidatorContext
    journal: Journal
    rules: ChangeContext
    change: ChangeState
    headers: list[Header]
    registered: dict[bytes, Registered]
    withdrawals: Withdrawals
    registries: Registries
    tip: Digest
    view: int = 0
    close: Close | None = None
    notes: list[object] = field(default_factory=list)
    handed_over: HandedOver | None = None
    epoch_over: EpochOver | None = None
    commits: int = 0
    asked: int = 0

    @classmethod
    def restore(cls, context: ValidatorContext, journal: Journal, before: EpochOver) -> tuple[Observer, list[Outgoing]]:
        """Return an observer as its journal says, new if that is empty, and what it has to say.

        Args:
            before: how the epoch before ended.

        Raises:
            NoChangeError: the epoch never ends.
            ForeignJournalError, JournalCorruptError, JournalWriteError: of the journal.
        """
        rules = context.change
        if rules is None:
            raise NoChangeError(f"epoch {context.round.epoch} has no change that a candidate could wait for")
        epoch_set, ordering = context.round.epoch_set, context.ordering(None, 0)
        journal.claim(hash_fields("observer-journal", epoch_set.digest(), context.round.account.address))
        kept = journal.read()
        if kept.vote_state is None:
            journal.write([Persist(initial_state(ordering).vote_state)])  # it has voted for nothing
        payloads, tip, view = list[bytes](), ordering.genesis, 0
        while blocks := journal.archive.after(tip, READ_AT_ONCE):
            payloads += [block.payload for block in blocks if block.payload]
            tip, view = blocks[-1].digest, blocks[-1].view
        registered = kept.registered if kept.header is not None else before.registered
        self = cls(
            context,
            journal,
            rules,
            restore_change(rules, payloads, kept.epoch_secrets),
            journal.headers(),
            {entry.trainer: entry for entry in registered},
            follow_withdrawals(context.consents, Withdrawals(before.withdrawn), payloads),
            follow_registries(context.witnesses, Registries.begun(before.registries), payloads),
            tip,
            view,
        )
        for block in kept.payloads:
            if not is_beside_rounds(block.payload) and isinstance(payload := decode_payload(block.payload), Close):
                self.close = payload
        return self, self.tick()

    @property
    def round(self) -> int:
        """The round whose header is not final here."""
        return self.change.change.round

    @property
    def back_at(self) -> int:
        """The first round of the next epoch, if its change succeeds at this attempt: none before it is ours."""
        return self.change.change.first_round(self.rules.rules.plan)

    def tick(self) -> list[Outgoing]:
        """Say again what is still to be said in the change, and ask the next member for news."""
        self.change, effects = change_step(self.rules, self.change, ChangeTick())
        self.asked += 1
        members = self.context.round.epoch_set.size
        return [*self._carry_out(effects), self._ask(self.asked % members)]

    def joined(self, place: int) -> list[Outgoing]:
        """A member can be reached again: ask it for news."""
        return [self._ask(place)]

    def take(self, reply: FollowReply, place: int) -> list[Outgoing]:
        """Take up the blocks that follow on those here; what does not hold changes nothing and is noted by name."""
        try:
            blocks = self._check(reply)
            effects = self._follow(blocks, reply.certificates)
        except CollegiumError as reason:
            self.notes.append(Ignored(reason))
            return []
        said = self._carry_out(effects)
        return [*said, self._ask(place)] if blocks and self.epoch_over is None else said

    def next_share(self) -> SecretShare | None:
        """Return this candidate's share of the next epoch's beacon, as its journal has it."""
        return beacon_share(self.journal, self.context.round.epoch + 1)

    # -------------------------------------------------------------------------------------------- what is final

    def _ask(self, place: int) -> Outgoing:
        return Outgoing(FollowRequest(self.tip), place)

    def _check(self, reply: FollowReply) -> tuple[Block, ...]:
        """Return those of the blocks that follow on the tip, once they are proved final; none if none does.

        Raises:
            BrokenFollowError: one is no child of the one before.
            CollegiumError: as `verify_final`, of the last.
        """
        blocks = reply.blocks
        digests = [block.digest for block in blocks]
        if self.tip in digests:
            blocks = blocks[digests.index(self.tip) + 1 :]
        elif blocks[0].parent != self.tip:
            return ()
        if not blocks:
            return ()
        stray = first_stray(self.tip, blocks)
        if stray is not None:
            raise BrokenFollowError(f"the block of view {stray.view} is no child of the one before", view=stray.view)
        genesis, epoch_set = self.context.ordering(None, 0).genesis, self.context.round.epoch_set
        verify_final(epoch_set, genesis, blocks[-1].digest, reply.certificates, self.context.verifier)
        return blocks

    def _follow(self, blocks: Sequence[Block], certificates: tuple[QuorumCertificate, ...]) -> list[object]:
        """Apply final blocks; return what must be written, and what is to be said."""
        effects: list[object] = []
        for place, block in enumerate(blocks):
            effects.append(Committed(block, finality_proof(blocks, place, certificates)))
            self.tip, self.view, self.commits = block.digest, block.view, self.commits + 1
            if block.payload:
                effects += self._apply(block.payload)
        return effects

    def _apply(self, payload: bytes) -> list[object]:
        self.change, changed = change_step(self.rules, self.change, OrderedPayload(payload))
        effects: list[object] = list(changed)
        effects += [
            KeepSecret(effect.opened.first_round, effect.first_key)
            for effect in changed
            if isinstance(effect, HandedOver) and effect.first_key is not None
        ]
        self.withdrawals = follow_withdrawals(self.context.consents, self.withdrawals, (payload,))
        self.registries = follow_registries(self.context.witnesses, self.registries, (payload,))
        if is_beside_rounds(payload):
            return effects
        ordered = decode_payload(payload)
        if isinstance(ordered, Certified):
            self.close = None
            effects.append(RoundPassed(ordered.header, self._registered()))
        elif isinstance(ordered, Close):
            self.close = ordered
            self.registered |= {entry.trainer: entry for entry in ordered.registered}
        return effects

    def _registered(self) -> tuple[Registered, ...]:
        return tuple(self.registered[trainer] for trainer in sorted(self.registered))

    def _carry_out(self, effects: Iterable[object]) -> list[Outgoing]:
        """Write down what must survive, then return what leaves.

        Raises:
            CollegiumError: the journal failed.
        """
        effects = tuple(effects)
        durable = [effect for effect in effects if isinstance(effect, DURABLE)]
        if durable:
            self.journal.write(durable)
        said: list[Outgoing] = []
        for effect in effects:
            match effect:
                case EpochSubmit():
                    said.append(Outgoing(ChangeOffer(effect.payload)))
                case RoundPassed():
                    self.headers.append(effect.header)
                    self.notes.append(effect)
                case HandedOver() if self.handed_over is None:
                    self.handed_over = effect
                    self.notes.append(effect)
                case ChangePutOff() | EpochRefused():
                    self.notes.append(effect)
        handed = self.handed_over
        if handed is not None and self.headers and self.headers[-1].round + 1 == handed.opened.first_round:
            beside = (self.withdrawals.in_force, self.registries.in_force)
            self.epoch_over = EpochOver(self.headers[-1], None, self._registered(), {}, *beside)
        return said
