"""Reports that weigh by what they are worth, and the records of a round by which a task finds that out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from _quality_stage import ForgedError, Marks, RepeatedError, record, told
from _round_stage import (
    EMPTY_MODEL,
    LINK_MS,
    SEATS,
    EachForItself,
    Hall,
    Tally,
    Town,
    committee,
    context_of,
    re_sign,
    sum_of,
    update_of,
    upload_of,
    wait,
)

from collegium.aggregation import Layout, ReportRejectedError, WeightsRefusedError
from collegium.consensus import (
    ROUND_RECORD_BYTES_MAX,
    Block,
    Close,
    CloseRefusedError,
    Kept,
    NotDrawnError,
    Refused,
    RefusedRecordError,
    Relay,
    RoundEntry,
    RoundRecord,
    ShardContext,
    ShardPlan,
    ShardPlanError,
    WeighedReport,
    WrongRoundError,
    check_close,
    check_round_records,
    decode_payload,
    encode_payload,
    encode_round_record,
    is_beside_rounds,
    is_round_record,
    records_by_round,
    restore_validator,
    validator_step,
)
from collegium.consensus._close_rules import close_for, least_admitted
from collegium.consensus._round import payload_accepted, round_step
from collegium.consensus._round_records import (
    AHEAD_MAX,
    RoundRecords,
    awaits_record,
    forgets_record,
    next_record,
    record_may_follow,
    take_record,
)
from collegium.consensus._round_types import RoundState, RoundSubmit
from collegium.errors import CollegiumError
from collegium.node import SharedWork

DEADLINE_MS = 60_000
KEYS_MS = 1_000
RECORDS_MS = DEADLINE_MS // 4
HEAVY = 15
CLOSE, HEADER = b"C a close", b"H a header"


def trainer(number: int) -> bytes:
    return committee().trainers[number].address


@dataclass(frozen=True)
class Weighing(Tally):
    """A task in whose rounds after the first a report weighs up to 15."""

    def layout(self, round_number: int) -> Layout:
        plain = super().layout(round_number)
        return replace(plain, budget=replace(plain.budget, weight_max=HEAVY if round_number else 1))


def weighed(count: int, weights: Iterable[int], **changes: Any) -> Hall:
    """Return a hall of so many trainers, all of whose reports have every receipt, in a round of these weights."""
    table = {0: {trainer(number): weight for number, weight in enumerate(weights)}}
    hall = Hall.opened(count, quality=Marks(table), work=SharedWork(), **changes).spread()
    for number in range(count):
        hall.upload(upload_of(number))
    return wait(hall.spread(), 100)


def close_accepted(hall: Hall, close: Close) -> bool:
    return payload_accepted(hall.contexts[5], hall.states[5], (), encode_payload(close), hall.now)


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.slow
def test_a_close_weighs_each_report_by_its_trainer_and_the_sum_follows() -> None:
    hall = weighed(3, (1, 0, 1))
    close = hall.close()
    owner = {upload_of(number).report.id: number for number in range(3)}
    assert [close.weights[place] for place, report in enumerate(close.reports)] == [
        0 if owner[report] == 1 else 1 for report in close.reports
    ]
    assert close_accepted(hall, close)
    hall.finalise(close)
    certified = hall.spread().certified()
    hall.finish(certified)
    assert certified.header.outcome == "opened"
    reports = [
        WeighedReport(upload_of(owner[r]).report, w, b"") for r, w in zip(close.reports, close.weights, strict=True)
    ]
    expected = sum_of([0, 2]).astype("<i8").tobytes() + told(reports, [])
    assert {state.model for state in hall.states.values()} == {expected}


@pytest.mark.slow
def test_a_close_with_other_weights_than_the_models_is_refused_by_name() -> None:
    hall = weighed(3, (1, 0, 1))
    close, state = hall.close(), hall.states[5]
    reports = {report: held.report for report, held in state.held().items()}
    entry = RoundEntry({trainer(0): 1, trainer(1): 0, trainer(2): 1}, frozenset())
    check_close(EachForItself(), state.terms, close, reports, 2, 1, entry=entry)
    for wrong in ((1, 1, 1), tuple(1 - weight for weight in close.weights)):
        changed = replace(close, weights=wrong)
        assert not close_accepted(hall, changed)
        with pytest.raises(CloseRefusedError, match=r"weights .*, expected"):
            check_close(EachForItself(), state.terms, changed, reports, 2, 1, entry=entry)
    with pytest.raises(CloseRefusedError, match=r"weights .*, expected \(1, 1, 1\)"):
        check_close(EachForItself(), state.terms, close, reports, 2, 1)  # who looks without the task's weights


@pytest.mark.slow
def test_a_round_in_which_too_few_carry_weight_is_skipped_at_the_deadline_and_adds_nobody() -> None:
    hall = weighed(3, (1, 0, 0))
    context, state = hall.contexts[5], hall.states[5]
    assert close_for(context, state, hall.now) is None, "complete, but nothing that a seat would add"
    equal = Hall.opened(3, work=SharedWork()).spread()
    for number in range(3):
        equal.upload(upload_of(number))
    whole = wait(equal.spread(), 100).close()
    lone = replace(whole, weights=tuple(int(r == upload_of(0).report.id) for r in whole.reports))
    reports = {report: held.report for report, held in state.held().items()}
    with pytest.raises(CloseRefusedError, match="1 reports carry weight, at least 2 hide each other"):
        check_close(EachForItself(), state.terms, lone, reports, 2, 1, entry=only(trainer(0)))
    assert not close_accepted(hall, lone)
    skip = replace(whole, seats=(), reports=(), weights=(), listed=(), receipts=())
    assert not close_accepted(hall, skip), "somebody who carries weight may still come"
    wait(hall, DEADLINE_MS)
    assert not close_accepted(hall, lone)
    proposed = close_for(context, state, hall.now)
    assert proposed is not None
    assert not proposed.reports
    assert close_accepted(hall, proposed)


def test_seats_add_no_columns_of_a_close_in_which_too_few_carry_weight() -> None:
    """Why such a close must not become final: its seats would refuse, and the round would wait for their sums."""
    hall = weighed(3, (1, 1, 0))
    close = hall.close()
    with pytest.raises(WeightsRefusedError, match="1 reports carry weight, at least 2 must"):
        hall.finalise(replace(close, weights=tuple(int(r == upload_of(0).report.id) for r in close.reports)))
    hall.finalise(close)
    assert hall.spread().certified().header.outcome == "opened"


@pytest.mark.slow
def test_only_those_that_carry_weight_count_where_reports_are_left_out() -> None:
    """A leader must not keep the weightless and drop the others, until somebody is alone with trainers of its own."""
    hall = weighed(6, (1, 1, 1, 1, 0, 0))
    context, state = hall.contexts[5], hall.states[5]
    assert least_admitted(context, state) == 3
    wait(hall, DEADLINE_MS)
    close, heavy = hall.close(), {upload_of(number).report.id for number in range(4)}
    dropped = sorted(heavy)[:2]
    kept = [place for place, report in enumerate(close.reports) if report not in dropped]
    fewer = replace(
        close,
        reports=tuple(close.reports[place] for place in kept),
        weights=tuple(close.weights[place] for place in kept),
    )
    assert len(fewer.reports) == 4
    assert close_accepted(hall, close)
    assert not close_accepted(hall, fewer)
    equal = replace(context, quality=None)  # four of six would do after the deadline if they all weighed alike
    assert least_admitted(equal, state) == 4


def test_a_stale_report_is_refused_where_reports_weigh_by_quality() -> None:
    hall = weighed(2, (1, 1, 1), agreed=Weighing())
    stale = re_sign(upload_of(2), 2, staleness=1)
    wide = replace(committee().terms, layout=Weighing().layout(1))
    state = replace(hall.states[5], terms=wide)
    context = replace(hall.contexts[5], cohort=frozenset(trainer(number) for number in range(3)))
    _, effects = round_step(context, state, stale, 100)
    (refused,) = [effect.reason for effect in effects if isinstance(effect, Refused)]
    assert isinstance(refused, ReportRejectedError)
    assert "rounds stale, in a round of weights by quality" in str(refused)
    close = hall.close()
    reports = {report: replace(held.report, staleness=1) for report, held in hall.states[5].held().items()}
    with pytest.raises(CloseRefusedError, match="is stale, in a round of weights by quality"):
        check_close(EachForItself(), hall.states[5].terms, close, reports, 2, 1, entry=only(trainer(0)))


def test_rounds_in_shards_take_no_weights_by_quality() -> None:
    plain = context_of(0, 8)
    ShardContext(plain, ShardPlan(2, SEATS, 4))
    with pytest.raises(ShardPlanError, match="no weights by quality"):
        ShardContext(replace(plain, quality=Marks()), ShardPlan(2, SEATS, 4))


# ------------------------------------------------------------------------------------------------ who may report


def only(heavy: bytes) -> RoundEntry:
    """All may report, and one has weight."""
    return RoundEntry({trainer(number): int(trainer(number) == heavy) for number in range(6)}, frozenset())


def drawn(weights: Mapping[int, int], unawaited: Iterable[int] = (), cohort: int = 4) -> Hall:
    """Return a hall in whose round these trainers may report, of whom it waits for all but some."""
    table = {0: {trainer(number): weight for number, weight in weights.items()}}
    marks = Marks(table, frozenset(trainer(number) for number in unawaited))
    return Hall.opened(cohort, quality=marks, work=SharedWork()).spread()


def refusals(hall: Hall, number: int) -> list[CollegiumError]:
    """Return why a validator refuses a trainer's report."""
    _, effects = round_step(hall.contexts[5], hall.states[5], upload_of(number), hall.now)
    return [effect.reason for effect in effects if isinstance(effect, Refused)]


