"""One learning round, validator by validator: every case of the table in docs/spec/round.md, with its named outcome.

`Hall` and `Town` are described in `_round_stage.py`. Validators share no work here: each computes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from _round_stage import (
    EMPTY_MODEL,
    LINK_MS,
    RANDOM,
    SEATS,
    TASK,
    EachForItself,
    Hall,
    Tally,
    Tamper,
    Town,
    admitted,
    committee,
    deny,
    faithful,
    garble,
    proposed,
    proposed_as,
    re_sign,
    released_as,
    resign_sum,
    sum_of,
    update_of,
    upload_of,
    wait,
)

from collegium import aggregation, algebra
from collegium.aggregation import (
    COMMITTEE_DOMAIN,
    KEY_CODE,
    AuditFailedError,
    ColumnsRejectedError,
    KeySum,
    Layout,
    ReceiptRejectedError,
    ReportRejectedError,
    SealedColumnsError,
    SumInvalidError,
    open_columns,
    open_sum,
    weighted_total,
)
from collegium.aggregation import _report as report_module
from collegium.codes import vanishing_polynomial
from collegium.consensus import (
    Announcement,
    Certified,
    Close,
    CloseRefusedError,
    DoubleReport,
    Header,
    HeaderProposal,
    HeaderVote,
    KeepUpload,
    NoEvidenceError,
    NotInCohortError,
    NotSenderError,
    ProposalRefusedError,
    Refused,
    Release,
    ReleaseRecord,
    RepeatedReportError,
    ReportReply,
    ReportRequest,
    RoundAlarm,
    RoundBroadcast,
    RoundFinished,
    RoundSend,
    RoundTimer,
    RoundTiming,
    SeatReceipt,
    UnknownValidatorError,
    WrongRoundError,
    check_certified,
    check_close,
    decode_payload,
    encode_payload,
    seat_quorum,
    sign_proposal,
    total_digest,
    verify_double_report,
)
from collegium.consensus._close_rules import check_keys, close_for, is_complete, least_admitted
from collegium.consensus._records import list_receipts
from collegium.consensus._round import next_payload, payload_accepted, release
from collegium.consensus._round_types import RoundState, RoundSubmit
from collegium.crypto import BadBeaconError, SealKey, SealKeyError, Stream, encode_certificate, make_certificate
from collegium.errors import CollegiumError
from collegium.node import SharedWork

DEADLINE_MS = 60_000
KEYS_MS = 1_000
QUORUM = 11  # of 16 validators
TURN_MS = 1_500
DECODING = 11  # seats of 16 that decode the key sum: ceil(5468 / 512)
NEEDED = 13  # seats of 16 that decode it although one of them lies


def signed_for(state: RoundState, report: bytes) -> set[int]:
    """Return the seats whose receipts name a report."""
    return {seat for seat, receipt in state.receipts.items() if report in receipt.names}


def model_of(trainers: range | list[int]) -> bytes:
    return sum_of(trainers).astype("<i8").tobytes()


def vote(hall: Hall, proposal: HeaderProposal) -> Certified:
    """Let everybody hear a proposal and vote; return what was certified."""
    hall.outbox.append((proposal.proposer, None, proposal))
    return hall.spread().certified()


def played(hall: Hall) -> tuple[Close, Certified]:
    """Play a hall with receipts to its end: close, release, open, certify, finish."""
    close = hall.close()
    hall.finalise(close)
    certified = hall.spread().certified()
    hall.finish(certified)
    return close, certified


# ------------------------------------------------------------------------------------------------ admit


def test_every_seat_signs_a_receipt_and_the_round_opens_the_sum() -> None:
    hall = admitted(3)
    assert not hall.seen(Refused)
    receipts = hall.states[0].receipts
    assert set(receipts) == set(range(SEATS))
    assert all(receipt.names == {upload_of(i).report.id for i in range(3)} for receipt in receipts.values())
    close, certified = played(hall)
    assert close.seats == tuple(range(SEATS))
    assert len(close.reports) == 3
    assert certified.header.outcome == "opened"
    assert certified.header.total == total_digest(sum_of(range(3)))
    assert {state.model for state in hall.states.values()} == {model_of(range(3))}
    assert {state.terms.digest for state in hall.states.values()} == {hall.states[0].terms.digest}


@pytest.mark.parametrize("kind", ["none", "garbage"])
def test_missing_columns_cost_that_seats_receipt_and_nothing_else(kind: str) -> None:
    honest = upload_of(2)
    if kind == "none":  # the report says so itself
        upload = deny(honest, 2, [4])
    else:  # the report names a box that nobody can open
        box = bytes(len(honest.boxes[4] or b""))
        digests = (*honest.report.boxes[:4], sha256(box).digest(), *honest.report.boxes[5:])
        upload = replace(re_sign(honest, 2, boxes=digests), boxes=(*honest.boxes[:4], box, *honest.boxes[5:]))
    hall = Hall.opened(3).spread()
    for sent in (upload_of(0), upload_of(1), upload):
        hall.upload(sent)
    wait(hall.spread(), 100)
    assert hall.refusals(SealedColumnsError) == [4]
    close, certified = played(hall)
    assert close.seats == tuple(i for i in range(SEATS) if i != 4)
    assert (certified.header.outcome, certified.header.lying) == ("opened", ())
    assert hall.states[4].model == model_of(range(3))  # the seat that was denied follows the round


@pytest.mark.parametrize("kind", ["withheld", "replaced"])
def test_a_box_that_a_gateway_spoils_does_not_cost_the_honest_copy(kind: str) -> None:
    honest = upload_of(0)
    box = None if kind == "withheld" else honest.boxes[5]
    hall = Hall.opened(2)
    hall.give(4, replace(honest, boxes=(*honest.boxes[:4], box, *honest.boxes[5:])))
    assert hall.refusals(SealedColumnsError if kind == "withheld" else ReportRejectedError) == [4]
    assert not hall.states[4].columns
    hall.give(4, honest)
    assert set(hall.states[4].columns) == {(honest.report.id, 4)}


def test_columns_that_are_committed_but_wrong_cost_that_seats_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = report_module._commit_key
    with monkeypatch.context() as cheat:
        cheat.setattr(report_module, "_commit_key", lambda key, random: spoil_column(commit(key, random), 4 * 512 + 3))
        upload = aggregation.make_upload(
            committee().terms, committee().trainers[2], update_of(2), RANDOM.split("wrong columns")
        )
    hall = Hall.opened(3).spread()
    for sent in (upload_of(0), upload_of(1), upload):
        hall.upload(sent)
    wait(hall.spread(), 100)
    assert hall.refusals(ColumnsRejectedError) == [4]
    close, certified = played(hall)
    assert 4 not in close.seats
    # seat 4 has no right column to add, so its sum is not missed, and nobody is called a liar
    assert (certified.header.outcome, certified.header.lying) == ("opened", ())


def spoil_column(committed: tuple[np.ndarray, Any, bytes], position: int) -> tuple[np.ndarray, Any, bytes]:
    """Return a key matrix committed with one wrong symbol at a committee position."""
    coefficients, _, seeds = committed
    domains = (COMMITTEE_DOMAIN, aggregation.AUDIT_DOMAIN)
    words = [KEY_CODE.encode(coefficients, domain) for domain in domains]
    words[0][0, position] ^= np.uint64(1)
    salts = [report_module._salts(seeds), bytes(16 * domains[1].size)]
    return coefficients, report_module.CommittedMatrix(words, salts), seeds


def denied_by_three(seats_each: int) -> Hall:
    """A hall of six trainers, the last three denying disjoint groups of seats."""
    hall = Hall.opened(6).spread()
    for trainer in range(6):
        upload = upload_of(trainer)
        if trainer >= 3:
            start = (trainer - 3) * seats_each
            upload = deny(upload, trainer, range(start, start + seats_each))
        hall.upload(upload)
    return wait(hall.spread(), 100)


@pytest.mark.slow
@pytest.mark.parametrize("seats_each", [2, 3])
def test_three_trainers_denying_disjoint_seats_are_left_out_until_the_rest_decodes(seats_each: int) -> None:
    hall = denied_by_three(seats_each)
    assert hall.states[0].close is None
    wait(hall, DEADLINE_MS)
    close, certified = played(hall)
    honest = {upload_of(trainer).report.id for trainer in range(3)}
    assert honest < set(close.reports)
    assert len(close.reports) == 4, "with one denier the common seats still decode; with two they do not"
    assert NEEDED <= len(close.seats) == SEATS - seats_each
    assert certified.header.outcome == "opened"
    assert {state.terms.round for state in hall.states.values()} == {1}


def test_a_trainer_that_denies_four_seats_is_left_out_by_itself() -> None:
    hall = Hall.opened(4).spread()
    for sent in (*(upload_of(trainer) for trainer in range(3)), deny(upload_of(3), 3, range(4))):
        hall.upload(sent)
    hall.spread()
    wait(hall, DEADLINE_MS)
    close, _ = played(hall)
    assert set(close.reports) == {upload_of(trainer).report.id for trainer in range(3)}
    assert close.seats == tuple(range(SEATS))
    assert hall.states[0].model == model_of(range(3))


def test_a_second_report_of_one_trainer_is_refused_and_the_first_stands() -> None:
    hall = Hall.opened(2)
    hall.give(0, upload_of(0))
    assert hall.give(0, upload_of(0)) == []  # once more the same: nothing to say
    refused, found = hall.give(0, upload_of(0, draw=1))
    assert isinstance(refused.reason, RepeatedReportError)
    assert isinstance(found.evidence, DoubleReport)
    assert verify_double_report(found.evidence) == committee().trainers[0].address
    assert hall.states[0].reports[committee().trainers[0].address].report.id == upload_of(0).report.id


def test_two_reports_that_do_not_exclude_each_other_convict_nobody() -> None:
    first, second = upload_of(0).report, upload_of(0, draw=1).report
    good = DoubleReport(first, second)
    for wrong in (
        replace(good, second=first),
        replace(good, second=upload_of(1).report),
        replace(good, second=replace(second, signature=first.signature)),
    ):
        with pytest.raises(NoEvidenceError):
            verify_double_report(wrong)


def test_forged_and_repeated_reports_leave_nothing_behind_that_grows() -> None:
    """What is shared of a report, its masked update above all, is computed after its signature and repetition."""
    work = SharedWork()
    hall = Hall.opened(2, work=work)
    hall.give(0, upload_of(0))
    before = work.held_bytes
    for draw in range(1, 4):
        refused, _ = hall.give(0, upload_of(0, draw))
        assert isinstance(refused.reason, RepeatedReportError)
        forged = replace(upload_of(1).report, signature=upload_of(0, draw).report.signature)
        (refused,) = hall.give(0, replace(upload_of(1), report=forged))
        assert isinstance(refused.reason, ReportRejectedError)
    assert work.held_bytes - before < 6 * 1_000 < len(upload_of(0).ciphertext)
    hall.give(0, upload_of(1))
    assert work.held_bytes - before > len(upload_of(1).ciphertext), "an honest one is shared"


def test_a_copy_that_brings_nothing_new_delays_no_close() -> None:
    """Else whoever repeats a report every few milliseconds holds up every round to its deadline."""
    hall = Hall.opened(1)
    hall.give(5, replace(upload_of(0), boxes=(*upload_of(0).boxes[:5], None, *upload_of(0).boxes[6:])))
    hall.give(4, upload_of(0))
    assert hall.states[4].changed_ms == hall.states[5].changed_ms == 0
    wait(hall, 15)
    for validator in (4, 5):
        hall.give(validator, upload_of(0))
    assert hall.states[4].changed_ms == 0
    assert hall.states[5].changed_ms == 15, "the box that was missing"


def test_reports_of_strangers_and_other_rounds_are_refused_and_the_next_rounds_wait() -> None:
    hall = Hall.opened(2)
    (refused,) = hall.give(0, upload_of(2))
    assert isinstance(refused.reason, NotInCohortError)
    (refused,) = hall.give(0, re_sign(upload_of(0), 0, round=2))
    assert isinstance(refused.reason, WrongRoundError)
    (kept,) = hall.give(0, re_sign(upload_of(0), 0, round=1))
    assert isinstance(kept, KeepUpload), "a trainer sends once"
    assert len(hall.states[0].ahead) == 1
    assert hall.give(0, re_sign(upload_of(0, draw=1), 0, round=1)) == []
    assert len(hall.states[0].ahead) == 1, "one early report a trainer"
    (refused,) = hall.give(0, re_sign(upload_of(1), 0, round=1))  # in trainer 1's name, signed by trainer 0
    assert isinstance(refused.reason, NotInCohortError)
    assert not hall.states[0].reports


def test_a_wrong_number_of_boxes_is_refused() -> None:
    hall = Hall.opened(2)
    (refused,) = hall.give(0, replace(upload_of(0), boxes=upload_of(0).boxes[:-1]))
    assert isinstance(refused.reason, ReportRejectedError)


def test_a_report_with_another_ciphertext_is_refused_and_does_not_spoil_the_true_one() -> None:
    """A stranger may send a trainer's public report with other bytes of c before the trainer's own arrive."""
    upload = upload_of(0)
    shifted = replace(upload, ciphertext=upload.ciphertext[:-8] + bytes(8))
    hall = Hall.opened(2, work=SharedWork())  # the work that real validators share: what it remembers must be right
    (refused,) = hall.give(0, shifted)
    assert isinstance(refused.reason, ReportRejectedError)
    assert not hall.states[0].reports
    assert not [effect for effect in hall.give(0, upload) if isinstance(effect, Refused)]
    assert len(hall.states[0].reports) == 1


def unanswered(sender: int, to: int, message: Any) -> Any:
    """Nobody is sent the reports that it asks for."""
    return None if isinstance(message, ReportReply) else message


def test_a_report_that_enough_others_vouch_for_is_fetched_before_the_close() -> None:
    hall = Hall.opened(2)
    hall.upload(upload_of(0), to=range(1, SEATS))
    hall.spread()
    report = upload_of(0).report.id
    assert set(hall.states[0].fetched) == {report}
    assert signed_for(hall.states[0], report) == set(range(1, SEATS))
    assert not hall.states[0].columns, "no box came with it: no receipt of its own"


def test_a_report_that_few_vouch_for_is_not_asked_for() -> None:
    hall = Hall.opened(2)
    hall.upload(upload_of(0), to=range(1, 6))  # five of sixteen can all be bad
    hall.spread()
    assert not hall.states[0].fetched
    assert signed_for(hall.states[0], upload_of(0).report.id) == set(range(1, 6))


def test_receipts_that_arrive_before_their_report_count_when_it_comes() -> None:
    hall = Hall.opened(2)
    hall.upload(upload_of(0), to=range(1, SEATS))
    hall.spread(unanswered)
    assert set(hall.states[0].receipts) == set(range(1, SEATS))
    assert not is_complete(hall.contexts[0], hall.states[0])
    hall.give(0, upload_of(0))
    assert signed_for(hall.spread().states[0], upload_of(0).report.id) == set(range(SEATS))


def test_a_seat_signs_at_once_when_all_is_here_and_else_once_for_what_came_meanwhile() -> None:
    hall = Hall.opened(3)
    for trainer in range(2):
        effects = hall.give(0, upload_of(trainer))
        assert not [e for e in effects if isinstance(e, RoundBroadcast)]
    hall.sign()
    (soon,) = [m for _, _, m in hall.outbox if isinstance(m, SeatReceipt)]
    assert soon.receipt.names == {upload_of(0).report.id, upload_of(1).report.id}
    (last,) = [e.message for e in hall.give(0, upload_of(2)) if isinstance(e, RoundBroadcast)]
    assert soon.receipt.names < last.receipt.names
    assert not [e for e in hall.give(0, upload_of(2)) if isinstance(e, RoundBroadcast)], "nothing new to sign"


def test_a_receipt_that_names_less_or_more_than_there_can_be_changes_nothing() -> None:
    hall = admitted(3)
    before = hall.states[0].receipts[3]
    terms, account = committee().terms, committee().accounts[3]
    fewer = aggregation.issue_receipt(terms, 3, before.reports[:2], account)
    assert hall.give(0, SeatReceipt(0, fewer), 3) == []
    crowd = aggregation.issue_receipt(terms, 3, [*before.reports, bytes(32)], account)
    (refused,) = hall.give(0, SeatReceipt(0, crowd), 3)
    assert isinstance(refused.reason, NotSenderError)
    assert hall.states[0].receipts[3] == before


def test_a_forged_receipt_is_refused_and_the_seats_own_still_counts() -> None:
    hall = Hall.opened(2)
    hall.upload(upload_of(0))
    report = upload_of(0).report
    forged = aggregation.issue_receipt(committee().terms, 3, [report.id], committee().accounts[4])
    (refused,) = hall.give(0, SeatReceipt(0, forged))
    assert isinstance(refused.reason, ReceiptRejectedError)
    for seat in (-1, SEATS, 1 << 16):
        (refused,) = hall.give(0, SeatReceipt(0, replace(forged, seat=seat)))
        assert isinstance(refused.reason, ReceiptRejectedError)
    assert 3 in signed_for(hall.spread().states[0], report.id)


# ------------------------------------------------------------------------------------------------ close


@pytest.mark.parametrize("reached", [0, 6])
def test_a_trainer_that_vanishes_half_way_is_not_waited_for_beyond_the_deadline(reached: int) -> None:
    hall = Hall.opened(4).spread()
    for trainer in range(3):
        hall.upload(upload_of(trainer))
    hall.upload(upload_of(3), to=range(reached))
    wait(hall.spread(), DEADLINE_MS - 1)
    with pytest.raises(AssertionError, match="not worth closing yet"):
        hall.close()
    wait(hall, 1)
    close, certified = played(hall)
    assert set(close.reports) == {upload_of(trainer).report.id for trainer in range(3)}
    assert certified.header.outcome == "opened"
    assert {state.model for state in hall.states.values()} == {model_of(range(3))}


@pytest.mark.parametrize("sent", [0, 1])
def test_a_cohort_that_is_too_small_is_skipped_and_the_model_stays(sent: int) -> None:
    hall = Hall.opened(3).spread()
    for trainer in range(sent):
        hall.upload(upload_of(trainer))
    wait(hall.spread(), DEADLINE_MS)
    close, certified = played(hall)
    assert (close.seats, close.reports, close.weights) == ((), (), ())
    header = certified.header
    assert (header.outcome, header.key_sums, header.total) == ("skipped", (), bytes(32))
    assert header.model == sha256(EMPTY_MODEL).digest()
    assert {(s.terms.round, s.model) for s in hall.states.values()} == {(1, EMPTY_MODEL)}


def closes_to_refuse() -> dict[str, Callable[[Close], Close]]:
    """By the rule that each breaks: the smallest change of a good close."""
    return {
        "this is 0": lambda c: replace(c, round=1),
        "close is for round 0": lambda c: replace(c, task=bytes(32)),
        "close is for round 0, this": lambda c: replace(c, terms=bytes(32)),
        r"expected \(1, 1, 1\)": lambda c: replace(c, weights=(1, 2, 1)),
        "a skipped round names no seats": lambda c: replace(c, reports=(), weights=()),
        "at least 2 hide each other": lambda c: replace(c, reports=c.reports[:1], weights=(1,)),
        "strictly increasing": lambda c: replace(c, reports=c.reports[::-1]),
        "seats must be strictly increasing": lambda c: replace(c, seats=(1, *c.seats[1:])),
        "at least 13 of 16 needed": lambda c: replace(
            c, seats=c.seats[: NEEDED - 1], receipts=c.receipts[: NEEDED - 1]
        ),
        "of 16 needed": lambda c: replace(c, seats=(*c.seats[:-1], SEATS)),
        "has no receipt for report 00": lambda c: replace(c, reports=(bytes(32), *c.reports[1:])),
    }


@pytest.mark.parametrize("reason", closes_to_refuse())
def test_a_close_that_breaks_a_rule_is_refused_by_name(reason: str) -> None:
    hall = admitted(3)
    good = hall.close()
    bad = closes_to_refuse()[reason](good)
    with pytest.raises(CloseRefusedError, match=reason):
        check_hall(hall, bad)
    assert not accepts(hall, bad)
    check_hall(hall, good)
    assert accepts(hall, good)


def check_hall(hall: Hall, close: Close) -> None:
    context, state = hall.contexts[3], hall.states[3]
    reports = {held.report.id: held.report for held in state.reports.values()}
    check_close(context.work, state.terms, close, reports, context.cohort_min, context.lying_max)


def accepts(hall: Hall, payload: Close | Certified, ancestors: tuple[Close, ...] = ()) -> bool:
    """Whether validator 3 would vote for a block with this payload."""
    before = tuple(encode_payload(ancestor) for ancestor in ancestors)
    return payload_accepted(hall.contexts[3], hall.states[3], before, encode_payload(payload), hall.now)


def test_the_fewest_seats_that_bear_a_liar_are_enough_for_a_close() -> None:
    hall = admitted(3)
    good = hall.close()
    least = replace(good, seats=good.seats[:NEEDED], receipts=good.receipts[:NEEDED])
    check_hall(hall, least)
    assert accepts(hall, least)


def test_a_close_that_leaves_somebody_out_is_not_voted_for() -> None:
    """Before the deadline only the whole cohort will do, after it as many as one would admit oneself."""
    hall = admitted(3)
    good = hall.close()
    fewer = replace(good, reports=good.reports[:2], weights=(1, 1))
    nobody = replace(good, seats=(), reports=(), weights=(), listed=(), receipts=())
    for _ in range(2):
        for close in (fewer, nobody):
            check_hall(hall, close)  # it breaks no other rule
            assert not accepts(hall, close)
        assert accepts(hall, good)
        wait(hall, DEADLINE_MS)


def test_a_skipped_round_is_voted_for_at_the_deadline_and_not_before() -> None:
    hall = Hall.opened(3).spread()
    keys = hall.states[3].known_keys()
    nobody = Close(TASK, 0, committee().terms.digest, (), (), (), (), (), (), keys)
    assert not accepts(wait(hall, DEADLINE_MS - 1), nobody)
    assert accepts(wait(hall, 1), nobody)


def test_a_close_without_every_receipt_is_refused() -> None:
    hall = admitted(3)
    good = hall.close()
    (named, verified, signature), (_, _, other) = good.receipts[:2]
    flipped = signature[:-2] + bytes([signature[-2] ^ 1, signature[-1]])
    for row in ((named, verified, other), (named, named, signature), (named, verified, flipped)):
        with pytest.raises(ReceiptRejectedError, match="receipt of seat 0"):
            check_hall(hall, replace(good, receipts=(row, *good.receipts[1:])))
    fewer = (bytes([named[0] & ~1]), verified, signature)
    with pytest.raises(CloseRefusedError, match="seat 0 has no receipt for report"):
        check_hall(hall, replace(good, receipts=(fewer, *good.receipts[1:])))


def test_a_close_that_lists_more_than_can_be_is_refused_before_anything_is_looked_at() -> None:
    """Whoever may propose must not choose how long everybody looks at it."""
    hall = admitted(3)
    good = hall.close()
    most = committee().terms.layout.budget.trainers_max
    crowd = tuple(sorted(sha256(bytes([i])).digest() for i in range(most + 1)))
    receipt = aggregation.issue_receipt(committee().terms, 0, crowd, committee().accounts[0])
    listed, rows = list_receipts([receipt, *good.signed[1:]])
    with pytest.raises(CloseRefusedError, match=f"seat 0 signs for {most + 1} reports, at most {most} sum"):
        check_hall(hall, replace(good, listed=listed, receipts=rows))
    flood = tuple(i.to_bytes(32, "big") for i in range(most * SEATS + 1))
    bitmap = b"\xff" * (len(flood) // 8) + bytes([(1 << len(flood) % 8) - 1]) * (len(flood) % 8 > 0)
    wide = replace(good, listed=flood, receipts=((bitmap, bytes(len(bitmap)), bytes(65)),) * SEATS)
    with pytest.raises(CloseRefusedError, match=rf"{len(flood)} reports listed, 16 seats can hold {most} each"):
        check_hall(hall, wide)


def test_a_close_may_list_reports_that_it_does_not_admit() -> None:
    """A seat signs for all that it holds: its receipt stands though one of its reports is left out."""
    hall = admitted(4)
    whole = hall.close()
    part = replace(whole, reports=whole.reports[:3], weights=(1, 1, 1))
    check_hall(hall, part)
    assert decode_payload(encode_payload(part)) == part
    unheard = replace(part, reports=(*part.reports, bytes([255]) * 32), weights=(1,) * 4)
    with pytest.raises(CloseRefusedError, match="has no receipt for report ff"):
        check_hall(hall, unheard)


def test_two_reports_of_one_trainer_never_share_a_close() -> None:
    """Even for a validator that knows both, though none admits both."""
    hall = admitted(3)
    terms, one, two = committee().terms, upload_of(0).report, upload_of(0, draw=1).report
    known = {one.id: one, two.id: two}
    order = tuple(sorted(known))
    accounts = enumerate(committee().accounts)
    listed, rows = list_receipts([aggregation.issue_receipt(terms, seat, order, account) for seat, account in accounts])
    close = replace(hall.close(), reports=order, weights=(1, 1), listed=listed, receipts=rows)
    with pytest.raises(CloseRefusedError, match="two reports of one trainer"):
        check_close(hall.contexts[0].work, terms, close, known, 2, 1)


# ------------------------------------------------------------------------------------------------ quorum

STRAGGLER_MS = 1_000


def with_three_of_four(quorum: int | None = 3, trainers: int = 4) -> Hall:
    """A hall in which three of its trainers have reported, at time 0, and all seats have signed."""
    hall = Hall.opened(trainers, quorum=quorum).spread()
    for trainer in range(3):
        hall.upload(upload_of(trainer))
    return hall.spread()


def test_a_quorum_is_closed_when_stragglers_have_had_their_time() -> None:
    hall = with_three_of_four()
    wait(hall, STRAGGLER_MS - 1)
    with pytest.raises(AssertionError, match="not worth closing yet"):
        hall.close()
    close, certified = played(wait(hall, 1))
    assert set(close.reports) == {upload_of(i).report.id for i in range(3)}
    assert certified.header.outcome == "opened"
    assert {state.model for state in hall.states.values()} == {model_of(range(3))}


def test_without_a_quorum_one_absent_trainer_costs_the_deadline() -> None:
    hall = wait(with_three_of_four(quorum=None), DEADLINE_MS - 1)
    with pytest.raises(AssertionError, match="not worth closing yet"):
        hall.close()


def test_a_straggler_in_time_is_let_in_and_then_nobody_waits_longer() -> None:
    hall = wait(with_three_of_four(), 400)
    hall.upload(upload_of(3))
    close = wait(hall.spread(), 20).close()
    assert len(close.reports) == 4
    assert accepts(hall, close)


def test_a_quorums_close_is_voted_for_after_the_stragglers_time_and_not_before() -> None:
    hall = wait(with_three_of_four(), STRAGGLER_MS)
    close = hall.close()
    assert accepts(hall, close)
    assert not accepts(wait(hall, -1), close)


def test_fewer_than_the_quorum_are_no_close_before_the_deadline() -> None:
    hall = wait(with_three_of_four(), STRAGGLER_MS)
    good = hall.close()
    fewer = replace(good, reports=good.reports[:2], weights=(1, 1))
    nobody = replace(good, seats=(), reports=(), weights=(), listed=(), receipts=())
    for close in (fewer, nobody):
        check_hall(hall, close)  # it breaks no other rule
        assert not accepts(hall, close)
    assert accepts(hall, good)


@pytest.mark.parametrize(("after_ms", "may_be_left_out"), [(STRAGGLER_MS // 2, False), (STRAGGLER_MS // 2 + 1, True)])
def test_who_came_in_good_time_may_not_be_left_out(after_ms: int, may_be_left_out: bool) -> None:
    """A leader that began to count earlier has not seen who came late here; one in good time everybody has seen."""
    hall = wait(with_three_of_four(trainers=5), after_ms)
    hall.upload(upload_of(3))
    hall.spread()
    wait(hall, STRAGGLER_MS)
    whole = hall.close()
    assert len(whole.reports) == 4
    part = replace(whole, reports=whole.reports[:3], weights=(1, 1, 1))
    check_hall(hall, part)
    assert accepts(hall, whole)
    assert accepts(hall, part) == may_be_left_out


def test_seats_sign_at_the_quorum_and_then_once_for_the_stragglers() -> None:
    hall = Hall.opened(5, quorum=3)
    said = [e for trainer in range(3) for e in hall.give(0, upload_of(trainer)) if isinstance(e, RoundBroadcast)]
    assert [len(effect.message.receipt.names) for effect in said] == [3]
    assert not [e for e in hall.give(0, upload_of(3)) if isinstance(e, RoundBroadcast)]
    assert hall.states[0].say_ms is not None


# ------------------------------------------------------------------------------------------------ never skipped


@dataclass(frozen=True)
class Founding(Tally):
    """A task whose round 0 everything else depends on."""

    def may_skip(self, round_number: int) -> bool:
        return round_number > 0


def test_a_round_that_may_not_be_skipped_waits_for_those_that_it_needs() -> None:
    hall = Hall.opened(3, agreed=Founding()).spread()
    hall.upload(upload_of(0))
    wait(hall.spread(), 3 * DEADLINE_MS)
    with pytest.raises(AssertionError, match="not worth closing yet"):
        hall.close()
    nobody = Close(TASK, 0, committee().terms.digest, (), (), (), (), (), (), hall.states[3].known_keys())
    assert not accepts(hall, nobody)
    hall.upload(upload_of(1))
    hall.spread()
    assert [e.at_ms for _, e in hall.effects if isinstance(e, RoundTimer)][-1] == hall.now + 20, "looked at again"
    close, certified = played(wait(hall, 20))
    assert (len(close.reports), certified.header.outcome) == (2, "opened")


def test_skipping_a_round_that_may_not_be_skipped_is_refused_by_name() -> None:
    hall = wait(Hall.opened(3), DEADLINE_MS)
    nobody, state = hall.close(), hall.states[3]
    arguments = (hall.contexts[3].work, state.terms, nobody, {}, 2, 1)
    check_close(*arguments, may_skip=True)
    with pytest.raises(CloseRefusedError, match="round 0 may not be skipped"):
        check_close(*arguments, may_skip=False)


# ------------------------------------------------------------------------------------------------ release


def test_nothing_is_released_before_the_close_is_written_down() -> None:
    hall = admitted(3)
    _, effects = release(hall.contexts[5], hall.states[5], hall.close(), 0, hall.now)
    kinds = [type(effect.message) if isinstance(effect, RoundBroadcast) else type(effect) for effect in effects]
    assert kinds.index(ReleaseRecord) < kinds.index(Release)


def test_a_second_close_of_a_round_gets_no_release() -> None:
    hall = admitted(3)
    first = hall.close()
    second = replace(first, seats=first.seats[1:], receipts=first.receipts[1:])
    assert accepts(hall, second), "it breaks no rule: a quarter of bad seats might have certified it"
    assert not accepts(hall, second, ancestors=(first,))
    hall.finalise(first)
    assert not accepts(hall, second)
    before = hall.states[5]
    after, effects = release(hall.contexts[5], before, second, 0, hall.now)
    assert after == before
    (refused,) = effects
    assert isinstance(refused, Refused)
    assert isinstance(refused.reason, CloseRefusedError)


def test_what_a_close_adds_that_was_voted_for_is_added_before_it_is_final() -> None:
    hall = admitted(3)
    close, state = hall.close(), hall.states[5]
    work = SharedWork()
    hall.contexts[5] = replace(hall.contexts[5], work=work)
    key = ("total", state.terms.digest, close.digest)
    unheard = replace(close, reports=(bytes(32), *close.reports[1:]))
    for payload, known in ((encode_payload(unheard), False), (encode_payload(close), True)):
        hall.states[5] = replace(state, likely=payload)
        hall.give(5, RoundAlarm(0))
        assert hall.states[5].likely == b""
        assert (key in work.results) == known
        assert sum(kept[0] == "total" for kept in work.results) == known


def test_a_close_of_another_round_gets_no_release() -> None:
    hall = admitted(3)
    close = hall.close()
    played(hall)
    _, effects = release(hall.contexts[5], hall.states[5], close, 0, hall.now)
    assert [type(effect.reason) for effect in effects if isinstance(effect, Refused)] == [CloseRefusedError]
    assert len(effects) == 1


def test_a_release_of_somebody_elses_name_seat_or_close_is_refused() -> None:
    hall = admitted(3)
    hall.finalise(hall.close())
    releases = {m.validator: m for _, _, m in hall.outbox if isinstance(m, Release)}
    honest, other = releases[3], releases[4]
    cases = [
        (released_as(honest, key_sums=other.key_sums), NotSenderError),
        (released_as(honest, close=bytes(32)), ReceiptRejectedError),
        (released_as(honest, key_sums=(replace(honest.key_sums[0], close=bytes(32)),)), ReceiptRejectedError),
        (released_as(honest, round=2), WrongRoundError),
        (replace(honest, key_sums=()), NotSenderError),  # silenced by somebody who cannot sign
        (replace(honest, signature=other.signature), NotSenderError),
        (replace(honest, validator=SEATS), UnknownValidatorError),
    ]
    for message, reason in cases:
        (refused,) = hall.give(0, message)
        assert isinstance(refused.reason, reason), refused
    (refused,) = hall.give(0, honest, sender=4)
    assert isinstance(refused.reason, NotSenderError)
    assert 3 not in hall.states[0].releases
    hall.give(0, honest, sender=3)
    assert 3 in hall.states[0].releases


@pytest.mark.parametrize("seat", [SEATS, 65535])
def test_a_release_for_a_seat_that_does_not_exist_is_refused(seat: int) -> None:
    hall = admitted(3)
    hall.finalise(hall.close())
    honest = next(m for _, _, m in hall.outbox if isinstance(m, Release) and m.validator == 3)
    (refused,) = hall.give(0, released_as(honest, key_sums=(replace(honest.key_sums[0], seat=seat),)))
    assert isinstance(refused.reason, ReceiptRejectedError)


def test_different_sums_to_different_peers_open_the_same_model_whoever_is_believed() -> None:
    """Seat 3 tells its true sum to one half and garbage to the other; who proposes decides which one is named."""
    outcomes = []
    for deceived in ((0,), (1,)):
        hall = admitted(3)
        hall.finalise(hall.close())

        def lie(sender: int, to: int, message: Any, deceived: tuple[int, ...] = deceived) -> Any:
            if isinstance(message, Release) and message.validator == 3 and to in deceived:
                return released_as(message, key_sums=(garble(message.key_sums[0]),))
            return message

        header = hall.spread(lie).certified().header
        hall.finish(Certified(header, hall.certified().certificate))
        outcomes.append((header.outcome, header.lying, header.total))
        assert {state.model for state in hall.states.values()} == {model_of(range(3))}
    total = total_digest(sum_of(range(3)))
    assert outcomes == [("opened", (3,), total), ("opened", (), total)]


# ------------------------------------------------------------------------------------------------ open and certify


def headers_to_refuse() -> dict[str, Callable[[Header], dict[str, Any]]]:
    """By field: what a lying leader puts there."""
    return {
        "task": lambda h: {"task": bytes(32)},
        "level": lambda h: {"level": "proved"},
        "previous": lambda h: {"previous": bytes(32)},
        "close": lambda h: {"close": bytes(32)},
        "outcome": lambda h: {"outcome": "skipped"},
        "key_sums": lambda h: {"key_sums": h.key_sums[1:]},
        "total": lambda h: {"total": bytes(32)},
        "model": lambda h: {"model": sha256(b"the leader's own").digest()},
        "lying": lambda h: {"lying": (3,)},
        "seats": lambda h: {"seats": (1, 0, *h.seats[2:])},
        "rewards": lambda h: {"rewards": sha256(b"for the leader").digest()},
        "registries": lambda h: {"registries": sha256(b"the leader's own").digest()},
    }


@pytest.mark.parametrize("field", headers_to_refuse())
def test_a_lying_leader_is_refused_by_the_fields_name(field: str) -> None:
    hall, proposal = proposed(3)
    lie = proposed_as(proposal, **headers_to_refuse()[field](proposal.header))
    (refused,) = hall.give(5, lie)
    assert isinstance(refused.reason, ProposalRefusedError)
    assert refused.reason.values.get("field") == field
    assert not hall.states[5].heard
    assert not hall.outbox, "no vote"
    hall.give(5, proposal)
    assert [type(message) for _, _, message in hall.outbox] == [HeaderVote]


def test_a_liar_left_out_of_the_header_is_refused_and_so_is_one_put_in() -> None:
    hall = admitted(3)
    hall.finalise(hall.close())
    held = []

    def lie(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, Release) and message.validator == 3:
            return released_as(message, key_sums=(garble(message.key_sums[0]),))
        if isinstance(message, HeaderProposal):
            held.append(message)
            return None
        return message

    hall.spread(lie)
    proposal = held[0]
    assert proposal.header.lying == (3,)
    for lying in ((), (3, 4), (4,)):
        (refused,) = hall.copy().give(5, proposed_as(proposal, lying=lying))
        assert refused.reason.values.get("field") == "lying"
    assert vote(hall, proposal).header.lying == (3,)


def test_a_header_of_another_round_is_refused() -> None:
    hall, proposal = proposed(3)
    (refused,) = hall.give(5, proposed_as(proposal, round=2))
    assert isinstance(refused.reason, WrongRoundError)


@pytest.mark.parametrize("kind", ["another round's", "one member's", "garbage"])
def test_a_wrong_beacon_is_refused(kind: str) -> None:
    hall, proposal = proposed(3)
    beacons = committee().beacons
    shares = {i: beacon.partial(0, 2) for i, beacon in enumerate(beacons)}
    value = {
        "another round's": beacons[0].combine(0, 2, shares),
        "one member's": beacons[0].partial(0, 1),
        "garbage": bytes(48),
    }[kind]
    (refused,) = hall.give(5, proposed_as(proposal, beacon=value))
    assert isinstance(refused.reason, BadBeaconError)


def test_a_leader_cannot_plant_a_sealing_key() -> None:
    hall = admitted(3)
    good = hall.close()
    honest = good.announcements
    own = SealKey.generate(RANDOM.split("planted")).public_bytes
    planted = replace(honest[3], seal_key=own)
    by_leader = replace(planted, signature=committee().accounts[0].sign(planted.digest(TASK)))
    stale = Announcement(3, 0, own, b"")
    stale = replace(stale, signature=committee().accounts[3].sign(stale.digest(TASK)))
    cases = [
        ((*honest[:3], planted, *honest[4:]), ProposalRefusedError, "sealing key of validator 3 is signed by"),
        ((*honest[:3], by_leader, *honest[4:]), ProposalRefusedError, "sealing key of validator 3 is signed by"),
        ((*honest[:3], stale, *honest[4:]), CloseRefusedError, "sealing key for round 0"),
        ((*honest, replace(honest[3], validator=SEATS)), UnknownValidatorError, "validator 16"),
        ((*honest, honest[3]), CloseRefusedError, "increasing"),
        ((honest[1], honest[0], *honest[2:]), CloseRefusedError, "increasing"),
    ]
    assert accepts(hall, good)
    for announcements, kind, reason in cases:
        close = replace(good, announcements=announcements)
        with pytest.raises(kind, match=reason):
            check_keys(hall.contexts[3], hall.states[3], close, hall.now)
        assert not accepts(hall, close)


def test_a_close_must_not_do_without_a_sealing_key_that_has_been_here_for_a_while() -> None:
    hall = admitted(3)
    good = hall.close()
    context, fewer = hall.contexts[3], replace(good, announcements=good.announcements[:QUORUM])
    came = hall.states[3].announced_ms[-1]
    check_keys(context, hall.states[3], fewer, came + KEYS_MS - 1)  # the leader may not have had them
    for now in (came + KEYS_MS, 2 * DEADLINE_MS - 1):
        with pytest.raises(CloseRefusedError, match="expected 16 or more"):
            check_keys(context, hall.states[3], fewer, now)
        check_keys(context, hall.states[3], good, now)
    check_keys(context, hall.states[3], fewer, 2 * DEADLINE_MS)  # those who know of different numbers go on
    for now in (came, 2 * DEADLINE_MS):
        with pytest.raises(CloseRefusedError, match="expected 11 or more"):
            check_keys(context, hall.states[3], replace(good, announcements=good.announcements[1:QUORUM]), now)


def test_no_close_is_proposed_before_a_quorum_has_announced_sealing_keys() -> None:
    hall = admitted(3)
    state = hall.states[3]
    few = {validator: state.announcements[validator] for validator in range(QUORUM - 1)}
    hall.states[3] = replace(state, announcements=few, announced_ms=state.announced_ms[: QUORUM - 1])
    assert next_payload(hall.contexts[3], hall.states[3], (), hall.now) is None
    effects = hall.give(3, state.announcements[QUORUM])
    assert effects == [RoundTimer(RoundAlarm(0), hall.now)], "it looks again at once"
    payload = next_payload(hall.contexts[3], hall.states[3], (), hall.now)
    assert payload is not None
    close = decode_payload(payload)
    assert isinstance(close, Close)
    assert [key.validator for key in close.announcements] == [*range(QUORUM - 1), QUORUM]


def test_a_header_must_carry_the_sealing_keys_of_its_close() -> None:
    hall, proposal = proposed(3)
    keys = proposal.header.announcements
    for announcements in (keys[:-1], keys[1:], (), (*keys[1:], keys[0])):
        (refused,) = hall.copy().give(5, proposed_as(proposal, announcements=announcements))
        assert isinstance(refused.reason, ProposalRefusedError)
        assert "sealing keys other than the final close's" in str(refused.reason)
    hall.give(5, proposal)
    assert 0 in hall.states[5].heard


# ------------------------------------------------------------------------------------------------ early votes


def released(hall: Hall, tamper: Tamper = faithful) -> list[HeaderVote]:
    """Let everybody release and hear the others' releases; return the votes of those who needed no proposal."""
    votes = list[HeaderVote]()

    def listen(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, HeaderVote):
            votes.append(message)
        return None if isinstance(message, HeaderVote | HeaderProposal) else tamper(sender, to, message)

    hall.finalise(hall.close())
    hall.spread(listen)
    return votes


