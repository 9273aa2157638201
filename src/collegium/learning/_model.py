"""What is trained, by which rule, and how large its integers can become."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from collegium.learning._activations import INDEX_BITS, INDEX_LIMIT
from collegium.learning._errors import ModelSpecError, OverflowBudgetError, RuleError

PARAMETERS_MAX = 1 << 24
LAYERS_MAX = 8
UNFOLDED_MAX = 1 << 24  # entries of all patches of one row
BUDGET_BITS = 62  # every integer of the rule stays below 2^62, so that sign and one addition still fit int64
LEARNING_RATE_TERM_MAX = 1 << 16
LOCAL_STEPS_MAX = 64
LIMIT_MAX = 64
RANGE_LIMIT_MAX = 1 << 10
ROWS_MAX = 1 << 24

Loss: TypeAlias = Literal["sigmoid", "softmax", "squared"]
LOSSES: Final = get_args(Loss)


@dataclass(frozen=True, slots=True)
class Patches:
    """How the first hidden layer reads a row: as a picture, of which the same units see every patch.

    Pixel (y, x), channel c, is feature (y width + x) channels + c. Patch (v, u) starts at pixel (v stride, u stride);
    its entry (dy, dx, c) has number (dy kernel + dx) channels + c. Nothing is padded: pixels that no whole patch
    reaches are not read.

    Raises:
        ModelSpecError: a number is below 1, the kernel exceeds the picture, or a row's patches have too many entries.
    """

    height: int
    width: int
    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        if any(not _is_int(value) or value < 1 for value in self.numbers) or self.kernel > min(self.height, self.width):
            raise ModelSpecError(
                f"patches are {self.numbers}: height, width, channels, kernel and stride must be whole numbers from 1, "
                "and the kernel no larger than the picture",
                patches=self.numbers,
            )
        if max(self.inputs, self.count * self.entries) > UNFOLDED_MAX:
            raise ModelSpecError(
                f"a row has {self.inputs} features and its patches {self.count * self.entries} entries, "
                f"expected at most {UNFOLDED_MAX}",
                patches=self.numbers,
            )

    @property
    def numbers(self) -> tuple[int, int, int, int, int]:
        """Height, width, channels, kernel, stride."""
        return self.height, self.width, self.channels, self.kernel, self.stride

    @property
    def inputs(self) -> int:
        """Features of a row."""
        return self.height * self.width * self.channels

    @property
    def shape(self) -> tuple[int, int]:
        """Patches from top to bottom and from left to right."""
        return (self.height - self.kernel) // self.stride + 1, (self.width - self.kernel) // self.stride + 1

    @property
    def count(self) -> int:
        """Patches of a row."""
        return self.shape[0] * self.shape[1]

    @property
    def entries(self) -> int:
        """Entries of a patch."""
        return self.kernel * self.kernel * self.channels

    def indices(self) -> NDArray[np.int64]:
        """Returns which feature each entry of each patch is, (count, entries); no row or column holds one twice."""
        return self.unfold(np.arange(self.inputs, dtype=np.int64)[None])

    def unfold(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the patches of rows (n, inputs), one after another, (n count, entries)."""
        pictures = rows.reshape(len(rows), self.height, self.width, self.channels)
        windows = np.lib.stride_tricks.sliding_window_view(pictures, (self.kernel, self.kernel), axis=(1, 2))
        chosen = windows[:, :: self.stride, :: self.stride].transpose(0, 1, 2, 4, 5, 3)
        return np.ascontiguousarray(chosen).reshape(len(rows) * self.count, self.entries)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a classifier: inputs -> hidden ReLU layers -> outputs, which the rule's loss interprets.

    Attributes:
        kind: "logistic" (no hidden layer) or "mlp" (at least one).
        inputs: number of features, at least 1.
        hidden: width of each hidden layer.
        outputs: one for two classes, else the number of classes; which one goes with which loss, `Rule.loss` says.
        patches: where given, the first hidden layer is a convolution with hidden[0] filters, its parameters shared by
            all patches of a row.

    Raises:
        ModelSpecError: kind and hidden layers disagree, a width or the parameter count is out of bounds, or the inputs
            are not the picture that the patches are cut from.
    """

    kind: Literal["logistic", "mlp"]
    inputs: int
    hidden: tuple[int, ...] = ()
    outputs: int = 1
    patches: Patches | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("logistic", "mlp"):
            raise ModelSpecError(f"model kind is {self.kind!r}, expected 'logistic' or 'mlp'", kind=self.kind)
        if (self.kind == "mlp") != bool(self.hidden) or len(self.hidden) >= LAYERS_MAX:
            raise ModelSpecError(
                f"a model of kind {self.kind!r} has {len(self.hidden)} hidden layers, "
                f"expected none for 'logistic' and 1 to {LAYERS_MAX - 1} for 'mlp'",
                kind=self.kind,
                hidden=self.hidden,
            )
        widths = (self.inputs, *self.hidden, self.outputs)
        if any(not _is_int(width) or width < 1 for width in widths):
            raise ModelSpecError(
                f"widths are {widths}, expected whole numbers from 1",
                inputs=self.inputs,
                hidden=self.hidden,
                outputs=self.outputs,
            )
        if self.patches is not None and (self.kind != "mlp" or self.inputs != self.patches.inputs):
            raise ModelSpecError(
                f"a model of kind {self.kind!r} with {self.inputs} inputs has patches of {self.patches.inputs} "
                "features, expected kind 'mlp' and as many inputs",
                kind=self.kind,
                inputs=self.inputs,
            )
        if self.parameter_count > PARAMETERS_MAX:
            raise ModelSpecError(
                f"the model has {self.parameter_count} parameters, expected at most {PARAMETERS_MAX}",
                parameter_count=self.parameter_count,
            )

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of each layer's matrix, the output layer last; of a convolution entries and filters."""
        dense = tuple(pairwise((self.inputs, *self.widths, self.outputs)))
        return dense if self.patches is None else ((self.patches.entries, self.hidden[0]), *dense[1:])

    @property
    def positions(self) -> tuple[int, ...]:
        """How often each layer's parameters are used on one row: of a convolution once a patch, else once."""
        return (1 if self.patches is None else self.patches.count, *(1 for _ in self.hidden))

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer; a convolution's are, patch after patch, its filters."""
        return tuple(count * width for count, width in zip(self.positions, self.hidden, strict=False))

    @property
    def classes(self) -> int:
        """Number of classes: labels are 0 to classes - 1."""
        return max(2, self.outputs)

    @property
    def parameter_count(self) -> int:
        """Number of parameters: for each layer its matrix (fan_in, fan_out), row by row, then its biases."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.layers)


@dataclass(frozen=True, slots=True)
class Rule:
    """The training rule that all trainers of a task agree on.

    Attributes:
        fraction_bits: f; a real number v is the integer round(2^f v). 8 to 16.
        learning_rate: step size, exact; numerator and denominator from 1 to 2^16.
        local_steps: gradient steps a trainer takes in a round, 1 to 64. One step sends the unrounded gradient.
        batch_rows: rows a step uses, chosen by the beacon; None means all rows.
        feature_limit: features are clipped to [-feature_limit, feature_limit], 1 to 64.
        hidden_limit: parameters into hidden units are clipped to this magnitude, 1 to 64.
        output_limit: parameters into the output units are clipped to this magnitude, 1 to 64.
        loss: "sigmoid" on one output, "softmax" on at least two, "squared" on any number.
        activation_limit: where given, hidden pre-activations must lie in [-limit, limit); a power of two to 2^10.
        error_limit: where given, back-propagated values must lie in [-limit, limit); a power of two to 2^10.

    Raises:
        RuleError: a setting is out of these bounds.
    """

    fraction_bits: int = 12
    learning_rate: Fraction = Fraction(1, 2)
    local_steps: int = 1
    batch_rows: int | None = None
    feature_limit: int = 4
    hidden_limit: int = 2
    output_limit: int = 8
    loss: Loss = "sigmoid"
    activation_limit: int | None = None
    error_limit: int | None = None

    def __post_init__(self) -> None:
        _check_number("fraction_bits", self.fraction_bits, INDEX_BITS, 16)
        _check_number("local_steps", self.local_steps, 1, LOCAL_STEPS_MAX)
        for name in ("feature_limit", "hidden_limit", "output_limit"):
            _check_number(name, getattr(self, name), 1, LIMIT_MAX)
        if self.batch_rows is not None:
            _check_number("batch_rows", self.batch_rows, 1, ROWS_MAX)
        if self.loss not in LOSSES:
            raise RuleError(f"loss is {self.loss!r}, expected one of {', '.join(LOSSES)}", loss=self.loss)
        for name in ("activation_limit", "error_limit"):
            if getattr(self, name) is not None:
                _check_power_of_two(name, getattr(self, name), RANGE_LIMIT_MAX)
        if not isinstance(self.learning_rate, Fraction):
            raise RuleError(
                f"learning_rate is {self.learning_rate!r}, expected an exact fractions.Fraction",
                learning_rate=self.learning_rate,
            )
        _check_number("learning_rate's numerator", self.learning_rate.numerator, 1, LEARNING_RATE_TERM_MAX)
        _check_number("learning_rate's denominator", self.learning_rate.denominator, 1, LEARNING_RATE_TERM_MAX)

    @property
    def one(self) -> int:
        """The integer that stands for 1."""
        return 1 << self.fraction_bits


@dataclass(frozen=True, slots=True)
class LayerBounds:
    """The largest magnitude each integer of one layer can have, whatever data and parameters."""

    parameter: int
    input: int
    sum: int
    error: int
    positions: int = 1

    @property
    def gradient_per_row(self) -> int:
        """Bound of one row's contribution to any gradient entry of the layer; a bias counts as an input of 1."""
        return self.positions * self.input * self.error


