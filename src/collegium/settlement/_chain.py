"""What the rest of the room asks of a base chain, and the values that go in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from collegium.crypto import Digest

__all__ = ["Account", "Chain", "Fees", "Log", "Receipt", "SentTransaction"]


class Account(Protocol):
    """Who pays for and signs a transaction; `crypto.AccountKey` is one."""

    @property
    def address(self) -> bytes:
        """Ethereum address, 20 bytes."""

    def sign(self, digest: Digest) -> bytes:
        """Return r || s || v over secp256k1: 65 bytes, low s, v in {0, 1}."""


@dataclass(frozen=True, slots=True)
class Log:
    """An event of a contract: its topics (the first names it) and its data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a mined transaction did.

    Args:
        contract: address of the contract that it created, None for a call.
        gas: gas used after refunds, what the sender paid for.
    """

    transaction: Digest
    block: int
    succeeded: bool
    gas: int
    contract: bytes | None
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class SentTransaction:
    """A raw signed transaction and the timestamp, in seconds, of the block that it is in."""

    raw: bytes
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers for one unit of gas, in wei (EIP-1559)."""

    gas_price_max: int
    tip_max: int


class Chain(Protocol):
    """A base chain: accounts, contracts, and one transaction after the other.

    Every method may raise ChainUnreachableError or ChainAnswerError where a node is asked.
    """

    @property
    def chain_id(self) -> int:
        """Number of the chain (EIP-155)."""

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        """Every transaction that this object sent and that was mined, in order; at a node, and did not revert."""

    def block_number(self) -> int:
        """Number of the last block."""

    def final_block(self) -> int:
        """Number of the last block that is final by the chain's own rules."""

    def storage_root(self, address: bytes, block: int) -> Digest:
        """Return the root over all that a contract had stored after a block, as the chain itself commits to it."""

    def timestamp_s(self) -> int:
        """Timestamp of the last block."""

    def nonce(self, address: bytes, *, mined: bool = False) -> int:
        """Return how many transactions an account has sent, those that wait included unless only `mined` ones count."""

    def balance(self, address: bytes) -> int:
        """Return an account's coin in wei."""

    def fees(self) -> Fees:
        """Return an offer that the next blocks accept: twice the base fee, and a tip."""

    def call(self, sender: bytes, to: bytes, data: bytes, value: int = 0, block: int | None = None) -> bytes:
        """Return the output of a call that changes nothing, made after this block; None: after the last.

        Raises:
            ContractRefusedError: it reverts.
        """

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes, value: int = 0) -> int:
        """Return a gas limit under which this transaction would succeed now; `to` None creates a contract.

        Raises:
            ContractRefusedError: it would revert.
        """

    def send(self, raw: bytes) -> Receipt:
        """Send a signed transaction and return its receipt once it is in a block, whether it reverted or not.

        Raises:
            TransactionRefusedError: it cannot enter a block.
            TransactionNotMinedError: it did not enter one in time.
        """

    def mined(self, raw: bytes) -> Receipt | None:
        """Return the receipt of a transaction that may have been sent before, None if no block is known to hold it.

        One that is found and did not revert counts as sent by this object from then on; at a node any other does not,
        not even if it did before: a reorganisation took it back.
        """

    def transactions_behind(self, address: bytes, topic: bytes, from_block: int) -> tuple[bytes, ...]:
        """Return the raw transactions, oldest first, in which a contract emitted events with this first topic.

        What `decode_transaction` does not read may be left out.
        """

    def logs(self, address: bytes, topic: bytes, from_block: int) -> tuple[Log, ...]:
        """Return the events of a contract with this first topic, oldest first."""
