"""Whole runs of an experiment with stewards as their rounds fold, without masks, votes and proofs: seed after seed.

Data, attackers' rows, scaling, updates, scores, weights, sums and steps are the integers that `collegium run` has; the
seeds that a score's noise is drawn from are simulation's. No round is skipped or lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from collegium import learning
from collegium.algebra import P
from collegium.errors import CollegiumError
from collegium.incentives import (
    FoldRule,
    OrderedRecord,
    QualityState,
    ReportScore,
    RoundPlaces,
    StewardRecord,
    direction_norm_max,
    first_quality_state,
    fold_round,
    normalise_direction,
    report_scale,
    round_places,
)
from collegium.learning import ModelSpec, Rule, TrainerRows
from collegium.node import Experiment, QualitySettings, read_data, spoil_trainers
from collegium.proofs import SEEDS, ScoreDemand

__all__ = ["NoStewardsError", "PlayedCohort", "TrainerOutcome", "cohort_lines", "cohort_report", "play_cohort"]

Integers = NDArray[np.int64]


class NoStewardsError(CollegiumError):
    """The experiment has no stewards, so that its rounds fold nothing."""


@dataclass(frozen=True, slots=True)
class TrainerOutcome:
    """What a run came to for one trainer.

    Attributes:
        attack: its kind, None of an honest one.
        points: earned, 2^-16.
        share: of the influence that a trainer with the greatest weight in every scored round has.
        last_weight: in the round after the last.
        locks: how often it was locked out.
    """

    name: str
    attack: str | None
    points: int
    share: float
    last_weight: int
    locks: int


@dataclass(frozen=True, slots=True)
class PlayedCohort:
    """One seed's run: what it came to for everybody, and the model's AUC on the test rows."""

    seed: int
    trainers: tuple[TrainerOutcome, ...]
    auc: float

    @property
    def honest(self) -> tuple[TrainerOutcome, ...]:
        """Those that do not attack."""
        return tuple(entry for entry in self.trainers if entry.attack is None)

    def pay(self, entry: TrainerOutcome) -> float:
        """Return a trainer's points over those of the median honest one."""
        return entry.points / max(median(other.points for other in self.honest), 1)


def play_cohort(experiment: Experiment, seed: int) -> PlayedCohort:
    """Play every round of an experiment under another seed.

    Raises:
        NoStewardsError: it has none.
        CollegiumError: its data are refused.
    """
    experiment = replace(experiment, task=replace(experiment.task, seed=seed))
    settings = experiment.stewards
    if settings is None:
        raise NoStewardsError("the experiment has no section [stewards]: nothing is scored")
    schema, split = read_data(experiment, lambda _: None)
    trainers = spoil_trainers(experiment, schema, split.trainers)
    scaling_total = sum((learning.statistics(schema, held.rows) for held in trainers), np.zeros(1, np.int64))
    scaling = learning.scaling_from_total(schema, scaling_total)
    rule = _rule(experiment)
    spec = ModelSpec(experiment.model.kind, len(schema.feature_names), experiment.model.hidden)
    prepared = [(learning.features(schema, scaling, held.rows, rule), held.rows.labels) for held in trainers]
    hidden = [(learning.features(schema, scaling, rows, rule), rows.labels) for rows in split.hidden]
    game = _Game(experiment, settings, spec, rule, prepared, hidden, np.random.default_rng((seed, 11)))
    state, share, parameters = game.play()
    test = learning.features(schema, scaling, split.test, rule)
    return PlayedCohort(
        seed,
        tuple(_outcomes(experiment, settings.policy.weight_max, trainers, state, share)),
        learning.evaluate(spec, rule, parameters, test, split.test.labels).auc,
    )


def _rule(experiment: Experiment) -> Rule:
    settings = experiment.rule
    return Rule(
        learning_rate=settings.learning_rate,
        local_steps=settings.local_steps,
        batch_rows=settings.batch_rows,
        loss=settings.loss,
        activation_limit=settings.activation_limit,
        error_limit=settings.error_limit,
    )


