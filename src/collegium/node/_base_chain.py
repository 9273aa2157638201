"""A run's base chain: contracts, registered validators, checkpoints, and the record from which all is done again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import msgspec

from collegium.consensus import EpochSet
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    SealKey,
    decode_certificate,
    encode_certificate,
    keccak256,
    make_certificate,
    os_random,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    ChainAnswerError,
    ChainUnreachableError,
    Checkpoint,
    Conviction,
    CourtRules,
    Deployment,
    EmbeddedChain,
    Genesis,
    JsonRpcChain,
    MoneySite,
    PayRules,
    Role,
    SentTransaction,
    SlashingSite,
    TransactionNotMinedError,
    TransactionRefusedError,
    checkpoint_before,
    checkpoint_call,
    deploy,
    enrol,
    event_of,
    found_task,
    fund_task,
    is_convicted,
    open_epoch,
    open_first_epoch,
    plan_founding,
    possession_context,
    post_checkpoint,
    post_task,
    read_conviction,
    read_head,
    register_validator,
    transact,
    transcribe,
    verify_replay,
)

from ._chain_record import (
    ChainRecord,
    ChainRecordError,
    ConvictionRecord,
    HandoverRecord,
    RewardsRecord,
    checkpoint_facts,
)
from ._chain_terms import HOME, STAKE_WEI, ChainTerms
from ._evidence import Accusation, DeedKey, accuse
from ._facts import CheckpointFacts
from ._rewards import RewardPlan
from ._sharded_node import ShardedNode
from ._validator_node import ValidatorNode

__all__ = [
    "CHAIN_FAILURES",
    "FUNDER_VARIABLE",
    "BaseChain",
    "CertifiedStep",
    "EntryRefusedError",
    "SignedEntry",
    "TakenStep",
    "TrainerEntering",
    "ValidatorEntering",
    "What",
    "chain_number",
    "found_contracts",
    "founding_account",
    "funds_of",
    "numbers_of",
]

T = TypeVar("T")

FUNDING_WEI = 2 * STAKE_WEI  # what each account of a run on a real node is given: a stake, and as much for its gas
FUNDS_WEI = 100 * 10**18
REGISTRATION_GAS_MAX = 1_000_000
CREATION_GAS_MAX = 12_000_000
EMBEDDED_TIMESTAMP_S = 1_700_000_000  # of block 0; the embedded chain's time is virtual
MAINNET_CHAIN_ID = 1
FUNDER_VARIABLE = "COLLEGIUM_CHAIN_KEY"
CHAIN_FAILURES = (ChainUnreachableError, ChainAnswerError, TransactionNotMinedError)  # the world's, and may pass


class EntryRefusedError(CollegiumError):
    """A registry refuses the transaction with which a member would have entered it."""


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """A member that enters by transactions of its own, signed before there was a registry: raw, by chain number."""

    account: bytes
    transactions: Mapping[int, bytes]


ValidatorEntering: TypeAlias = tuple[AccountKey, BlsSecretKey] | SignedEntry
TrainerEntering: TypeAlias = AccountKey | SignedEntry
What: TypeAlias = Checkpoint | EpochSet | Accusation


@dataclass(frozen=True, slots=True)
class CertifiedStep:
    """A checkpoint, or the set that follows, with the certificate of the set in office: it serves on every chain.

    Or, at home alone and without a certificate: what a member signed against itself.
    """

    what: What
    certificate: bytes

    @property
    def name(self) -> str:
        """What it is, in words."""
        if isinstance(self.what, Checkpoint):
            return f"checkpoint of rounds {self.what.first_round} to {self.what.last_round}"
        if isinstance(self.what, Accusation):
            return self.what.deed.what
        return f"opening of epoch {self.what.epoch}"


@dataclass(frozen=True, slots=True)
class TakenStep:
    """A step that a chain has taken.

    Attributes:
        gas: 0 if somebody else's transaction brought it.
        sent: our transaction to a node that brought it; None on the embedded chain, or if there is none.
        conviction: what came of an accusation.
    """

    step: CertifiedStep
    gas: int
    calldata_bytes: int
    sent: SentTransaction | None = None
    conviction: Conviction | None = None


@dataclass
class BaseChain:
    """The operator's side of one base chain of a task while a run goes on.

    Attributes:
        first_set: in office when the task was founded.
        founding: the transactions to a node that founded the task.
        taken: every step since, in order.
        place: HOME, or that of a chain that follows.
        site: where stakes can be taken; None where nobody may.
        trainers: that have stakes.
        money: where rounds are paid; None where they are not.
        deadline_s: until when they are.
    """

    chain: Chain
    url: str | None
    operator: AccountKey
    first_set: EpochSet
    deployment: Deployment
    founding: tuple[SentTransaction, ...] = ()
    taken: list[TakenStep] = field(default_factory=list)
    place: int = HOME
    site: SlashingSite | None = None
    trainers: Sequence[bytes] = ()
    money: MoneySite | None = None
    deadline_s: int = 0
    numbers: Mapping[bytes, int] = field(init=False)  # in the chain's registry, by account

    def __post_init__(self) -> None:
        self.numbers = numbers_of(self.first_set, self.trainers)

    @classmethod
    def found(
        cls,
        url: str | None,
        operator: AccountKey,
        epoch_set: EpochSet,
        validators: Sequence[ValidatorEntering],
        place: int = HOME,
        courts: CourtRules | None = None,
        trainers: Sequence[TrainerEntering] = (),
        rewards: RewardPlan | None = None,
    ) -> BaseChain:
        """Deploy a task's contracts, register its validators, at home with their stakes, and open the first epoch.

        On a real node the account whose key is in COLLEGIUM_CHAIN_KEY pays. On the embedded chain every account has
        coin from its first block: nobody's stake there is worth anything.

        Args:
            courts: found the courts that hold these rules too, and the contract that takes stakes.
            trainers: enter, at home with stakes of their own.
            rewards: found what pays for rounds too, post the task's terms and pay its budget in.

        Raises:
            ChainRecordError: a real node, but no key to pay with, or of a network whose coin has a price.
            CollegiumError: the chain is not reachable or refuses.
        """
        terms = ChainTerms.at(place)
        staking = [_account_of(member) for member in trainers]
        accounts = [operator.address, *map(_account_of, validators), *staking]
        budget = 0 if rewards is None else rewards.amount
        if url is None:
            funds = funds_of(accounts, FUNDS_WEI, budget)
            chain: Chain = EmbeddedChain(Genesis(terms.embedded_id, EMBEDDED_TIMESTAMP_S, funds))
        else:
            funder = founding_account()
            chain = JsonRpcChain(url)
            if chain.chain_id == MAINNET_CHAIN_ID:
                raise ChainRecordError(
                    f"{url} is a node of Ethereum's main network; a run pays accounts whose keys nobody keeps, so it "
                    "settles on test networks only"
                )
            for account, value in funds_of(accounts, FUNDING_WEI, budget):
                transact(chain, funder, account, b"", value=value)
        tried = url is not None  # our own chain need not be tried first
        pay = None if rewards is None else rewards.rules
        deployment, site, money = found_contracts(chain, operator, epoch_set.task, terms, courts, pay, tried=tried)
        numbers = [_register(chain, deployment, terms, member, tried=tried) for member in validators]
        for member in trainers:
            _enrol(chain, deployment, terms, member)
        deadline_s = 0
        if rewards is not None and money is not None and site is not None:
            deadline_s = rewards.post_s + (EMBEDDED_TIMESTAMP_S if url is None else chain.timestamp_s())
            promised = rewards.promised(site.disputes, deadline_s)
            post_task(chain, money, operator, deployment, promised, rewards.shards)
            fund_task(chain, money, operator, deployment, budget)
        open_first_epoch(chain, deployment, operator, numbers)
        founding = () if url is None else chain.sent
        around = (url, operator, epoch_set, deployment, founding)
        return cls(chain, *around, place=place, site=site, trainers=staking, money=money, deadline_s=deadline_s)

    @classmethod
    def resume(
        cls,
        record: ChainRecord,
        operator: AccountKey,
        epoch_set: EpochSet,
        later: Sequence[EpochSet] = (),
        place: int = HOME,
        trainers: Sequence[bytes] = (),
    ) -> BaseChain:
        """Go on where a record ends: the embedded chain is executed again, a node is asked.

        Args:
            epoch_set: the first epoch's.
            later: those of the epochs after it, as many as the record has handovers or more.
            trainers: that entered with stakes.

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
        taken = _taken(record, epoch_set, later, trainers)
        founding = record.sent[: len(record.sent) - sum(step.sent is not None for step in taken)]
        around = (record.url, operator, epoch_set, record.deployment, founding, taken, place)
        paid = (None, 0) if record.paying is None else (record.paying.site, record.paying.deadline_s)
        return cls(chain, *around, record.stakes_site, trainers, *paid)

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

    @property
    def certified_steps(self) -> list[TakenStep]:
        """The checkpoints and handovers, which chains that follow take too."""
        return [taken for taken in self.taken if isinstance(taken.step.what, Checkpoint | EpochSet)]

    @property
    def convicted(self) -> set[DeedKey]:
        """The deeds that cost members their stakes."""
        whats = (taken.step.what for taken in self.taken)
        return {what.deed.key for what in whats if isinstance(what, Accusation)}

    @property
    def convictions(self) -> list[ConvictionRecord]:
        """What members were convicted of."""
        records, after = list[ConvictionRecord](), 0
        for taken in self.taken:
            what, found = taken.step.what, taken.conviction
            if not isinstance(what, Accusation) or found is None:
                after += isinstance(what, Checkpoint | EpochSet)
                continue
            cost = (found.reporter, found.burned, found.rewarded, taken.gas)
            records.append(ConvictionRecord(what.charge, after, found.member, *cost))
        return records

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

    def bring(self, accusation: Accusation) -> ConvictionRecord:
        """Bring a charge that holds before the contract that takes stakes.

        Raises:
            ContractRefusedError: AlreadyConvicted, somebody else has brought it; NothingToSlash, no stake is left.
            CollegiumError: the chain is not reachable, or nobody may take stakes.
        """
        self.take(CertifiedStep(accusation, b""))
        return self.convictions[-1]

    def take(self, step: CertifiedStep) -> None:
        """Send what settles a checkpoint, opens an epoch or takes a stake, and note it.

        Raises:
            CollegiumError: the chain is not reachable or refuses.
        """
        if isinstance(step.what, Accusation):
            brought = transact(self.chain, self.operator, self.slashing.slashing, step.what.call)
            self.enter(step, brought.gas, brought.transaction)
            return
        certificate = decode_certificate(step.certificate, self.epoch_set.size)
        if isinstance(step.what, Checkpoint):
            settled = post_checkpoint(self.chain, self.deployment, self.operator, step.what, certificate)
            self.enter(step, settled.gas, settled.transaction)
        else:
            seats = [self.numbers[validator.account] for validator in step.what.validators]
            opened = open_epoch(self.chain, self.deployment, self.operator, seats, certificate)
            self.enter(step, opened.gas, opened.transaction)

    def has(self, what: What) -> bool:
        """Ask the contract whether it has taken a step, whoever sent it.

        Raises:
            ChainRecordError: it has accepted another checkpoint of the same rounds.
            ContractRefusedError: it takes no stake on this accusation, by name.
        """
        if isinstance(what, Accusation):
            return is_convicted(self.chain, self.slashing, what.call)
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
        size, sent, conviction = 0, None, None
        if isinstance(step.what, Checkpoint):
            size = len(checkpoint_call(step.what, decode_certificate(step.certificate, self.epoch_set.size)))
        if isinstance(step.what, Accusation):
            conviction = read_conviction(self.chain, self.slashing, self.deployment.block, step.what.call)
        if transaction is not None and self.url is not None:
            sent = next(found for found in reversed(self.chain.sent) if keccak256(found.raw) == transaction)
        self.taken.append(TakenStep(step, gas, size, sent, conviction))

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
            site=self.site or msgspec.UNSET,
            convictions=tuple(self.convictions) or msgspec.UNSET,
            rewards=msgspec.UNSET if self.money is None else RewardsRecord(self.money, self.deadline_s),
        )

    @property
    def slashing(self) -> SlashingSite:
        """Where stakes can be taken.

        Raises:
            ChainRecordError: nowhere.
        """
        if self.site is None:
            raise ChainRecordError("the task was founded without a contract that takes stakes")
        return self.site

    def _stands(self, taken: TakenStep) -> bool:
        """Ask whether the contract has a step, and still by our transaction if it was ours."""
        if not self.has(taken.step.what):
            return False
        receipt = None if taken.sent is None else self.chain.mined(taken.sent.raw)
        return taken.sent is None or (receipt is not None and receipt.succeeded)


