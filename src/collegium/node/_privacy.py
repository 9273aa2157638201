"""Noise that hides any one row of any one trainer in what a task opens. docs/spec/privacy.md.

Every trainer brings each row's gradient to a public norm and adds its own share of the noise before it masks; only
the total is opened, and the shares of those whom nobody need trust are not counted. OpenDP draws the noise and
dp-accounting adds up what the rounds cost: the extra `privacy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Rule

from ._sections import TERM_MAX, Section, as_quotient

__all__ = [
    "PrivacyMissingError",
    "PrivacySettings",
    "PrivacyTerms",
    "epsilon_of",
    "noise_for",
    "privacy_settings",
    "privacy_terms",
    "privacy_to_mapping",
]

IntArray: TypeAlias = npt.NDArray[np.int64]

CLIP_MAX: Final = 1 << 10
NOISE_MAX: Final = 1 << 12
TRAINERS_MAX: Final = 1 << 16
DEVIATION_MIN: Final = 64  # below it a sum of discrete Gaussians would not be one for all that can be told
REACH: Final = 16  # deviations, beyond which noise is cut: it comes to that with a probability below 2^-183
EXTRA: Final = "the extra that does it is missing: pip install 'collegium[privacy]'"


class PrivacyMissingError(CollegiumError):
    """A task asks for noise, and the packages that draw it or account for it are not installed."""


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """What the section `[privacy]` of an experiment says.

    Attributes:
        clip: the norm to which each row's gradient is brought.
        noise: deviation of the noise in a sum, in units of how far one row can move it, 2 x clip.
        honest: of how many trainers of each sum the noise is counted.
        delta: for which `collegium privacy` states epsilon.
    """

    clip: Fraction
    noise: Fraction
    honest: int
    delta: Fraction


def privacy_settings(section: Section) -> PrivacySettings:
    """Return what the section says."""
    settings = PrivacySettings(
        clip=section.fraction("clip", Fraction(1, TERM_MAX), Fraction(CLIP_MAX), TERM_MAX),
        noise=section.fraction("noise", Fraction(1, 100), Fraction(NOISE_MAX), TERM_MAX),
        honest=section.integer("honest", 1, TRAINERS_MAX),
        delta=section.fraction("delta", Fraction(1, 10**12), Fraction(1, 100), 10**12, default=Fraction(1, 10**6)),
    )
    section.close()
    return settings


def privacy_to_mapping(settings: PrivacySettings) -> dict[str, object]:
    """Return the settings as plain values."""
    exact = {"clip": settings.clip, "noise": settings.noise, "delta": settings.delta}
    return {"honest": settings.honest} | {key: as_quotient(number) for key, number in exact.items()}


def draw_noise(entries: int, deviation: int) -> IntArray:
    """Return independent discrete Gaussian noise (entries,), drawn exactly, from the system's randomness.

    Raises:
        PrivacyMissingError: OpenDP is not installed.
    """
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise PrivacyMissingError(f"noise cannot be drawn: {EXTRA}") from error
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    draw = dp.m.make_gaussian(*space, scale=float(deviation))
    return np.array(draw([0] * entries), np.int64)


@dataclass(frozen=True)
class PrivacyTerms:
    """A task's privacy in the integers of its rule.

    Attributes:
        norm: of a row's clipped gradient, in units of 2^-2f.
        deviation: of the noise that each trainer adds to each entry, in the same units.
        noise: where it comes from.
    """

    norm: int
    deviation: int
    noise: Callable[[int, int], IntArray] = field(default=draw_noise, compare=False)

    @property
    def reach(self) -> int:
        """The largest magnitude of a trainer's noise."""
        return REACH * self.deviation

    def update(
        self,
        spec: ModelSpec,
        rule: Rule,
        parameters: IntArray,
        features: IntArray,
        labels: IntArray,
        batch_seed: bytes,
    ) -> IntArray:
        """Return a trainer's update: clipped row by row, summed, and with noise on every entry but the row count.

        Raises:
            PrivacyMissingError: OpenDP is not installed.
            LearningError: as `learning.local_update`.
        """
        update = learning.clipped_update(spec, rule, parameters, features, labels, batch_seed, self.norm)
        noise = self.noise(spec.parameter_count, self.deviation)
        update[:-1] += np.clip(noise, -self.reach, self.reach)
        return update

    def update_bound(self, rule: Rule, rows_max: int) -> int:
        """Return the largest magnitude of an entry of `update`."""
        return learning.clipped_update_bound(rule, rows_max, self.norm) + self.reach


def privacy_terms(settings: PrivacySettings, rule: Rule) -> PrivacyTerms:
    """Return the integers: norm rounded down, each trainer's noise rounded up, so that what is promised holds."""
    norm = max(1, int(settings.clip * rule.one**2))
    square = (2 * norm * settings.noise) ** 2 / settings.honest
    deviation = isqrt(-(-square.numerator // square.denominator) - 1) + 1
    return PrivacyTerms(norm, max(DEVIATION_MIN, deviation))


def epsilon_of(noise: float, rounds: int, delta: float) -> float:
    """Return epsilon of so many opened rounds, for (epsilon, delta)-privacy of one row replaced by another.

    Rényi accounting; batches are public, so that drawing them hides nothing.

    Raises:
        PrivacyMissingError: dp-accounting is not installed.
    """
    try:
        from dp_accounting import GaussianDpEvent, rdp
    except ImportError as error:
        raise PrivacyMissingError(f"rounds cannot be accounted for: {EXTRA}") from error
    accountant = rdp.RdpAccountant()
    accountant.compose(GaussianDpEvent(noise), rounds)
    return float(accountant.get_epsilon(delta))


def noise_for(epsilon: float, rounds: int, delta: float) -> Fraction:
    """Return the least noise, in hundredths, with which so many rounds stay within epsilon.

    Raises:
        PrivacyMissingError: dp-accounting is not installed.
        CollegiumError: even the most noise that a task can have is too little.
    """
    low, high = 0, 100 * NOISE_MAX
    if epsilon_of(float(NOISE_MAX), rounds, delta) > epsilon:
        raise CollegiumError(f"epsilon {epsilon} over {rounds} rounds takes more noise than {NOISE_MAX}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if epsilon_of(middle / 100, rounds, delta) <= epsilon else (middle, high)
    return Fraction(high, 100)
