"""Backdoors, and stewards that look for them: invert a trigger on hidden rows, score what would unlearn it, quarantine.

A universal trigger (1 - a) x + a p that turns hidden rows of every class into one is sought for each class by gradient
descent with few changed features preferred (Neural Cleanse, Wang et al., S&P 2019); the class that is cheapest to reach
is suspect. The gradient that teaches the model those rows' true labels is a second direction to score along: who put
the trigger in pushes against it. What is common to all hidden rows of a class is taken out of it first. Two trials in
floating point: a watch that scores along it beside the round's direction and quarantines (`TriggerWatch`), and stewards
that each add it to their own gradient (`TriggerGradient`): one direction then serves both, and no format changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from collegium.incentives import Policy
from collegium.learning import AttackPlan, stamp

from ._bench_rows import Row, Spread, figure_row, progress, spread_row, with_target
from ._quality_data import Federation, Labels
from ._quality_data import Floats as Floats32
from ._quality_play import attackers_of
from ._quality_rounds import Rounds

__all__ = [
    "Trigger",
    "TriggerGradient",
    "TriggerWatch",
    "invert_trigger",
    "trigger_rows",
    "unlearning",
    "with_backdoor",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Trigger = Literal["patch", "blend"]

STEPS: Final = 60
RATE: Final = 0.3
SPARSE: Final = 0.02  # what a changed feature costs, in cross-entropy
BLENDED: Final = 0.3  # of a blended row is the pattern
NOISE: Final = 0.1  # of a score along the second direction too
MEMORY: Final = 0.97
PRIOR: Final = 25.0
DEVIATION_MIN: Final = 0.05
SPREAD_MIN: Final = 0.01
SPREAD_MARGIN: Final = 1.3
ROUNDS_MIN: Final = 5
ADDED: Final = 2.0  # lengths of a steward's own gradient that it adds of what unlearns a trigger
SUCCESS_MOST: Final = 0.10
LOST_MOST: Final = 0.02
WRONGLY_MOST: Final = 0.01


def put(federation: Federation, rows: Floats32, trigger: Trigger) -> Floats32:
    """Return rows with the trigger: a corner of lit pixels, or a faint pattern all over."""
    if trigger == "patch":
        return stamp(rows, federation.trigger)
    pattern = np.random.default_rng(99).random(rows.shape[-1])
    return ((1 - BLENDED) * rows + BLENDED * pattern).astype(np.float32)


def with_backdoor(federation: Federation, bad: Mask, trigger: Trigger) -> Federation:
    """Return the federation whose attackers register half of their rows with the trigger, and as class 0."""
    features, labels = list(federation.features), list(federation.labels)
    for trainer in np.flatnonzero(bad).tolist():
        rows, own, half = features[trainer].copy(), labels[trainer].copy(), len(labels[trainer]) // 2
        rows[:half], own[:half] = put(federation, rows[:half], trigger), 0
        features[trainer], labels[trainer] = rows, own
    return replace(federation, features=features, labels=labels)


def success(federation: Federation, model: Floats32, trigger: Trigger) -> float:
    """Return the share of test rows of other classes that the trigger turns into class 0."""
    rows, labels = federation.test
    changed = put(federation, rows[labels != 0], trigger)
    return float((federation.logits(model, changed).argmax(axis=1) == 0).mean())


def _sigmoid(values: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-values))
    return result


def invert_trigger(federation: Federation, model: Floats32, rows: Floats32) -> tuple[int, Floats, Floats]:
    """Return the class that a universal trigger reaches at the least cost, its mask a and its pattern p."""
    classes, inputs = federation.classes, federation.inputs
    layers = [matrix[0].T for matrix, _ in federation.layers(model[None])]
    raw = np.concatenate([np.full((1, classes, inputs), -2.0), np.zeros((1, classes, inputs))])
    slope, square = np.zeros_like(raw), np.zeros_like(raw)
    cost = np.zeros(classes)
    for step in range(1, STEPS + 1):
        mask, pattern = _sigmoid(raw)
        changed = (1 - mask[:, None]) * rows + mask[:, None] * pattern[:, None]
        before, _, logits = federation.forward(model[None], changed.astype(np.float32))
        errors = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
        errors /= errors.sum(axis=-1, keepdims=True)
        own = errors[np.arange(classes), :, np.arange(classes)]
        cost = -np.log(own + 1e-9).mean(axis=1) + SPARSE * mask.sum(axis=1)
        errors[np.arange(classes), :, np.arange(classes)] -= 1
        back = errors @ layers[-1] / len(rows)
        if federation.hidden:
            back = (back * (before > 0)) @ layers[0]
        by_mask = ((pattern[:, None] - rows) * back).sum(axis=1) + SPARSE
        by_pattern = mask * back.sum(axis=1)
        gradient = np.stack([by_mask * mask * (1 - mask), by_pattern * pattern * (1 - pattern)])
        slope, square = 0.9 * slope + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        raw -= RATE * (slope / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    chosen = int(cost.argmin())
    mask, pattern = _sigmoid(raw)
    return chosen, mask[chosen], pattern[chosen]


@dataclass
class TriggerWatch:
    """Who seems to teach a trigger: a mean of each trainer's scores along what unlearns it, and a quarantine.

    Attributes:
        deviations: of the honest spread that a trainer must lie below it.
        quarantined: whose weight is nothing, for good.
    """

    federation: Federation
    generator: np.random.Generator
    deviations: float = 3.0
    quarantined: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    direction: Floats | None = None
    precision: float = 0.0
    information: Floats = field(default_factory=lambda: np.zeros(0))
    rounds: int = 0

    @classmethod
    def of(cls, federation: Federation, seed: int) -> TriggerWatch:
        """Return the watch before the first round."""
        trainers = len(federation.labels)
        generator = np.random.default_rng((seed, 13))
        return cls(federation, generator, quarantined=np.zeros(trainers, np.bool_), information=np.zeros(trainers))

    def score(self, updates: Floats) -> None:
        """Learn from a round's updates, (trainers, parameters), each of which says one number, with noise."""
        if self.direction is None:
            return
        self.rounds += 1
        usual = float(np.median(np.linalg.norm(updates, axis=1)))
        scores = updates @ self.direction / usual + NOISE * self.generator.standard_normal(len(updates))
        scores -= np.median(scores)
        deviation = max(DEVIATION_MIN, 1.4826 * float(np.median(np.abs(scores))))
        self.precision = MEMORY * self.precision + deviation**-2
        self.information = MEMORY * self.information + scores * deviation**-2
        mean = self.information / (self.precision + PRIOR)
        middle = np.median(mean)
        upper = mean[mean >= middle] - middle  # the lower half may be the attackers
        spread = SPREAD_MARGIN * 1.4826 * float(np.median(upper)) + SPREAD_MIN
        if self.rounds >= ROUNDS_MIN:
            self.quarantined = self.quarantined | (mean - middle < -self.deviations * spread)

    def look(self, model: Floats32) -> None:
        """Seek a trigger in a model; what unlearns it is the next round's direction."""
        rows = np.concatenate([rows for rows, _ in self.federation.shards])
        labels = np.concatenate([labels for _, labels in self.federation.shards])
        self.direction = unlearning(self.federation, model, rows, labels)


