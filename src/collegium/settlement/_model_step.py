"""The trace of the step from a round's opened total to the next model (docs/spec/disputes.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from eth_abi.abi import encode

from collegium.consensus import TOTAL_TAG, Header
from collegium.crypto import Digest
from collegium.learning import ModelSpec, Rule, apply_total, layer_bounds, parameters_from_bytes, parameters_to_bytes
from collegium.settlement._errors import TraceInputError
from collegium.settlement._trace import STRETCH_BYTES, Message, TraceTree, levels_for

__all__ = ["ModelStepTrace", "StepRule", "header_opening", "model_step_trace", "step_rule"]

SECTION_BITS: Final = 2
TOTAL_SECTION, BEFORE_SECTION, AFTER_SECTION = range(3)
_ENTRY_BYTES, _PARAMETER_BYTES = 8, 4


@dataclass(frozen=True, slots=True)
class StepRule:
    """A training rule as the contract ModelStep holds it; its fields in the contract's order.

    Attributes:
        parameters: of the model; statistics: entries of 8 bytes that stand before them in a model state.
        hidden: parameters before the output layer's, clipped to `hidden_limit`; the others to `output_limit`.
        numerator, denominator: a parameter moves by round_half_up(numerator total / (denominator weight)).
        descends: against the total, which is a gradient.
    """

    parameters: int
    statistics: int
    hidden: int
    hidden_limit: int
    output_limit: int
    numerator: int
    denominator: int
    descends: bool


def step_rule(spec: ModelSpec, rule: Rule, statistics: int) -> StepRule:
    """Return a task's rule in the contract's form; `statistics` is the number of entries that round 0 opens."""
    limits = [layer.parameter for layer in layer_bounds(spec, rule)]
    fan_in, fan_out = spec.layers[-1]
    hidden = spec.parameter_count - (fan_in + 1) * fan_out
    rate = rule.learning_rate
    numbers = (rate.numerator, rate.denominator * rule.one, True) if rule.local_steps == 1 else (1, 1, False)
    return StepRule(spec.parameter_count, statistics, hidden, limits[0] if hidden else 0, limits[-1], *numbers)


class ModelStepTrace:
    """Total and state before, read; state after, made. What is made may contradict the header: that is the fault."""

    def __init__(self, rule: StepRule, total: bytes, before: bytes, after: bytes, header_model: Digest) -> None:
        """Build the trace.

        Args:
            total: the opened sum as an object, tag included.
            before: the model state before; after: what the step gives of it.
            header_model: what the header says of the model after.

        Raises:
            TraceInputError: a length is not the rule's.
        """
        lengths = (len(total), len(before), len(after))
        state = _ENTRY_BYTES * rule.statistics + _PARAMETER_BYTES * rule.parameters
        if lengths != (len(TOTAL_TAG) + _ENTRY_BYTES * (rule.parameters + 1), state, state):
            raise TraceInputError(f"total and states have {lengths} bytes, the rule is {rule}", lengths=lengths)
        self._rule, self.total, self.after = rule, total, after
        self._total, self._before, self._after = Message(total), Message(before), Message(after)
        sections = [self._total.section(made=False), self._before.section(made=False), self._after.section(made=True)]
        self.tree = TraceTree(sections, SECTION_BITS, levels_for(SECTION_BITS, max(len(s.digests) for s in sections)))
        self.facts = encode(["bytes32"] * 3, [self._total.digest, self._before.digest, header_model])
        last = self.tree.position(AFTER_SECTION, self._after.count - 1)
        self.fault: int | None = None if self._after.digest == header_model else last

    @property
    def made(self) -> Digest:
        """Digest of the state that the step gives."""
        return self._after.digest

    @property
    def levels(self) -> int:
        """Height of the tree."""
        return self.tree.levels

    def node(self, level: int, index: int) -> Digest:
        """Return a node of the tree."""
        return self.tree.node(level, index)

    def leaf(self, position: int) -> bytes:
        """Return a leaf's bytes."""
        return self.tree.leaf(position)

    def witness(self, position: int) -> tuple[int, ...]:
        """Return what the contract wants to see of a leaf, in its order."""
        bits = self.tree.levels - SECTION_BITS
        section, index = position >> bits, position & ((1 << bits) - 1)
        previous = (position - 1,) if index else ()
        if section != AFTER_SECTION:
            return previous
        before = self.tree.position(BEFORE_SECTION, self._before.count - 1 - index)
        start = _ENTRY_BYTES * self._rule.statistics
        state_bytes = start + _PARAMETER_BYTES * self._rule.parameters
        low, high = max(index * STRETCH_BYTES, start), min((index + 1) * STRETCH_BYTES, state_bytes)
        entries: tuple[int, ...] = ()
        if high > low:
            entries = self._entries((low - start) // _PARAMETER_BYTES, (high - start) // _PARAMETER_BYTES - 1)
        return (*previous, before, *entries, *self._entries(self._rule.parameters, self._rule.parameters))

    def _entries(self, first: int, last: int) -> tuple[int, ...]:
        """Return where the total's entries from `first` to `last` stand."""
        start = len(TOTAL_TAG) + _ENTRY_BYTES * first
        end = len(TOTAL_TAG) + _ENTRY_BYTES * (last + 1) - 1
        stretches = range(start // STRETCH_BYTES, end // STRETCH_BYTES + 1)
        return tuple(self.tree.position(TOTAL_SECTION, self._total.count - 1 - stretch) for stretch in stretches)


def model_step_trace(
    spec: ModelSpec, rule: Rule, statistics: int, total: bytes, before: bytes, header_model: Digest
) -> ModelStepTrace:
    """Return the trace of a step, computed here from the total and the state before.

    Raises:
        CollegiumError: the total is one that no header may call opened.
    """
    bound = step_rule(spec, rule, statistics)
    head, parameters = before[: _ENTRY_BYTES * statistics], before[_ENTRY_BYTES * statistics :]
    entries = np.frombuffer(total, "<i8", offset=len(TOTAL_TAG)).astype(np.int64)
    after = apply_total(spec, rule, parameters_from_bytes(spec, rule, parameters), entries)
    return ModelStepTrace(bound, total, before, head + parameters_to_bytes(spec, rule, after), header_model)


def header_opening(header: Header, previous: Header) -> bytes:
    """Return the fields of two headers as a step verifier takes them: the offset of the second, then both."""
    first = header.preimage
    return (32 + len(first)).to_bytes(32, "big") + first + previous.preimage
