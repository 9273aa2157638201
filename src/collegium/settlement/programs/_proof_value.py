"""What a model is worth on the rows of a step: the summed loss in millionths, and how many are classified right.

docs/spec/proofs.md, section 4.6; the loss's own tensors are there already (`_proof_loss`). A value's tensors stand in
ten words, those of its classes in four, in the order of the page.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, ext_mul, power_sum
from collegium.settlement.programs._plan import (
    E_DOUBLINGS,
    E_DOUBLINGS_AT,
    E_GAP_BITS,
    E_LINEAR_BITS,
    E_MORE_BITS,
    E_REST_BITS,
    E_TABLE,
    E_TABLE_AT,
    E_TABLE_LAST,
    P_FRACTION_BITS,
    P_LAYERS,
    P_LOSS,
    P_LOSS_BITS,
    evaluation_plan,
    step_plan,
)
from collegium.settlement.programs._proof_cells import (
    CLASSES,
    ERROR,
    GENUINE,
    LABELS,
    LOSS_TENSORS,
    ONE,
    PLAN,
    RHO,
    ROWS,
    TAUS,
    TREES,
    VALUE,
)
from collegium.settlement.programs._proof_layout import (
    constrain,
    constrain_terms,
    grid,
    limbs,
    look_up_pairs,
    put_term,
)
from collegium.settlement.programs._proof_loss import (
    LIMB_BITS,
    MINUS_ONE,
    SIGMOID,
    SIGMOID_ENTRIES,
    SQUARED,
    alike,
    boolean,
    total,
    weighed,
)
from collegium.settlement.programs._proof_step import add_forward
from collegium.settlement.programs._proof_sums import (
    add_constant,
    add_limbs_total,
    add_samples,
    add_total,
    genuine_weights,
    joined,
    of_grid,
    of_limbs,
    scaled,
    selected,
    squared,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import fadd, fmul, fsub, memory

VALUE_RELATIONS = 8  # the two totals first
MICRO = 15625  # 10^6 = 2^6 x 15625
LAST = SIGMOID_ENTRIES - 1
LOGARITHMS = 4096


def declare_value(outputs: int) -> None:
    """Declare the value's tensors."""
    memory[VALUE] = allocate(10)
    if step_plan(P_LOSS) == SIGMOID:
        declare_sigmoid_value()
        return
    if outputs > 1:
        declare_classes(outputs)
    if step_plan(P_LOSS) == SQUARED:
        declare_squared_value(outputs)
    else:
        declare_softmax_value(outputs)


def value_limbs(bits: int) -> int:
    """Declare limbs of width 1."""
    return limbs(memory[TREES], memory[ROWS], 1, evaluation_plan(bits), LIMB_BITS)


def column() -> int:
    """Declare a matrix of width 1."""
    return grid(memory[TREES], memory[ROWS], 1)


def value_table() -> int:
    """Return the address of the second entries of the value's table."""
    return memory[PLAN] + evaluation_plan(E_TABLE_AT)


