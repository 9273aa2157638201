"""A validator through epochs: one `ValidatorNode` an epoch, each with its own journal, behind one address.

Places in an epoch set change from epoch to epoch; on the network everybody is known by its place among the candidates.
So each message carries its epoch, and here places are translated. When an epoch is over its node stays to give others
what they lack, until the epoch after it has handed over as well; who comes later is given it from the journal. In an
epoch in which a candidate has no place it is an `Observer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from collegium.aggregation import RoundTerms, Upload
from collegium.consensus import (
    PROOF_CERTIFICATES_MAX,
    RESPONSE_BLOCKS_MAX,
    BlockRequest,
    ChangeOffer,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    FollowReply,
    FollowRequest,
    HandoverProof,
    Header,
    Ignored,
    KeepSecret,
    KeepUpload,
    NextEpoch,
    ObjectRequest,
    PeerJoined,
    ReportRequest,
    RoundRecord,
    Tick,
    Timeout,
    ValidatorContext,
    WrongEpochError,
    bytes_in,
    check_early,
    complete_upload,
    terms_after,
)
from collegium.crypto import SealKey, ThresholdBeacon
from collegium.errors import CollegiumError

from ._desk import as_many_as_fit
from ._epoch_wire import EpochMessage
from ._epochs import KnownEpoch, place_of
from ._journal import HANDOVER_KIND, BlockStore, Journal
from ._network import Message, Outgoing
from ._observer import NOWHERE, Observer
from ._validator_node import ValidatorNode

__all__ = ["BroughtWithdrawal", "EpochMessage", "EpochNode", "OldEpochUnreadable", "PastEpoch", "present"]

AHEAD_EACH_MAX: Final = 64  # messages of the next epoch kept for each member until that epoch begins here
AHEAD_BYTES_EACH_MAX: Final = 32 << 20  # and so many bytes of them; who drops one asks for what it lacks by then
AHEAD_BYTES_MAX: Final = 128 << 20  # of all members: each has an equal part
REPLY_BYTES_MAX: Final = 4 << 20  # of payloads in one answer to a follower; one block comes whatever its size
RESTORE_MS: Final = 1_000  # between two times that an old epoch's node is restored for somebody
OLD_NODES_MAX: Final = 4  # of epochs that are over, each with its journal
OLD_JOURNALS_MAX: Final = 4  # open beside theirs: to open one takes about a millisecond


class NoPlaceError(CollegiumError):
    """A member is asked for what only members of the present epoch set have."""


@dataclass(frozen=True, slots=True)
class BroughtWithdrawal:
    """A withdrawal of consent, as block payload, that somebody has brought to this member."""

    payload: bytes


@dataclass(frozen=True, eq=False)
class PastEpoch:
    """An epoch that is over: as whom this member saw it, what became final in it, and what it handed over to."""

    context: ValidatorContext
    headers: tuple[Header, ...]
    opened: NextEpoch
    proof: HandoverProof

    @property
    def epoch(self) -> int:
        """Its number."""
        return self.context.round.epoch

    @property
    def following(self) -> KnownEpoch:
        """The epoch that it handed over to."""
        opened = self.opened
        return KnownEpoch(opened.epoch_set, opened.genesis, opened.first_round, opened.group)


@dataclass(frozen=True, slots=True)
class OldEpochUnreadable:
    """Somebody asked for an epoch that is over, and its journal here cannot be read: nothing was answered."""

    epoch: int
    reason: CollegiumError


@dataclass
class EpochNode:
    """One member of a consortium, from epoch to epoch.

    Attributes:
        member: its place among the candidates: its address.
        accounts: of the candidates, by place.
        open_journal: returns the journal of an epoch, the same whenever it is asked while that is open.
        close_journal: is told of an epoch whose journal is needed no more for now.
        nodes: of the present epoch, and of the one before it; the present one is the last.
        ahead: messages of the epoch to come.
        early: reports for its first round, by trainer; they are in the present epoch's journal.
        past: the epochs that are over, from the first one on.
        notes: what was refused before any epoch's node saw it, and journals of epochs before that cannot be read.
        followers: candidates that asked for what follows on the last final block here, which they have.
    """

    member: int
    accounts: Sequence[bytes]
    open_journal: Callable[[int], Journal]
    close_journal: Callable[[int], None] = lambda _: None
    nodes: list[ValidatorNode | Observer] = field(default_factory=list)
    ahead: list[tuple[int, EpochMessage]] = field(default_factory=list)
    early: dict[bytes, Upload] = field(default_factory=dict)
    past: list[PastEpoch] = field(default_factory=list)
    followers: dict[int, bytes] = field(default_factory=dict)
    notes: list[object] = field(default_factory=list)
    _members: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by epoch: of each place
    _reopened: dict[int, Journal] = field(default_factory=dict)  # by epoch, the one used last at the end
    _old_nodes: dict[int, ValidatorNode] = field(default_factory=dict)  # by epoch
    _looks: dict[int, tuple[int, int]] = field(default_factory=dict)  # by member: for which epoch and when it had one

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
        close_journal: Callable[[int], None] = lambda _: None,
    ) -> tuple[EpochNode, list[Outgoing]]:
        """Return a member as its journals say it is, from the first epoch on, and what it has to say.

        Args:
            member, accounts, open_journal, close_journal: see the class.
            context, terms, model, secrets: of the task's first epoch, as `ValidatorNode.restore` takes them.
            now_ms: a clock that may have begun anew.
        """
        self = cls(member, accounts, open_journal, close_journal)
        node, said = ValidatorNode.restore(context, open_journal(context.round.epoch), terms, model, secrets, now_ms)
        self.nodes = [node]
        out = [*self._leave(node, said), *self._go_on(now_ms)]
        self._find_early()
        return self, out

    @property
    def present(self) -> ValidatorNode | Observer:
        """What this member is in the present epoch."""
        return self.nodes[-1]

    @property
    def node(self) -> ValidatorNode:
        """The node of the present epoch.

        Raises:
            NoPlaceError: this member has no place in it.
        """
        if isinstance(self.present, Observer):
            raise NoPlaceError(f"member {self.member} has no place in epoch {self.epoch}", epoch=self.epoch)
        return self.present

    @property
    def epoch_set(self) -> EpochSet:
        """The present epoch's."""
        return self.present.context.round.epoch_set

    @property
    def epoch(self) -> int:
        """The present epoch, as far as this member knows."""
        return self.epoch_set.epoch

    def of_epoch(self, epoch: int) -> ValidatorNode | None:
        """Return the node of the present epoch or of the one before; None where this member has no place in it."""
        node = self._of_epoch(epoch)
        return node if isinstance(node, ValidatorNode) else None

    def past_of(self, epoch: int) -> PastEpoch | None:
        """Return what is known of an epoch that is over; None if it is not, or was not followed here."""
        place = epoch - self.past[0].epoch if self.past else 0
        return self.past[place] if 0 <= place < len(self.past) else None

    def context_of(self, epoch: int) -> ValidatorContext | None:
        """Return this member's surroundings in an epoch; None if it has not come there."""
        if epoch == self.epoch:
            return self.present.context
        past = self.past_of(epoch)
        return None if past is None else past.context

    def headers(self) -> Iterator[Header]:
        """Return all final headers here, oldest first."""
        for past in self.past:
            yield from past.headers
        yield from self.present.headers

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message of a member or (None) from outside, and return what to send, addressed by member."""
        if isinstance(message, Upload | RoundRecord | PeerJoined | BroughtWithdrawal):
            return self._handle_local(message, now_ms)
        if not isinstance(message, EpochMessage) or sender is None:
            return []
        if message.epoch < self.nodes[0].context.round.epoch:
            return self._handle_old(message, now_ms, sender)
        if isinstance(message.message, FollowRequest | FollowReply | ChangeOffer):
            return self._handle_follower(message, now_ms, sender)
        node = self._of_epoch(message.epoch)
        if node is not None:
            return self._give(node, message.message, now_ms, sender)
        if message.epoch == self.epoch + 1:
            self._keep(sender, message)
        else:
            self._refuse(message, sender)
        return []

    def withdraw(self, payload: bytes, now_ms: int) -> list[Outgoing]:
        """Have a withdrawal of consent ordered; somebody without a place in this epoch orders nothing."""
        node = self.present
        return self._said(node, node.withdraw(payload, now_ms), now_ms) if isinstance(node, ValidatorNode) else []

    def order_registries(self, payload: bytes, now_ms: int) -> list[Outgoing]:
        """Have a record of what chains hold ordered; somebody without a place in this epoch orders nothing."""
        node = self.present
        if not isinstance(node, ValidatorNode):
            return []
        return self._said(node, node.order_registries(payload, now_ms), now_ms)

    def _handle_local(
        self, message: Upload | RoundRecord | PeerJoined | BroughtWithdrawal, now_ms: int
    ) -> list[Outgoing]:
        """Take a report, a record, a withdrawal, or the news that a member can be reached: its place differs by epoch.

        A record for the next epoch's first round is held by this one's node, which hands it on.
        """
        if isinstance(message, BroughtWithdrawal):
            return self.withdraw(message.payload, now_ms)
        if isinstance(message, PeerJoined):
            out: list[Outgoing] = []
            for node in self.nodes:
                place = self._place(node, message.index)
                if place is not None:
                    out += self._leave(node, _joined(node, place, now_ms))
            return out
        node = self.present
        if not isinstance(node, ValidatorNode):
            return []
        opened = node.state.round.opened
        if isinstance(message, Upload) and opened is not None and message.report.round == opened.first_round:
            self._keep_report(node, message)
            return []
        return self._said(node, node.handle(message, now_ms), now_ms)

    def _give(self, node: ValidatorNode | Observer, message: object, now_ms: int, sender: int) -> list[Outgoing]:
        """Give a message of a member to the node of its epoch; to one without a place only one's own clock speaks."""
        if isinstance(node, Observer):
            heard = isinstance(message, Tick) and sender == self.member
            return self._said(node, node.tick() if heard else [], now_ms)
        place = self._place(node, sender)
        if place is None:
            self._refuse(EpochMessage(node.context.round.epoch, message), sender)
            return []
        return self._said(node, node.handle(message, now_ms, place), now_ms)

    def _said(self, node: ValidatorNode | Observer, outgoing: Iterable[Outgoing], now_ms: int) -> list[Outgoing]:
        """Return what a step of a node sends, with what follows from it: news for followers, and the next epoch."""
        out = self._leave(node, outgoing)
        if node is self.present:
            if self.followers and node.commits:
                out += self._tell_followers(node)
            out += self._go_on(now_ms)
        return out

    def _refuse(self, message: EpochMessage, sender: int) -> None:
        """Note by name that a member speaks in an epoch in which there is nothing to be said here."""
        said = f"member {sender} speaks in epoch {message.epoch}, this is {self.epoch}"
        self.notes.append(Ignored(WrongEpochError(said, epoch=message.epoch, sender=sender)))

    def _keep_report(self, node: ValidatorNode, upload: Upload) -> None:
        """Keep one report of each registered trainer for the next epoch's first round; what it says is judged there.

        With all boxes and the registration that any copy of it has. It is on disk when this returns.
        """
        try:
            check_early(node.context.round, upload)
        except CollegiumError:
            return
        known, whole = self.early.get(upload.report.trainer), upload
        if known is not None:
            completed = complete_upload(known, upload)
            if completed is None:
                return
            whole = completed
        node.write([KeepUpload(upload.report.round, 0, whole, False)])
        self.early[upload.report.trainer] = whole

    def _find_early(self) -> None:
        """Find the reports again that were kept for the next epoch's first round before a crash."""
        node = self.present
        opened = node.state.round.opened if isinstance(node, ValidatorNode) else None
        if opened is not None:
            kept = node.journal.read().uploads
            self.early = {k.upload.report.trainer: k.upload for k in kept if k.round == opened.first_round}

    def _keep(self, sender: int, message: EpochMessage) -> None:
        kept = [held for known, held in self.ahead if known == sender]
        bytes_max = min(AHEAD_BYTES_EACH_MAX, AHEAD_BYTES_MAX // len(self.accounts))
        if len(kept) < AHEAD_EACH_MAX and bytes_in(message) + sum(map(bytes_in, kept)) <= bytes_max:
            self.ahead.append((sender, message))

    def _of_epoch(self, epoch: int) -> ValidatorNode | Observer | None:
        """Return what this member is in the present epoch or was in the one before it."""
        return next((node for node in self.nodes if node.context.round.epoch == epoch), None)

    def _place(self, node: ValidatorNode | Observer, member: int) -> int | None:
        """Return a member's place in a node's epoch set."""
        return place_of(self.accounts[member], node.context.round.epoch_set)

    def _leave(self, node: ValidatorNode | Observer, outgoing: Iterable[Outgoing]) -> list[Outgoing]:
        """Return what a node sends, under its epoch and to members."""
        outgoing = list(outgoing)
        if not outgoing:
            return []
        epoch_set = node.context.round.epoch_set
        members = self._members_of(epoch_set)
        out: list[Outgoing] = []
        for item in outgoing:
            said = EpochMessage(epoch_set.epoch, item.message)
            if item.at_ms is not None:
                out.append(replace(item, message=said))
            else:
                places = range(epoch_set.size) if item.to is None else (item.to,)
                out.extend(Outgoing(said, members[place]) for place in places)
        return out

    def _members_of(self, epoch_set: EpochSet) -> tuple[int, ...]:
        """Return who has each place of an epoch set, which every word that leaves is addressed by."""
        known = self._members.get(epoch_set.epoch)
        if known is None:
            by_account = {account: member for member, account in enumerate(self.accounts)}
            known = tuple(by_account[validator.account] for validator in epoch_set.validators)
            self._members[epoch_set.epoch] = known
        return known

    # -------------------------------------------------------------------------------------------- the next epoch

    def _go_on(self, now_ms: int) -> list[Outgoing]:
        """Enter the next epoch when the present one is over; again if need be."""
        out: list[Outgoing] = []
        while (entered := self._enter(now_ms)) is not None:
            out += entered
        return out

    def _enter(self, now_ms: int) -> list[Outgoing] | None:
        ended = self.present
        over, handed = ended.epoch_over, ended.handed_over
        if over is None or handed is None:
            return None
        opened = handed.opened
        context = _context_after(ended, opened, NOWHERE if handed.member is None else handed.member, over.header)
        journal = self.open_journal(opened.epoch_set.epoch)
        node: ValidatorNode | Observer
        if handed.member is None:
            node, said = Observer.restore(context, journal, over)
        else:
            terms = terms_after(context.round.agreed, opened.epoch_set, over.header)
            secrets, disguise = ended.journal.read().secrets, getattr(ended, "disguise", None)
            first = (terms, over.model, secrets, now_ms, disguise, over)
            node, said = ValidatorNode.restore(context, journal, *first)
        for gone in self.nodes[:-1]:
            self.close_journal(gone.context.round.epoch)
        self.past.append(PastEpoch(ended.context, tuple(ended.headers), opened, _proof_of(ended.journal.archive)))
        self.nodes = [ended, node]
        self._members.clear()
        out = self._leave(node, said)
        reports = [kept.upload for kept in ended.journal.read().uploads if kept.round == opened.first_round]
        waiting, self.ahead, self.early, self.followers = self.ahead, [], {}, {}
        if isinstance(node, ValidatorNode) and node.state.round.terms.round == opened.first_round:
            for report in reports:
                out += self.handle(report, now_ms)
            held = ended.state.records.of_round(opened.first_round) if isinstance(ended, ValidatorNode) else ()
            for entry in held:
                out += self.handle(RoundRecord(entry.round, entry.record), now_ms)
        _hand_on(opened.first_round, ended.journal, node)
        for sender, message in waiting:
            out += self.handle(message, now_ms, sender)
        return out

    # -------------------------------------------------------------------------------------------- who is behind

    def archive(self, epoch: int) -> BlockStore | None:
        """Return the final blocks of an epoch; None if they are not here."""
        node = self._of_epoch(epoch)
        if node is not None:
            return node.journal.archive
        return None if self.past_of(epoch) is None else self._reopen(epoch).archive

    def _handle_follower(self, message: EpochMessage, now_ms: int, sender: int) -> list[Outgoing]:
        """Answer a candidate that follows, have ordered what it says in the change, or take what follows oneself."""
        node, inner = self.present, message.message
        if isinstance(inner, FollowRequest):
            return self._answer(message.epoch, inner.known, sender)
        if message.epoch != self.epoch:
            return []
        place = self._place(node, sender)
        if isinstance(inner, ChangeOffer):
            if place is not None or not isinstance(node, ValidatorNode):  # who has a place orders what it says itself
                return []
            return self._said(node, node.offer(inner.payload, self.accounts[sender], now_ms), now_ms)
        if isinstance(inner, FollowReply) and isinstance(node, Observer) and place is not None:
            return self._said(node, node.take(inner, place), now_ms)
        return []

    def _answer(self, epoch: int, known: bytes, sender: int) -> list[Outgoing]:
        """Give the final blocks after a known one; where there are none yet, when there are."""
        archive = self.archive(epoch)
        reply = None if archive is None else _reply(archive, known)
        if reply is not None:
            return [Outgoing(EpochMessage(epoch, reply), sender)]
        if epoch == self.epoch:
            self.followers[sender] = known
        return []

    def _tell_followers(self, node: ValidatorNode | Observer) -> list[Outgoing]:
        """Answer those that wait for the next final block, once: who wants more asks again."""
        node.commits = 0
        waiting, self.followers = self.followers, {}
        out: list[Outgoing] = []
        for follower, known in waiting.items():
            reply = _reply(node.journal.archive, known)
            if reply is not None:
                out.append(Outgoing(EpochMessage(self.epoch, reply), follower))
        return out

    def _handle_old(self, message: EpochMessage, now_ms: int, sender: int) -> list[Outgoing]:
        """Take a message of an epoch whose node is gone here; a journal that cannot be read is noted and let go of."""
        try:
            if isinstance(message.message, FollowRequest | FollowReply | ChangeOffer):
                return self._handle_follower(message, now_ms, sender)
            return self._look_back(message, now_ms, sender)
        except CollegiumError as reason:  # nothing that this member has promised hangs on it
            self._let_go(message.epoch)
            self.notes.append(OldEpochUnreadable(message.epoch, reason))
            return []

    def _look_back(self, message: EpochMessage, now_ms: int, sender: int) -> list[Outgoing]:
        """Answer a member that is still in an epoch whose node is gone here."""
        if not isinstance(message.message, BlockRequest | ReportRequest | ObjectRequest | Timeout):
            self._refuse(message, sender)
            return []
        past = self.past_of(message.epoch)
        place = None if past is None else place_of(self.accounts[sender], past.context.round.epoch_set)
        node = None if past is None or place is None else self._old_node(past, sender, now_ms)
        return [] if node is None else self._leave(node, node.handle(message.message, now_ms, place))

    def _reopen(self, epoch: int) -> Journal:
        """Return the journal of an epoch that is over; besides those of old nodes a few stay open."""
        journal = self._reopened.pop(epoch, None)
        self._reopened[epoch] = self.open_journal(epoch) if journal is None else journal
        idle = [opened for opened in self._reopened if opened not in self._old_nodes]
        for gone in idle[:-OLD_JOURNALS_MAX]:
            del self._reopened[gone]
            self.close_journal(gone)
        return self._reopened[epoch]

    def _let_go(self, epoch: int) -> None:
        """Drop the node and close the journal of an epoch that is over."""
        self._old_nodes.pop(epoch, None)
        if self._reopened.pop(epoch, None) is not None:
            self.close_journal(epoch)

    def _old_node(self, past: PastEpoch, sender: int, now_ms: int) -> ValidatorNode | None:
        """Return the node of an epoch that is over; None if this member had no place there, or it is not at hand.

        To restore one takes long, so that is done once in a while for whoever comes first; but for each member that has
        waited its share of the time as well, and what one member asks for displaces what it asked for itself, so that
        nobody keeps others from what they lack.
        """
        context, epoch = past.context, past.epoch
        if epoch in self._old_nodes or context.round.index == NOWHERE:
            return self._old_nodes.get(epoch)
        share_ms = RESTORE_MS * len(self.accounts)
        last_ms = max((at_ms for _, at_ms in self._looks.values()), default=-RESTORE_MS)
        _, own_ms = self._looks.get(sender, (epoch, -share_ms))
        if now_ms - last_ms < RESTORE_MS and now_ms - own_ms < share_ms:
            return None
        self._looks.pop(sender, None)
        self._looks[sender] = (epoch, now_ms)
        kept = {looked for looked, _ in list(self._looks.values())[-OLD_NODES_MAX:]}
        self._old_nodes = {of: node for of, node in self._old_nodes.items() if of in kept}
        journal = self._reopen(epoch)
        terms = terms_after(context.round.agreed, past.opened.epoch_set, past.headers[-1])
        self._old_nodes[epoch], _ = ValidatorNode.restore(context, journal, terms, None, {}, now_ms)
        return self._old_nodes[epoch]


def present(node: ValidatorNode | EpochNode) -> ValidatorNode:
    """Return a validator as it is in its present epoch, in which it has a place."""
    return node.node if isinstance(node, EpochNode) else node


def _joined(node: ValidatorNode | Observer, place: int, now_ms: int) -> Iterable[Outgoing]:
    """Tell a node that a member can be reached again."""
    return node.joined(place) if isinstance(node, Observer) else node.handle(PeerJoined(place), now_ms)


def _context_after(ended: ValidatorNode | Observer, opened: NextEpoch, index: int, header: Header) -> ValidatorContext:
    """Return a member's surroundings in the epoch that follows on one that is over."""
    before = ended.context
    surroundings = before.round
    beacon = ThresholdBeacon(surroundings.agreed.task, opened.group, ended.next_share())
    first_value = sha256(header.beacon).digest()
    return replace(
        before,
        round=replace(surroundings, epoch_set=opened.epoch_set, index=index, beacon=beacon),
        signer=EpochSigner(surroundings.voting_key, surroundings.account),
        verifier=EpochVerifier(opened.epoch_set),
        genesis=opened.genesis,
        change=None if before.change is None else before.change.following(opened, first_value),
    )


def _reply(archive: BlockStore, known: bytes) -> FollowReply | None:
    """Return the final blocks after a known one, as many as fit, with what proves the last; None if there are none."""
    found = as_many_as_fit(archive.after(known, RESPONSE_BLOCKS_MAX), REPLY_BYTES_MAX)
    while found:
        chain = archive.proofs[found[-1].digest]
        if len(chain) <= PROOF_CERTIFICATES_MAX:
            return FollowReply(found, chain)
        found = found[:-1]
    return None


def _proof_of(archive: BlockStore) -> HandoverProof:
    """Return the block that orders an epoch's handover, with what proves it final."""
    block = next(block for block in reversed(archive.blocks) if block.payload[:1] == HANDOVER_KIND)
    return HandoverProof(block, archive.proofs[block.digest])


def _hand_on(first_round: int, ended: Journal, entered: ValidatorNode | Observer) -> None:
    """Move an epoch's first sealing key into the epoch's own journal, which forgets it when that round is over.

    It is written there before it is deleted here, like the reports that came early: whoever dies between has it twice,
    and does this again.
    """
    key = ended.read().secrets.get(first_round)
    if key is not None and isinstance(entered, ValidatorNode) and entered.state.round.terms.round == first_round:
        entered.journal.write([KeepSecret(first_round, key)])
    ended.forget_round(first_round)
