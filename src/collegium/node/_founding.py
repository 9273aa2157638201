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
    g1_uncompressed,
    g2_uncompressed,
    hash_fields,
    open_sealed,
    os_random,
    seal,
    verify_possession,
    verify_share,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    EmbeddedChain,
    Fees,
    TransactionFailedError,
    contract,
    contract_address,
    open_first_epoch,
    possession_context,
    sign_transaction,
)
from collegium.settlement import Genesis as ChainGenesis

from ._base_chain import (
    EMBEDDED_CHAIN_ID,
    EMBEDDED_TIMESTAMP_S,
    FUNDS_WEI,
    HOME,
    REGISTRATION_GAS_MAX,
    STAKE_WEI,
    BaseChain,
    ChainRecord,
    ChainTerms,
    found_contracts,
)
from ._genesis import Genesis, ValidatorEntry, check_genesis, open_beacon
from ._member_cards import (
    CardSetError,
    ConfirmCard,
    DealCard,
    Roster,
    bad_card,
    card_digest,
    share_info,
    sign_card,
)
from ._setup import build_task
from ._work_terms import court_rules

__all__ = [
    "MemberSecrets",
    "NotInRosterError",
    "check_confirms",
    "check_deals",
    "confirm_dealings",
    "deal_beacon",
    "found_chain",
    "found_genesis",
    "place_of",
]

C = TypeVar("C", DealCard, ConfirmCard)

# The embedded chain's base fee begins at a hundredth of this and falls; what is not used is not paid.
REGISTRATION_FEES = Fees(gas_price_max=100 * 10**9, tip_max=0)


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
        registration=_registration(roster, secrets) if roster.settled.chain.url is None else b"",
    )
    return sign_card(confirmed, secrets.account), own


def check_confirms(roster: Roster, deals: Sequence[DealCard], cards: Sequence[ConfirmCard]) -> tuple[ConfirmCard, ...]:
    """Return one confirmation of each validator, in their order, of exactly these dealings.

    Raises:
        BadCardError: a validator confirms other dealings, or its share of the beacon is bad; it names the validator.
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


def found_chain(roster: Roster, genesis: Genesis, confirms: Sequence[ConfirmCard], operator: AccountKey) -> ChainRecord:
    """Return the embedded chain on which the operator deployed the contracts and every validator registered itself.

    Args:
        confirms: those that made the genesis, in any order.

    Raises:
        BadCardError: a registration is refused; it names the validator.
        CardSetError: the task settles on a node, where every validator registers itself, or has trainers with stakes.
    """
    if roster.settled.chain.url is not None:
        raise CardSetError(
            f"the task settles on {roster.settled.chain.url}: cards found an embedded chain alone; leave chain.url out"
        )
    if roster.settled.chain.followers:
        raise CardSetError(
            f"{len(roster.settled.chain.followers)} chains follow the task's: cards found one embedded chain alone; "
            "leave chain.followers out"
        )
    if roster.settled.chain.trainers_stake:
        raise CardSetError("chain.trainers_stake is given: cards register validators alone; leave it out")
    accounts = (operator.address, *(entry.account for entry in genesis.validators))
    funds = tuple((account, FUNDS_WEI) for account in accounts)
    chain = EmbeddedChain(ChainGenesis(EMBEDDED_CHAIN_ID, EMBEDDED_TIMESTAMP_S, funds))
    courts = court_rules(genesis, roster.settled, build_task(genesis, roster.settled))
    deployment, site, _ = found_contracts(chain, operator, genesis.task, ChainTerms.at(HOME), courts, tried=False)
    for card in sorted(confirms, key=lambda card: card.member):
        try:
            receipt = chain.send(card.registration)
            if not receipt.succeeded:
                raise TransactionFailedError("it was reverted")
        except CollegiumError as error:
            raise bad_card(card, f"its registration on the chain: {error}") from error
    open_first_epoch(chain, deployment, operator, range(len(genesis.validators)))
    return BaseChain(chain, None, operator, genesis.epoch_set, deployment, site=site).record()


def _registration(roster: Roster, secrets: MemberSecrets) -> bytes:
    """Return the transaction that registers a validator on the embedded chain, whose addresses are known beforehand."""
    registry = contract_address(contract_address(roster.operator.account, 0), 1)
    context = possession_context(EMBEDDED_CHAIN_ID, registry, secrets.account.address)
    proof = secrets.voting.prove_possession(context)
    return sign_transaction(
        secrets.account,
        chain_id=EMBEDDED_CHAIN_ID,
        nonce=0,
        fees=REGISTRATION_FEES,
        gas_max=REGISTRATION_GAS_MAX,
        to=registry,
        value=STAKE_WEI,
        data=contract("Registry").call(
            "register", g2_uncompressed(secrets.voting.public_key()), g1_uncompressed(proof)
        ),
    )


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
        if card.roster != roster.digest:
            raise bad_card(card, f"it is for roster {card.roster.hex()[:16]}, expected {roster.digest.hex()[:16]}")
        if not 0 <= index < len(roster.validators) or roster.validators[index].account != card.account:
            raise bad_card(card, f"it claims to be of validator {index}, which is another account")
        if index in found:
            raise CardSetError(f"two {what}s of validator {index}, expected one", member=index)
        found[index] = card
    missing = [index for index in range(len(roster.validators)) if index not in found]
    if missing:
        raise CardSetError(f"no {what} of validator {', '.join(map(str, missing))}", members=tuple(missing))
    return tuple(found[index] for index in sorted(found))


def _dealings_digest(cards: Sequence[DealCard]) -> Digest:
    return hash_fields("member-card/dealings", *(card_digest(card) for card in cards))


def _dealing_context(roster: Roster, dealer: int) -> bytes:
    return hash_fields("member-card/dealing", roster.digest, dealer)
