"""Every kind of lie about public work, planted into a run on a real node: found, proved, and paid for.

`COLLEGIUM_FULL=1 pytest -s tests/integration/test_node_planted_lies.py` plays all of them and prints what the watcher
says; docs/guide/watching.md has an example.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from _chain_stage import running_anvil
from _planted_lies import (
    LIED_ROUND,
    LIES,
    WATCHER,
    Lie,
    MachineLiar,
    Shower,
    Stage,
    double_report,
    double_vote,
    lied_run,
    stage,
)
from _run_stage import check

from collegium.lineage import MissingObjectError
from collegium.node import Finding, MachineCourtroom, WatchPlan, courtrooms, watch_run
from collegium.settlement import (
    JsonRpcChain,
    attach,
    is_dissection_final,
    read_checkpoints,
    read_member,
    read_owed,
    read_refuter,
)

STAKE = 10**18


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The address of an anvil of this file's own, whose clock is moved."""
    with running_anvil() as url:
        yield url


def stakes(place: Stage) -> list[int]:
    """What each member of the registry has left."""
    chain = JsonRpcChain(place.node)
    deployment = attach(chain, place.run.deployment.settlement, place.run.deployment.block)
    return [read_member(chain, deployment, member).stake for member in place.run.numbers.values()]


@dataclass
class Watched:
    """A run on which a lie was told, after somebody watched it to its end."""

    place: Stage
    room: MachineCourtroom
    finding: Finding | None


Play = Callable[[Lie], Watched]


