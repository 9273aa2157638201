"""A run's base chain: contracts, registered validators, checkpoints, and the record from which all is done again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from collegium.consensus import EpochSet
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    decode_certificate,
    encode_certificate,
    make_certificate,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    ChainAnswerError,
    ChainUnreachableError,
    Checkpoint,
    Deployment,
    EmbeddedChain,
    Genesis,
    JsonRpcChain,
    SentTransaction,
    TransactionNotMinedError,
    Transcript,
    checkpoint_before,
    checkpoint_call,
    deploy,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    read_head,
    register_validator,
    transact,
    transcribe,
    verify_replay,
)

from ._facts import CheckpointFacts
from ._json import decode_canonical
from ._sharded_node import ShardedNode
from ._validator_node import ValidatorNode

__all__ = [
    "CHAIN_FAILURES",
    "FUNDER_VARIABLE",
    "BaseChain",
    "ChainRecord",
    "ChainRecordError",
    "HandoverRecord",
    "checkpoint_facts",
    "decode_chain_record",
    "encode_chain_record",
]

RECORD_BYTES_MAX = 64 << 20
STAKE_WEI = 10**18
STAKE_MIN_WEI = STAKE_WEI
UNBONDING_S = 14 * 24 * 3600
FUNDING_WEI = 2 * STAKE_WEI  # what each account of a run on a real node is given: a stake, and as much for its gas
FUNDS_WEI = 100 * 10**18
REGISTRATION_GAS_MAX = 1_000_000
EMBEDDED_CHAIN_ID = 1337
EMBEDDED_TIMESTAMP_S = 1_700_000_000  # of block 0; the embedded chain's time is virtual
MAINNET_CHAIN_ID = 1
FUNDER_VARIABLE = "COLLEGIUM_CHAIN_KEY"
CHAIN_FAILURES = (ChainUnreachableError, ChainAnswerError, TransactionNotMinedError)  # the world's, and may pass


class ChainRecordError(CollegiumError):
    """The record of a run's base chain is malformed, or does not agree with what the chain makes of it."""


@dataclass(frozen=True)
class HandoverRecord:
    """A handover on the chain: the certificate of the set that it relieved (bitmap and signature), and its gas.

    Its gas is 0 if somebody else sent it to a node: the record's `sent` does not have it.
    """

    certificate: bytes
    gas: int


