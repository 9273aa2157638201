"""What a round costs on the base chain, whoever trains what: gas and bytes, beside other ways to the same end.

Gas and bytes are those of transactions that were mined, here or on a node; what is computed instead says so. What is
measured and what is not: docs/guide/benchmarks.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from collegium.apps._all_to_all_peer import all_to_all_replicas
from collegium.apps._bench_decision import measure_decisions
from collegium.apps._bench_round import WATTS
from collegium.apps._bench_rows import Row, figure_row, load_text, machine, note_row, progress, with_target
from collegium.apps._order_replica import order_replicas
from collegium.consensus import Close, Header, quorum_size
from collegium.crypto import AccountKey, BlsSecretKey, Certificate, Digest, Stream, hash_fields, make_certificate
from collegium.errors import CollegiumError
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    Checkpoint,
    Deployment,
    EmbeddedChain,
    Genesis,
    JsonRpcChain,
    Receipt,
    deploy,
    handover_digest,
    header_root,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    read_head,
    register_validator,
    transact,
)

__all__ = ["BLOB_BYTES", "ECDSA", "STORE", "Committee", "NoPayerError", "open_chain", "settlement_rows"]

PAYER_VARIABLE: Final = "COLLEGIUM_CHAIN_KEY"
CHAIN_ID: Final = 31337
COINS_WEI: Final = 10**24
TASK: Final = hash_fields("bench-settlement-task")
ROUNDS: Final = 10  # that a checkpoint covers, the default of chain.checkpoint_every
EPOCH_ROUNDS: Final = 100  # over which an epoch's opening is spread
BYTES_MAX: Final = 224  # a round
DECISION_JOULES: Final = 360.0
LINK_MS: Final = 50

TRAINERS: Final = (10, 100, 1_000, 10_000)
SEATS: Final = (16, 32, 64, 128)
PARAMETERS: Final = (10**3, 10**4, 10**5, 10**6, 10**7)
DECISIONS: Final = (16, 64)
QUICK_TRAINERS: Final = (10, 10_000)
QUICK_SEATS: Final = (4, 16)
QUICK_PARAMETERS: Final = (10**3, 10**6)
QUICK_DECISIONS: Final = (16,)
TRAINERS_USUAL: Final = 100
PARAMETERS_USUAL: Final = 10**5

PARAMETER_BYTES: Final = 4
STORED_WORDS: Final = 200
SENT_BYTES: Final = 16_000
WORD_BYTES: Final = 32
BLOB_BYTES: Final = 4096 * 31  # that fit into a blob of 4096 field elements, 31 bytes each (EIP-4844)
BLOB_GAS: Final = 1 << 17
BLOBS_A_TRANSACTION: Final = 6  # EIP-7594
TRANSACTION_GAS: Final = 21_000

# Stores its calldata word by word: for (i = 0; i < calldatasize; i += 32) sstore(i, calldataload(i))
STORE: Final = bytes.fromhex("5f 5b 80 35 81 55 6020 01 36 81 10 6001 57 00")
# Recovers who signed the first word of its calldata, by each v || r || s of 65 bytes after it; returns the last one.
ECDSA: Final = bytes.fromhex(
    "6020 5f 5f 37 6020 5b 6041 81 603f 37 6020 6080 6080 5f 6001 5a fa 50 6041 01 36 81 10 6007 57 6020 6080 f3"
)

STREAM: Final = Stream(hash_fields("bench-settlement"))


class NoPayerError(CollegiumError):
    """A node is to be measured on, and there is no account that pays."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A chain and the account that pays for everything."""

    chain: Chain
    account: AccountKey


@dataclass(eq=False)
class Committee:
    """A task on the chain with one epoch set, which settles checkpoints."""

    bench: Bench
    seats: int
    secrets: list[BlsSecretKey] = field(init=False)
    deployment: Deployment = field(init=False)
    registration: Receipt = field(init=False)
    opening: Receipt = field(init=False)

    def __post_init__(self) -> None:
        chain, account = self.bench.chain, self.bench.account
        self.secrets = [BlsSecretKey.generate(STREAM) for _ in range(self.seats)]
        self.deployment = deploy(chain, account, TASK, stake_min_wei=1)
        context = possession_context(chain.chain_id, self.deployment.registry, account.address)
        for secret in self.secrets:
            proof = secret.prove_possession(context)
            register_validator(chain, self.deployment, account, secret.public_key(), proof, 1, gas_max=1_000_000)
        self.registration = mined_last(chain)
        self.opening = open_first_epoch(chain, self.deployment, account, range(self.seats))

    @property
    def absent_max(self) -> int:
        """How many may be away."""
        return self.seats - quorum_size(self.seats)

    def settle(self, headers: Sequence[Digest], absent: int = 0) -> Receipt:
        """Settle a checkpoint of these headers, certified by all but the last `absent` seats."""
        chain, head = self.bench.chain, read_head(self.bench.chain, self.deployment)
        last = head.next_round + len(headers) - 1
        checkpoint = Checkpoint(TASK, head.epoch, head.next_round, last, head.previous, header_root(headers))
        certificate = self._certify(checkpoint.digest, absent)
        post_checkpoint(chain, self.deployment, self.bench.account, checkpoint, certificate)
        return mined_last(chain)

    def hand_over(self) -> Receipt:
        """Open the next epoch, with the same set."""
        chain, head = self.bench.chain, read_head(self.bench.chain, self.deployment)
        keys = [secret.public_key() for secret in self.secrets]
        certificate = self._certify(handover_digest(TASK, head.epoch + 1, head.previous or NO_CHECKPOINT, keys), 0)
        return open_epoch(chain, self.deployment, self.bench.account, range(self.seats), certificate)

    def _certify(self, digest: Digest, absent: int) -> Certificate:
        signers = self.secrets[: self.seats - absent]
        return make_certificate(self.seats, {seat: secret.sign(digest) for seat, secret in enumerate(signers)})


