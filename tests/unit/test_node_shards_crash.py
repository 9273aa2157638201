"""A validator of two committees a round dies between any two effects, is cut off, or stays away: what shards.md says.

A handful of boundaries always, every one of them with `COLLEGIUM_FULL=1`. What validators say is compared over all of
their lives by `_crash_stage.Words`, at every word.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _crash_stage import LINK_MS, VALIDATORS, forget_sealing_keys
from _round_stage import ENTRIES
from _shard_crash_stage import SHARDS, ShardVillage
from _shard_stage import (
    EMPTY_MODEL,
    Tally,
    cohort,
    finished,
    first_terms,
    history,
    members,
    shard_context,
    trainer_key,
    upload_for,
)

from collegium.aggregation import ReportRejectedError
from collegium.consensus import (
    Close,
    CloseRefusedError,
    KeepSecret,
    KeepUpload,
    NotSenderError,
    ObjectReply,
    PeerJoined,
    RecordOffer,
    Refused,
    RoundFinished,
    RoundPassed,
    ShardMessage,
    ShardRelease,
    Voucher,
    WrongRoundError,
    sharded_terms_after,
    sharded_terms_at,
)
from collegium.consensus._shard_own import close_shard
from collegium.consensus._shards import begin_sharded, sharded_step
from collegium.node import SharedWork
from collegium.node._journal import MemoryJournal, ReleaseRefusedError
from collegium.node._journal_disk import DiskJournal

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
ROUNDS = 2
EFFECTS = 245  # of one validator in two rounds, or more; `calm` holds the number
BOUNDARIES = range(EFFECTS) if FULL else (30, 115, 205)
SHORT_MS, LONG_MS = 40, 450  # down for less than a round, and for more than one
OPENED_BYTES = 8 * ENTRIES  # what a round that opens adds to the model
WORK = SharedWork()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> ShardVillage:
    """The undisturbed run."""
    village = ShardVillage(tmp_path_factory.mktemp("calm"), work=WORK)
    village.run(ROUNDS)
    village.check()
    assert EFFECTS <= min(fate.effects for fate in village.fates.values()) < EFFECTS + 40
    assert len(village.model(0)) == ROUNDS * OPENED_BYTES
    village.close()
    return village


@pytest.mark.slow
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_validator_killed_between_any_two_effects_comes_back(
    boundary: int, calm: ShardVillage, tmp_path: Path
) -> None:
    """In turn each validator, for a short or a long time; the models are the undisturbed run's for equal closes."""
    down_ms = LONG_MS if boundary % 3 == 1 else SHORT_MS
    village = ShardVillage(tmp_path, boundary % VALIDATORS, boundary, down_ms, WORK)
    village.run(ROUNDS)
    assert village.lives == 1
    village.check()
    if village.due(0) == calm.model(0):
        assert village.model(0) == calm.model(0)
    village.close()


@pytest.mark.slow
@pytest.mark.parametrize("at_ms", range(10, 360, 10) if FULL else (160,))
def test_all_killed_at_once_come_back(at_ms: int, tmp_path: Path) -> None:
    village = ShardVillage(tmp_path, work=WORK)
    village.kill_all_ms = at_ms
    village.run(ROUNDS)
    assert village.lives == VALIDATORS
    village.check()
    village.close()


@pytest.mark.slow
@pytest.mark.parametrize("boundary", range(100, 200, 4) if FULL else (180,))
def test_who_dies_while_it_begins_again_comes_back_too(boundary: int, tmp_path: Path) -> None:
    village = ShardVillage(tmp_path, 1, boundary, SHORT_MS, WORK)
    village.fates[1].dies_again = [2, 5, 1]
    village.run(ROUNDS)
    assert village.lives == 4
    village.check()
    village.close()


