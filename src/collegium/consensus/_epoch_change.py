"""One validator's, or candidate's, part in an epoch change: a pure machine beside ordering and the round.

`change_step(context, state, event) -> (state, effects)` follows the order (`_epoch_change_rules`) and, when a window
opens, says what this member has to say in it, once. Whatever takes a secret is kept on disk before the record that
depends on it leaves, and a restart says the same words again: two dealings of one member would be two polynomials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from collegium.crypto import (
    SEED_BYTES,
    AccountKey,
    BlsSecretKey,
    Digest,
    Randomness,
    SealKey,
    SecretShare,
    Stream,
    combine_shares,
    deal,
    open_sealed,
    seal,
    verify_share,
)
from collegium.errors import CollegiumError

from ._epoch_change_records import (
    Answer,
    DealingRecord,
    EpochRecord,
    Handover,
    NextEpoch,
    TicketRecord,
    Verdict,
    decode_epoch_record,
    encode_epoch_record,
    first_key_digest,
    is_epoch_record,
    share_purpose,
)
from ._epoch_change_rules import (
    ChangeRules,
    EpochChange,
    Phase,
    begin_change,
    due_payload,
    follow_payload,
    open_handover,
)
from ._lottery import buy_ticket
from ._records import Announcement
from ._replace import replace

__all__ = [
    "ChangeContext",
    "ChangeEffect",
    "ChangePutOff",
    "ChangeState",
    "ChangeTick",
    "EpochRefused",
    "EpochSubmit",
    "ForgetEpochSecrets",
    "HandedOver",
    "KeepBeaconShare",
    "KeepEpochSecret",
    "OrderedPayload",
    "accepted_author",
    "change_step",
    "record_accepted",
    "record_wanted",
    "restore_change",
    "start_change",
]

# ------------------------------------------------------------------------------------------------ surroundings, events


@dataclass(frozen=True)
class ChangeContext:
    """What does not change during an epoch: the rules, and this member's keys.

    `first_round` is the epoch's, `first_value` that round's beacon value.
    """

    rules: ChangeRules
    first_round: int
    first_value: Digest
    account: AccountKey
    voting_key: BlsSecretKey
    random: Randomness

    def following(self, opened: NextEpoch, first_value: Digest) -> ChangeContext:
        """Return the surroundings of the change that ends the epoch which this one opens."""
        rules = replace(self.rules, epoch_set=opened.epoch_set)
        return replace(self, rules=rules, first_round=opened.first_round, first_value=first_value)

    @property
    def voting_bytes(self) -> bytes:
        """This member's voting key, by which candidates are known."""
        return bytes(self.voting_key.public_key())


@dataclass(frozen=True)
class OrderedPayload:
    """A block with this payload is final; given in the order of blocks, each once."""

    payload: bytes


@dataclass(frozen=True)
class ChangeTick:
    """Look again: the first event after a restart."""


# ------------------------------------------------------------------------------------------------ effects


@dataclass(frozen=True)
class KeepEpochSecret:
    """Must be on disk before the record that depends on it is submitted; mode 0600.

    Attributes:
        step: "ticket" (secret: the deal key), "dealing" (the seed of polynomial), "verdict" (the first sealing key).
        secret: 32 bytes.
        record: the very bytes to be ordered.
    """

    epoch: int
    start: int
    step: str
    secret: bytes = field(repr=False)
    record: bytes = field(repr=False)


@dataclass(frozen=True)
class KeepBeaconShare:
    """Must be on disk from now until its epoch ends: this member's share of the next beacon's key; mode 0600."""

    epoch: int
    member: int
    scalar: bytes = field(repr=False)


@dataclass(frozen=True)
class ForgetEpochSecrets:
    """Delete what `KeepEpochSecret` kept for this attempt: it failed, or its epoch has begun."""

    epoch: int
    start: int


@dataclass(frozen=True)
class EpochSubmit:
    """Have this payload ordered by the present epoch set."""

    payload: bytes


@dataclass(frozen=True)
class EpochRefused:
    """A final payload that this machine cannot follow, and why; cannot be while fewer than a third are bad."""

    reason: CollegiumError


