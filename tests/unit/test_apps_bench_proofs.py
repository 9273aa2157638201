"""The benchmark of proofs verifies what it times, checks its peers' step against ours, and says what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from collegium.aggregation import BudgetError
from collegium.apps import _bench_proofs, _bench_rows, _ezkl_peer, _memory
from collegium.apps._bench_proofs import (
    BoundedCase,
    Clock,
    Made,
    Measure,
    Targets,
    TrainingCase,
    UnknownSizeError,
    WrongProofError,
    WrongStepError,
    case_rows,
    cases,
    check_step,
    ezkl_rows,
    make,
    measure,
    memory_rows,
    peak_memory,
    proof_rows,
    torch_step,
    verify,
    widest_budget,
)
from collegium.apps._bench_rows import Spread
from collegium.apps._ezkl_peer import EzklMeasure, Size, plain_gradients, run_limited
from collegium.apps.cli import Engine, ExitCode, app
from collegium.proofs import OpeningRejectedError, ProofCode, Proved

TINY = TrainingCase("small", 6, 5, 4, 3, 2048)
SOFT = replace(TINY, size="softmax", loss="softmax")
BOUNDED = BoundedCase("10k", 100, 1024)
OURS = Measure(
    code=ProofCode(2048, 2),
    prover=Spread.of([0.1, 0.2, 0.3]),
    parts={"masking": Spread.of([0.01]), "hash": Spread.of([0.02])},
    committing=Spread.of([0.03]),
    verifier=Spread.of([0.06]),
    proof_bytes=300_000,
    steps={"operations": Spread.of([0.004]), "autograd": Spread.of([0.005])},
)


def rows_of(case: TrainingCase | BoundedCase, ours: Measure) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in case_rows(case, ours)}


@pytest.fixture(scope="module")
def made() -> Made:
    return make(TINY)


# Our side


@pytest.mark.slow
@pytest.mark.parametrize("case", [TINY, SOFT, BOUNDED], ids=lambda case: case.size)
def test_every_case_is_proved_and_verified(case: TrainingCase | BoundedCase) -> None:
    proved = make(case)
    assert verify(proved) > 0
    assert set(proved.parts) > {"masking", "witness", "encode", "hash", "openings"}
    assert (proved.committing_seconds > 0, "step trace" in proved.parts) == (case is not BOUNDED,) * 2


@pytest.mark.slow
def test_a_changed_proof_is_refused(made: Made) -> None:
    proof = bytearray(made.proved.proof)
    proof[-1] ^= 1  # the last column's last node or symbol
    with pytest.raises(OpeningRejectedError):
        verify(replace(made, proved=Proved(bytes(proof), made.proved.first)))


@pytest.mark.slow
def test_other_values_of_the_key_than_the_prover_stated_are_refused(made: Made) -> None:
    values = made.proved.first.key_values.copy()
    values[0, 0] ^= np.uint64(1)
    first = replace(made.proved.first, key_values=values)
    with pytest.raises(WrongProofError, match="speaks of the key"):
        verify(replace(made, proved=Proved(made.proved.proof, first)))


@pytest.mark.slow
def test_what_is_proved_is_masked_afresh_in_every_run(made: Made) -> None:
    again = make(TINY)
    np.testing.assert_array_equal(made.update, again.update)
    assert not np.array_equal(made.statement.masked.ciphertext, again.statement.masked.ciphertext)
    assert not np.array_equal(made.statement.masked.matrix, again.statement.masked.matrix)


def test_a_clock_gives_every_moment_to_one_part() -> None:
    clock = Clock()
    for part in ("one", "two", "one"):
        clock(part)
    assert list(clock.seconds) == ["one", "two"]
    assert min(clock.seconds.values()) > 0


def test_a_sum_takes_sixteen_trainers_or_as_many_as_fit() -> None:
    assert widest_budget(32767, 2).trainers_max == 16
    assert widest_budget(1 << 52, 1).trainers_max == 1
    with pytest.raises(BudgetError, match="the field holds"):
        widest_budget(1 << 60, 1)


@pytest.mark.slow
def test_peak_memory_is_that_of_another_process() -> None:
    memory = peak_memory("10k")
    assert isinstance(memory, tuple)
    assert memory[0] > memory[1] > 10_000_000


@pytest.mark.slow
def test_a_process_that_fails_has_no_peak() -> None:
    assert peak_memory("no such size") == "not measured: the process ended with 1"


def test_memory_of_this_process() -> None:
    before = _memory.resident_peak()
    held = np.ones(1 << 22)
    assert _memory.resident_peak() >= before
    assert _memory.resident() >= held.nbytes
    _memory.forget_peak()
    assert _memory.resident_peak() > 0


def test_without_the_kernels_word_the_peak_is_what_the_process_was_charged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(_memory, "_FORGET", tmp_path / "no folder" / "none")
    _memory.forget_peak()
    assert _memory.resident() == _memory.resident_peak() > 10_000_000


# The cases


def test_quick_is_the_small_sizes_and_a_name_is_one_case() -> None:
    assert [case.size for case in cases(quick=True, size=None)] == ["small", "softmax", "10k"]
    assert len(cases(quick=False, size=None)) == 7
    assert [case.name for case in cases(quick=True, size="large")] == ["(1024,1024,1024,10) squared"]
    with pytest.raises(UnknownSizeError, match="'huge', expected one of small, softmax, medium"):
        cases(quick=False, size="huge")


# PyTorch


def plain_peer(case: TrainingCase, features: Any) -> Any:
    """Return a peer that takes the step in numpy, in double precision."""
    made = _bench_proofs._weights(case)
    real = [(array / case.rule.one).reshape(-1).tolist() for array in (features, *made)]
    targets = _bench_proofs._targets(case).reshape(-1).tolist()
    size = Size(case.rows, case.inputs, case.hidden, case.outputs)
    gradient = np.concatenate(
        [part.reshape(-1) for part in plain_gradients(size, [real[0], targets, *real[1:]]).values()]
    )
    return SimpleNamespace(ways={"numpy": None}, gradient=lambda way: gradient)


@pytest.mark.slow
def test_the_step_that_is_proved_is_the_plain_one_up_to_rounding(made: Made) -> None:
    check_step(TINY, made.update, plain_peer(TINY, TINY.features))


@pytest.mark.slow
def test_a_peer_with_another_step_is_refused(made: Made) -> None:
    with pytest.raises(WrongStepError, match="gradient by numpy differs"):
        check_step(TINY, made.update, plain_peer(TINY, -TINY.features))


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("case", [TINY, SOFT], ids=lambda case: case.size)
def test_pytorch_takes_the_same_step_both_ways(case: TrainingCase) -> None:
    peer = torch_step(case)
    assert peer is not None
    update = make(case).update
    check_step(case, update, peer)
    with pytest.raises(WrongStepError, match="by operations"):
        check_step(case, update, replace(peer, targets=1 - peer.targets))


@pytest.mark.torch
@pytest.mark.slow
def test_both_sides_are_measured_in_turn() -> None:
    measured = measure(TINY, repeats=2)
    assert {way: spread.runs for way, spread in measured.steps.items()} == {"operations": 10, "autograd": 10}
    assert measured.prover.runs == measured.verifier.runs == 2
    assert measured.step is not None
    assert measured.step.median == min(spread.median for spread in measured.steps.values())


@pytest.mark.slow
def test_no_run_is_begun_when_a_case_has_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench_proofs, "CASE_SECONDS", 0.0)
    measured = measure(BOUNDED, repeats=3)
    assert (measured.prover.runs, measured.steps, measured.step, measured.committing) == (1, {}, None, None)


# EZKL


def printing(*lines: object, code: int = 0, error: str = "") -> list[str]:
    """Return a command that prints these lines, and an error, and ends."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.stderr.write({error!r}); sys.exit({code})"]


