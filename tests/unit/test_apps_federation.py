"""What a federation refuses before anything runs, each by name, and what it makes of the data it takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import collegium
from collegium.apps import federation as room
from collegium.apps._frames import arrays_of, inputs_of, table_of
from collegium.errors import CollegiumError
from collegium.learning import EmptyColumnError, MissingColumnError, NoSuchFileError
from collegium.node import ExperimentRefusedError

Frames = dict[str, Any]
NAMES = ("north", "south", "east", "west")


def frame(seed: int, rows: int = 40) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    age = draw.integers(20, 80, rows)
    return pd.DataFrame({"age": age, "ward": draw.choice(["a", "b"], rows), "ill": (age > 50).astype(int)})


def frames(**changes: Any) -> Frames:
    return {name: frame(seed) for seed, name in enumerate(NAMES)} | changes


def test_importing_the_package_loads_nothing() -> None:
    loads = "import sys, collegium; print([name for name in ('numpy', 'rich', 'torch') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
    assert collegium.Federation is room.Federation
    with pytest.raises(AttributeError, match="no attribute 'Consortium'"):
        collegium.Consortium  # noqa: B018


@pytest.mark.parametrize("level", ["unproved", "bounded", "proved"])
def test_good_data_and_options_are_taken(level: str) -> None:
    federation = collegium.Federation(frames(), label="ill", level=level, model=[3], drop="ward", folder="anywhere")
    with pytest.raises(room.NotRunError, match="has not run yet"):
        federation.history  # noqa: B018


@pytest.mark.parametrize("ask", ["history", "rows", "model", "folder", "summary"])
def test_nothing_is_there_before_a_run(ask: str) -> None:
    with pytest.raises(room.NotRunError):
        getattr(collegium.Federation(frames(), label="ill"), ask)


def test_nothing_can_be_verified_before_a_run() -> None:
    with pytest.raises(room.NotRunError):
        collegium.Federation(frames(), label="ill").verify()


def without(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.drop(columns=column)


def with_cell(column: str, cell: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        changed = table.astype({column: object})
        changed.loc[3, column] = cell
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (without("ill"), room.NoLabelError, "south: label is 'ill', expected one of its columns: age, ward"),
        (without("ward"), room.ColumnsDifferError, "south: lacks ward and adds nothing"),
        (lambda t: t.assign(more=1), room.ColumnsDifferError, "south: lacks nothing and adds more"),
        (with_cell("ill", np.nan), room.LabelError, "south: row 4 has no label in column 'ill'"),
        (with_cell("ill", None), room.LabelError, "south: row 4 has no label"),
        (with_cell("ill", 2), room.LabelValuesError, "column 'ill' holds 0, 1, 2"),
        (lambda t: t.head(11), room.TooFewRowsError, "south: 11 rows, expected 10 beside the test rows"),
        (lambda t: 3, room.UnreadableDataError, "south: a int, expected a path, a data frame"),
        (lambda t: "nowhere.csv", NoSuchFileError, "no file at nowhere.csv"),
        (lambda t: (np.zeros((3, 2)), np.zeros(4)), room.UnreadableDataError, r"south: inputs of shape \(3, 2\)"),
    ],
)
def test_one_trainers_bad_data_are_refused_by_name(
    change: Callable[[pd.DataFrame], object], error: type[CollegiumError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        collegium.Federation(frames(south=change(frame(1))), label="ill")


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (frame(1), room.UnreadableDataError, "data is a DataFrame, expected a mapping"),
        ([frame(1)], room.UnreadableDataError, "data is a list"),
        ({"north": frame(0), "south": frame(1)}, room.TooFewTrainersError, "2 trainers, expected at least 4"),
        (frames() | {" west": frame(5)}, room.TrainerNameError, "a trainer is called ' west'"),
        (frames() | {5: frame(5)}, room.TrainerNameError, "a trainer is called 5"),
    ],
)
def test_a_federation_of_too_little_is_refused(data: Any, error: type[CollegiumError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        collegium.Federation(data, label="ill")


def test_missing_features_are_taken_but_not_a_column_of_nothing_else() -> None:
    holed = {name: table.assign(age=table["age"].where(table["age"] > 30)) for name, table in frames().items()}
    collegium.Federation(holed, label="ill")
    with pytest.raises(EmptyColumnError, match="'age' has no value"):
        collegium.Federation({name: table.assign(age=np.nan) for name, table in frames().items()}, label="ill")


def test_labels_of_one_kind_alone() -> None:
    with pytest.raises(room.LabelValuesError, match="column 'ill' holds 0, expected 0 and 1"):
        collegium.Federation({name: table.assign(ill=0) for name, table in frames().items()}, label="ill")
    lopsided = {name: table.assign(ill=int(name == "north")) for name, table in frames().items()}
    collegium.Federation(lopsided, label="ill")  # one side alone at a trainer is no error


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"drop": "wards"}, MissingColumnError, "no column 'wards'"),
        ({"label": None}, room.NoLabelError, "no label is named"),
        ({"level": "prooved"}, room.LevelError, "level is 'prooved', expected one of unproved, bounded, proved"),
        ({"rounds": 0}, room.OptionError, "rounds is 0, expected a whole number from 1"),
        ({"seats": 20}, ExperimentRefusedError, "committee.seats: is 20, expected a power of two"),
        ({"learning_rate": -1}, room.OptionError, "learning_rate is -1, expected a number above 0"),
        ({"learning_rate": Fraction(1, 70000)}, ExperimentRefusedError, "rule.learning_rate"),
        ({"test_fraction": 0.75}, room.OptionError, "test_fraction is 0.75"),
        ({"model": "big"}, room.OptionError, "model is a str"),
        ({"model": [0]}, ExperimentRefusedError, "model.hidden"),
        ({"loss": "hinge"}, room.OptionError, "loss is 'hinge'"),
        ({"positive": 7}, room.LabelValuesError, "positive is 7, expected some but not all"),
        ({"positive": [0, 1]}, room.LabelValuesError, "positive is 0, 1, expected some but not all"),
        ({"epochs": 3, "clip": 1}, room.OptionError, "epochs, clip would have no effect where the exact rule trains"),
        ({"local_steps": 2, "level": "unproved", "epochs": 3}, room.OptionError, "epochs would have no effect"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: dict[str, Any], error: type[CollegiumError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        collegium.Federation(frames(), **{"label": "ill"} | options)


def test_a_table_is_the_same_however_it_arrives(tmp_path: Path) -> None:
    table = frame(1)
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    columns = {str(name): table[name].to_numpy() for name in table.columns}
    ways = [table, columns, pa.table(columns), tmp_path / "rows.csv", str(tmp_path / "rows.parquet")]
    ways.append(table.astype({"ward": "U1"}).to_records(index=False, column_dtypes={"ward": "U1"}))
    tables = [table_of("north", way) for way in ways]
    assert {(found.columns, found.cells) for found in tables} == {(tables[0].columns, tables[0].cells)}
    inputs = table[["age"]].to_numpy()
    pair = table_of("north", (inputs, table["ill"]), "ill")
    assert pair.columns == ("x0", "ill")
    assert pair.column("x0") == tables[0].column("age")


def test_a_module_takes_numbers_alone() -> None:
    numbers = frame(1)[["age", "ill"]]
    inputs, targets = arrays_of("north", numbers, "ill")
    assert inputs.shape == (40, 1)
    assert targets.tolist() == numbers["ill"].tolist()
    assert inputs_of("north", numbers, "ill").tolist() == inputs.tolist()
    for data, reason in (
        (frame(1), "north: column 'ward' holds"),
        (numbers.assign(age=np.nan), "north: column 'age' holds ''"),
        ((np.array([[np.inf]]), np.zeros(1)), "north: inputs of type float64"),
        ((np.array([["a"]]), np.zeros(1)), "north: inputs of type"),
    ):
        with pytest.raises(room.NotNumbersError, match=reason):
            arrays_of("north", data, "ill")
    with pytest.raises(room.NoLabelError, match="north: label is 'sick'"):
        arrays_of("north", numbers, "sick")
    with pytest.raises(room.UnreadableDataError, match="expected equally many rows"):
        arrays_of("north", (np.zeros((3, 1)), np.zeros(2)), None)


def test_a_frame_needs_pandas_and_says_so_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = collegium.Federation(frames(), label="ill")
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(room.PandasMissingError, match=r"pip install 'collegium\[notebook\]'"):
        federation.run()
    with pytest.raises(room.NotRunError):
        federation.rows  # noqa: B018
