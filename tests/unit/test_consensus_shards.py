"""Rounds of several committees: what docs/spec/shards.md promises, validator by validator and record by record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from _shard_stage import (
    SEATS,
    TRAINERS,
    City,
    Seen,
    Tally,
    cohort,
    finished,
    first_terms,
    history,
    members,
    shard_context,
    single,
    sum_of,
    trainer_key,
)

from collegium.aggregation import COMMITTEE_DOMAIN, KEY_CODE, seats_needed
from collegium.consensus import (
    BeaconWord,
    CertifiedResult,
    Close,
    CloseOffer,
    CloseRefusedError,
    EarlyRecordError,
    Header,
    MergeRefusedError,
    NoShardError,
    NotSenderError,
    ObjectReply,
    ObjectRequest,
    ProposalRefusedError,
    RecordOffer,
    Refused,
    Release,
    ResultOffer,
    ResultVote,
    ShardBatch,
    ShardClose,
    ShardedState,
    ShardMessage,
    ShardOverError,
    ShardPlan,
    ShardPlanError,
    ShardRelease,
    ShardSend,
    Standing,
    TooManyShardsError,
    UnvouchedCloseError,
    Voucher,
    WrongRoundError,
    encode_shard_payload,
    seat_quorum,
    sharded_terms_after,
    sign_release,
    split_cohort,
    voucher_digest,
)
from collegium.consensus._round_sync import ObjectQuotaError, UnaskedObjectError
from collegium.consensus._shard_own import enter_shard, shard_alarm, shard_step
from collegium.consensus._shard_rules import check_batch, check_merge, total_of
from collegium.consensus._shards import sharded_accepted, sharded_payload, sharded_step
from collegium.crypto import BadBeaconError, encode_certificate, make_certificate
from collegium.errors import CollegiumError

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
VALIDATORS = 20
DEADLINE_MS = 60_000


def trainers_of(city: City, shard: int) -> list[int]:
    """Return the trainers of a shard of the present round."""
    inside = city.terms.cohorts(cohort())[shard]
    return [trainer for trainer in range(TRAINERS) if trainer_key(trainer).address in inside]


def first_seen(condition: Callable[[ShardedState], bool], validator: int | None = None) -> tuple[int, Seen]:
    """Return the first moment of the recorded round, at one validator or at any, for which this holds."""
    _, seen = history()
    moments = ((i, m) for i in seen if validator in (None, i) for m in seen[i] if condition(m.state))
    return min(moments, key=lambda moment: moment[1].now)


def sealed(shard: int, digest: bytes, seats: int = SEATS, by: int | None = None) -> bytes:
    """Return a certificate of a shard's first seats over a digest; `by` another shard's validators."""
    holders = first_terms(VALIDATORS, 2).validators[SEATS * (shard if by is None else by) :]
    votes = {seat: members(VALIDATORS).voting[holders[seat]].sign(digest) for seat in range(seats)}
    return encode_certificate(make_certificate(SEATS, votes))


def vouched(shard: int, close: Close, **how: int) -> ShardBatch:
    vouchers = sealed(shard, voucher_digest(shard, close), **how)
    return ShardBatch(close.task, close.round, closes=(ShardClose(shard, close, vouchers),))


def final_closes() -> tuple[Close, Close]:
    """Return the closes of the recorded round."""
    _, moment = first_seen(lambda state: state.over)
    closes = [standing.close for standing in moment.state.standings]
    assert closes[0] is not None
    assert closes[1] is not None
    return closes[0], closes[1]


def result_of(shard: int) -> CertifiedResult:
    _, moment = first_seen(lambda state: shard in state.pending and bool(state.pending[shard].results))
    return moment.state.pending[shard].results[0]


# ------------------------------------------------------------------------------------------------ who is where


def test_every_shard_has_as_many_trainers_as_any_other_or_one_more() -> None:
    trainers = [trainer_key(trainer).address for trainer in range(11)]
    shards = split_cohort(b"t" * 32, b"s" * 32, trainers, 3)
    assert sorted(len(shard) for shard in shards) == [3, 4, 4]
    assert frozenset().union(*shards) == frozenset(trainers)
    assert shards == split_cohort(b"t" * 32, b"s" * 32, reversed(trainers), 3)
    assert shards != split_cohort(b"t" * 32, b"S" * 32, trainers, 3)
    assert shards != split_cohort(b"T" * 32, b"s" * 32, trainers, 3)


def test_shards_share_nothing_that_a_report_is_bound_to() -> None:
    shards = (*first_terms(VALIDATORS, 2).shards, *first_terms(VALIDATORS, 3).shards)
    for name in ("digest", "beacon", "matrix_seed"):
        assert len({getattr(terms, name) for terms in shards}) == 5
    assert len({terms.model for terms in shards}) == 1


def test_seats_go_round_evenly() -> None:
    terms = first_terms(VALIDATORS, 5)
    each = [terms.validators.count(i) for i in range(VALIDATORS)]
    assert set(each) == {5 * SEATS // VALIDATORS}
    assert all(len(inside) == SEATS for inside in terms.members[:1])


def test_a_shard_needs_as_many_trainers_as_hide_each_other() -> None:
    ShardPlan(3, SEATS, 1).check_cohort(12, 4)
    with pytest.raises(TooManyShardsError, match="at most 2 shards"):
        ShardPlan(3, SEATS, 1).check_cohort(11, 4)
    with pytest.raises(TooManyShardsError):
        shard_context(VALIDATORS, 7)  # twelve trainers, two hide each other


@pytest.mark.parametrize("numbers", [(0, 16, 1), (257, 16, 1), (17, 256, 1), (2, 16, 0)])
def test_a_plan_of_impossible_numbers_is_refused(numbers: tuple[int, int, int]) -> None:
    ShardPlan(16, 256, 1)
    with pytest.raises(ShardPlanError):
        ShardPlan(*numbers)


def test_who_is_not_registered_is_in_no_shard() -> None:
    terms = first_terms(VALIDATORS, 2)
    assert terms.shard_of(cohort(), trainer_key(0).address) in (0, 1)
    with pytest.raises(NoShardError):
        terms.shard_of(cohort(), trainer_key(TRAINERS).address)


# ------------------------------------------------------------------------------------------------ whole rounds


@pytest.mark.slow
@pytest.mark.parametrize(("validators", "count", "rounds"), [(8, 3, 2), (20, 2, 3)] if FULL else [(8, 3, 2)])
def test_the_model_is_the_plain_sum_of_all_updates(validators: int, count: int, rounds: int) -> None:
    city = City.opened(validators, count)
    for _ in range(rounds):
        city.report()
        finished = city.play()
        assert finished.header.outcome == "opened"
    assert finished.model == b"".join(sum_of(range(TRAINERS), number) for number in range(rounds))
    assert city.terms.round == rounds
    assert not city.refusals()


@pytest.mark.slow
def test_one_committee_makes_the_same_model_of_the_same_updates() -> None:
    city, _ = history()
    assert single(1) == finished(city.nodes[0])[0].model == sum_of(range(TRAINERS))


def test_trainers_stay_together_for_as_many_rounds_as_the_plan_says() -> None:
    _, _, header = merged()
    for partition_rounds in (1, 2, 3):
        terms, changes = first_terms(VALIDATORS, 2, partition_rounds), []
        for number in range(6):
            fixed = replace(header, round=number, beacon=bytes([number]) * 48)
            after = sharded_terms_after(Tally(), members(VALIDATORS).epoch_set, terms, fixed)
            assert after.shards[0].beacon != terms.shards[0].beacon
            changes.append(after.cohorts(cohort()) != terms.cohorts(cohort()))
            terms = after
        assert changes == [not (number + 1) % partition_rounds for number in range(6)]


@pytest.mark.slow
def test_a_validator_without_seats_sees_no_report_and_has_the_same_model() -> None:
    city, seen = history()
    light = [i for i in seen if len(seen[i][0].state.own) == 1]
    assert light
    assert len({finished(node)[0].model for node in city.nodes.values()}) == 1
    for i in light:
        (shard,) = seen[i][0].state.own
        reports = {len(moment.state.own[shard].state.reports) for moment in seen[i] if not moment.state.terms.round}
        assert max(reports) == TRAINERS // 2
        assert any(len(moment.state.totals) == 2 for moment in seen[i])


@pytest.mark.slow
def test_absent_validators_cost_nothing_and_a_liar_is_named() -> None:
    liar = 5

    def lie(to: int | None, message: object) -> object:
        inner = message.message if isinstance(message, ShardMessage) else None
        if not isinstance(inner, Release) or not isinstance(message, ShardMessage):
            return message
        account = members(VALIDATORS).accounts[liar]
        wrong = tuple(
            replace(unsigned, signature=account.sign(unsigned.digest))
            for unsigned in (replace(s, rows=np.zeros_like(s.rows)) for s in inner.key_sums)
        )
        return replace(message, message=sign_release(replace(inner, key_sums=wrong), city.terms.task, account))

    city = City.opened(VALIDATORS, 2, absent=[2, 11], disguises={liar: lie})
    own = [shard for shard in range(2) if liar in city.terms.members[shard]]
    standings: list[Standing] = []
    city.report()
    city.network.run(lambda _: _over(city, standings), 10_000)
    assert city.play().model == sum_of(range(TRAINERS))
    lying = {s.result.shard: s.result.lying for s in standings if s.result is not None}
    assert {shard for shard in lying if lying[shard]} == set(own)
    for shard in own:
        assert {_holder(shard, seat) for seat in lying[shard]} == {liar}


def _holder(shard: int, seat: int) -> int:
    return first_terms(VALIDATORS, 2).validators[SEATS * shard + seat]


def _over(city: City, standings: list[Standing]) -> bool:
    state = city.nodes[0].state.shards
    standings[:] = state.standings
    return state.over


def silent(shard: int, *kinds: type[Any]) -> Callable[[int | None, object], object | None]:
    """Return a disguise that says nothing of some kinds in one shard."""

    def disguise(to: int | None, message: object) -> object | None:
        inside = isinstance(message, ShardMessage) and message.shard == shard and isinstance(message.message, kinds)
        return None if inside else message

    return disguise


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "waits_ms", "outcome"),
    [((Release,), 0, "lost"), ((ResultVote,), DEADLINE_MS, None), ((Voucher,), 2 * DEADLINE_MS, "skipped")],
)
def test_a_shard_that_fails_does_not_stop_the_others(
    kinds: tuple[type[Any], ...], waits_ms: int, outcome: str | None
) -> None:
    disguise = silent(1, *kinds)
    city = City.opened(8, 2, disguises=dict.fromkeys(range(8), disguise))
    others, standings = trainers_of(city, 0), list[Standing]()
    city.report()
    city.network.run(lambda _: _over(city, standings), 200_000)
    finished = city.play(200_000)
    assert waits_ms <= city.network.now_ms < waits_ms + 10_000
    assert finished.header.outcome == "opened"
    assert finished.model == sum_of(others)
    if outcome == "lost":
        assert standings[1].result is not None
        assert standings[1].result.outcome == "lost"
    elif outcome == "skipped":
        assert standings[1].close is not None
        assert not standings[1].close.reports
    else:
        assert standings[1].lost
    assert standings[0].result is not None
    assert standings[0].result.outcome == "opened"


@pytest.mark.slow
def test_a_shard_of_too_few_reports_is_skipped_at_the_deadline() -> None:
    city = City.opened(8, 2)
    here, alone = trainers_of(city, 0), trainers_of(city, 1)[:1]
    city.report([*here, *alone])
    finished = city.play(100_000)
    assert DEADLINE_MS <= city.network.now_ms < DEADLINE_MS + 10_000
    assert finished.model == sum_of(here)


@pytest.mark.slow
def test_who_gets_no_sums_takes_the_model_by_its_digest() -> None:
    light = next(i for i in range(VALIDATORS) if sum(i in inside for inside in first_terms(VALIDATORS, 2).members) == 1)

    def withhold(to: int | None, message: object) -> object | None:
        withheld = isinstance(message, ObjectReply) and message.data.startswith(b"collegium/v1/total")
        return None if to == light and withheld else message

    city = City.opened(VALIDATORS, 2, disguises=dict.fromkeys(range(VALIDATORS), withhold))
    city.report()
    assert city.play().model == sum_of(range(TRAINERS))
    assert city.nodes[light].state.shards.model == sum_of(range(TRAINERS))
    assert len(city.nodes[light].state.shards.totals) == 0


def test_each_shard_releases_for_one_close() -> None:
    city, _ = history()
    closes = final_closes()
    for node in city.nodes.values():
        written = [note for note in node.notes if isinstance(note, ShardRelease)]
        assert {(note.shard, note.close) for note in written} == {
            (shard, closes[shard].digest) for shard in range(2) if node.index in _members(shard)
        }


def _members(shard: int) -> tuple[int, ...]:
    return first_terms(VALIDATORS, 2).members[shard]


# ------------------------------------------------------------------------------------------------ vouching


def ready_member() -> tuple[int, Seen, int, Close]:
    """Return a validator at the moment before it vouches, its shard, and the close that it will vouch for."""
    close = final_closes()[0]
    whole = lambda state: 0 in state.own and not state.own[0].vouched and len(state.own[0].state.receipts) == SEATS  # noqa: E731
    validator, moment = first_seen(whole)
    return validator, moment, 0, close


def vouchers_for(close: Close, offerer: int | None = None) -> list[object]:
    _validator, moment, shard, _ = ready_member()
    own = moment.state.own[shard]
    offerer = own.members[0] if offerer is None else offerer
    _, effects = shard_step(own, CloseOffer(offerer, close), moment.now, offerer)
    return [e.message.message for e in effects if isinstance(e, ShardSend) and isinstance(e.message, ShardMessage)]


def test_a_member_vouches_for_a_close_that_leaves_nobody_out_and_for_no_other() -> None:
    _, _, _, close = ready_member()
    (voucher,) = vouchers_for(close)
    assert isinstance(voucher, Voucher)
    assert voucher.digest == voucher_digest(0, close)
    assert not vouchers_for(replace(close, reports=close.reports[1:], weights=close.weights[1:]))
    assert not vouchers_for(replace(close, reports=close.reports[:2], weights=close.weights[:2]))
    assert not vouchers_for(Close(close.task, close.round, close.terms, (), (), (), (), ()))
    assert not vouchers_for(final_closes()[1])
    name, verified, signature = close.receipts[0]
    forged = (name, verified, bytes([signature[0] ^ 1]) + signature[1:])
    assert not vouchers_for(replace(close, receipts=(forged, *close.receipts[1:])))


def test_after_the_deadline_a_victim_is_not_left_alone_with_half_of_the_trainers() -> None:
    _, moment, shard, close = ready_member()
    own = moment.state.own[shard]
    late = moment.now + DEADLINE_MS

    def vouched_for(reports: int) -> bool:
        few = replace(close, reports=close.reports[:reports], weights=close.weights[:reports])
        _, effects = shard_step(own, CloseOffer(own.members[0], few), late, own.members[0])
        return any(isinstance(effect, ShardSend) for effect in effects)

    assert vouched_for(len(close.reports))
    assert not any(vouched_for(reports) for reports in range(1, len(close.reports)))


@pytest.mark.parametrize("seats", [16, 32, 64, 128, 256])
def test_who_can_forge_vouchers_can_decode_every_single_key(seats: int) -> None:
    assert seat_quorum(seats) >= seats_needed(seats)
    assert seat_quorum(seats) * COMMITTEE_DOMAIN.size // seats >= KEY_CODE.degree_bound


def test_a_voucher_binds_every_byte_of_a_close() -> None:
    close = final_closes()[0]
    other = replace(close, receipts=(*close.receipts[:-1], (*close.receipts[-1][:2], bytes(65))))
    assert other.digest == close.digest
    assert voucher_digest(0, other) != voucher_digest(0, close)
    assert voucher_digest(1, close) != voucher_digest(0, close)


@pytest.mark.parametrize("kind", [CloseOffer, Voucher, ResultOffer, ResultVote])
def test_nobody_speaks_for_another_or_in_a_shard_without_a_seat(kind: type[Any]) -> None:
    _, moment, shard, close = ready_member()
    own, outside = moment.state.own[shard], next(i for i in range(VALIDATORS) if i not in _members(0))
    for speaker, sender in ((own.members[0], own.members[1]), (outside, outside)):
        rest = {CloseOffer: (close,), ResultOffer: (result_of(0).result, ())}.get(kind, (close.digest, bytes(48)))
        after, effects = shard_step(own, kind(speaker, *rest), moment.now, sender)
        assert after == own
        (refused,) = effects
        assert isinstance(refused, Refused)
        assert isinstance(refused.reason, NotSenderError)


def test_an_offerer_is_heard_a_limited_number_of_times() -> None:
    _, moment, shard, close = ready_member()
    own, few = moment.state.own[shard], replace(close, reports=close.reports[1:], weights=close.weights[1:])
    for _ in range(16):
        own, effects = shard_step(own, CloseOffer(own.members[0], few), moment.now, own.members[0])
        assert not effects
    _, (refused,) = shard_step(own, CloseOffer(own.members[0], few), moment.now, own.members[0])
    assert isinstance(refused, Refused)
    assert isinstance(refused.reason, WrongRoundError)


def test_when_the_first_member_is_silent_the_next_offers() -> None:
    _, seen = history()
    second = _members(0)[1]
    moment = next(m for m in seen[second] if 0 in m.state.own and len(m.state.own[0].state.receipts) == SEATS)
    own, effects = shard_alarm(moment.state.own[0], moment.now + 20)
    assert not any(isinstance(effect, ShardSend) for effect in effects)
    own, effects = shard_alarm(own, moment.now + 20 + own.context.timing.turn_ms)
    offers = [e.message.message for e in effects if isinstance(e, ShardSend) and isinstance(e.message, ShardMessage)]
    assert len(offers) == len(own.members)
    assert all(isinstance(offer, CloseOffer) for offer in offers)


# ------------------------------------------------------------------------------------------------ records


def judged(batch: ShardBatch, validator: int | None = None, later_ms: int = 0, closed: bool = False) -> None:
    """Check a batch as a validator does: before anything of round 0 is final, or when both closes are."""
    ready = (lambda state: all(s.close for s in state.standings) and not state.over) if closed else (lambda _: True)
    index, moment = first_seen(ready, validator)
    state = moment.state
    check_batch(shard_context(VALIDATORS, 2, index), state, state.standings, batch, moment.now + later_ms)


def test_a_vouched_close_is_accepted_by_who_knows_none_of_its_reports() -> None:
    judged(vouched(0, final_closes()[0], seats=seat_quorum(SEATS)))


def without_vouchers(close: Close) -> ShardBatch:
    return ShardBatch(close.task, close.round, closes=(ShardClose(0, close, b""),))


def few_reports(close: Close) -> Close:
    return replace(close, reports=close.reports[:1], weights=(1,))


def many_reports(close: Close) -> Close:
    more = tuple(sorted((*close.reports, *final_closes()[1].reports)))
    return replace(close, reports=more, weights=(1,) * len(more))


HOSTILE_CLOSES: dict[str, tuple[Callable[[Close], ShardBatch], type[CollegiumError]]] = {
    "nobody vouches": (without_vouchers, UnvouchedCloseError),
    "one seat too few": (lambda c: vouched(0, c, seats=seat_quorum(SEATS) - 1), UnvouchedCloseError),
    "another committee vouches": (lambda c: vouched(0, c, by=1), UnvouchedCloseError),
    "vouchers of another close": (
        lambda c: replace(
            vouched(0, c), closes=(ShardClose(0, replace(c, listed=c.listed[:-1]), vouched(0, c).closes[0].vouchers),)
        ),
        UnvouchedCloseError,
    ),
    "a trainer alone, by a wholly bad committee": (lambda c: vouched(0, few_reports(c)), CloseRefusedError),
    "more reports than trainers": (lambda c: vouched(0, many_reports(c)), CloseRefusedError),
    "another weight": (lambda c: vouched(0, replace(c, weights=(2, *c.weights[1:]))), CloseRefusedError),
    "a report twice": (lambda c: vouched(0, replace(c, reports=(c.reports[0], *c.reports[:-1]))), CloseRefusedError),
    "sealing keys": (
        lambda c: vouched(0, replace(c, announcements=merged()[2].announcements)),
        CloseRefusedError,
    ),
    "another shard's": (lambda c: vouched(1, c), CloseRefusedError),
    "a shard that is not": (lambda c: vouched_as(c, 2), NoShardError),
    "another round's": (lambda c: replace(vouched(0, c), round=1), ShardOverError),
}


def vouched_as(close: Close, shard: int) -> ShardBatch:
    (entry,) = vouched(0, close).closes
    return ShardBatch(close.task, close.round, closes=(replace(entry, shard=shard),))


@pytest.mark.parametrize("case", HOSTILE_CLOSES)
def test_a_hostile_close_gets_nobodys_vote(case: str) -> None:
    make, error = HOSTILE_CLOSES[case]
    judged(vouched(0, final_closes()[0]))
    with pytest.raises(error):
        judged(make(final_closes()[0]))


def test_a_skip_needs_vouchers_until_the_round_has_taken_twice_its_time() -> None:
    terms = first_terms(VALIDATORS, 2)
    skip = Close(terms.task, 0, terms.shards[0].digest, (), (), (), (), ())
    judged(vouched(0, skip))
    judged(without_vouchers(skip), later_ms=2 * DEADLINE_MS)
    with pytest.raises(UnvouchedCloseError):
        judged(without_vouchers(skip), later_ms=DEADLINE_MS)
    with pytest.raises(UnvouchedCloseError):
        judged(without_vouchers(final_closes()[0]), later_ms=2 * DEADLINE_MS)
    with pytest.raises(CloseRefusedError):
        judged(without_vouchers(replace(skip, seats=(1,))), later_ms=2 * DEADLINE_MS)


def test_a_round_that_must_not_be_skipped_goes_on_without_a_shard_once_another_has_opened() -> None:
    terms = first_terms(VALIDATORS, 2)
    skip = without_vouchers(Close(terms.task, 0, terms.shards[0].digest, (), (), (), (), ()))
    index, moment = first_seen(lambda state: True)
    context, late = shard_context(VALIDATORS, 2, index, agreed=Tally(skips=False)), moment.now + 2 * DEADLINE_MS
    opened = Standing(final_closes()[1], result_of(1).result)
    check_batch(context, moment.state, (Standing(), opened), skip, late)
    with pytest.raises(CloseRefusedError, match="may not be skipped"):
        check_batch(context, moment.state, moment.state.standings, skip, late)
    assert sharded_payload(context, moment.state, (), late) is None
    after = replace(moment.state, standings=(Standing(), opened))
    assert sharded_payload(context, after, (), late) == encode_shard_payload(skip)


def test_a_quorum_of_trainers_is_one_of_every_shards() -> None:
    for trainers, quorum in ((7, 4), (9, 5), (12, 6)):
        context = shard_context(VALIDATORS, 2, quorum=trainers)
        own = enter_shard(context, history()[1][0][0].state, 0, None, 0)
        assert len(own.context.cohort) == 6
        assert own.context.quorum == quorum
    assert enter_shard(shard_context(VALIDATORS, 2), history()[1][0][0].state, 0, None, 0).context.quorum is None


def test_a_shard_is_closed_once() -> None:
    with pytest.raises(ShardOverError):
        judged(vouched(0, final_closes()[0]), closed=True)


def test_a_shard_is_given_up_when_its_committee_has_had_its_time() -> None:
    terms = first_terms(VALIDATORS, 2)
    lost = ShardBatch(terms.task, 0, lost=(1,))
    judged(lost, closed=True, later_ms=DEADLINE_MS)
    with pytest.raises(EarlyRecordError):
        judged(lost, closed=True, later_ms=DEADLINE_MS - 1_000)
    with pytest.raises(ShardOverError):
        judged(lost, later_ms=DEADLINE_MS)


def certified(**changes: Any) -> ShardBatch:
    result = replace(result_of(0).result, **changes)
    certificate = sealed(0, result.digest)
    return ShardBatch(result.task, 0, results=(CertifiedResult(result, certificate),))


def test_a_result_is_certified_by_its_own_committee() -> None:
    judged(certified(), closed=True)
    result = result_of(0).result
    for certificate in (sealed(0, result.digest, seats=seat_quorum(SEATS) - 1), sealed(0, result.digest, by=1), b"no"):
        with pytest.raises(CollegiumError):
            judged(ShardBatch(result.task, 0, results=(CertifiedResult(result, certificate),)), closed=True)
    with pytest.raises(ShardOverError):
        judged(certified())


@pytest.mark.parametrize(
    "changes",
    [
        {"close": bytes(32)},
        {"level": "proved"},
        {"outcome": "skipped"},
        {"outcome": "lost"},
        {"total": bytes(32)},
        {"failed": (bytes(32),)},
        {"round": 1},
    ],
)
def test_a_result_that_contradicts_itself_or_its_close_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProposalRefusedError):
        judged(certified(**changes), closed=True)


# ------------------------------------------------------------------------------------------------ the header over all


def merged() -> tuple[int, Seen, Header]:
    validator, moment = first_seen(lambda state: state.merge is not None)
    assert moment.state.merge is not None
    return validator, moment, moment.state.merge


def test_everybody_redoes_the_merge() -> None:
    _, _, header = merged()
    for i in range(VALIDATORS):
        _, moment = first_seen(lambda state: state.over and not state.lacking(), i)
        check_merge(shard_context(VALIDATORS, 2, i), moment.state, header)
        assert sharded_accepted(
            shard_context(VALIDATORS, 2, i), moment.state, (), encode_shard_payload(header), moment.now
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", bytes(32)),
        ("round", 1),
        ("level", "proved"),
        ("previous", bytes(32)),
        ("close", bytes(32)),
        ("outcome", "skipped"),
        ("key_sums", ((0, bytes(32)),)),
        ("total", bytes(32)),
        ("model", bytes(32)),
        ("lying", (0,)),
        ("seats", tuple(range(16)) * 2),
        ("failed", (bytes(32),)),
        ("announcements", ()),
    ],
)
def test_a_header_that_the_shards_do_not_give_is_refused(field: str, value: object) -> None:
    validator, moment, header = merged()
    changed = replace(header, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(MergeRefusedError) as caught:
        check_merge(shard_context(VALIDATORS, 2, validator), moment.state, changed)
    assert field in str(caught.value) or field == "announcements"
    assert not sharded_accepted(
        shard_context(VALIDATORS, 2, validator), moment.state, (), encode_shard_payload(changed), moment.now
    )


def test_a_header_needs_the_beacons_value_and_everybodys_key_that_is_known() -> None:
    validator, moment, header = merged()
    context = shard_context(VALIDATORS, 2, validator)
    with pytest.raises(BadBeaconError):
        check_merge(context, moment.state, replace(header, beacon=b"\xc0" + bytes(47)))
    with pytest.raises(MergeRefusedError):
        check_merge(context, moment.state, replace(header, announcements=header.announcements[1:]))
    planted = replace(header.announcements[0], seal_key=header.announcements[1].seal_key)
    with pytest.raises(ProposalRefusedError):
        check_merge(context, moment.state, replace(header, announcements=(planted, *header.announcements[1:])))


def test_no_header_before_the_shards_are_over_and_no_share_of_the_beacon() -> None:
    _, seen = history()
    _, _, header = merged()
    for i, moments in seen.items():
        moment = next(m for m in reversed(moments) if not m.state.over and m.state.terms.round == 0)
        assert not moment.state.told
        with pytest.raises(EarlyRecordError):
            check_merge(shard_context(VALIDATORS, 2, i), moment.state, header)


# ------------------------------------------------------------------------------------------------ what else is hostile


def refused(message: Any, sender: int | None, over: bool = False) -> type[Exception] | None:
    validator, moment = first_seen(lambda state: not over or state.over)
    context = shard_context(VALIDATORS, 2, validator)
    _, effects = sharded_step(context, moment.state, message, moment.now, sender)
    reasons = [effect.reason for effect in effects if isinstance(effect, Refused)]
    return type(reasons[0]) if reasons else None


def test_hostile_messages_are_refused_by_name() -> None:
    batch, header = vouched(0, final_closes()[0]), merged()[2]
    assert refused(RecordOffer(0, encode_shard_payload(batch)), 3) is None
    both = replace(batch, closes=(*batch.closes, *vouched(1, final_closes()[1]).closes))
    assert refused(RecordOffer(0, encode_shard_payload(both)), 3) is WrongRoundError
    assert refused(RecordOffer(0, encode_shard_payload(ShardBatch(batch.task, 0, lost=(0,)))), 3) is WrongRoundError
    assert refused(RecordOffer(0, encode_shard_payload(vouched_as(final_closes()[0], 2))), 3) is NoShardError
    assert refused(RecordOffer(2, encode_shard_payload(batch)), 3) is WrongRoundError
    assert refused(BeaconWord(0, 3, bytes(48)), 4) is NotSenderError
    assert refused(header.announcements[3], 4) is NotSenderError
    assert refused(ObjectRequest(3, (bytes(32),)), 4) is NotSenderError
    assert refused(ObjectRequest(3, tuple(bytes([i]) * 32 for i in range(11))), 3) is ObjectQuotaError
    assert refused(ObjectReply(b"nobody asked"), 3, over=True) is UnaskedObjectError
    assert refused(ShardMessage(0, 7, Voucher(3, bytes(32), bytes(48))), 3) is NoShardError


@pytest.mark.slow
def test_a_bad_share_of_the_beacon_stops_nobody() -> None:
    city = City.opened(
        8, 2, disguises={3: lambda to, m: replace(m, share=b"\xc0" + bytes(47)) if isinstance(m, BeaconWord) else m}
    )
    city.report()
    assert city.play().model == sum_of(range(TRAINERS))


def test_a_total_is_what_its_digest_says() -> None:
    _, moment = first_seen(lambda state: len(state.totals) == 2)
    for digest, data in moment.state.totals.items():
        assert sha256(data).digest() == digest
        assert len(total_of(data, 5)) == 5
        with pytest.raises(MergeRefusedError):
            total_of(data, 4)
