"""From an experiment to a network that is ready for round 0: data, keys, genesis, validators.

All keys here are fresh from the operating system; an experiment's seed decides only what a simulation may decide: how
rows are split and which validators play absent or lying.
"""

from __future__ import annotations

import random as simulation_random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import sha256
from math import ceil
from typing import Protocol

from collegium import algebra, learning
from collegium.aggregation import KeySum
from collegium.algebra import P
from collegium.consensus import (
    Announcement,
    Archive,
    ChangeContext,
    ChangePlan,
    ChangeRules,
    Consents,
    EpochSigner,
    EpochVerifier,
    Release,
    RoundContext,
    RoundTiming,
    ShardPlan,
    ValidatorContext,
    Verifier,
    Work,
    quorum_size,
    sign_release,
)
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    SealKey,
    ThresholdBeacon,
    combine_commitments,
    combine_shares,
    deal,
    hash_fields,
    os_random,
)
from collegium.errors import CollegiumError
from collegium.incentives import DirectionError, direction_norm_max
from collegium.learning import ModelSpec, OverflowBudgetError, Rows, Rule, Schema

from ._attackers import Attackers, spoil_trainers
from ._attest import Attest, NoQuoteSourceError, QuoteDemand, ask_command
from ._chain_terms import STAKE_WEI
from ._committee_settings import CommitteeSettings
from ._consents import consents_of
from ._epoch_node import EpochNode, present
from ._epochs import Epochs, epochs_of
from ._events import Event, Message, Warning_
from ._experiment import Experiment, experiment_to_bytes
from ._genesis import Genesis, GenesisError, ValidatorEntry, first_terms
from ._journal import MemoryJournal
from ._network import Network, SharedWork
from ._pay import pay_rule
from ._played_task import PlayedTask
from ._privacy import privacy_terms
from ._quality import QualityRule, StewardsRefusedError
from ._sharded_node import ShardedNode
from ._steward import Steward, draw_steward
from ._steward_proofs import StewardProving
from ._task import EMPTY_STATE, LearningTask
from ._trainer import Trainer
from ._validator_node import ValidatorNode

__all__ = [
    "Federation",
    "QuorumRefusedError",
    "Roles",
    "TaskTooLargeError",
    "ValidatorKeys",
    "build_task",
    "build_trainers_task",
    "draw_stewards",
    "draw_validators",
    "found",
    "open_network",
    "quorum_of",
    "read_data",
    "set_up",
    "surround",
    "validator_entry",
]

VIEW_TIMEOUT_LINKS = 6  # a view's base timeout in one-way delays: two are needed, and computing takes none here


class TooFewTrainersError(CollegiumError):
    """The data make fewer trainers than a sum must add."""


class QuorumRefusedError(CollegiumError):
    """A quorum of as many trainers as there are not, or of half of them or fewer."""


class TaskTooLargeError(CollegiumError):
    """The experiment's model, rule and rows do not fit the masking ring."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidatorKeys:
    """One validator's secrets."""

    account: AccountKey
    voting: BlsSecretKey
    first_seal: SealKey


@dataclass
class Federation:
    """A task ready to be played: public genesis, secrets of everybody simulated here, and the network."""

    experiment: Experiment
    genesis: Genesis
    task: LearningTask
    trainers: list[Trainer]
    test_rows: Rows
    test_counts: dict[str, int]  # by site
    operator: AccountKey
    validators: list[ValidatorKeys]
    epochs: Epochs  # as far as they have come
    participants: dict[int, ValidatorNode | EpochNode]  # by place in the genesis: through all epochs, where they end
    network: Network
    warnings: tuple[str, ...]
    stewards: tuple[Steward, ...]  # that measure trainers, where the experiment has some
    sharded: dict[int, ShardedNode]  # in the place of `participants` where there are shards
    attackers: Attackers  # those that forge updates

    @property
    def present(self) -> dict[int, ValidatorNode | EpochNode]:
        """The live members of the present epoch."""
        last = max((_epoch_of(node) for node in self.participants.values()), default=0)
        return {at: node for at, node in self.participants.items() if _in_office(node, last)}

    @property
    def nodes(self) -> dict[int, ValidatorNode]:
        """What each of them is in that epoch."""
        return {at: present(node) for at, node in self.present.items()}


