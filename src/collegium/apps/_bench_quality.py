"""What attacks do to a model, rule by rule: ours, which opens one total and one number each, beside rules that see all.

Everything is a simulation in one process: training in float32, what our rule computes in the protocol's integers. What
is measured and what is not: docs/guide/benchmarks.md. Targets are printed beside the rows that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from collegium.errors import CollegiumError
from collegium.learning import AttackKind, AttackPlan

from ._bench_rows import Row, Spread, figure_row, load_text, machine, note_row, progress, spread_row, with_target
from ._quality_data import Federation, digits, hospitals
from ._quality_market import market_rows
from ._quality_peer import PEERS, find_byzfl, peer_rule
from ._quality_play import Played, attackers_of, play
from ._quality_rounds import rounds_rows
from ._quality_rules import Everyone, Ours, Settings
from ._quality_trigger import trigger_rows
from ._quality_worth import worth_rows

__all__ = ["PARTS", "Size", "UnknownQualityPartError", "quality_rows"]

PARTS: Final = ("rounds", "attacks", "turning", "lazy", "honest", "sybils", "market", "triggers", "worth")
MEAN: Final = "mean"
MISSING_PEER: Final = (
    "none: pip install 'collegium[quality,torch]' && pip install --no-deps byzfl==0.0.11, or use scripts/bench"
)
STAKE: Final = 1_000_000
FOUNDERS_SHARE: Final = 0.8  # of places to trainers

ATTACKS: Final[tuple[AttackKind, ...]] = (
    "sign_flip",
    "foe",
    "ipm",
    "alie",
    "min_max",
    "gaussian",
    "label_flip",
    "mimic",
    "hidden_harm",
)
HARMFUL: Final = 0.01  # of accuracy, what an attack may cost
HARMFUL_LARGE: Final = 0.02  # the same at 45%
LARGE_SHARE: Final = 0.45
ROUNDS: Final = 30  # of the demo


class UnknownQualityPartError(CollegiumError):
    """There is no part of the benchmark of this name."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is played.

    Attributes:
        seeds: deals of the data, each with its own attackers and noise.
        rounds: of each.
        shares: the attackers' parts.
        peers: which of byzfl's rules stand beside ours.
        alphas: of the digits' Dirichlet deals.
        sybils: names of the swarm.
        small_trainers: trainers of the exact Shapley values: all their coalitions are trained.
        worth_seeds: deals of them. Ranks of a few trainers are coarse, so these are more.
    """

    seeds: int
    rounds: int
    shares: tuple[float, ...]
    peers: tuple[str, ...]
    alphas: tuple[float, ...]
    sybils: int
    small_trainers: int
    worth_seeds: int


QUICK: Final = Size(2, 40, (0.3,), ("multi-Krum", "NNM + trimmed mean"), (0.5,), 1_000, 6, 12)
WHOLE: Final = Size(5, 50, (0.1, 0.2, 0.3, 0.45), PEERS, (0.5, 0.1), 10_000, 8, 12)

Deal = Callable[[int], Federation]


def quality_rows(
    *, whole: bool, config: Path, part: str | None = None, attack: AttackPlan | None = None, size: Size | None = None
) -> Iterator[Row]:
    """Yield the machine and its load, the rows of one part or all, then the load at the end.

    A row is like the other benchmarks'; `peer` is the best of byzfl's rules. A row of an attack has `rules` besides:
    each rule's median, least and greatest.

    Args:
        whole: all sizes instead of a few minutes' worth.
        config: the demo's file, whose hospitals are one of the data sets.
        part: one of `PARTS`, all where None is given.
        attack: this attack alone, instead of any part.
        size: what is played, instead of what `whole` says.

    Raises:
        UnknownQualityPartError: there is no such part.
        MissingDigitsError: scikit-learn is not installed.
    """
    if part is not None and part not in PARTS:
        raise UnknownQualityPartError(f"--part is {part!r}, expected one of {', '.join(PARTS)}", part=part)
    size = size or (WHOLE if whole else QUICK)
    for name, text in machine().items():
        if name != "flwr":
            yield note_row(name, text)
    yield note_row("load before", load_text())
    if find_byzfl() is None:
        yield note_row("peers", MISSING_PEER)
    deals = [partial(digits, alpha=alpha) for alpha in size.alphas] + [partial(hospitals, config=config)]
    if attack is not None:
        for deal in deals:
            yield from attack_rows(deal, attack, size)
        yield note_row("load after", load_text())
        return
    whole_steps = partial(_whole_steps, config=config)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "rounds": lambda: rounds_rows(
            [*deals, partial(hospitals, config=config, every=2), whole_steps],
            size.shares,
            size.seeds,
            min(size.rounds, ROUNDS),
        ),
        "attacks": lambda: _attacks(deals, size),
        "turning": lambda: _turning(deals[0], size),
        "lazy": lambda: _lazy(deals, size),
        "honest": lambda: _honest([*deals, partial(digits, alpha=0.5, skewed=True)], size),
        "sybils": lambda: _sybils(deals[0], size),
        "market": lambda: market_rows(deals[0], size.seeds, 2 * size.rounds, size.sybils),
        "triggers": lambda: trigger_rows(deals[0], size.shares, size.seeds, size.rounds),
        "worth": lambda: worth_rows(_worth_deals(size, config), size.worth_seeds),
    }
    for name in PARTS if part is None else (part,):
        yield from parts[name]()
    yield note_row("load after", load_text())


def _whole_steps(seed: int, config: Path) -> Federation:
    """Return the hospitals as the demo trains them: one step on all rows, which count alike."""
    return replace(hospitals(seed, config), name="hospitals, one step on all rows", batch=0, steps=1, rate=1.0)


def _worth_deals(size: Size, config: Path) -> list[Deal]:
    """Return few trainers of digits, and of the hospitals: there of unlike numbers of rows, which count alike."""
    small: list[Deal] = [partial(_small, alpha=alpha, size=size) for alpha in (100.0, 0.5)]
    return [*small, partial(_fewer_hospitals, size=size, config=config)]


def _fewer_hospitals(seed: int, size: Size, config: Path) -> Federation:
    whole = _whole_steps(seed, config)
    chosen = range(0, len(whole.labels), max(len(whole.labels) // size.small_trainers, 1))[: size.small_trainers]
    return whole.of(chosen)


def _small(seed: int, alpha: float, size: Size) -> Federation:
    """Return few trainers of a model without a hidden layer, all of whose coalitions can be trained."""
    return replace(digits(seed, alpha, size.small_trainers), hidden=0)


# Playing


def ours(federation: Federation, plan: AttackPlan | None, seed: int, rounds: int, settings: Settings) -> Played:
    """Play our rule: founders have one stake each; names that join share the attackers'."""
    founders = len(federation.labels)
    bad = attackers_of(plan, founders, seed)
    stakes = np.full(len(bad), STAKE, np.int64)
    if plan is not None and plan.identities:
        swarm = plan.share / (1 - plan.share) * founders * STAKE
        stakes[founders:] = max(int(swarm / plan.identities), 1)
    rule = Ours.of(federation, settings, _places(founders), stakes, seed, founders)
    return play(federation, rule, plan, rounds, seed)


