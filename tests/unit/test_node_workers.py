"""Work in other processes: the same results in the same order, refusals included."""

from __future__ import annotations

import pytest

from collegium.errors import CollegiumError
from collegium.node import SharedWork, Workers
from collegium.node._workers import WORKERS_VARIABLE, Done, WorkerCountError


class OddError(CollegiumError):
    """What half of these tests' work refuses with."""


def half(number: int) -> int:
    if number % 2:
        raise OddError(f"{number} is odd", number=number)
    return number // 2


def told(results: list[Done[int]]) -> list[object]:
    return [done.value if done.refusal is None else (type(done.refusal), done.refusal.values) for done in results]


EXPECTED = [0, (OddError, {"number": 1}), 1, (OddError, {"number": 3})]


def test_without_processes_work_is_done_here() -> None:
    with Workers(1) as workers:
        results = list(workers.map(half, [(number,) for number in range(4)]))
    assert told(results) == EXPECTED
    assert {done.cpu_seconds for done in results} == {0.0}
    assert all(done.took_ms > 0 for done in results)
    assert results[2].result() == 1
    with pytest.raises(OddError, match="3 is odd"):
        results[3].result()


def test_the_environment_says_how_many_processes_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "3")
    assert Workers().count == 3
    monkeypatch.delenv(WORKERS_VARIABLE)
    assert Workers().count >= 1


@pytest.mark.parametrize("said", ["0", "1025", "-1", "two", "1.5", " 1", "٣", "1" * 5000])
def test_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, said)
    with pytest.raises(WorkerCountError, match=r"expected 1\.\.1024"):
        Workers()


@pytest.mark.slow
def test_processes_give_the_same_and_end() -> None:
    with Workers(2) as workers:
        results = list(workers.map(half, [(number,) for number in range(4)]))
        assert told(results) == EXPECTED
        again = list(workers.map(half, [(number,) for number in range(4, 8)]))
        assert [done.value for done in again] == [2, None, 3, None]


def test_what_was_computed_ahead_is_charged_to_who_asks() -> None:
    work = SharedWork()
    work.put("good", 7, None, 12.5)
    work.put("bad", None, OddError("as was found ahead"), 2.5)
    assert work.once("good", lambda: 0) == 7
    with pytest.raises(OddError, match="as was found ahead"):
        work.once("bad", lambda: 0)
    assert work.charged_ms == 15.0


def test_some_results_outlast_the_round() -> None:
    work = SharedWork()
    work.put(("registration", 1), None, None, 1.0)
    work.put(("proof", 1), None, None, 1.0)
    work.forget(lambda key: isinstance(key, tuple) and key[0] == "registration")
    assert set(work.results) == {("registration", 1)}
    work.forget()
    assert not work.results
