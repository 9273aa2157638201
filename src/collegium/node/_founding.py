"""From a roster to a genesis that no member could have made alone: dealings, shares, and the first beacon.

Every step is one member's, from its own secrets and everybody's public cards. A joint Feldman dealing: the beacon's
secret is the sum of what all dealt, so it is nobody's as long as one dealer forgot its own; docs/spec/epochs.md has
the argument for proving each dealing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from collegium.consensus import Announcement, check_announcement, quorum_size
from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Digest,
    SealKey,
    SecretShare,
    ThresholdBeacon,
    combine_commitments,
    combine_shares,
    deal,
    hash_fields,
    open_sealed,
    os_random,
    seal,
    verify_possession,
    verify_share,
)
from collegium.errors import CollegiumError
from collegium.settlement import Chain, JsonRpcChain

from ._base_chain import CHAIN_FAILURES, FUNDING_WEI, SignedEntry, founding_account, funds_of
from ._chain_record import ChainRecord
from ._chain_terms import HOME, STAKE_WEI
from ._chains import chains_record, found_chains
from ._consents import check_licences, licence_chains
from ._entries import check_enrolments, check_registrations, sign_enrolment, sign_registration
from ._events import WorldError
from ._genesis import Genesis, ValidatorEntry, check_genesis, open_beacon
from ._member_cards import (
    CardSetError,
    ConfirmCard,
    DealCard,
    EnterCard,
    LaterCard,
    Roster,
    bad_card,
    card_digest,
    card_name,
    share_info,
    sign_card,
)
from ._rewards import reward_plan
from ._setup import build_task
from ._work_terms import court_rules

__all__ = [
    "FoundingError",
    "MemberSecrets",
    "NotInRosterError",
    "check_confirms",
    "check_deals",
    "check_enters",
    "check_node",
    "confirm_dealings",
    "deal_beacon",
    "enter_chains",
    "found_chain",
    "found_genesis",
    "place_of",
]

C = TypeVar("C", DealCard, ConfirmCard)


class FoundingError(CollegiumError):
    """A task cannot be founded on its chains as its members' cards have it."""


class NotInRosterError(CollegiumError):
    """The roster has no member of this account and role, or has changed its card."""


@dataclass(frozen=True, slots=True, eq=False)
class MemberSecrets:
    """What a validator made for itself when it joined; `first_seal` when it dealt."""

    account: AccountKey
    voting: BlsSecretKey
    box: SealKey
    first_seal: SealKey


def place_of(roster: Roster, account: bytes) -> int:
    """Return the index of the validator of an account.

    Raises:
        NotInRosterError: the roster lists no such validator.
    """
    for index, card in enumerate(roster.validators):
        if card.account == account:
            return index
    raise NotInRosterError(f"the roster lists no validator of account 0x{account.hex()}", account=account)


# ------------------------------------------------------------------------------------------------ deal


def deal_beacon(roster: Roster, secrets: MemberSecrets) -> DealCard:
    """Return a validator's dealing for a roster; what it dealt is forgotten when this returns."""
    index, size = place_of(roster, secrets.account.address), len(roster.validators)
    task = roster.draft.task
    dealing = deal(os_random, size, quorum_size(size))
    unsigned = Announcement(index, 0, secrets.first_seal.public_bytes, b"")
    boxes = tuple(
        seal(card.box_key, share_info(roster.digest, index, member), share.to_bytes())
        for member, (card, share) in enumerate(zip(roster.validators, dealing.shares, strict=True))
    )
    card = DealCard(
        kind="deal",
        roster=roster.digest,
        dealer=index,
        account=secrets.account.address,
        commitments=dealing.commitments,
        dealt=dealing.prove_possession(_dealing_context(roster, index)),
        boxes=boxes,
        possession=secrets.voting.prove_possession(task + secrets.account.address),
        announcement=replace(unsigned, signature=secrets.account.sign(unsigned.digest(task))),
    )
    return sign_card(card, secrets.account)


