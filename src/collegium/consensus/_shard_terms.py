"""Who trains and who sits in which shard of a round: drawn by its beacon, balanced, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from collegium.aggregation import Layout, RoundTerms, SeatTerms, seat_width
from collegium.crypto import Digest, hash_fields
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._lottery import SEATS_MAX, draw_committee
from ._records import Header
from ._round_types import Agreed
from ._shard_records import SHARDS_MAX

__all__ = [
    "NoShardError",
    "ShardPlan",
    "ShardPlanError",
    "ShardedTerms",
    "TooManyShardsError",
    "first_sharded_terms",
    "sharded_terms_after",
    "sharded_terms_at",
    "split_cohort",
]


class ShardPlanError(CollegiumError):
    """Numbers of shards, seats or rounds that no task can have."""


class TooManyShardsError(CollegiumError):
    """So many shards that some would add fewer trainers than hide each other."""


class NoShardError(CollegiumError):
    """A trainer that is in no shard, or a shard that the round does not have."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """How a task's rounds are sharded.

    Args:
        count: shards of a round, 1 to 256.
        seats: of each shard's committee, a power of two from 16 to 256.
        partition_rounds: for how many rounds trainers stay together. Every shard's sum is public: the more often small
            groups change, the sooner averages single somebody out.

    Raises:
        ShardPlanError: the above does not hold, or there are more than 4096 seats in all.
        BudgetError: no committee has so many seats.
    """

    count: int
    seats: int
    partition_rounds: int

    def __post_init__(self) -> None:
        seat_width(self.seats)
        if not 1 <= self.count <= SHARDS_MAX or self.count * self.seats > SEATS_MAX or self.partition_rounds < 1:
            raise ShardPlanError(
                f"{self.count} shards of {self.seats} seats for {self.partition_rounds} rounds: expected 1 to "
                f"{SHARDS_MAX} shards, at most {SEATS_MAX} seats in all, one round or more"
            )

    def check_cohort(self, trainers: int, cohort_min: int) -> None:
        """Return if every shard has `cohort_min` trainers or more.

        Raises:
            TooManyShardsError: the smallest has fewer, and says how many shards there may be.
        """
        if trainers // self.count < cohort_min:
            raise TooManyShardsError(
                f"{self.count} shards of {trainers} trainers add as few as {trainers // self.count}, at least "
                f"{cohort_min} hide each other: at most {trainers // cohort_min} shards",
                shards=self.count,
                trainers=trainers,
            )


def split_cohort(task: Digest, seed: Digest, trainers: Iterable[bytes], count: int) -> tuple[frozenset[bytes], ...]:
    """Return the trainers of each shard: in the order that the seed gives them, dealt out in turn.

    So shards differ by one trainer at most, and nobody knows its shard, or can choose it, before the seed is known.
    """

    def rank(trainer: bytes) -> Digest:
        return hash_fields("shard-of-trainer", task, seed, trainer)

    ranked = sorted(trainers, key=rank)
    return tuple(frozenset(ranked[shard::count]) for shard in range(count))


@dataclass(frozen=True)
class ShardedTerms:
    """What a final header fixes for a round of several shards.

    Attributes:
        previous: digest of the header before.
        model: digest of the model that all shards start from.
        beacon: the round's beacon value.
        partition: the value by which trainers were dealt out, of this round or an earlier one.
        validators: who holds each seat; the shards' committees are `plan.seats` of them each, one after another.
        seats: the same with their sealing keys.
    """

    task: Digest
    round: int
    previous: Digest
    model: Digest
    beacon: Digest
    partition: Digest
    validators: tuple[int, ...]
    seats: tuple[SeatTerms, ...]
    layout: Layout = field(repr=False)
    plan: ShardPlan

    @cached_property
    def shards(self) -> tuple[RoundTerms, ...]:
        """Each shard's own terms: a beacon value of its own, so that masks, audits and verifiers are its own too."""
        size, count = self.plan.seats, self.plan.count
        return tuple(
            RoundTerms(
                task=self.task,
                round=self.round,
                previous=self.previous,
                model=self.model,
                beacon=hash_fields("shard-beacon", self.task, self.round, self.beacon, count, shard),
                seats=self.seats[shard * size : (shard + 1) * size],
                layout=self.layout,
            )
            for shard in range(count)
        )

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The validators that hold seats of each shard, in the order of their first seats: whose turn comes when."""
        size = self.plan.seats
        return tuple(
            tuple(dict.fromkeys(self.validators[shard * size : (shard + 1) * size])) for shard in range(self.plan.count)
        )

    def cohorts(self, trainers: Iterable[bytes]) -> tuple[frozenset[bytes], ...]:
        """Return the trainers of each shard."""
        return split_cohort(self.task, self.partition, trainers, self.plan.count)

    def shard_of(self, trainers: Iterable[bytes], trainer: bytes) -> int:
        """Return a trainer's shard.

        Raises:
            NoShardError: it is not among `trainers`.
        """
        for shard, cohort in enumerate(self.cohorts(trainers)):
            if trainer in cohort:
                return shard
        raise NoShardError(f"trainer {trainer.hex()} is not registered for this task, hence in no shard")


def first_sharded_terms(
    agreed: Agreed,
    epoch_set: EpochSet,
    plan: ShardPlan,
    start: tuple[Digest, Digest, Digest],
    seal_keys: Mapping[int, bytes],
) -> ShardedTerms:
    """Return the terms of round 0; `start` is the genesis, the digest of the model before it, and the beacon value."""
    previous, model, beacon = start
    drawn = draw_committee(beacon, epoch_set, plan.count * plan.seats)
    return _terms(agreed, epoch_set, plan, (0, previous, model, beacon, beacon), drawn, seal_keys)


def sharded_terms_after(agreed: Agreed, epoch_set: EpochSet, before: ShardedTerms, header: Header) -> ShardedTerms:
    """Return the terms that a merged header fixes for the round after it."""
    number, beacon = header.round + 1, sha256(header.beacon).digest()
    partition = before.partition if number % before.plan.partition_rounds else beacon
    keys = {entry.validator: entry.seal_key for entry in header.announcements}
    start = (number, header.digest, header.model, beacon, partition)
    return _terms(agreed, epoch_set, before.plan, start, header.seats, keys)


def sharded_terms_at(
    agreed: Agreed, epoch_set: EpochSet, first: ShardedTerms, headers: Sequence[Header]
) -> ShardedTerms:
    """Return the terms after these headers, of all rounds from the first one on; the first terms if there are none."""
    if not headers:
        return first
    number, each = headers[-1].round + 1, first.plan.partition_rounds
    dealt = number - number % each
    partition = first.partition if dealt <= first.round else sha256(headers[dealt - 1 - first.round].beacon).digest()
    return sharded_terms_after(agreed, epoch_set, replace(first, partition=partition), headers[-1])


def _terms(
    agreed: Agreed,
    epoch_set: EpochSet,
    plan: ShardPlan,
    start: tuple[int, Digest, Digest, Digest, Digest],
    drawn: Iterable[int],
    keys: Mapping[int, bytes],
) -> ShardedTerms:
    number, previous, model, beacon, partition = start
    validators = tuple(int(validator) for validator in drawn)
    seats = tuple(SeatTerms(epoch_set.validators[v].account, keys.get(v)) for v in validators)
    layout = agreed.layout(number)
    return ShardedTerms(agreed.task, number, previous, model, beacon, partition, validators, seats, layout, plan)
