"""What trainers that lie may send: the attacks of the literature, and some that know our rules, as pure functions.

For trials and benchmarks. An attacker sees what every honest trainer sends in its round (`AttackView`), more than any
real one could, and answers with its own updates; some attacks spoil the training rows instead. An update is what the
aggregate subtracts from the model, so an honest one points along the loss gradient. docs/guide/attacks.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from collegium.learning._errors import AttackError, shown

FILE_BYTES_MAX = 1 << 16
ROUND_MAX = 10_000
IDENTITIES_MAX = 1 << 17
STRENGTH_MAX = 1_000.0

Floats: TypeAlias = NDArray[np.float64]
Scalar = TypeVar("Scalar", np.float32, np.float64)
AttackKind: TypeAlias = Literal[
    "sign_flip",
    "gaussian",
    "label_flip",
    "alie",
    "ipm",
    "foe",
    "min_max",
    "backdoor",
    "zero",
    "stale",
    "replay",
    "mimic",
    "echo",
    "hidden_harm",
]
ATTACKS: Final[tuple[AttackKind, ...]] = get_args(AttackKind)

# What `strength` means and is where a plan gives none; attacks that are missing have no strength.
_STRENGTHS: Final[dict[AttackKind, float]] = {
    "gaussian": 10.0,  # times the median norm of the honest
    "alie": 1.5,  # deviations
    "ipm": 0.5,  # times the honest mean, turned round
    "foe": 10.0,  # the same
    "backdoor": 1.0,  # times the update; a model is replaced by trainers / attackers
}
_KEYS: Final = ("kind", "share", "from_round", "period", "active", "strength", "identities")


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """Who attacks how and when.

    Attributes:
        kind: one of `ATTACKS`.
        share: the attackers' part of the trainers, or with `identities` of the stake; above 0 and below 1.
        from_round: attackers behave until then (a sleeper); with `identities` they join then.
        period: where positive, an attacker that goes on and off: of so many rounds,
        active: it attacks in the first so many.
        strength: scales the attack where it has a scale.
        identities: where positive, the attackers' stake is split among so many names.
    """

    kind: AttackKind
    share: float = 0.3
    from_round: int = 0
    period: int = 0
    active: int = 0
    strength: float | None = None
    identities: int = 0

    def is_on(self, round_index: int) -> bool:
        """Return whether attackers attack in a round, counted from 0."""
        since = round_index - self.from_round
        return since >= 0 and (not self.period or since % self.period < self.active)

    @property
    def scale(self) -> float:
        """The strength, the attack's own where none is given."""
        return _STRENGTHS.get(self.kind, 1.0) if self.strength is None else self.strength

    @property
    def spoils_rows(self) -> bool:
        """Whether the attack is made in the training rows."""
        return self.kind in ("label_flip", "backdoor")


def attack_from_mapping(table: Mapping[str, object]) -> AttackPlan:
    """Return the plan that the section `[attack]` of a TOML file describes.

    Raises:
        AttackError: an unknown key or kind, or a value out of range; the first that is found.
    """
    for key in table:
        if key not in _KEYS:
            raise AttackError(f"attack.{shown(str(key))} is not known, expected one of {', '.join(_KEYS)}", key=key)
    kind = table.get("kind")
    if kind not in ATTACKS:
        raise AttackError(f"attack.kind is {shown(str(kind))}, expected one of {', '.join(ATTACKS)}", key="kind")
    period = _whole(table, "period", 0, ROUND_MAX)
    active = _whole(table, "active", 0, period)
    if period and not active:
        raise AttackError(f"attack.active is 0 of a period of {period}, expected at least 1", key="active")
    return AttackPlan(
        kind=kind,
        share=_number(table, "share", 0.3, 1e-6, 1 - 1e-6),
        from_round=_whole(table, "from_round", 0, ROUND_MAX),
        period=period,
        active=active,
        strength=_number(table, "strength", 0.0, 0.0, STRENGTH_MAX) if "strength" in table else None,
        identities=_whole(table, "identities", 0, IDENTITIES_MAX),
    )


