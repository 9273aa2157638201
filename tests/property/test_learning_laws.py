"""The training rule equals its plain reference, adds up over trainers and keeps its bounds."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.learning import (
    CategoryColumn,
    ModelSpec,
    NumericColumn,
    Rule,
    Schema,
    Table,
    _reference,
    apply_total,
    evaluate,
    features,
    initial_parameters,
    local_update,
    parameters_from_bytes,
    parameters_to_bytes,
    scaling_from_total,
    schema_from_bytes,
    schema_from_mapping,
    schema_to_bytes,
    schema_to_mapping,
    statistics,
    statistics_bound,
    update_bound,
)
from collegium.learning._integers import divide_half_up, product, product_int64
from collegium.learning._parameters import parameter_limits

SEED = b"round 1, trainer 2"


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
    )


@st.composite
def tasks(draw: st.DrawFn, extreme: bool = False) -> tuple[ModelSpec, Rule, np.ndarray, np.ndarray, np.ndarray]:
    """A model, a rule, parameters, features and labels; `extreme` puts every entry at its limit."""
    hidden = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    spec = ModelSpec("mlp" if hidden else "logistic", draw(st.integers(1, 4)), hidden)
    rule, rows = draw(rules()), draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limits, limit = parameter_limits(spec, rule), rule.feature_limit * rule.one
    shape = (rows, spec.inputs)
    if extreme:
        parameters = limits * random.choice([-1, 1], limits.shape)
        values = limit * random.choice([-1, 1], shape)
    else:
        parameters = random.integers(-limits, limits + 1)
        values = random.integers(-limit, limit + 1, shape)
    return spec, rule, parameters, values, random.integers(0, 2, rows)


@given(tasks())
def test_update_equals_the_reference(task: tuple) -> None:
    spec, rule, parameters, values, labels = task
    expected = _reference.local_update(spec, rule, parameters.tolist(), values.tolist(), labels.tolist(), SEED)
    assert local_update(spec, rule, parameters, values, labels, SEED).tolist() == expected


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


@given(tasks(), st.integers(0, 8))
def test_one_step_updates_add_up_over_trainers(task: tuple, cut: int) -> None:
    spec, rule, parameters, values, labels = task
    rule = Rule(rule.fraction_bits, feature_limit=rule.feature_limit, hidden_limit=3, output_limit=8)
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
    from collegium.learning import sigmoid_table, softplus_table

    middles = (2 * np.arange(-4096, 4096) + 1) / 512
    exact = 2**fraction_bits / (1 + np.exp(-middles))
    table = sigmoid_table(fraction_bits)
    assert np.abs(table - exact).max() <= 0.5 + 1e-6
    assert (table + table[::-1] == 2**fraction_bits).all()
    assert np.abs(softplus_table() - 1e6 * np.logaddexp(0, middles)).max() <= 0.5 + 1e-6
