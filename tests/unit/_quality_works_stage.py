"""A round of a task with stewards, whose part about quality, weights and model programs judge.

It is a round of `_works_stage` with another model before, other scores in front of its proofs, and records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from types import MappingProxyType

import numpy as np
from _round_stage import TASK, committee
from _works_stage import LEARNING, PlayedRound, played, work_terms

from collegium.consensus import Header, terms_after, total_bytes
from collegium.incentives import (
    NO_SCORE,
    FoldRule,
    ModelScore,
    OrderedRecord,
    Policy,
    QualityState,
    ReportScore,
    RoundPlaces,
    StewardRecord,
    decode_quality_state,
    encode_quality_state,
    encode_steward_record,
    first_quality_state,
    fold_round,
    quality_state_bytes,
    record_digest,
    round_places,
    score_commitment,
)
from collegium.settlement import (
    KnownStretches,
    MachineRun,
    Program,
    QualityTerms,
    WorkTerms,
    compile_program,
    public_works,
)

STEWARDS = tuple(bytes([200 + number]) * 20 for number in range(3))
RULE = FoldRule(Policy(), Fraction(1, 10), weighted_min=2, rows_max=64)
PART_BYTES = quality_state_bytes(4, len(STEWARDS), LEARNING.layout(1).entries - 1)
PARAMETERS = LEARNING.layout(1).entries - 1
SALT = b"s" * 32


@cache
def quality_terms(places: int = 0) -> WorkTerms:
    known = work_terms()
    layout = replace(known.layout, budget=replace(known.layout.budget, weight_max=RULE.policy.weight_max))
    return replace(known, layout=layout, proves=True, quality=QualityTerms(replace(RULE, places=places), STEWARDS))


@cache
def program(name: str, places: int = 0) -> Program:
    work = next(work for work in public_works(quality_terms(places)) if work.name == name)
    return compile_program(work.module, work.parameters)


def first() -> QualityState:
    return first_quality_state(RULE.policy, quality_terms().trainers, STEWARDS, PARAMETERS)


def model_of(state: QualityState, model: bytes) -> bytes:
    """Return a model state with a part about quality."""
    return model + bytes(-len(model) % 8) + encode_quality_state(state)


def record_of(
    steward: int, gradient: Sequence[int], number: int, opened: ModelScore | None = None, told: int = 7
) -> StewardRecord:
    """Return a steward's record, whose next opening is of score `told`; nobody has signed it."""
    commitment = score_commitment(TASK, STEWARDS[steward], number, ModelScore(told, SALT))
    return StewardRecord(STEWARDS[steward], number, np.array(gradient, np.int64), commitment, opened, b"g" * 65)


def ordered(record: StewardRecord) -> OrderedRecord:
    return OrderedRecord(record, record_digest(encode_steward_record(record)))


@dataclass(frozen=True)
class QualityRound:
    """A round, the state of quality before it and after it, and what is in front of its reports' proofs."""

    played: PlayedRound
    before: QualityState
    records: tuple[StewardRecord, ...]
    proofs: tuple[bytes, ...]
    stepped: bytes
    more: tuple[bytes, ...] = ()
    places: int = 0

    @property
    def drawn(self) -> RoundPlaces:
        """Who may report."""
        return drawn(self.before, self.played, self.places)

    @property
    def after(self) -> QualityState:
        """The state of quality after the round."""
        return decode_quality_state(self.stepped[-PART_BYTES:])

    @property
    def model(self) -> bytes:
        """The model state before."""
        return model_of(self.before, self.played.model)

    @property
    def messages(self) -> tuple[bytes, ...]:
        """All that programs may read."""
        records = [encode_steward_record(record) for record in self.records]
        earlier = [] if self.played.before is None else [self._header_before().preimage]
        known = (self.header.preimage, self.stepped, self.model, *earlier, *self.proofs, *records, *self.more)
        return (*known, *self.played.messages, *quality_terms().messages)

    @property
    def header(self) -> Header:
        """The round's header."""
        before = self.played.header.previous if self.played.before is None else self._header_before().digest
        return replace(self.played.header, model=sha256(self.stepped).digest(), previous=before)

    def _header_before(self) -> Header:
        assert self.played.before is not None
        return replace(self.played.before, model=sha256(self.model).digest())

    def saying(self, after: QualityState) -> QualityRound:
        """Return the round with a header that says something else of quality."""
        return replace(self, stepped=self.stepped[:-PART_BYTES] + encode_quality_state(after))

    def weighing(self, weights: Sequence[int]) -> QualityRound:
        """Return the round with other weights in its close, report by report."""
        after = terms_after(LEARNING, committee().epoch_set, self._header_before())
        made = replace(after, layout=quality_terms().layout)
        pairs = [
            (replace(report, terms=made.digest), weight)
            for report, weight in zip(self.played.reports, weights, strict=True)
        ]
        pairs.sort(key=lambda pair: pair[0].id)
        reports = tuple(report for report, _ in pairs)
        closed = replace(self.played, reports=reports, terms=made).closed(
            terms=made.digest,
            reports=tuple(report.id for report in reports),
            weights=tuple(weight for _, weight in pairs),
        )
        return replace(self, played=closed)

    @property
    def weights(self) -> list[int]:
        """What the state before gives each report."""
        trainers, weights = quality_terms().trainers, self.drawn.weights
        return [int(weights[trainers.index(report.trainer)]) for report in self.played.reports]

    def accepted(self, name: str) -> bool:
        """Tell whether a program accepts the round's header."""
        run = MachineRun(program(name, self.places), self.header.digest, KnownStretches(self.messages))
        return run.stuck is None and run.accepted