def check_deals(roster: Roster, cards: Sequence[DealCard]) -> tuple[DealCard, ...]:
    """Return one dealing of each validator, in their order, everything public about each checked.

    Raises:
        BadCardError: a dealing does not hold; it names the dealer.
        CardSetError: a validator's is missing, or there are two.
    """
    size = len(roster.validators)
    ordered = _one_each(roster, cards, "dealing", lambda card: card.dealer)
    for index, card in enumerate(ordered):
        counts, expected = (len(card.commitments), len(card.boxes)), (quorum_size(size), size)
        if counts != expected:
            raise bad_card(card, "{} commitments and {} boxes, expected {} and {}".format(*counts, *expected))
        try:
            combine_commitments(size, [card.commitments])
            context = _dealing_context(roster, index)
            verify_possession(BlsPublicKey(card.commitments[0]), context, card.dealt)
        except CollegiumError as error:
            raise bad_card(card, f"its dealing: {error}") from error
    draft = _draft(roster, ordered)
    for index, card in enumerate(ordered):
        try:
            key = BlsPublicKey(roster.validators[index].bls_key)
            verify_possession(key, draft.task + card.account, card.possession)
            if (card.announcement.validator, card.announcement.round) != (index, 0):
                raise CardSetError(f"its announcement is of validator {card.announcement.validator}, expected {index}")
            check_announcement(draft.task, draft.epoch_set, card.announcement)
        except CollegiumError as error:
            raise bad_card(card, str(error)) from error
    return ordered


# ------------------------------------------------------------------------------------------------ confirm


def confirm_dealings(
    roster: Roster, cards: Sequence[DealCard], secrets: MemberSecrets
) -> tuple[ConfirmCard, SecretShare]:
    """Check every share that was dealt to a validator; return its word for it, and its share of the beacon's key.

    Raises:
        BadCardError: a dealing does not hold, or its share for this member does not fit; it names the dealer.
        CardSetError: a validator's dealing is missing.
    """
    index = place_of(roster, secrets.account.address)
    ordered = check_deals(roster, cards)
    shares = []
    for dealer, card in enumerate(ordered):
        try:
            opened = open_sealed(secrets.box, share_info(roster.digest, dealer, index), card.boxes[index])
            share = SecretShare.from_bytes(index, opened)
            verify_share(card.commitments, share)
        except CollegiumError as error:
            raise bad_card(card, f"its share for validator {index} does not fit its commitments: {error}") from error
        shares.append(share)
    own = combine_shares(shares)
    group = combine_commitments(len(ordered), [card.commitments for card in ordered])
    beacon = ThresholdBeacon(roster.draft.task, group, own)
    confirmed = ConfirmCard(
        kind="confirm",
        roster=roster.digest,
        dealings=_dealings_digest(ordered),
        member=index,
        account=secrets.account.address,
        partial=beacon.partial(0, 0),
        registrations=tuple(
            sign_registration(secrets.account, secrets.voting, roster.operator.account, place, number)
            for place, number in enumerate(roster.operator.chains, HOME)
        ),
    )
    return sign_card(confirmed, secrets.account), own


def check_confirms(roster: Roster, deals: Sequence[DealCard], cards: Sequence[ConfirmCard]) -> tuple[ConfirmCard, ...]:
    """Return one confirmation of each validator, in their order, of exactly these dealings.

    Raises:
        BadCardError: a validator confirms other dealings, its share of the beacon is bad, or a registration does not
            enter it; it names the validator.
        CardSetError: a validator's is missing, or there are two.
    """
    ordered, expected = _one_each(roster, cards, "confirmation", lambda card: card.member), _dealings_digest(deals)
    beacon = open_beacon(_draft(roster, deals))
    for index, card in enumerate(ordered):
        if card.dealings != expected:
            raise bad_card(card, "it confirms other dealings than these: somebody was shown different ones")
        try:
            beacon.verify_partial(0, 0, index, card.partial)
        except CollegiumError as error:
            raise bad_card(card, f"its share of the first beacon: {error}") from error
        _registered(roster, card)
    return ordered


# ------------------------------------------------------------------------------------------------ found


