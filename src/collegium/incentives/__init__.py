"""Who made the model better: from proved scores to influence, rewards and locks, as exact integers.

    directions -> median_direction -> scoring_direction -> score_scale -> (proved scores) -> normalise_scores
    draw -> (reports) -> weigh -> weights, points, locks, the next Standing -> split_budget
    fold_round: the end of a round of a run, from one QualityState and what the round made final to the next one

Pure: one seed and one history give every machine the same bits. docs/spec/quality.md has formulas, bounds and what is
measured rather than proved.
"""

from ._direction import (
    DIRECTION_BITS,
    ScoreScale,
    direction_norm_max,
    median_direction,
    normalise_direction,
    normalise_scores,
    score_scale,
    scoring_direction,
    without_component,
)
from ._draw import Draw, draw
from ._errors import (
    BudgetError,
    DirectionError,
    IncentiveError,
    MedianError,
    PolicyError,
    QualityBytesError,
    RoundInputError,
    StandingBytesError,
    StandingError,
    StewardRecordError,
)
from ._fixed import FRACTION_BITS, ONE, PRECISION_BITS, PRECISION_ONE, STAKE_MAX, weighted_median, weighted_median_rows
from ._fold import FoldRule, OrderedRecord, ReportScore, first_quality_state, fold_round, report_scale
from ._norm import NORM_MAX, next_norm_bound
from ._places import RoundPlaces, round_places
from ._policy import POLICY_RANGES, WATCHFUL, Policy, policy_digest
from ._quality_state import (
    NO_SCORE,
    STEWARDS_MAX,
    QualityState,
    StewardEntry,
    decode_quality_state,
    encode_quality_state,
    quality_state_bytes,
)
from ._rewards import BUDGET_MAX, EARNED_MAX, POINTS_MAX, earned_after, split_budget
from ._standing import (
    TRAINERS_MAX,
    Standing,
    decode_standing,
    encode_standing,
    join,
    new_standing,
    standing_digest,
    utility,
)
from ._steward_record import (
    RECORD_BYTES_MAX,
    SALT_BYTES,
    ModelScore,
    StewardRecord,
    decode_steward_record,
    encode_steward_record,
    read_steward_record,
    record_digest,
    score_commitment,
    sign_steward_record,
    split_steward_record,
    steward_record_bytes,
)
from ._weigh import HITS_MAX, Lock, LockReason, ScoredRound, Weighed, reference_utility, weigh

__all__ = [
    "BUDGET_MAX",
    "DIRECTION_BITS",
    "EARNED_MAX",
    "FRACTION_BITS",
    "HITS_MAX",
    "NORM_MAX",
    "NO_SCORE",
    "ONE",
    "POINTS_MAX",
    "POLICY_RANGES",
    "PRECISION_BITS",
    "PRECISION_ONE",
    "RECORD_BYTES_MAX",
    "SALT_BYTES",
    "STAKE_MAX",
    "STEWARDS_MAX",
    "TRAINERS_MAX",
    "WATCHFUL",
    "BudgetError",
    "DirectionError",
    "Draw",
    "FoldRule",
    "IncentiveError",
    "Lock",
    "LockReason",
    "MedianError",
    "ModelScore",
    "OrderedRecord",
    "Policy",
    "PolicyError",
    "QualityBytesError",
    "QualityState",
    "ReportScore",
    "RoundInputError",
    "RoundPlaces",
    "ScoreScale",
    "ScoredRound",
    "Standing",
    "StandingBytesError",
    "StandingError",
    "StewardEntry",
    "StewardRecord",
    "StewardRecordError",
    "Weighed",
    "decode_quality_state",
    "decode_standing",
    "decode_steward_record",
    "direction_norm_max",
    "draw",
    "earned_after",
    "encode_quality_state",
    "encode_standing",
    "encode_steward_record",
    "first_quality_state",
    "fold_round",
    "join",
    "median_direction",
    "new_standing",
    "next_norm_bound",
    "normalise_direction",
    "normalise_scores",
    "policy_digest",
    "quality_state_bytes",
    "read_steward_record",
    "record_digest",
    "reference_utility",
    "report_scale",
    "round_places",
    "score_commitment",
    "score_scale",
    "scoring_direction",
    "sign_steward_record",
    "split_budget",
    "split_steward_record",
    "standing_digest",
    "steward_record_bytes",
    "utility",
    "weigh",
    "weighted_median",
    "weighted_median_rows",
    "without_component",
]
