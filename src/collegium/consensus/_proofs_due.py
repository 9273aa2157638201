"""Which proofs handling a message will verify: so that whoever drives the state machine can have it done beforehand.

Verifying is the one part of a step that takes long. It is a pure function of what a `DueProof` holds; its results,
entered where `Work` looks, are found by the step. Nothing depends on it: a step verifies what it does not find.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from collegium.aggregation import RoundTerms, Upload
from collegium.errors import CollegiumError

from ._proof_evidence import Held, ProofReject
from ._proving import check_proof, check_reject, must_verify, overdue_proofs, proof_key
from ._round_rules import check_speaker, held_of
from ._round_types import Agreed, PeerJoined, ReportReply, RoundAlarm, RoundContext, RoundMessage, RoundState, Work

__all__ = ["DueProof", "proofs_due"]


@dataclass(frozen=True, slots=True)
class DueProof:
    """A proof that this validator is about to verify, with all that this reads."""

    terms: RoundTerms
    model: bytes
    held: Held
    vetted: bool

    @property
    def key(self) -> Hashable:
        """What names this verification."""
        return proof_key(self.terms, self.held.report)

    def verify(self, work: Work, agreed: Agreed) -> None:
        """Verify registration and proof, as a step would.

        Raises:
            CollegiumError: one of them does not verify.
        """
        check_proof(work, agreed, self.terms, self.model, self.held, self.vetted)


def proofs_due(
    context: RoundContext,
    state: RoundState,
    message: RoundMessage | RoundAlarm | PeerJoined,
    now: int,
    sender: int | None = None,
) -> tuple[DueProof, ...]:
    """Return the proofs that `round_step` of these arguments is about to verify.

    Everything about a report that is cheaper to check is checked before, so that only who signed one costs anybody a
    proof. Left out are proofs of reports that waited for the round to begin, and those that a sum that does not open
    puts in question.
    """
    if state.over or state.lacks_model or not context.agreed.proof_bytes_max(state.terms.round):
        return ()
    try:
        match message:
            case RoundAlarm():
                found = overdue_proofs(context, state, now)
            case Upload():
                found = _of_upload(context, state, message)
            case ReportReply():
                found = _of_reply(context, state, message)
            case ProofReject():
                found = _of_reject(context, state, message, sender)
            case _:
                return ()
    except CollegiumError:  # the step itself will say so
        return ()
    settled = state.verified | state.rejected
    return tuple(
        DueProof(state.terms, state.model, held, held.report.registration in state.vetted)
        for held in found
        if held.report.id not in settled
    )


def _of_upload(context: RoundContext, state: RoundState, upload: Upload) -> tuple[Held, ...]:
    report = upload.report
    if report.round != state.terms.round or len(upload.boxes) != len(state.terms.seats):
        return ()
    if report.trainer not in context.cohort or report.trainer in state.reports or report.id in state.arrived:
        return ()
    boxes = {seat: upload.boxes[seat] for seat in state.own_seats(context)}
    held = held_of(context, state, upload, boxes)
    return (held,) if must_verify(context, state, report) else ()


def _of_reply(context: RoundContext, state: RoundState, reply: ReportReply) -> tuple[Held, ...]:
    report = reply.report
    asked = report.id in state.missing() or report.id in state.sought
    if report.round != state.terms.round or report.trainer not in context.cohort or not asked:
        return ()
    held = held_of(context, state, reply, {})
    return (held,) if report.id not in state.arrived and must_verify(context, state, report) else ()


def _of_reject(context: RoundContext, state: RoundState, reject: ProofReject, sender: int | None) -> tuple[Held, ...]:
    held = state.held().get(reject.report)
    if reject.round != state.terms.round or held is None or reject.validator in state.rejects.get(reject.report, {}):
        return ()
    check_speaker(reject, reject.validator, sender)
    check_reject(context.work, context.epoch_set, state.terms.task, reject)
    return (held,)
