"""Registered data: features and labels in one committed tree, the same layout wherever they are used.

Features are kept as x + limit in [0, 2 limit]; a label is 0 or 1, or one 1 among the classes. A registration commits
to the same rows many times, each time with fresh randomness, and proves once that all are equal and in range. Every
commitment may then be opened by one further proof: by the registration's and by one round's, `OPENINGS` in all.

Beside the rows each commitment holds a seed of its own, from which a score's noise is drawn (`_score`). Which
commitment a round uses must be fixed before its beacon, or a trainer could choose among its noises. An owner whose task
wants scores and no data registers seeds alone (`SeedShape`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from collegium.algebra import Ext, FieldArray, P, Randomness, ext_mul, ext_scale
from collegium.crypto import Digest

from ._errors import StatementError, UnprovableError
from ._expressions import place_grid
from ._layout import Flat, Grid, Layout
from ._masked import IntArray
from ._parameters import MESSAGE_MIN, TABLE_MAX, ProofCode, row_length
from ._program import FirstChallenges, Program, SecondChallenges
from ._prove import CommittedRows, commit_rows, prove
from ._score import SEEDS
from ._sums import Sums
from ._verify import verify

__all__ = [
    "COMMITMENTS_MAX",
    "OPENINGS",
    "DataShape",
    "DataTensors",
    "RegistrationStatement",
    "SeedShape",
    "commit_data",
    "commit_seed",
    "committed_seed",
    "data_row_length",
    "declare_data",
    "declare_seed",
    "prove_registration",
    "verify_registration",
]

OPENINGS = 2
COMMITMENTS_MAX = 256
LIMIT_MAX = (TABLE_MAX - 1) // 2


@dataclass(frozen=True, slots=True)
class DataShape:
    """The public shape of one owner's data.

    Attributes:
        rows: samples. inputs: features of each. outputs: 1 for labels 0 and 1, else the number of classes.
        limit: the largest magnitude of a feature, as an integer of the rule.
        message_len: slots of a committed row; everybody who refers to the data uses the same.

    Raises:
        StatementError: a number is out of bounds.
    """

    rows: int
    inputs: int
    outputs: int
    limit: int
    message_len: int

    def __post_init__(self) -> None:
        if min(self.rows, self.inputs, self.outputs) < 1 or not 1 <= self.limit <= LIMIT_MAX:
            raise StatementError(
                f"data of {self.rows} rows, {self.inputs} features up to {self.limit} and {self.outputs} outputs, "
                f"expected at least one of each and features up to {LIMIT_MAX}"
            )
        if self.rows * (self.inputs + self.outputs) > 1 << 28:
            raise StatementError(f"{self.rows} rows of {self.inputs} features are more than a registration holds")
        ProofCode(self.message_len, OPENINGS)

    @property
    def code(self) -> ProofCode:
        """The code of data and of every trace that goes with it."""
        return ProofCode(self.message_len, OPENINGS)

    def fields(self) -> tuple[int, ...]:
        """Return what a transcript binds."""
        return self.rows, self.inputs, self.outputs, self.limit, self.message_len


@dataclass(frozen=True, slots=True)
class SeedShape:
    """A registration of seeds without data; `message_len`: slots of a committed row."""

    message_len: int = 2 * MESSAGE_MIN

    def __post_init__(self) -> None:
        ProofCode(self.message_len, OPENINGS)

    @property
    def code(self) -> ProofCode:
        """The code of the seeds and of every trace that goes with them."""
        return ProofCode(self.message_len, OPENINGS)

    def fields(self) -> tuple[int, ...]:
        """Return what a transcript binds: no rows, no features, no outputs."""
        return 0, 0, 0, 0, self.message_len


@dataclass(frozen=True, slots=True)
class DataTensors:
    """Features + limit, (rows, inputs), labels (rows, outputs) and the seed, the last row, in one data tree."""

    features: Grid
    labels: Grid
    seed: Flat


def declare_data(layout: Layout, tree: int, shape: DataShape) -> DataTensors:
    """Declare the tensors of one commitment: the whole tree."""
    return DataTensors(
        layout.grid(tree, shape.rows, shape.inputs),
        layout.grid(tree, shape.rows, shape.outputs),
        layout.flat(tree, 1),
    )


def declare_seed(layout: Layout, tree: int, shape: DataShape | SeedShape) -> Flat:
    """Declare one commitment, the whole tree, and return its seed."""
    return layout.flat(tree, 1) if isinstance(shape, SeedShape) else declare_data(layout, tree, shape).seed


def commit_data(shape: DataShape, features: IntArray, labels: IntArray, random: Randomness) -> CommittedRows:
    """Commit to features (rows, inputs), labels (rows,) and a fresh seed, with fresh randomness.

    Raises:
        UnprovableError: the arrays have another shape, or a number is out of range.
    """
    if features.shape != (shape.rows, shape.inputs) or labels.shape != (shape.rows,):
        raise UnprovableError(
            f"features have shape {features.shape} and labels {labels.shape}, "
            f"expected ({shape.rows}, {shape.inputs}) and ({shape.rows},)"
        )
    classes = max(2, shape.outputs)
    if np.abs(features).max() > shape.limit or labels.min() < 0 or labels.max() >= classes:
        raise UnprovableError(f"features must stay within +-{shape.limit} and labels within 0 .. {classes - 1}")
    layout = Layout(shape.code, 1)
    tensors = declare_data(layout, 0, shape)
    layout.freeze()
    messages = np.zeros((layout.counts[0], shape.message_len), np.uint64)
    place_grid(layout, messages, tensors.features, (features + shape.limit).view(np.uint64))
    hits = labels[:, None] if shape.outputs == 1 else labels[:, None] == np.arange(shape.outputs)
    place_grid(layout, messages, tensors.labels, hits.astype(np.uint64))
    messages[-1, 0] = _draw_seed(random)
    return commit_rows(shape.code, messages, random)


def commit_seed(shape: SeedShape, random: Randomness) -> CommittedRows:
    """Commit to a fresh seed alone."""
    messages = np.zeros((1, shape.message_len), np.uint64)
    messages[-1, 0] = _draw_seed(random)
    return commit_rows(shape.code, messages, random)


def committed_seed(committed: CommittedRows) -> int:
    """Return the seed of a commitment."""
    return int(committed.messages[-1, 0])


def _draw_seed(random: Randomness) -> int:
    return int.from_bytes(random(2), "little") % SEEDS


# --- registration: all commitments hold the same rows, and these are in range


@dataclass(frozen=True)
class RegistrationStatement:
    """`roots` are commitments to the same rows of this shape; `owner` and `context` say whose and for what.

    Their seeds are in range and need not be the same.
    """

    shape: DataShape | SeedShape
    roots: tuple[Digest, ...]
    owner: bytes
    context: Digest

    def __post_init__(self) -> None:
        if not 1 <= len(self.roots) <= COMMITMENTS_MAX or len(set(self.roots)) != len(self.roots):
            raise StatementError(
                f"a registration holds {len(self.roots)} commitments, expected 1 to {COMMITMENTS_MAX}, all different"
            )

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds; the roots follow it as data roots."""
        return (b"registration", *self.shape.fields(), self.owner, self.context)


