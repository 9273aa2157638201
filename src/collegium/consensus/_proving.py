"""What proofs add to a round: who must verify which, when a report counts as proved, and who is convicted by what.

Every function here is a pure one of public values. Which proof a task demands is the `Agreed` work's business; here a
round either demands one of every report (`proof_bytes_max` above 0) or allows none. Specified in docs/spec/round.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from hashlib import sha256

from collegium import aggregation
from collegium.aggregation import Receipt, Report, RoundTerms
from collegium.crypto import Digest, hash_fields, recover_address
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._proof_evidence import DoubleReport, FailingProof, FalseReceipt, FalseReject, Held, ProofEvidence, ProofReject
from ._records import Close, Registered
from ._round_types import Agreed, RegistrationScope, RoundContext, RoundState, Work

__all__ = [
    "ContinuationError",
    "NoEvidenceError",
    "ProofRefusedError",
    "UnregisteredError",
    "check_proof",
    "check_proof_form",
    "check_registration",
    "check_reject",
    "chosen_verifiers",
    "failed_proofs",
    "is_proved",
    "is_vouched",
    "must_verify",
    "new_registrations",
    "overdue_proofs",
    "proof_key",
    "registration_key",
    "verify_double_report",
    "verify_proof_evidence",
]


class ProofRefusedError(CollegiumError):
    """A report's proof is missing, too large, not the one that the report names, or not wanted in this round."""


class UnregisteredError(CollegiumError):
    """A report refers to data that its trainer has not registered for this round."""


class ContinuationError(CollegiumError):
    """A registration does not continue the one that its trainer had before, or continues one that it never had."""


class NoEvidenceError(CollegiumError):
    """What should convict somebody does not: the proof verifies, or fails, as was said, or the parts do not fit."""


# ------------------------------------------------------------------------------------------------ form


def check_proof_form(agreed: Agreed, report: Report, proof: bytes) -> None:
    """Check what everybody checks of a proof: that there is one if and only if the round demands it, size and digest.

    Raises:
        ProofRefusedError: naming what does not hold.
    """
    most = agreed.proof_bytes_max(report.round)
    if len(proof) > most or bool(proof) != bool(most):
        expected = f"1 to {most}" if most else "no"
        raise ProofRefusedError(
            f"a proof of {len(proof)} bytes in a report of level {agreed.level}, expected {expected} bytes"
        )
    if aggregation.proof_digest(proof) != report.proof:
        raise ProofRefusedError(f"the proof is not the one that report {report.id.hex()} names")


def check_registration(agreed: Agreed, registered: Mapping[bytes, Registered], report: Report, data: bytes) -> None:
    """Check that a report refers to the registration `data`, and may; no data where the round wants no registration.

    Args:
        registered: what closes have registered so far, by trainer.

    Raises:
        UnregisteredError: none, an unknown one, one for other rounds, or another one than the trainer's present one.
        ContinuationError: a new one that does not continue the one before it.
        CollegiumError: one for more or fewer rounds than the task says.
    """
    most = agreed.registration_bytes_max(report.round)
    if not most:
        if report.registration != bytes(32) or data:
            raise UnregisteredError(f"round {report.round} is not about registered data, the report says it is")
        return
    if not data or len(data) > most or sha256(data).digest() != report.registration:
        raise UnregisteredError(
            f"registration {report.registration.hex()} of trainer {report.trainer.hex()} is not here: "
            f"{len(data)} bytes came, at most {most} may"
        )
    scope = agreed.registration_scope(data)
    if report.round not in scope.rounds:
        rounds = scope.rounds
        raise UnregisteredError(
            f"trainer {report.trainer.hex()} is registered for rounds {rounds.start} to {rounds.stop - 1}, this is "
            f"{report.round}: it must register anew",
            trainer=report.trainer,
        )
    present = registered.get(report.trainer)
    if present is not None and present.digest == report.registration:
        return
    if present is not None and report.round <= present.last_round:
        raise UnregisteredError(
            f"trainer {report.trainer.hex()} has registered {present.digest.hex()} up to round {present.last_round}, "
            f"the report refers to {report.registration.hex()}",
            trainer=report.trainer,
        )
    _check_continuation(present, report.trainer, scope)


