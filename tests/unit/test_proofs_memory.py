"""A prover's columns may stand in a file: the proof is the same, bit for bit."""

from pathlib import Path

import numpy as np
from _proof_stage import case_of, proof_of, random_of

from collegium.algebra import FieldArray
from collegium.proofs import _prove


def test_columns_in_a_file_give_the_same_proof(tmp_path: Path) -> None:
    case, asked = case_of("hidden"), []

    def mapped(shape: tuple[int, int]) -> FieldArray:
        asked.append(shape)
        return np.memmap(tmp_path / "columns", np.uint64, "w+", shape=shape)

    random = random_of("prove", case.name, 0)
    proved = _prove.prove(case.program, case.assignment, case.data, random, allocate=mapped)
    assert proved.proof == proof_of("hidden")
    layout = case.program.layout
    assert asked == [(layout.code.domain.size, layout.width)]
    assert np.fromfile(tmp_path / "columns", np.uint64).any()
