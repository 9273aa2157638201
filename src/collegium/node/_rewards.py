"""What a task pays for its rounds: who earned what in each, and the lists of it that its epoch set certifies.

A round of training that opened pays the task's budget. A list is of the rounds of one checkpoint: their budgets
together, split by the points that trainers earned in them. Everybody who has the rounds derives the same list, so a
validator signs the one that it derives itself (docs/spec/money.md, section 7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias

import numpy as np

from collegium import learning
from collegium.consensus import Close, Header, Held, RoundFinished, RoundState
from collegium.crypto import Digest, hash_fields
from collegium.errors import CollegiumError
from collegium.incentives import split_budget
from collegium.settlement import Checkpoint, Due, PayPlace, PayRules, TaskTerms, reward_list_digest

from ._experiment import Experiment
from ._genesis import Genesis
from ._licence_settings import LicenceSettings
from ._quality import QualityRule, quality_points
from ._task import LearningTask

__all__ = [
    "Payroll",
    "Points",
    "RewardList",
    "RewardPlan",
    "RewardRule",
    "RewardsRefusedError",
    "difference",
    "equal_points",
    "payee_names",
    "reward_plan",
    "reward_rule",
    "scored_points",
    "trainers_added",
]

Points: TypeAlias = Callable[[int, Sequence[bytes], bytes, bytes], Mapping[bytes, int]]
"""From a round's number, the trainers whose reports it added, and the model states before and after it, to points."""


def trainers_added(close: Close, held: Mapping[Digest, Held]) -> list[bytes]:
    """Return the trainers whose reports a close adds with weight, in its order; all of them are here."""
    weighed = zip(close.reports, close.weights, strict=True)
    return [held[report].report.trainer for report, weight in weighed if weight]


class RewardsRefusedError(CollegiumError):
    """A validator was asked to sign a list of rewards that it does not derive, or a second one for the same rounds."""


