"""A federation that trains any Torch module: local training, rounding to public bounds, and rounds of the committee."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from collegium.aggregation import seat_width
from collegium.apps._frames import TooFewRowsError, UnreadableDataError, arrays_of, inputs_of
from collegium.apps._modules import LocalTraining, Scores, Train, probabilities, scores, weights_of, write_weights
from collegium.errors import CollegiumError
from collegium.node import (
    Event,
    Quantiser,
    VectorRound,
    VectorSettings,
    VectorTask,
    Verification,
    first_vector_state,
    play_vectors,
)

__all__ = ["ModuleModel", "ModuleOptions", "ModulePlan", "NotVerifiableError", "plan_module"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]


class NotVerifiableError(CollegiumError):
    """A federation of a module that no rule trains leaves no folder that anybody could verify."""


@dataclass(frozen=True, slots=True, eq=False)
class ModuleOptions:
    """What a user said, with its defaults filled in."""

    name: str
    level: Literal["unproved", "bounded"]
    rounds: int
    seed: int
    label: str | None
    loss: Callable[[Any, Any], Any]
    train: Train | None
    learning_rate: float
    epochs: int
    batch_rows: int
    clip: Fraction
    norm: Fraction | None
    bits: int
    test_fraction: Fraction
    minimum: int
    seats: int


@dataclass(frozen=True, slots=True, eq=False)
class ModuleModel:
    """A trained module, ready to be asked."""

    module: Any
    loss: object
    label: str | None

    def predict(self, data: object) -> FloatArray:
        """Return for each row the probability of yes, of each class, or the module's outputs, as the loss has it.

        Args:
            data: an array of inputs, or a table; its label's column, where it has one, is not looked at.

        Raises:
            FederationDataError: the data are none that a module can take.
        """
        return probabilities(self.module, self.loss, inputs_of("data", data, self.label))


@dataclass
class ModulePlan:
    """A module with its trainers' rows, ready to be played; the user's module holds the last weights afterwards."""

    module: Any
    template: Any
    options: ModuleOptions
    quantiser: Quantiser
    parts: Mapping[str, tuple[Array, Array]]
    test: tuple[Array, Array]
    cut: list[tuple[float, bool]] = field(default_factory=list)

    def run(self, on_event: Callable[[Event], None]) -> list[dict[str, Any]]:
        """Play all rounds, write the weights into the user's module, and return one mapping a round."""
        options = self.options
        settings = VectorSettings(
            name=options.name,
            rounds=options.rounds,
            level=options.level,
            quantiser=self.quantiser,
            seats=options.seats,
            minimum=options.minimum,
        )
        self.cut.clear()
        learners = {name: self._learner(inputs, targets) for name, (inputs, targets) in self.parts.items()}
        rounds, weights = play_vectors(settings, weights_of(self.template), learners, self._scores, on_event)
        write_weights(self.module, weights)
        return [self._row(number, played) for number, played in enumerate(rounds)]

    def model(self) -> ModuleModel:
        """Return the user's module as something that predicts."""
        return ModuleModel(self.module, self.options.loss, self.options.label)

    def verify(self, on_event: Callable[[Event], None]) -> Verification:
        """Refuse.

        Raises:
            NotVerifiableError: always.
        """
        raise NotVerifiableError(
            "a federation of any module has no chain record and no folder of a run: its committee checked every round "
            "while it ran, and nobody can check it again"
        )

    def _learner(self, inputs: Array, targets: Array) -> LocalTraining:
        options = self.options
        return LocalTraining(
            module=self.template,
            inputs=inputs,
            targets=targets,
            loss=options.loss,
            train=options.train,
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            batch_rows=options.batch_rows,
            noted=self._note,
        )

    def _note(self, change: FloatArray) -> None:
        done = self.quantiser.quantise(change)
        self.cut.append((done.clipped / len(change), done.shrunk))

    def _scores(self, weights: FloatArray) -> Scores:
        module = copy.deepcopy(self.template)
        write_weights(module, weights)
        return scores(module, self.options.loss, *self.test)

    def _row(self, number: int, done: VectorRound) -> dict[str, Any]:
        count = len(self.parts)
        cut = self.cut[number * count : (number + 1) * count]
        return {
            "round": done.round,
            "outcome": done.facts.outcome,
            "admitted": done.facts.admitted,
            "auc": done.scores.auc,
            "accuracy": done.scores.accuracy,
            "loss": done.scores.loss,
            "coordination_ms": done.coordination_ms,
            "finality_ms": done.finality_ms,
            "prove_ms": done.prove_ms,
            "verify_ms": done.verify_ms,
            "proof_bytes": done.facts.proof_bytes,
            "energy_kwh": done.energy_kwh,
            "view_changes": done.facts.view_changes,
            "clipped": max(share for share, _ in cut),
            "shrunk": sum(shrunk for _, shrunk in cut),
        }


def plan_module(trainers: Mapping[str, Any], options: ModuleOptions, module: Any) -> ModulePlan:
    """Return the plan of a federation of a module, with everything checked that can be before it runs.

    Raises:
        FederationDataError: the data are refused, each with its reason.
        VectorTaskError, VectorStateError: clip, bits or norm are out of bounds, or a weight is not finite.
        BudgetError: a wrong number of seats, or bounds that do not fit the masking ring for so many trainers.
    """
    quantiser = Quantiser(options.clip, options.bits, options.norm)
    parts, tests = {}, []
    shapes = {}
    for index, (name, data) in enumerate(trainers.items()):
        inputs, targets = arrays_of(name, data, options.label)
        count = round(len(inputs) * options.test_fraction)
        if len(inputs) - count < 1 or count < 1:
            raise TooFewRowsError(
                f"{name}: {len(inputs)} rows, expected some to train on and {float(options.test_fraction):.0%} to test "
                "on",
                trainer=name,
            )
        order = np.random.default_rng((options.seed, index)).permutation(len(inputs))
        parts[name] = (inputs[order[count:]], targets[order[count:]])
        tests.append((inputs[order[:count]], targets[order[:count]]))
        shapes[name] = (inputs.shape[1:], targets.shape[1:])
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise UnreadableDataError(
                f"{name}: a row's inputs and targets have shapes {shape}, expected {shapes[first]} as {first} has"
            )
    _check_settings(module, options, quantiser, len(parts))
    test = (np.concatenate([inputs for inputs, _ in tests]), np.concatenate([targets for _, targets in tests]))
    return ModulePlan(module, copy.deepcopy(module), options, quantiser, parts, test)


def _check_settings(module: Any, options: ModuleOptions, quantiser: Quantiser, trainers: int) -> None:
    """Refuse now what the first round would refuse: seats, weights, bounds that do not fit the masking ring."""
    seat_width(options.seats)
    weights = weights_of(module)
    VectorTask(
        task=bytes(32),
        level=options.level,
        entries=len(weights),
        quantiser=quantiser,
        trainers=trainers,
        initial=first_vector_state(weights, quantiser, trainers),
        cohort_min=options.minimum,
        lying_max=0,
    )
