"""Supervision without processes and without a clock that runs: who is started again, when, and who is not."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from collegium.apps._exit import ExitCode
from collegium.apps._supervisor import (
    RESTARTS_MAX,
    STAYED_UP_S,
    Charge,
    Died,
    Finished,
    GaveUp,
    Happening,
    Started,
    Supervisor,
    delay_s,
    how_it_ended,
)
from collegium.apps._zygote import Ended


class FakeNursery:
    """Gives out pids from 100 and ends what a test says."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.signals: list[tuple[int, int]] = []
        self.ends: list[Ended] = []

    def start(self, arguments: Sequence[str], log: Path) -> int:
        self.started.append(arguments[0])
        return 99 + len(self.started)

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))

    def ended(self, timeout_s: float) -> list[Ended]:
        ends, self.ends = self.ends, []
        return ends


class Stage:
    """A validator and a trainer under supervision."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.nursery = FakeNursery()
        self.finished: set[str] = set()
        self.validator = Charge("validator", "validator 0", Path("v"), Path("v.log"), lasting=True)
        self.trainer = Charge("trainer", "trainer a/0", Path("t"), Path("t.log"))
        self.supervisor = Supervisor(
            (self.validator, self.trainer),
            self.nursery,
            lambda: self.now_s,
            self.finished.__contains__,
            self.finished.discard,
        )

    def step(self, *ends: tuple[Charge, int]) -> list[Happening]:
        self.nursery.ends = [Ended(charge.pid or 0, code) for charge, code in ends]
        return self.supervisor.step(0.0)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    assert stage.step() == [Started("validator 0", 100, 0), Started("trainer a/0", 101, 0)]
    return stage


def test_all_are_started_once_in_their_order(stage: Stage) -> None:
    assert stage.step() == []
    assert stage.nursery.started == ["v", "t"]
    assert stage.supervisor.running == 2


def test_whoever_is_killed_is_started_again_when_its_delay_is_over(stage: Stage) -> None:
    assert stage.step((stage.validator, -9)) == [Died("validator 0", 100, -9, 0.5)]
    stage.now_s += 0.4
    assert stage.step() == []
    stage.now_s += 0.1
    assert stage.step() == [Started("validator 0", 102, 1)]


def test_delays_grow_and_have_a_limit() -> None:
    assert [delay_s(attempts) for attempts in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_whoever_never_stays_up_is_given_up(stage: Stage) -> None:
    for attempt in range(1, RESTARTS_MAX + 1):
        (died,) = stage.step((stage.trainer, ExitCode.BUG))
        assert died == Died("trainer a/0", died.pid, ExitCode.BUG, delay_s(attempt))
        stage.now_s += delay_s(attempt)
        assert len(stage.step()) == 1
    assert stage.step((stage.trainer, ExitCode.BUG)) == [GaveUp("trainer a/0", ExitCode.BUG, Path("t.log"))]
    stage.now_s += 1e6
    assert stage.step() == []


def test_whoever_stayed_up_starts_with_a_clean_slate(stage: Stage) -> None:
    for _ in range(3 * RESTARTS_MAX):
        stage.now_s += STAYED_UP_S
        (died,) = stage.step((stage.validator, -9))
        assert isinstance(died, Died)
        assert died.again_s == 0.5
        stage.now_s += 0.5
        stage.step()


def test_one_second_less_is_not_staying_up(stage: Stage) -> None:
    for expected in (0.5, 1.0):
        stage.now_s += STAYED_UP_S - 1
        (died,) = stage.step((stage.validator, -9))
        assert isinstance(died, Died)
        assert died.again_s == expected
        stage.now_s += expected
        stage.step()


def test_refused_settings_are_not_tried_again(stage: Stage) -> None:
    assert stage.step((stage.validator, ExitCode.USER)) == [GaveUp("validator 0", ExitCode.USER, Path("v.log"))]


def test_whoever_says_that_it_finished_and_ends_well_has_finished(stage: Stage) -> None:
    stage.finished.add("trainer a/0")
    assert stage.step((stage.trainer, ExitCode.GOOD)) == [Finished("trainer a/0")]
    assert stage.trainer.state == "finished"


def test_a_good_end_alone_is_not_finishing(stage: Stage) -> None:
    """Whoever is stopped by hand ends with code 0 as well."""
    assert stage.step((stage.trainer, ExitCode.GOOD)) == [Died("trainer a/0", 101, 0, 0.5)]


def test_saying_so_and_then_failing_is_not_finishing(stage: Stage) -> None:
    stage.finished.add("trainer a/0")
    assert stage.step((stage.trainer, ExitCode.WORLD)) == [Died("trainer a/0", 101, 3, 0.5)]


def test_what_was_said_before_a_restart_counts_no_more(stage: Stage) -> None:
    stage.finished.add("trainer a/0")
    stage.step((stage.trainer, ExitCode.WORLD))
    stage.now_s += 1
    stage.step()
    (died,) = stage.step((stage.trainer, ExitCode.GOOD))
    assert isinstance(died, Died)


def test_a_validator_never_finishes(stage: Stage) -> None:
    stage.finished.add("validator 0")
    assert stage.step((stage.validator, ExitCode.GOOD)) == [Died("validator 0", 100, 0, 0.5)]


def test_stopping_asks_whoever_runs_and_starts_nobody_again(stage: Stage) -> None:
    stage.step((stage.validator, -9))
    stage.supervisor.stop()
    assert stage.nursery.signals == [(101, signal.SIGTERM)]
    stage.now_s += 10
    assert stage.step((stage.trainer, 0)) == []
    assert stage.supervisor.running == 0
    assert {stage.validator.state, stage.trainer.state} == {"stopped"}


def test_the_end_of_a_stranger_is_nobody_s(stage: Stage) -> None:
    stage.nursery.ends = [Ended(4711, -9)]
    assert stage.supervisor.step(0.0) == []


@pytest.mark.parametrize(
    ("code", "words"), [(0, "ended with code 0"), (-9, "was ended by SIGKILL"), (-99, "was ended by signal 99")]
)
def test_an_end_is_said_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