def test_a_verified_proof_of_ezkl_is_measured() -> None:
    fact = {"verified": True, "proof_bytes": 7, "peak_bytes": 8, "circuit_rows": 9, "difference": 0.5}
    measured = run_limited(printing("its own line", {"part": "setup", "seconds": 2.0}, "3", fact), 60)
    assert measured == EzklMeasure({"setup": 2.0}, None, 7, 8, 9, 0.5)


def test_a_proof_that_was_not_verified_is_no_measure() -> None:
    assert run_limited(printing({"verified": False, "circuit_rows": 1500}), 60).failure == (
        "its proof was not verified; its circuit has 1,500 rows"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("memory allocation failed\nabort", "ended with code 3: memory allocation failed"),
        ("Traceback\n  File\nRuntimeError: no\n", "ended with code 3: RuntimeError: no"),
        ("", "ended with code 3: without a word"),
    ],
)
def test_a_failing_process_is_quoted_with_the_parts_it_did(error: str, reason: str) -> None:
    measured = run_limited(printing({"part": "setup", "seconds": 2.0}, code=3, error=error), 60)
    assert (measured.failure, measured.seconds) == (reason, {"setup": 2.0})


def test_a_process_that_takes_too_long_is_ended() -> None:
    assert run_limited([sys.executable, "-c", "input()"], 0.0).failure == "stopped after 0 s"