@dataclass
class _Game:
    """An experiment's rounds, one after another."""

    experiment: Experiment
    settings: QualitySettings
    spec: ModelSpec
    rule: Rule
    trainers: Sequence[tuple[Integers, Integers]]
    shards: Sequence[tuple[Integers, Integers]]
    generator: np.random.Generator

    def play(self) -> tuple[QualityState, Integers, Integers]:
        """Return the last state of quality, each trainer's weight summed over scored rounds, and the last model."""
        settings = self.settings
        count = len(self.trainers)
        accounts = [bytes(16) + index.to_bytes(4, "big") for index in range(count)]
        stewards = [b"\1" * 16 + index.to_bytes(4, "big") for index in range(settings.count)]
        rows_max = 1 << (max(len(labels) for _, labels in self.trainers) - 1).bit_length()
        parameters = learning.initial_parameters(self.spec, self.rule, self.generator.bytes(32))
        norm = direction_norm_max(len(parameters), learning.update_bound(self.spec, self.rule, rows_max), P)
        minimum = self.experiment.trainers.minimum
        fold = FoldRule(settings.policy, settings.noise, minimum, rows_max, direction_norm=norm)
        state = first_quality_state(settings.policy, accounts, stewards, len(parameters))
        weight_sum = np.zeros(count, np.int64)
        for number in range(1, self.experiment.task.rounds + 1):
            found = self._places(state, number)
            updates = np.zeros((count, len(parameters) + 1), np.int64)
            for place in np.flatnonzero((found.hits > 0) | (found.appeals > 0)).tolist():
                updates[place] = self._update(parameters, *self.trainers[place])
            weight_sum += found.weights if state.has_direction else 0
            sent = np.flatnonzero(updates[:, -1]).tolist()
            reports = [self._score(state, accounts[place], updates[place]) for place in sent]
            records = self._records(stewards, number, parameters)
            total = found.weights @ updates
            state = fold_round(fold, state, number, total[:-1], int(total[-1]), reports, records, found.hits)
            parameters = learning.apply_total(self.spec, self.rule, parameters, total)
        return state, weight_sum, parameters

    def _places(self, state: QualityState, number: int) -> RoundPlaces:
        """Return who may report in a round: those whom a beacon draws, where the experiment wants that."""
        settings = self.experiment.trainers
        beacon = self.generator.bytes(32) if settings.places else bytes(32)
        return round_places(self.settings.policy, state, number, beacon, settings.places, settings.minimum)

    def _update(self, parameters: Integers, features: Integers, labels: Integers) -> Integers:
        return learning.local_update(self.spec, self.rule, parameters, features, labels, self.generator.bytes(32))

    def _score(self, state: QualityState, account: bytes, update: Integers) -> ReportScore:
        rows = int(update[-1])
        if not state.has_direction:
            return ReportScore(account, None, rows)
        scale = report_scale(state, rows, self.settings.noise)
        demand = ScoreDemand(state.direction, scale.shift, scale.sigma, int(self.generator.integers(SEEDS)))
        return ReportScore(account, demand.score(update, int(self.generator.integers(SEEDS))).value, rows)

    def _records(self, stewards: Sequence[bytes], number: int, parameters: Integers) -> list[OrderedRecord]:
        whole = replace(self.rule, batch_rows=None)
        found = []
        first = self.settings.shard(number) * len(stewards)
        for account, (features, labels) in zip(stewards, self.shards[first : first + len(stewards)], strict=True):
            gradient = learning.local_update(self.spec, whole, parameters, features, labels, b"")[:-1]
            record = StewardRecord(account, number, normalise_direction(gradient), bytes(32), None)
            found.append(OrderedRecord(record, bytes(32)))
        return found


def _outcomes(
    experiment: Experiment, weight_max: int, trainers: Sequence[TrainerRows], state: QualityState, weight_sum: Integers
) -> Iterator[TrainerOutcome]:
    kinds = {entry.trainer: entry.kind for entry in experiment.attack.trainers} if experiment.attack else {}
    whole = weight_max * max(experiment.task.rounds - 1, 1)
    for place, held in enumerate(trainers):
        yield TrainerOutcome(
            held.name,
            kinds.get(held.name),
            int(state.standing.points[place]),
            int(weight_sum[place]) / whole,
            int(state.weights[place]),
            int(state.standing.locks[place]),
        )


def cohort_lines(experiment: Experiment, seeds: int, *, honest: bool) -> Iterator[str]:
    """Play an experiment under the seeds from 0 on, without its attackers if `honest`, and yield the report's lines.

    Raises:
        NoStewardsError, CollegiumError: as `play_cohort`.
    """
    experiment = replace(experiment, attack=None) if honest else experiment
    return cohort_report(play_cohort(experiment, seed) for seed in range(seeds))


def cohort_report(played: Iterable[PlayedCohort]) -> Iterator[str]:
    """Yield what runs came to, in lines: honest trainers' exclusions, influence and pay, then each attack's."""
    runs = list(played)
    honest = [(run, entry) for run in runs for entry in run.honest]
    locked = sum(entry.locks > 0 for _, entry in honest)
    silent = sum(entry.last_weight == 0 for _, entry in honest)
    yield f"{len(runs)} runs, {len(honest)} honest trainers in all; median AUC {median(run.auc for run in runs):.3f}"
    yield f"honest, locked out ever: {locked} ({locked / len(honest):.2%})"
    yield f"honest, without influence at the end: {silent} ({silent / len(honest):.2%})"
    yield "honest pay, of the median honest one's: " + _spread([run.pay(entry) for run, entry in honest])
    yield "the odd one out, worst-paid honest of each run: " + _spread([min(map(run.pay, run.honest)) for run in runs])
    for site in sorted({entry.name.rsplit("/", 1)[0] for _, entry in honest}):
        of_site = [(run, entry) for run, entry in honest if entry.name.rsplit("/", 1)[0] == site]
        yield f"honest of {site}: pay {_spread([run.pay(entry) for run, entry in of_site])}; influence " + _spread(
            [entry.share for _, entry in of_site]
        )
    for kind in sorted({entry.attack for run in runs for entry in run.trainers if entry.attack}):
        bad = [(run, entry) for run in runs for entry in run.trainers if entry.attack == kind]
        yield f"{kind}: pay {_spread([run.pay(entry) for run, entry in bad])}; influence " + _spread(
            [entry.share for _, entry in bad]
        )
        yield (
            f"{kind}: paid under a tenth in {sum(run.pay(entry) < 0.1 for run, entry in bad)} of {len(bad)}, without "
            f"influence at the end in {sum(entry.last_weight == 0 for _, entry in bad)}, locked out in "
            f"{sum(entry.locks > 0 for _, entry in bad)}"
        )


def _spread(values: Sequence[float]) -> str:
    low, high = np.quantile(values, [0.1, 0.9])
    return f"{median(values):.2f} ({low:.2f}-{high:.2f}; least {min(values):.2f}, most {max(values):.2f})"
