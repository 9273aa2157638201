"""Relation `masked`, part of every report: c = A s + e + 2^nu m with s the committed key and e in range.

At a random mu, sum_i mu^i (c_i - (A s)_i - e_i) = 2^nu sum_i mu^(offset + i) m_i over all coefficients of all blocks,
in order; check blocks and padding carry no m. The sum over the right side is the caller's: entries in range, or a
gradient. The key stands in its own matrix, which seats hold shares of. The trace holds a copy of its rows' messages
and pads; that the copy is the key shows at one more point: the copied polynomials take there the values that the report
confirms (docs/spec/proofs.md, section 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    add,
    evaluate_ext,
    ext_dot,
    ext_mul,
    ext_mul_array,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
    fold,
    mul,
    negacyclic_intt,
    negacyclic_ntt,
)
from collegium.crypto import Digest

from ._errors import StatementError
from ._layout import Flat, Layout
from ._program import FirstChallenges, SecondChallenges, lagrange_weights
from ._sums import Sums, power_sum

__all__ = ["MASK_RELATIONS", "Identity", "KeySecrets", "MaskTensors", "MaskedUpdate"]

RING = 4096
CHECK_BLOCKS = 2
NOISE_BOUND = 127
NOISE_BITS_MIN = NOISE_BOUND.bit_length() + 1
KEY_ROWS = 4
KEY_MATRIX_ROWS = 6  # with the two rows that mask the report's combination
MASK_RELATIONS = 1 + KEY_ROWS

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who says what to whom: bound by every proof, so that none can be copied or sent elsewhere.

    `terms` is the digest of the round's terms (task, round, model, beacon, seats, bounds), from which A follows. `rule`
    is the digest of the agreed training rule, `ciphertext` that of c's bytes, `key_root` that of the key matrix.
    """

    task: Digest
    round: int
    trainer: bytes
    terms: Digest
    model: Digest
    rule: Digest
    ciphertext: Digest
    key_root: Digest

    def fields(self) -> tuple[bytes | int, ...]:
        """Return the fields in their order in a transcript."""
        return (
            self.task,
            self.round,
            self.trainer,
            self.terms,
            self.model,
            self.rule,
            self.ciphertext,
            self.key_root,
        )


