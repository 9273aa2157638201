"""The court of the machine on a real node: a lie about any kind of public work is found by its program, and refuted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _chain_stage import DEVELOPMENT_KEYS, ask, running_anvil
from _planted_lies import LIAR, LIED_ROUND, WATCHER, false_lost, wrong_total
from _run_stage import play, write_experiment

from collegium import aggregation
from collegium.apps.cli import main
from collegium.crypto import AccountKey, Digest
from collegium.node import (
    MachineCourtroom,
    NothingRejectedError,
    NothingToOfferError,
    OfferPlan,
    Player,
    UnknownWorkError,
    WatchedRun,
    WatchPlan,
    courtrooms,
    found_machine_court,
    load_watched,
    offer_claim,
    read_public_record,
    watch,
    watch_run,
    work_kinds,
    work_programs,
)
from collegium.settlement import (
    PARTS,
    DisputeState,
    DissectionClaim,
    DissectionMoves,
    DissectionPhase,
    DissectionStanding,
    DissectionTerms,
    HeaderPlace,
    JsonRpcChain,
    KnownStretches,
    MachineRun,
    attach,
    check_dissections,
    header_proof,
    is_dissection_final,
    read_checkpoints,
    read_dissection,
    read_dissection_defence,
    read_dissection_game,
    read_dissections,
    read_refuter,
)

TERMS = DissectionTerms(window_s=4000, join_s=600, clock_s=900, extension_s=60)

pytestmark = [pytest.mark.node, pytest.mark.slow]


@contextmanager
def doubled_weights() -> Iterator[None]:
    """Weigh every report of the lied round twice."""
    honest = aggregation.RoundTerms.weight

    def weight(terms: aggregation.RoundTerms, staleness: int) -> int:
        return honest(terms, staleness) << (terms.round == LIED_ROUND)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation.RoundTerms, "weight", weight)
        yield


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The address of an anvil of this file's own, whose clock is moved."""
    with running_anvil() as url:
        yield url


@dataclass
class Room:
    """A run's court, what is said there, and a liar that stands up for its committee's header."""

    node: str
    run: WatchedRun
    court: MachineCourtroom
    said: list[str]
    liar: Liar | None = None

    def player(self) -> Player:
        return Player(WATCHER, self.said.append, self.wait)

    def wait(self) -> None:
        """Let the liar answer; where it has no move, let time pass."""
        if self.liar is None or not self.liar.step():
            ask(self.node, "evm_increaseTime", TERMS.clock_s + 1)
            ask(self.node, "evm_mine")

    def moves(self, account: AccountKey) -> DissectionMoves:
        return DissectionMoves(JsonRpcChain(self.node), self.court.court, account)

    def place(self, number: int) -> HeaderPlace:
        chain, headers = JsonRpcChain(self.node), self.run.headers
        found = read_checkpoints(chain, attach(chain, self.run.deployment.settlement, self.run.deployment.block))
        checkpoint = next(one for one in found if one.first_round <= number <= one.last_round)
        digests = [header.digest for header in headers[checkpoint.first_round : checkpoint.last_round + 1]]
        index = number - checkpoint.first_round
        return HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))


class Liar:
    """Claims the run that its program really takes, but for the end, which it says accepts."""

    def __init__(self, room: Room, kind: int, number: int) -> None:
        self.room, record = room, room.court.record
        known = KnownStretches(record.messages(number))
        self.run = MachineRun(work_programs(record)[kind], room.run.headers[number].digest, known)
        self.end, self.game = replace(self.run.final, status=1), -1

    def step(self) -> bool:
        """Make the move that is due; tell whether there was one."""
        moves = self.room.moves(LIAR)
        if self.game < 0:
            self.game, _ = moves.defend(0, DissectionClaim(self.end, self.between(TERMS.levels, 0)))
            return True
        played = read_dissection_game(moves.chain, moves.court, self.game)
        if played.phase is not DissectionPhase.DIVIDE:
            return False  # what is asked of it then it cannot show
        moves.divide(self.game, self.between(played.level, played.position))
        return True

    def between(self, level: int, position: int) -> tuple[Digest, ...]:
        places = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        states = self.run.states(places)
        ended = [at >= self.run.steps for at in places]
        return tuple(
            self.end.digest if over else state.digest for over, state in zip(ended, states, strict=True) if state
        )


def record_of(node: str, folder: Path, lie: Callable[[], AbstractContextManager[None]] = nullcontext) -> Path:
    """Play a run whose committee agrees on a lie, and return its folder."""
    experiment = write_experiment(folder, ("checkpoint_every = 2", f'checkpoint_every = 2\nurl = "{node}"'))
    with pytest.MonkeyPatch.context() as patch, lie():
        patch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
        return play(experiment, folder / "run").path


def room_of(node: str, path: Path) -> Room:
    """Found a court of the machine of its own for a run."""
    run, record, chain = load_watched(path), read_public_record(path), JsonRpcChain(node)
    court = found_machine_court(chain, record, run.deployment, WATCHER, TERMS)
    check_dissections(chain, court.court, run.deployment, work_kinds(record))
    return Room(node, run, court, [])


