"""The losses of a training step: from the last sums Z to the last layer's errors (docs/spec/proofs.md, section 4.3).

What a loss declares stands in ten words: matrices, lists of limbs and offsets in the order of the page.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, bit_length, ext_mul, power_sum
from collegium.settlement.programs._plan import P_FRACTION_BITS, P_LOSS, P_LOSS_BITS, P_TABLE, step_plan, step_table
from collegium.settlement.programs._proof_cells import LABELS, LOSS_TENSORS, ONE, RHO, ROWS, TREES
from collegium.settlement.programs._proof_layout import constrain, grid, limbs, look_up_grid, look_up_pairs
from collegium.settlement.programs._proof_sums import (
    add_constant,
    add_samples,
    add_summand,
    expression,
    joined,
    of_grid,
    of_limbs,
    scaled,
    selected,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, fsub, memory

SQUARED = 1
SIGMOID = 2
SOFTMAX = 3
LOSS_RELATIONS = 5
LIMB_BITS = 12
SIGMOID_ENTRIES = 8192
EXPONENTIAL_ENTRIES = 4096
MINUS_ONE = FIELD - 1


def boolean(tensor: int) -> None:
    """Demand that a matrix holds zeros and ones."""
    constrain(1, tensor, tensor, MINUS_ONE, tensor)


def scale_bits() -> int:
    """Return s = 2 f - 8."""
    return 2 * step_plan(P_FRACTION_BITS) - 8


def declare_loss(outputs: int) -> int:
    """Declare the loss's tensors and return the expression of what it predicts."""
    memory[LOSS_TENSORS] = allocate(16)
    loss = step_plan(P_LOSS)
    if loss == SQUARED:
        return declare_squared(outputs)
    if loss == SIGMOID:
        return declare_sigmoid()
    assert loss == SOFTMAX
    return declare_softmax(outputs)


def declare_squared(outputs: int) -> int:
    """Declare R and Q + offset."""
    tensors, bits = memory[LOSS_TENSORS], step_plan(P_LOSS_BITS)
    memory[tensors] = limbs(memory[TREES], memory[ROWS], outputs, step_plan(P_FRACTION_BITS), LIMB_BITS)
    memory[tensors + 1] = limbs(memory[TREES], memory[ROWS], outputs, bits, LIMB_BITS)
    return of_limbs(memory[tensors + 1], fsub(0, 1 << (bits - 1)))


def declare_sigmoid() -> int:
    """Declare R, e, place, value, high, low."""
    tensors, trace, rows = memory[LOSS_TENSORS], memory[TREES], memory[ROWS]
    memory[tensors] = limbs(trace, rows, 1, scale_bits(), LIMB_BITS)
    memory[tensors + 1] = limbs(trace, rows, 1, step_plan(P_LOSS_BITS), LIMB_BITS)
    for index in range(2, 6):
        memory[tensors + index] = grid(trace, rows, 1)
    place, value, high, low = memory[tensors + 2], memory[tensors + 3], memory[tensors + 4], memory[tensors + 5]
    look_up_pairs(place, value, SIGMOID_ENTRIES, step_table())
    boolean(high)
    boolean(low)
    constrain(1, high, place, FIELD - (SIGMOID_ENTRIES - 1), high)
    constrain(1, low, place, 0, low)
    return of_grid(value, 1, step_plan(P_TABLE))


def declare_softmax(outputs: int) -> int:
    """Declare near, power, far, top, G, p; then R, M + offset, e, r, room."""
    tensors, trace, rows = memory[LOSS_TENSORS], memory[TREES], memory[ROWS]
    for index in range(6):
        memory[tensors + index] = grid(trace, rows, outputs)
    near, far, top = memory[tensors], memory[tensors + 2], memory[tensors + 3]
    bits, room_bits = step_plan(P_LOSS_BITS), bit_length(outputs * memory[ONE])
    memory[tensors + 6] = limbs(trace, rows, outputs, scale_bits(), LIMB_BITS)
    memory[tensors + 7] = limbs(trace, rows, 1, bits, LIMB_BITS)
    memory[tensors + 8] = limbs(trace, rows, outputs, bits, LIMB_BITS)
    memory[tensors + 9] = limbs(trace, rows, outputs, room_bits, LIMB_BITS)
    memory[tensors + 10] = limbs(trace, rows, outputs, room_bits, LIMB_BITS)
    look_up_pairs(near, memory[tensors + 1], EXPONENTIAL_ENTRIES, step_table())
    look_up_grid(memory[tensors + 5], memory[ONE] + 1)
    boolean(far)
    boolean(top)
    constrain(1, far, near, FIELD - (EXPONENTIAL_ENTRIES - 1), far)
    constrain(1, top, near, 0, top)
    constrain(1, top, far, 0, top)
    return of_grid(memory[tensors + 5], 1, 0)


