"""The auditor's side of a run's base chain: every transaction is one that the task must have sent, and nothing else.

A contract is as good as the code and the keys it was given, so each transaction is compared with the one that genesis
and certificates demand, before any is executed. What is executed then is our contract with our keys, and no more work
than they make: a hostile record cannot keep a verifier busy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rlp

from collegium.consensus import EpochSet
from collegium.crypto import (
    BlsPublicKey,
    decode_certificate,
    g1_uncompressed,
    g2_uncompressed,
    keccak256,
    recover_address,
    verify_certificate,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    Deployment,
    EmbeddedChain,
    Genesis,
    SentTransaction,
    attach,
    contract,
    contract_address,
    read_checkpoints,
    settlement_creation,
    verify_replay,
)

from ._base_chain import (
    EMBEDDED_CHAIN_ID,
    EMBEDDED_TIMESTAMP_S,
    FUNDING_WEI,
    FUNDS_WEI,
    REGISTRATION_GAS_MAX,
    STAKE_MIN_WEI,
    UNBONDING_S,
    ChainRecord,
    ChainRecordError,
)

__all__ = ["check_chain"]

TRANSACTION_BYTES_MAX = 1 << 16
FIELDS_COUNT = 12  # of a transaction of type 2 with its signature (EIP-1559)
ROUNDS_MAX = 1 << 48  # as the contract counts them
POSSESSION_BYTES = 96  # at the end of a registration's data; the contract checks it
# Limits of gas that a run's own transactions keep with room to spare: docs/spec/settlement.md has what they use.
FUNDING_GAS_MAX = 100_000
CREATION_GAS_MAX = 10_000_000
OPENING_GAS_MAX = 1 << 24
CHECKPOINT_GAS_MAX = 2_000_000


@dataclass(frozen=True, slots=True)
class _Call:
    """A transaction that must have been sent. `free_bytes` at the end of its data are not ours to say."""

    what: str
    sender: bytes
    to: bytes
    value: int
    data: bytes
    gas_max: int
    free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Transaction:
    """A transaction that was sent, as its signed bytes say."""

    chain_id: int
    nonce: int
    gas_max: int
    sender: bytes
    to: bytes
    value: int
    data: bytes


def check_chain(record: ChainRecord, url: str | None, epoch_set: EpochSet, operator: bytes) -> None:
    """Check every certificate and transaction and, on the embedded chain, execute all again and read the result back.

    Args:
        record: what the run says of its chain; its checkpoints are those of the ledger's headers.
        url: the node that the experiment names, None for the embedded chain: a record cannot choose the weaker check.
        epoch_set: who must have registered, in this order, and certified each checkpoint.
        operator: account that deployed the contracts and posted the checkpoints.

    Raises:
        CollegiumError: naming what does not hold.
    """
    if record.url != url:
        raise ChainRecordError(f"the record is of {record.url or 'an embedded chain'}, expected {url or 'embedded'}")
    # 1. certificates
    keys = [BlsPublicKey(validator.bls_key) for validator in epoch_set.validators]
    previous, settled = NO_CHECKPOINT, 0
    for checkpoint, data in zip(record.checkpoints, record.certificates, strict=True):
        found = (checkpoint.task, checkpoint.epoch, checkpoint.previous, checkpoint.first_round)
        if found != (epoch_set.task, epoch_set.epoch, previous, settled):
            raise ChainRecordError(f"checkpoint of round {checkpoint.last_round} does not follow the one before")
        if not settled <= checkpoint.last_round < ROUNDS_MAX:
            raise ChainRecordError(f"checkpoint of rounds {settled} to {checkpoint.last_round} settles no rounds")
        verify_certificate(keys, epoch_set.quorum, checkpoint.digest, decode_certificate(data, len(keys)))
        previous, settled = checkpoint.digest, checkpoint.last_round + 1
    # 2. addresses: they follow from who created what
    settlement = contract_address(operator, 0)
    deployment = Deployment(epoch_set.task, settlement, contract_address(settlement, 1), record.deployment.block)
    if record.deployment != deployment:
        raise ChainRecordError(f"the contracts are at {settlement.hex()} and its registry, the record says otherwise")
    # 3. transactions
    calls = [*_set_up_calls(epoch_set, operator, deployment), *_checkpoint_calls(record, operator)]
    sizes = tuple(len(call.data) for call in calls[-len(record.checkpoints) :])
    if record.calldata_bytes != sizes:
        raise ChainRecordError(f"checkpoints take {sizes} bytes, the record says {record.calldata_bytes}")
    if url is None:
        _check_embedded(record, calls, epoch_set, operator)
    else:
        _check_node(record, calls, epoch_set, operator)


def _set_up_calls(epoch_set: EpochSet, operator: bytes, deployment: Deployment) -> Iterator[_Call]:
    """Yield what founds a task: the contracts, one registration for each validator, and the first epoch."""
    settlement, registry = contract("Settlement"), contract("Registry")
    creation = settlement_creation(epoch_set.task, first_round=0, stake_min_wei=STAKE_MIN_WEI, unbonding_s=UNBONDING_S)
    yield _Call("the contracts' creation", operator, b"", 0, creation, CREATION_GAS_MAX)
    for validator in epoch_set.validators:
        key = g2_uncompressed(BlsPublicKey(validator.bls_key))
        yield _Call(
            what=f"validator {validator.index}'s registration",
            sender=validator.account,
            to=deployment.registry,
            value=validator.stake,
            data=registry.call("register", key, bytes(POSSESSION_BYTES)),
            gas_max=REGISTRATION_GAS_MAX,
            free_bytes=POSSESSION_BYTES,
        )
    opening = settlement.call("openFirstEpoch", tuple(range(epoch_set.size)))
    yield _Call("the first epoch's opening", operator, deployment.settlement, 0, opening, OPENING_GAS_MAX)


def _checkpoint_calls(record: ChainRecord, operator: bytes) -> Iterator[_Call]:
    """Yield what settles the record's checkpoints with the record's certificates."""
    for checkpoint, data in zip(record.checkpoints, record.certificates, strict=True):
        bitmap, signature = data[:-48], data[-48:]
        rounds = (checkpoint.epoch, checkpoint.first_round, checkpoint.last_round)
        certificate = (int.from_bytes(bitmap, "little"), g1_uncompressed(signature))
        call = contract("Settlement").call("checkpoint", *rounds, checkpoint.root, *certificate)
        what = f"the checkpoint of rounds {checkpoint.first_round} to {checkpoint.last_round}"
        yield _Call(what, operator, record.deployment.settlement, 0, call, CHECKPOINT_GAS_MAX)


def _check_embedded(record: ChainRecord, calls: Sequence[_Call], epoch_set: EpochSet, operator: bytes) -> None:
    """Check an embedded chain's transactions, execute them again, and compare what the contracts then hold."""
    transcript = record.transcript
    if transcript is None or record.sent:
        raise ChainRecordError("the record of an embedded chain must hold its transcript and nothing else")
    accounts = (operator, *(validator.account for validator in epoch_set.validators))
    if transcript.genesis != Genesis(
        EMBEDDED_CHAIN_ID, EMBEDDED_TIMESTAMP_S, tuple((account, FUNDS_WEI) for account in accounts)
    ):
        raise ChainRecordError("the embedded chain's genesis is not that of the task's operator and validators")
    _check_transactions(transcript.transactions, calls, EMBEDDED_CHAIN_ID, Counter())
    for index, sent in enumerate(transcript.transactions):
        if sent.timestamp_s != EMBEDDED_TIMESTAMP_S + 1 + index:  # its clock ticks once a block
            raise ChainRecordError(f"transaction {index} has timestamp {sent.timestamp_s}, which no run gives it")
    chain = verify_replay(transcript)
    attached = attach(chain, record.deployment.settlement, chain.receipts[0].block)
    if attached != record.deployment:
        raise ChainRecordError(f"the chain holds the deployment {attached}, the record {record.deployment}")
    _check_seats(chain, attached, epoch_set)
    if read_checkpoints(chain, attached) != record.checkpoints:
        raise ChainRecordError("the chain holds other checkpoints than the record")
    gas = tuple(receipt.gas for receipt in chain.receipts[len(calls) - len(record.checkpoints) :])
    if gas != record.gas:
        raise ChainRecordError(f"checkpoints cost {gas} gas, the record says {record.gas}")


