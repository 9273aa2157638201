"""The auditor's side of a run's base chain: every transaction is one that the task must have sent, and nothing else.

A contract is as good as the code and the keys it was given, so each transaction is compared with the one that genesis
and certificates demand, before any is executed. What is executed then is our contract with our keys, and no more work
than they make: a hostile record cannot keep a verifier busy.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from collegium.consensus import EpochSet, RegistryRoot
from collegium.crypto import (
    BlsPublicKey,
    Digest,
    decode_certificate,
    g1_uncompressed,
    g2_uncompressed,
    verify_certificate,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    Checkpoint,
    CourtRules,
    Deployment,
    EmbeddedChain,
    FoundingPlan,
    Genesis,
    MalformedTransactionError,
    Receipt,
    Role,
    SentTransaction,
    SignedTransaction,
    attach,
    contract,
    contract_address,
    conviction_in,
    decode_transaction,
    funding_call,
    plan_founding,
    read_checkpoints,
    settlement_creation,
    terms_call,
    verify_replay,
)

from ._base_chain import (
    CREATION_GAS_MAX,
    EMBEDDED_TIMESTAMP_S,
    FUNDING_WEI,
    FUNDS_WEI,
    REGISTRATION_GAS_MAX,
    funds_of,
    numbers_of,
)
from ._chain_record import ChainRecord, ChainRecordError, ConvictionRecord
from ._chain_terms import HOME, ChainTerms
from ._checkpoints import opening_digest
from ._epochs import KnownEpoch
from ._evidence import Accusation, accuse
from ._experiment import Experiment
from ._genesis import Genesis as GenesisOfTask
from ._licence_settings import LicenceSettings
from ._registries import WatchedChain, licence_contracts
from ._rewards import RewardPlan, reward_plan
from ._setup import build_task
from ._task import LearningTask
from ._work_terms import court_rules

__all__ = ["Founded", "check_chain", "check_founded", "founded_as"]

ROUNDS_MAX = 1 << 48  # as the contract counts them
POSSESSION_BYTES = 96  # at the end of a registration's data; the contract checks it
SEAL_KEY_BYTES = 32  # at the end of an enrolment's
# Limits of gas that a run's own transactions keep with room to spare: docs/spec/settlement.md has what they use.
FUNDING_GAS_MAX = 100_000
OPENING_GAS_MAX = 1 << 24
CHECKPOINT_GAS_MAX = 2_000_000
REWARDS_GAS_MAX = 2_000_000


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
    after_others: bool = False  # the sender may have sent more before it, which the contract refused


@dataclass(frozen=True, slots=True)
class _Settled:
    """A checkpoint that the set in office certified."""

    checkpoint: Checkpoint
    certificate: bytes


@dataclass(frozen=True, slots=True)
class _Opened:
    """A set that the one in office put in its place."""

    epoch_set: EpochSet
    certificate: bytes


@dataclass(frozen=True, slots=True)
class _Brought:
    """A charge that holds, and what the record says that it cost."""

    accusation: Accusation
    record: ConvictionRecord


_Step = _Settled | _Opened | _Brought


@dataclass(frozen=True, slots=True)
class Founded:
    """What a task must have been founded with at home, beside its contract Settlement.

    Attributes:
        courts: what its courts hold; None: without courts.
        trainers: who must have entered with a stake, in this order.
        paying: how it must have been founded to pay; None: it pays nothing.
        own: by the number of a chain that follows, who must have entered there, without a stake.
        seen: what headers say that chains held; that of embedded chains is looked up again.
        licences: with the contracts that count in it.
    """

    courts: CourtRules | None = None
    trainers: Sequence[bytes] = ()
    paying: RewardPlan | None = None
    own: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    seen: Collection[RegistryRoot] = ()
    licences: LicenceSettings | None = None


def check_chain(
    record: ChainRecord,
    url: str | None,
    epoch_set: EpochSet,
    operator: bytes,
    later: Sequence[KnownEpoch] = (),
    followers: Sequence[str | None] = (),
    founded: Founded | None = None,
) -> None:
    """Check every certificate and transaction and, on the embedded chain, execute all again and read the result back.

    Args:
        record: what the run says of its chain; its checkpoints are those of the ledger's headers.
        url: the node that the experiment names, None for the embedded chain: a record cannot choose the weaker check.
        epoch_set: who must have registered, in this order, and certified the first epoch's checkpoints.
        operator: account that deployed the contracts and posted the checkpoints.
        later: the epochs after the first that must have been put in office, each by the one before it.
        followers: the nodes of the chains that follow, None for an embedded one. Each may lag behind.
        founded: what the experiment says that the task was founded with; None: nothing more.

    Raises:
        CollegiumError: naming what does not hold.
    """
    agreed = founded or Founded()
    _check_one(record.alone, url, epoch_set, operator, later, HOME, agreed)
    if len(record.followed_by) != len(followers):
        raise ChainRecordError(
            f"the record has {len(record.followed_by)} chains that follow, the experiment names {len(followers)}"
        )
    missing, numbers = set(agreed.own), {_number_of(record, HOME, url)}
    for place, (following, node) in enumerate(zip(record.followed_by, followers, strict=True), HOME + 1):
        handovers, count = len(following.handed_over), len(following.checkpoints)
        try:
            if handovers > len(later) or following.checkpoints != record.checkpoints[:count]:
                raise ChainRecordError("it has taken what the home chain has not")
            chain_id = _number_of(following, place, node)
            trainers = agreed.own.get(chain_id, ())
            paying = None if agreed.paying is None else agreed.paying.at(chain_id)
            courts = None if paying is None else agreed.courts
            entered = Founded(courts, trainers, paying, seen=agreed.seen, licences=agreed.licences)
            _check_one(following, node, epoch_set, operator, later[:handovers], place, entered)
            missing.discard(chain_id)
            numbers.add(chain_id)
        except CollegiumError as error:
            raise ChainRecordError(f"chain {place} that follows: {error}", **error.values) from error
    if missing:
        raise ChainRecordError(f"trainers register on chains {sorted(missing)}, of which the record has none")
    strangers = {entry.chain_id for entry in agreed.seen} - numbers
    if strangers:
        raise ChainRecordError(f"headers say what chains {sorted(strangers)} hold, of which the record has none")


def founded_as(
    genesis: GenesisOfTask, experiment: Experiment, task: LearningTask, seen: Collection[RegistryRoot] = ()
) -> Founded:
    """Return what a task must have been founded with, as its experiment and its genesis say."""
    return Founded(
        court_rules(genesis, experiment, task),
        experiment.chain.staking(account for account, _ in genesis.trainers),
        reward_plan(experiment, genesis, task),
        experiment.chain.registering(genesis.trainers),
        seen,
        experiment.licences,
    )


def check_founded(record: ChainRecord, genesis: GenesisOfTask, experiment: Experiment) -> None:
    """Check the record of chains on which a task was founded and nothing else yet.

    Raises:
        CollegiumError: naming what does not hold.
    """
    chain, founded = experiment.chain, founded_as(genesis, experiment, build_task(genesis, experiment))
    check_chain(record, chain.url, genesis.epoch_set, genesis.operator, (), chain.followers, founded)


def _number_of(record: ChainRecord, place: int, url: str | None) -> int:
    """Return the number of a record's chain: of an embedded one by its place, of a node by what it was sent."""
    return ChainTerms.at(place).embedded_id if url is None else _first_sent(record).chain_id


