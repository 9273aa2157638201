"""A validator through epochs: one `ValidatorNode` an epoch, each with its own journal, behind one address.

Places in an epoch set change from epoch to epoch; on the network everybody is known by its place among the candidates.
So each message carries its epoch, and here places are translated. When an epoch is over its node stays to give others
what they lack, until the epoch after it has handed over as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from collegium.aggregation import RoundTerms, Upload
from collegium.consensus import (
    EpochSigner,
    EpochVerifier,
    KeepSecret,
    PeerJoined,
    ValidatorContext,
    bytes_in,
    check_early,
    complete_upload,
    terms_after,
)
from collegium.crypto import SealKey, ThresholdBeacon
from collegium.errors import CollegiumError

from ._journal import Journal
from ._network import Message, Outgoing
from ._validator_node import ValidatorNode

__all__ = ["EpochMessage", "EpochNode"]

AHEAD_EACH_MAX: Final = 64  # messages of the next epoch kept for each member until that epoch begins here
AHEAD_BYTES_EACH_MAX: Final = 32 << 20  # and so many bytes of them; who drops one asks for what it lacks by then


@dataclass(frozen=True)
class EpochMessage:
    """What a validator says in an epoch."""

    epoch: int
    message: Message


@dataclass
class EpochNode:
    """One member of a consortium, from epoch to epoch.

    Attributes:
        member: its place among the candidates: its address.
        accounts: of the candidates, by place.
        open_journal: returns the journal of an epoch, the same whenever it is asked.
        nodes: of the present epoch, and of the one before it; the present one is the last.
        ahead: messages of the epoch to come, and reports for its first round.
    """

    member: int
    accounts: Sequence[bytes]
    open_journal: Callable[[int], Journal]
    nodes: list[ValidatorNode] = field(default_factory=list)
    ahead: list[tuple[int | None, Message]] = field(default_factory=list)

    @classmethod
    def restore(
        cls,
        member: int,
        accounts: Sequence[bytes],
        open_journal: Callable[[int], Journal],
        context: ValidatorContext,
        terms: RoundTerms,
        model: bytes,
        secrets: dict[int, SealKey],
        now_ms: int,
    ) -> tuple[EpochNode, list[Outgoing]]:
        """Return a member as its journals say it is, from the first epoch on, and what it has to say.

        Args:
            member, accounts, open_journal: see the class.
            context, terms, model, secrets: of the task's first epoch, as `ValidatorNode.restore` takes them.
            now_ms: a clock that may have begun anew.
        """
        self = cls(member, accounts, open_journal)
        node, said = ValidatorNode.restore(context, open_journal(context.round.epoch), terms, model, secrets, now_ms)
        self.nodes = [node]
        return self, [*self._leave(node, said), *self._go_on(now_ms)]

    @property
    def node(self) -> ValidatorNode:
        """The node of the present epoch, or of the last one that this member had a place in."""
        return self.nodes[-1]

    @property
    def epoch(self) -> int:
        """The present node's epoch."""
        return self.node.context.round.epoch

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message of a member or (None) of a trainer, and return what to send, addressed by member."""
        if isinstance(message, Upload | PeerJoined):
            return self._handle_local(message, now_ms)
        if not isinstance(message, EpochMessage):
            return []
        for node in self.nodes:
            if node.context.round.epoch == message.epoch:
                return self._give(node, message.message, now_ms, sender)
        if message.epoch == self.epoch + 1:
            self._keep(sender, message)
        return []

    def _handle_local(self, message: Upload | PeerJoined, now_ms: int) -> list[Outgoing]:
        """Take a report, or the news that a member can be reached: its place differs from epoch to epoch."""
        if isinstance(message, PeerJoined):
            out: list[Outgoing] = []
            for node in self.nodes:
                place = self._place(node, message.index)
                if place is not None:
                    out += self._leave(node, node.handle(PeerJoined(place), now_ms))
            return out
        opened = self.node.state.round.opened
        if opened is not None and message.report.round == opened.first_round:
            self._keep_report(message)
            return []
        return [*self._leave(self.node, self.node.handle(message, now_ms)), *self._go_on(now_ms)]

    def _give(self, node: ValidatorNode, message: Message, now_ms: int, sender: int | None) -> list[Outgoing]:
        place = None if sender is None else self._place(node, sender)
        if place is None:
            return []
        said = self._leave(node, node.handle(message, now_ms, place))
        return [*said, *(self._go_on(now_ms) if node is self.node else ())]

    def _keep_report(self, upload: Upload) -> None:
        """Keep one report of each registered trainer for the next epoch's first round; what it says is judged there.

        With all boxes and the registration that any copy of it has. In memory alone: it is lost where this member dies.
        """
        try:
            check_early(self.node.context.round, upload)
        except CollegiumError:
            return
        for place, (_, known) in enumerate(self.ahead):
            if isinstance(known, Upload) and known.report.trainer == upload.report.trainer:
                whole = complete_upload(known, upload)
                if whole is not None:
                    self.ahead[place] = (None, whole)
                return
        self.ahead.append((None, upload))

    def _keep(self, sender: int | None, message: Message) -> None:
        kept = [held for known, held in self.ahead if known == sender]
        if len(kept) < AHEAD_EACH_MAX and bytes_in(message) + sum(map(bytes_in, kept)) <= AHEAD_BYTES_EACH_MAX:
            self.ahead.append((sender, message))

    def _place(self, node: ValidatorNode, member: int) -> int | None:
        """Return a member's place in a node's epoch set."""
        account = self.accounts[member]
        validators = node.context.round.epoch_set.validators
        return next((int(v.index) for v in validators if v.account == account), None)

    def _leave(self, node: ValidatorNode, outgoing: Iterable[Outgoing]) -> list[Outgoing]:
        """Return what a node sends, under its epoch and to members."""
        epoch_set = node.context.round.epoch_set
        members = [self.accounts.index(validator.account) for validator in epoch_set.validators]
        out: list[Outgoing] = []
        for item in outgoing:
            said = EpochMessage(epoch_set.epoch, item.message)
            if item.at_ms is not None:
                out.append(replace(item, message=said))
            else:
                places = range(epoch_set.size) if item.to is None else (item.to,)
                out.extend(Outgoing(said, members[place]) for place in places)
        return out

    # -------------------------------------------------------------------------------------------- the next epoch

    def _go_on(self, now_ms: int) -> list[Outgoing]:
        """Enter the next epoch when the present one is over, if this member has a place in it; again if need be."""
        out: list[Outgoing] = []
        while (entered := self._enter(now_ms)) is not None:
            out += entered
        return out

    def _enter(self, now_ms: int) -> list[Outgoing] | None:
        ended = self.node
        over, handed = ended.epoch_over, ended.handed_over
        if over is None or handed is None or handed.member is None:
            return None
        opened, before = handed.opened, ended.context
        surroundings = before.round
        beacon = ThresholdBeacon(surroundings.agreed.task, opened.group, ended.next_share())
        context = replace(
            before,
            round=replace(surroundings, epoch_set=opened.epoch_set, index=handed.member, beacon=beacon),
            signer=EpochSigner(surroundings.voting_key, surroundings.account),
            verifier=EpochVerifier(opened.epoch_set),
            genesis=opened.genesis,
            change=None
            if before.change is None
            else before.change.following(opened, sha256(over.header.beacon).digest()),
        )
        terms = terms_after(surroundings.agreed, opened.epoch_set, over.header)
        first = ended.next_secrets()
        journal = self.open_journal(opened.epoch_set.epoch)
        node, said = ValidatorNode.restore(context, journal, terms, over.model, first, now_ms, ended.disguise, over)
        _hand_on(opened.first_round, ended.journal, node)
        self.nodes = [ended, node]
        out = self._leave(node, said)
        waiting, self.ahead = self.ahead, []
        for sender, message in waiting:
            out += self.handle(message, now_ms, sender)
        return out


def _hand_on(first_round: int, ended: Journal, entered: ValidatorNode) -> None:
    """Move an epoch's first sealing key into the epoch's own journal, which forgets it when that round is over.

    It is written there before it is deleted here: whoever dies between has it twice, and does this again.
    """
    key = ended.read().secrets.get(first_round)
    if key is None:
        return
    if entered.state.round.terms.round == first_round:
        entered.journal.write([KeepSecret(first_round, key)])
    ended.forget_secret(first_round)
