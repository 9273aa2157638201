"""The courts of a task as a watcher uses them: which findings each hears, and how a dispute there is played to its end.

`Courtroom` is all that the watcher knows of a court, so one more kind of court is one more class here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from collegium.crypto import Digest
from collegium.settlement import (
    MODEL_STEP,
    Chain,
    ChallengerAtChain,
    ContractRefusedError,
    Court,
    DefenderAtChain,
    DisputeMoves,
    DisputeState,
    DisputeTerms,
    HeaderPlace,
    JsonRpcChain,
    MadeMove,
    ModelStepTrace,
    TransactionFailedError,
    TransactionRefusedError,
    attach_court,
    check_court,
    check_site,
    deploy_court,
    has_fallen,
    header_opening,
    is_final,
    read_courts,
    read_dispute,
    read_disputes,
    read_owed,
    reclaim_claims,
    unless_overtaken,
    window_started,
)

from ._machine_court import attach_machine_court
from ._public_work import PublicRecord
from ._watch import Finding, Player, WatchedRun, model_trace_of
from ._windows import start_windows
from ._work_terms import work_terms

__all__ = ["FOUNDED_FOR", "Courtroom", "ModelCourtroom", "courtrooms", "found_courtroom"]

FOUNDED_FOR = ("model step", "kept model")  # what a court that is founded here hears


class Courtroom(Protocol):
    """A court of a task."""

    @property
    def address(self) -> bytes:
        """Of the contract that answers who refuted a header."""
        ...

    def hears(self, finding: Finding) -> bool:
        """Tell whether a dispute about this can be played here."""
        ...

    def plays(self, run: WatchedRun, place: HeaderPlace, player: Player) -> bool:
        """Tell whether the player's own dispute about a header goes on."""
        ...

    def is_over(self, run: WatchedRun, checkpoint: Digest) -> bool:
        """Tell whether a checkpoint is final here, or has fallen."""
        ...

    def dispute(self, run: WatchedRun, finding: Finding, place: HeaderPlace, player: Player) -> DisputeState:
        """Dispute a wrong header, or go on with a dispute of the same account, to the end; return how it ended."""
        ...

    def defend(self, run: WatchedRun, player: Player) -> bool:
        """Make every move that is due for right headers that somebody disputes; tell whether all is final or fell."""
        ...


