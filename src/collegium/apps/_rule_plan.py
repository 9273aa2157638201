"""A federation under the exact rule: the table and the options become an experiment, and that is run and verified."""

from __future__ import annotations

import csv
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.apps._frames import PAIR_LABEL, TooFewRowsError, label_sides, pooled_table, table_of
from collegium.apps._page import render_page
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Schema, Table
from collegium.node import (
    ChainSettings,
    CohortSettings,
    CommitteeSettings,
    DataSettings,
    Event,
    Experiment,
    LearningTask,
    ModelSettings,
    ModelState,
    RuleSettings,
    TaskSettings,
    Verification,
    experiment_from_bytes,
    experiment_to_bytes,
    final_model,
    run_experiment,
    verify_run,
)

__all__ = [
    "ModuleWidthError",
    "NotRunError",
    "RuleModel",
    "RuleOptions",
    "RulePlan",
    "VerificationFailedError",
    "plan_rule",
]

ROWS_FILE: Final = "rows.csv"
ROWS_MIN: Final = 10  # of a trainer, beside its test rows
CHECKPOINT_EVERY: Final = 10
WATTS: Final = Fraction(15)
LINK_MS: Final = 50
VERIFIERS: Final = 4


class ModuleWidthError(CollegiumError):
    """A module takes another number of inputs than the data have features."""


class NotRunError(CollegiumError):
    """A federation is asked for what only a run gives."""