def layer_bounds(spec: ModelSpec, rule: Rule) -> tuple[LayerBounds, ...]:
    """Returns the bounds of every layer (docs/spec/learning.md, section 5).

    Raises:
        RuleError: the loss does not go with the model's number of outputs.
        OverflowBudgetError: a pre-activation or a back-propagated sum could reach 2^62.
    """
    _check_loss(spec, rule)
    one, last = rule.one, len(spec.layers) - 1
    limits = [rule.output_limit if index == last else rule.hidden_limit for index in range(last + 1)]
    parameters = [limit * one for limit in limits]
    inputs, sums = [rule.feature_limit * one], []
    for (fan_in, _), parameter in zip(spec.layers, parameters, strict=True):
        sums.append(_within_budget(parameter * (fan_in * inputs[-1] + one), "a pre-activation"))
        largest = sums[-1] >> rule.fraction_bits
        if rule.activation_limit is not None:
            largest = min(largest, rule.activation_limit * one - 1)
        inputs.append(max(one, largest))
    errors = [one if rule.loss != "squared" else one + -(-sums[-1] >> rule.fraction_bits)]
    for (_, fan_out), parameter in zip(spec.layers[:0:-1], parameters[:0:-1], strict=True):
        back = _within_budget(fan_out * errors[-1] * parameter, "a back-propagated error")
        error = -(-back >> rule.fraction_bits)
        errors.append(error if rule.error_limit is None else min(error, rule.error_limit * one))
    return tuple(
        LayerBounds(parameter, value, total, error, count)
        for parameter, value, total, error, count in zip(
            parameters, inputs[:-1], sums, reversed(errors), spec.positions, strict=True
        )
    )


