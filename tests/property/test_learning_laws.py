"""The training rule equals its plain reference, adds up over trainers and keeps its bounds."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.learning import (
    ActivationRangeError,
    CategoryColumn,
    ErrorRangeError,
    ModelSpec,
    NumericColumn,
    OverflowBudgetError,
    Patches,
    Rule,
    Schema,
    SigmoidOutput,
    SoftmaxOutput,
    SquaredOutput,
    StepTrace,
    Table,
    _reference,
    apply_total,
    evaluate,
    exponential_table,
    features,
    initial_parameters,
    layer_bounds,
    local_update,
    parameters_from_bytes,
    parameters_to_bytes,
    scaling_from_total,
    schema_from_bytes,
    schema_from_mapping,
    schema_to_bytes,
    schema_to_mapping,
    sigmoid_table,
    statistics,
    statistics_bound,
    step_trace,
    update_bound,
)
from collegium.learning._activations import logarithm_micro
from collegium.learning._integers import Factor, divide_half_up, multiply, product, product_int64
from collegium.learning._parameters import parameter_limits, unpack

SEED = b"round 1, trainer 2"
OUTPUTS = {"sigmoid": st.just(1), "softmax": st.integers(2, 4), "squared": st.integers(1, 4)}


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    return Rule(
        fraction_bits=draw(st.integers(8, 16)),
        learning_rate=draw(st.fractions(Fraction(1, 100), 10, max_denominator=100)),
        local_steps=draw(st.integers(1, 3)),
        batch_rows=draw(st.none() | st.integers(1, 9)),
        feature_limit=draw(st.integers(1, 8)),
        hidden_limit=draw(st.integers(1, 3)),
        output_limit=draw(st.integers(1, 8)),
        loss=draw(st.sampled_from(["sigmoid", "softmax", "squared"])),
    )


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelSpec, Rule]:
    hidden = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    rule = draw(rules())
    spec = ModelSpec("mlp" if hidden else "logistic", draw(st.integers(1, 4)), hidden, draw(OUTPUTS[rule.loss]))
    return spec, rule


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[ModelSpec, Rule]:
    """Limits are narrow, so that no sum over patches can overflow."""
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kernel = draw(st.integers(1, min(3, height, width)))
    patches = Patches(height, width, draw(st.integers(1, 2)), kernel, draw(st.integers(1, 3)))
    hidden = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    rule = replace(draw(rules()), fraction_bits=draw(st.integers(8, 10)), hidden_limit=1, output_limit=2)
    return ModelSpec("mlp", patches.inputs, hidden, draw(OUTPUTS[rule.loss]), patches), rule


@st.composite
def tasks(draw: st.DrawFn, extreme: bool = False) -> tuple[ModelSpec, Rule, np.ndarray, np.ndarray, np.ndarray]:
    """A model, a rule, parameters, features and labels; `extreme` puts every entry at its limit."""
    spec, rule = draw(networks() | convolutions())
    rows = draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limits, limit = parameter_limits(spec, rule), rule.feature_limit * rule.one
    shape = (rows, spec.inputs)
    if extreme:
        parameters = limits * random.choice([-1, 1], limits.shape)
        values = limit * random.choice([-1, 1], shape)
    else:
        parameters = random.integers(-limits, limits + 1)
        values = random.integers(-limit, limit + 1, shape)
    return spec, rule, parameters, values, random.integers(0, spec.classes, rows)


@given(tasks())
def test_update_equals_the_reference(task: tuple) -> None:
    spec, rule, parameters, values, labels = task
    expected = _reference.local_update(spec, rule, parameters.tolist(), values.tolist(), labels.tolist(), SEED)
    assert local_update(spec, rule, parameters, values, labels, SEED).tolist() == expected


POWERS = st.integers(0, 10).map(lambda power: 1 << power)


@given(tasks(), st.none() | POWERS, st.none() | POWERS)
def test_limits_refuse_what_the_reference_refuses(task: tuple, activation: int | None, error: int | None) -> None:
    spec, rule, parameters, values, labels = task
    rule = replace(rule, activation_limit=activation, error_limit=error)
    plain = (parameters.tolist(), values.tolist(), labels.tolist())
    try:
        expected = _reference.local_update(spec, rule, *plain, SEED)
    except (ActivationRangeError, ErrorRangeError):
        with pytest.raises((ActivationRangeError, ErrorRangeError)) as refusal:
            local_update(spec, rule, parameters, values, labels, SEED)
        bound = refusal.value.values["limit"] * rule.one
        assert not -bound <= refusal.value.values["value"] < bound
        return
    update = local_update(spec, rule, parameters, values, labels, SEED)
    assert update.tolist() == expected
    assert np.abs(update).max() <= update_bound(spec, rule, len(labels))


@given(tasks())
def test_the_trace_fulfils_every_relation_of_the_page(task: tuple) -> None:
    """Each relation on its own, from the trace's integers alone."""
    spec, rule, parameters, values, labels = task
    trace = step_trace(spec, rule, parameters, values, labels)
    read = np.array([patch for row in values.tolist() for patch in _reference.cut(spec.patches, row)])
    layers, one, activation = unpack(spec, parameters), rule.one, read
    for (quotient, remainder), (matrix, bias) in zip(trace.hidden, layers[:-1], strict=True):
        assert (one * quotient + remainder == (activation @ matrix + one * bias).reshape(quotient.shape)).all()
        assert ((remainder >= 0) & (remainder < one)).all()
        activation = np.maximum(quotient, 0)
    check_output(spec, rule, trace, activation @ layers[-1][0] + one * layers[-1][1], labels)
    errors, slots = trace.errors, unpack(spec, trace.gradient)
    for depth in reversed(range(len(layers))):
        inputs = np.maximum(trace.hidden[depth - 1].quotient, 0) if depth else read
        shared = errors.reshape(len(inputs), -1)
        assert (slots[depth][0] == inputs.T @ shared).all()
        assert (slots[depth][1] == one * shared.sum(axis=0)).all()
        if depth:
            quotient, remainder = trace.back[depth - 1]
            assert (one * quotient + remainder == errors @ layers[depth][0].T).all()
            assert ((remainder >= 0) & (remainder < one)).all()
            errors = quotient * (trace.hidden[depth - 1].quotient >= 0)


