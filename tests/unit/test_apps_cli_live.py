"""What a terminal shows of a run, and what a pipe gets."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from collegium.apps._live import LiveTable, PlainLines, Watcher, watch
from collegium.apps._printable import printable
from collegium.node import (
    CheckpointPosted,
    Event,
    Message,
    ReportSubmitted,
    RoundFinished,
    RoundStarted,
    TrainerStanding,
    TrainersWeighed,
    VerifyProgress,
    Warning_,
)


def finished(number: int) -> RoundFinished:
    return RoundFinished(number, 30, 16, 0.875, 0.8125, 0.5, 350.4, 812.6, 224.4, 81.5, 12.5, 2e-5, (), (), 0)


EVENTS: list[Event] = [
    Message("chain started"),
    RoundStarted(1, 30),
    ReportSubmitted(1, "Basel/0", 0, 16),
    finished(1),
    CheckpointPosted(1, 10, 161_000, 484, "ab" * 32),
    Warning_("seat 3 [red]lied[/red]"),
    VerifyProgress("sums", 3, 10),
    VerifyProgress("sums", 10, 10),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_say_each_thing_once() -> None:
    stream = io.StringIO()
    with PlainLines(stream) as watcher:
        for event in EVENTS:
            watcher(event)
    assert stream.getvalue().splitlines() == [
        "chain started",
        "round 1/30: 16 reports, AUC 0.8750, accuracy 0.8125, loss 0.5000, coordination 350 ms, finality 813 ms, "
        "a proof made in 82 ms, verified in 12 ms, 224 bytes on chain, 2.00e-05 kWh (estimate)",
        f"checkpoint of rounds 1 to 10: 161,000 gas, 484 bytes, {'ab' * 32}",
        "warning: seat 3 [red]lied[/red]",
        "checked sums: 10",
    ]


def test_live_table_shows_the_latest_rounds_and_every_message() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None, width=120, legacy_windows=False)
    with LiveTable(console) as watcher:
        for event in [*EVENTS, *(finished(number) for number in range(2, 31))]:
            watcher(event)
    shown = stream.getvalue()
    last = shown.rsplit("coord. ms", 1)[1]
    assert "30/30" in last
    assert "15/30" in last
    assert "14/30" not in last, "only the latest 16 rounds"
    assert "all well" in last
    for line in ("chain started", "warning: seat 3 [red]lied[/red]", "checked sums: 10"):
        assert line in shown


def test_live_table_has_columns_of_proofs_where_there_are_proofs() -> None:
    shown = {}
    for proved in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, color_system=None, width=140, legacy_windows=False)
        with LiveTable(console) as watcher:
            event = finished(1)
            watcher(event if proved else replace(event, prove_ms=None, verify_ms=None))
        shown[proved] = stream.getvalue()
    assert "prove ms" in shown[True]
    assert "verify ms" in shown[True]
    assert "prove ms" not in shown[False]
    assert "verify ms" not in shown[False]


def test_live_table_gives_the_terminal_back_when_a_run_fails() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None, width=120, legacy_windows=False)
    with pytest.raises(KeyboardInterrupt):
        interrupt(LiveTable(console))
    assert stream.getvalue().rstrip("\n").endswith("\x1b[?25h"), "the cursor is visible again"


def interrupt(watcher: Watcher) -> None:
    with watcher:
        watcher(RoundStarted(1, 2))
        raise KeyboardInterrupt


def test_a_terminal_gets_the_table_and_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(watch(Terminal()), LiveTable)
    assert isinstance(watch(io.StringIO()), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(watch(Terminal()), PlainLines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("h\u00f4pital", "h\u00f4pital"),
        ("a\nb", "a\\nb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202egnp", "\\u202egnp"),
    ],
)
def test_control_characters_never_reach_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


WEIGHED = TrainersWeighed(
    7,
    15,
    (
        TrainerStanding("Basel/0", 15, 3.25, False),
        TrainerStanding("[red]Bern[/red]/0", 0, 0.5, True, "label_flip"),
        TrainerStanding("Chur/0", 4, 1.0, False),
        TrainerStanding("Genf/0", 0, 0.0, False),
    ),
    0.8125,
)


def test_plain_lines_say_who_has_less_influence_than_the_others() -> None:
    stream = io.StringIO()
    with PlainLines(stream) as watcher:
        watcher(WEIGHED)
        watcher(replace(WEIGHED, round=8, trainers=WEIGHED.trainers[:1], model_score=None))
    assert stream.getvalue().splitlines() == [
        "round 7: influence [red]Bern[/red]/0 0, Chur/0 4, Genf/0 0, the other 1 have 15; stewards: 81.2% of hidden "
        "rows right",
        "round 8: influence all have the greatest",
    ]


def test_the_live_table_shows_each_trainers_influence_in_numbers_and_words() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None, width=140, legacy_windows=False)
    with LiveTable(console) as watcher:
        watcher(finished(7))
        watcher(replace(WEIGHED, trainers=WEIGHED.trainers * 7))
    last = [" ".join(line.split()) for line in stream.getvalue().rsplit("points", 1)[1].splitlines()]
    for line in (
        "Basel/0 - 15 ############### 3.25 counts",
        "[red]Bern[/red]/0 - 0 0.50 locked out, attacks: label_flip",
        "Chur/0 - 4 #### 1.00 counts",
        "Genf/0 - 0 0.00 no influence",
    ):
        assert last.count(line) == 6
    assert "and 4 more" in last
