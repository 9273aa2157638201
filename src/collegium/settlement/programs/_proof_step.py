"""One gradient step on registered rows, of which trainings and evaluations are made (docs/spec/proofs.md, section 4.3).

One step of a model of dense layers. A hidden layer's record is six expressions: Q, R, A = S U, B, R', D = S B.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import bit_length, ext_mul, ext_power, power_sum, put_powers
from collegium.settlement.programs._plan import (
    P_BATCH_ROWS,
    P_CODES,
    P_FRACTION_BITS,
    P_LAYERS,
    P_LIMIT,
    P_STATE_BYTES,
    P_STATISTICS,
    shape,
    step_plan,
)
from collegium.settlement.programs._proof_cells import (
    CHI,
    CHOSEN,
    CHOSEN_COUNT,
    ERROR,
    FEATURES,
    INNER,
    LAYERS,
    MODEL_BYTES,
    MU,
    NEXT_CHI,
    ONE,
    OPENINGS,
    PADS,
    PARAMETERS,
    QUERIES,
    RHO,
    ROWS,
    SLOTS,
    TAU,
    TAUS,
    TREES,
    WEIGHTS,
)
from collegium.settlement.programs._proof_layout import extended_value, flat, grid, limbs
from collegium.settlement.programs._proof_loss import (
    LOSS_RELATIONS,
    MINUS_ONE,
    add_loss,
    alike,
    boolean,
    declare_loss,
    last_error,
    weighed,
    z_vector,
)
from collegium.settlement.programs._proof_sums import (
    add_constant,
    add_left,
    add_samples,
    joined,
    of_grid,
    of_limbs,
    scaled,
    selected,
)
from collegium.settlement.programs._reading import read_message, word_at
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import byte_swap, fadd, fmul, fsub, memory

RECORD_WORDS = 6
LAYER_QUOTIENT = 0
LAYER_REMAINDER = 1
LAYER_ACTIVATION = 2
LAYER_BACK = 3
LAYER_BACK_REMAINDER = 4
LAYER_ERROR = 5
CODE_MIN = 11  # binary digits of the shortest rows that are opened twice, less one
CODE_MAX = 17
LIMB_BITS_MIN = 8
LIMB_BITS_MAX = 16


def step_relations() -> int:
    """Return how many relations a step weighs."""
    layers = step_plan(P_LAYERS)
    return 2 * (layers - 1) + LOSS_RELATIONS + 2 * layers


def set_data_code() -> None:
    """Take the code of data of this many rows, and of the trace that goes with it."""
    inputs, layers, units, parameters = shape(0, 0), step_plan(P_LAYERS), 0, 0
    for layer in range(layers):
        fan_in, fan_out = shape(layer, 0), shape(layer, 1)
        units += 16 * fan_out if layer == layers - 1 else 9 * fan_out
        parameters += (fan_in + 1) * fan_out
    elements = memory[ROWS] * (units + inputs) + 2 * parameters
    size = CODE_MIN
    while size < CODE_MAX and 1 << (2 * size) < 5 * elements:
        size += 1
    memory[SLOTS] = 1 << size
    memory[QUERIES] = step_plan(P_CODES + 2 * (size - CODE_MIN))
    memory[PADS] = step_plan(P_CODES + 2 * (size - CODE_MIN) + 1)
    memory[OPENINGS] = 2


def declare_data(tree: int) -> tuple[int, int, int]:
    """Declare features, labels and seed of a data tree."""
    features = grid(tree, memory[ROWS], shape(0, 0))
    labels = grid(tree, memory[ROWS], shape(step_plan(P_LAYERS) - 1, 1))
    return features, labels, flat(tree, 1)


def declare_step() -> None:
    """Declare the step's tensors, after the data's and the mask's, and put together what they mean."""
    layers = step_plan(P_LAYERS)
    memory[LAYERS] = allocate(RECORD_WORDS * layers)
    memory[INNER] = allocate(4 * layers)
    memory[ONE] = 1 << step_plan(P_FRACTION_BITS)
    for layer in range(layers - 1):
        declare_hidden(layer)
    memory[ERROR] = last_error(declare_loss(shape(layers - 1, 1)))
    for index in range(4 * layers):
        memory[memory[INNER] + index] = grid(memory[TREES] + 1, memory[ROWS], 1)


