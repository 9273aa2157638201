"""Signing a transaction (EIP-1559) and seeing it through."""

from __future__ import annotations

import rlp

from collegium.crypto import keccak256
from collegium.settlement._chain import Account, Chain, Fees, Receipt
from collegium.settlement._errors import TransactionFailedError

__all__ = ["contract_address", "sign_transaction", "transact"]

DYNAMIC_FEE_TYPE = b"\x02"


def sign_transaction(
    account: Account, *, chain_id: int, nonce: int, fees: Fees, gas_max: int, to: bytes | None, value: int, data: bytes
) -> bytes:
    """Return a raw transaction of type 2: 0x02 || rlp(fields, signature), signed over keccak of 0x02 || rlp(fields)."""
    fields = [chain_id, nonce, fees.tip_max, fees.gas_price_max, gas_max, to or b"", value, data, []]
    signature = account.sign(keccak256(DYNAMIC_FEE_TYPE + rlp.encode(fields)))
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    return DYNAMIC_FEE_TYPE + bytes(rlp.encode([*fields, v, r, s]))


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


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Return the address of the contract that `sender` creates with its transaction `nonce`."""
    return keccak256(rlp.encode([sender, nonce]))[12:]
