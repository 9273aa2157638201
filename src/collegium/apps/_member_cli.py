"""The commands of `collegium member`: found a consortium from cards, every key made on its member's own machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from collegium.apps._exit import UsageError, exit_codes, print_facts

if TYPE_CHECKING:
    from collegium.node import Address, ConfirmCard, DealCard, EnterCard, JoinCard, LaterCard, Roster

__all__ = ["register"]

CARDS_MAX: Final = 8192

ExperimentArgument = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The experiment that all agreed on.")]
HomeOption = Annotated[Path, typer.Option("--home", metavar="DIR", help="This member's own folder: secret.")]
CardOption = Annotated[Path, typer.Option("--card", metavar="FILE", help="The card to write, for everybody.")]
SiteOption = Annotated[str | None, typer.Option("--site", help="Only the table's rows of this site.")]
CardsOption = Annotated[Path, typer.Option("--cards", metavar="DIR", help="Folder of everybody's cards.")]
RosterOption = Annotated[Path, typer.Option("--roster", metavar="FILE", help="The roster.")]

member = typer.Typer(
    help="Found a consortium from cards: no machine knows another member's key.\n\n"
    "\b\nExample:\n  collegium member join-validator heart.toml --home mine --listen 10.0.0.1:7000 "
    "--gateway 10.0.0.1:7001 --card cards/one.json",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(member, name="member")


@member.command("join-validator")
def join_validator(
    config: ExperimentArgument,
    home: HomeOption,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where other validators reach it.")],
    gateway: Annotated[str, typer.Option("--gateway", metavar="HOST:PORT", help="Where everybody else reaches it.")],
    card: CardOption,
) -> None:
    """Make a validator's keys and its card.

    \b
    Example:
      collegium member join-validator heart.toml --home mine --listen 10.0.0.1:7000 --gateway 10.0.0.1:7001 \\
        --card cards/one.json
    """
    with exit_codes():
        from collegium.node import join_validator as join
        from collegium.node import load_experiment

        addresses = (_address("--listen", listen), _address("--gateway", gateway))
        _write_card(card, join(load_experiment(config), home, *addresses))


@member.command("join-trainer")
def join_trainer(
    config: ExperimentArgument,
    home: HomeOption,
    name: Annotated[str, typer.Option("--name", metavar="SITE/N", help="What everybody calls it, such as north/0.")],
    rows: Annotated[Path, typer.Option("--rows", metavar="FILE", help="Its own table; it never leaves this machine.")],
    card: CardOption,
    site: SiteOption = None,
) -> None:
    """Make a trainer's key, copy its rows into its folder, and make its card.

    \b
    Example:
      collegium member join-trainer heart.toml --home mine --name north/0 --rows north.csv --card cards/two.json
    """
    with exit_codes():
        from collegium.node import join_trainer as join
        from collegium.node import load_experiment, own_rows

        experiment = load_experiment(config)
        _write_card(card, join(experiment, home, name, own_rows(experiment, rows, site)))


@member.command("join-steward")
def join_steward(
    config: ExperimentArgument,
    home: HomeOption,
    rows: Annotated[Path, typer.Option("--rows", metavar="FILE", help="Its hidden table, which no trainer has.")],
    card: CardOption,
    site: SiteOption = None,
) -> None:
    """Make a steward's keys, copy its hidden rows into its folder, and make its card, which binds it to them.

    \b
    Example:
      collegium member join-steward heart.toml --home mine --rows hidden.csv --card cards/four.json
    """
    with exit_codes():
        from collegium.node import join_steward as join
        from collegium.node import load_experiment, own_rows

        experiment = load_experiment(config)
        _write_card(card, join(experiment, home, own_rows(experiment, rows, site)))


@member.command("join-operator")
def join_operator(
    config: ExperimentArgument,
    home: HomeOption,
    rows: Annotated[Path, typer.Option("--rows", metavar="FILE", help="The evaluator's test rows.")],
    card: CardOption,
    site: SiteOption = None,
) -> None:
    """Make the key of who runs evaluator and relayer, copy the test rows, and make its card.

    \b
    Example:
      collegium member join-operator heart.toml --home mine --rows test.csv --card cards/three.json
    """
    with exit_codes():
        from collegium.node import join_operator as join
        from collegium.node import load_experiment, own_rows

        experiment = load_experiment(config)
        _write_card(card, join(experiment, home, own_rows(experiment, rows, site)))


@member.command("assemble")
def assemble(
    config: ExperimentArgument,
    cards: CardsOption,
    authority: Annotated[
        Path, typer.Option("--authority", metavar="DIR", help="Folder for the certificate authority, new: secret.")
    ],
    roster: RosterOption,
) -> None:
    """Check every join card, certify every member's key, and write the roster; anybody may do it, one does.

    \b
    Example:
      collegium member assemble heart.toml --cards cards --authority authority --roster roster.json
    """
    with exit_codes():
        from collegium.node import (
            OperatorCard,
            StewardCard,
            TrainerCard,
            ValidatorCard,
            assemble_roster,
            load_experiment,
        )

        _check_new(roster)
        joins: list[JoinCard] = [
            found
            for found in _read_cards(cards)
            if isinstance(found, ValidatorCard | TrainerCard | StewardCard | OperatorCard)
        ]
        made = assemble_roster(load_experiment(config), joins, authority, datetime.now(UTC))
        roster.write_bytes(made.encode())
        typer.echo(
            f"{len(made.validators)} validators and {len(made.trainers)} trainers; every member compares this digest "
            "with every other, over another line:"
        )
        print_facts([("roster", made.digest.hex())])


@member.command("deal")
def deal(config: ExperimentArgument, home: HomeOption, roster: RosterOption, card: CardOption) -> None:
    """Check the roster, deal this validator's part of the beacon's key, and make the card.

    \b
    Example:
      collegium member deal heart.toml --home mine --roster roster.json --card cards/one-deals.json
    """
    with exit_codes():
        from collegium.node import deal_in

        read = _read_roster(config, roster)
        _check_new(card)
        _write_card(card, deal_in(home, read))
        print_facts([("roster", read.digest.hex())])


@member.command("confirm")
def confirm(
    config: ExperimentArgument, home: HomeOption, roster: RosterOption, cards: CardsOption, card: CardOption
) -> None:
    """Check what everybody dealt to this validator, keep its share, and make the card.

    \b
    Example:
      collegium member confirm heart.toml --home mine --roster roster.json --cards cards --card cards/one-confirms.json
    """
    with exit_codes():
        from collegium.node import confirm_in

        read, (deals, _, _) = _read_roster(config, roster), _dealt(cards)
        _check_new(card)
        _write_card(card, confirm_in(home, read, deals))


@member.command("enter")
def enter(config: ExperimentArgument, home: HomeOption, roster: RosterOption, card: CardOption) -> None:
    """Sign what enters this trainer into registries, where the experiment wants it there, and make the card.

    \b
    Example:
      collegium member enter heart.toml --home mine --roster roster.json --card cards/two-enters.json
    """
    with exit_codes():
        from collegium.node import enter_in

        read = _read_roster(config, roster)
        _check_new(card)
        _write_card(card, enter_in(home, read))
        print_facts([("roster", read.digest.hex())])


@member.command("settle")
def settle(config: ExperimentArgument, home: HomeOption, roster: RosterOption, cards: CardsOption) -> None:
    """Check every card, make the genesis, and write what this member's processes start with.

    The operator founds the contracts; on a node the account of the key in COLLEGIUM_CHAIN_KEY pays.

    \b
    Example:
      collegium member settle heart.toml --home mine --roster roster.json --cards cards
    """
    with exit_codes():
        from collegium.node import load_experiment, settle_in

        read, (deals, confirms, enters) = _read_roster(config, roster), _dealt(cards)
        genesis, configs = settle_in(home, read, deals, confirms, load_experiment(config), enters)
        print_facts([("anchor", genesis.anchor.hex()), *(("settings", str(path)) for path in configs)])


@member.command("check")
def check(
    home: HomeOption,
    chain: Annotated[Path, typer.Option("--chain", metavar="FILE", help="The operator's relayer/chain.json.")],
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the home's.")
    ] = None,
) -> None:
    """Look whether the operator founded what was agreed, before this member works: every transaction, and the budget.

    The file is the one that `settle` wrote in the operator's folder, before the relayer began; it holds no secret.

    \b
    Example:
      collegium member check --home mine --chain shared/chain.json
    """
    with exit_codes():
        from collegium.node import look_at_founding

        for place, found in enumerate(look_at_founding(home, chain, url)):
            where = "embedded, from the record alone" if found.url is None else f"all in blocks of {found.url}"
            paid = "" if found.budget is None else f"; {found.budget} wei to pay for rounds"
            said = f"{found.transactions} transactions, {where}; Settlement at 0x{found.settlement.hex()}{paid}"
            print_facts([("home" if place == 0 else f"chain {place}", said)])


def _read_cards(folder: Path) -> list[JoinCard | LaterCard]:
    """Return every card of a folder, in the order of the files' names."""
    from collegium.node import CARD_BYTES_MAX, decode_card

    paths = sorted(folder.glob("*.json"))
    if not 1 <= len(paths) <= CARDS_MAX:
        raise UsageError(f"--cards {folder} holds {len(paths)} files *.json, expected 1 to {CARDS_MAX} cards")
    cards = []
    for path in paths:
        with path.open("rb") as file:
            cards.append(decode_card(file.read(CARD_BYTES_MAX + 1), path.name))
    return cards


