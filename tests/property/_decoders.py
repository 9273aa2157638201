"""Every decoder of bytes from outside: how it is called, what it accepts, and how a value is written again.

`DECODERS` is the table; `COVERED` names the functions that its entries reach, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _wire_values as wire
import msgspec
import numpy as np
from _fuzzing import Decoder
from _proof_stage import case_of, proof_of
from _proofs_quotes_vendor import SNP, case
from _round_stage import RANDOM, committee, upload_of
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from collegium import aggregation, algebra, commitment, crypto, learning, proofs, settlement
from collegium.aggregation import KeySum, Layout, Report, SeatColumns
from collegium.commitment import ColumnRange
from collegium.consensus import (
    Announcement,
    Ballot,
    Block,
    BlockEquivocation,
    BlockRequest,
    BlockResponse,
    Certified,
    CertifiedResult,
    ChangeOffer,
    Close,
    FollowMessage,
    FollowReply,
    FollowRequest,
    Message,
    QuorumCertificate,
    Registered,
    Relay,
    ShardBatch,
    ShardClose,
    ShardResult,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    ViewEntry,
    Vote,
    VoteEquivocation,
    VoteState,
    decode_evidence,
    decode_follow_message,
    decode_message,
    decode_payload,
    decode_peer_message,
    decode_proof_evidence,
    decode_round_message,
    decode_shard_payload,
    decode_sharded_message,
    decode_upload,
    decode_vote_state,
    encode_evidence,
    encode_follow_message,
    encode_message,
    encode_payload,
    encode_peer_message,
    encode_proof_evidence,
    encode_round_message,
    encode_shard_payload,
    encode_sharded_message,
    encode_upload,
    encode_vote_state,
)
from collegium.consensus._epoch_change_records import (
    Answer,
    DealingRecord,
    EpochRecord,
    Handover,
    Seat,
    TicketRecord,
    Verdict,
    decode_epoch_record,
    encode_epoch_record,
)
from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Digest,
    EcVrf,
    EcVrfSecretKey,
    SecretShare,
    make_certificate,
)
from collegium.errors import CollegiumError
from collegium.incentives import (
    ModelScore,
    QualityState,
    StewardEntry,
    StewardRecord,
    decode_quality_state,
    decode_standing,
    decode_steward_record,
    encode_quality_state,
    encode_standing,
    encode_steward_record,
    new_standing,
    normalise_direction,
    score_commitment,
    sign_steward_record,
)
from collegium.learning import CategoryColumn, ModelSpec, NumericColumn, Rule, Schema
from collegium.lineage import Lineage, MalformedRecordError
from collegium.lineage._record import decode_attributes, encode_attributes
from collegium.node import (
    LearningTask,
    Quantiser,
    TlsFiles,
    TrainerSettings,
    ValidatorSettings,
    VectorTask,
    decode_data_registration,
    decode_experiment,
    decode_genesis,
    decode_licence,
    encode_data_registration,
    encode_licence,
    experiment_from_bytes,
    experiment_to_bytes,
    first_vector_state,
    load_statistics,
)
from collegium.node._chain_check import _decode_transaction
from collegium.node._chain_record import (
    ChainRecord,
    ConvictionRecord,
    HandoverRecord,
    RewardsRecord,
    decode_chain_record,
    encode_chain_record,
)
from collegium.node._entries import Enrolment, Registration
from collegium.node._epoch_wire import EpochMessage, decode_epoch_message, encode_epoch_message
from collegium.node._evaluations import RoundEvaluation, read_evaluations, sign_evaluation
from collegium.node._evidence import Charge, RoundVotes, decode_run_evidence, encode_run_evidence
from collegium.node._figures import RoundFigures, append_figures, read_figures
from collegium.node._gateway_problems import decode_problem, encode_problem
from collegium.node._genesis import Genesis, ValidatorEntry, encode_genesis
from collegium.node._ledger import (
    ObjectIndex,
    decode_index,
    decode_ledger,
    decode_segments,
    encode_index,
    encode_ledger,
    encode_segments,
)
from collegium.node._manifest import MANIFEST, check_manifest, write_manifest
from collegium.node._member_cards import _KINDS as CARD_KINDS
from collegium.node._member_cards import (
    ConfirmCard,
    DealCard,
    EnterCard,
    JoinCard,
    OperatorCard,
    StewardCard,
    TrainerCard,
    ValidatorCard,
    assemble,
    decode_card,
    decode_roster,
    encode_card,
    join_context,
    sign_card,
)
from collegium.node._network_settings import decode_settings, encode_settings
from collegium.node._opened_rows import decode_opened_rows, encode_opened_rows
from collegium.node._peer_frames import BOOT_BYTES, Frames, Lanes, encode_hello, encode_ping
from collegium.node._proofs import RegistrationRecord
from collegium.node._registration import DataRegistration, LicenceRequest
from collegium.node._statement import RoundStatement, SiteStatement, Statement, decode_statement, encode_statement
from collegium.node._steward import Steward
from collegium.node._steward_proofs import StewardEvidence, decode_steward_evidence, encode_steward_evidence
from collegium.node._tls import (
    Authority,
    Identity,
    Role,
    create_authority,
    decode_public_key,
    identity_from_uri,
    issue,
    load_authority,
    load_credentials,
    save_authority,
    save_credentials,
)
from collegium.node._upload_ticket import decode_ticket, encode_ticket, make_ticket
from collegium.proofs import _quote_certificates as certificates
from collegium.proofs._quotes import verify_report_data
from collegium.settlement import (
    Checkpoint,
    Deployment,
    EmbeddedChain,
    Fees,
    JsonRpcChain,
    JsonRpcLimits,
    Log,
    SentTransaction,
    SlashingSite,
    contract,
    decode_revocation,
    decode_transaction,
    decode_transcript,
    encode_transcript,
    sign_transaction,
    transcribe,
)
from collegium.settlement._abi import refusal

DIGEST, SHARE, SIGNATURE, ADDRESS = bytes(range(32)), bytes(range(48)), bytes(range(65)), bytes(range(20))
ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------------------------------------ consensus


@cache
def ordering_values() -> tuple[Message, ...]:
    certificate = QuorumCertificate(Ballot(3, DIGEST, 2, DIGEST), b"\x07", SHARE)
    groups = (TimeoutGroup(2, b"\x03", SHARE), TimeoutGroup(3, b"\x04", SHARE))
    entry = ViewEntry(certificate, TimeoutCertificate(4, groups))
    block = Block(DIGEST, 0, 5, 1, certificate, entry.timeout_certificate, b"payload", SIGNATURE)
    return (
        block,
        Vote(certificate.ballot, 2, SHARE),
        Timeout(4, 3, entry, SHARE),
        entry,
        BlockRequest(2, DIGEST, DIGEST),
        BlockResponse((replace(block, timeout_certificate=None), block)),
        Relay(2, b"payload"),
    )


def messages() -> Sequence[bytes]:
    return [encode_message(message) for message in ordering_values()]


def misbehaviour() -> Sequence[bytes]:
    block, vote = ordering_values()[:2]
    assert isinstance(block, Block)
    assert isinstance(vote, Vote)
    return [
        encode_evidence(each) for each in (BlockEquivocation(block.header, block.header), VoteEquivocation(vote, vote))
    ]


def vote_states() -> Sequence[bytes]:
    entry, timeout = ordering_values()[3], ordering_values()[2]
    assert isinstance(entry, ViewEntry)
    assert isinstance(timeout, Timeout)
    return [encode_vote_state(VoteState(4, 3, 2, entry, kept)) for kept in (None, timeout)]


def payloads() -> Sequence[bytes]:
    registered = (Registered(ADDRESS, DIGEST, 1, 8, DIGEST),)
    listed, rows = (DIGEST, SHARE[16:]), ((b"\3", b"\1", SIGNATURE), (b"\3", b"\0", SIGNATURE))
    keys = (Announcement(2, 4, DIGEST, SIGNATURE),)
    close = Close(DIGEST, 3, DIGEST, (0, 2), listed, (1, 1), listed, rows, registered, keys)
    header = wire.small_values()[4].header
    return [encode_payload(close), encode_payload(Certified(header, b"\7" + SHARE))]


def shard_payloads() -> Sequence[bytes]:
    skip = Close(DIGEST, 3, DIGEST, (), (), (), (), ())
    result = ShardResult(DIGEST, 3, 4, "proved", DIGEST, "opened", ((0, DIGEST),), DIGEST, (2,), (DIGEST,))
    batch = ShardBatch(DIGEST, 3, (ShardClose(1, skip, SHARE),), (CertifiedResult(result, SHARE),), (0, 7))
    return [encode_shard_payload(batch), encode_shard_payload(wire.small_values()[4].header)]


def standings() -> Sequence[bytes]:
    return [encode_standing(new_standing([bytes([number]) * 20 for number in range(count)])) for count in (0, 1, 3)]


def quality_states() -> Sequence[bytes]:
    trainers = [bytes([number]) * 20 for number in range(3)]
    first = QualityState(
        round=0,
        standing=new_standing(trainers),
        weights=np.full(3, 15, np.int64),
        scores=np.full(3, -(1 << 63), np.int64),
        norm_bound=0,
        direction=np.zeros(4, np.int64),
        stewards=(StewardEntry(b"s" * 20), StewardEntry(b"t" * 20)),
    )
    told = replace(
        first,
        round=3,
        norm_bound=1000,
        direction=np.array([1 << 15, 0, -3, 7], np.int64),
        stewards=(StewardEntry(b"s" * 20, b"r" * 32, b"c" * 32, b"d" * 32), StewardEntry(b"t" * 20)),
        model_round=2,
        model_scores=1,
        model_score=50_000,
    )
    return [encode_quality_state(state) for state in (first, told)]


STEWARD_TASK = b"t" * 32


def steward_records() -> Sequence[bytes]:
    key = crypto.AccountKey(b"\1" * 32)
    opened = ModelScore(60_000, b"s" * 32)
    commitment = score_commitment(STEWARD_TASK, key.address, 4, opened)
    direction = normalise_direction(np.array([3, -4, 0, 12], np.int64))
    first = StewardRecord(key.address, 4, direction, commitment, None)
    both = (first, replace(first, opened=opened, registered=b"r" * 32, evidence=b"e" * 32))
    return [encode_steward_record(sign_steward_record(record, STEWARD_TASK, key)) for record in both]


def small_messages() -> Sequence[bytes]:
    return [encode_round_message(value) for value in wire.small_values()]


def following_values() -> tuple[FollowMessage, ...]:
    block = ordering_values()[0]
    assert isinstance(block, Block)
    certificates = (block.parent_certificate, block.parent_certificate)
    return FollowRequest(DIGEST), FollowReply((block, block), certificates), ChangeOffer(b"Ta record")


def following() -> Sequence[bytes]:
    return [encode_follow_message(value) for value in following_values()]


def peer_messages() -> Sequence[bytes]:
    values = (*ordering_values(), *following_values(), *wire.small_values())
    return [encode_peer_message(value) for value in values]


def frames_between_validators() -> Sequence[bytes]:
    values = (*ordering_values(), *following_values(), *wire.small_values())
    return [encode_epoch_message(EpochMessage(7, value)) for value in values]


def sharded_messages() -> Sequence[bytes]:
    return [encode_sharded_message(value) for value in (*ordering_values(), *wire.shard_values()[-2:])]


def messages_in_shards() -> Sequence[bytes]:
    return [encode_sharded_message(value) for value in wire.shard_values()[:-2]]


def reports_on_the_wire() -> Sequence[bytes]:
    return [encode_round_message(value) for value in wire.large_values()[:2]]


def proof_evidence() -> Sequence[bytes]:
    return [encode_proof_evidence(value) for value in wire.large_values()[2:]]


CONSENSUS = (
    Decoder("ordering message", decode_message, messages, "msgpack", 1, encode_message),
    Decoder("misbehaviour", decode_evidence, misbehaviour, "msgpack", 1, encode_evidence),
    Decoder("vote state", decode_vote_state, vote_states, "msgpack", 1, encode_vote_state),
    Decoder("block payload", decode_payload, payloads, "msgpack", 1, encode_payload),
    Decoder("payload of shards", decode_shard_payload, shard_payloads, "msgpack", 1, encode_shard_payload),
    Decoder("round message", decode_round_message, small_messages, "msgpack", 1, encode_round_message),
    Decoder("peer message", decode_peer_message, peer_messages, "msgpack", 1, encode_peer_message),
    Decoder("message among shards", decode_sharded_message, sharded_messages, "msgpack", 1, encode_sharded_message),
    Decoder("message in a shard", decode_sharded_message, messages_in_shards, "msgpack", 12, encode_sharded_message),
    Decoder("message of a follower", decode_follow_message, following, "msgpack", 1, encode_follow_message),
    Decoder("frame of a validator", decode_epoch_message, frames_between_validators, encode=encode_epoch_message),
    Decoder("report on the wire", decode_round_message, reports_on_the_wire, encode=encode_round_message, cost=4),
    Decoder("upload", decode_upload, lambda: reports_on_the_wire()[:1], encode=encode_upload, cost=4),
    Decoder("proof evidence", decode_proof_evidence, proof_evidence, encode=encode_proof_evidence, cost=4),
)

# ------------------------------------------------------------------------------------------------ aggregation and below

LAYOUT: Layout = committee().terms.layout
LEAVES, POSITIONS = 64, (3, 4, 5, 40)


def opened_columns() -> bytes:
    terms, upload = committee().terms, upload_of(0)
    return aggregation.open_columns(terms, upload.report, 0, upload.boxes[0], committee().first_seals[0]).to_bytes()


def column_range() -> Sequence[bytes]:
    words = np.arange(3 * LEAVES, dtype=np.uint64).reshape(3, LEAVES)
    return [commitment.CommittedMatrix([words], [bytes(16 * LEAVES)]).open(0, POSITIONS).to_bytes()]


def decode_columns(data: bytes) -> ColumnRange:
    return ColumnRange.from_bytes(data, rows=3, leaf_count=LEAVES, positions=POSITIONS)


@cache
def tree() -> commitment.MerkleTree:
    return commitment.MerkleTree([sha256(bytes([leaf])).digest() for leaf in range(LEAVES)])


def verify_multiproof(data: bytes) -> None:
    leaves = [sha256(bytes([leaf])).digest() for leaf in POSITIONS]
    commitment.verify_multiproof(tree().root, LEAVES, POSITIONS, leaves, data)


BOX = crypto.seal(committee().first_seals[0].public_bytes, b"info", b"a seat's columns")


def open_box(data: bytes) -> bytes:
    return crypto.open_sealed(committee().first_seals[0], b"info", data)


BELOW = (
    Decoder(
        "report",
        lambda d: Report.from_bytes(d, 16),
        lambda: [upload_of(i).report.to_bytes() for i in range(2)],
        encode=Report.to_bytes,
        cost=4,
    ),
    Decoder(
        "key sum",
        lambda d: KeySum.from_bytes(d, 32),
        lambda: [wire.key_sum(32, i).to_bytes() for i in range(2)],
        encode=KeySum.to_bytes,
    ),
    Decoder(
        "ciphertext",
        lambda d: aggregation.decode_ciphertext(LAYOUT, d),
        lambda: [upload_of(0).ciphertext],
        encode=aggregation.encode_ciphertext,
    ),
    Decoder(
        "seat columns",
        lambda d: SeatColumns.from_bytes(d, committee().terms.seat_columns(0)),
        lambda: [opened_columns()],
        encode=SeatColumns.to_bytes,
    ),
    Decoder("sealed box", open_box, lambda: [BOX]),
    Decoder("opened columns", decode_columns, column_range, encode=ColumnRange.to_bytes),
    Decoder("multiproof", verify_multiproof, lambda: [tree().prove(POSITIONS)]),
    Decoder("field elements", algebra.from_bytes, lambda: [bytes(64), b"\1" * 80], encode=algebra.to_bytes),
)

# ------------------------------------------------------------------------------------------------ crypto

KEYS = crypto.MemberKeys.generate(RANDOM.split("fuzzed keys"))
VRF = EcVrfSecretKey.generate(RANDOM.split("fuzzed vrf"))
BLS_KEYS = [BlsSecretKey.generate(RANDOM.split(f"fuzzed bls {i}")) for i in range(10)]


@cache
def folder() -> Path:
    """Return a folder of this process, for decoders that read files."""
    path = Path(tempfile.mkdtemp(prefix="decoders-"))
    atexit.register(shutil.rmtree, path)
    return path


def of_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Return a decoder that writes the bytes to a private file and reads that."""

    def decode(data: bytes) -> Any:
        path = folder() / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return read(path)

    return decode


