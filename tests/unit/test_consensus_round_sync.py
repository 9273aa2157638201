"""What a validator writes down before it speaks, how it begins again, and how it follows rounds that it has missed.

Scenes are played by hand with the `Hall` of `_round_stage.py`; crashes between any two effects are in
`test_node_crash.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from _round_stage import (
    EMPTY_MODEL,
    RANDOM,
    SEATS,
    Archive,
    Hall,
    Tally,
    admitted,
    committee,
    context_of,
    deny,
    re_sign,
    sum_of,
    update_of,
    upload_of,
    wait,
)

from collegium.aggregation import ReportRejectedError, make_upload
from collegium.consensus import (
    OBJECT_BYTES_MAX,
    Announcement,
    BlockRequest,
    Certified,
    Close,
    EpochSigner,
    EpochVerifier,
    Ignored,
    KeepObject,
    KeepSecret,
    KeepUpload,
    Kept,
    NotSenderError,
    ObjectQuotaError,
    ObjectReply,
    ObjectRequest,
    ObjectTooLargeError,
    PeerJoined,
    ProofRefusedError,
    Refused,
    Registered,
    Relay,
    Release,
    ReleaseRecord,
    ReportReply,
    ReportRequest,
    RoundAlarm,
    RoundBroadcast,
    RoundFinished,
    RoundPassed,
    RoundSend,
    SeatReceipt,
    Send,
    UnaskedObjectError,
    UnregisteredError,
    ValidatorContext,
    WrongRoundError,
    restore_validator,
    start_validator,
    validator_step,
)
from collegium.consensus._round import JOINS_MAX, begin, finish, release

LAST = SEATS - 1


def names(effects: list[Any]) -> list[str]:
    """Return what the effects are, a broadcast by its message."""
    said = [e.message if isinstance(e, RoundBroadcast | RoundSend) else e for e in effects]
    return [type(effect).__name__ for effect in said]


def requests(effects: list[Any]) -> dict[int, ObjectRequest]:
    """Return who is asked for objects, and how."""
    return {e.to: e.message for e in effects if isinstance(e, RoundSend) and isinstance(e.message, ObjectRequest)}


def refused(effects: list[Any]) -> Exception:
    (found,) = [effect.reason for effect in effects if isinstance(effect, Refused)]
    return found


# ------------------------------------------------------------------------------------------------ written down first


def test_a_sealing_key_is_written_down_before_it_is_announced_and_only_once() -> None:
    context = context_of(0, 2)
    state, effects = begin(context, committee().terms, EMPTY_MODEL, {}, 0)
    assert names(list(effects))[:2] == ["KeepSecret", "Announcement"]
    _, again = begin(context, committee().terms, EMPTY_MODEL, state.secrets, 0)
    assert not [effect for effect in again if isinstance(effect, KeepSecret)]
    first, second = ([e for e in said if isinstance(e, RoundBroadcast)] for said in (effects, again))
    assert first == second, "the same key is announced with the same words"
    _, other = begin(context, committee().terms, EMPTY_MODEL, {}, 0)
    assert [e for e in other if isinstance(e, RoundBroadcast)] != first, "a key that was not kept is another one"


def test_an_upload_is_written_down_before_its_receipts_with_the_own_boxes_alone() -> None:
    hall = Hall.opened(1)
    effects = hall.give(5, upload_of(0))
    assert names(effects) == ["KeepUpload", "Admitted", "SeatReceipt"]
    kept = effects[0]
    assert [seat for seat, box in enumerate(kept.upload.boxes) if box is not None] == [5]
    assert (kept.round, kept.copy, kept.verified) == (0, 0, False)
    assert hall.give(5, upload_of(0)) == [], "nothing new, nothing to write"


def test_a_second_copy_with_the_box_that_was_missing_is_written_down_too() -> None:
    hall = Hall.opened(1)
    spoilt = replace(upload_of(0), boxes=(*upload_of(0).boxes[:5], None, *upload_of(0).boxes[6:]))
    assert names(hall.give(5, spoilt)) == ["KeepUpload", "Refused"]
    assert names(hall.give(5, upload_of(0))) == ["KeepUpload", "Admitted", "SeatReceipt"]
    denied = Hall.opened(2)
    assert names(denied.give(5, deny(upload_of(0), 0, [5]))) == ["KeepUpload", "Refused"]
    assert names(denied.give(5, deny(upload_of(0), 0, [5]))) == ["Refused"], "no receipt: nothing depends on it"


def test_who_has_no_key_of_its_round_takes_a_report_and_signs_no_receipt() -> None:
    """So it is with whoever passed two final headers at once: it never announced a key for the round it is in."""
    hall = Hall.opened(1)
    hall.states[5] = replace(hall.states[5], secrets={})
    assert names(hall.give(5, deny(upload_of(0), 0, [5]))) == ["KeepUpload"]
    assert names(hall.give(4, deny(upload_of(0), 0, [5]))) == ["KeepUpload", "Admitted", "SeatReceipt"]


@pytest.mark.slow
def test_an_early_upload_is_written_down_when_it_comes_and_not_again_when_its_round_begins() -> None:
    hall, certified = over()
    finish_at(hall, 3, certified)
    following = upload_for(hall, 3, 0)
    assert names(hall.give(2, following)) == ["KeepUpload"], "validator 2 is a round behind"
    effects = finish_at(hall, 2, certified)
    assert "KeepUpload" not in names(effects)
    assert "Admitted" in names(effects)


@pytest.mark.slow
def test_an_early_upload_without_its_boxes_does_not_displace_the_honest_copy() -> None:
    """So a validator could deny a trainer that it passes on the receipts of whoever is a round behind."""
    hall, certified = over()
    finish_at(hall, 3, certified)
    honest = upload_for(hall, 3, 0)
    stripped = replace(honest, boxes=(None,) * SEATS)
    half = replace(honest, boxes=(*honest.boxes[:8], *(None,) * 8))
    for copy in (stripped, half, honest):
        (kept,) = hall.give(2, copy, 7)
        assert isinstance(kept, KeepUpload)
        assert (kept.copy, kept.upload.boxes) == (0, copy.boxes), "in the place of the one before it"
    for copy in (stripped, half, honest):
        assert hall.give(2, copy, 7) == [], "nothing new"
    assert len(hall.states[2].ahead) == 1
    assert "Admitted" in names(finish_at(hall, 2, certified))


@pytest.mark.slow
def test_an_early_upload_with_other_boxes_or_another_registration_is_refused_by_name() -> None:
    hall, certified = over()
    finish_at(hall, 3, certified)
    honest = upload_for(hall, 3, 0)
    spoilt = replace(honest, boxes=(*honest.boxes[:-1], b"spoilt"))
    fewer = replace(honest, boxes=honest.boxes[:-1])
    for copy in (spoilt, fewer):
        assert isinstance(refused(hall.give(2, copy, 7)), ReportRejectedError)
    hall.contexts[2] = replace(hall.contexts[2], agreed=Registering())
    other = replace(honest, registration=b"another")
    assert isinstance(refused(hall.give(2, other, 7)), ProofRefusedError)
    assert not hall.states[2].ahead
    assert names(hall.give(2, honest)) == ["KeepUpload"]


class Registering(Tally):
    """A task whose reports may bring a registration."""

    def registration_bytes_max(self, round_number: int) -> int:
        return 100


def upload_for(hall: Hall, validator: int, trainer: int) -> Any:
    """Return a trainer's upload under the terms that a validator holds."""
    terms, key = hall.states[validator].terms, committee().trainers[trainer]
    return make_upload(terms, key, update_of(trainer), RANDOM.split(f"sync {terms.round} {trainer}"))


