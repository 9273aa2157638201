"""A Torch module in a federation: its weights there and back, local training, and what the exact rule cannot take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import collegium
from collegium.aggregation import BudgetError
from collegium.apps._modules import (
    LocalTraining,
    architecture,
    check_module,
    is_module,
    probabilities,
    scores,
    tensors,
    weights_of,
    write_rule,
    write_weights,
)
from collegium.apps.federation import (
    ModuleError,
    ModuleWidthError,
    NotVerifiableError,
    OptionError,
    RunningStatisticsError,
    TooFewRowsError,
    UnreadableDataError,
    UnsupportedLossError,
    UnsupportedModuleError,
)
from collegium.learning import ModelSpec
from collegium.node import VectorStateError, VectorTaskError

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SEED = bytes(range(32))


def small() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def rows(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    inputs = draw.normal(size=(count, 3)).astype(np.float32)
    return inputs, (inputs.sum(axis=1) > 0).astype(np.int64)


def training(module: Any, **changes: Any) -> LocalTraining:
    from torch import nn

    inputs, targets = rows()
    settings = {"train": None, "learning_rate": 0.05, "epochs": 2, "batch_rows": 16, "noted": lambda change: None}
    return LocalTraining(
        **{"module": module, "inputs": inputs, "targets": targets, "loss": nn.BCEWithLogitsLoss()} | settings | changes
    )


def test_weights_go_there_and_back() -> None:
    module, other = small(), small()
    assert is_module(module)
    assert not is_module([3])
    write_weights(other, weights_of(module))
    assert weights_of(other).tolist() == weights_of(module).tolist()
    assert weights_of(module).shape == (21,)


def test_frozen_weights_are_left_out() -> None:
    module = small()
    module[0].requires_grad_(False)
    assert weights_of(module).shape == (5,)
    module.requires_grad_(False)
    with pytest.raises(ModuleError, match="Sequential has no trainable weights"):
        check_module(module)


def test_weights_without_a_shape_or_of_complex_numbers_are_refused() -> None:
    import torch
    from torch import nn

    with pytest.raises(ModuleError, match="weights weight have no shape yet"):
        check_module(nn.LazyLinear(1))
    with pytest.raises(ModuleError, match=r"weights weight are torch.complex64"):
        check_module(nn.Linear(2, 1, dtype=torch.complex64))


def test_training_leaves_the_template_alone_and_repeats_itself() -> None:
    module, told = small(), []
    learner = training(module, noted=told.append)
    before = weights_of(module)
    change, again = learner(before, SEED), learner(before, SEED)
    assert weights_of(module).tolist() == before.tolist()
    assert change.tolist() == again.tolist() == told[0].tolist()
    assert np.abs(change).max() > 0
    assert learner(before, SEED[::-1]).tolist() != change.tolist()


def test_training_that_does_nothing_changes_nothing() -> None:
    module = small()
    learner = training(module, train=lambda module, data: None)
    assert not learner(weights_of(module) + 1e-12, SEED).any()


def test_training_lowers_the_loss() -> None:
    from torch import nn

    module, loss = small(), nn.BCEWithLogitsLoss()
    before = scores(module, loss, *rows())
    write_weights(module, weights_of(module) + training(module, epochs=20)(weights_of(module), SEED))
    after = scores(module, loss, *rows())
    assert after.loss < before.loss
    assert after.auc > 0.9
    assert after.accuracy > 0.8
    assert (probabilities(module, loss, rows()[0]) >= 0.5).mean() == pytest.approx(rows()[1].mean(), abs=0.2)


def test_scores_of_classes_have_no_auc() -> None:
    from torch import nn

    module = nn.Linear(3, 2)
    found = scores(module, nn.CrossEntropyLoss(), *rows())
    assert 0 <= found.accuracy <= 1
    assert math.isnan(found.auc)
    assert probabilities(module, nn.CrossEntropyLoss(), rows()[0]).sum(axis=1) == pytest.approx(1)


def test_classes_are_whole_numbers() -> None:
    from torch import nn

    inputs, targets = rows()
    tensors(nn.Linear(3, 2), nn.CrossEntropyLoss(), inputs, targets.astype(float))
    with pytest.raises(ModuleError, match="not whole numbers"):
        tensors(nn.Linear(3, 2), nn.CrossEntropyLoss(), inputs, targets + 0.5)


def test_running_statistics_are_refused_before_and_after_training() -> None:
    from torch import nn

    check_module(nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 1)))
    with pytest.raises(RunningStatisticsError, match=r"layer '1' \(BatchNorm1d\) keeps running statistics"):
        check_module(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    module = small()
    module.register_buffer("seen", weights_of_zero())

    def counts(module: Any, data: Any) -> None:
        module.seen += 1

    with pytest.raises(RunningStatisticsError, match="training changed 'seen'"):
        training(module, train=counts)(weights_of(module), SEED)


def weights_of_zero() -> Any:
    import torch

    return torch.zeros(1)


def test_training_that_grows_the_module_is_refused() -> None:
    from torch import nn

    def grows(module: Any, data: Any) -> None:
        module.append(nn.Linear(1, 1))

    with pytest.raises(ModuleError, match="training left 23 weights of 21"):
        training(small(), train=grows)(weights_of(small()), SEED)


def test_the_rule_takes_linear_and_relu_in_turn() -> None:
    from torch import nn

    relu = nn.ReLU()
    nested = nn.Sequential(nn.Sequential(nn.Linear(3, 4), relu), nn.Linear(4, 2), relu, nn.Linear(2, 1))
    assert architecture(nn.Linear(3, 1), nn.MSELoss()) == (ModelSpec("logistic", 3), "squared")
    assert architecture(small(), nn.BCEWithLogitsLoss()) == (ModelSpec("mlp", 3, (4,)), "sigmoid")
    assert architecture(nested, nn.BCEWithLogitsLoss()) == (ModelSpec("mlp", 3, (4, 2)), "sigmoid")


def unprovable() -> list[tuple[Any, str]]:
    from torch import nn

    shared, tied = nn.Linear(4, 4), nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU())
    hooked, frozen = small(), small()
    hooked[0].register_forward_hook(lambda layer, given, said: 2 * said)
    frozen[0].weight.requires_grad_(False)
    tied[2].weight = tied[0].weight

    class Doubled(nn.Linear):
        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    return [
        (nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Linear(4, 1)), r"layer '0' \(Conv1d\).* expected nn.Linear"),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), r"layer '1' \(Tanh\).* expected nn.ReLU in this"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), r"layer '1' \(Linear\).* expected nn.ReLU in this"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), r"layer '1' \(ReLU\).* expected nn.Linear at the end"),
        (nn.Sequential(), r"layer '' \(Sequential\).* expected nn.Linear at the end"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 1)), r"layer '1' \(Dropout\)"),
        (nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1)), r"layer '0' .* expected a bias"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 1)), r"layer '2' .* expected 4 inputs"),
        (nn.Linear(3, 2), r"layer '' \(Linear\).* expected one output"),
        (nn.Sequential(Doubled(3, 1)), r"layer '0' \(Doubled\)"),
        (hooked, r"layer '0' \(Linear\)"),
        (frozen, r"layer '0' \(Linear\).* not frozen"),
        (nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 1)), "weights of its own"),
        (nn.Sequential(*tied, nn.Linear(3, 1)), "weights of its own"),
    ]


@pytest.mark.parametrize("case", range(14))
def test_what_the_rule_cannot_train_is_refused_by_its_layers_name(case: int) -> None:
    from torch import nn

    module, reason = unprovable()[case]
    with pytest.raises(UnsupportedModuleError, match=reason) as refusal:
        architecture(module, nn.BCEWithLogitsLoss())
    assert 'level="bounded" takes any module' in str(refusal.value)


def test_losses_that_the_rule_does_not_have() -> None:
    import torch
    from torch import nn

    wrong = [None, nn.L1Loss(), nn.CrossEntropyLoss(), nn.MSELoss(reduction="sum"), lambda said, wanted: said.sum()]
    for loss in (*wrong, nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))):
        with pytest.raises(UnsupportedLossError, match=r"takes BCEWithLogitsLoss\(\) or MSELoss\(\)"):
            architecture(small(), loss)


def test_the_rules_parameters_become_the_modules() -> None:
    import torch

    module, one = small(), 4096
    parameters = np.arange(-10, 11, dtype=np.int64) * one
    write_rule(module, ModelSpec("mlp", 3, (4,)), one, parameters)
    hidden = np.maximum(np.array([1.0, 2, 3]) @ (parameters[:12].reshape(3, 4) / one) + parameters[12:16] / one, 0)
    expected = hidden @ (parameters[16:20] / one) + parameters[20] / one
    assert module(torch.tensor([[1.0, 2, 3]])).item() == pytest.approx(expected)


def data() -> dict[str, Any]:
    return {name: rows() for name in "abcd"}


def test_a_level_is_never_lowered_in_silence() -> None:
    from torch import nn

    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(UnsupportedModuleError, match="Tanh"):
        collegium.Federation(data(), model=module, loss=nn.BCEWithLogitsLoss(), level="proved")
    bounded = collegium.Federation(data(), model=module, loss=nn.BCEWithLogitsLoss(), level="bounded")
    with pytest.raises(NotVerifiableError, match="nobody can check it again"):
        bounded.verify()


def test_options_of_the_other_way_to_train() -> None:
    from torch import nn

    common = {"model": small(), "loss": nn.BCEWithLogitsLoss()}
    collegium.Federation(data(), **common, level="bounded", clip=0.1, norm=float("inf"), bits=12)
    collegium.Federation(data(), **common, level="proved", local_steps=1)
    with pytest.raises(OptionError, match="local_steps would have no effect where a module is trained"):
        collegium.Federation(data(), **common, level="bounded", local_steps=1)
    with pytest.raises(OptionError, match="clip would have no effect where the exact rule trains"):
        collegium.Federation(data(), **common, level="proved", clip=0.1)
    with pytest.raises(OptionError, match="loss is None, expected what the module minimises"):
        collegium.Federation(data(), model=small(), level="bounded")


def test_a_module_of_another_width_than_the_features() -> None:
    from torch import nn

    with pytest.raises(ModuleWidthError, match="the module takes 5 inputs, expected 3, the features: x0, x1, x2"):
        collegium.Federation(data(), model=nn.Linear(5, 1), loss=nn.BCEWithLogitsLoss())


def test_settings_of_a_module_are_refused_before_it_runs() -> None:
    from torch import nn

    def plan(trainers: int = 4, **options: Any) -> None:
        inputs, targets = rows(8)
        data = {f"trainer {number}": (inputs, targets) for number in range(trainers)}
        options = {"model": nn.Linear(3, 1), "loss": nn.BCEWithLogitsLoss(), "level": "bounded"} | options
        collegium.Federation(data, **options)

    diverged = nn.Linear(3, 1)
    nn.init.constant_(diverged.bias, float("nan"))
    plan(129)
    plan(130, bits=15)
    for error, reason, options in (
        (BudgetError, "seats must be a power of two", {"seats": 20}),
        (BudgetError, "lower the entry bound 32767", {"trainers": 130}),
        (VectorTaskError, "3 bits an entry, expected 4 to 16", {"bits": 3}),
        (VectorTaskError, "norm is", {"norm": 1e-9}),
        (VectorStateError, "initial weight 3 is nan", {"model": diverged}),
        (OptionError, "epochs is 0", {"epochs": 0}),
        (OptionError, "learning_rate is 'fast'", {"learning_rate": "fast"}),
    ):
        with pytest.raises(error, match=reason):
            plan(**options)


def test_rows_of_another_shape_than_the_others() -> None:
    from torch import nn

    common = {"model": nn.Linear(3, 1), "loss": nn.BCEWithLogitsLoss(), "level": "bounded"}
    with pytest.raises(UnreadableDataError, match=r"d: a row's inputs and targets have shapes \(\(3,\), \(1,\)\)"):
        collegium.Federation(data() | {"d": (rows()[0], rows()[1][:, None])}, **common)
    with pytest.raises(TooFewRowsError, match="d: 1 rows"):
        collegium.Federation(data() | {"d": rows(1)}, **common)