def test_who_has_every_release_votes_for_the_one_header_that_can_be_proposed() -> None:
    hall = admitted(3)
    votes = released(hall)
    proposal = hall.states[0].own
    assert proposal is not None
    assert {vote.validator for vote in votes} == set(range(1, SEATS))
    assert {vote.header for vote in votes} == {proposal.header.digest}
    for i in range(1, SEATS):
        assert hall.states[i].foreseen == proposal.header
        assert hall.give(i, proposal) == [], "one vote each"
        assert 0 in hall.states[i].heard
    for early in votes[: seat_quorum(SEATS)]:
        hall.give(0, early)
    assert hall.certified().header == proposal.header


def test_early_votes_wait_for_the_proposer_and_one_for_another_header_counts_for_nothing() -> None:
    hall = admitted(3)
    late = list[Release]()

    def keep(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, Release) and to == 0 and sender == 7:
            late.append(message)
            return None
        return message

    votes = {vote.validator: vote for vote in released(hall, keep)}
    other = bytes(32)
    votes[3] = HeaderVote(0, other, 3, committee().voting[3].sign(other))
    (refused,) = hall.give(0, replace(votes[4], validator=SEATS))
    assert isinstance(refused.reason, UnknownValidatorError)
    (refused,) = hall.give(0, votes[4], sender=5)
    assert isinstance(refused.reason, NotSenderError)
    for i in range(1, seat_quorum(SEATS)):
        hall.give(0, votes[i], sender=i)
    assert hall.states[0].own is None
    hall.give(0, late[0])
    proposal = hall.states[0].own
    assert proposal is not None
    assert {vote.header for vote in votes.values()} == {proposal.header.digest, other}
    assert set(hall.states[0].votes) == set(range(1, seat_quorum(SEATS))) - {3}
    assert not hall.seen(RoundSubmit), "validator 3's vote is for something else"
    hall.give(0, votes[11])
    hall.give(0, votes[12])
    assert hall.certified().header == proposal.header


