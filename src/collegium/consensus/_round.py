"""One validator's part in a learning round, as a pure state machine beside the ordering one.

A round reads from top to bottom: admit (receipts), close (ordered by the epoch set), release (once, written down
first), open (anyone), certify (the committee), finish (ordered by the epoch set). Specified in docs/spec/round.md; what
each message must satisfy stands in `_round_rules`, and what a close in `_close_rules`.

Nothing here waits, draws randomness or keeps time: `round_step(context, state, message, now)` returns the next state
and effects, and never raises on what others send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from collegium import aggregation
from collegium.aggregation import KeySum, Report, RoundTerms, SeatTerms, Upload
from collegium.crypto import Digest, SealKey
from collegium.errors import CollegiumError

from ._close_rules import (
    CloseRefusedError,
    awaited_trainers,
    check_final,
    check_held,
    check_keys,
    close_for,
    enough_since,
    has_enough,
    is_complete,
    is_unanimous,
    leaves_out,
    may_be_fewer,
    registers,
)
from ._epoch import EpochSet
from ._epoch_change_records import NextEpoch
from ._order_state import EvidenceFound
from ._pay import check_paid, paid_by, rewards_of
from ._proof_evidence import DoubleReport, FailingProof, FalseReceipt, FalseReject, Held, ProofReject, sign_reject
from ._proving import (
    ProofRefusedError,
    check_proof,
    check_reject,
    failed_proofs,
    is_proved,
    must_verify,
    overdue_proofs,
)
from ._records import Announcement, Certified, Close, Header, Outcome, Registered, decode_payload, encode_payload
from ._replace import replace
from ._round_rules import (
    NotInCohortError,
    NotSenderError,
    ProposalRefusedError,
    RepeatedReportError,
    WrongRoundError,
    add_close,
    add_early,
    check_certified,
    check_early,
    check_length,
    check_proposal,
    check_proposer,
    check_quota,
    check_release,
    check_signer,
    check_speaker,
    combine_beacon,
    held_of,
    open_close,
    paid_in,
    total_digest,
    verify_announcement,
    verify_receipt,
)
from ._round_sync import ask_objects, check_object, give_objects, is_here, later, lost, wanted
from ._round_types import (
    Admitted,
    Agreed,
    EpochOver,
    HeaderProposal,
    HeaderVote,
    KeepObject,
    KeepSecret,
    KeepUpload,
    ObjectReply,
    ObjectRequest,
    Outcomes,
    PeerJoined,
    Refused,
    Release,
    ReleaseRecord,
    ReportReply,
    ReportRequest,
    RoundAlarm,
    RoundBroadcast,
    RoundContext,
    RoundEffect,
    RoundFinished,
    RoundMessage,
    RoundPassed,
    RoundSend,
    RoundState,
    RoundSubmit,
    RoundTimer,
    SeatReceipt,
    sign_proposal,
    sign_release,
)
from ._seats import add_votes, assign_seats

__all__ = [
    "announcement_for",
    "begin",
    "begin_behind",
    "decoded_payload",
    "finish",
    "next_payload",
    "payload_accepted",
    "release",
    "round_of",
    "round_step",
    "terms_after",
]

ASKED_AT_ONCE = 2  # validators asked for a missing report before waiting for an answer
NO_SHARE = bytes([0xC0, *bytes(47)])  # the neutral point, which no share makes
JOINS_MAX = 16  # times in a round that a validator is answered anew because it has joined again
FAILURES_MAX = 2  # proposals of one validator that did not hold, before no more of them are checked

# ------------------------------------------------------------------------------------------------ begin


def terms_after(agreed: Agreed, epoch_set: EpochSet, header: Header) -> RoundTerms:
    """Return the terms that a final header fixes for the round after it."""
    keys = {a.validator: a.seal_key for a in header.announcements}
    seats = tuple(SeatTerms(epoch_set.validators[v].account, keys.get(v)) for v in header.seats)
    number = header.round + 1
    return RoundTerms(
        task=header.task,
        round=number,
        previous=header.digest,
        model=header.model,
        beacon=sha256(header.beacon).digest(),
        seats=seats,
        layout=agreed.layout(number),
    )


def begin(
    context: RoundContext,
    terms: RoundTerms,
    model: bytes,
    secrets: Mapping[int, SealKey],
    now: int,
    opened: NextEpoch | None = None,
) -> Outcomes:
    """Enter a round: make the next round's sealing key, unless `secrets` has it already, and announce it.

    `opened`: what follows on this round, if that is final already.
    """
    entered = RoundState(terms, model, now, _due(secrets, terms), changed_ms=now, opened=opened)
    state, announced = _announce(context, entered)
    return state, (*announced, *_alarms(context, state))


def begin_behind(
    context: RoundContext,
    terms: RoundTerms,
    secrets: Mapping[int, SealKey],
    now: int,
    opened: NextEpoch | None = None,
) -> Outcomes:
    """Enter a round without the model that its terms name: ask for it, unless the next round is final before that."""
    state = RoundState(terms, b"", now, _due(secrets, terms), changed_ms=now, lacks_model=True, opened=opened)
    return later(state, now + context.timing.grace_ms)


def _due(secrets: Mapping[int, SealKey], terms: RoundTerms) -> dict[int, SealKey]:
    """Return the secrets of this round and later ones."""
    return {number: key for number, key in secrets.items() if number >= terms.round}


def _alarms(context: RoundContext, state: RoundState) -> tuple[RoundTimer, ...]:
    """Return when to look again though nothing has come: at the deadline, and where no record is awaited any more."""
    timing = context.timing
    waits = (timing.deadline_ms,) if context.quality is None else (timing.records_ms, timing.deadline_ms)
    return tuple(RoundTimer(RoundAlarm(state.terms.round), state.began_ms + wait) for wait in waits)


def _announce(context: RoundContext, state: RoundState) -> Outcomes:
    """Announce the next round's sealing key, the same one ever after; none once the handover has fixed that round's."""
    if state.opened is not None:
        return state, ()
    secrets, kept, announcement = announcement_for(context, state.terms.task, state.terms.round + 1, state.secrets)
    return replace(state, secrets=secrets, announced=True), (*kept, RoundBroadcast(announcement))


def announcement_for(
    context: RoundContext, task: Digest, number: int, secrets: Mapping[int, SealKey]
) -> tuple[Mapping[int, SealKey], tuple[KeepSecret, ...], Announcement]:
    """Return the secrets with the one for this round, made and kept unless it is there, and its key, announced."""
    secret, kept = secrets.get(number), tuple[KeepSecret, ...]()
    if secret is None:
        secret = SealKey.generate(context.random)
        secrets, kept = {**secrets, number: secret}, (KeepSecret(number, secret),)
    unsigned = Announcement(context.index, number, secret.public_bytes, b"")
    return secrets, kept, replace(unsigned, signature=context.account.sign(unsigned.digest(task)))


# ------------------------------------------------------------------------------------------------ step


def round_step(
    context: RoundContext,
    state: RoundState,
    message: RoundMessage | RoundAlarm | PeerJoined,
    now: int,
    sender: int | None = None,
) -> Outcomes:
    """Handle one message of the round; what is hostile, late or repeated changes nothing and is `Refused` by name.

    Args:
        sender: the validator that the transport authenticated; None for a trainer's gateway.
    """
    try:
        match message:
            case RoundAlarm():
                return (state, ()) if state.over else _look_again(context, state, now)
            case PeerJoined():
                return _forget_answers(state, message.index), ()
            case _:
                _check_sender(message, sender)
                return _receive(context, state, message, now, sender)
    except CollegiumError as error:
        return state, (Refused(state.terms.round, type(message).__name__, error),)


def _receive(context: RoundContext, state: RoundState, message: RoundMessage, now: int, sender: int | None) -> Outcomes:
    """Handle a message of this round, keep one that cannot be judged yet; objects belong to no round."""
    if isinstance(message, ObjectRequest):
        return give_objects(context, state, message)
    if state.over and not isinstance(message, ReportRequest):
        raise WrongRoundError(f"{type(message).__name__}: the epoch ended with round {state.terms.round}")
    if isinstance(message, ObjectReply):
        return _take_object(context, state, message, now, sender)
    number = round_of(message)
    if number not in (state.terms.round, state.terms.round + 1):
        raise WrongRoundError(f"{type(message).__name__} of round {number}, this is {state.terms.round}")
    if number > state.terms.round or (state.lacks_model and not isinstance(message, Announcement)):
        return _keep(context, state, message, sender)
    return _handle(context, state, message, now, sender)


def _handle(context: RoundContext, state: RoundState, message: RoundMessage, now: int, sender: int | None) -> Outcomes:
    match message:
        case Upload():
            outcome = _admit(context, state, message, now)
        case SeatReceipt():
            outcome = _take_receipt(context, state, message, now)
        case ProofReject():
            outcome = _take_reject(context, state, message, now)
        case Announcement():
            outcome = _take_announcement(context, state, message, now)
        case Release():
            outcome = _take_release(context, state, message, now)
        case HeaderProposal():
            outcome = _take_proposal(context, state, message, now, sender)
        case HeaderVote():
            outcome = _take_vote(context, state, message)
        case ReportRequest():
            outcome = _answer(context, state, message)
        case ReportReply():
            outcome = _take_reply(context, state, message, now)
    return outcome


def round_of(message: RoundMessage) -> int:
    """Return the round that a message belongs to; an object belongs to none, which is -1."""
    match message:
        case ObjectRequest() | ObjectReply():
            return -1
        case Upload():
            return message.report.round
        case Announcement():
            return message.round - 1
        case HeaderProposal():
            return message.header.round
        case _:
            return message.round


def _check_sender(message: RoundMessage, sender: int | None) -> None:
    """Refuse a message in which one validator speaks for another."""
    match message:
        case Announcement() | Release() | HeaderVote() | ReportRequest() | ProofReject() | ObjectRequest():
            check_speaker(message, message.validator, sender)
        case HeaderProposal():
            check_speaker(message, message.proposer, sender)


def _forget_answers(state: RoundState, validator: int) -> RoundState:
    """Answer a validator again that has come back: what it was given may be lost; so often in a round and no more."""
    joins = state.joins.get(validator, 0) + 1
    if joins > JOINS_MAX:
        return state
    return replace(
        state,
        joins={**state.joins, validator: joins},
        answered=frozenset(answer for answer in state.answered if answer[0] != validator),
        unknown=frozenset(asked for asked in state.unknown if asked[0] != validator),
    )


def _keep(context: RoundContext, state: RoundState, message: RoundMessage, sender: int | None) -> Outcomes:
    """Keep a message for later, and no more from a validator than an honest one sends."""
    if isinstance(message, Upload):
        return _keep_upload(context, state, message, sender)
    if not isinstance(message, SeatReceipt | ProofReject | Announcement | Release | HeaderProposal):
        raise WrongRoundError(f"{type(message).__name__} of a round that has not begun here: nobody needs it yet")
    if isinstance(message, HeaderProposal):
        check_proposer(context, message)
    if isinstance(message, SeatReceipt):
        check_length(context, message.receipt)
    return _wait(context, state, message, sender), ()


def _keep_upload(context: RoundContext, state: RoundState, upload: Upload, sender: int | None) -> Outcomes:
    """Keep one report a trainer and round for later, with all boxes and the registration that any copy of it has."""
    check_early(context, upload)
    ahead, kept, keep = add_early(state.ahead, state.kept, upload, sender)
    return replace(state, ahead=ahead, kept=kept), keep


def _wait(context: RoundContext, state: RoundState, message: RoundMessage, sender: int | None) -> RoundState:
    """Keep a message that cannot be judged yet, within its sender's quota; of what is said once the first.

    A seat's receipt takes the place of the one before it, which it repeats.
    """
    ahead, said = list(state.ahead), _said(message)
    for place, (origin, known) in enumerate(ahead):
        if origin == sender and _said(known) == said:
            if not isinstance(known, SeatReceipt) or not isinstance(message, SeatReceipt):
                return state
            if not message.receipt.names > known.receipt.names:
                return state
            del ahead[place]
            break
    check_quota(context, [kept for origin, kept in ahead if origin == sender], message, round_of(message), sender)
    return replace(state, ahead=(*ahead, (sender, message)))


def _said(message: RoundMessage) -> tuple[object, ...]:
    """Return what an honest validator says once of: round, kind, and seat or speaker."""
    number, kind = round_of(message), type(message)
    match message:
        case SeatReceipt():
            return number, kind, message.receipt.seat
        case ProofReject():
            return number, kind, message.validator, message.report
        case HeaderProposal():
            return number, kind, message.proposer
        case Announcement() | Release():
            return number, kind, message.validator
        case _:
            return number, kind, id(message)


def _replay(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Look again at the messages that could not be judged."""
    waiting, state = state.ahead, replace(state, ahead=())
    effects: list[RoundEffect] = []
    for sender, message in waiting:
        state, more = round_step(context, state, message, now, sender)
        effects.extend(more)
    return state, tuple(effects)


