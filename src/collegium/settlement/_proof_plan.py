"""What the proofs of a task follow from beside a round's terms, as the object that programs read (`programs._plan`).

Its digest is a parameter of the programs; whoever relies on a court makes the object anew and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from collegium import incentives, learning, proofs
from collegium.aggregation import RING_DIMENSION, Layout
from collegium.crypto import Digest
from collegium.learning import ModelSpec, Rule
from collegium.proofs import OPENINGS, TABLE_MAX, ProofCode
from collegium.settlement._errors import ProofPlanError

__all__ = ["EvaluationPlan", "ProofPlan", "StepPlan"]

_WORD: Final = 8
_HEAD: Final = 13  # words before the step's part, as `programs._plan` counts them
_STEP_HEAD: Final = 20
_CODES: Final = range(11, 18)  # binary logarithms of the rows' lengths that two proofs may open
_NAME: Final = 5
# Bounds of steps, each about twice what was measured: for a coefficient of the combination and a symbol of an opened
# column, a level of its path, a slot, a row's value, a table's entry; for a slot in a sum over samples; for a
# parameter, a registered row, a coefficient of c; for what does not grow.
_COMBINATION_STEPS: Final = 14
_SYMBOL_STEPS: Final = 32
_PATH_STEPS: Final = 600
_SLOT_STEPS_ALL: Final = 3000
_VALUE_STEPS: Final = 1500
_ENTRY_STEPS: Final = 200
_SLOT_STEPS: Final = 60
_PARAMETER_STEPS: Final = 500
_ROW_STEPS: Final = 2000
_COEFFICIENT_STEPS: Final = 120
_TRANSFORM_STEPS: Final = 1 << 23
_KEY_ELEMENTS: Final = 1 << 15
_LIMBS_MAX: Final = 10  # of an entry, both sides
_SCORE_STEPS: Final = 200  # for a coefficient of c and for an entry of the direction
_EVALUATION_HEAD: Final = 13
_SHARD_ROWS_MAX: Final = 1 << 16
_VALUE_ELEMENTS: Final = 24  # of an output of a row, and twice that for what a row has once
_BYTE_STEPS: Final = 32  # read, copied and hashed
_MICRO: Final = 15625  # 10^6 = 2^6 x 15625
_LOSSES: Final = {"squared": 1, "sigmoid": 2, "softmax": 3}


@dataclass(frozen=True)
class EvaluationPlan:
    """What a steward's evaluation follows from beside the step that it is made of.

    Attributes:
        shards: of each steward; shard_rounds: how many rounds each serves, 0 for all.
        evidence_max: how many bytes a record can have.
    """

    shards: int
    shard_rounds: int
    evidence_max: int

    def words(self, step: StepPlan, start: int) -> list[int]:
        """Return the stewards' part of a plan, which begins at word `start`.

        Raises:
            ProofPlanError: evaluations of such a rule cannot be stated.
        """
        spec, rule = step.spec, step.rule
        gradient = max(layer.gradient_per_row for layer in learning.layer_bounds(spec, rule))
        doublings = learning.doubling_table()[: spec.outputs.bit_length()].tolist() if rule.loss == "softmax" else []
        table = _value_table(rule)
        first, last = (table[0], table[-1]) if rule.loss == "sigmoid" else (0, 0)
        table_at = start + _EVALUATION_HEAD
        return [
            self.shards,
            self.shard_rounds,
            self.rows_max(step),
            gradient,
            *self._bits(step),
            first,
            last,
            table_at,
            len(doublings),
            table_at + len(table),
            *(value - first for value in table),
            *doublings,
        ]

    def rows_max(self, step: StepPlan) -> int:
        """Return how many rows a shard can have.

        Raises:
            ProofPlanError: evaluations of such a rule cannot be stated.
        """
        rows = proofs.evaluation_rows_max(step.spec, step.rule, _SHARD_ROWS_MAX)
        if not rows:
            raise ProofPlanError(f"evaluations of {step.rule} cannot be stated")
        return rows

    def _bits(self, step: StepPlan) -> list[int]:
        """Return the bits of q, r, of what else a value spells, and of the gap between two outputs."""
        rule, outputs, more = step.rule, step.spec.outputs, step._loss_bits()
        shift, one = 2 * rule.fraction_bits - 5, rule.one
        if rule.loss == "sigmoid":
            linear, rest = _MICRO * (8191 + 2 * ((1 << more) - 1)) // 8, 7
        elif rule.loss == "squared":
            offset = (1 << more) + one
            linear, rest, more = _MICRO * outputs * offset**2 >> shift, (1 << shift) - 1, offset.bit_length()
        else:
            linear, rest = _MICRO * (8192 + (1 << more)) >> 2, 3
            more = (one << outputs.bit_length()).bit_length()
        gap = 2 * learning.layer_bounds(step.spec, rule)[-1].sum
        return [linear.bit_length(), rest.bit_length(), more, gap.bit_length()]

    def steps_max(self, step: StepPlan) -> int:
        """Return how many steps a record takes at most, its shard's registration included.

        Where more rows are opened than evidence has room for, nothing is accepted.
        """
        spec, rows = step.spec, self.rows_max(step)
        elements = proofs.training_elements(spec, rows) + _VALUE_ELEMENTS * rows * (spec.outputs + 2)
        code = ProofCode(proofs.data_row_length(proofs.training_elements(spec, rows)), OPENINGS)
        k, tables = code.message_len, 6 * (1 << 16) + (2 << step.rule.fraction_bits) + 12 * (1 << 13)
        limit = 2 * step.rule.feature_limit * step.rule.one + (1 << 12)
        opened = self.evidence_max // (_WORD * code.queries)
        trace = min(4 * elements // k + tables // k + 128, opened)
        sums = 12 * (len(spec.layers) + 3) * k * _SLOT_STEPS
        public = _PARAMETER_STEPS * spec.parameter_count + _ROW_STEPS * rows + _BYTE_STEPS * self.evidence_max
        registration = _proof_steps(code, opened, step.pack_rounds + 4, limit)
        return registration + _proof_steps(code, trace, 4, tables) + sums + public


@dataclass(frozen=True)
class StepPlan:
    """What a training step's proof follows from.

    Attributes:
        rows_max: of one trainer; rounds: the last round; pack_rounds: rounds of a registration.
        statistics_len: bytes of a model state before its parameters.
        names: account and name of each trainer, for which its batches are drawn.
        stewards: how many a task has whose steps are scored; a model state then has a part about quality.
        evaluation: what their records prove, for the program about those.

    Raises:
        ProofPlanError: the programs do not verify such a rule's proofs.
    """

    spec: ModelSpec
    rule: Rule
    rows_max: int
    rounds: int
    pack_rounds: int
    statistics_len: int
    names: tuple[tuple[bytes, str], ...]
    stewards: int = 0
    evaluation: EvaluationPlan | None = None

    def __post_init__(self) -> None:
        if self.rule.local_steps != 1 or self.spec.patches is not None:
            raise ProofPlanError(
                f"{self.rule.local_steps} local steps, patches {self.spec.patches}: the programs verify one step of "
                "dense layers"
            )

    def words(self, start: int) -> list[int]:
        """Return the step's part of a plan, which begins at word `start`."""
        spec, rule = self.spec, self.rule
        text = repr(sorted(learning.describe_rule(spec, rule).items())).encode()
        first, second = _loss_table(rule)
        shapes = self._shapes()
        codes = [ProofCode(1 << bits, OPENINGS) for bits in _CODES]
        table_at = start + _STEP_HEAD + 2 * len(codes) + len(shapes)
        rule_at = table_at + len(second)
        names_at = rule_at + len(_words_of(text))
        names = self._names(names_at)
        quantiles = proofs.quantiles() if self.stewards else ()
        evaluated_at = names_at + len(names) + len(quantiles)
        return [
            rule.fraction_bits,
            _LOSSES[rule.loss],
            rule.feature_limit * rule.one,
            rule.batch_rows or 0,
            self.rows_max,
            self.rounds,
            self.pack_rounds,
            self.statistics_len,
            len(spec.layers),
            self._loss_bits(),
            first,
            table_at,
            rule_at,
            len(text),
            names_at,
            len(self.names),
            *self._state(),
            names_at + len(names),
            *(number for code in codes for number in (code.queries, code.randomness_len)),
            *shapes,
            *second,
            *_words_of(text),
            *names,
            *quantiles,
            *(() if self.evaluation is None else self.evaluation.words(self, evaluated_at)),
        ]

    def _state(self) -> tuple[int, int, int]:
        """Return how many bytes a model state has, and at which of its words quality and the direction begin."""
        count, ends = self.spec.parameter_count, self.statistics_len + 4 * self.spec.parameter_count
        if not self.stewards:
            return ends, 0, 0
        part = incentives.quality_state_bytes(len(self.names), self.stewards, count)
        quality = -(-ends // _WORD)
        return quality * _WORD + part, quality, quality + part // _WORD - count

    def steps_max(self, layout: Layout) -> int:
        """Return how many steps the verification of a step's report takes at most, its registration included."""
        spec, rows, outputs = self.spec, self.rows_max, self.spec.outputs
        elements = proofs.training_elements(spec, rows)
        code = ProofCode(proofs.data_row_length(elements), OPENINGS)
        k, roots = code.message_len, self.pack_rounds + 2
        limb = min(16, max(8, (rows * max((1, *spec.widths))).bit_length()))
        tables = (6 << limb) + (2 << self.rule.fraction_bits) + 5 * (1 << 13)
        trace = 4 * (elements + _masked_elements(layout)) // k + tables // k + 128
        tree = 2 * rows * (spec.inputs + outputs) // k + 2 * (spec.inputs + outputs) // k + 10
        limit = 2 * self.rule.feature_limit * self.rule.one + (1 << 12)
        sums = 12 * (len(spec.layers) + 1) * k * _SLOT_STEPS
        public = _PARAMETER_STEPS * spec.parameter_count + _ROW_STEPS * rows
        registration = _proof_steps(code, 2 * roots * tree + limit // k + 64, roots + 3, limit)
        scored = _SCORE_STEPS * RING_DIMENSION * layout.blocks + _TRANSFORM_STEPS if self.stewards else 0
        return registration + _proof_steps(code, trace, 4, tables) + _mask_steps(layout) + sums + public + scored

    def _shapes(self) -> list[int]:
        """Of each layer: inputs, outputs, and of a hidden one how many bits U has, and the offset of B."""
        bounds, rule, found = learning.layer_bounds(self.spec, self.rule), self.rule, list[int]()
        for layer, (fan_in, fan_out) in enumerate(self.spec.layers):
            bits = offset = 0
            if layer < len(self.spec.hidden):
                largest, error = bounds[layer + 1].input, bounds[layer].error
                if rule.activation_limit is not None:
                    largest = min(largest, rule.activation_limit * rule.one - 1)
                limited = rule.error_limit is not None and error == rule.error_limit * rule.one
                bits, offset = largest.bit_length(), error if limited else 1 << error.bit_length()
            found += [fan_in, fan_out, bits, offset]
        return found

    def _loss_bits(self) -> int:
        """Return the bits of the loss's offset, of sigmoid those of an index beyond its table."""
        largest, f = learning.layer_bounds(self.spec, self.rule)[-1].sum, self.rule.fraction_bits
        if self.rule.loss == "squared":
            return (largest >> f).bit_length() + 1
        bits = ((largest >> (2 * f - 8)) + 1).bit_length()
        return bits if self.rule.loss == "sigmoid" else bits + 1

    def _names(self, start: int) -> list[int]:
        """Of each trainer: account, length of its name, where it stands; then all names."""
        heads, texts = list[int](), list[int]()
        for account, name in self.names:
            text = name.encode()
            heads += [*_words_of(account), len(text), start + _NAME * len(self.names) + len(texts)]
            texts += _words_of(text)
        return heads + texts


@dataclass(frozen=True)
class ProofPlan:
    """What reports' proofs are about beside what their terms say.

    Attributes:
        rule: digest of model and rule, which every proof names.
        first_entries, entries: of the updates of round 0 and of the later rounds, `lanes` in a field element.
        norm_bound: of a bounded update, None where there is none.
        step: where rounds after 0 demand a training step; bounded updates otherwise.
    """

    rule: Digest
    first_entries: int
    entries: int
    lanes: int = 1
    norm_bound: int | None = None
    step: StepPlan | None = None

    def to_bytes(self) -> bytes:
        """Return the object: big-endian words."""
        words = [
            *_words_of(self.rule),
            0 if self.norm_bound is None else self.norm_bound + 1,
            0 if self.step is None else _HEAD,
            self.lanes,
            *_code_words(proofs.bounded_code(self.first_entries)),
            *_code_words(proofs.bounded_code(self.entries)),
            *([] if self.step is None else self.step.words(_HEAD)),
        ]
        return b"".join(word.to_bytes(_WORD, "big") for word in words)

    def steps_max(self, first: Layout, later: Layout) -> int:
        """Return how many steps the verification of a report takes at most, of round 0 or of another one."""
        bounded = [first] if self.step is not None else [first, later]
        steps = [_bounded_steps(layout) for layout in bounded]
        return max(steps if self.step is None else [*steps, self.step.steps_max(later)])

    @property
    def record_steps_max(self) -> int:
        """How many steps the verification of a steward's record takes at most; 0 where records are not proved."""
        step = self.step
        return 0 if step is None or step.evaluation is None else step.evaluation.steps_max(step)

    @property
    def parameters(self) -> dict[str, int]:
        """The object's digest, as programs are compiled with it."""
        return digest_words("PLAN", sha256(self.to_bytes()).digest())


def digest_words(name: str, digest: Digest) -> dict[str, int]:
    """Return a digest's words as programs are compiled with them: NAME_0, NAME_1 and so on."""
    return {f"{name}_{index}": word for index, word in enumerate(_words_of(digest))}


def _bounded_steps(layout: Layout) -> int:
    code, bound = proofs.bounded_code(layout.entries), layout.budget.entry_bound
    tables = min(2 * bound + 1, TABLE_MAX) + (1 << 13)
    elements = _masked_elements(layout) + _LIMBS_MAX * layout.entries
    rows = 3 * elements // code.message_len + tables // code.message_len + 64
    return _proof_steps(code, rows, 3, tables) + _mask_steps(layout)


def _masked_elements(layout: Layout) -> int:
    return RING_DIMENSION * layout.blocks + _KEY_ELEMENTS


def _mask_steps(layout: Layout) -> int:
    return _COEFFICIENT_STEPS * RING_DIMENSION * layout.blocks + _TRANSFORM_STEPS


def _proof_steps(code: ProofCode, rows: int, trees: int, tables: int) -> int:
    """Return a bound of what a proof of so many rows takes beside its own sums."""
    k, levels = code.message_len, (4 * code.message_len).bit_length()
    column = _COMBINATION_STEPS * (k + code.randomness_len) + _SYMBOL_STEPS * rows + _PATH_STEPS * levels * trees
    return code.queries * column + _SLOT_STEPS_ALL * k + _VALUE_STEPS * rows + _ENTRY_STEPS * tables


def _code_words(code: ProofCode) -> tuple[int, int, int]:
    return code.message_len, code.queries, code.randomness_len


def _words_of(data: bytes) -> list[int]:
    """Return bytes as big-endian words, zeros behind them."""
    return [int.from_bytes(data[at : at + _WORD].ljust(_WORD, b"\0"), "big") for at in range(0, len(data), _WORD)]


def _value_table(rule: Rule) -> Sequence[int]:
    """Return the table that a loss's value looks up: the loss, or the logarithm of a mantissa."""
    if rule.loss == "squared":
        return []
    table = learning.softplus_table() if rule.loss == "sigmoid" else learning.logarithm_table()
    return [int(value) for value in table]


def _loss_table(rule: Rule) -> tuple[int, Sequence[int]]:
    """Return the first value of the loss's table, and how far its other ones are from there."""
    if rule.loss == "squared":
        return 0, []
    table = [int(value) for value in _TABLES[rule.loss](rule.fraction_bits)]
    if rule.loss == "sigmoid":
        return table[0], [value - table[0] for value in table]
    return rule.one, [rule.one - value for value in table]


_TABLES: Final[dict[str, Callable[[int], Sequence[int]]]] = {
    "sigmoid": lambda bits: learning.sigmoid_table(bits).tolist(),
    "softmax": lambda bits: learning.exponential_table(bits).tolist(),
}