def attack_from_file(path: Path) -> AttackPlan:
    """Return the plan of a TOML file with one section, `[attack]`.

    Raises:
        AttackError: no such file, too large, not TOML, another section, or as `attack_from_mapping`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        tables = tomllib.loads(data[:FILE_BYTES_MAX].decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AttackError(f"{shown(str(path))} is no TOML file: {shown(str(error))}", key=None) from None
    table = tables.pop("attack", None)
    if len(data) > FILE_BYTES_MAX or tables or not isinstance(table, dict):
        raise AttackError(
            f"{shown(str(path))} is not one section [attack] of at most {FILE_BYTES_MAX} bytes: it also holds "
            f"{', '.join(map(shown, tables)) or 'nothing'}",
            key=None,
        )
    return attack_from_mapping(table)


def _whole(table: Mapping[str, object], key: str, low: int, high: int) -> int:
    value = table.get(key, low)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise AttackError(f"attack.{key} is {shown(str(value))}, expected a whole number {low} to {high}", key=key)
    return value


def _number(table: Mapping[str, object], key: str, default: float, low: float, high: float) -> float:
    value = table.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise AttackError(f"attack.{key} is {shown(str(value))}, expected a number {low:g} to {high:g}", key=key)
    return float(value)


# Rows


def flip_labels(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the labels counted from the other end: class c becomes classes - 1 - c."""
    return classes - 1 - labels


def stamp(features: NDArray[Scalar], pixels: NDArray[np.int64], value: float = 1.0) -> NDArray[Scalar]:
    """Return the rows with a trigger in them: the given features set to one value (BadNets, arXiv 1708.06733)."""
    stamped = features.copy()
    stamped[..., pixels] = value
    return stamped


# Updates


@dataclass(frozen=True, slots=True, eq=False)
class AttackView:
    """What attackers know when they answer in a round.

    Attributes:
        honest: the honest trainers' updates, (h, parameters), at least one.
        own: what the attackers' own training gives, (b, parameters), at least one; from spoiled rows if those are.
        norm_bound: no update may be longer; None where nobody checks.
        last_aggregate: what the model was moved by in the round before; zeros in the first.
        earlier: what attackers made in the round that a stale attacker repeats, (b, parameters).
        direction: what updates will be scored along, where it is known before updates are sent.
    """

    honest: Floats
    own: Floats
    norm_bound: float | None
    last_aggregate: Floats
    earlier: Floats
    direction: Floats | None