def _look_again(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """The clock has moved on: verify what nobody vouched for in time, ask for what is missing, look at early proposals.

    Then propose, if it is our turn.
    """
    state, synced = ask_objects(context, state, now)
    if state.lacks_model:
        state, announced = (state, ()) if state.announced else _announce(context, state)
        return state, (*synced, *announced)
    state = _add_ahead(context, state)
    state, said = _say_overdue(context, state, now)
    state, verified = _verify_overdue(context, state, now)
    state, asked = _ask(context, state, now)
    state, early = _ask_early_again(context, state, now)
    state, replayed = _replay(context, state, now) if state.close is not None else (state, ())
    state, proposed = _open(context, state, now)
    state, look = _look_is_over(context, state, now)
    return state, (*synced, *said, *verified, *asked, *early, *replayed, *proposed, *look)


# ------------------------------------------------------------------------------------------------ admit


def _admit(context: RoundContext, state: RoundState, upload: Upload, now: int) -> Outcomes:
    """Check a report in public and, where it falls to this validator, its proof, then each own seat's columns.

    Sign receipts for what is here when that is everything, else a moment later: one signature for many reports.
    """
    report, own = upload.report, state.own_seats(context)
    if report.trainer not in context.cohort:
        raise NotInCohortError(f"trainer {report.trainer.hex()} is not registered for this task")
    if not upload.registration and report.registration in wanted(state):
        return _keep(context, state, upload, None)
    if len(upload.boxes) != len(state.terms.seats):
        raise aggregation.ReportRejectedError(f"{len(upload.boxes)} boxes for {len(state.terms.seats)} seats")
    boxes = {seat: upload.boxes[seat] for seat in own}
    known = state.reports.get(report.trainer)
    if known is not None and known.report.id != report.id:
        check_signer(context.work, report)
        return state, _repeated(known.report, report)
    held, since = held_of(context, state, upload, boxes), enough_since(context, state)
    state = replace(state, reports={**state.reports, report.trainer: held})
    copy = sum((report.id, seat) in state.columns for seat in own)
    state, examined = _examine(context, state, held, now)
    state, opened = _open_columns(state, report, boxes)
    issued, verified = any(isinstance(effect, Admitted) for effect in opened), report.id in state.verified
    if known is None or issued:  # a copy that brings nothing is no reason to wait
        state = replace(state, changed_ms=now)
    keep: tuple[RoundEffect, ...] = ()
    if (known is None and report.id not in state.kept) or (issued and (known is not None or verified)):
        own_boxes = tuple(boxes.get(seat) for seat in range(len(upload.boxes)))
        keep = (KeepUpload(report.round, copy, replace(upload, boxes=own_boxes), verified),)
    state, said = _say_receipts_soon(context, state, now, reached=since is None)
    state, look = _look_when_complete(context, state, now)
    return state, (*keep, *examined, *opened, *said, *look)


def _repeated(first: Report, second: Report) -> tuple[RoundEffect, ...]:
    """Return that a second report is refused, and what convicts its trainer of both, which are signed."""
    names = f"{first.id.hex()} and {second.id.hex()}"
    error = RepeatedReportError(f"trainer {second.trainer.hex()} signed {names}")
    refused = Refused(second.round, "Upload", error)
    same = (first.task, first.terms) == (second.task, second.terms)
    return (refused, EvidenceFound(DoubleReport(first, second))) if same else (refused,)


def _open_columns(state: RoundState, report: Report, boxes: Mapping[int, bytes | None]) -> Outcomes:
    """Open and check the columns of each own seat that has none yet; keep those that fit."""
    effects: list[RoundEffect] = []
    secret = state.secrets.get(report.round)
    if report.id in state.rejected or secret is None:
        return state, ()
    for seat, box in boxes.items():
        if (report.id, seat) in state.columns:
            continue
        try:
            opened = aggregation.open_columns(state.terms, report, seat, box, secret)
            aggregation.check_columns(state.terms, report, seat, opened)
        except CollegiumError as error:
            effects.append(Refused(report.round, f"columns of {report.trainer.hex()}", error))
            continue
        state = replace(state, columns={**state.columns, (report.id, seat): opened})
        effects.append(Admitted(report.round, report.id))
    return state, tuple(effects)


def _say_receipts_soon(context: RoundContext, state: RoundState, now: int, *, reached: bool) -> Outcomes:
    """Sign receipts now if all reports are here that may come, or just enough of them, else when more may have come."""
    reached = reached and enough_since(context, state) is not None
    if reached or awaited_trainers(context, state) <= state.reports.keys():
        return _say_receipts(context, state)
    if state.say_ms is not None or len(state.columns) == sum(len(receipt.reports) for receipt in state.said.values()):
        return state, ()
    at_ms = now + context.timing.receipts_ms
    return replace(state, say_ms=at_ms), (RoundTimer(RoundAlarm(state.terms.round), at_ms),)


def _say_receipts(context: RoundContext, state: RoundState) -> Outcomes:
    """Sign one receipt for each own seat that has opened columns since its last one."""
    opened: dict[int, list[Digest]] = {}
    for report, seat in state.columns:
        opened.setdefault(seat, []).append(report)
    effects: list[RoundEffect] = []
    for seat, reports in opened.items():
        known = state.said.get(seat)
        if known is not None and len(known.reports) == len(reports):
            continue
        verified = state.verified.intersection(reports)
        receipt = aggregation.issue_receipt(state.terms, seat, reports, context.account, verified)
        state = replace(state, said={**state.said, seat: receipt})
        effects.append(RoundBroadcast(SeatReceipt(state.terms.round, receipt)))
    return replace(state, say_ms=None), tuple(effects)


def _say_overdue(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Sign the receipts that have waited for company long enough."""
    return (state, ()) if state.say_ms is None or now < state.say_ms else _say_receipts(context, state)


def _look_when_complete(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Look again at once if the round can be closed and nobody is worth waiting for, else after the grace.

    One look at a time: what comes before it may move the next one.
    """
    if state.close is not None or (state.look_ms is not None and state.look_ms <= now):
        return state, ()
    if not is_complete(context, state):
        late = now >= state.began_ms + context.timing.deadline_ms
        if not late and not has_enough(context, state, now):
            return state, ()
        at_ms = now + context.timing.grace_ms  # what has just come may be what was lacking
    else:
        at_ms = now if is_unanimous(state) else state.changed_ms + context.timing.grace_ms
    if state.look_ms is not None and state.look_ms <= at_ms:
        return state, ()
    return replace(state, look_ms=at_ms), (RoundTimer(RoundAlarm(state.terms.round), at_ms),)


def _look_is_over(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Look once more if something has come since this look was asked for."""
    if state.look_ms is None or now < state.look_ms:
        return state, ()
    state = replace(state, look_ms=None)
    if now >= state.changed_ms + context.timing.grace_ms:
        return state, ()
    return _look_when_complete(context, state, now) if not is_unanimous(state) else (state, ())


def _examine(context: RoundContext, state: RoundState, held: Held, now: int) -> Outcomes:
    """Keep a report's registration, and verify its proof if that falls to this validator at once, else if need be."""
    report = held.report
    if held.registration:
        state = replace(state, registrations={**state.registrations, report.registration: held.registration})
    if report.id in state.arrived:
        return state, ()
    before, state = enough_since(context, state), replace(state, arrived={**state.arrived, report.id: now})
    alarm, soon = RoundAlarm(report.round), tuple[RoundEffect, ...]()
    if before is None and enough_since(context, state) is not None and may_be_fewer(context, state):
        soon = (RoundTimer(alarm, now + context.timing.straggler_ms),)
    if not held.proof:
        return state, soon
    if must_verify(context, state, report):
        state, verified = _verify(context, state, held, now)
        return state, (*soon, *verified)
    return state, (*soon, RoundTimer(alarm, now + context.timing.verify_ms))


def _verify(context: RoundContext, state: RoundState, held: Held, now: int) -> Outcomes:
    """Verify a proof, once; reject the report in public if it fails, and name whoever is shown to have lied."""
    report = held.report
    if report.id in state.verified or report.id in state.rejected:
        return state, ()
    state = replace(state, changed_ms=now)
    look = RoundTimer(RoundAlarm(report.round), now + context.timing.grace_ms)
    try:
        vetted = report.registration in state.vetted
        check_proof(context.work, context.agreed, state.terms, state.model, held, vetted)
    except CollegiumError as error:
        refused = Refused(report.round, f"proof of {report.trainer.hex()}", error)
        effects: list[RoundEffect] = [look, refused, EvidenceFound(FailingProof(held))]
        false = [receipt for receipt in state.receipts.values() if report.id in receipt.verified]
        effects += [EvidenceFound(FalseReceipt(held, receipt)) for receipt in false]
        if not state.rejects.get(report.id):
            reject = ProofReject(report.round, report.id, context.index)
            effects.append(RoundBroadcast(sign_reject(reject, state.terms.task, context.account)))
        return replace(state, rejected=state.rejected | {report.id}), tuple(effects)
    known = state.vetted | ({report.registration} if held.registration else set())
    state = replace(state, verified=state.verified | {report.id}, vetted=known)
    rejects = state.rejects.get(report.id, {}).values()
    return state, (look, *(EvidenceFound(FalseReject(held, reject)) for reject in rejects))


def _verify_overdue(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Verify the proofs that the chosen validators have not vouched for in time."""
    effects: list[RoundEffect] = []
    for held in overdue_proofs(context, state, now):
        state, more = _verify(context, state, held, now)
        effects.extend(more)
    return state, tuple(effects)


def _take_reject(context: RoundContext, state: RoundState, message: ProofReject, now: int) -> Outcomes:
    """Verify a report that a validator rejects: either its trainer or that validator has lied."""
    if not context.agreed.proof_bytes_max(message.round):
        raise ProofRefusedError(f"reject of a proof at level {context.agreed.level}, where there are none")
    known = state.rejects.get(message.report, {})
    if message.validator in known:
        return state, ()
    check_reject(context.work, context.epoch_set, state.terms.task, message)
    if sum(message.validator in by for by in state.rejects.values()) >= len(context.cohort):
        raise NotSenderError(f"validator {message.validator} rejects more reports than there are trainers")
    state = replace(state, rejects={**state.rejects, message.report: {**known, message.validator: message}})
    held = state.held().get(message.report)
    if held is None:
        return state, ()
    if message.report in state.verified:
        return state, (EvidenceFound(FalseReject(held, message)),)
    return _verify(context, state, held, now)


def _take_receipt(context: RoundContext, state: RoundState, message: SeatReceipt, now: int) -> Outcomes:
    """Take a seat's receipt if it names more than its last one did; what it names may still be on its way."""
    receipt = message.receipt
    known = state.receipts.get(receipt.seat)
    if known is not None and (known.names == receipt.names or not known.names <= receipt.names):
        return state, ()
    check_length(context, receipt)
    verify_receipt(context.work, state.terms, receipt)
    state = replace(state, receipts={**state.receipts, receipt.seat: receipt}, changed_ms=now)
    held, effects = state.held(), list[RoundEffect]()
    fresh = receipt.names if known is None else receipt.names - known.names
    for report in sorted(state.rejected.intersection(fresh, receipt.verified)):
        effects.append(EvidenceFound(FalseReceipt(held[report], receipt)))
    state, asked = _ask_early(context, state, fresh - held.keys(), now)
    state, look = _look_when_complete(context, state, now)
    return state, (*effects, *asked, *look)


def _take_announcement(context: RoundContext, state: RoundState, message: Announcement, now: int) -> Outcomes:
    if message.validator in state.announcements:
        return state, ()
    verify_announcement(context.work, state.terms.task, context.epoch_set, message)
    announcements = {**state.announcements, message.validator: message}
    state = replace(state, announcements=announcements, announced_ms=(*state.announced_ms, now))
    if len(announcements) != context.epoch_set.quorum:
        return state, ()
    return state, (RoundTimer(RoundAlarm(state.terms.round), now),)  # a close may have waited for the last of them


# ------------------------------------------------------------------------------------------------ close


def next_payload(context: RoundContext, state: RoundState, ancestors: tuple[bytes, ...], now: int) -> bytes | None:
    """Return the close that a leader should put into its block now, if any; certified headers are submitted."""
    if ancestors or state.close is not None or state.over or len(state.announcements) < context.epoch_set.quorum:
        return None
    close = close_for(context, state, now)
    return None if close is None else encode_payload(close)


def payload_accepted(
    context: RoundContext, state: RoundState, ancestors: tuple[bytes, ...], payload: bytes, now: int
) -> bool:
    """Tell whether a block with this payload deserves a vote; empty blocks always do."""
    if not payload or state.over:
        return not payload
    try:
        *before, wished = (decoded_payload(context, data) for data in (*ancestors, payload) if data)
        return _accepted(context, state, before, wished, now)
    except CollegiumError:
        return False


def decoded_payload(context: RoundContext, payload: bytes) -> Close | Certified:
    """Return a payload decoded, once for all who ask: what waits to be proposed is looked at in every step."""

    def decode() -> Close | Certified:
        decoded = decode_payload(payload)
        if isinstance(decoded, Close):  # what it derives from its fields is kept with it: whoever shares it pays for it
            for receipt in decoded.signed:
                _ = receipt.names, decoded.digest
        return decoded

    return context.work.once(("payload", payload), decode)


def _accepted(
    context: RoundContext, state: RoundState, ancestors: list[Close | Certified], payload: Close | Certified, now: int
) -> bool:
    if isinstance(payload, Close):
        return state.close is None and not ancestors and _close_accepted(context, state, payload, now)
    closes = [state.close] if state.close is not None else []
    for ancestor in ancestors:  # at most the close that is final but not applied here yet
        if not isinstance(ancestor, Close):
            return False
        closes.append(ancestor)
    if [close.digest for close in closes] != [payload.header.close]:
        return False
    check_certified(context.work, context.epoch_set, state.terms, payload)
    check_paid(context.pay, payload.header)
    return True


def _close_accepted(context: RoundContext, state: RoundState, close: Close, now: int) -> bool:
    """Tell whether a close keeps the rules, registers what it must, admits only proved reports, and leaves none out."""
    check_held(context, state, close)
    check_keys(context, state, close, now)
    held = state.held()
    proved = all(is_proved(context, state, held[report].report, close) for report in close.reports)
    registered = close.registered == registers(context.agreed, state, close.reports)
    return proved and registered and leaves_out(context, state, close, now) is None


def _add_ahead(context: RoundContext, state: RoundState) -> RoundState:
    """Add up what a close admits that was voted for here, while others vote: so much less to do once it is final."""
    if not state.likely:
        return state
    close, state = decoded_payload(context, state.likely), replace(state, likely=b"")
    if isinstance(close, Close) and close.reports and state.close is None and state.held().keys() >= set(close.reports):
        add_close(context.work, state, close)
    return state


# ------------------------------------------------------------------------------------------------ release


def release(
    context: RoundContext,
    state: RoundState,
    close: Close,
    proposer: int,
    now: int,
    over: bool = False,
    records: tuple[bytes, ...] = (),
) -> Outcomes:
    """The close is final: add the own columns and give the sums out, once, after writing down for which close.

    A validator that lacks a column of an admitted report releases its beacon share alone, and asks for reports that
    it lacks; nothing, if its header is final too (`over`). Whoever proposed the close proposes the header; should it
    fall silent, the others take turns after it. A validator that could not follow the round before goes on without it.
    `records`: those of this round that became final before the close, in their order.
    """
    if state.final is not None and close.round == state.terms.round + 1:
        state, passed = _enter_next(context, state, state.final.header, None, now)
        state, released = release(context, state, close, proposer, now, over, records)
        return state, (*passed, *released)
    if close.round != state.terms.round or state.released.get(close.round, close.digest) != close.digest:
        reason = CloseRefusedError(f"close of round {close.round}: not the present round, or another close's")
        return state, (Refused(state.terms.round, "close", reason),)
    state = replace(
        state,
        close=close,
        closed_ms=now,
        proposer=proposer,
        records=records,
        released={close.round: close.digest},
    )
    key_sums = []
    for seat in state.own_seats(context) if close.reports else ():
        columns = [state.columns[report, seat] for report in close.reports if (report, seat) in state.columns]
        if len(columns) == len(close.reports):
            rows = aggregation.add_columns(columns, close.weights, context.cohort_min)
            key_sums.append(aggregation.sign_key_sum(state.terms, close.digest, seat, rows, context.account))
    if over and not key_sums:
        return state, ()
    share = _beacon_share(context, close.round + 1)
    unsigned = Release(close.round, context.index, close.digest, tuple(key_sums), share)
    message = sign_release(unsigned, state.terms.task, context.account)
    turn_ms = _turn_ms(context, state, context.index, 0)
    alarms = sorted({turn_ms, now + context.timing.release_ms, max(turn_ms, now + context.timing.release_ms)})
    timers = tuple(RoundTimer(RoundAlarm(close.round), at) for at in alarms)
    said: tuple[RoundEffect, ...] = (ReleaseRecord(close.round, close.digest), RoundBroadcast(message), *timers)
    if state.lacks_model:
        return state, said
    state, asked = _ask(context, state, now)
    state, replayed = _replay(context, state, now)
    return state, (*said, *asked, *replayed)


def _beacon_share(context: RoundContext, number: int) -> bytes:
    """Return this validator's part of a beacon value; one that counts for nothing if it was cheated of its share."""
    return NO_SHARE if context.beacon.share is None else context.beacon.partial(context.epoch, number)


def _place(context: RoundContext, state: RoundState, validator: int) -> int:
    """Return whose turn it is: 0 for the close's proposer, 1 for the next validator, and so on around."""
    return (validator - state.proposer) % len(context.epoch_set.validators)


def _turn_ms(context: RoundContext, state: RoundState, validator: int, lap: int) -> int:
    """Return when it is a validator's turn to propose the header, in this lap around all of them."""
    turns = _place(context, state, validator) + lap * len(context.epoch_set.validators)
    return state.closed_ms + turns * context.timing.turn_ms


def _take_release(context: RoundContext, state: RoundState, message: Release, now: int) -> Outcomes:
    if message.validator in state.releases:
        return state, ()
    check_release(context, state.terms, message)
    state = replace(state, releases={**state.releases, message.validator: message})
    return finish(context, state, state.final, now) if state.final is not None else _open(context, state, now)


def _ask(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Ask some validators of the close's seats for admitted reports that are not here, others each time."""
    missing = state.missing()
    if not missing or state.close is None:
        return state, ()
    again = RoundTimer(RoundAlarm(state.terms.round), now + context.timing.turn_ms)
    requests = _requests(context, state, state.close.seats, missing)
    return replace(state, asked=state.asked + ASKED_AT_ONCE), (again, *requests)


def _ask_early(context: RoundContext, state: RoundState, reports: Iterable[Digest], now: int) -> Outcomes:
    """Ask for reports that more validators vouch for than can all be bad, others each time, until they are here.

    A close that admits them may come, and who lacks one can vote for none that does.
    """
    wanted: dict[int, list[Digest]] = {}
    sought = dict(state.sought)
    for report in sorted(reports):
        times, again_ms = sought.get(report, (0, now))
        vouchers = _vouchers(context, state, report)
        if now < again_ms or len(vouchers) <= context.epoch_set.faulty_max:
            continue
        first = context.index + times * ASKED_AT_ONCE
        for i in range(min(ASKED_AT_ONCE, len(vouchers))):
            wanted.setdefault(vouchers[(first + i) % len(vouchers)], []).append(report)
        sought[report] = (times + 1, now + context.timing.turn_ms)
    if not wanted:
        return state, ()
    requests = [
        RoundSend(to, ReportRequest(state.terms.round, context.index, tuple(asked))) for to, asked in wanted.items()
    ]
    again = RoundTimer(RoundAlarm(state.terms.round), now + context.timing.turn_ms)
    return replace(state, sought=sought), (*requests, again)


def _ask_early_again(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Ask others for the reports that were asked for before the close and have not come."""
    return (
        (state, ()) if state.close is not None else _ask_early(context, state, state.sought.keys() - state.held(), now)
    )


def _vouchers(context: RoundContext, state: RoundState, report: Digest) -> list[int]:
    """Return the other validators that have signed receipts that name a report."""
    seats = (seat for seat, receipt in state.receipts.items() if report in receipt.names)
    accounts = {state.terms.seats[seat].validator for seat in seats}
    return [int(v.index) for v in context.epoch_set.validators if v.account in accounts and v.index != context.index]


def _requests(
    context: RoundContext, state: RoundState, seats: tuple[int, ...], reports: tuple[Digest, ...]
) -> tuple[RoundEffect, ...]:
    accounts = [validator.account for validator in context.epoch_set.validators]
    holders = [accounts.index(state.terms.seats[seat].validator) for seat in seats]
    request = ReportRequest(state.terms.round, context.index, reports)
    chosen = [holders[(context.index + state.asked + i) % len(holders)] for i in range(ASKED_AT_ONCE)]
    return tuple(RoundSend(to, request) for to in dict.fromkeys(chosen) if to != context.index)


def _answer(context: RoundContext, state: RoundState, message: ReportRequest) -> Outcomes:
    """Send reports that are here to a validator that lacks them, each once."""
    context.epoch_set.validator(message.validator)
    effects = []
    for report, held in state.held().items():
        asked = (message.validator, report)
        if report in message.reports and asked not in state.answered:
            state = replace(state, answered=state.answered | {asked})
            ciphertext = aggregation.encode_ciphertext(held.ciphertext)
            reply = ReportReply(message.round, held.report, ciphertext, held.proof, held.registration)
            effects.append(RoundSend(message.validator, reply))
    return state, tuple(effects)


def _take_reply(context: RoundContext, state: RoundState, message: ReportReply, now: int) -> Outcomes:
    """Keep a report that was asked for: one of the final close, or one that enough validators vouch for."""
    report = message.report
    wanted = report.id in state.missing() or len(_vouchers(context, state, report.id)) > context.epoch_set.faulty_max
    if not wanted or report.trainer not in context.cohort:
        return state, ()
    held = held_of(context, state, message, {})
    state = replace(state, fetched={**state.fetched, report.id: held})
    state, examined = _examine(context, state, held, now)
    state, look = _look_when_complete(context, state, now)
    received = (*examined, *look)
    if state.final is not None:
        state, finished = finish(context, state, state.final, now)
        return state, (*received, *finished)
    state, replayed = _replay(context, state, now) if state.close is not None else (state, ())
    state, proposed = _open(context, state, now)
    return state, (*received, *replayed, *proposed)


# ------------------------------------------------------------------------------------------------ open


def _open(context: RoundContext, state: RoundState, now: int) -> Outcomes:
    """Open the sum when the releases at hand suffice: propose the header in this validator's turn, else vote early."""
    over = state.certified is not None or state.final is not None
    if state.close is None or over or state.lacks_model or state.missing():
        return state, ()
    if now >= _turn_ms(context, state, context.index, state.laps):
        return _propose_header(context, state, state.close, now)
    return _vote_early(context, state, state.close)


def _propose_header(context: RoundContext, state: RoundState, close: Close, now: int) -> Outcomes:
    """Propose what the releases at hand give, once a lap: at best all of Q's, after a while what there is.

    Turns go round again until a header is final: what was proposed in one lap may have lacked a true key sum that
    others know, and everybody knows more in the next.
    """
    proposal, waited = _foresee(context, state, close), now >= state.closed_ms + context.timing.release_ms
    key_sums = state.sums_for(close.digest)
    if proposal is None and (waited or key_sums.keys() >= set(close.seats)):
        proposal = _opened(context, state, close, key_sums)
    if proposal is None or (proposal.header.outcome == "lost" and not waited):
        return state, ()
    proposal, laps = sign_proposal(proposal, context.account), state.laps + 1
    again_ms = max(_turn_ms(context, state, context.index, laps), now + context.timing.turn_ms)
    again = RoundTimer(RoundAlarm(state.terms.round), again_ms)
    if state.own is not None and state.own.header.digest == proposal.header.digest:
        return replace(state, laps=laps), (again,)
    state = replace(state, own=proposal, votes={}, laps=laps)
    effects: list[RoundEffect] = [RoundBroadcast(proposal), again]
    for vote in state.early.values():
        state, more = _take_vote(context, state, vote)
        effects.extend(more)
    return state, tuple(effects)


def _foresee(context: RoundContext, state: RoundState, close: Close) -> HeaderProposal | None:
    """Return what everybody opens who has the releases of all of Q's seats, and nothing else but what is final.

    None unless all are here and the sum opens with them, or there is none.
    """
    key_sums = state.sums_for(close.digest)
    if not key_sums.keys() >= set(close.seats):
        return None
    proposal = _opened(context, state, close, {seat: key_sums[seat] for seat in close.seats})
    return proposal if proposal is not None and proposal.header.outcome in ("opened", "skipped") else None


def _opened(
    context: RoundContext, state: RoundState, close: Close, key_sums: Mapping[int, KeySum]
) -> HeaderProposal | None:
    """Return the header that the final close gives with these key sums, or None while the next beacon is unknown.

    None, too, where the header before does not say what trainers had earned by then, or what is final may not be.
    """
    shares = {r.validator: r.beacon_share for r in state.releases.values() if r.close == close.digest}
    beacon = combine_beacon(context, close.round + 1, shares) if len(shares) >= context.epoch_set.quorum else None
    if beacon is None or state.paid is None:
        return None
    outcome, opened, model = open_close(context, state, close, key_sums)
    if not _stands(context, state, close, outcome):
        return None
    paid = paid_in(context, state, close, outcome, model)
    header = Header(
        task=state.terms.task,
        round=close.round,
        level=context.agreed.level,
        previous=state.terms.previous,
        close=close.digest,
        outcome=outcome,
        key_sums=tuple((seat, key_sums[seat].digest) for seat in sorted(key_sums)),
        total=bytes(32) if opened is None else total_digest(opened.total),
        model=sha256(model).digest(),
        lying=() if opened is None else opened.lying,
        beacon=beacon,
        seats=assign_seats(sha256(beacon).digest(), state.next_set(context), context.seats),
        announcements=state.next_keys(),
        failed=failed_proofs(context.work, context.agreed, state, close) if outcome == "invalid" else (),
        rewards=rewards_of(context.pay, paid),
        registries=context.registries,
        paid=paid,
    )
    return HeaderProposal(header, tuple(key_sums[seat] for seat in sorted(key_sums)), context.index)


def _stands(context: RoundContext, state: RoundState, close: Close, outcome: Outcome) -> bool:
    """Tell whether the final close, and every record that counts, is what this validator could have voted for."""
    try:
        check_final(context, state, close, outcome)
    except CollegiumError:
        return False
    return True


def _vote_early(context: RoundContext, state: RoundState, close: Close) -> Outcomes:
    """Vote for the header that the close's proposer must propose, where all that it depends on is here already."""
    if state.foreseen is not None or state.own is not None or not state.own_seats(context):
        return state, ()
    proposal = _foresee(context, state, close)
    if proposal is None:
        return state, ()
    return replace(state, foreseen=proposal.header), (RoundSend(state.proposer, _vote(context, proposal.header)),)


def _vote(context: RoundContext, header: Header) -> HeaderVote:
    return HeaderVote(header.round, header.digest, context.index, context.voting_key.sign(header.digest))


# ------------------------------------------------------------------------------------------------ certify


def _check_proposer(context: RoundContext, state: RoundState, message: HeaderProposal, now: int) -> None:
    check_proposer(context, message)
    lap_ms = len(context.epoch_set.validators) * context.timing.turn_ms
    most = FAILURES_MAX * (1 + (now - state.closed_ms) // lap_ms if state.close is not None else 1)
    if state.failed.get(message.proposer, 0) >= most:
        raise ProposalRefusedError(f"validator {message.proposer} has made {most} proposals that do not hold")


def _take_proposal(
    context: RoundContext, state: RoundState, message: HeaderProposal, now: int, sender: int | None
) -> Outcomes:
    """Redo the public work of a proposed header, if it is its proposer's turn, and vote for it with the own seats."""
    known = state.heard.get(message.proposer)
    if known is not None and known.header.digest == message.header.digest:
        return state, ()
    _check_proposer(context, state, message, now)
    if state.final is not None:  # too late to vote; it may be what following the final header takes
        if message.header.digest != state.final.header.digest:
            return state, ()
        return finish(context, replace(state, heard={**state.heard, message.proposer: message}), state.final, now)
    half_a_turn = context.timing.turn_ms // 2  # validators hear of a final close at slightly different times
    held = state.held_up.get(message.proposer, 0)
    turn_ms = _turn_ms(context, state, message.proposer, held) - half_a_turn
    if state.close is None or state.missing() or now < turn_ms:  # final elsewhere, waiting for reports, or early
        early = state.close is not None and now < turn_ms  # as to who heard of the close late, and then perhaps last
        timers = (RoundTimer(RoundAlarm(state.terms.round), turn_ms),) if early else ()
        return _wait(context, state, message, sender), timers
    try:
        check_proposal(context, state, state.close, message)
        check_final(context, state, state.close, message.header.outcome)
    except CollegiumError as error:
        failed = {**state.failed, message.proposer: state.failed.get(message.proposer, 0) + 1}
        return replace(state, failed=failed), (Refused(state.terms.round, "HeaderProposal", error),)
    return _vote_for(context, state, message, now)


def _vote_for(context: RoundContext, state: RoundState, message: HeaderProposal, now: int) -> Outcomes:
    """Vote for a proposal that holds, unless its proposer has this validator's vote for that header already."""
    held = state.held_up.get(message.proposer, 0)
    state = replace(
        state,
        heard={**state.heard, message.proposer: message},
        held_up={**state.held_up, message.proposer: held + 1},
    )
    state, accused = _accuse(context, state, message.header.failed, now)
    voted = message.proposer == state.proposer and message.header == state.foreseen
    if voted or not state.own_seats(context):
        return state, accused
    return state, (*accused, RoundSend(message.proposer, _vote(context, message.header)))


def _accuse(context: RoundContext, state: RoundState, failed: tuple[Digest, ...], now: int) -> Outcomes:
    """Name who is to blame for a sum that does not open: the trainers, and who signed in the close to have verified."""
    effects: list[RoundEffect] = []
    for report in failed:
        held, told = state.held()[report], {r.seat for r in state.receipts.values() if report in r.verified}
        state, more = _verify(context, state, held, now)
        effects.extend(more)
        receipts = () if state.close is None else state.close.signed
        false = [receipt for receipt in receipts if report in receipt.verified and receipt.seat not in told]
        effects += [EvidenceFound(FalseReceipt(held, receipt)) for receipt in false]
    return state, tuple(effects)


def _take_vote(context: RoundContext, state: RoundState, message: HeaderVote) -> Outcomes:
    """As proposer: collect seats until more than two thirds of them certify the own proposal."""
    account = context.epoch_set.validator(message.validator).account
    if state.certified is not None:
        return state, ()
    if state.own is None or message.header != state.own.header.digest:  # it may be the next lap's
        return replace(state, early={**state.early, message.validator: message}), ()
    seats, header = state.seats_of(account), state.own.header
    votes, certificate = add_votes(
        context.epoch_set, state.terms, state.votes, seats, message.header, message.signature
    )
    state = replace(state, votes=votes)
    if certificate is None:
        return state, ()
    certified = Certified(header, certificate)
    return replace(state, certified=certified), (RoundSubmit(encode_payload(certified)),)


# ------------------------------------------------------------------------------------------------ finish


def finish(context: RoundContext, state: RoundState, certified: Certified, now: int) -> Outcomes:
    """A certified header is final: take its model, forget the round's secrets, begin the next round.

    A validator that lacks what it takes to follow finishes when that has arrived, or the model itself, for which it
    asks; one that lacks the round's own model passes on to the next round.
    """
    header, close = certified.header, state.close
    if header.round != state.terms.round or close is None or header.close != close.digest:
        reason = ProposalRefusedError(f"final header of round {header.round} does not fit this validator's round")
        return state, (Refused(state.terms.round, "header", reason),)
    if state.lacks_model:
        return _enter_next(context, state, header, None, now)
    if header.model == state.terms.model:
        model = state.model
    elif state.missing():
        return _await_model(context, state, certified, now)
    else:
        proposed = (p for p in state.heard.values() if p.header.digest == header.digest)
        sums = {key_sum.seat: key_sum for proposal in proposed for key_sum in proposal.key_sums}
        model = open_close(context, state, close, sums or state.sums_for(close.digest))[2]
    if sha256(model).digest() != header.model:
        reason = ProposalRefusedError(f"the model of round {header.round} cannot be rebuilt from what is here yet")
        state, waiting = _await_model(context, state, certified, now)
        return state, (Refused(state.terms.round, "header", reason), *waiting)
    return _enter_next(context, state, header, model, now)


def _await_model(context: RoundContext, state: RoundState, certified: Certified, now: int) -> Outcomes:
    """Wait for what a final header's model can be rebuilt from; ask for the model itself a little later."""
    if state.final is not None:
        return state, ()
    return later(replace(state, final=certified), now + context.timing.turn_ms // 2)


def _enter_next(context: RoundContext, ended: RoundState, header: Header, model: bytes | None, now: int) -> Outcomes:
    """Begin the round after a final header, with its model or (None) without, and keep what lasts longer than one.

    The round after an epoch's last one is begun by the next set's validators. The handover may be final before the
    model of the round before that last one is here.
    """
    opened = ended.opened
    if opened is not None and opened.first_round == header.round + 1:
        return _end_epoch(ended, header, model)
    terms = terms_after(context.agreed, context.epoch_set, header)
    if model is None:
        state, begun = begin_behind(context, terms, ended.secrets, now, opened)
    else:
        state, begun = begin(context, terms, model, ended.secrets, now, opened)
    state = replace(state, paid=paid_by(context.pay, header))
    state, told = _remember(state, ended), _tell_end(ended, header, model)
    if model is None:
        return state, (*told, *begun)
    state, replayed = _replay(context, state, now)
    return state, (*told, *begun, *replayed)


def _end_epoch(ended: RoundState, header: Header, model: bytes | None) -> Outcomes:
    """Tell what the next epoch starts from; stay, to give others what they lack of this round."""
    entries, told = _registered(ended), _tell_end(ended, header, model)
    named = {entry.digest for entry in entries.values()}
    here = {digest: data for digest, data in ended.registrations.items() if digest in named}
    state = replace(ended, over=True, final=None, registered=entries, secrets={}, ahead=())
    return state, (*told, EpochOver(header, model, _by_trainer(entries), here))


def _tell_end(ended: RoundState, header: Header, model: bytes | None) -> tuple[RoundEffect, ...]:
    """Return what must be kept of a round that is over, and that it is: with its model, or passed by without."""
    named = () if ended.close is None else [entry.digest for entry in ended.close.registered]
    kept = (KeepObject(digest, ended.registrations[digest]) for digest in named if digest in ended.registrations)
    registered = _by_trainer(_registered(ended))
    return (*kept, RoundPassed(header, registered) if model is None else RoundFinished(header, model, registered))


def _by_trainer(registered: Mapping[bytes, Registered]) -> tuple[Registered, ...]:
    return tuple(registered[trainer] for trainer in sorted(registered))


def _registered(ended: RoundState) -> dict[bytes, Registered]:
    """Return what is registered when a round has ended, by trainer."""
    fresh = () if ended.close is None else ended.close.registered
    return {**ended.registered, **{entry.trainer: entry for entry in fresh}}


def _remember(state: RoundState, ended: RoundState) -> RoundState:
    """Return a round's first state with what lasts longer than the round before it: registrations, and what waits."""
    registered = _registered(ended)
    named = {entry.digest for entry in registered.values()} | {
        held.report.registration for held in ended.held().values()
    }
    registrations = {digest: data for digest, data in ended.registrations.items() if digest in named}
    vetted = ended.vetted & named
    ahead = tuple(item for item in ended.ahead if round_of(item[1]) >= state.terms.round)
    kept = frozenset(item.report.id for _, item in ahead if isinstance(item, Upload)) & ended.kept
    return replace(
        state, ahead=ahead, kept=kept, registered=registered, registrations=registrations, vetted=frozenset(vetted)
    )


# ------------------------------------------------------------------------------------------------ state sync


def _take_object(
    context: RoundContext, state: RoundState, message: ObjectReply, now: int, sender: int | None
) -> Outcomes:
    """Take a model or a registration that final blocks name, and go on with what waited for it."""
    try:
        digest = check_object(state, message, sender)
    except CollegiumError as error:
        return lost(state, sender), (Refused(state.terms.round, "ObjectReply", error),)
    if is_here(state, digest):
        return state, ()
    if state.final is not None and digest == state.final.header.model:
        return _enter_next(context, state, state.final.header, message.data, now)
    kept = KeepObject(digest, message.data)
    if not state.lacks_model or digest != state.terms.model:
        state = replace(state, registrations={**state.registrations, digest: message.data})
        state, replayed = (state, ()) if state.lacks_model else _replay(context, state, now)
        return state, (kept, *replayed)
    state = replace(state, model=message.data, lacks_model=False)
    state, announced = (state, ()) if state.announced else _announce(context, state)
    state, asked = _ask(context, state, now)
    state, replayed = _replay(context, state, now)
    return state, (kept, *announced, *_alarms(context, state), *asked, *replayed)