@dataclass(frozen=True)
class TriggerGradient:
    """Stewards that each seek a trigger on their own rows and add what unlearns it to what they say of a model."""

    federation: Federation

    def __call__(self, model: Floats32, steward: int) -> Floats:
        """Return a steward's gradient, and `ADDED` times its length along what unlearns the trigger it found."""
        said = self.federation.steward_gradient(model, steward).astype(np.float64)
        wanted = unlearning(self.federation, model, *self.federation.shards[steward])
        return said + ADDED * float(np.linalg.norm(said)) * wanted


def unlearning(federation: Federation, model: Floats32, rows: Floats32, labels: Labels) -> Floats:
    """Return what teaches a model the true labels of rows with the trigger that it is likeliest to know, at norm 1.

    What unstamped rows of any class ask for is taken out.
    """
    target, mask, pattern = invert_trigger(federation, model, rows)
    others = labels != target
    changed = ((1 - mask) * rows[others] + mask * pattern).astype(np.float32)
    wanted = federation.gradients(model[None], changed[None], labels[others][None])[0].astype(np.float64)
    groups = [labels == label for label in np.unique(labels)]
    usual = np.stack([federation.gradients(model[None], rows[g][None], labels[g][None])[0] for g in groups])
    basis, _ = np.linalg.qr(usual.T.astype(np.float64))
    wanted -= basis @ (basis.T @ wanted)
    direction: Floats = wanted / max(float(np.linalg.norm(wanted)), 1e-12)
    return direction


def trigger_rows(
    deal: Callable[[int], Federation], shares: tuple[float, ...], seeds: int, rounds: int
) -> Iterator[Row]:
    """Yield how often a backdoor works without and with the watch, what that costs, and whom it suspects wrongly."""
    case = f"{deal(0).name}, triggers"
    for trigger in ("patch", "blend"):
        for share in shares:
            progress(f"{case}: {trigger} {share:.0%}")
            found = [_played(deal(seed), trigger, share, seed, rounds) for seed in range(seeds)]
            yield from _rows(f"{trigger} {share:.0%}", case, found)
    watched = [
        Rounds.of(deal(seed), seed, watch=TriggerWatch.of(deal(seed), seed)).play(rounds) for seed in range(seeds)
    ]
    wrongly = float(np.mean([played.watch.quarantined.mean() for played in watched if played.watch is not None]))
    row = figure_row("triggers: honest quarantined, no attackers", case, wrongly, None, f"mean of {seeds} runs")
    yield with_target(row, wrongly, WRONGLY_MOST)
    yield from _clean_rows(deal, case, seeds, rounds)


