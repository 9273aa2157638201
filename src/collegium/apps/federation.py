"""A whole federation from Python, in a notebook or a script: `collegium.Federation`.

The options become an experiment or, for any Torch module, bounds; what then runs is what the command line runs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from collegium.apps._frames import (
    ColumnsDifferError,
    FederationDataError,
    LabelError,
    LabelValuesError,
    NoLabelError,
    NotNumbersError,
    TooFewRowsError,
    TooFewTrainersError,
    TrainerNameError,
    UnreadableDataError,
    check_trainers,
)
from collegium.apps._live import LiveTable, watch
from collegium.apps._module_plan import ModuleModel, ModuleOptions, ModulePlan, NotVerifiableError, plan_module
from collegium.apps._modules import (
    ModuleError,
    RunningStatisticsError,
    Train,
    UnsupportedLossError,
    UnsupportedModuleError,
    architecture,
    check_module,
    is_module,
    write_rule,
)
from collegium.apps._rule_plan import (
    ModuleWidthError,
    NotRunError,
    RuleModel,
    RuleOptions,
    RulePlan,
    VerificationFailedError,
    plan_rule,
)
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Schema
from collegium.node import Event, Verification

__all__ = [
    "ColumnsDifferError",
    "Federation",
    "FederationDataError",
    "LabelError",
    "LabelValuesError",
    "LevelError",
    "ModuleError",
    "ModuleWidthError",
    "NoLabelError",
    "NotNumbersError",
    "NotRunError",
    "NotVerifiableError",
    "OptionError",
    "PandasMissingError",
    "RunningStatisticsError",
    "TooFewRowsError",
    "TooFewTrainersError",
    "TrainerNameError",
    "UnreadableDataError",
    "UnsupportedLossError",
    "UnsupportedModuleError",
    "VerificationFailedError",
]

Level = Literal["unproved", "bounded", "proved"]
LEVELS: Final = ("unproved", "bounded", "proved")

RULE_ONLY: Final = ("positive", "drop", "schema", "local_steps", "folder")
MODULE_ONLY: Final = ("train", "epochs", "clip", "norm", "bits")


class OptionError(CollegiumError):
    """An option does not go with the others, or is not of its kind."""


class LevelError(OptionError):
    """A level that there is none of."""


class PandasMissingError(CollegiumError):
    """A history as a data frame needs pandas."""


class Federation:
    """Trainers, a committee and a model, all simulated in this process with the real protocol.

    ```python
    federation = collegium.Federation({"north": north, "south": south, "east": east, "west": west}, label="disease")
    history = federation.run()
    federation.model.predict(frame)
    federation.verify()
    ```

    Args:
        data: each trainer's rows by its name: a data frame, a path to CSV, Parquet or NumPy, a mapping of columns, or a
            pair (inputs, labels).
        label: the column to learn.
        level: what is proved of an update. "proved": that it is the exact rule's on registered rows; "bounded": that it
            is within its bounds; "unproved": nothing.
        rounds: of training.
        model: None for logistic regression, widths of hidden ReLU layers, or a `torch.nn.Module`. Under "proved" a
            module is accepted if the exact rule can train it, and trained by that rule from the rule's own first
            weights; under the other levels any module trains as Torch trains it. Its weights are written back.
        loss: what a module minimises, such as `torch.nn.BCEWithLogitsLoss()`.
        positive: which of the label's values mean yes; not needed for 0 and 1, False and True, no and yes.
        drop: columns that are not used.
        schema: public ranges and vocabularies; without it they are inferred from all rows, which only a trial may do.
        learning_rate: of the rule (exact; 1, or 1/2 with hidden layers) or of Adam (0.01).
        batch_rows: rows of a step; all rows under the rule, 32 for a module.
        local_steps: of the rule, in a round.
        train: a module's own training, `train(module, (inputs, targets))`, in place of `epochs` passes of Adam.
        epochs: passes over a trainer's rows in a round.
        clip: the largest change of one weight of a module that a trainer may make in a round.
        norm: the largest Euclidean norm of such a change; infinity for no other bound than `clip`.
        bits: of one entry of such a change, with its sign.
        test_fraction: share of each trainer's rows that is kept for the test.
        minimum: how few trainers one sum may add.
        seats: of the committee: 16, 32, 64, 128 or 256.
        seed: of the split into training and test rows.
        name: of the task.
        folder: where the run is written, new or empty; None for a temporary folder that goes with this object.

    A module at "unproved" or "bounded" plays its rounds with the real committee, but without base chain and without a
    folder: `verify` then raises `NotVerifiableError`. Options that would have no effect are refused.

    Raises:
        CollegiumError: something given cannot be used; a named subclass says what and why. Nothing has run yet then.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        label: str | None = None,
        level: Level = "proved",
        rounds: int = 10,
        model: Any = None,
        loss: Any = None,
        positive: object = None,
        drop: Sequence[str] | str | None = None,
        schema: Schema | None = None,
        learning_rate: float | Fraction | None = None,
        batch_rows: int | None = None,
        local_steps: int | None = None,
        train: Train | None = None,
        epochs: int | None = None,
        clip: float | Fraction | None = None,
        norm: float | Fraction | None = None,
        bits: int | None = None,
        test_fraction: float | Fraction = Fraction(1, 4),
        minimum: int = 4,
        seats: int = 16,
        seed: int = 0,
        name: str = "federation",
        folder: Path | str | None = None,
    ) -> None:
        given = {"positive": positive, "drop": drop, "schema": schema, "local_steps": local_steps, "folder": folder}
        given |= {"train": train, "epochs": epochs, "clip": clip, "norm": norm, "bits": bits}
        module = model if is_module(model) else None
        by_rule = _is_by_rule(level, module)
        _refuse_idle(given, by_rule=by_rule)
        given |= {"model": model, "loss": loss, "learning_rate": learning_rate, "batch_rows": batch_rows}
        trainers = check_trainers(data, _whole("minimum", minimum, 2))
        common: dict[str, Any] = {
            "name": name,
            "level": level,
            "rounds": _whole("rounds", rounds, 1),
            "seed": _whole("seed", seed, 0),
            "label": label,
            "test_fraction": _share(test_fraction),
            "minimum": minimum,
            "seats": seats,
        }
        self._module, self._rows = module, list[dict[str, Any]]()
        self._plan: RulePlan | ModulePlan
        if by_rule:
            self._plan = _plan_by_rule(trainers, common, given, module)
        else:
            self._plan = _plan_by_torch(trainers, common, given, module)

    def run(self, *, progress: bool = True, as_frame: bool = True) -> Any:
        """Play all rounds from the beginning and return the history: one row a round.

        Args:
            progress: show rounds as they finish, with a bar in a terminal, and with ipywidgets in a notebook.
            as_frame: as a pandas data frame; else a list of mappings.

        Raises:
            PandasMissingError: there is no pandas; said before anything runs.
            CollegiumError: the run was refused or failed.
        """
        if as_frame:
            _check_pandas()
        with _shown(progress) as on_event:
            self._rows = self._plan.run(on_event)
        if isinstance(self._plan, RulePlan) and self._module is not None:
            model = self._plan.model()
            write_rule(self._module, model.task.spec, model.task.rule.one, model.state.parameters)
        return self.history if as_frame else self.rows

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history as one mapping a round: numbers and short texts.

        Raises:
            NotRunError: nothing has run.
        """
        if not self._rows:
            raise NotRunError("this federation has not run yet, expected run() before")
        return [
            {key: value for key, value in row.items() if key != "model" and not isinstance(value, list)}
            for row in self._rows
        ]

    @property
    def history(self) -> Any:
        """The history as a pandas data frame.

        Raises:
            NotRunError: nothing has run.
            PandasMissingError: there is no pandas.
        """
        rows = self.rows
        _check_pandas()
        import pandas as pd

        return pd.DataFrame(rows)

    @property
    def model(self) -> RuleModel | ModuleModel:
        """The model after the last round; its `predict` takes what a trainer's data may be.

        Raises:
            NotRunError: nothing has run.
        """
        if not self._rows:
            raise NotRunError("this federation has not run yet, expected run() before")
        return self._plan.model()

    @property
    def folder(self) -> Path:
        """The folder of the last run, which `collegium verify` checks.

        Raises:
            NotRunError: nothing has run.
            NotVerifiableError: a module that no rule trains leaves no folder.
        """
        if isinstance(self._plan, ModulePlan):
            raise NotVerifiableError("a federation of any module leaves no folder of a run")
        return self._plan.done.folder

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the last run says about itself, as `collegium run --json` prints it.

        Raises:
            NotRunError, NotVerifiableError: as for `folder`.
        """
        if isinstance(self._plan, ModulePlan):
            raise NotVerifiableError("a federation of any module leaves no summary of a run")
        return self._plan.done.summary

    def verify(self, *, progress: bool = False) -> Verification:
        """Check the last run from its files alone, and return what was checked and what nobody can check.

        Raises:
            VerificationFailedError: naming the first thing that does not hold.
            NotVerifiableError: a federation of a module that no rule trains.
            NotRunError: nothing has run.
        """
        with _shown(progress) as on_event:
            return self._plan.verify(on_event)


