"""Signing a transaction (EIP-1559) and seeing it through; reading what somebody else has signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import rlp

from collegium.crypto import Digest, keccak256, recover_address
from collegium.errors import CollegiumError
from collegium.settlement._chain import Account, Chain, Fees, Receipt
from collegium.settlement._errors import MalformedTransactionError, TransactionFailedError

__all__ = [
    "SignedTransaction",
    "UnsignedTransaction",
    "contract_address",
    "decode_transaction",
    "sign_transaction",
    "transact",
]

DYNAMIC_FEE_TYPE: Final = b"\x02"
TRANSACTION_BYTES_MAX: Final = 1 << 16
FIELDS: Final = {0: 9, 1: 11, 2: 12}  # how many a transaction of each type has, its signature's three included
EIP155_FIRST: Final = 35  # the v of a transaction of type 0 is this, twice its chain's number and a bit more


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction as its signed bytes say; `to` is empty where it creates a contract."""

    chain_id: int
    nonce: int
    gas_max: int
    sender: bytes
    to: bytes
    value: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A transaction of type 2 that its sender has yet to sign; `to` None creates a contract."""

    chain_id: int
    nonce: int
    fees: Fees
    gas_max: int
    to: bytes | None
    value: int
    data: bytes

    @property
    def digest(self) -> Digest:
        """What its sender signs: keccak of 0x02 || rlp(fields)."""
        return keccak256(DYNAMIC_FEE_TYPE + rlp.encode(self._fields))

    def signed(self, signature: bytes) -> bytes:
        """Return the raw transaction, 0x02 || rlp(fields, signature), with its sender's r || s || v over `digest`."""
        r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
        return DYNAMIC_FEE_TYPE + bytes(rlp.encode([*self._fields, v, r, s]))

    @property
    def _fields(self) -> list[object]:
        offer = (self.fees.tip_max, self.fees.gas_price_max)
        return [self.chain_id, self.nonce, *offer, self.gas_max, self.to or b"", self.value, self.data, []]


def sign_transaction(
    account: Account, *, chain_id: int, nonce: int, fees: Fees, gas_max: int, to: bytes | None, value: int, data: bytes
) -> bytes:
    """Return a raw transaction of type 2, as `UnsignedTransaction` has it, signed by an account."""
    unsigned = UnsignedTransaction(chain_id, nonce, fees, gas_max, to, value, data)
    return unsigned.signed(account.sign(unsigned.digest))


def transact(
    chain: Chain, account: Account, to: bytes | None, data: bytes, *, value: int = 0, gas_max: int | None = None
) -> Receipt:
    """Send a call, or with `to` None a contract, and return the receipt.

    The call is tried first without a transaction, so what a contract refuses costs nothing and is named. A `gas_max`
    given by the caller skips that.

    Raises:
        ContractRefusedError: the contract refuses it.
        TransactionFailedError: it was mined and reverted.
        TransactionRefusedError, TransactionNotMinedError: it did not enter a block.
    """
    if gas_max is None:
        gas_max = chain.estimate_gas(account.address, to, data, value)
    raw = sign_transaction(
        account,
        chain_id=chain.chain_id,
        nonce=chain.nonce(account.address),
        fees=chain.fees(),
        gas_max=gas_max,
        to=to,
        value=value,
        data=data,
    )
    receipt = chain.send(raw)
    if not receipt.succeeded:
        raise TransactionFailedError(
            f"transaction {receipt.transaction.hex()} reverted in block {receipt.block} after {receipt.gas} gas",
            transaction=receipt.transaction,
            gas=receipt.gas,
        )
    return receipt


def decode_transaction(raw: bytes) -> SignedTransaction:
    """Return what a transaction of type 0 (for one chain, EIP-155), 1 or 2 says, and who signed it; no access list.

    Raises:
        MalformedTransactionError: it is none, or signed by nobody.
    """
    kind = raw[0] if raw[:1] in (b"\x01", DYNAMIC_FEE_TYPE) else 0
    if not 1 < len(raw) <= TRANSACTION_BYTES_MAX:
        raise MalformedTransactionError(f"a transaction has {len(raw)} bytes, expected 2 to {TRANSACTION_BYTES_MAX}")
    try:
        fields = rlp.decode(raw[1:] if kind else raw)
    except (rlp.RLPException, RecursionError) as error:
        raise MalformedTransactionError(f"a transaction is malformed: {type(error).__name__}") from error
    texts = [field for field in fields if isinstance(field, bytes)] if isinstance(fields, list) else []
    listed = 1 if kind else 0
    if len(fields) != FIELDS[kind] or len(texts) != len(fields) - listed or (kind and fields[-4] != []):
        raise MalformedTransactionError(f"a transaction of type {kind} has other fields, or an access list")
    v, r, s = (int.from_bytes(text, "big") for text in texts[-3:])
    if kind:
        chain_id, parity = int.from_bytes(texts[0], "big"), v
        signed = keccak256(raw[:1] + rlp.encode(fields[:-3]))
    else:
        chain_id, parity = divmod(v - EIP155_FIRST, 2)
        signed = keccak256(rlp.encode([*fields[:-3], max(0, chain_id), 0, 0]))
    if chain_id < 0 or parity > 1 or max(len(text) for text in texts[-2:]) > 32:
        raise MalformedTransactionError(f"a transaction of type {kind} has a signature with v {v:#x}, for no chain")
    try:
        sender = recover_address(signed, r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity]))
    except CollegiumError as error:
        raise MalformedTransactionError(f"a transaction of type {kind} is signed by nobody: {error}") from error
    nonce, (gas_max, to, value, data) = texts[1 if kind else 0], texts[-7:-3]
    numbers = (chain_id, int.from_bytes(nonce, "big"), int.from_bytes(gas_max, "big"))
    return SignedTransaction(*numbers, sender, to, int.from_bytes(value, "big"), data)


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Return the address of the contract that `sender` creates with its transaction `nonce`."""
    return keccak256(rlp.encode([sender, nonce]))[12:]