@pytest.mark.slow
def test_a_round_waits_neither_for_who_is_not_drawn_nor_for_who_is_locked_out() -> None:
    hall = drawn({0: 1, 1: 1, 2: 0}, unawaited=[2])
    hall.upload(upload_of(0))
    assert close_for(hall.contexts[5], wait(hall.spread(), 100).states[5], hall.now) is None
    hall.upload(upload_of(1))
    close = wait(hall.spread(), 100).close()
    assert {upload_of(0).report.id, upload_of(1).report.id} == set(close.reports)
    assert close_accepted(hall, close)
    hall.finalise(close)
    assert hall.spread().certified().header.outcome == "opened"


@pytest.mark.slow
def test_the_report_of_who_is_locked_out_is_in_the_close_where_it_came_and_one_without_it_is_voted_for() -> None:
    hall = drawn({0: 1, 1: 1, 2: 0}, unawaited=[2])
    hall.upload(upload_of(0))
    hall.upload(upload_of(1))
    without = wait(hall.spread(), 100).close()
    hall.upload(upload_of(2))
    whole = wait(hall.spread(), 100).close()
    assert len(whole.reports) == 3
    assert sorted(whole.weights) == [0, 1, 1]
    assert close_accepted(hall, whole)
    assert close_accepted(hall, without), "its leader may not have had it yet"
    waited = drawn({0: 1, 1: 1, 2: 0})  # the same three, all of them awaited
    for number in range(3):
        waited.upload(upload_of(number))
    assert not close_accepted(wait(waited.spread(), 100), without)