def key_files() -> Sequence[bytes]:
    path = folder() / "saved.json"
    path.unlink(missing_ok=True)
    crypto.save_keys(path, KEYS)
    return [path.read_bytes()]


def secret_files() -> Sequence[bytes]:
    path = folder() / "secret.json"
    path.unlink(missing_ok=True)
    crypto.save_secret(path, "seal", KEYS.seal.secret)
    return [path.read_bytes()]


def certificate_bytes() -> Sequence[bytes]:
    signatures = {seat: key.sign(DIGEST) for seat, key in enumerate(BLS_KEYS)}
    return [crypto.encode_certificate(make_certificate(10, signatures))]


def verify_beacon(data: bytes) -> Digest:
    return committee().beacons[0].verify(0, 3, data)


def beacon_value() -> Sequence[bytes]:
    shares = {i: beacon.partial(0, 3) for i, beacon in enumerate(committee().beacons)}
    return [committee().beacons[0].combine(0, 3, shares)]


def key_file(keys: crypto.MemberKeys) -> bytes:
    path = folder() / "again.json"
    path.unlink(missing_ok=True)
    crypto.save_keys(path, keys)
    return path.read_bytes()


CRYPTO = (
    Decoder(
        "certificate", lambda d: crypto.decode_certificate(d, 10), certificate_bytes, encode=crypto.encode_certificate
    ),
    Decoder(
        "BLS public key", BlsPublicKey, lambda: [bytes(key.public_key()) for key in BLS_KEYS], encode=bytes, cost=2
    ),
    Decoder(
        "BLS signature",
        lambda d: crypto.bls_verify(BLS_KEYS[0].public_key(), DIGEST, d),
        lambda: [BLS_KEYS[0].sign(DIGEST)],
        cost=4,
    ),
    Decoder("BLS secret", BlsSecretKey.from_bytes, lambda: [KEYS.bls.to_bytes()], encode=BlsSecretKey.to_bytes),
    Decoder("beacon value", verify_beacon, beacon_value, cost=4),
    Decoder(
        "secret share",
        lambda d: SecretShare.from_bytes(2, d),
        lambda: [SecretShare(2, 5).to_bytes()],
        encode=SecretShare.to_bytes,
    ),
    Decoder("lottery proof", lambda d: EcVrf.verify(VRF.public_key, b"alpha", d), lambda: [EcVrf.prove(VRF, b"alpha")]),
    Decoder(
        "account signature",
        lambda d: crypto.recover_address(DIGEST, d),
        lambda: [KEYS.account.sign(DIGEST)],
    ),
    Decoder("key file", of_file("keys", crypto.load_keys), key_files, "json", encode=key_file, cost=4),
    Decoder("secret file", of_file("secret", lambda p: crypto.load_secret(p, "seal")), secret_files, "text", cost=4),
)