def test_who_lacks_a_release_or_has_another_one_votes_when_the_proposal_has_come() -> None:
    hall = admitted(3)

    def lie(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, Release) and sender == 3:
            if to == 4:
                return released_as(message, key_sums=(garble(message.key_sums[0]),))
            return None if to == 5 else message
        return message

    votes = {vote.validator: vote for vote in released(hall, lie)}
    proposal = hall.states[0].own
    assert proposal is not None
    digest = proposal.header.digest
    assert 5 not in votes
    assert votes[4].header != digest, "it has seen seat 3 lie, and says so"
    assert {vote.header for validator, vote in votes.items() if validator != 4} == {digest}
    for validator in (4, 5):
        (sent,) = hall.give(validator, proposal)
        assert (sent.to, sent.message.header, sent.message.validator) == (0, digest, validator)
    (refused,) = hall.copy().give(6, proposed_as(proposal, total=bytes(32)))
    assert isinstance(refused.reason, ProposalRefusedError), "an early vote is for one header alone"
    assert hall.give(6, proposal) == []


def test_nobody_votes_early_for_a_sum_that_does_not_open() -> None:
    hall = admitted(3)

    def lie(sender: int, to: int, message: Any) -> Any:
        return (
            released_as(message, key_sums=(garble(message.key_sums[0]),))
            if isinstance(message, Release) and sender >= NEEDED - 1
            else message
        )

    assert released(hall, lie) == []
    assert hall.states[0].own is None, "better sums may still come"


