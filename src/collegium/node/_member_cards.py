"""What members of a consortium show each other before there is a genesis: public cards, signed, and the list of them.

Three rounds of cards make a genesis that no single machine could have made otherwise, each card by its member alone:

    1. join     who I am: accounts, keys with proofs of possession, addresses       -> checked together: the roster
    2. deal     my part of the beacon: commitments, and a sealed share to everybody
    3. confirm  every share fits its commitments; my share of the first beacon      -> the genesis
       enter    a trainer that a chain's registry should list: its entry there      -> its stake, its line on that chain

Whoever gathers the cards decides nothing: every member checks every card itself, and all compare one digest, the
roster's, over another line. docs/guide/network.md shows the commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Literal, TypeAlias, TypeVar

import msgspec

from collegium import learning
from collegium.consensus import Announcement
from collegium.crypto import (
    DIGEST_BYTES,
    SEAL_KEY_BYTES,
    AccountKey,
    BlsPublicKey,
    Digest,
    hash_fields,
    recover_address,
    verify_possession,
)
from collegium.errors import CollegiumError

from ._base_chain import MAINNET_CHAIN_ID
from ._chain_terms import HOME, ChainTerms
from ._consents import check_own_chains, consents_of
from ._entries import Enrolment, Registration
from ._experiment import (
    Experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    require_for_cards,
    validators_problem,
)
from ._genesis import ROWS_MAX, Genesis, StewardSeat
from ._json import decode_canonical
from ._network_settings import address_problem
from ._tls import decode_public_key

__all__ = [
    "CARD_BYTES_MAX",
    "ROSTER_BYTES_MAX",
    "BadCardError",
    "CardSetError",
    "ConfirmCard",
    "DealCard",
    "EnterCard",
    "JoinCard",
    "LaterCard",
    "OperatorCard",
    "Roster",
    "RosterError",
    "StewardCard",
    "TrainerCard",
    "ValidatorCard",
    "assemble",
    "bad_card",
    "card_digest",
    "card_name",
    "check_chains",
    "check_join",
    "decode_card",
    "decode_roster",
    "encode_card",
    "join_context",
    "share_info",
    "sign_card",
]

CARD_BYTES_MAX = 1 << 20
ROSTER_BYTES_MAX = 64 << 20
MEMBERS_MAX = 4096
CHAIN_ID_MAX = (1 << 53) - 1  # as whoever reads JSON keeps it


class BadCardError(CollegiumError):
    """A member's card does not hold; `member` names whose it is."""


class CardSetError(CollegiumError):
    """Cards that hold one by one do not make a consortium: too few, too many, or two that share what none may."""


class RosterError(CollegiumError):
    """Bytes are no roster, or one whose cards do not hold."""


@dataclass(frozen=True)
class ValidatorCard:
    """Who wants to be a validator.

    Attributes:
        experiment: SHA-256 of the experiment's canonical bytes: what the member wants to take part in.
        possession: proof that the member knows the voting key's secret.
        box_key: to which dealers seal this member's shares.
        tls_key: public key that the certificate will name.
        listen, gateway: where other validators, and everybody else, reach it.
    """

    kind: Literal["validator"]
    experiment: bytes
    account: bytes
    bls_key: bytes
    possession: bytes
    box_key: bytes
    tls_key: bytes
    listen: str
    gateway: str
    signature: bytes = b""


@dataclass(frozen=True)
class TrainerCard:
    """Who wants to train: its name, `site/number`, and a public bound on its rows, a power of two."""

    kind: Literal["trainer"]
    experiment: bytes
    account: bytes
    name: str
    rows_bound: int
    tls_key: bytes
    signature: bytes = b""


@dataclass(frozen=True)
class StewardCard:
    """Who wants to measure trainers, and what binds it to its hidden rows (`rows_commitment`)."""

    kind: Literal["steward"]
    experiment: bytes
    account: bytes
    rows: bytes
    tls_key: bytes
    signature: bytes = b""


