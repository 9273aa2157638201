"""A base chain behind an Ethereum node's JSON-RPC over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import rlp

from collegium.crypto import Digest, keccak256
from collegium.settlement._abi import refusal
from collegium.settlement._chain import Fees, Log, Receipt, SentTransaction
from collegium.settlement._errors import (
    ChainAnswerError,
    ChainUnreachableError,
    TransactionNotMinedError,
    TransactionRefusedError,
)
from collegium.settlement._limit import limit_kept

__all__ = ["JsonRpcChain", "JsonRpcLimits"]

DIGEST_BYTES: Final = 32
LOG_BLOCKS_MAX: Final = 10_000  # a common limit of public nodes for one eth_getLogs
LOG_REQUESTS_MAX: Final = 10_000  # 10^8 blocks, six years of one a two seconds: a node that claims more lies
# What each type of transaction signs, in its order, by the names that nodes give the fields.
SIGNED_FIELDS: Final = {
    0: ("nonce", "gasPrice", "gas", "to", "value", "input"),
    1: ("chainId", "nonce", "gasPrice", "gas", "to", "value", "input", "accessList"),
    2: ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "input", "accessList"),
}
KNOWN_ALREADY: Final = ("already known", "already imported", "known transaction")


@dataclass(frozen=True, slots=True)
class JsonRpcLimits:
    """How long to try.

    Args:
        attempts: of one request before the node counts as unreachable; the pause doubles from `pause_s`.
        request_timeout_s: for one answer.
        polls: for a receipt, one every `poll_s`.
    """

    attempts: int = 4
    pause_s: float = 0.25
    request_timeout_s: float = 20.0
    polls: int = 600
    poll_s: float = 0.5


class JsonRpcChain:
    """A `Chain` behind a node's JSON-RPC.

    The node is trusted to answer truthfully; nothing secret is sent to it. Requests that got no answer are repeated a
    bounded number of times: all of them may be, as a transaction counts once however often it is sent.

    Args:
        url: of the node, http or https.
        sleep: waits for some seconds; given by tests.

    Raises:
        ChainUnreachableError: no answer.
    """

    def __init__(
        self, url: str, limits: JsonRpcLimits | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        with limit_kept():
            from web3 import HTTPProvider  # 0.4 s to import: only who asks a node pays for it

        self.url = url
        self.limits = limits or JsonRpcLimits()
        self._sleep = sleep
        self._sent: list[SentTransaction] = []
        options = {"timeout": self.limits.request_timeout_s}
        self._provider = HTTPProvider(url, request_kwargs=options, exception_retry_configuration=None)
        self._chain_id = self._quantity("eth_chainId")

    @property
    def chain_id(self) -> int:
        """Number of the chain, asked once."""
        return self._chain_id

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        """Every transaction that this object sent and that was mined and did not revert, in order."""
        return tuple(self._sent)

    def block_number(self) -> int:
        """Number of the last block."""
        return self._quantity("eth_blockNumber")

    def final_block(self) -> int:
        """Number of the block that the node calls finalized.

        Raises:
            ChainAnswerError: the node knows of none.
        """
        return _integer(self._block("finalized"), "number")

    def storage_root(self, address: bytes, block: int) -> Digest:
        """Return the root that the node proves a contract's storage against (`eth_getProof`, EIP-1186).

        Nodes keep the state of so many blocks only; of an older one this fails.
        """
        proof = self._result("eth_getProof", _hex(address), [], hex(block))
        root = _bytes(_member(proof, "storageHash"), "storage root")
        if len(root) != DIGEST_BYTES:
            raise ChainAnswerError(f"the storage root of {address.hex()} has {len(root)} bytes, expected 32")
        return root

    def timestamp_s(self) -> int:
        """Timestamp of the last block."""
        return _integer(self._block("latest"), "timestamp")

    def nonce(self, address: bytes, *, mined: bool = False) -> int:
        """Return how many transactions an account has sent, those that wait included unless only `mined` ones count."""
        return self._quantity("eth_getTransactionCount", _hex(address), "latest" if mined else "pending")

    def balance(self, address: bytes) -> int:
        """Return an account's coin in wei."""
        return self._quantity("eth_getBalance", _hex(address), "latest")

    def fees(self) -> Fees:
        """Return twice the base fee and the tip that the node proposes."""
        tip = self._quantity("eth_maxPriorityFeePerGas")
        return Fees(gas_price_max=2 * _integer(self._block("latest"), "baseFeePerGas") + tip, tip_max=tip)

    def call(self, sender: bytes, to: bytes, data: bytes, value: int = 0, block: int | None = None) -> bytes:
        """Return the output of a call that changes nothing, made after this block; None: after the last.

        Raises:
            ContractRefusedError: it reverts.
        """
        return _bytes(self._execute("eth_call", sender, to, data, value, block), "output of a call")

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes, value: int = 0) -> int:
        """Return five quarters of the gas that the node says the transaction takes.

        Raises:
            ContractRefusedError: it would revert.
        """
        return _number(self._execute("eth_estimateGas", sender, to, data, value), "gas estimate") * 5 // 4

    def send(self, raw: bytes) -> Receipt:
        """Send a signed transaction and poll for its receipt.

        Raises:
            TransactionRefusedError: the node refuses it, and knows no block that holds it.
            TransactionNotMinedError: no receipt in time; it may still be mined.
        """
        transaction = keccak256(raw)
        answer = self._request("eth_sendRawTransaction", _hex(raw))
        problem = answer.get("error")
        if problem is not None and not any(known in str(problem).lower() for known in KNOWN_ALREADY):
            receipt = self.mined(raw)  # sent again because an answer was lost, it is refused for its own nonce
            if receipt is None:
                raise TransactionRefusedError(f"node refused a transaction of {len(raw)} bytes: {problem}")
            return receipt
        for _ in range(self.limits.polls):
            receipt = self.mined(raw)
            if receipt is not None:
                return receipt
            self._sleep(self.limits.poll_s)
        raise TransactionNotMinedError(
            f"transaction {transaction.hex()} has no receipt after {self.limits.polls} polls", transaction=transaction
        )

    def mined(self, raw: bytes) -> Receipt | None:
        """Ask by its hash for the receipt of a transaction that may have been sent before."""
        found = self._result("eth_getTransactionReceipt", _hex(keccak256(raw)))
        receipt = None if found is None else _receipt(found)
        if receipt is None or not receipt.succeeded:
            self._sent = [sent for sent in self._sent if sent.raw != raw]
        elif all(sent.raw != raw for sent in self._sent):
            timestamp_s = _integer(self._block(hex(receipt.block)), "timestamp")
            self._sent.append(SentTransaction(raw, timestamp_s))
        return receipt

    def logs(self, address: bytes, topic: bytes, from_block: int) -> tuple[Log, ...]:
        """Return the events of a contract with this first topic, oldest first, LOG_BLOCKS_MAX blocks at a time.

        Raises:
            ChainAnswerError: the node claims more blocks than a chain can have.
        """
        return tuple(_log(entry) for entry in self._entries(address, topic, from_block))

    def transactions_behind(self, address: bytes, topic: bytes, from_block: int) -> tuple[bytes, ...]:
        """Return the raw transactions, oldest first, in which a contract emitted events with this first topic.

        The node gives their fields, and their bytes follow: that they hash to what the node names is checked. Those of
        a type that is not 0, 1 or 2, and with an access list, are left out.

        Raises:
            ChainAnswerError: they do not, or the node claims more blocks than a chain can have.
        """
        entries = self._entries(address, topic, from_block)
        hashes = dict.fromkeys(_bytes(_member(entry, "transactionHash"), "transaction hash") for entry in entries)
        found = (self._result("eth_getTransactionByHash", _hex(named)) for named in hashes)
        raw = [_raw(named, answer) for named, answer in zip(hashes, found, strict=True)]
        return tuple(data for data in raw if data is not None)

    def _entries(self, address: bytes, topic: bytes, from_block: int) -> list[Any]:
        last = self.block_number()
        if last - from_block >= LOG_BLOCKS_MAX * LOG_REQUESTS_MAX:
            raise ChainAnswerError(
                f"the node claims {last - from_block} blocks since the contract's", from_block=from_block
            )
        found: list[Any] = []
        for start in range(from_block, last + 1, LOG_BLOCKS_MAX):
            end = min(start + LOG_BLOCKS_MAX - 1, last)
            question = {
                "address": _hex(address),
                "topics": [_hex(topic)],
                "fromBlock": hex(start),
                "toBlock": hex(end),
            }
            found.extend(_items(self._result("eth_getLogs", question)))
        return found

    def _block(self, which: str) -> Any:
        return self._result("eth_getBlockByNumber", which, False)

    def _quantity(self, method: str, *parameters: object) -> int:
        return _number(self._result(method, *parameters), method)

    def _execute(
        self, method: str, sender: bytes, to: bytes | None, data: bytes, value: int, block: int | None = None
    ) -> Any:
        transaction = {"from": _hex(sender), "data": _hex(data), "value": hex(value)}
        if to is not None:
            transaction["to"] = _hex(to)
        answer = self._request(method, transaction, "latest" if block is None else hex(block))
        problem = answer.get("error")
        if problem is None:
            return answer.get("result")
        output = problem.get("data") if isinstance(problem, dict) else None
        if isinstance(output, dict):  # some nodes wrap the output
            output = output.get("data")
        raise refusal(_bytes(output, "output of a revert") if output else b"", str(problem))

    def _result(self, method: str, *parameters: object) -> Any:
        answer = self._request(method, *parameters)
        if answer.get("error") is not None:
            raise ChainAnswerError(f"{method} failed: {answer['error']}", method=method)
        return answer.get("result")

    def _request(self, method: str, *parameters: object) -> dict[str, Any]:
        """Return the node's answer, which has `result` or `error`."""
        from requests import RequestException

        pause_s, problem = self.limits.pause_s, "none made"
        for attempt in range(self.limits.attempts):
            if attempt:
                self._sleep(pause_s)
                pause_s *= 2
            try:
                answer = self._provider.make_request(method, parameters)
            except (RequestException, OSError) as error:
                problem = type(error).__name__  # its text may hold the URL, and that an access key
                continue
            except (ValueError, RecursionError) as error:
                raise ChainAnswerError(f"{method}: the answer is not JSON: {error}", method=method) from error
            if not isinstance(answer, dict):
                raise ChainAnswerError(f"{method}: the answer is not an object: {answer!r}", method=method)
            return dict(answer)
        raise ChainUnreachableError(
            f"no answer to {method} from the node in {self.limits.attempts} attempts: {problem}",
            method=method,
            attempts=self.limits.attempts,
        )


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _number(value: object, what: str) -> int:
    try:
        number = int(_text(value), 16)
    except (TypeError, ValueError) as error:
        raise ChainAnswerError(f"{what}: {value!r} is not a number", value=value) from error
    if not 0 <= number < 1 << 256:
        raise ChainAnswerError(f"{what}: {number:#x} is outside 256 bits", value=value)
    return number


