"""Relation `bounded`: every entry of the update is within its bound, and the sum of their squares too.

It says nothing about where the update comes from: any model, any framework. Entries x are kept as x + bound in
[0, 2 bound], looked up whole where the table allows, in limbs of x + bound and bound - x otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from collegium.algebra import Ext, FieldArray, P, Randomness, ext_mul, ext_scale, ext_sub
from collegium.crypto import Digest

from ._data import DataShape, SeedShape, committed_seed, declare_seed
from ._errors import StatementError, UnprovableError
from ._expressions import signed
from ._layout import Flat, Layout
from ._masked import (
    MASK_RELATIONS,
    IntArray,
    KeySecrets,
    MaskedUpdate,
    MaskTensors,
    key_values,
    place_flat,
)
from ._parameters import TABLE_MAX, ProofCode, row_length
from ._program import FirstChallenges, Program, SecondChallenges
from ._prove import Allocate, CommittedRows, Proved, in_memory, prove
from ._score import SCORE_RELATIONS, Score, ScoreTensors
from ._sums import Sums, power_sum
from ._verify import verify

__all__ = ["BoundedStatement", "bounded_code", "prove_bounded", "verify_bounded"]

KEY_ELEMENTS = 4 * (1024 + 4444)  # the copied key rows
LIMB_BITS = 12
NORM_LIMB_BITS = 12
_LANES, _NORM, _SCORE = MASK_RELATIONS, MASK_RELATIONS + 2, MASK_RELATIONS + 3


def bounded_code(entries: int) -> ProofCode:
    """Return the code near the least proof of an update of so many entries."""
    return ProofCode(row_length(3 * entries + KEY_ELEMENTS))


@dataclass(frozen=True, eq=False)
class BoundedStatement:
    """`masked` with entries in range and, where `norm_bound` is given, sum of squares <= norm_bound^2.

    Where a score is demanded, `seed_shape` and `seed_root` name the registered commitment whose seed its noise is drawn
    from; rows then have that registration's length.

    Raises:
        StatementError: squares or the score could wrap around the field, or a score comes without a seed.
    """

    masked: MaskedUpdate
    norm_bound: int | None = None
    message_len: int = 0
    score: Score | None = None
    seed_shape: DataShape | SeedShape | None = None
    seed_root: Digest | None = None

    def __post_init__(self) -> None:
        if self.norm_bound is not None:
            slack_bits = NORM_LIMB_BITS * _limb_count(self.norm_bound**2, NORM_LIMB_BITS)
            largest = self.masked.entries * self.masked.entry_bound**2 + (1 << slack_bits)
            if largest >= P or not self.whole:
                raise StatementError(
                    f"{self.masked.entries} squares of entries up to {self.masked.entry_bound} and the bound "
                    f"{self.norm_bound}^2 may reach {largest}, expected less than the field's {P}"
                )
        if len({self.score is None, self.seed_shape is None, self.seed_root is None}) != 1:
            raise StatementError("a score, its seed's shape and its seed's root come together or not at all")
        if self.score is not None:
            self.score.check(self.masked)

    @property
    def whole(self) -> bool:
        """Whether an entry is looked up in one piece."""
        return 2 * self.masked.entry_bound + 1 <= TABLE_MAX

    @property
    def code(self) -> ProofCode:
        """The code: the registered seed's, else the stated row length, or one near the least proof."""
        if self.seed_shape is not None:
            return self.seed_shape.code
        return ProofCode(self.message_len) if self.message_len else bounded_code(self.masked.entries)

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds."""
        plain = (b"bounded", *self.masked.fields(), 0 if self.norm_bound is None else self.norm_bound + 1)
        if self.score is None or self.seed_shape is None:
            return plain
        return (*plain, *self.score.fields(), *self.seed_shape.fields())


@dataclass
class _Tensors:
    layout: Layout
    mask: MaskTensors
    upper: list[list[Flat]] = field(default_factory=list)  # by lane: limbs of x + bound
    lower: list[list[Flat]] = field(default_factory=list)  # by lane: limbs of bound - x, where there are limbs
    slack: Flat | None = None
    score: ScoreTensors | None = None


def _declare(statement: BoundedStatement) -> _Tensors:
    masked = statement.masked
    layout = Layout(statement.code, 0 if statement.score is None else 1)
    tensors = _Tensors(layout, MaskTensors.declare(layout, masked))
    for lane in range(masked.lanes):
        length = min(masked.slots, masked.entries - lane * masked.slots)
        if statement.whole:
            limbs = [layout.flat(layout.trace, length)]
            layout.look_up(limbs[0].rows, layout.table(2 * masked.entry_bound + 1))
            tensors.upper.append(limbs)
            continue
        for side in (tensors.upper, tensors.lower):
            limbs = [layout.flat(layout.trace, length) for _ in range(_limb_count(2 * masked.entry_bound, LIMB_BITS))]
            for limb in limbs:
                layout.look_up(limb.rows, layout.table(1 << LIMB_BITS))
            side.append(limbs)
    if statement.norm_bound is not None:
        tensors.slack = layout.flat(layout.trace, _limb_count(statement.norm_bound**2, NORM_LIMB_BITS))
        layout.look_up(tensors.slack.rows, layout.table(1 << NORM_LIMB_BITS))
    if statement.score is not None and statement.seed_shape is not None:
        seed = declare_seed(layout, 0, statement.seed_shape)
        tensors.score = ScoreTensors.declare(layout, statement.score, seed)
    layout.freeze()
    return tensors


def _limb_count(value: int, bits: int) -> int:
    return -(-value.bit_length() // bits)


def _text(statement: BoundedStatement, tensors: _Tensors) -> Callable[[Sums, FirstChallenges, SecondChallenges], None]:
    masked = statement.masked

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        tensors.mask.add(sums, masked, first, second, 0)
        chi = second.relation(0)
        for lane, limbs in enumerate(tensors.upper):
            # the update's part of `masked`: 2^nu 2^(lane bits) sum mu^(offset + i) x_i, x = sum of limbs - bound
            scale = ext_mul(chi, masked.message_scale(first.mu, lane))
            length = limbs[0].length
            for number, limb in enumerate(limbs):
                sums.powers(limb, first.mu, ext_mul(scale, (1 << (LIMB_BITS * number), 0)))
            total = power_sum(first.mu, length)
            sums.constant(ext_mul(scale, ext_mul((-masked.entry_bound % P, 0), total)))
        for lane, lower in enumerate(tensors.lower):
            # (x + bound) + (bound - x) = 2 bound, entry by entry
            chi = second.relation(_LANES + lane)
            for limbs in (tensors.upper[lane], lower):
                for number, limb in enumerate(limbs):
                    sums.powers(limb, second.tau, ext_mul(chi, (1 << (LIMB_BITS * number), 0)))
            total = power_sum(second.tau, lower[0].length)
            sums.constant(ext_mul(chi, ext_mul((-2 * masked.entry_bound % P, 0), total)))
        if tensors.slack is not None and statement.norm_bound is not None:
            _add_norm(sums, statement, tensors, tensors.slack, second.relation(_NORM))
        if tensors.score is not None and statement.score is not None:
            chi = second.relation(_SCORE)
            _add_inner_product(sums, statement, tensors, statement.score.demand.direction, chi)
            tensors.score.add(sums, statement.score, chi, second.relation(_SCORE + 1))

    return text


def _add_inner_product(
    sums: Sums, statement: BoundedStatement, tensors: _Tensors, direction: IntArray, chi: Ext
) -> None:
    """<v, x>, x = sum of limbs - bound; the row count behind the entries has no direction."""
    masked = statement.masked
    v = np.append(direction, 0)
    for lane, limbs in enumerate(tensors.upper):
        part = signed(v[lane * masked.slots : lane * masked.slots + limbs[0].length])
        weights = ext_scale(np.stack([part, np.zeros_like(part)]), chi)
        for number, limb in enumerate(limbs):
            sums.vector(limb, ext_scale(weights, (1 << (LIMB_BITS * number), 0)))
    sums.constant(ext_mul(chi, (-masked.entry_bound * int(v.sum()) % P, 0)))


def _add_norm(sums: Sums, statement: BoundedStatement, tensors: _Tensors, slack: Flat, chi: Ext) -> None:
    """sum (u - bound)^2 + slack = norm_bound^2, u the kept entries."""
    bound = statement.masked.entry_bound
    for (flat,) in tensors.upper:
        sums.entries(flat, chi, squared=True)
        sums.entries(flat, ext_mul(chi, (-2 * bound % P, 0)))
        sums.constant(ext_mul(chi, (flat.length * bound * bound % P, 0)))
    powers = np.array([1 << (NORM_LIMB_BITS * limb) for limb in range(slack.length)], np.uint64)
    sums.vector(slack, ext_scale(np.stack([powers, np.zeros_like(powers)]), chi))
    norm_bound = statement.norm_bound or 0
    sums.constant(ext_sub((0, 0), ext_mul(chi, (norm_bound**2 % P, 0))))


def _program(statement: BoundedStatement) -> tuple[Program, _Tensors]:
    tensors = _declare(statement)
    text = _text(statement, tensors)
    relations = _SCORE if statement.score is None else _SCORE + SCORE_RELATIONS
    roots = () if statement.seed_root is None else (statement.seed_root,)
    return Program(tensors.layout, statement.fields(), relations, text, key_rows=6, data_roots=roots), tensors


@dataclass(frozen=True, eq=False)
class _Witness:
    statement: BoundedStatement
    tensors: _Tensors
    secrets: KeySecrets
    update: IntArray
    seed: int = 0

    def trace(self, messages: FieldArray) -> None:
        masked, layout = self.statement.masked, self.tensors.layout
        self.tensors.mask.fill(layout, messages, self.secrets)
        for lane, limbs in enumerate(self.tensors.upper):
            part = self.update[lane * masked.slots : lane * masked.slots + limbs[0].length]
            _place_limbs(layout, messages, limbs, part + masked.entry_bound)
        for lane, limbs in enumerate(self.tensors.lower):
            part = self.update[lane * masked.slots : lane * masked.slots + limbs[0].length]
            _place_limbs(layout, messages, limbs, masked.entry_bound - part)
        if self.tensors.slack is not None and self.statement.norm_bound is not None:
            rest = self.statement.norm_bound**2 - _square(self.update)
            if rest < 0:
                raise UnprovableError(f"the update's norm exceeds {self.statement.norm_bound}")
            limbs_of = [
                rest >> (NORM_LIMB_BITS * i) & ((1 << NORM_LIMB_BITS) - 1) for i in range(self.tensors.slack.length)
            ]
            place_flat(layout, messages, self.tensors.slack, np.array(limbs_of, np.uint64))
        if self.tensors.score is not None and self.statement.score is not None:
            total = self.statement.score.demand.inner_product(self.update)
            self.tensors.score.fill(layout, messages, self.statement.score, self.seed, total)

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        """No products."""

    def key_values(self, point: Ext) -> FieldArray:
        return key_values(self.secrets, point)


def _square(values: IntArray) -> int:
    """Return the sum of squares; entries that are looked up whole keep a part's sum below 2^53."""
    return sum(int(part @ part) for part in np.array_split(values, -(-values.size // (1 << 16))))


def _place_limbs(layout: Layout, messages: FieldArray, limbs: list[Flat], values: IntArray) -> None:
    if len(limbs) == 1:
        place_flat(layout, messages, limbs[0], values.view(np.uint64))
        return
    for number, limb in enumerate(limbs):
        part = (values >> np.int64(LIMB_BITS * number)) & np.int64((1 << LIMB_BITS) - 1)
        place_flat(layout, messages, limb, part.view(np.uint64))


def prove_bounded(
    statement: BoundedStatement,
    update: IntArray,
    secrets: KeySecrets,
    random: Randomness,
    on_part: Callable[[str], None] = lambda _: None,
    seed: CommittedRows | None = None,
    allocate: Allocate = in_memory,
) -> Proved:
    """Return a proof that c masks `update`, entries in range; `seed` is the registered commitment of a scored one.

    Raises:
        UnprovableError: an entry or the norm is out of bounds, or c does not mask this update, or the score is another.
    """
    if (None if seed is None else seed.root) != statement.seed_root:
        raise UnprovableError("the committed seed is not that of the statement")
    program, tensors = _program(statement)
    drawn = 0 if seed is None else committed_seed(seed)
    data = () if seed is None else (seed,)
    return prove(program, _Witness(statement, tensors, secrets, update, drawn), data, random, on_part, allocate)


def verify_bounded(statement: BoundedStatement, proof: bytes) -> FirstChallenges:
    """Check a proof of `prove_bounded`; return the key's point and the values that the report must confirm.

    Raises:
        ProofRejectedError: it does not show the statement.
    """
    program, _ = _program(statement)
    return verify(program, proof)
