"""Validators with several committees a round, on virtual time and with real cryptography, around a task as in
`_round_stage`. `City` runs them whole; `history` is one round as every validator saw it, state by state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from _round_stage import EMPTY_MODEL, ENTRIES, LINK_MS, RANDOM, TASK

from collegium.aggregation import Budget, Layout, RoundTerms, SeatTerms, Upload, make_upload
from collegium.consensus import (
    EpochSet,
    EpochSigner,
    EpochVerifier,
    Refused,
    RegistrationScope,
    RoundContext,
    RoundFinished,
    ShardContext,
    ShardedContext,
    ShardedState,
    ShardedTerms,
    ShardPlan,
    Validator,
    ValidatorContext,
    ValidatorIndex,
    first_sharded_terms,
)
from collegium.crypto import AccountKey, BlsSecretKey, SealKey, ThresholdBeacon, combine_commitments, deal
from collegium.node import Network, SharedWork
from collegium.node._journal import BlockArchive, MemoryJournal
from collegium.node._network import Delivery
from collegium.node._sharded_node import ShardedNode
from collegium.node._validator_node import ValidatorNode

SEATS = 16  # of each shard's committee
TRAINERS = 12


@dataclass(frozen=True)
class Tally:
    """A task whose model is the list of all totals: whoever added another sum holds another model."""

    task: bytes = TASK
    level: str = "unproved"
    skips: bool = True

    def layout(self, round_number: int) -> Layout:
        return Layout(ENTRIES, Budget(entry_bound=1000, trainers_max=TRAINERS))

    def step(self, round_number: int, model: bytes, total: np.ndarray) -> bytes:
        return model + total.astype("<i8").tobytes()

    def may_skip(self, round_number: int) -> bool:
        return self.skips

    def proof_bytes_max(self, round_number: int) -> int:
        return 0

    def registration_bytes_max(self, round_number: int) -> int:
        return 0

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        raise AssertionError("nothing is registered for this task")

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        raise AssertionError("nothing is registered for this task")

    def verify_proof(self, *arguments: Any) -> None:
        raise AssertionError("nothing is proved in this task")


@dataclass(frozen=True)
class Members:
    """Everybody's keys."""

    accounts: tuple[AccountKey, ...]
    voting: tuple[BlsSecretKey, ...]
    seals: tuple[SealKey, ...]
    beacons: tuple[ThresholdBeacon, ...]
    epoch_set: EpochSet


