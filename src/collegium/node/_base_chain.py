"""A run's base chain: contracts, registered validators, checkpoints, and the record from which all is done again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from collegium.consensus import EpochSet, Validator
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    decode_certificate,
    encode_certificate,
    keccak256,
    make_certificate,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    FOLLOWER_STAKE_WEI,
    FOLLOWER_UNBONDING_S,
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
    "HOME",
    "BaseChain",
    "CertifiedStep",
    "ChainRecord",
    "ChainRecordError",
    "ChainTerms",
    "HandoverRecord",
    "TakenStep",
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
HOME = 0  # the place of the chain that holds the stakes; those that follow it have places from 1
CHAIN_FAILURES = (ChainUnreachableError, ChainAnswerError, TransactionNotMinedError)  # the world's, and may pass


class ChainRecordError(CollegiumError):
    """The record of a run's base chain is malformed, or does not agree with what the chain makes of it."""


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What a task asks of its validators on a chain: at home a stake, where a chain follows nothing.

    Attributes:
        embedded_id: the chain's number, where it is embedded.
        stake_wei: which each validator registers with.
        stake_min_wei, unbonding_s: which the registry is made with.
    """

    embedded_id: int
    stake_wei: int
    stake_min_wei: int
    unbonding_s: int

    @classmethod
    def at(cls, place: int) -> ChainTerms:
        """Return those of the chain at this place among a task's chains."""
        if place == HOME:
            return cls(EMBEDDED_CHAIN_ID, STAKE_WEI, STAKE_MIN_WEI, UNBONDING_S)
        return cls(EMBEDDED_CHAIN_ID + place, FOLLOWER_STAKE_WEI, FOLLOWER_STAKE_WEI, FOLLOWER_UNBONDING_S)

    def stake_of(self, validator: Validator) -> int:
        """Return what a validator must have registered with: at home what genesis says."""
        return validator.stake if self.stake_wei else 0


@dataclass(frozen=True, slots=True)
class CertifiedStep:
    """A checkpoint, or the set that follows, with the certificate of the set in office: it serves on every chain."""

    what: Checkpoint | EpochSet
    certificate: bytes

    @property
    def name(self) -> str:
        """What it is, in words."""
        if isinstance(self.what, Checkpoint):
            return f"checkpoint of rounds {self.what.first_round} to {self.what.last_round}"
        return f"opening of epoch {self.what.epoch}"


