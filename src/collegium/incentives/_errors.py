"""Everything this room refuses, by name."""

from collegium.errors import CollegiumError

__all__ = [
    "BudgetError",
    "DirectionError",
    "IncentiveError",
    "MedianError",
    "PolicyError",
    "QualityBytesError",
    "RoundInputError",
    "StandingBytesError",
    "StandingError",
    "StewardRecordError",
]


class IncentiveError(CollegiumError):
    """Something handed to the incentives room was refused."""


class PolicyError(IncentiveError):
    """A number of a policy is out of the range for which the bounds are proved."""


class StandingError(IncentiveError):
    """A trainer is unknown or joins twice, or there are too many."""


class StandingBytesError(IncentiveError):
    """Bytes that should be a standing's canonical encoding are not."""


class QualityBytesError(IncentiveError):
    """Bytes that should be a state of quality are not one."""


class StewardRecordError(IncentiveError):
    """A steward's record is none, or not its own, or not one that this round takes."""


class RoundInputError(IncentiveError):
    """What a round says of its reports does not fit the standing."""


class MedianError(IncentiveError):
    """A weighted median of nothing, or of weights that are not positive, or of vectors that do not fit."""


class DirectionError(IncentiveError):
    """A direction is zero, too long, too large, or of a norm that its steward may not claim."""


class BudgetError(IncentiveError):
    """A budget cannot be split: it is negative, or too large."""
