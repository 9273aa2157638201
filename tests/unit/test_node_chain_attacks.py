"""The record of a run's base chain against an operator who makes it up: every attack beside the record that holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import msgspec
import pytest
import rlp

from collegium.consensus import EpochSet, Validator, ValidatorIndex
from collegium.crypto import (
    AccountKey,
    BadCertificateError,
    BlsPublicKey,
    BlsSecretKey,
    Certificate,
    QuorumNotReachedError,
    Stream,
    encode_certificate,
    make_certificate,
)
from collegium.errors import CollegiumError
from collegium.node import _base_chain as base_chain
from collegium.node import _chain_check as chain_check
from collegium.node._base_chain import BaseChain
from collegium.node._chain_check import check_chain
from collegium.node._chain_record import ChainRecord, ChainRecordError, decode_chain_record, encode_chain_record
from collegium.node._chain_terms import EMBEDDED_CHAIN_ID, STAKE_WEI
from collegium.node._epochs import KnownEpoch
from collegium.settlement import (
    Checkpoint,
    EmbeddedChain,
    Fees,
    Genesis,
    ReplayMismatchError,
    SentTransaction,
    deploy,
    handover_digest,
    header_root,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    register_validator,
    sign_transaction,
    transcribe,
)

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
SIZE = 4
NODE = "http://127.0.0.1:8545"
TASK = bytes(range(32))
LOOP = bytes.fromhex("5b600056")  # JUMPDEST PUSH1 0 JUMP
DEAR = Fees(gas_price_max=10**10, tip_max=0)


@dataclass(frozen=True)
class _Signer:
    """A validator as `BaseChain.settle` asks it."""

    index: int
    key: BlsSecretKey

    def sign_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        return self.key.sign(checkpoint.digest)


@dataclass(frozen=True)
class Keys:
    """Everybody's secrets."""

    operator: AccountKey
    accounts: list[AccountKey]
    voting: list[BlsSecretKey]

    @property
    def epoch_set(self) -> EpochSet:
        return EpochSet(
            TASK,
            0,
            tuple(
                Validator(ValidatorIndex(index), bytes(key.public_key()), account.address, STAKE_WEI)
                for index, (account, key) in enumerate(zip(self.accounts, self.voting, strict=True))
            ),
        )


@cache
def keys() -> Keys:
    random = Stream(bytes(32))
    return Keys(
        AccountKey.generate(random),
        [AccountKey.generate(random) for _ in range(SIZE)],
        [BlsSecretKey.generate(random) for _ in range(SIZE)],
    )


@cache
def record() -> ChainRecord:
    """Return the record of an honest run of two checkpoints."""
    chain = BaseChain.found(
        None, keys().operator, keys().epoch_set, list(zip(keys().accounts, keys().voting, strict=True))
    )
    signers: Any = [_Signer(index, key) for index, key in enumerate(keys().voting)]
    chain.settle(header_root([bytes(32), bytes(32)]), 1, signers)
    chain.settle(header_root([bytes([1]) * 32]), 2, signers[1:])
    return chain.record()


def check(forged: ChainRecord) -> None:
    check_chain(forged, None, keys().epoch_set, keys().operator.address)


def refused(forged: ChainRecord, reason: str, error: type[Exception] = ChainRecordError) -> None:
    with pytest.raises(error, match=reason):
        check(forged)


def resent(index: int, **changes: Any) -> ChainRecord:
    """Return the record with one of its transactions changed and signed again by whose it is."""
    transcript = record().transcript
    assert transcript is not None
    old = transcript.transactions[index]
    chain_id, nonce, tip, price, gas, to, value, data = rlp.decode(old.raw[1:])[:8]
    signers = [keys().operator, *keys().accounts, *[keys().operator] * 3]
    sent: dict[str, Any] = {
        "account": signers[index],
        "chain_id": int.from_bytes(chain_id, "big"),
        "nonce": int.from_bytes(nonce, "big"),
        "fees": Fees(int.from_bytes(price, "big"), int.from_bytes(tip, "big")),
        "gas_max": int.from_bytes(gas, "big"),
        "to": to,
        "value": int.from_bytes(value, "big"),
        "data": data,
    }
    change = changes.pop("change", None)
    raw = sign_transaction(**{**sent, **changes, **({} if change is None else {"data": change(data)})})
    return retold(index, replace(old, raw=raw))