def found_genesis(roster: Roster, deals: Sequence[DealCard], confirms: Sequence[ConfirmCard]) -> Genesis:
    """Return the genesis that the cards make: the same for everybody who has them.

    Raises:
        BadCardError, CardSetError: see `check_deals` and `check_confirms`.
    """
    ordered = check_deals(roster, deals)
    confirmed = check_confirms(roster, ordered, confirms)
    draft = _draft(roster, ordered)
    beacon = open_beacon(draft)
    genesis = replace(draft, beacon=beacon.combine(0, 0, {card.member: card.partial for card in confirmed}))
    check_genesis(genesis, beacon, roster.settled.committee.seats)
    return genesis


def found_chain(
    roster: Roster,
    genesis: Genesis,
    confirms: Sequence[ConfirmCard],
    enters: Sequence[EnterCard],
    operator: AccountKey,
) -> ChainRecord:
    """Return the record of the chains on which the operator founded the task, and members registered themselves.

    On nodes the account whose key is in COLLEGIUM_CHAIN_KEY pays: contracts, what members need to enter, the budget.
    Nothing is sent before every card, licence, account and balance was looked at.

    Args:
        confirms: those that made the genesis, in any order.
        enters: of the trainers that enter registries, in any order.

    Raises:
        BadCardError, CardSetError: an entry does not hold, or is missing; it names the member.
        FoundingError: a node is of another chain, an account is not fresh, or who pays has too little.
        ConsentMissingError: a licence is not what the experiment says, or its consent was taken back.
        WorldError: a node does not answer.
    """
    experiment, operated = roster.settled, roster.operator
    ordered = _one_each(roster, confirms, "confirmation", lambda card: card.member)
    validators = [_registered(roster, card) for card in ordered]
    entered = check_enters(roster, enters)
    entering = {card.account: roster.entering(card) for card in roster.trainers}
    staking = [entered[account] for account, places in entering.items() if HOME in places]
    own = {
        number: [entered[account] for account, places in entering.items() if place in places]
        for place, number in enumerate(operated.chains, HOME)
        if place != HOME
    }
    task = build_task(genesis, experiment)
    plan = reward_plan(experiment, genesis, task)
    terms = (court_rules(genesis, experiment, task), staking, plan, {number: who for number, who in own.items() if who})
    try:
        if experiment.licences is not None:
            check_licences(licence_chains(experiment.licences, experiment.chain.urls), experiment.licences)
        for place, url in enumerate(experiment.chain.urls, HOME):
            number = operated.chains[place]
            paid = plan if place == HOME or plan is None else plan.at(number)
            members = [*validators, *(staking if place == HOME else own[number])]
            if url is not None:
                accounts = [operator.address, *(member.account for member in members)]
                check_node(JsonRpcChain(url), number, accounts, 0 if paid is None else paid.amount)
        return chains_record(found_chains(experiment.chain, operator, genesis.epoch_set, validators, *terms))
    except CHAIN_FAILURES as error:
        raise WorldError(str(error)) from error


def check_node(chain: Chain, number: int, accounts: Sequence[bytes], budget: int) -> None:
    """Check a node before anything is sent to it: its number, that accounts are fresh, and that who pays can.

    Raises:
        FoundingError: naming what is otherwise.
    """
    if chain.chain_id != number:
        raise FoundingError(f"the node is of chain {chain.chain_id}, the operator's card says {number}")
    for account in accounts:
        sent = chain.nonce(account)
        if sent:
            raise FoundingError(
                f"account 0x{account.hex()} has sent {sent} transactions on chain {number}, expected none: what a "
                "founding left half done is not gone on with; all join anew, in new folders",
                account=account,
            )
    payer = founding_account().address
    needed, has = sum(value for _, value in funds_of(accounts, FUNDING_WEI, budget)), chain.balance(payer)
    if has < needed:
        raise FoundingError(
            f"account 0x{payer.hex()}, which pays, has {has} wei on chain {number}, expected {needed} and what gas "
            f"costs: {FUNDING_WEI} for each of {len(accounts)} members, and a budget of {budget}",
            needed=needed,
        )


def _registered(roster: Roster, card: ConfirmCard) -> SignedEntry:
    """Return the transactions that register a validator."""
    key, operator = roster.validators[card.member].bls_key, roster.operator
    try:
        return check_registrations(card.registrations, card.account, key, operator.account, operator.chains)
    except CollegiumError as error:
        raise bad_card(card, str(error)) from error


