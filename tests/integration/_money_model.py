"""What the contracts that pay should do, as plain integers: the reference that they are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from collegium.settlement import Due

WHOLE = 10_000


class RefusedError(Exception):
    """A call that the contract of the same name refuses with the error of this name."""


@dataclass(frozen=True)
class Rules:
    """What is fixed when a task is posted; `licences` gives holder and curators' shares by number."""

    sponsor: bytes
    challenge_s: int
    claim_s: int
    deadline_s: int
    round_reward: int
    royalty: int
    sponsor_share: int
    generations_max: int
    licences: Mapping[int, tuple[bytes, tuple[tuple[bytes, int], ...]]]


@dataclass
class Purse:
    """Coin that came in and went out, and what is owed."""

    paid_in: int = 0
    paid_out: int = 0
    owed: Counter[bytes] = field(default_factory=Counter)

    @property
    def balance(self) -> int:
        return self.paid_in - self.paid_out

    def collect(self, account: bytes) -> None:
        amount = self.owed[account]
        if not amount:
            raise RefusedError("NothingOwed")
        self.paid_out += amount
        self.owed[account] = 0

    def pay_out(self, rules: Rules, account: bytes, licence: int, amount: int) -> None:
        rest = amount
        if licence:
            holder, shares = rules.licences[licence]
            if holder != account:
                raise RefusedError("LicenceOfAnother")
            for curator, part in shares:
                rest -= amount * part // WHOLE
                self.owed[curator] += amount * part // WHOLE
        self.owed[account] += rest


@dataclass
class Rewards:
    """One task's budget, and what the last header that was taken over says."""

    rules: Rules
    purse: Purse = field(default_factory=Purse)
    free: int = 0
    spent: int = 0
    rounds: int = 0
    lines: Sequence[Due] = ()
    paid: Counter[int] = field(default_factory=Counter)

    def fund(self, now_s: int, amount: int) -> None:
        if now_s > self.rules.deadline_s:
            raise RefusedError("DeadlinePassed")
        self.free += amount
        self.purse.paid_in += amount

    def settle(self, now_s: int, lines: Sequence[Due], rounds: int, final: bool) -> None:
        if now_s > self.rules.deadline_s:
            raise RefusedError("DeadlinePassed")
        if not final:
            raise RefusedError("NotFinal")
        self.lines, self.rounds = lines, rounds

    def claim(self, now_s: int, index: int, lines: Sequence[Due]) -> None:
        if now_s > self.rules.deadline_s + self.rules.claim_s:
            raise RefusedError("Closed")
        if lines is not self.lines:
            raise RefusedError("NotEarned")
        due = lines[index]
        part = due.amount - self.paid[index]
        if part <= 0:
            raise RefusedError("AlreadyClaimed")
        if part > self.free:
            raise RefusedError("ExceedsBudget")
        if self.spent + part > self.rules.round_reward * self.rounds:
            raise RefusedError("ExceedsRounds")
        self.purse.pay_out(self.rules, due.account, due.licence, part)
        self.paid[index] = due.amount
        self.free -= part
        self.spent += part

    def reclaim(self, now_s: int) -> None:
        if now_s <= self.rules.deadline_s + self.rules.claim_s:
            raise RefusedError("NotClosed")
        if not self.free:
            raise RefusedError("NothingLeft")
        self.purse.owed[self.rules.sponsor] += self.free
        self.free = 0

    def check(self) -> None:
        """What holds at any time: every coin is free or owed, and rounds cost no more than was said."""
        assert self.purse.balance == self.free + self.purse.owed.total() >= 0
        assert self.spent <= self.rules.round_reward * self.rounds
        assert self.purse.paid_out <= self.purse.paid_in


@dataclass
class Version:
    dues: Sequence[Due]
    weight: int
    parent: int | None
    opens_at_s: int
    refuted: bool = False
    income: int = 0
    claimed: int = 0
    claimed_by: Counter[int] = field(default_factory=Counter)


@dataclass
class Fees:
    """The versions of one task and what they earn."""

    rules: Rules
    purse: Purse = field(default_factory=Purse)
    versions: list[Version] = field(default_factory=list)

    def register(self, now_s: int, dues: Sequence[Due], weight: int, parent: int | None) -> None:
        if not weight:
            raise RefusedError("EmptyList")
        self.versions.append(Version(dues, weight, parent, now_s + self.rules.challenge_s))

    def pay(self, now_s: int, number: int, amount: int) -> None:
        paid = self.versions[number]
        if not amount:
            raise RefusedError("EmptyPayment")
        if now_s < paid.opens_at_s:
            raise RefusedError("NotOpen")
        if paid.refuted:
            raise RefusedError("Refuted")
        self.purse.paid_in += amount
        rest, at = amount, paid
        for generation in range(1, self.rules.generations_max + 1):
            parent = None if at.parent is None else self.versions[at.parent]
            owes = parent is not None and not parent.refuted and generation < self.rules.generations_max
            royalty = rest * self.rules.royalty // WHOLE if owes else 0
            to_sponsor = (rest - royalty) * self.rules.sponsor_share // WHOLE
            at.income += rest - royalty - to_sponsor
            self.purse.owed[self.rules.sponsor] += to_sponsor
            if parent is None or not royalty:
                return
            rest, at = royalty, parent

    def claim(self, number: int, index: int) -> None:
        earning = self.versions[number]
        due = earning.dues[index]
        whole = earning.income * min(due.amount, earning.weight) // earning.weight
        part = whole - earning.claimed_by[index]
        if not part:
            raise RefusedError("NothingDue")
        if part > earning.income - earning.claimed:
            raise RefusedError("ExceedsIncome")
        self.purse.pay_out(self.rules, due.account, due.licence, part)
        earning.claimed_by[index] = whole
        earning.claimed += part

    def check(self) -> None:
        """What holds at any time: every coin is income that was not claimed, or owed."""
        unclaimed = sum(found.income - found.claimed for found in self.versions)
        assert self.purse.balance == unclaimed + self.purse.owed.total() >= 0
        assert all(found.claimed <= found.income for found in self.versions)
        assert self.purse.paid_out <= self.purse.paid_in