def test_a_report_of_who_is_not_drawn_is_refused_by_name_before_its_proof_is_looked_at() -> None:
    hall = drawn({0: 1, 1: 1, 2: 0}, unawaited=[2])
    assert not refusals(hall, 0)
    assert not refusals(hall, 2)
    (refused,) = refusals(hall, 3)
    assert isinstance(refused, NotDrawnError)
    assert f"trainer {trainer(3).hex()} reports in round 0, for which it is not drawn" in str(refused)


@pytest.mark.slow
def test_a_close_that_admits_somebody_who_is_not_drawn_is_refused_by_name() -> None:
    hall = drawn({0: 1, 1: 1, 2: 0})
    for number in range(3):
        hall.upload(upload_of(number))
    close = wait(hall.spread(), 100).close()
    reports = {report: held.report for report, held in hall.states[5].held().items()}
    terms = hall.states[5].terms
    entry = RoundEntry({trainer(0): 1, trainer(1): 1, trainer(2): 0}, frozenset())
    check_close(EachForItself(), terms, close, reports, 2, 1, entry=entry)
    fewer = RoundEntry({trainer(0): 1, trainer(1): 1}, frozenset())
    with pytest.raises(CloseRefusedError, match=f"trainer {trainer(2).hex()} is not drawn for round 0"):
        check_close(EachForItself(), terms, close, reports, 2, 1, entry=fewer)