@dataclass(frozen=True, slots=True)
class TakenStep:
    """A step that a chain has taken.

    Attributes:
        gas: 0 if somebody else's transaction brought it.
        sent: our transaction to a node that brought it; None on the embedded chain, or if there is none.
    """

    step: CertifiedStep
    gas: int
    calldata_bytes: int
    sent: SentTransaction | None = None


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
        followers: the records of the chains that follow this one; not there if none does, and never in theirs.
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
    followers: tuple[ChainRecord, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def followed_by(self) -> tuple[ChainRecord, ...]:
        """The records of the chains that follow this one."""
        return () if isinstance(self.followers, msgspec.UnsetType) else self.followers

    @property
    def alone(self) -> ChainRecord:
        """The record without those of the chains that follow."""
        return replace(self, followers=msgspec.UNSET)

    @property
    def handed_over(self) -> tuple[HandoverRecord, ...]:
        """The handovers, none in a task of one epoch."""
        return () if isinstance(self.handovers, msgspec.UnsetType) else self.handovers


@dataclass
class BaseChain:
    """The operator's side of one base chain of a task while a run goes on.

    Attributes:
        first_set: in office when the task was founded.
        founding: the transactions to a node that founded the task.
        taken: every step since, in order.
        place: HOME, or that of a chain that follows.
    """

    chain: Chain
    url: str | None
    operator: AccountKey
    first_set: EpochSet
    deployment: Deployment
    founding: tuple[SentTransaction, ...] = ()
    taken: list[TakenStep] = field(default_factory=list)
    place: int = HOME
    numbers: Mapping[bytes, int] = field(init=False)  # in the chain's registry, by account: of the first epoch's set

    def __post_init__(self) -> None:
        self.numbers = {validator.account: int(validator.index) for validator in self.first_set.validators}

    @classmethod
    def found(
        cls,
        url: str | None,
        operator: AccountKey,
        epoch_set: EpochSet,
        validators: Sequence[tuple[AccountKey, BlsSecretKey]],
        place: int = HOME,
    ) -> BaseChain:
        """Deploy a task's contracts, register its validators, at home with their stakes, and open the first epoch.

        On a real node the account whose key is in COLLEGIUM_CHAIN_KEY pays.

        Raises:
            ChainRecordError: a real node, but no key to pay with, or of a network whose coin has a price.
            CollegiumError: the chain is not reachable or refuses.
        """
        terms = ChainTerms.at(place)
        accounts = [operator, *(account for account, _ in validators)]
        if url is None:
            funds = tuple((account.address, FUNDS_WEI) for account in accounts)
            chain: Chain = EmbeddedChain(Genesis(terms.embedded_id, EMBEDDED_TIMESTAMP_S, funds))
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
        deployment = deploy(
            chain, operator, epoch_set.task, stake_min_wei=terms.stake_min_wei, unbonding_s=terms.unbonding_s
        )
        numbers, gas_max = [], REGISTRATION_GAS_MAX if url is None else None  # our own chain need not be tried first
        for account, key in validators:
            proof = key.prove_possession(possession_context(chain.chain_id, deployment.registry, account.address))
            own = (key.public_key(), proof, terms.stake_wei)
            numbers.append(register_validator(chain, deployment, account, *own, gas_max=gas_max))
        open_first_epoch(chain, deployment, operator, numbers)
        founding = () if url is None else chain.sent
        return cls(chain, url, operator, epoch_set, deployment, founding, place=place)

    @classmethod
    def resume(
        cls,
        record: ChainRecord,
        operator: AccountKey,
        epoch_set: EpochSet,
        later: Sequence[EpochSet] = (),
        place: int = HOME,
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
        if len(record.handed_over) > len(later):
            raise ChainRecordError(f"the record has {len(record.handed_over)} handovers, {len(later)} epochs are known")
        taken = _taken(record, later)
        founding = record.sent[: len(record.sent) - sum(step.sent is not None for step in taken)]
        return cls(chain, record.url, operator, epoch_set, record.deployment, founding, taken, place)

    @property
    def epoch_set(self) -> EpochSet:
        """The set in office."""
        sets = (taken.step.what for taken in reversed(self.taken) if isinstance(taken.step.what, EpochSet))
        return next(sets, self.first_set)

    @property
    def facts(self) -> list[CheckpointFacts]:
        """What each checkpoint took."""
        return [
            CheckpointFacts(taken.step.what, taken.gas, taken.calldata_bytes)
            for taken in self.taken
            if isinstance(taken.step.what, Checkpoint)
        ]

    @property
    def handovers(self) -> list[HandoverRecord]:
        """The handovers, one an epoch after the first."""
        return [
            HandoverRecord(taken.step.certificate, taken.gas)
            for taken in self.taken
            if isinstance(taken.step.what, EpochSet)
        ]

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
        self.take(self.certified(checkpoint, {node.index: node.sign_checkpoint(checkpoint) for node in nodes}))
        return self.facts[-1]

    def relieve(self, following: EpochSet, nodes: Sequence[ValidatorNode]) -> HandoverRecord:
        """Have the epoch set in office, whose rounds are all settled, sign that another follows; put that in office."""
        if not self.facts:
            raise ChainRecordError(f"epoch {following.epoch} cannot be opened before a checkpoint of the one before it")
        last = self.facts[-1].checkpoint
        self.take(self.certified(following, {node.index: node.sign_handover(last) for node in nodes}))
        return self.handovers[-1]

    def certified(self, what: Checkpoint | EpochSet, signatures: Mapping[int, bytes]) -> CertifiedStep:
        """Return a step with the certificate that signatures of the set in office make.

        Raises:
            CollegiumError: they are no quorum's.
        """
        return CertifiedStep(what, encode_certificate(make_certificate(self.epoch_set.size, signatures)))

    def take(self, step: CertifiedStep) -> None:
        """Send what settles a checkpoint or opens an epoch, and note it.

        Raises:
            CollegiumError: the chain is not reachable or refuses.
        """
        certificate = decode_certificate(step.certificate, self.epoch_set.size)
        if isinstance(step.what, Checkpoint):
            settled = post_checkpoint(self.chain, self.deployment, self.operator, step.what, certificate)
            self.enter(step, settled.gas, settled.transaction)
        else:
            seats = [self.numbers[validator.account] for validator in step.what.validators]
            opened = open_epoch(self.chain, self.deployment, self.operator, seats, certificate)
            self.enter(step, opened.gas, opened.transaction)

    def has(self, what: Checkpoint | EpochSet) -> bool:
        """Ask the contract whether it has taken a step, whoever sent it.

        Raises:
            ChainRecordError: it has accepted another checkpoint of the same rounds.
        """
        head = read_head(self.chain, self.deployment)
        if isinstance(what, EpochSet):
            return head.epoch >= what.epoch
        if head.next_round <= what.last_round:
            return False
        found = checkpoint_before(self.chain, self.deployment, what.last_round + 1)
        if found != what.digest:
            raise ChainRecordError(
                f"the contract has {found.hex()} as the checkpoint that ends with round {what.last_round}, "
                f"expected {what.digest.hex()}"
            )
        return True

    def take_back(self) -> list[TakenStep]:
        """Forget the steps that a reorganisation took back, or that others' transactions bring now; return them.

        Raises:
            ChainRecordError: the contract has accepted another checkpoint instead.
        """
        count = len(self.taken)
        while count and not self._stands(self.taken[count - 1]):
            count -= 1
        lost = self.taken[count:]
        del self.taken[count:]
        return lost

    def enter(self, step: CertifiedStep, gas: int, transaction: Digest | None = None) -> None:
        """Note a step that is on the chain, what it took, and our transaction; None for somebody else's."""
        size, sent = 0, None
        if isinstance(step.what, Checkpoint):
            size = len(checkpoint_call(step.what, decode_certificate(step.certificate, self.epoch_set.size)))
        if transaction is not None and self.url is not None:
            sent = next(found for found in reversed(self.chain.sent) if keccak256(found.raw) == transaction)
        self.taken.append(TakenStep(step, gas, size, sent))

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        """Every transaction to a node that counts, in order."""
        return (*self.founding, *(taken.sent for taken in self.taken if taken.sent is not None))

    def record(self) -> ChainRecord:
        """Return what a verifier needs to do it all again."""
        embedded = self.chain if isinstance(self.chain, EmbeddedChain) else None
        return ChainRecord(
            url=self.url,
            transcript=None if embedded is None else transcribe(embedded),
            sent=() if embedded is not None else self.sent,
            deployment=self.deployment,
            checkpoints=tuple(entry.checkpoint for entry in self.facts),
            certificates=tuple(
                taken.step.certificate for taken in self.taken if isinstance(taken.step.what, Checkpoint)
            ),
            gas=tuple(entry.gas for entry in self.facts),
            calldata_bytes=tuple(entry.calldata_bytes for entry in self.facts),
            handovers=tuple(self.handovers) or msgspec.UNSET,
        )

    def _stands(self, taken: TakenStep) -> bool:
        """Ask whether the contract has a step, and still by our transaction if it was ours."""
        if not self.has(taken.step.what):
            return False
        receipt = None if taken.sent is None else self.chain.mined(taken.sent.raw)
        return taken.sent is None or (receipt is not None and receipt.succeeded)


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
    if record.followers == ():
        raise ChainRecordError("chain record has an empty list of followers, expected none or a list that holds some")
    if any(follower.followed_by for follower in record.followed_by):
        raise ChainRecordError("a chain that follows is followed in the chain record, expected one home of all")
    return record


def checkpoint_facts(record: ChainRecord) -> list[CheckpointFacts]:
    """Return what a record says that each checkpoint took."""
    return [
        CheckpointFacts(checkpoint, gas, size)
        for checkpoint, gas, size in zip(record.checkpoints, record.gas, record.calldata_bytes, strict=True)
    ]


def _taken(record: ChainRecord, later: Sequence[EpochSet]) -> list[TakenStep]:
    """Return the steps of a record in the order in which they were taken: a set before its first checkpoint.

    Args:
        later: the sets after the first, as many as the record has handovers or more.
    """
    opened = deque(zip(later, record.handed_over, strict=False))
    taken: list[TakenStep] = []
    for facts, certificate in zip(checkpoint_facts(record), record.certificates, strict=True):
        while opened and opened[0][0].epoch <= facts.checkpoint.epoch:
            following, handover = opened.popleft()
            taken.append(TakenStep(CertifiedStep(following, handover.certificate), handover.gas, 0))
        taken.append(TakenStep(CertifiedStep(facts.checkpoint, certificate), facts.gas, facts.calldata_bytes))
    taken += [TakenStep(CertifiedStep(following, entry.certificate), entry.gas, 0) for following, entry in opened]
    own = deque(record.sent)
    for place in reversed(range(len(taken))):  # ours are the last that were sent
        if taken[place].gas and own:
            taken[place] = replace(taken[place], sent=own.pop())
    return taken


def _funder() -> AccountKey:
    text = os.environ.get(FUNDER_VARIABLE, "")
    try:
        return AccountKey(bytes.fromhex(text.removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise ChainRecordError(
            f"a real node needs an account that pays: set {FUNDER_VARIABLE} to its key, 32 bytes in hexadecimal"
        ) from error