@dataclass(frozen=True)
class OperatorCard:
    """Who runs evaluator and relayer, founds the contracts, and pays for them and for rounds.

    Attributes:
        chains: the numbers of the task's base chains, the home first, as their nodes tell them.
    """

    kind: Literal["operator"]
    experiment: bytes
    account: bytes
    evaluator_tls_key: bytes
    relayer_tls_key: bytes
    chains: tuple[int, ...]
    signature: bytes = b""


@dataclass(frozen=True)
class DealCard:
    """A validator's part of the beacon, and what genesis will say of it.

    Attributes:
        roster: digest of the roster that it dealt for.
        dealer: its place among the validators.
        commitments: to the dealt polynomial.
        dealt: proof that the dealer knows the secret of commitments[0].
        boxes: the share of each validator, sealed to it.
        possession: proof for the voting key, bound to task and account.
        announcement: its sealing key of round 0, signed.
        stake: in wei.
    """

    kind: Literal["deal"]
    roster: bytes
    dealer: int
    account: bytes
    commitments: tuple[bytes, ...]
    dealt: bytes
    boxes: tuple[bytes, ...]
    possession: bytes
    announcement: Announcement
    signature: bytes = b""


@dataclass(frozen=True)
class ConfirmCard:
    """A validator's word that every share fits, its share of the first beacon, and its registrations on the chains.

    Attributes:
        dealings: digest of all dealings that it checked.
        partial: of the beacon of round 0.
        registrations: what registers it, at home with its stake: one a chain, the home first.
    """

    kind: Literal["confirm"]
    roster: bytes
    dealings: bytes
    member: int
    account: bytes
    partial: bytes
    registrations: tuple[Registration, ...]
    signature: bytes = b""


@dataclass(frozen=True)
class EnterCard:
    """What enters a trainer into the registries of chains, where the experiment wants it there.

    Attributes:
        enrolments: one for each of `Roster.entering`, in their order.
    """

    kind: Literal["enter"]
    roster: bytes
    account: bytes
    enrolments: tuple[Enrolment, ...]
    signature: bytes = b""


JoinCard: TypeAlias = ValidatorCard | TrainerCard | StewardCard | OperatorCard
LaterCard: TypeAlias = DealCard | ConfirmCard | EnterCard
Card: TypeAlias = JoinCard | LaterCard
C = TypeVar("C", ValidatorCard, TrainerCard, StewardCard, OperatorCard, DealCard, ConfirmCard, EnterCard)
_KINDS: Mapping[str, type[Card]] = {
    "validator": ValidatorCard,
    "trainer": TrainerCard,
    "steward": StewardCard,
    "operator": OperatorCard,
    "deal": DealCard,
    "confirm": ConfirmCard,
    "enter": EnterCard,
}


# ------------------------------------------------------------------------------------------------ one card


def card_name(card: Card) -> str:
    """Return whose card it is, for messages."""
    kind = f"{card.kind} card of" if isinstance(card, LaterCard) else card.kind
    named = f" ({card.name})" if isinstance(card, TrainerCard) else ""
    return f"{kind} 0x{card.account.hex()}{named}"


def sign_card(card: C, account: AccountKey) -> C:
    """Return the card with its member's signature."""
    return replace(card, signature=account.sign(card_digest(card)))


def encode_card(card: Card) -> bytes:
    """Return a card as canonical JSON, with a newline."""
    return msgspec.json.encode(card) + b"\n"


def decode_card(data: bytes, origin: str) -> Card:
    """Return the card in a file, whose signature is its member's.

    Args:
        origin: the file's name, for messages.

    Raises:
        BadCardError: too long, malformed, not canonical, of no known kind, or not signed by the account it names.
    """
    if len(data) > CARD_BYTES_MAX:
        raise BadCardError(f"{origin}: a card of more than {CARD_BYTES_MAX} bytes", member=origin)
    body = data.removesuffix(b"\n")
    try:
        found = msgspec.json.decode(body)
        kind = found.get("kind") if isinstance(found, dict) else None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadCardError(f"{origin}: no card: {error}", member=origin) from error
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadCardError(f"{origin}: kind is {str(kind)[:40]!a}, expected one of {', '.join(_KINDS)}", member=origin)
    card = decode_canonical(body, _KINDS[kind], f"{origin}: card", CARD_BYTES_MAX, BadCardError)
    _check_signature(card)
    return card