def _epoch_of(node: ValidatorNode | EpochNode) -> int:
    return node.epoch if isinstance(node, EpochNode) else node.context.round.epoch


def _in_office(node: ValidatorNode | EpochNode, epoch: int) -> bool:
    return not isinstance(node, EpochNode) or node.of_epoch(epoch) is not None


def set_up(experiment: Experiment, on_event: Callable[[Event], None], attest: Attest | None = None) -> Federation:
    """Return the federation of an experiment.

    Args:
        experiment: what to found.
        on_event: is told of progress.
        attest: source of every trainer's quotes at level "attested", in place of the experiment's command.

    Raises:
        NoQuoteSourceError: reports must be attested, and there is neither `attest` nor a command.
        CollegiumError: data, schema or sizes are refused, each with its reason.
    """
    attest = _quote_source(experiment, on_event, attest)
    # 1. data: who holds which rows; only a simulation may look at all of them
    schema, split = read_data(experiment, on_event)
    held = spoil_trainers(experiment, schema, split.trainers)
    stewards = draw_stewards(experiment, split.hidden)
    trainers = [Trainer(AccountKey.generate(os_random), rows, attest=attest) for rows in held]
    if len(trainers) < experiment.trainers.minimum:
        raise TooFewTrainersError(
            f"{len(trainers)} trainers, trainers.minimum asks for {experiment.trainers.minimum}: fewer do not hide "
            "each other",
            trainers=len(trainers),
        )
    if experiment.committee.shards > 1:
        plan_of(experiment.committee).check_cohort(len(trainers), experiment.trainers.minimum)
    # 2. genesis: what is public from now on
    operator, committee = AccountKey.generate(os_random), experiment.committee
    absent, lying = _simulated_faults(experiment)
    validators = draw_validators(committee.validators)
    draft = Genesis(
        experiment=experiment_to_bytes(experiment),
        schema=learning.schema_to_bytes(schema),
        rows_max=1 << (max(len(trainer.rows.rows) for trainer in trainers) - 1).bit_length(),
        trainers=tuple((trainer.account.address, trainer.rows.name) for trainer in trainers),
        operator=operator.address,
        epoch=0,
        validators=(),
        beacon_commitments=(),
        beacon=b"",
        stewards=tuple(steward.seat for steward in stewards),
    )
    genesis, beacons = found(draft, validators, absent)
    task = build_trainers_task(genesis, experiment)
    # 3. validators: one process each in life, one object each here
    roles = Roles(validators, beacons, absent, lying, committee.verifiers)
    epochs = epochs_of(genesis, committee)
    participants, sharded = dict[int, ValidatorNode | EpochNode](), dict[int, ShardedNode]()
    if committee.shards > 1:
        sharded, network = _open_shards(genesis, task, roles, committee)
    else:
        beside = (consents_of(genesis, experiment.licences), bool(experiment.chain.followers))
        participants, network = open_network(genesis, task, roles, committee.link_ms, epochs.plan, *beside)
    return Federation(
        experiment=experiment,
        genesis=genesis,
        task=task,
        trainers=trainers,
        test_rows=split.test,
        test_counts=dict(split.test_counts),
        operator=operator,
        validators=validators,
        epochs=epochs,
        participants=participants,
        network=network,
        warnings=split.warnings,
        stewards=stewards,
        sharded=sharded,
        attackers=Attackers.of(experiment, task),
    )


def draw_stewards(experiment: Experiment, hidden: Sequence[Rows]) -> tuple[Steward, ...]:
    """Return the stewards of an experiment, each with its shards of the hidden rows, which were dealt in turn."""
    settings = experiment.stewards
    if settings is None:
        return ()
    shards = [hidden[place :: settings.count] for place in range(settings.count)]
    return tuple(draw_steward(held, experiment.data.label, settings.shard_rounds) for held in shards)


