"""The JSON-RPC chain against a node that answers badly, late, or not at all; loopback only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import rlp

from collegium.crypto import AccountKey, keccak256
from collegium.settlement import (
    ChainAnswerError,
    ChainUnreachableError,
    ContractRefusedError,
    Fees,
    JsonRpcChain,
    JsonRpcLimits,
    TransactionNotMinedError,
    TransactionRefusedError,
    contract,
    decode_transaction,
)

Answer = dict[str, Any] | bytes | int
ADDRESS = bytes(range(20))
LIMITS = JsonRpcLimits(attempts=3, polls=4)
RECEIPT = {
    "transactionHash": "0x" + "ab" * 32,
    "blockNumber": "0x10",
    "status": "0x1",
    "gasUsed": "0x5208",
    "contractAddress": None,
    "logs": [],
}


def result(value: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": value}


def error(message: str, data: object = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": message, "data": data}}


class Node(HTTPServer):
    """Answers each method with what `answers` holds for it: an object, bytes as they are, or an HTTP status."""

    def __init__(self, answers: dict[str, Answer | Callable[..., Answer]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = {"eth_chainId": result("0x7a69"), **answers}
        self.asked: list[tuple[str, list[Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Node

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((question["method"], question["params"]))
        answer = self.server.answers[question["method"]]
        if callable(answer):
            answer = answer(*question["params"])
        body = json.dumps(answer).encode() if isinstance(answer, dict) else answer
        self.send_response(body if isinstance(body, int) else 200)
        self.end_headers()
        if isinstance(body, bytes):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def node(**answers: Answer | Callable[..., Answer]) -> Iterator[tuple[JsonRpcChain, Node, list[float]]]:
    """A chain over such a node, the node, and the pauses that the chain made."""
    server = Node(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    pauses: list[float] = []
    try:
        url = f"http://127.0.0.1:{server.server_port}/access-key"
        yield JsonRpcChain(url, LIMITS, pauses.append), server, pauses
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_node_is_asked_for_numbers() -> None:
    block = result({"timestamp": "0x6b49d200", "baseFeePerGas": "0x7"})
    with node(
        eth_getBalance=result("0xde0b6b3a7640000"),
        eth_getTransactionCount=result("0x5"),
        eth_getBlockByNumber=block,
        eth_maxPriorityFeePerGas=result("0x2"),
    ) as (chain, _, _):
        assert chain.chain_id == 31337
        assert chain.balance(ADDRESS) == 10**18
        assert chain.nonce(ADDRESS) == 5
        assert chain.timestamp_s() == 1_800_000_000
        assert chain.fees() == Fees(gas_price_max=16, tip_max=2)


def test_a_node_tells_what_is_final_and_what_a_contract_stored_by_then() -> None:
    with node(
        eth_getBlockByNumber=result({"number": "0x11"}), eth_getProof=result({"storageHash": "0x" + "cd" * 32})
    ) as (chain, server, _):
        assert chain.final_block() == 17
        assert chain.storage_root(ADDRESS, 17) == b"\xcd" * 32
        assert server.asked[-2:] == [
            ("eth_getBlockByNumber", ["finalized", False]),
            ("eth_getProof", ["0x" + ADDRESS.hex(), [], "0x11"]),
        ]


@pytest.mark.parametrize(
    "answers",
    [
        {"eth_getBlockByNumber": result(None)},
        {"eth_getBlockByNumber": error("finalized block not found")},
        {"eth_getProof": result({"storageHash": "0x" + "cd" * 31})},
        {"eth_getProof": result({"storageHash": None})},
        {"eth_getProof": result({})},
        {"eth_getProof": error("missing trie node")},
    ],
)
def test_a_node_without_finality_or_proofs_is_named(answers: dict[str, Any]) -> None:
    good = {
        "eth_getBlockByNumber": result({"number": "0x11"}),
        "eth_getProof": result({"storageHash": "0x" + "cd" * 32}),
    }
    with node(**(good | answers)) as (chain, _, _), pytest.raises(ChainAnswerError):
        chain.storage_root(ADDRESS, chain.final_block())


@pytest.mark.parametrize(
    "answer",
    [
        result(None),
        result("seven"),
        result(7),
        result({}),
        error("method not found"),
        result("-0x1"),
        result("0x" + "9" * 6000),
        b"not JSON",
        b"[" * 100_000,
        b"[1]",
        b"\xff\xfe",
        b"",
    ],
    ids=lambda answer: str(answer)[:40],
)
def test_what_is_no_answer_is_refused(answer: Answer) -> None:
    with node(eth_getBalance=answer) as (chain, _, pauses):
        with pytest.raises(ChainAnswerError):
            chain.balance(ADDRESS)
        assert pauses == []


def test_a_node_that_fails_is_asked_again_a_bounded_number_of_times() -> None:
    answers: list[Answer] = [503, 503, result("0x9")]
    with node(eth_getBalance=lambda *_: answers.pop(0)) as (chain, _, pauses):
        assert chain.balance(ADDRESS) == 9
        assert pauses == [0.25, 0.5]
    with node(eth_getBalance=503) as (chain, server, pauses):
        with pytest.raises(ChainUnreachableError) as failure:
            chain.balance(ADDRESS)
        assert [method for method, _ in server.asked] == ["eth_chainId"] + 3 * ["eth_getBalance"]
        assert pauses == [0.25, 0.5]
        assert "access-key" not in str(failure.value)


def test_no_node_at_all_is_named() -> None:
    with node() as (chain, _, _):
        url = chain.url
    with pytest.raises(ChainUnreachableError) as failure:
        JsonRpcChain(url, LIMITS, lambda _: None)
    assert failure.value.values["attempts"] == 3
    assert "access-key" not in str(failure.value)


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"data": data}], ids=["plain", "wrapped"])
def test_a_revert_is_named(wrap: Callable[[str], object]) -> None:
    registry = contract("Registry")
    output = next(member for member in registry.errors.values() if member.name == "StillUnbonding").hash[:4]
    output += (3).to_bytes(32, "big") + (9).to_bytes(32, "big")
    with node(eth_call=error("execution reverted", wrap("0x" + output.hex()))) as (chain, _, _):
        with pytest.raises(ContractRefusedError) as refusal:
            chain.call(ADDRESS, ADDRESS, b"")
        assert refusal.value.values == {"error": "StillUnbonding", "arguments": (3, 9)}


@pytest.mark.parametrize("data", [None, "0x", "0xdeadbeef"])
def test_a_failure_without_a_known_name_has_none(data: object) -> None:
    with node(eth_estimateGas=error("out of gas", data)) as (chain, _, _):
        with pytest.raises(ContractRefusedError) as refusal:
            chain.estimate_gas(ADDRESS, ADDRESS, b"")
        assert refusal.value.values["error"] == ""
        assert "out of gas" in str(refusal.value)


def test_a_transaction_is_polled_for_a_bounded_number_of_times() -> None:
    sent = {"eth_sendRawTransaction": result("0x00"), "eth_getBlockByNumber": result({"timestamp": "0x5"})}
    answers: list[Answer] = [result(None), result(None), result(RECEIPT)]
    with node(**sent, eth_getTransactionReceipt=lambda *_: answers.pop(0)) as (chain, _, pauses):
        receipt = chain.send(b"\x02raw")
        assert (receipt.block, receipt.gas, receipt.succeeded, receipt.contract) == (16, 21_000, True, None)
        assert [(one.raw, one.timestamp_s) for one in chain.sent] == [(b"\x02raw", 5)]
        assert pauses == [0.5, 0.5]
    with node(**sent, eth_getTransactionReceipt=result(None)) as (chain, _, pauses):
        with pytest.raises(TransactionNotMinedError):
            chain.send(b"\x02raw")
        assert (len(pauses), chain.sent) == (4, ())


def test_a_transaction_that_the_node_knows_is_no_failure_and_a_refused_one_is() -> None:
    mined = {"eth_getTransactionReceipt": result(RECEIPT), "eth_getBlockByNumber": result({"timestamp": "0x5"})}
    with node(**mined, eth_sendRawTransaction=error("already known")) as (chain, _, _):
        assert chain.send(b"\x02raw").succeeded
    unknown = {**mined, "eth_getTransactionReceipt": result(None)}
    with (
        node(**unknown, eth_sendRawTransaction=error("nonce too low")) as (chain, _, _),
        pytest.raises(TransactionRefusedError),
    ):
        chain.send(b"\x02raw")


def test_a_transaction_that_is_refused_because_it_is_mined_is_no_failure() -> None:
    """The node had taken it and its answer was lost; the second time its own nonce is in the way."""
    block = {"eth_getBlockByNumber": result({"timestamp": "0x5"})}
    refusal = {"eth_sendRawTransaction": error("nonce too low: next nonce 8, tx nonce 7")}
    with node(**block, **refusal, eth_getTransactionReceipt=result(RECEIPT)) as (chain, _, pauses):
        assert chain.send(b"\x02raw").succeeded
        assert ([one.raw for one in chain.sent], pauses) == ([b"\x02raw"], [])


def test_a_transaction_is_looked_for_without_sending_it() -> None:
    block = {"eth_getBlockByNumber": result({"timestamp": "0x5"})}
    with node(**block, eth_getTransactionReceipt=result(RECEIPT)) as (chain, server, _):
        receipt = chain.mined(b"\x02raw")
        assert receipt is not None
        assert receipt == chain.mined(b"\x02raw")
        assert [one.raw for one in chain.sent] == [b"\x02raw"]  # once
        assert server.asked[1] == ("eth_getTransactionReceipt", ["0x" + keccak256(b"\x02raw").hex()])
    with node(eth_getTransactionReceipt=result(None)) as (chain, _, _):
        assert (chain.mined(b"\x02raw"), chain.sent) == (None, ())


@pytest.mark.parametrize("after", [None, {**RECEIPT, "status": "0x0"}])
def test_a_transaction_that_a_reorganisation_took_back_counts_no_more_until_it_is_mined_again(after: object) -> None:
    found: list[object] = [RECEIPT, after, RECEIPT]
    block = {"eth_getBlockByNumber": result({"timestamp": "0x5"})}
    with node(**block, eth_getTransactionReceipt=lambda *_: result(found.pop(0))) as (chain, _, _):
        for count in (1, 0, 1):
            chain.mined(b"\x02raw")
            assert len(chain.sent) == count


def test_of_an_accounts_transactions_those_that_wait_can_be_left_out() -> None:
    with node(eth_getTransactionCount=lambda _, which: result({"pending": "0x5", "latest": "0x3"}[which])) as (
        chain,
        _,
        _,
    ):
        assert (chain.nonce(ADDRESS), chain.nonce(ADDRESS, mined=True)) == (5, 3)


def test_a_transaction_that_reverted_has_a_receipt_and_counts_as_nothing() -> None:
    reverted = {**RECEIPT, "status": "0x0"}
    with node(eth_sendRawTransaction=result("0x00"), eth_getTransactionReceipt=result(reverted)) as (chain, _, _):
        assert not chain.send(b"\x02raw").succeeded
        assert chain.sent == ()


@pytest.mark.parametrize("name", sorted(RECEIPT))
def test_a_receipt_that_lacks_something_is_refused(name: str) -> None:
    lacking = {key: value for key, value in RECEIPT.items() if key != name}
    answers = {"eth_sendRawTransaction": result("0x00"), "eth_getTransactionReceipt": result(lacking)}
    with node(**answers) as (chain, _, _), pytest.raises(ChainAnswerError):
        chain.send(b"\x02raw")


def test_logs_are_asked_for_in_pieces() -> None:
    log = {"address": "0x" + ADDRESS.hex(), "topics": ["0x" + "11" * 32], "data": "0x22"}
    with node(eth_blockNumber=result(hex(25_000)), eth_getLogs=result([log])) as (chain, server, _):
        assert len(chain.logs(ADDRESS, b"\x11" * 32, 7)) == 3
        ranges = [
            (int(q["fromBlock"], 16), int(q["toBlock"], 16)) for m, (q, *_) in asked(server) if m == "eth_getLogs"
        ]
        assert ranges == [(7, 10_006), (10_007, 20_006), (20_007, 25_000)]
    answers = {"eth_blockNumber": result("0x1"), "eth_getLogs": result({})}
    with node(**answers) as (chain, _, _), pytest.raises(ChainAnswerError):
        chain.logs(ADDRESS, b"\x11" * 32, 0)


SIGNER = AccountKey(bytes(31) + b"\x07")


def signed(kind: int) -> tuple[bytes, dict[str, Any]]:
    """A transaction of a type, and what a node says of it."""
    call, to = b"\x01\x02", ADDRESS
    before = {0: [], 1: [0x7A69], 2: [0x7A69]}[kind]
    fees = [3, 9] if kind == 2 else [9]
    rest = [21_000, to, 5, call, *([[]] if kind else [])]
    fields = [*before, 4, *fees, *rest]
    unsigned = rlp.encode([*fields, 0x7A69, 0, 0] if kind == 0 else fields)
    signature = SIGNER.sign(keccak256((bytes([kind]) if kind else b"") + unsigned))
    v, r, s = signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    v = v + 35 + 2 * 0x7A69 if kind == 0 else v
    raw = (bytes([kind]) if kind else b"") + bytes(rlp.encode([*fields, v, r, s]))
    said = {"type": hex(kind), "chainId": "0x7a69", "nonce": "0x4", "gas": hex(21_000), "gasPrice": "0x9"}
    said |= {"maxPriorityFeePerGas": "0x3", "maxFeePerGas": "0x9"} if kind == 2 else {}
    said |= {"to": "0x" + to.hex(), "value": "0x5", "input": "0x0102", "v": hex(v), "r": hex(r), "s": hex(s)}
    return raw, said | ({"accessList": []} if kind else {})


def found(raw: bytes, answer: object) -> tuple[bytes, ...]:
    """What a chain makes of a node that says this of the one transaction behind an event, which it tells of twice."""
    log = {"address": "0x" + ADDRESS.hex(), "topics": ["0x" + "11" * 32], "data": "0x"}
    log["transactionHash"] = "0x" + keccak256(raw).hex()
    answers: Any = {"eth_blockNumber": result("0x9"), "eth_getLogs": result([log, log])}
    with node(**answers, eth_getTransactionByHash=result(answer)) as (chain, server, _):
        raws = chain.transactions_behind(ADDRESS, b"\x11" * 32, 0)
        assert [method for method, _ in server.asked].count("eth_getTransactionByHash") == 1
        return raws


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_transactions_behind_events_are_rebuilt_from_what_a_node_says(kind: int) -> None:
    raw, said = signed(kind)
    assert found(raw, said) == (raw,)
    assert decode_transaction(raw).sender == SIGNER.address


def test_a_node_that_makes_a_transaction_up_is_refused() -> None:
    raw, said = signed(2)
    for change in ({"input": "0x0103"}, {"nonce": "0x5"}, {"r": "0x1"}, {"to": None}, {"type": "0x1"}):
        with pytest.raises(ChainAnswerError, match="another transaction's"):
            found(raw, said | change)
    for answer in (None, {}, said | {"nonce": "four"}, said | {"accessList": "0x"}, said | {"input": 7}):
        with pytest.raises(ChainAnswerError):
            found(raw, answer)


def test_a_transaction_of_a_type_that_is_not_known_is_left_out() -> None:
    raw, said = signed(2)
    entry = {"address": "0x" + ADDRESS.hex(), "storageKeys": []}
    for change in ({"type": "0x3"}, {"type": "0x4"}, {"accessList": [entry]}):
        assert found(raw, said | change) == ()


def test_a_node_that_claims_endless_blocks_is_not_asked_for_their_logs() -> None:
    for claimed in (10**8 + 7, 2**63, 2**255):
        with node(eth_blockNumber=result(hex(claimed)), eth_getLogs=result([])) as (chain, server, _):
            with pytest.raises(ChainAnswerError):
                chain.logs(ADDRESS, b"\x11" * 32, 7)
            assert [method for method, _ in server.asked if method == "eth_getLogs"] == []


def asked(server: Node) -> list[tuple[str, list[Any]]]:
    return [(method, parameters) for method, parameters in server.asked if parameters]
