"""Who may report in a round that starts from a state of quality, how often it is drawn, and what its report weighs.

docs/spec/quality.md, sections 6 and 9. Pure: whoever has the state and the round's beacon finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from collegium.crypto import Digest

from ._draw import draw
from ._fixed import Int64Array
from ._policy import Policy
from ._quality_state import QualityState

__all__ = ["RoundPlaces", "round_places"]

STILL_MAX: Final = 3  # so many rounds in a row without a sum change nothing: one more, and the weightless help out
LEAST_WEIGHT: Final = 1  # of them


@dataclass(frozen=True, slots=True, eq=False)
class RoundPlaces:
    """A round's places, by trainer in the standing's order.

    Attributes:
        weights: what a report weighs in the round's sum, shape (trainers,).
        hits: how often a trainer is drawn, shape (trainers,); where nobody is drawn apart once, but for those who are
            locked out. 0: its report weighs nothing, and the round does not wait for it.
        appeals: who may report all the same, as it is locked out, shape (trainers,).
    """

    weights: Int64Array
    hits: Int64Array
    appeals: Int64Array


def round_places(
    policy: Policy, state: QualityState, round_number: int, beacon: Digest, places: int, weighted_min: int
) -> RoundPlaces:
    """Return the places of a round that starts from this state; of `places` that the beacon draws, or all, if 0.

    All may report as well where fewer than `weighted_min` of those drawn have weight: they could not hide each other.
    A round without a sum leaves the state: those few who alone have weight could, by not reporting, keep every round
    from closing for ever. So where more than `STILL_MAX` such rounds lie behind the state all may report who are not
    locked out, drawn or not, and who weighs nothing has the least weight. A lock is over there for whom as many rounds
    without a sum are behind as it had left: sooner by nobody's deed, and no task waits for ever for those who are gone.
    """
    standing, ones = state.standing, np.ones(len(state.weights), np.int64)
    locked = (standing.locked_until > standing.round).astype(np.int64)
    without = round_number - state.round - 1
    if without > STILL_MAX:
        hits = np.where((standing.locked_until > standing.round + without) & (state.weights == 0), 0, ones)
        return RoundPlaces(np.where(hits > 0, np.maximum(state.weights, LEAST_WEIGHT), 0), hits, locked)
    hits = np.where((locked == 1) & (state.weights == 0), 0, ones)
    if places:
        found, drawn = draw(policy, standing, ones, places, beacon), np.zeros_like(ones)
        drawn[found.places] = found.hits
        if int((state.weights[drawn > 0] > 0).sum()) >= weighted_min:
            hits = drawn
    return RoundPlaces(np.where(hits > 0, state.weights, 0), hits, locked)