def _check_one(
    record: ChainRecord,
    url: str | None,
    epoch_set: EpochSet,
    operator: bytes,
    later: Sequence[KnownEpoch],
    place: int,
    founded: Founded,
) -> None:
    """Check one chain of a task."""
    terms = ChainTerms.at(place)
    if record.url != url:
        raise ChainRecordError(f"the record is of {record.url or 'an embedded chain'}, expected {url or 'embedded'}")
    # 1. certificates, and what members signed against themselves
    steps = _certified_steps(record, epoch_set, later)
    steps = _with_convictions(record, steps, [epoch_set, *(known.epoch_set for known in later)], founded.trainers)
    # 2. addresses: they follow from who created what
    settlement = contract_address(operator, 0)
    deployment = Deployment(epoch_set.task, settlement, contract_address(settlement, 1), record.deployment.block)
    if record.deployment != deployment:
        raise ChainRecordError(f"the contracts are at {settlement.hex()} and its registry, the record says otherwise")
    plan = _check_sites(record, epoch_set.task, operator, terms, founded)
    # 3. transactions
    settling = [_step_call(record, step, epoch_set, operator) for step in steps]
    set_up = list(_set_up_calls(epoch_set, operator, deployment, terms, plan, founded.trainers))
    if founded.paying is not None:
        set_up[-1:-1] = _promise_calls(record, operator, founded.paying)  # before the first epoch opens
    sizes = tuple(len(call.data) for call, step in zip(settling, steps, strict=True) if isinstance(step, _Settled))
    if record.calldata_bytes != sizes:
        raise ChainRecordError(f"checkpoints take {sizes} bytes, the record says {record.calldata_bytes}")
    accounts = (operator, *(validator.account for validator in epoch_set.validators), *founded.trainers)
    budget = 0 if founded.paying is None else founded.paying.amount
    if url is None:
        funds = funds_of(accounts, FUNDS_WEI, budget)
        chain = _check_embedded(record, [*set_up, *settling], steps, epoch_set, funds, terms)
        _check_seen(chain, record, founded)
    else:
        _check_node(record, [*set_up, *_own_calls(record, steps, settling)], funds_of(accounts, FUNDING_WEI, budget))


