"""The quality rule of a task with stewards: what consensus, a trainer and an auditor each need of it.

    entry           who may report in a round, and what that weighs
    demand          what a report's proof must show of its score; `ScorePrefix` stands before the proof
    check_record    which of the stewards' records a round takes
    step            the state of quality after a round (`incentives.fold_round`)

The state of quality is the end of the model state. docs/spec/quality.md, section 9.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from collegium.aggregation import RoundTerms
from collegium.consensus import ROUND_RECORD_BYTES_MAX, RoundEntry, WeighedReport
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.incentives import (
    NO_SCORE,
    RECORD_BYTES_MAX,
    FoldRule,
    OrderedRecord,
    Policy,
    QualityState,
    ReportScore,
    RoundPlaces,
    StewardEntry,
    StewardRecord,
    decode_quality_state,
    decode_steward_record,
    encode_quality_state,
    first_quality_state,
    fold_round,
    median_direction,
    quality_state_bytes,
    read_steward_record,
    record_digest,
    report_scale,
    round_places,
    score_commitment,
    split_steward_record,
    steward_record_bytes,
)
from collegium.proofs import SEEDS, ScoreDemand

from ._quality_settings import shard_of

if TYPE_CHECKING:
    from ._steward_proofs import StewardProving  # which needs what is here

__all__ = [
    "OtherTaskStateError",
    "QualityRule",
    "RecordRefusedError",
    "ScorePrefix",
    "ScorePrefixError",
    "StewardsRefusedError",
    "is_known",
    "quality_points",
]

IntArray = npt.NDArray[np.int64]

NO_DIGEST: Final[Digest] = bytes(32)
_PREFIX = struct.Struct("<qQ")  # y, rows
_PREFIXED_MIN = 64  # bytes: one block of SHA-256, which a program of the dispute machine looks at


class StewardsRefusedError(CollegiumError):
    """A task's model is too large for stewards' records, or its scores for the field that they are proved in."""


class RecordRefusedError(CollegiumError):
    """A steward's record is not one that this round takes."""


class OtherTaskStateError(CollegiumError):
    """A state of quality is about other trainers, stewards or parameters than the task's."""


class ScorePrefixError(CollegiumError):
    """What stands before a report's proof is not what the round asks for."""


@dataclass(frozen=True, slots=True)
class ScorePrefix:
    """What stands before the proof of a report that is scored: y, None where its trainer could choose the noise; rows.

    Attributes:
        value: y.
        rows: how many rows the update is a sum over.
    """

    value: int | None
    rows: int

    def before(self, proof: bytes) -> bytes:
        """Return what the report carries: 16 bytes, little endian, then the proof."""
        return _PREFIX.pack(NO_SCORE if self.value is None else self.value, self.rows) + proof

    @classmethod
    def split(cls, data: bytes) -> tuple[ScorePrefix, bytes]:
        """Return the prefix and the proof behind it.

        Raises:
            ScorePrefixError: there is no prefix, or no proof behind it.
        """
        if len(data) < _PREFIXED_MIN:
            raise ScorePrefixError(
                f"{len(data)} bytes, expected a score and a proof behind it, {_PREFIXED_MIN} at least", length=len(data)
            )
        value, rows = _PREFIX.unpack_from(data)
        return cls(None if value == NO_SCORE else value, rows), data[_PREFIX.size :]


