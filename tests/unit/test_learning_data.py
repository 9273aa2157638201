"""Tables, schemas and splits: what is read, and the one clear error for each thing that is not."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collegium.learning import (
    CategoryColumn,
    ColumnNameError,
    EmptyColumnError,
    EmptySiteError,
    EmptyTableError,
    MissingColumnError,
    NoSuchFileError,
    NotANumberError,
    NotFiniteError,
    NumericColumn,
    OneClassError,
    Rule,
    Schema,
    SchemaError,
    SplitError,
    StatisticsError,
    Table,
    TableTooLargeError,
    TooManyCategoriesError,
    UnknownCategoryError,
    UnknownLabelError,
    UnreadableFileError,
    _table,
    features,
    infer_schema,
    labelled_rows,
    load_table,
    scaling_from_total,
    schema_from_bytes,
    schema_from_mapping,
    schema_to_bytes,
    schema_to_mapping,
    split_sites,
    statistics,
    statistics_bound,
)

CONTENT = "age,smoker,weight\n50,TRUE,71.5\n61,FALSE,\n"
AGE, SMOKER = NumericColumn("age", 20, 90, ("0",)), CategoryColumn("smoker", ("no", "yes"), ("?",))


@pytest.fixture
def write(tmp_path: Path):
    def writer(name: str, data: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return writer


def column(name: str, *cells: str) -> Table:
    return Table((name,), (cells,))


# Files


def test_the_same_table_comes_out_of_every_format(write, tmp_path: Path) -> None:
    age, smoker, weight = [50, 61], [True, False], [71.5, float("nan")]
    pq.write_table(pa.table({"age": age, "smoker": smoker, "weight": [71.5, None]}), tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", age=age, smoker=smoker, weight=weight)
    rows = np.array([(50, True, 71.5), (61, False, np.nan)], [("age", "i4"), ("smoker", "?"), ("weight", "f8")])
    np.save(tmp_path / "a.npy", rows)
    paths = [write("a.csv", CONTENT), *(tmp_path / f"a.{suffix}" for suffix in ("parquet", "npz", "npy"))]
    tables = [load_table(path) for path in paths]
    for table in tables:
        assert table.columns == ("age", "smoker", "weight")
        assert table.cells == (("50", "61"), ("TRUE", "FALSE"), ("71.5", ""))


def test_a_csv_may_carry_a_byte_order_mark_quotes_and_blank_lines(write) -> None:
    table = load_table(write("a.csv", '\ufeffa, b \r\n" x,y ",1\r\n\r\n'))
    assert table.columns == ("a", "b")
    assert table.cells == (("x,y",), ("1",))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFileError, match=r"nothing\.csv"):
        load_table(tmp_path / "nothing.csv")


@pytest.mark.parametrize("data", ["", "a,b\n", "a,b\n\n\n"])
def test_a_file_without_rows(write, data: str) -> None:
    assert load_table(write("a.csv", "a,b\n1,2")).row_count == 1
    with pytest.raises(EmptyTableError):
        load_table(write("a.csv", data))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "a,b\n1\n"),
        ("a.csv", "a,b\n1,2,3\n"),
        ("a.csv", b"a,b\n1,\xff\n"),
        ("a.csv", b"a,b\n1,\x00\n"),
        ("a.csv", 'a,b\n1,"2\n'),
        ("a.csv", "a;b\n1;2\n"),
        ("a.parquet", CONTENT),
        ("a.npz", CONTENT),
        ("a.npz", b"PK\x05\x06" + bytes(18)),
        ("a.npy", CONTENT),
        ("a.xlsx", CONTENT),
    ],
)
def test_a_file_that_is_no_table(write, name: str, data: str | bytes) -> None:
    with pytest.raises(UnreadableFileError) as refusal:
        load_table(write(name, data))
    assert "\n" not in str(refusal.value)
    assert name in str(refusal.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        load_table(tmp_path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([object()], dtype=object))
    with pytest.raises(UnreadableFileError):
        load_table(tmp_path / "a.npz")


def test_names_beyond_latin_are_read_from_arrays(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save(tmp_path / "a.npy", np.array([(1.0, "x")], dtype=[("возраст", "f8"), ("größe", "U1")]))
    assert load_table(tmp_path / "a.npy").columns == ("возраст", "größe")


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([(1.0, "x")], dtype=[("age", "f8"), ("kind", "U1")]))
    np.savez(tmp_path / "a.npz", age=np.zeros(2))
    array, archive = (tmp_path / "a.npy").read_bytes(), (tmp_path / "a.npz").read_bytes()
    load_table(tmp_path / "a.npy")
    load_table(tmp_path / "a.npz")
    directory = archive.index(b"PK\x01\x02")
    for name, data in (
        ("a.npy", array.replace(b")", b"(", 1)),
        ("a.npy", array[:-4] + b"\xff" * 4),  # no character has this number
        ("a.npz", archive[: directory + 6] + b"\xff" + archive[directory + 7 :]),  # a version of the far future
        ("a.npy", array[:6] + b"\2\0\xff\xff\xff\x7f" + array[10:]),  # a head of two gigabytes
        ("a.npy", array.replace(b"(1,), }        ", b"(11111111,), } ")),
        ("a.npy", array + b"\0"),
        ("a.npz", archive[: directory + 8] + b"\x01" + archive[directory + 9 :]),  # encrypted
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableFileError):
            load_table(tmp_path / name)


def test_arrays_of_other_shapes_are_refused(tmp_path: Path) -> None:
    for name, arrays in (("b", {"a": np.zeros(2), "b": np.zeros(3)}), ("c", {"a": np.zeros((2, 2))}), ("d", {})):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(UnreadableFileError):
            load_table(tmp_path / f"{name}.npz")
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(UnreadableFileError, match="named"):
        load_table(tmp_path / "a.npy")


def test_nested_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [[1], [2]]}), tmp_path / "a.parquet")
    with pytest.raises(UnreadableFileError, match="list"):
        load_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("data", ["a,a\n1,2\n", "a,\n1,2\n", "\n1,2\n"])
def test_a_header_without_names_of_its_own(write, data: str) -> None:
    with pytest.raises((ColumnNameError, EmptyTableError, UnreadableFileError)):
        load_table(write("a.csv", data))


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("FILE_BYTES_MAX", len(CONTENT)),
        ("TABLE_ROWS_MAX", 2),
        ("TABLE_COLUMNS_MAX", 3),
        ("TABLE_CELLS_MAX", 6),
        ("CELL_CHARACTERS_MAX", 5),
    ],
)
def test_a_table_at_a_limit_is_read_and_one_past_refused(write, monkeypatch, limit: str, value: int) -> None:
    path = write("a.csv", CONTENT)
    monkeypatch.setattr(_table, limit, value)
    load_table(path)
    monkeypatch.setattr(_table, limit, value - 1)
    with pytest.raises(TableTooLargeError, match=f"at most {value - 1}"):
        load_table(path)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez_compressed(path, a=np.zeros(10_000))
    else:
        pq.write_table(pa.table({"a": [str(i) for i in range(1000)]}), path)
    load_table(path)
    monkeypatch.setattr(_table, "UNPACKED_BYTES_MAX", 1000)
    with pytest.raises(TableTooLargeError, match="unpacked"):
        load_table(path)


def test_a_missing_column_is_named_beside_those_found(write) -> None:
    table = load_table(write("a.csv", CONTENT))
    assert table.column("age") == ("50", "61")
    with pytest.raises(MissingColumnError, match=r"no column 'Age', found age, smoker, weight"):
        table.column("Age")


def test_a_hostile_cell_does_not_flood_the_message() -> None:
    with pytest.raises(NotANumberError) as refusal:
        AGE.parse(column("age", "x" * 4000))
    assert len(str(refusal.value)) < 200


# Schema


def test_numbers_are_read_strictly() -> None:
    cells = ["50", " 5e1"[1:], "+.5", "-5.", "", "0", "0.0", "nan", "-NaN"]
    assert AGE.parse(column("age", *cells)) == [50, 50, 0.5, -5, None, None, None, None, None]


@pytest.mark.parametrize("cell", ["fifty", "1_000", "0x10", "1,5", "--1", "٣", "1 2", "e5", "."])
def test_a_cell_that_is_no_number(cell: str) -> None:
    with pytest.raises(NotANumberError, match="row 2"):
        AGE.parse(column("age", "1", cell))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999"])
def test_an_infinite_cell(cell: str) -> None:
    with pytest.raises(NotFiniteError, match="row 2"):
        AGE.parse(column("age", "1e99", cell))


def test_categories_are_read_strictly() -> None:
    assert SMOKER.parse(column("smoker", "yes", "no", "", "?")) == [1, 0, None, None]
    with pytest.raises(
        UnknownCategoryError, match="row 2: category 'Yes' is not in the schema, expected one of no, yes"
    ):
        SMOKER.parse(column("smoker", "yes", "Yes"))


def test_an_error_names_the_file_and_the_row_in_it_however_the_table_was_cut(write) -> None:
    table = load_table(write("a.csv", "site,y,age\na,0,50\na,0,51\na,,x\na,1,fifty\n"))
    rows, _ = labelled_rows(table, label="y", negative=["0"], drop=["site"])
    for part in (rows, rows.select([2, 0])):
        with pytest.raises(NotANumberError, match=r"^a\.csv: column 'age', row 4: 'fifty'") as refusal:
            statistics(Schema((AGE,)), part)
        assert refusal.value.values["row"] == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(AGE, lower=90),
        lambda: replace(AGE, upper=float("inf")),
        lambda: replace(AGE, lower=float("nan")),
        lambda: replace(AGE, name=""),
        lambda: replace(AGE, name=" age"),
        lambda: replace(AGE, name="a\nb"),
        lambda: replace(AGE, name="a" * 257),
        lambda: replace(SMOKER, values=()),
        lambda: replace(SMOKER, values=("yes", "yes")),
        lambda: replace(SMOKER, values=("yes", "?")),
        lambda: replace(SMOKER, values=("yes", "")),
        lambda: Schema(()),
        lambda: Schema((AGE, AGE)),
    ],
)
def test_a_schema_that_says_nothing_clear(make) -> None:
    with pytest.raises(SchemaError):
        make()


def test_a_schema_is_read_from_plain_values() -> None:
    mapping = {
        "columns": [
            {"name": "age", "lower": 20, "upper": 90, "missing": ["0"]},
            {"name": "smoker", "values": ["no", "yes"], "missing": ["?"]},
        ]
    }
    schema = schema_from_mapping(mapping)
    assert schema == Schema((AGE, SMOKER))
    assert schema_to_mapping(schema) == mapping
    assert schema.feature_names == ("age", "smoker=no", "smoker=yes")


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"columns": {}},
        {"columns": [], "more": 1},
        {"columns": ["age"]},
        {"columns": [{"name": 1, "values": ["a"]}]},
        {"columns": [{"name": "a"}]},
        {"columns": [{"name": "a", "lower": 1}]},
        {"columns": [{"name": "a", "lower": 1, "upper": 2, "values": ["x"]}]},
        {"columns": [{"name": "a", "lower": 1, "upper": 2, "more": 3}]},
        {"columns": [{"name": "a", "lower": "1", "upper": 2}]},
        {"columns": [{"name": "a", "lower": False, "upper": True}]},
        {"columns": [{"name": "a", "lower": 1, "upper": 10**400}]},
        {"columns": [{"name": "a", "values": "xy"}]},
        {"columns": [{"name": "a", "values": [1, 2]}]},
    ],
)
def test_plain_values_that_are_no_schema(mapping: dict) -> None:
    with pytest.raises(SchemaError):
        schema_from_mapping(mapping)


def test_schema_bytes_are_canonical() -> None:
    data = schema_to_bytes(Schema((AGE, SMOKER)))
    assert schema_from_bytes(data) == Schema((AGE, SMOKER))
    spaced = json.dumps(json.loads(data)).encode()
    whole = data.replace(b"20.0", b"20")
    twice = data.replace(b'"lower":', b'"lower":1.0,"lower":')
    infinite = data.replace(b"90.0", b"Infinity")
    for bad in (spaced, whole, twice, infinite, data + b" ", data[:-1], b"[]", b"\xff", b"[" * 100_000, b" " * 2**21):
        with pytest.raises(SchemaError):
            schema_from_bytes(bad)


def test_a_schema_is_inferred() -> None:
    table = Table(
        ("id", "age", "ca", "smoker"),
        (
            tuple(map(str, range(12))),
            (*map(str, range(40, 51)), "NA"),
            (*"01230123012", ""),
            ("yes", "no", "?", *["yes"] * 9),
        ),
    )
    assert infer_schema(table, skip=["id"]) == Schema(
        (
            NumericColumn("age", 40, 50, ("NA",)),
            CategoryColumn("ca", ("0", "1", "2", "3")),
            CategoryColumn("smoker", ("no", "yes"), ("?",)),
        )
    )
    with pytest.raises(MissingColumnError):
        infer_schema(table, skip=["ID"])


def test_eleven_different_numbers_are_numeric_and_ten_are_not() -> None:
    assert isinstance(infer_schema(column("a", *map(str, range(11)))).columns[0], NumericColumn)
    assert isinstance(infer_schema(column("a", *map(str, range(10)), "9.0")).columns[0], CategoryColumn)


def test_64_categories_are_inferred_and_65_refused() -> None:
    names = [f"city {i}" for i in range(65)]
    assert len(infer_schema(column("city", *names[:64])).feature_names) == 64
    with pytest.raises(TooManyCategoriesError, match="65 different values, expected at most 64"):
        infer_schema(column("city", *names))
    with pytest.raises(TooManyCategoriesError):
        CategoryColumn("city", tuple(names))


def test_a_column_of_nothing_is_refused() -> None:
    with pytest.raises(EmptyColumnError, match="'a'"):
        infer_schema(column("a", "", "NA", "nan"))


# Features


def test_features_are_scaled_clipped_and_filled() -> None:
    schema, rule = Schema((AGE, SMOKER)), Rule()
    table = Table(("smoker", "age"), (("yes", "no", "", "?", "yes"), ("30", "80", "", "0", "55")))
    scaling = scaling_from_total(schema, statistics(schema, table))
    found = features(schema, scaling, table)
    deviation = np.std([30, 80, 55])
    assert found[[0, 1, 4], 0] / rule.one == pytest.approx((np.array([30, 80, 55]) - 55) / deviation, abs=2e-3)
    assert found[2:4].tolist() == [[0, 0, 0]] * 2
    assert found[:2, 1:].tolist() == [[0, rule.one], [rule.one, 0]]


def test_a_number_beyond_the_range_counts_as_its_end() -> None:
    schema = Schema((AGE,))
    inside, beyond = column("age", "20", "90", "50"), column("age", "-1e50", "1e50", "50")
    assert statistics(schema, inside).tolist() == statistics(schema, beyond).tolist()
    scaling = scaling_from_total(schema, statistics(schema, inside))
    assert features(schema, scaling, inside).tolist() == features(schema, scaling, beyond).tolist()


def test_a_feature_stops_at_the_limit() -> None:
    schema = Schema((AGE,))
    table = column("age", *["50"] * 99, "90")
    scaling = scaling_from_total(schema, statistics(schema, table))
    assert features(schema, scaling, table).max() == 4 * 4096
    assert features(schema, scaling, table, Rule(10, feature_limit=8)).max() == 8 * 1024


@pytest.mark.parametrize("cells", [("50", "50"), ("", "0")])
def test_a_constant_or_empty_column_is_zero(cells: tuple[str, ...]) -> None:
    schema, table = Schema((AGE,)), column("age", *cells)
    scaling = scaling_from_total(schema, statistics(schema, table))
    assert not features(schema, scaling, column("age", "20", "90")).any()


def test_the_schema_asks_for_its_columns() -> None:
    with pytest.raises(MissingColumnError, match="'smoker'"):
        statistics(Schema((AGE, SMOKER)), column("age", "1"))


@pytest.mark.parametrize(
    "total",
    [
        [2, 10, 49],  # below (sum)^2 / count
        [2, 10, 10 * 4095 + 1],
        [2, 2 * 4095 + 1, 2 * 4095**2],
        [-1, 0, 0],
        [0, 1, 1],
        [2**24 + 1, 0, 0],
        [2, 10],
        [2, 10, 50, 0],
    ],
)
def test_statistics_that_no_rows_have(total: list[int]) -> None:
    schema = Schema((AGE,))
    scaling_from_total(schema, np.array([2, 10, 50]))
    with pytest.raises(StatisticsError):
        scaling_from_total(schema, np.array(total))


def test_a_scaling_of_another_schema_is_refused() -> None:
    one = Schema((AGE,))
    scaling = scaling_from_total(one, np.array([2, 10, 50]))
    with pytest.raises(StatisticsError):
        features(Schema((AGE, NumericColumn("b", 0, 1))), scaling, Table(("age", "b"), (("1",), ("1",))))


def test_statistics_of_the_largest_task_fit() -> None:
    assert statistics_bound(Schema((AGE,)), 2**24) < 2**48
    with pytest.raises(StatisticsError):
        statistics_bound(Schema((AGE,)), 2**24 + 1)


# Labels and sites


def patients(*sites: tuple[str, int, int]) -> Table:
    """A table with, for each site, so many sick and so many healthy."""
    rows = [(site, kind) for site, sick, healthy in sites for kind in ["2"] * sick + ["0"] * healthy]
    return Table(
        ("id", "site", "sick"),
        (tuple(map(str, range(len(rows)))), *(tuple(cells) for cells in zip(*rows, strict=True))),
    )


def split(table: Table, **change):
    return split_sites(table, **{"site": "site", "label": "sick", "negative": ["0"], "seed": 1} | change)


def test_every_row_is_with_one_trainer_or_in_the_test() -> None:
    table = patients(("a", 20, 60), ("b", 40, 40))
    result = split(table, per_site=2)
    assert [trainer.name for trainer in result.trainers] == ["a/0", "a/1", "b/0", "b/1"]
    assert [len(trainer.rows) for trainer in result.trainers] == [30] * 4
    assert result.test.labels.sum() == 5 + 10
    held = [cell for part in (*(t.rows for t in result.trainers), result.test) for cell in part.table.column("id")]
    assert sorted(held, key=int) == list(table.column("id"))
    assert result.trainers[0].rows.table.columns == ("id",)
    assert result.warnings == ()
    for part in (*(t.rows for t in result.trainers), result.test):
        kinds = [int(table.column("sick")[int(cell)] != "0") for cell in part.table.column("id")]
        assert part.labels.tolist() == kinds


def test_a_split_repeats_with_its_seed_alone() -> None:
    table = patients(("a", 20, 60), ("b", 40, 40))
    ids = [split(table, seed=seed).test.table.column("id") for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_a_small_site_is_left_out_with_a_warning() -> None:
    result = split(patients(("a", 10, 4), ("b", 10, 3), ("c", 0, 40)), rows_min=10)
    assert {trainer.site for trainer in result.trainers} == {"a", "c"}
    assert len(result.test) == 4 + 10
    assert result.warnings == (
        "site 'b' is left out: 9 training rows for 1 trainers, expected at least 10 each",
        "site 'c' holds training rows of one class only",
    )


def test_no_site_with_enough_rows() -> None:
    split(patients(("a", 10, 4)))
    with pytest.raises(EmptySiteError, match="no site has 10"):
        split(patients(("a", 10, 3)))


def test_a_row_without_a_site() -> None:
    with pytest.raises(EmptySiteError, match="row 3 has no site"):
        split(Table(("site", "sick", "x"), (("a", "a", ""), ("0", "1", "1"), ("1", "2", "3"))))


def test_a_table_may_be_one_site() -> None:
    assert split(patients(("a", 10, 10)), site=None).trainers[0].name == "all/0"


@pytest.mark.parametrize("counts", [(20, 0), (0, 20)])
def test_one_class_is_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(OneClassError, match="'sick'"):
        split(patients(("a", *counts)))


def test_test_rows_of_one_class_are_refused() -> None:
    split(patients(("a", 40, 2)))
    with pytest.raises(OneClassError, match="test rows"):
        split(patients(("a", 40, 1)))


def test_training_rows_of_one_class_are_refused() -> None:
    with pytest.raises(OneClassError, match="training rows"):
        split(patients(("a", 40, 1)), test_fraction=0.5)


def test_labels_may_be_named_on_either_side() -> None:
    table = column("y", "a", "b", "c", "")
    table = Table(("x", "y"), (("1", "2", "3", "4"), *table.cells))
    for names, labels in (({"negative": ["a"]}, [0, 1, 1]), ({"positive": ["b"]}, [0, 1, 0])):
        rows, warnings = labelled_rows(table, label="y", **names)
        assert rows.labels.tolist() == labels
        assert rows.table.cells == (("1", "2", "3"),)
        assert warnings == ("1 rows without a label in column 'y' are left out",)


def test_a_label_on_neither_side() -> None:
    table = Table(("x", "y"), (("1", "2"), ("a", "c")))
    labelled_rows(table, label="y", positive=["a"], negative=["c"])
    with pytest.raises(UnknownLabelError, match="row 2: label 'c' is neither"):
        labelled_rows(table, label="y", positive=["a"], negative=["b"])


def test_no_label_at_all() -> None:
    with pytest.raises(OneClassError, match="no row has a label"):
        labelled_rows(Table(("x", "y"), (("1",), ("",))), label="y", positive=["a"])


@pytest.mark.parametrize(
    "change",
    [
        {"negative": []},
        {"positive": ["0"]},
        {"test_fraction": 0},
        {"test_fraction": Fraction(51, 100)},
        {"test_fraction": float("nan")},
        {"per_site": 0},
        {"per_site": 1025},
        {"seed": -1},
        {"seed": 2**64},
        {"rows_min": 0},
    ],
)
def test_a_split_that_makes_no_sense(change: dict) -> None:
    with pytest.raises(SplitError):
        split(patients(("a", 20, 20)), **change)


@pytest.mark.parametrize("change", [{"site": "Site"}, {"label": "Sick"}, {"drop": ["Id"]}])
def test_a_split_by_a_column_that_does_not_exist(change: dict) -> None:
    with pytest.raises(MissingColumnError):
        split(patients(("a", 20, 20)), **change)


def test_a_split_that_leaves_no_column() -> None:
    with pytest.raises(EmptyTableError, match="no column is left"):
        split(patients(("a", 20, 20)), drop=["id"])
