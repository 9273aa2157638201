"""Where a relation's numbers stand: matrices (trees) of rows of k slots, their tensors, lookups and constraints.

A relation declares its tensors in the order data, trace, products; `freeze` adds what the argument itself needs. Rows
of all trees share one index, their place in a codeword column; two places behind each tree are its leaf's salt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from collegium.algebra import FieldArray

from ._errors import StatementError
from ._parameters import ENTRIES_MAX, TABLE_MAX, ProofCode

__all__ = ["Flat", "Grid", "Layout", "Monomial", "Piece", "Rows", "Table"]

Index = npt.NDArray[np.int64]

SALT_PLACES = 2  # 128 bits behind the symbols of a leaf
QUOTIENT_CHUNKS = 3  # degree below 3 (k + t) over X^k - 1
_PIECES_MAX = 4


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one tree."""

    tree: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Flat:
    """A vector over consecutive slots: entry i is slot i mod k of row i // k. Slots behind it are unconstrained."""

    length: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Piece:
    """Columns [start, start + width) of a grid, width a power of two: sample i is in row i // per_row, there in the
    slots from (i mod per_row) x width on."""

    start: int
    width: int
    used: int
    per_row: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix (samples, width), cut into pieces whose coefficients rho^i v_j are of rank one over rows and slots."""

    samples: int
    width: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """What a lookup's value may be: 0 ... size - 1, or the pairs (v, second[v]) with second[0] = 0."""

    size: int
    second: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Monomial:
    """coefficient x product of up to three rows, slot by slot; one of the summands of a constraint that is 0."""

    coefficient: int
    factors: tuple[tuple[Rows, int], ...]


