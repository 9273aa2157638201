"""A round whose reports carry proofs: who verifies what, what may be closed, and who is named when somebody lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from _round_stage import (
    EMPTY_MODEL,
    RANDOM,
    SEATS,
    TASK,
    EachForItself,
    Hall,
    Tally,
    Town,
    committee,
    re_sign,
    sum_of,
    update_of,
    wait,
)

from collegium import aggregation, algebra
from collegium.aggregation import KeyClaim, Receipt, Report, RoundTerms, Upload, begin_upload, finish_upload
from collegium.consensus import (
    Close,
    ContinuationError,
    EvidenceFound,
    FailingProof,
    FalseReceipt,
    FalseReject,
    Held,
    MalformedPayloadError,
    NoEvidenceError,
    NotSenderError,
    ProofRefusedError,
    ProofReject,
    Refused,
    Registered,
    RegistrationScope,
    RepeatedReportError,
    ReportReply,
    RoundAlarm,
    SeatReceipt,
    UnregisteredError,
    chosen_verifiers,
    decode_payload,
    encode_payload,
    verify_proof_evidence,
)
from collegium.consensus._close_rules import close_for
from collegium.consensus._proof_evidence import sign_reject
from collegium.consensus._proving import is_vouched, must_verify
from collegium.consensus._records import list_receipts
from collegium.consensus._round import payload_accepted
from collegium.errors import CollegiumError

POINT = (3, 5)
PROOF_BYTES_MAX = 4096
GOOD, BAD = b"good", b"bad!"
PRESENT = sha256(b"the registration before").digest()


class BadProofError(CollegiumError):
    """The stage's proofs say themselves whether they are good."""


@dataclass(frozen=True)
class Proving(Tally):
    """`Tally` with proofs: a proof is four letters, and then the claim about the key matrix."""

    level: str = "bounded"

    def proof_bytes_max(self, round_number: int) -> int:
        return PROOF_BYTES_MAX

    def verify_proof(
        self, terms: RoundTerms, model: bytes, report: Report, ciphertext: np.ndarray, proof: bytes, registration: bytes
    ) -> KeyClaim:
        if not proof.startswith(GOOD):
            raise BadProofError(f"a proof that begins with {proof[:4]!r}")
        return KeyClaim(POINT, algebra.from_bytes(proof[4:]).reshape(2, -1))


@dataclass(frozen=True)
class Registering(Proving):
    """`Proving` about registered data: a registration is first and last round, four letters, and what it continues."""

    level: str = "proved"

    def registration_bytes_max(self, round_number: int) -> int:
        return 70

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        rounds, linked = range(registration[0], registration[1] + 1), len(registration) > 16
        previous, begins = (registration[-33:-1], spare_of(registration[-1])) if linked else (None, None)
        return RegistrationScope(rounds, previous, begins, spare_of(registration[0]))

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        if not registration[2:].startswith(GOOD):
            raise BadProofError(f"a registration that says {registration[2:]!r}")


def spare_of(number: int) -> bytes:
    return sha256(b"spare" + bytes([number])).digest()


def registration_of(trainer: int, first: int = 0, last: int = 3, letters: bytes = GOOD, link: bytes = b"") -> bytes:
    """Return a registration; `link` is the digest of the one that it continues, and the number of its first spare."""
    return bytes([first, last]) + letters + bytes([trainer]) + link


@cache
def proved(
    trainer: int, terms: RoundTerms | None = None, letters: bytes = GOOD, registration: bytes = b"", spoil: int = 0
) -> Upload:
    """Return an upload whose proof begins with these letters; `spoil` changes a value of its claim."""
    terms, account = terms or committee().terms, committee().trainers[trainer]
    random = RANDOM.split(f"proved {terms.round} {trainer} {letters!r} {spoil}")
    draft = begin_upload(terms, account.address, update_of(trainer), random)
    values = algebra.evaluate_ext(draft.coefficients, POINT)
    assert not isinstance(values, tuple)
    values[0, 0] ^= np.uint64(spoil)
    proof = letters + algebra.to_bytes(values.reshape(-1))
    digest = aggregation.proof_digest(registration)
    upload = finish_upload(terms, draft, account, proof, registration=digest)
    return replace(upload, registration=registration)