def check_output(spec: ModelSpec, rule: Rule, trace: StepTrace, logits: np.ndarray, labels: np.ndarray) -> None:
    """The relations of the output layer, of each loss."""
    output, one = trace.output, rule.one
    cell = 1 << (2 * rule.fraction_bits - 8)
    goals = labels[:, None] * one if spec.outputs == 1 else one * np.eye(spec.outputs, dtype=np.int64)[labels]
    if isinstance(output, SquaredOutput):
        assert (one * output.quotient + output.remainder == logits).all()
        assert ((output.remainder >= 0) & (output.remainder < one)).all()
        assert (trace.errors == output.quotient - goals).all()
        return
    expected = logits if isinstance(output, SoftmaxOutput) else logits[:, 0]
    assert (cell * output.index + output.index_remainder == expected).all()
    assert ((output.index_remainder >= 0) & (output.index_remainder < cell)).all()
    if isinstance(output, SigmoidOutput):
        assert (output.logits == expected).all()
        assert (trace.errors == output.probability[:, None] - goals).all()
        assert (output.probability == sigmoid_table(rule.fraction_bits)[output.index.clip(-4096, 4095) + 4096]).all()
        return
    assert (output.distance == output.maximum[:, None] - output.index).all()
    assert (output.distance.min(axis=1) == 0).all()
    assert (output.exponential == exponential_table(rule.fraction_bits)[output.distance.clip(0, 4095)]).all()
    assert (output.normaliser == output.exponential.sum(axis=1)).all()
    divided = output.probability * output.normaliser[:, None] + output.division_remainder
    assert (divided == one * output.exponential).all()
    assert ((output.division_remainder >= 0) & (output.division_remainder < output.normaliser[:, None])).all()
    assert (trace.errors == output.probability - goals).all()


