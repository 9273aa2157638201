"""Watching checkpoints on a real node: a committee that agrees on a lie is found out, disputed, and loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _chain_stage import DEVELOPMENT_KEYS, ask, running_anvil
from _court_stage import ZERO
from _run_stage import PlayedRun, play, write_experiment

from collegium.apps.cli import main
from collegium.crypto import AccountKey
from collegium.node import (
    NotOnANodeError,
    RecordMismatchError,
    WatchedRun,
    challenge,
    court_of,
    load_watched,
    watch,
)
from collegium.node import _task as task_module
from collegium.settlement import (
    ChainAnswerError,
    DefenderAtChain,
    DisputeMoves,
    DisputeState,
    DisputeTerms,
    JsonRpcChain,
    ModelStepTrace,
    attach_court,
    check_court,
    model_step_trace,
    read_refuter,
)

LIED_ROUND = 2
FUNDER, LIAR = (AccountKey(bytes.fromhex(key[2:])) for key in DEVELOPMENT_KEYS)
TERMS = DisputeTerms(window_s=4000, join_s=600, clock_s=900, extension_s=60)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The address of an anvil of this file's own, whose clock is moved."""
    with running_anvil() as url:
        yield url


def settled(node: str, folder: Path) -> PlayedRun:
    experiment = write_experiment(folder, ("checkpoint_every = 2", f'checkpoint_every = 2\nurl = "{node}"'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
        return play(experiment, folder / "run")


@pytest.fixture(scope="module")
def lied(node: str, tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """All validators move one parameter of round 2 by one more than the step does."""
    honest = task_module.LearningTask.step

    def step(task: task_module.LearningTask, number: int, model: bytes, total: np.ndarray) -> bytes:
        after = honest(task, number, model, total)
        if number != LIED_ROUND:
            return after
        state = task.decode_state(after)
        moved = state.parameters.copy()
        moved[3] += 1
        return task.encode_state(replace(state, parameters=moved))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module.LearningTask, "step", step)
        return settled(node, tmp_path_factory.mktemp("lied"))


def waiting(node: str, *players: DefenderAtChain) -> Callable[[], None]:
    """Let the liars answer; where they have no move, let time pass."""

    def wait() -> None:
        if not [move for player in players for move in player.step()]:
            ask(node, "evm_increaseTime", 300)
            ask(node, "evm_mine")

    return wait


def lying_trace(run: WatchedRun) -> ModelStepTrace:
    """What the committee would have to claim: the step gives the model of its header."""
    from collegium.lineage import Store

    header, before = run.headers[LIED_ROUND], run.headers[LIED_ROUND - 1]
    store = Store(run.path / "store")
    after, model = store.get(header.model, 1 << 24), store.get(before.model, 1 << 24)
    finding = watch(run, lambda line: None)
    assert finding is not None
    assert finding[0].trace is not None
    return replace_after(run, finding[0].trace, model, after)


def replace_after(run: WatchedRun, right: ModelStepTrace, model: bytes, after: bytes) -> ModelStepTrace:
    return ModelStepTrace(run.rule, right.total, model, after, run.headers[LIED_ROUND].model)


@pytest.mark.node
@pytest.mark.slow
def test_a_lie_that_a_committee_certified_is_found_and_refuted(node: str, lied: PlayedRun) -> None:
    run, said = load_watched(lied.path), []
    found = watch(run, said.append)
    assert found is not None
    finding, place = found
    assert (finding.round, finding.disputable) == (LIED_ROUND, True)
    court = court_of(run, None, FUNDER, TERMS, said.append)
    chain = JsonRpcChain(node)
    liar = DefenderAtChain(DisputeMoves(chain, court, LIAR), lying_trace(run), 0)
    state = challenge(run, finding, place, court, FUNDER, said.append, waiting(node, liar))
    assert state is DisputeState.REFUTED
    assert read_refuter(chain, court.address, run.headers[LIED_ROUND].digest) == FUNDER.address
    assert [line.split(":")[0].strip() for line in said if line.startswith("  ")] == [
        *["pick"] * (finding.trace.levels // 4 if finding.trace else 0),
        "refute",
        "settle",
    ]


@pytest.mark.node
@pytest.mark.slow
def test_a_court_of_another_task_or_rule_is_refused(node: str, lied: PlayedRun) -> None:
    run = load_watched(lied.path)
    court = court_of(run, None, FUNDER, TERMS, lambda line: None)
    chain = JsonRpcChain(node)
    assert court_of(run, court.address, FUNDER, None, lambda line: None).address == court.address
    check_court(chain, attach_court(chain, court.address, court.block), run.deployment, run.rule)
    with pytest.raises(ChainAnswerError, match="the court's rule"):
        check_court(chain, court, run.deployment, replace(run.rule, numerator=7))
    with pytest.raises(ChainAnswerError, match="the court is about"):
        check_court(chain, court, replace(run.deployment, settlement=bytes(20)), run.rule)


@pytest.mark.node
@pytest.mark.slow
def test_the_command_finds_the_lie_and_names_the_round(
    lied: PlayedRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["watch", str(lied.path)]) == 1
    said = capsys.readouterr().out
    assert "round 1: sum, opening and model are what the record gives" in said
    assert f"round {LIED_ROUND}: the model is not what the step gives" in said
    monkeypatch.delenv("COLLEGIUM_CHAIN_KEY", raising=False)
    assert main(["watch", str(lied.path), "--challenge"]) == 2
    assert "set COLLEGIUM_CHAIN_KEY" in capsys.readouterr().err
    assert main(["watch", str(lied.path), "--court", "0x12"]) == 2
    assert "is no address" in capsys.readouterr().err


@pytest.mark.node
@pytest.mark.slow
def test_an_honest_run_is_watched_to_its_end_and_another_record_is_refused(
    node: str, lied: PlayedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = settled(node, tmp_path)
    assert main(["watch", str(honest.path)]) == 0
    assert "every header is what its public work gives" in capsys.readouterr().out
    run = load_watched(honest.path)
    with pytest.raises(RecordMismatchError, match="other headers"):
        watch(replace(run, rounds=load_watched(lied.path).rounds), lambda line: None)


@pytest.mark.slow
def test_a_run_in_its_own_process_has_nobody_to_dispute_with(played: PlayedRun) -> None:
    with pytest.raises(NotOnANodeError):
        load_watched(played.path)


def test_a_trace_has_the_lengths_of_its_rule() -> None:
    from _court_stage import BEFORE, RULE, SPEC, STATISTICS, TOTAL

    from collegium.settlement import TraceInputError, step_rule

    with pytest.raises(TraceInputError):
        ModelStepTrace(step_rule(SPEC, RULE, STATISTICS), TOTAL, BEFORE[:-4], BEFORE, ZERO)
    assert model_step_trace(SPEC, RULE, STATISTICS, TOTAL, BEFORE, ZERO).fault is not None
