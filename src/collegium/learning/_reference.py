"""The rule from its definition, one row and one Python integer at a time: slow, plain, what the arrays must equal.

Models are lists of layers, each a list of units, each the unit's incoming weights with its bias last. The sigmoid,
the exponential and the losses are computed at every call from 60 digits, not from a table.
"""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from hashlib import shake_256
from math import floor, isqrt

from collegium.learning._errors import ActivationRangeError, ErrorRangeError
from collegium.learning._model import ModelSpec, Patches, Rule

Vector = list[int]
Model = list[list[Vector]]

_DIGITS = Context(prec=60)
_INDEX_BITS, _INDEX_LIMIT = 8, 4096


def half_up(value: Fraction) -> int:
    """The nearest integer; a half goes up."""
    return floor(value + Fraction(1, 2))


def cell_middle(index: int) -> Decimal:
    """The real number in the middle of a table cell."""
    return Decimal(2 * index + 1) / 512


def sigmoid(index: int, fraction_bits: int) -> int:
    """2^f / (1 + exp(-z)) at the middle of the cell, to the nearest integer."""
    z = cell_middle(max(-_INDEX_LIMIT, min(index, _INDEX_LIMIT - 1)))
    value = _DIGITS.divide(Decimal(1 << fraction_bits), _DIGITS.add(Decimal(1), _DIGITS.exp(-z)))
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def softplus_micro(index: int) -> int:
    """10^6 ln(1 + exp(z)) at the middle of the cell: z itself, rounded down, above 16 and 0 below -16."""
    if index >= _INDEX_LIMIT:
        return floor(10**6 * Fraction(2 * index + 1, 512))
    if index < -_INDEX_LIMIT:
        return 0
    value = 10**6 * _DIGITS.ln(_DIGITS.add(Decimal(1), _DIGITS.exp(cell_middle(index))))
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def exponential(distance: int, fraction_bits: int) -> int:
    """2^f exp(-d / 256) to the nearest integer, d at most 4095."""
    power = _DIGITS.exp(-Decimal(min(distance, _INDEX_LIMIT - 1)) / 256)
    value = _DIGITS.multiply(Decimal(1 << fraction_bits), power)
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def logarithm_micro(number: int, fraction_bits: int) -> int:
    """10^6 ln(v / 2^f) of v = 2^(f + k) m: k ln 2 and ln m, m cut to 12 bits after the point, each to the nearest."""
    k = number.bit_length() - 1 - fraction_bits
    m = Decimal((number << 12) >> (fraction_bits + k)) / 4096
    parts = (_DIGITS.multiply(Decimal(10**6 * k), _DIGITS.ln(Decimal(2))), 10**6 * _DIGITS.ln(m))
    return sum(int((part + Decimal("0.5")).to_integral_value(ROUND_FLOOR)) for part in parts)


def to_model(spec: ModelSpec, parameters: Sequence[int]) -> Model:
    """The vector (per layer: matrix row by row, then biases) as units."""
    model, start = [], 0
    for fan_in, fan_out in spec.layers:
        block = parameters[start : start + (fan_in + 1) * fan_out]
        model.append([list(block[unit::fan_out]) for unit in range(fan_out)])
        start += (fan_in + 1) * fan_out
    return model


def to_vector(model: Model) -> Vector:
    """The inverse of `to_model`."""
    return [unit[i] for layer in model for i in range(len(layer[0])) for unit in layer]


def cut(patches: Patches | None, row: Sequence[int]) -> list[Vector]:
    """The patches of a row, or the row itself, each a vector that the first layer's units read."""
    if patches is None:
        return [list(row)]
    height, width, channels, kernel, stride = patches.numbers
    return [
        [
            row[((top + dy) * width + left + dx) * channels + channel]
            for dy in range(kernel)
            for dx in range(kernel)
            for channel in range(channels)
        ]
        for top in range(0, height - kernel + 1, stride)
        for left in range(0, width - kernel + 1, stride)
    ]


