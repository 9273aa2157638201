"""What must hold in a simulated world while an epoch hands over to the next, redone from the order alone.

The windows, the counts and the drawn set are followed here apart from the code that the validators follow them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collegium.consensus import (
    Answer,
    Block,
    ChangeOffer,
    ChangePlan,
    ChangeRules,
    DealingRecord,
    EpochChange,
    EpochRecord,
    EpochSet,
    HandedOver,
    Handover,
    Registration,
    Relay,
    Ticket,
    TicketRecord,
    Verdict,
    decode_epoch_record,
    draw_epoch_set,
    is_epoch_record,
)
from collegium.crypto import (
    BeaconGroup,
    BlsPublicKey,
    Digest,
    SealKey,
    SecretShare,
    ThresholdBeacon,
    combine_commitments,
    hash_fields,
    verify_possession,
)
from collegium.errors import CollegiumError

from ._journal import MemoryJournal
from ._world_plan import EPOCH_ROUNDS, WINDOWS, WorldPlan
from ._world_task import Cast, Once

__all__ = ["ChangeTruth", "EpochStage", "SafetyError", "change_plan", "record_in"]

STEPS: dict[type, tuple[int, str]] = {
    TicketRecord: (0, "ticket"),
    DealingRecord: (1, "dealing"),
    Verdict: (2, "verdict"),
    Answer: (3, "answer"),
    Handover: (4, "handover"),
}


class SafetyError(CollegiumError):
    """Something that must never happen has happened."""


@dataclass(frozen=True)
class EpochStage:
    """What an epoch begins with: who, on which block, with which beacon key, in which round and with which value."""

    epoch_set: EpochSet
    genesis: Digest
    group: BeaconGroup
    first_round: int
    first_value: Digest


def change_plan(plan: WorldPlan, cast: Cast) -> ChangePlan:
    """Return when epochs change, and among whom: everybody."""
    keys = zip(cast.voting, cast.accounts, strict=True)
    candidates = tuple(Registration(bytes(key.public_key()), account.address, 1) for key, account in keys)
    return ChangePlan(candidates, EPOCH_ROUNDS, members_min=plan.members_min)


def record_in(message: Any) -> EpochRecord | None:
    """Return the record of an epoch change that a relay, a block or an offer is about, if it is about one."""
    if not isinstance(message, Relay | Block | ChangeOffer) or not is_epoch_record(message.payload):
        return None
    try:
        return decode_epoch_record(message.payload)
    except CollegiumError:
        return None


class ChangeTruth:
    """What the order of one epoch says of the next, and what honest people have said in the change."""

    def __init__(self, plan: WorldPlan, cast: Cast, stage: EpochStage) -> None:
        self.plan, self.cast, self.stage = plan, cast, stage
        self.rules = ChangeRules(change_plan(plan, cast), stage.epoch_set, Once())
        self.people = [bytes(key.public_key()) for key in cast.voting]
        self.put_off = 0
        self.handover: Handover | None = None
        self.opened: EpochStage | None = None
        self.cheated: set[int] = set()  # honest people who enter the next epoch without a share of its key
        self._said: dict[tuple[int, str, int], bytes] = {}
        self._handed: set[tuple[int, int]] = set()
        self._begin(stage.first_round + EPOCH_ROUNDS - WINDOWS - 1)
        self.seed = stage.first_value if self.start == stage.first_round else None

    def _begin(self, start: int) -> None:
        self.start = start
        self.drawn: EpochSet | None = None
        self.tickets: dict[bytes, TicketRecord] = {}
        self.dealings: dict[int, DealingRecord] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.answers: dict[int, Answer] = {}

    @property
    def scope(self) -> Digest:
        """What every signature of this attempt covers."""
        return self.rules.scope(EpochChange(self.start, self.start))

    @property
    def members(self) -> EpochSet:
        """The drawn set."""
        if self.drawn is None:
            raise SafetyError(f"a record of a member is final in the window of tickets of round {self.start}")
        return self.drawn

    def closes(self, number: int) -> None:
        """Check that a round may close now.

        Raises:
            SafetyError: its epoch's handover must come first.
        """
        if number - self.start == WINDOWS and self.handover is None:
            raise SafetyError(f"the close of round {number}, its epoch's last, is final before the handover")

    # ------------------------------------------------------------------------------------------------ what is said

    def author(self, record: EpochRecord) -> int | None:
        """Return whose word a record is, by its place among all people; None of a handover, or of nobody known."""
        match record:
            case TicketRecord():
                return self.people.index(record.bls_key) if record.bls_key in self.people else None
            case DealingRecord() | Answer():
                place = record.dealer
            case Verdict():
                place = record.member
            case Handover():
                return None
        known = self.drawn is not None and place < self.drawn.size
        return self.people.index(self.members.validators[place].bls_key) if known else None

    def says(self, member: int, message: Any, journal: MemoryJournal) -> None:
        """Check that an honest person's word in the change is its only one, and that its secret is on the disk.

        Raises:
            SafetyError: it is not.
        """
        record = record_in(message)
        if record is None or (record.epoch, record.start) != (self.rules.epoch, self.start):
            return
        if self.author(record) != member:
            return
        _, step = STEPS[type(record)]
        known = self._said.setdefault((member, step, record.start), message.payload)
        if known != message.payload:
            raise SafetyError(f"{member} says two things: {step} since round {record.start}")
        kept = journal.epoch_secrets.get((record.epoch, record.start, step))
        if step != "answer" and (kept is None or kept.record != message.payload):
            raise SafetyError(f"{member} says a {step} whose secret is not on its disk")

    def keeps(self, member: int, change: EpochChange, journal: MemoryJournal) -> None:
        """Check that the secrets of an attempt are deleted when it is over.

        Raises:
            SafetyError: one is still on the disk.
        """
        over = change.handover is not None and change.round >= change.handover.first_round
        for _, start, step in journal.epoch_secrets:
            if over or start != change.start:
                raise SafetyError(f"{member} still has the secret of its {step} since round {start}")

    # ------------------------------------------------------------------------------------------------ what is final

    def ordered(self, payload: bytes, number: int) -> None:
        """Check a record that has become final in a round.

        Raises:
            SafetyError: it must not be.
        """
        record = decode_epoch_record(payload)
        window, step = STEPS[type(record)]
        if (record.epoch, record.start, number - record.start) != (self.rules.epoch, self.start, window):
            raise SafetyError(
                f"a {step} since round {record.start} for epoch {record.epoch} is final in round {number}"
            )
        author = self.author(record)
        if author in self.plan.honest and self._said.get((author, step, record.start)) != payload:
            raise SafetyError(f"a {step} of {author} is final that it never said")
        match record:
            case TicketRecord():
                self.tickets = self._once(self.tickets, record.bls_key, record, step)
            case DealingRecord():
                self.dealings = self._once(self.dealings, record.dealer, record, step)
                self._check_dealing(record)
            case Verdict():
                self.verdicts = self._once(self.verdicts, record.member, record, step)
                self._check_verdict(record)
            case Answer():
                self.answers = self._once(self.answers, record.dealer, record, step)
                self._check_answer(record)
            case Handover():
                self._check_handover(record)
                self.handover = record

    def _once(self, known: dict[Any, Any], key: object, record: object, step: str) -> dict[Any, Any]:
        if key in known:
            raise SafetyError(f"a second {step} of one author is final in the attempt since round {self.start}")
        return {**known, key: record}

    def _honest(self, place: int) -> bool:
        """Tell whether the member at a place of the drawn set is honest."""
        return self.people.index(self.members.validators[place].bls_key) in self.plan.honest

    def _least(self) -> int:
        return self.members.size - (self.members.size - 1) // 3

    def _check_dealing(self, record: DealingRecord) -> None:
        if (len(record.commitments), len(record.boxes)) != (self._least(), self.members.size):
            raise SafetyError(f"a dealing of {len(record.commitments)} commitments is final, expected {self._least()}")
        context = record.possession_context(self.scope, self.members, record.dealer)
        try:
            verify_possession(BlsPublicKey(record.commitments[0]), context, record.possession)
        except CollegiumError as error:
            raise SafetyError(f"a dealing is final whose dealer does not know what it deals: {error}") from error

    def _check_verdict(self, record: Verdict) -> None:
        accused = [dealer for dealer in record.against if self._honest(dealer)]
        if accused and self._honest(record.member):
            raise SafetyError(f"the honest member {record.member} complains of the honest dealers {accused}")

    def _check_answer(self, record: Answer) -> None:
        shown = [member for member, _ in record.shares if self._honest(member)]
        if shown and self._honest(record.dealer):
            raise SafetyError(f"the shares of the honest members {shown} are published by the honest {record.dealer}")

    def qualified(self) -> tuple[int, ...]:
        """Return the dealers of whom nobody complained, or who have answered."""
        accused = {dealer for verdict in self.verdicts.values() for dealer in verdict.against}
        return tuple(sorted(d for d in self.dealings if d not in accused or d in self.answers))

    def _check_handover(self, record: Handover) -> None:
        if self.handover is not None:
            raise SafetyError(f"epoch {self.rules.epoch - 1} hands over twice")
        if len(self.verdicts) < self._least():
            raise SafetyError(f"a handover by {len(self.verdicts)} verdicts is final, expected {self._least()}")
        dealers = self.qualified()
        group = combine_commitments(self.members.size, [self.dealings[dealer].commitments for dealer in dealers])
        seats = tuple((v.bls_key, v.account, v.stake) for v in self.members.validators)
        fits = (
            record.dealers == dealers,
            (record.group_key, record.public_shares) == (group.key, group.public_shares),
            tuple((seat.bls_key, seat.account, seat.stake) for seat in record.seats) == seats,
            record.keys == tuple(self.verdicts[member].key for member in sorted(self.verdicts)),
            record.first_round == self.start + WINDOWS + 1,
        )
        if not all(fits):
            raise SafetyError(f"a handover is final that the records before it do not give: {fits}")

    # ------------------------------------------------------------------------------------------------ round by round

    def passes(self, number: int, value: Digest) -> EpochStage | None:
        """Follow a round's final header; `value` is of the next round. Return what begins, if the epoch is over.

        Raises:
            SafetyError: its last round has ended without a handover.
        """
        handover = self.handover
        if handover is not None:
            genesis = hash_fields("epoch-genesis", self.members.genesis(), handover.digest)
            group = BeaconGroup(self._least(), handover.group_key, handover.public_shares)
            self.opened = EpochStage(self.members, genesis, group, number + 1, value)
            return self.opened
        passed = number + 1 - self.start
        if passed == 0:
            self.seed = value
        elif passed > 0 and not self._goes_on(passed):
            self._begin(number + 1)
            self.seed = value
            self.put_off += 1
        return None

    def _goes_on(self, passed: int) -> bool:
        """Tell whether the attempt has what its window was for, and draw the set."""
        if passed > WINDOWS:
            raise SafetyError(f"epoch {self.rules.epoch - 1} passes its last round without a handover")
        if passed == 1:
            if len(self.tickets) < self.rules.plan.members_min or self.seed is None:
                return False
            tickets = [Ticket(ticket.bls_key, ticket.proof) for ticket in self.tickets.values()]
            task, candidates = self.stage.epoch_set.task, self.rules.plan.candidates
            self.drawn = draw_epoch_set(task, self.rules.epoch, self.seed, candidates, tickets, len(tickets))
            return True
        counted: Sequence[Any] = (list(self.dealings), list(self.verdicts), self.qualified())
        return len(counted[passed - 2]) >= self._least()

    # ------------------------------------------------------------------------------------------------ who enters

    def hands_over(self, member: int, life: int, handed: HandedOver, share: SecretShare | None) -> None:
        """Check what an honest person takes from the handover, once in each of its lives; `share` is on its disk.

        Raises:
            SafetyError: it is not what everybody takes, or its share or first key is missing or wrong.
        """
        if (member, life) in self._handed:
            return
        self._handed.add((member, life))
        handover, opened = self.handover, handed.opened
        if handover is None or opened.first_round != handover.first_round:
            raise SafetyError(f"{member} hands over to round {opened.first_round} without a final handover")
        genesis = hash_fields("epoch-genesis", self.members.genesis(), handover.digest)
        group = BeaconGroup(self._least(), handover.group_key, handover.public_shares)
        if (opened.epoch_set, opened.genesis, opened.group) != (self.members, genesis, group):
            raise SafetyError(f"{member} hands over to another set, genesis or key than the others")
        keys = [validator.bls_key for validator in self.members.validators]
        place = keys.index(self.people[member]) if self.people[member] in keys else None
        if handed.member != place:
            raise SafetyError(f"{member} takes place {handed.member} in the next epoch, its own is {place}")
        if place is None:
            return
        if share is None:
            self.cheated.add(member)
            if place in self.verdicts:
                raise SafetyError(f"{member} has given its verdict and holds no share")
            return
        try:
            ThresholdBeacon(self.stage.epoch_set.task, group, share)
        except CollegiumError as error:
            raise SafetyError(f"{member} holds a wrong share: {error}") from error
        ended = handed.share is None  # it has begun again after the end: the key is with the next epoch's by now
        if place in self.verdicts and not ended:
            key = None if handed.first_key is None else SealKey(handed.first_key.secret).public_bytes
            if self.verdicts[place].key.seal_key != key:
                raise SafetyError(f"{member} has lost the sealing key of its verdict")