class VerificationFailedError(CollegiumError):
    """A run's folder does not hold what it should: somebody changed it, or something in it was never true."""


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What a user said, with its defaults filled in."""

    name: str
    level: str
    rounds: int
    seed: int
    label: str | None
    positive: object
    drop: tuple[str, ...]
    schema: Schema | None
    hidden: tuple[int, ...]
    loss: str
    learning_rate: Fraction
    local_steps: int
    batch_rows: int | None
    test_fraction: Fraction
    minimum: int
    seats: int
    folder: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class RuleModel:
    """A trained model of the exact rule, ready to be asked."""

    task: LearningTask
    state: ModelState

    @property
    def features(self) -> tuple[str, ...]:
        """The names of what the first layer takes: a column, or `column=value`."""
        return self.task.schema.feature_names

    def inputs(self, data: object) -> npt.NDArray[np.float32]:
        """Return rows as the numbers that the first layer takes, shape (rows, features)."""
        table = table_of("data", data)
        scaling = self.task.scaling(self.state)
        integers = learning.features(self.task.schema, scaling, table, self.task.rule)
        return (integers / self.task.rule.one).astype(np.float32)

    def predict(self, data: object) -> npt.NDArray[np.float64]:
        """Return for each row the probability of yes; under squared loss the prediction itself.

        Args:
            data: whatever a trainer's data may be; a label among the columns is not looked at.

        Raises:
            CollegiumError: a column of the schema is missing, or a cell is not what its column holds.
        """
        task, table = self.task, table_of("data", data)
        features = learning.features(task.schema, task.scaling(self.state), table, task.rule)
        return learning.probabilities(task.spec, task.rule, self.state.parameters, features)[:, 0]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class _Finished:
    """A run that ended well."""

    folder: Path
    summary: Mapping[str, Any]


@dataclass
class RulePlan:
    """An experiment that is ready to run, and its last run."""

    experiment: Experiment
    table: Table
    folder: Path | None
    finished: _Finished | None = None

    @property
    def done(self) -> _Finished:
        """The last run.

        Raises:
            NotRunError: there is none.
        """
        if self.finished is None:
            raise NotRunError("this federation has not run yet, expected run() before")
        return self.finished

    def run(self, on_event: Callable[[Event], None]) -> list[dict[str, Any]]:
        """Run the experiment and return one mapping a round.

        The trainers' rows lie in a private temporary folder while it runs, for every role is played from here.
        """
        out = self.folder or Path(tempfile.mkdtemp(prefix="collegium-run-"))
        try:
            with tempfile.TemporaryDirectory(prefix="collegium-rows-") as folder:
                _write(Path(folder) / ROWS_FILE, self.table)
                summary = run_experiment(replace(self.experiment, folder=Path(folder)), out, on_event, render_page)
            self.finished = _Finished(out, summary)
        finally:
            if self.folder is None and (self.finished is None or self.finished.folder != out):
                shutil.rmtree(out, ignore_errors=True)
        if self.folder is None:
            weakref.finalize(self.finished, shutil.rmtree, out, ignore_errors=True)
        return [row for row in self.finished.summary["rounds"] if row["round"]]

    def model(self) -> RuleModel:
        """Return the model after the last round."""
        return RuleModel(*final_model(self.done.folder, self.done.summary["rounds"][-1]["model"]))

    def verify(self, on_event: Callable[[Event], None]) -> Verification:
        """Check the run's folder as `collegium verify` does, against the anchor that the run gave.

        Raises:
            VerificationFailedError: naming the first thing that does not hold.
        """
        verification = verify_run(self.done.folder, self.done.summary["anchor"], on_event, render_page)
        if not verification.ok:
            raise VerificationFailedError(f"{self.done.folder}: {verification.failure}", verification=verification)
        return verification


def plan_rule(trainers: Mapping[str, Any], options: RuleOptions, spec: ModelSpec | None) -> RulePlan:
    """Return the plan of a federation under the exact rule, with everything checked that can be before it runs.

    Args:
        trainers: data by name.
        options: what the user said.
        spec: of a module that is to be trained, whose inputs must be as many as the features.

    Raises:
        FederationDataError, DataError: the data are refused, each with its reason.
        ExperimentRefusedError: an option is out of range; every such option is listed.
        ModuleWidthError: module and features do not fit.
    """
    pairs = all(isinstance(data, tuple) for data in trainers.values())
    wanted = PAIR_LABEL if options.label is None and pairs else options.label
    tables = {name: table_of(name, data, wanted) for name, data in trainers.items()}
    table, site, label = pooled_table(tables, wanted)
    positive, negative = label_sides(table, label, options.positive)
    experiment = _experiment(options, site, label, positive, negative)
    experiment = experiment_from_bytes(experiment_to_bytes(experiment))  # every option in its range
    split = learning.split_sites(
        table,
        site=site,
        label=label,
        positive=positive,
        negative=negative,
        drop=options.drop,
        test_fraction=options.test_fraction,
        seed=options.seed,
        rows_min=ROWS_MIN,
    )
    lost = [name for name in trainers if name not in {trainer.site for trainer in split.trainers}]
    if lost:
        raise TooFewRowsError(
            f"{lost[0]}: {tables[lost[0]].row_count} rows, expected {ROWS_MIN} beside the test rows", trainer=lost[0]
        )
    schema = options.schema or learning.infer_schema(table, skip=(site, label, *options.drop))
    if spec is not None and spec.inputs != len(schema.feature_names):
        raise ModuleWidthError(
            f"the module takes {spec.inputs} inputs, expected {len(schema.feature_names)}, the features: "
            f"{', '.join(schema.feature_names)}",
            inputs=spec.inputs,
            features=schema.feature_names,
        )
    return RulePlan(experiment, table, options.folder)


def _experiment(
    options: RuleOptions, site: str, label: str, positive: tuple[str, ...], negative: tuple[str, ...]
) -> Experiment:
    return Experiment(
        task=TaskSettings(options.name, options.rounds, options.seed, options.level),  # type: ignore[arg-type]
        data=DataSettings(
            path=ROWS_FILE,
            site=site,
            label=label,
            negative=negative,
            positive=positive,
            drop=options.drop,
            test_fraction=options.test_fraction,
            missing=(),
            rows_min=ROWS_MIN,
        ),
        schema=options.schema,
        model=ModelSettings("mlp" if options.hidden else "logistic", options.hidden),
        rule=RuleSettings(
            learning_rate=options.learning_rate,
            local_steps=options.local_steps,
            batch_rows=options.batch_rows,
            loss=options.loss,  # type: ignore[arg-type]
        ),
        trainers=CohortSettings(per_site=1, minimum=options.minimum),
        committee=CommitteeSettings(
            seats=options.seats, absent=0, lying=0, verifiers=VERIFIERS, link_ms=LINK_MS, watts=WATTS
        ),
        chain=ChainSettings(None, CHECKPOINT_EVERY),
    )


def _write(path: Path, table: Table) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(table.columns)
        lines.writerows(zip(*table.cells, strict=True))
