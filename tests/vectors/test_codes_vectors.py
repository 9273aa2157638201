"""Reads codes.json (format: docs/spec/codes.md, "Vectors")."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.codes import Code, Domain, locate_errors, recover, vanishing_polynomial
from collegium.errors import CollegiumError

DOCUMENT = json.loads((Path(__file__).parent / "codes.json").read_text())


def array(values: list[str]) -> np.ndarray:
    return np.array([int(value) for value in values], np.uint64)


def run(case: dict[str, Any]) -> list[int]:
    if case["function"] == "coefficients":
        message, randomness = array(case["message"]), array(case["randomness"])
        code = Code(message.size, randomness.size)
        return code.coefficients(message.reshape(1, -1), randomness.reshape(1, -1))[0].tolist()
    domain = Domain(int(case["domain"]["shift"]), case["domain"]["size"])
    if case["function"] == "encode":
        coefficients = array(case["coefficients"])
        code = Code(case["message_len"], coefficients.size - case["message_len"])
        return code.encode(coefficients.reshape(1, -1), domain)[0].tolist()
    erased = np.zeros(domain.size, np.bool_)
    erased[case["erased"]] = True
    if case["function"] == "vanishing_polynomial":
        return vanishing_polynomial(domain, erased).tolist()
    if case["function"] == "recover":
        return recover(case["degree_bound"], domain, array(case["word"]).reshape(1, -1), erased)[0].tolist()
    return locate_errors(case["degree_bound"], domain, array(case["word"]), erased).tolist()


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/codes/1"


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == [int(value) for value in case["result"]]
