"""Validators with several committees a round, on virtual time and with real cryptography, around the task of `_round_stage`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from _round_stage import EMPTY_MODEL, ENTRIES, LINK_MS, RANDOM, TASK

from collegium.aggregation import Budget, Layout, RoundTerms, Upload, make_upload
from collegium.consensus import (
    EpochSet,
    EpochSigner,
    EpochVerifier,
    RegistrationScope,
    RoundContext,
    RoundFinished,
    ShardContext,
    ShardedContext,
    ShardedTerms,
    ShardPlan,
    Validator,
    ValidatorIndex,
    first_sharded_terms,
)
from collegium.crypto import AccountKey, BlsSecretKey, SealKey, ThresholdBeacon, combine_commitments, deal
from collegium.node import Network, SharedWork
from collegium.node._journal import BlockArchive
from collegium.node._sharded_node import ShardedNode

SEATS = 16  # of each shard's committee
TRAINERS = 12


@dataclass(frozen=True)
class Tally:
    """A task whose model is the list of all totals: whoever added another sum holds another model."""

    task: bytes = TASK
    level: str = "unproved"

    def layout(self, round_number: int) -> Layout:
        return Layout(ENTRIES, Budget(entry_bound=1000, trainers_max=TRAINERS))

    def step(self, round_number: int, model: bytes, total: np.ndarray) -> bytes:
        return model + total.astype("<i8").tobytes()

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
            city.nodes[i], said = ShardedNode.start(context, terms, EMPTY_MODEL, {0: who.seals[i]}, 0, disguise)
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
            account = trainer_key(trainer)
            shard = self.terms.shard_of(cohort(trained), account.address)
            random = RANDOM.split(f"city {self.terms.round} {trainer} {self.count}")
            upload = make_upload(self.terms.shards[shard], account, update_of(trainer, self.terms.round), random)
            uploads.append(upload)
            for to in self.terms.members[shard]:
                self.network.post(to, upload, self.network.now_ms + LINK_MS, self.network.measured_ms)
        return uploads

    def play(self, limit_ms: int = 10_000) -> RoundFinished:
        """Run until every validator here has finished one more round; all must have finished with the same."""
        wanted = 1 + min(len(node.finished) for node in self.nodes.values())
        self.network.run(lambda _: all(len(node.finished) >= wanted for node in self.nodes.values()), self.network.now_ms + limit_ms)
        ended = [node.finished[wanted - 1] for node in self.nodes.values()]
        assert len({(finished.header.digest, finished.model) for finished in ended}) == 1
        return ended[0]

    def refusals(self) -> list[Exception]:
        from collegium.consensus import Refused

        return [note.reason for node in self.nodes.values() for note in node.notes if isinstance(note, Refused)]


_ = (RoundTerms, Hashable, replace)
