"""A base chain inside the process: Ethereum's rules, one transaction a block, and no clock but the one it is given.

Nothing enters but a genesis and transactions with the timestamps of their blocks; `replay` of the same gives the same
receipts, contract addresses, gas and state root, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eth_utils.exceptions import ValidationError

from collegium.crypto import Digest
from collegium.settlement._abi import refusal
from collegium.settlement._chain import Fees, Log, Receipt, SentTransaction
from collegium.settlement._errors import TransactionRefusedError

if TYPE_CHECKING:
    from eth.abc import ComputationAPI, SignedTransactionAPI

__all__ = ["BLOCK_GAS_MAX", "TRANSACTION_GAS_MAX", "EmbeddedChain", "Genesis"]

BLOCK_GAS_MAX: Final = 60_000_000
TRANSACTION_GAS_MAX: Final = 16_777_216  # EIP-7825, in force after Prague: what passes here passes there
INITIAL_BASE_FEE: Final = 1_000_000_000
SECONDS_PER_BLOCK: Final = 1
DYNAMIC_FEE_TYPE: Final = b"\x02"


@dataclass(frozen=True, slots=True)
class Genesis:
    """Everything that is there before the first transaction.

    Args:
        chain_id: number of the chain (EIP-155).
        timestamp_s: of block 0, in seconds.
        balances: accounts (20 bytes) and their coin in wei.
    """

    chain_id: int
    timestamp_s: int
    balances: tuple[tuple[bytes, int], ...]


class EmbeddedChain:
    """A `Chain` of one genesis. A block is one transaction, and is final at once.

    Its time stands still between transactions: a block's timestamp is that of `advance_to`, or one second after the
    block before.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self._receipts: list[Receipt] = []
        self._sent: list[SentTransaction] = []
        self._chain = _open(genesis)
        self._next_timestamp_s = genesis.timestamp_s + SECONDS_PER_BLOCK

    @property
    def chain_id(self) -> int:
        """Number of the chain."""
        return self.genesis.chain_id

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        """Every transaction of the chain, in order."""
        return tuple(self._sent)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What each of them did."""
        return tuple(self._receipts)

    @property
    def state_root(self) -> Digest:
        """Root of all accounts, code and storage after the last block."""
        return bytes(self._head().state_root)

    def block_number(self) -> int:
        """Number of the last block."""
        return int(self._head().block_number)

    def final_block(self) -> int:
        """Number of the last block: nothing takes it back."""
        return self.block_number()

    def storage_root(self, address: bytes, block: int) -> Digest:
        """Return the root of a contract's storage after a block; that of nothing where there is no contract."""
        from collegium.settlement._evm import storage_root

        header = self._chain.get_canonical_block_header_by_number(block)
        return storage_root(self._chain.chaindb.db, header.state_root, address)

    def timestamp_s(self) -> int:
        """Timestamp of the last block."""
        return int(self._head().timestamp)

    def advance_to(self, timestamp_s: int) -> None:
        """Let the next block have this timestamp, unless one second after the last block is later."""
        self._next_timestamp_s = max(self._next_timestamp_s, timestamp_s)

    def nonce(self, address: bytes, *, mined: bool = False) -> int:
        """Return how many transactions an account has sent; none waits here."""
        return int(self._state().get_nonce(address))

    def balance(self, address: bytes) -> int:
        """Return an account's coin in wei."""
        return int(self._state().get_balance(address))

    def fees(self) -> Fees:
        """Return twice the base fee: it cannot double within six blocks."""
        return Fees(gas_price_max=2 * self._pending().base_fee_per_gas, tip_max=0)

    def call(self, sender: bytes, to: bytes, data: bytes, value: int = 0, block: int | None = None) -> bytes:
        """Return the output of a call that changes nothing, made after this block; None: after the last.

        Raises:
            ContractRefusedError: it reverts.
        """
        computation, _ = self._try(sender, to, data, value, block)
        return bytes(computation.output)

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes, value: int = 0) -> int:
        """Return one and a half times what the call uses now, at most TRANSACTION_GAS_MAX.

        Raises:
            ContractRefusedError: it reverts.
        """
        _, gas = self._try(sender, to, data, value)
        return min(gas * 3 // 2, TRANSACTION_GAS_MAX)

    def send(self, raw: bytes) -> Receipt:
        """Put a signed transaction into a block of its own and return its receipt.

        Raises:
            TransactionRefusedError: it cannot enter a block; the chain is as before.
        """
        from collegium.settlement._evm import REFUSALS, deep_calls

        header = self._pending()
        try:
            transaction = self._chain.get_vm(header).get_transaction_builder().decode(raw)
            self._check(raw, transaction)
            self._chain.header = header
            with deep_calls():
                block, (receipt,), (computation,) = self._chain.mine_all([transaction])
        except REFUSALS as error:
            raise TransactionRefusedError(f"transaction of {len(raw)} bytes cannot be mined: {error}") from error
        mined = _receipt(block.imported_block.number, transaction, receipt, computation)
        self._sent.append(SentTransaction(raw, header.timestamp))
        self._next_timestamp_s = header.timestamp + SECONDS_PER_BLOCK
        self._receipts.append(mined)
        return mined

    def mined(self, raw: bytes) -> Receipt | None:
        """Return the receipt of a transaction of this chain, None of any other."""
        return next(
            (receipt for sent, receipt in zip(self._sent, self._receipts, strict=True) if sent.raw == raw), None
        )

    def logs(self, address: bytes, topic: bytes, from_block: int) -> tuple[Log, ...]:
        """Return the events of a contract with this first topic, oldest first."""
        return tuple(
            log
            for receipt in self._receipts[max(0, from_block - 1) :]  # block n holds transaction n - 1
            for log in receipt.logs
            if log.address == address and log.topics[:1] == (topic,)
        )

    def transactions_behind(self, address: bytes, topic: bytes, from_block: int) -> tuple[bytes, ...]:
        """Return the raw transactions in which a contract emitted events with this first topic, oldest first."""
        return tuple(
            sent.raw
            for sent, receipt in zip(self._sent, self._receipts, strict=True)
            if receipt.block >= from_block
            and any(log.address == address and log.topics[:1] == (topic,) for log in receipt.logs)
        )

    def _check(self, raw: bytes, transaction: Any) -> None:
        """Check the rules that the virtual machine leaves out."""
        if raw[:1] != DYNAMIC_FEE_TYPE or transaction.encode() != raw:
            raise ValidationError("not the canonical encoding of a transaction of type 2")
        if transaction.chain_id != self.chain_id:
            raise ValidationError(f"it is for chain {transaction.chain_id}, this is {self.chain_id}")
        if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
            raise ValidationError("its tip exceeds its price")
        if transaction.gas > TRANSACTION_GAS_MAX:
            raise ValidationError(f"its gas limit {transaction.gas} exceeds {TRANSACTION_GAS_MAX}")

    def _head(self) -> Any:
        return self._chain.get_canonical_head()

    def _pending(self, block: int | None = None) -> Any:
        parent = self._head() if block is None else self._chain.get_canonical_block_header_by_number(block)
        header = self._chain.create_header_from_parent(parent)
        return header.copy(timestamp=self._next_timestamp_s, gas_limit=BLOCK_GAS_MAX)

    def _state(self) -> Any:
        return self._chain.get_vm(self._pending()).state

    def _try(
        self, sender: bytes, to: bytes | None, data: bytes, value: int, block: int | None = None
    ) -> tuple[ComputationAPI, int]:
        """Run a call on top of a block, the last if None, keep nothing of it, and return it with the gas it used."""
        from collegium.settlement._evm import CALL_REFUSALS, deep_calls, unsigned_call

        header = self._pending(block)
        vm: Any = self._chain.get_vm(header)
        price = header.base_fee_per_gas
        vm.state.delta_balance(sender, price * TRANSACTION_GAS_MAX)
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=vm.state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=price,
            gas=TRANSACTION_GAS_MAX,
            to=to or b"",
            value=value,
            data=data,
            access_list=[],
        )
        try:
            with deep_calls():
                computation = vm.state.apply_transaction(unsigned_call(unsigned, sender))
        except CALL_REFUSALS as error:
            raise TransactionRefusedError(f"call of {len(data)} bytes cannot be made: {error}") from error
        if computation.is_error:
            raise refusal(bytes(computation.output), str(computation.error))
        gas = TRANSACTION_GAS_MAX - computation.get_gas_remaining() + computation.data_floor_gas  # before refunds
        return computation, gas


def _open(genesis: Genesis) -> Any:
    from collegium.settlement._evm import first_block  # a second to import: only who has a chain inside pays for it

    accounts: dict[Any, Any] = {
        address: {"balance": balance, "nonce": 0, "code": b"", "storage": {}} for address, balance in genesis.balances
    }
    header: dict[str, Any] = {
        "difficulty": 0,
        "extra_data": b"",
        "gas_limit": BLOCK_GAS_MAX,
        "timestamp": genesis.timestamp_s,
        "base_fee_per_gas": INITIAL_BASE_FEE,
    }
    return first_block(genesis.chain_id, header, accounts)


def _receipt(block: int, transaction: SignedTransactionAPI, receipt: Any, computation: ComputationAPI) -> Receipt:
    created = not transaction.to and not computation.is_error
    return Receipt(
        transaction=bytes(transaction.hash),
        block=block,
        succeeded=not computation.is_error,
        gas=int(receipt.gas_used),
        contract=bytes(computation.msg.storage_address) if created else None,
        logs=tuple(
            Log(bytes(log.address), tuple(topic.to_bytes(32, "big") for topic in log.topics), bytes(log.data))
            for log in receipt.logs
        ),
    )