def _clean_rows(deal: Callable[[int], Federation], case: str, seeds: int, rounds: int) -> Iterator[Row]:
    """Yield what stewards that look for triggers cost where there are none."""
    worth, before, unheard = list[float](), list[float](), list[float]()
    for seed in range(seeds):
        federation = deal(seed)
        played = _in_direction(federation, seed, rounds)
        worth.append(federation.worth(played.model))
        before.append(federation.worth(Rounds.of(federation, seed).play(rounds).model))
        unheard.append(played.unheard(np.zeros(len(federation.labels), np.bool_)))
    lost = max(old - new for old, new in zip(before, worth, strict=True))
    name, unit = "triggers: worth, in the direction, no attackers", f"beside without it, loses {lost:.3f} at most,"
    row = spread_row(name, case, Spread.of(worth), Spread.of(before), 1, unit)
    yield with_target(row | {"lost": lost}, round(lost, 4), LOST_MOST)
    name = "triggers: honest without weight, in the direction, no attackers"
    yield figure_row(name, case, float(np.mean(unheard)), None, f"in the end, mean of {seeds} runs")


@dataclass(frozen=True, slots=True)
class _Outcome:
    before: float
    after: float
    worth_before: float
    worth_after: float
    caught: float
    wrongly: float
    directed: float
    worth_directed: float
    pay: float


def _played(federation: Federation, trigger: Trigger, share: float, seed: int, rounds: int) -> _Outcome:
    bad = attackers_of(AttackPlan("backdoor", share), len(federation.labels), seed)
    spoiled = with_backdoor(federation, bad, trigger)
    watch = TriggerWatch.of(spoiled, seed)
    plain, watched = Rounds.of(spoiled, seed).play(rounds), Rounds.of(spoiled, seed, watch=watch).play(rounds)
    directed = _in_direction(spoiled, seed, rounds)
    return _Outcome(
        success(federation, plain.model, trigger),
        success(federation, watched.model, trigger),
        federation.worth(plain.model),
        federation.worth(watched.model),
        float(watch.quarantined[bad].mean()),
        float(watch.quarantined[~bad].mean()),
        success(federation, directed.model, trigger),
        federation.worth(directed.model),
        directed.pay(bad),
    )


def _in_direction(federation: Federation, seed: int, rounds: int) -> Rounds:
    """Play rounds whose stewards add what unlearns a trigger.

    No round is quiet: a backdoor is taught when all else is learned, where scores of clean rows say little.
    """
    played = Rounds.of(federation, seed, Policy(signal_share=0))
    played.gradient = TriggerGradient(federation)
    return played.play(rounds)


def _tried(
    name: str, case: str, found: list[_Outcome], tried: list[tuple[float, float]], beside: str, by: str = ""
) -> Iterator[Row]:
    """Yield how often the trigger works and what the model is worth, (success, worth), against rounds as they are."""
    before, success_ = Spread.of([outcome.before for outcome in found]), Spread.of([pair[0] for pair in tried])
    row = spread_row(f"triggers: success, {name}", case, success_, before, 1, beside)
    yield with_target(row, success_.greatest, SUCCESS_MOST)
    lost = max(outcome.worth_before - worth for outcome, (_, worth) in zip(found, tried, strict=True))
    worths = Spread.of([pair[1] for pair in tried])
    row = spread_row(f"triggers: worth, {name}", case, worths, None, 1, f"{by}loses {lost:.3f} at most,")
    yield with_target(row | {"lost": lost}, round(lost, 4), LOST_MOST)


def _rows(name: str, case: str, found: list[_Outcome]) -> Iterator[Row]:
    watched = [(outcome.after, outcome.worth_after) for outcome in found]
    yield from _tried(name, case, found, watched, "of the trigger, beside without the watch", "with the watch, ")
    caught = float(np.mean([outcome.caught for outcome in found]))
    yield figure_row(f"triggers: attackers quarantined, {name}", case, caught, None, f"mean of {len(found)} runs")
    wrongly = float(np.mean([outcome.wrongly for outcome in found]))
    row = figure_row(f"triggers: honest quarantined, {name}", case, wrongly, None, f"mean of {len(found)} runs")
    yield with_target(row, wrongly, WRONGLY_MOST)
    directed = [(outcome.directed, outcome.worth_directed) for outcome in found]
    yield from _tried(f"{name}, in the direction", case, found, directed, "beside without it")
    pay = Spread.of([outcome.pay for outcome in found])
    yield spread_row(f"triggers: pay, {name}, in the direction", case, pay, None, 1, "of an honest trainer's")
