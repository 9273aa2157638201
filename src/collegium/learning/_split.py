"""From one table to labelled rows, and for trials to many trainers and common test rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from collegium.learning._derandom import permutation
from collegium.learning._errors import EmptySiteError, OneClassError, SplitError, UnknownLabelError, shown
from collegium.learning._integers import Int64Array
from collegium.learning._table import Table

PER_SITE_MAX = 1024
ROWS_MIN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows with their labels.

    Attributes:
        table: the cells, without site, label and dropped columns.
        labels: 1 for positive, 0 for negative, shape (n,), int64.
    """

    table: Table
    labels: Int64Array

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Sequence[int]) -> "Rows":
        """Returns the given rows in the given order."""
        return Rows(self.table.select(indices), self.labels[np.array(indices, dtype=np.int64)])


@dataclass(frozen=True, slots=True, eq=False)
class TrainerRows:
    """What one trainer holds: its site, its name `site/index`, its rows."""

    site: str
    name: str
    rows: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Who holds which rows.

    Attributes:
        trainers: with their rows.
        test: the test rows of all sites.
        warnings: what a user should know.
        test_counts: how many of the test rows are each site's.
        hidden: the rows of each shard of the stewards, which no trainer has.
    """

    trainers: tuple[TrainerRows, ...]
    test: Rows
    warnings: tuple[str, ...]
    test_counts: tuple[tuple[str, int], ...]
    hidden: tuple[Rows, ...] = ()


def labelled_rows(
    table: Table,
    *,
    label: str,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> tuple[Rows, tuple[str, ...]]:
    """Returns the rows that have a label, and warnings; what a trainer with a file of its own calls.

    With only `positive` given every other value is negative, and the other way round; with both, a third value is
    refused. A row with an empty label is left out with a warning. One class alone is no error here: a single site
    may well hold one.

    Raises:
        MissingColumnError: the label or a dropped column does not exist.
        SplitError: neither `positive` nor `negative` is given, or a value is both.
        UnknownLabelError: a label is in neither list.
        OneClassError: no row has a label.
    """
    kept, labels = _read_labels(table, label, positive, negative)
    if not kept:
        raise OneClassError(f"{table.origin}: no row has a label in column {shown(label)}", column=label)
    warnings = _unlabelled_warning(table, label, kept)
    rows = Rows(table.without([label, *(name for name in drop if name != label)]).select(kept), labels)
    return rows, warnings


def split_sites(
    table: Table,
    *,
    label: str,
    site: str | None,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    drop: Sequence[str] = (),
    test_fraction: float | Fraction = Fraction(1, 4),
    per_site: int = 1,
    seed: int = 0,
    rows_min: int = ROWS_MIN,
    hidden_fraction: Fraction = Fraction(0),
    shards: int = 0,
) -> Split:
    """Returns trainers and test rows, the same for the same arguments on every machine.

    At each site, each class gives `test_fraction` of its rows (rounded half up) to the test rows, and of the others
    `hidden_fraction` (likewise) to the stewards, whose shards take them in turn; the rest is dealt to `per_site`
    trainers in turn. A site whose trainers would hold fewer than `rows_min` rows is left out, with a warning.

    Args:
        table: the whole table.
        label: the column that says what is to be learned; `positive` and `negative` as in `labelled_rows`.
        site: the column that names each row's site; None makes the table one site called "all".
        positive: label cells that count as 1.
        negative: label cells that count as 0.
        drop: columns that are no features.
        test_fraction: from 0 (excluded) to 1/2.
        per_site: trainers at a site, 1 to 1024.
        seed: 0 to 2^64 - 1.
        rows_min: least rows of a trainer, from 1.
        hidden_fraction: 0 to 1/2; shards: of the stewards, how many share them.

    Raises:
        MissingColumnError, SplitError, UnknownLabelError: as in `labelled_rows`, a wrong number, no row for a shard.
        EmptySiteError: a row names no site, or no site has enough rows.
        OneClassError: the table, the training rows or the test rows hold one class only.
    """
    _check_split(test_fraction, per_site, seed, rows_min)
    fraction = Fraction(test_fraction)
    kept, labels = _read_labels(table, label, positive, negative)
    _check_classes(table.origin, f"column {shown(label)}", labels)
    warnings = list(_unlabelled_warning(table, label, kept))
    sites = _read_sites(table, site, kept)
    dropped = list(dict.fromkeys([label, *([site] if site else []), *drop]))
    rows = Rows(table.without(dropped).select(kept), labels)
    trainers, test, test_counts, hidden = list[TrainerRows](), list[int](), [], list[int]()
    for name in sorted(set(sites)):
        members = [index for index, other in enumerate(sites) if other == name]
        train, held_out = _hold_out(members, labels, fraction, name, seed)
        train, kept_back = _keep_back(train, labels, hidden_fraction)
        if len(train) // per_site < rows_min:
            warnings.append(
                f"site {shown(name)} is left out: {len(train)} training rows for {per_site} trainers, "
                f"expected at least {rows_min} each"
            )
            continue
        if len({int(labels[index]) for index in train}) == 1:
            warnings.append(f"site {shown(name)} holds training rows of one class only")
        test, hidden = test + held_out, hidden + kept_back
        test_counts.append((name, len(held_out)))
        trainers += [
            TrainerRows(name, f"{name}/{index}", rows.select(sorted(train[index::per_site])))
            for index in range(per_site)
        ]
    _check_trainers(table.origin, trainers, per_site, rows_min)
    _check_classes(table.origin, "the test rows", labels[test])
    counts, dealt = tuple(test_counts), _deal(rows, hidden, shards)
    return Split(tuple(trainers), rows.select(sorted(test)), tuple(warnings), counts, dealt)


def _hold_out(
    members: list[int], labels: Int64Array, fraction: Fraction, site: str, seed: int
) -> tuple[list[int], list[int]]:
    """Returns (training rows in dealing order, test rows) of one site, each class by itself."""
    train: list[int] = []
    test: list[int] = []
    for kind in (0, 1):
        rows = [index for index in members if labels[index] == kind]
        order = permutation(f"split {kind}", seed.to_bytes(8, "little") + site.encode(), 0, len(rows)).tolist()
        count = int(fraction * len(rows) + Fraction(1, 2))
        test += [rows[position] for position in order[:count]]
        train += [rows[position] for position in order[count:]]
    return train, test


def _keep_back(train: list[int], labels: Int64Array, fraction: Fraction) -> tuple[list[int], list[int]]:
    """Returns (rows for trainers, rows for stewards) of one site's training rows, each class by itself, in order."""
    left: list[int] = []
    hidden: list[int] = []
    for kind in (0, 1):
        rows = [index for index in train if labels[index] == kind]
        count = int(fraction * len(rows) + Fraction(1, 2))
        hidden += rows[:count]
        left += rows[count:]
    return left, hidden