def chain_number(url: str | None, place: int) -> int:
    """Return the number of the chain at this place, which its node tells; None as `url`: the embedded one.

    Raises:
        ChainUnreachableError: the node does not answer.
    """
    return ChainTerms.at(place).embedded_id if url is None else JsonRpcChain(url).chain_id


def numbers_of(epoch_set: EpochSet, trainers: Sequence[bytes] = ()) -> dict[bytes, int]:
    """Return each member's number in a task's registry, by account.

    Args:
        epoch_set: the first epoch's.
        trainers: that entered with stakes, in this order, after the validators.
    """
    numbers = {validator.account: int(validator.index) for validator in epoch_set.validators}
    return numbers | {account: epoch_set.size + place for place, account in enumerate(trainers)}


def funds_of(accounts: Sequence[T], each: int, budget: int) -> tuple[tuple[T, int], ...]:
    """Return what every account is given: as much as all, and the operator's, the first, what it pays into a budget."""
    return tuple((account, each if place else each + budget) for place, account in enumerate(accounts))


def found_contracts(
    chain: Chain,
    operator: AccountKey,
    task: Digest,
    terms: ChainTerms,
    courts: CourtRules | None,
    pay: PayRules | None = None,
    *,
    tried: bool,
) -> tuple[Deployment, SlashingSite | None, MoneySite | None]:
    """Create a task's contracts: with courts those too that hear disputes about it and take stakes.

    Args:
        pay: create those too that pay for rounds; only with courts.
        tried: each creation is tried first, for what it costs.
    """
    if courts is None:
        times = (terms.stake_min_wei, terms.unbonding_s)
        return deploy(chain, operator, task, stake_min_wei=times[0], unbonding_s=times[1]), None, None
    nonce = chain.nonce(operator.address)
    least, outlasting_s = terms.stake_min_wei, terms.outlasting_s
    plan = plan_founding(operator.address, nonce, task, courts, stake_min_wei=least, unbonding_s=outlasting_s, pay=pay)
    deployment = found_task(chain, operator, plan, gas_max=None if tried else CREATION_GAS_MAX)
    return deployment, plan.site, plan.money


