"""The dispute machine, compiled; `_machine_plain.machine_step` says what each instruction does.

Kernels trust their caller: arrays are C-contiguous, of the types that `_machine` gives them.
"""

import numpy as np
from numba import njit, uint32, uint64

from collegium.algebra import jit_add, jit_mul, jit_sub
from collegium.commitment import jit_compress
from collegium.settlement.programs import ROTATIONS, ROUND_CONSTANTS

DONE, GROW, STUCK = 0, 1, 2  # why a slice ended: no steps left or halted; memory too small; a preimage unknown
MARK = 3  # of a leaf that was written: 1 until its digest is computed again, 2 until it is in a snapshot

_P = 0xFFFFFFFF00000001
_MEMORY = 1 << 28
_HALF = 0xFFFFFFFF
NO_OP = 255  # in place of an op that the machine does not have
_TRAP = (1 << 64) - 1  # in place of an address that is needed
_UNKNOWN = _TRAP - 1
_ROUNDS = np.array(ROUND_CONSTANTS, np.uint64)
_TURNS = np.array(ROTATIONS, np.uint64)
_NEXT = np.array([y + 5 * ((2 * x + 3 * y) % 5) for y in range(5) for x in range(5)], np.uint64)  # pi, by lane
_BSWAP = (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF)


@njit(inline="always")
def _mul_high(a, b):
    half = uint64(_HALF)
    a_low, a_high, b_low, b_high = a & half, a >> uint64(32), b & half, b >> uint64(32)
    middle = a_high * b_low + ((a_low * b_low) >> uint64(32))
    across = a_low * b_high + (middle & half)
    return a_high * b_high + (middle >> uint64(32)) + (across >> uint64(32))


@njit(inline="always")
def _reduced(a):
    return a - uint64(_P) if a >= uint64(_P) else a


@njit(inline="always")
def _swapped(a):
    a = ((a & uint64(_BSWAP[0])) << uint64(8)) | ((a >> uint64(8)) & uint64(_BSWAP[0]))
    a = ((a & uint64(_BSWAP[1])) << uint64(16)) | ((a >> uint64(16)) & uint64(_BSWAP[1]))
    return (a << uint64(32)) | (a >> uint64(32))


@njit(inline="always")
def _computed(op, a, b):  # noqa: PLR0911, PLR0912 - a switch over what the machine has
    """The value of an instruction from ADD to FMUL; the divisor is not zero."""
    if op == 4:
        return a + b
    if op == 5:
        return a - b
    if op == 6:
        return a * b
    if op == 7:
        return _mul_high(a, b)
    if op == 8:
        return a // b
    if op == 9:
        return a % b
    if op == 10:
        return a & b
    if op == 11:
        return a | b
    if op == 12:
        return a ^ b
    if op == 13:
        return a << b if b < uint64(64) else uint64(0)
    if op == 14:
        return a >> b if b < uint64(64) else uint64(0)
    if op == 15:
        return uint64(np.int64(a) >> np.int64(min(b, uint64(63))))
    if op == 16:
        return uint64(1) if a < b else uint64(0)
    if op == 17:
        return uint64(1) if np.int64(a) < np.int64(b) else uint64(0)
    if op == 18:
        return uint64(1) if a == b else uint64(0)
    if op == 19:
        return jit_add(_reduced(a), _reduced(b))
    if op == 20:
        return jit_sub(_reduced(a), _reduced(b))
    return jit_mul(_reduced(a), _reduced(b))


@njit(nogil=True)
def _sha256(words, frame, scratch):
    chain, w = scratch[0], scratch[1]
    for i in range(4):
        word = words[frame + uint64(i)]
        chain[2 * i] = uint32(word >> uint64(32))
        chain[2 * i + 1] = uint32(word)
    for i in range(8):
        word = words[frame + uint64(4 + i)]
        w[2 * i] = uint32(word >> uint64(32))
        w[2 * i + 1] = uint32(word)
    jit_compress(chain, w)
    for i in range(4):
        words[frame + uint64(12 + i)] = (uint64(chain[2 * i]) << uint64(32)) | uint64(chain[2 * i + 1])


@njit(nogil=True)
def _keccak(words, frame, scratch):
    a, b, parity = scratch[2], scratch[3], scratch[4]
    for i in range(25):
        a[i] = words[frame + uint64(i)]
    for number in range(24):
        for x in range(5):
            parity[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20]
        for x in range(5):
            one = parity[(x + 1) % 5]
            theta = parity[(x + 4) % 5] ^ ((one << uint64(1)) | (one >> uint64(63)))
            for y in range(0, 25, 5):
                lane, turn = a[x + y] ^ theta, _TURNS[x + y]
                b[_NEXT[x + y]] = (lane << turn) | (lane >> ((uint64(64) - turn) & uint64(63)))
        for y in range(0, 25, 5):
            for x in range(5):
                a[x + y] = b[x + y] ^ (~b[(x + 1) % 5 + y] & b[(x + 2) % 5 + y])
        a[0] ^= _ROUNDS[number]
    for i in range(25):
        words[frame + uint64(i)] = a[i]


@njit(nogil=True)
def _same(left, right):
    return left[0] == right[0] and left[1] == right[1] and left[2] == right[2] and left[3] == right[3]