@dataclass(frozen=True, eq=False)
class MaskedUpdate:
    """The public side of a masked update.

    Attributes:
        entries: of the update; entry_bound: their largest magnitude; lanes, lane_bits, noise_bits: as the budget has
            them.
        matrix: A in the transform's domain (blocks, 4096), which the caller derives from the identity's terms.
        ciphertext: c (blocks, 4096), whose digest the identity names.
        key_message_len, key_randomness_len: of the key matrix's code.
    """

    identity: Identity
    entries: int
    entry_bound: int
    lanes: int
    lane_bits: int
    noise_bits: int
    matrix: FieldArray
    ciphertext: FieldArray
    key_message_len: int = RING // KEY_ROWS
    key_randomness_len: int = 4444

    def __post_init__(self) -> None:
        if self.matrix.shape != self.ciphertext.shape or self.ciphertext.ndim != 2 or self.matrix.shape[1] != RING:
            raise StatementError(
                f"A has shape {self.matrix.shape} and c {self.ciphertext.shape}, expected (blocks, {RING})"
            )
        room = (len(self.ciphertext) - CHECK_BLOCKS) * RING
        if self.lanes not in (1, 2) or not 0 < self.slots <= room:
            raise StatementError(f"{self.entries} entries in {self.lanes} lanes do not fit {room} coefficients")
        if self.noise_bits < NOISE_BITS_MIN:
            raise StatementError(f"{self.noise_bits} noise bits, expected at least {NOISE_BITS_MIN}")
        if sha256(np.ascontiguousarray(self.ciphertext, "<u8").data).digest() != self.identity.ciphertext:
            raise StatementError("c is not the one whose digest the identity names")
        if self.noise_bits + self.lanes * self.lane_bits > 63 or self.entry_bound >= 1 << (self.lane_bits - 1):
            raise StatementError(
                f"{self.noise_bits} + {self.lanes} x {self.lane_bits} bits for entries up to {self.entry_bound}: "
                "the field holds 63"
            )

    @property
    def slots(self) -> int:
        """Coefficients that carry entries."""
        return -(-self.entries // self.lanes)

    def fields(self) -> tuple[bytes | int, ...]:
        """Return what the transcript binds; c and A are bound through the digests of c and of the terms."""
        numbers = (self.entries, self.entry_bound, self.lanes, self.lane_bits, self.noise_bits, len(self.ciphertext))
        return (*self.identity.fields(), *numbers, self.key_message_len, self.key_randomness_len)

    def message_scale(self, mu: Ext, lane: int = 0) -> Ext:
        """Return 2^nu mu^offset 2^(lane x lane bits): what entry i of a lane carries beside mu^i."""
        power = ext_power(mu, CHECK_BLOCKS * RING)
        return ext_mul(power, (1 << (self.noise_bits + lane * self.lane_bits), 0))


@dataclass(frozen=True, eq=False)
class KeySecrets:
    """The private side: noise (blocks, 4096), and the six key-matrix rows' coefficients (6, k + t)."""

    noise: IntArray
    coefficients: FieldArray
    key: FieldArray


@dataclass(frozen=True, slots=True)
class MaskTensors:
    """Trace tensors of the relation: noise + 127, and the copied messages and pads of the four key rows."""

    noise: Flat
    messages: Flat
    pads: Flat

    @classmethod
    def declare(cls, layout: Layout, masked: MaskedUpdate) -> MaskTensors:
        """Declare them; the noise is looked up."""
        tensors = cls(
            layout.flat(layout.trace, masked.ciphertext.size),
            layout.flat(layout.trace, KEY_ROWS * masked.key_message_len),
            layout.flat(layout.trace, KEY_ROWS * masked.key_randomness_len),
        )
        layout.look_up(tensors.noise.rows, layout.table(2 * NOISE_BOUND + 1))
        return tensors

    def fill(self, layout: Layout, messages: FieldArray, secrets: KeySecrets) -> None:
        """Write the private side."""
        place_flat(layout, messages, self.noise, (secrets.noise.reshape(-1) + NOISE_BOUND).view(np.uint64))
        place_flat(layout, messages, self.messages, secrets.key)
        pads = _pads(secrets.coefficients[:KEY_ROWS], self.messages.length // KEY_ROWS)
        place_flat(layout, messages, self.pads, pads.reshape(-1))

    def add(
        self, sums: Sums, masked: MaskedUpdate, first: FirstChallenges, second: SecondChallenges, number: int
    ) -> None:
        """Add relations number ... number + 4, but for the update's part of the first: + 2^nu sum mu^.. m."""
        # masked: <A^T mu, s> + <mu, e> + (the update's part) = <mu, c>
        chi = second.relation(number)
        blocks = len(masked.ciphertext)
        block_weights = ext_powers(ext_power(first.mu, RING), blocks)
        inner = ext_powers(first.mu, RING)
        sums.powers(self.noise, first.mu, chi)
        everywhere = power_sum(first.mu, blocks * RING)
        sums.constant(ext_mul(chi, ext_mul((-NOISE_BOUND % P, 0), everywhere)))
        sums.constant(ext_sub((0, 0), ext_mul(chi, ext_dot(fold(masked.ciphertext, block_weights), inner))))
        key_weights = ext_scale(_transposed(fold(masked.matrix, block_weights), inner), chi)
        # the copy is the key: each row takes the claimed value at the key's point
        k, t = masked.key_message_len, masked.key_randomness_len
        at_message, at_pad = lagrange_weights(k, t, first.point)
        weights = [second.relation(number + 1 + row) for row in range(KEY_ROWS)]
        sums.vector(
            self.messages, add(key_weights, np.concatenate([ext_scale(at_message, w) for w in weights], axis=1))
        )
        sums.vector(self.pads, np.concatenate([ext_scale(at_pad, w) for w in weights], axis=1))
        for row, weight in enumerate(weights):
            claimed = int(first.key_values[0, row]), int(first.key_values[1, row])
            sums.constant(ext_sub((0, 0), ext_mul(weight, claimed)))


def key_values(secrets: KeySecrets, point: Ext) -> FieldArray:
    """Return the six key-matrix rows at a point, (2, 6)."""
    return np.asarray(evaluate_ext(secrets.coefficients, point), np.uint64)


def _pads(coefficients: FieldArray, k: int) -> FieldArray:
    """Return r of each p = interpolate(m) + (X^k - 1) r: coefficient k + j of p is r_j - r_(k + j)."""
    pads = np.ascontiguousarray(coefficients[:, k:])
    for start in range((pads.shape[1] - 1) // k * k - k, -1, -k):
        above = np.zeros((len(pads), k), np.uint64)
        part = pads[:, start + k : start + 2 * k]
        above[:, : part.shape[1]] = part
        pads[:, start : start + k] = add(np.ascontiguousarray(pads[:, start : start + k]), above)
    return pads


def place_flat(layout: Layout, messages: FieldArray, flat: Flat, values: FieldArray) -> None:
    """Write the entries of a vector; the slots behind them stay 0."""
    target = messages[layout.tree_slice(flat.rows.tree)][flat.rows.first : flat.rows.first + flat.rows.count]
    target.reshape(-1)[: values.size] = values


def _transposed(matrix: FieldArray, vector: FieldArray) -> FieldArray:
    """Return A^T v for the negacyclic A whose transform is `matrix`, both (2, 4096) over K.

    A^T is multiplication with A(1/X), whose transform is A's read backwards: the inverse of root w^(2 i + 1), at
    place j, is w^(2 (n - 1 - i) + 1), at place n - 1 - j.
    """
    backwards = np.ascontiguousarray(matrix[:, ::-1])
    return negacyclic_intt(ext_mul_array(backwards, negacyclic_ntt(vector)))


def transposed_sum(matrix: FieldArray, vectors: FieldArray) -> FieldArray:
    """Return sum_b A_b^T v_b over blocks, (RING,); `matrix` as A is kept, vectors (blocks, RING) of F."""
    products = mul(np.ascontiguousarray(matrix[:, ::-1]), negacyclic_ntt(vectors))
    one = np.zeros((2, len(matrix)), np.uint64)
    one[0] = 1
    return negacyclic_intt(np.ascontiguousarray(fold(products, one)[0]))