@dataclass(frozen=True)
class ChangePutOff:
    """An attempt failed; the next one has begun, and this epoch goes on."""

    epoch: int
    start: int
    reason: str


@dataclass(frozen=True)
class HandedOver:
    """The handover is final: the next epoch begins with `opened.first_round`.

    Attributes:
        member: this validator's place in it; None if it has none.
        share: its share of the beacon's key; None without a place, or if a dealer cheated it while it was away.
        first_key: the secret of its sealing key for the first round; None if it announced none.
    """

    opened: NextEpoch
    member: int | None
    share: SecretShare | None
    first_key: SealKey | None


ChangeEffect = (
    KeepEpochSecret | KeepBeaconShare | ForgetEpochSecrets | EpochSubmit | EpochRefused | ChangePutOff | HandedOver
)
ChangeOutcome = tuple["ChangeState", tuple[ChangeEffect, ...]]


# ------------------------------------------------------------------------------------------------ state


@dataclass(frozen=True)
class ChangeState:
    """What the order says, and what this member has kept for the present attempt, by step."""

    change: EpochChange
    kept: Mapping[str, KeepEpochSecret] = field(default_factory=dict)


def start_change(context: ChangeContext) -> ChangeOutcome:
    """Return the machine at the beginning of an epoch, and what this member has to say there."""
    return _act(context, restore_change(context, (), ()))


def restore_change(context: ChangeContext, payloads: Iterable[bytes], kept: Iterable[KeepEpochSecret]) -> ChangeState:
    """Return the state after a crash; feed it a `ChangeTick` first.

    Args:
        context: as before the crash.
        payloads: of this epoch's final blocks, in their order.
        kept: what was written down and not forgotten.

    A payload that does not follow those before it is passed over, as it was when it became final (`EpochRefused`).
    """
    change = begin_change(context.rules.plan, context.first_round, context.first_value)
    for payload in payloads:
        with suppress(CollegiumError):
            change = follow_payload(context.rules, change, payload)
    present = (context.rules.epoch, change.start)
    return ChangeState(change, {k.step: k for k in kept if (k.epoch, k.start) == present})


# ------------------------------------------------------------------------------------------------ step


def change_step(context: ChangeContext, state: ChangeState, event: OrderedPayload | ChangeTick) -> ChangeOutcome:
    """Return the next state and, in the order in which they must be carried out, the effects of one event."""
    if isinstance(event, ChangeTick):
        state, said = _act(context, state)
        handover = state.change.handover
        return state, (*said, *(() if handover is None else _handed_over(context, state, handover)))
    before = state.change
    try:
        after = follow_payload(context.rules, before, event.payload)
    except CollegiumError as reason:
        return state, (EpochRefused(reason),)
    state = replace(state, change=after)
    if after.attempts != before.attempts:
        epoch = context.rules.epoch
        ended: tuple[ChangeEffect, ...] = (
            ForgetEpochSecrets(epoch, before.start),
            ChangePutOff(epoch, before.start, after.put_off),
        )
        state, said = _act(context, replace(state, kept={}))
        return state, (*ended, *said)
    if after.handover is not None and before.handover is None:
        return state, _handed_over(context, state, after.handover)
    if after.round != before.round:
        return _act(context, state)
    return state, ()


def _act(context: ChangeContext, state: ChangeState) -> ChangeOutcome:
    """Say what this member has to say in the present window, if it has not been ordered yet."""
    change = state.change
    match change.phase(context.rules.plan):
        case Phase.TICKETS if (
            (seed := change.seed) is not None
            and context.rules.candidate(context.voting_bytes) is not None
            and context.voting_bytes not in change.tickets
        ):
            return _say(context, state, "ticket", partial(_ticket, context, change, seed))
        case Phase.DEALINGS if (member := _place(context, change)) is not None and member not in change.dealings:
            return _say(context, state, "dealing", partial(_dealing, context, change, member))
        case Phase.VERDICTS if (
            (member := _place(context, change)) is not None
            and member not in change.verdicts
            and _has_ordered(context, state, "ticket")  # else its shares are sealed to a key that is lost
        ):
            return _say(context, state, "verdict", partial(_verdict, context, state, member))
        case Phase.ANSWERS if (
            (member := _place(context, change)) is not None
            and member not in change.answers
            and change.complaints(member)
            and _has_ordered(context, state, "dealing")
        ):
            return state, (EpochSubmit(encode_epoch_record(_answer(context, state, member))),)
        case Phase.OVER if change.handover is not None and state.kept:
            return replace(state, kept={}), (ForgetEpochSecrets(context.rules.epoch, change.start),)
    return state, ()