@dataclass
class Layout:
    """The rows of one statement. `trees` is the number of data trees; three more follow: trace, products, quotient."""

    code: ProofCode
    data_trees: int = 0
    counts: list[int] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    multiplicities: list[Flat] = field(default_factory=list)
    lookups: list[tuple[Rows, int, Rows | None]] = field(default_factory=list)
    constraints: list[tuple[Monomial, ...]] = field(default_factory=list)
    frozen: bool = False

    def __post_init__(self) -> None:
        self.counts = [0] * (self.data_trees + 3)

    # ------------------------------------------------------------------------------------------ declare

    @property
    def trace(self) -> int:
        """The tree committed first."""
        return self.data_trees

    @property
    def products(self) -> int:
        """The tree committed after the first challenges: inverses of lookups, vectors of products."""
        return self.data_trees + 1

    @property
    def quotient(self) -> int:
        """The tree committed last."""
        return self.data_trees + 2

    def rows(self, tree: int, count: int) -> Rows:
        """Declare `count` rows."""
        declared = Rows(tree, self.counts[tree], count)
        self.counts[tree] += count
        return declared

    def flat(self, tree: int, length: int) -> Flat:
        """Declare a vector."""
        return Flat(length, self.rows(tree, -(-length // self.code.message_len)))

    def grid(self, tree: int, samples: int, width: int) -> Grid:
        """Declare a matrix (samples, width)."""
        k = self.code.message_len
        pieces = [
            Piece(start, size, used, k // size, self.rows(tree, -(-samples // (k // size))))
            for start, size, used in _cut(width, samples, k)
        ]
        return Grid(samples, width, tuple(pieces))

    def table(self, size: int, second: Sequence[int] | None = None) -> int:
        """Declare a table, once, and return its number.

        Raises:
            StatementError: too large.
        """
        if not 1 <= size <= TABLE_MAX:
            raise StatementError(f"a lookup table has {size} entries, expected 1 to {TABLE_MAX}", size=size)
        wanted = Table(size, None if second is None else tuple(second))
        if wanted in self.tables:
            return self.tables.index(wanted)
        self.tables.append(wanted)
        return len(self.tables) - 1

    def look_up(self, rows: Rows, table: int, second: Rows | None = None) -> None:
        """Demand that every slot of `rows` (with `second`: every pair of slots) is in the table."""
        self.lookups.extend(
            (
                Rows(rows.tree, rows.first + i, 1),
                table,
                None if second is None else Rows(second.tree, second.first + i, 1),
            )
            for i in range(rows.count)
        )

    def look_up_grid(self, grid: Grid, table: int, second: Grid | None = None) -> None:
        """`look_up` for every piece of a grid."""
        for number, piece in enumerate(grid.pieces):
            self.look_up(piece.rows, table, None if second is None else second.pieces[number].rows)

    def constrain(self, *monomials: Monomial) -> None:
        """Demand that a sum of monomials is 0 in every slot."""
        self.constraints.append(monomials)

    def constrain_grids(self, *monomials: tuple[int, tuple[Grid, ...]]) -> None:
        """Demand sum of coefficient x product = 0 in every slot of grids of one shape."""
        (_, (model, *_)), *_ = monomials
        for number, piece in enumerate(model.pieces):
            for row in range(piece.rows.count):
                self.constrain(
                    *(
                        Monomial(coefficient, tuple((grid.pieces[number].rows, row) for grid in grids))
                        for coefficient, grids in monomials
                    )
                )

    # ------------------------------------------------------------------------------------------ freeze

    def freeze(self) -> Layout:
        """Add the argument's own rows: multiplicities and masks to the trace, inverses to the products, the quotient.

        Raises:
            StatementError: more lookups than the error of the argument allows.
        """
        k = self.code.message_len
        entries = k * len(self.lookups) + sum(table.size for table in self.tables)
        if entries > ENTRIES_MAX:
            raise StatementError(f"{entries} lookups and table entries, expected at most {ENTRIES_MAX}")
        self.multiplicities = [self.flat(self.trace, table.size) for table in self.tables]
        self.sum_mask = self.rows(self.trace, 2)
        self.combination_mask = self.rows(self.trace, 2)
        used = [table for _, table, _ in self.lookups]
        pairs = sum(self._pairs_of(used.count(table)) for table in range(len(self.tables)))
        self.inverses = self.rows(self.products, 2 * pairs)
        self.chunks = self.rows(self.quotient, 2 * QUOTIENT_CHUNKS)
        self.frozen = True
        starts = np.cumsum([0, *(count + SALT_PLACES for count in self.counts)])
        self.starts: list[int] = [int(start) for start in starts[:-1]]
        self.width = int(starts[-1])
        self._pair_lookups()
        self._lower_constraints()
        return self

    def index(self, rows: Rows) -> Index:
        """Return the places of rows in a column."""
        start = self.starts[rows.tree] + rows.first
        return np.arange(start, start + rows.count, dtype=np.int64)

    def tree_slice(self, tree: int) -> slice:
        """Return the places of a tree's rows, without its salt."""
        return slice(self.starts[tree], self.starts[tree] + self.counts[tree])

    @property
    def constraint_count(self) -> int:
        """How many relations hold slot by slot: pairs of lookups, then constraints."""
        return len(self.pair_rows) + len(self.constraints)

    def _pair_lookups(self) -> None:
        """Two lookups in one table share an inverse: of a table's lookups in order, the first half with the second.

        Of an odd number the middle one is paired with itself. The inverses' rows are all first parts, then all second
        ones, so that the pairs of a table follow one another.
        """
        place = np.array([self.starts[rows.tree] + rows.first for rows, _, _ in self.lookups], np.int64)
        second = [-1 if rows is None else self.starts[rows.tree] + rows.first for _, _, rows in self.lookups]
        both, tables = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
        for table in range(len(self.tables)):
            members = np.array([i for i, (_, number, _) in enumerate(self.lookups) if number == table], np.int64)
            pairs = self._pairs_of(len(members))
            both.append(np.stack([members[:pairs], members[len(members) - pairs :]], axis=1))
            tables.append(np.full(pairs, table, np.int64))
        chosen = np.concatenate(both)
        self.pair_rows: Index = place[chosen]
        self.pair_seconds: Index = np.array(second, np.int64)[chosen]
        self.pair_tables: Index = np.concatenate(tables)
        self.pair_inverses: Index = np.ascontiguousarray(self.index(self.inverses).reshape(2, -1).T)

    @staticmethod
    def _pairs_of(lookups: int) -> int:
        return -(-lookups // 2)

    def _lower_constraints(self) -> None:
        numbers, coefficients, factors = [], [], []
        for number, monomials in enumerate(self.constraints):
            for monomial in monomials:
                places = [self.starts[rows.tree] + rows.first + row for rows, row in monomial.factors]
                numbers.append(number)
                coefficients.append(monomial.coefficient)
                factors.append(places + [-1] * (3 - len(places)))
        self.monomial_constraints: Index = np.array(numbers, np.int64)
        self.monomial_coefficients: FieldArray = np.array(coefficients, np.uint64)
        self.monomial_factors: Index = np.array(factors, np.int64).reshape(-1, 3)


def _cut(width: int, samples: int, k: int) -> list[tuple[int, int, int]]:
    """Return (start, power of two, columns used) of the pieces of least rows, at most four, that cover `width`."""
    whole = [(start, k, k) for start in range(0, width - width % k, k)] if width >= k else []
    start, rest = len(whole) * k, width - len(whole) * k
    cut: list[tuple[int, int, int]] = []
    while rest:
        ceiling = 1 << (rest - 1).bit_length()
        floor = 1 << (rest.bit_length() - 1)
        rows_whole = -(-samples // (k // ceiling))
        rows_split = (
            -(-samples // (k // floor)) + -(-samples // (k // (1 << (rest - floor - 1).bit_length())))
            if (rest > floor)
            else rows_whole
        )
        size = ceiling if rows_whole <= rows_split or len(cut) == _PIECES_MAX - 1 else floor
        used = min(size, rest)
        cut.append((start, size, used))
        start, rest = start + used, rest - used
    return whole + cut