@pytest.mark.slow
def test_after_the_deadline_a_close_of_those_drawn_that_came_will_do() -> None:
    hall = drawn({0: 1, 1: 1, 2: 1})
    for number in range(2):
        hall.upload(upload_of(number))
    wait(hall.spread(), 100)
    assert close_for(hall.contexts[5], hall.states[5], hall.now) is None, "the third is drawn, too"
    close = wait(hall, DEADLINE_MS).close()
    assert len(close.reports) == 2
    assert close_accepted(hall, close)


# ------------------------------------------------------------------------------------------------ records in the order


def q(author: str, round_number: int = 0) -> bytes:
    return encode_round_record(record(author, round_number))


def test_what_is_final_before_a_close_counts_for_its_round_in_that_order() -> None:
    payloads = [q("B"), b"W beside", q("A"), CLOSE, HEADER, CLOSE, HEADER, q("A", 2), CLOSE, HEADER]
    assert records_by_round(payloads) == [(record("B"), record("A")), (), (record("A", 2),)]
    check_round_records(Marks(), 0, b"", [record("B"), record("A")])
    for wrong, why in (([record("A"), record("A")], RepeatedError), ([record("A"), record("B", 1)], ForgedError)):
        with pytest.raises(why):
            check_round_records(Marks(), 0, b"", wrong)
    with pytest.raises(RefusedRecordError, match="between a close and its header"):
        records_by_round([q("A"), CLOSE, q("B"), HEADER])
    assert is_round_record(q("A"))
    assert is_beside_rounds(q("A"))
    assert not any(is_round_record(payload) for payload in (CLOSE, HEADER, b"", b"D a dealing", b"W"))


@pytest.mark.parametrize("length", [0, ROUND_RECORD_BYTES_MAX + 1])
def test_a_record_of_no_length_or_too_long_is_none(length: int) -> None:
    with pytest.raises(RefusedRecordError, match=f"a record of {length} bytes"):
        records_by_round([encode_round_record(bytes(length))])
    assert RoundRecords().ordered(encode_round_record(bytes(ROUND_RECORD_BYTES_MAX))).final
    with pytest.raises(RefusedRecordError, match=f"a record of {length} bytes"):
        check_round_records(Marks(), 0, b"", [bytes(length)])


def test_a_round_has_so_many_records_and_no_more() -> None:
    state = RoundRecords()
    for _ in range(256):
        state = state.ordered(q("A"))
    with pytest.raises(RefusedRecordError, match="after 256"):
        state.ordered(q("A"))


def scene() -> tuple[Any, RoundState]:
    """Return a validator's surroundings and its state in round 0, with a task that takes records."""
    hall = Hall.opened(2, absent=range(1, SEATS), quality=Marks())
    return hall.contexts[0], hall.states[0]


def test_one_record_of_an_author_is_held_and_the_first_that_is_ordered_counts() -> None:
    context, state = scene()
    held = take_record(context, state, RoundRecords(), RoundRecord(0, record("A", 0, "one")), 5)
    assert take_record(context, state, held, RoundRecord(0, record("A", 0, "one")), 9) is held
    with pytest.raises(RepeatedError):
        take_record(context, state, held, RoundRecord(0, record("A", 0, "two")), 9)
    held = take_record(context, state, held, RoundRecord(0, record("B")), 9)
    one, two = encode_round_record(record("A", 0, "one")), encode_round_record(record("A", 0, "two"))
    assert next_record(context, state, held, ()) == one
    assert next_record(context, state, held, (one,)) == q("B")
    assert next_record(context, state, held, (two,)) == q("B"), "the other one of the same author was there first"
    assert next_record(context, state, held.ordered(two), ()) == q("B")
    assert next_record(context, state, held, (one, q("B"))) is None
    assert next_record(context, state, held, (CLOSE,)) is None
    assert not record_may_follow(context, state, held, (one,), two)
    assert record_may_follow(context, state, held, (), two), "held is not ordered"
    assert not record_may_follow(context, state, held, (CLOSE,), q("B"))
    assert not record_may_follow(context, state, held.ordered(CLOSE), (), q("B"))