def declare_hidden(layer: int) -> None:
    """Declare S, R, U, R' and B of a hidden layer."""
    trace, rows, width, record = memory[TREES], memory[ROWS], shape(layer, 1), memory[LAYERS] + RECORD_WORDS * layer
    most = bit_length(rows * width)
    most = LIMB_BITS_MIN if most < LIMB_BITS_MIN + 2 else most - 2
    most = LIMB_BITS_MAX if most > LIMB_BITS_MAX else most
    fraction, offset = step_plan(P_FRACTION_BITS), shape(layer, 3)
    selector = grid(trace, rows, width)
    boolean(selector)
    remainder = of_limbs(limbs(trace, rows, width, fraction, most), 0)
    unsigned = of_limbs(limbs(trace, rows, width, shape(layer, 2), most), 0)
    back_remainder = of_limbs(limbs(trace, rows, width, fraction, most), 0)
    back = of_limbs(limbs(trace, rows, width, bit_length(offset), most), fsub(0, offset))
    activation = selected(unsigned, selector)
    quotient = joined(scaled(activation, 2), scaled(unsigned, MINUS_ONE))
    memory[record + LAYER_QUOTIENT] = joined(quotient, of_grid(selector, 1, MINUS_ONE))
    memory[record + LAYER_REMAINDER] = remainder
    memory[record + LAYER_ACTIVATION] = activation
    memory[record + LAYER_BACK] = back
    memory[record + LAYER_BACK_REMAINDER] = back_remainder
    memory[record + LAYER_ERROR] = selected(back, selector)


def layer_input(layer: int) -> int:
    """Return the expression of what a layer takes."""
    if layer == 0:
        return of_grid(memory[FEATURES], 1, fsub(0, step_plan(P_LIMIT)))
    return memory[memory[LAYERS] + RECORD_WORDS * (layer - 1) + LAYER_ACTIVATION]


def layer_error(layer: int) -> int:
    """Return the expression of a layer's errors."""
    if layer == step_plan(P_LAYERS) - 1:
        return memory[ERROR]
    return memory[memory[LAYERS] + RECORD_WORDS * layer + LAYER_ERROR]


# --- the public parameters


def read_model(digest: int) -> None:
    """Read the model state behind a digest."""
    memory[MODEL_BYTES], length = read_message(digest)
    assert length == step_plan(P_STATE_BYTES)
    read_parameters()


def read_parameters() -> None:
    """Write every parameter of the model state as an element of F."""
    count = parameter_count()
    memory[PARAMETERS] = allocate(count)
    for index in range(count):
        word = word_at(memory[MODEL_BYTES], step_plan(P_STATISTICS) + 4 * index)
        value = byte_swap(word >> 32 << 32)
        memory[memory[PARAMETERS] + index] = fsub(value, 1 << 32) if value >> 31 == 1 else value


def parameter_count() -> int:
    """Return how many parameters a model has."""
    return first_parameter(step_plan(P_LAYERS))


def first_parameter(layer: int) -> int:
    """Return how many parameters stand before those of a layer."""
    count = 0
    for before in range(layer):
        count += (shape(before, 0) + 1) * shape(before, 1)
    return count


def add_forward(layer: int, vector: int) -> None:
    """Add the sum of rho^i vector_j (A W + 2^f b)_ij."""
    fan_in, fan_out = shape(layer, 0), shape(layer, 1)
    start = memory[PARAMETERS] + first_parameter(layer)
    folded = allocate(2 * fan_in)
    for index in range(fan_in):
        a, b = dot_parameters(vector, start + fan_out * index, fan_out, 1)
        memory[folded + 2 * index] = a
        memory[folded + 2 * index + 1] = b
    add_samples(layer_input(layer), folded, memory[ROWS])
    a, b = dot_parameters(vector, start + fan_out * fan_in, fan_out, 1)
    c, d = power_sum(memory[RHO], memory[RHO + 1], memory[ROWS])
    a, b = ext_mul(a, b, c, d)
    add_constant(fmul(a, memory[ONE]), fmul(b, memory[ONE]))


