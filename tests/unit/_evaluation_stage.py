"""Shards of hidden rows under every loss, and the statements that an evaluation on them proves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from _proof_stage import Case, digest_of, random_of

from collegium import learning
from collegium.learning import ModelSpec, Rule
from collegium.proofs import CommittedRows, DataShape, EvaluationStatement, _evaluation, commit_data, evaluated


@dataclass(frozen=True)
class Shard:
    """A model, a rule and hidden rows; parameters and features up to their limits, so that many logits are clipped."""

    spec: ModelSpec
    rule: Rule
    rows: int
    seed: int = 1

    @property
    def parameters(self) -> Any:
        generator = np.random.default_rng(self.seed)
        limits = learning.layer_bounds(self.spec, self.rule)
        return np.concatenate(
            [
                generator.integers(-bound.parameter, bound.parameter + 1, (fan_in + 1) * fan_out)
                for (fan_in, fan_out), bound in zip(self.spec.layers, limits, strict=True)
            ]
        )

    @property
    def features(self) -> Any:
        limit = self.rule.feature_limit * self.rule.one
        return np.random.default_rng(self.seed + 1).integers(-limit, limit + 1, (self.rows, self.spec.inputs))

    @property
    def labels(self) -> Any:
        return np.random.default_rng(self.seed + 2).integers(0, self.spec.classes, self.rows)


WIDE = Rule(fraction_bits=8, output_limit=16, hidden_limit=1, feature_limit=2)
SHARDS = {
    "sigmoid": Shard(ModelSpec("logistic", 8), Rule(output_limit=16), 40),
    "hidden": Shard(ModelSpec("mlp", 8, (6,)), WIDE, 31),
    "squared": Shard(ModelSpec("mlp", 8, (6,)), replace(WIDE, loss="squared", output_limit=2), 33),
    "squared classes": Shard(ModelSpec("mlp", 8, (5,), 3), replace(WIDE, loss="squared", output_limit=2), 33),
    "softmax": Shard(ModelSpec("mlp", 8, (5,), 3), replace(WIDE, loss="softmax"), 37),
    "softmax of two": Shard(ModelSpec("logistic", 3, (), 2), replace(WIDE, loss="softmax", fraction_bits=15), 5),
}


def case_of(shard: Shard, features: Any = None, labels: Any = None, **changes: Any) -> Case:
    """The true claim about a shard, or one that differs in `changes`."""
    features = shard.features if features is None else features
    labels = shard.labels if labels is None else labels
    spec, rule = shard.spec, shard.rule
    shape = DataShape(len(labels), spec.inputs, spec.outputs, rule.feature_limit * rule.one, 2048)
    data = commit_data(shape, features, labels, random_of("shard", repr(shard)))
    claim = replace(evaluated(spec, rule, shard.parameters, features, labels), **changes)
    statement = EvaluationStatement(b"o" * 20, digest_of("c"), spec, rule, shard.parameters, shape, data.root, claim)
    return case_about(f"evaluation {shard}", statement, features, labels, data)


def case_about(name: str, statement: EvaluationStatement, features: Any, labels: Any, data: CommittedRows) -> Case:
    """A statement about these rows, and who could prove it."""
    program, tensors = _evaluation._program(statement)
    step = learning.step_trace(statement.spec, statement.rule, statement.parameters, features, labels)
    assignment = _evaluation._Assignment(tensors, features, labels, step)
    return Case(name, statement, program, tensors, assignment, (data,))


@cache
def true_case(name: str) -> Case:
    return case_of(SHARDS[name])
