"""Dissections on a chain: found the court of a task's programs, make every move of its games, read where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any

from collegium.crypto import Digest
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._checkpoint import Checkpoint
from collegium.settlement._deployment import (
    Deployment,
    address_of,
    ask,
    checkpoint_arguments,
    choice_of,
    created,
    event_of,
    events,
)
from collegium.settlement._disputes import HeaderPlace
from collegium.settlement._errors import ChainAnswerError
from collegium.settlement._machine_state import ACCEPTED, MachineState, StepWitness
from collegium.settlement._members import collect
from collegium.settlement._transactions import transact

__all__ = [
    "AnswerView",
    "ClaimView",
    "Dissection",
    "DissectionClaim",
    "DissectionCourt",
    "DissectionDefence",
    "DissectionGame",
    "DissectionKind",
    "DissectionMoves",
    "DissectionPhase",
    "DissectionStanding",
    "DissectionState",
    "DissectionTerms",
    "attach_dissections",
    "check_dissections",
    "deploy_dissections",
    "dissection_window_started",
    "has_dissection_fallen",
    "is_dissection_final",
    "read_answers",
    "read_defences",
    "read_dissection",
    "read_dissection_claims",
    "read_dissection_defence",
    "read_dissection_game",
    "read_dissections",
    "read_divided",
    "read_pending",
]

_NOWHERE = ((0, 0, 0, bytes(32), bytes(32)), 0, ())  # the place of a statement that is no header


class DissectionState(IntEnum):
    """Where a dispute stands."""

    NONE, OPEN, UPHELD, REFUTED = range(4)


class DissectionPhase(IntEnum):
    """Whose turn it is in a game: the challenger's in CHOOSE, the defence's in DIVIDE, PROVE and ANSWER."""

    NONE, CHOOSE, DIVIDE, PROVE, ANSWER, OVER = range(6)


class DissectionStanding(IntEnum):
    """Whether a claim can be played with: it is lost in all its games with the first one."""

    NONE, STANDS, LOST, WITHDRAWN = range(4)


@dataclass(frozen=True, slots=True)
class DissectionTerms:
    """Times and coin of a court's games; docs/spec/disputes.md, section 9, derives the defaults.

    Attributes:
        window_s: in which headers can be disputed, from when somebody starts a checkpoint's window.
        join_s: in which claims can be made, from when a dispute opens.
        clock_s: that each side has in a game; extension_s: at least, when its turn begins.
        levels: a run has 16^levels steps, by which a program that accepts must have halted.
        demands_max: preimages that a challenger may demand in a game; demand_fee_wei: what one brings who shows it.
    """

    window_s: int = 7 * 24 * 3600
    join_s: int = 24 * 3600
    clock_s: int = 3 * 24 * 3600
    extension_s: int = 3 * 3600
    levels: int = 9
    demands_max: int = 16
    bond_wei: int = 10**17
    demand_fee_wei: int = 10**15


@dataclass(frozen=True, slots=True)
class DissectionKind:
    """A kind of work: the root over its program, how its statements' preimages begin, whether they are headers."""

    program: Digest
    head: bytes
    of_header: bool


@dataclass(frozen=True, slots=True)
class DissectionCourt:
    """Where dissections are played: the contract, the machine that it made, its kinds and terms, since which block."""

    address: bytes
    machine: bytes
    kinds: tuple[DissectionKind, ...]
    terms: DissectionTerms
    block: int


@dataclass(frozen=True, slots=True)
class DissectionClaim:
    """With what state the machine is said to accept, and the fifteen states that lie a sixteenth of the run apart."""

    end: MachineState
    states: tuple[Digest, ...]

    @property
    def arguments(self) -> tuple[object, ...]:
        """As the contract takes it."""
        return self.end.pc, self.end.fp, self.end.root, self.states


@dataclass(frozen=True, slots=True)
class Dissection:
    """What the contract holds of a dispute.

    Attributes:
        checkpoint: zero unless it is about a header.
        start: digest of the state with which the run begins.
        challenger: zero in an offer that nobody accepted.
        named: whether the statement's preimage was shown; without it a refuted header convicts nobody.
    """

    statement: Digest
    checkpoint: Digest
    start: Digest
    kind: int
    opened_s: int
    live: int
    state: DissectionState
    challenger: bytes
    offer: bool
    named: bool


