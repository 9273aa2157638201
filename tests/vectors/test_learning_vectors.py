"""Reads learning.json (format: docs/spec/learning.md, "Vectors")."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.errors import CollegiumError
from collegium.learning import (
    ModelSpec,
    Rule,
    apply_total,
    batch_indices,
    evaluate,
    exponential_table,
    local_update,
    logarithm_table,
    parameters_from_bytes,
    parameters_to_bytes,
    sigmoid_table,
    softplus_table,
)

DOCUMENT = json.loads((Path(__file__).parent / "learning.json").read_text())


def array(values: list[Any]) -> np.ndarray:
    return np.array(values, dtype=object).astype(np.int64)


def setting(case: dict[str, Any]) -> tuple[ModelSpec, Rule]:
    rule = dict(case["rule"])
    if "learning_rate" in rule:
        rule["learning_rate"] = Fraction(rule["learning_rate"])
    model = case["model"]
    return ModelSpec(model["kind"], model["inputs"], tuple(model["hidden"]), model.get("outputs", 1)), Rule(**rule)


def run(case: dict[str, Any]) -> list[int]:
    function = case["function"]
    if function in ("sigmoid_table", "softplus_table"):
        table = softplus_table() if function == "softplus_table" else sigmoid_table(case["fraction_bits"])
        return table[array(case["indices"]) + 4096].tolist()
    if function in ("exponential_table", "logarithm_table"):
        table = logarithm_table() if function == "logarithm_table" else exponential_table(case["fraction_bits"])
        return table[array(case["indices"])].tolist()
    if function == "batch_indices":
        seed = bytes.fromhex(case["batch_seed"])
        return batch_indices(Rule(batch_rows=case["batch_rows"]), case["rows"], seed, case["step"]).tolist()
    spec, rule = setting(case)
    if function == "parameters_from_bytes":
        data = bytes.fromhex(case["data"])
        parameters = parameters_from_bytes(spec, rule, data)
        assert parameters_to_bytes(spec, rule, parameters) == data
        return parameters.tolist()
    parameters = array(case["parameters"])
    if function == "apply_total":
        return apply_total(spec, rule, parameters, array(case["total"])).tolist()
    features, labels = array(case["features"]), array(case["labels"])
    if function == "local_update":
        seed = bytes.fromhex(case["batch_seed"])
        return local_update(spec, rule, parameters, features, labels, seed).tolist()
    worth = evaluate(spec, rule, parameters, features, labels)
    return [worth.rows, worth.loss_micro, worth.correct, worth.auc_numerator, worth.auc_denominator]


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/learning/1"


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == [int(value) for value in case["result"]]
