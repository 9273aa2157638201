"""Relation `score`: a public number is the noisy inner product of the masked update x with a public direction v.

  S = <v, x> = 2^shift (y - noise) + R,  0 <= R < 2^shift,  noise = table[(seed + beacon) mod SEEDS]

The row count, x's last entry, has no direction. The seed stands in the registered tree, committed before the beacon is
known, and the beacon turns the table, so that neither side chooses the noise: seed and noise are looked up as a pair
in the turned table. In `bounded` S is a sum over the committed entries. In `training` x is not committed, and
2^nu S = <v, c> - <A^T v, s> - <v, e> over the coefficients that carry entries. docs/spec/proofs.md, section 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import mul as times
from statistics import NormalDist

import numpy as np

from collegium.algebra import Ext, FieldArray, P, add, decode_signed, dot, ext_mul, scale

from ._errors import StatementError, UnprovableError
from ._expressions import signed
from ._layout import Flat, Layout
from ._masked import (
    CHECK_BLOCKS,
    NOISE_BOUND,
    RING,
    IntArray,
    KeySecrets,
    MaskedUpdate,
    MaskTensors,
    place_flat,
    transposed_sum,
)
from ._sums import Sums

__all__ = ["DIRECTION_MAX", "SCORE_RELATIONS", "SEEDS", "MaskedDirection", "Score", "ScoreDemand", "ScoreTensors"]

SEEDS = 4096
DIRECTION_MAX = 1 << 15
SHIFT_MAX = 48
SIGMA_MAX = 1 << 20
SCORE_RELATIONS = 2
_QUANTILE_BITS = 24
_LIMB_BITS = 8


@dataclass(frozen=True, eq=False)
class ScoreDemand:
    """What a round asks of every update.

    Attributes:
        direction: v, one entry for each entry of the update but the row count, at most 2^15 in magnitude.
        shift: y counts units of 2^shift of <v, x>.
        sigma: standard deviation of the noise in units of y; 0 for none.
        beacon: turns the table of the noise, 0 to SEEDS - 1; drawn after the seeds are committed.

    Raises:
        StatementError: a number is out of bounds.
    """

    direction: IntArray
    shift: int
    sigma: int
    beacon: int

    def __post_init__(self) -> None:
        v = self.direction
        if v.dtype != np.int64 or v.ndim != 1 or not v.size or max(int(v.max()), -int(v.min())) > DIRECTION_MAX:
            raise StatementError(
                f"a direction has type {v.dtype} and shape {v.shape}, expected int64 entries up to {DIRECTION_MAX}"
            )
        if not (0 <= self.shift <= SHIFT_MAX and 0 <= self.sigma <= SIGMA_MAX and 0 <= self.beacon < SEEDS):
            raise StatementError(
                f"a score's shift is {self.shift}, its sigma {self.sigma} and its beacon {self.beacon}, "
                f"expected 0 to {SHIFT_MAX}, 0 to {SIGMA_MAX} and 0 to {SEEDS - 1}"
            )

    def noise(self, seed: int) -> int:
        """Return the noise that a committed seed leads to."""
        return noise_table(self.sigma)[(seed + self.beacon) % SEEDS]

    def score(self, update: IntArray, seed: int) -> Score:
        """Return the score of an update (row count included) under a committed seed."""
        return Score(self, (self.inner_product(update) >> self.shift) + self.noise(seed))

    def inner_product(self, update: IntArray) -> int:
        """Return <v, x>.

        Raises:
            UnprovableError: the update has another length.
        """
        if update.shape != (len(self.direction) + 1,):
            raise UnprovableError(f"an update of shape {update.shape} meets {len(self.direction)} directions")
        return sum(map(times, self.direction.tolist(), update[:-1].tolist()))


@dataclass(frozen=True, eq=False)
class Score:
    """A demand and the number `value` that is proved to answer it: y."""

    demand: ScoreDemand
    value: int

    def check(self, masked: MaskedUpdate) -> None:
        """Refuse numbers for which the relation could wrap around the field.

        Raises:
            StatementError: the direction has another length, or the largest sum reaches the field's size.
        """
        demand = self.demand
        if len(demand.direction) != masked.entries - 1:
            raise StatementError(f"{len(demand.direction)} directions for {masked.entries} entries, expected one less")
        reach = int(np.abs(demand.direction).sum()) * masked.entry_bound
        largest = reach + (abs(self.value) + noise_table(demand.sigma)[-1] + 1 << demand.shift)
        if largest >= P:
            raise StatementError(f"a score of {self.value} and products up to {reach} may reach {largest} of {P}")

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds."""
        demand = self.demand
        size = abs(self.value)
        return (
            b"score", demand.direction.astype("<i4").tobytes(), demand.shift, demand.sigma, demand.beacon,
            size, int(self.value < 0),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreTensors:
    """In the trace: the noise less the turned table's first entry, and the limbs of R and of 2^shift - 1 - R."""

    noise: Flat
    limbs: Flat
    first_noise: int

    @classmethod
    def declare(cls, layout: Layout, score: Score, seed: Flat) -> ScoreTensors:
        """Declare them; `seed` stands in a registered tree."""
        demand = score.demand
        table = noise_table(demand.sigma)
        turned = table[demand.beacon :] + table[: demand.beacon]
        tensors = cls(
            layout.flat(layout.trace, 1),
            layout.flat(layout.trace, 2 * _limb_count(demand.shift)),
            turned[0],
        )
        layout.look_up(
            seed.rows, layout.table(SEEDS, [(entry - turned[0]) % P for entry in turned]), tensors.noise.rows
        )
        layout.look_up(tensors.limbs.rows, layout.table(1 << _LIMB_BITS))
        return tensors

    def add(self, sums: Sums, score: Score, weight: Ext, chi: Ext) -> None:
        """Add weight x (- 2^shift (y - noise) - R) and chi x (R + (2^shift - 1 - R) = 2^shift - 1)."""
        shift = score.demand.shift
        count = _limb_count(shift)
        sums.constant(ext_mul(weight, ((self.first_noise - score.value << shift) % P, 0)))
        sums.vector(self.noise, _ext([1 << shift], weight))
        powers = [1 << (_LIMB_BITS * limb) for limb in range(count)]
        values = _ext([-power for power in powers] + [0] * count, weight)
        sums.vector(self.limbs, add(values, _ext(powers * 2, chi)))
        sums.constant(ext_mul(chi, ((1 - (1 << shift)) % P, 0)))

    def fill(self, layout: Layout, messages: FieldArray, score: Score, seed: int, total: int) -> None:
        """Write noise and remainder of an inner product `total`."""
        demand, mask = score.demand, (1 << _LIMB_BITS) - 1
        place_flat(layout, messages, self.noise, signed(np.array([demand.noise(seed) - self.first_noise])))
        rest = total & (1 << demand.shift) - 1
        parts = [
            value >> (_LIMB_BITS * limb) & mask
            for value in (rest, (1 << demand.shift) - 1 - rest)
            for limb in range(_limb_count(demand.shift))
        ]
        place_flat(layout, messages, self.limbs, np.array(parts, np.uint64))


@dataclass(frozen=True, eq=False)
class MaskedDirection:
    """The direction among c's coefficients, one lane: 2^nu <v, x> = <v, c> - <A^T v, s> - <v, e>."""

    masked: MaskedUpdate
    direction: IntArray

    @cached_property
    def coefficients(self) -> FieldArray:
        """v at the coefficients that carry entries, (blocks, RING)."""
        out = np.zeros(self.masked.ciphertext.size, np.int64)
        start = CHECK_BLOCKS * RING
        out[start : start + len(self.direction)] = self.direction
        return signed(out).reshape(-1, RING)

    @cached_property
    def transposed(self) -> FieldArray:
        """A^T v, (RING,)."""
        return transposed_sum(self.masked.matrix, self.coefficients)

    def add(self, sums: Sums, mask: MaskTensors, weight: Ext) -> None:
        """Add weight x 2^nu <v, x>."""
        minus = ext_mul(weight, (P - 1, 0))
        v = self.coefficients.reshape(-1)
        sums.vector(mask.messages, _scaled(self.transposed, minus))
        sums.vector(mask.noise, _scaled(v, minus))
        total = int(dot(v, self.masked.ciphertext.reshape(-1))) + NOISE_BOUND * int(self.direction.sum())
        sums.constant(ext_mul(weight, (total % P, 0)))

    def inner_product(self, secrets: KeySecrets) -> int:
        """Return <v, x> as an integer."""
        v = self.coefficients.reshape(-1)
        masked = int(dot(v, self.masked.ciphertext.reshape(-1)))
        masked -= int(dot(self.transposed, secrets.key)) + int(dot(v, signed(secrets.noise.reshape(-1))))
        unmasked = masked * pow(2, -self.masked.noise_bits, P) % P
        return int(decode_signed(np.array([unmasked], np.uint64))[0])


@lru_cache(maxsize=8)
def noise_table(sigma: int) -> tuple[int, ...]:
    """Return the SEEDS noises, ascending: round(sigma z) of the normal quantiles z at (i + 1/2) / SEEDS, symmetric."""
    half = 1 << (_QUANTILE_BITS - 1)
    upper = [(sigma * quantile + half) >> _QUANTILE_BITS for quantile in quantiles()]
    return (*(-noise for noise in reversed(upper)), *upper)


@lru_cache(maxsize=1)
def quantiles() -> tuple[int, ...]:
    """Return round(2^24 z) of the SEEDS / 2 positive quantiles.

    None is within 10^-5 of a half, hundreds of times the error of a float here, so that all machines round alike.
    """
    normal, half = NormalDist(), SEEDS // 2
    return tuple(round(normal.inv_cdf((half + i + 0.5) / SEEDS) * (1 << _QUANTILE_BITS)) for i in range(half))


def _limb_count(shift: int) -> int:
    return max(1, -(-shift // _LIMB_BITS))


def _ext(values: Sequence[int], weight: Ext) -> FieldArray:
    return _scaled(np.array([value % P for value in values], np.uint64), weight)


def _scaled(values: FieldArray, weight: Ext) -> FieldArray:
    """Return elements of F times an element of K, (2, n)."""
    return np.stack([scale(values, weight[0]), scale(values, weight[1])])
