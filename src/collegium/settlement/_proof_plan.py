"""What the proofs of a task follow from beside a round's terms, as the object that programs read (`programs._plan`).

Its digest is a parameter of the programs; whoever relies on a court makes the object anew and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from collegium import learning, proofs
from collegium.crypto import Digest
from collegium.learning import ModelSpec, Rule
from collegium.proofs import OPENINGS, ProofCode
from collegium.settlement._errors import ProofPlanError

__all__ = ["ProofPlan", "StepPlan"]

_WORD: Final = 8
_HEAD: Final = 13  # words before the step's part, as `programs._plan` counts them
_STEP_HEAD: Final = 16
_CODES: Final = range(11, 18)  # binary logarithms of the rows' lengths that two proofs may open
_SHAPE: Final = 4
_NAME: Final = 5
_LOSSES: Final = {"squared": 1, "sigmoid": 2, "softmax": 3}


@dataclass(frozen=True)
class StepPlan:
    """What a training step's proof follows from.

    Attributes:
        rows_max: of one trainer; rounds: the last round; pack_rounds: rounds of a registration.
        statistics_len: bytes of a model state before its parameters.
        names: account and name of each trainer, for which its batches are drawn.

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
            *(number for code in codes for number in (code.queries, code.randomness_len)),
            *shapes,
            *second,
            *_words_of(text),
            *self._names(names_at),
        ]

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

    @property
    def parameters(self) -> dict[str, int]:
        """The object's digest, as programs are compiled with it."""
        return {f"PLAN_{index}": word for index, word in enumerate(_words_of(sha256(self.to_bytes()).digest()))}


def _code_words(code: ProofCode) -> tuple[int, int, int]:
    return code.message_len, code.queries, code.randomness_len


def _words_of(data: bytes) -> list[int]:
    """Return bytes as big-endian words, zeros behind them."""
    return [int.from_bytes(data[at : at + _WORD].ljust(_WORD, b"\0"), "big") for at in range(0, len(data), _WORD)]


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
