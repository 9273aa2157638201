"""How a task that pays is founded, and whom its lines mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from collegium import learning
from collegium.crypto import Digest, hash_fields
from collegium.settlement import Due, PayRules, TaskTerms

from ._experiment import Experiment
from ._genesis import Genesis
from ._pay import payees_of
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
        elsewhere: by the number of a chain that follows and on which trainers are paid, the contract that has their
            licences; None: the task founds one.
    """

    rules: PayRules
    terms: TaskTerms
    amount: int
    post_s: int
    shards: tuple[Digest, ...] = ()
    elsewhere: Mapping[int, bytes | None] = field(default_factory=dict)

    def at(self, chain_id: int) -> RewardPlan | None:
        """Return how the task is founded on a chain that follows; None where nobody is paid there.

        Its budget is as large as the home's: nobody knows beforehand who will earn.
        """
        if chain_id not in self.elsewhere:
            return None
        rules = replace(self.rules, licences=self.elsewhere[chain_id], chain=chain_id)
        return replace(self, rules=rules, elsewhere={})

    def promised(self, court: bytes, deadline_s: int) -> TaskTerms:
        """Return the terms as they are posted."""
        return replace(self.terms, court=court, deadline_s=deadline_s)


def reward_plan(experiment: Experiment, genesis: Genesis, task: LearningTask) -> RewardPlan | None:
    """Return how a task that pays is founded; None if it does not pay."""
    settings = experiment.rewards
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
    rules = PayRules(_licences_at(experiment, None), claim_s=settings.claim_s)
    shards = tuple(seat.rows for seat in genesis.stewards)
    elsewhere = {chain_id: _licences_at(experiment, chain_id) for _, chain_id in experiment.chain.sites}
    return RewardPlan(rules, terms, settings.budget * experiment.task.rounds, settings.post_s, shards, elsewhere)


def _licences_at(experiment: Experiment, chain_id: int | None) -> bytes | None:
    """Return the contract with the licences of those who are paid on a chain, at home for None; None: there is none."""
    licences = experiment.licences
    if licences is None:
        return None
    here = (entry for entry in licences.sites if experiment.chain.own_chain(entry.site) == chain_id)
    return next((licences.place_of(entry).contract for entry in here), None)


def payee_names(experiment: Experiment, genesis: Genesis) -> dict[Due, str]:
    """Return who is meant by lines, which are the keys but for amounts: a trainer.

    Or the site, where its data have a licence and it has several trainers.
    """
    names = dict[Due, str]()
    for account, payee in payees_of(experiment, genesis).items():
        name = dict(genesis.trainers)[account]
        names[payee] = name.rsplit("/", 1)[0] if payee in names else name
    return names