def test_a_larger_step_is_not_tried_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = EzklMeasure(failure="stopped after 360 s")
    assert _bench_proofs.measure_ezkl(TINY, [failed], 360).failure == "not tried: a smaller step failed already"
    asked: list[Any] = []

    def measure_ezkl(*arguments: Any) -> EzklMeasure:
        asked.append(arguments)
        return EzklMeasure()

    monkeypatch.setattr(_ezkl_peer, "measure_ezkl", measure_ezkl)
    assert _bench_proofs.measure_ezkl(TINY, [], 360).failure is None
    ((size, arrays, limit),) = asked
    assert limit == 360
    assert {name: array.size for name, array in arrays.items()} == {
        name: rows * columns for name, (rows, columns) in size.shapes.items()
    }


def test_ezkl_stands_beside_our_prover_and_verifier() -> None:
    measured = EzklMeasure({"setup": 100.0, "prove": 20.0, "verify": 0.6}, None, 30_000, 10**9, 190_543, 0.01)
    rows = {row["name"]: row for row in ezkl_rows(TINY, OURS, measured)}
    assert (rows["EZKL: prove"]["ours"], rows["EZKL: prove"]["ratio"]) == (200.0, pytest.approx(100))
    assert (rows["EZKL: setup"]["ours"], rows["EZKL: setup"]["peer"]) == (None, 100_000.0)
    assert rows["EZKL: prove"]["unit"].endswith("one run")
    assert (rows["EZKL: proof"]["ratio"], rows["EZKL: verify"]["ratio"]) == (0.1, pytest.approx(10))
    assert "190,543 rows, 7 fraction bits" in rows["EZKL: circuit"]["unit"]


def test_what_ezkl_cannot_do_is_said_with_the_reason() -> None:
    rows = list(ezkl_rows(TINY, OURS, EzklMeasure({"compile": 1.0}, "stopped after 360 s")))
    assert [(row["name"], row["ours"]) for row in rows] == [("EZKL: compile", None), ("EZKL", None)]
    assert rows[-1]["unit"] == "stopped after 360 s"


# Rows


def test_targets_are_printed_and_never_asserted() -> None:
    targets = Targets(steps=50, proof_bytes=299_999, prover_seconds=0.2)
    rows = rows_of(replace(TINY, targets=targets), OURS)
    assert {name: row["met"] for name, row in rows.items() if "met" in row} == {
        "prover": True,
        "prover, in steps": True,
        "verifier": True,
        "proof": False,
    }
    assert rows["prover, in steps"]["ours"] == pytest.approx(50)
    assert rows["proof"]["unit"] == "kB, target at most 299.999: missed"
    assert rows["prover"]["unit"] == "ms 100-300 in 3 | one run, target at most 200: met"
    assert (rows["prover"]["peer"], rows["prover"]["ratio"]) == (4.0, pytest.approx(0.02))