def _check_seats(chain: EmbeddedChain, deployment: Deployment, epoch_set: EpochSet) -> None:
    """Check that the contract counts the votes of exactly the epoch set's keys, seat by seat."""
    registry, settlement = contract("Registry"), contract("Settlement")
    keys = []
    for validator, receipt in zip(epoch_set.validators, chain.receipts[1:], strict=False):
        registered = [registry.event("Registered", log) for log in receipt.logs]
        found = [(event["id"], _address(event["account"]), event["stake"]) for event in registered]
        if found != [(validator.index, validator.account, validator.stake)]:
            raise ChainRecordError(f"the chain registered {found}, expected validator {validator.index}")
        keys.append(registered[0]["key"])
    (seated,) = settlement.result("seatKeys", _ask(chain, deployment.settlement, settlement.call("seatKeys")))
    if list(seated) != keys:
        raise ChainRecordError("the keys of the chain's epoch set are not those of the genesis, seat by seat")


def _check_node(record: ChainRecord, calls: Sequence[_Call], epoch_set: EpochSet, operator: bytes) -> None:
    """Check the transactions that a node was sent: first one account pays everybody, then as everywhere."""
    if record.transcript is not None:
        raise ChainRecordError("the record of a node holds a transcript, which only an embedded chain has")
    if not record.sent:
        raise ChainRecordError("the record of a node holds no transaction")
    first = _decode_transaction(0, record.sent[0])
    accounts = (operator, *(validator.account for validator in epoch_set.validators))
    funding = [
        _Call(f"the funding of {account.hex()}", first.sender, account, FUNDING_WEI, b"", FUNDING_GAS_MAX)
        for account in accounts
    ]
    _check_transactions(record.sent, [*funding, *calls], first.chain_id, Counter({first.sender: first.nonce}))


