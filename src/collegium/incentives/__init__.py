"""Who made the model better: from proved scores to influence, rewards and locks, as exact integers.

    directions -> median_direction -> scoring_direction -> score_scale -> (proved scores) -> normalise_scores
    draw -> (reports) -> weigh -> weights, points, locks, the next Standing -> split_budget

Pure: one seed and one history give every machine the same bits. docs/spec/quality.md has formulas, bounds and what is
measured rather than proved.
"""

from ._direction import (
    DIRECTION_BITS,
    STEWARD_NORM_BITS,
    ScoreScale,
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
    RoundInputError,
    StandingBytesError,
    StandingError,
)
from ._fixed import FRACTION_BITS, ONE, PRECISION_BITS, PRECISION_ONE, STAKE_MAX, weighted_median, weighted_median_rows
from ._norm import NORM_MAX, next_norm_bound
from ._policy import Policy, policy_digest
from ._rewards import BUDGET_MAX, split_budget
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
from ._weigh import HITS_MAX, Lock, LockReason, ScoredRound, Weighed, reference_utility, weigh

__all__ = [
    "BUDGET_MAX",
    "DIRECTION_BITS",
    "FRACTION_BITS",
    "HITS_MAX",
    "NORM_MAX",
    "ONE",
    "PRECISION_BITS",
    "PRECISION_ONE",
    "STAKE_MAX",
    "STEWARD_NORM_BITS",
    "TRAINERS_MAX",
    "BudgetError",
    "DirectionError",
    "Draw",
    "IncentiveError",
    "Lock",
    "LockReason",
    "MedianError",
    "Policy",
    "PolicyError",
    "RoundInputError",
    "ScoreScale",
    "ScoredRound",
    "Standing",
    "StandingBytesError",
    "StandingError",
    "Weighed",
    "decode_standing",
    "draw",
    "encode_standing",
    "join",
    "median_direction",
    "new_standing",
    "next_norm_bound",
    "normalise_direction",
    "normalise_scores",
    "policy_digest",
    "reference_utility",
    "score_scale",
    "scoring_direction",
    "split_budget",
    "standing_digest",
    "utility",
    "weigh",
    "weighted_median",
    "weighted_median_rows",
    "without_component",
]