def chosen(trainer: int) -> list[int]:
    """Return the validators that the beacon chooses for a trainer's report of round 0."""
    accounts = [validator.account for validator in committee().epoch_set.validators]
    return [accounts.index(a) for a in chosen_verifiers(committee().terms, committee().trainers[trainer].address, 4)]


def opened(trainers: int, absent: Iterable[int] = (), agreed: Any = None, **changes: Any) -> Hall:
    return Hall.opened(trainers, absent, agreed=agreed or Proving(), **changes).spread()


def accepts(hall: Hall, index: int, close: Close) -> bool:
    return payload_accepted(hall.contexts[index], hall.states[index], (), encode_payload(close), hall.now)


def evidence(hall: Hall, kind: type) -> list[Any]:
    return [found.evidence for found in hall.seen(EvidenceFound) if isinstance(found.evidence, kind)]


def convicted(item: Any, agreed: Any = None) -> bytes:
    return verify_proof_evidence(
        EachForItself(), agreed or Proving(), committee().epoch_set, committee().terms, EMPTY_MODEL, item
    )


# ------------------------------------------------------------------------------------------------ who verifies


def test_the_beacon_chooses_verifiers_for_each_trainer_and_all_agree() -> None:
    terms, trainers = committee().terms, [key.address for key in committee().trainers]
    drawn = {chosen_verifiers(terms, trainer, 4) for trainer in trainers}
    assert len(drawn) > 1
    assert all(len(set(accounts)) == 4 for accounts in drawn)
    assert chosen_verifiers(replace(terms, beacon=bytes(32)), trainers[0], 4) != chosen_verifiers(terms, trainers[0], 4)
    assert len(chosen_verifiers(terms, trainers[0], 99)) == SEATS


def test_who_announced_no_sealing_key_is_not_chosen() -> None:
    terms = committee().terms
    gone = chosen(0)[0]
    seats = tuple(replace(seat, seal_key=None) if i == gone else seat for i, seat in enumerate(terms.seats))
    silent = replace(terms, seats=seats)
    accounts = chosen_verifiers(silent, committee().trainers[0].address, 4)
    assert terms.seats[gone].validator not in accounts
    assert accounts[:3] == chosen_verifiers(terms, committee().trainers[0].address, 4)[1:]


def test_chosen_validators_verify_and_their_receipts_say_so() -> None:
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer))
    hall.spread()
    for trainer in range(2):
        report = proved(trainer).report
        assert [i for i, state in hall.states.items() if report.id in state.verified] == sorted(chosen(trainer))
        receipts = hall.states[0].receipts
        assert {seat for seat, receipt in receipts.items() if report.id in receipt.verified} == set(chosen(trainer))
        assert {seat for seat, receipt in receipts.items() if report.id in receipt.names} == set(range(SEATS))
        assert [must_verify(hall.contexts[i], hall.states[i], report) for i in chosen(trainer)] == [True] * 4


def test_a_round_with_proofs_opens_the_sum() -> None:
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer))
    wait(hall.spread(), 100)
    assert not hall.seen(Refused)
    close = hall.close()
    assert all(
        payload_accepted(c, hall.states[i], (), encode_payload(close), hall.now) for i, c in hall.contexts.items()
    )
    hall.finalise(close)
    certified = hall.spread().certified()
    assert (certified.header.outcome, certified.header.level) == ("opened", "bounded")
    hall.finish(certified)
    assert hall.states[0].model == sum_of(range(2)).astype("<i8").tobytes()
    assert not hall.seen(EvidenceFound)


# ------------------------------------------------------------------------------------------------ form


@pytest.mark.parametrize("what", ["none", "long", "another"])
def test_a_proof_that_is_missing_too_long_or_another_one_is_refused_by_everybody(what: str) -> None:
    upload = proved(0)
    if what == "none":
        upload = aggregation.make_upload(committee().terms, committee().trainers[0], update_of(0), RANDOM.split("none"))
    elif what == "long":
        proof = upload.proof + bytes(PROOF_BYTES_MAX)
        upload = replace(re_sign(upload, 0, proof=sha256(proof).digest()), proof=proof)
    else:
        upload = replace(upload, proof=upload.proof[:-1] + bytes([upload.proof[-1] ^ 1]))
    hall = opened(2)
    hall.upload(upload)
    assert hall.refusals(ProofRefusedError) == list(range(SEATS))
    assert not hall.states[0].reports


