"""The rules of a round: what each message must satisfy, one function a rule, none of which changes any state.

What a close must satisfy stands in `_close_rules`.

Each raises a named error that says value and expectation. Work that is a pure function of public bytes goes through
`work`, so that many validators in one process share it; what differs between validators never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from collegium import aggregation
from collegium.aggregation import KeySum, OpenedSum, Receipt, Report, RoundTerms, Upload
from collegium.crypto import Digest, check_seal_key, recover_address
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._pay import paid_after, rewards_of
from ._proof_evidence import Held
from ._proving import (
    ProofRefusedError,
    check_proof_form,
    check_registration,
    failed_proofs,
)
from ._quality import Quality, RoundEntry, WeighedReport
from ._records import Announcement, Certified, Close, Header, Outcome
from ._round_types import (
    Agreed,
    HeaderProposal,
    IntArray,
    KeepUpload,
    Release,
    ReportReply,
    RoundContext,
    RoundMessage,
    RoundState,
    Work,
)
from ._seats import assign_seats, check_seat_certificate
from ._weight import bytes_in

__all__ = [
    "MissingReportsError",
    "NotInCohortError",
    "NotSenderError",
    "ProposalRefusedError",
    "RepeatedReportError",
    "WrongRoundError",
    "add_close",
    "add_early",
    "check_announcement",
    "check_certified",
    "check_early",
    "check_length",
    "check_not_opened",
    "check_proposal",
    "check_proposer",
    "check_quota",
    "check_record",
    "check_release",
    "check_share",
    "check_signer",
    "check_speaker",
    "check_sum",
    "check_sums",
    "check_upload",
    "combine_beacon",
    "complete_upload",
    "entry_of",
    "held_of",
    "model_after",
    "open_close",
    "paid_in",
    "total_bytes",
    "total_digest",
    "verify_announcement",
    "verify_receipt",
    "weighed_reports",
]

T = TypeVar("T")

TOTAL_TAG: Final = b"collegium/v1/total"  # before the entries of an opened sum in what is hashed


class WrongRoundError(CollegiumError):
    """A message is for another round than the current one."""


class NotSenderError(CollegiumError):
    """A message speaks for another validator than the one it came from, or is not signed by it."""


class NotInCohortError(CollegiumError):
    """A report's trainer is not registered for the task."""


class NotDrawnError(CollegiumError):
    """A trainer reports in a round in which it may not."""


class RepeatedReportError(CollegiumError):
    """A trainer signed two reports for one round."""


class MissingReportsError(CollegiumError):
    """A report that the final close admits has not arrived here; it is asked for."""


class ProposalRefusedError(CollegiumError):
    """A proposed header is not what its close and key sums give."""


def check_speaker(message: object, speaker: int | None, sender: int | None) -> None:
    """Check that a message in which a validator speaks came from it; None: it is nobody's, or nobody knows who sent it.

    Raises:
        NotSenderError: it came from another validator.
    """
    if sender is not None and speaker not in (None, sender):
        raise NotSenderError(f"{type(message).__name__} of validator {speaker} came from validator {sender}")


# ------------------------------------------------------------------------------------------------ admit


def check_signer(work: Work, report: Report) -> None:
    """Check that a report is signed by its trainer: before anything that would be kept of it.

    Raises:
        ReportRejectedError: signed by somebody else.
        CollegiumError: not a signature.
    """
    signer = work.once(("signer", report.id, report.signature), lambda: recover_address(report.id, report.signature))
    if signer != report.trainer:
        raise aggregation.ReportRejectedError(f"report of {report.trainer.hex()} is signed by {signer.hex()}")


