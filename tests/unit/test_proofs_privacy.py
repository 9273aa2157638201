"""What a proof shows does not depend on the witness: two-sample tests, and controls in which they do find a difference.

The simulator and the count of openings are in `test_proofs_simulator`. Here one statement has many witnesses, and two
that are as unlike as may be are proved several times each. Compared are, row by row, the opened symbols and the values
out of the domain, and as a whole the remainder, the combination's coefficients and its values on the slots: the largest
distance of the empirical distributions (Kolmogorov and Smirnov), between the witnesses and from uniform, and the
lowest four bits (chi-square). Every comparison is at 10^-5, so that all of a run together are below 1%. The randomness
is seeded: what passes once passes always. The controls leave out pads or masks, and are told apart by what they lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from _proof_stage import light_work, random_of, sections_of

from collegium.algebra import P, ext_mul, ext_scale, ntt
from collegium.proofs import ProofCode, _prove
from collegium.proofs._layout import Flat, Layout, Monomial
from collegium.proofs._program import FirstChallenges, Program, SecondChallenges
from collegium.proofs._sums import Sums
from collegium.proofs._verify import verify

Array = Any
pytestmark = pytest.mark.slow

K = 1024
PROOFS = 12  # of each witness
LEVEL = 1e-5  # of one comparison
CHI_SQUARE_15 = 51.5  # exceeded with probability 7 x 10^-6 by 15 degrees of freedom


# ------------------------------------------------------------------------------------------------ witnesses


@dataclass(frozen=True)
class Many:
    """Entries below 256 that add up to 100 each on average, and any booleans: a statement with very many witnesses."""

    program: Program
    entries: Flat
    flags: Flat


@cache
def statement() -> Many:
    layout = Layout(ProofCode(K))
    entries, flags = layout.flat(layout.trace, 2 * K), layout.flat(layout.trace, K)
    layout.look_up(entries.rows, layout.table(256))
    layout.constrain(Monomial(1, ((flags.rows, 0), (flags.rows, 0))), Monomial(P - 1, ((flags.rows, 0),)))
    layout.freeze()

    def text(sums: Sums, first: FirstChallenges, second: SecondChallenges) -> None:
        chi = second.relation(0)
        one = np.stack([np.ones(2 * K, np.uint64), np.zeros(2 * K, np.uint64)])
        sums.vector(entries, ext_scale(one, chi))
        sums.constant(ext_mul((-2 * K * 100 % P, 0), chi))

    return Many(Program(layout, (b"many witnesses",), 1, text), entries, flags)


@dataclass(frozen=True)
class Witness:
    """The entries and the flags of a witness."""

    entries: Array
    flags: Array

    def trace(self, messages: Array) -> None:
        layout = statement().program.layout
        messages[layout.index(statement().entries.rows)] = self.entries.reshape(2, K)
        messages[layout.index(statement().flags.rows)] = self.flags

    def products(self, messages: Array, first: FirstChallenges) -> None:
        """No products."""

    def key_values(self, point: tuple[int, int]) -> Array:
        return np.zeros((2, 0), np.uint64)


CONSTANT = Witness(np.full(2 * K, 100, np.uint64), np.zeros(K, np.uint64))
UNLIKE = Witness(np.tile(np.array([0, 200], np.uint64), K), np.ones(K, np.uint64))


# ------------------------------------------------------------------------------------------------ what a proof shows


def shown(witness: Witness, label: object) -> dict[str, list[Array]]:
    """Return what many proofs show, by where it stands: words, row by row where there are rows."""
    program, seen = statement().program, {}
    layout, code = program.layout, program.layout.code
    for number in range(PROOFS):
        proof = _prove.prove(program, witness, (), random_of("privacy", label, number)).proof
        verify(program, proof)
        parts = {section.name: section.words(proof) for section in sections_of(program, proof) if section.elements}
        values = parts["values"].reshape(2, -1)
        for row in range(values.shape[1]):
            seen.setdefault(f"value of row {row}", []).append(values[:, row])
        start = 0
        for tree, count in enumerate(layout.counts):
            symbols = parts[f"symbols of {tree}"].reshape(code.queries, count)
            for row in range(count):
                seen.setdefault(f"symbols of row {start + row}", []).append(symbols[:, row])
            start += count
        combination = parts["combination"].reshape(2, -1)
        folded = combination[:, :K].copy()
        folded[:, : code.randomness_len] = (folded[:, : code.randomness_len].astype(object) + combination[:, K:]) % P
        seen.setdefault("remainder", []).append(parts["remainder"])
        seen.setdefault("combination", []).append(parts["combination"])
        seen.setdefault("combination on the slots", []).append(ntt(np.ascontiguousarray(folded)).reshape(-1))
    return seen


def distance(a: Array, b: Array | None) -> float:
    """Return the largest distance of two empirical distributions, b None for the uniform one, over its limit."""
    limit = sqrt(-log(LEVEL / 2) / 2)
    a = np.sort(a.astype(np.float64) / P)
    if b is None:
        steps = np.arange(len(a) + 1) / len(a)
        found = max(np.abs(steps[1:] - a).max(), np.abs(steps[:-1] - a).max())
        return float(found * sqrt(len(a)) / limit)
    b = np.sort(b.astype(np.float64) / P)
    both = np.concatenate([a, b])
    found = np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max()
    return float(found * sqrt(len(a) * len(b) / (len(a) + len(b))) / limit)


def low_bits(a: Array, b: Array) -> float:
    """Return the chi-square of two samples' lowest four bits, over its limit."""
    counts = np.stack([np.bincount((x & np.uint64(15)).astype(np.int64), minlength=16) for x in (a, b)]).astype(float)
    expected = counts.sum(axis=0) * (counts.sum(axis=1) / counts.sum())[:, None]
    return float((((counts - expected) ** 2) / np.maximum(expected, 1e-9)).sum() / CHI_SQUARE_15)


