"""The rule as rounds at level proved have it, against trainers that can only choose their rows.

Everybody reports the rule's own result on registered rows, so an attacker's whole choice is which rows it registers,
and it chooses before there is any direction. Scores are along the stewards' gradient of the model one round older; what
they lead to weighs in the round after. The fold is the protocol's own (`incentives.fold_round`); training is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from collegium.crypto import hash_fields
from collegium.incentives import (
    FoldRule,
    OrderedRecord,
    Policy,
    QualityState,
    ReportScore,
    StewardRecord,
    first_quality_state,
    fold_round,
    median_direction,
    normalise_direction,
    report_scale,
    scoring_direction,
)
from collegium.learning import AttackPlan, flip_labels

from ._bench_rows import Row, Spread, figure_row, progress, spread_row, with_target
from ._quality_data import Federation
from ._quality_data import Floats as Floats32
from ._quality_play import attackers_of

__all__ = ["POISONS", "Rounds", "Watch", "poisoned", "rounds_rows"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

UPDATE_BITS: Final = 24
GRADIENT_BITS: Final = 24
WEIGHTED_MIN: Final = 3
NOISE: Final = Fraction(1, 10)
LOCKED_MOST: Final = 0.01
PAY_MOST: Final = 0.10
LOST_MOST: Final = 0.01
LOST_MOST_LARGE: Final = 0.02
LARGE_SHARE: Final = 0.45
COPIES: Final = 4
POISONS: Final = ("label_flip", "random_labels", "noise_features", "junk", "one_row", "copies")


def poisoned(federation: Federation, bad: Mask, poison: str, seed: int) -> Federation:
    """Return the federation with the rows that its attackers register instead of their own.

    Args:
        federation: as it was dealt.
        bad: who attacks, (trainers,).
        poison: "label_flip" turns labels round, "random_labels" draws them; "noise_features" mixes each feature among
            the rows; "junk" draws both from the features' ranges, as somebody without data would; "one_row" registers
            one row again and again, "copies" all of its rows `COPIES` times each.
        seed: of what is drawn.
    """
    generator = np.random.default_rng((seed, 11))
    features, labels = list(federation.features), list(federation.labels)
    for trainer in np.flatnonzero(bad).tolist():
        rows, own = features[trainer], labels[trainer]
        if poison == "label_flip":
            own = flip_labels(own, federation.classes)
        elif poison == "noise_features":
            rows = np.stack([generator.permutation(column) for column in rows.T], axis=1)
        elif poison == "one_row":
            rows, own = np.repeat(rows[:1], len(own), axis=0), np.repeat(own[:1], len(own))
        elif poison == "copies":
            rows, own = np.tile(rows, (COPIES, 1)), np.tile(own, COPIES)
        else:
            own = generator.integers(federation.classes, size=len(own))
            if poison == "junk":
                low, high = rows.min(axis=0), rows.max(axis=0)
                rows = (low + (high - low) * generator.random(rows.shape)).astype(np.float32)
        features[trainer], labels[trainer] = rows, own
    return replace(federation, features=features, labels=labels)


class Watch(Protocol):
    """Whoever looks at models and at one more number of each update."""

    quarantined: Mask

    def score(self, updates: Floats) -> None:
        """Take a round's updates in."""

    def look(self, model: Floats32) -> None:
        """Take the model in that a round started from: what it says is scored in the next."""


