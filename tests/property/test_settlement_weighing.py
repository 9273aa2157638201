"""The programs about quality do what `collegium.incentives` does, whatever the state."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from math import isqrt

import numpy as np
import pytest
from _incentives_stage import policies, rounds, standings
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.incentives import (
    NO_SCORE,
    DirectionError,
    Policy,
    QualityState,
    ScoredRound,
    Standing,
    Weighed,
    encode_quality_state,
    median_direction,
    normalise_direction,
    normalise_scores,
    round_places,
    score_scale,
    scoring_direction,
    weigh,
)
from collegium.incentives._direction import inner
from collegium.incentives._fold import _next_norm
from collegium.settlement import KnownStretches, MachineRun, Parameters, Program, compile_program, run_plainly
from collegium.settlement.programs import WORDS, source_of


def declared(module: str) -> list[str]:
    """Return the parameters that a module of programs declares."""
    return re.findall(r"^([A-Z0-9_]+): int", source_of(module), re.MULTILINE)


# Words: the list of scored trainers; how often each is drawn; the part about quality before, and after.
WEIGHS = """
from __future__ import annotations
from collegium.settlement.programs._quality_state import Q_WORDS
from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._task import TRAINERS
from collegium.settlement.programs._weigh import weigh
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    scored, _ = read_message(0)
    hits = scored + 1 + memory[scored]
    part = hits + TRAINERS
    weigh(part, scored, hits)
    for index in range(Q_WORDS):
        assert memory[part + index] == memory[part + Q_WORDS + index]
    accept()
"""
# Words: the round, its beacon; how often each trainer is drawn, and what its report weighs; the part before.
DRAWS = """
from __future__ import annotations
from collegium.settlement.programs._draw import draw_hits, weight_of
from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._task import TRAINERS
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    message, _ = read_message(0)
    number, expected = memory[message], message + 5
    part = expected + 2 * TRAINERS
    hits = draw_hits(part, number, message + 1)
    for place in range(TRAINERS):
        assert memory[hits + place] == memory[expected + place]
        assert weight_of(part, number, hits, place) == memory[expected + TRAINERS + place]
    accept()
"""
# Words: entries, stewards, scores, the bound; the stewards' vectors; whether there is a direction, what
# it is, shift, unit, sigma; scores as proved, and normalised.
DIRECTS = """
from __future__ import annotations
from collegium.settlement.programs._directions import (
    has_norm, inner, median_vector, normalise_score, score_scale, scoring_direction
)
from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    message, _ = read_message(0)
    entries, stewards, scores, bound = memory[message], memory[message + 1], memory[message + 2], memory[message + 3]
    vectors, at = allocate(stewards), message + 4
    for index in range(stewards):
        assert has_norm(at, entries) == 1
        memory[vectors + index] = at
        at += entries
    median = median_vector(vectors, stewards, entries)
    direction = scoring_direction(median, entries)
    if direction == 0:
        assert memory[at] == 0
        accept()
    assert memory[at] == 1
    at += 1
    for entry in range(entries):
        assert memory[direction + entry] == memory[at + entry]
    at += entries
    shift, unit, sigma = score_scale(inner(direction, direction, entries), bound)
    if unit == 0:
        assert memory[at] == 99
        accept()
    assert shift == memory[at] and unit == memory[at + 1] and sigma == memory[at + 2]
    for index in range(scores):
        assert normalise_score(memory[at + 3 + index], unit) == memory[at + 3 + scores + index]
    accept()
"""
# Words: C, entries; a total, its row count behind them; C after it.
NORMS = """
from __future__ import annotations
from collegium.settlement.programs._norm import next_norm
from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    message, _ = read_message(0)
    entries = memory[message + 1]
    assert next_norm(memory[message], message + 2, entries) == memory[message + 3 + entries]
    accept()
