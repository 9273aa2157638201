"""Masking with a ring-LWE key stream: c = A s + e + 2^nu m, and what it takes to unmask a sum exactly.

R = F[X] / (X^4096 + 1). A is public, expanded from the round's seed and kept in the transform's domain; s is uniform,
32 KiB whatever the model's size; e is centred binomial. Specified in docs/spec/aggregation.md, section 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import shake_128

import numpy as np
import numpy.typing as npt

from collegium import algebra
from collegium.crypto import Digest, Randomness
from collegium.errors import CollegiumError

from ._parameters import CHECK_BLOCKS, NOISE_BOUND, RING_DIMENSION, Budget, Layout

__all__ = [
    "EntryOutOfRangeError",
    "MalformedCiphertextError",
    "SumInvalidError",
    "decode_ciphertext",
    "draw_noise",
    "encode_ciphertext",
    "mask",
    "mask_under",
    "public_matrix",
    "sample_noise",
    "unmask",
    "weighted_total",
]

FieldArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

_COINS_BYTES = 32  # 256 random bits a noise coefficient, of which 254 are counted
_COINS_MASK = np.uint64((1 << 62) - 1)
_BLOCKS_AT_ONCE = 4  # the coins of four blocks, 512 KiB, stay in a second-level cache
_SPARE_WORDS = 16  # a word is at or above p with probability 2^-32: sixteen spares are practically always enough


class EntryOutOfRangeError(CollegiumError):
    """An update has another length than the task's, or an entry beyond the task's bound."""


class MalformedCiphertextError(CollegiumError):
    """Bytes that should be a masked update have another length or an element that is not below p."""


class SumInvalidError(CollegiumError):
    """The unmasked total is not a sum of well-formed updates under this key sum."""


@lru_cache(maxsize=4)
def public_matrix(seed: Digest, blocks: int) -> FieldArray:
    """Return A_1 ... A_blocks in the transform's domain, (blocks, 4096): public, uniform, fixed by `seed`.

    Block j is the first 4096 words below p of SHAKE128(seed || j as 8 bytes), words and j little endian.
    """
    matrix = np.empty((blocks, RING_DIMENSION), np.uint64)
    for block in range(blocks):
        matrix[block] = _uniform_block(seed + block.to_bytes(8, "little"))
    matrix.setflags(write=False)
    return matrix


def sample_noise(random: Randomness, count: int) -> IntArray:
    """Return `count` centred binomial samples: heads among 254 coins, less 127; |e| <= 127, variance 63.5."""
    coins = np.frombuffer(random(_COINS_BYTES * count), "<u8").reshape(count, 4).T
    heads = np.bitwise_count(coins[3] & _COINS_MASK)
    for word in coins[:3]:
        heads += np.bitwise_count(word)  # bytes: 254 fits
    noise: IntArray = heads.astype(np.int64) - NOISE_BOUND
    return noise


def mask(layout: Layout, seed: Digest, key: FieldArray, update: IntArray, random: Randomness) -> FieldArray:
    """Return c (blocks, 4096) hiding `update` (entries) under `key` (4096 coefficients of F).

    Raises:
        EntryOutOfRangeError: when the update's length or an entry is not what the task allows.
    """
    return mask_under(layout, seed, key, update, draw_noise(layout, random))


def draw_noise(layout: Layout, random: Randomness) -> IntArray:
    """Return the noise of one ciphertext, (blocks, 4096)."""
    noise = np.empty((layout.blocks, RING_DIMENSION), np.int64)
    for start in range(0, layout.blocks, _BLOCKS_AT_ONCE):
        part = noise[start : start + _BLOCKS_AT_ONCE]
        part[:] = sample_noise(random, part.size).reshape(part.shape)
    return noise


def mask_under(layout: Layout, seed: Digest, key: FieldArray, update: IntArray, noise: IntArray) -> FieldArray:
    """Return c = A s + e + 2^nu m for the noise e (blocks, 4096), which a proof will be about.

    Raises:
        EntryOutOfRangeError: when the update's length or an entry is not what the task allows.
    """
    message = _pack(layout, update)
    masked = _key_stream(seed, layout.blocks, key)
    for start in range(0, layout.blocks, _BLOCKS_AT_ONCE):
        part = slice(start, start + _BLOCKS_AT_ONCE)
        hidden = (message[part] << layout.budget.noise_bits) + noise[part]
        masked[part] = algebra.add(masked[part], algebra.encode_signed(hidden))
    return masked


def unmask(layout: Layout, seed: Digest, key_sum: FieldArray, total: FieldArray, total_weight: int) -> IntArray:
    """Return the weighted sum of updates (entries) hidden in `total` (blocks, 4096) under `key_sum` (4096).

    The result checks itself: with any other key sum, a coefficient of the two check blocks, of the padding, of the
    noise or of a lane leaves its range (docs/spec/aggregation.md, section 4, says how surely).

    Raises:
        SumInvalidError: naming the part that is out of range.
    """
    budget = layout.budget
    opened = algebra.decode_signed(algebra.sub(total, _key_stream(seed, layout.blocks, key_sum)))
    half = np.int64(1 << (budget.noise_bits - 1))
    message = (opened + half) >> budget.noise_bits
    noise = opened - (message << budget.noise_bits)
    noise_max, noise_bound = int(np.abs(noise).max()), NOISE_BOUND * total_weight
    if noise_max > noise_bound:
        raise SumInvalidError(f"the opened sum's noise reaches {noise_max}, its weights allow {noise_bound}")
    if message[:CHECK_BLOCKS].any():
        raise SumInvalidError("a check block of the opened sum is not zero")
    return _unpack(layout, message[CHECK_BLOCKS:].reshape(-1), total_weight)


def weighted_total(ciphertexts: Iterable[FieldArray], weights: Sequence[int]) -> FieldArray:
    """Return sum_i weights[i] x ciphertexts[i]; memory: one ciphertext and its scaled copy."""
    total: FieldArray | None = None
    for ciphertext, weight in zip(ciphertexts, weights, strict=True):
        scaled = ciphertext if weight == 1 else algebra.scale(ciphertext, weight)
        total = scaled.copy() if total is None else algebra.add(total, scaled)
    if total is None:
        raise SumInvalidError("a sum needs at least one ciphertext")
    return total


def encode_ciphertext(ciphertext: FieldArray) -> bytes:
    """Return the canonical bytes of c: 8 bytes an element, little endian, block after block."""
    return algebra.to_bytes(ciphertext.reshape(-1))


def decode_ciphertext(layout: Layout, data: bytes) -> FieldArray:
    """Return c (blocks, 4096) from its bytes.

    Raises:
        MalformedCiphertextError: wrong length, or an element that is not below p.
    """
    expected = 8 * layout.blocks * RING_DIMENSION
    if len(data) != expected:
        raise MalformedCiphertextError(f"a masked update takes {expected} bytes, got {len(data)}", length=len(data))
    try:
        elements = algebra.from_bytes(data)
    except CollegiumError as error:
        raise MalformedCiphertextError(f"masked update: {error}") from error
    return elements.reshape(layout.blocks, RING_DIMENSION)


def _uniform_block(seed: bytes) -> FieldArray:
    words = RING_DIMENSION + _SPARE_WORDS
    while True:
        drawn = np.frombuffer(shake_128(seed).digest(8 * words), "<u8")
        kept = drawn[drawn < np.uint64(algebra.P)]
        if kept.size >= RING_DIMENSION:
            return kept[:RING_DIMENSION].astype(np.uint64)
        words *= 2


def _key_stream(seed: Digest, blocks: int, key: FieldArray) -> FieldArray:
    """Return A s: one negacyclic product a block."""
    transformed = algebra.negacyclic_ntt(np.ascontiguousarray(key.reshape(1, RING_DIMENSION)))
    matrix = public_matrix(seed, blocks)
    return algebra.negacyclic_intt(algebra.mul(matrix, np.broadcast_to(transformed, matrix.shape)))


def _pack(layout: Layout, update: IntArray) -> IntArray:
    """Return the message blocks (blocks, 4096): check blocks and padding zero, lanes side by side, signed."""
    budget: Budget = layout.budget
    if update.shape != (layout.entries,) or update.dtype != np.int64:
        raise EntryOutOfRangeError(
            f"an update is {layout.entries} int64 entries, got {update.dtype} of shape {update.shape}"
        )
    outside = np.flatnonzero((update < -budget.entry_bound) | (update > budget.entry_bound))
    if outside.size:
        first = int(outside[0])
        raise EntryOutOfRangeError(
            f"entry {first} is {int(update[first])}, the task allows +-{budget.entry_bound}", index=first
        )
    lanes = np.zeros(budget.lanes * layout.slots, np.int64)
    lanes[: layout.entries] = update
    message = np.zeros(layout.blocks * RING_DIMENSION, np.int64)
    body = message[CHECK_BLOCKS * RING_DIMENSION :]
    for lane in range(budget.lanes):
        body[: layout.slots] += lanes[lane * layout.slots : (lane + 1) * layout.slots] << (lane * budget.lane_bits)
    return message.reshape(layout.blocks, RING_DIMENSION)


def _unpack(layout: Layout, body: IntArray, total_weight: int) -> IntArray:
    budget = layout.budget
    bound = budget.entry_bound * total_weight
    if body[layout.slots :].any():
        raise SumInvalidError("the padding of the opened sum is not zero")
    rest = body[: layout.slots]
    lanes = []
    for lane in range(budget.lanes):
        if lane == budget.lanes - 1:
            value = rest
        else:
            half = np.int64(1 << (budget.lane_bits - 1))
            value = ((rest + half) & np.int64((1 << budget.lane_bits) - 1)) - half
            rest = (rest - value) >> budget.lane_bits
        if (value < -bound).any() or (value > bound).any():
            raise SumInvalidError(f"lane {lane} of the opened sum leaves +-{bound}", lane=lane)
        lanes.append(value)
    entries = np.concatenate(lanes)
    if entries[layout.entries :].any():
        raise SumInvalidError("the unused end of the last lane is not zero")
    return entries[: layout.entries]
