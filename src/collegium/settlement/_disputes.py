"""Disputes on a chain: deploy the court of a task, make every move of the game, and read where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, Final

from eth_abi.abi import encode

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
from collegium.settlement._errors import ChainAnswerError
from collegium.settlement._members import collect
from collegium.settlement._model_step import StepRule
from collegium.settlement._trace import OpenedLeaf
from collegium.settlement._transactions import transact

__all__ = [
    "MODEL_STEP",
    "Court",
    "DisputeMoves",
    "DisputePhase",
    "DisputeState",
    "DisputeTerms",
    "DisputeView",
    "GameView",
    "HeaderPlace",
    "OpenedDispute",
    "attach_court",
    "check_court",
    "deploy_court",
    "encode_witness",
    "has_fallen",
    "is_final",
    "read_claims",
    "read_dispute",
    "read_disputes",
    "read_game",
    "read_picked",
    "read_revealed",
    "read_shown",
    "window_started",
]

MODEL_STEP: Final = 0  # its number in a court


class DisputeState(IntEnum):
    """Where a dispute stands."""

    NONE, OPEN, UPHELD, REFUTED = range(4)


class DisputePhase(IntEnum):
    """Whose turn it is in a game: the challenger's in PICK and REFUTE, the defence's in REVEAL, SHOW and ANSWER."""

    NONE, OFFERED, PICK, REVEAL, SHOW, REFUTE, ANSWER, OVER = range(8)


@dataclass(frozen=True, slots=True)
class DisputeTerms:
    """Times and coin of a court's games; docs/spec/disputes.md, section 4, derives the defaults.

    Attributes:
        window_s: in which headers can be disputed, from when somebody starts a checkpoint's window.
        join_s: in which roots can be claimed, from when a dispute opens.
        clock_s: that each side has in a game; extension_s: at least, when its turn begins.
        asks_max: leaves that a challenger may ask for in a game.
        bond_base_wei, bond_per_level_wei: a bond is their sum, the second times the trace's height.
        ask_fee_wei: what an asked leaf brings who shows it.
    """

    window_s: int = 7 * 24 * 3600
    join_s: int = 24 * 3600
    clock_s: int = 3 * 24 * 3600
    extension_s: int = 3 * 3600
    asks_max: int = 256
    bond_base_wei: int = 10**17
    bond_per_level_wei: int = 10**15
    ask_fee_wei: int = 10**15

    def bond_wei(self, levels: int) -> int:
        """Return what a side puts up."""
        return self.bond_base_wei + self.bond_per_level_wei * levels


@dataclass(frozen=True, slots=True)
class Court:
    """Where the disputes of a deployment are played: the contract, its step verifiers, since which block."""

    address: bytes
    steps: tuple[bytes, ...]
    terms: DisputeTerms
    block: int


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """A header under an accepted checkpoint."""

    checkpoint: Checkpoint
    round: int
    header: Digest
    siblings: tuple[Digest, ...]

    @property
    def arguments(self) -> tuple[object, ...]:
        """As the contract takes them."""
        return checkpoint_arguments(self.checkpoint), self.round, self.header, self.siblings


@dataclass(frozen=True, slots=True)
class OpenedDispute:
    """A dispute as it was opened: its number, the header, who opened it, the step verifier and the trace's height."""

    number: int
    header: Digest
    by: bytes
    step: bytes
    levels: int


@dataclass(frozen=True, slots=True)
class DisputeView:
    """What the contract holds of a dispute."""

    header: Digest
    checkpoint: Digest
    facts: Digest
    step: bytes
    opened_s: int
    live: int
    state: DisputeState
    challenger: bytes
    levels: int
    offer: bool


@dataclass(frozen=True, slots=True)
class GameView:
    """What the contract holds of a game."""

    root: Digest
    node: Digest
    defender: bytes
    position: int
    level: int
    phase: DisputePhase
    resumed: DisputePhase
    dispute: int
    since_s: int
    challenger_clock_s: int
    defender_clock_s: int
    asks: int
    asked: int


def deploy_court(
    chain: Chain, deployment: Deployment, account: Account, rule: StepRule, terms: DisputeTerms | None = None
) -> Court:
    """Create the step verifiers of a task's rule and the contract Disputes, which nobody has powers over."""
    step = created(transact(chain, account, None, contract("ModelStep").creation(astuple(rule))))
    agreed = astuple(terms or DisputeTerms())
    creation = contract("Disputes").creation(deployment.settlement, (step,), agreed)
    receipt = transact(chain, account, None, creation)
    return attach_court(chain, created(receipt), receipt.block)


