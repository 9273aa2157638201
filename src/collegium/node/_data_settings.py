"""An experiment's `[data]` and `[schema]`: the table, how its columns are used, and what their values may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from collegium.errors import CollegiumError
from collegium.learning import CategoryColumn, NumericColumn, Schema, schema_from_mapping

from ._sections import PATH_LENGTH_MAX, TERM_MAX, Problem, Section, shown

__all__ = ["ROWS_MAX", "DataSettings", "data_settings", "schema_settings"]

CELL_LENGTH_MAX = 256  # of column names too
LIST_COUNT_MAX = 256
ROWS_MAX = 1 << 24


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The table and how its columns are used.

    Attributes:
        path: as written; `Experiment.data_path` resolves it.
        site: column that names the site a row belongs to.
        label: column that holds the label.
        negative: values of the label that mean "no"; where none are given, all that are not positive.
        positive: values of the label that mean "yes"; where none are given, all that are not negative.
        drop: columns that are not used.
        test_fraction: share of each site's rows that is kept for the test.
        missing: cells of any column that mean "not known", beside the empty cell.
        rows_min: rows that each trainer needs at least.
    """

    path: str
    site: str
    label: str
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    drop: tuple[str, ...]
    test_fraction: Fraction
    missing: tuple[str, ...]
    rows_min: int


def data_settings(section: Section) -> DataSettings:
    settings = DataSettings(
        path=section.text("path", PATH_LENGTH_MAX),
        site=section.text("site", CELL_LENGTH_MAX),
        label=section.text("label", CELL_LENGTH_MAX),
        negative=section.texts("negative", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        positive=section.texts("positive", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        drop=section.texts("drop", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        test_fraction=section.fraction(
            "test_fraction", Fraction(1, 100), Fraction(1, 2), TERM_MAX, default=Fraction(1, 4)
        ),
        missing=section.texts("missing", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        rows_min=section.integer("rows_min", 1, ROWS_MAX, default=10),
    )
    if section.ok and not settings.negative and not settings.positive:
        section.note("negative", "missing", "and positive are missing, expected the label's values of one of them")
    for value in settings.negative:
        if value in settings.positive:
            section.note("positive", "conflict", f"holds {shown(value)}, which negative holds too")
    if settings.site and settings.site == settings.label:
        section.note("label", "conflict", f"is {shown(settings.label)}, the column that [data] names as site")
    for use, column in (("site", settings.site), ("label", settings.label)):
        if column and column in settings.drop:
            section.note("drop", "conflict", f"drops {shown(column)}, the column that [data] names as {use}")
    section.close()
    return settings


def schema_settings(value: object, problems: list[Problem]) -> Schema | None:
    """Return the schema, or None where there is no section.

    A person writes one table a column; the canonical encoding holds the list that `schema_to_mapping` gives, because
    the order of the columns is the order of the features.
    """
    if not isinstance(value, dict):
        return None
    listed = value.get("columns")
    entries = listed if set(value) == {"columns"} and isinstance(listed, list) else _schema_entries(value, problems)
    columns: list[NumericColumn | CategoryColumn] = []
    noted = len(problems)
    for entry in entries:
        try:
            columns += schema_from_mapping({"columns": [_without_decimals(entry)]}).columns
        except CollegiumError as error:
            problems.append(Problem("[schema]", "range", str(error)))
    try:
        return Schema(tuple(columns))
    except CollegiumError as error:
        if len(problems) == noted:
            problems.append(Problem("[schema]", "range", str(error)))
        return None


def _schema_entries(table: Mapping[str, object], problems: list[Problem]) -> list[object]:
    """Return the columns of a schema that has one table a column, in the list form of `schema_to_mapping`."""
    entries: list[object] = []
    for name, column in table.items():
        where = f"schema.{name if name.isidentifier() and name.isascii() else shown(name)}"
        if not isinstance(column, dict):
            text = f'is {shown(column)}, expected a table such as {{ kind = "numeric", lower = 0, upper = 1 }}'
            problems.append(Problem(where, "type", text))
            continue
        kind = column.get("kind")
        if kind not in ("numeric", "category"):
            problems.append(Problem(where, "range", f'has kind {shown(kind)}, expected "numeric" or "category"'))
        elif ("values" in column) != (kind == "category"):
            wanted = "values" if kind == "category" else "lower and upper, not values"
            problems.append(Problem(where, "conflict", f"is of kind {kind}, expected {wanted}"))
        else:
            entries.append({"name": name} | {key: item for key, item in column.items() if key != "kind"})
    return entries


def _without_decimals(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return {key: float(item) if isinstance(item, Decimal) else item for key, item in entry.items()}