# ------------------------------------------------------------------------------------------------ proofs


def quotes(name: str) -> Decoder:
    data, report_data, policy, at = case(name)
    return Decoder(f"{name} quote", lambda d: verify_report_data(d, report_data, policy, at), lambda: [data], cost=20)


def policies() -> Sequence[bytes]:
    return [proofs.encode_policy(case(name)[2]) for name in ("SGX", "TDX", "SNP", "GPU")]


def proof_decoder(name: str, cost: int) -> Decoder:
    return Decoder(
        f"proof: {name}", lambda d: case_of(name).verify(d), lambda: [proof_of(name)], cost=cost, memory_max=64 << 20
    )


PROOFS = (
    Decoder(
        "attestation",
        proofs.decode_attestation,
        lambda: [case(name)[0] for name in ("SGX", "SNP", "GPU")],
        encode=proofs.encode_attestation,
    ),
    *(quotes(name) for name in ("SGX", "TDX", "SNP", "GPU")),
    Decoder("quote policy", proofs.decode_policy, policies, "json", encode=proofs.encode_policy),
    Decoder("DER certificates", lambda d: certificates.load_chain([d]), lambda: SNP.endorsements, cost=2),
    Decoder(
        "PEM certificates",
        certificates.load_pem_chain,
        lambda: [(ROOT / "tests/data/attestation/gpu_certificates.pem").read_bytes()],
        "text",
        cost=4,
    ),
    proof_decoder("norm", 20),
    proof_decoder("logistic", 40),
    proof_decoder("registration", 20),
)