def forward(model: Model, row: Sequence[int], one: int, patches: Patches | None = None) -> list[Vector]:
    """[Q_1, ..., Q_(L-1), Z_L] of one row."""
    values, steps = list(row), []
    for layer in model:
        read = cut(patches, row) if layer is model[0] else [values]
        total = [sum(w * a for w, a in zip(unit, [*each, one], strict=True)) for each in read for unit in layer]
        steps.append(total if layer is model[-1] else [z // one for z in total])
        values = [max(q, 0) for q in steps[-1]]
    return steps


def index_of(logit: int, fraction_bits: int) -> int:
    """floor(256 z) of a logit with 2f fraction bits."""
    return logit // (1 << (2 * fraction_bits - _INDEX_BITS))


def target(spec: ModelSpec, rule: Rule, label: int) -> Vector:
    """What the outputs should be: the label itself, or 1 at the label."""
    return [(label if spec.outputs == 1 else int(c == label)) * rule.one for c in range(spec.outputs)]


def softmax(rule: Rule, logits: Vector) -> tuple[Vector, Vector, int, Vector]:
    """(d, E, Sigma, p) of one row's logits."""
    indices = [index_of(logit, rule.fraction_bits) for logit in logits]
    distances = [max(indices) - index for index in indices]
    powers = [exponential(distance, rule.fraction_bits) for distance in distances]
    return distances, powers, sum(powers), [power * rule.one // sum(powers) for power in powers]


def output_error(spec: ModelSpec, rule: Rule, logits: Vector, label: int) -> Vector:
    """D_L of one row."""
    if rule.loss == "softmax":
        predicted = softmax(rule, logits)[3]
    elif rule.loss == "squared":
        predicted = [logit // rule.one for logit in logits]
    else:
        predicted = [sigmoid(index_of(logits[0], rule.fraction_bits), rule.fraction_bits)]
    return [p - t for p, t in zip(predicted, target(spec, rule, label), strict=True)]


def within(limit: int | None, values: Vector, one: int) -> bool:
    """Whether all values lie in [-limit, limit); no limit allows all."""
    return limit is None or all(-limit * one <= value < limit * one for value in values)


def gradient(spec: ModelSpec, rule: Rule, parameters: Sequence[int], rows: Sequence[Vector], labels: Vector) -> Vector:
    """The unrounded gradient sum by the chain rule, row by row.

    Raises:
        ActivationRangeError, ErrorRangeError: a value lies outside its limit.
    """
    model = to_model(spec, parameters)
    result = to_model(spec, [0] * len(parameters))
    for row, label in zip(rows, labels, strict=True):
        steps = forward(model, row, rule.one, spec.patches)
        inputs = [cut(spec.patches, row), *([[max(q, 0) for q in step]] for step in steps[:-1])]
        if not all(within(rule.activation_limit, step, rule.one) for step in steps[:-1]):
            raise ActivationRangeError("a pre-activation lies outside its limit")
        errors = output_error(spec, rule, steps[-1], label)
        for depth in reversed(range(len(model))):
            uses = [(each, unit) for each in inputs[depth] for unit in result[depth]]
            for (each, unit), error in zip(uses, errors, strict=True):
                for i, value in enumerate([*each, rule.one]):
                    unit[i] += value * error
            if depth:
                back = [
                    sum(e * u[i] for e, u in zip(errors, model[depth], strict=True))
                    for i in range(len(inputs[depth][0]))
                ]
                back = [b // rule.one for b in back]
                if not within(rule.error_limit, back, rule.one):
                    raise ErrorRangeError("a back-propagated value lies outside its limit")
                errors = [b if q >= 0 else 0 for b, q in zip(back, steps[depth - 1], strict=True)]
    return to_vector(result)


def clipped(spec: ModelSpec, rule: Rule, parameters: Sequence[int]) -> Vector:
    """The vector with every unit's weights and bias within its layer's limit."""
    last = len(spec.layers) - 1
    limits: Vector = []
    for depth, (fan_in, fan_out) in enumerate(spec.layers):
        limit = (rule.output_limit if depth == last else rule.hidden_limit) * rule.one
        limits += [limit] * ((fan_in + 1) * fan_out)
    return [max(-limit, min(value, limit)) for value, limit in zip(parameters, limits, strict=True)]


def batch(rule: Rule, rows: int, seed: bytes, step: int) -> Vector:
    """The rows of a local step: those with the smallest keys."""
    if rule.batch_rows is None or rule.batch_rows >= rows:
        return list(range(rows))
    data = b"collegium/v1/learning/"
    for part in (b"batch", seed, step.to_bytes(8, "little")):
        data += len(part).to_bytes(8, "little") + part
    stream = shake_256(data).digest(8 * rows)
    keys = [int.from_bytes(stream[8 * row : 8 * row + 8], "little") for row in range(rows)]
    return sorted(sorted(range(rows), key=lambda row: (keys[row], row))[: rule.batch_rows])


def descend(spec: ModelSpec, rule: Rule, parameters: Sequence[int], total: Sequence[int], weight: int) -> Vector:
    """One gradient step."""
    steps = [half_up(rule.learning_rate * g / (weight * rule.one)) for g in total]
    return clipped(spec, rule, [p - step for p, step in zip(parameters, steps, strict=True)])


def local_update(
    spec: ModelSpec, rule: Rule, parameters: Sequence[int], rows: Sequence[Vector], labels: Vector, batch_seed: bytes
) -> Vector:
    """What a trainer contributes, row count last."""
    local, count, total = list(parameters), 0, []
    for step in range(rule.local_steps):
        chosen = batch(rule, len(rows), batch_seed, step)
        count = len(chosen)
        total = gradient(spec, rule, local, [rows[i] for i in chosen], [labels[i] for i in chosen])
        local = descend(spec, rule, local, total, count)
    if rule.local_steps == 1:
        return [*total, count]
    return [*(count * (new - old) for new, old in zip(local, parameters, strict=True)), count]


def apply_total(spec: ModelSpec, rule: Rule, parameters: Sequence[int], total: Sequence[int]) -> Vector:
    """The next model."""
    *entries, weight = total
    if rule.local_steps == 1:
        return descend(spec, rule, parameters, entries, weight)
    return clipped(spec, rule, [p + half_up(Fraction(t, weight)) for p, t in zip(parameters, entries, strict=True)])


def evaluate(
    spec: ModelSpec, rule: Rule, parameters: Sequence[int], rows: Sequence[Vector], labels: Vector
) -> tuple[int, int, int, int, int]:
    """(rows, loss_micro, correct, auc_numerator, auc_denominator), the AUC by looking at every pair."""
    model = to_model(spec, parameters)
    logits = [forward(model, row, rule.one, spec.patches)[-1] for row in rows]
    loss = sum(loss_micro(spec, rule, outputs, label) for outputs, label in zip(logits, labels, strict=True))
    if spec.outputs > 1:
        correct = sum(outputs.index(max(outputs)) == label for outputs, label in zip(logits, labels, strict=True))
        return len(rows), loss, correct, 0, 0
    half = Fraction(rule.one**2, 2) if rule.loss == "squared" else 0
    scores = [outputs[0] for outputs in logits]
    correct = sum((score >= half) == bool(label) for score, label in zip(scores, labels, strict=True))
    pairs = [
        (a, b) for a, i in zip(scores, labels, strict=True) if i for b, j in zip(scores, labels, strict=True) if not j
    ]
    return len(rows), loss, correct, sum(2 * (a > b) + (a == b) for a, b in pairs), 2 * len(pairs)


def loss_micro(spec: ModelSpec, rule: Rule, logits: Vector, label: int) -> int:
    """One row's loss in millionths."""
    if rule.loss == "softmax":
        distances, _, normaliser, _ = softmax(rule, logits)
        return floor(Fraction(10**6 * distances[label], 256)) + logarithm_micro(normaliser, rule.fraction_bits)
    if rule.loss == "squared":
        squares = sum(error**2 for error in output_error(spec, rule, logits, label))
        return floor(Fraction(10**6 * squares, 2 * rule.one**2))
    index = index_of(logits[0], rule.fraction_bits)
    return softplus_micro(-1 - index if label else index)


def scaled(level: int, count: int, first: int, second: int, rule: Rule) -> int:
    """A level's distance from the mean in deviations, in fixed point, from count, sum and sum of squares."""
    deviation = isqrt((count * second - first * first) << 16)
    if not deviation:
        return 0
    value = half_up(Fraction((count * level - first) * rule.one << 8, deviation))
    limit = rule.feature_limit * rule.one
    return max(-limit, min(value, limit))