def test_the_next_in_line_gets_votes_although_all_have_voted_early_for_the_same_header() -> None:
    hall = admitted(3)
    released(hall)
    wait(hall, TURN_MS)
    (proposed_next,) = (effect for effect in hall.give(1, RoundAlarm(0)) if isinstance(effect, RoundBroadcast))
    assert isinstance(proposed_next.message, HeaderProposal)
    assert proposed_next.message.header == hall.states[2].foreseen
    certified = hall.spread().certified()
    assert certified.header == proposed_next.message.header


def test_a_third_proposal_that_does_not_hold_is_not_even_checked() -> None:
    hall, proposal = proposed(3)
    for total in (b"\1" * 32, b"\2" * 32):
        (refused,) = hall.give(5, proposed_as(proposal, total=total))
        assert refused.reason.values.get("field") == "total"
    (refused,) = hall.give(5, proposal)
    assert "2 proposals that do not hold" in str(refused.reason)


def test_a_key_that_nobody_can_seal_to_is_refused() -> None:
    """The neutral point: X25519 gives zero with it, and every trainer would stumble."""
    unsigned = Announcement(3, 1, bytes(32), b"")
    useless = replace(unsigned, signature=committee().accounts[3].sign(unsigned.digest(TASK)))
    hall = Hall.opened(2)
    (refused,) = hall.give(0, useless)
    assert isinstance(refused.reason, SealKeyError)