def _program(statement: RegistrationStatement) -> Program:
    shape, trees = statement.shape, range(len(statement.roots))
    layout = Layout(shape.code, len(statement.roots))
    if isinstance(shape, SeedShape):
        _range_seeds(layout, [declare_seed(layout, tree, shape) for tree in trees])
        layout.freeze()
        return Program(layout, statement.fields(), 0, _no_text, data_roots=statement.roots)
    tensors = [declare_data(layout, tree, shape) for tree in trees]
    model = tensors[0]
    layout.look_up_grid(model.features, layout.table(2 * shape.limit + 1))
    layout.constrain_grids((1, (model.labels, model.labels)), (P - 1, (model.labels,)))
    for other in tensors[1:]:
        layout.constrain_grids((1, (model.features,)), (P - 1, (other.features,)))
        layout.constrain_grids((1, (model.labels,)), (P - 1, (other.labels,)))
    _range_seeds(layout, [each.seed for each in tensors])
    layout.freeze()

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        if shape.outputs > 1:  # one class a row: sum_c y_ic = 1
            one = np.zeros((2, shape.outputs), np.uint64)
            one[0] = 1
            chi: Ext = second.relation(0)
            sums.linear(model.labels, ext_scale(one, chi))
            sums.constant(ext_mul((P - 1, 0), ext_mul(chi, sums.samples_total(shape.rows))))

    return Program(layout, statement.fields(), 1, text, data_roots=statement.roots)


def _no_text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
    """Add nothing."""


def _range_seeds(layout: Layout, seeds: Sequence[Flat]) -> None:
    for seed in seeds:
        layout.look_up(seed.rows, layout.table(SEEDS))


class _NoTrace:
    """Everything that a registration speaks of stands in the data trees."""

    def trace(self, messages: FieldArray) -> None:
        """Write nothing."""

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        """Write nothing."""

    def key_values(self, point: Ext) -> FieldArray:
        """Return nothing: there is no key."""
        return np.zeros((2, 0), np.uint64)


def prove_registration(
    statement: RegistrationStatement,
    commitments: Sequence[CommittedRows],
    random: Randomness,
    on_part: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Return a proof that all commitments hold the same rows, in range."""
    return prove(_program(statement), _NoTrace(), commitments, random, on_part).proof


def verify_registration(statement: RegistrationStatement, proof: bytes) -> None:
    """Check a proof of `prove_registration`.

    Raises:
        ProofRejectedError: it does not show the statement.
    """
    verify(_program(statement), proof)


def data_row_length(elements: int) -> int:
    """Return a row length for data whose traces hold about so many elements."""
    return row_length(elements, OPENINGS)
