"""Rounds with several committees as a run's ledger orders them: each shard's close and result, then one header.

The header has no certificate of its own: its block's, more than two thirds of the epoch set, is the header's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collegium.consensus import (
    Block,
    Certified,
    CertifiedResult,
    EpochSet,
    EpochVerifier,
    Header,
    QuorumCertificate,
    ShardBatch,
    ShardClose,
    Standing,
    decode_shard_payload,
    is_epoch_record,
    verify_chain,
)
from collegium.crypto import Digest

from ._journal import MERGED_KIND
from ._ledger import LedgerError, Segment, views_until_final

__all__ = ["ShardEnd", "ShardedRound", "assemble_sharded", "sharded_rounds"]


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """What became of one shard: its close with its vouchers, then a certified result, or that there was none."""

    close: ShardClose
    result: CertifiedResult | None = None
    lost: bool = False

    @property
    def standing(self) -> Standing:
        """The same without vouchers and certificate."""
        return Standing(self.close.close, None if self.result is None else self.result.result, self.lost)


@dataclass(frozen=True)
class ShardedRound:
    """One round as ordered; `views` as in `OrderedRound`."""

    shards: tuple[ShardEnd, ...]
    header: Header
    views: tuple[int, ...]

    @property
    def certified(self) -> Certified:
        """The header; its certificate is its block's."""
        return Certified(self.header, b"")

    @property
    def admitted(self) -> tuple[Digest, ...]:
        """The reports that the shards' closes admit, shard by shard."""
        return tuple(report for shard in self.shards for report in shard.close.close.reports)

    @property
    def standings(self) -> tuple[Standing, ...]:
        """What became of every shard."""
        return tuple(shard.standing for shard in self.shards)


def assemble_sharded(
    blocks: Sequence[Block],
    tip: Sequence[QuorumCertificate],
    count: int,
    first_round: int = 0,
    view_before: int = 0,
) -> tuple[ShardedRound, ...]:
    """Return the rounds of `count` shards that blocks order; the arguments are those of `assemble_rounds`.

    Raises:
        CollegiumError: a payload is malformed or out of order.
    """
    rounds: list[ShardedRound] = []
    ends: dict[int, ShardEnd] = {}
    seen = [view_before]
    for place, block in enumerate(blocks):
        seen.append(block.view)
        if not block.payload:
            continue
        payload = decode_shard_payload(block.payload)
        expected = first_round + len(rounds)
        if payload.round != expected:
            raise LedgerError(f"block of view {block.view}: round {payload.round} out of order, {expected} expected")
        if isinstance(payload, ShardBatch):
            ends.update(_ends(ends, payload, count, block.view))
            continue
        if len(ends) < count or not all(end.standing.over for end in ends.values()):
            raise LedgerError(f"block of view {block.view}: a header before all {count} shards are over")
        views = sorted({view for view in (*seen, *views_until_final(blocks[place:], tip)) if view >= view_before})
        rounds.append(ShardedRound(tuple(ends[shard] for shard in range(count)), payload, tuple(views)))
        ends, view_before = {}, views[-1]
        seen = [view_before]
    return tuple(rounds)


def _ends(ends: dict[int, ShardEnd], batch: ShardBatch, count: int, view: int) -> dict[int, ShardEnd]:
    """Return what a batch makes of the shards that it is about.

    Raises:
        LedgerError: it does not follow what came before it.
    """
    after: dict[int, ShardEnd] = {}
    for shard in batch.shards:
        known = ends.get(shard)
        closes = shard in (entry.shard for entry in batch.closes)
        if shard >= count or (known is not None if closes else known is None or known.standing.over):
            raise LedgerError(f"block of view {view}: a record of shard {shard} of {count} out of order")
    for entry in batch.closes:
        after[entry.shard] = ShardEnd(entry)
    for certified in batch.results:
        shard = certified.result.shard
        after[shard] = ShardEnd(ends[shard].close, certified)
    for shard in batch.lost:
        after[shard] = ShardEnd(ends[shard].close, None, lost=True)
    return after


def sharded_rounds(epoch_set: EpochSet, segments: Sequence[Segment], count: int) -> tuple[ShardedRound, ...]:
    """Check the whole chain of blocks of a task of `count` shards a round and return its rounds.

    Raises:
        CollegiumError: a link, leader, signature or certificate does not hold, or payloads are out of order.
    """
    if len(segments) != 1:
        raise LedgerError(f"ledger holds {len(segments)} epochs, expected one")
    blocks, tip = segments[0].blocks, segments[0].tip
    final = verify_chain(epoch_set, epoch_set.genesis(), blocks, tip, EpochVerifier(epoch_set))
    if any(is_epoch_record(payload) for payload in final):
        raise LedgerError("the ledger holds records of a change of epochs, the task has one epoch")
    if final != tuple(block.payload for block in blocks if block.payload):
        raise LedgerError(f"only {len(final)} of the ledger's payloads are final")
    rounds = assemble_sharded(blocks, tip, count)
    if not blocks or blocks[-1].payload[:1] != MERGED_KIND:
        raise LedgerError(f"the ledger ends inside round {len(rounds)}")
    return rounds