def _check_sites(
    record: ChainRecord, task: Digest, operator: bytes, terms: ChainTerms, founded: Founded
) -> FoundingPlan | None:
    """Return with what contracts the task was founded, None with none but the first; check that the record names them.

    Until when rewards may be taken over follows from the embedded chain's first block; on a node the record says it.
    """
    plan, paying = None, founded.paying
    if founded.courts is not None:
        rules = None if paying is None else paying.rules
        least, outlasting_s = terms.stake_min_wei, terms.outlasting_s
        plan = plan_founding(
            operator, 0, task, founded.courts, stake_min_wei=least, unbonding_s=outlasting_s, pay=rules
        )
    if record.stakes_site != (None if plan is None else plan.site):
        expected = "no contract that takes stakes" if plan is None else f"{plan.site}"
        raise ChainRecordError(f"the record names {record.stakes_site}, expected {expected}")
    money = None if record.paying is None else record.paying.site
    if money != (None if plan is None else plan.money):
        expected = "no contract that pays" if plan is None or plan.money is None else f"{plan.money}"
        raise ChainRecordError(f"the record names {money}, expected {expected}")
    if record.url is None and record.paying is not None and paying is not None:
        deadline_s = EMBEDDED_TIMESTAMP_S + paying.post_s
        if record.paying.deadline_s != deadline_s:
            raise ChainRecordError(f"rewards may be taken over until {record.paying.deadline_s}, expected {deadline_s}")
    return plan


def _certified_steps(record: ChainRecord, epoch_set: EpochSet, later: Sequence[KnownEpoch]) -> list[_Step]:
    """Check every certificate, each by the set in office, and return in order what they settled or opened."""
    previous, settled, steps = NO_CHECKPOINT, 0, list[_Step]()
    waiting, handovers = deque(later), deque(record.handed_over)
    if len(handovers) != len(waiting):
        raise ChainRecordError(f"the record has {len(handovers)} handovers, the ledger {len(waiting)} epochs after 0")
    for checkpoint, data in [*zip(record.checkpoints, record.certificates, strict=True), (None, b"")]:
        if waiting and waiting[0].first_round == settled:
            following, handover = waiting.popleft().epoch_set, handovers.popleft()
            _check_certificate(epoch_set, opening_digest(following, previous), handover.certificate)
            steps.append(_Opened(following, handover.certificate))
            epoch_set = following
        if checkpoint is None:  # at the end: a chain that lags may have opened an epoch and settled none of its rounds
            break
        found = (checkpoint.task, checkpoint.epoch, checkpoint.previous, checkpoint.first_round)
        if found != (epoch_set.task, epoch_set.epoch, previous, settled):
            raise ChainRecordError(f"checkpoint of round {checkpoint.last_round} does not follow the one before")
        if not settled <= checkpoint.last_round < ROUNDS_MAX:
            raise ChainRecordError(f"checkpoint of rounds {settled} to {checkpoint.last_round} settles no rounds")
        if waiting and checkpoint.last_round >= waiting[0].first_round:
            raise ChainRecordError(f"checkpoint of round {checkpoint.last_round} goes beyond epoch {checkpoint.epoch}")
        _check_certificate(epoch_set, checkpoint.digest, data)
        steps.append(_Settled(checkpoint, data))
        previous, settled = checkpoint.digest, checkpoint.last_round + 1
    if waiting:
        raise ChainRecordError(f"no checkpoint ends where epoch {waiting[0].epoch} begins, {waiting[0].first_round}")
    return steps