def lost(proposal: HeaderProposal, sums: int) -> HeaderProposal:
    """Return the proposal of a leader that shows only some sums and calls the total lost."""
    shown = proposal.key_sums[:sums]
    return showing(proposal, shown, "lost")


def showing(proposal: HeaderProposal, shown: tuple[KeySum, ...], outcome: str) -> HeaderProposal:
    """Return the proposal with some key sums only, an outcome, and the model as it was."""
    return proposed_as(
        replace(proposal, key_sums=shown),
        outcome=outcome,
        key_sums=tuple((s.seat, s.digest) for s in shown),
        total=bytes(32),
        model=sha256(EMPTY_MODEL).digest(),
        lying=(),
    )


def test_a_leader_cannot_lose_a_sum_that_opens() -> None:
    hall, proposal = proposed(3)
    (refused,) = hall.give(5, lost(proposal, DECODING))  # these decode: the outcome is not what they give
    assert refused.reason.values.get("field") == "outcome"
    (refused,) = hall.give(5, lost(proposal, DECODING - 1))  # these do not, but others were left out
    assert isinstance(refused.reason, ProposalRefusedError)
    assert "the sum is not lost" in str(refused.reason)


def test_a_sum_that_is_lost_to_everybody_is_certified_as_lost() -> None:
    hall = admitted(3)
    hall.finalise(hall.close())
    silent = range(DECODING - 1, SEATS)

    def withhold(sender: int, to: int, message: Any) -> Any:
        return released_as(message, key_sums=()) if isinstance(message, Release) and sender in silent else message

    hall.spread(withhold)
    assert not hall.seen(RoundSubmit), "the sums may still come"
    wait(hall, 2_000)
    hall.give(0, RoundAlarm(0))
    header = hall.spread().certified().header
    assert (header.outcome, header.total, header.lying) == ("lost", bytes(32), ())
    hall.finish(hall.certified())
    assert {(s.terms.round, s.model) for s in hall.states.values()} == {(1, EMPTY_MODEL)}


