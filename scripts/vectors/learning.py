"""Writes tests/vectors/learning.json from the plain reference alone: integers as decimal strings, bytes as hex.

Every case has `name`, `function`, its arguments, and either `result` or `error` (the name of the error's class). A
model is {kind, inputs, hidden} and, if it has more than one, outputs; a rule holds what differs from the default, the
learning rate as "a/b".
"""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from collegium.learning import ModelSpec, Rule, _reference

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "learning.json"
SEED = bytes(range(32))


def draw(label: str, count: int, limit: int) -> list[int]:
    """`count` integers in [-limit, limit] that anyone can derive: SHA-256(label:index) modulo 2 limit + 1."""
    digests = (hashlib.sha256(f"{label}:{i}".encode()).digest() for i in range(count))
    return [int.from_bytes(digest, "big") % (2 * limit + 1) - limit for digest in digests]


def text(value: Any) -> Any:
    """Integers as decimal strings: JSON readers elsewhere round above 2^53."""
    if isinstance(value, int):
        return str(value)
    return [text(item) for item in value] if isinstance(value, (list, tuple)) else value


def setting(hidden: list[int], outputs: int = 1, **rule: Any) -> dict[str, Any]:
    """A model with three inputs and a rule, as data."""
    model = {"kind": "mlp" if hidden else "logistic", "inputs": 3, "hidden": hidden}
    return {"model": model if outputs == 1 else {**model, "outputs": outputs}, "rule": rule}


def read(of: dict[str, Any]) -> tuple[ModelSpec, Rule]:
    """A setting as objects."""
    rule = dict(of["rule"])
    if "learning_rate" in rule:
        rule["learning_rate"] = Fraction(rule["learning_rate"])
    model = of["model"]
    return ModelSpec(model["kind"], model["inputs"], tuple(model["hidden"]), model.get("outputs", 1)), Rule(**rule)


SETTINGS = {
    "logistic": setting([]),
    "logistic, 10 bits, rate 3/7": setting([], fraction_bits=10, learning_rate="3/7"),
    "logistic, three steps, batch of 4": setting([], local_steps=3, batch_rows=4, learning_rate="1/1"),
    "network": setting([4]),
    "deep network": setting([4, 2], learning_rate="1/3"),
    "network, batch of 5": setting([4], batch_rows=5),
    "network, two steps": setting([4], local_steps=2),
    "squared": setting([], loss="squared"),
    "squared, three outputs": setting([], 3, loss="squared"),
    "softmax": setting([], 3, loss="softmax"),
    "softmax, 8 bits": setting([], 2, loss="softmax", fraction_bits=8),
    "softmax network": setting([4], 3, loss="softmax", activation_limit=32, error_limit=16),
    "softmax deep network, two steps": setting([4, 2], 3, loss="softmax", local_steps=2, batch_rows=5),
    "squared network": setting([4], 2, loss="squared", activation_limit=1024),
}
LABELS = {1: [1, 0, 0, 1, 1, 0, 1], 2: [1, 0, 0, 1, 1, 0, 1], 3: [1, 0, 2, 1, 2, 0, 1]}


def training_cases() -> list[dict[str, Any]]:
    """Updates, steps and evaluations on seven rows."""
    cases = []
    for name, of in SETTINGS.items():
        spec, rule = read(of)
        parameters = draw(f"{name} parameters", spec.parameter_count, rule.one)
        rows = [draw(f"{name} row {i}", 3, rule.feature_limit * rule.one) for i in range(7)]
        rows[6] = rows[5]  # a tie in the ranking
        labels = LABELS[spec.outputs]
        data = {**of, "parameters": text(parameters), "features": text(rows), "labels": labels}
        update = _reference.local_update(spec, rule, parameters, rows, labels, SEED)
        update_case = {"function": "local_update", **data, "batch_seed": SEED.hex(), "result": text(update)}
        following = _reference.apply_total(spec, rule, parameters, update)
        step = {**of, "parameters": text(parameters), "total": text(update), "result": text(following)}
        worth = _reference.evaluate(spec, rule, parameters, rows, labels)
        cases += [
            {"name": f"{name}: update", **update_case},
            {"name": f"{name}: step", "function": "apply_total", **step},
            {"name": f"{name}: worth", "function": "evaluate", **data, "result": text(worth)},
        ]
    return cases


def table_cases() -> list[dict[str, Any]]:
    """Single entries of the tables, both ends and the middle."""
    indices = [-4096, -4095, -1024, -257, -256, -2, -1, 0, 1, 255, 256, 1023, 4094, 4095]
    cases: list[dict[str, Any]] = [
        {
            "name": f"sigmoid, {bits} bits",
            "function": "sigmoid_table",
            "fraction_bits": bits,
            "indices": indices,
            "result": [str(_reference.sigmoid(index, bits)) for index in indices],
        }
        for bits in (8, 12, 16)
    ]
    entries = [str(_reference.softplus_micro(index)) for index in indices]
    cases.append({"name": "softplus", "function": "softplus_table", "indices": indices, "result": entries})
    distances = [0, 1, 2, 177, 178, 256, 1024, 2048, 4094, 4095]
    for bits in (8, 12, 16):
        powers = [str(_reference.exponential(distance, bits)) for distance in distances]
        name = f"exponential, {bits} bits"
        case = {"function": "exponential_table", "fraction_bits": bits, "indices": distances, "result": powers}
        cases.append({"name": name, **case})
    logarithms = [str(_reference.logarithm_micro(4096 + distance, 12)) for distance in distances]
    return [*cases, {"name": "logarithm", "function": "logarithm_table", "indices": distances, "result": logarithms}]