# ------------------------------------------------------------------------------------------------ options


def _is_by_rule(level: object, module: object) -> bool:
    """Return whether the exact rule trains: always but for a module at a level that needs no rule."""
    if level not in LEVELS:
        raise LevelError(f"level is {level!r}, expected one of {', '.join(LEVELS)}", level=level)
    return module is None or level == "proved"


def _refuse_idle(said: Mapping[str, object], *, by_rule: bool) -> None:
    """Refuse options that would have no effect: none is ignored in silence."""
    idle = [name for name in (MODULE_ONLY if by_rule else RULE_ONLY) if said[name] is not None]
    if idle:
        trainer = "the exact rule trains" if by_rule else "a module is trained by Torch"
        raise OptionError(
            f"{', '.join(idle)} would have no effect where {trainer}, expected not to be given", idle=idle
        )


def _plan_by_rule(
    trainers: Mapping[str, Any], common: Mapping[str, Any], given: Mapping[str, Any], module: Any
) -> RulePlan:
    spec, hidden, loss = _rule_shape(given["model"], module, given["loss"])
    rate, local_steps, folder = given["learning_rate"], given["local_steps"], given["folder"]
    options = RuleOptions(
        **common,
        positive=given["positive"],
        drop=(given["drop"],) if isinstance(given["drop"], str) else tuple(given["drop"] or ()),
        schema=given["schema"],
        hidden=hidden,
        loss=loss,
        learning_rate=_exact("learning_rate", (Fraction(1, 2) if hidden else Fraction(1)) if rate is None else rate),
        local_steps=1 if local_steps is None else local_steps,
        batch_rows=given["batch_rows"],
        folder=None if folder is None else Path(folder),
    )
    return plan_rule(trainers, options, spec)