@given(tasks(), st.integers(0, 2**62), st.integers(1, 2**62))
def test_step_equals_the_reference_up_to_the_largest_totals(task: tuple, entry: int, weight: int) -> None:
    spec, rule, parameters, _, _ = task
    total = np.array([(-1) ** i * (entry >> i) for i in range(spec.parameter_count)] + [weight])
    expected = _reference.apply_total(spec, rule, parameters.tolist(), total.tolist())
    assert apply_total(spec, rule, parameters, total).tolist() == expected


@given(tasks())
def test_worth_equals_the_reference(task: tuple) -> None:
    spec, rule, parameters, values, labels = task
    worth = evaluate(spec, rule, parameters, values, labels)
    found = (worth.rows, worth.loss_micro, worth.correct, worth.auc_numerator, worth.auc_denominator)
    assert found == _reference.evaluate(spec, rule, parameters.tolist(), values.tolist(), labels.tolist())


@given(tasks(extreme=True))
def test_no_update_exceeds_the_declared_bound(task: tuple) -> None:
    spec, rule, parameters, values, labels = task
    update = local_update(spec, rule, parameters, values, labels, SEED)
    assert np.abs(update).max() <= update_bound(spec, rule, len(labels))


def test_the_declared_bound_is_reached() -> None:
    """A bound without slack: the largest features with the largest error."""
    spec, rule = ModelSpec("logistic", 1), Rule()
    values, labels = np.full((5, 1), 4 * rule.one), np.zeros(5, np.int64)
    update = local_update(spec, rule, np.array([8 * rule.one, 0]), values, labels, SEED)
    assert update[0] == update_bound(spec, rule, 5) == 5 * 4 * rule.one * rule.one


def test_the_declared_bound_of_shared_parameters_is_reached() -> None:
    """Six patches, each with the largest pixel and the largest error that gets back to it; a ReLU passes it on."""
    spec, rule = ModelSpec("mlp", 6, (1,), patches=Patches(2, 3, 1, 1)), Rule()
    values, labels = np.full((5, 6), 4 * rule.one), np.zeros(5, np.int64)
    parameters = np.array([2 * rule.one, 0, *([8 * rule.one] * 6), 0])
    update = local_update(spec, rule, parameters, values, labels, SEED)
    assert update[0] == 5 * 6 * (4 * rule.one) * (8 * rule.one)
    wider = replace(rule, hidden_limit=1, error_limit=8, activation_limit=1)
    bounds = layer_bounds(spec, wider)
    assert bounds[0].gradient_per_row == 6 * (4 * rule.one) * (8 * rule.one)
    assert update_bound(spec, wider, 5) == update[0]


@given(tasks(), st.integers(0, 8))
def test_one_step_updates_add_up_over_trainers(task: tuple, cut: int) -> None:
    spec, rule, parameters, values, labels = task
    rule = Rule(rule.fraction_bits, feature_limit=rule.feature_limit, hidden_limit=3, output_limit=8, loss=rule.loss)
    cut = cut % len(labels)
    whole = local_update(spec, rule, parameters, values, labels, SEED)
    first = local_update(spec, rule, parameters, values[cut:], labels[cut:], SEED)
    rest = local_update(spec, rule, parameters, values[:cut], labels[:cut], SEED) if cut else np.zeros_like(first)
    assert (first + rest).tolist() == whole.tolist()


@given(tasks(), st.integers(2, 15))
def test_equal_weights_change_nothing(task: tuple, weight: int) -> None:
    spec, rule, parameters, values, labels = task
    update = local_update(spec, rule, parameters, values, labels, SEED)
    plain = apply_total(spec, rule, parameters, update)
    assert apply_total(spec, rule, parameters, weight * update).tolist() == plain.tolist()