def batch_cases() -> list[dict[str, Any]]:
    """Rows that a seed chooses."""
    cases = []
    for rows, size, step in ((10, 3, 0), (10, 3, 1), (10, 10, 0), (100, 7, 63)):
        result = _reference.batch(Rule(batch_rows=size), rows, SEED, step)
        arguments = {"batch_rows": size, "rows": rows, "batch_seed": SEED.hex(), "step": step}
        name = f"batch of {size} of {rows}, step {step}"
        cases.append({"name": name, "function": "batch_indices", **arguments, "result": text(result)})
    return cases


def bad_cases() -> list[dict[str, Any]]:
    """What is refused, each one small change away from what is accepted."""
    of = SETTINGS["logistic"]
    good = {**of, "parameters": text([0, 0, 0, 0]), "features": text([[0, 0, 0]]), "labels": [1]}
    update = {"function": "local_update", **good, "batch_seed": SEED.hex()}
    step = {"function": "apply_total", **of, "parameters": text([0, 0, 0, 0])}
    feature = text([[4 * 4096 + 1, 0, 0]])
    decode = {"function": "parameters_from_bytes", **of}
    edge = (8 * 4096).to_bytes(4, "little", signed=True)
    past = (8 * 4096 + 1).to_bytes(4, "little", signed=True)
    return [
        {"name": "bytes at the limit", **decode, "data": (edge * 4).hex(), "result": text([32768] * 4)},
        {"name": "bytes past the limit", **decode, "data": (edge * 3 + past).hex(), "error": "ParameterError"},
        {"name": "bytes cut short", **decode, "data": (edge * 4)[:-1].hex(), "error": "ParameterError"},
        {"name": "a trailing byte", **decode, "data": (edge * 4 + b"\0").hex(), "error": "ParameterError"},
        {"name": "a label of 2", **update, "labels": [2], "error": "TrainingRowsError"},
        {"name": "a feature past the limit", **update, "features": feature, "error": "TrainingRowsError"},
        {"name": "a missing parameter", **update, "parameters": text([0, 0, 0]), "error": "ParameterError"},
        {"name": "a total of no rows", **step, "total": text([0, 0, 0, 0, 0]), "error": "EmptyTotalError"},
        {"name": "a total of minus one row", **step, "total": text([0, 0, 0, 0, -1]), "error": "EmptyTotalError"},
        {"name": "a total without its weight", **step, "total": text([0, 0, 0, 0]), "error": "TotalError"},
    ]


def limit_cases() -> list[dict[str, Any]]:
    """Values at each end of a limit of 1, and one past it: at a feature of 0 a hidden unit's value is its bias, and
    the output's bias is the squared error that a weight of 1 passes back."""
    of = setting([1], loss="squared", activation_limit=1, error_limit=1)
    spec, rule = read(of)
    cases = []
    for what, error, place in (("pre-activation", "ActivationRangeError", 3), ("error", "ErrorRangeError", 5)):
        for value in (-4097, -4096, 4095, 4096):
            parameters = [0, 0, 0, 0, 4096, 0]
            parameters[place] = value
            data = {"parameters": text(parameters), "features": text([[0, 0, 0]]), "labels": [0]}
            case = {"name": f"{what} of {value}", "function": "local_update", **of, **data, "batch_seed": SEED.hex()}
            if -4096 <= value < 4096:
                cases.append(
                    {**case, "result": text(_reference.local_update(spec, rule, parameters, [[0, 0, 0]], [0], SEED))}
                )
            else:
                cases.append({**case, "error": error})
    return cases


def loss_cases() -> list[dict[str, Any]]:
    """Labels and losses that do not go with a model."""
    rows = {"features": text([[0, 0, 0]]), "batch_seed": SEED.hex()}
    cases = []
    for name, of, label, error in (
        ("a label of 3 among three classes", setting([], 3, loss="softmax"), 3, "TrainingRowsError"),
        ("a label of -1", setting([], 3, loss="softmax"), -1, "TrainingRowsError"),
        ("a squared label of 2 on one output", setting([], loss="squared"), 2, "TrainingRowsError"),
        ("softmax on one output", setting([], loss="softmax"), 0, "RuleError"),
        ("sigmoid on two outputs", setting([], 2), 0, "RuleError"),
    ):
        parameters = text([0] * read(of)[0].parameter_count)
        case = {"function": "local_update", **of, "parameters": parameters, **rows, "labels": [label]}
        cases.append({"name": name, **case, "error": error})
    return cases


def main() -> None:
    """Writes the file."""
    cases = [*table_cases(), *batch_cases(), *training_cases(), *bad_cases(), *limit_cases(), *loss_cases()]
    OUT.write_text(json.dumps({"format": "collegium/vectors/learning/1", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