def test_an_unproved_round_takes_no_proof_and_no_registration() -> None:
    hall = opened(2, agreed=Tally())
    hall.upload(proved(0), [0])
    assert hall.refusals(ProofRefusedError) == [0]
    plain = aggregation.make_upload(committee().terms, committee().trainers[0], update_of(0), RANDOM.split("plain"))
    hall.upload(replace(plain, registration=b"x"), [1])
    assert hall.refusals(UnregisteredError) == [1]
    hall.upload(plain, [2])
    assert hall.states[2].reports
    (refused,) = hall.give(3, signed_reject(plain.report, 4))
    assert isinstance(refused.reason, ProofRefusedError)


# ------------------------------------------------------------------------------------------------ a bad proof


@pytest.mark.parametrize("bad", [{"letters": BAD}, {"spoil": 1}], ids=["proof", "claim about another key"])
def test_a_proof_that_does_not_verify_keeps_its_report_out_everywhere_and_names_the_trainer(bad: Any) -> None:
    hall, upload = opened(3), proved(2, **bad)
    for trainer in range(2):
        hall.upload(proved(trainer))
    hall.upload(upload)
    wait(hall.spread(), 100)
    assert all(upload.report.id in state.rejected for state in hall.states.values())
    assert {convicted(item) for item in evidence(hall, FailingProof)} == {committee().trainers[2].address}
    assert not evidence(hall, FalseReceipt)
    assert not evidence(hall, FalseReject)
    close = hall.close()  # before the deadline: a trainer that is shown to cheat is not waited for
    assert close.reports == tuple(sorted(proved(trainer).report.id for trainer in range(2)))
    for i, context in hall.contexts.items():
        assert payload_accepted(context, hall.states[i], (), encode_payload(close), hall.now)


def test_nobody_votes_for_a_close_with_a_report_whose_proof_fails() -> None:
    hall, upload = opened(3), proved(2, letters=BAD)
    for trainer in range(2):
        hall.upload(proved(trainer))
    hall.upload(upload)
    wait(hall.spread(), 100)
    good = hall.close()
    reports = tuple(sorted((*good.reports, upload.report.id)))
    bad = replace(signed_by(good, reports, verified=reports), reports=reports, weights=(1,) * 3)
    for i, context in hall.contexts.items():
        assert not payload_accepted(context, hall.states[i], (), encode_payload(bad), hall.now)


def signed_by(close: Close, reports: Iterable[bytes], verified: Iterable[bytes] = ()) -> Close:
    """Return a close with other receipts of its seats: for these reports, of which they have verified some."""
    terms, accounts = committee().terms, committee().accounts
    receipts = [aggregation.issue_receipt(terms, i, reports, accounts[i], verified) for i in close.seats]
    listed, rows = list_receipts(receipts)
    return replace(close, listed=listed, receipts=rows)


def vouched(report: Report, seat: int) -> Receipt:
    """Return a seat's receipt for one report, of which it says that it has verified the proof."""
    return aggregation.issue_receipt(committee().terms, seat, [report.id], committee().accounts[seat], [report.id])


def test_a_second_report_of_a_trainer_whose_proof_failed_is_refused() -> None:
    hall = opened(2)
    hall.upload(proved(0, letters=BAD))
    hall.spread()
    hall.upload(proved(0))
    assert hall.refusals(RepeatedReportError) == list(range(SEATS))


def test_a_receipt_that_vouches_for_a_failing_proof_convicts_its_validator() -> None:
    """Whether it arrives after the proof was found to fail, or before."""
    upload, liar = proved(0, letters=BAD), next(i for i in range(SEATS) if i not in chosen(0))
    false = vouched(upload.report, liar)
    hall, other = opened(2), next(i for i in range(SEATS) if i not in (*chosen(0), liar))
    hall.upload(upload, [other])
    assert not hall.give(other, SeatReceipt(0, false), liar)
    hall.upload(upload, chosen(0)[:1])
    hall.spread()
    found = [item for i, item in hall.effects if i == other and isinstance(item, EvidenceFound)]
    assert [type(item.evidence) for item in found] == [FailingProof, FalseReceipt]
    assert convicted(found[1].evidence) == committee().accounts[liar].address
    (late,) = [e for e in hall.give(chosen(0)[0], SeatReceipt(0, false), liar) if isinstance(e, EvidenceFound)]
    assert convicted(late.evidence) == committee().accounts[liar].address


