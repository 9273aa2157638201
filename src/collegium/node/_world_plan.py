"""What a seed decides of a simulated world before anything happens: who takes part, who lies, what the weather is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from random import Random

from collegium.consensus import RoundTiming, faulty_max

__all__ = [
    "EPOCH_ROUNDS",
    "SIZES",
    "WINDOWS",
    "Disk",
    "TrainerRole",
    "ValidatorRole",
    "Weather",
    "WorldPlan",
    "plan_world",
    "with_epochs",
    "with_quality",
    "with_staleness",
]

SIZES = (4, 7)
TIMEOUT_BASE_MS = 400
REAL_SEATS = 16  # the fewest that real masking knows
WINDOWS = 4  # of one round each in a change of epochs; the handover takes one round more
EPOCH_ROUNDS = WINDOWS + 1  # the shortest epoch that there is

ValidatorRole = str  # "honest", "liar" or "twins"
TrainerRole = str  # see TRAINER_LIES
TRAINER_LIES = ("two reports", "wrong columns", "some only", "malformed", "false proof")


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it gets before `calm_ms`; afterwards messages arrive within 50 ms. Liars fall silent at `hush_ms`.

    Attributes:
        lose: chance that a message is lost, and with it the connection it travelled on, until it is made anew.
        slow: chance that a message takes up to 1.5 s.
        repeat: chance that it arrives twice.
        crash: chance, for each step of an honest validator, that it crashes in it.
        split_ms: mean time between partitions; 0 for none.
        split_by_view: whether ordering's messages of each view are cut along lines of their own (Twins).
        skew_ms, drift: how far clocks are apart at first, and by how much they run fast or slow.
    """

    calm_ms: int = 6_000
    hush_ms: int = 9_000
    lose: float = 0.01
    slow: float = 0.08
    repeat: float = 0.03
    crash: float = 0.01
    split_ms: int = 900
    split_by_view: bool = False
    skew_ms: int = 0
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Disk:
    """How long one transaction takes before it is calm, at least and at most."""

    least_ms: int = 0
    most_ms: int = 0


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """Everything that is fixed before the first event.

    Attributes:
        real: whether the curve and the accounts are the real ones; else the stand-ins of `_world_keys`.
        masked: whether masking is the real one; else that of `_world_masking`.
        script: the lies that liars tell whenever they can; if there are none, they tell all, now and then.
        proved: whether reports carry (toy) proofs that chosen validators must verify.
        seats: of the round committee: 16 with real masking, else one for every validator, and some more where the set
            may become smaller.
        rounds: that are played of the last epoch.
        epochs: that are played.
        members_min: fewer tickets put a change of epochs off.
        away: from when until when each validator is away: through a whole change, if it is long enough.
        staleness: how many rounds old the model may be that an update was trained from.
        quality: whether trainers weigh by quality, and records are brought to find that out.
        draws: whether the beacon then says who may report in a round, and whom it waits for.
        mute: whose records nobody ever brings, though rounds wait for them.
    """

    seed: int
    size: int
    seats: int
    rounds: int
    real: bool
    masked: bool
    proved: bool
    validators: tuple[ValidatorRole, ...]
    trainers: tuple[TrainerRole, ...]
    absent: float
    disks: tuple[Disk, ...]
    weather: Weather
    timing: RoundTiming
    lying_max: int = 0
    cohort_min: int = 2
    script: tuple[str, ...] = ()
    epochs: int = 1
    members_min: int = 0
    away: tuple[tuple[int, int], ...] = ()
    staleness: int = 0
    quality: bool = False
    draws: bool = False
    mute: tuple[int, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether epochs end."""
        return self.epochs > 1

    @property
    def honest(self) -> tuple[int, ...]:
        """The validators that keep to the protocol."""
        return tuple(i for i, role in enumerate(self.validators) if role == "honest")


def plan_world(
    seed: int, sizes: tuple[int, int] = SIZES, *, real: bool = False, masked: bool = False, rounds: int = 2
) -> WorldPlan:
    """Return what this seed decides; the same on every machine."""
    rng = Random(f"plan {seed}")  # noqa: S311 - a simulated choice, no secret
    size = rng.randint(*sizes)
    faulty = faulty_max(size)
    dishonest = rng.choice((0, faulty, faulty, faulty))
    roles = ["honest"] * size
    for index in rng.sample(range(size), dishonest):
        roles[index] = rng.choice(("liar", "liar", "twins"))
    proved = rng.random() < 0.4
    lies = TRAINER_LIES if proved else TRAINER_LIES[:-1]
    trainers = ["honest"] * rng.choice((3, 3, 4, 5))
    for index in range(rng.choice((0, 0, 1, 1, len(trainers) - 2))):
        trainers[index] = rng.choice(lies)
    calm = rng.choice((3_000, 5_000, 8_000))
    weather = Weather(
        calm_ms=calm,
        hush_ms=calm + 3_000,
        lose=rng.choice((0.0, 0.005, 0.02)),
        slow=rng.choice((0.0, 0.08, 0.3)),
        repeat=rng.choice((0.0, 0.05)),
        crash=rng.choice((0.0, 0.003, 0.01, 0.04)),
        split_ms=rng.choice((0, 700, 1_500)),
        split_by_view=rng.random() < 0.25,
        skew_ms=rng.choice((0, 300, 2_000)),
        drift=rng.choice((0.0, 0.01, 0.05)),
    )
    slow_disk = rng.randrange(size) if rng.random() < 0.3 else size
    disks = tuple(Disk(5, 150) if i == slow_disk else Disk(0, 2) for i in range(size))
    deadline = rng.choice((1_500, 3_000, 6_000))
    timing = RoundTiming(grace_ms=20, deadline_ms=deadline, release_ms=600, turn_ms=500, verify_ms=400)
    return WorldPlan(
        seed=seed,
        size=size,
        seats=REAL_SEATS if masked else size,
        rounds=rounds,
        real=real,
        masked=masked,
        proved=proved,
        validators=tuple(roles),
        trainers=tuple(trainers),
        absent=rng.choice((0.0, 0.0, 0.15)),
        disks=disks,
        weather=weather,
        timing=timing,
        lying_max=rng.choice((0, 0, 0, 1)) if size > 4 and not masked else 0,
    )


def with_epochs(plan: WorldPlan) -> WorldPlan:
    """Return a plan of the same people in which epochs hand over, and some honest validators miss a change or two."""
    rng = Random(f"epochs {plan.seed}")  # noqa: S311 - a simulated choice, no secret
    size, faulty = plan.size, (plan.size - 1) // 3
    bad = size - len(plan.honest)
    calm = rng.choice((4_000, 8_000, 12_000))
    weather = replace(plan.weather, calm_ms=calm, hush_ms=calm + 3_000, crash=min(plan.weather.crash, 0.01))
    away = [(0, 0)] * size
    for member in rng.sample(plan.honest, rng.randint(0, faulty - bad) if faulty > bad else 0):
        begin = rng.choice((0, 0, rng.randrange(calm)))
        away[member] = (begin, begin + rng.choice((2_000, 5_000, 2 * calm)))
    if bad == faulty > 0 and rng.random() < 0.5:  # one more than a change bears, for a window or two after the tickets'
        begin = rng.randrange(1_500, 4_000)
        away[rng.choice(plan.honest)] = (begin, begin + rng.choice((1_500, 3_000)))
    trainers = [role if role == "two reports" else "honest" for role in plan.trainers[:3]]
    return replace(
        plan,
        trainers=tuple(trainers),
        absent=0.0,
        weather=weather,
        timing=replace(plan.timing, deadline_ms=1_500),
        seats=seats_for(size),
        lying_max=0,
        rounds=1,
        epochs=rng.choice((2, 2, 2, 3)),
        members_min=members_min(size, bad),
        away=tuple(away),
        staleness=rng.choice((0, 2)),
    )


def members_min(size: int, bad: int) -> int:
    """Return the fewest tickets that make a set: such that it bears who is bad, unless too few could be left then."""
    least, bearing = size - (size - 1) // 3, 3 * bad + 1
    return max(least, bearing) if bearing <= size - bad else least


def seats_for(size: int) -> int:
    """Return so many seats that those of a third of any set that may be drawn are no more than a third of them."""

    def bears(seats: int) -> bool:
        sets = range(size - (size - 1) // 3, size + 1)
        return all(-(-seats // members) * ((members - 1) // 3) <= (seats - 1) // 3 for members in sets)

    return next(seats for seats in count(size) if bears(seats))


def with_staleness(plan: WorldPlan) -> WorldPlan:
    """Return a plan in which updates may be trained from older models, and somebody may begin with too old a one."""
    rng = Random(f"staleness {plan.seed}")  # noqa: S311 - a simulated choice, no secret
    trainers = list(plan.trainers)
    if rng.random() < 0.3:
        trainers[-1] = "too stale"
    return replace(plan, staleness=rng.choice((1, 2)), trainers=tuple(trainers))


def with_quality(plan: WorldPlan) -> WorldPlan:
    """Return a plan in which trainers weigh by quality, half of the time the drawn ones alone.

    A close may soon leave no record out, and of some authors none ever comes.
    """
    rng = Random(f"quality {plan.seed}")  # noqa: S311 - a simulated choice, no secret
    timing = replace(plan.timing, keys_ms=rng.choice((50, 300, 1_000)))
    mute = rng.choice(((), (), (0,), (0, 1, 2)))
    return replace(plan, quality=True, timing=timing, draws=rng.random() < 0.5, mute=mute)