@given(tasks())
def test_parameters_return_from_their_bytes(task: tuple) -> None:
    spec, rule, parameters, _, _ = task
    data = parameters_to_bytes(spec, rule, parameters)
    assert len(data) == 4 * spec.parameter_count
    assert parameters_from_bytes(spec, rule, data).tolist() == parameters.tolist()


@given(tasks(), st.binary(max_size=40))
def test_start_stays_within_the_limits(task: tuple, seed: bytes) -> None:
    spec, rule, *_ = task
    start = initial_parameters(spec, rule, seed)
    assert (np.abs(start) <= parameter_limits(spec, rule)).all()
    assert start.tolist() == initial_parameters(spec, rule, seed).tolist()


@given(st.integers(1, 30), st.sampled_from([2**20, 2**26, 2**30]), st.integers(0, 2**32 - 1))
def test_products_on_both_sides_of_the_float_bound_are_exact(inner: int, limit: int, seed: int) -> None:
    """2^26 * 2^26 is below and 2 * 2^26 * 2^26 at the bound of 2^53, so both branches are met."""
    random = np.random.default_rng(seed)
    a, b = random.integers(-limit, limit + 1, (3, inner)), random.integers(-limit, limit + 1, (inner, 2))
    bound = inner * limit * limit
    if bound < 2**63:
        exact = [
            [sum(x * y for x, y in zip(row, column, strict=True)) for column in b.T.tolist()] for row in a.tolist()
        ]
        assert product(a, b).tolist() == product_int64(a, b, bound).tolist() == exact


@given(st.sampled_from([2**20, 2**52, 2**53 - 1, 2**53, 2**55]), st.integers(0, 2**32 - 1))
def test_what_a_product_takes_with_it_is_exact_on_both_sides_of_the_float_bound(limit: int, seed: int) -> None:
    """Bias, selector, transposition and target, of factors that float64 holds and of some that it does not."""
    random = np.random.default_rng(seed)
    a, b = random.integers(-limit, limit + 1, (3, 2)), random.integers(-9, 10, (2, 2))
    selector, bias = random.integers(0, 2, a.shape) == 1, random.integers(-limit, limit + 1, 2)
    out = np.empty((3, 2), np.int64)
    found = multiply(Factor.selected(a, selector, limit), Factor.of(b).transposed, bias, out)
    exact = (a.astype(object) * selector) @ b.T.astype(object) + bias.astype(object)
    assert found is out
    assert found.tolist() == exact.tolist()


def test_a_bias_counts_in_the_bound_of_a_product() -> None:
    one, large = Factor.of(np.array([[2**31]])), Factor.of(np.array([[2**32 - 1]]))
    assert multiply(one, large, np.array([2**31 - 1])).tolist() == [[2**63 - 1]]
    with pytest.raises(OverflowBudgetError):
        multiply(one, large, np.array([2**31]))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.integers(1, 2**16), st.integers(1, 2**80))
def test_division_rounds_half_up_without_overflow(values: list[int], numerator: int, denominator: int) -> None:
    found = divide_half_up(np.array(values, np.int64), numerator, denominator).tolist()
    exact = [_reference.half_up(Fraction(value * numerator, denominator)) for value in values]
    assert found == [max(-(2**63) + 1, min(value, 2**63 - 1)) for value in exact]


NUMBERS = st.floats(-20, 20, allow_nan=False).map(repr) | st.sampled_from(["", "0", "-9"])
LETTERS = st.sampled_from(["a", "b", ""])
SCHEMA = Schema((NumericColumn("x", -10, 10, ("-9",)), CategoryColumn("c", ("b", "a")), NumericColumn("y", 0, 1)))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.lists(st.tuples(NUMBERS, NUMBERS, LETTERS), min_size=1, max_size=12))
    x, y, c = zip(*rows, strict=True)
    return Table(("c", "x", "y"), (c, x, y))