@dataclass(frozen=True, slots=True)
class DissectionDefence:
    """What the contract holds of a claim: `dispute` is the first in which it stood up, `live` its games that go on."""

    end: Digest
    first: Digest
    defender: bytes
    dispute: int
    live: int
    standing: DissectionStanding


@dataclass(frozen=True, slots=True)
class DissectionGame:
    """What the contract holds of a game: `left` is agreed at step `position`, `right` denied 16^level steps later.

    Where nothing was chosen yet, `states`, `left` and `right` say nothing: the claim's are in question.
    """

    states: Digest
    left: Digest
    right: Digest
    position: int
    challenger_clock_s: int
    defender_clock_s: int
    since_s: int
    level: int
    phase: DissectionPhase
    demands: int
    blocks: int
    dispute: int
    defence: int


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A claim as it was made, by whom, and in which dispute first."""

    number: int
    defender: bytes
    dispute: int
    claim: DissectionClaim


@dataclass(frozen=True, slots=True)
class AnswerView:
    """A stretch of a message that was shown in a game: `value` before it, and its blocks in order.

    The last block is the one that the step at `position` finds.
    """

    position: int
    value: Digest
    blocks: bytes


def deploy_dissections(
    chain: Chain,
    deployment: Deployment,
    account: Account,
    kinds: Sequence[DissectionKind],
    terms: DissectionTerms | None = None,
) -> DissectionCourt:
    """Create the contract Dissections, which nobody has powers over, and with it its machine."""
    agreed = astuple(terms or DissectionTerms())
    creation = contract("Dissections").creation(deployment.settlement, [astuple(kind) for kind in kinds], agreed)
    receipt = transact(chain, account, None, creation)
    return attach_dissections(chain, created(receipt), receipt.block)


def attach_dissections(chain: Chain, address: bytes, block: int) -> DissectionCourt:
    """Return the court whose contract Dissections is at this address since this block.

    Raises:
        ChainAnswerError: what is there does not answer as that contract.
    """
    (machine,) = ask(chain, "Dissections", address, "machine")
    (kinds,) = ask(chain, "Dissections", address, "kinds")
    (terms,) = ask(chain, "Dissections", address, "terms")
    held = tuple(DissectionKind(*kind) for kind in kinds)
    return DissectionCourt(address, address_of(machine), held, DissectionTerms(*terms), block)


def check_dissections(
    chain: Chain, court: DissectionCourt, deployment: Deployment, kinds: Sequence[DissectionKind]
) -> None:
    """Check that a court is about this deployment, and that its programs are these.

    Raises:
        ChainAnswerError: it is not. That its code is ours is for who relies on its verdicts to see, at its creation.
    """
    (settlement,) = ask(chain, "Dissections", court.address, "settlement")
    if address_of(settlement) != deployment.settlement:
        raise ChainAnswerError(f"the court is about {settlement}, expected 0x{deployment.settlement.hex()}")
    if court.kinds != tuple(kinds):
        raise ChainAnswerError(f"the court's kinds are {court.kinds}, the task's {tuple(kinds)}")


class DissectionMoves:
    """The moves of one account at a court: each one transaction, its receipt returned."""

    def __init__(self, chain: Chain, court: DissectionCourt, account: Account) -> None:
        self.chain, self.court, self.account = chain, court, account

    def start(self, checkpoint: Checkpoint) -> Receipt:
        """Begin the time in which headers under a checkpoint can be disputed."""
        return self._send("start", checkpoint_arguments(checkpoint))

    def open(
        self, kind: int, statement: Digest, opening: bytes, place: HeaderPlace | None = None
    ) -> tuple[int, Receipt]:
        """Dispute a statement with its preimage, and a header with its place; return the dispute's number too."""
        receipt = self._send("open", kind, statement, opening, _place(place), value=self.court.terms.bond_wei)
        return int(self._event(receipt, "Opened")["id"]), receipt

    def defend(self, dispute: int, claim: DissectionClaim) -> tuple[int, Receipt]:
        """Stand up for a disputed statement, under a bond; return the game's number too."""
        receipt = self._send("defend", dispute, claim.arguments, value=self.court.terms.bond_wei)
        return int(self._event(receipt, "Joined")["game"]), receipt

    def join(self, defence: int, dispute: int) -> tuple[int, Receipt]:
        """Stand up with a claim in another dispute about the same; return the game's number too."""
        receipt = self._send("join", defence, dispute)
        return int(self._event(receipt, "Joined")["game"]), receipt

    def offer(
        self, kind: int, statement: Digest, opening: bytes, claim: DissectionClaim, place: HeaderPlace | None = None
    ) -> tuple[int, Receipt]:
        """Offer a claim about a statement to whoever checks; return the claim's number too."""
        arguments = (kind, statement, opening, _place(place), claim.arguments)
        receipt = self._send("offer", *arguments, value=self.court.terms.bond_wei)
        return int(self._event(receipt, "Claimed")["defence"]), receipt

    def accept(self, defence: int) -> tuple[int, Receipt]:
        """Dispute an offered claim; return the game's number too."""
        receipt = self._send("accept", defence, value=self.court.terms.bond_wei)
        return int(self._event(receipt, "Joined")["game"]), receipt

    def choose(self, game: int, states: Sequence[Digest], part: int) -> Receipt:
        """Name the first part whose end is wrong."""
        return self._send("choose", game, tuple(states), part)

    def divide(self, game: int, states: Sequence[Digest]) -> Receipt:
        """Show the states a sixteenth of the part in question apart."""
        return self._send("divide", game, tuple(states))

    def prove(self, game: int, before: MachineState, witness: StepWitness) -> Receipt:
        """Have the step in question executed."""
        return self._send("prove", game, before.arguments, witness.arguments)

    def demand(self, game: int, states: Sequence[Digest], part: int, blocks: int) -> Receipt:
        """Name the step that finds an unknown preimage, and demand so many blocks of its message."""
        fee = self.court.terms.demand_fee_wei
        return self._send("demand", game, tuple(states), part, blocks, value=fee)

    def answer(
        self, game: int, before: MachineState, witness: StepWitness, value: Digest = bytes(32), blocks: bytes = b""
    ) -> Receipt:
        """Have the step in question executed, and show the blocks before the one that it finds, from `value` on."""
        return self._send("answer", game, before.arguments, witness.arguments, value, blocks)

    def time_out(self, game: int) -> Receipt:
        """End a game whose side to move has no time left."""
        return self._send("timeOut", game)

    def settle(self, dispute: int) -> Receipt:
        """Conclude that a statement is false: nobody stands up for it."""
        return self._send("settle", dispute)

    def name(self, dispute: int, opening: bytes) -> Receipt:
        """Show the preimage of a header that was disputed without it."""
        return self._send("name", dispute, opening)

    def close(self, game: int) -> Receipt:
        """End a game that another one has decided."""
        return self._send("close", game)

    def reclaim(self, defence: int) -> Receipt:
        """Take back the bond of a claim that has no game left."""
        return self._send("reclaim", defence)

    def collect(self) -> int:
        """Take what games have brought; return it in wei."""
        return collect(self.chain, self.court.address, self.account, self.account.address)

    def _send(self, function: str, *arguments: object, value: int = 0) -> Receipt:
        data = contract("Dissections").call(function, *arguments)
        return transact(self.chain, self.account, self.court.address, data, value=value)

    def _event(self, receipt: Receipt, event: str) -> dict[str, Any]:
        return event_of(receipt, "Dissections", self.court.address, event)


