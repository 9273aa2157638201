"""The court whose games end at one instruction, as a watcher uses it: for every kind of work that is a program.

What a header should say is asked of the programs themselves, over the run's public record: a program that rejects a
header is the kind of work to dispute, one that accepts is a claim to stand up with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.settlement import (
    PARTS,
    Account,
    Chain,
    ContractRefusedError,
    Deployment,
    DisputeState,
    DissectionCourt,
    DissectionKind,
    DissectionMoves,
    DissectionState,
    DissectionTerms,
    HeaderPlace,
    JsonRpcChain,
    KnownStretches,
    MachineRun,
    MadeMove,
    Program,
    RunChallengerAtChain,
    RunDefender,
    RunDefenderAtChain,
    TransactionFailedError,
    TransactionRefusedError,
    attach_dissections,
    check_dissections,
    deploy_dissections,
    dissection_window_started,
    has_dissection_fallen,
    is_dissection_final,
    read_dissection,
    read_dissections,
    read_owed,
    reclaim_dissection_claims,
    unless_overtaken,
)

from ._public_work import PublicRecord
from ._watch import Finding, Player, WatchedRun
from ._windows import start_windows
from ._work_terms import convicting_kinds, convicting_programs, convicting_works

__all__ = [
    "MachineCourtroom",
    "NothingRejectedError",
    "attach_machine_court",
    "found_machine_court",
    "tell_moves",
    "work_kinds",
    "work_programs",
]


def work_programs(record: PublicRecord) -> tuple[Program, ...]:
    """Return the programs of a task's kinds of public work that convict who signs, in their order."""
    return convicting_programs(record.terms)


def work_kinds(record: PublicRecord) -> tuple[DissectionKind, ...]:
    """Return the kinds as a court of the task holds them."""
    return convicting_kinds(record.terms)


def found_machine_court(
    chain: Chain, record: PublicRecord, deployment: Deployment, account: Account, terms: DissectionTerms | None = None
) -> MachineCourtroom:
    """Found a court of the machine for a run; `account` pays. A run of any right header fits its games."""
    agreed = terms or DissectionTerms(levels=record.terms.levels)
    return MachineCourtroom(deploy_dissections(chain, deployment, account, work_kinds(record), agreed), record)


def attach_machine_court(
    chain: Chain, record: PublicRecord, deployment: Deployment, address: bytes
) -> MachineCourtroom:
    """Return the court of the machine at an address.

    Raises:
        CollegiumError: what is there is none, or is about another task.
    """
    court = attach_dissections(chain, address, deployment.block)
    check_dissections(chain, court, deployment, work_kinds(record))
    return MachineCourtroom(court, record)


class NothingRejectedError(CollegiumError):
    """A header that is to be disputed is one that every program accepts, or that the record does not show whole."""


