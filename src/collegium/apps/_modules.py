"""A Torch module in a federation: its weights as one vector, its local training, its scores, and what a rule can take.

Torch is imported where it is used: whoever passes no module need not have it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, auc_pairs

__all__ = [
    "LocalTraining",
    "ModuleError",
    "RunningStatisticsError",
    "Scores",
    "UnsupportedLossError",
    "UnsupportedModuleError",
    "architecture",
    "check_module",
    "is_module",
    "probabilities",
    "scores",
    "weights_of",
    "write_rule",
    "write_weights",
]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
Train = Callable[[Any, tuple[Any, Any]], object]

BITS_SEED: Final = 63
INSTEAD: Final = (
    'level="bounded" takes any module: it proves that the update is within its bounds, not where it is from'
)


class ModuleError(CollegiumError):
    """A module cannot be trained by a federation."""


class RunningStatisticsError(ModuleError):
    """A module keeps statistics beside its weights that training changes: no sum of updates would carry them."""


class UnsupportedModuleError(ModuleError):
    """A module is none that the exact rule can train, so that nothing can be proved of its training."""


class UnsupportedLossError(ModuleError):
    """A loss is none that the exact rule has, or none was given."""


def is_module(model: object) -> bool:
    """Return whether this is a Torch module, without loading Torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


# ------------------------------------------------------------------------------------------------ weights


def _trainable(module: Any) -> list[Any]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def check_module(module: Any) -> None:
    """Refuse a module that no sum of changes of weights can train.

    Raises:
        ModuleError: it has no trainable weights, or some without a shape, or that are not real floating-point numbers.
        RunningStatisticsError: a layer keeps running statistics.
    """
    from torch.nn.parameter import is_lazy

    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ModuleError(f"weights {name} have no shape yet, expected a module that has seen a row", name=name)
    if not _trainable(module):
        raise ModuleError(f"{type(module).__name__} has no trainable weights, expected some")
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not parameter.dtype.is_floating_point:
            raise ModuleError(f"weights {name} are {parameter.dtype}, expected real floating-point numbers", name=name)
    for name, layer in module.named_modules():
        if getattr(layer, "track_running_stats", False):
            raise RunningStatisticsError(
                f"layer {name!r} ({type(layer).__name__}) keeps running statistics, which are no weights; use "
                "GroupNorm or LayerNorm, or track_running_stats=False",
                layer=name,
            )


def weights_of(module: Any) -> FloatArray:
    """Return the trainable weights as one vector, in the order of `module.parameters()`."""
    parts = [parameter.detach().cpu().double().numpy().reshape(-1) for parameter in _trainable(module)]
    return np.concatenate(parts).astype(np.float64)


def write_weights(module: Any, weights: FloatArray) -> None:
    """Write a vector of `weights_of` back into a module of the same shape."""
    import torch

    start = 0
    with torch.no_grad():
        for parameter in _trainable(module):
            end = start + parameter.numel()
            part = torch.from_numpy(weights[start:end].reshape(tuple(parameter.shape)).copy())
            parameter.copy_(part.to(parameter.dtype))
            start = end


# ------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True, eq=False)
class LocalTraining:
    """One trainer's training of a copy of the module: what `VectorRows.learn` is.

    Attributes:
        module: the template; never changed.
        inputs, targets: the trainer's rows.
        loss: takes outputs and targets.
        train: the user's own loop, which takes the module and (inputs, targets) and changes the module; None for
            `epochs` passes of Adam over shuffled batches of `batch_rows`.
        noted: told the change, in float, before it is rounded.
    """

    module: Any
    inputs: Array
    targets: Array
    loss: Callable[[Any, Any], Any]
    train: Train | None
    learning_rate: float
    epochs: int
    batch_rows: int
    noted: Callable[[FloatArray], None]

    def __call__(self, weights: FloatArray, seed: bytes) -> FloatArray:
        """Return the change that training makes to the weights; the same seed, the same change on this machine.

        Raises:
            RunningStatisticsError: training changed something that is no weight.
            ModuleError: training changed the number of weights.
        """
        import torch

        module = copy.deepcopy(self.module)
        write_weights(module, weights)
        before, buffers = weights_of(module), _buffers(module)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(seed[:8], "big") >> (64 - BITS_SEED))
            module.train()
            data = tensors(module, self.loss, self.inputs, self.targets)
            if self.train is None:
                self._epochs(module, *data)
            else:
                self.train(module, data)
        after = weights_of(module)
        if after.shape != before.shape:
            raise ModuleError(f"training left {after.size} weights of {before.size}, expected as many")
        for name, buffer in _buffers(module).items():
            if name not in buffers or not np.array_equal(buffer, buffers[name], equal_nan=True):
                raise RunningStatisticsError(
                    f"training changed {name!r}, which is no weight: nobody would learn of it", name=name
                )
        self.noted(after - before)
        return after - before

    def _epochs(self, module: Any, inputs: Any, targets: Any) -> None:
        import torch

        optimiser = torch.optim.Adam(_trainable(module), lr=self.learning_rate)
        for _ in range(self.epochs):
            for batch in torch.randperm(len(inputs)).split(self.batch_rows):
                optimiser.zero_grad()
                value = self.loss(fitting(module(inputs[batch]), targets[batch]), targets[batch])
                value.backward()
                optimiser.step()


