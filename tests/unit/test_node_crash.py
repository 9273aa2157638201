"""A validator that dies between any two effects and begins again from its disk: no round lost, nothing contradicted.

A handful of boundaries always, every one of them with `COLLEGIUM_FULL=1`. What validators say is compared over all of
their lives by `_crash_stage.Words`, at every word.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _crash_stage import LINK_MS, VALIDATORS, Fate, Killed, Village, Words, a_vote, forget_sealing_keys
from _round_stage import ENTRIES

from collegium.consensus import ObjectReply, RoundFinished, RoundPassed
from collegium.node import SharedWork

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
ROUNDS = 2
EFFECTS = 175  # of one validator in two rounds; `test_the_boundaries_are_all_there_are` holds the number
BOUNDARIES = range(EFFECTS) if FULL else range(3, EFFECTS, 29)
SHORT_MS, LONG_MS = 40, 450  # down for less than a round, and for more than one
OPENED_BYTES = 8 * ENTRIES  # what a round that opens adds to the model
WORK = SharedWork()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Village:
    """The undisturbed run."""
    village = Village(tmp_path_factory.mktemp("calm"), work=WORK)
    village.run(ROUNDS)
    village.check()
    village.close()
    return village


@pytest.mark.slow
def test_the_boundaries_are_all_there_are(calm: Village) -> None:
    effects = [fate.effects for fate in calm.fates.values()]
    assert min(effects) - 40 < EFFECTS
    assert max(effects) >= max(BOUNDARIES)
    assert calm.model(0)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_validator_killed_between_any_two_effects_comes_back(boundary: int, calm: Village, tmp_path: Path) -> None:
    """In turn each validator, for a short or a long time; the models are the undisturbed run's for equal closes."""
    down_ms = SHORT_MS if boundary % 3 else LONG_MS
    village = Village(tmp_path, boundary % VALIDATORS, boundary, down_ms, WORK)
    village.run(ROUNDS)
    assert village.lives == 1 or boundary >= min(fate.effects for fate in calm.fates.values())
    village.check()
    if village.due(0) == calm.model(0):
        assert village.model(0) == calm.model(0)
    village.close()


@pytest.mark.slow
@pytest.mark.parametrize("at_ms", range(10, 360, 10) if FULL else (90, 160))
def test_all_killed_at_once_come_back(at_ms: int, tmp_path: Path) -> None:
    village = Village(tmp_path, work=WORK)
    village.kill_all_ms = at_ms
    village.run(ROUNDS)
    assert village.lives == VALIDATORS
    village.check()
    village.close()


@pytest.mark.slow
@pytest.mark.parametrize("boundary", range(100, 160, 4) if FULL else (120,))
def test_who_dies_while_it_begins_again_comes_back_too(boundary: int, tmp_path: Path) -> None:
    village = Village(tmp_path, 1, boundary, SHORT_MS, WORK)
    village.fates[1].dies_again = [2, 5, 1]
    village.run(ROUNDS)
    assert village.lives == 4
    village.check()
    village.close()


@pytest.mark.slow
def test_who_was_away_for_many_rounds_asks_for_one_model() -> None:
    """It walks from header to header, and takes the last model by its digest; the rounds between it never computes."""
    village = Village(None, 1, 80, 1_200, WORK)
    village.run(6)
    village.check()
    notes = village.notes[1]
    passed = [note.header.round for note in notes if isinstance(note, RoundPassed)]
    finished = [note.header.round for note in notes if isinstance(note, RoundFinished)]
    assert len(passed) >= 2
    assert sorted(passed + finished) == list(range(6))
    assert village.heard[1][ObjectReply] <= 4


@pytest.mark.slow
@pytest.mark.parametrize("cut_ms", range(0, 100, 5) if FULL else (15,))
@pytest.mark.parametrize("joins", [True, False])
def test_a_broken_connection_loses_nothing_where_joining_is_told(cut_ms: int, joins: bool) -> None:
    """One is dead, so everybody else is needed; for 30 ms nothing reaches or leaves a second one."""
    village = Village(None, 1, 0, 8_000, WORK)
    village.cut, village.joins = (2, cut_ms, cut_ms + 3 * LINK_MS), joins
    village.run(ROUNDS)
    village.check()
    if joins:
        assert len(village.model(0)) == OPENED_BYTES * ROUNDS
    elif cut_ms == 15:
        assert len(village.model(0)) < OPENED_BYTES * ROUNDS, "its receipts are lost, so the round is skipped"


# ------------------------------------------------------------------------------------------------ the net has no holes


@pytest.mark.slow
def test_a_disk_that_forgets_sealing_keys_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same deaths over a disk that loses what must not be lost: somebody contradicts itself."""
    forget_sealing_keys(monkeypatch)
    assert any(contradicts(boundary) for boundary in (20, 60, 100, 140))


def contradicts(boundary: int) -> bool:
    """Tell whether validator 1, killed here for a moment, contradicts itself afterwards."""
    village = Village(None, 1, boundary, 5, WORK)
    try:
        village.run(ROUNDS)
    except AssertionError as error:
        return any(words in str(error) for words in ("than before", "after giving it up"))
    return False


def test_words_notice_a_second_vote_and_a_vote_after_giving_up() -> None:
    words = Words()
    words.hear(a_vote(3, b"a"))
    words.hear(a_vote(3, b"a"))
    with pytest.raises(AssertionError, match="another vote"):
        words.hear(a_vote(3, b"b"))
    words.given_up = 5
    with pytest.raises(AssertionError, match="after giving it up"):
        words.hear(a_vote(5, b"a"))


def test_a_fate_is_met_once() -> None:
    fate = Fate(1)
    fate.step()
    with pytest.raises(Killed):
        fate.step()
    fate.step()
    assert fate.effects == 2