def retold(index: int, sent: SentTransaction) -> ChainRecord:
    transcript = record().transcript
    assert transcript is not None
    transactions = list(transcript.transactions)
    transactions[index] = sent
    return replace(record(), transcript=replace(transcript, transactions=tuple(transactions)))


def test_an_honest_record_holds_and_reads_back() -> None:
    check(record())
    assert decode_chain_record(encode_chain_record(record())) == record()


def test_signing_a_transaction_again_changes_nothing() -> None:
    assert resent(1) == record()
    assert resent(6) == record()


def test_a_set_of_one_seat_that_the_operator_opened_for_itself_settles_nothing() -> None:
    """The attack: the contracts are the right ones, but count the votes of a key that the operator made up."""
    mine, operator = BlsSecretKey.generate(Stream(bytes([1]) * 32)), keys().operator
    transcript = record().transcript
    assert transcript is not None
    chain = EmbeddedChain(transcript.genesis)
    deployment = deploy(chain, operator, TASK)
    proof = mine.prove_possession(possession_context(chain.chain_id, deployment.registry, operator.address))
    number = register_validator(chain, deployment, operator, mine.public_key(), proof, STAKE_WEI)
    open_first_epoch(chain, deployment, operator, [number])
    receipts = [
        post_checkpoint(chain, deployment, operator, checkpoint, make_certificate(1, {0: mine.sign(checkpoint.digest)}))
        for checkpoint in record().checkpoints
    ]
    forged = replace(
        record(),
        transcript=transcribe(chain),
        gas=tuple(receipt.gas for receipt in receipts),
        calldata_bytes=tuple(receipt.calldata_bytes for receipt in receipts),
    )
    refused(forged, r"5 transactions were sent, this run sends 8$")


@pytest.mark.parametrize("count", [1, 9])
def test_contracts_that_never_end_are_refused_before_they_run(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(chain_check, "verify_replay")
    transcript = record().transcript
    assert transcript is not None
    loops = tuple(
        SentTransaction(
            sign_transaction(
                keys().operator,
                chain_id=EMBEDDED_CHAIN_ID,
                nonce=nonce,
                fees=DEAR,
                gas_max=16_777_216,
                to=None,
                value=0,
                data=LOOP,
            ),
            base_chain.EMBEDDED_TIMESTAMP_S + 1 + nonce,
        )
        for nonce in range(count)
    )
    one_too_many = "; number 8 is one too many" if count > 8 else "$"
    forged = replace(record(), transcript=replace(transcript, transactions=loops))
    refused(forged, f"^{count} transactions were sent, this run sends 8{one_too_many}")
    filled = (*loops[:1], *transcript.transactions[1:])
    forged = replace(record(), transcript=replace(transcript, transactions=filled))
    refused(forged, "transaction 0, the contracts' creation: length is 4, expected ")


@pytest.mark.parametrize(
    ("index", "changes", "reason"),
    [
        (0, {"gas_max": 12_000_001}, "may use 12000001 gas, expected at most 12000000"),
        (0, {"value": 1}, "creation: value is 1, expected 0"),
        (0, {"change": lambda data: data[:-1] + b"\1"}, "is not the contracts' creation"),  # the unbonding delay
        (0, {"change": lambda data: data[:100] + b"\0" + data[101:]}, "is not the contracts' creation"),
        (0, {"to": bytes(20)}, "creation: receiver is 00"),
        (0, {"chain_id": 1}, "chain is 1, expected 1337"),
        (2, {"nonce": 1}, "validator 1's registration: nonce is 1, expected 0"),
        (2, {"value": 2 * 10**18}, "validator 1's registration: value is 2000000000000000000"),
        (2, {"change": lambda data: data[:120] + b"\0" + data[121:]}, "is not validator 1's registration"),
        (5, {"change": lambda data: data[:-1] + b"\2"}, "is not the first epoch's opening"),  # seat 3 counts twice
        (6, {"change": lambda data: data[:-1] + b"\0"}, "is not the checkpoint of rounds 0 to 1"),
        (7, {"gas_max": 2_000_001}, "the checkpoint of rounds 2 to 2: may use 2000001 gas"),
    ],
)
def test_a_transaction_that_says_something_else_is_named(index: int, changes: dict[str, Any], reason: str) -> None:
    refused(resent(index, **changes), f"transaction {index}.*{reason}")


def test_a_transaction_of_somebody_else_is_named() -> None:
    refused(resent(1, account=keys().operator), "validator 0's registration: sender is")
    refused(resent(6, account=keys().accounts[0]), "the checkpoint of rounds 0 to 1: sender is")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "has 0 bytes"),
        (b"\x02" + bytes(1 << 16), "has 65537 bytes"),
        (b"\x01\xc0", "of type 2"),
        (b"\x02\xc0", "has other fields"),
        (b"\x02\x80", "has other fields"),
        (b"\x02" + b"\xc1" * 50, "is malformed"),
        (b"\x02" + rlp.encode([[]] * 12), "has other fields"),
        (b"\x02" + rlp.encode([b""] * 8 + [[]] + [b""] * 3), "curve order"),
        (b"\x02" + rlp.encode([b""] * 8 + [[]] + [b"\1" * 33] * 3), "signature"),
        (b"\x02" + rlp.encode([b""] * 8 + [[[bytes(20), []]]] + [b""] * 3), "or an access list"),
    ],
)
def test_bytes_that_are_no_transaction_are_named(raw: bytes, reason: str) -> None:
    refused(retold(3, SentTransaction(raw, base_chain.EMBEDDED_TIMESTAMP_S + 4)), f"transaction 3.*{reason}")