def add_backward(layer: int, vector: int) -> None:
    """Add the sum of rho^i vector_j (D W^T)_ij of a layer."""
    fan_in, fan_out = shape(layer, 0), shape(layer, 1)
    start = memory[PARAMETERS] + first_parameter(layer)
    folded = allocate(2 * fan_out)
    for index in range(fan_out):
        a, b = dot_parameters(vector, start + index, fan_in, fan_out)
        memory[folded + 2 * index] = a
        memory[folded + 2 * index + 1] = b
    add_samples(layer_error(layer), folded, memory[ROWS])


def dot_parameters(vector: int, start: int, count: int, stride: int) -> tuple[int, int]:
    """Return the sum of a vector's entries times every so manieth parameter."""
    a, b = 0, 0
    for index in range(count):
        parameter = memory[start + stride * index]
        a = fadd(a, fmul(memory[vector + 2 * index], parameter))
        b = fadd(b, fmul(memory[vector + 2 * index + 1], parameter))
    return a, b


# --- the sums


def next_chi() -> int:
    """Return the address of the next relation's weight."""
    number = memory[NEXT_CHI]
    memory[NEXT_CHI] = number + 1
    return memory[CHI] + 2 * number


def add_step(first: int) -> None:
    """Add every sum of the step, numbered from `first` on."""
    layers, most = step_plan(P_LAYERS), 0
    outputs = shape(layers - 1, 1)
    for layer in range(layers):
        most = shape(layer, 1) if shape(layer, 1) > most else most
    memory[TAUS] = allocate(2 * most)
    put_powers(memory[TAUS], memory[TAU], memory[TAU + 1], most)
    memory[NEXT_CHI] = first
    for layer in range(layers - 1):
        vector = hidden_vector(layer)
        add_forward(layer, vector)
        add_rescaled(layer, LAYER_QUOTIENT, LAYER_REMAINDER, vector)
    chi = memory[CHI] + 2 * memory[NEXT_CHI]
    memory[NEXT_CHI] = memory[NEXT_CHI] + LOSS_RELATIONS
    add_forward(layers - 1, z_vector(memory[TAUS], outputs, chi))
    add_loss(memory[TAUS], outputs, chi)
    for layer in range(layers - 1):
        vector = hidden_vector(layer)
        add_backward(layer + 1, vector)
        add_rescaled(layer, LAYER_BACK, LAYER_BACK_REMAINDER, vector)
    for layer in range(layers):
        add_inner(layer)


def hidden_vector(layer: int) -> int:
    """Return the address of tau^j times the next relation's weight."""
    chi = next_chi()
    return weighed(memory[TAUS], shape(layer, 1), memory[chi], memory[chi + 1])


def add_rescaled(layer: int, quotient: int, remainder: int, vector: int) -> None:
    """Take from a sum the 2^f Q + R, or 2^f B + R', of a layer."""
    record = memory[LAYERS] + RECORD_WORDS * layer
    rest = scaled(memory[record + remainder], MINUS_ONE)
    add_samples(joined(scaled(memory[record + quotient], fsub(0, memory[ONE])), rest), vector, memory[ROWS])


def add_inner(layer: int) -> None:
    """Tie the two vectors of a layer's gradient to its inputs and errors."""
    fan_in, fan_out, inner = shape(layer, 0), shape(layer, 1), memory[INNER] + 4 * layer
    powers = allocate(2 * (fan_in if fan_in > fan_out else fan_out))
    a, b = ext_power(memory[MU], memory[MU + 1], fan_out)
    put_powers(powers, a, b, fan_in)
    chi = next_chi()
    a, b = memory[chi], memory[chi + 1]
    add_samples(layer_input(layer), weighed(powers, fan_in, a, b), memory[ROWS])
    take_pair(memory[inner], memory[inner + 1], a, b)
    put_powers(powers, memory[MU], memory[MU + 1], fan_out)
    chi = next_chi()
    a, b = memory[chi], memory[chi + 1]
    add_samples(layer_error(layer), weighed(powers, fan_out, a, b), memory[ROWS])
    take_pair(memory[inner + 2], memory[inner + 3], a, b)


