"""Who is drawn for a round: places in proportion to stake x reputation, by one beacon. docs/spec/quality.md, section 6.

Systematic sampling (Madow 1949): trainers stand in an order that the beacon shuffles, each on a stretch as long as its
size, and every k-th unit of length, from an offset that the beacon draws, hits somebody. A trainer of size z in a total
of Z is hit floor or ceil of places z / Z times, in the mean exactly places z / Z: who splits its stake among many names
is hit as often as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from collegium.crypto import Digest, hash_fields

from ._errors import RoundInputError
from ._fixed import FRACTION_BITS, ONE, STAKE_MAX, Int64Array
from ._policy import Policy
from ._standing import Standing, utility
from ._weigh import HITS_MAX, reference_utility

__all__ = ["Draw", "draw"]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Who may report in a round: places in the standing, ascending, and how often each was hit."""

    places: Int64Array
    hits: Int64Array


def draw(policy: Policy, standing: Standing, stakes: Int64Array, places: int, beacon: bytes) -> Draw:
    """Return the trainers drawn for a round of so many places; a share of them is kept for probation.

    That is one at least, of two or more. Where nobody is on probation, or nobody else is there, the others have all
    places. Who has no stake, or is locked out, is not drawn.

    Raises:
        RoundInputError: places out of range, or stakes that do not fit.
    """
    if not 1 <= places <= HITS_MAX or stakes.shape != standing.vetted.shape or (stakes < 0).any():
        raise RoundInputError(
            f"{places} places and stakes of shape {stakes.shape}, expected 1 to {HITS_MAX} and "
            f"{len(standing)} from 0 on"
        )
    if sum(stakes.tolist()) > STAKE_MAX:
        raise RoundInputError(f"stakes are more than {STAKE_MAX} in all")
    free = (standing.locked_until <= standing.round) & (stakes > 0)
    vetted, waiting = np.flatnonzero(free & (standing.vetted == 1)), np.flatnonzero(free & (standing.vetted == 0))
    estimate, _ = utility(policy, standing)
    reference = reference_utility(policy, standing, stakes)
    factor = np.clip((estimate << FRACTION_BITS) // reference, policy.sampling_floor, ONE)
    kept = 0
    if waiting.size:
        kept = min(max(places * policy.probation_share >> FRACTION_BITS, 1), places - 1) if vetted.size else places
    sizes = [int(stakes[i]) * int(factor[i]) for i in vetted]
    old = _systematic(vetted.tolist(), sizes, places - kept, hash_fields("draw-vetted", beacon, standing.round))
    sizes = [int(stakes[i]) for i in waiting]
    new = _systematic(waiting.tolist(), sizes, kept, hash_fields("draw-probation", beacon, standing.round))
    found = sorted({**old, **new}.items())
    return Draw(np.array([place for place, _ in found], np.int64), np.array([hits for _, hits in found], np.int64))


def _systematic(members: Sequence[int], sizes: Sequence[int], places: int, seed: Digest) -> dict[int, int]:
    """Return how often each member is hit; nobody who is not is listed."""
    if not members or not places:
        return {}
    order = sorted(range(len(members)), key=lambda index: hash_fields("draw-order", seed, members[index]))
    ends = list(accumulate(sizes[index] for index in order))
    total = ends[-1]
    # Of a total of `places` x Z units the hits fall on offset + k Z, k < places; the offset is uniform below Z but for
    # 2^-192, as Z < 2^64.
    offset = int.from_bytes(hash_fields("draw-offset", seed), "little") % total
    hits: dict[int, int] = {}
    before = 0
    for index, end in zip(order, ends, strict=True):
        upto = (end * places - offset + total - 1) // total  # hits below `end`
        if upto > before:
            hits[members[index]] = upto - before
        before = max(before, upto)
    return hits