def _check_signature(card: Card) -> None:
    try:
        signer = recover_address(card_digest(card), card.signature)
    except CollegiumError as error:
        raise bad_card(card, f"its signature is none: {error}") from error
    if signer != card.account:
        raise bad_card(card, f"it is signed by 0x{signer.hex()}")


def check_join(card: JoinCard, experiment: Digest) -> None:
    """Check everything that a join card claims by itself.

    Raises:
        BadCardError: it is for another experiment, a key is none or without its proof, an address or name is none.
    """
    if card.experiment != experiment:
        raise bad_card(card, f"it is for experiment {card.experiment.hex()[:16]}, expected {experiment.hex()[:16]}")
    try:
        match card:
            case ValidatorCard():
                verify_possession(
                    BlsPublicKey(card.bls_key), join_context(card.experiment, card.account), card.possession
                )
                decode_public_key(card.tls_key)
            case TrainerCard() | StewardCard():
                decode_public_key(card.tls_key)
            case OperatorCard():
                decode_public_key(card.evaluator_tls_key)
                decode_public_key(card.relayer_tls_key)
    except CollegiumError as error:
        raise bad_card(card, str(error)) from error
    if isinstance(card, ValidatorCard):
        if len(card.box_key) != SEAL_KEY_BYTES:
            raise bad_card(card, f"its box key has {len(card.box_key)} bytes, expected {SEAL_KEY_BYTES}")
        for address in (card.listen, card.gateway):
            problem = address_problem(address)
            if problem is not None:
                raise bad_card(card, f"its address {problem}")
    if isinstance(card, StewardCard) and len(card.rows) != DIGEST_BYTES:
        raise bad_card(card, f"it is bound to its rows by {len(card.rows)} bytes, expected {DIGEST_BYTES}")
    if isinstance(card, TrainerCard):
        _check_trainer(card)


def _check_trainer(card: TrainerCard) -> None:
    """Check a trainer's bound on its rows, and its name."""
    bound = card.rows_bound
    if not 1 <= bound <= ROWS_MAX or bound & (bound - 1):
        raise bad_card(card, f"its bound on rows is {bound}, expected a power of two up to {ROWS_MAX}")
    site, slash, number = card.name.rpartition("/")
    if not slash or not site or not (number.isascii() and number.isdigit()) or not card.name.isprintable():
        raise bad_card(card, f"it is called {card.name[:80]!a}, expected its site, a slash and a number")


def join_context(experiment: Digest, account: bytes) -> Digest:
    """Return what the proof of possession in a join card is bound to."""
    return hash_fields("member-card/possession", experiment, account)


def share_info(roster: Digest, dealer: int, member: int) -> Digest:
    """Return what a sealed share is bound to."""
    return hash_fields("member-card/share", roster, dealer, member)


def card_digest(card: Card) -> Digest:
    """Return what a member signs: everything that its card says."""
    return hash_fields("member-card", msgspec.json.encode(replace(card, signature=b"")))


def bad_card(card: Card, reason: str) -> BadCardError:
    """Return the refusal of a card, which names whose it is."""
    return BadCardError(f"{card_name(card)}: {reason}", member=card_name(card))


# ------------------------------------------------------------------------------------------------ all cards


