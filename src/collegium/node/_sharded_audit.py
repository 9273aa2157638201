"""The verification of rounds with several committees: the partition, each shard's close, result and sum, the header.

Everything that the validators did is redone for every shard, with all reports and key sums at hand: more than any
single validator can check, who holds the reports of its own shards alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from collegium import aggregation
from collegium.consensus import (
    CloseRefusedError,
    EpochSet,
    ProposalRefusedError,
    ShardedTerms,
    ShardPlan,
    ShardResult,
    Standing,
    UnvouchedCloseError,
    check_certified_result,
    check_close,
    check_close_form,
    check_header_fields,
    check_next_keys,
    check_vouchers,
    committees_after,
    header_over,
    merge_sums,
    sharded_terms_after,
    total_bytes,
)
from collegium.crypto import Digest, ThresholdBeacon
from collegium.lineage import Store

from ._audit import (
    OBJECT_BYTES_MAX,
    Audit,
    DerivedFileError,
    check_proofs,
    check_publishing,
    open_sum,
    require_proved,
    stored_reports,
    stored_sums,
)
from ._committee_settings import CommitteeSettings
from ._events import VerifyProgress
from ._genesis import Genesis
from ._ledger import ObjectIndex
from ._run_files import STORE
from ._setup import plan_of
from ._sharded_ledger import ShardedRound, ShardEnd
from ._sharded_play import first_shard_terms
from ._task import EMPTY_STATE, LearningTask
from ._verify_ahead import lasts
from ._workers import Workers

__all__ = ["check_sharded_rounds"]


@dataclass(frozen=True)
class _Around:
    """What stays the same from round to round."""

    audit: Audit
    store: Store
    epoch_set: EpochSet
    task: LearningTask
    beacon: ThresholdBeacon
    plan: ShardPlan
    cohort: tuple[bytes, ...]
    reports: Mapping[Digest, Digest]
    key_sums: Mapping[Digest, Digest]
    workers: Workers


def check_sharded_rounds(
    audit: Audit,
    genesis: Genesis,
    task: LearningTask,
    beacon: ThresholdBeacon,
    committee: CommitteeSettings,
    rounds: Sequence[ShardedRound],
    index: ObjectIndex,
    workers: Workers,
) -> None:
    """Redo every round from the stored reports, proofs and key sums.

    Raises:
        CollegiumError: naming the first thing that is not what it must be.
    """
    plan, cohort = plan_of(committee), tuple(account for account, _ in genesis.trainers)
    plan.check_cohort(len(cohort), task.cohort_min)
    store, named = Store(audit.path / STORE), (dict(index.reports), dict(index.key_sums))
    around = _Around(audit, store, genesis.epoch_set, task, beacon, plan, cohort, *named, workers)
    terms, model = first_shard_terms(genesis, task, plan, EMPTY_STATE), EMPTY_STATE
    for ordered in rounds:
        number = ordered.header.round
        audit.stage = f"round {number}"
        audit.on_event(VerifyProgress("rounds", number, len(rounds)))
        model = _check_round(around, ordered, terms, model)
        audit.models.add(ordered.header.model)
        if store.get(ordered.header.model, OBJECT_BYTES_MAX) != model:
            raise DerivedFileError(f"the stored model of round {number} is not the one its step gives")
        terms = sharded_terms_after(task, genesis.epoch_set, terms, ordered.header)
    audit.on_event(VerifyProgress("rounds", len(rounds), len(rounds)))
    lost = sum(shard.lost for ordered in rounds for shard in ordered.shards)
    skipped = sum(not shard.close.vouchers for ordered in rounds for shard in ordered.shards)
    audit.passed(
        f"shards: {plan.count} of {plan.seats} seats a round, dealt anew every {plan.partition_rounds} rounds; each "
        "trainer in its shard, each close vouched for, each result certified, each sum opened again and added"
    )
    if lost or skipped:
        audit.unchecked.append(f"that {lost} shards given up and {skipped} skipped without vouchers had had their time")


def _check_round(around: _Around, ordered: ShardedRound, terms: ShardedTerms, model: bytes) -> bytes:
    """Check one round's shards and the header over them; return the model after it."""
    audit, header, task = around.audit, ordered.header, around.task
    audit.work.forget(lasts)
    cohorts, totals = terms.cohorts(around.cohort), dict[Digest, bytes]()
    for shard, end in enumerate(ordered.shards):
        audit.stage = f"round {header.round}, shard {shard}"
        totals |= _check_shard(around, end, terms, shard, cohorts[shard], model)
    audit.stage = f"round {header.round}"
    opened = any(standing.total is not None for standing in ordered.standings)
    skipped = any(not end.close.close.reports for end in ordered.shards)
    if skipped and not opened and not task.may_skip(header.round):
        raise CloseRefusedError(f"round {header.round} may not be skipped: some shard must open its sum")
    around.beacon.verify(around.epoch_set.epoch, header.round + 1, header.beacon)
    merged = merge_sums(task, terms, model, ordered.standings, totals)
    committees = committees_after(around.epoch_set, around.plan, header.beacon)
    named = (merged, header.beacon, committees, header.announcements)
    expected = header_over(terms, task.level, ordered.standings, *named)
    check_header_fields(header, expected)
    check_next_keys(audit.work, around.epoch_set, header)
    return merged[2]


