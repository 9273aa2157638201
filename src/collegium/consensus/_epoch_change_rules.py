"""How an epoch hands over, as everybody can follow it: a fold over what the order holds, the same on every machine.

An attempt begins with round `start` and takes four windows of `window_rounds` rounds and one round more:

    tickets    candidates enter the lottery; its seed is the beacon value of round `start`
    dealings   each member of the drawn set deals a part of the next beacon's key
    verdicts   each member says which shares do not fit, and gives its first sealing key
    answers    whoever was complained of publishes those shares, or is left out
    handover   in the last round, ordered before its close: the next set, its beacon key, its first keys

Too few tickets, dealings, verdicts or good dealings put the change off: another attempt begins with the next round,
under a new seed, and this epoch goes on as it is. docs/spec/epochs.md has the argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from hashlib import sha256
from typing import Final

from collegium.crypto import (
    BeaconGroup,
    BlsPublicKey,
    Digest,
    IdentityPointError,
    SecretShare,
    check_seal_key,
    combine_commitments,
    hash_fields,
    recover_address,
    verify_possession,
    verify_share,
)
from collegium.errors import CollegiumError

from ._consents import is_beside_rounds
from ._epoch import EpochSet, Validator, ValidatorIndex, quorum_size
from ._epoch_change_records import (
    MEMBERS_MAX,
    Answer,
    DealingRecord,
    EpochRecord,
    Handover,
    NextEpoch,
    Seat,
    TicketRecord,
    Verdict,
    change_scope,
    decode_epoch_record,
    encode_epoch_record,
    first_key_digest,
    is_epoch_record,
)
from ._lottery import Registration, Ticket, draw_epoch_set, verify_ticket
from ._records import Announcement, Certified, decode_payload
from ._round_types import Work

__all__ = [
    "CHANGE_WINDOWS",
    "BadAnswerError",
    "BadChangePlanError",
    "BadDealingError",
    "BadVerdictError",
    "ChangePlan",
    "ChangeRules",
    "EpochChange",
    "ForgedRecordError",
    "HandoverRefusedError",
    "NotMemberError",
    "Phase",
    "RecordPhaseError",
    "RepeatedRecordError",
    "WrongChangeError",
    "begin_change",
    "check_first_key",
    "due_payload",
    "follow_payload",
    "handover_due",
    "open_handover",
    "pass_round",
    "take_record",
]

CHANGE_WINDOWS: Final = 4


class BadChangePlanError(CollegiumError):
    """Settings with which no epoch could ever hand over, or not to a set that its promise covers."""


class WrongChangeError(CollegiumError):
    """A record, or a round's end, of another epoch or attempt than the present one."""


class RecordPhaseError(CollegiumError):
    """A record before or after its window."""


class RepeatedRecordError(CollegiumError):
    """A second record of one kind by one author in one attempt."""


class NotMemberError(CollegiumError):
    """A record by somebody who is no candidate, or no member of the drawn set."""


class ForgedRecordError(CollegiumError):
    """A record, or the sealing key in one, that is not signed by its author's account for this attempt."""


class BadDealingError(CollegiumError):
    """A dealing of another threshold than the set's, or with more or fewer sealed shares than members."""


class BadVerdictError(CollegiumError):
    """A complaint of somebody who has dealt nothing, or of oneself; or a sealing key of somebody else's or round."""


class BadAnswerError(CollegiumError):
    """An answer to other complaints than were made."""


class HandoverRefusedError(CollegiumError):
    """A handover other than the one that the records before it give."""


# ------------------------------------------------------------------------------------------------ what is fixed


class Phase(IntEnum):
    """Where an attempt stands, by the present round."""

    WAITING = -1
    TICKETS = 0
    DEALINGS = 1
    VERDICTS = 2
    ANSWERS = 3
    HANDOVER = 4
    OVER = 5