def _say(context: ChangeContext, state: ChangeState, step: str, make: Callable[[bytes], EpochRecord]) -> ChangeOutcome:
    """Submit this step's record; make it from a secret, and keep both, the first time."""
    kept = state.kept.get(step)
    if kept is not None:
        return state, (EpochSubmit(kept.record),)
    secret = context.random(SEED_BYTES)
    record = encode_epoch_record(make(secret))
    keep = KeepEpochSecret(context.rules.epoch, state.change.start, step, secret, record)
    return replace(state, kept={**state.kept, step: keep}), (keep, EpochSubmit(record))


def _has_ordered(context: ChangeContext, state: ChangeState, step: str) -> bool:
    """Tell whether the secret kept for a step is the ordered record's: a disk lost after the record left has another.

    Not the records are compared but what the secret makes: the same may be ordered under another signature.
    """
    kept, change = state.kept.get(step), state.change
    if kept is None:
        return False
    if step == "ticket":
        ticket = change.tickets.get(context.voting_bytes)
        return ticket is not None and ticket.deal_key == SealKey(kept.secret).public_bytes
    place = _place(context, change)
    if step == "verdict":
        keys = () if change.handover is None else change.handover.keys
        return any((key.validator, key.seal_key) == (place, SealKey(kept.secret).public_bytes) for key in keys)
    dealing, own = None if place is None else change.dealings.get(place), decode_epoch_record(kept.record)
    return dealing is not None and isinstance(own, DealingRecord) and dealing.commitments == own.commitments


def _place(context: ChangeContext, change: EpochChange) -> int | None:
    """Return this member's place in the drawn set, if there is one."""
    members = () if change.members is None else change.members.validators
    return next((int(v.index) for v in members if v.bls_key == context.voting_bytes), None)


# ------------------------------------------------------------------------------------------------ what is said


def _ticket(context: ChangeContext, change: EpochChange, seed: Digest, secret: bytes) -> EpochRecord:
    rules = context.rules
    ticket = buy_ticket(context.voting_key, rules.epoch_set.task, rules.epoch, seed)
    record = TicketRecord(rules.epoch, change.start, ticket.bls_key, ticket.proof, SealKey(secret).public_bytes)
    return replace(record, signature=context.account.sign(record.digest(rules.scope(change))))


def _dealing(context: ChangeContext, change: EpochChange, place: int, secret: bytes) -> EpochRecord:
    members, scope = change.drawn(), context.rules.scope(change)
    dealing = deal(Stream(secret), members.size, members.quorum)
    boxes = tuple(
        seal(change.deal_key(share.member), share_purpose(scope, members, place, share.member), share.to_bytes())
        for share in dealing.shares
    )
    possession = dealing.prove_possession(DealingRecord.possession_context(scope, members, place))
    record = DealingRecord(context.rules.epoch, change.start, place, dealing.commitments, possession, boxes)
    return replace(record, signature=context.account.sign(record.digest(scope, members)))


def _verdict(context: ChangeContext, state: ChangeState, place: int, secret: bytes) -> EpochRecord:
    change = state.change
    members, scope = change.drawn(), context.rules.scope(change)
    fits = {dealer: _open_share(context, state, place, dealer) is not None for dealer in sorted(change.dealings)}
    against = tuple(dealer for dealer, fit in fits.items() if not fit and dealer != place)
    key = Announcement(place, change.first_round(context.rules.plan), SealKey(secret).public_bytes, b"")
    key = replace(key, signature=context.account.sign(first_key_digest(scope, members, key)))
    record = Verdict(context.rules.epoch, change.start, place, against, key)
    return replace(record, signature=context.account.sign(record.digest(scope, members)))