def update_bound(spec: ModelSpec, rule: Rule, rows_max: int) -> int:
    """Returns the largest magnitude an entry of `local_update` can have when a trainer holds at most `rows_max` rows.

    The aggregation multiplies it by the number of trainers (and the largest weight) for its budget of bits.

    Raises:
        RuleError: `rows_max` is out of bounds.
        OverflowBudgetError: the bound, or a sum on the way to it, could reach 2^62.
    """
    _check_number("rows_max", rows_max, 1, ROWS_MAX)
    rows = rows_max if rule.batch_rows is None else min(rows_max, rule.batch_rows)
    bounds = layer_bounds(spec, rule)
    gradient = _within_budget(rows * max(layer.gradient_per_row for layer in bounds), "a gradient entry")
    if rule.local_steps == 1:
        return gradient
    return _within_budget(rows * 2 * max(layer.parameter for layer in bounds), "an update entry")


def describe_rule(spec: ModelSpec, rule: Rule) -> dict[str, int | str | list[int] | None]:
    """Returns everything that decides what the rule computes, as plain values in a fixed order, for a digest.

    Settings that came after version 1 appear only where they differ from their defaults, under which the rule is the
    one that version 1 had.
    """
    later: dict[str, int | str | list[int] | None] = {
        "outputs": spec.outputs,
        "loss": rule.loss,
        "activation_limit": rule.activation_limit,
        "error_limit": rule.error_limit,
        "patches": None if spec.patches is None else list(spec.patches.numbers),
    }
    defaults = {"outputs": 1, "loss": "sigmoid", "activation_limit": None, "error_limit": None, "patches": None}
    return {
        "version": 1,
        "kind": spec.kind,
        "inputs": spec.inputs,
        "hidden": list(spec.hidden),
        "fraction_bits": rule.fraction_bits,
        "learning_rate": f"{rule.learning_rate.numerator}/{rule.learning_rate.denominator}",
        "local_steps": rule.local_steps,
        "batch_rows": rule.batch_rows,
        "feature_limit": rule.feature_limit,
        "hidden_limit": rule.hidden_limit,
        "output_limit": rule.output_limit,
        "table_index_bits": INDEX_BITS,
        "table_index_limit": INDEX_LIMIT,
        **{name: value for name, value in later.items() if value != defaults[name]},
    }


def _check_loss(spec: ModelSpec, rule: Rule) -> None:
    expected = {"sigmoid": spec.outputs == 1, "softmax": spec.outputs >= 2, "squared": True}
    if not expected[rule.loss]:
        raise RuleError(
            f"the loss is {rule.loss} and the model has {spec.outputs} outputs, "
            "expected sigmoid on one, softmax on at least two, or squared",
            loss=rule.loss,
            outputs=spec.outputs,
        )


def _check_number(name: str, value: object, lower: int, upper: int) -> None:
    if not _is_int(value) or not lower <= value <= upper:  # type: ignore[operator]
        raise RuleError(f"{name} is {value!r}, expected a whole number from {lower} to {upper}", name=name, value=value)


def _check_power_of_two(name: str, value: object, upper: int) -> None:
    if not _is_int(value) or not 1 <= value <= upper or value & (value - 1):  # type: ignore[operator]
        raise RuleError(f"{name} is {value!r}, expected a power of two from 1 to {upper}", name=name, value=value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within_budget(bound: int, what: str) -> int:
    if bound.bit_length() > BUDGET_BITS:
        raise OverflowBudgetError(
            f"{what} may need {bound.bit_length()} bits, expected at most {BUDGET_BITS}: "
            "lower fraction_bits, a limit, batch_rows or a width",
            bits=bound.bit_length(),
        )
    return bound