def test_a_validator_that_heard_more_sums_follows_a_round_that_is_finally_lost() -> None:
    """It does not vote for `lost`, but two thirds of the seats did: the model they name is the one it already has."""
    hall = admitted(3)
    hall.finalise(hall.close())

    def withhold(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, Release) and sender >= DECODING - 1 and to != 5:
            return released_as(message, key_sums=())
        return message

    wait(hall.spread(withhold), 2_000)
    hall.give(0, RoundAlarm(0))
    certified = hall.spread().certified()
    assert certified.header.outcome == "lost"
    assert hall.refusals(ProposalRefusedError) == [5]
    hall.finish(certified)
    assert {(s.terms.round, s.model) for s in hall.states.values()} == {(1, EMPTY_MODEL)}


def test_one_seat_cannot_make_a_sum_invalid_that_opens() -> None:
    """Ten true sums and one that seat 0 bends so that the eleven are a codeword of another key sum: they decode, the
    total does not open, and the model would stay. Everybody holds the other true sums."""
    hall, proposal = proposed(3)
    true = proposal.key_sums[1:DECODING]
    bent = bend(proposal.key_sums[0], [s.seat for s in true])
    shown = (bent, *true)
    terms = committee().terms
    held = hall.states[5].reports.values()
    total = weighted_total((h.ciphertext for h in held), [1] * 3)
    with pytest.raises(SumInvalidError, match="not well formed"):  # the attack itself works
        open_sum(terms, {s.seat: s for s in shown}, total, 3)
    hall.give(5, showing(proposal, shown, "invalid"))
    assert not hall.outbox, "a validator that can open the sum must not vote for `invalid`"
    assert hall.refusals(ProposalRefusedError) == [5]


def bend(key_sum: KeySum, untouched: list[int]) -> KeySum:
    """Return a seat's sum moved by a codeword that is zero on the columns of the `untouched` seats."""
    width = COMMITTEE_DOMAIN.size // SEATS
    zero = np.zeros(COMMITTEE_DOMAIN.size, np.bool_)
    for seat in untouched:
        zero[seat * width : (seat + 1) * width] = True
    polynomial = np.zeros((1, KEY_CODE.degree_bound), np.uint64)
    vanishing = vanishing_polynomial(COMMITTEE_DOMAIN, zero)
    polynomial[0, : vanishing.size] = vanishing
    word = KEY_CODE.encode(polynomial, COMMITTEE_DOMAIN)
    own = word[:, key_sum.seat * width : (key_sum.seat + 1) * width].T
    rows = key_sum.rows.copy()
    rows[:, :1] = algebra.add(np.ascontiguousarray(rows[:, :1]), np.ascontiguousarray(own))
    return resign_sum(key_sum, rows)


def test_votes_for_the_own_header_count_although_another_one_is_proposed() -> None:
    """A second good header, whose turn has come, must not cost the first one its votes."""
    hall, proposal = proposed(3)
    for i in range(SEATS):
        hall.give(i, proposal)
    wait(hall, 9 * TURN_MS)
    rival = sign_proposal(replace(proposal, proposer=9), committee().accounts[9])
    hall.give(0, rival)
    assert 9 in hall.states[0].heard
    assert hall.spread().certified().header == proposal.header


def test_proposals_come_in_turn_one_each_and_in_nobody_elses_name() -> None:
    hall, proposal = proposed(3)
    early = sign_proposal(replace(proposal, proposer=1), committee().accounts[1])
    assert [type(effect) for effect in hall.give(5, early)] == [RoundTimer], "not yet the turn of validator 1: it waits"
    assert 1 not in hall.states[5].heard
    (refused,) = hall.give(5, replace(proposal, proposer=1))
    assert isinstance(refused.reason, NotSenderError)
    (refused,) = hall.give(5, proposal, sender=1)
    assert isinstance(refused.reason, NotSenderError)
    assert [type(effect) for effect in hall.give(5, proposal, sender=0)] == [RoundSend]
    fewer = proposal.key_sums[:-1]
    second = proposed_as(replace(proposal, key_sums=fewer), key_sums=tuple((s.seat, s.digest) for s in fewer))
    assert [type(effect) for effect in hall.give(5, second)] == [RoundTimer], "one proposal each and lap"
    wait(hall, TURN_MS)
    assert [type(effect) for effect in hall.give(5, RoundAlarm(0))] == [RoundSend, RoundTimer]
    assert 1 in hall.states[5].heard


def test_forged_votes_neither_count_nor_displace_good_ones() -> None:
    hall, proposal = proposed(3)
    digest = proposal.header.digest
    quorum = seat_quorum(SEATS)
    hall.give(0, proposal)
    for i in range(1, quorum):
        hall.give(i, proposal)
    votes = [message for _, _, message in hall.outbox]
    assert len(votes) == quorum
    for ballot in votes[:-1]:
        hall.give(0, ballot)
    other = committee().voting[quorum].sign(digest)
    for forged in (bytes(48), other, b"short"):
        hall.give(0, HeaderVote(0, digest, quorum - 1, forged))
    (refused,) = hall.give(0, HeaderVote(0, digest, SEATS, other))
    assert isinstance(refused.reason, UnknownValidatorError)
    (refused,) = hall.give(0, votes[-1], sender=2)
    assert isinstance(refused.reason, NotSenderError)
    assert not hall.seen(RoundSubmit)
    hall.give(0, votes[-1])
    assert hall.certified().header == proposal.header


def test_a_vote_in_anothers_name_does_not_replace_its_own() -> None:
    hall, proposal = proposed(3)
    quorum = seat_quorum(SEATS)
    for i in range(quorum):
        hall.give(i, proposal)
    votes = [message for _, _, message in hall.outbox]
    hall.give(0, votes[0])
    hall.give(0, replace(votes[0], signature=votes[1].signature))
    for ballot in votes[1:]:
        hall.give(0, ballot)
    assert hall.seen(RoundSubmit)


def test_a_certificate_needs_more_than_two_thirds_of_the_seats() -> None:
    assert [seat_quorum(seats) for seats in (1, 3, 4, 16, 64, 256)] == [1, 3, 3, 11, 43, 171]
    hall, proposal = proposed(3)
    digest, terms = proposal.header.digest, committee().terms
    context = hall.contexts[5]

    def certify(seats: int, signed: bytes = digest) -> Certified:
        votes = {i: committee().voting[i].sign(signed) for i in range(seats)}
        return Certified(proposal.header, encode_certificate(make_certificate(SEATS, votes)))

    quorum = seat_quorum(SEATS)
    check_certified(context.work, context.epoch_set, terms, certify(quorum))
    assert accepts(hall, certify(quorum))
    for bad in (certify(quorum - 1), certify(quorum, signed=bytes(32))):
        with pytest.raises(CollegiumError):
            check_certified(context.work, context.epoch_set, terms, bad)
        assert not accepts(hall, bad)
    moved = replace(certify(quorum), header=replace(proposal.header, previous=bytes(32)))
    with pytest.raises(ProposalRefusedError, match="does not follow"):
        check_certified(context.work, context.epoch_set, terms, moved)


def with_a_report_missing_at_the_last() -> Hall:
    """A final close of three reports, of which one was sent to all but the last validator."""
    hall = Hall.opened(3).spread()
    hall.upload(upload_of(0))
    hall.upload(upload_of(1))
    hall.upload(upload_of(2), to=range(SEATS - 1))
    wait(hall.spread(unanswered), 100)
    hall.finalise(hall.close())
    return hall


def test_a_validator_that_never_got_a_report_asks_for_it_and_follows() -> None:
    hall = with_a_report_missing_at_the_last()
    hall.spread()
    assert not hall.seen(Refused)
    assert 0 in hall.states[SEATS - 1].heard, "it redid the opening and voted"
    hall.finish(hall.certified())
    assert {state.model for state in hall.states.values()} == {model_of(range(3))}


def test_a_validator_that_gets_no_answer_finishes_when_one_comes() -> None:
    hall = with_a_report_missing_at_the_last()
    last, kept = SEATS - 1, []

    def delay(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, ReportReply):
            kept.append(message)
            return None
        return message

    hall.finish(hall.spread(delay).certified())
    assert {i for i, state in hall.states.items() if state.terms.round == 1} == set(range(last))
    reply = kept[0]
    spoilt = replace(reply, ciphertext=reply.ciphertext[:-8] + bytes(8))
    for wrong in (spoilt, replace(reply, report=upload_of(0).report)):
        hall.give(last, wrong)
        assert hall.states[last].terms.round == 0
    hall.give(last, reply)
    assert hall.states[last].model == model_of(range(3))


def test_reports_are_given_out_once_and_to_validators_alone() -> None:
    hall = admitted(3)
    wanted = ReportRequest(0, 5, (upload_of(0).report.id, bytes(32)))
    (sent,) = hall.give(0, wanted, sender=5)
    assert (sent.to, sent.message.report.id) == (5, upload_of(0).report.id)
    assert hall.give(0, wanted, sender=5) == []
    (refused,) = hall.give(0, wanted, sender=6)
    assert isinstance(refused.reason, NotSenderError)
    (refused,) = hall.give(0, replace(wanted, validator=SEATS))
    assert isinstance(refused.reason, UnknownValidatorError)


def test_withheld_receipts_cannot_leave_a_trainer_alone_with_a_minority() -> None:
    """Three seats withhold receipts from four trainers, three others deny two seats: nobody is left alone with them."""
    hall = Hall.opened(8, lying_max=1, cohort_min=4).spread()
    uploads = [upload_of(i) if i < 5 else deny(upload_of(i), i, (0, 1)) for i in range(8)]
    honest = {upload.report.id for upload in uploads[:4]}

    def withhold(sender: int, to: int, message: Any) -> Any:
        if not isinstance(message, SeatReceipt) or message.receipt.seat < 13:
            return message
        seat, others = message.receipt.seat, message.receipt.names - honest
        return SeatReceipt(0, aggregation.issue_receipt(committee().terms, seat, others, committee().accounts[seat]))

    for upload in uploads:
        hall.upload(upload)
    wait(hall.spread(withhold), DEADLINE_MS)
    victim_and_sybils = {upload.report.id for upload in uploads[4:]}
    for state in hall.states.values():
        close = close_for(hall.contexts[0], state, hall.now)
        assert close is not None
        assert set(close.reports) >= honest or not close.reports
    assert set(hall.close().reports) != victim_and_sybils


