"""EZKL's proof of the same training step, in a process of its own with limits on time and memory.

The step is an ONNX graph: forward, gradient of half the sum of squares, backward to the gradient of every weight and
bias. Rows and weights are private inputs, the gradient is the public output. So EZKL is asked for less than our proof
says: nothing ties its rows to a registration or its weights to the public model, and no mask is part of the circuit.

`python -m collegium.apps._ezkl_peer FOLDER` is that process: it reads `size.json` and `input.json`, and prints one JSON
object a line as parts end. It needs `ezkl` and `onnx`; the parent needs neither.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from collegium.apps._memory import resident_peak

__all__ = ["LIMIT_SECONDS", "EzklMeasure", "Size", "is_installed", "measure_ezkl"]

LIMIT_SECONDS: Final = 360.0  # for everything from the graph to the verified proof
MEMORY_BYTES_MAX: Final = 12 << 30
FRACTION_BITS: Final = 7  # EZKL's default scale; ours is 12
LOG_ROWS: Final = 15  # least that holds EZKL's default range table; a longer circuit takes more columns
WEIGHTS: Final = ("w1", "b1", "w2", "b2")
OUTPUTS: Final = ("g1", "h1", "g2", "h2")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Size:
    """Batch, inputs, hidden units and classes."""

    rows: int
    inputs: int
    hidden: int
    outputs: int

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of the graph's inputs in their order: features, targets, weights; biases are rows."""
        return {
            "x": (self.rows, self.inputs),
            "y": (self.rows, self.outputs),
            "w1": (self.inputs, self.hidden),
            "b1": (1, self.hidden),
            "w2": (self.hidden, self.outputs),
            "b2": (1, self.outputs),
        }


@dataclass(frozen=True, slots=True)
class EzklMeasure:
    """What one proof cost.

    Attributes:
        seconds: by part, in order, as far as it came.
        failure: why it ended early; None when its proof was verified.
        difference: of the proved gradient from that in double precision, in parts of its norm.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    proof_bytes: int = 0
    peak_bytes: int = 0
    circuit_rows: int = 0
    difference: float = 0.0


def is_installed() -> bool:
    """Return whether EZKL and ONNX can be imported."""
    return all(find_spec(name) is not None for name in ("ezkl", "onnx"))


# The parent


def measure_ezkl(size: Size, arrays: Mapping[str, Floats], limit_seconds: float) -> EzklMeasure:
    """Return what EZKL's proof of a step cost, or how far it came before its limits."""
    with TemporaryDirectory(prefix="collegium-ezkl-") as folder:
        (Path(folder) / "size.json").write_text(json.dumps(asdict(size)))
        inputs = [np.asarray(arrays[name], np.float64).reshape(-1).tolist() for name in size.shapes]
        (Path(folder) / "input.json").write_text(json.dumps({"input_data": inputs}))
        return run_limited([sys.executable, "-m", "collegium.apps._ezkl_peer", folder], limit_seconds)