# ------------------------------------------------------------------------------------------------ behind


def mute(sender: int, to: int, message: Any) -> Any:
    """The last validator hears of no report, release or proposal."""
    return None if to == LAST and isinstance(message, ReportReply | Release) else message


@cache
def _over() -> tuple[Hall, Close, Certified]:
    hall = Hall.opened(2).spread()
    for trainer in range(2):
        hall.upload(upload_of(trainer), to=range(LAST))
    wait(hall.spread(lambda s, to, m: None if to == LAST and not isinstance(m, Announcement) else m), 100)
    close = hall.close()
    hall.finalise(close)
    return hall, close, hall.spread(mute).certified()


def over() -> tuple[Hall, Certified]:
    """A hall whose first round is over but for being final; the last validator had neither reports nor releases."""
    hall, _, certified = _over()
    return hall.copy(), certified


def finish_at(hall: Hall, validator: int, certified: Certified) -> list[Any]:
    hall.states[validator], effects = finish(hall.contexts[validator], hall.states[validator], certified, hall.now)
    hall._note(validator, effects)
    return list(effects)


def skipped(hall: Hall, validator: int) -> Close:
    """Return a close of nothing, of the round that a validator is in."""
    terms = hall.states[validator].terms
    return Close(terms.task, terms.round, terms.digest, (), (), (), (), ())