def test_fewer_than_half_of_the_trainers_never_have_one_other_for_themselves() -> None:
    """Two bad trainers of five and four seats that withhold receipts for two of the others: three are not enough."""
    hall = Hall.opened(5, lying_max=1, cohort_min=3).spread()
    hidden = {upload_of(i).report.id for i in range(2)}

    def withhold(sender: int, to: int, message: Any) -> Any:
        if not isinstance(message, SeatReceipt) or message.receipt.seat < 12:
            return message
        seat, others = message.receipt.seat, message.receipt.names - hidden
        return SeatReceipt(0, aggregation.issue_receipt(committee().terms, seat, others, committee().accounts[seat]))

    for i in range(5):
        hall.upload(upload_of(i))
    wait(hall.spread(withhold), DEADLINE_MS)
    assert hall.close().reports == ()
    assert [least_admitted(hall.contexts[0], holding(hall, count)) for count in range(6)] == [3, 3, 3, 3, 3, 4]


def holding(hall: Hall, count: int) -> RoundState:
    """Return validator 0's state with so many of the reports."""
    reports = dict(list(hall.states[0].reports.items())[:count])
    return replace(hall.states[0], reports=reports, fetched={})


def test_less_than_half_of_the_reports_is_no_close_after_the_deadline_either() -> None:
    hall = admitted(4)
    wait(hall, DEADLINE_MS)
    whole = hall.close()
    for count, admitted_here in ((4, True), (3, False), (2, False)):
        part = replace(whole, reports=whole.reports[:count], weights=whole.weights[:count])
        accepted = payload_accepted(hall.contexts[0], hall.states[0], (), encode_payload(part), hall.now)
        assert accepted == admitted_here


# ------------------------------------------------------------------------------------------------ finish


def test_sealed_columns_are_useless_after_the_round() -> None:
    hall = admitted(3)
    secret = hall.states[5].secrets[0]
    terms, upload = committee().terms, upload_of(0)
    open_columns(terms, upload.report, 5, upload.boxes[5], secret)
    played(hall)
    for state in hall.states.values():
        assert sorted(state.secrets) == [1, 2]
    for kept in hall.states[5].secrets.values():
        with pytest.raises(SealedColumnsError, match="does not open"):
            open_columns(terms, upload.report, 5, upload.boxes[5], kept)


def test_the_next_rounds_terms_come_from_the_header() -> None:
    hall = admitted(3)
    _, certified = played(hall)
    header, terms = certified.header, hall.states[7].terms
    assert (terms.round, terms.previous, terms.model) == (1, header.digest, sha256(model_of(range(3))).digest())
    assert terms.beacon == sha256(header.beacon).digest()
    assert terms.seats[7].seal_key == hall.states[7].secrets[1].public_bytes


def test_a_silent_validator_gets_no_columns_in_the_next_round() -> None:
    hall = Hall.opened(2, absent=[9]).spread()
    for trainer in range(2):
        hall.upload(upload_of(trainer))
    wait(hall.spread(), 100)
    played(hall)
    assert hall.states[0].terms.seats[9].seal_key is None


def malformed_upload(trainer: int) -> aggregation.Upload:
    """Return a report that is right in all that is checked, about a c that is not A s + e + 2^nu m."""
    with pytest.MonkeyPatch.context() as cheat:
        honest = report_module.mask_under
        noise = Stream(sha256(b"malformed").digest())

        def add_noise(layout: Any, *rest: Any) -> np.ndarray:
            drawn = algebra.sample_field(noise, layout.blocks * 4096).reshape(layout.blocks, 4096)
            return algebra.add(honest(layout, *rest), drawn)

        cheat.setattr(report_module, "mask_under", add_noise)
        return aggregation.make_upload(
            committee().terms, committee().trainers[trainer], update_of(trainer), RANDOM.split("malformed")
        )


@pytest.mark.slow
def test_a_malformed_ciphertext_makes_the_round_invalid_and_the_next_one_works() -> None:
    hall = Hall.opened(2).spread()
    for upload in (upload_of(0), malformed_upload(1)):
        hall.upload(upload)
    wait(hall.spread(), 100)
    assert not hall.seen(Refused), "without proofs nobody can tell"
    _, certified = played(hall)
    assert (certified.header.outcome, certified.header.total) == ("invalid", bytes(32))
    assert {(s.terms.round, s.model) for s in hall.states.values()} == {(1, EMPTY_MODEL)}
    hall.spread()
    hall.effects.clear()
    for trainer in range(2):
        key = committee().trainers[trainer]
        hall.upload(
            aggregation.make_upload(hall.states[0].terms, key, update_of(trainer), RANDOM.split(f"2 {trainer}"))
        )
    wait(hall.spread(), 100)
    _, certified = played(hall)
    assert certified.header.outcome == "opened"
    assert hall.states[0].model == model_of(range(2))


def test_a_report_that_comes_too_late_is_dropped_and_enters_no_later_sum() -> None:
    hall = with_three_of_four()
    close = wait(hall, STRAGGLER_MS).close()
    hall.finalise(close)
    hall.upload(upload_of(3))  # after the close: it is in nobody's sum
    hall.finish(hall.spread().certified())
    assert {state.model for state in hall.states.values()} == {model_of(range(3))}
    assert not any(state.reports or state.columns for state in hall.states.values())
    (refused,) = hall.give(5, upload_of(3))  # after the round
    assert isinstance(refused.reason, WrongRoundError)
    next_terms = hall.states[5].terms
    moved = re_sign(upload_of(3), 3, round=next_terms.round, terms=next_terms.digest)
    (refused,) = hall.give(5, moved)  # as a report of the next round: what it proves is about the old terms
    assert isinstance(refused.reason, AuditFailedError)


# ------------------------------------------------------------------------------------------------ stale reports


@dataclass(frozen=True)
class Patient(Tally):
    """A task that takes updates from the model of one round before, where there is one."""

    def layout(self, round_number: int) -> Layout:
        plain = super().layout(round_number)
        return replace(plain, budget=replace(plain.budget, weight_max=2 if round_number else 1))


@pytest.mark.slow
def test_a_stale_report_counts_half_and_one_that_is_too_stale_not_at_all() -> None:
    town = Town(4, agreed=Patient(), quorum=3)
    town.send_reports(range(3), {2: 1})
    town.send_reports([3])
    header = one_header(town.run_round(5_000))
    assert {type(reason) for _, reason in town.refused} == {ReportRejectedError}, "there is no model before the first"
    assert town.states[0].round.model == model_of([0, 1, 3])
    town.refused.clear()
    terms = town.states[0].round.terms
    sent = town.send_reports(range(4), {2: 1, 3: 2})
    header = one_header(town.run_round(5_000))
    weighted = 2 * update_of(0) + 2 * update_of(1) + update_of(2)
    assert header.outcome == "opened"
    assert town.states[0].round.model == model_of([0, 1, 3]) + weighted.astype("<i8").tobytes()
    assert {str(reason) for _, reason in town.refused} == {"report is 2 rounds stale, round 1 takes up to 1"}
    closes = [decode_payload(c.block.payload) for c in town.committed[0] if c.block.payload]
    close = next(close for close in closes if isinstance(close, Close) and close.round == 1)
    by_id = {upload.report.id: upload.report for upload in sent.values()}
    assert [close.weights[i] for i, r in enumerate(close.reports)] == [2 - by_id[r].staleness for r in close.reports]
    check_close(EachForItself(), terms, close, by_id, 2, 1)
    for weights in ((1, 1, 1), (2, 2, 2), (0, 2, 2), close.weights[::-1]):
        if weights != close.weights:
            with pytest.raises(CloseRefusedError, match="expected"):
                check_close(EachForItself(), terms, replace(close, weights=weights), by_id, 2, 1)


# ------------------------------------------------------------------------------------------------ whole rounds


def one_header(finished: list[RoundFinished]) -> Header:
    assert len({(f.header.digest, f.model) for f in finished}) == 1
    return finished[0].header


@pytest.mark.slow
def test_sixteen_validators_agree_on_two_rounds() -> None:
    town = Town(3)
    for number in range(2):
        town.send_reports(range(3))
        header = one_header(town.run_round(5_000))
        assert (header.round, header.outcome, header.lying) == (number, "opened", ())
    assert town.states[0].round.model == model_of(range(3)) * 2
    assert not town.refused


@pytest.mark.slow
def test_absent_lying_and_equivocating_seats_change_neither_header_nor_model() -> None:
    """One absent, one lies to all, one to odd peers: 2 x 2 wrong sums + 1 missing is what the code corrects at most."""
    absent, liar, equivocator = 6, 13, 9

    def lie(sender: int, to: int, message: Any) -> Any:
        wrong = sender == liar or (sender == equivocator and to % 2 == 1)
        if wrong and isinstance(message, Release):
            return released_as(message, key_sums=tuple(garble(s, f"{sender}") for s in message.key_sums))
        return message

    town = Town(3, absent=[absent], tamper=lie, work=SharedWork())  # locating errors is most of the time
    for number in range(2):
        town.send_reports(range(3))
        finished = town.run_round(20_000)
        header = one_header(finished)
        assert (header.round, header.outcome, len(finished)) == (number, "opened", SEATS - 1)
        assert liar in header.lying
        assert set(header.lying) <= {liar, equivocator}
        assert finished[0].model == model_of(range(3)) * (number + 1)


@pytest.mark.slow
def test_an_absent_leader_is_passed_over() -> None:
    town = Town(2, absent=(1, 2))  # the leaders of views 1 and 2
    town.send_reports(range(2))
    header = one_header(town.run_round(10_000))
    assert header.outcome == "opened"
    blocks = [c.block for c in town.committed[0] if c.block.payload]
    assert [type(decode_payload(block.payload)) for block in blocks] == [Close, Certified]
    assert blocks[0].author == 3
    assert blocks[0].view >= 3


