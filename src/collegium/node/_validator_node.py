"""A validator: the state machine inside, its journal and the outgoing messages outside.

`handle` writes all that a step must leave on the disk, at once, and only then returns what the step says. So whatever
anybody else has heard, this validator still knows after a crash; `restore` begins again with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from collegium.aggregation import RoundTerms, Upload
from collegium.consensus import (
    Admitted,
    Broadcast,
    ChangePutOff,
    Committed,
    EpochOver,
    EpochRefused,
    EvidenceFound,
    HandedOver,
    Header,
    Ignored,
    PeerJoined,
    Refused,
    RegistryRoot,
    Relay,
    RoundBroadcast,
    RoundContext,
    RoundFinished,
    RoundPassed,
    RoundRecord,
    RoundSend,
    RoundTimer,
    Send,
    SetTimer,
    Submit,
    Timer,
    ValidatorContext,
    ValidatorState,
    accepted_author,
    is_registries,
    is_withdrawal,
    registries_accepted,
    restore_validator,
    seen_digest,
    validator_step,
    withdrawal_accepted,
)
from collegium.crypto import SealKey, SecretShare, hash_fields
from collegium.errors import CollegiumError
from collegium.settlement import NO_CHECKPOINT, Checkpoint, header_root

from ._checkpoints import opening_digest
from ._journal import DURABLE, BlockStore, Durable, Journal, beacon_share
from ._network import Message, Outgoing
from ._registries import WatchedChain, check_seen

__all__ = ["CheckpointRefusedError", "ValidatorNode", "addressed", "sign_checkpoint"]

WITHDRAWALS_WAITING_MAX: Final = 4  # of anybody: the next ones can be brought when these are ordered
OFFERS_MAX: Final = 4  # candidates of whom a record waits among the 8 payloads under a validator's name
Note = (
    Admitted
    | RoundFinished
    | RoundPassed
    | Refused
    | EvidenceFound
    | Ignored
    | HandedOver
    | ChangePutOff
    | EpochRefused
)


class CheckpointRefusedError(CollegiumError):
    """A validator was asked to sign a checkpoint of headers other than its final ones."""


def addressed(effect: Broadcast | Send | SetTimer | RoundTimer, index: int, size: int) -> list[Outgoing]:
    """Return what the network must deliver of an effect: to all others, to one, or to this validator at a time."""
    match effect:
        case Broadcast():
            return [Outgoing(effect.message, to) for to in range(size) if to != index]
        case Send():
            return [Outgoing(effect.message, effect.to)]
        case SetTimer():
            return [Outgoing(Timer(effect.view), at_ms=effect.at_ms)]
        case RoundTimer():
            return [Outgoing(effect.alarm, at_ms=effect.at_ms)]


@dataclass
class ValidatorNode:
    """One validator: its state, its journal, and what it noticed since somebody looked.

    `disguise` replaces outgoing round messages: how a simulated liar lies. A node whose journal failed has `stopped`:
    it raises that error for ever, and says nothing more. `commits` counts blocks that became final, until somebody who
    tells followers of them begins anew.
    `payroll` notes what rounds earn, where they are paid.
    """

    context: ValidatorContext
    state: ValidatorState
    journal: Journal
    disguise: Callable[[object], object] | None = None
    headers: list[Header] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    handed_over: HandedOver | None = None
    epoch_over: EpochOver | None = None
    certified_round: int = -1
    commits: int = 0
    stopped: CollegiumError | None = None

    @classmethod
    def restore(
        cls,
        context: ValidatorContext,
        journal: Journal,
        terms: RoundTerms,
        model: bytes | None,
        secrets: Mapping[int, SealKey],
        now_ms: int,
        disguise: Callable[[object], object] | None = None,
        before: EpochOver | None = None,
    ) -> tuple[ValidatorNode, list[Outgoing]]:
        """Return a validator as its journal says it is, new if that is empty, and what it has to say.

        Args:
            context: its surroundings; archive and objects are the journal's.
            journal: its own, open nowhere else.
            terms, model: of the epoch's first round; None for a model that is not here yet.
            secrets: sealing keys that the journal does not have: the first round's.
            now_ms: a clock that may have begun anew.
            disguise: see the class.
            before: how the epoch before ended, if there was one.

        Raises:
            ForeignJournalError, JournalCorruptError, JournalWriteError: of the journal.
        """
        journal.claim(hash_fields("validator-journal", context.round.epoch_set.digest(), context.round.index))
        context = replace(context, archive=journal.archive, round=replace(context.round, objects=journal))
        state, effects = restore_validator(context, terms, model, secrets, journal.read(), now_ms, before)
        node = cls(context, state, journal, disguise, journal.headers())
        return node, node.carry_out(effects)

    @property
    def index(self) -> int:
        """This validator's place in the epoch set."""
        return self.context.round.index

    @property
    def archive(self) -> BlockStore:
        """The committed blocks."""
        return self.journal.archive

    def handle(self, message: Message, now_ms: int, sender: int | None = None) -> Iterable[Outgoing]:
        """Take a message, write down what follows, return what to send; from outside the committee, reports and
        records of rounds only.

        Raises:
            CollegiumError: the journal could not take this step, or one before: nothing of it may leave.
        """
        if self.stopped is not None:
            raise self.stopped
        if sender is None and not isinstance(message, Upload | PeerJoined | RoundRecord):
            return []
        known: Any = message  # the network carries objects; a step leaves alone what it does not know
        self.state, effects = validator_step(self.context, self.state, known, now_ms, sender)
        return self.carry_out(effects)

    def carry_out(self, effects: Iterable[object]) -> list[Outgoing]:
        """Write down all that must be on disk, then return what the network must deliver, in order.

        Raises:
            CollegiumError: the journal failed.
        """
        effects = tuple(effects)
        durable = [effect for effect in effects if isinstance(effect, DURABLE)]
        if durable:
            self.write(durable)
            self.commits += sum(isinstance(effect, Committed) for effect in durable)
        outgoing: list[Outgoing] = []
        for effect in effects:
            match effect:
                case Broadcast() | Send() | SetTimer() | RoundTimer():
                    outgoing += addressed(effect, self.index, self.context.round.epoch_set.size)
                case RoundBroadcast():
                    outgoing.append(Outgoing(self._said(effect.message)))
                case RoundSend():
                    outgoing.append(Outgoing(self._said(effect.message), effect.to))
                case _:
                    self._note(effect)
        if self.state.round.certified is not None:
            self.certified_round = self.state.round.terms.round
        return outgoing

    def write(self, effects: Iterable[Durable]) -> None:
        """Write down what must survive, or stop.

        Raises:
            CollegiumError: the journal failed.
        """
        try:
            self.journal.write(effects)
        except CollegiumError as error:
            self.stopped = error
            raise

    def offer(self, payload: bytes, account: bytes, now_ms: int) -> Iterable[Outgoing]:
        """Have a record ordered that a candidate without a place here brings, if it is its own and may be ordered now.

        It waits among what this validator wants ordered itself, one record a candidate: what is ordered or may not be
        ordered any more takes no place from anybody.
        """
        change, state = self.context.change, self.state.change
        if change is None or state is None or accepted_author(change.rules, state.change, payload) != account:
            return []
        waiting = [relay.payload for relay in self.state.replica.pool if relay.member == self.index]
        authors = {accepted_author(change.rules, state.change, other) for other in waiting}
        offered = authors - {None, self.context.round.account.address}
        if account in offered or len(offered) >= OFFERS_MAX:
            return []
        return self.handle(Relay(self.index, payload), now_ms, self.index)

    def withdraw(self, payload: bytes, now_ms: int) -> Iterable[Outgoing]:
        """Have a withdrawal of consent ordered, whoever brings it, if it takes somebody out who is in the cohort.

        What was brought before and waits to be ordered is not brought again.
        """
        state, waiting = self.state, [relay.payload for relay in self.state.replica.pool]
        if payload in waiting or not withdrawal_accepted(self.context.consents, state.withdrawals, (), payload):
            return []
        if sum(map(is_withdrawal, waiting)) >= WITHDRAWALS_WAITING_MAX:
            return []
        return self.handle(Submit(payload), now_ms, self.index)

    def order_registries(self, payload: bytes, now_ms: int) -> Iterable[Outgoing]:
        """Have a record of what chains hold ordered, whoever brings it, if a quorum signed it and it says news."""
        context, state = self.context, self.state
        if not registries_accepted(context.witnesses, state.registries, (), payload):
            return []
        if any(is_registries(relay.payload) for relay in state.replica.pool):  # one at a time
            return []
        return self.handle(Submit(payload), now_ms, self.index)

    def _note(self, effect: object) -> None:
        """Remember what is neither written nor sent."""
        match effect:
            case RoundFinished() | RoundPassed():
                self.headers.append(effect.header)
                self.notes.append(effect)
            case HandedOver():
                self.handed_over = effect
                self.notes.append(effect)
            case EpochOver():
                self.epoch_over = effect
            case Admitted() | Refused() | EvidenceFound() | Ignored() | ChangePutOff() | EpochRefused():
                self.notes.append(effect)

    def next_share(self) -> SecretShare | None:
        """Return this validator's share of the next epoch's beacon, as its journal has it."""
        return beacon_share(self.journal, self.context.round.epoch + 1)

    def sign_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """Sign a checkpoint of headers that are final here; that `previous` is the one before it the contract compares.

        Raises:
            CheckpointRefusedError: it is of another task or epoch, its root is not that of this validator's final
                headers of those rounds, or it begins with round 0 and has a checkpoint before it.
        """
        return sign_checkpoint(self.context.round, self.headers, checkpoint)

    def sign_handover(self, last: Checkpoint) -> bytes:
        """Sign, for the base chain, that the next epoch's set follows after the last checkpoint of this one.

        Raises:
            CheckpointRefusedError: no handover is final here, or the checkpoint is not of this epoch's last rounds.
        """
        handed = self.handed_over
        if handed is None or self.epoch_over is None or last.last_round != self.epoch_over.header.round:
            raise CheckpointRefusedError(f"checkpoint up to round {last.last_round} does not end a finished epoch")
        self.sign_checkpoint(last)
        return self.context.round.voting_key.sign(opening_digest(handed.opened.epoch_set, last.digest))

    def sign_registries(self, seen: Sequence[RegistryRoot], watched: Mapping[int, WatchedChain]) -> bytes:
        """Sign what chains hold of the task, as this validator sees it at its own nodes.

        Raises:
            RegistriesRefusedError: it sees something else.
            ChainUnreachableError, ChainAnswerError: a node does not answer.
        """
        check_seen(seen, watched)
        return self.context.round.voting_key.sign(seen_digest(self.context.round.epoch_set, seen))

    def _said(self, message: object) -> object:
        return message if self.disguise is None else self.disguise(message)


def sign_checkpoint(context: RoundContext, finals: Sequence[Header], checkpoint: Checkpoint) -> bytes:
    """Sign a checkpoint of these final headers; raises as `ValidatorNode.sign_checkpoint`."""
    epoch_set = context.epoch_set
    if (checkpoint.task, checkpoint.epoch) != (epoch_set.task, epoch_set.epoch):
        raise CheckpointRefusedError(
            f"checkpoint of epoch {checkpoint.epoch} of task {checkpoint.task.hex()[:16]}, "
            f"expected {epoch_set.epoch} of {epoch_set.task.hex()[:16]}"
        )
    if checkpoint.first_round == 0 and checkpoint.previous != NO_CHECKPOINT:
        raise CheckpointRefusedError("checkpoint of rounds from 0 on names one before it")
    headers = [h.digest for h in finals if checkpoint.first_round <= h.round <= checkpoint.last_round]
    count = checkpoint.last_round - checkpoint.first_round + 1
    if len(headers) != count or header_root(headers) != checkpoint.root:
        raise CheckpointRefusedError(f"checkpoint of rounds {checkpoint.first_round}-{checkpoint.last_round} differs")
    return context.voting_key.sign(checkpoint.digest)
