"""How a task pays for its rounds, as `consensus.Pay` wants it: who earned what in each, and who has earned what by now.

A round of training that opened pays the task's budget, split by the points that trainers earned in it. What a header
says of it is the root of a tree over lines, one a trainer in the order of the genesis: on which chain, to which account
and on which licence it is paid, and how much it has earned from round 0 on (docs/spec/money.md, section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.incentives import earned_after
from collegium.settlement import Due, rewards_root

from ._experiment import Experiment
from ._genesis import Genesis
from ._quality import QualityRule, quality_points

__all__ = [
    "PaidLengthError",
    "PayRule",
    "Points",
    "equal_points",
    "first_difference",
    "pay_rule",
    "payees_of",
    "scored_points",
]

PAID_BYTES = 16

Points: TypeAlias = Callable[[Sequence[bytes], bytes, bytes], Mapping[bytes, int]]
"""From the trainers whose reports a round added, and the model states before and after it, to points."""


class PaidLengthError(CollegiumError):
    """Bytes that should say what all trainers have earned are of more or fewer trainers."""


def equal_points(added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
    """Return one point for each trainer that was added: pay for taking part, whatever the report was good for."""
    return dict.fromkeys(added, 1)


def scored_points(rule: QualityRule) -> Points:
    """Return the points of a task with stewards: what the state of quality after a round has more than that before."""
    return partial(_points_between, rule)  # which worker processes can be given


def _points_between(rule: QualityRule, added: Sequence[bytes], before: bytes, after: bytes) -> Mapping[bytes, int]:
    had = quality_points(rule, before)
    return {trainer: earned - had[trainer] for trainer, earned in quality_points(rule, after).items()}


@dataclass(frozen=True)
class PayRule:
    """How a task's rounds are paid.

    Attributes:
        budget: of a round, in wei.
        payees: of each trainer, in the order of the genesis: where, who and on which licence; the amounts are not read.
        points: what a round earned each trainer.
    """

    budget: int
    payees: Mapping[bytes, Due]
    points: Points = equal_points

    def first(self) -> bytes:
        """Return what all have earned before round 0: nothing."""
        return bytes(PAID_BYTES * len(self.payees))

    def after(self, round_number: int, paid: bytes, added: Sequence[bytes], before: bytes, after: bytes) -> bytes:
        """Return what all have earned after a round that opened; round 0 trains nothing and earns nothing."""
        if round_number == 0:
            return paid
        found = self.points(added, before, after)
        earned = earned_after(self.amounts(paid), [found.get(trainer, 0) for trainer in self.payees], self.budget)
        return b"".join(amount.to_bytes(PAID_BYTES, "little") for amount in earned)

    def digest(self, paid: bytes) -> Digest:
        """Return the root over all trainers' lines.

        Raises:
            PaidLengthError: see there.
        """
        return rewards_root(self.lines(paid))

    def lines(self, paid: bytes) -> tuple[Due, ...]:
        """Return all trainers' lines; of who has earned nothing, too."""
        lines = zip(self.payees.values(), self.amounts(paid), strict=True)
        return tuple(replace(payee, amount=amount) for payee, amount in lines)

    def amounts(self, paid: bytes) -> tuple[int, ...]:
        """Return what every trainer has earned.

        Raises:
            PaidLengthError: see there.
        """
        if len(paid) != PAID_BYTES * len(self.payees):
            raise PaidLengthError(
                f"{len(paid)} bytes of earnings, expected {PAID_BYTES} for each of {len(self.payees)} trainers",
                length=len(paid),
            )
        return tuple(int.from_bytes(paid[at : at + PAID_BYTES], "little") for at in range(0, len(paid), PAID_BYTES))


def first_difference(rule: PayRule, found: bytes, expected: bytes) -> str:
    """Say in what earnings differ from what they must be, by the first trainer.

    Raises:
        PaidLengthError: one of the two is of more or fewer trainers.
    """
    amounts = zip(rule.payees, rule.amounts(found), rule.amounts(expected), strict=True)
    for trainer, said, right in amounts:
        if said != right:
            return f"trainer 0x{trainer.hex()} has earned {said} wei, redone it is {right}"
    return "they are the same"


def pay_rule(experiment: Experiment, genesis: Genesis, quality: QualityRule | None) -> PayRule | None:
    """Return how a task's rounds are paid; None if they are not. Where there are stewards their scores decide."""
    settings = experiment.rewards
    if settings is None:
        return None
    payees = payees_of(experiment, genesis)
    return PayRule(settings.budget, payees, equal_points if quality is None else scored_points(quality))


def payees_of(experiment: Experiment, genesis: Genesis) -> dict[bytes, Due]:
    """Return by trainer who is paid for its work, and on which chain: its own account, or its licence's holder."""
    entries = () if experiment.licences is None else experiment.licences.sites
    licensed, payees = {entry.site: entry for entry in entries}, dict[bytes, Due]()
    for account, name in genesis.trainers:
        site = name.rsplit("/", 1)[0]
        entry, chain_id = licensed.get(site), experiment.chain.own_chain(site) or 0
        holder, number = (account, 0) if entry is None else (entry.holder, entry.number)
        payees[account] = Due(holder, 0, number, chain_id)
    return payees