def attach_court(chain: Chain, address: bytes, block: int) -> Court:
    """Return the court whose contract Disputes is at this address since this block.

    Raises:
        ChainAnswerError: what is there does not answer as that contract.
    """
    (steps,) = ask(chain, "Disputes", address, "steps")
    (terms,) = ask(chain, "Disputes", address, "terms")
    return Court(address, tuple(address_of(step) for step in steps), DisputeTerms(*terms), block)


def check_court(chain: Chain, court: Court, deployment: Deployment, rule: StepRule) -> None:
    """Check that a court is about this deployment, and that its first verifier holds this rule.

    Raises:
        ChainAnswerError: it is not. That its code is ours is for who relies on its verdicts to see, at its creation.
    """
    (settlement,) = ask(chain, "Disputes", court.address, "settlement")
    if address_of(settlement) != deployment.settlement or not court.steps:
        raise ChainAnswerError(f"the court is about {settlement}, expected 0x{deployment.settlement.hex()}")
    held = ask(chain, "ModelStep", court.steps[MODEL_STEP], "rule")
    if held != astuple(rule):
        raise ChainAnswerError(f"the court's rule is {held}, the task's {astuple(rule)}")


class DisputeMoves:
    """The moves of one account at a court: each one transaction, its receipt returned."""

    def __init__(self, chain: Chain, court: Court, account: Account) -> None:
        self.chain, self.court, self.account = chain, court, account

    def start(self, checkpoint: Checkpoint) -> Receipt:
        """Begin the time in which headers under a checkpoint can be disputed."""
        return self._send("start", checkpoint_arguments(checkpoint))

    def open(self, step: int, place: HeaderPlace, opening: bytes, levels: int) -> tuple[int, Receipt]:
        """Dispute a kind of work of a header with the bond for `levels`; return the dispute's number too."""
        receipt = self._send("open", step, *place.arguments, opening, value=self._bond(levels))
        return int(self._event(receipt, "Opened")["id"]), receipt

    def offer(
        self, step: int, place: HeaderPlace, opening: bytes, children: Sequence[Digest], levels: int
    ) -> tuple[int, Receipt]:
        """Offer a claim about a trace to whoever checks; return the game's number too."""
        arguments = (step, *place.arguments, opening, tuple(children))
        receipt = self._send("offer", *arguments, value=self._bond(levels))
        return int(self._event(receipt, "Claimed")["game"]), receipt

    def accept(self, game: int, levels: int) -> Receipt:
        """Dispute an offered claim."""
        return self._send("accept", game, value=self._bond(levels))

    def defend(self, dispute: int, children: Sequence[Digest], levels: int) -> tuple[int, Receipt]:
        """Stand up for a disputed header with a trace's root, given as the nodes below it; return the game too."""
        receipt = self._send("defend", dispute, tuple(children), value=self._bond(levels))
        return int(self._event(receipt, "Claimed")["game"]), receipt

    def pick(self, game: int, children: Sequence[Digest], child: int) -> Receipt:
        """Name the first wrong node."""
        return self._send("pick", game, tuple(children), child)

    def reveal(self, game: int, children: Sequence[Digest]) -> Receipt:
        """Show the nodes below the one in question."""
        return self._send("reveal", game, tuple(children))

    def show(self, game: int, leaf: bytes) -> Receipt:
        """Show the leaf in question."""
        return self._send("show", game, leaf)

    def refute(self, game: int, facts: bytes, leaf: bytes, witness: Sequence[OpenedLeaf]) -> Receipt:
        """Have the leaf in question executed."""
        return self._send("refute", game, facts, leaf, encode_witness(witness))

    def ask(self, game: int, position: int) -> Receipt:
        """Demand a leaf."""
        return self._send("ask", game, position, value=self.court.terms.ask_fee_wei)

    def answer(self, game: int, leaf: OpenedLeaf) -> Receipt:
        """Show a leaf that was asked for."""
        return self._send("answer", game, (leaf.data, leaf.path))

    def time_out(self, game: int) -> Receipt:
        """End a game whose side to move has no time left."""
        return self._send("timeOut", game)

    def settle(self, dispute: int) -> Receipt:
        """Conclude that a header is wrong: nobody stands up for it."""
        return self._send("settle", dispute)

    def reclaim(self, game: int) -> Receipt:
        """Take back the bond of a claim that nobody accepted, or whose dispute another one ended."""
        return self._send("reclaim", game)

    def collect(self) -> int:
        """Take what games have brought; return it in wei."""
        return collect(self.chain, self.court.address, self.account, self.account.address)

    def _bond(self, levels: int) -> int:
        return self.court.terms.bond_wei(levels)

    def _send(self, function: str, *arguments: object, value: int = 0) -> Receipt:
        data = contract("Disputes").call(function, *arguments)
        return transact(self.chain, self.account, self.court.address, data, value=value)

    def _event(self, receipt: Receipt, event: str) -> dict[str, Any]:
        return event_of(receipt, "Disputes", self.court.address, event)