def _plan_by_torch(
    trainers: Mapping[str, Any], common: Mapping[str, Any], given: Mapping[str, Any], module: Any
) -> ModulePlan:
    check_module(module)
    defaults: dict[str, Any] = {"learning_rate": Fraction(1, 100), "epochs": 1, "batch_rows": 32}
    defaults |= {"clip": Fraction(1, 4), "norm": Fraction(4), "bits": 16}
    said = {name: default if given[name] is None else given[name] for name, default in defaults.items()}
    options = ModuleOptions(
        **common,
        loss=_callable_loss(given["loss"]),
        train=given["train"],
        learning_rate=float(_exact("learning_rate", said["learning_rate"])),
        epochs=_whole("epochs", said["epochs"], 1),
        batch_rows=_whole("batch_rows", said["batch_rows"], 1),
        clip=_exact("clip", said["clip"]),
        norm=None if said["norm"] == float("inf") else _exact("norm", said["norm"]),
        bits=_whole("bits", said["bits"], 1),
    )
    return plan_module(trainers, options, module)


def _rule_shape(model: Any, module: Any, loss: Any) -> tuple[ModelSpec | None, tuple[int, ...], str]:
    """Return a module's shape, the hidden widths and the loss of the rule."""
    if module is not None:
        spec, rule_loss = architecture(module, loss)
        return spec, spec.hidden, rule_loss
    if loss not in (None, "sigmoid", "squared"):
        raise OptionError(f"loss is {loss!r}, expected 'sigmoid' or 'squared' where the exact rule trains", loss=loss)
    widths = (model,) if isinstance(model, int) else model
    if widths is None:
        return None, (), loss or "sigmoid"
    if not isinstance(widths, list | tuple) or not all(isinstance(width, int) for width in widths):
        raise OptionError(
            f"model is a {type(model).__name__}, expected None, widths of hidden layers, or a torch.nn.Module"
        )
    return None, tuple(widths), loss or "sigmoid"


def _callable_loss(loss: object) -> Callable[[Any, Any], Any]:
    if not callable(loss):
        raise OptionError(
            f"loss is {loss!r}, expected what the module minimises, such as torch.nn.CrossEntropyLoss()", loss=loss
        )
    return loss


def _whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} is {value!r}, expected a whole number from {least}", name=name, value=value)
    return value


def _exact(name: str, value: object) -> Fraction:
    """Return the number that a person wrote: 0.1 is one tenth."""
    try:
        number = value if isinstance(value, Fraction) else Fraction(str(value))
    except ValueError:
        number = Fraction(0)
    if number <= 0:
        raise OptionError(f"{name} is {value!r}, expected a number above 0", name=name, value=value)
    return number


def _share(value: object) -> Fraction:
    share = _exact("test_fraction", value)
    if share > Fraction(1, 2):
        raise OptionError(f"test_fraction is {value!r}, expected above 0 and at most 0.5", value=value)
    return share


# ------------------------------------------------------------------------------------------------ around a run


def _check_pandas() -> None:
    if importlib.util.find_spec("pandas") is None:
        raise PandasMissingError(
            "a history is a pandas data frame, and pandas is not installed: pip install 'collegium[notebook]', or "
            "run(as_frame=False)"
        )


@contextmanager
def _shown(progress: bool) -> Iterator[Callable[[Event], None]]:
    """Yield what shows events: a live table in a terminal or notebook that can, else lines; nothing unless asked."""
    if not progress:
        yield lambda event: None
        return
    console = Console()
    widgets = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    with LiveTable(console) if widgets else watch(sys.stdout) as watcher:
        yield watcher
