"""Thousands of simulated worlds, in as many processes as wanted, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from collegium import aggregation

from ._events import WorldError
from ._workers import Workers
from ._world import Chronicle, World
from ._world_keys import stand_ins
from ._world_masking import StandInMasking
from ._world_plan import SIZES, WorldPlan, plan_world, with_epochs, with_quality, with_staleness

__all__ = ["REAL_EVERY", "Schedules", "plan_of", "play_plan", "play_schedules", "play_seed"]

REAL_EVERY = 20  # of so many schedules one is played with the real curve and accounts
MASKED_EVERY = 100  # and one with the real masking as well
EPOCHS_EVERY, EPOCHS_FIRST = 12, 6  # in one of so many epochs hand over: never one with real keys
SMALL, LARGE_EVERY = 5, 4  # with more validators than that in every fourth of them alone: a change takes many messages
STALE_EVERY, STALE_FIRST = 8, 3  # in one of so many updates may be trained from older models
WEIGHED_EVERY, WEIGHED_FIRST = 8, 5  # in one of so many trainers weigh by quality: with epochs, too
COUNTED = ("steps", "messages", "lost", "crashes", "splits", "views", "blocks", "rounds")
OF_EPOCHS = {"handovers": "handovers", "changes put off": "put_off", "members dropped out": "dropped"}
BATCH = 10
MASKING = StandInMasking()


@dataclass
class Schedules:
    """What came of many worlds."""

    worlds: int = 0
    real: int = 0
    masked: int = 0
    cpu_seconds: float = 0.0
    totals: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    failures: list[Chronicle] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, book: Chronicle) -> None:
        """Count one world."""
        self.worlds += 1
        self.real += book.plan.real
        self.masked += book.plan.masked
        for name in COUNTED:
            self.totals[name] += getattr(book, name)
        for words, name in OF_EPOCHS.items():
            self.totals[words] += getattr(book, name)
        self.totals["beyond the premise"] += bool(book.beyond)
        self.totals["stale reports admitted"] += book.stale
        self.totals["records ordered"] += book.records
        self.outcomes.update(book.outcomes)
        self.evidence.update(book.evidence)
        self.digests[book.seed] = book.digest
        if book.failure:
            self.failures.append(book)


def plan_of(seed: int, sizes: tuple[int, int] = SIZES) -> WorldPlan:
    """Return the plan of a seed as it is played: every twentieth has real keys, every hundredth real masking too."""
    real, masked = ((seed + 1) % every == 0 for every in (REAL_EVERY, MASKED_EVERY))
    if seed % EPOCHS_EVERY == EPOCHS_FIRST:
        small = (sizes[0], max(sizes[0], min(sizes[1], SMALL)))
        large = (seed // EPOCHS_EVERY + 1) % LARGE_EVERY == 0
        plan = with_epochs(plan_world(seed, sizes if large else small))
        weighed = (seed // EPOCHS_EVERY) % 2 == 1  # every other one
        return with_quality(replace(plan, staleness=0)) if weighed else plan
    plan = plan_world(seed, sizes, real=real, masked=masked)
    if seed % WEIGHED_EVERY == WEIGHED_FIRST:
        return with_quality(plan)
    return with_staleness(plan) if seed % STALE_EVERY == STALE_FIRST else plan


def play_seed(seed: int, sizes: tuple[int, int] = SIZES) -> Chronicle:
    """Return what happens under a seed."""
    return play_plan(plan_of(seed, sizes))


def play_plan(plan: WorldPlan) -> Chronicle:
    """Return what happens under a plan; a failure is in the chronicle, in one line, whatever it was."""
    (book,) = _play_alike([plan])
    return book


def play_schedules(
    count: int,
    seed: int,
    sizes: tuple[int, int] = SIZES,
    processes: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Schedules:
    """Return what came of the seeds from `seed` on.

    Raises:
        WorldError: a process died.
    """
    found = Schedules()
    batches = [(tuple(batch), sizes) for batch in _batches(range(seed, seed + count))]
    with Workers(processes) as workers:
        for done in workers.map(_play_batch, batches):
            found.cpu_seconds += done.cpu_seconds
            for book in done.result():
                found.add(book)
            on_progress(found.worlds)
    if found.worlds != count:
        raise WorldError(f"{found.worlds} of {count} schedules were played")
    return found


def _batches(seeds: range) -> Iterator[range]:
    for start in range(0, len(seeds), BATCH):
        yield seeds[start : start + BATCH]


def _play_batch(seeds: tuple[int, ...], sizes: tuple[int, int]) -> list[Chronicle]:
    plans = [plan_of(seed, sizes) for seed in seeds]
    return [book for _, alike in groupby(plans, key=_kind) for book in _play_alike(list(alike))]


def _kind(plan: WorldPlan) -> tuple[bool, bool]:
    """Return what decides which stand-ins a plan is played with."""
    return plan.real, plan.masked


def _play_alike(plans: Sequence[WorldPlan]) -> list[Chronicle]:
    """Return what happens under plans of one kind; their stand-ins are put in place once, for that takes a while."""
    real, masked = _kind(plans[0])
    with stand_ins(real=real, more=() if masked else ((aggregation, MASKING),)):
        return [_play(plan) for plan in plans]


def _play(plan: WorldPlan) -> Chronicle:
    world = World(plan)
    try:
        return world.run()
    except Exception as error:
        book = world.close_book()
        book.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return book