# ------------------------------------------------------------------------------------------------ enter


def enter_chains(roster: Roster, account: AccountKey, sealed_to: bytes) -> EnterCard:
    """Return what enters a trainer into registries.

    Raises:
        NotInRosterError: the roster lists no such trainer.
        CardSetError: the experiment wants no trainer of its site in any registry.
    """
    card = next((card for card in roster.trainers if card.account == account.address), None)
    if card is None:
        raise NotInRosterError(f"the roster lists no trainer of account 0x{account.address.hex()}")
    chains, operator = roster.entering(card), roster.operator.account
    if not chains:
        raise CardSetError(
            f"{card_name(card)} enters no registry: the experiment has neither chain.trainers_stake nor a chain of "
            "its site's own; there is nothing to do"
        )
    enrolments = tuple(sign_enrolment(account, sealed_to, operator, *chain) for chain in chains.items())
    return sign_card(EnterCard("enter", roster.digest, account.address, enrolments), account)


def check_enters(roster: Roster, cards: Sequence[EnterCard]) -> dict[bytes, SignedEntry]:
    """Return the transactions that enter trainers into registries, by account.

    Raises:
        BadCardError: one would not enter its trainer, or its trainer enters nothing; it names the trainer.
        CardSetError: a trainer's is missing, or there are two.
    """
    entering = {card.account: chains for card in roster.trainers if (chains := roster.entering(card))}
    found, operator = dict[bytes, SignedEntry](), roster.operator.account
    for card in cards:
        _check_roster_of(roster, card)
        if card.account not in entering:
            raise bad_card(card, "it is of nobody who enters a registry")
        if card.account in found:
            raise CardSetError(f"two entries of trainer 0x{card.account.hex()}, expected one", member=card.account)
        try:
            found[card.account] = check_enrolments(card.enrolments, card.account, operator, entering[card.account])
        except CollegiumError as error:
            raise bad_card(card, str(error)) from error
    missing = [card for card in roster.trainers if card.account in entering and card.account not in found]
    if missing:
        raise CardSetError(f"no entry of {' and '.join(map(card_name, missing[:2]))}, expected one of {len(entering)}")
    return found


def _draft(roster: Roster, deals: Sequence[DealCard]) -> Genesis:
    """Return the genesis without its first beacon."""
    entries = tuple(
        ValidatorEntry(card.account, card.bls_key, deal_card.possession, STAKE_WEI, deal_card.announcement)
        for card, deal_card in zip(roster.validators, deals, strict=True)
    )
    return replace(
        roster.draft, validators=entries, beacon_commitments=tuple(deal_card.commitments for deal_card in deals)
    )


def _one_each(roster: Roster, cards: Sequence[C], what: str, place: Callable[[C], int]) -> tuple[C, ...]:
    """Return the cards in the order of the validators: one of each, for this roster, by the account it lists."""
    found: dict[int, C] = {}
    for card in cards:
        index = place(card)
        _check_roster_of(roster, card)
        if not 0 <= index < len(roster.validators) or roster.validators[index].account != card.account:
            raise bad_card(card, f"it claims to be of validator {index}, which is another account")
        if index in found:
            raise CardSetError(f"two {what}s of validator {index}, expected one", member=index)
        found[index] = card
    missing = [index for index in range(len(roster.validators)) if index not in found]
    if missing:
        raise CardSetError(f"no {what} of validator {', '.join(map(str, missing))}", members=tuple(missing))
    return tuple(found[index] for index in sorted(found))


def _check_roster_of(roster: Roster, card: LaterCard) -> None:
    if card.roster != roster.digest:
        raise bad_card(card, f"it is for roster {card.roster.hex()[:16]}, expected {roster.digest.hex()[:16]}")


def _dealings_digest(cards: Sequence[DealCard]) -> Digest:
    return hash_fields("member-card/dealings", *(card_digest(card) for card in cards))


def _dealing_context(roster: Roster, dealer: int) -> bytes:
    return hash_fields("member-card/dealing", roster.digest, dealer)