@dataclass
class Rounds:
    """A federation trained as rounds do it.

    Attributes:
        federation: rows of trainers and stewards.
        policy: of the fold.
        state: after the rounds so far.
        model: what the next round starts from.
        weights: every round's, (trainers,).
        locked: who was ever locked out.
        watch: scores updates along a second direction, and names whose weight is nothing (`_quality_trigger`).
        gradient: what a steward says of a model, instead of its gradient on its hidden rows.
        fresh: whether directions and weights are those of the round itself, which no real round can have: to compare.
    """

    federation: Federation
    policy: Policy
    state: QualityState
    model: Floats32
    generator: np.random.Generator
    noises: np.random.Generator
    weights: list[Integers] = field(default_factory=list)
    locked: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    fresh: bool = False
    watch: Watch | None = None
    gradient: Callable[[Floats32, int], Floats] | None = None

    @classmethod
    def of(
        cls,
        federation: Federation,
        seed: int,
        policy: Policy | None = None,
        *,
        fresh: bool = False,
        watch: Watch | None = None,
    ) -> Rounds:
        """Return the task before its first round."""
        policy = policy or Policy()
        trainers, stewards = ([_account(kind, i) for i in range(n)] for kind, n in _parties(federation))
        state = first_quality_state(policy, trainers, stewards, federation.parameter_count)
        generator, noises = np.random.default_rng((seed, 8)), np.random.default_rng((seed, 5))
        locked = np.zeros(len(trainers), np.bool_)
        return cls(
            federation,
            policy,
            state,
            federation.first_model(seed),
            generator,
            noises,
            locked=locked,
            fresh=fresh,
            watch=watch,
        )

    def play(self, rounds: int) -> Rounds:
        """Train for some rounds."""
        for _ in range(rounds):
            self._round()
        return self

    def _round(self) -> None:
        federation, state = self.federation, self.state
        rows = np.array([federation.batch or len(own) for own in federation.labels], np.int64)
        updates = federation.train(self.model, range(len(rows)), self.generator)
        sums = np.rint(np.float64(updates) * float(1 << UPDATE_BITS)).astype(np.int64) * rows[:, None]
        records = self._records()
        if self.fresh and state.norm_bound:
            median = median_direction([entry.record.direction for entry in records], [1] * len(records))
            state = replace(state, direction=scoring_direction(median, None))
        rule = FoldRule(self.policy, NOISE, WEIGHTED_MIN, int(rows.max()))
        reports = self._reports(state, sums, rows)

        def folded(weights: Integers) -> QualityState:
            total, count = weights @ sums, int(weights @ rows)
            return fold_round(rule, state, state.round + 1, total, count, reports, records)

        weights = folded(state.weights).weights if self.fresh else state.weights
        if self.watch is not None:
            self.watch.score(updates.astype(np.float64))
            self.watch.look(self.model)
            weights = np.where(self.watch.quarantined, 0, weights)
        self.weights.append(weights)
        self.state = folded(weights)
        standing = self.state.standing
        self.locked |= standing.locked_until > standing.round
        step = (weights @ sums) / float(int(weights @ rows) << UPDATE_BITS)
        self.model = self.model - step.astype(np.float32)

    def _reports(self, state: QualityState, sums: Integers, rows: Integers) -> list[ReportScore]:
        accounts = state.standing.addresses
        if not state.has_direction:
            return [ReportScore(account, None, int(count)) for account, count in zip(accounts, rows, strict=True)]
        reports = []
        for account, update, count in zip(accounts, sums, rows.tolist(), strict=True):
            scale = report_scale(state, count, NOISE)
            product = int(state.direction @ update)  # below 2^63: 2^15 x 2^24 x rows x parameters
            value = (product >> scale.shift) + round(self.noises.normal(0, scale.sigma))
            reports.append(ReportScore(account, value, count))
        return reports

    def _records(self) -> list[OrderedRecord]:
        records = []
        for steward, entry in enumerate(self.state.stewards):
            said = (self.gradient or self.federation.steward_gradient)(self.model, steward)
            exact = np.rint(said * float(1 << GRADIENT_BITS))
            direction = normalise_direction(exact.astype(np.int64))
            nothing = hash_fields("quality-rounds", steward)
            records.append(
                OrderedRecord(StewardRecord(entry.account, self.state.round + 1, direction, nothing, None), nothing)
            )
        return records

    def influence(self, bad: Mask, last: int = 5) -> float:
        """Return the attackers' part of all weight, the mean of the last rounds."""
        return float(np.mean([weights[bad].sum() / weights.sum() for weights in self.weights[-last:]]))

    def unheard(self, bad: Mask) -> float:
        """Return how many of the honest have no weight in the end."""
        return float((self.state.weights[~bad] == 0).mean())

    def pay(self, bad: Mask) -> float:
        """Return what an attacker earns, in honest trainers' pay, both in the mean."""
        points = self.state.standing.points
        good = float(points[~bad].mean())
        return float(points[bad].mean()) / good if good and bad.any() else 0.0


def _parties(federation: Federation) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("trainer", len(federation.labels)), ("steward", len(federation.shards))


