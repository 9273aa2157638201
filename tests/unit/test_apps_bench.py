"""The benchmark checks the sum that it times, and its rows say what was measured and what was not."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from collegium.apps import _bench
from collegium.apps._bench import (
    Case,
    Measure,
    WrongSumError,
    aggregation_rows,
    case_rows,
    measure_ours,
    run_once,
    updates,
)
from collegium.apps._bench_rows import Spread

SMALL = Case(3, 50)
OURS = Measure(
    bytes_up=5_000,
    trainer_seconds=Spread.of([0.010, 0.012, 0.020]),
    opening_seconds=Spread.of([0.002]),
    seat_seconds=Spread.of([0.003]),
    seats_seconds=Spread.of([0.048]),
    peak_memory_bytes=2_000_000,
    max_error=7e-5,
)
PEER = SimpleNamespace(
    exchanges=4,
    bytes_up_per_client=10_000,
    client_seconds=0.024,
    client_seconds_range=(0.022, 0.030),
    server_seconds=1.0,
    server_seconds_range=(0.9, 1.2),
    peak_memory_bytes=1_000_000,
    max_error=7e-6,
)


def test_sum_of_quantised_updates_is_their_mean_within_half_a_step() -> None:
    run = run_once(SMALL, updates(SMALL))
    assert 0 < run.max_error <= 8 / (2**15 - 1) / 2 + 1e-9
    assert run.bytes_up > 3 * 3 * 4096 * 8  # each trainer: two check blocks and one of entries, report and boxes
    assert len(run.trainer_seconds) == 3


def test_an_entry_beyond_the_range_is_clipped() -> None:
    far = [np.full(4, 9, np.float32) for _ in range(3)]
    assert run_once(Case(3, 4), far).max_error == pytest.approx(1.0)


def test_a_wrong_sum_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _bench.open_sum

    def one_entry_off(*arguments: object) -> object:
        opened = right(*arguments)  # type: ignore[arg-type]
        opened.total[7] += 1
        return opened

    monkeypatch.setattr(_bench, "open_sum", one_entry_off)
    with pytest.raises(WrongSumError, match="entry 7 opens as"):
        run_once(SMALL, updates(SMALL))


@pytest.mark.slow
def test_runs_are_counted_and_the_memory_run_is_not_one_of_them() -> None:
    measure = measure_ours(SMALL, updates(SMALL), repeats=2)
    assert measure.trainer_seconds.runs == measure.opening_seconds.runs == measure.seats_seconds.runs == 2
    assert measure.peak_memory_bytes > measure.bytes_up


def test_updates_are_the_same_in_every_run() -> None:
    first, again = (np.stack(updates(Case(2, 10))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_ratio_says_how_many_times_more_the_peer_takes() -> None:
    rows = {(row["name"], row["unit"][:2]): row for row in case_rows(Case(16, 10_000), OURS, PEER)}  # type: ignore[arg-type]
    trainer = rows["trainer", "ms"]
    assert (trainer["case"], trainer["ours"], trainer["peer"], trainer["ratio"]) == ("16 x 10k", 12.0, 24.0, 2.0)
    assert trainer["unit"] == "ms 10-20 | 22-30"
    assert (trainer["ours_runs"], trainer["peer_runs"], trainer["ours_min"], trainer["peer_max"]) == (3, 5, 10.0, 30.0)
    assert rows["bytes up", "B "]["ours"] == 0.5
    assert rows["peak memory", "MB"]["ratio"] == 0.5
    assert [rows[name, "ms"]["peer"] for name in ("check: one seat", "check: all seats")] == [None, None]


def test_the_largest_case_of_the_peer_runs_three_times() -> None:
    rows = case_rows(Case(64, 1_000_000), OURS, PEER)  # type: ignore[arg-type]
    assert {row["peer_runs"] for row in rows if "peer_runs" in row} == {3}


def test_without_flower_the_peer_is_empty_and_one_row_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "QUICK_CASES", (SMALL,))
    monkeypatch.setattr(_bench, "measure_ours", lambda *_, **__: OURS)
    for name in [name for name in sys.modules if name.startswith("flwr.")]:  # each is found without its parent
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flwr", None)
    monkeypatch.delitem(sys.modules, "collegium.apps._secagg_peer", raising=False)
    rows = list(aggregation_rows(quick=True))
    assert {row["peer"] for row in rows} == {None}
    assert [row["case"] for row in rows if row["name"] == "peer"] == [_bench.MISSING_PEER]
    assert {row["case"] for row in rows if row["ours"] is not None} == {"3 x 50"}
    names = [row["name"] for row in rows]
    assert (names[0], names[-1]) == ("machine", "load after")


def test_another_missing_module_is_not_taken_for_a_missing_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "collegium.apps._secagg_peer", None)
    with pytest.raises(ModuleNotFoundError, match="_secagg_peer"):
        list(aggregation_rows(quick=True))


@pytest.mark.flower
@pytest.mark.slow
def test_both_sides_sum_the_same_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "QUICK_CASES", (Case(5, 100),))
    monkeypatch.setattr(_bench, "REPEATS", 1)
    rows = {row["name"]: row for row in aggregation_rows(quick=True)}
    assert (rows["messages up"]["ours"], rows["messages up"]["peer"]) == (1, 4)
    assert 0 < rows["error of mean"]["peer"] < 16 / 2**22 * 1e6


@pytest.mark.parametrize(("parameters", "name"), [(10_000, "2 x 10k"), (1_000_000, "2 x 1M"), (1_234, "2 x 1234")])
def test_case_names(parameters: int, name: str) -> None:
    assert replace(SMALL, trainers=2, parameters=parameters).name == name