def take_pair(first: int, second: int, a: int, b: int) -> None:
    """Take from the sums (a + b x) sum_i rho^i (first + x second)_i."""
    add_samples(of_grid(first, 1, 0), alike(1, fsub(0, a), fsub(0, b)), memory[ROWS])
    c, d = ext_mul(a, b, 0, 1)
    add_samples(of_grid(second, 1, 0), alike(1, fsub(0, c), fsub(0, d)), memory[ROWS])


def add_gradient(a: int, b: int) -> tuple[int, int]:
    """Add a + b x times the sum of mu^entry G_entry over the chosen rows; return it times mu^(parameters)."""
    mu_0, mu_1 = memory[MU], memory[MU + 1]
    for layer in range(step_plan(P_LAYERS)):
        fan_in, fan_out, inner = shape(layer, 0), shape(layer, 1), memory[INNER] + 4 * layer
        c, d = ext_power(mu_0, mu_1, fan_in * fan_out)
        c, d = ext_mul(a, b, fmul(c, memory[ONE]), fmul(d, memory[ONE]))
        add_chosen(inner, a, b, c, d)
        c, d = ext_power(mu_0, mu_1, (fan_in + 1) * fan_out)
        a, b = ext_mul(a, b, c, d)
    return a, b


def add_chosen(inner: int, a: int, b: int, c: int, d: int) -> None:
    """Add (a + b x) sum over chosen rows of P V, and (c + d x) sum of V."""
    slots, rows = memory[SLOTS], memory[ROWS]
    for row in range((rows + slots - 1) // slots):
        weight_0, weight_1, rest = 0, 0, rows - row * slots
        for slot in range(rest if rest < slots else slots):
            if memory[memory[CHOSEN] + row * slots + slot] == 1:
                at = memory[WEIGHTS] + 2 * slot
                weight_0, weight_1 = fadd(weight_0, memory[at]), fadd(weight_1, memory[at + 1])
        e, f = pair_value(memory[inner], memory[inner + 1], row)
        g, h = pair_value(memory[inner + 2], memory[inner + 3], row)
        e, f = ext_mul(e, f, a, b)
        e, f = ext_mul(fadd(e, c), fadd(f, d), g, h)
        e, f = ext_mul(e, f, weight_0, weight_1)
        add_left(e, f)


def pair_value(first: int, second: int, row: int) -> tuple[int, int]:
    """Return at zeta a row of a vector over K whose parts are matrices of width 1."""
    return extended_value(memory[first + 6] + row, memory[second + 6] + row)


# --- the batch


def choose_rows(words: int) -> None:
    """Say which rows the beacon chose: those of the least words of a stream, as many as a batch has."""
    rows, wanted = memory[ROWS], step_plan(P_BATCH_ROWS)
    if wanted == 0 or wanted >= rows:
        choose_all()
        return
    memory[CHOSEN] = allocate(rows)
    memory[CHOSEN_COUNT] = wanted
    bound, found = row_bound(words, rows, wanted), 0
    for row in range(rows):
        if memory[words + row] < bound:
            memory[memory[CHOSEN] + row] = 1
            found += 1
    for row in range(rows):
        if memory[words + row] == bound and found < wanted:
            memory[memory[CHOSEN] + row] = 1
            found += 1


def choose_all() -> None:
    """Say that every row is chosen."""
    memory[CHOSEN] = allocate(memory[ROWS])
    memory[CHOSEN_COUNT] = memory[ROWS]
    for row in range(memory[ROWS]):
        memory[memory[CHOSEN] + row] = 1


def row_bound(words: int, count: int, wanted: int) -> int:
    """Return the least word such that so many are not above it, bit by bit from the highest."""
    bound, bit = 0, 1 << 63
    while bit > 0:
        below, least = 0, bound | bit
        for index in range(count):
            if memory[words + index] < least:
                below += 1
        if below < wanted:
            bound = least
        bit >>= 1
    return bound