@njit(cache=True, nogil=True)
def insert_stretches(table, outs):
    """Enter digests' numbers in a table, -1 where it is empty; of several that are equal, the first."""
    mask = uint64(table.shape[0] - 1)
    for i in range(outs.shape[0]):
        slot = outs[i, 0] & mask  # as good as random
        while table[slot] >= 0 and not _same(outs[table[slot]], outs[i]):
            slot = (slot + uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = i


@njit(cache=True, nogil=True)
def find_stretch(table, outs, digest):
    """The number of the stretch that ends in a digest, -1 if none does."""
    mask = uint64(table.shape[0] - 1)
    slot = digest[0] & mask
    while table[slot] >= 0 and not _same(outs[table[slot]], digest):
        slot = (slot + uint64(1)) & mask
    return table[slot]


@njit(nogil=True)
def _combine(plain, words, marks, x, y, c):
    """Do an instruction with operands a, b, c at places that are there; return a place that is needed, 0 if none."""
    size = uint64(words.shape[0])
    if plain < 22:
        if c == uint64(0) and 8 <= plain <= 9:
            return uint64(_TRAP)
        words[x] = _computed(plain, words[y], c)
        marks[x >> uint64(5)] = MARK
        return uint64(0)
    z = words[y] + c
    if z >= size:
        return z
    if plain == 23:
        words[x] = words[z]
        marks[x >> uint64(5)] = MARK
    else:
        words[z] = words[x]
        marks[z >> uint64(5)] = MARK
    return uint64(0)


@njit(nogil=True)
def _on_frame(op, words, marks, frame, stretches, scratch):
    """Do SHA256, PREIMAGE or KECCAK; return a place that is needed, 0 if none, or that the preimage is unknown."""
    if frame & uint64(31) or frame >= uint64(_MEMORY):
        return uint64(_TRAP)  # which no frame is
    if frame >= uint64(words.shape[0]):
        return frame
    if op == 30:
        _sha256(words, frame, scratch)
    elif op == 32:
        _keccak(words, frame, scratch)
    else:
        table, outs, values, blocks = stretches
        number = find_stretch(table, outs, words[frame + uint64(12) : frame + uint64(16)])
        if number < 0:
            return uint64(_UNKNOWN)
        for j in range(4):
            words[frame + uint64(j)] = values[number, j]
        for j in range(8):
            words[frame + uint64(4 + j)] = blocks[number, j]
    marks[frame >> uint64(5)] = MARK
    return uint64(0)


@njit(nogil=True)
def _one_place(op, b, x, y, words, marks):
    """Do SET, MOVE or BSWAP; return a place that is needed, 0 if none."""
    highest = x if op == 2 else max(x, y)
    if highest >= uint64(words.shape[0]):
        return highest
    if op == 2:
        words[x] = b
    else:
        words[x] = words[y] if op == 3 else _swapped(words[y])
    marks[x >> uint64(5)] = MARK
    return uint64(0)


@njit(nogil=True)
def _linked(words, marks, frame, back, fp):
    """Do CALL's two writes; return a place that is needed, 0 if none."""
    link = frame + uint64(1)
    if max(frame, link) >= uint64(words.shape[0]):
        return max(frame, link)
    words[frame] = back
    words[link] = fp
    marks[frame >> uint64(5)] = MARK
    marks[link >> uint64(5)] = MARK
    return uint64(0)


@njit(nogil=True)
def _scratch():
    """What SHA256 needs, a value and a schedule, and KECCAK: lanes, lanes that moved, and parities."""
    lanes = np.empty(25, np.uint64)
    return np.empty(8, np.uint32), np.empty(64, np.uint32), lanes, np.empty_like(lanes), np.empty(5, np.uint64)


@njit(cache=True, nogil=True)
def run_slice(ops, operands, registers, words, marks, stretches, steps):  # noqa: PLR0912, PLR0915 - a switch over ops
    """Do at most so many steps; return how many were done.

    `registers`: status, pc, fp, then why the slice ended and, for GROW, the highest address that is needed. `words` may
    be only the lower part of memory: above is zero. `stretches`: a table of places, a power of two, and of each stretch
    the digest (count, 4), the value before it (count, 4) and the block (count, 8).
    """
    count, reason, status = 0, DONE, 0
    pc, fp, needed = registers[1], registers[2], uint64(0)
    size, length = uint64(words.shape[0]), uint64(ops.shape[0])
    scratch = _scratch()
    while count < steps and status == 0:
        op = np.int64(ops[pc]) if pc < length else np.int64(NO_OP)
        if op == NO_OP:
            status = 2
            count += 1
            break
        a, b, c = operands[pc, 0], operands[pc, 1], operands[pc, 2]
        plain, following = op & 63, pc + uint64(1)
        x, y, frame = fp + a, fp + b, fp
        if 4 <= plain <= 24 and plain != 22:
            needed = max(x, y)
            if op < 64:
                z = fp + c
                needed = max(needed, z)
                c = words[z] if z < size else uint64(0)
            if needed < size:
                needed = _combine(plain, words, marks, x, y, c)
        elif 26 <= plain <= 27:
            needed = y
            if y < size and (words[y] == uint64(0)) == (plain == 26):
                following = a
        elif plain == 25:
            following = a
        elif plain == 28:
            needed = _linked(words, marks, y, following, fp)
            following, frame = a, y
        elif plain == 29:
            needed = max(fp, fp + uint64(1))
            if needed < size:
                following, frame = words[fp], words[fp + uint64(1)]
        elif plain >= 30:
            needed = x
            if needed < size:
                frame_at = words[x]
                needed = _on_frame(plain, words, marks, frame_at, stretches, scratch)
                if needed == uint64(_UNKNOWN):
                    reason, needed = STUCK, frame_at
                    break
        elif plain >= 2:
            needed = _one_place(plain, b, x, y, words, marks)
        else:
            status = 1 if plain == 1 else 2
        if needed < size:
            pc, fp = following, frame
        elif needed >= uint64(_MEMORY):
            status = 2
        else:
            reason = GROW
            break
        count += 1
        needed = uint64(0)
    registers[0], registers[1], registers[2], registers[3], registers[4] = (
        uint64(status),
        pc,
        fp,
        uint64(reason),
        needed,
    )
    return count
