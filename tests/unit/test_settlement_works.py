"""Programs judge real rounds: right ones are accepted, and rejected after the smallest change of what they judge."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from _another_key import ACCOMPLICES, NAMED, mask_with_it, move_rows
from _round_stage import committee
from _works_stage import (
    LEARNING,
    PlayedRound,
    accepts,
    changed_sum,
    play,
    played,
    program,
    right,
    rows_of,
    run,
    terms_of,
    work_terms,
)

from collegium import learning
from collegium.aggregation import Budget, KeySum, Layout, SeatTerms, sign_key_sum
from collegium.algebra import P
from collegium.consensus import (
    OUTCOMES,
    Announcement,
    EpochSet,
    Validator,
    ValidatorIndex,
    assign_seats,
    total_bytes,
)
from collegium.crypto import frame_fields
from collegium.learning import Rule
from collegium.settlement import (
    KnownStretches,
    MachineRun,
    WorkTermsError,
    compile_program,
    public_works,
    step_rule,
)

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
WORKS = ("weights", "opening", "model", "next round")
Change = Callable[[PlayedRound], PlayedRound]


def flipped(digest: bytes) -> bytes:
    return bytes([digest[0] ^ 1]) + digest[1:]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", WORKS)
def test_right_headers_are_accepted(name: str, number: int) -> None:
    assert accepts(name, played(number))


# ------------------------------------------------------------------------------------------------ weights


def weighing(*weights: int) -> Change:
    return lambda round_: round_.closed(weights=weights)


def reporting(index: int, **fields: object) -> Change:
    """Another report, admitted in place of the one at `index`."""

    def change(round_: PlayedRound) -> PlayedRound:
        reports = list(round_.reports)
        reports[index] = replace(reports[index], **fields)
        paired = sorted(zip(reports, round_.close.weights, strict=True), key=lambda pair: pair[0].id)
        named = replace(round_, reports=tuple(report for report, _ in paired))
        weights = tuple(weight for _, weight in paired)
        return named.closed(reports=tuple(report.id for report in named.reports), weights=weights)

    return change


def admitting(*indices: int) -> Change:
    def change(round_: PlayedRound) -> PlayedRound:
        reports = tuple(round_.reports[index] for index in indices)
        weights = tuple(round_.close.weights[index] for index in indices)
        named = replace(round_, reports=reports)
        return named.closed(reports=tuple(report.id for report in reports), weights=weights)

    return change


def test_a_close_stays_right_where_nothing_changes() -> None:
    for change in (admitting(0, 1, 2), admitting(1, 2), reporting(0, ciphertext=bytes(32))):
        assert accepts("weights", change(played(2)))


WRONG_CLOSES: dict[str, Change] = {
    "a weight less": lambda r: r.closed(weights=(1, *r.close.weights[1:]) if r.close.weights[0] == 2 else (1, 1, 1)),
    "a weight more": lambda r: r.closed(weights=(2, 2, 2)),
    "a weight of zero": lambda r: r.closed(weights=(0, *r.close.weights[1:])),
    "a weight too many": lambda r: r.closed(weights=(*r.close.weights, 1)),
    "a report more stale than may be": reporting(0, staleness=2),
    "a stale report with the weight of a fresh one": lambda r: reporting(r.close.weights.index(2), staleness=1)(r),
    "out of order": admitting(1, 0, 2),
    "one report twice": admitting(1, 1, 2),
    "one trainer twice": lambda r: reporting(0, trainer=r.reports[1].trainer)(r),
    "too few reports": admitting(1),
    "a stranger's": reporting(2, trainer=bytes(20)),
    "a report of another round": reporting(1, round=1),
    "a report under other terms": reporting(1, terms=bytes(32)),
    "a report of another task": reporting(1, task=bytes(32)),
    "a report with a box less": lambda r: reporting(0, boxes=r.reports[0].boxes[1:])(r),
    "twelve seats": lambda r: r.closed(seats=range(12)),
    "a seat twice": lambda r: r.closed(seats=(*range(13), 12)),
    "a seat that is not": lambda r: r.closed(seats=(*range(13), 16)),
    "a skip that names seats": admitting(),
    "a report with a root of another length": reporting(0, committee_root=bytes(31)),
    "a report with a digest of another length": reporting(0, proof=b""),
    "a report with a proof where none is wanted": reporting(0, proof=bytes([1]) * 32),
    "a report about registered data where none is": reporting(0, registration=bytes([1]) * 32),
    "a header with a digest of another length": lambda r: r.claiming(failed=(bytes(31),)),
    "a close of another round": lambda r: r.closed(round=1),
    "a close of another task": lambda r: r.closed(task=bytes(32)),
    "a header of another level": lambda r: r.claiming(level="bounded"),
    "a header of another task": lambda r: r.claiming(task=bytes(32)),
    "a header that skips a round": lambda r: replace(r, header=replace(r.header, round=3)).closed(round=3),
}


@pytest.mark.parametrize("change", WRONG_CLOSES.values(), ids=WRONG_CLOSES.keys())
def test_wrong_closes_are_rejected(change: Change) -> None:
    assert not accepts("weights", change(played(2)))


def test_thirteen_seats_are_enough_and_a_skip_names_none() -> None:
    assert accepts("weights", played(2).closed(seats=range(13)))
    skipped = admitting()(played(2)).closed(seats=(), reports=(), weights=())
    assert accepts("weights", skipped)
    first = admitting()(played(0)).closed(seats=(), reports=(), weights=())
    assert not accepts("weights", first), "round 0 may not be skipped"


def under(**fields: object) -> PlayedRound:
    """Round 2 as it would be under other terms."""
    before = played(1)
    terms = replace(terms_of(before), **fields)
    model = before.redone[2]
    updates = [LEARNING.update(2, model, rows_of(trainer), terms.beacon) for trainer in range(2)]
    return play(before, updates, terms=terms)


def test_terms_are_those_that_the_header_before_fixes() -> None:
    assert accepts("weights", under())
    seats = terms_of(played(1)).seats
    other_key = (replace(seats[0], seal_key=bytes([1]) * 32), *seats[1:])
    no_key = (replace(seats[3], seal_key=None), *seats[1:])
    planted_key = (*seats[:-1], replace(seats[-1], seal_key=bytes([1]) * 32))
    other_account = (SeatTerms(committee().accounts[1].address, seats[0].seal_key), *seats[1:])
    layout, budget = LEARNING.layout(2), LEARNING.layout(2).budget
    wrong: list[dict[str, object]] = [
        {"model": bytes(32)},
        {"beacon": flipped(terms_of(played(1)).beacon)},
        {"previous": played(0).header.digest},
        *({"seats": changed} for changed in (other_key, no_key, planted_key, other_account)),
        {"layout": Layout(layout.entries, replace(budget, entry_bound=budget.entry_bound + 1))},
        {"layout": Layout(layout.entries, Budget(budget.entry_bound, budget.trainers_max - 1, budget.weight_max))},
        {"layout": Layout(layout.entries, replace(budget, weight_max=1))},
    ]
    for fields in wrong if FULL else wrong[:7:2]:
        assert not accepts("weights", under(**fields)), fields


def test_a_round_stands_on_the_header_before_it() -> None:
    other = replace(played(1).header, model=bytes(32))
    moved = played(2).claiming(previous=other.digest)
    assert not accepts("weights", replace(moved, before=other))
    assert run("weights", moved).stuck == other.digest, "nobody can show a header that is not"


# ------------------------------------------------------------------------------------------------ opening


@cache
def case(name: str) -> PlayedRound:
    """Return a round with the header that an audit finds right."""
    round_ = played(2)
    sums = round_.key_sums
    if name in TAMPERED:
        block, index, value = TAMPERED[name]

        def tamper(ciphertext: np.ndarray) -> np.ndarray:
            changed = ciphertext.copy()
            changed[block, index] = (int(changed[block, index]) + value) % P
            return changed

        return play(None, updates(), tamper)
    match name:
        case "five absent":
            return round_.summed(sums[index] for index in (1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14))
        case "six absent":
            return round_.summed(sums[:10])
        case "one column":
            return round_.summed(changed_sum(each, (17,)) if each.seat == 4 else each for each in sums)
        case "absent and lying":
            lies = {5: (0, 3), 15: (511,)}
            return round_.summed(changed_sum(each, lies.get(each.seat, ())) for each in sums if each.seat not in (2, 9))
        case "as many wrong columns as are corrected":
            return lying(round_, 1362)
        case "a wrong column more":
            return lying(round_, 1363)
        case "skipped":
            return right(replace(admitting()(round_), ciphertexts=(), key_sums=()).closed(seats=()))
        case "no rows":
            model, beacon = played(1).redone[2], terms_of(played(1)).beacon
            sent = [LEARNING.update(2, model, rows_of(trainer), beacon) for trainer in range(2)]
            sent[0][-1], sent[1][-1] = 2, -1  # of weights 1 and 2, or 2 and 1
            return play(played(1), [sent[0], sent[1]])
        case _:
            return round_


def lying(round_: PlayedRound, columns: int) -> PlayedRound:
    """The first columns are wrong, seat after seat."""
    wrong = [range(max(0, min(512, columns - 512 * each.seat))) for each in round_.key_sums]
    return round_.summed(map(changed_sum, round_.key_sums, wrong))


def updates() -> list[np.ndarray]:
    terms = terms_of(None)
    return [LEARNING.update(0, b"", rows_of(trainer), terms.beacon) for trainer in range(2)]


NOISE_BITS = LEARNING.layout(0).budget.noise_bits
BOUND = LEARNING.layout(0).budget.entry_bound
TAMPERED = {  # block, index, and what is added there
    "a check block": (1, 0, 1 << NOISE_BITS),
    "noise": (0, 0, 127 * 2 + 128),
    "padding": (2, 4, 1 << NOISE_BITS),
    "an entry": (2, 1, 2 * BOUND + 1 << NOISE_BITS),
    "impossible statistics": (2, 1, 1 << (NOISE_BITS + 30)),
}
CASES = {
    "all": "opened",
    "five absent": "opened",
    "six absent": "lost",
    "one column": "opened",
    "absent and lying": "opened",
    "skipped": "skipped",
    **dict.fromkeys(TAMPERED, "invalid"),
}
LONG_CASES = {"as many wrong columns as are corrected": "opened", "a wrong column more": "lost"}


@pytest.mark.parametrize(("name", "outcome"), (CASES | LONG_CASES if FULL else CASES).items())
def test_what_a_sum_opens_to_is_decided(name: str, outcome: str) -> None:
    right_round = case(name)
    header = right_round.header
    assert header.outcome == outcome
    assert accepts("opening", right_round)
    others = [other for other in OUTCOMES if other != outcome]
    for other in others if FULL else others[:1]:
        assert not accepts("opening", right_round.claiming(outcome=other)), other
    named = header.lying[1:] if header.lying else (3,)
    assert not accepts("opening", right_round.claiming(lying=named))
    if FULL:
        assert not accepts("opening", right_round.claiming(total=flipped(header.total)))


def test_a_header_that_names_honest_seats_is_right_if_enough_agree_with_a_trainer() -> None:
    """No court can clear these: docs/decisions/named-seats-keep-their-stakes.md."""
    terms = terms_of(None)
    made = play(None, updates(), lambda ciphertext: mask_with_it(terms, ciphertext))
    assert (made.header.outcome, made.header.lying) == ("invalid", ())
    weight = terms.weight(0)
    sums = list(made.key_sums)
    for seat in ACCOMPLICES:
        rows = move_rows(terms, seat, sums[seat].rows, weight)
        sums[seat] = sign_key_sum(terms, made.close.digest, seat, rows, committee().accounts[seat])
    framed = made.summed(sums)
    assert (framed.header.outcome, framed.header.lying) == ("opened", NAMED)
    for work in WORKS:
        assert accepts(work, framed), work
    assert not accepts("opening", framed.claiming(lying=ACCOMPLICES))


def unmoved(before: PlayedRound, model: bytes | None = None) -> PlayedRound:
    """Round 1 with updates of zeros after a round 0; `model`: after another model than it left, as its header says."""
    if model is not None:
        header = replace(before.header, model=sha256(model).digest())
        before = replace(before, header=header)
        vars(before)["redone"] = (*before.redone[:2], model)
    update = np.zeros(LEARNING.layout(1).entries, np.int64)
    update[-1] = 3
    return play(before, [update, update])


def test_a_sum_that_moves_no_model_is_invalid() -> None:
    """After a round 0 that did not open there is none; nobody is at fault who then certifies an invalid round."""
    round_ = unmoved(case("a check block"))
    assert round_.header.outcome == "invalid"
    assert accepts("opening", round_)
    total = total_bytes(2 * np.append(np.zeros(LEARNING.layout(1).entries - 1, np.int64), 3))
    assert not accepts("opening", round_.claiming(outcome="opened", total=sha256(total).digest()))


@pytest.mark.parametrize("what", ["as it is", "a byte more", "a parameter beyond its limit", "impossible statistics"])
def test_a_model_that_whoever_trains_would_not_decode_is_none(what: str) -> None:
    model = bytearray(played(0).redone[2])
    first = 8 * LEARNING.layout(0).entries
    if what == "a byte more":
        model += b"\0"
    elif what == "a parameter beyond its limit":
        limit = step_rule(LEARNING.spec, LEARNING.rule, LEARNING.layout(0).entries).hidden_limit
        model[first : first + 4] = (-limit - 1).to_bytes(4, "little", signed=True)
    elif what == "impossible statistics":
        model[8:16] = bytes(8)
    round_ = unmoved(played(0), bytes(model))
    assert round_.header.outcome == ("opened" if what == "as it is" else "invalid")
    assert accepts("opening", round_)


def test_failed_reports_are_some_of_the_close_in_their_order() -> None:
    """Where reports carry proofs, an invalid sum names those that fail; that they do is not judged here."""
    work = public_works(replace(work_terms(), proves=True))[1]
    compiled, round_ = compile_program(work.module, work.parameters), case("a check block")
    first, second = round_.close.reports
    for failed, expected in (
        ((), True),
        ((first,), True),
        ((second,), True),
        ((first, second), True),
        ((second, first), False),
        ((first, first), False),
        ((bytes(32),), False),
        ((first[:31],), False),
    ):
        claimed = round_.claiming(failed=failed)
        made = MachineRun(compiled, claimed.header.digest, KnownStretches(claimed.messages))
        assert made.stuck is None
        assert made.accepted is expected, failed


@pytest.mark.parametrize("seats", [32, 256])
def test_sums_open_whatever_number_of_seats_there_is(seats: int) -> None:
    """Some are absent, and the first that is not, one in the middle and the last one lie."""
    first = terms_of(None)
    terms = replace(first, seats=tuple(first.seats[seat % 16] for seat in range(seats)))
    round_ = play(None, updates(), terms=terms)
    absent, lies, every = range(seats // 8), (seats // 8, seats // 2, seats - 1), range(0, 8192 // seats, 5)
    here = [key_sum for key_sum in round_.key_sums if key_sum.seat not in absent]
    round_ = round_.summed(changed_sum(each, every) if each.seat in lies else each for each in here)
    assert (round_.header.outcome, round_.header.lying) == ("opened", lies)
    weights, opening, *_ = public_works(replace(work_terms(), first=terms))
    for work, claimed, expected in (
        (weights, round_, True),
        (opening, round_, True),
        (opening, round_.claiming(lying=lies[1:]), False),
    ):
        compiled = compile_program(work.module, work.parameters)
        made = MachineRun(compiled, claimed.header.digest, KnownStretches(claimed.messages))
        assert made.stuck is None
        assert made.accepted is expected


def claiming(**fields: object) -> Change:
    return lambda round_: round_.claiming(**fields)


def summing(change: Callable[[PlayedRound], tuple[KeySum, ...]]) -> Change:
    """Other key sums, named by the header, which else stays as it was."""

    def changed(round_: PlayedRound) -> PlayedRound:
        sums = change(round_)
        named = tuple((key_sum.seat, key_sum.digest) for key_sum in sums)
        return replace(round_, key_sums=sums).claiming(key_sums=named)

    return changed


WRONG_OPENINGS: dict[str, Change] = {
    "an entry of the total": lambda r: totalled(r, 1),
    "a report that fails": claiming(failed=(bytes(32),)),
    "a total of a round that opened nothing": lambda r: r.claiming(outcome="lost", lying=()),
    "no total": claiming(total=bytes(32)),
    "a seat twice": summing(lambda r: (*r.key_sums, r.key_sums[-1])),
    "seats out of order": summing(lambda r: (r.key_sums[1], r.key_sums[0], *r.key_sums[2:])),
    "a sum of another seat": lambda r: r.claiming(key_sums=((1, r.header.key_sums[0][1]), *r.header.key_sums[2:])),
    "a sum for another close": summing(lambda r: (replace(r.key_sums[0], close=bytes(32)), *r.key_sums[1:])),
    "a sum of another round": summing(lambda r: (replace(r.key_sums[0], round=1), *r.key_sums[1:])),
    "a sum for another task": summing(lambda r: (replace(r.key_sums[0], task=bytes(32)), *r.key_sums[1:])),
    "a sum of a row less": summing(lambda r: (replace(r.key_sums[0], rows=r.key_sums[0].rows[1:]), *r.key_sums[1:])),
    "a lie that is not named": summing(lambda r: (changed_sum(r.key_sums[0]), *r.key_sums[1:])),
    "other weights": weighing(1, 1, 1),
    "a weight beyond the largest": weighing(3, 1, 1),
    "one report fewer": admitting(0, 1),
    "another task": claiming(task=bytes(32)),
    "an outcome that is none": claiming(outcome="opened "),
    "an outcome with zeros behind": claiming(outcome="opened\0"),
    "no outcome": claiming(outcome=""),
}


def totalled(round_: PlayedRound, by: int) -> PlayedRound:
    """The header names another total, and everybody can read it."""
    opened = round_.redone[1]
    assert opened is not None
    total = opened.total.copy()
    total[2] += by
    data = total_bytes(total)
    return replace(round_, more=(*round_.more, data)).claiming(total=sha256(data).digest())


@pytest.mark.parametrize("change", WRONG_OPENINGS.values(), ids=WRONG_OPENINGS.keys())
def test_wrong_openings_are_rejected(change: Change) -> None:
    assert not accepts("opening", change(played(2)))


def test_an_element_that_is_not_canonical_is_rejected() -> None:
    """A key sum with p in place of 0 stands for the same sum; whoever decodes it strictly refuses it."""
    rows = played(2).key_sums[0].rows.copy()
    rows[0, 0] = P
    key_sum = replace(played(2).key_sums[0], rows=rows)
    named = ((0, played(2).key_sums[0].digest), *played(2).header.key_sums[1:])
    assert named == played(2).header.key_sums
    preimage, data = unchecked(key_sum)
    sums = ((0, sha256(preimage).digest()), *named[1:])
    changed = replace(played(2), more=(preimage, data)).claiming(key_sums=sums)
    assert run("opening", changed).stuck is None
    assert not accepts("opening", changed)


def unchecked(key_sum: KeySum) -> tuple[bytes, bytes]:
    """A key sum's two messages, whatever its elements are."""
    data = key_sum.rows.astype("<u8").tobytes()
    rows = sha256(data).digest()
    return frame_fields("key-sum", key_sum.task, key_sum.round, key_sum.close, key_sum.seat, rows), data