def theirs(federation: Federation, plan: AttackPlan | None, seed: int, rounds: int, name: str) -> Played:
    """Play the plain mean or one of byzfl's rules, which is told how many attackers to expect."""
    trainers = len(federation.labels)
    places = _places(trainers)
    attackers = round((plan.share if plan else 0.0) * places)
    found = None if name == MEAN else find_byzfl()
    aggregate = (lambda updates: updates.mean(axis=0)) if found is None else peer_rule(found[0], name, attackers)
    generator = np.random.default_rng((seed, 6))
    if plan is not None and plan.kind == "backdoor":
        plan = replace(plan, strength=places / max(attackers, 1))
    return play(federation, Everyone(aggregate, trainers, places, generator), plan, rounds, seed)


def _places(trainers: int) -> int:
    return max(round(FOUNDERS_SHARE * trainers), 2)


def _name(plan: AttackPlan) -> str:
    when = f", from round {plan.from_round}" if plan.from_round else ""
    when += f", {plan.active} of {plan.period} rounds" if plan.period else ""
    return f"{plan.kind} {plan.share:.0%}{when}"


# Attacks


def _attacks(deals: Sequence[Deal], size: Size) -> Iterator[Row]:
    for deal in deals:
        for share in size.shares:
            for kind in ATTACKS:
                yield from attack_rows(deal, AttackPlan(kind, share), size)
            if deal(0).trigger.size:
                yield from backdoor_rows(deal, AttackPlan("backdoor", share), size)


