"""The numbers of a task's incentives, all integers and public; the bounds are proved for their ranges."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from collegium.crypto import Digest, hash_fields

from ._errors import PolicyError
from ._fixed import ONE, PRECISION_ONE

__all__ = ["POLICY_RANGES", "WATCHFUL", "Policy", "policy_digest"]

POLICY_RANGES: Final[dict[str, tuple[int, int]]] = {
    "prior_utility": (0, ONE),
    "prior_precision": (PRECISION_ONE // 16, 16 * PRECISION_ONE),
    "memory": (ONE // 2, ONE - ONE // 64),
    "clock_floor": (ONE // 16, ONE),
    "signal_floor": (ONE // 64, ONE // 2),
    "signal_share": (0, ONE),
    "noise_floor": (ONE // 100, ONE // 2),
    "window": (ONE // 4, ONE - ONE // 16),
    "window_prior": (PRECISION_ONE, 64 * PRECISION_ONE),
    "window_noise_floor": (ONE // 50, ONE // 2),
    "baseline_rate": (ONE // 256, ONE // 2),
    "useless": (-ONE, ONE // 2),
    "useless_deviations": (ONE // 2, 8 * ONE),
    "pause_deviations": (ONE // 2, 8 * ONE),
    "fall_deviations": (ONE, 8 * ONE),
    "fall_level": (-ONE, ONE),
    "reports_min": (1, 64),
    "vetted": (0, ONE),
    "vetted_deviations": (0, 4 * ONE),
    "appeal_deviations": (2 * ONE, 8 * ONE),
    "lock_rounds": (1, 1 << 16),
    "lock_doublings": (0, 16),
    "weight_max": (1, 15),
    "full_weight": (ONE // 8, ONE),
    "sampling_floor": (ONE // 64, ONE),
    "probation_share": (0, ONE // 2),
    "reward_cap": (ONE, 16 * ONE),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a task fixes before its first round. Fractions are in 2^-16 (`ONE`), precisions in 2^-20.

    The defaults are for rounds at level proved, where nobody's rows change and everybody reports: influence and pay
    follow utility, nobody is paused, and a lock takes as much harm, for sure, as a median trainer does good. `WATCHFUL`
    is for trainers that may send anything.

    Attributes:
        prior_utility: what a trainer is taken for before it has reported; 1 is a good one.
        prior_precision: how firmly, as the inverse of a variance.
        memory: what a round's precision keeps for the next where the signal is as strong as it was in the first round.
        clock_floor: least part of 1 - memory that is forgotten, however weak the signal.
        signal_floor: a round whose signal is at most so strong, ...
        signal_share: ... or at most this part of the first round's, is quiet: it teaches nothing and locks nobody out.
        noise_floor: least deviation that a score is believed to have.
        window: what the change detector keeps from one round to the next.
        window_prior: the precision with which it expects no change.
        window_noise_floor: least deviation of an offset from its own baseline.
        baseline_rate: how fast a baseline follows, once it has settled.
        useless: a trainer is locked out when its utility is below this part of the median's for sure.
        useless_deviations: how sure: standard deviations of the estimate.
        pause_deviations: a report has neither influence nor pay when its trainer has fallen below its own baseline by
            so many deviations ...
        fall_deviations: ... and the trainer is locked out when by so many, ...
        fall_level: ... if its recent scores are below this part of the round's median score.
        reports_min: reports before which nobody is judged, and which probation lasts at least.
        vetted: probation ends when utility is above this part of the median's ...
        vetted_deviations: ... by so many deviations.
        appeal_deviations: a lock ends early when what is scored under it is above that part by so many.
        lock_rounds: rounds that a first lock lasts; each further one is twice as long,
        lock_doublings: up to so many times.
        weight_max: the influence of a trainer
        full_weight: whose utility is at least this part of the median's; below it influence falls in proportion.
        sampling_floor: least factor that reputation puts on the chance to be drawn.
        probation_share: part of a round's places for trainers on probation.
        reward_cap: a report is paid for at most this part of the median's utility.

    Raises:
        PolicyError: a number is out of its range.
    """

    prior_utility: int = ONE // 2
    prior_precision: int = PRECISION_ONE
    memory: int = ONE - ONE // 50
    clock_floor: int = ONE // 16
    signal_floor: int = ONE * 8 // 100
    signal_share: int = ONE // 2
    noise_floor: int = ONE // 4
    window: int = ONE * 85 // 100
    window_prior: int = PRECISION_ONE * 11
    window_noise_floor: int = ONE // 2
    baseline_rate: int = ONE // 20
    useless: int = -ONE
    useless_deviations: int = ONE * 6
    pause_deviations: int = ONE * 8
    fall_deviations: int = ONE * 8
    fall_level: int = -ONE
    reports_min: int = 3
    vetted: int = ONE * 3 // 10
    vetted_deviations: int = ONE
    appeal_deviations: int = ONE * 4
    lock_rounds: int = 8
    lock_doublings: int = 4
    weight_max: int = 15
    full_weight: int = ONE // 2
    sampling_floor: int = ONE // 10
    probation_share: int = ONE // 10
    reward_cap: int = ONE * 2

    def __post_init__(self) -> None:
        for name, (low, high) in POLICY_RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise PolicyError(f"{name} is {value!r}, expected {low} to {high}", name=name, value=value)


WATCHFUL: Final = Policy(
    signal_share=0,
    noise_floor=ONE // 100,
    window_noise_floor=ONE // 50,
    useless=0,
    useless_deviations=ONE * 5 // 2,
    pause_deviations=ONE * 3 // 4,
    fall_deviations=ONE * 4,
    fall_level=0,
    appeal_deviations=ONE * 8,
)


def policy_digest(policy: Policy) -> Digest:
    """Return what binds every number of a policy, in the order in which they are declared."""
    return hash_fields("policy", *(value + ONE for value in asdict(policy).values()))
