"""An owner's own file as the rows that it registers: features by a public schema and a public scaling, and labels.

The scaling is the one that a run of the experiment opened in its round 0, where a model state of it is given. Before
there is one it is the neutral scaling, which follows from the declared ranges alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from collegium import learning
from collegium.crypto import Digest, hash_fields
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Rule, Schema
from collegium.proofs import DataShape

from ._events import WorldError
from ._experiment import Experiment
from ._proofs import shape_of

__all__ = ["OwnerRows", "OwnerRowsError", "ScalingFileError", "data_context", "load_owner_rows", "load_statistics"]

IntArray = npt.NDArray[np.int64]

LEVELS = 1 << 12  # a clipped number is one of so many levels (docs/spec/learning.md, section 2)
STATE_BYTES_MAX = 64 << 20


class OwnerRowsError(CollegiumError):
    """A file, or the experiment that says how to read it, is not fit for a registration."""


class ScalingFileError(CollegiumError):
    """A file that should be a model state of the experiment, which carries the scaling, is none."""


@dataclass(frozen=True, eq=False)
class OwnerRows:
    """The rows of one file, ready to be committed to.

    Attributes:
        origin: the file's name, for messages.
        shape: the public shape.
        context: digest of what the features mean.
        features: (rows, inputs); labels: (rows,).
        numbers: each row's number in the file, from 1 below the header.
        identities: what tells one row from another whatever the scaling: digest of schema, neutral features and label.
        file: digest of the file's bytes and of the site chosen from it.
        warnings: what the owner should know.
    """

    origin: str
    shape: DataShape
    context: Digest
    features: IntArray
    labels: IntArray
    numbers: tuple[int, ...]
    identities: tuple[Digest, ...]
    file: Digest
    warnings: tuple[str, ...]


def load_owner_rows(
    path: Path, experiment: Experiment, *, site: str | None = None, statistics: IntArray | None = None
) -> OwnerRows:
    """Return the rows of an owner's file that have a label.

    Args:
        path: the table, in any format that experiments read.
        experiment: gives schema, label, missing values and model; its own `data.path` is not read.
        site: keep only the rows of this site.
        statistics: as `load_statistics` returns them; None means the neutral scaling.

    Raises:
        OwnerRowsError: the experiment infers its schema, or no row is of that site.
        CollegiumError: the file, a cell or the size is refused.
    """
    schema, settings = _schema(experiment), experiment.data
    table = learning.load_table(path).blank(settings.missing, keep=(settings.site, settings.label))
    if site is not None:
        chosen = [row for row, cell in enumerate(table.column(settings.site)) if cell == site]
        if not chosen:
            raise OwnerRowsError(f"{table.origin}: no row is of site {site!a}", site=site)
        table = table.select(chosen)
    rows, warnings = learning.labelled_rows(
        table, label=settings.label, positive=settings.positive or (), negative=settings.negative or ()
    )
    flat = _neutral_statistics(schema)
    neutral = learning.features(schema, learning.scaling_from_total(schema, flat), rows)
    scaling = learning.scaling_from_total(schema, flat if statistics is None else statistics)
    schema_digest = sha256(learning.schema_to_bytes(schema)).digest()
    return OwnerRows(
        origin=path.name,
        shape=shape_of(_spec(experiment, schema), _rule(experiment), len(rows)),
        context=data_context(experiment, statistics),
        features=learning.features(schema, scaling, rows, _rule(experiment)),
        labels=rows.labels,
        numbers=tuple(rows.table.row_number(row) for row in range(len(rows))),
        identities=tuple(
            hash_fields("row", schema_digest, row.astype("<i8").tobytes(), int(label))
            for row, label in zip(neutral, rows.labels, strict=True)
        ),
        file=hash_fields("owner-file", _file_digest(path), (site or "").encode()),
        warnings=warnings,
    )


def data_context(experiment: Experiment, statistics: IntArray | None) -> Digest:
    """Return the digest of what features and labels mean: schema, label, missing values, scaling, fixed point.

    Raises:
        OwnerRowsError: the experiment infers its schema.
    """
    schema, data, rule = _schema(experiment), experiment.data, _rule(experiment)
    used = _neutral_statistics(schema) if statistics is None else statistics
    lists = [hash_fields("texts", *(text.encode() for text in texts)) for texts in (data.negative, data.positive)]
    return hash_fields(
        "data-context",
        learning.schema_to_bytes(schema),
        data.label.encode(),
        *lists,
        hash_fields("texts", *(text.encode() for text in data.missing)),
        used.astype("<i8").tobytes(),
        rule.fraction_bits,
        rule.feature_limit,
    )


def load_statistics(path: Path, experiment: Experiment) -> IntArray:
    """Return the statistics, (3 numeric columns,), that a model state of a run of the experiment carries.

    Raises:
        ScalingFileError: the file is no model state of this experiment.
    """
    schema = _schema(experiment)
    try:
        with path.open("rb") as file:
            data = file.read(STATE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ScalingFileError(f"{path}: {error}, expected a model state of the experiment") from error
    length = 8 * (3 * len(schema.numeric) + 1)
    try:
        statistics = np.frombuffer(data[:length], "<i8").astype(np.int64)
        learning.scaling_from_total(schema, statistics[:-1])
        learning.parameters_from_bytes(_spec(experiment, schema), _rule(experiment), data[length:])
    except (CollegiumError, ValueError) as error:
        raise ScalingFileError(f"{path}: {error}; expected a model state of the experiment") from error
    return statistics[:-1]


def _neutral_statistics(schema: Schema) -> IntArray:
    """Return the statistics of a column in which every level of the declared range stands once.

    They say nothing about anybody's rows; the feature is then (u - 2047.5) / 1182.4, at most 1.74 in magnitude.
    """
    top = LEVELS - 1
    return np.array([LEVELS, top * LEVELS // 2, top * LEVELS * (2 * top + 1) // 6] * len(schema.numeric), np.int64)


def _schema(experiment: Experiment) -> Schema:
    if experiment.schema is None:
        raise OwnerRowsError(
            "the experiment has no [schema]: one inferred from an owner's rows would be its own and would tell of them"
        )
    return experiment.schema


def _rule(experiment: Experiment) -> Rule:
    return Rule(**asdict(experiment.rule))


def _spec(experiment: Experiment, schema: Schema) -> ModelSpec:
    return ModelSpec(experiment.model.kind, len(schema.feature_names), experiment.model.hidden)


def _file_digest(path: Path) -> Digest:
    try:
        return sha256(path.read_bytes()).digest()
    except OSError as error:
        raise WorldError(f"{path.name}: {error.strerror}") from error