@lru_cache(maxsize=16)
def _clean(deal: Deal, size: Size) -> tuple[float, ...]:
    """Return what the plain mean reaches without attackers, by seed."""
    return tuple(theirs(deal(seed), None, seed, size.rounds, MEAN).worth for seed in range(size.seeds))


@lru_cache(maxsize=64)
def _alone(deal: Deal, share: float, size: Size) -> float:
    """Return what the honest reach by the plain mean if the attackers never come: a rule can hardly do better."""
    found = []
    for seed in range(size.seeds):
        federation = deal(seed)
        honest = np.flatnonzero(~attackers_of(AttackPlan("zero", share), len(federation.labels), seed)).tolist()
        found.append(theirs(federation.of(honest), None, seed, size.rounds, MEAN).worth)
    return median(found)


def attack_rows(deal: Deal, plan: AttackPlan, size: Size) -> Iterator[Row]:
    """Yield what an attack leaves of the model under each rule, how soon ours is rid of it, and what it loses."""
    case = deal(0).name
    progress(f"{case}: {_name(plan)}")
    clean = _clean(deal, size)
    mine = [ours(deal(seed), plan, seed, size.rounds, Settings()) for seed in range(size.seeds)]
    worth = [played.worth for played in mine]
    rules = {"ours": Spread.of(worth)}
    for name in (MEAN, *(size.peers if find_byzfl() else ())):
        found = [theirs(deal(seed), plan, seed, size.rounds, name).worth for seed in range(size.seeds)]
        rules[name] = Spread.of(found)
    peers = {name: spread for name, spread in rules.items() if name not in ("ours", MEAN)}
    best = max(peers, key=lambda name: peers[name].median) if peers else None
    row = spread_row(_name(plan), case, rules["ours"], peers[best] if best else None, 1, f"best: {best}")
    row["rules"] = {name: [spread.median, spread.least, spread.greatest] for name, spread in rules.items()}
    lost = max(before - after for before, after in zip(clean, worth, strict=True))
    alone = _alone(deal, 0.0 if plan.identities else plan.share, size)  # names that join leave all founders honest
    unit = f"{row['unit']}, loses {lost:.3f} at most, the honest alone reach {alone:.3f}"
    row |= {"clean": median(clean), "alone": alone, "lost": lost, "unit": unit}
    yield with_target(row, round(lost, 4), HARMFUL_LARGE if plan.share >= LARGE_SHARE else HARMFUL)
    quiet = [played.quiet_from(plan.from_round) for played in mine]
    known = [rounds for rounds in quiet if rounds is not None]
    text = f"rounds until attackers have less than 1% of the weight; never in {quiet.count(None)} of {len(quiet)}"
    yield figure_row(f"{_name(plan)}: quiet after", case, float(median(known)) if known else None, None, text)
    if plan.kind == "hidden_harm":
        early = [ours(deal(seed), plan, seed, size.rounds, Settings(late=False)).worth for seed in range(size.seeds)]
        unit = "worth, where the direction is shown before the updates are made"
        yield spread_row(f"{_name(plan)}, early", case, Spread.of(early), None, 1, unit)


def backdoor_rows(deal: Deal, plan: AttackPlan, size: Size) -> Iterator[Row]:
    """Yield how often the trigger works, and what the model is worth without it."""
    case = deal(0).name
    progress(f"{case}: {_name(plan)}")
    mine = [ours(deal(seed), plan, seed, size.rounds, Settings()) for seed in range(size.seeds)]
    found = {"ours": Spread.of([played.backdoor for played in mine])}
    for name in (MEAN, *(size.peers if find_byzfl() else ())):
        others = [theirs(deal(seed), plan, seed, size.rounds, name).backdoor for seed in range(size.seeds)]
        found[name] = Spread.of(others)
    peers = {name: spread for name, spread in found.items() if name not in ("ours", MEAN)}
    best = min(peers, key=lambda name: peers[name].median) if peers else None
    row = spread_row(f"{_name(plan)}: success", case, found["ours"], peers[best] if best else None, 1, f"best: {best}")
    row["rules"] = {name: [spread.median, spread.least, spread.greatest] for name, spread in found.items()}
    yield with_target(row, found["ours"].greatest, 0.1)
    lost = max(before - played.worth for before, played in zip(_clean(deal, size), mine, strict=True))
    worth = spread_row(f"{_name(plan)}: worth", case, Spread.of([played.worth for played in mine]), None, 1, "")
    yield with_target(worth | {"lost": lost}, round(lost, 4), HARMFUL_LARGE)