def _answer(context: ChangeContext, state: ChangeState, place: int) -> EpochRecord:
    """Return the published shares: each complainant is bad and knows its share, or this dealer is."""
    change = state.change
    members, scope = change.drawn(), context.rules.scope(change)
    dealing = deal(Stream(state.kept["dealing"].secret), members.size, members.quorum)
    shares = tuple((member, dealing.shares[member].to_bytes()) for member in change.complaints(place))
    record = Answer(context.rules.epoch, change.start, place, shares)
    return replace(record, signature=context.account.sign(record.digest(scope, members)))


# ------------------------------------------------------------------------------------------------ what is received


def _open_share(context: ChangeContext, state: ChangeState, place: int, dealer: int) -> SecretShare | None:
    """Return this member's share of a dealing: published in an answer, or sealed to it; None unless it fits."""
    change = state.change
    dealing, answer = change.dealings[dealer], change.answers.get(dealer)
    published = {} if answer is None else dict(answer.shares)
    if place in published:
        return SecretShare.from_bytes(place, published[place])  # verified before it was ordered
    try:
        purpose = share_purpose(context.rules.scope(change), change.drawn(), dealer, place)
        opened = open_sealed(SealKey(state.kept["ticket"].secret), purpose, dealing.boxes[place])
        share = SecretShare.from_bytes(place, opened)
        verify_share(dealing.commitments, share)
    except CollegiumError:
        return None
    return share


def _handed_over(context: ChangeContext, state: ChangeState, handover: Handover) -> tuple[ChangeEffect, ...]:
    """The handover is final: write the share of the beacon's key down, and tell what comes next."""
    change, rules = state.change, context.rules
    opened = open_handover(rules.epoch_set, handover, rules.work)
    place, share, first_key = _place(context, change), None, None
    if place is not None and "ticket" in state.kept:
        shares = [_open_share(context, state, place, dealer) for dealer in handover.dealers]
        good = [part for part in shares if part is not None]
        share = combine_shares(good) if len(good) == len(shares) else None
    if place is not None and _has_ordered(context, state, "verdict"):
        first_key = SealKey(state.kept["verdict"].secret)
    keep = () if share is None else (KeepBeaconShare(rules.epoch, share.member, share.to_bytes()),)
    return (*keep, HandedOver(opened, place, share, first_key))


# ------------------------------------------------------------------------------------------------ for ordering


def record_accepted(rules: ChangeRules, change: EpochChange, ancestors: Iterable[bytes], payload: bytes) -> bool:
    """Tell whether a block may order this record after `ancestors`, payloads that are not final yet; never raises."""
    try:
        for ancestor in ancestors:
            change = follow_payload(rules, change, ancestor)
        follow_payload(rules, change, payload)
    except CollegiumError:
        return False
    return True


def accepted_author(rules: ChangeRules, change: EpochChange, payload: bytes) -> bytes | None:
    """Return whose account signed a record that a block may order now; None for any other payload. Never raises."""
    if not is_epoch_record(payload) or not record_accepted(rules, change, (), payload):
        return None
    match decode_epoch_record(payload):
        case TicketRecord(bls_key=key):
            candidate = rules.candidate(key)
            return None if candidate is None else candidate.account
        case DealingRecord(dealer=member) | Answer(dealer=member) | Verdict(member=member):
            return change.drawn().validator(member).account
        case Handover():
            return None


def record_wanted(rules: ChangeRules, change: EpochChange, ancestors: Iterable[bytes]) -> bytes | None:
    """Return the handover that must be ordered now, before anything else; None if there is none.

    While this returns one, no close is acceptable: so no leader can let an epoch run past its handover.
    """
    try:
        for ancestor in ancestors:
            change = follow_payload(rules, change, ancestor)
    except CollegiumError:
        return None
    return due_payload(change)