def _check_continuation(present: Registered | None, trainer: bytes, scope: RegistrationScope) -> None:
    """Check that a registration takes up where the trainer's present one ends: round, digest and spare commitment."""
    who = f"trainer {trainer.hex()}"
    before = None if present is None else present.digest
    if scope.previous != before:
        said, known = ("none" if digest is None else digest.hex() for digest in (scope.previous, before))
        raise ContinuationError(f"{who} continues registration {said}, closes name {known}", trainer=trainer)
    if present is None:
        return
    if scope.rounds.start != present.last_round + 1:
        raise ContinuationError(
            f"{who} registers from round {scope.rounds.start} on, its registration before it ends with round "
            f"{present.last_round}",
            trainer=trainer,
        )
    if scope.begins != present.spare:
        raise ContinuationError(
            f"{who} begins a registration with another commitment than the spare one of {present.digest.hex()}: "
            f"nothing shows that the rows are the same",
            trainer=trainer,
        )


def new_registrations(
    agreed: Agreed, registered: Mapping[bytes, Registered], admitted: Iterable[tuple[Report, bytes]]
) -> tuple[Registered, ...]:
    """Return what a close that admits these reports registers, by trainer: what no close before it did."""
    found = []
    for report, registration in admitted:
        present = registered.get(report.trainer)
        if registration and (present is None or present.digest != report.registration):
            scope = agreed.registration_scope(registration)
            first, last = scope.rounds.start, scope.rounds.stop - 1
            found.append(Registered(report.trainer, report.registration, first, last, scope.spare))
    return tuple(sorted(found, key=lambda entry: entry.trainer))


# ------------------------------------------------------------------------------------------------ verify


def proof_key(terms: RoundTerms, report: Report) -> Hashable:
    """Return what names the verification of a report's proof: the id binds the digests of c, proof and registration."""
    return ("proof", terms.digest, report.id)


def registration_key(report: Report) -> Hashable:
    """Return what names the verification of the registration that a report refers to."""
    return ("registration", report.task, report.trainer, report.registration)


def check_proof(work: Work, agreed: Agreed, terms: RoundTerms, model: bytes, held: Held, vetted: bool = False) -> None:
    """Verify the registration, unless it is `vetted`, and the proof, and that the proof is about this key matrix.

    Raises:
        CollegiumError: one of them does not verify.
    """
    report = held.report
    if held.registration and not vetted:
        vet = partial(agreed.verify_registration, report.trainer, held.registration)
        work.once(registration_key(report), vet)

    def verify() -> None:
        claim = agreed.verify_proof(terms, model, report, held.ciphertext, held.proof, held.registration)
        if claim is not None:
            aggregation.check_claim(report, claim)

    work.once(proof_key(terms, report), verify)


def check_reject(work: Work, epoch_set: EpochSet, task: Digest, reject: ProofReject) -> None:
    """Check that a reject is its validator's.

    Raises:
        NoEvidenceError: it is not.
    """
    digest = reject.digest(task)
    signer = work.once(("reject", digest, reject.signature), lambda: recover_address(digest, reject.signature))
    if signer != epoch_set.validator(reject.validator).account:
        raise NoEvidenceError(f"reject of validator {reject.validator} is signed by {signer.hex()}")


def chosen_verifiers(terms: RoundTerms, trainer: bytes, count: int) -> tuple[bytes, ...]:
    """Return the accounts of the validators that the beacon chooses to verify a trainer's proof, at most `count`.

    Of those that hold a seat with a sealing key: who announced none is known to be absent, and gets no columns either.
    """
    present = {seat.validator for seat in terms.seats if seat.seal_key is not None}

    def rank(validator: bytes) -> Digest:
        return hash_fields("verifier", terms.task, terms.round, terms.beacon, trainer, validator)

    return tuple(sorted(present, key=rank)[:count])


def must_verify(context: RoundContext, state: RoundState, report: Report) -> bool:
    """Tell whether this validator must verify a report's proof at once: it was chosen to, or somebody rejects it."""
    if not context.agreed.proof_bytes_max(report.round):
        return False
    chosen = chosen_verifiers(state.terms, report.trainer, context.verifiers)
    return context.account.address in chosen or bool(state.rejects.get(report.id))


def is_vouched(terms: RoundTerms, report: Report, receipts: Iterable[Receipt], count: int) -> bool:
    """Tell whether every chosen verifier says in a receipt of one of its seats that it has verified the proof."""
    vouching = {terms.seats[receipt.seat].validator for receipt in receipts if report.id in receipt.verified}
    return vouching.issuperset(chosen_verifiers(terms, report.trainer, count))


