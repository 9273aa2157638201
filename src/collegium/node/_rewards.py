"""How a task that pays is founded, and whom its lines mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from collegium import learning
from collegium.crypto import Digest, hash_fields
from collegium.settlement import Due, PayRules, TaskTerms

from ._experiment import Experiment
from ._genesis import Genesis
from ._pay import licensed_payees
from ._task import LearningTask

__all__ = ["RewardPlan", "payee_names", "reward_plan"]


@dataclass(frozen=True)
class RewardPlan:
    """How a task that pays is founded.

    Attributes:
        rules: what the contracts are founded with.
        terms: what is posted, but for court and deadline.
        shards: roots of the stewards' hidden rows.
        amount: that goes into the budget: enough for every round of training.
        post_s: how long after the founding rewards may be taken over.
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


def payee_names(experiment: Experiment, genesis: Genesis) -> dict[Due, str]:
    """Return who is meant by lines, which are the keys but for amounts: a trainer.

    Or the site, where its data have a licence and it has several trainers.
    """
    licensed, names = licensed_payees(experiment.licences), dict[Due, str]()
    for account, name in genesis.trainers:
        site = name.rsplit("/", 1)[0]
        payee = licensed.get(site, Due(account, 0))
        names[payee] = site if payee in names else name
    return names