# ------------------------------------------------------------------------------------------------ model


def test_a_wrong_model_is_rejected() -> None:
    for number in (0, 2) if not FULL else (0, 1, 2):
        round_ = played(number)
        model = bytearray(round_.redone[2])
        for place in (0, len(model) - 1, len(model) - 4):
            model[place] ^= 1
            assert not accepts("model", round_.claiming(model=sha256(model).digest())), (number, place)
            model[place] ^= 1
    assert not accepts("model", played(2).claiming(model=played(1).header.model)), "the base, unmoved"
    assert not accepts("model", totalled(played(2), 1 << 20)), "the step of another total"


def test_a_base_other_than_the_header_before_names_is_rejected() -> None:
    """The same total, taken from the model of round 0 instead of round 1."""
    round_, base = played(2), played(0).redone[2]
    opened = round_.redone[1]
    assert opened is not None
    after = LEARNING.step(2, base, opened.total)
    assert not accepts("model", replace(round_, model=base).claiming(model=sha256(after).digest()))


@pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if outcome != "opened"])
def test_a_round_that_opens_nothing_keeps_the_model(outcome: str) -> None:
    kept = played(2).claiming(outcome=outcome, total=bytes(32), model=played(1).header.model)
    assert accepts("model", kept)
    assert not accepts("model", kept.claiming(model=played(2).header.model))
    first = played(0).claiming(outcome=outcome, total=bytes(32), model=sha256(b"").digest())
    assert accepts("model", first)
    assert not accepts("model", first.claiming(model=bytes(32)))


