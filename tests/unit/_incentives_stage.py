"""Standings, rounds and histories for the tests of incentives."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from collegium.incentives import (
    ONE,
    POLICY_RANGES,
    STAKE_MAX,
    WATCHFUL,
    Policy,
    ScoredRound,
    Standing,
    Weighed,
    draw,
    new_standing,
    weigh,
)
from collegium.incentives._reference import PlainStanding
from collegium.incentives._standing import COLUMNS as _COLUMNS

STAKE = 1_000
COLUMNS = [field.name for field in fields(Standing)][4:]


def address(number: int) -> bytes:
    return number.to_bytes(20, "big")


def founders(count: int) -> Standing:
    return new_standing(address(number) for number in range(count))


def equal_stakes(standing: Standing) -> np.ndarray:
    return np.full(len(standing), STAKE, np.int64)


def plain(standing: Standing) -> PlainStanding:
    rows = [{name: int(getattr(standing, name)[i]) for name in COLUMNS} for i in range(len(standing))]
    return PlainStanding(standing.round, standing.signal, standing.signal_first, rows)


def scored(reporters: list[int], scores: list[float], stakes: np.ndarray, hits: list[int] | None = None) -> ScoredRound:
    """A round of scores given as real numbers."""
    exact = np.clip(np.floor(np.array(scores, np.float64) * ONE), -ONE, ONE).astype(np.int64)
    times = np.ones(len(reporters), np.int64) if hits is None else np.array(hits, np.int64)
    return ScoredRound(np.array(reporters, np.int64), exact, times, stakes)


def play(
    policy: Policy,
    standing: Standing,
    utilities: np.ndarray,
    rounds: int,
    seed: int,
    places: int = 40,
    noise: float = 0.1,
    signal: float = 0.4,
) -> tuple[Standing, list[Weighed]]:
    """Rounds in which everybody drawn scores its utility, (n,) or (rounds, n), times the signal, and noise."""
    generator = np.random.default_rng(seed)
    stakes, history = equal_stakes(standing), []
    for index in range(rounds):
        drawn = draw(policy, standing, stakes, places, bytes([seed % 256, index]))
        true = utilities[index] if utilities.ndim == 2 else utilities
        y = signal * true[drawn.places] + noise * generator.standard_normal(len(drawn.places))
        exact = np.clip(np.floor(y * ONE), -ONE, ONE).astype(np.int64)
        weighed = weigh(policy, standing, ScoredRound(drawn.places, exact, drawn.hits, stakes))
        standing = weighed.standing
        history.append(weighed)
    return standing, history


@st.composite
def policies(draw_: st.DrawFn) -> Policy:
    """One of the two that are used, or every number somewhere in its range, often at an end."""
    if draw_(st.booleans()):
        return WATCHFUL if draw_(st.booleans()) else Policy()
    return Policy(
        **{
            name: draw_(st.sampled_from([low, high]) | st.integers(low, high))
            for name, (low, high) in POLICY_RANGES.items()
        }
    )


@st.composite
def standings(draw_: st.DrawFn, trainers: int = 0) -> Standing:
    """Any standing that bytes can encode, of so many trainers or any number: columns at their bounds included."""
    count = trainers or draw_(st.integers(1, 12))
    columns = {}
    for name, least, greatest in _COLUMNS:
        ends = st.sampled_from([least, greatest, max(least, min(greatest, 0))])
        each = ends | st.integers(least, greatest)
        columns[name] = np.array(draw_(st.lists(each, min_size=count, max_size=count)), np.int64)
    columns["locked_until"] = np.where(draw_(st.booleans()), 0, columns["locked_until"])
    signals = draw_(st.tuples(st.integers(0, ONE), st.integers(0, ONE)))
    known = tuple(address(number) for number in range(count))
    return Standing(draw_(st.sampled_from([0, 3, 1 << 30])), *signals, known, **columns)


@st.composite
def rounds(draw_: st.DrawFn, standing: Standing) -> ScoredRound:
    places = range(len(standing))
    chosen = sorted(draw_(st.sets(st.sampled_from(places))))
    locked = [standing.locked_until[place] > standing.round for place in chosen]
    ends = st.sampled_from([-ONE, 0, ONE]) | st.integers(-ONE, ONE)
    scores = draw_(st.lists(ends, min_size=len(chosen), max_size=len(chosen)))
    times = draw_(st.lists(st.integers(1, 1 << 16), min_size=len(chosen), max_size=len(chosen)))
    hits = [0 if out else hit for out, hit in zip(locked, times, strict=True)]
    most = STAKE_MAX // len(standing)
    stakes = draw_(
        st.lists(st.sampled_from([0, 1, most]) | st.integers(0, most), min_size=len(standing), max_size=len(standing))
    )
    return ScoredRound(*(np.array(values, np.int64) for values in (chosen, scores, hits, stakes)))