def is_proved(context: RoundContext, state: RoundState, report: Report, close: Close | None = None) -> bool:
    """Tell whether a close with this report may be voted for here.

    It may if this validator has verified the proof, or if the chosen ones all vouch for it, in receipts that are known
    here or stand in `close`, and nobody rejects it.
    """
    if not context.agreed.proof_bytes_max(report.round):
        return True
    if report.id in state.verified or report.id in state.rejected:
        return report.id in state.verified
    if state.rejects.get(report.id):
        return False
    receipts = (*state.receipts.values(), *(() if close is None else close.signed))
    return is_vouched(state.terms, report, receipts, context.verifiers)


def overdue_proofs(context: RoundContext, state: RoundState, now: int) -> tuple[Held, ...]:
    """Return the reports whose proofs the chosen validators have not vouched for in time: everybody verifies them."""
    if state.close is not None:
        return ()
    return tuple(
        held
        for report, held in state.held().items()
        if report in state.arrived
        and now >= state.arrived[report] + context.timing.verify_ms
        and not is_proved(context, state, held.report)
    )


def failed_proofs(work: Work, agreed: Agreed, state: RoundState, close: Close) -> tuple[Digest, ...]:
    """Return the admitted reports whose proofs do not verify: who is to blame for a sum that does not open.

    Every admitted report must be here.
    """
    if not agreed.proof_bytes_max(close.round):
        return ()
    held, failed = state.held(), []
    for report in close.reports:
        try:
            check_proof(work, agreed, state.terms, state.model, held[report])
        except CollegiumError:
            failed.append(report)
    return tuple(failed)


# ------------------------------------------------------------------------------------------------ evidence


def verify_proof_evidence(
    work: Work, agreed: Agreed, epoch_set: EpochSet, terms: RoundTerms, model: bytes, evidence: ProofEvidence
) -> bytes:
    """Return the account that this evidence convicts; needs the round's terms, its model, and no word of anybody else.

    Raises:
        NoEvidenceError: it convicts nobody.
        CollegiumError: a signature in it does not hold.
    """
    held, report = evidence.held, evidence.held.report
    # 1. the trainer signed this report of this round, and named this c, this proof, this registration
    if (report.task, report.round, report.terms) != (terms.task, terms.round, terms.digest):
        raise NoEvidenceError(f"the report is of round {report.round} under other terms than round {terms.round}'s")
    if recover_address(report.id, report.signature) != report.trainer:
        raise NoEvidenceError(f"report {report.id.hex()} is not signed by its trainer")
    named = (report.ciphertext, report.proof, report.registration)
    ciphertext = sha256(aggregation.encode_ciphertext(held.ciphertext)).digest()
    if named != (ciphertext, *(aggregation.proof_digest(data) for data in (held.proof, held.registration))):
        raise NoEvidenceError(f"report {report.id.hex()} names another c, proof or registration")
    if sha256(model).digest() != terms.model:
        raise NoEvidenceError(f"the model given is not the one that round {terms.round} starts from")
    # 2. the proof verifies, or not
    try:
        check_proof_form(agreed, report, held.proof)
        check_proof(work, agreed, terms, model, held)
        fails = False
    except CollegiumError:
        fails = True
    if fails == isinstance(evidence, FalseReject):
        raise NoEvidenceError(f"the proof of report {report.id.hex()} {'fails' if fails else 'verifies'}, as was said")
    # 3. who said otherwise, signed that it did
    if isinstance(evidence, FailingProof):
        return report.trainer
    if isinstance(evidence, FalseReceipt):
        aggregation.check_receipt(terms, evidence.receipt)
        if report.id not in evidence.receipt.verified:
            raise NoEvidenceError(f"receipt of seat {evidence.receipt.seat} does not say that the proof was verified")
        return terms.seats[evidence.receipt.seat].validator
    if (evidence.reject.round, evidence.reject.report) != (terms.round, report.id):
        raise NoEvidenceError("the reject is of another report")
    check_reject(work, epoch_set, terms.task, evidence.reject)
    return epoch_set.validator(evidence.reject.validator).account


def verify_double_report(evidence: DoubleReport) -> bytes:
    """Return the account that this evidence convicts; needs nothing else.

    Raises:
        NoEvidenceError: it is one report, or two of other trainers, rounds or terms, or its trainer did not sign both.
        CollegiumError: a signature is none.
    """
    reports = (evidence.first, evidence.second)
    places = {(report.task, report.round, report.terms, report.trainer) for report in reports}
    if len(places) != 1 or evidence.first.id == evidence.second.id:
        raise NoEvidenceError(f"reports {evidence.first.id.hex()} and {evidence.second.id.hex()} exclude nothing")
    for report in reports:
        if recover_address(report.id, report.signature) != report.trainer:
            raise NoEvidenceError(f"report {report.id.hex()} is not signed by its trainer")
    return evidence.first.trainer
