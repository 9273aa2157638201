"""Watching checkpoints on a real node: what a command says, which courts it takes, who stands up for a right header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from _chain_stage import DEVELOPMENT_KEYS, running_anvil
from _court_stage import ZERO
from _planted_lies import LIAR, LIED_ROUND, Lie, Stage, lied_run, stage, wrong_model
from _run_stage import PlayedRun

from collegium.apps.cli import main
from collegium.node import (
    Courtroom,
    MachineCourtroom,
    NotOnANodeError,
    RecordMismatchError,
    WatchPlan,
    challenge,
    courtrooms,
    found_courtroom,
    load_watched,
    watch,
    watch_run,
)
from collegium.node._watch import model_trace_of
from collegium.settlement import (
    MODEL_STEP,
    ChainAnswerError,
    DisputeMoves,
    DisputeState,
    DisputeTerms,
    HeaderPlace,
    JsonRpcChain,
    ModelStepTrace,
    attach,
    attach_court,
    check_court,
    check_site,
    header_opening,
    header_proof,
    model_step_trace,
    read_checkpoints,
    read_courts,
    read_dispute,
    read_member,
)

TERMS = DisputeTerms(window_s=4000, join_s=600, clock_s=900, extension_s=60)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The address of an anvil of this file's own, whose clock is moved."""
    with running_anvil() as url:
        yield url


@pytest.fixture(scope="module")
def lied(node: str, tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """All validators move one parameter of round 2 by one more than the step does."""
    return lied_run(node, tmp_path_factory.mktemp("lied"), Lie("model step", committee=wrong_model))


@pytest.fixture(scope="module")
def honest(node: str, tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """Nobody lies."""
    return lied_run(node, tmp_path_factory.mktemp("honest"))


@pytest.mark.node
@pytest.mark.slow
def test_a_court_of_another_task_or_rule_is_refused(node: str, lied: PlayedRun) -> None:
    place = stage(node, lied.path)
    run, chain = place.run, JsonRpcChain(node)
    (own,) = courtrooms(run)  # the machine's: the task's work is programs
    assert isinstance(own, MachineCourtroom)
    found = found_courtroom(run, place.player(), TERMS)
    assert [room.address for room in courtrooms(run, found.address)] == [found.address]
    court = attach_court(chain, found.address, run.deployment.block)
    check_court(chain, court, run.deployment, run.rule)
    with pytest.raises(ChainAnswerError, match="the court's rule"):
        check_court(chain, court, run.deployment, replace(run.rule, numerator=7))
    with pytest.raises(ChainAnswerError, match="the court is about"):
        check_court(chain, court, replace(run.deployment, settlement=bytes(20)), run.rule)
    assert run.site is not None
    assert read_courts(chain, run.site.disputes) == (own.address,) == (run.site.disputes,)
    assert [room.address for room in courtrooms(run, run.site.disputes)] == [own.address]
    with pytest.raises(ChainAnswerError, match="the disputes of Slashing is"):
        check_site(chain, run.deployment, replace(run.site, disputes=found.address))
    with pytest.raises(ChainAnswerError, match="take stakes, expected"):
        courtrooms(replace(run, site=replace(run.site, slashing=bytes(20))))


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
    for option in ("--challenge", "--defend"):
        assert main(["watch", str(lied.path), option]) == 2
        assert "set COLLEGIUM_CHAIN_KEY" in capsys.readouterr().err
    assert main(["watch", str(lied.path), "--court", "0x12"]) == 2
    assert "is no address" in capsys.readouterr().err


@pytest.mark.node
@pytest.mark.slow
def test_an_honest_run_is_followed_to_its_end_and_another_record_is_refused(
    node: str, honest: PlayedRun, lied: PlayedRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
    assert main(["watch", str(honest.path), "--challenge", "--follow"]) == 0
    assert "every header is what its public work gives" in capsys.readouterr().out
    run = load_watched(honest.path)
    with pytest.raises(RecordMismatchError, match="other headers"):
        watch(replace(run, rounds=load_watched(lied.path).rounds), lambda line: None)


def dispute_a_right_header(place: Stage, room: Courtroom, number: int = LIED_ROUND) -> int:
    """The liar disputes a model that is right before a court for model steps; return the dispute's number."""
    run, chain = place.run, JsonRpcChain(place.node)
    court = attach_court(chain, room.address, run.deployment.block)
    checkpoints = read_checkpoints(chain, attach(chain, run.deployment.settlement, run.deployment.block))
    checkpoint = next(found for found in checkpoints if found.first_round <= number <= found.last_round)
    digests = [header.digest for header in run.headers[checkpoint.first_round : checkpoint.last_round + 1]]
    index = number - checkpoint.first_round
    at = HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))
    trace = model_trace_of(run, number)
    assert trace is not None
    opening = header_opening(run.headers[number], run.headers[number - 1])
    return DisputeMoves(chain, court, LIAR).open(MODEL_STEP, at, opening, trace.levels)[0]


@pytest.mark.node
@pytest.mark.slow
def test_a_right_header_is_defended_until_it_is_final(node: str, honest: PlayedRun) -> None:
    place = stage(node, honest.path)
    rooms = [found_courtroom(place.run, place.player()), *courtrooms(place.run)]
    number = dispute_a_right_header(place, rooms[0])
    plan = WatchPlan(defend=True)
    assert watch_run(place.run, rooms, plan, place.player(), place.said.append, place.wait) is None
    chain = JsonRpcChain(node)
    court = attach_court(chain, rooms[0].address, place.run.deployment.block)
    assert read_dispute(chain, court, number).state is DisputeState.UPHELD
    assert sum("window of rounds" in line for line in place.said) == 4  # two checkpoints before two courts
    assert any(line.startswith("  defend") for line in place.said)
    deployment = attach(chain, place.run.deployment.settlement, place.run.deployment.block)
    assert {read_member(chain, deployment, member).stake for member in place.run.numbers.values()} == {10**18}


@pytest.mark.node
@pytest.mark.slow
def test_a_challenger_goes_on_after_a_kill(node: str, lied: PlayedRun) -> None:
    place = stage(node, lied.path)
    rooms = [found_courtroom(place.run, place.player())]
    place.stand_up(rooms[0])
    found = watch(place.run, place.said.append)
    assert found is not None
    waited = []

    def killed() -> None:
        waited.append(1)
        if len(waited) == 3:
            raise KeyboardInterrupt
        place.wait()

    with pytest.raises(KeyboardInterrupt):
        challenge(place.run, *found, rooms, replace(place.player(), wait=killed))
    state = challenge(place.run, *found, courtrooms(place.run, rooms[0].address), place.player())
    assert state is DisputeState.REFUTED
    assert any("goes on" in line for line in place.said)


@pytest.mark.node
@pytest.mark.slow
def test_right_headers_are_defended_though_another_one_is_wrong(node: str, lied: PlayedRun) -> None:
    """A bad quorum could else end a watcher's defence of the headers before, by one that is wrong."""
    place = stage(node, lied.path)
    rooms = [found_courtroom(place.run, place.player())]
    number = dispute_a_right_header(place, rooms[0], LIED_ROUND - 1)
    plan = WatchPlan(challenge=True, defend=True)
    found = watch_run(place.run, rooms, plan, place.player(), place.said.append, place.wait)
    assert found is not None
    assert found.round == LIED_ROUND
    chain = JsonRpcChain(node)
    court = attach_court(chain, rooms[0].address, place.run.deployment.block)
    assert read_dispute(chain, court, number).state is DisputeState.UPHELD
    assert any(line.startswith("  collect") for line in place.said)


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