def read_dissection(chain: Chain, court: DissectionCourt, dispute: int) -> Dissection:
    """Return a dispute.

    Raises:
        ContractRefusedError: NotOpen, there is none of this number.
    """
    ((*head, state, challenger, offer, named),) = ask(chain, "Dissections", court.address, "disputeAt", dispute)
    statement, checkpoint, start, kind, opened, live = head
    about = (statement, checkpoint, start, kind, opened, live)
    return Dissection(*about, choice_of(DissectionState, state), address_of(challenger), offer, named)


def read_dissection_game(chain: Chain, court: DissectionCourt, game: int) -> DissectionGame:
    """Return a game.

    Raises:
        ContractRefusedError: WrongPhase, there is none of this number.
    """
    (fields,) = ask(chain, "Dissections", court.address, "gameAt", game)
    states, left, right, position, challenger_clock, defender_clock, since, level, phase, *rest = fields
    turn = (states, left, right, position, challenger_clock, defender_clock, since, level)
    return DissectionGame(*turn, choice_of(DissectionPhase, phase), *rest)


def read_dissection_defence(chain: Chain, court: DissectionCourt, defence: int) -> DissectionDefence:
    """Return a claim.

    Raises:
        ContractRefusedError: UnknownDefence, there is none of this number.
    """
    (fields,) = ask(chain, "Dissections", court.address, "defenceAt", defence)
    end, first, defender, dispute, live, standing = fields
    held = (end, first, address_of(defender), dispute, live)
    return DissectionDefence(*held, choice_of(DissectionStanding, standing))


