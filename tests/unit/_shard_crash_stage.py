"""A village as in `_crash_stage`, with two committees a round: four validators, each with seats in both shards."""

from __future__ import annotations

from functools import cache
from typing import Any

from _crash_stage import LINK_MS, TIMING, VALIDATORS, Village
from _round_stage import EMPTY_MODEL
from _shard_stage import first_terms, members, shard_context, sum_of, trainer_key, upload_for

from collegium.aggregation import Upload
from collegium.consensus import EpochSigner, EpochVerifier, ShardBatch, ShardedContext, decode_shard_payload
from collegium.node._journal import BlockArchive
from collegium.node._sharded_node import ShardedNode

SHARDS = 2
TRAINERS = 4  # two in each shard
PARTITION_ROUNDS = 2


@cache
def verifier() -> EpochVerifier:
    return EpochVerifier(members(VALIDATORS).epoch_set)


class ShardVillage(Village):
    """Four validators and their trainers, in two shards; `kill` says who dies when, and for how long."""

    def _restore(self, index: int, journal: Any) -> tuple[Any, list[Any]]:
        who = members(VALIDATORS)
        random = shard_context(VALIDATORS, SHARDS).round.random.split(f"{index} {self.lives}")  # type: ignore[attr-defined]  # a Stream
        cohort = frozenset(trainer_key(trainer).address for trainer in range(TRAINERS))
        changes = {"work": self.work, "timing": TIMING, "cohort": cohort, "lying_max": 0, "random": random}
        surroundings = shard_context(VALIDATORS, SHARDS, index, PARTITION_ROUNDS, **changes)
        signer = EpochSigner(who.voting[index], who.accounts[index])
        context = ShardedContext(surroundings, signer, verifier(), BlockArchive(), 10 * LINK_MS)
        first = (first_terms(VALIDATORS, SHARDS, PARTITION_ROUNDS), EMPTY_MODEL, {0: who.seals[index]})
        return ShardedNode.restore(context, journal, *first, self.now)

    def _round(self, index: int) -> Any:
        return self.nodes[index].state.shards

    def _uploads(self, terms: Any) -> list[Upload]:
        accounts = [trainer_key(trainer).address for trainer in range(TRAINERS)]
        shards = [terms.shard_of(accounts, account) for account in accounts]
        return [upload_for(terms.shards[shard], trainer) for trainer, shard in enumerate(shards)]

    def due(self, index: int) -> bytes:
        """Return the model that the closes and results in a validator's archive give."""
        by_account = {trainer_key(trainer).address: trainer for trainer in range(TRAINERS)}
        model, admitted = b"", dict[int, tuple[bytes, ...]]()
        payloads = (block.payload for block in self.nodes[index].archive.blocks if block.payload)
        for payload in map(decode_shard_payload, payloads):
            if isinstance(payload, ShardBatch):
                admitted |= {entry.shard: entry.close.reports for entry in payload.closes}
                lost = [*payload.lost]
                lost += [entry.result.shard for entry in payload.results if entry.result.outcome != "opened"]
                admitted |= dict.fromkeys(lost, ())
                continue
            reports = {u.report.id: by_account[u.report.trainer] for u in self.uploads.get(payload.round, ())}
            if payload.outcome == "opened":
                model += sum_of((reports[r] for ids in admitted.values() for r in ids), payload.round)
            admitted = {}
        return model