# ------------------------------------------------------------------------------------------------ settlement

ALICE = AccountKey.generate(RANDOM.split("alice"))


@cache
def transcript_bytes() -> bytes:
    chain = EmbeddedChain(settlement.Genesis(77, 1_800_000_000, ((ALICE.address, 10**21),)))
    fees = chain.fees()
    chain.send(sign_transaction(ALICE, chain_id=77, nonce=0, fees=fees, gas_max=21_000, to=ADDRESS, value=5, data=b""))
    return encode_transcript(transcribe(chain))


class Answers:
    """A provider whose every answer is in one JSON object, by method; it is read as the real one reads a body."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def make_request(self, method: str, parameters: object) -> Any:
        answers = json.loads(self.data)
        return answers.get(method) if isinstance(answers, dict) else answers


def ask_node(data: bytes) -> None:
    """Ask everything that a chain over JSON-RPC asks of its node."""
    chain = JsonRpcChain.__new__(JsonRpcChain)
    chain.limits, chain._sleep, chain._sent = JsonRpcLimits(attempts=1, polls=1), lambda _: None, []
    chain._provider = Answers(data)  # type: ignore[assignment]
    questions: tuple[Callable[[], object], ...] = (
        lambda: chain.send(b"raw"),
        lambda: chain.logs(ADDRESS, DIGEST, 16),
        lambda: chain.balance(ADDRESS),
        chain.fees,
        lambda: chain.call(ADDRESS, ADDRESS, b""),
    )
    refused = []
    for ask in questions:
        try:
            ask()
        except CollegiumError as error:
            refused.append(error)
    if len(refused) == len(questions):
        raise refused[0]


def node_answers() -> Sequence[bytes]:
    log = {"address": "0x" + ADDRESS.hex(), "topics": ["0x" + DIGEST.hex()], "data": "0x00"}
    receipt = {
        "transactionHash": "0x" + "ab" * 32, "blockNumber": "0x10", "status": "0x1", "gasUsed": "0x5208",
        "contractAddress": None, "logs": [log],
    }  # fmt: skip
    results = {
        "eth_sendRawTransaction": "0x" + "ab" * 32, "eth_getTransactionReceipt": receipt, "eth_blockNumber": "0x11",
        "eth_getBlockByNumber": {"timestamp": "0x10", "baseFeePerGas": "0x7"}, "eth_getLogs": [log],
        "eth_getBalance": "0x5", "eth_maxPriorityFeePerGas": "0x1", "eth_call": "0x00",
    }  # fmt: skip
    good = {method: {"jsonrpc": "2.0", "id": 1, "result": result} for method, result in results.items()}
    refusal = {"error": {"code": 3, "message": "no", "data": {"data": "0x" + "00" * 36}}}
    return [json.dumps(each).encode() for each in (good, {**good, "eth_call": refusal})]


def event(data: bytes) -> Mapping[str, Any]:
    contract = settlement.contract("Settlement")
    topics = tuple(data[at : at + 32] for at in range(0, min(len(data), 96), 32))
    return contract.event("Checkpointed", Log(ADDRESS, (contract.topic("Checkpointed"), *topics), data[96:]))


def refusal_of(data: bytes) -> object:
    return refusal(data, "why")


def refusals() -> Sequence[bytes]:
    return [selector + words(1, 2, 3) for selector in settlement.contract("Settlement").errors]


def seat_keys(data: bytes) -> tuple[Any, ...]:
    return settlement.contract("Settlement").result("seatKeys", data)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def raw_transactions() -> Sequence[bytes]:
    transcript = decode_transcript(transcript_bytes())
    return [sent.raw for sent in transcript.transactions]


def revocations() -> Sequence[bytes]:
    data, fees = contract("Licences").call("revoke", 3), Fees(9, 3)
    key = AccountKey(bytes(31) + b"\7")
    call = sign_transaction(key, chain_id=5, nonce=1, fees=fees, gas_max=99, to=ADDRESS, value=0, data=data)
    return [call]


def chain_records() -> Sequence[bytes]:
    checkpoint = Checkpoint(DIGEST, 0, 0, 3, DIGEST, DIGEST)
    deployment = Deployment(DIGEST, ADDRESS, ADDRESS, 2)
    of_node = ChainRecord(
        "http://localhost",
        None,
        (SentTransaction(b"raw", 5),),
        deployment,
        (checkpoint,),
        (b"\7" + SHARE,),
        (21_000,),
        (4,),
    )
    embedded = replace(of_node, url=None, sent=(), transcript=decode_transcript(transcript_bytes()))
    relieved = replace(of_node, handovers=(HandoverRecord(b"\7" + SHARE, 500_000),))
    charge = Charge("double vote", 0, (b"votes",))
    convicted = replace(
        of_node,
        site=SlashingSite(ADDRESS, ADDRESS, ADDRESS, ADDRESS),
        convictions=(ConvictionRecord(charge, 1, 3, ADDRESS, 9, 1, 400_000),),
    )
    money = settlement.MoneySite(ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    paid = replace(of_node, rewards=RewardsRecord(money, 9))
    return [encode_chain_record(record) for record in (of_node, embedded, relieved, convicted, paid)]


def run_evidence() -> Sequence[bytes]:
    votes = RoundVotes(2, (0, 3), SHARE * 2)
    return [encode_run_evidence([votes], [Charge("double report", 0, (b"first", b"second"))])]


SETTLEMENT = (
    Decoder("transcript", decode_transcript, lambda: [transcript_bytes()], "json", encode=encode_transcript),
    Decoder("node's answers", ask_node, node_answers, "json", cost=4),
    Decoder("keys of the contract", seat_keys, lambda: [words(32, 2, 3, 4)], cost=2),
    Decoder("event of the contract", event, lambda: [words(0, 3, 5, 7, 9, 11, 13)], cost=2),
    Decoder("refusal of the contract", refusal_of, refusals, cost=2),
    Decoder("raw transaction", decode_transaction, raw_transactions, cost=2),
    Decoder("transaction of a run", lambda d: _decode_transaction(0, SentTransaction(d, 5)), raw_transactions, cost=2),
    Decoder("revocation of a licence", decode_revocation, revocations, cost=2),
    Decoder("chain record", decode_chain_record, chain_records, "json", encode=encode_chain_record),
    Decoder(
        "evidence",
        decode_run_evidence,
        run_evidence,
        "json",
        encode=lambda found: encode_run_evidence(found.votes, found.charges),
    ),
)

# ------------------------------------------------------------------------------------------------ node

SCHEMA = Schema((NumericColumn("age", 0.0, 100.0, ()), CategoryColumn("kind", ("x", "y"), ("?",))))
EXPERIMENT = b"""
[task]
name = "hospitals"
rounds = 3
seed = 1
level = "unproved"
[data]
path = "heart.csv"
site = "hospital"
label = "disease"
negative = ["0"]
test_fraction = 0.25
[[schema.columns]]
name = "age"
lower = 0.0
upper = 100.0
[[schema.columns]]
name = "kind"
values = ["x", "y"]
[model]
kind = "mlp"
hidden = [4]
[rule]
learning_rate = "1/3"
batch_rows = 8
[committee]
seats = 16
[chain]
"""


@cache
def learning_task() -> LearningTask:
    return LearningTask(
        task=DIGEST, seed=DIGEST, level="unproved", rounds=3, schema=SCHEMA, spec=ModelSpec("logistic", 3, ()),
        rule=Rule(learning_rate=Fraction(1)), rows_max=64, trainers_max=4, cohort_min=2, lying_max=1,
    )  # fmt: skip


def model_states() -> Sequence[bytes]:
    """The state of 40 rows of age 50, of every category half, before the first step."""
    task = learning_task()
    total = np.array([40, 40 * 2048, 40 * 2048**2, 40], np.int64)
    return [task.step(0, b"", total)]


@cache
def vector_task() -> VectorTask:
    quantiser = Quantiser(clip=Fraction(1, 2), bits=8, norm=Fraction(3, 4))
    initial = first_vector_state(np.array([0.25, -1.5, 0.0]), quantiser, 4)
    return VectorTask(
        task=DIGEST, level="bounded", entries=3, quantiser=quantiser, trainers=4, initial=initial, cohort_min=2,
        lying_max=1,
    )  # fmt: skip


def experiments() -> Sequence[bytes]:
    return [experiment_to_bytes(decode_experiment(EXPERIMENT, Path()))]


def genesis_files() -> Sequence[bytes]:
    announcement = Announcement(0, 0, DIGEST, SIGNATURE)
    validators = (
        ValidatorEntry(ADDRESS, bytes(96), SHARE, 5, announcement),
        ValidatorEntry(ADDRESS, bytes(96), SHARE, 5, None),
    )
    trainers = ((ADDRESS, "north ☃/0"), (bytes(20), "south/1"))
    genesis = Genesis(
        experiments()[0],
        learning.schema_to_bytes(SCHEMA),
        64,
        trainers,
        ADDRESS,
        0,
        validators,
        ((bytes(96),) * 2,) * 2,
        SHARE,
    )
    return [encode_genesis(genesis)]


def ledgers() -> Sequence[bytes]:
    block, entry = ordering_values()[0], ordering_values()[3]
    assert isinstance(block, Block)
    assert isinstance(entry, ViewEntry)
    return [encode_ledger((block, block), (entry.high_certificate,))]


def decode_whole_ledger(data: bytes) -> bytes:
    return encode_ledger(*decode_ledger(data))


def ledgers_of_epochs() -> Sequence[bytes]:
    (single,) = ledgers()
    return [encode_segments([*decode_segments(single), *decode_segments(single)])]


def decode_whole_segments(data: bytes) -> bytes:
    return encode_segments(decode_segments(data))


def indices() -> Sequence[bytes]:
    pairs, singles = ((DIGEST, bytes(32)),), (DIGEST,)
    return [encode_index(ObjectIndex(pairs, pairs, singles, singles, singles, singles))]


def statements() -> Sequence[bytes]:
    rounds = (
        RoundStatement(0, 1.5, 2.5, 0.1, 0.2, None, None, None, None, None),
        RoundStatement(1, 1.25, 2.25, 0.1, 0.2, 80.5, 12.5, 0.75, 0.5, 0.625),
    )
    sites = (SiteStatement("north ☃", 30, 10),)
    return [encode_statement(Statement(DIGEST, DIGEST, rounds, 0.8, 0.8, sites, ("few rows",), "", SIGNATURE))]


def read_manifest(data: bytes) -> tuple[str, ...]:
    (manifest_folder() / MANIFEST).write_bytes(data)
    return check_manifest(manifest_folder())


@cache
def manifest_folder() -> Path:
    path = folder() / "run"
    (path / "rounds").mkdir(parents=True)
    (path / "rounds" / "0").write_bytes(b"zero")
    (path / "genesis.json").write_bytes(b"{}")
    return path


def manifests() -> Sequence[bytes]:
    write_manifest(manifest_folder())
    return [(manifest_folder() / MANIFEST).read_bytes()]


def with_digest(data: bytes) -> bytes:
    """Return a manifest with the digest that its other lines have."""
    body = b"".join(line + b"\n" for line in data.split(b"\n")[:-2])
    return body + sha256(body).hexdigest().encode() + b"\n"


def registration_records() -> Sequence[bytes]:
    roots = tuple(sha256(bytes([i])).digest() for i in range(4))
    return [RegistrationRecord(1, 40, previous, roots, b"proof").to_bytes() for previous in (bytes(32), DIGEST)]


def data_registrations() -> Sequence[bytes]:
    statement = case_of("registration").statement
    registration = DataRegistration(
        statement.shape,
        statement.owner,
        statement.context,
        bytes(32),
        statement.roots,
        proof_of("registration"),
        SIGNATURE,
    )
    return [encode_data_registration(registration)]


def licences() -> Sequence[bytes]:
    return [encode_licence(LicenceRequest(ADDRESS, DIGEST, DIGEST, 40, 5, 6, DIGEST, SIGNATURE))]


def read_statistics(path: Path) -> Any:
    plain = EXPERIMENT.replace(b'"mlp"\nhidden = [4]', b'"logistic"')
    return load_statistics(path, decode_experiment(plain, Path()))


NODE = (
    Decoder("experiment file", lambda d: decode_experiment(d, Path("folder")), lambda: [EXPERIMENT], "text", cost=4),
    Decoder("experiment", experiment_from_bytes, experiments, "json", encode=experiment_to_bytes, cost=2),
    Decoder("genesis", decode_genesis, genesis_files, "json", encode=encode_genesis),
    Decoder("ledger", decode_whole_ledger, ledgers, encode=lambda data: data),
    Decoder("ledger of epochs", decode_whole_segments, ledgers_of_epochs, encode=lambda data: data),
    Decoder("index", decode_index, indices, "json", encode=encode_index),
    Decoder("statement", decode_statement, statements, "json", encode=encode_statement),
    Decoder("manifest", read_manifest, manifests, "text", repair=with_digest, cost=4),
    Decoder(
        "registration record", RegistrationRecord.from_bytes, registration_records, encode=RegistrationRecord.to_bytes
    ),
    Decoder("data registration", decode_data_registration, data_registrations, encode=encode_data_registration, cost=2),
    Decoder("licence request", decode_licence, licences, "json", encode=encode_licence),
    Decoder(
        "model state",
        lambda d: learning_task().decode_state(d),
        model_states,
        encode=lambda s: learning_task().encode_state(s),
    ),
    Decoder("vector state", lambda d: vector_task().decode_state(d), lambda: [vector_task().initial], encode=None),
    Decoder("model file for scaling", of_file("state", read_statistics), model_states, cost=20, memory_max=80 << 20),
)

# ------------------------------------------------------------------------------------------------ a network

SETTINGS = (
    ValidatorSettings(
        genesis=Path("/g"), index=2, state=Path("/s"), account_key=Path("/a"), voting_key=Path("/v"),
        beacon_key=Path("/b"), seal_key=Path("/k"), tls=TlsFiles(Path("/t"), Path("/u"), Path("/w")),
        listen=("127.0.0.1", 20_002), gateway=("::1", 21_002), peers={0: ("127.0.0.1", 20_000), 1: ("host", 20_001)},
    ),
    TrainerSettings(
        genesis=Path("/g"), state=Path("/s"), account_key=Path("/a"), data=Path("/d"),
        tls=TlsFiles(Path("/t"), Path("/u"), Path("/w")), validators={0: ("127.0.0.1", 21_000)}, attest=("a", "b"),
    ),
)  # fmt: skip


def epoch_records() -> Sequence[bytes]:
    key, point, box = Announcement(2, 9, DIGEST, SIGNATURE), bytes(96), bytes(80)
    records: tuple[EpochRecord, ...] = (
        TicketRecord(1, 5, point, SHARE, DIGEST, SIGNATURE),
        DealingRecord(1, 5, 2, (point,) * 3, SHARE, (box,) * 4, SIGNATURE),
        Verdict(1, 5, 2, (1, 3), key, SIGNATURE),
        Answer(1, 5, 2, ((1, DIGEST), (3, DIGEST)), SIGNATURE),
        Handover(1, 5, 9, (Seat(point, ADDRESS, 5),) * 3, (0, 1), point, (point,) * 3, (key,)),
    )
    return [encode_epoch_record(record) for record in records]


def tickets() -> Sequence[bytes]:
    return [encode_ticket(make_ticket(KEYS.account, DIGEST, 2, 3, b"an upload"))]


def problems() -> Sequence[bytes]:
    return [encode_problem(MalformedRecordError("no such round", round=5, sha256=DIGEST))]


def feed(data: bytes) -> list[object]:
    """Take a connection's bytes in two pieces, as they may come."""
    frames = Frames(lambda kind: 1 << 18)
    return [*frames.feed(data[: len(data) // 3]), *frames.feed(data[len(data) // 3 :])]


def connections() -> Sequence[bytes]:
    lanes = Lanes(1_000, (100, 1 << 20), (100, 1 << 24))
    for frame in (b"small", bytes(200_000), b"\1" * 900):
        assert lanes.put(frame)
    parts = [encode_hello(bytes(BOOT_BYTES)), encode_ping()]
    while lanes:
        parts.append(lanes.take()[0])
    return [b"".join(parts)]


@cache
def authority() -> Authority:
    return create_authority(DIGEST, datetime.now(UTC))


@cache
def member_files() -> TlsFiles:
    files = TlsFiles.inside(folder())
    now = datetime.now(UTC)
    save_credentials(files, issue(authority(), Identity(DIGEST, Role.VALIDATOR, 2), now), authority())
    save_authority(folder(), authority())
    return files


@cache
def member_certificate() -> bytes:
    return member_files().certificate.read_bytes()


def read_member(data: bytes) -> object:
    member_files().certificate.write_bytes(data)
    return load_credentials(member_files())


def read_authority(data: bytes) -> object:
    (member_files().authority.parent / "authority.pem").write_bytes(data)
    return load_authority(folder())


PRIVATE_KEY = ec.derive_private_key(5, ec.SECP256R1())
PUBLIC_KEY = PRIVATE_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_key_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def evaluations() -> Sequence[bytes]:
    unsigned = RoundEvaluation(DIGEST, 3, DIGEST, DIGEST, 40, 0.5, 0.75, 0.8)
    return [msgspec.json.encode(sign_evaluation(unsigned, KEYS.account)) + b"\n"]


def figures() -> Sequence[bytes]:
    path = folder() / "appended"
    path.unlink(missing_ok=True)
    append_figures(path, RoundFigures(3, 1.5, 2.5, 0.1, None))
    return [path.read_bytes()]


MEMBERS = [crypto.MemberKeys.generate(RANDOM.split(f"fuzzed member {i}")) for i in range(9)]


def tls_key(number: int) -> bytes:
    return public_key_bytes(ec.derive_private_key(10 + number, ec.SECP256R1()).public_key())


@cache
def join_cards() -> tuple[JoinCard, ...]:
    """Four validators', four trainers' and the operator's cards, signed."""
    experiment = sha256(experiments()[0]).digest()
    cards: list[JoinCard] = []
    for number, keys in enumerate(MEMBERS[:4]):
        account, bls_key = keys.account.address, bytes(keys.bls.public_key())
        possession = keys.bls.prove_possession(join_context(experiment, account))
        places = (f"127.0.0.1:{20_000 + number}", f"127.0.0.1:{21_000 + number}")
        validator = ValidatorCard(
            "validator", experiment, account, bls_key, possession, keys.seal.public_bytes, tls_key(number), *places
        )
        cards.append(sign_card(validator, keys.account))
    for number, keys in enumerate(MEMBERS[4:8]):
        trainer = TrainerCard("trainer", experiment, keys.account.address, f"north/{number}", 64, tls_key(4 + number))
        cards.append(sign_card(trainer, keys.account))
    operator = OperatorCard("operator", experiment, MEMBERS[8].account.address, tls_key(8), tls_key(9), (1337,))
    return (*cards, sign_card(operator, MEMBERS[8].account))


def cards() -> Sequence[bytes]:
    account, key = MEMBERS[0].account, Announcement(0, 0, DIGEST, SIGNATURE)
    deal = DealCard("deal", DIGEST, 2, account.address, (bytes(96),) * 3, SHARE, (bytes(80),) * 4, SHARE, key)
    registration, enrolment = Registration(SHARE, SIGNATURE), Enrolment(DIGEST, SIGNATURE)
    confirm = ConfirmCard("confirm", DIGEST, DIGEST, 2, account.address, SHARE, (registration,))
    enter = EnterCard("enter", DIGEST, account.address, (enrolment,))
    steward = StewardCard("steward", DIGEST, account.address, DIGEST, tls_key(0))
    kinds = (
        join_cards()[0],
        join_cards()[4],
        join_cards()[8],
        sign_card(steward, account),
        sign_card(deal, account),
        sign_card(confirm, account),
        sign_card(enter, account),
    )
    return [encode_card(card) for card in kinds]


def signed_again(data: bytes) -> bytes:
    """Return a card with its first validator's name and good signature, if it still has the form of one."""
    try:
        found = msgspec.json.decode(data)
        card: Any = msgspec.convert(found, CARD_KINDS[found["kind"]], strict=True)
        return encode_card(sign_card(replace(card, account=MEMBERS[0].account.address), MEMBERS[0].account))
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return data


def rosters() -> Sequence[bytes]:
    return [assemble(decode_experiment(EXPERIMENT, Path()), join_cards()).encode()]


def texts_of(decode: Callable[[str], object]) -> Callable[[bytes], object]:
    """Return a decoder of bytes that are Latin text, for one of text."""
    return lambda data: decode(data.decode("latin1"))


NETWORK = (
    Decoder("epoch record", decode_epoch_record, epoch_records, "msgpack", 1, encode_epoch_record),
    Decoder(
        "settings",
        lambda d: decode_settings(d, Path("/a.toml")),
        lambda: [encode_settings(each, Path("/")) for each in SETTINGS],
        "text",
        cost=4,
    ),
    Decoder("ticket", decode_ticket, tickets, "json", encode=encode_ticket),
    Decoder("problem", lambda d: decode_problem(d, 400), problems, "json"),
    Decoder("peer's records", feed, connections, cost=2),
    Decoder(
        "member's URI", texts_of(identity_from_uri), lambda: [Identity(DIGEST, Role.VALIDATOR, 2).uri.encode()], "text"
    ),
    Decoder("member's certificate", read_member, lambda: [member_certificate()], "text", cost=4),
    Decoder("member's card", lambda d: decode_card(d, "a card"), cards, "json", repair=signed_again, cost=2),
    Decoder("roster", decode_roster, rosters, "json", cost=10),
    Decoder("public key of a member", decode_public_key, lambda: [PUBLIC_KEY], encode=public_key_bytes, cost=2),
    Decoder("evaluations", of_file("evaluations", read_evaluations), evaluations, "json", cost=4),
    Decoder("figures", of_file("figures", read_figures), figures, "json", cost=10, memory_max=80 << 20),
    Decoder("authority's certificate", read_authority, lambda: [authority().credentials.certificate], "text", cost=4),
)

# ------------------------------------------------------------------------------------------------ learning and lineage

CSV = 'age,kind,note\n50,x,"a, b"\n,y,☃\n1e3,?,"two\nlines"\n'.encode()


def table_files(suffix: str) -> Sequence[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder() / f"made{suffix}"
    ages, kinds = np.array([50.0, 2.5]), np.array(["x", "yy"])
    if suffix == ".parquet":
        pq.write_table(pa.table({"age": ages, "kind": kinds}), path)
    elif suffix == ".npz":
        np.savez(path, age=ages, kind=kinds)
    else:
        np.save(path, np.array([(1.0, "x")], dtype=[("age", "f8"), ("kind", "U2")]))
    return [path.read_bytes()]


def table(suffix: str, form: Any = "binary") -> Decoder:
    seeds = (lambda: [CSV]) if suffix == ".csv" else (lambda: table_files(suffix))
    return Decoder(
        f"table {suffix}", of_file(f"table{suffix}", learning.load_table), seeds, form, cost=10, memory_max=16 << 20
    )


def lineages() -> Sequence[bytes]:
    path = folder() / "written.db"
    path.unlink(missing_ok=True)
    with Lineage(path) as lineage:
        lineage.record("task", 0, DIGEST, "heart", (), {"level": "unproved", "seats": 16})
        lineage.record("dataset", 0, bytes(32), "ulm", [(DIGEST, "task", 1)], {"licence": "ulm-1"})
    return [path.read_bytes()]


def verify_lineage(path: Path) -> Digest:
    with Lineage(path, read_only=True) as lineage:
        return lineage.verify()


def schemas() -> Sequence[bytes]:
    return [learning.schema_to_bytes(SCHEMA)]


def attributes_of(data: bytes) -> Mapping[str, str | int]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:  # a database's texts are texts
        raise MalformedRecordError(str(error)) from error
    return decode_attributes(text)


def attributes() -> Sequence[bytes]:
    return [encode_attributes({"rows": 5, "site": "north ☃", "negative": -3}).encode()]


LEARNING = (
    Decoder("standing", decode_standing, standings, "binary", 0, encode_standing),
    Decoder("state of quality", decode_quality_state, quality_states, "binary", 0, encode_quality_state),
    Decoder(
        "steward's record",
        lambda data: decode_steward_record(data, STEWARD_TASK),
        steward_records,
        "binary",
        0,
        encode_steward_record,
    ),
    Decoder("schema", learning.schema_from_bytes, schemas, "json", encode=learning.schema_to_bytes),
    table(".csv", "text"),
    table(".parquet"),
    table(".npz"),
    table(".npy"),
    Decoder("lineage", of_file("lineage.db", verify_lineage), lineages, cost=20),
    Decoder(
        "attributes of a record", attributes_of, attributes, "json",
        encode=lambda found: encode_attributes(found).encode(),
    ),
)  # fmt: skip


def steward_evidence() -> Sequence[bytes]:
    """Evidence with a registration's proof and without."""
    claim = proofs.Evaluated(np.array([5, -(1 << 40), 0], np.int64), 1234, 2)
    registration = RegistrationRecord(1, 3, bytes(32), (b"a" * 32, b"b" * 32, b"c" * 32), b"registered")
    found = StewardEvidence((b"d" * 32, b"e" * 32), registration, b"f" * 32, claim, b"proof")
    bare = replace(found, registration=replace(registration, proof=b""))
    return [encode_steward_evidence(evidence) for evidence in (found, bare)]


SOME_ROWS = learning.Rows(learning.table_from_columns({"age": ["1", "2", "3"]}), np.array([0, 1, 1], np.int64))
SOME_STEWARDS = (Steward(crypto.AccountKey(b"\1" * 32), (SOME_ROWS, SOME_ROWS), "ill", b"s" * 32),)
STEWARDS_GENESIS: Any = SimpleNamespace(stewards=tuple(steward.seat for steward in SOME_STEWARDS))

QUALITY = (
    Decoder(
        "opened rows",
        lambda data: decode_opened_rows(data, STEWARDS_GENESIS, "ill", 2),
        lambda: [encode_opened_rows(SOME_STEWARDS), encode_opened_rows(SOME_STEWARDS, 2)],
        "json",
    ),
    Decoder("evidence of a steward", decode_steward_evidence, steward_evidence, encode=encode_steward_evidence),
)

DECODERS = (*CONSENSUS, *BELOW, *CRYPTO, *PROOFS, *SETTLEMENT, *NODE, *NETWORK, *LEARNING, *QUALITY)

# Each function of the package that is named as a decoder, and the entry that reaches it.
REACHED = {
    "aggregation/_masking.py decode_ciphertext": "ciphertext",
    "aggregation/_report.py Report.from_bytes": "report",
    "aggregation/_report.py SeatColumns.from_bytes": "seat columns",
    "aggregation/_sum.py KeySum.from_bytes": "key sum",
    "algebra/_field.py from_bytes": "field elements",
    "commitment/_matrix.py ColumnRange.from_bytes": "opened columns",
    "consensus/_epoch_change_records.py decode_epoch_record": "epoch record",
    "consensus/_order_wire.py decode_evidence": "misbehaviour",
    "consensus/_order_wire.py decode_follow_message": "message of a follower",
    "consensus/_order_wire.py decode_message": "ordering message",
    "consensus/_order_wire.py decode_vote_state": "vote state",
    "consensus/_records.py decode_payload": "block payload",
    "consensus/_round_wire.py decode_peer_message": "peer message",
    "consensus/_round_wire.py decode_proof_evidence": "proof evidence",
    "consensus/_round_wire.py decode_round_message": "round message",
    "consensus/_round_wire.py decode_upload": "upload",
    "consensus/_shard_records.py decode_shard_payload": "payload of shards",
    "consensus/_shard_wire.py decode_sharded_message": "message among shards",
    "crypto/_bls.py BlsSecretKey.from_bytes": "BLS secret",
    "crypto/_certificate.py decode_certificate": "certificate",
    "crypto/_dealing.py SecretShare.from_bytes": "secret share",
    "crypto/_keyfile.py load_keys": "key file",
    "crypto/_keyfile.py load_secret": "secret file",
    "incentives/_quality_state.py decode_quality_state": "state of quality",
    "incentives/_standing.py decode_standing": "standing",
    "incentives/_steward_record.py decode_steward_record": "steward's record",
    "learning/_parameters.py parameters_from_bytes": "model state",
    "learning/_schema.py schema_from_bytes": "schema",
    "learning/_table.py load_table": "table .csv",
    "lineage/_record.py decode_attributes": "attributes of a record",
    "node/_chain_record.py decode_chain_record": "chain record",
    "node/_evidence.py decode_run_evidence": "evidence",
    "node/_epoch_wire.py decode_epoch_message": "frame of a validator",
    "node/_experiment.py decode_experiment": "experiment file",
    "node/_experiment.py experiment_from_bytes": "experiment",
    "node/_experiment.py load_experiment": "experiment file",
    "node/_gateway_problems.py decode_problem": "problem",
    "node/_genesis.py decode_genesis": "genesis",
    "node/_json.py decode_canonical": "genesis",
    "node/_ledger.py decode_index": "index",
    "node/_ledger.py decode_ledger": "ledger",
    "node/_ledger.py decode_segments": "ledger of epochs",
    "node/_member_cards.py decode_card": "member's card",
    "node/_member_cards.py decode_roster": "roster",
    "node/_network_settings.py decode_settings": "settings",
    "node/_opened_rows.py decode_opened_rows": "opened rows",
    "node/_steward_proofs.py decode_steward_evidence": "evidence of a steward",
    "node/_network_settings.py load_settings": "settings",
    "node/_owner_rows.py load_owner_rows": "table .csv",
    "node/_owner_rows.py load_statistics": "model file for scaling",
    "node/_proofs.py RegistrationRecord.from_bytes": "registration record",
    "node/_registration.py decode_data_registration": "data registration",
    "node/_registration.py decode_licence": "licence request",
    "node/_statement.py decode_statement": "statement",
    "node/_task.py LearningTask.decode_state": "model state",
    "node/_tls.py decode_public_key": "public key of a member",
    "node/_tls.py load_authority": "authority's certificate",
    "node/_tls.py load_credentials": "member's certificate",
    "node/_upload_ticket.py decode_ticket": "ticket",
    "node/_vectors.py VectorTask.decode_state": "vector state",
    "proofs/_quote_certificates.py load_chain": "DER certificates",
    "proofs/_quote_certificates.py load_pem_chain": "PEM certificates",
    "proofs/_quote_encoding.py decode_attestation": "attestation",
    "proofs/_quote_policy.py decode_policy": "quote policy",
    "settlement/_revocations.py decode_revocation": "revocation of a licence",
    "settlement/_transactions.py decode_transaction": "raw transaction",
    "settlement/_transcript.py decode_transcript": "transcript",
}
# And those whose bytes are no outsider's.
INSIDE = {
    "apps/_bench_rows.py load_text": "the machine's load in words",
    "consensus/_order_wire.py decode_kind": "behind `ordering message` and `round message`",
    "consensus/_records.py decode_canonical": "behind every ordered payload",
    "algebra/_field.py decode_signed": "elements of F that are an array already",
    "crypto/_bls_backend.py BlsBackend.decode_g1": "behind `BLS signature`",
    "crypto/_bls_backend.py BlsBackend.decode_g2": "behind `BLS public key`",
    "crypto/_bls_backend.py Pyblst.decode_g1": "behind `BLS signature`",
    "crypto/_bls_backend.py Pyblst.decode_g2": "behind `BLS public key`",
    "node/_consortium.py load_account": "behind `secret file`",
    "node/_consortium.py load_steward": "behind `secret file` and the rows of a file",
    "node/_consortium.py load_validator_secrets": "behind `secret file`",
    "node/_claims.py load_dues": "files of a run, behind `genesis`, `experiment`, `chain record`",
    "node/_watch.py load_watched": "files of a run, behind `genesis`, `experiment`, `ledger of epochs`, `chain record`",
}