@given(tables(), st.integers(0, 12))
def test_statistics_add_up_and_scale_alike(table: Table, cut: int) -> None:
    cut = cut % table.row_count
    total = statistics(SCHEMA, table)
    assert total.max() <= statistics_bound(SCHEMA, table.row_count)
    parts = [range(cut), range(cut, table.row_count)]
    assert sum(statistics(SCHEMA, table.select(part)) for part in parts if part).tolist() == total.tolist()
    assert features(SCHEMA, scaling_from_total(SCHEMA, 3 * total), table).shape == (table.row_count, 4)


@given(tables())
def test_features_equal_the_reference(table: Table) -> None:
    rule, total = Rule(), statistics(SCHEMA, table).tolist()
    found = features(SCHEMA, scaling_from_total(SCHEMA, np.array(total)), table, rule).tolist()
    for row, values in enumerate(found):
        for position, column, sums in ((0, SCHEMA.columns[0], total[:3]), (3, SCHEMA.columns[2], total[3:])):
            number = column.parse(table)[row]
            level = None
            if number is not None:
                share = (min(max(number, column.lower), column.upper) - column.lower) / (column.upper - column.lower)
                level = min(int(share * 4096), 4095)
            assert values[position] == (0 if level is None else _reference.scaled(level, *sums, rule))
        assert values[1:3] == {"b": [rule.one, 0], "a": [0, rule.one], "": [0, 0]}[table.column("c")[row]]


TEXTS = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=5)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    columns: list[NumericColumn | CategoryColumn] = []
    for name in draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True)):
        values = draw(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
        if draw(st.booleans()):
            lower = draw(st.floats(-1e6, 1e6))
            columns.append(NumericColumn(name, lower, lower + draw(st.floats(1, 1e6)), tuple(values)))
        else:
            columns.append(CategoryColumn(name, tuple(values[1:]), (values[0],)))
    return Schema(tuple(columns))


@given(schemas())
def test_schema_returns_from_its_bytes_and_mapping(schema: Schema) -> None:
    assert schema_from_bytes(schema_to_bytes(schema)) == schema
    assert schema_from_mapping(schema_to_mapping(schema)) == schema


@pytest.mark.parametrize("fraction_bits", [8, 12, 16])
def test_table_is_the_sigmoid(fraction_bits: int) -> None:
    from collegium.learning import softplus_table

    middles = (2 * np.arange(-4096, 4096) + 1) / 512
    exact = 2**fraction_bits / (1 + np.exp(-middles))
    table = sigmoid_table(fraction_bits)
    assert np.abs(table - exact).max() <= 0.5 + 1e-6
    assert (table + table[::-1] == 2**fraction_bits).all()
    assert np.abs(softplus_table() - 1e6 * np.logaddexp(0, middles)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("fraction_bits", [8, 12, 16])
def test_table_is_the_exponential(fraction_bits: int) -> None:
    table = exponential_table(fraction_bits)
    assert np.abs(table - 2**fraction_bits * np.exp(-np.arange(4096) / 256)).max() <= 0.5 + 1e-6
    assert table[0] == 2**fraction_bits
    assert (np.diff(table) <= 0).all()


@given(st.integers(8, 16), st.integers(0, 2**24), st.data())
def test_logarithm_is_too_small_by_at_most_one_cell(fraction_bits: int, extra: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1 << fraction_bits, 1 << fraction_bits + 24) | st.just((1 << fraction_bits) + extra))
    found = int(logarithm_micro(np.array([number]), fraction_bits)[0])
    assert found == _reference.logarithm_micro(number, fraction_bits)
    exact = 1e6 * np.log(number / 2**fraction_bits)
    assert -1.01 <= exact - found <= 1e6 / 2**12 + 1.01