@dataclass(frozen=True)
class Roster:
    """Every member's join card in their order, and the certificate that each was given.

    Attributes:
        experiment: the experiment's canonical bytes.
        validators: by account; a validator's place is its index.
        trainers: by name.
        stewards: by account; as many as the experiment asks for.
        authority: the certificate authority's certificate.
        certificates: of validators, trainers, stewards, evaluator and relayer, in this order.
    """

    experiment: bytes
    validators: tuple[ValidatorCard, ...]
    trainers: tuple[TrainerCard, ...]
    stewards: tuple[StewardCard, ...]
    operator: OperatorCard
    authority: bytes = b""
    certificates: tuple[bytes, ...] = ()

    @property
    def cards(self) -> tuple[JoinCard, ...]:
        """Every join card."""
        return (*self.validators, *self.trainers, *self.stewards, self.operator)

    @cached_property
    def digest(self) -> Digest:
        """What members compare over another line: it binds every card, and certificates as well."""
        return hash_fields("roster", msgspec.json.encode(self))

    @cached_property
    def settled(self) -> Experiment:
        """The experiment."""
        return experiment_from_bytes(self.experiment)

    @property
    def draft(self) -> Genesis:
        """The genesis as far as join cards fix it: it has the task's identity, but no validators and no beacon."""
        schema = self.settled.schema
        if schema is None:
            raise RosterError("the experiment infers its schema from all rows, which nobody holds; give [schema]")
        return Genesis(
            experiment=self.experiment,
            schema=learning.schema_to_bytes(schema),
            rows_max=max(card.rows_bound for card in self.trainers),
            trainers=tuple((card.account, card.name) for card in self.trainers),
            operator=self.operator.account,
            epoch=0,
            validators=(),
            beacon_commitments=(),
            beacon=b"",
            stewards=tuple(StewardSeat(card.account, card.rows) for card in self.stewards),
        )

    def entering(self, trainer: TrainerCard) -> dict[int, int]:
        """Return the chains whose registries list a trainer: their numbers by their places."""
        chain, numbers = self.settled.chain, dict(enumerate(self.operator.chains, HOME))
        own = chain.own_chain(trainer.name.rpartition("/")[0])
        return {
            place: number
            for place, number in numbers.items()
            if (chain.trainers_stake if place == HOME else number == own)
        }

    def encode(self) -> bytes:
        """Return the roster as canonical JSON, with a newline."""
        return msgspec.json.encode(self) + b"\n"


def assemble(experiment: Experiment, cards: Iterable[JoinCard]) -> Roster:
    """Return the roster of join cards, without certificates; every card and all of them together are checked.

    Raises:
        BadCardError: a card does not hold.
        CardSetError: they do not make a consortium.
        RosterError: the experiment infers its schema.
    """
    data = experiment_to_bytes(experiment)
    listed = list(cards)
    validators = sorted((c for c in listed if isinstance(c, ValidatorCard)), key=lambda card: card.account)
    trainers = sorted((c for c in listed if isinstance(c, TrainerCard)), key=lambda card: card.name)
    stewards = sorted((c for c in listed if isinstance(c, StewardCard)), key=lambda card: card.account)
    operators = [card for card in listed if isinstance(card, OperatorCard)]
    if len(operators) != 1:
        raise CardSetError(f"{len(operators)} operators' cards, expected one: who runs evaluator and relayer")
    roster = Roster(data, tuple(validators), tuple(trainers), tuple(stewards), operators[0])
    check_roster(roster)
    return roster


def decode_roster(data: bytes) -> Roster:
    """Return the roster in a file, every card checked again.

    Raises:
        RosterError: too long, malformed, or not canonical.
        BadCardError, CardSetError: see `assemble`.
    """
    roster = decode_canonical(data.removesuffix(b"\n"), Roster, "roster", ROSTER_BYTES_MAX, RosterError)
    for card in roster.cards:
        _check_signature(card)
    check_roster(roster)
    return roster


