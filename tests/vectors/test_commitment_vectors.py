"""Reads commitment.json (format: its maker, scripts/vectors/commitment.py)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.commitment import (
    ColumnRange,
    MerkleTree,
    column_leaves,
    combine_roots,
    multiproof_length,
    verify_multiproof,
)
from collegium.errors import CollegiumError

DOCUMENT = json.loads((Path(__file__).parent / "commitment.json").read_text())


def digests(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def decode_columns(case: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(case["data"])
    opened = ColumnRange.from_bytes(data, rows=case["rows"], leaf_count=case["leaf_count"], positions=case["positions"])
    assert opened.to_bytes() == data
    symbols = [[str(symbol) for symbol in column] for column in opened.symbols.tolist()]
    return {"symbols": symbols, "salts": opened.salts.hex(), "proof": opened.proof.hex()}


def run(case: dict[str, Any]) -> Any:
    match case["function"]:
        case "root":
            return MerkleTree(digests(case["leaves"])).root.hex()
        case "multiproof":
            proof = MerkleTree(digests(case["leaves"])).prove(case["positions"])
            assert len(proof) == multiproof_length(len(case["leaves"]), case["positions"])
            return proof.hex()
        case "verify_multiproof":
            root, proof = bytes.fromhex(case["root"]), bytes.fromhex(case["proof"])
            verify_multiproof(root, case["leaf_count"], case["positions"], digests(case["leaves"]), proof)
            return True
        case "column_leaves":
            symbols = np.array([[int(symbol) for symbol in column] for column in case["symbols"]], np.uint64)
            return [leaf.hex() for leaf in column_leaves(symbols, bytes.fromhex(case["salts"]))]
        case "combine_roots":
            return combine_roots(digests(case["roots"])).hex()
        case _:
            return decode_columns(case)


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/commitment/1"


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == case["result"]