def check_upload(
    work: Work, terms: RoundTerms, report: Report, ciphertext: bytes, boxes: Mapping[int, bytes | None]
) -> npt.NDArray[np.uint64]:
    """Return c, after every public check of a report; `boxes` are the own seats'.

    What a gateway may have changed on the way (c, a box) is refused before anything is kept, so that the honest copy
    is still welcome afterwards.

    Raises:
        ReportRejectedError: c or a box is not the one that the report names.
        CollegiumError: the report itself is not what it must be.
    """
    digest = sha256(ciphertext).digest()
    if digest != report.ciphertext:
        raise aggregation.ReportRejectedError("the masked update is not the one that the report names")
    _check_boxes(report, boxes)
    check_signer(work, report)

    def check() -> npt.NDArray[np.uint64]:
        aggregation.check_report(terms, report, signer=report.trainer)  # `check_signer` has found it out
        return aggregation.decode_ciphertext(terms.layout, ciphertext)

    return work.once(("report", terms.digest, report.id, report.signature, digest), check)


def _check_boxes(report: Report, boxes: Mapping[int, bytes | None]) -> None:
    for seat, box in boxes.items():
        if box is not None and (seat >= len(report.boxes) or sha256(box).digest() != report.boxes[seat]):
            raise aggregation.ReportRejectedError(f"the box for seat {seat} is not the one that the report names")


def entry_of(context: RoundContext, state: RoundState) -> RoundEntry | None:
    """Return who may report in this round by its quality, and what each report weighs; None: all, by staleness.

    None as well while the round's model is not here: then no report is, either, and no close of any is voted for.
    """
    quality, terms, model = context.quality, state.terms, state.model
    if quality is None or state.lacks_model:
        return None
    return context.work.once(("entry", terms.digest), lambda: quality.entry(terms.round, model, terms.beacon))


def held_of(
    context: RoundContext, state: RoundState, message: Upload | ReportReply, boxes: Mapping[int, bytes | None]
) -> Held:
    """Return a report with what belongs to it, after every check but that of its proof; `boxes` are the own seats'.

    Raises:
        CollegiumError: naming what does not hold.
    """
    report = message.report
    entry = entry_of(context, state)
    if entry is not None and report.trainer not in entry.weights:
        raise NotDrawnError(
            f"trainer {report.trainer.hex()} reports in round {report.round}, for which it is not drawn",
            trainer=report.trainer,
        )
    if report.staleness and entry is not None:
        raise aggregation.ReportRejectedError(
            f"report is {report.staleness} rounds stale, in a round of weights by quality"
        )
    check_proof_form(context.agreed, report, message.proof)
    ciphertext = check_upload(context.work, state.terms, report, message.ciphertext, boxes)
    registration = state.registrations.get(report.registration, message.registration)
    check_registration(context.agreed, state.registered, report, registration)
    return Held(report, ciphertext, message.proof, registration)


def check_early(context: RoundContext, upload: Upload) -> None:
    """Check what can be checked of a report whose round's terms are not known yet, or whose registration is not here.

    Whatever is in it is what its trainer signed; what somebody has taken out can come with another copy.

    Raises:
        NotInCohortError: not signed by a registered trainer.
        ReportRejectedError, ProofRefusedError: a part is not the one that the report names, or too large.
    """
    report = upload.report
    if report.trainer not in context.cohort or recover_address(report.id, report.signature) != report.trainer:
        raise NotInCohortError(f"early report of {report.trainer.hex()} is not a registered trainer's")
    size = 8 * aggregation.RING_DIMENSION * context.agreed.layout(report.round).blocks
    if len(upload.ciphertext) != size or sha256(upload.ciphertext).digest() != report.ciphertext:
        raise aggregation.ReportRejectedError("the masked update is not the one that the report names")
    if not len(upload.boxes) == len(report.boxes) == context.seats:
        raise aggregation.ReportRejectedError(
            f"{len(upload.boxes)} boxes, {len(report.boxes)} named, for {context.seats} seats"
        )
    _check_boxes(report, dict(enumerate(upload.boxes)))
    check_proof_form(context.agreed, report, upload.proof)
    data = upload.registration
    if len(data) > context.agreed.registration_bytes_max(report.round):
        raise ProofRefusedError(f"a registration of {len(data)} bytes is too large")
    if data and sha256(data).digest() != report.registration:
        raise ProofRefusedError(f"the registration is not the one that report {report.id.hex()} names")


