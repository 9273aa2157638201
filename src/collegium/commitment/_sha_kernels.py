"""SHA-256 (FIPS 180-4) by the processor's own instructions, where it has them: three to eight times `_kernels`.

x86 processors since about 2017 do four rounds in two instructions (Intel, "SHA Extensions", 2013). LLVM offers them as
intrinsics, so a compiled loop hashes many messages without the interpreter and its lock. `AVAILABLE` says whether
this machine has them; where not, `_kernels` serves. Kernels trust their caller, as in `_kernels`.
"""

import numpy as np
from llvmlite import binding, ir
from numba import njit, types, uint64
from numba.core import cgutils
from numba.extending import intrinsic

from ._kernels import ROUND_CONSTANTS, START

_I8 = ir.IntType(8)
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, 4)


def _supported():
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # llvmlite knows the features of some processors only
        return False
    return bool(features.get("sha") and features.get("ssse3") and features.get("sse4.1"))


AVAILABLE = _supported()


_K = [int(word) for word in ROUND_CONSTANTS]
_START = START


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(_VECTOR, [ir.Constant(_I32, lane) for lane in lanes]))


def _call(builder, name, *arguments):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _emit_block(builder, state, block):
    """One compression (6.2.2): `state` points to eight words a, b, ..., h, `block` to 64 bytes."""

    def load(pointer, number):
        place = builder.gep(builder.bitcast(pointer, _VECTOR.as_pointer()), [ir.Constant(_I32, number)])
        loaded = builder.load(place)
        loaded.align = 4
        return loaded

    low, high = load(state, 0), load(state, 1)  # a b c d, e f g h
    before0 = _shuffle(builder, low, high, [5, 4, 1, 0])  # f e b a
    before1 = _shuffle(builder, low, high, [7, 6, 3, 2])  # h g d c
    state0, state1 = before0, before1
    words: list[ir.Value] = []
    for group in range(16):
        if group < 4:
            loaded = load(block, group)
            loaded.align = 1
            word = _call(builder, "llvm.bswap.v4i32", loaded)
        else:
            mixed = _call(builder, "llvm.x86.sha256msg1", words[group - 4], words[group - 3])
            across = _shuffle(builder, words[group - 2], words[group - 1], [1, 2, 3, 4])
            word = _call(builder, "llvm.x86.sha256msg2", builder.add(mixed, across), words[group - 1])
        words.append(word)
        constants = ir.Constant(_VECTOR, [ir.Constant(_I32, k) for k in _K[4 * group : 4 * group + 4]])
        message = builder.add(word, constants)
        state1 = _call(builder, "llvm.x86.sha256rnds2", state1, state0, message)
        message = _shuffle(builder, message, message, [2, 3, 2, 3])
        state0 = _call(builder, "llvm.x86.sha256rnds2", state0, state1, message)
    state0, state1 = builder.add(state0, before0), builder.add(state1, before1)
    for number, lanes in enumerate(([3, 2, 7, 6], [1, 0, 5, 4])):
        place = builder.gep(builder.bitcast(state, _VECTOR.as_pointer()), [ir.Constant(_I32, number)])
        builder.store(_shuffle(builder, state0, state1, lanes), place).align = 4


def _block(emit):
    """Return the operation (state, message, start): compress 64 bytes of a uint8 array into eight words, by `emit`."""

    @intrinsic
    def operation(_typing_context, state, message, start):
        def code(context, builder, signature, arguments):
            state_type, message_type, _ = signature.args
            state_data = context.make_array(state_type)(context, builder, arguments[0]).data
            message_data = context.make_array(message_type)(context, builder, arguments[1]).data
            block = builder.gep(builder.bitcast(message_data, _I8.as_pointer()), [arguments[2]])
            emit(builder, state_data, block)
            return context.get_dummy_value()

        return types.void(state, message, types.uint64), code

    return operation


_compress = _block(_emit_block)


@njit(inline="always")
def _hash(message, state, blocks, out):
    """The digest of a padded message of so many blocks, to the 32 bytes of `out`; `state` is overwritten."""
    for j in range(8):
        state[j] = _START[j]
    for block in range(blocks):
        _compress(state, message, block << uint64(6))
    for j in range(8):
        word = state[j]
        out[4 * j] = np.uint8(word >> np.uint32(24))
        out[4 * j + 1] = np.uint8((word >> np.uint32(16)) & np.uint32(255))
        out[4 * j + 2] = np.uint8((word >> np.uint32(8)) & np.uint32(255))
        out[4 * j + 3] = np.uint8(word & np.uint32(255))


@njit(cache=True, nogil=True)
def sha256_parts(start, stop, padded, left, low, high, right, place, out):
    """Digests of messages [start, stop) that differ in `left[i, low:high]` and then `right[i]`, from `place` on."""
    message = padded.copy()
    state = np.empty(8, np.uint32)
    width = uint64(high) - uint64(low)
    middle = uint64(place) + width
    blocks = uint64(message.shape[0]) >> uint64(6)
    for i in range(uint64(start), uint64(stop)):
        row = left[i]
        for j in range(width):
            message[uint64(place) + j] = row[uint64(low) + j]
        for j in range(uint64(right.shape[1])):
            message[middle + j] = right[i, j]
        _hash(message, state, blocks, out[i])


@njit(cache=True, nogil=True)
def climb(padded, place, positions, digests, proof, levels):
    """Leaves at `positions` to the root, `levels` up, which `digests[0]` becomes; both arrays are overwritten.

    `padded` is an inner node's message with its padding, its two digests from `place` on; `proof` has the siblings that
    are missing, in their order, as many as the positions take.
    """
    message = padded.copy()
    state = np.empty(8, np.uint32)
    blocks = uint64(message.shape[0]) >> uint64(6)
    first = uint64(place)
    second = first + uint64(32)
    count = positions.shape[0]
    used = 0
    for _ in range(levels):
        above = 0
        i = 0
        while i < count:
            position = positions[i]
            if position & 1:
                left, right = proof[used], digests[i]
                used += 1
            elif i + 1 < count and positions[i + 1] == position + 1:
                left, right = digests[i], digests[i + 1]
                i += 1
            else:
                left, right = digests[i], proof[used]
                used += 1
            i += 1
            for j in range(uint64(32)):
                message[first + j] = left[j]
                message[second + j] = right[j]
            _hash(message, state, blocks, digests[above])
            positions[above] = position >> 1
            above += 1
        count = above