@pytest.mark.parametrize(
    ("brought", "why"),
    [
        (RoundRecord(0, record("X")), ForgedError),
        (RoundRecord(0, record("A", 1)), ForgedError),
        (RoundRecord(2, record("A", 2)), WrongRoundError),
        (RoundRecord(0, b""), RefusedRecordError),
        (RoundRecord(1, bytes(ROUND_RECORD_BYTES_MAX + 1)), RefusedRecordError),
    ],
)
def test_what_may_not_be_ordered_is_not_held(brought: RoundRecord, why: type[CollegiumError]) -> None:
    context, state = scene()
    with pytest.raises(why):
        take_record(context, state, RoundRecords(), brought, 0)
    assert take_record(context, state, RoundRecords(), RoundRecord(0, record("A")), 0).held


def test_a_task_without_quality_orders_no_records() -> None:
    context, state = scene()
    plain = replace(context, quality=None)
    for number in (0, 1):
        with pytest.raises(RefusedRecordError, match="do not weigh by quality"):
            take_record(plain, state, RoundRecords(), RoundRecord(number, record("A")), 0)
    assert not record_may_follow(plain, state, RoundRecords(), (), q("A"))
    assert record_may_follow(context, state, RoundRecords(), (), q("A"))


def test_a_record_that_comes_early_waits_and_one_that_lacks_the_model_judges_none() -> None:
    context, state = scene()
    held = take_record(context, state, RoundRecords(), RoundRecord(1, record("A", 1)), 3)
    held = take_record(context, state, held, RoundRecord(1, record("X", 1)), 3)  # who could say yet
    assert next_record(context, state, held, ()) is None
    later = replace(state, terms=replace(state.terms, round=1))
    assert next_record(context, later, held, ()) == q("A", 1)
    assert next_record(context, later, held, (q("A", 1),)) is None, "what does not hold is never proposed"
    behind = replace(later, lacks_model=True)
    assert next_record(context, behind, held, ()) is None
    assert not record_may_follow(context, behind, held, (), q("A", 1))
    assert not forgets_record(context, behind, held, (), KEYS_MS + 3)
    for number in range(AHEAD_MAX - 2):
        held = take_record(context, state, held, RoundRecord(1, record("A", 1, str(number))), 3)
    with pytest.raises(RefusedRecordError, match=f"{AHEAD_MAX} records wait"):
        take_record(context, state, held, RoundRecord(1, record("B", 1)), 3)
    cleaned = take_record(context, later, held, RoundRecord(1, record("B", 1)), 4)
    assert [entry.record for entry in cleaned.held] == [record("A", 1), record("B", 1)]


def test_a_close_may_not_leave_out_a_record_that_has_been_here_for_a_while_until_the_deadline() -> None:
    context, state = scene()
    held = take_record(context, state, RoundRecords(), RoundRecord(0, record("A")), 50)
    assert not forgets_record(context, state, held, (), 50 + KEYS_MS - 1), "the leader may not have it yet"
    assert forgets_record(context, state, held, (), 50 + KEYS_MS)
    assert not forgets_record(context, state, held, (q("A"),), 50 + KEYS_MS)
    assert not forgets_record(context, state, held.ordered(q("A")), (), 50 + KEYS_MS)
    assert forgets_record(context, state, held, (), DEADLINE_MS - 1)
    assert not forgets_record(context, state, held, (), DEADLINE_MS)