def test_no_time_is_judged_on_a_loaded_machine() -> None:
    targets = Targets(steps=50, proof_bytes=299_999, prover_seconds=0.2)
    rows = {row["name"]: row for row in case_rows(replace(TINY, targets=targets), OURS, loaded=True)}
    judged = {name: row["met"] for name, row in rows.items() if "met" in row}
    assert judged == {"prover": None, "prover, in steps": None, "verifier": None, "proof": False}
    assert rows["verifier"]["unit"].endswith("target at most 60: not judged, the machine is loaded")


@pytest.mark.parametrize(("load", "loaded"), [(3.0, False), (3.01, True)])
def test_a_machine_is_loaded_when_others_wait_for_its_cores(
    load: float, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bench_rows, "cores", lambda: 2)
    monkeypatch.setattr(_bench_rows.os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert _bench_rows.is_loaded() == loaded


def test_without_a_target_or_a_step_nothing_is_compared() -> None:
    rows = rows_of(BOUNDED, replace(OURS, steps={}, committing=None))
    assert [name for name, row in rows.items() if "met" in row] == ["verifier"]
    assert {row["peer"] for row in rows.values()} == {None}
    assert not {"prover, in steps", "data commitment"} & set(rows)


def test_memory_is_a_row_with_a_figure_or_a_reason() -> None:
    assert [row["ours"] for row in memory_rows(TINY, (3_000_000, 1_000_000))] == [3.0]
    assert [(row["ours"], row["unit"]) for row in memory_rows(TINY, "not measured: why")] == [
        (None, "not measured: why")
    ]


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench_proofs, "CASES", (TINY, BOUNDED))
    monkeypatch.setattr(_bench_proofs, "REPEATS", 1)
    monkeypatch.setattr(_bench_proofs, "peak_memory", lambda size: (2_000_000, 1_000_000))
    monkeypatch.setattr(_ezkl_peer, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.slow
def test_without_peers_our_side_is_measured_and_rows_say_how_to_get_them(without_peers: None) -> None:
    rows = list(proof_rows(quick=True))
    assert {row["case"] for row in rows if row["name"] in {"PyTorch", "EZKL"}} == {
        _bench_proofs.MISSING_TORCH,
        _bench_proofs.MISSING_EZKL,
    }
    assert {row["peer"] for row in rows} == {None}
    assert {row["case"] for row in rows if row["name"] == "prover"} == {TINY.name, BOUNDED.name}
    assert (rows[0]["name"], rows[-1]["name"]) == ("machine", "load after")


def test_another_missing_module_is_not_taken_for_a_missing_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> Any:
        raise ModuleNotFoundError(f"{name} needs numba", name="numba")

    monkeypatch.setattr("collegium.apps._torch_peer.import_module", import_module)
    with pytest.raises(ModuleNotFoundError, match="needs numba"):
        torch_step(TINY)


# The command


runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_the_command_prints_a_table_or_a_list() -> None:
    asked: list[tuple[bool, str | None, float]] = []

    def rows(*, quick: bool, size: str | None, ezkl_seconds: float) -> list[dict[str, Any]]:
        asked.append((quick, size, ezkl_seconds))
        return list(case_rows(TINY, OURS))

    engine = Engine(proof_rows=rows)
    table = runner.invoke(app, ["bench", "proofs", "--quick"], obj=engine)
    assert table.exit_code == ExitCode.GOOD
    assert "target at most 60: met" in table.stdout
    listed = runner.invoke(app, ["bench", "proofs", "--size", "small", "--json", "--ezkl-seconds", "9"], obj=engine)
    assert [row["name"] for row in json.loads(listed.stdout)][:2] == ["shape", "prover"]
    assert asked == [(True, None, _ezkl_peer.LIMIT_SECONDS), (False, "small", 9.0)]


@pytest.mark.slow
def test_the_command_refuses_a_size_that_there_is_not() -> None:
    refused = runner.invoke(app, ["bench", "proofs", "--size", "huge"])
    assert (refused.exit_code, refused.stdout.count("prover")) == (ExitCode.USER, 0)
    assert "--size is 'huge', expected one of" in refused.stderr


def test_the_command_shows_an_example() -> None:
    shown = runner.invoke(app, ["bench", "proofs", "--help"])
    assert "collegium bench proofs --quick" in shown.stdout.split("Example:")[1]