def complete_upload(known: Upload, copy: Upload) -> Upload | None:
    """Return an early report with what another copy of it has and it lacks; None if that is nothing.

    Whoever passes a report on may leave boxes or the registration out: that must not displace the honest copy.
    """
    if copy.report.id != known.report.id:
        return None
    boxes = tuple(own if own is not None else other for own, other in zip(known.boxes, copy.boxes, strict=True))
    registration = known.registration or copy.registration
    if (boxes, registration) == (known.boxes, known.registration):
        return None
    return replace(known, boxes=boxes, registration=registration)


def add_early(
    ahead: tuple[tuple[int | None, T], ...], kept: frozenset[Digest], upload: Upload, sender: int | None
) -> tuple[tuple[tuple[int | None, T | Upload], ...], frozenset[Digest], tuple[KeepUpload, ...]]:
    """Return what waits with one report a trainer and round, the reports that are on disk, and what is to be written.

    A trainer sends once, so its report is written down at once.
    """
    report, whole, after = upload.report, upload, list[tuple[int | None, T | Upload]](ahead)
    for place, (_, known) in enumerate(after):
        if isinstance(known, Upload) and (known.report.trainer, known.report.round) == (report.trainer, report.round):
            more = complete_upload(known, upload)
            if more is None:
                return ahead, kept, ()
            whole, after[place] = more, (sender, more)
            break
    else:
        after.append((sender, upload))
    known_before = whole is upload and report.id in kept
    keep = () if known_before else (KeepUpload(report.round, 0, whole, False),)
    return tuple(after), kept | {report.id}, keep


def check_announcement(task: Digest, epoch_set: EpochSet, announcement: Announcement) -> None:
    """Check that a sealing key is signed by its validator, and that one can seal to it.

    Raises:
        ProposalRefusedError: no such validator, or another signer: a leader must not plant a key of its own.
        SealKeyError: a key to which every trainer would fail to seal.
    """
    signer = recover_address(announcement.digest(task), announcement.signature)
    if signer != epoch_set.validator(announcement.validator).account:
        raise ProposalRefusedError(f"sealing key of validator {announcement.validator} is signed by {signer.hex()}")
    check_seal_key(announcement.seal_key)


def verify_announcement(work: Work, task: Digest, epoch_set: EpochSet, announcement: Announcement) -> None:
    """Check an announcement, once."""
    key = ("announcement", announcement.digest(task), announcement.signature)
    work.once(key, partial(check_announcement, task, epoch_set, announcement))


def verify_receipt(work: Work, terms: RoundTerms, receipt: Receipt) -> None:
    """Check a receipt, once."""
    key = ("receipt", terms.digest, receipt.seat, receipt.reports, receipt.verified, receipt.signature)
    work.once(key, partial(aggregation.check_receipt, terms, receipt))


def check_length(context: RoundContext, receipt: Receipt) -> None:
    """Check that a receipt names no more reports than there are trainers.

    Raises:
        NotSenderError: it does.
    """
    if len(receipt.reports) > len(context.cohort):
        raise NotSenderError(f"receipt of seat {receipt.seat} names {len(receipt.reports)} reports, more than trainers")