def test_nested_lists_as_deep_as_the_bytes_allow_are_named() -> None:
    nested: bytes = b"\xc0"
    while len(nested) < 60_000:
        head = b"" if len(nested) < 56 else len(nested).to_bytes((len(nested).bit_length() + 7) // 8, "big")
        nested = (bytes([0xC0 + len(nested)]) if not head else bytes([0xF7 + len(head)]) + head) + nested
    refused(retold(3, SentTransaction(b"\x02" + nested, base_chain.EMBEDDED_TIMESTAMP_S + 4)), "transaction 3 ")


@pytest.mark.parametrize("timestamp_s", [0, -1, 1_700_000_004, 2**63, 2**64 - 1])
def test_a_clock_that_no_run_has_is_refused(timestamp_s: int) -> None:
    transcript = record().transcript
    assert transcript is not None
    refused(
        retold(2, replace(transcript.transactions[2], timestamp_s=timestamp_s)),
        f"transaction 2 has timestamp {timestamp_s}, which no run gives it",
    )


def test_a_proof_of_possession_that_does_not_hold_is_refused_by_the_contract() -> None:
    refused(resent(2, change=lambda data: data[:-96] + resent_proof()), "receipt 2 comes out as", ReplayMismatchError)


def resent_proof() -> bytes:
    """Return validator 0's proof: a good point, but not validator 1's possession."""
    transcript = record().transcript
    assert transcript is not None
    data: bytes = rlp.decode(transcript.transactions[1].raw[1:])[7]
    return data[-96:]


def test_the_certificate_on_the_chain_is_the_recorded_one() -> None:
    """Two certificates of one checkpoint, both good: the record must hold the one that the chain was shown."""
    checkpoint = record().checkpoints[0]
    fewer = make_certificate(SIZE, {index: keys().voting[index].sign(checkpoint.digest) for index in range(3)})
    forged = replace(record(), certificates=(encode_certificate(fewer), record().certificates[1]))
    refused(forged, "transaction 6 is not the checkpoint of rounds 0 to 1")


def test_a_certificate_that_does_not_hold_is_refused() -> None:
    good = record().certificates
    bare = encode_certificate(Certificate(b"\x03", good[0][-48:]))
    refused(replace(record(), certificates=(bare, good[1])), "2 of 4 seats signed", QuorumNotReachedError)
    refused(replace(record(), certificates=(b"\x0f" + good[1][-48:], good[1])), "refused", BadCertificateError)


def _elsewhere(old: ChainRecord) -> ChainRecord:
    return replace(old, deployment=replace(old.deployment, settlement=bytes(20)))


def _another_registry(old: ChainRecord) -> ChainRecord:
    return replace(old, deployment=replace(old.deployment, registry=bytes(20)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_elsewhere, "the contracts are at"),
        (_another_registry, "the contracts are at"),
        (lambda old: replace(old, deployment=replace(old.deployment, block=2)), "the chain holds the deployment"),
        (lambda old: replace(old, gas=(1, *old.gas[1:])), "checkpoints cost"),
        (lambda old: replace(old, calldata_bytes=(1, *old.calldata_bytes[1:])), "checkpoints take"),
        (lambda old: replace(old, url="http://127.0.0.1"), "the record is of"),
        (lambda old: replace(old, sent=old.transcript.transactions), "must hold its transcript and nothing else"),
        (lambda old: replace(old, transcript=None), "must hold its transcript and nothing else"),
    ],
)
def test_a_record_that_says_something_else_is_refused(
    change: Callable[[ChainRecord], ChainRecord], reason: str
) -> None:
    refused(change(record()), reason)