def read_dissections(chain: Chain, court: DissectionCourt) -> dict[int, tuple[int, Digest]]:
    """Return kind and statement of every dispute and offer by its number, offers among them."""
    return {event["id"]: (event["kind"], event["statement"]) for event in _logs(chain, court, "Opened")}


def read_defences(chain: Chain, court: DissectionCourt) -> dict[int, ClaimView]:
    """Return every claim by its number, offered ones among them."""
    found = {}
    for event in _logs(chain, court, "Claimed"):
        number, defender = event["defence"], address_of(event["defender"])
        found[number] = ClaimView(number, defender, event["id"], _claim(event["claim"]))
    return found


def read_dissection_claims(chain: Chain, court: DissectionCourt, dispute: int) -> dict[int, ClaimView]:
    """Return the claims that stood up in a dispute, by the numbers of their games there."""
    claims = read_defences(chain, court)
    joined = [event for event in _logs(chain, court, "Joined") if event["id"] == dispute]
    return {event["game"]: claims[event["defence"]] for event in joined}


def read_divided(chain: Chain, court: DissectionCourt, game: int) -> tuple[Digest, ...]:
    """Return the states that the last division of a game showed, () if there was none since the claim's."""
    divided = [tuple(event["states"]) for event in _logs(chain, court, "Divided") if event["game"] == game]
    return divided[-1] if divided else ()


def read_answers(chain: Chain, court: DissectionCourt, statement: Digest) -> tuple[AnswerView, ...]:
    """Return what was shown on demand in all games about a statement, in order."""
    about = {number for number, (_, disputed) in read_dissections(chain, court).items() if disputed == statement}
    games = {event["game"] for event in _logs(chain, court, "Joined") if event["id"] in about}
    return tuple(_answer(event) for event in _logs(chain, court, "Answered") if event["game"] in games)


def read_pending(chain: Chain, court: DissectionCourt, statement: Digest) -> int:
    """Return how many disputes about a statement go on."""
    (pending,) = ask(chain, "Dissections", court.address, "pending", statement)
    return int(pending)


def is_dissection_final(chain: Chain, court: DissectionCourt, checkpoint: Digest) -> bool:
    """Ask whether nothing under a checkpoint can fall any more."""
    (final,) = ask(chain, "Dissections", court.address, "isFinal", checkpoint)
    return bool(final)


def has_dissection_fallen(chain: Chain, court: DissectionCourt, checkpoint: Digest) -> bool:
    """Ask whether a header under a checkpoint was refuted, so that it never becomes final."""
    _, _, refuted = ask(chain, "Dissections", court.address, "windowOf", checkpoint)
    return bool(refuted)


def dissection_window_started(chain: Chain, court: DissectionCourt, checkpoint: Digest) -> bool:
    """Ask whether somebody has begun the time in which a checkpoint's headers can be disputed."""
    started_at, _, _ = ask(chain, "Dissections", court.address, "windowOf", checkpoint)
    return bool(started_at)


def _claim(fields: tuple[Any, ...]) -> DissectionClaim:
    pc, fp, root, states = fields
    return DissectionClaim(MachineState(ACCEPTED, pc, fp, root), tuple(states))


def _answer(event: dict[str, Any]) -> AnswerView:
    preimage, blocks = bytes(event["preimage"]), bytes(event["blocks"])
    value = event["value"] if blocks else preimage[:32]
    return AnswerView(event["position"], value, blocks + preimage[32:])


def _place(place: HeaderPlace | None) -> tuple[object, ...]:
    if place is None:
        return _NOWHERE
    checkpoint, round_number, _, siblings = place.arguments
    return checkpoint, round_number, siblings


def _logs(chain: Chain, court: DissectionCourt, event: str) -> list[dict[str, Any]]:
    return events(chain, "Dissections", court.address, event, court.block)
