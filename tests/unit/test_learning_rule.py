"""Models, rules, updates and steps: one behaviour each, and each with what is refused one step further."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from collegium.learning import (
    ActivationRangeError,
    EmptyTotalError,
    ErrorRangeError,
    ModelSpec,
    ModelSpecError,
    OverflowBudgetError,
    ParameterError,
    Patches,
    Rule,
    RuleError,
    StepTrace,
    TotalError,
    TrainingRowsError,
    _reference,
    apply_total,
    batch_indices,
    describe_rule,
    evaluate,
    float_reference,
    initial_parameters,
    layer_bounds,
    local_update,
    parameters_from_bytes,
    parameters_to_bytes,
    step_trace,
    update_bound,
)
from collegium.learning._integers import product
from collegium.learning._parameters import unpack

SPEC, RULE = ModelSpec("logistic", 2), Rule()
ONE = RULE.one
FEATURES = np.array([[ONE, 0], [0, ONE], [-ONE, ONE]])
LABELS = np.array([1, 0, 0])
START = np.zeros(3, np.int64)


def test_a_network_counts_its_parameters() -> None:
    assert ModelSpec("logistic", 25).parameter_count == 26
    assert ModelSpec("mlp", 25, (32, 4)).parameter_count == 26 * 32 + 33 * 4 + 5


@pytest.mark.parametrize(
    ("kind", "inputs", "hidden"),
    [
        ("logistic", 2, (3,)),
        ("mlp", 2, ()),
        ("mlp", 2, (0,)),
        ("mlp", 2, (1,) * 8),
        ("logistic", 0, ()),
        ("logistic", True, ()),
        ("logistic", 2**24, ()),
        ("mlp", 2, (2.0,)),
        ("forest", 2, ()),
    ],
)
def test_a_shape_out_of_bounds_is_refused(kind: str, inputs: int, hidden: tuple[int, ...]) -> None:
    with pytest.raises(ModelSpecError):
        ModelSpec(kind, inputs, hidden)  # type: ignore[arg-type]


def test_a_convolution_shares_its_parameters() -> None:
    """Six patches of 2 x 2 pixels of two channels, three filters: eight weights and a bias each, eighteen units."""
    patches = Patches(3, 4, 2, 2)
    spec = ModelSpec("mlp", 24, (3, 5), 1, patches)
    assert (patches.count, patches.entries, spec.layers) == (6, 8, ((8, 3), (18, 5), (5, 1)))
    assert (spec.widths, spec.positions) == ((18, 5), (6, 1, 1))
    assert spec.parameter_count == 9 * 3 + 19 * 5 + 6
    assert len(initial_parameters(spec, RULE, b"a")) == spec.parameter_count
    assert Patches(3, 4, 2, 2, 2).indices().tolist() == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]


def test_a_convolution_whose_patch_is_the_row_is_a_dense_layer() -> None:
    dense = ModelSpec("mlp", 4, (3,))
    whole = replace(dense, patches=Patches(2, 2, 1, 2))
    start = initial_parameters(dense, RULE, b"a")
    features = np.random.default_rng(1).integers(-ONE, ONE, (5, 4))
    labels = np.array([0, 1, 1, 0, 1])
    found = [step_trace(spec, RULE, start, features, labels).gradient.tolist() for spec in (dense, whole)]
    assert found[0] == found[1]
    assert update_bound(dense, RULE, 5) == update_bound(whole, RULE, 5)


@pytest.mark.parametrize(
    "numbers",
    [(0, 3, 1, 1, 1), (3, 3, 0, 1, 1), (3, 2, 1, 3, 1), (3, 3, 1, 0, 1), (3, 3, 1, 1, 0), (3, 3, 1.0, 1, 1),
     (3, True, 1, 1, 1), (2**12, 2**12, 2, 1, 2**12), (2**11, 2**11, 1, 3, 1)],
)  # fmt: skip
def test_patches_out_of_bounds_are_refused(numbers: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ModelSpecError):
        Patches(*numbers)


@pytest.mark.parametrize(("kind", "inputs", "hidden"), [("logistic", 9, ()), ("mlp", 8, (2,))])
def test_patches_of_another_picture_are_refused(kind: str, inputs: int, hidden: tuple[int, ...]) -> None:
    with pytest.raises(ModelSpecError, match="patches of 9 features"):
        ModelSpec(kind, inputs, hidden, 1, Patches(3, 3, 1, 2))  # type: ignore[arg-type]


def test_the_float_reference_knows_no_patches() -> None:
    spec = ModelSpec("mlp", 9, (2,), 1, Patches(3, 3, 1, 2))
    start = initial_parameters(spec, RULE, b"a")
    with pytest.raises(ModelSpecError, match="no patches"):
        float_reference(spec, RULE, start, [(np.zeros((2, 9), np.int64), np.array([0, 1]))], [[b"s"]])


@pytest.mark.parametrize("outputs", [0, -1, True, 2.0, 2**24])
def test_a_number_of_outputs_out_of_bounds_is_refused(outputs: object) -> None:
    with pytest.raises(ModelSpecError):
        ModelSpec("logistic", 2, (), outputs)  # type: ignore[arg-type]


def test_outputs_widen_the_last_layer() -> None:
    assert ModelSpec("logistic", 25, (), 10).parameter_count == 26 * 10
    assert ModelSpec("mlp", 25, (32,), 10).layers == ((25, 32), (32, 10))


@pytest.mark.parametrize(
    ("loss", "outputs", "accepted"),
    [
        ("sigmoid", 1, True),
        ("sigmoid", 2, False),
        ("softmax", 2, True),
        ("softmax", 1, False),
        ("squared", 1, True),
        ("squared", 2, True),
    ],
)
def test_a_loss_goes_with_its_outputs(loss: str, outputs: int, accepted: bool) -> None:
    spec, rule = ModelSpec("logistic", 2, (), outputs), replace(RULE, loss=loss)
    parameters = np.zeros(3 * outputs, np.int64)
    for use in (
        lambda: layer_bounds(spec, rule),
        lambda: local_update(spec, rule, parameters, FEATURES, LABELS, b""),
        lambda: step_trace(spec, rule, parameters, FEATURES, LABELS),
        lambda: evaluate(spec, rule, parameters, FEATURES, LABELS),
    ):
        if accepted:
            use()
        else:
            with pytest.raises(RuleError, match="outputs"):
                use()


def test_the_largest_model_is_accepted() -> None:
    assert ModelSpec("logistic", 2**24 - 1).parameter_count == 2**24
    assert len(ModelSpec("mlp", 2, (1,) * 7).layers) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"fraction_bits": 7},
        {"fraction_bits": 17},
        {"learning_rate": Fraction(0)},
        {"learning_rate": Fraction(-1, 2)},
        {"learning_rate": Fraction(1, 2**16 + 1)},
        {"learning_rate": Fraction(2**16 + 1)},
        {"learning_rate": 0.5},
        {"local_steps": 0},
        {"local_steps": 65},
        {"batch_rows": 0},
        {"batch_rows": 2.0},
        {"feature_limit": 0},
        {"hidden_limit": 65},
        {"output_limit": True},
        {"loss": "hinge"},
        {"loss": None},
        {"activation_limit": 0},
        {"activation_limit": 3},
        {"activation_limit": -2},
        {"activation_limit": 2**11},
        {"activation_limit": True},
        {"error_limit": 0},
        {"error_limit": 12},
        {"error_limit": 2**11},
        {"error_limit": 2.0},
    ],
)
def test_a_rule_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RuleError):
        replace(RULE, **change)


def test_a_rule_at_its_bounds_is_accepted() -> None:
    Rule(8, Fraction(1, 2**16), 1, 1, 1, 1, 1, "softmax", 1, 1)
    Rule(16, Fraction(2**16), 64, 2**24, 64, 64, 64, "squared", 2**10, 2**10)


def test_the_first_gradient_is_what_a_hand_computes() -> None:
    """At zero every logit is 0; the table's cell from 0 to 1/256 holds sigmoid(1/512) = .500488, 2050 / 4096."""
    update = local_update(SPEC, RULE, START, FEATURES, LABELS, b"")
    up, down = 2050, 2050 - 4096
    assert update.tolist() == [(down - up) * ONE, 2 * up * ONE, (down + 2 * up) * ONE, 3]