def passed() -> tuple[Hall, list[Any]]:
    """A hall in which the close of round 1 is final, too, and what the last validator did when it heard of that."""
    hall, certified = over()
    hall.outbox.clear()
    hall.finish(certified)
    close = skipped(hall, 0)
    hall.states[LAST], effects = release(hall.contexts[LAST], hall.states[LAST], close, 1, hall.now)
    return hall, list(effects)


def test_who_cannot_follow_asks_for_the_model_and_takes_it_by_its_digest() -> None:
    hall, certified = over()
    effects = finish_at(hall, LAST, certified)
    assert hall.states[LAST].final == certified
    assert not [e for e in effects if isinstance(e, RoundSend)], "what it lacks may be on its way"
    wait(hall, hall.contexts[LAST].timing.turn_ms // 2)
    asked = requests(hall.give(LAST, RoundAlarm(0)))
    assert [message.digests for message in asked.values()] == [(certified.header.model,)] * 2
    assert LAST not in asked
    helper = min(asked)
    finish_at(hall, helper, certified)
    (reply,) = hall.give(helper, asked[helper], sender=LAST)
    effects = hall.give(LAST, reply.message, sender=helper)
    (ended,) = [effect for effect in effects if isinstance(effect, RoundFinished)]
    assert ended.model == sum_of(range(2)).astype("<i8").tobytes()
    assert hall.states[LAST].terms == hall.states[helper].terms


def test_a_model_that_was_not_asked_for_is_refused_by_name() -> None:
    hall, certified = over()
    model = sum_of(range(2)).astype("<i8").tobytes()
    finish_at(hall, LAST, certified)
    assert isinstance(refused(hall.give(LAST, ObjectReply(model), sender=3)), UnaskedObjectError), "not asked yet"
    wait(hall, hall.contexts[LAST].timing.turn_ms)
    liar, honest = requests(hall.give(LAST, RoundAlarm(0)))
    assert isinstance(refused(hall.give(LAST, ObjectReply(model[:-1]), sender=liar)), UnaskedObjectError)
    assert isinstance(refused(hall.give(LAST, ObjectReply(model), sender=liar)), UnaskedObjectError), "one try each"
    large = ObjectReply(bytes(OBJECT_BYTES_MAX + 1))
    assert isinstance(refused(hall.give(LAST, large, sender=honest)), ObjectTooLargeError)
    assert hall.states[LAST].terms.round == 0
    wait(hall, hall.contexts[LAST].timing.turn_ms)
    others = requests(hall.give(LAST, RoundAlarm(0))).keys()
    assert others.isdisjoint({liar, honest}), "others are asked the next time"
    assert "RoundFinished" in names(hall.give(LAST, ObjectReply(model), sender=min(others)))


def test_the_next_close_takes_along_who_is_still_waiting_for_a_model() -> None:
    hall, effects = passed()
    state = hall.states[LAST]
    assert names(effects)[:1] == ["RoundPassed"]
    assert (state.terms, state.lacks_model, state.model) == (hall.states[0].terms, True, b"")
    released = [e.message for e in effects if isinstance(e, RoundBroadcast)]
    assert [(type(m), m.key_sums) for m in released] == [(Release, ())], "it has no columns, and a share of the beacon"
    (ended,) = [effect for effect in effects if isinstance(effect, RoundPassed)]
    assert ended.header.model == state.terms.model


def test_a_close_that_does_not_come_next_takes_nobody_along() -> None:
    hall, certified = over()
    finish_at(hall, LAST, certified)
    hall.finish(certified)
    jumped = replace(skipped(hall, 0), round=2)
    state, effects = release(hall.contexts[LAST], hall.states[LAST], jumped, 1, hall.now)
    assert state == hall.states[LAST]
    assert names(list(effects)) == ["Refused"]


def test_without_the_model_messages_wait_and_are_judged_when_it_arrives() -> None:
    hall, _ = passed()
    wait(hall, hall.contexts[LAST].timing.grace_ms)
    effects = hall.give(LAST, RoundAlarm(1))
    assert {"ObjectRequest", "Announcement"} <= set(names(effects))
    helper = min(requests(effects))
    upload = upload_for(hall, 0, 0)
    assert names(hall.give(LAST, upload)) == ["KeepUpload"]
    assert hall.give(LAST, upload) == []
    hall.give(3, upload)
    hall.outbox.clear()
    hall.sign()
    said = [message for sender, _, message in hall.outbox if sender == 3]
    assert names(said) == ["SeatReceipt"]
    for message in said:
        assert hall.give(LAST, message, sender=3) == []
    answer = hall.give(LAST, ReportRequest(1, 3, (upload.report.id,)), sender=3)
    assert isinstance(refused(answer), WrongRoundError), "it has no report to give"
    assert not hall.states[LAST].reports
    model = sum_of(range(2)).astype("<i8").tobytes()
    effects = hall.give(LAST, ObjectReply(model), sender=helper)
    (kept,) = [effect for effect in effects if isinstance(effect, KeepObject)]
    assert (kept.digest, kept.data) == (sha256(model).digest(), model)
    state = hall.states[LAST]
    assert (state.lacks_model, state.model) == (False, model)
    assert set(state.columns) == {(upload.report.id, LAST)}
    assert {seat for seat, receipt in state.receipts.items() if upload.report.id in receipt.names} == {3}
    assert hall.give(LAST, ObjectReply(model), sender=helper) == [], "the second answer to one question"


def test_a_round_whose_header_is_final_too_is_not_released_for_without_columns() -> None:
    hall, _ = over()
    state, effects = release(hall.contexts[LAST], Hall.opened(2).states[LAST], _over()[1], 0, hall.now, over=True)
    assert effects == ()
    assert state.close == _over()[1]
    whole, said = release(hall.contexts[3], admitted(2).states[3], admitted(2).close(), 0, hall.now, over=True)
    assert names(list(said))[:2] == ["ReleaseRecord", "Release"], "others may need these sums to open"
    assert whole.close is not None


def test_objects_are_given_once_a_round_and_to_validators_alone() -> None:
    hall, certified = over()
    finish_at(hall, 3, certified)
    wanted = ObjectRequest(LAST, (certified.header.model, certified.header.model, bytes(32)))
    assert names(hall.give(3, wanted, sender=LAST)) == ["ObjectReply"]
    assert hall.give(3, wanted, sender=LAST) == []
    assert isinstance(refused(hall.give(3, wanted, sender=4)), NotSenderError)
    many = ObjectRequest(LAST, (bytes(32),) * 4)  # a model, and registrations of two trainers, are all that one lacks
    assert isinstance(refused(hall.give(3, many, sender=LAST)), ObjectQuotaError)
    assert hall.give(3, PeerJoined(LAST)) == []
    assert names(hall.give(3, wanted, sender=LAST)) == ["ObjectReply"], "what it was given may be lost"
    assert hall.give(3, PeerJoined(4)) == []
    assert hall.give(3, wanted, sender=LAST) == []


def test_objects_that_nobody_has_are_asked_for_a_limited_number_of_times() -> None:
    """Each costs a look into the driver's store. What comes later is still given, and counts once."""
    late = sha256(b"late").digest()
    hall, store = Hall.opened(2), dict[bytes, bytes]()
    hall.contexts[3] = replace(hall.contexts[3], objects=store)
    assert hall.give(3, ObjectRequest(LAST, (late,)), sender=LAST) == []
    store[late] = b"late"
    assert names(hall.give(3, ObjectRequest(LAST, (late,)), sender=LAST)) == ["ObjectReply"]
    for number in range(3):
        ask = ObjectRequest(LAST, (bytes([number]) * 32, bytes([100 + number]) * 32))
        for _ in range(2):
            assert hall.give(3, ask, sender=LAST) == [], "the same ones again are not more"
    ask = ObjectRequest(LAST, (bytes([200]) * 32, bytes([201]) * 32))
    assert hall.give(3, ask, sender=LAST) == []
    assert isinstance(refused(hall.give(3, ask, sender=LAST)), ObjectQuotaError)
    assert hall.give(3, ObjectRequest(4, (bytes(32),)), sender=4) == []


def test_who_joins_again_and_again_is_not_answered_anew_for_ever() -> None:
    old = sha256(b"old").digest()
    hall = Hall.opened(2, objects={old: b"old"})
    ask = ObjectRequest(LAST, (old,))
    answers = 0
    for _ in range(JOINS_MAX + 3):
        answers += len(hall.give(3, ask, sender=LAST))
        assert hall.give(3, PeerJoined(LAST)) == []
    assert answers == JOINS_MAX + 1
    assert names(hall.give(3, replace(ask, validator=4), sender=4)) == ["ObjectReply"], "another one is"


def test_old_objects_come_from_the_drivers_store() -> None:
    old = sha256(b"old").digest()
    hall = Hall.opened(2, objects={old: b"old"})
    (sent,) = hall.give(3, ObjectRequest(LAST, (old,)), sender=LAST)
    assert (sent.to, sent.message) == (LAST, ObjectReply(b"old"))
    assert Hall.opened(2).give(3, ObjectRequest(LAST, (old,)), sender=LAST) == []


def test_a_registration_that_a_close_names_is_asked_for_and_its_reports_wait() -> None:
    data = b"a registration"
    digest, trainer = sha256(data).digest(), committee().trainers[0].address
    hall = Hall.opened(2)
    registered = {trainer: Registered(trainer, digest, 0, 9, bytes(32))}
    hall.states[5] = replace(hall.states[5], registered=registered)
    upload = re_sign(upload_of(0), 0, registration=digest)
    assert names(hall.give(5, upload)) == ["KeepUpload"]
    asked = requests(hall.give(5, RoundAlarm(0)))
    assert {message.digests for message in asked.values()} == {(digest,)}
    helper = min(asked)
    assert isinstance(refused(hall.give(5, ObjectReply(data + b"!"), sender=max(asked))), UnaskedObjectError)
    effects = hall.give(5, ObjectReply(data), sender=helper)
    assert effects[0] == KeepObject(digest, data)
    assert isinstance(refused(effects), UnregisteredError), "this task wants none: the report was judged"
    other = replace(registered[trainer], last_round=-1)  # used up
    hall.states[6] = replace(hall.states[6], registered={trainer: other})
    assert requests(hall.give(6, RoundAlarm(0))) == {}
    assert isinstance(refused(hall.give(6, upload)), UnregisteredError)


# ------------------------------------------------------------------------------------------------ begin again


def surroundings(index: int) -> ValidatorContext:
    who = committee()
    signer = EpochSigner(who.voting[index], who.accounts[index])
    return ValidatorContext(context_of(index, 2), signer, EpochVerifier(who.epoch_set), Archive(), 100)


def test_nobody_asks_or_relays_in_another_validators_name() -> None:
    """Else eight relays would push out what a member wants ordered, and its answers would go to whom it names."""
    context = surroundings(5)
    state, _ = start_validator(context, committee().terms, EMPTY_MODEL, {0: committee().first_seals[5]}, 0)
    final = state.replica.final.digest
    for message in (Relay(3, b"C of another"), BlockRequest(3, final, bytes(32))):
        after, (ignored,) = validator_step(context, state, message, 1, sender=7)
        assert after == state
        assert isinstance(ignored, Ignored)
        assert isinstance(ignored.reason, NotSenderError)
    after, _ = validator_step(context, state, Relay(3, b"C of its own"), 1, sender=3)
    assert [relay.member for relay in after.replica.pool] == [3]
    _, effects = validator_step(context, state, BlockRequest(3, final, bytes(32)), 1, sender=3)
    assert [effect.to for effect in effects if isinstance(effect, Send)] == [3]


def test_a_validator_that_begins_again_says_the_same_as_before() -> None:
    hall = Hall.opened(2)
    secret = hall.states[5].secrets[1]
    before = hall.give(5, upload_of(0)) + hall.give(5, upload_of(1))
    uploads = tuple(effect for effect in before if isinstance(effect, KeepUpload))
    kept = Kept(secrets={1: secret}, uploads=uploads)
    first = (committee().terms, EMPTY_MODEL, {0: committee().first_seals[5]})
    state, effects = restore_validator(surroundings(5), *first, kept, 7)
    said = [e.message for e in effects if isinstance(e, RoundBroadcast)]
    receipts = [e.message for e in before if isinstance(e, RoundBroadcast)]
    assert [m for m in said if isinstance(m, SeatReceipt)] == receipts
    announced = [m for i, _, m in hall.outbox if i == 5 and isinstance(m, Announcement)]
    assert [m for m in said if isinstance(m, Announcement)] == announced
    assert not [e for e in effects if isinstance(e, KeepSecret | KeepUpload)], "it is on the disk"
    assert state.round.columns.keys() == hall.states[5].columns.keys()


def test_without_its_secret_a_validator_cannot_issue_the_receipts_again() -> None:
    hall = Hall.opened(2)
    uploads = tuple(e for i in range(2) for e in hall.give(5, upload_of(i)) if isinstance(e, KeepUpload))
    first = (committee().terms, EMPTY_MODEL, {0: committee().first_seals[6]})
    _, effects = restore_validator(surroundings(5), *first, Kept(uploads=uploads), 7)
    assert "SeatReceipt" not in names(list(effects))


def test_what_was_verified_before_a_crash_is_said_to_be_verified_after_it() -> None:
    hall = Hall.opened(2)
    uploads = [e for i in range(2) for e in hall.give(5, upload_of(i)) if isinstance(e, KeepUpload)]
    first = (committee().terms, EMPTY_MODEL, {0: committee().first_seals[5]})
    for verified in (False, True):
        again = Kept(uploads=tuple(replace(kept, verified=verified) for kept in uploads))
        _, effects = restore_validator(surroundings(5), *first, again, 7)
        (said,) = [e.message for e in effects if isinstance(e, RoundBroadcast) and isinstance(e.message, SeatReceipt)]
        assert said.receipt.verified == (said.receipt.reports if verified else ())


def test_a_release_that_was_written_down_forbids_every_other_close_after_a_crash() -> None:
    hall = admitted(2)
    close = hall.close()
    context = hall.contexts[5]
    state = replace(hall.states[5], released={0: close.digest})
    _, effects = release(context, state, close, 0, hall.now)
    assert names(list(effects))[:2] == ["ReleaseRecord", "Release"]
    assert ReleaseRecord(0, close.digest) in effects
    other = replace(close, seats=close.seats[:-1], receipts=close.receipts[:-1])
    _, effects = release(context, state, other, 0, hall.now)
    assert names(list(effects)) == ["Refused"]


@pytest.mark.parametrize("model", [b"here", None])
def test_a_validator_begins_again_in_the_round_after_its_last_header(model: bytes | None) -> None:
    _, certified = over()
    header = replace(certified.header, model=sha256(b"here").digest())
    first = (committee().terms, EMPTY_MODEL, {0: committee().first_seals[5]})
    state, _ = restore_validator(surroundings(5), *first, Kept(header=header, model=model), 7)
    assert state.round.terms.round == 1
    assert state.round.terms.previous == header.digest
    assert state.round.lacks_model == (model is None)
    assert state.round.model == (model or b"")