@dataclass(frozen=True)
class ChainRecord:
    """Everything that was sent to the base chain.

    Attributes:
        url: of the node; None for the embedded chain, which `transcript` then holds whole.
        sent: the operator's and validators' transactions to a node, in order; empty for the embedded chain.
        certificates: one a checkpoint: bitmap and signature of the epoch set.
        gas: what each checkpoint took; 0 of one that somebody else sent to a node: `sent` does not have it.
        handovers: one an epoch that was opened after the first; not there in a task of one epoch.
    """

    url: str | None
    transcript: Transcript | None
    sent: tuple[SentTransaction, ...]
    deployment: Deployment
    checkpoints: tuple[Checkpoint, ...]
    certificates: tuple[bytes, ...]
    gas: tuple[int, ...]
    calldata_bytes: tuple[int, ...]
    handovers: tuple[HandoverRecord, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def handed_over(self) -> tuple[HandoverRecord, ...]:
        """The handovers, none in a task of one epoch."""
        return () if isinstance(self.handovers, msgspec.UnsetType) else self.handovers


@dataclass
class BaseChain:
    """The operator's side of the base chain while a run goes on; `epoch_set` is in office there."""

    chain: Chain
    url: str | None
    operator: AccountKey
    epoch_set: EpochSet
    deployment: Deployment
    facts: list[CheckpointFacts] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    sent_before: tuple[SentTransaction, ...] = ()  # to a node, by whoever wrote the record that this goes on from
    handovers: list[HandoverRecord] = field(default_factory=list)
    numbers: Mapping[bytes, int] = field(init=False)  # in the chain's registry, by account: of the first epoch's set

    def __post_init__(self) -> None:
        self.numbers = {validator.account: int(validator.index) for validator in self.epoch_set.validators}

    @classmethod
    def found(
        cls,
        url: str | None,
        operator: AccountKey,
        epoch_set: EpochSet,
        validators: Sequence[tuple[AccountKey, BlsSecretKey]],
    ) -> BaseChain:
        """Deploy a task's contracts, register its validators with their stakes, and open the first epoch.

        On a real node the account whose key is in COLLEGIUM_CHAIN_KEY pays.

        Raises:
            ChainRecordError: a real node, but no key to pay with, or of a network whose coin has a price.
            CollegiumError: the chain is not reachable or refuses.
        """
        accounts = [operator, *(account for account, _ in validators)]
        if url is None:
            funds = tuple((account.address, FUNDS_WEI) for account in accounts)
            chain: Chain = EmbeddedChain(Genesis(EMBEDDED_CHAIN_ID, EMBEDDED_TIMESTAMP_S, funds))
        else:
            funder = _funder()
            chain = JsonRpcChain(url)
            if chain.chain_id == MAINNET_CHAIN_ID:
                raise ChainRecordError(
                    f"{url} is a node of Ethereum's main network; a run pays accounts whose keys nobody keeps, so it "
                    "settles on test networks only"
                )
            for account in accounts:
                transact(chain, funder, account.address, b"", value=FUNDING_WEI)
        deployment = deploy(chain, operator, epoch_set.task, stake_min_wei=STAKE_MIN_WEI, unbonding_s=UNBONDING_S)
        numbers, gas_max = [], REGISTRATION_GAS_MAX if url is None else None  # our own chain need not be tried first
        for account, key in validators:
            proof = key.prove_possession(possession_context(chain.chain_id, deployment.registry, account.address))
            public = key.public_key()
            numbers.append(register_validator(chain, deployment, account, public, proof, STAKE_WEI, gas_max=gas_max))
        open_first_epoch(chain, deployment, operator, numbers)
        return cls(chain, url, operator, epoch_set, deployment)

    @classmethod
    def resume(
        cls, record: ChainRecord, operator: AccountKey, epoch_set: EpochSet, later: Sequence[EpochSet] = ()
    ) -> BaseChain:
        """Go on where a record ends: the embedded chain is executed again, a node is asked.

        Args:
            epoch_set: the first epoch's.
            later: those of the epochs after it, as many as the record has handovers or more.

        Raises:
            ChainRecordError: the record is of neither.
            CollegiumError: the embedded chain gives something else than is recorded, or the node is not reachable.
        """
        chain: Chain
        if record.url is not None and record.transcript is None:
            chain = JsonRpcChain(record.url)
        elif record.url is None and record.transcript is not None:
            chain = verify_replay(record.transcript)
        else:
            raise ChainRecordError("a chain record holds a transcript or names a node, and not both")
        handovers = list(record.handed_over)
        if len(handovers) > len(later):
            raise ChainRecordError(f"the record has {len(handovers)} handovers, {len(later)} epochs are known")
        rest = (checkpoint_facts(record), list(record.certificates), () if record.url is None else record.sent)
        self = cls(chain, record.url, operator, epoch_set, record.deployment, *rest, handovers)
        self.epoch_set = later[len(handovers) - 1] if handovers else epoch_set
        return self

    def settle(self, root: Digest, last_round: int, nodes: Sequence[ValidatorNode | ShardedNode]) -> CheckpointFacts:
        """Have the epoch set sign the headers up to `last_round` and post the certificate."""
        previous = self.facts[-1].checkpoint if self.facts else None
        checkpoint = Checkpoint(
            task=self.epoch_set.task,
            epoch=self.epoch_set.epoch,
            first_round=previous.last_round + 1 if previous else 0,
            last_round=last_round,
            previous=previous.digest if previous else NO_CHECKPOINT,
            root=root,
        )
        return self.post(checkpoint, {node.index: node.sign_checkpoint(checkpoint) for node in nodes})

    def post(self, checkpoint: Checkpoint, signatures: Mapping[int, bytes]) -> CheckpointFacts:
        """Post a checkpoint with the certificate that validators' signatures make.

        Raises:
            CollegiumError: they are no quorum's, or the chain is not reachable or refuses.
        """
        certificate = make_certificate(self.epoch_set.size, signatures)
        receipt = post_checkpoint(self.chain, self.deployment, self.operator, checkpoint, certificate)
        return self.enter(checkpoint, encode_certificate(certificate), receipt.gas)

    def relieve(self, following: EpochSet, nodes: Sequence[ValidatorNode]) -> HandoverRecord:
        """Have the epoch set in office, whose rounds are all settled, sign that another follows; put that in office."""
        if not self.facts:
            raise ChainRecordError(f"epoch {following.epoch} cannot be opened before a checkpoint of the one before it")
        last = self.facts[-1].checkpoint
        return self.hand_over(following, {node.index: node.sign_handover(last) for node in nodes})

    def hand_over(self, following: EpochSet, signatures: Mapping[int, bytes]) -> HandoverRecord:
        """Open the next epoch with the certificate that signatures of the set in office make.

        Raises:
            CollegiumError: they are no quorum's, or the chain is not reachable or refuses.
        """
        certificate = make_certificate(self.epoch_set.size, signatures)
        seats = [self.numbers[validator.account] for validator in following.validators]
        receipt = open_epoch(self.chain, self.deployment, self.operator, seats, certificate)
        return self.enter_handover(following, encode_certificate(certificate), receipt.gas)

    def enter_handover(self, following: EpochSet, certificate: bytes, gas: int) -> HandoverRecord:
        """Note a handover that is on the chain, and what it took."""
        self.handovers.append(HandoverRecord(certificate, gas))
        self.epoch_set = following
        return self.handovers[-1]

    def has_settled(self, checkpoint: Checkpoint) -> bool:
        """Ask the contract whether it has accepted a checkpoint, whoever sent it.

        Raises:
            ChainRecordError: it has accepted another one of the same rounds.
        """
        if read_head(self.chain, self.deployment).next_round <= checkpoint.last_round:
            return False
        found = checkpoint_before(self.chain, self.deployment, checkpoint.last_round + 1)
        if found != checkpoint.digest:
            raise ChainRecordError(
                f"the contract has {found.hex()} as the checkpoint that ends with round {checkpoint.last_round}, "
                f"expected {checkpoint.digest.hex()}"
            )
        return True

    def has_opened(self, epoch: int) -> bool:
        """Ask the contract whether it has put the set of an epoch in office, whoever sent it."""
        return read_head(self.chain, self.deployment).epoch >= epoch

    def enter(self, checkpoint: Checkpoint, certificate: bytes, gas: int) -> CheckpointFacts:
        """Note a checkpoint that is on the chain, and what it took."""
        call = checkpoint_call(checkpoint, decode_certificate(certificate, self.epoch_set.size))
        facts = CheckpointFacts(checkpoint, gas, len(call))
        self.facts.append(facts)
        self.certificates.append(certificate)
        return facts

    def record(self) -> ChainRecord:
        """Return what a verifier needs to do it all again."""
        embedded = self.chain if isinstance(self.chain, EmbeddedChain) else None
        return ChainRecord(
            url=self.url,
            transcript=None if embedded is None else transcribe(embedded),
            sent=() if embedded is not None else (*self.sent_before, *self.chain.sent),
            deployment=self.deployment,
            checkpoints=tuple(entry.checkpoint for entry in self.facts),
            certificates=tuple(self.certificates),
            gas=tuple(entry.gas for entry in self.facts),
            calldata_bytes=tuple(entry.calldata_bytes for entry in self.facts),
            handovers=tuple(self.handovers) or msgspec.UNSET,
        )


def encode_chain_record(record: ChainRecord) -> bytes:
    """Return the canonical JSON of a chain record."""
    return msgspec.json.encode(record)


def decode_chain_record(data: bytes) -> ChainRecord:
    """Decode a chain record strictly.

    Raises:
        ChainRecordError: too large, malformed or not canonical.
    """
    record = decode_canonical(data, ChainRecord, "chain record", RECORD_BYTES_MAX, ChainRecordError)
    counts = {len(record.checkpoints), len(record.certificates), len(record.gas), len(record.calldata_bytes)}
    if len(counts) != 1:
        raise ChainRecordError(f"chain record has {sorted(counts)} of each, expected one count of checkpoints")
    if record.handovers == ():
        raise ChainRecordError("chain record has an empty list of handovers, expected none or a list that holds some")
    return record


def checkpoint_facts(record: ChainRecord) -> list[CheckpointFacts]:
    """Return what a record says that each checkpoint took."""
    return [
        CheckpointFacts(checkpoint, gas, size)
        for checkpoint, gas, size in zip(record.checkpoints, record.gas, record.calldata_bytes, strict=True)
    ]


def _funder() -> AccountKey:
    text = os.environ.get(FUNDER_VARIABLE, "")
    try:
        return AccountKey(bytes.fromhex(text.removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise ChainRecordError(
            f"a real node needs an account that pays: set {FUNDER_VARIABLE} to its key, 32 bytes in hexadecimal"
        ) from error