"""
NOISE = Fraction(1, 10)
ANYTHING = {name: 0 for module in ("_task", "_weigh", "_directions", "_draw") for name in declared(module)}
EXAMPLES = 500 if os.environ.get("COLLEGIUM_FULL") == "1" else 16


def parameters(policy: Policy, trainers: int) -> Mapping[str, int]:
    place = {"TRAINERS": trainers, "STEWARDS": 0, "ENTRIES": 1}
    return ANYTHING | place | {name.upper(): value % WORDS for name, value in asdict(policy).items()}


def packed(words: Iterable[int]) -> bytes:
    return b"".join((int(word) % WORDS).to_bytes(8, "big") for word in words)


def message(standing: Standing, scored: ScoredRound, weighed: Weighed) -> bytes:
    weights, scores = np.full(len(standing), 7, np.int64), np.full(len(standing), NO_SCORE, np.int64)
    scores[scored.reporters] = scored.scores
    before = QualityState(5, standing, weights, scores, 9, np.zeros(0, np.int64), ())
    weights = weights.copy()
    weights[scored.reporters] = weighed.weights
    after = replace(before, standing=weighed.standing, weights=weights)
    parts = [np.frombuffer(encode_quality_state(state), "<u8") for state in (before, after)]
    hits = np.zeros(len(standing), np.int64)
    hits[scored.reporters] = scored.hits
    return packed([len(scored.reporters), *scored.reporters, *hits, *np.concatenate(parts)])


def sources(module: str) -> str:
    return {"weighs": WEIGHS, "draws": DRAWS, "directs": DIRECTS, "norms": NORMS, "normed": NORMED}.get(
        module
    ) or source_of(module)


@cache
def compiled(module: str, given: tuple[tuple[str, int], ...]) -> Program:
    return compile_program(module, dict(given), sources)


def compiled_agrees(module: str, given: Mapping[str, int], data: bytes) -> bool:
    return MachineRun(compiled(module, tuple(given.items())), sha256(data).digest(), KnownStretches([data])).accepted


def agrees(module: str, given: Parameters, data: bytes) -> bool:
    return run_plainly(module, given, sha256(data).digest(), KnownStretches([data]), sources)[0]


def of_equal_stakes(scored: ScoredRound) -> ScoredRound:
    return replace(scored, stakes=np.ones_like(scored.stakes))


@settings(max_examples=EXAMPLES)
@given(data=st.data(), policy=policies(), standing=standings())
def test_the_program_weighs_as_arrays_do_whatever_the_state(
    data: st.DataObject, policy: Policy, standing: Standing
) -> None:
    scored = of_equal_stakes(data.draw(rounds(standing)))
    whole = message(standing, scored, weigh(policy, standing, scored))
    assert agrees("weighs", parameters(policy, len(standing)), whole)


@settings(max_examples=EXAMPLES // 2)
@given(data=st.data())
def test_a_changed_word_is_noticed(data: st.DataObject) -> None:
    standing = data.draw(standings(5))
    scored = of_equal_stakes(data.draw(rounds(standing)))
    whole = message(standing, scored, weigh(Policy(), standing, scored))
    place = len(whole) - 8 * data.draw(st.integers(1, 5 * 13 + 3))
    turned = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assert compiled_agrees("weighs", parameters(Policy(), 5), whole)
    assert not compiled_agrees("weighs", parameters(Policy(), 5), turned)


@pytest.mark.slow
@settings(max_examples=EXAMPLES // 2)
@given(data=st.data(), policy=policies(), standing=standings(), beacon=st.binary(min_size=32, max_size=32))
def test_the_program_draws_as_arrays_do_whatever_the_state(
    data: st.DataObject, policy: Policy, standing: Standing, beacon: bytes
) -> None:
    count = len(standing)
    places = data.draw(st.integers(0, 2 * count) | st.sampled_from([1, 1 << 16]))
    least, number = data.draw(st.integers(1, count + 1)), data.draw(st.integers(6, 11) | st.integers(12, 1 << 41))
    weights = np.array(data.draw(st.lists(st.integers(0, 15), min_size=count, max_size=count)), np.int64)
    state = QualityState(5, standing, weights, weights, 9, np.zeros(0, np.int64), ())
    found = round_places(policy, state, number, beacon, places, least)
    part = np.frombuffer(encode_quality_state(state), "<u8")
    head = [number, *np.frombuffer(beacon, ">u8")]
    given = dict(parameters(policy, count)) | {"PLACES": places, "WEIGHTED_MIN": least, "WEIGHT_MAX": policy.weight_max}
    whole = packed([*head, *found.hits, *found.weights, *part])
    assert agrees("draws", given, whole)
    place = len(head) + data.draw(st.integers(0, 2 * count - 1))
    turned = whole[: 8 * place + 7] + bytes([whole[8 * place + 7] ^ 1]) + whole[8 * place + 8 :]
    assert not agrees("draws", given, turned)


entries = st.sampled_from([-(1 << 40), 0, 1, 1 << 40]) | st.integers(-(1 << 20), 1 << 20)


@st.composite
def directed(draw: st.DrawFn, norm_max: int) -> bytes:
    """A round's records and scores, as a message."""
    length, count = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    row = st.lists(entries, min_size=length, max_size=length).filter(any)
    made = [normalise_direction(np.array(draw(row), np.int64)) for _ in range(count)]
    bound = draw(st.integers(1, 1 << 30) | st.sampled_from([1, (1 << 47) - 1, 1 << 47, 1 << 49, (1 << 64) - 1]))
    words, values = [*np.concatenate(made)], list[int]()
    try:
        direction = scoring_direction(median_direction(made, [1] * count), None, norm_max=norm_max)
    except DirectionError:
        return packed([length, count, 0, bound, *words, 0])
    words += [1, *direction]
    try:
        scale = score_scale(direction, bound, NOISE)
    except DirectionError:
        return packed([length, count, 0, bound, *words, 99])
    values = draw(st.lists(st.integers(-(1 << 62), 1 << 62) | st.integers(-1 << 17, 1 << 17), max_size=4))
    words += [scale.shift, scale.unit, scale.sigma, *values, *normalise_scores(values, scale)]
    return packed([length, count, len(values), bound, *words])