def _with_convictions(
    record: ChainRecord, steps: Sequence[_Step], epoch_sets: Sequence[EpochSet], trainers: Sequence[bytes]
) -> list[_Step]:
    """Check every charge that cost a stake, and return the steps with it in its place."""
    if record.convicted and record.stakes_site is None:
        raise ChainRecordError("the record has convictions and names no contract that takes stakes")
    numbers, deeds, placed, done = numbers_of(epoch_sets[0], trainers), set[object](), list[_Step](), 0
    for found in record.convicted:
        accusation = accuse(found.charge, epoch_sets, numbers)
        if not done <= found.after <= len(steps) or accusation.deed.key in deeds:
            raise ChainRecordError(f"{accusation.deed.what} is recorded out of order, or twice")
        if found.member != accusation.member:
            raise ChainRecordError(f"{accusation.deed.what} is recorded of member {found.member}")
        deeds.add(accusation.deed.key)
        placed += [*steps[done : found.after], _Brought(accusation, found)]
        done = found.after
    return [*placed, *steps[done:]]


def _check_certificate(epoch_set: EpochSet, digest: Digest, data: bytes) -> None:
    keys = [BlsPublicKey(validator.bls_key) for validator in epoch_set.validators]
    verify_certificate(keys, epoch_set.quorum, digest, decode_certificate(data, len(keys)))


def _set_up_calls(
    epoch_set: EpochSet,
    operator: bytes,
    deployment: Deployment,
    terms: ChainTerms,
    plan: FoundingPlan | None,
    trainers: Sequence[bytes],
) -> Iterator[_Call]:
    """Yield what founds a task: the contracts, one registration for each validator and trainer, the first epoch."""
    settlement, registry = contract("Settlement"), contract("Registry")
    if plan is None:
        creation = settlement_creation(
            epoch_set.task, first_round=0, stake_min_wei=terms.stake_min_wei, unbonding_s=terms.unbonding_s
        )
        yield _Call("the contracts' creation", operator, b"", 0, creation, CREATION_GAS_MAX)
    for created in () if plan is None else plan.creations:
        yield _Call(f"the creation of {created.name}", operator, b"", 0, created.data, CREATION_GAS_MAX)
    for validator in epoch_set.validators:
        key = g2_uncompressed(BlsPublicKey(validator.bls_key))
        yield _Call(
            what=f"validator {validator.index}'s registration",
            sender=validator.account,
            to=deployment.registry,
            value=terms.stake_of(validator),
            data=registry.call("register", key, bytes(POSSESSION_BYTES)),
            gas_max=REGISTRATION_GAS_MAX,
            free_bytes=POSSESSION_BYTES,
        )
    for account in trainers:
        yield _Call(
            what=f"the entry of trainer {account.hex()}",
            sender=account,
            to=deployment.registry,
            value=terms.stake_wei,
            data=registry.call("enrol", Role.TRAINER, bytes(SEAL_KEY_BYTES)),
            gas_max=REGISTRATION_GAS_MAX,
            free_bytes=SEAL_KEY_BYTES,
        )
    opening = settlement.call("openFirstEpoch", tuple(range(epoch_set.size)))
    yield _Call("the first epoch's opening", operator, deployment.settlement, 0, opening, OPENING_GAS_MAX)


def _promise_calls(record: ChainRecord, operator: bytes, plan: RewardPlan) -> Iterator[_Call]:
    """Yield what posts the terms of a task that pays, and what pays its budget in."""
    if record.paying is None or record.stakes_site is None:
        raise ChainRecordError("the record names no contract that pays")
    site, deployment = record.paying.site, record.deployment
    promised = plan.promised(record.stakes_site.disputes, record.paying.deadline_s)
    terms = terms_call(deployment, promised, plan.shards)
    yield _Call("the task's terms", operator, site.tasks, 0, terms, OPENING_GAS_MAX)
    funding = funding_call(deployment, plan.amount)
    yield _Call("the funding of its budget", operator, site.rewards, plan.amount, funding, REWARDS_GAS_MAX)