@dataclass(frozen=True)
class QualityRule:
    """How a task weighs its trainers, as `consensus.Quality` wants it.

    Attributes:
        task: its digest.
        policy, noise: what the task fixes.
        weighted_min: how many trainers must have weight.
        rows_max: the most that a report uses.
        trainers, stewards: accounts, in the order of the genesis.
        parameters: of the model.
        direction_norm: how long a direction may be, so that no score wraps around the field that it is proved in.
        places: of a round, which the beacon draws; 0: all may report.
        proving: how stewards prove their records; None: they do not.

    Raises:
        StewardsRefusedError: a record about so many parameters is too long.
    """

    task: Digest
    policy: Policy
    noise: Fraction
    weighted_min: int
    rows_max: int
    trainers: tuple[bytes, ...]
    stewards: tuple[bytes, ...]
    parameters: int
    direction_norm: int
    places: int = 0
    proving: StewardProving | None = None

    def __post_init__(self) -> None:
        length = steward_record_bytes(self.parameters)
        if length > RECORD_BYTES_MAX:
            raise StewardsRefusedError(
                f"a steward's record about {self.parameters} parameters has {length} bytes, expected at most "
                f"{RECORD_BYTES_MAX}",
                parameters=self.parameters,
            )

    @property
    def state_bytes(self) -> int:
        """How long the state of quality is."""
        return quality_state_bytes(len(self.trainers), len(self.stewards), self.parameters)

    @property
    def record_lengths(self) -> range:
        """The lengths in bytes that a steward's record can have, with what stands behind it."""
        length = steward_record_bytes(self.parameters)
        return range(length, length + 1) if self.proving is None else range(length + 1, ROUND_RECORD_BYTES_MAX + 1)

    def first(self) -> QualityState:
        """Return the state that round 0 leaves."""
        return first_quality_state(self.policy, self.trainers, self.stewards, self.parameters)

    def decode(self, data: bytes) -> QualityState:
        """Return the state of quality that bytes encode, of this task's trainers, stewards and model.

        Raises:
            IncentiveError: they encode none.
            OtherTaskStateError: it is another task's.
        """
        state = decode_quality_state(data)
        stewards = tuple(entry.account for entry in state.stewards)
        if (state.standing.addresses, stewards, len(state.direction)) != (
            self.trainers,
            self.stewards,
            self.parameters,
        ):
            raise OtherTaskStateError(
                "a state of quality is about other trainers, stewards or parameters than the task"
            )
        if (most := int(state.weights.max())) > self.policy.weight_max:
            raise OtherTaskStateError(f"a report weighs {most}, expected {self.policy.weight_max} at most")
        return state

    def state_of(self, model: bytes) -> QualityState:
        """Return the state of quality in a model state.

        Raises:
            IncentiveError, OtherTaskStateError: as `decode`.
            OtherTaskStateError: something stands between the parameters and it.
        """
        begin = len(model) - self.state_bytes
        if self.parameters % 2 and any(model[max(begin - 4, 0) : begin]):
            raise OtherTaskStateError("between parameters and the state of quality stands something, expected zeros")
        return self.decode(model[begin:])

    # ---------------------------------------------------------------------------------------- what consensus asks

    def entry(self, round_number: int, model: bytes, beacon: Digest) -> RoundEntry | None:
        """Return who may report, what that weighs, and whom the round waits for; None in round 0, which trains nothing.

        Who is locked out may report to appeal, if it was not drawn, too; nobody waits for it.
        """
        if round_number == 0:
            return None
        found = self.places_of(self.state_of(model), round_number, beacon)
        named = list(zip(self.trainers, *(a.tolist() for a in (found.weights, found.hits, found.appeals)), strict=True))
        return RoundEntry(
            weights={trainer: weight for trainer, weight, hits, appeal in named if hits or appeal},
            awaited=frozenset(trainer for trainer, _, hits, _ in named if hits),
        )

    def places_of(self, state: QualityState, round_number: int, beacon: Digest) -> RoundPlaces:
        """Return the places of a round that starts from a state."""
        return round_places(self.policy, state, round_number, beacon, self.places, self.weighted_min)

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        """Check a steward's record that follows those `before` it in a round.

        Raises:
            RecordRefusedError: it is not a steward's, of another round, its steward's second one, or opens to another
                score than its last one committed to; or another proof stands behind it than this task wants.
            IncentiveError: it is malformed, not signed by its account, or of another norm than directions have.
            CollegiumError: what stands behind it proves something else than it says.
        """
        found = read_steward_record(record, self.task)
        if round_number == 0 or found.round != round_number or found.account not in self.stewards:
            raise RecordRefusedError(
                f"a record of account {found.account.hex()} for round {found.round} in round {round_number}, expected "
                "a steward's for this round, from 1 on",
                account=found.account,
                round=found.round,
            )
        if len(found.direction) != self.parameters:
            raise RecordRefusedError(f"a record about {len(found.direction)} parameters, expected {self.parameters}")
        median_direction([found.direction], [1])
        if found.account in {self._said(data).account for data in before}:
            raise RecordRefusedError(
                f"steward {found.account.hex()} has a record of round {round_number} already", account=found.account
            )
        state = self.state_of(model)
        self._check_opening(state, found)
        if self.proving is not None:
            self._check_evidence(self.proving, state, found, record, model)
        elif found.evidence != NO_DIGEST:
            raise RecordRefusedError(
                f"evidence stands behind the record of steward {found.account.hex()}, this task's are not proved",
                account=found.account,
            )

    def awaits_record(self, round_number: int, model: bytes, records: Sequence[bytes]) -> bool:
        """Tell whether a steward that a round waits for has none of these records, each checked.

        Those whose record of the state's round counts are waited for: whoever stays away costs one round its wait. All
        are, where that is half of them or fewer, which would give no direction.
        """
        if round_number == 0:
            return False
        spoke = {entry.account for entry in self.state_of(model).stewards if entry.record != NO_DIGEST}
        awaited = spoke if 2 * len(spoke) > len(self.stewards) else set(self.stewards)
        return not awaited <= {self._said(data).account for data in records}

    def _said(self, data: bytes) -> StewardRecord:
        """Return a record without what stands behind it."""
        return decode_steward_record(split_steward_record(data)[0], self.task)

    def _check_evidence(
        self, proving: StewardProving, state: QualityState, found: StewardRecord, record: bytes, model: bytes
    ) -> None:
        entry = state.stewards[self.stewards.index(found.account)]
        if entry.registered not in (NO_DIGEST, found.registered):
            raise RecordRefusedError(
                f"steward {found.account.hex()} names other rows than it registered before",
                account=found.account,
                round=found.round,
            )
        fault = _fault(proving, is_known(proving, state, entry, found.round), record, model)
        if fault is not None:
            raise fault.with_traceback(None)

    def _check_opening(self, state: QualityState, found: StewardRecord) -> None:
        if found.opened is None:
            return
        promised = state.stewards[self.stewards.index(found.account)].commitment
        if score_commitment(self.task, found.account, state.round, found.opened) != promised:
            raise RecordRefusedError(
                f"steward {found.account.hex()} tells a score that it did not commit to in round {state.round}",
                account=found.account,
                round=state.round,
            )

    def step(
        self,
        round_number: int,
        model: bytes,
        beacon: Digest,
        stepped: bytes,
        total: IntArray,
        reports: Sequence[WeighedReport],
        records: Sequence[bytes],
    ) -> bytes:
        """Return the model state `stepped`, in which the state of quality is still the one before, with the next one.

        Args:
            beacon: of the round's terms, which drew who may report.
            total: what was opened, its last entry the row count.
            reports: of the close, their proofs verified.
            records: of the round, each checked by `check_record`.
        """
        if round_number == 0:
            return stepped
        before = self.state_of(stepped)
        scores = [self._score(report, scored=before.has_direction) for report in reports]
        bodies = [split_steward_record(data)[0] for data in records]
        ordered = [OrderedRecord(decode_steward_record(data, self.task), record_digest(data)) for data in bodies]
        hits = self.places_of(before, round_number, beacon).hits
        after = fold_round(self.fold_rule, before, round_number, total[:-1], int(total[-1]), scores, ordered, hits)
        return stepped[: -self.state_bytes] + encode_quality_state(after)

    def _score(self, found: WeighedReport, *, scored: bool) -> ReportScore:
        """Return what a report says of its score: nothing, if no proof can verify with what it says.

        Those whom the beacon chose may all vouch for a proof that does not verify. What stands before it then spoils no
        round, and is the same to everybody.
        """
        none = ReportScore(found.report.trainer, None, 0)
        if not scored:
            return none
        try:
            prefix, _ = ScorePrefix.split(found.proof)
        except ScorePrefixError:
            return none
        return (
            ReportScore(found.report.trainer, prefix.value, prefix.rows) if 0 < prefix.rows <= self.rows_max else none
        )

    @property
    def fold_rule(self) -> FoldRule:
        """What a round's end follows from beside what happened in it."""
        return FoldRule(self.policy, self.noise, self.weighted_min, self.rows_max, self.places, self.direction_norm)

    # ---------------------------------------------------------------------------------------- what a proof shows

    def demand(self, state: QualityState, terms: RoundTerms, rows: int) -> ScoreDemand | None:
        """Return what a report that sums over so many rows must prove of its score; None in a round without scores."""
        if not state.has_direction:
            return None
        scale = report_scale(state, rows, self.noise)
        beacon = int.from_bytes(terms.beacon[:2], "little") % SEEDS
        return ScoreDemand(state.direction, scale.shift, scale.sigma, beacon)


def is_known(proving: StewardProving, state: QualityState, entry: StewardEntry, round_number: int) -> bool:
    """Tell whether the registration of the shard that measures a round has been verified with its last record."""
    shards = [shard_of(number, proving.shard_rounds) for number in (state.round, round_number)]
    return entry.record != NO_DIGEST and shards[0] == shards[1]


@lru_cache(maxsize=16)  # all validators of a simulation, and whoever sees a record again after another one, ask once
def _fault(proving: StewardProving, known: bool, record: bytes, model: bytes) -> CollegiumError | None:
    """Return why a record's proof does not show what it says; None if it does."""
    body, evidence = split_steward_record(record)
    try:
        proving.check(decode_steward_record(body, proving.task), known, model, evidence)
    except CollegiumError as error:
        return error
    return None


def quality_points(rule: QualityRule, model: bytes) -> dict[bytes, int]:
    """Return what every trainer has earned up to a model state, 2^-16, by account."""
    return dict(zip(rule.trainers, rule.state_of(model).standing.points.tolist(), strict=True))