@pytest.mark.slow
def test_who_was_away_for_rounds_asks_for_one_model() -> None:
    """It walks from header to header, and takes the last model by its digest; the one between it never computes."""
    village = ShardVillage(None, 1, 60, 1_200, WORK)
    village.run(4)
    village.check()
    passed = [note for note in village.notes[1] if isinstance(note, RoundPassed)]
    played = [note for note in village.notes[1] if isinstance(note, RoundFinished)]
    assert passed
    assert len(passed) + len(played) == 4
    assert 1 <= village.heard[1][ObjectReply] <= 8


@pytest.mark.slow
@pytest.mark.parametrize("joins", [True, False] if FULL else [True])
@pytest.mark.parametrize("cut_ms", range(0, 100, 5) if FULL else (15,))
def test_a_broken_connection_loses_nothing_where_joining_is_told(cut_ms: int, joins: bool) -> None:
    """One is dead, so everybody else is needed; for 30 ms nothing reaches or leaves a second one."""
    village = ShardVillage(None, 1, 0, 8_000, WORK)
    village.cut, village.joins = (2, cut_ms, cut_ms + 3 * LINK_MS), joins
    village.run(ROUNDS)
    village.check()
    if joins:
        assert len(village.model(0)) == OPENED_BYTES * ROUNDS


@pytest.mark.slow
def test_a_disk_that_forgets_sealing_keys_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same deaths over a disk that loses what must not be lost: somebody contradicts itself."""
    forget_sealing_keys(monkeypatch)
    village = ShardVillage(None, 1, 60, 5, WORK)
    with pytest.raises(AssertionError, match=r"another announcement of .* than before"):
        village.run(ROUNDS)


# ------------------------------------------------------------------------------------------------ one release a shard


@pytest.mark.parametrize("make", [lambda path: MemoryJournal(), lambda path: DiskJournal(path / "journal.db")])
def test_a_journal_takes_one_release_a_round_and_shard(make: Callable[[Path], Any], tmp_path: Path) -> None:
    journal, close = make(tmp_path), sha256(b"close").digest()
    written = [ShardRelease(3, 0, close), ShardRelease(3, 1, bytes(32)), ShardRelease(4, 0, bytes(32))]
    journal.write(written)
    journal.write(written[:1])
    assert journal.read().shard_released == {(3, 0): close, (3, 1): bytes(32), (4, 0): bytes(32)}
    with pytest.raises(ReleaseRefusedError):
        journal.write([ShardRelease(3, 0, bytes(32))])
    assert journal.read().shard_released[3, 0] == close
    if isinstance(journal, DiskJournal):
        journal.close()


@pytest.mark.slow
def test_who_has_released_for_one_close_releases_for_no_other_after_it_begins_again() -> None:
    """Whatever is final then: what was written down is what counts."""
    city, seen = history()
    validator = min(seen)
    (shard, *_) = seen[validator][0].state.own
    close = next(m.state.standings[shard].close for m in reversed(seen[validator]) if m.state.standings[shard].close)
    assert isinstance(close, Close)
    context, secrets = shard_context(20, SHARDS, validator), {0: members(20).seals[validator]}
    for released, refused in ((close.digest, False), (bytes(32), True)):
        entered = (first_terms(20, SHARDS), EMPTY_MODEL, secrets, 0)
        state, _ = begin_sharded(context, *entered, released={(0, shard): released})
        own, effects = close_shard(state.own[shard], close, 0)
        reasons = [effect.reason for effect in effects if isinstance(effect, Refused)]
        assert [type(reason) for reason in reasons] == [CloseRefusedError] * refused
        assert any(isinstance(effect, ShardRelease) for effect in effects) != refused
        assert (own.state.close is None) == refused
    assert city.nodes


# ------------------------------------------------------------------------------------------------ coming back


@pytest.mark.slow
def test_trainers_are_where_the_headers_say_however_late_one_begins_again() -> None:
    header = finished(history()[0].nodes[0])[0].header
    epoch_set = members(20).epoch_set
    for partition_rounds in (1, 2, 3):
        first = terms = first_terms(20, SHARDS, partition_rounds)
        headers = [replace(header, round=number, beacon=bytes([number]) * 48) for number in range(7)]
        assert sharded_terms_at(Tally(), epoch_set, first, []) == first
        for number, last in enumerate(headers):
            terms = sharded_terms_after(Tally(), epoch_set, terms, last)
            assert sharded_terms_at(Tally(), epoch_set, first, headers[: number + 1]) == terms


def lacking_model() -> tuple[Any, Any, int]:
    """Return a validator's surroundings and state in a round whose model is not here, and a shard in which it sits."""
    validator, terms = 3, first_terms(20, SHARDS)
    secrets = {0: members(20).seals[validator]}
    context = shard_context(20, SHARDS, validator)
    state, effects = begin_sharded(context, terms, None, secrets, 0)
    assert not state.own
    assert not any(isinstance(effect, KeepSecret) for effect in effects)
    return context, state, next(k for k in range(SHARDS) if validator in terms.members[k])


