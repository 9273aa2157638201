"""Committees, validators and trainers that lie at one kind of public step, and a watcher that makes them pay for it.

Each lie is planted into an otherwise honest run on a node: by replacing what *everybody* computes (a committee that
agrees on it) or by one member's second message. Nothing in the product knows of any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _chain_stage import DEVELOPMENT_KEYS, ask
from _run_stage import PROVED, PlayedRun, play, write_experiment

from collegium import aggregation
from collegium.aggregation import OpenedSum, Upload
from collegium.consensus import Ballot, Vote
from collegium.crypto import AccountKey, hash_fields
from collegium.node import (
    Courtroom,
    Federation,
    MachineCourtroom,
    Player,
    WatchedRun,
    courtrooms,
    load_watched,
    work_programs,
)
from collegium.node import _pay as pay_module
from collegium.node import _quality as quality_module
from collegium.node import _task as task_module
from collegium.node._network import Network, Outgoing
from collegium.node._steward_proofs import StewardEvidence, StewardProving
from collegium.node._watch import model_trace_of
from collegium.settlement import (
    PARTS,
    DefenderAtChain,
    DisputeMoves,
    DissectionClaim,
    DissectionMoves,
    DissectionPhase,
    JsonRpcChain,
    KnownStretches,
    MachineRun,
    ModelStepTrace,
    attach_court,
    read_disputes,
    read_dissection_game,
    read_dissections,
)

LIED_ROUND = 2
WATCHER, LIAR = (AccountKey(bytes.fromhex(key[2:])) for key in DEVELOPMENT_KEYS)
HOUR_S = 3600


@dataclass(frozen=True)
class Lie:
    """A lie: its name, who is to be found out, and how it is planted.

    Attributes:
        committee: replaces what all validators compute; a context.
        member: lets one member say two things.
        weighed: told where stewards weigh the trainers; proved: and prove their records.
        pays: told where rounds are paid.
    """

    name: str
    committee: Callable[[], Any] | None = None
    member: Callable[[Federation], None] | None = None
    weighed: bool = False
    proved: bool = False
    pays: bool = False


# ------------------------------------------------------------------------------------------------ whole committees


@contextmanager
def wrong_model() -> Iterator[None]:
    """Move one parameter of the lied round by one more than the step does."""
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
        yield


@contextmanager
def wrong_total() -> Iterator[None]:
    """Open another sum than the key sums give, by one in one entry; the model follows from it."""
    honest = aggregation.open_sum

    def open_sum(terms: Any, *arguments: Any) -> OpenedSum:
        opened = honest(terms, *arguments)
        if terms.round != LIED_ROUND:
            return opened
        total = opened.total.copy()
        total[1] += 1
        return replace(opened, total=total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "open_sum", open_sum)
        yield


@contextmanager
def false_lost() -> Iterator[None]:
    """Call a sum lost that opens: the model stays as it was."""
    honest = aggregation.open_sum

    def open_sum(terms: Any, *arguments: Any) -> OpenedSum:
        if terms.round == LIED_ROUND:
            raise aggregation.SumLostError("as agreed")
        return honest(terms, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "open_sum", open_sum)
        yield


@contextmanager
def wrong_weights() -> Iterator[None]:
    """Count every update half, as if each report were a round old."""
    honest = aggregation.RoundTerms.weight

    def weight(terms: Any, staleness: int) -> int:
        found = honest(terms, staleness)
        return found // 2 if terms.round == LIED_ROUND else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation.RoundTerms, "weight", weight)
        yield


@contextmanager
def wrong_quality() -> Iterator[None]:
    """Let the first trainer's utility look a little better than its scores say."""
    honest = quality_module.fold_round

    def fold_round(rule: Any, before: Any, number: int, *rest: Any) -> Any:
        after = honest(rule, before, number, *rest)
        if number != LIED_ROUND:
            return after
        information = after.standing.information.copy()
        information[0] += 1
        return replace(after, standing=replace(after.standing, information=information))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_module, "fold_round", fold_round)
        yield