def check_quota(
    context: RoundContext, waiting: Sequence[RoundMessage], message: RoundMessage, number: int, sender: int | None
) -> None:
    """Check that a message that cannot be judged yet is within an honest sender's share, in number and in bytes.

    That is a receipt for each of its seats, key sums of its seats and of all seats in a release and a proposal, a key,
    and a reject for each trainer where there are proofs; of two rounds. `number` is the message's round.

    Raises:
        NotSenderError: it has too many or too large ones waiting already.
    """
    cohort, size = len(context.cohort), context.epoch_set.size
    each, rejects = -(-context.seats // size), cohort if context.agreed.proof_bytes_max(number) else 0
    many = 2 * (each + rejects + 3)
    sums = context.seats * (aggregation.seat_width(context.seats) * aggregation.KEY_ROWS * 8 + 1024)
    most = 2 * (each * (128 * cohort + 1024) + 2 * sums + 512 * (cohort + size) + (1 << 16))
    check_share(waiting, message, sender, many, most, size)


def check_share(
    waiting: Sequence[object], message: object, sender: int | None, many: int, most: int, size: int
) -> None:
    """Check that a message and what waits of its sender are so many messages and bytes at most; uploads do not count.

    Raises:
        NotSenderError: they are not.
    """
    if sender is None:  # not authenticated, as in hand-directed tests: everybody's share together
        many, most = many * size, most * size
    kept = [known for known in waiting if not isinstance(known, Upload)]
    if len(kept) >= many:
        raise NotSenderError(f"validator {sender} has {many} messages waiting already", sender=sender)
    held = bytes_in(message) + sum(map(bytes_in, kept))
    if held > most:
        raise NotSenderError(f"validator {sender} would have {held} bytes waiting, at most {most}", sender=sender)


# ------------------------------------------------------------------------------------------------ release


def check_release(context: RoundContext, terms: RoundTerms, release: Release) -> None:
    """Check that a release is its validator's, and every key sum in it its seat's.

    Raises:
        NotSenderError: not signed by the validator, or a seat of somebody else's.
        CollegiumError: a key sum is malformed, for another close, or not signed.
    """
    account = context.epoch_set.validator(release.validator).account
    key = ("release", release.digest(terms.task), release.signature)
    signer = context.work.once(key, lambda: recover_address(release.digest(terms.task), release.signature))
    if signer != account:
        raise NotSenderError(f"release of validator {release.validator} is signed by {signer.hex()}")
    for key_sum in release.key_sums:
        check_sum(context.work, terms, release.close, key_sum)
        if terms.seats[key_sum.seat].validator != account:
            raise NotSenderError(f"validator {release.validator} does not hold seat {key_sum.seat}")


def check_sum(work: Work, terms: RoundTerms, close: Digest, key_sum: KeySum) -> None:
    """Check a signed key sum's form and signature, once.

    Raises:
        CollegiumError: it is for another close, no seat's, or not its seat's.
    """
    key = ("key sum", terms.digest, close, key_sum.digest, key_sum.rows.shape, key_sum.signature)
    work.once(key, lambda: aggregation.check_key_sum(terms, close, key_sum))


def check_sums(
    work: Work, terms: RoundTerms, close: Digest, key_sums: Sequence[KeySum], named: str
) -> dict[int, KeySum]:
    """Return the key sums of a proposal or a result by seat, after checking that each is a seat's own, one a seat.

    Raises:
        ProposalRefusedError: two are one seat's.
        CollegiumError: as `check_sum`.
    """
    by_seat = {key_sum.seat: key_sum for key_sum in key_sums}
    if len(key_sums) > len(by_seat):
        raise ProposalRefusedError(f"two key sums of one seat in a {named}", field="key_sums")
    for key_sum in key_sums:
        check_sum(work, terms, close, key_sum)
    return by_seat


# ------------------------------------------------------------------------------------------------ open and certify


def total_digest(total: IntArray) -> Digest:
    """Return the digest of an opened weighted sum (int64 entries, little endian)."""
    return sha256(total_bytes(total)).digest()


def total_bytes(total: IntArray) -> bytes:
    """Return an opened sum as an object whose SHA-256 is `total_digest`."""
    return TOTAL_TAG + total.astype("<i8").tobytes()


def check_record(context: RoundContext, state: RoundState, before: tuple[bytes, ...], record: bytes) -> None:
    """Check, once, a record that follows those `before` it in the present round.

    Raises:
        CollegiumError: as `Quality.check_record`.
    """
    quality, terms = context.quality, state.terms
    if quality is not None:
        key = ("round record", terms.digest, before, record)
        context.work.once(key, lambda: quality.check_record(terms.round, state.model, before, record))


def check_not_opened(
    context: RoundContext, state: RoundState, close: Close, outcome: Outcome, key_sums: Mapping[int, KeySum]
) -> None:
    """Check that nobody loses a sum that this validator can open with what it holds itself.

    Raises:
        ProposalRefusedError: the outcome is that it does not open, and it does.
    """
    if outcome not in ("lost", "invalid"):
        return
    known = state.sums_for(close.digest)
    for others in (known, {**key_sums, **known}):
        if open_close(context, state, close, others)[0] == "opened":
            raise ProposalRefusedError(
                f"the sum is not {outcome}: it opens with key sums that are known here", field="outcome"
            )


def open_close(
    context: RoundContext, state: RoundState, close: Close, key_sums: Mapping[int, KeySum]
) -> tuple[Outcome, OpenedSum | None, bytes]:
    """Return the outcome of a close, the opened sum if there is one, and the model state after the round.

    Raises:
        MissingReportsError: a report that the close admits is not here.
    """
    if not close.reports:
        return "skipped", None, state.model
    held, missing = state.held(), state.lacking(close)
    if missing:
        raise MissingReportsError(f"{len(missing)} admitted reports are not here yet", missing=missing)
    total = add_close(context.work, state, close)

    def compute() -> tuple[Outcome, OpenedSum | None, bytes]:
        try:
            opened = aggregation.open_sum(state.terms, key_sums, total, sum(close.weights))
            rule = context.quality
            quality = None if rule is None else (rule, weighed_reports(close, held), state.records)
            return "opened", opened, model_after(context.agreed, state.terms, state.model, opened.total, quality)
        except aggregation.SumLostError:
            return "lost", None, state.model
        except CollegiumError:
            return "invalid", None, state.model

    sums = tuple(sorted((seat, key_sum.digest) for seat, key_sum in key_sums.items()))
    return context.work.once(("open", state.terms.digest, close.digest, state.records, sums), compute)


def model_after(
    agreed: Agreed,
    terms: RoundTerms,
    model: bytes,
    total: IntArray,
    quality: tuple[Quality, Sequence[WeighedReport], Sequence[bytes]] | None = None,
) -> bytes:
    """Return the model state after a round whose sum opened, with what the task then knows of its trainers' worth.

    Args:
        agreed: the task's public work.
        terms: the round's; model: the state that it started from.
        total: the opened sum.
        quality: where reports weigh by it: how, the reports of the close and the round's records, each in their order.

    Raises:
        CollegiumError: what the close admits gives no such state. That is the same everywhere: nothing but the order,
            the close and the sum that it opens goes in. So the round is `invalid`, as if the sum did not open.
    """
    stepped = agreed.step(terms.round, model, total)
    if quality is None:
        return stepped
    rule, reports, records = quality
    return rule.step(terms.round, model, terms.beacon, stepped, total, reports, records)


def weighed_reports(close: Close, held: Mapping[Digest, Held]) -> list[WeighedReport]:
    """Return the reports that a close admits, all of them here, with what they weigh."""
    entries = [(held[report], weight) for report, weight in zip(close.reports, close.weights, strict=True)]
    return [WeighedReport(entry.report, weight, entry.proof) for entry, weight in entries]


def add_close(work: Work, state: RoundState, close: Close) -> npt.NDArray[np.uint64]:
    """Return the weighted sum of the masked updates that a close admits, all of them here."""
    held = state.held()

    def compute() -> npt.NDArray[np.uint64]:
        return aggregation.weighted_total((held[report].ciphertext for report in close.reports), close.weights)

    return work.once(("total", state.terms.digest, close.digest), compute)


def combine_beacon(context: RoundContext, round_number: int, shares: Mapping[int, bytes]) -> bytes | None:
    """Return the threshold signature for a round, or None while too few of the shares are good."""
    key = ("beacon", context.epoch, round_number, tuple(sorted(shares.items())))
    try:
        return context.work.once(key, lambda: context.beacon.combine(context.epoch, round_number, shares))
    except CollegiumError:
        return None


def check_proposer(context: RoundContext, message: HeaderProposal) -> None:
    """Check that a proposal is signed by its proposer.

    Raises:
        NotSenderError: it is not.
    """
    account = context.epoch_set.validator(message.proposer).account
    if recover_address(message.digest(), message.signature) != account:
        raise NotSenderError(f"proposal of validator {message.proposer} is not signed by it")


def check_proposal(context: RoundContext, state: RoundState, close: Close, message: HeaderProposal) -> None:
    """Redo the public work of a proposed header and check every field of it.

    Raises:
        MissingReportsError: it cannot be redone yet.
        CollegiumError: naming the first thing that is not what it must be.
    """
    header, work = message.header, context.work
    key_sums = check_sums(work, state.terms, close.digest, message.key_sums, "proposal")
    named = tuple((seat, key_sums[seat].digest) for seat in sorted(key_sums))
    own = (state.foreseen, None if state.own is None else state.own.header)
    if header in own and header.key_sums == named:
        return  # this validator has computed the same one
    outcome, opened, model = open_close(context, state, close, key_sums)
    check_not_opened(context, state, close, outcome, key_sums)
    paid = paid_in(context, state, close, outcome, model)
    expected: dict[str, object] = {
        "task": state.terms.task,
        "round": close.round,
        "level": context.agreed.level,
        "previous": state.terms.previous,
        "close": close.digest,
        "outcome": outcome,
        "key_sums": named,
        "total": bytes(32) if opened is None else total_digest(opened.total),
        "model": sha256(model).digest(),
        "lying": () if opened is None else opened.lying,
        "seats": assign_seats(sha256(header.beacon).digest(), state.next_set(context), context.seats),
        "failed": failed_proofs(work, context.agreed, state, close) if outcome == "invalid" else (),
        "rewards": rewards_of(context.pay, paid),
        "registries": context.registries,
        "paid": paid,
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise ProposalRefusedError(f"header's {name} is {getattr(header, name)!r}, expected {value!r}", field=name)
    check_next(context, state, header)


def paid_in(context: RoundContext, state: RoundState, close: Close, outcome: Outcome, model: bytes) -> bytes:
    """Return what all trainers have earned when a round ends so, with this model.

    Raises:
        ProposalRefusedError: the header before does not say what they had earned by then.
    """
    if state.paid is None:
        raise ProposalRefusedError(f"what was earned before round {close.round} is not known", field="paid")
    key = ("paid", state.terms.digest, close.digest, outcome, state.paid, model)
    paid, held, models = state.paid, state.held(), (state.model, model)
    return context.work.once(key, lambda: paid_after(context.pay, paid, close, outcome, held, models))


def check_next(context: RoundContext, state: RoundState, header: Header) -> None:
    """Check what a header fixes for the next round: its beacon, and the sealing keys that the final close names.

    In an epoch's last round they are the handover's.

    Raises:
        CollegiumError: naming what does not hold.
    """
    number, work = header.round + 1, context.work
    key = ("beacon value", context.epoch, number, header.beacon)
    work.once(key, lambda: context.beacon.verify(context.epoch, number, header.beacon))
    if header.announcements != state.next_keys():
        whose = "final close's" if state.opened is None else "handover's"
        raise ProposalRefusedError(f"sealing keys other than the {whose}", field="announcements")


def check_certified(work: Work, epoch_set: EpochSet, terms: RoundTerms, certified: Certified) -> None:
    """Check that more than two thirds of the round's seats certified a header of this round.

    Raises:
        ProposalRefusedError: a header of another task, round or history.
        CollegiumError: the certificate does not verify.
    """
    header = certified.header
    if (header.task, header.round, header.previous) != (terms.task, terms.round, terms.previous):
        raise ProposalRefusedError(f"header of round {header.round} does not follow round {terms.round - 1}")
    key = ("certificate", terms.digest, header.digest, certified.certificate)
    work.once(key, lambda: check_seat_certificate(epoch_set, terms, header.digest, certified.certificate))
