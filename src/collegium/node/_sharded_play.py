"""Rounds with several committees in one process: the network at round 0, and one round from private rows to a header.

As `_setup.open_network` and `_play.play_round`; each trainer sends to the members of its shard alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256

from collegium.aggregation import Upload
from collegium.consensus import (
    Agreed,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    Release,
    RoundTiming,
    ShardContext,
    ShardedContext,
    ShardedTerms,
    ShardMessage,
    ShardPlan,
    first_sharded_terms,
)
from collegium.crypto import AccountKey, Digest, Randomness

from ._committee_settings import CommitteeSettings
from ._genesis import Genesis
from ._journal import MemoryJournal
from ._network import Network, SharedWork
from ._play import ROUND_LIMIT_MS, TrainersBench
from ._played_task import PlayedTask
from ._round_watch import PlayedRound, RoundWatch
from ._setup import Roles, false_release, plan_of, surround, view_timeout_ms
from ._sharded_node import ShardedNode
from ._task import EMPTY_STATE
from ._trainer import Trainer
from ._verify_ahead import lasts, verify_ahead
from ._workers import Workers

__all__ = ["first_shard_terms", "open_sharded_network", "play_sharded_round"]


def first_shard_terms(genesis: Genesis, agreed: Agreed, plan: ShardPlan, model: bytes) -> ShardedTerms:
    """Return the terms of round 0."""
    start = (genesis.digest, sha256(model).digest(), sha256(genesis.beacon).digest())
    return first_sharded_terms(agreed, genesis.epoch_set, plan, start, genesis.first_seal_keys)


def open_sharded_network(
    genesis: Genesis, task: PlayedTask, roles: Roles, committee: CommitteeSettings
) -> tuple[dict[int, ShardedNode], Network]:
    """Return the live validators, each at the beginning of round 0, and the network between them.

    Raises:
        TooManyShardsError: a shard would have fewer trainers than a sum may add.
    """
    work, plan, link_ms = SharedWork(), plan_of(committee), committee.link_ms
    network, nodes = Network(work, link_ms), dict[int, ShardedNode]()
    verifier, terms = EpochVerifier(genesis.epoch_set), first_shard_terms(genesis, task, plan, EMPTY_STATE)
    first_messages = []
    for index, keys in enumerate(roles.keys):
        if index in roles.absent:
            continue
        journal = MemoryJournal()
        single = surround(
            genesis,
            task,
            index,
            keys,
            roles.beacons[index],
            journal.archive,
            seats=plan.seats,
            verifiers=roles.verifiers,
            view_timeout_ms=view_timeout_ms(link_ms),
            timing=RoundTiming(),
            work=work,
            signatures=verifier,
        )
        signer, shards = EpochSigner(keys.voting, keys.account), ShardContext(single.round, plan)
        context = ShardedContext(shards, signer, verifier, journal.archive, single.timeout_base_ms)
        disguise = _liar(genesis.task, keys.account) if index in roles.lying else None
        first = (terms, EMPTY_STATE, {0: keys.first_seal})
        nodes[index], outgoing = ShardedNode.restore(context, journal, *first, 0, disguise)
        network.join(index, nodes[index])
        first_messages.append((index, outgoing))
    for index, outgoing in first_messages:
        network.send(index, outgoing)
    return nodes, network


def _liar(task: Digest, account: AccountKey) -> Callable[[int | None, object], object | None]:
    """Return a disguise that replaces every key sum by signed garbage, the same to everybody."""
    told = dict[Digest, Release]()

    def disguise(to: int | None, message: object) -> object:
        if not isinstance(message, ShardMessage) or not isinstance(message.message, Release):
            return message
        said = message.message.digest(task)
        if said not in told:
            told.clear()
            told[said] = false_release(message.message, task, account)
        return replace(message, message=told[said])

    return disguise


def play_sharded_round(
    network: Network,
    nodes: Mapping[int, ShardedNode],
    epoch_set: EpochSet,
    task: PlayedTask,
    trainers: list[Trainer],
    random: Randomness,
    on_report: Callable[[int, str], None],
    workers: Workers,
) -> PlayedRound:
    """Play one round until its header is final at every live validator; proofs are made and verified by `workers`.

    Raises:
        StalledError: no header becomes final within the limit of virtual time.
        CollegiumError: a trainer's data do not fit the task.
    """
    cpu_began = time.process_time()
    network.work.forget(lasts)
    state = next(iter(nodes.values())).state.shards
    terms, model = state.terms, state.model
    # 1.-5. in each shard, under its own terms: learn, mask and commit, prove, seal and sign
    cohorts = terms.cohorts(trainer.account.address for trainer in trainers)
    uploads: dict[Digest, Upload] = {}
    cpu_seconds, prove_ms, verify_ms = 0.0, list[float](), list[float]()
    for shard, cohort in enumerate(cohorts):
        inside = [trainer for trainer in trainers if trainer.account.address in cohort]
        bench = TrainersBench(task, terms.shards[shard], model, state.registered, workers, random)
        sent: dict[Digest, Upload] = {}
        for trainer, upload in zip(inside, bench.uploads(inside), strict=True):
            on_report(len(uploads) + len(sent), trainer.rows.name)
            sent[upload.report.id] = upload
        began = time.process_time()
        verify_ms += verify_ahead(network.work, task, terms.shards[shard], model, bench.held(sent), workers)
        cpu_began += time.process_time() - began  # a validator's work, charged to each by `verify_ahead`
        for upload in sent.values():
            for to in terms.members[shard]:
                network.post(to, upload, network.now_ms + network.link_ms, network.measured_ms + network.link_ms)
        uploads |= sent
        cpu_seconds, prove_ms = cpu_seconds + bench.cpu_seconds, prove_ms + bench.prove_ms
    cpu_seconds += time.process_time() - cpu_began
    # 6.-10. admit, close, release and open in each shard, merge and certify: the validators' state machines
    watch, began_compute_ms = RoundWatch(len(nodes), terms.round), network.compute_ms
    network.run(lambda delivery: watch.saw(delivery, nodes[delivery.participant]), network.now_ms + ROUND_LIMIT_MS)
    # what became of it
    return watch.left(
        epoch_set.quorum,
        uploads,
        {},  # data are registered in rounds with one committee only
        trainers_cpu_seconds=cpu_seconds,
        consensus_cpu_seconds=(network.compute_ms - began_compute_ms) / 1e3,
        prove_ms=prove_ms,
        verify_ms=verify_ms,
    )
