"""A small consortium founded from cards: every member has a folder of its own, and shares nothing but cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from _run_stage import CLINICS

from collegium.node import (
    ConfirmCard,
    Consortium,
    DealCard,
    EnterCard,
    Experiment,
    JoinCard,
    Member,
    Roster,
    assemble_roster,
    confirm_in,
    deal_in,
    enter_in,
    join_operator,
    join_trainer,
    join_validator,
    own_rows,
    settle_in,
)
from collegium.node._consortium import free_ports
from collegium.node._founding import place_of
from collegium.node._membership import _own_keys

VALIDATORS = 4


@dataclass
class CardsFounding:
    """What members of a consortium have shown each other, and the folder that holds each one's own."""

    experiment: Experiment
    folder: Path
    roster: Roster
    deals: Sequence[DealCard]
    confirms: Sequence[ConfirmCard]
    enters: Sequence[EnterCard]

    @property
    def trainers(self) -> list[Path]:
        return [self.folder / f"trainer-{clinic}" for clinic in CLINICS]

    @property
    def operator(self) -> Path:
        return self.folder / "operator"

    def settle(self) -> Consortium:
        """Have every member settle; return all of them as a network on this machine."""
        members = list[Member]()
        validators = [self.folder / f"validator-{number}" for number in range(VALIDATORS)]
        order = sorted(validators, key=lambda home: place_of(self.roster, _own_keys(home)[0].address))
        for index, home in enumerate(order):
            members.append(Member("validator", f"validator {index}", self.settled(home)[0]))
        for clinic, home in zip(CLINICS, self.trainers, strict=True):
            members.append(Member("trainer", f"trainer {clinic}/0", self.settled(home)[0]))
        roles = ("evaluator", "relayer")
        members += [Member(role, role, config) for role, config in zip(roles, self.settled(self.operator), strict=True)]
        genesis, _ = settle_in(self.trainers[0], self.roster, self.deals, self.confirms)
        return Consortium(self.folder, genesis, tuple(members))

    def settled(self, home: Path) -> list[str]:
        """Have one member settle; return where its settings are."""
        cards = (self.roster, self.deals, self.confirms, self.experiment, self.enters)
        return [path.relative_to(self.folder).as_posix() for path in settle_in(home, *cards)[1]]


def found_from_cards(experiment: Experiment, folder: Path) -> CardsFounding:
    """Take all members through every step but the last."""
    folder.mkdir()
    ports = free_ports("127.0.0.1", 2 * VALIDATORS)
    homes = [folder / f"validator-{number}" for number in range(VALIDATORS)]
    joins: list[JoinCard] = [
        join_validator(experiment, home, ("127.0.0.1", ports[2 * number]), ("127.0.0.1", ports[2 * number + 1]))
        for number, home in enumerate(homes)
    ]
    table = experiment.data_path
    for clinic in CLINICS:
        rows = own_rows(experiment, table, clinic)
        joins.append(join_trainer(experiment, folder / f"trainer-{clinic}", f"{clinic}/0", rows))
    joins.append(join_operator(experiment, folder / "operator", own_rows(experiment, table)))
    roster = assemble_roster(experiment, joins, folder / "authority", datetime.now(UTC))
    deals = [deal_in(home, roster) for home in homes]
    confirms = [confirm_in(home, roster, deals) for home in homes]
    entering = [card for card in roster.trainers if roster.entering(card)]
    enters = [enter_in(folder / f"trainer-{card.name[0]}", roster) for card in entering]
    return CardsFounding(experiment, folder, roster, deals, confirms, enters)