@pytest.fixture(scope="module")
def honest(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in which nobody lies."""
    return record_of(node, tmp_path_factory.mktemp("honest"))


def found_in(number: int) -> Any:
    """All that the court asks of a finding: the programs find it themselves."""
    return SimpleNamespace(round=number, work="opened total")


LIES = {"opened total": (wrong_total, 1), "outcome": (false_lost, 1), "weights": (doubled_weights, 0)}


@pytest.mark.parametrize("work", LIES if os.environ.get("COLLEGIUM_FULL") == "1" else ["opened total"])
def test_lie_that_a_committee_agreed_on_is_refuted_at_one_instruction(node: str, tmp_path: Path, work: str) -> None:
    lie, kind = LIES[work]
    room = room_of(node, record_of(node, tmp_path, lie))
    finding, place = found_in(LIED_ROUND), room.place(LIED_ROUND)
    assert room.court.hears(finding)
    assert not room.court.hears(found_in(1))
    with pytest.raises(NothingRejectedError, match="no program rejects round 1"):
        room.court.dispute(room.run, found_in(1), room.place(1), room.player())
    room.liar = Liar(room, kind, LIED_ROUND)
    assert room.court.dispute(room.run, finding, place, room.player()) is DisputeState.REFUTED
    chain = JsonRpcChain(node)
    assert read_refuter(chain, room.court.address, place.header) == WATCHER.address
    assert sum(line.startswith("  choose") for line in room.said) == TERMS.levels
    assert any(line.startswith("  time out") for line in room.said)
    assert not is_dissection_final(chain, room.court.court, place.checkpoint.digest)
    # a watcher that is told where the court is sees the same lie, and that it fell
    (told,) = courtrooms(room.run, room.court.address)
    assert told.hears(finding)
    found = watch(room.run, room.said.append)
    assert found is not None
    plan = WatchPlan(challenge=True)
    assert watch_run(room.run, [told], plan, room.player(), room.said.append, room.wait) == found[0]
    assert any("asks another court: nobody is slashed" in line for line in room.said)


def test_right_header_is_defended_against_each_kind_until_it_is_final(node: str, honest: Path) -> None:
    room = room_of(node, honest)
    other, header = room.moves(LIAR), room.run.headers[LIED_ROUND]
    for kind in range(len(room.court.court.kinds)):
        other.open(kind, header.digest, header.preimage, room.place(LIED_ROUND))
    assert not room.court.defend(room.run, room.player())
    killed = MachineCourtroom(room.court.court, room.court.record)  # and started again: it finds its claims
    while not killed.defend(room.run, room.player()):
        room.wait()
    chain = JsonRpcChain(node)
    opened = read_dissections(chain, room.court.court)
    assert {read_dissection(chain, room.court.court, number).state.name for number in opened} == {"UPHELD"}
    assert sum(line.startswith("  defend") for line in room.said) == len(opened) == len(room.court.court.kinds)


class KilledError(Exception):
    """Whoever waits was killed."""


def kill() -> None:
    raise KilledError


def test_an_offer_pays_the_watcher_that_recomputes_the_run(
    node: str, honest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room, told = room_of(node, honest), list[str]()
    rooms, chain = [room.court], JsonRpcChain(node)
    plan = OfferPlan(wrong=True, round=LIED_ROUND, work="weights")

    def stands() -> bool:
        return read_dissection_defence(chain, room.court.court, 0).standing is DissectionStanding.STANDS

    def offer(wait: Callable[[], None]) -> DissectionStanding:
        return offer_claim(room.run, rooms, plan, Player(LIAR, told.append, wait))

    def wait() -> None:
        """Let who offered move, killed after each of its moves; where it has none, let time pass."""
        before = sum(line.startswith("  divide") for line in told)
        if stands():
            with pytest.raises(KilledError):
                offer(kill)
        if sum(line.startswith("  divide") for line in told) == before:
            room.wait()

    with pytest.raises(KilledError):
        offer(kill)
    watching = (rooms, WatchPlan(challenge=True), room.player(), room.said.append, wait)
    assert watch_run(room.run, *watching) is None
    assert not stands()
    assert sum(line.startswith("  choose") for line in room.said) == TERMS.levels
    assert f"  collect: {2 * TERMS.bond_wei - TERMS.bond_wei // 2} wei" in room.said
    assert told[0].startswith(f"claim 0 offered about round {LIED_ROUND}, weights: ")
    assert set(told[1:]) > {f"claim 0 about round {LIED_ROUND} goes on"}

    plan = OfferPlan(round=LIED_ROUND, work="weights")  # and a right one, which nobody accepts
    with pytest.raises(KilledError):
        offer(kill)
    watch_run(room.run, *watching)
    assert f"claim 1 is left alone: it is right about round {LIED_ROUND}" in room.said
    assert offer(room.wait) is DissectionStanding.WITHDRAWN
    assert told[-2:] == [f"  collect: {TERMS.bond_wei} wei", "claim 1 is over: it is withdrawn"]

    refused = {"round 9": OfferPlan(round=9), "no court": plan}
    for said, other in refused.items():
        with pytest.raises(NothingToOfferError, match=said):
            offer_claim(room.run, rooms if said == "round 9" else [], other, room.player())
    with pytest.raises(UnknownWorkError, match="no kind of work is 'luck', expected one of weights, opening"):
        offer_claim(room.run, rooms, OfferPlan(work="luck"), room.player())
    folder, court = str(room.run.path), "0x" + room.court.address.hex()
    assert main(["offer", folder, "--court", court, "--dry-run", "--round", "1", "--work", "model"]) == 0
    assert capsys.readouterr().out.startswith("a claim about round 1, model, would be offered: ")
    assert main(["offer", folder, "--court", court, "--wrong"]) == 2
    assert "offer needs an account that pays: set COLLEGIUM_CHAIN_KEY" in capsys.readouterr().err