def _open_shards(
    genesis: Genesis, task: PlayedTask, roles: Roles, committee: CommitteeSettings
) -> tuple[dict[int, ShardedNode], Network]:
    from ._sharded_play import open_sharded_network  # it needs what is here

    return open_sharded_network(genesis, task, roles, committee)


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """Every validator's secrets and its share of the beacon, who plays absent or lying, and how many verify a proof."""

    keys: list[ValidatorKeys]
    beacons: list[ThresholdBeacon]
    absent: frozenset[int]
    lying: frozenset[int]
    verifiers: int


def open_network(
    genesis: Genesis,
    task: PlayedTask,
    roles: Roles,
    link_ms: int,
    plan: ChangePlan | None = None,
    consents: Consents | None = None,
    registries: bool = False,
) -> tuple[dict[int, ValidatorNode | EpochNode], Network]:
    """Return the live validators, each at the beginning of round 0, and the network between them.

    Args:
        plan: when epochs change; None: one that does not end.
        consents, registries: as `surround` takes them.
    """
    work = SharedWork()
    network, nodes = Network(work, link_ms), dict[int, ValidatorNode | EpochNode]()
    verifier, seats = EpochVerifier(genesis.epoch_set, work.once), len(roles.keys)
    terms = first_terms(genesis, task, seats, EMPTY_STATE)
    accounts = [entry.account for entry in genesis.validators]
    first_messages = []
    for index, keys in enumerate(roles.keys):
        if index in roles.absent:
            continue
        open_journal = _Journals()
        context = surround(
            genesis,
            task,
            index,
            keys,
            roles.beacons[index],
            open_journal(0).archive,
            seats=seats,
            verifiers=roles.verifiers,
            view_timeout_ms=view_timeout_ms(link_ms),
            timing=RoundTiming(),
            work=work,
            signatures=verifier,
            plan=plan,
            consents=consents,
            registries=registries,
        )
        disguise = _liar(genesis.task, keys.account) if index in roles.lying else None
        first = (terms, EMPTY_STATE, {0: keys.first_seal})
        if plan is None:
            nodes[index], outgoing = ValidatorNode.restore(context, open_journal(0), *first, 0, disguise)
        else:
            member, outgoing = EpochNode.restore(index, accounts, open_journal, context, *first, 0)
            nodes[index], member.node.disguise = member, disguise
        network.join(index, nodes[index])
        first_messages.append((index, outgoing))
    for index, outgoing in first_messages:
        network.send(index, outgoing)
    return nodes, network


def view_timeout_ms(link_ms: int) -> int:
    """Return a view's base timeout where links take so long."""
    return max(100, VIEW_TIMEOUT_LINKS * link_ms)


@dataclass
class _Journals:
    """One validator's journals in memory, by epoch; what is over two epochs ago is not asked for again."""

    by_epoch: dict[int, MemoryJournal] = field(default_factory=dict)

    def __call__(self, epoch: int) -> MemoryJournal:
        return self.by_epoch.setdefault(epoch, MemoryJournal())


class SigningKeys(Protocol):
    """What a validator signs with."""

    @property
    def account(self) -> AccountKey: ...

    @property
    def voting(self) -> BlsSecretKey: ...


def surround(
    genesis: Genesis,
    task: PlayedTask,
    index: int,
    keys: SigningKeys,
    beacon: ThresholdBeacon,
    archive: Archive,
    *,
    seats: int,
    verifiers: int,
    view_timeout_ms: int,
    timing: RoundTiming,
    work: Work,
    signatures: Verifier,
    plan: ChangePlan | None = None,
    consents: Consents | None = None,
    registries: bool = False,
) -> ValidatorContext:
    """Return what does not change for one validator while its task runs.

    Args:
        beacon: with this validator's share.
        verifiers: validators that the beacon chooses to verify each report's proof.
        timing: how long a round waits.
        work, signatures: what was computed and verified, of which validators in one process keep one memory.
        plan: when epochs change; None: one that does not end.
        consents: whose data is used by whose leave; None where nobody's leave is asked.
        registries: headers carry what the task's chains hold of it.
    """
    surroundings = RoundContext(
        agreed=task,
        epoch_set=genesis.epoch_set,
        index=index,
        account=keys.account,
        voting_key=keys.voting,
        beacon=beacon,
        cohort=frozenset(account for account, _ in genesis.trainers),
        seats=seats,
        work=work,
        random=os_random,
        timing=timing,
        cohort_min=task.cohort_min,
        quorum=task.quorum,
        lying_max=task.lying_max,
        verifiers=verifiers,
        quality=task.quality,
        pay=task.pay,
    )
    signer, change = EpochSigner(keys.voting, keys.account), None
    if plan is not None:
        rules, value = ChangeRules(plan, genesis.epoch_set, work), sha256(genesis.beacon).digest()
        change = ChangeContext(rules, 0, value, keys.account, keys.voting, os_random)
    beside = (change, consents, registries)
    return ValidatorContext(surroundings, signer, signatures, archive, view_timeout_ms, None, *beside)


