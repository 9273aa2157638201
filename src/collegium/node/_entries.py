"""How members enter the registries of a task's chains: by transactions of their own, signed before contracts are there.

Where contracts will stand follows from the account that creates them, and what a member sends there from the task. So
a card holds no transaction: it holds what its member alone can give, a proof and a signature, and everybody makes the
same transaction of it, or refuses the card. Who founds sends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from collegium.crypto import (
    SEAL_KEY_BYTES,
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    g1_uncompressed,
    g2_uncompressed,
    recover_address,
    verify_possession,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    Fees,
    Role,
    UnsignedTransaction,
    contract,
    contract_address,
    possession_context,
)

from ._base_chain import REGISTRATION_GAS_MAX, SignedEntry
from ._chain_terms import ChainTerms

__all__ = [
    "BadEntryError",
    "Enrolment",
    "Registration",
    "check_enrolments",
    "check_registrations",
    "sign_enrolment",
    "sign_registration",
]

A = TypeVar("A")
B = TypeVar("B")

# Of blocks that nobody has seen yet: a bound, of which only what is used is paid. With a stake, the most gas at this
# price is less than the coin that members are given.
ENTRY_FEES: Final = Fees(gas_price_max=500 * 10**9, tip_max=2 * 10**9)
NONCE: Final = 0  # of a key that was made for this task


class BadEntryError(CollegiumError):
    """What should enter a member into a chain's registry does not."""


@dataclass(frozen=True)
class Registration:
    """What enters a validator into the registry of one chain.

    Attributes:
        possession: proof that it knows the voting key's secret, bound to chain, registry and account.
        signature: r || s || v of its account over the transaction.
    """

    possession: bytes
    signature: bytes


@dataclass(frozen=True)
class Enrolment:
    """What enters a trainer into the registry of one chain.

    Attributes:
        sealed_to: its encryption key there, X25519.
        signature: as of `Registration`.
    """

    sealed_to: bytes
    signature: bytes


def sign_registration(
    account: AccountKey, voting: BlsSecretKey, operator: bytes, place: int, chain_id: int
) -> Registration:
    """Return what registers a validator on the chain at this place, whose contracts `operator` will create."""
    context = possession_context(chain_id, _registry(operator), account.address)
    possession = voting.prove_possession(context)
    unsigned = _registering(voting.public_key(), possession, operator, place, chain_id)
    return Registration(possession, account.sign(unsigned.digest))


def check_registrations(
    entries: Iterable[Registration], account: bytes, bls_key: bytes, operator: bytes, chains: Iterable[int]
) -> SignedEntry:
    """Return the transactions that register a validator on each of these chains, the home first.

    Raises:
        BadEntryError: there is not one for each, or one would not enter it.
    """
    key, transactions = BlsPublicKey(bls_key), dict[int, bytes]()
    for place, (chain_id, entry) in enumerate(_paired(tuple(chains), tuple(entries))):
        try:
            verify_possession(key, possession_context(chain_id, _registry(operator), account), entry.possession)
        except CollegiumError as error:
            raise BadEntryError(f"its registration on chain {chain_id}: {error}", chain=chain_id) from error
        unsigned = _registering(key, entry.possession, operator, place, chain_id)
        transactions[chain_id] = _signed(unsigned, account, entry.signature)
    return SignedEntry(account, transactions)


def sign_enrolment(account: AccountKey, sealed_to: bytes, operator: bytes, place: int, chain_id: int) -> Enrolment:
    """Return what enters a trainer on the chain at this place, whose contracts `operator` will create."""
    unsigned = _enrolling(sealed_to, operator, place, chain_id)
    return Enrolment(sealed_to, account.sign(unsigned.digest))


def check_enrolments(
    entries: Iterable[Enrolment], account: bytes, operator: bytes, chains: Mapping[int, int]
) -> SignedEntry:
    """Return the transactions that enter a trainer on each of these chains, given by their places.

    Raises:
        BadEntryError: there is not one for each, or one would not enter it.
    """
    transactions = dict[int, bytes]()
    for (place, chain_id), entry in _paired(tuple(chains.items()), tuple(entries)):
        if len(entry.sealed_to) != SEAL_KEY_BYTES or not any(entry.sealed_to):
            raise BadEntryError(
                f"its entry on chain {chain_id}: its encryption key is {entry.sealed_to[:40].hex()!a}, expected "
                f"{SEAL_KEY_BYTES} bytes that are not all zero",
                chain=chain_id,
            )
        unsigned = _enrolling(entry.sealed_to, operator, place, chain_id)
        transactions[chain_id] = _signed(unsigned, account, entry.signature)
    return SignedEntry(account, transactions)


def _paired(chains: tuple[A, ...], entries: tuple[B, ...]) -> Iterable[tuple[A, B]]:
    if len(chains) != len(entries):
        raise BadEntryError(f"it enters {len(entries)} chains, expected {len(chains)}")
    return zip(chains, entries, strict=True)


def _signed(unsigned: UnsignedTransaction, account: bytes, signature: bytes) -> bytes:
    """Return a raw transaction that this account signed."""
    where = f"its entry on chain {unsigned.chain_id}"
    try:
        signer = recover_address(unsigned.digest, signature)
    except CollegiumError as error:
        raise BadEntryError(f"{where}: {error}", chain=unsigned.chain_id) from error
    if signer != account:
        raise BadEntryError(
            f"{where} is signed by 0x{signer.hex()}, or is another transaction than the task's", chain=unsigned.chain_id
        )
    return unsigned.signed(signature)


def _registering(
    key: BlsPublicKey, possession: bytes, operator: bytes, place: int, chain_id: int
) -> UnsignedTransaction:
    call = contract("Registry").call("register", g2_uncompressed(key), g1_uncompressed(possession))
    return _entering(call, operator, place, chain_id)


def _enrolling(sealed_to: bytes, operator: bytes, place: int, chain_id: int) -> UnsignedTransaction:
    return _entering(contract("Registry").call("enrol", Role.TRAINER, sealed_to), operator, place, chain_id)


def _entering(call: bytes, operator: bytes, place: int, chain_id: int) -> UnsignedTransaction:
    """Return the transaction that brings a call before the registry, with the stake that is due there."""
    stake_wei = ChainTerms.at(place).stake_wei
    registry = _registry(operator)
    return UnsignedTransaction(chain_id, NONCE, ENTRY_FEES, REGISTRATION_GAS_MAX, registry, stake_wei, call)


def _registry(operator: bytes) -> bytes:
    """Return where the registry of a task will stand: on every chain the founder's first contract creates it."""
    return contract_address(contract_address(operator, 0), 1)