def _check_shard(
    around: _Around, end: ShardEnd, terms: ShardedTerms, shard: int, cohort: frozenset[bytes], model: bytes
) -> dict[Digest, bytes]:
    """Check a shard's close and result from its reports and key sums; return its sum by digest, nothing if none opened.

    Raises:
        CloseRefusedError, UnvouchedCloseError, ProposalRefusedError: see there.
        CollegiumError: a report, receipt, key sum, proof or certificate does not hold.
    """
    audit, task, close, own = around.audit, around.task, end.close.close, terms.shards[shard]
    if end.close.shard != shard or (end.result is not None and end.result.result.shard != shard):
        raise CloseRefusedError(f"a close or result in the place of shard {shard} is another one's")
    check_close_form(terms, end.close, task.cohort_min, len(cohort))
    if end.close.vouchers:
        check_vouchers(audit.work, around.epoch_set, terms, end.close)
    elif close.reports:
        raise UnvouchedCloseError(f"nobody vouches for the close of shard {shard}", shard=shard)
    held = stored_reports(audit, around.store, around.reports, close, own)
    for entry in held.values():
        aggregation.check_report(own, entry.report)
        if entry.report.trainer not in cohort:
            raise ProposalRefusedError(f"trainer {entry.report.trainer.hex()} is not one of shard {shard}")
    known = {report: entry.report for report, entry in held.items()}
    check_close(audit.work, own, close, known, task.cohort_min, task.lying_max)
    failed = check_proofs(audit, task, own, model, close, held, around.workers)
    if end.result is None:
        return {}
    result = end.result.result
    standing = Standing(close)
    check_certified_result(audit.work, around.epoch_set, terms, task.level, standing, end.result)
    require_proved(result, failed)
    check_publishing(result)
    sums = stored_sums(audit, around.store, around.key_sums, result, own)
    outcome, opened, _ = open_sum(task, close, own, held, sums, model)
    total = b"" if opened is None else total_bytes(opened.total)
    _check_result(result, shard, outcome, total, () if opened is None else opened.lying)
    return {result.total: total} if total else {}


def _check_result(result: ShardResult, shard: int, outcome: str, total: bytes, lying: tuple[int, ...]) -> None:
    """Compare a result with what its close and key sums give.

    Raises:
        ProposalRefusedError: naming the first field that differs.
    """
    expected = {"outcome": outcome, "total": sha256(total).digest() if total else bytes(32), "lying": lying}
    for name, value in expected.items():
        if getattr(result, name) != value:
            raise ProposalRefusedError(
                f"the result's {name} of shard {shard} is {getattr(result, name)!r}, redone it is {value!r}"
            )