@dataclass(frozen=True)
class ChangePlan:
    """When epochs change, and among whom: public, fixed before the beacon value that draws the next set is known.

    Args:
        candidates: keys (possession proved), accounts and stakes; distinct.
        epoch_rounds: rounds of an epoch, if the first attempt succeeds.
        window_rounds: rounds of each window: how long an honest member may be cut off without counting as missing.
        members_min: fewer tickets put the change off. The default bears what the present set bears: a third missing
            or bad, together.
        members_max: size of the drawn set, if there are so many tickets; by default everybody is in.

    Raises:
        BadChangePlanError: see there.
    """

    candidates: tuple[Registration, ...]
    epoch_rounds: int
    window_rounds: int = 1
    members_min: int = 0
    members_max: int = 0

    def __post_init__(self) -> None:
        count = len(self.candidates)
        if not 1 <= count <= MEMBERS_MAX:
            raise BadChangePlanError(f"{count} candidates, expected 1..{MEMBERS_MAX}", candidates=count)
        if len({c.bls_key for c in self.candidates}) != count or len({c.account for c in self.candidates}) != count:
            raise BadChangePlanError(f"{count} candidates share keys or accounts", candidates=count)
        object.__setattr__(self, "members_min", self.members_min or quorum_size(count))
        object.__setattr__(self, "members_max", self.members_max or count)
        if not 1 <= self.members_min <= self.members_max <= count:
            raise BadChangePlanError(
                f"{self.members_min} to {self.members_max} members of {count}, expected 1 <= min <= max <= {count}"
            )
        if self.window_rounds < 1 or self.epoch_rounds < self.attempt_rounds:
            raise BadChangePlanError(
                f"epochs of {self.epoch_rounds} rounds with windows of {self.window_rounds}, expected 1 or more and "
                f"at least {self.attempt_rounds} rounds",
                epoch_rounds=self.epoch_rounds,
            )

    @property
    def attempt_rounds(self) -> int:
        """Rounds of one attempt."""
        return CHANGE_WINDOWS * max(self.window_rounds, 1) + 1


@dataclass(frozen=True)
class ChangeRules:
    """What everybody knows during an epoch: the plan, the present set, its genesis; and who does shared work."""

    plan: ChangePlan
    epoch_set: EpochSet
    work: Work

    @property
    def epoch(self) -> int:
        """The epoch to come."""
        return self.epoch_set.epoch + 1

    def candidate(self, key: bytes) -> Registration | None:
        """Return who registered this voting key."""
        return next((c for c in self.plan.candidates if c.bls_key == key), None)

    def scope(self, change: EpochChange) -> Digest:
        """Return what every signature of the present attempt covers."""
        return change_scope(self.epoch_set, self.epoch, change.start)


# ------------------------------------------------------------------------------------------------ the state


