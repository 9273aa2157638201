"""What a task pays its trainers for rounds: the section `[rewards]` of an experiment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from ._sections import Section

__all__ = ["RewardSettings", "reward_settings", "rewards_to_mapping"]

BUDGET_MAX: Final = (1 << 96) - 1  # as the contract counts it
DAYS_MAX: Final = 3650
POST_DAYS_MIN: Final = 36  # a window of 7 days, the longest game of 26: else who disputes keeps all from pay
SHARE_MAX: Final = 5_000  # basis points, as the contract bounds them
DAY_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """What a task pays.

    Attributes:
        budget: for a round of training, in wei of the home chain.
        claim_days: how long after that trainers can claim; then what is left is the sponsor's.
        post_days: how long after the task's founding rewards may be taken over.
        royalty: basis points of what a later version earns, to a version of this task.
        sponsor_share: basis points of what a version of this task earns, to its sponsor.
    """

    budget: int
    claim_days: int
    post_days: int
    royalty: int
    sponsor_share: int

    @property
    def claim_s(self) -> int:
        """The time to claim, in seconds."""
        return self.claim_days * DAY_S

    @property
    def post_s(self) -> int:
        """The time to take rewards over, in seconds from the founding on."""
        return self.post_days * DAY_S


def reward_settings(section: Section) -> RewardSettings:
    """Return what the section says."""
    settings = RewardSettings(
        budget=section.integer("budget", 1, BUDGET_MAX),
        claim_days=section.integer("claim_days", 1, DAYS_MAX, default=365),
        post_days=section.integer("post_days", POST_DAYS_MIN, DAYS_MAX, default=365),
        royalty=section.integer("royalty", 0, SHARE_MAX, default=0),
        sponsor_share=section.integer("sponsor_share", 0, SHARE_MAX, default=0),
    )
    section.close()
    return settings


def rewards_to_mapping(settings: RewardSettings) -> dict[str, object]:
    """Return the settings as plain values."""
    return asdict(settings)