# ------------------------------------------------------------------------------------------------ rejects


def signed_reject(report: Report, validator: int) -> ProofReject:
    return sign_reject(ProofReject(report.round, report.id, validator), TASK, committee().accounts[validator])


def test_a_false_reject_makes_everybody_verify_and_convicts_who_signed_it() -> None:
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer))
    wait(hall.spread(), 100)
    report, liar = proved(0).report, 9
    for i in hall.states:
        hall.give(i, signed_reject(report, liar), liar)
    assert all(report.id in state.verified for state in hall.states.values())
    assert not any(state.rejected for state in hall.states.values())
    found = evidence(hall, FalseReject)
    assert len(found) == SEATS
    assert {convicted(item) for item in found} == {committee().accounts[liar].address}
    close = wait(hall, 100).close()
    assert accepts(hall, 3, close)


def test_a_reject_before_its_report_is_remembered() -> None:
    hall, report = opened(2), proved(0).report
    other = next(i for i in range(SEATS) if i not in (*chosen(0), 9))
    hall.give(other, signed_reject(report, 9), 9)
    hall.upload(proved(0), [other])
    assert report.id in hall.states[other].verified
    assert [convicted(item) for item in evidence(hall, FalseReject)] == [committee().accounts[9].address]


def test_rejects_of_others_or_beyond_an_honest_validators_share_are_refused() -> None:
    hall, report = opened(2), proved(0).report
    (refused,) = hall.give(0, signed_reject(report, 9), 8)
    assert isinstance(refused.reason, NotSenderError)
    (refused,) = hall.give(0, replace(signed_reject(report, 9), signature=signed_reject(report, 8).signature), 9)
    assert isinstance(refused.reason, NoEvidenceError)
    for number in range(3):
        reject = ProofReject(0, bytes([number]) * 32, 9)
        effects = hall.give(0, sign_reject(reject, TASK, committee().accounts[9]), 9)
        assert [type(e.reason) for e in effects] == ([NotSenderError] if number == 2 else [])


# ------------------------------------------------------------------------------------------------ silence


def test_what_the_chosen_do_not_vouch_for_everybody_verifies_in_time() -> None:
    """They announced keys and then fell silent: nobody votes at first, and everybody verified himself after a while."""
    silent = chosen(0)[:2]
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer), [i for i in hall.states if i not in silent])
    wait(hall.spread(), 100)
    context, report = hall.contexts[0], proved(0).report
    speaking = next(i for i in range(SEATS) if i not in (*chosen(0), *chosen(1)))
    assert close_for(hall.contexts[speaking], hall.states[speaking], hall.now) is None
    wait(hall, context.timing.verify_ms)
    for i in sorted(set(hall.states) - set(silent)):
        hall.give(i, RoundAlarm(0))
    assert report.id in hall.states[speaking].verified
    close = close_for(hall.contexts[speaking], hall.states[speaking], wait(hall, 100).now)
    assert close is not None
    assert not is_vouched(committee().terms, report, close.signed, 4)
    for i in sorted(set(hall.states) - set(silent)):
        assert accepts(hall, i, close)


def test_a_close_that_nobody_vouched_for_gets_no_vote_from_who_has_not_verified() -> None:
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer))
    wait(hall.spread(), 100)
    close = hall.close()
    voter = next(i for i in range(SEATS) if i not in (*chosen(0), *chosen(1)))
    state = hall.states[voter]
    stripped = {seat: replace(receipt, verified=()) for seat, receipt in state.receipts.items()}
    silent = signed_by(close, close.reports)
    late = hall.now + hall.contexts[voter].timing.deadline_ms
    assert not payload_accepted(
        hall.contexts[voter], replace(state, receipts=stripped), (), encode_payload(silent), late
    )
    verified = replace(state, receipts=stripped, verified=frozenset(close.reports))
    assert payload_accepted(hall.contexts[voter], verified, (), encode_payload(silent), hall.now)