def test_a_hidden_unit_at_zero_passes_its_error_back() -> None:
    spec = ModelSpec("mlp", 1, (2,))
    parameters = np.array([0, -1, 0, 0, ONE, ONE, 0])  # pre-activations 0 and -1 on a feature of 1
    update = local_update(spec, RULE, parameters, np.array([[ONE]]), np.array([0]), b"")
    assert update[:2].tolist() == [2050 * ONE, 0]
    assert update[2:4].tolist() == [2050 * ONE, 0]


def test_the_first_softmax_gradient_is_what_a_hand_computes() -> None:
    """At zero all distances are 0: E = 4096 three times, p = floor(4096 / 3) = 1365 with a remainder of 4096."""
    spec, rule = ModelSpec("logistic", 1, (), 3), replace(RULE, loss="softmax")
    trace = step_trace(spec, rule, np.zeros(6, np.int64), np.array([[ONE]]), np.array([2]))
    assert trace.output.exponential.tolist() == [[4096] * 3]
    assert trace.output.normaliser.tolist() == [3 * 4096]
    assert trace.output.probability.tolist() == [[1365] * 3]
    assert trace.output.division_remainder.tolist() == [[4096] * 3]
    assert trace.gradient.tolist() == [1365 * ONE, 1365 * ONE, (1365 - 4096) * ONE] * 2


