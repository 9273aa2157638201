"""A model's parameters: one int64 vector, its start, its limits and its bytes."""

from math import isqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from collegium.learning._derandom import words
from collegium.learning._errors import ParameterError
from collegium.learning._integers import Int64Array, magnitude
from collegium.learning._model import ModelSpec, Rule, layer_bounds

BYTES_PER_PARAMETER = 4

Scalar = TypeVar("Scalar", np.int64, np.float32)


def parameter_limits(spec: ModelSpec, rule: Rule) -> Int64Array:
    """Returns the largest magnitude each parameter may have, shape (parameter_count,)."""
    counts = [(fan_in + 1) * fan_out for fan_in, fan_out in spec.layers]
    return np.repeat([layer.parameter for layer in layer_bounds(spec, rule)], counts).astype(np.int64)


def check_parameters(spec: ModelSpec, rule: Rule, parameters: Int64Array) -> None:
    """Refuses a vector that is not a model of this shape within its limits.

    Raises:
        ParameterError: type, length or an entry is wrong.
    """
    if parameters.dtype != np.int64 or parameters.shape != (spec.parameter_count,):
        raise ParameterError(
            f"parameters have type {parameters.dtype} and shape {parameters.shape}, "
            f"expected int64 of shape ({spec.parameter_count},)",
            shape=parameters.shape,
        )
    bounds = layer_bounds(spec, rule)
    if all(
        magnitude(block) <= layer.parameter
        for layer, blocks in zip(bounds, unpack(spec, parameters), strict=True)
        for block in blocks
    ):
        return
    limits = parameter_limits(spec, rule)
    outside = np.flatnonzero((parameters > limits) | (parameters < -limits))
    if outside.size:
        index = int(outside[0])
        raise ParameterError(
            f"parameter {index} is {parameters[index]}, expected a magnitude of at most {limits[index]}",
            index=index,
            value=int(parameters[index]),
        )


def unpack(spec: ModelSpec, parameters: NDArray[Scalar]) -> list[tuple[NDArray[Scalar], NDArray[Scalar]]]:
    """Returns (matrix (fan_in, fan_out), biases (fan_out,)) of each layer, views into `parameters`."""
    layers, start = [], 0
    for fan_in, fan_out in spec.layers:
        middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
        layers.append((parameters[start:middle].reshape(fan_in, fan_out), parameters[middle:end]))
        start = end
    return layers


def initial_parameters(spec: ModelSpec, rule: Rule, seed: bytes) -> Int64Array:
    """Returns the model that round 0 starts from, shape (parameter_count,).

    A logistic model starts at 0. In a network each matrix entry is uniform on the integers of [-a, a],
    a = sqrt(6 / fan_in) (He et al., arXiv 1502.01852), drawn from the seed; biases start at 0. A 64-bit word taken
    modulo 2a + 1 is uniform up to 2^-40.
    """
    parameters = np.zeros(spec.parameter_count, dtype=np.int64)
    if spec.kind == "logistic":
        return parameters
    bounds = layer_bounds(spec, rule)
    for index, (matrix, _) in enumerate(unpack(spec, parameters)):
        limit = min(isqrt(6 * rule.one**2 // matrix.shape[0]), bounds[index].parameter)
        drawn = words("initial", seed, index, matrix.size)
        matrix[:] = np.array([word % (2 * limit + 1) - limit for word in drawn], dtype=np.int64).reshape(matrix.shape)
    return parameters


def parameters_to_bytes(spec: ModelSpec, rule: Rule, parameters: Int64Array) -> bytes:
    """Returns the canonical encoding: each entry as 4 bytes, little endian, two's complement.

    Raises:
        ParameterError: the vector is not a model of this shape within its limits.
    """
    check_parameters(spec, rule, parameters)
    return parameters.astype("<i4").tobytes()


def parameters_from_bytes(spec: ModelSpec, rule: Rule, data: bytes) -> Int64Array:
    """Returns the parameters that `parameters_to_bytes` encoded.

    Raises:
        ParameterError: the length is wrong or an entry exceeds its limit.
    """
    expected = BYTES_PER_PARAMETER * spec.parameter_count
    if len(data) != expected:
        raise ParameterError(f"a model has {len(data)} bytes, expected {expected}", length=len(data), expected=expected)
    parameters = np.frombuffer(data, dtype="<i4").astype(np.int64)
    check_parameters(spec, rule, parameters)
    return parameters