def drawn(before: QualityState, played: PlayedRound, places: int) -> RoundPlaces:
    """Return who may report in a round after this state."""
    assert played.before is not None
    beacon = sha256(played.before.beacon).digest()
    return round_places(RULE.policy, before, played.header.round, beacon, places, RULE.weighted_min)


def round_zero(after: QualityState) -> QualityRound:
    """Return round 0 with a header that says this of quality."""
    base = played(0)
    return QualityRound(base, after, (), (), model_of(after, base.redone[2]))


def proof_of(value: int, rows: int, more: int) -> bytes:
    """Return a score, its rows, and so many bytes in the proof's place."""
    return value.to_bytes(8, "little", signed=True) + rows.to_bytes(8, "little") + b"p" * more


def score_of(trainer: bytes, proof: bytes) -> ReportScore:
    """Return what a round takes of a proof's prefix: nothing, if no proof can verify with it."""
    value, rows = int.from_bytes(proof[:8], "little", signed=True), int.from_bytes(proof[8:16], "little")
    says = len(proof) >= 64 and value != NO_SCORE and 0 < rows <= RULE.rows_max
    return ReportScore(trainer, value, rows) if says else ReportScore(trainer, None, 0)


def quality_round(
    before: QualityState,
    values: Sequence[int | None],
    records: Sequence[StewardRecord],
    number: int = 2,
    steward_of: Sequence[StewardRecord] = (),
    odd: Mapping[int, bytes] = MappingProxyType({}),
    places: int = 0,
) -> QualityRound:
    """Return a round in which the first trainers report these scores, None for no score, of ten rows and more each.

    `steward_of`: whose each record is taken for, where that is not the account in it; `odd`: other proofs, by place;
    `places`: that the beacon draws, 0 for all.
    """
    base, trainers = played(number, len(values)), quality_terms().trainers
    reports, proofs, scores = [], list[bytes](), list[ReportScore]()
    for report in base.reports:
        place = trainers.index(report.trainer)
        said = NO_SCORE if values[place] is None else values[place]
        proofs.append(odd.get(place, proof_of(int(said or 0), 10 + place, 300)))
        reports.append(replace(report, proof=sha256(proofs[-1]).digest(), staleness=0))
        scores.append(score_of(report.trainer, proofs[-1]))
    opened = base.redone[1].total
    counted = [ordered(each) for each in records]
    for index, owner in enumerate(steward_of):
        counted[index] = replace(counted[index], record=replace(records[index], account=owner.account))
    hits = drawn(before, base, places).hits
    after = fold_round(RULE, before, number, opened[:-1], int(opened[-1]), scores, counted, hits)
    reports.sort(key=lambda report: report.id)
    close = replace(base.close, reports=tuple(report.id for report in reports))
    changed = replace(base, reports=tuple(reports), close=close, header=replace(base.header, close=close.digest))
    stepped = model_of(after, base.redone[2])
    return QualityRound(changed, before, tuple(records), tuple(proofs), stepped, (total_bytes(opened),), places)
