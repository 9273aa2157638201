"""Tables from files: bounded, strict, and the same cells whatever the file format.

Every cell becomes text: a CSV cell as written, without outer blanks; a typed cell in its shortest exact form (`1`,
`2.5`, `TRUE`); a null or NaN as the empty text. So a table has the same content as CSV, Parquet or NumPy.
"""

import csv
import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from collegium.learning._errors import (
    ColumnNameError,
    DataError,
    EmptyTableError,
    MissingColumnError,
    NoSuchFileError,
    TableTooLargeError,
    UnreadableFileError,
    shown,
)

FILE_BYTES_MAX = 1 << 28
UNPACKED_BYTES_MAX = 1 << 30
TABLE_ROWS_MAX = 1_000_000
TABLE_COLUMNS_MAX = 1024
TABLE_CELLS_MAX = 1 << 24
CELL_CHARACTERS_MAX = 4096

# What csv, zipfile, numpy and pyarrow raise over bytes that are no such file.
_REFUSALS = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RecursionError,
    RuntimeError,  # an encrypted member; NotImplementedError: a later version of the format
    SyntaxError,
    SystemError,  # numpy's text of a number that is no character
    TypeError,
    ArithmeticError,
    LookupError,
    csv.Error,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    pa.ArrowException,
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells.

    Attributes:
        columns: distinct, non-empty names.
        cells: for each column its cells, top to bottom; "" where a value is missing.
        origin: what messages call the table, usually the file's name.
        numbers: for messages, each row's number in the file it came from; empty for 1, 2, ...
    """

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    origin: str = "table"
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_names(self.columns, self.origin)
        if not self.columns or not self.row_count:
            raise EmptyTableError(f"{self.origin}: no rows below the header, expected at least one", origin=self.origin)
        _check_size(self.origin, self.row_count, len(self.columns))

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self.cells[0]) if self.cells else 0

    def row_number(self, row: int) -> int:
        """Returns the number, from 1 below the header, of row `row` (from 0) in the file it came from."""
        return self.numbers[row] if self.numbers else row + 1

    def column(self, name: str) -> tuple[str, ...]:
        """Returns the cells of one column.

        Raises:
            MissingColumnError: there is no such column.
        """
        if name not in self.columns:
            raise MissingColumnError(
                f"{self.origin}: no column {shown(name)}, found {_listed(self.columns)}",
                column=name,
                found=self.columns,
            )
        return self.cells[self.columns.index(name)]

    def select(self, rows: Iterable[int]) -> "Table":
        """Returns the table of the given rows (indices from 0), in the given order."""
        order = list(rows)
        cells = tuple(tuple(column[row] for row in order) for column in self.cells)
        return Table(self.columns, cells, self.origin, tuple(self.row_number(row) for row in order))

    def blank(self, missing: Sequence[str], keep: Sequence[str] = ()) -> "Table":
        """Returns the table with every cell that is one of `missing` emptied, except in the columns `keep`."""
        values = frozenset(missing)
        cells = tuple(
            column if name in keep else tuple("" if cell in values else cell for cell in column)
            for name, column in zip(self.columns, self.cells, strict=True)
        )
        return Table(self.columns, cells, self.origin, self.numbers)

    def without(self, names: Sequence[str]) -> "Table":
        """Returns the table without the named columns.

        Raises:
            MissingColumnError: one of them does not exist.
            EmptyTableError: no column is left.
        """
        for name in names:
            self.column(name)
        kept = [index for index, name in enumerate(self.columns) if name not in names]
        if not kept:
            raise EmptyTableError(f"{self.origin}: no column is left, expected one beside {_listed(names)}")
        columns = tuple(self.columns[index] for index in kept)
        return Table(columns, tuple(self.cells[index] for index in kept), self.origin, self.numbers)


def load_table(path: Path | str) -> Table:
    """Returns the table in a .csv, .parquet, .npz (one 1-D array a column) or .npy (structured array) file.

    CSV is UTF-8 with commas and a header row. Nothing in a file is ever executed or unpickled.

    Raises:
        NoSuchFileError: nothing is at the path.
        UnreadableFileError: the file is not a table of its format.
        EmptyTableError: there is no header or no row.
        TableTooLargeError: a limit of this module is exceeded.
        ColumnNameError: a column name is empty or occurs twice.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz, ".npy": _read_npy}
    if not path.exists():
        raise NoSuchFileError(f"no file at {path}, expected a table", path=str(path))
    if not path.is_file() or path.suffix.lower() not in readers:
        raise UnreadableFileError(
            f"{path.name}: cannot read this as a table, expected a file ending in {', '.join(readers)}", path=str(path)
        )
    size = path.stat().st_size
    if size == 0:
        raise EmptyTableError(f"{path.name}: the file is empty, expected a header and rows", origin=path.name)
    if size > FILE_BYTES_MAX:
        raise TableTooLargeError(f"{path.name}: {size} bytes, expected at most {FILE_BYTES_MAX}", size=size)
    try:
        return readers[path.suffix.lower()](path)
    except DataError:
        raise
    except _REFUSALS as error:
        reason = str(error).split("\n", 1)[0]
        raise UnreadableFileError(f"{path.name}: {reason}, expected a readable table", path=str(path)) from error


