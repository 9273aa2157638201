"""Offered claims about a run's headers, before the court of the machine: who makes one, and who checks them all.

An offer says what a program does on a header, under a bond. A watcher runs the program itself: if the claim is not
what it does, the watcher accepts it, and wins half of the bond. No verdict about the header follows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.settlement import (
    PARTS,
    Checkpoint,
    ClaimView,
    ContractRefusedError,
    Dissection,
    DissectionClaim,
    DissectionMoves,
    DissectionStanding,
    DissectionState,
    HeaderPlace,
    JsonRpcChain,
    OfferAtChain,
    RunChallengerAtChain,
    RunDefender,
    TransactionFailedError,
    TransactionRefusedError,
    WrongDefender,
    attach,
    header_proof,
    is_dissection_final,
    read_checkpoints,
    read_defences,
    read_dissection,
    read_dissection_defence,
    read_owed,
    unless_overtaken,
)

from ._courtroom import Courtroom
from ._machine_court import MachineCourtroom, tell_moves
from ._watch import Player, WatchedRun
from ._work_terms import convicting_works

__all__ = ["NothingToOfferError", "OfferChecker", "OfferPlan", "UnknownWorkError", "choose_offer", "offer_claim"]

GAMES_MAX = 4  # that a checker plays at a time: each holds a bond, and a run in memory


class NothingToOfferError(CollegiumError):
    """No right claim can be made about a header, or none before this court, or its time is over."""


class UnknownWorkError(CollegiumError):
    """The court has no program for a kind of work of this name."""


@dataclass(frozen=True)
class OfferPlan:
    """What is claimed.

    Attributes:
        wrong: something that is not so, on purpose.
        round: whose header; None: one is drawn, of those whose window is not over.
        work: name of the kind of work; None: one is drawn.
    """

    wrong: bool = False
    round: int | None = None
    work: str | None = None


@dataclass(frozen=True)
class ChosenOffer:
    """A header, where it stands, and a kind of work by its number and name."""

    place: HeaderPlace
    kind: int
    name: str


def choose_offer(run: WatchedRun, rooms: Sequence[Courtroom], plan: OfferPlan) -> tuple[MachineCourtroom, ChosenOffer]:
    """Return about what a claim is to be offered, and before which court; what the plan leaves open is drawn.

    Raises:
        NothingToOfferError: no court of the run plays machines, or no header can be offered a claim about.
        UnknownWorkError: the court has no such kind of work.
    """
    room = next((room for room in rooms if isinstance(room, MachineCourtroom)), None)
    if room is None:
        raise NothingToOfferError("no court of this run plays a machine's games, about which claims are offered here")
    names = [work.name for work in convicting_works(room.record.terms)]
    if plan.work is not None and plan.work not in names:
        raise UnknownWorkError(f"no kind of work is {plan.work!r}, expected one of {', '.join(names)}", work=plan.work)
    kind = secrets.randbelow(len(names)) if plan.work is None else names.index(plan.work)
    chain = JsonRpcChain(run.url)
    deployment = attach(chain, run.deployment.settlement, run.deployment.block)
    open_rounds = {
        number: checkpoint
        for checkpoint in read_checkpoints(chain, deployment)
        if not is_dissection_final(chain, room.court, checkpoint.digest)
        for number in range(checkpoint.first_round, checkpoint.last_round + 1)
        if number < len(run.headers)
    }
    if not open_rounds or (plan.round is not None and plan.round not in open_rounds):
        wanted = "any round" if plan.round is None else f"round {plan.round}"
        raise NothingToOfferError(f"no checkpoint whose window is not over holds a header of {wanted}")
    number = secrets.choice(sorted(open_rounds)) if plan.round is None else plan.round
    return room, ChosenOffer(_place(run, open_rounds[number], number), kind, names[kind])


def offer_claim(run: WatchedRun, rooms: Sequence[Courtroom], plan: OfferPlan, player: Player) -> DissectionStanding:
    """Offer a claim, or go on with one that this account has offered and that stands; play it to its end.

    Returns:
        LOST if somebody has shown that it is wrong, else WITHDRAWN: its bond has come back.

    Raises:
        CollegiumError: there is nothing to offer, or the chain is not reachable or refuses.
    """
    room = next((room for room in rooms if isinstance(room, MachineCourtroom)), None)
    begun = None if room is None else _begun(run, room, player)
    if room is None or begun is None:
        room, chosen = choose_offer(run, rooms, plan)
        begun = _offer(run, room, chosen, plan.wrong, player)
    moves = DissectionMoves(JsonRpcChain(run.url), room.court, player.account)
    number, defender = begun
    offer = OfferAtChain(moves, number, defender)
    while offer.standing is DissectionStanding.STANDS:
        made = offer.step()
        tell_moves(made, player)
        if not made:
            player.wait()
    _collect(moves, player)
    player.say(f"claim {number} is over: it is {offer.standing.name.lower()}")
    return offer.standing


def _offer(
    run: WatchedRun, room: MachineCourtroom, chosen: ChosenOffer, wrong: bool, player: Player
) -> tuple[int, RunDefender]:
    number = chosen.place.round
    defender = _defender(room, number, chosen.kind, wrong, player)
    if defender is None:
        why = f"the program of {chosen.name} does not accept the header of round {number}: no claim about it is right"
        raise NothingToOfferError(why, round=number)
    moves = DissectionMoves(JsonRpcChain(run.url), room.court, player.account)
    claim = DissectionClaim(*defender.claim())
    statement, preimage = chosen.place.header, run.headers[number].preimage
    claimed, receipt = moves.offer(chosen.kind, statement, preimage, claim, chosen.place)
    bond = room.court.terms.bond_wei
    player.say(f"claim {claimed} offered about round {number}, {chosen.name}: {receipt.gas:,} gas, {bond} wei")
    return claimed, defender


def _defender(room: MachineCourtroom, number: int, kind: int, wrong: bool, player: Player) -> RunDefender | None:
    machine, known = room.run_of(number, kind)
    if machine.stuck is not None or not machine.accepted:
        return None
    levels = room.court.terms.levels
    return WrongDefender(machine, known, levels, player.account) if wrong else RunDefender(machine, known, levels)


def _begun(run: WatchedRun, room: MachineCourtroom, player: Player) -> tuple[int, RunDefender] | None:
    """Return an offered claim of this account that stands, and who plays it; the key tells a wrong one again."""
    chain, court = JsonRpcChain(run.url), room.court
    rounds_of = {header.digest: header.round for header in run.headers}
    for number, view in read_defences(chain, court).items():
        if view.defender != player.account.address:
            continue
        dispute, held = read_dissection(chain, court, view.dispute), read_dissection_defence(chain, court, number)
        if not dispute.offer or held.standing is not DissectionStanding.STANDS or dispute.statement not in rounds_of:
            continue
        for wrong in (False, True):
            defender = _defender(room, rounds_of[dispute.statement], dispute.kind, wrong, player)
            if defender is not None and DissectionClaim(*defender.claim()) == view.claim:
                player.say(f"claim {number} about round {rounds_of[dispute.statement]} goes on")
                return number, defender
    return None


@dataclass
class OfferChecker:
    """Checks each claim offered before a court, and accepts what is wrong; started again, it finds its games."""

    room: MachineCourtroom
    _own: dict[tuple[int, int], tuple[Digest, ...] | None] = field(default_factory=dict)
    _playing: dict[int, RunChallengerAtChain] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)

    def check(self, run: WatchedRun, player: Player) -> bool:
        """Accept what is wrong, and make every move that is due in what was accepted; tell whether a game goes on."""
        moves = DissectionMoves(JsonRpcChain(run.url), self.room.court, player.account)
        rounds_of = {header.digest: header.round for header in run.headers}
        for number, view in read_defences(moves.chain, self.room.court).items():
            if number in self._done:
                continue
            dispute = read_dissection(moves.chain, self.room.court, view.dispute)
            if dispute.offer and dispute.challenger == player.account.address:
                self._play(moves, view.dispute, rounds_of.get(dispute.statement), number, player)
                continue
            why = self._left_alone(moves, view, dispute, rounds_of) if dispute.offer else ""
            if why is not None:
                self._done.add(number)
                if why:
                    player.say(f"claim {number} is left alone: {why}")
            elif len(self._playing) < GAMES_MAX:
                self._accept(moves, number, view.dispute, rounds_of[dispute.statement], player)
        return bool(self._playing)

    def _left_alone(
        self, moves: DissectionMoves, view: ClaimView, dispute: Dissection, rounds_of: dict[Digest, int]
    ) -> str | None:
        """Return why an offer is not accepted, "" if there is nothing to say of it; None if it is wrong."""
        if any(dispute.challenger):
            return "somebody else accepted it first"
        held = read_dissection_defence(moves.chain, self.room.court, view.number)
        if held.standing is not DissectionStanding.STANDS or view.defender == moves.account.address:
            return ""
        if dispute.statement not in rounds_of:
            return "it is about no header of this record"
        own = self._states(rounds_of[dispute.statement], dispute.kind)
        if own is None:
            return "the record lacks what the program reads"
        right = (*view.claim.states, view.claim.end.digest) == own
        return f"it is right about round {rounds_of[dispute.statement]}" if right else None

    def _states(self, number: int, kind: int) -> tuple[Digest, ...] | None:
        """Return what a right claim says, the end behind the states between; None where the run is stuck."""
        if (number, kind) not in self._own:
            machine, _ = self.room.run_of(number, kind)
            length = PARTS ** (self.room.court.terms.levels - 1)
            states = machine.states([part * length for part in range(1, PARTS + 1)])
            known = tuple(state.digest for state in states if state is not None)
            self._own[number, kind] = known if machine.stuck is None else None
        return self._own[number, kind]

    def _accept(self, moves: DissectionMoves, number: int, dispute: int, about: int, player: Player) -> None:
        try:
            _, receipt = moves.accept(number)
        except (ContractRefusedError, TransactionFailedError, TransactionRefusedError) as error:
            told = f"claim {number} about round {about} is wrong, and is not accepted: {error}"
            if told not in self._told:
                self._told.add(told)
                player.say(told)
            return
        bond = self.room.court.terms.bond_wei
        player.say(f"claim {number} about round {about} is wrong: accepted, {receipt.gas:,} gas, {bond} wei")
        self._play(moves, dispute, about, number, player)

    def _play(self, moves: DissectionMoves, dispute: int, about: int | None, number: int, player: Player) -> None:
        """Make what moves are due in an offer that this account accepted, and collect what it brought."""
        state = read_dissection(moves.chain, self.room.court, dispute)
        if state.state is not DissectionState.OPEN:
            self._done.add(number)
            self._playing.pop(dispute, None)
            won = state.state is DissectionState.REFUTED
            player.say(f"claim {number} is over: {'it was wrong' if won else 'this account has lost the game'}")
            _collect(moves, player)
            return
        if about is None:
            self._done.add(number)
            player.say(f"claim {number}, accepted by this account, is about no header of this record")
            return
        if dispute not in self._playing:
            program, messages = self.room.programs[state.kind], self.room.record.messages(about)
            self._playing[dispute] = RunChallengerAtChain(moves, dispute, program, messages)
        try:
            tell_moves(self._playing[dispute].step(), player)
        except (ContractRefusedError, TransactionFailedError, TransactionRefusedError) as error:
            player.say(f"claim {number} about round {about}: {error}")


def _place(run: WatchedRun, checkpoint: Checkpoint, number: int) -> HeaderPlace:
    digests = [header.digest for header in run.headers[checkpoint.first_round : checkpoint.last_round + 1]]
    index = number - checkpoint.first_round
    return HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))


def _collect(moves: DissectionMoves, player: Player) -> None:
    owed = partial(read_owed, moves.chain, moves.court.address, moves.account.address)
    with unless_overtaken(owed):  # anyone may collect for anybody
        if owed():
            player.say(f"  collect: {moves.collect()} wei")