def test_a_squared_error_is_prediction_minus_target() -> None:
    """Z = -1 at 2f bits: the quotient is -1, not 0, and the remainder 2^f - 1."""
    rule, spec = replace(RULE, loss="squared"), ModelSpec("logistic", 1)
    trace = step_trace(spec, rule, np.array([1, 0]), np.array([[-1]]), np.array([1]))
    assert (trace.output.quotient.tolist(), trace.output.remainder.tolist()) == ([[-1]], [[ONE - 1]])
    assert trace.errors.tolist() == [[-1 - ONE]]


def test_equal_largest_logits_mean_the_first_class() -> None:
    spec, rule = ModelSpec("logistic", 1, (), 3), replace(RULE, loss="softmax")
    parameters = np.array([0, ONE, ONE, 0, 0, 0])
    worth = evaluate(spec, rule, parameters, np.array([[ONE], [ONE]]), np.array([1, 2]))
    assert (worth.correct, worth.auc_denominator) == (1, 0)


def test_a_squared_prediction_is_positive_from_one_half() -> None:
    spec, rule = ModelSpec("logistic", 1), replace(RULE, loss="squared")
    for bias, correct in ((ONE // 2, 1), (ONE // 2 - 1, 0)):
        assert evaluate(spec, rule, np.array([0, bias]), np.array([[0]]), np.array([1])).correct == correct


LIMITED = replace(RULE, loss="squared", activation_limit=1, error_limit=1)
NETWORK = ModelSpec("mlp", 1, (1,))
TWO_ROWS = np.array([[0], [0]]), np.array([0, 0])


@pytest.mark.parametrize(("value", "accepted"), [(-ONE - 1, False), (-ONE, True), (ONE - 1, True), (ONE, False)])
def test_a_pre_activation_lies_within_its_limit(value: int, accepted: bool) -> None:
    """On a feature of 0 the pre-activation is the hidden bias."""
    parameters = np.array([0, value, 0, 0])
    for use in (lambda: local_update(NETWORK, LIMITED, parameters, *TWO_ROWS, b""), lambda: traced(parameters)):
        if accepted:
            use()
            continue
        with pytest.raises(ActivationRangeError, match=str(value)) as refusal:
            use()
        assert refusal.value.values == {"layer": 0, "row": 0, "value": value, "limit": 1}
    local_update(NETWORK, replace(LIMITED, activation_limit=None), parameters, *TWO_ROWS, b"")


@pytest.mark.parametrize("hidden", [-1, 0])
@pytest.mark.parametrize(("value", "accepted"), [(-ONE - 1, False), (-ONE, True), (ONE - 1, True), (ONE, False)])
def test_a_back_propagated_value_lies_within_its_limit(value: int, accepted: bool, hidden: int) -> None:
    """The output's bias is its error, the weight of 1 passes it back; the limit holds where the selector is 0 too."""
    parameters = np.array([0, hidden, ONE, value])
    for use in (lambda: local_update(NETWORK, LIMITED, parameters, *TWO_ROWS, b""), lambda: traced(parameters)):
        if accepted:
            use()
            continue
        with pytest.raises(ErrorRangeError, match=str(value)) as refusal:
            use()
        assert refusal.value.values == {"layer": 0, "row": 0, "value": value, "limit": 1}
    local_update(NETWORK, replace(LIMITED, error_limit=None), parameters, *TWO_ROWS, b"")


def traced(parameters: np.ndarray) -> StepTrace:
    return step_trace(NETWORK, LIMITED, parameters, *TWO_ROWS)


def test_a_refusal_names_layer_and_row() -> None:
    spec = ModelSpec("mlp", 1, (1, 2))
    parameters = np.array([ONE, 0, 0, 2 * ONE, 0, 0, 0, 0, 0])
    features, labels = np.array([[1], [ONE // 2], [ONE // 4]]), np.zeros(3, np.int64)
    with pytest.raises(ActivationRangeError) as refusal:
        step_trace(spec, LIMITED, parameters, features, labels)
    assert refusal.value.values == {"layer": 1, "row": 1, "value": ONE, "limit": 1}


def test_a_row_beyond_the_limit_of_training_is_still_evaluated() -> None:
    worth = evaluate(NETWORK, LIMITED, np.array([0, ONE, ONE, 0]), *TWO_ROWS)
    assert worth.correct == 0


def test_several_steps_send_the_way_times_the_rows() -> None:
    rule = replace(RULE, local_steps=2)
    update = local_update(SPEC, rule, START, FEATURES, LABELS, b"")
    once = apply_total(SPEC, RULE, START, local_update(SPEC, RULE, START, FEATURES, LABELS, b""))
    twice = apply_total(SPEC, RULE, once, local_update(SPEC, RULE, once, FEATURES, LABELS, b""))
    assert update.tolist() == [*(3 * twice).tolist(), 3]
    assert apply_total(SPEC, rule, START, update).tolist() == twice.tolist()


def test_a_step_rounds_half_up() -> None:
    total = np.array([ONE, -ONE, 3 * ONE, 1])  # steps of 1/2, -1/2 and 3/2 round to 1, 0 and 2
    assert apply_total(SPEC, RULE, START, total).tolist() == [-1, 0, -2]


def test_a_step_stops_at_the_limit() -> None:
    limit = RULE.output_limit * ONE
    total = np.array([-(2**63), 2**62, 0, 1])
    assert apply_total(SPEC, RULE, START, total).tolist() == [limit, -limit, 0]


@pytest.mark.parametrize("weight", [0, -1])
def test_a_total_of_no_rows_is_refused(weight: int) -> None:
    with pytest.raises(EmptyTotalError, match=str(weight)):
        apply_total(SPEC, RULE, START, np.array([0, 0, 0, weight]))


@pytest.mark.parametrize("total", [np.array([0, 0, 1]), np.array([0.0, 0.0, 0.0, 1.0]), np.zeros((4, 1), np.int64)])
def test_a_total_of_another_shape_is_refused(total: np.ndarray) -> None:
    with pytest.raises(TotalError):
        apply_total(SPEC, RULE, START, total)


def test_an_absurd_total_moves_to_the_limit_and_stops_no_round() -> None:
    rule = replace(RULE, learning_rate=Fraction(2**16))
    limit = rule.output_limit * ONE
    total = np.array([2**63 - 1, -(2**63), 0, 1])
    assert apply_total(SPEC, rule, START, total).tolist() == [-limit, limit, 0]


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (FEATURES[:, :1], LABELS),
        (FEATURES, LABELS[:2]),
        (FEATURES[:0], LABELS[:0]),
        (FEATURES.astype(np.float64), LABELS),
        (FEATURES, LABELS.astype(np.int32)),
        (FEATURES + 4 * ONE, LABELS),
        (FEATURES - 4 * ONE, LABELS),
        (FEATURES, LABELS + 1),
        (FEATURES, LABELS - 1),
    ],
)
def test_rows_beyond_the_bounds_are_refused(features: np.ndarray, labels: np.ndarray) -> None:
    for use in (lambda *rows: local_update(*rows, b""), evaluate):
        with pytest.raises(TrainingRowsError):
            use(SPEC, RULE, START, features, labels)


@pytest.mark.parametrize(
    "parameters",
    [START[:2], START.astype(np.int32), START + 8 * ONE + 1, START - 8 * ONE - 1],
)
def test_parameters_beyond_the_bounds_are_refused(parameters: np.ndarray) -> None:
    for use in (
        lambda: local_update(SPEC, RULE, parameters, FEATURES, LABELS, b""),
        lambda: evaluate(SPEC, RULE, parameters, FEATURES, LABELS),
        lambda: apply_total(SPEC, RULE, parameters, np.array([0, 0, 0, 1])),
        lambda: parameters_to_bytes(SPEC, RULE, parameters),
    ):
        with pytest.raises(ParameterError):
            use()


def test_parameter_bytes_are_refused_after_the_smallest_change() -> None:
    data = parameters_to_bytes(SPEC, RULE, START + 8 * ONE)
    assert parameters_from_bytes(SPEC, RULE, data).tolist() == [8 * ONE] * 3
    past = (8 * ONE + 1).to_bytes(4, "little") + data[4:]
    for bad in (data[:-1], data + b"\0", past):
        with pytest.raises(ParameterError):
            parameters_from_bytes(SPEC, RULE, bad)


def test_a_batch_is_a_set_of_rows_that_seed_and_step_choose() -> None:
    rule = replace(RULE, batch_rows=10)
    chosen = batch_indices(rule, 100, b"seed", 0).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 10
    assert chosen == batch_indices(rule, 100, b"seed", 0).tolist()
    assert chosen != batch_indices(rule, 100, b"seed", 1).tolist()
    assert chosen != batch_indices(rule, 100, b"sefd", 0).tolist()
    assert batch_indices(rule, 10, b"seed", 0).tolist() == list(range(10))


def test_every_row_is_chosen_equally_often() -> None:
    rule, counts = replace(RULE, batch_rows=5), np.zeros(20)
    for seed in range(2000):
        counts[batch_indices(rule, 20, seed.to_bytes(4, "big"), 0)] += 1
    assert np.abs(counts - 500).max() < 6 * np.sqrt(2000 * 0.25 * 0.75)


def test_the_batch_bounds_the_update() -> None:
    assert update_bound(SPEC, replace(RULE, batch_rows=7), 1000) == update_bound(SPEC, RULE, 7)
    assert update_bound(SPEC, replace(RULE, batch_rows=7), 5) == update_bound(SPEC, RULE, 5)


def test_the_demo_fits_the_lane_of_a_weighted_sum() -> None:
    """16 trainers of at most 57 rows, weights of 4 bits, noise of 16 bits and a sign in 63 bits."""
    for spec in (ModelSpec("logistic", 25), ModelSpec("mlp", 25, (32,))):
        assert 16 + (update_bound(spec, RULE, 57) * 16 * 15).bit_length() + 1 <= 63


def test_layer_bounds_are_those_of_the_page() -> None:
    hidden, output = layer_bounds(ModelSpec("mlp", 25, (32,)), RULE)
    assert (hidden.parameter, hidden.input, hidden.sum) == (2 * ONE, 4 * ONE, 202 * ONE * ONE)
    assert (output.parameter, output.input, output.error) == (8 * ONE, 202 * ONE, ONE)
    assert hidden.error == 8 * ONE


def test_the_error_bound_is_that_of_the_loss() -> None:
    """Squared on the row 4 x 8 + 8 = 40 of a logistic model: a prediction of at most 40 in magnitude, a target of 1."""
    assert layer_bounds(ModelSpec("logistic", 1, (), 3), replace(RULE, loss="softmax"))[0].error == ONE
    assert layer_bounds(ModelSpec("logistic", 1), replace(RULE, loss="squared"))[0].error == 41 * ONE


def test_limits_lower_the_bounds() -> None:
    spec, rule = ModelSpec("mlp", 25, (32,)), replace(RULE, activation_limit=16, error_limit=4)
    hidden, output = layer_bounds(spec, rule)
    assert (hidden.error, output.input) == (4 * ONE, 16 * ONE - 1)
    assert update_bound(spec, rule, 57).bit_length() < update_bound(spec, RULE, 57).bit_length()
    assert layer_bounds(spec, replace(RULE, activation_limit=2**8, error_limit=8)) == layer_bounds(spec, RULE)


def test_a_limit_makes_a_deep_model_fit() -> None:
    deep = ModelSpec("mlp", 64, (64,) * 5)
    with pytest.raises(OverflowBudgetError):
        layer_bounds(deep, RULE)
    with pytest.raises(OverflowBudgetError, match="error"):
        layer_bounds(deep, replace(RULE, activation_limit=16, hidden_limit=64, fraction_bits=16))
    update_bound(deep, replace(RULE, activation_limit=16, error_limit=16), 1000)


def test_a_model_too_deep_for_its_limits_is_refused() -> None:
    deep = ModelSpec("mlp", 64, (64, 64, 64))
    update_bound(deep, RULE, 1)
    with pytest.raises(OverflowBudgetError, match="bits"):
        layer_bounds(ModelSpec("mlp", 64, (64, 64, 64, 64, 64)), RULE)
    with pytest.raises(OverflowBudgetError, match="gradient"):
        update_bound(deep, RULE, 2**24)


@pytest.mark.parametrize("rows_max", [0, 2**24 + 1])
def test_a_row_count_out_of_bounds_is_refused(rows_max: int) -> None:
    with pytest.raises(RuleError):
        update_bound(SPEC, RULE, rows_max)


def test_a_product_past_64_bits_is_refused() -> None:
    wide = np.full((1, 2), 2**31 - 1), np.full((2, 1), 2**31 - 1)
    assert product(*wide).tolist() == [[2 * (2**31 - 1) ** 2]]
    with pytest.raises(OverflowBudgetError):
        product(wide[0] + 1, wide[1] + 1)


def test_the_start_of_a_network_depends_on_the_seed_and_logistic_starts_at_zero() -> None:
    spec = ModelSpec("mlp", 25, (32,))
    start = initial_parameters(spec, RULE, b"a")
    assert start.tolist() != initial_parameters(spec, RULE, b"b").tolist()
    matrix = start[: 25 * 32]
    assert np.abs(matrix).max() <= ONE * np.sqrt(6 / 25)
    assert abs(matrix.std() / ONE - np.sqrt(2 / 25)) < 0.02
    assert not initial_parameters(SPEC, RULE, b"a").any()


def test_every_number_of_the_rule_is_described() -> None:
    base = describe_rule(SPEC, RULE)
    changes = {
        "fraction_bits": 10,
        "learning_rate": Fraction(1),
        "local_steps": 2,
        "batch_rows": 5,
        "feature_limit": 5,
        "hidden_limit": 3,
        "output_limit": 9,
        "loss": "squared",
        "activation_limit": 16,
        "error_limit": 16,
    }
    assert set(changes) == set(Rule.__dataclass_fields__)
    for name, value in changes.items():
        assert describe_rule(SPEC, replace(RULE, **{name: value})) != base
    assert describe_rule(ModelSpec("logistic", 3), RULE) != base
    assert describe_rule(ModelSpec("logistic", 2, (), 3), RULE) != base


def test_the_description_of_an_older_rule_stays_as_it_was() -> None:
    """Digests of tasks that use none of the later settings do not change."""
    later = {"outputs", "loss", "activation_limit", "error_limit", "patches"}
    assert not later & set(describe_rule(SPEC, RULE))
    rule = replace(RULE, loss="softmax", activation_limit=16, error_limit=8)
    assert later - {"patches"} <= set(describe_rule(ModelSpec("logistic", 2, (), 3), rule))
    picture = ModelSpec("mlp", 9, (2,), 3, Patches(3, 3, 1, 2))
    assert later <= set(describe_rule(picture, rule))
    assert describe_rule(picture, rule)["patches"] == [3, 3, 1, 2, 1]


def test_auc_counts_ties_half() -> None:
    features = np.array([[3], [2], [2], [1]]) * ONE
    parameters, spec = np.array([ONE, 0]), ModelSpec("logistic", 1)
    worth = evaluate(spec, RULE, parameters, features, np.array([1, 1, 0, 0]))
    assert (worth.auc_numerator, worth.auc_denominator) == (7, 8)
    assert worth.auc == 7 / 8
    assert worth.accuracy == 1 / 2


def test_auc_of_one_class_is_no_number() -> None:
    worth = evaluate(SPEC, RULE, START, FEATURES, np.ones(3, np.int64))
    assert worth.auc_denominator == 0
    assert np.isnan(worth.auc)


def test_loss_of_no_knowledge_is_one_bit() -> None:
    worth = evaluate(SPEC, RULE, START, FEATURES, LABELS)
    assert worth.loss == pytest.approx(np.log(2), abs=1e-3)


def test_loss_beyond_the_table_is_the_logit() -> None:
    spec, features = ModelSpec("logistic", 1), np.array([[4 * ONE]])
    for label, loss in ((0, 32), (1, 0)):
        worth = evaluate(spec, RULE, np.array([8 * ONE, 0]), features, np.array([label]))
        assert worth.loss == pytest.approx(loss, abs=1 / 512)


@pytest.mark.parametrize(("loss", "outputs"), [("sigmoid", 1), ("softmax", 2), ("squared", 1)])
def test_the_largest_losses_add_up_beyond_64_bits(loss: str, outputs: int) -> None:
    """A deep model with all its weights at the limit has logits of up to 60 bits."""
    spec = ModelSpec("mlp", 1, (64, 64) if loss == "squared" else (64, 64, 64), outputs)
    rule = Rule(fraction_bits=8, hidden_limit=64, output_limit=64, loss=loss, error_limit=1024)
    parameters = np.full(spec.parameter_count, 64 * rule.one)
    unpack(spec, parameters)[-1][0][:, 1:] *= -1
    features, labels = np.full((2, 1), 4 * rule.one), np.array([0, outputs - 1])
    worth = evaluate(spec, rule, parameters, features, labels)
    found = (worth.rows, worth.loss_micro, worth.correct, worth.auc_numerator, worth.auc_denominator)
    assert found == _reference.evaluate(spec, rule, parameters.tolist(), features.tolist(), labels.tolist())
    assert worth.loss_micro.bit_length() > 63


@pytest.mark.parametrize(("loss", "outputs"), [("sigmoid", 1), ("softmax", 3), ("squared", 1), ("squared", 3)])
def test_the_integers_follow_the_floats(loss: str, outputs: int) -> None:
    """Twenty rounds of two trainers: three clusters are told apart, and fixed point moves no parameter by a percent."""
    spec = ModelSpec("mlp", 2, (4,), outputs)
    rule = replace(RULE, loss=loss, learning_rate=Fraction(1, 4))
    random = np.random.default_rng(1)
    labels = random.integers(0, spec.classes, 60)
    centres = np.array([[1, 1], [-1, 1], [0, -1]]) * ONE
    features = centres[labels] + random.integers(-ONE // 4, ONE // 4 + 1, (60, 2))
    shards = [(features[:25], labels[:25]), (features[25:], labels[25:])]
    model = start = initial_parameters(spec, rule, b"start")
    for _ in range(20):
        model = apply_total(spec, rule, model, sum(local_update(spec, rule, model, *shard, b"") for shard in shards))
    floats = float_reference(spec, rule, start, shards, [[b"", b""]] * 20)
    assert np.abs(model / ONE - floats).max() < 0.01
    before, after = (evaluate(spec, rule, parameters, features, labels) for parameters in (start, model))
    assert after.loss < before.loss
    assert after.accuracy > 0.9
