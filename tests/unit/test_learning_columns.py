"""Tables from columns in memory, and what a model says of rows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collegium.learning import (
    ColumnNameError,
    EmptyTableError,
    ModelSpec,
    Rule,
    TrainingRowsError,
    UnreadableFileError,
    load_table,
    probabilities,
    table_from_columns,
)

COLUMNS = {
    "age": np.array([50.0, np.nan, 61.5]),
    "smokes": [True, False, None],
    "ward": ["a", "", "c"],
    "visits": np.array([1, 2, 3], np.int32),
}
SPEC, RULE = ModelSpec("logistic", 2), Rule(learning_rate=Fraction(1))


def test_columns_in_memory_give_the_cells_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: pa.array(values, from_pandas=True) for name, values in COLUMNS.items()}), path)
    assert table_from_columns(COLUMNS).cells == load_table(path).cells
    assert table_from_columns(COLUMNS).column("age") == ("50", "", "61.5")


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"ward": ["a", "b"]}, UnreadableFileError, "columns of [2, 3] rows"),
        ({"ward": [[1], [2], [3]]}, UnreadableFileError, "column 'ward' holds list"),
        ({"ward": [b"a", b"b", b"c"]}, UnreadableFileError, "column 'ward' holds binary"),
        ({"ward": [1, "b", object()]}, UnreadableFileError, "column 'ward'"),
        ({"ward": np.zeros((3, 2))}, UnreadableFileError, "column 'ward'"),
        ({" age ": [1, 2, 3]}, ColumnNameError, "'age' occurs twice"),
    ],
)
def test_columns_that_are_no_table(change: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason.replace("[", r"\[")):
        table_from_columns(COLUMNS | change)  # type: ignore[arg-type]


def test_columns_without_rows() -> None:
    with pytest.raises(EmptyTableError):
        table_from_columns({"age": []})


def test_probabilities_are_the_sigmoid_of_the_logit() -> None:
    parameters = np.array([RULE.one, -RULE.one, 0], np.int64)
    rows = np.array([[RULE.one, 0], [0, RULE.one], [RULE.one, RULE.one]], np.int64)
    expected = 1 / (1 + np.exp(-np.array([1.0, -1.0, 0.0])))
    assert np.allclose(probabilities(SPEC, RULE, parameters, rows)[:, 0], expected)


def test_probabilities_of_classes_add_up_to_one() -> None:
    spec, rule = ModelSpec("logistic", 2, outputs=3), Rule(loss="softmax")
    parameters = np.arange(9, dtype=np.int64) * 1000
    said = probabilities(spec, rule, parameters, np.array([[5, 7]], np.int64))
    assert said.shape == (1, 3)
    assert said.sum() == pytest.approx(1)
    assert said[0, 2] == said.max()


def test_probabilities_of_rows_of_another_width() -> None:
    with pytest.raises(TrainingRowsError, match=r"expected \(n, 2\)"):
        probabilities(SPEC, RULE, np.zeros(3, np.int64), np.zeros((1, 3), np.int64))
