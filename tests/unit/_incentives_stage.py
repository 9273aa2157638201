"""Standings, rounds and histories for the tests of incentives."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from collegium.incentives import ONE, Policy, ScoredRound, Standing, Weighed, draw, new_standing, weigh
from collegium.incentives._reference import PlainStanding

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