def last_error(predicted: int) -> int:
    """Return D of the last layer: what is predicted less 2^f y."""
    return joined(predicted, of_grid(memory[LABELS], fsub(0, memory[ONE]), 0))


def z_vector(taus: int, outputs: int, chi: int) -> int:
    """Return the address of the weights of Z: tau^c times the first of the loss's chi."""
    return weighed(taus, outputs, memory[chi], memory[chi + 1])


def weighed(vector: int, count: int, a: int, b: int) -> int:
    """Return the address of a vector times a + b x."""
    made = allocate(2 * count)
    for index in range(count):
        c, d = ext_mul(memory[vector + 2 * index], memory[vector + 2 * index + 1], a, b)
        memory[made + 2 * index] = c
        memory[made + 2 * index + 1] = d
    return made


def alike(count: int, a: int, b: int) -> int:
    """Return the address of a vector whose entries are all a + b x."""
    made = allocate(2 * count)
    for index in range(count):
        memory[made + 2 * index] = a
        memory[made + 2 * index + 1] = b
    return made


def total(vector: int, count: int) -> tuple[int, int]:
    """Return the sum of a vector's entries."""
    a, b = 0, 0
    for index in range(count):
        a, b = fadd(a, memory[vector + 2 * index]), fadd(b, memory[vector + 2 * index + 1])
    return a, b


def add_loss(taus: int, outputs: int, chi: int) -> None:
    """Add the loss's sums but for Z, which the caller has added with `z_vector`; `chi` are its five weights."""
    loss, tensors = step_plan(P_LOSS), memory[LOSS_TENSORS]
    vector = z_vector(taus, outputs, chi)
    if loss == SQUARED:
        quotient = of_limbs(memory[tensors + 1], fsub(0, 1 << (step_plan(P_LOSS_BITS) - 1)))
        rest = scaled(of_limbs(memory[tensors], 0), MINUS_ONE)
        add_samples(joined(scaled(quotient, fsub(0, memory[ONE])), rest), vector, memory[ROWS])
    elif loss == SIGMOID:
        excess = of_limbs(memory[tensors + 1], 0)
        index = of_grid(memory[tensors + 2], 1, FIELD - SIGMOID_ENTRIES // 2)
        index = joined(index, selected(excess, memory[tensors + 4]))
        index = joined(index, scaled(selected(excess, memory[tensors + 5]), MINUS_ONE))
        rest = scaled(of_limbs(memory[tensors], 0), MINUS_ONE)
        add_samples(joined(scaled(index, fsub(0, 1 << scale_bits())), rest), vector, memory[ROWS])
    else:
        add_softmax(vector, taus, outputs, chi)


def add_softmax(vector: int, taus: int, outputs: int, chi: int) -> None:
    """Add the five sums of softmax."""
    tensors, rows, factor = memory[LOSS_TENSORS], memory[ROWS], 1 << scale_bits()
    near, far, top, normaliser = memory[tensors], memory[tensors + 2], memory[tensors + 3], memory[tensors + 4]
    distance = joined(of_grid(near, 1, 0), selected(of_limbs(memory[tensors + 8], 0), far))
    rest = scaled(of_limbs(memory[tensors + 6], 0), MINUS_ONE)
    add_samples(joined(scaled(distance, factor), rest), vector, rows)
    offset = fsub(0, 1 << (step_plan(P_LOSS_BITS) - 1))
    a, b = total(vector, outputs)
    add_samples(scaled(of_limbs(memory[tensors + 7], offset), fsub(0, factor)), alike(1, a, b), rows)
    a, b = memory[chi + 2], memory[chi + 3]
    add_samples(of_grid(top, 1, 0), alike(outputs, a, b), rows)
    c, d = power_sum(memory[RHO], memory[RHO + 1], rows)
    c, d = ext_mul(a, b, c, d)
    add_constant(fsub(0, c), fsub(0, d))
    vector = weighed(taus, outputs, memory[chi + 4], memory[chi + 5])
    add_samples(of_grid(normaliser, 1, 0), vector, rows)
    a, b = total(vector, outputs)
    exponential = of_grid(memory[tensors + 1], MINUS_ONE, memory[ONE])
    add_samples(scaled(exponential, MINUS_ONE), alike(outputs, a, b), rows)
    left = scaled(of_limbs(memory[tensors + 9], 0), MINUS_ONE)
    product = expression(1, 0)
    add_summand(product, MINUS_ONE, memory[tensors + 5], normaliser)
    vector = weighed(taus, outputs, memory[chi + 6], memory[chi + 7])
    add_samples(joined(joined(scaled(exponential, memory[ONE]), left), product), vector, rows)
    vector = weighed(taus, outputs, memory[chi + 8], memory[chi + 9])
    room = scaled(of_limbs(memory[tensors + 10], 0), MINUS_ONE)
    add_samples(joined(joined(of_grid(normaliser, 1, MINUS_ONE), left), room), vector, rows)