def encode_witness(leaves: Sequence[OpenedLeaf]) -> bytes:
    """Return leaves with their paths as a step verifier takes them."""
    return encode(["(bytes,bytes32[])[]"], [[(leaf.data, leaf.path) for leaf in leaves]])


def read_dispute(chain: Chain, court: Court, dispute: int) -> DisputeView:
    """Return a dispute.

    Raises:
        ContractRefusedError: NotOpen, there is none of this number.
    """
    ((*head, state, challenger, levels, offer),) = ask(chain, "Disputes", court.address, "disputeAt", dispute)
    header, checkpoint, facts, step, opened, live = head
    who = address_of(challenger)
    places = (header, checkpoint, facts, address_of(step), opened, live)
    return DisputeView(*places, choice_of(DisputeState, state), who, levels, offer)


def read_disputes(chain: Chain, court: Court) -> tuple[OpenedDispute, ...]:
    """Return every dispute and offer that was ever opened, in order."""
    return tuple(
        OpenedDispute(
            event["id"], event["header"], address_of(event["challenger"]), address_of(event["step"]), event["levels"]
        )
        for event in _logs(chain, court, "Opened")
    )


def read_game(chain: Chain, court: Court, game: int) -> GameView:
    """Return a game.

    Raises:
        ContractRefusedError: WrongPhase, there is none of this number.
    """
    (fields,) = ask(chain, "Disputes", court.address, "gameAt", game)
    root, node, defender, position, level, phase, resumed, *rest = fields
    phases = choice_of(DisputePhase, phase), choice_of(DisputePhase, resumed)
    return GameView(root, node, address_of(defender), position, level, *phases, *rest)


def read_claims(chain: Chain, court: Court, dispute: int) -> dict[int, tuple[Digest, ...]]:
    """Return the games of a dispute, each with the nodes that its claim showed."""
    claims = _logs(chain, court, "Claimed")
    return {event["game"]: tuple(event["children"]) for event in claims if event["id"] == dispute}


def read_revealed(chain: Chain, court: Court, game: int) -> tuple[tuple[Digest, ...], ...]:
    """Return the nodes that were revealed in a game, in order."""
    return tuple(tuple(event["children"]) for event in _logs(chain, court, "Revealed") if event["game"] == game)


def read_picked(chain: Chain, court: Court, game: int) -> tuple[tuple[int, int], ...]:
    """Return level and position of each node that was picked in a game, in order."""
    picked = _logs(chain, court, "Picked")
    return tuple((event["level"], event["position"]) for event in picked if event["game"] == game)


def read_shown(chain: Chain, court: Court, game: int) -> bytes:
    """Return the leaf that was shown last in a game, b"" if none was: then there is nothing at its place."""
    shown = [bytes(event["leaf"]) for event in _logs(chain, court, "Shown") if event["game"] == game]
    return shown[-1] if shown else b""


def is_final(chain: Chain, court: Court, checkpoint: Digest) -> bool:
    """Ask whether nothing under a checkpoint can fall any more."""
    (final,) = ask(chain, "Disputes", court.address, "isFinal", checkpoint)
    return bool(final)


def has_fallen(chain: Chain, court: Court, checkpoint: Digest) -> bool:
    """Ask whether a header under a checkpoint was refuted, so that it never becomes final."""
    _, _, refuted = ask(chain, "Disputes", court.address, "windowOf", checkpoint)
    return bool(refuted)


def window_started(chain: Chain, court: Court, checkpoint: Digest) -> bool:
    """Ask whether somebody has begun the time in which a checkpoint's headers can be disputed."""
    started_at, _, _ = ask(chain, "Disputes", court.address, "windowOf", checkpoint)
    return bool(started_at)


def _logs(chain: Chain, court: Court, event: str) -> list[dict[str, Any]]:
    return events(chain, "Disputes", court.address, event, court.block)