@pytest.mark.slow
def test_a_round_of_whole_validators_survives_verifiers_that_fall_silent_half_way() -> None:
    silent = chosen(0)[:3]

    def muted(sender: int, to: int, message: Any) -> Any:
        return None if sender in silent and isinstance(message, SeatReceipt) else message

    town = Town(2, tamper=muted, agreed=Proving())
    for trainer in range(2):
        for to in town.states:
            town._post(to, 10, proved(trainer))
    finished = town.run_round(20_000)
    assert {done.header.outcome for done in finished} == {"opened"}


# ------------------------------------------------------------------------------------------------ a lost sum has a name


def test_a_sum_that_does_not_open_names_the_trainer_and_every_false_verifier() -> None:
    """All chosen verifiers lie: the close is final with a malformed c, and its header says whose proof fails."""
    hall, upload = opened(2), garbage_upload()
    for to in hall.states:
        for each in (proved(0), upload):
            hall.give(to, each)
    liars = chosen(1)
    assert all(upload.report.id in hall.states[i].rejected for i in liars)
    pretending = {i: replace(state, rejected=frozenset(), rejects={}) for i, state in hall.states.items()}
    hall.states, hall.outbox = pretending, [m for m in hall.outbox if not isinstance(m[2], ProofReject)]
    hall.effects.clear()
    for i in liars:  # they open their columns, and vouch
        hall.states[i] = replace(hall.states[i], verified=frozenset((proved(0).report.id, upload.report.id)))
        hall.give(i, upload)
    wait(hall.spread(), 100)
    hall.states = {i: replace(s, verified=s.verified - {upload.report.id}) for i, s in hall.states.items()}
    close = hall.close()
    assert all(
        payload_accepted(c, hall.states[i], (), encode_payload(close), hall.now) for i, c in hall.contexts.items()
    )
    hall.finalise(close)
    certified = hall.spread().certified()
    assert (certified.header.outcome, certified.header.failed) == ("invalid", (upload.report.id,))
    assert {convicted(item) for item in evidence(hall, FailingProof)} == {committee().trainers[1].address}
    convicts = {convicted(item) for item in evidence(hall, FalseReceipt)}
    assert convicts == {committee().accounts[i].address for i in liars}
    hall.finish(certified)
    assert hall.states[0].model == EMPTY_MODEL


def garbage_upload() -> Upload:
    """Return a report about a c that is not A s + e + 2^nu m, with a proof that fails."""
    terms, account = committee().terms, committee().trainers[1]
    draft = begin_upload(terms, account.address, update_of(1), RANDOM.split("garbage"))
    noise = algebra.sample_field(RANDOM.split("uniform"), draft.ciphertext.size).reshape(draft.ciphertext.shape)
    data = aggregation.encode_ciphertext(noise)
    draft = replace(draft, ciphertext=noise, ciphertext_bytes=data, ciphertext_digest=sha256(data).digest())
    return finish_upload(terms, draft, account, BAD + bytes(8))


# ------------------------------------------------------------------------------------------------ evidence


def held_of(upload: Upload) -> Held:
    ciphertext = aggregation.decode_ciphertext(committee().terms.layout, upload.ciphertext)
    return Held(upload.report, ciphertext, upload.proof, upload.registration)


def test_evidence_convicts_nobody_when_the_proof_is_as_was_said() -> None:
    good, bad = proved(0), proved(0, letters=BAD)
    receipt = vouched(good.report, 3)
    for item in (
        FailingProof(held_of(good)),
        FalseReceipt(held_of(good), receipt),
        FalseReject(held_of(bad), signed_reject(bad.report, 3)),
    ):
        with pytest.raises(NoEvidenceError, match="as was said"):
            convicted(item)