def check_roster(roster: Roster) -> None:
    """Check every card, and that together they make a consortium.

    Raises:
        BadCardError, CardSetError, RosterError: see `assemble`.
        UnknownSiteError: the experiment names a site that has no trainers.
    """
    experiment = roster.settled
    require_for_cards(experiment)
    cards = roster.cards
    # 1. each by itself
    digest = sha256(roster.experiment).digest()
    for card in cards:
        check_join(card, digest)
    # 2. no two share what is one's own
    _check_distinct("account", cards, lambda card: [card.account])
    _check_distinct("voting key", roster.validators, lambda card: [card.bls_key])
    _check_distinct("box key", roster.validators, lambda card: [card.box_key])
    _check_distinct("address", roster.validators, lambda card: [card.listen, card.gateway])
    _check_distinct("name", roster.trainers, lambda card: [card.name])
    _check_distinct("TLS key", cards, _tls_keys)
    # 3. enough, in the one order
    seats, minimum = experiment.committee.seats, experiment.trainers.minimum
    if not 4 <= len(roster.validators) <= seats:
        raise CardSetError(f"{len(roster.validators)} validators' cards, expected 4 to {seats}, as many as seats")
    problem = validators_problem(len(roster.validators), seats, experiment.committee.members_min)
    if problem is not None:
        raise CardSetError(f"the number of validators' cards {problem[1]}")
    if not minimum <= len(roster.trainers) <= MEMBERS_MAX:
        raise CardSetError(f"{len(roster.trainers)} trainers' cards, expected {minimum} to {MEMBERS_MAX}")
    wanted = 0 if experiment.stewards is None else experiment.stewards.count
    if len(roster.stewards) != wanted:
        raise CardSetError(f"{len(roster.stewards)} stewards' cards, the experiment asks for {wanted}")
    accounts, names = [c.account for c in roster.validators], [c.name for c in roster.trainers]
    measuring = [c.account for c in roster.stewards]
    if accounts != sorted(accounts) or names != sorted(names) or measuring != sorted(measuring):
        raise CardSetError("cards are not in their order: validators and stewards by account, trainers by name")
    check_chains(roster)


def check_chains(roster: Roster) -> None:
    """Check that the operator numbers every chain, and that what the experiment says of sites is of those that join.

    Raises:
        BadCardError: the operator's card does not hold.
        CardSetError: a site is paid on a chain that does not follow.
        UnknownSiteError: a site has no trainers.
    """
    chain, card = roster.settled.chain, roster.operator
    check_own_chains(roster.draft, chain)
    consents_of(roster.draft, roster.settled.licences)
    if len(card.chains) != len(chain.urls):
        raise bad_card(card, f"it numbers {len(card.chains)} chains, the experiment has {len(chain.urls)}")
    for place, (url, number) in enumerate(zip(chain.urls, card.chains, strict=True), HOME):
        embedded = ChainTerms.at(place).embedded_id
        if url is None and number != embedded:
            raise bad_card(card, f"it says {number} of chain {place}, which is embedded, expected {embedded}")
        if not MAINNET_CHAIN_ID < number <= CHAIN_ID_MAX:
            raise bad_card(
                card,
                f"it says {number} of chain {place}, expected {MAINNET_CHAIN_ID + 1} or more: no coin with a price",
            )
    if len(set(card.chains)) != len(card.chains):
        raise bad_card(card, f"it numbers its chains {card.chains}, two of which are one")
    for site, number in chain.sites:
        if number not in card.chains[1:]:
            raise CardSetError(
                f"chain.sites names chain {number} for {site!a}, expected one that follows: {card.chains[1:]}"
            )


def _tls_keys(card: JoinCard) -> list[bytes]:
    if isinstance(card, OperatorCard):
        return [card.evaluator_tls_key, card.relayer_tls_key]
    return [card.tls_key]


def _check_distinct(what: str, cards: Sequence[JoinCard], values: Callable[..., Sequence[bytes | str]]) -> None:
    counts = Counter(value for card in cards for value in values(card))
    repeated = [card for card in cards if any(counts[value] > 1 for value in values(card))]
    if repeated:
        names = " and ".join(card_name(card) for card in repeated[:2])
        raise CardSetError(f"one {what} occurs twice: {names}", members=tuple(map(card_name, repeated)))