@contextmanager
def false_record() -> Iterator[None]:
    """Count the record of a steward that has changed a bit of its proof in the lied round: nobody verifies it."""
    honest, liars = StewardProving.prove, list[bytes]()

    def prove(proving: StewardProving, account: bytes, number: int, *rest: Any) -> StewardEvidence:
        evidence = honest(proving, account, number, *rest)
        if number != LIED_ROUND:
            return evidence
        liars.append(account)
        if account != liars[0]:
            return evidence
        return replace(evidence, proof=evidence.proof[:-1] + bytes([evidence.proof[-1] ^ 1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StewardProving, "prove", prove)
        patch.setattr(quality_module, "_fault", lambda *_: None)
        yield
    assert liars


@contextmanager
def wrong_reward() -> Iterator[None]:
    """Let the first trainer have earned a wei more than the round gives it, and the last one a wei less."""
    honest = pay_module.earned_after
    calls = list[int]()

    def earned_after(earned: Any, points: Any, budget: int) -> tuple[int, ...]:
        after = honest(earned, points, budget)
        if sum(earned) != (LIED_ROUND - 1) * budget:
            return after
        calls.append(1)
        return (after[0] + 1, *after[1:-1], after[-1] - 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pay_module, "earned_after", earned_after)
        yield
    assert calls


# ------------------------------------------------------------------------------------------------ single members


def double_vote(federation: Federation) -> None:
    """Validator 3 votes in one view for the block, and for one that nobody knows."""
    sent, keys = Network._send, federation.validators[3].voting
    members, lied = federation.genesis.epoch_set, list[int]()

    def send(network: Network, sender: int, item: Outgoing, ended: float) -> None:
        sent(network, sender, item, ended)
        said = item.message
        if sender != 3 or not isinstance(said, Vote) or item.at_ms is not None or lied[1:]:
            return
        lied.append(said.view)
        other = Ballot(said.view, hash_fields("test-other", said.view), said.ballot.parent_view, said.ballot.parent)
        sent(network, sender, replace(item, message=Vote(other, 3, keys.sign(other.digest(members)))), ended)

    federation.network._send = send.__get__(federation.network)  # type: ignore[method-assign]  # of this network alone


def double_report(federation: Federation) -> None:
    """Trainer 1 signs a second report for round 1."""
    post, trainer = Network.post, federation.trainers[1].account

    def posted(network: Network, to: int, message: object, *rest: Any) -> None:
        post(network, to, message, *rest)
        if isinstance(message, Upload) and (message.report.round, message.report.trainer) == (1, trainer.address):
            other = replace(message.report, combination=message.report.combination ^ np.uint64(1))
            post(network, to, replace(message, report=replace(other, signature=trainer.sign(other.id))), *rest)

    federation.network.post = posted.__get__(federation.network)  # type: ignore[method-assign]  # of this network alone


LIES = (
    Lie("model step", committee=wrong_model),
    Lie("opened total", committee=wrong_total),
    Lie("outcome", committee=false_lost),
    Lie("weights", committee=wrong_weights),
    Lie("double vote", member=double_vote),
    Lie("double report", member=double_report),
    Lie("quality", committee=wrong_quality, weighed=True),
    Lie("records", committee=false_record, weighed=True, proved=True),
    Lie("rewards", committee=wrong_reward, pays=True),
)
PAYS = ("[schema]", "[rewards]\nbudget = 101\n[schema]")
RECORDS_PROVED = ("share = 0.2", "share = 0.2\nproved = true")
WEIGHED = ("[committee]", "[trainers]\nminimum = 3\n[stewards]\ncount = 3\nshare = 0.2\n[committee]")


# ------------------------------------------------------------------------------------------------ runs


def lied_run(node: str, folder: Path, *lies: Lie) -> PlayedRun:
    """Play a run on a node in which these lies are told; trainers have stakes too."""
    settings = f'checkpoint_every = 2\nurl = "{node}"\ntrainers_stake = true'
    stale = ("[committee]", "[trainers]\nstaleness = 1\n[committee]")  # so that there is more than one weight
    weighed = (PROVED, WEIGHED) if any(lie.weighed for lie in lies) else (stale,)
    weighed += (RECORDS_PROVED,) if any(lie.proved for lie in lies) else ()
    pays = (PAYS,) if any(lie.pays for lie in lies) else ()
    experiment = write_experiment(folder, ("checkpoint_every = 2", settings), *weighed, *pays)

    def meddle(federation: Federation) -> None:
        for lie in lies:
            if lie.member is not None:
                lie.member(federation)

    committees = [lie.committee for lie in lies if lie.committee is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
        if not committees:
            return play(experiment, folder / "run", meddle)
        (committee,) = committees
        with committee():
            return play(experiment, folder / "run", meddle)


def lying_trace(run: WatchedRun) -> ModelStepTrace:
    """What the committee would have to claim: the step gives the model of its header."""
    from collegium.lineage import Store

    right = model_trace_of(run, LIED_ROUND)
    assert right is not None
    header, before = run.headers[LIED_ROUND], run.headers[LIED_ROUND - 1]
    store = Store(run.path / "store")
    after, model = store.get(header.model, 1 << 24), store.get(before.model, 1 << 24)
    return ModelStepTrace(run.rule, right.total, model, after, header.model)


class MachineLiar:
    """Stands up for its committee's header before the court of the machine, as soon as it is disputed there.

    It claims the run that the program really takes, but for the end, which it says accepts: there is no other.
    """

    def __init__(self, run: WatchedRun, room: MachineCourtroom, first: int = 0) -> None:
        """Take whose record the claims are of, and the number of the dispute to wait for."""
        self.run, self.room, self.first = run, room, first
        self.moves = DissectionMoves(JsonRpcChain(run.url), room.court, LIAR)
        self.game = -1

    def step(self) -> bool:
        """Make the move that is due; tell whether there was one."""
        moves, court = self.moves, self.room.court
        if self.game < 0:
            disputed = read_dissections(moves.chain, court)
            if self.first not in disputed:
                return False
            number, (kind, statement) = self.first, disputed[self.first]
            record = self.room.record
            known = KnownStretches(record.messages(LIED_ROUND))
            self.played = MachineRun(work_programs(record)[kind], statement, known)
            self.end = replace(self.played.final, status=1)
            claim = DissectionClaim(self.end, self.between(court.terms.levels, 0))
            self.game, _ = moves.defend(number, claim)
            return True
        game = read_dissection_game(moves.chain, court, self.game)
        if game.phase is not DissectionPhase.DIVIDE:
            return False  # what is asked of it then it cannot show
        moves.divide(self.game, self.between(game.level, game.position))
        return True

    def between(self, level: int, position: int) -> tuple[bytes, ...]:
        """The states that are claimed a sixteenth of a part of the run apart."""
        places = [position + part * PARTS ** (level - 1) for part in range(1, PARTS)]
        states = self.played.states(places)
        ended = [at >= self.played.steps for at in places]
        return tuple(
            self.end.digest if over else state.digest for over, state in zip(ended, states, strict=True) if state
        )


@dataclass
class Shower:
    """Stands up for a header that is right, and shows what is demanded."""

    run: WatchedRun
    room: MachineCourtroom

    def step(self) -> bool:
        """Make the moves that are due; tell whether there were any."""
        chain = JsonRpcChain(self.run.url)
        before = chain.nonce(LIAR.address)
        self.room.defend(self.run, Player(LIAR, lambda _: None))
        return chain.nonce(LIAR.address) > before


@dataclass
class Stage:
    """A watcher with a clock that is moved, and a liar that stands up for its committee's header."""

    node: str
    run: WatchedRun
    said: list[str]
    liar: DefenderAtChain | MachineLiar | Shower | None = None

    def player(self, account: AccountKey = WATCHER) -> Player:
        return Player(account, self.said.append, self.wait)

    def wait(self) -> None:
        """Let the liar answer; where it has no move, let time pass."""
        if self.liar is None or not self.liar.step():
            ask(self.node, "evm_increaseTime", 7 * HOUR_S)
            ask(self.node, "evm_mine")

    def stand_up(self, room: Courtroom) -> None:
        """Have the liar claim the trace of its lie before a court for model steps, as soon as it is disputed."""
        chain = JsonRpcChain(self.node)
        court = attach_court(chain, room.address, self.run.deployment.block)
        number = len(read_disputes(chain, court))  # the next one
        self.liar = DefenderAtChain(DisputeMoves(chain, court, LIAR), lying_trace(self.run), number)

    def stand_up_before_the_machine(self) -> MachineCourtroom:
        """Have the liar claim that the machine accepts the lie as soon as that is disputed; return the court."""
        (room,) = (room for room in courtrooms(self.run) if isinstance(room, MachineCourtroom))
        self.liar = MachineLiar(self.run, room)
        return room


def stage(node: str, path: Path) -> Stage:
    return Stage(node, load_watched(path), [])
