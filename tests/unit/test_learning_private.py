"""Clipped gradients: no row counts for more than the norm, and where none is longer the update is the rule's own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium import learning
from collegium.learning import (
    ModelSpec,
    Rule,
    RuleError,
    TrainingRowsError,
    clip_norm,
    clipped_update,
    clipped_update_bound,
)

SPEC = ModelSpec("mlp", 3, (4,))
RULE = Rule(batch_rows=6)
SEED = b"seed"


def rows(seed: int, count: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    features = draw.integers(-RULE.one, RULE.one, (count, SPEC.inputs))
    return learning.initial_parameters(SPEC, RULE, bytes([seed])), features, draw.integers(0, 2, count)


@given(st.lists(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=3, max_size=3), min_size=1, max_size=4), st.data())
def test_no_vector_is_longer_than_the_norm_and_short_ones_stay(vectors: list[list[int]], data: st.DataObject) -> None:
    lengths = [sum(entry**2 for entry in vector) for vector in vectors]
    norm = data.draw(st.integers(1, 1 << 41))
    clipped = clip_norm(np.array(vectors, np.int64), norm).tolist()
    for vector, square, found in zip(vectors, lengths, clipped, strict=True):
        assert sum(entry**2 for entry in found) <= norm**2
        assert square > norm**2 or found == vector
        assert all(entry * other >= 0 and abs(other) <= abs(entry) for entry, other in zip(vector, found, strict=True))


def test_a_clipped_vector_keeps_its_direction_to_a_unit() -> None:
    assert clip_norm(np.array([[300, -400], [3, 4]]), 100).tolist() == [[60, -80], [3, 4]]
    assert clip_norm(np.array([[300, -400]]), 499).tolist() == [[299, -399]]  # towards zero


def test_where_no_row_is_longer_the_update_is_the_rules_own() -> None:
    parameters, features, labels = rows(1)
    exact = learning.local_update(SPEC, RULE, parameters, features, labels, SEED)
    assert clipped_update(SPEC, RULE, parameters, features, labels, SEED, 1 << 60).tolist() == exact.tolist()
    assert clipped_update(SPEC, RULE, parameters, features, labels, SEED, 100).tolist() != exact.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_one_row_replaced_moves_the_update_by_twice_the_norm_at_most(seed: int) -> None:
    parameters, features, labels = rows(seed)
    norm = 1 << 20
    before = clipped_update(SPEC, RULE, parameters, features, labels, SEED, norm)
    for row in range(len(labels)):
        other, flipped = features.copy(), labels.copy()
        other[row], flipped[row] = -other[row], 1 - flipped[row]
        moved = clipped_update(SPEC, RULE, parameters, other, flipped, SEED, norm) - before
        assert sum(entry**2 for entry in moved.tolist()) <= (2 * norm) ** 2
    assert np.abs(before).max() <= clipped_update_bound(RULE, len(labels), norm) == 6 * norm


def test_several_local_steps_are_refused_by_name() -> None:
    parameters, features, labels = rows(1)
    with pytest.raises(RuleError, match="local_steps is 2, expected 1 where each row's gradient is clipped"):
        clipped_update(SPEC, replace(RULE, local_steps=2), parameters, features, labels, SEED, 100)


@pytest.mark.parametrize("limit", ["activation_limit", "error_limit"])
def test_limits_by_which_one_row_would_stop_an_update_are_refused_by_name(limit: str) -> None:
    parameters, features, labels = rows(1)
    with pytest.raises(RuleError, match=f"{limit}( is)? 1.*, expected none where a row must stop no update"):
        clipped_update(SPEC, replace(RULE, **{limit: 1}), parameters, features, labels, SEED, 100)


def test_rows_that_no_rule_covers_are_refused_as_in_any_update() -> None:
    parameters, features, labels = rows(1)
    with pytest.raises(TrainingRowsError, match="labels lie in"):
        clipped_update(SPEC, RULE, parameters, features, labels + 2, SEED, 100)


def test_ranges_scale_features_and_tell_the_number_of_rows_alone() -> None:
    schema = learning.schema_from_mapping({"columns": [{"name": "age", "lower": 0, "upper": 100}]})
    total = learning.statistics_of_ranges(schema, 7) + learning.statistics_of_ranges(schema, 5)
    (column,) = learning.scaling_from_total(schema, total).columns
    assert (column.count, column.total / column.count) == (12, 2048)
    assert column.deviation / 256 / column.count == pytest.approx(4096 / 12**0.5, rel=1e-3)
    assert total.max() <= learning.statistics_bound(schema, 12)