def test_evidence_must_fit_together() -> None:
    bad, other = proved(0, letters=BAD), proved(1)
    held = held_of(bad)
    honest = aggregation.issue_receipt(committee().terms, 3, [bad.report.id], committee().accounts[3])
    forged = replace(honest, verified=honest.reports)
    moved = replace(re_sign(bad, 1).report, trainer=bad.report.trainer)
    wrong: list[tuple[Any, type[CollegiumError], str]] = [
        (FailingProof(replace(held, proof=other.proof)), NoEvidenceError, "names another c, proof or registration"),
        (FailingProof(replace(held, ciphertext=held_of(other).ciphertext)), NoEvidenceError, "names another c"),
        (FailingProof(replace(held, registration=b"x")), NoEvidenceError, "names another c, proof or registration"),
        (FailingProof(replace(held, report=moved)), NoEvidenceError, "is not signed by its trainer"),
        (FailingProof(held_of(proved(0, terms=replace(committee().terms, round=1)))), NoEvidenceError, "other terms"),
        (FalseReceipt(held, honest), NoEvidenceError, "does not say that the proof was verified"),
        (FalseReceipt(held, forged), aggregation.ReceiptRejectedError, "is signed by"),
        (FalseReject(held_of(other), signed_reject(bad.report, 3)), NoEvidenceError, "the reject is of another report"),
        (
            FalseReject(held_of(other), replace(signed_reject(other.report, 3), validator=4)),
            NoEvidenceError,
            "is signed by",
        ),
    ]
    for item, error, match in wrong:
        with pytest.raises(error, match=match):
            convicted(item)


# ------------------------------------------------------------------------------------------------ registered data


def registering(trainers: int = 2) -> Hall:
    return opened(trainers, agreed=Registering())


def test_registrations_are_named_by_the_close_that_admits_them_first_and_kept() -> None:
    hall = registering()
    for trainer in range(2):
        hall.upload(proved(trainer, registration=registration_of(trainer)))
    wait(hall.spread(), 100)
    close = hall.close()
    addresses = sorted(committee().trainers[i].address for i in range(2))
    assert [(entry.trainer, entry.first_round, entry.last_round) for entry in close.registered] == [
        (address, 0, 3) for address in addresses
    ]
    hall.finalise(close)
    hall.finish(hall.spread().certified())
    for state in hall.states.values():
        assert set(state.registered) == set(addresses)
        assert set(state.registrations) == {entry.digest for entry in close.registered}
    terms = hall.spread().states[0].terms
    hall.effects.clear()
    for trainer in range(2):  # the seats hold the registration: only its digest travels
        upload = proved(trainer, terms, registration=registration_of(trainer))
        hall.upload(replace(upload, registration=b""))
    wait(hall.spread(), 100)
    assert not hall.seen(Refused)
    assert hall.close().registered == ()


def test_a_close_must_name_exactly_what_it_is_the_first_to_register() -> None:
    hall = registering()
    for trainer in range(2):
        hall.upload(proved(trainer, registration=registration_of(trainer)))
    wait(hall.spread(), 100)
    close = hall.close()
    one, other = close.registered
    assert accepts(hall, 3, close)
    for registered in ((), (one,), (other, one), (one, replace(other, last_round=4)), (one, other, other)):
        changed = replace(close, registered=registered)
        assert changed.digest != close.digest
        assert not accepts(hall, 3, changed)


@pytest.mark.parametrize(
    ("registration", "match"),
    [
        (b"", "is not here"),
        (registration_of(0) + bytes(64), "is not here: 71 bytes came, at most 70 may"),
        (registration_of(0, first=1), "registered for rounds 1 to 3, this is 0: it must register anew"),
    ],
    ids=["none", "long", "later"],
)
def test_a_trainer_without_a_registration_for_the_round_is_refused(registration: bytes, match: str) -> None:
    hall = registering()
    hall.upload(proved(0, registration=registration))
    assert hall.refusals(UnregisteredError) == list(range(SEATS))
    reasons = [effect.reason for effect in hall.seen(Refused)]
    assert all(match in str(reason) for reason in reasons)