@cache
def members(size: int) -> Members:
    random = RANDOM.split(f"shards {size}")
    accounts = tuple(AccountKey.generate(random.split(f"account {i}")) for i in range(size))
    voting = tuple(BlsSecretKey.generate(random.split(f"voting {i}")) for i in range(size))
    listed = (Validator(ValidatorIndex(i), bytes(voting[i].public_key()), accounts[i].address, 1) for i in range(size))
    dealing = deal(random.split("beacon"), size, size - (size - 1) // 3)
    group = combine_commitments(size, [dealing.commitments])
    return Members(
        accounts=accounts,
        voting=voting,
        seals=tuple(SealKey.generate(random.split(f"seal {i}")) for i in range(size)),
        beacons=tuple(ThresholdBeacon(TASK, group, share) for share in dealing.shares),
        epoch_set=EpochSet(TASK, 0, tuple(listed)),
    )


@cache
def trainer_key(trainer: int) -> AccountKey:
    return AccountKey.generate(RANDOM.split(f"sharded trainer {trainer}"))


def cohort(trainers: int = TRAINERS) -> frozenset[bytes]:
    return frozenset(trainer_key(trainer).address for trainer in range(trainers))


def update_of(trainer: int, round_number: int = 0) -> np.ndarray:
    return np.arange(ENTRIES, dtype=np.int64) * (trainer + 1) - 7 - round_number


def sum_of(trainers: Iterable[int], round_number: int = 0) -> bytes:
    total = np.sum([update_of(trainer, round_number) for trainer in trainers], axis=0)
    return bytes(total.astype("<i8").tobytes())


def shard_context(size: int, count: int, index: int = 0, partition_rounds: int = 1, **changes: Any) -> ShardContext:
    """Return one validator's surroundings; as everybody's, but for the keys."""
    who = members(size)
    surroundings: dict[str, Any] = {
        "agreed": Tally(),
        "epoch_set": who.epoch_set,
        "index": index,
        "account": who.accounts[index],
        "voting_key": who.voting[index],
        "beacon": who.beacons[index],
        "cohort": cohort(),
        "seats": SEATS,
        "work": SharedWork(),
        "random": RANDOM.split(f"sharded validator {index}"),
        "cohort_min": 2,
    }
    return ShardContext(RoundContext(**(surroundings | changes)), ShardPlan(count, SEATS, partition_rounds))


def first_terms(size: int, count: int, partition_rounds: int = 1) -> ShardedTerms:
    start = (sha256(b"genesis").digest(), sha256(EMPTY_MODEL).digest(), sha256(b"first beacon").digest())
    keys = {i: key.public_bytes for i, key in enumerate(members(size).seals)}
    return first_sharded_terms(Tally(), members(size).epoch_set, ShardPlan(count, SEATS, partition_rounds), start, keys)


made: dict[tuple[bytes, int], Upload] = {}


def upload_for(terms: RoundTerms, trainer: int) -> Upload:
    """Return what a trainer sends under these terms; made once, however many cities play them."""
    if (terms.digest, trainer) not in made:
        random = RANDOM.split(f"shards {terms.digest.hex()} {trainer}")
        made[terms.digest, trainer] = make_upload(terms, trainer_key(trainer), update_of(trainer, terms.round), random)
    return made[terms.digest, trainer]


Disguise = Callable[[int | None, object], object | None]


@dataclass
class City:
    """Whole validators with `count` shards a round; messages and bytes are counted by kind."""

    size: int
    count: int
    nodes: dict[int, ShardedNode] = field(default_factory=dict)
    network: Network = field(default_factory=lambda: Network(SharedWork(), LINK_MS))

    @classmethod
    def opened(
        cls,
        size: int,
        count: int,
        absent: Iterable[int] = (),
        disguises: dict[int, Disguise] | None = None,
        partition_rounds: int = 1,
        **changes: Any,
    ) -> City:
        city, who, outgoing = cls(size, count), members(size), []
        work, verifier = city.network.work, EpochVerifier(who.epoch_set)
        for i in sorted(set(range(size)) - set(absent)):
            surroundings = shard_context(size, count, i, partition_rounds, work=work, **changes)
            signer = EpochSigner(who.voting[i], who.accounts[i])
            context = ShardedContext(surroundings, signer, verifier, BlockArchive(), 10 * LINK_MS)
            terms, disguise = first_terms(size, count, partition_rounds), (disguises or {}).get(i)
            first = (terms, EMPTY_MODEL, {0: who.seals[i]}, 0)
            city.nodes[i], said = ShardedNode.restore(context, MemoryJournal(), *first, disguise)
            city.network.join(i, city.nodes[i])
            outgoing.append((i, said))
        for i, said in outgoing:
            city.network.send(i, said)
        return city

    @property
    def terms(self) -> ShardedTerms:
        return next(iter(self.nodes.values())).state.shards.terms

    def report(self, trainers: Iterable[int] = range(TRAINERS), trained: int = TRAINERS) -> list[Upload]:
        """Let trainers do their part of the present round: each sends to its shard's members."""
        uploads = []
        for trainer in trainers:
            shard = self.terms.shard_of(cohort(trained), trainer_key(trainer).address)
            upload = upload_for(self.terms.shards[shard], trainer)
            uploads.append(upload)
            for to in self.terms.members[shard]:
                self.network.post(to, upload, self.network.now_ms + LINK_MS, self.network.measured_ms)
        return uploads

    def play(self, limit_ms: int = 10_000) -> RoundFinished:
        """Run until every validator here has finished one more round; all must have finished with the same."""
        wanted = 1 + min(len(finished(node)) for node in self.nodes.values())
        limit_ms += self.network.now_ms
        self.network.run(lambda _: all(len(finished(node)) >= wanted for node in self.nodes.values()), limit_ms)
        ended = [finished(node)[wanted - 1] for node in self.nodes.values()]
        assert len({(end.header.digest, end.model) for end in ended}) == 1
        return ended[0]

    def refusals(self) -> list[Exception]:
        return [note.reason for node in self.nodes.values() for note in node.notes if isinstance(note, Refused)]


def finished(node: ShardedNode) -> list[RoundFinished]:
    """Return the rounds that a validator has finished, in their order."""
    return [note for note in node.notes if isinstance(note, RoundFinished)]


@dataclass(frozen=True)
class Seen:
    """A validator's state after one delivery."""

    now: int
    state: ShardedState


@cache
def history(size: int = 20, count: int = 2) -> tuple[City, dict[int, list[Seen]]]:
    """Return a round that went well, and all states of every validator on the way; they are immutable."""
    city = City.opened(size, count)
    city.report()
    seen: dict[int, list[Seen]] = {i: [] for i in city.nodes}

    def ended(delivery: Delivery) -> bool:
        here = city.nodes[delivery.participant]
        seen[delivery.participant].append(Seen(delivery.modelled_ms, here.state.shards))
        return all(finished(node) for node in city.nodes.values())

    city.network.run(ended, 10_000)
    return city, seen


def single(rounds: int) -> bytes:
    """Return the model that one committee of sixteen, the machine of `_round`, makes of the same updates."""
    who, network, journals = members(SEATS), Network(SharedWork(), LINK_MS), {}
    seats = tuple(SeatTerms(who.accounts[i].address, who.seals[i].public_bytes) for i in range(SEATS))
    digests = (sha256(b"genesis").digest(), sha256(EMPTY_MODEL).digest(), sha256(b"first beacon").digest())
    terms = RoundTerms(TASK, 0, *digests, seats, Tally().layout(0))
    verifier = EpochVerifier(who.epoch_set)
    for i in range(SEATS):
        journals[i] = MemoryJournal()
        surroundings = shard_context(SEATS, 1, i, work=network.work).round
        signer = EpochSigner(who.voting[i], who.accounts[i])
        context = ValidatorContext(surroundings, signer, verifier, journals[i].archive, 10 * LINK_MS)
        node, said = ValidatorNode.restore(context, journals[i], terms, EMPTY_MODEL, {0: who.seals[i]}, 0)
        network.join(i, node)
        network.send(i, said)
    nodes = [network.participants[i] for i in range(SEATS)]
    for number in range(rounds):
        present = nodes[0].state.round.terms  # type: ignore[attr-defined]
        for trainer in range(TRAINERS):
            upload = make_upload(
                present, trainer_key(trainer), update_of(trainer, number), RANDOM.split(f"single {trainer}")
            )
            for to in range(SEATS):
                network.post(to, upload, network.now_ms + LINK_MS, network.measured_ms)
        network.run(lambda _, wanted=number + 1: all(len(n.headers) >= wanted for n in nodes), network.now_ms + 10_000)  # type: ignore[attr-defined,misc]
    return nodes[0].state.round.model  # type: ignore[attr-defined,no-any-return]
