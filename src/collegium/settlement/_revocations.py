"""Consent that was taken back on a chain, as the holder's own signed transaction: evidence that needs no chain to read.

Who revokes a licence signs a transaction that names chain, contract and licence. Its bytes say so to anybody, whether
they follow that chain or not (docs/spec/consents.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from collegium.settlement._abi import contract
from collegium.settlement._chain import Chain
from collegium.settlement._errors import NotARevocationError
from collegium.settlement._transactions import decode_transaction

__all__ = ["Revocation", "decode_revocation", "read_revocations"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """That an account has signed away a licence's consent, at one contract of one chain."""

    chain_id: int
    licences: bytes
    licence: int
    sender: bytes


def decode_revocation(raw: bytes) -> Revocation:
    """Return what a transaction revokes. Whether its sender holds that licence is for the caller to compare.

    Raises:
        NotARevocationError: it calls something else.
        MalformedTransactionError: it is no transaction.
    """
    found = decode_transaction(raw)
    call = contract("Licences").call("revoke", 0)
    selector, length = call[:4], len(call)
    if found.data[:4] != selector or len(found.data) != length or len(found.to) != 20:
        raise NotARevocationError(
            f"a transaction of {found.sender.hex()} calls {found.data[:4].hex()} with {len(found.data)} bytes, "
            f"expected a revocation: {selector.hex()} and {length} bytes in all",
            sender=found.sender,
        )
    return Revocation(found.chain_id, found.to, int.from_bytes(found.data[4:], "big"), found.sender)


def read_revocations(chain: Chain, licences: bytes, from_block: int = 0) -> tuple[bytes, ...]:
    """Return the raw transactions by which licences of a contract were revoked, oldest first.

    A contract that revokes on somebody's behalf signs nothing: its transactions are no `Revocation`, and are given all
    the same.
    """
    return chain.transactions_behind(licences, contract("Licences").topic("Revoked"), from_block)