def test_another_registration_is_refused_until_the_present_one_is_used_up() -> None:
    hall = registering()
    digest = sha256(registration_of(0)).digest()
    present = Registered(committee().trainers[0].address, digest, 0, 0, spare_of(9))
    fresh = proved(0, registration=registration_of(0, letters=GOOD + b"2", link=digest + b"\x09"))
    hall.states[0] = replace(hall.states[0], registered={present.trainer: present})
    hall.upload(fresh, [0])
    assert hall.refusals(UnregisteredError) == [0]
    hall.states[1] = replace(
        hall.states[1], registered={present.trainer: replace(present, first_round=-1, last_round=-1)}
    )
    hall.upload(fresh, [1])
    assert hall.refusals(UnregisteredError) == [0]
    assert hall.states[1].reports


@pytest.mark.parametrize(
    ("link", "last_round", "match"),
    [
        (b"", -1, "continues registration none, closes name"),
        (bytes(32) + b"\x09", -1, f"continues registration {bytes(32).hex()}, closes name"),
        (PRESENT + b"\x09", -2, "registers from round 0 on, its registration before it ends with round -2"),
        (PRESENT + b"\x08", -1, "begins a registration with another commitment than the spare one of"),
        (PRESENT + b"\x09", None, f"continues registration {PRESENT.hex()}, closes name none"),
    ],
    ids=["no predecessor", "another predecessor", "a skipped round", "another spare", "a predecessor never admitted"],
)
def test_a_registration_that_does_not_continue_the_one_before_is_refused(
    link: bytes, last_round: int | None, match: str
) -> None:
    hall = registering()
    if last_round is not None:
        present = Registered(committee().trainers[0].address, PRESENT, -9, last_round, spare_of(9))
        hall.states[0] = replace(hall.states[0], registered={present.trainer: present})
    hall.upload(proved(0, registration=registration_of(0, link=link)), [0])
    assert hall.refusals(ContinuationError) == [0]
    assert not hall.states[0].reports
    assert all(match in str(effect.reason) for effect in hall.seen(Refused))


def test_a_close_names_the_spare_commitment_that_the_next_registration_begins_with() -> None:
    hall = registering()
    for trainer in range(2):
        hall.upload(proved(trainer, registration=registration_of(trainer)))
    wait(hall.spread(), 100)
    close = hall.close()
    assert [entry.spare for entry in close.registered] == [spare_of(0)] * 2
    other = replace(close, registered=tuple(replace(entry, spare=spare_of(1)) for entry in close.registered))
    assert other.digest != close.digest
    assert not accepts(hall, 3, other)
    short = replace(close, registered=tuple(replace(entry, spare=bytes(31)) for entry in close.registered))
    with pytest.raises(MalformedPayloadError, match="2 fields of wrong length"):
        decode_payload(encode_payload(short))


def test_a_registration_that_does_not_verify_is_a_failing_proof() -> None:
    hall = registering()
    hall.upload(proved(0, registration=registration_of(0, letters=BAD)))
    hall.spread()
    assert all(state.rejected for state in hall.states.values())
    found = evidence(hall, FailingProof)
    assert {convicted(item, Registering()) for item in found} == {committee().trainers[0].address}


def test_a_reply_brings_proof_and_registration_along_and_is_verified_where_chosen() -> None:
    hall, upload = registering(), proved(0, registration=registration_of(0))
    lacking = chosen(0)[0]
    hall.upload(upload, [i for i in hall.states if i != lacking])
    hall.spread()
    state = hall.states[lacking]
    assert upload.report.id in state.fetched, "asked for when more vouch for it than can all be bad"
    assert upload.report.id in state.verified
    held = state.held()[upload.report.id]
    assert (held.proof, held.registration) == (upload.proof, upload.registration)
    bare = opened(2, agreed=Registering())
    bare.states[lacking] = replace(bare.states[lacking], receipts={})
    reply = ReportReply(0, upload.report, upload.ciphertext)
    assert not bare.give(lacking, reply)  # not asked for


def test_a_close_keeps_its_receipts_as_they_were_signed() -> None:
    hall = opened(2)
    for trainer in range(2):
        hall.upload(proved(trainer))
    wait(hall.spread(), 100)
    close: Close = decode_payload(encode_payload(hall.close()))
    assert [receipt.seat for receipt in close.signed] == list(range(SEATS))
    for receipt in close.signed:
        assert receipt == hall.states[0].receipts[receipt.seat]
        aggregation.check_receipt(committee().terms, receipt)