@cache
def node_record() -> ChainRecord:
    """Return the record of a run on a node, for which an embedded chain with a rich account stands in."""
    funder = AccountKey(bytes([7]) * 32)
    chain = EmbeddedChain(Genesis(31337, 1_700_000_000, ((funder.address, 10**21),)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(base_chain.FUNDER_VARIABLE, funder.secret.hex())
        patch.setattr(base_chain, "JsonRpcChain", lambda _: chain)
        pairs = list(zip(keys().accounts, keys().voting, strict=True))
        run = BaseChain.found(NODE, keys().operator, keys().epoch_set, pairs)
    signers: Any = [_Signer(index, key) for index, key in enumerate(keys().voting)]
    run.settle(header_root([bytes(32)]), 0, signers)
    return replace(run.record(), transcript=None, sent=chain.sent)


def test_what_a_node_was_sent_is_compared_too() -> None:
    check_chain(node_record(), NODE, keys().epoch_set, keys().operator.address)


def renumbered(old: ChainRecord, index: int, nonce: int) -> ChainRecord:
    """Let the operator send one of its transactions to the node with another nonce."""
    sent = list(old.sent)
    fields = rlp.decode(sent[index].raw[1:])
    gas_max = int.from_bytes(fields[4], "big")
    call = {"fees": DEAR, "gas_max": gas_max, "to": fields[5], "value": 0, "data": fields[7]}
    sent[index] = replace(sent[index], raw=sign_transaction(keys().operator, chain_id=31337, nonce=nonce, **call))
    return replace(old, sent=tuple(sent))


def test_what_somebody_else_settled_at_a_node_stands_on_its_certificate() -> None:
    settled = replace(node_record(), sent=node_record().sent[:-1], gas=(0,))
    check_chain(settled, NODE, keys().epoch_set, keys().operator.address)
    bare = replace(settled, certificates=(b"\x0f" + record().certificates[0][-48:],))
    with pytest.raises(BadCertificateError):
        check_chain(bare, NODE, keys().epoch_set, keys().operator.address)


def test_transactions_that_reverted_at_a_node_leave_gaps_before_what_settles_and_nowhere_else() -> None:
    check_chain(renumbered(node_record(), 11, 7), NODE, keys().epoch_set, keys().operator.address)
    for index, nonce, reason in [(11, 1, "nonce is 1, expected 2"), (10, 3, "opening: nonce is 3, expected 1")]:
        with pytest.raises(ChainRecordError, match=reason):
            check_chain(renumbered(node_record(), index, nonce), NODE, keys().epoch_set, keys().operator.address)


def _stranger(old: ChainRecord) -> ChainRecord:
    """Let the operator register validator 2's key, with a good signature of its own."""
    sent = list(old.sent)
    fields = rlp.decode(sent[8].raw[1:])
    raw = sign_transaction(
        keys().operator,
        chain_id=31337,
        nonce=0,
        fees=DEAR,
        gas_max=500_000,
        to=fields[5],
        value=STAKE_WEI,
        data=fields[7],
    )
    sent[8] = replace(sent[8], raw=raw)
    return replace(old, sent=tuple(sent))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda old: replace(old, sent=()), "holds no transaction"),
        (lambda old: replace(old, sent=old.sent[:-1]), "11 transactions were sent, this run sends 12$"),
        (lambda old: replace(old, sent=(*old.sent, old.sent[0])), "number 12 is one too many"),
        (lambda old: replace(old, sent=(old.sent[1], old.sent[0], *old.sent[2:])), "the funding of .*: receiver"),
        (lambda old: replace(old, gas=(0,)), "number 11 is one too many"),
        (_stranger, "transaction 8, validator 2's registration: sender"),
        (lambda old: replace(old, calldata_bytes=(1,)), r"checkpoints take \(324,\) bytes"),
        (lambda old: replace(old, transcript=record().transcript), "holds a transcript"),
    ],
)
def test_a_node_that_was_sent_something_else_is_refused(
    change: Callable[[ChainRecord], ChainRecord], reason: str
) -> None:
    with pytest.raises(ChainRecordError, match=reason):
        check_chain(change(node_record()), NODE, keys().epoch_set, keys().operator.address)


