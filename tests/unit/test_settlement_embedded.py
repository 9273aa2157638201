"""The embedded chain: what may enter a block, and that the same transactions always do the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account as EthAccount

from collegium.crypto import AccountKey, Stream, hash_fields, keccak256
from collegium.settlement import (
    ArtifactError,
    ChainAnswerError,
    ContractRefusedError,
    EmbeddedChain,
    Fees,
    Genesis,
    Log,
    ReplayMismatchError,
    Role,
    SentTransaction,
    TransactionFailedError,
    TransactionRefusedError,
    Transcript,
    TranscriptError,
    contract,
    contract_address,
    decode_transcript,
    deploy,
    encode_transcript,
    enrol,
    replay,
    sign_transaction,
    transact,
    transcribe,
    unbond,
    verify_replay,
)

STREAM = Stream(hash_fields("test-settlement-embedded"))
ALICE, BOB = (AccountKey.generate(STREAM) for _ in range(2))
GENESIS = Genesis(chain_id=77, timestamp_s=1_800_000_000, balances=((ALICE.address, 10**21),))
TASK = hash_fields("test-task")


def transfer(chain: EmbeddedChain, **changes: object) -> bytes:
    """A raw transaction that sends Bob 5 wei, but for the changes."""
    fields = {"chain_id": chain.chain_id, "nonce": chain.nonce(ALICE.address), "fees": chain.fees()}
    fields |= {"gas_max": 21_000, "to": BOB.address, "value": 5, "data": b""}
    return sign_transaction(ALICE, **(fields | changes))  # type: ignore[arg-type]


def small_transcript() -> Transcript:
    chain = EmbeddedChain(GENESIS)
    for _ in range(2):
        chain.send(transfer(chain))
    return transcribe(chain)


def test_what_a_contract_stored_can_be_asked_for_after_any_block() -> None:
    """The root is the chain's own commitment: it changes with what is stored, and never for a block that was."""
    chain = EmbeddedChain(GENESIS)
    nothing = chain.storage_root(BOB.address, 0)
    assert nothing == keccak256(b"\x80")  # the root of an empty trie
    deployment = deploy(chain, ALICE, TASK)
    founded = chain.final_block()
    roots = [chain.storage_root(deployment.registry, founded)]
    member = enrol(chain, deployment, ALICE, Role.TRAINER, b"\x01" * 32, 10**18)
    unbond(chain, deployment, ALICE, member)
    roots += [chain.storage_root(deployment.registry, block) for block in (founded + 1, founded + 2)]
    assert chain.final_block() == founded + 2
    assert roots[0] == nothing  # an immutable is in the code
    assert len(set(roots)) == 3
    assert [chain.storage_root(deployment.registry, founded + place) for place in range(3)] == roots
    assert verify_replay(transcribe(chain)).storage_root(deployment.registry, founded + 1) == roots[1]
    with pytest.raises(ContractRefusedError, match="UnknownMember"):
        chain.call(BOB.address, deployment.registry, contract("Registry").call("member", member), block=founded)


def test_a_signed_transaction_is_the_one_of_another_library() -> None:
    fees = Fees(gas_price_max=3, tip_max=1)
    ours = sign_transaction(
        ALICE, chain_id=77, nonce=2, fees=fees, gas_max=10**6, to=BOB.address, value=9, data=b"\x00data"
    )
    theirs = EthAccount.sign_transaction(
        {
            "type": 2,
            "chainId": 77,
            "nonce": 2,
            "maxPriorityFeePerGas": 1,
            "maxFeePerGas": 3,
            "gas": 10**6,
            "to": BOB.address,
            "value": 9,
            "data": b"\x00data",
        },
        ALICE.secret,
    )
    assert ours == bytes(theirs.raw_transaction)


def test_coin_moves_and_time_passes_only_with_transactions() -> None:
    chain = EmbeddedChain(GENESIS)
    assert chain.timestamp_s() == GENESIS.timestamp_s
    receipt = chain.send(transfer(chain))
    assert (receipt.block, receipt.succeeded, receipt.gas, receipt.logs) == (1, True, 21_000, ())
    assert chain.balance(BOB.address) == 5
    assert chain.nonce(ALICE.address) == 1
    assert chain.timestamp_s() == GENESIS.timestamp_s + 1
    chain.advance_to(GENESIS.timestamp_s + 100)
    assert chain.timestamp_s() == GENESIS.timestamp_s + 1
    chain.advance_to(GENESIS.timestamp_s)  # never back
    chain.send(transfer(chain))
    assert chain.timestamp_s() == GENESIS.timestamp_s + 100


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": 78},
        {"nonce": 1},
        {"value": 10**21},
        {"gas_max": 20_999},
        {"gas_max": 16_777_217},
        {"fees": Fees(gas_price_max=1, tip_max=0)},
        {"fees": Fees(gas_price_max=10**10, tip_max=10**11)},
        {"to": b"short"},
    ],
    ids=str,
)
def test_a_transaction_that_breaks_a_rule_is_refused_and_leaves_no_trace(changes: dict[str, object]) -> None:
    chain = EmbeddedChain(GENESIS)
    root = chain.state_root
    with pytest.raises(TransactionRefusedError):
        chain.send(transfer(chain, **changes))
    assert (chain.state_root, chain.sent, chain.receipts) == (root, (), ())
    chain.send(transfer(chain))


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x02\xc0", b"\x05\xc0", bytes(100), b"\xff" * 200])
def test_bytes_that_are_no_transaction_are_refused(raw: bytes) -> None:
    with pytest.raises(TransactionRefusedError):
        EmbeddedChain(GENESIS).send(raw)