@dataclass
class MachineCourtroom:
    """A court for everything that follows from a header by a program."""

    court: DissectionCourt
    record: PublicRecord
    _accepted: dict[tuple[int, int], bool | None] = field(default_factory=dict)
    _defenders: dict[tuple[int, int], RunDefender | None] = field(default_factory=dict)
    _defences: dict[int, RunDefenderAtChain | None] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    @property
    def address(self) -> bytes:
        """Of the contract Dissections."""
        return self.court.address

    def hears(self, finding: Finding) -> bool:
        """Tell whether a program rejects the round's header, or cannot go on where data is said to be withheld."""
        return self._kind(finding) is not None

    def plays(self, run: WatchedRun, place: HeaderPlace, player: Player) -> bool:
        """Tell whether the player's own dispute about a header goes on."""
        return self._begun(DissectionMoves(JsonRpcChain(run.url), self.court, player.account), place) is not None

    def is_over(self, run: WatchedRun, checkpoint: Digest) -> bool:
        """Tell whether a checkpoint is final here, or has fallen."""
        return self._is_over(JsonRpcChain(run.url))(checkpoint)

    def dispute(self, run: WatchedRun, finding: Finding, place: HeaderPlace, player: Player) -> DisputeState:
        """Play the games against everybody who stands up for the header."""
        moves = DissectionMoves(JsonRpcChain(run.url), self.court, player.account)
        number = self._begun(moves, place)
        if number is None:
            kind = self._kind(finding)
            if kind is None:
                raise NothingRejectedError(f"no program rejects round {finding.round}", round=finding.round)
            number, receipt = moves.open(kind, place.header, run.headers[finding.round].preimage, place)
            name = convicting_works(self.record.terms)[kind].name
            bond = self.court.terms.bond_wei
            player.say(
                f"dispute {number} opened against round {finding.round}, {name}: {receipt.gas:,} gas, {bond} wei"
            )
        else:
            player.say(f"dispute {number} against round {finding.round} goes on")
        program = self.programs[read_dissection(moves.chain, self.court, number).kind]
        challenger = RunChallengerAtChain(moves, number, program, self.record.messages(finding.round))
        while read_dissection(moves.chain, self.court, number).state is DissectionState.OPEN:
            made = challenger.step()
            tell_moves(made, player)
            if not made:
                player.wait()
        state = DisputeState(read_dissection(moves.chain, self.court, number).state)
        player.say(f"dispute {number} is over: the header is {state.name.lower()}")
        return state

    def defend(self, run: WatchedRun, player: Player) -> bool:
        """Stand up for right headers that somebody disputes, and answer; tell whether all is final or fell."""
        moves = DissectionMoves(JsonRpcChain(run.url), self.court, player.account)
        chain, court = moves.chain, self.court
        started = partial(dissection_window_started, chain, court)
        over = start_windows(run, moves, started, self._is_over(chain), player)
        rounds_of = {header.digest: header.round for header in run.headers}
        for number, (kind, statement) in read_dissections(chain, court).items():
            if number in self._ended:
                continue
            state = read_dissection(chain, court, number)
            if state.state is not DissectionState.OPEN:
                self._end(moves, number, state.state, player)
            elif not state.offer and statement in rounds_of:
                self._answer(moves, number, kind, rounds_of[statement], player)
        return over

    def _is_over(self, chain: Chain) -> Callable[[Digest], bool]:
        return lambda checkpoint: (
            is_dissection_final(chain, self.court, checkpoint) or has_dissection_fallen(chain, self.court, checkpoint)
        )

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """Of the kinds of work, in their order."""
        return work_programs(self.record)

    def run_of(self, number: int, kind: int) -> tuple[MachineRun, KnownStretches]:
        """Return the run of a kind's program on a round's header, and what of the record it may read."""
        known = KnownStretches(self.record.messages(number))
        statement = self.record.rounds[number].certified.header.digest
        return MachineRun(self.programs[kind], statement, known, PARTS**self.court.terms.levels), known

    def _accepts(self, number: int, kind: int) -> bool | None:
        """Tell whether a program accepts a round's header; None where the record does not show what it reads."""
        if (number, kind) not in self._accepted:
            run, _ = self.run_of(number, kind)
            self._accepted[number, kind] = run.accepted if run.stuck is None else None
        return self._accepted[number, kind]

    def _rejecting(self, number: int) -> int | None:
        """Return the first kind of work whose program rejects a round's header."""
        return next((kind for kind in range(len(self.programs)) if self._accepts(number, kind) is False), None)

    def _kind(self, finding: Finding) -> int | None:
        """Return the kind of work to dispute: one that is rejected, else one that is stuck for what is withheld."""
        kind = self._rejecting(finding.round)
        if kind is None and finding.work == "withheld":
            kinds = range(len(self.programs))
            kind = next((each for each in kinds if self._accepts(finding.round, each) is None), None)
        return kind

    def _defender(self, number: int, kind: int) -> RunDefender | None:
        """Return who stands up for a header, None if nobody can: one for all disputes, as each run takes its room."""
        if (number, kind) not in self._defenders:
            run, known = self.run_of(number, kind)
            right = run.stuck is None and run.accepted
            defender = RunDefender(run, known, self.court.terms.levels) if right else None
            self._defenders[number, kind] = defender
        return self._defenders[number, kind]

    def _answer(self, moves: DissectionMoves, dispute: int, kind: int, number: int, player: Player) -> None:
        if dispute not in self._defences:
            defender = self._defender(number, kind)
            self._defences[dispute] = None if defender is None else RunDefenderAtChain(moves, dispute, defender)
            if defender is None:
                shown = self._accepts(number, kind) is not None
                why = "is right" if shown else "cannot be answered: the record lacks what the program reads"
                player.say(f"dispute {dispute} against round {number} {why}; it is not defended from here")
        playing = self._defences[dispute]
        if playing is None:
            return
        try:
            tell_moves(playing.step(), player)
        except (ContractRefusedError, TransactionFailedError, TransactionRefusedError) as error:
            player.say(f"dispute {dispute} against round {number}: {error}")

    def _end(self, moves: DissectionMoves, dispute: int, state: DissectionState, player: Player) -> None:
        """Take what a dispute that is over has left here, so that there is coin for the next one's bond."""
        if state is DissectionState.UPHELD:
            tell_moves(reclaim_dissection_claims(moves, dispute), player)
        owed = partial(read_owed, moves.chain, self.court.address, moves.account.address)
        with unless_overtaken(owed):  # anyone may collect for anybody
            if owed():
                player.say(f"  collect: {moves.collect()} wei")
        self._ended.add(dispute)

    def _begun(self, moves: DissectionMoves, place: HeaderPlace) -> int | None:
        """Return the open dispute of this account about a header, if there is one."""
        for number, (_, statement) in read_dissections(moves.chain, self.court).items():
            if statement == place.header:
                state = read_dissection(moves.chain, self.court, number)
                own = state.challenger == moves.account.address
                if own and state.state is DissectionState.OPEN and not state.offer:
                    return number
        return None


def tell_moves(made: Sequence[MadeMove], player: Player) -> None:
    """Say which moves were made, and what each cost."""
    for move in made:
        place = "" if move.game is None else f"game {move.game}, level {move.level}, step {move.position:,}, "
        player.say(f"  {move.what}: {place}{move.receipt.gas:,} gas")