def test_without_its_model_a_round_only_waits_until_that_arrives() -> None:
    context, state, shard = lacking_model()
    upload = upload_for(state.terms.shards[shard], _in_shard(state, shard))
    state, effects = sharded_step(context, state, upload, 5)
    assert [type(effect) for effect in effects] == [KeepUpload]
    again, nothing = sharded_step(context, state, upload, 5)
    assert not nothing
    assert again.ahead == state.ahead
    state, effects = sharded_step(context, state, ObjectReply(EMPTY_MODEL), 10, 5)
    assert not state.lacks_model
    assert shard in state.own
    assert state.own[shard].state.reports
    assert not any(isinstance(effect, KeepUpload) for effect in effects)
    _, (refused,) = sharded_step(context, state, ObjectReply(b"another model"), 10, 5)
    assert isinstance(refused, Refused)


def _shard_of(state: Any, trainer: int) -> int:
    return int(state.terms.shard_of(cohort(), trainer_key(trainer).address))


def _in_shard(state: Any, shard: int) -> int:
    return next(trainer for trainer in range(12) if _shard_of(state, trainer) == shard)


def test_what_waits_is_bounded_by_name() -> None:
    context, state, shard = lacking_model()
    upload = upload_for(state.terms.shards[shard], _in_shard(state, shard))
    large = replace(upload, ciphertext=upload.ciphertext * 2)
    voucher = ShardMessage(0, shard, Voucher(5, bytes(32), bytes(48)))
    records = [RecordOffer(1, bytes([number]) * 40) for number in range(100)]
    for message, error in ((large, ReportRejectedError), (voucher, WrongRoundError)):
        after, (refused,) = sharded_step(context, state, message, 5, None if message is large else 5)
        assert isinstance(refused, Refused)
        assert type(refused.reason) is error
        assert after == state
    refusals = []
    for record in records:
        state, effects = sharded_step(context, state, record, 5, 5)
        refusals += [effect.reason for effect in effects if isinstance(effect, Refused)]
    assert refusals
    assert {type(reason) for reason in refusals} == {NotSenderError}
    assert len(state.ahead) == len(records) - len(refusals)
    _, effects = sharded_step(context, state, RecordOffer(1, bytes(40)), 5, 6)
    assert not effects
    big = RecordOffer(1, bytes(16 << 20))
    _, (refused,) = sharded_step(context, state, big, 5, 7)
    assert isinstance(refused, Refused)
    assert type(refused.reason) is NotSenderError


@pytest.mark.slow
def test_a_validator_that_comes_back_is_answered_anew_a_limited_number_of_times() -> None:
    _, seen = history()
    validator = min(seen)
    moment = next(m for m in seen[validator] if m.state.own and any(o.vouched for o in m.state.own.values()))
    state, context = moment.state, shard_context(20, SHARDS, validator)
    offerer = next(entry[0] for own in state.own.values() for entry in own.vouched)
    after, effects = sharded_step(context, state, PeerJoined(offerer), moment.now)
    assert not effects
    assert not any(entry[0] == offerer for own in after.own.values() for entry in own.vouched)
    for _ in range(20):
        after, _ = sharded_step(context, after, PeerJoined(offerer), moment.now)
    assert after.joins == {offerer: 16}
