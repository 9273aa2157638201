"""A simulated run's attackers: rows spoiled before anything is registered, and updates forged where none is proved.

All randomness here is simulation's, seeded by the experiment. Of all this a network of processes has only spoiled
rows, where one machine founds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium.aggregation import RoundTerms
from collegium.errors import CollegiumError
from collegium.learning import AttackPlan, AttackView, RowAttackKind, Schema, TrainerRows, forge, spoil_rows

from ._attack_settings import AttackSettings
from ._experiment import Experiment
from ._sections import shown
from ._task import LearningTask
from ._trainer import Trainer

__all__ = ["Attackers", "NobodyHonestError", "UnknownAttackerError", "attack_kinds", "attacker_names", "spoil_trainers"]

IntArray = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NAMES_SHOWN_MAX = 20
_ROWS, _UPDATES = 1, 2  # streams of an experiment's seed


class UnknownAttackerError(CollegiumError):
    """The section `[attack]` names a trainer that the data do not make."""


class NobodyHonestError(CollegiumError):
    """Every trainer of the run is told to attack."""


def attacker_names(settings: AttackSettings | None) -> frozenset[str]:
    """Return the names of the trainers that attack."""
    return frozenset() if settings is None else frozenset(entry.trainer for entry in settings.trainers)


def attack_kinds(settings: AttackSettings | None) -> dict[str, str]:
    """Return what each trainer that attacks is told to do, by name."""
    return {} if settings is None else {entry.trainer: entry.kind for entry in settings.trainers}


def spoil_trainers(experiment: Experiment, schema: Schema, trainers: Sequence[TrainerRows]) -> tuple[TrainerRows, ...]:
    """Return what every trainer trains on: its rows, spoiled where it is told to spoil them.

    Raises:
        UnknownAttackerError: an attacker is none of the trainers.
        NobodyHonestError: all of them attack.
    """
    settings, names = experiment.attack, [rows.name for rows in trainers]
    if settings is None:
        return tuple(trainers)
    for entry in settings.trainers:
        if entry.trainer not in names:
            some = ", ".join(names[:NAMES_SHOWN_MAX]) + (", ..." if len(names) > NAMES_SHOWN_MAX else "")
            raise UnknownAttackerError(
                f"attack.trainers names {shown(entry.trainer)}, expected one of {some}", name=entry.trainer
            )
    if len(settings.trainers) == len(names):
        raise NobodyHonestError(f"all {len(names)} trainers attack, expected an honest one", trainers=len(names))
    kinds = {entry.trainer: entry.row_kind for entry in settings.trainers}
    return tuple(_spoiled(experiment.task.seed, schema, rows, kinds) for rows in trainers)


def _spoiled(seed: int, schema: Schema, held: TrainerRows, kinds: Mapping[str, RowAttackKind | None]) -> TrainerRows:
    kind = kinds.get(held.name)
    if kind is None:
        return held
    stream = int.from_bytes(sha256(held.name.encode()).digest()[:8], "little")
    generator = np.random.default_rng((seed, _ROWS, stream))
    return replace(held, rows=spoil_rows(kind, held.rows, schema, generator))


@dataclass
class Attackers:
    """Those that forge updates, round by round: they see every honest update, and where the model came from.

    Attributes:
        plans: of each attacker, by name.
        before: the model's parameters before the last round, None in the first.
        earlier: by name, what an attacker made in its first round.
    """

    task: LearningTask
    seed: int
    plans: Mapping[str, AttackPlan]
    before: IntArray | None = None
    earlier: dict[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, task: LearningTask) -> Attackers:
        """Return an experiment's; none where nobody forges updates."""
        entries = () if experiment.attack is None else experiment.attack.trainers
        plans = {entry.trainer: entry.plan for entry in entries if entry.plan is not None}
        return cls(task, experiment.task.seed, plans)

    def updates(
        self, terms: RoundTerms, model: bytes, trainers: Sequence[Trainer]
    ) -> dict[bytes, tuple[IntArray, int]]:
        """Return every trainer's update of a round, forged where it attacks; nothing where nobody forges any.

        Who has the same plan attacks together. Row counts stay as they are, and no entry leaves the lanes' range.
        """
        if not self.plans or terms.round == 0:
            return {}
        found = {t.rows.name: self.task.update(terms.round, model, t.rows, terms.beacon) for t in trainers}
        parameters = self.task.decode_state(model).parameters
        moved = np.zeros(len(parameters)) if self.before is None else (self.before - parameters).astype(np.float64)
        honest = np.stack([update[:-1] for name, update in found.items() if name not in self.plans]).astype(np.float64)
        for number, plan in enumerate(dict.fromkeys(self.plans.values())):
            names = [name for name in found if self.plans.get(name) == plan]
            if names and plan.is_on(terms.round):
                generator = np.random.default_rng((self.seed, _UPDATES, terms.round, number))
                self._forge(plan, names, found, honest, moved, generator)
        self.before = parameters
        return {trainer.account.address: (found[trainer.rows.name], 0) for trainer in trainers}

    def _forge(
        self,
        plan: AttackPlan,
        names: Sequence[str],
        found: dict[str, IntArray],
        honest: Floats,
        moved: Floats,
        generator: np.random.Generator,
    ) -> None:
        """Put into `found` what the attackers of one plan send."""
        own = np.stack([found[name][:-1] for name in names]).astype(np.float64)
        for name, update in zip(names, own, strict=True):
            self.earlier.setdefault(name, update)
        earlier = np.stack([self.earlier[name] for name in names])
        sent = forge(plan, AttackView(honest, own, None, moved, earlier, None), generator)
        bound = float(self.task.update_bound)
        for name, update in zip(names, np.rint(np.clip(sent, -bound, bound)), strict=True):
            found[name] = np.append(update.astype(np.int64), found[name][-1])