def build_task(genesis: Genesis, experiment: Experiment) -> LearningTask:
    """Return the task's public work as genesis and experiment fix it.

    Raises:
        TaskTooLargeError: its integers do not fit the bit budget.
    """
    schema = learning.schema_from_bytes(genesis.schema)
    spec = ModelSpec(experiment.model.kind, len(schema.feature_names), experiment.model.hidden)
    settings = experiment.rule
    rule = Rule(
        learning_rate=settings.learning_rate,
        local_steps=settings.local_steps,
        batch_rows=settings.batch_rows,
        loss=settings.loss,
        activation_limit=settings.activation_limit,
        error_limit=settings.error_limit,
    )
    quality = _quality_rule(genesis, experiment, spec, rule)
    task = LearningTask(
        task=genesis.task,
        seed=hash_fields("initial-model", experiment_to_bytes(_at_no_level(experiment)), genesis.schema),
        level=experiment.task.level,
        rounds=experiment.task.rounds,
        schema=schema,
        spec=spec,
        rule=rule,
        rows_max=genesis.rows_max,
        trainers_max=len(genesis.trainers),
        cohort_min=experiment.trainers.minimum,
        lying_max=experiment.committee.lying_seats_max,
        names=genesis.trainers,
        quorum=quorum_of(experiment, len(genesis.trainers)),
        staleness=experiment.trainers.staleness,
        quotes=_quote_demand(experiment),
        quality=quality,
        privacy=None if experiment.privacy is None else privacy_terms(experiment.privacy, rule),
        pay=pay_rule(experiment, genesis, quality),
    )
    try:
        task.layout(0), task.layout(1 + task.staleness)
    except CollegiumError as error:
        raise TaskTooLargeError(f"this task does not fit: {error}") from error
    return task


def build_trainers_task(genesis: Genesis, experiment: Experiment) -> LearningTask:
    """Return what `build_task` does, for whoever trains: noise is drawn once, if there is to be some.

    Raises:
        PrivacyMissingError: it cannot be drawn; better said before the first round.
        TaskTooLargeError: as `build_task`.
    """
    task = build_task(genesis, experiment)
    if task.privacy is not None:
        task.privacy.noise(1, task.privacy.deviation)
    return task


def _quality_rule(genesis: Genesis, experiment: Experiment, spec: ModelSpec, rule: Rule) -> QualityRule | None:
    """Return how trainers are weighed; None where the experiment has no stewards.

    Raises:
        GenesisError: the genesis has other stewards than the experiment asks for.
        StewardsRefusedError: the model is too large for their records, or its updates for scores.
        TaskTooLargeError: updates do not fit the bit budget.
    """
    settings = experiment.stewards
    count = 0 if settings is None else settings.count
    if len(genesis.stewards) != count:
        raise GenesisError(f"genesis has {len(genesis.stewards)} stewards, the experiment asks for {count}")
    if settings is None:
        return None
    most = genesis.rows_max
    try:
        bound = learning.update_bound(spec, rule, most)
    except OverflowBudgetError as error:
        raise TaskTooLargeError(f"this task does not fit: {error}") from error
    try:
        direction_norm = direction_norm_max(spec.parameter_count, bound, P)
    except DirectionError as error:
        raise StewardsRefusedError(
            f"scores of this model have no room: {error}; a smaller model, fewer rows a batch or fewer fraction bits",
            parameters=spec.parameter_count,
            update_bound=bound,
        ) from error
    return QualityRule(
        task=genesis.task,
        policy=settings.policy,
        noise=settings.noise,
        weighted_min=experiment.trainers.minimum,
        rows_max=most if rule.batch_rows is None else min(most, rule.batch_rows),
        trainers=tuple(account for account, _ in genesis.trainers),
        stewards=tuple(seat.account for seat in genesis.stewards),
        parameters=spec.parameter_count,
        direction_norm=direction_norm,
        places=experiment.trainers.places,
        proving=_steward_proving(genesis, experiment, spec, rule) if settings.proved else None,
    )