RULES = (
    LEARNING.rule,
    replace(LEARNING.rule, local_steps=2),
    replace(LEARNING.rule, fraction_bits=16, learning_rate=Fraction(1, 1 << 16), hidden_limit=64, output_limit=64),
    replace(LEARNING.rule, fraction_bits=8, learning_rate=Fraction(1 << 16, 3), hidden_limit=1, output_limit=1),
)
EDGES = (0, 1, -1, 2, -3, 1 << 20, -(1 << 31), (1 << 40) + 1, -(1 << 53), (1 << 62) - 1, 1 - (1 << 62))


@pytest.mark.parametrize("rule", RULES, ids=["gradient", "mean", "fine", "coarse"])
@pytest.mark.seeds(quick=3, full=100)
def test_a_step_is_the_rules_at_every_limit(rule: Rule, seed: int) -> None:
    draw = random.Random(seed)
    spec, statistics = LEARNING.spec, LEARNING.layout(0).entries
    bound = step_rule(spec, rule, statistics)
    limits = [bound.hidden_limit if index < bound.hidden else bound.output_limit for index in range(bound.parameters)]
    parameters = np.array([draw.choice((-limit, 0, draw.randint(-limit, limit), limit)) for limit in limits])
    rows = draw.choice((1, 2, 7, 1000, (1 << 31) + 1, 1 << 53, (1 << 62) - 1))
    entries = [draw.choice((draw.choice(EDGES), draw.randint(-rows << 8, rows << 8))) for _ in limits]
    total = np.array([max(-(1 << 62), min(entry, 1 << 62)) for entry in entries] + [rows], np.int64)
    head = np.arange(statistics, dtype="<i8").tobytes()
    state = head + parameters.astype("<i4").tobytes()
    moved = learning.apply_total(spec, rule, parameters, total).astype("<i4").tobytes()
    work = next(work for work in public_works(replace(work_terms(), rule=bound)) if work.name == "model")
    compiled = compile_program(work.module, work.parameters)
    before = replace(played(1).header, model=sha256(state).digest())
    data = total_bytes(total)
    fields = {"previous": before.digest, "total": sha256(data).digest()}
    other = bytearray(moved)
    other[4 * draw.randrange(len(limits))] ^= 1
    for after, expected in ((moved, True), (bytes(other), False)):
        header = replace(played(2).header, model=sha256(head + after).digest(), **fields)
        known = KnownStretches([header.preimage, before.preimage, data, state])
        assert MachineRun(compiled, header.digest, known).accepted is expected


