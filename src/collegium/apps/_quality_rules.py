"""Ways to make one step of many updates: the plain mean, byzfl's robust rules, and ours.

The peers are given every update. Ours is given the weighted total and one noisy number of each report, and computes in
the protocol's integers: `incentives` for directions, draws, weights and locks, `proofs` for the scores and their noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from collegium.crypto import hash_fields
from collegium.incentives import (
    ONE,
    WATCHFUL,
    DirectionError,
    Draw,
    Lock,
    Policy,
    ScoredRound,
    ScoreScale,
    Standing,
    draw,
    join,
    median_direction,
    new_standing,
    next_norm_bound,
    normalise_direction,
    normalise_scores,
    score_scale,
    scoring_direction,
    weigh,
)
from collegium.proofs import SEEDS, ScoreDemand

from ._quality_data import Federation
from ._quality_data import Floats as Floats32

__all__ = ["Everyone", "Ours", "Settings", "UpdateRule"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

UPDATE_BITS: Final = 16  # an update's entry counts 2^-16
ENTRY_MAX: Final = 1 << 18
FIRST_NORM: Final = 1 << UPDATE_BITS
WITHIN: Final = Fraction(1023, 1024)  # an update below this part of the bound proves that it was not cut
GRADIENT_BITS: Final = 24
WEIGHTED_MIN: Final = 2

Aggregate = Callable[[Floats], Floats]


class UpdateRule(Protocol):
    """What a round asks of a rule: whom to draw, what updates may be like, and the step."""

    def drawn(self, round_index: int) -> Draw:
        """Return who reports in a round."""

    def open(self, model: Floats32) -> tuple[float | None, Floats | None]:
        """Return the norm bound and the direction of a round, None where there is none."""

    def close(self, updates: Floats) -> Floats:
        """Return what the model is moved by, from the updates of those drawn."""


@dataclass
class Everyone:
    """A rule that sees every update of trainers drawn with equal chances."""

    aggregate: Aggregate
    trainers: int
    places: int
    generator: np.random.Generator

    def drawn(self, round_index: int) -> Draw:
        """Return `places` trainers."""
        places = np.sort(self.generator.permutation(self.trainers)[: self.places]).astype(np.int64)
        return Draw(places, np.ones(len(places), np.int64))

    def open(self, model: Floats32) -> tuple[float | None, Floats | None]:
        """Return that there is neither bound nor direction."""
        return None, None

    def close(self, updates: Floats) -> Floats:
        """Return the aggregate, zero where it is not finite."""
        step = self.aggregate(updates)
        return step if np.isfinite(step).all() else np.zeros_like(step)


@dataclass(frozen=True, slots=True)
class Settings:
    """How our rule is played.

    Attributes:
        policy: its numbers.
        noise: standard deviation of a score's noise; 1 is the score of an update of norm C along the direction.
        late: whether the direction is shown only after the updates are fixed. Rounds show it before, and prove that
            nobody could use it (`_quality_rounds`); below level proved `hidden_harm` and `echo` use it.
        innovation: how much of the last aggregate's component is taken out of the direction, 2^-16.
        privacy_noise: standard deviation of the noise on the total, in norm bounds; 0 for none.
    """

    policy: Policy = WATCHFUL
    noise: Fraction = Fraction(1, 10)
    late: bool = True
    innovation: int = ONE
    privacy_noise: float = 0.0


@dataclass
class Ours:
    """Our rule: one total and one number each."""

    federation: Federation
    settings: Settings
    places: int
    stakes: Integers
    generator: np.random.Generator
    standing: Standing
    norm_bound: int = FIRST_NORM
    last: Integers | None = None
    now: Draw = field(default_factory=lambda: Draw(np.zeros(0, np.int64), np.zeros(0, np.int64)))
    direction: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    scale: ScoreScale = field(default_factory=lambda: ScoreScale(0, 1, 0))
    weights: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    points: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    locks: list[tuple[int, Lock]] = field(default_factory=list)
    bought: int = 0  # of the stewards: they publish `favour` in the place of their gradients
    favour: Floats | None = None

    @classmethod
    def of(
        cls, federation: Federation, settings: Settings, places: int, stakes: Integers, seed: int, founders: int
    ) -> Ours:
        """Return the rule before its first round; trainers beyond the founders join later (`grow`)."""
        standing = new_standing(_account(number) for number in range(founders))
        return cls(federation, settings, places, stakes, np.random.default_rng((seed, 5)), standing)

    def grow(self, trainers: int) -> None:
        """Let trainers join, on probation, until there are so many."""
        more = range(len(self.standing), trainers)
        self.standing = join(self.standing, [_account(number) for number in more])

    def drawn(self, round_index: int) -> Draw:
        """Draw by stake and reputation."""
        beacon = self.generator.bytes(32)
        self.now = draw(self.settings.policy, self.standing, self.stakes[: len(self.standing)], self.places, beacon)
        return self.now

    def open(self, model: Floats32) -> tuple[float | None, Floats | None]:
        """Let the stewards publish their directions; return the bound and, where trainers see it, the direction."""
        honest = [self.federation.steward_gradient(model, steward) for steward in range(len(self.federation.shards))]
        said = honest if self.favour is None else [self.favour] * self.bought + honest[self.bought :]
        gradients = (np.rint(gradient * float(1 << GRADIENT_BITS)).astype(np.int64) for gradient in said)
        directions = [normalise_direction(gradient) for gradient in gradients]
        median = median_direction(directions, [1] * len(directions))
        try:
            self.direction = scoring_direction(median, self.last, self.settings.innovation)
        except DirectionError:  # nothing but the last aggregate: then a replay is worth what it is
            self.direction = scoring_direction(median, None)
        self.scale = score_scale(self.direction, self.norm_bound, self.settings.noise)
        shown = None if self.settings.late else self.direction / float(1 << 15)
        return self.norm_bound / float(1 << UPDATE_BITS), shown

    def close(self, updates: Floats) -> Floats:
        """Score, weigh and add; only the total is opened."""
        exact = _exact(updates, self.norm_bound)
        demand = ScoreDemand(self.direction, self.scale.shift, self.scale.sigma, int(self.generator.integers(SEEDS)))
        seeds = self.generator.integers(SEEDS, size=len(exact))
        inner = exact @ self.direction >> self.scale.shift
        values = [int(product) + demand.noise(int(seed)) for product, seed in zip(inner, seeds, strict=True)]
        self.scores = normalise_scores(values, self.scale)
        scored = ScoredRound(self.now.places, self.scores, self.now.hits, self.stakes[: len(self.standing)])
        before = self.standing.round
        weighed = weigh(self.settings.policy, self.standing, scored)
        self.standing, self.weights, self.points = weighed.standing, weighed.weights, weighed.points
        self.locks += [(before, lock) for lock in weighed.locks]
        norms = (exact * exact).sum(axis=1)
        limit = int(WITHIN * self.norm_bound)
        heard = self.weights > 0  # who has no influence does not move the bound either
        within = int((norms[heard] <= limit * limit).sum())
        step = self._step(exact)
        self.norm_bound = next_norm_bound(self.norm_bound, within, int(heard.sum()))
        return step

    def _step(self, exact: Integers) -> Floats:
        if int((self.weights > 0).sum()) < WEIGHTED_MIN:
            return np.zeros(exact.shape[1])
        total = self.weights @ exact
        if self.settings.privacy_noise:
            deviation = self.settings.privacy_noise * self.norm_bound * self.settings.policy.weight_max
            total = total + np.rint(self.generator.normal(0, deviation, len(total))).astype(np.int64)
        self.last = total if total.any() else None
        mean: Floats = total / float(self.weights.sum() << UPDATE_BITS)
        return mean


def _account(number: int) -> bytes:
    return hash_fields("quality-account", number)[:20]


def _exact(updates: Floats, norm_bound: int) -> Integers:
    """Return updates as integers, to the nearest, of norm at most the bound."""
    scaled = np.rint(np.clip(updates * float(1 << UPDATE_BITS), -ENTRY_MAX, ENTRY_MAX))
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    # What rounding made too long is cut anew: towards zero, which loses less than one in the norm bound's thousand.
    cut = np.trunc(scaled * (norm_bound / np.maximum(norms, 1.0)))
    return np.where(norms > norm_bound, cut, scaled).astype(np.int64)