def _check_transactions(
    sent: Sequence[SentTransaction], calls: Sequence[_Call], chain_id: int, nonces: Counter[bytes]
) -> None:
    """Check that exactly these calls were sent, in this order.

    Args:
        nonces: how many transactions each account had sent before; is counted on.
    """
    if len(sent) != len(calls):
        extra = f"; number {len(calls)} is one too many" if len(sent) > len(calls) else ""
        raise ChainRecordError(f"{len(sent)} transactions were sent, this run sends {len(calls)}{extra}")
    for index, (transaction, call) in enumerate(zip(sent, calls, strict=True)):
        found = _decode_transaction(index, transaction)
        kept = len(call.data) - call.free_bytes
        checks = {
            "chain": (found.chain_id, chain_id),
            "sender": (found.sender.hex(), call.sender.hex()),
            "nonce": (found.nonce, nonces[call.sender]),
            "receiver": (found.to.hex(), call.to.hex()),
            "value": (found.value, call.value),
            "length": (len(found.data), len(call.data)),
        }
        for name, (value, expected) in checks.items():
            if value != expected:
                raise ChainRecordError(f"transaction {index}, {call.what}: {name} is {value}, expected {expected}")
        if found.data[:kept] != call.data[:kept]:
            raise ChainRecordError(f"transaction {index} is not {call.what} as genesis and certificates give it")
        if found.gas_max > call.gas_max:
            raise ChainRecordError(
                f"transaction {index}, {call.what}: may use {found.gas_max} gas, expected at most {call.gas_max}"
            )
        nonces[call.sender] += 1


def _decode_transaction(index: int, sent: SentTransaction) -> _Transaction:
    """Return what a raw transaction of type 2 without access list says, and who signed it."""
    raw = sent.raw
    if len(raw) > TRANSACTION_BYTES_MAX or raw[:1] != b"\x02":
        raise ChainRecordError(
            f"transaction {index} has {len(raw)} bytes, expected at most {TRANSACTION_BYTES_MAX} of type 2"
        )
    try:
        fields = rlp.decode(raw[1:])
    except (rlp.RLPException, RecursionError) as error:
        raise ChainRecordError(f"transaction {index} is malformed: {type(error).__name__}") from error
    texts = [field for field in fields if isinstance(field, bytes)] if isinstance(fields, list) else []
    if len(texts) != FIELDS_COUNT - 1 or len(fields) != FIELDS_COUNT or fields[8] != []:
        raise ChainRecordError(f"transaction {index} has other fields than a transaction of type 2, or an access list")
    signed = keccak256(b"\x02" + rlp.encode(fields[:9]))
    chain_id, nonce, _, _, gas_max, to, value, data, v, r, s = texts
    try:
        sender = recover_address(signed, r.rjust(32, b"\0") + s.rjust(32, b"\0") + v.rjust(1, b"\0"))
    except CollegiumError as error:
        raise ChainRecordError(f"transaction {index}: {error}") from error
    return _Transaction(_integer(chain_id), _integer(nonce), _integer(gas_max), sender, to, _integer(value), data)


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _ask(chain: Chain, to: bytes, data: bytes) -> bytes:
    return chain.call(bytes(20), to, data)