INTEGERS = (
    ("gas", 0),
    ("calldata_bytes", 1),
    ("deployment", "block"),
    ("checkpoints", 1, "first_round"),
    ("checkpoints", 1, "last_round"),
    ("checkpoints", 1, "epoch"),
    ("transcript", "transactions", 0, "timestamp_s"),
    ("transcript", "genesis", "chain_id"),
    ("transcript", "genesis", "timestamp_s"),
    ("transcript", "genesis", "balances", 0, 1),
    ("transcript", "receipts", 0, "gas"),
)
SIZES = (-1, 0, 2**53, 2**63, 2**64 - 1, 2**64, 10**40, 10**100)


@pytest.mark.parametrize(  # each place is given every second size, and all of them in a full check: some take a replay
    ("where", "value"),
    [(where, value) for number, where in enumerate(INTEGERS) for value in SIZES[number % 2 :: 2]]
    if not FULL
    else list(product(INTEGERS, SIZES)),
)
def test_an_integer_of_any_size_is_refused_by_name(where: tuple[str | int, ...], value: int) -> None:
    document = at = json.loads(encode_chain_record(record()))
    for key in where[:-1]:
        at = at[key]
    if at[where[-1]] == value:
        return
    at[where[-1]] = value
    with pytest.raises(CollegiumError):
        check(decode_chain_record(json.dumps(document, separators=(",", ":")).encode()))