def deal_rows(rows: Rows, shards: int) -> tuple[Rows, ...]:
    """Returns one steward's rows dealt to its shards in turn, each class by itself.

    Raises:
        SplitError: fewer rows than shards.
    """
    return _deal(rows, np.argsort(rows.labels, kind="stable").tolist(), shards)


def _deal(rows: Rows, hidden: list[int], shards: int) -> tuple[Rows, ...]:
    """Returns each shard's rows, dealt in turn."""
    if len(hidden) < shards:
        raise SplitError(f"{len(hidden)} hidden rows for {shards} shards of stewards, expected one each or more")
    return tuple(rows.select(sorted(hidden[index::shards])) for index in range(shards))


def _read_labels(
    table: Table, label: str, positive: Sequence[str], negative: Sequence[str]
) -> tuple[list[int], Int64Array]:
    """Returns the indices of the rows that have a label, and their labels."""
    cells = table.column(label)
    if not positive and not negative:
        raise SplitError("neither positive nor negative labels are given, expected at least one list", label=label)
    if both := sorted(set(positive) & set(negative)):
        raise SplitError(f"label {shown(both[0])} is given as positive and as negative, expected one", label=both[0])
    kept, labels = [], []
    for row, cell in enumerate(cells):
        if not cell:
            continue
        if cell not in positive and cell not in negative and positive and negative:
            raise UnknownLabelError(
                f"{table.origin}: column {shown(label)}, row {table.row_number(row)}: label {shown(cell)} is neither "
                f"positive ({', '.join(positive)}) nor negative ({', '.join(negative)})",
                row=table.row_number(row),
                label=cell,
            )
        kept.append(row)
        labels.append(int(cell in positive if positive else cell not in negative))
    return kept, np.array(labels, dtype=np.int64)


def _unlabelled_warning(table: Table, label: str, kept: list[int]) -> tuple[str, ...]:
    missing = table.row_count - len(kept)
    return (f"{missing} rows without a label in column {shown(label)} are left out",) if missing else ()


def _read_sites(table: Table, site: str | None, kept: list[int]) -> list[str]:
    if site is None:
        return ["all"] * len(kept)
    cells = table.column(site)
    for row in kept:
        if not cells[row]:
            raise EmptySiteError(
                f"{table.origin}: row {table.row_number(row)} has no site in column {shown(site)}, "
                "expected one in every row",
                row=table.row_number(row),
                column=site,
            )
    return [cells[row] for row in kept]


def _check_trainers(origin: str, trainers: list[TrainerRows], per_site: int, rows_min: int) -> None:
    if not trainers:
        raise EmptySiteError(
            f"{origin}: no site has {rows_min} training rows for each of {per_site} trainers", rows_min=rows_min
        )
    _check_classes(origin, "the training rows", np.concatenate([trainer.rows.labels for trainer in trainers]))


def _check_classes(origin: str, what: str, labels: Int64Array) -> None:
    counts = Counter(labels.tolist())
    if len(counts) < 2:
        raise OneClassError(
            f"{origin}: {what}: {counts[1]} positive and {counts[0]} negative labels, expected some of both",
            positive=counts[1],
            negative=counts[0],
        )


def _check_split(test_fraction: float | Fraction, per_site: int, seed: int, rows_min: int) -> None:
    if not 0 < test_fraction <= 0.5:  # refuses NaN too
        raise SplitError(f"test_fraction is {float(test_fraction)}, expected more than 0 and at most 0.5")
    if not 1 <= per_site <= PER_SITE_MAX:
        raise SplitError(f"per_site is {per_site}, expected 1 to {PER_SITE_MAX}", per_site=per_site)
    if not 0 <= seed < 1 << 64:
        raise SplitError(f"seed is {seed}, expected 0 to 2^64 - 1", seed=seed)
    if rows_min < 1:
        raise SplitError(f"rows_min is {rows_min}, expected at least 1", rows_min=rows_min)