def _steward_proving(genesis: Genesis, experiment: Experiment, spec: ModelSpec, rule: Rule) -> StewardProving:
    schema, settings = learning.schema_from_bytes(genesis.schema), experiment.stewards
    return StewardProving(
        task=genesis.task,
        spec=spec,
        rule=rule,
        rounds=experiment.task.rounds,
        shard_rounds=0 if settings is None else settings.shard_rounds,
        parameters_at=8 * (3 * len(schema.numeric) + 1),
    )


def quorum_of(experiment: Experiment, trainers: int) -> int | None:
    """Return of how many of the task's trainers the reports suffice to close a round; None: of all.

    A share is rounded up, and never below `trainers.minimum`.

    Raises:
        QuorumRefusedError: more than there are, or not more than half: then two halves could be added apart.
    """
    settings = experiment.trainers
    if settings.quorum is None:
        return None
    share = isinstance(settings.quorum, Fraction)
    quorum = min(trainers, max(settings.minimum, ceil(settings.quorum * trainers))) if share else int(settings.quorum)
    if not trainers < 2 * quorum <= 2 * trainers:
        raise QuorumRefusedError(
            f"trainers.quorum is {quorum}, expected more than half of the {trainers} trainers and at most all",
            quorum=quorum,
            trainers=trainers,
        )
    return None if quorum == trainers else quorum


def _at_no_level(experiment: Experiment) -> Experiment:
    """Return the experiment without what is beside model, rule and data: a model starts the same whoever adds what."""
    whole = replace(experiment.committee, shards=1, partition_rounds=None)
    task = replace(experiment.task, level="unproved")
    bare = replace(experiment, task=task, committee=whole)
    return replace(bare, attestation=None, licences=None, attack=None, stewards=None, privacy=None)


def _quote_demand(experiment: Experiment) -> QuoteDemand | None:
    settings = experiment.attestation
    return None if settings is None else QuoteDemand(settings.policy, settings.time)


def _quote_source(experiment: Experiment, on_event: Callable[[Event], None], attest: Attest | None) -> Attest | None:
    """Return where quotes come from, None at a level without; say so, and at what time they are judged."""
    settings = experiment.attestation
    if settings is None:
        return None
    if attest is None and not settings.command:
        raise NoQuoteSourceError('level "attested" needs attestation.command, a program that prints attestations')
    origin = "the caller" if attest is not None else settings.command[0]
    on_event(
        Message(
            f"attestations come from {origin}; in every round they are judged at Unix time {settings.time}, which the "
            "experiment names: no clock is read"
        )
    )
    return attest or ask_command(settings.command, experiment.folder)


def read_data(experiment: Experiment, on_event: Callable[[Event], None]) -> tuple[Schema, learning.Split]:
    """Return the public schema, and who holds which rows of the experiment's table."""
    data, stewards = experiment.data, experiment.stewards
    table = learning.load_table(experiment.data_path).blank(data.missing, keep=(data.site, data.label))
    split = learning.split_sites(
        table,
        site=data.site,
        label=data.label,
        positive=data.positive or (),
        negative=data.negative or (),
        drop=data.drop,
        test_fraction=data.test_fraction,
        per_site=experiment.trainers.per_site,
        seed=experiment.task.seed,
        rows_min=data.rows_min,
        hidden_fraction=Fraction(0) if stewards is None else stewards.share,
        shards=0 if stewards is None else stewards.count * stewards.shards(experiment.task.rounds),
    )
    for warning in split.warnings:
        on_event(Warning_(warning))
    schema = experiment.schema
    if schema is None:
        schema = learning.infer_schema(table, skip=(data.site, data.label, *data.drop))
        on_event(
            Warning_(
                "the schema (categories and clipping ranges) was inferred from the whole file: only a simulation "
                "may do that; give it under [schema] to keep it independent of the data"
            )
        )
    on_event(Message(f"{len(split.trainers)} trainers, {len(split.test)} pooled test rows that an evaluator holds"))
    return schema, split