def _account_of(member: ValidatorEntering | TrainerEntering) -> bytes:
    """Return who enters a registry."""
    match member:
        case SignedEntry():
            return member.account
        case AccountKey():
            return member.address
        case (account, _):
            return account.address


def _register(
    chain: Chain, deployment: Deployment, terms: ChainTerms, member: ValidatorEntering, *, tried: bool
) -> int:
    """Have a validator enter a registry, and return its number there."""
    if isinstance(member, SignedEntry):
        return _enter(chain, deployment, member, "Registered")
    account, key = member
    proof = key.prove_possession(possession_context(chain.chain_id, deployment.registry, account.address))
    own = (key.public_key(), proof, terms.stake_wei)
    return register_validator(chain, deployment, account, *own, gas_max=None if tried else REGISTRATION_GAS_MAX)


def _enrol(chain: Chain, deployment: Deployment, terms: ChainTerms, member: TrainerEntering) -> int:
    """Have a trainer enter a registry, and return its number there."""
    if isinstance(member, SignedEntry):
        return _enter(chain, deployment, member, "Enrolled")
    sealed_to = SealKey.generate(os_random).public_bytes  # nothing is sealed to trainers in a run
    return enrol(chain, deployment, member, Role.TRAINER, sealed_to, terms.stake_wei)


