"""Which of a simulated run's trainers attack, and how: the section `[attack]` of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from collegium.learning import ATTACKS, ROW_ATTACKS, AttackKind, AttackPlan, RowAttackKind

from ._sections import ROUNDS_MAX, TERM_MAX, Problem, Section, as_quotient, shown

__all__ = ["UPDATE_ATTACKS", "AttackSettings", "TrainerAttack", "attack_settings", "attack_to_mapping"]

TRAINERS_MAX: Final = 1 << 16
NAME_LENGTH_MAX: Final = 320  # a site's and a place at it
STRENGTH_MAX: Final = 1_000

# A backdoor's trigger is a pattern in pixels, which a table has none of; a flip of labels is made in the rows.
UPDATE_ATTACKS: Final[tuple[AttackKind, ...]] = tuple(
    kind for kind in ATTACKS if kind not in ("backdoor", "label_flip")
)


@dataclass(frozen=True, slots=True)
class TrainerAttack:
    """One trainer that attacks.

    Attributes:
        trainer: its name, as the genesis has it.
        kind: an attack on its own rows (`ROW_ATTACKS`), made once before anything is registered, or one on its updates
            (`UPDATE_ATTACKS`).
        from_round, period, active: in which rounds its updates attack: from that round on, and with a period in the
            first `active` of so many rounds.
        strength: where the attack has a scale; None for its own.
    """

    trainer: str
    kind: RowAttackKind | AttackKind
    from_round: int = 1
    period: int = 0
    active: int = 0
    strength: Fraction | None = None

    @property
    def row_kind(self) -> RowAttackKind | None:
        """The attack on rows; None where updates are attacked."""
        return next((kind for kind in ROW_ATTACKS if kind == self.kind), None)

    @property
    def plan(self) -> AttackPlan | None:
        """The attack on updates; None where rows are spoiled. Who makes the same plan attacks together."""
        kind = next((kind for kind in UPDATE_ATTACKS if kind == self.kind), None)
        if kind is None:
            return None
        strength = None if self.strength is None else float(self.strength)
        return AttackPlan(kind, from_round=self.from_round, period=self.period, active=self.active, strength=strength)


@dataclass(frozen=True, slots=True)
class AttackSettings:
    """The trainers that attack, by name."""

    trainers: tuple[TrainerAttack, ...]


def attack_settings(section: Section) -> AttackSettings:
    """Return what the section says; its list `trainers` has one table for each attacker."""
    expected = "a list of tables with name and kind, each written under [[attack.trainers]]"
    found: list[TrainerAttack] = []
    for index, table in enumerate(section.tables("trainers", TRAINERS_MAX, expected)):
        problems: list[Problem] = []
        found.append(_attacker(Section(f"{section.name}.trainers[{index}]", table, problems)))
        section.pass_on(problems)
    names = [entry.trainer for entry in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        if section.ok:
            section.note("trainers", "conflict", f"names {shown(name)} more than once, expected one attack of each")
    section.close()
    return AttackSettings(tuple(sorted(found, key=lambda entry: entry.trainer)))


def attack_to_mapping(settings: AttackSettings) -> dict[str, object]:
    """Return the settings as plain values, without those of an attacker that are as when nothing is said."""
    return {"trainers": [_to_mapping(entry) for entry in settings.trainers]}


def _to_mapping(entry: TrainerAttack) -> Mapping[str, object]:
    mapping: dict[str, object] = {"name": entry.trainer, "kind": entry.kind}
    if entry.from_round != 1:
        mapping["from_round"] = entry.from_round
    if entry.period:
        mapping |= {"period": entry.period, "active": entry.active}
    if entry.strength is not None:
        mapping["strength"] = as_quotient(entry.strength)
    return mapping


def _attacker(section: Section) -> TrainerAttack:
    name = section.text("name", NAME_LENGTH_MAX)
    given = section.choice("kind", (*ROW_ATTACKS, *UPDATE_ATTACKS))
    kind = next((kind for kind in (*ROW_ATTACKS, *UPDATE_ATTACKS) if kind == given), ROW_ATTACKS[0])
    from_round = section.integer("from_round", 1, ROUNDS_MAX, default=1)
    period = section.integer("period", 0, ROUNDS_MAX, default=0)
    active = section.integer("active", 0, ROUNDS_MAX, default=0)
    strength = None
    if section.has("strength"):
        strength = section.fraction("strength", Fraction(0), Fraction(STRENGTH_MAX), TERM_MAX)
    if section.ok and kind in ROW_ATTACKS:
        for key in ("from_round", "period", "active", "strength"):
            if section.has(key):
                section.note(
                    key, "conflict", f"is given, but {kind} spoils rows, once and before round 0; leave it out"
                )
    elif section.ok and not (1 <= active <= period or active == period == 0):
        section.note("active", "range", f"is {active} of a period of {period}, expected 1 to the period")
    section.close()
    return TrainerAttack(name, kind, from_round, period, active, strength)