@pytest.fixture(scope="module")
def watched(node: str, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Plays a run in which a lie is told and has it watched, once for each lie."""

    @cache
    def play(lie: Lie) -> Watched:
        place = stage(node, lied_run(node, tmp_path_factory.mktemp("lied"), lie).path)
        room = place.stand_up_before_the_machine()
        rooms, plan = courtrooms(place.run), WatchPlan(challenge=True)
        finding = watch_run(place.run, rooms, plan, place.player(), place.said.append, place.wait)
        print("\n".join([lie.name, *place.said]))
        return Watched(place, room, finding)

    return play


@pytest.mark.node
@pytest.mark.slow
def test_a_model_that_a_committee_agreed_on_costs_its_signers_half_their_stakes(node: str, watched: Play) -> None:
    seen = watched(LIES[0])
    place, finding = seen.place, seen.finding
    assert finding is not None
    assert (finding.round, finding.work) == (LIED_ROUND, "model step")
    assert place.run.site is not None
    assert place.run.evidence is not None
    voters = len(place.run.evidence.votes[LIED_ROUND].voters)
    assert voters >= 11  # of 16 seats, of which one is absent
    assert stakes(place).count(STAKE // 2) == voters
    chain = JsonRpcChain(node)
    deployment = place.run.deployment
    assert read_refuter(chain, place.run.site.disputes, place.run.headers[LIED_ROUND].digest) == WATCHER.address
    assert read_owed(chain, deployment.registry, WATCHER.address) == voters * STAKE // 20
    (court,) = courtrooms(place.run)
    assert isinstance(court, MachineCourtroom)
    (first, second) = read_checkpoints(chain, attach(chain, deployment.settlement, deployment.block))
    assert not is_dissection_final(chain, court.court, second.digest if first.last_round < LIED_ROUND else first.digest)
    # a second watcher, or the same after a kill, takes nothing twice and says so
    again = stage(node, place.run.path)
    watch_run(again.run, courtrooms(again.run), WatchPlan(challenge=True), again.player(), again.said.append)
    assert stakes(again) == stakes(place)
    assert sum("AlreadyConvicted" in line for line in again.said) == voters
    assert any("fell before" in line for line in again.said)


@pytest.mark.node
@pytest.mark.slow
def test_members_that_sign_two_things_lose_their_stakes_in_the_run_itself(node: str, tmp_path: Path) -> None:
    lies = (Lie("double vote", member=double_vote), Lie("double report", member=double_report))
    run = lied_run(node, tmp_path, *lies)
    convictions = run.summary["convictions"]
    assert isinstance(convictions, list)
    assert [entry["deed"].split(" of ")[0] for entry in convictions] == ["double vote", "double report"]
    place = stage(node, run.path)
    left = stakes(place)
    assert (left[3], left[16 + 1]) == (0, STAKE // 2)
    assert left.count(STAKE) == len(left) - 2
    verified = check(run.path, run.anchor)
    assert verified.ok, verified.failure
    assert any("2 convictions that took 1500000000000000000 wei" in line for line in verified.checks)
    assert watch_run(place.run, (), WatchPlan(), None, place.said.append) is None
    print("\n".join(place.said))
    assert sum("its stake was taken" in line for line in place.said) == 2


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=len(LIES))
def test_every_lie_is_found_and_paid_for(node: str, watched: Play, seed: int) -> None:
    lie = LIES[seed]
    seen = watched(lie)
    place, finding = seen.place, seen.finding
    if lie.member is not None:
        assert finding is None
        assert any(line.startswith(f"  {lie.name}") and "AlreadyConvicted" in line for line in place.said)
        return
    assert finding is not None
    assert (finding.round, finding.work) == (LIED_ROUND, lie.name)
    assert place.run.evidence is not None
    assert stakes(place).count(STAKE // 2) == len(place.run.evidence.votes[LIED_ROUND].voters)
    at_machine = sum(line.startswith("  choose") for line in place.said)
    assert at_machine == seen.room.court.terms.levels
    # what was honest stands
    kept = place.run.headers[LIED_ROUND - 1]
    assert any(f"rounds 0 to {LIED_ROUND - 1}, model {kept.model.hex()[:16]}" in line for line in place.said)
    assert place.run.site is not None
    chain = JsonRpcChain(node)
    refuters = [read_refuter(chain, place.run.site.disputes, header.digest) for header in place.run.headers]
    assert refuters == [WATCHER.address if number == LIED_ROUND else None for number in range(len(refuters))]


def lacking(whole: Stage, folder: Path, number: int) -> Stage:
    """Return a stage whose record is without the first report of a round."""
    shutil.copytree(whole.run.path, folder)
    name = whole.run.objects[0][whole.run.rounds[number].close.reports[0]].hex()
    (folder / "store" / name[:2] / name).unlink()
    return stage(whole.node, folder)


@pytest.mark.node
@pytest.mark.slow
def test_who_shows_nobody_a_report_loses_half_of_its_stake_and_who_shows_it_nothing(node: str, tmp_path: Path) -> None:
    whole = stage(node, lied_run(node, tmp_path / "whole").path)
    (room,) = (room for room in courtrooms(whole.run) if isinstance(room, MachineCourtroom))
    plan, shown_in, withheld_in = WatchPlan(challenge=True, demand=True), 1, LIED_ROUND

    honest = lacking(whole, tmp_path / "shown", shown_in)
    with pytest.raises(MissingObjectError):
        watch_run(honest.run, (), WatchPlan(), None, honest.said.append)
    honest.liar = Shower(whole.run, room)
    found = watch_run(honest.run, courtrooms(honest.run), plan, honest.player(), honest.said.append, honest.wait)
    print("\n".join(honest.said))
    assert found is not None
    assert (found.round, found.work) == (shown_in, "withheld")
    assert sum(line.startswith("  demand") for line in honest.said) == 1
    assert any(line.endswith("the header is upheld") for line in honest.said)
    assert stakes(whole).count(STAKE) == len(stakes(whole))

    lied = lacking(whole, tmp_path / "withheld", withheld_in)
    lied.liar = MachineLiar(whole.run, room, first=1)
    found = watch_run(lied.run, courtrooms(lied.run), plan, lied.player(), lied.said.append, lied.wait)
    print("\n".join(lied.said))
    assert found is not None
    assert (found.round, found.work) == (withheld_in, "withheld")
    assert sum(line.startswith("  demand") for line in lied.said) == 1
    assert whole.run.evidence is not None
    assert stakes(whole).count(STAKE // 2) == len(whole.run.evidence.votes[withheld_in].voters)