@dataclass(frozen=True)
class EpochChange:
    """What the order says of the change so far. Mappings are never changed in place; all are bounded by the set.

    Attributes:
        start: first round of the present attempt.
        round: the present round, whose header is not final yet.
        seed: beacon value of round `start`, once it is known.
        tickets: by voting key.
        members: the drawn set, once the window of tickets is over.
        dealings, verdicts, answers: by member.
        due: the handover that the last round must order.
        handover: the one that it has ordered.
        put_off: why the attempt before this one failed; empty if there was none.
        attempts: how many failed.
    """

    start: int
    round: int
    seed: Digest | None = None
    tickets: Mapping[bytes, TicketRecord] = field(default_factory=dict)
    members: EpochSet | None = None
    dealings: Mapping[int, DealingRecord] = field(default_factory=dict)
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    answers: Mapping[int, Answer] = field(default_factory=dict)
    due: Handover | None = None
    handover: Handover | None = None
    put_off: str = ""
    attempts: int = 0

    def phase(self, plan: ChangePlan) -> Phase:
        """Return where the present round stands in the attempt."""
        passed = self.round - self.start
        if passed < 0:
            return Phase.WAITING
        if passed >= plan.attempt_rounds:
            return Phase.OVER
        return Phase(passed // plan.window_rounds) if passed < CHANGE_WINDOWS * plan.window_rounds else Phase.HANDOVER

    def first_round(self, plan: ChangePlan) -> int:
        """Return the round with which the next epoch begins if this attempt succeeds."""
        return self.start + plan.attempt_rounds

    def complaints(self, dealer: int) -> tuple[int, ...]:
        """Return who complained of a dealer."""
        return tuple(sorted(member for member, verdict in self.verdicts.items() if dealer in verdict.against))

    def qualified(self) -> tuple[int, ...]:
        """Return the dealers of whom nobody complained, or who have answered."""
        return tuple(sorted(d for d in self.dealings if not self.complaints(d) or d in self.answers))

    def drawn(self) -> EpochSet:
        """Return the drawn set.

        Raises:
            RecordPhaseError: none is drawn yet.
        """
        if self.members is None:
            raise RecordPhaseError(f"no set is drawn in round {self.round}", round=self.round)
        return self.members

    def deal_key(self, member: int) -> bytes:
        """Return the key to which a member of the drawn set has its shares sealed."""
        return self.tickets[self.drawn().validator(member).bls_key].deal_key


def begin_change(plan: ChangePlan, first_round: int, value: Digest) -> EpochChange:
    """Return the state at the beginning of an epoch, from its first round and that round's beacon value."""
    start = first_round + plan.epoch_rounds - plan.attempt_rounds
    return EpochChange(start, first_round, value if start == first_round else None)


def handover_due(change: EpochChange) -> Handover | None:
    """Return the handover without which this round may not close; None if there is none, or it is ordered."""
    return change.due if change.handover is None else None


# ------------------------------------------------------------------------------------------------ a round has passed


def pass_round(rules: ChangeRules, change: EpochChange, number: int, value: Digest) -> EpochChange:
    """Return the state after round `number`'s header is final; `value` is the beacon value of the round after it.

    Raises:
        WrongChangeError: it is not the present round's.
    """
    if number != change.round:
        raise WrongChangeError(f"round {number} has passed, the present one is {change.round}", round=number)
    change = replace(change, round=number + 1)
    if change.round == change.start:
        return replace(change, seed=value)
    if change.handover is not None:
        return change
    try:
        return _enter(rules, change)
    except _PutOffError as reason:
        return EpochChange(change.round, change.round, value, put_off=str(reason), attempts=change.attempts + 1)


class _PutOffError(CollegiumError):
    """This attempt cannot succeed."""


def _enter(rules: ChangeRules, change: EpochChange) -> EpochChange:
    """Conclude the window that has just ended, if one has."""
    plan, window = rules.plan, rules.plan.window_rounds
    passed = change.round - change.start
    if passed == plan.attempt_rounds:
        raise _PutOffError("no handover was ordered")
    if passed <= 0 or passed % window:
        return change
    match Phase(passed // window):
        case Phase.DEALINGS:
            return replace(change, members=_draw(rules, change))
        case Phase.VERDICTS:
            _require("dealings", len(change.dealings), change.drawn().quorum)
        case Phase.ANSWERS:
            _require("verdicts", len(change.verdicts), change.drawn().quorum)
        case Phase.HANDOVER:
            _require("qualified dealings", len(change.qualified()), change.drawn().quorum)
            return replace(change, due=_conclude(rules, change))
    return change


def _require(what: str, found: int, least: int) -> None:
    if found < least:
        raise _PutOffError(f"{found} {what}, at least {least} needed")


def _draw(rules: ChangeRules, change: EpochChange) -> EpochSet:
    """Return the next set: the earliest tickets, all of them where there is room."""
    plan, seed, tickets = rules.plan, change.seed, change.tickets
    _require("tickets", len(tickets), plan.members_min)
    if seed is None:
        raise _PutOffError("the beacon value that draws the set is unknown")
    scope = rules.scope(change)
    ordered = [tickets[key] for key in sorted(tickets)]
    key = ("epoch draw", scope, seed, tuple((t.bls_key, t.proof) for t in ordered))

    def draw() -> EpochSet:
        entered = [Ticket(ticket.bls_key, ticket.proof) for ticket in ordered]
        size = min(len(entered), plan.members_max)
        return draw_epoch_set(rules.epoch_set.task, rules.epoch, seed, plan.candidates, entered, size)

    return rules.work.once(key, draw)


def _conclude(rules: ChangeRules, change: EpochChange) -> Handover:
    """Return the handover that the records give."""
    members, dealers = change.drawn(), change.qualified()
    rows = tuple(change.dealings[dealer].commitments for dealer in dealers)
    key = ("epoch group", members.size, hash_fields("epoch-rows", *(b"".join(row) for row in rows)))
    try:
        group = rules.work.once(key, lambda: combine_commitments(members.size, rows))
    except IdentityPointError as error:  # takes the sum of others' secrets, which nobody can know
        raise _PutOffError(f"the dealt key is unusable: {error}") from error
    return Handover(
        epoch=rules.epoch,
        start=change.start,
        first_round=change.first_round(rules.plan),
        seats=tuple(Seat(v.bls_key, v.account, v.stake) for v in members.validators),
        dealers=dealers,
        group_key=group.key,
        public_shares=group.public_shares,
        keys=tuple(change.verdicts[member].key for member in sorted(change.verdicts)),
    )


# ------------------------------------------------------------------------------------------------ a record is ordered


def take_record(rules: ChangeRules, change: EpochChange, record: EpochRecord) -> EpochChange:
    """Return the state after a record, once everything about it is checked.

    Raises:
        WrongChangeError, RecordPhaseError, RepeatedRecordError, NotMemberError, ForgedRecordError: see there.
        BadTicketError, BadDealingError, BadVerdictError, BadAnswerError, HandoverRefusedError: see there.
        BadPossessionError, MalformedPointError, IdentityPointError, BadShareError, SealKeyError: of `crypto`.
    """
    if (record.epoch, record.start) != (rules.epoch, change.start):
        raise WrongChangeError(
            f"{type(record).__name__} for epoch {record.epoch} since round {record.start}, expected {rules.epoch} "
            f"since {change.start}",
            epoch=record.epoch,
            start=record.start,
        )
    match record:
        case TicketRecord():
            _check_once(rules, change, record, Phase.TICKETS, record.bls_key in change.tickets)
            _check_ticket(rules, change, record)
            return replace(change, tickets={**change.tickets, record.bls_key: record})
        case DealingRecord():
            _check_once(rules, change, record, Phase.DEALINGS, record.dealer in change.dealings)
            _check_dealing(rules, change, record)
            return replace(change, dealings={**change.dealings, record.dealer: record})
        case Verdict():
            _check_once(rules, change, record, Phase.VERDICTS, record.member in change.verdicts)
            _check_verdict(rules, change, record)
            return replace(change, verdicts={**change.verdicts, record.member: record})
        case Answer():
            _check_once(rules, change, record, Phase.ANSWERS, record.dealer in change.answers)
            _check_answer(rules, change, record)
            return replace(change, answers={**change.answers, record.dealer: record})
        case Handover():
            _check_once(rules, change, record, Phase.HANDOVER, change.handover is not None)
            if record != change.due:
                raise HandoverRefusedError(f"handover to epoch {record.epoch} is not what the records before it give")
            return replace(change, handover=record)


def _check_once(rules: ChangeRules, change: EpochChange, record: EpochRecord, phase: Phase, repeated: bool) -> None:
    present, name = change.phase(rules.plan), type(record).__name__
    if present != phase:
        raise RecordPhaseError(f"{name} in round {change.round}: {present.name.lower()}, not {phase.name.lower()}")
    if repeated:
        raise RepeatedRecordError(f"second {name} of one author in this attempt")


def _check_signed(rules: ChangeRules, what: str, digest: Digest, signature: bytes, account: bytes) -> None:
    signer = rules.work.once(("epoch signature", digest, signature), partial(recover_address, digest, signature))
    if signer != account:
        raise ForgedRecordError(f"{what} is signed by {signer.hex()}, not by {account.hex()}", signer=signer)


def _check_sealable(work: Work, key: bytes) -> None:
    work.once(("epoch sealable", key), lambda: check_seal_key(key))


def _check_ticket(rules: ChangeRules, change: EpochChange, record: TicketRecord) -> None:
    candidate = rules.candidate(record.bls_key)
    if candidate is None:
        raise NotMemberError(f"ticket of {record.bls_key.hex()[:16]}, which is no candidate's key", key=record.bls_key)
    if change.seed is None:
        raise RecordPhaseError(f"a ticket in round {change.round}, whose beacon value is unknown")
    scope = rules.scope(change)
    _check_signed(rules, "ticket", record.digest(scope), record.signature, candidate.account)
    _check_sealable(rules.work, record.deal_key)
    check = partial(verify_ticket, rules.epoch_set.task, rules.epoch, change.seed, Ticket(record.bls_key, record.proof))
    rules.work.once(("epoch ticket", scope, change.seed, record.bls_key, record.proof), check)


def _check_dealing(rules: ChangeRules, change: EpochChange, record: DealingRecord) -> None:
    members, scope = change.drawn(), rules.scope(change)
    account = _member(members, record.dealer).account
    digest = record.digest(scope, members)
    _check_signed(rules, f"dealing of {record.dealer}", digest, record.signature, account)
    shape = (len(record.commitments), len(record.boxes))
    if shape != (members.quorum, members.size):
        raise BadDealingError(
            f"{shape[0]} commitments and {shape[1]} shares, expected {members.quorum} and {members.size}", shape=shape
        )

    def check() -> None:
        for point in record.commitments:
            BlsPublicKey(point)
        context = record.possession_context(scope, members, record.dealer)
        verify_possession(BlsPublicKey(record.commitments[0]), context, record.possession)

    rules.work.once(("epoch dealing", digest), check)


def _check_verdict(rules: ChangeRules, change: EpochChange, record: Verdict) -> None:
    members, scope, key = change.drawn(), rules.scope(change), record.key
    account = _member(members, record.member).account
    _check_signed(rules, f"verdict of {record.member}", record.digest(scope, members), record.signature, account)
    silent = [dealer for dealer in record.against if dealer not in change.dealings or dealer == record.member]
    if silent:
        raise BadVerdictError(f"complaint of {silent}, who dealt nothing or complain of themselves", silent=silent)
    if (key.validator, key.round) != (record.member, change.first_round(rules.plan)):
        raise BadVerdictError(f"sealing key of member {key.validator} for round {key.round} in another's verdict")
    check_first_key(rules.work, scope, members, key)


def check_first_key(work: Work, scope: Digest, members: EpochSet, key: Announcement) -> None:
    """Check that a first sealing key is its member's, and that one can seal to it.

    Raises:
        UnknownValidatorError, ForgedRecordError: no such member, or another signer.
        SealKeyError: a key to which every trainer would fail to seal.
    """
    account, digest = members.validator(key.validator).account, first_key_digest(scope, members, key)
    signer = work.once(("epoch signature", digest, key.signature), partial(recover_address, digest, key.signature))
    if signer != account:
        raise ForgedRecordError(f"first sealing key of {key.validator} is signed by {signer.hex()}", signer=signer)
    _check_sealable(work, key.seal_key)


def _check_answer(rules: ChangeRules, change: EpochChange, record: Answer) -> None:
    members, scope = change.drawn(), rules.scope(change)
    account = _member(members, record.dealer).account
    digest = record.digest(scope, members)
    _check_signed(rules, f"answer of {record.dealer}", digest, record.signature, account)
    answered, expected = tuple(member for member, _ in record.shares), change.complaints(record.dealer)
    if answered != expected or not expected:
        raise BadAnswerError(f"dealer {record.dealer} answers {answered}, {expected} complained", answered=answered)
    commitments = change.dealings[record.dealer].commitments

    def check() -> None:
        for member, share in record.shares:
            verify_share(commitments, SecretShare.from_bytes(member, share))

    rules.work.once(("epoch answer", digest), check)


def _member(members: EpochSet, index: int) -> Validator:
    if index >= members.size:
        raise NotMemberError(f"member {index}, the drawn set has {members.size}", index=index)
    return members.validator(index)


# ------------------------------------------------------------------------------------------------ whole payloads


def follow_payload(rules: ChangeRules, change: EpochChange, payload: bytes) -> EpochChange:
    """Return the state after a block's payload of any kind: a record, a header, or what does not concern a change.

    Consent that is taken back, and records of a round, do not concern it, whatever they say.

    Raises:
        MalformedEpochRecordError, MalformedPayloadError: no payload at all.
        CollegiumError: as `take_record` and `pass_round`.
    """
    if is_epoch_record(payload):
        return take_record(rules, change, decode_epoch_record(payload))
    if is_beside_rounds(payload):
        return change
    round_payload = decode_payload(payload)
    if not isinstance(round_payload, Certified):
        return change
    header = round_payload.header
    return pass_round(rules, change, header.round, sha256(header.beacon).digest())


def open_handover(epoch_set: EpochSet, handover: Handover, work: Work) -> NextEpoch:
    """Return what follows on `epoch_set`, after checking that the handover is well formed; not that it is agreed.

    Raises:
        WrongChangeError: to another epoch than the next.
        BadEpochSetError: no epoch set.
        BadDealingError: public shares or sealing keys of more or fewer members than there are.
        MalformedPointError, IdentityPointError: a key is no usable point.
        ForgedRecordError, UnknownValidatorError, SealKeyError: of a sealing key.
    """
    if handover.epoch != epoch_set.epoch + 1:
        raise WrongChangeError(f"handover to epoch {handover.epoch} by the set of epoch {epoch_set.epoch}")
    validators = tuple(
        Validator(ValidatorIndex(i), seat.bls_key, seat.account, seat.stake) for i, seat in enumerate(handover.seats)
    )
    members = EpochSet(epoch_set.task, handover.epoch, validators)
    for key in (handover.group_key, *(seat.bls_key for seat in handover.seats)):
        BlsPublicKey(key)
    if len(handover.public_shares) != members.size or len(handover.keys) < members.quorum:
        raise BadDealingError(
            f"{len(handover.public_shares)} public shares and {len(handover.keys)} sealing keys for {members.size} "
            f"members, expected all and {members.quorum} or more"
        )
    scope = change_scope(epoch_set, handover.epoch, handover.start)
    for announced in handover.keys:
        if announced.round != handover.first_round:
            raise BadDealingError(f"sealing key for round {announced.round}, expected {handover.first_round}")
        check_first_key(work, scope, members, announced)
    genesis = hash_fields("epoch-genesis", members.genesis(), handover.digest)
    group = BeaconGroup(members.quorum, handover.group_key, handover.public_shares)
    return NextEpoch(members, genesis, group, handover.first_round, handover.keys)


def due_payload(change: EpochChange) -> bytes | None:
    """Return the handover that a leader should put into its block now, if any."""
    due = handover_due(change)
    return None if due is None else encode_epoch_record(due)