def _step_call(record: ChainRecord, step: _Step, epoch_set: EpochSet, operator: bytes) -> _Call:
    """Return what settles a checkpoint, puts an epoch set in office, or brings a charge."""
    if isinstance(step, _Brought):
        accusation, site = step.accusation, record.stakes_site
        slashing = b"" if site is None else site.slashing
        return _Call(accusation.deed.what, operator, slashing, 0, accusation.call, OPENING_GAS_MAX)
    bitmap, signature = step.certificate[:-48], step.certificate[-48:]
    certificate, at = (int.from_bytes(bitmap, "little"), g1_uncompressed(signature)), record.deployment.settlement
    if isinstance(step, _Settled):
        checkpoint = step.checkpoint
        rounds = (checkpoint.epoch, checkpoint.first_round, checkpoint.last_round)
        call = contract("Settlement").call("checkpoint", *rounds, checkpoint.root, *certificate)
        what = f"the checkpoint of rounds {checkpoint.first_round} to {checkpoint.last_round}"
        return _Call(what, operator, at, 0, call, CHECKPOINT_GAS_MAX)
    numbers = {validator.account: int(validator.index) for validator in epoch_set.validators}
    seats = tuple(numbers[member.account] for member in step.epoch_set.validators)
    call = contract("Settlement").call("openEpoch", seats, *certificate)
    return _Call(f"the opening of epoch {step.epoch_set.epoch}", operator, at, 0, call, OPENING_GAS_MAX)


def _own_calls(record: ChainRecord, steps: Sequence[_Step], calls: Sequence[_Call]) -> Iterator[_Call]:
    """Yield the calls that the operator's account sent to a node; the others stand on their certificates alone.

    Anyone may settle what a quorum signed, and then the operator's own transaction is refused and spends a number.
    """
    checkpoints, handovers = iter(record.gas), iter(record.handed_over)
    for step, call in zip(steps, calls, strict=True):
        if isinstance(step, _Brought):
            gas = step.record.gas
        else:
            gas = next(checkpoints) if isinstance(step, _Settled) else next(handovers).gas
        if gas != 0:
            yield replace(call, after_others=True)


def _check_embedded(
    record: ChainRecord,
    calls: Sequence[_Call],
    steps: Sequence[_Step],
    epoch_set: EpochSet,
    funds: tuple[tuple[bytes, int], ...],
    terms: ChainTerms,
) -> EmbeddedChain:
    """Check an embedded chain's transactions, execute them again, and compare what the contracts then hold."""
    transcript = record.transcript
    if transcript is None or record.sent:
        raise ChainRecordError("the record of an embedded chain must hold its transcript and nothing else")
    if transcript.genesis != Genesis(terms.embedded_id, EMBEDDED_TIMESTAMP_S, funds):
        raise ChainRecordError("the embedded chain's genesis is not that of the task's operator and validators")
    _check_transactions(transcript.transactions, calls, terms.embedded_id, Counter())
    for index, sent in enumerate(transcript.transactions):
        if sent.timestamp_s != EMBEDDED_TIMESTAMP_S + 1 + index:  # its clock ticks once a block
            raise ChainRecordError(f"transaction {index} has timestamp {sent.timestamp_s}, which no run gives it")
    chain = verify_replay(transcript)
    attached = attach(chain, record.deployment.settlement, chain.receipts[0].block)
    if attached != record.deployment:
        raise ChainRecordError(f"the chain holds the deployment {attached}, the record {record.deployment}")
    _check_seats(chain, attached, epoch_set, steps, terms)
    if read_checkpoints(chain, attached) != record.checkpoints:
        raise ChainRecordError("the chain holds other checkpoints than the record")
    receipts = list(zip(steps, chain.receipts[len(calls) - len(steps) :], strict=True))
    gas = tuple(receipt.gas for step, receipt in receipts if isinstance(step, _Settled))
    if gas != record.gas:
        raise ChainRecordError(f"checkpoints cost {gas} gas, the record says {record.gas}")
    for step, receipt in receipts:
        if isinstance(step, _Brought):
            _check_conviction(chain, record, step, receipt)
    opening = tuple(receipt.gas for step, receipt in receipts if isinstance(step, _Opened))
    recorded = tuple(handover.gas for handover in record.handed_over)
    if opening != recorded:
        raise ChainRecordError(f"handovers cost {opening} gas, the record says {recorded}")
    return chain