# ------------------------------------------------------------------------------------------------ the next round


def keyed(*announcements: Announcement) -> Change:
    """Other sealing keys, in close and header."""
    return lambda round_: round_.closed(announcements=announcements).claiming(announcements=announcements)


def keys() -> tuple[Announcement, ...]:
    return played(2).header.announcements


def test_sealing_keys_of_a_quorum_are_enough() -> None:
    assert accepts("next round", keyed(*keys()[:11])(played(2)))


def rekeyed(change: Callable[[list[Announcement]], list[Announcement]]) -> Change:
    return lambda round_: keyed(*change(list(round_.header.announcements)))(round_)


WRONG_NEXTS: dict[str, Change] = {
    "seats in another order": lambda r: r.claiming(seats=(1, 0, *r.header.seats[2:])),
    "a key less than the close names": lambda r: r.claiming(announcements=keys()[1:]),
    "another key than the close names": lambda r: r.claiming(
        announcements=(*keys()[:-1], replace(keys()[-1], seal_key=bytes(32)))
    ),
    "keys of too few": rekeyed(lambda named: named[:10]),
    "keys out of order": rekeyed(lambda named: [named[1], named[0], *named[2:]]),
    "a key of the round before": rekeyed(lambda named: [replace(named[0], round=2), *named[1:]]),
    "a key of nobody": rekeyed(lambda named: [*named, replace(named[0], validator=16)]),
}