def differences() -> dict[str, float]:
    """Return the worst of all comparisons, by where; above 1, witnesses or a proof and chance can be told apart."""
    first, second = shown(CONSTANT, "constant"), shown(UNLIKE, "unlike")
    worst = {}
    for name, parts in first.items():
        a, b = np.concatenate(parts), np.concatenate(second[name])
        found = [distance(a, b), distance(a, None), distance(b, None)]
        if len(a) >= 500:  # enough for sixteen cells
            found.append(low_bits(a, b))
        worst[name] = max(found)
    return worst


def apart(worst: dict[str, float], start: str) -> list[str]:
    return [name for name, value in worst.items() if name.startswith(start) and value > 1]


@pytest.fixture(autouse=True)
def _light_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on the work before columns are drawn."""
    light_work(monkeypatch)


# ------------------------------------------------------------------------------------------------ tests


def test_two_witnesses_of_one_statement_look_alike() -> None:
    worst = differences()
    rows = sum(statement().program.layout.counts)
    assert len(worst) == 2 * rows + 3
    assert 4 * len(worst) * LEVEL < 0.01
    assert not apart(worst, ""), worst


def without(monkeypatch: pytest.MonkeyPatch, what: Callable[[int], bool]) -> None:
    """Let the prover's randomness be 0 where `what` says so of the number of elements drawn."""
    honest = _prove.sample_field

    def drawn(random: Any, count: int) -> Array:
        return np.zeros(count, np.uint64) if what(count) else honest(random, count)

    monkeypatch.setattr(_prove, "sample_field", drawn)


def test_without_pads_columns_and_values_tell_the_witnesses_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test has power: every row of the witness shows, and the proofs still verify."""
    program = statement().program
    t = program.layout.code.randomness_len
    padded = {t * program.layout.counts[tree] for tree in (program.layout.trace, program.layout.products)}
    without(monkeypatch, lambda count: count in padded)
    worst = differences()
    rows = range(3)  # two rows of entries, one of flags
    assert {f"symbols of row {row}" for row in rows} <= set(apart(worst, "symbols"))
    assert {f"value of row {row}" for row in rows} <= set(apart(worst, "value"))


def test_without_masks_the_remainder_tells_the_witnesses_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """And opened columns do not: their pads are there."""
    without(monkeypatch, lambda count: count == 2 * K)
    worst = differences()
    assert apart(worst, "remainder") == ["remainder"]
    assert not apart(worst, "symbols")


def test_without_any_randomness_everything_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The combination with it, whose numbers one by one any uniform row among its summands would cover."""
    without(monkeypatch, lambda count: True)
    worst = differences()
    assert {"remainder", "combination", "symbols of row 0", "value of row 0"} <= set(apart(worst, ""))


def test_without_masks_in_the_quotient_its_columns_are_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are coefficients of the quotient but for their masks: without them the pads of all but the last are 0."""
    program = statement().program
    without(monkeypatch, lambda count: count == 2 * program.layout.code.randomness_len)
    seen: list[Array] = []
    split = _prove._split_quotient

    def watched(work: _prove.Work, coefficients: Array) -> None:
        split(work, coefficients)
        seen.append(work.pads[program.layout.index(program.layout.chunks)].copy())

    monkeypatch.setattr(_prove, "_split_quotient", watched)
    _prove.prove(program, CONSTANT, (), random_of("bare quotient"))
    assert not seen[0][:4].any()
    monkeypatch.undo()
    monkeypatch.setattr(_prove, "_split_quotient", watched)
    light_work(monkeypatch)
    _prove.prove(program, CONSTANT, (), random_of("masked quotient"))
    assert seen[1][:4].all(axis=1).all()


def test_proofs_of_one_witness_share_nothing() -> None:
    """With fresh randomness no word of one proof is in another; with the same, a proof is the same proof."""
    program = statement().program
    first, second, again = (
        _prove.prove(program, CONSTANT, (), random_of("share", label)).proof for label in ("a", "b", "a")
    )
    assert first == again
    for section in sections_of(program, first):
        if section.elements or section.name.startswith("salts"):
            assert not set(section.words(first).tolist()) & set(section.words(second).tolist()), section.name
