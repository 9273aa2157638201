"""A market of trainers that only want to be paid: what each strategy earns for its stake, beside an honest founder.

All play at once, by the rule for trainers that may send anything (`WATCHFUL`, directions shown late), each with the
stake of two founders. Names of one owner train on one set of rows, so ten thousand cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ._bench_rows import Row, Spread, progress, spread_row, with_target
from ._quality_data import Federation
from ._quality_play import CUT_MARGIN
from ._quality_rules import Ours, Settings

__all__ = ["Market", "market_rows"]

Floats = NDArray[np.float64]
Strategy = Literal[
    "honest founder",
    "honest newcomer",
    "honest newcomer with many names",
    "idle",
    "idle with many names",
    "replay",
    "turns",
    "new name at each lock",
    "friend of a steward",
]

STAKE: Final = 1_000_000
STAKE_OF_EACH: Final = 2 * STAKE
PLACES_SHARE: Final = 0.8
TURN: Final = 5  # of so many parts of the rounds one is honest
JOIN: Final = 2  # the round in which those who are no founders join
NEWCOMERS: Final[tuple[Strategy, ...]] = (
    "honest newcomer",
    "honest newcomer with many names",
    "idle",
    "idle with many names",
    "replay",
    "new name at each lock",
)
FOUNDED: Final[tuple[Strategy, ...]] = ("turns",)
CHEATERS_PAY_MOST: Final[dict[Strategy, float]] = {
    "idle": 0.10,
    "idle with many names": 0.10,
    "replay": 0.15,
    "new name at each lock": 0.10,
    "friend of a steward": 0.15,
}


@dataclass
class Market:
    """Names, who owns each, and the rule that they play by.

    Attributes:
        owners: each name's strategy, in the order of joining.
        rows: whose rows a name trains on.
        turn: the round from which those that turn attack.
    """

    federation: Federation
    rule: Ours
    owners: list[Strategy]
    rows: list[int]
    names: int
    turn: int
    generator: np.random.Generator
    last: Floats
    favour: Floats
    before_turn: NDArray[np.int64]

    @classmethod
    def of(cls, federation: Federation, seed: int, names: int, turn: int, bought: int = 0) -> Market:
        """Return the market before its first round.

        Args:
            federation: its last trainers' rows are those of the founders that cheat.
            seed: of everything.
            names: how many those have that have many.
            turn: when those turn that do.
            bought: stewards that publish what a founder, their friend, sends.
        """
        founders = len(federation.labels)
        cheats: list[Strategy] = [name for name in FOUNDED for _ in range(2)]
        cheats += ["friend of a steward"] * 2 if bought else []
        honest: Strategy = "honest founder"
        owners = [honest] * (founders - len(cheats)) + cheats
        stakes = np.full(founders, STAKE, np.int64)
        rule = Ours.of(federation, Settings(), round(PLACES_SHARE * founders), stakes, seed, founders)
        generator = np.random.default_rng((seed, 12))
        favour = generator.standard_normal(federation.parameter_count)
        favour /= np.linalg.norm(favour)
        if bought:
            rule.bought, rule.favour = bought, favour
        zero = np.zeros(federation.parameter_count)
        return cls(
            federation, rule, owners, list(range(founders)), names, turn, generator, zero, favour, np.zeros(0, np.int64)
        )

    def play(self, rounds: int, seed: int) -> float:
        """Play some rounds and return what the model is worth."""
        model = self.federation.first_model(seed)
        for index in range(rounds):
            if index == JOIN:
                for number, strategy in enumerate(NEWCOMERS):
                    self._join(strategy, number, self.names if "many names" in strategy else 1)
            if index == self.turn:
                self.before_turn = self.rule.standing.points
            drawn = self.rule.drawn(index).places
            norm_bound, _ = self.rule.open(model)
            step = self.rule.close(self._updates(model, drawn, index, norm_bound))
            model, self.last = model - step.astype(np.float32), step
            self._whiten()
        return self.federation.worth(model)

    def pay(self, strategy: Strategy, *, after_turn: bool = False) -> float:
        """Return what a unit of stake earned, in all rounds or from the turn on, over what an honest founder's did."""
        points = self.rule.standing.points.astype(np.float64)
        if after_turn:
            points[: len(self.before_turn)] -= self.before_turn
        owners = np.array(self.owners)
        honest = float(points[owners == "honest founder"].mean() / STAKE)
        stake = STAKE_OF_EACH if strategy in NEWCOMERS else STAKE * int((owners == strategy).sum())
        return float(points[owners == strategy].sum()) / stake / honest if honest else 0.0

    def _join(self, strategy: Strategy, rows: int, names: int) -> None:
        self.owners += [strategy] * names
        self.rows += [rows] * names
        stakes = np.full(names, STAKE_OF_EACH // names, np.int64)
        self.rule.stakes = np.concatenate([self.rule.stakes, stakes])
        self.rule.grow(len(self.owners))

    def _updates(self, model: NDArray[np.float32], drawn: NDArray[np.int64], index: int, bound: float | None) -> Floats:
        """Return what everybody drawn sends, cut to the norm bound."""
        places = drawn.tolist()
        trained = self.federation.train(model, [self.rows[place] for place in places], self.generator)
        updates: Floats = trained.astype(np.float64)
        honest = updates[[self.owners[place].startswith("honest") for place in places]]
        honest = honest if len(honest) else updates  # of a few places none may be an honest founder's
        mean, usual = honest.mean(axis=0), float(np.median(np.linalg.norm(honest, axis=1)))
        send: dict[Strategy, Callable[[], Floats]] = {
            "idle": lambda: np.zeros_like(mean),
            "idle with many names": lambda: np.zeros_like(mean),
            "replay": lambda: self.last * (usual / max(float(np.linalg.norm(self.last)), 1e-12)),
            "turns": lambda: -10 * mean,
            "new name at each lock": lambda: -10 * mean,
            "friend of a steward": lambda: 10 * usual * self.favour,
        }
        for row, place in enumerate(places):
            owner = self.owners[place]
            if owner in send and not (owner == "turns" and index < self.turn):
                updates[row] = send[owner]()
        norms = np.maximum(np.linalg.norm(updates, axis=1, keepdims=True), 1e-12)
        cut: Floats = updates * np.minimum((bound or np.inf) * (1 - CUT_MARGIN) / norms, 1.0)
        return cut

    def _whiten(self) -> None:
        """Let whoever leaves a name that is locked out come back under another, with the same stake."""
        for place in [i for i, owner in enumerate(self.owners) if owner == "new name at each lock"]:
            standing = self.rule.standing
            if self.rule.stakes[place] and standing.locked_until[place] > standing.round:
                self.rule.stakes[place] = 0
                self._join("new name at each lock", self.rows[place], 1)


def market_rows(deal: Callable[[int], Federation], seeds: int, rounds: int, names: int) -> Iterator[Row]:
    """Yield each strategy's pay for its stake, then a friend's of one of three stewards, and of two."""
    case = f"{deal(0).name}, a market"
    clean: list[float] = []
    for bought in (0, 1, 2):
        progress(f"{case}: {names} names, {bought} stewards bought")
        markets = [Market.of(deal(seed), seed, names, rounds // TURN, bought) for seed in range(seeds)]
        worth = [market.play(rounds, seed) for seed, market in enumerate(markets)]
        clean = clean or worth
        what = f"{bought} of 3 stewards bought" if bought else "all strategies at once"
        yield spread_row(f"market: worth, {what}", case, Spread.of(worth), None, 1, "")
        strategies: tuple[Strategy, ...] = ("friend of a steward",) if bought else (*FOUNDED, *NEWCOMERS)
        for strategy in strategies:
            found = Spread.of([market.pay(strategy) for market in markets])
            name = f"market: pay, {strategy}" + (f", {what}" if bought else "")
            row = spread_row(name, case, found, None, 1, "for its stake, of an honest founder's")
            judged = strategy in CHEATERS_PAY_MOST and bought < 2
            yield with_target(row, found.greatest, CHEATERS_PAY_MOST[strategy]) if judged else row
        if not bought:
            found = Spread.of([market.pay("turns", after_turn=True) for market in markets])
            unit = f"for its stake, of an honest founder's, both from round {rounds // TURN} on"
            yield spread_row("market: pay, turns: after it turned", case, found, None, 1, unit)
