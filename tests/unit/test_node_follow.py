"""A watcher that follows a run while checkpoints are being accepted: it looks at each of them before it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from collegium.node import Finding, WatchPlan, _follow, _watch, watch_run
from collegium.settlement import NO_CHECKPOINT, Checkpoint

ROUNDS, EACH = 6, 2  # of the record, and of a checkpoint
CHECKPOINTS = [
    Checkpoint(bytes(32), 0, first, first + EACH - 1, NO_CHECKPOINT, bytes([first + 1]) * 32)
    for first in range(0, ROUNDS, EACH)
]


class Growing:
    """A chain that accepts one more checkpoint after each question."""

    def __init__(self, lied: int | None) -> None:
        self.accepted, self.lied = 1, lied

    def read_checkpoints(self, *_: object) -> tuple[Checkpoint, ...]:
        found = tuple(CHECKPOINTS[: self.accepted])
        self.accepted += 1
        return found

    def read_head(self, *_: object) -> SimpleNamespace:
        found = min(ROUNDS, EACH * self.accepted)
        self.accepted += 1
        return SimpleNamespace(next_round=found)

    def recompute(self, _: object, number: int) -> Finding | None:
        return Finding(number, "outcome", "it lies") if number == self.lied else None


def watched(monkeypatch: pytest.MonkeyPatch, lied: int | None) -> tuple[Finding | None, list[str]]:
    """What a watcher that follows finds, and what it says."""
    chain = Growing(lied)
    for module in (_watch, _follow):
        monkeypatch.setattr(module, "JsonRpcChain", lambda _: chain)
        monkeypatch.setattr(module, "attach", lambda *_: None)
        for name in ("read_checkpoints", "read_head", "recompute"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(chain, name))
    monkeypatch.setattr(_watch, "steward_fault", lambda *_: None)
    monkeypatch.setattr(_watch, "digests_under", lambda *_: [bytes([place]) * 32 for place in range(EACH)])
    monkeypatch.setattr(_watch, "unlinked", lambda *_: None)
    run: Any = SimpleNamespace(
        url="", deployment=SimpleNamespace(settlement=b"", block=0), rounds=range(ROUNDS), evidence=None, site=None
    )
    said: list[str] = []
    return watch_run(run, (), WatchPlan(follow=True), None, said.append, lambda: None), said


def test_every_round_is_looked_at_once_however_fast_the_chain_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    finding, said = watched(monkeypatch, None)
    assert finding is None
    assert [line.split(":")[0] for line in said if line.startswith("round")] == [f"round {n}" for n in range(ROUNDS)]


@pytest.mark.parametrize("lied", range(ROUNDS))
def test_a_lie_that_is_accepted_between_two_looks_is_found(monkeypatch: pytest.MonkeyPatch, lied: int) -> None:
    finding, _ = watched(monkeypatch, lied)
    assert finding is not None
    assert (finding.round, finding.what) == (lied, "it lies")