@settings(max_examples=EXAMPLES)
@given(norm_max=st.sampled_from([48, 1 << 10, 40_000, 1 << 60]), data=st.data())
def test_the_program_finds_the_direction_that_arrays_do(norm_max: int, data: st.DataObject) -> None:
    noise = {"NOISE_NUMERATOR": NOISE.numerator, "NOISE_DENOMINATOR": NOISE.denominator}
    noise = ANYTHING | noise | {"DIRECTION_NORM_MAX": norm_max}
    round_ = data.draw(directed(norm_max))
    assert compiled_agrees("directs", noise, round_)
    assert not compiled_agrees("directs", noise, round_[:-1] + bytes([round_[-1] ^ 1]))


# Words: entries; a vector; whether it has the norm of a steward's.
NORMED = """
from __future__ import annotations
from collegium.settlement.programs._directions import has_norm
from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    message, _ = read_message(0)
    entries = memory[message]
    assert has_norm(message + 1, entries) == memory[message + 1 + entries]
    accept()
"""


def is_a_stewards(vector: list[int]) -> bool:
    try:
        median_direction([np.array(vector, np.int64)], [1])
    except DirectionError:
        return False
    return True


@settings(max_examples=4 * EXAMPLES)
@given(rest=st.lists(st.integers(-(1 << 19), 1 << 19), max_size=3), away=st.integers(-8, 8), far=st.booleans())
def test_the_program_takes_the_vectors_that_arrays_take(rest: list[int], away: int, far: bool) -> None:
    first = isqrt(max((1 << 40) - sum(entry * entry for entry in rest), 0)) + away
    vector = [first << 32 if far else first, *rest]
    data = packed([len(vector), *vector, is_a_stewards(vector)])
    assert compiled_agrees("normed", ANYTHING, data)
    assert not compiled_agrees("normed", ANYTHING, data[:-1] + bytes([data[-1] ^ 1]))


wide = st.integers(1 - (1 << 63), (1 << 63) - 1) | st.sampled_from([1 - (1 << 63), (1 << 63) - 1, 0, 1])


@settings(max_examples=4 * EXAMPLES)
@given(norm=st.sampled_from([0, 16, 17, 1 << 50]) | st.integers(16, 1 << 50), data=st.data())
def test_the_program_moves_the_norm_as_the_fold_does_whatever_the_total(norm: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 63))
    entry = wide | st.integers(-(1 << bits - 1), 1 << bits - 1)
    total = np.array(data.draw(st.lists(entry, min_size=1, max_size=5)), np.int64)
    length = isqrt(inner(total, total)) << 8
    near = st.integers(-2, 2).map(lambda away: length // max(norm, 16) + away)  # just where C moves
    rows = max(1, min((1 << 63) - 1, data.draw(st.integers(1, 1 << bits) | near)))
    after = _next_norm(norm, length // rows)
    assert compiled_agrees("norms", ANYTHING, packed([norm, len(total), *total, rows, after]))
    assert not compiled_agrees("norms", ANYTHING, packed([norm, len(total), *total, rows, after ^ 1]))