def test_a_record_is_awaited_until_it_is_before_the_close_and_no_longer_than_a_quarter_of_the_deadline() -> None:
    context, state = scene()
    context = replace(context, quality=Marks(authors=b"AB"), work=SharedWork())
    state, none = replace(state, began_ms=7), RoundRecords()
    assert awaits_record(context, state, none, (), 7 + RECORDS_MS - 1)
    assert not awaits_record(context, state, none, (), 7 + RECORDS_MS)
    assert awaits_record(context, state, none, (q("A"), q("C")), 100)
    assert not awaits_record(context, state, none, (q("A"), q("B")), 100)
    assert awaits_record(context, state, none.ordered(q("A")), (), 100)
    assert not awaits_record(context, state, none.ordered(q("A")), (q("B"),), 100)
    assert not awaits_record(context, state, none.ordered(CLOSE), (), 100)
    assert not awaits_record(context, replace(state, lacks_model=True), none, (), 100)
    assert not awaits_record(replace(context, quality=None), state, none, (), 100)


# ------------------------------------------------------------------------------------------------ whole validators


def town(**changes: Any) -> Town:
    table = {1: {trainer(0): HEAVY, trainer(1): 4, trainer(2): 0}}
    return Town(3, agreed=Weighing(), quality=Marks(table), work=SharedWork(), **changes)


def bring(town: Town, brought: RoundRecord, to: Iterable[int] = range(SEATS)) -> None:
    for validator in to:
        town._post(validator, town.now + LINK_MS, brought)


def ordered(town: Town, validator: int = 0) -> list[bytes]:
    """Return the payloads that are final at a validator: a record as it is, else the letter of its kind."""
    payloads = [committed.block.payload for committed in town.committed[validator] if committed.block.payload]
    return [payload[1:] if is_round_record(payload) else payload[:1] for payload in payloads]


@pytest.mark.slow
def test_validators_order_records_before_the_close_and_step_with_them_and_with_weights() -> None:
    stage = town()
    for author in "BAX":
        bring(stage, RoundRecord(0, record(author)))
    bring(stage, RoundRecord(1, record("A", 1)))  # early: kept until its round
    stage.send_reports(range(3))
    stage.run_round(20_000)
    assert {type(reason) for _, reason in stage.refused} == {ForgedError}
    bring(stage, RoundRecord(0, record("C")))  # after the close: counts for no round
    sent = stage.send_reports(range(3))
    finished = stage.run_round(20_000)
    assert {type(reason) for _, reason in stage.refused} == {ForgedError, WrongRoundError}
    assert ordered(stage) == [record("B"), record("A"), b"C", b"H", record("A", 1), b"C", b"H"]
    closes = [decode_payload(c.block.payload) for c in stage.committed[0] if c.block.payload[:1] == b"C"]
    close = closes[1]
    assert isinstance(close, Close)
    by_id = {upload.report.id: upload.report for upload in sent.values()}
    weights = {trainer(0): HEAVY, trainer(1): 4, trainer(2): 0}
    assert list(close.weights) == [weights[by_id[report].trainer] for report in close.reports]
    entries = [WeighedReport(by_id[r], w, b"") for r, w in zip(close.reports, close.weights, strict=True)]
    total = (HEAVY * update_of(0) + 4 * update_of(1)).astype("<i8").tobytes()
    assert {entry.model[-80:] for entry in finished} == {total + told(entries, [record("A", 1)])}
    assert {entry.header.outcome for entry in finished} == {"opened"}


def awaiting(authors: bytes) -> Town:
    """Return a town whose rounds wait for these authors' records, and in which all reports are there."""
    stage = Town(3, agreed=Weighing(), quality=Marks(authors=authors), work=SharedWork())
    stage.send_reports(range(3))
    return stage


@pytest.mark.slow
def test_a_record_that_is_awaited_counts_though_all_reports_were_there_long_before() -> None:
    stage = awaiting(b"AB")
    bring(stage, RoundRecord(0, record("A")))
    stage.run_until(1_000)
    view = stage.states[0].replica.view
    stage.run_until(RECORDS_MS - 500)
    assert ordered(stage) == [record("A")]
    assert stage.states[0].replica.view == view, "waiting costs no view"
    bring(stage, RoundRecord(0, record("B")))
    stage.run_round(400)
    assert ordered(stage) == [record("A"), record("B"), b"C", b"H"]
    unasked = awaiting(b"")
    bring(unasked, RoundRecord(0, record("A")))
    unasked.run_round(400)
    bring(unasked, RoundRecord(0, record("B")))
    assert ordered(unasked) == [record("A"), b"C", b"H"]


