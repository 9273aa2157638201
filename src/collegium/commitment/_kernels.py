"""SHA-256 (FIPS 180-4) of many messages of one length at once: sixteen side by side, which compilers turn into vectors.

A call of `hashlib` for each message spends most of its time outside the compression function, and a tree has as many
messages as leaves. `_hashes.hash_rows_plain` says what the kernel computes.

The kernel trusts its caller: arrays are C-contiguous uint8 with as many rows as `out`. It reads and writes words as a
little-endian machine does.
"""

from math import isqrt

import numpy as np
from numba import njit, uint32

LANES = 16


def _primes(count):
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root_floor(n):
    low, high = 0, 1 << (n.bit_length() // 3 + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= n else (low, middle)
    return low


# 4.2.2 and 5.3.3: the first 32 bits of the fractional parts of the primes' cube and square roots.
_MASK = 0xFFFFFFFF
ROUND_CONSTANTS = np.array([_cube_root_floor(prime << 96) & _MASK for prime in _primes(64)], np.uint32)
START = np.array([isqrt(prime << 64) & _MASK for prime in _primes(8)], np.uint32)


@njit(inline="always")
def _rotate(x, count):
    return (x >> uint32(count)) | (x << uint32(32 - count))


@njit(inline="always")
def _swap_bytes(x):
    return (
        (x >> uint32(24))
        | ((x >> uint32(8)) & uint32(0xFF00))
        | ((x << uint32(8)) & uint32(0xFF0000))
        | (x << uint32(24))
    )


@njit(inline="always")
def _round(s, w, a, b, c, d, e, f, g, h, t, k):
    """One round of 6.2.2, step 3. Rows of `s` are the working variables; roles turn, not rows."""
    for lane in range(LANES):
        x = s[a, lane]
        y = s[e, lane]
        choice = s[g, lane] ^ (y & (s[f, lane] ^ s[g, lane]))
        majority = (x & s[b, lane]) | (s[c, lane] & (x | s[b, lane]))
        first = s[h, lane] + (_rotate(y, 6) ^ _rotate(y, 11) ^ _rotate(y, 25)) + choice + k + w[t, lane]
        s[d, lane] = s[d, lane] + first
        s[h, lane] = first + (_rotate(x, 2) ^ _rotate(x, 13) ^ _rotate(x, 22)) + majority


@njit(inline="always")
def _next_words(w, t):
    """Words t to t + 7 of the schedule (6.2.2, step 1) over those sixteen before, in a ring of sixteen rows."""
    for j in range(t, t + 8):
        new, early, middle, late = j & 15, (j + 1) & 15, (j + 9) & 15, (j + 14) & 15
        for lane in range(LANES):
            x = w[early, lane]
            y = w[late, lane]
            small0 = _rotate(x, 7) ^ _rotate(x, 18) ^ (x >> uint32(3))
            small1 = _rotate(y, 17) ^ _rotate(y, 19) ^ (y >> uint32(10))
            w[new, lane] = w[new, lane] + small0 + w[middle, lane] + small1


@njit(inline="always")
def _compress(chain, s, w):
    """6.2.2 for one block a lane: the schedule's first sixteen rows are in `w`, the chaining value in `chain`."""
    for i in range(8):
        for lane in range(LANES):
            s[i, lane] = chain[i, lane]
    for t in range(0, 64, 8):
        if t >= 16:
            _next_words(w, t)
        r = t & 15
        _round(s, w, 0, 1, 2, 3, 4, 5, 6, 7, r, ROUND_CONSTANTS[t])
        _round(s, w, 7, 0, 1, 2, 3, 4, 5, 6, r + 1, ROUND_CONSTANTS[t + 1])
        _round(s, w, 6, 7, 0, 1, 2, 3, 4, 5, r + 2, ROUND_CONSTANTS[t + 2])
        _round(s, w, 5, 6, 7, 0, 1, 2, 3, 4, r + 3, ROUND_CONSTANTS[t + 3])
        _round(s, w, 4, 5, 6, 7, 0, 1, 2, 3, r + 4, ROUND_CONSTANTS[t + 4])
        _round(s, w, 3, 4, 5, 6, 7, 0, 1, 2, r + 5, ROUND_CONSTANTS[t + 5])
        _round(s, w, 2, 3, 4, 5, 6, 7, 0, 1, r + 6, ROUND_CONSTANTS[t + 6])
        _round(s, w, 1, 2, 3, 4, 5, 6, 7, 0, r + 7, ROUND_CONSTANTS[t + 7])
    for i in range(8):
        for lane in range(LANES):
            chain[i, lane] = chain[i, lane] + s[i, lane]


@njit(cache=True, nogil=True)
def sha256_rows(padded, left, right, left_start, out):
    """Digests of messages that differ in `left` and `right` only, to `out` (count, 32).

    `padded` is one message with its padding; row i of `left` and then row i of `right` stand in it from `left_start`.
    """
    count = out.shape[0]
    right_start = left_start + left.shape[1]
    messages = np.empty((LANES, padded.shape[0]), np.uint8)
    for lane in range(LANES):
        messages[lane] = padded
    words = messages.view(np.uint32)
    digests = out.view(np.uint32)
    w = np.zeros((16, LANES), np.uint32)
    s = np.empty((8, LANES), np.uint32)
    chain = np.empty((8, LANES), np.uint32)
    for first in range(0, count, LANES):
        lanes = min(LANES, count - first)
        for lane in range(lanes):
            for i in range(left.shape[1]):
                messages[lane, left_start + i] = left[first + lane, i]
            for i in range(right.shape[1]):
                messages[lane, right_start + i] = right[first + lane, i]
        for i in range(8):
            chain[i] = START[i]
        for start in range(0, words.shape[1], 16):
            for t in range(16):
                for lane in range(LANES):
                    w[t, lane] = _swap_bytes(words[lane, start + t])
            _compress(chain, s, w)
        for lane in range(lanes):
            for i in range(8):
                digests[first + lane, i] = _swap_bytes(chain[i, lane])


@njit(cache=True, nogil=True)
def siblings_missing(positions, levels):
    """How many siblings the way from increasing positions to the root, `levels` up, cannot compute; overwrites them."""
    count = positions.shape[0]
    missing = 0
    for _ in range(levels):
        above = 0
        i = 0
        while i < count:
            position = positions[i]
            if position & 1 == 0 and i + 1 < count and positions[i + 1] == position + 1:
                i += 1
            else:
                missing += 1
            i += 1
            positions[above] = position >> 1
            above += 1
        count = above
    return missing


@njit(inline="always")
def jit_compress(chain, w):
    """6.2.2 for one block, the first sixteen of 64 words in `w`, which are overwritten; from `chain` to `chain`."""
    for t in range(16, 64):
        x = w[t - 15]
        y = w[t - 2]
        small0 = _rotate(x, 7) ^ _rotate(x, 18) ^ (x >> uint32(3))
        small1 = _rotate(y, 17) ^ _rotate(y, 19) ^ (y >> uint32(10))
        w[t] = w[t - 16] + small0 + w[t - 7] + small1
    a, b, c, d = chain[0], chain[1], chain[2], chain[3]
    e, f, g, h = chain[4], chain[5], chain[6], chain[7]
    for t in range(64):
        first = h + (_rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)) + (g ^ (e & (f ^ g)))
        first = uint32(first + ROUND_CONSTANTS[t] + w[t])
        second = (_rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)) + ((a & b) | (c & (a | b)))
        h, g, f, e = g, f, e, uint32(d + first)
        d, c, b, a = c, b, a, uint32(first + second)
    for i, value in enumerate((a, b, c, d, e, f, g, h)):
        chain[i] = chain[i] + value


@njit(cache=True, nogil=True)
def sha256_states(padded, out):
    """The chaining value after each block of one padded message, to `out` (blocks, 32): 6.2.2, block after block."""
    w = np.zeros(64, np.uint32)
    chain = START.copy()
    for block in range(out.shape[0]):
        for t in range(16):
            word = uint32(0)
            for i in range(4):
                word = (word << uint32(8)) | uint32(padded[64 * block + 4 * t + i])
            w[t] = word
        jit_compress(chain, w)
        for i in range(8):
            for j in range(4):
                out[block, 4 * i + j] = (chain[i] >> uint32(24 - 8 * j)) & uint32(0xFF)