def _buffers(module: Any) -> dict[str, Array]:
    return {name: buffer.detach().cpu().numpy().copy() for name, buffer in module.named_buffers()}


def tensors(module: Any, loss: object, inputs: Array, targets: Array) -> tuple[Any, Any]:
    """Return inputs and targets as the module and the loss want them, on the module's device.

    Raises:
        ModuleError: a cross-entropy's targets are not whole numbers.
    """
    import torch

    device = _trainable(module)[0].device
    if isinstance(loss, torch.nn.CrossEntropyLoss) and targets.ndim == 1:
        if not (targets == np.rint(targets)).all() or targets.min() < 0:
            raise ModuleError("targets of CrossEntropyLoss are not whole numbers from 0, expected classes")
        targets = targets.astype(np.int64)
    elif targets.dtype.kind == "f" or _says_yes_or_no(loss) or isinstance(loss, torch.nn.MSELoss):
        targets = targets.astype(np.float32)
    if inputs.dtype.kind in "bf":
        inputs = inputs.astype(np.float32)
    return torch.from_numpy(inputs.copy()).to(device), torch.from_numpy(targets.copy()).to(device)


def fitting(outputs: Any, targets: Any) -> Any:
    """Return outputs (n, 1) as (n,) where the targets have that shape; all others as they are."""
    return outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 and targets.ndim == 1 else outputs


def _says_yes_or_no(loss: object) -> bool:
    import torch

    return isinstance(loss, torch.nn.BCEWithLogitsLoss)


# ------------------------------------------------------------------------------------------------ what it is worth


@dataclass(frozen=True, slots=True)
class Scores:
    """Of a module on test rows: mean loss; accuracy and AUC, NaN where outputs are no classes, or not two."""

    loss: float
    accuracy: float
    auc: float


def scores(module: Any, loss: Callable[[Any, Any], Any], inputs: Array, targets: Array) -> Scores:
    """Return a module's scores on rows that their owner may look at."""
    import torch

    module.eval()
    with torch.no_grad():
        wanted_inputs, wanted = tensors(module, loss, inputs, targets)
        outputs = fitting(module(wanted_inputs), wanted)
        value = float(loss(outputs, wanted))
    accuracy, auc, said = float("nan"), float("nan"), outputs.cpu().numpy()
    if _says_yes_or_no(loss):
        accuracy = float(((said >= 0) == (targets == 1)).mean())
        if said.ndim == 1:
            numerator, denominator = auc_pairs(said.astype(np.float32), targets.astype(np.int64))
            auc = numerator / denominator if denominator else auc
    elif isinstance(loss, torch.nn.CrossEntropyLoss) and said.ndim == 2 and targets.ndim == 1:
        accuracy = float((said.argmax(axis=1) == targets).mean())
    return Scores(value, accuracy, auc)


def probabilities(module: Any, loss: object, inputs: Array) -> FloatArray:
    """Return what a module says of rows: probabilities where the loss makes them such, else its outputs."""
    import torch

    module.eval()
    with torch.no_grad():
        wanted, _ = tensors(module, None, inputs, np.zeros(len(inputs), np.int64))
        outputs = module(wanted)
        if _says_yes_or_no(loss):
            outputs = torch.sigmoid(outputs)
        elif isinstance(loss, torch.nn.CrossEntropyLoss):
            outputs = torch.softmax(outputs, dim=1)
    said: FloatArray = outputs.cpu().numpy().astype(np.float64)
    return said[:, 0] if said.ndim == 2 and said.shape[1] == 1 else said


# ------------------------------------------------------------------------------------------------ what a rule can take