@pytest.mark.slow
def test_records_that_never_come_cost_a_round_its_wait_and_no_more() -> None:
    stage = awaiting(b"ABC")
    bring(stage, RoundRecord(0, record("A")))
    stage.run_until(RECORDS_MS)
    assert ordered(stage) == [record("A")]
    stage.run_round(400)
    assert ordered(stage) == [record("A"), b"C", b"H"]


@pytest.mark.slow
def test_a_round_whose_records_are_there_in_time_is_closed_as_soon_as_if_none_were_awaited() -> None:
    ended = []
    for authors in (b"", b"AB"):
        stage = Town(3, agreed=Weighing(), quality=Marks(authors=authors), work=SharedWork())
        for author in "AB":
            bring(stage, RoundRecord(0, record(author)))
        stage.run_until(500)
        stage.send_reports(range(3))
        stage.run_round(400)
        ended.append(stage.now)
    assert ended[0] == ended[1]


@pytest.mark.slow
def test_a_leader_that_waits_for_no_record_finds_its_close_voted_for() -> None:
    """A rule of leaders alone: nobody could tell whether the leader had the record in time."""
    stage = awaiting(b"A")
    stage.run_until(2_000)
    impatient = replace(stage.contexts[0].round, quality=Marks())
    close = close_for(impatient, stage.states[0].round, stage.now)
    assert close is not None
    application = stage.contexts[4].ordering(stage.states[4], stage.now).application
    assert application.next_payload(()) is None
    assert application.accepts((), encode_payload(close))


@pytest.mark.slow
def test_a_record_that_one_validator_alone_was_given_is_ordered_all_the_same() -> None:
    """It relays it to the next leader at each timeout; until then it votes for no close, and the others need it not."""
    stage = town()
    bring(stage, RoundRecord(0, record("A")), [9])
    stage.run_until(2_000)
    assert ordered(stage) == [record("A")]
    stage.send_reports(range(3))
    stage.run_round(20_000)
    assert ordered(stage) == [record("A"), b"C", b"H"]


@pytest.mark.slow
def test_a_record_that_one_validator_alone_ever_hears_of_holds_up_nobody_and_gets_no_vote_against_it() -> None:
    alone = 9

    def drop(sender: int, to: int, message: Any) -> Any:
        told = isinstance(message, Relay | Block) and is_round_record(message.payload)
        return None if told and sender != to else message

    stage = town(tamper=drop)
    bring(stage, RoundRecord(0, record("A")), [alone])
    stage.run_until(2_000)
    before, at_ms = stage.states[alone], stage.now
    stage.send_reports(range(3))
    stage.run_until(2_050)
    complete = stage.states[alone]
    stage.run_round(20_000)
    assert ordered(stage, alone) == [b"C", b"H"]
    (close,) = [c.block.payload for c in stage.committed[0] if c.block.payload[:1] == b"C"]
    assert before.records.held
    assert stage.contexts[alone].ordering(complete, at_ms).application.accepts((q("A"),), close)
    assert not stage.contexts[alone].ordering(complete, at_ms).application.accepts((), close)
    assert (
        stage.contexts[alone].ordering(replace(complete, records=RoundRecords()), at_ms).application.accepts((), close)
    )


@pytest.mark.slow
def test_a_record_that_gives_no_model_makes_the_round_invalid_and_the_next_one_works() -> None:
    stage = town()
    bring(stage, RoundRecord(0, record("A", 0, "spoil")))
    stage.send_reports(range(3))
    finished = stage.run_round(20_000)
    assert {(entry.header.outcome, entry.header.failed, entry.model) for entry in finished} == {
        ("invalid", (), EMPTY_MODEL)
    }
    stage.send_reports(range(3))
    assert {entry.header.outcome for entry in stage.run_round(20_000)} == {"opened"}


