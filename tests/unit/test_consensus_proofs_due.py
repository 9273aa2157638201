"""Which proofs a step is about to verify: all that it does verify, none that it does not, and nothing changes by it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from _round_stage import SEATS, Hall, Tally, committee, re_sign, wait
from test_consensus_proving import (
    BAD,
    GOOD,
    Proving,
    Registering,
    chosen,
    evidence,
    proved,
    registration_of,
    signed_reject,
)

from collegium.aggregation import Upload
from collegium.consensus import (
    DueProof,
    FailingProof,
    FalseReject,
    Refused,
    RepeatedReportError,
    ReportReply,
    RoundAlarm,
    proof_key,
    proofs_due,
)
from collegium.errors import CollegiumError
from collegium.node import SharedWork

T = TypeVar("T")


@dataclass
class Memory:
    """Remembers results; notes which proofs and registrations a step had to verify itself."""

    shared: SharedWork = field(default_factory=SharedWork)
    verified_in_step: list[Hashable] = field(default_factory=list)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        if isinstance(key, tuple) and key[0] in ("proof", "registration") and key not in self.shared.results:
            self.verified_in_step.append(key)
        return self.shared.once(key, compute)


class Foresight(Hall):
    """A hall in which everything that is due is verified before the step, and its results are entered."""

    def give(self, to: int, message: Any, sender: int | None = None) -> list[Any]:
        context, memory = self.contexts[to], self.memory(to)
        before = set(memory.shared.results)
        due = proofs_due(context, self.states[to], message, self.now, sender)
        for proof in due:
            results = foreseen(proof, context.agreed)
            for key, result in results.items():
                memory.shared.put(key, *result)
        effects = super().give(to, message, sender)
        looked = self.states[to].verified | self.states[to].rejected
        assert all(proof.held.report.id in looked for proof in due), "verified for nothing"
        assert {proof.key for proof in due}.isdisjoint(before), "verified twice"
        return effects

    def memory(self, index: int) -> Memory:
        work = self.contexts[index].work
        assert isinstance(work, Memory)
        return work

    def verified_in_steps(self) -> int:
        return sum(len(self.memory(i).verified_in_step) for i in self.contexts)


def foreseen(proof: DueProof, agreed: Any) -> dict[Hashable, Any]:
    """Return what verifying a proof elsewhere gives."""
    work = SharedWork()
    with suppress(CollegiumError):
        proof.verify(work, agreed)
    return work.results


def opened(trainers: int, agreed: Any = None) -> tuple[Hall, Foresight]:
    """Return the same round twice: as it is, and with foresight."""
    plain = Hall.opened(trainers, agreed=agreed or Proving()).spread()
    contexts = {i: replace(context, work=Memory()) for i, context in plain.contexts.items()}
    return plain, Foresight(contexts, dict(plain.states))


def outcome(hall: Hall) -> Any:
    """Return what the validators hold to be proved and not, what they said, and why they refused."""
    views = [(s.verified, s.rejected, s.vetted, s.arrived, s.rejects, s.receipts) for s in hall.states.values()]
    refused = [(i, e.sender, str(e.reason)) for i, e in hall.effects if isinstance(e, Refused)]
    return views, refused, hall.outbox


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"letters": BAD}, {"spoil": 1}], ids=["good", "bad", "another key"])
def test_steps_find_what_was_verified_before_and_come_to_the_same_end(changes: Any) -> None:
    plain, hall = opened(2)
    for each in (plain, hall):
        each.upload(proved(0))
        each.upload(proved(1, **changes))
        wait(each.spread(), 100)
    assert outcome(hall) == outcome(plain)
    assert hall.verified_in_steps() == 0
    report = proved(1, **changes).report.id
    assert all((report in state.rejected) == bool(changes) for i, state in hall.states.items() if i in chosen(1))
    assert bool(evidence(hall, FailingProof)) == bool(changes)


@pytest.mark.slow
@pytest.mark.parametrize("letters", [GOOD, BAD])
def test_registrations_are_verified_with_the_proofs(letters: bytes) -> None:
    plain, hall = opened(2, Registering())
    for each in (plain, hall):
        each.upload(proved(0, registration=registration_of(0)))
        each.upload(proved(1, registration=registration_of(1, letters=letters)))
        wait(each.spread(), 100)
    assert outcome(hall) == outcome(plain)
    assert hall.verified_in_steps() == 0
    report = proved(1, registration=registration_of(1, letters=letters)).report.id
    verdicts = [report in hall.states[i].verified for i in chosen(1)]
    assert verdicts == [letters == GOOD] * 4


def test_only_the_chosen_validators_have_something_to_verify_until_nobody_vouches() -> None:
    _, hall = opened(2)
    upload, silent = proved(0), chosen(0)
    due = {i: proofs_due(hall.contexts[i], hall.states[i], upload, hall.now) for i in hall.states}
    assert sorted(i for i, proofs in due.items() if proofs) == sorted(silent)
    for i in hall.states:
        if i not in silent:
            hall.give(i, upload)
    other = next(i for i in range(SEATS) if i not in silent)
    context, state = hall.contexts[other], hall.states[other]
    late = hall.now + context.timing.verify_ms
    assert proofs_due(context, state, RoundAlarm(0), late - 1) == ()
    (proof,) = proofs_due(context, state, RoundAlarm(0), late)
    assert proof.key == proof_key(state.terms, upload.report)
    wait(hall, context.timing.verify_ms)
    hall.give(other, RoundAlarm(0))
    assert upload.report.id in hall.states[other].verified
    assert hall.verified_in_steps() == 0


def test_a_reject_has_its_proof_verified_only_if_its_validator_signed_it() -> None:
    _, hall = opened(2)
    hall.upload(proved(0))
    wait(hall.spread(), 100)
    other = next(i for i in range(SEATS) if i not in (*chosen(0), 9))
    context, state, reject = hall.contexts[other], hall.states[other], signed_reject(proved(0).report, 9)
    forged = replace(reject, signature=signed_reject(proved(0).report, 8).signature)
    assert proofs_due(context, state, forged, hall.now, 9) == ()
    assert proofs_due(context, state, reject, hall.now, 8) == ()
    assert len(proofs_due(context, state, reject, hall.now, 9)) == 1
    hall.give(other, reject, 9)
    assert len(evidence(hall, FalseReject)) == 1
    assert hall.verified_in_steps() == 0


def test_a_report_that_another_validator_was_asked_for_is_verified_before_too() -> None:
    _, hall = opened(2)
    away = chosen(0)[0]
    hall.upload(proved(0), [i for i in hall.states if i != away])
    hall.spread(lambda _sender, to, message: None if to == away and isinstance(message, ReportReply) else message)
    reply = ReportReply(0, proved(0).report, proved(0).ciphertext, proved(0).proof)
    assert len(proofs_due(hall.contexts[away], hall.states[away], reply, hall.now, 3)) == 1
    nobody = replace(hall.states[away], sought={})
    assert proofs_due(hall.contexts[away], nobody, reply, hall.now, 3) == ()
    hall.give(away, reply, 3)
    assert proved(0).report.id in hall.states[away].verified
    assert hall.verified_in_steps() == 0


def refused_uploads() -> dict[str, Upload]:
    good = proved(0)
    stranger = replace(re_sign(good, 1).report, trainer=good.report.trainer)
    return {
        "a proof that the report does not name": replace(good, proof=good.proof + b"x"),
        "a masked update that it does not name": replace(good, ciphertext=bytes(len(good.ciphertext))),
        "signed by another trainer": replace(good, report=stranger),
        "of a trainer who takes no part": proved(3),
        "of another round": proved(0, terms=replace(committee().terms, round=1)),
        "with a box too few": replace(good, boxes=good.boxes[1:]),
        "about registered data": re_sign(good, 0, registration=bytes([1]) * 32),
    }


@pytest.mark.parametrize("what", refused_uploads())
def test_what_is_refused_without_its_proof_costs_none(what: str) -> None:
    _, hall = opened(2)
    upload = refused_uploads()[what]
    first = chosen(0)[0]
    assert all(proofs_due(hall.contexts[i], hall.states[i], upload, hall.now) == () for i in hall.states)
    assert len(proofs_due(hall.contexts[first], hall.states[first], proved(0), hall.now)) == 1


def test_a_second_report_and_a_copy_cost_nobody_a_proof() -> None:
    _, hall = opened(2)
    first = chosen(0)[0]
    hall.give(first, proved(0, letters=BAD))
    assert proved(0, letters=BAD).report.id in hall.states[first].rejected
    for upload in (proved(0), proved(0, letters=BAD)):
        assert proofs_due(hall.contexts[first], hall.states[first], upload, hall.now) == ()
    (refused,) = (e for e in hall.give(first, proved(0)) if isinstance(e, Refused))
    assert isinstance(refused.reason, RepeatedReportError)


def test_a_round_without_proofs_has_none_to_verify() -> None:
    plain = Hall.opened(2, agreed=Tally()).spread()
    assert proofs_due(plain.contexts[0], plain.states[0], proved(0), 0) == ()
    assert proofs_due(plain.contexts[0], plain.states[0], RoundAlarm(0), 1 << 30) == ()