def run_limited(command: list[str], limit_seconds: float) -> EzklMeasure:
    """Run a command that prints parts and facts; end it, with a reason, when its time is over."""
    try:
        ended = subprocess.run(command, capture_output=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        return _read(error.stdout or b"", f"stopped after {limit_seconds:g} s")
    if ended.returncode == 0:
        return _read(ended.stdout, None)
    return _read(ended.stdout, _reason(ended.returncode, ended.stderr))


def _read(output: bytes, failure: str | None) -> EzklMeasure:
    """Return the measure that these lines make; lines that are no JSON object are EZKL's own."""
    seconds: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for line in output.decode(errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "part" in said:
            seconds[said["part"]] = said["seconds"]
        elif isinstance(said, dict):
            facts |= said
    if failure is None and not facts.get("verified"):
        failure = "its proof was not verified"
    if failure is not None and facts.get("circuit_rows"):
        failure = f"{failure}; its circuit has {facts['circuit_rows']:,} rows"
    numbers = {
        name: facts[name] for name in ("proof_bytes", "peak_bytes", "circuit_rows", "difference") if name in facts
    }
    return EzklMeasure(seconds, failure, **numbers)


def _reason(code: int, errors: bytes) -> str:
    """Return the line that names the error: the last of a traceback, the first of anything else."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    traced = any(line.startswith("Traceback") for line in lines)
    said = (lines[-1] if traced else lines[0]) if lines else "without a word"
    return f"ended with code {code}: {said[:160]}"


# The child


def write_graph(onnx: Any, size: Size, path: Path) -> None:
    """Write the step as an ONNX graph with the outputs of `OUTPUTS`."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["x w1"]),
        node("Add", ["x w1", "b1"], ["z"]),
        node("Relu", ["z"], ["a"]),
        node("MatMul", ["a", "w2"], ["a w2"]),
        node("Add", ["a w2", "b2"], ["o"]),
        node("Sub", ["o", "y"], ["e"]),
        node("Transpose", ["a"], ["a^t"], perm=[1, 0]),
        node("MatMul", ["a^t", "e"], ["g2"]),
        node("ReduceSum", ["e", "rows"], ["h2"], keepdims=1),
        node("Transpose", ["w2"], ["w2^t"], perm=[1, 0]),
        node("MatMul", ["e", "w2^t"], ["e w2^t"]),
        node("Greater", ["z", "zero"], ["on"]),
        node("Cast", ["on"], ["s"], to=real),
        node("Mul", ["e w2^t", "s"], ["d"]),
        node("Transpose", ["x"], ["x^t"], perm=[1, 0]),
        node("MatMul", ["x^t", "d"], ["g1"]),
        node("ReduceSum", ["d", "rows"], ["h1"], keepdims=1),
    ]
    shapes = size.shapes
    inputs = [helper.make_tensor_value_info(name, real, shape) for name, shape in shapes.items()]
    outputs = [
        helper.make_tensor_value_info(output, real, shapes[weight])
        for output, weight in zip(OUTPUTS, WEIGHTS, strict=True)
    ]
    constants = [
        helper.make_tensor("rows", onnx.TensorProto.INT64, [1], [0]),
        helper.make_tensor("zero", real, [1, 1], [0.0]),
    ]
    graph = helper.make_graph(nodes, "step", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8  # as old as the operators; what EZKL reads
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def plain_gradients(size: Size, inputs: list[list[float]]) -> dict[str, NDArray[np.float64]]:
    """Return the graph's outputs in double precision."""
    x, y, w1, b1, w2, b2 = (
        np.array(values).reshape(shape) for values, shape in zip(inputs, size.shapes.values(), strict=True)
    )
    z = x @ w1 + b1
    a = np.maximum(z, 0)
    e = a @ w2 + b2 - y
    d = (e @ w2.T) * (z > 0)
    return {"g1": x.T @ d, "h1": d.sum(axis=0), "g2": a.T @ e, "h2": e.sum(axis=0)}


def _prove(folder: Path) -> None:
    """Prove one step and verify the proof, telling every part's time."""
    ezkl, onnx = import_module("ezkl"), import_module("onnx")
    size = Size(**json.loads((folder / "size.json").read_text()))
    inputs = json.loads((folder / "input.json").read_text())["input_data"]
    model, data, settings, circuit, srs, witness, pk, vk, proof = (
        str(folder / name)
        for name in ("step.onnx", "input.json", "settings", "circuit", "srs", "witness", "pk", "vk", "proof")
    )
    write_graph(onnx, size, Path(model))
    arguments = ezkl.PyRunArgs()
    arguments.input_visibility, arguments.output_visibility, arguments.param_visibility = "private", "public", "fixed"
    arguments.input_scale = arguments.param_scale = FRACTION_BITS
    arguments.logrows = LOG_ROWS
    _part("compile", lambda: ezkl.gen_settings(model, settings, arguments))
    _say({"circuit_rows": json.loads(Path(settings).read_text())["num_rows"]})
    ezkl.compile_circuit(model, circuit, settings)
    _part("reference string", lambda: ezkl.gen_srs(srs, LOG_ROWS))
    _part("setup", lambda: ezkl.setup(circuit, vk, pk, srs, None, False))
    outputs = _part("witness", lambda: ezkl.gen_witness(data, circuit, witness, None, None))["outputs"]
    _part("prove", lambda: ezkl.prove(witness, circuit, pk, proof, srs))
    verified = _part("verify", lambda: ezkl.verify(proof, settings, vk, srs, False))
    proved = json.loads(Path(proof).read_text())["proof"]
    plain = np.concatenate([part.reshape(-1) for part in plain_gradients(size, inputs).values()])
    scales = json.loads(Path(settings).read_text())["model_output_scales"]
    shown = np.array([ezkl.felt_to_float(v, s) for out, s in zip(outputs, scales, strict=True) for v in out])
    _say(
        {
            "verified": bool(verified),
            "proof_bytes": len(proved),
            "peak_bytes": resident_peak(),
            "difference": float(np.linalg.norm(shown - plain) / np.linalg.norm(plain)),
        }
    )


def _part(name: str, work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    _say({"part": name, "seconds": time.perf_counter() - started})
    return result


def _say(fact: Mapping[str, object]) -> None:
    print(json.dumps(fact), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    _prove(Path(sys.argv[1]))