def declare_sigmoid_value() -> None:
    """Declare up, down, t', value, wrong; then beyond, q, r."""
    value, loss, terms = memory[VALUE], memory[LOSS_TENSORS], allocate(12)
    for index in range(5):
        memory[value + index] = column()
    up, down, mirrored = memory[value], memory[value + 1], memory[value + 2]
    place, high, low = memory[loss + 2], memory[loss + 4], memory[loss + 5]
    constrain_end(terms, up, high, low)
    constrain_end(terms, down, low, high)
    put_term(terms, 0, 1, mirrored, 0)
    put_term(terms, 1, MINUS_ONE, place, 0)
    put_term(terms, 2, FIELD - LAST, memory[LABELS], 0)
    put_term(terms, 3, 2, memory[LABELS], place)
    constrain_terms(terms, 4)
    wrong = allocate(SIGMOID_ENTRIES)
    for index in range(SIGMOID_ENTRIES // 2, SIGMOID_ENTRIES):
        memory[wrong + index] = 1
    look_up_pairs(mirrored, memory[value + 3], SIGMOID_ENTRIES, value_table())
    look_up_pairs(mirrored, memory[value + 4], SIGMOID_ENTRIES, wrong)
    memory[value + 5] = value_limbs(E_MORE_BITS)
    memory[value + 6] = value_limbs(E_LINEAR_BITS)
    memory[value + 7] = value_limbs(E_REST_BITS)


def constrain_end(terms: int, place: int, high: int, low: int) -> None:
    """Demand place = high (1 - y) + low y."""
    put_term(terms, 0, 1, place, 0)
    put_term(terms, 1, MINUS_ONE, high, 0)
    put_term(terms, 2, 1, memory[LABELS], high)
    put_term(terms, 3, MINUS_ONE, memory[LABELS], low)
    constrain_terms(terms, 4)


def declare_classes(outputs: int) -> None:
    """Declare gap, predicted, peak, hit."""
    classes = allocate(4)
    memory[CLASSES] = classes
    gap = limbs(memory[TREES], memory[ROWS], outputs, evaluation_plan(E_GAP_BITS), LIMB_BITS)
    predicted = grid(memory[TREES], memory[ROWS], outputs)
    boolean(predicted)
    for at in range(gap + 1, gap + 1 + 3 * memory[gap], 3):
        constrain(1, predicted, memory[at], 0, predicted)
    memory[classes] = gap
    memory[classes + 1] = predicted
    memory[classes + 2] = column()
    memory[classes + 3] = column()


def declare_squared_value(outputs: int) -> None:
    """Declare q, r; of one output S and U of Q - 2^(f - 1)."""
    value = memory[VALUE]
    memory[value] = value_limbs(E_LINEAR_BITS)
    memory[value + 1] = value_limbs(E_REST_BITS)
    if outputs == 1:
        memory[value + 2] = column()
        boolean(memory[value + 2])
        memory[value + 3] = value_limbs(E_MORE_BITS)


def declare_softmax_value(outputs: int) -> None:
    """Declare q, r, d; then kappa, power, doubled, cell, logarithm; then below, above."""
    value, loss, count = memory[VALUE], memory[LOSS_TENSORS], evaluation_plan(E_DOUBLINGS)
    memory[value] = value_limbs(E_LINEAR_BITS)
    memory[value + 1] = value_limbs(E_REST_BITS)
    memory[value + 2] = grid(memory[TREES], memory[ROWS], outputs)
    excess, far = memory[loss + 8], memory[loss + 2]
    terms = allocate(3 * (2 + memory[excess]))
    put_term(terms, 0, 1, memory[value + 2], 0)
    put_term(terms, 1, MINUS_ONE, memory[loss], 0)
    for index in range(memory[excess]):
        limb = excess + 1 + 3 * index
        put_term(terms, 2 + index, fsub(0, 1 << memory[limb + 1]), far, memory[limb])
    constrain_terms(terms, 2 + memory[excess])
    for index in range(3, 8):
        memory[value + index] = column()
    powers = allocate(count)
    for index in range(count):
        memory[powers + index] = (1 << index) - 1
    look_up_pairs(memory[value + 3], memory[value + 4], count, powers)
    look_up_pairs(memory[value + 3], memory[value + 5], count, memory[PLAN] + evaluation_plan(E_DOUBLINGS_AT))
    look_up_pairs(memory[value + 6], memory[value + 7], LOGARITHMS, value_table())
    memory[value + 8] = value_limbs(E_MORE_BITS)
    memory[value + 9] = value_limbs(E_MORE_BITS)


# --- the sums


def add_value(outputs: int, chi: int, loss: int, right: int) -> None:
    """Add the totals, that they are `loss` and `right`, and the value's own sums; `chi`: their eight weights."""
    a, b, c, d = memory[chi], memory[chi + 1], memory[chi + 2], memory[chi + 3]
    memory[GENUINE] = genuine_weights(memory[ROWS])
    if step_plan(P_LOSS) == SIGMOID:
        add_sigmoid_totals(a, b, c, d)
        add_sigmoid_value(chi + 4)
    elif step_plan(P_LOSS) == SQUARED:
        add_limbs_total(memory[GENUINE], memory[memory[VALUE]], a, b)
        add_squared_value(outputs, chi + 4)
    else:
        for index in range(5, 8, 2):
            add_total(memory[GENUINE], memory[memory[VALUE] + index], 0, a, b)
        add_limbs_total(memory[GENUINE], memory[memory[VALUE]], a, b)
        add_softmax_value(outputs, chi + 4)
    if outputs > 1:
        add_total(memory[GENUINE], memory[memory[CLASSES] + 3], 0, c, d)
    elif step_plan(P_LOSS) == SQUARED:
        add_sign_right(c, d)
    add_constant(fsub(0, fadd(fmul(a, loss), fmul(c, right))), fsub(0, fadd(fmul(b, loss), fmul(d, right))))


def add_sigmoid_totals(a: int, b: int, c: int, d: int) -> None:
    """Add a + b x times the summed loss, and c + d x times the rows classified right."""
    value, genuine, rows = memory[VALUE], memory[GENUINE], memory[ROWS]
    first, last = evaluation_plan(E_TABLE), evaluation_plan(E_TABLE_LAST)
    add_total(genuine, memory[value + 3], 0, a, b)
    add_total(genuine, memory[value + 1], 0, fsub(0, fmul(a, first)), fsub(0, fmul(b, first)))
    add_total(genuine, memory[value], 0, fsub(0, fmul(a, last)), fsub(0, fmul(b, last)))
    add_limbs_total(genuine, memory[value + 6], a, b)
    add_total(genuine, memory[value + 4], 0, fsub(0, c), fsub(0, d))
    start = fmul(rows, first)
    add_constant(fadd(fmul(a, start), fmul(c, rows)), fadd(fmul(b, start), fmul(d, rows)))


def add_sigmoid_value(chi: int) -> None:
    """Add (up + down) e = beyond + up + down and 8 q + r = 15625 up (8191 + 2 e)."""
    value, rows = memory[VALUE], memory[ROWS]
    excess, up, down = of_limbs(memory[memory[LOSS_TENSORS] + 1], 0), memory[value], memory[value + 1]
    above = selected(excess, up)
    strict = joined(above, selected(excess, down))
    strict = joined(strict, joined(of_grid(up, MINUS_ONE, 0), of_grid(down, MINUS_ONE, 0)))
    strict = joined(strict, scaled(of_limbs(memory[value + 5], 0), MINUS_ONE))
    add_samples(strict, alike(1, memory[chi], memory[chi + 1]), rows)
    line = joined(scaled(above, FIELD - 2 * MICRO), of_grid(up, FIELD - MICRO * LAST, 0))
    spelled = joined(scaled(of_limbs(memory[value + 6], 0), 8), of_limbs(memory[value + 7], 0))
    add_samples(joined(line, spelled), alike(1, memory[chi + 2], memory[chi + 3]), rows)


def add_squared_value(outputs: int, chi: int) -> None:
    """Add 15625 sum_c D_c^2 = 2^(2f - 5) q + r, and the class, of one output the sign of Q - 2^(f - 1)."""
    value, rows, shift = memory[VALUE], memory[ROWS], 2 * step_plan(P_FRACTION_BITS) - 5
    a, b = memory[chi], memory[chi + 1]
    add_samples(scaled(squared(memory[ERROR]), MICRO), alike(outputs, a, b), rows)
    spelled = joined(scaled(of_limbs(memory[value], 0), 1 << shift), of_limbs(memory[value + 1], 0))
    add_samples(scaled(spelled, MINUS_ONE), alike(1, a, b), rows)
    if outputs > 1:
        add_classes(outputs, chi + 2)
        return
    positive, distance = memory[value + 2], of_limbs(memory[value + 3], 0)
    away = joined(scaled(selected(distance, positive), FIELD - 2), distance)
    away = joined(away, of_grid(positive, MINUS_ONE, 1))
    offset = fadd(1 << (step_plan(P_LOSS_BITS) - 1), memory[ONE] >> 1)
    quotient = of_limbs(memory[memory[LOSS_TENSORS] + 1], fsub(0, offset))
    add_samples(joined(quotient, away), alike(1, memory[chi + 2], memory[chi + 3]), rows)


def add_sign_right(c: int, d: int) -> None:
    """Add c + d x times the rows with S = y, 1 - S - y + 2 S y."""
    genuine, positive, rows = memory[GENUINE], memory[memory[VALUE] + 2], memory[ROWS]
    add_total(genuine, positive, 0, fsub(0, c), fsub(0, d))
    add_total(genuine, memory[LABELS], 0, fsub(0, c), fsub(0, d))
    add_total(genuine, positive, memory[LABELS], fmul(2, c), fmul(2, d))
    add_constant(fmul(c, rows), fmul(d, rows))


def add_softmax_value(outputs: int, chi: int) -> None:
    """Add 15625 d_label = 4 q + r, 2^12 G = 2^f (power + 1) (4096 + cell) + below, below + above = 2^f (power + 1) - 1.

    Then the class.
    """
    value, loss, rows, one = memory[VALUE], memory[LOSS_TENSORS], memory[ROWS], memory[ONE]
    a, b = memory[chi], memory[chi + 1]
    add_samples(selected(of_grid(memory[value + 2], MICRO, 0), memory[LABELS]), alike(outputs, a, b), rows)
    spelled = joined(scaled(of_limbs(memory[value], 0), 4), of_limbs(memory[value + 1], 0))
    add_samples(scaled(spelled, MINUS_ONE), alike(1, a, b), rows)
    a, b = memory[chi + 2], memory[chi + 3]
    power, cell, cells = memory[value + 4], memory[value + 6], LOGARITHMS * one
    add_samples(of_grid(memory[loss + 1], FIELD - LOGARITHMS, cells), alike(outputs, a, b), rows)
    below, above = of_limbs(memory[value + 8], 0), of_limbs(memory[value + 9], 0)
    spelled = joined(of_grid(power, fsub(0, cells), fsub(0, cells)), of_grid(cell, fsub(0, one), 0))
    spelled = joined(spelled, selected(of_grid(cell, fsub(0, one), 0), power))
    add_samples(joined(spelled, scaled(below, MINUS_ONE)), alike(1, a, b), rows)
    width = of_grid(power, fsub(0, one), fsub(1, one))
    add_samples(joined(width, joined(below, above)), alike(1, memory[chi + 4], memory[chi + 5]), rows)
    add_classes(outputs, chi + 6)


def add_classes(outputs: int, chi: int) -> None:
    """Add that one class is predicted, the first of the largest Z, and that a row is hit if it is its label's."""
    classes, rows = memory[CLASSES], memory[ROWS]
    predicted, a, b = memory[classes + 1], memory[chi], memory[chi + 1]
    add_samples(of_grid(predicted, 1, 0), alike(outputs, a, b), rows)
    c, d = power_sum(memory[RHO], memory[RHO + 1], rows)
    c, d = ext_mul(a, b, c, d)
    add_constant(fsub(0, c), fsub(0, d))
    vector = weighed(memory[TAUS], outputs, memory[chi + 2], memory[chi + 3])
    add_forward(step_plan(P_LAYERS) - 1, vector)
    add_samples(of_limbs(memory[classes], 0), vector, rows)
    add_samples(of_grid(predicted, 1, 0), sums_before(vector, outputs), rows)
    a, b = total(vector, outputs)
    add_samples(of_grid(memory[classes + 2], MINUS_ONE, 0), alike(1, a, b), rows)
    a, b = memory[chi + 4], memory[chi + 5]
    add_samples(selected(of_grid(predicted, 1, 0), memory[LABELS]), alike(outputs, a, b), rows)
    add_samples(of_grid(memory[classes + 3], MINUS_ONE, 0), alike(1, a, b), rows)


def sums_before(vector: int, count: int) -> int:
    """Return the address of a vector whose entries are the sums of those before them."""
    made, a, b = allocate(2 * count), 0, 0
    for index in range(count):
        memory[made + 2 * index] = a
        memory[made + 2 * index + 1] = b
        a, b = fadd(a, memory[vector + 2 * index]), fadd(b, memory[vector + 2 * index + 1])
    return made