def table_from_columns(columns: Mapping[str, Sequence[object]], origin: str = "table") -> Table:
    """Returns the table of columns that are in memory: lists, arrays, or a data frame's columns.

    A cell's text is the one that `load_table` would give it from a Parquet file of these columns.

    Raises:
        UnreadableFileError: columns differ in length, or one holds what is neither text, number nor boolean.
        EmptyTableError, TableTooLargeError, ColumnNameError: as in `load_table`.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise UnreadableFileError(f"{origin}: columns of {sorted(lengths)} rows, expected equally many")
    _check_size(origin, max(lengths, default=0), len(columns))
    cells = []
    for name, values in columns.items():
        try:
            array = pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = str(error).split("\n", 1)[0]
            raise UnreadableFileError(
                f"{origin}: column {shown(name)}: {reason}, expected text, numbers or booleans", column=name
            ) from error
        _check_type(origin, name, array.type)
        cells.append(array.to_pylist())
    return _typed(origin, list(columns), cells)


def _read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = [name.strip() for name in next(lines, [])]
        _check_names(header, path.name)
        if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
            raise UnreadableFileError(f"{path.name}: the header has no comma, expected comma-separated columns")
        rows: list[list[str]] = []
        for line in lines:
            if len(line) != len(header) and line:
                raise UnreadableFileError(
                    f"{path.name}: line {lines.line_num} has {len(line)} cells, expected {len(header)}",
                    line=lines.line_num,
                )
            if line or len(header) == 1:
                rows.append([_bounded(cell.strip(), path.name) for cell in line or [""]])
            _check_size(path.name, len(rows), len(header))
    return Table(tuple(header), tuple(zip(*rows, strict=True)), path.name)


def _read_parquet(path: Path) -> Table:
    metadata = pq.read_metadata(path)
    _check_size(path.name, metadata.num_rows, metadata.num_columns)
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    _check_unpacked(path.name, sum(group.total_byte_size for group in groups))
    table = pq.read_table(path)
    for field in table.schema:
        _check_type(path.name, field.name, field.type)
    return _typed(path.name, table.column_names, [column.to_pylist() for column in table.columns])


def _check_type(origin: str, name: str, kind: pa.DataType) -> None:
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UnreadableFileError(
            f"{origin}: column {shown(name)} holds {kind}, expected text, numbers or booleans", column=name
        )


def _read_npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_unpacked(path.name, sum(member.file_size for member in members))
        names = [member.filename.removesuffix(".npy") for member in members]
        _check_names(names, path.name)
        columns = {name: _array(path.name, archive.read(member)) for name, member in zip(names, members, strict=True)}
    return _numpy_table(path.name, columns)


def _read_npy(path: Path) -> Table:
    array = _array(path.name, path.read_bytes())
    if array.dtype.names is None:
        raise UnreadableFileError(
            f"{path.name}: an array of {array.dtype}, expected a structured array with named fields"
        )
    return _numpy_table(path.name, {name: array[name] for name in array.dtype.names})


def _array(origin: str, data: bytes) -> "np.ndarray":
    """Returns the array of an .npy file; takes no memory for more than is in the file, whatever its head says."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnreadableFileError(f"{origin}: NumPy's format {version}, expected 1 to 3")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a head that Python 2 wrote
        shape, by_column, dtype = read(file)
    if version == (3, 0) and dtype.names is not None:  # as 2, but that the names are UTF-8
        dtype.names = tuple(name.encode("latin1").decode() for name in dtype.names)
    held, claimed = len(data) - file.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject or held != claimed:
        raise UnreadableFileError(f"{origin}: {held} bytes of {dtype}, expected {claimed} of plain values")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if by_column else "C")


def _numpy_table(origin: str, columns: "dict[str, np.ndarray]") -> Table:
    lengths = {array.shape for array in columns.values()}
    if len(lengths) != 1 or any(array.ndim != 1 or array.dtype.kind not in "biufUS" for array in columns.values()):
        raise UnreadableFileError(f"{origin}: expected 1-D arrays of equal length holding text, numbers or booleans")
    _check_size(origin, next(iter(lengths))[0], len(columns))
    return _typed(origin, list(columns), [array.tolist() for array in columns.values()])


def _typed(origin: str, names: Sequence[str], columns: Sequence[Sequence[object]]) -> Table:
    cells = tuple(tuple(_bounded(_as_text(value), origin) for value in column) for column in columns)
    return Table(tuple(name.strip() for name in names), cells, origin)


def _as_text(value: object) -> str:
    """Returns a typed cell's text: numbers in their shortest exact form, whole ones without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8").strip()
    return str(value).strip()


def _bounded(cell: str, origin: str) -> str:
    if len(cell) > CELL_CHARACTERS_MAX:
        raise TableTooLargeError(
            f"{origin}: a cell has {len(cell)} characters, expected at most {CELL_CHARACTERS_MAX}", length=len(cell)
        )
    if "\0" in cell:
        raise UnreadableFileError(f"{origin}: a cell holds a zero byte, expected text", cell=cell)
    return cell


def _check_names(names: Sequence[str], origin: str) -> None:
    for index, name in enumerate(names):
        if not name:
            raise ColumnNameError(f"{origin}: column {index + 1} has no name, expected one", index=index)
        if name in names[:index]:
            raise ColumnNameError(f"{origin}: column {shown(name)} occurs twice, expected distinct names", column=name)


def _check_size(origin: str, rows: int, columns: int) -> None:
    for what, count, limit in (
        ("columns", columns, TABLE_COLUMNS_MAX),
        ("rows", rows, TABLE_ROWS_MAX),
        ("cells", rows * columns, TABLE_CELLS_MAX),
    ):
        if count > limit:
            raise TableTooLargeError(f"{origin}: {count} {what}, expected at most {limit}", what=what, count=count)


def _check_unpacked(origin: str, size: int) -> None:
    if size > UNPACKED_BYTES_MAX:
        raise TableTooLargeError(
            f"{origin}: {size} bytes when unpacked, expected at most {UNPACKED_BYTES_MAX}", size=size
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