@pytest.mark.parametrize("change", WRONG_NEXTS.values(), ids=WRONG_NEXTS.keys())
def test_a_wrong_next_round_is_rejected(change: Change) -> None:
    assert not accepts("next round", change(played(2)))


@pytest.mark.parametrize("size", [3, 21])
def test_seats_are_drawn_where_there_is_not_one_for_each_validator(size: int) -> None:
    members = tuple(Validator(ValidatorIndex(i), bytes([i]) * 96, bytes([i]) * 20, 1) for i in range(size))
    epoch_set = EpochSet(work_terms().task, 0, members)
    chosen = tuple(replace(played(2).header.announcements[0], validator=i) for i in range(size))
    work = public_works(replace(work_terms(), epoch_set=epoch_set))[3]
    compiled = compile_program(work.module, work.parameters)
    drawn = assign_seats(sha256(played(2).header.beacon).digest(), epoch_set, 16)
    for seats, expected in ((drawn, True), ((drawn[1], drawn[0], *drawn[2:]), False)):
        round_ = keyed(*chosen)(played(2)).claiming(seats=seats)
        assert MachineRun(compiled, round_.header.digest, KnownStretches(round_.messages)).accepted is expected


def test_of_epochs_after_the_first_nothing_is_said() -> None:
    work = public_works(replace(work_terms(), epoch_rounds=3))[3]
    compiled = compile_program(work.module, work.parameters)
    for number, expected in ((1, False), (2, True)):
        round_ = played(number).claiming(seats=tuple(reversed(range(16))))
        assert MachineRun(compiled, round_.header.digest, KnownStretches(round_.messages)).accepted is expected