def _bytes(value: object, what: str) -> bytes:
    try:
        return bytes.fromhex(_text(value).removeprefix("0x"))
    except (TypeError, ValueError) as error:
        raise ChainAnswerError(f"{what}: {value!r} is not hexadecimal", value=value) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _member(value: object, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise ChainAnswerError(f"the answer has no {name!r}: {value!r}", name=name)
    return value[name]


def _integer(value: object, name: str) -> int:
    return _number(_member(value, name), name)


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ChainAnswerError(f"the answer is not a list: {value!r}")
    return value


def _log(value: object) -> Log:
    topics = tuple(_bytes(topic, "topic") for topic in _items(_member(value, "topics")))
    return Log(_bytes(_member(value, "address"), "address"), topics, _bytes(_member(value, "data"), "data"))


def _raw(named: Digest, answer: object) -> bytes | None:
    """Return a transaction's bytes from its fields, None if it is of a type not known here or has an access list."""
    kind = _integer(answer, "type")
    if kind not in SIGNED_FIELDS:
        return None
    fields: list[Any] = []
    for name in (*SIGNED_FIELDS[kind], "v", "r", "s"):
        if name in ("to", "input"):
            fields.append(_bytes(_member(answer, name) or "0x", name))
        elif name == "accessList":
            if _items(_member(answer, name)):
                return None
            fields.append([])
        else:
            fields.append(_integer(answer, name))
    raw = (bytes([kind]) if kind else b"") + bytes(rlp.encode(fields))
    if keccak256(raw) != named:
        raise ChainAnswerError(f"the node's fields of transaction {named.hex()} are another transaction's")
    return raw


def _receipt(value: object) -> Receipt:
    contract = _member(value, "contractAddress")
    return Receipt(
        transaction=_bytes(_member(value, "transactionHash"), "transaction hash"),
        block=_integer(value, "blockNumber"),
        succeeded=_integer(value, "status") == 1,
        gas=_integer(value, "gasUsed"),
        contract=None if contract is None else _bytes(contract, "contract address"),
        logs=tuple(_log(entry) for entry in _items(_member(value, "logs"))),
    )