def test_a_transaction_that_reverts_costs_gas_and_says_so() -> None:
    chain = EmbeddedChain(GENESIS)
    deployment = deploy(chain, ALICE, TASK)
    data = contract("Registry").call("unbond", 0)
    with pytest.raises(ContractRefusedError) as refusal:
        transact(chain, ALICE, deployment.registry, data)
    assert refusal.value.values == {"error": "UnknownMember", "arguments": (0,)}
    assert len(chain.sent) == 1
    with pytest.raises(TransactionFailedError):
        transact(chain, ALICE, deployment.registry, data, gas_max=100_000)
    assert (len(chain.sent), chain.receipts[-1].succeeded) == (2, False)


def test_a_transaction_is_found_again_by_what_was_sent() -> None:
    chain = EmbeddedChain(GENESIS)
    raw = transfer(chain)
    assert chain.mined(raw) is None
    receipt = chain.send(raw)
    assert chain.mined(raw) == receipt
    assert chain.mined(transfer(chain)) is None  # of the next nonce


def test_a_call_that_could_not_be_paid_is_refused() -> None:
    chain = EmbeddedChain(GENESIS)
    with pytest.raises(TransactionRefusedError):
        chain.call(BOB.address, ALICE.address, b"", value=1)


def test_a_contract_is_where_its_creator_and_nonce_put_it() -> None:
    chain = EmbeddedChain(GENESIS)
    chain.send(transfer(chain))
    deployment = deploy(chain, ALICE, TASK)
    assert deployment.settlement == contract_address(ALICE.address, 1)
    assert deployment.registry == contract_address(deployment.settlement, 1)
    assert deployment.block == 2


def test_a_replay_is_the_same_chain() -> None:
    chain = EmbeddedChain(GENESIS)
    deploy(chain, ALICE, TASK)
    chain.advance_to(GENESIS.timestamp_s + 5000)
    chain.send(transfer(chain))
    transcript = transcribe(chain)
    again = verify_replay(transcript)
    assert transcribe(again) == transcript
    assert encode_transcript(transcribe(again)) == encode_transcript(transcript)
    assert decode_transcript(encode_transcript(transcript)) == transcript


def test_one_flipped_bit_of_a_transaction_is_detected() -> None:
    transcript = small_transcript()
    first, second = transcript.transactions
    for index in range(len(second.raw)):
        changed = bytearray(second.raw)
        changed[index] ^= 1
        bent = replace(transcript, transactions=(first, replace(second, raw=bytes(changed))))
        with pytest.raises((TransactionRefusedError, ReplayMismatchError)):
            verify_replay(bent)


def test_any_other_change_of_a_transcript_is_detected() -> None:
    right = small_transcript()
    first, second = right.transactions
    verify_replay(right)
    rich = replace(GENESIS, balances=((ALICE.address, 10**21 + 1),))
    for change, error in (
        ({"state_root": bytes(32)}, ReplayMismatchError),
        ({"receipts": right.receipts[:1]}, ReplayMismatchError),
        ({"receipts": (right.receipts[0], replace(right.receipts[1], gas=21_001))}, ReplayMismatchError),
        ({"transactions": (first,)}, ReplayMismatchError),
        ({"transactions": (second, first)}, TransactionRefusedError),
        ({"transactions": (first, replace(second, timestamp_s=first.timestamp_s))}, ReplayMismatchError),
        ({"genesis": rich}, ReplayMismatchError),
        ({"genesis": replace(GENESIS, chain_id=78)}, TransactionRefusedError),
    ):
        with pytest.raises(error):
            verify_replay(replace(right, **change))


def test_a_timestamp_is_part_of_what_contracts_see() -> None:
    """Two replays that differ in one timestamp end in two states: the registry stores when a stake is free."""
    chain = EmbeddedChain(GENESIS)
    deploy(chain, ALICE, TASK)
    later = [SentTransaction(chain.sent[0].raw, chain.sent[0].timestamp_s + 1)]
    assert replay(GENESIS, chain.sent).state_root == chain.state_root
    assert replay(GENESIS, later).timestamp_s() == chain.timestamp_s() + 1


def test_a_transcript_has_one_encoding() -> None:
    data = encode_transcript(small_transcript())
    for bad in (
        b"",
        b"{}",
        data[:-1],
        data + b" ",
        b" " + data,
        data.replace(b'"chain_id":77', b'"chain_id":-1'),
        data.replace(b'"chain_id":77', b'"chain_id":77,"more":1'),
        data.replace(b'"chain_id":77', b'"chain_id":077'),
        data.replace(b'"timestamp_s":1800000001', b'"timestamp_s":9223372036854775808'),
        encode_transcript(replace(small_transcript(), genesis=replace(GENESIS, balances=((b"short", 1),)))),
    ):
        with pytest.raises(TranscriptError):
            decode_transcript(bad)


def test_a_contract_has_no_members_but_its_own() -> None:
    with pytest.raises(ArtifactError):
        contract("Settlement").call("pause")
    with pytest.raises(ArtifactError):
        contract("Vault")


def test_a_log_or_an_answer_of_another_shape_is_refused() -> None:
    topic = contract("Registry").topic("Unbonding")
    assert topic == keccak256(b"Unbonding(uint256,uint256)")
    log = Log(bytes(20), (topic, (7).to_bytes(32, "big")), (9).to_bytes(32, "big"))
    assert contract("Registry").event("Unbonding", log) == {"id": 7, "earliest": 9}
    for change in ({"topics": (topic,)}, {"topics": (bytes(32), log.topics[1])}, {"data": b""}):
        with pytest.raises(ChainAnswerError):
            contract("Registry").event("Unbonding", replace(log, **change))
    with pytest.raises(ChainAnswerError):
        contract("Registry").result("count", b"\x01")