def _dealt(folder: Path) -> tuple[Sequence[DealCard], Sequence[ConfirmCard], Sequence[EnterCard]]:
    """Return the dealings, the confirmations and the entries among a folder's cards."""
    from collegium.node import ConfirmCard, DealCard, EnterCard

    cards = _read_cards(folder)
    deals = [card for card in cards if isinstance(card, DealCard)]
    confirms = [card for card in cards if isinstance(card, ConfirmCard)]
    return deals, confirms, [card for card in cards if isinstance(card, EnterCard)]


def _read_roster(config: Path, path: Path) -> Roster:
    """Return the roster in a file, every card checked; it must be of this member's experiment."""
    from collegium.node import ROSTER_BYTES_MAX, decode_roster, experiment_to_bytes, load_experiment

    try:
        with path.open("rb") as file:
            data = file.read(ROSTER_BYTES_MAX + 2)  # with a line's end; more is refused
    except OSError as error:
        raise UsageError(f"--roster {path}: {error.strerror}, expected what assemble wrote", path=path) from error
    roster = decode_roster(data)
    if roster.experiment != experiment_to_bytes(load_experiment(config)):
        raise UsageError(f"--roster {path} is of another experiment than {config}", path=path)
    return roster


def _address(option: str, text: str) -> Address:
    from collegium.node import address_problem, parse_address

    problem = address_problem(text)
    if problem is not None:
        raise UsageError(f"{option} {problem}")
    return parse_address(text)


def _check_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists, expected no file", path=path)


def _write_card(path: Path, card: JoinCard | LaterCard) -> None:
    from collegium.node import card_name, encode_card

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(encode_card(card))
    print_facts([("card", f"{path}: {card_name(card)}")])