def _account(kind: str, number: int) -> bytes:
    return hash_fields("quality-rounds-account", kind.encode(), number)[:20]


# Rows


def rounds_rows(
    deals: Sequence[Callable[[int], Federation]], shares: Sequence[float], seeds: int, rounds: int
) -> Iterator[Row]:
    """Yield what attackers that choose their rows leave of the model, weigh and earn, and what honest trainers lose."""
    for deal in deals:
        federations = [deal(seed) for seed in range(seeds)]
        trainers = len(federations[0].labels)
        clean = [
            _Outcome.of(federation, np.zeros(trainers, np.bool_), seed, rounds)
            for seed, federation in enumerate(federations)
        ]
        yield from _rows("no attackers", federations[0].name, clean, clean, 1.0)
        for share in shares:
            plan = AttackPlan("label_flip", share)
            for poison in POISONS:
                progress(f"{federations[0].name}: {poison} {share:.0%}, as rounds do it")
                found = []
                for seed, federation in enumerate(federations):
                    bad = attackers_of(plan, trainers, seed)
                    found.append(_Outcome.of(poisoned(federation, bad, poison, seed), bad, seed, rounds))
                target = LOST_MOST_LARGE if share >= LARGE_SHARE else LOST_MOST
                yield from _rows(f"{poison} {share:.0%}", federations[0].name, clean, found, target)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of one run: the model's worth, with equal weights, without lag, of the honest alone; the rest as in `Rounds`."""

    worth: float
    equal: float
    fresh: float
    alone: float
    influence: float
    pay: float
    locked: float
    locked_fresh: float
    unheard: float

    @classmethod
    def of(cls, federation: Federation, bad: Mask, seed: int, rounds: int) -> _Outcome:
        ours = Rounds.of(federation, seed).play(rounds)
        fresh = Rounds.of(federation, seed, fresh=True).play(rounds)
        equal = Rounds.of(replace(federation, shards=()), seed).play(rounds)
        alone = equal if not bad.any() else Rounds.of(_without(federation, bad), seed).play(rounds)
        return cls(
            federation.worth(ours.model),
            federation.worth(equal.model),
            federation.worth(fresh.model),
            federation.worth(alone.model),
            ours.influence(bad),
            ours.pay(bad),
            float(ours.locked[~bad].mean()),
            float(fresh.locked[~bad].mean()),
            ours.unheard(bad),
        )


def _without(federation: Federation, bad: Mask) -> Federation:
    """Return the federation of the honest, whose mean nobody weighs."""
    return replace(federation.of(np.flatnonzero(~bad).tolist()), shards=())


def _rows(name: str, case: str, clean: Sequence[_Outcome], found: Sequence[_Outcome], target: float) -> Iterator[Row]:
    def spread(field_: str) -> Spread:
        return Spread.of([getattr(outcome, field_) for outcome in found])

    rules = {"ours": spread("worth"), "ours, no lag": spread("fresh"), "mean": spread("equal")}
    row = spread_row(f"rounds: {name}", case, rules["ours"], rules["mean"], 1, "worth, beside the plain mean's")
    row["rules"] = {rule: [value.median, value.least, value.greatest] for rule, value in rules.items()}
    if found is not clean:
        lost = max(before.equal - after.worth for before, after in zip(clean, found, strict=True))
        row = with_target(row | {"lost": lost}, round(lost, 4), target)
        row["alone"] = spread("alone").median
        row["behind"] = max(outcome.alone - outcome.worth for outcome in found)
    row |= {name_: spread(name_).median for name_ in ("influence", "unheard")}
    mean = float(np.mean([outcome.locked for outcome in found]))
    row |= {"locked": mean, "locked_fresh": float(np.mean([outcome.locked_fresh for outcome in found]))}
    row["pay"] = spread("pay").median
    yield row
    if found is not clean:
        yield with_target(
            spread_row(f"rounds: pay, {name}", case, spread("pay"), None, 1, "of an honest trainer's"),
            spread("pay").greatest,
            PAY_MOST,
        )
    most = max(outcome.locked for outcome in found)
    unit = f"ever, mean of {len(found)} runs, most {most:.3g}; without lag {row['locked_fresh']:.3g}"
    yield with_target(figure_row(f"rounds: honest locked out, {name}", case, mean, None, unit), mean, LOCKED_MOST)