def _enter(chain: Chain, deployment: Deployment, member: SignedEntry, event: str) -> int:
    """Send what a member signed, and return the number that the registry's event gives it.

    Raises:
        EntryRefusedError: it is reverted, or enters no block.
    """
    try:
        receipt = chain.send(member.transactions[chain.chain_id])
    except TransactionRefusedError as error:
        raise _refused(chain, member, str(error)) from error
    if not receipt.succeeded:
        raise _refused(chain, member, f"reverted after {receipt.gas} gas")
    return int(event_of(receipt, "Registry", deployment.registry, event)["id"])


def _refused(chain: Chain, member: SignedEntry, reason: str) -> EntryRefusedError:
    account = f"0x{member.account.hex()}"
    return EntryRefusedError(f"the entry of {account} on chain {chain.chain_id}: {reason}", account=member.account)


def _taken(
    record: ChainRecord, epoch_set: EpochSet, later: Sequence[EpochSet], trainers: Sequence[bytes]
) -> list[TakenStep]:
    """Return the steps of a record in the order in which they were taken: a set before its first checkpoint.

    Args:
        later: the sets after the first, as many as the record has handovers or more.
        trainers: that entered with stakes.
    """
    opened = deque(zip(later, record.handed_over, strict=False))
    taken: list[TakenStep] = []
    for facts, certificate in zip(checkpoint_facts(record), record.certificates, strict=True):
        while opened and opened[0][0].epoch <= facts.checkpoint.epoch:
            following, handover = opened.popleft()
            taken.append(TakenStep(CertifiedStep(following, handover.certificate), handover.gas, 0))
        taken.append(TakenStep(CertifiedStep(facts.checkpoint, certificate), facts.gas, facts.calldata_bytes))
    taken += [TakenStep(CertifiedStep(following, entry.certificate), entry.gas, 0) for following, entry in opened]
    numbers = numbers_of(epoch_set, trainers)
    for found in reversed(record.convicted):
        accusation = accuse(found.charge, [epoch_set, *later], numbers)
        cost = Conviction(found.member, found.charge.kind, found.reporter, found.burned, found.rewarded)
        taken.insert(found.after, TakenStep(CertifiedStep(accusation, b""), found.gas, 0, None, cost))
    own = deque(record.sent)
    for place in reversed(range(len(taken))):  # ours are the last that were sent
        if taken[place].gas and own:
            taken[place] = replace(taken[place], sent=own.pop())
    return taken


def founding_account() -> AccountKey:
    """Return the account that pays for a founding on a node.

    Raises:
        ChainRecordError: COLLEGIUM_CHAIN_KEY names none.
    """
    text = os.environ.get(FUNDER_VARIABLE, "")
    try:
        return AccountKey(bytes.fromhex(text.removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise ChainRecordError(
            f"a real node needs an account that pays: set {FUNDER_VARIABLE} to its key, 32 bytes in hexadecimal"
        ) from error
