"""Reads algebra.json (format: docs/spec/algebra.md, "Vectors")."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium import algebra
from collegium.errors import CollegiumError

DOCUMENT = json.loads((Path(__file__).parent / "algebra.json").read_text())


def number(value: Any) -> Any:
    return int(value) if isinstance(value, str) else [number(item) for item in value]


def array(value: Any, dtype: type = np.uint64) -> np.ndarray:
    return np.array(number(value), dtype)


def pairs(value: Any) -> list[tuple[int, int]]:
    return [(a0, a1) for a0, a1 in number(value)]


def run(case: dict[str, Any]) -> Any:
    function = getattr(algebra, case["function"])
    match case["function"]:
        case "encode_signed":
            return function(array(case["a"], np.int64)).tolist()
        case "from_bytes":
            return function(bytes.fromhex(case["data"][2:])).tolist()
        case "coset_ntt":
            return function(array(case["coefficients"]), number(case["shift"]), number(case["size"])).tolist()
        case "ext_mul":
            return [list(function(a, b)) for a, b in zip(pairs(case["a"]), pairs(case["b"]), strict=True)]
        case "eq_table":
            return function(pairs(case["point"])).T.tolist()
        case "multilinear":
            return list(function(array(case["values"]), pairs(case["point"])))
        case _:
            return function(*(array(case[key]) for key in ("a", "b") if key in case)).tolist()


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/algebra/1"


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == number(case["result"])