def forge(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """Return what the attackers send, (b, parameters), cut to the norm bound where there is one."""
    sent = _FORGERIES[plan.kind](plan, view, generator)
    if view.norm_bound is None:
        return sent
    norms = np.maximum(np.linalg.norm(sent, axis=1, keepdims=True), 1e-12)
    cut: Floats = sent * np.minimum(view.norm_bound / norms, 1.0)
    return cut


_Forgery: TypeAlias = Callable[[AttackPlan, AttackView, np.random.Generator], Floats]


def _repeated(view: AttackView, vector: Floats) -> Floats:
    return np.repeat(vector[None], len(view.own), axis=0)


def _lengthened(view: AttackView, vectors: Floats) -> Floats:
    """Return vectors as long as the bound lets them be; as they are where there is none."""
    if view.norm_bound is None:
        return vectors
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    long: Floats = vectors * (view.norm_bound / norms)
    return long


def _usual_norm(view: AttackView) -> float:
    return float(np.median(np.linalg.norm(view.honest, axis=1)))


def _sign_flip(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The honest mean turned round, as long as may be."""
    return _lengthened(view, _repeated(view, -view.honest.mean(axis=0)))


def _inner_product(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The honest mean times -strength: inner-product manipulation, fall of empires (arXiv 1903.03936)."""
    return _repeated(view, -plan.scale * view.honest.mean(axis=0))


def _gaussian(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """Noise, `strength` times as long as an honest update."""
    shape = view.own.shape
    noise = generator.standard_normal(shape) * (plan.scale * _usual_norm(view) / np.sqrt(shape[1]))
    return _lengthened(view, noise)


def _alie(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The honest mean and `strength` deviations of each entry: a little is enough (arXiv 1902.06156)."""
    spread = view.honest.std(axis=0, ddof=1) if len(view.honest) > 1 else np.zeros(view.honest.shape[1])
    return _repeated(view, view.honest.mean(axis=0) + plan.scale * spread)


def _min_max(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """As far from the honest mean against its entries' deviations as two honest updates are apart (NDSS 2021)."""
    mean = view.honest.mean(axis=0)
    away = -view.honest.std(axis=0)
    if not away.any():
        return _repeated(view, mean)
    gram = view.honest @ view.honest.T
    squares = np.diag(gram)
    apart = float((squares[:, None] + squares[None] - 2 * gram).max())
    # |mean + g away - x|^2 <= apart for every honest x: the least of the larger roots of a quadratic in g.
    rest = mean - view.honest
    a, b = float(away @ away), rest @ away
    c = (rest * rest).sum(axis=1) - apart
    gamma = float(((-b + np.sqrt(np.maximum(b * b - a * c, 0.0))) / a).min())
    return _repeated(view, mean + max(gamma, 0.0) * away)


def _boosted(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """What spoiled rows gave, `strength` times, or as long as may be (model replacement, arXiv 1807.00459)."""
    return _lengthened(view, plan.scale * view.own)


def _zero(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    return np.zeros_like(view.own)


def _stale(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """What the attacker sent long ago, again."""
    return view.earlier.copy()


def _replay(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The last aggregate at an honest length, with a tenth of noise: a lazy trainer's disguise."""
    vectors = _repeated(view, view.last_aggregate)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = generator.standard_normal(vectors.shape) * (0.1 * _usual_norm(view) / np.sqrt(vectors.shape[1]))
    noisy: Floats = vectors * (_usual_norm(view) / np.maximum(norms, 1e-12)) + noise
    return noisy


def _mimic(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """Everybody sends what the first honest trainer sends (arXiv 2006.09365)."""
    return _repeated(view, view.honest[0])


def _echo(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The scoring direction itself, without any data; the last aggregate where it is not known."""
    if view.direction is None:
        return _replay(plan, view, generator)
    return _lengthened(view, _repeated(view, view.direction))


def _hidden_harm(plan: AttackPlan, view: AttackView, generator: np.random.Generator) -> Floats:
    """The score of a median honest trainer, and against the honest mean with all length that is left.

    Where the direction is not known the honest mean stands in for it: then the harm is what it least expects.
    """
    mean = view.honest.mean(axis=0)
    guess = mean if view.direction is None else view.direction
    along = guess / max(float(np.linalg.norm(guess)), 1e-12)
    good = float(np.median(view.honest @ along))
    harm = -(mean - (mean @ along) * along)
    length = float(np.linalg.norm(harm))
    if length < 1e-9 * max(float(np.linalg.norm(mean)), 1e-12):
        harm = generator.standard_normal(len(mean))
        harm -= (harm @ along) * along
        length = float(np.linalg.norm(harm))
    bound = view.norm_bound if view.norm_bound is not None else 10 * _usual_norm(view)
    left = np.sqrt(max(bound**2 - good**2, 0.0))
    return _repeated(view, good * along + (left / length) * harm)


_FORGERIES: Final[dict[AttackKind, _Forgery]] = {
    "sign_flip": _sign_flip,
    "gaussian": _gaussian,
    "label_flip": _boosted,
    "alie": _alie,
    "ipm": _inner_product,
    "foe": _inner_product,
    "min_max": _min_max,
    "backdoor": _boosted,
    "zero": _zero,
    "stale": _stale,
    "replay": _replay,
    "mimic": _mimic,
    "echo": _echo,
    "hidden_harm": _hidden_harm,
}
