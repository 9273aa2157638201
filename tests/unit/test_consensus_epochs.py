"""An epoch hands over: the honest way, and every way to spoil it, each with its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from _epoch_stage import PEOPLE, RANDOM, TASK, Town

from collegium.consensus import (
    BadTicketError,
    Ballot,
    EpochSigner,
    EpochVerifier,
    MalformedPayloadError,
    Ticket,
    assign_seats,
    buy_ticket,
    check_announcement,
    draw_epoch_set,
)
from collegium.consensus._epoch_change import (
    ChangePutOff,
    ChangeTick,
    EpochRefused,
    EpochSubmit,
    ForgetEpochSecrets,
    HandedOver,
    KeepBeaconShare,
    KeepEpochSecret,
    OrderedPayload,
    change_step,
    record_accepted,
    record_wanted,
    restore_change,
)
from collegium.consensus._epoch_change_records import (
    Answer,
    DealingRecord,
    EpochRecord,
    MalformedEpochRecordError,
    TicketRecord,
    Verdict,
    change_scope,
    decode_epoch_record,
    encode_epoch_record,
    first_key_digest,
    share_purpose,
)
from collegium.consensus._epoch_change_rules import (
    BadAnswerError,
    BadChangePlanError,
    BadDealingError,
    BadVerdictError,
    ChangePlan,
    ForgedRecordError,
    HandoverRefusedError,
    NotMemberError,
    Phase,
    RecordPhaseError,
    RepeatedRecordError,
    WrongChangeError,
)
from collegium.crypto import (
    BadBeaconError,
    BadPossessionError,
    BadShareError,
    BadSignatureError,
    BlsPublicKey,
    BlsSecretKey,
    Dealing,
    IdentityPointError,
    MalformedPointError,
    SealKeyError,
    SecretShare,
    Stream,
    ThresholdBeacon,
    combine_commitments,
    deal,
    seal,
    verify_possession,
    verify_share,
)
from collegium.crypto._bls_backend import G2, GROUP_ORDER, backend
from collegium.errors import CollegiumError

NEUTRAL = bytes([0xC0, *bytes(95)])


@cache
def scene(rounds: int, count: int = 4) -> Town:
    """Return a town of four after so many rounds, with whatever is said next still waiting to be ordered."""
    town = Town.founded(count).play(rounds)
    assert not any(town.found(name, EpochRefused) for name in range(count))
    return town


def at(phase: Phase, count: int = 4) -> Town:
    town = scene(int(phase), count).copy()
    assert town.change.phase(town.plan) == phase
    return town


def dealt_by(town: Town, name: int) -> Dealing:
    """Return what a candidate has dealt or is about to."""
    (kept,) = (k for k in town.found(name, KeepEpochSecret) if k.step == "dealing")
    size = town.change.drawn().size
    return deal(Stream(kept.secret), size, size - (size - 1) // 3)


def boxed(town: Town, dealer: int, shares: list[bytes], key: Callable[[int], bytes] | None = None) -> tuple[bytes, ...]:
    """Return shares sealed by a dealer, one to each member in the order of places."""
    members, of = town.change.drawn(), key or town.change.deal_key
    return tuple(
        seal(of(member), share_purpose(town.scope, members, dealer, member), share)
        for member, share in enumerate(shares)
    )


# ------------------------------------------------------------------------------------------------ the honest way


def test_two_epochs_hand_over_and_every_beacon_lives() -> None:
    town = Town.founded(4)
    values = set()
    for epoch in (1, 2):
        town.play(5)
        handed = [town.found(name, HandedOver)[0] for name in range(4)]
        assert {h.opened.epoch_set for h in handed} == {handed[0].opened.epoch_set}
        assert sorted(h.member for h in handed if h.member is not None) == [0, 1, 2, 3]
        before = town.epoch_set
        town.enter_next()
        assert (town.epoch_set.epoch, town.first_round) == (epoch, 5 * epoch)
        assert town.epoch_set.digest() != before.digest()
        # every quorum makes the one value; the other members' part in it is the same, whoever leads
        proofs = {town.combine(quorum, town.round + 1) for quorum in ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3))}
        assert len(proofs) == 1
        values |= proofs
    assert len(values) == 2


def test_a_handover_is_bound_into_the_next_genesis_and_holds_a_first_key_of_everybody() -> None:
    town = scene(5)
    handed = town.found(0, HandedOver)[0]
    opened, handover = handed.opened, town.change.handover
    assert handover is not None
    assert [key.validator for key in opened.keys] == [0, 1, 2, 3]
    assert {key.round for key in opened.keys} == {opened.first_round} == {5}
    assert opened.genesis != opened.epoch_set.genesis()
    assert handover.dealers == (0, 1, 2, 3)
    assert opened.group == combine_commitments(4, [dealt_by(town, town.name_of(i)).commitments for i in range(4)])
    for name in range(4):
        mine = town.found(name, HandedOver)[0]
        assert mine.first_key is not None
        assert mine.member is not None
        assert mine.first_key.public_bytes == opened.keys[mine.member].seal_key


def test_the_dead_drop_out_and_the_others_go_on() -> None:
    town = Town.founded(7, present=[0, 1, 3, 4, 6]).play(5)
    opened = town.found(0, HandedOver)[0].opened
    assert (opened.epoch_set.size, opened.epoch_set.faulty_max, opened.group.threshold) == (5, 1, 4)
    accounts = {v.account for v in opened.epoch_set.validators}
    assert accounts == {PEOPLE[i].account.address for i in (0, 1, 3, 4, 6)}
    town.enter_next()
    town.play(5)
    assert town.found(0, HandedOver)[0].opened.epoch_set.epoch == 2


def test_one_more_dead_than_the_set_bears_puts_the_change_off_and_nothing_else() -> None:
    town = Town.founded(7, present=[0, 1, 3, 4])
    town.play(1)
    assert town.found(0, ChangePutOff) == [ChangePutOff(1, 0, "4 tickets, at least 5 needed")]
    assert town.found(0, ForgetEpochSecrets) == [ForgetEpochSecrets(1, 0)]
    assert (town.change.start, town.change.attempts, town.epoch_set.epoch) == (1, 1, 0)
    old = {effect.payload for effect in town.effects[0] if isinstance(effect, EpochSubmit)} - {town.waiting[0][1]}
    for payload in old:
        with pytest.raises(WrongChangeError):
            town.taken(decode_epoch_record(payload))
    # the dead come back: the next attempt begins anew, under another seed, and succeeds
    town.present = frozenset(range(7))
    for name in (2, 5, 6):
        town.states[name] = town.states[0]
        town.states[name] = replace(town.states[0], kept={})
    for name in (2, 5, 6):
        town.restart(name)
    town.play(5)
    opened = town.found(0, HandedOver)[0].opened
    assert (opened.epoch_set.size, opened.first_round) == (7, 6)


def test_a_lottery_draws_as_many_as_it_seats_from_all_candidates() -> None:
    town = Town.founded(7, members=4, members_min=4, members_max=4, epoch_rounds=6)
    assert town.change.phase(town.plan) == Phase.WAITING
    town.play(6)
    opened = town.found(0, HandedOver)[0].opened
    assert opened.epoch_set.size == 4
    tickets = [Ticket(t.bls_key, t.proof) for t in town.change.tickets.values()]
    assert len(tickets) == 7
    seed = town.change.seed
    assert seed is not None
    assert draw_epoch_set(TASK, 1, seed, town.plan.candidates, tickets, 4) == opened.epoch_set
    seated = {v.account for v in opened.epoch_set.validators}
    for name in range(7):
        handed = town.found(name, HandedOver)[0]
        assert (handed.member is not None) == (handed.share is not None) == (PEOPLE[name].account.address in seated)
    town.enter_next()
    town.play(6)
    assert town.found(0, HandedOver)[0].opened.epoch_set.epoch == 2


def test_the_seed_is_the_beacon_of_the_attempts_first_round() -> None:
    """Keys are in the plan, which is older; so nobody chose a key for this seed."""
    town = Town.founded(4, epoch_rounds=6)
    assert town.change.seed is None
    town.play(1)
    assert town.change.seed == town.value
    town.play(5)
    assert town.change.handover is not None


def test_a_set_of_one_hands_over_to_itself() -> None:
    town = Town.founded(1).play(5)
    assert town.found(0, HandedOver)[0].opened.epoch_set.size == 1


# ------------------------------------------------------------------------------------------------ tickets


def test_a_ticket_of_a_stranger_or_without_its_proof_is_refused() -> None:
    town = at(Phase.TICKETS)
    good = town.said(1, TicketRecord)
    town.taken(good)
    stranger = BlsSecretKey.generate(RANDOM.split("stranger"))
    other = buy_ticket(stranger, TASK, 1, town.change.seed or b"")
    with pytest.raises(NotMemberError):
        town.taken(town.signed(replace(good, bls_key=other.bls_key, proof=other.proof), by=1))
    with pytest.raises(BadTicketError):
        town.taken(town.signed(replace(good, proof=town.said(2, TicketRecord).proof), by=1))
    with pytest.raises(SealKeyError):
        town.taken(town.signed(replace(good, deal_key=bytes(32)), by=1))
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(good, by=2))


def test_a_candidate_has_one_ticket_and_in_time() -> None:
    town = at(Phase.TICKETS)
    good = town.said(1, TicketRecord)
    town.settle()
    with pytest.raises(RepeatedRecordError):
        town.taken(good)
    assert not town.accepts(encode_epoch_record(good))
    town.pass_round()
    with pytest.raises(RecordPhaseError):
        town.taken(good)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"epoch": 0}, {"start": 1}])
def test_a_record_of_another_epoch_or_attempt_is_refused_even_with_its_signature(change: dict[str, int]) -> None:
    town = at(Phase.TICKETS)
    good = town.said(1, TicketRecord)
    with pytest.raises(WrongChangeError):
        town.taken(town.signed(replace(good, **change), by=1))
    # relabelled, but signed for the other one
    scope = change_scope(town.epoch_set, change.get("epoch", 1), change.get("start", 0))
    relabelled = replace(good, signature=PEOPLE[1].account.sign(good.digest(scope)))
    with pytest.raises(ForgedRecordError):
        town.taken(relabelled)
    town.taken(good)


# ------------------------------------------------------------------------------------------------ dealings


def test_a_dealing_of_another_threshold_or_number_of_shares_is_refused() -> None:
    town = at(Phase.DEALINGS)
    name = town.name_of(0)
    good = town.said(name, DealingRecord)
    town.taken(good)
    for wrong in (
        replace(good, commitments=good.commitments[:-1]),
        replace(good, commitments=(*good.commitments, good.commitments[0])),
        replace(good, boxes=good.boxes[:-1]),
        replace(good, boxes=(*good.boxes, good.boxes[0])),
    ):
        with pytest.raises(BadDealingError):
            town.taken(town.signed(wrong, by=name))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_dealing_with_a_neutral_or_malformed_commitment_is_refused(k: int) -> None:
    """A neutral highest one would be a dealing of a lower threshold in disguise."""
    town = at(Phase.DEALINGS)
    name = town.name_of(0)
    good = town.said(name, DealingRecord)
    for point, error in ((NEUTRAL, IdentityPointError), (bytes(96), MalformedPointError)):
        commitments = (*good.commitments[:k], point, *good.commitments[k + 1 :])
        with pytest.raises(error):
            town.taken(town.signed(replace(good, commitments=commitments), by=name))
    town.taken(good)


def test_a_dealing_without_the_proof_that_its_dealer_knows_it_is_refused() -> None:
    town = at(Phase.DEALINGS)
    zero, one = town.name_of(0), town.name_of(1)
    good, other = town.said(zero, DealingRecord), town.said(one, DealingRecord)
    with pytest.raises(BadPossessionError):
        town.taken(town.signed(replace(good, possession=other.possession), by=zero))
    # another's dealing as one's own: whole, signed, and bound to the other's place
    with pytest.raises(BadPossessionError):
        town.taken(town.signed(replace(other, dealer=0), by=zero))
    town.taken(good)


def test_a_dealer_is_a_member_deals_once_in_its_own_name_and_in_time() -> None:
    town = at(Phase.DEALINGS)
    zero, one = town.name_of(0), town.name_of(1)
    good = town.said(zero, DealingRecord)
    with pytest.raises(NotMemberError):
        town.taken(replace(good, dealer=4))
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(good, by=one))
    town.settle()
    with pytest.raises(RepeatedRecordError):
        town.taken(good)
    town.pass_round()
    with pytest.raises(RecordPhaseError):
        town.taken(good)


def test_a_candidate_that_was_not_drawn_cannot_deal() -> None:
    town = Town.founded(7, members=4, members_min=4, members_max=4).play(1)
    (place_of, outsider) = ({n: town.place(n) for n in range(7)}, 0)
    outsider = next(name for name, place in place_of.items() if place is None)
    assert not [payload for who, payload in town.waiting if who == outsider]
    good = town.said(town.name_of(0), DealingRecord)
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(good, by=outsider))
    town.taken(good)


def test_whoever_deals_last_cannot_cancel_the_others_though_its_shares_fit() -> None:
    """Why a dealing proves that it is known.

    Six members of seven are honest and have dealt; the seventh commits to x less the sum of their secrets, which it
    does not know. Its shares fit for the three members that have tried theirs so far: three equations, four unknown
    coefficients. Were it counted, the beacon's key would be x times the generator, and it would know every value.
    """
    members, threshold, tried, curve = 7, 5, (0, 1, 2), backend()
    honest = [deal(RANDOM.split(f"honest {i}"), members, threshold).commitments for i in range(6)]
    x = BlsSecretKey.generate(RANDOM.split("rogue"))
    others = curve.decode_g2(combine_commitments(members, honest).key)
    known = {i: int.from_bytes(RANDOM.split(f"share {i}")(31), "big") for i in (*tried, 3)}
    values = {i + 1: curve.mul_g2(curve.generator, share) for i, share in known.items()}
    rogue = _interpolated({0: curve.mul_g2(curve.generator, x.scalar) + -others, **values})
    for i in tried:
        verify_share(rogue, SecretShare(i, known[i]))
    assert combine_commitments(members, [*honest, rogue]).key == bytes(x.public_key())
    # it has no proof, as it knows no secret of its first commitment; one of x is a proof of another key
    proof = x.prove_possession(b"dealing")
    verify_possession(x.public_key(), b"dealing", proof)
    with pytest.raises(BadPossessionError):
        verify_possession(BlsPublicKey(rogue[0]), b"dealing", proof)


def _interpolated(values: dict[int, G2]) -> tuple[bytes, ...]:
    """Return the commitments to the polynomial that has these values, multiples of the generator, by Lagrange."""
    curve = backend()
    sums = [curve.mul_g2(curve.generator, 0)] * len(values)
    for i, value in values.items():
        basis, denominator = [1], 1
        for j in values:
            if j != i:
                basis = [(a - j * b) % GROUP_ORDER for a, b in zip([0, *basis], [*basis, 0], strict=True)]
                denominator = denominator * (i - j) % GROUP_ORDER
        inverse = pow(denominator, -1, GROUP_ORDER)
        sums = [total + curve.mul_g2(value, c * inverse % GROUP_ORDER) for total, c in zip(sums, basis, strict=True)]
    return tuple(curve.encode_g2(total) for total in sums)


# ------------------------------------------------------------------------------------------------ complaints


def spoilt(how: str) -> tuple[Town, int, int]:
    """Return a town whose member 0 has cheated member 1 with its share, and both their names."""
    town = at(Phase.DEALINGS)
    dealer, victim = town.name_of(0), town.name_of(1)
    good, dealing = town.said(dealer, DealingRecord), dealt_by(town, dealer)
    shares = [share.to_bytes() for share in dealing.shares]
    if how == "wrong":
        shares[1] = ((dealing.shares[1].scalar + 1) % GROUP_ORDER).to_bytes(32, "big")
    if how == "too large":
        shares[1] = GROUP_ORDER.to_bytes(32, "big")
    boxes = boxed(town, 0, shares)
    if how == "sealed to another key":
        boxes = boxed(town, 0, shares, key=lambda member: town.change.deal_key(2))
    if how == "another member's":
        boxes = (boxes[0], boxes[2], *boxes[2:])
    if how == "garbage":
        boxes = (boxes[0], bytes(80), *boxes[2:])
    town.instead(dealer, town.signed(replace(good, boxes=boxes), by=dealer))
    town.play(1)
    assert town.change.phase(town.plan) == Phase.VERDICTS
    return town, dealer, victim


CHEATS = ["wrong", "too large", "sealed to another key", "another member's", "garbage"]


@pytest.mark.parametrize("how", CHEATS)
def test_a_cheated_member_complains_is_answered_and_holds_a_good_share(how: str) -> None:
    town, dealer, victim = spoilt(how)
    assert town.said(victim, Verdict).against == (0,)
    if how == "sealed to another key":
        assert [town.said(town.name_of(i), Verdict).against for i in (2, 3)] == [(), (0,)]
    else:
        assert all(not town.said(town.name_of(i), Verdict).against for i in (0, 2, 3))
    town.play(1)
    assert 1 in dict(town.said(dealer, Answer).shares)
    town.play(2)
    handed = town.found(victim, HandedOver)[0]
    assert town.change.handover is not None
    assert town.change.handover.dealers == (0, 1, 2, 3)
    assert handed.share is not None
    ThresholdBeacon(TASK, handed.opened.group, handed.share)  # refuses a share that is not the group's


@pytest.mark.parametrize("how", ["silent", "late", "wrong", "another's share", "one of two"])
def test_a_dealer_that_does_not_answer_rightly_and_in_time_is_left_out(how: str) -> None:
    town, dealer, victim = spoilt("wrong")
    if how == "one of two":  # a second one complains, rightly or not
        other = town.name_of(2)
        town.instead(other, town.signed(replace(town.said(other, Verdict), against=(0,)), by=other))
    town.play(1)
    answer = town.said(dealer, Answer)
    town.unsay(dealer)
    if how == "wrong":
        wrong = town.signed(replace(answer, shares=((1, bytes(32)),)), by=dealer)
        with pytest.raises(BadShareError):
            town.taken(wrong)
        town.instead(dealer, wrong)
    if how == "another's share":
        with pytest.raises(BadAnswerError):
            town.taken(town.signed(replace(answer, shares=((2, dealt_by(town, dealer).shares[2].to_bytes()),)), dealer))
    if how == "one of two":
        assert [member for member, _ in answer.shares] == [1, 2]
        half = town.signed(replace(answer, shares=answer.shares[1:]), by=dealer)
        with pytest.raises(BadAnswerError):
            town.taken(half)
        town.instead(dealer, half)
    if how != "late":
        town.taken(answer)  # the accepting twin
    town.settle()
    town.pass_round()
    if how == "late":
        with pytest.raises(RecordPhaseError):
            town.taken(answer)
    town.settle()
    assert town.change.handover is not None
    assert town.change.handover.dealers == (1, 2, 3)
    rest = [dealt_by(town, town.name_of(i)).commitments for i in (1, 2, 3)]
    assert town.change.handover.group_key == combine_commitments(4, rest).key
    share = town.found(victim, HandedOver)[0].share
    assert share is not None
    ThresholdBeacon(TASK, town.found(victim, HandedOver)[0].opened.group, share)


def test_a_false_complaint_costs_its_author_the_secrecy_of_its_own_share_and_nobody_else_anything() -> None:
    town = at(Phase.VERDICTS)
    liar = town.name_of(3)
    town.instead(liar, town.signed(replace(town.said(liar, Verdict), against=(0, 1, 2)), by=liar))
    town.play(1)
    for place in (0, 1, 2):
        assert [member for member, _ in town.said(town.name_of(place), Answer).shares] == [3]
    town.play(2)
    assert town.change.handover is not None
    assert town.change.handover.dealers == (0, 1, 2, 3)
    assert all(town.found(name, HandedOver)[0].share is not None for name in range(4))


def test_a_verdict_names_dealers_others_than_oneself_and_brings_ones_own_key() -> None:
    town = at(Phase.DEALINGS)
    silent = town.name_of(3)
    town.unsay(silent)
    town.play(1)
    name = town.name_of(1)
    good = town.said(name, Verdict)
    town.taken(good)
    for against in ((3,), (1,), (0, 3)):
        with pytest.raises(BadVerdictError):
            town.taken(town.signed(replace(good, against=against), by=name))
    members, other = town.change.drawn(), town.said(town.name_of(2), Verdict)
    for key in (other.key, replace(good.key, round=good.key.round + 1)):
        with pytest.raises(BadVerdictError):
            town.taken(town.signed(replace(good, key=key), by=name))
    planted = replace(good.key, seal_key=other.key.seal_key)
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(replace(good, key=planted), by=name))
    weak = replace(good.key, seal_key=bytes(32))
    weak = replace(weak, signature=PEOPLE[name].account.sign(first_key_digest(town.scope, members, weak)))
    with pytest.raises(SealKeyError):
        town.taken(town.signed(replace(good, key=weak), by=name))
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(good, by=town.name_of(0)))
    with pytest.raises(NotMemberError):
        town.taken(replace(good, member=7))
    town.settle()
    with pytest.raises(RepeatedRecordError):
        town.taken(good)


def test_a_first_key_serves_no_other_round_and_no_other_rounds_key_serves_here() -> None:
    town = at(Phase.VERDICTS)
    name = town.name_of(1)
    good = town.said(name, Verdict)
    with pytest.raises(CollegiumError):
        check_announcement(TASK, town.change.drawn(), good.key)
    usual = replace(good.key, signature=PEOPLE[name].account.sign(good.key.digest(TASK)))
    check_announcement(TASK, town.change.drawn(), usual)
    with pytest.raises(ForgedRecordError):
        town.taken(town.signed(replace(good, key=usual), by=name))


def test_nobody_answers_what_nobody_asked() -> None:
    town = at(Phase.ANSWERS)
    name = town.name_of(0)
    share = dealt_by(town, name).shares[1].to_bytes()
    for shares in (((1, share),), ()):
        with pytest.raises(BadAnswerError):
            town.taken(town.signed(Answer(1, 0, 0, shares), by=name))


def test_a_silent_dealer_is_not_waited_for_and_two_of_four_put_the_change_off() -> None:
    town = at(Phase.DEALINGS)
    town.unsay(town.name_of(3))
    one = town.copy().play(4)
    assert one.change.handover is not None
    assert one.change.handover.dealers == (0, 1, 2)
    assert all(one.found(name, HandedOver)[0].share is not None for name in range(4))
    town.unsay(town.name_of(2))
    town.play(1)
    assert town.change.put_off == "2 dealings, at least 3 needed"
    assert town.change.phase(town.plan) == Phase.TICKETS
    town.play(5)
    assert town.change.handover is not None


def test_fewer_qualified_dealers_than_a_quorum_put_the_change_off() -> None:
    town = at(Phase.VERDICTS)
    for place, against in ((0, (1, 2)), (3, (1,))):
        name = town.name_of(place)
        town.instead(name, town.signed(replace(town.said(name, Verdict), against=against), by=name))
    town.settle()
    town.pass_round()
    town.unsay(town.name_of(1))
    assert town.copy().play(2).change.handover is not None
    town.unsay(town.name_of(2))
    town.play(1)
    assert town.change.put_off == "2 qualified dealings, at least 3 needed"
    assert town.change.phase(town.plan) == Phase.TICKETS


def test_fewer_verdicts_than_a_quorum_put_the_change_off() -> None:
    """Who gives no verdict may hold bad shares: with too many of them the beacon would not live."""
    town = at(Phase.VERDICTS)
    town.unsay(town.name_of(3))
    assert town.copy().play(3).change.handover is not None
    town.unsay(town.name_of(2))
    town.play(1)
    assert town.change.put_off == "2 verdicts, at least 3 needed"


def test_who_was_away_for_its_verdict_is_a_member_without_a_first_key_and_holds_its_share_if_it_fits() -> None:
    town, _, victim = spoilt("wrong")
    away = town.name_of(2)
    for name in (victim, away):
        town.unsay(name)
    town.unsay(victim)
    # a third verdict is needed: that of the cheated member comes, that of the other does not
    town.restart(victim)
    town.play(3)
    handover = town.change.handover
    assert handover is not None
    assert [key.validator for key in handover.keys] == [0, 1, 3]
    late = town.found(away, HandedOver)[0]
    assert late.first_key is None
    assert late.share is not None


def test_who_was_cheated_and_away_has_no_share_and_knows_it() -> None:
    town, _, victim = spoilt("wrong")
    town.unsay(victim)
    town.play(3)
    handed = town.found(victim, HandedOver)[0]
    assert (handed.member, handed.share) == (1, None)
    assert not town.found(victim, KeepBeaconShare)
    others = [town.found(town.name_of(i), HandedOver)[0].share for i in (0, 2, 3)]
    assert None not in others


# ------------------------------------------------------------------------------------------------ the handover


@pytest.mark.parametrize("field", ["seats", "dealers", "group_key", "public_shares", "keys", "first_round"])
def test_a_handover_that_differs_in_anything_is_refused(field: str) -> None:
    town = at(Phase.HANDOVER)
    due = town.change.due
    assert due is not None
    changes: dict[str, object] = {
        "seats": due.seats[1:],
        "dealers": due.dealers[1:],
        "group_key": due.public_shares[0],
        "public_shares": due.public_shares[::-1],
        "keys": due.keys[1:],
        "first_round": 6,
    }
    with pytest.raises(HandoverRefusedError):
        town.taken(replace(due, **{field: changes[field]}))  # type: ignore[arg-type]
    assert town.taken(due).handover == due


def test_the_last_round_closes_only_after_the_handover_and_it_is_ordered_once() -> None:
    town = at(Phase.HANDOVER)
    wanted = record_wanted(town.rules, town.change, ())
    assert wanted is not None
    assert town.accepts(wanted)
    assert record_wanted(town.rules, town.change, (wanted,)) is None
    assert not record_accepted(town.rules, town.change, (wanted,), wanted)
    town.give(wanted)
    with pytest.raises(RepeatedRecordError):
        town.taken(decode_epoch_record(wanted))
    for phase in (Phase.TICKETS, Phase.DEALINGS, Phase.VERDICTS, Phase.ANSWERS):
        assert record_wanted(at(phase).rules, at(phase).change, ()) is None
        with pytest.raises(RecordPhaseError):
            at(phase).taken(decode_epoch_record(wanted))


def test_records_after_a_header_that_is_not_final_yet_are_judged_as_of_the_round_after_it() -> None:
    town = at(Phase.TICKETS)
    ticket = encode_epoch_record(town.said(1, TicketRecord))
    header = town.header()
    assert record_accepted(town.rules, town.change, (), ticket)
    assert not record_accepted(town.rules, town.change, (header,), ticket)
    assert not record_accepted(town.rules, town.change, (ticket,), ticket)
    assert not record_accepted(town.rules, town.change, (), b"T" + ticket[:-1])


def test_a_round_that_is_not_the_present_one_passes_nothing() -> None:
    town = at(Phase.TICKETS)
    state, effects = change_step(town.context(0), town.states[0], OrderedPayload(scene(1).header()))
    assert state == town.states[0]
    assert [type(effect.reason) for effect in effects if isinstance(effect, EpochRefused)] == [WrongChangeError]


# ------------------------------------------------------------------------------------------------ crashes


@pytest.mark.parametrize("phase", [Phase.TICKETS, Phase.DEALINGS, Phase.VERDICTS, Phase.ANSWERS])
def test_a_member_killed_in_any_window_says_the_same_words_again(phase: Phase) -> None:
    town, _, _ = spoilt("wrong") if phase > Phase.DEALINGS else (at(phase), 0, 0)
    while town.change.phase(town.plan) < phase:
        town.play(1)
    said = {name: [payload for who, payload in town.waiting if who == name] for name in range(4)}
    assert any(said.values())
    town.waiting = []
    for name in range(4):
        town.restart(name)
    assert {name: [payload for who, payload in town.waiting if who == name] for name in range(4)} == said
    town.play(5 - int(phase))
    assert all(town.found(name, HandedOver)[0].share is not None for name in range(4))


def test_secrets_are_on_disk_before_the_record_that_depends_on_them_leaves() -> None:
    town = scene(5)
    for name in range(4):
        kept: set[bytes] = set()
        for effect in town.effects[name]:
            if isinstance(effect, KeepEpochSecret):
                kept.add(effect.record)
            if isinstance(effect, EpochSubmit):
                assert effect.payload in kept
        kinds = [type(effect) for effect in town.effects[name]]
        assert kinds.index(KeepBeaconShare) < kinds.index(HandedOver) < kinds.index(ForgetEpochSecrets)


def test_a_member_killed_after_the_handover_finds_its_share_again() -> None:
    town = at(Phase.HANDOVER)
    town.settle()
    before = town.found(2, HandedOver)[0]
    town.restart(2)
    again = town.found(2, HandedOver)[-1]
    assert before.share is not None
    assert again.share is not None
    assert (again.opened, again.share.scalar) == (before.opened, before.share.scalar)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"T no record", MalformedEpochRecordError),
        (b"no payload", MalformedPayloadError),
        (b"H", MalformedPayloadError),
    ],
)
def test_a_restart_passes_over_the_same_final_payloads_as_the_run_did(
    payload: bytes, reason: type[CollegiumError]
) -> None:
    town, plain = at(Phase.DEALINGS), at(Phase.DEALINGS)
    town.give(payload)
    assert [type(effect.reason) for effect in town.found(0, EpochRefused)] == [reason]
    before = town.states[0]
    town.restart(0)
    assert town.states[0].change == before.change == plain.states[0].change
    assert town.play(4).change.handover == plain.play(4).change.handover


def test_a_member_that_lost_its_disk_says_nothing_that_it_cannot_stand_by() -> None:
    town = at(Phase.VERDICTS)
    name = town.name_of(1)
    town.unsay(name)
    town.effects[name] = []
    town.restart(name)
    assert not [payload for who, payload in town.waiting if who == name]
    town.play(3)
    assert town.found(name, HandedOver)[0].share is None


def say_anew(town: Town, name: int, rest: tuple[str, ...] = ()) -> list[bytes]:
    """Let a member lose what it kept, but some steps, after its record has left; return its record before and after."""
    before = [payload for who, payload in town.waiting if who == name]
    kept = [k for k in town.found(name, KeepEpochSecret) if k.step in rest]
    town.effects[name] = list(kept)
    context = replace(town.context(name), random=RANDOM.split("a new life"))
    state = restore_change(context, town.order, kept)
    town.states[name], effects = change_step(context, state, ChangeTick())
    town.unsay(name)
    town.take(name, effects)
    after = [payload for who, payload in town.waiting if who == name]
    town.unsay(name)
    assert len(before) == len(after) == 1
    assert before != after
    return [*before, *after]


@pytest.mark.parametrize("late", [False, True])
def test_who_bought_a_second_ticket_on_a_new_disk_judges_shares_only_if_it_is_the_ordered_one(late: bool) -> None:
    town, name = at(Phase.TICKETS), 1
    payload = say_anew(town, name)[late]
    town.waiting.append((name, payload))
    town.play(2)
    place = town.place(name)
    assert place is not None
    if late:
        assert town.said(name, Verdict).against == ()
    else:  # nothing opens, and whoever complained would have its shares published
        assert not [payload for who, payload in town.waiting if who == name]
    town.play(3)
    handed = town.found(name, HandedOver)[0]
    assert (handed.share is not None, handed.first_key is not None) == (late, late)
    assert town.change.handover is not None
    assert len(town.change.handover.dealers) == 4


@pytest.mark.parametrize("late", [False, True])
def test_who_dealt_again_on_a_new_disk_answers_only_for_the_ordered_dealing(late: bool) -> None:
    town = at(Phase.DEALINGS)
    name, liar = town.name_of(1), town.name_of(3)
    payload = say_anew(town, name, ("ticket",))[late]
    town.waiting.append((name, payload))
    town.play(1)
    town.instead(liar, town.signed(replace(town.said(liar, Verdict), against=(1,)), by=liar))
    town.play(1)
    answers = [payload for who, payload in town.waiting if who == name]
    assert [town.accepts(payload) for payload in answers] == [True] * late
    wrong = Answer(1, 0, 1, ((3, dealt_by(town, town.name_of(2)).shares[3].to_bytes()),))
    with pytest.raises(BadShareError):
        town.taken(town.signed(wrong, by=name))
    town.play(2)
    assert town.change.handover is not None
    assert (1 in town.change.handover.dealers) == late


@pytest.mark.parametrize("late", [False, True])
def test_who_gave_a_second_verdict_on_a_new_disk_has_the_first_key_only_if_it_is_the_ordered_one(late: bool) -> None:
    town = at(Phase.VERDICTS)
    name = town.name_of(1)
    payload = say_anew(town, name, ("ticket", "dealing"))[late]
    town.waiting.append((name, payload))
    town.play(3)
    handed = town.found(name, HandedOver)[0]
    assert handed.share is not None
    assert (handed.first_key is not None) == late
    if handed.first_key is not None:
        assert handed.first_key.public_bytes in [key.seal_key for key in handed.opened.keys]


def test_secrets_are_not_printed() -> None:
    town = scene(5)
    for name in range(4):
        for effect in town.effects[name]:
            if isinstance(effect, KeepEpochSecret):
                assert repr(effect.secret) not in repr(effect)
            if isinstance(effect, KeepBeaconShare):
                assert repr(effect.scalar) not in repr(effect)


# ------------------------------------------------------------------------------------------------ across the boundary


@cache
def second() -> Town:
    town = scene(5).copy()
    town.enter_next()
    return town


def test_a_record_of_the_old_epoch_does_not_count_in_the_new_one() -> None:
    town = second()
    for payload in scene(5).order:
        assert not town.accepts(payload)
    old = next(r for p in scene(5).order if isinstance(r := _record(p), TicketRecord))
    with pytest.raises(WrongChangeError):
        town.taken(old)
    with pytest.raises(ForgedRecordError):
        town.taken(replace(old, epoch=2, start=5))


def _record(payload: bytes) -> EpochRecord | None:
    return None if payload[:1] == b"H" else decode_epoch_record(payload)


def test_an_old_ticket_wins_nothing_in_the_new_lottery() -> None:
    old, new = scene(5), second()
    tickets = [Ticket(t.bls_key, t.proof) for t in old.change.tickets.values()]
    assert new.change.seed is not None
    with pytest.raises(BadTicketError):
        draw_epoch_set(TASK, 2, new.change.seed, new.plan.candidates, tickets, 4)
    with pytest.raises(BadTicketError):
        draw_epoch_set(TASK, 2, old.change.seed or b"", new.plan.candidates, tickets, 4)
    draw_epoch_set(TASK, 1, old.change.seed or b"", new.plan.candidates, tickets, 4)


def test_an_old_beacon_share_or_value_does_not_count_in_the_new_epoch_nor_the_other_way() -> None:
    old, new = scene(5), second()
    for here, there in ((old, new), (new, old)):
        epoch, number = here.epoch_set.epoch, 7
        good = here.beacons[1].partial(epoch, number)
        here.beacons[0].verify_partial(epoch, number, 1, good)
        for other in (there.beacons[1].partial(epoch, number), here.beacons[1].partial(1 - epoch, number)):
            with pytest.raises(BadSignatureError):
                here.beacons[0].verify_partial(epoch, number, 1, other)
        proof = here.beacons[0].combine(epoch, number, {i: here.beacons[i].partial(epoch, number) for i in range(3)})
        here.beacons[0].verify(epoch, number, proof)
        with pytest.raises(BadBeaconError):
            there.beacons[0].verify(there.epoch_set.epoch, number, proof)


def test_a_vote_of_the_old_epoch_is_no_vote_of_the_new_one() -> None:
    old, new = scene(5), second()
    ballot = Ballot(3, sha256(b"block").digest(), 2, sha256(b"parent").digest())
    for here, there in ((old, new), (new, old)):
        seat = 1
        name = next(n for n in range(4) if PEOPLE[n].account.address == here.epoch_set.validators[seat].account)
        signature = EpochSigner(PEOPLE[name].voting, PEOPLE[name].account).sign_vote(ballot.digest(here.epoch_set))
        assert EpochVerifier(here.epoch_set).vote_holds(seat, ballot.digest(here.epoch_set), signature)
        other = next(v.index for v in there.epoch_set.validators if v.account == PEOPLE[name].account.address)
        assert not EpochVerifier(there.epoch_set).vote_holds(other, ballot.digest(there.epoch_set), signature)


def test_the_first_rounds_committee_is_drawn_from_the_new_set_by_the_old_beacons_value() -> None:
    town = second()
    seats = assign_seats(town.value, town.epoch_set, 6)
    assert set(seats) == {0, 1, 2, 3}
    assert seats == assign_seats(town.value, town.epoch_set, 6)
    assert len({assign_seats(bytes([i]) * 32, town.epoch_set, 6) for i in range(16)}) > 1


# ------------------------------------------------------------------------------------------------ the plan


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch_rounds": 4},
        {"window_rounds": 0},
        {"window_rounds": 2, "epoch_rounds": 8},
        {"members_min": 5},
        {"members_min": 3, "members_max": 2},
        {"candidates": ()},
        {"candidates": (PEOPLE[0].registration,) * 2},
    ],
)
def test_a_plan_that_cannot_work_is_refused(changes: dict[str, object]) -> None:
    good: dict[str, object] = {"candidates": tuple(p.registration for p in PEOPLE[:4]), "epoch_rounds": 5}
    assert ChangePlan(**good).members_min == 3  # type: ignore[arg-type]
    ChangePlan(**{**good, "window_rounds": 2, "epoch_rounds": 9})  # type: ignore[arg-type]
    with pytest.raises(BadChangePlanError):
        ChangePlan(**{**good, **changes})  # type: ignore[arg-type]