def _simulated_faults(experiment: Experiment) -> tuple[frozenset[int], frozenset[int]]:
    """Return the validators that play absent and lying, drawn by the experiment's seed."""
    committee = experiment.committee
    rng = simulation_random.Random(f"faults {experiment.task.seed}")  # noqa: S311 - a simulated choice, no secret
    drawn = rng.sample(range(committee.validators), committee.absent + committee.lying)
    return frozenset(drawn[: committee.absent]), frozenset(drawn[committee.absent :])


def _liar(task: Digest, account: AccountKey) -> Callable[[object], object]:
    """Return a disguise that replaces every key sum by signed garbage."""
    return lambda message: false_release(message, task, account) if isinstance(message, Release) else message


def false_release(release: Release, task: Digest, account: AccountKey) -> Release:
    """Return a release whose key sums are signed garbage."""
    garbage = tuple(_garbage(key_sum, account) for key_sum in release.key_sums)
    return sign_release(replace(release, key_sums=garbage), task, account)


def _garbage(key_sum: KeySum, account: AccountKey) -> KeySum:
    """Return a wrong sum under the seat's good signature."""
    rows = algebra.sample_field(os_random, key_sum.rows.size).reshape(key_sum.rows.shape)
    unsigned = replace(key_sum, rows=rows)
    return replace(unsigned, signature=account.sign(unsigned.digest))


def plan_of(committee: CommitteeSettings) -> ShardPlan:
    """Return how an experiment's rounds are sharded."""
    return ShardPlan(committee.shards, committee.seats, committee.partition_rounds or 1)


def draw_validators(seats: int) -> list[ValidatorKeys]:
    """Return fresh secrets of as many validators as there are seats."""
    return [
        ValidatorKeys(AccountKey.generate(os_random), BlsSecretKey.generate(os_random), SealKey.generate(os_random))
        for _ in range(seats)
    ]


def found(
    draft: Genesis, validators: list[ValidatorKeys], absent: frozenset[int]
) -> tuple[Genesis, list[ThresholdBeacon]]:
    """Return the genesis with every proof in it, and each validator's part of the beacon.

    `draft` says what the task is and who trains; its validators and its beacon are filled in.
    """
    size = len(validators)
    dealings = [deal(os_random, size, quorum_size(size)) for _ in range(size)]
    draft = replace(draft, beacon_commitments=tuple(dealing.commitments for dealing in dealings))
    entries = tuple(
        validator_entry(draft.task, index, keys, absent=index in absent) for index, keys in enumerate(validators)
    )
    group = combine_commitments(size, draft.beacon_commitments)
    shares_of = [combine_shares([dealing.shares[member] for dealing in dealings]) for member in range(size)]
    beacons = [ThresholdBeacon(draft.task, group, share) for share in shares_of]
    shares = {i: beacons[i].partial(0, 0) for i in range(size) if i not in absent}
    genesis = replace(draft, validators=entries, beacon=beacons[0].combine(0, 0, shares))
    return genesis, beacons


def validator_entry(task: Digest, index: int, keys: ValidatorKeys, *, absent: bool = False) -> ValidatorEntry:
    """Return what genesis says of a validator: keys, proof of possession, and its sealing key for round 0, signed."""
    unsigned = Announcement(index, 0, keys.first_seal.public_bytes, b"")
    announcement = replace(unsigned, signature=keys.account.sign(unsigned.digest(task)))
    return ValidatorEntry(
        account=keys.account.address,
        bls_key=bytes(keys.voting.public_key()),
        possession=keys.voting.prove_possession(task + keys.account.address),
        stake=STAKE_WEI,
        announcement=None if absent else announcement,
    )