@pytest.mark.slow
def test_a_proposal_that_nobody_hears_costs_no_turn() -> None:
    """All have the releases, so all have voted for what it says, and follow its certificate."""

    def mute(sender: int, to: int, message: Any) -> Any:
        return None if isinstance(message, HeaderProposal) and sender != to else message

    town = Town(2, tamper=mute)
    town.send_reports(range(2))
    assert one_header(town.run_round(10_000)).outcome == "opened"
    assert town.now < 1_500


@pytest.mark.slow
def test_a_proposer_that_falls_silent_after_its_close_is_replaced() -> None:
    """Whose close became final would propose the header; it does not, so the next in line takes its turn."""

    def mute(sender: int, to: int, message: Any) -> Any:
        lost = isinstance(message, HeaderProposal) and message.proposer == 1
        return None if lost or (isinstance(message, HeaderVote) and to == 1) else message

    town = Town(2, tamper=mute)
    town.send_reports(range(2))
    header = one_header(town.run_round(10_000))
    assert header.outcome == "opened"
    assert town.now >= 1_500


@pytest.mark.slow
def test_garbage_beacon_shares_are_left_out() -> None:
    def spoil(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, Release) and sender in (0, 5):
            return released_as(message, beacon_share=committee().beacons[sender].partial(0, 77))
        return message

    town = Town(2, tamper=spoil)
    town.send_reports(range(2))
    header = one_header(town.run_round(10_000))
    committee().beacons[0].verify(0, 1, header.beacon)


@pytest.mark.slow
def test_a_town_that_hears_no_trainer_skips_and_goes_on() -> None:
    town = Town(3)
    header = one_header(town.run_round(DEADLINE_MS + 5_000))
    assert (header.outcome, town.states[4].round.model) == ("skipped", EMPTY_MODEL)
    town.send_reports(range(3))
    assert one_header(town.run_round(5_000)).outcome == "opened"


@pytest.mark.slow
def test_trainers_that_come_and_go_cost_no_round_its_deadline() -> None:
    """With a quorum of three, four trainers are absent in turn, one for two rounds; back again, each takes part."""
    town = Town(4, quorum=3)
    expected = EMPTY_MODEL
    for present in ([0, 1, 2], [1, 2, 3], [0, 1, 3], [0, 1, 2, 3]):
        town.send_reports(present)
        began = town.now
        header = one_header(town.run_round(5_000))
        expected += model_of(present)
        assert (header.outcome, town.states[0].round.model) == ("opened", expected)
        assert town.now - began < 2 * STRAGGLER_MS
    assert not town.refused


@pytest.mark.slow
def test_a_town_waits_for_its_founding_round() -> None:
    """Nobody reports for many deadlines; the round is not skipped, and opens when two trainers are there."""
    town = Town(3, agreed=Founding(), timing=RoundTiming(deadline_ms=500))
    town.run_until(3_000)
    assert {state.round.terms.round for state in town.states.values()} == {0}
    assert not any(committed.block.payload for blocks in town.committed.values() for committed in blocks)
    town.send_reports(range(2))
    assert one_header(town.run_round(5_000)).outcome == "opened"
    assert one_header(town.run_round(5_000)).outcome == "skipped"


# ------------------------------------------------------------------------------------------------ a round ends


def nobody_asks_in_vain(hall: Hall) -> set[int]:
    """Return whom validator 0 asks for reports, and take its questions off the network."""
    asked = {to for sender, to, message in hall.outbox if sender == 0 and isinstance(message, ReportRequest)}
    hall.outbox = [said for said in hall.outbox if not isinstance(said[2], ReportRequest)]
    return asked


def test_a_report_that_others_vouch_for_is_asked_for_until_it_comes() -> None:
    """Two are asked at a time, others each time: five of the fifteen may be silent."""
    hall = Hall.opened(2)
    hall.upload(upload_of(0), to=range(1, SEATS))
    silent = hall.spread(lambda _, to, m: None if isinstance(m, ReportRequest) else m)
    asked = set[int]()
    for _ in range(8):
        assert not silent.give(0, RoundAlarm(0)), "not before the others have had their time"
        wait(silent, RoundTiming().turn_ms)
        (timer,) = [e for e in silent.give(0, RoundAlarm(0)) if isinstance(e, RoundTimer)]
        assert timer.at_ms == silent.now + RoundTiming().turn_ms
        asked |= nobody_asks_in_vain(silent)
    assert asked == set(range(1, SEATS))
    wait(silent, RoundTiming().turn_ms)
    silent.give(0, RoundAlarm(0))
    assert set(silent.spread().states[0].fetched) == {upload_of(0).report.id}
    wait(silent, RoundTiming().turn_ms)
    silent.give(0, RoundAlarm(0))
    assert nobody_asks_in_vain(silent) == set(), "it has come"


def test_a_report_that_few_vouch_for_is_not_asked_for_later_either() -> None:
    hall = Hall.opened(2)
    hall.upload(upload_of(0), to=range(1, 6))  # five of sixteen can all be bad
    wait(hall.spread(), RoundTiming().turn_ms)
    hall.give(0, RoundAlarm(0))
    assert nobody_asks_in_vain(hall) == set()


def test_from_twice_the_deadline_on_nothing_is_proposed_but_to_skip_the_round() -> None:
    hall = admitted(3)
    whole = hall.close()
    hall.now = 2 * DEADLINE_MS - 1
    assert hall.close() == whole
    wait(hall, 1)
    assert hall.close() == replace(whole, seats=(), reports=(), weights=(), listed=(), receipts=())
    assert accepts(hall, hall.close())
    assert accepts(hall, whole), "who proposed it a little earlier is not let down"
    assert not accepts(hall, replace(whole, reports=whole.reports[:2], weights=(1, 1))), "none is left out the sooner"


def test_a_round_that_may_not_be_skipped_is_not_proposed_to_be_skipped() -> None:
    hall = admitted(3)
    for i, context in hall.contexts.items():
        hall.contexts[i] = replace(context, agreed=Founding())
    whole = hall.close()
    wait(hall, 9 * DEADLINE_MS)
    assert hall.close() == whole


@pytest.mark.slow
@pytest.mark.parametrize("answered", [True, False])
def test_a_report_that_one_honest_validator_lacks_does_not_hold_up_the_round(answered: bool) -> None:
    """Five validators sign receipts and do nothing else; a trainer sends to all but one of the others.

    Each of the ten that hold its report proposes a close that the eleventh cannot vote for, and they are no quorum.
    """
    silent, lacks = frozenset(range(1, 6)), 0

    def hinder(sender: int, to: int, message: Any) -> Any:
        unheard = sender in silent and not isinstance(message, SeatReceipt | Announcement)
        unanswered = isinstance(message, ReportReply) and not answered
        return None if unheard or unanswered else message

    town = Town(3, tamper=hinder, timing=RoundTiming(deadline_ms=3_000, turn_ms=200))
    for trainer in range(3):
        for to in set(range(SEATS)) - ({lacks} if trainer == 0 else set()):
            town._post(to, LINK_MS, upload_of(trainer))
    header = one_header(town.run_round(60_000))
    # a close is agreed on either way; of the one that admits all three reports the silent ones release nothing
    assert header.outcome == ("lost" if answered else "skipped")


# ------------------------------------------------------------------------------------------------ what waits


def receipt_ahead(seat: int, reports: list[bytes]) -> SeatReceipt:
    """Return a receipt of the next round, of terms that nobody here knows yet."""
    terms = replace(committee().terms, round=1)
    return SeatReceipt(1, aggregation.issue_receipt(terms, seat, reports, committee().accounts[seat]))


def test_of_a_seats_receipts_the_longest_waits_and_none_longer_than_the_cohort() -> None:
    hall = Hall.opened(3)
    ids = [bytes([i]) * 32 for i in range(4)]
    for count in (1, 3, 2, 3):
        assert hall.give(0, receipt_ahead(7, ids[:count]), 7) == []
    ((_, waiting),) = hall.states[0].ahead
    assert waiting.receipt.names == set(ids[:3])
    (refused,) = hall.give(0, receipt_ahead(7, ids), 7)
    assert isinstance(refused.reason, NotSenderError)


def test_one_signed_proposal_of_a_validator_waits() -> None:
    _, proposal = proposed()
    hall, ahead = Hall.opened(3), proposed_as(proposal, round=1)
    (refused,) = hall.give(5, replace(ahead, signature=bytes(65)), 0)
    assert isinstance(refused.reason, CollegiumError)
    forged = sign_proposal(ahead, committee().accounts[3])
    (refused,) = hall.give(5, forged, 0)
    assert isinstance(refused.reason, NotSenderError)
    for total in (b"a", b"b"):
        assert hall.give(5, proposed_as(ahead, total=total * 32), 0) == []
    ((_, waiting),) = hall.states[5].ahead
    assert waiting.header.total == b"a" * 32


def test_what_waits_is_bounded_in_number_and_in_bytes_for_each_sender() -> None:
    hall, proposal = Hall.opened(3), proposed()[1]
    for seat in range(8):
        assert hall.give(5, receipt_ahead(seat, [bytes(32)]), 9) == []
    (refused,) = hall.give(5, receipt_ahead(8, [bytes(32)]), 9)
    assert isinstance(refused.reason, NotSenderError)
    assert "8 messages" in str(refused.reason)
    vast = replace(proposal.key_sums[0], rows=np.zeros((1 << 20, 4), np.uint64))
    release = Release(1, 8, bytes(32), (vast,), b"")
    (refused,) = hall.give(5, release, 8)
    assert isinstance(refused.reason, NotSenderError)
    assert "bytes waiting" in str(refused.reason)
    assert hall.give(5, replace(release, key_sums=proposal.key_sums[:1]), 8) == [], "an honest one's"
    assert {origin for origin, _ in hall.states[5].ahead} == {8, 9}
