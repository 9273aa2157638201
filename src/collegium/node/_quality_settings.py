"""The section [stewards] of an experiment: who measures trainers on hidden rows, and what follows for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Final

from collegium.incentives import ONE, POLICY_RANGES, PRECISION_ONE, STEWARDS_MAX, Policy

from ._sections import TERM_MAX, Section, as_quotient

__all__ = ["PROVED_ROUNDS_MAX", "QualitySettings", "quality_settings", "quality_to_mapping", "shard_of"]

SHARE_MIN, SHARE_MAX = Fraction(1, 100), Fraction(1, 2)
NOISE_MAX = Fraction(1, 2)
SHARD_ROUNDS_MAX = 10_000
PROVED_ROUNDS_MAX: Final = 64  # of one shard, whose registration has a commitment for each
POLICY_TERM_MAX = 1 << 26  # 64 in units of 2^-20
_PRECISIONS: Final = ("prior_precision", "window_prior")
_COUNTS: Final = ("reports_min", "lock_rounds", "lock_doublings", "weight_max")


def shard_of(round_number: int, shard_rounds: int) -> int:
    """Return which shard measures the model that a round starts from, rounds counted from 1.

    Args:
        shard_rounds: how many rounds a shard serves; 0: there is one.
    """
    return (round_number - 1) // shard_rounds if shard_rounds else 0


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """Who measures, on what, and what follows.

    Attributes:
        count: stewards.
        share: of each site's rows of each class that they hold between them, and no trainer sees.
        noise: standard deviation of a score's noise; 1 is the score of an update of usual length along the direction.
        shard_rounds: how many rounds one shard of a steward's rows measures, before the next one does; 0: all, always.
        proved: whether a record proves what it says; else it is its steward's word, until rows are opened.
        open: whether their rows become public: each shard when it has measured its last round.
        policy: the numbers of influence, pay and exclusion.
    """

    count: int
    share: Fraction = Fraction(1, 10)
    noise: Fraction = Fraction(1, 10)
    shard_rounds: int = 0
    proved: bool = False
    open: bool = False
    policy: Policy = field(default_factory=Policy)

    def shards(self, rounds: int) -> int:
        """Return how many shards a steward's rows make in a task of so many rounds of training."""
        return shard_of(rounds, self.shard_rounds) + 1

    def shard(self, round_number: int) -> int:
        """Return which of them measures the model that a round starts from."""
        return shard_of(round_number, self.shard_rounds)


def quality_settings(section: Section) -> QualitySettings:
    """Return what a section says."""
    settings = QualitySettings(
        count=section.integer("count", 1, STEWARDS_MAX),
        share=section.fraction("share", SHARE_MIN, SHARE_MAX, TERM_MAX, default=Fraction(1, 10)),
        noise=section.fraction("noise", Fraction(0), NOISE_MAX, TERM_MAX, default=Fraction(1, 10)),
        shard_rounds=section.integer("shard_rounds", 0, SHARD_ROUNDS_MAX, default=0),
        proved=section.boolean("proved", default=False),
        open=section.boolean("open", default=False),
        policy=_policy(section),
    )
    section.close()
    return settings


def _policy(section: Section) -> Policy:
    """Return the policy; what is no count is given in decimals and rounded to the nearest unit."""
    default, numbers = asdict(Policy()), dict[str, int]()
    for name, (low, high) in POLICY_RANGES.items():
        if name in _COUNTS:
            numbers[name] = section.integer(name, low, high, default=default[name])
            continue
        unit = _unit(name)
        bounds = (Fraction(low, unit), Fraction(high, unit), POLICY_TERM_MAX)
        given = section.fraction(name, *bounds, default=Fraction(default[name], unit))
        numbers[name] = (2 * given.numerator * unit + given.denominator) // (2 * given.denominator)
    return Policy(**numbers) if section.ok else Policy()


def quality_to_mapping(settings: QualitySettings) -> Mapping[str, object]:
    """Return the settings as the plain values of a section, every default written out."""
    policy = {
        name: value if name in _COUNTS else as_quotient(Fraction(value, _unit(name)))
        for name, value in asdict(settings.policy).items()
    }
    return {
        "count": settings.count,
        "share": as_quotient(settings.share),
        "noise": as_quotient(settings.noise),
        "shard_rounds": settings.shard_rounds,
        "proved": settings.proved,
        "open": settings.open,
    } | policy


def _unit(name: str) -> int:
    return PRECISION_ONE if name in _PRECISIONS else ONE