# ------------------------------------------------------------------------------------------------ wrong programs

MUTANTS: dict[str, tuple[str, tuple[str, str, str], Callable[[], PlayedRound]]] = {
    "a weight that does not halve": (
        "weights",
        ("_weights", "weight_max(number) >> staleness", "weight_max(number)"),
        lambda: played(2),
    ),
    "terms that are anybody's": (
        "weights",
        ("_weights", "assert same_digest(digest_field(record, T_MODEL), digest_field(before, H_MODEL)) == 1", "pass"),
        lambda: under(model=bytes(32)),
    ),
    "a sum without weights": ("opening", ("_opening", "fmul(weight, element)", "element"), lambda: played(2)),
    "no check of noise": (
        "opening",
        ("_opening", "if noise + noise_max < half or noise > half + noise_max:", "if noise > WORD:"),
        lambda: case("noise"),
    ),
    "rounding down": ("opening", ("_opening", "element = (element + half) & WORD", "pass"), lambda: played(2)),
    "no check blocks": ("opening", ("_opening", "block < CHECK_BLOCKS or ", ""), lambda: case("a check block")),
    "padding that may be anything": (
        "opening",
        ("_opening", "                if entry != 0:\n                    fits = 0", "                pass"),
        lambda: case("padding"),
    ),
    "absent seats that count": (
        "opening",
        ("_key_sums", "missing > COLUMNS - DEGREE_BOUND", "missing > COLUMNS"),
        lambda: case("six absent"),
    ),
    "a locator without the absent": (
        "opening",
        ("_key_sums", "if memory[present + seat] == 0:", "if memory[present + seat] == 1:"),
        lambda: case("five absent"),
    ),
    "lies that are not looked for": (
        "opening",
        ("_key_sums", "if _is_zero(word, bound, COLUMNS) == 1:", "if bound > 0:"),
        lambda: case("one column"),
    ),
    "seats that are not named": (
        "opening",
        ("_key_sums", "memory[lying + index // width] = 1", "pass"),
        lambda: case("one column"),
    ),
    "a step from whatever stands there": (
        "opening",
        ("_opening", "is_model(digest_field(before, H_MODEL)) if", "1 if"),
        lambda: unmoved(case("a check block")),
    ),
    "a lottery for another order": (
        "next round",
        ("_next_round", "if SEATS != VALIDATORS:", "if SEATS == VALIDATORS:"),
        lambda: played(2),
    ),
    "a step the other way": (
        "model",
        ("_model_step", "if negative == DESCENDS:", "if negative != DESCENDS:"),
        lambda: played(2),
    ),
    "a step that is cut": (
        "model",
        ("_model_step", "addend = (divisor + WORD + 1 - negative) & WORD", "addend = 0"),
        lambda: played(2),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_program_with_a_mistake_is_caught(name: str) -> None:
    """It rejects a right header, or accepts a wrong one; so its digest, which everybody compares, is another."""
    work, change, make = MUTANTS[name]
    wrong = name == "terms that are anybody's"
    assert accepts(work, make()) is not wrong
    made = run(work, make(), (change,))
    assert made.stuck is None
    assert made.accepted is wrong
    assert program(work).digest != program(work, (change,)).digest


# ------------------------------------------------------------------------------------------------ terms


def test_tasks_that_the_programs_do_not_hold_for_are_refused() -> None:
    terms = work_terms()
    lanes = replace(terms.layout, budget=replace(terms.layout.budget, lanes=2, entry_bound=100))
    with pytest.raises(WorkTermsError, match="2 lanes"):
        replace(terms, layout=lanes)
    with pytest.raises(WorkTermsError, match="level"):
        replace(terms, level="a long level")
    with pytest.raises(WorkTermsError, match="parameters up to"):
        replace(terms, rule=replace(terms.rule, output_limit=(1 << 23) + 1))
    with pytest.raises(WorkTermsError, match="too fine"):
        replace(terms, rule=replace(terms.rule, denominator=(1 << 32) + 1))
    with pytest.raises(WorkTermsError, match="instructions, a dispute has room for"):
        replace(terms, layout=Layout(4_000_000, Budget(entry_bound=10, trainers_max=1000)))


def test_another_task_has_other_programs() -> None:
    digests = {program(name).digest for name in WORKS}
    terms = replace(work_terms(), task=bytes(32))
    others = {compile_program(work.module, work.parameters).digest for work in public_works(terms)}
    assert len(digests | others) == 2 * len(WORKS)


def test_instructions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """What the specification says of a small round, with room for a better or worse compiler; the bound holds."""
    counts = {name: run(name, played(2)).steps for name in WORKS}
    with capsys.disabled():
        print("\ninstructions:", ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    assert counts["weights"] < 100_000
    assert counts["opening"] < 12_000_000
    assert counts["model"] < 50_000
    assert counts["next round"] < 100_000
    assert 16 ** (work_terms().levels - 1) < work_terms().steps_max <= 16 ** work_terms().levels