@pytest.mark.parametrize("hostile", [b'{"zzz":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"[" * 500_000, b"null", b""])
def test_bytes_that_are_no_record_are_refused_by_name(hostile: bytes) -> None:
    with pytest.raises(ChainRecordError, match="chain record"):
        decode_chain_record(hostile)


def test_the_main_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class MainNetwork:
        chain_id = 1

    monkeypatch.setenv(base_chain.FUNDER_VARIABLE, "11" * 32)
    monkeypatch.setattr(base_chain, "JsonRpcChain", lambda _: MainNetwork())
    with pytest.raises(ChainRecordError, match="a node of Ethereum's main network"):
        BaseChain.found(NODE, keys().operator, keys().epoch_set, [])
    MainNetwork.chain_id = 31337
    with pytest.raises(AttributeError, match="estimate_gas"):  # it went on, to pay the first account
        BaseChain.found(NODE, keys().operator, keys().epoch_set, [])


# ------------------------------------------------------------------------------------------------ two epochs


@cache
def later() -> KnownEpoch:
    """Return the epoch after the first, from round 2 on: three of the four members, in another order."""
    members = [keys().epoch_set.validators[place] for place in (2, 0, 3)]
    validators = tuple(replace(member, index=ValidatorIndex(seat)) for seat, member in enumerate(members))
    return KnownEpoch(EpochSet(TASK, 1, validators), bytes(32), 2)


def relieve(chain: BaseChain, voting: Sequence[BlsSecretKey]) -> None:
    """Have these keys sign that the later set follows, and send it."""
    members = [BlsPublicKey(member.bls_key) for member in later().epoch_set.validators]
    digest = handover_digest(TASK, 1, chain.facts[-1].checkpoint.digest, members)
    signatures = {seat: key.sign(digest) for seat, key in enumerate(voting)}
    chain.take(chain.certified(later().epoch_set, signatures))


def settled_first() -> BaseChain:
    pairs = list(zip(keys().accounts, keys().voting, strict=True))
    chain = BaseChain.found(None, keys().operator, keys().epoch_set, pairs)
    signers: Any = [_Signer(index, key) for index, key in enumerate(keys().voting)]
    chain.settle(header_root([bytes(32), bytes(32)]), 1, signers)
    return chain


def later_signers() -> Any:
    return [_Signer(seat, keys().voting[place]) for seat, place in enumerate((2, 0, 3))]


@cache
def long_record() -> ChainRecord:
    """Return the record of a run of two epochs, interrupted and gone on with after the handover."""
    chain = settled_first()
    relieve(chain, keys().voting)
    again = BaseChain.resume(chain.record(), keys().operator, keys().epoch_set, [later().epoch_set])
    assert again.epoch_set == later().epoch_set
    again.settle(header_root([bytes(32)]), 2, later_signers())
    return again.record()


def test_a_set_is_relieved_by_the_one_that_it_signs_for_and_settles_no_more() -> None:
    check_chain(long_record(), None, keys().epoch_set, keys().operator.address, [later()])
    assert decode_chain_record(encode_chain_record(long_record())) == long_record()
    chain = settled_first()
    with pytest.raises(CollegiumError, match="InvalidCertificate"):
        relieve(chain, [keys().voting[place] for place in (0, 1, 3)])  # one of them in another's seat
    relieve(chain, keys().voting)
    chain.taken.pop()  # as if it did not know
    old: Any = [_Signer(index, key) for index, key in enumerate(keys().voting)]
    with pytest.raises(CollegiumError, match="WrongEpoch"):
        chain.settle(header_root([bytes(32)]), 2, old)


def test_a_record_is_gone_on_with_by_whoever_knows_its_epochs() -> None:
    with pytest.raises(ChainRecordError, match="the record has 1 handovers, 0 epochs are known"):
        BaseChain.resume(long_record(), keys().operator, keys().epoch_set)
    fresh = BaseChain.resume(record(), keys().operator, keys().epoch_set, [later().epoch_set])
    assert fresh.epoch_set == keys().epoch_set


@pytest.mark.parametrize(
    ("change", "after", "reason"),
    [
        (lambda old: old, (), "1 handovers, the ledger 0 epochs after 0"),
        (lambda old: replace(old, handovers=msgspec.UNSET), (2,), "0 handovers, the ledger 1 epochs after 0"),
        (lambda old: old, (1,), "goes beyond epoch 0"),
        (lambda old: old, (3,), "does not follow the one before"),
        (lambda old: replace(old, handovers=(replace(old.handed_over[0], gas=7),)), (2,), "handovers cost"),
        (
            lambda old: replace(old, checkpoints=(old.checkpoints[0], replace(old.checkpoints[1], epoch=0))),
            (2,),
            "does not follow the one before",
        ),
    ],
)
def test_a_record_of_other_epochs_than_the_ledgers_is_refused(
    change: Callable[[ChainRecord], ChainRecord], after: tuple[int, ...], reason: str
) -> None:
    epochs = [replace(later(), first_round=first) for first in after]
    with pytest.raises(ChainRecordError, match=reason):
        check_chain(change(long_record()), None, keys().epoch_set, keys().operator.address, epochs)


def test_a_set_that_the_one_before_did_not_sign_for_is_refused() -> None:
    """The operator may send any transaction; who may be in office is for the set in office to say."""
    members = [BlsPublicKey(member.bls_key) for member in later().epoch_set.validators]
    digest = handover_digest(TASK, 1, long_record().checkpoints[0].digest, members)
    own = make_certificate(SIZE, {seat: keys().voting[place].sign(digest) for seat, place in enumerate((2, 0, 3))})
    forged = replace(
        long_record(), handovers=(replace(long_record().handed_over[0], certificate=encode_certificate(own)),)
    )
    with pytest.raises(BadCertificateError):
        check_chain(forged, None, keys().epoch_set, keys().operator.address, [later()])
    reordered = replace(later(), epoch_set=EpochSet(TASK, 1, _reversed(later().epoch_set)))
    with pytest.raises(BadCertificateError):
        check_chain(long_record(), None, keys().epoch_set, keys().operator.address, [reordered])


def _reversed(epoch_set: EpochSet) -> tuple[Validator, ...]:
    members = enumerate(reversed(epoch_set.validators))
    return tuple(replace(member, index=ValidatorIndex(seat)) for seat, member in members)