def _check_seen(chain: EmbeddedChain, record: ChainRecord, founded: Founded) -> None:
    """Check what headers say that an embedded chain held."""
    licences = licence_contracts(founded.licences, chain.chain_id)
    watched = WatchedChain(chain, record.deployment.registry, licences)
    for entry in founded.seen:
        if entry.chain_id != chain.chain_id:
            continue
        found = watched.seen(entry.block) if entry.block <= chain.block_number() else None
        if found != entry:
            held = "it has no such block" if found is None else f"it held {found.root.hex()}"
            raise ChainRecordError(
                f"headers say that chain {entry.chain_id} held {entry.root.hex()} as of block {entry.block}: {held}"
            )


def _check_conviction(chain: EmbeddedChain, record: ChainRecord, step: _Brought, receipt: Receipt) -> None:
    """Check that a charge cost what the record says."""
    if record.stakes_site is None:
        raise ChainRecordError("the record names no contract that takes stakes")
    found, said = conviction_in(chain, record.stakes_site, receipt), step.record
    held = (found.member, found.reporter, found.burned, found.rewarded, found.gas)
    if held != (said.member, said.reporter, said.burned, said.rewarded, said.gas):
        raise ChainRecordError(f"{step.accusation.deed.what} cost {found}, the record says otherwise")


def _check_seats(
    chain: EmbeddedChain,
    deployment: Deployment,
    epoch_set: EpochSet,
    steps: Sequence[_Step],
    terms: ChainTerms,
) -> None:
    """Check that the contract counts the votes of exactly the last epoch set's keys, seat by seat."""
    registry, settlement = contract("Registry"), contract("Settlement")
    keys = dict[bytes, object]()
    creations = sum(receipt.contract is not None for receipt in chain.receipts)
    for validator, receipt in zip(epoch_set.validators, chain.receipts[creations:], strict=False):
        registered = [registry.event("Registered", log) for log in receipt.logs]
        found = [(event["id"], _address(event["account"]), event["stake"]) for event in registered]
        if found != [(validator.index, validator.account, terms.stake_of(validator))]:
            raise ChainRecordError(f"the chain registered {found}, expected validator {validator.index}")
        keys[validator.account] = registered[0]["key"]
    in_office = next((step.epoch_set for step in reversed(steps) if isinstance(step, _Opened)), epoch_set)
    (seated,) = settlement.result("seatKeys", _ask(chain, deployment.settlement, settlement.call("seatKeys")))
    if list(seated) != [keys[member.account] for member in in_office.validators]:
        raise ChainRecordError(f"the chain's keys are not those of the set of epoch {in_office.epoch}, seat by seat")


def _check_node(record: ChainRecord, calls: Sequence[_Call], funds: tuple[tuple[bytes, int], ...]) -> None:
    """Check the transactions that a node was sent: first one account pays everybody, then as everywhere."""
    if record.transcript is not None:
        raise ChainRecordError("the record of a node holds a transcript, which only an embedded chain has")
    first = _first_sent(record)
    funding = [
        _Call(f"the funding of {account.hex()}", first.sender, account, value, b"", FUNDING_GAS_MAX)
        for account, value in funds
    ]
    _check_transactions(record.sent, [*funding, *calls], first.chain_id, Counter({first.sender: first.nonce}))


def _first_sent(record: ChainRecord) -> SignedTransaction:
    if not record.sent:
        raise ChainRecordError("the record of a node holds no transaction")
    return _decode_transaction(0, record.sent[0])


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
        if call.after_others:
            nonces[call.sender] = max(nonces[call.sender], found.nonce)
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


def _decode_transaction(index: int, sent: SentTransaction) -> SignedTransaction:
    """Return what a raw transaction of type 2 without access list says, and who signed it."""
    if sent.raw[:1] != b"\x02":
        raise ChainRecordError(f"transaction {index} has {len(sent.raw)} bytes, expected one of type 2")
    try:
        return decode_transaction(sent.raw)
    except MalformedTransactionError as error:
        raise ChainRecordError(f"transaction {index} is refused: {error}") from error


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _ask(chain: Chain, to: bytes, data: bytes) -> bytes:
    return chain.call(bytes(20), to, data)