class Trusting(Marks):
    """What a validator that lies looks at: nothing."""

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        """Take anything."""


@pytest.mark.slow
def test_nobody_signs_for_a_record_that_a_quorum_has_ordered_and_that_does_not_hold() -> None:
    """Whoever was away when records were ordered would else stand by what it has never looked at."""
    for ordered_record, holds in ((record("A"), True), (record("X"), False)):
        hall = weighed(3, (1, 1, 1))
        liar = hall.contexts[0]
        hall.contexts[0] = replace(liar, quality=Trusting({0: {trainer(i): 1 for i in range(3)}}), work=SharedWork())
        hall.finalise(hall.close(), records=(ordered_record,))
        hall.spread()
        refused = set(hall.refusals(ForgedError))
        if holds:
            assert hall.certified().header.outcome == "opened"
            assert not refused
        else:
            assert not hall.seen(RoundSubmit)
            assert refused == set(hall.states) - {0}


@pytest.mark.slow
def test_nobody_signs_that_a_sum_is_invalid_because_a_quorum_has_ordered_a_record_that_gives_no_model() -> None:
    """Programs read the sum alone, which opens: whoever signed `invalid` would lose its stake."""
    hall = weighed(3, (1, 1, 1))
    hall.finalise(hall.close(), records=(record("X", 0, "spoil"),))
    hall.spread()
    assert not hall.seen(RoundSubmit)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["weights", "sealing keys", "terms"])
def test_nobody_signs_for_a_close_that_a_quorum_has_ordered_and_that_it_would_not_have_voted_for(change: str) -> None:
    hall = weighed(3, (1, 1, 1))
    close = hall.close()
    wrong = {
        "weights": replace(close, weights=(3, 1, 1)),
        "sealing keys": replace(close, announcements=close.announcements[:1]),
        "terms": replace(close, terms=bytes(32)),
    }[change]
    assert close_accepted(hall, close)
    assert not close_accepted(hall, wrong)
    hall.finalise(wrong)
    hall.spread()
    assert not hall.seen(RoundSubmit)


@pytest.mark.slow
def test_what_was_ordered_before_a_crash_counts_after_it() -> None:
    stage = town()
    bring(stage, RoundRecord(0, record("A")))
    stage.run_until(3_000)
    assert stage.states[4].records.final == (record("A"),)
    first = (committee().terms, EMPTY_MODEL, {0: committee().first_seals[4]})
    blocks = tuple(committed.block for committed in stage.committed[4])
    kept = Kept(
        vote_state=stage.states[4].replica.vote_state,
        final=blocks[-1],
        stored=tuple(stage.states[4].replica.blocks.values()),
        payloads=tuple(block for block in blocks if block.payload),
    )
    restored, _ = restore_validator(stage.contexts[4], *first, kept, stage.now)
    assert restored.records == RoundRecords(final=(record("A"),))
    stage.states[4] = restored
    again, effects = validator_step(stage.contexts[4], restored, RoundRecord(0, record("A", 0, "again")), stage.now)
    assert [type(effect.reason) for effect in effects if isinstance(effect, Refused)] == [RepeatedError]
    assert again.records == restored.records
    stage.send_reports(range(3))
    finished = stage.run_round(20_000)
    assert len({entry.model for entry in finished}) == 1
    assert len(finished) == SEATS


@pytest.mark.slow
def test_a_relayed_record_is_held_and_takes_no_place_among_the_relayed() -> None:
    stage = town()
    relay = Relay(7, q("A"))
    state, _ = validator_step(stage.contexts[3], stage.states[3], relay, 5, 7)
    assert [entry.record for entry in state.records.held] == [record("A")]
    assert not state.replica.pool
    _, effects = validator_step(stage.contexts[3], stage.states[3], Relay(7, q("X")), 5, 7)
    assert [type(effect.reason) for effect in effects if isinstance(effect, Refused)] == [ForgedError]
    behind = replace(stage.states[3], round=replace(stage.states[3].round, lacks_model=True))
    state, _ = validator_step(stage.contexts[3], behind, relay, 5, 7)
    assert not state.records.held, "what cannot be judged is held for who brings it itself, not for who relays it"
