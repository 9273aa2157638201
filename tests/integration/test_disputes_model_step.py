"""The contract's step is the rule's: every leaf of a right trace stands, and none does after the smallest change."""

from __future__ import annotations

import random
from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pytest
from _chain_stage import DEPLOYER, embedded

from collegium.consensus import TOTAL_TAG
from collegium.learning import ModelSpec, Rule, layer_bounds
from collegium.settlement import (
    NOBODY,
    Chain,
    Defender,
    ModelStepTrace,
    contract,
    encode_witness,
    model_step_trace,
    step_rule,
    transact,
)

STATISTICS = 7
SPECS = (ModelSpec("logistic", 70), ModelSpec("mlp", 5, (7, 3), 1), ModelSpec("logistic", 1))


def trace_of(spec: ModelSpec, rule: Rule, rng: np.random.Generator) -> ModelStepTrace:
    """A step whose totals are large and small, whose parameters lie at their limits too, and whose header is right."""
    count = spec.parameter_count
    sizes = np.array([(fan_in + 1) * fan_out for fan_in, fan_out in spec.layers])
    limits = np.repeat([layer.parameter for layer in layer_bounds(spec, rule)], sizes)
    parameters = np.where(
        rng.random(count) < 0.3, rng.choice([-1, 1], count) * limits, rng.integers(-limits, limits + 1)
    )
    totals = rng.integers(-(1 << 62), 1 << 62, count) >> rng.integers(0, 62, count)
    total = TOTAL_TAG + np.append(totals, rng.integers(1, 1 << 20)).astype("<i8").tobytes()
    before = rng.integers(0, 1 << 40, STATISTICS).astype("<i8").tobytes() + parameters.astype("<i4").tobytes()
    made = model_step_trace(spec, rule, STATISTICS, total, before, bytes(32)).made
    return model_step_trace(spec, rule, STATISTICS, total, before, made)


def refutes(chain: Chain, verifier: bytes, trace: ModelStepTrace, position: int, leaf: bytes) -> bool:
    """Ask the contract about a leaf, with the witness that an honest challenger has."""
    wanted = trace.witness(position) if trace.leaf(position) else ()
    witness = encode_witness([Defender(trace).answer(place) for place in wanted])
    step = contract("ModelStep")
    call = step.call("refutes", trace.facts, trace.tree.root, trace.levels, position, leaf, witness)
    (wrong,) = step.result("refutes", chain.call(NOBODY, verifier, call))
    return bool(wrong)


@pytest.mark.slow
@pytest.mark.seeds(quick=3, full=60)
def test_every_leaf_of_a_right_step_stands_and_none_after_a_change(seed: int) -> None:
    rng, spec = np.random.default_rng(seed), SPECS[seed % len(SPECS)]
    rate = Fraction(int(rng.integers(1, 1 << 16)), int(rng.integers(1, 1 << 16)))
    rule = Rule(feature_limit=2, learning_rate=rate, local_steps=1 + seed % 2, hidden_limit=1, output_limit=2)
    trace = trace_of(spec, rule, rng)
    world = next(embedded())
    creation = contract("ModelStep").creation(astuple(step_rule(spec, rule, STATISTICS)))
    verifier = transact(world.chain, DEPLOYER, None, creation).contract
    assert verifier is not None
    change = random.Random(seed)
    for position in filter(trace.leaf, range(1 << trace.levels)):
        leaf = trace.leaf(position)
        assert not refutes(world.chain, verifier, trace, position, leaf)
        at = change.randrange(len(leaf))
        other = leaf[:at] + bytes([leaf[at] ^ 1 << change.randrange(8)]) + leaf[at + 1 :]
        assert refutes(world.chain, verifier, trace, position, other)
        assert refutes(world.chain, verifier, trace, position, b"")
    nothing = (1 << trace.levels) - 1
    assert not refutes(world.chain, verifier, trace, nothing, b"")
    assert refutes(world.chain, verifier, trace, nothing, b"\0")