@dataclass
class ModelCourtroom:
    """The court for model steps, and for models that a round without a sum must keep."""

    court: Court
    _traces: dict[int, ModelStepTrace | None] = field(default_factory=dict)
    _defences: dict[int, DefenderAtChain] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    @property
    def address(self) -> bytes:
        """Of the contract Disputes."""
        return self.court.address

    def hears(self, finding: Finding) -> bool:
        """Tell whether this is a model step's, or a kept model's."""
        return finding.work in FOUNDED_FOR and (finding.trace is not None or finding.work == "kept model")

    def plays(self, run: WatchedRun, place: HeaderPlace, player: Player) -> bool:
        """Tell whether the player's own dispute about a header goes on."""
        return self._begun(DisputeMoves(JsonRpcChain(run.url), self.court, player.account), place) is not None

    def is_over(self, run: WatchedRun, checkpoint: Digest) -> bool:
        """Tell whether a checkpoint is final here, or has fallen."""
        return self._is_over(JsonRpcChain(run.url))(checkpoint)

    def dispute(self, run: WatchedRun, finding: Finding, place: HeaderPlace, player: Player) -> DisputeState:
        """Play the games against everybody who stands up for the header."""
        moves = DisputeMoves(JsonRpcChain(run.url), self.court, player.account)
        number = self._begun(moves, place)
        if number is None:
            opening = header_opening(run.headers[finding.round], run.headers[finding.round - 1])
            levels = 0 if finding.trace is None else finding.trace.levels
            number, receipt = moves.open(MODEL_STEP, place, opening, levels)
            player.say(
                f"dispute {number} opened against round {finding.round}: {receipt.gas:,} gas, {levels} levels, "
                f"bond of {self.court.terms.bond_wei(levels)} wei"
            )
        else:
            player.say(f"dispute {number} against round {finding.round} goes on")
        if finding.trace is not None:
            challenger = ChallengerAtChain(moves, finding.trace, number)
            _play(moves, number, challenger, player)
        state = read_dispute(moves.chain, self.court, number).state
        player.say(f"dispute {number} is over: the header is {state.name.lower()}")
        return state

    def defend(self, run: WatchedRun, player: Player) -> bool:
        """Start windows, stand up for right headers, and answer; a header that is wrong is not defended."""
        moves = DisputeMoves(JsonRpcChain(run.url), self.court, player.account)
        chain, court = moves.chain, self.court
        over = start_windows(run, moves, partial(window_started, chain, court), self._is_over(chain), player)
        rounds_of = {header.digest: header.round for header in run.headers}
        for opened in read_disputes(chain, court):
            if opened.number in self._ended:
                continue
            state = read_dispute(chain, court, opened.number)
            if state.state is not DisputeState.OPEN:
                self._end(moves, opened.number, state.state, player)
            elif not state.offer and opened.header in rounds_of:
                self._answer(run, moves, opened.number, rounds_of[opened.header], player)
        return over

    def _is_over(self, chain: Chain) -> Callable[[Digest], bool]:
        return lambda checkpoint: is_final(chain, self.court, checkpoint) or has_fallen(chain, self.court, checkpoint)

    def _answer(self, run: WatchedRun, moves: DisputeMoves, number: int, round_number: int, player: Player) -> None:
        if number not in self._defences:
            if round_number not in self._traces:  # one for all disputes about a header
                self._traces[round_number] = model_trace_of(run, round_number)
            trace = self._traces[round_number]
            if trace is None or trace.fault is not None:
                player.say(f"dispute {number} against round {round_number} is right, or needs no game")
                return
            self._defences[number] = DefenderAtChain(moves, trace, number)
        try:
            for move in self._defences[number].step():
                player.say(_told(move))
        except (ContractRefusedError, TransactionFailedError, TransactionRefusedError) as error:
            player.say(f"dispute {number} against round {round_number}: {error}")

    def _end(self, moves: DisputeMoves, number: int, state: DisputeState, player: Player) -> None:
        """Take what a dispute that is over has left here, so that there is coin for the next one's bond."""
        if state is DisputeState.UPHELD:
            for move in reclaim_claims(moves, number):
                player.say(_told(move))
        owed = partial(read_owed, moves.chain, self.court.address, moves.account.address)
        with unless_overtaken(owed):  # anyone may collect for anybody
            if owed():
                player.say(f"  collect: {moves.collect()} wei")
        self._ended.add(number)

    def _begun(self, moves: DisputeMoves, place: HeaderPlace) -> int | None:
        """Return the open dispute of this account about a header, if there is one."""
        for opened in read_disputes(moves.chain, self.court):
            if (opened.header, opened.by) == (place.header, moves.account.address):
                state = read_dispute(moves.chain, self.court, opened.number)
                if state.state is DisputeState.OPEN and not state.offer:
                    return opened.number
        return None


def courtrooms(run: WatchedRun, address: bytes | None = None) -> list[Courtroom]:
    """Return the courts of a run: those of its record, or the one at an address; none where it was founded without.

    A court of the machine may stand there too, which hears all that programs decide, or several courts as one.

    Raises:
        CollegiumError: what is there is no court of this task and rule, or the contract that takes stakes asks another.
    """
    chain = JsonRpcChain(run.url)
    if address is None and run.site is not None:
        check_site(chain, run.deployment, run.site)
        address = run.site.disputes
    if address is None:
        return []
    return [_courtroom(chain, run, court) for court in read_courts(chain, address)]


def _courtroom(chain: JsonRpcChain, run: WatchedRun, address: bytes) -> Courtroom:
    try:
        court = attach_court(chain, address, run.deployment.block)
    except ContractRefusedError:  # another kind of court
        terms = work_terms(run.genesis, run.experiment, run.task)
        record = PublicRecord(run.path, run.task, terms, run.rounds, run.terms)
        return attach_machine_court(chain, record, run.deployment, address)
    check_court(chain, court, run.deployment, run.rule)
    return ModelCourtroom(court)


def found_courtroom(run: WatchedRun, player: Player, terms: DisputeTerms | None = None) -> Courtroom:
    """Found a court for a task that has none; the player pays."""
    court = deploy_court(JsonRpcChain(run.url), run.deployment, player.account, run.rule, terms)
    player.say(f"court founded at 0x{court.address.hex()}; no registry asks it: no stake is taken on its word")
    return ModelCourtroom(court)


def _play(moves: DisputeMoves, number: int, challenger: ChallengerAtChain, player: Player) -> None:
    """Make moves until the dispute is over."""
    while read_dispute(moves.chain, moves.court, number).state is DisputeState.OPEN:
        made: Sequence[MadeMove] = challenger.step()
        for move in made:
            player.say(_told(move))
        if not made:
            player.wait()


def _told(move: MadeMove) -> str:
    place = "" if move.game is None else f"game {move.game}, level {move.level}, position {move.position}, "
    return f"  {move.what}: {place}{move.receipt.gas:,} gas"