def _turning(deal: Deal, size: Size) -> Iterator[Row]:
    """Yield sleepers and attackers that go on and off."""
    for kind in ("sign_flip", "label_flip"):
        yield from attack_rows(deal, AttackPlan(kind, 0.3, from_round=size.rounds // 2), size)
        yield from attack_rows(deal, AttackPlan(kind, 0.3, period=10, active=5), size)


# Pay


def _lazy(deals: Sequence[Deal], size: Size) -> Iterator[Row]:
    """Yield what attackers without work of their own earn, beside an honest trainer."""
    targets: dict[AttackKind, float] = {"zero": 0.10, "gaussian": 0.10, "replay": 0.15}
    for deal in deals:
        case = deal(0).name
        for kind in ("zero", "gaussian", "replay", "stale", "mimic", "echo"):
            plan = AttackPlan(kind, 0.2)
            progress(f"{case}: {_name(plan)}")
            paid = [_relative_pay(ours(deal(seed), plan, seed, size.rounds, Settings())) for seed in range(size.seeds)]
            spread = Spread.of(paid)
            row = spread_row(f"pay: {kind} 20%", case, spread, None, 1, "of an honest trainer's")
            yield with_target(row, spread.greatest, targets[kind]) if kind in targets else row
            if kind == "echo":
                early = Settings(late=False)
                found = [_relative_pay(ours(deal(seed), plan, seed, size.rounds, early)) for seed in range(size.seeds)]
                yield spread_row("pay: echo 20%, early", case, Spread.of(found), None, 1, "of an honest trainer's")


def _relative_pay(played: Played) -> float:
    bad, good = played.pay()
    return bad / good if good else 0.0


# Honest trainers


def _honest(deals: Sequence[Deal], size: Size) -> Iterator[Row]:
    """Yield how many honest trainers are ever locked out, without attackers and with some."""
    for deal in deals:
        case = deal(0).name
        target = 0.03 if "0.1" in case else 0.01
        for plan in (None, AttackPlan("sign_flip", 0.3), AttackPlan("alie", 0.3)):
            progress(f"{case}: honest trainers beside {plan.kind if plan else 'none'}")
            rates, kept = [], []
            for seed in range(size.seeds * 2):
                played = ours(deal(seed), plan, seed, size.rounds, Settings())
                rates.append(float(played.locked()[~played.attackers].mean()))
                kept.append(float(_median_share(played)))
            beside = _name(plan) if plan else "no attackers"
            mean = float(np.mean(rates))
            row = figure_row(
                f"honest locked out: {beside}",
                case,
                mean,
                None,
                f"ever, mean of {len(rates)} runs, most {max(rates):.3g}",
            )
            yield with_target(row | {"most": max(rates)}, mean, target)
            yield spread_row(f"least honest pay: {beside}", case, Spread.of(kept), None, 1, "of the honest median's")


def _median_share(played: Played) -> float:
    points = played.ours.standing.points[~played.attackers[: len(played.ours.standing)]]
    return float(points.min() / max(float(np.median(points)), 1.0))


# Names without end


def _sybils(deal: Deal, size: Size) -> Iterator[Row]:
    """Yield what a swarm of names with a fifth of the stake does, which joins after a quarter of the rounds."""
    case = deal(0).name
    clean, since = _clean(deal, size), size.rounds // 4
    for names in (10, size.sybils):
        for kind in ("sign_flip", "alie"):
            plan = AttackPlan(kind, 0.2, from_round=since, identities=names)
            progress(f"{case}: {names} names, {kind}")
            mine = [ours(deal(seed), plan, seed, size.rounds, Settings()) for seed in range(size.seeds)]
            lost = max(before - played.worth for before, played in zip(clean, mine, strict=True))
            worth = Spread.of([played.worth for played in mine])
            row = spread_row(f"{names:,} names with 20% of stake, {kind}", case, worth, None, 1, "worth")
            yield with_target(row | {"lost": lost}, round(lost, 4), HARMFUL)
            shares = Spread.of([float(np.mean(played.weight_share[since:])) for played in mine])
            yield spread_row(f"{names:,} names, {kind}: weight", case, shares, None, 1, "of all, after they joined")
