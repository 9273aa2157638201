"""A federation trained for some rounds by one rule while some of its trainers attack."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from collegium.learning import AttackPlan, AttackView, forge

from ._quality_data import Federation
from ._quality_rules import Ours, UpdateRule

__all__ = ["Played", "attackers_of", "play"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

CUT_MARGIN = 1e-4  # leaves room for rounding to integers
QUIET_SHARE = 0.01  # of all weight: attackers with less do not count


@dataclass
class Played:
    """What came of it.

    Attributes:
        worth: accuracy on the test rows, or AUC where there are two classes.
        backdoor: the trigger's success; 0 where there is none.
        attackers: which trainers attack.
        weight_share: the attackers' part of all weight, round by round; of ours only.
        rule: the rule at the end.
    """

    worth: float
    backdoor: float
    attackers: Mask
    weight_share: list[float] = field(default_factory=list)
    rule: UpdateRule | None = None

    @property
    def ours(self) -> Ours:
        """The rule, where it is ours.

        Raises:
            TypeError: it is another.
        """
        if not isinstance(self.rule, Ours):
            raise TypeError(f"the rule is {type(self.rule).__name__}, expected Ours")
        return self.rule

    def quiet_from(self, since: int) -> int | None:
        """Return after how many rounds of attack the attackers' weight stays below a hundredth; None: it does not."""
        loud = [index for index, share in enumerate(self.weight_share) if index >= since and share >= QUIET_SHARE]
        if not loud:
            return 0
        return None if loud[-1] + 1 == len(self.weight_share) else loud[-1] + 1 - since

    def locked(self) -> Mask:
        """Return who was ever locked out."""
        out = np.zeros(len(self.attackers), np.bool_)
        out[[lock.place for _, lock in self.ours.locks]] = True
        return out

    def pay(self) -> tuple[float, float]:
        """Return what an attacker and an honest trainer earned in the mean, in points."""
        points = self.ours.standing.points / 65536
        known = self.attackers[: len(points)]
        bad = float(points[known].mean()) if known.any() else 0.0
        return bad, float(points[~known].mean())


def attackers_of(plan: AttackPlan | None, trainers: int, seed: int) -> Mask:
    """Return which trainers attack: a share of all, or with `identities` that many names after the honest."""
    if plan is None:
        return np.zeros(trainers, np.bool_)
    if plan.identities:
        return np.arange(trainers + plan.identities) >= trainers
    bad = np.zeros(trainers, np.bool_)
    bad[np.random.default_rng((seed, 7)).permutation(trainers)[: round(plan.share * trainers)]] = True
    return bad


def play(federation: Federation, rule: UpdateRule, plan: AttackPlan | None, rounds: int, seed: int) -> Played:
    """Train for some rounds and return what came of it. The same seed gives the same batches whatever the rule does."""
    bad = attackers_of(plan, len(federation.labels), seed)
    generator, forger = np.random.default_rng((seed, 8)), np.random.default_rng((seed, 9))
    model = federation.first_model(seed)
    last = np.zeros(federation.parameter_count)
    earlier: dict[int, Floats] = {}
    played = Played(0.0, 0.0, bad, rule=rule)
    for index in range(rounds):
        if plan is not None and plan.identities and index == plan.from_round and isinstance(rule, Ours):
            rule.grow(len(bad))
        drawn = rule.drawn(index).places
        norm_bound, direction = rule.open(model)
        attacking = bad[drawn] & (plan is not None and plan.is_on(index))
        updates = _updates(federation, model, drawn, attacking, plan, generator, norm_bound)
        if plan is not None and attacking.any() and not attacking.all():
            own = updates[attacking]
            for place, update in zip(drawn[attacking], own, strict=True):
                earlier.setdefault(int(place), update)
            first = np.stack([earlier[int(place)] for place in drawn[attacking]])
            view = AttackView(updates[~attacking], own, norm_bound, last, first, direction)
            updates[attacking] = forge(plan, view, forger)
        step = rule.close(updates)
        if isinstance(rule, Ours):
            weight = float(rule.weights.sum())
            played.weight_share.append(float(rule.weights[bad[drawn]].sum()) / weight if weight else 0.0)
        model = model - step.astype(np.float32)
        last = step
    played.worth = federation.worth(model) if np.isfinite(model).all() else 0.0
    if plan is not None and plan.kind == "backdoor" and federation.trigger.size:
        played.backdoor = federation.backdoor_success(model)
    return played


def _updates(
    federation: Federation,
    model: NDArray[np.float32],
    drawn: Integers,
    attacking: Mask,
    plan: AttackPlan | None,
    generator: np.random.Generator,
    norm_bound: float | None,
) -> Floats:
    """Return what training gives everybody drawn, cut to the norm bound; spoiled rows where the attack is in them."""
    updates = np.empty((len(drawn), federation.parameter_count))
    spoil = plan.kind if plan is not None and plan.spoils_rows else None
    for mask, how in ((~attacking, None), (attacking, spoil)):
        if mask.any():
            updates[mask] = federation.train(model, drawn[mask].tolist(), generator, how)
    if norm_bound is not None:
        norms = np.linalg.norm(updates, axis=1, keepdims=True)
        updates *= np.minimum(norm_bound * (1 - CUT_MARGIN) / np.maximum(norms, 1e-12), 1.0)
    return updates