def architecture(module: Any, loss: object) -> tuple[ModelSpec, Literal["sigmoid", "squared"]]:
    """Return the shape and the loss of the exact rule that trains such a module.

    Taken are `nn.Linear` and `nn.ReLU` in turn, beginning and ending with `nn.Linear`, alone or in `nn.Sequential`,
    with one output, and `BCEWithLogitsLoss` or `MSELoss` without weights.

    Raises:
        UnsupportedModuleError: naming the first layer that the rule does not have.
        UnsupportedLossError: naming the loss.
    """
    layers = list(_layers(module, ""))
    linear: list[tuple[str, Any]] = []
    for place, (name, layer) in enumerate(layers):
        wanted = "Linear" if place % 2 == 0 else "ReLU"
        if not _is_exactly(layer, wanted):
            raise _unsupported(name, layer, f"nn.{wanted} in this place")
        if wanted == "Linear":
            if layer.bias is None:
                raise _unsupported(name, layer, "a bias")
            if not all(parameter.requires_grad for parameter in layer.parameters()):
                raise _unsupported(name, layer, "weights that are trained, not frozen")
            if linear and linear[-1][1].out_features != layer.in_features:
                raise _unsupported(name, layer, f"{linear[-1][1].out_features} inputs, the outputs before it")
            linear.append((name, layer))
    if len(layers) % 2 == 0:
        name, layer = layers[-1] if layers else ("", module)
        raise _unsupported(name, layer, "nn.Linear at the end")
    name, last = linear[-1]
    if last.out_features != 1:
        raise _unsupported(name, last, "one output: yes or no")
    if len({id(parameter) for _, layer in linear for parameter in layer.parameters()}) != 2 * len(linear):
        raise _unsupported(name, last, "weights of its own in every layer")
    hidden = tuple(layer.out_features for _, layer in linear[:-1])
    spec = ModelSpec("mlp" if hidden else "logistic", linear[0][1].in_features, hidden)
    return spec, _rule_loss(loss)


def _layers(module: Any, name: str) -> Any:
    """Yield (name, layer) of a module in the order in which they are applied; only `nn.Sequential` says that order."""
    if not _is_exactly(module, "Sequential"):
        yield name, module
        return
    for child, layer in module._modules.items():  # `named_children` would leave out a layer that stands there twice
        yield from _layers(layer, f"{name}.{child}" if name else child)


def _is_exactly(layer: object, kind: str) -> bool:
    """Return whether a layer is of this kind and does nothing beside: a subclass or a hook could do anything."""
    import torch

    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return type(layer) is getattr(torch.nn, kind) and not any(getattr(layer, name, None) for name in hooks)


def _unsupported(name: str, layer: object, wanted: str) -> UnsupportedModuleError:
    kind = type(layer).__name__
    return UnsupportedModuleError(
        f'layer {name!r} ({kind}) cannot be proved: level="proved" takes nn.Linear and nn.ReLU in turn, expected '
        f"{wanted}. {INSTEAD}",
        layer=name,
        kind=kind,
    )


def _rule_loss(loss: object) -> Literal["sigmoid", "squared"]:
    import torch

    kinds: dict[type, Literal["sigmoid", "squared"]] = {
        torch.nn.BCEWithLogitsLoss: "sigmoid",
        torch.nn.MSELoss: "squared",
    }
    plain = getattr(loss, "reduction", None) == "mean" and not any(
        getattr(loss, name, None) is not None for name in ("weight", "pos_weight")
    )
    if type(loss) not in kinds or not plain:
        raise UnsupportedLossError(
            f'loss {loss!r} cannot be proved: level="proved" takes BCEWithLogitsLoss() or MSELoss(), without weights. '
            f"{INSTEAD}",
            loss=type(loss).__name__,
        )
    return kinds[type(loss)]


def write_rule(module: Any, spec: ModelSpec, one: int, parameters: npt.NDArray[np.int64]) -> None:
    """Write the rule's parameters, `one` of which stands for 1, into a module of `architecture`."""
    import torch

    start = 0
    linear = [layer for _, layer in _layers(module, "") if _is_exactly(layer, "Linear")]
    with torch.no_grad():
        for layer, (fan_in, fan_out) in zip(linear, spec.layers, strict=True):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            matrix = parameters[start:middle].reshape(fan_in, fan_out).T / one
            layer.weight.copy_(torch.from_numpy(matrix.copy()).to(layer.weight.dtype))
            layer.bias.copy_(torch.from_numpy(parameters[middle:end] / one).to(layer.bias.dtype))
            start = end