def equal_points(number: int, added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
    """Return one point for each report: pay for taking part, whatever the report was good for."""
    return dict.fromkeys(added, 1)


def scored_points(rule: QualityRule) -> Points:
    """Return the points of a task with stewards: what the state of quality after a round has more than that before."""

    def points(number: int, added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
        had = quality_points(rule, before)
        return {trainer: earned - had[trainer] for trainer, earned in quality_points(rule, after).items()}

    return points


# ------------------------------------------------------------------------------------------------ what is paid


@dataclass(frozen=True)
class RewardRule:
    """How a task's rounds are paid.

    Attributes:
        budget: of a round, in wei.
        payees: of each trainer, in the order of the genesis: who is paid, and by which licence; 0 for none.
        points: what a round earned each trainer.
    """

    budget: int
    payees: Mapping[bytes, Due]
    points: Points = equal_points

    def earned(self, header: Header, added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
        """Return what a round earned each trainer; nothing if it did not open, and in round 0, which trains nothing.

        Args:
            added: whose reports are in the round's sum.
            before, after: the model states.
        """
        if header.round == 0 or header.outcome != "opened":
            return {}
        return self.points(header.round, added, before, after)

    def dues(self, rounds: Sequence[Mapping[bytes, int]]) -> tuple[Due, ...]:
        """Return the list for rounds that earned this: one line a trainer to whom anything is due."""
        points, paid = Counter[bytes](), 0
        for earned in rounds:
            points.update(earned)
            paid += any(earned.values())
        counts = np.array([points[trainer] for trainer in self.payees], dtype=np.int64)
        amounts = split_budget(counts, self.budget * paid)
        lines = zip(self.payees.values(), amounts, strict=True)
        return tuple(replace(payee, amount=amount) for payee, amount in lines if amount)


@dataclass(frozen=True, slots=True)
class RewardList:
    """A list of rewards: for which place, the how-manieth there, and for which checkpoint's rounds."""

    place: PayPlace
    number: int
    checkpoint: Checkpoint
    dues: tuple[Due, ...]

    @property
    def digest(self) -> Digest:
        """What the set in office signs."""
        return reward_list_digest(self.place, self.number, self.checkpoint.digest, self.dues)

    @property
    def total(self) -> int:
        """What is due to all."""
        return sum(due.amount for due in self.dues)


@dataclass
class Payroll:
    """What a validator knows of who earned what, and which list it has signed.

    Attributes:
        earned: by round, of those that ended here since the last list but one.
        signed: last round and digest of the last list that it signed.
    """

    rule: RewardRule
    earned: dict[int, Mapping[bytes, int]] = field(default_factory=dict)
    signed: tuple[int, Digest] | None = None

    def note(self, ended: RoundState, finished: RoundFinished) -> None:
        """Note what a round earned that has just ended here, if all of it is here."""
        header, close, held = finished.header, ended.close, ended.held()
        if close is None or header.close != close.digest or any(report not in held for report in close.reports):
            return
        added = trainers_added(close, held)
        self.earned[header.round] = self.rule.earned(header, added, ended.model, finished.model)

    def dues(self, first_round: int, last_round: int) -> tuple[Due, ...]:
        """Return the list for these rounds.

        Raises:
            RewardsRefusedError: one of them is not known here.
        """
        missing = [number for number in range(first_round, last_round + 1) if number not in self.earned]
        if missing:
            raise RewardsRefusedError(f"what round {missing[0]} earned is not known here", round=missing[0])
        return self.rule.dues([self.earned[number] for number in range(first_round, last_round + 1)])

    def check(self, listed: RewardList) -> None:
        """Check that this list is the one for its rounds, and none other was signed; remember it.

        Raises:
            RewardsRefusedError: naming what is otherwise.
        """
        first, last = listed.checkpoint.first_round, listed.checkpoint.last_round
        own = self.dues(first, last)
        if listed.dues != own:
            raise RewardsRefusedError(f"the list for rounds {first}-{last} {difference(listed.dues, own)}")
        digest = listed.digest
        if self.signed is not None and (last, digest) != self.signed and last <= self.signed[0]:
            raise RewardsRefusedError(f"a list for rounds up to {self.signed[0]} is signed already", last=last)
        self.signed = (last, digest)
        self.earned = {number: points for number, points in self.earned.items() if number >= first}


def difference(found: Sequence[Due], expected: Sequence[Due]) -> str:
    """Say in what one list differs from another, by its first line."""
    if len(found) != len(expected):
        return f"has {len(found)} lines, expected {len(expected)}"
    for line, (due, right) in enumerate(zip(found, expected, strict=True)):
        if due != right:
            return f"says in line {line} {_said(due)}, expected {_said(right)}"
    return "is as expected"


def _said(due: Due) -> str:
    licence = f" on licence {due.licence}" if due.licence else ""
    return f"{due.amount} wei to 0x{due.account.hex()}{licence}"


# ------------------------------------------------------------------------------------------------ from an experiment


@dataclass(frozen=True)
class RewardPlan:
    """How a task that pays is founded.

    Attributes:
        rules: what the contracts are founded with.
        terms: what is posted, but for court and deadline.
        shards: roots of the stewards' hidden rows.
        amount: that goes into the budget: enough for every round of training.
        post_s: how long after the founding lists may be posted.
    """

    rules: PayRules
    terms: TaskTerms
    amount: int
    post_s: int
    shards: tuple[Digest, ...] = ()

    def promised(self, court: bytes, deadline_s: int) -> TaskTerms:
        """Return the terms as they are posted."""
        return replace(self.terms, court=court, deadline_s=deadline_s)


def reward_plan(experiment: Experiment, genesis: Genesis, task: LearningTask) -> RewardPlan | None:
    """Return how a task that pays is founded; None if it does not pay."""
    settings, licences = experiment.rewards, experiment.licences
    if settings is None:
        return None
    parameters = learning.parameters_to_bytes(task.spec, task.rule, task.first_parameters())
    seats = experiment.committee.seats
    terms = TaskTerms(
        model=sha256(parameters).digest(),
        rule=task.rule_digest,
        privacy=hash_fields("privacy-terms", task.level.encode(), task.cohort_min, seats, task.lying_max),
        round_reward=settings.budget,
        deadline_s=0,
        cohort_min=task.cohort_min,
        royalty=settings.royalty,
        sponsor_share=settings.sponsor_share,
        level=task.level,
    )
    rules = PayRules(None if licences is None else licences.contract, claim_s=settings.claim_s)
    shards = tuple(seat.rows for seat in genesis.stewards)
    return RewardPlan(rules, terms, settings.budget * experiment.task.rounds, settings.post_s, shards)


def reward_rule(experiment: Experiment, genesis: Genesis, task: LearningTask) -> RewardRule | None:
    """Return how a task's rounds are paid; None if they are not. Where there are stewards their scores decide."""
    settings = experiment.rewards
    if settings is None:
        return None
    licensed = _licensed(experiment.licences)
    payees = {account: licensed.get(name.rsplit("/", 1)[0], Due(account, 0)) for account, name in genesis.trainers}
    points = equal_points if task.quality is None else scored_points(task.quality)
    return RewardRule(settings.budget, payees, points)


def payee_names(experiment: Experiment, genesis: Genesis) -> dict[Due, str]:
    """Return who is meant by the lines of lists, which are the keys but for amounts: a trainer.

    Or the site, where its data have a licence and it has several trainers.
    """
    licensed, names = _licensed(experiment.licences), dict[Due, str]()
    for account, name in genesis.trainers:
        site = name.rsplit("/", 1)[0]
        payee = licensed.get(site, Due(account, 0))
        names[payee] = site if payee in names else name
    return names


def _licensed(licences: LicenceSettings | None) -> dict[str, Due]:
    """Return who is paid for a site's data: its licence's holder, as the contract demands."""
    entries = () if licences is None else licences.sites
    return {entry.site: Due(entry.holder, 0, entry.number) for entry in entries}