def open_chain(url: str | None) -> Bench:
    """Return the embedded chain with coins, or a node's, on which the account of COLLEGIUM_CHAIN_KEY pays.

    Raises:
        NoPayerError: a node, and no such account.
        ChainUnreachableError: no node.
    """
    if url is None:
        account = AccountKey.generate(STREAM)
        return Bench(EmbeddedChain(Genesis(CHAIN_ID, 1_800_000_000, ((account.address, COINS_WEI),))), account)
    try:
        account = AccountKey(bytes.fromhex(os.environ.get(PAYER_VARIABLE, "").removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise NoPayerError(
            f"a node needs an account that pays: set {PAYER_VARIABLE} to its key, 32 bytes in hexadecimal"
        ) from error
    return Bench(JsonRpcChain(url), account)


def settlement_rows(*, quick: bool = False, url: str | None = None) -> Iterator[Row]:
    """Yield the machine, then gas and bytes a round by seats, trainers and parameters, then energy a decision.

    A row has `name`, `case`, `ours`, `peer`, `ratio` (peer / ours) and `unit`. Progress goes to standard error.

    Raises:
        NoPayerError, ChainUnreachableError: a node that cannot be measured on.
    """
    for name, text in machine().items():
        yield note_row(name, text)
    yield note_row("load before", load_text())
    yield note_row("chain", "embedded, Prague" if url is None else f"{url}, by JSON-RPC")
    bench = open_chain(url)
    committees = {}
    for seats in QUICK_SEATS if quick else SEATS:
        progress(f"a committee of {seats} seats")
        committees[seats] = Committee(bench, seats)
        yield from seat_rows(committees[seats])
    usual = committees[min(committees, key=lambda seats: abs(seats - 16))]
    yield from trainer_rows(usual, QUICK_TRAINERS if quick else TRAINERS)
    yield from parameter_rows(usual, QUICK_PARAMETERS if quick else PARAMETERS)
    for validators in QUICK_DECISIONS if quick else DECISIONS:
        yield from decision_rows(validators)


# By seats


def seat_rows(committee: Committee) -> Iterator[Row]:
    """Yield what a round takes, with all seats signing and with a third away, beside every signer's own ECDSA."""
    seats, bench = committee.seats, committee.bench
    case = f"{seats} seats"
    headers = round_headers(seats, TRAINERS_USUAL, PARAMETERS_USUAL)
    peer = ecdsa_checkpoint(bench, quorum_size(seats))
    committee.settle(headers)  # the first writes to slots that later ones only change
    full, least = committee.settle(headers), committee.settle(headers, committee.absent_max)
    for who, receipt in (("all sign", full), (f"{committee.absent_max} away", least)):
        of = "gas; peer: ECDSA of a quorum"
        yield figure_row("round: gas", f"{case}, {who}", receipt.gas / ROUNDS, peer.gas / ROUNDS, of)
    away = (least.gas - full.gas) / committee.absent_max
    yield figure_row("a seat that is away", case, away, None, "gas more a checkpoint")
    size = len(bench.chain.sent[-1].raw)
    for name, ours, theirs, unit in (
        (case, size / ROUNDS, len(peer.raw) / ROUNDS, f"B, {ROUNDS} rounds a checkpoint, signed transaction"),
        (f"{case}, settled every round", size, len(peer.raw), "B, signed transaction"),
    ):
        yield with_target(figure_row("round: bytes", name, ours, theirs, unit), ours, BYTES_MAX)
    opening = committee.hand_over()
    size = len(bench.chain.sent[-1].raw)
    spread = f"a round, an epoch of {EPOCH_ROUNDS} rounds"
    yield figure_row("next epoch: gas", case, opening.gas / EPOCH_ROUNDS, None, f"gas {spread}; {opening.gas:,} in all")
    yield figure_row("next epoch: bytes", case, size / EPOCH_ROUNDS, None, f"B {spread}; {size:,} in all")
    yield figure_row("register", case, committee.registration.gas, None, "gas a validator, once")


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction of another way, and what it took."""

    gas: int
    raw: bytes


def ecdsa_checkpoint(bench: Bench, signers: int) -> Mined:
    """Recover every signer of a digest on chain; as nothing compares them with who may sign, it is a lower bound."""
    checker = create(bench, ECDSA)
    digest = STREAM(32)
    data = digest + b"".join(recoverable(AccountKey.generate(STREAM), digest) for _ in range(signers))
    return send(bench, checker, data)


def recoverable(account: AccountKey, digest: Digest) -> bytes:
    """Return a signature as v || r || s, 65 bytes."""
    signature = account.sign(digest)
    return bytes([27 + signature[64]]) + signature[:64]


# By trainers and parameters


def trainer_rows(committee: Committee, counts: Sequence[int]) -> Iterator[Row]:
    """Yield what a round takes by the number of trainers."""
    gas = []
    for count in counts:
        gas.append(committee.settle(round_headers(committee.seats, count, PARAMETERS_USUAL)).gas)
        yield figure_row("round: gas, by trainers", f"{count:,} trainers", gas[-1] / ROUNDS, None, "gas")
    yield flat_row("trainers", gas)


def parameter_rows(committee: Committee, counts: Sequence[int]) -> Iterator[Row]:
    """Yield what a round takes by the size of the model, beside putting the model itself on chain."""
    bench = committee.bench
    stored = send(bench, create(bench, STORE), STREAM(STORED_WORDS * WORD_BYTES)).gas / STORED_WORDS
    sent = send(bench, bench.account.address, STREAM(SENT_BYTES)).gas / SENT_BYTES
    yield note_row(
        "stored, calldata", f"{stored:,.0f} gas a word of {WORD_BYTES} B, {sent:.1f} gas a byte; scaled below"
    )
    gas = []
    for count in counts:
        gas.append(committee.settle(round_headers(committee.seats, TRAINERS_USUAL, count)).gas)
        ours, size, case = gas[-1] / ROUNDS, count * PARAMETER_BYTES, f"{count:,} parameters"
        blobs = -(-size // BLOB_BYTES)
        carried = -(-blobs // BLOBS_A_TRANSACTION) * TRANSACTION_GAS
        in_blobs = (
            f"gas; peer: {blobs:,} blobs, computed, and {blobs * BLOB_GAS:,} blob gas; they are gone after 18 days"
        )
        yield figure_row(
            "round: model stored", case, ours, size / WORD_BYTES * stored, "gas; peer: in contract storage"
        )
        yield figure_row("round: model as calldata", case, ours, size * sent, "gas; peer: calldata")
        yield figure_row("round: model in blobs", case, ours, carried, in_blobs)
    yield flat_row("parameters", gas)


def flat_row(what: str, gas: Sequence[int]) -> Row:
    """Return how far apart the dearest and the cheapest checkpoint are: its bytes that are zero are cheaper."""
    return figure_row(
        f"spread over {what}", "", 100 * (max(gas) - min(gas)) / min(gas), None, "% of a checkpoint's gas"
    )


def round_headers(seats: int, trainers: int, parameters: int) -> list[Digest]:
    """Return the digests of consecutive rounds' headers, of so many trainers' reports and a model of this size."""
    reports = tuple(sorted(STREAM(32) for _ in range(trainers)))
    model = hash_fields("bench-model", STREAM(parameters * PARAMETER_BYTES))
    digests, previous = list[Digest](), bytes(32)
    for number in range(ROUNDS):
        close = Close(TASK, number, bytes(32), tuple(range(seats)), reports, (1,) * trainers, reports, ())
        sums = tuple((seat, bytes(32)) for seat in range(seats))
        header = Header(
            TASK, number, "proved", previous, close.digest, "opened", sums, bytes(32), model, (), b"", (), ()
        )
        digests.append(header.digest)
        previous = header.digest
    return digests


# Energy


def decision_rows(validators: int) -> Iterator[Row]:
    """Yield the energy of the decision that makes a round's result final, beside all-to-all voting."""
    progress(f"one decision of {validators} validators")
    ours, peer = (
        measure_decisions(replicas, validators, LINK_MS, repeats=1)
        for replicas in (order_replicas, all_to_all_replicas)
    )
    joules, theirs = ours.cpu_seconds.median * WATTS, peer.cpu_seconds.median * WATTS
    row = figure_row("decision: energy", f"{validators} validators", joules, theirs, f"J, {WATTS} W a core")
    yield with_target(row, joules, DECISION_JOULES)


# Transactions


def create(bench: Bench, code: bytes) -> bytes:
    """Put code on the chain and return its address."""
    creation = bytes.fromhex(f"60{len(code):02x} 80 6009 3d 39 3d f3") + code
    contract = transact(bench.chain, bench.account, None, creation).contract
    if contract is None:
        raise CollegiumError("a creation's receipt names no contract")
    return contract


def send(bench: Bench, to: bytes, data: bytes) -> Mined:
    """Send data to an address."""
    receipt = transact(bench.chain, bench.account, to, data)
    return Mined(receipt.gas, bench.chain.sent[-1].raw)


def mined_last(chain: Chain) -> Receipt:
    """Return the receipt of the last transaction that was sent."""
    receipt = chain.mined(chain.sent[-1].raw)
    if receipt is None:
        raise CollegiumError("the last transaction is in no block")
    return receipt
